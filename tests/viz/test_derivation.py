"""The rows, rules and steps behind all pictures, checked in a second way."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minglm.viz.derivation as derivation_module
from minglm import infilling
from minglm import mask as mask_module
from minglm.data.samples import SampleSource, cut_windows
from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens, build_example
from minglm.mask import GLMMask, keys_of_row
from minglm.spans import OBJECTIVES, Span
from minglm.train.config import DataConfig
from minglm.viz import Derivation, derivation_of, explain
from minglm.viz.derivation import KINDS, NAMES, spans_of, why
from minglm.viz.words import MODELS, RULES, STEPS

PAPER = (["x1", "x2", "x3", "x4", "x5", "x6"], [(2, 3), (4, 6)], [1, 0])
RULE_OF = {
    "AA": "part_a",
    "BA": "part_a",
    "AB": "answers",
    "BE": "past",
    "BS": "past",
    "self": "past",
    "BF": "future",
}


@st.composite
def samples(draw, longest=9):
    """(tokens, spans, order): different words with any spans in any order, also touching ones, also none."""
    tokens = [f"w{i}" for i in range(draw(st.integers(1, longest)))]
    if draw(st.booleans()):
        tokens.append("[EOS]")
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=6)))
    spans = [Span(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if draw(st.booleans())]
    return tokens, spans, draw(st.permutations(range(len(spans))))


objectives, models = st.sampled_from(OBJECTIVES), st.sampled_from([*MODELS])


# ---- the rows --------------------------------------------------------------------------------------------


def glm_rows(tokens, spans, order, objective):
    """The rows, as with a pencil: a list of (token, target, word, span, position, block position)."""
    mask = {"token": "[M]", "sentence": "[sM]", "document": "[gM]"}[objective]
    rows, stands = [], {}
    for i, token in enumerate(tokens):
        inside = [k for k, (a, b) in enumerate(spans) if a <= i < b]
        if not inside:
            rows.append((token, "", i, -1, len(rows), 0))
        elif i == spans[inside[0]][0]:
            stands[inside[0]] = len(rows)
            rows.append((mask, "", -1, inside[0], len(rows), 0))
    for k in order:
        a, b = spans[k]
        spoken = [("[S]", -1), *((tokens[i], i) for i in range(a, b))]
        learned = [*tokens[a:b], "[E]"]
        if objective == "document" and b == len(tokens) and tokens[-1] != "[EOS]":
            spoken, learned = spoken[:-1], learned[:-1]
        for n, ((token, word), target) in enumerate(zip(spoken, learned, strict=True), 1):
            rows.append((token, target, word, k, stands[k], n))
    return rows


@given(samples(), objectives)
@settings(max_examples=80)
def test_the_rows_are_those_of_a_walk_through_the_text(sample, objective):
    d = explain(*sample, objective)
    fields = (d.tokens, d.targets, d.word, d.span_id, d.position_ids, d.block_position_ids)
    assert list(zip(*(f if isinstance(f, tuple) else f.tolist() for f in fields), strict=True)) == glm_rows(
        *sample, objective
    )
    assert (list(d.text), list(d.spans), list(d.order)) == sample and (d.model, d.objective) == (
        "glm",
        objective,
    )
    assert d.part == tuple("B" if b else "A" for b in d.block_position_ids)
    assert d.part_a_len == d.part.count("A") == len(sample[0]) - sum(b - a - 1 for a, b in sample[1])


@given(samples(), objectives)
@settings(max_examples=100)
def test_spans_and_order_are_read_off_the_rows(sample, objective):
    tokens, spans, order = sample
    special = SpecialTokens()
    ids = [special.eos if token == "[EOS]" else 50 + i for i, token in enumerate(tokens)]
    assert spans_of(build_example(ids, spans, order, special, objective)) == (spans, list(order))


def test_the_papers_example_row_by_row():
    d = explain(*PAPER)
    assert d.tokens == ("x1", "x2", "[M]", "x4", "[M]", "[S]", "x5", "x6", "[S]", "x3")
    assert d.targets == ("", "", "", "", "", "x5", "x6", "[E]", "x3", "[E]")
    assert d.word.tolist() == [0, 1, -1, 3, -1, -1, 4, 5, -1, 2] and d.span_id.tolist() == [
        -1,
        -1,
        0,
        -1,
        1,
        1,
        1,
        1,
        0,
        0,
    ]
    assert d.position_ids.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    assert d.block_position_ids.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    assert d.second_position == "block position" and d.part_a_len == 5 and len(d) == 10


PAPERS_RELATIVES = {
    "bert": ("x1 x2 [M] x4 [M] [M]", ". . x3 . x5 x6", 6, "0 1 2 3 4 5", "0 0 0 0 0 0", ""),
    "gpt": ("x1 x2 x3 x4 x5 x6", "x2 x3 x4 x5 x6 .", 0, "0 1 2 3 4 5", "0 0 0 0 0 0", ""),
    "prefix": ("x1 x2 x3 x4 x5 x6", ". x3 x4 x5 x6 .", 2, "0 1 2 3 4 5", "0 0 0 0 0 0", ""),
    "unilm": (
        "x1 x2 [EOS] [M] x4 [M] [M] [EOS]",
        ". . . x3 . x5 x6 .",
        3,
        "0 1 2 3 4 5 6 7",
        "0 0 0 1 1 1 1 1",
        "segment",
    ),
    "t5": (
        "x1 x2 <X0> x4 <X1> [S] <X0> x3 <X1> x5 x6",
        ". . . . . <X0> x3 <X1> x5 x6 <X2>",
        5,
        "0 1 2 3 4 0 1 2 3 4 5",
        "0 0 0 0 0 0 0 0 0 0 0",
        "",
    ),
}


@pytest.mark.parametrize("model", PAPERS_RELATIVES)
def test_the_relatives_rows_on_the_papers_example(model):
    tokens, targets, part_a_len, positions, seconds, name = PAPERS_RELATIVES[model]
    d = explain(*PAPER, model=model)
    assert " ".join(d.tokens) == tokens and " ".join(t or "." for t in d.targets) == targets
    assert (d.part_a_len, d.second_position, d.order) == (part_a_len, name, (0, 1))
    assert (
        " ".join(map(str, d.position_ids)) == positions
        and " ".join(map(str, d.block_position_ids)) == seconds
    )
    sees = [max(part_a_len, i + 1) for i in range(len(d))]
    assert d.mask.sum(1).tolist() == sees and all(d.mask[i, :n].all() for i, n in enumerate(sees))


@given(samples(), models)
@settings(max_examples=100)
def test_word_and_span_say_where_a_row_comes_from(sample, model):
    tokens, spans, _ = sample
    d = explain(*sample, model=model)
    for token, word, k in zip(d.tokens, d.word, d.span_id, strict=True):
        assert word < 0 or token in (tokens[word], "[M]")
        if word >= 0:
            a, b = spans[k] if k >= 0 else (0, 0)
            assert (a <= word < b) if k >= 0 else not any(a <= word < b for a, b in spans)
    learned = [t for t in d.targets if t and t not in ("[E]", *(f"<X{k}>" for k in range(9)))]
    blanked = [tokens[i] for a, b in spans for i in range(a, b)]
    continued = {"gpt": tokens[1:], "prefix": tokens[max(1, spans[0].start) :] if spans else []}
    assert sorted(learned) == sorted(continued.get(model, blanked))


@pytest.mark.parametrize("model", MODELS)
def test_a_text_without_spans_and_one_that_is_all_span(model):
    for spans in ([], [(0, 2)]):
        d = explain(["a", "b"], spans, range(len(spans)), model=model)
        assert len(d) and Derivation.from_json(d.to_json()).to_json() == d.to_json()


def test_the_relatives_know_neither_order_nor_objective():
    tokens, spans, _ = PAPER
    for model in PAPERS_RELATIVES:
        one, other = (
            explain(tokens, spans, [1, 0], "document", model=model),
            explain(tokens, spans, [0, 1], model=model),
        )
        assert one.to_json() == other.to_json()


# ---- the same code as training ---------------------------------------------------------------------------


def test_nothing_is_worked_out_a_second_time(monkeypatch):
    """explain uses infilling.build_example, and every mask keys_of_row: what they return is shown."""
    assert derivation_module.build_example is infilling.build_example
    assert derivation_module.keys_of_row is keys_of_row is mask_module.keys_of_row
    seen = []

    def build(tokens, *args):
        seen.append("build_example")
        return replace(
            build_example(tokens, *args), position_ids=build_example(tokens, *args).position_ids + 0
        )

    def rule(i, part_a_len):
        seen.append((len(i), part_a_len))
        return keys_of_row(i, part_a_len)

    monkeypatch.setattr(derivation_module, "build_example", build)
    monkeypatch.setattr(derivation_module, "keys_of_row", rule)
    for model, T, A in (("glm", 10, 5), ("t5", 11, 5)):
        seen.clear()
        d = explain(*PAPER, model=model)
        assert seen == ["build_example", (T, A)]
        assert (d.mask == GLMMask.packed([T], [A]).dense().numpy()).all()


def test_the_rows_of_a_training_sample_are_shown_as_they_are():
    special, first = SpecialTokens(), 24
    rng = np.random.default_rng(5)
    ids = rng.integers(first, 90, 400)
    is_end = np.arange(90) % 7 == 0
    windows = cut_windows([0, 150, 163, 400], 48)
    source = SampleSource(ids, windows, DataConfig(), is_end, special, seed=3)
    names = {getattr(special, field): name for field, name in NAMES.items()}
    drawn = set()
    for w in range(len(windows)):
        for epoch in range(4):
            objective, example = source.draw(epoch, w)
            drawn.add(example.objective)
            d = derivation_of(example, str)
            assert [names.get(i) or str(i) for i in example.tokens.tolist()] == list(d.tokens)
            assert [names.get(i) or str(i) for i in example.targets.tolist()] == list(
                d.targets[d.part_a_len :]
            )
            assert example.position_ids.tolist() == d.position_ids.tolist()
            assert example.block_position_ids.tolist() == d.block_position_ids.tolist()
            assert (GLMMask.packed([len(d)], [example.part_a_len]).dense().numpy() == d.mask).all()
            assert [names.get(i) or str(i) for i in source.text(w).tolist()] == list(d.text)
            again = build_example(source.text(w), d.spans, d.order, special, d.objective)
            assert again.tokens.tolist() == example.tokens.tolist() and d.objective == example.objective
            assert (
                Derivation.from_json(d.to_json()).to_json()
                == explain(d.text, d.spans, d.order, d.objective).to_json()
            )
    assert drawn == set(OBJECTIVES)


def test_ids_are_explained_as_ids_and_special_tokens_by_name():
    special = SpecialTokens()
    d = explain([special.cls, 40, 41, special.eos], [(1, 2)], [0])
    assert d.tokens == ("[CLS]", "[M]", "41", "[EOS]", "[S]", "40")
    assert explain(np.array([40, 41]), [(1, 2)], [0]).text == ("40", "41")
    named = derivation_of(build_example([special.cls, 40, 41], [(1, 2)], [0]), lambda i: f"<{i}>")
    assert named.tokens == ("[CLS]", "[M]", "<41>", "[S]", "<40>")
    assert explain(["a", "<|endoftext|>"], [(0, 1)], [0]).text == ("a", "[EOS]")


@pytest.mark.parametrize(
    "typed, named",
    [
        (dict(objective="words"), "'words'"),
        (dict(model="xlnet"), "'xlnet'"),
        (dict(tokens=[]), "tokens"),
        (dict(spans=[(0, 9)]), "0:9"),
        (dict(spans=[(1, 1)]), "1:1"),
        (dict(spans=[(0, 2), (1, 3)], order=[0, 1]), "1:3"),
        (dict(order=[0, 0]), "[0, 0]"),
        (dict(order=[]), "[]"),
    ],
)
def test_what_cannot_be_explained_is_named(typed, named):
    given_ = dict(tokens=["a", "b", "c"], spans=[(1, 2)], order=[0]) | typed
    with pytest.raises(MinglmError) as error:
        explain(**given_)
    assert named in str(error.value) and "\n" not in str(error.value)


# ---- who sees whom, and why ------------------------------------------------------------------------------


def check_cells(d):
    """Every cell from its two rows: its kind, its rule, and that the rules' code agrees."""
    T, A = len(d), d.part_a_len
    piece = d.span_id if d.model in ("glm", "t5", "bert") else np.zeros(T)
    for i in range(T):
        for j in range(T):
            a, b, same = d.part[i], d.part[j], piece[i] == piece[j]
            expected = {
                "AA": (a, b) == ("A", "A"),
                "BA": (a, b) == ("B", "A"),
                "BE": (a, b) == ("B", "B") and j < i and not same,
                "BS": (a, b) == ("B", "B") and j < i and same,
                "self": (a, b) == ("B", "B") and i == j,
                "AB": (a, b) == ("A", "B"),
                "BF": (a, b) == ("B", "B") and j > i,
            }
            assert [kind for kind, holds in expected.items() if holds] == [d.kind[i, j]]
            assert d.rule[i, j] == RULE_OF[d.kind[i, j]]
            numbers = {"i": i, "j": j, "part_a_len": A}
            assert [name for name, rule in RULES.items() if eval(rule["code"], numbers)] == [d.rule[i, j]]
            assert (
                d.mask[i, j]
                == RULES[d.rule[i, j]]["open"]
                == (j < keys_of_row(i, A))
                == (d.kind[i, j] not in ("AB", "BF"))
            )


