# %% [markdown]
# # Questions GLM users ask
# *Answered by code, with the threads where they were asked.*
#
# Most of them are about the two positions ([chapter 02](02_two_positions.md)) and the mask
# ([chapter 03](03_who_sees_whom.md)). Facts about the original are from its code at commit 4f61ed7.
# %% [markdown] zh 532266
# # 常见问题：GLM 用户问过什么
# *每个答案都用代码验证，并附上原来的讨论。*
#
# 大多与两个位置（[第 02 章](02_two_positions.zh.md)）和掩码（[第 03 章](03_who_sees_whom.zh.md)）有关。
# 关于原版的事实，依据是它的代码（提交 4f61ed7）。
# %% imports
import torch

from minglm import GLM, GLMConfig, GLMMask, SpecialTokens, build_example, explain, keys_of_row, pack

TEXT, IDS = ["x1", "x2", "x3", "x4", "x5", "x6"], [101, 102, 103, 104, 105, 106]
SPANS = [(2, 3), (4, 6)]
NAMES = {2: "eos", 3: "[M]", 5: "[gM]", 6: "[S]", 7: "[E]", **dict(zip(IDS, TEXT, strict=True))}


# %% setup
def line(name, values):
    print(f"{name:16}" + "".join(f"{str(value):>5}" for value in values))


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


# %% [markdown]
# **Why does `x3` stand at the end of the input, why is no position larger than 5, and why may Part A not
# look at Part B?** (THUDM/GLM#28) Blanked spans are written one token at a time, so they are input after
# the text, in random order, and carry the position of their `[M]`: no new positions are needed (the largest
# is that of the last token of Part A; the paper counts from 1). And if Part A saw Part B, it would pass the
# answer on to the row that has to say it (chapter 03).
# %% [markdown] zh 1598fc
# **为什么 `x3` 排在输入的最后？为什么位置最大只到 5？为什么 Part A 不能看 Part B？**（THUDM/GLM#28）
# 挖掉的片段要逐个 token 写出来，所以按随机的顺序接在文本后面，位置则取自己的 `[M]` 的位置，不占新的位置
# （最大的就是 Part A 最后一个 token 的位置；论文从 1 数起）。如果 Part A 能看到 Part B，
# 它就会把答案传给正要说出答案的那一行（见第 03 章）。
# %% exact
d = explain(TEXT, SPANS, [1, 0])
line("reads", d.tokens)
line("position", d.position_ids)
line("paper: position", [n + 1 for n in d.position_ids])
line("block position", d.block_position_ids)

# %% [markdown]
# **From 0 or from 1?** (zai-org/ChatGLM-6B#1258, #134) The paper's figure counts the first position from 1,
# the code from 0, and weights were trained by code. It matters: a position selects a row of a table.
# %% [markdown] zh a08359
# **从 0 还是从 1 数起？**（zai-org/ChatGLM-6B#1258、#134）论文的图里，第一个位置从 1 数起，代码从 0 数起，
# 而权重是用代码训练出来的。这不是小事：一个位置就是表里的一行，差一行，取出的就是另一组数。
# %% exact
model, example = new_model(2), build_example(IDS, SPANS, [1, 0])
columns = example.tokens, example.position_ids, example.block_position_ids
right = logits(model, *columns, 5)
moved = logits(model, columns[0], columns[1] + 1, columns[2], 5)
print("logits with the first position moved by one:", say(right, moved))

# %% [markdown]
# **Where do `sop` and the answer go after `[gMASK]`, and where do the labels?** (zai-org/ChatGLM-6B#134,
# #1313, #498) The answer keeps the mask's position, and only the block position counts up. `eop` is never
# an input, so it has no position. Code that shifts labels inside the model wants each label one row later
# and an input that ends in `eop`. (Here `eop` follows `eos`; the original's `[gMASK]` samples stop at
# `eos`, and its sampler accepts either.)
# %% [markdown] zh f73106
# **`[gMASK]` 之后，`sop` 和答案的位置是多少？标签放在哪一行？**（zai-org/ChatGLM-6B#134、#1313、#498）
# 和别的掩码一样：答案的位置始终是掩码的位置，只有片段内位置往下数。`eop` 只作标签，从不作输入，
# 所以没有位置。有的代码到模型内部才把标签错开一位，那就要把每个标签后移一行，输入也要以 `eop` 结尾；
# 损失是一样的。（这里 `eos` 之后还有 `eop`。原版自己的 `[gMASK]` 样本到 `eos` 为止，
# 采样时遇到两者中的哪个都算结束。）
# %% exact
chat = build_example([101, 102, 103, 104, 2], [(2, 5)], [0], objective="document")
learned = [NAMES[i] for i in chat.targets.tolist()]
line("input", [NAMES[i] for i in chat.tokens.tolist()])
line("position", chat.position_ids)
line("block position", chat.block_position_ids)
line("learns", [""] * chat.part_a_len + learned)
line("shifted inside:", [*(NAMES[i] for i in chat.tokens.tolist()), "[E]"])
line("... labels", [-100] * (chat.part_a_len + 1) + learned)

