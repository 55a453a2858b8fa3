"""Measures the bundled model: writes box.json next to this file.

python tutorials/results/box.py              without fine-tuning: about ten minutes on one core
python tutorials/results/box.py --learned    also fine-tunes on each task, about an hour; without this option,
                                             the last table of these results is kept, which names its model
"""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import math
import tempfile
from pathlib import Path

from minglm.cli import main
from minglm.cli.evaluate import task_names
from minglm.compare.cells import Comparison
from minglm.compare.plan import COUNTED, TASKS, Cell, Plan, uses_of
from minglm.compare.rivals import random_weights
from minglm.compare.table import together
from minglm.data.tokenizer import Tokenizer
from minglm.files.checkpoint import save_pretrained
from minglm.machine import origin
from minglm.use.models import BOX, read_model

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
USES = {"text": "austen/dev.txt.xz"} | {
    name: f"{name}/dev.jsonl.xz"
    for name in ("everyday", "last_word", "infill", "book_cloze", "sentiment", "topic", "paraphrase")
}


def evaluate(use, file, model=BOX):
    """What `minglm evaluate --json` prints, without the predictions."""
    words = ["evaluate", "--model", str(model), "--task", use, "--file", str(DATA / file), "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(words) == 0
    report = json.loads(printed.getvalue())
    command = f"minglm evaluate --model minglm/box --task {use} --file tutorials/data/{file}"
    return dict(command=command, metrics=report["metrics"], yardsticks=report["yardsticks"])


def evaluate_random_weights():
    """{use: the metrics of random weights in the shape of the bundled model}: a baseline without training."""
    model, tokenizer = read_model(BOX)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "random"
        save_pretrained(random_weights(model.config, 0), folder, tokenizer)
        return {use: evaluate(use, file, folder)["metrics"] for use, file in USES.items()}


class Learning(Comparison):
    """The cells of `minglm compare` for one model, the bundled one, and for random weights in its shape."""

    def config_of(self, cell):
        # a result also depends on this file
        name = "tokenizer.json" if cell.pretrained is None else "model.safetensors"
        return super().config_of(cell) | dict(box=hashlib.sha256((BOX / name).read_bytes()).hexdigest())

    def tokenizer(self):
        return Tokenizer.from_pretrained(BOX)

    def model(self, cell):
        model, tokenizer = read_model(BOX)
        return model if cell.pretrained is not None else random_weights(model.config, cell.seed), tokenizer


def learned(seeds=1):
    """Results of fine-tuning the bundled model and random weights on each task, and of counting words.

    They show what pretraining is worth.
    """
    config = read_model(BOX)[0].config
    # 192 of its 512 positions, because pages of novels take long
    plan = Plan(max_positions=256, reads=192, vocab_size=config.vocab_size, learn=7600, epochs=8)
    learning = Learning(plan, DATA, "build/box-learning")
    learning.out.mkdir(parents=True, exist_ok=True)
    counted = [Cell(COUNTED, None, task) for task in uses_of(COUNTED)]
    starts = [(seed, task, start) for seed in range(seeds) for task in TASKS for start in (0, None)]
    learning.run(counted + [Cell("glm", start, task, seed) for seed, task, start in starts])
    table = {task: {} for task in TASKS}
    for task in TASKS:
        for name, pretrained in (("box", 0), ("random weights", None)):
            results = [learning.known(Cell("glm", pretrained, task, seed)) for seed in range(seeds)]
            table[task][name] = together(results) | {key: results[0][key] for key in ("metric", "n")}
        floors = ("chance", "most_frequent", "copying")
        table[task] |= {key: results[0][key] for key in floors if results[0].get(key) is not None}
        if words := learning.known(Cell(COUNTED, None, task)):
            table[task]["words"] = {key: words[key] for key in ("score", "standard_error")}
        ours, random = table[task]["box"], table[task]["random weights"]
        error = math.hypot(ours["standard_error"], random["standard_error"])
        table[task]["standard_errors_above_random"] = (ours["score"] - random["score"]) / error
    model = f"the bundled model ({read_model(BOX)[0].num_parameters() / 1e6:.1f} M)"
    about = dict(model=model, **origin(), command="python tutorials/results/box.py --learned")
    return about | dict(plan=dataclasses.asdict(plan), seeds=seeds, tasks=table)


def learned_before():
    """The table of `learned` in box.json, which may be of an earlier model."""
    return json.loads((HERE / "box.json").read_text(encoding="utf-8"))["learned"]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--learned", action="store_true")
    args = p.parse_args()
    assert set(USES) <= set(task_names())
    results = dict(
        **origin(),
        command="python tutorials/results/box.py",
        pretraining=json.loads((BOX / "evaluation.json").read_text(encoding="utf-8")),
        tasks={use: evaluate(use, file) for use, file in USES.items()},
        random_weights=evaluate_random_weights(),
        learned=learned() if args.learned else learned_before(),
    )
    (HERE / "box.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"wrote       {HERE / 'box.json'}")
