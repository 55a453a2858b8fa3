"""The kernel's interface to torch: checks arguments, allocates outputs, and passes addresses to `minglm._C`.

    kernel_attention, emulated_attention    the public functions
      Problem                               a mask and a kind of q, k, v: checked once, then called directly
      torch.ops.minglm._attention_...       the same for torch.compile, profilers and tensor subclasses
        minglm._C.Problem                   plain addresses, strides and lengths (csrc/bindings.cpp):
          .cpu_forward, .cpu_backward       csrc/cpu
          .cuda_forward, .cuda_backward     csrc/cuda, for tensors on a GPU, on its current stream
          .emulated_forward, ...backward    csrc/cuda, run on the CPU

This module can be imported without the compiled extension; `has_kernel` then says why nothing runs.
"""

import os

import torch
from torch.autograd import forward_ad

from .errors import MinglmError
from .kernel.extension import _C, BEST, DTYPES, HOW, RUNGS, capability, sizes_of
from .kernel.extension import constant_when_compiled as constant_when_compiled
from .kernel.extension import cuda as cuda
from .kernel.extension import why_no_gpu as why_no_gpu
from .kernel.hopper import HOPPER, rung_on_gpu
from .kernel.lengths import Lengths, host_lengths, lengths_of, packed, views
from .machine import build_info

MAX_HEAD_DIM = 256
CUDA_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
CUDA_HEAD_DIMS = (32, 64, 96, 128)
LADDER = ("scalar", "tiled", "avx2", "avx512", "avx512_bf16", "neon")  # all rungs, in this build or not


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
    return _rung_here(name, f"MINGLM_KERNEL={name}") if name else None


def choose_rung(dtype, name=None):
    """The rung that computes a dtype: the named one, else that of MINGLM_KERNEL, else the fastest.

    Raises MinglmError when this machine does not have the rung or the rung does not compute the dtype.
    """
    if not RUNGS:
        raise MinglmError(f"backend: the kernel cannot run: {HOW}")
    name = _rung_here(name, f"backend: 'kernel:{name}'") if name else asked_rung()
    if not serves(dtype, name):
        served = ", ".join(other for kind, other in DTYPES.items() if serves(kind, name))
        raise MinglmError(
            f"q, k, v: {dtype}; {f'the rung {name} of ' if name else ''}the kernel serves {served}"
        )
    return name or BEST[dtype]


def serves(dtype, name=None):
    """Whether a rung (None: any) computes a dtype."""
    return dtype in DTYPES and (name is None or RUNGS[name][DTYPES[dtype]])


def _rung_here(name, source):
    if name not in RUNGS or not RUNGS[name]["supported"]:
        raise MinglmError(f"{source}: this machine has {', '.join(rungs()) or f'no rung: {HOW}'}")
    return name


# ---- the public functions --------------------------------------------------------------------------------


def kernel_attention(q, k, v, mask, scale, rung=None, return_lse=False):
    """`masked_attention` by the kernel: q (Nq, H, D), k and v (Nk, H, D) -> (Nq, H, D).

    The last dimension must be contiguous. rung: a name of the ladder (None: see `choose_rung`), or a Problem.
    return_lse: return the logarithm of each row's sum of exp(scores) as well, (H, Nq), float32 (float64 for
    float64 inputs), -inf for a row that sees no key; it has no gradient. Raises MinglmError for inputs that
    the kernel does not support.
    """
    problem = rung if isinstance(rung, Problem) else kernel_problem(q, k, v, mask, rung)
    return _attend(problem, q, k, v, mask, scale, return_lse)


def kernel_problem(q, k, v, mask, rung=None):
    """The Problem of the kernel; only the name of its rung where something follows the ops."""
    _refuse_transforms(q, k, v)
    usable, why = has_kernel(q.device)
    if not usable:
        raise MinglmError(f"backend: the kernel cannot serve tensors on {q.device}: {why}")
    rung = rung_on_gpu(q, rung) if q.device.type == "cuda" else choose_rung(q.dtype, rung)
    return _problem(q, k, v, mask, rung)


