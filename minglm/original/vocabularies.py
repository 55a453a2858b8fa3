"""The tokenizers of the original code, read from their published files.

    vocab.txt                   WordPiece of BERT, uncased               base, large, 410M, 515M
    vocab.json and merges.txt   byte-level BPE of GPT-2 or of RoBERTa    2B, 10B; RoBERTa-large
    cog-pretrain.model          SentencePiece, Chinese                   large-chinese, 10B-chinese

Each becomes a vocabulary with as many rows as the model's table: the text under the ids of the file, the
special tokens where the original's `prepare_tokenizer` put them, and `<|spare0|>`, `<|spare1|>`, ... where a
row stands for no text.

Where the ids are not the original's: at characters that Unicode did not know when the other side was written
(WordPiece), and at an accent after a full-width character, which is lost here (SentencePiece).
"""

import json
import re
import struct
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from ..errors import MinglmError
from ..special import SPECIAL_STRINGS, byte_of_character

EOS, CLS, MASK, SMASK, GMASK = (SPECIAL_STRINGS[key] for key in ("eos", "cls", "mask", "smask", "gmask"))
SOP, EOP = SPECIAL_STRINGS["sop"], SPECIAL_STRINGS["eop"]
SEP, UNK = "[SEP]", "[UNK]"  # the original recognises these two as well
RECOGNISED = (*SPECIAL_STRINGS.values(), SEP, UNK)
ROWS = 128  # the original rounds its tables up to a multiple of this
MOST_SPARE = 1024  # a table with more rows to spare belongs to another tokenizer
FILES = ("vocab.txt", "vocab.json", "*.model")
ACCEPTED = "accepted: vocab.txt (BERT), vocab.json beside merges.txt (GPT-2, RoBERTa), a SentencePiece .model, or their folder"


def read_tokenizer(path, vocab_size=None, task_masks=None):
    """A `tokenizers.Tokenizer` that gives the ids of the original.

    vocab_size: rows of the model's table; None: the least multiple of 128 that holds all. task_masks: whether
    [sMASK] and [gMASK] have rows; None: as an added_tokens.json in the folder says, else as published: all
    but BERT's and RoBERTa's do.
    """
    path = find(Path(path))
    try:
        rows, appended, build = {".txt": bert, ".json": byte_level, ".model": sentencepiece}[path.suffix](
            path
        )
        vocab = numbered(rows, special_ids(path, rows, appended, task_masks), vocab_size, path)
        library = build(vocab)
    except OSError as error:
        raise MinglmError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except MinglmError:
        raise
    except (
        Exception
    ) as error:  # a damaged file can raise nearly anything; what the library raises is a bare Exception
        reason = (str(error).splitlines() or [""])[0][:100]
        raise MinglmError(
            f"{path}: no tokenizer that can be read: {type(error).__name__}: {reason}"
        ) from error
    special = [string for string in vocab if string in RECOGNISED or re.fullmatch(r"<\|spare\d+\|>", string)]
    masks = (MASK, SMASK, GMASK)  # they take the blank on their left with them
    library.add_special_tokens(
        [tokenizers.AddedToken(s, special=True, normalized=False, lstrip=s in masks) for s in special]
    )
    return library


def find(path):
    """The one vocabulary file that a path stands for."""
    if path.is_dir():
        found = vocabularies(path)
        if len(found) != 1:
            what = (
                f"holds {', '.join(file.name for file in found)}" if found else "no tokenizer in this folder"
            )
            raise MinglmError(f"{path}: {what}; {ACCEPTED}")
        return found[0]
    if not path.is_file() or path.suffix not in (".txt", ".json", ".model"):
        raise MinglmError(
            f"{path}: {'no tokenizer by its name' if path.is_file() else 'not found'}; {ACCEPTED}"
        )
    return path


def vocabularies(folder):
    """The vocabulary files in a folder."""
    return [file for name in FILES for file in sorted(folder.glob(name))]


