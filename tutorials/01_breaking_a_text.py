# %% [markdown]
# # 01 Breaking a text
# *How are blanks chosen?*
#
# GLM needs no labels: the text with its blanks is the question, the pieces are the answer. We break six
# words by hand, then texts at random as in pretraining, and put every text back together.
#
# - **After this chapter you can** write down Part A and Part B of any text, and draw blanks as GLM does.
# - **You need** [chapter 00](00_one_blank.md).
# %% [markdown] zh 3c988e
# # 01 给文本挖空
# *空是怎样选出来的？*
#
# GLM 的预训练叫**自回归空白填充**（autoregressive blank infilling），不需要人工标注：从文本里挖掉几处，
# 剩下的就是题目，挖掉的就是答案。本章先动手给一个只有六个词的句子挖空，
# 再像预训练那样随机地挖，最后把每段文本原样拼回去。
#
# - **学完本章，你能**写出任何文本的 Part A 和 Part B，并照 GLM 的办法采样空。
# - **预备知识**：[第 00 章](00_one_blank.zh.md)。
# %% imports
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
from minglm.viz import Explorer
from minglm.viz.figures import draw, fig_spans
from minglm.viz.palette import SPAN_COLOURS, THEMES

FAST = os.environ.get("MINGLM_FAST") == "1"
LOOK = THEMES["light"]

# %% [markdown]
# ## Six words by hand
# The paper's example: in the text $x_1 \ldots x_6$, blank $x_3$ and $x_5, x_6$. The paper counts from 1,
# everything here from 0. A *span* is half-open: $x_3$ is `Span(2, 3)`, and $x_5, x_6$ is `Span(4, 6)`.
#
# *Part A* is the text with one `[M]` per span. *Part B* holds the spans in random order, here the second
# one first, each after an `[S]`. Each row of Part B learns the next token, the last one of a span its end.
# %% [markdown] zh c1a8ce
# ## 动手挖六个词
# 论文的例子：文本是 $x_1 \ldots x_6$ 六个词，要挖掉其中的 $x_3$ 和 $x_5, x_6$ 两段。论文从 1 数起，
# 本教程一律从 0 数起。挖掉的一段叫一个*片段*（span），记成左闭右开的区间，所以 $x_3$ 写作 `Span(2, 3)`，
# 而 $x_5, x_6$ 写作 `Span(4, 6)`。
#
# *Part A* 是挖空后的文本，每个片段的位置上只留一个 `[M]`。*Part B* 是挖掉的片段，顺序随机：
# 这里第二个片段排在前面。每个片段以 `[S]` 开头。样本里的一个 token 叫一行（它就是掩码的一行）：
# Part B 的每一行都学习下一个 token，片段的最后一行学习结束标记 `[E]`。
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
# However long a span is, Part A has a single `[M]`: the model must find the length too. With $m$ spans $s_1
# \ldots s_m$ and $Z_m$, the permutations of $m$ things, the training objective is
#
# $$\max_\theta \mathbb{E}_{z \sim Z_m} \Big[ \sum_{i=1}^m
# \log p_\theta(s_{z_i} \mid x_{\text{corrupt}}, s_{z_{\lt i}}) \Big] \tag{1}$$
#
# $$p_\theta(s_i \mid x_{\text{corrupt}}, s_{z_{\lt i}}) = \prod_{j=1}^{l_i}
# p(s_{i,j} \mid x_{\text{corrupt}}, s_{z_{\lt i}}, s_{i,\lt j}) \tag{2}$$
#
# Here $x_{\text{corrupt}}$ is Part A, $s_{z_{\lt i}}$ the earlier spans of Part B, and $s_{i,\lt j}$ the
# beginning of this one. Each time a text is read, one order is drawn.
# %% [markdown] zh d3c5be
# 片段无论多长，在 Part A 里都只有一个 `[M]`：长度也得由模型自己决定，办法是在恰当的时候说出 `[E]`。
# Part B 里靠后的片段能看到靠前的片段。设片段 $s_1 \ldots s_m$ 共有 $m$ 个，用 $Z_m$ 表示它们的全部排列，
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
# Lengths follow a Poisson distribution with $\lambda = 3$. Length 0 is no span, so we drop $n = 0$ and
# renormalise:
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$
# %% [markdown] zh a1fb5f
# ## 片段多长：token 预训练目标
# 长度服从 $\lambda = 3$ 的泊松分布。长度为 0 的片段没有意义，所以去掉 0，把其余的概率重新归一化：
#
# $$p(n) = \frac{3^n e^{-3}}{n! (1 - e^{-3})}, \qquad n = 1, 2, 3, \ldots$$
# %% exact
law = [3**n * math.exp(-3) / math.factorial(n) / (1 - math.exp(-3)) for n in range(1, 40)]
print(f"mean = {sum(n * p for n, p in enumerate(law, 1)):.3f}")

