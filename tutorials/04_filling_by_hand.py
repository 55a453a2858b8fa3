# %% [markdown]
# # 04 Filling by hand
# *How does a trained GLM predict?*
#
# The original's readers ask for this most: the training code is there, where is the prediction? It is a
# loop of ten lines.
#
# - **After this chapter you can** fill any blank in any order with a model's logits, and say which row asks
#   for what.
# - **You need** chapters [02](02_two_positions.md) and [03](03_who_sees_whom.md).
# %% [markdown] zh 661c5f
# # 04 动手填空
# *训练好的 GLM 怎么预测？*
#
# 读原版代码的人最常问：训练代码有了，预测在哪？预测就是一个十行的循环。
#
# - **学完本章，你能**用模型的 logits 按任意顺序填任意一个空，并说出哪一行在问什么。
# - **预备知识**：第 [02](02_two_positions.zh.md) 和 [03](03_who_sees_whom.zh.md) 章。
# %% imports
import torch

from minglm import GLMMask, SpecialTokens, explain, fill
from minglm.course.chapters.filling_by_hand import (
    check_next_row,
    check_put_back,
    fig_growing,
    fig_steps,
    learn_all_orders,
)
from minglm.use.models import BOX, read_model
from minglm.viz import Explorer
from minglm.viz.figures import draw

torch.set_num_threads(1)  # these models are too small to share

# %% [markdown]
# ## On paper
# To fill a blank, append an `[S]` at the position of its `[M]`, block position 1; append the likeliest token
# at the same position, block position 2; and so on. A predicted `[E]` ends the blank and is never appended.
# For `x1 x2 [M] x4 [M]`, the second blank first:
# %% [markdown] zh 880b03
# ## 用纸笔算
# 要填一个空，就在它的 `[M]` 的位置上接一个 `[S]`，片段内位置是 1；再把概率最大的 token 接在同一个位置上，
# 片段内位置是 2；依此类推。预测出 `[E]`，这个空就填完了，`[E]` 本身从不接上去。
# 拿 `x1 x2 [M] x4 [M]` 来说，先填第二个空：
# %%
d = explain(["x1", "x2", "x3", "x4", "x5", "x6"], [(2, 3), (4, 6)], [1, 0])
fig_steps(d)

# %%
Explorer(d, (6, 5))  # the first step after [S]: row 6 sees Part A, [S] and itself

# %% [markdown]
# ## A model that knows six words
# It learns them in both orders, for a few seconds, as in chapter 02.
# %% [markdown] zh ee1a9a
# ## 只认识六个词的模型
# 和第 02 章一样，两种顺序都学，几秒钟就够。
# %%
tiny, ids, loss = learn_all_orders(d)
special = SpecialTokens()
names = {special.mask: "[M]", special.sop: "[S]", special.eop: "[E]"} | {n: x for x, n in ids.items()}
print(f"loss {loss:.3f}")


# %% [markdown]
# ## The loop
# Greedy, without a cache: each step reads all rows again and looks at the last one only.
# %% [markdown] zh 424a85
# ## 这个循环
# 贪心，没有缓存：每一步都把所有行重读一遍，只看最后一行。
# %%
@torch.no_grad()
def fill_by_hand(model, special, part_a, blanks, forbidden=()):
    """({position of a mask: its answer}, the rows), in the order of `blanks`, without `forbidden` tokens."""
    rows = [(token, i, 0) for i, token in enumerate(part_a)]  # token, position, block position
    A, answers = len(part_a), {}
    for place in blanks:
        token, answer = special.sop, []
        while token != special.eop and len(answer) < 20:
            rows.append((token, place, len(answer) + 1))
            mask = GLMMask.packed([len(rows)], [A])
            logits = model(*torch.tensor(rows).T, mask)[-1]  # (V,)
            logits[list(forbidden) + [special.eop] * (not answer)] = -torch.inf  # no blank is empty
            token = int(logits.argmax())
            answer += [token] if token != special.eop else []
        answers[place] = answer
    return answers, rows


part_a = [8, 9, special.mask, 11, special.mask]  # x1 x2 [M] x4 [M]
for blanks in ([2, 4], [4, 2]):
    answers, rows = fill_by_hand(tiny, special, part_a, blanks)
    print("order", blanks, {place: [names[token] for token in answer] for place, answer in answers.items()})
