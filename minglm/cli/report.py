"""What this installation is, what it can do on this machine, and whether it computes right: `minglm info`."""

import math
import os
import platform

import numpy
import torch

from ..attention import attention_and_gradients, backends, best_backend, kernel_rungs
from ..bench.check import DTYPES, errors, fair_errors
from ..errors import MinglmError
from ..machine import HERE, NEEDS, build_info, cpu, openmp_runtimes
from ..mask import GLMMask
from ..ops import cuda, why_no_gpu
from ..version import __version__

VARIABLES = (  # our own, and those of others that decide how many threads or which GPUs there are
    "MINGLM_KERNEL",
    "MINGLM_REQUIRE_EXT",
    "MINGLM_CUDA",
    "MINGLM_CUDA_HOME",
    "MINGLM_CUDA_ARCHS",
    "MINGLM_FAST",
    "MINGLM_REQUIRE_BROWSER",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


def collect():
    """Everything that `minglm info` says, as a dict that is ready for JSON."""
    report = dict(
        minglm=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=numpy.__version__,
        folder=str(HERE),
        system=platform.platform(),
        cpu=cpu(),
        build=build_info(),
        threads=torch.get_num_threads(),
        openmp_runtimes=openmp_runtimes(),
        cuda=cuda(),
        devices=[device(name) for name in ("cpu", "cuda")],
        rungs=kernel_rungs(),
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
        self_test=self_test(),
    )
    return report | dict(advice=advice(report))


def device(kind):
    """What masked_attention does on a kind of device: what "auto" takes and why, and what else there is."""
    if kind == "cuda" and not torch.cuda.is_available():
        return dict(device=kind, name=None, auto=None, reason=why_no_gpu(), backends=[])
    name = torch.cuda.get_device_name() if kind == "cuda" else None
    try:
        auto, reason = best_backend(device=kind)
    except MinglmError as error:  # MINGLM_KERNEL names a rung that is not here
        auto, reason = None, str(error)
    there = [dict(name=name, usable=usable, reason=why) for name, usable, why in backends(kind)]
    return dict(device=kind, name=name, auto=auto, reason=reason, backends=there)


# ---- the self-test ---------------------------------------------------------------------------------------


def self_test():
    """Forward and backward of every backend that runs here, on three small samples, against `reference` in float64.

    Returns a list of dict: backend, dtype, ok, share (the largest error as a share of what is allowed) and
    where it is, or the error that was raised. Allowed is twice the error that plain PyTorch makes at that
    dtype, at least 4 eps of the largest entry.
    """
    mask = GLMMask.packed([1, 37, 70], [0, 20, 70])  # one token that sees itself, a GLM sample, a BERT sample
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(108, 2, 64, generator=generator, dtype=torch.float64) for _ in range(4)]
    results = []
    for dtype_name, dtype in DTYPES.items():
        rounded = [x.to(dtype) for x in inputs]
        truth = attention_and_gradients([x.double() for x in rounded], mask, "reference")
        fair = fair_errors(truth, dtype, errors(attention_and_gradients(rounded, mask, "reference"), truth))
        for backend in backends_to_test(dtype_name):
            result = dict(backend=backend, dtype=dtype_name, ok=False, share=None, where=None, error=None)
            try:
                found = errors(attention_and_gradients(rounded, mask, backend), truth)
                where = max(found, key=lambda name: found[name] / fair[name])
                share = found[where] / fair[where]
                if not math.isfinite(share):
                    raise ArithmeticError(f"{where} is not finite")
                result |= dict(ok=share <= 1, share=share, where=where)
            except Exception as error:  # a self-test reports, whatever happens
                result |= dict(error=f"{type(error).__name__}: {error}")
            results.append(result)
    return results


def backends_to_test(dtype):
    """sdpa, and every rung that runs here and serves the dtype, whatever MINGLM_KERNEL says."""
    return [
        "sdpa",
        *(f"kernel:{rung['name']}" for rung in kernel_rungs() if rung["supported"] and rung[dtype]),
    ]


# ---- what to do about it ---------------------------------------------------------------------------------


def advice(report):
    """The one thing that would improve this installation the most, in one line; None when there is nothing."""
    build, rungs, checkout = report["build"], report["rungs"], (HERE.parent / "csrc").is_dir()
    build_again = f"cd {HERE.parent} && pip install -e ." if checkout else "install minglm again"
    if wrong := [result["backend"] for result in report["self_test"] if not result["ok"]]:
        return f"{wrong[0]} computes wrong: do without it (--backend reference); {build_again}"
    if report["devices"][0]["auto"] is None:  # it names a rung that is not here
        return "unset MINGLM_KERNEL"
    if not any(rung["built"] for rung in rungs):
        return f"{build['reason']}; then {build_again}" if build.get("reason") else build_again
    if checkout and (changed := newer_than_extension(build)):
        return f"{changed} is newer than the extension: {build_again}"
    gpu, kernels = any(there.get("name") for there in report["devices"]), report.get("cuda", {})
    if gpu and not kernels.get("built"):
        return f"{kernels.get('reason') or 'the CUDA kernels were not built'}; then {build_again}"
    absent = [rung["name"] for rung in rungs if rung["name"] in report["cpu"]["sets"] and not rung["built"]]
    if absent:
        return (
            f"a compiler newer than {build.get('compiler')} could build {absent[-1]}: set CXX; {build_again}"
        )
    return None


