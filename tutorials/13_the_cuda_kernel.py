# %% [markdown]
# # 13 The CUDA kernel
# *How do you write it for a GPU, and test it without one?*
#
# Chapter 11's algorithm, but thousands of threads share memory and must wait for each other. A missing
# barrier often goes unnoticed. Here the threads take turns on a CPU, first in Python, then on the *emulator*
# in `csrc/cuda_on_cpu`, which runs the very sources that nvcc compiles
# ([on what they have run](../csrc/README.md)).
#
# - **After this chapter you can** read a CUDA kernel, say what each barrier is for, and find a missing one.
# - **You need** [chapter 11](11_tiles.md). A C++ compiler helps; no GPU is needed.
# %% imports
import math

import numpy as np
import torch

from minglm import GLMMask, explain, keys_of_row, masked_attention
from minglm.attention import backends
from minglm.course.chapters.the_cuda_kernel import (
    check_holder,
    check_place,
    fig_grid,
    fig_lanes,
    fig_shuffles,
    fig_turns,
    trials,
)
from minglm.course.sources import source_of
from minglm.rng import Rng
from minglm.viz import Explorer

# %%
EMULATED, why = next((usable, why) for name, usable, why in backends() if name == "emulated")
print("emulator:", why)

# %% [markdown]
# ## Words
# Who does what in `forward` of `csrc/cuda/simple.cuh`:
# %%
fig_grid()

# %% [markdown]
# - *Blocks*, each of one sample and head, are independent. *Shared memory* is small, fast, uninitialised.
# - `__syncthreads()` is a *barrier*: it waits for all threads of the block; `__syncwarp()` for a warp.
# - `__shfl_xor_sync(.., x, n)` returns the `x` of lane number `lane ^ n`: no memory is needed.
#
# The scores of a row are in different lanes. Their maximum, with four lanes:
# %%
fig_shuffles()

# %%
Explorer(explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]), (6, 7))  # a lane that must see -inf

# %% [markdown]
# ## A machine
# A thread is a generator that yields requests: `TURN` ends its turn, `BLOCK` and `WARP` are the barriers, a
# shuffle returns the other lane's `x`. The *schedule* chooses who continues.
# %%
TURN, BLOCK, WARP = ("turn",), ("block",), ("warp",)


def shuffle(step, x):
    return "shuffle", step, x


def choose(names, order, rank, rng):
    """The thread (warp, lane) that continues, of those that can."""
    if order == "in order":
        return min(names)
    if order == "reverse":
        return max(names)
    if order == "priorities":  # the first warp in rank; uniform: any
        first = min((warp for warp, _ in names), key=rank.index)
        names = [name for name in names if name[0] == first]
    return sorted(names)[rng.integer(len(names))]


def carry_out(kernel, warps, lanes, order, seed=0):
    rng = Rng(seed)
    rank = rng.shuffle(list(range(warps)))
    threads = {(warp, lane): kernel(warp, lane) for warp in range(warps) for lane in range(lanes)}
    ready = dict.fromkeys(threads)  # threads that can continue, and what their yield returns
    waits = {}  # the others, and what they request
    while ready:
        if order == "priorities" and rng.integer(64) == 0:
            rng.shuffle(rank)  # now and then other priorities
        me = choose(ready, order, rank, rng)
        try:
            wish = threads[me].send(ready.pop(me))
        except StopIteration:
            del threads[me]
            continue
        if wish == TURN:
            ready[me] = None
            continue
        waits[me] = wish
        group = [name for name in threads if wish == BLOCK or name[0] == me[0]]
        if all(waits.get(name, TURN)[0] == wish[0] for name in group):  # the last one has come
            for warp, lane in group:
                step = waits[warp, lane][1] if wish[0] == "shuffle" else 0
                ready[warp, lane] = waits[warp, lane ^ step][-1]
            for name in group:
                del waits[name]
    assert not waits, f"deadlock: {waits}"


# %% [markdown]
# ## Two barriers, and what it takes to miss them
# Warp 0 loads a tile into shared memory, all warps use it. (A warp is one thread here.)
# %%
def use_tiles(order, seed, without):
    """Whether the sums are right, and for each turn (warp, what it did)."""
    tiles = np.arange(96.0).reshape(3, 32)
    shared = np.full(32, np.nan)  # shared memory begins as NaN
    sums, turns = [], []

    def kernel(warp, lane):
        total = 0.0
        for tile in tiles:
            if without != "before":
                yield BLOCK  # no warp reads the last tile any more
            if warp == 0:
                for i in range(32):
                    shared[i] = tile[i]
                    turns.append((warp, "writes"))
                    yield TURN
            if without != "after":
                yield BLOCK  # the tile is complete
            for i in range(32):
                total += shared[i]
                turns.append((warp, "reads" if shared[i] == tile[i] else "reads another one"))
                yield TURN
        sums.append(total)

    carry_out(kernel, 4, 1, order, seed)
    return sums == [tiles.sum()] * 4, turns