cdf = poisson_cdf(3.0, 40)  # the library's; 40: every span is shorter, as in the original code
assert np.allclose(cdf, np.cumsum(law))


# %% [markdown]
# Draw lengths until 15 % of the tokens are blanked; the last span may exceed this budget. `Rng(0, n)` *names*
# a stream of random numbers, seed 0, text n: a text gets the same blanks at any time and on any machine.
# %% [markdown] zh b11ade
# 一直采样到挖掉的 token 满 15% 为止，这就是预算（budget），最后一个片段允许超出。
# `Rng(0, n)` 给一串随机数起了*名字*：种子 0，第 n 段文本。所以无论什么时候、在哪台机器上，挖出的空都一样。
# %% exact
def draw_lengths(budget, rng):
    lengths = []
    while sum(lengths) < budget:
        u = rng.uniform()
        lengths.append(1 + next(n for n, p in enumerate(cdf) if u < p))
    return lengths


for seed in range(3):
    lengths = draw_lengths(int(0.15 * 64), Rng(seed))
    print(f"64 tokens, budget {int(0.15 * 64)}: lengths {lengths}, together {sum(lengths)}")

drawn = [draw_lengths(int(0.15 * 128), Rng(0, n)) for n in range(2000)]
assert drawn[7] == draw_lengths(int(0.15 * 128), Rng(0, 7))  # asked again, out of turn
counted = np.bincount(sum(drawn, [])) / sum(map(len, drawn))
for n in range(1, 8):
    print(f"p({n}) = {law[n - 1]:.3f}, drawn {counted[n]:.3f}  " + "#" * round(100 * counted[n]))
assert np.allclose(counted[1:], law[: len(counted) - 1], atol=0.01)
for name, i in (("first", 0), ("last", -1)):
    mean = np.mean([lengths[i] for lengths in drawn])
    print(f"{name} length drawn for a text: {mean:.2f} on average")

# %% [markdown]
# The last two lines show a trap: the span that exceeds the budget is the last, and more likely a long one.
# Long blanks would gather at the ends of texts, so the lengths are shuffled before they are placed. The
# library's `sample_spans` on texts of 128 tokens (right: a little more than 15 % are blanked):
# %% [markdown] zh 5eae1b
# 最后两行透露了一个陷阱：采样停在超出预算的那个片段上，而越长的片段越容易超出。如果照抽出的先后放进文本，
# 长空就都挤到文本末尾去了。所以要先把长度打乱，再分配位置。
#
# 下面这张图出自库本身：对许多段 128 个 token 的文本调用 `sample_spans`（右图：实际挖掉的比 15% 略多）。
# %%
fig_spans([128] * (500 if FAST else 2000), width=700)


