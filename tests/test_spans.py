"""Spans: how long, how many, where; what is never blanked; and that every layout can occur."""

import itertools
import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minglm.spans
from minglm.errors import MinglmError
from minglm.rng import Rng
from minglm.spans import OBJECTIVES, Span, sample_spans

WORD, STOP = 10, 11  # a token of a sentence, and one that ends it
SENTENCE_ENDS = [False] * 11 + [True]
seeds = st.integers(0, 2**64 - 1)


@st.composite
def texts(draw, min_tokens=1):
    """(tokens, has_cls, has_eos) with at least min_tokens text tokens."""
    text = draw(st.lists(st.sampled_from([WORD, WORD, WORD, STOP]), min_size=min_tokens, max_size=80))
    has_cls, has_eos = draw(st.booleans()), draw(st.booleans())
    return [1] * has_cls + text + [2] * has_eos, has_cls, has_eos


def plain(length):
    """A text of `length` tokens, including cls and eos if there are any -> (tokens, has_cls, has_eos)."""
    return dict(tokens=[1] + [WORD] * (length - 2) + [2], has_cls=True, has_eos=True)


def poisson(n, mean=3.0):
    """P(length = n) under Poisson without zero."""
    return mean**n * math.exp(-mean) / math.factorial(n) / (1 - math.exp(-mean))


def expected_blanked(budget):
    """The mean of a sum of lengths that stops at the budget: f(b) = sum of p(n) (n + f(b - n))."""
    f = [0.0] * (budget + 1)
    for b in range(1, budget + 1):
        f[b] = sum(poisson(n) * (n + f[max(0, b - n)]) for n in range(1, 40))
    return f[budget]


def check_token_spans(spans, tokens, has_cls, has_eos, mask_ratio=0.15, max_length=40):
    assert spans and all(isinstance(span, Span) and span.start < span.end for span in spans)
    assert spans[0].start >= has_cls, "cls is blanked"
    assert spans[-1].end <= len(tokens) - has_eos, "eos is blanked"
    assert all(a.end < b.start for a, b in itertools.pairwise(spans)), "no gap, or out of order"
    lengths = [span.end - span.start for span in spans]
    assert max(lengths) < max_length
    budget, blanked = max(1, int(mask_ratio * len(tokens))), sum(lengths)
    full = blanked + len(spans) >= len(tokens) - has_cls - has_eos  # room for no further span
    assert full or blanked >= budget, "too few tokens are blanked"
    assert blanked - max(lengths) < budget, "a span too many"


# token


@given(texts(), seeds, st.sampled_from([0.01, 0.15, 0.5, 0.99]), st.sampled_from([2, 5, 40]))
def test_token_spans_keep_apart_and_spare_cls_and_eos(text, seed, mask_ratio, max_length):
    tokens, has_cls, has_eos = text
    spans = sample_spans(
        tokens,
        "token",
        Rng(seed),
        has_cls=has_cls,
        has_eos=has_eos,
        mask_ratio=mask_ratio,
        max_length=max_length,
    )
    check_token_spans(spans, tokens, has_cls, has_eos, mask_ratio, max_length)


def without_gaps(first, end, *args):
    spans = minglm.spans.token_spans(first, end, *args)
    return [Span(span.start - k, span.end - k) for k, span in enumerate(spans)]


WRONG_TOKEN_SPANS = {
    "spans touch": without_gaps,
    "cls is blanked": lambda first, *args: minglm.spans.token_spans(first - 1, *args),
    "eos is blanked": lambda first, end, *args: minglm.spans.token_spans(first, end + 1, *args),
    "half of the tokens": lambda first, end, budget, *args: minglm.spans.token_spans(
        first, end, budget // 2, *args
    ),
    "twice the tokens": lambda first, end, budget, *args: minglm.spans.token_spans(
        first, end, budget * 2, *args
    ),
    "out of order": lambda *args: minglm.spans.token_spans(*args)[::-1],
    "none": lambda *args: [],
}