def emulated_attention(q, k, v, mask, scale, schedule=None, return_lse=False):
    """`masked_attention` by the CUDA kernels, run on the CPU: slow, but with the same numbers as on a GPU.

    q (Nq, H, D), k and v (Nk, H, D) of float32, bfloat16 or float16 on the CPU, D one of CUDA_HEAD_DIMS ->
    (Nq, H, D). schedule: how the GPU's threads take turns, "in-order", "reverse" or "pct:SEED"
    (csrc/cuda_on_cpu/schedule.h); no result may depend on it. "hopper", or "hopper:" and a schedule: forward
    by the kernel for Hopper. Raises MinglmError for unsupported inputs, and
    with a report when the kernels do something illegal.
    """
    problem = schedule if isinstance(schedule, Problem) else emulated_problem(q, k, v, mask, schedule)
    return _attend(problem, q, k, v, mask, scale, return_lse)


def emulated_problem(q, k, v, mask, schedule=None):
    """The Problem of the emulator; only the schedule, with a prefix, where something follows the ops."""
    _refuse_transforms(q, k, v)
    usable, why = has_emulator()
    if not usable or q.device.type != "cpu":
        why = "it takes those on the CPU" if usable else why
        raise MinglmError(f"backend: 'emulated' cannot serve tensors on {q.device}: {why}")
    return _problem(q, k, v, mask, f"{EMULATED}{schedule or 'in-order'}")


PROBLEMS = {"kernel": kernel_problem, "emulated": emulated_problem}


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


# ---- what a mask has proved ------------------------------------------------------------------------------


def kind_of(q, k, v):
    """Everything about q, k and v that a check looks at, except where they are in memory."""
    layout = q.shape, k.shape, v.shape, q.stride(), k.stride(), v.stride()
    return *layout, q.dtype, k.dtype, v.dtype, q.device, k.device, v.device


