"""Pictures and measurements of chapter 12, and the checks of its exercises."""

import statistics

import numpy as np
import torch
from matplotlib.figure import Figure

from ...attention import backends, kernel_rungs
from ...bench import timing
from ...bench.cases import Shape, draw
from ...bench.variants import front_door, sdpa
from ...machine import machine, machine_line
from ...mask import GLMMask, keys_of_row
from ...viz.figures.canvas import Canvas
from ...viz.figures.grid import cells
from ...viz.palette import KINDS

BLUE, LIGHT, AMBER, RED = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))
IDEAS = {  # what each way to compute attention is, in the order of the ladder
    "naive": "PyTorch: the whole matrix, mask, softmax",
    "sdpa": "PyTorch's fused attention",
    "scalar": "loops in C++, double precision",
    "tiled": "tiles, online softmax",
    "avx2": "a tile in registers, vectors of 8",
    "avx512": "vectors of 16, more registers",
    "avx512_bf16": "two bfloat16 products in one step",
    "neon": "a tile in registers, vectors of 4",
}
LOOKS = {"naive": ("x", AMBER), "sdpa": ("D", RED), "kernel": ("o", BLUE)}  # a marker, a colour


# ---- measurements ----------------------------------------------------------------------------------------


def rungs_here():
    """Return lines about the machine, the kernel, and the dtypes that each of its rungs computes here."""
    why = next(why for name, _, why in backends() if name == "kernel")
    lines = [machine_line(machine()), f"kernel: {why}"]
    for rung in kernel_rungs():
        where = "not in this build" if not rung["built"] else "this machine cannot run it"
        serves = ", ".join(dtype for dtype in ("float32", "bfloat16", "float64") if rung[dtype])
        lines.append(f"  {rung['name']:12} {serves if rung['supported'] else where}")
    return "\n".join(lines)


def time_shares(T, seconds, shares=(0, 0.25, 0.5, 0.75, 1)):
    """Time forward passes of a sample of T tokens with these shares of Part A, once all agree.

    Returns ({(method, share): seconds of each round}, {share: pairs that are seen}).
    """
    kernel = next(usable for name, usable, _ in backends() if name == "kernel")
    runs, work = {}, {}
    for share in shares:
        mask = GLMMask.packed([T], [int(share * T)])
        case = draw(Shape("one sample", mask, 4, 64, kind="training", about=""), torch.float32)
        ways = {"naive": front_door(case, "reference"), "sdpa": sdpa(case, "bool", "by sample")}
        if kernel:
            ways["kernel"] = front_door(case, "kernel")
        outs = {name: way.gather(*way.forward())[0] for name, way in ways.items()}
        assert all(torch.allclose(out, outs["naive"], atol=1e-5) for out in outs.values())
        runs |= {(name, share): way.forward for name, way in ways.items()}
        work[share] = case.shape.pairs
    return timing.alternate(runs, seconds=seconds), work


def shares_table(taken):
    """Return the medians of `time_shares` in milliseconds, a line for each method."""
    shares = list(dict.fromkeys(share for _, share in taken))
    lines = ["Part A " + "".join(f"{share:12.2f}" for share in shares)]
    for name in dict.fromkeys(name for name, _ in taken):
        medians = [1e3 * statistics.median(taken[name, share]) for share in shares]
        lines.append(f"{name:7}" + "".join(f"{ms:9.2f} ms" for ms in medians))
    return "\n".join(lines)


# ---- pictures --------------------------------------------------------------------------------------------


def fig_pairs(d, side=26):
    """Draw the useful pairs of a Derivation with six rows, a Part A of 4: how many keys each row sees."""
    canvas = Canvas("light", 480)
    for i, seen in enumerate(d.mask.sum(1)):
        assert seen == keys_of_row(i, d.part_a_len)
        canvas.text(30, 14 + (i + 0.5) * side, f"row {i}", colour=canvas.look["soft"])
        canvas.text(84 + 6 * side, 14 + (i + 0.5) * side, str(seen))
    cells(canvas, d.kind, 62, 14, side)
    words = f"useful pairs: {d.mask.sum()} of 36"
    canvas.text(110 + 6 * side, 14 + 3 * side, words, ha="left", bold=True)
    return canvas.finish(28 + 6 * side, "Six rows, a Part A of 4: the rows see 4, 4, 4, 4, 5, 6 keys.")


