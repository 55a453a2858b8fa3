"""The recipe of the bundled model, minglm/box. Run it again after an interruption: it continues.

    python tutorials/box.py --stories FOLDER      writes the texts to build/box; pretrains in two rounds, in
                                                  runs/box-001 and runs/box-002
    python tutorials/box.py --ship                the second run, in float16, becomes minglm/box/

FOLDER holds train.txt.xz and classics.train.txt.xz, one story (or passage) per line in UTF-8. They are not in
this repository; minglm/box/ORIGIN.md says where to get them. The other texts are in tutorials/data.
"""

import argparse
import json
import lzma
import re
import shutil
import sys
from pathlib import Path

import torch

from minglm.cli import main
from minglm.files.checkpoint import save_pretrained
from minglm.files.jsonl import read_rows
from minglm.use.models import BOX, read_model

HERE = Path(__file__).parent
STORIES = {"train": 1, "classics.train": 5}  # simple modern English: every n-th line is used,
TEXTS = {"austen": 6, "scripture": 12}  # every n-th chapter of the novels and of the Bible,
PAIRS = 16  # and every n-th verse in an old and a new wording
# The second round continues the first. The first drew blanks by a budget: the only blank in a sentence had to
# be a long one, so the model wrote too much into single blanks (everyday blanks: 0 of 30 filled acceptably by
# greedy decoding, 11 of 30 among five candidates).
ROUNDS = {
    "box-001": ("--seed", "1234", "--data.blanks", "budget"),
    "box-002": ("--seed", "1235", "--steps", "6500"),
}


def write_texts(stories, folder):
    """Write all texts as `folder`/NAME.jsonl, one document per line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, every in STORIES.items():
        lines = lzma.open(stories / f"{name}.txt.xz", "rt", encoding="utf-8").read().splitlines()
        write_documents(folder / f"{name}.jsonl", lines[::every])
    for name, every in TEXTS.items():
        text = lzma.open(HERE / "data" / name / "train.txt.xz", "rt", encoding="utf-8").read()
        write_documents(folder / f"{name}.jsonl", re.split(r"\n\s*\n", text.strip())[::every])
    pairs = list(read_rows(HERE / "data" / "paraphrase" / "train.jsonl.xz").values())[::PAIRS]
    # both sentences, whatever the label
    write_documents(folder / "paraphrase.jsonl", [f"{row['a']} {row['b']}" for row in pairs])


def write_documents(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    words = sum(len(text.split()) for text in documents)
    print(f"wrote       {path}: {len(documents):,} documents, {words:,} words")


def commands(texts, runs):
    """The `minglm pretrain` commands that remain, in order; a run that was interrupted is resumed."""
    before = ()
    for name, more in ROUNDS.items():
        run = runs / name
        if (run / "run.toml").is_file() and not (run / "evaluation.json").is_file():
            yield ["pretrain", "--out", str(run), "--resume"]
        elif not run.exists():
            yield ["pretrain", "--preset", "box", "--text", str(texts), "--out", str(run), *before, *more]
        before = ("--init", str(run))


def ship(runs, box):
    """Make the last run the bundled model: float16 weights, and the records of where they come from."""
    first, last = (runs / name for name in ROUNDS)
    model, tokenizer = read_model(last)
    written_by_hand = {name: box / name for name in ("ORIGIN.md", "CREDITS.tsv")}
    more = {name: path.read_text(encoding="utf-8") for name, path in written_by_hand.items()}
    more["evaluation.json"] = (last / "evaluation.json").read_text(encoding="utf-8")
    for suffix, run in ((".first", first), ("", last)):
        settings = (run / "run.toml").read_text(encoding="utf-8")
        settings = re.sub("^text = .*?(?=  #)", 'text = ["build/box"]', settings, flags=re.MULTILINE)
        more[f"run{suffix}.toml"] = settings
        more[f"metrics{suffix}.csv"] = (run / "metrics.csv").read_text(encoding="utf-8")
    shutil.rmtree(box, ignore_errors=True)
    save_pretrained(model, box, tokenizer, more, torch.float16)
    print(f"wrote       {box}: {sum(f.stat().st_size for f in box.iterdir()):,} bytes")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stories = "folder of train.txt.xz and classics.train.txt.xz"
    p.add_argument("--stories", metavar="FOLDER", type=Path, help=stories)
    p.add_argument("--out", type=Path, default=Path("build/box"), help="folder of the texts (build/box)")
    p.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (runs)")
    p.add_argument("--ship", action="store_true", help="make minglm/box from the finished runs")
    args = p.parse_args()
    if args.ship:
        ship(args.runs, BOX)
    elif not args.stories:
        p.error("--stories FOLDER is needed; minglm/box/ORIGIN.md says what it holds")
    else:
        if not args.out.exists():
            write_texts(args.stories, args.out)
        for command in commands(args.out, args.runs):
            if code := main(command):
                sys.exit(code)
