"""Checks that the benches share: arguments, and how far a result may be from float64."""

import math

import torch

from ..errors import MinglmError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtypes_asked(name):
    """Return the names of dtypes for --dtype, "both" or one of DTYPES. Raises MinglmError."""
    if name != "both" and name not in DTYPES:
        raise MinglmError(f"--dtype: {name!r} is not one of {', '.join([*DTYPES, 'both'])}")
    return list(DTYPES) if name == "both" else [name]


def seconds_asked(seconds):
    """Return the value of --seconds. Raises MinglmError."""
    if not 0 < seconds < math.inf:
        raise MinglmError(f"--seconds: {seconds} is not accepted; a number > 0 is")
    return seconds


def errors(got, true):
    """Return the largest error of each tensor, {"out": 1e-7, ...}; inf if a value is not finite."""

    def error(name):
        finite = got[name].isfinite().all()
        return float((got[name].double() - true[name]).abs_().max()) if finite else math.inf

    return {name: error(name) for name in got}


def fair_errors(true, dtype, ordinary):
    """Return the fair error: twice that of plain PyTorch, and at least 4 eps of the largest entry.

    true: {name: float64 tensor}; dtype: of the computation; ordinary: {name: error of plain PyTorch in it}.
    """
    eps = torch.finfo(dtype).eps
    return {
        name: max(2 * error if math.isfinite(error) else 0, 4 * eps * float(true[name].abs().max()))
        for name, error in ordinary.items()
    }
