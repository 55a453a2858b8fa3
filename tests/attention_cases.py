"""Attention problems for several test files, and the error that each answer may have."""

import math
from typing import NamedTuple

import numpy as np
import torch

from minglm import attention
from minglm.mask import GLMMask, keys_of_row


class Sample(NamedTuple):
    """One sample: its queries, keys, Part A, and unused cache slots after its keys."""

    len_q: int
    len_k: int
    part_a: int
    unused: int = 0


def mask_of(samples):
    cu_q = np.cumsum([0] + [s.len_q for s in samples])
    cu_k = np.cumsum([0] + [s.len_k + s.unused for s in samples])
    seqlens_k = [s.len_k for s in samples] if any(s.unused for s in samples) else None
    return GLMMask(cu_q, cu_k, [s.part_a for s in samples], seqlens_k)


def numbers(samples, heads=2, width=4, seed=0, dtype=torch.float32):
    """q, k, v and the gradient of the output, as leaves; unused cache slots are NaN."""
    random = torch.Generator().manual_seed(seed)
    n_q, n_k = sum(s.len_q for s in samples), sum(s.len_k + s.unused for s in samples)
    q, k, v, g = (torch.randn(n, heads, width, generator=random).to(dtype) for n in (n_q, n_k, n_k, n_q))
    end = 0
    for s in samples:
        end += s.len_k + s.unused
        k[end - s.unused : end] = v[end - s.unused : end] = math.nan
    return q, k, v, g


def fused(x):
    """The same numbers as one third of a fused projection, with a large row stride."""
    return torch.stack([x * 2, x, x + 1], 1)[:, 1]


def heads_first(x):
    """The same numbers, stored head by head."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def width_first(x):
    """The same numbers, stored with the width outermost, so that the last dimension is not contiguous."""
    return x.permute(2, 0, 1).contiguous().permute(1, 2, 0)


LAYOUTS = {"plain": lambda x: x, "fused": fused, "heads first": heads_first, "width first": width_first}


def ignoring(part):
    """visible_keys with one part of the rule left out or shifted."""

    def visible_keys(self):
        sample, i = self.rows()
        A, T = self.part_a_lens.long()[sample], self.len_k.long()[sample]
        wrong = {
            "nothing": keys_of_row(i, A),
            "Part A: all is causal": i + 1,
            "the order of Part B: everything is seen": T,
            "the last key of Part A": keys_of_row(i, A - 1),
            "where Part A ends: one key more": keys_of_row(i, A + 1),
            "the row itself": keys_of_row(i - 1, A),
            "the present: the next row is seen": keys_of_row(i + 1, A),
            "Part B: only Part A is seen": A,
            "that queries stand at the end of the keys": keys_of_row(
                i - (self.len_k - self.len_q).long()[sample], A
            ),
        }[part]
        return wrong.clamp(min=0).minimum(T)

    return visible_keys


PART_A = {
    "no Part A": lambda T: 0,
    "a Part A of one": lambda T: 1,
    "half is Part A": lambda T: T // 2,
    "all is Part A": lambda T: T,
    "mixed": lambda T: (0, T, T // 3, 1, T - 1)[T % 5],
}


QUERIES = {"packed": lambda T: T, "suffix": lambda T: T - T * 3 // 5, "one query": lambda T: 1}


def random_numbers(mask, heads, width, dtype, seed=0):
    """q, k, v and the gradient of the output; unused cache slots are NaN."""
    random = torch.Generator().manual_seed(seed)
    n_q, n_k = int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])
    q, k, v, g = (
        torch.randn(n, heads, width, generator=random, dtype=torch.float64).to(dtype)
        for n in (n_q, n_k, n_k, n_q)
    )
    for first, used, end in zip(mask.cu_seqlens_k[:-1], mask.len_k, mask.cu_seqlens_k[1:], strict=True):
        k[first + used : end] = v[first + used : end] = math.nan
    return q, k, v, g


def by_reference(q, k, v, g, mask):
    """The same in plain PyTorch, at the precision of the inputs."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1])
    out = attention.reference(q, k, v, mask, scale)
    grads = torch.autograd.grad(out, (q, k, v), g)
    grads = [x.nan_to_num(0) for x in grads]  # of unused slots, which are NaN
    with torch.no_grad():
        lse = [(scale * S).logsumexp(-1) for S, *_ in scores(q, k, v, g, mask)]
    return dict(out=out.detach(), lse=torch.cat(lse, 1), **dict(zip(("dq", "dk", "dv"), grads, strict=True)))


def scores(q, k, v, g, mask):
    """For each sample: Q K^T with -inf where a row does not see a key (H, Tq, Tk), and its q, k, v, g."""
    for s, visible in enumerate(mask.visible_keys().split(mask.len_q.tolist())):
        rows = slice(int(mask.cu_seqlens_q[s]), int(mask.cu_seqlens_q[s + 1]))
        keys = slice(int(mask.cu_seqlens_k[s]), int(mask.cu_seqlens_k[s] + mask.len_k[s]))
        hidden = torch.arange(int(mask.len_k[s])) >= visible[:, None]
        S = torch.einsum("qhd,khd->hqk", q[rows], k[keys]).masked_fill(hidden, -math.inf)
        yield S, q[rows], k[keys], v[keys], g[rows]


def truth_and_budget(numbers, mask, others=0):
    """The float64 truth, and the error allowed for each tensor.

    That is twice the error of plain PyTorch, or 4 eps of the largest entry. others: the number of further
    draws of the same shape on which that error is measured, because one draw can be lucky. In float64 the
    truth is itself only good to 4 eps, which count four times.
    """
    dtype, (_, heads, width) = numbers[0].dtype, numbers[0].shape
    eps, budget = torch.finfo(dtype).eps, {}
    # elsewhere one draw has always been enough
    for seed in range(others + 1 if dtype == torch.float32 else 1):
        drawn = random_numbers(mask, heads, width, dtype, seed) if seed else numbers
        exact, naive = by_reference(*(x.double() for x in drawn), mask), by_reference(*drawn, mask)
        truth = truth if seed else exact  # noqa: F821
        for name, x in exact.items():
            error = (naive[name].double() - x)[x.isfinite()].abs()
            largest = float(x[x.isfinite()].abs().max()) if len(error) else 0.0
            fair = 4 * eps * largest * (4 if dtype == torch.float64 else 1) if not seed else 0.0
            budget[name] = max(budget.get(name, 0.0), 2 * float(error.max()) if len(error) else 0.0, fair)
    return truth, budget
