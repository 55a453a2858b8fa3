# %% [markdown]
# # 11 Tiles
# *How is a (T, T) matrix never built?*
#
# Chapter 06 computed a (T, T) matrix of scores. Here the same numbers come from *tiles* of it, one at a time.
# Every fast kernel in `csrc/` does what this numpy code does.
#
# - **After this chapter you can** compute a softmax in pieces, skip hidden tiles, and do the backward pass
#   without the matrix.
# - **You need** [chapter 06](06_attention_by_hand.md), and matrix gradients for the backward pass. GLM's
#   mask in one line, if you came for kernels: row $i$ sees the first $\max(A, i + 1)$ keys; $A$, the length
#   of Part A, belongs to the sample. $A = 0$ is the causal mask, $A = T$ is no mask.
# %% imports
import os
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, masked_attention
from minglm.viz import Explorer
from minglm.viz.figures import fig_tiles
from minglm.viz.figures.canvas import Canvas
from minglm.viz.figures.tiles import tile_facts
from minglm.viz.palette import KINDS, THEMES

FAST = os.environ.get("MINGLM_FAST") == "1"
BLUE, LIGHT, FAINT = KINDS["AA"].light, KINDS["BA"].light, THEMES["light"]["faint"]
AMBER = KINDS["BE"].light

# %% [markdown]
# ## A softmax that has not seen everything yet
# A softmax divides by a sum over *all* keys of a row. To begin earlier, keep the largest score $m$, the sum
# $l = \sum_j e^{s_j - m}$ and the weighted values $o = \sum_j e^{s_j - m} v_j$. When more keys bring a larger
# score, shrink both sums:
#
# $$m' = \max(m, \max_j s_j) \qquad l' = e^{m - m'} l + \sum_j e^{s_j - m'} \qquad
# o' = e^{m - m'} o + \sum_j e^{s_j - m'} v_j$$
#
# At the end $o / l$ is the row's output (`ell` in code). Four keys with $e^s = 1, 2, 4, 1$ and the values
# $8, 0, 4, 8$ have the weights 1/8, 2/8, 4/8, 1/8 and the output 1 + 0 + 2 + 1 = 4. In two tiles:
# %% exact
scores, values = np.log([1.0, 2.0, 4.0, 1.0]), np.array([8.0, 0.0, 4.0, 8.0])

m, ell, o = -np.inf, 0.0, 0.0
for tile in (slice(0, 2), slice(2, 4)):
    new_m = max(m, scores[tile].max())
    shrink, weights = np.exp(m - new_m), np.exp(scores[tile] - new_m)
    ell, o, m = shrink * ell + weights.sum(), shrink * o + weights @ values[tile], new_m
    print(
        f"e^m = {np.exp(m):.0f}   shrink {shrink:.2f}   new weights {weights.round(2)}"
        f"   l = {ell:.2f}   o = {o:.2f}"
    )
print(f"output o / l = {o / ell:.2f}   and e^lse = e^m l = {np.exp(m) * ell:.2f}, the whole sum")

# %% [markdown]
# The row's *log-sum-exp*, $\mathrm{lse} = m + \log l$, is all that the backward pass needs of the softmax. A
# longer row: tiles 1 and 3 bring a larger score, and everything before shrinks.
# %% picture
row = np.log([3, 9, 7, 8, 20, 1, 3, 1, 5, 16, 6, 11, 1, 9, 3, 56])
fig, axes = plt.subplots(1, 4, sharey=True, figsize=(7, 2.4), layout="constrained")
for t, ax in enumerate(axes):
    seen = row[: 4 * t + 4]
    bars = np.exp(seen - seen.max())
    ax.bar(range(len(seen)), bars, color=[LIGHT] * 4 * t + [BLUE] * 4)
    ax.set(
        xlim=(-0.8, 15.8),
        xticks=(0, 4, 8, 12),
        xlabel="key",
        ylim=(0, 1.15),
        title=f"tile {t}: l = {bars.sum():.2f}",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.axvspan(4 * t + 3.5, 15.8, color=FAINT, zorder=0)
axes[0].set_ylabel("exp(score - m)")
fig.alt_text = (
    "Four panels, one a tile of four keys: the weights so far in units of the largest. "
    "Tiles 1 and 3 bring a larger score, and all earlier bars shrink by one factor."
)


# %% [markdown]
# ## Which tiles are there at all?
# From one row to the next, the number of keys that it sees never falls. So for a tile of rows `i0 .. i1 - 1`
# and keys `j0 .. j1 - 1`, its first and its last row are enough:
# %% exact
def kind(i0, i1, j0, j1, part_a_len):
    if j1 <= keys_of_row(i0, part_a_len):
        return "full"  # even the first row sees the last key: nothing to compare inside
    if j0 >= keys_of_row(i1 - 1, part_a_len):
        return "empty"  # not even the last row sees the first key: never visited
    return "partial"  # each row has its own last key


# %%
A, T, SIDE = 10, 24, 4
fig_tiles(GLMMask.packed([T], [A]), tile=(SIDE, SIDE), width=560)

# %%
Explorer(explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]), (7, 8))  # on the edge

