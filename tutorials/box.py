"""The recipe of the bundled model, minglm/box. Run it again after an interruption: it continues.

    python tutorials/box.py --stories FOLDER      writes the texts to build/box, pretrains in runs/box
    python tutorials/box.py --ship                the run, in float16, becomes minglm/box/

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


def command(texts, run):
    """The `minglm pretrain` command that remains, or None; an interrupted run is resumed."""
    if (run / "evaluation.json").is_file():
        return None
    if (run / "run.toml").is_file():
        return ["pretrain", "--out", str(run), "--resume"]
    return ["pretrain", "--preset", "box", "--text", str(texts), "--out", str(run)]


def ship(run, box):
    """Make the run the bundled model: float16 weights, and the records of where they come from."""
    model, tokenizer = read_model(run)
    by_hand = {name: (box / name).read_text(encoding="utf-8") for name in ("ORIGIN.md", "CREDITS.tsv")}
    records = {name: (run / name).read_text(encoding="utf-8") for name in ("evaluation.json", "metrics.csv")}
    settings = (run / "run.toml").read_text(encoding="utf-8")
    settings = re.sub("^text = .*?(?=  #)", 'text = ["build/box"]', settings, flags=re.MULTILINE)
    shutil.rmtree(box, ignore_errors=True)
    save_pretrained(model, box, tokenizer, by_hand | records | {"run.toml": settings}, torch.float16)
    print(f"wrote       {box}: {sum(f.stat().st_size for f in box.iterdir()):,} bytes")


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
        if words := command(args.out, args.run):
            sys.exit(main(words))
