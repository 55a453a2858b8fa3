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
import os
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import minglm
from minglm import GLMMask, explain, keys_of_row, masked_attention
from minglm.attention import backends, kernel_rungs
from minglm.bench import timing
from minglm.bench.attention import Bench
from minglm.bench.cases import BOTH, FORWARD, Shape, draw
from minglm.bench.variants import front_door, sdpa
from minglm.machine import machine, machine_line
from minglm.viz import Explorer
from minglm.viz.figures.canvas import Canvas
from minglm.viz.figures.grid import cells
from minglm.viz.palette import KINDS

FAST = os.environ.get("MINGLM_FAST") == "1"
BLUE, LIGHT, AMBER, RED = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))

# %% setup
PLACES = (Path(minglm.__file__).parents[1], Path.cwd(), Path.cwd().parent)
CSRC = next((place / "csrc" for place in PLACES if (place / "csrc" / "cpu").is_dir()), None)
KERNEL, why = next((usable, why) for name, usable, why in backends() if name == "kernel")

print(machine_line(machine()))
print("kernel:", why)
for rung in kernel_rungs():
    where = "not in this build" if not rung["built"] else "this machine cannot run it"
    serves = [dtype for dtype in ("float32", "bfloat16", "float64") if rung[dtype]]
    print(f"  {rung['name']:12}", ", ".join(serves) if rung["supported"] else where)


# %% [markdown]
# ## How work is counted
# Only useful work counts: pairs of a row and a key that it sees. A pair costs $D$ multiply-adds for $q \cdot
# k$ and $D$ for its share of $P V$, each two operations: $4D$ per pair and head forward, and $14D$ with the
# five products of backward. With 6 rows, a Part A of 4, one head of width 2:
# %% picture
d = explain("x1 x2 x3 x4 x5".split(), [(3, 5)], [0], "document")
canvas, side = Canvas("light", 480), 26
for i, seen in enumerate(d.mask.sum(1)):
    assert seen == keys_of_row(i, 4)
    canvas.text(30, 14 + (i + 0.5) * side, f"row {i}", colour=canvas.look["soft"])
    canvas.text(84 + 6 * side, 14 + (i + 0.5) * side, str(seen))
cells(canvas, d.kind, 62, 14, side)
canvas.text(110 + 6 * side, 14 + 3 * side, f"useful pairs: {d.mask.sum()} of 36", ha="left", bold=True)
canvas.finish(28 + 6 * side, "Six rows, a Part A of 4: the rows see 4, 4, 4, 4, 5, 6 keys.")


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
# %% picture
canvas, side = Canvas("light", 620), 30
for x, rows, columns, name in ((70, 1, 1, "a dot product"), (330, 2, 3, "a tile of 2 x 3")):
    canvas.text(x - 46, 14, name, bold=True, ha="left")
    for i in range(rows):
        canvas.rectangle(x - 44, 74 + i * side, side - 4, side - 4, fill=AMBER)
    for j in range(columns):
        canvas.rectangle(x + j * side, 36, side - 4, side - 4, fill=LIGHT)
    for i, j in np.ndindex(rows, columns):
        canvas.rectangle(x + j * side, 74 + i * side, side - 4, side - 4, fill=BLUE)
    x += columns * side + 16
    canvas.text(x, 49, f"loads per step: {rows + columns}", ha="left")
    canvas.text(x, 87, f"multiply-adds: {rows * columns}", ha="left")
canvas.finish(142, "A dot product loads 2 numbers for 1 multiply-add, a tile of 2 x 3 loads 5 for 6.")


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
# %% setup
for name, W, NV, registers in (("avx2", 8, 2, 16), ("avx512", 16, 4, 32), ("neon", 4, 4, 32)):
    print(
        f"{name:7} 6 x {NV} vectors of {W:2}: {6 * NV + NV + 1} of {registers} registers, "
        f"{6 * NV} vector multiply-adds for {NV} + 6 loads"
    )

# %% picture
fig, ax = plt.subplots(figsize=(7, 2.5), layout="constrained")  # avx512
for n in range(4):
    ax.barh(range(6), 15.6, left=16 * n, color=BLUE, align="edge")
    ax.barh(-1.4, 15.6, left=16 * n, color=LIGHT, align="edge")
