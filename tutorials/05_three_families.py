# %% [markdown]
# # 05 Three families
#
# *Why was no pretrained model best at everything?*
#
# Before GLM you chose a family by the task. GLM's paper (arXiv 2103.10360, section 1) sorts them:
#
# | family | example | made for |
# |---|---|---|
# | autoencoding | BERT | understanding a text |
# | autoregressive | GPT | continuing a text |
# | encoder-decoder | T5 | text in, text out |
#
# All three learn from plain text without labels. They differ in what a token may look at while it is
# predicted, and in which tokens are predicted at all.
#
# - **After this chapter you can** say what BERT, GPT, T5 and GLM see and predict, and turn one integer to get
#   three masks.
# - **You need** chapters [02](02_two_positions.md) and [03](03_who_sees_whom.md).
# %% [markdown] zh 0dfaa2
# # 05 三大家族
#
# *为什么没有一种预训练模型样样都行？*
#
# 在 GLM（General Language Model，**通用语言模型**）之前，做什么任务就得挑哪一类预训练模型。
# GLM 的方法叫**自回归空白填充**（autoregressive blank infilling，也译“自回归填空”）：从文本里挖掉几段，
# 再逐个 token 写回来。论文（arXiv 2103.10360，第 1 节）把此前的模型分成三类：
#
# | 家族 | 代表 | 擅长 |
# |---|---|---|
# | 自编码（autoencoding） | BERT | 理解文本 |
# | 自回归（autoregressive） | GPT | 续写 |
# | 编码器-解码器（encoder-decoder） | T5 | 输入文本，输出文本 |
#
# 三家都从纯文本中学习，不用人工标注。差别只有两点：预测一个 token 时能看到什么，以及哪些 token 需要预测。
#
# - **学完本章，你能**说清 BERT、GPT、T5、GLM 各看到什么、预测什么，并用一个整数得到三种掩码。
# - **预备知识**：[第 02 章](02_two_positions.zh.md)和[第 03 章](03_who_sees_whom.zh.md)。
# %% imports
import math
from collections import Counter
from fractions import Fraction
from itertools import product, takewhile

import matplotlib.pyplot as plt
import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, pack
from minglm.families import answer_example
from minglm.use.models import read_siblings
from minglm.viz import Explorer
from minglm.viz.figures import draw
from minglm.viz.palette import KINDS, THEMES

# %% [markdown]
# ## Five sentences, by hand
#
# The whole corpus: five sentences that begin with "we drank", and then a blank. Counting is enough.
# %% [markdown] zh 7e76ea
# ## 五个句子，动手算
#
# 全部语料就这五句话，都以 "we drank" 开头，后面留一个空。空里该填什么？数一数就知道。
# %%
CORPUS = [  # we drank ... : what stands in the blank, and what comes after it
    ("red wine", "with him today"),
    ("green tea", "with him today"),
    ("water", "with him today"),
    ("red wine", "at night"),
    ("green tea", "at dawn"),
]


# %% [markdown]
# **BERT** puts one `[M]` for each missing token. Each `[M]` sees the whole context, but is predicted on its
# own:
#
# $$p(x_1, x_2 \mid \text{context}) = p(x_1 \mid \text{context}) \cdot p(x_2 \mid \text{context}).$$
#
# Ask it for "we drank [M] [M] with him today". Two sentences fit. The first `[M]` is *red* or *green*, 1/2
# each; the second is *wine* or *tea*, 1/2 each. Multiply:
# %% [markdown] zh 9ff65d
# **BERT** 给每个缺失的 token 放一个 `[M]`。每个 `[M]` 都能看到完整的上下文，但各猜各的，互不通气：
#
# $$p(x_1, x_2 \mid \text{上下文}) = p(x_1 \mid \text{上下文}) \cdot p(x_2 \mid \text{上下文}).$$
#
# 请它填 "we drank [M] [M] with him today"。语料里有两句符合：第一个 `[M]` 是 *red* 或 *green*，各占 1/2；
# 第二个是 *wine* 或 *tea*，也各占 1/2。两边相乘：
# %% exact
def bert(right):
    """{filling: probability} of two words before `right`, each predicted without the other."""
    rows = [filling.split() for filling, after in CORPUS if after == right]
    rows = [row for row in rows if len(row) == 2]
    first, second = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    return {
        f"{a} {b}": Fraction(first[a], len(rows)) * Fraction(second[b], len(rows))
        for a, b in product(first, second)
    }


