# %% [markdown]
# # 06 Attention by hand
# *What does a mask do inside softmax?*
#
# First on paper; then with a mask at the right place and at wrong ones, until a model cheats.
#
# - **After this chapter you can** compute attention with a pencil, put a mask in, and tell a tight mask
#   from a leaky one.
# - **You need** [chapter 03](03_who_sees_whom.md): the mask. (Here for the kernels? One rule is enough: row
#   $i$ sees the first $\max(A, i + 1)$ keys, where $A$ is the length of Part A.)
# %% [markdown] zh 2e92d6
# # 06 动手算注意力
# *掩码在 softmax 里做了什么？*
#
# 先用纸笔算；然后把掩码放在对的地方，也放在错的地方，直到模型作弊为止。
#
# - **学完本章，你能**用铅笔算注意力，加上掩码，并分辨掩码严不严实。
# - **预备知识**：[第 03 章](03_who_sees_whom.zh.md)的掩码。（只为算子而来？知道一条规则就够了：第 $i$ 行
#   可以看前 $\max(A, i + 1)$ 个键， $A$ 是 Part A 的长度。）
# %% imports
import math

import numpy as np
import torch

from minglm import GLMMask, explain, masked_attention
from minglm.attention import BACKENDS
from minglm.course.chapters import FAST
from minglm.course.chapters.attention_by_hand import (
    check_foot_of_the_wall,
    check_weights_of,
    check_weights_of_sat,
    digits,
    fig_all_rows,
    fig_cheating,
    fig_one_row,
    fig_remember,
    fig_wall,
    fig_ways,
    train,
)
from minglm.viz import Explorer

torch.set_num_threads(1)  # matrices this small are done before a second thread wakes up

# %% [markdown]
# ## Six tokens, three numbers each
# The text is *the cat sat down*, with *sat down* blanked. Row 3, `[S]`, has to say *sat*, so it must not see
# row 4. The first number reveals a leak: it is 1 where row 3 may look, 2 where it may not.
# %% [markdown] zh 1fee5d
# ## 六个 token，各三个数
# 文本是 *the cat sat down*，挖掉 *sat down*。第 3 行 `[S]` 要说出 *sat*，所以它不能看第 4 行。
# 第一个数用来查泄漏：第 3 行可以看的地方是 1，不可以看的地方是 2。
# %% exact
d = explain(["the", "cat", "sat", "down"], [(2, 4)], [0])
x = np.array(
    [
        [1, 0, 0],  # the
        [1, 2, 0],  # cat
        [1, 0, 1],  # [M]
        [1, 1, 0],  # [S]
        [2, 1, 0],  # sat
        [2, 0, 0],  # down
    ]
)
T, A = len(d), d.part_a_len
for i in range(T):
    seen = " ".join(d.tokens[: max(A, i + 1)])
    print(f"row {i}  {d.tokens[i]:5} {x[i]}  learns {d.targets[i] or '-':5} sees {seen}")

# %%
Explorer(d, (3, 4))  # the cell that must stay shut

# %% [markdown]
# ## One row, with a pencil
# Row 3 asks with a *query*, each token answers with a *key*, and *values* are mixed. In a model these are
# three different vectors (chapter 07); here all are the token's own numbers.
# %% [markdown] zh 365fba
# ## 用铅笔算一行
# 第 3 行拿*查询*去问，每个 token 用*键*来答，混合起来的是*值*。在模型里这是三个不同的向量（第 07 章），
# 这里三者
# 都是 token 自己的那几个数。
# %% exact
scored = [int(x[3] @ x[j]) for j in range(T)]  # query times key
counted = [2 ** scored[j] if j < max(A, 3 + 1) else 0 for j in range(T)]  # a hidden key is not counted
output = sum(counted[j] * x[j] for j in range(T)) / sum(counted)  # the average of the values
print("output  ", output)
print("unmasked", (2.0 ** np.array(scored) @ x / sum(2**s for s in scored)).round(3))