ax.barh(range(6), 1.6, left=-3, color=AMBER, align="edge")
for y, text, back, ink in (
    (-1, "a row of B: 4 loads", LIGHT, "black"),
    (2.9, "the tile of the product: 24 registers", BLUE, "white"),
):
    ax.text(32, y, text, ha="center", va="center", color=ink, bbox=dict(fc=back, ec="none", pad=2))
ax.set(ylim=(6, -1.5), yticks=[], xticks=range(0, 65, 16), ylabel="a column of A:\n6 loads")
ax.spines[:].set_visible(False)
fig.alt_text = (
    "A tile of a product in registers, for AVX-512: 6 rows by 4 vectors of 16 numbers; "
    "above it the row of B, left of it the column of A that one step loads."
)

# %% [markdown]
# This loop is written once for all instruction sets: `MR` = 6, `NV` and the vector type are known at compile
# time; `broadcast`, `load` and `dot` are one instruction each.
# %% setup
if CSRC:
    text = (CSRC / "cpu" / "vector.inc").read_text()
    begin = text.index("// t += A B for `inner` words")
    print(text[begin : text.index("\n}\n", begin) + 2])
else:
    print("csrc/ is not beside this file: csrc/cpu/vector.inc, add_product")

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
IDEAS = {
    "naive": "PyTorch: the whole matrix, mask, softmax",
    "sdpa": "PyTorch's fused attention",
    "scalar": "loops in C++, double precision",
    "tiled": "tiles, online softmax",
    "avx2": "a tile in registers, vectors of 8",
    "avx512": "vectors of 16, more registers",
    "avx512_bf16": "two bfloat16 products in one step",
    "neon": "a tile in registers, vectors of 4",
}
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

# %% picture
names = [name for name in IDEAS if any(name in found for found in rates.values())]
fig, axes = plt.subplots(1, 2, sharey=True, figsize=(7, 3.2), layout="constrained")
for ax, (dtype, found) in zip(axes, rates.items(), strict=True):
    longest = max(gemm[dtype], *found.values())
    ax.axvline(gemm[dtype], color="black", ls="--", lw=1, zorder=0)
    ax.text(gemm[dtype], -0.7, "GEMM", ha="center", va="bottom", fontsize=9)
    for y, name in enumerate(names):
        rate = found.get(name, 0)
        ax.barh(y, rate, color=RED if name in ("naive", "sdpa") else BLUE, height=0.7)
        ax.text(
            rate + 0.02 * longest,
            y,
            f"{rate:.0f}" if rate else f"{dtype} not supported",
            va="center",
            fontsize=9,
            bbox=dict(fc="white", ec="none", pad=1),
        )
    ax.set(
        xlim=(0, 1.2 * longest), ylim=(len(names) - 0.5, -0.6), xlabel="useful GFLOP/s", title=dtype + "\n"
    )
    ax.set_yticks(range(len(names)), names)
    ax.spines[["top", "right"]].set_visible(False)
best = {dtype: max(found, key=found.get) for dtype, found in rates.items()}
fig.alt_text = (
    f"Useful GFLOP/s of every way to compute attention here: fastest are "
    f"{best['float32']} in float32 and {best['bfloat16']} in bfloat16. A dashed line "
    "is the rate of a matrix product."
)

# %% [markdown]
# ## Does the mask pay?
# The same length with more and more Part A; forward only. From 0 (GPT) to 1 (BERT) the useful work doubles,
# and an ideal method's time with it. (PyTorch's `is_causal=True` serves 0 alone.)
# %% setup
T, shares = 256 if FAST else 1024, (0, 0.25, 0.5, 0.75, 1)
looks = {"naive": ("x", AMBER), "sdpa": ("D", RED)} | ({"kernel": ("o", BLUE)} if KERNEL else {})
runs, work = {}, []
for share in shares:
    case = draw(one(T, int(share * T)), torch.float32)
    ways = {"naive": front_door(case, "reference"), "sdpa": sdpa(case, "bool", "by sample")}
    if KERNEL:
        ways["kernel"] = front_door(case, "kernel")
    outs = {name: way.gather(*way.forward())[0] for name, way in ways.items()}
    assert all(torch.allclose(out, outs["naive"], atol=1e-5) for out in outs.values())
    runs |= {(name, share): way.forward for name, way in ways.items()}
    work.append(case.shape.pairs)
taken = timing.alternate(runs, seconds=0.5 if FAST else 15)

