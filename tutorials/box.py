"""The recipe of the model in the box: texts, cut into documents of many lengths; then `minglm pretrain --preset box`.

    python tutorials/box.py                  the texts: build/box/*.jsonl
    python tutorials/box.py --ship RUN       a finished run, halved to float16, becomes minglm/box/

Who fills a blank types a sentence, and a model that has read only pages finds a sentence strange. So each chapter is cut anew:
a paragraph becomes single sentences, or stays, or runs on into the next ones up to a page. Every word is there once.
"""

import argparse
import json
import lzma
import re
from pathlib import Path

from minglm.rng import Rng

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
            if u < 0.15:
                page = [paragraphs.pop(0)]
                while paragraphs and len(" ".join([*page, paragraphs[0]]).split()) <= PAGE:
                    page.append(paragraphs.pop(0))
                yield "\n".join(page)
            elif u < 0.55:
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
        lines = "".join(json.dumps({"text": document}) + "\n" for document in found)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"wrote       {folder / name}.jsonl: {len(found):,} documents")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("build/box"), help="folder of the texts (build/box)")
    write_texts(p.parse_args().out)
