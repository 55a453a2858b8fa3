"""Records cases.bin, attention problems with float64 answers, for check_cases.cpp, which uses no torch.

    PYTHONPATH=. python csrc/tests/record_cases.py     writes cases.bin
    pytest tests/csrc/test_csrc.py                     compares it with a new recording

The answers are those of `minglm.attention.reference`. Inputs are not stored: both sides compute them from a
seed (`numbers`). The error of an answer may be 4 eps of the dtype times the largest entry, or twice the error
of PyTorch in that dtype (the worst over a few seeds): of `reference`, and for float32 also of the formulas of
attention.h, which use a rounded lse and out and so err more than autograd. This budget is recorded with each
answer. float64 gets 64 eps, because there is no finer truth to compare with.

The file, little-endian: "minglm cases 1\n", int32 number of cases, and for each case
    40 bytes   name, padded with zeros
    int32      samples, heads, head_dim, seed, coarse, sharp, wide, room     (the last four are 0 or 1)
    float64    scale
    int32      cu_seqlens_q (samples + 1), cu_seqlens_k (samples + 1), part_a_lens (samples),
               seqlens_k (samples)
    float64    budgets (3, 5): float32, bfloat16, float64 by out, lse, dq, dk, dv; negative: not in this dtype
    float      out (Nq, H, D), lse (H, Nq), dq (Nq, H, D), dk (Nk, H, D), dv (Nk, H, D); float64 if wide, else
               float32
"""

import math
import struct
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from minglm.attention import reference
from minglm.mask import GLMMask

FILE = Path(__file__).with_name("cases.bin")
MAGIC = b"minglm cases 1\n"
COUNTS = ("samples", "heads", "head_dim", "seed", "coarse", "sharp", "wide", "room")
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
LENGTHS = ("cu_seqlens_q", "cu_seqlens_k", "part_a_lens", "seqlens_k")
NAMES = ("out", "lse", "dq", "dk", "dv")


class Case(NamedTuple):
    """One problem. Each of `samples` is (len_q, len_k, part_a_len, unused slots of the cache after the keys).

    coarse inputs are bfloat16 numbers, for every dtype; others use all 24 bits of a float32. wide: also for
    float64. sharp: row i attends strongly to keys i and i + 1, so that a mask that is wrong by one key shows
    even in bfloat16.
    """

    samples: list
    heads: int
    head_dim: int
    coarse: bool = True
    sharp: bool = False
    wide: bool = False
    scale: float | None = None


def square(*samples):
    """Samples (T, part_a_len) with as many queries as keys."""
    return [(length, length, part_a_len, 0) for length, part_a_len in samples]


CASES = {
    "packed, every length": Case(
        square((1, 1), (2, 1), (5, 0), (31, 15), (64, 64), (65, 33), (130, 50)), 2, 8
    ),
    "packed, every bit of float32": Case(square((5, 2), (33, 20), (2, 0), (64, 1)), 2, 8, coarse=False),
    "GPT, one sample for all threads": Case(square((130, 0)), 1, 32, sharp=True),
    "BERT": Case(square((31, 31), (1, 1), (5, 5)), 1, 32),
    "GLM": Case(square((65, 33), (2, 1)), 1, 64, sharp=True),
    "one sample of many tiles": Case(square((200, 100)), 1, 8, coarse=False),
    "head width 80": Case(square((65, 30)), 1, 80, sharp=True),
    "the last rows only": Case([(40, 130, 64, 0), (5, 31, 31, 0), (2, 5, 1, 0)], 1, 32, sharp=True),
    "one query, room in the cache": Case(
        [(1, 31, 7, 5), (1, 64, 0, 0), (1, 1, 0, 3), (1, 0, 0, 2), (1, 65, 65, 1)], 1, 32
    ),
    "the last rows, room in the cache": Case([(5, 31, 20, 4), (1, 2, 1, 9), (3, 3, 0, 0)], 2, 8),
    "more queries than keys": Case(
        [(7, 3, 2, 0), (40, 5, 0, 0), (65, 64, 10, 0), (3, 0, 0, 0), (2, 1, 1, 0)], 2, 8
    ),
    "keys of several blocks": Case([(530, 530, 100, 0), (6, 1030, 600, 0), (2, 513, 0, 0)], 1, 3, scale=2),
    "empty samples among others": Case(
        [(0, 0, 0, 0), *square((5, 3)), (0, 4, 2, 0), (3, 0, 0, 0), (0, 0, 0, 0)], 2, 8
    ),
    "no query at all": Case([(0, 4, 2, 0), (0, 0, 0, 0)], 2, 8),
    "no key at all": Case([(3, 0, 0, 0), (1, 0, 0, 4)], 2, 8),
    "no sample": Case([], 2, 8),
    "a large scale": Case(square((65, 20), (31, 0)), 1, 32, coarse=False, scale=1.5),
    "float64": Case(square((1, 0), (2, 2), (5, 3), (31, 15), (33, 1)), 2, 8, coarse=False, wide=True),
    "float64, odd shapes": Case([(3, 9, 4, 1), (9, 3, 2, 0), (1, 7, 0, 0)], 3, 5, coarse=False, wide=True),
    "head width 1": Case(square((7, 3)), 2, 1),
    "head width 3": Case(square((7, 0), (2, 2)), 2, 3),
    "head width 33": Case([*square((7, 3)), (2, 6, 2, 0)], 2, 33),
    "head width 96": Case([*square((9, 5)), (1, 6, 6, 0)], 1, 96),
    "head width 128": Case(square((9, 5)), 1, 128),
    "head width 256": Case(square((5, 2)), 1, 256),
}


