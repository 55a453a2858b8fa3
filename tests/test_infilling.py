"""Infilling: the paper's example, recorded rows of the original, a second implementation, and restoring."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import RECORDED
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens, build_example, restore
from minglm.spans import OBJECTIVES

SPECIAL = SpecialTokens()
FIXTURE = json.loads((RECORDED / "thudm_blocklm_examples.json").read_text())


@st.composite
def blanked_texts(draw, max_tokens=14):
    """(tokens, spans, order), with adjacent spans, spans at both ends, and ids of special tokens."""
    # each token is visible, begins a span, or continues what the token before it is
    cells = draw(st.lists(st.tuples(st.integers(0, 20), st.sampled_from("_[-")), max_size=max_tokens))
    tokens, spans, open_at = [token for token, _ in cells], [], None
    for i, kind in enumerate([kind for _, kind in cells] + ["_"]):
        if open_at is not None and kind != "-":
            spans.append((open_at, i))
            open_at = None
        if kind == "[":
            open_at = i
    return tokens, spans, draw(st.permutations(range(len(spans))))


def by_formula(text, spans, order, special, objective):
    """A second implementation, from the formulas of the original code: positions are a cumsum.

    -> tokens, position_ids, block_position_ids, targets, part_a_len.
    """
    text, spans = np.array(text, dtype=np.int64), sorted(spans)
    mask = {"token": special.mask, "sentence": special.smask, "document": special.gmask}[objective]
    counts = np.ones(len(text), dtype=np.int64)
    for a, b in spans:
        counts[a + 1 : b] = 0
    position = np.cumsum(counts) - 1
    blanked = text.copy()
    blanked[[a for a, _ in spans]] = mask
    rows = [(blanked[counts == 1], position[counts == 1], 0 * position[counts == 1])]
    targets = []
    for a, b in (spans[k] for k in order):
        source, target = [special.sop, *text[a:b]], [*text[a:b], special.eop]
        n = b - a + 1
        if objective == "document" and b == len(text) and text[-1] != special.eos:
            n -= 1  # the text was cut: the end of the span is unknown
        rows.append((source[:n], np.repeat(position[a], n), np.arange(n) + 1))
        targets.extend(target[:n])
    tokens, positions, blocks = (np.concatenate(row).astype(np.int64) for row in zip(*rows, strict=True))
    return tokens, positions, blocks, np.array(targets, dtype=np.int64), len(rows[0][0])


def check(example, text, spans, order, special=SPECIAL, objective="token"):
    """Assert that an Example agrees with the formulas in every field."""
    tokens, positions, blocks, targets, part_a_len = by_formula(text, spans, order, special, objective)
    for name, truth in (
        ("tokens", tokens),
        ("position_ids", positions),
        ("block_position_ids", blocks),
        ("targets", targets),
    ):
        got = getattr(example, name)
        assert got.dtype == np.int64 and got.tolist() == truth.tolist(), name
    assert example.part_a_len == part_a_len
    assert len(example.tokens) == part_a_len + len(example.targets)
    assert (example.text_len, example.objective, example.special) == (len(text), objective, special)


# The paper's example (figure 2): x1 ... x6 with x3 and x5 x6 blanked

X1, X2, X3, X4, X5, X6 = range(11, 17)
M, S, E = SPECIAL.mask, SPECIAL.sop, SPECIAL.eop


def test_the_papers_example_by_hand():
    example = build_example([X1, X2, X3, X4, X5, X6], [(2, 3), (4, 6)], order=[1, 0])
    assert example.tokens.tolist() == [X1, X2, M, X4, M, S, X5, X6, S, X3]
    assert example.position_ids.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    assert example.block_position_ids.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]
    assert example.targets.tolist() == [X5, X6, E, X3, E]
    assert (example.part_a_len, example.text_len) == (5, 6)


def test_the_papers_example_in_text_order():
    example = build_example([X1, X2, X3, X4, X5, X6], [(2, 3), (4, 6)], order=[0, 1])
    assert example.tokens.tolist() == [X1, X2, M, X4, M, S, X3, S, X5, X6]
    assert example.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 2, 4, 4, 4]
    assert example.block_position_ids.tolist() == [0, 0, 0, 0, 0, 1, 2, 1, 2, 3]
    assert example.targets.tolist() == [X3, E, X5, X6, E]


def test_order_counts_spans_in_text_order_however_they_are_given():
    text, spans = [X1, X2, X3, X4, X5, X6], [(2, 3), (4, 6)]
    check(build_example(text, spans[::-1], [1, 0]), text, spans, [1, 0])


def test_each_objective_has_its_mask_token():
    tokens = {
        objective: build_example([X1, X2], [(0, 1)], [0], objective=objective).tokens[0]
        for objective in OBJECTIVES
    }
    assert tokens == {"token": SPECIAL.mask, "sentence": SPECIAL.smask, "document": SPECIAL.gmask}


def test_a_document_span_ends_in_eop_only_where_the_document_ends():
    ended, cut = [SPECIAL.cls, X1, X2, SPECIAL.eos], [SPECIAL.cls, X1, X2, X3]
    example = build_example(ended, [(2, 4)], [0], objective="document")
    assert example.tokens[example.part_a_len :].tolist() == [S, X2, SPECIAL.eos]
    assert example.targets.tolist() == [X2, SPECIAL.eos, E]
    example = build_example(cut, [(2, 4)], [0], objective="document")
    assert example.tokens[example.part_a_len :].tolist() == [S, X2]
    assert example.targets.tolist() == [X2, X3]  # the last token is a target, and nothing follows
    # not at the cut
    assert build_example(cut, [(2, 3)], [0], objective="document").targets.tolist() == [X2, E]
    for objective in ("token", "sentence"):
        assert build_example(cut, [(2, 4)], [0], objective=objective).targets.tolist() == [X2, X3, E]


def test_a_text_without_spans_is_part_a_alone():
    example = build_example([X1, X2], [], [])
    assert example.tokens.tolist() == [X1, X2] and example.part_a_len == 2 and len(example.targets) == 0
    check(example, [X1, X2], [], [])
    check(build_example([], [], []), [], [], [])


# The original's rows

OBJECTIVE = {
    "bert": "token",
    "gap_sentence": "sentence",
    "generation": "document",
    "generation_suffix": "document",
}
OTHER_LAYOUTS = {
    "token_no_block_position",
    "token_sentinel",
    "token_dblock",
    "token_random_position",
    "masked_lm",
}


def fixture_rows():
    """(name, text, spans, order, objective, special, outcome) of every recorded row with our layout."""
    ids = FIXTURE["special_ids"]
    for case in FIXTURE["cases"]:
        if case["name"] in OTHER_LAYOUTS:
            continue
        kinds = case["strategy"].get("task_mask", False)
        special = SpecialTokens(
            pad=ids["pad"],
            cls=ids["ENC"],
            eos=ids["eos"],
            sop=ids["sop"],
            eop=ids["eop"],
            mask=ids["MASK"],
            smask=ids["sMASK"] if kinds else ids["MASK"],
            gmask=ids["gMASK"] if kinds else ids["MASK"],
        )
        for k, row in enumerate(case["rows"]):
            text, suffix = row["text"], row["task"] == "generation_suffix"
            if suffix:
                spans = generated = [[row["division"], len(text)]]
            else:
                spans, generated = row["spans_in_text_order"], row["spans_in_generation_order"]
            order = [spans.index(span) for span in generated]
            # the original never adds eop to a suffix, even at the end of a document; so here no token is eos
            row_special = replace(special, eos=-1) if suffix else special
            out = {
                key: case["out"][key][k] for key in ("tokens", "targets", "loss_mask", "position_id", "sep")
            }
            yield f"{case['name']}-{k}", text, spans, order, OBJECTIVE[row["task"]], row_special, suffix, out


ROWS = list(fixture_rows())


def test_every_row_of_the_fixture_is_compared_but_for_other_layouts():
    assert len(ROWS) == 28
    rows = {case["name"]: len(case["rows"]) for case in FIXTURE["cases"]}
    assert rows.keys() >= OTHER_LAYOUTS and sum(rows[name] for name in OTHER_LAYOUTS) == 8
    assert sum(rows.values()) == 28 + 8
    # the original dropped none
    assert all(len(case["out"]["tokens"]) == len(case["rows"]) for case in FIXTURE["cases"])


@pytest.mark.parametrize(
    ("text", "spans", "order", "objective", "special", "suffix", "out"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_the_originals_rows_come_out(text, spans, order, objective, special, suffix, out):
    example = build_example(text, spans, order, special, objective)
    T, A = len(example.tokens), example.part_a_len
    assert A == out["sep"]
    padded = [
        example.tokens,
        [0] * A + example.targets.tolist(),
        example.position_ids,
        example.block_position_ids,
    ]
    # in the recording, targets of Part A are copies of its tokens with loss 0, and padding after T is 0
    original = [out["tokens"], [0] * A + out["targets"][A:], *out["position_id"]]
    for ours, theirs in zip(padded, original, strict=True):
        assert [*ours, *[0] * (len(theirs) - T)] == theirs
    # there, a suffix of several packed documents has no loss on ENC; our samples are of one document each
    learned = [int(not (suffix and target == special.cls)) for target in example.targets]
    assert [0] * A + learned + [0] * (len(out["loss_mask"]) - T) == out["loss_mask"]
    assert restore(example).tolist() == text
    check(example, text, spans, order, special, objective)


# The second statement


@given(blanked_texts(), st.sampled_from(OBJECTIVES))
def test_the_construction_is_what_the_formulas_say(blanked, objective):
    text, spans, order = blanked
    check(build_example(text, spans, order, SPECIAL, objective), text, spans, order, SPECIAL, objective)


@given(blanked_texts(), st.sampled_from(OBJECTIVES))
def test_a_sample_is_two_rows_a_span_longer_than_its_text(blanked, objective):
    text, spans, order = blanked
    assume(objective != "document")
    assert len(build_example(text, spans, order, SPECIAL, objective).tokens) == len(text) + 2 * len(spans)


def part_b(example, **changes):
    """An Example whose arrays are changed in Part B only: name -> function of that part."""
    arrays = {}
    for name, change in changes.items():
        arrays[name] = getattr(example, name).copy()
        arrays[name][example.part_a_len :] = change(arrays[name][example.part_a_len :])
    return replace(example, **arrays)


def positions_in_the_text(text, spans, order):
    example = build_example(text, spans, order)
    starts = np.repeat([spans[k][0] for k in order], [spans[k][1] - spans[k][0] + 1 for k in order])
    return part_b(example, position_ids=lambda p: starts)


def a_mask_for_every_token(text, spans, order):
    example, tokens = build_example(text, spans, order), np.array(text)
    for a, b in spans:
        tokens[a:b] = SPECIAL.mask
    rows = [np.concatenate([tokens, example.tokens[example.part_a_len :]])]
    for name in ("position_ids", "block_position_ids"):
        in_a = np.arange(len(tokens)) if name == "position_ids" else 0 * tokens
        rows.append(np.concatenate([in_a, getattr(example, name)[example.part_a_len :]]))
    return replace(
        example, tokens=rows[0], position_ids=rows[1], block_position_ids=rows[2], part_a_len=len(tokens)
    )


def without_eop(text, spans, order):
    example = build_example(text, spans, order)
    rows = np.arange(len(example.tokens)) < example.part_a_len
    keep = example.targets != SPECIAL.eop
    rows[example.part_a_len :] = keep
    names = ("tokens", "position_ids", "block_position_ids")
    return replace(
        example, targets=example.targets[keep], **{name: getattr(example, name)[rows] for name in names}
    )


WRONG_EXAMPLES = {
    "sop has block position 0": lambda *a: part_b(build_example(*a), block_position_ids=lambda b: b - 1),
    "block positions run on": lambda *a: part_b(
        build_example(*a), block_position_ids=lambda b: 1 + np.arange(len(b))
    ),
    "positions of the mask counted from 1": lambda *a: part_b(
        build_example(*a), position_ids=lambda p: p + 1
    ),
    "positions in the text instead of Part A": positions_in_the_text,
    "positions go on inside a span": lambda *a: part_b(
        (e := build_example(*a)), position_ids=lambda p: p + e.block_position_ids[e.part_a_len :] - 1
    ),
    "order ignored": lambda text, spans, order: build_example(text, spans, sorted(order)),
    "order inverted": lambda text, spans, order: build_example(text, spans, np.argsort(order).tolist()),
    "a mask for every token": a_mask_for_every_token,
    "another mask token": lambda *a: build_example(*a, replace(SPECIAL, mask=SPECIAL.smask)),
    "sop for eop": lambda *a: build_example(*a, replace(SPECIAL, eop=SPECIAL.sop)),
    "eop never learned": without_eop,
    "targets are the inputs": lambda *a: replace((e := build_example(*a)), targets=e.tokens[e.part_a_len :]),
    "Part A one longer": lambda *a: replace((e := build_example(*a)), part_a_len=e.part_a_len + 1),
}


@pytest.mark.parametrize("wrong", WRONG_EXAMPLES.values(), ids=WRONG_EXAMPLES)
def test_a_wrong_construction_would_be_caught(wrong):
    text, spans, order = list(range(11, 21)), [(1, 3), (4, 5), (7, 10)], [1, 2, 0]
    check(build_example(text, spans, order), text, spans, order)
    with pytest.raises(AssertionError):
        check(wrong(text, spans, order), text, spans, order)


# And back


@settings(max_examples=300)
@given(blanked_texts(), st.sampled_from(OBJECTIVES))
def test_the_text_comes_back_from_its_spans(blanked, objective):
    text, spans, order = blanked
    # the only text that cannot be restored: cut right after a literal eop, an id that no corpus contains
    assume(not (objective == "document" and text and text[-1] == SPECIAL.eop))
    assert restore(build_example(text, spans, order, SPECIAL, objective)).tolist() == text


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("end", [X6, SPECIAL.eos], ids=["cut", "ended"])
def test_texts_come_back_from_every_set_of_spans(objective, end):
    text = [X1, X2, X3, end]
    edges = list(itertools.combinations(range(5), 2))
    for n in range(4):
        for spans in itertools.combinations(edges, n):
            if all(a[1] <= b[0] for a, b in itertools.pairwise(spans)):
                for order in itertools.permutations(range(n)):
                    assert restore(build_example(text, spans, order, SPECIAL, objective)).tolist() == text


def test_masks_and_ends_that_stand_in_the_text_are_no_blanks():
    text = [SPECIAL.mask, SPECIAL.eop, X1, SPECIAL.sop, SPECIAL.eop, SPECIAL.mask, SPECIAL.mask]
    for spans in ([], [(1, 2)], [(3, 5), (5, 6)], [(0, 7)]):
        order = list(range(len(spans)))[::-1]
        assert restore(build_example(text, spans, order)).tolist() == text


# What is not accepted


@pytest.mark.parametrize(
    ("spans", "named"),
    [
        ([(1, 1)], "span 1:1"),
        ([(2, 1)], "span 2:1"),
        ([(-1, 1)], "span -1:1"),
        ([(3, 5)], "span 3:5"),
        ([(4, 5)], "span 4:5"),
        ([(0, 2), (1, 3)], "span 1:3"),
        ([(0, 4), (1, 2)], "span 1:2"),
        ([(1, 3), (1, 3)], "span 1:3"),
        ([(2, 4), (0, 3)], "span 2:4"),
    ],
)
def test_spans_that_do_not_fit_are_an_error_that_names_the_span(spans, named):
    with pytest.raises(MinglmError, match=f"^{named} is not accepted: .*lie in 0:4"):
        build_example([X1, X2, X3, X4], spans, list(range(len(spans))))


@pytest.mark.parametrize("order", [[], [0], [0, 0], [1, 2], [0, 1, 2], [-1, 0]])
def test_an_order_that_is_no_permutation_is_an_error(order):
    with pytest.raises(MinglmError, match="^order .* is not a permutation of 0 .. 1"):
        build_example([X1, X2, X3, X4], [(0, 1), (2, 4)], order)


def test_any_iterable_serves_as_order_and_as_spans():
    text, spans = [X1, X2, X3, X4], [(0, 1), (2, 4)]
    for order in ([1, 0], (1, 0), np.array([1, 0]), reversed(range(2))):
        check(build_example(np.array(text, dtype=np.uint16), iter(spans), order), text, spans, [1, 0])


def test_an_unknown_objective_is_an_error_that_names_the_known():
    with pytest.raises(MinglmError, match="objective: 'bert' is not one of token, sentence, document"):
        build_example([X1, X2], [(0, 1)], [0], objective="bert")
