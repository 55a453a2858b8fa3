# %% [markdown]
# # 12 The CPU kernel
# *How fast can a CPU go, and why?*
#
# `csrc/cpu` has the attention of chapter 11 in C++, as a ladder: each *rung* adds one idea to the one below
# and gives the same answers. Rates are those of one machine.
#
# - **After this chapter you can** count useful work, explain what register tiles buy, and read the kernel's
#   benchmark.
# - **You need** [chapter 11](11_tiles.md).
# %% imports
import math
import statistics

import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, masked_attention
from minglm.attention import kernel_rungs
from minglm.bench import timing
from minglm.bench.attention import Bench
from minglm.bench.cases import BOTH, FORWARD, Shape, draw
from minglm.bench.variants import front_door
from minglm.course.chapters import FAST
from minglm.course.chapters.the_cpu_kernel import (
    IDEAS,
    check_best_tile,
    check_exp,
    check_loads_of,
    fig_ladder,
    fig_loads,
    fig_pairs,
    fig_registers,
    fig_shares,
    rungs_here,
    shares_table,
    time_shares,
)
from minglm.course.sources import source_of
from minglm.viz import Explorer

# %%
print(rungs_here())

# %% [markdown]
# ## How work is counted
# Only useful work counts: pairs of a row and a key that it sees. A pair costs $D$ multiply-adds for $q \cdot
# k$ and $D$ for its share of $P V$, each two operations: $4D$ per pair and head forward, and $14D$ with the
# five products of backward. With 6 rows, a Part A of 4, one head of width 2:
# %%
fig_pairs(explain("x1 x2 x3 x4 x5".split(), [(3, 5)], [0], "document"))


# %% exact
def one(T, part_a_len, heads=4, head_dim=64):
    """One sample, as the library's bench describes it."""
    mask = GLMMask.packed([T], [part_a_len])
    return Shape("one sample", mask, heads, head_dim, kind="training", about="")


pairs = [keys_of_row(i, 4) for i in range(6)]
print("keys of each row", pairs, "-> pairs", sum(pairs), "of", 6 * 6)
print("useful operations: forward", 4 * 2 * sum(pairs), "  with backward", 14 * 2 * sum(pairs))

paper = one(6, 4, heads=1, head_dim=2)
assert paper.flop(FORWARD) == 4 * 2 * sum(pairs) and paper.flop(BOTH) == 14 * 2 * sum(pairs)


# %%
Explorer(explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]), (5, 5))  # coloured: useful work


# %% [markdown]
# ## Below the first rung: loops in Python
# The formulas, word for word; `kernel:scalar` is this in C++. We check first, then measure.
# %%
def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def by_loops(q, k, v, part_a_len):
    out = []
    for i in range(len(q)):
        keys = range(keys_of_row(i, part_a_len))
        s = [dot(q[i], k[j]) / math.sqrt(len(q[i])) for j in keys]
        m = max(s)
        p = [math.exp(x - m) for x in s]
        total = sum(p)
        out.append([sum(p[j] * v[j][d] for j in keys) / total for d in range(len(v[0]))])
    return out


small = one(24, 12, heads=1, head_dim=32)
case = draw(small, torch.float64)
q, k, v = (x[:, 0].tolist() for x in (case.q, case.k, case.v))
want = masked_attention(case.q, case.k, case.v, small.mask, backend="reference")[:, 0]
assert (torch.tensor(by_loops(q, k, v, 12), dtype=torch.float64) - want).abs().max() < 1e-14

seconds = timing.alternate({"loops": lambda: by_loops(q, k, v, 12)}, seconds=0.5)["loops"]
loops_rate = small.flop(FORWARD) / statistics.median(seconds) / 1e9
print(f"loops in Python: {loops_rate:.4f} useful GFLOP/s")


