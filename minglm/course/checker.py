"""Is a puzzle right? If not: on which case, what was returned, and which mistake is it?"""

import copy
import inspect
from dataclasses import dataclass
from functools import cache

import torch

from . import solution
from .cases import Predict, cases
from .compare import difference, equal, plain, shape_of
from .drawing import Look, draw
from .puzzles import OPEN, PUZZLES, RIGHT, WRONG, Verdict
from .reader import Stopped
from .stubs import solution_of
from .words import tell, wrapped

IN_PLACE = {"adam": ("w", "m", "v")}  # puzzles that change arguments: the results are what these hold


def check(reader, name, look=Look()):  # noqa: B008 (immutable)
    """The Verdict on one puzzle of the reader's file."""
    if name not in reader.names:
        return Verdict(WRONG, [tell("{name} is gone: its `def` line was deleted or renamed.", name=name)])
    function = reader.names[name]
    if not callable(function):
        kind = type(function).__name__
        said = "{name} is no function any more: another line gives its name to a {kind}."
        return Verdict(WRONG, [tell(said, name=name, kind=kind)])
    if not reader.is_written(name):
        return Verdict(OPEN)
    everything = cases(name)
    for args in everything:
        want = outcome(getattr(solution, name), name, args)
        try:
            got = reader.call(outcome, function, name, args)
        except Stopped as stopped:
            return Verdict(WRONG, [*heading(name, args, look), *printed(reader, look), "", *stopped.lines])
        if got.changed:
            return Verdict(WRONG, changed_lines(name, got.changed, args, look))
        if not equal(got.value, want.value):
            says = printed(reader, look)
            return Verdict(WRONG, wrong_lines(reader, name, args, got, want, look) + says)
    return Verdict(RIGHT)


# ---- one call --------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a call returned (or, in place, made of its arguments), and what else it did.

    changed: names of arguments that it should not have changed. calls: those of predict, if there is one.
    """

    value: object
    changed: list
    calls: list


def outcome(function, name, args):
    """The Outcome of a call with copies of the arguments."""
    mine = copy.deepcopy(args)
    with torch.no_grad():
        value = function(*mine)
    names = parameters(name)
    own = IN_PLACE.get(name, ())
    changed = [n for n, a, b in zip(names, args, mine, strict=False) if n not in own and not same(a, b)]
    if own:
        value = tuple(mine[names.index(n)] for n in own)
    calls = [call for a in mine if isinstance(a, Predict) for call in a.calls]
    return Outcome(plain(value), changed, calls)


def parameters(name):
    """The names of a puzzle's arguments."""
    return [p.name for p in list(inspect.signature(getattr(solution, name)).parameters.values())]


def same(a, b):
    """Whether an argument is still what it was."""
    return isinstance(a, Predict) or equal(a, b)


# ---- what is said ----------------------------------------------------------------------------------------


def heading(name, args, look):
    """The call, in a line or two."""
    return [look.soft(tell("The call:  ")) + f"{name}({', '.join(map(short, args))})"]


def printed(reader, look):
    """What the reader's function printed in that call, at most twenty lines."""
    lines = reader.says.splitlines()[:20]
    return ["", look.soft(tell("It printed:")), *(f"    {line[:200]}" for line in lines)] if lines else []


def short(value):
    """An argument in a few words.  Example: a (2, 5) tensor -> tensor (2, 5)."""
    if torch.is_tensor(value):
        return str(value.tolist()) if value.numel() <= 4 else f"tensor{tuple(value.shape)}"
    if isinstance(value, dict) and all(torch.is_tensor(x) or isinstance(x, list) for x in value.values()):
        if any(torch.is_tensor(x) for x in value.values()):
            return tell("weights")
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def changed_lines(name, changed, args, look):
    said = tell(
        "Your function changes {which}, which belongs to its caller. Make a new one instead: `a = a + b` "
        "rather than `a += b`, `.append` or `.pop`.",
        which=tell(" and ").join(changed),
    )
    return [*heading(name, args, look), "", said]


