"""The front door of attention: `masked_attention(q, k, v, mask)`, and the ways to compute it.

    reference   a few lines of PyTorch per sample with the dense mask: the truth, to be read in a minute
    sdpa        PyTorch's own scaled_dot_product_attention with a boolean mask
    kernel      csrc/: no hidden pair is computed and no mask exists; kernel:RUNG asks for one rung of its ladder
    emulated    the kernel for GPUs, carried out on a CPU a thread at a time: to be stepped through, and for tests
    auto        kernel where it serves, else sdpa (under transforms of torch.func: reference); never another result

Every backend gives every argument the same meaning. Attention probabilities are never dropped.
"""

import functools
import math
from numbers import Real

import torch
import torch.nn.functional as F

from . import ops
from .errors import MinglmError
from .mask import GLMMask


def masked_attention(q, k, v, mask, *, scale=None, backend="auto"):
    """softmax(scale q k^T + mask) v for every sample of a packed batch, head by head.

    q: (Nq, H, D), k and v: (Nk, H, D), mask: GLMMask -> (Nq, H, D). scale: a number, or a tensor of one
    number, which gets its gradient; 1 / sqrt(D) unless given.
    A row that sees no key gives 0 and passes no gradient. backend: "auto", "kernel", "kernel:RUNG" (a rung of
    the ladder, as in `kernel_rungs`; else MINGLM_KERNEL, else the fastest), "sdpa", "reference", or
    "emulated", "emulated:SCHEDULE" (in-order, reverse, pct:SEED: how the threads of the GPU take turns).
    Raises MinglmError when shapes, dtypes or the backend do not fit.
    """
    _check(q, k, v, mask)
    if isinstance(scale, torch.Tensor):  # a part of q from here on, so every backend passes its gradient
        q, scale = q * _one_number(scale), 1.0
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else _checked(scale)
    if backend == "auto" and ops.is_transformed(q, k, v):
        backend = "reference"  # plain PyTorch, which every transform knows
    elif backend == "auto":
        backend = best_backend(q.dtype, q.device, q.shape[-1])[0]
        on_gpu = q.device.type == "cuda"
        if not all(ops.last_is_contiguous(x) and (not on_gpu or ops.cuda_can_load(x)) for x in (q, k, v)):
            backend = "sdpa"  # the kernel wants no copy to be made in secret
    name, colon, rung = backend.partition(":") if isinstance(backend, str) else (None, "", "")
    if name not in BACKENDS or colon and not (name in ("kernel", "emulated") and rung):
        names = ", ".join(["auto", *BACKENDS])
        raise MinglmError(f"backend: {backend!r} is not one of {names}, kernel:RUNG, emulated:SCHEDULE")
    return BACKENDS[name](q, k, v, mask, scale, *([rung] if colon else []))


def reference(q, k, v, mask, scale):
    """Attention as the paper writes it, one sample at a time (paper eq. of section 2.1; Vaswani et al. 2017, eq. 1)."""
    out = []
    visible = mask.visible_keys()
    for s in range(len(mask.part_a_lens)):
        rows = slice(int(mask.cu_seqlens_q[s]), int(mask.cu_seqlens_q[s + 1]))
        first = int(mask.cu_seqlens_k[s])
        keys = slice(first, first + int(mask.len_k[s]))
        may_attend = torch.arange(int(mask.len_k[s])) < visible[rows, None]  # (Tq, Tk)
        may_attend = may_attend.to(q.device)

        scores = scale * torch.einsum("qhd,khd->hqk", q[rows], k[keys])  # (H, Tq, Tk)
        scores = scores.masked_fill(~may_attend, -math.inf)
        # subtle: the softmax of a row of -inf is NaN, and so is its gradient; such a row gets finite scores,
        # then weight 0
        blind = ~may_attend.any(-1, keepdim=True)  # (Tq, 1)
        weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
        out.append(torch.einsum("hqk,khd->qhd", weights, v[keys]))
    return torch.cat(out) if out else q * 0