@given(samples(6), objectives, models)
@settings(max_examples=60)
def test_kinds_and_rules_agree_with_the_mask(sample, objective, model):
    check_cells(explain(*sample, objective, model=model))


def test_every_kind_and_every_rule_occurs_in_the_papers_example():
    d = explain(*PAPER)
    check_cells(d)
    assert set(d.kind.ravel()) == set(KINDS) == set(RULE_OF) and set(d.rule.ravel()) == set(RULES)


def rules_with(future=">", part_a="<"):
    """derivation.rules with another comparison in it."""
    compare = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}

    def rules(T, A):
        i, j = np.arange(T)[:, None], np.arange(T)
        shut = np.where(i < A, "answers", "future")
        return np.where(
            compare[part_a](j, A), "part_a", np.where(~compare[future](j, i) & (i >= A), "past", shut)
        )

    return rules


MUTANTS = {
    "the rule of the future lets a row see the next": ("rules", rules_with(future=">=")),
    "the rule of Part A is one row too long": ("rules", rules_with(part_a="<=")),
    "answers and future are swapped": ("rules", lambda T, A: np.full((T, T), "future")),
    "the mask's Part A is a row too long": ("keys_of_row", lambda i, A: keys_of_row(i, A + 1)),
    "the mask's Part A is a row too short": ("keys_of_row", lambda i, A: keys_of_row(i, A - 1)),
    "a row sees the next": ("keys_of_row", lambda i, A: keys_of_row(i + 1, A)),
    "a row does not see itself": ("keys_of_row", lambda i, A: keys_of_row(i - 1, A)),
    "the mask is open everywhere": ("keys_of_row", lambda i, A: 0 * i + len(i)),
    "the mask is shut everywhere": ("keys_of_row", lambda i, A: 0 * i),
    "earlier spans and the row's own are swapped": (
        "VISIBLE",
        {("A", "A"): "AA", ("B", "A"): "BA", ("B", "B"): "BS"},
    ),
    "Part A's sight and Part B's are swapped": (
        "VISIBLE",
        {("A", "A"): "BA", ("B", "A"): "AA", ("B", "B"): "BE"},
    ),
    "the two reasons to be hidden are swapped": ("HIDDEN", {("A", "B"): "BF", ("B", "B"): "AB"}),
}


