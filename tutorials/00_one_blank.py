# %% [markdown]
# # 00 One blank
# *What does GLM do?*
#
# GLM, the *General Language Model* (Du et al., ACL 2022,
# [arXiv 2103.10360](https://arxiv.org/abs/2103.10360)), learns by **autoregressive blank infilling**: words
# are cut out of a text, and the model writes them back. In `The [MASK] lives on the farm and eats mice.`
# you look at both sides and write `cat`; here a small network learns to.
#
# - **After this chapter you can** say what GLM reads and what it learns, train a tiny one, and read its
#   answers.
# - **You need** Python and a little PyTorch.
# %% [markdown] zh 10ee80
# # 00 一个空
# *GLM 在做什么？*
#
# GLM，即 *General Language Model*（通用语言模型，Du 等
# 人，ACL 2022，[arXiv 2103.10360](https://arxiv.org/abs/2103.10360)），靠**自回归空白填充**来学习：从文本
# 里挖掉一些词，让模型再写回来。看到 `The [MASK] lives on the farm and eats mice.`，你会看看两边，写
# 下 `cat`；本章教一个小网络做同样的事。
#
# - **学完本章，你能**说出 GLM 读的是什么、学的是什么，训练一个很小的 GLM，并看懂它的答案。
# - **预备知识**：Python 和一点 PyTorch。
# %% imports
import math
from itertools import product

import torch

from minglm import GLM, GLMConfig, Rng, Tokenizer, build_example, explain, fill, pack, sample_spans, score
from minglm.course.chapters.one_blank import (
    ask_for_goose,
    check_count_rows,
    check_part_b,
    fig_loss,
    fig_probabilities,
    fig_remember,
    fig_row,
    fig_surprises,
    fig_world,
)
from minglm.data.toy import ANIMALS, FORMS, OPENINGS
from minglm.use.models import BOX, read_model
from minglm.viz import Explorer
from minglm.viz.figures import draw

torch.set_num_threads(1)  # this model is too small to share

# %% [markdown]
# ## A small world
# Nine facts, told in six forms with ten openings (`minglm/data/toy.py`):
# %% [markdown] zh 0d6604
# ## 一个小世界
# 九条事实，用六种句式、十种开头讲出来（`minglm/data/toy.py`）：
# %%
fig_world(ANIMALS)

# %% [markdown]
# One sentence per animal is held out, to ask about later.
# %% [markdown] zh c8f685
# 每种动物留出一句不给模型读，留着以后提问。
# %% exact
kept = {animal: FORMS[0].format(animal, *facts, "The") for animal, facts in ANIMALS.items()}
told = product(ANIMALS.items(), FORMS, OPENINGS)
every = [form.format(animal, *facts, opening) for (animal, facts), form, opening in told]
read = Rng(0).shuffle([sentence for sentence in every if sentence not in kept.values()])[:400]
print(f"{len(read)} sentences to read:", *read[:4], "...", sep="\n    ")
QUESTION = kept["cat"].replace("cat", "[MASK]")
print("the question:", QUESTION, sep="\n    ")

# %% [markdown]
# Only the last word tells which animal it is: a model that reads from left to right must answer before any
# clue.
#
# ## Before
# A tokenizer turns text into numbers, one per word, piece of a word or mark. A small GLM with random weights
# answers rubbish:
# %% [markdown] zh bbcb9a
# 只有最后一个词能说明是哪种动物：从左往右读的模型，得在看到任何线索之前就回答。
#
# ## 训练之前
# 分词器把文本变成数字，一个词、一个词的片段或一个标点各一个。权重随机的小 GLM，回答是一派胡言：
# %%
tokenizer = Tokenizer.train(read, 500)
special = tokenizer.special  # the tokens that are no text, [MASK] among them
torch.manual_seed(1)
shape = dict(hidden_size=64, num_layers=2, num_heads=4, max_positions=32, dropout=0.0)
model = GLM(GLMConfig(tokenizer.vocab_size, **shape))
print("as tokens:", tokenizer.pieces(tokenizer.encode(QUESTION, special=True)))
print(f"{model.num_parameters():,} weights, {tokenizer.vocab_size} tokens to choose from\n")
print("before:", fill(model, tokenizer, QUESTION, max_tokens=6).text)


def probabilities(text):
    return {a: math.exp(score(model, tokenizer, text, [a])[0].log_probability) for a in ANIMALS}


before = probabilities(QUESTION)

# %% [markdown]
# ## What it learns from
# Two spans are cut out of a sentence. **Part A** is what the model reads first, **Part B** what it then
# writes, blank by blank in random order. (`[M]` is short for `[MASK]`.)
# %% [markdown] zh f7a9eb
# ## 它从什么里学
# 从一句话里挖掉两个片段。**Part A** 是模型先读的，**Part B** 是它随后写的，一个空一个空地写，顺序随
# 机。（`[M]` 是 `[MASK]` 的简写。）
# %%
words = "The bear lives in the forest and eats honey .".split()
d = explain(words, spans=[(1, 2), (5, 8)], order=[1, 0])  # word 1, and 5 to 7; the second comes first
draw("corruption", derivation=d, width=700)


