# %% [markdown]
# # A museum of mask bugs
# *Can you find the leak by changing one token?*
#
# Ten masks that people really wrote, found in public threads. Each is told in our own words and put into the
# same ten-token sample; the thread has the original. Look at the mask, guess which row sees too much (or too
# little), then open the answer: code changes one token and compares bits, the test of
# [chapter 03](03_who_sees_whom.md).
#
# The sample: a prompt of `A = 5` tokens, which may be read in both directions, and an answer of 5, written
# from left to right. Row `i` predicts token `i + 1`.
# %% [markdown] zh a5bc80
# # 掩码错误博物馆
# *改动一个 token，你能找出泄漏吗？*
#
# 十个真有人写过的掩码，都来自公开的讨论。每个都用我们自己的话转述，放进同一个十个 token 的样本里；原文见
# 链接。先看掩码，猜哪一行看得太多（或太少），再展开答案：代码改动一个 token，逐位比较，也就
# 是[第 03 章](03_who_sees_whom.zh.md)的检验。
#
# 样本是这样的：`A = 5` 个 token 的提示，可以双向读；再加 5 个 token 的答案，从左往右写。第 `i` 行预测
# 第 `i + 1` 个 token。
# %% imports
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

from minglm.viz.palette import KINDS, THEMES

torch.set_num_threads(1)  # everything here is tiny
T, A, D = 10, 5, 8
i, j = torch.arange(T)[:, None], torch.arange(T)  # queries down, keys across
causal = j <= i
RIGHT = (j < A) | causal  # True: may attend

# %% setup
HIDDEN, OPEN, WRONG = THEMES["light"]["faint"], KINDS["BA"].light, KINDS["BS"].light


def attend(x, may, layers=2, masked=None):
    """A few layers of attention without weights; masked(scores, may) makes the weights of a layer."""
    for _ in range(layers):
        scores = x @ x.T
        if masked is None:
            weights = scores.masked_fill(~may, -torch.inf).softmax(-1)
        else:
            weights = masked(scores, may)
        x = x + weights @ x
    return x