# %% [markdown]
# Checking every pair says the same:
# %% exact
asked = 0
for length, rows, keys in ((1, 1, 1), (24, 4, 4), (24, 5, 3)):
    for part_a_len in range(length + 1):
        grid = GLMMask.packed([length], [part_a_len]).dense().numpy()
        for i0 in range(0, length, rows):
            for j0 in range(0, length, keys):
                i1, j1 = min(i0 + rows, length), min(j0 + keys, length)
                pairs = grid[i0:i1, j0:j1]
                looked = "full" if pairs.all() else "partial" if pairs.any() else "empty"
                assert kind(i0, i1, j0, j1, part_a_len) == looked
                asked += 1
print(f"{asked} tiles, the same answer from their corners as from every pair")


# %% [markdown]
# ## Forward, tile by tile
# As in `csrc/cpu/tiled.cpp`: own some rows, go along their keys. One tile of scores, `s`, exists at a time.
# %% picture
canvas, (i0, i1), now, cell, x, y = Canvas("light", 640), (12, 16), 8, 16, 130, 56
looks = {"done": LIGHT, "now": BLUE, "next": FAINT, "empty": "none"}
for top in range(0, T, SIDE):
    for j0 in range(0, T, SIDE):
        visited = kind(top, top + SIDE, j0, j0 + SIDE, A) != "empty"
        state = ("done" if j0 < now else "now" if j0 == now else "next") if visited else "empty"
        fill = looks[state] if top == i0 else "none"
        how = dict(fill=fill, edge=THEMES["light"]["grid"], width=1.2)
        canvas.rectangle(x + j0 * cell, y + top * cell / 2, SIDE * cell, SIDE * cell / 2, **how)
        if top == i0:
            mid = x + (j0 + SIDE / 2) * cell, y + (i0 + SIDE / 2) * cell / 2
            words = {"done": "gone", "now": "s", "next": "later", "empty": "skipped"}[state]
            canvas.text(*mid, words, colour="white" if state == "now" else None, bold=state == "now")
middle, band = y + (i0 + SIDE / 2) * cell / 2, dict(fill=AMBER)
canvas.rectangle(x - 44, y + i0 * cell / 2, 38, SIDE * cell / 2, **band)
canvas.text(x - 25, middle, "q")
canvas.rectangle(x + now * cell, y - 40, SIDE * cell, 34, **band)
canvas.text(x + (now + SIDE / 2) * cell, y - 23, "k, v")
canvas.rectangle(x + T * cell + 6, y + i0 * cell / 2, 60, SIDE * cell / 2, **band)
canvas.text(x + T * cell + 36, middle, "m, l, o")
canvas.text(x - 50, middle, "these rows", ha="right")
canvas.finish(
    y + T * cell / 2 + 10,
    "A band of rows goes along its keys: two tiles are gone, one is s, one comes later, two are skipped.",
)


# %%
def scores_of(q, k, tile, part_a_len):
    i0, i1, j0, j1 = tile
    s = q[i0:i1] @ k[j0:j1].T / np.sqrt(q.shape[1])  # (rows, keys)
    if kind(*tile, part_a_len) == "partial":  # the only place where a mask is looked at
        seen = np.array([keys_of_row(i, part_a_len) for i in range(i0, i1)])
        s = np.where(np.arange(j0, j1) < seen[:, None], s, -np.inf)
    return s


