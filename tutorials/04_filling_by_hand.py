# %% [markdown]
# # 04 Filling by hand
# *How does a trained GLM predict?*
#
# The original's readers ask for this most: the training code is there, where is the prediction? It is a
# loop of ten lines. A tiny model that knows six words by heart runs it first, then the bundled model.
#
# - **After this chapter you can** fill any blank in any order with a model's logits, and say which row asks
#   for what.
# - **You need** chapters [02](02_two_positions.md) and [03](03_who_sees_whom.md).
# %% imports
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

from minglm import GLM, GLMConfig, GLMMask, SpecialTokens, build_example, explain, fill, pack
from minglm.use.models import BOX, read_model
from minglm.viz import Explorer
from minglm.viz.palette import KINDS, THEMES

torch.set_num_threads(1)  # these models are too small to share

# %% [markdown]
# ## On paper
# A row reads a token and predicts the next one of its blank. So to fill a blank: append an `[S]` at the
# position of its `[M]`, block position 1; take the likeliest token; append it at the same position, block
# position 2; and so on until the prediction is `[E]`, which is never appended. For `x1 x2 [M] x4 [M]`, the
# second blank first, the rows must be these, five predictions in all:
# %% exact
TEXT = ["x1", "x2", "x3", "x4", "x5", "x6"]
d = explain(TEXT, [(2, 3), (4, 6)], [1, 0])
for i in range(d.part_a_len, len(d)):
    where = f"position {d.position_ids[i]}, block position {d.block_position_ids[i]}"
    print(f"row {i} reads {d.tokens[i]:3} at {where}: predicts {d.targets[i]}")

# %%
Explorer(d, (6, 5))  # the first step after [S]: row 6 sees Part A, [S] and itself

# %% [markdown]
# ## A model that knows six words
# It learns the text of chapter 02 in both orders, for a few seconds.
# %%
special = SpecialTokens()
ids = dict(zip(TEXT, range(8, 14), strict=True))
names = {special.mask: "[M]", special.sop: "[S]", special.eop: "[E]"} | {n: x for x, n in ids.items()}
batch = pack([build_example(list(ids.values()), [(2, 3), (4, 6)], order) for order in ([0, 1], [1, 0])])
torch.manual_seed(0)
tiny = GLM(GLMConfig(vocab_size=14, hidden_size=32, num_layers=2, num_heads=2, max_positions=16, dropout=0.0))
optimizer = torch.optim.AdamW(tiny.parameters(), 5e-3)
for _ in range(150):
    loss = tiny.loss(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.3f}")


# %% [markdown]
# ## The loop
# Greedy, without a cache: each step reads all rows again and looks at the last one only. `forbidden` are
# tokens that must not be chosen.
# %%
@torch.no_grad()
def fill_by_hand(model, special, part_a, blanks, forbidden=()):
    """({position of a mask: its answer}, the rows). The blanks are filled in the order given."""
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
# sample that it was trained on, row by row. Later blanks see earlier answers, because they are rows before
# their own.
#
# What happens to the mask? It grows by a row and a column per step, and what was there stays:
# %% picture
fig, axes = plt.subplots(1, 5, figsize=(7, 1.9), layout="constrained")
colours = ListedColormap([THEMES["light"]["faint"], KINDS["AA"].light, KINDS["BA"].light])
for T, ax in zip(range(6, 11), axes, strict=True):
    kind = GLMMask.packed([T], [5]).dense().int()
    kind[T - 1] *= 2
    ax.pcolormesh(kind, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=0.5)
    ax.set(xlim=(0, 10), ylim=(10, 0), aspect="equal", xticks=[], yticks=[])
    ax.set_title(f"reads {d.tokens[T - 1]}\npredicts {d.targets[T - 1]}", fontsize=9)
    ax.spines[:].set_visible(False)
fig.alt_text = (
    "The mask at each of the five steps, from 6 to 10 rows. Each step adds one row at the bottom, in light "
    "blue, that sees everything before it; the rows above stay as they were."
)

# %% [markdown]
# So earlier rows compute the same numbers again in every step.
# [Chapter 09](09_filling_writing_classifying.md) keeps them in a cache.
#
# ## A model that has read stories
# The same function with the bundled model. Part A has a first and a last token, and tokens without text are
# forbidden. The library's `fill` gives the same answers:
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
# **Remember:** an `[S]` at the position of an `[M]` asks for that blank; each predicted token becomes the
# next row; `[E]` ends the blank. The order of the blanks is free. The rows that are written are the sample
# that training would have made.
#
# ## Exercises
# **1. ★ The next row.** Write `next_row(row, token)`: `row` is `(token, position, block position)` of the row
# just read, `token` what it predicted. Return the next row, or `None` after `"[E]"`.
# %% check
def check_next_row(next_row):
    for i in range(d.part_a_len, len(d)):
        row = d.tokens[i], int(d.position_ids[i]), int(d.block_position_ids[i])
        want = None
        if d.targets[i] != "[E]":
            want = d.tokens[i + 1], int(d.position_ids[i + 1]), int(d.block_position_ids[i + 1])
        got = next_row(row, d.targets[i])
        hint = ""
        if want and got is None:
            hint = "; did you forget `return`?"
        elif want and tuple(got) == (want[0], want[1] + 1, want[2]):
            hint = "; all rows of a blank have the position of its mask"
        elif want and tuple(got) == (want[0], want[1], row[2]):
            hint = "; the block position counts up"
        elif not want and got is not None:
            hint = "; [E] is never read"
        assert got == want, f"after {row} and {d.targets[i]}: you say {got}, but it is {want}{hint}"
    print("✓ check_next_row: five steps")


# %%
def next_row(row, token): ...  # your answer


# check_next_row(next_row)  # uncomment


# %% [markdown]
# **2. ★ Put it back.** Write `put_back(part_a, answers)`: a list of words with `"[M]"`, and
# `{position: list of words}`. Return the whole text as a list.
# %% check
def check_put_back(put_back):
    for order in ([0, 1, 2], [2, 0, 1]):
        words = "the cat that lives on the farm eats mice every day".split()
        spans = [(1, 2), (3, 7), (8, 11)]
        e = explain(words, spans, order)
        part_a, answers = list(e.tokens[: e.part_a_len]), {}
        for k in order:
            place = [i for i, token in enumerate(part_a) if token == "[M]"][k]
            answers[place] = words[slice(*spans[k])]
        got = put_back(list(part_a), dict(answers))
        assert got is not None, "put_back returned None: did you forget `return`?"
        hint = "; positions count in Part A, before anything is put back" if len(got) != len(words) else ""
        assert list(got) == words, f"order {order}: {' '.join(map(str, got))}{hint}"
    print("✓ check_put_back: two orders")


# %%
def put_back(part_a, answers): ...  # your answer


# check_put_back(put_back)  # uncomment

# %% [markdown]
# ## Read on
# - [`minglm/use/drafts.py`](../minglm/use/drafts.py): `write_blanks` is this loop, for many texts at once.
# - Next: [why fill blanks this way?](05_three_families.md) How GPT, BERT and T5 differ.
