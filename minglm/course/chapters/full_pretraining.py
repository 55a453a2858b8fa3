"""Pictures of chapter 08, its small runs, and the checks of its exercises."""

import copy
import csv
import io
import math
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...batch import micro_batches
from ...data.corpus import embedded_corpus
from ...data.documents import read_documents
from ...data.samples import TrainingBatches
from ...data.tokenizer import Tokenizer
from ...model import GLM
from ...spans import OBJECTIVES
from ...train.config import resolve
from ...train.optimizer import learning_rate
from ...train.pretrain import pretrain
from ...viz.figures.canvas import SMALL, Canvas
from ...viz.palette import KINDS, SPAN_COLOURS, THEMES

BLUE, RUST, SOFT = KINDS["AA"].light, SPAN_COLOURS[0], THEMES["light"]["soft"]
COLOURS = dict(zip(OBJECTIVES, (BLUE, RUST, SPAN_COLOURS[1]), strict=True))
CENTRED = dict(ha="center", va="center")

# ---- runs ------------------------------------------------------------------------------------------------

SETTINGS = {
    "model.hidden_size": 64,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.max_positions": 64,
    "model.dropout": 0.0,
    "data.samples": "windows",
    "data.blanks": "budget",
    "data.mask_ratio": 0.15,
    "data.mean_span_length": 3.0,
    "train.optimizer": "adamw",
    "train.decay": "cosine",
    "train.warmup": 0.2,
    "train.batch_tokens": 512,
    "train.lr": 2e-3,
    "train.dtype": "float32",
    "train.device": "cpu",
    "train.sample_every": 1000,
    "train.save_every": 1000,
}


class SmallRuns:
    """Runs of one small network on a piece of the embedded corpus, in a temporary folder.

    folder: a Path; texts: 150 KB of documents; tokenizer: of 800 tokens, learned from them; settings: {dotted
    key: value} for `resolve`, all but the weights of the objectives; start: the GLM that every run begins as.
    """

    def __init__(self, steps):
        self.temporary = tempfile.TemporaryDirectory()  # it is removed with this object
        self.folder = Path(self.temporary.name)
        self.texts = first_texts(150_000)
        (self.folder / "text.txt").write_text("\n\n".join(self.texts), encoding="utf-8")
        self.tokenizer = Tokenizer.train(self.texts, 800)
        self.settings = SETTINGS | {
            "model.vocab_size": self.tokenizer.vocab_size,
            "data.text": [str(self.folder / "text.txt")],
            "data.cache": str(self.folder / "cache"),
            "train.steps": steps,
            "train.eval_every": steps // 6,
        }
        torch.manual_seed(0)
        self.start = GLM(resolve("tiny", overrides=self.settings).model)

    def train(self, name, config, **how):
        """Pretrain without a word. -> (the folder `name` of the run, its metrics.csv as {column: array})

        how: stop_at and resume of `pretrain`. A number that a step lacks is nan.
        """
        if not how.get("resume"):
            how["init"] = copy.deepcopy(self.start), self.tokenizer
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            folder = pretrain(config, self.folder / name, **how)
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return folder, {k: np.array([float(row[k] or "nan") for row in rows]) for k in rows[0]}


def first_texts(characters):
    """Return the first documents of the embedded corpus, until they have more than so many characters."""
    texts = []
    for text in read_documents(embedded_corpus()):
        texts.append(text)
        if sum(map(len, texts)) > characters:
            break
    return texts


# ---- pictures --------------------------------------------------------------------------------------------


def fig_mixture(weights, learned):
    """Draw the shares of the objectives in the samples and in the tokens learned: {objective: number}."""
    fig = Figure(figsize=(6.4, 1.7), layout="constrained")
    ax = fig.subplots()
    for n, counts in enumerate((weights, learned)):
        left = 0
        for name in OBJECTIVES:
            share = counts[name] / sum(counts.values())
            ax.barh(n, share, 0.7, left, color=COLOURS[name], edgecolor="white")
            if share > 0.15:
                ax.text(left + share / 2, n, f"{name} {share:.0%}", color="white", **CENTRED)
            left += share
    at = weights["token"] / 100 + weights["sentence"] / 200
    ax.text(at, -0.62, "sentence", color=RUST, fontsize=9, **CENTRED)
    names = "samples", "tokens learned"
    ax.set(yticks=(0, 1), yticklabels=names, xticks=(), xlim=(0, 1), ylim=(1.45, -0.85))
    ax.spines[:].set_visible(False)
    ax.tick_params(left=False)
    fig.alt_text = (
        "Two bars. Of the samples, 60% have the token objective, 5% sentence, 35% document. Of the tokens, "
        "73% are learned by the document objective."
    )
    return fig


