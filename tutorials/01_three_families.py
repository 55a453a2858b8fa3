# %% [markdown]
# # 01 Three families
#
# *Why was no pretrained model best at everything?*
#
# Before GLM one chose a family by the task. GLM's paper (arXiv 2103.10360, section 1) sorts them:
#
# | family | example | made for |
# |---|---|---|
# | autoencoding | BERT | understanding a text |
# | autoregressive | GPT | writing on |
# | encoder-decoder | T5 | text in, text out |
#
# All three learn from plain text, and none needs labels. They differ in two things: what a token may look at while it
# is being predicted, and which tokens are predicted at all. This chapter puts both on one sentence.
# %% [markdown] zh
# # 01 三个家族
#
# *为什么没有一种预训练模型样样都强？*
#
# GLM 之前，要先看任务，再选模型家族。GLM 的论文（arXiv 2103.10360，第 1 节）这样分类：
#
# | 家族 | 代表 | 擅长 |
# |---|---|---|
# | 自编码（autoencoding） | BERT | 理解文本 |
# | 自回归（autoregressive） | GPT | 续写 |
# | 编码器-解码器 | T5 | 输入文本，输出文本 |
#
# 三者都只用纯文本学习，不需要标注。区别只有两点：预测一个 token 时它能看见什么；哪些 token 会被预测。
# 本章把这两点放到同一个句子上来看。
# %%
from collections import Counter
from fractions import Fraction
from itertools import product
from math import prod

import matplotlib.pyplot as plt
import numpy as np

from minglm import GLMMask, explain, keys_of_row
from minglm.viz.figures import draw
from minglm.viz.palette import KINDS, THEMES

# %% [markdown]
# ## Five sentences, by hand
#
# Here is the whole world: five sentences, each beginning with "we drank". In the middle is a blank, and a model has to
# say what stands there. Counting is enough; no network is needed.
# %% [markdown] zh
# ## 五个句子，手算
#
# 这就是全部的语料：五个句子，都以 "we drank" 开头。中间是一个空，模型要说出空里是什么。数一数就够了，用不着神经网络。
# %%
CORPUS = [  # we drank ... : what stands in the blank, and what comes after it
    ("red wine", "with him today"),
    ("green tea", "with him today"),
    ("water", "with him today"),
    ("red wine", "at night"),
    ("green tea", "at dawn"),
]
# %% [markdown]
# **BERT** puts one `[M]` for each missing token and predicts each from the whole context, but alone: no `[M]` knows
# what another one will say,
#
# $$p(x_1, x_2 \mid \text{context}) = p(x_1 \mid \text{context}) \cdot p(x_2 \mid \text{context}).$$
#
# Ask for two words in "we drank [M] [M] with him today". Two sentences fit. Count by hand: the first `[M]` is *red* or
# *green*, each 1/2; the second is *wine* or *tea*, each 1/2. Now multiply.
# %% [markdown] zh
# **BERT** 给每个缺失的 token 放一个 `[M]`，根据整个上下文来预测，但各猜各的：一个 `[M]` 不知道另一个 `[M]` 会填什么，
#
# $$p(x_1, x_2 \mid \text{上下文}) = p(x_1 \mid \text{上下文}) \cdot p(x_2 \mid \text{上下文}).$$
#
# 让它填 "we drank [M] [M] with him today" 里的两个词。有两个句子符合。手算一下：第一个 `[M]` 是 *red* 或 *green*，
# 各 1/2；第二个是 *wine* 或 *tea*，各 1/2。然后相乘。
# %% exact
def bert(right, n):
    """{filling: probability} of n words before `right`, each predicted without the others."""
    rows = [filling.split() for filling, after in CORPUS if after == right]
    rows = [row for row in rows if len(row) == n]
    alone = [Counter(row[k] for row in rows) for k in range(n)]
    return {
        " ".join(words): prod(Fraction(alone[k][word], len(rows)) for k, word in enumerate(words))
        for words in product(*alone)
    }


for filling, p in bert("with him today", 2).items():
    print(f"{p}  we drank {filling} with him today")