# %% [markdown]
# **How does the model know which blank it fills, and in which order?** (THUDM/GLM#9, #31) By the position of
# `[S]`, in any order ([chapter 02](02_two_positions.md) tries it). The authors fill from left to right, for
# simplicity (#31). That a released model fills several blanks weakly was reported in #30.
# %% [markdown] zh 2203ae
# **推理时怎样指定填哪个空？按什么顺序填？**（THUDM/GLM#9、#31）由 `[S]` 的位置指定，顺序随意。
# [第 02 章](02_two_positions.zh.md)试过。作者为简单起见，从左往右填（#31）。也有人报告，
# 发布的模型同时填几个空时效果不好（#30）。
# %% [markdown]
# **When x3 is predicted, are x5 and x6 visible?** (THUDM/GLM#20) Yes, if their span came earlier in Part B.
# Here it did: the second `[S]` is row 8.
#
# **Which mask should I use?** (zai-org/GLM-130B#12, zai-org/ChatGLM2-6B#188) One that the model was trained
# with. GLM-130B was trained with `[MASK]` and `[gMASK]`; ChatGLM2-6B was fine-tuned for chat without any
# blanks.
# %% [markdown] zh be2f99
# **预测 x3 时看得到 x5 和 x6 吗？**（THUDM/GLM#20）如果它们的片段在 Part B 里排在前面，就看得到。
# 这里正是如此：第二个 `[S]` 是第 8 个 token（掩码的第 8 行）。
#
# **该用哪种掩码 token？**（zai-org/GLM-130B#12、zai-org/ChatGLM2-6B#188）用模型训练时见过的那种；
# 没见过的对它毫无意义。GLM-130B 训练时用的是 `[MASK]` 和 `[gMASK]`，ChatGLM2-6B 的对话微调则完全没有填空。
# %% exact
print("row 8 sees:", *(NAMES[i] for i in example.tokens[: keys_of_row(8, example.part_a_len)]))
objectives = ("token", "sentence", "document")
print({objective: example.special.mask_of(objective) for objective in objectives})

# %% [markdown]
# **Why does a batch give other answers than a text alone?** (THUDM/GLM#70, zai-org/ChatGLM-6B#841,
# hiyouga/ChatGLM-Efficient-Tuning#170) Because of padding. After Part B it is harmless; inside Part A every
# row sees it, unless a second mask hides it. minglm packs samples end to end instead. Part B's rows,
# compared with those of the sample alone:
# %% [markdown] zh 443637
# **为什么批量推理和单条推理的结果不同？**（THUDM/GLM#70、zai-org/ChatGLM-6B#841、
# hiyouga/ChatGLM-Efficient-Tuning#170）问题出在填充（padding）。填在 Part B 后面没有害处，
# 因为谁也不往后看；填在 Part A 里面，所有行都会看到它，除非另加一层掩码挡住。minglm 把样本首尾相接地打包，
# 没有填充。下面拿 Part B 各行的输出，和单独算这个样本时相比：
# %% exact
tokens, first, second = (column.tolist() for column in columns)
pad = example.special.pad
alone = logits(model, tokens, first, second, 5)[5:]
behind = logits(model, tokens + [pad, pad], first + [0, 0], second + [0, 0], 5)[5:-2]
padded = (tokens, [pad, pad]), (first, [5, 6]), (second, [0, 0])
inside = logits(model, *(column[:5] + two + column[5:] for column, two in padded), 7)[7:]
batch = pack([build_example(range(50, 60), [(3, 6)], [0]), example])
with torch.no_grad():
    packed = model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)[-5:]