# %% [markdown]
# ## Where: collapse each span to a point, drop the points, expand
# Two spans must not touch. Take lengths 2 and 3 in a text of 10. Collapse each span, with the gap after it
# (the last one has none), to a point: 10 - 5 - 2 + 1 = 4 tokens are left, with five slots, 0 to 4, for the
# points. Draw two slots, sort them, expand. For the slots 1 and 3:
#
# ```text
# slots     0   1   2   3   4
# points    . * . . * .            4 tokens, a point in slot 1 and one in slot 3
# expanded  . # # . . . # # # .    a point becomes its span and a gap (the last one: no gap)
# ```
# %% [markdown] zh 02a40e
# ## 放在哪里：缩成点，撒下去，再还原
# 两个片段不能挨着，否则就连成一个了。设文本有 10 个 token，片段长 2 和 3。
# 先把每个片段连同它后面的间隔缩成一个点。最后一个片段后面不用留间隔，所以还剩 10 − 5 − 2 + 1 = 4 个 token，
# 每个点有 0 到 4 五个槽位可放。抽两个槽位，排好序，再把点还原成片段。比如槽位 1 和 3：
#
# ```text
# 槽位   0   1   2   3   4
# 点     . * . . * .            4 个 token，槽位 1、3 各放一个点
# 还原   . # # . . . # # # .    点变回片段加间隔（最后一个不加）
# ```
# %% exact
def place(lengths, slots):
    spans, shift = [], 0
    for slot, length in zip(slots, lengths, strict=True):
        spans.append(Span(slot + shift, slot + shift + length))
        shift += length + 1  # this span, and the gap behind it
    return spans


def strip(spans, length):
    return "".join("#" if any(a <= i < b for a, b in spans) else "." for i in range(length))


ways = Counter(tuple(place([2, 3], sorted(slots))) for slots in product(range(5), repeat=2))
for layout, n in sorted(ways.items()):
    print(strip(layout, 10), f" reached in {n} of 25 ways")
by_hand = {((a, a + 2), (b, b + 3)) for a in range(10) for b in range(a + 3, 8)}
assert set(ways) == by_hand  # every layout with a gap can come up, and no other


# %% [markdown]
# Every layout can come up, though not equally often; the original code does the same. That is all of
# `token_spans`, except that the first token, `[CLS]`, is never blanked, so everything moves by one.
# %% [markdown] zh debdf8
# 每种布局都可能出现，但机会不完全均等；原版代码也是这样。`token_spans` 做的就是这些。
# 只差一点：文本的第一个 token 是 `[CLS]`，永远不挖，所以整体要后移一位。
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
# Short blanks teach words. Sentences and whole texts have objectives and mask tokens of their own.
#
# | objective | blanked | mask |
# |---|---|---|
# | `"token"` | many short spans, 15 % of the tokens | `[MASK]`, here `[M]` |
# | `"sentence"` | whole sentences, until 15 % are reached | `[sMASK]`, here `[sM]` |
# | `"document"` | one span of 50 to 100 % of the text, here at its end | `[gMASK]`, here `[gM]` |
#
# The paper does not say where the document span is; the original code puts half of them at the end and half
# anywhere, and the released multi-task models go down to 25 %. GLM-Base and GLM-Large learned short spans
# alone, GLM-Doc also documents, GLM-Sent also sentences; only the 2B, 10B and Chinese models mix all three,
# one objective per batch. minglm draws one per sample, in shares (chapter 08) of its own choice.
# %% [markdown] zh 062a6f
# ## 三种预训练目标
# 挖短空，学的是词。要学会写句子、写整篇文章，GLM 还有另外两种预训练目标，各用各的掩码 token，
# 好让模型知道这次要填什么。
#
# | 预训练目标 | 挖掉什么 | 掩码 token |
# |---|---|---|
# | `"token"` | 许多短片段，共占 15% 的 token | `[MASK]`，这里写作 `[M]` |
# | `"sentence"` | 整句整句地挖，挖满 15% 为止 | `[sMASK]`，这里写作 `[sM]` |
# | `"document"` | 一个片段，占全文的 50% 到 100%，这里放在末尾 | `[gMASK]`，这里写作 `[gM]` |
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


for objective in OBJECTIVES:
    d = break_story(objective, Rng(14))
    for name, words in (("reads", d.tokens), ("learns", d.targets[d.part_a_len :])):
        print(
            textwrap.fill(
                " ".join(words), 90, initial_indent=f"{objective:8}  {name:6}  ", subsequent_indent=" " * 18
            )
        )

