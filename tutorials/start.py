# %% [markdown]
# # In 20 minutes
# *GLM on one page: cut a text, number it, mask it, train, fill.*
#
# GLM (*General Language Model*, ACL 2022, [arXiv 2103.10360](https://arxiv.org/abs/2103.10360)) is trained by
# **autoregressive blank infilling**. This page builds all of it around one sentence, in about a hundred
# lines. It answers the two questions that readers of the original code ask most: *where does the mask get its
# shape?* and *how do I predict anything with it?*
#
# You need Python and a little PyTorch. The [course](README.md) takes each step apart.
# %% [markdown] zh d420b4
# # 20 分钟讲完 GLM
# *一页纸讲完 GLM：挖空、编号、掩码、训练、填空。*
#
# GLM（*General Language Model*，通用语言模
# 型，ACL 2022，[arXiv 2103.10360](https://arxiv.org/abs/2103.10360)）的训练方法是**自回归空白填
# 充**（autoregressive blank infilling）。本页围绕一句话，用大约一百行代码把它从头搭一遍，顺便回答读原版代
# 码的人最常问的两个问题：*掩码为什么长成那样？*、*训练好了怎么拿来预测？*
#
# 只需要会 Python 和一点 PyTorch。想一步一步细看，请读[教程](README.zh.md)。
# %% exact
words = "the cat lives on the farm and eats mice".split()
spans, order = [(1, 2), (7, 9)], [1, 0]  # blank "cat" and "eats mice"; write the second blank first


def cut(words, spans, order):
    """One training sample: tokens, both positions and the target of each row, and the length of Part A."""
    tokens, where, end = [], [], 0
    for start, stop in spans:  # Part A: the text with one [M] per span, however long the span was
        tokens += [*words[end:start], "[M]"]
        where.append(len(tokens) - 1)
        end = stop
    tokens += words[end:]
    A = len(tokens)
    position, inside, targets = list(range(A)), [0] * A, [None] * A
    for k in order:  # Part B: each span, led by [S]; every row learns the next token, the last one [E]
        span = words[slice(*spans[k])]
        tokens += ["[S]", *span]
        targets += [*span, "[E]"]
        position += [where[k]] * (len(span) + 1)  # which blank: the place of its [M]
        inside += range(1, len(span) + 2)  # where inside the span: 1 at [S]
    return tokens, position, inside, targets, A


tokens, position, inside, targets, A = cut(words, spans, order)
T = len(tokens)
for name, values in (("reads", tokens), ("position", position), ("inside", inside), ("learns", targets)):
    print(f"{name:9}", *(f"{'' if value is None else value:>5}" for value in values))

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

mask = torch.zeros(T, T, dtype=torch.bool)
for i in range(T):
    mask[i, : max(A, i + 1)] = True
print("       " + " ".join(f"{token:>5}" for token in tokens))
for token, row in zip(tokens, mask, strict=True):
    print(f"{token:>6} " + " ".join("    █" if seen else "    ·" for seen in row))

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
# A small world of sentences, with each word a token. Every sample blanks one or two random stretches. The
# network is minglm's GLM, [200 lines](../minglm/model.py) that add three embeddings (token, position,
# position inside the blank) and apply attention with the mask above.
# %% [markdown] zh 4a3ec4
# ## 训练
# 一个由小句子组成的世界，每个词是一个 token。每个样本随机挖一两处空。网络是 minglm 的 GLM，一
# 共 [200 行](../minglm/model.py)：把三种嵌入（token、位置、空内位置）相加，再用上面的掩码做注意力。
# %%
import random

from minglm import GLM, Batch, GLMConfig

HOMES = {"on the farm": "cow hen cat", "in the forest": "bear deer owl", "by the river": "otter frog goose"}
FOOD = dict(cow="grass", hen="corn", cat="mice", bear="honey", deer="leaves", owl="moths")
FOOD |= dict(otter="fish", frog="flies", goose="weeds")
FORMS = (
    "{3} {0} lives {1} and eats {2}",
    "{3} {0} eats {2} and lives {1}",
    "{3} {0} that lives {1} eats {2}",
    "{3} {0} finds {2} {1}",
    "{1} {3} {0} looks for {2}",
)
world = [
    form.format(animal, home, FOOD[animal], first).split()
    for home, animals in HOMES.items()
    for animal in animals.split()
    for form in FORMS
    for first in ("the", "our", "every")
    if (form, first) != (FORMS[0], "the")  # nine sentences, that from above among them, are never read
]
vocabulary = ["[M]", "[S]", "[E]", *sorted({word for sentence in world for word in sentence})]
ids = {word: i for i, word in enumerate(vocabulary)}