# %% [markdown]
# Half of the probability goes to drinks that nobody has drunk: *red tea* and *green wine*. And *water* is out of reach,
# because two `[M]` have already told the model that two words are missing.
#
# **One by one** is the other way: predict a word, look at it, predict the next, until the blank ends (`[E]`). That is
# how the rest of the families do it; they differ in the context. **GPT** looks only to the left. **T5** and **GLM** see
# both sides. (A real GPT has no `[E]`. It is lent one here, so that the three can be compared.)
# %% [markdown] zh
# 一半的概率给了语料中不存在的饮料：*red tea* 和 *green wine*。而 *water* 根本填不进去，
# 因为两个 `[M]` 已经告诉模型缺的是两个词。
#
# 另一种办法是**逐个预测**：猜一个词，看着它再猜下一个，直到空结束（`[E]`）。其他家族都是这样做的，不同的只是上下文：
# **GPT** 只看左边，**T5** 和 **GLM** 两边都看。（真正的 GPT 没有 `[E]`，这里借给它一个，好让三者能相互比较。）
# %% exact
def one_by_one(filling, rows):
    """The probability of a filling and its end, word after word, counted in `rows`."""
    words, p = [*filling.split(), "[E]"], Fraction(1)
    for k, word in enumerate(words):
        fit = [row for row in rows if row[:k] == words[:k]]  # begin as this filling does
        p = p * Fraction(sum(row[k] == word for row in fit), len(fit))
        if p == 0:
            break
    return p


def gpt(filling, right):
    """Reads "we drank" and not what comes after the blank: every row counts."""
    return one_by_one(filling, [[*f.split(), "[E]"] for f, _ in CORPUS])


def glm(filling, right):
    """Reads both sides: only rows that go on with `right` count."""
    return one_by_one(filling, [[*f.split(), "[E]"] for f, after in CORPUS if after == right])


FILLINGS = ["red wine", "red tea", "green wine", "green tea", "water"]
answers = {
    right: {
        "BERT, [M] [M]": [bert(right, 2).get(f, Fraction(0)) for f in FILLINGS],
        "GPT": [gpt(f, right) for f in FILLINGS],
        "GLM": [glm(f, right) for f in FILLINGS],
    }
    for right in ("with him today", "at dawn")
}
for right, ways in answers.items():
    print(f"we drank ... {right}")
    print(f"{'':14}" + "".join(f"{f:>11}" for f in FILLINGS))
    for name, row in ways.items():
        print(f"{name:14}" + "".join(f"{str(p):>11}" for p in row))
        assert sum(row) == 1
# %%
LOOK = THEMES["light"]
BARS = {"BERT, [M] [M]": ("BE", ".."), "GPT": ("BA", ""), "GLM": ("AA", "")}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True, layout="constrained")
for ax, (right, ways) in zip(axes, answers.items(), strict=True):
    for n, (name, row) in enumerate(ways.items()):
        colour, hatch = KINDS[BARS[name][0]].light, BARS[name][1]
        at, height = np.arange(len(row)) + 0.27 * (n - 1), [float(p) for p in row]
        ax.bar(at, height, 0.25, label=name, color=colour, hatch=hatch, edgecolor="white")
    ax.set_title(f"we drank ... {right}", fontsize=10)
    ax.set_xticks(range(len(FILLINGS)), [f.replace(" ", "\n") for f in FILLINGS])
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("probability")
axes[0].legend(frameon=False, fontsize=9)
fig.alt_text = (
    "Probabilities of five fillings under BERT, GPT and GLM. Before 'with him today' BERT gives "
    "red tea and green wine as much as red wine; before 'at dawn' GPT alone is unsure of green tea."
)
# %% [markdown]
# On the left BERT drinks red tea. On the right GPT cannot see that it is dawn. GLM has neither fault: it reads both
# sides and looks at what it has just said. (T5 would draw the same bars as GLM. What tells those two apart comes
# below.)
# %% [markdown] zh
# 左图里，BERT 喝起了 red tea；右图里，GPT 看不见后面的 dawn。GLM 两个毛病都没有：它读两边，也知道自己刚才说了什么。
# （T5 的柱子和 GLM 一样。这两者的区别后面再说。）
# %% [markdown]
# ## One sentence, six inputs
#
# Now a sentence with two blanks: *red wine* and *him*. `minglm.explain` writes down what a model reads and what each
# row learns (`.` is nothing). A prefix LM is a GPT that may look around in its prompt. UniLM trains one network under
# several masks in turn; the one here is its mask for text to text. Everything counts from 0.
# %% [markdown] zh
# ## 一个句子，六种输入
#
# 现在换成一个有两个空的句子：*red wine* 和 *him*。`minglm.explain` 会列出模型读到什么、每一行学什么（`.` 表示不学）。
# prefix LM 就是在提示部分可以左右都看的 GPT。UniLM 用同一个网络轮流在几种掩码下训练，这里是其中用于文本到文本的那一种。
# 所有编号都从 0 开始。
# %% exact
words = "we drank red wine with him today".split()
SPANS, ORDER = [(2, 4), (5, 6)], [1, 0]  # half-open; GLM: the second span first
MODELS = "bert", "gpt", "prefix", "unilm", "t5", "glm"
FAMILY = {model: explain(words, SPANS, ORDER, model=model) for model in MODELS}

