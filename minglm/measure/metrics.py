"""Metrics with standard errors: accuracy, macro F1, perplexity, BLEU, chrF and ROUGE."""

import math
import statistics

import numpy as np
import torch

from ..errors import MinglmError, have, missing, need

HIGHEST = 20.0  # nats: the original bounds the exponent of a perplexity
GROUPS = 50  # of records that the jackknife leaves out in turn


def metric(value, error, n, of):
    """A number, its standard error (None: unknown), and what it was counted over, e.g. 146 passages."""
    return dict(value=value, standard_error=error, n=n, of=of)


def perplexity_metric(nats, tokens, n, of, factor=1.0):
    """The metric of a `perplexity`. at_bound: whether it is the bound, so that the true one is larger."""
    value, error = perplexity(nats, tokens, factor)
    return metric(value, error, n, of) | dict(at_bound=is_bound(value))


def jackknife(statistic, n, most=GROUPS):
    """(value, standard error) of a statistic, a function of an array of indices of the n records.

    Up to `most` groups of neighbouring records are left out in turn (if n <= most, one record at a time).
    Neighbours, because they are alike: windows of one page, one paragraph with more and fewer blanks. The
    error of a single record is None.

    Example: for the mean of n <= most numbers, the error is their standard deviation / sqrt(n).
    """
    everything = np.arange(n)
    value, groups = statistic(everything), np.array_split(everything, min(n, most))
    if len(groups) < 2:
        return value, None
    without = np.array([statistic(np.setdiff1d(everything, group)) for group in groups])
    return value, math.sqrt((len(groups) - 1) * float(np.var(without)))


def mean_of(parts, wholes):
    """A statistic for `jackknife`: sum(parts) / sum(wholes) over the given records."""
    parts, wholes = np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)
    return lambda rows: float(parts[rows].sum() / wholes[rows].sum())


def perplexity(nats, tokens, factor=1.0):
    """(exp(factor * sum(nats) / sum(tokens)), its standard error), bounded as in the original.

    The error is that of the mean times the slope of exp there, because a jackknife of exp itself would be
    dominated by single records. At the bound it is None.
    """
    mean, error = jackknife(mean_of(nats, tokens), len(nats))
    value = bounded_exp(factor * mean)
    return value, None if error is None or is_bound(value) else value * factor * error


def bounded_exp(nats):
    """exp(nats), but never more than exp(HIGHEST)."""
    return math.exp(min(HIGHEST, nats))


def is_bound(perplexity):
    """Whether a perplexity is at the bound, so that the true one may be larger."""
    return perplexity >= math.exp(HIGHEST)


def number(name, value, error=None):
    """A metric as text, e.g. number("accuracy", 0.712, 0.014) -> "71.2 % +- 1.4"; a bound is marked."""
    if name.startswith(("accuracy", "macro_f1", "exact_match")):
        return percent(value, error)
    if "perplexity" in name and is_bound(value):
        return f"over {value:,.0f}, its bound"
    digits = 3 if name.startswith("bits") else 1 if value < 1e6 else 0
    return f"{value:.{digits}f}" + (f" +- {error:.{digits}f}" if error is not None else "")


# ---- BLEU ------------------------------------------------------------------------------------------------


def bleu_counts(candidates, references):
    """The counts that BLEU sums over texts: (texts, 10): 4 matches, 4 totals, 2 lengths.

    Raises MinglmError without sacrebleu.
    """
    need("sacrebleu", "BLEU")
    from sacrebleu.metrics import BLEU

    scorer, counts = BLEU(effective_order=True), []
    for candidate, reference in zip(candidates, references, strict=True):
        x = scorer.sentence_score(candidate, [reference])
        counts.append([*x.counts, *x.totals, x.sys_len, x.ref_len])
    return np.array(counts)


def bleu_of(counts):
    """BLEU (0 to 100) of all texts together, from rows of `bleu_counts`; equals sacrebleu's corpus_score."""
    from sacrebleu.metrics import BLEU

    total = counts.sum(0).tolist()
    return BLEU.compute_bleu(total[:4], total[4:8], total[8], total[9], smooth_method="exp").score


