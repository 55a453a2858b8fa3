"""Files to documents: which files are meant, how they are read, and where one document ends."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import MinglmError, note
from ..files.text import json_objects, lines, name_of, one_line_end, packing_of, text_chunks

ENDINGS = (".txt", ".txt.xz", ".txt.gz", ".jsonl", ".jsonl.xz", ".jsonl.gz", ".ndjson", ".json")


DOCUMENTS = ("blank_line", "line", "file")


ERRORS = ("strict", "replace")


CHUNK_BYTES = 1 << 20  # read at a time


MAX_DOCUMENT_CHARS = 1 << 26  # a document that is longer goes on as another one, so that it fits into memory


SEPARATOR = "<|endoftext|>"  # parts documents in many published text files, and is text of none


def find_files(paths) -> list[Path]:
    """The text files that `paths` stand for: files as given, the files below folders in sorted order.

    A file that comes twice is read once; hidden ones in a folder are left out, linked folders are searched. A
    bare .xz or .gz (`wiki.xz`) counts as text, `photos.tar.gz` does not. In a folder, a .json is left out:
    name it to have its lines read. What a folder has besides text is told in a note.
    """
    accepted = f"accepted endings: {' '.join(ENDINGS)}"
    found = []
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        if os.path.isdir(path):
            inside, others = _files_below(path)
            left_out = f"left out: {_few(others)}" if others else ""
            if not inside:
                raise MinglmError(
                    f"{path}: no text file in this folder; {accepted}" + f"; {left_out}" * bool(others)
                )
            if others:
                note(f"{path}: {left_out}")
            found += inside
        elif not os.path.exists(path):
            raise MinglmError(f"{path}: no such file or folder; {accepted}")
        elif _kind(path) is None:
            packing_of(path)  # raises, where that is the reason
            raise MinglmError(f"{path}: not a text file by its name; {accepted}")
        else:
            found.append(path)
    if not found:
        raise MinglmError(f"no text file given; {accepted}")
    first = {}  # by what it really is
    for path in found:
        first.setdefault(path.resolve(), path)
    return list(first.values())


def read_documents(
    path, *, text_key="text", documents="blank_line", errors="strict", on_read=None
) -> Iterator[str]:
    r"""The documents of one file, one after the other.

    A text file is cut at empty lines ("blank_line"), at every line ("line") or nowhere ("file"), and in any
    case at <|endoftext|> and wherever a document would be longer than MAX_DOCUMENT_CHARS. Every line of a
    .jsonl is one document, under `text_key`; null there is an empty one, and so counts as skipped. Byte order
    marks where a line begins are dropped, \r\n and \r become \n. errors: "strict" stops at what is not UTF-8,
    "replace" puts U+FFFD there. on_read(n): n more bytes were read from the disk.

    Example: "a\nb\n\n\nc\n" holds "a\nb" and "c".
    """
    path = Path(path)
    if documents not in DOCUMENTS:
        raise MinglmError(f"documents: {documents!r} given, accepted: {', '.join(DOCUMENTS)}")
    if errors not in ERRORS:
        raise MinglmError(f"errors: {errors!r} given, accepted: {', '.join(ERRORS)}")
    advice = "UTF-8 is accepted, --errors replace goes on"
    chunks = text_chunks(path, errors, CHUNK_BYTES, on_read, advice)
    if _kind(path) in ("jsonl", "json"):
        return _json_documents(path, chunks, text_key, errors)
    return _text_documents(chunks, documents)


def _kind(path):
    """ "text", "jsonl", "json" or None, by the name alone; .json is lines of JSON too, but in a folder often settings."""
    name, ending = path.name.lower(), ""
    if name.endswith((".xz", ".gz")):
        name, ending = name[:-3], name[-3:]
    kinds = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
    bare = bool(ending) and "." not in name
    return "text" if bare else kinds.get(os.path.splitext(name)[1])


def _files_below(folder):
    """(text files, other files) in a folder and those below it, linked ones too; each real folder is searched once."""

    def refuse(error):
        raise MinglmError(f"{error.filename}: cannot be read: {error.strerror}") from error

    files, seen = [], {_identity(folder)}
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [
            name for name in sorted(folders) if not name.startswith(".") and _is_new(Path(where, name), seen)
        ]
        files += [Path(where, name) for name in names if not name.startswith(".")]
    texts = [path for path in sorted(files) if _kind(path) in ("text", "jsonl") and path.is_file()]
    return texts, sorted({*files} - {*texts})


def _identity(path):
    found = _stat(path)
    return found.st_dev, found.st_ino


def _is_new(folder, seen):
    """Whether a folder has not been seen yet; it has then. Links may lead to the same one twice, or in circles."""
    identity = _identity(folder)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def _few(files, most=3):
    """Example: "a.md, b.png, c.json and 5 more"."""
    names = ", ".join(path.name for path in files[:most])
    return names + (f" and {len(files) - most} more" if len(files) > most else "")


def _stat(path):
    try:
        return Path(path).stat()
    except OSError as error:
        raise MinglmError(f"{path}: cannot be read: {error.strerror}") from error


def _separators_alone(chunks):
    """A text with each SEPARATOR on a line of its own, in as many pieces."""
    held = ""  # the end of the last chunk, where it may be the beginning of a separator
    for chunk in chunks:
        text = (held + chunk).replace(SEPARATOR, f"\n{SEPARATOR}\n")
        cut = len(text) - max(n for n in range(len(SEPARATOR)) if text.endswith(SEPARATOR[:n]))
        held = text[cut:]
        yield text[:cut]
    yield held


def _text_documents(chunks, documents):
    found, length = [], 0  # the lines of the document that is not complete yet
    for line in lines(_separators_alone(chunks), MAX_DOCUMENT_CHARS):
        is_separator = line == SEPARATOR
        if not is_separator:
            found.append(line)
            length += len(line) + 1
        ends = is_separator or documents == "line" or documents == "blank_line" and not line.strip()
        if ends or length > MAX_DOCUMENT_CHARS:
            yield from _joined(found)
            found, length = [], 0
    yield from _joined(found)


def _joined(lines):
    """The document that these lines are, without empty lines around it; none where all lines are empty."""
    while lines and not lines[-1].strip():
        lines.pop()
    text = "\n".join(lines).lstrip("\n")
    if text:
        yield text


def _json_documents(path, chunks, text_key, errors):
    for where, record in json_objects(path, chunks):
        if record is None:
            record = {text_key: None}
        if text_key not in record:
            keys = ", ".join(map(repr, record)) or "none"
            raise MinglmError(f"{where}: no key {text_key!r}; the keys there are: {keys}")
        text = "" if record[text_key] is None else record[text_key]
        if not isinstance(text, str):
            raise MinglmError(f"{where}: {text_key!r} holds {name_of(text)}; a string is accepted")
        text = one_line_end(text)
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\ud800": JSON can write half a character, UTF-8 cannot
            if errors == "strict":
                raise MinglmError(
                    f"{where}: {text[error.start]!r} is not valid unicode; --errors replace goes on"
                ) from error
            text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        yield text