def test_the_check_passes_where_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(derivation_module, "rules", rules_with())
    check_cells(explain(*PAPER))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_changed_rule_is_noticed(mutant, monkeypatch):
    """A cell that no GLM mask can have is a KeyError already; all else is found by the check of cells."""
    monkeypatch.setattr(derivation_module, *MUTANTS[mutant])
    with pytest.raises((AssertionError, KeyError)):
        check_cells(explain(*PAPER))


PAPERS_REASONS = {
    (0, 3): "“x1” (row 0) may see “x4” (row 3): both are in Part A, which sees itself left and right. "
    "Row 0 sees the first max(5, 0 + 1) = 5 keys, and 3 is among them.",
    (2, 2): "“[M]” (row 2) may see “[M]” (row 2): every row sees itself. "
    "Row 2 sees the first max(5, 2 + 1) = 5 keys, and 2 is among them.",
    (6, 0): "“x5” (row 6) may see “x1” (row 0): Part B sees all of Part A. "
    "Row 6 sees the first max(5, 6 + 1) = 7 keys, and 0 is among them.",
    (9, 6): "“x3” (row 9) may see “x5” (row 6): the span of “x5” comes earlier in Part B. "
    "Row 9 sees the first max(5, 9 + 1) = 10 keys, and 6 is among them.",
    (7, 6): "“x6” (row 7) may see “x5” (row 6): “x5” comes earlier in the same span. "
    "Row 7 sees the first max(5, 7 + 1) = 8 keys, and 6 is among them.",
    (5, 5): "“[S]” (row 5) may see “[S]” (row 5): every row sees itself. "
    "Row 5 sees the first max(5, 5 + 1) = 6 keys, and 5 is among them.",
    (
        0,
        5,
    ): "“x1” (row 0) may not see “[S]” (row 5): Part A never sees Part B, or it would carry the answers "
    "back. Row 0 sees the first max(5, 0 + 1) = 5 keys, and 5 is not among them.",
    (
        5,
        9,
    ): "“[S]” (row 5) may not see “x3” (row 9): the span of “x3” comes later in Part B and is not written "
    "yet. Row 5 sees the first max(5, 5 + 1) = 6 keys, and 9 is not among them.",
    (
        5,
        7,
    ): "“[S]” (row 5) may not see “x6” (row 7): “x6” comes later in the same span and is not written yet. "
    "Row 5 sees the first max(5, 5 + 1) = 6 keys, and 7 is not among them.",
}
RELATIVES_REASONS = {
    ("bert", 0, 5): "both are in the text, which sees itself left and right",
    ("gpt", 4, 1): "“x2” comes earlier in the same text",
    ("gpt", 1, 4): "“x5” comes later in the same text and is not written yet",
    (
        "prefix",
        0,
        3,
    ): "the context never sees the continuation, or it would carry the answers back",
    ("prefix", 3, 5): "“x6” comes later in the same continuation and is not written yet",
    ("unilm", 4, 1): "S2 sees all of S1",
    ("unilm", 3, 6): "“[M]” comes later in the same segment and is not written yet",
    ("t5", 10, 7): "the span of “x3” comes earlier in the decoder",
    ("t5", 7, 10): "the span of “x6” comes later in the decoder and is not written yet",
    ("t5", 9, 10): "“x6” comes later in the same span and is not written yet",
}


