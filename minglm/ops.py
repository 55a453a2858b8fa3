"""The kernel's interface to torch: checks arguments, allocates outputs, and passes addresses to `minglm._C`.

    kernel_attention                              the public function, with an autograd.Function
      torch.ops.minglm._attention_forward         private ops, known to the profiler and torch.compile;
      torch.ops.minglm._attention_backward        they have no gradients
        minglm._C.cpu_forward, cpu_backward       plain addresses, strides and lengths (csrc/bindings.cpp)
        minglm._C.cuda_forward, cuda_backward     the same for tensors on a GPU, on its current stream
        minglm._C.emulated_forward, ...backward   csrc/cuda, run on the CPU

The Function calls the ops, because register_autograd would double the cost of a call. This module can be
imported without the compiled extension; `has_kernel` then says why nothing runs.
"""

import importlib
import os
import sys
from pathlib import Path

import torch
from torch.autograd import forward_ad

from .errors import MinglmError, note
from .machine import HERE, build_info

MAX_HEAD_DIM = 256
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}
CUDA_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
CUDA_HEAD_DIMS = (32, 64, 96, 128)
LADDER = ("scalar", "tiled", "avx2", "avx512", "avx512_bf16", "neon")  # all rungs, in this build or not


def _why_missing(error):
    """Why there is no extension, in one line."""
    if not isinstance(error, ModuleNotFoundError):
        return f"minglm._C does not load ({str(error).splitlines()[0]})"
    if installed := _installed_copy():
        return (
            f"{HERE} is a source folder without the compiled kernel, the copy in {installed} has it: "
            f"run `pip install -e .` in {HERE.parent}, or start Python in another folder"
        )
    return f"minglm._C was not built ({build_info().get('reason') or 'in a checkout: pip install -e .'})"


def _installed_copy():
    """The folder of a minglm elsewhere on sys.path that has the extension, or None."""
    folders = (Path(entry or ".").resolve() / "minglm" for entry in sys.path)
    return next((folder for folder in folders if folder != HERE and any(folder.glob("_C.*"))), None)


try:
    _C = importlib.import_module("._C", __package__)
except ImportError as error:
    _C, RUNGS, BEST, HOW = None, {}, {}, _why_missing(error)
    if _installed_copy():
        note(HOW)  # Python found the wrong one of two copies; training would be slow without a warning
else:
    HOW = f"compiled by {_C.compiler}, threads by {_C.cpu_threads_by()}"
    RUNGS = {rung["name"]: rung for rung in _C.cpu_rungs()}  # of this build
    # the fastest rung of this machine for each dtype
    BEST = {dtype: _C.cpu_best_rung(getattr(_C, name)) for dtype, name in DTYPES.items()}


# ---- what is available -----------------------------------------------------------------------------------


def has_kernel(device="cpu"):
    """Whether the kernel can run on a device, and why (not): (bool, one line)."""
    kind = torch.device(device).type
    if kind == "cuda" and _C is not None and _C.cuda_built:
        count, why = _cuda_devices()
        return count > 0, "compiled by nvcc" if count else why
    if _C is not None and kind != "cpu":
        why = build_info().get("cuda", {}).get("reason") if kind == "cuda" else None
        return False, f"this build has no kernel for {kind}{f' ({why})' if why else ''}"
    return _C is not None, HOW


def constant_when_compiled(function):
    """Marks a function that torch.compile must call while it traces instead of tracing it.

    It does what torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes as
    long as all other imports together.
    """
    function._dynamo_marked_constant = True
    return function


@constant_when_compiled
def _cuda_devices():
    return _C.cuda_devices()


def has_emulator():
    """Whether csrc/cuda can run on the CPU, and why (not): (bool, one line)."""
    if _C is None:
        return False, HOW
    if _C.emulated_built:
        return True, "csrc/cuda on the CPU, a thread at a time"
    return False, "it is built on Linux only"


def rungs():
    """The names of the rungs that this build has and this machine can run, in ladder order."""
    return [name for name, rung in RUNGS.items() if rung["supported"]]


def asked_rung():
    """The rung that MINGLM_KERNEL names, or None. Raises MinglmError when this machine does not have it."""
    name = os.environ.get("MINGLM_KERNEL")
    return _known(name, f"MINGLM_KERNEL={name}") if name else None