def newer_than_extension(build):
    """A source of the extension, in a checkout, that was changed after it was built; None when there is none."""
    built = max((path.stat().st_mtime for path in HERE.glob("_C.*")), default=0)
    emulated, cuda = build.get("emulated"), build.get("cuda", {}).get("built")
    folders = ["", "cpu"] + ["cuda"] * bool(cuda or emulated) + ["cuda_on_cpu"] * bool(emulated)
    for path in sorted(path for folder in folders for path in (HERE.parent / "csrc" / folder).glob("*.*")):
        left_out = path.stem in NEEDS and path.stem not in build.get("sets", [])
        compiled = path.suffix in (".h", ".inc", ".cpp", ".cuh", ".cu") and not left_out
        if compiled and path.stat().st_mtime > built:
            return str(path.relative_to(HERE.parent))
    return None


# ---- as text ---------------------------------------------------------------------------------------------


def show(report):
    """The report as text for a terminal."""
    build, cpu = report["build"], report["cpu"]
    lines = [
        f"minglm      {report['minglm']} in {report['folder']}",
        f"runs on     Python {report['python']}, PyTorch {report['torch']}, NumPy {report['numpy']}, {report['system']}",
        f"processor   {cpu['name']}, {cpu['cores']} cores, with {', '.join(cpu['sets']) or 'no set known here'}",
        f"extension   {extension_line(build, report['rungs'])}",
        f"CUDA        {cuda_line(report['cuda'])}",
        f"threads     {report['threads']}{threads_line(build, report['openmp_runtimes'])}",
    ]
    for there in report["devices"]:
        name = there["device"] + (f" ({there['name']})" if there["name"] else "")
        lines.append(
            f"{name:<11} {'auto takes ' + there['auto'] + ': ' if there['auto'] else ''}{there['reason']}"
        )
        lines += [
            f"            {b['name']:<10} {'' if b['usable'] else 'no: '}{b['reason']}"
            for b in there["backends"]
        ]
    settings = ", ".join(f"{name}={value}" for name, value in report["environment"].items())
    lines += [
        f"set         {settings or 'no environment variable that matters here'}",
        "",
        *table(report),
        "",
    ]
    return "\n".join([*lines, f"to improve  {report['advice'] or 'nothing'}"])


def extension_line(build, rungs):
    if any(rung["built"] for rung in rungs):
        return f"minglm._C, built by {build.get('compiler') or 'a compiler that left no note'}"
    return f"none: {build.get('reason') or 'it was never built, or does not load'}"


def cuda_line(cuda):
    if not cuda["built"]:
        return f"no kernels: {cuda['reason'] or 'this extension came without a note why'}"
    archs = ", ".join(f"{arch // 10}.{arch % 10}" for arch in cuda["archs"])
    line = f"kernels by nvcc {cuda['nvcc']} for compute capability {archs} and later"
    return (
        line
        if cuda["machine_code"]
        else f"{line}, as PTX for the driver to compile (or now: MINGLM_CUDA_ARCHS=all)"
    )


def threads_line(build, runtimes):
    if not build.get("extension"):
        return " of PyTorch"
    if not build["openmp"]:
        return " of PyTorch; the kernel starts as many of its own (std::thread)"
    two = f", BUT from two runtimes: {', '.join(runtimes)}" if len(runtimes) > 1 else ""
    return f" of OpenMP, for PyTorch and the kernel{two}"


def table(report):
    """The ladder, and what the self-test found: the largest error as a share of what is allowed."""
    tested = {(result["backend"], result["dtype"]): result for result in report["self_test"]}

    def verdicts(backend):
        for dtype in ("float32", "bfloat16"):
            result = tested.get((backend, dtype))
            share = result and (result["error"] and "error" or f"{result['share']:.2f}")
            yield "-" if result is None else share if result["ok"] else f"WRONG: {share}"

    head = ("self-test", "in build", "runs here", "float32", "bfloat16", "chosen for")
    rows = [head, ("sdpa", "", "", *verdicts("sdpa"), "")]
    for rung in report["rungs"]:
        there = ["yes" if rung[key] else "no" for key in ("built", "supported")]
        name = f"kernel:{rung['name']}"
        rows.append((name, *there, *verdicts(name), ", ".join(rung["chosen_for"])))
    widths = (18, 8, 9, 13, 13, 0)
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [f"{r['backend']} in {r['dtype']}: {r['error']}" for r in report["self_test"] if r["error"]]
    return [
        *lines,
        "Output and gradients against float64; right up to 1.00: twice the error of plain PyTorch (or 4 eps)",
    ]
