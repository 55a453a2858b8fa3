"""Fine-tuning from start to end: a model learns a task with several seeds, and one table compares baselines.

Baselines are printed even when they win. For labels: the model before fine-tuning, TF-IDF with logistic
regression, the most frequent label and chance; for text to text: the copied source and a dictionary of words.
rivals=True adds the same training from random weights and, for labels, a linear head.
"""

import copy
import statistics
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import torch

from ..checks import check_pair
from ..errors import MinglmError, have
from ..families import text_limit
from ..measure.metrics import compare, measure, standard_error, tell_what_is_left_out
from ..modules import device_of
from ..rng import SAMPLING, permutation, stream_seed
from ..train.config import Finetuning
from ..train.distributed import choose_device
from ..train.finetune import LabelScorer, TextScorer, fit
from ..use.cloze import predict
from ..use.questions import ask_all
from ..use.rewrite import dials_of, generate
from ..use.tasks import TextToText
from .rivals import LinearHead, random_weights, tf_idf, word_for_word

RANDOM = "from random weights"


def finetune(
    model,
    tokenizer,
    task,
    train,
    dev,
    *,
    settings=Finetuning(),  # noqa: B008
    seeds=(0,),
    few_shot=None,
    test=None,
    rivals=False,
    say=print,
):
    """Fine-tune a copy of a model for a task -> (the GLM of the best seed on dev, a report as a dict).

    task: a Cloze or a TextToText. train, dev, test: {where a record comes from: record}; the table is about
    test or, without it, about dev. few_shot: learn from only so many records, drawn by seed (per label; for
    text to text, in all). rivals: also train the same model from random weights and, for labels, a linear
    head. The model itself stays as it is. Raises MinglmError when records do not fit the task or a label has
    no record. Run one at a time per process: dropout uses torch's global generator, which threads share.
    """
    check_pair(model, tokenizer)
    job = (Texts if isinstance(task, TextToText) else Labels)(model, tokenizer, task, train, dev, test)
    read, base = job.read, copy.deepcopy(model).to(choose_device("auto"))
    indices = {seed: range(len(read["train"])) for seed in seeds}
    if few_shot:
        indices = {seed: draw(task, read["train"], few_shot, seed) for seed in seeds}
    answers, runs, best = defaultdict(list, job.begin(base)), [], None
    for seed in seeds:
        questions = [read["train"][i] for i in indices[seed]]
        say(f"seed {seed:<6} {len(questions):,} texts to learn from")
        scorer = job.scorer(copy.deepcopy(base))
        history = fit(scorer, questions, read["dev"], settings, seed, task, say)
        ours = job.answers(scorer)
        answers[job.tuned].append(ours)
        top = max(history, key=lambda epoch: scorer.value(task, epoch))
        runs.append(dict(seed=seed, texts=len(questions), best_epoch=top["epoch"], history=history))
        if best is None or scorer.value(task, top) > best[0]:
            best = scorer.value(task, top), scorer.model, ours, dict(seed=seed, epoch=top["epoch"])
        for name, how, rival in job.rivals(base, seed) if rivals else ():
            say(f"{name}{how}, trained the same way")
            fit(rival, questions, read["dev"], settings, seed, task, say)
            answers[name].append(job.answers(rival))
        for name, theirs in job.counted(indices[seed], questions):
            answers[name].append(theirs)
    _, tuned, ours, kept = best
    report = dict(
        task=task.name,
        metric=job.metric,
        few_shot=few_shot,
        settings={name: value for name, value in asdict(settings).items() if name != "steps"},
        texts={name: len(part) for name, part in read.items()},
        about=job.about,
        kept=kept,
        scores=job.table(answers),
        seeds=runs,
        **job.details(ours),
    )
    return tuned, report


