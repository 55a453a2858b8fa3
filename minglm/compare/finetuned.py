"""Fine-tuning from start to end: a model learns a task with several seeds, and its baselines stand in the same table.

Baselines are printed even when they win. For labels: the model before fine-tuning, TF-IDF with logistic
regression, the most frequent label and chance; for text to text: the copied source and a dictionary of words.
With rivals=True the same training from random weights is added, and for labels a linear head.
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
    settings=Finetuning(),
    seeds=(0,),
    few_shot=None,
    test=None,  # noqa: B008
    rivals=False,
    say=print,
):
    """Fine-tune a copy of a model for a task -> (the GLM of the best seed on dev, a report as a dict).

    task: a Cloze or a TextToText. train, dev, test: {where a record stands: record}; the table is about test,
    or about dev without a test. few_shot: learn from so many records only, drawn by seed: of each label, for
    text to text in all. rivals: also train the same model from random weights and, for labels, a linear head.
    Raises MinglmError when records do not fit the task or a label has no record. The model itself stays as it
    is. Run one at a time per process: dropout draws from torch's own generator, which all threads share.
    """
    check_pair(model, tokenizer)
    kind = (Texts if isinstance(task, TextToText) else Labels)(model, tokenizer, task, train, dev, test)
    read, base = kind.read, copy.deepcopy(model).to(choose_device("auto"))
    drawn = [
        draw(task, read["train"], few_shot, seed) if few_shot else range(len(read["train"])) for seed in seeds
    ]
    answers, runs, best = defaultdict(list, kind.untrained(base)), [], None
    for seed, chosen in zip(seeds, drawn, strict=True):
        learned = [read["train"][i] for i in chosen]
        say(f"seed {seed:<6} {len(learned):,} texts to learn from")
        scorer = kind.scorer(copy.deepcopy(base))
        history = fit(scorer, learned, read["dev"], settings, seed, task, say)
        said = kind.answers(scorer)
        answers[kind.tuned].append(said)
        top = max(history, key=lambda epoch: scorer.value(task, epoch))
        runs.append(dict(seed=seed, texts=len(learned), best_epoch=top["epoch"], history=history))
        if best is None or scorer.value(task, top) > best[0]:
            best = scorer.value(task, top), scorer.model, said, dict(seed=seed, epoch=top["epoch"])
        for name, how, rival in kind.rivals(base, seed) if rivals else ():
            say(f"{name}{how}, trained the same way")
            fit(rival, learned, read["dev"], settings, seed, task, say)
            answers[name].append(kind.answers(rival))
        for name, said in kind.counted(chosen, learned):
            answers[name].append(said)
    _, tuned, said, kept = best
    report = dict(
        task=task.name,
        metric=kind.metric,
        few_shot=few_shot,
        settings={name: value for name, value in asdict(settings).items() if name != "steps"},
        texts={name: len(asked) for name, asked in read.items()},
        about=kind.about,
        kept=kept,
        scores=kind.table(answers),
        seeds=runs,
        **kind.details(said),
    )
    return tuned, report


def draw(task, questions, few_shot, seed):
    """Numbers of `few_shot` questions of each label (in all, where rows bring their own candidates), drawn by seed."""
    classes = [[i for i, q in enumerate(questions) if q.gold == label] for label in range(len(task.labels))]
    chosen = []
    for number, members in enumerate(classes or [list(range(len(questions)))]):
        if len(members) < few_shot:
            what = f"with the label {task.labels[number]!r}" if task.labels else "in all"
            raise MinglmError(f"--few-shot: {few_shot} given; there are {len(members)} rows {what}")
        chosen += [members[i] for i in permutation(len(members), seed, number, 0, SAMPLING)[:few_shot]]
    return sorted(chosen)


class Job:
    """A task, and all records read for it: what labels and text to text share."""

    def __init__(self, model, tokenizer, task, train, dev, test):
        records = dict(train=train, dev=dev) | (dict(test=test) if test else {})
        limit = text_limit(model.config, isinstance(task, TextToText))
        self.task, self.tokenizer, self.about = task, tokenizer, "test" if test else "dev"
        self.records = {name: list(some.values()) for name, some in records.items()}
        self.read = {
            name: ask_all(task, tokenizer, some, limit, labelled=True) for name, some in records.items()
        }


class Labels(Job):
    """A choice among labels (Cloze)."""

    tuned, ZERO_SHOT, HEAD = "fine-tuned cloze", "zero-shot cloze", "linear head"
    TF_IDF, MAJORITY, CHANCE = "TF-IDF, logistic regression", "most frequent label", "chance"

    def __init__(self, model, tokenizer, task, train, dev, test):
        super().__init__(model, tokenizer, task, train, dev, test)
        self.metric = task.metric
        for label, name in enumerate(task.labels):
            if not any(q.gold == label for q in self.read["train"]):
                raise MinglmError(
                    f"train: no row with the label {name!r}; each of {', '.join(task.labels)} needs at least one"
                )
        self.counts_words = task.labels and have(
            "sklearn", self.TF_IDF
        )  # a note, where it is not, before the work

    def scorer(self, model):
        return LabelScorer(model, self.task.length_penalty)

    def answers(self, scorer):
        """The probabilities of each question's labels."""
        return predict(scorer, self.read[self.about])

    def untrained(self, base):
        return {self.ZERO_SHOT: [self.answers(self.scorer(base))]}

    def rivals(self, base, seed):
        """(name, how, scorer) of what is trained in the same way."""
        yield RANDOM, "", self.scorer(random_weights(base.config, seed).to(device_of(base)))
        if self.task.labels:
            torch.manual_seed(stream_seed(seed, 0, 0, 0))
            head = LinearHead(copy.deepcopy(base), len(self.task.labels)).to(device_of(base))
            yield self.HEAD, " on the first state of Part A", head

    def counted(self, chosen, learned):
        """(name, answers) of what takes no network."""
        records, asked = self.records, self.read[self.about]
        if self.counts_words:
            train = [records["train"][i] for i in chosen]
            yield (
                self.TF_IDF,
                tf_idf(self.task, train, learned, records["dev"], self.read["dev"], records[self.about]),
            )
        if self.task.labels:
            yield self.MAJORITY, [np.bincount([q.gold for q in learned]).argmax()] * len(asked)

    def table(self, answers):
        order = (self.tuned, self.ZERO_SHOT, RANDOM, self.HEAD, self.TF_IDF, self.MAJORITY)
        return label_table({name: answers[name] for name in order if name in answers}, self.read[self.about])

    def details(self, said):
        return dict(
            labels=self.task.labels,
            **mistakes(self.task, self.records[self.about], self.read[self.about], said),
        )


