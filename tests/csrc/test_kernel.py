"""The CPU kernels: every rung against float64, at all edges of a tile, with any threads; wrong rules fail.

Small batches of every shape (rows without keys, empty samples, caches with unused slots) are in
test_attention.py; arguments, and the ways to select a rung, in test_ops.py.
"""

import csv
import functools
import json
import math
import os
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from attention_cases import (
    LAYOUTS,
    PART_A,
    QUERIES,
    Sample,
    ignoring,
    mask_of,
    random_numbers,
    truth_and_budget,
)
from conftest import SMALL, python
from hypothesis import given
from hypothesis import strategies as st

from minglm import ops
from minglm.cli import main
from minglm.mask import GLMMask, keys_of_row

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
SERVED = [(rung, dtype) for rung in ops.rungs() for dtype in DTYPES if ops.serves(dtype, rung)]
IDS = [f"{rung}-{str(dtype)[6:]}" for rung, dtype in SERVED]
every_rung = pytest.mark.parametrize("rung", [rung for rung, dtype in SERVED if dtype == torch.float32])
every_rung_and_dtype = pytest.mark.parametrize(("rung", "dtype"), SERVED, ids=IDS)
needs_kernel = pytest.mark.skipif(not ops.rungs(), reason=ops.HOW)
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
slow = pytest.mark.skipif(os.environ.get("MINGLM_SLOW") != "1", reason="takes minutes: MINGLM_SLOW=1")

