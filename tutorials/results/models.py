"""Pretrains and evaluates the small presets: writes models.json next to this file.

python tutorials/results/models.py        some twenty minutes on two cores
"""

import contextlib
import csv
import io
import json
import tempfile
import time
from pathlib import Path

from minglm.cli import main
from minglm.cli.evaluate import task_names
from minglm.machine import origin

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
RUNS = {
    "tiny": [],
    "tiny without the kernel": ["--dtype", "float32", "--backend", "sdpa"],
    "page": ["--preset", "page"],
}
USES = {"text": "austen/dev.txt.xz"} | {
    name: f"{name}/dev.jsonl.xz" for name in ("everyday", "infill", "book_cloze")
}


def call(*words):
    """The output of a command of minglm."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*map(str, words)]) == 0, words
    return printed.getvalue()


def pretrained(arguments, run):
    """Pretrain a model; returns the costs and the evaluation."""
    began = time.monotonic()
    call("pretrain", *arguments, "--out", run)
    minutes = (time.monotonic() - began) / 60
    with open(run / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    text_tokens, seconds = (sum(float(row[name]) for row in rows) for name in ("text_tokens", "seconds"))
    return dict(
        command=" ".join(["minglm pretrain", *arguments]),
        steps=len(rows),
        text_tokens=int(text_tokens),
        minutes=minutes,
        minutes_of_steps=seconds / 60,
        tokens_per_s=text_tokens / seconds,
        evaluation=json.loads((run / "evaluation.json").read_text(encoding="utf-8")),
    )


def used(run):
    """What a model fills and writes, and its scores without fine-tuning."""
    tasks = {}
    for name, file in USES.items():
        words = ["evaluate", "--model", run, "--task", name, "--file", DATA / file, "--json"]
        report = json.loads(call(*words))
        tasks[name] = {key: report[key] for key in ("metrics", "yardsticks") if key in report}
    blanks, start = "She opened the [MASK] and went [MASK].", "Once upon a time"
    filled = call("fill", "--model", run, blanks).splitlines()[0]
    written = call("write", "--model", run, start).strip()
    return dict(tasks=tasks, fills={blanks: filled}, writes={start: written})


if __name__ == "__main__":
    assert set(USES) <= set(task_names())
    results = dict(**origin(), command="python tutorials/results/models.py", models={})
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in RUNS.items():
            run = Path(folder) / name.replace(" ", "-")
            results["models"][name] = pretrained(arguments, run) | ({} if "without" in name else used(run))
    (HERE / "models.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"wrote       {HERE / 'models.json'}")