def choose_rung(dtype, name=None):
    """The rung that computes a dtype: the named one, else that of MINGLM_KERNEL, else the fastest.

    Raises MinglmError when this machine does not have the rung or the rung does not compute the dtype.
    """
    if not RUNGS:
        raise MinglmError(f"backend: the kernel cannot run: {HOW}")
    name = _known(name, f"backend: 'kernel:{name}'") if name else asked_rung()
    if not serves(dtype, name):
        served = ", ".join(other for kind, other in DTYPES.items() if serves(kind, name))
        raise MinglmError(
            f"q, k, v: {dtype}; {f'the rung {name} of ' if name else ''}the kernel serves {served}"
        )
    return name or BEST[dtype]


def serves(dtype, name=None):
    """Whether a rung (None: any) computes a dtype."""
    return dtype in DTYPES and (name is None or RUNGS[name][DTYPES[dtype]])


def _known(name, source):
    if name not in RUNGS or not RUNGS[name]["supported"]:
        raise MinglmError(f"{source}: this machine has {', '.join(rungs()) or f'no rung: {HOW}'}")
    return name


# ---- the public functions --------------------------------------------------------------------------------


def kernel_attention(q, k, v, mask, scale, rung=None, return_lse=False):
    """`masked_attention` by the kernel: q (Nq, H, D), k and v (Nk, H, D) -> (Nq, H, D).

    The last dimension must be contiguous. rung: a name of the ladder; None: see `choose_rung`. return_lse:
    return the logarithm of each row's sum of exp(scores) as well, (H, Nq), float32 (float64 for float64
    inputs), -inf for a row that sees no key; it has no gradient. Raises MinglmError for inputs that the
    kernel does not support.
    """
    _refuse_transforms(q, k, v)
    usable, why = has_kernel(q.device)
    if not usable:
        raise MinglmError(f"backend: the kernel cannot serve tensors on {q.device}: {why}")
    if q.device.type == "cuda":
        if rung:
            raise MinglmError(f"backend: 'kernel:{rung}' is a rung for CPUs; on {q.device} it is 'kernel'")
        return _attend(q, k, v, _lengths_on(mask, q.device), scale, "", return_lse)
    return _attend(q, k, v, _lengths(mask), scale, choose_rung(q.dtype, rung), return_lse)


def emulated_attention(q, k, v, mask, scale, schedule=None, return_lse=False):
    """`masked_attention` by the CUDA kernels, run on the CPU: slow, but with the same numbers as on a GPU.

    q (Nq, H, D), k and v (Nk, H, D) of float32, bfloat16 or float16 on the CPU, D one of CUDA_HEAD_DIMS ->
    (Nq, H, D). schedule: how the GPU's threads take turns, "in-order", "reverse" or "pct:SEED"
    (csrc/cuda_on_cpu/schedule.h); no result may depend on it. Raises MinglmError for unsupported inputs, and
    with a report when the kernels do something illegal.
    """
    _refuse_transforms(q, k, v)
    usable, why = has_emulator()
    if not usable or q.device.type != "cpu":
        why = "it takes those on the CPU" if usable else why
        raise MinglmError(f"backend: 'emulated' cannot serve tensors on {q.device}: {why}")
    return _attend(q, k, v, _lengths(mask), scale, f"{EMULATED}{schedule or 'in-order'}", return_lse)


def is_transformed(*tensors):
    """Whether torch.func (grad, vmap, jvp, jacrev, ...) or forward-mode autograd is at work here."""
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        return True
    is_forward_mode = forward_ad._current_level >= 0
    return is_forward_mode and any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def _refuse_transforms(*tensors):
    if is_transformed(*tensors):
        what = "the kernel serves no transforms of torch.func and no forward-mode gradients"
        raise MinglmError(f"backend: {what}; 'auto' and 'reference' do")


EMULATED = "emulated:"  # in the ops, a rung with this prefix is a schedule of the emulator


def _lengths(mask):
    return mask.cu_seqlens_q, mask.cu_seqlens_k, mask.part_a_lens, mask.seqlens_k


def _lengths_on(mask, device):
    """The mask's lengths on a GPU, copied once per mask, so a CUDA graph can keep their addresses."""

    def copy():
        return tuple(None if x is None else x.to(device, non_blocking=True) for x in _lengths(mask))

    return copy() if torch.compiler.is_compiling() else mask.remember(("lengths", device), copy)


