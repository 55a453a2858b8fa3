"""The bundled model beside the one that was bundled before: writes boxes.json beside this file. Ten minutes on one core.

    git archive 10e2fd3 minglm/box | tar -x -C build          the one before
    python tutorials/results/boxes.py --stories FOLDER --before build/minglm/box

FOLDER is that of tutorials/box.py and holds dev.txt.xz too. Without --before the earlier model's numbers stay
as they are.
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
    """What a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(list(arguments)) == 0
    return out.getvalue()


def measured(model, stories):
    """Every number of one model, and what it writes: ten stories, the first hundred tokens of each, none left out."""

    def evaluate(task, file, *more):
        found = json.loads(
            printed("evaluate", "--model", str(model), "--task", task, "--file", str(file), *more, "--json")
        )
        return dict(metrics=found["metrics"], yardsticks=found["yardsticks"])

    dials = ("--temperature", "0.8", "--max-tokens", "100")
    return dict(
        parameters=read_model(model)[0].num_parameters(),
        everyday=evaluate("everyday", DATA / "everyday" / "dev.jsonl.xz"),
        stories=evaluate("text", stories / "dev.txt.xz", "--documents", "line"),
        novels=evaluate("text", DATA / "austen" / "dev.txt.xz"),
        infill=evaluate("infill", DATA / "infill" / "dev.jsonl.xz"),
        writes=[
            printed("write", START, "--model", str(model), *dials, "--seed", str(seed)).strip()
            for seed in SEEDS
        ],
    )


def write_results(stories, before=None, now=BOX):
    """Measure both models (the earlier one only where its folder is given) and write boxes.json."""
    path = HERE / "boxes.json"
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else {}
    for name, model in (("before", before), ("now", now)):
        if model:
            models[name] = measured(model, stories) | origin()
    command = "python tutorials/results/boxes.py --stories FOLDER --before build/minglm/box"
    found = dict(**origin(), command=command, models=models)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote       {path}")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--stories", metavar="FOLDER", type=Path, required=True)
    p.add_argument("--before", metavar="MODEL", type=Path)
    args = p.parse_args()
    write_results(args.stories, args.before)
