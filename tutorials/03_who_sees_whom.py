# %% [markdown]
# # 03 Who sees whom
# *Where does the mask's shape come from?*
#
# The answer follows from two wishes, fits into one integer, and can be tested from outside.
#
# - **After this chapter you can** derive GLM's mask, write it as `max(A, i + 1)`, and find any leak.
# - **You need** [chapter 01](01_breaking_a_text.md), and [02](02_two_positions.md) for the positions.
# %% [markdown] zh ba69a6
# # 03 谁能看到谁
# *掩码的形状从何而来？*
#
# 哪一行可以看哪一行？答案来自两个要求，最后缩成一个整数；模型有没有照办，还能当场检验。
#
# - **学完本章，你能**推出 GLM 的掩码，把它写成 `max(A, i + 1)`，并查出任何泄露。
# - **预备知识**：[第 01 章](01_breaking_a_text.zh.md)；位置见[第 02 章](02_two_positions.zh.md)。
# %% imports
import numpy as np
import torch

from minglm import GLM, GLMConfig, GLMMask, build_example, explain, keys_of_row, pack
from minglm.course.chapters.who_sees_whom import (
    check_cheating_rows,
    check_open_cells,
    check_part_a_lens_of,
    fig_dial,
    fig_known,
    fig_leaks,
    fig_ripple,
    fig_sentences,
)
from minglm.viz import Explorer
from minglm.viz.figures import draw, fig_batch

torch.set_num_threads(1)  # everything here is tiny

# %% [markdown]
# ## What is known when
# The paper's example (its figure 2), and the view of row 6. A model that really fills this blank has the text
# with its blanks, and what is written so far.
# %% [markdown] zh 97fe6a
# ## 什么时候知道什么
# 论文的例子（图 2），从第 6 个 token（掩码的第 6 行）看出去。真正填空的时候，手里只有带空的文本，
# 加上已经写好的部分。
# %%
d = explain(["x1", "x2", "x3", "x4", "x5", "x6"], [(2, 3), (4, 6)], [1, 0])
T, A = len(d), d.part_a_len
fig_known(d, row=6)


# %% [markdown]
# Hence two wishes:
#
# - *No row sees what is not written yet.* Otherwise training shows answers that writing will not have.
# - *Everything else may be seen.* Otherwise knowledge is wasted.
#
# In three sentences:
#
# 1. Part A is known from the beginning: every row sees all of it, left and right.
# 2. Part A is read before anything is written: it never sees Part B.
# 3. A row of Part B sees itself and what was written before it, earlier spans included.
# %% [markdown] zh 304c8f
# 于是有两个要求：
#
# - *还没写出来的，谁也不能看。* 否则训练时看得到的答案，生成时却没有。
# - *除此之外，全都可以看。* 否则就白白浪费了已知的信息。
#
# 写成三句话：
#
# 1. Part A 从一开始就摆在那里：谁都能看到它的全部，左边右边都行。
# 2. Part A 在动笔之前就已经读完：它看不到 Part B。
# 3. Part B 的一行能看到 Part B 里写在它前面的内容（包括前面的片段），以及它自己。
# %% [markdown]
# ## As three sentences
# May row `i` attend to row `j`?
# %% [markdown] zh 54aa64
# ## 照着句子写
# 第 `i` 行可以看第 `j` 行吗？
# %%
def may_see(i, j):
    if d.part[j] == "A":
        return True  # 1
    if d.part[i] == "A":
        return False  # 2
    return j <= i  # 3


by_words = np.array([[may_see(i, j) for j in range(T)] for i in range(T)])
fig_sentences(d, by_words)

# %% [markdown]
# Queries down, keys across; in every row the open cells are one stretch from key 0. Row 6, and what it must
# not see:
# %% [markdown] zh d7470f
# 竖着是 query，横着是 key。每一行的可见格子都是连续的一段，从第 0 个 key 开始。第 6 行和它不该看到的答案：
# %%
Explorer(d, (6, 7))


# %% [markdown]
# ## By loops, and by one line
# Sentence 2 comes for free: in a row of Part A, `j <= i` opens nothing outside of Part A.
# %% [markdown] zh 3441e4
# ## 用循环写，用一行写
# 第 2 句不用写：在 Part A 的行里，`j <= i` 能打开的格子本来就都在 Part A 里。
# %% exact
def by_loops(T, A):
    grid = np.zeros((T, T), dtype=bool)
    for i in range(T):
        for j in range(A):
            grid[i, j] = True
        for j in range(A, i + 1):  # empty when i < A
            grid[i, j] = True
    return grid


def by_one_line(T, A):
    i, j = np.arange(T)[:, None], np.arange(T)
    return (j < A) | (j <= i)


assert np.array_equal(by_words, by_loops(T, A))
assert np.array_equal(by_words, by_one_line(T, A))
print("words, loops and line agree on", by_words.sum(), "open cells of", T * T)