def wrong_lines(reader, name, args, got, want, look):
    """The call, both results, the first difference in `predict`'s calls, and the mistake by name."""
    lines = heading(name, args, look)
    if (plainly := value_problem(reader, got.value, want.value)) is not None:
        return [*lines, "", *plainly]
    lines += ["", *draw(got.value, want.value, look)]
    mistake = recognise(reader, name)
    if mistake is None:
        mistake = difference(got.value, want.value)
    said = [mistake] if mistake else []
    if name == "mask":
        said += seen_too_much(got.value, want.value, args)
    if got.calls and got.calls != want.calls:
        lines += ["", *first_call(got.calls, want.calls)]
    pieces = [piece for sentence in said for piece in wrapped(sentence)]
    return [*lines, "", *map(look.bold, pieces)] if said else lines


def value_problem(reader, got, want):
    """Sentences about a result of the wrong type, or None."""
    if got is None:
        if reader.says.strip():
            return [
                tell("It prints its answer and returns None. `print` shows a value; `return` hands it over.")
            ]
        return [tell("It returned None: did you forget `return`?")]
    if callable(got) or inspect.isgenerator(got) or type(got).__name__ in ("zip", "map", "filter"):
        return [tell("It returned a {kind}. Wrap it: list(...).", kind=type(got).__name__)]
    if torch.is_tensor(want) != torch.is_tensor(got) and not isinstance(want, int | float):
        accepted = f"tensor {tuple(want.shape)}" if torch.is_tensor(want) else type(want).__name__
        said = "It returned {got}; a {accepted} is expected: {want}"
        return [tell(said, got=shape_of(got), accepted=accepted, want=short(want))]
    if torch.is_tensor(want) and want.dtype == torch.bool and got.dtype != torch.bool:
        said = "It returned {dtype}; a mask is bool, True where a row may see: `== 1`, or `.bool()`."
        return [tell(said, dtype=got.dtype)]
    return None


@cache
def wrong_functions(name):
    """[(what is said, the wrong solution)] of a puzzle."""
    made = []
    for mistake in PUZZLES[name].mistakes:
        names = dict(vars(solution))
        exec(compile(mistake.source(solution_of(name)), f"<{name}>", "exec"), names)
        made.append((mistake.say, names[name]))
    return made


@cache
def wrong_outcomes(name):
    """[(what is said, the outcome of each case)] of a puzzle's wrong solutions."""
    everything = cases(name)
    return [
        (say, [attempt(outcome, function, name, args) for args in everything])
        for say, function in wrong_functions(name)
    ]


def recognise(reader, name):
    """The mistake that gives the reader's results on every case (or ends as theirs does), or None."""
    mine = [attempt(reader.call, outcome, reader.names[name], name, args) for args in cases(name)]
    for say, theirs in wrong_outcomes(name):
        if all(map(alike, mine, theirs)):
            return tell(say)
    return None


def alike(a, b):
    """Whether two outcomes (None: an exception) are the same."""
    return a is b is None or (a is not None and b is not None and equal(a.value, b.value, nan=True))


def attempt(function, *args):
    """The Outcome, or None where there is none."""
    try:
        return function(*args)
    except Exception:
        return None


def seen_too_much(got, want, args):
    """For the mask: what the first wrong cell means."""
    if got.shape != want.shape or not (got != want).any():
        return []
    i, j = (got != want).nonzero()[0].tolist()
    cell = dict(
        zip("iabj", (i, *("Part A" if row < args[1] else "Part B" for row in (i, j)), j), strict=True)
    )
    if got[i, j]:
        return [tell("Row {i} ({a}) sees token {j} ({b}), and should not.", **cell)]
    return [tell("Row {i} ({a}) should see token {j} ({b}), and does not.", **cell)]


def first_call(mine, right):
    """The first call of predict that differs."""
    for n, (a, b) in enumerate(zip(mine, right, strict=False), 1):
        if a != b:
            lines = [tell("Your call {n} of predict differs from what it should be:", n=n)]
            for what, x, y in zip(("tokens", "positions", "insides", "A"), a, b, strict=True):
                if x != y:
                    lines += [f"    {what:9}  {tell('yours')} {x}", f"    {'':9}  {tell('right')} {y}"]
            return lines
    return [tell("You call predict {n} times; {right} is right.", n=len(mine), right=len(right))]
