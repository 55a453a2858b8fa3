# %% [markdown]
# # 01 Breaking a text
# *How are blanks chosen?*
#
# GLM needs no labels: the text with its blanks is the question, the pieces are the answer.
#
# - **After this chapter you can** write down Part A and Part B of any text, and draw blanks as GLM does.
# - **You need** [chapter 00](00_one_blank.md).
# %% [markdown] zh cc992f
# # 01 给文本挖空
# *空是怎样选出来的？*
#
# GLM 的预训练叫**自回归空白填充**（autoregressive blank infilling），不需要人工标注：从文本里挖掉几处，
# 剩下的就是题目，挖掉的就是答案。
#
# - **学完本章，你能**写出任何文本的 Part A 和 Part B，并照 GLM 的办法采样空。
# - **预备知识**：[第 00 章](00_one_blank.zh.md)。
# %% imports
import math
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np

from minglm import Rng, Span, build_example, explain, restore, sample_spans
from minglm.course.chapters import FAST
from minglm.course.chapters.breaking_a_text import (
    check_mean_blanked,
    check_puzzle,
    check_slots_of,
    fig_draws,
    fig_expanded,
    fig_lengths,
    fig_objectives,
    print_puzzle,
    restore_random_texts,
)
from minglm.spans import poisson_cdf
from minglm.viz import Explorer
from minglm.viz.figures import draw, fig_spans

# %% [markdown]
# ## Six words by hand
# The paper's example: in the text $x_1 \ldots x_6$, blank $x_3$ and $x_5, x_6$. A *span* is half-open and
# counted from 0: `Span(2, 3)` and `Span(4, 6)`. In Part B the second one comes first.
# %% [markdown] zh c2a97c
# ## 动手挖六个词
# 论文的例子：文本是 $x_1 \ldots x_6$ 六个词，要挖掉其中的 $x_3$ 和 $x_5, x_6$ 两段。挖掉的一段叫一个
# *片段*（span），记成左闭右开的区间，从 0 数起：`Span(2, 3)` 和 `Span(4, 6)`。
# 在 Part B 里第二个片段排在前面。
# %% exact
text = ["x1", "x2", "x3", "x4", "x5", "x6"]
spans, order = [Span(2, 3), Span(4, 6)], [1, 0]

part_a, end = [], 0
for span in spans:
    part_a += [*text[end : span.start], "[M]"]
    end = span.end
part_a += text[end:]

part_b, targets = [], []
for k in order:
    piece = text[spans[k].start : spans[k].end]
    part_b += ["[S]", *piece]
    targets += [*piece, "[E]"]

print("Part A ", *part_a)
print("Part B ", *part_b)
print("learns ", *targets)

d = explain(text, spans, order)  # the library's version, with words instead of ids
assert [*d.tokens] == part_a + part_b and [*d.targets[d.part_a_len :]] == targets

# %%
draw("corruption", derivation=d, width=700)

# %%
Explorer(d)  # change the spans and their order in it

# %% [markdown]
# A blank does not tell its length; the model must find it. With $m$ spans $s_1 \ldots s_m$ and $Z_m$, the
# permutations of $m$ things, the training objective is
#
# $$\max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^m
# \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{\lt i}}) \Big] \tag{1}$$
#
# $$p_\theta(s_i \mid x_{\text{corrupt}}, s_{z_{\lt i}}) = \prod_{j=1}^{l_i}
# p(s_{i,j} \mid x_{\text{corrupt}}, s_{z_{\lt i}}, s_{i,\lt j}) \tag{2}$$
#
# Here $x_{\text{corrupt}}$ is Part A, $s_{z_{\lt i}}$ the earlier spans of Part B, and $s_{i,\lt j}$ the
# beginning of this one. Each time a text is read, one order is drawn.
# %% [markdown] zh 4c3902
# 空本身不透露长度，得由模型自己决定。设片段 $s_1 \ldots s_m$ 共有 $m$ 个，用 $Z_m$ 表示它们的全部排列，
# 预训练目标就是：
#
# $$\max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^m
# \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{\lt i}}) \Big] \tag{1}$$
#
# $$p_\theta(s_i \mid x_{\text{corrupt}}, s_{z_{\lt i}}) = \prod_{j=1}^{l_i}
# p(s_{i,j} \mid x_{\text{corrupt}}, s_{z_{\lt i}}, s_{i,\lt j}) \tag{2}$$
#
# 式中 $x_{\text{corrupt}}$ 就是 Part A，而 $s_{z_{\lt i}}$ 是 Part B 中排在前面的片段，
# 至于 $s_{i,\lt j}$ 则是当前片段已经写出的开头。训练时并不真的对所有排列求和：一段文本每出现一次，
# 就随机抽一种顺序。
# %% [markdown]
# ## How long: the token objective
# Lengths follow a Poisson distribution with $\lambda = 3$, without $n = 0$, renormalised:
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$
# %% [markdown] zh a6e0a1
# ## 片段多长：token 预训练目标
# 长度服从 $\lambda = 3$ 的泊松分布，去掉 $n = 0$ ，再重新归一化：
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$
# %% exact
law = [3**n * math.exp(-3) / math.factorial(n) / (1 - math.exp(-3)) for n in range(1, 40)]
print(f"mean = {sum(n * p for n, p in enumerate(law, 1)):.3f}")