def moves(may, **how):
    """(T, T), True where the output of row i moves when token j is changed; NaN counts as moved."""
    tokens = 0.3 * torch.randn(T, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, grid = attend(tokens, may, **how), torch.zeros(T, T, dtype=torch.bool)
    for token in range(T):
        changed = tokens.clone()
        changed[token] += 1
        grid[:, token] = ~(attend(changed, may, **how) == before).all(1)
    return grid


def show(name, may, **how):
    """Two pictures: the mask as written, and what the test finds. Returns the lists of leaks and losses."""
    found = moves(may, **how)
    leak, lost = found & ~RIGHT, RIGHT & ~found
    fig, axes = plt.subplots(1, 2, figsize=(5.6, 3.2), layout="constrained")
    colours = ListedColormap([HIDDEN, OPEN, WRONG])
    for ax, grid, title in zip(
        axes, (may * 1, found * 1 + leak), ("the mask", "rows that move"), strict=True
    ):
        ax.pcolormesh(grid, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1)
        for row, column in (leak if ax is axes[1] else leak & may).nonzero().tolist():
            ax.text(column + 0.5, row + 0.55, "!", ha="center", va="center", color="white", fontsize=9)
        for row, column in lost.nonzero().tolist() if ax is axes[1] else ():
            ax.text(column + 0.5, row + 0.55, "?", ha="center", va="center", fontsize=9)
        ax.plot((0, T, float("nan"), A, A), (A, A, float("nan"), 0, T), color="black", lw=1)
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", title=title, xlabel="token", ylabel="row")
        ax.set_xticks([])
        ax.set_yticks([])
    fig.alt_text = f"{name}: the mask as written, and which rows move when a token is changed."
    cheats = [row for row in range(T - 1) if leak[row, row + 1]]
    print(
        f"{name}: {int(leak.sum())} leaks, {int(lost.sum())} cells lost; rows that see their answer: {cheats}"
    )
    return leak, lost


def zero_bits(name, **how):
    """The right mask, wrongly applied: nothing to see in the mask."""
    return show(name, RIGHT, **how)


# %% [markdown]
# `!` is a leak, `?` a cell that should be seen and is not. First the right mask, for comparison:
# %% [markdown] zh 4721ec
# `!` 是泄漏，`?` 是本该看到却没看到的格子。先看正确的掩码，作为对照：
# %% exact
leak, lost = show("right", RIGHT)
assert not leak.any() and not lost.any()

# %% [markdown]
# ## 1. The first token of the answer
# [Megatron-DeepSpeed#167](https://github.com/bigscience-workshop/Megatron-DeepSpeed/pull/167)
# fixed offsets of a prefix language model. The question that it settles: is the prefix index the last token
# of the prefix, or the first one behind it? Take one for the other, and the prefix is one token too long. A
# public gist with [FlexAttention
# examples](https://gist.github.com/Chillee/eb339f9ff2261616e563ea7684d1df0c) compares with `<=`, where a
# length would need `<`. Which rows cheat?
# %% [markdown] zh 29da46
# ## 1. 答案的第一个 token
# [Megatron-DeepSpeed#167](https://github.com/bigscience-workshop/Megatron-DeepSpeed/pull/167)
# 修正了一个前缀语言模型的偏移。它要弄清的是：前缀下标指的是前缀的最后一个 token，还是它后面的第一个？
# 弄混了，前缀就多一个 token。一份公开的 gist，里面的
# [FlexAttention 例子](https://gist.github.com/Chillee/eb339f9ff2261616e563ea7684d1df0c)
# 用 `<=` 比较，如果那个数是长度，就该用 `<`。哪些行作弊了？
# %% answer
leak, _ = show("one too long", (j <= A) | causal)
assert leak[A - 1, A]  # the last row of the prompt sees the first word of the answer

# %% [markdown]
# ## 2. Everything inverted
# [dphnAI/sonar#1526](https://github.com/dphnAI/sonar/pull/1526): the prefix may look at everything, the
# answer only at its own past. A review bot simplified the expression, and it stayed wrong. Which rows lose,
# which win?
# %% [markdown] zh 9ede60
# ## 2. 全反了
# [dphnAI/sonar#1526](https://github.com/dphnAI/sonar/pull/1526)：前缀可以看一切，答案只能看自己的过去。一
# 个评审机器人把表达式化简了，还是错的。哪些行吃亏，哪些行占便宜？
# %% answer
leak, lost = show("inverted", (i < A) | ((i >= A) & (j >= A) & causal))
assert leak[:A, A:].all() and lost[A:, :A].any()

# %% [markdown]
# ## 3. Prefill without a mask
# [Mikyx-1/TinyLLM#18](https://github.com/Mikyx-1/TinyLLM/pull/18): the causal mask was applied only if
# there was no cache. Generation passes the whole prompt with an empty cache attached, so the prompt saw its
# own future. Training was never affected. For a causal model (`A = 0`), reading six tokens at once:
# %% [markdown] zh 456e74
# ## 3. 预填充没有掩码
# [Mikyx-1/TinyLLM#18](https://github.com/Mikyx-1/TinyLLM/pull/18)：只有没带缓存时才加因果掩码。生成时整个
# 提示是带着空缓存传进去的，于是提示看到了自己的未来。训练从没受过影响。以因果模型（`A = 0`）为例，一次读
# 六个 token：
# %% answer
prefill = (i < 6) & (j < 6) | causal
found = moves(prefill)
print("rows that see a later token:", sorted({row for row, _ in (found & ~causal).nonzero().tolist()}))
assert (found & ~causal)[:5].any()

# %% [markdown]
# ## 4. Aligned at the wrong corner
# [pytorch/pytorch#103082](https://github.com/pytorch/pytorch/issues/103082): `is_causal=True` with one
# query and a cache of keys. The causal matrix is aligned at the top left, so the newest token sees only the
# oldest key. No leak, and nearly everything is lost:
# %% [markdown] zh f86565
# ## 4. 对错了角
# [pytorch/pytorch#103082](https://github.com/pytorch/pytorch/issues/103082)：一个查询加一份键的缓存，
# 用 `is_causal=True`。因果矩阵是按左上角对齐的，所以最新的 token 只看得到最旧的键。没有泄漏，却几乎什么都
# 丢了：
# %% answer
q, k = torch.randn(2, 1, 1, T, D, dtype=torch.float64)
sdpa = torch.nn.functional.scaled_dot_product_attention
one = sdpa(q[..., -1:, :], k, k, is_causal=True)
print("the new token's output is the first value, unchanged:", torch.equal(one, k[..., :1, :]))
assert torch.equal(one, k[..., :1, :]) and not torch.allclose(one, sdpa(q, k, k, is_causal=True)[..., -1:, :])


# %% [markdown]
# ## 5. A wall that training climbs
# [karpathy/minGPT#75](https://github.com/karpathy/minGPT/issues/75): training and validation loss near 0,
# and nonsense when writing. Hidden scores were set to a large negative number, and the network drove its
# own scores below it. The mask is right; let all visible scores sink by 20,000:
# %% [markdown] zh 3b1bed
# ## 5. 训练翻得过去的墙
# [karpathy/minGPT#75](https://github.com/karpathy/minGPT/issues/75)：训练损失和验证损失都接近 0，写出来的
# 却是胡话。看不到的分数设成了一个很大的负数，网络就把自己的分数压到它下面。掩码是对的；现在让所有看得到的
# 分数下沉 20,000：
# %% answer
def wall(scores, may):
    return (scores - 20_000 * may).masked_fill(~may, -10_000.0).softmax(-1)


leak, _ = zero_bits("a finite wall", masked=wall)
assert leak[~RIGHT].all()

# %% [markdown]
# ## 6. Times zero, before the softmax
# [georg-wolflein/good-features#1](https://github.com/georg-wolflein/good-features/pull/1): masked scores
# were multiplied by 0. A score of 0 is a score like any other. (By luck no result was affected there: the
# batch size was 1.)
# %% [markdown] zh 03cc2b
# ## 6. 在 softmax 之前乘零
# [georg-wolflein/good-features#1](https://github.com/georg-wolflein/good-features/pull/1)：被挡住的分数乘
# 了 0。分数 0 也是分数。（碰巧那里的结果都没受影响：批大小是 1。）
# %% answer
leak, _ = zero_bits("times zero, before", masked=lambda scores, may: (scores * may).softmax(-1))
assert leak[~RIGHT].all()

# %% [markdown]
# ## 7. After the softmax
# [huggingface/pytorch-image-models#2236](https://github.com/huggingface/pytorch-image-models/pull/2236):
# the mask came after the softmax. No hidden value is mixed in, yet every row moves. Why?
# %% [markdown] zh 98e9a6
# ## 7. 在 softmax 之后
# [huggingface/pytorch-image-models#2236](https://github.com/huggingface/pytorch-image-models/pull/2236)：
# 掩码放在了 softmax 之后。看不到的值一个也没混进来，可每一行都动了。为什么？
# %% answer
leak, _ = zero_bits("after the softmax", masked=lambda scores, may: scores.softmax(-1) * may)
weights = (torch.zeros(T, T).softmax(-1) * RIGHT).sum(-1)
print("sums of the weights:", [round(w, 1) for w in weights.tolist()])
assert leak[~RIGHT].all()  # hidden keys have taken their share of the sum

# %% [markdown]
# ## 8. The diagonal, too
# [pbloem/former#10](https://github.com/pbloem/former/issues/10): a blog post hid the upper triangle with
# offset 0, that is, including the diagonal. Row 0 sees nothing, and a softmax over nothing is NaN:
# %% [markdown] zh 63d752
# ## 8. 连对角线也挡了
# [pbloem/former#10](https://github.com/pbloem/former/issues/10)：一篇博客挡住上三角时用了偏移 0，也就是连
# 对角线一起挡。第 0 行什么都看不到，对空集做 softmax 得到 NaN：
# %% answer
hidden = torch.ones(T, T).triu(diagonal=0).bool()
first = torch.zeros(T, T).masked_fill(hidden, -torch.inf).softmax(-1)[0]
print(
    "weights of row 0:",
    first[:3].tolist(),
    "... and with offset 1 it sees",
    int((~hidden.triu(1))[0].sum()),
    "key",
)
assert first.isnan().all()

# %% [markdown]
# ## 9. On the wrong axis
# [attention-is-all-you-need-keras#16](https://github.com/lsdefine/attention-is-all-you-need-keras/issues/16)
# asks whether a padding mask, one number per token, is broadcast over queries instead of keys. Say tokens 8
# and 9 are padding. Over keys nobody sees them; over queries *they* see nothing, and everybody else sees
# them:
# %% [markdown] zh 917bbd
# ## 9. 广播错了轴
# [attention-is-all-you-need-keras#16](https://github.com/lsdefine/attention-is-all-you-need-keras/issues/16)
# 问：填充掩码每个 token 一个数，是不是广播到了查询上，而不是键上？假设第 8 和第 9 个 token 是填充。
# 广播到键上，谁也看不到它们；广播到查询上，是*它们*什么都看不到，别人却都看得到它们：
# %% answer
real = torch.arange(T) < 8
for axis, padding in (("keys", real[None, :]), ("queries", real[:, None])):
    found = moves((torch.ones(T, T, dtype=torch.bool) & padding) | torch.eye(T, dtype=torch.bool))
    print(f"broadcast over {axis:8} rows 0 to 7 move when padding changes: {bool(found[:8, 8:].any())}")
    assert bool(found[:8, 8:].any()) == (axis == "queries")

# %% [markdown]
# ## 10. Two documents, one row
# [huggingface/transformers#46634](https://github.com/huggingface/transformers/pull/46634): boundaries of
# packed documents were found only if no attention mask was given, so a mask of ones switched them off.
# Documents of 6 and 4 tokens:
# %% [markdown] zh 28fcd9
# ## 10. 两篇文档，一行
# [huggingface/transformers#46634](https://github.com/huggingface/transformers/pull/46634)：只有没给注意力
# 掩码时，才会去找打包的文档的边界，所以一个全是 1 的掩码就把边界关掉了。两篇文档，长 6 和 4 个 token：
# %% answer
document = (torch.arange(T) >= 6).long()
apart = causal & (document[:, None] == document[None, :])
for name, may in (("boundaries", apart), ("a mask of ones", causal)):
    between = moves(may)[6:, :6].any()
    print(f"{name:15} the second document sees the first: {bool(between)}")
    assert bool(between) == (name != "boundaries")


# %% [markdown]
# ## The eleventh
# One cell is wrong: row 2 of the prompt may look at token 7. In a model of two layers, which rows move when
# token 7 is changed and must not? Answer with a list.
# %% [markdown] zh 5f2caf
# ## 第十一个
# 有一格错了：提示的第 2 行可以看第 7 个 token。在两层的模型里，改动第 7 个 token 时，哪些行会动，而本不该
# 动？用列表回答。
# %% check
def check_one_cell(rows):
    may = RIGHT.clone()
    may[2, 7] = True
    right = (moves(may) & ~RIGHT)[:, 7].nonzero().flatten().tolist()
    assert isinstance(rows, list), "the answer is a list of rows"
    hint = "; that is one layer. Who looks at row 2 in the second?" if rows == [2] else ""
    hint = hint or ("; rows 7 to 9 may see token 7" if set(rows) > set(right) else "")
    assert sorted(rows) == right, f"not the rows {rows}{hint}"
    print("✓ check_one_cell: one wrong cell, and the whole prompt and two rows of the answer know token 7")


# %%
# check_one_cell([...])

# %% [markdown]
# ## The pattern
# None of these raises an error, and most give a *better* training loss. All are found by one line: change a
# token, compare bits. In minglm that test stands in [`tests/test_mask.py`](../tests/test_mask.py) and
# [`tests/test_tour.py`](../tests/test_tour.py). The original GLM has one of its own kind: the padding of
# Part A was visible (THUDM/GLM#70), see [questions](questions.md).
# %% [markdown] zh afbaa7
# ## 规律
# 这些错误没有一个会报错，大多数还会让训练损失*更好看*。它们全都能用一行代码查出来：
# 改动一个 token，逐位比较。在 minglm 里，这个检验写在 [`tests/test_mask.py`](../tests/test_mask.py)
# 和 [`tests/test_tour.py`](../tests/test_tour.py)。原版 GLM 也有一个同类的错误：
# Part A 的填充是看得到的（THUDM/GLM#70），见[常见问题](questions.zh.md)。