def is_watched(q, k, v):
    """Whether something follows the ops: torch.compile, transforms, a profiler, a mode, a subclass."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or is_transformed(q, k, v):
        return True
    plain = type(q) in PLAIN and type(k) in PLAIN and type(v) in PLAIN
    return not plain or torch.autograd.profiler._is_profiler_enabled


PLAIN = (torch.Tensor, torch.nn.Parameter)


def _problem(q, k, v, mask, rung):
    return rung if is_watched(q, k, v) else Problem(q, k, v, lengths_of(mask, q.device), rung)


def _attend(problem, q, k, v, mask, scale, return_lse):
    # subtle: nothing below has a backward of its own; it is called bare only when no gradient is needed
    learning = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if isinstance(problem, Problem):
        if learning:
            return _Attention.apply(q, k, v, problem, scale, return_lse)
        out, lse = problem.forward(q, k, v, scale)
    else:
        attend = _AttentionByOps.apply if learning else torch.ops.minglm._attention_forward
        rows = mask.num_queries, mask.num_keys
        out, lse = attend(q, k, v, *_lengths_for_ops(mask, q.device), *rows, float(scale), problem)
    return (out, lse) if return_lse else out


def _lengths_for_ops(mask, device):
    """The lengths as tensors that a traced graph reads, copied to a GPU once per mask."""
    if device.type == "cpu":
        return host_lengths(mask)
    how = dict(device=device, non_blocking=True)
    return mask.remember(("lengths in graphs", device), lambda: views(packed(mask).to(**how), mask))


class Problem:
    """The lengths of a mask and a kind of q, k and v: all that a call needs, except addresses and scale.

    lengths: Lengths on their device. Making it checks everything, so that a call takes a few microseconds.
    """

    def __init__(self, q, k, v, lengths, rung):
        dtype, sizes = _check(q, k, v, *lengths.tensors, rung)
        strides = [n for x in (q, k, v) for n in x.stride()[:2]]
        native = _C.Problem(dtype, sizes, lengths.addresses, strides)
        place = "cuda" if q.is_cuda else "emulated" if rung.startswith(EMULATED) else "cpu"
        rung = rung.removeprefix(EMULATED)
        version = f"_{HOPPER}" if rung.split(":")[0] == HOPPER else ""
        self.native_forward = getattr(native, f"{place}{version}_forward")
        self.native_backward = getattr(native, f"{place}_backward")
        if version:  # what follows is a schedule of the emulator
            rung = rung.removeprefix(HOPPER).removeprefix(":") or "in-order"
        self.gpu, self.has_delta = q.device if q.is_cuda else None, place != "cpu"
        # few rows, many keys: blocks that share them, memory for their parts; the longest, if it is short
        plan = getattr(native, f"{place}_plan") if self.has_delta else None
        self.splits, parts, self.longest = plan(*sizes_of(self.gpu), lengths.longest) if plan else (1, 0, 0)
        self.lengths, self.rung, self.has_room = lengths, rung, lengths.tensors[3] is not None
        # one number each, with the shapes of the results: torch.empty_like takes half as long as torch.empty
        like = dict(dtype=q.dtype, device=q.device)
        self.out, self.grad_k = (torch.empty(1, **like).expand(x.shape) for x in (q, k))
        row = 3 * q.shape[1] * q.shape[2], q.shape[2]  # of parts of one tensor: `parts_of` in attention.py
        self.are_parts = q.shape == k.shape and {x.stride()[:2] for x in (q, k, v)} == {row}
        self.whole = torch.empty(1, **like).expand(len(q), 3, *q.shape[1:])
        self.parts = torch.empty(1, dtype=torch.float32, device=q.device).expand(parts)
        self.lse = torch.empty(1, dtype=lse_dtype(q), device=q.device).expand(q.shape[1], q.shape[0])

    def forward(self, q, k, v, scale):
        """The output (Nq, H, D) and the log-sum-exp (H, Nq)."""
        out, lse = torch.empty_like(self.out), torch.empty_like(self.lse)
        addresses = [q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), lse.data_ptr()]
        if self.has_delta:
            parts = torch.empty_like(self.parts)  # subtle: it must outlive the call
            addresses += [self.splits, parts.data_ptr()]
        self.call(self.native_forward, scale, *addresses)
        return out, lse

    def backward(self, grad_out, q, k, v, out, lse, scale):
        """The gradients of q, k and v; out and lse are those of `forward`, grad_out may have any strides."""
        strides = grad_out.stride()
        # subtle: the gradient of a sum is one number, expanded: all its strides are 0
        if strides[2] != 1 or 0 in strides or self.has_delta and not cuda_can_load(grad_out):
            grad_out = grad_out.clone(memory_format=torch.contiguous_format)
        new = torch.zeros_like if self.has_room else torch.empty_like  # a cache's unused slots are skipped
        grads = new(self.whole).unbind(1) if self.are_parts else ()
        grads = grads or (torch.empty_like(self.out), new(self.grad_k), new(self.grad_k))
        addresses = [q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), lse.data_ptr()]
        addresses += [(x.data_ptr(), *x.stride()[:2]) for x in (grad_out, *grads)]
        if self.has_delta:
            delta = torch.empty_like(lse)  # memory for rowsum(dO * O)
            addresses += [delta.data_ptr(), self.longest]
        self.call(self.native_backward, scale, *addresses)
        return grads

    def call(self, run, *rest):
        """Call the extension: run(where, ...) with threads, or on the GPU's current stream."""
        try:
            if self.gpu is None:
                return run(self.rung, torch.get_num_threads(), *rest)
            with torch.cuda.device(self.gpu):  # kernels go to the current device
                stream = torch.cuda.current_stream(self.gpu)
                self.lengths.reach(stream)
                run(self.gpu.index, stream.cuda_stream, capability(self.gpu.index), *rest)
        except ValueError as error:  # the extension checks the values of the lengths
            raise MinglmError(str(error)) from None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, problem, scale, return_lse):
        out, lse = problem.forward(q, k, v, scale)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.problem, ctx.scale = problem, scale
        ctx.set_materialize_grads(False)
        if not return_lse:
            return out
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    def backward(ctx, grad_out, *_):
        if torch.is_grad_enabled():
            what = "the kernel has no second derivatives, backend='reference' has them"
            raise MinglmError(f"create_graph: True; {what}")
        if grad_out is None:
            return (None,) * 6
        return *ctx.problem.backward(grad_out, *ctx.saved_tensors, ctx.scale), None, None, None