# %%
fig_one_row(d, x, scored, counted)


# %% [markdown]
# The last line is a *softmax*. (A model takes $e^{s}$ for $2^{s}$.) An average of ones is one, so the
# output's first number is 1; without the mask it is larger, by the share of *sat* and *down*.
#
# ## All rows: loops, then lines
# %% [markdown] zh a56b54
# 最后一行就是 *softmax*。（模型用 $e^{s}$ 代替 $2^{s}$ 。）一些 1 的平均还是 1，所以输出的第一个数是 1。
# 没有掩码
# 时它更大，多出来的是 *sat* 和 *down* 的份额。
#
# ## 所有的行：先写循环，再写成几行
# %% exact
def attend_in_loops(q, k, v, part_a_len):
    T, D = q.shape
    weights, out = np.zeros((T, T)), np.zeros((T, v.shape[1]))
    for i in range(T):
        for j in range(max(part_a_len, i + 1)):  # a hidden key is never looked at
            weights[i, j] = 2.0 ** sum(q[i, c] * k[j, c] for c in range(D))
        weights[i] /= weights[i].sum()
        for j in range(T):
            out[i] += weights[i, j] * v[j]
    return weights, out


def attend(q, k, v, may_attend):
    scores = np.where(may_attend, q @ k.T, -np.inf)  # 2 ** -inf is 0
    weights = 2.0**scores
    weights /= weights.sum(1, keepdims=True)
    return weights, weights @ v


mask = GLMMask.packed([T], [A])
grid = mask.dense().numpy()
weights, out = attend(x, x, x, grid)
for mine, loops in zip((weights, out), attend_in_loops(x, x, x, A), strict=True):
    assert abs(mine - loops).max() < 1e-15
print(out.round(3))


# %% [markdown]
# In the short version a hidden score is $-\infty$, as $2^{-\infty} = 0$. Queries down, keys across; grey is
# hidden:
# %% [markdown] zh 31c86c
# 在短的写法里，看不到的分数是 $-\infty$ ，因为 $2^{-\infty} = 0$ 。竖着是查询，横着是键；灰色的看不到：
# %%
fig_all_rows(d, x, weights)

# %% [markdown]
# ## The same as the library
# `masked_attention` takes rows of heads, (T, H, D), and computes equation 1 of Vaswani et al. 2017 (arXiv
# 1706.03762) with GLM's mask as a matrix $M$ of 0 and $-\infty$:
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}(\alpha\, Q K^T + M)\, V$$
#
# With the scale $\alpha = \ln 2$ it counts in powers of two. A model takes $\alpha = 1/\sqrt{D}$, because a
# sum of $D$ independent products grows like $\sqrt{D}$. (`sdpa` is PyTorch's fused attention.)
# %% [markdown] zh 65f951
# ## 与库相同
# `masked_attention` 接受的是各行的各个头，形状 (T, H, D)。它算的是 Vaswani 等人 2017（arXiv 1706.03762）
# 的公式 1，把 GLM 的掩码写成由 0 和 $-\infty$ 组成的矩阵 $M$ ：
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}(\alpha\, Q K^T + M)\, V$$
#
# 取 $\alpha = \ln 2$ ，就是按 2 的幂来算。模型取 $\alpha = 1/\sqrt{D}$ ，因为 $D$ 个独立乘积之和
# 像 $\sqrt{D}$ 那样增长。（`sdpa` 是 PyTorch 的融合注意力。）
# %%
heads = torch.tensor(x, dtype=torch.float64)[:, None]  # (6, 1, 3)
for backend in ("reference", "sdpa"):
    theirs = masked_attention(heads, heads, heads, mask, scale=math.log(2), backend=backend)
    print(f"{backend:9} off by {abs(theirs[:, 0].numpy() - out).max():.0e}")
    assert abs(theirs[:, 0].numpy() - out).max() < 1e-14
