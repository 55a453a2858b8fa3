# %% [markdown]
# # 02 Two positions
# *How does it know which blank, and where inside?*
#
# A text with two blanks, `x1 x2 [M] x4 [M]`, and the first `[S]` of Part B: which blank does it fill?
#
# - **After this chapter you can** write down both positions of any sample, and ask for any blank.
# - **You need** [chapter 01](01_breaking_a_text.md): spans, Part A, Part B.
# %% [markdown] zh e19d83
# # 02 两个位置
# *模型怎么知道在填哪个空，又填到了空里的第几个词？*
#
# 一段文本有两个空：`x1 x2 [M] x4 [M]`。Part B 以 `[S]` 开头，轮到模型说出一个词。该说哪个空的词，
# 第一个还是第二个？答案是给每一行配上两个编号（论文称为二维位置编码）。
#
# - **学完本章，你能**写出任何样本的两个位置，并指定要填哪个空。
# - **预备知识**：[第 01 章](01_breaking_a_text.zh.md)的片段、Part A、Part B。
# %% imports
from dataclasses import replace

import numpy as np
import torch

from minglm import GLM, GLMConfig, GLMMask, SpecialTokens, build_example, explain, pack
from minglm.course.chapters.two_positions import (
    check_first_row,
    check_layout,
    count_places,
    fig_asked,
    fig_lengths,
    fig_losses,
    fig_same_rows,
    fig_towers,
    try_on_random_texts,
)
from minglm.viz import Explorer
from minglm.viz.figures import draw

torch.set_num_threads(1)  # these models are too small to share
TEXT, IDS, SPANS = ["x1", "x2", "x3", "x4", "x5", "x6"], [101, 102, 103, 104, 105, 106], [(2, 3), (4, 6)]
NAMES = {3: "[M]", 6: "[S]", **dict(zip(IDS, TEXT, strict=True)), 7: "[E]"}


# %% [markdown]
# ## A question without an answer
# Suppose rows are simply numbered 0, 1, 2, ...
# %% [markdown] zh b3b930
# ## 没法回答的问题
# 假设各行只是依次编号：0、1、2……。
# %%
def numbered(example):
    rows = np.arange(len(example.tokens))
    return replace(example, position_ids=rows, block_position_ids=0 * rows)


fig_same_rows([numbered(build_example(IDS, SPANS, order)) for order in ([0, 1], [1, 0])], NAMES)


# %% [markdown]
# The same tokens at the same places, with two answers: at best each gets one half, which costs $\ln 2$ in one
# of the five rows that learn. Two tiny models learn both orders:
# %% [markdown] zh 080b85
# 同样的六个 token，在同样的六个位置上，答案却有两个。无论怎么学，最好也只能各给一半的概率，
# 于是带标签的五行里，有一行的损失降不到 $\ln 2$ 以下。让两个极小的模型来学这两种顺序：
# %%
def learn(change, steps=150):
    torch.manual_seed(0)
    model = GLM(GLMConfig(110, hidden_size=32, num_layers=2, num_heads=2, max_positions=16, dropout=0.0))
    batch = pack([change(build_example(IDS, SPANS, order)) for order in ([0, 1], [1, 0])])
    optimizer, losses = torch.optim.AdamW(model.parameters(), 5e-3), []
    for _ in range(steps):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    inputs = batch.position_ids, batch.block_position_ids, batch.mask
    with torch.no_grad():
        p = model(batch.tokens, *inputs, rows=batch.target_rows).softmax(-1)  # (M, V)
    return model, losses, p[torch.arange(len(p)), batch.targets]


runs = {"numbered rows": learn(numbered), "GLM's two positions": learn(lambda example: example)}
for name, (_, losses, p) in runs.items():
    others = torch.cat([p[1:5], p[6:]]).min()
    print(
        f"{name:20} loss {losses[-1]:.3f}   probability of the right first word: {p[0]:.2f} "
        f"and {p[5]:.2f}, of any other at least {others:.2f}"
    )

# %%
fig_losses({name: losses for name, (_, losses, _) in runs.items()})


# %% [markdown]
# With numbered rows the first word stays a coin toss. GLM's positions remove the coin.
#
# ## Which blank, and where inside
# The first number is the *position*, the second the *block position*. To find them, walk through the text,
# one step per token and one per span:
# %% [markdown] zh f3034e
# 只有依次编号时，第一个词始终像抛硬币。有了 GLM 的位置，就不必再抛硬币。
#
# ## 哪个空，空里的第几个
# 第一个编号叫*位置*（position），第二个叫*片段内位置*（block position）。求法是沿着文本走一遍，
# 遇到片段就一步跨过去：
# %%
def by_walking(length, spans, order):
    mask_at, row, i, ends = [], 0, 0, dict(spans)
    while i < length:
        if i in ends:
            mask_at.append(row)
        i, row = ends.get(i, i + 1), row + 1
    first, second = list(range(row)), [0] * row
    for k in order:
        start, end = spans[k]
        for j in range(end - start + 1):  # sop, then the tokens of the span
            first.append(mask_at[k])
            second.append(j + 1)
    return first, second