def forward(q, k, v, part_a_len, rows, keys, visits):
    T, D = q.shape
    out, lse = np.empty((T, D)), np.empty(T)
    for i0 in range(0, T, rows):
        i1 = min(i0 + rows, T)
        m, ell, o = np.full(i1 - i0, -np.inf), np.zeros(i1 - i0), np.zeros((i1 - i0, D))
        for j0 in range(0, keys_of_row(i1 - 1, part_a_len), keys):  # what lies beyond is empty
            j1 = min(j0 + keys, T)
            s = scores_of(q, k, (i0, i1, j0, j1), part_a_len)
            new_m = np.maximum(m, s.max(1))
            shrink, p = np.exp(m - new_m), np.exp(s - new_m[:, None])
            o = shrink[:, None] * o + p @ v[j0:j1]
            ell, m = shrink * ell + p.sum(1), new_m
            visits.append((i0, i1, j0, j1))
        out[i0:i1], lse[i0:i1] = o / ell[:, None], m + np.log(ell)
    return out, lse


def at_once(q, k, v, part_a_len):  # chapter 06: one tile as large as the sample
    s = scores_of(q, k, (0, len(q), 0, len(k)), part_a_len)
    p = np.exp(s - s.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True) @ v


rng = np.random.default_rng(0)
q, k, v, grad = rng.normal(size=(4, T, 8))
visits = []
out, lse = forward(q, k, v, A, SIDE, SIDE, visits)
off = abs(out - at_once(q, k, v, A)).max()
print(f"largest difference {off:.0e}")
assert off < 1e-14

# %% [markdown]
# ## Backward without the matrix
# Let $dO$ be the gradient of the output. As $O = PV$, we have $dV = P^T dO$ and $dP = dO\,V^T$. The gradient
# of a softmax seems to need whole rows:
#
# $$dS_{ij} = P_{ij}\,\Big(dP_{ij} - \sum_{j'} P_{ij'}\,dP_{ij'}\Big)$$
#
# But insert $dP$ and exchange the two sums:
#
# $$\sum_{j'} P_{ij'} \sum_d dO_{id}\,V_{j'd} = \sum_d dO_{id}\,O_{id} = \delta_i$$
#
# That is one number per row, and $P_{ij} = e^{s_{ij} - \mathrm{lse}_i}$ is recomputed, so every tile can be
# done on its own. With the four keys above and $dO = 1$:
# %% exact
P = np.exp(scores - np.log(8))  # lse = log 8
dP = 1.0 * values  # dO = 1
delta = 1.0 * 4.0  # dO * O
dS = P * (dP - delta)
print("P    ", P.round(3), "\ndP   ", dP, "\ndelta", delta, "= P . dP =", (P @ dP).round(3))
print("dS   ", dS.round(3), "  sum", abs(dS.sum()).round(3))


# %% [markdown]
# The backward pass owns a tile of *keys*: its $dK$ and $dV$ are sums over the rows that see it. It walks
# along those and adds to $dQ$ on the way.
# %%
def backward(q, k, v, out, lse, grad, part_a_len, rows, keys, visits):
    T, D = q.shape
    delta = (grad * out).sum(1)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for j0 in range(0, T, keys):
        j1 = min(j0 + keys, T)
        for i0 in range(0, T, rows):
            i1 = min(i0 + rows, T)
            tile = i0, i1, j0, j1
            if kind(*tile, part_a_len) == "empty":
                continue
            s = scores_of(q, k, tile, part_a_len)
            p = np.exp(s - lse[i0:i1, None])  # the true weights at once: lse is known
            ds = p * (grad[i0:i1] @ v[j0:j1].T - delta[i0:i1, None]) / np.sqrt(D)  # as in s
            dq[i0:i1] += ds @ k[j0:j1]
            dk[j0:j1] += ds.T @ q[i0:i1]
            dv[j0:j1] += p.T @ grad[i0:i1]
            visits.append(tile)
    return dq, dk, dv


visits_back = []
dq, dk, dv = backward(q, k, v, out, lse, grad, A, SIDE, SIDE, visits_back)
assert sorted(visits) == sorted(visits_back)
print(f"{len(visits)} tiles forward, the same {len(visits_back)} backward")

# %% [markdown]
# The same tiles in two orders. Neighbours of one colour have one owner:
# %% picture
fig, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
for ax, walk, owner in zip(axes, (visits, visits_back), (0, 2), strict=True):
    for n, tile in enumerate(walk):
        i0, i1, j0, j1 = tile
        even = tile[owner] // SIDE % 2 == 0
        ax.fill((j0, j1, j1, j0), (i0, i0, i1, i1), fc=BLUE if even else LIGHT, ec="white", lw=2)
        ax.text(j0 + SIDE / 2, i0 + SIDE / 2, n, ha="center", va="center", color="white" if even else "black")
    ax.set(
        xlim=(0, T),
        ylim=(T, 0),
        aspect="equal",
        xlabel="keys",
        xticks=range(0, T + 1, SIDE),
        yticks=range(0, T + 1, SIDE),
    )