def test_why_says_it_in_a_sentence_for_every_kind():
    d = explain(*PAPER)
    assert {d.kind[i, j] for i, j in PAPERS_REASONS} == set(KINDS)
    for (i, j), sentence in PAPERS_REASONS.items():
        assert why(d, i, j) == sentence
    for (model, i, j), because in RELATIVES_REASONS.items():
        assert f": {because}. Row {i} sees" in why(explain(*PAPER, model=model), i, j)


@given(samples(5), models)
@settings(max_examples=30)
def test_why_never_contradicts_the_mask(sample, model):
    d = explain(*sample, model=model)
    for i in range(len(d)):
        for j in range(len(d)):
            sentence = why(d, i, j)
            opened = (
                f"(row {i}) may see “{d.tokens[j]}” (row {j})" in sentence
                and f"and {j} is among them." in sentence
            )
            shut = (
                f"(row {i}) may not see “{d.tokens[j]}” (row {j})" in sentence
                and f"and {j} is not among them." in sentence
            )
            assert (opened, shut) == (d.mask[i, j], not d.mask[i, j]) and "{" not in sentence
            assert f" = {d.mask[i].sum()} keys" in sentence


@pytest.mark.parametrize("cell", [(10, 0), (0, 10), (-1, 0), (0, -1)])
def test_a_row_that_there_is_not_is_named(cell):
    with pytest.raises(
        MinglmError, match="(row|column) -?[0-9]+ is not accepted: rows and columns count from 0 to 9"
    ):
        why(explain(*PAPER), *cell)


