"""Records of a data set: one JSON object per line, plain or compressed (.xz, .gz)."""

import re
import reprlib
import sys
from contextlib import contextmanager

from ..errors import MinglmError, note
from . import strict_json
from .text import json_objects, text_chunks
from .whole import beside, write_whole


def read_rows(path):
    """{"FILE:LINE": object} of a .jsonl, plain or compressed, in order. Empty lines and null are skipped.

    Raises MinglmError when the file cannot be read, contains anything else, or no record.
    """
    lines = dict(json_objects(path, text_chunks(path)))
    rows = {where: row for where, row in lines.items() if row is not None}
    if not rows:
        raise MinglmError(f"{path}: no row in it; one JSON object on each line is accepted")
    if len(rows) < len(lines):
        note(f"{path}: {len(lines) - len(rows):,} of {len(lines):,} lines are null and were skipped")
    return rows


def write_rows(out, rows):
    """Write objects as lines of JSON: to a file, atomically (compressed by its name), or to stdout."""
    lines = []
    for row in rows:
        text = strict_json.dumps(row, ensure_ascii=False)
        if re.search("[\ud800-\udfff]", text):  # half a surrogate pair, which only an escape can represent
            text = strict_json.dumps(row)
        lines.append(text + "\n")
    if out:
        write_whole(out, "".join(lines))
        print(f"wrote       {out}: {len(lines):,} rows", file=beside(out))
    else:
        sys.stdout.writelines(lines)


@contextmanager
def told_where(where):
    """Errors in the block begin with `where`, the file and line of a record."""
    try:
        yield
    except MinglmError as error:
        raise MinglmError(f"{where}: {error}") from None


def text_in(row, column):
    """The text in a column of a record."""
    if column not in row:
        names = ", ".join(map(repr, list(row)[:12])) or "none"
        raise MinglmError(f"no column {column!r}; the columns there are: {names[:200]}")
    if not isinstance(row[column], str):
        raise MinglmError(f"{column}: {reprlib.repr(row[column])} is not accepted; a text is")
    return row[column]
