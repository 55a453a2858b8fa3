"""Attention: `masked_attention(q, k, v, mask)` and its backends.

    reference   a few lines of PyTorch per sample with the dense mask: the definition, to be read in a minute
    sdpa        PyTorch's scaled_dot_product_attention with a boolean mask
    kernel      csrc/: skips masked pairs and builds no mask; it has versions, its rungs (kernel:RUNG)
    emulated    the CUDA kernels run on the CPU, one thread at a time, for tests and for stepping through
    auto        kernel where it is available, else sdpa (in transforms of torch.func: reference)

Every backend gives every argument the same meaning. There is no dropout on attention weights.
"""

import functools
import math
import os
from numbers import Real

import torch
import torch.nn.functional as F

from . import ops
from .checks import finite
from .errors import MinglmError
from .kernel import varlen
from .kernel.hopper import HOPPER, why_no_hopper
from .kernel.lengths import sent
from .mask import GLMMask


def masked_attention(q, k, v, mask, *, scale=None, backend="auto"):
    """softmax(scale q k^T + mask) v for every sample of a packed batch and every head.

    q: (Nq, H, D), k and v: (Nk, K, D), mask: GLMMask -> (Nq, H, D). With K < H, each head of k and v serves
    H / K neighbouring heads of q (grouped-query attention). scale: a number, or a tensor of one number,
    which gets a gradient; 1 / sqrt(D) by default.
    A row that sees no key gives 0 and passes no gradient. backend: "auto", "kernel", "kernel:RUNG" (a name
    from `kernel_rungs`; without it that of MINGLM_KERNEL, else the fastest), "sdpa", "reference", "emulated"
    or "emulated:SCHEDULE" (in-order, reverse, pct:SEED: how the threads of the GPU take turns; with "hopper:"
    before it, the kernel for Hopper). On a GPU, "kernel:hopper" is the one for compute capability 9.0. Raises
    MinglmError when shapes, dtypes or the backend do not fit.

    On a GPU, any stream may use a mask. Before a CUDA graph is captured, call this once with the same mask.
    """
    if q.shape[1:] != k.shape[1:] and is_grouped(q, k, v):
        return _grouped(q, k, v, mask, scale, backend)
    if isinstance(scale, torch.Tensor):  # subtle: as a factor of q it gets its gradient from every backend
        q, scale = q * _one_number(scale), 1.0
    if not isinstance(mask, GLMMask):
        raise MinglmError(f"mask: {type(mask).__name__}; a GLMMask is needed")
    name, *how = _backend_of(q, k, v, mask, backend)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else _checked(scale)
    return BACKENDS[name](q, k, v, mask, scale, *how)


def parts_of(qkv):
    """q, k and v, three views (N, H, D) of one tensor (N, 3, H, D).

    The kernel writes the gradients of such views into one tensor: the gradient of `qkv`, without a copy.
    """
    learning = torch.is_grad_enabled() and qkv.requires_grad
    if not learning or torch.compiler.is_compiling() or ops.is_transformed(qkv):
        return qkv.unbind(1)
    return _Parts.apply(qkv)


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv):
        return qkv.unbind(1)

    @staticmethod
    def backward(ctx, *grads):
        whole = grads[0]._base
        if whole is not None and whole.dim() == 4 and not torch.is_grad_enabled():
            parts = whole.unbind(1)
            if len(parts) == 3 and all(map(_is_the_same_view, grads, parts)):
                return whole
        return torch.stack(grads, 1)


def _is_the_same_view(x, y):
    return x.data_ptr() == y.data_ptr() and x.shape == y.shape and x.stride() == y.stride()


def is_grouped(q, k, v):
    """Whether several heads of q share each head of k and v."""
    if not q.dim() == k.dim() == v.dim() == 3 or q.shape[1] == k.shape[1] or not k.shape[1]:
        return False
    return k.shape == v.shape and q.shape[1] % k.shape[1] == 0


