r"""Reading text: one reader for corpora and data sets, so that they treat names and bytes in the same way.

compression    by the ending, upper or lower case: .xz, .gz and .zst, with all their streams and nothing after
characters     UTF-8; a byte order mark is dropped at the beginning of every line (`cat` leaves some inside)
line ends      \n, \r\n, \r, and \r\r\n, which results from converting \n to \r\n twice
"""

import codecs
import lzma
import os
import re
import sys
import zlib

from ..errors import MinglmError, need
from . import strict_json

CHUNK_BYTES = 1 << 20  # read at a time
PACKED = (".xz", ".gz", ".zst")  # can be read and written
OTHER_PACKED = (".zstd", ".bz2", ".lzma", ".lz4", ".zip", ".7z")  # are refused, not read as text
MAGIC = {b"\x1f\x8b\x08": "gzip (.gz)", b"\xfd7zXZ\0": "xz (.xz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)"}


def packing_of(path):
    """ ".xz", ".gz", ".zst" or "" by a file's name. Raises MinglmError for an unsupported compression."""
    ending = os.path.splitext(path)[1].lower()
    if ending in OTHER_PACKED:
        raise MinglmError(f"{path}: {ending} is not supported; plain files, {', '.join(PACKED)} are")
    return ending if ending in PACKED else ""


def zstd(path):
    """Python's module for zstd, or its backport before 3.14; raises MinglmError if that is missing."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        need("backports.zstd", path)
        from backports import zstd as module
    return module


# ---- bytes -----------------------------------------------------------------------------------------------


def byte_chunks(path, size=CHUNK_BYTES, on_read=None):
    """Yield the decompressed bytes of a file, at most `size` at a time.

    on_read(n) is called when n more bytes were read from the disk.
    """
    packing = packing_of(path)
    broken = (lzma.LZMAError, zlib.error, EOFError)
    if packing == ".zst":
        broken += (zstd(path).ZstdError,)

    def read():
        data = raw.read(size)
        if on_read:
            on_read(len(data))
        return data

    try:
        with open(path, "rb") as raw:
            if not packing:
                _refuse_packed(path, raw.peek(8))
            yield from unpacked(read, packing, size, path) if packing else iter(read, b"")
    except broken as error:
        raise MinglmError(f"{path}: broken or cut short, so it cannot be read: {error}") from error
    except OSError as error:
        raise MinglmError(f"{path}: cannot be read: {error.strerror or error}") from error


def unpacked(read, packing, size=CHUNK_BYTES, path=""):
    """Yield the bytes of all streams of an .xz, .gz or .zst. read() returns more of the file, b"" at its end.

    Zeros after a stream are padding, in .xz in multiples of four (.xz file format, 2.2). Raises LZMAError,
    zlib.error or EOFError for anything else that is not a complete stream. (lzma.open silently stops there.)
    """
    new, unit = {
        ".xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), 4),
        ".gz": (_Gunzip, 1),
        ".zst": (lambda: zstd(path).ZstdDecompressor(), 1),
    }[packing]
    data = read()
    while True:
        stream = new()
        while not stream.eof:
            if stream.needs_input and not data and not (data := read()):
                raise EOFError("it ends inside a stream")
            if out := stream.decompress(data, size):
                yield out
            data = b""
        data, zeros = _skip_zeros(stream.unused_data, read)
        if zeros % unit:
            raise EOFError(f"{zeros} zeros follow a stream; padding comes in multiples of {unit} bytes")
        if not data:
            return


class _Gunzip:
    """A decompressor of one member of a .gz, with the interface of LZMADecompressor."""

    def __init__(self):
        self._stream, self.needs_input = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), True

    eof = property(lambda self: self._stream.eof)
    unused_data = property(lambda self: self._stream.unused_data)

    def decompress(self, data, size):
        out = self._stream.decompress(self._stream.unconsumed_tail + data, size)
        # subtle: zlib may have more output even without a tail
        self.needs_input = not self._stream.unconsumed_tail and len(out) < size
        return out


def _skip_zeros(data, read):
    """(the data after the zeros with which `data` and the rest of the file begin, the number of zeros)."""
    zeros = 0
    while data := data or read():
        rest = data.lstrip(b"\0")
        zeros += len(data) - len(rest)
        if rest:
            return rest, zeros
        data = b""
    return b"", zeros


def _refuse_packed(path, head):
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            what = f"holds {name}, and its name does not say so"
            raise MinglmError(f"{path}: {what}; plain text is accepted under this name")


# ---- text ------------------------------------------------------------------------------------------------

_MARKS = re.compile("(?m)^\ufeff+")
_MARKS_AFTER_A_LINE_END = re.compile("(?<=\n)\ufeff+")


def text_chunks(path, errors="strict", size=CHUNK_BYTES, on_read=None, advice="UTF-8 is accepted"):
    r"""Yield the text of a file in pieces, with \n as the only line end and without byte order marks.

    errors: "strict" raises MinglmError at invalid UTF-8, "replace" reads it as U+FFFD. advice: ends that
    error's message.
    """
    held, line_begins = "", True  # held: the end of a piece, if it may be half a line end
    for text, is_last in _decoded(path, errors, size, on_read, advice):
        text = held + text
        cut = len(text) if is_last else len(text) - (text.endswith("\r") + text.endswith("\r\r"))
        text, held = one_line_end(text[:cut]), text[cut:]
        text = (_MARKS if line_begins else _MARKS_AFTER_A_LINE_END).sub("", text)
        line_begins = text.endswith("\n") or line_begins and not text
        yield text


def one_line_end(text):
    r"""The text with \n as its only line end.  Example: "a\r\nb\rc" -> "a\nb\nc"."""
    return re.sub("\r?\r?\n|\r", "\n", text) if "\r" in text else text


def _decoded(path, errors, size, on_read, advice):
    """Yield (text, whether it is the last piece) of a file in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    chunks = byte_chunks(path, size, on_read)
    offset, data = 0, True  # offset: the number of bytes passed to the decoder so far
    while data:
        data = next(chunks, b"")
        held = len(decoder.getstate()[0])  # subtle: the bytes of a character that the last chunk cut in two
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at, byte = offset - held + error.start, error.object[error.start]
            raise MinglmError(f"{path}: not UTF-8 at byte {at} (0x{byte:02x}); {advice}") from error
        offset += len(data)
        yield text, not data


