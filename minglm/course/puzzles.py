"""The catalogue of puzzles, read from puzzles.toml, in the order of solution.py; and what a check says."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

RIGHT, OPEN, WRONG = "right", "open", "wrong"


@dataclass
class Verdict:
    """state: RIGHT, OPEN (not written yet) or WRONG. lines: what to tell the reader."""

    state: str
    lines: list = field(default_factory=list)


class Mistake(NamedTuple):
    """say: what the reader is told. edits: (text in the solution, what is there instead) pairs, flat."""

    say: str
    edits: tuple

    def source(self, solution):
        """The source of the wrong solution."""
        for old, new in zip(self.edits[::2], self.edits[1::2], strict=True):
            if old not in solution:
                raise ValueError(f"{old!r} is not in the solution: {solution[:40]}")
            solution = solution.replace(old, new)
        return solution


class Puzzle(NamedTuple):
    """name: of a function in solution.py. hints: the first says where to look, the second nearly all."""

    name: str
    question: str
    hints: tuple
    mistakes: tuple


class Part(NamedTuple):
    """Puzzles that belong together, and the page of tutorials/ that explains them."""

    title: str
    page: str
    puzzles: tuple


def _puzzle(name, question, hints, mistake):
    mistakes = tuple(Mistake(one["say"], tuple(one["edits"])) for one in mistake)
    return Puzzle(name, question, tuple(hints), mistakes)


def _read():
    data = tomllib.loads(Path(__file__).with_name("puzzles.toml").read_text(encoding="utf-8"))
    return tuple(
        Part(part["title"], part["page"], tuple(_puzzle(**one) for one in part["puzzle"]))
        for part in data["part"]
    )


PARTS = _read()
PUZZLES = {puzzle.name: puzzle for part in PARTS for puzzle in part.puzzles}