print("rows ", *((names[token], place, block) for token, place, block in rows[5:]))
assert answers == {4: [ids["x5"], ids["x6"]], 2: [ids["x3"]]}
assert [names[row[0]] for row in rows] == list(d.tokens)  # the sample that training would have made

# %% [markdown]
# Both orders give the same text. The last assertion is the point: while it fills, a model builds the very
# sample that it was trained on. Later blanks see earlier answers. In each step the mask grows by a row and a
# column:
# %% [markdown] zh 6778b9
# 两种顺序填出来的文本相同。最后那条断言才是重点：模型填空时造出来的，正是它训练时的那个样本。后填的空看得
# 到先填的答案。掩码每一步多一行、多一列：
# %%
fig_growing(len(part_a), len(rows))

# %% [markdown]
# Earlier rows compute the same numbers again; [chapter 09](09_filling_writing_classifying.md) keeps them in a
# cache.
#
# ## A model that has read stories
# The same function with the bundled model. Part A has a first and a last token; tokens without text are
# forbidden. The library's `fill` agrees:
# %% [markdown] zh 344afd
# 所以前面的行每一步都在重复算同样的数。[第 09 章](09_filling_writing_classifying.zh.md)把它们存进缓存。
#
# ## 读过故事的模型
# 还是同一个函数，换成自带的模型。Part A 有第一个和最后一个 token，没有文本的 token 不许选。库里
# 的 `fill` 给出同样的答案：
# %%
box, tokenizer = read_model(BOX)
no_text = (tokenizer.byte_lengths() == 0).nonzero()[0].tolist()  # special tokens
no_text.remove(tokenizer.special.eop)
for text in ("She was very [MASK] to see him.", "The [MASK] ran to the [MASK] and played."):
    part_a = [tokenizer.special.cls, *tokenizer.encode(text, special=True), tokenizer.special.eos]
    blanks = [i for i, token in enumerate(part_a) if token == tokenizer.special.mask]
    answers, _ = fill_by_hand(box, tokenizer.special, part_a, blanks, no_text)
    print(text, "->", *(tokenizer.decode(answer).strip() for answer in answers.values()), sep="  ")
    assert list(answers.values()) == [
        list(blank.answer.tokens) for blank in fill(box, tokenizer, text).blanks
    ]

# %% [markdown]
# What it chose from at each step:
# %% [markdown] zh 7d7ffc
# 每一步有哪些选择：
# %%
draw("infilling", model=box, tokenizer=tokenizer, text=text, width=700)


# %% [markdown]
# **Remember:** an `[S]` at the position of an `[M]` asks for that blank; each predicted token becomes the
# next row; `[E]` ends the blank. The order of the blanks is free. The rows are those that training would have
# made.
#
# ## Exercises
# **1. ★ The next row.** Write `next_row(row, token)`: `row` is `(token, position, block position)` of the row
# just read, `token` what it predicted. Return the next row, or `None` after `"[E]"`.
# %% [markdown] zh 80388f
# **记住：** 在某个 `[M]` 的位置上放一个 `[S]`，就是在问那个空；预测出的 token 成为下一行；`[E]` 结束这个
# 空。空的顺序可以任选。写出来的这些行，就是训练时会造出的那个样本。
#
# ## 练习
# **1. ★ 下一行。** 写出 `next_row(row, token)`：`row` 是刚读的那一行
# 的 `(token, 位置, 片段内位置)`，`token` 是它的预测。返回下一行；如果预测的是 `"[E]"`，返回 `None`。
# %%
def next_row(row, token): ...  # your answer


# check_next_row(next_row)  # uncomment


# %% [markdown]
# **2. ★ Put it back.** Write `put_back(part_a, answers)`: a list of words with `"[M]"`, and
# `{position: list of words}`. Return the whole text as a list.
# %% [markdown] zh 594687
# **2. ★ 放回去。** 写出 `put_back(part_a, answers)`：前者是带 `"[M]"` 的词的列表，后者
# 是 `{位置: 词的列表}`。返回整段文本的列表。
# %%
def put_back(part_a, answers): ...  # your answer


# check_put_back(put_back)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py): `write_blanks` is this loop, for many texts at once.
# - Next: [why fill blanks this way?](05_three_families.md) How GPT, BERT and T5 differ.
# %% [markdown] zh 46f3ad
# ## 延伸阅读
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py)：`write_blanks` 就是这个循环，一次处理许多文本。
# - 下一章：[为什么要这样填空？](05_three_families.zh.md)讲 GPT、BERT 和 T5 有什么不同。
