"""Problems for the CUDA kernels, on the emulator or on a GPU."""

import math

import pytest
import torch
from attention_cases import PART_A, QUERIES, truth_and_budget

from minglm import GLMMask, ops

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


LENGTHS = (1, 15, 16, 17, 63, 64, 65, 77)


def by_cuda(q, k, v, g, mask, schedule="in-order"):
    """out, lse, dq, dk, dv of the CUDA kernels, on the GPU of the tensors, else emulated."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[-1])
    if q.is_cuda:
        out, lse = ops.kernel_attention(q, k, v, mask, scale, return_lse=True)
    else:
        out, lse = ops.emulated_attention(q, k, v, mask, scale, schedule, return_lse=True)
    grads = torch.autograd.grad(out, (q, k, v), g)
    return dict(out=out.detach(), lse=lse, **dict(zip(("dq", "dk", "dv"), grads, strict=True)))


def fused(numbers, mask):
    """q, k, v as views of one (N, 3, H, D), as in the model, if there are as many queries as keys."""
    q, k, v, g = numbers
    return (*torch.stack([q, k, v], 1).unbind(1), g) if len(q) == len(k) else numbers


def assert_right(numbers, mask, run=by_cuda):
    """Assert that the kernels' results are finite where the truth is, and within the allowed error.

    In float32 three times the error of plain PyTorch is allowed instead of twice: the emulator rounds
    products before adding them, and autograd, which keeps P, is more exact than recomputing it.
    """
    truth, budget = truth_and_budget([x.cpu() for x in numbers], mask, others=4)
    if numbers[0].dtype == torch.float32:
        budget = {name: 1.5 * allowed for name, allowed in budget.items()}
    outputs = {name: x.cpu() for name, x in run(*fused(numbers, mask), mask).items()}
    for name, true in truth.items():
        off = (outputs[name].double() - true).abs().where(outputs[name].double() != true, 0)
        assert (off <= budget[name]).all(), f"{name}: off by {off.max():.2g}, budget {budget[name]:.2g}"
    return outputs


def masks():
    """{name: GLMMask}: every kind of Part A, of queries, and caches with unused slots."""
    for part_a, part_a_of in PART_A.items():
        for queries, queries_of in QUERIES.items():
            whole = GLMMask.packed(LENGTHS, [part_a_of(T) for T in LENGTHS])
            yield f"{part_a}, {queries}", whole.with_queries([queries_of(T) for T in LENGTHS])
    yield "long", GLMMask.packed([300, 150], [130, 0])
    yield "caches", GLMMask([0, 1, 4, 6], [0, 64, 136, 141], [10, 65, 0], [30, 65, 0])
    yield "more rows than keys", GLMMask([0, 20, 40, 56], [0, 10, 20, 20], [5, 0, 0])


MASKS = dict(masks())


every_dtype = pytest.mark.parametrize("dtype", DTYPES)


every_mask = pytest.mark.parametrize("name", MASKS)