def fig_loads(side=30):
    """Draw what one step of a dot product and of a tile of 2 x 3 loads and computes."""
    canvas = Canvas("light", 620)
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
    return canvas.finish(
        142, "A dot product loads 2 numbers for 1 multiply-add, a tile of 2 x 3 loads 5 for 6."
    )


def fig_registers():
    """Draw the registers of one step for AVX-512: a tile of 6 rows by 4 vectors, and what it loads."""
    fig = Figure(figsize=(7, 2.5), layout="constrained")
    ax = fig.subplots()
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
    return fig


def fig_ladder(rates, gemm):
    """Draw the useful GFLOP/s of each method, {dtype: {name: rate}}, and {dtype: the GEMM rate}."""
    names = [name for name in IDEAS if any(name in found for found in rates.values())]
    fig = Figure(figsize=(7, 3.2), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, (dtype, found) in zip(axes, rates.items(), strict=True):
        longest = max(gemm[dtype], *found.values())
        ax.axvline(gemm[dtype], color="black", ls="--", lw=1, zorder=0)
        ax.text(gemm[dtype], -0.7, "GEMM", ha="center", va="bottom", fontsize=9)
        for y, name in enumerate(names):
            rate = found.get(name, 0)
            ax.barh(y, rate, color=RED if name in ("naive", "sdpa") else BLUE, height=0.7)
            words = f"{rate:.0f}" if rate else f"{dtype} not supported"
            how = dict(va="center", fontsize=9, bbox=dict(fc="white", ec="none", pad=1))
            ax.text(rate + 0.02 * longest, y, words, **how)
        ax.set(xlim=(0, 1.2 * longest), ylim=(len(names) - 0.5, -0.6))
        ax.set(xlabel="useful GFLOP/s", title=dtype + "\n")
        ax.set_yticks(range(len(names)), names)
        ax.spines[["top", "right"]].set_visible(False)
    best = {dtype: max(found, key=found.get) for dtype, found in rates.items()}
    fig.alt_text = (
        f"Useful GFLOP/s of every way to compute attention here: fastest are "
        f"{best['float32']} in float32 and {best['bfloat16']} in bfloat16. A dashed line "
        "is the rate of a matrix product."
    )
    return fig


def fig_shares(taken, work):
    """Draw what `time_shares` measured: milliseconds, and their growth next to that of the useful work."""
    fig, shares = Figure(figsize=(7, 3.2), layout="constrained"), list(work)
    ax, right = fig.subplots(1, 2)
    right.plot(shares, [x / work[0] for x in work.values()], "--", color="black", label="useful work")
    for name in dict.fromkeys(name for name, _ in taken):
        marker, colour = LOOKS[name]
        medians = [1e3 * statistics.median(taken[name, share]) for share in shares]
        grown = [timing.speedup(taken[name, share], taken[name, 0]).median for share in shares]
        ax.plot(shares, medians, marker=marker, color=colour, lw=2, label=name)
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
    return fig


# ---- checks ----------------------------------------------------------------------------------------------


def check_loads_of(loads_of):
    """Check exercise 1: the numbers that a product in tiles loads."""
    for M, K, N, rows, columns in ((4, 3, 6, 1, 1), (4, 3, 6, 2, 3), (12, 12, 12, 6, 12), (6, 5, 8, 3, 4)):
        tiles = [(i, j) for i in range(0, M, rows) for j in range(0, N, columns)]
        want = sum(K * (rows + columns) for _ in tiles)
        got = loads_of(M, K, N, rows, columns)
        assert got is not None, "loads_of returned None: did you forget `return`?"
        where = f"{M} x {K} by {K} x {N} in tiles of {rows} x {columns}"
        assert got == want, f"{where}: you say {got}, but `product` loads {want}"
    print("✓ check_loads_of: four products")


def check_best_tile(tile):
    """Check exercise 2: the tile (rows, vectors) with the most multiply-adds per load."""

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


def check_exp(exp_of):
    """Check exercise 3: an exponential between -80 and 80."""
    x = np.concatenate([np.random.default_rng(0).uniform(-80, 80, 1000), [0.0, 1.0, -1.0]])
    with np.errstate(all="ignore"):
        y = exp_of(x)
        assert y is not None, "exp_of returned None: did you forget `return`?"
        off = np.abs(np.asarray(y) * np.exp(-x) - 1)
    worst = int(np.nan_to_num(off, nan=np.inf).argmax())
    assert off[worst] < 1e-7, f"exp_of({x[worst]:.4g}) has a relative error of {off[worst]:.1e}"
    print(f"✓ check_exp: the largest relative error is {off[worst]:.1e}")
