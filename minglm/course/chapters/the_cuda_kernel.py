"""Pictures of chapter 13, its kernels with barriers removed, and the checks of its exercises."""

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...attention import masked_attention
from ...mask import GLMMask
from ...viz.figures.canvas import Canvas
from ...viz.palette import KINDS
from ..sources import CSRC

BLUE, LIGHT, AMBER, RED = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))
COMPILER = os.environ.get("CXX", "c++")
FLAGS = ["-std=c++17", "-O1", "-w", "-fPIC", "-pthread", "-I."]


# ---- pictures --------------------------------------------------------------------------------------------


def fig_grid():
    """Draw a grid of four blocks, block 1 with its four warps, and warp 2 with its lanes."""
    canvas, x, y, wide, high = Canvas("light", 760), 16, 44, 208, 22
    second, third = x + 262, x + 524
    for left, name in ((x, "grid: all rows"), (second, "block: 16 rows"), (third, "warp: 4 rows")):
        canvas.text(left, 20, name, bold=True, ha="left")
    for left, step, gap, up, chosen, name in (
        (x, 2 * high, 4, 2, 1, "block"),
        (second, high, 3, 1, 2, "warp"),
    ):
        for n in range(4):
            fill, colour = (BLUE, "white") if n == chosen else (LIGHT, None)
            canvas.rectangle(left, y + step * n, wide, step - gap, fill=fill)
            canvas.text(left + wide / 2, y + step * n + step / 2 - up, f"{name} {n}", colour=colour)
    canvas.rectangle(second, y + 4 * high + 10, wide, 3 * high - 2, fill=AMBER)
    canvas.text(second + wide / 2, y + 4 * high + 31, "shared memory:", bold=True)
    canvas.text(second + wide / 2, y + 4 * high + 53, "Q, a tile of K and V, P")
    for row, lane in np.ndindex(4, 32):
        fill = RED if lane == 6 else LIGHT
        canvas.rectangle(third + 6.5 * lane, y + high * row, 5, high - 3, fill=fill)
    at = third + 41.5
    canvas.line((at, y + 4 * high), (at, y + 4 * high + 12), colour=RED, width=1.5)
    canvas.text(third + 32, y + 4 * high + 23, "lane 6: its own registers", ha="left", colour=RED)
    canvas.text(third, y + 4 * high + 52, "32 lanes: one key each", ha="left")
    for left, top, bottom, end in (
        (x + wide, y + 2 * high, y + 4 * high - 4, y + 7 * high + 8),
        (second + wide, y + 2 * high, y + 3 * high - 3, y + 4 * high - 3),
    ):
        for a, b in ((top, y), (bottom, end)):
            canvas.line((left, a), (left + 54, b), colour=canvas.look["soft"], width=0.8)
    return canvas.finish(
        232, "A grid has blocks, a block has four warps and shared memory, a warp has 32 lanes."
    )


def fig_shuffles():
    """Draw how two shuffles bring the largest of 3, 7, 1, 5 to all four lanes."""
    canvas, lanes, left = Canvas("light", 560), [3, 7, 1, 5], 150
    for step in range(3):
        y = 12 + 58 * step
        if step:
            lanes = [max(x, lanes[lane ^ step]) for lane, x in enumerate(lanes)]
            for lane in range(4):
                for other, colour, width in ((lane ^ step, RED, 1.6), (lane, canvas.look["grid"], 1.2)):
                    ends = (left + 90 * other + 22, y - 32), (left + 90 * lane + 22, y)
                    canvas.line(*ends, colour=colour, width=width)
        words = f"after lane ^ {step}" if step else "each lane's score"
        canvas.text(left - 20, y + 13, words, ha="right")
        for lane, x in enumerate(lanes):
            canvas.chip(left + 90 * lane, y, 44, 26, str(x), fill=LIGHT if x == max(lanes) else None)
    assert lanes == [7] * 4
    return canvas.finish(
        164, "Four lanes hold 3, 7, 1, 5; after lane ^ 1: 7, 7, 5, 5; after lane ^ 2 all hold 7."
    )


def fig_turns(turns):
    """Draw who had which turn in each order, and what it did there: {order: [(warp, what it did)]}."""
    colours = {"writes": AMBER, "reads": BLUE, "reads another one": RED}
    fig = Figure(figsize=(7, 4.4), layout="constrained")
    axes = fig.subplots(len(turns), 1, sharex=True)
    for ax, (order, done) in zip(axes, turns.items(), strict=True):
        wrong = sum(what == "reads another one" for _, what in done)
        bottom, fills = [warp - 0.4 for warp, _ in done], [colours[what] for _, what in done]
        ax.bar(range(len(done)), 0.8, 1.0, bottom=bottom, color=fills)
        ax.set(ylim=(3.6, -0.6), yticks=range(4), ylabel="warp", xlim=(-1, len(done)))
        ax.set_title(f"{order}: {wrong} wrong reads", fontsize=10, loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("turn")
    patches = [Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    names = ["writes the tile", "reads it", "reads another one"]
    fig.legend(patches, names, loc="outside upper center", ncols=3, frameon=False)
    fig.alt_text = (
        "Who has which turn when the barrier before the next tile is missing: in reverse "
        "order and drawn uniformly no read is wrong; with priorities warp 0 writes the "
        "next tile while others read the last one."
    )
    return fig


def fig_lanes(holds):
    """Draw which lane holds each number of C and A: {matrix: (row, column) of each lane's numbers}."""
    fig = Figure(figsize=(7, 4.8), layout="constrained")
    for ax, name in zip(fig.subplots(1, 2, width_ratios=(8, 16)), "CA", strict=True):
        rows, columns = holds[name]
        for who in range(32):
            colour = RED if who == 6 else LIGHT if who // 4 == 1 else "white"
            style = dict(ha="center", va="center", fontsize=8, color="white" if who == 6 else "black")
            for r, c in zip(rows[who], columns[who], strict=True):
                ax.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fc=colour, ec="#DDDDDD"))
                ax.text(c, r, who, **style)
        ax.set(xlim=(-0.5, columns.max() + 0.5), ylim=(15.5, -0.5), aspect="equal")
        ax.set(yticks=(0, 7, 8, 15), xticks=(0, 7) if name == "C" else (0, 7, 8, 15))
        ax.set_title(f"{name}: whose number it is")
    fig.alt_text = (
        "Which lane of a warp holds which number of the 16 x 8 result C and the 16 x 16 "
        "factor A. A row lives in four lanes. Two C side by side are dealt out as one A."
    )
    return fig


