"""Rows of a data set: JSON, one object a line; read plain or packed (.xz, .gz), written plain."""

import gzip
import lzma
import re
import sys
import zlib
from pathlib import Path

from . import strict_json
from .errors import MinglmError, reason
from .files.whole import write_whole


def read_rows(path):
    """The objects of a .jsonl, .jsonl.xz or .jsonl.gz -> {"FILE:LINE": object}, in order. Empty lines are skipped.

    Raises MinglmError when the file cannot be read, holds anything else, or nothing.
    """
    rows, accepted = {}, "one JSON object a line is accepted"
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(Path(path).suffix, open)
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    rows[f"{path}:{number}"] = row = strict_json.loads(line.decode("utf-8-sig"))
                    if not isinstance(row, dict):
                        raise MinglmError(f"{path}:{number}: holds no object; {accepted}")
    except MinglmError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, not utf-8, a number of 5,000 digits
        why = getattr(error, "msg", None) or str(error).split(";")[0]
        raise MinglmError(f"{path}:{number}: not JSON ({why}); {accepted}") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise MinglmError(f"{path}: cannot be read: {reason(error)}") from None
    if not rows:
        raise MinglmError(f"{path}: no row in it; {accepted}")
    return rows


def write_rows(out, rows):
    """Objects as JSON lines: into a file, whole or not at all, or (out=None) to stdout."""
    lines = []
    for row in rows:
        text = strict_json.dumps(row, ensure_ascii=False)
        if re.search("[\ud800-\udfff]", text):  # half a character in a column that is not read: only ASCII can tell
            text = strict_json.dumps(row)
        lines.append(text + "\n")
    if out:
        write_whole(Path(out), "".join(lines))
        print(f"wrote       {out}: {len(lines):,} rows")
    else:
        sys.stdout.writelines(lines)
