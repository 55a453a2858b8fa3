"""Rows of a data set: JSON, one object a line; plain or packed (.xz, .gz)."""

import re
import reprlib
import sys
from contextlib import contextmanager

from ..errors import MinglmError, note
from . import strict_json
from .text import json_objects, text_chunks
from .whole import beside, write_whole


def read_rows(path):
    """The objects of a .jsonl, plain or packed -> {"FILE:LINE": object}, in order. Lines that are empty or null are skipped.

    Raises MinglmError when the file cannot be read, holds anything else, or nothing.
    """
    found = dict(json_objects(path, text_chunks(path)))
    rows = {where: row for where, row in found.items() if row is not None}
    if not rows:
        raise MinglmError(f"{path}: no row in it; one JSON object on each line is accepted")
    if len(rows) < len(found):
        note(f"{path}: {len(found) - len(rows):,} of {len(found):,} lines are null and were skipped")
    return rows


def write_rows(out, rows):
    """Objects as JSON lines: written to a file atomically (packed, if its name says so), or (out=None) to stdout."""
    lines = []
    for row in rows:
        text = strict_json.dumps(row, ensure_ascii=False)
        if re.search(
            "[\ud800-\udfff]", text
        ):  # half a character in a column that is not read: only ASCII can tell
            text = strict_json.dumps(row)
        lines.append(text + "\n")
    if out:
        write_whole(out, "".join(lines))
        print(f"wrote       {out}: {len(lines):,} rows", file=beside(out))
    else:
        sys.stdout.writelines(lines)


@contextmanager
def told_where(where):
    """Errors inside it begin with where the row stands."""
    try:
        yield
    except MinglmError as error:
        raise MinglmError(f"{where}: {error}") from None


def text_in(row, column):
    """The text of a row's column."""
    if column not in row:
        names = ", ".join(map(repr, list(row)[:12])) or "none"
        raise MinglmError(f"no column {column!r}; the columns there are: {names[:200]}")
    if not isinstance(row[column], str):
        raise MinglmError(f"{column}: {reprlib.repr(row[column])} is not accepted; a text is")
    return row[column]