@pytest.mark.parametrize("wrong", WRONG_TOKEN_SPANS.values(), ids=WRONG_TOKEN_SPANS)
def test_wrong_token_spans_would_be_caught(wrong):
    text = plain(40)

    def check(sampler, seed):
        spans = sampler(1, 39, 6, Rng(seed), 3.0, 40)
        check_token_spans(spans, text["tokens"], True, True)

    for seed in range(60):
        check(minglm.spans.token_spans, seed)
    with pytest.raises(AssertionError):
        for seed in range(60):
            check(wrong, seed)


def test_span_lengths_follow_poisson_without_zero():
    counts = Counter()
    for seed in range(10):  # long texts, in which the last span hardly matters
        counts.update(
            span.end - span.start for span in sample_spans(objective="token", rng=Rng(seed), **plain(20_000))
        )
    total = sum(counts.values())
    assert total > 9_000 and 0 not in counts and max(counts) < 40
    for n, p in enumerate([0.157, 0.236, 0.236, 0.177, 0.106, 0.053], 1):  # as in the original
        assert poisson(n) == pytest.approx(p, abs=5e-4)
        assert counts[n] / total == pytest.approx(p, abs=0.015)
    assert sum(n * count for n, count in counts.items()) / total == pytest.approx(3.157, abs=0.06)


@pytest.mark.parametrize("mean", [0.5, 8.0])
def test_the_mean_span_length_can_be_chosen(mean):
    lengths = [
        span.end - span.start
        for seed in range(4)
        for span in sample_spans(objective="token", rng=Rng(seed), mean_length=mean, **plain(10_000))
    ]
    assert sum(lengths) / len(lengths) == pytest.approx(mean / (1 - math.exp(-mean)), rel=0.05)


@pytest.mark.parametrize(
    ("length", "ratio", "draws"), [(512, 0.1515, 300), (128, 0.160, 600), (35, 0.184, 1500)]
)
def test_the_share_that_is_blanked_is_the_originals(length, ratio, draws):
    drawn = [sample_spans(objective="token", rng=Rng(seed), **plain(length)) for seed in range(draws)]
    mean = sum(span.end - span.start for spans in drawn for span in spans) / draws / length
    truth = expected_blanked(int(0.15 * length)) / length  # 15 % and the overshoot of the last span
    assert truth == pytest.approx(ratio, abs=2e-3)  # measured on the original code
    assert mean == pytest.approx(truth, abs=0.2 / length)
    if length == 512:
        assert sum(map(len, drawn)) / draws == pytest.approx(24.6, abs=0.5)


def drawn_spans(length, draws, **dials):
    dials = dict(mask_ratio=0.3, mean_length=1.5) | dials
    return [
        sample_spans(objective="token", rng=Rng(seed, 5), **plain(length), **dials) for seed in range(draws)
    ]


def test_the_only_blank_of_a_text_tells_its_length_with_a_budget_and_not_with_a_drawn_number():
    """14 tokens and 30 %: a budget of 4, so a single blank must have at least 4."""
    single = {
        blanks: Counter(
            text[0].end - text[0].start for text in drawn_spans(14, 6000, blanks=blanks) if len(text) == 1
        )
        for blanks in ("budget", "drawn")
    }
    assert single["budget"] and min(single["budget"]) == 4
    n = single["drawn"].total()
    assert n > 1200
    for length in (1, 2, 3):
        p = poisson(length, 1.5)
        assert single["drawn"][length] / n == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / n)), length


@pytest.mark.parametrize(("length", "most"), [(14, 3), (60, 18), (200, 61)])
def test_a_drawn_number_of_spans_is_any_from_one_to_twice_the_share_and_the_share_is_kept(length, most):
    spans = drawn_spans(length, 1500, blanks="drawn")
    counts = Counter(map(len, spans))
    assert set(counts) == set(range(1, most + 1))
    assert max(counts.values()) < 1500 / most + 6 * math.sqrt(1500 / most)
    shares = [sum(span.end - span.start for span in one) / length for one in spans]
    assert sum(shares) / 1500 == pytest.approx(0.3, abs=0.06 if length == 14 else 0.02)
    assert all(one.end < other.start for text in spans for one, other in itertools.pairwise(text))