# ---- kernels with barriers removed -----------------------------------------------------------------------


def trials(driver, schedules):
    """Compile changed copies of forward_simple with a driver in C++, and run each with every schedule.

    driver: defines `attend`, see the chapter. Changed is nothing; then each barrier in turn is removed; then
    not all warps reach the first one. Yields (what was changed, [(verdict, detail) of each schedule]).
    """
    if not (CSRC and shutil.which(COMPILER) and sys.platform == "linux"):
        print("not here: this needs Linux, a C++ compiler and csrc/; what follows is left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copytree(CSRC, folder, dirs_exist_ok=True)
        (folder / "driver.cpp").write_text(driver)
        compile_it(folder, "-c", "cuda_on_cpu/simt.cpp", "-o", "simt.o")
        source = (folder / "cuda" / "simple.cuh").read_text()
        for n, (begin, end, instead) in enumerate(changes(source)):
            (folder / "cuda" / "simple.cuh").write_text(source[:begin] + instead + source[end:])
            compile_it(folder, "-shared", "driver.cpp", "simt.o", "-o", f"{n}.so")
            attend = ctypes.CDLL(str(folder / f"{n}.so")).attend
            attend.restype = ctypes.c_char_p
            line = f"{source.count(chr(10), 0, begin) + 1}: {instead or source[begin:end]}"
            yield line if end else "nothing", [verdict(attend, schedule) for schedule in schedules]


def changes(source):
    """Return (begin, end, what is there instead) of each change of forward_simple in its source."""
    kernel = slice(source.index("forward_simple(AttentionProblem"), source.index("lse_of("))
    barriers = [found.span() for found in re.finditer(r"__sync\w+\(\);", source)]
    barriers = [(begin, end) for begin, end in barriers if kernel.start <= begin < kernel.stop]
    removed = [(begin, end, "") for begin, end in barriers]
    return [(0, 0, ""), *removed, (*barriers[0], "if (warp_id()) __syncthreads();")]


def compile_it(folder, *arguments):
    """Run the compiler in a folder; raises CalledProcessError if it fails."""
    subprocess.run([COMPILER, *FLAGS, *arguments], cwd=folder, check=True)


def verdict(attend, schedule, T=200, part_a_len=90):
    """Return what the emulator reports, or else how far the output is from the reference."""
    q, k, v = torch.randn(3, T, 1, 32, generator=torch.Generator().manual_seed(0))
    out, lse = torch.full_like(q, math.nan), torch.zeros(T)
    addresses = [ctypes.c_void_p(x.data_ptr()) for x in (q, k, v, out, lse)]
    if report := attend(*addresses, T, part_a_len, schedule.encode()).decode():
        return "reported", re.sub(r"^.*/", "", report.split("\n")[0])
    mask = GLMMask.packed([T], [part_a_len])
    off = float((out - masked_attention(q, k, v, mask, backend="reference")).abs().max())
    return "right" if off < 1e-5 else "WRONG", f"output off by {off:.2g}"


# ---- checks ----------------------------------------------------------------------------------------------


def check_holder(holder):
    """Check exercise 1: the lane and the register that hold a number of C."""
    lane, i = np.arange(32)[:, None], np.arange(4)
    rows, columns = lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2  # (32, 4) each
    for row in range(16):
        for column in range(8):
            answer = holder(row, column)
            assert answer is not None, "holder returned None: did you forget `return`?"
            lane, i = answer
            assert 0 <= lane < 32 and 0 <= i < 4, f"({row}, {column}): there is no lane {lane}, {i}"
            there = int(rows[lane, i]), int(columns[lane, i])
            assert there == (row, column), f"lane {lane}, {i} holds {there}, not {row, column}"
    print("✓ check_holder: 128 numbers")


def check_place(place):
    """Check exercise 2: chunks of 16 bytes, placed so that eight rows are read in one turn."""
    taken = [[place(row, chunk) for chunk in range(4)] for row in range(16)]
    for row, places in enumerate(taken):
        assert None not in places, "place returned None: did you forget `return`?"
        assert sorted(places) == list(range(4 * row, 4 * row + 4)), (
            f"row {row} lies at {places}: not its own four places, each once"
        )
    for first in (0, 8):
        for chunk in range(4):
            eighths = [taken[row][chunk] % 8 for row in range(first, first + 8)]
            turns = max(map(eighths.count, eighths))
            assert turns == 1, f"rows {first} to {first + 7}, chunk {chunk}: {turns} turns"
    print("✓ check_place: one turn for any eight rows")