# ---- step by step ----------------------------------------------------------------------------------------


@given(samples(), objectives, models)
@settings(max_examples=80)
def test_the_steps_build_every_lane_once_and_whole(sample, objective, model):
    tokens, spans, _ = sample
    d = explain(*sample, objective, model=model)
    lights = {name: lit for name, _, lit in d.steps}
    T, A = len(d), d.part_a_len
    assert [name for name, _, _ in d.steps] == [
        name for name, _ in STEPS["glm" if model == "glm" else "others"]
    ]
    assert lights["tokens"] == {"text": list(range(len(tokens)))}
    assert lights["spans"] == {"text": [i for i in range(len(tokens)) if any(a <= i < b for a, b in spans)]}
    # each row of tokens is lit by exactly one step, and so is every row that learns; then positions, then the
    # mask
    built = [i for lit in lights.values() for i in lit.get("tokens", ())]
    assert sorted(built) == list(range(T))
    learning = [i for lit in lights.values() for i in lit.get("targets", ())]
    assert sorted(learning) == (list(range(A, T)) if model == "glm" else list(range(T)))
    assert {i for i in range(T) if d.targets[i]} <= set(learning)
    assert [lit["position_ids"] for lit in lights.values() if "position_ids" in lit] == [list(range(T))]
    seconds = [lit["block_position_ids"] for lit in lights.values() if "block_position_ids" in lit]
    assert seconds == ([list(range(T))] if d.second_position else [])
    assert lights["mask"] == {"mask": list(range(T))} and [*lights][-1] == "mask"
    if model == "glm":
        assert lights["masks"]["tokens"] == list(range(A))
        assert lights["pieces"]["tokens"] == [i for i in range(T) if d.tokens[i] == "[S]"]
        assert [d.tokens[i] for i in lights["order"]["tokens"]] == [
            t for i, t in enumerate(d.tokens) if i >= A and t != "[S]"
        ]


