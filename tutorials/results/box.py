"""What the model in the box is worth: writes box.json beside this file. Ten minutes on two cores.

    python tutorials/results/box.py
"""

import contextlib
import io
import json
from pathlib import Path

from minglm import scorer
from minglm.cli import main
from minglm.compare import origin
from minglm.runs import BOX

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
USES = {"text": "austen/dev.txt.xz"} | {
    name: f"{name}/dev.jsonl.xz" for name in ("last_word", "infill", "book_cloze", "sentiment", "topic", "paraphrase")
}


def evaluate(use, file):
    """What `minglm evaluate --json` prints, without the predictions."""
    with contextlib.redirect_stdout(printed := io.StringIO()):
        assert main(["evaluate", "--model", str(BOX), "--task", use, "--file", str(DATA / file), "--json"]) == 0
    found = json.loads(printed.getvalue())
    return dict(command=f"minglm evaluate --model minglm/box --task {use} --file tutorials/data/{file}",
                metrics=found["metrics"], yardsticks=found["yardsticks"])  # fmt: skip


if __name__ == "__main__":
    assert set(USES) <= set(scorer.task_names())
    results = dict(
        **origin(), command="python tutorials/results/box.py",
        pretraining=json.loads((BOX / "evaluation.json").read_text(encoding="utf-8")),
        tasks={use: evaluate(use, file) for use, file in USES.items()},
    )  # fmt: skip
    (HERE / "box.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"wrote       {HERE / 'box.json'}")
