# %% [markdown]
# # 07 The model
# *What is around attention?*
#
# Attention lets a row look at others; all else works on one row at a time. Six blocks, each compared with
# `minglm.GLM`, make a network that learns one batch by heart.
#
# - **After this chapter you can** write GLM from an empty file, count its weights, and run its two cheapest
#   tests.
# - **You need** chapters [03](03_who_sees_whom.md) and [06](06_attention_by_hand.md).
#
# Letters: $V$ tokens in the vocabulary, rows of width $C$, $H$ heads of width $D = C / H$, $n$ layers,
# positions up to $L$. A sample has $T$ rows, a batch $N$: samples lie end to end, without padding.
# %% [markdown] zh d27e96
# # 07 模型
# *注意力的周围是什么？*
#
# 注意力让一行去看别的行；其余的一切，每次只处理一行。本章用六块积木搭出整个网络，
# 每一块都与 `minglm.GLM` 对照，最后让它背下一个批次。
#
# - **学完本章，你能**从空文件写出 GLM，数出它的权重，并做两个最便宜的检验。
# - **预备知识**：第 [03](03_who_sees_whom.zh.md) 和 [06](06_attention_by_hand.zh.md) 章。
#
# 字母：词表有 $V$ 个 token，一行的宽度是 $C$ ，有 $H$ 个头，每个宽 $D = C / H$ ，共 $n$ 层，位置最大
# 到 $L$ 。一个样本有 $T$ 行，一个批次有 $N$ 行：样本首尾相接，没有填充。
# %% imports
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

from minglm import GLM, GLMConfig, Tokenizer, build_example, explain, keys_of_row, masked_attention, pack
from minglm.course.chapters import FAST
from minglm.course.chapters.the_model import (
    PROVERBS,
    check_key_rows,
    check_post_ln,
    fig_by_heart,
    fig_gelu,
    fig_heads,
    fig_network,
    fig_remember,
    fig_three_tables,
    fig_weights,
    pytorchs,
)
from minglm.model_config import num_parameters
from minglm.train.presets import PRESETS
from minglm.viz import Explorer

torch.set_num_threads(1)  # models as small as these gain nothing from a second thread

# %% [markdown]
# The thick line is the *residual*, $C$ numbers per token. Layers read it and add to it; nothing overwrites
# it.
# %% [markdown] zh d1cc17
# 粗线是*残差*，每个 token 有 $C$ 个数。每一层读它，再往上加；没有什么会把它覆盖掉。
# %%
fig_network()

# %% [markdown]
# ## Block 1: three tables, one sum
#
# $$x = E[\text{token}] + P[\text{position}] + Q[\text{block position}]$$
#
# The sample is the paper's; its words are tokens 8 to 13. On paper each table gets a column of its own and a
# 1 in the last one, so `x5`, token 12 at position 4 and block position 2, becomes $(12, 4, 2, 3)$. (The
# original kept one position more, for a sentinel.)
# %% [markdown] zh bbfa91
# ## 第 1 块：三张表，加起来
#
# $$x = E[\text{token}] + P[\text{position}] + Q[\text{block position}]$$
#
# 样本还是论文里的；它的词是第 8 到 13 号 token。用纸笔算时，让每张表各占一列，最后一列都是 1，于是 `x5`，
# 即位置 4、片段内位置 2 的第 12 号 token，变成 $(12, 4, 2, 3)$ 。（原版多留了一个位置作哨兵。）
# %% exact
V, C, H, L = 14, 4, 2, 6
example = build_example(range(8, 14), [(2, 3), (4, 6)], order=[1, 0])
names = {3: "[M]", 6: "[S]"} | {8 + i: f"x{i + 1}" for i in range(6)}
E = [[t, 0, 0, 1] for t in range(V)]
P = [[0, p, 0, 1] for p in range(L + 1)]
Q = [[0, 0, b, 1] for b in range(L + 1)]

by_hand = []
for i in range(len(example.tokens)):
    t, p, b = example.tokens[i], example.position_ids[i], example.block_position_ids[i]
    by_hand.append([E[t][c] + P[p][c] + Q[b][c] for c in range(C)])
print(f"row 6, {names[example.tokens[6]]}: {by_hand[6]}")

# %%
Explorer(explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]), (6, 6))  # row 6 and its positions

