# %% [markdown]
# # 09 Filling, writing, classifying
# *How are all tasks generation?*
#
# Chapter 04 filled blanks with a loop. The same loop writes, classifies and rewrites.
#
# - **After this chapter you can** use a cache and a temperature, and turn a task into a blank.
# - **You need** chapters [02](02_two_positions.md) to [04](04_filling_by_hand.md).
# %% [markdown] zh 012b62
# # 09 填空、续写、分类
# *为什么所有任务都是生成？*
#
# 第 04 章用一个循环填了空。续写、分类、改写，用的都是这同一个循环。
#
# - **学完本章，你能**用好缓存和温度，并把一个任务变成一个空。
# - **预备知识**：第 [02](02_two_positions.zh.md) 到 [04](04_filling_by_hand.zh.md) 章。
# %% imports
import math
from copy import deepcopy

import torch

from minglm import GLMMask, build_example, explain, pack
from minglm.compare.rivals import LinearHead
from minglm.course.chapters import FAST
from minglm.course.chapters.filling_writing_classifying import (
    check_label_probabilities,
    check_rows_read,
    check_temperature,
    fig_labels,
    fig_remember,
    fig_rows_read,
    fig_tasks,
    fig_temperatures,
    film_reviews,
)
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

torch.set_num_threads(1)

# %%
fig_tasks()

# %% [markdown]
# ## A cache
# While a blank is filled, no row that was read ever changes: Part A never sees Part B, and a row of Part B
# sees only earlier ones. So keep the keys and values of old rows, and compute only the new row: one query,
# all keys. On paper, with 4 rows of Part A and an answer of two tokens (three predictions):
# %% [markdown] zh c80291
# ## 缓存
# 填空的时候，读过的行不会再变：Part A 从不看 Part B，Part B 的行只看前面的行。所以旧的行的键和值留着，只
# 算新的一行：一个查询，全部的键。用纸笔算：Part A 有 4 行，答案是两个 token（预测三次）：
# %% exact
A = 4
again = [A + step for step in (1, 2, 3)]
print("everything again:  ", " + ".join(map(str, again)), "=", sum(again), "rows")
print("only what is new:  ", A, "+ 1 + 1 + 1 =", A + 3, "rows")
for T in (5, 6, 7):
    last = GLMMask(torch.tensor([0, 1]), torch.tensor([0, T]), torch.tensor([A])).dense()  # one query, T keys
    assert torch.equal(GLMMask.packed([T], [A]).dense()[-1:], last)

# %% [markdown]
# The bundled model fills two blanks. Then the logits of the finished sample: all rows at once, and with a
# `Cache`, Part A first.
# %% [markdown] zh 966177
# 让自带的模型填两个空，再算完成的样本的 logits：一次算完所有行；或者用 `Cache`，先算 Part A。
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

# %%
fig_rows_read(A, T)

# %% [markdown]
# In the explorer, the last row sees everything:
# %% [markdown] zh dd8d66
# 在网页里看，最后一行什么都看得到：
# %%
d = explain(tokenizer.pieces(text), spans, [0, 1])
Explorer(d, (T - 1, T - 1))

# %% [markdown]
# ## Likely answers
# What else was likely at each step:
# %% [markdown] zh 82bc30
# ## 可能的答案
# 每一步还有哪些可能：
# %%
draw("infilling", model=model, tokenizer=tokenizer, text=TEXT, width=700)

# %% [markdown]
# The likeliest tokens need not give the likeliest answer. `top=5` searches with five beams and lists each
# blank's best fillings:
# %% [markdown] zh 4d310f
# 每一步都取最可能的 token，得到的未必是最可能的答案。`top=5` 用五个束做束搜索，列出每个空最好的几个完整答
# 案：
# %%
for blank in fill(model, tokenizer, TEXT, top=5).blanks:
    print("; ".join(f"{x.text.strip()} {math.exp(x.log_probability):.3f}" for x in blank.alternatives))

# %% [markdown]
# A temperature $t$ samples instead. Logits are divided by $t$: every probability is raised to the power
# $1/t$ and renormalised.
# %% [markdown] zh 9ab4dd
# 温度 $t$ 则是采样：logits 除以 $t$ ，于是每个概率取 $1/t$ 次方，再归一化。
# %%
fig_temperatures()