def batch_of(samples):
    """Samples as one Batch: end to end, without padding."""
    tokens, position, inside, targets, lengths = zip(*samples, strict=True)
    flat = [target for some in targets for target in some]
    return Batch(
        tokens=torch.tensor([ids[token] for some in tokens for token in some]),
        position_ids=torch.tensor([p for some in position for p in some]),
        block_position_ids=torch.tensor([p for some in inside for p in some]),
        mask=GLMMask.packed([len(some) for some in tokens], lengths),
        target_rows=torch.tensor([row for row, target in enumerate(flat) if target]),
        targets=torch.tensor([ids[target] for target in flat if target]),
    )


def random_sample(rng):
    """A sentence with one or two blanks of one to three words."""
    sentence = rng.choice(world)
    first, second = sorted(rng.sample(range(len(sentence)), 2))
    spans = [(first, min(second, first + rng.randint(1, 3)))]
    if rng.random() < 0.5:
        spans.append((second, min(len(sentence), second + rng.randint(1, 3))))
    return cut(sentence, spans, rng.sample(range(len(spans)), len(spans)))


torch.manual_seed(0)
torch.set_num_threads(1)  # this model is too small to share
rng, steps = random.Random(0), 2500
model = GLM(
    GLMConfig(len(vocabulary), hidden_size=64, num_layers=2, num_heads=4, max_positions=16, dropout=0)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(steps):
    loss = model.loss(batch_of([random_sample(rng) for _ in range(32)]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 30, 2 * (1 - step / steps))
    if step % 500 == 0 or step + 1 == steps:
        print(f"step {step + 1:4}   loss {loss.item():.2f}")

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
    tokens = text.replace("[MASK]", "[M]").split()
    blanks, A = [i for i, token in enumerate(tokens) if token == "[M]"], len(tokens)
    position, inside, answers = list(range(A)), [0] * A, {}
    for place in blanks:
        token, answers[place] = "[S]", []
        while token != "[E]" and len(answers[place]) < 6:
            tokens, position = [*tokens, token], [*position, place]
            inside.append(len(answers[place]) + 1)
            columns = (torch.tensor(c) for c in ([ids[t] for t in tokens], position, inside))
            logits = model(*columns, GLMMask.packed([len(tokens)], [A]))
            token = vocabulary[logits[-1].argmax()]
            answers[place] += [token] if token != "[E]" else []
    return " ".join(" ".join(answers.get(i, [token])) for i, token in enumerate(tokens[:A]))


for text in (
    "the [MASK] lives on the farm and eats mice",
    "the cat lives on the farm and eats [MASK]",
    "the [MASK] eats honey and lives [MASK]",
):
    print(f"{text:45} ->  {fill(text)}")
assert fill("the [MASK] lives on the farm and eats mice") == " ".join(words)

# %% [markdown]
# The first two texts are one of the nine sentences that the model never read. The model found the animal from
# what stands *behind* the blank, which a left-to-right model cannot do; and it wrote a place of three words
# without being told their number, which BERT cannot do.
#
# **Remember:** Part A is the text with one `[M]` per blank; Part B holds the blanks, written one token at a
# time. Two positions say which blank and where inside it. The mask is one integer, the length of Part A.
#
# ## Go on
# - `minglm fill "She was very [MASK] to see him." --top 5` does this with a trained model, a tokenizer and a
#   cache; `minglm explore --open` shows the mask cell by cell.
# - [00 One blank](00_one_blank.md) begins the course.
# %% [markdown] zh 9e3ea3
# 前两段文本是同一句话，模型从没读过的九句之一。模型是根据空*后面*的内容找到那个动物的，从左到右的模型做不
# 到；它还写出了一个三个词的地点，没人告诉它有几个词，这一点 BERT 做不到。
#
# **记住：** Part A 是文本，每个空换成一个 `[M]`；Part B 是各个空的内容，一次写一个 token。两个位置说明是
# 哪个空、在空里的第几个。掩码就是一个整数：Part A 的长度。
#
# ## 接着读
# - `minglm fill "She was very [MASK] to see him." --top 5` 做的是同一件事，只是换成训练好的模型，有分词
#   器，也有缓存；`minglm explore --open` 可以逐格查看掩码。
# - 教程从 [00 一个空](00_one_blank.zh.md)开始。