theirs = masked_attention(heads, heads, heads, mask, backend="reference")[:, 0].numpy()
ours = attend(x / math.sqrt(3) / math.log(2), x, x, grid)[1]  # 2^(s / ln 2) = e^s
assert abs(theirs - ours).max() < 1e-14

# %% [markdown]
# ## Where does the mask go?
# Four places where people put it, tried on row 3. Weights should sum to 1, and hidden keys have none.
# %% [markdown] zh 6da4ac
# ## 掩码该放在哪？
# 人们放过的四个地方，都拿第 3 行来试。权重之和应当是 1，看不到的键没有权重。
# %%
scores, sees = (x[3] @ x.T).astype(float), grid[3]


def share(powers):
    return powers / powers.sum()


ways = {
    "weight times 0, after": share(2.0**scores) * sees,
    "score times 0, before": share(2.0 ** (scores * sees)),
    "score set to -4": share(2.0 ** np.where(sees, scores, -4)),
    "score set to -inf": share(2.0 ** np.where(sees, scores, -np.inf)),
}
assert [name for name, w in ways.items() if w.sum() == 1 and not w[~sees].any()] == ["score set to -inf"]

# %%
fig_ways(d, ways)

# %% [markdown]
# Zero *after* is too late: hidden keys have taken their share. Zero *before* is a score like any other:
# $2^0 = 1$. So is a low score. Only $-\infty$ means "not counted".
# %% [markdown] zh 30bf12
# 在*之后*置零太晚了：看不到的键已经分走了份额。在*之前*置零，那只是一个普通的分数： $2^0 = 1$ 。
# 很低的分数也一样。只有 $-\infty$ 的意思是“不算数”。


# %% [markdown]
# ## A wall of finite height
# Many programs set hidden scores to $-10000$, as $e^{-10000}$ rounds to 0. But *a softmax does not change
# when all its scores move together*: only their distance matters. Let the visible ones of row 3 sink (in
# powers of $e$ now):
# %% [markdown] zh 4c87ec
# ## 墙的高度有限
# 许多程序把看不到的分数设成 $-10000$ ，因为 $e^{-10000}$ 舍入后是 0。但*所有分数一起平移，softmax 不变*：
# 要紧的
# 只是分数之间的距离。现在让第 3 行看得到的分数下沉（从这里起按 $e$ 的幂算）：
# %% exact
def leak(shift, fill):
    moved = np.where(sees, scores + shift, fill)
    weights = np.exp(moved - moved.max())
    return weights[~sees].sum() / weights.sum()


for shift in (0, -9980, -9990, -10000, -10020):
    print(f"scores {shift:6}: {leak(shift, -10000):.6f} leaks past -10000, {leak(shift, -np.inf)} past -inf")

# %%
fig_wall(leak)

# %% [markdown]
# The original code ([THUDM/GLM](https://github.com/THUDM/GLM)) began with $-10000$ and came in steps, with
# leaks named in the commit messages, to $-65504$, the lowest float16 number. minglm uses $-\infty$.
#
# ## Minus infinity has a trap of its own
# A row that sees *nothing* has only scores of $-\infty$, and $-\infty - (-\infty)$ is not a number. In minglm
# such a row gives 0 and passes no gradient. Three queries, two keys, ending together:
# %% [markdown] zh e4abba
# 原版代码（[THUDM/GLM](https://github.com/THUDM/GLM)）一开
# 始用 $-10000$ ，后来分几步改到 $-65504$ ，即 float16 里最小的数，提交说明里提到了泄
# 漏。minglm 用 $-\infty$ 。
#
# ## 负无穷也有自己的陷阱
# *什么都看不到*的一行，分数全是 $-\infty$ ，而 $-\infty - (-\infty)$ 不是一个数。在 minglm 里，
# 这样的行输出 0，也不传梯度。三个查询，两个键，在同一处结束：
# %%
blind = GLMMask([0, 3], [0, 2], [0])  # three queries, two keys, no Part A
print("visible keys", blind.visible_keys().tolist())
print("plain softmax", torch.full((2,), -math.inf).softmax(0).tolist())
nothing = masked_attention(heads[:3], heads[:2], heads[:2], blind, backend="reference")
print("masked_attention", nothing[:, 0].numpy().round(2).tolist())


