"""What `minglm show` and `minglm fill` print: the table of one sample, its other views, and marked blanks."""

import io
import json
import re

import numpy as np
import pytest
from conftest import RECORDED
from hypothesis import given, settings
from hypothesis import strategies as st

from minglm.data.samples import SampleSource, cut_windows
from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens
from minglm.mask import GLMMask
from minglm.rng import Rng
from minglm.spans import Span
from minglm.special import SENTENCE_MARKS
from minglm.train.config import DataConfig
from minglm.viz import Derivation, explain, highlight, render, show
from minglm.viz.columns import charset_of, display_width, wants_colour
from minglm.viz.derivation import why
from minglm.viz.palette import KINDS
from minglm.viz.terminal import compare, explain_cell, film
from minglm.viz.typed import draw_spans, parse_cell, parse_models, parse_order, parse_spans, read, split
from minglm.viz.words import MODELS, RULES

DATA = RECORDED
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
    rows, bar = lines[4:], lines[0].rfind("|")
    if part_a_len < T:
        dashes = rows.pop(part_a_len)
        assert set(dashes) <= {"-", "+"} and dashes.find("+") == bar
    assert all(row[bar] == "|" for row in lines[:4] + rows[:T] if 0 < part_a_len < T)
    return np.array([[sign != "." for sign in row.replace("|", " ").split()[-T:]] for row in rows[:T]])


def views(d, **how):
    """Every view of a derivation: name -> text."""
    last = len(d) - 1
    return {
        "table": render(d, **how),
        "film": film(d, **how),
        "beside": compare([d], **how),
        "cell": explain_cell(d, last, 0, **how),
        "shut cell": explain_cell(d, 0, last, **how),
    }


