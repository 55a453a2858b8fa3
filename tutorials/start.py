# %% [markdown]
# # In 20 minutes
# *GLM on one page: cut a text, number it, mask it, train, fill.*
#
# GLM (*General Language Model*, ACL 2022, [arXiv 2103.10360](https://arxiv.org/abs/2103.10360)) is trained by
# **autoregressive blank infilling**. This page builds all of it around one sentence: some eighty lines, half
# of them GLM, the other half a small world to learn and prints. It answers the two questions that readers of
# the original code ask most: *where does the mask get its shape?* and *how do I predict anything with it?*
#
# You need Python and a little PyTorch. The [course](README.md) takes each step apart.
# %% [markdown] zh 4791e0
# # 20 分钟讲完 GLM
# *一页纸讲完 GLM：挖空、编号、掩码、训练、填空。*
#
# GLM（*General Language Model*，通用语言模
# 型，ACL 2022，[arXiv 2103.10360](https://arxiv.org/abs/2103.10360)）的训练方法是**自回归空白填
# 充**（autoregressive blank infilling）。本页围绕一句话，用八十来行代码（一半是 GLM 本身，另一半是要学的小世
# 界和打印）把它从头搭一遍，顺便回答读原版代码的人最常问的两个问题：*掩码为什么长成那样？*、
# *训练好了怎么拿来预测？*
#
# 只需要会 Python 和一点 PyTorch。想一步一步细看，请读[教程](README.zh.md)。
# %% exact
words = "the cat lives on the farm and eats mice".split()
spans, order = [(1, 2), (7, 9)], [1, 0]  # blank "cat" and "eats mice"; write the second blank first


def cut(words, spans, order):
    """One training sample: tokens, both positions and the targets of its rows, and the length of Part A."""
    tokens, where, end = [], [], 0
    for start, stop in spans:  # Part A: the text with one [M] per span, however long the span was
        tokens += [*words[end:start], "[M]"]
        where.append(len(tokens) - 1)
        end = stop
    tokens += words[end:]
    A = len(tokens)
    position, inside, targets = list(range(A)), [0] * A, [""] * A
    for k in order:  # Part B: each span, led by [S]; every row learns the next token, the last one [E]
        span = words[slice(*spans[k])]
        tokens += ["[S]", *span]
        targets += [*span, "[E]"]
        position += [where[k]] * (len(span) + 1)  # which blank: the place of its [M]
        inside += range(1, len(span) + 2)  # where inside the span: 1 at [S]
    return tokens, position, inside, targets, A


*columns, A = cut(words, spans, order)
for name, column in zip(("reads", "position", "inside", "learns"), columns, strict=True):
    print(f"{name:9}", *(f"{value:>5}" for value in column))

# %% [markdown]
# Each column is one **row** of the sample (one row of the mask below). Part A is the text that is given, with
# both ends of every blank in view. Part B is what has to be written.
#
# ## Where the mask gets its shape
# Two wishes are enough. *Use both sides of a blank:* so every row may look at all of Part A. *Write one word
# at a time:* so a row of Part B may look at nothing that comes after it. And Part A must not look at Part B:
# it would carry the answer back to the row that has to say it. So row $i$ may look at the first
# $\max(A, i + 1)$ rows:
# %% [markdown] zh a17e27
# 每一列是样本的一**行**（row，也就是下面掩码的一行）。Part A 是给出的文本，每个空的两边都看得
# 到；Part B 是要写出来的内容。
#
# ## 掩码的形状从哪来
# 只要两个愿望。*空的两边都要用上*：所以每一行都可以看整个 Part A。*一次只写一个词*：所以 Part B 的一行不
# 能看它后面的任何东西。另外，Part A 不能看 Part B：否则它会把答案带回给正要说出答案的那一行。于是
# 第 $i$ 行可以看前 $\max(A, i + 1)$ 行：
# %%
import torch

tokens, position, inside, targets = columns
T = len(tokens)
mask = torch.zeros(T, T, dtype=torch.bool)
for i in range(T):
    mask[i, : max(A, i + 1)] = True
for token, row in zip(tokens, mask, strict=True):
    print(f"{token:>6} " + " ".join("█" if seen else "·" for seen in row))

# %% [markdown]
# In the original code this is `build_mask_matrix`, inside `GPT2ParallelTransformer.forward` in
# [`mpu/transformer.py`](https://github.com/THUDM/GLM/blob/main/mpu/transformer.py). It starts from a causal
# (lower triangular) matrix and then opens the first `sep` columns for every row. `sep` is the length of Part
# A, and it is passed under the name `attention_mask`. That one integer is the whole mask. The same two steps,
# and minglm's own version:
# %% [markdown] zh bfb135
# 在原版代码里，这就是
# [`mpu/transformer.py`](https://github.com/THUDM/GLM/blob/main/mpu/transformer.py)
# 的 `GPT2ParallelTransformer.forward` 中的 `build_mask_matrix`。它从一个因果（下三角）矩阵出发，
# 再把前 `sep` 列对所有行打开。`sep` 就是 Part A 的长度，传进来时的名字叫 `attention_mask`。
# 整个掩码就是这一个整数。下面是同样的两步，以及 minglm 自己的写法：
# %% exact
from minglm import GLMMask

sep, causal = A, torch.ones(T, T).tril()
causal[:, :sep] = 1
assert causal.bool().equal(mask)
assert GLMMask.packed([T], [A]).dense().equal(mask)
print(f"three masks, one rule: {int(mask.sum())} of {T * T} cells are open, and sep = {sep}")

