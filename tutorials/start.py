# %% [markdown]
# # In 20 minutes
# *GLM on one page: cut a text, number it, mask it, train, fill.*
#
# GLM (*General Language Model*, ACL 2022, [arXiv 2103.10360](https://arxiv.org/abs/2103.10360)) is trained by
# **autoregressive blank infilling**. This page builds all of it around one sentence, in some 45 lines
# besides imports and prints. It answers the two questions that readers of the original code ask most: *where
# does the mask get its shape?* and *how do I predict anything with it?*
#
# You need Python and a little PyTorch. The [course](README.md) takes each step apart.
# %% [markdown] zh 3a3907
# # 20 分钟讲完 GLM
# *一页纸讲完 GLM：挖空、编号、掩码、训练、填空。*
#
# GLM（*General Language Model*，通用语言模
# 型，ACL 2022，[arXiv 2103.10360](https://arxiv.org/abs/2103.10360)）的训练方法是**自回归空白填
# 充**（autoregressive blank infilling）。本页围绕一句话把它从头搭一遍，不算导入和打印约 45 行，顺便回答
# 读原版代码的人最常问的两个问题：*掩码为什么长成那样？*、*训练好了怎么拿来预测？*
#
# 只需要会 Python 和一点 PyTorch。想一步一步细看，请读[教程](README.zh.md)。
# %% exact
words = "The cat lives on the farm and eats mice .".split()


def cut(words, spans, order):
    """The rows of a sample (token, position, position inside, what it learns), and the length of Part A."""
    part_a, blanks, end = [], [], 0
    for start, stop in spans:  # Part A: the text with one [M] per span, however long the span is
        part_a += [*words[end:start], "[M]"]
        blanks.append((len(part_a) - 1, words[start:stop]))
        end = stop
    part_a += words[end:]
    rows = [(token, i, 0, "") for i, token in enumerate(part_a)]
    for place, span in (blanks[k] for k in order):  # Part B: [S] and the span; each row learns the next token
        pairs = zip(["[S]", *span], [*span, "[E]"], strict=True)
        rows += [(token, place, n, target) for n, (token, target) in enumerate(pairs, 1)]
    return rows, len(part_a)


rows, A = cut(words, spans=[(1, 2), (7, 9)], order=[1, 0])  # blanks "cat" and "eats mice"; the second first
for row in [("reads", "position", "inside", "learns"), *rows]:
    print("{:>7}{:>10}{:>8}   {}".format(*row).rstrip())

# %% [markdown]
# Each line is one **row** of the sample, and of the mask below. Part A is the text that is given, with both
# ends of every blank in view. Part B is what has to be written. `position` says which blank: the place of
# its `[M]`. `inside` says where inside it.
#
# ## Where the mask gets its shape
# Two wishes are enough. *Use both sides of a blank:* so every row may look at all of Part A. *Write one word
# at a time:* so a row of Part B may look at nothing that comes after it. And Part A must not look at Part B:
# it would carry the answer back to the row that has to say it. So row $i$ may look at the first
# $\max(A, i + 1)$ rows:
# %% [markdown] zh 0f177d
# 每一行（row）就是样本的一行，也是下面掩码的一行。Part A 是给出的文本，每个空的两边都看得到；Part B 是要写
# 出来的内容。`position` 说明是哪个空，也就是它的 `[M]` 的位置；`inside` 说明是空里的第几个。
#
# ## 掩码的形状从哪来
# 只要两个愿望。*空的两边都要用上*：所以每一行都可以看整个 Part A。*一次只写一个词*：所以 Part B 的一行不
# 能看它后面的任何东西。另外，Part A 不能看 Part B：否则它会把答案带回给正要说出答案的那一行。于是
# 第 $i$ 行可以看前 $\max(A, i + 1)$ 行：
# %% exact
import torch

T = len(rows)
mask = torch.tensor([[j < max(A, i + 1) for j in range(T)] for i in range(T)])
for (token, *_), row in zip(rows, mask, strict=True):
    print(f"{token:>7} " + " ".join("█" if seen else "·" for seen in row))

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
assert causal.bool().equal(mask) and GLMMask.packed([T], [A]).dense().equal(mask)
print(f"three masks, one rule: {int(mask.sum())} of {T * T} cells are open, and sep = {sep}")

# %% [markdown]
# ## Train
# A [small world](../minglm/data/toy.py) of sentences about fifteen animals; the sentence above is not among
# those that the model reads. Every sample blanks one or two random stretches: minglm's `build_example` is
# `cut` for numbers. The network is minglm's GLM, [200 lines](../minglm/model.py) that add three embeddings
# (token, position, position inside the blank) and apply attention with the mask above.
# %% [markdown] zh d17e9a
# ## 训练
# 一个由小句子组成的[小世界](../minglm/data/toy.py)，说的是十五种动物；上面那句话从不给模型读。每个样本随机挖
# 一两处空：minglm 的 `build_example` 就是用数字做的 `cut`。网络是 minglm 的 GLM，一
# 共 [200 行](../minglm/model.py)：把三种嵌入（token、位置、空内位置）相加，再用上面的掩码做注意力。
# %%
from minglm import GLM, GLMConfig, Rng, Tokenizer, build_example, pack, sample_spans
from minglm.data.toy import sentences
from minglm.train.config import resolve
from minglm.train.optimizer import make_optimizer