# %% [markdown]
# In the library a table is an `nn.Embedding`:
# %% [markdown] zh 16f010
# 在库里，一张表就是一个 `nn.Embedding`：
# %%
torch.manual_seed(0)
model = GLM(GLMConfig(V, C, num_layers=2, num_heads=H, max_positions=L, dropout=0.0))
tables = model.token_embedding, model.position_embedding, model.block_position_embedding
for table, numbers in zip(tables, (E, P, Q), strict=True):
    table.weight.data.copy_(torch.tensor(numbers))
batch = pack([example])
ids = batch.tokens, batch.position_ids, batch.block_position_ids
parts = [table(rows).detach() for table, rows in zip(tables, ids, strict=True)]  # each (T, C)
assert sum(parts).tolist() == by_hand

# %%
fig_three_tables(example, names, parts)


# %% [markdown]
# ## Block 2: LayerNorm
# A LayerNorm brings a row to mean 0 and variance 1; then a learned weight and bias, initially 1 and 0, scale
# and shift each column:
# %% [markdown] zh 3ac36f
# ## 第 2 块：LayerNorm
# LayerNorm 把一行变成均值 0、方差 1；然后用学出来的权重和偏置（起初是 1 和 0）逐列缩放、平移：
# %%
def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return norm.weight * centred / (variance + 1e-5).sqrt() + norm.bias


layer = model.layers[0]
for row in ([1.0, 1.0, 3.0, 3.0], [10.0, 10.0, 30.0, 30.0]):
    print(row, "->", [round(v, 3) for v in layer_norm(torch.tensor(row), layer.norm1).tolist()])

for parameter in model.parameters():  # from here on: weights as if learned, all different
    torch.nn.init.normal_(parameter, 0, 0.5)
x = torch.randn(len(by_hand), C)  # (T, C)
torch.testing.assert_close(layer_norm(x, layer.norm1), layer.norm1(x))

# %% [markdown]
# ## Block 3: attention, head by head
# One matrix makes queries, keys and values. Each head is the attention of chapter 06 on its own $D$ columns;
# a last matrix mixes the heads. Here $C = 4$, $D = 2$:
# %% [markdown] zh eac8e4
# ## 第 3 块：注意力，一个头一个头地算
# 一个矩阵同时给出查询、键和值。每个头就是第 06 章的注意力，只用自己的 $D$ 列；
# 最后一个矩阵把各个头混合起来。这里
# $C = 4$ ， $D = 2$ ：
# %%
fig_heads()


# %%
def attention(layer, x, part_a_len):
    T, C = x.shape
    D, joined = C // layer.num_heads, torch.zeros(T, C)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=-1)  # each (T, C)
    for head in range(layer.num_heads):
        columns = slice(head * D, (head + 1) * D)
        for i in range(T):
            seen = keys_of_row(i, part_a_len)
            scores = k[:seen, columns] @ q[i, columns] / math.sqrt(D)  # (seen,)
            joined[i, columns] = scores.softmax(0) @ v[:seen, columns]
    return joined @ layer.out.weight.T + layer.out.bias


A = example.part_a_len
q, k, v = layer.project(x)  # each (T, H, D); it applies the LayerNorm first
seen = masked_attention(q, k, v, batch.mask, backend="reference")
library = layer.out(seen.flatten(1))
torch.testing.assert_close(attention(layer, layer_norm(x, layer.norm1), A), library)


# %% [markdown]
# ## Block 4: the MLP
# Each row alone: one matrix widens it to $4C$ numbers, a GELU bends each, another brings them back to $C$.
#
# $$\text{GELU}(x) =
#   \tfrac{x}{2}\Bigl(1 + \tanh\bigl(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\bigr)\Bigr)$$
#
# One number $x$, widened by $up = (1, -1)$:
# %% [markdown] zh 2c490f
# ## 第 4 块：MLP
# 每一行单独处理：一个矩阵把它展宽到 $4C$ 个数，GELU 逐个弯一下，第二个矩阵再变回 $C$ 个。
#
# $$\text{GELU}(x) =
#   \tfrac{x}{2}\Bigl(1 + \tanh\bigl(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\bigr)\Bigr)$$
#
# 一个数 $x$ ，用 $up = (1, -1)$ 展宽：
# %%
def gelu(x):
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def mlp(layer, x):
    hidden = gelu(x @ layer.up.weight.T + layer.up.bias)  # (T, 4C)
    return hidden @ layer.down.weight.T + layer.down.bias