d = explain(TEXT, SPANS, [1, 0])
assert by_walking(6, SPANS, [1, 0]) == (d.position_ids.tolist(), d.block_position_ids.tolist())
try_on_random_texts(by_walking)  # 200 of them

# %%
draw("positions", derivation=d, width=700)

# %% [markdown]
# The largest position is within Part A: Part B takes no positions of its own.
# %% [markdown] zh 5ae1e8
# 最大的位置在 Part A 里：Part B 不占新的位置。
# %%
Explorer(d)  # exchange the two spans: the positions stay


# %% [markdown]
# ## A line and its towers
# The two numbers as coordinates: Part A is a line, and each span is a tower over its blank.
# %% [markdown] zh 818560
# ## 一条线和几座塔
# 把两个编号当作坐标画出来：Part A 是一条线，每个片段是立在自己那个空上的一座塔。
# %%
fig_towers(d)

# %% [markdown]
# No two rows share a place. (At block position 0, `[S]` would coincide with its own `[M]`.) In any order of
# the spans, the same tokens are at the same places. And the line does not tell how long an answer is:
# %% [markdown] zh 5937cd
# 没有两行占同一个点（如果 `[S]` 的片段内位置是 0，它就会和自己的 `[M]` 重合）。无论片段按什么顺序，
# 同样的 token 总在同样的点上。而底下那条线不透露答案有多长：
# %%
fig_lengths([explain(["a", "b", *"wxyz"[:n], "c"], [(2, 2 + n)], [0]) for n in (1, 4)])

# %%
count_places(range(100, 120), [(1, 2), (5, 8), (12, 14)])


# %% [markdown]
# ## What the second number is for
# Each number has a table of learned vectors, and a row starts as the sum of three:
#
# $$x = E[\text{token}] + P[\text{position}] + Q[\text{block position}]$$
#
# Without $Q$, the rows of a span share one place. Row `c` of a span `a b c` sees the same tokens as in its
# twin `b a c`. Does its output differ, with random weights?
# %% [markdown] zh d32ca5
# ## 第二个编号有什么用
# 两个编号各查一张可学习的向量表，一行的初始表示就是三个向量之和：
#
# $$x = E[\text{token}] + P[\text{position}] + Q[\text{block position}]$$
#
# 去掉 $Q$ ，同一片段的各行就全落在一个点上。片段 `a b c` 和它的孪生兄弟 `b a c`，在 `c` 这一行看到的 token
# 一模一样。用随机权重来看，这一行的输出有没有差别？
# %% exact
def logits(model, tokens, first, second, part_a_len):
    mask = GLMMask.packed([len(tokens)], [part_a_len])
    with torch.no_grad():
        return model(*map(torch.as_tensor, (tokens, first, second)), mask)


def new_model(layers):
    torch.manual_seed(1)
    model = GLM(GLMConfig(110, 32, layers, 2, 32, dropout=0.0)).double().eval()
    model.backend = "reference"
    return model


def say(a, b):
    return "same" if torch.allclose(a, b, rtol=0, atol=1e-12) else "different"


for layers in (1, 2):
    model = new_model(layers)
    for name, q in (("with Q", 1), ("without Q", 0)):
        rows = []
        for span in ([101, 102, 103], [102, 101, 103]):  # a b c, b a c
            e = build_example([8, 9, *span, 10], [(2, 5)], [0])
            rows.append(logits(model, e.tokens, e.position_ids, q * e.block_position_ids, 4)[-1])
        print(f"layers: {layers}, {name:9}: {say(*rows)}")

