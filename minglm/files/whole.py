"""Writing files and folders atomically.

Links are followed. A pipe or a device is written directly, because a rename would replace it by a file. A
file whose name ends in .gz, .xz or .zst is compressed.
"""

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
from .text import packing_of, zstd


def write_whole(path, content):
    """Write text (as UTF-8) or bytes atomically. On failure it raises MinglmError, and an old file stays."""
    data = packed(path, content.encode("utf-8") if isinstance(content, str) else content)
    try:
        if (handle := _descriptor(path)) is not None:
            _write_to(handle, data)
        elif _is_special(path):
            _write_straight(path, data)
        else:
            _replace(Path(os.path.realpath(path)), data)
    except OSError as error:
        hint = "; a file in a folder that exists is needed" if error.errno in NO_SUCH_PLACE else ""
        raise MinglmError(f"{path}: cannot be written: {error.strerror or error}{hint}") from error


MANIFEST = "manifest.json"  # the sizes and SHA-256 sums of the files in a folder
NO_SUCH_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)


def packed(path, data):
    """`data`, compressed if the name of `path` says so; deterministic."""
    pack = {
        ".gz": lambda data: gzip.compress(data, mtime=0),
        ".xz": lzma.compress,
        ".zst": lambda data: zstd(path).compress(data),
    }.get(packing_of(path))
    return pack(data) if pack else data


def check_writable(option, path):
    """Raise MinglmError for an output that cannot be written. Call this before the work, not after it."""
    if path and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir() and not _is_special(path)):
        raise MinglmError(f"{option}: {path} cannot be written; a file in a folder that exists is needed")
    if path and packing_of(path) == ".zst":
        zstd(path)


def is_stdout(path):
    """Whether a path leads to this process's standard output, as /dev/stdout does."""
    return _leads_to(path, sys.stdout)


def _leads_to(path, stream):
    # the errors: the stream is closed or has no descriptor, or there is no path
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
    return False


def beside(path):
    """The stream for messages about an output: stdout, unless the output itself goes there."""
    return sys.stderr if is_stdout(path) else sys.stdout


def cut_back(path, keep):
    """Remove from a text file the lines that `keep` rejects or fails on, and an incomplete last line."""
    if path.exists():
        lines = path.read_bytes().split(b"\n")[:-1]  # subtle: str.splitlines would also cut at U+2028
        write_whole(path, b"".join(line + b"\n" for line in lines if _keeps(keep, line)))


def _keeps(keep, line):
    try:
        return keep(line.decode("utf-8"))
    except (ValueError, LookupError, TypeError):
        return False


def _is_special(path):
    """Whether a path leads to something that cannot be replaced by a rename, such as a pipe or a device."""
    try:
        there = os.stat(path)
    except OSError:
        return False
    real = os.path.realpath(path)  # subtle: that of /dev/fd/3 may lead nowhere
    return not stat.S_ISREG(there.st_mode) or not os.path.exists(real) or not os.path.samefile(path, real)


def _descriptor(path):
    """The open descriptor that a path names, or None.  Examples: /dev/stderr -> 2, /dev/fd/3 -> 3.

    It may lead to a file, even one that grows (2>> log): a rename would replace what is already in it.
    """
    for stream in (sys.stdout, sys.stderr):
        if _leads_to(path, stream):
            stream.flush()
            return stream.fileno()
    ours, path = ("/dev/fd", f"/proc/{os.getpid()}/fd"), os.path.abspath(path)
    for _ in range(40):  # links that the system would follow, too
        folder, name = os.path.split(path)
        if os.path.realpath(folder) in ours and name.isdecimal():
            return int(name)
        if not os.path.islink(path):
            return None
        path = os.path.join(os.path.realpath(folder), os.readlink(path))
    return None


def _write_to(handle, data):
    with open(os.dup(handle), "wb") as file:
        file.write(data)


def _write_straight(path, data):
    with open(path, "wb") as file:
        file.write(data)


def _replace(path, data):
    """Write under another name, then rename: readers see either the old file or the new one."""
    if path.is_symlink():  # subtle: for links in a circle, realpath returns one of them
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
        # a file that is a mount point, or our file in a folder where we may not create any
        if error.errno not in (errno.EBUSY, errno.EACCES, errno.EPERM) or not os.path.isfile(path):
            raise
        _write_straight(path, data)
    finally:
        with suppress(OSError):
            part.unlink()


def _take_over_mode(path, part):
    """Give the new file the owner and the permissions of the one that it replaces."""
    with suppress(OSError):
        before = os.stat(path)
        shutil.copymode(path, part)
        if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(part, before.st_uid, before.st_gid)


def sync(handle):
    """Wait until a file is on the disk, if the file system supports that."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


# ---- folders ---------------------------------------------------------------------------------------------


@contextmanager
def folder_whole(directory):
    """Yield a temporary folder to fill, which then atomically becomes `directory`, with a manifest.

    A folder cannot replace a folder that is not empty, so an existing one is called .old-NAME for a moment.
    Readers look there, too (`settled`), and the next writer cleans up (`recover`).
    """
    temporary, old = aside(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    recover(directory)
    try:
        temporary.mkdir()
        yield temporary
        manifest = {}
        for path in sorted(temporary.rglob("*")):
            sync_path(path)
            if path.is_dir():
                continue
            name = path.relative_to(temporary).as_posix()
            manifest[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
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
    """The names of a folder while it is written, and while it is replaced."""
    return directory.with_name(f".tmp-{directory.name}"), directory.with_name(f".old-{directory.name}")


def settled(directory):
    """The folder to read for `directory`: itself, or .old-NAME after a kill during a replacement."""
    old = aside(Path(os.path.realpath(directory)))[1]
    return old if not directory.exists() and old.is_dir() else directory


def recover(directory):
    """After a kill or an error, remove an incomplete folder, and restore (or remove) an .old-NAME."""
    temporary, old = aside(directory)
    remove(temporary)
    if old.exists() and not directory.exists():
        os.rename(old, directory)
    elif old.exists():
        os.rename(old, temporary)  # subtle: a folder called .old-NAME must be complete
        remove(temporary)


def remove(path):
    """Remove a file or folder if possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def sync_path(path):
    """Wait until a file, or the list of names in a folder, is on the disk."""
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
    """Turn disk errors in the block into a MinglmError: `what` failed, why, and what hint() adds."""
    try:
        yield
    except MinglmError:
        raise
    except Exception as error:
        if reason := disk_error(error):
            raise MinglmError(f"{what}: {reason}{hint()}") from error
        raise


def disk_error(error):
    """The system's message, or None. torch wraps the OSError in its own; Rust libraries quote its number."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            return os.strerror(int(number[1]))
        error = error.__cause__ or error.__context__
    return None
