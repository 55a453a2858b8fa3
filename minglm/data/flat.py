"""Values of many samples end to end, and their random streams at once: the tools of drawing.py.

`counts` says how many values of a flat array each sample has.
"""

import numpy as np

from ..rng import MASK32, SPANS, philox


class Redrawn(Exception):
    """A word that the definition would draw again."""


def before(counts):
    """Where each sample begins, and the end: (n + 1,). Example: counts 2, 0, 3 -> 0, 2, 2, 5."""
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    counts.cumsum(out=starts[1:])
    return starts


def within(counts):
    """The number of each value within its sample. Example: counts 2, 0, 3 -> 0, 1, 0, 1, 2."""
    starts = before(counts)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], counts)


def sums(values, counts):
    """The sum of each sample's values, (n,). Example: values 1, 2, 3, counts 2, 0, 1 -> 3, 0, 3."""
    return np.diff(before(values)[before(counts)])


def so_far(values, counts):
    """The sum of the earlier values of the same sample. Example: 1, 2, 3, 4, counts 2, 2 -> 0, 1, 0, 3."""
    total = before(values)
    return total[:-1] - np.repeat(total[before(counts)[:-1]], counts)


class Streams:
    """The random streams of n windows, Rng(seed, window, epoch, SPANS) each, and how far each was read.

    which: (i,) numbers of streams; counts: (i,) how many words each gives. Words must be prepared first.
    """

    def __init__(self, seed, windows, epoch):
        self.key = (int(seed) & MASK32, (int(seed) >> 32) & MASK32)
        self.windows, self.epoch = windows.astype(np.uint64) & MASK32, int(epoch) & MASK32
        self.read = np.zeros(len(windows), dtype=np.int64)  # words

    def prepare(self, counts):
        """Compute the next counts[s] words of each stream."""
        first = self.read // 4
        blocks = (self.read + counts + 3) // 4 - first
        number = (np.repeat(first, blocks) + within(blocks)).astype(np.uint64)
        counter = number, np.repeat(self.windows, blocks), self.epoch, SPANS
        self.words = np.stack(philox(counter, self.key), axis=1).ravel()
        self.start = 4 * (before(blocks)[:-1] - first)  # of word 0, which may not be there

    def peek(self, which, counts):
        """The next counts[i] words of stream which[i], all end to end."""
        return self.words[np.repeat((self.start + self.read)[which], counts) + within(counts)]

    def integers(self, which, counts, n):
        """Rng.integer(n) for each value of n, counts[i] of them from stream which[i]. Raises Redrawn."""
        words = self.peek(which, counts)
        self.read[which] += counts
        n = np.asarray(n, dtype=np.uint64)
        if (words >= 2**32 - 2**32 % n).any():
            raise Redrawn
        return (words % n).astype(np.int64)

    def shuffled(self, which, counts):
        """Rng.shuffle for each sample: an order of all values, in which each stays in its sample.

        Example: counts 2, 3 -> 1, 0, 3, 4, 2 or another of 2! 3! orders.
        """
        steps = np.maximum(counts - 1, 0)
        place = np.repeat(counts, steps) - 1 - within(steps)  # n - 1, ..., 1
        other = self.integers(which, steps, place + 1)
        first = np.repeat(before(counts)[:-1], steps)
        order = list(range(int(counts.sum())))
        for i, j in zip((first + place).tolist(), (first + other).tolist(), strict=True):
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=np.int64)