torch.testing.assert_close(gelu(x), F.gelu(x, approximate="tanh"))

# %%
fig_gelu(gelu)


# %% [markdown]
# ## Block 5: a layer
# Attention and MLP each read a normalised copy and add to the raw row: *pre-LN*. The first transformers
# normalised the sum: *post-LN* (exercise 2).
#
# $$x \leftarrow x + \text{attention}(\text{LN}_1(x)) \qquad
#   x \leftarrow x + \text{MLP}(\text{LN}_2(x))$$
#
# Checked against `Layer` and PyTorch's `TransformerEncoderLayer` (its mask is `True` where a row may *not*
# look).
# %% [markdown] zh cbc5ec
# ## 第 5 块：一层
# 注意力和 MLP 各读一份归一化后的副本，加到原来的行上：这叫 *pre-LN*。最早的 transformer 是对和做归一化，
# 叫 *post-LN*（练习 2）。
#
# $$x \leftarrow x + \text{attention}(\text{LN}_1(x)) \qquad
#   x \leftarrow x + \text{MLP}(\text{LN}_2(x))$$
#
# 与 `Layer` 和 PyTorch 的 `TransformerEncoderLayer` 对照（后者的掩码里，`True` 表示*不许*看）。
# %%
def layer_by_hand(layer, x, part_a_len):
    x = x + attention(layer, layer_norm(x, layer.norm1), part_a_len)
    return x + mlp(layer, layer_norm(x, layer.norm2))


# %%
mine = layer_by_hand(layer, x, A)
torch.testing.assert_close(mine, layer(x, batch.mask, "reference"))
torch.testing.assert_close(mine, pytorchs(layer, norm_first=True)(x, batch.mask))


# %% [markdown]
# Dropout is off here. In training, minglm applies it to $x$ of block 1 and to what attention and MLP add; the
# original also drops attention probabilities.
#
# ## Block 6: the head is table E again
# Each row is normalised once more. The score of token $t$ is its product with row $t$ of $E$: the *tied*
# head. A whole GLM is these few lines:
# %% [markdown] zh 58f2ec
# 这里关掉了 dropout。训练时，minglm 把它用在第 1 块的 $x$ 上，以及注意力和 MLP 要加上去的
# 部分；原版还丢弃注意力概率。
#
# ## 第 6 块：输出层又是表 E
# 每一行再归一化一次。token $t$ 的分数是这一行与 $E$ 的第 $t$ 行的内积：*共享*的输出层。整
# 个 GLM 就是这几行：
# %%
def glm_by_hand(model, example):
    ids = example.tokens, example.position_ids, example.block_position_ids
    tables = model.token_embedding, model.position_embedding, model.block_position_embedding
    x = sum(table.weight[rows] for table, rows in zip(tables, ids, strict=True))  # (T, C)
    for layer in model.layers:
        x = layer_by_hand(layer, x, example.part_a_len)
    return layer_norm(x, model.final_norm) @ model.token_embedding.weight.T  # (T, V)


mine, library = glm_by_hand(model, example), model(*ids, batch.mask)
torch.testing.assert_close(mine, library)
learned = model(*ids, batch.mask, rows=batch.target_rows)  # training asks for Part B's rows only
torch.testing.assert_close(learned, mine[A:])
torch.testing.assert_close(F.cross_entropy(mine[A:], batch.targets), model.loss(batch))
print("logits of all rows", tuple(mine.shape), "and of those that learn", tuple(learned.shape))

