"""Documents in, one memory-mapped file of token ids out.

Everything streams, so a corpus may be larger than memory: bytes are read in chunks, chunks make documents,
batches of documents are encoded and appended. On disk a corpus is a folder of three files:

    ids.bin      every token of every document, end to end: uint16 (uint32 above 65,536 tokens), little-endian
    offsets.npy  (documents + 1,) int64: document i is ids[offsets[i] : offsets[i + 1]]
    meta.json    sizes and a fingerprint

The ids are those of the text alone; cls and eos come when samples are cut (batch.py).
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MinglmError, note
from ..files.text import json_objects, lines, name_of, one_line_end, packing_of, text_chunks

ENDINGS = (".txt", ".txt.xz", ".txt.gz", ".jsonl", ".jsonl.xz", ".jsonl.gz", ".ndjson", ".json")
DOCUMENTS = ("blank_line", "line", "file")
ERRORS = ("strict", "replace")
MIN_TOKENS = 4  # a shorter document has no room for a span between two tokens that stay, and is skipped
CHUNK_BYTES = 1 << 20  # read at a time
BATCH_CHARS = 1 << 20  # encoded at a time: the library holds some hundred bytes a token
MAX_DOCUMENT_CHARS = 1 << 26  # a document that is longer goes on as another one, so that it fits into memory
FORMAT = 1  # of the three files; part of a cached corpus's name
READER = 2  # how text becomes documents, likewise
SEPARATOR = "<|endoftext|>"  # parts documents in many published text files, and is text of none


def embedded_corpus() -> Path:
    """The text that comes with the package: 1.7 MB of English (its origin is told in data/ORIGIN.md)."""
    return Path(__file__).with_name("default.txt.xz")


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


@dataclass(frozen=True, eq=False)
class Corpus:
    """Token ids of many documents, memory-mapped.

    ids: (n_tokens,) uint16 or uint32; offsets: (n_documents + 1,) int64; n_bytes: of the text, as UTF-8;
    skipped: how many documents under MIN_TOKENS tokens are not here; fingerprint: SHA-256 of ids and offsets.
    """

    ids: np.ndarray
    offsets: np.ndarray
    skipped: int
    n_bytes: int
    fingerprint: str
    directory: Path

    @property
    def n_documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        return len(self.ids)

    def document(self, i: int) -> np.ndarray:
        """The tokens of document i, without cls and eos: (its length,), a view of the file."""
        if not 0 <= i < self.n_documents:
            raise IndexError(f"document {i} of {self.n_documents}")
        return self.ids[self.offsets[i] : self.offsets[i + 1]]


def build_corpus(
    files, tokenizer, directory, *, text_key="text", documents="blank_line", errors="strict", progress=None
) -> Corpus:
    """Encode the documents of `files` into `directory`, which appears whole or not at all.

    progress: None shows a bar on a terminal only, True and False always and never.
    """
    from tqdm import tqdm

    directory = Path(directory)
    if os.path.exists(directory):
        raise MinglmError(f"{directory}: exists already; a folder that does not exist is accepted")
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        total = sum(_stat(path).st_size for path in files)
        with tqdm(
            total=total,
            desc="tokenizing",
            unit="B",
            unit_scale=True,
            leave=False,
            disable=None if progress is None else not progress,
        ) as bar:
            texts = (
                text
                for path in files
                for text in read_documents(
                    path, text_key=text_key, documents=documents, errors=errors, on_read=bar.update
                )
            )
            meta = _write_corpus(temporary, texts, tokenizer)
        if meta["n_tokens"] == 0:
            raise MinglmError(
                f"{_names(files)}: no document of {MIN_TOKENS} tokens or more "
                f"({meta['skipped']} shorter ones)"
            )
        os.rename(temporary, directory)
        _sync(directory.parent)
    except OSError as error:  # reading has made its own a MinglmError: this one is about what is written
        raise MinglmError(f"{directory}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_corpus(directory)


def open_corpus(directory) -> Corpus:
    """The corpus that build_corpus wrote there. Sizes are checked, bits are not."""
    directory = Path(directory)
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        ids = np.memmap(directory / "ids.bin", dtype={"<u2": "<u2", "<u4": "<u4"}[meta["dtype"]], mode="r")
        offsets = np.load(directory / "offsets.npy", mmap_mode="r", allow_pickle=False)
        complete = (
            meta["format"] == FORMAT
            and offsets.shape == (meta["n_documents"] + 1,)
            and offsets.dtype == np.int64
            and len(ids) == meta["n_tokens"] == offsets[-1]
        )
        corpus = Corpus(ids, offsets, meta["skipped"], meta["n_bytes"], meta["fingerprint"], directory)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise MinglmError(f"{directory}: not a token file ({reason}); a whole one is accepted") from error
    if not complete:
        raise MinglmError(f"{directory}: token file with other sizes than its meta.json says; cut short?")
    return corpus


def cached_corpus(
    files,
    tokenizer,
    cache_dir=None,
    *,
    text_key="text",
    documents="blank_line",
    errors="strict",
    progress=None,
) -> Corpus:
    """The corpus of `files`: built once, found again while files (size, time), settings and tokenizer agree.

    An entry that is not complete is built anew. Old entries stay; the folder may be deleted at any time.
    """
    cache_dir = default_cache() if cache_dir is None else Path(cache_dir)
    states = [(str(Path(path).resolve()), _stat(path).st_size, _stat(path).st_mtime_ns) for path in files]
    key = json.dumps([FORMAT, READER, states, text_key, documents, errors, tokenizer.fingerprint])
    entry = cache_dir / hashlib.sha256(key.encode()).hexdigest()
    try:
        return open_corpus(entry)
    except MinglmError:
        shutil.rmtree(entry, ignore_errors=True)
    try:
        return build_corpus(
            files, tokenizer, entry, text_key=text_key, documents=documents, errors=errors, progress=progress
        )
    except MinglmError as error:
        with contextlib.suppress(MinglmError):  # another process may have built the same entry meanwhile
            return open_corpus(entry)
        if isinstance(error.__cause__, OSError) and str(error).startswith(str(entry)):  # not of a text
            raise MinglmError(f"{error}; {ANOTHER_CACHE}") from error.__cause__
        raise


def default_cache() -> Path:
    """$XDG_CACHE_HOME/minglm, else ~/.cache/minglm."""
    return cache_folder("")


def cache_folder(setting) -> Path:
    """Where token files are kept: the setting data.cache, or where the system keeps caches ("")."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(setting).expanduser() if setting else Path(home).expanduser() / "minglm"
    except RuntimeError:  # no HOME, and no entry in the list of users
        raise MinglmError(f"{setting or home}: there is no home folder; {ANOTHER_CACHE}") from None