for model, d in FAMILY.items():
    pairs = [(token, target or ".") for token, target in zip(d.tokens, d.targets, strict=True)]
    width = [max(map(len, pair)) for pair in pairs]
    for name, row in zip((model, "learns"), zip(*pairs, strict=True), strict=True):
        print(f"{name:7}", *(text.ljust(w) for text, w in zip(row, width, strict=True)))
    print()
# %% [markdown]
# Read it column by column. Under BERT's `[M]` stands the word itself; under a word of GPT stands the next word. T5 and
# GLM do both: a text with holes, then the missing words one after another, each row learning the next token. T5 calls
# its holes by name, `<X0>` and `<X1>`. GLM's holes are all `[M]` and its spans all begin with `[S]`; [chapter
# 03](03_two_positions.md) shows how it tells them apart by position alone. And GLM's spans come in shuffled order: here
# the last one is first.
# %% [markdown] zh
# 一列一列地看。BERT 的 `[M]` 下面是这个词自己；GPT 的每个词下面是下一个词。T5 和 GLM 两者兼有：先是带空的文本，
# 再逐个写出缺失的词，每一行学下一个 token。T5 给每个空起了名字：`<X0>`、`<X1>`。GLM 的空都是 `[M]`，
# 每个 span 都以 `[S]` 开头；它只靠位置来区分，见[第 03 章](03_two_positions.zh.md)。此外 GLM 的 span 顺序是打乱的：
# 这里最后一个排在最前。
# %% [markdown]
# ## Who sees whom: three loops, one rule
#
# Row `i` asks, row `j` is looked at; `True` means "may attend". Three families as three rules:
# %% [markdown] zh
# ## 谁能看见谁：三个循环，一条规则
#
# 第 `i` 行发问，第 `j` 行被看；`True` 表示“可以看”。三个家族，三条规则：
# %% exact
def grid(T, sees):
    """All T x T answers of a rule, one at a time."""
    return np.array([[sees(i, j) for j in range(T)] for i in range(T)])


LOOPS = {
    "bert": lambda i, j: True,  # everything
    "gpt": lambda i, j: j <= i,  # itself and its past
    "prefix": lambda i, j: j < 2 or j <= i,  # the first two words, itself and its past
}
for model, sees in LOOPS.items():
    print(model)
    for row in grid(len(words), sees):
        print("   ", *("#" if may else "." for may in row))
    assert (grid(len(words), sees) == FAMILY[model].mask).all()
