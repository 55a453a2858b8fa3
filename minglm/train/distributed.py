"""Distributed training: the process group, the device, malloc settings, and stopping on Ctrl-C."""

import ctypes
import os
import signal
import threading
from contextlib import contextmanager

import torch
import torch.distributed as dist

from ..errors import MinglmError
from ..streams import say


class World:
    """The processes that train together: one, or as many as torchrun started."""

    def __init__(self, rank, size):
        self.rank, self.size, self.first = rank, size, rank == 0

    def sum(self, tensor):
        """Sum a CPU tensor over all processes, in place."""
        self._reduce(lambda t: dist.all_reduce(t), tensor)

    def broadcast(self, tensor):
        """Copy the first process's CPU tensor to all processes, in place."""
        self._reduce(lambda t: dist.broadcast(t, 0), tensor)

    def _reduce(self, operation, tensor):
        if self.size > 1:
            operation(tensor)

    def totals(self, numbers):
        """The sums of a few numbers over all processes, as a list."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64)
        self.sum(tensor)
        return tensor.tolist()

    def barrier(self):
        """Wait for all processes."""
        self.sum(torch.zeros(1))

    @contextmanager
    def first_goes_first(self):
        """The first process runs the block, then the others, which find what it wrote."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


@contextmanager
def processes():
    """The World of this process; it joins torchrun's process group, and leaves it at the end.

    Raises MinglmError when WORLD_SIZE is above 1 and torchrun's other variables are not all set.
    """
    size = _number("WORLD_SIZE", 1, least=1)
    if size == 1:  # whatever else the environment holds
        yield World(0, 1)
        return
    rank, cuda = _number("RANK", None), torch.cuda.is_available()
    _number("MASTER_PORT", None)
    if not os.environ.get("MASTER_ADDR") or rank >= size:
        wrong = f"RANK is {rank}" if rank >= size else "MASTER_ADDR is not set"
        raise MinglmError(f"{wrong}, and WORLD_SIZE is {size}; {TORCHRUN}")
    if cuda:
        torch.cuda.set_device(_number("LOCAL_RANK", None))
    try:
        # subtle: what the hosts tell each other goes by gloo, so that it does not wait for the GPUs
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise MinglmError(f"the {size} processes do not find each other: {reason}; {TORCHRUN}") from error
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


TORCHRUN = "start them with torchrun, or unset WORLD_SIZE to train with one process"


def local_rank():
    """The number of this process among those of this machine, and so of its GPU."""
    return 0 if _number("WORLD_SIZE", 1, least=1) == 1 else _number("LOCAL_RANK", None)


def local_size():
    """The number of training processes on this machine."""
    return 1 if _number("WORLD_SIZE", 1, least=1) == 1 else _number("LOCAL_WORLD_SIZE", 1, least=1)


def is_first():
    """Whether this process is the one that prints and writes."""
    return _number("WORLD_SIZE", 1, least=1) == 1 or _number("RANK", None) == 0


def _number(name, default, least=0):
    """A variable of torchrun as a whole number; an empty one counts as not set."""
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    if not text:
        raise MinglmError(f"{name} is not set, and WORLD_SIZE is above 1: {TORCHRUN}")
    if not text.isdecimal() or int(text) < least:
        what = f"is {text[:40]!r}; a whole number >= {least} is accepted"
        raise MinglmError(f"{name} {what}: {TORCHRUN}")
    return int(text)


def keep_memory():
    """Make glibc keep the memory of freed tensors, because the next step needs as much; elsewhere a no-op.

    Otherwise large tensors are returned to the system at once, and every page of the next ones costs a page
    fault: a few microseconds on virtual machines, thousands of times per step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)


class Interrupt:
    """The first Ctrl-C (or SIGTERM) asks to save a checkpoint and stop; the second kills the process."""

    def __init__(self, world):
        self.world, self.happened, self.agreed = world, False, False

    def __enter__(self):
        # Python accepts handlers only from the main thread; in other threads, Ctrl-C is not ours to handle
        main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if main else ()
        self.before = {s: signal.signal(s, self.note) for s in signals}
        return self

    def note(self, number, frame):
        self.happened = True
        for s in self.before:
            signal.signal(s, signal.SIG_DFL)
        if self.world.first:
            say("\nstopping after this step and saving; a second Ctrl-C quits immediately")

    def agree(self):
        """Set `agreed`, after each step: whether any process was asked to stop; the same in all processes."""
        self.agreed = any(self.world.totals([self.happened]))

    def __exit__(self, *error):
        for s, handler in self.before.items():  # None: it was not set from Python
            signal.signal(s, signal.SIG_DFL if handler is None else handler)


def choose_device(name):
    """The torch.device a process trains on; "auto" is its own GPU if there is one, else the CPU."""
    if name == "auto":
        name = f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        what = f"{name}: PyTorch {torch.__version__} sees no GPU here"
        raise MinglmError(f"train.device: {what}; cpu or auto is accepted")
    return torch.device(name)
