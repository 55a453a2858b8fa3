"""From documents to one memory-mapped file of token ids.

Everything is streamed, so a corpus may be larger than memory: files are read in chunks, chunks are cut into
documents, and batches of documents are encoded and appended. On disk a corpus is a folder of four files:

    ids.bin      every token of every document, end to end: uint16 (uint32 above 65,536 tokens), little-endian
    offsets.npy  (documents + 1,) int64: document i is ids[offsets[i] : offsets[i + 1]]
    hashes.npy   (documents,) uint64: a hash of each document's text (for a .bin, of its ids)
    meta.json    sizes and a fingerprint

The ids are those of the text alone; cls and eos are added when samples are cut (samples.py).
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import uuid
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import MinglmError
from ..files.whole import sync_path
from .documents import _kind, _stat, read_documents, real_paths
from .shards import results
from .token_files import token_documents

MIN_TOKENS = 4  # a shorter document has no room for a span between two visible tokens, and is skipped
SHARD_CHARS = 1 << 24  # the unit of work of a process, and what a kill may lose of each
BATCH_CHARS = 1 << 20  # encoded at a time: the library needs a few hundred bytes per token
FORMAT = 2  # version of the four files; part of the key of a cached corpus
READER = 2  # version of the way text becomes documents; likewise


def embedded_corpus() -> Path:
    """The text that comes with the package, 3.9 MB of simple English; ORIGIN.md names its sources."""
    return Path(__file__).with_name("default.txt.xz")


@dataclass(frozen=True, eq=False)
class Corpus:
    """The token ids of many documents, memory-mapped.

    ids: (n_tokens,) uint16 or uint32; offsets: (n_documents + 1,) int64; hashes: (n_documents,) uint64, of
    their texts; n_bytes: size of the text in UTF-8; skipped: the number of documents left out for having
    fewer than MIN_TOKENS tokens; fingerprint: SHA-256 of ids and offsets.
    """

    ids: np.ndarray
    offsets: np.ndarray
    hashes: np.ndarray
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
    files,
    tokenizer,
    directory,
    *,
    text_key="text",
    documents="blank_line",
    errors="strict",
    processes=1,
    progress=None,
) -> Corpus:
    """Encode the documents of `files` into `directory`, atomically -> Corpus.

    After a kill, the same call continues with what was done; the result is the same, byte for byte, for any
    number of processes.

    progress: show a bar always (True), never (False) or on a terminal only (None).
    """
    from tqdm import tqdm

    directory, files = Path(directory), _list_of(files)
    if os.path.exists(directory):
        raise MinglmError(f"{directory}: exists already; a folder that does not exist is accepted")
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.tmp")
    key = _key(files, text_key, documents, errors, tokenizer)
    shards = directory.with_name(f".{key[:24]}.shards")
    try:
        temporary.mkdir(parents=True)
        total = sum(_stat(path).st_size for path in files)
        hide = None if progress is None else not progress
        how = dict(text_key=text_key, documents=documents, errors=errors)
        with tqdm(
            desc="tokenizing", total=total, unit="B", unit_scale=True, leave=False, disable=hide
        ) as bar:
            meta = _write_corpus(
                temporary, files, tokenizer, dict(how, on_read=bar.update), shards, processes
            )
        if meta["n_tokens"] == 0:
            what = f"no document of {MIN_TOKENS} tokens or more ({meta['skipped']} shorter ones)"
            raise MinglmError(f"{_names(files)}: {what}")
        os.rename(temporary, directory)
        sync_path(directory.parent)
        shutil.rmtree(shards, ignore_errors=True)
    except OSError as error:  # of writing: an error of reading is a MinglmError already
        raise MinglmError(f"{directory}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_corpus(directory)


def open_corpus(directory) -> Corpus:
    """The Corpus that build_corpus wrote. Sizes are checked, checksums are not."""
    directory = Path(directory)
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        ids = np.memmap(directory / "ids.bin", dtype={"<u2": "<u2", "<u4": "<u4"}[meta["dtype"]], mode="r")
        offsets, hashes = (
            np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("offsets", "hashes")
        )
        complete = (
            meta["format"] == FORMAT
            and offsets.shape == (meta["n_documents"] + 1,)
            and offsets.dtype == np.int64
            and hashes.shape == (meta["n_documents"],)
            and hashes.dtype == np.uint64
            and len(ids) == meta["n_tokens"] == offsets[-1]
        )
        corpus = Corpus(
            ids, offsets, hashes, meta["skipped"], meta["n_bytes"], meta["fingerprint"], directory
        )
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
    processes=1,
    progress=None,
) -> Corpus:
    """The Corpus of `files`, rebuilt only if files (size, time), settings or tokenizer have changed.

    Incomplete entries are rebuilt. Old entries stay; the folder may be deleted at any time.
    """
    cache_dir, files = default_cache() if cache_dir is None else Path(cache_dir), _list_of(files)
    entry = cache_dir / _key(files, text_key, documents, errors, tokenizer)
    try:
        return open_corpus(entry)
    except MinglmError:
        shutil.rmtree(entry, ignore_errors=True)
    try:
        return build_corpus(
            files,
            tokenizer,
            entry,
            text_key=text_key,
            documents=documents,
            errors=errors,
            processes=processes,
            progress=progress,
        )
    except MinglmError as error:
        with contextlib.suppress(MinglmError):  # another process may have built the same entry meanwhile
            return open_corpus(entry)
        # an error of the cache, not of a text
        if isinstance(error.__cause__, OSError) and str(error).startswith(str(entry)):
            raise MinglmError(f"{error}; {ANOTHER_CACHE}") from error.__cause__
        raise


def _key(files, text_key, documents, errors, tokenizer):
    """The name of a cached corpus: a hash of all that its contents depend on."""
    stats = map(_stat, files)
    states = [(real, s.st_size, s.st_mtime_ns) for real, s in zip(real_paths(files), stats, strict=True)]
    key = json.dumps([FORMAT, READER, states, text_key, documents, errors, tokenizer.fingerprint])
    return hashlib.sha256(key.encode()).hexdigest()


def default_cache() -> Path:
    """$XDG_CACHE_HOME/minglm, else ~/.cache/minglm."""
    return cache_folder("")


def cache_folder(setting) -> Path:
    """The folder of token files: the setting data.cache, or minglm in the user's cache folder ("")."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(setting).expanduser() if setting else Path(home).expanduser() / "minglm"
    except RuntimeError:  # neither HOME nor an entry in the user database
        raise MinglmError(f"{setting or home}: there is no home folder; {ANOTHER_CACHE}") from None


