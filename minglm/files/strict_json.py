"""Standard JSON, which has no NaN and no infinities: they are neither written nor read."""

import json
import math
import reprlib
from collections.abc import Mapping

from ..errors import MinglmError, first_line


def dumps(value, **how):
    """`json.dumps(value, **how)`. Raises MinglmError with the place of a number that is not finite."""
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        if place := _not_finite(value):
            raise MinglmError(f"{place}: no number that JSON has") from None
        raise


def loads(text):
    """`json.loads(text)`. Raises ValueError for NaN, Infinity, and numbers that are too large, like 1e999."""
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _finite(digits):
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{reprlib.repr(digits)[1:-1]} is too large a number")
    return number


def _refuse(word):
    raise ValueError(f"{reprlib.repr(word)} is no number that JSON has")


def _not_finite(value, where="value"):
    """The first number that is not finite, or None.  Example: {"a": [1, nan]} -> "value['a'][1] is nan"."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value}"
    items = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return next(filter(None, (_not_finite(item, f"{where}[{key!r}]") for key, item in items)), None)


def read_json(path):
    """The JSON object in a file, as a dict. Raises MinglmError if there is none."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MinglmError(f"{path}: not found") from error
    except (RecursionError, ValueError) as error:
        raise MinglmError(f"{path}: damaged: not JSON ({first_line(error)})") from error
    if not isinstance(values, dict):
        raise MinglmError(f"{path}: damaged: holds a {type(values).__name__}; accepted: a JSON object")
    return values