# %% [markdown]
# ## What limits a product
# A core has 16 or 32 *registers*, each a vector of several numbers, and can start one or two multiply-adds
# of whole vectors per cycle. A dot product waits for loads; a *tile* of the product uses each number often:
# %%
fig_loads()


# %% exact
def product(a, b, rows, columns):
    """A B by tiles of rows x columns, and how many numbers were loaded."""
    c, loads = np.zeros((len(a), b.shape[1])), 0
    for i in range(0, len(a), rows):
        for j in range(0, b.shape[1], columns):
            tile = np.zeros((rows, columns))  # stays in registers
            for inner in range(len(b)):
                x, y = a[i : i + rows, inner], b[inner, j : j + columns]
                loads += len(x) + len(y)
                tile += x[:, None] * y
            c[i : i + rows, j : j + columns] = tile
    return c, loads


a, b = np.arange(144.0).reshape(12, 12), np.arange(144.0).reshape(12, 12)[::-1]
for rows, columns in ((1, 1), (2, 3), (4, 4), (6, 12)):
    c, loads = product(a, b, rows, columns)
    assert (c == a @ b).all()
    print(
        f"tile {rows} x {columns:2}: {12**3} multiply-adds, {loads:4} loads,"
        f" {12**3 / loads:.1f} for each load"
    )

# %% [markdown]
# Larger is better until registers run out. The vector rungs take 6 rows and `NV` vectors of `W` numbers; each
# number of $A$ is copied to all places of one more vector:
# %% exact
for name, W, NV, registers in (("avx2", 8, 2, 16), ("avx512", 16, 4, 32), ("neon", 4, 4, 32)):
    print(
        f"{name:7} 6 x {NV} vectors of {W:2}: {6 * NV + NV + 1} of {registers} registers, "
        f"{6 * NV} vector multiply-adds for {NV} + 6 loads"
    )

fig_registers()

# %% [markdown]
# This loop is written once for all instruction sets: `MR` = 6, `NV` and the vector type are known at compile
# time; `broadcast`, `load` and `dot` are one instruction each.
# %%
print(source_of("cpu/vector.inc", "// t += A B for `inner` words"))

# %% [markdown]
# Keys and values were *packed* before, into panels as wide as the tile. Exercise 3 is `exp`.
#
# ## The ladder, measured
# Half of one sample is Part A; four heads of width 64, forward and backward. Every variant is checked against
# float64: *error / fair* is its error as a share of what rounding may do (above 1 it is not timed). All run
# in turn; medians count.
#
# - *x PyTorch*: relative to the fastest of three forms of PyTorch's `scaled_dot_product_attention` (`sdpa`).
# - *x below*: relative to the rung below; for `scalar`, to the loops in Python, forward alone.
# - *of GEMM*: share of the rate of PyTorch's own large matrix product.
# %%
half = one(128, 64) if FAST else one(512, 256)
rungs = [rung for rung in kernel_rungs() if rung["supported"]]
bench = Bench(rungs, seconds=0.4 if FAST else 8, patient=True)
rates, gemm = {}, {}  # useful GFLOP/s, forward and backward
for dtype in ("float32", "bfloat16"):
    fastest = {}  # of each name the fastest: sdpa has several forms
    for row in bench.measure(half, dtype):
        assert row["status"] != "wrong", row["note"]
        name = row["variant"].removeprefix("kernel:").split()[0]
        if row["status"] == "timed":
            fastest[name] = min(fastest.get(name, row), row, key=lambda row: row[BOTH]["ms"])
    rates[dtype] = {name: row[BOTH]["gflop_per_s"] for name, row in fastest.items()}
    gemm[dtype] = fastest["naive"][BOTH]["gemm_gflop_per_s"]

    print(f"\n{dtype:12} GFLOP/s  of GEMM  x PyTorch  x below  error / fair  idea")
    below = loops_rate
    for name, rate in rates[dtype].items():
        row, step = fastest[name], ""
        if row["variant"].startswith("kernel"):
            step, below = f"{rate / below:.2f}", rate
        print(
            f"{name:12} {rate:7.1f} {row[BOTH]['of_gemm']:8.2f} {row[BOTH]['ratio']:10.2f}"
            f" {step:>8} {row['of_fair']:13.2f}  {IDEAS[name]}"
        )