def numbers(seed, count, coarse):
    """`count` numbers in [-2, 2), easy to make in any language: splitmix64 of seed * 2^32 + 0, 1, 2, ..."""
    x = (np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    x = x ^ x >> np.uint64(31)
    bits = 8 if coarse else 24  # that bfloat16 and float32 represent exactly
    return ((x >> np.uint64(64 - bits)).astype(np.int64) - (1 << bits - 1)) / (1 << bits - 2)


def sharpen(q, k, mask):
    """Copy into key i, in place, one half of query row i and the other half of row i - 1."""
    for n, (s, i) in enumerate(zip(*(x.tolist() for x in mask.rows()), strict=True)):
        for key, half in ((i, 0), (i + 1, 1)):
            if 0 <= key < mask.len_k[s]:
                k[mask.cu_seqlens_k[s] + key, :, half::2] = q[n, :, half::2]


def attention(q, k, v, g, mask, scale, dtype):
    """The reference in one dtype: out, lse, dq, dk, dv as float64 arrays."""
    q, k, v = (torch.from_numpy(x).to(dtype).requires_grad_() for x in (q, k, v))
    out = reference(q, k, v, mask, scale)
    out.backward(torch.from_numpy(g).to(dtype))
    with torch.no_grad():
        lse = (scale * torch.einsum("qhd,khd->hqk", q, k)).masked_fill(~mask.dense(), -math.inf).logsumexp(-1)
    return [
        (torch.zeros_like(x) if y is None else y).detach().double().numpy()
        for x, y in ((out, out), (lse, lse), (q, q.grad), (k, k.grad), (v, v.grad))
    ]


def formulas(q, k, v, g, mask, scale):
    """attention.h in PyTorch and float32: out, lse, dq, dk, dv as float64 arrays."""
    q, k, v, g = (torch.from_numpy(x).float() for x in (q, k, v, g))
    S = scale * torch.einsum("qhd,khd->hqk", q, k).masked_fill(~mask.dense(), -math.inf)
    lse = S.logsumexp(-1)
    P = (S - lse.masked_fill(lse == -math.inf, 0)[..., None]).exp()
    out = torch.einsum("hqk,khd->qhd", P, v)
    delta = (g * out).sum(-1).T
    dS = P * (torch.einsum("qhd,khd->hqk", g, v) - delta[..., None])
    dq, dk = scale * torch.einsum("hqk,khd->qhd", dS, k), scale * torch.einsum("hqk,qhd->khd", dS, q)
    return [x.double().numpy() for x in (out, lse, dq, dk, torch.einsum("hqk,qhd->khd", P, g))]


def inputs(case, mask, seed):
    """q, k, v and the gradient of out, as float64 arrays (rows, heads, head_dim)."""
    n_q, n_k = int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])
    shapes = [(n, case.heads, case.head_dim) for n in (n_q, n_k, n_k, n_q)]
    sizes = [math.prod(shape) for shape in shapes]
    flat = np.split(numbers(seed, sum(sizes), case.coarse), np.cumsum(sizes)[:-1])
    q, k, v, g = (x.reshape(shape) for x, shape in zip(flat, shapes, strict=True))
    if case.sharp:
        sharpen(q, k, mask)
    return q, k, v, g


def largest(x):
    """The largest absolute entry, except for the lse of -inf of rows that see no key."""
    return np.abs(x[np.isfinite(x)]).max(initial=0)


