"""Fine-tuning: a pretrained GLM learns a task from labelled rows, still as filling a blank (paper section 2.3).

The loss is the cross-entropy of the right label over the scores of all labels. After each epoch the model answers the dev
rows; the best epoch is kept, and training stops when it is `patience` epochs old. Beside it stand what the model says
untrained, logistic regression on TF-IDF, the most frequent label, and (if asked for) a linear head: whatever they say.
"""

import contextlib
import copy
import json
import math
import shlex
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .arguments import add_model, positive
from .batch import ORDER, SAMPLING, in_runs
from .checkpoint import save_pretrained
from .checks import check_pair
from .cloze import MAX_ROWS, ClozeScorer, device_of, measure, percent, predict, standard_error
from .errors import MinglmError
from .layout import text_limit
from .pretrain import choose_device, claim_folder, learning_rate, make_optimizer, stream_seed
from .processes import keep_memory
from .rivals import LinearHead, random_weights, tf_idf
from .rng import permutation
from .rows import read_rows
from .tasks import TASK, TextToText, ask_all, read_task, shipped_tasks

REPORT = "report.json"
MIN_STEPS = 20  # of an epoch: a handful of rows is passed several times, for dev is read after each epoch
CLOZE, ZERO_SHOT, HEAD, RANDOM = "fine-tuned cloze", "zero-shot cloze", "linear head", "from random weights"
TF_IDF, MAJORITY, CHANCE = "TF-IDF, logistic regression", "most frequent label", "chance"


@dataclass(frozen=True)
class Finetuning:
    """How a task is learned. Fields beyond the first five are those that `learning_rate` and `make_optimizer` read."""

    epochs: int = 10
    batch: int = 32  # texts a step
    lr: float = 3e-4  # for models of some million weights; those of a hundred million want 1e-5, as in the original
    patience: int = 3  # epochs without a better one
    dropout: float = 0.1  # the original's
    warmup: float = 0.1  # share of the steps
    decay: str = "linear"  # to 0
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.1
    table_lr_ratio: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 1.0
    label_smoothing: float = 0.1  # of text to text only; the original's
    dtype: str = "float32"  # of matrix products; bfloat16 is about twice as fast where the hardware has it
    steps: int = 0  # all of them; known when the rows are counted

    def __post_init__(self):
        for name, fine, accepted in (
            *((name, type(getattr(self, name)) is int and getattr(self, name) >= 1, "a whole number >= 1")
              for name in ("epochs", "batch", "patience")),
            ("lr", 0 < self.lr < math.inf, "a number > 0"),
            *((name, 0 <= getattr(self, name) < 1, "a number >= 0 and < 1") for name in ("dropout", "label_smoothing")),
            ("dtype", self.dtype in ("float32", "bfloat16"), "float32 or bfloat16"),
        ):
            if not fine:
                raise MinglmError(f"{name}: {getattr(self, name)} is not accepted; {accepted} is")


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
    optimizer = make_optimizer(scorer, settings)
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
    base, answers, runs, best = copy.deepcopy(model).to(device), {}, [], None
    answers[ZERO_SHOT] = [[int(p.argmax()) for p in predict(ClozeScorer(base, task.length_penalty), read["test"])]]
    for seed in seeds:
        chosen = draw(task, read["train"], few_shot, seed) if few_shot else range(len(read["train"]))
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
        said = tf_idf(task, [rows["train"][i] for i in chosen], learned, rows["dev"], read["dev"], rows["test"])
        if said is not None:
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


# ---- what a person sees --------------------------------------------------------------------------------------------------


def heading(report):
    """The line over a table of scores: which texts it is about, and how far to trust it."""
    n, about = report["texts"][report["about"]], report["about"]
    why = "; the epoch was chosen on them, so new texts will do a little worse: --test tells" if about == "dev" else ""
    return f"{about:<11} {n:,} texts that were not trained on{why}"


def print_report(report):
    """The table of scores, the confusion table and a few mistakes."""
    print(heading(report))
    width = max(map(len, report["scores"]))
    for method, s in report["scores"].items():
        f1 = f"   macro F1 {percent(s['macro_f1']):>7}" if s["macro_f1"] is not None else ""
        seeds = f"   ({100 * s['between_seeds']:.1f} between seeds)" if s["between_seeds"] is not None else ""
        print(f"            {method:<{width}}   accuracy {percent(s['accuracy'], s['standard_error']):>14}{f1}{seeds}")
    if report["labels"] and TF_IDF not in report["scores"]:
        print(f"            {TF_IDF}: scikit-learn is needed beside it; pip install 'minglm[tasks]'")
    if labels := report["labels"]:
        short = [label[:12] for label in labels]
        side = max(len(x) for x in (*short, "is \\ said"))
        cell = max(6, max(map(len, short)) + 1)
        print(f"confusion   {'is / said':<{side}}" + "".join(f"{x:>{cell}}" for x in short))
        for label, name in zip(labels, short, strict=True):
            print(f"            {name:<{side}}" + "".join(f"{report['confusion'][label][x]:>{cell}}" for x in labels))
    for w in report["wrong"][:5]:
        text = " | ".join(" ".join(x.split()) for x in w["row"].values())
        text = text if len(text) <= 160 else f"{text[:157]}..."
        print(f"wrong       {w['predicted']} ({percent(w['probability'])}), it is {w['gold']}: {text}")


