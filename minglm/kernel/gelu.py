"""GELU, the step between the two matrices of the MLP: x times the share of a normal distribution below x.

The original training code computes it with a tanh that is close to that share, its Hugging Face port exactly
(erf). In a step of the preset tiny, PyTorch's tanh form takes as long as three quarters of attention, and in
bfloat16 longer than attention; the kernel's (csrc/gelu.h) takes a third of that.
"""

import math

import torch
import torch.nn.functional as F

from .. import ops
from .extension import _C


def gelu(x, form="tanh", backend="auto"):
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); with form="erf", x / 2 (1 + erf(x / sqrt(2))).

    backend: as in `masked_attention`; what the kernel does not serve is computed by PyTorch's own function,
    and so is everything with the backends that have none of their own.
    Example: -1, 0, 1, 3 -> -0.1588, 0, 0.8412, 2.9964.
    """
    name, _, rung = backend.partition(":")
    if name == "reference":
        return reference(x, form)
    if form == "tanh" and name in ("auto", "kernel") and _kernel_serves(x, name, rung or None):
        rung = ops.choose_rung(x.dtype, rung or None)
        return _Gelu.apply(x, rung) if torch.is_grad_enabled() and x.requires_grad else _run(rung, x)
    return F.gelu(x, approximate="tanh" if form == "tanh" else "none")


def reference(x, form="tanh"):
    """GELU as its formula says."""
    if form == "erf":
        return x / 2 * (1 + torch.erf(x / math.sqrt(2)))
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _kernel_serves(x, name, rung):
    if _C is None or not _is_plain(x) or not x.is_contiguous():
        return False
    slow = name == "auto" and x.dtype == torch.float64  # only the slowest rung computes it, for checks
    return not slow and ops.serves(x.dtype, rung or ops.asked_rung())


def _is_plain(x):
    """Whether x is numbers on the CPU that nothing but autograd follows; others need PyTorch's own op."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing():
        return False
    return type(x) in ops.PLAIN and x.device.type == "cpu" and not ops.is_transformed(x)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rung):
        ctx.save_for_backward(x)
        ctx.rung = rung
        return _run(rung, x)

    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not _is_plain(grad_out):  # PyTorch's has second derivatives
            return torch.ops.aten.gelu_backward(grad_out, x, approximate="tanh"), None
        return _run(ctx.rung, x, grad_out.contiguous()), None


def _run(rung, x, grad_out=None):
    out = torch.empty_like(x)
    addresses = x.data_ptr(), 0 if grad_out is None else grad_out.data_ptr(), out.data_ptr()
    _C.gelu(getattr(_C, ops.DTYPES[x.dtype]), rung, torch.get_num_threads(), *addresses, x.numel())
    return out