LENGTHS = (1, 2, 31, 64, 65, 200)  # tiles end at multiples of 32, 48 and 64


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_kernel(rung, q, k, v, g, mask):
    """out, lse, dq, dk, dv of a rung."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out, lse = ops.kernel_attention(q, k, v, mask, 1 / math.sqrt(q.shape[-1]), rung, return_lse=True)
    grads = torch.autograd.grad(out, (q, k, v), g)
    assert lse.dtype == (torch.float64 if q.dtype == torch.float64 else torch.float32)
    assert not lse.requires_grad
    assert all(x.dtype == q.dtype for x in (out, *grads))
    return dict(out=out.detach(), lse=lse, **dict(zip(("dq", "dk", "dv"), grads, strict=True)))


def compare(got, truth, budget):
    for name, x in truth.items():
        y = got[name].double()
        assert y.shape == x.shape and torch.equal(y.isfinite(), x.isfinite()), f"{name} is not finite"
        off = (y - x)[x.isfinite()].abs()
        fair = (off <= budget[name]).all()
        assert fair, f"{name} is off by {off.max():.2e}, and {budget[name]:.2e} would be fair"


# ---- agreement with float64


@functools.cache
def problem(dtype, width, part_a, queries):
    """One sample of every length: (q, k, v, g, mask), truth, budget."""
    mask = GLMMask.packed(LENGTHS, [PART_A[part_a](T) for T in LENGTHS])
    mask = mask.with_queries([QUERIES[queries](T) for T in LENGTHS])
    numbers = random_numbers(mask, 2, width, dtype)
    return (*numbers, mask), *truth_and_budget(numbers, mask, others=3)


# Every mask at one width, every width with two masks, because no line of a kernel depends on both.
MASKS = [(part_a, queries) for part_a in PART_A for queries in QUERIES]
SOME = [("mixed", "packed"), ("half is Part A", "suffix")]
GRID = [
    (*case, width, *mask)
    for case in SERVED
    for width in (8, 32, 64, 80, 128)
    for mask in (MASKS if width == 64 else SOME)
]
GRID_IDS = [f"{rung}-{str(dtype)[6:]}-{'-'.join(map(str, rest))}" for rung, dtype, *rest in GRID]


@pytest.mark.parametrize(("rung", "dtype", "width", "part_a", "queries"), GRID, ids=GRID_IDS)
def test_every_rung_is_as_exact_as_its_precision_allows(rung, dtype, width, part_a, queries):
    (*numbers, mask), truth, budget = problem(dtype, width, part_a, queries)
    got = by_kernel(rung, *numbers, mask)
    compare(got, truth, budget)
    layouts = ("fused", "heads first", "fused", "heads first")
    views = by_kernel(rung, *(LAYOUTS[name](x) for name, x in zip(layouts, numbers, strict=True)), mask)
    for name in got:  # the same numbers elsewhere in memory give the same bits
        assert torch.equal(got[name], views[name]), f"{name} of strided views differs"


@st.composite
def a_long_sample(draw):
    edges = st.sampled_from([47, 48, 49, 63, 64, 65, 96, 128])
    len_k = draw(st.one_of(st.integers(0, 9), st.integers(0, 150), edges))
    len_q = draw(st.sampled_from([len_k, draw(st.integers(0, len_k)), draw(st.integers(0, 150))]))
    part_a = draw(st.one_of(st.sampled_from([0, len_k, min(64, len_k)]), st.integers(0, len_k)))
    return Sample(len_q, len_k, part_a, draw(st.sampled_from([0, 0, 1, 70])))


@every_rung_and_dtype
@given(
    samples=st.lists(a_long_sample(), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    width=st.sampled_from([1, 7, 16, 33, 64]),
    layout=st.sampled_from([name for name in LAYOUTS if name != "width first"]),
    n=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_any_packing_is_as_exact_as_its_precision_allows(rung, dtype, samples, heads, width, layout, n, seed):
    mask = mask_of(samples)
    numbers = random_numbers(mask, heads, width, dtype, seed)
    with threads(n):
        got = by_kernel(rung, *map(LAYOUTS[layout], numbers), mask)
    truth, budget = truth_and_budget(numbers, mask)
    # naive PyTorch may be lucky on a small batch, and numbers near 1 may cancel in it
    budget = {name: 4 * fair + 4 * torch.finfo(dtype).eps for name, fair in budget.items()}
    compare(got, truth, budget)
    room = torch.ones(len(numbers[1]), dtype=torch.bool)
    for first, used in zip(mask.cu_seqlens_k[:-1], mask.len_k, strict=True):
        room[first : first + used] = False
    assert (got["dk"][room] == 0).all() and (got["dv"][room] == 0).all()


@every_rung_and_dtype
def test_samples_longer_than_any_block_are_as_exact(rung, dtype):
    # queries, keys, Part A; the vector kernel walks along keys in blocks of 512, with a state between them
    samples = [(2, 700, 700), (513, 513, 0), (512, 512, 100), (700, 600, 0)]
    if rung != "scalar":
        samples = [(1100, 1100, 600), (300, 1030, 0), (1, 1100, 300), *samples]
    mask = mask_of([Sample(*sample) for sample in samples])
    numbers = random_numbers(mask, 1, 24, dtype)
    compare(by_kernel(rung, *numbers, mask), *truth_and_budget(numbers, mask))


@every_rung_and_dtype
def test_scores_far_apart_stay_finite(rung, dtype):
    # Scores beyond 1,000: most weights are 0, and exp magnifies the rounding error of a score, which is
    # computed in float32, also for bfloat16.
    mask = GLMMask.packed([600, 70], [100, 30])
    q, k, v, g = random_numbers(mask, 1, 32, dtype)
    q, k = 16 * q, 16 * k
    truth, budget = truth_and_budget((q, k, v, g), mask)
    largest = float(truth["lse"].max())
    assert largest > 1000
    if dtype != torch.bfloat16:
        budget = {name: largest * fair for name, fair in budget.items()}
    compare(by_kernel(rung, q, k, v, g, mask), truth, budget)


@pytest.mark.skipif("avx2" not in ops.rungs(), reason="needs AVX2")
def test_weights_below_the_smallest_normal_number_are_0_on_avx2():
    """They are slow factors on some processors. A weight of e^-80 is still exact, one of e^-95 is 0."""
    q, k, v = torch.ones(3, 1, 1), torch.zeros(6, 1, 1), torch.zeros(6, 1, 1)
    mask = GLMMask.packed([6], [6]).with_queries([3])
    for score, weight in ((-80.0, math.exp(-80)), (-95.0, 0.0)):
        k[3], v[3] = score, 2.0**127
        out = ops.kernel_attention(q, k, v, mask, 1.0, "avx2")
        expected = torch.full_like(out, weight * 2.0**127 / 5)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("width", [96, 100, 192, 250, 256])
@every_rung_and_dtype
def test_every_width_up_to_256_is_served(rung, dtype, width):
    mask = GLMMask.packed([70, 3], [30, 3]).with_queries([40, 3])
    numbers = random_numbers(mask, 1, width, dtype)
    compare(by_kernel(rung, *numbers, mask), *truth_and_budget(numbers, mask, others=7))


# ---- the rule


def test_the_rule_is_the_same_in_both_languages():
    pytest.importorskip("minglm._C", reason=ops.HOW)
    for T in (0, 1, 5, 64):
        for A in {0, 1, T // 2, T} & set(range(T + 1)):
            for i in range(-3, T + 3):
                assert ops._C.keys_of_row(i, A, T) == min(T, keys_of_row(i, A))


@every_rung_and_dtype
def test_attention_reaches_what_the_dense_grid_shows_and_nothing_else(rung, dtype):
    # All scores are equal, and the value of key j is 1 at index j, so the output of row r is its share of
    # every key. Likewise in backward, the gradient of row r is 1 at index r.
    samples = [(65, 65, 20), (0, 7, 3), (3, 0, 0), (5, 50, 49, 3), (9, 4, 2), (64, 64, 0, 2)]
    mask = mask_of([Sample(*sample) for sample in samples])
    grid, n_q, n_k = mask.dense(), int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])
    q, k = torch.zeros(n_q, 1, 200, dtype=dtype), torch.zeros(n_k, 1, 200, dtype=dtype)
    v, g = (torch.eye(n, 200, dtype=dtype)[:, None] for n in (n_k, n_q))
    got = by_kernel(rung, q, k, v, g, mask)
    assert torch.equal(got["out"][:, 0, :n_k] > 0, grid) and torch.equal(got["dv"][:, 0, :n_q] > 0, grid.T)
    share = grid / grid.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(got["out"][:, 0, :n_k].double(), share.double(), rtol=0.01, atol=0)


@every_rung_and_dtype
def test_a_key_that_a_row_cannot_see_can_change_without_moving_a_bit(rung, dtype):
    A, mask = 40, GLMMask.packed([130, 20], [40, 20])
    q, k, v, g = random_numbers(mask, 1, 32, dtype)
    before = by_kernel(rung, q, k, v, g, mask)
    for j in (0, 39, 40, 41, 63, 64, 65, 96, 129):
        k2, v2 = k.clone(), v.clone()
        k2[j] += 3
        v2[j] -= 1e4
        after = by_kernel(rung, q, k2, v2, g, mask)
        sees = torch.tensor([i < 130 and (j < A or j <= i) for i in range(150)])
        for name in ("out", "dq", "lse"):
            x, y = (t[name].T if name == "lse" else t[name] for t in (before, after))
            same = (x == y).flatten(1).all(1)
            assert same[~sees].all(), f"key {j} reaches {name} of rows that cannot see it"
            assert not same[sees].any() or name == "dq", f"key {j} does not reach {name} of rows that see it"


WRONG_RULES = [
    "where Part A ends: one key more",
    "the last key of Part A",
    "Part A: all is causal",
    "the order of Part B: everything is seen",
    "the present: the next row is seen",
    "the row itself",
    "that queries stand at the end of the keys",
]
WRONG_MASKS = {
    "the neighbour is part of the sample": ([0, 96], [0, 161], [40]),
    "a key of the neighbour is seen": ([0, 64, 96], [0, 97, 161], [40, 50]),
    "a row of the neighbour is taken": ([0, 65, 96], [0, 96, 161], [40, 50]),
    "Part A is one longer": ([0, 64, 96], [0, 96, 161], [41, 50]),
    "Part A is one shorter": ([0, 64, 96], [0, 96, 161], [40, 49]),
}


@pytest.mark.parametrize("wrong", ["nothing", *WRONG_RULES, *WRONG_MASKS])
@every_rung
def test_a_wrong_rule_is_caught(rung, wrong, monkeypatch):
    """The comparison of this file fails when kernel and truth disagree about the rule, however little."""
    right = GLMMask([0, 64, 96], [0, 96, 161], [40, 50])
    numbers = random_numbers(right, 2, 32, torch.float32)
    got = by_kernel(rung, *numbers, GLMMask(*WRONG_MASKS[wrong]) if wrong in WRONG_MASKS else right)
    if wrong not in WRONG_MASKS:
        monkeypatch.setattr(GLMMask, "visible_keys", ignoring(wrong))
    truth, budget = truth_and_budget(numbers, right)
    if wrong == "nothing":
        return compare(got, truth, budget)
    for name in truth:  # each answer alone shows it
        with pytest.raises(AssertionError, match=f"{name} is off"):
            compare(got, {name: truth[name]}, budget)


@pytest.mark.parametrize("row", [0, 39, 40, 62, 63, 64, 94])
@every_rung
def test_one_wrong_cell_is_caught(rung, row, monkeypatch):
    mask = GLMMask.packed([96], [40])
    numbers = random_numbers(mask, 1, 32, torch.float32)
    got, right = by_kernel(rung, *numbers, mask), GLMMask.visible_keys(mask)
    wrong = right + (torch.arange(96) == row)
    monkeypatch.setattr(GLMMask, "visible_keys", lambda self: wrong)
    truth, budget = truth_and_budget(numbers, mask)
    for name in truth:
        with pytest.raises(AssertionError, match=f"{name} is off"):
            compare(got, {name: truth[name]}, budget)


# ---- threads


@needs_kernel
@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize(("len_q", "len_k", "part_a"), [(9000, 9000, 0), (9000, 9000, 4500), (5000, 9000, 0)])
def test_a_long_sample_is_cut_into_parts_of_equal_work(threads, len_q, len_k, part_a):
    """Equal rows are not: under a causal mask the second half has three quarters of the pairs."""
    mask = GLMMask.packed([len_k], [part_a]).with_queries([len_q])
    ends = ops._C.cpu_forward_parts(len_q, len_k, part_a, threads)
    assert ends[0] == 0 and ends[-1] == len_q and all(end % 48 == 0 for end in ends[:-1])
    parts = [int(part.sum()) for part in mask.visible_keys().split([b - a for a, b in pairwise(ends)])]
    assert len(parts) == max(threads, min(4 * threads, len_q // 192))
    assert max(abs(part - sum(parts) / len(parts)) for part in parts) <= 49 * len_k
    alone = max(sum(sorted(parts, reverse=True)[t::threads]) for t in range(threads))
    assert alone <= 1.1 * sum(parts) / threads or threads == 16


@needs_kernel
def test_short_samples_are_cut_once_per_thread_and_tiny_ones_may_leave_parts_empty():
    assert ops._C.cpu_forward_parts(96, 96, 96, 2) == [0, 48, 96]
    assert ops._C.cpu_forward_parts(480, 480, 0, 2) == [0, 336, 480]  # 336 of 480 rows: 0.49 of the pairs
    assert ops._C.cpu_forward_parts(5, 5, 0, 3) == [0, 0, 5, 5]


@pytest.mark.parametrize(
    "samples", [[700], [300, 5, 280], [64] * 5], ids=["one long sample", "some long", "all alike"]
)
@every_rung_and_dtype
def test_any_number_of_threads_gives_the_truth_and_always_the_same_bits(rung, dtype, samples):
    mask = GLMMask.packed(samples, [T // 3 for T in samples])
    numbers = random_numbers(mask, 1, 16, dtype)
    truth, budget = truth_and_budget(numbers, mask)
    for n in (1, 2, 3):
        with threads(n):
            first, again = (by_kernel(rung, *numbers, mask) for _ in range(2))
        compare(first, truth, budget)
        same = all(torch.equal(first[name], again[name]) for name in first)
        assert same, f"results with {n} threads do not repeat"


@every_rung
def test_calls_from_several_python_threads_do_not_disturb_each_other(rung):
    mask = GLMMask.packed([150, 40], [50, 40])
    draws = [random_numbers(mask, 2, 32, torch.float32, seed) for seed in range(4)]
    alone = [by_kernel(rung, *numbers, mask) for numbers in draws]
    results = [None] * len(draws)

    def work(i):
        torch.set_num_threads(1)
        results[i] = [by_kernel(rung, *draws[i], mask) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(draws))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for mine, others in zip(alone, results, strict=True):
        assert all(torch.equal(mine[name], other[name]) for other in others for name in mine)


@needs_kernel
def test_other_python_threads_run_while_the_kernel_computes():
    mask, ticks, done = GLMMask.gpt([1500]), [0], threading.Event()
    numbers = random_numbers(mask, 1, 64, torch.float32)

    def tick():
        while not done.is_set():
            time.sleep(0.001)
            ticks[0] += 1

    clock = threading.Thread(target=tick)
    clock.start()
    before = ticks[0]
    by_kernel("scalar", *numbers, mask)
    passed = ticks[0] - before
    done.set()
    clock.join()
    # with the GIL held there would be a few, between the calls of PyTorch
    assert passed > 20, f"{passed} ticks: the GIL is held"


def run_python(code, *words, **environment):
    """Run code in a new process; returns the JSON that it prints."""
    done = python("-c", code, *words, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PREPARED = """