def _grouped(q, k, v, mask, scale, backend):
    """Each call takes one query head of every group, as a view: no backend has to copy k and v."""
    groups = q.unflatten(1, (k.shape[1], -1)).unbind(2)  # H / K views (Nq, K, D)
    outs = [masked_attention(x, k, v, mask, scale=scale, backend=backend) for x in groups]
    return torch.stack(outs, 2).flatten(1, 2)  # (Nq, H, D)


def _backend_of(q, k, v, mask, backend):
    """The backend for these tensors: (name, rung) or (name,). A mask remembers what it has served."""
    if ops.is_watched(q, k, v) or not isinstance(backend, str):
        return _choose_backend(q, k, v, mask, backend)
    if backend == "auto" and q.is_cuda and not all(map(ops.cuda_can_load, (q, k, v))):
        return ("sdpa",)
    kind = backend, os.environ.get("MINGLM_KERNEL"), ops.kind_of(q, k, v)
    return mask.remember(kind, lambda: _prepare_backend(q, k, v, mask, backend))


def _prepare_backend(q, k, v, mask, backend):
    """The same, with the kernel's Problem in place of a rung, so that the next call checks nothing again."""
    name, *rung = _choose_backend(q, k, v, mask, backend)
    return (name, ops.PROBLEMS[name](q, k, v, mask, *rung)) if name in ops.PROBLEMS else (name,)


def _choose_backend(q, k, v, mask, backend):
    _check(q, k, v, mask)
    if backend == "auto" and ops.is_transformed(q, k, v):
        backend = "reference"  # plain PyTorch, which every transform knows
    elif backend == "auto":
        backend = best_backend(q.dtype, q.device, q.shape[-1])[0]
        on_gpu = q.device.type == "cuda"
        if not all(ops.last_is_contiguous(x) and (not on_gpu or ops.cuda_can_load(x)) for x in (q, k, v)):
            backend = "sdpa"  # the kernel does not copy inputs silently; such strides go to sdpa
    name, colon, rung = backend.partition(":") if isinstance(backend, str) else (None, "", "")
    if name not in BACKENDS or colon and not (name in ops.PROBLEMS and rung):
        names = ", ".join(["auto", *BACKENDS])
        raise MinglmError(f"backend: {backend!r} is not one of {names}, kernel:RUNG, emulated:SCHEDULE")
    return (name, rung) if colon else (name,)


def reference(q, k, v, mask, scale):
    """Attention as the paper defines it, one sample at a time (section 2.1; Vaswani et al. 2017, eq. 1)."""
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
        # then weights of 0
        blind = ~may_attend.any(-1, keepdim=True)  # (Tq, 1)
        weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
        out.append(torch.einsum("hqk,khd->qhd", weights, v[keys]))
    return torch.cat(out) if out else q * 0


def attention_weights(q, k, mask):
    """The weights that `reference` gives the values, for pictures: a list of (H, T, T), one per sample.

    q, k: (N, H, D). Each row sums to 1. Raises MinglmError when a score is not finite.
    """
    lens, weights = mask.len_q.tolist(), []
    for qs, ks, visible in zip(q.split(lens), k.split(lens), mask.visible_keys().split(lens), strict=True):
        may_attend = (torch.arange(len(ks)) < visible[:, None]).to(q.device)  # (T, T)
        scores = torch.einsum("qhd,khd->hqk", qs, ks) / math.sqrt(q.shape[-1])
        weights.append(finite(scores).masked_fill(~may_attend, -math.inf).softmax(-1))
    return weights


def sdpa(q, k, v, mask, scale):
    """Attention by PyTorch: one call per sample on a CPU; on a GPU two packed calls, or one padded call.

    On a CPU padded rows cost more than calls, on a GPU calls cost more.
    """
    if len(q) == 0:
        return q * 0
    attend = _sdpa_by_sample if q.device.type == "cpu" else _sdpa_padded
    if varlen.can_serve(q, mask) and not _wrong_on_cuda(q.dtype, q.device, q.shape[-1], "varlen"):
        attend = varlen.attend
    out = attend(q, k, v, mask, scale)
    blind = mask.remember("blind", lambda: mask.visible_keys() == 0)
    return out.masked_fill(blind.to(q.device)[:, None, None], 0) if blind.any() else out


