r"""Text from files: one reader for corpora and for records, so that a name or a byte means the same in both.

packing       by the name's ending, in any case: .xz and .gz, with all their streams; anything else behind one is an error
characters    UTF-8; a byte order mark is dropped at the beginning of every line, for `cat` leaves some in the middle
line ends     \n, \r\n, \r, and \r\r\n, which programs make of \r\n that turn each \n into \r\n
"""

import codecs
import lzma
import re
import zlib
from pathlib import Path

from ..errors import MinglmError
from . import strict_json

CHUNK_BYTES = 1 << 20  # read at a time
PACKED = (".xz", ".gz")  # what is read and written
OTHER_PACKED = (
    ".zst",
    ".zstd",
    ".bz2",
    ".lzma",
    ".lz4",
    ".zip",
    ".7z",
)  # what is refused, instead of being taken for text
MAGIC = {b"\x1f\x8b\x08": "gzip (.gz)", b"\xfd7zXZ\0": "xz (.xz)", b"\x28\xb5\x2f\xfd": "zstd"}


def packing_of(path):
    """ ".xz", ".gz" or "" by a file's name. Raises MinglmError for a packing that is neither read nor written."""
    ending = Path(path).suffix.lower()
    if ending in OTHER_PACKED:
        raise MinglmError(f"{path}: {ending} is not supported; plain files, {' and '.join(PACKED)} are")
    return ending if ending in PACKED else ""


# ---- bytes -----------------------------------------------------------------------------------------------


def byte_chunks(path, size=CHUNK_BYTES, on_read=None):
    """The bytes of a file, unpacked, at most `size` at a time. on_read(n): n more bytes were read from the disk."""
    packing = packing_of(path)

    def read():
        data = raw.read(size)
        if on_read:
            on_read(len(data))
        return data

    try:
        with open(path, "rb") as raw:
            if not packing:
                _refuse_packed(path, raw.peek(8))
            yield from unpacked(read, packing, size) if packing else iter(read, b"")
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise MinglmError(f"{path}: broken or cut short, so it cannot be read: {error}") from error
    except OSError as error:
        raise MinglmError(f"{path}: cannot be read: {error.strerror or error}") from error


def unpacked(read, packing, size=CHUNK_BYTES):
    """The bytes of every stream of an .xz or .gz, one after the other. read(): more of the file, b"" at its end.

    Zeros behind a stream are padding: of an .xz in fours (.xz file format, 2.2). Raises LZMAError, zlib.error
    or EOFError for anything else that is not a complete stream. (lzma.open ends at the first such byte and
    says nothing.)
    """
    new, unit = {".xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), 4), ".gz": (_Gunzip, 1)}[packing]
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
    """One member of a .gz, used like an LZMADecompressor."""

    def __init__(self):
        self._stream, self.needs_input = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), True

    eof = property(lambda self: self._stream.eof)
    unused_data = property(lambda self: self._stream.unused_data)

    def decompress(self, data, size):
        out = self._stream.decompress(self._stream.unconsumed_tail + data, size)
        self.needs_input = (
            not self._stream.unconsumed_tail and len(out) < size
        )  # subtle: zlib may hold more without a tail
        return out


def _skip_zeros(data, read):
    """(what follows the zeros at the beginning of `data` and of the rest of the file, how many zeros there were)."""
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
            raise MinglmError(
                f"{path}: holds {name}, and its name does not say so; plain text is accepted under this name"
            )


# ---- text ------------------------------------------------------------------------------------------------

_MARKS = re.compile("(?m)^\ufeff+")
_MARKS_AFTER_A_LINE_END = re.compile("(?<=\n)\ufeff+")


def text_chunks(path, errors="strict", size=CHUNK_BYTES, on_read=None, advice="UTF-8 is accepted"):
    r"""The text of a file, piece by piece, with \n as the only line end and no byte order mark where a line begins.

    errors: "strict" raises MinglmError at what is not UTF-8, "replace" puts U+FFFD there. advice: how that
    error ends.
    """
    held, line_begins = "", True  # held: the end of a piece that may be half a line end
    for text, is_last in _decoded(path, errors, size, on_read, advice):
        text = held + text
        cut = len(text) if is_last else len(text) - (text.endswith("\r") + text.endswith("\r\r"))
        text, held = one_line_end(text[:cut]), text[cut:]
        text = (_MARKS if line_begins else _MARKS_AFTER_A_LINE_END).sub("", text)
        line_begins = text.endswith("\n") or line_begins and not text
        yield text


def one_line_end(text):
    r"""The same text with \n as its only line end.  Example: "a\r\nb\rc" -> "a\nb\nc"."""
    return re.sub("\r?\r?\n|\r", "\n", text) if "\r" in text else text


def _decoded(path, errors, size, on_read, advice):
    """(text, whether it is the last piece) of a file in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    chunks, offset, data = (
        byte_chunks(path, size, on_read),
        0,
        True,
    )  # offset: bytes given to the decoder so far
    while data:
        data = next(chunks, b"")
        held = len(decoder.getstate()[0])  # subtle: the start of a character that the last chunk cut off
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at, byte = offset - held + error.start, error.object[error.start]
            raise MinglmError(f"{path}: not UTF-8 at byte {at} (0x{byte:02x}); {advice}") from error
        offset += len(data)
        yield text, not data


def lines(chunks, limit=None):
    r"""The lines of a text without their \n; a line longer than `limit` is cut."""
    parts, length = [], 0  # of the line that is not complete yet
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

_NAMES = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}


def json_objects(path, chunks):
    """("PATH:LINE", the object there) for each line of a text; None where the line is `null`. Empty lines are skipped.

    Raises MinglmError for a line that holds anything else.
    """
    for number, line in enumerate(lines(chunks), start=1):
        if not line.strip():
            continue
        where, accepted = f"{path}:{number}", "one JSON object on each line is accepted"
        try:
            value = strict_json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
            reason = (
                getattr(error, "msg", None) or str(error).split(";")[0]
            )  # without the line number, always 1
            raise MinglmError(f"{where}: not JSON ({reason}); {accepted}") from error
        if value is not None and not isinstance(value, dict):
            raise MinglmError(f"{where}: holds no object but {name_of(value)}; {accepted}")
        yield where, value


def name_of(value):
    """What JSON calls a value. Example: name_of(3.5) -> "a number"."""
    return "null" if value is None else "an object" if isinstance(value, dict) else _NAMES[type(value)]