ANOTHER_CACHE = "--data.cache DIR (or XDG_CACHE_HOME) names another place for token files"


def _list_of(files):
    return [files] if isinstance(files, str | os.PathLike) else list(files)


def _names(files):
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _write_corpus(directory, files, tokenizer, how, shards, processes):
    """Write the three files; returns the contents of meta.json."""
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    offsets, hashes, skipped, n_bytes, digest = array("q", [0]), array("Q"), 0, 0, hashlib.sha256()
    with open(directory / "ids.bin", "wb") as file:
        for ids, text_bytes, text_hash in _encoded(files, tokenizer, dtype, how, shards, processes):
            if len(ids) < MIN_TOKENS:
                skipped += 1
                continue
            file.write(ids.data)
            digest.update(ids.data)
            offsets.append(offsets[-1] + len(ids))
            hashes.append(text_hash)
            n_bytes += text_bytes
    offsets = np.array(offsets, dtype="<i8")
    digest.update(offsets.data)
    np.save(directory / "offsets.npy", offsets)
    np.save(directory / "hashes.npy", np.array(hashes, dtype="<u8"))
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
        sync_path(path)
    return meta


def _encoded(files, tokenizer, dtype, how, shards, processes):
    """Yield (ids, UTF-8 bytes, hash) of each document of files of text or of token ids."""
    for n, (kind, paths) in enumerate(itertools.groupby(files, _kind)):
        if kind == "tokens":
            for path in paths:
                for ids, n_bytes in token_documents(path, tokenizer, dtype, how["on_read"]):
                    yield ids, n_bytes, _hash(ids.astype("<u4").data)
        else:
            texts = itertools.chain.from_iterable(read_documents(path, **how) for path in paths)
            groups = _groups(texts)
            first, second = next(groups, []), next(groups, None)
            if second is None:  # a small corpus is quicker without files of its own
                yield from encode_documents(first, tokenizer, dtype)
                continue
            work = functools.partial(_encode_group, tokenizer, dtype)
            for data in results(itertools.chain([first, second], groups), work, shards / str(n), processes):
                yield from _documents_in(data, dtype)