def lines(chunks, limit=None):
    r"""Yield the lines of a text without their \n; a line longer than `limit` is split."""
    parts, length = [], 0  # of the current line
    for chunk in chunks:
        *complete, rest = chunk.split("\n")
        for line in complete:
            yield "".join([*parts, line])
            parts, length = [], 0
        parts.append(rest)
        length += len(rest)
        if limit is not None and length > limit:
            yield "".join(parts)
            parts, length = [], 0
    yield "".join(parts)


# ---- lines of JSON ---------------------------------------------------------------------------------------

_NAMES = {
    type(None): "null",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
}


def json_objects(path, chunks):
    """Yield ("PATH:LINE", object) for each line of a text that is not empty; the object of `null` is None.

    Raises MinglmError for a line with anything else.
    """
    for number, line in enumerate(lines(chunks), start=1):
        if not line.strip():
            continue
        where, accepted = f"{path}:{number}", "one JSON object on each line is accepted"
        try:
            value = strict_json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
            reason = getattr(error, "msg", None) or str(error).split(";")[0]  # without "line 1"
            raise MinglmError(f"{where}: not JSON ({reason}); {accepted}") from error
        if value is not None and not isinstance(value, dict):
            raise MinglmError(f"{where}: holds no object but {name_of(value)}; {accepted}")
        yield where, value


def name_of(value):
    """The JSON type of a value.  Example: name_of(3.5) -> "a number"."""
    return "an object" if isinstance(value, dict) else _NAMES[type(value)]