def _attend(q, k, v, lengths, scale, rung, return_lse):
    # subtle: the raw ops have no backward; call them directly only when no gradient is needed
    learning = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    attend = _Attention.apply if learning else torch.ops.minglm._attention_forward
    out, lse = attend(q, k, v, *lengths, float(scale), rung)
    return (out, lse) if return_lse else out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, scale, rung):
        lengths = (cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k)
        out, lse = torch.ops.minglm._attention_forward(q, k, v, *lengths, scale, rung)
        ctx.save_for_backward(q, k, v, out, lse, *lengths)
        ctx.scale, ctx.rung = scale, rung
        ctx.mark_non_differentiable(lse)
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx, grad_out, _):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            what = "the kernel has no second derivatives, backend='reference' has them"
            raise MinglmError(f"create_graph: True; {what}")
        if grad_out is None:
            return (None,) * 9
        grads = torch.ops.minglm._attention_backward(grad_out, *ctx.saved_tensors, ctx.scale, ctx.rung)
        return *grads, *(None,) * 6


# ---- the private ops -------------------------------------------------------------------------------------

_LENGTHS = (
    "Tensor cu_seqlens_q, Tensor cu_seqlens_k, Tensor part_a_lens, Tensor? seqlens_k, float scale, str rung"
)
_library = torch.library.Library("minglm", "DEF")
_library.define(f"_attention_forward(Tensor q, Tensor k, Tensor v, {_LENGTHS}) -> (Tensor, Tensor)")
_library.define(
    f"_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_LENGTHS})"
    " -> (Tensor, Tensor, Tensor)"
)


def _forward(q, k, v, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, scale, rung):
    lengths = (cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k)
    checked = _check(q, k, v, *lengths, rung)
    out, lse = _forward_fake(q, k, v, *lengths, scale, rung)
    _call("forward", rung, q.device, *checked, scale, lengths, *map(_rows, (q, k, v, out)), lse.data_ptr())
    return out, lse


def _backward(grad_out, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, scale, rung):
    lengths = (cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k)
    checked = _check(q, k, v, *lengths, rung)
    for name, x, shape, dtype in (
        ("grad_out", grad_out, q.shape, q.dtype),
        ("out", out, q.shape, q.dtype),
        ("lse", lse, (q.shape[1], q.shape[0]), _lse_dtype(q)),
    ):
        if x.shape != shape or x.dtype != dtype or x.device != q.device:
            raise MinglmError(f"{name}: {_kind(x)}; {tuple(shape)} of {dtype} on {q.device} is needed")
    # subtle: the gradient of a sum is one number, expanded: all its strides are 0
    on_grid = grad_out.stride(-1) == 1 and 0 not in grad_out.stride() and cuda_can_load(grad_out)
    grad_out = grad_out if on_grid else grad_out.clone(memory_format=torch.contiguous_format)
    out, lse = out if out.stride(-1) == 1 else out.contiguous(), lse.contiguous()
    grads = grad_q, grad_k, grad_v = _backward_fake(grad_out, q, k, v, out, lse, *lengths, scale, rung)
    if seqlens_k is not None:  # the kernel does not touch a cache's unused slots
        grad_k.zero_(), grad_v.zero_()
    tensors = [*map(_rows, (q, k, v, out)), lse.data_ptr(), *map(_rows, (grad_out, *grads))]
    if _runs_cuda(q.device, rung):
        delta = lse.new_empty(lse.shape)  # memory for rowsum(dO * O)
        tensors.append(delta.data_ptr())
    _call("backward", rung, q.device, *checked, scale, lengths, *tensors)
    return grads


def _forward_fake(q, *_):
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=_lse_dtype(q))


def _backward_fake(grad_out, q, k, v, *_):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


# torch.compile works with them: the tests use backend="aot_eager", because inductor, the default, needs a C++
# compiler at run time.
for _name, _run, _fake in (
    ("_attention_forward", _forward, _forward_fake),
    ("_attention_backward", _backward, _backward_fake),
):
    _library.impl(_name, _run, "CPU")
    _library.impl(_name, _run, "CUDA")
    torch.library.register_fake(f"minglm::{_name}", _fake, lib=_library)


def _lse_dtype(q):
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _rows(x):
    """A (rows, H, D) tensor as the extension reads it: address, row stride, head stride."""
    return x.data_ptr(), x.stride(0), x.stride(1)


def _runs_cuda(device, rung):
    """Whether csrc/cuda computes it, on a GPU or emulated on the CPU."""
    return device.type == "cuda" or rung.startswith(EMULATED)