world = [text for text in sentences() if text != "The cat lives on the farm and eats mice."]
tokenizer, rng = Tokenizer.train(world, vocab_size=500), Rng(0)  # every word becomes a token


def random_sample():
    text = tokenizer.encode(world[rng.integer(len(world))])
    spans = sample_spans(text, "token", rng, has_cls=False, mask_ratio=0.3, mean_length=1.5, blanks="drawn")
    return build_example(text, spans, rng.shuffle(list(range(len(spans)))), tokenizer.special)


torch.manual_seed(0)
torch.set_num_threads(1)  # this model is too small to share
shape = dict(hidden_size=64, num_layers=2, num_heads=4, max_positions=32, dropout=0.0)
model = GLM(GLMConfig(tokenizer.vocab_size, **shape))
optimizer = make_optimizer(model, resolve("page", overrides={"train.lr": 0.005}).train)  # Muon
for step in range(501):
    loss = model.loss(pack([random_sample() for _ in range(32)]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:3}   loss {loss.item():.2f}")

# %% [markdown]
# ## Fill
# Prediction is the same sample, written row by row: Part A with its blanks, then `[S]`, then the likeliest
# next token again and again, until it is `[E]`. Nothing tells the model how long a blank is. (The library's
# names of `[M]`, `[S]` and `[E]` are `mask`, `sop` and `eop`.)
# %% [markdown] zh 1a4d7e
# ## 填空
# 预测用的还是同样的样本，只是一行一行写出来：先是带空的 Part A，然后是 `[S]`，接着一遍遍取概率最大的下一
# 个 token，直到出现 `[E]`。没有人告诉模型空有多长。（库里把 `[M]`、`[S]`、`[E]` 叫作 `mask`、`sop`、`eop`。）
# %%
model.eval()


@torch.no_grad()
def fill(text):
    """The text with its first blank filled, greedily and without a cache."""
    tokens, special = tokenizer.encode(text, special=True), tokenizer.special
    A, place, answer = len(tokens), tokens.index(special.mask), [special.sop]
    while answer[-1] != special.eop and len(answer) < 8:
        n = len(answer)
        columns = tokens + answer, [*range(A), *[place] * n], [0] * A + [*range(1, n + 1)]
        logits = model(*map(torch.tensor, columns), GLMMask.packed([A + n], [A]))
        answer.append(logits[-1].argmax().item())
    return text.replace(" [MASK]", tokenizer.decode(answer[1:-1]), 1)


print(fill("The [MASK] lives on the farm and eats mice."))
print(fill("The cat lives [MASK] and eats mice."))
print(fill(fill("The [MASK] eats honey and lives [MASK].")))
assert fill("The [MASK] lives on the farm and eats mice.") == "The cat lives on the farm and eats mice."

# %% [markdown]
# The first two texts are the sentence that the model never read. It found the animal from what stands
# *behind* the blank, which a left-to-right model cannot do; and it wrote a place of three words without being
# told their number, which BERT cannot do. The third text has two blanks, hence two calls.
#
# **Remember:** Part A is the text with one `[M]` per blank; Part B holds the blanks, written one token at a
# time. Two positions say which blank and where inside it. The mask is one integer, the length of Part A.
#
# ## Go on
# - `minglm fill "She was very [MASK] to see him." --top 5` does this with a trained model, a tokenizer and a
#   cache; `minglm explore --open` shows the mask cell by cell.
# - [00 One blank](00_one_blank.md) begins the course.
# %% [markdown] zh 2dae57
# 前两段文本是同一句话，模型从没读过。模型是根据空*后面*的内容找到那个动物的，从左到右的模型做不
# 到；它还写出了一个三个词的地点，没人告诉它有几个词，这一点 BERT 做不到。第三段有两个空，所以调用两次。
#
# **记住：** Part A 是文本，每个空换成一个 `[M]`；Part B 是各个空的内容，一次写一个 token。两个位置说明是
# 哪个空、在空里的第几个。掩码就是一个整数：Part A 的长度。
#
# ## 接着读
# - `minglm fill "She was very [MASK] to see him." --top 5` 做的是同一件事，只是换成训练好的模型，有分词
#   器，也有缓存；`minglm explore --open` 可以逐格查看掩码。
# - 教程从 [00 一个空](00_one_blank.zh.md)开始。
