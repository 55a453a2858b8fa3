# %% [markdown]
# # 10 Beyond
# *What did the later GLMs keep?*
#
# After GLM came GLM-130B (2022), three ChatGLM of 6B (2023) and GLM-4-9B (2024). The mixtures of experts,
# GLM-4.5 and later, are left out. (Blank filling elsewhere: [Why in 2026](why.md).)
#
# - **After this chapter you can** say what each GLM up to 2024 kept, and load the original weights.
# - **You need** chapters [02](02_two_positions.md) to [07](07_the_model.md).
#
# | part (chapter) | GLM, here | GLM-130B | ChatGLM | ChatGLM2 | ChatGLM3, GLM-4 |
# |---|---|---|---|---|---|
# | blanks (01) | `[M]` `[sM]` `[gM]` | kept: `[M]` `[gM]` | not stated | kept: a mix | not stated |
# | positions (02) | two tables | **one, rotary** | kept: two, rotary | **one, rotary** | **one, rotary** |
# | Part A (03) | any length A | kept | kept | **A = 0** | **A = 0** |
# | keys, values (06) | one per head | kept | kept | 2 for 32 heads | 2 for 32 heads |
# | norm (07) | LayerNorm before | DeepNorm, after | DeepNorm, after | RMSNorm before | RMSNorm before |
# | MLP (07) | GELU, 4C | GeGLU | kept | SwiGLU | SwiGLU |
# | head (07) | tied | kept | **own matrix** | **own matrix** | **own matrix** |
#
# **Bold**: dropped; other entries that are not *kept* are changes. *Not stated*: no published text or code
# was found. [1] to [13]: sources, at the end.
# %% [markdown] zh 06c304
# # 10 后来的 GLM
# *后来的 GLM 保留了什么？*
#
# GLM 之后有 GLM-130B（2022）、三代 6B 的 ChatGLM（2023）和 GLM-4-9B（2024）。GLM-4.5 及以后是混合专家模型，
# 本章不讲。（填空在别处的后续：[2026 年为什么还要填空](why.zh.md)。）
#
# - **学完本章，你能**说出 2024 年以前每一代 GLM 保留了什么，并读入原版权重。
# - **预备知识**：第 [02](02_two_positions.zh.md) 到 [07](07_the_model.zh.md) 章。
#
# | 部分（章） | 本书的 GLM | GLM-130B | ChatGLM | ChatGLM2 | ChatGLM3、GLM-4 |
# |---|---|---|---|---|---|
# | 空（01） | `[M]` `[sM]` `[gM]` | 保留：`[M]` `[gM]` | 未说明 | 保留：混合 | 未说明 |
# | 位置（02） | 两张表 | **一个，旋转** | 保留：两个，旋转 | **一个，旋转** | **一个，旋转** |
# | Part A（03） | 长度 A 任意 | 保留 | 保留 | **A = 0** | **A = 0** |
# | 键和值（06） | 每个头一份 | 保留 | 保留 | 32 个头共 2 份 | 32 个头共 2 份 |
# | 归一化（07） | LayerNorm 在前 | DeepNorm，在后 | DeepNorm，在后 | RMSNorm 在前 | RMSNorm 在前 |
# | MLP（07） | GELU，4C | GeGLU | 保留 | SwiGLU | SwiGLU |
# | 输出层（07） | 与词表共享 | 保留 | **独立矩阵** | **独立矩阵** | **独立矩阵** |
#
# **粗体**：放弃了；其余没写*保留*的是改动。*未说明*：没有找到公开的说法或代码。[1] 到 [13]：文末的出处。
# %% imports
import math
import tempfile
from pathlib import Path

import torch

import minglm
from minglm import GLM, GLMConfig, MinglmError, Rng, Tokenizer, build_example, explain
from minglm.course.chapters.beyond import (
    check_join_qkv,
    check_rotary_2d,
    fig_later_masks,
    fig_later_positions,
    fig_ranks,
    fig_rows_read,
    fig_scores,
    fig_turned,
)
from minglm.original.weights import original_name
from minglm.viz import Explorer

torch.set_num_threads(1)  # models as small as these gain nothing from a second thread