fig_ladder(rates, gemm)

# %% [markdown]
# ## Does the mask pay?
# The same length with more and more Part A; forward only. From 0 (GPT) to 1 (BERT) the useful work doubles,
# and an ideal method's time with it. (PyTorch's `is_causal=True` serves 0 alone.)
# %%
taken, work = time_shares(T=256 if FAST else 1024, seconds=0.5 if FAST else 15)
print(shares_table(taken))
fig_shares(taken, work)

# %% [markdown]
# ## Threads
# A task is one head of one sample; a free thread takes the largest left, and very large ones are divided.
# Sums have a fixed order, so with the same number of threads results repeat bit for bit.
# %%
mask, before = GLMMask.packed([700, 300, 77], [350, 150, 0]), torch.get_num_threads()
case = draw(Shape("three samples", mask, 3, 64, "training", ""), torch.float32)
both = front_door(case, "auto").both  # the kernel, where there is one


def on(threads):
    torch.set_num_threads(threads)
    outs, grads = both()
    return [*outs, *grads]


assert all(torch.equal(x, y) for x, y in zip(on(before), on(before), strict=True))
taken = timing.alternate({n: lambda n=n: on(n) for n in {1, before}}, seconds=0.3 if FAST else 5)
torch.set_num_threads(before)
times = timing.speedup(taken[1], taken[before]).median
print(f"twice the same bits; threads: {before}, times as fast as one: {times:.2f}")


# %% [markdown]
# **Remember:** count only pairs that are seen, check before you time, and keep a tile of the product in
# registers: it makes many multiply-adds per load. Skipping hidden tiles lets the time follow the mask.
#
# ## Exercises
# **1. ★★ Count loads.** Write `loads_of(M, K, N, rows, columns)` without a loop: the numbers that `product`
# loads for $M \times K$ by $K \times N$, in tiles of `rows` x `columns` that divide $M$ and $N$.
# %%
def loads_of(M, K, N, rows, columns): ...  # your answer


# check_loads_of(loads_of)  # uncomment


# %% [markdown]
# **2. ★★ The best tile.** Of all tiles of `rows` x `vectors` that fit into 32 registers (with the `vectors`
# and the one more that a step loads into), which makes the most multiply-adds per load? Give
# `(rows, vectors)`.
# %%
# check_best_tile((..., ...))


# %% [markdown]
# **3. ★★★ An exponential.** Write `exp_of(x)` for a float64 array between -80 and 80 with nothing but `+`,
# `*`, `np.round` and `np.ldexp(y, n)`, which is $y\,2^n$ (with `n.astype(int)`). Hints:
# $e^x = 2^{x \log_2 e}$; for $|f| \le 1/2$ a few terms of $2^f = \sum_k (f \ln 2)^k / k!$ give an error below
# $10^{-7}$.
# %%
def exp_of(x): ...  # your answer


# check_exp(exp_of)  # uncomment

# %% [markdown]
# ## Read on
# - [`csrc/README.md`](../csrc/README.md): more measurements, and ideas that were tried and dropped.
# - [`csrc/cpu/vector.inc`](../csrc/cpu/vector.inc): `add_product`, `forward_group`, `exp_of`;
#   [`avx2.cpp`](../csrc/cpu/avx2.cpp): its vector type.
# - [`csrc/cpu/cpu.cpp`](../csrc/cpu/cpu.cpp): `Plan`, and how a rung is chosen when the library loads.
# - `minglm bench attention` measures eleven shapes; `--quick` takes a minute.
# - Next: [the CUDA kernel](13_the_cuda_kernel.md).
