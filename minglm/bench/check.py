"""What is checked in the same way everywhere: the arguments of both benches, and how far a result may be from float64."""

import math

import torch

from ..errors import MinglmError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtypes_asked(name):
    """The names of dtypes that --dtype means: "both" or one of DTYPES. Raises MinglmError."""
    if name != "both" and name not in DTYPES:
        raise MinglmError(f"--dtype: {name!r} is not one of {', '.join([*DTYPES, 'both'])}")
    return list(DTYPES) if name == "both" else [name]


def seconds_asked(seconds):
    """The number that --seconds gives. Raises MinglmError."""
    if not 0 < seconds < math.inf:
        raise MinglmError(f"--seconds: {seconds} is not accepted; a number > 0 is")
    return seconds


def errors(got, true):
    """The largest error of each tensor: {"out": 1e-7, ...}; infinite where one is not finite."""
    return {
        name: float((got[name].double() - true[name]).abs_().max())
        if got[name].isfinite().all()
        else math.inf
        for name in got
    }


def fair_errors(true, dtype, ordinary):
    """What rounding may do to each tensor: twice the error of ordinary PyTorch, and at least 4 eps of the largest entry.

    true: {name: float64 tensor}; dtype: of the computation; ordinary: {name: error of plain PyTorch at that
    dtype}.
    """
    eps = torch.finfo(dtype).eps
    return {
        name: max(2 * error if math.isfinite(error) else 0, 4 * eps * float(true[name].abs().max()))
        for name, error in ordinary.items()
    }