# %% [markdown]
# The third rule contains the other two. Call the length of the part that sees itself `A`: with `A` = 0 the first
# condition never holds and GPT is left; with `A` = 7 it always holds and BERT is left. As a row always sees a beginning
# of the keys, it is enough to say how many: `max(A, i + 1)`. This is `minglm.keys_of_row`, and it holds for all six.
# %% [markdown] zh
# 第三条规则包含了前两条。把“自己人互相看得见”的那一部分的长度记作 `A`：`A` = 0 时第一个条件永远不成立，剩下的就是 GPT；
# `A` = 7 时它总是成立，剩下的就是 BERT。每一行看见的总是最前面的若干个 key，所以只要说出个数：`max(A, i + 1)`。
# 这就是 `minglm.keys_of_row`，六种模型全都适用。
# %% exact
for model, d in FAMILY.items():
    A, T = d.part_a_len, len(d)
    by_rule = grid(T, lambda i, j, A=A: j < keys_of_row(i, A))
    assert (by_rule == d.mask).all()
    assert (by_rule == GLMMask.packed([T], [A]).dense().numpy()).all()
    print(f"{model:7} A = {A} of {T} rows: keys of each row", [keys_of_row(i, A) for i in range(T)])
# %%
draw("family", derivation=FAMILY["glm"], width=700)
# %% [markdown]
# Above the line the first part sees itself on both sides (dark blue). Below it the second part sees all of the first
# (light blue) and its own past (orange, yellow). T5 is drawn as three blocks because it has two networks: an encoder,
# and a decoder that looks at it. GLM has one network and one square. [Chapter 04](04_who_sees_whom.md) is about that
# square.
#
# ## What each row can use
#
# A mask alone does not say enough: UniLM's rows see many keys, but some of those keys are `[M]` and tell nothing. So
# ask what matters: when *red*, *wine* and *him* are predicted, which *words of the text* are in sight?
# %% [markdown] zh
# 横线以上，第一部分左右都看得见自己（深蓝）；横线以下，第二部分看得见整个第一部分（浅蓝），以及自己的过去（橙色、
# 黄色）。T5 画成三块，因为它有两个网络：编码器，和看着编码器的解码器。GLM 只有一个网络、一个方块，
# [第 04 章](04_who_sees_whom.zh.md)专门讲它。
#
# ## 每一行能用上什么
#
# 光看掩码还不够：UniLM 的行看得见很多 key，可其中有些是 `[M]`，什么也没说。所以要问的是：预测 *red*、*wine*、
# *him* 的时候，看得见原文中的哪些*词*？
# %% exact
def in_sight(d):
    """{word learned: the words of the text that its row sees}, as indices into d.text."""
    found = {}
    for i, target in enumerate(d.targets):
        row = i if d.tokens[i] == "[M]" else i + 1  # the row where the learned word stands
        at = d.word[row] if row < len(d) else -1  # its index in the text; -1: none
        if at >= 0 and target == d.text[at]:
            open_rows = [j for j in range(len(d)) if d.mask[i, j] and d.word[j] >= 0]
            found[int(at)] = {int(d.word[j]) for j in open_rows if d.tokens[j] != "[M]"}
    return found


BLANKED = [i for a, b in SPANS for i in range(a, b)]
for model, d in FAMILY.items():
    for at in BLANKED:
        sight = in_sight(d)[at]
        print(f"{model:7} {words[at]:>4} <-", *(words[j] if j in sight else "-" for j in range(7)))
# %%
fig, ax = plt.subplots(figsize=(7, 6.3), layout="constrained")
lines = [(model, at) for model in FAMILY for at in BLANKED]
for y, (model, at) in enumerate(lines):
    y += y // 3 * 0.5
    for x, word in enumerate(words):
        seen, blanked = x in in_sight(FAMILY[model])[at], x in BLANKED
        kind = KINDS["BS" if blanked else "BA"]
        fill = kind.light if seen else LOOK["faint"]
        ax.add_patch(plt.Rectangle((x + 0.03, y + 0.05), 0.94, 0.9, facecolor=fill))
        text = "?" if x == at else word if seen else ""
        how = {"color": kind.ink["light"] if seen else LOOK["ink"], "fontsize": 9}
        how["weight"] = "bold" if seen and blanked else "normal"
        ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", **how)
    if at == BLANKED[1]:
        name = {"prefix": "prefix LM", "unilm": "UniLM"}.get(model, model.upper())
        ax.text(-0.15, y + 0.5, name, ha="right", va="center", fontsize=10, weight="bold")
