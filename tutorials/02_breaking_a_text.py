# %% [markdown]
# # 02 Breaking a text
# *How are blanks chosen?*
#
# GLM needs no labels. It breaks a text, and the broken text is the question, the pieces are the
# answer. This chapter breaks texts: first one of six words by hand, then at random as pretraining
# does, with three objectives; and at the end every text is put together again.
# %% [markdown] zh
# # 02 打碎文本
# *空白是怎样选出来的？*
#
# GLM 不需要人工标注：把一段文本打碎，残缺的文本就是题目，挖出来的碎片就是答案。
# 本章先手工打碎一个只有六个词的句子，再像预训练那样随机地打碎文本（共有三种目标），
# 最后把每一段文本原样拼回去。

# %%
import math
import os
import textwrap
from collections import Counter
from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
import numpy as np

from minglm import Rng, Span, build_example, explain, restore, sample_spans
from minglm.spans import poisson_cdf
from minglm.viz.figures import draw, fig_spans
from minglm.viz.palette import SPAN_COLOURS, THEMES

FAST = os.environ.get("MINGLM_FAST") == "1"
FAINT, SOFT = THEMES["light"]["faint"], THEMES["light"]["soft"]

# %% [markdown]
# ## Six words by hand
# The paper's example: the text is $x_1 \ldots x_6$, and $x_3$ and $x_5, x_6$ are to be blanked. The
# paper counts from 1, everything here counts from 0. A *span* is half-open, so $x_3$ is
# `Span(2, 3)` and $x_5, x_6$ is `Span(4, 6)`.
#
# *Part A* is the text with one `[M]` in place of each span. *Part B* holds the spans, in an order
# that is drawn: here the second one first. Each is led in by `[S]`, and each row of Part B learns
# the token that comes next; the last row of a span learns its end, `[E]`.
# %% [markdown] zh
# ## 手工打碎六个词
# 论文中的例子：文本是 $x_1 \ldots x_6$，要挖掉的是 $x_3$ 和 $x_5, x_6$。论文从 1 开始计数，本教程一律从 0
# 开始。片段（span）是左闭右开区间，所以 $x_3$ 写作 `Span(2, 3)`，$x_5, x_6$ 写作 `Span(4, 6)`。
#
# *Part A* 是挖空之后的文本，每个片段只留下一个 `[M]`。*Part B* 依次放着被挖掉的片段，次序是随机抽出来的，
# 这里第二个片段排在前面。每个片段以 `[S]` 开头；Part B 的每一行都学习预测下一个 token，
# 片段的最后一行学习预测结束标记 `[E]`。

# %% exact
text = ["x1", "x2", "x3", "x4", "x5", "x6"]
spans, order = [Span(2, 3), Span(4, 6)], [1, 0]

part_a, end = [], 0
for span in spans:
    part_a += [*text[end:span.start], "[M]"]
    end = span.end
part_a += text[end:]

part_b, targets = [], []
for k in order:
    piece = text[spans[k].start:spans[k].end]
    part_b += ["[S]", *piece]
    targets += [*piece, "[E]"]

print("Part A ", *part_a)
print("Part B ", *part_b)
print("learns ", *targets)

d = explain(text, spans, order)  # the library's version, with words instead of ids
assert [*d.tokens] == part_a + part_b and [*d.targets[d.part_a_len:]] == targets

# %%
draw("corruption", derivation=d, width=700)

