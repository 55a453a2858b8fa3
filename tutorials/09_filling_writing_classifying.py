# %% [markdown]
# # 09 Filling, writing, classifying
# *How are all tasks generation?*
#
# Chapter 04 filled blanks with a loop. Here the loop gets a cache, chooses among answers, writes
# continuations, and classifies: a continuation is a blank at the end, a label a blank with few words to
# choose from.
#
# - **After this chapter you can** use a cache and a temperature, and turn a task into a blank.
# - **You need** chapters [02](02_two_positions.md) to [04](04_filling_by_hand.md).
# %% [markdown] zh 663399
# # 09 填空、续写、分类
# *为什么所有任务都是生成？*
#
# 第 04 章用一个循环填了空。这一章给循环加上缓存，在答案之间做选择，再用它续写和分类：续写是结尾处的一个
# 空，标签是只有几个词可选的空。
#
# - **学完本章，你能**用好缓存和温度，并把一个任务变成一个空。
# - **预备知识**：第 [02](02_two_positions.zh.md) 到 [04](04_filling_by_hand.zh.md) 章。
# %% imports
import math
import os
from copy import deepcopy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import minglm
from minglm import GLMMask, build_example, explain, pack
from minglm.compare.rivals import LinearHead
from minglm.files.jsonl import read_rows
from minglm.measure.metrics import measure, percent, standard_error
from minglm.train.config import Finetuning
from minglm.train.finetune import LabelScorer, fit
from minglm.use.cloze import classify, predict
from minglm.use.generate import fill, write
from minglm.use.models import BOX, read_model
from minglm.use.questions import ask_all
from minglm.use.reader import Cache
from minglm.use.tasks import TextToText, read_task
from minglm.viz import Explorer
from minglm.viz.figures import draw
from minglm.viz.palette import KINDS

FAST = os.environ.get("MINGLM_FAST") == "1"
torch.set_num_threads(1)
plt.rc("axes.spines", top=False, right=False)
BLUE, SAND = KINDS["AA"].light, KINDS["BE"].light

# %% [markdown]
# ## A cache
# While a blank is filled, no row that was read ever changes: nothing in Part A sees Part B, and a row of
# Part B sees only earlier ones (chapter 04's picture). So keys and values of old rows can be kept, and only
# the new row is computed. Its mask has one query and all keys. On paper, with 4 rows of Part A and an answer
# of two tokens, which takes three predictions:
# %% [markdown] zh 6f3d94
# ## 缓存
# 填一个空的时候，读过的行都不会再变：Part A 里没有哪一行看 Part B，Part B 的行只看前面的行（第 04 章的
# 图）。所以旧的行的键和值可以留着，只算新的一行。它的掩码只有一个查询，但有全部的键。用纸笔
# 算：Part A 有 4 行，答案是两个 token，需要预测三次：
# %% exact
A = 4
again = [A + step for step in (1, 2, 3)]
print("everything again:  ", " + ".join(map(str, again)), "=", sum(again), "rows")
print("only what is new:  ", A, "+ 1 + 1 + 1 =", A + 3, "rows")
for T in (5, 6, 7):
    last = GLMMask(torch.tensor([0, 1]), torch.tensor([0, T]), torch.tensor([A])).dense()  # one query, T keys
    assert torch.equal(GLMMask.packed([T], [A]).dense()[-1:], last)

# %% [markdown]
# With the bundled model: fill two blanks, then compute the logits of the finished sample twice, all rows at
# once and with a `Cache`, Part A first and then row by row.
# %% [markdown] zh d0b317
# 换成自带的模型：填两个空，然后用两种办法算出完成的样本的 logits，一次算完所有行，或者用 `Cache`，先
# 算 Part A，再一行一行算。
# %%
model, tokenizer = read_model(BOX)
model.eval()
special = tokenizer.special
TEXT = "The [MASK] ran to the [MASK] and played."
filled = fill(model, tokenizer, TEXT)
part_a = [special.cls, *tokenizer.encode(TEXT, special=True), special.eos]
text, spans = [], []  # the whole text, and where its blanks were
for token in part_a:
    answer = filled.blanks[len(spans)].answer.tokens if token == special.mask else [token]
    if token == special.mask:
        spans.append((len(text), len(text) + len(answer)))
    text += answer
