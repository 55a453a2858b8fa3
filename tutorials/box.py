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
import re
import sys
from pathlib import Path

from recipes import check_finished, next_command, pretrain, settings_of, ship, write_documents

from minglm.cli import exit_code
from minglm.data.corpus import embedded_corpus
from minglm.files.jsonl import read_rows
from minglm.files.text import text_chunks
from minglm.use.models import BOX

HERE = Path(__file__).parent
STORIES = {"train": 1, "classics.train": 5}  # simple modern English: every n-th line is used,
TEXTS = {"austen": 6, "scripture": 12}  # every n-th chapter of the novels and of the Bible,
PAIRS = 16  # every n-th verse in an old and a new wording,
EVERYDAY = "everyday"  # and, in the second stage, the embedded corpus without the Bible
LONGEST = 40  # words of an everyday sentence; a chapter has more
SECOND = ["--steps", "6000", "--lr", "0.0015"]


def write_texts(stories, folder):
    """Write all texts as `folder`/NAME.jsonl, one document per line.

    The folder gets its name when all are there.
    """
    whole, folder = folder, folder.with_name(f"{folder.name}.part")
    folder.mkdir(parents=True, exist_ok=True)
    for name, every in STORIES.items():
        lines = read(stories / f"{name}.txt.xz").splitlines()
        write_documents(folder / f"{name}.jsonl", lines[::every])
    for name, every in TEXTS.items():
        text = read(HERE / "data" / name / "train.txt.xz")
        write_documents(folder / f"{name}.jsonl", re.split(r"\n\s*\n", text.strip())[::every])
    pairs = list(read_rows(HERE / "data" / "paraphrase" / "train.jsonl.xz").values())[::PAIRS]
    # both sentences, whatever the label
    write_documents(folder / "paraphrase.jsonl", [f"{row['a']} {row['b']}" for row in pairs])
    text = read(embedded_corpus())
    sentences = [text for text in re.split(r"\n\s*\n", text.strip()) if len(text.split()) <= LONGEST]
    write_documents(folder / f"{EVERYDAY}.jsonl", sentences)
    folder.rename(whole)


def read(path):
    """The text of a packed file. Raises MinglmError if it is not UTF-8 or incomplete."""
    return "".join(text_chunks(path))


def command(texts, run):
    """The `minglm pretrain` command that comes next, or None when both stages are finished."""
    first, second = run / "first", run / "second"
    files = [str(path) for path in sorted(texts.glob("*.jsonl")) if path.stem != EVERYDAY]
    return next_command(first, ["--preset", "box", "--text", *files]) or next_command(
        second, ["--preset", "box", "--text", str(texts), "--init", str(first), *SECOND]
    )


def ship_both(run, box):
    """Make the second stage the bundled model, with the records of both."""
    first, second = run / "first", run / "second"
    check_finished(second)
    records = {
        "metrics.csv": joined(first / "metrics.csv", second / "metrics.csv"),
        "run.first.toml": settings_of(first, text=["build/box"]),
        "run.toml": settings_of(second, text=["build/box"]),
    }
    ship(second, box, records, by_hand=("ORIGIN.md", "CREDITS.tsv"))


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


def recipe(args):
    """Do what the arguments say, from where an earlier call stopped."""
    if args.ship:
        return ship_both(args.run, BOX)
    if not args.out.exists():
        write_texts(args.stories, args.out)
    pretrain(lambda: command(args.out, args.run))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stories = "folder of train.txt.xz and classics.train.txt.xz"
    p.add_argument("--stories", metavar="FOLDER", type=Path, help=stories)
    p.add_argument("--out", type=Path, default=Path("build/box"), help="folder of the texts (build/box)")
    p.add_argument("--run", type=Path, default=Path("runs/box"), help="folder of the run (runs/box)")
    p.add_argument("--ship", action="store_true", help="make minglm/box from the finished run")
    args = p.parse_args()
    if not args.ship and not args.stories:
        p.error("--stories FOLDER is needed; minglm/box/ORIGIN.md says what it holds")
    sys.exit(exit_code(lambda: recipe(args)))