# %% [markdown]
# The document span includes `[EOS]`, so the model learns where a text ends. Where a window of a long text
# stops in the middle, nothing is learned after its last word:
# %% [markdown] zh bf57e9
# document 片段连文本的结尾一起挖掉，包括 `[EOS]`：模型由此学会文章在哪里结束。
# 长文本的一个窗口可能断在半中间，那么最后一个词之后什么也不学：
# %% exact
whole, cut = break_story("document", Rng(0)), break_story("document", Rng(0), STORY[:12])
print("ends here: ", *whole.targets[-5:])
print("is cut:    ", *cut.targets[-5:])

# %% [markdown]
# Twelve draws of each objective from the same text, one per line; grey lines mark the ends of sentences.
# %% [markdown] zh 506fb9
# 同一段文本，每种预训练目标各抽十二次，一次画一行。颜色只用来区分相邻的片段，灰色竖线是句子的结尾。
# %% picture
fig, axes = plt.subplots(3, 1, figsize=(7, 5), sharex=True, layout="constrained")
for ax, objective in zip(axes, OBJECTIVES, strict=True):
    drawn = [break_story(objective, Rng(5, n)).spans for n in range(12)]
    for row, blanks in enumerate(drawn):
        ax.broken_barh([(0, len(STORY))], (row, 0.8), facecolors=LOOK["faint"])
        for k, (a, b) in enumerate(blanks):
            ax.broken_barh([(a + 0.1, b - a - 0.2)], (row, 0.8), facecolors=SPAN_COLOURS[k % 6])
    for i in np.flatnonzero([full_stop[word] for word in STORY]):
        ax.axvline(i + 1, color=LOOK["soft"], linewidth=0.8)
    share = np.mean([sum(b - a for a, b in blanks) / len(STORY) for blanks in drawn])
    ax.set_title(f"{objective}: {share:.0%} blanked", loc="left", fontsize=10)
    ax.set(yticks=[], ylim=(12, -0.3), xlim=(0, len(STORY)))
    ax.spines[:].set_visible(False)
axes[-1].set_xlabel("token of the text")
fig.alt_text = (
    "The same text broken twelve times by each objective. Token: short spans. "
    "Sentence: one whole sentence. Document: one span that begins at the middle or "
    "before it and runs to the end."
)

# %% [markdown]
# ## Back again
# Every row of Part B carries the position of its mask in Part A, so the text can be put back together:
# %% [markdown] zh 6d50a9
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
# The library's `restore` does this with ids, for any text, objective and order. If the masks exchange their
# positions, the pieces end up in the wrong blanks:
# %% [markdown] zh ba98cf
# 库里的 `restore` 用 id 做同样的事，对任何文本、任何预训练目标、任何顺序都成立。如果把两个片段的位置对调，
# 它们就会填进对方的空里：
# %% exact
tried = Counter()
for objective in OBJECTIVES:
    for n in range(300):
        rng = Rng(1, n)
        ids = [1] + [100 + rng.integer(50) for _ in range(5 + rng.integer(200))]  # 1 is cls
        ends = [i % 10 == 0 for i in range(150)]  # every tenth word ends a sentence
        blanks = sample_spans(ids, objective, rng, sentence_ends=ends)
        shuffled = rng.shuffle(list(range(len(blanks))))
        assert restore(build_example(ids, blanks, shuffled, objective=objective)).tolist() == ids
        tried[objective] += len(blanks)
print("spans cut out and put back:", dict(tried))

example = build_example(range(100, 110), [(2, 3), (5, 8)], [1, 0])
positions, A = example.position_ids.copy(), example.part_a_len
positions[A:] = np.where(positions[A:] == 2, 5, 2)  # the masks stand at 2 and 5
print("as it was:", *restore(example))
print("exchanged:", *restore(replace(example, position_ids=positions)))