def test_a_drawn_number_of_spans_is_as_many_as_fit_a_short_text():
    for length in (3, 4, 5):
        for text in drawn_spans(length, 50, blanks="drawn", mask_ratio=0.9):
            assert 1 <= len(text) and all(1 <= span.start < span.end <= length - 1 for span in text)


def test_long_spans_stand_at_the_end_of_a_text_as_often_as_at_its_start():
    # drawing stops with the span that passes the budget, which tends to be long: it must not always be last
    drawn = [sample_spans(objective="token", rng=Rng(seed), **plain(128)) for seed in range(1000)]
    first, last = (sum(s[k].end - s[k].start for s in drawn) / len(drawn) for k in (0, -1))
    assert first == pytest.approx(last, abs=0.3)


def test_every_layout_of_a_tiny_text_comes_up():
    layouts = set()
    for blanks in itertools.product("_x", repeat=6):  # every way to blank 6 tokens; a run of x is a span
        spans = [Span(*run.span()) for run in re.finditer("x+", "".join(blanks))]
        # at least 2 tokens; the longest is 2
        if sorted(end - start for start, end in spans) in ([2], [1, 1], [1, 2]):
            layouts.add(tuple(spans))
    assert len(layouts) == 5 + 10 + 12
    drawn = {
        tuple(sample_spans([WORD] * 6, "token", Rng(seed), has_cls=False, mask_ratio=0.34, max_length=3))
        for seed in range(2500)
    }
    assert drawn == layouts


# sentence


def sentences_by_pattern(tokens, has_cls, has_eos, starts_sentence):
    """Whole sentences, a second implementation: a regular expression with one letter per token."""
    body = "".join("." if t == STOP else "w" for t in tokens[has_cls : len(tokens) - has_eos])
    pieces = [piece.span() for piece in re.finditer(r"w*\.|w+$", body)]
    if not starts_sentence:
        pieces = pieces[1:]
    if not has_eos and body and body[-1] != ".":
        pieces = pieces[:-1]
    return [Span(start + has_cls, end + has_cls) for start, end in pieces]


@given(texts(), seeds, st.booleans(), st.sampled_from([0.15, 0.6]))
def test_sentence_spans_are_whole_sentences(text, seed, starts_sentence, mask_ratio):
    tokens, has_cls, has_eos = text
    spans = sample_spans(
        tokens,
        "sentence",
        Rng(seed),
        has_cls=has_cls,
        has_eos=has_eos,
        mask_ratio=mask_ratio,
        sentence_ends=SENTENCE_ENDS,
        starts_sentence=starts_sentence,
    )
    candidates = sentences_by_pattern(tokens, has_cls, has_eos, starts_sentence)
    assert spans == sorted(set(spans)) and set(spans) <= set(candidates)
    assert bool(spans) == bool(candidates)
    blanked, budget = sum(end - start for start, end in spans), max(1, int(mask_ratio * len(tokens)))
    assert blanked >= budget or spans == candidates
    if spans:
        assert blanked - max(end - start for start, end in spans) < budget


@pytest.mark.parametrize(
    ("tokens", "has_eos", "starts", "sentences"),
    [
        ([1, 10, 11, 10, 10, 11], False, True, [(1, 3), (3, 6)]),
        ([1, 10, 11, 10, 10, 11], False, False, [(3, 6)]),  # the first began before the cut
        ([1, 10, 11, 10, 10], False, True, [(1, 3)]),  # the last ends after the cut
        ([1, 10, 11, 10, 10, 2], True, True, [(1, 3), (3, 5)]),  # no full stop, but the document ends
        ([1, 11, 11, 2], True, True, [(1, 2), (2, 3)]),
        ([1, 10, 10, 2], True, False, []),
        ([1, 10, 10], False, True, []),
    ],
)
def test_which_sentences_are_whole_by_hand(tokens, has_eos, starts, sentences):
    spans = sample_spans(
        tokens,
        "sentence",
        Rng(0),
        has_eos=has_eos,
        mask_ratio=0.99,
        sentence_ends=SENTENCE_ENDS,
        starts_sentence=starts,
    )
    assert spans == sentences == sentences_by_pattern(tokens, True, has_eos, starts)


