"""`minglm bench attention`: every way to compute attention under GLM's mask, checked and then timed.

Only useful work counts: visible pairs of query and key, 4 D flop per pair and head for the forward pass (QK^T
and PV) and 14 D for forward and backward (five more products). Work on padding and hidden pairs does not
count. Decoding has almost no work, so there the unit is bytes of K and V per second.

    naive      the reference backend: PyTorch's matrix products and softmax, sample by sample
    sdpa       scaled_dot_product_attention in the fastest form of variants.py, per shape, dtype and pass
    kernel:*   the rungs of csrc/cpu; with --device cuda `kernel`, csrc/cuda
    emulated   csrc/cuda on the CPU, one thread at a time; only with --rungs

With --device cuda there are also FlexAttention, PyTorch's FlashAttention in two calls and flash-attn, see
variants.py; what cannot be built is skipped, with the reason. Shapes are larger there, and what is timed is
the replay of a CUDA graph, so that neither Python nor the launch counts. `.gpu/run` runs this bench.
"""

import importlib.util
import math
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from ..attention import backends, kernel_rungs
from ..errors import MinglmError, note
from ..files.whole import check_writable
from ..kernel.hopper import why_no_hopper
from ..machine import machine as machine_here
from ..machine import machine_line
from ..mask import GLMMask
from ..ops import why_no_gpu
from . import BOTH, FLOP, FORWARD, timing
from .cases import QUICK, SHAPES, Shape, draw, shape_of
from .check import DTYPES, dtypes_asked, errors, fair_errors, seconds_asked
from .table import LEGEND, OURS, TITLE, shape_line, summary, summary_lines, table_lines
from .variants import SDPA_FORMS, flash_attn, flex, front_door, sdpa, two_calls

VERSION = 1  # of the result of run(); goes up when a field changes its meaning
TENSORS = ("out", "dq", "dk", "dv")


# ---- check -----------------------------------------------------------------------------------------------


def truth(case, chunk=1024):
    """Return out, dq, dk, dv in float64, by formulas and not autograd; in chunks of rows, to save memory."""
    mask, scale = case.shape.mask, case.scale
    inputs = (case.q, case.k, case.v, case.grad_out)
    q, k, v, grad = (x.double().transpose(0, 1).contiguous() for x in inputs)  # each (H, N, D)
    out, dq, dk, dv = (torch.zeros_like(x) for x in (q, q, k, v))
    visible = mask.visible_keys().to(q.device)
    for s in range(len(mask.part_a_lens)):
        first, last = mask.cu_seqlens_q[s : s + 2].tolist()
        for start in range(first, last, chunk):
            rows = slice(start, min(start + chunk, last))
            first_key = int(mask.cu_seqlens_k[s])
            keys = slice(first_key, first_key + int(visible[rows].max()))
            hidden = torch.arange(keys.stop - first_key, device=q.device) >= visible[rows, None]
            scores = (scale * q[:, rows] @ k[:, keys].mT).masked_fill_(hidden, -math.inf)
            p = scores.softmax(-1).nan_to_num_(0)
            out[:, rows] = p @ v[:, keys]
            dv[:, keys] += p.mT @ grad[:, rows]
            delta = (out[:, rows] * grad[:, rows]).sum(-1, keepdim=True)
            ds = p.mul_((grad[:, rows] @ v[:, keys].mT).sub_(delta))
            dq[:, rows] = scale * ds @ k[:, keys]
            dk[:, keys] += scale * ds.mT @ q[:, rows]
    return {name: x.transpose(0, 1).contiguous() for name, x in zip(TENSORS, (out, dq, dk, dv), strict=True)}


def finite(x):
    """Return x, or None for nan and infinity, which JSON does not have."""
    return x if math.isfinite(x) else None


# ---- measure ---------------------------------------------------------------------------------------------


