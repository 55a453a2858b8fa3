"""Fine-tuning: a pretrained GLM learns a task from labelled rows, still as filling a blank (paper section 2.3).

The loss is the cross-entropy of the right label over the scores of all labels. After each epoch the model answers the dev
rows; the best epoch is kept, and training stops when it is `patience` epochs old. Beside it stand what the model says
untrained, logistic regression on TF-IDF, the most frequent label, and (if asked for) a linear head: whatever they say.
"""

import copy
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..batch import ORDER, SAMPLING, in_runs
from ..checks import check_pair
from ..compare.rivals import LinearHead, random_weights, tf_idf
from ..errors import MinglmError, have
from ..families import text_limit
from ..rng import permutation
from ..use.cloze import MAX_ROWS, ClozeScorer, device_of, measure, percent, predict, standard_error
from ..use.tasks import ask_all
from .config import Finetuning
from .pretrain import choose_device, learning_rate, make_adamw, parameter_groups, stream_seed

MIN_STEPS = 20  # of an epoch: a handful of rows is passed several times, for dev is read after each epoch
CLOZE, ZERO_SHOT, HEAD, RANDOM = "fine-tuned cloze", "zero-shot cloze", "linear head", "from random weights"
TF_IDF, MAJORITY, CHANCE = "TF-IDF, logistic regression", "most frequent label", "chance"


# ---- learning ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aim:
    """What is learned, and what an epoch is chosen by: all that differs between a choice of labels and text to text."""

    losses: Callable  # (scorer, questions, settings) -> one loss for each thing that is learned, (n,)
    count: Callable  # questions -> n
    judge: Callable  # (scorer, dev) -> {score: number}
    value: Callable  # (task, scores) -> number; the epoch with the highest stays
    shown: Callable  # scores -> text


def label_losses(scorer, questions, settings):
    """Cross-entropy of the right label over the scores of all labels: (S,)."""
    scores = scorer(questions)
    return F.cross_entropy(scores, torch.tensor([q.gold for q in questions], device=scores.device), reduction="none")


def shown(scores):
    """Example: shown({"accuracy": 0.71, "macro_f1": 0.7}) -> "accuracy 71.0 %   macro F1 70.0 %"."""
    f1 = scores["macro_f1"]
    return f"accuracy {percent(scores['accuracy'])}" + (f"   macro F1 {percent(f1)}" if f1 is not None else "")


LABELS = Aim(label_losses, len, lambda scorer, dev: measure(predict(scorer, dev), dev), lambda task, s: s[task.metric], shown)


def fit(scorer, train, dev, settings, seed, task, say=print, aim=LABELS):
    """Train a scorer on questions (of text to text: on pairs); it ends with the weights of its best epoch on dev.

    -> [{"epoch", "loss", and what the aim judges by}], epoch 0 being the untrained one. The same seed gives the same weights
    on a CPU with as many threads. Raises MinglmError when the loss is no longer finite.
    """
    batch = min(settings.batch, len(train))
    an_epoch = max(math.ceil(len(train) / batch), MIN_STEPS)
    settings = replace(settings, steps=settings.epochs * an_epoch)
    for module in scorer.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    optimizer = make_adamw(parameter_groups(scorer, settings), settings)
    order = cache(lambda n: permutation(len(train), seed, n, 0, ORDER).tolist())
    history = [dict(epoch=0, loss=None) | aim.judge(scorer, dev)]
    best, kept = 0, weights_of(scorer)
    with tqdm(total=settings.steps, disable=None, unit="step", dynamic_ncols=True) as bar:
        for epoch in range(1, settings.epochs + 1):
            losses = []
            for step in range((epoch - 1) * an_epoch, epoch * an_epoch):
                passes = (divmod(i, len(train)) for i in range(step * batch, (step + 1) * batch))
                questions = [train[order(n)[i]] for n, i in passes]
                losses.append(train_step(scorer, questions, optimizer, settings, step, seed, aim))
                bar.update()
            history.append(dict(epoch=epoch, loss=statistics.fmean(losses)) | aim.judge(scorer, dev))
            if better := aim.value(task, history[epoch]) > aim.value(task, history[best]):
                best, kept = epoch, weights_of(scorer)
            with bar.external_write_mode():
                say(f"epoch {epoch:<5} loss {history[epoch]['loss']:.3f}   dev {aim.shown(history[epoch])}{'   best' * better}")
            if epoch - best >= settings.patience:
                break
    scorer.load_state_dict(kept)
    return history