def _sdpa_by_sample(q, k, v, mask, scale):
    grids = mask.remember("grids", lambda: _grids(mask))
    lens_q, slots_k, out = mask.len_q.tolist(), mask.cu_seqlens_k.diff().tolist(), []
    samples = zip(q.split(lens_q), k.split(slots_k), v.split(slots_k), grids, strict=True)
    for qs, ks, vs, may_attend in samples:
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

    if mask.seqlens_k is not None:  # unused slots of a cache may hold anything, even NaN
        k, v = k.index_select(0, keys), v.index_select(0, keys)
    q, k, v = pad(q, row_slot, room_q), pad(k, key_slot, room_k), pad(v, key_slot, room_k)
    out = F.scaled_dot_product_attention(q, k, v, grid, scale=scale)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, row_slot)


def _grids(mask):
    """The dense mask of each sample, (len_q, len_k) bool; a row that sees no key gets key 0, zeroed later."""
    visible = mask.visible_keys().clamp(min=1).split(mask.len_q.tolist())
    return [torch.arange(n) < rows[:, None] for rows, n in zip(visible, mask.len_k.tolist(), strict=True)]


def _padded(mask, room_q, room_k, device):
    """How to pad a batch: slots of its rows, its keys, slots of the keys, mask (S, 1, room_q, room_k)."""
    grid = torch.zeros(len(mask.part_a_lens), 1, room_q, room_k, dtype=torch.bool)
    grid[..., 0] = True  # a padded row must see something; its result is dropped
    for s, may_attend in enumerate(_grids(mask)):
        grid[s, 0, : may_attend.shape[0], : may_attend.shape[1]] = may_attend

    def runs(starts, lens):
        parts = [torch.arange(start, start + n) for start, n in zip(starts, lens.tolist(), strict=True)]
        return sent(torch.cat(parts), device)

    rows = runs(range(0, len(grid) * room_q, room_q), mask.len_q)
    keys = runs(mask.cu_seqlens_k[:-1].tolist(), mask.len_k)
    return rows, keys, runs(range(0, len(grid) * room_k, room_k), mask.len_k), sent(grid, device)


def _one_number(scale):
    if scale.numel() != 1 or not scale.is_floating_point():
        kind = f"{tuple(scale.shape)} of {scale.dtype}"
        raise MinglmError(f"scale: {kind}; a number or a tensor of one number is accepted")
    return scale.reshape(())


def _checked(scale):
    if torch.compiler.is_compiling():
        return scale
    if not (isinstance(scale, Real) and math.isfinite(scale)):
        raise MinglmError(f"scale: {scale!r} is not accepted; a finite number or a tensor of one number is")
    return float(scale)


def _check(q, k, v, mask):
    are_3d = all(x.dim() == 3 for x in (q, k, v))
    if not are_3d or k.shape != v.shape or q.shape[1:] != k.shape[1:] or not q.shape[-1]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        needed = "(Nq, H, D), (Nk, K, D), (Nk, K, D) with D > 0 are needed, where K divides H"
        raise MinglmError(f"q, k, v: shapes {shapes}; {needed}")
    if not (q.dtype == k.dtype == v.dtype and q.device == k.device == v.device and q.is_floating_point()):
        kinds = ", ".join(f"{x.dtype} on {x.device}" for x in (q, k, v))
        raise MinglmError(f"q, k, v: {kinds}; one floating dtype on one device is needed")
    if torch.compiler.is_compiling():
        return  # a traced graph may serve any number of rows; the kernel's ops compare them when it runs
    for name, x, n in (("q", q, mask.num_queries), ("k", k, mask.num_keys)):
        if len(x) != n:
            raise MinglmError(f"{name}: {len(x)} rows, but the mask has {n}")


