"""Compares the bundled model with its predecessor: writes boxes.json next to this file.

    git archive 10e2fd3 minglm/box | tar -x -C build          the predecessor
    python tutorials/results/boxes.py --stories FOLDER --before build/minglm/box

Takes ten minutes on one core. FOLDER is that of tutorials/box.py, with dev.txt.xz in it. Without --before,
the numbers of the predecessor are kept.
"""

import argparse
import contextlib
import io
import json
from pathlib import Path

from minglm.cli import main
from minglm.machine import origin
from minglm.use.models import BOX, read_model

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
START, SEEDS = "Once upon a time", range(10)


def printed(*arguments):
    """The output of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(arguments)) == 0
    return out.getvalue()


def measured(model, stories):
    """All numbers of one model, and the first hundred tokens of ten stories that it writes, none left out."""

    def evaluate(task, file, *more):
        words = ["evaluate", "--model", str(model), "--task", task, "--file", str(file), *more, "--json"]
        report = json.loads(printed(*words))
        return dict(metrics=report["metrics"], yardsticks=report["yardsticks"])

    def write(seed):
        return printed("write", START, "--model", str(model), *dials, "--seed", str(seed)).strip()

    dials = ("--temperature", "0.8", "--max-tokens", "100")
    return dict(
        parameters=read_model(model)[0].num_parameters(),
        everyday=evaluate("everyday", DATA / "everyday" / "dev.jsonl.xz"),
        stories=evaluate("text", stories / "dev.txt.xz", "--documents", "line"),
        novels=evaluate("text", DATA / "austen" / "dev.txt.xz"),
        infill=evaluate("infill", DATA / "infill" / "dev.jsonl.xz"),
        writes=[write(seed) for seed in SEEDS],
    )


def write_results(stories, before=None, now=BOX):
    """Measure both models (the predecessor only if its folder is given) and write boxes.json."""
    path = HERE / "boxes.json"
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}
    for name, model in (("before", before), ("now", now)):
        if model:
            models[name] = measured(model, stories) | origin()
    command = "python tutorials/results/boxes.py --stories FOLDER --before build/minglm/box"
    results = dict(**origin(), command=command, models=models)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote       {path}")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--stories", metavar="FOLDER", type=Path, required=True)
    p.add_argument("--before", metavar="MODEL", type=Path)
    args = p.parse_args()
    write_results(args.stories, args.before)