class Bench:
    """Checks and times the variants, shape by shape.

    rungs: the requested entries of kernel_rungs(); seconds: timing per shape and dtype; patient: run even
    slow rungs; device: "cpu", or "cuda", which has no rungs.
    """

    def __init__(self, rungs, seconds, patient=False, device="cpu"):
        self.rungs, self.seconds, self.patient, self.device = rungs, seconds, patient, device
        self.speeds = {}

    def measure(self, shape, dtype_name):
        """Return a dict per variant; its status is "timed", "wrong", "skipped" or "slow form"."""
        dtype = DTYPES[dtype_name]
        case = draw(shape, dtype, device=self.device)
        makers = self.makers(case, dtype_name)
        where = dict(shape=shape.name, dtype=dtype_name)
        rows = {name: dict(**where, variant=name, status="timed", note="") for name in makers}
        ready = self.check(case, makers, rows)
        drop_slow_forms(ready, rows)
        self.time(case, ready, rows)
        return list(rows.values())

    def makers(self, case, dtype_name):
        """Return {name: function () -> Variant} for everything that the device has."""
        makers = {"naive": partial(front_door, case, "reference")}
        for form, layout in SDPA_FORMS:
            if layout == "by sample" or len(case.shape.mask.part_a_lens) > 1:  # one sample has no padding
                makers[f"sdpa {form} {layout}"] = partial(sdpa, case, form, layout)
        for rung in self.rungs:
            if rung[dtype_name]:
                name = rung["name"] if rung["name"] == "emulated" else f"kernel:{rung['name']}"
                makers[name] = partial(front_door, case, name)
        if self.device == "cuda":
            makers["flex"] = partial(flex, case)
            makers["varlen"] = partial(two_calls, case)
            if importlib.util.find_spec("flash_attn"):
                makers["flash-attn"] = partial(flash_attn, case)
            if kernel_on_cuda()[0]:
                makers["kernel"] = partial(front_door, case, "kernel")
                if not why_no_hopper(case.q.dtype, case.q.device, case.q.shape[-1]):
                    makers["kernel:hopper"] = partial(front_door, case, "kernel:hopper")
        return makers

    def too_slow(self, case, name, sdpa_seconds):
        """Return why a variant is skipped on a shape, or None. sdpa_seconds: time of the fastest form."""
        shape, dtype = case.shape, case.q.dtype
        if name == "naive":
            pairs = int((shape.mask.len_q.long() * shape.mask.len_k).sum())
            size = dtype.itemsize * shape.heads * pairs / 2**30
            return f"each copy of its scores would take {size:.1f} GiB" if size >= 1 else None
        if not name.startswith("kernel:") or self.patient:
            return None
        seconds = shape.flop(shape.passes[-1]) * self.speed(name, dtype, shape.head_dim)
        if seconds > max(self.seconds / 2, 3 * sdpa_seconds):
            return f"about {seconds:.1f} s per run; --rungs runs it anyway"
        return None

    def speed(self, rung, dtype, head_dim):
        """Return the seconds per flop of a rung, from a small sample.

        It is the processor time of a single thread: other work on the machine does not count, and waiting
        threads would.
        """
        key = rung, dtype, head_dim
        if key not in self.speeds:
            small = Shape("small", GLMMask.packed([512], [256]), 1, head_dim, "training", "")
            both, threads = front_door(draw(small, dtype), rung).both, torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                seconds = min(seconds_of(both, time.process_time)[0] for _ in range(3))
            finally:
                torch.set_num_threads(threads)
            self.speeds[key] = seconds / threads / small.flop(BOTH)
        return self.speeds[key]

    def check(self, case, makers, rows):
        """Return {name: Variant} of those that are right; the rows of the others get the reason.

        Only `out` is checked for shapes without a backward pass.
        """
        true, tensors = truth(case), TENSORS if BOTH in case.shape.passes else TENSORS[:1]
        largest = {name: float(true[name].abs().max()) for name in tensors}
        ready, fair = {}, None
        for name, make in makers.items():
            row = rows[name]
            sdpa_times = [rows[form]["checked_ms"] for form in rows if "sdpa" in form and form in ready]
            if why := self.too_slow(case, name, min(sdpa_times, default=0) / 1e3):
                row.update(status="skipped", note=why)
                continue
            ours = name.startswith(OURS)
            refusals = Exception if self.device == "cuda" else ()
            if ours:
                refusals = MinglmError  # a refusal is fine, any other error is a bug
            try:
                variant, seconds, error = self.first_run(case, make, true, tensors)
            except refusals as why:
                row.update(status="skipped", note=first_line(why))
                continue
            if fair is None:  # from naive, or if that is skipped, from sdpa with a boolean mask
                fair = fair_errors(true, case.q.dtype, dict.fromkeys(error, 0) if ours else error)
            tensor = max(tensors, key=lambda t: error[t] / fair[t])
            row.update(
                checked_ms=1e3 * seconds,
                error={t: finite(error[t]) for t in tensors},
                fair=fair,
                worst=tensor,
                relative_error=finite(max(error[t] / largest[t] for t in tensors)),
                of_fair=finite(error[tensor] / fair[tensor]),
            )
            if error[tensor] <= fair[tensor]:
                ready[name] = variant
            else:
                wrong = f"{tensor} is off by {error[tensor]:.1e}, {fair[tensor]:.1e} would be fair"
                row.update(status="wrong", note=f"WRONG, so not timed: {wrong}")
        return ready

    def first_run(self, case, make, true, tensors):
        """Return (Variant, its seconds, the error of each tensor)."""
        variant = make()
        run = variant.pass_of(case.shape.passes[-1])
        if self.device == "cuda":
            run()  # compiles and loads
        seconds, results = seconds_of(run)
        return variant, seconds, errors(dict(zip(tensors, variant.gather(*results), strict=True)), true)

    def time(self, case, ready, rows):
        """Add milliseconds, rates and ratios of each pass to the rows of what is ready."""
        shape, dtype = case.shape, case.q.dtype
        rivals = [name for name in ready if not name.startswith(OURS)]
        for step in shape.passes:
            seconds = self.seconds * FLOP[step] / sum(FLOP[other] for other in shape.passes)
            runs = {name: variant.pass_of(step) for name, variant in ready.items()}
            runs |= timing.gemms(dtype, self.device)
            if self.device == "cuda":
                runs = {name: timing.replayed(run, self.device) for name, run in runs.items()}
            taken = timing.alternate(runs, seconds)
            gemm = timing.gemm_rates(taken)
            best = min(rivals, key=lambda name: statistics.median(taken[name]), default=None)
            for name in ready:
                median, flop = statistics.median(taken[name]), shape.flop(step)
                shares = [flop / seconds / rate for seconds, rate in zip(taken[name], gemm, strict=False)]
                numbers = rows[name][step] = dict(
                    runs=len(taken[name]),
                    gflop_per_s=flop / median / 1e9,
                    gemm_gflop_per_s=statistics.median(gemm) / 1e9,
                    **with_quartiles("ms", timing.spread([1e3 * seconds for seconds in taken[name]])),
                    **with_quartiles("of_gemm", timing.spread(shares)),
                )
                if best:
                    numbers |= with_quartiles("ratio", timing.speedup(taken[best], taken[name]))
                    numbers |= dict(best_of_pytorch=best)
                if step == shape.passes[-1] == FORWARD:
                    numbers |= dict(gb_per_s=shape.key_bytes(dtype) / median / 1e9)


