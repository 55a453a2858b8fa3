"""One way to write a file: it is there completely or not at all."""

import os
from pathlib import Path

from ..errors import MinglmError


def write_whole(path, text):
    """Write a text file under another name and rename it: it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise MinglmError(f"{path}: cannot be written: {error.strerror}") from None


def cut_back(path, keep):
    """Drop the lines of a text file that `keep` refuses (and a half-written last one): a resumed run repeats them."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_whole(path, "".join(line for line in lines if line.endswith("\n") and keep(line)))


def check_writable(option, path):
    """A file that cannot be written is told before minutes of measuring, not after."""
    if path and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir()):
        raise MinglmError(f"{option}: {path} cannot be written; a file in a folder that exists is needed")
