"""Token files of other tools: nanoGPT's .bin, which holds uint16 token ids, end to end.

The file does not name its vocabulary, so a setting does (data.tokenizer). GLM's special tokens are appended
to it, which leaves all ids as they are. Documents end at <|endoftext|>, if the vocabulary has it.
"""

from pathlib import Path

import numpy as np
import tokenizers

from ..errors import MinglmError, reason
from ..special import SPECIAL_STRINGS
from .tokenizer import Tokenizer

CHUNK_IDS = 1 << 20  # read at a time
MAX_DOCUMENT = 1 << 24  # tokens; a longer document is split


def tokenizer_of(path) -> Tokenizer:
    """The Tokenizer of a tokenizer.json (or its folder), or of GPT-2's files; GLM's tokens are appended."""
    path = Path(path).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.name != "tokenizer.json" or not file.is_file():
        return Tokenizer.from_original(path)
    try:
        library = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8-sig"))
    except Exception as error:  # the library raises a bare Exception
        raise MinglmError(f"{file}: not a tokenizer.json ({reason(error)})") from error
    masks = {SPECIAL_STRINGS[key] for key in ("mask", "smask", "gmask")}
    new = [string for string in SPECIAL_STRINGS.values() if library.token_to_id(string) is None]
    library.add_special_tokens(
        [tokenizers.AddedToken(s, special=True, normalized=False, lstrip=s in masks) for s in new]
    )
    return Tokenizer(library, str(file))


def token_documents(path, tokenizer, dtype, on_read=None):
    """Yield (ids, bytes of their text) of each document of a .bin.

    Raises MinglmError if its size is odd, or an id is none of the tokenizer's ordinary tokens.
    """
    lengths, end = tokenizer.byte_lengths(), tokenizer.special.eos
    ordinary = np.zeros(1 << 16, dtype=bool)
    ordinary[: len(lengths)] = lengths[: 1 << 16] > 0
    ordinary[end] = True
    parts, length, done = [], 0, 0  # of the current document; ids read so far
    for chunk in _chunks(path, on_read):
        if not ordinary[chunk].all():
            at = int(np.argmin(ordinary[chunk]))
            what = f"id {chunk[at]} at token {done + at:,} is no token of text"
            vocabulary = f"the tokenizer has ids up to {int(np.flatnonzero(lengths)[-1])}"
            raise MinglmError(f"{path}: {what}; {vocabulary}; --data.tokenizer names the file's own")
        done += len(chunk)
        pieces = np.split(chunk, np.flatnonzero(chunk == end) + 1)
        for i, piece in enumerate(pieces):
            parts.append(piece[piece != end])
            length += len(parts[-1])
            if i < len(pieces) - 1 or length >= MAX_DOCUMENT:
                yield from _whole(parts, lengths, dtype)
                parts, length = [], 0
    yield from _whole(parts, lengths, dtype)


def _whole(parts, lengths, dtype):
    ids = np.concatenate(parts) if parts else np.zeros(0, dtype)
    if len(ids):
        yield ids.astype(dtype), int(lengths[ids].sum())


def _chunks(path, on_read):
    """Yield the ids of a file, CHUNK_IDS at a time."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size % 2:
                raise MinglmError(f"{path}: {size:,} bytes; token ids of two bytes each are accepted")
            file.seek(0)
            while data := file.read(2 * CHUNK_IDS):
                yield np.frombuffer(data, dtype="<u2")
                if on_read:
                    on_read(len(data))
    except OSError as error:
        raise MinglmError(f"{path}: cannot be read: {error.strerror or error}") from error