def fig_run(run):
    """Draw the loss of a run and the held-out losses of the objectives. run: {column: array}"""
    fig = Figure(figsize=(6.4, 3.2), layout="constrained")
    ax, at = fig.subplots(), ~np.isnan(run["held_out"])
    ax.plot(run["step"], run["loss"], color=SOFT, lw=0.6, label="training, the mixture")
    for name, mark in zip(OBJECTIVES, "os^", strict=True):
        look = dict(marker=mark, color=COLOURS[name], label=f"held out, {name}")
        ax.plot(run["step"][at], run[f"held_out_{name}"][at], **look)
    ax.set(xlabel="step", ylabel="loss, nats per token")
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = "The held-out losses of the three objectives all fall over the steps of one run."
    return fig


def fig_specialists(runs):
    """Draw a table of the last held-out losses of runs, darker the further behind. runs: {name: columns}"""
    final = np.array([[run[f"held_out_{other}"][-1] for other in OBJECTIVES] for run in runs.values()])
    fig = Figure(figsize=(6.4, 2.7), layout="constrained")
    ax = fig.subplots()
    for (i, j), loss in np.ndenumerate(final):
        behind = loss - final[:, j].min()  # nats
        ax.add_patch(Rectangle((j, i), 0.96, 0.92, color=RUST, alpha=min(1, behind / 3), lw=0))
        ax.text(j + 0.48, i + 0.46, f"{loss:.2f}", weight="normal" if behind else "bold", **CENTRED)
    for i, (name, metrics) in enumerate(runs.items()):
        ax.text(-0.08, i + 0.46, name, ha="right", va="center")
        ax.text(3.9, i + 0.46, f"{metrics['learned_tokens'].sum():,.0f}", ha="right", va="center")
    for j, name in enumerate(OBJECTIVES):
        ax.text(j + 0.48, -0.2, name, **CENTRED)
    ax.text(-0.08, -0.2, "learned", ha="right", va="center", color=SOFT)
    ax.text(1.48, -0.62, "held-out loss of", color=SOFT, **CENTRED)
    ax.text(3.9, -0.2, "targets learned", ha="right", va="center", color=SOFT)
    ax.set(xlim=(-0.9, 4), ylim=(4, -0.85))
    ax.axis("off")
    rows = (", ".join(f"{a} {x:.2f}" for a, x in zip(OBJECTIVES, row, strict=True)) for row in final)
    said = (f"learned {name}: {row}" for name, row in zip(runs, rows, strict=True))
    fig.alt_text = f"Held-out losses of four models: {'; '.join(said)}"
    return fig


def fig_clocks(ways):
    """Draw the losses of one run over its steps and over its seconds. ways: {name: columns}, two of them"""
    fig = Figure(figsize=(7, 3), layout="constrained")
    axes, looks = (
        fig.subplots(1, 2, sharey=True),
        (dict(color=BLUE, lw=5, alpha=0.4), dict(color=RUST, lw=1.2)),
    )
    for (name, way), look in zip(ways.items(), looks, strict=True):
        for ax, x in zip(axes, (way["step"], np.cumsum(way["seconds"])), strict=True):
            ax.plot(x, way["loss"], label=name, **look)
            ax.spines[["top", "right"]].set_visible(False)
    axes[0].set(xlabel="step", ylabel="loss, nats per token", title="the same curve ...")
    axes[1].set(xlabel="seconds", title="... by another clock")
    axes[1].legend(frameon=False)
    fig.alt_text = (
        "The losses of one run, computed in two ways: over the steps the curves lie on "
        "each other, over the seconds each has a pace of its own."
    )
    return fig


