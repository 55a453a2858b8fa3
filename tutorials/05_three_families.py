# %% [markdown]
# # 05 Three families
#
# *Why was no pretrained model best at everything?*
#
# Before GLM the task chose the family (arXiv 2103.10360, section 1):
#
# | family | example | made for |
# |---|---|---|
# | autoencoding | BERT | understanding a text |
# | autoregressive | GPT | continuing a text |
# | encoder-decoder | T5 | text in, text out |
#
# They differ in what a token may look at while it is predicted, and in which tokens are predicted.
#
# - **After this chapter you can** say what BERT, GPT, T5 and GLM see and predict, and turn one integer to get
#   three masks.
# - **You need** chapters [02](02_two_positions.md) and [03](03_who_sees_whom.md).
# %% [markdown] zh 377697
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
# 三家的差别只有两点：预测一个 token 时能看到什么，以及哪些 token 需要预测。
#
# - **学完本章，你能**说清 BERT、GPT、T5、GLM 各看到什么、预测什么，并用一个整数得到三种掩码。
# - **预备知识**：[第 02 章](02_two_positions.zh.md)和[第 03 章](03_who_sees_whom.zh.md)。
# %% imports
import math
from fractions import Fraction
from itertools import product, takewhile

import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, pack
from minglm.course.chapters.three_families import (
    ASKED,
    check_independent,
    check_learned,
    check_one_integer,
    fig_answers,
    fig_moving_line,
    fig_remember,
    fig_sights,
    fig_trained,
    fig_two_ways,
    five_sentences,
    said,
)
from minglm.families import answer_example
from minglm.use.models import read_siblings
from minglm.viz import Explorer
from minglm.viz.columns import pad_left, pad_right
from minglm.viz.figures import draw

# %% [markdown]
# ## Five sentences, by hand
#
# The whole corpus is five sentences: "we drank", then a blank, then the rest. Counting is enough.
# %% [markdown] zh 6f539d
# ## 五个句子，动手算
#
# 全部语料就五句话：先是“我们点了”，接着是一个空，然后是余下的部分。空里该填什么？数一数就知道。
# （“牛肉”“豆浆”在这里各算两个词，“鱼”算一个。）
# %% toy
BEGIN, CORPUS = five_sentences()
for filling, right in CORPUS:
    print(*BEGIN, "|", *filling, "|", *right)


# %% [markdown]
# - **BERT** puts an `[M]` for each missing word. Each sees the whole context, but is predicted on its own:
#   $p(x_1, x_2) = p(x_1) \cdot p(x_2)$.
# - **GPT**, **T5** and **GLM** go one by one: predict a word, look at it, predict the next, until the blank
#   ends with `[E]`. GPT sees only the left side, T5 and GLM see both. (GPT is lent an `[E]` here.)
# %% [markdown] zh b79744
# - **BERT** 给每个缺失的词放一个 `[M]`。每个 `[M]` 都能看到完整的上下文，但各猜各的，互不通气：
#   $p(x_1, x_2) = p(x_1) \cdot p(x_2)$ 。
# - **GPT**、**T5** 和 **GLM** 逐个预测：猜出一个词，看着它再猜下一个，直到这个空以 `[E]` 结束。GPT 只看左边，
#   T5 和 GLM 两边都看。（真正的 GPT 没有 `[E]`，这里借给它一个，方便比较。）
# %% exact
def bert(filling, right):
    """Two words before `right`, each predicted without the other."""
    rows = [words for words, after in CORPUS if after == right and len(words) == 2]
    alone = [Fraction(sum(row[k] == word for row in rows), len(rows)) for k, word in enumerate(filling)]
    return math.prod(alone) if len(filling) == 2 else Fraction(0)


def one_by_one(filling, rows):
    """The probability of a filling and its end, word after word, counted in `rows`."""
    words, p = (*filling, "[E]"), Fraction(1)
    for k, word in enumerate(words):
        fit = [row for row in rows if row[:k] == words[:k]]  # begin as this filling does
        p = p * Fraction(sum(row[k] == word for row in fit), len(fit))
        if p == 0:
            break
    return p


ROWS = [((*filling, "[E]"), after) for filling, after in CORPUS]


def gpt(filling, right):
    return one_by_one(filling, [row for row, _ in ROWS])  # does not see what comes after the blank


def glm(filling, right):
    return one_by_one(filling, [row for row, after in ROWS if after == right])  # sees both sides


(first, right), (second, _), (short, _), _, (_, other) = CORPUS
FILLINGS = [*product(*zip(first, second, strict=True)), short]  # every first with every second word
answers = {
    right: {f.__name__.upper(): [f(filling, right) for filling in FILLINGS] for f in (bert, gpt, glm)}
    for right in (right, other)
}
for right, ways in answers.items():
    print("...", pad_right(said(right), 15), *(pad_left(said(filling), 10) for filling in FILLINGS))
    for name, row in ways.items():
        print(f"{name:19}", *(f"{str(p):>10}" for p in row))
        assert sum(row) == 1