axes[0].set_title("forward: rows own m, l, o")
axes[1].set_title("backward: keys own dK, dV")
axes[0].set_ylabel("rows")
fig.alt_text = (
    "The visited tiles of a mask with 24 rows and a Part A of 10, twice: forward they "
    "are numbered along the rows, backward down the columns; empty ones have none."
)


# %% [markdown]
# ## The same as the library, in float64
# `backend="reference"` builds the matrix and uses autograd; `kernel:scalar` is the slowest kernel of
# chapter 12. Largest differences:
# %%
def by_minglm(backend, q, k, v, grad, mask):
    q, k, v = (torch.from_numpy(x)[:, None].requires_grad_() for x in (q, k, v))  # (T, 1, D)
    out = masked_attention(q, k, v, mask, backend=backend)
    grads = torch.autograd.grad(out, (q, k, v), torch.from_numpy(grad)[:, None])
    return [x.detach()[:, 0].numpy() for x in (out, *grads)]


T, D = (77, 16) if FAST else (300, 32)
q, k, v, grad = rng.normal(size=(4, T, D))
for part_a_len in (0, T // 3, T):  # GPT, GLM, BERT
    out, lse = forward(q, k, v, part_a_len, 32, 64, [])
    ours = out, *backward(q, k, v, out, lse, grad, part_a_len, 32, 64, [])
    for backend in ("reference", "kernel:scalar"):
        try:
            theirs = by_minglm(backend, q, k, v, grad, GLMMask.packed([T], [part_a_len]))
        except ValueError as why:
            print(f"{backend}: not here ({why})")
            continue
        off = [abs(x - y).max() for x, y in zip(ours, theirs, strict=True)]
        print(
            f"part_a_len {part_a_len:3}  {backend:14} O {off[0]:.0e}  dQ {off[1]:.0e}"
            f"  dK {off[2]:.0e}  dV {off[3]:.0e}"
        )
        assert max(off) < 1e-12

# %% [markdown]
# Numpy's memory at its peak:
# %%
T = 512 if FAST else 2048
q, k, v = rng.normal(size=(3, T, 32))
for name, run in (
    ("at once", lambda: at_once(q, k, v, T // 2)),
    ("in tiles", lambda: forward(q, k, v, T // 2, 32, 64, [])),
):
    tracemalloc.start()
    run()
    print(f"T = {T}, {name:8}: {tracemalloc.get_traced_memory()[1] / 2**20:7.2f} MiB at most")
    tracemalloc.stop()

# %% [markdown]
# ## The work that is saved
# Pairs of a row and a key, for a sample of 512 tokens. Small tiles follow the edge of the mask more closely;
# large ones use what they load more often.
# %% picture
T, lens = 512, (0, 128, 256, 384, 512)
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), sharey=True, layout="constrained")
for ax, (rows, keys) in zip(axes, ((32, 64), (128, 128)), strict=True):
    for n, part_a_len in enumerate(lens):
        visits = []
        _, number, pairs, _ = tile_facts(GLMMask.packed([T], [part_a_len]), rows, keys)
        forward(*np.zeros((3, T, 1)), part_a_len, rows, keys, visits)
        assert len(visits) == number["full"] + number["partial"]
        seen, visited = pairs["seen"] / T**2, pairs["visited"] / T**2
        ax.bar(n, seen, color=BLUE)
        ax.bar(n, visited - seen, bottom=seen, color=AMBER)
        ax.bar(n, 1 - visited, bottom=visited, color=FAINT, ec=THEMES["light"]["grid"])
        ax.text(
            n, min(visited + 0.02, 0.97), f"{visited:.0%}", ha="center", va="bottom" if visited < 1 else "top"
        )
    ax.set(xticks=range(len(lens)), xticklabels=lens, ylim=(0, 1.01), yticks=[])
    ax.set(xlabel="length of Part A", title=f"tiles of {rows} x {keys}")
    ax.spines[["top", "right", "left"]].set_visible(False)
axes[1].texts[-1].set_color("white")
axes[0].texts[-1].set_color("white")
fig.legend(
    [plt.Rectangle((0, 0), 1, 1, fc=colour, ec="#DDDDDD") for colour in (BLUE, AMBER, FAINT)],
    ["seen", "visited in vain", "skipped"],
    loc="outside upper center",
    ncols=3,
    frameon=False,
)
fig.alt_text = (
    "Shares of all pairs. With tiles of 32 x 64, 56 to 100 percent are visited, hardly more than are "
    "seen; with tiles of 128 x 128, 62 to 100 percent."
)


# %% [markdown]
# (PyTorch's FlexAttention skips empty tiles too, with GLM's `mask_mod`:
# `(kv_idx < part_a_len[b]) | (kv_idx <= q_idx)`.)
#
# **Remember:** a softmax needs only a maximum, a sum and a weighted sum, and a new maximum shrinks the old
# sums. The first and last row of a tile tell whether it is full, partial or empty; empty ones are skipped.
# The backward pass needs one number per row, $\mathrm{lse}$, and recomputes the weights.
#
# ## Exercises
# **1. ★★ Merge.** Two threads went through different keys of one row; each holds $(m, l, o)$. Write
# `merge(a, b)`, which returns that of all the keys. One of them may have seen nothing yet: $(-\infty, 0, 0)$.
# %% check
def check_merge(merge):
    rng = np.random.default_rng(1)
    for n, cut in ((2, 1), (9, 4), (9, 0), (9, 9)):
        s, v = 5 * rng.normal(size=n) + 400, rng.normal(size=n)
        parts = []
        for piece in (slice(0, cut), slice(cut, n)):
            m = s[piece].max(initial=-np.inf)
            w = np.exp(s[piece] - m)
            parts.append((m, w.sum(), w @ v[piece]))
        for a, b in (parts, parts[::-1]):
            answer = merge(a, b)
            assert answer is not None, "merge returned None: did you forget `return`?"
            m, total, o = answer
            assert m == s.max(), f"m is {m}, the largest score is {s.max()}"
            w = np.exp(s - s.max())
            early = np.isclose(o, w @ v / w.sum()) and not np.isclose(o, w @ v)
            assert not early, "your o is already divided by l; divide only at the very end"
            assert np.allclose((total, o), (w.sum(), w @ v)), (
                f"{n} keys cut at {cut}: l, o = {total:.3g}, {o:.3g}; they are {w.sum():.3g}, {w @ v:.3g}"
            )
    print("✓ check_merge: four cuts, in both orders")


# %%
def merge(a, b): ...  # your answer


# check_merge(merge)  # uncomment


# %% [markdown]
# **2. ★★ The first row.** From some row on, all rows see key `j`, so `backward` need not ask every tile.
# Write `first_row(j, part_a_len)`.
# %% check
def check_first_row(first_row):
    for T, part_a_len in ((6, 0), (6, 1), (6, 4), (6, 6)):
        grid = GLMMask.packed([T], [part_a_len]).dense().numpy()
        for j in range(T):
            want = int(grid[:, j].argmax())
            got = first_row(j, part_a_len)
            assert got is not None, "first_row returned None: did you forget `return`?"
            where = f"part_a_len {part_a_len}, key {j}"
            assert got == want, f"{where}: you say row {got}, but it is row {want}"
    print("✓ check_first_row: 24 keys")


# %%
def first_row(j, part_a_len): ...  # your answer


# check_first_row(first_row)  # uncomment


# %% [markdown]
# **3. ★ Count.** A sample of 512 with a Part A of 256, in tiles of 64 x 64: how many are full, how many
# partial? Give `[full, partial]`.
# %% check
def check_tiles(counts):
    grid = GLMMask.packed([512], [256]).dense().numpy()
    tiles = grid.reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(64, -1)
    full, partial = int(tiles.all(1).sum()), int((tiles.any(1) & ~tiles.all(1)).sum())
    assert sum(counts) == full + partial, f"{sum(counts)} visited tiles is not right"
    assert list(counts) == [full, partial], "the sum is right, but not the two numbers"
    print(f"✓ check_tiles: {full} full, {partial} partial, {64 - full - partial} never visited")


# %%
# check_tiles([..., ...])

# %% [markdown]
# ## Read on
# - [`csrc/mask.h`](../csrc/mask.h): the rule for C++ and CUDA, `keys_of_row` and `first_row_of_key`.
# - [`csrc/cpu/tiled.cpp`](../csrc/cpu/tiled.cpp): `forward` and `backward` as above.
# - Milakov and Gimelshein 2018 (arXiv 1805.02867): the online softmax; Dao et al. 2022 (arXiv 2205.14135),
#   algorithms 1 and 4: attention in tiles.
# - Next: [the CPU kernel](12_the_cpu_kernel.md) makes this fast.
