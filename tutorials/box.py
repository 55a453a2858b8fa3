"""The recipe of the bundled model, minglm/box. Run it again after an interruption: it continues.

    python tutorials/box.py --stories FOLDER      writes the texts to build/box, pretrains in runs/box
    python tutorials/box.py --ship                the last run, in float16, becomes minglm/box/

There are two stages: `first` reads stories and books; `second` starts from its weights and reads them again,
together with the everyday sentences of minglm/data.

FOLDER holds train.txt.xz and classics.train.txt.xz, one story (or passage) per line in UTF-8. They are not in
this repository; minglm/box/ORIGIN.md says where to get them. The other texts are in tutorials/data.
"""

import argparse
import csv
import io
import json
import lzma
import re
import shutil
import sys
from pathlib import Path

import torch

from minglm.cli import main
from minglm.data.corpus import embedded_corpus
from minglm.files.checkpoint import save_pretrained
from minglm.files.jsonl import read_rows
from minglm.use.models import BOX, read_model

HERE = Path(__file__).parent
STORIES = {"train": 1, "classics.train": 5}  # simple modern English: every n-th line is used,
TEXTS = {"austen": 6, "scripture": 12}  # every n-th chapter of the novels and of the Bible,
PAIRS = 16  # every n-th verse in an old and a new wording,
EVERYDAY = "everyday"  # and, in the second stage, the embedded corpus without the Bible
LONGEST = 40  # words of an everyday sentence; a chapter has more
SECOND = ["--steps", "6000", "--lr", "0.0015"]


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
    text = lzma.open(embedded_corpus(), "rt", encoding="utf-8").read()
    sentences = [text for text in re.split(r"\n\s*\n", text.strip()) if len(text.split()) <= LONGEST]
    write_documents(folder / f"{EVERYDAY}.jsonl", sentences)


def write_documents(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    words = sum(len(text.split()) for text in documents)
    print(f"wrote       {path}: {len(documents):,} documents, {words:,} words")


def command(texts, run):
    """The `minglm pretrain` command that comes next, or None; an interrupted stage is resumed."""
    stages = [run / name for name in ("first", "second")]
    stage = next((stage for stage in stages if not (stage / "evaluation.json").is_file()), None)
    if stage is None:
        return None
    if (stage / "run.toml").is_file():
        return ["pretrain", "--out", str(stage), "--resume"]
    if stage == stages[1]:
        start = ["--init", str(stages[0]), *SECOND]
        return ["pretrain", "--preset", "box", "--text", str(texts), "--out", str(stage), *start]
    files = [str(path) for path in sorted(texts.glob("*.jsonl")) if path.stem != EVERYDAY]
    return ["pretrain", "--preset", "box", "--text", *files, "--out", str(stage)]


def ship(run, box):
    """Make the run the bundled model: float16 weights, and the records of where they come from."""
    first, second = run / "first", run / "second"
    model, tokenizer = read_model(second)
    by_hand = {name: (box / name).read_text(encoding="utf-8") for name in ("ORIGIN.md", "CREDITS.tsv")}
    records = {
        "evaluation.json": (second / "evaluation.json").read_text(encoding="utf-8"),
        "metrics.csv": joined(first / "metrics.csv", second / "metrics.csv"),
        "run.first.toml": settings_of(first),
        "run.toml": settings_of(second),
    }
    shutil.rmtree(box, ignore_errors=True)
    save_pretrained(model, box, tokenizer, by_hand | records, torch.float16)
    print(f"wrote       {box}: {sum(f.stat().st_size for f in box.iterdir()):,} bytes")


def settings_of(run):
    """The run.toml of a run; its text is called build/box, wherever it was."""
    settings = (run / "run.toml").read_text(encoding="utf-8")
    return re.sub("^text = .*?(?=  #)", 'text = ["build/box"]', settings, flags=re.MULTILINE)


def joined(*paths):
    """The curves of runs, one after the other, as one csv in which the steps go on."""
    rows, steps, out = [], 0, io.StringIO()
    for path in paths:
        with open(path, encoding="utf-8") as file:
            rows += [row | {"step": steps + int(row["step"])} for row in csv.DictReader(file)]
        steps = rows[-1]["step"]
    writer = csv.DictWriter(out, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stories = "folder of train.txt.xz and classics.train.txt.xz"
    p.add_argument("--stories", metavar="FOLDER", type=Path, help=stories)
    p.add_argument("--out", type=Path, default=Path("build/box"), help="folder of the texts (build/box)")
    p.add_argument("--run", type=Path, default=Path("runs/box"), help="folder of the run (runs/box)")
    p.add_argument("--ship", action="store_true", help="make minglm/box from the finished run")
    args = p.parse_args()
    if args.ship:
        ship(args.run, BOX)
    elif not args.stories:
        p.error("--stories FOLDER is needed; minglm/box/ORIGIN.md says what it holds")
    else:
        if not args.out.exists():
            write_texts(args.stories, args.out)
        while words := command(args.out, args.run):
            if code := main(words):
                sys.exit(code)