# %% [markdown]
# ## By one integer
# The number of open cells says everything: all of Part A, or everything up to the row itself.
#
# $$\mathrm{keys}(i) = \max(A,\; i + 1)$$
#
# `GLMMask` holds $A$ and the lengths of the samples, and builds a grid only on request.
# %% [markdown] zh 489d37
# ## 用一个整数写
# 既然一行可见的总是最前面的若干个 key，说出个数就够了。个数取两者中较大的：整个 Part A，
# 或者从头到这一行为止。
#
# $$\mathrm{keys}(i) = \max(A,\; i + 1)$$
#
# 式子里关于样本的信息，只有 $A$ 这一个数。`GLMMask` 存的就是它，再加上各样本的长度；有人想看网格的时候，
# 才真的造一张出来。
# %% exact
mask = GLMMask.packed([T], [A])
print("the rule    ", [keys_of_row(i, A) for i in range(T)])
print("visible_keys", mask.visible_keys().tolist())
assert np.array_equal(mask.dense().numpy(), by_words)

compared = 0
for length in range(13):
    for part_a_len in range(length + 1):
        grid = GLMMask.packed([length], [part_a_len]).dense().numpy()
        assert np.array_equal(grid, by_loops(length, part_a_len))
        assert np.array_equal(grid, by_one_line(length, part_a_len))
        compared += 1
print(compared, "masks, each the same by loops, by the line and by the integer")
fig_dial(T, (0, 2, 5, 8, T))

# %% [markdown]
# $A$ is the only dial. Our ten rows, with tokens, positions and targets:
# %% [markdown] zh ab29b8
# $A$ 是唯一的旋钮。下面是我们这十行，每行的 token、位置和标签都列在旁边：
# %%
draw("mask", derivation=d, width=620)

# %% [markdown]
# ## Neighbours
# A batch is many samples end to end. One more number per sample, its start (in `cu_seqlens_q`, *cumulative
# sequence lengths of the queries*), keeps neighbours apart.
# %% [markdown] zh 2d0939
# ## 邻居
# 一个 batch 是许多样本首尾相接。每个样本再多记一个数，即从哪里开始（存在 `cu_seqlens_q` 里），
# 谁就都看不到邻居了。
# %%
grid = GLMMask.packed([10, 6], [5, 2]).dense().numpy()
assert not grid[:10, 10:].any() and not grid[10:, :10].any()
fig_batch([d, explain(["y1", "y2", "y3", "y4"], [(1, 4)], [0])], width=560)

# %% [markdown]
# ## A ripple
# What a row may not see cannot change it, not by a single bit. So take a GLM with random weights, change one
# token, and see which outputs change.
# %% [markdown] zh 492558
# ## 一圈涟漪
# 一行看不到的东西，影响不了它：不是“几乎不影响”，而是一个比特都不变。
# 所以取一个随机权重的 GLM，改动一个 token，看哪些行的输出变了。
# %% exact
words = np.arange(11, 17)  # the ids of x1 ... x6
batch = pack([build_example(words, d.spans, d.order)])


def random_model(layers):
    torch.manual_seed(0)
    config = GLMConfig(vocab_size=60, hidden_size=32, num_layers=layers, num_heads=2, max_positions=16)
    model = GLM(config).eval()
    model.backend = "reference"
    return model


@torch.no_grad()
def change(model, mask, j):
    """How far the outputs of every row move when the token of row j becomes another: (T,)."""
    changed = batch.tokens.clone()
    changed[j] = 50
    before, after = (
        model(tokens, batch.position_ids, batch.block_position_ids, mask)
        for tokens in (batch.tokens, changed)
    )
    return (before - after).abs().amax(1).numpy()


model = random_model(layers=3)
for j in (7, 9, 1):
    moved = np.flatnonzero(change(model, mask, j)).tolist()
    print(f"row {j} ({d.tokens[j]}) changed: rows {moved} move")

# %% [markdown]
# `x6` changes itself and what is written after it:
# %% [markdown] zh 196ae6
# 改 `x6`，变的是它自己和写在它后面的行：
# %%
fig_ripple(d, change(model, mask, 7))


# %% [markdown]
# Do this for every token, and you measure the mask, column by column:
# %% [markdown] zh 2d311c
# 对每个 token 都这么做一遍，就把掩码从模型里一列一列地*量*了出来：
# %% exact
def measured(model, mask):
    return np.stack([change(model, mask, j) != 0 for j in range(T)], axis=1)


for layers in (1, 2, 4):
    same = np.array_equal(measured(random_model(layers), mask), mask.dense().numpy())
    print("layers:", layers, "  the measured grid is the mask:", same)


# %% [markdown]
# ## Why more layers reach no further
# In layer 2 row `i` looks at row `j`, which in layer 1 has looked at row `k`: the mask of two layers is the
# mask multiplied by itself. GLM's mask survives this product. Now break sentence 2: let Part A see
# everything, and leave the rows of Part B, the only ones that learn.
# %% [markdown] zh 63f66a
# ## 为什么层数再多，也看不到更远
# 在第 2 层，第 `i` 行看第 `j` 行，而第 `j` 行在第 1 层看过第 `k` 行：于是 `i` 间接知道了 `k`。
# 两层合起来的掩码，就是掩码乘以它自己。GLM 的掩码经得起这一乘：`i` 能看第 `j` 行，那么 `j` 看过的，
# `i` 本来也都能看。
#
# 现在来破坏第 2 句：让 Part A 什么都能看，而 Part B 的行（只有它们在学）一格也不动。
# （参考实现 reference 只向掩码要 `visible_keys`，所以造一个错的掩码只要几行。）
# %% exact
class PartASeesAll(GLMMask):
    def visible_keys(self):
        _, i = self.rows()
        return torch.where(i < A, T, keys_of_row(i, A))


