"""What a process learns from in one step, prepared where it is needed or ahead, in worker processes.

The samples of a step are a function of (seed, step), so any process can prepare any step, and the result is
the same for every number of workers. Steps arrive in order.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from mmap import mmap
from multiprocessing import connection, resource_tracker
from typing import Any

import numpy as np
import torch

from ..batch import Batch, micro_batches, pack
from ..errors import MinglmError
from ..machine import cpu
from ..mask import GLMMask
from ..model_config import useful_flop

TENSORS = ("tokens", "position_ids", "block_position_ids", "target_rows", "targets")  # of a Batch
AHEAD = 2  # steps that each worker keeps ready


@dataclass(frozen=True, eq=False)
class Share:
    """One process's part of a step: its micro-batches, and what is counted in them.

    counts: (targets, text tokens, blanked tokens, samples whose objective fell back to "token", useful FLOP).
    """

    batches: list[Batch]
    counts: tuple

    def __reduce__(self):
        # subtle: torch would send every tensor as a file in shared memory, of which containers have little
        return _received, ([_as_arrays(batch) for batch in self.batches], self.counts)

    def pin_memory(self):
        """The same in pinned memory, from which a GPU copies without making the host wait."""
        pinned = ({name: getattr(batch, name).pin_memory() for name in TENSORS} for batch in self.batches)
        return Share(
            [replace(b, **moved) for b, moved in zip(self.batches, pinned, strict=True)], self.counts
        )


def _as_arrays(batch):
    mask = (batch.mask.len_q, batch.mask.part_a_lens)
    tensors = (*(getattr(batch, name) for name in TENSORS), *mask)
    return [tensor.numpy() for tensor in tensors], batch.text_tokens


def _received(parts, counts):
    batches = []
    for (*arrays, lens, part_a_lens), text_tokens in parts:
        tensors = dict(zip(TENSORS, map(torch.from_numpy, arrays), strict=True))
        mask = GLMMask.packed(lens, part_a_lens)
        batches.append(Batch(**tensors, mask=mask, text_tokens=text_tokens))
    return Share(batches, counts)


@dataclass
class Shares:
    """The Share of every step, by its number: `shares[step]`, for process `rank` of `size`.

    batches: TrainingBatches. model: GLMConfig. most: rows of a micro-batch. Pickled (for a spawned worker),
    it names the files of mapped arrays, such as the corpus, instead of holding them.
    """

    batches: Any
    model: Any
    most: int
    rank: int = 0
    size: int = 1

    def __getitem__(self, step):
        samples = self.batches.examples(step, self.rank, self.size)
        examples = [example for _, example in samples]
        micros = [pack(micro) for micro in micro_batches(examples, self.most)]
        counts = (
            sum(len(e.targets) for e in examples),
            sum(e.text_len for e in examples),
            sum(len(e.targets) - int((e.targets == e.special.eop).sum()) for e in examples),
            sum(objective != e.objective for objective, e in samples),
            sum(sum(useful_flop(self.model, micro)) for micro in micros),
        )
        return Share(micros, counts)

    def __getstate__(self):
        batches, source = copies = copy(self.batches), copy(self.batches.source)
        batches.source, source.ids = source, _named(source.ids)
        named = {name: _named(value) for name, value in vars(source.windows).items()}
        source.windows = type(source.windows), named
        for each in copies:  # what was computed for the current epoch: a worker computes it, too
            each._current = (None,) * len(each._current)
        return vars(self) | dict(batches=batches)

    def __setstate__(self, state):
        vars(self).update(state)
        source = self.batches.source
        source.ids, (kind, named) = _opened(source.ids), source.windows
        source.windows = kind(**{name: _opened(value) for name, value in named.items()})

    def with_windows_in(self, folder):
        """The same, with the list of windows in files: a spawned worker opens them, and copies nothing."""
        batches, source = copy(self.batches), copy(self.batches.source)
        batches.source, mapped = source, {}
        for name, value in vars(source.windows).items():
            if isinstance(value, np.ndarray):
                np.save(path := os.path.join(folder, f"{name}.npy"), value)
                mapped[name] = np.load(path, mmap_mode="r")
        source.windows = replace(source.windows, **mapped)
        return replace(self, batches=batches)


def _named(value):
    """An array that is a whole file as the arguments of np.memmap that open it; anything else as it is."""
    if isinstance(value, np.memmap) and isinstance(value.base, mmap):  # the whole file, not a part of it
        names = ("filename", "dtype", "offset", "shape")
        return dict(mode="r", **{name: getattr(value, name) for name in names})
    return value


def _opened(value):
    return np.memmap(**value) if isinstance(value, dict) else value


def worker_count(asked, device, processes=1):
    """How many workers a training process has: `asked`, or with -1 what suits the device.

    On a CPU none: its cores are busy with the step itself. On a GPU up to four, if there are as many cores.
    processes: the training processes of this machine.
    """
    if asked >= 0:
        return asked
    return 0 if device.type == "cpu" else max(1, min(4, cpu()["cores"] // processes - 1))


def start_method(device):
    """How workers start: "fork", which takes milliseconds, or "spawn", which takes seconds.

    A fork copies the locks of other threads, as they happen to be. CUDA and NCCL have such threads, and so
    has macOS; a spawned process begins with none.
    """
    return "fork" if sys.platform == "linux" and device.type == "cpu" else "spawn"


@contextmanager
def prepared(shares, start, stop, workers, device):
    """An iterator over the Shares of the steps start .. stop - 1, made ahead by `workers` processes.

    0 workers: each step is prepared when it is asked for. An error of a worker is raised here, as it would
    be without. Raises MinglmError if a worker is killed, and OSError if there is no room for temporary files.
    """
    workers = min(workers, stop - start)
    if not workers:
        yield map(shares.__getitem__, range(start, stop))
        return
    steps, folder = None, None
    try:
        if start_method(device) == "spawn":
            folder = tempfile.TemporaryDirectory(prefix="minglm-", ignore_cleanup_errors=True)
            shares = shares.with_windows_in(folder.name)
        steps = _started(shares, range(start, stop), workers, device)
        yield map(_raised, steps)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        what = "train.workers: a process that prepares batches was killed or could not start"
        how = "--resume continues from the last checkpoint; with 0 workers, no such process is needed"
        raise MinglmError(f"{what}; {how}") from error
    finally:
        if steps is not None:
            steps._shutdown_workers()  # as its __del__ does, but now
        if folder is not None:
            folder.cleanup()


def _started(shares, steps, workers, device):
    """The iterator of a DataLoader over `steps`, whose workers run."""
    from torch.utils.data import DataLoader

    method = start_method(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of more workers than cores
        loader = DataLoader(
            _Sending(shares),
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            prefetch_factor=AHEAD,
            pin_memory=device.type == "cuda",
            multiprocessing_context=method,
            worker_init_fn=_end_with_parent,
            generator=torch.Generator(),  # else it draws from the global one
        )
        if method == "spawn" and os.name == "posix":
            resource_tracker.ensure_running()  # subtle: starting it unblocks the signals
        with _undisturbed():
            return iter(loader)


class _Sending:
    """Shares as a worker sends them: an error that the user is told in one line travels as a value."""

    def __init__(self, shares):
        self.shares = shares

    def __getitem__(self, step):
        try:
            return self.shares[step]
        except (MinglmError, OSError) as error:
            return error


def _raised(share):
    if isinstance(share, Exception):
        raise share
    return share


@contextmanager
def _undisturbed():
    """Processes started in the block never get Ctrl-C or SIGTERM; the one that saves ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # they inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(number):
    """End this worker when its parent ends, even if that is killed."""
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (connection.wait([parent]), os._exit(1)), daemon=True).start()