ANOTHER_CACHE = "--data.cache DIR (or XDG_CACHE_HOME) names another place for token files"


# Finding


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


def _names(files):
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


# Reading


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


# Writing


def _write_corpus(directory, texts, tokenizer):
    """Write the three files; returns what meta.json holds."""
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    offsets, skipped, n_bytes, digest = array("q", [0]), 0, 0, hashlib.sha256()
    with open(directory / "ids.bin", "wb") as file:
        for ids, text_bytes in encode_documents(texts, tokenizer, dtype):
            if len(ids) < MIN_TOKENS:
                skipped += 1
                continue
            file.write(ids.data)
            digest.update(ids.data)
            offsets.append(offsets[-1] + len(ids))
            n_bytes += text_bytes
    offsets = np.array(offsets, dtype="<i8")
    digest.update(offsets.data)
    np.save(directory / "offsets.npy", offsets)
    meta = {
        "format": FORMAT,
        "dtype": dtype.str,
        "n_tokens": int(offsets[-1]),
        "n_documents": len(offsets) - 1,
        "n_bytes": n_bytes,
        "skipped": skipped,
        "fingerprint": digest.hexdigest(),
    }
    (directory / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    for path in (*directory.iterdir(), directory):
        _sync(path)
    return meta


def _sync(path):
    """Wait until a file or folder is on the disk: what a rename shows must outlast a power cut."""
    if os.name == "posix" or path.is_file():  # elsewhere a folder cannot be opened
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def encode_documents(texts, tokenizer, dtype):
    """(ids, bytes of UTF-8) of each document: short ones are encoded together, long ones in pieces."""
    done, n_bytes = [], 0  # of the document whose pieces are being encoded
    for batch in _batches(texts):
        pieces = [piece for piece, _ in batch]
        for ids, (piece, is_last) in zip(tokenizer.encode_batch(pieces), batch, strict=True):
            done.append(np.array(ids, dtype=dtype))
            n_bytes += len(piece.encode())
            if is_last:
                yield np.concatenate(done), n_bytes
                done, n_bytes = [], 0


def _batches(texts):
    """Lists of (piece of a document, whether it is the last one), each of about BATCH_CHARS characters."""
    batch, chars = [], 0
    for text in texts:
        cuts = [0, *_cuts(text), len(text)]
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            batch.append((text[start:stop], stop == len(text)))
            chars += stop - start + 100  # a piece without text costs memory too
            if chars >= BATCH_CHARS:
                yield batch
                batch, chars = [], 0
    yield batch


# A blank or newline after something else begins a new word for byte-level BPE, and so does a letter after a
# Chinese mark: a text that is cut there gives the very ids of the whole text.
_LAST_WORD_BREAK = re.compile(r"(?s:.+)(?:(?<=\S)(?=[ \n])|(?<=[。，！？；：、])(?=[^\W\d_]))")


def _cuts(text):
    """Where to cut a text into pieces of at most BATCH_CHARS characters: between words where that can be.

    Example, with BATCH_CHARS = 8: "to be or not" -> [8], the pieces "to be or" and " not".
    """
    cuts, start = [], 0
    while len(text) - start > BATCH_CHARS:
        found = _LAST_WORD_BREAK.match(text, start, start + BATCH_CHARS + 1)
        start = found.end() if found else start + BATCH_CHARS
        cuts.append(start)
    return cuts