# %%
fig_row(d)

# %% [markdown]
# In this course one token of a sample is called a **row**, because it is one row of this mask: it may look
# at the coloured cells. Its two positions say which blank it belongs to, and where inside. The first row is
# number 0.
# %% [markdown] zh 2d81e4
# 在这门课里，样本的一个 token 称为一**行**（row），因为它是这个掩码的一行：有颜色的格子就是它可以看的。
# 它的两个位置说明它属于哪个空、是空里的第几个。第一行的编号是 0。
# %%
Explorer(d, (9, 8))


# %% [markdown]
# Each row of Part B predicts the next token of its blank. Its *surprise* is minus the log-probability of the
# right one; the loss is the mean over the $M$ rows with a target:
# $-\frac{1}{M} \sum_i \log p_i(\text{target}_i)$.
# %% [markdown] zh 938457
# Part B 的每一行预测它所在的空的下一个 token。它的*意外程度*（surprise）是正确答案的负对数概率；损失就
# 是 $M$ 个有标签的行的平均： $-\frac{1}{M} \sum_i \log p_i(\text{target}_i)$ 。
# %%
def tokens_of(sentence):
    return [special.cls, *tokenizer.encode(sentence), special.eos]  # a first and a last token


sample = build_example(tokens_of(read[0]), [(2, 3), (6, 8)], [1, 0], special)
batch = pack([sample])  # one sample or many, end to end, without padding


@torch.no_grad()
def surprises():
    logits = model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)  # (N, V)
    return -logits.log_softmax(-1)[batch.target_rows, batch.targets]  # (M,)


untrained = surprises()
print(f"loss by hand {untrained.mean():.4f}, by the library {model.loss(batch).item():.4f}")
assert abs(untrained.mean() - model.loss(batch).item()) < 1e-4

# %% [markdown]
# A model that knows nothing gives each of the $V$ tokens the probability $1/V$, so its loss is $\ln V$.
#
# ## Training
# Each step cuts new blanks into 32 sentences and changes every weight a little so that the loss falls. It
# takes about a minute; your numbers may differ.
# %% [markdown] zh ea3bf4
# 什么都不知道的模型给 $V$ 个 token 各 $1/V$ 的概率，所以它的损失是 $\ln V$ 。
#
# ## 训练
# 每一步给 32 个句子重新挖空，并把每个权重改动一点点，让损失下降。大约要一分钟；你的数字可能略有不同。
# %%
model.train()
optimizer = torch.optim.AdamW(model.parameters())
steps, losses = 2000, []
for step in range(steps):
    samples = []
    for n in range(32):
        rng = Rng(1, step, n)  # random numbers with a name: seed 1, this step, this sample
        ids = tokens_of(read[rng.integer(len(read))])
        spans = sample_spans(ids, "token", rng, has_eos=True, mask_ratio=0.3, mean_length=1.5)
        order = rng.shuffle(list(range(len(spans))))
        samples.append(build_example(ids, spans, order, special))
    loss = model.loss(pack(samples))
    optimizer.zero_grad()
    loss.backward()
    # the learning rate rises for 30 steps and falls to 0 in the second half
    optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 30, 2 * (1 - step / steps))
    optimizer.step()
    losses.append(loss.item())
model.eval()
ln_V, end = math.log(tokenizer.vocab_size), sum(losses[-20:]) / 20
print(f"{steps} steps; loss {losses[0]:.2f} at first, {end:.2f} at the end; ln V = {ln_V:.2f}")
assert abs(losses[0] - ln_V) < 0.3 and end < 2
fig_loss(losses, ln_V)

# %% [markdown]
# The loss cannot reach 0: after `Today`, nothing tells `the` from `our`.
# %% [markdown] zh 4242e2
# 损失降不到 0：`Today` 后面是 `the` 还是 `our`，没有任何东西能说明。
# %%
fig_surprises(read[0], tokenizer, batch.targets, untrained, surprises())

# %% [markdown]
# ## After
# The same question, about a sentence that the model has never read:
# %% [markdown] zh d6e1f7
# ## 训练之后
# 还是那个问题，句子是模型从没读过的：
# %%
print("after:", fill(model, tokenizer, QUESTION, max_tokens=6).text)
after = probabilities(QUESTION)
assert max(after, key=after.get) == "cat" and after["cat"] > 0.5
fig_probabilities(before, after)