def sdpa(q, k, v, mask, scale):
    """The same through PyTorch's scaled_dot_product_attention: one call a sample on a CPU, one padded call elsewhere.

    A CPU pays for every padded row and not for calls; a GPU pays for calls.
    """
    if len(q) == 0:
        return q * 0
    attend = _sdpa_by_sample if q.device.type == "cpu" else _sdpa_padded
    out = attend(q, k, v, mask, scale)
    blind = mask.remember("blind", lambda: mask.visible_keys() == 0)
    return out.masked_fill(blind.to(q.device)[:, None, None], 0) if blind.any() else out


def _sdpa_by_sample(q, k, v, mask, scale):
    grids = mask.remember("grids", lambda: _grids(mask))
    q, k, v = (
        x.split(cu.diff().tolist())
        for x, cu in zip((q, k, v), (mask.cu_seqlens_q, *[mask.cu_seqlens_k] * 2), strict=True)
    )
    out = []
    for qs, ks, vs, may_attend in zip(q, k, v, grids, strict=True):
        keys = may_attend.shape[1]
        if keys == 0:
            out.append(qs * 0)
        elif len(qs):
            qs, ks, vs = (x.transpose(0, 1)[None] for x in (qs, ks[:keys], vs[:keys]))  # (1, H, T, D)
            out.append(F.scaled_dot_product_attention(qs, ks, vs, may_attend, scale=scale)[0].transpose(0, 1))
    return torch.cat(out)


def _sdpa_padded(q, k, v, mask, scale):
    samples, room_q, room_k = len(mask.part_a_lens), int(mask.len_q.max()), int(mask.len_k.max())
    if room_k == 0:
        return q * 0
    row_slot, keys, key_slot, grid = mask.remember(
        ("padded", q.device), lambda: _padded(mask, room_q, room_k, q.device)
    )

    def pad(x, slot, room):
        padded = x.new_zeros(samples * room, *x.shape[1:]).index_copy(0, slot, x)
        return padded.view(samples, room, *x.shape[1:]).transpose(1, 2)  # (S, H, room, D)

    if (
        mask.seqlens_k is not None
    ):  # a cache with room to grow: what lies in the room may be anything, NaN too
        k, v = k.index_select(0, keys), v.index_select(0, keys)
    q, k, v = pad(q, row_slot, room_q), pad(k, key_slot, room_k), pad(v, key_slot, room_k)
    out = F.scaled_dot_product_attention(q, k, v, grid, scale=scale)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, row_slot)


def _grids(mask):
    """For each sample: (len_q, len_k) bool, True = may attend; a row that sees nothing is given key 0, to be zeroed later."""
    visible = mask.visible_keys().clamp(min=1).split(mask.len_q.tolist())
    return [
        torch.arange(keys) < rows[:, None] for rows, keys in zip(visible, mask.len_k.tolist(), strict=True)
    ]


def _padded(mask, room_q, room_k, device):
    """For a padded batch: where each row goes, which keys are read and where they go, and the mask (S, 1, room_q, room_k)."""
    grid = torch.zeros(len(mask.part_a_lens), 1, room_q, room_k, dtype=torch.bool)
    grid[..., 0] = True  # padded rows need something to see; what they compute is dropped
    for s, may_attend in enumerate(_grids(mask)):
        grid[s, 0, : may_attend.shape[0], : may_attend.shape[1]] = may_attend

    def runs(starts, lens):
        return torch.cat(
            [torch.arange(start, start + n) for start, n in zip(starts, lens.tolist(), strict=True)]
        ).to(device)

    rows = runs(range(0, len(grid) * room_q, room_q), mask.len_q)
    keys = runs(mask.cu_seqlens_k[:-1].tolist(), mask.len_k)
    return rows, keys, runs(range(0, len(grid) * room_k, room_k), mask.len_k), grid.to(device)