def uncoloured(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# ---- every view, as it was looked at once ----------------------------------------------------------------

CHINESE, BLANK = ("春眠不觉晓，处处闻啼鸟", "1:2,3:5", "2,1"), ("我爱[MASK]京", "1:2", "2,1")
POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。[EOS]"
GOLDEN = {
    "show_paper_unicode": (PAPER, dict()),
    "show_paper_ascii": (PAPER, dict(charset="ascii")),
    "show_chinese": (CHINESE, dict()),
    "show_narrow": (("The international conference on learning begins today", "1:3,5:6"), dict(width=40)),
    "show_step_unicode": (PAPER, dict(step=True, width=80)),
    "show_step_ascii": (PAPER, dict(step=True, width=40, charset="ascii")),
    "show_step_chinese": (BLANK, dict(step=True, width=60)),
    "show_compare_unicode": (PAPER, dict(models="all", width=80)),
    "show_compare_ascii": (PAPER, dict(models="bert,t5", width=60, charset="ascii")),
    "show_compare_chinese": (BLANK, dict(models="gpt,prefix,unilm", width=80)),
    "show_explain_unicode": (PAPER, dict(cell="9,6", width=80)),
    "show_explain_ascii": (PAPER, dict(cell="5,8", width=40, charset="ascii")),
    "show_explain_chinese": (BLANK, dict(cell="6,2", width=60)),
    "show_drawn_chinese": ((POEM,), dict(objective="sentence", seed=1)),
    "show_drawn_ascii": (("And God said, Let there be light",), dict(objective="sentence", charset="ascii")),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_show_prints_is_what_was_looked_at(name):
    typed, how = GOLDEN[name]
    text = show(*typed, **how)
    assert text + "\n" == golden(f"{name}.txt")
    assert how.get("charset") != "ascii" or text.isascii()


@pytest.mark.parametrize("model", MODELS)
def test_a_derivation_that_went_through_json_looks_the_same(model):
    d = explain(["x1", "e\u0301", "春", "👨\u200d👩\u200d👧", "x5"], [(1, 2), (3, 5)], [1, 0], model=model)
    again = Derivation.from_json(json.loads(json.dumps(d.to_json())))
    for how in (dict(), dict(width=30), dict(charset="ascii", width=70), dict(colour=True)):
        assert views(again, **how) == views(d, **how)


@given(
    samples(st.sampled_from(AWKWARD) | WORDS),
    st.sampled_from([*MODELS]),
    st.integers(1, 90),
    st.sampled_from(["unicode", "ascii"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_no_view_is_wider_than_the_terminal(sample, model, width, charset, colour):
    d = explain(*sample, model=model)
    for name, text in views(d, width=width, charset=charset, colour=colour).items():
        lines = uncoloured(text).split("\n")
        assert max(map(display_width, lines)) <= width, name
        assert all("\x1b" not in line for line in lines)
        assert charset != "ascii" or text.isascii()
        assert not any(line != line.rstrip() for line in lines), name


# ---- the table -------------------------------------------------------------------------------------------


@given(samples(), st.sampled_from(["token", "sentence", "document"]))
@settings(max_examples=60)
def test_the_ascii_table_reads_back_as_the_mask(sample, objective):
    example = explain(*sample, objective)
    T, A = len(example), example.part_a_len
    assert (parse(render(example, charset="ascii"), A) == GLMMask.packed([T], [A]).dense().numpy()).all()


@given(samples(), st.integers(1, 90), st.sampled_from(["unicode", "ascii"]))
@settings(max_examples=100)
def test_no_line_is_wider_than_the_terminal(sample, width, charset):
    example = explain(*sample)
    text = render(example, width=width, charset=charset)
    assert max(map(display_width, text.split("\n"))) <= width
    if charset == "ascii":
        assert text.isascii()
    table = text.split("\n\n")[0]
    if width >= 16 + 2 + len(example):  # three letters of a token, positions, target; then one glyph per cell
        assert "not fit" not in table
        if charset == "unicode":
            assert len(re.findall("[█▓▒◆●·]", table)) == len(example) ** 2


@given(samples(st.sampled_from(AWKWARD)))
@settings(max_examples=60)
def test_wide_and_combining_letters_keep_the_columns(sample):
    example = explain(*sample)
    table = render(example).split("\n\n")[0].split("\n")
    dashes = {i for i, line in enumerate(table) if set(line) <= {"-", "+"}}
    assert len({display_width(line) for i, line in enumerate(table) if i not in dashes}) == 1
    # and so does every column: its glyphs stand at one place
    places = [
        [display_width(row[: m.start()]) for m in re.finditer("[█▓▒◆●·]", row)]
        for row in table[4:]
        if not set(row) <= {"-", "+"}
    ]
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
    assert coloured.count("\x1b[38;5;") == 10 * 10 + 6 + 2 * 7  # cells, legend, and tokens of spans


# ---- what a user types -----------------------------------------------------------------------------------


def test_text_is_split_at_blanks_and_chinese_at_characters():
    assert split(" And  God said ") == ["And", "God", "said"]
    assert split("word") == ["word"]
    assert split("春眠e\u0301👨\u200d👩!") == ["春", "眠", "e\u0301", "👨\u200d👩", "!"]
    assert split("春眠 不觉") == ["春眠", "不觉"]


def test_a_special_token_in_chinese_text_stays_whole():
    assert split("我爱[MASK]京") == ["我", "爱", "[MASK]", "京"]
    assert split("[sMASK]我[gMASK]<|endoftext|>") == ["[sMASK]", "我", "[gMASK]", "<|endoftext|>"]
    assert split("我[1]爱[MASK") == ["我", "[", "1", "]", "爱", "[", "M", "A", "S", "K"]
    assert split("我\u200d[MASK]\u0301") == [
        "我\u200d",
        "[MASK]\u0301",
    ]  # the order of the rule's three cases
    assert split("a[MASK]b") == ["a[MASK]b"] and split("我 爱[MASK]京") == [
        "我",
        "爱[MASK]京",
    ]  # blanks, or none needed


@given(
    st.lists(
        st.sampled_from(["[MASK]", "[EOS]", "我", "e\u0301", "x", "[", "👨\u200d👩"]), min_size=1, max_size=9
    )
)
def test_nothing_of_a_text_is_lost_when_it_is_split(pieces):
    text = "".join(["京", *pieces])
    assert "".join(split(text)) == text
    assert split(text)[1:] == pieces or "[" in pieces


def test_a_mask_in_the_text_is_a_blank_without_an_answer_and_the_legend_says_so():
    text = show("我爱[MASK]京", "1:2")
    assert "[MASK] in the text: a blank without an answer, shown as ?." in text
    d = read("我爱[MASK]京", "1:2", "2,1").explain()
    assert d.tokens == ("我", "[M]", "[M]", "京", "[S]", "[S]", "爱")
    assert d.targets == ("", "", "", "", "?", "爱", "[E]") and d.text[2] == "[MASK]"
    assert "has no [E]" not in text and "was in the text" not in show("a b", "0:1")


def test_every_kind_of_typed_blank_keeps_its_name_and_draws_no_other_span():
    sample = read("a [sMASK] b [gMASK]")
    assert (sample.spans, sample.drawn) == ([(1, 2), (3, 4)], "")
    assert sample.explain().tokens == ("a", "[sM]", "b", "[gM]", "[S]", "[S]")
    assert sample.explain("bert").targets == ("", "?", "", "?")
    assert sample.explain("gpt").tokens == ("a", "?", "b", "?")
    assert "[M]" in show("[M] a", "1:2") and "is a word like any other" in show("[M] a", "1:2")


@pytest.mark.parametrize(
    ("text", "spans", "blanked"),
    [
        ("a b c d", "1:3", "a [MASK] d"),
        ("a [gMASK] c", "2:3", "a [gMASK] [MASK]"),
        ("我爱北京", "2:4", "我爱[MASK]"),
    ],
)
def test_the_text_of_a_sample_can_be_given_to_a_model(text, spans, blanked):
    assert read(text, spans).with_blanks() == blanked


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
        (("a b c", None, None, "words"), "'words'", "token, sentence, document"),
        (("a b c", None, "2,1"), "'2,1'", "as in 1"),
        (("[EOS]",), "tokens", "at least one text token"),
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


# ---- spans that are drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["token", "sentence", "document"])
@pytest.mark.parametrize("ends", [True, False])
def test_spans_are_drawn_as_training_draws_them(objective, ends, monkeypatch):
    """SampleSource on a document without cls, and the same seed: the same spans, order and objective."""
    special = SpecialTokens()
    monkeypatch.setattr(
        SampleSource, "text", lambda self, w, epoch: np.array([*self.ids, *[special.eos] * ends])
    )
    monkeypatch.setattr("minglm.families.sample_spans", without_cls)
    words = ["And", "God.", "said", "光。", "was", "good", "so!", "it", "is", "一"]
    ids = np.arange(len(words)) + 10
    windows = cut_windows([0, len(words) + 1], 99)
    windows.ends[:] = ends
    is_end = np.array([False] * 10 + [any(mark in word for mark in SENTENCE_MARKS) for word in words])
    source = SampleSource(ids, windows, DataConfig(mask_ratio=0.4, mean_span_length=2.0), is_end)
    for seed in range(40):
        spans, order, became = draw_spans(
            [*words, *["[EOS]"] * ends], objective, seed, mask_ratio=0.4, mean_length=2.0
        )
        example = source.example(0, objective, Rng(seed))
        d = explain([*words, *["[EOS]"] * ends], spans, order, became)
        assert (example.objective, example.part_a_len) == (became, d.part_a_len)
        assert example.position_ids.tolist() == d.position_ids.tolist()
        assert example.block_position_ids.tolist() == d.block_position_ids.tolist()
        assert [words[i - 10] if i >= 10 else None for i in example.tokens] == [
            t if t in words else None for t in d.tokens
        ]


def without_cls(tokens, objective, rng, **how):
    from minglm.spans import sample_spans

    return sample_spans(tokens, objective, rng, **how, has_cls=False)


def test_what_was_drawn_can_be_typed_and_gives_the_same_table():
    for objective in ("token", "sentence", "document"):
        text = show(POEM, objective=objective, seed=3)
        drawn, table = text.split("\n\n", 1)
        spans, order = re.fullmatch(r"spans ([0-9:,]+) order ([0-9,]+) drawn with seed 3", drawn).groups()
        assert show(POEM, spans, order, objective) == table


def test_a_seed_is_a_choice_and_the_default_is_0():
    text = " ".join(f"w{i}" for i in range(60))
    assert show(text) == show(text, seed=0)
    assert len({show(text, seed=seed) for seed in range(8)}) == 8
    assert read(text, seed=-1).spans and read(text, seed=2**70).spans


def test_an_order_may_be_given_for_spans_that_are_drawn():
    text = " ".join(f"w{i}" for i in range(40))
    n = len(read(text).spans)
    assert n > 1
    order = ",".join(str(k) for k in range(n, 0, -1))
    shown = show(text, order=order).split("\n\n")[0]
    assert re.fullmatch(r"spans [0-9:,]+ drawn with seed 0", shown)
    assert (
        read(text, order=order).order == list(range(n))[::-1]
        and read(text, order=order).spans == read(text).spans
    )


def test_sentences_are_blanked_whole_and_a_text_without_one_says_what_it_became():
    for seed in range(9):
        for start, end in read(POEM, objective="sentence", seed=seed).spans:
            assert (start, end) in {(0, 12), (12, 24)}
    text = show("no sentence here", objective="sentence", seed=2)
    assert "drawn with seed 2; no whole sentence in the text, so the token objective, as in training" in text
    assert "[M]" in text and "[sM]" not in text
    assert "whole sentence" not in show("One. Two", objective="sentence")


def test_ratio_and_mean_length_are_dials_with_limits():
    words = " ".join("w" * 200)
    share = {ratio: sum(b - a for a, b in read(words, mask_ratio=ratio).spans) / 200 for ratio in (0.1, 0.5)}
    assert 0.1 <= share[0.1] < 0.2 and 0.5 <= share[0.5] < 0.65
    short, long = (len(read(words, mean_length=mean).spans) for mean in (1, 9))
    assert short > long
    for dials, named in (
        ({"mask_ratio": 0}, "ratio 0"),
        ({"mask_ratio": 1.5}, "ratio 1.5"),
        ({"mask_ratio": float("nan")}, "ratio nan"),
        ({"mean_length": 0}, "mean length 0"),
        ({"mean_length": 41}, "mean length 41"),
        ({"mean_length": float("inf")}, "inf"),
    ):
        with pytest.raises(MinglmError, match=named):
            show("a b c", **dials)


# ---- one cell --------------------------------------------------------------------------------------------


def test_every_cell_of_the_papers_example_is_explained_by_its_rule():
    d = read(*PAPER).explain()
    for i in range(len(d)):
        for j in range(len(d)):
            name = {(0, 0): "part_a", (1, 0): "part_a", (0, 1): "answers"}.get((int(i > 4), int(j > 4)))
            name = name or ("past" if j <= i else "future")  # Part A is rows 0 to 4
            text = show(*PAPER, cell=f"{i},{j}")
            strip, reason = text.split("\n\n")
            sentence, rule = reason.split("\n")
            assert sentence == why(d, i, j)
            assert rule.startswith(f"Rule {name}, {RULES[name]['code']} (here ")
            here = re.search(r"\(here ([0-9 <=]+)\)", rule)[1]
            assert eval(here) is True  # such as 5 <= 6 <= 9
            facts = json.loads(show(*PAPER, cell=f"{i},{j}", as_json=True))
            assert (facts["row"], facts["column"], facts["rule"], facts["why"]) == (i, j, name, sentence)
            assert (
                facts["open"] == RULES[name]["open"] == (j < max(5, i + 1)) and facts["kind"] == d.kind[i, j]
            )
            rows, tokens, marks = strip.split("\n")
            for mark, row in (("i", i), ("j", j)):
                at = marks.index(mark if i != j else "ij") + (2 if i == j else 1)  # its last column
                assert rows[:at].split()[-1] == str(row) and tokens[:at].split()[-1] == d.tokens[row]


@pytest.mark.parametrize(
    "cell", ["10,0", "0,10", "9", "9;6", "a,b", "-1,2", "1,2,3", "", "1.0,2", "9999999999,1"]
)
def test_a_cell_that_there_is_not_is_one_line(cell):
    with pytest.raises(MinglmError) as error:
        show(*PAPER, cell=cell)
    assert "is not accepted" in str(error.value) and "\n" not in str(error.value)
    assert "from 0" in str(error.value)


def test_a_cell_as_typed():
    assert parse_cell("9,6") == (9, 6) and parse_cell(" 0 , 12 ") == (0, 12)


# ---- step by step ----------------------------------------------------------------------------------------


def test_the_film_has_a_title_and_a_sentence_for_each_step_and_ends_in_the_table():
    d = read(*PAPER).explain()
    text = film(d)
    for number, (name, sentence, _) in enumerate(d.steps, 1):
        assert f"\n\n{number}/8 {name}\n{sentence}\n\n" in text
    assert text.endswith("\n\n" + render(d))


@given(samples(), st.sampled_from([*MODELS]), st.integers(30, 90) | st.none())
@settings(max_examples=40)
def test_the_film_marks_what_each_step_adds(sample, model, width):
    """As many ^ as the step lights cells that show something; in colour as many inverse cells, and no ^."""
    tokens, spans, order = sample
    d = explain([f"w{i}" for i in range(len(tokens))], spans, order, model=model)
    steps = re.split(r"\n\n\d+/\d+ [a-z ]+\n", film(d, width=width))[1:]
    coloured = re.split(r"\n\n\x1b\[1m\d+/\d+ [a-z ]+\x1b\[0m\n", film(d, width=width, colour=True))[1:]
    assert len(steps) == len(coloured) == len(d.steps)
    for text, colours, (name, _, lights) in zip(steps[:-1], coloured, d.steps, strict=False):
        lit = sum(lane != "targets" or d.targets[i] != "" for lane, rows in lights.items() for i in rows)
        assert text.count("^") == lit, name
        assert colours.count("\x1b[7m") == lit and "^" not in colours
        without_marks = [line for line in text.split("\n") if not set(line) <= {"^", " "} or not line]
        assert uncoloured(colours).split("\n") == without_marks


def test_the_film_shows_nothing_before_its_step():
    steps = re.split(r"\n\n\d/8 [a-z ]+\n", film(read(*PAPER).explain()))[1:]
    assert "s1" not in steps[0] and "[M]" not in steps[1] and "s2" in steps[1]
    assert "[M]" in steps[2] and "[S]" not in steps[3].split("\n\n", 1)[1] and "x5" in steps[3]
    assert "[S]" in steps[4] and "target" in steps[4] and "position" not in steps[4].split("\n\n", 1)[1]
    assert "block pos." not in steps[5] and "block pos." in steps[6]


# ---- the relatives ---------------------------------------------------------------------------------------


def test_all_families_stand_side_by_side_with_what_they_read_and_cannot():
    text = show(*PAPER, models="all")
    titles = next(line for line in text.split("\n") if line.startswith("GLM"))
    assert titles.split("  ") and [name for name in re.split(" {3,}", titles)] == [
        m["name"] for m in MODELS.values()
    ]
    for names in MODELS.values():
        for verb, what in (
            ("reads", "input"),
            ("sees", "sees"),
            ("predicts", "predicts"),
            ("cannot", "cannot"),
        ):
            assert f"   {verb}: {names[what]}" in text


@given(
    samples(), st.lists(st.sampled_from([*MODELS]), min_size=1, max_size=6), st.integers(60, 160) | st.none()
)
@settings(max_examples=40)
def test_every_table_beside_another_reads_back_as_its_mask(sample, models, width):
    """Cut the band at the columns of its titles: each piece has the glyphs of its mask and its rows."""
    tokens, spans, order = sample
    tokens = [f"w{i}" for i in range(len(tokens))]
    derivations = [explain(tokens, spans, order, model=model) for model in dict.fromkeys(models)]
    paragraphs = compare(derivations, width=width, charset="ascii").split("\n\n")
    bands = [p.split("\n") for p in paragraphs if re.search(r"  [#+o=@.]+$", p.split("\n")[-1])]
    pieces = {}
    for title, *rows in bands:
        starts = [match.start() for match in re.finditer(r"(?<!\S)(prefix LM|\S+)", title)]
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            pieces[title[start:end].strip()] = [row[start:end].rstrip() for row in rows]
    for d in derivations:
        rows = [row for row in pieces[MODELS[d.model]["name"]] if row and set(row) != {"-"}]
        cells = [row.split() for row in rows]
        assert (np.array([[sign != "." for sign in row[-1]] for row in cells]) == d.mask).all()
        assert [row[0] for row in cells] == list(d.tokens) and [row[-2] for row in cells] == [
            t or "." for t in d.targets
        ]
        assert [int(row[1]) for row in cells] == d.position_ids.tolist()
        if d.second_position:
            assert [int(row[2]) for row in cells] == d.block_position_ids.tolist()


def test_as_many_tables_stand_side_by_side_as_fit():
    def bands(width):
        return [
            re.split(" {3,}", line)
            for line in show(*PAPER, models="all", width=width).split("\n")
            if re.match("GLM|BERT|GPT|prefix|UniLM|T5", line)
        ][::1]

    def most(width):
        return max(len(band) for band in bands(width))

    assert [most(width) for width in (24, 40, 80, 120, 200)] == [1, 2, 3, 5, 6]


def test_models_as_typed():
    assert parse_models("T5, gpt") == ["glm", "t5", "gpt"] and parse_models("bert,bert,glm") == [
        "glm",
        "bert",
    ]
    assert parse_models("all") == parse_models("gpt,all")[:1] + [m for m in MODELS if m != "glm"]
    assert set(parse_models("gpt,all")) == set(MODELS)


@pytest.mark.parametrize(
    "typed, named",
    [
        ("brt", "did you mean bert?"),
        ("GPT2", "did you mean gpt?"),
        ("gpt,prefixlm", "did you mean prefix?"),
        ("t-5", "did you mean t5?"),
        ("al", "did you mean all?"),
        ("xlnet", "accepted: glm, bert, gpt, prefix, unilm, t5, all"),
        ("", "accepted: glm, bert"),
        ("gpt,,t5", "accepted: glm, bert"),
    ],
)
def test_an_unknown_model_names_the_nearest(typed, named):
    with pytest.raises(MinglmError) as error:
        show(*PAPER, models=typed)
    assert str(error.value).startswith("unknown model '") and str(error.value).split("; ")[1].startswith(
        named
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_table_of_its_own(model):
    d = explain(["a", "b", "c", "d"], [(1, 2), (3, 4)], [0, 1], model=model)
    for width in (None, 30, 8):
        text = render(d, width=width)
        assert "{" not in text and "... and" not in text.split("\n\n")[1].split("\n")[0]
    table = render(d, charset="ascii").split("\n\n")[0].split("\n")
    lanes = 4 if d.second_position else 3
    rows = [row.replace("|", " ").split()[-len(d) :] for row in table[lanes:] if not set(row) <= {"-", "+"}]
    assert (np.array([[sign != "." for sign in row] for row in rows]) == d.mask).all()
    assert ("block pos." in table[2], "segment" in table[2]) == (model == "glm", model == "unilm")


# ---- JSON, colours and the command -----------------------------------------------------------------------


def test_json_loads_back_as_the_derivation():
    for typed in (PAPER, CHINESE, BLANK, (POEM,)):
        d = Derivation.from_json(json.loads(show(*typed, as_json=True)))
        assert render(d) == render(read(*typed).explain())
        several = json.loads(show(*typed, models="all", as_json=True))
        assert list(several) == list(MODELS)
        assert [Derivation.from_json(each).model for each in several.values()] == list(MODELS)
    assert show(*CHINESE, as_json=True, charset="ascii").isascii() and "春" in show(*CHINESE, as_json=True)


def test_a_text_that_is_not_valid_unicode_is_shown_and_its_json_is_ascii():
    """What a shell passes on may hold bytes that are not UTF-8; Python makes lone surrogates of them."""
    for how in (dict(), dict(step=True), dict(models="t5"), dict(cell="0,0"), dict(as_json=True)):
        show("a \udcff b", "0:1", **how).encode("utf-8")


@pytest.mark.parametrize("how", [dict(), dict(models="all"), dict(cell="9,6")])
def test_colour_changes_no_letter_of_a_view(how):
    for width in (None, 80, 30, 9):
        plain, coloured = (show(*PAPER, width=width, colour=colour, **how) for colour in (False, True))
        assert uncoloured(coloured) == plain and "\x1b" not in plain
    assert "\x1b" in show(*PAPER, colour=True, **how)


def test_the_two_rows_of_a_cell_are_inverse_in_colour():
    for cell, n in (("9,6", 2), ("6,6", 1)):
        assert show(*PAPER, cell=cell, colour=True).count("\x1b[7m") == n


def test_a_bar_stands_between_part_a_and_part_b_however_short_they_are():
    for cell in ("0,0", "1,0"):
        assert show("a", "0:1", cell=cell).split("\n")[1] == "token  [M] | [S] a"
    assert show("a b", "0:2", cell="0,0", width=12).split("\n")[1] == "token  [M]"
    assert "|" not in explain_cell(explain(["a", "b"], [], []), 0, 0)


def test_a_table_that_stands_alone_takes_all_the_width():
    tokens = ["international", "relations", "conferences", "representations"]
    tables = compare([explain(tokens, [(1, 2)], [0], model=model) for model in ("glm", "gpt")], width=50)
    assert re.findall("…", tables) == [] and all(token in tables for token in tokens)
    assert "…" in compare([explain(tokens, [(1, 2)], [0], model=model) for model in ("glm", "gpt")], width=64)


def test_glyphs_and_colours_are_those_of_the_palette():
    text = show(*PAPER, colour=True)
    for kind in KINDS.values():
        back = "" if kind.terminal is None else f";48;5;{kind.terminal}"
        # the whole column is filled: "   ·", or "   ●" without the space after the bar
        assert re.search(rf"\x1b\[38;5;{kind.terminal_ink}{back}m {{2,3}}{kind.unicode}\x1b\[0m", text)
        assert kind.ascii in show(*PAPER, charset="ascii")


def test_a_special_token_is_never_cut():
    text = compare([explain(["international"] * 6, [(1, 2), (3, 4)], [1, 0], model="t5")], width=26)
    assert (
        "<X0>" in text
        and "<X1>" in text
        and "<…" not in text
        and "inte" not in text.split("\n\n")[1].replace("int…", "")
    )
    assert "[sM]" in show("international relations now", "0:1", objective="sentence", width=22)


@pytest.mark.parametrize(
    "options",
    [
        ("--spans", "0:1", "--seed", "0"),
        ("--spans", "0:1", "--ratio", "0.5"),
        ("--spans", "0:1", "--mean-length", "2"),
        ("--step", "--json"),
        ("--json", "--width", "9"),
        ("--step", "--explain", "0,0"),
        ("--step", "--compare", "gpt"),
        ("--compare", "gpt", "--explain", "0,0"),
        ("--objective", "document", "--ratio", "0.5"),
        ("--objective", "document", "--mean-length", "2"),
        ("--objective", "sentence", "--mean-length", "2"),
    ],
)
def test_options_that_do_not_go_together_are_one_line_that_names_both(minglm, options):
    result = minglm("show", "a b c", *options)
    assert result.code == 2 and not result.out and len(result.err.strip().split("\n")) == 1
    named = [option for option in options if option.startswith("--")]
    assert result.err.startswith("minglm: error: --") and all(option in result.err for option in named)


@pytest.mark.parametrize(
    "options",
    [
        ("--explain", "9,9"),
        ("--explain", "x"),
        ("--compare", "brt"),
        ("--ratio", "2"),
        ("--mean-length", "nan"),
        ("--spans", "1:9"),
        ("--order", "7"),
        ("--width", "0"),
        ("--seed", "x"),
        ("--objective", "words"),
        ("--steps",),
    ],
)
def test_what_cannot_be_shown_leaves_with_code_2(minglm, options):
    result = minglm("show", "a b c", *options)
    assert result.code == 2 and not result.out and "error: " in result.err and "Traceback" not in result.err


def test_the_command_prints_what_show_returns(minglm):
    typed = ("--spans", "2:3,4:6", "--order", "2,1")
    for options, how in (
        ((), {}),
        (("--ascii",), dict(charset="ascii")),
        (("--step", "--width", "50"), dict(step=True, width=50)),
        (("--explain", "9,6"), dict(cell="9,6")),
        (("--explain", "9,6", "--json"), dict(cell="9,6", as_json=True)),
        (("--compare", "gpt,t5", "--width", "80"), dict(models="gpt,t5", width=80)),
        (("--json",), dict(as_json=True)),
        (("--compare", "all", "--json", "--ascii"), dict(models="all", as_json=True, charset="ascii")),
    ):
        result = minglm("show", PAPER[0], *typed, *options)
        assert (result.code, result.err) == (0, "") and result.out == show(*PAPER, **how) + "\n"
    drawn = minglm("show", POEM, "--seed", "5", "--ratio", "0.3", "--mean-length", "1").out
    assert drawn == show(POEM, seed=5, mask_ratio=0.3, mean_length=1.0) + "\n"
    sentence = minglm("show", POEM, "--objective", "sentence", "--order", "1").out
    assert sentence == show(POEM, order="1", objective="sentence") + "\n"


# ---- what a stream can show ------------------------------------------------------------------------------


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
    assert {
        charset_of(Stream(True, encoding)) for encoding in ("ascii", "latin-1", "cp1252", "cp437", "nonsense")
    } == {"ascii"}


def test_filled_blanks_are_marked():
    pieces = [("And God saw the", False), (" light", True), (", and", False), ("", True), (".", False)]
    assert highlight(pieces) == "And God saw the ⟦light⟧, and⟦⟧."
    assert highlight(pieces, charset="ascii") == "And God saw the [light], and[]."
    assert highlight(pieces, colour=True) == "And God saw the \x1b[1;4mlight\x1b[0m, and⟦⟧."


def test_what_a_model_writes_cannot_command_the_terminal():
    assert highlight([("a\n\x1b[2J", True)]) == "⟦a\n\\x1b[2J⟧"
    assert highlight([("春", False)], charset="ascii").isascii()