class Texts(Job):
    """Text to text (TextToText)."""

    tuned, COPY, WORDS, metric = (
        "fine-tuned GLM",
        "copying the source",
        "word for word, by a dictionary",
        "dev_loss",
    )

    def __init__(self, model, tokenizer, task, train, dev, test):
        super().__init__(model, tokenizer, task, train, dev, test)
        self.pairs = {
            name: [self.source_and_gold(record) for record in some] for name, some in self.records.items()
        }
        self.sources, self.gold = zip(*self.pairs[self.about], strict=True)
        self.dials = dials_of(task)
        tell_what_is_left_out()

    def source_and_gold(self, record):
        """(the texts of its columns, the answer) of a record."""
        return " ".join(record[column] for column in self.task.columns).strip(), record[
            self.task.target
        ].strip()

    def scorer(self, model):
        return TextScorer(model)

    def answers(self, scorer):
        """What a model writes for each source."""
        return generate(scorer.model, self.tokenizer, self.read[self.about], self.dials)

    def untrained(self, base):
        return {self.COPY: [self.sources]}

    def rivals(self, base, seed):
        yield RANDOM, "", TextScorer(random_weights(base.config, seed).to(device_of(base)))

    def counted(self, chosen, learned):
        yield self.WORDS, word_for_word([self.pairs["train"][i] for i in chosen], self.sources)

    def table(self, answers):
        order = (self.tuned, RANDOM, self.WORDS, self.COPY)
        return text_table({name: answers[name] for name in order if name in answers}, self.gold)

    def details(self, said):
        few = sorted({i * len(said) // 20 for i in range(20)})
        return dict(
            dials={name: x for name, x in asdict(self.dials).items() if x},
            cut={
                name: dict(
                    sources=sum(p.cut > 0 for p in pairs), answers=sum(p.cut_target > 0 for p in pairs)
                )
                for name, pairs in self.read.items()
            },
            examples=[dict(source=self.sources[i], ours=said[i], gold=self.gold[i]) for i in few],
        )


def label_table(answers, questions):
    """{method: scores}: means over seeds, the standard error that the number of texts gives, the deviation between seeds."""
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
    """{method: scores}: means over seeds, and the deviation between seeds where there are several."""

    def over_seeds(how, scores):
        return {name: None if x is None else how([s[name] for s in scores]) for name, x in scores[0].items()}

    table = {}
    for method, of_seeds in answers.items():
        scores = [compare(texts, gold) for texts in of_seeds]
        spread = over_seeds(statistics.stdev, scores) if len(scores) > 1 else None
        table[method] = over_seeds(statistics.fmean, scores) | dict(between_seeds=spread)
    return table


def mistakes(task, rows, questions, found, most=20):
    """The confusion table {gold: {predicted: texts}} and the rows that came out wrong with most confidence."""
    confusion = {a: dict.fromkeys(task.labels, 0) for a in task.labels}
    wrong = []
    for row, q, p in zip(rows, questions, found, strict=True):
        gold, said = q.labels[q.gold], q.labels[int(p.argmax())]
        if task.labels:
            confusion[gold][said] += 1
        if gold != said:
            text = {column: row[column] for column in task.columns}
            wrong.append(dict(gold=gold, predicted=said, probability=float(p.max()), row=text))
    return dict(confusion=confusion, wrong=sorted(wrong, key=lambda w: -w["probability"])[:most])
