"""One way to write: a file is there completely or not at all, and it is the one that was named.

Links are followed. What is no regular file (a pipe, a device) is written straight: a rename would put a file
in its place. A name that ends in .gz or .xz is written packed.
"""

import contextlib
import errno
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import sys
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import MinglmError
from .text import packing_of


def write_whole(path, content):
    """Write text (as UTF-8) or bytes. Raises MinglmError when it cannot be done; an earlier file is then still there."""
    data = packed(path, content.encode("utf-8") if isinstance(content, str) else content)
    try:
        if is_stdout(path):
            _write_to_stdout(data)
        elif _is_special(path):
            _write_straight(path, data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        hint = "; a file in a folder that exists is needed" if error.errno in NO_SUCH_PLACE else ""
        raise MinglmError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error


MANIFEST = "manifest.json"  # of a folder: sizes and SHA-256 sums of its files
NO_SUCH_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def packed(path, data):
    """The bytes that a file of this name holds; the same data gives the same bytes."""
    pack = {".gz": lambda data: gzip.compress(data, mtime=0), ".xz": lzma.compress}.get(packing_of(path))
    return pack(data) if pack else data


def check_writable(option, path):
    """Raise MinglmError for an output that cannot be written, before the work is done and not after."""
    if path and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir() and not _is_special(path)):
        raise MinglmError(f"{option}: {path} cannot be written; a file in a folder that exists is needed")
    if path:
        packing_of(path)


def is_stdout(path):
    """Whether a path leads to this process's standard output, as /dev/stdout does, wherever that goes."""
    with contextlib.suppress(
        OSError, ValueError, AttributeError, TypeError
    ):  # closed, or without a descriptor; no path
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    return False


def beside(path):
    """The stream for what is to be said about an output: stdout, unless the output itself goes there."""
    return sys.stderr if is_stdout(path) else sys.stdout


def cut_back(path, keep):
    """Drop the lines of a text file that `keep` refuses or cannot read, and a half-written last one."""
    if path.exists():
        lines = path.read_bytes().split(b"\n")[:-1]  # subtle: str.splitlines would also cut at U+2028
        write_whole(path, b"".join(line + b"\n" for line in lines if _keeps(keep, line)))


def _keeps(keep, line):
    try:
        return keep(line.decode("utf-8"))
    except (ValueError, LookupError, TypeError):
        return False


def _is_special(path):
    """Whether a path leads to something that exists and cannot be replaced by a rename."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    real = os.path.realpath(path)  # of /dev/fd/3 it may be a name that leads nowhere
    return not stat.S_ISREG(there.st_mode) or not os.path.exists(real) or not os.path.samefile(path, real)


def _write_to_stdout(data):
    sys.stdout.flush()
    with open(os.dup(sys.stdout.fileno()), "wb") as file:
        file.write(data)


def _write_straight(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _replace(path, data):
    """Write beside the file under another name, then rename: readers see the old file or the new one."""
    if path.is_symlink():  # subtle: of links in a circle, realpath gives one of them back
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        _take_over_mode(path, part)
        os.replace(part, path)
    except OSError as error:
        # a file that is mounted on its own, or one of ours in a folder of somebody else's
        if error.errno not in (errno.EBUSY, errno.EACCES, errno.EPERM) or not os.path.isfile(path):
            raise
        _write_straight(path, data)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _take_over_mode(path, part):
    """The new file belongs to the same user and has the same rights as the one that it replaces."""
    with contextlib.suppress(OSError):
        before = os.stat(path)
        shutil.copymode(path, part)
        if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(part, before.st_uid, before.st_gid)


def sync(handle):
    """Wait until a file has reached the disk; some disks cannot tell."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


# ---- folders ---------------------------------------------------------------------------------------------


@contextmanager
def folder_whole(directory):
    """Gives a temporary folder to fill, which becomes `directory`, with its manifest; or nothing changes.

    A folder cannot be renamed onto a full one, so an earlier one steps aside as .old-NAME for a moment.
    Readers look there too (`settled`), and the next writer tidies up (`recover`).
    """
    temporary, old = aside(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    recover(directory)
    try:
        temporary.mkdir()
        yield temporary
        manifest = {}
        for path in sorted(temporary.iterdir()):
            sync_path(path)
            manifest[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        sync_path(temporary / MANIFEST)
        sync_path(temporary)
        if directory.exists():
            os.rename(directory, old)
        os.rename(temporary, directory)
        sync_path(directory.parent)
    finally:
        recover(directory)


def aside(directory):
    return directory.with_name(f".tmp-{directory.name}"), directory.with_name(f".old-{directory.name}")


def settled(directory):
    """Where to read `directory`: itself, or .old-NAME after a kill in the middle of a replacement."""
    old = aside(Path(os.path.realpath(directory)))[1]
    return old if not directory.exists() and old.is_dir() else directory


def recover(directory):
    """After a kill or an error: drop what is half written, put back (or drop) what stepped aside."""
    temporary, old = aside(directory)
    remove(temporary)
    if old.exists() and not directory.exists():
        os.rename(old, directory)
    elif old.exists():
        os.rename(old, temporary)  # subtle: as long as it is called .old-NAME it must be complete
        remove(temporary)


def remove(path):
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def sync_path(path):
    """Wait until a file, or the names in a folder, have reached the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot sync a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        sync(handle)
    finally:
        os.close(handle)


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def one_line(what, hint=lambda: ""):
    """Turns a failing disk into a MinglmError: what could not be done, why, and what is still there."""
    try:
        yield
    except MinglmError:
        raise
    except Exception as error:
        if reason := disk_error(error):
            raise MinglmError(f"{what}: {reason}{hint()}") from error
        raise


def disk_error(error):
    """The system's own words, or None. torch buries the OSError under its own, Rust libraries in a text."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            return os.strerror(int(number[1]))
        error = error.__cause__ or error.__context__
    return None