# %% [markdown]
# ## How many weights?
# A layer: $2C$ (LN) $+\ 3C^2 + 3C$ (qkv) $+\ C^2 + C$ (out) $+\ 2C$ (LN) $+\ 4C^2 + 4C$ (up) $+\ 4C^2 + C$
# (down) $= 12C^2 + 13C$. The tied head costs nothing. In all
#
# $$VC + 2(L + 1)C + n\,(12C^2 + 13C) + 2C$$
#
# Here: $56 + 56 + 2 \cdot 244 + 8 = 608$.
# %% [markdown] zh 3d1f6c
# ## 有多少权重？
# 一层： $2C$ （LN） $+\ 3C^2 + 3C$ （qkv） $+\ C^2 + C$ （out） $+\ 2C$ （LN）
# $+\ 4C^2 + 4C$ （up） $+\ 4C^2 + C$ （down） $= 12C^2 + 13C$ 。共享的输出层不花钱。总共
#
# $$VC + 2(L + 1)C + n\,(12C^2 + 13C) + 2C$$
#
# 这里： $56 + 56 + 2 \cdot 244 + 8 = 608$ 。
# %% exact
print("counted", model.num_parameters(), "and by the formula", num_parameters(model.config))
sizes = {name: GLMConfig(**PRESETS[name]["model"]) for name in ("page", "tiny", "small", "base", "large")}
for name, config in sizes.items():
    print(f"{name:6} {num_parameters(config):11,}")

# %%
fig_weights(sizes)

# %% [markdown]
# In every size the MLPs hold twice as much as attention.
#
# ## A new model knows nothing: $\ln V$
# Fresh weights are small: all logits are near 0, all tokens about equally likely, and the loss is
# $-\ln \tfrac{1}{V} = \ln V$. Check this first in any run. A loss far above means sure and wrong, as in the
# last two lines with an enlarged token table.
# %% [markdown] zh 00c82a
# 不管模型多大，MLP 的权重都是注意力的两倍。
#
# ## 新模型什么都不知道： $\ln V$
# 刚初始化的权重很小：logits 都接近 0，各个 token 的可能性差不多，损失就是 $-\ln \tfrac{1}{V} = \ln V$ 。每
# 次训练先查这一点。如果损失远高于它，说明模型很自信，却错了，比如最后两行，那里把词表放大了。
# %%
rng = np.random.default_rng(0)
for V, times in ((50, 1), (500, 1), (5000, 1), (20000, 1), (500, 5), (500, 25)):
    torch.manual_seed(0)
    fresh = GLM(GLMConfig(V, 64, num_layers=2, num_heads=4, max_positions=64, dropout=0.0))
    fresh.token_embedding.weight.data.mul_(times)
    text = rng.integers(8, V, 60)
    loss = fresh.loss(pack([build_example(text, [(10, 40)], [0])])).item()
    print(f"V = {V:6,}, table x {times:2}: first loss {loss:6.2f}, ln V = {math.log(V):.2f}")
    assert times > 1 or abs(loss - math.log(V)) < 0.2

# %% [markdown]
# ## One batch by heart
# The cheapest test: can a network bring the loss of a single batch to nearly 0? Eight proverbs, each with its
# blank at tokens 2 to 4:
# %% [markdown] zh 43649d
# ## 背下一个批次
# 检验网络最便宜的办法：它能不能把一个批次的损失降到几乎是 0？八句谚语，空都在第 2 到第 4 个 token：
# %%
tokenizer = Tokenizer.train(PROVERBS, 400)
special = tokenizer.special
texts = [[special.cls, *tokenizer.encode(proverb), special.eos] for proverb in PROVERBS]
samples = [build_example(text, [(2, 5)], [0], special) for text in texts]
batch = pack(samples)
print(f"{len(samples)} samples, {len(batch.tokens)} rows; {len(batch.targets)} of them learn")
print("|".join(map(tokenizer.token_str, samples[0].tokens.tolist())))

# %% [markdown]
# A *blind* model learns with attention switched off. The `<|startofpiece|>` of all samples is then the same,
# with eight different targets: a guess costs $\ln 8$. The other three rows are told apart by their tokens.
# %% [markdown] zh 00158d
# 让一个*失明*的模型在关掉注意力的情况下学。这时所有样本的 `<|startofpiece|>` 都一样，却有八个不同
# 的标签：猜一次的代价是 $\ln 8$ 。另外三行靠自己的 token 就
# 能区分。
# %%
firsts = batch.targets[::4].tolist()  # four rows learn in each sample
assert len(set(firsts)) == len(samples) == 8
best_alone = math.log(8) / 4

torch.manual_seed(0)
config = GLMConfig(tokenizer.vocab_size, 64, 2, 4, max_positions=64, dropout=0.0)
fresh = GLM(config)
seeing, blind = copy.deepcopy(fresh), copy.deepcopy(fresh)
for layer in blind.layers:
    for parameter in layer.out.parameters():
        torch.nn.init.zeros_(parameter).requires_grad_(False)