ax.set(xlim=(-1.4, 7), ylim=(y + 1, 0))
ax.set_title("What is in sight while ? is predicted", fontsize=11, loc="left")
ax.axis("off")
fig.alt_text = (
    "For each of six models and each blanked word, the words of the text in sight. BERT sees we, "
    "drank, with and today; GPT only what comes before; GLM the kept words on both sides and the "
    "answers given before."
)
# %% [markdown]
# Light blue is a word that was there, orange a blanked word that has already been said. Look for what is missing: the
# right side for GPT, the prefix LM and UniLM; anything orange for BERT and UniLM. T5 and GLM have both. GLM sees *him*
# before it says *red*, because its spans are shuffled; in another draw it would be the other way round. T5 always goes
# from left to right.
#
# ## What each cannot do
#
# Three questions, each put to the rows themselves. Are there words to the right in sight? Does a word see the earlier
# ones of its own blank? And is the length of the blank a secret, so that *water* and *red wine* are read with the same
# input?
# %% [markdown] zh
# 浅蓝色是原来就在的词，橙色是空里已经说出的词。看看缺什么：GPT、prefix LM、UniLM 缺右边；BERT 和 UniLM 没有一点橙色。
# T5 和 GLM 两样都有。GLM 在说 *red* 之前已经看见 *him*，因为它的 span 是打乱的；换一次抽样就可能反过来。
# T5 总是从左到右。
#
# ## 各自做不到什么
#
# 三个问题，直接问这些行。看得见右边的词吗？一个词看得见同一个空里前面的词吗？空的长度保密吗，也就是说，
# *water* 和 *red wine* 对应的输入一样吗？
# %% exact
def before_the_answer(filling, model):
    """What stands in front of the model before the first word of a filling is known."""
    first, text = 2, ["we", "drank", *filling.split(), "with", "him", "today"]
    blank = range(first, first + len(filling.split()))
    d = explain(text, [(first, blank.stop)], [0], model=model)
    tokens = []
    for token, at in zip(d.tokens, d.word, strict=True):
        if at in blank and token != "[M]":
            break
        tokens.append(token)
    return tokens


def can(model):
    """-> (sees the right side, sees the earlier words of its blank, does not know the length)"""
    sight = in_sight(FAMILY[model])
    right = any(j > 3 for j in sight[2])
    earlier = 2 in sight[3]
    secret = before_the_answer("water", model) == before_the_answer("red wine", model)
    return right, earlier, secret


QUESTIONS = "right side", "own blank", "any length", "rows that learn"
print(f"{'':7}", *(f"{q:>15}" for q in QUESTIONS))
for model, d in FAMILY.items():
    told = ["yes" if yes else "no" for yes in can(model)]
    told.append(f"{sum(t != '' for t in d.targets)} of {len(d)}")
    print(f"{model:7}", *(f"{t:>15}" for t in told))