def budgets_of(case, mask, scale, seed):
    """The error allowed for each answer: (3, 5), dtypes by answers."""
    budgets = np.full((len(DTYPES), len(NAMES)), -1.0)
    for i, dtype in enumerate(DTYPES):
        if (dtype == torch.bfloat16 and not case.coarse) or (dtype == torch.float64 and not case.wide):
            continue
        eps = (64 if dtype == torch.float64 else 4) * torch.finfo(dtype).eps
        share = np.full(len(NAMES), eps)  # of the largest entry
        for draw in range(4):
            q, k, v, g = inputs(case, mask, seed + 100 * draw)
            truth = attention(q, k, v, g, mask, scale, torch.float64)
            naive = [attention(q, k, v, g, mask, scale, dtype)]
            naive += [formulas(q, k, v, g, mask, scale)] if dtype == torch.float32 else []
            sizes = [largest(x) for x in truth]
            for got in naive:
                with np.errstate(invalid="ignore"):  # -inf - -inf
                    errors = [largest(x - y) for x, y in zip(got, truth, strict=True)]
                pairs = zip(errors, sizes, strict=True)
                share = np.maximum(share, [2 * error / size if size else 0 for error, size in pairs])
            if draw == 0:
                own = np.array(sizes)
        budgets[i] = share * own
    return budgets


def record(name, case, seed):
    """A case with its answers and budgets, as a dict with the keys that `write` and `read` use."""
    len_q, len_k, part_a, room = np.array(case.samples, dtype=np.int32).reshape(-1, 4).T
    cu_q, cu_k = (np.concatenate([[0], x.cumsum()]).astype(np.int32) for x in (len_q, len_k + room))
    mask, scale = GLMMask(cu_q, cu_k, part_a, len_k), case.scale or 1 / math.sqrt(case.head_dim)
    truth = attention(*inputs(case, mask, seed), mask, scale, torch.float64)
    flags = [int(flag) for flag in (case.coarse, case.sharp, case.wide, room.any())]
    result = dict(zip(COUNTS, [len(len_q), case.heads, case.head_dim, seed, *flags], strict=True))
    result |= dict(zip(LENGTHS, (cu_q, cu_k, part_a, len_k), strict=True))
    result |= dict(zip(NAMES, truth, strict=True))
    return result | dict(name=name, scale=scale, budgets=budgets_of(case, mask, scale, seed))


def record_all():
    """All cases, in order; the seed is the number of the case, from 1."""
    return [record(name, case, seed) for seed, (name, case) in enumerate(CASES.items(), 1)]


def write(cases, path):
    """Write the file that the docstring describes."""
    parts = [MAGIC, struct.pack("<i", len(cases))]
    for c in cases:
        parts += [struct.pack("<40s8id", c["name"].encode(), *(c[x] for x in COUNTS), c["scale"])]
        parts += [c[x].astype("<i4").tobytes() for x in LENGTHS]
        parts += [c["budgets"].astype("<f8").tobytes()]
        parts += [c[x].astype("<f8" if c["wide"] else "<f4").tobytes() for x in NAMES]
    Path(path).write_bytes(b"".join(parts))


def read(path):
    """The cases of a file, as `record_all` returns them. Raises ValueError if it is not such a file."""
    data, at = Path(path).read_bytes(), len(MAGIC)
    if data[:at] != MAGIC:
        raise ValueError(f"{path}: does not start with {MAGIC!r}")

    def take(dtype, *shape):
        nonlocal at
        size = math.prod(map(int, shape)) * np.dtype(dtype).itemsize
        if at + size > len(data):
            raise ValueError(f"{path}: ends too early")
        at += size
        return np.frombuffer(data[at - size : at], dtype).reshape(shape)

    cases = []
    for _ in range(int(take("<i4", 1)[0])):
        c = dict(name=take("S40", 1)[0].decode())
        c |= dict(zip(COUNTS, take("<i4", len(COUNTS)).tolist(), strict=True))
        c |= dict(scale=float(take("<f8", 1)[0]))
        c |= {name: take("<i4", c["samples"] + name.startswith("cu_")) for name in LENGTHS}
        c["budgets"] = take("<f8", len(DTYPES), len(NAMES))
        n_q, n_k = c["cu_seqlens_q"][-1], c["cu_seqlens_k"][-1]
        rows = {"out": n_q, "dq": n_q, "dk": n_k, "dv": n_k}
        for x in NAMES:
            shape = (rows[x], c["heads"], c["head_dim"]) if x in rows else (c["heads"], n_q)
            c[x] = take("<f8" if c["wide"] else "<f4", *shape).astype(float)
        cases.append(c)
    if at != len(data):
        raise ValueError(f"{path}: {len(data) - at} bytes too many")
    return cases


if __name__ == "__main__":
    write(record_all(), FILE)
    print(f"{FILE}: {len(CASES)} cases, {FILE.stat().st_size:,} bytes", file=sys.stderr)