# %%
fig_two_ways(BEGIN, CORPUS, CORPUS[0][1])

# %%
fig_answers(BEGIN, FILLINGS, answers)

# %% [markdown]
# BERT drinks red tea, which occurs nowhere (orange), and *water* is out of reach: two `[M]` already say that
# two words are missing. GPT cannot see that it is dawn. GLM has neither fault.
#
# ## One sentence, six inputs
#
# Now two blanks, *red wine* and *him*, and two more models: prefix LM, a GPT that looks both ways inside its
# prompt, and UniLM, one network trained in turn as BERT, as GPT and, as here, for text to text.
# %% [markdown] zh ad007a
# BERT 点出了“牛浆”和“豆肉”（橙色），语料里根本没有这两样东西；“鱼”又怎么也填不进去：
# 放了两个 `[M]`，等于事先告诉它缺两个词。GPT 看不到后面说的是早饭。GLM 两个毛病都没有。
#
# ## 一个句子，六种输入
#
# 现在有两个空：“牛肉”和“他”。再请来两位：prefix LM 是在提示部分可以左右都看的 GPT；
# UniLM 则是同一个网络，轮流当 BERT、当 GPT，或者像这里这样，做文本到文本的任务。
# %% exact
words = [*BEGIN, *CORPUS[0][0], *CORPUS[0][1]]
SPANS, ORDER = [(2, 4), (5, 6)], [1, 0]  # half-open; GLM: the second span first
MODELS = "bert", "gpt", "prefix", "unilm", "t5", "glm"
FAMILY = {model: explain(words, SPANS, ORDER, model=model) for model in MODELS}

for model, d in FAMILY.items():
    print(f"{model:7}", *(pad_right(token, 5) for token in d.tokens))
    print("learns ", *(pad_right(target or ".", 5) for target in d.targets), "\n")


# %% [markdown]
# T5's blanks have names, `<X0>` and `<X1>`; GLM tells its blanks apart by position, and shuffles its spans.
# (Its relatives XLNet and SpanBERT reveal the length of a blank, as the paper notes.)
#
# ## Who sees whom: three loops, one rule
#
# Three rules; `True` means "row `i` may attend to row `j`":
# %% [markdown] zh a5bb9b
# T5 的空各有名字，叫 `<X0>`、`<X1>`；GLM 靠位置区分各个空，还会打乱片段（span）的顺序。
# （同类的 XLNet 和 SpanBERT 会泄露空的长度，论文里指出了这一点。）
#
# ## 谁能看到谁：三个循环，一条规则
#
# 三种掩码（mask）的规则；`True` 表示“第 `i` 行可以看第 `j` 行”：
# %%
def grid(T, sees):
    """All T x T answers of a rule, one at a time."""
    return np.array([[sees(i, j) for j in range(T)] for i in range(T)])


LOOPS = {
    "bert": lambda i, j: True,  # everything
    "gpt": lambda i, j: j <= i,  # itself and its past
    "prefix": lambda i, j: j < 2 or j <= i,  # the first two words, itself and its past
}
for model, sees in LOOPS.items():
    assert (grid(len(words), sees) == FAMILY[model].mask).all()

# %%
fig_moving_line()


# %% [markdown]
# The third rule contains the others: `A` moves the line. So `max(A, i + 1)` of
# [chapter 03](03_who_sees_whom.md) serves all six models.
# %% [markdown] zh fd1344
# 第三条规则包括了前两条：`A` 移动那条竖线。每一行看到的总是最前面的若干个 key，只要说出个数就够了：
# [第 03 章](03_who_sees_whom.zh.md)的 `max(A, i + 1)`，即 `minglm.keys_of_row`，六种模型全都适用。
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
# T5 has two networks, so it is drawn as three blocks. In the explorer (under "next to"):
# %% [markdown] zh 086701
# T5 有两个网络，所以画成三块。在探索页里也可以把这些模型并排比较：
# %%
Explorer(FAMILY["glm"], (7, 6))


# %% [markdown]
# ## What each row can use
#
# Some keys are `[M]` and carry no word. Which words are in sight when *red*, *wine* and *him* are predicted?
# %% [markdown] zh 307584
# ## 每一行真正用得上什么
#
# 有的 key 是 `[M]`，里面没有词。预测“牛”“肉”“他”的时候，哪些词看得到？
# %%
def in_sight(d):
    """{word that is learned: the words of the text that its row sees}"""
    sights = {}
    for i, target in enumerate(d.targets):
        if target in d.text:
            seen = [d.tokens[j] for j in range(len(d)) if d.mask[i, j]]
            sights[target] = [token for token in seen if token in d.text]
    return sights