batch = pack([build_example(text, spans, [0, 1], special)])
columns = torch.stack([batch.tokens, batch.position_ids, batch.block_position_ids])  # (3, T)
A, T = len(part_a), len(batch.tokens)
with torch.no_grad():
    at_once = model(*columns, batch.mask)
    cache = Cache([A], [T])
    pieces = [slice(0, A), *(slice(i, i + 1) for i in range(A, T))]
    in_steps = [model(*columns[:, s], cache.next([s.stop - s.start]), cache=cache) for s in pieces]
torch.testing.assert_close(torch.cat(in_steps), at_once, atol=1e-4, rtol=1e-4)
print(filled.text)
print(f"rows read: {T} with a cache, {sum(range(A + 1, T + 1))} without; the same logits")

# %% picture
fig, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
n = np.arange(T - A + 1)
ax.bar(n[1:] - 0.2, range(A + 1, T + 1), 0.4, color=SAND, label="everything again")
ax.bar(n + 0.2, [A] + [1] * (T - A), 0.4, color=BLUE, label="with a cache")
ax.set(xlabel="step (0: Part A)", ylabel="rows read", xticks=n, ylim=(0, 1.4 * T))
ax.legend(frameon=False, ncols=2, loc="upper left")
fig.alt_text = "Rows read at each step: growing without a cache, one with it after Part A was read once."

# %% [markdown]
# The rows in the explorer, opened at the last one, which sees everything:
# %% [markdown] zh 6bb24c
# 在网页里看这些行，打开时停在最后一行，它什么都看得到：
# %%
d = explain(tokenizer.pieces(text), spans, [0, 1])
Explorer(d, (T - 1, T - 1))

# %% [markdown]
# ## Likely answers
# What else was likely at each step (the picture numbers blanks from 1, tokens from 0):
# %% [markdown] zh dcd333
# ## 可能的答案
# 每一步还有哪些可能（图里的空从 1 数起，token 从 0 数起）：
# %%
draw("infilling", model=model, tokenizer=tokenizer, text=TEXT, width=700)

# %% [markdown]
# The likeliest tokens need not give the likeliest answer. `top=5` searches with five beams and lists the best
# whole fillings of each blank. A temperature $t$ samples instead: logits are divided by $t$, so every
# probability is raised to the power $1/t$ and renormalised.
# %% [markdown] zh da53a5
# 每一步都取最可能的 token，得到的未必是最可能的答案。`top=5` 用五个束做束搜索，列出每个空最好的几个完整答
# 案。温度 $t$ 则是采样：logits 除以 $t$ ，于是每个概率取 $1/t$ 次方，再归一化。
# %%
for blank in fill(model, tokenizer, TEXT, top=5).blanks:
    print("; ".join(f"{x.text.strip()} {math.exp(x.log_probability):.3f}" for x in blank.alternatives))
p = np.array([0.64, 0.32, 0.04])
for t in (0.5, 1.0, 2.0):
    how = dict(temperature=t, max_tokens=4)
    drawn = [fill(model, tokenizer, TEXT, seed=seed, **how).blanks[0].text.strip() for seed in range(6)]
    print(f"t = {t}: on paper", (p ** (1 / t) / (p ** (1 / t)).sum()).round(2).tolist(), "drawn", drawn)

# %% [markdown]
# ## Which blank first?
# Any order works, as training shuffles the spans. By the product rule,
# $p(a)\,p(b \mid a) = p(b)\,p(a \mid b)$, both orders of one pair of answers should have the same
# log-probability; a model has to learn that.
# %% [markdown] zh 03ed36
# ## 先填哪个空？
# 哪种顺序都行，因为训练时片段的顺序是打乱的。按乘法公式， $p(a)\,p(b \mid a) = p(b)\,p(a \mid b)$ ，同一对
# 答案按两种顺序写，对数概率应该相同；这一点模型得靠学。
# %%
for question in (
    TEXT,
    "Her [MASK] and her [MASK] were very happy.",
    "He gave them [MASK] and [MASK] to eat.",
):
    for which, order in (("left first ", [0, 1]), ("right first", [1, 0])):
        answered = fill(model, tokenizer, question, order=order)
        log_p = sum(blank.answer.log_probability for blank in answered.blanks)
        print(f"{which}   log-probability {log_p:6.2f}   {answered.text}")