def test_the_sentences_of_the_papers_example():
    assert [sentence for _, sentence, _ in explain(*PAPER).steps] == [
        "The text: 6 tokens.",
        "Chosen to be blanked: 2 spans, 3 of 6 tokens.",
        "Part A is the text with one [M] for each span, however long the span was: 5 tokens.",
        "Part B is the blanked spans, shuffled. Their order here: s2, s1.",
        "[S] leads every span in, and each row of Part B learns the token that comes next; [E] ends a span.",
        "The first position says which blank: a row of Part B stands where the [M] of its span stands.",
        "The second position says where inside the span: 1 at [S], then 2, 3, ...; in Part A it is 0.",
        "Row i sees the first max(5, i + 1) keys: all of Part A, and Part B up to itself.",
    ]
    assert explain(["a"], [], []).steps[1][1] == "Chosen to be blanked: 0 spans, 0 of 1 token."


# ---- JSON ------------------------------------------------------------------------------------------------


@given(samples(), objectives, models)
@settings(max_examples=60)
def test_json_and_back(sample, objective, model):
    d = explain(*sample, objective, model=model)
    data = json.loads(json.dumps(d.to_json()))
    again = Derivation.from_json(data)
    assert again.to_json() == d.to_json() == data
    for name in Derivation.__dataclass_fields__:
        a, b = getattr(d, name), getattr(again, name)
        assert type(a) is type(b) and np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def test_json_is_plain_and_has_a_version():
    data = explain(["x1", "x2", "x3"], [(1, 2)], [0]).to_json()
    assert data["version"] == 2 and set(data) == {"version", *Derivation.__dataclass_fields__}
    assert data["tokens"] == ["x1", "[M]", "x3", "[S]", "x2"] and data["targets"] == ["", "", "", "x2", "[E]"]
    assert (
        data["kind"][4] == ["BA", "BA", "BA", "BS", "self"]
        and data["rule"][4] == ["part_a"] * 3 + ["past"] * 2
    )
    assert data["mask"][0] == [True, True, True, False, False] and data["spans"] == [[1, 2]]
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def tampered(change):
    data = copy.deepcopy(explain(*PAPER).to_json())
    change(data)
    return data


