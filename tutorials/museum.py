# %% [markdown]
# # A museum of mask bugs
# *Can you find the leak by changing one token?*
#
# Ten masks that people really wrote, found in public threads. Each is told in our own words and put into the
# same ten-token sample; the thread has the original. Look at the mask, guess which row sees too much (or too
# little), then open the answer: code changes one token and compares bits, the test of
# [chapter 03](03_who_sees_whom.md).
#
# The sample: a prompt of `A = 5` tokens, which may be read in both directions, and an answer of 5, written
# from left to right. Row `i` predicts token `i + 1`.
# %% imports
import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

from minglm.viz.palette import KINDS, THEMES

torch.set_num_threads(1)  # everything here is tiny
T, A, D = 10, 5, 8
i, j = torch.arange(T)[:, None], torch.arange(T)  # queries down, keys across
causal = j <= i
RIGHT = (j < A) | causal  # True: may attend

# %% setup
HIDDEN, OPEN, WRONG = THEMES["light"]["faint"], KINDS["BA"].light, KINDS["BS"].light


def attend(x, may, layers=2, masked=None):
    """A few layers of attention without weights; masked(scores, may) makes the weights of a layer."""
    for _ in range(layers):
        scores = x @ x.T
        if masked is None:
            weights = scores.masked_fill(~may, -torch.inf).softmax(-1)
        else:
            weights = masked(scores, may)
        x = x + weights @ x
    return x


