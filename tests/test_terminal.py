"""What `minglm show` and `minglm fill` print: the table of one sample, and marked blanks."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minglm.viz.derivation as derivation_module
from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens, build_example
from minglm.mask import GLMMask
from minglm.spans import Span
from minglm.viz import derivation_of, explain, highlight, render, show
from minglm.viz.terminal import charset_of, display_width, parse_order, parse_spans, split, wants_colour

DATA = Path(__file__).parent / "data"
WORDS = st.text("abcdefgh春眠😀é", min_size=1, max_size=9)
AWKWARD = [
    "春眠",
    "不",
    "😀",
    "👨\u200d👩\u200d👧",
    "❤\ufe0f",
    "e\u0301",
    "한",
    "ㅏ",
    "w",
    "widewidewide",
    "\x1b[31m",
    "a b",
    "שלום",
]
PAPER = ("x1 x2 x3 x4 x5 x6", "2:3,4:6", "2,1")


def golden(name):
    return (DATA / name).read_text(encoding="utf-8")


@st.composite
def samples(draw, words=None):
    """(tokens, spans, order): any text with any spans in any order, also touching ones, also none."""
    tokens = draw(st.lists(WORDS if words is None else words, min_size=1, max_size=9))
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=6)))
    spans = [Span(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if draw(st.booleans())]
    return tokens, spans, draw(st.permutations(range(len(spans))))


def parse(text, part_a_len):
    """The ascii table back into (T, T) bool. It opens with four lines; a line of dashes follows Part A."""
    lines = text.split("\n")
    T = len(lines[1].split()) - 1  # "position 0 1 2 ..."
    rows = lines[4:]
    if part_a_len < T:
        assert set(rows.pop(part_a_len)) == {"-"}
    return np.array([[sign != "." for sign in row.split()[-T:]] for row in rows[:T]])


# ---- the table -------------------------------------------------------------------------------------------------------------


def test_the_papers_example_prints_as_in_the_books():
    assert show(*PAPER) + "\n" == golden("show_paper_unicode.txt")


def test_the_papers_example_in_ascii():
    assert show(*PAPER, charset="ascii") + "\n" == golden("show_paper_ascii.txt")


def test_chinese_prints_one_character_a_token():
    assert show("春眠不觉晓，处处闻啼鸟", "1:2,3:5", "2,1") + "\n" == golden("show_chinese.txt")


def test_a_table_too_wide_keeps_every_row_and_one_glyph_a_cell():
    text = show("The international conference on learning begins today", "1:3,5:6", width=40)
    assert text + "\n" == golden("show_narrow.txt")


@given(samples(), st.sampled_from(["token", "sentence", "document"]))
@settings(max_examples=60, deadline=None)
def test_the_ascii_table_reads_back_as_the_mask(sample, objective):
    example = explain(*sample, objective)
    T, A = len(example), example.part_a_len
    assert (parse(render(example, charset="ascii"), A) == GLMMask.packed([T], [A]).dense().numpy()).all()


@given(samples(), st.integers(1, 90), st.sampled_from(["unicode", "ascii"]))
@settings(max_examples=100, deadline=None)
def test_no_line_is_wider_than_the_terminal(sample, width, charset):
    example = explain(*sample)
    text = render(example, width=width, charset=charset)
    assert max(map(display_width, text.split("\n"))) <= width
    if charset == "ascii":
        assert text.isascii()
    table = text.split("\n\n")[0]
    if width >= 16 + 2 + len(example):  # three letters of a token, positions, target; then a glyph a cell
        assert "not fit" not in table
        if charset == "unicode":
            assert len(re.findall("[█▓▒◆●·]", table)) == len(example) ** 2


@given(samples(st.sampled_from(AWKWARD)))
@settings(max_examples=60, deadline=None)
def test_wide_and_combining_letters_keep_the_columns(sample):
    example = explain(*sample)
    table = render(example).split("\n\n")[0].split("\n")
    dashes = {i for i, line in enumerate(table) if set(line) == {"-"}}
    assert len({display_width(line) for i, line in enumerate(table) if i not in dashes}) == 1
    # and so does every column: its glyphs stand at one place
    places = [[display_width(row[: m.start()]) for m in re.finditer("[█▓▒◆●·]", row)] for row in table[4:] if set(row) != {"-"}]
    assert len(places) == len(example) and all(place == places[0] for place in places)


def test_display_width_of_letters_that_are_not_one_column():
    for text in ("春", "한", "\u1112\u1161\u11ab", "😀", "❤\ufe0f", "👨\u200d👩\u200d👧", "🇨🇭", "ab"):
        assert display_width(text) == 2, text
    assert display_width("e\u0301") == 1 and display_width("") == 0


def test_control_codes_in_a_token_stay_text():
    text = show("a \x1b[31mred b", "0:1")
    assert "\x1b" not in text and r"\x1b[31mred" in text


def test_legend_explains_only_the_signs_that_occur():
    one_span = show("x1 x2 x3", "1:2")
    assert "▒" not in one_span and "◆  ... and the earlier tokens" in one_span
    no_span = render(explain(["x1", "x2"], [], []))
    assert "▓" not in no_span and "hidden" not in no_span and "[S]" not in no_span
    assert one_span.endswith("Positions count from 0; the paper counts from 1.")


def test_a_shortened_token_is_announced():
    text = show("a representation of words", "2:3", width=50)
    assert "representat…" in text and "… stands for the rest of a long token." in text
    assert "stands for" not in show("a representation of words", "2:3")


def test_a_text_too_long_for_the_window_is_listed_without_its_mask_and_says_so():
    text = show(" ".join("abcdefgh" * 12), "2:3", width=60)
    table = " ".join(text.split("\n\n")[0].split())
    assert "The mask of 98 rows does not fit in 60 columns" in table
    assert "█" not in text and "95 0" in table and "[S] 2 1 c" in table


def test_each_objective_shows_its_mask_token():
    for objective, name in {"token": "[M]", "sentence": "[sM]", "document": "[gM]"}.items():
        assert explain(["a", "b"], [(1, 2)], [0], objective).tokens[1] == name
        assert name in show("a b c", "1:2", objective=objective, width=30)


def test_a_document_span_ends_only_where_the_document_does():
    assert explain(["a", "b"], [(1, 2)], [0], "document").targets == ("", "", "b")
    assert "no [E]" in show("a b", "1:2", objective="document")
    ended = explain(["a", "b", "[EOS]"], [(1, 3)], [0], "document")
    assert ended.targets == ("", "", "b", "[EOS]", "[E]")
    assert "no [E]" not in render(ended)


def test_colour_adds_codes_and_changes_no_letter():
    plain, coloured = (show(*PAPER, colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert coloured.count("\x1b[38;5;") == 10 * 10 + 6  # cells and legend


# ---- the derivation --------------------------------------------------------------------------------------------------------


@given(samples())
@settings(max_examples=60, deadline=None)
def test_kinds_agree_with_the_mask(sample):
    d = explain(*sample)
    B = [part == "B" for part in d.part]
    assert sum(B) == len(d) - d.part_a_len
    for i in range(len(d)):
        for j in range(len(d)):
            same_span = d.position_ids[i] == d.position_ids[j]
            expected = {
                "AA": not B[i] and not B[j],
                "BA": B[i] and not B[j],
                "BE": B[i] and B[j] and j < i and not same_span,
                "BS": B[i] and B[j] and j < i and same_span,
                "self": B[i] and i == j,
                "AB": not B[i] and B[j],
                "BF": B[i] and j > i,
            }
            assert [kind for kind, holds in expected.items() if holds] == [d.kind[i, j]]
            assert d.mask[i, j] == (d.kind[i, j] not in ("AB", "BF"))


def test_a_mask_that_glm_cannot_have_is_not_drawn_as_if_it_were_right(monkeypatch):
    class Leaky(GLMMask):
        def dense(self):
            return ~super().dense()

    monkeypatch.setattr(derivation_module, "GLMMask", Leaky)
    with pytest.raises(KeyError):
        explain(["a", "b"], [(0, 1)], [0])


@given(samples())
@settings(max_examples=40, deadline=None)
def test_rows_are_those_of_the_training_example(sample):
    tokens, spans, order = sample
    ids = [8 + i for i in range(len(tokens))]
    example = build_example(ids, spans, order)
    d, same = explain(*sample), derivation_of(example, dict(zip(ids, tokens, strict=True)))
    assert d.to_json() == same.to_json()
    assert d.position_ids.tolist() == example.position_ids.tolist()
    assert d.block_position_ids.tolist() == example.block_position_ids.tolist()
    for k, span in enumerate(sorted(spans)):
        rows = [i for i in range(d.part_a_len, len(d)) if d.span_id[i] == k]
        assert [d.targets[i] for i in rows] == [*tokens[span.start : span.end], "[E]"]
        assert d.span_id[d.position_ids[rows[0]]] == k  # the mask in Part A belongs to the span too


def test_ids_are_explained_as_ids_and_special_tokens_by_name():
    special = SpecialTokens()
    d = explain([special.cls, 40, 41, special.eos], [(1, 2)], [0])
    assert d.tokens == ("[CLS]", "[M]", "41", "[EOS]", "[S]", "40")
    named = derivation_of(build_example([special.cls, 40, 41], [(1, 2)], [0]), lambda i: f"<{i}>")
    assert named.tokens == ("[CLS]", "[M]", "<41>", "[S]", "<40>")


def test_json_holds_the_table_and_drawing_does_not_change_it():
    d = explain(["x1", "x2", "x3"], [(1, 2)], [0])
    before = json.dumps(d.to_json())
    render(d), render(d, width=20, colour=True)
    assert json.dumps(d.to_json()) == before
    assert d.to_json()["version"] == 1
    assert d.to_json()["tokens"] == ["x1", "[M]", "x3", "[S]", "x2"] and d.to_json()["targets"] == ["", "", "", "x2", "[E]"]
    assert d.to_json()["kind"][4] == ["BA", "BA", "BA", "BS", "self"]


# ---- what a user types -----------------------------------------------------------------------------------------------------


def test_text_is_split_at_blanks_and_chinese_at_characters():
    assert split(" And  God said ") == ["And", "God", "said"]
    assert split("word") == ["word"]
    assert split("春眠e\u0301👨\u200d👩!") == ["春", "眠", "e\u0301", "👨\u200d👩", "!"]
    assert split("春眠 不觉") == ["春眠", "不觉"]


@pytest.mark.parametrize(
    "typed, named, accepted",
    [
        (("a b c", "1-2"), "'1-2'", "start:end"),
        (("a b c", "0:1,2"), "'2'", "start:end"),
        (("a b c", "0:1,"), "''", "start:end"),
        (("a b c", "-1:2"), "'-1:2'", "counted from 0"),
        (("a b c", ""), "''", "as in 2:3,4:6"),
        (("a b c", "1:9"), "1:9", "0:3"),
        (("a b c", "2:2"), "2:2", "start < end"),
        (("a b c", "0:2,1:3"), "1:3", "do not overlap"),
        (("a b c", "0:1,2:3", "1,1"), "'1,1'", "as in 2,1"),
        (("a b c", "0:1,2:3", "0,1"), "'0,1'", "counted from 1"),
        (("a b c", "0:1,2:3", "1"), "'1'", "each of the 2 spans"),
        (("a b c", "0:1", "x"), "'x'", "as in 1"),
        (("  ", "0:1"), "text", "at least one word"),
        (("a b c", "0:1", None, "words"), "'words'", "token, sentence, document"),
    ],
)
def test_what_cannot_be_shown_is_named_with_what_is_accepted(typed, named, accepted):
    with pytest.raises(MinglmError) as error:
        show(*typed)
    message = str(error.value)
    assert named in message and accepted in message and "\n" not in message


def test_spans_and_order_as_typed():
    assert parse_spans("2:3, 4:6") == [Span(2, 3), Span(4, 6)]
    assert parse_order("2,1", 2) == [1, 0] and parse_order(" 3, 1,2", 3) == [2, 0, 1]
    assert parse_order(None, 3) == [0, 1, 2]


def test_order_counts_spans_in_the_order_of_the_text_however_they_were_typed():
    assert show("a b c d", "2:3,0:1", "1,2") == show("a b c d", "0:1,2:3", "1,2")


# ---- what a stream can show ------------------------------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, terminal, encoding=None):
        super().__init__()
        self.terminal, self.code = terminal, encoding

    def isatty(self):
        return self.terminal

    @property
    def encoding(self):
        return self.code


@pytest.mark.parametrize(
    "environ, on_terminal, on_pipe",
    [
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colour_is_for_terminals_unless_the_user_says_otherwise(environ, on_terminal, on_pipe):
    assert wants_colour(Stream(True), environ) is on_terminal
    assert wants_colour(Stream(False), environ) is on_pipe
    assert wants_colour(object(), environ) is on_pipe


def test_glyphs_go_only_to_a_stream_that_can_write_them():
    assert {charset_of(Stream(True, encoding)) for encoding in ("utf-8", "gb18030", None)} == {"unicode"}
    assert {charset_of(Stream(True, encoding)) for encoding in ("ascii", "latin-1", "cp1252", "cp437", "nonsense")} == {"ascii"}


def test_filled_blanks_are_marked():
    pieces = [("And God saw the", False), (" light", True), (", and", False), ("", True), (".", False)]
    assert highlight(pieces) == "And God saw the ⟦light⟧, and⟦⟧."
    assert highlight(pieces, charset="ascii") == "And God saw the [light], and[]."
    assert highlight(pieces, colour=True) == "And God saw the \x1b[1;4mlight\x1b[0m, and⟦⟧."


def test_what_a_model_writes_cannot_command_the_terminal():
    assert highlight([("a\n\x1b[2J", True)]) == "⟦a\n\\x1b[2J⟧"
    assert highlight([("春", False)], charset="ascii").isascii()
