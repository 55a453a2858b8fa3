"""Work on groups of documents, in several processes if asked, that continues after a kill.

The result of every group is written to a file of its own, with its checksum. Results are yielded in the order
of the groups, so they do not depend on the number of processes, nor on how often the work was interrupted.
"""

import hashlib
import multiprocessing
import os
import threading
import uuid
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path

from ..errors import MinglmError


def results(groups, work, folder, processes=1):
    """Yield work(group) -> bytes of each group; `folder` keeps those that are done."""
    if processes == 1:
        for n, group in enumerate(groups):
            if (done := _read(path := Path(folder, f"{n:06}"))) is None:
                _write(path, done := work(group))
            yield done
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work,))
    waiting = deque()  # (path, the result if it was there, else its future): a few, so that memory is bounded
    try:
        for n, group in enumerate(groups):
            path = Path(folder, f"{n:06}")
            done = _read(path)
            waiting.append((path, done, pool.submit(_work, group, path) if done is None else None))
            if len(waiting) > 2 * processes:
                yield _settled(*waiting.popleft())
        while waiting:
            yield _settled(*waiting.popleft())
    except BrokenProcessPool as error:
        raise MinglmError("data.processes: a process was killed; the same command continues") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _settled(path, done, future):
    return done if future is None else future.result()


def _begin(work):
    """Set up a worker: one thread, and an end when its parent ends (a killed one cannot tell it)."""
    global _the_work
    _the_work = work
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (connection.wait([parent]), os._exit(1)), daemon=True).start()


def _work(group, path):
    _write(path, done := _the_work(group))
    return done


def _write(path, data):
    """Write a result and its SHA-256, atomically, if there is room: only a continuation needs it."""
    part = path.with_name(f".{uuid.uuid4().hex[:12]}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(data).digest() + data)
        os.replace(part, path)


def _read(path):
    """A result, or None if it is missing or incomplete."""
    with suppress(OSError):
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() == data[:32]:
            return data[32:]
    return None
