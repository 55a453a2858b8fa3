"""The kernel for Hopper (csrc/cuda/hopper.cuh), a rung for GPUs of compute capability 9.0: what it serves."""

import torch

from ..errors import MinglmError
from .extension import _C, constant_when_compiled

HOPPER, HOPPER_HEAD_DIMS = "hopper", (64, 128)


@constant_when_compiled
def why_no_hopper(dtype, device, head_dim):
    """Why it does not serve such tensors on a GPU, in one line; None if it does."""
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) != (9, 0):
        return f"compute capability {major}.{minor}; it needs 9.0"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"{dtype}; it serves bfloat16 and float16"
    if head_dim not in HOPPER_HEAD_DIMS:
        return f"head width {head_dim}; it serves {' and '.join(map(str, HOPPER_HEAD_DIMS))}"
    if not getattr(_C, "hopper_built", False):
        return "this build has none (it needs nvcc 12 and MINGLM_CUDA_ARCHS=90)"
    return None


def rung_on_gpu(q, name):
    """The rung of the CUDA kernels that is asked for: HOPPER, or "" for all others. Raises MinglmError."""
    if name and name != HOPPER:
        raise MinglmError(f"backend: 'kernel:{name}' is a rung for CPUs; on {q.device} it is 'kernel'")
    if name and (why := why_no_hopper(q.dtype, q.device, q.shape[-1])):
        raise MinglmError(f"backend: 'kernel:{name}' cannot serve this: {why}")
    return name or ""
