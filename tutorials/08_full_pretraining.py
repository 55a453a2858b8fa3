# %% [markdown]
# # 08 Full pretraining
# *Can one model learn all three objectives?*
#
# Three kinds of blanks, one network, one loss: we train a very small GLM.
#
# - **After this chapter you can** read a run, compare a mixture with specialists, and add micro-batches
#   correctly.
# - **You need** [chapter 01](01_breaking_a_text.md) for the objectives, [07](07_the_model.md) for the
#   model.
# %% [markdown] zh c61b8c
# # 08 完整的预训练
# *一个模型能同时学会三种预训练目标吗？*
#
# 三种空，一个网络，一个损失：本章训练一个很小的 GLM。
#
# - **学完本章，你能**看懂一次训练的记录，比较混合训练与专门训练，并正确地累加微批次。
# - **预备知识**：[第 01 章](01_breaking_a_text.zh.md)的预训练目标，[第 07 章](07_the_model.zh.md)的模型。
# %% imports
import copy
import csv
import io
import math
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from minglm import GLM, Tokenizer, explain, pack
from minglm.batch import micro_batches
from minglm.data.corpus import embedded_corpus
from minglm.data.documents import read_documents
from minglm.data.samples import SampleSource, TrainingBatches, cut_windows
from minglm.ops import has_kernel
from minglm.train.config import resolve
from minglm.train.optimizer import learning_rate
from minglm.train.pretrain import pretrain
from minglm.viz import Explorer
from minglm.viz.palette import KINDS, SPAN_COLOURS, THEMES

torch.set_num_threads(1)  # these models are too small to share
FAST = os.environ.get("MINGLM_FAST") == "1"
BLUE, RUST, SOFT = KINDS["AA"].light, SPAN_COLOURS[0], THEMES["light"]["soft"]
OBJECTIVES = ("token", "sentence", "document")
temporary = tempfile.TemporaryDirectory()
HERE = Path(temporary.name)

# %% [markdown]
# ## What a mixture teaches
# Each sample draws its objective, here with weights of 0.6, 0.05 and 0.35 (minglm's own choice, not the
# paper's). Of 100 tokens the first two blank 15 each, the third 75 on average. What do the learned tokens
# come from?
# %% [markdown] zh 39f353
# ## 混合训练教了什么
# 每个样本抽一种预训练目标，这里的权重是 0.6、0.05 和 0.35（这是 minglm 自己的选择，不是论文的）。在 100 个
# token 的样本里，前两种目标各挖掉 15 个，第三种平均挖掉 75 个。学到的 token 来自哪种目标？
# %% exact
WEIGHTS = {"token": 60, "sentence": 5, "document": 35}  # of a hundred samples
BLANKED = {"token": 15, "sentence": 15, "document": 75}
learned = {name: WEIGHTS[name] * BLANKED[name] for name in OBJECTIVES}
print({name: f"{learned[name] / sum(learned.values()):.0%}" for name in OBJECTIVES})

# %% picture
COLOURS = dict(zip(OBJECTIVES, (BLUE, RUST, SPAN_COLOURS[1]), strict=True))
fig, ax = plt.subplots(figsize=(6.4, 1.7), layout="constrained")
for n, counts in enumerate((WEIGHTS, learned)):
    left = 0
    for name in OBJECTIVES:
        share = counts[name] / sum(counts.values())
        ax.barh(n, share, 0.7, left, color=COLOURS[name], edgecolor="white")
        if share > 0.15:
            ax.text(left + share / 2, n, f"{name} {share:.0%}", ha="center", va="center", color="white")
        left += share
at = WEIGHTS["token"] / 100 + WEIGHTS["sentence"] / 200
ax.text(at, -0.62, "sentence", ha="center", va="center", color=RUST, fontsize=9)
ax.set(yticks=(0, 1), yticklabels=("samples", "tokens learned"), xticks=(), xlim=(0, 1), ylim=(1.45, -0.85))
ax.spines[:].set_visible(False)
ax.tick_params(left=False)
fig.alt_text = (
    "Two bars. Of the samples, 60% have the token objective, 5% sentence, 35% document. Of the tokens, "
    "73% are learned by the document objective."
)

