"""What each command imports, which decides how fast it starts; tested without a clock.

A separate process runs some command lines through `main` and reports the modules that they imported.
"""

import ast
import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import minglm
from minglm.cli import COMMANDS, parser

HEAVY = {"torch", "numpy", "matplotlib", "safetensors", "tokenizers", "tqdm"}
TRAINING = {
    "minglm.train",
    "minglm.compare",
    "minglm.measure",
    "minglm.bench",
    "minglm.data.corpus",
    "minglm.data.samples",
}
PICTURES = {f"minglm.viz.{name}" for name in ("derivation", "terminal", "figures", "page")}

REPORT = """
import contextlib, io, json, sys
from minglm.cli import main

ran, before = [], set()
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as leaving:
            code = leaving.code
    ran.append([" ".join(words), code, sorted(set(sys.modules) - before)])
    before = set(sys.modules)
print(json.dumps(ran))
"""


def run(code, *args):
    """The JSON that a program prints. It imports the minglm that is tested here, in any folder."""
    environment = os.environ | {"PYTHONPATH": str(Path(minglm.__file__).parent.parent)}
    words = [sys.executable, "-P", "-c", code, *args]
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return json.loads(result.stdout)


def imported_by(*lines, code=0, without):
    """Run command lines one after the other in a separate process -> all modules that it imported.

    Each line must end with this exit code, and import none of `without`.
    """
    every = set()
    for line, found, modules in run(REPORT, json.dumps(lines)):
        assert found == code, f"minglm {line}: exit code {found}"
        assert not without & set(modules), f"minglm {line} imports {without & set(modules)}"
        every |= set(modules)
    return every


def test_import_minglm_imports_two_small_modules():
    modules = set(run("import json, sys, minglm; print(json.dumps(sorted(sys.modules)))"))
    assert {name for name in modules if name.startswith("minglm")} == {"minglm", "minglm.version"}
    assert not modules & (HEAVY | {"argparse", "dataclasses"})


def test_every_help_does_without_torch_and_numpy():
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    lines += [["bench", name, "--help"] for name in ("attention", "train", "generate")]
    assert {f"minglm.cli.{file}" for file, _ in COMMANDS.values()} <= imported_by(*lines, without=HEAVY)


def test_every_usage_error_does_without_torch_and_numpy(tmp_path):
    lines = [
        [],
        ["fil"],
        ["fill"],
        ["fill", "a [MASK]", "--tpo", "5"],
        ["fill", "a [MASK]", "--top", "x"],
        ["show"],
        ["pretrain", "stray"],
        ["pretrain", "--train.learning_rate", "1"],
        ["pretrain", "--lr", "fast"],
        ["pretrain", "--preset", "tinny"],
        ["pretrain", "--resume"],
        ["pretrain", "--config", str(tmp_path / "none.toml")],
        ["show", "a b", "--step", "--json"],
        ["show", "a b", "--out", "x.svg"],
        ["show", "a b", "--figure", "masc"],
        ["explore", "--spans", "0:1"],
        ["plot", ".", "--figure", "masc"],
        ["course", "chek"],
        ["course", "solution", "masc"],
        ["classify"],
        ["rewrite", "--task", "modernise"],
        ["finetune", "--task", "sentiment"],
        ["evaluate", "--file", "x"],
        ["compare", "--steps", "0"],
        ["convert", "x"],
        ["similar", "x"],
        ["info", "--jsn"],
        ["bench"],
        ["bench", "attenion"],
    ]
    imported_by(*lines, code=2, without=HEAVY)


def test_text_and_pages_do_without_torch(tmp_path):
    page = tmp_path / "glm.html"
    views = [], ["--compare", "all"], ["--step"], ["--spans", "1:2", "--explain", "0,1"]
    lines = [["show", "x1 x2 x3 x4", *view] for view in views]
    lines += [["course"], ["course", "start", str(tmp_path / "mine.py")], ["course", "solution", "mask"]]
    imported_by(*lines, ["explore", "x1 x2 x3", "--no-model", "--out", str(page)], without=HEAVY - {"numpy"})
    assert page.stat().st_size > 10_000