# %% [markdown]
# - **GLM-130B**: 30 % of the tokens train `[MASK]` with Poisson(3) spans, 70 % `[gMASK]` with a span to the
#   end [1]. No `[sMASK]`: no single way was found to split Chinese, English and code into sentences [4].
#   LayerNorm follows the sum, its residual scaled by $\sqrt{2n}$ for $n$ layers (DeepNorm); the GeGLU has
#   width $8C/3$ [1, 2, 3].
# - **ChatGLM-6B**: each position turns one half of every head [5]. Made for chat, it does not fill blanks;
#   nor does the next one [12].
# - **ChatGLM2-6B**: pretrained with a mix of objectives, as GLM is [6, 7]. Chat has an empty Part A, so the
#   second position has nothing to say [7]: only half of each head is turned. Only queries, keys and values
#   have biases [8].
# - **ChatGLM3-6B** is the same network in its published code [9], **GLM-4-9B** a larger one [10]. Summaries
#   of its report mention rotary positions in two dimensions [11]; the published code has one [10]. The
#   pretraining code is not public [13].
#
# ## Later masks: special cases of ours
#
# Their code builds a matrix: ones on and below the diagonal, and before ChatGLM2 also in all columns before
# `sop` [2, 5, 8, 9, 10]. One integer says it:
# %% [markdown] zh fa9563
# - **GLM-130B**：30 % 的 token 训练 `[MASK]`，片段按 Poisson(3)；70 % 训练 `[gMASK]`，片段一直到结尾 [1]。
#   没有 `[sMASK]`，因为没找到一种统一的办法给中文、英文和代码断句 [4]。LayerNorm 放在相加之后，残差乘
#   以 $\sqrt{2n}$ ， $n$ 是层数（DeepNorm）；GeGLU 的宽度是 $8C/3$ [1, 2, 3]。
# - **ChatGLM-6B**：两个位置各旋转每个头的一半 [5]。它是对话模型，不会填空；下一代也不会 [12]。
# - **ChatGLM2-6B**：预训练时和 GLM 一样混合几种目标 [6, 7]。对话的 Part A 为空，第二个位置就无话可说
#   了 [7]：每个头只旋转一半。只有查询、键和值带偏置 [8]。
# - **ChatGLM3-6B** 公开的代码是同一个网络 [9]，**GLM-4-9B** 是更大的一个 [10]。它的报告的摘要提到二维旋转
#   位置 [11]，公开的代码里只有一维 [10]。预训练代码没有公开 [13]。
#
# ## 后来的掩码：都是我们的特例
#
# 它们的代码造出一个矩阵：对角线及以下全是 1；ChatGLM2 之前，`sop` 左边的各列也
# 全是 1 [2, 5, 8, 9, 10]。一个整数就够了：
# %%
words = "x1 x2 x3 x4 x5 x6".split()
late = explain([*words, "x7"], [(4, 7)], [0], "document")
chat = explain(["[gM]", "[S]", *words], [], [], model="gpt")  # how a prompt of ChatGLM2 begins
fig_later_masks({"GLM-130B, ChatGLM-6B": late, "from ChatGLM2 on": chat})

# %%
Explorer(explain("x1 x2 x3 x4 x5 x6".split(), [(3, 6)], [0], "document"), (1, 3))  # with A = 0, this is shut

# %% [markdown]
# Why give Part A up? In a chat it would be the history, which grows with every turn: all rows are read again,
# and training needs one sample per turn. With $A = 0$, rows that were read stay [7]. Four turns of 5 tokens:
# %% [markdown] zh 7b036a
# 为什么不要 Part A 了？对话里，Part A 就是之前说过的所有话：每说一轮它就变长，每一行都得重读，而且训练时每
# 一轮都要单独做成一个样本。 $A = 0$ 时，读过的行不再变 [7]。四轮，每轮 5 个 token：
# %%
fig_rows_read()

