"""From files to documents: which files are read, how, and where documents end."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..errors import MinglmError, listed, note
from ..files.text import PACKED, json_objects, lines, name_of, one_line_end, packing_of, text_chunks
from . import hub
from .tables import columns_of, joined, table_rows

ENDINGS = (
    *(".txt", ".txt.xz", ".txt.gz", ".txt.zst", ".jsonl", ".jsonl.xz", ".jsonl.gz", ".jsonl.zst", ".ndjson"),
    *(".json", ".parquet", ".arrow", ".feather", ".bin"),
)
DOCUMENTS = ("blank_line", "line", "file")
ERRORS = ("strict", "replace")
CHUNK_BYTES = 1 << 20  # read at a time
MAX_DOCUMENT_CHARS = 1 << 26  # a longer document is split, so that each part fits into memory
SEPARATOR = "<|endoftext|>"  # separates documents in many published text files; never part of a text


def find_files(paths) -> list[Path]:
    """The text files that `paths` name: files as given, and the files below folders in sorted order.

    A file named twice is read once. Hidden files in a folder are skipped, linked folders are searched. A bare
    .xz, .gz or .zst (`wiki.xz`) counts as text, `photos.tar.gz` does not. A .json (lines of JSON) or a .bin
    (token ids) is read only if it is named; so is one split of a data set that `datasets` saved. A note lists
    the files of a folder that are not text. hf://datasets/OWNER/NAME stands for the files of that data set.
    """
    accepted = f"accepted endings: {' '.join(ENDINGS)}"
    files = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        path = hub.fetched(path, ENDINGS) if hub.is_hub(path) else Path(path)
        if os.path.isdir(path):
            if os.path.exists(path / "dataset_dict.json"):
                splits = listed(sorted(p.name for p in path.iterdir() if p.is_dir()))
                raise MinglmError(f"{path}: a data set in splits ({splits}); the folder of one is accepted")
            inside, others = _files_below(path)
            left_out = f"left out: {listed([other.name for other in others], 3)}"
            if not inside:
                more = f"; {left_out}" if others else ""
                raise MinglmError(f"{path}: no text file in this folder; {accepted}{more}")
            if others:
                note(f"{path}: {left_out}")
            files += inside
        elif not os.path.exists(path):
            raise MinglmError(f"{path}: no such file or folder; {accepted}")
        elif _kind(path) is None:
            packing_of(path)  # raises a better error for an unsupported packing
            raise MinglmError(f"{path}: not a text file by its name; {accepted}")
        else:
            files.append(path)
    if not files:
        raise MinglmError(f"no text file given; {accepted}")
    first = {}  # {the real path: the first path that leads to it}
    for path, real in zip(files, real_paths(files), strict=True):
        first.setdefault(real, path)
    return list(first.values())


def read_documents(
    path, *, text_key="text", documents="blank_line", errors="strict", on_read=None
) -> Iterator[str]:
    r"""Yield the documents of one file.

    A text file is cut at empty lines ("blank_line"), at every line ("line") or nowhere ("file"), and always
    at <|endoftext|> and where a document gets longer than MAX_DOCUMENT_CHARS. Every line of a .jsonl is a
    document, under `text_key`; so is every row of a table. "title,body" joins two keys or columns by a line
    end. null is an empty one, which is skipped. Byte order marks at the beginning of a line are dropped; \r\n
    and \r become \n. errors: "strict" raises MinglmError at invalid UTF-8, "replace" reads it as U+FFFD.
    on_read(n) is called when n more bytes were read from the disk.

    Example: "a\nb\n\n\nc\n" holds "a\nb" and "c".
    """
    kind = _kind(path)
    if documents not in DOCUMENTS:
        raise MinglmError(f"documents: {documents!r} given, accepted: {', '.join(DOCUMENTS)}")
    if errors not in ERRORS:
        raise MinglmError(f"errors: {errors!r} given, accepted: {', '.join(ERRORS)}")
    if kind == "tokens":
        raise MinglmError(
            f"{path}: holds token ids; text is accepted here (pretrain takes both, with --tokenizer)"
        )
    if kind == "table":
        return map(one_line_end, table_rows(path, text_key, on_read))
    advice = "UTF-8 is accepted, --errors replace goes on"
    chunks = text_chunks(path, errors, CHUNK_BYTES, on_read, advice)
    if kind in ("jsonl", "json"):
        return _json_documents(path, chunks, text_key, errors)
    return _text_documents(chunks, documents)


def _kind(path):
    """ "text", "jsonl", "json", "table", "tokens" or None by a file's name.

    .json (as .jsonl) and .bin are read only if they are named.
    """
    name, ending = os.path.basename(path).lower(), ""
    if name.endswith(PACKED):
        name, ending = os.path.splitext(name)
    last = os.path.splitext(name)[1]
    if ending:
        return "text" if "." not in name else KINDS.get(last)
    return KINDS.get(last) or UNPACKED_KINDS.get(last)


KINDS = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
UNPACKED_KINDS = {".parquet": "table", ".arrow": "table", ".feather": "table", ".bin": "tokens"}


def _files_below(folder):
    """(text files, other files) in a folder and its subfolders, linked ones too; each is searched once.

    Folders of a million files are common, so nothing is asked of the disk that the listing has told already.
    """
    texts, others, todo, seen = [], [], [os.fspath(folder)], {_identity(folder)}
    while todo:
        where, files = todo.pop(), []
        try:
            with os.scandir(where) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if _is_new(entry.path, seen):
                            todo.append(entry.path)
                    else:
                        files.append((entry.name, entry.is_file()))
        except OSError as error:
            raise MinglmError(f"{where}: cannot be read: {error.strerror}") from error
        for name, is_file in files:
            path = Path(where, name)
            is_text = is_file and _kind(path) in ("text", "jsonl", "table")
            (texts if is_text else others).append(path)
    return sorted(texts), sorted(others)


def _identity(path):
    stat = _stat(path)
    return stat.st_dev, stat.st_ino


def _is_new(folder, seen):
    """Whether a folder is not in `seen`; adds it. (Links may lead to it twice, or in circles.)"""
    identity = _identity(folder)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def real_paths(paths):
    """Yield the resolved path of each, a str, as Path.resolve does it; of files in one folder in one go."""
    folder, real = None, ""
    for path in map(os.fspath, paths):
        where, name = os.path.split(path)
        if name in ("", "..", ".") or os.path.islink(path):
            yield os.path.realpath(path)
            continue
        if where != folder:
            folder, real = where, os.path.realpath(where)
        yield os.path.join(real, name)


def _stat(path):
    try:
        return os.stat(path)
    except OSError as error:
        raise MinglmError(f"{path}: cannot be read: {error.strerror}") from error


def _separators_alone(chunks):
    """Yield the chunks of a text with each SEPARATOR on a line of its own."""
    held = ""  # the end of the last chunk, if it may be the beginning of a separator
    for chunk in chunks:
        text = (held + chunk).replace(SEPARATOR, f"\n{SEPARATOR}\n")
        cut = len(text)
        if "<" in text[1 - len(SEPARATOR) :]:
            cut -= max(n for n in range(len(SEPARATOR)) if text.endswith(SEPARATOR[:n]))
        held = text[cut:]
        yield text[:cut]
    yield held


def _text_documents(chunks, documents):
    document, length = [], 0  # the lines of the document so far
    for line in lines(_separators_alone(chunks), MAX_DOCUMENT_CHARS):
        is_separator = line == SEPARATOR
        if not is_separator:
            document.append(line)
            length += len(line) + 1
        ends = is_separator or documents == "line" or documents == "blank_line" and not line.strip()
        if ends or length > MAX_DOCUMENT_CHARS:
            yield from _joined(document)
            document, length = [], 0
    yield from _joined(document)


def _joined(lines):
    """Yield the document of these lines, without empty lines around it; nothing if all lines are empty."""
    while lines and not lines[-1].strip():
        lines.pop()
    text = "\n".join(lines).lstrip("\n")
    if text:
        yield text


def _json_documents(path, chunks, text_key, errors):
    for where, record in json_objects(path, chunks):
        values = []
        for key in columns_of(text_key, record) if record is not None else ():
            if key not in record:
                keys = ", ".join(map(repr, record)) or "none"
                raise MinglmError(f"{where}: no key {key!r}; the keys there are: {keys}")
            if not isinstance(record[key], str | None):
                raise MinglmError(f"{where}: {key!r} holds {name_of(record[key])}; a string is accepted")
            values.append(record[key])
        text = one_line_end(joined(values))
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\ud800": JSON can hold half a surrogate pair, UTF-8 cannot
            if errors == "strict":
                problem = f"{text[error.start]!r} is not valid unicode"
                raise MinglmError(f"{where}: {problem}; --errors replace goes on") from error
            text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        yield text
