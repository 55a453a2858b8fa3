"""The published vocabularies, read from a checkout of the original: the same ids as from its own code.

    git clone https://github.com/THUDM/GLM
    MINGLM_ORIGINAL=GLM pytest tests/original/test_published_vocabularies.py

They are compared with the original's BertTokenizer and GPT2Tokenizer, run from the checkout, and with the
sentencepiece library.
"""

import importlib
import os
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT

from minglm import Tokenizer
from minglm.files.jsonl import read_rows

ORIGINAL = os.environ.get("MINGLM_ORIGINAL")
if not ORIGINAL:
    pytest.skip("MINGLM_ORIGINAL names no checkout of github.com/THUDM/GLM", allow_module_level=True)

THEIRS = Path(ORIGINAL)
VOCABULARIES = {
    "bert-base": (".pytorch_pretrained_bert/bert-base-uncased-vocab.txt",),
    "bert-large": (".pytorch_pretrained_bert/bert-large-uncased-vocab.txt",),
    "gpt2": (".pytorch_pretrained_bert/gpt2-vocab.json", ".pytorch_pretrained_bert/gpt2-merges.txt"),
    "roberta": (".pytorch_pretrained_bert/roberta-vocab.json", ".pytorch_pretrained_bert/roberta-merges.txt"),
    "chinese": ("chinese_sentencepiece/cog-pretrain.model",),
}
# of the published models
ROWS = {"bert-base": 30592, "bert-large": 30592, "gpt2": 50304, "roberta": 50304, "chinese": 50048}


def original_module(name):
    """A module of the original's data_utils, without the others, which need boto3 and nltk."""
    package = types.ModuleType("original")
    package.__path__ = [str(THEIRS / "data_utils")]
    files = types.ModuleType("original.file_utils")
    files.cached_path = lambda path, cache_dir=None: path
    sys.modules |= {"original": package, "original.file_utils": files}
    return importlib.import_module(f"original.{name}")


def witness(kind):
    """A function from text to ids that runs the original's code."""
    files = [str(THEIRS / file) for file in VOCABULARIES[kind]]
    if kind.startswith("bert"):
        tokenizer = original_module("wordpiece").BertTokenizer(files[0], do_lower_case=True)
        tokenizer.max_len = 10**9
        return lambda text: tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    if kind == "chinese":
        spm = pytest.importorskip("sentencepiece", reason="pip install sentencepiece")
        processor = spm.SentencePieceProcessor()
        processor.Load(files[0])
        return processor.EncodeAsIds
    pytest.importorskip("regex", reason="pip install regex")
    tokenizer = original_module("tokenization_gpt2").GPT2Tokenizer(*files)
    tokenizer.max_len = 10**9
    return tokenizer.encode


def ours(kind, folder):
    """A Tokenizer of the published files, under their usual names."""
    names = {".txt": "vocab.txt", ".json": "vocab.json", ".model": "cog-pretrain.model"}
    for number, file in enumerate(VOCABULARIES[kind]):
        name = "merges.txt" if number else names[Path(file).suffix]
        (folder / name).write_bytes((THEIRS / file).read_bytes())
    return Tokenizer.from_original(folder)


def texts():
    """Real texts of many kinds: records of the tasks, and pages in English and Chinese."""
    lines = []
    for path in sorted((ROOT / "tutorials" / "data").glob("*/dev.jsonl.xz")):
        for row in list(read_rows(path).values())[::3]:
            lines += [value for value in row.values() if isinstance(value, str)]
    for path in (*ROOT.glob("README*.md"), *sorted(ROOT.glob("tutorials/*.md"))):
        lines += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    # BERT's own tokenizer recognises these in any text, ours only in encode(..., special=True)
    recognised = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    return [text for text in dict.fromkeys(lines) if not any(string in text for string in recognised)]


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_published_vocabularies_give_the_ids_of_the_original(kind, tmp_path):
    tokenizer, expected = ours(kind, tmp_path), witness(kind)
    assert tokenizer.vocab_size == ROWS[kind]
    all_texts = texts()
    wrong = [text for text in all_texts if tokenizer.encode(text) != expected(text)]
    print(f"{kind}: {len(all_texts):,} texts, {len(wrong)} with other ids")
    assert len(all_texts) > 3000 and wrong == []