cdf = poisson_cdf(3.0, 40)  # the library's; 40: every span is shorter, as in the original code
assert np.allclose(cdf, np.cumsum(law))


# %% [markdown]
# Draw lengths until 15 % of the tokens are blanked; the last may exceed this budget. `Rng(0, n)` *names* a
# stream of random numbers: text n gets the same blanks at any time and on any machine.
# %% [markdown] zh 387e9e
# 一直采样到挖掉的 token 满 15% 为止，这就是预算（budget），最后一个片段允许超出。
# `Rng(0, n)` 给一串随机数起了*名字*：第 n 段文本无论什么时候、在哪台机器上，挖出的空都一样。
# %% exact
def draw_lengths(budget, rng):
    lengths = []
    while sum(lengths) < budget:
        u = rng.uniform()
        lengths.append(1 + next(n for n, p in enumerate(cdf) if u < p))
    return lengths


BUDGET = int(0.15 * 128)  # of texts of 128 tokens
drawn = [draw_lengths(BUDGET, Rng(0, n)) for n in range(2000)]
assert drawn[7] == draw_lengths(BUDGET, Rng(0, 7))  # asked again, out of turn
print("drawn for the first text:", drawn[0], "together", sum(drawn[0]))
fig_lengths(drawn, BUDGET, law)

# %% [markdown]
# A trap: the last length is more likely a long one. Long blanks would gather at the ends of texts, so the
# lengths are shuffled before they are placed. The library's `sample_spans`:
# %% [markdown] zh f2fc7b
# 这里有一个陷阱：最后抽到的长度往往偏长。如果照抽出的先后放进文本，长空就都挤到文本末尾去了。
# 所以要先把长度打乱，再分配位置。库里的 `sample_spans`：
# %%
fig_spans([128] * (500 if FAST else 2000), width=700)


# %% [markdown]
# ## Where: collapse, drop, expand
# Two spans must not touch. So collapse each one, with the gap after it (the last has none), to a point. Of a
# text of 10 with lengths 2 and 3, 10 - 5 - 2 + 1 = 4 tokens are left, with five slots for the points. Draw
# two slots, sort them, expand.
# %% [markdown] zh 8ffe6c
# ## 放在哪里：缩成点，撒下去，再还原
# 两个片段不能挨着，否则就连成一个了。所以先把每个片段连同它后面的间隔缩成一个点
# （最后一个片段后面不用留间隔）。
# 设文本有 10 个 token，片段长 2 和 3，就还剩 10 − 5 − 2 + 1 = 4 个 token，有五个槽位可以放点。
# 抽两个槽位，排好序，再还原。
# %% exact
def place(lengths, slots):
    spans, shift = [], 0
    for slot, length in zip(slots, lengths, strict=True):
        spans.append(Span(slot + shift, slot + shift + length))
        shift += length + 1  # this span, and the gap behind it
    return spans


fig_expanded(place([2, 3], [1, 3]), slots=[1, 3])


# %% exact
def strip(spans, length):
    return "".join("#" if any(a <= i < b for a, b in spans) else "." for i in range(length))


ways = Counter(tuple(place([2, 3], sorted(slots))) for slots in product(range(5), repeat=2))
for layout, n in sorted(ways.items()):
    print(strip(layout, 10), f" reached in {n} of 25 ways")
by_hand = {((a, a + 2), (b, b + 3)) for a in range(10) for b in range(a + 3, 8)}
assert set(ways) == by_hand  # every layout with a gap can come up, and no other