import json, os, resource, torch
from minglm import ops
from minglm.mask import GLMMask
def numbers(T, H=1, D=32):
    torch.manual_seed(0)
    return [torch.randn(T, H, D, requires_grad=True) for _ in range(3)]
def step(T, D=32):
    q, k, v = numbers(T, D=D)
    out = ops.kernel_attention(q, k, v, GLMMask.packed([T], [T // 4]), D ** -0.5)
    out.sum().backward()
    assert all(bool(x.isfinite().all()) for x in (out, q.grad, k.grad, v.grad))
"""


@needs_kernel
@needs_proc
@pytest.mark.parametrize("torch_first", [True, False], ids=["torch starts first", "the kernel starts first"])
def test_torch_and_the_kernel_share_one_pool_of_threads(torch_first):
    code = f"""{PREPARED}
count = lambda: len(os.listdir("/proc/self/task"))
use_torch, use_kernel = lambda: torch.randn(1 << 22).exp(), lambda: step(1000)
first, second = (use_torch, use_kernel) if {torch_first} else (use_kernel, use_torch)
seen = []
for n in (1, 3):
    torch.set_num_threads(n)
    for use in (first, second):
        use()
        seen.append(count())
torch.set_num_threads(1)
pools = {{os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if "libgomp" in line}}
print(json.dumps([seen, len(pools), ops._C.cpu_threads_by()]))"""
    seen, pools, by = run_python(code)
    if by != "OpenMP":
        pytest.skip(f"threads by {by}")
    start = seen[0]
    assert seen == [start, start, start + 2, start + 2], "two more threads, which both use"
    assert pools == 1


@needs_kernel
@pytest.mark.parametrize("T", [8192, pytest.param(65536, marks=slow)])
def test_memory_grows_with_the_length_and_not_with_its_square(T):
    code = f"""{PREPARED}
step(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step({T})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"""
    kilobytes = run_python(code, OMP_NUM_THREADS="1" if T < 10_000 else str(os.cpu_count()))
    # out, three inputs, three gradients, g, and some of the kernel's own
    assert kilobytes < 16 * 1024 + 20 * T * 32 * 4 / 1024


# ---- what it is for


@needs_kernel
def test_training_on_the_kernel_gives_the_curve_of_the_reference(tmp_path, text_file):
    losses = {}
    for backend in ("reference", "kernel"):
        words = [
            "pretrain",
            "--text",
            str(text_file),
            "--out",
            str(tmp_path / backend),
            "--steps",
            "30",
            "--stop-at",
            "20",
        ]
        words += [*SMALL, "--lr", "1e-2", "--backend", backend, "--model.dropout", "0"]
        assert main(words) == 0
        with open(tmp_path / backend / "metrics.csv", encoding="utf-8") as file:
            losses[backend] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses["kernel"]) == 20 and losses["kernel"][-1] < losses["kernel"][0] - 0.5
    assert losses["kernel"] == pytest.approx(losses["reference"], rel=0, abs=1e-3)