def with_quartiles(name, spread):
    """Return the fields of a Spread: "ms" -> {"ms": median, "ms_low": lower quartile, "ms_high": upper}."""
    return {name: spread.median, f"{name}_low": spread.low, f"{name}_high": spread.high}


def drop_slow_forms(ready, rows, near=1.25):
    """Keep only the forms of sdpa near the fastest in `ready`: the others could not be PyTorch's best."""
    forms = [name for name in ready if name.startswith("sdpa")]
    for name in forms:
        row = rows[name]
        if (
            row["checked_ms"] < 1000
        ):  # the first run may include preparations, which matters only for short runs
            again = seconds_of(ready[name].pass_of(BOTH if "dq" in row["error"] else FORWARD))[0]
            row["checked_ms"] = min(row["checked_ms"], 1e3 * again)
    fastest = min((rows[name]["checked_ms"] for name in forms), default=0)
    for name in forms:
        times = rows[name]["checked_ms"] / fastest
        if times > near:
            ready.pop(name)
            why = f"took {times:.1f} times as long as the fastest form when it was checked"
            rows[name].update(status="slow form", note=why)


def first_line(error):
    """Return an error as one line."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, MinglmError) else f"{type(error).__name__}: {text}"


def kernel_on_cuda():
    """Return whether this build has the kernel for the GPU, and why (not)."""
    return next((usable, why) for name, usable, why in backends("cuda") if name == "kernel")


def seconds_of(function, clock=time.perf_counter):
    """Return (seconds, result of the function)."""
    began = clock()
    result = function()
    return clock() - began, result


# ---- the command -----------------------------------------------------------------------------------------


def run(args):
    """Check, time and print; returns all results."""
    shapes, dtypes, rungs, seconds = settle(args)
    machine = machine_here(args.device)
    print(f"machine     {machine_line(machine)}")
    if machine["load"] and machine["load"] > 0.5:
        note(f"the machine is busy (load {machine['load']:.1f}); all times are longer, and not equally so")
    print(f"kernel      {kernel_on_cuda()[1] if args.device == 'cuda' else rungs_in_words(rungs)}")
    print(LEGEND)
    print("\n".join(map(shape_line, shapes)))
    print(f"\n{TITLE}", flush=True)
    bench, rows = Bench(rungs, seconds, patient=bool(args.rungs), device=args.device), []
    for shape in shapes:
        for dtype in dtypes:
            measured = bench.measure(shape, dtype)
            print("\n".join(table_lines(measured)), flush=True)
            rows += measured
    result = dict(
        bench="attention",
        version=VERSION,
        ok=all(row["status"] != "wrong" for row in rows),
        machine=machine,
        seconds=seconds,
        shapes=[shape.as_json() for shape in shapes],
        rows=rows,
        summary=summary(rows, shapes),
    )
    print("\n".join(["", *summary_lines(result)]))
    return result


def settle(args):
    """Return the requested (shapes, names of dtypes, rungs, seconds). Raises MinglmError."""
    dtypes = dtypes_asked(args.dtype)
    check_device(args.device, args.rungs)
    here = {rung["name"]: rung for rung in kernel_rungs() if rung["supported"] and args.device == "cpu"}
    names = dict(shapes=args.shapes or (QUICK if args.quick else SHAPES), rungs=args.rungs or list(here))
    if any(name == "emulated" and usable for name, usable, _ in backends()):
        here["emulated"] = dict(name="emulated") | dict.fromkeys(DTYPES, True)
    for option, known in (("shapes", SHAPES), ("rungs", here)):
        for name in names[option]:
            if name not in known:
                accepted = ", ".join(known) or "none that this machine has"
                raise MinglmError(f"--{option}: {name!r} is not one of {accepted}")
    seconds = seconds_asked(args.seconds if args.seconds is not None else 0.6 if args.quick else 2.0)
    if args.plot and Path(args.plot).suffix not in (".png", ".svg", ".pdf"):
        raise MinglmError(f"--plot: {args.plot} is not accepted; a name that ends in .png, .svg or .pdf is")
    check_writable("--plot", args.plot)
    shapes = [shape_of(SHAPES[name], args.device) for name in dict.fromkeys(names["shapes"])]
    return shapes, dtypes, [here[name] for name in dict.fromkeys(names["rungs"])], seconds


def check_device(device, rungs):
    """Raise MinglmError unless the device exists here and the rungs belong to it."""
    if device not in ("cpu", "cuda"):
        raise MinglmError(f"--device: {device!r} is not one of cpu, cuda")
    if device == "cuda" and rungs:
        raise MinglmError("--rungs: only the CPU has rungs; with --device cuda there is one kernel")
    if device == "cuda" and not torch.cuda.is_available():
        raise MinglmError(f"--device: 'cuda' is not accepted here: {why_no_gpu()}")


def rungs_in_words(rungs):
    """Return e.g. "scalar, tiled, avx512_bf16 (bfloat16 only)", or why there is no rung."""
    if not rungs:
        return next(why for name, _, why in backends() if name == "kernel")
    only = {rung["name"]: [dtype for dtype in DTYPES if rung[dtype]] for rung in rungs}
    words = [name if len(serves) > 1 else f"{name} ({serves[0]} only)" for name, serves in only.items()]
    return ", ".join(words)
