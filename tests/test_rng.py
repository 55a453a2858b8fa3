"""Random numbers: Random123's known answers, uniform outcomes, and no state."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minglm.rng import Rng, permutation, philox

words32 = st.integers(0, 2**32 - 1)


def hexes(text):
    return tuple(int(word, 16) for word in text.split())


# kat_vectors of Random123: philox 4x32, 10 rounds
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def check_even(draws, outcomes):
    """Assert that all outcomes occur, and that chi-square is within 5 standard deviations of its mean."""
    counts = Counter(draws)
    assert set(counts) == set(outcomes)
    expected = sum(counts.values()) / len(counts)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    freedom = len(counts) - 1
    assert chi2 <= freedom + 5 * math.sqrt(2 * freedom)


# The scramble


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter, key, answer):
    assert philox(hexes(counter), hexes(key)) == hexes(answer)


def test_the_known_answers_come_out_of_arrays_too():
    counters = np.array([hexes(counter) for counter, _, _ in KNOWN_ANSWERS], dtype=np.uint64).T
    keys = np.array([hexes(key) for _, key, _ in KNOWN_ANSWERS], dtype=np.uint64).T
    assert np.stack(philox(counters, keys)).T.tolist() == [
        list(hexes(answer)) for _, _, answer in KNOWN_ANSWERS
    ]


@given(
    st.lists(st.tuples(words32, words32, words32, words32), min_size=1, max_size=5),
    st.tuples(words32, words32),
)
def test_ints_and_arrays_scramble_alike(counters, key):
    at_once = philox(tuple(np.array(counters, dtype=np.uint64).T), key)
    assert np.stack(at_once).T.tolist() == [list(philox(counter, key)) for counter in counters]


# A stream


@given(st.integers(0, 2**64 - 1), words32, words32, words32)
def test_a_stream_is_the_blocks_of_its_name_in_order(seed, a, b, c):
    key = (seed % 2**32, seed // 2**32)
    blocks = itertools.chain.from_iterable(philox((n, a, b, c), key) for n in range(3))
    rng = Rng(seed, a, b, c)
    assert [rng.word() for _ in range(12)] == list(blocks)


@given(st.lists(st.booleans(), max_size=30))
def test_a_stream_does_not_know_what_others_drew(turns):
    one, other = Rng(5, 1), Rng(5, 2)
    mixed = [(one if turn else other).word() for turn in turns]
    for rng, mine in ((Rng(5, 1), True), (Rng(5, 2), False)):
        assert [word for word, turn in zip(mixed, turns, strict=True) if turn == mine] == [
            rng.word() for turn in turns if turn == mine
        ]


def test_every_part_of_a_name_makes_another_stream():
    names = [(0,), (1,), (2**32,), (0, 1), (0, 0, 1), (0, 0, 0, 1), (2**63,), (0, 2**31)]
    words = [rng.word() for rng in itertools.starmap(Rng, names) for _ in range(4)]
    assert len(set(words)) == 4 * len(names)


def test_numpy_numbers_name_the_same_streams_as_python_numbers():
    # subtle: a numpy seed must not turn the 64-bit products of philox into numpy's, which overflow
    seed = 2**40 + 5
    words = [Rng(seed, 6, 7, 8).word(), *permutation(9, seed, 6, 7, 8).tolist()]
    name = [np.int64(seed), np.int64(6), np.int32(7), np.uint16(8)]
    assert [Rng(*name).word(), *permutation(9, *name).tolist()] == words


def test_uniform_is_the_next_word_as_a_share_of_all():
    rng, words = Rng(3), Rng(3)
    drawn = [rng.uniform() for _ in range(2000)]
    assert drawn == [words.word() / 2**32 for _ in range(2000)]
    assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1
    check_even([int(10 * u) for u in drawn], range(10))


# integer(n)


def biased_integer(rng, n):
    return rng.word() % n


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 64])
def test_integers_are_all_equally_likely(n):
    rng = Rng(11, n)
    check_even([rng.integer(n) for _ in range(300 * n)], range(n))


@pytest.mark.parametrize("n", [3 * 2**30, 2**31 + 1, 2**32 - 1, 2**32])
def test_large_integers_are_all_equally_likely(n):
    rng = Rng(12, n)
    check_even([3 * rng.integer(n) // n for _ in range(3000)], range(3))


def test_the_remainder_of_a_word_alone_would_be_caught():
    rng, n = Rng(12), 3 * 2**30  # without rejection the lowest quarter would be twice as likely
    with pytest.raises(AssertionError):
        check_even([3 * biased_integer(rng, n) // n for _ in range(3000)], range(3))


@given(st.integers(1, 2**32), st.integers(0, 2**64 - 1))
def test_integers_lie_below_n(n, seed):
    rng = Rng(seed)
    assert all(0 <= rng.integer(n) < n for _ in range(5))


# shuffle


def naive_shuffle(rng, items):
    for i in range(len(items)):
        j = rng.integer(len(items))
        items[i], items[j] = items[j], items[i]
    return items


def orders_of(shuffle, n=4, draws=4800):
    rng = Rng(13)
    return [tuple(shuffle(rng, list(range(n)))) for _ in range(draws)]


def test_shuffle_reaches_every_order_equally_often():
    check_even(orders_of(Rng.shuffle), itertools.permutations(range(4)))


def test_swapping_with_any_place_would_be_caught():
    with pytest.raises(AssertionError):
        check_even(orders_of(naive_shuffle), itertools.permutations(range(4)))


@given(st.lists(st.integers()), st.integers(0, 2**64 - 1))
def test_shuffle_keeps_all_items_and_returns_the_list_it_was_given(items, seed):
    before = Counter(items)
    assert Rng(seed).shuffle(items) is items
    assert Counter(items) == before


# permutation


@given(st.integers(0, 60), st.integers(0, 2**64 - 1), words32, words32, words32)
def test_permutation_sorts_by_the_first_two_words_of_each_block(n, seed, a, b, c):
    order = permutation(n, seed, a, b, c).tolist()
    assert sorted(order) == list(range(n))
    first_two = [philox((i, a, b, c), (seed % 2**32, seed // 2**32))[:2] for i in range(n)]
    assert order == sorted(range(n), key=lambda i: first_two[i])


def test_permutation_differs_by_epoch_and_by_every_part_of_its_name():
    names = [(7,), (8,), (7 + 2**32,), (7, 1), (7, 2), (7, 0, 1), (7, 0, 0, 1)]
    orders = {tuple(permutation(30, *name).tolist()) for name in names}
    assert len(orders) == len(names)


def test_permutation_reaches_every_order_equally_often():
    orders = [tuple(permutation(4, 14, epoch).tolist()) for epoch in range(2400)]
    check_even(orders, itertools.permutations(range(4)))