def _one_number(scale):
    if scale.numel() != 1 or not scale.is_floating_point():
        raise MinglmError(
            f"scale: {tuple(scale.shape)} of {scale.dtype}; a number or a tensor of one number is accepted"
        )
    return scale.reshape(())


def _checked(scale):
    if torch.compiler.is_compiling():
        return scale
    if not (isinstance(scale, Real) and math.isfinite(scale)):
        raise MinglmError(f"scale: {scale!r} is not accepted; a finite number or a tensor of one number is")
    return float(scale)


def _check(q, k, v, mask):
    if not isinstance(mask, GLMMask):
        raise MinglmError(f"mask: {type(mask).__name__}; a GLMMask is needed")
    if (
        any(x.dim() != 3 for x in (q, k, v))
        or k.shape != v.shape
        or q.shape[1:] != k.shape[1:]
        or not q.shape[-1]
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise MinglmError(
            f"q, k, v: shapes {shapes}; (Nq, H, D), (Nk, H, D), (Nk, H, D) with D > 0 are needed"
        )
    if not (q.dtype == k.dtype == v.dtype and q.device == k.device == v.device and q.is_floating_point()):
        kinds = ", ".join(f"{x.dtype} on {x.device}" for x in (q, k, v))
        raise MinglmError(f"q, k, v: {kinds}; one floating dtype on one device is needed")
    if torch.compiler.is_compiling():
        # numbers in tensors are not known while a graph is traced; the kernel's ops look again when they run
        return
    rows = mask.remember("rows", lambda: (int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])))
    for name, x, n in zip("qk", (q, k), rows, strict=True):
        if len(x) != n:
            raise MinglmError(f"{name}: {len(x)} rows, but the mask has {n}")


BACKENDS = {
    "kernel": ops.kernel_attention,
    "sdpa": sdpa,
    "reference": reference,
    "emulated": ops.emulated_attention,
}


# ---- what serves here, for banners and `minglm info` -----------------------------------------------------


def best_backend(dtype=torch.float32, device="cpu", head_dim=64):
    """What "auto" takes for such tensors, and why, in one line for the banner: ("kernel:avx512", reason).

    On a GPU the kernel has to pass a short test first, once a device. Raises MinglmError when MINGLM_KERNEL
    names a rung that this machine does not have.
    """
    device = torch.device(device)
    usable, why = ops.has_kernel(device)
    asked = ops.asked_rung() if device.type == "cpu" else None
    if device.type == "cuda" and usable:
        usable, why = _serves_on_cuda(dtype, device, head_dim)
    elif dtype == torch.float64:
        usable, why = False, "in float64 the kernel has only its slowest rung, for checks"
    elif usable and not ops.serves(dtype, asked):
        usable, why = (
            False,
            f"the kernel{f' of MINGLM_KERNEL={asked}' if asked else ''} does not serve {dtype}",
        )
    elif usable and head_dim > ops.MAX_HEAD_DIM:
        usable, why = False, f"the kernel serves heads up to a width of {ops.MAX_HEAD_DIM}, not {head_dim}"
    if not usable:
        return "sdpa", f"PyTorch's own attention; {why}"
    if device.type == "cuda":
        return "kernel", why
    rung = ops.choose_rung(dtype)
    return f"kernel:{rung}", "as MINGLM_KERNEL says" if asked else f"the fastest that this machine has; {why}"