# %% [markdown]
# With half of the question missing, the place leaves three animals possible, the food only one:
# %% [markdown] zh cda169
# 问题少了一半时，只有地点，三种动物都有可能；只有食物，就只剩一种：
# %%
def likeliest(model, tokenizer, text):
    """The three likeliest answers for the first blank of a text."""
    answers = fill(model, tokenizer, text, top=3).blanks[0].alternatives
    return ", ".join(f"{a.text.strip()} ({math.exp(a.log_probability):.2f})" for a in answers)


for text in ("The [MASK] lives on the farm and [MASK].", "The [MASK] eats mice and [MASK]."):
    print(f"{text}\n    {likeliest(model, tokenizer, text)}")

# %% [markdown]
# All nine held-out sentences; nothing says how many words a blank holds:
# %% [markdown] zh b65bcd
# 留出的九句话都来试一遍；没有任何东西说明一个空里有几个词：
# %%
correct = {"animal": 0, "place": 0, "food": 0}
for animal, (place, food) in ANIMALS.items():
    for kind, answer in (("animal", animal), ("place", place), ("food", food)):
        text = kept[animal].replace(answer, "[MASK]", 1)
        filled = fill(model, tokenizer, text, max_tokens=8).blanks[0].text.strip()
        correct[kind] += filled == answer
        if animal == "otter":
            print(f"{text:45} -> {filled}")
print("\ncorrect, of nine each:", correct)

# %% [markdown]
# ## A model that has read stories
# A larger one comes with minglm. It was trained mainly on simple stories and sentences, and on some Jane
# Austen and Bible verses:
# %% [markdown] zh 20cf39
# ## 读过故事的模型
# minglm 自带一个大一些的模型，主要读简单的故事和句子，也读了一点简·奥斯汀和圣经：
# %%
box, its_tokenizer = read_model(BOX)
print(f"{box.num_parameters():,} weights")
for text in (
    "She was very [MASK] to see him.",
    "And God [MASK] the light.",
    "My dear [MASK], I am not well.",
    "He took the [MASK] and went out of the house.",
):
    print(f"{text}\n    {likeliest(box, its_tokenizer, text)}")


# %% [markdown]
# GLM's claim is that nearly every task can be written as such a blank: a label, a translation, a
# continuation.
#
# **Remember:** GLM cuts spans out of a text and learns to write them back, one token after another. Part A
# is the text with one `[M]` per blank, Part B the missing words. An untrained model has a loss of $\ln V$.
# %% [markdown] zh 03ee56
# GLM 的主张是：几乎所有任务都能写成这样一个空：一个标签、一段译文、一段续写。
#
# **记住：** GLM 从文本里挖掉一些片段，再学着把它们一个 token 一个 token 地写回来。Part A 是文本，每个空换
# 成一个 `[M]`；Part B 是缺的词。没训练过的模型，损失是 $\ln V$ 。
# %%
fig_remember(fill(model, tokenizer, QUESTION, max_tokens=6), losses, ln_V)


# %% [markdown]
# ## Exercises
# **1. ★** Spans `(start, end)`, `end` not included, are cut out of $L$ tokens. Write `count_rows(L, spans)`:
# how many rows has the sample, both parts together?
# %% [markdown] zh fa03f2
# ## 练习
# **1. ★** 从 $L$ 个 token 的文本里挖掉若干片段 `(start, end)`，不含 `end`。样本一共有几行
# （Part A 加 Part B）？写出 `count_rows(L, spans)`。
# %%
def count_rows(L, spans): ...  # your answer


# check_count_rows(count_rows)  # uncomment


# %% [markdown]
# **2. ★★** Write `part_b(words, spans, order)`: the tokens of Part B as the model reads them, with an `"[S]"`
# in front of each span.
# %% [markdown] zh e08c3c
# **2. ★★** 写出 `part_b(words, spans, order)`：模型读到的 Part B 的各个 token，每个片段前面有 `"[S]"`。
# %%
def part_b(words, spans, order): ...  # your answer


# check_part_b(part_b)  # uncomment


# %% [markdown]
# **3. ★★** Find a text with one `[MASK]` that names no animal and that the model answers with `goose`.
# %% [markdown] zh f3cb20
# **3. ★★** 找一段文本，里面有一个 `[MASK]`，不提任何动物，而模型的回答是 `goose`。
# %%
def check_goose(text):
    ask_for_goose(text, model, tokenizer)


# check_goose("...")   # uncomment

# %% [markdown]
# ## Read on
# - [`tests/test_tour.py`](../tests/test_tour.py): what minglm promises, in ten small tests.
# - [`minglm/infilling.py`](../minglm/infilling.py): `build_example`, which made every sample here.
# - Next: [how blanks are chosen](01_breaking_a_text.md).
# %% [markdown] zh d127ec
# ## 延伸阅读
# - [`tests/test_tour.py`](../tests/test_tour.py)：minglm 承诺了什么，十个小测试。
# - [`minglm/infilling.py`](../minglm/infilling.py)：`build_example`，本章的样本都是它造的。
# - 下一章：[空是怎么选的](01_breaking_a_text.zh.md)。