# %% [markdown]
# A third of the samples gives most of the loss. One of them in the explorer:
# %% [markdown] zh fd922b
# 三分之一的样本，占了损失的大部分。在网页里看其中一个：
# %%
fog = "The fog came in at dusk . Nobody could see the lamp .".split()
Explorer(explain(fog, [(5, 12)], [0], "document"), (8, 3))

# %% [markdown]
# Real samples, from a piece of the embedded corpus in windows of at most 64 tokens:
# %% [markdown] zh 58acfa
# 再看真实的样本：自带语料的一小段，每个窗口最多 64 个 token。
# %% setup
texts = []
for text in read_documents(embedded_corpus()):
    texts.append(text)
    if sum(map(len, texts)) > 150_000:
        break
(HERE / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
tokenizer = Tokenizer.train(texts, 800)
steps = 40 if FAST else 300
SETTINGS = {
    "model.vocab_size": tokenizer.vocab_size,
    "model.hidden_size": 64,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "model.max_positions": 64,
    "model.dropout": 0.0,
    "data.text": [str(HERE / "text.txt")],
    "data.cache": str(HERE / "cache"),
    "data.samples": "windows",
    "data.blanks": "budget",
    "data.mask_ratio": 0.15,
    "data.mean_span_length": 3.0,
    "data.token": 0.6,
    "data.sentence": 0.05,
    "data.document": 0.35,
    "train.optimizer": "adamw",
    "train.decay": "cosine",
    "train.warmup": 0.2,
    "train.steps": steps,
    "train.batch_tokens": 512,
    "train.lr": 2e-3,
    "train.dtype": "float32",
    "train.device": "cpu",
    "train.eval_every": steps // 6,
    "train.sample_every": 1000,
    "train.save_every": 1000,
}


def settings(**changes):
    """All settings of a run; changes: those of its section [train]."""
    return resolve("tiny", overrides=SETTINGS | {f"train.{k}": x for k, x in changes.items()})


# %%
CONFIG = settings()
assert all(math.isclose(getattr(CONFIG.data, k), x / 100) for k, x in WEIGHTS.items())
documents = [np.array(tokenizer.encode(text)) for text in texts]
windows = cut_windows(np.cumsum([0, *map(len, documents)]), 64)
source = SampleSource(
    np.concatenate(documents), windows, CONFIG.data, tokenizer.sentence_ends(), tokenizer.special, seed=1
)
counts = dict.fromkeys(OBJECTIVES, 0)
for w in range(min(300, len(windows))):
    _, example = source.draw(0, w)
    counts[example.objective] += len(example.targets)
for name, n in counts.items():
    print(f"{name:9} {n:6,} targets, {n / sum(counts.values()):.0%}")

# %% [markdown]
# (Every span also learns its end, so the share of `token` is larger than on paper.)
#
# ## A run
# `minglm pretrain` calls `pretrain(config, folder)`; `resolve` merges settings with a preset.
# %% [markdown] zh e04a52
# （每个片段还要学它的结尾，所以 `token` 所占的份额比纸笔算的大。）
#
# ## 一次训练
# `minglm pretrain` 调用的就是 `pretrain(config, folder)`；`resolve` 把你的设置与预设合并起来。
# %% setup
torch.manual_seed(0)
START = GLM(CONFIG.model)


def train(name, config, **how):
    """(the run folder, its metrics.csv as {column: array}; nan where a step has no such number)."""
    if not how.get("resume"):
        how["init"] = copy.deepcopy(START), tokenizer
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        folder = pretrain(config, HERE / name, **how)
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return folder, {k: np.array([float(row[k] or "nan") for row in rows]) for k in rows[0]}


# %%
folder, run = train("mixture", CONFIG)
print(f"{START.num_parameters():,} weights, {steps} steps, {run['seconds'].sum():.0f} s;", "the run leaves")
print("   ", "  ".join(sorted(path.name for path in folder.iterdir())))
at = np.flatnonzero(~np.isnan(run["held_out"]))  # rows with held-out losses
for name in OBJECTIVES:
    first, last = run[f"held_out_{name}"][at[[0, -1]]]
    print(f"held out, {name:9} {first:.3f} at step {run['step'][at[0]]:.0f}, {last:.3f} at the end")
    assert last < first

# %% picture
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.plot(run["step"], run["loss"], color=SOFT, lw=0.6, label="training, the mixture")
for name, mark in zip(OBJECTIVES, "os^", strict=True):
    look = dict(marker=mark, color=COLOURS[name], label=f"held out, {name}")
    ax.plot(run["step"][at], run[f"held_out_{name}"][at], **look)
ax.set(xlabel="step", ylabel="loss, nats per token")
ax.legend(frameon=False, fontsize=9)
ax.spines[["top", "right"]].set_visible(False)
fig.alt_text = "The held-out losses of the three objectives all fall over the steps of one run."

# %% [markdown]
# All three losses fall in one model. Is there a price? Of four models with the same start, steps and texts,
# three learn one objective each.
# %% [markdown] zh ed2201
# 一个模型里，三种损失都在下降。有代价吗？下面四个模型起点、步数、文本都相同，其中三个各学一种目标。
# %%
runs = {"mixture": run}
for name in OBJECTIVES:
    weights = {f"data.{other}": float(other == name) for other in OBJECTIVES}
    runs[name] = train(f"only-{name}", resolve("tiny", overrides=SETTINGS | weights))[1]

# %% picture
final = np.array([[run[f"held_out_{other}"][-1] for other in OBJECTIVES] for run in runs.values()])
fig, ax = plt.subplots(figsize=(6.4, 2.7), layout="constrained")
for (i, j), loss in np.ndenumerate(final):
    behind = loss - final[:, j].min()  # nats
    ax.add_patch(plt.Rectangle((j, i), 0.96, 0.92, color=RUST, alpha=min(1, behind / 3), lw=0))
    best = "bold" if behind == 0 else "normal"
    ax.text(j + 0.48, i + 0.46, f"{loss:.2f}", ha="center", va="center", weight=best)
for i, (name, metrics) in enumerate(runs.items()):
    ax.text(-0.08, i + 0.46, name, ha="right", va="center")
    ax.text(3.9, i + 0.46, f"{metrics['learned_tokens'].sum():,.0f}", ha="right", va="center")
for j, name in enumerate(OBJECTIVES):
    ax.text(j + 0.48, -0.2, name, ha="center", va="center")
ax.text(-0.08, -0.2, "learned", ha="right", va="center", color=SOFT)
ax.text(1.48, -0.62, "held-out loss of", ha="center", va="center", color=SOFT)
ax.text(3.9, -0.2, "targets learned", ha="right", va="center", color=SOFT)
ax.set(xlim=(-0.9, 4), ylim=(4, -0.85))
ax.axis("off")
fig.alt_text = "Held-out losses of four models: " + "; ".join(
    f"learned {name}: " + ", ".join(f"{other} {x:.2f}" for other, x in zip(OBJECTIVES, row, strict=True))
    for name, row in zip(runs, final, strict=True)
)

# %% [markdown]
# So the answer is yes. On sentences and documents the mixture comes second, some 0.3 nats behind the
# specialist. On short blanks it even wins, after nearly twice as many targets. (One short run of a tiny
# model; the paper's comparison is in its section 3.3.)
#
# ## Two ways to compute a step
# Attention by the reference and by the C++ kernel, with the same seed:
# %% [markdown] zh 416c40
# 所以答案是：能。在句子和文档上，混合训练排第二，比专门训练差 0.3 nat 左右。在短空上它甚至最好，
# 学到的标签几乎是
# 专门训练的两倍。（这只是一个很小的模型的一次短训练；论文的比较在第 3.3 节。）
#
# ## 一步的两种算法
# 注意力分别用参考实现和 C++ 算子计算，种子相同：
# %%
usable, why = has_kernel("cpu")
backends = ["reference", "kernel" if usable else "sdpa"]
if not usable:
    print(f"There is no kernel here ({why}); PyTorch's sdpa takes its place below.")
few, ways = 15 if FAST else 60, {}
for backend in backends:
    ways[backend] = train(backend, settings(backend=backend), stop_at=few)[1]
    print(
        f"{backend:9} {few} steps, last loss {ways[backend]['loss'][-1]:.6f}, "
        f"{1e3 * np.median(ways[backend]['seconds']):.1f} ms per step (median)"
    )
slow, fast = ways.values()
apart = np.abs(slow["loss"] - fast["loss"]).max()
print(f"no loss differs by more than {apart:.1e}")
assert apart < 1e-3

# %% picture
fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
for name, look in zip(ways, (dict(color=BLUE, lw=5, alpha=0.4), dict(color=RUST, lw=1.2)), strict=True):
    loss, seconds = ways[name]["loss"], np.cumsum(ways[name]["seconds"])
    for ax, x in zip(axes, (ways[name]["step"], seconds), strict=True):
        ax.plot(x, loss, label=name, **look)
        ax.spines[["top", "right"]].set_visible(False)
axes[0].set(xlabel="step", ylabel="loss, nats per token", title="the same curve ...")
axes[1].set(xlabel="seconds", title="... by another clock")
axes[1].legend(frameon=False)
fig.alt_text = (
    "The losses of one run, computed in two ways: over the steps the curves lie on "
    "each other, over the seconds each has a pace of its own."
)

# %% [markdown]
# ## Parts of a batch
# A batch too large for one device is split into micro-batches whose gradients add up. The trap is the mean.
# Take 2 and 8 targets with losses of 4 and 1 each:
# %% [markdown] zh 011263
# ## 批次的一部分
# 一个设备放不下的批次，要切成微批次，再把梯度加起来。陷阱在平均。假设标签数是 2 和 8，
# 每个标签的损失是 4 和 1：
# %% exact
right = (2 * 4 + 8 * 1) / (2 + 8)
wrong = (4 + 1) / 2
print(right, wrong)

# %% picture
fig, ax = plt.subplots(figsize=(6.4, 2.3), layout="constrained")
for x, targets, loss, colour in ((0, 2, 4, BLUE), (2, 8, 1, RUST)):
    for n in range(targets):
        ax.add_patch(plt.Rectangle((x + n, 0), 1, loss, facecolor=colour, edgecolor="white", lw=1.5))
for level, words, style in ((right, "all losses / all targets", "-"), (wrong, "the mean of the means", ":")):
    ax.axhline(level, color="black", ls=style, lw=1.5)
    ax.text(9.95, level + 0.08, words, ha="right", va="bottom", fontsize=9)
ax.set(xlim=(0, 10), ylim=(0, 4.1), yticks=(0, 1, right, wrong, 4), xticks=(1, 6), ylabel="loss")
ax.set_xticklabels(("2 targets", "8 targets"))
ax.tick_params(bottom=False)
ax.spines[["top", "right"]].set_visible(False)
fig.alt_text = (
    "Two targets with a loss of 4 and eight with a loss of 1. All losses by all targets give 1.6; the mean "
    "of the two means, 2.5, lies too high."
)

# %% [markdown]
# So each micro-batch gives the *sum* of its losses divided by the targets of the *whole* batch. The gradient
# of a real batch, split both ways, and as two processes would share it:
# %% [markdown] zh 5dfc18
# 所以每个微批次给出的是它的损失之*和*，除以*整个*批次的标签数。下面是一个真实批次的梯度，用两种方式切成微
# 批次，再像两个进程那样分担：
# %%
examples = [example for _, example in TrainingBatches(source, 512).examples(0)]
M = sum(len(example.targets) for example in examples)


def gradient(parts, weigh):
    """Of the sum over the parts: a part's loss, a sum over its m targets, times weigh(m)."""
    model = copy.deepcopy(START).double()
    model.backend = "reference"
    for part in parts:
        batch = pack(part)
        (model.loss(batch, "sum") * weigh(len(batch.targets))).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


parts = micro_batches(examples, 128)
print(
    f"{len(examples)} samples, {M} targets; micro-batches of "
    f"{[sum(len(e.targets) for e in part) for part in parts]} targets"
)
whole = gradient([examples], lambda m: 1 / M)
for name, other, right in (
    ("micro-batches: sum / all targets", gradient(parts, lambda m: 1 / M), True),
    (
        "two processes: every second sample each",
        gradient([examples[0::2], examples[1::2]], lambda m: 1 / M),
        True,
    ),
    ("the wrong way: mean of means", gradient(parts, lambda m: 1 / m / len(parts)), False),
):
    off = float((other - whole).norm() / whole.norm())
    print(f"{name:42} off by {off:.1e}")
    assert off < 1e-12 if right else off > 1e-3

# %% [markdown]
# The trainer does just this (and `torchrun --nproc-per-node 2 -m minglm pretrain ...` shares a batch so):
# %% [markdown] zh 1a0a67
# 训练程序正是这样做的（`torchrun --nproc-per-node 2 -m minglm pretrain ...` 也这样让几个进程分担一个批次）：
# %%
micro = train("micro", settings(backend=backends[1], micro_batch_tokens=128), stop_at=few)[1]
apart = np.abs(micro["loss"] - fast["loss"]).max()
print(f"no loss differs by more than {apart:.1e}")
assert apart < 1e-3

# %% [markdown]
# ## Stopped and resumed
# Seed and step alone determine a batch, so a resumed run continues as if nothing had happened.
# %% [markdown] zh 29a809
# ## 停下来再继续
# 一个批次只由种子和步数决定，所以恢复的训练就像从没停过一样。
# %%
half, config = few // 2, settings(backend=backends[1])
train("resumed", config, stop_at=half)
again, resumed = train("resumed", config, resume=True, stop_at=few)
a, b = (GLM.from_pretrained(path).state_dict() for path in (HERE / backends[1], again))
same = sum(torch.equal(a[name], b[name]) for name in a)
print(f"stopped at step {half}, resumed to {few}:", f"{same} of {len(a)} tensors are the same, bit for bit")
assert same == len(a) and (resumed["loss"] == fast["loss"]).all()


# %% [markdown]
# **Remember:** one model can learn all three objectives. The loss of a batch is the sum over all targets
# divided by their number, however it is split. Seed and step determine a batch: a run resumes bit for bit.
#
# ## Exercises
# **1. ★★** Write `batch_loss(means, targets)`, the loss of a whole batch, from the losses of its
# micro-batches, each a mean over its own targets, and their numbers of targets.
# %% [markdown] zh 899b1a
# **记住：** 一个模型可以学会三种预训练目标。一个批次的损失是所有
# 标签的损失之和除以标签数，与批次怎么切无关。种子和步数决定一个批次，所以训练可以逐位一致地恢复。
#
# ## 练习
# **1. ★★** 有几个微批次的损失，每个都是对自己的标签取的平均，还有各自的标签数。写
# 出 `batch_loss(means, targets)`，即整个批次的损失。
# %% check
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


# %%
def batch_loss(means, targets): ...  # your answer


# check_batch_loss(batch_loss)  # uncomment


# %% [markdown]
# **2. ★** The learning rate rises linearly over the first `warmup` steps, and the last of them has the peak.
# The first step already learns. Write `warm(step, warmup, peak)` for `step < warmup`, counted from 0.
# %% [markdown] zh 41a20f
# **2. ★** 学习率在前 `warmup` 步里线性上升，其中最后一步达到峰值，第一步就已经在学。写
# 出 `warm(step, warmup, peak)`，其中 `step < warmup`，从 0 数起。
# %% check
def check_warm(warm):
    t = replace(CONFIG.train, steps=100, warmup=0.2)
    for step in range(20):
        truth = learning_rate(step, t)
        got = warm(step, 20, t.lr)
        assert got is not None, "warm returned None: did you forget `return`?"
        assert got > 0, f"step {step}: with a rate of {got} it learns nothing"
        assert math.isclose(got, truth), f"step {step}: you say {got:g}, but the trainer takes {truth:g}"
    print("✓ check_warm: 20 steps")


# %%
def warm(step, warmup, peak): ...  # your answer


# check_warm(warm)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/train/pretrain.py`](../minglm/train/pretrain.py): `train_step`, from the batch to AdamW.
# - [`minglm/data/samples.py`](../minglm/data/samples.py): `TrainingBatches`, the batch of any step.
# - [`minglm/measure/held_out.py`](../minglm/measure/held_out.py): what held-out numbers are compared with.
# - Next: [what a pretrained model is good for](09_filling_writing_classifying.md).
# %% [markdown] zh bd8464
# ## 延伸阅读
# - [`minglm/train/pretrain.py`](../minglm/train/pretrain.py)：`train_step`，从批次到 AdamW 的一步。
# - [`minglm/data/samples.py`](../minglm/data/samples.py)：`TrainingBatches`，任意一步的批次。
# - [`minglm/measure/held_out.py`](../minglm/measure/held_out.py)：留出集上的数字与什么相比。
# - 下一章：[预训练好的模型能做什么](09_filling_writing_classifying.zh.md)。