# %% [markdown]
# ## Later positions
#
# A short blank, a text that continues, and a prompt of ChatGLM2, by our rules a blank with nothing before it
# [2, 5, 8]:
# %% [markdown] zh d0ff1a
# ## 后来的位置
#
# 一个短空，一段续写，还有 ChatGLM2 的提示词（按我们的规则，就是一个前面什么都没有的空）[2, 5, 8]：
# %%
short, long = explain(words, [(2, 4)], [0]), explain(words, [(3, 6)], [0], "document")
fig_later_positions(short, long, chat)


# %% [markdown]
# ## Rotary positions
#
# GLM adds a learned vector to the token. A rotary position *turns* queries and keys, here by 30 degrees per
# position. In their product only the distance counts:
# %% [markdown] zh 542bfc
# ## 旋转位置
#
# GLM 给 token 加上一个学出来的向量。旋转位置（RoPE）则把查询和键*转*一个角度，这里每个位置 30 度。它们的内
# 积只看距离：
# %%
def turn(x, positions, theta):
    """Each pair (x[2j], x[2j + 1]) of row i is turned by positions[i] * theta[j] radians."""
    turned = x.clone()
    for i, position in enumerate(positions):
        for j, angle in enumerate(position * theta):
            a, b = x[i, 2 * j], x[i, 2 * j + 1]
            turned[i, 2 * j] = angle.cos() * a - angle.sin() * b
            turned[i, 2 * j + 1] = angle.sin() * a + angle.cos() * b
    return turned


fig_turned(turn)

# %%
T, D = 24, 16
theta = 10000.0 ** (-torch.arange(0, D, 2) / D)  # (D / 2,) fast pairs and slow ones
torch.manual_seed(0)
q, k = torch.randn(1, D).expand(T, D), torch.randn(1, D).expand(T, D)  # the same token everywhere
rotary = turn(q, range(T), theta) @ turn(k, range(T), theta).T / math.sqrt(D)
added = (q + torch.randn(T, D)) @ (k + torch.randn(T, D)).T / math.sqrt(D)
for distance in range(-T + 1, T):
    assert rotary.diagonal(distance).std(correction=0) < 1e-5

fig_scores(added, rotary)

# %% [markdown]
# The same two tokens at all positions. Tables have to learn distance, and they end; rotary scores have it
# built in.
#
# ## Weights of the original GLM
#
# `GLM.from_original` and `Tokenizer.from_original` read the published GLM: base, large, 410M, 515M, 2B, 10B
# and the Chinese ones. Here a small GLM learns four sentences by heart, to be saved in that layout:
# %% [markdown] zh 26e95d
# 同样两个 token 在所有位置上。查表的话，距离要靠学，表还会用完；旋转的话，得分里天生就有距离。
#
# ## 原版 GLM 的权重
#
# `GLM.from_original` 和 `Tokenizer.from_original` 能读公开的 GLM 权
# 重：base、large、410M、515M、2B、10B 和中文的几个。这里先让一个小 GLM 背下四句话，再按同样的格式存成检查点：
# %%
SENTENCES = (
    "the cat sat on the mat.",
    "the old man read a book by the fire.",
    "a ship came with the tide.",
    "the king lost his crown in the snow.",
)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
words = sorted({word for sentence in SENTENCES for word in sentence[:-1].split()})
vocab = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]
(folder / "vocab.txt").write_text("\n".join(vocab))
tokenizer = Tokenizer.from_original(folder / "vocab.txt")
special = tokenizer.special
print(special)
print(len(vocab), "lines and two tokens of GLM in a table of", tokenizer.vocab_size, "rows")

torch.manual_seed(0)
model = GLM(GLMConfig(tokenizer.vocab_size, 128, 2, 2, max_positions=32, dropout=0.0))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
texts = [[special.cls, *tokenizer.encode(sentence), special.eos] for sentence in SENTENCES]
for step in range(300):
    examples = []
    for n, text in enumerate(2 * texts):
        rng = Rng(0, step, n)
        spans = minglm.sample_spans(text, "token", rng, has_eos=True)
        order = rng.shuffle(list(range(len(spans))))
        examples.append(build_example(text, spans, order, special))
    loss = model.loss(minglm.pack(examples))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss at the end {loss.item():.2f}, ln V = {math.log(tokenizer.vocab_size):.2f}")

