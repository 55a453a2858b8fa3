"""Check what the README promises about the plain `minglm pretrain`: python .ci/check_run.py RUN"""

import csv
import json
import sys
import tomllib
from pathlib import Path

from minglm.files.jsonl import read_rows
from minglm.measure.evaluate import evaluate_everyday
from minglm.use.models import read_model

EVERYDAY = Path(__file__).parents[1] / "tutorials" / "data" / "everyday" / "dev.jsonl.xz"
run = Path(sys.argv[1])
settings = tomllib.loads((run / "run.toml").read_text(encoding="utf-8"))
report = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["objectives"]
seconds = sum(float(row["seconds"]) for row in csv.DictReader(open(run / "metrics.csv", encoding="utf-8")))
data = settings["data"]

assert settings["model"]["vocab_size"] >= 4096
assert data["token"] / (data["token"] + data["sentence"] + data["document"]) >= 0.4
for objective, most, least_worse in (("document", 0.25, 1.3), ("token", 0.25, 5)):
    result = report[objective]
    share = result["perplexity"] / result["unigram_perplexity"]
    worse = result["noise_perplexity"] / result["perplexity"]
    print(f"{objective}: perplexity {result['perplexity']:.1f}, {share:.3f} of the unigram model's", end="")
    print(f" (at most {most}); with Part A replaced by noise {worse:.2f} times as high")
    assert share <= most, f"{objective}: {share:.3f} > {most}"
    assert worse >= least_worse, f"{objective}: noise costs only {worse:.3f}"
score = evaluate_everyday(*read_model(run), read_rows(EVERYDAY))["metrics"]
greedy, five = (round(30 * score[name]["value"]) for name in ("accuracy", "accuracy_in_five"))
print(
    f"everyday blanks: {greedy} of 30 filled acceptably, {five} among the five likeliest (at least 5 and 10)"
)
assert greedy >= 5 and five >= 10
print(f"steps took {seconds:.0f} s, dtype {settings['train']['dtype']}")