for filling, p in bert("with him today").items():
    print(f"{p}  we drank {filling} with him today")

# %% [markdown]
# Half of the probability goes to drinks that occur nowhere: *red tea* and *green wine*. And *water* is out of
# reach, because two `[M]` already say that two words are missing.
#
# The other families go **one by one**: predict a word, look at it, predict the next, until the blank ends.
# **GPT** looks only to the left. **T5** and **GLM** see both sides. (GPT gets an `[E]` here to make them
# comparable.)
# %% [markdown] zh cbec24
# 一半的概率给了语料里没有的东西：*red tea* 和 *green wine*。（这里的 *red tea* 只是从没出现过的词语组合，
# 不是中文说的红茶。）*water* 则根本填不进去：放了两个 `[M]`，等于事先告诉模型缺两个词。
#
# 另一种办法是**逐个预测**：猜出一个词，看着它再猜下一个，直到这个空结束（`[E]`）。其他家族都这样做，
# 只是上下文不同：**GPT** 只看左边，**T5** 和 **GLM** 两边都看。（真正的 GPT 没有 `[E]`，这里借给它一个，
# 方便比较。）
# %% exact
ROWS = [([*filling.split(), "[E]"], after) for filling, after in CORPUS]


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
    """Does not see what comes after the blank: every row counts."""
    return one_by_one(filling, [row for row, _ in ROWS])


def glm(filling, right):
    """Sees both sides: only rows that go on with `right` count."""
    return one_by_one(filling, [row for row, after in ROWS if after == right])