def draw(task, questions, few_shot, seed):
    """Indices of `few_shot` questions per label, drawn by seed; in all, if records bring their labels."""
    classes = [[i for i, q in enumerate(questions) if q.gold == label] for label in range(len(task.labels))]
    indices = []
    for number, members in enumerate(classes or [list(range(len(questions)))]):
        if len(members) < few_shot:
            what = f"with the label {task.labels[number]!r}" if task.labels else "in all"
            raise MinglmError(f"--few-shot: {few_shot} given; there are {len(members)} rows {what}")
        indices += [members[i] for i in permutation(len(members), seed, number, 0, SAMPLING)[:few_shot]]
    return sorted(indices)


class Job:
    """A task and all its records, as read by a model: what labels and text to text share."""

    def __init__(self, model, tokenizer, task, train, dev, test):
        parts = dict(train=train, dev=dev) | (dict(test=test) if test else {})
        limit = text_limit(model.config, isinstance(task, TextToText))
        self.task, self.tokenizer, self.about = task, tokenizer, "test" if test else "dev"
        self.records = {name: list(part.values()) for name, part in parts.items()}
        self.read = {name: ask_all(task, tokenizer, part, limit, True) for name, part in parts.items()}


class Labels(Job):
    """A choice among labels (Cloze)."""

    tuned, ZERO_SHOT, HEAD = "fine-tuned cloze", "zero-shot cloze", "linear head"
    TF_IDF, MAJORITY, CHANCE = "TF-IDF, logistic regression", "most frequent label", "chance"

    def __init__(self, model, tokenizer, task, train, dev, test):
        super().__init__(model, tokenizer, task, train, dev, test)
        self.metric = task.metric
        for label, name in enumerate(task.labels):
            if not any(q.gold == label for q in self.read["train"]):
                rule = f"each of {', '.join(task.labels)} needs at least one"
                raise MinglmError(f"train: no row with the label {name!r}; {rule}")

    def scorer(self, model):
        return LabelScorer(model, self.task.length_penalty)

    def answers(self, scorer):
        """The probabilities of each question's labels."""
        return predict(scorer, self.read[self.about])

    def begin(self, base):
        """Note what is not installed, before the work; {method: answers} of what needs no training."""
        self.counts_words = self.task.labels and have("sklearn", self.TF_IDF)
        return {self.ZERO_SHOT: [self.answers(self.scorer(base))]}

    def rivals(self, base, seed):
        """Yields (name, how, scorer) for each rival that is trained the same way."""
        yield RANDOM, "", self.scorer(random_weights(base.config, seed).to(device_of(base)))
        if self.task.labels:
            torch.manual_seed(stream_seed(seed, 0, 0, 0))
            head = LinearHead(copy.deepcopy(base), len(self.task.labels)).to(device_of(base))
            yield self.HEAD, " on the first state of Part A", head

    def counted(self, indices, questions):
        """Yields (name, answers) for each baseline without a network, from the training records drawn."""
        records, n = self.records, len(self.read[self.about])
        if self.counts_words:
            train, dev = [records["train"][i] for i in indices], (records["dev"], self.read["dev"])
            yield self.TF_IDF, tf_idf(self.task, train, questions, *dev, records[self.about])
        if self.task.labels:
            yield self.MAJORITY, [np.bincount([q.gold for q in questions]).argmax()] * n

    def table(self, answers):
        order = (self.tuned, self.ZERO_SHOT, RANDOM, self.HEAD, self.TF_IDF, self.MAJORITY)
        return label_table({name: answers[name] for name in order if name in answers}, self.read[self.about])

    def details(self, ours):
        records, questions = self.records[self.about], self.read[self.about]
        return dict(labels=self.task.labels, **mistakes(self.task, records, questions, ours))