# %% [markdown]
# Without one barrier, how many of 40 seeds give wrong sums?
# %% exact
print("barrier left out   in order   reverse   uniform   priorities")
for without in ("none", "before", "after"):
    misses = []
    for order in ("in order", "reverse", "uniform", "priorities"):
        seeds = 40 if order in ("uniform", "priorities") else 1
        wrong = sum(not use_tiles(order, seed, without)[0] for seed in range(seeds))
        misses.append(f"{wrong} of {seeds}")
    print(f"{without:14}" + "".join(f"{cell:>11}" for cell in misses))

# %% [markdown]
# *Uniform* looks the most thorough, but all warps advance alike. *Priorities* let one warp run far ahead,
# then another, and catch both mistakes. Turn by turn, without the barrier *before*:
# %%
shows = next(seed for seed in range(40) if not use_tiles("priorities", seed, "before")[0])
seeds = {"reverse": 0, "uniform": 0, "priorities": shows}
fig_turns({order: use_tiles(order, seed, "before")[1] for order, seed in seeds.items()})

# %% [markdown]
# So the emulator has the orders `in-order`, `reverse` and `pct:SEED`: priorities, redrawn now and then
# (Burckhardt et al., ASPLOS 2010).
#
# ## Attention on that machine
# `forward_simple` with one row per warp, four lanes: a lane has one *key* of the tile, then one *column* of
# the output, for which it needs all of `P`.
# %%
WARPS, LANES = 4, 4


def attend(q, k, v, part_a_len, order, seed=0):
    T, D = q.shape
    out = np.full((T, D), np.nan)

    def block(first):  # of the grid: rows first .. first + WARPS - 1
        K, V = np.full((2, LANES, D), np.nan)  # shared memory
        P = np.full((WARPS, LANES), np.nan)

        def kernel(warp, lane):
            row = first + warp
            m, ell, o = -math.inf, 0.0, 0.0
            for begin in range(0, keys_of_row(first + WARPS - 1, part_a_len), LANES):
                yield BLOCK  # no warp reads the last tile any more
                K[warp, lane], V[warp, lane] = k[begin + warp, lane], v[begin + warp, lane]
                yield BLOCK  # the tile is complete
                s = q[row] @ K[lane] / math.sqrt(D)
                if begin + lane >= keys_of_row(row, part_a_len):
                    s = -math.inf
                top = max(m, s)
                for step in (1, 2):
                    top = max(top, (yield shuffle(step, top)))
                shrink, P[warp, lane] = math.exp(m - top), math.exp(s - top)
                yield WARP  # P of the row is complete
                o = shrink * o + P[warp] @ V[:, lane]
                ell, m = shrink * ell + P[warp, lane], top  # ell: of this lane's keys
            for step in (1, 2):
                ell = ell + (yield shuffle(step, ell))
            out[row, lane] = o / ell

        carry_out(kernel, WARPS, LANES, order, seed)

    for first in range(0, T, WARPS):
        block(first)
    return out


T, A = 12, 6
q, k, v = np.random.default_rng(0).normal(size=(3, T, LANES))
mask = GLMMask.packed([T], [A])
inputs = (torch.from_numpy(x)[:, None] for x in (q, k, v))
want = masked_attention(*inputs, mask, backend="reference")[:, 0].numpy()
found = attend(q, k, v, A, "in order")
assert abs(found - want).max() < 1e-14
for order in ("reverse", "uniform", "priorities"):
    assert all((attend(q, k, v, A, order, seed) == found).all() for seed in range(5))
print("in order, reverse, uniform, priorities: the same bits, and the reference's numbers")

# %% [markdown]
# ## The real one
# The loop over tiles of `forward_simple`. A warp has four rows (`r`), a tile 32 keys; tiles before number
# `full` need no mask.
# %%
print(source_of("cuda/simple.cuh", "for (int j = 0; j < tiles; ++j) {"))

# %% [markdown]
# `backend="emulated"` runs it, forward and backward; bfloat16 uses the kernels for tensor cores:
# %%
mask = GLMMask.packed([77, 20], [40, 5])
numbers = torch.randn(4, 97, 1, 32, generator=torch.Generator().manual_seed(0))


def results(backend, numbers):
    """O, dQ, dK and dV of a backend."""
    q, k, v, grad = numbers
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out = masked_attention(*inputs, mask, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


SCHEDULES = ("in-order", "reverse", "pct:1", "pct:2")
if not EMULATED:
    print("left out here:", why)
for dtype, allowed in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)) if EMULATED else ():
    x = numbers.to(dtype)
    first, *others = [results(f"emulated:{schedule}", x) for schedule in SCHEDULES]
    truth = results("reference", x.double())
    off = [float((x - y).abs().max() / y.abs().max()) for x, y in zip(first, truth, strict=True)]
    assert max(off) < allowed
    assert all(torch.equal(x, y) for again in others for x, y in zip(first, again, strict=True))
    print(
        f"{dtype}: O, dQ, dK, dV off by at most {max(off):.0e} of the largest; four schedules, the same bits"
    )