BACKENDS = {
    "kernel": ops.kernel_attention,
    "sdpa": sdpa,
    "reference": reference,
    "emulated": ops.emulated_attention,
}


# ---- what is available here, for banners and `minglm info` -----------------------------------------------


def best_backend(dtype=torch.float32, device="cpu", head_dim=64):
    """The backend that "auto" chooses for such tensors, and why, in one line: ("kernel:avx512", reason).

    On a GPU the kernel must pass a short test first, once per device. Raises MinglmError when MINGLM_KERNEL
    names a rung that this machine does not have.
    """
    device = torch.device(device)
    usable, why = ops.has_kernel(device)
    rung = ops.asked_rung() if device.type == "cpu" else None
    if device.type == "cuda" and usable:
        usable, why = _serves_on_cuda(dtype, device, head_dim)
    elif dtype == torch.float64:
        usable, why = False, "in float64 the kernel has only its slowest rung, for checks"
    elif usable and not ops.serves(dtype, rung):
        usable, why = False, f"the kernel{f' of MINGLM_KERNEL={rung}' if rung else ''} does not serve {dtype}"
    elif usable and head_dim > ops.MAX_HEAD_DIM:
        usable, why = False, f"the kernel serves heads up to a width of {ops.MAX_HEAD_DIM}, not {head_dim}"
    if not usable:
        return "sdpa", f"PyTorch's own attention; {why}"
    if device.type == "cuda":
        return _rung_on_cuda(dtype, device, head_dim, why)
    why = "as MINGLM_KERNEL says" if rung else f"the fastest that this machine has; {why}"
    return f"kernel:{ops.choose_rung(dtype)}", why


@ops.constant_when_compiled  # keeps the test out of the compiled graph
def _serves_on_cuda(dtype, device, head_dim):
    major, minor = torch.cuda.get_device_capability(device)
    needed = (7, 5) if dtype == torch.float32 else (8, 0)
    if dtype not in ops.CUDA_DTYPES:
        return False, f"the kernel for GPUs does not serve {dtype}"
    if head_dim not in ops.CUDA_HEAD_DIMS:
        widths = ", ".join(map(str, ops.CUDA_HEAD_DIMS))
        return False, f"the kernel for GPUs serves head widths {widths}, not {head_dim}"
    if (major, minor) < needed:
        why = f"compute capability {major}.{minor}; for {dtype} the kernel needs {needed[0]}.{needed[1]}"
        return False, why
    index = torch.cuda.current_device() if device.index is None else device.index
    if dtype == torch.float32:
        return False, "in float32 its kernel for GPUs is written to be read, PyTorch's uses tensor cores"
    wrong = _wrong_on_cuda(dtype, torch.device("cuda", index), head_dim)
    return not wrong, wrong or "it passed its test against the reference on this device"


@ops.constant_when_compiled
def _rung_on_cuda(dtype, device, head_dim, why):
    """The kernel for Hopper where it passes its test, else the one before it: (backend, reason)."""
    index = torch.cuda.current_device() if device.index is None else device.index
    if why_no_hopper(dtype, device, head_dim):
        return "kernel", why
    if wrong := _wrong_on_cuda(dtype, torch.device("cuda", index), head_dim, f"kernel:{HOPPER}"):
        return "kernel", f"{why}; without its rung for Hopper: {wrong}"
    return f"kernel:{HOPPER}", why


@functools.cache
def _wrong_on_cuda(dtype, device, head_dim, backend="kernel"):
    """`wrong_by` of a backend on a GPU, computed once per dtype, device and head width."""
    return wrong_by(backend, dtype, device, head_dim)