# %% [markdown]
# However long a span is, Part A shows a single `[M]`: the model has to find the length as well, by
# saying `[E]` at the right moment. And whoever comes later in Part B may look at what came before.
# With $m$ spans $s_1 \ldots s_m$ and $Z_m$, all orders of $m$ things, this is what is learned:
#
# $$\max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^m
# \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{\lt i}}) \Big] \tag{1}$$
#
# $$p_\theta(s_i \mid x_{\text{corrupt}}, s_{z_{\lt i}}) = \prod_{j=1}^{l_i}
# p(s_{i,j} \mid x_{\text{corrupt}}, s_{z_{\lt i}}, s_{i,\lt j}) \tag{2}$$
#
# Nobody sums over all orders: every time a text comes by, one order is drawn.
# %% [markdown] zh
# 不论片段多长，Part A 里都只有一个 `[M]`：长度也要由模型自己猜，办法是在恰当的时候说出 `[E]`。Part B
# 里靠后的片段可以看到靠前的片段。设有 $m$ 个片段 $s_1 \ldots s_m$，$Z_m$ 是 $m$ 个元素的所有排列，
# 训练目标就是：
#
# $$\max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^m
# \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{\lt i}}) \Big] \tag{1}$$
#
# $$p_\theta(s_i \mid x_{\text{corrupt}}, s_{z_{\lt i}}) = \prod_{j=1}^{l_i}
# p(s_{i,j} \mid x_{\text{corrupt}}, s_{z_{\lt i}}, s_{i,\lt j}) \tag{2}$$
#
# 训练时并不真的对所有排列求和：每次读到一段文本，只抽取其中一种次序。

# %% [markdown]
# ## How long: the token objective
# Lengths are drawn from a Poisson distribution with $\lambda = 3$. A span of no token would be
# none, so 0 is left out, and the other probabilities are divided by what remains:
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$
# %% [markdown] zh
# ## 片段有多长：token 目标
# 长度服从 $\lambda = 3$ 的泊松分布。长度为 0 就不成其为片段，所以去掉 0，其余的概率再归一化：
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$

# %% exact
law = [3**n * math.exp(-3) / math.factorial(n) / (1 - math.exp(-3)) for n in range(1, 40)]
for n in range(1, 8):
    print(f"p({n}) = {law[n - 1]:.3f}  " + "#" * round(100 * law[n - 1]))
print(f"mean = {sum(n * p for n, p in enumerate(law, 1)):.3f}")

cdf = poisson_cdf(3.0, 40)  # the library's; 40: every span is shorter, as in the original code
assert np.allclose(cdf, np.cumsum(law))

# %% [markdown]
# To draw from it, take a uniform number and see into which step of the running sum it falls. How
# many lengths? Until 15 % of the tokens are blanked. The last one may go past that.
# %% [markdown] zh
# 抽样的办法：取一个均匀分布的随机数，看它落在累积和的哪一级台阶上。要抽多少个？直到挖掉的 token 达到 15 %
# 为止，最后一个片段允许超出。

# %% exact
def draw_lengths(budget, rng, cdf=cdf):
    lengths = []
    while sum(lengths) < budget:
        u = rng.uniform()
        lengths.append(1 + next(n for n, p in enumerate(cdf) if u < p))
    return lengths


budget = int(0.15 * 64)
for seed in range(4):
    lengths = draw_lengths(budget, Rng(seed))
    print(f"64 tokens, budget {budget}: lengths {lengths}, together {sum(lengths)}")

# %% [markdown]
# Are these lengths really Poisson? Draw many, count them, and compare with the law. $\chi^2$ is
# the sum of (counted - expected)² / expected over ten classes; if the law is true it exceeds 16.9
# in one of twenty trials. A check is worth something if it can fail, so it is also given lengths
# that come from a slightly wrong law.
# %% [markdown] zh
# 这些长度当真服从泊松分布吗？多抽一些，数一数，再跟理论值比。$\chi^2$ 是十个类别上（实际数 − 期望数）² /
# 期望数之和；如果分布正确，平均二十次试验里才有一次超过 16.9。能查出错误的检验才有价值，
# 所以也让它检验一组 $\lambda$ 稍有偏差的长度。

# %% exact
def chi_square(lengths):
    counted = np.bincount(np.minimum(lengths, 10), minlength=11)[1:]  # the last class: 10 and more
    expected = len(lengths) * np.array([*law[:9], sum(law[9:])])
    return float(((counted - expected) ** 2 / expected).sum())


TEXTS = 2000
drawn = [draw_lengths(19, Rng(0, n)) for n in range(TEXTS)]  # 19: 15 % of 128 tokens
wrong = [draw_lengths(19, Rng(0, n), poisson_cdf(3.3, 40)) for n in range(TEXTS)]
for name, lists in (("Poisson(3)", drawn), ("Poisson(3.3)", wrong)):
    pooled = [n for lengths in lists for n in lengths]
    print(f"{name:12} {len(pooled)} spans, mean {np.mean(pooled):.2f}, "
          f"chi-square {chi_square(pooled):.1f}")
