"""The report of `minglm info`: this installation, what it can do on this machine, and a self-test."""

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

VARIABLES = (  # our own, and others that decide how many threads or which GPUs are used
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
    """Return everything that `minglm info` prints, as a dict ready for JSON."""
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
    """Return what masked_attention does on a device: what "auto" chooses and why, and all backends."""
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
    """Compare every backend that runs here with `reference` in float64, forward and backward.

    Returns a list of dict: backend, dtype, ok, share (the largest error as a share of what is allowed) and
    where it is, or the error that was raised. Allowed is twice the error of plain PyTorch at that dtype, and
    at least 4 eps of the largest entry.
    """
    mask = GLMMask.packed([1, 37, 70], [0, 20, 70])  # a token that sees itself, a GLM sample, a BERT sample
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
                measured = errors(attention_and_gradients(rounded, mask, backend), truth)
                shares = {name: error / fair[name] for name, error in measured.items()}
                where = max(shares, key=shares.get)
                share = shares[where]
                if not math.isfinite(share):
                    raise ArithmeticError(f"{where} is not finite")
                result |= dict(ok=share <= 1, share=share, where=where)
            except Exception as error:  # a self-test reports, whatever happens
                result |= dict(error=f"{type(error).__name__}: {error}")
            results.append(result)
    return results


def backends_to_test(dtype):
    """Return sdpa and every rung that runs here and serves the dtype, whatever MINGLM_KERNEL says."""
    rungs = [rung["name"] for rung in kernel_rungs() if rung["supported"] and rung[dtype]]
    return ["sdpa", *(f"kernel:{name}" for name in rungs)]


# ---- what to do about it ---------------------------------------------------------------------------------


def advice(report):
    """Return the one thing that would improve this installation most, in one line, or None."""
    build, rungs, checkout = report["build"], report["rungs"], (HERE.parent / "csrc").is_dir()
    build_again = f"cd {HERE.parent} && pip install -e ." if checkout else "install minglm again"
    if wrong := [result["backend"] for result in report["self_test"] if not result["ok"]]:
        return f"{wrong[0]} computes wrong: do without it (--backend reference); {build_again}"
    if report["devices"][0]["auto"] is None:  # MINGLM_KERNEL names a rung that is not here
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
        compiler = build.get("compiler")
        return f"a compiler newer than {compiler} could build {absent[-1]}: set CXX; {build_again}"
    return None


def newer_than_extension(build):
    """Return a source in the checkout that changed after the extension was built, or None."""
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
    """Return the report as text for a terminal."""
    build, cpu = report["build"], report["cpu"]
    versions = f"Python {report['python']}, PyTorch {report['torch']}, NumPy {report['numpy']}"
    sets = ", ".join(cpu["sets"]) or "no known instruction set"
    lines = [
        f"minglm      {report['minglm']} in {report['folder']}",
        f"runs on     {versions}, {report['system']}",
        f"processor   {cpu['name']}, {cpu['cores']} cores, with {sets}",
        f"extension   {extension_line(build, report['rungs'])}",
        f"CUDA        {cuda_line(report['cuda'])}",
        f"threads     {report['threads']}{threads_line(build, report['openmp_runtimes'])}",
    ]
    for there in report["devices"]:
        name = there["device"] + (f" ({there['name']})" if there["name"] else "")
        auto = f"auto takes {there['auto']}: " if there["auto"] else ""
        lines.append(f"{name:<11} {auto}{there['reason']}")
        for backend in there["backends"]:
            no = "" if backend["usable"] else "no: "
            lines.append(f"            {backend['name']:<10} {no}{backend['reason']}")
    settings = ", ".join(f"{name}={value}" for name, value in report["environment"].items())
    lines += [f"set         {settings or 'no relevant environment variable'}", "", *table(report), ""]
    return "\n".join([*lines, f"to improve  {report['advice'] or 'nothing'}"])


def extension_line(build, rungs):
    if any(rung["built"] for rung in rungs):
        return f"minglm._C, built by {build.get('compiler') or 'an unknown compiler'}"
    return f"none: {build.get('reason') or 'it was not built, or does not load'}"


def cuda_line(cuda):
    if not cuda["built"]:
        return f"no kernels: {cuda['reason'] or 'the build recorded no reason'}"
    archs = ", ".join(f"{arch // 10}.{arch % 10}" for arch in cuda["archs"])
    line = f"kernels by nvcc {cuda['nvcc']} for compute capability {archs} and later"
    if cuda["machine_code"]:
        return f"{line}, and one for 9.0 alone (kernel:hopper)" if cuda.get("hopper") else line
    return f"{line}, as PTX for the driver to compile (or now: MINGLM_CUDA_ARCHS=all)"


def threads_line(build, runtimes):
    if not build.get("extension"):
        return " of PyTorch"
    if not build["openmp"]:
        return " of PyTorch; the kernel starts as many of its own (std::thread)"
    two = f", BUT from two runtimes: {', '.join(runtimes)}" if len(runtimes) > 1 else ""
    return f" of OpenMP, for PyTorch and the kernel{two}"


def table(report):
    """Return the lines of the ladder and the self-test: the largest error as a share of what is allowed."""
    tested = {(result["backend"], result["dtype"]): result for result in report["self_test"]}

    def verdicts(backend):
        for dtype in ("float32", "bfloat16"):
            result = tested.get((backend, dtype))
            if result is None:
                yield "-"
                continue
            share = "error" if result["error"] else f"{result['share']:.2f}"
            yield share if result["ok"] else f"WRONG: {share}"

    head = ("self-test", "in build", "runs here", "float32", "bfloat16", "chosen for")
    rows = [head, ("sdpa", "", "", *verdicts("sdpa"), "")]
    for rung in report["rungs"]:
        there = ["yes" if rung[key] else "no" for key in ("built", "supported")]
        name = f"kernel:{rung['name']}"
        rows.append((name, *there, *verdicts(name), ", ".join(rung["chosen_for"])))
    widths = (18, 8, 9, 13, 13, 0)
    padded = [[f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = ["  ".join(row).rstrip() for row in padded]
    lines += [f"{r['backend']} in {r['dtype']}: {r['error']}" for r in report["self_test"] if r["error"]]
    about = "Error against float64, as a share of what is allowed: twice the error of plain PyTorch, or 4 eps"
    return [*lines, about]
