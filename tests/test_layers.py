"""Imports point down the list of layers below, and there are no circles, not even within a folder."""

import ast
from pathlib import Path

import minglm

LAYERS = """
    version streams rng rule
    errors
    special spans mask model_config modules checks
    files
    machine infilling kernel.lengths kernel.varlen suffixes
    kernel.extension kernel
    ops batch families
    attention kernel.gelu original
    model
    data use.reader
    use
    measure
    train
    compare bench
    viz
    course
    cli
    __init__ __main__
"""
LEVEL = {name: n for n, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}
ROOT = Path(minglm.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def level(module):
    """The layer of a module: its own, else that of its folder."""
    return LEVEL.get(module, LEVEL.get(module.partition(".")[0]))


def imports(module):
    """The modules of minglm that a module imports, at the top or inside a function."""
    package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parent = package[: len(package) - node.level + 1] if module != "__init__" else []
            home = ".".join([*parent, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".strip(".")
                yield inner if inner in MODULES else home or "__init__"


def test_every_import_points_down():
    up = [
        f"{module} -> {other}"
        for module in MODULES
        for other in imports(module)
        if level(other) > level(module)
    ]
    assert not up


def test_no_imports_run_in_a_circle():
    known = {module: set(imports(module)) - {module} for module in MODULES}
    while free := [module for module, others in known.items() if not others & known.keys()]:
        for module in free:
            del known[module]
    assert not known


def test_only_the_command_line_parses_arguments():
    parse = {module for module in MODULES if "import argparse" in MODULES[module].read_text(encoding="utf-8")}
    assert {module.partition(".")[0] for module in parse} == {"cli"}


def test_no_test_imports_another():
    """What tests share is in modules that are none."""
    tests = Path(__file__).parent.rglob("test_*.py")
    lines = [(path.name, line) for path in tests for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [found for found in lines if found[1].startswith(("from test_", "import test_"))]
