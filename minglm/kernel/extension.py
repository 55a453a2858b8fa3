"""The compiled extension minglm._C: whether it is here, why not, and what it was built with."""

import functools
import importlib
import sys
from pathlib import Path

import torch

from ..errors import note
from ..machine import HERE, build_info

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float64: "float64"}


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
    _C = importlib.import_module("minglm._C")
except ImportError as error:
    _C, RUNGS, BEST, HOW = None, {}, {}, _why_missing(error)
    if _installed_copy():
        note(HOW)  # Python found the wrong one of two copies; training would be slow without a warning
else:
    HOW = f"compiled by {_C.compiler}, threads by {_C.cpu_threads_by()}"
    RUNGS = {rung["name"]: rung for rung in _C.cpu_rungs()}  # of this build
    # the fastest rung of this machine for each dtype
    BEST = {dtype: _C.cpu_best_rung(getattr(_C, name)) for dtype, name in DTYPES.items()}


def constant_when_compiled(function):
    """Marks a function that torch.compile must call while it traces instead of tracing it.

    It does what torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes as
    long as all other imports together.
    """
    function._dynamo_marked_constant = True
    return function


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
        hopper=bool(getattr(_C, "hopper_built", False)),
        emulated=bool(getattr(_C, "emulated_built", False)),
    )


def why_no_gpu():
    """Why PyTorch sees no GPU, in one line; a build with CUDA asks the driver, too."""
    state, version = cuda(), torch.version.cuda
    if state["devices"]:
        build = f"is built for CUDA {version}" if version else "is built without CUDA"
        return f"PyTorch sees no GPU, the driver shows {state['devices']}: this PyTorch {build}"
    return f"PyTorch sees no GPU{', and the driver: ' + state['driver'] if state['driver'] else ''}"


@functools.cache
def capability(index):
    """The compute capability of a GPU, e.g. 90 for 9.0."""
    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor


# multiprocessors, and bytes of shared memory for a block: those of an A100
EMULATED_SIZES = 108, 163 * 1024


@functools.cache
def sizes_of(gpu):
    """How many multiprocessors a GPU has, and bytes of shared memory for a block; None: the emulated one."""
    return (_C.cuda_multiprocessors(gpu.index), _C.cuda_shared_bytes(gpu.index)) if gpu else EMULATED_SIZES