# %%
fig_sights(words, {model: in_sight(d) for model, d in FAMILY.items()})


# %% [markdown]
# Blue words were left in the text, orange ones are already written. GLM sees *him* before it writes *red*
# because its spans are shuffled; T5 always goes from left to right.
#
# ## What each cannot do
#
# Does a word see the right side, and the earlier words of its own blank? And is the length hidden, so that
# *water* and *red wine* have the same input?
# %% [markdown] zh 858e7a
# 蓝色是原文中保留的词，橙色是已经写出来的词。GLM 在写“牛”之前已经看到了“他”，
# 因为片段的顺序是打乱的；T5 则永远从左到右。
#
# ## 各家做不到什么
#
# 能看到右边的词吗？能看到同一个空里前面的词吗？空的长度保密吗，也就是说，要填的是“鱼”还是“牛肉”，
# 输入一样吗？
# %% exact
def before_the_answer(filling, model):
    """What stands in front of the model before the first word of a filling is known."""
    d = explain([*BEGIN, *filling, *CORPUS[0][1]], [(2, 2 + len(filling))], [0], model=model)
    return list(takewhile(lambda token: token not in filling, d.tokens))


print(" " * 7, *(f"{q:>15}" for q in ("right side", "own blank", "any length", "rows that learn")))
for model, d in FAMILY.items():
    sight, (a, b) = in_sight(d), first
    right, own = words[-1] in sight[a], a in sight[b]
    secret = before_the_answer(short, model) == before_the_answer(first, model)
    cells = ["yes" if yes else "no" for yes in (right, own, secret)]
    cells.append(f"{sum(t != '' for t in d.targets)} of {len(d)}")
    print(f"{model:7}", *(f"{t:>15}" for t in cells))

# %% [markdown]
# So understanding needs both sides: BERT. Writing needs each word to
# follow from the one before, and an open length: GPT. T5 and GLM have it all; T5 needs two stacks of layers,
# GLM one stack and a second position. The price: GLM's Part A is only read, while GPT learns from every row
# but the last.
#
# ## BERT and GPT are special cases of GLM
#
# One blank over the whole text is GPT, with two more rows in front. A blank of one word is BERT's cloze.
# %% [markdown] zh 4feaee
# 所以，要理解文本，就得两边都看：BERT。要写作，每个词都得接着前一个词往下写，
# 长度也不能事先定死：GPT。T5 和 GLM 样样都有：T5 要两套网络层，GLM 只要一套，外加第二个位置编号。
# 代价是：GLM 的 Part A 只供阅读，而 GPT 除最后一行外，行行都在学。
#
# ## BERT 和 GPT 都是 GLM 的特例
#
# 把整段文本挖成一个空，就是 GPT，只是正文前面多了两行。只挖一个词，就是 BERT 的完形填空。
# %% exact
for name, span, objective in (("GPT", (0, 7), "document"), ("BERT", (5, 6), "token")):
    d = explain(words, [span], [0], objective)
    print(f"{name:6}", *(pad_right(token, 5) for token in d.tokens))
    print("learns", *(pad_right(target or ".", 5) for target in d.targets))
    print("keys  ", *(f"{keys_of_row(i, d.part_a_len):<5}" for i in range(len(d))), "\n")
    assert name == "BERT" or (d.mask == np.tri(len(d), dtype=bool)).all()  # the triangle of GPT


# %% [markdown]
# ## The same with trained networks
#
# So far we counted. Three networks of one shape (135,168 weights) come with minglm; they have read the same
# [small world](../minglm/data/toy.py) as GLM, as GPT and as BERT. In it a fox eats red berries or white
# mushrooms, and a mouse lives on the farm or in the forest. How likely is each answer in three sentences that
# were held out? (GPT and BERT know its length, GLM also has to end it.)
# %% [markdown] zh b98a69
# ## 换成训练好的网络
#
# 前面都是数出来的。现在来真的（这些网络读的是英文，所以下面的例子也是英文）：
# 三个形状相同的网络（135,168 个权重）读过同一个
# [小世界](../minglm/data/toy.py)，一个按 GLM 训练，一个按 GPT，一个按 BERT；它们随 minglm 一起发布。
# 在这个世界里，狐狸吃 red berries 或 white mushrooms，老鼠住在 on the farm 或 in the forest。
# 下面三句话训练时都没出现过。每个答案的概率是多少？（GPT 和 BERT 事先知道答案的长度，
# GLM 还得自己决定在哪里结束。）
# %%
SIBLINGS, tokenizer = read_siblings()  # {"glm": a GLM, "gpt": ..., "bert": ...}


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

# %%
fig_trained(trained)


