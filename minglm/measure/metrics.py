"""What every scorer needs: a number and how sure it is, BLEU, and rows that hold what they must."""

import math
import reprlib
from contextlib import contextmanager

import numpy as np

from ..errors import MinglmError, need
from ..use.cloze import percent

HIGHEST = 20.0  # nats: the original's bound of what it takes the exponential of
GROUPS = 50  # of rows that are left out in turn


def metric(value, error, n, of):
    """A number, its standard error (None: unknown), and what it was counted over, e.g. 146 passages."""
    return dict(value=value, standard_error=error, n=n, of=of)


def perplexity_metric(nats, tokens, n, of, factor=1.0):
    """The metric of a `perplexity`; at_bound: it is the bound, so the true one is larger."""
    value, error = perplexity(nats, tokens, factor)
    return metric(value, error, n, of) | dict(at_bound=is_bound(value))


def jackknife(statistic, n, most=GROUPS):
    """(value, standard error) of a statistic that takes the indices of the rows that count, an array.

    Up to `most` runs of neighbouring rows are left out in turn. Runs, because neighbours are alike: windows of one page, one
    paragraph with more and fewer blanks. With n <= most, it is one row at a time. A single row has no error, None.

    Example: of the mean of n <= most numbers it is their standard deviation / sqrt(n).
    """
    everything = np.arange(n)
    value, groups = statistic(everything), np.array_split(everything, min(n, most))
    if len(groups) < 2:
        return value, None
    without = np.array([statistic(np.setdiff1d(everything, group)) for group in groups])
    return value, math.sqrt((len(groups) - 1) * float(np.var(without)))


def mean_of(parts, wholes):
    """A statistic for `jackknife`: sum(parts) / sum(wholes) of the rows that count."""
    parts, wholes = np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)
    return lambda rows: float(parts[rows].sum() / wholes[rows].sum())


def perplexity(nats, tokens, factor=1.0):
    """(exp(factor * sum(nats) / sum(tokens)), its standard error), bounded as the original's; at the bound there is no error.

    The error is that of the mean times the slope of exp there: exp itself would let single rows run away with it.
    """
    mean, error = jackknife(mean_of(nats, tokens), len(nats))
    value = bounded_exp(factor * mean)
    return value, None if error is None or is_bound(value) else value * factor * error


def bounded_exp(nats):
    """exp(nats), but never more than exp(HIGHEST)."""
    return math.exp(min(HIGHEST, nats))


def is_bound(perplexity):
    """Whether a perplexity is the bound, so that the true one may be any larger number."""
    return perplexity >= math.exp(HIGHEST)


def number(name, value, error=None):
    """A metric as people read it. Example: number("accuracy", 0.712, 0.014) -> "71.2 % +- 1.4". A bound shows as one."""
    if name.startswith(("accuracy", "macro_f1", "exact_match")):
        return percent(value, error)
    if "perplexity" in name and is_bound(value):
        return f"over {value:,.0f}, its bound"
    digits = 3 if name.startswith("bits") else 1 if value < 1e6 else 0
    return f"{value:.{digits}f}" + (f" +- {error:.{digits}f}" if error is not None else "")


# ---- BLEU -----------------------------------------------------------------------------------------------------------------


def bleu_counts(candidates, references):
    """What BLEU adds up over texts: (texts, 10), 4 matches, 4 totals, both lengths. Raises MinglmError without sacrebleu."""
    need("sacrebleu", "BLEU")
    from sacrebleu.metrics import BLEU

    scorer, counts = BLEU(effective_order=True), []
    for candidate, reference in zip(candidates, references, strict=True):
        x = scorer.sentence_score(candidate, [reference])
        counts.append([*x.counts, *x.totals, x.sys_len, x.ref_len])
    return np.array(counts)


def bleu_of(counts):
    """BLEU (0 to 100) of texts together, from the rows of `bleu_counts`: what sacrebleu's corpus_score says."""
    from sacrebleu.metrics import BLEU

    total = counts.sum(0).tolist()
    return BLEU.compute_bleu(total[:4], total[4:8], total[8], total[9], smooth_method="exp").score


# ---- rows that are not as they should be ---------------------------------------------------------------------------------


@contextmanager
def told_where(where):
    """Errors inside it begin with where the row stands."""
    try:
        yield
    except MinglmError as error:
        raise MinglmError(f"{where}: {error}") from None


def text_in(row, column):
    """The text of a row's column."""
    if column not in row:
        names = ", ".join(map(repr, list(row)[:12])) or "none"
        raise MinglmError(f"no column {column!r}; the columns there are: {names[:200]}")
    if not isinstance(row[column], str):
        raise MinglmError(f"{column}: {reprlib.repr(row[column])} is not accepted; a text is")
    return row[column]