def fig_means(right, wrong):
    """Draw two targets with a loss of 4, eight with a loss of 1, and two means of them."""
    fig = Figure(figsize=(6.4, 2.3), layout="constrained")
    ax = fig.subplots()
    for x, targets, loss, colour in ((0, 2, 4, BLUE), (2, 8, 1, RUST)):
        for n in range(targets):
            ax.add_patch(Rectangle((x + n, 0), 1, loss, facecolor=colour, edgecolor="white", lw=1.5))
    for level, words, style in (
        (right, "all losses / all targets", "-"),
        (wrong, "the mean of the means", ":"),
    ):
        ax.axhline(level, color="black", ls=style, lw=1.5)
        ax.text(9.95, level + 0.08, words, ha="right", va="bottom", fontsize=9)
    ax.set(xlim=(0, 10), ylim=(0, 4.1), yticks=(0, 1, right, wrong, 4), xticks=(1, 6), ylabel="loss")
    ax.set_xticklabels(("2 targets", "8 targets"))
    ax.tick_params(bottom=False)
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = (
        "Two targets with a loss of 4 and eight with a loss of 1. All losses by all targets give 1.6; the "
        "mean of the two means, 2.5, lies too high."
    )
    return fig


def fig_remember(source):
    """Draw the batches that a SampleSource gives to four steps: objectives, targets and micro-batches."""
    whole, resumed = TrainingBatches(source, 512), TrainingBatches(source, 512)
    batches = [[example for _, example in whole.examples(step)] for step in range(4)]
    for step in (2, 3):
        again = [example for _, example in resumed.examples(step)]  # it has not drawn steps 0 and 1
        assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(batches[step], again, strict=True))
    assert {example.objective for batch in batches for example in batch} == set(OBJECTIVES)
    targets = [sum(len(example.targets) for example in batch) for batch in batches]
    canvas, left, right, y = Canvas("light", 620), 64, 524, 34
    for n, name in enumerate(OBJECTIVES):
        canvas.rectangle(left + 96 * n, 8, 12, 12, fill=COLOURS[name])
        canvas.text(left + 18 + 96 * n, 14, name, SMALL, ha="left")
    canvas.line((left + 296, 6), (left + 296, 22), width=1.6)
    canvas.text(left + 306, 14, "next micro-batch", SMALL, ha="left")
    canvas.text(right, 14, "loss", SMALL, bold=True, ha="left")
    for step, batch in enumerate(batches):
        x, parts = left, micro_batches(batch, 128)
        canvas.text(8, y + 9, f"step {step}", SMALL, ha="left")
        canvas.text(right, y + 9, f"sum / {targets[step]}", SMALL, ha="left")
        for example in (example for part in parts for example in part):
            if x > left and any(example is part[0] for part in parts):
                canvas.line((x, y - 4), (x, y + 22), width=1.6)
            wide = len(example.targets) * 440 / max(targets)
            canvas.rectangle(x, y, wide, 18, fill=COLOURS[example.objective], edge="white", width=0.6)
            x += wide
        y += 30 + 14 * (step == 1)
    canvas.line((8, 94), (right - 14, 94), style="dashed", colour=SOFT)
    canvas.text(right, 94, "stop, resume", SMALL, ha="left", colour=SOFT)
    return canvas.finish(
        y - 4,
        "Four steps, each with a batch of samples of three objectives, cut into micro-batches. The loss is "
        "the sum over all targets divided by their number. The run stops after step 1 and resumes with "
        "step 2.",
    )


# ---- checks of the exercises -----------------------------------------------------------------------------


def check_batch_loss(batch_loss):
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = [rng.uniform(0, 9, rng.integers(1, 9)) for _ in range(rng.integers(1, 5))]
        answer = batch_loss([float(part.mean()) for part in parts], [len(part) for part in parts])
        truth = float(np.concatenate(parts).mean())
        assert answer is not None, "batch_loss returned None: did you forget `return`?"
        hint = "; that is the mean of means" if np.isclose(answer, np.mean([p.mean() for p in parts])) else ""
        where = f"targets {list(map(len, parts))}"
        assert abs(answer - truth) < 1e-9, f"{where}: you say {answer:.4f}, but it is {truth:.4f}{hint}"
    print("✓ check_batch_loss: 20 batches")


def check_warm(warm):
    t = resolve("tiny", overrides=SETTINGS | {"train.steps": 100}).train  # it warms up for 20
    for step in range(20):
        truth = learning_rate(step, t)
        got = warm(step, 20, t.lr)
        assert got is not None, "warm returned None: did you forget `return`?"
        assert got > 0, f"step {step}: with a rate of {got} it learns nothing"
        assert math.isclose(got, truth), f"step {step}: you say {got:g}, but the trainer takes {truth:g}"
    print("✓ check_warm: 20 steps")
