"""The reader's file, made from solution.py: the same text, with the bodies of the puzzles taken out."""

import ast
from functools import cache
from pathlib import Path

from .puzzles import PUZZLES

SOLUTION = Path(__file__).with_name("solution.py")
HEAD = '''"""GLM from an empty file. Write the functions from top to bottom; each one is a puzzle.

    minglm course check {name}            checks your puzzles in order, up to the first that is not right
    minglm course check {name} --hint     one hint for that puzzle; --hint 2 gives the second

Loops in a description are its specification; yours may be one line. What is marked "Given" is done. At the
end your own GLM learns a small world in about a minute. This file needs torch, and nothing of minglm.
"""'''


@cache
def text():
    """The solution as text."""
    return SOLUTION.read_text(encoding="utf-8")


@cache
def functions():
    """{name: ast.FunctionDef} of the puzzles."""
    nodes = ast.parse(text()).body
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in PUZZLES}


def solution_of(name):
    """The source of a puzzle's solution."""
    return ast.get_source_segment(text(), functions()[name])


def body_lines(name):
    """The number of lines that the solution takes."""
    first, *_, last = functions()[name].body
    return last.end_lineno - first.end_lineno


def stub_file(name):
    """The text of the reader's file, which is to be called `name`."""
    lines = text().splitlines()
    for puzzle, node in reversed(functions().items()):
        first, *_, last = node.body
        count = body_lines(puzzle)
        lines[first.end_lineno : last.end_lineno] = [f"    ...  # your code: {count} line{'s'[: count > 1]}"]
    head_end = ast.parse(text()).body[0].end_lineno
    return "\n".join([HEAD.format(name=name), *lines[head_end:], ""])