def special_ids(path, rows, appended, task_masks):
    """{string: id} of the special tokens that the vocabulary file itself does not hold."""
    beside = path.with_name("added_tokens.json")  # the Hugging Face form keeps them there
    if beside.is_file() and task_masks is None:
        added = json.loads(beside.read_bytes())
        ids = (
            {s: added[s] for s in RECOGNISED if s in added and s not in rows}
            if isinstance(added, dict)
            else None
        )
        if ids is None or not all(is_id(i) for i in ids.values()) or len(set(ids.values())) < len(ids):
            raise MinglmError(f"{beside}: accepted: a JSON object of token: id, each id once")
        if taken := [s for s, i in ids.items() if i < len(rows) and rows[i] is not None]:
            raise MinglmError(
                f"{beside}: {taken[0]} has id {ids[taken[0]]}, which is {rows[ids[taken[0]]]!r} in {path.name}"
            )
        return ids
    if task_masks is None:
        task_masks = (
            MASK not in rows
        )  # of BERT and RoBERTa, who have [MASK] already, no model was trained with the others
    left_out = (None,) if task_masks else (None, SMASK, GMASK)
    return {string: i for i, string in enumerate(appended, len(rows)) if string not in left_out}


def numbered(rows, ids, vocab_size, path):
    """{string: id} of the whole table: rows and special tokens, and a spare string where nothing is."""
    table = dict(enumerate(rows)) | {i: string for string, i in ids.items()}
    used = max(table) + 1
    size = vocab_size or -(-used // ROWS) * ROWS
    if not 0 <= size - used < MOST_SPARE:
        raise MinglmError(f"{path}: {used:,} tokens, the model's table has {size:,} rows: not of one model")
    empty = [i for i in range(size) if table.get(i) is None]
    table |= {i: f"<|spare{n}|>" for n, i in enumerate(empty)}
    vocab = {table[i]: i for i in range(size)}
    if len(vocab) < size:
        twice = next(table[i] for i in range(size) if vocab[table[i]] != i)
        raise MinglmError(f"{path}: {twice!r} comes twice")
    return vocab


def is_id(i):
    return type(i) is int and 0 <= i < 1 << 24


# ---- the three kinds -------------------------------------------------------------------------------------
# Each: path -> rows (the string of every id, None where it is no text), what the original appends to them in
# this order (None: a row that it skips), and vocab -> library.


def bert(path):
    """vocab.txt: one token a line. Lower case, accents dropped, split at blanks and marks; then the longest pieces first."""
    rows = [line.strip() for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
    if lost := [s for s in ("[PAD]", UNK, CLS, SEP, MASK) if s not in rows]:
        raise MinglmError(f"{path}: lacks {', '.join(lost)}; accepted: the vocab.txt of BERT uncased")
    if cased := [s for s in rows if s != s.lower() and not s.startswith("[")]:
        raise MinglmError(
            f"{path}: holds {cased[0]!r}; accepted: the vocab.txt of BERT uncased, as all published GLMs have it"
        )
    rows = [None if re.fullmatch(r"\[unused\d+\]", s) else s for s in rows]

    def build(vocab):
        library = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=UNK, max_input_chars_per_word=100))
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece("##", cleanup=False)
        return library

    return rows, [SOP, EOP, GMASK, SMASK], build