assert chi_square([n for lengths in drawn for n in lengths]) < 16.9
first, last = (np.mean([lengths[i] for lengths in drawn]) for i in (0, -1))
print(f"first length of a text {first:.2f} in the mean, last length {last:.2f}")

# %% [markdown]
# The last line shows a trap. Drawing stops with the span that passes the budget, and a long span
# is more likely to be the one. If lengths were put into the text as they are drawn, the ends of
# texts would have the long blanks. So the lengths are shuffled before they get their places.
#
# The next picture is the library's own: `sample_spans` on texts of 128 tokens. On the right: a text
# loses a little more than 15 %, because the last span goes past the budget.
# %% [markdown] zh
# 最后一行揭示了一个陷阱。抽样停在越过额度的那个片段上，而片段越长越容易越过额度。
# 如果按抽出的先后直接放进文本，长空白就会集中在文本末尾。所以先把长度打乱，再分配位置。
#
# 下图由库本身画出，数据来自对 128 个 token 的文本调用 `sample_spans`。右边可见：
# 因为最后一个片段会越过额度，实际挖掉的比例略高于 15 %。

# %%
fig_spans([128] * (500 if FAST else 2000), width=700)

# %% [markdown]
# ## Where: shrink, throw, blow up
# Two spans must not touch, or they would be one. Take lengths 2 and 3 in a text of 10. Shrink each
# span and the gap behind it to a point. The last span needs no gap, so 10 - 5 - 2 + 1 = 4 tokens
# are left, and a point can stand in five slots, 0 to 4. Draw two slots, sort them, blow up.
# %% [markdown] zh
# ## 放在哪里：收缩、抛点、还原
# 两个片段不能相邻，否则就成了一个。以 10 个 token 的文本和长度 2、3 为例：
# 把每个片段连同它后面的间隔收缩成一个点。最后一个片段后面不需要间隔，于是还剩 10 − 5 − 2 + 1 = 4 个
# token，一个点可以放进 0 到 4 这五个位置。抽两个位置，排好序，再还原。

# %% exact
def place(lengths, slots):
    spans, shift = [], 0
    for slot, length in zip(slots, lengths, strict=True):
        spans.append(Span(slot + shift, slot + shift + length))
        shift += length + 1  # this span, and the gap behind it
    return spans


def strip(spans, length):
    return "".join("#" if any(a <= i < b for a, b in spans) else "." for i in range(length))


for slots in [(0, 0), (1, 3), (4, 4)]:
    print(f"slots {slots}:  {strip(place([2, 3], slots), 10)}  {place([2, 3], slots)}")