def moves(may, **how):
    """(T, T), True where the output of row i moves when token j is changed; NaN counts as moved."""
    tokens = 0.3 * torch.randn(T, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, grid = attend(tokens, may, **how), torch.zeros(T, T, dtype=torch.bool)
    for token in range(T):
        changed = tokens.clone()
        changed[token] += 1
        grid[:, token] = ~(attend(changed, may, **how) == before).all(1)
    return grid


def show(name, may, **how):
    """Two pictures: the mask as written, and what the test finds. Returns the lists of leaks and losses."""
    found = moves(may, **how)
    leak, lost = found & ~RIGHT, RIGHT & ~found
    fig, axes = plt.subplots(1, 2, figsize=(5.6, 3.2), layout="constrained")
    colours = ListedColormap([HIDDEN, OPEN, WRONG])
    for ax, grid, title in zip(
        axes, (may * 1, found * 1 + leak), ("the mask", "rows that move"), strict=True
    ):
        ax.pcolormesh(grid, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1)
        for row, column in (leak if ax is axes[1] else leak & may).nonzero().tolist():
            ax.text(column + 0.5, row + 0.55, "!", ha="center", va="center", color="white", fontsize=9)
        for row, column in lost.nonzero().tolist() if ax is axes[1] else ():
            ax.text(column + 0.5, row + 0.55, "?", ha="center", va="center", fontsize=9)
        ax.plot((0, T, float("nan"), A, A), (A, A, float("nan"), 0, T), color="black", lw=1)
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", title=title, xlabel="token", ylabel="row")
        ax.set_xticks([])
        ax.set_yticks([])
    fig.alt_text = f"{name}: the mask as written, and which rows move when a token is changed."
    cheats = [row for row in range(T - 1) if leak[row, row + 1]]
    print(
        f"{name}: {int(leak.sum())} leaks, {int(lost.sum())} cells lost; rows that see their answer: {cheats}"
    )
    return leak, lost


def zero_bits(name, **how):
    """The right mask, wrongly applied: nothing to see in the mask."""
    return show(name, RIGHT, **how)


# %% [markdown]
# `!` is a leak, `?` a cell that should be seen and is not. First the right mask, for comparison:
# %% exact
leak, lost = show("right", RIGHT)
assert not leak.any() and not lost.any()

# %% [markdown]
# ## 1. The first token of the answer
# [bigscience-workshop/Megatron-DeepSpeed#167](https://github.com/bigscience-workshop/Megatron-DeepSpeed/pull/167)
# fixed offsets of a prefix language model. The question that it settles: is the prefix index the last token
# of the prefix, or the first one behind it? Take one for the other, and the prefix is one token too long. A
# public gist with [FlexAttention
# examples](https://gist.github.com/Chillee/eb339f9ff2261616e563ea7684d1df0c) compares with `<=`, where a
# length would need `<`. Which rows cheat?
# %% answer
leak, _ = show("one too long", (j <= A) | causal)
assert leak[A - 1, A]  # the last row of the prompt sees the first word of the answer

# %% [markdown]
# ## 2. Everything inverted
# [dphnAI/sonar#1526](https://github.com/dphnAI/sonar/pull/1526): the prefix may look at everything, the
# answer only at its own past. A review bot simplified the expression, and it stayed wrong. Which rows lose,
# which win?
# %% answer
leak, lost = show("inverted", (i < A) | ((i >= A) & (j >= A) & causal))
assert leak[:A, A:].all() and lost[A:, :A].any()

# %% [markdown]
# ## 3. Prefill without a mask
# [Mikyx-1/TinyLLM#18](https://github.com/Mikyx-1/TinyLLM/pull/18): the causal mask was applied only if
# there was no cache. Generation passes the whole prompt with an empty cache attached, so the prompt saw its
# own future. Training was never affected. For a causal model (`A = 0`), reading six tokens at once:
# %% answer
prefill = (i < 6) & (j < 6) | causal
found = moves(prefill)
print("rows that see a later token:", sorted({row for row, _ in (found & ~causal).nonzero().tolist()}))
assert (found & ~causal)[:5].any()

# %% [markdown]
# ## 4. Aligned at the wrong corner
# [pytorch/pytorch#103082](https://github.com/pytorch/pytorch/issues/103082): `is_causal=True` with one
# query and a cache of keys. The causal matrix is aligned at the top left, so the newest token sees only the
# oldest key. No leak, and nearly everything is lost:
# %% answer
q, k = torch.randn(2, 1, 1, T, D, dtype=torch.float64)
sdpa = torch.nn.functional.scaled_dot_product_attention
one = sdpa(q[..., -1:, :], k, k, is_causal=True)
print("the new token's output is the first value, unchanged:", torch.equal(one, k[..., :1, :]))
assert torch.equal(one, k[..., :1, :]) and not torch.allclose(one, sdpa(q, k, k, is_causal=True)[..., -1:, :])


# %% [markdown]
# ## 5. A wall that training climbs
# [karpathy/minGPT#75](https://github.com/karpathy/minGPT/issues/75): training and validation loss near 0,
# and nonsense when writing. Hidden scores were set to a large negative number, and the network drove its
# own scores below it. The mask is right; let all visible scores sink by 20,000:
# %% answer
def wall(scores, may):
    return (scores - 20_000 * may).masked_fill(~may, -10_000.0).softmax(-1)


leak, _ = zero_bits("a finite wall", masked=wall)
assert leak[~RIGHT].all()

# %% [markdown]
# ## 6. Times zero, before the softmax
# [georg-wolflein/good-features#1](https://github.com/georg-wolflein/good-features/pull/1): masked scores
# were multiplied by 0. A score of 0 is a score like any other. (By luck no result was affected there: the
# batch size was 1.)
# %% answer
leak, _ = zero_bits("times zero, before", masked=lambda scores, may: (scores * may).softmax(-1))
assert leak[~RIGHT].all()

# %% [markdown]
# ## 7. After the softmax
# [huggingface/pytorch-image-models#2236](https://github.com/huggingface/pytorch-image-models/pull/2236):
# the mask came after the softmax. No hidden value is mixed in, yet every row moves. Why?
# %% answer
leak, _ = zero_bits("after the softmax", masked=lambda scores, may: scores.softmax(-1) * may)
weights = (torch.zeros(T, T).softmax(-1) * RIGHT).sum(-1)
print("sums of the weights:", [round(w, 1) for w in weights.tolist()])
assert leak[~RIGHT].all()  # hidden keys have taken their share of the sum

# %% [markdown]
# ## 8. The diagonal, too
# [pbloem/former#10](https://github.com/pbloem/former/issues/10): a blog post hid the upper triangle with
# offset 0, that is, including the diagonal. Row 0 sees nothing, and a softmax over nothing is NaN:
# %% answer
hidden = torch.ones(T, T).triu(diagonal=0).bool()
first = torch.zeros(T, T).masked_fill(hidden, -torch.inf).softmax(-1)[0]
print(
    "weights of row 0:",
    first[:3].tolist(),
    "... and with offset 1 it sees",
    int((~hidden.triu(1))[0].sum()),
    "key",
)
assert first.isnan().all()

# %% [markdown]
# ## 9. On the wrong axis
# [lsdefine/attention-is-all-you-need-keras#16](https://github.com/lsdefine/attention-is-all-you-need-keras/issues/16)
# asks whether a padding mask, one number per token, is broadcast over queries instead of keys. Say tokens 8
# and 9 are padding. Over keys nobody sees them; over queries *they* see nothing, and everybody else sees
# them:
# %% answer
real = torch.arange(T) < 8
for axis, padding in (("keys", real[None, :]), ("queries", real[:, None])):
    found = moves((torch.ones(T, T, dtype=torch.bool) & padding) | torch.eye(T, dtype=torch.bool))
    print(f"broadcast over {axis:8} rows 0 to 7 move when padding changes: {bool(found[:8, 8:].any())}")
    assert bool(found[:8, 8:].any()) == (axis == "queries")

# %% [markdown]
# ## 10. Two documents, one row
# [huggingface/transformers#46634](https://github.com/huggingface/transformers/pull/46634): boundaries of
# packed documents were found only if no attention mask was given, so a mask of ones switched them off.
# Documents of 6 and 4 tokens:
# %% answer
document = (torch.arange(T) >= 6).long()
apart = causal & (document[:, None] == document[None, :])
for name, may in (("boundaries", apart), ("a mask of ones", causal)):
    between = moves(may)[6:, :6].any()
    print(f"{name:15} the second document sees the first: {bool(between)}")
    assert bool(between) == (name != "boundaries")


# %% [markdown]
# ## The eleventh
# One cell is wrong: row 2 of the prompt may look at token 7. In a model of two layers, which rows move when
# token 7 is changed and must not? Answer with a list.
# %% check
def check_one_cell(rows):
    may = RIGHT.clone()
    may[2, 7] = True
    right = (moves(may) & ~RIGHT)[:, 7].nonzero().flatten().tolist()
    assert isinstance(rows, list), "the answer is a list of rows"
    hint = "; that is one layer. Who looks at row 2 in the second?" if rows == [2] else ""
    hint = hint or ("; rows 7 to 9 may see token 7" if set(rows) > set(right) else "")
    assert sorted(rows) == right, f"not the rows {rows}{hint}"
    print("✓ check_one_cell: one wrong cell, and the whole prompt and two rows of the answer know token 7")


# %%
# check_one_cell([...])

# %% [markdown]
# ## The pattern
# None of these raises an error, and most give a *better* training loss. All are found by one line: change a
# token, compare bits. In minglm that test stands in [`tests/test_mask.py`](../tests/test_mask.py) and
# [`tests/test_tour.py`](../tests/test_tour.py). The original GLM has one of its own kind: the padding of
# Part A was visible (THUDM/GLM#70), see [questions](questions.md).