# %%
for t in (0.5, 1.0, 2.0):
    how = dict(temperature=t, max_tokens=4)
    print(f"t = {t}:", [fill(model, tokenizer, TEXT, seed=seed, **how).blanks[0].text for seed in range(6)])

# %% [markdown]
# ## Which blank first?
# Any: training shuffles the spans. Both orders of the same two answers should be equally likely,
# $p(a)\,p(b \mid a) = p(b)\,p(a \mid b)$, but a model has to learn that:
# %% [markdown] zh 7e0419
# ## 先填哪个空？
# 都行，因为训练时片段的顺序是打乱的。同样两个答案，按两种顺序写，概率本该相
# 等， $p(a)\,p(b \mid a) = p(b)\,p(a \mid b)$ ，但这一点模型得靠学：
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
# `write` adds a `[gMASK]`, the rest of the text. Its answer stops at `[E]` or at the end of the document:
# %% [markdown] zh 2c53a8
# ## 续写就是填结尾
# `write` 在末尾加上 `[gMASK]`，代表余下的文本。它的答案到 `[E]` 或文档结束时停下：
# %%
START = "Once upon a time, there was a cat who"
written = write(model, tokenizer, START, max_tokens=30)
assert written == fill(model, tokenizer, START + "[gMASK]", max_tokens=30).text
print("the likeliest: ", written)
print("drawn:         ", write(model, tokenizer, START, max_tokens=30, temperature=0.8, top_k=40))

# %% [markdown]
# ## A label is a blank with few words
# A *pattern* turns a text $x$ into a text with a blank, $c(x)$; a *verbalizer* gives each label $y$ a word
# $v(y)$. The words compete for the blank (paper section 2.3):
# $$p(y \mid x) = \frac{p(v(y) \mid c(x))}{\sum_{y'} p(v(y') \mid c(x))} \tag{3}$$
# Only the row of `[S]` is needed. (For words of several tokens, log-probabilities are added.)
# %% [markdown] zh 3004ca
# ## 标签是只有几个词可选的空
# *模板*（pattern）把文本 $x$ 变成带空的文本 $c(x)$ ；*标签词*（verbalizer）给每个标签 $y$ 一个词 $v(y)$ 。
# 这些词竞争这个空（论文 2.3 节）：
# $$p(y \mid x) = \frac{p(v(y) \mid c(x))}{\sum_{y'} p(v(y') \mid c(x))} \tag{3}$$
# 只需要 `[S]` 那一行。（由几个 token 组成的词，把各个对数概率相加。）
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

# %%
fig_labels(tokenizer, row, {label: i for label, [i] in zip(task.verbalizer, words, strict=True)})

# %% [markdown]
# ## Fine-tuning on labels
# The loss is the cross-entropy of (3). The baseline is BERT's way: a new linear head on the first row. Both
# learn from the same 400 film reviews. Half of the dev rows choose the best epoch, the others give the
# scores; +- is one standard error.
# %% [markdown] zh 3a14a7
# ## 用标签微调
# 损失是 (3) 的交叉熵。基线是 BERT 的做法：在第一行上加一个新的线性层。两者学的是同样的 400 条影评。一半
# 的 dev 数据用来选最好的一轮，另一半用来打分；+- 后面是一个标准误。
# %%
LEARN, DEV, EPOCHS = (48, 120, 1) if FAST else (400, 1000, 5)
train, dev = (ask_all(task, tokenizer, rows, 512, labelled=True) for rows in film_reviews(LEARN, DEV))
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
# **Text to text**, the last line of the first picture:
# %% [markdown] zh b57436
# **文本到文本**，就是第一张图的最后一行：
# %% exact
row = dict(src="He saith unto them.", tgt="He says to them.")
pair = TextToText("{src} [gMASK]", "tgt").ask(tokenizer, row, 512, labelled=True)
print("Part A: ", tokenizer.decode(pair.part_a[1:-1]), tokenizer.token_str(pair.part_a[-1]))
print("learned:", tokenizer.decode(pair.targets[:-1]), tokenizer.token_str(pair.targets[-1]))