# %% [markdown]
# **Remember:** a blank of any length is one `[M]` in Part A; its words are in Part B, after `[S]`, in
# random order. Lengths are drawn from Poisson(3) until 15 % are blanked, shuffled, and then placed without
# touching. Positions alone are enough to put the text back together.
#
# ## Exercises
# **1. ★★ From spans back to slots.** Write `slots_of(spans)`: the sorted slots that `place` turns into these
# spans.
# %% [markdown] zh eefc8b
# **记住**：无论多长的空，在 Part A 里都只是一个 `[M]`；它的词在 Part B 里，跟在 `[S]` 后面，顺序随机。
# 长度按 Poisson(3) 采样到 15% 为止，打乱，再互不相邻地放下去。只凭位置，就能把原文拼回来。
#
# ## 练习
# **1. ★★ 从片段反推槽位。** 写出 `slots_of(spans)`：返回排好序的槽位，经 `place` 正好得到这些片段。
# %% check
def check_slots_of(slots_of):
    for layout in sorted(ways):
        spans = [Span(*span) for span in layout]
        lengths, slots = [b - a for a, b in spans], slots_of(spans)
        assert slots is not None, "slots_of returned None: did you forget `return`?"
        assert slots != [a for a, _ in spans] or spans == place(lengths, slots), (
            f"{spans}: {slots} are places in the text; what has `place` added to each slot?"
        )
        assert slots == sorted(slots), f"{spans}: slots {slots} are not sorted"
        assert all(0 <= slot <= 4 for slot in slots), f"{spans}: slots {slots} are not in 0 .. 4"
        assert place(lengths, slots) == spans, f"{spans}: {slots} gives {place(lengths, slots)}"
    print("✓ check_slots_of: all 15 layouts come back")


# %%
def slots_of(spans): ...  # your answer


# check_slots_of(slots_of)  # uncomment


# %% [markdown]
# **2. ★★★ The price of a budget.** A text of 20 tokens has a budget of `int(0.15 * 20) = 3` tokens. How many
# are blanked on average? One decimal is enough. (Draw a few thousand texts; a recursion is nicer.)
# %% [markdown] zh 5af14e
# **2. ★★★ 预算的代价。** 20 个 token 的文本，预算是 `int(0.15 * 20) = 3` 个 token。平均会挖掉多少个？
# 答案精确到小数点后一位。（可以抽几千段文本来估计；对预算写一个递推式更漂亮。）
# %% check
def check_mean_blanked(answer):
    seen = [sum(b - a for a, b in sample_spans(range(20), "token", Rng(9, n))) for n in range(4000)]
    assert answer is not None, "the answer is a number"
    assert abs(answer - np.mean(seen)) < 0.1, f"{answer} is not what 4,000 texts lose on average"
    print(f"✓ check_mean_blanked: 4,000 texts lose {np.mean(seen):.2f} tokens on average")


# %%
# check_mean_blanked(...)

# %% [markdown]
# **3. ★★ A broken proverb.** These are the rows of a sample, with the position of each. Which spans were
# blanked, and in which order are they in Part B? Answer `(spans, order)`: half-open pairs in text order,
# and a permutation counted from 0.
# %% [markdown] zh 177065
# **3. ★★ 残缺的谚语。** 下面是一个样本的各行及其位置。挖掉的是哪些片段？它们在 Part B 里是什么顺序？
# 答案写成 `(spans, order)`：按原文顺序排列的左闭右开区间，和一个从 0 数起的排列。
# %% exact
PUZZLE = "[M] bird catches the [M] but the second mouse [M]"  # Part A
PUZZLE += " [S] gets the cheese [S] the early [S] worm"  # Part B
POSITIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 0, 0, 0, 4, 4]
for start in (0, 10):
    rows = list(zip(PUZZLE.split(), POSITIONS, strict=True))[start : start + 10]
    print(*(f"{token:8}" for token, _ in rows))
    print(*(f"{position:<8}" for _, position in rows))


def check_puzzle(answer):
    assert isinstance(answer, tuple) and len(answer) == 2, "the answer is a pair: (spans, order)"
    spans, order = answer
    words = "the early bird catches the worm but the second mouse gets the cheese".split()

    def reads(spans, order):
        try:
            return " ".join(explain(words, spans, order).tokens)
        except ValueError as error:
            return str(error)

    hint = ""
    if reads([(start - 1, end - 1) for start, end in spans], order) == PUZZLE:
        hint = "; do you count from 1?"
    elif reads(spans, np.argsort(order).tolist()) == PUZZLE:
        hint = "; yours is the inverse permutation"
    assert reads(spans, order) == PUZZLE, f"with your answer: {reads(spans, order)}{hint}"
    print("✓ check_puzzle: the proverb is whole again")


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