# %% [markdown]
# ## Writing is filling the end
# `[gMASK]` stands for the rest of a text. Its blank sees the whole text and stops at `[E]` or at the end of
# the document. `write` adds it:
# %% [markdown] zh 2681ab
# ## 续写就是填结尾
# `[gMASK]` 代表一段文本余下的部分。它的空能看到全文，到 `[E]` 或文档结束时停下。`write` 会加上它：
# %%
START = "Once upon a time, there was a cat who"
written = write(model, tokenizer, START, max_tokens=30)
assert written == fill(model, tokenizer, START + "[gMASK]", max_tokens=30).text
print("the likeliest: ", written)
print("drawn:         ", write(model, tokenizer, START, max_tokens=30, temperature=0.8, top_k=40))

# %% [markdown]
# ## A label is a blank with few words
# A *pattern* turns a text $x$ into a text with a blank, $c(x)$; a *verbalizer* gives each label $y$ its word
# $v(y)$. The words compete for the blank (paper section 2.3):
# $$p(y \mid x) = \frac{p(v(y) \mid c(x))}{\sum_{y'} p(v(y') \mid c(x))} \tag{3}$$
# Only the row of `[S]` is needed. (Words of several tokens are read to their end, and their log-probabilities
# are added.)
# %% [markdown] zh 777d99
# ## 标签是只有几个词可选的空
# *模板*（pattern）把文本 $x$ 变成带空的文本 $c(x)$ ；*标签词*（verbalizer）给每个标签 $y$ 一个词 $v(y)$ 。
# 这些词竞争这个空（论文 2.3 节）：
# $$p(y \mid x) = \frac{p(v(y) \mid c(x))}{\sum_{y'} p(v(y') \mid c(x))} \tag{3}$$
# 只需要 `[S]` 那一行。（由几个 token 组成的词要读到末尾，把各个对数概率相加。）
# %%
task = read_task("sentiment")
REVIEW = "A warm and funny film."
asked = task.pattern.replace("{text}", REVIEW)
question = [special.cls, *tokenizer.encode(asked, special=True), special.eos]
A, place = len(question), question.index(special.mask)
columns = [*question, special.sop], [*range(A), place], [0] * A + [1]
with torch.no_grad():
    row = model(*map(torch.tensor, columns), GLMMask.packed([A + 1], [A]))[-1]  # (V,)
words = [tokenizer.encode(" " + word) for word in task.verbalizer.values()]
by_hand = row[[word for [word] in words]].softmax(-1)  # one token each
answer = classify(model, tokenizer, task, REVIEW)
torch.testing.assert_close(by_hand, torch.tensor(list(answer.probabilities.values())), atol=1e-4, rtol=1e-4)
print(asked, dict(task.verbalizer), answer.probabilities, sep="\n")

# %% [markdown]
# ## Fine-tuning on labels
# The loss is the cross-entropy of (3). The baseline is BERT's way: a new linear head on the first row. Both
# learn from the same 400 film reviews. One half of the dev rows chooses the best epoch, the other half gives
# the scores; a number after +- is one standard error.
# %% [markdown] zh b24f1b
# ## 用标签微调
# 损失是 (3) 的交叉熵。基线是 BERT 的做法：在第一行上加一个新的线性层。两者学的是同样的 400 条影评。一半
# 的 dev 数据用来选最好的一轮，另一半用来打分；+- 后面的数是一个标准误。
# %%
LEARN, DEV, EPOCHS = (48, 120, 1) if FAST else (400, 1000, 5)
rows = list(read_rows(Path(minglm.__file__).parent / "tasks" / "sentiment.jsonl.xz").items())
train, dev = (
    ask_all(task, tokenizer, dict(some), 512, labelled=True) for some in (rows[:LEARN], rows[400 : 400 + DEV])
)
choose, report = dev[::2], dev[1::2]
torch.manual_seed(0)
scorers = {"cloze": LabelScorer(deepcopy(model)), "linear head": LinearHead(deepcopy(model), 2)}
predictions = {"cloze, untrained": predict(scorers["cloze"], report)}
for method, scorer in scorers.items():
    fit(scorer, train, choose, Finetuning(epochs=EPOCHS, patience=EPOCHS), 0, task)
    predictions[method] = predict(scorer, report)