def byte_level(path):
    """vocab.json and merges.txt. RoBERTa has its own names for what GLM uses; GPT-2 has only <|endoftext|>."""
    ids = json.loads(path.read_bytes())
    if not isinstance(ids, dict) or not all(map(is_id, ids.values())) or len(set(ids.values())) < len(ids):
        raise MinglmError(f"{path}: accepted: a JSON object of token: id, each id once")
    lines = path.with_name("merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[lines[0].startswith("#version") :] if line.strip()]
    if odd := [merge for merge in merges if len(merge) != 2]:
        raise MinglmError(f"{path.with_name('merges.txt')}: {' '.join(odd[0])!r} is not two tokens")
    roberta = {"<s>": CLS, "</s>": EOS, "<unk>": UNK, "<mask>": MASK}
    if "<mask>" in ids:
        names, appended = roberta, [SOP, EOP, GMASK, SMASK]
    else:
        names, appended = {EOS: EOS}, [SOP, EOP, CLS, MASK, SEP, UNK, GMASK, SMASK]
    if lost := [s for s in names if s not in ids]:
        raise MinglmError(f"{path}: lacks {', '.join(lost)}; accepted: the vocab.json of GPT-2 or RoBERTa")
    # bytes and what merges make of them; nothing else can come of a text (<pad>, madeupword0000)
    text = {*byte_of_character(), *("".join(merge) for merge in merges)}
    token = {i: s for s, i in ids.items()}  # some copies of RoBERTa's file leave rows out
    rows = [names.get(s, s if s in text else None) for s in (token.get(i) for i in range(max(token) + 1))]

    def build(vocab):
        library = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        library.decoder = decoders.ByteLevel()
        return library

    return rows, appended, build


def sentencepiece(path):
    """A SentencePiece model of type BPE: any two neighbours whose joint piece has the best score merge first.

    gMASK gets row 50009 and so does not share 50007 with eop: `minglm.original.weights` moves its weights
    there, as the original's converter does.
    """
    pieces, charsmap = read_sentencepiece(path)
    unknown = next(piece for piece, _, kind in pieces if kind == "unknown")
    whole = {
        piece: chr(0xE000 + i) for i, piece in enumerate(p for p, _, kind in pieces if kind == "user defined")
    }
    score = {piece: score for piece, score, kind in pieces if kind == "normal"}
    rows = [piece if kind in ("normal", "unknown") else whole.get(piece) for piece, _, kind in pieces]
    merges = []
    for piece in sorted(score, key=score.get, reverse=True):
        halves = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        merges += [(left, right) for left, right in halves if left in score and right in score]

    def build(vocab):
        # subtle: a symbol that is never cut ("<n>") becomes one private character, which no merge touches
        keep = [normalizers.Replace(piece, character) for piece, character in whole.items()]
        folded = [normalizers.Precompiled(charsmap)] if charsmap else []
        spaces = [normalizers.Replace(tokenizers.Regex(p), by) for p, by in ((" +", " "), (r"\A | \z", ""))]
        back = [(character, piece) for piece, character in whole.items()] + [
            (unknown, " \u2047 "),
            ("▁", " "),
        ]
        library = tokenizers.Tokenizer(
            models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True)
        )
        library.normalizer = normalizers.Sequence([*keep, *folded, *spaces])
        library.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=False)
        library.decoder = decoders.Sequence([decoders.Replace(*pair) for pair in back])
        return library

    return rows, [EOS, SEP, CLS, MASK, UNK, None, SOP, EOP, SMASK, GMASK], build


KINDS = {1: "normal", 2: "unknown", 3: "control", 4: "user defined", 5: "unused"}  # of pieces


def read_sentencepiece(path):
    """The pieces [(piece, score, kind)] and the table of characters to fold (bytes) of a SentencePiece model."""
    pieces, settings = [], {2: {}, 3: {}}  # 2: how it was trained, 3: how text is normalised
    for number, value in protobuf(path.read_bytes()):
        if number == 1:
            piece = dict(protobuf(value))
            kind = KINDS.get(piece.get(3, 1), "of bytes")
            pieces.append((piece[1].decode(), *struct.unpack("<f", piece.get(2, bytes(4))), kind))
        elif number in settings:
            settings[number] = dict(protobuf(value))
    training, normaliser = settings[2], settings[3]
    kinds = [kind for *_, kind in pieces]
    usual = all(
        normaliser.get(flag, 1) for flag in (3, 4, 5)
    )  # a blank in front, runs of blanks are one, "▁" for a blank
    if training.get(3, 1) != 2 or not usual or "of bytes" in kinds or kinds.count("unknown") != 1:
        raise MinglmError(
            f"{path}: accepted: a SentencePiece model of type BPE without byte fallback, like cog-pretrain.model"
        )
    return pieces, normaliser.get(2, b"")


def protobuf(data):
    """The fields of a protocol buffer message: (number, value), values as int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = {1: lambda: 8, 2: varint, 5: lambda: 4}[key & 7]()
            if at + length > len(data):
                raise ValueError("cut short")
            yield key >> 3, data[at : at + length]
            at += length