TAMPERED = {
    "mask": lambda d: d["mask"][0].__setitem__(9, True),
    "tokens": lambda d: d["tokens"].__setitem__(0, "y1"),
    "targets": lambda d: d["targets"].__setitem__(5, "x6"),
    "position_ids": lambda d: d["position_ids"].__setitem__(5, 5),
    "block_position_ids": lambda d: d["block_position_ids"].__setitem__(5, 0),
    "kind": lambda d: d["kind"][9].__setitem__(9, "BS"),
    "rule": lambda d: d["rule"][9].__setitem__(9, "part_a"),
    "part": lambda d: d["part"].__setitem__(4, "B"),
    "part_a_len": lambda d: d.__setitem__("part_a_len", 4),
    "word": lambda d: d["word"].pop(),
    "span_id": lambda d: d["span_id"].__setitem__(0, 0),
    "second_position": lambda d: d.__setitem__("second_position", ""),
    "steps": lambda d: d["steps"][0].__setitem__(1, "Nothing is hidden."),
}


@pytest.mark.parametrize("field", TAMPERED)
def test_a_file_that_lies_is_refused_and_the_lie_is_named(field):
    with pytest.raises(MinglmError, match=f"derivation: {field} is not what follows from its text and spans"):
        Derivation.from_json(tampered(TAMPERED[field]))


@pytest.mark.parametrize("version", [1, 3, "2", None, [2], {}])
def test_another_version_is_refused_by_its_number(version):
    with pytest.raises(MinglmError, match="version .*; what to_json\\(\\) gives in version 2 is accepted"):
        Derivation.from_json(tampered(lambda d: d.__setitem__("version", version)))


@pytest.mark.parametrize("field", ["version", *Derivation.__dataclass_fields__])
def test_a_field_that_is_missing_is_refused(field):
    with pytest.raises(MinglmError, match="derivation: "):
        Derivation.from_json(tampered(lambda d: d.pop(field)))


# what JSON can hold, and what comes near to the truth
ANYTHING = (
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-3, 9)
        | st.floats()
        | st.sampled_from(["", "x1", "A", "token", "glm", "t5", "AA"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["text", "spans", "a"]), inner, max_size=3)
        ),
        max_leaves=8,
    )
    | st.integers()
)


def refused_or_true(data):
    try:
        d = Derivation.from_json(data)
    except MinglmError as error:
        assert "\n" not in str(error)
    else:
        assert d.to_json() == data


@given(ANYTHING)
@settings(max_examples=60)
def test_whatever_comes_for_a_derivation_is_a_minglm_error(data):
    refused_or_true(data)


@given(st.data())
@settings(max_examples=200)
def test_a_field_of_any_kind_is_refused_unless_it_is_true(drawn):
    """Some place of a true derivation, however deep, holds something else."""
    data = json.loads(json.dumps(explain(*PAPER, model=drawn.draw(models)).to_json()))
    for _ in range(drawn.draw(st.integers(1, 2))):
        place, key = data, drawn.draw(st.sampled_from([*data]))
        while isinstance(place[key], list | dict) and place[key] and drawn.draw(st.booleans()):
            place = place[key]
            key = drawn.draw(st.sampled_from([*place] if isinstance(place, dict) else range(len(place))))
        place[key] = drawn.draw(ANYTHING)
    refused_or_true(data)


@given(
    st.fixed_dictionaries(
        {
            "version": st.just(2),
            "text": st.lists(st.sampled_from(["a", "b", "[EOS]", "[M]"]), max_size=4) | ANYTHING,
            "spans": st.lists(st.lists(st.integers(-1, 4), min_size=2, max_size=2), max_size=2) | ANYTHING,
            "order": st.lists(st.integers(-1, 2), max_size=2) | ANYTHING,
            "objective": st.sampled_from(OBJECTIVES) | ANYTHING,
            "model": models | ANYTHING,
        }
    )
)
@settings(max_examples=120)
def test_the_five_fields_that_all_follows_from_may_be_anything(data):
    with pytest.raises(MinglmError) as error:
        Derivation.from_json(data)
    assert "\n" not in str(error.value)
