"""Drawing many samples at once: the arrays of the definition, bit for bit, whatever the settings."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minglm.rng
from minglm import MinglmError
from minglm.data import drawing, flat
from minglm.data.drawing import draw
from minglm.data.flat import before, so_far, sums, within
from minglm.data.samples import SampleSource, TrainingBatches, cut_as, hold_out
from minglm.families import FAMILIES
from minglm.infilling import Example, SpecialTokens
from minglm.rng import MASK32, SPANS, Rng
from minglm.train.config import DataConfig

VOCABULARY = 60
SENTENCE_ENDS = (np.arange(VOCABULARY) % 13 == 0) & (np.arange(VOCABULARY) >= 24)
OPENERS = np.where(np.arange(VOCABULARY) < 24, np.arange(VOCABULARY), np.arange(VOCABULARY) // 2 + 24)
SHARED = SpecialTokens(mask=4, smask=4, gmask=4)  # an original vocabulary with a single mask token


def source_of(lengths, max_positions=64, seed=0, family="glm", openers=None, special=None, **dials):
    """A SampleSource of random documents of these lengths."""
    offsets, data = np.cumsum([0, *lengths]), DataConfig(**dials)
    ids = np.random.default_rng(seed % 2**32).integers(24, VOCABULARY, offsets[-1], dtype=np.uint16)
    windows = cut_as(data, ids, offsets, SENTENCE_ENDS, max_positions)
    how = dict(special=special or SpecialTokens(), seed=seed, family=family, openers=openers)
    return SampleSource(ids, windows, data, SENTENCE_ENDS, **how)


@st.composite
def sources(draw):
    """SampleSources of all kinds."""
    one_of, share = st.sampled_from, st.floats(0.01, 1.0)
    low, high = sorted([draw(share), draw(share)])
    longest = draw(one_of([1, 2, 3, 10, 40]))
    token, sentence, document = draw(
        one_of([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.3, 0.2), (0.2, 1, 0.1)])
    )
    return source_of(
        draw(st.lists(st.integers(4, 20) | st.integers(4, 300), min_size=1, max_size=8)),
        draw(one_of([4, 5, 8, 16, 64, 128])),
        draw(one_of([0, 1, 2**63 - 1]) | st.integers(0, 2**63 - 1)),
        draw(one_of(["glm", *FAMILIES])),
        draw(one_of([None, OPENERS])),
        draw(one_of([None, SHARED])),
        samples=draw(one_of(["windows", "sentences"])),
        spread=draw(one_of([0.0, 0.7, 2.0])),
        mask_ratio=draw(one_of([0.05, 0.15, 0.3, 0.9, 0.99])),
        mean_span_length=min(longest, draw(one_of([0.3, 1.5, 3.0, 10.0]))),
        max_span_length=longest,
        blanks=draw(one_of(["budget", "drawn"])),
        token=float(token),
        sentence=float(sentence),
        document=float(document),
        document_min_ratio=low,
        document_max_ratio=high,
    )


def difference(drawn, defined):
    """The first difference of two lists of (objective, Example), as a text, or None."""
    for n, ((one, a), (other, b)) in enumerate(zip(drawn, defined, strict=True)):
        if one != other:
            return f"sample {n}: the objective drawn is {one}, not {other}"
        for name in (field.name for field in fields(Example)):
            x, y = getattr(a, name), getattr(b, name)
            kinds = [getattr(value, "dtype", type(value)) for value in (x, y)]
            if kinds[0] != kinds[1] or not np.array_equal(x, y):
                return f"sample {n}: {name} is {x}, not {y}"


def definition(source, epoch, windows):
    return [source.draw(epoch, w) for w in windows]


def windows_of(source, epoch, count=40):
    """Some windows of an epoch, in no order."""
    return np.random.default_rng(1).permutation(len(source.in_epoch(epoch)))[:count].tolist()


# Equality


@settings(max_examples=80)
@given(sources(), st.sampled_from([0, 1, 2**31]))
def test_samples_drawn_at_once_are_those_of_the_definition(source, epoch):
    windows = windows_of(source, epoch)
    assert difference(draw(source, epoch, windows), definition(source, epoch, windows)) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("samples", ["windows", "sentences"])
def test_training_reads_the_definition_s_samples_without_calling_it(family, samples, monkeypatch):
    source = source_of((200, 9, 70, 400, 33), family=family, samples=samples)
    for step in range(3):
        batches = TrainingBatches(source, 300)
        epoch, windows = batches.windows_of(step)
        expected = definition(source, epoch, windows)
        with monkeypatch.context() as patch:
            patch.setattr(SampleSource, "draw", None)
            shares = [batches.examples(step, rank, 2) for rank in range(2)]
        assert difference(shares[0], expected[0::2]) is None
        assert difference(shares[1], expected[1::2]) is None


def test_a_source_of_some_windows_is_drawn_alike():
    source = source_of((50, 9, 70, 300, 33), 16)
    for windows in hold_out(source.windows, 3):
        part = SampleSource(source.ids, windows, source.settings, SENTENCE_ENDS)
        which = windows_of(part, 2)
        assert difference(draw(part, 2, which), definition(part, 2, which)) is None


def test_a_memory_mapped_corpus_is_drawn_alike(tmp_path):
    source = source_of((50, 9, 70, 300, 33), 16)
    which, expected = windows_of(source, 0), definition(source, 0, windows_of(source, 0))
    source.ids.tofile(tmp_path / "ids.bin")
    source.ids = np.memmap(tmp_path / "ids.bin", dtype=np.uint16, mode="r")
    assert difference(draw(source, 0, which), expected) is None


def test_no_windows_give_no_samples():
    assert draw(source_of((30,)), 0, []) == []


def test_a_text_with_nothing_to_blank_is_refused_as_by_the_definition():
    source = source_of((30, 5), 16)
    source.windows.length[1] = 0
    with pytest.raises(MinglmError, match="leave nothing to blank"):
        draw(source, 0, [0, 1])


# Words that are drawn again


@pytest.mark.parametrize("family", ["glm", "bert", "prefix"])
def test_where_a_word_is_drawn_again_the_definition_draws(family, monkeypatch):
    source = source_of((200, 9, 70, 400, 33), family=family)
    windows, raised = windows_of(source, 0), []

    def often_high(counter, key):
        words = keep(counter, key)
        return tuple(word | (word % 4 // 3) * MASK32 for word in words)  # every 4th is the highest

    class Seen(flat.Redrawn):
        def __init__(self):
            raised.append(True)

    keep = minglm.rng.philox
    for module in (minglm.rng, flat):
        monkeypatch.setattr(module, "philox", often_high)
    for module in (drawing, flat):
        monkeypatch.setattr(module, "Redrawn", Seen)
    assert difference(draw(source, 0, windows), definition(source, 0, windows)) is None and raised


# The tools


def test_flat_arrays_are_as_in_the_docstrings():
    counts = np.array([2, 0, 3])
    assert before(counts).tolist() == [0, 2, 2, 5] and within(counts).tolist() == [0, 1, 0, 1, 2]
    assert sums(np.array([1, 2, 3]), np.array([2, 0, 1])).tolist() == [3, 0, 3]
    assert so_far(np.array([1, 2, 3, 4]), np.array([2, 2])).tolist() == [0, 1, 0, 3]


@given(st.integers(0, 2**64 - 1), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4))
def test_streams_give_the_words_of_rng_however_they_are_prepared(seed, rounds):
    windows = np.array([5, 0, 2**32 - 1])
    streams, rngs = flat.Streams(seed, windows, 7), [Rng(seed, w, 7, SPANS) for w in windows]
    for a, b in rounds:
        counts = np.array([a, b, a + b])
        streams.prepare(counts)
        words = streams.peek(np.arange(3), counts)
        streams.read += counts
        assert words.tolist() == [rng.word() for rng, n in zip(rngs, counts, strict=True) for _ in range(n)]


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_streams_shuffle_as_rng_does(seed, counts):
    windows, counts = np.arange(len(counts)), np.array(counts)
    streams = flat.Streams(seed, windows, 0)
    streams.prepare(counts)
    expected = [
        first + i
        for w, (n, first) in enumerate(zip(counts.tolist(), before(counts).tolist(), strict=False))
        for i in Rng(seed, w, 0, SPANS).shuffle(list(range(n)))
    ]
    assert streams.shuffled(windows, counts).tolist() == expected


# The comparison catches mistakes: each line is a piece of the code, and the same with a mistake

MISTAKES = [
    (flat, "self.epoch, SPANS", "self.epoch, SPANS + 1"),
    (flat, "(words % n)", "(words % (n + 1))"),
    (flat, "- 1 - within(steps)", "- 2 - within(steps)"),
    (drawing, "SENTENCE, DOCUMENT = range(3)", "DOCUMENT, SENTENCE = range(3)"),
    (drawing, "(windows.ends | ~np.asarray(runs_on))", "True"),
    (drawing, "self.first[self.begins] + 1", "self.first + 1"),
    (drawing, "1 + np.searchsorted", "2 + np.searchsorted"),
    (drawing, "blanked < budget", "blanked <= budget"),
    (drawing, "room >= 1", "room >= 2"),
    (drawing, "np.rint(2 * budget / mean)", "np.floor(2 * budget / mean)"),
    (drawing, "so_far(lengths + 1, counts)", "so_far(lengths, counts)"),
    (drawing, "~is_first | texts.begins[which][sample]", "~is_first"),
    (drawing, "(before(inner)[1:] - 1)[has_eos]", "(before(inner)[1:] - 1)"),
    (drawing, "counts) < np.repeat", "counts) <= np.repeat"),
    (drawing, "np.ceil(s.document_min_ratio", "np.floor(s.document_min_ratio"),
    (drawing, "lengths + ~goes_on", "lengths + 1"),
    (drawing, "np.repeat(mask_position[order], rows)", "np.repeat(mask_position, rows)"),
    (drawing, "blocks[in_b] = at + 1", "blocks[in_b] = at"),
    (drawing, "(targets, number - 1)", "(targets, number)"),
    (drawing, "u < 0.9", "u < 0.95"),
    (drawing, "% len(SENTINELS)", "% 2"),
]


@pytest.fixture(scope="module")
def cases():
    """(source, windows, the definition's samples) that together need every line of drawing.py."""
    paper = dict(token=0.4, sentence=0.4, document=0.2)
    short = dict(blanks="drawn", mask_ratio=0.3, mean_span_length=1.5, samples="sentences", **paper)
    sources = [source_of((400, 300, 250), seed=5, family=family, **paper) for family in FAMILIES]
    sources += [source_of((300, 9, 70, 200), 32, openers=OPENERS, **short)]
    sources += [source_of((300, 9, 70, 200), 16, mask_ratio=0.9, **paper)]
    which = [windows_of(source, 0) for source in sources]
    return [(source, w, definition(source, 0, w)) for source, w in zip(sources, which, strict=True)]


def differs(drawn_by, cases):
    for source, windows, expected in cases:
        try:
            if difference(drawn_by(source, 0, windows), expected):
                return True
        except (IndexError, ValueError):  # arrays that do not fit together
            return True
    return False


def test_these_cases_are_drawn_as_defined(cases):
    assert not differs(draw, cases)


@pytest.mark.parametrize(("module", "right", "wrong"), MISTAKES)
def test_a_mistake_in_the_fast_path_is_caught(module, right, wrong, cases, monkeypatch):
    text = Path(module.__file__).read_text(encoding="utf-8")
    assert text.count(right) == 1
    mistaken = dict(__name__="minglm.data.mistaken", __package__="minglm.data")
    exec(compile(text.replace(right, wrong), "mistaken", "exec"), mistaken)
    if module is flat:
        monkeypatch.setattr(drawing, "Streams", mistaken["Streams"])
    assert differs(draw if module is flat else mistaken["draw"], cases)
