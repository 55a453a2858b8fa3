"""All ways to compute a case: masked_attention with each backend, and the forms of PyTorch's own attention.

PyTorch gets every advantage: laying out its inputs and building its masks is not timed.

    bool    a boolean mask                                      padded      one call, all samples padded
    float   a float mask, 0 or -inf, in the inputs' dtype       by sample   one call per sample, no padding
    split   Part A's rows without a mask, Part B's with a (B, T) float mask

On a GPU also

    flex        FlexAttention, compiled, with a block mask; training only
    varlen      PyTorch's own FlashAttention, likewise in two calls; training, and decoding without a cache
    flash-attn  that package, if installed: Part A's rows without a mask, Part B's with its causal mask
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..attention import masked_attention
from ..errors import MinglmError
from ..kernel import varlen
from . import FORWARD, timing

SDPA_FORMS = [(form, layout) for layout in ("padded", "by sample") for form in ("bool", "float", "split")]


@dataclass
class Variant:
    """A way to compute a case: call() -> list of outputs, from its own `inputs` in a layout of its choice.

    gather(outputs, gradients of the inputs or None) -> out, and with gradients dq, dk, dv, all packed.
    """

    inputs: list
    grad_outs: list
    call: Callable
    gather: Callable

    def pass_of(self, step):
        """Return the pass FORWARD or BOTH as a function () -> (outputs, gradients or None), synchronous."""
        return timing.waiting(self.forward if step == FORWARD else self.both, self.inputs[0].device)

    def forward(self):
        with torch.no_grad():
            return self.call(), None

    def both(self):
        outs = self.call()
        return outs, torch.autograd.grad(outs, self.inputs, self.grad_outs)


def front_door(case, backend):
    """Return the Variant of masked_attention with one of its backends."""
    inputs = [x.detach().requires_grad_() for x in (case.q, case.k, case.v)]

    def call():
        return [masked_attention(*inputs, case.shape.mask, scale=case.scale, backend=backend)]

    return Variant(inputs, [case.grad_out], call, lambda outs, grads: [outs[0].detach(), *(grads or ())])


def sdpa(case, form, layout):
    """Return the Variant of sdpa. form: "bool", "float" or "split"; layout: "padded" or "by sample"."""
    samples = [s for s, queries in enumerate(case.shape.mask.len_q.tolist()) if queries]
    members = [samples] if layout == "padded" else [[s] for s in samples]
    groups = [Group(case, form, group) for group in members]

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


def flex(case, compiled=True):
    """Return the Variant of FlexAttention: the packed batch is one sequence, whose block mask is not timed.

    Without `compiled` it also runs on a CPU, forward only. Raises MinglmError for fewer queries than keys.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = case.shape.mask
    if mask.seqlens_k is not None or not torch.equal(mask.cu_seqlens_q, mask.cu_seqlens_k):
        raise MinglmError("flex serves as many queries as keys here")
    attend, rows = flex_attention, len(case.q)
    if compiled:
        torch.compiler.reset()  # the compiler accepts only eight shapes otherwise
        attend = torch.compile(flex_attention, dynamic=False)
    blocks = create_block_mask(flex_rule(mask, case.q.device), None, None, rows, rows, device=case.q.device)
    inputs = [laid_out(x) for x in (case.q, case.k, case.v)]
    return Variant(
        inputs,
        [laid_out(case.grad_out).detach()],
        lambda: [attend(*inputs, block_mask=blocks, scale=case.scale)],
        lambda outs, grads: [x[0].detach().transpose(0, 1) for x in (outs[0], *(grads or ()))],
    )


def flex_rule(mask, device):
    """Return the mask's rule for FlexAttention: (batch, head, query row, key row) -> may attend."""
    sample = mask.rows()[0]
    part_a_end = (mask.cu_seqlens_k[:-1] + mask.part_a_lens)[sample].to(
        device
    )  # for each row, among all rows
    sample = sample.to(device)

    def may_attend(_batch, _head, query, key):
        return (sample[query] == sample[key]) & ((key < part_a_end[query]) | (key <= query))

    return may_attend


def laid_out(x):
    """Return a contiguous copy with its own gradient: (N, H, D) -> (1, H, N, D)."""
    return x.detach().transpose(0, 1)[None].contiguous().requires_grad_()


def two_calls(case):
    """Return the Variant of PyTorch's FlashAttention. Raises MinglmError for what it does not take."""
    if not varlen.can_serve(case.q, case.shape.mask):
        raise MinglmError("varlen serves 16-bit tensors without a cache, on compute capability 8.0")
    inputs = [x.detach().requires_grad_() for x in (case.q, case.k, case.v)]

    def call():
        return [varlen.attend(*inputs, case.shape.mask, case.scale)]

    return Variant(inputs, [case.grad_out], call, lambda outs, grads: [outs[0].detach(), *(grads or ())])


