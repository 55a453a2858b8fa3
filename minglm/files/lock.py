"""Locks, so that only one process writes to a folder.

A lock is that of the operating system on the file .lock in the folder, so it ends with the process, however
that ends: `kill -9` leaves an unlocked file, which does no harm. All paths to a folder share its lock.
"""

import contextlib
import errno
import itertools
import os
from pathlib import Path

from ..errors import MinglmError, note

try:
    import fcntl

    def _take(handle):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
except ImportError:  # Windows
    import msvcrt

    def _take(handle):
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


LOCK = ".lock"
# locked by another process; the last is of Windows
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # the disk does not support locks


@contextlib.contextmanager
def locked(folder):
    """Lock an existing folder during the block; raises MinglmError if another process has locked it."""
    with _one_line(folder):
        handle = _lock(Path(os.path.realpath(folder)) / LOCK, folder)
    try:
        yield Path(folder)
    finally:
        _unlock(Path(os.path.realpath(folder)) / LOCK, handle)


@contextlib.contextmanager
def claimed(folder, name="", runs=Path("runs")):
    """Lock `folder`, which is created if necessary, or (None) a new one, the next free RUNS/NAME-NNN.

    If the folder was created here and is empty when the block ends, it and its new parents are removed.
    """
    with _one_line(runs if folder is None else folder):
        folder, made, handle = _claim(folder, name, runs)
    try:
        yield folder
    finally:
        real = Path(os.path.realpath(folder))
        _unlock(real / LOCK, handle, made)


def contents(folder):
    """The names in a folder, sorted, without the lock."""
    return sorted(name for name in os.listdir(folder) if name != LOCK)


def _claim(folder, name, runs):
    """(folder, the folders that were created, innermost first, handle of the lock)."""
    for attempt in itertools.count():
        chosen = _next(name, runs) if folder is None else Path(folder)
        real = Path(os.path.realpath(chosen))  # also of a link to a folder that does not exist yet
        made = [path for path in (real, *real.parents) if not path.exists()]
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            real.mkdir(exist_ok=folder is not None)
            return chosen, made, _lock(real / LOCK, chosen)
        except FileNotFoundError:  # its last owner has just removed the folder
            if attempt == 100:
                raise
        except FileExistsError:
            if folder is not None or not real.is_dir():
                raise


def _next(name, runs):
    names = [path.name for path in runs.iterdir()] if runs.is_dir() else []
    suffixes = [other.removeprefix(f"{name}-") for other in names if other.startswith(f"{name}-")]
    last = max((int(suffix) for suffix in suffixes if suffix.isdecimal()), default=0)
    return runs / f"{name}-{last + 1:03}"


def _lock(path, folder):
    """The handle of the locked file, or None if the disk does not support locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(handle)
            if _is_at(handle, path):
                os.truncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except OSError as error:
            if error.errno in TAKEN:
                owner = os.read(handle, 20).decode(errors="replace").strip() if os.name == "posix" else ""
                os.close(handle)
                who = f"process {owner}" if owner.isdecimal() else "another process"
                cure = "another folder is accepted, or this one later"
                raise MinglmError(f"{folder}: {who} is writing it; {cure}") from None
            if error.errno in NO_LOCKS:
                os.close(handle)
                note(f"{folder}: this disk has no locks, so see to it that no other process writes there")
                return None
            os.close(handle)
            raise
        os.close(handle)  # its last owner removed the file between our two calls: try again


def _is_at(handle, path):
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False


def _unlock(path, handle, made=()):
    """Remove the file, then those of the folders `made` that are empty, then release the lock."""
    if handle is None or _is_at(handle, path):  # subtle: not if a saved model has replaced the whole folder
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        for folder in made:
            folder.rmdir()
    if handle is not None:
        os.close(handle)


@contextlib.contextmanager
def _one_line(folder):
    try:
        yield
    except OSError as error:
        what = f"cannot be written to: {error.strerror}"
        raise MinglmError(f"{folder}: {what}; a new or empty folder is accepted") from None
