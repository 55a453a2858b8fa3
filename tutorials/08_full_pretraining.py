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

import numpy as np
import torch

from minglm import GLM, explain, pack
from minglm.batch import micro_batches
from minglm.course.chapters import FAST
from minglm.course.chapters.full_pretraining import (
    SmallRuns,
    check_batch_loss,
    check_warm,
    fig_clocks,
    fig_means,
    fig_mixture,
    fig_remember,
    fig_run,
    fig_specialists,
)
from minglm.data.samples import SampleSource, TrainingBatches, cut_windows
from minglm.ops import has_kernel
from minglm.spans import OBJECTIVES
from minglm.train.config import resolve
from minglm.viz import Explorer

torch.set_num_threads(1)  # these models are too small to share

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

# %%
fig_mixture(WEIGHTS, learned)

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
# %%
steps = 40 if FAST else 300
lab = SmallRuns(steps)  # 150 KB of text, a tokenizer of 800 tokens, and one GLM that every run starts with
MIXTURE = lab.settings | {f"data.{name}": weight / 100 for name, weight in WEIGHTS.items()}
CONFIG, tokenizer = resolve("tiny", overrides=MIXTURE), lab.tokenizer
documents = [np.array(tokenizer.encode(text)) for text in lab.texts]
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
# %%
folder, run = lab.train("mixture", CONFIG)
size, seconds = lab.start.num_parameters(), run["seconds"].sum()
print(f"{size:,} weights, {steps} steps, {seconds:.0f} s; the run leaves")
print("   ", "  ".join(sorted(path.name for path in folder.iterdir())))
at = np.flatnonzero(~np.isnan(run["held_out"]))  # rows with held-out losses
for name in OBJECTIVES:
    first, last = run[f"held_out_{name}"][at[[0, -1]]]
    print(f"held out, {name:9} {first:.3f} at step {run['step'][at[0]]:.0f}, {last:.3f} at the end")
    assert last < first

# %%
fig_run(run)

# %% [markdown]
# All three losses fall in one model. Is there a price? Of four models with the same start, steps and texts,
# three learn one objective each.
# %% [markdown] zh ed2201
# 一个模型里，三种损失都在下降。有代价吗？下面四个模型起点、步数、文本都相同，其中三个各学一种目标。
# %%
runs = {"mixture": run}
for name in OBJECTIVES:
    weights = {f"data.{other}": float(other == name) for other in OBJECTIVES}
    runs[name] = lab.train(f"only-{name}", resolve("tiny", overrides=lab.settings | weights))[1]

# %%
fig_specialists(runs)

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
backends = ["reference", "kernel" if has_kernel("cpu")[0] else "sdpa"]  # sdpa is PyTorch's own
few, ways = 15 if FAST else 60, {}
for backend in backends:
    config = resolve("tiny", overrides=MIXTURE | {"train.backend": backend})
    ways[backend] = way = lab.train(backend, config, stop_at=few)[1]
    ms = 1e3 * np.median(way["seconds"])
    print(f"{backend:9} {few} steps, last loss {way['loss'][-1]:.6f}, {ms:.1f} ms per step (median)")
slow, fast = ways.values()
apart = np.abs(slow["loss"] - fast["loss"]).max()
print(f"no loss differs by more than {apart:.1e}")
assert apart < 1e-3

# %%
fig_clocks(ways)

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

# %%
fig_means(right, wrong)

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
    model = copy.deepcopy(lab.start).double()
    model.backend = "reference"
    for part in parts:
        batch = pack(part)
        (model.loss(batch, "sum") * weigh(len(batch.targets))).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


parts = micro_batches(examples, 128)
sizes = [sum(len(example.targets) for example in part) for part in parts]
print(f"{len(examples)} samples, {M} targets; micro-batches of {sizes} targets")
whole, shared = gradient([examples], lambda m: 1 / M), [examples[0::2], examples[1::2]]
for name, other, right in (
    ("micro-batches: sum / all targets", gradient(parts, lambda m: 1 / M), True),
    ("two processes: every second sample each", gradient(shared, lambda m: 1 / M), True),
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
less = MIXTURE | {"train.backend": backends[1], "train.micro_batch_tokens": 128}
micro = lab.train("micro", resolve("tiny", overrides=less), stop_at=few)[1]
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
half = few // 2
lab.train("resumed", config, stop_at=half)  # config: still that of backends[1]
again, resumed = lab.train("resumed", config, resume=True, stop_at=few)
a, b = (GLM.from_pretrained(path).state_dict() for path in (lab.folder / backends[1], again))
same = sum(torch.equal(a[name], b[name]) for name in a)
print(f"stopped at step {half}, resumed to {few}:", f"{same} of {len(a)} tensors are the same, bit for bit")
assert same == len(a) and (resumed["loss"] == fast["loss"]).all()


# %% [markdown]
# **Remember:** one model can learn all three objectives. The loss of a batch is the sum over all targets
# divided by their number, however it is split. Seed and step determine a batch: a run resumes bit for bit.
# %% [markdown] zh 6494a6
# **记住：** 一个模型可以学会三种预训练目标。一个批次的损失是所有
# 标签的损失之和除以标签数，与批次怎么切无关。种子和步数决定一个批次，所以训练可以逐位一致地恢复。
# %%
fig_remember(source)


# %% [markdown]
# ## Exercises
# **1. ★★** Write `batch_loss(means, targets)`, the loss of a whole batch, from the losses of its
# micro-batches, each a mean over its own targets, and their numbers of targets.
# %% [markdown] zh 41cd95
# ## 练习
# **1. ★★** 有几个微批次的损失，每个都是对自己的标签取的平均，还有各自的标签数。写
# 出 `batch_loss(means, targets)`，即整个批次的损失。
# %%
def batch_loss(means, targets): ...  # your answer


# check_batch_loss(batch_loss)  # uncomment


# %% [markdown]
# **2. ★** The learning rate rises linearly over the first `warmup` steps, and the last of them has the peak.
# The first step already learns. Write `warm(step, warmup, peak)` for `step < warmup`, counted from 0.
# %% [markdown] zh 41a20f
# **2. ★** 学习率在前 `warmup` 步里线性上升，其中最后一步达到峰值，第一步就已经在学。写
# 出 `warm(step, warmup, peak)`，其中 `step < warmup`，从 0 数起。
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