def flash_attn(case):
    """Return the Variant of the package flash-attn, whose causal mask ends at the last key, as ours does.

    Part A's keys must be copied to be contiguous, which is timed. Raises what the package raises.
    """
    from flash_attn import flash_attn_varlen_func

    mask, device = case.shape.mask, case.q.device
    k, v = (x.detach().contiguous().requires_grad_() for x in (case.k, case.v))
    sample, i = mask.rows()
    in_a = i < mask.part_a_lens[sample]
    key_sample = torch.repeat_interleave(torch.arange(len(mask.part_a_lens)), mask.cu_seqlens_k.diff())
    key_i = torch.arange(len(key_sample)) - mask.cu_seqlens_k[key_sample]
    calls = []  # (rows, q, grad_out, keys or None for all, other arguments)
    for rows, keys, causal in (
        (in_a, key_i < mask.part_a_lens[key_sample], False),
        (~in_a, key_i == key_i, True),
    ):
        if not rows.any():
            continue
        pairs = ((sample, rows), (key_sample, keys))
        cu = [ends(which[chosen], len(mask.part_a_lens)) for which, chosen in pairs]
        longest = [int(x.diff().max()) for x in cu]
        rows, keys = rows.nonzero()[:, 0].to(device), None if keys.all() else keys.nonzero()[:, 0].to(device)
        rest = (*(x.to(device) for x in cu), *longest), dict(softmax_scale=case.scale, causal=causal)
        calls.append((rows, case.q.detach()[rows].requires_grad_(), case.grad_out[rows], keys, rest))

    def call():
        outs = []
        for _, q, _, keys, (lengths, options) in calls:
            chosen = (k, v) if keys is None else (k.index_select(0, keys), v.index_select(0, keys))
            outs.append(flash_attn_varlen_func(q, *chosen, *lengths, **options))
        return outs

    def gather(outs, grads):
        parts = [outs] if grads is None else [outs, grads[: len(calls)]]
        wholes = [torch.zeros_like(case.q) for _ in parts]
        for whole, part in zip(wholes, parts, strict=True):
            for (rows, *_), x in zip(calls, part, strict=True):
                whole[rows] = x.detach()
        return [*wholes, *(grads or ())[len(calls) :]]

    return Variant([*(q for _, q, *_ in calls), k, v], [grad for _, _, grad, *_ in calls], call, gather)


def ends(samples, count):
    """Return where samples of a packed batch end, given each row's sample: (count + 1,) int32, 0 first."""
    return F.pad(torch.bincount(samples, minlength=count).cumsum(0), (1, 0)).to(torch.int32)


class Part(NamedTuple):
    """Rows that share a call: q, grad_out (S, H, rows, D), the most keys they see, their mask or None (all).

    rows: (first, number) of each sample's rows in the packed batch.
    """

    q: torch.Tensor
    grad_out: torch.Tensor
    most_keys: int
    mask: torch.Tensor | None
    rows: list


class Group:
    """Samples padded to the longest; a group of one sample has no padding.

    parts: all rows, or ("split") Part A's and Part B's. k, v: (S, H, keys, D).
    """

    def __init__(self, case, form, samples):
        mask, self.scale = case.shape.mask, case.scale
        first, len_q = mask.cu_seqlens_q[samples].tolist(), mask.len_q[samples].tolist()
        len_k, part_a_lens = mask.len_k[samples].tolist(), mask.part_a_lens[samples].tolist()
        first_keys = mask.cu_seqlens_k[samples].tolist()
        self.keys = list(zip(first_keys, len_k, strict=True))  # (first, number) of each sample
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
                may_attend = None if may_attend is None else may_attend.to(case.q.device)
                if form != "bool" and may_attend is not None:
                    may_attend = case.q.new_zeros(may_attend.shape).masked_fill(~may_attend, -math.inf)
                q, grad_out = pad(case.q, rows), pad(case.grad_out, rows).detach()
                self.parts.append(Part(q, grad_out, most_keys, may_attend, rows))

    def call(self):
        """Return the output of every part, (S, H, rows, D)."""
        outs = []
        for part in self.parts:
            k, v = (x[:, :, : part.most_keys] for x in (self.k, self.v))
            outs.append(F.scaled_dot_product_attention(part.q, k, v, part.mask, scale=self.scale))
        return outs


def grid(visible, rows, most_keys):
    """Return the boolean mask (S, 1, rows, keys) of some rows of each sample; None if all see every key."""
    most = max(n for _, n in rows)
    sees = torch.ones(len(rows), most, dtype=torch.int64)  # a padded row must see something
    for s, (first, n) in enumerate(rows):
        sees[s, :n] = visible[first : first + n]
    may_attend = torch.arange(most_keys) < sees[:, None, :, None]
    return None if may_attend.all() else may_attend


def pad(x, runs):
    """Pad runs of rows (first, number) of x (N, H, D) with zeros: (S, H, rows, D), with its own gradient."""
    padded = x.new_zeros(len(runs), max(n for _, n in runs), *x.shape[1:])
    for s, (first, n) in enumerate(runs):
        padded[s, :n] = x[first : first + n]
    return padded.transpose(1, 2).requires_grad_()


def unpad(x, runs, packed):
    """Undo pad, into `packed` (N, H, D)."""
    for s, (first, n) in enumerate(runs):
        packed[first : first + n] = x[s, :, :n].detach().transpose(0, 1)