class Texts(Job):
    """Text to text (TextToText)."""

    metric, tuned = "dev_loss", "fine-tuned GLM"
    COPY, WORDS = "copying the source", "word for word, by a dictionary"

    def __init__(self, model, tokenizer, task, train, dev, test):
        super().__init__(model, tokenizer, task, train, dev, test)
        self.pairs = {name: [self.pair_of(record) for record in part] for name, part in self.records.items()}
        self.sources, self.gold = zip(*self.pairs[self.about], strict=True)
        self.dials = dials_of(task)

    def pair_of(self, record):
        """(source, answer) of a record."""
        source = " ".join(record[column] for column in self.task.columns)
        return source.strip(), record[self.task.target].strip()

    def scorer(self, model):
        return TextScorer(model)

    def answers(self, scorer):
        """The text that a model writes for each source."""
        return generate(scorer.model, self.tokenizer, self.read[self.about], self.dials)

    def begin(self, base):
        """Note what is not installed, before the work; {method: answers} of what needs no training."""
        tell_what_is_left_out()
        return {self.COPY: [self.sources]}

    def rivals(self, base, seed):
        yield RANDOM, "", TextScorer(random_weights(base.config, seed).to(device_of(base)))

    def counted(self, indices, questions):
        yield self.WORDS, word_for_word([self.pairs["train"][i] for i in indices], self.sources)

    def table(self, answers):
        order = (self.tuned, RANDOM, self.WORDS, self.COPY)
        return text_table({name: answers[name] for name in order if name in answers}, self.gold)

    def details(self, ours):
        def cut(pairs):
            return dict(sources=sum(p.cut > 0 for p in pairs), answers=sum(p.cut_target > 0 for p in pairs))

        few = sorted({i * len(ours) // 20 for i in range(20)})
        return dict(
            dials={name: x for name, x in asdict(self.dials).items() if x},
            cut={name: cut(pairs) for name, pairs in self.read.items()},
            examples=[dict(source=self.sources[i], ours=ours[i], gold=self.gold[i]) for i in few],
        )


def label_table(answers, questions):
    """{method: scores}: means over seeds.

    standard_error: from the number of texts. between_seeds: standard deviation.
    """
    table = {}
    for method, of_seeds in answers.items():
        scores = [measure(predictions, questions) for predictions in of_seeds]
        accuracy, f1 = [s["accuracy"] for s in scores], [s["macro_f1"] for s in scores]
        table[method] = dict(
            accuracy=statistics.fmean(accuracy),
            standard_error=standard_error(statistics.fmean(accuracy), len(questions)),
            between_seeds=statistics.stdev(accuracy) if len(accuracy) > 1 else None,
            macro_f1=None if None in f1 else statistics.fmean(f1),
        )
    share = statistics.fmean(1 / len(q.labels) for q in questions)
    table[Labels.CHANCE] = dict(accuracy=share, standard_error=None, between_seeds=None, macro_f1=None)
    return table


def text_table(answers, gold):
    """{method: scores}: means over seeds, and their standard deviation if there are several seeds."""

    def over_seeds(how, scores):
        return {name: None if x is None else how([s[name] for s in scores]) for name, x in scores[0].items()}

    table = {}
    for method, of_seeds in answers.items():
        scores = [compare(texts, gold) for texts in of_seeds]
        spread = over_seeds(statistics.stdev, scores) if len(scores) > 1 else None
        table[method] = over_seeds(statistics.fmean, scores) | dict(between_seeds=spread)
    return table


def mistakes(task, records, questions, probabilities, most=20):
    """The confusion table {gold: {predicted: texts}}, and the wrong predictions with the most confidence."""
    confusion = {a: dict.fromkeys(task.labels, 0) for a in task.labels}
    wrong = []
    for record, q, p in zip(records, questions, probabilities, strict=True):
        gold, predicted = q.labels[q.gold], q.labels[int(p.argmax())]
        if task.labels:
            confusion[gold][predicted] += 1
        if gold != predicted:
            text = {column: record[column] for column in task.columns}
            wrong.append(dict(gold=gold, predicted=predicted, probability=float(p.max()), row=text))
    return dict(confusion=confusion, wrong=sorted(wrong, key=lambda w: -w["probability"])[:most])