print("padding behind Part B      ", say(alone, behind))
print("padding inside Part A      ", say(alone, inside))
print("packed behind another text ", say(alone, packed))

# %% [markdown]
# **In GLM-10B-Chinese `[gMASK]` and `eop` have the same id, 50007. Is that a mistake?** (THUDM/GLM#55) No
# row is ambiguous: an input 50007 is the mask, a target the end. But one vector of the embedding, which is
# also the head, serves both. The Hugging Face files, and minglm when it reads these weights, give `[gMASK]`
# the id 50009 and a copy of the vector.
# %% [markdown] zh 7deb89
# **GLM-10B-Chinese 里 `[gMASK]` 和 `eop` 的 id 都是 50007，是弄错了吗？**（THUDM/GLM#55）
# 没有哪一行会因此产生歧义：这个 id 作输入时只可能是掩码，作标签时只可能是结束标记。
# 只是词向量表（它同时也是输出层）里的同一个向量得身兼两职。
# Hugging Face 上的文件给 `[gMASK]` 另分配了 50009，并把那个向量复制过去；minglm 读入这些权重时也这样做。
# %% exact
chinese = SpecialTokens(
    pad=50000, eos=50000, cls=50002, mask=50003, smask=50008, gmask=50007, sop=50006, eop=50007
)
e = build_example([50002, 11, 12, 13, 14, 50000], [(3, 6)], [0], chinese, "document")
print("reads ", *e.tokens, "  learns", *e.targets)

# %% [markdown]
# **Do later models still have two positions?** (mymusise/ChatGLM-Tuning#11, which quotes GLM-130B's
# appendix) ChatGLM-6B does. GLM-130B went back to one: for `[MASK]` the answer keeps the mask's position,
# after `[gMASK]` numbers simply go on. For the two examples of this page:
# %% [markdown] zh d5dc4b
# **后来的模型还有两个位置吗？**（mymusise/ChatGLM-Tuning#11，其中引用了 GLM-130B 的附录）ChatGLM-6B 有。
# GLM-130B 回到了一个：`[MASK]` 的答案始终用掩码的位置，`[gMASK]` 之后则接着往下数。换作本页的两个例子就是：
# %% exact
line("[MASK]", example.position_ids)
line("[gMASK]", range(len(chat.tokens)))

# %% [markdown]
# **Does `[MASK]` work in ChatGLM2-6B?** (zai-org/ChatGLM2-6B#188) The authors say that the chat model was
# fine-tuned with a causal mask and without blanks.
#
# **Why do the masks of ChatGLM-6B and ChatGLM2-6B differ?** (zai-org/ChatGLM2-6B#535, #542, #16) ChatGLM-6B
# has a Part A that looks both ways. For ChatGLM2, an author writes (#16), pretraining still mixes GLM's
# objectives, but chat is trained causally, with a prefix of length 0: a conversation of $n$ turns then
# needs one sample instead of $n$, and at inference the cache of earlier turns can be kept. In minglm both
# are one integer:
# %% [markdown] zh 1c0557
# **`[MASK]` 在 ChatGLM2-6B 里还能用吗？**（zai-org/ChatGLM2-6B#188）作者的回答：对话模型是用因果掩码微调的，
# 没有填空。
#
# **为什么 ChatGLM-6B 和 ChatGLM2-6B 的掩码不一样？**（zai-org/ChatGLM2-6B#535、#542、#16）
# ChatGLM-6B 的 Part A 左右都能看。至于 ChatGLM2，作者在 #16 里说：预训练仍然混合 GLM 的各种目标，
# 但对话阶段按因果语言模型训练，前缀长度为 0：这样 $n$ 轮对话只需一个样本，而不是 $n$ 个；
# 推理时，前几轮的缓存也可以留用。在 minglm 里，两者都只是一个整数：
# %% exact
for name, part_a_len in (("ChatGLM-6B", 5), ("ChatGLM2-6B", 0)):
    print(
        f"{name:12} part_a_len = {part_a_len}: keys of rows 0 to 7",
        [keys_of_row(n, part_a_len) for n in range(8)],
    )

# %% [markdown]
# ## Read on
# - [A museum of mask bugs](museum.md): ten masks that went wrong.
# - [Why blank filling in 2026](why.md).
# %% [markdown] zh afa93a
# ## 接着读
# - [掩码错误博物馆](museum.zh.md)：十个写错的掩码。
# - [2026 年为什么还要填空](why.zh.md)。