# %% [markdown]
# What we counted, they have learned. GPT cannot see the mice. BERT gives a fifth of its probability to food
# that no fox eats here, and more than a third to *on the forest* and *in the farm*. GLM does neither:
# [all questions, several seeds](results/README.md#glm-gpt-and-bert-in-a-toy-world). There the order of blanks
# matters, too: asked for an animal and its food, it finds a likeliest sentence in 93 % of tries if the food
# comes first, and in 0 % if the animal does. (Ways around a mask: GPT can compare whole sentences, BERT can
# fill one `[M]` at a time. Both then read more often, and GPT needs a list of answers.)
# %% [markdown] zh 5193a9
# 数出来的结论，网络都学会了。GPT 看不到右边的 mice。BERT 把五分之一的概率给了这里没有哪只狐狸会吃的东西，
# 又把三分之一以上给了 *on the forest* 和 *in the farm*。GLM 没有这两种毛病：
# [全部问题，多个随机种子](results/README.md#glm-gpt-and-bert-in-a-toy-world)（英文）。填空的顺序也有讲究：
# 动物和食物都空着时，先填食物，93 % 能填出可能性最大的句子；先填动物，则是 0 %。
# （绕过掩码的办法也有：GPT 可以比较整句的概率，BERT 可以一次只填一个 `[M]`。代价是要多读几遍，
# GPT 还得先有一份候选答案。）
# %% [markdown]
# **Remember:** BERT fills each `[M]` alone, GPT writes without seeing the right side, GLM sees both sides and
# what it has written. Each mask is one integer `A`: row `i` sees `max(A, i + 1)` keys. `A` = 0 is GPT, `A` =
# the whole length is BERT.
# %% [markdown] zh 21742d
# **记住**：BERT 的每个 `[M]` 各猜各的；GPT 写的时候看不到右边；GLM 既看两边，也看自己写过的。
# 它们的掩码都只是一个整数 `A`：第 `i` 行看得到 `max(A, i + 1)` 个 key。`A` = 0 是 GPT，
# `A` 等于全长是 BERT。
# %%
fig_remember(FAMILY, first[1])

# %% [markdown]
# ## Exercises
#
# **1. One integer.** A text has 7 tokens; its first 3 are a prompt. Which `A` gives `"bert"`, `"gpt"` and
# this `"prefix"` LM? Answer with a dict. (One has two right answers. Why?)
# %% [markdown] zh 66b159
# ## 练习
#
# **1. 一个整数。** 文本有 7 个 token，前 3 个是提示。`A` 取多少，规则就分别成为 `"bert"`、`"gpt"` 和这个
# `"prefix"` LM？用一个 dict 回答。（其中一个有两个正确答案，为什么？）
# %%
# check_one_integer({"bert": ..., "gpt": ..., "prefix": ...})


# %% [markdown]
# **2. When BERT is right.** Find two-word fillings, with at least two first and two second words, that get
# the same probability from predicting each word alone as from predicting them one by one.
# %% [markdown] zh 93bae1
# **2. BERT 什么时候是对的？** 找一组由两个词组成的填法，其中第一个词至少有两种，第二个词也至少有两种，
# 使得两个词各自单独预测时，每种填法的概率都与逐个预测时相同。
# %%
# check_independent([FILLINGS[0], ...])


# %% [markdown]
# **3. What a blank costs.** Write `learned(model, text_len, lengths)` for `"bert"`, `"gpt"`, `"t5"` and
# `"glm"`: how many rows have a target if blanks of these lengths are cut into `text_len` tokens? The rows
# printed above are all you need.
# %% [markdown] zh c13a91
# **3. 一个空的代价。** 写出 `learned(model, text_len, lengths)`：
# 在 `text_len` 个 token 的文本里挖出这些长度的空，有多少行带有标签？模型为 `"bert"`、`"gpt"`、`"t5"`、
# `"glm"`。看前面打印出的那些行就够了。
# %%
def learned(model, text_len, lengths): ...  # your answer


# check_learned(learned)  # uncomment

# %% [markdown]
# ## Read on
#
# - [`minglm/mask.py`](../minglm/mask.py): `keys_of_row`, with `GLMMask.bert`, `.gpt` and `.prefix`.
# - `minglm show "we drank red wine with him today" --spans 2:4,5:6 --order 2,1 --compare all`
# - Next: [attention by hand](06_attention_by_hand.md).
# %% [markdown] zh cba29b
# ## 接着读
#
# - [`minglm/mask.py`](../minglm/mask.py)：`keys_of_row`，旁边还有 `GLMMask.bert`、`.gpt`、`.prefix`。
# - `minglm show "我们 点了 牛 肉 和 他 分享" --spans 2:4,5:6 --order 2,1 --compare all`：把它们并排打印
#   出来。
# - 下一章：[动手算注意力](06_attention_by_hand.zh.md)。