# %% [markdown]
# One layer without $Q$ is blind to order. Two are not: in the first, `b` either saw `a` or did not, so the
# mask lets the order through. (GLM-130B relied on that and dropped $Q$, chapter 10.)
#
# ## The original code
# It calls a span a block, and the two numbers `position_ids[:, 0]` and `[:, 1]`
# ([all names](../README.md#what-the-original-calls-things)). A sample that it returned (commit 4f61ed7): 35
# token ids, two spans, its own special ids. Is ours the same?
# %% [markdown] zh 59c68e
# 没有 $Q$ 又只有一层，就看不出顺序。两层就看得出来了：在第一层里，`b` 看没看到过 `a` 已经留下痕迹，
# 也就是说，掩码本身就透露了顺序。（后来的 GLM-130B 就靠这一点，不要第二个编号了，见第 10 章。）
#
# ## 原版代码
# 原版把片段叫作 block，两个编号是 `position_ids[:, 0]` 和 `[:, 1]`
# （[全部名称](../README.zh.md#与原版代码的名称对照)）。下面是它（提交 4f61ed7）输出的一个样本：
# 35 个 token id，两个片段，特殊 token 用它自己的 id。我们的结果和它一样吗？
# %% exact
numbers = """1 51 114 25 31 150 37 10 27 142 67 22 35 124 120 30 10 154 121 28 157 10 162 28 160 162 114
10 24 155 47 87 120 10 0"""
text = [int(number) for number in numbers.split()]
recorded = {
    "tokens": [5, 28, 157, 10, 5, 35, 124],
    "targets": [28, 157, 10, 6, 35, 124, 6],
    "position_ids": [18, 18, 18, 18, 12, 12, 12],
    "block_position_ids": [1, 2, 3, 4, 1, 2, 3],
}  # its Part B; sep was 32
theirs = SpecialTokens(pad=0, eos=0, cls=1, mask=2, smask=3, gmask=4, sop=5, eop=6)
example = build_example(text, [(12, 14), (19, 22)], [1, 0], theirs)
for name, values in recorded.items():
    got = getattr(example, name)[-7:].tolist()
    print(f"{name:19}", got, "as recorded" if got == values else f"recorded: {values}")
    assert got == values
assert example.part_a_len == 32

# %% [markdown]
# ## Asking for a blank
# At inference the position of `[S]` chooses the blank. The model that learned the six words, with a single
# row of Part B:
# %% [markdown] zh bc2da8
# ## 指定填哪个空
# 推理时，由 `[S]` 的位置指定填哪个空。拿前面学会了六个词的模型来问，Part B 只放一行：
# %%
trained, part_a, answers = runs["GLM's two positions"][0], [101, 102, 3, 104, 3], {}
for place in (2, 4):
    asked = logits(trained, [*part_a, 6], [0, 1, 2, 3, 4, place], [0, 0, 0, 0, 0, 1], 5)
    answers[place] = asked[-1].softmax(-1)  # (V,)
fig_asked(answers, NAMES)


# %% [markdown]
# More about positions, padding and masks: [Questions GLM users ask](questions.md).
#
# **Remember:** the first position says which blank (the place of its `[M]`), the second where inside it (0
# in Part A, 1 at `[S]`). They tell neither the order of the spans nor the length of an answer. To ask for a
# blank, put `[S]` at its position.
#
# ## Exercises
# **1. ★★★ Two lists of numbers hold the whole layout.** Write `layout(position_ids, block_position_ids)`,
# which takes two lists and returns `(spans, order)` as in chapter 01. Every span ends in `eop`.
# %% [markdown] zh 1099cb
# **记住**：第一个位置说的是哪个空（它的 `[M]` 在哪里），第二个说的是空里的第几个（Part A 里是 0，
# `[S]` 是 1）。从位置上既看不出片段的顺序，也看不出答案的长度。想填哪个空，就把 `[S]` 放在哪个空的位置上。
#
# ## 练习
# **1. ★★★ 两行编号就是全部布局。** 写一个函数 `layout(position_ids, block_position_ids)`，参数是两个列表，
# 返回 `(spans, order)`，含义与第 01 章相同。每个片段都以 `eop` 结束。
# %%
def layout(position_ids, block_position_ids): ...  # your answer


# check_layout(layout)  # uncomment


# %% [markdown]
# **2. ★ Ask for a blank.** Write `first_row(part_a, n)`: `part_a` is a list of words with some `[M]`, and `n`
# says which blank, counted from 0. Return `(token, position, block_position)` of the row that asks for its
# first word.
# %% [markdown] zh 3b9873
# **2. ★ 问一个空。** 写一个函数 `first_row(part_a, n)`：`part_a` 是一个词列表，其中有若干个 `[M]`，
# `n` 表示第几个空（从 0 数起）。返回询问这个空第一个词的那一行：`(token, position, block_position)`。
# %%
def first_row(part_a, n): ...  # your answer


# check_first_row(first_row)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/infilling.py`](../minglm/infilling.py): `build_example` makes both numbers in its last loop.
# - [`minglm/model.py`](../minglm/model.py): `embed` adds the three vectors.
# - [`minglm/use/generate.py`](../minglm/use/generate.py): `fill(..., order=...)` fills blanks in any order.
# - Next: [why a row sees what it sees](03_who_sees_whom.md).
# %% [markdown] zh 11ca5d
# ## 接着读
# - [`minglm/infilling.py`](../minglm/infilling.py)：`build_example` 在最后一个循环里算出这两个编号。
# - [`minglm/model.py`](../minglm/model.py)：`embed` 把三个向量加起来。
# - [`minglm/use/generate.py`](../minglm/use/generate.py)：`fill(..., order=...)` 可以按任意顺序填空。
# - 下一章：[一行为什么能看到这些、看不到那些](03_who_sees_whom.zh.md)。