def wrong_by(backend, dtype, device, head_dim=64):
    """How a backend differs from `reference` in float64 on small samples, all rows and the last ones, in one
    line, or None.

    The tolerance finds wrong code, not rounding: 2 % of the largest entry in 16 bits, 0.01 % in float32.
    """
    kind = torch.device(device).type
    try:
        # subtle: the first attention of a process may come in any mode, and a test that fails is remembered
        with torch.inference_mode(False), torch.autocast(kind, enabled=False), torch.device("cpu"):
            return _wrong_by(backend, dtype, device, head_dim)
    except Exception as error:  # whatever it is, there is another backend
        line = str(error).splitlines()[0] if str(error) else ""
        lost = "; after that, nothing works on this GPU before a restart" if "illegal" in line else ""
        return f"it failed its test: {type(error).__name__}: {line}{lost}"


def _wrong_by(backend, dtype, device, head_dim):
    whole, generator = GLMMask.packed([1, 37, 70], [0, 20, 70]), torch.Generator().manual_seed(0)
    masks = [whole]
    if backend != "varlen":  # a few rows at the end, as while a blank is filled: kernels may differ
        masks.append(whole.with_queries([1, 1, 2]))
        masks.append(GLMMask.packed([1100], [500]).with_queries([2]))  # blocks of a GPU share so many keys
        # backward has a kernel for many short samples: with the empty ones they are many for this GPU
        gpu = torch.device(device)
        empty = [0] * ops.sizes_of(gpu if gpu.type == "cuda" else None)[0]
        masks.append(GLMMask.packed([130, 20, *empty], [40, 20, *empty]))
    if HOPPER in backend:  # its ring of tiles goes round after 384 keys
        masks.append(GLMMask.packed([400, 20], [150, 0]))
    size = max(mask.num_keys for mask in masks), 2, head_dim
    q, *rest = (torch.randn(size, generator=generator).to(device, dtype) for _ in range(4))
    for mask in masks:
        rows, keys = mask.num_queries, mask.num_keys
        inputs = [q[:rows], rest[0][:keys], rest[1][:keys], rest[2][:rows]]
        truth = attention_and_gradients([x.double() for x in inputs], mask, "reference")
        results = attention_and_gradients(inputs, mask, backend)
        for name, true in truth.items():
            error = float((results[name].double() - true).abs().max() / true.abs().max())
            if not error <= (1e-4 if dtype == torch.float32 else 0.02):
                what = f"{name} is off by {error:.1g} of the largest entry"
                return f"it failed its test against the reference: {what}"
    return None


def attention_and_gradients(inputs, mask, backend):
    """The output and the gradients as {name: tensor}; inputs: q, k, v and the gradient of the output."""
    *qkv, grad = inputs
    qkv = [x.detach().requires_grad_() for x in qkv]
    with torch.enable_grad():
        if backend == "varlen":  # a part of sdpa
            out = varlen.attend(*qkv, mask, 1 / math.sqrt(qkv[0].shape[-1]))
        else:
            out = masked_attention(*qkv, mask, backend=backend)
    grads = torch.autograd.grad(out, qkv, grad)
    return dict(zip(("out", "grad q", "grad k", "grad v"), (out.detach(), *grads), strict=True))


def backends(device="cpu"):
    """The backends of `masked_attention`: list of (name, whether it works on the device, why (not))."""
    usable, why = ops.has_kernel(device)
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu:
        try:
            ops.asked_rung()
        except MinglmError as error:
            usable, why = False, str(error)
    emulator = ops.has_emulator() if on_cpu else (False, "it takes tensors on the CPU")
    per = "one call per sample" if on_cpu else "a padded batch in one call"
    return [
        ("kernel", usable, why),
        ("sdpa", True, f"PyTorch's scaled_dot_product_attention with a boolean mask, {per}"),
        ("reference", True, "plain PyTorch with the dense mask, to be read"),
        ("emulated", *emulator),
    ]


def kernel_rungs():
    """The kernel's versions for CPUs (rungs of a ladder), from the simplest to the fastest: list of dict.

    name; built: this build has it; supported: this machine can run it; float32, bfloat16, float64: whether it
    computes them; chosen_for: the dtypes that backend="kernel" computes with it here.
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