# %% [markdown]
# ## Tensor cores
# A tensor core multiplies matrices, here 16 x 16 times 16 x 8, which a *warp* holds together. The manual (PTX
# ISA, `mma.m16n8k16`) says which lane holds what:
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
    """C + A B of a warp, from registers to registers: (32, 4), (32, 8), (32, 4) -> (32, 4)."""
    A, B, C = np.zeros((16, 16)), np.zeros((16, 8)), np.zeros((16, 8))
    A[HOLDS["A"]], B[HOLDS["B"]], C[HOLDS["C"]] = a, b, c
    return (C + A @ B)[HOLDS["C"]]


fig_lanes(HOLDS)

# %% [markdown]
# Lanes 4 to 7 (light blue, lane 6 red) hold rows 1 and 9: a row's maximum takes two shuffles. And two C side
# by side are one A, so the result of one product is the input of the next, without memory:
# %%
rng = np.random.default_rng(0)
Q, K, V = (rng.integers(-3, 4, (16, 16)).astype(float) for _ in range(3))
zero = np.zeros((32, 4))
# eight keys at a time
scores = [multiply_add(zero, Q[HOLDS["A"]], K.T[:, n : n + 8][HOLDS["B"]]) for n in (0, 8)]
p = np.concatenate(scores, 1) % 7  # something done to each number: in forward it is exp
out = multiply_add(zero, p, V[:, :8][HOLDS["B"]])
assert (out == ((Q @ K.T % 7) @ V[:, :8])[HOLDS["C"]]).all()
print("two C's, lane by lane, are one A: P never leaves the registers")

# %% [markdown]
# ## Barriers removed, for real
# Back to the three barriers of `forward_simple`: remove one from a copy of the sources, compile, run.
# %%
DRIVER = """
#include "cuda/simple.cuh"
using namespace minglm;
using namespace minglm::emulated;
extern "C" const char* attend(void* q, void* k, void* v, void* out, float* lse, int T,
                              int part_a_len, const char* schedule) {
    const int32_t ends[] = {0, T}, part_a_lens[] = {part_a_len};
    AttentionProblem p = {};
    p.dtype = Dtype::float32, p.samples = p.heads = 1, p.head_dim = 32, p.queries = p.keys = T;
    p.scale = 0.17677669529663687;  // 1 / sqrt(32)
    p.cu_seqlens_q = p.cu_seqlens_k = ends, p.part_a_lens = part_a_lens;
    p.q = {q, 32, 32}, p.k = {k, 32, 32}, p.v = {v, 32, 32}, p.out = {out, 32, 32}, p.lse = lse;
    set_schedule(parse_schedule(schedule));
    const int blocks = places(T, 1, SimpleShape::rows), bytes = simple_bytes<32>(1, 2, 1);
    launch(&forward_simple<32>, dim3(blocks), SimpleShape::threads, bytes, nullptr, p);
    return last_report().c_str();
}"""

print(f"{'left out':42}" + "".join(f"{schedule:10}" for schedule in SCHEDULES))
for change, verdicts in trials(DRIVER, SCHEDULES):
    print(f"{change:42}" + "".join(f"{word:10}" for word, _ in verdicts) + f"\n    {verdicts[0][1]}")
    assert all((word == "right") == (change == "nothing") for word, _ in verdicts), "nothing caught it"


# %% [markdown]
# A barrier that is removed, or that not all warps reach, is always caught. `nan`: memory was read before it
# was written (the emulator fills it with NaN first). *reported*: the emulator's own diagnosis. `.ci/mutants`
# does this to every barrier, bound and fragment of all kernels. The emulator cannot tell how fast a kernel
# is, or the last bits of a tensor core's sums.
#
# **Remember:** a block shares memory and barriers, a warp exchanges registers. Every tile needs two
# barriers: one before it is overwritten, one before it is read. A fair schedule hides races; let one warp
# run far ahead, and fill memory with NaN.
#
# ## Exercises
# **1. ★★ Which lane?** Write `holder(row, column)`, which returns `(lane, i)`: the lane that holds this
# number of C, and in which of its four registers.
# %%
def holder(row, column): ...  # your answer


# check_holder(holder)  # uncomment


# %% [markdown]
# **2. ★★★ Banks.** Shared memory serves eight lanes with 16 bytes each in one turn, if they lie in different
# eighths of 128 bytes. A row of a tile is four chunks of 16 bytes. With chunk `c` of row `r` at `4 * r + c`,
# the same chunk of eight rows, which `ldmatrix` reads at once, takes four turns. Write `place(row, chunk)`,
# which moves chunks within their rows so that one turn is enough.
# %%
def place(row, chunk): ...  # your answer


# check_place(place)  # uncomment

# %% [markdown]
# ## Read on
# - [`csrc/cuda/simple.cuh`](../csrc/cuda/simple.cuh), forward and backward; then
#   [`forward.cuh`](../csrc/cuda/forward.cuh) and [`mma.cuh`](../csrc/cuda/mma.cuh) for tensor cores.
# - [`csrc/cuda_on_cpu/simt.h`](../csrc/cuda_on_cpu/simt.h): how the emulator works, and what it does not do.
# - [`csrc/README.md`](../csrc/README.md): lane 4 of warp 1 in gdb, through the online softmax.
# - [`csrc/cuda/REPORT.md`](../csrc/cuda/REPORT.md): registers and instructions as compiled by nvcc.
