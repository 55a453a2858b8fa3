"""The recipe of the model in the box: texts, cut into documents of many lengths; then `minglm pretrain --preset box`.

    python tutorials/box.py                  the texts: build/box/*.jsonl
    python tutorials/box.py --ship RUN       a finished run, halved to float16, becomes minglm/box/

Who fills a blank types a sentence, and a model that has read only pages finds a sentence strange. So each chapter is cut anew:
a paragraph becomes single sentences, or stays, or runs on into the next ones up to a page. Verses in an old and a new wording
stand side by side, so that what one of them says helps to read the other.
"""

import argparse
import json
import lzma
import re
import shutil
from pathlib import Path

import torch

from minglm.checkpoint import save_pretrained
from minglm.rng import Rng
from minglm.rows import read_rows
from minglm.runs import read_model

HERE = Path(__file__).parent
TEXTS = ("austen", "scripture")
PAGE = 340  # words: about what 512 tokens hold
SENTENCE_END = re.compile(r"""(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.!?]["')]*\s+(?=["'(]*[A-Z])""")


def documents(text, rng):
    """Cut chapters (parted by empty lines, a paragraph a line) into sentences, paragraphs and pages, drawn by `rng`."""
    for chapter in re.split(r"\n\s*\n", text):
        paragraphs = [line for line in chapter.split("\n") if line.strip()]
        while paragraphs:
            u = rng.uniform()
            if u < 0.2:
                page = [paragraphs.pop(0)]
                while paragraphs and len(" ".join([*page, paragraphs[0]]).split()) <= PAGE:
                    page.append(paragraphs.pop(0))
                yield "\n".join(page)
            elif u < 0.6:
                yield paragraphs.pop(0)
            else:
                yield from sentences(paragraphs.pop(0))


def sentences(paragraph):
    """The sentences of a paragraph; a title such as "Mr." ends none."""
    start = 0
    for end in SENTENCE_END.finditer(paragraph):
        yield paragraph[start : end.end()].rstrip()
        start = end.end()
    yield paragraph[start:]


def write_texts(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(TEXTS):
        text = lzma.open(HERE / "data" / name / "train.txt.xz", "rt", encoding="utf-8").read()
        found = list(documents(text, Rng(0, number)))
        write_documents(folder / f"{name}.jsonl", found)
    rows = read_rows(HERE / "data" / "paraphrase" / "train.jsonl.xz").values()
    write_documents(folder / "paraphrase.jsonl", [f"{row['a']} {row['b']}" for row in rows])  # whatever their label


def write_documents(path, found):
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in found), encoding="utf-8")
    print(f"wrote       {path}: {len(found):,} documents")


def ship(run, box):
    """A finished run as the model in the box: float16 weights, and what tells where they come from."""
    model, tokenizer = read_model(run)
    settings = (run / "run.toml").read_text(encoding="utf-8")
    more = {
        "run.toml": re.sub("^text = .*?(?=  #)", 'text = ["build/box"]', settings, flags=re.MULTILINE),
        **{name: (run / name).read_text(encoding="utf-8") for name in ("metrics.csv", "evaluation.json")},
        "ORIGIN.md": ORIGIN.format(parameters=model.num_parameters() / 1e6),
    }
    shutil.rmtree(box, ignore_errors=True)
    save_pretrained(model, box, tokenizer, more, torch.float16)
    print(f"wrote       {box}: {sum(f.stat().st_size for f in box.iterdir()):,} bytes")


ORIGIN = """\
A tiny GLM of {parameters:.1f} M parameters, so that `minglm fill` works right after it is installed. It has read nine
megabytes of two kinds of old English, knows the words that may follow one another there, and little else. Not for
any serious use.

Trained from scratch by minglm, in float16 here (MIT licence, as minglm), on texts in the public domain; all are in the
repository, under tutorials/data, with notes of their origin:
- austen/train.txt.xz: five novels of Jane Austen
- scripture/train.txt.xz: the Bible in modern English, derived from the text of the World English Bible, which its
  authors dedicated to the public domain ("World English Bible" is a trademark of eBible.org; an edited text is not
  called by that name)
- paraphrase/train.jsonl.xz: verses of the Bible in an old and a modern wording, without the labels
The recipe:

    python tutorials/box.py                                            # the texts, cut into documents: build/box
    minglm pretrain --preset box --text build/box --out runs/box-001   # run.toml and metrics.csv here are this run's
    python tutorials/box.py --ship runs/box-001                        # minglm/box
"""


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("build/box"), help="folder of the texts (build/box)")
    p.add_argument("--ship", metavar="RUN", type=Path, help="make minglm/box out of a finished run")
    args = p.parse_args()
    if args.ship:
        ship(args.ship, HERE.parent / "minglm" / "box")
    else:
        write_texts(args.out)
