"""Rules for the values that a setting accepts, and the errors for all others."""

import math
import re
from collections.abc import Callable
from dataclasses import field
from typing import Any, NamedTuple

from ..errors import MinglmError


class Rule(NamedTuple):
    """The values that a setting accepts, in words and as a test, e.g. `Rule("> 0", lambda x: x > 0)`."""

    words: str
    test: Callable[[Any], bool]


ANY = Rule("", lambda x: True)
NOT_EMPTY = Rule("that is not empty", lambda x: x != "")
ABOVE_0 = Rule("> 0", lambda x: x > 0)
AT_LEAST_0 = Rule(">= 0", lambda x: x >= 0)
AT_LEAST_1 = Rule(">= 1", lambda x: x >= 1)
BELOW_1 = Rule(">= 0 and < 1", lambda x: 0 <= x < 1)
INSIDE_0_1 = Rule("> 0 and < 1", lambda x: 0 < x < 1)
UP_TO_1 = Rule("> 0 and <= 1", lambda x: 0 < x <= 1)
DEVICE = Rule("(auto, cpu, cuda or cuda:N)", lambda x: re.fullmatch("auto|cpu|cuda(:[0-9]+)?", x) is not None)


def one_of(*names: str) -> Rule:
    """The rule for a str that is one of a few, e.g. `one_of("cosine", "linear")`."""
    return Rule(f"({' or '.join(name or 'empty' for name in names)})", lambda x: x in names)


def setting(default, rule: Rule, help: str):
    """A dataclass field: its default (MISSING: every preset has one), its rule, and its help text."""
    return field(default=default, metadata={"rule": rule, "help": help})


TYPE_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple[str, ...]: "a list of texts",
}


def _has_type(value, kind) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, tuple) and all(_has_type(item, str) for item in value)
    if kind is str:  # no lone surrogate (from a file name that is not utf-8): TOML cannot hold it
        return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)
    return type(value) is kind and (kind is not float or math.isfinite(value))  # subtle: True is not 1 here


def _refused(key: str, value, accepted: str) -> MinglmError:
    return MinglmError(f"{key}: {_shown(value)} is not accepted; {accepted}")


def _shown(value) -> str:
    """A value as one line of at most 80 characters; a plain name without quotes."""
    text = value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.\-]+", value) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