def test_curves_are_plotted_without_torch(tmp_path):
    head = "step,loss,lr,grad_norm,text_tokens,learned_tokens,masked,fallbacks,seconds,"
    head += "held_out,held_out_token,held_out_sentence,held_out_document"
    rows = [f"{step},5.{step},0.001,1.0,4096,1300,0.31,0,1.5,,,," for step in range(1, 9)]
    (tmp_path / "metrics.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    words = ["plot", str(tmp_path)]
    assert "matplotlib" in imported_by(words, without=HEAVY - {"numpy", "matplotlib"})


def test_fill_imports_neither_training_nor_pictures_nor_the_compiler_of_torch(tmp_path):
    box = str(Path(minglm.__file__).parent / "box")
    lines = [["fill", "She was very [MASK] to see him.", "--model", box], ["write", "And", "--model", box]]
    assert "torch" in imported_by(
        *lines, without={"torch._dynamo", "sympy", "matplotlib"} | TRAINING | PICTURES
    )


# ---- import minglm stays what it was ---------------------------------------------------------------------


def test_every_public_name_is_there_and_editors_see_the_same_ones():
    [block] = [node for node in ast.parse(inspect.getsource(minglm)).body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == minglm.HOMES
    for name, home in minglm.HOMES.items():
        assert getattr(minglm, name) is getattr(sys.modules[f"minglm.{home}"], name)
    assert {*minglm.HOMES, "__version__"} == set(minglm.__all__) <= set(dir(minglm))
    # a module would hide it
    assert not set(minglm.HOMES) & {path.stem for path in Path(minglm.__file__).parent.iterdir()}


def test_a_star_gives_every_name_and_a_wrong_name_is_an_attribute_error():
    names = {}
    exec("from minglm import *", names)
    assert set(minglm.__all__) <= set(names)
    with pytest.raises(AttributeError, match="no attribute 'GLMM'"):
        _ = minglm.GLMM
    with pytest.raises(ImportError):
        exec("from minglm import GLMM")


def test_modules_are_attributes_and_objects_can_be_pickled():
    assert run("import json, minglm; print(json.dumps([minglm.model.__name__, minglm.viz.__name__]))") == [
        "minglm.model",
        "minglm.viz",
    ]
    config = minglm.GLMConfig(10, 4, 1, 1, 8)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    mask = pickle.loads(pickle.dumps(minglm.GLMMask.packed([3], [1])))
    assert mask.dense().tolist() == minglm.GLMMask.packed([3], [1]).dense().tolist()


# ---- names that --help repeats, so that it need not import their modules ---------------------------------


def test_what_a_help_spells_out_is_what_the_library_has():
    from minglm import families as layout
    from minglm import model_config
    from minglm.bench import cases, training
    from minglm.bench import data as bench_data
    from minglm.cli import bench, evaluate, fill
    from minglm.compare.plan import LargePlan, Plan
    from minglm.data import documents
    from minglm.measure import perplexity
    from minglm.use import embedding

    assert model_config.FAMILIES == layout.FAMILIES
    assert fill.POOLS == embedding.POOLS
    assert (evaluate.MASKS, evaluate.DOCUMENTS, evaluate.ERRORS) == (
        tuple(perplexity.MASKS),
        documents.DOCUMENTS,
        documents.ERRORS,
    )
    assert (bench.SHAPES, bench.QUICK, bench.BATCH_TOKENS, bench.DATA_PRESETS) == (
        tuple(cases.SHAPES),
        cases.QUICK,
        training.BATCH_TOKENS,
        bench_data.PRESETS,
    )
    plan, large = Plan(), LargePlan()
    shown = {action.dest: action.help or "" for action in arguments("compare")}
    assert f"({plan.pretraining_seeds}; large {large.pretraining_seeds})" in shown["pretraining_seeds"]
    assert f"({plan.finetuning_seeds}; large {large.finetuning_seeds})" in shown["finetuning_seeds"]
    assert f"({plan.steps:,}; large {large.steps:,})" in shown["steps"]


def arguments(command):
    """The actions of a command's parser."""
    whole = parser()
    [commands] = [action for action in whole._actions if action.dest == "==SUPPRESS=="]
    with pytest.raises(SystemExit):
        commands.choices[command].parse_known_args(["--help"])
    return commands.choices[command]._actions
