# %% [markdown]
# # 09 The CUDA kernel
# *How is it said to a GPU, and how do you check it without one?*
#
# The algorithm is still chapter 07's. What is new is that thousands of threads run it together,
# share memory, and have to wait for each other at the right places. A barrier that is missing need
# not show: many runs come out right all the same. Here the threads take turns on a CPU: first on a
# machine of a few dozen lines of Python, then on the one in `csrc/cuda_on_cpu`, which carries out
# the very sources that nvcc compiles for a GPU. At the end we remove every barrier of two real
# kernels, one at a time, and look who notices.

# %%
import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import minglm
from minglm import GLMMask, keys_of_row, masked_attention
from minglm.attention import backends
from minglm.rng import Rng
from minglm.viz.palette import KINDS

FAST = os.environ.get("MINGLM_FAST") == "1"
BLUE, LIGHT, AMBER, RED = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))
SOURCES = (Path(minglm.__file__).parents[1], Path.cwd(), Path.cwd().parent)
CSRC = next((place / "csrc" for place in SOURCES if (place / "csrc" / "cuda").is_dir()), None)
EMULATED, why = next((usable, why) for name, usable, why in backends() if name == "emulated")
print("emulator:", why)

# %% [markdown]
# ## Words
# | CUDA | what it is | in `csrc/cuda/simple.cuh` |
# |---|---|---|
# | grid | all blocks of a launch, on their own | all rows of all samples and heads |
# | block | threads with a common memory and a barrier | 16 rows of one sample and head |
# | warp | 32 threads (lanes) that can exchange registers | 4 of these rows |
# | lane | one thread, with registers of its own | one key of a tile, then one column of O |
# | shared memory | the block's, small and fast; full of rubbish at first | a tile of K and of V |
# | `__syncthreads()` | barrier: waits for all threads of the block | around each tile |
# | `__syncwarp()` | the same for a warp | between writing P and reading it |
# | `__shfl_xor_sync(.., x, n)` | the x of lane number `lane ^ n` | maximum and sum of a row |
#
# A row's scores lie in different lanes, and the softmax needs their maximum. `lane ^ 1` is the
# neighbour, `lane ^ 2` the one two further, and so on. With four lanes, on paper:

# %% exact
lanes = [3, 7, 1, 5]
print("each lane holds   ", lanes)
for step in (1, 2):
    lanes = [max(x, lanes[lane ^ step]) for lane, x in enumerate(lanes)]
    print(f"after lane ^ {step}    ", lanes)

# %% [markdown]
# ## A machine
# A thread is a generator. It runs until it yields: `None` means that its turn is over, `BLOCK` and
# `WARP` are the two barriers, and a pair `(step, x)` is a shuffle, which is answered by the other
# lane's `x`. Who goes on is the *schedule's* choice. A right kernel gives the same under all.

# %%
BLOCK, WARP = "block", "warp"


def carry_out(kernel, warps, lanes, order, seed=0):
    rng = Rng(seed)
    rank = rng.shuffle(list(range(warps)))
    threads = {(warp, lane): kernel(warp, lane) for warp in range(warps) for lane in range(lanes)}
    ready, waits = dict.fromkeys(threads), {}  # ready: who can run, and what its yield returns
    while ready:
        names = sorted(ready, reverse=order == "reverse")
        if order == "priorities":  # one warp runs as far as it gets; now and then another one
            if rng.integer(64) == 0:
                rng.shuffle(rank)
            first = min(names, key=lambda name: rank[name[0]])[0]
            names = [name for name in names if name[0] == first]
        me = names[0 if order in ("in order", "reverse") else rng.integer(len(names))]
        try:
            wish = threads[me].send(ready.pop(me))
        except StopIteration:
            del threads[me]
            continue
        if wish is None:
            ready[me] = None
            continue
        waits[me] = wish
        group = [name for name in threads if wish == BLOCK or name[0] == me[0]]
        kinds = {x if isinstance(x, str) else "shuffle" for x in map(waits.get, group)}
        if kinds == {wish if isinstance(wish, str) else "shuffle"} and waits.keys() >= set(group):
            for warp, lane in group:  # the last one has come: all may go on
                x = waits[warp, lane]
                ready[warp, lane] = None if isinstance(x, str) else waits[warp, lane ^ x[0]][1]
            waits = {name: x for name, x in waits.items() if name not in group}
    assert not waits, f"deadlock: {waits}"