# %% [markdown]
# ## A model that cheats
# Now a real GLM and six random digits, two of them blanked. Without seeing them a row guesses one of ten, so
# no honest loss stays below $\ln 10$. An entry in `BACKENDS` gives the model attention of our own, for
# samples of 8 rows with a Part A of 5.
# %% [markdown] zh 5e62e1
# ## 作弊的模型
# 换成真正的 GLM，文本是六个随机数字，挖掉两个。看不到答案的一行只能在十个里猜一个，所以老实的损失不会一直
# 低于 $\ln 10$ 。在 `BACKENDS` 里加一项，模型就会用我们自己写的注意力；所有样本都
# 是 8 行，Part A 长 5。
# %%
def attention_with(fill):
    def attend(q, k, v, mask, scale):
        T, A = int(mask.len_q[0]), int(mask.part_a_lens[0])
        q, k, v = (y.unflatten(0, (-1, T)) for y in (q, k, v))  # (S, T, H, D)
        scores = scale * torch.einsum("sqhd,skhd->shqk", q, k)
        scores = scores.masked_fill(~GLMMask.packed([T], [A]).dense(), fill)
        return torch.einsum("shqk,skhd->sqhd", scores.softmax(-1), v).flatten(0, 1)

    return attend


FILLS = (0, -2, -4, -math.inf)  # 0 is "score times 0, before"
for fill in (*FILLS, -10000):
    BACKENDS[f"fill {fill}"] = attention_with(fill)


# %%
STEPS = 150 if FAST else 600
models, curves = {}, {}
for fill in FILLS:
    models[fill], curves[fill] = train(fill, STEPS)
print(f"ln 10 = {math.log(10):.3f}; digits after {STEPS} steps, the mean of the last five records")
print("hidden scores   loss it trains on   the same weights, honest mask")
for fill, curve in curves.items():
    trained, honest = curve[-5:, 1:].mean(0)
    print(f"{fill:13} {trained:19.2f} {honest:31.2f}")
assert curves[0][-5:, 1].mean() < 1 < math.log(10) < curves[0][-5:, 2].mean()
assert curves[-math.inf][:, 1].min() > 2

# %%
fig_cheating(curves, STEPS)


# %% [markdown]
# A loss below $\ln 10$ is not skill but sight: under the honest mask the same weights are worse than
# guessing. With $-2$ a small weight still has a gradient, and training follows it over the wall. The loss of
# $-4$ shows nothing. So change the last digit, row 7, as in chapter 03, and see which outputs move.
# %% [markdown] zh 96c692
# 训练损失低于 $\ln 10$ ，不是本事，而是偷看：换上老实的掩码，同样的权重还不如瞎猜。用 $-2$ 时，
# 很小的权重也有梯度，训练就顺着它翻过了墙。用 $-4$ 时，损失什么都看不出来。所以像第 03 章
# 那样，改动最后一个数字（第 7 行），看哪些输出动了。
# %%
def rows_that_move(model, fill):
    batch = digits(np.random.default_rng(2), 1)
    changed = batch.tokens.clone()
    changed[7] = 10 if changed[7] == 19 else changed[7] + 1
    model.backend = f"fill {fill}"
    with torch.no_grad():
        before, after = (
            model(tokens, batch.position_ids, batch.block_position_ids, batch.mask)
            for tokens in (batch.tokens, changed)
        )
    return (before != after).any(1).nonzero().flatten().tolist()


