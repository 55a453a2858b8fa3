"""Which spans of a text to blank: the three objectives of GLM (paper section 2.1 and 2.3).

    token      many short spans, 15 % of the tokens, lengths from Poisson(3)         -> [MASK]
    sentence   whole sentences, 15 % of the tokens                                   -> [sMASK]
    document   one span of 50-100 % of the tokens, at the end                        -> [gMASK]

Everything is drawn from a `minglm.rng.Rng`, so spans are a function of its seed and nothing else.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from .errors import MinglmError

OBJECTIVES = ("token", "sentence", "document")


class Span(NamedTuple):
    """The tokens start, ..., end - 1 of a text (half-open); cls counts if the text has one."""

    start: int
    end: int


def sample_spans(
    tokens,
    objective,
    rng,
    *,
    has_cls=True,
    has_eos=False,
    mask_ratio=0.15,
    mean_length=3.0,
    max_length=40,
    blanks="budget",
    document_ratio=(0.5, 1.0),
    sentence_ends=None,
    starts_sentence=True,
):
    """Spans to blank, in text order: at least one, except for "sentence" in a text without a whole sentence.

    tokens: ids. has_cls, has_eos: whether the first token is cls and the last is eos; cls is never blanked,
    eos only at the end of a document span. blanks: how the number of token spans is chosen: "budget", until
    mask_ratio is reached, or "drawn", by `span_count`. sentence_ends: for every id of the vocabulary,
    whether it ends a sentence. starts_sentence: whether the first text token begins one.
    """
    first, end = int(has_cls), len(tokens) - int(has_eos)
    if end <= first:
        raise MinglmError(
            f"tokens: {len(tokens)} of them leave nothing to blank; at least one text token is needed"
        )
    if objective == "document":
        return [document_span(first, len(tokens), rng, *document_ratio)]
    budget = max(1, int(mask_ratio * len(tokens)))
    if objective == "token":
        count = None
        if blanks == "drawn":
            count = span_count(mask_ratio * len(tokens), rng, mean_length, max_length)
        return token_spans(first, end, budget, rng, mean_length, max_length, count)
    if objective == "sentence":
        if sentence_ends is None:
            raise MinglmError(
                "sentence_ends: the sentence objective needs to know which tokens end a sentence"
            )
        sentences = whole_sentences(tokens, first, end, has_eos, sentence_ends, starts_sentence)
        return sentence_spans(sentences, budget, rng)
    raise MinglmError(f"objective: {objective!r} is not one of {', '.join(OBJECTIVES)}")


def span_count(budget, rng, mean_length=3.0, max_length=40):
    """A random number of token spans: uniform from 1 to about 2 m, where m spans cover `budget` on average.

    Example: 6 tokens in spans of 2 on average -> 1, 2, 3, 4 or 5.
    """
    return 1 + rng.integer(max(1, round(2 * budget / mean_length_of(mean_length, max_length)) - 1))


def mean_length_of(mean, max_length):
    """The mean of the lengths drawn, the sum of P(length > n): `mean` is that of a Poisson with zero."""
    cdf = poisson_cdf(mean, max_length)
    return len(cdf) - sum(cdf[:-1])


def token_spans(first, end, budget, rng, mean_length=3.0, max_length=40, count=None):
    """Short spans in [first, end), at least one token apart, until `budget` tokens are blanked or a few more.

    count: draw this many spans instead, whatever their lengths. (A budget gives lengths away: if a short text
    has one blank, that blank holds the whole budget. A model trained so writes too much into a single blank.)

    Lengths are Poisson(mean_length) without zero, below max_length (40 means at most 39, as in the original).
    To place the spans, shrink each span and the gap after it to a point, draw places for the points among the
    tokens that are left, and expand them again.

    Example: lengths 2 and 3 in 10 tokens leave 10 - 5 - 2 + 1 = 4 slots 0..4; slots 1 and 3 -> spans (1, 3)
    and (6, 9).
    """
    cdf = poisson_cdf(mean_length, max_length)
    lengths, blanked = [], 0
    while blanked < budget if count is None else len(lengths) < count:
        room = end - first - blanked - len(lengths)  # each span so far takes its tokens and one gap
        if room < 1:
            break  # the text is too short for more
        u = rng.uniform()
        length = min(room, 1 + next(n for n, p in enumerate(cdf) if u < p))
        lengths.append(length)
        blanked += length
    rng.shuffle(lengths)  # subtle: the last span drawn passes the budget, so it tends to be long
    free = end - first - blanked - len(lengths) + 1
    slots = sorted(rng.integer(free + 1) for _ in lengths)
    spans, shift = [], first
    for slot, length in zip(slots, lengths, strict=True):
        spans.append(Span(slot + shift, slot + shift + length))
        shift += length + 1
    return spans


@lru_cache
def poisson_cdf(mean, max_length):
    """P(length <= n) for n = 1, ..., max_length - 1 under Poisson(mean) without zero; the last entry is 1."""
    weights = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(1, max(2, max_length))]
    total, cdf = sum(weights), []
    for weight in weights:
        cdf.append((cdf[-1] if cdf else 0) + weight / total)
    return (*cdf[:-1], 1.0)


def whole_sentences(tokens, first, end, has_eos, sentence_ends, starts_sentence=True):
    """The spans of complete sentences in [first, end): from one end mark to the next.

    Tokens after the last end mark count only if the document ends there (has_eos).
    """
    spans, start = [], first if starts_sentence else None
    for i in range(first, end):
        if sentence_ends[tokens[i]]:
            if start is not None:
                spans.append(Span(start, i + 1))
            start = i + 1
    if has_eos and start is not None and start < end:
        spans.append(Span(start, end))
    return spans


def sentence_spans(sentences, budget, rng):
    """Random sentences until `budget` tokens are blanked, in text order. Neighbours may both be blanked."""
    chosen, blanked = [], 0
    for sentence in rng.shuffle(list(sentences)):
        if blanked >= budget:
            break
        chosen.append(sentence)
        blanked += sentence.end - sentence.start
    return sorted(chosen)


def document_span(first, end, rng, min_ratio=0.5, max_ratio=1.0):
    """A Span at the end of [first, end); its share is uniform in [min_ratio, max_ratio], at least 1 token."""
    shortest = max(1, math.ceil(min_ratio * (end - first)))
    longest = max(shortest, math.floor(max_ratio * (end - first)))
    return Span(end - shortest - rng.integer(longest - shortest + 1), end)