# %% picture
fig, (ax, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
right.plot(shares, [x / work[0] for x in work], "--", color="black", label="useful work")
print("Part A " + "".join(f"{share:12.2f}" for share in shares))
for name, (marker, colour) in looks.items():
    median = [statistics.median(taken[name, share]) for share in shares]
    print(f"{name:7}" + "".join(f"{1e3 * seconds:9.2f} ms" for seconds in median))
    grown = [timing.speedup(taken[name, share], taken[name, 0]).median for share in shares]
    ax.plot(shares, [1e3 * seconds for seconds in median], marker=marker, color=colour, lw=2, label=name)
    right.plot(shares, grown, marker=marker, color=colour, lw=2)
ax.set(ylabel="milliseconds", title="time (lower is faster)")
right.set(title="relative to Part A = 0")
right.legend(frameon=False, loc="lower left")
ax.legend(frameon=False)
for axis in (ax, right):
    axis.set(xlabel="Part A as a share of the sample", ylim=(0, None), xticks=shares)
    axis.spines[["top", "right"]].set_visible(False)
fig.alt_text = (
    "Left: milliseconds of a forward pass against the share of Part A, for each method. Right: the same "
    "relative to each method's own time for GPT, and the number of pairs that are seen."
)

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
# %% check
def check_loads_of(loads_of):
    for M, K, N, rows, columns in ((4, 3, 6, 1, 1), (4, 3, 6, 2, 3), (12, 12, 12, 6, 12), (6, 5, 8, 3, 4)):
        want = product(np.ones((M, K)), np.ones((K, N)), rows, columns)[1]
        got = loads_of(M, K, N, rows, columns)
        assert got is not None, "loads_of returned None: did you forget `return`?"
        where = f"{M} x {K} by {K} x {N} in tiles of {rows} x {columns}"
        assert got == want, f"{where}: you say {got}, but `product` loads {want}"
    print("✓ check_loads_of: four products")


# %%
def loads_of(M, K, N, rows, columns): ...  # your answer


# check_loads_of(loads_of)  # uncomment


# %% [markdown]
# **2. ★★ The best tile.** Of all tiles of `rows` x `vectors` that fit into 32 registers (with the `vectors`
# and the one more that a step loads into), which makes the most multiply-adds per load? Give
# `(rows, vectors)`.
# %% check
def check_best_tile(tile):
    def registers(rows, vectors):
        return rows * vectors + vectors + 1

    def per_load(rows, vectors):
        return rows * vectors / (rows + vectors)

    assert tile is not None, "the answer is a pair: (rows, vectors)"
    rows, vectors = map(int, tile)
    used, mine = registers(rows, vectors), per_load(rows, vectors)
    assert used <= 32, f"{rows} x {vectors} needs {used} registers"
    best = max(per_load(r, n) for r in range(1, 32) for n in range(1, 32) if registers(r, n) <= 32)
    assert mine == best, (
        f"{rows} x {vectors} fits and makes {mine:.2f} multiply-adds per load; another tile makes more"
    )
    print(f"✓ check_best_tile: {used} registers, {mine:.2f} multiply-adds per load")


# %%
# check_best_tile((..., ...))


# %% [markdown]
# **3. ★★★ An exponential.** Write `exp_of(x)` for a float64 array between -80 and 80 with nothing but `+`,
# `*`, `np.round` and `np.ldexp(y, n)`, which is $y\,2^n$ (with `n.astype(int)`). Hints:
# $e^x = 2^{x \log_2 e}$; for $|f| \le 1/2$ a few terms of $2^f = \sum_k (f \ln 2)^k / k!$ give an error below
# $10^{-7}$.
# %% check
def check_exp(exp_of):
    x = np.concatenate([np.random.default_rng(0).uniform(-80, 80, 1000), [0.0, 1.0, -1.0]])
    with np.errstate(all="ignore"):
        y = exp_of(x)
        assert y is not None, "exp_of returned None: did you forget `return`?"
        off = np.abs(np.asarray(y) * np.exp(-x) - 1)
    worst = int(np.nan_to_num(off, nan=np.inf).argmax())
    assert off[worst] < 1e-7, f"exp_of({x[worst]:.4g}) has a relative error of {off[worst]:.1e}"
    print(f"✓ check_exp: the largest relative error is {off[worst]:.1e}")


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