for fill in FILLS:
    moved = rows_that_move(models[fill], fill)
    print(f"hidden scores {fill:4}: rows {moved}")
    assert (moved == [7]) == (fill == -math.inf)
print(f"the last model, with -10000: rows {rows_that_move(models[-math.inf], -10000)}")


# %% [markdown]
# One changed token finds what the loss hides. *These* weights leak nothing past $-10000$, but nothing keeps
# their scores far above it; $-\infty$ holds for all weights.
#
# **Remember:** attention scores, exponentiates, normalises and averages. A hidden key gets a score of
# $-\infty$ before the softmax; any finite score is a wall that training can climb. A row that sees nothing
# gives 0.
# %% [markdown] zh 6ad2f2
# 改动一个 token，就能立刻查出损失掩盖的东西。对*这一组*权重来说， $-10000$ 一个比特都没漏，但没有什么能保
# 证分数总是远远高于它； $-\infty$ 则对任何权重都成立。
#
# **记住：** 注意力就是打分、取指数、归一化、求平均。看不到的键，分数在 softmax 之前就
# 是 $-\infty$ ；任何有限的分数都是训练翻得过去的墙。什么都看不到的行输出 0。
# %%
fig_remember(d, x)

# %% [markdown]
# ## Exercises
# **1. ★ With a pencil.** Let the six tokens be a BERT: Part A is everything. Give the weights of row 4,
# *sat*, as six numbers such as `3/8` (in powers of two).
# %% [markdown] zh 272b36
# ## 练习
# **1. ★ 用铅笔。** 把同样的六个 token 当成 BERT：Part A 是全部。给出第 4 行 *sat* 的权重，六个数，
# 可以写 `3/8` 这样的分数（按 2 的幂算）。
# %%
# check_weights_of_sat([..., ..., ..., ..., ..., ...])   # uncomment, and fill in


# %% [markdown]
# **2. ★★ Half over the wall.** A row sees four keys, all with the score $s$; two more are hidden by $-10000$.
# For which $s$ does half of the weight leak? (In powers of $e$.)
# %% [markdown] zh 6f2f6a
# **2. ★★ 翻过一半的墙。** 一行看得到四个键，分数都是 $s$ ；另有两个被 $-10000$ 的分数挡住。 $s$ 是多少时，
# 一半的权重会漏出去？（按 $e$ 的幂算。）
# %%
# check_foot_of_the_wall(...)


# %% [markdown]
# **3. ★★★ A mask without traps.** Write `weights_of(scores, may_attend)` for numpy arrays (rows, keys), in
# powers of $e$. Hidden keys get 0, whatever the scores are; rows sum to 1, or are zeros if they see nothing;
# scores of 1000 do not overflow.
# %% [markdown] zh a18359
# **3. ★★★ 没有陷阱的掩码。** 写出 `weights_of(scores, may_attend)`，参数是 numpy 数组，形状（行，键），
# 按 $e$ 的幂算。不管分数是多少，看不到的键都是 0；每行之和是 1；什么都看不到的行全是零；分数 1000 也不会
# 溢出。
# %%
def weights_of(scores, may_attend): ...  # your answer


# check_weights_of(weights_of)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/attention.py`](../minglm/attention.py): `reference`, a dozen lines; `subtle` marks the trap
#   above.
# - [`tests/test_attention.py`](../tests/test_attention.py): what every backend has to pass.
# - Next: [the model](07_the_model.md). [Chapter 11](11_tiles.md) computes attention without a (T, T) matrix.
# %% [markdown] zh 6e1d71
# ## 延伸阅读
# - [`minglm/attention.py`](../minglm/attention.py)：`reference`，十来行；
#   标着 `subtle` 的那一行就是上面的陷阱。
# - [`tests/test_attention.py`](../tests/test_attention.py)：每个后端都要通过的测试。
# - 下一章：[模型](07_the_model.zh.md)。[第 11 章](11_tiles.md)（英文）不建 (T, T) 矩阵就能算出注意力。