# %% [markdown]
# The weights have other names there:
# %% [markdown] zh 64a11f
# 在原版里，权重换了名字：
# %% exact
weights = {original_name(name): w.clone() for name, w in model.state_dict().items()}
for name in model.state_dict():
    if "layers.1" not in name and not name.endswith("bias"):
        print(f"{name:34} {original_name(name)}")


# %% [markdown]
# Large checkpoints are split into *ranks*, one file per GPU. A rank holds whole heads, that is, its share of
# $Q$, of $K$ and of $V$. With $C = 4$ and two ranks:
# %% [markdown] zh e493f2
# 大的检查点切成若干 *rank*，每个 GPU 一个文件。一个 rank 存的是完整的头，也就是 $Q$ 、 $K$ 、 $V$ 里各一
# 份。 $C = 4$ ，两个 rank：
# %% exact
def share(name, weight, rank, ranks):
    if "query_key_value" in name:
        return torch.cat([third.chunk(ranks)[rank] for third in weight.chunk(3)])
    if "word_embeddings" in name or "dense_h_to_4h" in name:
        return weight.chunk(ranks)[rank].clone()  # rows
    if name.endswith(("attention.dense.weight", "dense_4h_to_h.weight")):
        return weight.chunk(ranks, dim=1)[rank].clone()  # columns
    return weight  # norms, positions and the biases of these two: on every rank


labels = [f"{part}{column}" for part in "QKV" for column in range(4)]
for rank in range(2):
    rows = share("query_key_value", torch.arange(12), rank, 2)
    print(f"rank {rank} holds", *(labels[row] for row in rows))

# %%
fig_ranks(weights, share)

# %% [markdown]
# One file per rank:
# %% [markdown] zh 5b98b6
# 每个 rank 一个文件：
# %% exact
checkpoint = folder / "blocklm-tiny"
(checkpoint / "500").mkdir(parents=True)
(checkpoint / "latest_checkpointed_iteration.txt").write_text("500")
for rank in range(2):
    shares = {name: share(name, weight, rank, 2) for name, weight in weights.items()}
    state = {"iteration": 500, "mp_world_size": 2, "module": shares}
    torch.save(state, checkpoint / "500" / f"mp_rank_{rank:02}_model_states.pt")
for path in sorted(folder.rglob("*")):
    print("    " * (len(path.relative_to(folder).parts) - 1) + path.name + "/" * path.is_dir())

# %% [markdown]
# Two lines read it (so does `minglm convert`):
# %% [markdown] zh 1792cb
# 两行代码读进来（`minglm convert` 也行）：
# %%
loaded = GLM.from_original(checkpoint)
tokenizer = Tokenizer.from_original(folder / "vocab.txt", vocab_size=loaded.config.vocab_size)
for text in ("The cat [MASK] on the mat.", "The [MASK] lost his [MASK] in the snow."):
    print(minglm.fill(loaded, tokenizer, text).text)
for name, weight in model.state_dict().items():
    assert torch.equal(weight, loaded.state_dict()[name]), name


# %% [markdown]
# A later or damaged model is refused. A `.pt` file is a pickle, which can call any function; minglm calls
# none:
# %% [markdown] zh 1bce4f
# 更晚的模型、损坏的文件都会被拒绝。`.pt` 文件是 pickle，可能调用任意函数；minglm 一个也不会调用：
# %%
class Trap:
    def __reduce__(self):
        return print, ("this must never be seen",)


no_tables = {name: weight for name, weight in weights.items() if "position" not in name}
torch.save({"module": weights, "args": Trap()}, folder / "trap.pt")
for source in (no_tables, folder / "trap.pt"):
    try:
        GLM.from_original(source)
    except MinglmError as error:
        print(str(error).replace(str(folder), "..."))