def train_step(scorer, questions, optimizer, settings, step, seed, aim=LABELS):
    """One step on a batch of questions, in micro-batches; returns its mean loss."""
    scorer.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings) * group["lr_ratio"]
    total, n = 0.0, aim.count(questions)
    for number, run in enumerate(in_runs(questions, scorer.rows, MAX_ROWS)):
        torch.manual_seed(stream_seed(seed, step + 1, 0, number))  # dropout
        with torch.autocast(device_of(scorer).type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss = aim.losses(scorer, run, settings).sum() / n
        loss.backward()
        total += float(loss.detach())
    norm = float(nn.utils.clip_grad_norm_(scorer.parameters(), settings.clip))
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise MinglmError(f"the loss of step {step + 1} is not finite; a lower --lr than {settings.lr} may help")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def weights_of(module):
    return {name: weight.detach().clone() for name, weight in module.state_dict().items()}


# ---- the job -------------------------------------------------------------------------------------------------------------


def finetune(model, tokenizer, task, train, dev, *, settings=Finetuning(), seeds=(0,), few_shot=None, test=None,  # noqa: B008
             rivals=False, say=print):
    """Fine-tune a copy of a model for a task -> (the GLM of the best seed on dev, a report as a dict).

    task: a Cloze. train, dev, test: {where it stands: row}; the table is about test, or about dev where there is none.
    few_shot: learn from so many rows of each label only, drawn by seed. rivals: train a linear head as well, and the same
    model from random weights.
    Raises MinglmError when rows do not fit the task or a label has no row. The model itself stays as it is. One at a time in a
    process: dropout draws from torch's own generator, which all threads share.
    """
    check_pair(model, tokenizer)
    limit, device = text_limit(model.config), choose_device("auto", None)
    read = {name: ask_all(task, tokenizer, rows, limit, labelled=True)
            for name, rows in (("train", train), ("dev", dev), ("test", test)) if rows}  # fmt: skip
    rows = {"train": list(train.values()), "dev": list(dev.values()), "test": list((test or dev).values())}
    texts = {name: len(asked) for name, asked in read.items()}
    read.setdefault("test", read["dev"])
    for label, name in enumerate(task.labels):
        if not any(q.gold == label for q in read["train"]):
            raise MinglmError(f"train: no row with the label {name!r}; each of {', '.join(task.labels)} needs at least one")
    drawn = [draw(task, read["train"], few_shot, seed) if few_shot else range(len(read["train"])) for seed in seeds]
    counts_words = task.labels and have("sklearn", TF_IDF)  # a note, where it is not, before the work
    base, answers, runs, best = copy.deepcopy(model).to(device), {}, [], None
    answers[ZERO_SHOT] = [[int(p.argmax()) for p in predict(ClozeScorer(base, task.length_penalty), read["test"])]]
    for seed, chosen in zip(seeds, drawn, strict=True):
        learned = [read["train"][i] for i in chosen]
        say(f"seed {seed:<6} {len(learned):,} texts to learn from")
        scorer = ClozeScorer(copy.deepcopy(base), task.length_penalty)
        history = fit(scorer, learned, read["dev"], settings, seed, task, say)
        found = predict(scorer, read["test"])
        answers.setdefault(CLOZE, []).append([int(p.argmax()) for p in found])
        top = max(history, key=lambda epoch: epoch[task.metric])
        runs.append(dict(seed=seed, texts=len(learned), best_epoch=top["epoch"], history=history))
        if best is None or top[task.metric] > best[0]:
            best = top[task.metric], scorer.model, found, dict(seed=seed, epoch=top["epoch"])
        if rivals:
            say(f"{RANDOM}, trained the same way")
            scratch = ClozeScorer(random_weights(base.config, seed).to(device), task.length_penalty)
            fit(scratch, learned, read["dev"], settings, seed, task, say)
            answers.setdefault(RANDOM, []).append([int(p.argmax()) for p in predict(scratch, read["test"])])
        if not task.labels:
            continue
        if rivals:
            say(f"{HEAD} on the first state of Part A, trained the same way")
            torch.manual_seed(stream_seed(seed, 0, 0, 0))
            head = LinearHead(copy.deepcopy(base), len(task.labels)).to(device)
            fit(head, learned, read["dev"], settings, seed, task, say)
            answers.setdefault(HEAD, []).append([int(p.argmax()) for p in predict(head, read["test"])])
        if counts_words:
            said = tf_idf(task, [rows["train"][i] for i in chosen], learned, rows["dev"], read["dev"], rows["test"])
            answers.setdefault(TF_IDF, []).append(said)
        most = np.bincount([q.gold for q in learned]).argmax()
        answers.setdefault(MAJORITY, []).append([most] * len(read["test"]))
    _, tuned, found, kept = best
    report = dict(
        task=task.name, metric=task.metric, labels=task.labels, few_shot=few_shot,
        settings={name: value for name, value in asdict(settings).items() if name != "steps"},
        texts=texts, about="test" if test else "dev", kept=kept,
        scores=table_of(answers, read["test"]), seeds=runs, **mistakes(task, rows["test"], read["test"], found),
    )  # fmt: skip
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


def table_of(answers, questions):
    """{method: scores}: means over seeds, the standard error that the number of texts gives, the deviation between seeds."""
    table = {}
    for method in (CLOZE, ZERO_SHOT, RANDOM, HEAD, TF_IDF, MAJORITY):
        if method in answers:
            scores = [measure(found, questions) for found in answers[method]]
            accuracy, f1 = [s["accuracy"] for s in scores], [s["macro_f1"] for s in scores]
            table[method] = dict(
                accuracy=statistics.fmean(accuracy), standard_error=standard_error(statistics.fmean(accuracy), len(questions)),
                between_seeds=statistics.stdev(accuracy) if len(accuracy) > 1 else None,
                macro_f1=None if None in f1 else statistics.fmean(f1),
            )  # fmt: skip
    share = statistics.fmean(1 / len(q.labels) for q in questions)
    table[CHANCE] = dict(accuracy=share, standard_error=None, between_seeds=None, macro_f1=None)
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
