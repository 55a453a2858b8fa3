"""The reader's file, made from solution.py and world.py: their text, without the bodies of the puzzles."""

import ast
import re
from functools import cache
from pathlib import Path

from .puzzles import PUZZLES
from .words import tell, translated

SOLUTION, WORLD = (Path(__file__).with_name(name) for name in ("solution.py", "world.py"))
HEAD = '''"""GLM from an empty file. Write the functions from top to bottom; each one is a puzzle.

    minglm course check {name}            checks your puzzles in order, up to the first that is not right
    minglm course check {name} --hint     one hint for that puzzle; --hint 2 gives the second

Loops in a description are its specification; yours may be one line. What is marked "Given" is done. At the
end your own GLM learns a small world in about a minute. This file needs torch, and nothing of minglm.
"""'''


@cache
def text():
    """The solution as text, with the small world behind it."""
    world = WORLD.read_text(encoding="utf-8")
    puzzles = re.sub("  # noqa: .*", "", SOLUTION.read_text(encoding="utf-8"))
    return puzzles + "\n\n" + world[world.index("# ----") :]


@cache
def functions():
    """{name: ast.FunctionDef} of the puzzles."""
    return functions_of(text())


def functions_of(text):
    nodes = ast.parse(text).body
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in PUZZLES}


def solution_of(name):
    """The source of a puzzle's solution."""
    return ast.get_source_segment(text(), functions()[name])


def body_lines(name):
    """The number of lines that the solution takes."""
    first, *_, last = functions()[name].body
    return last.end_lineno - first.end_lineno


def stub_file(name):
    """The text of the reader's file, which is to be called `name`, in the language that is spoken."""
    source = translated(text())
    lines = source.splitlines()
    for puzzle, node in reversed(functions_of(source).items()):
        first, *_, last = node.body
        count = body_lines(puzzle)
        said = tell("your code: 1 line") if count == 1 else tell("your code: {count} lines", count=count)
        lines[first.end_lineno : last.end_lineno] = [f"    ...  # {said}"]
    head_end = ast.parse(source).body[0].end_lineno
    return "\n".join([translated(HEAD).format(name=name), *lines[head_end:], ""])
