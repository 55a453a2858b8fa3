# %% [markdown]
# # 08 The CPU kernel
# *How fast can a CPU go, and why?*
#
# Chapter 07 cut attention into tiles. `csrc/cpu` says the same in C++, as a ladder: each rung has
# one idea more than the one below and gives the same answers. This chapter climbs it. Every rate
# below was measured by the cell above it, on the machine that made this page; the text holds on
# yours too, where the numbers will be others. Run it.

# %%
import math
import os
import re
import statistics
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import minglm
from minglm import GLMMask, keys_of_row, masked_attention
from minglm.attention import backends, kernel_rungs
from minglm.bench import timing
from minglm.bench.attention import Bench
from minglm.bench.cases import BOTH, FORWARD, Shape, draw
from minglm.bench.variants import front_door, sdpa
from minglm.viz.palette import KINDS

FAST = os.environ.get("MINGLM_FAST") == "1"
BLUE, LIGHT, AMBER, RED = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))
PLACES = (Path(minglm.__file__).parents[1], Path.cwd(), Path.cwd().parent)
CSRC = next((place / "csrc" for place in PLACES if (place / "csrc" / "cpu").is_dir()), None)

print(timing.machine_line(timing.machine()))
print("kernel:", next(why for name, _, why in backends() if name == "kernel"))
for rung in kernel_rungs():
    where = "not in this build" if not rung["built"] else "this machine cannot run it"
    serves = [dtype for dtype in ("float32", "bfloat16", "float64") if rung[dtype]]
    print(f"  {rung['name']:12}", ", ".join(serves) if rung["supported"] else where)

# %% [markdown]
# A rung that is missing there is left out below; without the extension only PyTorch is measured,
# and `minglm info` says why.
#
# ## How work is counted
# Only what is asked for counts: pairs of a row and a key that it sees. Such a pair costs $D$
# multiply-adds for $q \cdot k$ and $D$ for its share of $P V$. A multiply-add is two operations,
# so forward is $4D$ a pair and head, and backward is five more products of that size: $14D$ for
# both. On paper, with 6 rows, a Part A of 4, one head of width 2:

# %% exact
pairs = [keys_of_row(i, 4) for i in range(6)]
print("keys of each row", pairs, "-> pairs", sum(pairs), "of", 6 * 6)
print("useful operations: forward", 4 * 2 * sum(pairs), "  with backward", 14 * 2 * sum(pairs))

shape = Shape("paper", GLMMask.packed([6], [4]), heads=1, head_dim=2, kind="training", about="")
assert shape.pairs == sum(pairs) and shape.flop(BOTH) == 14 * 2 * sum(pairs)

# %% [markdown]
# What a method computes beyond that (hidden pairs, padding) is its own loss. So rates are
# comparable.
#
# ## Below the first rung: loops in Python
# The formulas, word by word. `kernel:scalar` is this in C++, in double precision.

# %%
def by_loops(q, k, v, part_a_len):
    out = []
    for i, row in enumerate(q):
        keys = range(keys_of_row(i, part_a_len))
        s = [sum(a * b for a, b in zip(row, k[j], strict=True)) / math.sqrt(len(row)) for j in keys]
        weights = [math.exp(x - max(s)) for x in s]
        out.append([sum(w * v[j][d] for j, w in zip(keys, weights, strict=True)) / sum(weights)
                    for d in range(len(row))])
    return out


T, A, D = 24, 12, 32
small = Shape("small", GLMMask.packed([T], [A]), 1, D, "training", "")
case = draw(small, torch.float64)
q, k, v = (x[:, 0].tolist() for x in (case.q, case.k, case.v))
want = masked_attention(case.q, case.k, case.v, small.mask, backend="reference")[:, 0]
assert (torch.tensor(by_loops(q, k, v, A), dtype=torch.float64) - want).abs().max() < 1e-14