def _call(direction, rung, device, dtype, sizes, scale, lengths, *tensors):
    lengths = tuple(0 if x is None else x.data_ptr() for x in lengths)
    rest = (dtype, sizes, scale, lengths, *tensors)
    try:
        if device.type == "cuda":
            major, minor = torch.cuda.get_device_capability(device)
            with torch.cuda.device(device):  # kernels go to the current device, on its current stream
                stream = torch.cuda.current_stream(device).cuda_stream
                getattr(_C, f"cuda_{direction}")(device.index, stream, 10 * major + minor, *rest)
        elif rung.startswith(EMULATED):
            getattr(_C, f"emulated_{direction}")(rung.removeprefix(EMULATED), torch.get_num_threads(), *rest)
        else:
            getattr(_C, f"cpu_{direction}")(rung, torch.get_num_threads(), *rest)
    except ValueError as error:  # the extension checks the values of the lengths
        raise MinglmError(str(error)) from None


def _check(q, k, v, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, rung):
    """Check what the extension relies on. Returns the extension's number for the dtype, and the sizes."""
    if _C is None:
        raise MinglmError(f"backend: the kernel cannot run: {HOW}")
    dtypes = CUDA_DTYPES if _runs_cuda(q.device, rung) else DTYPES
    if not (q.dim() == k.dim() == v.dim() == 3 and k.shape == v.shape and q.shape[1:] == k.shape[1:]):
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise MinglmError(f"q, k, v: shapes {shapes}; (Nq, H, D), (Nk, H, D), (Nk, H, D) are needed")
    if not (q.dtype == k.dtype == v.dtype and q.dtype in dtypes):
        kinds = ", ".join(str(x.dtype) for x in (q, k, v))
        raise MinglmError(f"q, k, v: {kinds}; all {', '.join(dtypes.values())} alike are accepted")
    heads, width = q.shape[1:]
    if not 1 <= width <= MAX_HEAD_DIM:
        raise MinglmError(f"q, k, v: head width {width}; the kernel accepts 1 to {MAX_HEAD_DIM}")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.device.type not in ("cpu", "cuda") or x.device != q.device:
            raise MinglmError(f"{name}: on {x.device}; {q.device if x is not q else 'cpu or cuda'} is needed")
        if not last_is_contiguous(x):
            raise MinglmError(f"{name}: strides {x.stride()}; the last one must be 1, the others are free")
    samples = part_a_lens.numel()
    lengths = dict(cu_seqlens_q=(cu_seqlens_q, samples + 1), cu_seqlens_k=(cu_seqlens_k, samples + 1))
    lengths |= dict(part_a_lens=(part_a_lens, samples), seqlens_k=(seqlens_k, samples))
    for name, (x, entries) in lengths.items():
        if x is None:
            continue
        if x.dtype != torch.int32 or x.shape != (entries,) or not x.is_contiguous() or x.device != q.device:
            needed = f"a contiguous row of {entries} int32 on {q.device} is needed"
            raise MinglmError(f"{name}: {_kind(x)}; {needed}")
    return getattr(_C, dtypes[q.dtype]), (samples, heads, width, q.shape[0], k.shape[0])


def cuda_can_load(x):
    """Whether the CUDA kernels can load a (rows, H, D) tensor: 16 bytes at a time in 16-bit dtypes."""
    return x.element_size() != 2 or all(n % 8 == 0 for n in (x.data_ptr() // 2, x.stride(0), x.stride(1)))


def last_is_contiguous(x):
    """Whether the numbers of one row and head are adjacent."""
    return x.stride(-1) == 1 or x.shape[-1] == 1


def _kind(x):
    return f"{tuple(x.shape)} of {x.dtype} on {x.device}"


def cuda():
    """The state of the CUDA kernels as a dict: built or why not, devices, driver, emulation on the CPU."""
    built = bool(getattr(_C, "cuda_built", False))
    count, driver = _C.cuda_devices() if built else (0, None)
    note = build_info().get("cuda", {})
    return dict(
        built=built,
        nvcc=note.get("nvcc"),
        archs=note.get("archs", []),
        machine_code=note.get("machine_code", True),
        reason=None if built else note.get("reason"),
        devices=count,
        driver=driver,
        capability=_C.cuda_capability(0) if count else None,
        emulated=bool(getattr(_C, "emulated_built", False)),
    )


def why_no_gpu():
    """Why PyTorch sees no GPU, in one line; a build with CUDA asks the driver, too."""
    state, version = cuda(), torch.version.cuda
    if state["devices"]:
        build = f"is built for CUDA {version}" if version else "is built without CUDA"
        return f"PyTorch sees no GPU, the driver shows {state['devices']}: this PyTorch {build}"
    return f"PyTorch sees no GPU{', and the driver: ' + state['driver'] if state['driver'] else ''}"