# %% [markdown]
# ## Train
# A [small world](../minglm/data/toy.py) of sentences about fifteen animals, each word a token; the sentence
# above is never read. Every sample blanks one or two random stretches: minglm's `build_example` is `cut` for
# numbers. The network is minglm's GLM, [200 lines](../minglm/model.py) that add three embeddings (token,
# position, position inside the blank) and apply attention with the mask above.
# %% [markdown] zh 0137e3
# ## 训练
# 一个由小句子组成的[小世界](../minglm/data/toy.py)，说的是十五种动物，每个词是一个 token；上面那句话从不
# 给模型读。每个样本随机挖一两处空：minglm 的 `build_example` 就是用数字做的 `cut`。网络是 minglm 的 GLM，一
# 共 [200 行](../minglm/model.py)：把三种嵌入（token、位置、空内位置）相加，再用上面的掩码做注意力。
# %%
import re

from minglm import GLM, GLMConfig, Rng, build_example, pack, sample_spans
from minglm.data.toy import sentences

world = [re.findall(r"\w+", sentence.lower()) for sentence in sentences()]
names = {3: "[M]", 6: "[S]", 7: "[E]"}  # the numbers that minglm gives to these three
names |= dict(enumerate(sorted({word for sentence in world for word in sentence}), 8))
ids = {word: number for number, word in names.items()}
read, rng = [[ids[word] for word in sentence] for sentence in world if sentence != words], Rng(0)

same = build_example([ids[word] for word in words], spans, order)
assert [names[token] for token in same.tokens] == tokens and same.block_position_ids.tolist() == inside


def random_sample():
    text = read[rng.integer(len(read))]
    spans = sample_spans(text, "token", rng, has_cls=False, mask_ratio=0.3, mean_length=2)
    return build_example(text, spans, rng.shuffle(list(range(len(spans)))))


torch.manual_seed(0)
torch.set_num_threads(1)  # this model is too small to share
steps = 1500
config = GLMConfig(max(names) + 1, hidden_size=64, num_layers=2, num_heads=4, max_positions=32, dropout=0)
model = GLM(config)
optimizer = torch.optim.AdamW(model.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
for step in range(1, steps + 1):
    loss = model.loss(pack([random_sample() for _ in range(32)]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step == 1 or step % 300 == 0:
        print(f"step {step:4}   loss {loss.item():.2f}")

# %% [markdown]
# ## Fill
# Prediction is the same sample, written row by row: Part A with its blanks, then `[S]`, then the likeliest
# next token again and again, until it is `[E]`. Nothing tells the model how long a blank is.
# %% [markdown] zh c81b31
# ## 填空
# 预测用的还是同样的样本，只是一行一行写出来：先是带空的 Part A，然后是 `[S]`，接着一遍遍取概率最大的下一
# 个 token，直到出现 `[E]`。没有人告诉模型空有多长。
# %%
model.eval()


@torch.no_grad()
def fill(text):
    """The text with its blanks filled, from left to right, greedily and without a cache."""
    filled = text.split()
    tokens, A = [ids[word] for word in filled], len(filled)
    position, inside = list(range(A)), [0] * A
    for place in [i for i, word in enumerate(filled) if word == "[M]"]:
        answer = [ids["[S]"]]
        while answer[-1] != ids["[E]"] and len(answer) < 8:
            tokens, position, inside = [*tokens, answer[-1]], [*position, place], [*inside, len(answer)]
            logits = model(*map(torch.tensor, (tokens, position, inside)), GLMMask.packed([len(tokens)], [A]))
            answer.append(logits[-1].argmax().item())
        filled[place] = " ".join(names[token] for token in answer[1:-1])
    return " ".join(filled)


for text in (
    "the [M] lives on the farm and eats mice",
    "the cat lives [M] and eats mice",
    "the [M] eats honey and lives [M]",
):
    print(f"{text:42} ->  {fill(text)}")
assert fill("the [M] lives on the farm and eats mice") == " ".join(words)

# %% [markdown]
# The first two texts are the sentence that the model never read. It found the animal from what stands
# *behind* the blank, which a left-to-right model cannot do; and it wrote a place of three words without being
# told their number, which BERT cannot do.
#
# **Remember:** Part A is the text with one `[M]` per blank; Part B holds the blanks, written one token at a
# time. Two positions say which blank and where inside it. The mask is one integer, the length of Part A.
#
# ## Go on
# - `minglm fill "She was very [MASK] to see him." --top 5` does this with a trained model, a tokenizer and a
#   cache; `minglm explore --open` shows the mask cell by cell.
# - [00 One blank](00_one_blank.md) begins the course.
# %% [markdown] zh 5242d7
# 前两段文本是同一句话，模型从没读过。模型是根据空*后面*的内容找到那个动物的，从左到右的模型做不
# 到；它还写出了一个三个词的地点，没人告诉它有几个词，这一点 BERT 做不到。
#
# **记住：** Part A 是文本，每个空换成一个 `[M]`；Part B 是各个空的内容，一次写一个 token。两个位置说明是
# 哪个空、在空里的第几个。掩码就是一个整数：Part A 的长度。
#
# ## 接着读
# - `minglm fill "She was very [MASK] to see him." --top 5` 做的是同一件事，只是换成训练好的模型，有分词
#   器，也有缓存；`minglm explore --open` 可以逐格查看掩码。
# - 教程从 [00 一个空](00_one_blank.zh.md)开始。