class _AttentionByOps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, queries, keys, scale, rung):
        lengths = (cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k)
        out, lse = torch.ops.minglm._attention_forward(q, k, v, *lengths, queries, keys, scale, rung)
        ctx.save_for_backward(q, k, v, out, lse, *lengths)
        ctx.rest = queries, keys, scale, rung
        ctx.mark_non_differentiable(lse)
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    def backward(ctx, grad_out, _):
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            what = "the kernel has no second derivatives, backend='reference' has them"
            raise MinglmError(f"create_graph: True; {what}")
        if grad_out is None:
            return (None,) * 11
        grads = torch.ops.minglm._attention_backward(grad_out, *ctx.saved_tensors, *ctx.rest)
        return *grads, *(None,) * 8


# ---- the private ops -------------------------------------------------------------------------------------

_LENGTHS = "Tensor cu_seqlens_q, Tensor cu_seqlens_k, Tensor part_a_lens, Tensor? seqlens_k"
_LENGTHS += ", SymInt queries, SymInt keys, float scale, str rung"  # queries, keys: the rows of the mask
_library = torch.library.Library("minglm", "DEF")
_library.define(f"_attention_forward(Tensor q, Tensor k, Tensor v, {_LENGTHS}) -> (Tensor, Tensor)")
_library.define(
    f"_attention_backward(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, {_LENGTHS})"
    " -> (Tensor, Tensor, Tensor)"
)


def _forward(q, k, v, *rest):
    *lengths, queries, keys, scale, rung = rest
    q, k, v = (_loadable(x, rung) for x in (q, k, v))
    problem = Problem(q, k, v, Lengths(lengths), rung)
    _check_rows(q, k, queries, keys)
    return problem.forward(q, k, v, scale)


def _backward(grad_out, q, k, v, out, lse, *rest):
    *lengths, queries, keys, scale, rung = rest
    q, k, v = (_loadable(x, rung) for x in (q, k, v))
    problem = Problem(q, k, v, Lengths(lengths), rung)
    _check_rows(q, k, queries, keys)
    for name, x, shape, dtype in (
        ("grad_out", grad_out, q.shape, q.dtype),
        ("out", out, q.shape, q.dtype),
        ("lse", lse, (q.shape[1], q.shape[0]), lse_dtype(q)),
    ):
        if x.shape != shape or x.dtype != dtype or x.device != q.device:
            raise MinglmError(f"{name}: {_kind(x)}; {tuple(shape)} of {dtype} on {q.device} is needed")
    problem.are_parts = False  # subtle: the results of an op must not share memory
    return problem.backward(grad_out, q, k, v, out.contiguous(), lse.contiguous(), scale)


def _loadable(x, rung):
    """x, or a copy if it begins where the CUDA kernels cannot load it."""
    in_cuda = x.device.type == "cuda" or rung.startswith(EMULATED)
    return x.contiguous().clone() if in_cuda and x.dim() == 3 and not cuda_can_load(x) else x


def _check_rows(q, k, queries, keys):
    for name, x, n in (("q", q, queries), ("k", k, keys)):
        if len(x) != n:
            raise MinglmError(f"{name}: {len(x)} rows, but the mask has {n}")


def _forward_fake(q, *_):
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=lse_dtype(q))


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


def lse_dtype(q):
    """The dtype of the log-sum-exp."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def _check(q, k, v, cu_seqlens_q, cu_seqlens_k, part_a_lens, seqlens_k, rung):
    """Check what the extension relies on. Returns the extension's number for the dtype, and the sizes."""
    if _C is None:
        raise MinglmError(f"backend: the kernel cannot run: {HOW}")
    dtypes = CUDA_DTYPES if q.device.type == "cuda" or rung.startswith(EMULATED) else DTYPES
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
    if x.element_size() != 2:
        return True
    # subtle: a traced tensor has no address, so there `_loadable` looks at it when the graph runs
    start = 0 if torch.compiler.is_compiling() else x.data_ptr() // 2
    return start % 8 == x.stride(0) % 8 == x.stride(1) % 8 == 0


def last_is_contiguous(x):
    """Whether the numbers of one row and head are adjacent."""
    return x.stride(-1) == 1 or x.shape[-1] == 1


def _kind(x):
    return f"{tuple(x.shape)} of {x.dtype} on {x.device}"
