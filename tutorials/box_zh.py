"""The recipe of the small Chinese model, tutorials/box-zh. Run it again after an interruption: it continues.

    pip install jieba opencc-python-reimplemented
    python tutorials/box_zh.py --sentences FILE...     texts to build/box-zh, pretrains in runs/box-zh
    python tutorials/box_zh.py --ship                  the run, in float16, becomes tutorials/box-zh

The sentences are those of Tatoeba: the export cmn_sentences.tsv that tatoeba.org offers, and lists cmn.txt of
manythings.org/anki; several files are joined. tutorials/box-zh/ORIGIN.md names the copies that were used.
"""

import argparse
import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

from recipes import check_finished, next_command, pretrain, settings_of, ship, write_documents

from minglm.cli import exit_code
from minglm.data.tokenizer import Tokenizer
from minglm.errors import MinglmError
from minglm.files.jsonl import read_rows

HERE = Path(__file__).parent
EVERYDAY = HERE / "data" / "everyday_zh" / "dev.jsonl.xz"
VOCABULARY = 4000  # some 2,400 characters and 1,100 words: with them, the model stays below 3 MB
SETTINGS = ["--preset", "page", "--steps", "4500"]
# ASCII punctuation and Traditional Chinese quotes; a sentence of other characters is left out
MARKS = str.maketrans("?!,:;「」『』", "？！，：；“”‘’")
PLAIN = re.compile(r"[\u4e00-\u9fff0-9，。？！、：；“”‘’…《》]{4,60}")
RUDE = re.compile("性交|做爱|强奸|妓女|嫖|操你|他妈的|婊|屄|鸡巴|自杀|毒品|阴茎|阴道|尸体|屠杀")
RARE = 10  # a character is common if it occurs so often; sentences with others are left out
NAMES = re.compile("汤姆|玛丽|玛莉")  # in one of eleven sentences; a third of those is kept


def read_sentences(path):
    """Yield the Chinese sentences of a .tsv (id, language, text) or of a .txt (English, Chinese, credits)."""
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        columns = line.split("\t")
        if path.suffix == ".tsv" and len(columns) > 2 and columns[1] == "cmn":
            yield columns[2]
        elif path.suffix != ".tsv" and len(columns) > 1:
            yield columns[1]


def simple_sentences(sentences, simplified):
    """The sentences, `simplified` by that function, without duplicates, in the order of their SHA-1."""
    # no sentence that fills a blank of the everyday sentences
    blanks = [row["text"].split("[MASK]") for row in read_rows(EVERYDAY).values()]
    chosen = {}
    for sentence in dict.fromkeys(re.sub(r"\s", "", x) for x in sentences):
        text = simplified(sentence).translate(MARKS)
        text = re.sub(r"\.+$", "。", text)
        key = hashlib.sha1(text.encode()).hexdigest()
        if not PLAIN.fullmatch(text) or RUDE.search(text) or (NAMES.search(text) and int(key, 16) % 3):
            continue
        if not any(text.startswith(left) and text.endswith(right) for left, right in blanks):
            chosen[key] = text
    count = Counter("".join(chosen.values()))
    return [text for _, text in sorted(chosen.items()) if all(count[c] >= RARE for c in text)]


def write_texts(files, folder):
    """Write sentences.jsonl, one document per sentence, and tokenizer.json.

    Chinese has no spaces: merges learned from sentences would join words ("在厨房里"), and a blank could not
    begin inside such a token. So merges are learned from one word at a time.
    """
    sentences = [sentence for path in files for sentence in read_sentences(path)]
    try:
        import jieba
        from opencc import OpenCC
    except ImportError as error:
        needed = "pip install jieba opencc-python-reimplemented"
        raise MinglmError(f"{error.name} is not installed; {needed}") from error
    sentences = simple_sentences(sentences, OpenCC("t2s").convert)
    tokenizer = Tokenizer.train((word for text in sentences for word in jieba.cut(text)), VOCABULARY)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    write_documents(folder / "sentences.jsonl", sentences)  # last: marks the end


def command(texts, run):
    """The `minglm pretrain` command that comes next, or None."""
    text, tokenizer = str(texts / "sentences.jsonl"), str(texts / "tokenizer.json")
    return next_command(run, [*SETTINGS, "--text", text, "--tokenizer", tokenizer])


def recipe(args):
    """Do what the arguments say, from where an earlier call stopped."""
    if args.ship:
        text, tokenizer = ["build/box-zh/sentences.jsonl"], "build/box-zh/tokenizer.json"
        check_finished(args.run)
        records = {"run.toml": settings_of(args.run, text=text, tokenizer=tokenizer)}
        return ship(args.run, HERE / "box-zh", records)
    if not is_written(args.texts):
        write_texts(args.sentences, args.texts)
    pretrain(lambda: command(args.texts, args.run))


def is_written(texts):
    """Whether the folder holds the texts already."""
    return (texts / "sentences.jsonl").exists()


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sentences", metavar="FILE", nargs="+", type=Path, help="cmn_sentences.tsv, cmn.txt")
    p.add_argument("--texts", type=Path, default=Path("build/box-zh"), help="folder of the texts")
    p.add_argument("--run", type=Path, default=Path("runs/box-zh"), help="folder of the run")
    p.add_argument("--ship", action="store_true", help="make tutorials/box-zh from the run")
    args = p.parse_args()
    if not args.ship and not args.sentences and not is_written(args.texts):
        p.error("--sentences FILE is needed: cmn_sentences.tsv of Tatoeba")
    sys.exit(exit_code(lambda: recipe(args)))
