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
import tracemalloc

import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, masked_attention
from minglm.course.chapters import FAST
from minglm.course.chapters.tiles import (
    check_first_row,
    check_merge,
    check_tiles,
    fig_band,
    fig_running_softmax,
    fig_walks,
    fig_work,
)
from minglm.viz import Explorer
from minglm.viz.figures import fig_tiles

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
# %%
fig_running_softmax(np.log([3, 9, 7, 8, 20, 1, 3, 1, 5, 16, 6, 11, 1, 9, 3, 56]))


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
# %%
fig_band(T, A, SIDE)


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
# %%
fig_walks(visits, visits_back, SIDE)


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
# %%
fig_work(forward)


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
# %%
def merge(a, b): ...  # your answer


# check_merge(merge)  # uncomment


# %% [markdown]
# **2. ★★ The first row.** From some row on, all rows see key `j`, so `backward` need not ask every tile.
# Write `first_row(j, part_a_len)`.
# %%
def first_row(j, part_a_len): ...  # your answer


# check_first_row(first_row)  # uncomment


# %% [markdown]
# **3. ★ Count.** A sample of 512 with a Part A of 256, in tiles of 64 x 64: how many are full, how many
# partial? Give `[full, partial]`.
# %%
# check_tiles([..., ...])

# %% [markdown]
# ## Read on
# - [`csrc/mask.h`](../csrc/mask.h): the rule for C++ and CUDA, `keys_of_row` and `first_row_of_key`.
# - [`csrc/cpu/tiled.cpp`](../csrc/cpu/tiled.cpp): `forward` and `backward` as above.
# - Milakov and Gimelshein 2018 (arXiv 1805.02867): the online softmax; Dao et al. 2022 (arXiv 2205.14135),
#   algorithms 1 and 4: attention in tiles.
# - Next: [the CPU kernel](12_the_cpu_kernel.md) makes this fast.