seconds = statistics.median(timing.alternate({"": lambda: by_loops(q, k, v, A)}, 0.2)[""])
loops_rate = small.flop(FORWARD) / seconds / 1e9
print(f"loops in Python: {loops_rate:.4f} useful GFLOP/s")

# %% [markdown]
# First the check, then the clock; it stays that way.
#
# ## What limits a product
# A core multiplies and adds vectors in a single instruction, and can begin one or two of them
# every cycle. But numbers must be in registers before. A dot product takes two from memory for
# every multiply-add, and then loading is what one waits for. So compute a *tile* of the product at
# once: for two rows of $A$ and three columns of $B$, each step along the inner dimension loads 2 +
# 3 = 5 numbers and makes 6 multiply-adds. Count it:

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
    print(f"tile {rows} x {columns:2}: {12**3} multiply-adds, {loads:4} loads,"
          f" {12**3 / loads:.1f} for each load")

# %% [markdown]
# Larger is better until registers run out. The vector rungs take `MR` = 6 rows and `NV` vectors of
# `W` numbers. A step loads `NV` vectors of one factor, and each of the 6 numbers of the other one,
# copied to all places of a vector. That needs `MR * NV + NV + 1` registers:

# %%
SETS = {"avx2": (8, 2, 16), "avx512": (16, 4, 32), "neon": (4, 4, 32)}  # W, NV, registers
MR = 6
for name, (W, NV, registers) in SETS.items():
    print(f"{name:7} {MR} x {NV} vectors of {W:2}: {MR * NV + NV + 1} of {registers} registers, "
          f"{MR * NV} vector multiply-adds for {MR + NV} loads")
    if CSRC:  # the sources say so too
        text = "".join(path.read_text() for path in CSRC.glob(f"cpu/{name}.*"))
        assert re.search(rf"constexpr int W = {W}, NV = {NV};", text)

fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), width_ratios=(20, 68), layout="constrained")
for ax, name in zip(axes, ("avx2", "avx512"), strict=True):
    W, NV, _ = SETS[name]
    for n in range(NV):
        for r in range(-1, MR):
            colour = LIGHT if r < 0 else BLUE
            ax.add_patch(plt.Rectangle((n * W, r - 0.35 * (r < 0)), W - 0.6, 0.85, color=colour))
    for r in range(MR):
        ax.add_patch(plt.Rectangle((-3, r), 1.6, 0.85, color=AMBER))
    ax.set(xlim=(-3.5, NV * W), ylim=(MR, -1.5), title=f"{name}: {MR} x {NV * W}",
           xticks=range(0, NV * W + 1, W), yticks=[])
    ax.spines[:].set_visible(False)
axes[0].set_xlabel("columns")
axes[1].set_xlabel("dark: the tile, in registers; light: a row of B; amber: a column of A")
fig.alt_text = ("A tile of a product in registers: 6 rows by 2 vectors of 8 numbers for AVX2, "
                "6 rows by 4 vectors of 16 for AVX-512, with the row and the column that one step "
                "loads.")

# %% [markdown]
# All five products of attention and its gradients go through one such loop. Here it is, once for
# every instruction set (`broadcast`, `load` and `dot` are one instruction each):

# %%
if CSRC:
    text = (CSRC / "cpu" / "vector.inc").read_text()
    begin = text.index("// t += A B for `inner` words")
    print(text[begin : text.index("\n}\n", begin) + 2])
else:
    print("csrc/ is not beside this file: csrc/cpu/vector.inc, add_product")

# %% [markdown]
# Its inner loop reads memory in one direction, without gaps, because keys and values were *packed*
# for it: copied once into panels as wide as the tile, and used for many rows. And `exp`, which is
# no instruction at all, is a shift of the exponent and a polynomial (exercise 3).
#
# ## The ladder, measured
# One sample of which half is Part A, four heads of width 64, forward and backward. `Bench` does
# what `minglm bench attention` does: every variant is checked against float64 first, output and
# gradients, and may err twice as much as plain PyTorch does at that precision. What is wrong is
# not timed. Then all run in turn, so that the machine's moods hit everybody. PyTorch's own
# `scaled_dot_product_attention` gets its fastest of three forms: a boolean mask, a float mask, or
# Part A's rows without a mask and Part B's with one.

