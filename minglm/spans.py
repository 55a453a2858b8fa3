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
    """Half-open: the tokens start, ..., end - 1 of the text as given (cls included where there is one)."""

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
    """Spans to blank, in text order: at least one, unless the objective is "sentence" and there is no whole sentence.

    tokens: ids. has_cls, has_eos: whether the first token is cls and the last is eos; cls is never blanked,
    eos only as the end of a document span. blanks: how many token spans there are, "budget" or "drawn" (see
    `token_spans`). sentence_ends: for every id of the vocabulary, whether it ends a sentence;
    starts_sentence: whether a sentence begins at the first text token (False in the middle of a cut
    document).
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
        count = (
            span_count(mask_ratio * len(tokens), rng, mean_length, max_length) if blanks == "drawn" else None
        )
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
    """A number of token spans that cover `budget` tokens on average, drawn evenly from 1 to about twice that number.

    Example: 6 tokens in spans of 2 on average -> 1, 2, 3, 4 or 5.
    """
    cdf = poisson_cdf(mean_length, max_length)
    mean = len(cdf) - sum(cdf[:-1])  # of a length: the sum of P(length > n)
    return 1 + rng.integer(max(1, round(2 * budget / mean) - 1))


def token_spans(first, end, budget, rng, mean_length=3.0, max_length=40, count=None):
    """Short spans in [first, end), at least one token apart, until `budget` tokens are blanked (the last may overshoot).

    count: so many spans instead, whatever their lengths. A budget lets a model guess lengths: the only blank
    of a sentence, for example, must hold all of it, and so a model trained with budgets on short texts writes
    too much into one blank.

    Lengths are Poisson(mean_length) without zero, below max_length (40 means at most 39, as in the original).
    Where they go: shrink every span and the gap behind it to a point, throw the points into the room that is
    left, and blow them up.

    Example: lengths 2 and 3 in 10 tokens leave 10 - 5 - 2 + 1 = 4 slots 0..4; slots 1 and 3 -> spans (1, 3)
    and (6, 9).
    """
    cdf = poisson_cdf(mean_length, max_length)
    lengths, blanked = [], 0
    while blanked < budget if count is None else len(lengths) < count:
        room = end - first - blanked - len(lengths)  # each span so far takes its tokens and one gap
        if room < 1:
            break  # a text of a few tokens: what fits is blanked
        u = rng.uniform()
        length = min(room, 1 + next(n for n, p in enumerate(cdf) if u < p))
        lengths.append(length)
        blanked += length
    rng.shuffle(lengths)  # subtle: the last one drawn passed the budget, so it is a long one
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
    """The sentences that lie whole in [first, end): from one end mark to the next.

    What follows the last end mark counts only if the document ends there (has_eos).
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
    """Sentences in random order until `budget` tokens are blanked, then back in text order. Neighbours may both go."""
    chosen, blanked = [], 0
    for sentence in rng.shuffle(list(sentences)):
        if blanked >= budget:
            break
        chosen.append(sentence)
        blanked += sentence.end - sentence.start
    return sorted(chosen)


def document_span(first, end, rng, min_ratio=0.5, max_ratio=1.0):
    """One span at the end of [first, end), its length uniform between the two shares of it, at least 1."""
    shortest = max(1, math.ceil(min_ratio * (end - first)))
    longest = max(shortest, math.floor(max_ratio * (end - first)))
    return Span(end - shortest - rng.integer(longest - shortest + 1), end)