print(f"\n{len(train)} rows to learn from, {len(report)} other rows:")
for method, predicted in predictions.items():
    share = measure(predicted, report)["accuracy"]
    print(f"{method:20} accuracy {percent(share, standard_error(share, len(report)))}")

# %% [markdown]
# **Text to text** is the same again: the source is Part A with a `[gMASK]`, the target is written there.
# %% [markdown] zh fee64a
# **文本到文本**还是同一回事：原文是 Part A，带一个 `[gMASK]`，译文就写在那里。
# %% exact
row = dict(src="He saith unto them.", tgt="He says to them.")
pair = TextToText("{src} [gMASK]", "tgt").ask(tokenizer, row, 512, labelled=True)
print("Part A: ", tokenizer.decode(pair.part_a[1:-1]), tokenizer.token_str(pair.part_a[-1]))
print("learned:", tokenizer.decode(pair.targets[:-1]), tokenizer.token_str(pair.targets[-1]))


# %% [markdown]
# ## The paper's comparison, at a small scale
# `minglm compare` trains one small network in the four ways of chapter 05 and fine-tunes all on the same
# tasks. It takes hours; [what was measured](results/README.md#one-network-four-families) has the table. How
# to read it:
#
# - **GLM is ahead where a text is read in both directions and another one written** (modernise), and only
#   GLM does every task. It learns from 60 % as many tokens as GPT, from the same text.
# - **GPT is ahead in running text, paraphrases and book cloze**: it learns from nearly every token. BERT
#   restores more blanks, but is told their lengths.
# - **This network is too small to confirm the paper's table**: on four tasks, counting words is level or
#   ahead. It fills blanks because 30 % of a text was blanked in short spans
#   ([why](results/README.md#many-short-blanks)).
#
# **Remember:** every task is a blank: a continuation is `[gMASK]` at the end, a label is a blank with few
# words. Rows that were read never change, so a cache reads each row once. Blanks can be filled in any order.
#
# ## Exercises
# **1. ★★ Count.** Write `rows_read(part_a_len, lens)`, which returns `(without, with_cache)`: the rows that a
# model reads to fill blanks whose answers have `lens` tokens, one blank after the other.
# %% [markdown] zh 38516d
# ## 论文的比较，小规模版
# `minglm compare` 用第 05 章的四种方式训练同一个小网络，再都在同样的任务上微调。这要好几个小时；表
# 在[测量结果](results/README.md#one-network-four-families)里。怎么读这张表：
#
# - **GLM 领先的是两个方向读一段、写出另一段的任务**（modernise），而且只有 GLM 什么任务都能做。同样的文
#   本，它学到的 token 只有 GPT 的 60 %。
# - **GPT 领先的是连续文本、释义和书籍完形填空**：它几乎从每个 token 学。BERT 补回的空更多，但它事先知道空
#   的长度。
# - **这个网络太小，证实不了论文的表**：有四个任务，数词频就能打平或领先。它会填空，是因为训练文本
#   的 30 % 被挖成了短空（[原因](results/README.md#many-short-blanks)）。
#
# **记住：** 每个任务都是一个空：续写是结尾的 `[gMASK]`，标签是只有几个词可选的空。读过的行不再变，所以有
# 了缓存每行只读一次。空可以按任意顺序填。
#
# ## 练习
# **1. ★★ 数一数。** 写出 `rows_read(part_a_len, lens)`，返回 `(without, with_cache)`：模型依次填几个空，
# 答案各有 `lens` 个 token，不用缓存和用缓存各要读多少行。
# %% check
def check_rows_read(rows_read):
    for A, lens in ((4, [2]), (7, [1, 3]), (10, [5, 2, 1]), (3, [1])):
        spans, at = [], 1
        for length in lens:
            spans.append((at, at + length))
            at += length + 1
        text = range(100, 100 + A + sum(lens) - len(lens))
        T = len(build_example(text, spans, list(range(len(lens)))).tokens)  # Part A has A of them
        got = rows_read(A, list(lens))
        assert got is not None, "rows_read returned None: did you forget `return`?"
        hint = "; the end of a blank is predicted too" if got[1] == A + sum(lens) else ""
        hint = hint or ("; Part A has to be read once" if got[1] == T - A else "")
        assert got[1] == T, f"part_a_len={A}, lens={lens}: {got[1]} rows with a cache?{hint}"
        right = sum(range(A + 1, T + 1))
        assert got[0] == right, f"part_a_len={A}, lens={lens}: {got[0]} rows without one?"
    print("✓ check_rows_read: four texts")