ways = Counter(tuple(place([2, 3], sorted(slots))) for slots in product(range(5), repeat=2))
by_hand = {((a, a + 2), (b, b + 3)) for a in range(10) for b in range(a + 3, 8)}
assert set(ways) == by_hand  # every layout with a gap can come up, and no other
print(f"{len(ways)} layouts; reached in this many of 25 ways: {sorted(ways.values())}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for row, (layout, n) in enumerate(sorted(ways.items())):
    ax.broken_barh([(i + 0.06, 0.88) for i in range(10)], (row, 0.78), facecolors="#DDDDDD")
    for colour, (a, b) in zip(SPAN_COLOURS, layout, strict=False):
        ax.broken_barh([(a + 0.06, b - a - 0.12)], (row, 0.78), facecolors=colour)
    ax.text(10.3, row + 0.4, f"{n} of 25", va="center", fontsize=8, color=SOFT)
ax.set(xlim=(0, 11.4), ylim=(15, 0), xticks=np.arange(10) + 0.5, yticks=[])
ax.set_xticklabels(range(10))
ax.set_title("a span of 2 and a span of 3 in ten tokens: all layouts", loc="left", fontsize=10)
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
fig.alt_text = ("The 15 ways to lay a span of 2 before a span of 3 into ten tokens, a strip each, "
                "with a gap between them; most are reached in 2 of 25 ways, those whose slots are "
                "equal in 1.")

# %% [markdown]
# Every layout can come up, but not all alike: two different slots can be drawn in two orders, two
# equal ones in one. The original code draws in the same way.
#
# Lengths, shuffle, slots: that is the whole of `token_spans`. One thing is still missing: the first
# token of a text, `[CLS]`, is never blanked, so everything moves by one.
# %% [markdown] zh
# 每种布局都可能出现，但机会不完全均等：两个不同的位置有两种抽法，两个相同的位置只有一种。
# 原版代码也是这样抽的。
#
# 抽长度、打乱、抽位置，这就是 `token_spans` 的全部。只差一点：文本的第一个 token 是 `[CLS]`，永远不挖，
# 所以整体后移一位。

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
# Short blanks teach words. To teach sentences and whole texts, GLM breaks some texts differently,
# and gives the blank another mask, so that the model knows what is wanted. Which of the three a
# text gets is drawn as well.
#
# | objective | blanked | mask |
# |---|---|---|
# | `"token"` | many short spans, 15 % of the tokens | `[MASK]`, here `[M]` |
# | `"sentence"` | whole sentences, until 15 % are reached | `[sMASK]`, here `[sM]` |
# | `"document"` | one span at the end, 50 to 100 % of the text | `[gMASK]`, here `[gM]` |
# %% [markdown] zh
# ## 三种目标
# 短空白教模型认识词语。要学会写句子、写整篇文章，GLM 就换别的方式打碎文本，并换用别的掩码 token，
# 让模型知道要填的是什么。一段文本用三种中的哪一种，也是抽出来的。
#
# | 目标 | 挖掉什么 | 掩码 |
# |---|---|---|
# | `"token"` | 许多短片段，共占 15 % 的 token | `[MASK]`，这里写作 `[M]` |
# | `"sentence"` | 完整的句子，直到满 15 % | `[sMASK]`，这里写作 `[sM]` |
# | `"document"` | 末尾的一个片段，占全文的 50 % 到 100 % | `[gMASK]`，这里写作 `[gM]` |

# %% exact
STORY = """[CLS] The fog came in at dusk . Nobody on the pier could see the lamp . Anna rang the
bell . A boat answered from far away . She rang again , and waited . [EOS]""".split()
OBJECTIVES = ("token", "sentence", "document")
SEED = 14
full_stop = {word: word == "." for word in STORY}


def break_story(objective, rng, words=STORY):
    has_eos = words[-1] == "[EOS]"
    spans = sample_spans(words, objective, rng, has_eos=has_eos, sentence_ends=full_stop)
    return explain(words, spans, rng.shuffle(list(range(len(spans)))), objective)


for objective in OBJECTIVES:
    d = break_story(objective, Rng(SEED))
    A = d.part_a_len
    for name, words in (("Part A", d.tokens[:A]), ("learns", d.targets[A:])):
        indent = dict(initial_indent=f"{objective:8}  {name}  ", subsequent_indent=" " * 18)
        print(textwrap.fill(" ".join(words), 90, **indent))

# %% [markdown]
# The document span takes the end of the text with it, `[EOS]` included: so the model learns where a
# text is over. Long texts are cut into windows, and a window may stop in the middle. Then nothing
# is known to follow, and nothing is learned after the last word:
# %% [markdown] zh
# document 片段连同文本的结尾一起挖掉，包括 `[EOS]`：模型由此学会文章在哪里结束。长文本会切成若干窗口，
# 窗口可能断在半途。这时后面是什么并不知道，于是最后一个词之后什么也不学：

# %% exact
whole, cut = break_story("document", Rng(0)), break_story("document", Rng(0), STORY[:12])
print("ends here: ", *whole.targets[-5:])
print("is cut:    ", *cut.targets[-5:])

# %% [markdown]
# Twelve draws of each objective from the same text, a line each. Colours only tell neighbours
# apart; grey lines are the ends of sentences.
# %% [markdown] zh
# 同一段文本，每种目标各抽十二次，一行一次。颜色只用来区分相邻的片段，灰色竖线是句子的结尾。

# %%
fig, axes = plt.subplots(3, 1, figsize=(7, 5), sharex=True, layout="constrained")
for ax, objective in zip(axes, OBJECTIVES, strict=True):
    shares = []
    for n in range(12):
        ax.broken_barh([(0, len(STORY))], (n, 0.8), facecolors=FAINT)
        d = break_story(objective, Rng(5, n))
        shares.append(sum(b - a for a, b in d.spans) / len(STORY))
        for k, (a, b) in enumerate(d.spans):
            ax.broken_barh([(a + 0.1, b - a - 0.2)], (n, 0.8), facecolors=SPAN_COLOURS[k % 6])
    for i, word in enumerate(STORY):
        if full_stop[word]:
            ax.axvline(i + 1, color=SOFT, linewidth=0.8)
    ax.set_title(f"{objective}: {np.mean(shares):.0%} blanked", loc="left", fontsize=10)
    ax.set(yticks=[], ylim=(12, -0.3), xlim=(0, len(STORY)))
    ax.spines[:].set_visible(False)
axes[-1].set_xlabel("token of the text")
fig.alt_text = ("The same text broken twelve times by each objective. Token: short spans. "
                "Sentence: one whole sentence. Document: one span that begins at the middle or "
                "before it and runs to the end.")

# %% [markdown]
# ## Chance with a name
# Nothing above used a global random state. `Rng(seed, window, epoch)` *names* a stream of numbers.
# So the blanks of window 7 in epoch 3 are the same whenever they are asked for, on any machine and
# in any process, and a run that was stopped goes on without having saved them.
# %% [markdown] zh
# ## 有名字的随机数
# 以上都没有用到全局随机状态。`Rng(seed, window, epoch)` 是一串随机数的*名字*。第 3 轮第 7 个窗口的空白，
# 无论何时、在哪台机器、哪个进程里问，都是同一个结果；中断的训练接着跑，也不需要保存随机状态。

# %% exact
def blanks(window, epoch):
    return [tuple(span) for span in sample_spans(range(32), "token", Rng(42, window, epoch))]


now = blanks(7, 3)
others = [blanks(window, 3) for window in range(100)]  # asked in between
print("window 7, epoch 3:", now)
print("the same, later:  ", blanks(7, 3))
print("window 7, epoch 4:", blanks(7, 4))
assert now == blanks(7, 3) == others[7]

# %% [markdown]
# ## Back again
# If the pieces know where they belong, the text can be put together. They do: every row of Part B
# carries the position of its mask in Part A. By hand, for the six words:
# %% [markdown] zh
# ## 拼回原文
# 只要碎片知道自己属于哪里，文本就能复原。它们确实知道：Part B 的每一行都带着自己那个掩码在 Part A
# 中的位置。先用六个词手工拼一次：

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
# The library's `restore` does it with ids, and holds for any text, any objective and any order:
# %% [markdown] zh
# 库里的 `restore` 对 id 做同样的事，而且对任何文本、任何目标、任何次序都成立：

# %% exact
tried = Counter()
for objective in OBJECTIVES:
    for n in range(300):
        rng = Rng(1, n)
        ids = [1] + [100 + rng.integer(50) for _ in range(5 + rng.integer(200))]  # 1 is cls
        ends = [i % 10 == 0 for i in range(150)]  # every tenth word ends a sentence
        found = sample_spans(ids, objective, rng, sentence_ends=ends)
        example = build_example(ids, found, rng.shuffle(list(range(len(found)))),
                                objective=objective)
        assert restore(example).tolist() == ids
        is_cut = objective == "document"  # these texts have no eos
        assert len(example.tokens) == len(ids) + 2 * len(found) - is_cut  # a mask and a sop each
        tried[objective] += len(found)
print("spans cut out and put back:", dict(tried))

example = build_example(range(100, 110), [(2, 3), (5, 8)], [1, 0])
positions = example.position_ids.copy()
positions[example.part_a_len:] = 2 + 5 - positions[example.part_a_len:]  # masks stand at 2 and 5
print("with the two masks exchanged:", *restore(replace(example, position_ids=positions)))

# %% [markdown]
# The last line is the check failing on purpose: the pieces went to the wrong blanks. How the model
# itself uses these positions is the next chapter.
#
# ## Exercises
# **1. The way back from spans to slots.** Write `slots_of(spans)`: the sorted slots that `place`
# turns into these spans.
# %% [markdown] zh
# 最后一行是故意让检验失败：两个碎片放进了对方的空白。模型自己怎样利用这些位置，是下一章的内容。
#
# ## 练习
# **1. 从片段回到位置。** 写一个函数 `slots_of(spans)`，返回经 `place` 能得到这些片段的位置（已排序）。

# %%
def check_slots_of(slots_of):
    for layout in sorted(ways):
        spans = [Span(*span) for span in layout]
        lengths, slots = [b - a for a, b in spans], list(slots_of(spans))
        assert slots == sorted(slots), f"{spans}: slots {slots} are not sorted"
        assert all(0 <= slot <= 4 for slot in slots), f"{spans}: slots {slots} are not in 0 .. 4"
        assert place(lengths, slots) == spans, f"{spans}: {slots} gives {place(lengths, slots)}"
    return "all 15 layouts come back"


# check_slots_of(...)

# %% [markdown]
# **2. The price of a budget.** A text of 20 tokens has a budget of `int(0.15 * 20) = 3` tokens. How
# many are blanked in the mean? Give a number that is right to one decimal. (Drawing a few thousand
# texts is allowed; a recursion over the budget is nicer.)
# %% [markdown] zh
# **2. 额度的代价。** 20 个 token 的文本，额度是 `int(0.15 * 20) = 3` 个 token。平均会挖掉多少个？
# 答案精确到一位小数。（可以抽几千段文本来估计；对额度写一个递推更漂亮。）

# %%
def check_mean_blanked(answer):
    seen = [sum(b - a for a, b in sample_spans(range(20), "token", Rng(9, n))) for n in range(4000)]
    assert abs(answer - np.mean(seen)) < 0.1, f"{answer} is not what 4,000 texts lose in the mean"


# check_mean_blanked(...)

# %% [markdown]
# **3. A broken proverb.** These are the rows of a sample, with the position of each. Which spans
# were blanked, and in which order do they stand in Part B? Answer `(spans, order)`: half-open pairs
# in text order, and a permutation counted from 0.
# %% [markdown] zh
# **3. 打碎的谚语。** 下面是一个样本的各行及其位置。挖掉的是哪些片段？它们在 Part B 里的次序如何？答案写成
# `(spans, order)`：按文本次序排列的左闭右开区间，以及从 0 开始计数的排列。

# %% exact
PUZZLE = "[M] bird catches the [M] but the second mouse [M]"  # Part A
PUZZLE += " [S] gets the cheese [S] the early [S] worm"  # Part B
POSITIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 0, 0, 0, 4, 4]
for start in (0, 10):
    rows = list(zip(PUZZLE.split(), POSITIONS, strict=True))[start:start + 10]
    print(*(f"{token:8}" for token, _ in rows))
    print(*(f"{position:<8}" for _, position in rows))


def check_puzzle(answer):
    spans, order = answer
    words = "the early bird catches the worm but the second mouse gets the cheese".split()
    try:
        d = explain(words, spans, order)
    except ValueError as error:
        raise AssertionError(str(error)) from error
    assert " ".join(d.tokens) == PUZZLE, f"that would be: {' '.join(d.tokens)}"


# check_puzzle(...)

# %% [markdown]
# ## Read on
# `minglm/spans.py`: `token_spans`, `sentence_spans` and `document_span` are the three objectives.
# `minglm/infilling.py`: `build_example` and `restore`. `minglm/rng.py` has the forty lines behind
# `Rng`. And `minglm show TEXT --figure film` draws the breaking of any text, step by step.
# %% [markdown] zh
# ## 继续阅读
# `minglm/spans.py`：`token_spans`、`sentence_spans`、`document_span` 就是三种目标。
# `minglm/infilling.py`：`build_example` 与 `restore`。`Rng` 背后的四十行代码在 `minglm/rng.py`。另外，
# `minglm show TEXT --figure film` 可以把任何文本的打碎过程一步步画出来。