# %% [markdown]
# ## The paper's comparison, at a small scale
# `minglm compare` trains one small network in the four ways of chapter 05 and fine-tunes each on the same
# tasks, in hours ([the table](results/README.md#one-network-four-families)):
#
# - **GLM is ahead in reading one text both ways and writing another** (modernise), and alone does every
#   task, from 60 % as many learned tokens as GPT.
# - **GPT is ahead in running text, paraphrases and book cloze**: it learns from nearly every token. BERT
#   restores more blanks, but is told their lengths.
# - **This network is too small to confirm the paper's table**: on four tasks, counting words is level or
#   ahead. It fills blanks because 30 % of a text was blanked
#   [in short spans](results/README.md#many-short-blanks).
#
# **Remember:** every task is a blank: a continuation is `[gMASK]` at the end, a label is a blank with few
# words. Rows that were read never change, so a cache reads each row once. Blanks can be filled in any order.
# %% [markdown] zh 7229a6
# ## 论文的比较，小规模版
# `minglm compare` 用第 05 章的四种方式训练同一个小网络，再都在同样的任务上微调，要好几个小
# 时（[表在这里](results/README.md#one-network-four-families)）：
#
# - **GLM 领先的是两个方向读一段、写出另一段的任务**（modernise），而且只有 GLM 什么任务都能做，学到的 token
#   只有 GPT 的 60 %。
# - **GPT 领先的是连续文本、释义和书籍完形填空**：它几乎从每个 token 学。BERT 补回的空更多，但它事先知道空
#   的长度。
# - **这个网络太小，证实不了论文的表**：有四个任务，数词频就能打平或领先。它会填空，是因为训练文本
#   的 30 % 被挖成了[短空](results/README.md#many-short-blanks)。
#
# **记住：** 每个任务都是一个空：续写是结尾的 `[gMASK]`，标签是只有几个词可选的空。读过的行不再变，所以有
# 了缓存每行只读一次。空可以按任意顺序填。
# %%
fig_remember()


# %% [markdown]
# ## Exercises
# **1. ★★ Count.** Write `rows_read(part_a_len, lens)`, which returns `(without, with_cache)`: the rows read
# to fill one blank after the other, with answers of `lens` tokens.
# %% [markdown] zh 5ebae8
# ## 练习
# **1. ★★ 数一数。** 写出 `rows_read(part_a_len, lens)`，返回 `(without, with_cache)`：依次填几个空，答案各
# 有 `lens` 个 token，不用缓存和用缓存各要读多少行。
# %%
def rows_read(part_a_len, lens): ...  # your answer


# check_rows_read(rows_read)  # uncomment


# %% [markdown]
# **2. ★ A temperature.** One token is 9 times as likely as another. At which temperature is it only 3 times
# as likely?
# %% [markdown] zh 7cec59
# **2. ★ 温度。** 一个 token 的概率是另一个的 9 倍。温度是多少时，只有 3 倍？
# %%
# check_temperature(...)   # uncomment


# %% [markdown]
# **3. ★★★ A verbalizer.** Write `label_probabilities(row, words)`: `row` holds the logits (V,) of `[S]`,
# `words` is `{label: [ids]}`, one or *more* words of one token each. A label's probability is that of all its
# words together, and the labels sum to 1. Return `{label: probability}`.
# %% [markdown] zh ad4acd
# **3. ★★★ 标签词。** 写出 `label_probabilities(row, words)`：`row` 是 `[S]` 那一行的 logits，形
# 状 (V,)；`words` 是 `{标签: [id]}`，每个标签有一个或*几个*词，每个词一个 token。标签的概率是它所有的词的
# 概率之和，各标签加起来是 1。返回 `{标签: 概率}`。
# %%
def label_probabilities(row, words): ...  # your answer


# check_label_probabilities(label_probabilities)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py): `write_blanks` is the loop, `beam_search` the search,
#   `choose` the temperature. [`reader.py`](../minglm/use/reader.py): `Cache`.
# - [`minglm/use/cloze.py`](../minglm/use/cloze.py): `at_sop`, and `read_part_a_once` for longer words.
# - [`minglm/train/finetune.py`](../minglm/train/finetune.py): `fit`.
# - Next: [what later models made of all this](10_beyond.md).
# %% [markdown] zh 7d5f5c
# ## 延伸阅读
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py)：`write_blanks` 是这个循环，`beam_search` 是搜
#   索，`choose` 是温度。[`reader.py`](../minglm/use/reader.py)：`Cache`。
# - [`minglm/use/cloze.py`](../minglm/use/cloze.py)：`at_sop`，还有 `read_part_a_once`，用于更长的词。
# - [`minglm/train/finetune.py`](../minglm/train/finetune.py)：`fit`。
# - 下一章：[后来的模型怎么处理这一切](10_beyond.zh.md)。