steps, losses = 100 if FAST else 200, {}
for name, model in (("seeing", seeing), ("blind", blind)):
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=3e-3, weight_decay=0.0)
    losses[name] = []
    for _ in range(steps):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[name].append(loss.item())
    print(f"{name:8} first loss {losses[name][0]:.3f}, after {steps} steps {losses[name][-1]:.3f}")
ln_V = math.log(config.vocab_size)
print(f"ln V is {ln_V:.3f}, (ln 8) / 4 is {best_alone:.3f}")
assert losses["seeing"][-1] < 0.1 < best_alone < losses["blind"][-1]

# %%
fig_by_heart(losses, ln_V, best_alone)

# %% [markdown]
# This test finds a loose wire, but no wrong mask: a cheating model gets there too (chapter 06). What each row
# finds likeliest, given the right tokens before it:
# %% [markdown] zh 3cca9c
# 这个检验能查出松掉的线，但查不出错的掩码：作弊的模型也能通过（第 06 章）。给出前面正确的 token，每一行认
# 为最可能的是：
# %%
for proverb, sample in list(zip(PROVERBS, samples, strict=True))[:2]:
    print(proverb)
    one = pack([sample])
    ids = one.tokens, one.position_ids, one.block_position_ids
    for name, model in (("new", fresh), ("blind", blind), ("seeing", seeing)):
        best = model(*ids, one.mask, rows=one.target_rows).argmax(-1)
        print(f"    {name:7}", "|".join(map(tokenizer.token_str, best.tolist())))


# %% [markdown]
# **Remember:** three tables make the residual, each layer adds attention and an MLP, and the token table
# reads it out. Only attention looks at other rows. A new model starts at $\ln V$; a correctly wired one
# learns one batch by heart.
# %% [markdown] zh 79641e
# **记住：** 三张表构成残差，每一层把注意力和 MLP 加上去，最后由词表读出来。只有注意力会看别的行。新模型
# 从 $\ln V$ 起步，接线正确的模型能背下一个批次。
# %%
fig_remember(seeing, example, losses["seeing"])


# %% [markdown]
# ## Exercises
# **1. ★** Which rows of `qkv.weight` make the keys of one head? Write `key_rows(head, C, H)`, a list.
# %% [markdown] zh 8746d3
# ## 练习
# **1. ★** `qkv.weight` 的哪些行给出某一个头的键？写出 `key_rows(head, C, H)`，返回列表。
# %%
def key_rows(head, C, H): ...  # your answer


# check_key_rows(key_rows)  # uncomment


# %% [markdown]
# **2. ★★★** Write `post_ln(layer, x, mask)`: the same weights, but each LayerNorm comes *after* its sum, and
# attention and MLP read the row as it is. Start from
# `q, k, v = layer.qkv(x).view(len(x), 3, layer.num_heads, -1).unbind(1)`, and use `minglm.masked_attention`.
# (`layer.project` normalises first.)
# %% [markdown] zh add5b2
# **2. ★★★** 写出 `post_ln(layer, x, mask)`：权重不变，但每个 LayerNorm 放在相加*之后*，注意力和 MLP 直接
# 读原来的行。从 `q, k, v = layer.qkv(x).view(len(x), 3, layer.num_heads, -1).unbind(1)` 开始，
# 再用 `minglm.masked_attention`。（`layer.project` 会先归一化。）
# %%
def post_ln(layer, x, mask): ...  # your answer


# check_post_ln(post_ln)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/model.py`](../minglm/model.py): `Layer.forward`, then `GLM.hidden`, whose last layer computes
#   only the rows that learn. `GLM.initialise`: the two matrices that write to the residual start smaller.
# - Next: [pretraining with all three objectives](08_full_pretraining.md).
# %% [markdown] zh 6c2a1d
# ## 延伸阅读
# - [`minglm/model.py`](../minglm/model.py)：先看 `Layer.forward`，再看 `GLM.hidden`，
#   它的最后一层只算要学的行。
#   `GLM.initialise`：往残差里写的两个矩阵，起初比别的小。
# - 下一章：[用三种预训练目标做预训练](08_full_pretraining.zh.md)。
