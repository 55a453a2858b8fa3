"""Text to text as filling a blank: the source is Part A, and the answer is written into its one mask (paper section 2.3).

    "{src} [gMASK]"       Part A   [CLS] He saith unto them. [gMASK]
                          Part B   sop He says to them.                  each row learns the next token, the last one eop

Nothing is new in the model: learning is the loss of pretraining on these rows, smoothed; an answer is written as `fill` and
`write` do. How good it is, is said in BLEU, chrF, ROUGE and exact matches, beside what costs nothing: copying the source.
"""

import copy
import statistics
from collections.abc import Mapping
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..batch import in_runs, pack
from ..checks import check_pair, finite
from ..compare.rivals import random_weights, word_for_word
from ..errors import MinglmError, have, missing, need
from ..families import text_limit
from ..modules import evaluating
from ..train.config import Finetuning
from ..train.finetune import RANDOM, Aim, draw, fit
from ..train.pretrain import choose_device
from .cloze import MAX_ROWS, columns, device_of
from .generate import Dials, Draft, fill_drafts
from .tasks import TextToText, ask_all, read_task

TUNED, COPY, WORDS = "fine-tuned GLM", "copying the source", "word for word, by a dictionary"
NAMES = dict(bleu="BLEU", chrf="chrF", rouge1="ROUGE-1", rouge2="ROUGE-2", rougeL="ROUGE-L", exact="exact")

# ---- learning ------------------------------------------------------------------------------------------------------------


