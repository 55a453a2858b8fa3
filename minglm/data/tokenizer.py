"""Text to token ids and back: byte-level BPE, with GLM's special tokens at the front of the vocabulary.

Byte-level means that a token stands for a run of UTF-8 bytes, and all 256 single bytes are tokens. So there
is no unknown token, and every text can be decoded exactly. "[MASK]" in a corpus is always text; in what a
user types it may be a blank. The vocabularies of the original GLMs can be read, too
(`Tokenizer.from_original`); not all of them are byte-level.

    tokenizer.encode("a [MASK] b")                  # "[MASK]" as text: six ordinary characters
    tokenizer.encode("a [MASK] b", special=True)    # a, mask, " ", b: a mask takes the space on its left
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ..errors import MinglmError, reason
from ..files.whole import write_whole
from ..special import (
    SENTENCE_MARKS,
    SPARE_STRINGS,
    SPECIAL_STRINGS,
    STAND_INS,
    SpecialTokens,
    byte_of_character,
)

MIN_VOCAB_SIZE = len(SPECIAL_STRINGS) + len(SPARE_STRINGS) + 256
# Merges are learned from the first TRAIN_CHARS characters. The trainer keeps every distinct word in memory.
# English has few, but without spaces between words (Chinese) a whole clause is one word and hardly ever
# repeats: it costs 300 bytes and 12 microseconds per character. So less of such text is read.
TRAIN_CHARS = 200_000_000
TRAIN_CHARS_UNBROKEN = 5_000_000
UNBROKEN = 30  # characters without a space

# A forked process must not encode in parallel if its parent did: the threads stayed with the parent. Versions
# before 0.23 take care of that, but print four lines on stderr unless this variable is set.
if "TOKENIZERS_PARALLELISM" not in os.environ and hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: os.environ.setdefault("TOKENIZERS_PARALLELISM", "false"),
        after_in_parent=lambda: os.environ.pop("TOKENIZERS_PARALLELISM", None),
    )


class Tokenizer:
    """Text <-> ids, through one `tokenizer.json` of Hugging Face's `tokenizers`.

    vocab_size V; special: the SpecialTokens of this vocabulary, found by their strings. The file's decoder
    determines the bytes of a token: byte-level, or WordPiece or SentencePiece, where a word includes the
    space on its left. Threads may share a Tokenizer, which is never changed by use. It takes over `library`.

    Example: Tokenizer.train(["aa aa"], 281) learns one merge, "aa"; encode("aaa") is then [280, 88].
    """

    def __init__(self, library: tokenizers.Tokenizer, name: str = "the tokenizer"):
        ids = {key: library.token_to_id(string) for key, string in SPECIAL_STRINGS.items()}
        ids |= {key: ids[other] for key, other in STAND_INS.items() if ids[key] is None}
        missing = [SPECIAL_STRINGS[key] for key, id in ids.items() if id is None]
        if missing:
            raise MinglmError(f"{name}: lacks {', '.join(missing)}, which a tokenizer for GLM has")
        library.no_truncation()  # a file may have these settings, which would drop or add text
        library.no_padding()
        library.encode_special_tokens = True  # even "[MASK]" is text here; `_typed` recognises special tokens
        self._library = library
        self.special = SpecialTokens(**ids)
        self.vocab_size = library.get_vocab_size()
        self._is_byte_level = not isinstance(library.decoder, decoders.WordPiece | decoders.Sequence)
        self._no_row = [SPECIAL_STRINGS[key] for key in ("smask", "gmask") if ids[key] == ids["mask"]]
        self._token_bytes, self._is_special = _bytes_of_tokens(library, name, self._is_byte_level)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, progress: bool = False) -> "Tokenizer":
        """A Tokenizer whose merges are learned from `texts` (at most TRAIN_CHARS), deterministically.

        vocab_size includes the 24 special rows and the 256 bytes; too little text gives fewer tokens.
        """
        _check_list(texts, "texts")
        if vocab_size < MIN_VOCAB_SIZE:
            least = f"at least {MIN_VOCAB_SIZE} accepted (24 special tokens and 256 bytes)"
            raise MinglmError(f"vocab_size: {vocab_size} given, {least}")
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        library.decoder = decoders.ByteLevel()
        masks = {SPECIAL_STRINGS[key] for key in ("mask", "smask", "gmask")}
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=progress,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # even bytes that the texts lack
            special_tokens=[
                tokenizers.AddedToken(s, special=True, normalized=False, lstrip=s in masks)
                for s in (*SPECIAL_STRINGS.values(), *SPARE_STRINGS)
            ],
        )
        library.train_from_iterator(_enough_text(texts), trainer)
        return cls(library)

    @classmethod
    def from_pretrained(cls, directory) -> "Tokenizer":
        """The Tokenizer of a folder with a `tokenizer.json`."""
        path = Path(directory) / "tokenizer.json"
        try:
            library = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise MinglmError(f"{path}: {reason(error)}; a folder with this file is accepted") from error
        except Exception as error:  # the library raises a bare Exception
            raise MinglmError(f"{path}: not a tokenizer.json ({reason(error)})") from error
        return cls(library, str(path))

    @classmethod
    def from_original(
        cls, path, vocab_size: int | None = None, task_masks: bool | None = None
    ) -> "Tokenizer":
        """A tokenizer of the original code, with its ids.

        path: a vocab.txt (BERT), a vocab.json beside its merges.txt (GPT-2, RoBERTa), a SentencePiece .model
        (Chinese), or a folder with one of them. vocab_size: rows of the model's table, some of them unused
        (None: the least multiple of 128). task_masks: whether the model knows [sMASK] and [gMASK] (None:
        as published); if not, special.smask and special.gmask are special.mask, and typing one is an error.
        """
        from ..original.vocabularies import read_tokenizer

        return cls(read_tokenizer(path, vocab_size, task_masks), str(path))

    def save_pretrained(self, directory) -> None:
        """Write `tokenizer.json` into a folder: a standard file that plain `tokenizers` can read."""
        path = Path(directory) / "tokenizer.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MinglmError(f"{path}: cannot be written: {reason(error)}") from error
        write_whole(path, self._library.to_str(pretty=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the contents of `tokenizer.json`: equal fingerprints mean equal ids."""
        return hashlib.sha256(self._library.to_str().encode()).hexdigest()

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. special=True recognises special tokens; otherwise a literal "[MASK]" is text.

        A recognised mask token absorbs the white space on its left. No special tokens are added.
        """
        _check_text(text)
        if special and (unknown := [string for string in self._no_row if string in text]):
            raise MinglmError(
                f"text: {unknown[0]} means nothing to this model; of the blanks, [MASK] is accepted"
            )
        library = self._typed if special else self._library
        return library.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`[encode(text) for text in texts]`, on all cores."""
        _check_list(texts, "texts")
        for text in texts:
            _check_text(text)
        return [encoding.ids for encoding in self._library.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, all of them; decode(encode(text)) == text if the tokenizer is byte-level.

        A special token becomes its string, and invalid UTF-8 (half of a Chinese character) U+FFFD. WordPiece
        loses case, accents and the places of spaces ("Paris." -> "paris ."); SentencePiece normalises
        characters and runs of spaces. In all cases decode(ids) begins with decode(ids[:n]), except for half a
        character.
        """
        _check_list(ids, "ids")
        text = b"".join(self._bytes_of(i) for i in ids).decode("utf-8", errors="replace")
        return text if self._is_byte_level else text.removeprefix(" ")  # the encoder added this space

    def token_str(self, id: int) -> str:
        r"""A token in readable form: incomplete characters as `\xe4`, control characters escaped."""
        text = self._bytes_of(id).decode("utf-8", errors="backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """`token_str` of each id."""
        _check_list(ids, "ids")
        return [self.token_str(i) for i in ids]

    def byte_lengths(self) -> np.ndarray:
        """The number of bytes of text per token, 0 for a special one: (V,) int64. For bits per byte.

        Example: byte_lengths()[encode("né")].sum() == 3. (If not byte-level: of the decoded text.)
        """
        return self._byte_lengths.copy()

    def sentence_ends(self) -> np.ndarray:
        """Which tokens end a sentence, because they contain one of SENTENCE_MARKS: (V,) bool.

        A mark of several bytes (the Chinese full stop) counts only if a token contains all of it. If a
        vocabulary has not merged its bytes, none of their tokens ends a sentence.
        """
        marks = [mark.encode() for mark in SENTENCE_MARKS]
        ends = [any(mark in token for mark in marks) for token in self._token_bytes]
        return np.array(ends, dtype=bool) & ~self._is_special  # (V,)

    def openers(self) -> np.ndarray:
        """For each token the same word without its leading space, or itself if there is none: (V,) ids.

        Example: with "he" and " he" in the vocabulary, openers() is the id of "he" for both.
        """
        ids = {token: i for i, token in enumerate(self._token_bytes) if not self._is_special[i]}
        openers = [ids.get(token.removeprefix(b" "), i) for i, token in enumerate(self._token_bytes)]
        return np.where(self._is_special, np.arange(self.vocab_size), openers)

    def __reduce__(self):
        # subtle: a copied library loses encode_special_tokens; __init__ sets it again
        return Tokenizer, (self._library,)

    @cached_property
    def _typed(self):
        """A second library, which recognises special tokens: with one, threads would have to switch it."""
        return tokenizers.Tokenizer.from_str(self._library.to_str())

    @cached_property
    def _byte_lengths(self):
        lengths = np.array([len(token) for token in self._token_bytes], dtype=np.int64)  # (V,)
        return np.where(self._is_special, 0, lengths)

    def _bytes_of(self, id):
        if not 0 <= id < self.vocab_size:
            raise MinglmError(f"token id: {id} given, 0 to {self.vocab_size - 1} accepted")
        return self._token_bytes[id]


def _check_list(items, name):
    if isinstance(items, str | bytes):
        raise TypeError(f"{name}: a list is accepted, {type(items).__name__} given")


def _check_text(text):
    if not isinstance(text, str):
        raise TypeError(f"text: a str is accepted, {type(text).__name__} given")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, as JSON allows
        where = f"{text[error.start]!r} at character {error.start}"
        raise MinglmError(f"text: {where} is not valid unicode; well-formed text is accepted") from error


def _enough_text(texts) -> Iterator[str]:
    """Yield `texts` in pieces, up to TRAIN_CHARS and TRAIN_CHARS_UNBROKEN."""
    chars = unbroken = 0
    for text in texts:
        _check_text(text)
        for start in range(0, len(text), 100_000):
            piece = text[start : start + min(100_000, TRAIN_CHARS - chars)]
            chars += len(piece)
            unbroken += sum(len(word) for word in piece.split() if len(word) > UNBROKEN)
            yield piece
            if chars >= TRAIN_CHARS or unbroken >= TRAIN_CHARS_UNBROKEN:
                return


def _bytes_of_tokens(library, name, is_byte_level):
    """The bytes of every token (a special one: its string) and which are special: list of V, (V,) bool."""
    byte_of = byte_of_character()
    added, unknown = library.get_added_tokens_decoder(), getattr(library.model, "unk_token", None)
    special = {i: token for i, token in added.items() if token.content != unknown}  # unknown text is text
    token_bytes, is_special = [], np.zeros(library.get_vocab_size(), dtype=bool)
    for i in range(library.get_vocab_size()):
        token = library.id_to_token(i)
        if i in special:
            token_bytes.append(token.encode())
            is_special[i] = special[i].special
            continue
        try:
            if is_byte_level:
                token_bytes.append(bytes(byte_of[c] for c in token))
            else:  # decode it after another token, because the first of a text loses its space
                token_bytes.append(library.decoder.decode(["x", token])[1:].encode())
        except (KeyError, TypeError) as error:  # a character that is no byte; a gap in the ids
            raise MinglmError(f"{name}: token {i} is not one of byte-level BPE, which is accepted") from error
    return token_bytes, is_special