# %% [markdown]
# This is the answer to the chapter's question. To understand a text one wants both sides: BERT. To write, a word has to
# follow from the one before and the length has to be open: GPT. BERT fails where GPT is good, and the other way round.
# GPT has one advantage of its own: every row but the last learns something. In GLM the rows of Part A only serve to be
# read. UniLM's three times *no* belong to this one mask: under its other masks it is a BERT or a GPT. It is each of
# them in turn, never both at once.
#
# T5 and GLM answer alike. What tells them apart is the cost: T5 has two stacks of layers and a token of its own for
# every blank, GLM has one stack and a second position. GLM maximises (the paper's equations 1 and 2)
#
# $$
# \max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^{m} \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{<i}}) \Big]
# \tag{1}
# $$
#
# $$
# p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{<i}})
# = \prod_{j=1}^{l_{z_i}} p(s_{z_i,j} \mid x_{\text{corrupt}}, s_{z_{<i}}, s_{z_i,<j})
# \tag{2}
# $$
#
# where $m$ is the number of spans and $z$ their order, drawn from all orders $Z_m$. The blue cells of the last picture
# are $x_{\text{corrupt}}$, the text with its holes; the orange ones are $s_{z_{<i}}$, the spans already said, and
# $s_{z_i,<j}$, the beginning of this one.
#
# ## Both ends inside GLM
#
# GLM becomes the others when the blanks are chosen so. One blank over the whole text leaves a single `[gM]` (the mask
# token of the document objective) in Part A, and Part B writes everything from left to right: GPT, with two more rows
# in front of the text.
# %% [markdown] zh
# 这就回答了本章的问题。理解文本需要看两边：BERT。写作则要让每个词接着前一个词，而且长度不能事先定死：GPT。
# BERT 做不好的正是 GPT 擅长的，反过来也一样。GPT 还有一个独有的优势：除最后一行外，每一行都在学。而在 GLM 里，
# Part A 的各行只供阅读。UniLM 的三个 no 只针对这一种掩码：换上别的掩码，它就是 BERT 或 GPT。它轮流做这两者，
# 却不能同时兼得。
#
# T5 和 GLM 的回答一样，区别在代价：T5 有两套网络层，每个空还要一个专用 token；GLM 只有一套网络层，外加第二个位置。
# GLM 最大化的是（论文的公式 1 和 2）
#
# $$
# \max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^{m} \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{<i}}) \Big]
# \tag{1}
# $$
#
# $$
# p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{<i}})
# = \prod_{j=1}^{l_{z_i}} p(s_{z_i,j} \mid x_{\text{corrupt}}, s_{z_{<i}}, s_{z_i,<j})
# \tag{2}
# $$
#
# 其中 $m$ 是 span 的个数， $z$ 是它们的顺序，从所有排列 $Z_m$ 中抽取。上一张图里，蓝色格子对应 $x_{\text{corrupt}}$ ，
# 即带空的文本；橙色格子对应 $s_{z_{<i}}$ 和 $s_{z_i,<j}$ ，前者是已经说出的 span，后者是当前 span 已经写出的开头。
#
# ## 两端都在 GLM 里
#
# 空选得合适，GLM 就变成别的模型。整段文本只挖一个空，Part A 就只剩一个 `[gM]`（document 目标的 mask token），
# Part B 从左到右写出全部：这就是 GPT，只不过正文前面多了两行。
# %% exact
d = explain(words, [(0, 7)], [0], "document")
print("reads ", *d.tokens)
print("learns", *(target or "." for target in d.targets))
print("keys  ", *(keys_of_row(i, d.part_a_len) for i in range(len(d))))
assert (d.mask == np.tri(len(d), dtype=bool)).all()  # the triangle of GPT
# %% [markdown]
# And a blank of one word is BERT's cloze: the first row of Part B sees the whole text on both sides, and says one word.
# %% [markdown] zh
# 而只有一个词的空就是 BERT 的完形填空：Part B 的第一行看得见两边的全文，说出一个词。
# %% exact
d = explain(words, [(5, 6)], [0])
print("reads ", *d.tokens)
print("learns", *(target or "." for target in d.targets))
print("him <-", *(words[j] if j in in_sight(d)[5] else "-" for j in range(7)))
# %% [markdown]
# ## Exercises
#
# **1. One integer.** A text has 7 tokens; its first 3 are a prompt. Which `A` makes the rule into BERT, GPT and
# this prefix LM? Answer with a dict with the keys `"bert"`, `"gpt"` and `"prefix"`. (For one of them there are two
# right answers. Why?)
# %% [markdown] zh
# ## 练习
#
# **1. 一个整数。** 文本有 7 个 token，前 3 个是提示。`A` 取多少，规则就分别变成 BERT、GPT 和这个 prefix LM？
# 用一个 dict 回答，键为 `"bert"`、`"gpt"`、`"prefix"`。（其中一个有两个正确答案，为什么？）
# %%
def check_one_integer(answer):
    rules = LOOPS | {"prefix": lambda i, j: j < 3 or j <= i}
    for model, rule in rules.items():
        mask = GLMMask.packed([7], [answer[model]]).dense().numpy()
        wrong = np.argwhere(mask != grid(7, rule))
        where = f"{model}: with A = {answer[model]} the first wrong cell [row, key] is"
        assert not len(wrong), f"{where} {wrong[0].tolist()}"
    return "Right: one integer is the whole mask."