# %%
IDEAS = {
    "naive": "PyTorch: the whole matrix, mask, softmax", "sdpa": "PyTorch's fused attention",
    "scalar": "loops in C++, double precision", "tiled": "tiles, online softmax",
    "avx2": "tiles in registers, vectors of 8", "avx512": "vectors of 16, twice the registers",
    "avx512_bf16": "two bfloat16 products in one step", "neon": "vectors of 4",
}
T = 128 if FAST else 512
mixed = Shape("half", GLMMask.packed([T], [T // 2]), 4, 64, "training", "")
bench = Bench([rung for rung in kernel_rungs() if rung["supported"]], 0.4 if FAST else 6, True)
rates, gemm = {}, {}  # useful GFLOP/s, forward and backward
for dtype in ("float32", "bfloat16"):
    print(f"\n{dtype:12} GFLOP/s   of GEMM   x PyTorch   error / fair   idea")
    found = {}
    for row in bench.measure(mixed, dtype):
        name = row["variant"].removeprefix("kernel:").split()[0]
        if row["status"] == "wrong":
            print(f"{name:12} {row['note']}")
        if row["status"] == "timed" and row[BOTH]["ms"] < found.get(name, row)[BOTH]["ms"] + 1e-9:
            found[name] = row
    for name, row in found.items():
        x = row[BOTH]
        print(f"{name:12} {x['gflop_per_s']:7.1f} {x['of_gemm']:9.2f} {x.get('ratio', 0):11.2f}"
              f" {row['of_fair']:14.2f}   {IDEAS[name]}")
        assert row["of_fair"] <= 1
    rates[dtype] = {name: row[BOTH]["gflop_per_s"] for name, row in found.items()}
    gemm[dtype] = statistics.median(row[BOTH]["gemm_gflop_per_s"] for row in found.values())

# %% [markdown]
# *GEMM* is the rate of this machine's best matrix product, timed in the same minutes: the ceiling
# for code that does nothing else. *x PyTorch* is how many times as fast as the fastest of
# PyTorch's ways. The picture counts in powers of ten: a rung's length against the one above it is
# what its idea is worth here.

# %%
names = ["loops"] + [name for name in IDEAS if any(name in found for found in rates.values())]
fig, axes = plt.subplots(1, 2, sharey=True, figsize=(7, 3.4), layout="constrained")
for ax, dtype in zip(axes, rates, strict=True):
    found = {"loops": loops_rate} | rates[dtype]
    for y, name in enumerate(names):
        if name not in found:
            ax.text(2e-3, y, "does not serve it", va="center", fontsize=8, color="#5A5F66")
            continue
        colour = RED if name in ("naive", "sdpa") else AMBER if name == "loops" else BLUE
        ax.barh(y, found[name], color=colour, height=0.7, left=1e-3)
        ax.text(found[name] * 1.2, y, f"{found[name]:.3g}", va="center", fontsize=8,
                bbox=dict(facecolor="white", edgecolor="none", pad=1))
    ax.axvline(gemm[dtype], color="black", ls="--", lw=1, zorder=0)
    ax.text(gemm[dtype], -0.75, "GEMM", ha="center", fontsize=8)
    ax.set(xscale="log", xlim=(1e-3, 20 * max(gemm.values())), title=dtype + "\n",
           xlabel="useful GFLOP/s")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(len(names)), names)
axes[0].set_ylim(len(names) - 0.5, -0.6)
best = {dtype: max(found, key=found.get) for dtype, found in rates.items()}
fig.alt_text = (f"Useful GFLOP/s of every way to compute attention here, on a logarithmic axis: "
                f"fastest are {best['float32']} in float32 and {best['bfloat16']} in bfloat16.")

# %% [markdown]
# (`loops` is forward alone, on a small sample, in Python's own double precision.)
#
# ## Does the mask pay?
# The same length, more and more of it Part A. Each curve is measured against its own time for GPT,
# where half of the pairs are seen. The dashed line is the work that there is (chapter 07). Which
# method follows it? (At 1 every pair is seen, and PyTorch is given no mask at all.)

# %%
T = 256 if FAST else 1024
methods = {"naive": "reference", "sdpa": "sdpa"}
methods |= {"kernel": "kernel"} if backends()[0][1] else {}
runs, work, shares = {}, [], (0, 0.25, 0.5, 0.75, 1)
for share in shares:
    shape = Shape("", GLMMask.packed([T], [int(share * T)]), 4, 64, "training", "")
    case = draw(shape, torch.float32)
    work.append(shape.pairs / T**2)
    truth = masked_attention(case.q, case.k, case.v, shape.mask, backend="reference")
    for name, backend in methods.items():
        variant = front_door(case, backend) if name != "sdpa" else sdpa(case, "bool", "by sample")
        (out,), _ = variant.forward()
        out = out if name != "sdpa" else out[0].transpose(0, 1)
        assert torch.allclose(out, truth, atol=1e-5)
        runs[name, share] = variant.forward
taken = timing.alternate(runs, 0.5 if FAST else 12)
fig, ax = plt.subplots(figsize=(7, 3.3), layout="constrained")
ax.plot(shares, [x / work[0] for x in work], "--", color="black", lw=1.5, zorder=3,
        label="work: pairs that are seen")
for name, marker, colour in (("naive", "x", AMBER), ("sdpa", "D", RED), ("kernel", "o", BLUE)):
    if name not in methods:
        continue
    times = [min(taken[name, share]) for share in shares]
    ax.plot(shares, [t / times[0] for t in times], marker=marker, color=colour, lw=2, label=name)
    print(f"{name:7}" + "".join(f"{1e3 * t:9.2f} ms" for t in times))
ax.set(xlabel="Part A as a share of the sample", ylabel="time / time at 0", ylim=(0, None),
       xticks=shares)
ax.legend(frameon=False, loc="lower left", ncols=2)
ax.spines[["top", "right"]].set_visible(False)
fig.alt_text = ("Time of a forward pass against the share of Part A, for each method relative to "
                "its own time for GPT, beside the number of pairs that are seen.")

# %% [markdown]
# ## Threads
# A task is one head of one sample. Tasks touch nothing of each other's, so threads take the
# longest that is left and never wait for a lock. A task larger than half of a thread's fair share
# is cut: forward by rows, backward by tiles of keys, each thread adding its own $dQ$. Those are
# summed in a fixed order at the end, so that results repeat bit for bit. On paper, for two
# threads:

# %% exact
def plan(work, threads, may_cut=True):
    """Which tasks are cut for all threads, who does the others: (cut, load of each thread)."""
    cut = [x for x in work if may_cut and x > sum(work) / (2 * threads)]
    loads = [sum(cut) / threads] * threads
    for x in sorted((x for x in work if x not in cut), reverse=True):
        loads[loads.index(min(loads))] += x  # whoever is free first takes the next
    return cut, loads


for work in ([120, 40, 30, 20], [30] * 6):
    cut, loads = plan(work, 2)
    print(f"tasks {work}: cut {cut}, loads {loads}; without cutting {plan(work, 2, False)[1]}")

# %%
if backends()[0][1]:
    shape = Shape("", GLMMask.packed([700, 300, 77], [350, 150, 0]), 3, 64, "training", "")
    case = draw(shape, torch.float32)
    first, again = (front_door(case, "kernel").both() for _ in range(2))
    same = all(torch.equal(x, y) for x, y in zip(first[0] + list(first[1]),
                                                 again[0] + list(again[1]), strict=True))
    print("twice the same bits:", same)
    assert same
    before, seconds = torch.get_num_threads(), {}
    for threads in sorted({1, before}):
        torch.set_num_threads(threads)
        run = front_door(case, "kernel").both
        run()
        began = time.perf_counter()
        for _ in range(2 if FAST else 30):
            run()
        seconds[threads] = time.perf_counter() - began
    torch.set_num_threads(before)
    print(f"{before} threads: {seconds[1] / seconds[before]:.2f} times as fast as one")
else:
    print("no extension here: nothing to run on threads")

# %% [markdown]
# ## Exercises
# **1. Count pairs.** `pairs(T, part_a_len)`: how many pairs are seen, without a loop?

# %%
def check_pairs(pairs):
    for T, part_a_len in ((1, 0), (1, 1), (6, 4), (7, 0), (7, 7), (512, 100)):
        want = int(GLMMask.packed([T], [part_a_len]).visible_keys().sum())
        got = pairs(T, part_a_len)
        assert got == want, f"T = {T}, Part A of {part_a_len}: {got} pairs; looking finds {want}"


# check_pairs(lambda T, part_a_len: ...)

# %% [markdown]
# **2. The best tile.** Of all tiles of `rows` x `vectors` that fit into 32 registers (with the
# `vectors` and the one register that a step loads into), which makes the most multiply-adds for
# each load? Give `(rows, vectors)`. (The library's is close to it, and its four vectors of 16 are
# 64 columns: a common width of heads.)

# %%
def check_best_tile(tile):
    def per_load(rows, vectors):
        return rows * vectors / (rows + vectors)

    rows, vectors = tile
    used = rows * vectors + vectors + 1
    assert used <= 32, f"{rows} x {vectors} needs {used} registers"
    for r in range(1, 32):
        for n in range(1, 32):
            fits = r * n + n + 1 <= 32
            assert not fits or per_load(r, n) <= per_load(rows, vectors), (
                f"it fits and makes {per_load(rows, vectors):.2f}; another one makes more")


# check_best_tile((..., ...))

# %% [markdown]
# **3. An exponential.** Write `exp_of(x)` for a float64 array between -80 and 80 with nothing but
# `+`, `*`, `np.round` and `np.ldexp(y, n)`, which is $y\,2^n$. Two hints: $e^x = 2^{x \log_2 e}$;
# and for $|f| \le 1/2$ a few terms of $2^f = \sum_k (f \ln 2)^k / k!$ are enough for an error
# below $10^{-7}$.

# %%
def check_exp(exp_of):
    x = np.concatenate([np.random.default_rng(0).uniform(-80, 80, 1000), [0.0, 1.0, -1.0]])
    with np.errstate(all="ignore"):
        off = np.abs(np.asarray(exp_of(x)) * np.exp(-x) - 1)
    worst = int(np.nan_to_num(off, nan=np.inf).argmax())
    assert off[worst] < 1e-7, f"exp_of({x[worst]:.4g}) is off by {off[worst]:.1e} of it"


# check_exp(lambda x: ...)

# %% [markdown]
# ## Read on
# - [`csrc/README.md`](../csrc/README.md): the ladder with serious measurements, and a table of
#   ideas that were tried and not kept.
# - [`csrc/cpu/vector.inc`](../csrc/cpu/vector.inc): `add_product`, then `forward_group`, then
#   `exp_of`. [`avx2.cpp`](../csrc/cpu/avx2.cpp) is the small vector type that it stands on.
# - [`csrc/cpu/cpu.cpp`](../csrc/cpu/cpu.cpp): `Plan`, and how a rung is chosen when the library
#   loads.
# - `minglm bench attention` measures eleven shapes; `--quick` takes a minute.