# %% [markdown]
# Every layout can come up, though not equally often, as in the original code. The first token, `[CLS]`, is
# never blanked, so everything moves by one; that is all of `token_spans`:
# %% [markdown] zh e62bff
# 每种布局都可能出现，但机会不完全均等，原版代码也是这样。文本的第一个 token 是 `[CLS]`，永远不挖，
# 所以整体要后移一位；`token_spans` 做的就是这些：
# %% exact
def draw_token_spans(length, rng):
    lengths = rng.shuffle(draw_lengths(int(0.15 * length), rng))
    free = (length - 1) - sum(lengths) - len(lengths) + 1
    slots = sorted(rng.integer(free + 1) for _ in lengths)
    return [Span(a + 1, b + 1) for a, b in place(lengths, slots)]


for length in (64, 128, 512):
    for seed in range(100):
        theirs = sample_spans(range(length), "token", Rng(seed))
        assert draw_token_spans(length, Rng(seed)) == theirs
print(strip(draw_token_spans(64, Rng(0)), 64))

# %% [markdown]
# ## Three objectives
# Short blanks teach words; sentences and whole texts have objectives and masks of their own.
#
# | objective | blanked | mask |
# |---|---|---|
# | `"token"` | many short spans, 15 % of the tokens | `[MASK]` |
# | `"sentence"` | whole sentences, until 15 % are reached | `[sMASK]` |
# | `"document"` | one span of 50 to 100 % of the text, here at its end | `[gMASK]` |
#
# The paper does not say where the document span is; the original code puts half of them at the end and half
# anywhere, and the released multi-task models go down to 25 %. GLM-Base and GLM-Large learned short spans
# alone, GLM-Doc also documents, GLM-Sent also sentences; only the 2B, 10B and Chinese models mix all three,
# one per batch. minglm draws one per sample, in shares of its own choice (chapter 08).
# %% [markdown] zh dba551
# ## 三种预训练目标
# 挖短空，学的是词。要学会写句子、写整篇文章，GLM 还有另外两种预训练目标，各用各的掩码 token，
# 好让模型知道这次要填什么。
#
# | 预训练目标 | 挖掉什么 | 掩码 token |
# |---|---|---|
# | `"token"` | 许多短片段，共占 15% 的 token | `[MASK]` |
# | `"sentence"` | 整句整句地挖，挖满 15% 为止 | `[sMASK]` |
# | `"document"` | 一个片段，占全文的 50% 到 100%，这里放在末尾 | `[gMASK]` |
#
# 论文没有说 document 片段在哪里：原版代码一半放在末尾，一半放在任意位置；发布的多任务模型下限是 25%。
# 也不是每个模型都用全三种：GLM-Base 和 GLM-Large 只学短片段，GLM-Doc 加上 document，
# GLM-Sent 加上 sentence；只有 2B、10B 和中文模型三种都混，而且一个 batch 只用一种。
# minglm 则每个样本各抽一种，比例（见第 08 章）是它自己定的。
# %% exact
STORY = """[CLS] The fog came in at dusk . Nobody on the pier could see the lamp . Anna rang the
bell . A boat answered from far away . She rang again , and waited . [EOS]""".split()
OBJECTIVES = ("token", "sentence", "document")
full_stop = {word: word == "." for word in STORY}


def break_story(objective, rng, words=STORY):
    has_eos = words[-1] == "[EOS]"
    spans = sample_spans(words, objective, rng, has_eos=has_eos, sentence_ends=full_stop)
    return explain(words, spans, rng.shuffle(list(range(len(spans)))), objective)


whole, cut = break_story("document", Rng(0)), break_story("document", Rng(0), STORY[:12])
print("the text ends:      learns", *whole.targets[-5:])
print("its window is cut:  learns", *cut.targets[-5:])
fig_objectives([break_story(objective, Rng(14)) for objective in OBJECTIVES])

# %% [markdown]
# The document span includes `[EOS]`, so the model learns where a text ends. Twelve draws of each, one per
# line; grey lines end sentences.
# %% [markdown] zh 1c3701
# document 片段连 `[EOS]` 一起挖掉：模型由此学会文章在哪里结束。每种预训练目标各抽十二次，一次画一行；
# 灰色竖线是句子的结尾。
# %%
drawn = {objective: [break_story(objective, Rng(5, n)).spans for n in range(12)] for objective in OBJECTIVES}
fig_draws(drawn, STORY)

