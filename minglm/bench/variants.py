"""Every way to compute a case: masked_attention with one of its backends, and the forms of PyTorch's own attention.

PyTorch gets every advantage: its inputs are laid out and its masks built beforehand, none of which is timed.

    bool    a boolean mask                                                 padded      one call, all samples padded
    float   a float mask, 0 or -inf, in the inputs' dtype                  by sample   one call a sample, no padding
    split   Part A's rows without a mask, Part B's with a (B, T) float one
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..attention import masked_attention
from .cases import FORWARD

SDPA_FORMS = [(form, layout) for layout in ("padded", "by sample") for form in ("bool", "float", "split")]


@dataclass
class Variant:
    """A way to compute a case: call() -> outputs, a list, from its own `inputs`, which are laid out as it likes.

    gather(outputs, gradients of the inputs or None) -> out, and dq, dk, dv if there are gradients, samples end to end.
    """

    inputs: list
    grad_outs: list
    call: Callable
    gather: Callable

    def pass_of(self, step):
        """The pass FORWARD or BOTH as a function () -> (outputs, gradients or None)."""
        return self.forward if step == FORWARD else self.both

    def forward(self):
        with torch.no_grad():
            return self.call(), None

    def both(self):
        outs = self.call()
        return outs, torch.autograd.grad(outs, self.inputs, self.grad_outs)


def front_door(case, backend):
    """masked_attention with one of its backends."""
    inputs = [x.detach().requires_grad_() for x in (case.q, case.k, case.v)]

    def call():
        return [masked_attention(*inputs, case.shape.mask, scale=case.scale, backend=backend)]

    return Variant(inputs, [case.grad_out], call, lambda outs, grads: [outs[0].detach(), *(grads or ())])


def sdpa(case, form, layout):
    """PyTorch's scaled_dot_product_attention. form: "bool", "float" or "split"; layout: "padded" or "by sample"."""
    samples = [s for s, queries in enumerate(case.shape.mask.len_q.tolist()) if queries]
    groups = [Group(case, form, group) for group in ([samples] if layout == "padded" else [[s] for s in samples])]

    def gather(outs, grads):
        out, outs = torch.zeros_like(case.q), iter(outs)
        for group in groups:
            for part in group.parts:
                unpad(next(outs), part.rows, out)
        if grads is None:
            return [out]
        dq, dk, dv, grads = *map(torch.zeros_like, (case.q, case.k, case.v)), iter(grads)
        for group in groups:
            for part in group.parts:
                unpad(next(grads), part.rows, dq)
            unpad(next(grads), group.keys, dk)
            unpad(next(grads), group.keys, dv)
        return [out, dq, dk, dv]

    return Variant(
        inputs=[x for group in groups for x in (*(part.q for part in group.parts), group.k, group.v)],
        grad_outs=[part.grad_out for group in groups for part in group.parts],
        call=lambda: [out for group in groups for out in group.call()],
        gather=gather,
    )


class Part(NamedTuple):
    """Rows that share a call: q, grad_out (S, H, rows, D); how many keys they see at most; the mask, None where all are seen.

    rows: of each sample (first, how many) among the packed ones.
    """

    q: torch.Tensor
    grad_out: torch.Tensor
    most_keys: int
    mask: torch.Tensor | None
    rows: list


class Group:
    """Some samples side by side, padded to the longest; a group of one sample has no padding.

    parts: all rows, or ("split") Part A's and Part B's. k, v: (S, H, keys, D).
    """

    def __init__(self, case, form, samples):
        mask, self.scale = case.shape.mask, case.scale
        first, len_q = mask.cu_seqlens_q[samples].tolist(), mask.len_q[samples].tolist()
        len_k, part_a_lens = mask.len_k[samples].tolist(), mask.part_a_lens[samples].tolist()
        self.keys = list(zip(mask.cu_seqlens_k[samples].tolist(), len_k, strict=True))  # of each sample (first, how many)
        self.k, self.v = pad(case.k, self.keys), pad(case.v, self.keys)

        parts = [(list(zip(first, len_q, strict=True)), max(len_k))]  # (rows, most keys)
        if form == "split":
            in_a = [min(n, max(0, a - (t - n))) for n, t, a in zip(len_q, len_k, part_a_lens, strict=True)]
            part_b = [(f + a, n - a) for f, n, a in zip(first, len_q, in_a, strict=True)]
            parts = [(list(zip(first, in_a, strict=True)), max(part_a_lens)), (part_b, max(len_k))]
        self.parts = []
        for rows, most_keys in parts:
            if any(n for _, n in rows):
                may_attend = grid(mask.visible_keys(), rows, most_keys)
                if form != "bool" and may_attend is not None:
                    may_attend = torch.zeros(may_attend.shape, dtype=case.q.dtype).masked_fill(~may_attend, -math.inf)
                self.parts.append(Part(pad(case.q, rows), pad(case.grad_out, rows).detach(), most_keys, may_attend, rows))

    def call(self):
        """The output of every part, (S, H, rows, D)."""
        return [
            F.scaled_dot_product_attention(
                part.q, self.k[:, :, : part.most_keys], self.v[:, :, : part.most_keys], part.mask, scale=self.scale
            )
            for part in self.parts
        ]


def grid(visible, rows, most_keys):
    """The boolean mask (S, 1, rows, keys) of some rows of each sample; None where every row sees every key."""
    sees = torch.ones(len(rows), max(n for _, n in rows), dtype=torch.int64)  # a padded row needs something to see
    for s, (first, n) in enumerate(rows):
        sees[s, :n] = visible[first : first + n]
    may_attend = torch.arange(most_keys) < sees[:, None, :, None]
    return None if may_attend.all() else may_attend


def pad(x, runs):
    """Runs of rows (first, how many) of x (N, H, D) side by side, zeros behind: (S, H, rows, D), an input of its own."""
    padded = x.new_zeros(len(runs), max(n for _, n in runs), *x.shape[1:])
    for s, (first, n) in enumerate(runs):
        padded[s, :n] = x[first : first + n]
    return padded.transpose(1, 2).requires_grad_()


def unpad(x, runs, packed):
    """The inverse of pad, into `packed` (N, H, D)."""
    for s, (first, n) in enumerate(runs):
        packed[first : first + n] = x[s, :, :n].detach().transpose(0, 1)