def _groups(texts):
    """Yield lists of documents of about SHARD_CHARS characters."""
    group, chars = [], 0
    for text in texts:
        group.append(text)
        chars += len(text) + 100
        if chars >= SHARD_CHARS:
            yield group
            group, chars = [], 0
    if group:
        yield group


def _encode_group(tokenizer, dtype, texts):
    """The number of documents, then (tokens, bytes, hash) of each, all uint64, then their ids -> bytes."""
    done = list(encode_documents(texts, tokenizer, dtype))
    facts = [(len(ids), *more) for ids, *more in done]
    head = np.array([len(done), *itertools.chain(*facts)], "<u8")
    return head.tobytes() + b"".join(ids for ids, *_ in done)


def _documents_in(data, dtype):
    """Yield the (ids, bytes, hash) that _encode_group packed."""
    n = int(np.frombuffer(data, "<u8", 1)[0])
    facts = np.frombuffer(data, "<u8", 3 * n, 8).reshape(n, 3)  # (documents, 3)
    ids, start = np.frombuffer(data, dtype, offset=8 + 24 * n), 0
    for length, n_bytes, text_hash in facts.tolist():
        yield ids[start : start + length], n_bytes, text_hash
        start += length


def _hash(data):
    """64 bits that are the same for equal bytes on every machine."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def encode_documents(texts, tokenizer, dtype):
    """Yield (ids, UTF-8 bytes, hash) of a document; short ones are encoded together, long ones in pieces."""
    done, text = [], b""  # the pieces of the current document, encoded and as they are
    for batch in _batches(texts):
        pieces = [piece for piece, _ in batch]
        for ids, (piece, is_last) in zip(tokenizer.encode_batch(pieces), batch, strict=True):
            done.append(np.array(ids, dtype=dtype))
            text += piece.encode()
            if is_last:
                yield np.concatenate(done), len(text), _hash(text)
                done, text = [], b""


def _batches(texts):
    """Yield lists of (piece of a document, whether it is the last one) of about BATCH_CHARS characters."""
    batch, chars = [], 0
    for text in texts:
        cuts = [0, *_cuts(text), len(text)]
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
            batch.append((text[start:stop], stop == len(text)))
            chars += stop - start + 100  # even an empty piece needs memory
            if chars >= BATCH_CHARS:
                yield batch
                batch, chars = [], 0
    yield batch


# For byte-level BPE a new word begins at a space or newline after another character, and at a letter after
# Chinese punctuation. Cutting a text there does not change its ids.
_LAST_WORD_BREAK = re.compile(r"(?s:.+)(?:(?<=\S)(?=[ \n])|(?<=[。，！？；：、])(?=[^\W\d_]))")


def _cuts(text):
    """Where to cut a text into pieces of at most BATCH_CHARS characters: between words if possible.

    Example, with BATCH_CHARS = 8: "to be or not" -> [8], the pieces "to be or" and " not".
    """
    cuts, start = [], 0
    while len(text) - start > BATCH_CHARS:
        match = _LAST_WORD_BREAK.match(text, start, start + BATCH_CHARS + 1)
        start = match.end() if match else start + BATCH_CHARS
        cuts.append(start)
    return cuts
