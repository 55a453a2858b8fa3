"""The files of a tokenizer for the published tokenization_glm.py, written from a Tokenizer of minglm.

    byte-level BPE    vocab.json, merges.txt    GLMGPT2Tokenizer (also for RoBERTa's ids, which it gives, too)
    WordPiece         vocab.txt                 GLMBertTokenizer
    SentencePiece     cog-pretrain.model        GLMChineseTokenizer; only as a copy of the original's file

The vocabulary file holds every row of the model's table, special and unused ones included: the published
classes accept special tokens elsewhere (added_tokens.json) only behind all others.
"""

import json
from pathlib import Path

from tokenizers import models

from ..errors import MinglmError
from ..special import SPECIAL_STRINGS
from .vocabularies import SEP, UNK, find, read_tokenizer

SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}  # GPT-2's
MASKS = tuple(SPECIAL_STRINGS[key] for key in ("mask", "smask", "gmask"))


def tokenizer_files(tokenizer, vocabulary=None):
    """{file name: bytes}. vocabulary: the original's SentencePiece file (or its folder), which is copied.

    Raises MinglmError if no published class would give the tokenizer's ids, or if the vocabulary does not.
    """
    contents = json.loads(tokenizer._library.to_str())
    kind = _kind(contents)
    if kind == "GLMChineseTokenizer":
        files = _copied(tokenizer, vocabulary)
    elif vocabulary is not None:
        raise MinglmError(f"{vocabulary}: not needed: the files are made of the model's own tokenizer.json")
    elif kind == "GLMGPT2Tokenizer":
        files = _byte_level(contents["model"])
    else:
        files = _wordpiece(contents["model"]["vocab"])
    return files | _settings(kind, tokenizer, contents["model"].get("unk_token"))


def _kind(contents):
    """The published class for a tokenizer.json."""
    model, split = contents["model"], contents["pre_tokenizer"] or {}
    if model["type"] == models.WordPiece.__name__:
        return "GLMBertTokenizer"
    if split.get("type") == "Metaspace":
        return "GLMChineseTokenizer"
    plain = not any(model.get(key) for key in ("dropout", "unk_token", "byte_fallback", "ignore_merges"))
    if not plain or contents["normalizer"] or any(split.get(key) != value for key, value in SPLIT.items()):
        accepted = "accepted: byte-level BPE with GPT-2's way to split words, WordPiece"
        raise MinglmError(f"the tokenizer: no published class gives its ids; {accepted}")
    return "GLMGPT2Tokenizer"


def _byte_level(model):
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    text = "".join(f"{line}\n" for line in ("#version: 0.2", *merges))
    vocab = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    return {"vocab.json": json.dumps(vocab, ensure_ascii=False).encode(), "merges.txt": text.encode()}


def _wordpiece(vocab):
    rows = sorted(vocab, key=vocab.get)
    spare = [row for row in rows if row.startswith("<|spare")]
    unused = {row: f"[unused{n}]" for n, row in enumerate(spare)}  # as BERT calls them
    return {"vocab.txt": "".join(f"{unused.get(row, row)}\n" for row in rows).encode()}


def _copied(tokenizer, vocabulary):
    """The original's SentencePiece file, if its ids are the tokenizer's, and the tokens behind them."""
    if vocabulary is None:
        cure = "give the original's cog-pretrain.model (minglm convert --tokenizer PATH), which is copied"
        raise MinglmError(f"the tokenizer: a SentencePiece model cannot be made of a tokenizer.json; {cure}")
    path = find(Path(vocabulary))
    theirs = read_tokenizer(path, tokenizer.vocab_size)
    if theirs.get_vocab() != tokenizer._library.get_vocab():
        raise MinglmError(f"{path}: not the vocabulary of this model's tokenizer, whose ids differ")
    added = _special(tokenizer, "GLMChineseTokenizer")
    return {
        "cog-pretrain.model": path.read_bytes(),
        "added_tokens.json": json.dumps(added, indent=2).encode(),
    }


def _special(tokenizer, kind):
    """{string: id} of the special tokens that a vocabulary has, and for Chinese of the rows between them."""
    strings = dict.fromkeys((*SPECIAL_STRINGS.values(), SEP, UNK))
    ids = {string: tokenizer._library.token_to_id(string) for string in strings}
    ids = {string: i for string, i in ids.items() if i is not None}
    if kind == "GLMChineseTokenizer":  # it accepts them only one right behind the other
        ids = {tokenizer._library.id_to_token(i): i for i in range(min(ids.values()), max(ids.values()) + 1)}
    return ids


def _settings(kind, tokenizer, unknown):
    """special_tokens_map.json for transformers before 4.34, tokenizer_config.json for all."""
    has, eos = _special(tokenizer, kind), SPECIAL_STRINGS["eos"]
    eos = eos if eos in has else SPECIAL_STRINGS["pad"]  # BERT's
    named = {"eos": eos, "pad": SPECIAL_STRINGS["pad"], "cls": SPECIAL_STRINGS["cls"], "mask": MASKS[0]}
    named |= {"unk": unknown or UNK, "sep": SEP, "bos": eos}
    named = {f"{key}_token": s if s in {*has, unknown} else eos for key, s in named.items()}
    others = [string for string in has if string not in named.values()]
    table = {key: _token(string) for key, string in named.items()}
    table["additional_special_tokens"] = [_token(string) for string in others]
    config = {
        "tokenizer_class": kind,
        "auto_map": {"AutoTokenizer": [f"tokenization_glm.{kind}", None]},
        **named,
        "additional_special_tokens": others,
        "added_tokens_decoder": {i: {**_token(string), "special": True} for string, i in has.items()},
        "add_prefix_space": False,
        "use_fast": False,
    }
    files = {"special_tokens_map.json": table, "tokenizer_config.json": config}
    return {name: (json.dumps(values, indent=2) + "\n").encode() for name, values in files.items()}


def _token(string):
    """A special token; a mask takes the space on its left."""
    flags = {"lstrip": string in MASKS, "rstrip": False, "normalized": False, "single_word": False}
    return {"content": string, **flags}