leaky = PartASeesAll.packed([T], [A])
for name, grid in (("GLM's mask", mask.dense()), ("Part A sees all", leaky.dense())):
    grid = grid.long()
    twice = (grid @ grid > 0).long()
    print(f"{name:16} open in one layer: {grid.sum():3}   in two: {twice.sum():3}")

# %%
glm = {layers: measured(random_model(layers), mask) for layers in (1, 4)}
fig_leaks(d, glm, {layers: measured(random_model(layers), leaky) for layers in (1, 2)})


# %% [markdown]
# `!` marks a leak. With one layer it stays inside Part A, whose rows learn nothing. With two, `x6` goes to
# Part A, and from there to row 6, which has to say `x6`: a fine loss, and a model that cannot write. (Ten
# real leaks: the [museum of mask bugs](museum.md).)
# %% [markdown] zh b3b4dc
# 打 `!` 的地方就是泄露。只有一层时，它停在 Part A 里面，而 Part A 的行并不学习。有了两层就全漏了：
# `x6` 先传给 Part A，再从那里传到第 6 个 token（掩码的第 6 行），它要说的正是 `x6`。
# 所以 Part A 不能看 Part B，因为它会把答案传出去。这样训练出来的模型，损失很漂亮，真要生成时却不行。
# （真实发生过的十个泄露，见[掩码错误博物馆](museum.zh.md)。）
# %% [markdown]
# **Remember:** what is not written yet cannot be seen; everything else can. So row `i` sees `max(A, i + 1)`
# keys, and one integer is the whole mask. Change one token and compare bits: that test finds every leak.
#
# ## Exercises
# **1. ★★ Back to the integer.** Write `part_a_lens_of(visible_keys)`: *all* values of `part_a_len` that give
# this list, as a list. (There is at least one row. Some lists have two such values.)
# %% [markdown] zh ffa512
# **记住**：还没写出来的不能看，其余都能看。所以第 `i` 行看得到 `max(A, i + 1)` 个 key，
# 一个整数就是整个掩码。改一个 token，逐比特比较：这个检验能查出所有泄露。
#
# ## 练习
# **1. ★★ 反推整数。** 写出 `part_a_lens_of(visible_keys)`：
# 用列表返回能得到这个列表的*所有* `part_a_len`（样本至少有一行）。有的列表对应两个值。
# %%
def part_a_lens_of(visible_keys): ...  # your answer


# check_part_a_lens_of(part_a_lens_of)  # uncomment


# %% [markdown]
# **2. ★★ Count.** How many cells are open in a sample of `T` rows with a Part A of `A`? Write
# `open_cells(T, A)` without a loop. This number is the work of attention.
# %% [markdown] zh 219330
# **2. ★★ 数一数。** 一个样本有 `T` 行，Part A 长为 `A`，可见的格子有多少个？不用循环，
# 写出 `open_cells(T, A)`：这个数就是注意力的计算量。
# %%
def open_cells(T, A): ...  # your answer


# check_open_cells(open_cells)  # uncomment


# %% [markdown]
# **3. ★★★ The wrong integer.** Somebody passes 6, 7, 8, 9 or 10 instead of 5. For each of these, which rows
# see the very token that they have to say? Answer with `{6: [...], ...}`. (One of them gives nothing away.)
# %% [markdown] zh 439420
# **3. ★★★ 传错的整数。** 有人把 5 传成了 6、7、8、9 或 10。每种情况下，哪些行能看到自己正要说的那个 token？
# 用 dict 作答，值是列表：`{6: [...], ...}`。其中有一个整数，错是错了，却没有泄露任何答案。
# %%
# check_cheating_rows({6: [...], 7: [...], 8: [...], 9: [...], 10: [...]})

# %% [markdown]
# ## Read on
# - [`minglm/mask.py`](../minglm/mask.py): the rule and `GLMMask`, also for writing with a cache.
# - [`csrc/mask.h`](../csrc/mask.h): the same rule for C++ and CUDA.
# - [`tests/test_mask.py`](../tests/test_mask.py): the mask in three forms, and wrong rules that each catches.
# - Next: [filling by hand](04_filling_by_hand.md).
# %% [markdown] zh cd6f12
# ## 接着读
# - [`minglm/mask.py`](../minglm/mask.py)：这条规则和 `GLMMask`，也包括带缓存生成时的情形。
# - [`csrc/mask.h`](../csrc/mask.h)：同一条规则，写给 C++ 和 CUDA。
# - [`tests/test_mask.py`](../tests/test_mask.py)：掩码的三种写法，以及每一种都必须揪出来的错误规则。
# - 下一章：[动手填空](04_filling_by_hand.zh.md)。