# check_one_integer({"bert": ..., "gpt": ..., "prefix": ...})
# %% [markdown]
# **2. When BERT is right.** Find a list of two-word fillings with at least two first words and at least two second
# words, for which predicting each word alone gives every filling what it gets one by one.
# %% [markdown] zh
# **2. BERT 什么时候是对的？** 找一组两个词的填法，至少有两个不同的第一个词、两个不同的第二个词，使得各词单独预测时，
# 每种填法的概率与逐个预测时相同。
# %%
def check_independent(fillings):
    rows = [filling.split() for filling in fillings]
    assert all(len(row) == 2 for row in rows), "every filling has two words"
    firsts, seconds = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    assert len(firsts) > 1 and len(seconds) > 1, "at least two first and two second words, please"
    for a, b in product(firsts, seconds):
        alone = Fraction(firsts[a] * seconds[b], len(rows) ** 2)
        chain = one_by_one(f"{a} {b}", [[*row, "[E]"] for row in rows])
        assert alone == chain, f"{a} {b}: {alone} with each word alone, {chain} one by one"


# check_independent(["red wine", ...])
# %% [markdown]
# **3. What a blank costs.** Write `learned(model, text_len, lengths)`: how many rows have a target when blanks of these
# lengths are made in a text of `text_len` tokens, for the models `"bert"`, `"gpt"`, `"t5"` and `"glm"`. The printed
# rows above are all you need.
# %% [markdown] zh
# **3. 一个空的代价。** 写出 `learned(model, text_len, lengths)`：在 `text_len` 个 token 的文本里挖出这些长度的空，
# 有多少行带学习目标？模型为 `"bert"`、`"gpt"`、`"t5"`、`"glm"`。看上面打印出的各行就够了。
# %%
def check_learned(learned):
    for lengths in ([1], [3], [2, 1], [1, 1, 4]):
        spans, start = [], 1
        for n in lengths:
            spans.append((start, start + n))
            start += n + 1
        text = [f"x{i}" for i in range(start + 2)]
        for model in ("bert", "gpt", "t5", "glm"):
            d = explain(text, spans, range(len(spans)), model=model)
            right, got = [t for t in d.targets if t], learned(model, len(text), lengths)
            where = f"{model}, {len(text)} tokens, blanks {lengths}"
            assert got == len(right), f"{where}: {got} rows? Learned is {' '.join(right)}"


# check_learned(lambda model, text_len, lengths: ...)
# %% [markdown]
# ## Read on
#
# - [`minglm/mask.py`](../minglm/mask.py): `keys_of_row`, and `GLMMask.bert`, `.gpt` and `.prefix` beside it.
# - [`minglm/viz/derivation.py`](../minglm/viz/derivation.py): `relative` builds the rows of the five relatives.
# - `minglm show "we drank red wine with him today" --spans 2:4,5:6 --order 2,1 --compare all` prints them side by side.
# - Next: [how blanks are chosen](02_breaking_a_text.md).
# %% [markdown] zh
# ## 继续阅读
#
# - [`minglm/mask.py`](../minglm/mask.py)：`keys_of_row`，以及旁边的 `GLMMask.bert`、`.gpt`、`.prefix`。
# - [`minglm/viz/derivation.py`](../minglm/viz/derivation.py)：`relative` 构造另外五种模型的各行。
# - `minglm show "we drank red wine with him today" --spans 2:4,5:6 --order 2,1 --compare all` 会把它们并排打印出来。
# - 下一章：[空是怎样选出来的](02_breaking_a_text.zh.md)。
