"""Stateless random numbers: the counter-based generator Philox4x32-10.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") scrambles a counter under a key:
block number n of a stream is `philox(n, key)`, whatever was drawn before. So the spans of window 7 in epoch 3
are a function of (seed, 3, 7), and a resumed run needs no random state. Spans and batches use no other random
numbers, so a port of these lines to another language draws the same spans.
"""

import numpy as np

MASK32 = 0xFFFFFFFF


def philox(counter, key):
    """Scramble four 32-bit words under a key of two: ten rounds of multiply, xor and swap.

    counter: 4 words, key: 2 words -> 4 words. Words are Python ints or uint64 arrays (then all at once).

    Example (Random123's known answers): counter 0, key 0 -> 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # 64-bit products
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


class Rng:
    """A stream of random numbers, identified by a seed and up to three 32-bit numbers.

    `Rng(seed, a, b, c)` draws from counters (0, a, b, c), (1, a, b, c), ... under the 64-bit key `seed`.
    """

    def __init__(self, seed, a=0, b=0, c=0):
        seed = int(seed)
        self.key = (seed & MASK32, (seed >> 32) & MASK32)
        self.counter = [0, int(a) & MASK32, int(b) & MASK32, int(c) & MASK32]
        self.words = []

    def word(self):
        """The next 32 random bits, as an int."""
        if not self.words:
            self.words = list(philox(self.counter, self.key))[::-1]
            self.counter[0] += 1
        return self.words.pop()

    def uniform(self):
        """A float in [0, 1): the next word / 2^32."""
        return self.word() / 2**32

    def integer(self, n):
        """A uniform int in 0 .. n-1, 1 <= n <= 2^32; words past the last multiple of n are drawn again."""
        limit = 2**32 - 2**32 % n
        while (word := self.word()) >= limit:
            pass
        return word % n

    def shuffle(self, items):
        """Shuffle a list in place, uniformly (Fisher-Yates from the end), and return it."""
        for i in range(len(items) - 1, 0, -1):
            j = self.integer(i + 1)
            items[i], items[j] = items[j], items[i]
        return items


def permutation(n, seed, a=0, b=0, c=0):
    """A keyed permutation of 0 .. n-1: sort by the first two words of block i. Returns (n,) int64."""
    high, low, _, _ = blocks(n, seed, a, b, c)
    return np.argsort((high << np.uint64(32)) | low, kind="stable")


def uniforms(n, seed, a=0, b=0, c=0):
    """n floats in [0, 1), (n,) float64: number i is the first word of block i, divided by 2^32."""
    return blocks(n, seed, a, b, c)[0] / 2**32


def blocks(n, seed, a=0, b=0, c=0):
    """The Philox blocks of counters (i, a, b, c), i = 0 .. n-1, as four (n,) uint64 arrays of words."""
    i, seed = np.arange(n, dtype=np.uint64), int(seed)
    counter = (i, *(np.full(n, int(word) & MASK32, dtype=np.uint64) for word in (a, b, c)))
    return philox(counter, (seed & MASK32, (seed >> 32) & MASK32))


# The purposes of streams: the last word of the counter.
ORDER, SPANS, HELD_OUT, NOISE, DROPOUT, SAMPLING, CUTS = range(7)


def stream_seed(seed, step, rank, number):
    """A seed for torch that depends on (seed, step, rank, micro-batch) alone: dropout has no state."""
    rng = Rng(seed, number, step, DROPOUT + 256 * rank)
    return rng.word() << 31 | rng.word() >> 1  # 63 bits