# ---- labels and texts ------------------------------------------------------------------------------------


def measure(predictions, questions):
    """{"accuracy", "macro_f1"} of predictions (probabilities or label indices) for labelled questions.

    Macro F1 is the mean F1 of all labels that are gold or predicted; None if records bring their own
    candidates.
    """
    labels = [int(p.argmax()) if torch.is_tensor(p) else int(p) for p in predictions]
    pairs = list(zip([q.gold for q in questions], labels, strict=True))
    right = sum(a == b for a, b in pairs)
    f1 = []
    for label in {label for pair in pairs for label in pair}:
        both = sum(a == b == label for a, b in pairs)
        f1.append(2 * both / sum((a == label) + (b == label) for a, b in pairs))
    same = all(q.labels == questions[0].labels for q in questions)
    return dict(accuracy=right / len(pairs), macro_f1=statistics.fmean(f1) if same else None)


def standard_error(share, n):
    """The standard error of a share counted over n texts: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / n)


def percent(share, error=None):
    """A share and its error as text. Example: percent(0.712, 0.014) -> "71.2 % +- 1.4"."""
    return f"{100 * share:.1f} %" + (f" +- {100 * error:.1f}" if error is not None else "")


NAMES = dict(bleu="BLEU", chrf="chrF", rouge1="ROUGE-1", rouge2="ROUGE-2", rougeL="ROUGE-L", exact="exact")


def bleu(hypotheses, references):
    """{"bleu", "chrf"} of a corpus with one reference per text, 0 .. 100, with sacrebleu's defaults."""
    _check_lengths(hypotheses, references)
    need("sacrebleu", "BLEU and chrF")
    from sacrebleu.metrics import BLEU, CHRF

    # force: no warning about texts that look split into words
    scorers, texts = dict(bleu=BLEU(force=True), chrf=CHRF()), (list(hypotheses), [list(references)])
    return {name: scorer.corpus_score(*texts).score for name, scorer in scorers.items()}


def rouge(hypotheses, references):
    """{"rouge1", "rouge2", "rougeL"}: mean F1 over the texts, 0 .. 100, words stemmed.

    rouge-score knows a-z and 0-9 only.
    """
    _check_lengths(hypotheses, references)
    need("rouge_score", "ROUGE")
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=True)
    scores = [scorer.score(gold, text) for text, gold in zip(hypotheses, references, strict=True)]
    return {name: 100 * statistics.fmean(f[name].fmeasure for f in scores) for name in names}


def tell_what_is_left_out():
    """Print a note for each library of `compare` that is missing; call it before long work."""
    have("sacrebleu", "BLEU and chrF")
    have("rouge_score", "ROUGE")


def compare(hypotheses, references):
    """{"bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact"}, 0 .. 100; None where a library is missing."""
    _check_lengths(hypotheses, references)
    scores = dict.fromkeys(NAMES)
    for module, metric in (("sacrebleu", bleu), ("rouge_score", rouge)):
        scores |= {} if missing(module) else metric(hypotheses, references)
    same = [text.strip() == gold.strip() for text, gold in zip(hypotheses, references, strict=True)]
    return scores | dict(exact=100 * statistics.fmean(same))


def _check_lengths(hypotheses, references):
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise TypeError("hypotheses, references: lists of texts are accepted, str given")
    if not references or len(hypotheses) != len(references):
        what = f"{len(hypotheses)} for {len(references)} references"
        raise MinglmError(f"hypotheses: {what}; one for each is needed")


def scores_line(scores):
    """Example: scores_line({"bleu": 45.71, "exact": 1.0}) -> "BLEU 45.7   exact 1.0 %"."""
    known = {name: x for name, x in scores.items() if name in NAMES and x is not None}
    return "   ".join(f"{NAMES[n]} {x:.1f}" + (" %" if n == "exact" else "") for n, x in known.items())