# %% [markdown]
# **Remember:** from ChatGLM2 on, A = 0 makes a chat cheaper, and no second position is needed. Every later
# mask is still our one integer. The original weights are our tensors, under other names, cut into ranks.
#
# ## Exercises
#
# **1. ★★★** ChatGLM-6B turns the first half of each head by the position, the second half by the block
# position [5], each with its own `theta` of $D / 4$ angles, $10000^{-2j / (D/2)}$. Write
# `rotary_2d(x, position_ids, block_position_ids)` for $x$ of shape $(T, D)$, with pairs as in `turn`.
# %% [markdown] zh e3d3ec
# **记住：** 从 ChatGLM2 起，A = 0，对话更省，也不再需要第二个位置。后来的掩码仍是我们的那一个整数。原版的
# 权重就是我们的那些张量，只是换了名字，切成了几个 rank。
#
# ## 练习
#
# **1. ★★★** ChatGLM-6B 把每个头的前一半按位置旋转，后一半按片段内位置旋转 [5]，每一半有自己
# 的 `theta`，各 $D / 4$ 个角度： $10000^{-2j / (D/2)}$ 。写
# 出 `rotary_2d(x, position_ids, block_position_ids)`， $x$ 的形状是 $(T, D)$ ，配对方式同 `turn`。
# %%
def rotary_2d(x, position_ids, block_position_ids): ...  # your answer


# check_rotary_2d(rotary_2d)  # uncomment


# %% [markdown]
# **2. ★★** Write `join_qkv(pieces)`: the whole `query_key_value` matrix from the pieces of all ranks (a list
# of tensors).
# %% [markdown] zh ca3376
# **2. ★★** 写出 `join_qkv(pieces)`：由所有 rank 的那几块（一个张量列表）拼回完整的 `query_key_value` 矩阵。
# %%
def join_qkv(pieces): ...  # your answer


# check_join_qkv(join_qkv)  # uncomment