# %%
def rows_read(part_a_len, lens): ...  # your answer


# check_rows_read(rows_read)  # uncomment


# %% [markdown]
# **2. ★ A temperature.** One token is 9 times as likely as another. At which temperature is it only 3 times
# as likely?
# %% [markdown] zh 7cec59
# **2. ★ 温度。** 一个 token 的概率是另一个的 9 倍。温度是多少时，只有 3 倍？
# %% check
def check_temperature(t):
    assert t is not None, "the answer is a number"
    p = (torch.tensor([9.0, 1.0]).log() / t).softmax(-1)
    ratio = float(p[0] / p[1])
    assert abs(ratio - 3) < 0.01, f"at {t} it is {ratio:.2f} times as likely"
    print(f"✓ check_temperature: at {t} it is {ratio:.2f} times as likely")


# %%
# check_temperature(...)   # uncomment


# %% [markdown]
# **3. ★★★ A verbalizer.** Write `label_probabilities(row, words)`: `row` holds the logits (V,) of `[S]`,
# `words` is `{label: [ids]}` with one or *more* words per label, of one token each. The probability of a
# label is that of all its words together, and the labels sum to 1. Return `{label: probability}`.
# %% [markdown] zh 33d552
# **3. ★★★ 标签词。** 写出 `label_probabilities(row, words)`：`row` 是 `[S]` 那一行的 logits，形
# 状 (V,)；`words` 是 `{标签: [id]}`，每个标签有一个或*几个*词，每个词一个 token。标签的概率是它所有的词的
# 概率之和，各标签加起来是 1。返回 `{标签: 概率}`。
# %% check
def check_label_probabilities(label_probabilities):
    words = {"good": [3], "bad": [7, 1], "so-so": [4, 5, 6]}
    for seed in range(3):
        row = 3 * torch.randn(10, generator=torch.Generator().manual_seed(seed))
        answer = label_probabilities(row, words)
        assert answer is not None, "label_probabilities returned None: did you forget `return`?"
        got = {label: float(p) for label, p in answer.items()}
        assert set(got) == set(words), f"your labels are {sorted(got)}, not {sorted(words)}"
        assert abs(sum(got.values()) - 1) < 1e-4, f"your labels sum to {sum(got.values()):.3f}"
        for a, b in (("good", "bad"), ("bad", "so-so")):
            ratio = math.exp(row[words[a]].logsumexp(0) - row[words[b]].logsumexp(0))
            yours = got[a] / max(got[b], 1e-12)
            assert abs(yours / ratio - 1) < 1e-3, (
                f"your {a} is {yours:.3f} times as likely as {b}; it should be {ratio:.3f}"
            )
    print("✓ check_label_probabilities: three labels, six words")


# %%
def label_probabilities(row, words): ...  # your answer


# check_label_probabilities(label_probabilities)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py): `write_blanks` is the loop, `beam_search` the search,
#   `choose` the temperature.
# - [`minglm/use/reader.py`](../minglm/use/reader.py): `Cache`.
# - [`minglm/use/cloze.py`](../minglm/use/cloze.py): `at_sop` and `read_part_a_once`, for words of several
#   tokens.
# - [`minglm/train/finetune.py`](../minglm/train/finetune.py): `fit`.
# - Next: [what later models made of all this](10_beyond.md).
# %% [markdown] zh 973aae
# ## 延伸阅读
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py)：`write_blanks` 是这个循环，`beam_search` 是搜
#   索，`choose` 是温度。
# - [`minglm/use/reader.py`](../minglm/use/reader.py)：`Cache`。
# - [`minglm/use/cloze.py`](../minglm/use/cloze.py)：`at_sop` 和 `read_part_a_once`，用于由几个 token 组成
#   的词。
# - [`minglm/train/finetune.py`](../minglm/train/finetune.py)：`fit`。
# - 下一章：[后来的模型怎么处理这一切](10_beyond.zh.md)。