def test_every_sentence_is_chosen_sooner_or_later():
    tokens = [1, 10, 11, 10, 10, 11, 10, 11, 2]
    drawn = [
        sample_spans(tokens, "sentence", Rng(seed), has_eos=True, sentence_ends=SENTENCE_ENDS)
        for seed in range(300)
    ]
    counts = Counter(span for spans in drawn for span in spans)
    assert set(counts) == {(1, 3), (3, 6), (6, 8)} and all(len(spans) == 1 for spans in drawn)
    assert min(counts.values()) > 70


# document


@given(texts(), seeds, st.sampled_from([(0.5, 1.0), (0.25, 0.25), (0.01, 0.3), (1.0, 1.0)]))
def test_a_document_span_is_one_and_ends_the_text(text, seed, ratio):
    tokens, has_cls, has_eos = text
    spans = sample_spans(
        tokens, "document", Rng(seed), has_cls=has_cls, has_eos=has_eos, document_ratio=ratio
    )
    [(start, end)] = spans
    assert has_cls <= start < end == len(tokens)
    share = (end - start) / (len(tokens) - has_cls)  # eos is blanked with the rest
    one = 1 / (len(tokens) - has_cls)
    assert min(ratio[0], 1) - 1e-9 <= share < ratio[1] + one


def test_document_spans_cover_all_shares_from_half_to_all_alike():
    counts = Counter(
        end - start
        for seed in range(1500)
        for start, end in sample_spans([1] + [WORD] * 19, "document", Rng(seed))
    )
    assert set(counts) == set(range(10, 20))  # 9.5 rounded up ... 19
    assert sum((n - 150) ** 2 / 150 for n in counts.values()) < 9 + 5 * math.sqrt(18)


# all of them


@given(texts(), seeds, st.sampled_from(["token", "document"]))
def test_every_text_gets_a_span(text, seed, objective):
    tokens, has_cls, has_eos = text
    assert sample_spans(tokens, objective, Rng(seed), has_cls=has_cls, has_eos=has_eos)


@given(texts(), seeds, st.sampled_from(OBJECTIVES))
def test_spans_are_a_function_of_the_stream(text, seed, objective):
    tokens, has_cls, has_eos = text
    once, again = (
        sample_spans(
            tokens, objective, Rng(seed), has_cls=has_cls, has_eos=has_eos, sentence_ends=SENTENCE_ENDS
        )
        for _ in range(2)
    )
    assert once == again


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_another_stream_gives_other_spans(objective):
    tokens = [1] + [WORD, WORD, STOP] * 40
    drawn = {
        tuple(sample_spans(tokens, objective, Rng(3, n), sentence_ends=SENTENCE_ENDS)) for n in range(20)
    }
    assert len(drawn) > 15


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("tokens", "has_cls", "has_eos"), [([], False, False), ([1], True, False), ([1, 2], True, True)]
)
def test_a_text_without_text_is_an_error(tokens, has_cls, has_eos, objective):
    with pytest.raises(MinglmError, match=f"^tokens: {len(tokens)} of them .* at least one text token"):
        sample_spans(tokens, objective, Rng(0), has_cls=has_cls, has_eos=has_eos, sentence_ends=SENTENCE_ENDS)


def test_an_unknown_objective_is_an_error_that_names_the_known():
    with pytest.raises(MinglmError, match="objective: 'bert' is not one of token, sentence, document"):
        sample_spans([1, WORD], "bert", Rng(0))


def test_the_sentence_objective_must_know_what_ends_a_sentence():
    with pytest.raises(MinglmError, match="sentence_ends"):
        sample_spans([1, WORD], "sentence", Rng(0))