# %% [markdown]
# ## What to build next
#
# - **A rotary GLM**: turn queries and keys in `Layer.project`. Done: a text moved by ten positions gives the
#   same logits.
# - **Fewer keys**: $G$ keys and values, not $H$, in `Layer` and `Cache`. Done: $G = H$ changes no bit.
# - **A chat**: $A = 0$, several turns per sample. Done: a second turn reads only its rows.
#
# ## Sources
#
# *official*: in the authors' library,
# [`sat/model/official`](https://github.com/THUDM/SwissArmyTransformer/tree/main/sat/model/official).
# *config*: `config.json` on the Hugging Face hub.
#
# 1. GLM-130B, [`README_zh.md`](https://github.com/THUDM/GLM-130B/blob/main/README_zh.md); width:
#    `configs/model_glm_130b.sh`.
# 2. GLM-130B, [`generate.py`](https://github.com/THUDM/GLM-130B/blob/main/generate.py),
#    `get_masks_and_position_ids`; [the paper](https://arxiv.org/abs/2210.02414), appendix B.3, as quoted in
#    [this thread](https://github.com/mymusise/ChatGLM-Tuning/issues/11).
# 3. *official*, `glm130B_model.py`.
# 4. GLM-130B, [issue 74](https://github.com/zai-org/GLM-130B/issues/74); another author names efficiency in
#    [issue 12](https://github.com/zai-org/GLM-130B/issues/12).
# 5. *official*, `chatglm_model.py`; *config* of [chatglm-6b](https://huggingface.co/THUDM/chatglm-6b).
# 6. ChatGLM2-6B, [README](https://github.com/THUDM/ChatGLM2-6B/blob/main/README_EN.md).
# 7. ChatGLM2-6B, [issue 16](https://github.com/zai-org/ChatGLM2-6B/issues/16) and
#    [issue 64](https://github.com/zai-org/ChatGLM2-6B/issues/64), the authors' answers.
# 8. *official*, `chatglm2_model.py`; *config* and `tokenization_chatglm.py` of
#    [chatglm2-6b](https://huggingface.co/THUDM/chatglm2-6b).
# 9. *official*, `chatglm3_model.py`; *config* of [chatglm3-6b](https://huggingface.co/THUDM/chatglm3-6b).
# 10. *official*, `chatglm4_model.py`; huggingface/transformers,
#     [`models/glm`](https://github.com/huggingface/transformers/tree/main/src/transformers/models/glm).
# 11. GLM-4, [arXiv 2406.12793](https://arxiv.org/abs/2406.12793), read in summaries only.
# 12. ChatGLM-6B, [issue 242](https://github.com/zai-org/ChatGLM-6B/issues/242), and ChatGLM2-6B,
#     [issue 188](https://github.com/zai-org/ChatGLM2-6B/issues/188), the authors' answers.
# 13. GLM-4, [issue 355](https://github.com/zai-org/GLM-4/issues/355).
#
# ## Read on
#
# - [`minglm/original/weights.py`](../minglm/original/weights.py) and
#   [`vocabularies.py`](../minglm/original/vocabularies.py): names, ranks, and what a file may hold.
# - [`tests/original/`](../tests/original): every published form, recorded outputs.
# %% [markdown] zh 628cb9
# ## 接下来可以做什么
#
# - **旋转位置的 GLM。** 去掉两张位置表，在 `Layer.project` 里旋转查询和键。做到这样算完成：文本整体平移十
#   个位置，logits 不变。
# - **更少的键。** 给 `Layer` 和 `Cache` 配 $G$ 份键和值，而不是 $H$ 份。做到这样算完成： $G = H$ 时与原来
#   逐位相同。
# - **对话。** 用 $A = 0$ 微调，一个样本里放几轮。做到这样算完成：第二轮只读它自己的行。
#
# ## 出处
#
# *official*：作者的库里的
# [`sat/model/official`](https://github.com/THUDM/SwissArmyTransformer/tree/main/sat/model/official)。
# *config*：Hugging Face 上的 `config.json`。
#
# 1. GLM-130B，[`README_zh.md`](https://github.com/THUDM/GLM-130B/blob/main/README_zh.md)；宽度
#    见 `configs/model_glm_130b.sh`。
# 2. GLM-130B，[`generate.py`](https://github.com/THUDM/GLM-130B/blob/main/generate.py) 的
#    `get_masks_and_position_ids`；[论文](https://arxiv.org/abs/2210.02414)附录 B.3，转引自
#    [这个帖子](https://github.com/mymusise/ChatGLM-Tuning/issues/11)。
# 3. *official*，`glm130B_model.py`。
# 4. GLM-130B，[issue 74](https://github.com/zai-org/GLM-130B/issues/74)；另一位作者
#    在 [issue 12](https://github.com/zai-org/GLM-130B/issues/12) 里说是为了效率。
# 5. *official*，`chatglm_model.py`；[chatglm-6b](https://huggingface.co/THUDM/chatglm-6b) 的 *config*。
# 6. ChatGLM2-6B，[README](https://github.com/THUDM/ChatGLM2-6B/blob/main/README_EN.md)。
# 7. ChatGLM2-6B，[issue 16](https://github.com/zai-org/ChatGLM2-6B/issues/16) 和
#    [issue 64](https://github.com/zai-org/ChatGLM2-6B/issues/64)，作者的回答。
# 8. *official*，`chatglm2_model.py`；[chatglm2-6b](https://huggingface.co/THUDM/chatglm2-6b) 的 *config*
#    和 `tokenization_chatglm.py`。
# 9. *official*，`chatglm3_model.py`；[chatglm3-6b](https://huggingface.co/THUDM/chatglm3-6b) 的 *config*。
# 10. *official*，`chatglm4_model.py`；huggingface/transformers，
#     [`models/glm`](https://github.com/huggingface/transformers/tree/main/src/transformers/models/glm)。
# 11. GLM-4，[arXiv 2406.12793](https://arxiv.org/abs/2406.12793)，只读了摘要。
# 12. ChatGLM-6B，[issue 242](https://github.com/zai-org/ChatGLM-6B/issues/242)；ChatGLM2-6B，
#     [issue 188](https://github.com/zai-org/ChatGLM2-6B/issues/188)，作者的回答。
# 13. GLM-4，[issue 355](https://github.com/zai-org/GLM-4/issues/355)。
#
# ## 延伸阅读
#
# - [`minglm/original/weights.py`](../minglm/original/weights.py) 和
#   [`vocabularies.py`](../minglm/original/vocabularies.py)：名字、rank，以及文件里允许有什么。
# - [`tests/original/`](../tests/original)：每一种公开的格式，以及原版代码的输出记录。