@ops.constant_when_compiled  # the test below is no part of anybody's graph
def _serves_on_cuda(dtype, device, head_dim):
    major, minor = torch.cuda.get_device_capability(device)
    needed = (7, 5) if dtype == torch.float32 else (8, 0)
    if dtype not in ops.CUDA_DTYPES:
        return False, f"the kernel for GPUs does not serve {dtype}"
    if head_dim not in ops.CUDA_HEAD_DIMS:
        return (
            False,
            f"the kernel for GPUs serves head widths {', '.join(map(str, ops.CUDA_HEAD_DIMS))}, not {head_dim}",
        )
    if (major, minor) < needed:
        return (
            False,
            f"compute capability {major}.{minor}; for {dtype} the kernel needs {needed[0]}.{needed[1]}",
        )
    wrong = _wrong_on_cuda(
        dtype, torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    )
    return not wrong, wrong or "it passed its test against the reference on this device"


@functools.cache
def _wrong_on_cuda(dtype, device):
    """What the kernel gets wrong on a device, forward and backward on three small samples; None if it is right."""
    return wrong_by("kernel", dtype, device)


def wrong_by(backend, dtype, device):
    """What a backend gets wrong against `reference` in float64 on three small samples, in one line; None if it is right.

    It looks for wrong code, not for rounding: 2 % of the largest entry in 16 bits, 0.01 % in float32.
    """
    mask = GLMMask.packed([1, 37, 70], [0, 20, 70])
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(108, 2, 64, generator=generator).to(device, dtype) for _ in range(4)]
    try:
        truth = attention_and_gradients([x.double() for x in inputs], mask, "reference")
        found = attention_and_gradients(inputs, mask, backend)
    except Exception as error:  # whatever it is, there is another backend
        return (
            f"it failed its test: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        )
    for name, true in truth.items():
        error = float((found[name].double() - true).abs().max() / true.abs().max())
        if not error <= (1e-4 if dtype == torch.float32 else 0.02):
            return (
                f"it failed its test against the reference: {name} is off by {error:.1g} of the largest entry"
            )
    return None


def attention_and_gradients(inputs, mask, backend):
    """{name: tensor} of the attention of (q, k, v) and its gradients; inputs: q, k, v and the gradient of the result."""
    *qkv, grad = inputs
    qkv = [x.detach().requires_grad_() for x in qkv]
    with torch.enable_grad():
        out = masked_attention(*qkv, mask, backend=backend)
    grads = torch.autograd.grad(out, qkv, grad)
    return dict(zip(("out", "grad q", "grad k", "grad v"), (out.detach(), *grads), strict=True))


def backends(device="cpu"):
    """Every backend that `masked_attention` knows: list of (name, whether it serves on the device, why (not) in one line)."""
    usable, why = ops.has_kernel(device)
    if torch.device(device).type == "cpu":
        try:
            ops.asked_rung()
        except MinglmError as error:
            usable, why = False, str(error)
    emulator = (
        ops.has_emulator() if torch.device(device).type == "cpu" else (False, "it takes tensors on the CPU")
    )
    per = "a padded batch in one call" if torch.device(device).type != "cpu" else "one call a sample"
    return [
        ("kernel", usable, why),
        ("sdpa", True, f"PyTorch's scaled_dot_product_attention with a boolean mask, {per}"),
        ("reference", True, "plain PyTorch with the dense mask, to be read"),
        ("emulated", *emulator),
    ]


def kernel_rungs():
    """The kernel's ladder on a CPU, from the truth to the fastest: list of dict.

    name; built: this build has it; supported: this machine can run it; float32, bfloat16, float64: what it
    serves; chosen_for: the dtypes that backend="kernel" computes with it here.
    """
    chosen = {}
    for dtype, name in ops.DTYPES.items():
        try:
            chosen[name] = ops.choose_rung(dtype)
        except MinglmError:  # MINGLM_KERNEL names a rung that does not serve it, or this machine has no rung
            chosen[name] = None
    ladder = []
    for name in ops.LADDER:
        none = dict.fromkeys(("supported", *ops.DTYPES.values()), False)
        rung = dict(name=name, built=name in ops.RUNGS) | none | ops.RUNGS.get(name, {})
        ladder.append(rung | dict(chosen_for=[dtype for dtype in chosen if chosen[dtype] == name]))
    return ladder
