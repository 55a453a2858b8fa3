"""The tokenizers of the original code, read from their published files.

    vocab.txt                   WordPiece of BERT, uncased               base, large, 410M, 515M
    vocab.json and merges.txt   byte-level BPE of GPT-2 or of RoBERTa    2B, 10B; RoBERTa-large
    cog-pretrain.model          SentencePiece, Chinese                   large-chinese, 10B-chinese

Each becomes a vocabulary with as many rows as the model's table: text has the ids of the file, special tokens
have those of the original's `prepare_tokenizer`, and unused rows are called `<|spare0|>`, `<|spare1|>`, ...

Known differences from the original's ids: characters newer than the Unicode version of either side
(WordPiece), and an accent after a full-width character, which is lost here (SentencePiece).
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
SEP, UNK = "[SEP]", "[UNK]"  # special tokens of the original, too
RECOGNISED = (*SPECIAL_STRINGS.values(), SEP, UNK)
ROWS = 128  # the original rounds its tables up to a multiple of this
MOST_SPARE = 1024  # a table with more unused rows belongs to another tokenizer
FILES = ("vocab.txt", "vocab.json", "*.model")
ACCEPTED = (
    "accepted: vocab.txt (BERT), vocab.json beside merges.txt (GPT-2, RoBERTa), a SentencePiece .model, "
    "or their folder"
)


def read_tokenizer(path, vocab_size=None, task_masks=None):
    """A `tokenizers.Tokenizer` with the ids of the original.

    vocab_size: rows of the model's table; None: the least multiple of 128 that suffices. task_masks: whether
    [sMASK] and [gMASK] have rows; None: as in an added_tokens.json in the folder, else as published: they do
    in all vocabularies except those of BERT and RoBERTa.
    """
    path = find(Path(path))
    read = {".txt": bert, ".json": byte_level, ".model": sentencepiece}[path.suffix]
    try:
        rows, appended, build = read(path)
        vocab = numbered(rows, special_ids(path, rows, appended, task_masks), vocab_size, path)
        library = build(vocab)
    except OSError as error:
        raise MinglmError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except MinglmError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything, the library a bare Exception
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"
        raise MinglmError(f"{path}: no tokenizer that can be read: {reason}") from error
    special = [string for string in vocab if string in RECOGNISED or re.fullmatch(r"<\|spare\d+\|>", string)]
    masks = (MASK, SMASK, GMASK)  # they absorb the space on their left
    added = [tokenizers.AddedToken(s, special=True, normalized=False, lstrip=s in masks) for s in special]
    library.add_special_tokens(added)
    return library


def find(path):
    """The vocabulary file that a path leads to: itself, or the only one in a folder."""
    if path.is_dir():
        files = vocabularies(path)
        if len(files) != 1:
            what = (
                f"holds {', '.join(file.name for file in files)}" if files else "no tokenizer in this folder"
            )
            raise MinglmError(f"{path}: {what}; {ACCEPTED}")
        return files[0]
    if not path.is_file() or path.suffix not in (".txt", ".json", ".model"):
        what = "no tokenizer by its name" if path.is_file() else "not found"
        raise MinglmError(f"{path}: {what}; {ACCEPTED}")
    return path


def vocabularies(folder):
    """The vocabulary files in a folder."""
    return [file for name in FILES for file in sorted(folder.glob(name))]


def special_ids(path, rows, appended, task_masks):
    """{string: id} of the special tokens that the vocabulary file itself lacks."""
    beside = path.with_name("added_tokens.json")  # the Hugging Face form keeps them there
    if beside.is_file() and task_masks is None:
        added = json.loads(beside.read_bytes())
        is_table = isinstance(added, dict)
        ids = {s: added[s] for s in RECOGNISED if s in added and s not in rows} if is_table else {}
        if not is_table or not all(map(is_id, ids.values())) or len(set(ids.values())) < len(ids):
            raise MinglmError(f"{beside}: accepted: a JSON object of token: id, each id once")
        for string, i in ids.items():
            if i < len(rows) and rows[i] is not None:
                raise MinglmError(f"{beside}: {string} has id {i}, which is {rows[i]!r} in {path.name}")
        return ids
    # BERT and RoBERTa have [MASK] already; none of their GLMs was trained with the others
    if task_masks is None:
        task_masks = MASK not in rows
    left_out = (None,) if task_masks else (None, SMASK, GMASK)
    return {string: i for i, string in enumerate(appended, len(rows)) if string not in left_out}


def numbered(rows, ids, vocab_size, path):
    """{string: id} of the whole table: text, special tokens, and a spare string for each unused row."""
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
    """Whether a value read from JSON is a token id."""
    return type(i) is int and 0 <= i < 1 << 24


# ---- the three kinds -------------------------------------------------------------------------------------
# Each function takes a path and returns: rows (the string of every id, None if it is no text), the special
# tokens that the original appends to them (None: a row that it skips), and a function from vocab to library.


def bert(path):
    """vocab.txt: one token per line.

    Text is lower-cased, loses accents, is split at spaces and punctuation; the longest pieces match first.
    """
    rows = [line.strip() for line in path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")]
    if lost := [s for s in ("[PAD]", UNK, CLS, SEP, MASK) if s not in rows]:
        raise MinglmError(f"{path}: lacks {', '.join(lost)}; accepted: the vocab.txt of BERT uncased")
    if cased := [s for s in rows if s != s.lower() and not s.startswith("[")]:
        accepted = "accepted: the vocab.txt of BERT uncased, as all published GLMs have it"
        raise MinglmError(f"{path}: holds {cased[0]!r}; {accepted}")
    rows = [None if re.fullmatch(r"\[unused\d+\]", s) else s for s in rows]

    def build(vocab):
        library = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=UNK, max_input_chars_per_word=100))
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece("##", cleanup=False)
        return library

    return rows, [] if SOP in rows else [SOP, EOP, GMASK, SMASK], build


def byte_level(path):
    """vocab.json and merges.txt. RoBERTa has other names for GLM's tokens; GPT-2 has only <|endoftext|>.

    A vocab.json that `minglm convert --to hf` wrote has all of GLM's tokens already.
    """
    ids = json.loads(path.read_bytes())
    if not isinstance(ids, dict) or not all(map(is_id, ids.values())) or len(set(ids.values())) < len(ids):
        raise MinglmError(f"{path}: accepted: a JSON object of token: id, each id once")
    lines = path.with_name("merges.txt").read_text(encoding="utf-8-sig").split("\n")
    merges = [tuple(line.split()) for line in lines[lines[0].startswith("#version") :] if line.strip()]
    if odd := [merge for merge in merges if len(merge) != 2]:
        raise MinglmError(f"{path.with_name('merges.txt')}: {' '.join(odd[0])!r} is not two tokens")
    roberta = {"<s>": CLS, "</s>": EOS, "<unk>": UNK, "<mask>": MASK}
    if "<mask>" in ids:
        names, appended = roberta, [SOP, EOP, GMASK, SMASK]
    elif SOP in ids:
        names, appended = {s: s for s in RECOGNISED if s in ids}, []
    else:
        names, appended = {EOS: EOS}, [SOP, EOP, CLS, MASK, SEP, UNK, GMASK, SMASK]
    if lost := [s for s in names if s not in ids]:
        raise MinglmError(f"{path}: lacks {', '.join(lost)}; accepted: the vocab.json of GPT-2 or RoBERTa")
    # only bytes and merges can occur in text, not <pad> or madeupword0000
    text = {*byte_of_character(), *("".join(merge) for merge in merges)}
    token = {i: s for s, i in ids.items()}  # some copies of RoBERTa's file lack rows
    rows = [names.get(s, s if s in text else None) for s in (token.get(i) for i in range(max(token) + 1))]

    def build(vocab):
        library = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        library.decoder = decoders.ByteLevel()
        return library

    return rows, appended, build


def sentencepiece(path):
    """A SentencePiece model of type BPE: the two neighbours whose joint piece has the best score merge first.

    [gMASK] gets row 50009 instead of sharing 50007 with eop: `minglm.original.weights` copies its weights, as
    the original's converter does.
    """
    pieces, charsmap = read_sentencepiece(path)
    unknown = next(piece for piece, _, kind in pieces if kind == "unknown")
    symbols = [piece for piece, _, kind in pieces if kind == "user defined"]
    whole = {piece: chr(0xE000 + i) for i, piece in enumerate(symbols)}
    score = {piece: score for piece, score, kind in pieces if kind == "normal"}
    rows = [piece if kind in ("normal", "unknown") else whole.get(piece) for piece, _, kind in pieces]
    merges = []
    for piece in sorted(score, key=score.get, reverse=True):
        halves = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        merges += [(left, right) for left, right in halves if left in score and right in score]

    def build(vocab):
        # subtle: a user-defined symbol ("<n>") becomes one private character, which no merge contains
        keep = [normalizers.Replace(piece, character) for piece, character in whole.items()]
        folded = [normalizers.Precompiled(charsmap)] if charsmap else []
        spaces = [normalizers.Replace(tokenizers.Regex(p), by) for p, by in ((" +", " "), (r"\A | \z", ""))]
        back = [(character, piece) for piece, character in whole.items()]
        back += [(unknown, " \u2047 "), ("▁", " ")]
        bpe = models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True)
        library = tokenizers.Tokenizer(bpe)
        library.normalizer = normalizers.Sequence([*keep, *folded, *spaces])
        library.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=False)
        library.decoder = decoders.Sequence([decoders.Replace(*pair) for pair in back])
        return library

    return rows, [EOS, SEP, CLS, MASK, UNK, None, SOP, EOP, SMASK, GMASK], build


KINDS = {1: "normal", 2: "unknown", 3: "control", 4: "user defined", 5: "unused"}  # of pieces


def read_sentencepiece(path):
    """The pieces [(piece, score, kind)] and the normalisation table (bytes) of a SentencePiece model."""
    pieces, settings = [], {2: {}, 3: {}}  # 2: of training, 3: of normalisation
    for number, value in protobuf(path.read_bytes()):
        if number == 1:
            piece = dict(protobuf(value))
            kind = KINDS.get(piece.get(3, 1), "of bytes")
            pieces.append((piece[1].decode(), *struct.unpack("<f", piece.get(2, bytes(4))), kind))
        elif number in settings:
            settings[number] = dict(protobuf(value))
    training, normaliser = settings[2], settings[3]
    kinds = [kind for *_, kind in pieces]
    # 3: add a space at the front, 4: join runs of spaces, 5: write a space as "▁"
    usual = all(normaliser.get(flag, 1) for flag in (3, 4, 5))
    if training.get(3, 1) != 2 or not usual or "of bytes" in kinds or kinds.count("unknown") != 1:
        accepted = "a SentencePiece model of type BPE without byte fallback, like cog-pretrain.model"
        raise MinglmError(f"{path}: accepted: {accepted}")
    return pieces, normaliser.get(2, b"")


def protobuf(data):
    """Yield the fields of a protocol buffer message: (number, value), values as int or bytes."""
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