# %% [markdown]
# ## Two barriers, and what it takes to miss them
# The bones of every tiled kernel: warp 0 brings a tile into shared memory, all warps use it. One
# barrier says *the tile has come*, the other *nobody reads the last tile any more*. A warp is one
# thread here, to keep the picture small.

# %%
def use_tiles(order, seed, without, size, log=None):
    tiles = np.arange(1.0, 3 * size + 1).reshape(3, size)
    shared, found = np.full(size, np.nan), []  # shared memory begins as NaN

    def kernel(warp, lane):
        total = 0.0
        for tile in tiles:
            if without != "before":
                yield BLOCK  # nobody reads the last tile any more
            for i in range(size if warp == 0 else 0):
                shared[i] = tile[i]
                if log is not None:
                    log.append((warp, AMBER))
                yield
            if without != "after":
                yield BLOCK  # the tile has come
            for i in range(size):
                total += (i + 1) * shared[i]
                if log is not None:
                    log.append((warp, BLUE if shared[i] == tile[i] else RED))
                yield
        found.append(total)

    carry_out(kernel, 4, 1, order, seed)
    return found == [(tiles @ np.arange(1, size + 1)).sum()] * 4


# %% [markdown]
# Each barrier is left out in turn. How many of 40 seeds show that the sums are wrong? (The first
# two orders draw nothing: one run.)

# %% exact
print("barrier left out   in order   reverse   uniform   priorities")
for without in ("none", "before", "after"):
    misses = []
    for order in ("in order", "reverse", "uniform", "priorities"):
        seeds = 40 if order in ("uniform", "priorities") else 1
        wrong = sum(not use_tiles(order, seed, without, 32) for seed in range(seeds))
        misses.append(f"{wrong} of {seeds}")
    print(f"{without:14}" + "".join(f"{cell:>11}" for cell in misses))

# %% [markdown]
# Each of the first three orders is blind to one of the mistakes. *In order*, warp 0 has always
# written before the others read, barrier or not. *Reverse*, it always comes last. And drawing
# uniformly, which looks the most thorough, lets all warps advance alike: none ever runs so far
# ahead that it overwrites what others still read. Priorities let one warp run far ahead, then
# another one, and see both. That is why the emulator has `in-order`, `reverse` and `pct:SEED`
# (Burckhardt et al., *A randomized scheduler with probabilistic guarantees of finding bugs*,
# 2010). Turn by turn, with the barrier *before* left out:

# %%
fig, axes = plt.subplots(3, 1, figsize=(7, 4.2), sharex=True, layout="constrained")
shows = next(seed for seed in range(40) if not use_tiles("priorities", seed, "before", 32))
for ax, order, seed in zip(axes, ("reverse", "uniform", "priorities"), (0, 0, shows), strict=True):
    log = []
    use_tiles(order, seed, "before", 32, log)
    for warp in range(4):
        turns = [turn for turn, (who, _) in enumerate(log) if who == warp]
        ax.bar(turns, 0.8, 1.0, [warp - 0.4] * len(turns), color=[log[t][1] for t in turns])
    wrong = sum(colour == RED for _, colour in log)
    ax.set(ylim=(3.6, -0.6), yticks=range(4), ylabel="warp", xlim=(-1, len(log)))
    ax.set_title(f"{order}: {wrong} wrong reads", fontsize=10, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set_xlabel("turn.  amber: writes the tile   blue: reads it   red: reads another one")
fig.alt_text = ("Who has which turn when the barrier before the next tile is missing: in reverse "
                "order and drawn uniformly no read is wrong; with priorities warp 0 writes the "
                "next tile while others read the last one.")

# %% [markdown]
# ## Attention on that machine
# `forward_simple` with warps of four lanes: a warp has one row; a lane first has one *key* of the
# tile, then one *column* of the output. What a lane has computed for its key, the others need as
# factors, so `P` passes through shared memory behind a `WARP` barrier. All warps load their share.

# %%
WARPS, LANES = 4, 4


def attend(q, k, v, part_a_len, order, seed=0):
    T, D = q.shape
    out = np.full((T, D), np.nan)
    for first in range(0, T, WARPS):  # the blocks of the grid
        K, V = np.full((LANES, D), np.nan), np.full((LANES, D), np.nan)  # shared memory
        P = np.full((WARPS, LANES), np.nan)
        last = keys_of_row(first + WARPS - 1, part_a_len)

        def kernel(warp, lane, first=first, K=K, V=V, P=P, last=last):
            row = first + warp
            m, ell, o = -math.inf, 0.0, 0.0
            for begin in range(0, last, LANES):
                yield BLOCK  # nobody reads the last tile any more
                K[warp, lane], V[warp, lane] = k[begin + warp, lane], v[begin + warp, lane]
                yield BLOCK  # the tile has come
                s = sum(q[row, d] * K[lane, d] for d in range(D)) / math.sqrt(D)
                if begin + lane >= keys_of_row(row, part_a_len):
                    s = -math.inf
                top = max(m, s)
                for step in (1, 2):
                    top = max(top, (yield step, top))
                shrink, P[warp, lane] = math.exp(m - top), math.exp(s - top)
                yield WARP  # P of the row is complete
                o = shrink * o + sum(P[warp, j] * V[j, lane] for j in range(LANES))
                ell, m = shrink * ell + P[warp, lane], top
            for step in (1, 2):
                ell += yield step, ell
            out[row, lane] = o / ell

        carry_out(kernel, WARPS, LANES, order, seed)
    return out


T, A = 12, 6
q, k, v = np.random.default_rng(0).normal(size=(3, T, LANES))
mask = GLMMask.packed([T], [A])
want = masked_attention(*(torch.from_numpy(x)[:, None] for x in (q, k, v)), mask,
                        backend="reference")[:, 0].numpy()
first = attend(q, k, v, A, "in order")
assert abs(first - want).max() < 1e-14
for order in ("reverse", "uniform", "priorities"):
    assert all((attend(q, k, v, A, order, seed) == first).all() for seed in range(5))
print("in order, reverse, drawn, drawn with priorities: the same bits, and the reference's numbers")

# %% [markdown]
# ## The real one
# And this is `forward_simple` from the file that nvcc compiles, the loop over tiles. A warp has
# four rows there (`r`), a tile 32 keys. What was `begin` above is `j * KEYS`, and tiles before
# number `full` need no mask.

# %%
if CSRC:
    text = (CSRC / "cuda" / "simple.cuh").read_text()
    begin = text.index("for (int j = 0; j < tiles; ++j) {")
    print("    " + text[begin : text.index("\n    }\n", begin) + 6])
else:
    print("csrc/ is not beside this file: csrc/cuda/simple.cuh, forward_simple")

# %% [markdown]
# `backend="emulated"` carries it out, each CUDA thread with a stack of its own, forward and
# backward. float32 takes these kernels, bfloat16 the ones for tensor cores.

# %%
mask = GLMMask.packed([77, 20], [40, 5])
numbers = torch.randn(4, 97, 1, 32, generator=torch.Generator().manual_seed(0))


def results(backend, dtype):
    q, k, v, grad = numbers.to(dtype)
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out = masked_attention(*inputs, mask, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


if not EMULATED:
    print("left out here:", why)
for dtype, allowed in ((torch.float32, 1e-4), (torch.bfloat16, 0.05)) if EMULATED else ():
    found = results("emulated:in-order", dtype)
    truth = results("reference", dtype)
    off = [float((x - y).abs().max() / y.abs().max()) for x, y in zip(found, truth, strict=True)]
    assert max(off) < allowed
    for schedule in ("reverse", "pct:1", "pct:2"):
        again = results(f"emulated:{schedule}", dtype)
        assert all(torch.equal(x, y) for x, y in zip(found, again, strict=True)), schedule
    print(f"{dtype}: O, dQ, dK, dV off by at most {max(off):.0e} of the largest; four schedules, "
          "the same bits")

# %% [markdown]
# ## Tensor cores
# A tensor core multiplies matrices, 16 x 16 times 16 x 8, and a *warp* owns them: each lane holds
# a few numbers in its registers. With $g$ = lane // 4 and $t$ = lane % 4 the manual (PTX ISA,
# `mma.m16n8k16`) says who holds what:

# %% exact
lane = np.arange(32)[:, None]
g, t = lane // 4, lane % 4
i, j = np.arange(8), np.arange(4)
HOLDS = {  # for each lane and each of its numbers: the row and the column
    "A": (g + 8 * (i // 2 % 2), 2 * t + i % 2 + 8 * (i // 4)),  # 16 x 16
    "B": (2 * t + j % 2 + 8 * (j // 2), g + 0 * j),  # 16 x 8
    "C": (g + 8 * (j // 2), 2 * t + j % 2),  # 16 x 8
}
for name, (rows, columns) in HOLDS.items():
    cells = [f"({r},{c})" for r, c in zip(rows[6], columns[6], strict=True)]
    print(f"lane 6 holds of {name}:", *cells)


def multiply_add(c, a, b):
    """C += A B of a warp, from registers to registers: (32, 4), (32, 8), (32, 4) -> (32, 4)."""
    A, B, C = np.zeros((16, 16)), np.zeros((16, 8)), np.zeros((16, 8))
    A[HOLDS["A"]], B[HOLDS["B"]], C[HOLDS["C"]] = a, b, c
    return (C + A @ B)[HOLDS["C"]]


# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 4.7), width_ratios=(8, 16), layout="constrained")
for ax, name in zip(axes, "CA", strict=True):
    rows, columns = HOLDS[name]
    for who in range(32):
        for r, c in zip(rows[who], columns[who], strict=True):
            colour = RED if who == 6 else LIGHT if who // 4 == 1 else "white"
            ax.add_patch(plt.Rectangle((c, r), 1, 1, facecolor=colour, edgecolor="#DDDDDD"))
            ax.text(c + 0.5, r + 0.5, who, ha="center", va="center", fontsize=7,
                    color="white" if who == 6 else "black")
    ax.set(xlim=(0, columns.max() + 1), ylim=(16, 0), aspect="equal",
           title=f"{name}: lane numbers", xticks=range(0, columns.max() + 2, 8), yticks=(0, 8, 16))
fig.alt_text = ("Which lane of a warp holds which number of the 16 x 8 result C and the 16 x 16 "
                "factor A. A row lives in four lanes. Two C side by side are dealt out as one A.")

# %% [markdown]
# Lanes 4 to 7 (light blue, lane 6 dark) hold rows 1 and 9, alone: so a row's maximum takes two
# shuffles, `lane ^ 1` and `lane ^ 2`, as on paper above. And two C side by side are dealt out
# exactly as an A is. So the scores, which come out of one product, can go into the next one as
# they are, without any memory. For 16 rows, 16 keys and a width of 16:

# %% exact
rng = np.random.default_rng(0)
Q, K, V = (rng.integers(-3, 4, (16, 16)).astype(float) for _ in range(3))
zero = np.zeros((32, 4))
scores = []
for keys in (slice(0, 8), slice(8, 16)):  # B is 16 x 8: K^T, eight keys at a time
    scores.append(multiply_add(zero, Q[HOLDS["A"]], K.T[:, keys][HOLDS["B"]]))
p = np.concatenate(scores, 1) % 7  # something done to each number: in forward it is exp
left = multiply_add(zero, p, V[:, :8][HOLDS["B"]])
assert (left == ((Q @ K.T % 7) @ V[:, :8])[HOLDS["C"]]).all()
print("two C's, lane by lane, are one A: P never leaves the registers")

# %% [markdown]
# ## Barriers removed, for real
# The emulator is a C++ program of its own, and so a kernel with a mistake can be compiled in a
# moment. A copy of the sources goes to a temporary folder; one statement is taken out of
# `forward_simple` (float32) or of `forward_kernel` (tensor cores); a driver of a few lines starts
# it.

# %%
DRIVER = """
#include "KERNEL"
using namespace minglm;
using namespace minglm::emulated;
extern "C" const char* attend(void* q, void* k, void* v, void* out, float* lse, int T,
                              int part_a_len, const char* schedule) {
    const int32_t ends[] = {0, T}, part_a_lens[] = {part_a_len};
    AttentionProblem p = {};
    p.dtype = DTYPE, p.samples = p.heads = 1, p.head_dim = 32, p.queries = p.keys = T;
    p.scale = 0.17677669529663687;  // 1 / sqrt(32)
    p.cu_seqlens_q = p.cu_seqlens_k = ends, p.part_a_lens = part_a_lens;
    p.q = {q, 32, 32}, p.k = {k, 32, 32}, p.v = {v, 32, 32}, p.out = {out, 32, 32}, p.lse = lse;
    set_schedule(parse_schedule(schedule));
    launch(&START, nullptr, p);
    return last_report().c_str();
}"""
STARTS = {  # which kernel, how many blocks, threads and bytes of shared memory
    "simple.cuh": ("Dtype::float32", "forward_simple<32>, dim3(places(T, 1, SimpleShape::rows), "
                   "1), SimpleShape::threads, simple_bytes<32>(1, 2, 1)", torch.float32, 1e-5),
    "forward.cuh": ("Dtype::bfloat16", "forward_kernel<32, bf16>, dim3(places(T, 1, "
                    "ForwardShape<32>::rows), 1), ForwardShape<32>::threads, "
                    "ForwardShape<32>::shared_bytes", torch.bfloat16, 0.05),
}
COMPILER = next((c for c in (os.environ.get("CXX"), "c++", "g++", "clang++")
                 if c and shutil.which(c)), None)
READY = CSRC and COMPILER and sys.platform == "linux"
if not READY:
    print("not here: this needs Linux, a C++ compiler and csrc/; what follows is left out")
FLAGS = ["-std=c++17", "-O1", "-w", "-fPIC", "-pthread"]


def build(folder, name, text):
    """The library of a kernel file with that text; the folder is a copy of csrc."""
    dtype, start, *_ = STARTS[name]
    (folder / "cuda" / name).write_text(text)
    driver = DRIVER.replace("KERNEL", name).replace("DTYPE", dtype).replace("START", start)
    (folder / "driver.cpp").write_text(driver)
    library = folder / f"{len(list(folder.glob('*.so')))}.so"
    subprocess.run([COMPILER, *FLAGS, "-shared", f"-I{folder / 'cuda'}", folder / "driver.cpp",
                    folder / "simt.o", "-o", library], check=True)
    attend = ctypes.CDLL(str(library)).attend
    attend.restype = ctypes.c_char_p
    return attend


def try_it(attend, name, schedule, T=200, part_a_len=90):
    """What the emulator reports, else how far the output is from the reference."""
    *_, dtype, allowed = STARTS[name]
    q, k, v = torch.randn(3, T, 1, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    out, lse = torch.full_like(q, math.nan), torch.zeros(T)
    addresses = [ctypes.c_void_p(x.data_ptr()) for x in (q, k, v, out, lse)]
    said = attend(*addresses, T, part_a_len, schedule.encode()).decode()
    if said:
        said = re.sub(r"^.*/(\S+:\d+: )", r"\1", said.split("\n")[0])
        return "reported", said[:100]
    mask = GLMMask.packed([T], [part_a_len])
    truth = masked_attention(q.double(), k.double(), v.double(), mask, backend="reference")
    off = float((out.double() - truth).abs().max())
    return ("right" if off < allowed else "WRONG"), f"output off by {off:.2g}"


# %%
SCHEDULES = ("in-order", "reverse", "pct:1", "pct:2")
with tempfile.TemporaryDirectory() as work:
    folder = Path(work) / "csrc"
    if READY:
        shutil.copytree(CSRC, folder, ignore=shutil.ignore_patterns("tests", "cpu"))
        simt = [folder / "cuda_on_cpu" / "simt.cpp", "-o", folder / "simt.o"]
        subprocess.run([COMPILER, *FLAGS, "-c", *simt], check=True)
    for name in STARTS if READY else ():
        text = (folder / "cuda" / name).read_text()
        begin, end = text.index("forward_"), len(text)
        if name == "simple.cuh":  # only forward is run
            end = text.index("grad_q_simple(AttentionProblem")
        found = re.finditer(r"(__sync\w+\(\)|wait_copies<0>\(\));", text[begin:end])
        places = [(begin + x.start(), begin + x.end()) for x in found][: 3 if FAST else None]
        changes = [(0, 0, ""), *((*place, "") for place in places)]
        if name == "simple.cuh":  # and one that not all warps reach
            changes.append((*places[0], "if (warp_id()) __syncthreads();"))
        print(f"{name:12} {'without':47}" + "".join(f"{s:10}" for s in SCHEDULES))
        for a, b, into in changes:
            library = build(folder, name, text[:a] + into + text[b:])
            verdicts = [try_it(library, name, schedule) for schedule in SCHEDULES]
            number = text.count("\n", 0, a) + 1
            line = f"line {number}: {into or text[a:b]}" if b else "(nothing)"
            words = [word for word, _ in verdicts]
            print(f"{'':12} {line:47}" + "".join(f"{word:10}" for word in words)
                  + f"\n{'':15}{verdicts[0][1]}")
            assert set(words) == {"right"} if not b else set(words) != {"right"}, "nobody noticed"

# %% [markdown]
# Nothing changed: right under every schedule. Anything removed: somebody notices. The line below a
# verdict is what the first schedule says. `nan` is shared memory that was read before it was
# written: the emulator fills it with NaN at first, so that it cannot be right by luck. *reported*
# is the emulator's own word: it saw a tensor core's factor loaded before it was written, or warps
# that wait in different barriers. In the repository `.ci/mutants` does this to every barrier,
# bound and register of all kernels, with two sanitizers behind it, and each mutant has to be
# caught.
#
# What this cannot tell: how fast a kernel is, and whether the single lines of PTX in `device.h`,
# which the emulator replaces, are right. For those there are tests that read what nvcc made of
# them.
#
# ## Exercises
# **1. Who holds it?** `holder(row, column)` -> `(lane, i)`: the lane of C that holds this number,
# and in which of its four registers.

# %%
def check_holder(holder):
    rows, columns = HOLDS["C"]
    for row in range(16):
        for column in range(8):
            lane, i = holder(row, column)
            assert 0 <= lane < 32 and 0 <= i < 4, f"({row}, {column}): there is no lane {lane}, {i}"
            there = int(rows[lane, i]), int(columns[lane, i])
            assert there == (row, column), f"lane {lane}, {i} holds {there}, not {row, column}"


# check_holder(lambda row, column: ...)

# %% [markdown]
# **2. Banks.** Shared memory serves eight lanes with 16 bytes each in one turn, if all eight lie
# in different eighths of 128 bytes. A row of a tile is four chunks of 16 bytes, two rows fill 128
# bytes. If chunk `c` of row `r` lies at `4 * r + c`, the eight rows that `ldmatrix` reads at once
# (same chunk) meet in two eighths, and take four turns. Write `place(row, chunk)`, which moves
# chunks within their rows so that one turn is enough.

# %%
def check_place(place):
    taken = [[place(row, chunk) for chunk in range(4)] for row in range(16)]
    for row, places in enumerate(taken):
        assert sorted(places) == list(range(4 * row, 4 * row + 4)), (
            f"row {row} lies at {places}: not its own four places, each once")
    for first in (0, 8):
        for chunk in range(4):
            eighths = [taken[row][chunk] % 8 for row in range(first, first + 8)]
            turns = max(map(eighths.count, eighths))
            assert turns == 1, f"rows {first} to {first + 7}, chunk {chunk}: {turns} turns"


# check_place(lambda row, chunk: ...)

# %% [markdown]
# ## Read on
# - [`csrc/cuda/simple.cuh`](../csrc/cuda/simple.cuh): all of it, forward and backward; then
#   [`forward.cuh`](../csrc/cuda/forward.cuh) and [`mma.cuh`](../csrc/cuda/mma.cuh) for tensor
#   cores.
# - [`csrc/cuda_on_cpu/simt.h`](../csrc/cuda_on_cpu/simt.h): how the emulator works and what it
#   does not do.
# - [`csrc/README.md`](../csrc/README.md) follows lane 4 of warp 1 through the online softmax with
#   gdb.
# - [`csrc/cuda/REPORT.md`](../csrc/cuda/REPORT.md): registers and instructions, as nvcc compiles
#   it.