# %% [markdown]
# ## Back again
# Every row of Part B carries the position of its `[M]`, so the text can be put back together:
# %% [markdown] zh 3b3480
# ## 拼回原文
# Part B 的每一行都带着一个位置，就是它的 `[M]` 在 Part A 中的位置，所以文本能拼回来：
# %% exact
d = explain(text, spans, order)
A, pieces = d.part_a_len, {}
for position, target in zip(d.position_ids[A:].tolist(), d.targets[A:], strict=True):
    pieces.setdefault(position, []).append(target)
print("pieces by the position of their mask:", pieces)

again = []
for i, token in enumerate(d.tokens[:A]):
    again += pieces[i][:-1] if i in pieces else [token]  # [:-1]: without [E]
print("again:", *again)
assert again == text

# %% [markdown]
# The library's `restore` does this with ids, for any text, objective and order:
# %% [markdown] zh 90933d
# 库里的 `restore` 用 id 做同样的事，对任何文本、任何预训练目标、任何顺序都成立：
# %%
restore_random_texts()

# %% [markdown]
# Positions alone decide: exchange them, and the pieces end up in each other's blanks.
# %% [markdown] zh ff443c
# 起作用的只有位置：把两个片段的位置对调，它们就会填进对方的空里。
# %% exact
example = build_example(range(100, 110), [(2, 3), (5, 8)], [1, 0])
positions, A = example.position_ids.copy(), example.part_a_len
positions[A:] = np.where(positions[A:] == 2, 5, 2)  # the masks stand at 2 and 5
print("as it was:", *restore(example))
print("exchanged:", *restore(replace(example, position_ids=positions)))


# %% [markdown]
# **Remember:** a blank of any length is one `[M]` in Part A; its words are in Part B, after `[S]`, in random
# order of the spans. Lengths are drawn from Poisson(3) until 15 % are blanked, shuffled, and placed without
# touching. Positions alone put the text back together.
#
# ## Exercises
# **1. ★★ From spans back to slots.** Write `slots_of(spans)`: the sorted slots that `place` turns into these
# spans.
# %% [markdown] zh 708140
# **记住**：无论多长的空，在 Part A 里都只是一个 `[M]`；它的词在 Part B 里，跟在 `[S]` 后面，顺序随机。
# 长度按 Poisson(3) 采样到 15% 为止，打乱，再互不相邻地放下去。只凭位置，就能把原文拼回来。
#
# ## 练习
# **1. ★★ 从片段反推槽位。** 写出 `slots_of(spans)`：返回排好序的槽位，经 `place` 正好得到这些片段。
# %%
def slots_of(spans): ...  # your answer


# check_slots_of(slots_of)  # uncomment


# %% [markdown]
# **2. ★★★ The price of a budget.** A text of 20 tokens has a budget of `int(0.15 * 20) = 3` tokens. How many
# are blanked on average? One decimal is enough. (Draw a few thousand texts; a recursion is nicer.)
# %% [markdown] zh 5af14e
# **2. ★★★ 预算的代价。** 20 个 token 的文本，预算是 `int(0.15 * 20) = 3` 个 token。平均会挖掉多少个？
# 答案精确到小数点后一位。（可以抽几千段文本来估计；对预算写一个递推式更漂亮。）
# %%
# check_mean_blanked(...)

# %% [markdown]
# **3. ★★ A broken proverb.** The rows of a sample, with their positions. Which spans were blanked, and in
# which order are they in Part B? Answer `(spans, order)`: pairs in text order, and a permutation from 0.
# %% [markdown] zh 46f881
# **3. ★★ 残缺的谚语。** 下面是一个样本的各行及其位置。挖掉的是哪些片段？它们在 Part B 里是什么顺序？
# 答案写成 `(spans, order)`：按原文顺序排列的左闭右开区间，和一个从 0 数起的排列。
# %% exact
print_puzzle()

# check_puzzle(...)

# %% [markdown]
# ## Read on
# - [`minglm/spans.py`](../minglm/spans.py): the three objectives;
#   [`infilling.py`](../minglm/infilling.py): `build_example` and `restore`.
# - Next: [what the model does with the positions](02_two_positions.md).
# %% [markdown] zh 2f9c42
# ## 接着读
# - [`minglm/spans.py`](../minglm/spans.py)：三种预训练目标；[`infilling.py`](../minglm/infilling.py)：
#   `build_example` 和 `restore`。
# - 下一章：[模型怎样利用位置](02_two_positions.zh.md)。
