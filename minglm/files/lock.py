"""A folder that is being written belongs to one process.

The lock is the system's own, on the file .lock in the folder, so it ends with its process, however that ends:
what a `kill -9` leaves is an unlocked file, which troubles nobody. Links and other spellings of a path lead
to the same lock.
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
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # of a lock; the last is Windows'
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # on this disk


@contextlib.contextmanager
def locked(folder):
    """Keep an existing folder for this process until the block ends; raises MinglmError while another one has it."""
    with _one_line(folder):
        handle = _lock(Path(os.path.realpath(folder)) / LOCK, folder)
    try:
        yield Path(folder)
    finally:
        _unlock(Path(os.path.realpath(folder)) / LOCK, handle)


@contextlib.contextmanager
def claimed(folder, name="", runs=Path("runs")):
    """A folder to write, locked: `folder`, made unless it is there, or (None) a new one, the next free RUNS/NAME-NNN.

    If it was made here and is empty when the block ends, it is removed again, and so are the parents that it
    needed.
    """
    with _one_line(runs if folder is None else folder):
        folder, made, handle = _claim(folder, name, runs)
    try:
        yield folder
    finally:
        real = Path(os.path.realpath(folder))
        _unlock(real / LOCK, handle, made)


def contents(folder):
    """The names in a folder except the lock, sorted."""
    return sorted(name for name in os.listdir(folder) if name != LOCK)


def _claim(folder, name, runs):
    """(folder, the folders that had to be made, the innermost first, handle of the lock)."""
    for attempt in itertools.count():
        chosen = _next(name, runs) if folder is None else Path(folder)
        real = Path(os.path.realpath(chosen))  # a link to what is not there yet, too
        made = [path for path in (real, *real.parents) if not path.exists()]
        try:
            real.parent.mkdir(parents=True, exist_ok=True)
            real.mkdir(exist_ok=folder is not None)
            return chosen, made, _lock(real / LOCK, chosen)
        except FileNotFoundError:  # its last owner has just removed it
            if attempt == 100:
                raise
        except FileExistsError:
            if folder is not None or not real.is_dir():
                raise


def _next(name, runs):
    taken = (
        [path.name[len(name) + 1 :] for path in runs.iterdir() if path.name.startswith(f"{name}-")]
        if runs.is_dir()
        else []
    )
    return runs / f"{name}-{max((int(number) for number in taken if number.isdecimal()), default=0) + 1:03}"


def _lock(path, folder):
    """The handle of the locked file, or None where the disk has no locks."""
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
                raise MinglmError(
                    f"{folder}: {who} is writing it; another folder is accepted, or this one later"
                ) from None
            if error.errno in NO_LOCKS:
                os.close(handle)
                note(f"{folder}: this disk has no locks, so see to it that no other process writes there")
                return None
            os.close(handle)
            raise
        os.close(handle)  # its last owner has removed the file between our two calls: once more


def _is_at(handle, path):
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False


def _unlock(path, handle, made=()):
    """Remove the file, then what is empty of the folders `made`, then let go."""
    if handle is None or _is_at(
        handle, path
    ):  # subtle: not where a model has taken the place of the whole folder
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
        raise MinglmError(
            f"{folder}: cannot be written to: {error.strerror}; a new or empty folder is accepted"
        ) from None
