"""The processes that train together, how they keep their memory, and how they are asked to stop."""

import ctypes
import os
import signal
import sys
from contextlib import contextmanager

import torch
import torch.distributed as dist


class World:
    """The processes that train together: one, or as many as torchrun started."""

    def __init__(self, rank, size):
        self.rank, self.size, self.first = rank, size, rank == 0

    def sum(self, tensor):
        """Add a CPU tensor up over all processes, in place."""
        self._reduce(lambda t: dist.all_reduce(t), tensor)

    def broadcast(self, tensor):
        """Give every process the first one's CPU tensor, in place."""
        self._reduce(lambda t: dist.broadcast(t, 0), tensor)

    def _reduce(self, operation, tensor):
        if self.size > 1:
            device = "cuda" if dist.get_backend() == "nccl" else "cpu"
            moved = tensor.to(device)
            operation(moved)
            tensor.copy_(moved)

    def barrier(self):
        """Wait for all processes."""
        self.sum(torch.zeros(1))

    @contextmanager
    def first_goes_first(self):
        """The first process runs the block, then the others: what it wrote, they find."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


@contextmanager
def processes():
    """The World of this process; joins the group that torchrun has set up, and leaves it at the end."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World(0, 1)
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def keep_memory():
    """Ask glibc to keep the memory that tensors leave behind, for the next step needs as much again; elsewhere a no-op.

    Otherwise large tensors go back to the system at once, and each page of the next ones costs a fault when it is first
    touched: in virtual machines a few microseconds, and there are thousands of them in a step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)


class Interrupt:
    """The first Ctrl-C (or SIGTERM) asks for a checkpoint and an end; the second ends the process at once."""

    def __init__(self, world):
        self.world, self.happened, self.agreed = world, False, False

    def __enter__(self):
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def note(self, number, frame):
        self.happened = True
        for s in self.before:
            signal.signal(s, signal.SIG_DFL)
        if self.world.first:
            print("\nstopping after this step and saving; once more to leave at once", file=sys.stderr, flush=True)

    def agree(self):
        """Ask after a step whether to stop: `agreed` is then the same in all processes."""
        flag = torch.tensor([float(self.happened)])
        self.world.sum(flag)
        self.agreed = bool(flag[0])

    def __exit__(self, *error):
        for s, handler in self.before.items():
            signal.signal(s, handler)