class TextScorer(nn.Module):
    """A GLM that reads pairs as it did in pretraining: one sample each."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def rows(self, pair):
        """How many rows a pair takes in a batch."""
        return len(pair.part_a) + len(pair.targets)

    def forward(self, pairs):
        """Pairs -> logits of the next token of all rows of Part B, (M, V), and what it is, (M,)."""
        batch = pack([pair.example(self.model.config.family) for pair in pairs]).to(device_of(self.model))
        return self.model(*columns(batch), rows=batch.target_rows), batch.targets


def text_losses(scorer, pairs, settings):
    """(1 - e) * -log p(target) + e * mean over the vocabulary of -log p, for every row of Part B: (M,)."""
    return F.cross_entropy(*scorer(pairs), reduction="none", label_smoothing=settings.label_smoothing)


def count_targets(pairs):
    return sum(len(pair.targets) for pair in pairs)


@torch.no_grad()
def dev_loss(scorer, pairs):
    """{"dev_loss"}: the mean over all targets of -log p, in nats; nothing is smoothed here."""
    scorer = evaluating(scorer)
    losses = [F.cross_entropy(*scorer(run), reduction="sum") for run in in_runs(pairs, scorer.rows, MAX_ROWS)]
    return dict(dev_loss=sum(finite(torch.stack(losses), "the model's losses on dev").tolist()) / count_targets(pairs))


# An epoch is chosen by the loss on dev, which costs a reading; BLEU of as many texts would cost their writing, and is noisier.
TEXTS = Aim(text_losses, count_targets, dev_loss, lambda task, scores: -scores["dev_loss"],
            lambda scores: f"loss {scores['dev_loss']:.3f} a token")  # fmt: skip


def finetune_text(model, tokenizer, task, train, dev, *, settings=Finetuning(), seeds=(0,), few_shot=None, test=None,  # noqa: B008
                  rivals=False, say=print):  # fmt: skip
    """Fine-tune a copy of a model for text to text -> (the GLM of the best seed on dev, a report as a dict).

    task: a TextToText. train, dev, test: {where it stands: row}; the table is about test, or about dev where there is none.
    few_shot: learn from so many rows only, drawn by seed. rivals: the same from random weights as well.
    Raises MinglmError when rows do not fit the task.
    """
    check_pair(model, tokenizer)
    limit, device = text_limit(model.config, True), choose_device("auto", None)
    read = {name: ask_all(task, tokenizer, rows, limit, labelled=True)
            for name, rows in (("train", train), ("dev", dev), ("test", test)) if rows}  # fmt: skip
    texts = {name: len(pairs) for name, pairs in read.items()}
    about = "test" if test else "dev"
    sources, gold = zip(*(_source_and_gold(task, row) for row in (test or dev).values()), strict=True)
    drawn = [draw(task, read["train"], few_shot, seed) if few_shot else range(len(read["train"])) for seed in seeds]
    tell_what_is_left_out()
    learned_from, dials = [_source_and_gold(task, row) for row in train.values()], dials_of(task)
    base, answers, runs, best = copy.deepcopy(model).to(device), {}, [], None
    for seed, chosen in zip(seeds, drawn, strict=True):
        say(f"seed {seed:<6} {len(chosen):,} texts to learn from")
        scorer = TextScorer(copy.deepcopy(base))
        history = fit(scorer, [read["train"][i] for i in chosen], read["dev"], settings, seed, task, say, TEXTS)
        said = generate(scorer.model, tokenizer, read[about], dials)
        answers.setdefault(TUNED, []).append(said)
        if rivals:
            say(f"{RANDOM}, trained the same way")
            scratch = TextScorer(random_weights(base.config, seed).to(device))
            fit(scratch, [read["train"][i] for i in chosen], read["dev"], settings, seed, task, say, TEXTS)
            answers.setdefault(RANDOM, []).append(generate(scratch.model, tokenizer, read[about], dials))
        answers.setdefault(WORDS, []).append(word_for_word([learned_from[i] for i in chosen], sources))
        top = min(history, key=lambda epoch: epoch["dev_loss"])
        runs.append(dict(seed=seed, texts=len(chosen), best_epoch=top["epoch"], history=history))
        if best is None or top["dev_loss"] < best[0]:
            best = top["dev_loss"], scorer.model, said, dict(seed=seed, epoch=top["epoch"])
    answers[COPY] = [sources]
    _, tuned, said, kept = best
    few = sorted({i * len(said) // 20 for i in range(20)})
    report = dict(
        task=task.name, metric="dev_loss", few_shot=few_shot, dials={name: x for name, x in asdict(dials).items() if x},
        settings={name: value for name, value in asdict(settings).items() if name != "steps"},
        texts=texts, about=about, kept=kept, scores=table_of(answers, gold), seeds=runs,
        cut={name: dict(sources=sum(p.cut > 0 for p in pairs), answers=sum(p.cut_target > 0 for p in pairs))
             for name, pairs in read.items()},
        examples=[dict(source=sources[i], ours=said[i], gold=gold[i]) for i in few],
    )  # fmt: skip
    return tuned, report


def _source_and_gold(task, row):
    """(the texts of its columns, the answer) of a row, as texts."""
    return " ".join(row[column] for column in task.columns).strip(), row[task.target].strip()


def table_of(answers, gold):
    """{method: scores}: means over seeds, and the deviation between seeds where there are several."""
    def over_seeds(how, scores):
        return {name: None if x is None else how([s[name] for s in scores]) for name, x in scores[0].items()}

    table = {}
    for method in filter(answers.get, (TUNED, RANDOM, WORDS, COPY)):
        scores = [compare(said, gold) for said in answers[method]]
        spread = over_seeds(statistics.stdev, scores) if len(scores) > 1 else None
        table[method] = over_seeds(statistics.fmean, scores) | dict(between_seeds=spread)
    return table


# ---- answers -------------------------------------------------------------------------------------------------------------


def dials_of(task, **given):
    """The Dials that a task sets, but for what is given and not None."""
    return Dials(**{**task.dials, **{name: value for name, value in given.items() if value is not None}})


@torch.inference_mode()
def generate(model, tokenizer, pairs, dials):
    """What the model writes for each Pair -> texts, in their order: many side by side, each as it would be alone.

    dials: Dials. Their beams search one text at a time, the beams side by side.
    """
    check_pair(model, tokenizer)
    most, texts = dials.max_tokens or model.config.max_positions, [""] * len(pairs)
    alike = sorted(range(len(pairs)), key=lambda i: len(pairs[i].part_a))  # those that go together end together, about
    with tqdm(total=len(pairs), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in ([i] for i in alike) if dials.width else in_runs(alike, lambda i: len(pairs[i].part_a) + most, MAX_ROWS):
            drafts = [Draft(model, tokenizer, _text_of(pairs[i]), dials) for i in run]
            for i, draft in zip(run, fill_drafts(model, drafts, dials), strict=True):
                texts[i] = tokenizer.decode(draft.blanks[0].tokens).strip()
            bar.update(len(run))
    return texts


def _text_of(pair):
    """Part A without its cls and eos, which Draft adds by itself."""
    return pair.part_a[1:-1] if pair.part_a[-1] == pair.special.eos else pair.part_a[1:]


def rewrite(model, tokenizer, task, texts, **dials):
    """What a model makes of a text -> a text; of a list of them -> a list.

    task: a TextToText, or what `read_task` reads. texts: a row with the task's columns as a dict, or its text where the task
    has one column. dials: fields of `Dials` that differ from the task's, e.g. beams=5. Raises MinglmError as `ask` does.

    Example: rewrite(model, tokenizer, "modernise", "He saith unto them.") -> "He says to them."
    """
    task = task if isinstance(task, TextToText) else read_task(task, TextToText)
    single = isinstance(texts, str | Mapping)
    rows = {}
    for n, text in enumerate([texts] if single else texts, 1):
        if isinstance(text, str) and len(task.columns) > 1:
            raise MinglmError(f"{task.name}: a text for each of {', '.join(task.columns)} is needed, as a dict")
        rows["text" if single else f"text {n}"] = {task.columns[0]: text} if isinstance(text, str) else text
    pairs = ask_all(task, tokenizer, rows, text_limit(model.config, True))
    found = generate(model, tokenizer, pairs, dials_of(task, **dials))
    return found[0] if single else found


# ---- how good an answer is -----------------------------------------------------------------------------------------------


def bleu(hypotheses, references):
    """{"bleu", "chrf"} of a corpus with one reference a text, 0 .. 100, as sacrebleu's defaults say (13a words, case kept)."""
    _check_lengths(hypotheses, references)
    need("sacrebleu", "BLEU and chrF")
    from sacrebleu.metrics import BLEU, CHRF

    scores = dict(bleu=BLEU(force=True), chrf=CHRF())  # force: no warning about texts that look split into words
    return {name: metric.corpus_score(list(hypotheses), [list(references)]).score for name, metric in scores.items()}


