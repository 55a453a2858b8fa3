"""Small vocabularies in each form that the original publishes, for the tests."""

import json
import struct

from minglm.special import byte_of_character


def bert_file(folder, words):
    """Write a vocab.txt with [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103 as in BERT."""
    lines = [
        "[PAD]",
        *(f"[unused{i}]" for i in range(99)),
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[unused99]",
        *words,
    ]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def bpe_files(folder, merges, roberta=False):
    """Write vocab.json and merges.txt in the form of GPT-2 or RoBERTa."""
    text = [*byte_of_character(), *(a + b for a, b in merges)]
    if roberta:
        made_up = [f"madeupword{i:04}" for i in range(3)]
        strings = ["<s>", "<pad>", "</s>", "<unk>", *text, "<|endoftext|>", *made_up, "<mask>"]
    else:
        strings = [*text, "<|endoftext|>"]
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(strings)}))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    return folder


def field(number, value):
    """One field of a protocol buffer message."""

    def varint(n):
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sp_file(path, pieces, model_type=2, normaliser=b"", more=()):
    """Write a SentencePiece model: <unk>, <s>, </s>, the symbol <n>, and pieces in order of their scores."""
    kinds = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<n>", 0.0, 4), *more]
    kinds += [(piece, -float(i), 1) for i, piece in enumerate(pieces)]
    data = b""
    for piece, score, kind in kinds:
        data += field(1, field(1, piece.encode()) + field(2, score) + (field(3, kind) if kind != 1 else b""))
    path.write_bytes(data + field(2, field(3, model_type)) + field(3, field(1, b"identity") + normaliser))
    return path


WORDS = [
    *"abcdefghijklmnopqrstuvwxyz0123456789.,!?-'[]",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
    "the",
    "cat",
    "sat",
    "mat",
    "on",
    "##at",
    "##ing",
    "cafe",
    "中",
    "国",
]
# learned from prefixes of some words, so that merges build on merges
MERGES = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "the"),
    ("Ġ", "c"),
    ("a", "t"),
    ("Ġc", "at"),
    ("i", "n"),
    ("in", "g"),
    ("Ã", "©"),
    ("Ġ", "Ġ"),
]
PIECES = [
    "▁中",
    "国",
    "中国",
    "的",
    "首都",
    "▁北京",
    "北京",
    "是",
    "▁t",
    "he",
    "▁the",
    "ca",
    "▁cat",
    "aa",
    "..",
    "...",
    "▁",
    *"中北京首都abcdefghijklmnopqrstuvwxyz.,!",
]