def add_finetune(commands):
    """The command `finetune`."""
    t = Finetuning()
    p = commands.add_parser(
        "finetune", help="learn a task from labelled rows, and be compared with what else one could use",
        description="Learns a task from labelled rows, keeps the best epoch on dev, and prints its accuracy beside the "
                    "untrained model's, TF-IDF's and the most frequent label's, a confusion table and mistakes. A task of "
                    "text to text: BLEU, chrF, ROUGE beside a dictionary's and the copied source's, and examples.",
    )  # fmt: skip
    p.set_defaults(run=finetune_command)
    p.add_argument("--task", required=True, metavar="TASK", help=f"{', '.join(shipped_tasks())}, or a TOML file")
    p.add_argument("--train", required=True, metavar="FILE", help="rows to learn from: .jsonl, .jsonl.xz or .jsonl.gz")
    p.add_argument("--dev", required=True, metavar="FILE", help="rows to choose the epoch by")
    p.add_argument("--test", metavar="FILE", help="rows that nothing is chosen by, for the table (default: dev again)")
    add_model(p)
    p.add_argument("--out", metavar="DIR", type=Path, help="the model's folder (default runs/TASK-NNN)")
    p.add_argument("--few-shot", type=positive, metavar="K",
                   help="learn from K rows of each label (text to text: K in all) only, drawn by seed")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one run each; the best on dev is kept (0)")
    p.add_argument("--rivals", action="store_true",
                   help="learn from random weights as well, and with a linear head, the BERT way: three times as long")
    p.add_argument("--epochs", type=positive, default=t.epochs, metavar="N", help=f"passes over the rows ({t.epochs})")
    p.add_argument("--patience", type=positive, default=t.patience, metavar="N",
                   help=f"epochs without a better one ({t.patience})")
    p.add_argument("--batch", type=positive, default=t.batch, metavar="N", help=f"texts a step ({t.batch})")
    p.add_argument("--lr", type=float, default=t.lr, metavar="X", help=f"peak learning rate ({t.lr}; large models: 1e-5)")
    p.add_argument("--dropout", type=float, default=t.dropout, metavar="X", help=f"while it learns ({t.dropout})")
    p.add_argument("--label-smoothing", type=float, metavar="X", help=f"of text to text ({t.label_smoothing})")
    p.add_argument("--dtype", choices=("float32", "bfloat16"), default=t.dtype,
                   help=f"of matrix products ({t.dtype}); bfloat16 is faster where the hardware has it")


def finetune_command(args):
    from .runs import load, next_run, the_model
    from .seq2seq import finetune_text, print_texts

    keep_memory()
    task = read_task(args.task)
    to_text = isinstance(task, TextToText)
    if args.label_smoothing is not None and not to_text:
        raise MinglmError(f"--label-smoothing: is for text to text, and {task.name} chooses among labels; leave it out")
    dials = ("epochs", "batch", "lr", "patience", "dropout", "label_smoothing", "dtype")
    settings = Finetuning(**{name: getattr(args, name) for name in dials if getattr(args, name) is not None})
    if bad := [seed for seed in args.seeds if not 0 <= seed < 2**63]:
        raise MinglmError(f"--seeds: {bad[0]} is not accepted; whole numbers from 0 to 2**63 - 1 are")
    train, dev, test = (read_rows(path) if path else None for path in (args.train, args.dev, args.test))
    model, tokenizer = load(args.model)
    out = args.out or next_run(task.name)
    claim_folder(out)
    try:
        banner(args, settings, task, model, tokenizer, train, dev, out)
        learn = finetune_text if to_text else finetune
        tuned, report = learn(model, tokenizer, task, train, dev, settings=settings, seeds=args.seeds,
                              few_shot=args.few_shot, test=test, rivals=args.rivals)  # fmt: skip
        # before anything is written: a full disk shall not cost the numbers, too
        (print_texts if to_text else print_report)(report)
        text = json.dumps(dict(model=str(args.model or the_model()), **report), indent=2, ensure_ascii=False) + "\n"
        save_pretrained(tuned, out, tokenizer, {TASK: task.to_toml(), REPORT: text})
    finally:
        with contextlib.suppress(OSError):
            out.rmdir()  # an empty folder alone can be removed
    print(f"kept        the weights of seed {report['kept']['seed']}, epoch {report['kept']['epoch']}")
    print(f"wrote       {out}: model.safetensors, config.json, tokenizer.json, {TASK}, {REPORT}")
    what = "TEXT" if (task.labels or to_text) and len(task.columns) == 1 else "--file FILE.jsonl"
    print(f"try         minglm {'rewrite' if to_text else 'classify'} --model {shlex.quote(str(out))} {what}")


def banner(args, settings, task, model, tokenizer, train, dev, out):
    """What was chosen, and why."""
    few = f"; {args.few_shot}{' of each label' * bool(task.labels)} are drawn" if args.few_shot else ""
    if isinstance(task, TextToText):
        dials = ", ".join(f"{name} {value}" for name, value in task.dials.items()) or "the likeliest token each time"
        kind = [("answer", f"{task.target}, with the end: smoothed by {settings.label_smoothing:g}"), ("written", dials)]
    else:
        labels = ", ".join(task.labels) or f"each row's own {task.verbalizer}"
        kind = [("labels", labels), ("scored", task.how_scored(tokenizer))]
    lines = [
        ("minglm", f"finetune {task.name}: {model.num_parameters() / 1e6:.1f} M parameters, {len(args.seeds)} seed(s)"),
        ("pattern", repr(task.pattern)),
        *kind,
        ("texts", f"{len(train):,} to learn from, {len(dev):,} to choose by{few}"),
        ("device", f"{choose_device('auto', None)}, {torch.get_num_threads()} threads, {args.dtype}"),
        ("learning", f"{args.epochs} epochs at most, {args.batch} texts a step, lr {args.lr:g}, "
                     f"dropout {args.dropout:g}, patience {args.patience}"),
        ("model", f"{out}"),
    ]
    print("\n".join(f"{key:<11} {line}" for key, line in lines), flush=True)