def rouge(hypotheses, references):
    """{"rouge1", "rouge2", "rougeL"}: mean F1 over the texts, 0 .. 100, words stemmed (rouge-score knows a-z and 0-9 only)."""
    _check_lengths(hypotheses, references)
    need("rouge_score", "ROUGE")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(names := ["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    found = [scorer.score(gold, said) for said, gold in zip(hypotheses, references, strict=True)]
    return {name: 100 * statistics.fmean(f[name].fmeasure for f in found) for name in names}


def tell_what_is_left_out():
    """A note for each library of `compare` that is missing, before the work: one may still install it."""
    have("sacrebleu", "BLEU and chrF")
    have("rouge_score", "ROUGE")


def compare(hypotheses, references):
    """{"bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact"}, 0 .. 100; None where a library is missing."""
    _check_lengths(hypotheses, references)
    scores = dict.fromkeys(NAMES)
    for module, metric in (("sacrebleu", bleu), ("rouge_score", rouge)):
        scores |= {} if missing(module) else metric(hypotheses, references)
    same = [said.strip() == gold.strip() for said, gold in zip(hypotheses, references, strict=True)]
    return scores | dict(exact=100 * statistics.fmean(same))


def _check_lengths(hypotheses, references):
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise TypeError("hypotheses, references: lists of texts are accepted, str given")
    if not references or len(hypotheses) != len(references):
        raise MinglmError(f"hypotheses: {len(hypotheses)} for {len(references)} references; one for each is needed")


def scores_line(scores):
    """Example: scores_line({"bleu": 45.71, "exact": 1.0}) -> "BLEU 45.7   exact 1.0 %"."""
    return "   ".join(f"{NAMES[name]} {x:.1f}{' %' * (name == 'exact')}" for name, x in scores.items()
                      if name in NAMES and x is not None)  # fmt: skip