FILLINGS = ["red wine", "red tea", "green wine", "green tea", "water"]
answers = {
    right: {
        "BERT, [M] [M]": [bert(right).get(f, Fraction(0)) for f in FILLINGS],
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

# %% picture
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True, layout="constrained")
for ax, (right, ways) in zip(axes, answers.items(), strict=True):
    for n, (name, kind) in enumerate(zip(ways, ("BE", "BA", "AA"), strict=True)):
        at = np.arange(len(FILLINGS)) + 0.27 * (n - 1)
        ax.bar(at, [float(p) for p in ways[name]], 0.25, label=name, color=KINDS[kind].light)
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
# On the left BERT drinks red tea. On the right GPT cannot see that it is dawn. GLM does neither.
#
# ## One sentence, six inputs
#
# Now a sentence with two blanks: *red wine* and *him*. Two more models join: a prefix LM is a GPT that
# looks both ways inside its prompt; UniLM is one network trained in turn as BERT, as GPT and, as here, for
# text to text.
# %% [markdown] zh 1b50a8
# 左图里，BERT 喝起了 red tea；右图里，GPT 不知道天快亮了（at dawn）。GLM 两个毛病都没有。
#
# ## 一个句子，六种输入
#
# 换一个有两个空的句子：挖掉 *red wine* 和 *him*。这里再请来两位：prefix LM 是在提示部分可以左右都看的 GPT；
# UniLM 则是同一个网络，轮流当 BERT、当 GPT，或者像这里这样，做文本到文本的任务。
# %% exact
words = "we drank red wine with him today".split()
SPANS, ORDER = [(2, 4), (5, 6)], [1, 0]  # half-open; GLM: the second span first
MODELS = "bert", "gpt", "prefix", "unilm", "t5", "glm"
FAMILY = {model: explain(words, SPANS, ORDER, model=model) for model in MODELS}

for model, d in FAMILY.items():
    print(f"{model:7}", *(f"{token:5}" for token in d.tokens))
    print("learns ", *(f"{target or '.':5}" for target in d.targets), "\n")


# %% [markdown]
# Under BERT's `[M]` is the word itself; under a word of GPT is the next word. T5 and GLM do both: a text
# with blanks, then the missing words. T5's blanks have names, `<X0>` and `<X1>`; GLM tells its blanks apart
# by position, and shuffles its spans. (The nearest relatives, XLNet
# and SpanBERT, reveal the length of a blank, as the paper notes.)
#
# ## Who sees whom: three loops, one rule
#
# Three masks as three rules; `True` means "row `i` may attend to row `j`":
# %% [markdown] zh 01bab2
# BERT 的 `[M]` 下面是被挖掉的词本身；GPT 的每个词下面是下一个词。T5 和 GLM 两者兼有：
# 先是带空的文本，再把缺的词逐个写出来，每一行学下一个 token。T5 的空各有名字，叫 `<X0>`、`<X1>`。
# GLM 的空一律是 `[M]`，挖掉的片段（span）一律以 `[S]` 开头，它们只靠位置来区分，
# 见[第 02 章](02_two_positions.zh.md)。另外，GLM 会把片段的顺序打乱：这里最后一个排到了最前面。
#
# ## 谁能看到谁：三个循环，一条规则
#
# 第 `i` 行发问，第 `j` 行被看，`True` 表示“可以看”。所有这些回答合起来，就是一个模型的掩码（mask）。
# 先把三种掩码写成三条规则：
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
# The third rule contains the other two. With `A` = 0 its first condition never holds: GPT. With `A` = 7 it
# always holds: BERT. So `max(A, i + 1)` of [chapter 03](03_who_sees_whom.md) serves all six models.
# %% [markdown] zh 22a00d
# 第三条规则把前两条都包括了。把“内部可以互相看”的那一部分的长度记作 `A`：`A` = 0 时第一个条件永远不成立，
# 剩下的就是 GPT；`A` = 7 时它永远成立，剩下的就是 BERT。每一行看到的总是最前面的若干个 key，
# 所以只要说出个数就够了：`max(A, i + 1)`。这就是 `minglm.keys_of_row`，六种模型全都适用。
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
# T5 is drawn as three blocks because it has two networks: an encoder, and a decoder that attends to it. The
# same models in the explorer (choose them under "next to"):
# %% [markdown] zh d9e1ae
# T5 画成三块，因为它有两个网络：一个编码器，一个看着编码器的解码器。在探索页里也可以把这些模型并排比较：
# %%
Explorer(FAMILY["glm"], (7, 6))


# %% [markdown]
# ## What each row can use
#
# Some keys are `[M]` and carry no word. So ask: when *red*, *wine* and *him* are predicted, which words of
# the text are in sight?
# %% [markdown] zh ba02fd
# ## 每一行真正用得上什么
#
# 光看掩码还不够：有的 key 是 `[M]`，里面什么信息也没有。真正该问的是：
# 预测 *red*、*wine*、*him* 的时候，原文中的哪些词看得到？
# %% exact
def in_sight(d):
    """{word that is learned: the words of the text that its row sees}"""
    sights = {}
    for i, target in enumerate(d.targets):
        if target in d.text:
            seen = [d.tokens[j] for j in range(len(d)) if d.mask[i, j]]
            sights[target] = [token for token in seen if token in d.text]
    return sights


for target, sight in in_sight(FAMILY["glm"]).items():
    print(f"{target:>4} <-", *sight)

# %% picture
LOOK, BLANKED = THEMES["light"], ("red", "wine", "him")
fig, ax = plt.subplots(figsize=(7, 6.3), layout="constrained")
for m, (model, d) in enumerate(FAMILY.items()):
    for n, asked in enumerate(BLANKED):
        y, sight = 3.5 * m + n, in_sight(d)[asked]
        for x, word in enumerate(words):
            text = "?" if word == asked else word if word in sight else ""
            kind, seen = KINDS["BS" if word in BLANKED else "BA"], word in sight
            ax.barh(y, 0.94, 0.9, x, color=kind.light if seen else LOOK["faint"])
            ink = kind.ink["light"] if seen else LOOK["ink"]
            ax.text(x + 0.47, y, text, color=ink, ha="center", va="center")
    ax.text(-0.15, 3.5 * m + 1, model, ha="right", va="center", weight="bold")
ax.set(xlim=(-1.1, 7), ylim=(20.2, -0.7))
ax.set_title("what is in sight while ? is predicted", fontsize=11, loc="left")
ax.axis("off")
fig.alt_text = (
    "For each of six models and each blanked word, the words of the text in sight. BERT sees we, "
    "drank, with and today; GPT only what comes before; GLM the kept words on both sides and the "
    "answers given before."
)


# %% [markdown]
# Light blue words were left in the text, orange ones were blanked and are already written. GLM sees *him*
# before it writes *red* because its spans are shuffled; T5 always goes from left to right.
#
# ## What each cannot do
#
# Are words to the right in sight? Does a word see the earlier ones of its own blank? And is the length of the
# blank hidden, so that *water* and *red wine* are asked for with the same input?
# %% [markdown] zh 494f83
# 浅蓝色是原文中保留的词，橙色是空里已经说出来的词。GLM 在说 *red* 之前已经看到了 *him*，
# 因为片段的顺序是打乱的；换一次抽样，也可能正好反过来。T5 则永远从左到右。
#
# ## 各家做不到什么
#
# 能看到右边的词吗？填一个词时，能看到同一个空里前面的词吗？空的长度保密吗，
# 也就是说，要填的是 *water* 还是 *red wine*，模型看到的输入一样吗？
# %% exact
def before_the_answer(filling, model):
    """What stands in front of the model before the first word of a filling is known."""
    answer = filling.split()
    text = ["we", "drank", *answer, "with", "him", "today"]
    d = explain(text, [(2, 2 + len(answer))], [0], model=model)
    return list(takewhile(lambda token: token not in answer, d.tokens))


QUESTIONS = "right side", "own blank", "any length", "rows that learn"
print(f"{'':7}", *(f"{q:>15}" for q in QUESTIONS))
for model, d in FAMILY.items():
    sight = in_sight(d)
    right, own = "today" in sight["red"], "red" in sight["wine"]
    secret = before_the_answer("water", model) == before_the_answer("red wine", model)
    cells = ["yes" if yes else "no" for yes in (right, own, secret)]
    cells.append(f"{sum(t != '' for t in d.targets)} of {len(d)}")
    print(f"{model:7}", *(f"{t:>15}" for t in cells))

# %% [markdown]
# This answers the chapter's question. Understanding needs both sides: BERT. Writing needs each word to
# follow from the one before, and an open length: GPT. In GPT every row but the last learns something, while
# GLM's Part A is only read. T5 and GLM answer alike; T5 has two stacks of layers, GLM one stack and a
# second position.
#
# ## BERT and GPT are special cases of GLM
#
# One blank over the whole text leaves a single `[gM]` in Part A, and Part B writes everything from left to
# right: GPT, with two more rows in front. A blank of one word is BERT's cloze.
# %% [markdown] zh 7af0b2
# 这就是本章问题的答案。要理解文本，就得两边都看：BERT。要写作，每个词都得接着前一个词往下写，
# 长度也不能事先定死：GPT。GPT 除最后一行外，行行都在学；在 GLM 里，Part A 的各行只供阅读。
# T5 和 GLM 的回答相同：T5 要两套网络层，GLM 只要一套，外加第二个位置编号。
#
# ## BERT 和 GPT 都是 GLM 的特例
#
# 把整段文本挖成一个空，Part A 就只剩一个 `[gM]`，Part B 从左到右写出全文：这就是 GPT，
# 只是正文前面多了两行。而只挖一个词，就是 BERT 的完形填空。
# %% exact
for name, span, objective in (("GPT", (0, 7), "document"), ("BERT", (5, 6), "token")):
    d = explain(words, [span], [0], objective)
    print(f"{name:6}", *(f"{token:5}" for token in d.tokens))
    print("learns", *(f"{target or '.':5}" for target in d.targets))
    print("keys  ", *(f"{keys_of_row(i, d.part_a_len):<5}" for i in range(len(d))), "\n")
    assert name == "BERT" or (d.mask == np.tri(len(d), dtype=bool)).all()  # the triangle of GPT


# %% [markdown]
# ## The same with trained networks
#
# So far we counted. Three networks of one shape (134,016 weights) have read the same small world of sentences
# ([`minglm/data/toy.py`](../minglm/data/toy.py)) as GLM, as GPT and as BERT; they come with minglm. In this
# world a fox eats red berries or white mushrooms, and a mouse lives on the farm or in the forest. The three
# texts below are from sentences that were held out. How likely is each answer? (GPT and BERT are told its
# length, GLM also has to end it.)
# %% [markdown] zh fc0df6
# ## 换成训练好的网络
#
# 前面都是数出来的。现在来真的：三个形状相同的网络（134,016 个权重）读过同一个小世界里的同一批句子
# （[`minglm/data/toy.py`](../minglm/data/toy.py)），一个按 GLM 训练，一个按 GPT，一个按 BERT；它们随 minglm
# 一起发布。在这个世界里，狐狸吃 red berries 或 white mushrooms，老鼠住在 on the farm 或 in the forest。
# 下面三句话训练时都没出现过。每个答案的概率是多少？（GPT 和 BERT 事先知道答案的长度，
# GLM 还得自己决定在哪里结束。）
# %%
SIBLINGS, tokenizer = read_siblings()  # {"glm": a GLM, "gpt": ..., "bert": ...}
ASKED = {
    "The [MASK] lives on the farm and eats mice.": ["cat", "cow", "pig", "fox", "otter"],
    "The fox lives in the forest and eats [MASK].": [
        f"{a} {b}" for a in ("red", "white") for b in ("berries", "mushrooms")
    ],
    "The mouse lives [MASK] and eats seeds.": [
        f"{a} the {b}" for a, b in product(("on", "in"), ("farm", "forest"))
    ],
}


@torch.no_grad()
def probability(family, text, answer):
    """The probability that a sibling gives to an answer in the blank of a text."""
    special, answer = tokenizer.special, tokenizer.encode(" " + answer)
    part_a = [special.cls, *tokenizer.encode(text, special=True), special.eos]
    place, end = part_a.index(special.mask), family == "glm"
    example = answer_example(family, part_a, place, answer, special, end=end)
    return math.exp(-SIBLINGS[family].loss(pack([example]), "sum").item())


trained = {
    text: {family: [probability(family, text, a) for a in fillings] for family in ("bert", "gpt", "glm")}
    for text, fillings in ASKED.items()
}
for text, ways in trained.items():
    print(text)
    for family, p in ways.items():
        print(f"    {family:5}", *(f"{a} {x:.2f}  " for a, x in zip(ASKED[text], p, strict=True)))

# %% picture
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.3), sharey=True, layout="constrained")
for ax, (text, ways) in zip(axes, trained.items(), strict=True):
    for n, (family, kind) in enumerate(zip(ways, ("BE", "BA", "AA"), strict=True)):
        at = np.arange(len(ASKED[text])) + 0.27 * (n - 1)
        ax.bar(at, ways[family], 0.25, label=family.upper(), color=KINDS[kind].light)
    ax.set_title(text.replace(" lives", "\nlives").replace(" and", "\nand"), fontsize=9)
    ax.set_xticks(range(len(ASKED[text])), [a.replace(" ", "\n") for a in ASKED[text]], fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("probability")
axes[0].legend(frameon=False, fontsize=9)
fig.alt_text = (
    "Probabilities that three trained networks give to answers. The animal that eats mice: GLM and BERT are "
    "sure of the cat, GPT is not. The fox's food and the mouse's home: GLM and GPT share their probability "
    "between the two right answers, BERT also gives some to wrong pairs such as red mushrooms."
)


# %% [markdown]
# What we counted, they have learned. GPT cannot see the mice and spreads its answer over all animals. BERT
# gives a quarter of its probability to red mushrooms and white berries, which no fox eats here, and more than
# a third to *on the forest* and *in the farm*. GLM does neither. [All questions, with several
# seeds](results/README.md#glm-gpt-and-bert-in-a-toy-world), are measured against the best that each mask
# allows. There are ways around a mask: GPT can compare whole sentences, one for each animal, and BERT can
# fill one `[M]` at a time. Both then read more often, and GPT needs a list of answers.
# %% [markdown] zh 5ec1b6
# 数出来的结论，网络都学会了。GPT 看不到右边的 mice，只好把概率摊给所有动物。BERT 把四分之一的概率给了
# red mushrooms 和 white berries，这里没有哪只狐狸吃这些；又把三分之一以上给了 *on the forest* 和
# *in the farm*。GLM 没有这两种毛病。全部问题、多个随机种子的结果，以及每种掩码所允许的上限，见
# [测量结果](results/README.md#glm-gpt-and-bert-in-a-toy-world)（英文）。
# 要绕过掩码也有办法：GPT 可以把每种动物填进去，比较整句的概率；BERT 可以一次只填一个 `[M]`。
# 代价是要多读几遍，GPT 还得先有一份候选答案。
# %% [markdown]
# **Remember:** BERT fills all blanks at once and blindly, GPT writes without seeing the right side, GLM
# sees both sides and what it has written. The mask of all of them is one integer `A`: row `i` sees
# `max(A, i + 1)` keys. `A` = 0 is GPT, `A` = the whole length is BERT.
#
# ## Exercises
#
# **1. One integer.** A text has 7 tokens; its first 3 are a prompt. Which `A` gives BERT, GPT and this
# prefix LM? Answer with a dict with the keys `"bert"`, `"gpt"` and `"prefix"`. (One of them has two right
# answers. Why?)
# %% [markdown] zh 17ef52
# **记住**：BERT 一次填完所有的空，各猜各的；GPT 写的时候看不到右边；GLM 既看两边，也看自己写过的。
# 它们的掩码都只是一个整数 `A`：第 `i` 行看得到 `max(A, i + 1)` 个 key。`A` = 0 是 GPT，
# `A` 等于全长是 BERT。
#
# ## 练习
#
# **1. 一个整数。** 文本有 7 个 token，前 3 个是提示。`A` 取多少，规则就分别成为 BERT、
# GPT 和这个 prefix LM？用一个 dict 回答，键为 `"bert"`、`"gpt"`、`"prefix"`。（其中一个有两个正确答案，
# 为什么？）
# %% check
def check_one_integer(answer):
    assert isinstance(answer, dict), "the answer is a dict, such as {'bert': 1, 'gpt': 2, 'prefix': 3}"
    rules = LOOPS | {"prefix": lambda i, j: j < 3 or j <= i}
    for model, rule in rules.items():
        assert model in answer, f"your dict has no key {model!r}"
        mask = GLMMask.packed([7], [answer[model]]).dense().numpy()
        wrong = np.argwhere(mask != grid(7, rule))
        where = f"{model}: with A = {answer[model]} the first wrong cell [row, key] is"
        assert not len(wrong), f"{where} {wrong[0].tolist()}"
    print("✓ check_one_integer: one integer is the whole mask. (GPT: 0 or 1, as row 0 sees itself anyway.)")


# %%
# check_one_integer({"bert": ..., "gpt": ..., "prefix": ...})


# %% [markdown]
# **2. When BERT is right.** Find a list of two-word fillings, with at least two first words and at least
# two second words, for which predicting the two words independently gives every filling the same
# probability as predicting them one by one.
# %% [markdown] zh 297bc0
# **2. BERT 什么时候是对的？** 找一组由两个词组成的填法，其中第一个词至少有两种，第二个词也至少有两种，
# 使得两个词各自单独预测时，每种填法的概率都与逐个预测时相同。
# %% check
def check_independent(fillings):
    assert fillings, "the answer is a list of fillings"
    rows = [filling.split() for filling in fillings]
    assert all(len(row) == 2 for row in rows), "every filling must have two words"
    firsts, seconds = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    assert len(firsts) > 1 and len(seconds) > 1, "at least two first and two second words, please"
    for a, b in product(firsts, seconds):
        alone = Fraction(firsts[a] * seconds[b], len(rows) ** 2)
        chain = one_by_one(f"{a} {b}", [[*row, "[E]"] for row in rows])
        assert alone == chain, f"{a} {b}: {alone} with each word alone, {chain} one by one"
    print(f"✓ check_independent: {len(firsts) * len(seconds)} fillings, no difference")


# %%
# check_independent(["red wine", ...])


# %% [markdown]
# **3. What a blank costs.** Write `learned(model, text_len, lengths)`: how many rows have a target if
# blanks of these lengths are cut into a text of `text_len` tokens, for the models `"bert"`, `"gpt"`, `"t5"`
# and `"glm"`. The rows printed above are all you need.
# %% [markdown] zh 920779
# **3. 一个空的代价。** 写出 `learned(model, text_len, lengths)`：
# 在 `text_len` 个 token 的文本里挖出这些长度的空，有多少行带有标签？模型为 `"bert"`、`"gpt"`、`"t5"`、
# `"glm"`。看前面打印出的那些行就够了。
# %% check
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
            assert got is not None, "learned returned None: did you forget `return`?"
            where = f"{model}, {len(text)} tokens, blanks {lengths}"
            assert got == len(right), f"{where}: you say {got}, but the targets are {' '.join(right)}"
    print("✓ check_learned: 16 samples")


# %%
def learned(model, text_len, lengths): ...  # your answer


# check_learned(learned)  # uncomment

# %% [markdown]
# ## Read on
#
# - [`minglm/mask.py`](../minglm/mask.py): `keys_of_row`, with `GLMMask.bert`, `.gpt` and `.prefix`.
# - [`minglm/viz/derivation.py`](../minglm/viz/derivation.py): `relative` builds the rows of the five
#   relatives.
# - `minglm show "we drank red wine with him today" --spans 2:4,5:6 --order 2,1 --compare all` prints them
#   side by side.
# - Next: [attention by hand](06_attention_by_hand.md).
# %% [markdown] zh 2eb44b
# ## 接着读
#
# - [`minglm/mask.py`](../minglm/mask.py)：`keys_of_row`，旁边还有 `GLMMask.bert`、`.gpt`、`.prefix`。
# - [`minglm/viz/derivation.py`](../minglm/viz/derivation.py)：`relative` 构造另外五种模型的各行。
# - `minglm show "we drank red wine with him today" --spans 2:4,5:6 --order 2,1 --compare all` 把它们并排打
#   印出来。
# - 下一章：[动手算注意力](06_attention_by_hand.zh.md)。
