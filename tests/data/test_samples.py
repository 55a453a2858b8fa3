"""Samples: every token is in one window, every window once per epoch; nothing depends on earlier calls."""

import itertools
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minglm.batch import micro_batches, pack
from minglm.data.samples import (
    SampleSource,
    TrainingBatches,
    Windows,
    cut_sentences,
    cut_windows,
    hold_out,
    sources,
)
from minglm.errors import MinglmError
from minglm.infilling import SpecialTokens, build_example, restore
from minglm.rng import Rng
from minglm.train.config import DataConfig, resolve

seeds = st.integers(0, 2**63 - 1)

SPECIAL = SpecialTokens()
FIRST_WORD, STOP, VOCABULARY = 8, 8, 40
SENTENCE_ENDS = np.arange(VOCABULARY) == STOP
NO_SENTENCE_ENDS = np.zeros(VOCABULARY, dtype=bool)
lengths_of_documents = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def corpus(lengths, max_positions, stops=True):
    """Random documents of these lengths -> (ids, offsets, Windows)."""
    offsets = np.cumsum([0, *lengths])
    ids = np.random.default_rng(0).integers(
        FIRST_WORD if stops else STOP + 1, VOCABULARY, offsets[-1], dtype=np.uint16
    )
    return ids, offsets, cut_windows(offsets, max_positions)


def source(lengths=(9, 30, 4, 61, 17, 5, 44), max_positions=16, seed=0, stops=True, **dials):
    ids, _, windows = corpus(lengths, max_positions, stops)
    return SampleSource(ids, windows, DataConfig(**dials), SENTENCE_ENDS, seed=seed)


def lengths_only(lengths, seed=0):
    """The part of a SampleSource that TrainingBatches needs to choose windows."""
    lengths = np.array(lengths, dtype=np.int64)
    ends = np.ones(len(lengths), dtype=bool)
    windows = Windows(np.cumsum(lengths) - lengths, lengths - 2, ends, ends, ends, np.arange(len(lengths)))
    return SimpleNamespace(windows=windows, in_epoch=lambda epoch: windows, seed=seed)


def same(a, b):
    """Whether two Examples agree in everything."""
    arrays = ("tokens", "position_ids", "block_position_ids", "targets")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays) and (
        (a.part_a_len, a.text_len, a.objective) == (b.part_a_len, b.text_len, b.objective)
    )


def all_same(drawn, again):
    return len(drawn) == len(again) and all(
        one == other and same(a, b) for (one, a), (other, b) in zip(drawn, again, strict=True)
    )


# Windows


def test_a_document_is_cut_as_in_the_docstring():
    windows = cut_windows(np.array([0, 9]), 6)
    assert windows.start.tolist() == [0, 5] and windows.length.tolist() == [5, 4]
    assert windows.starts.tolist() == [True, False] and windows.ends.tolist() == [False, True]
    assert windows.sample_tokens().tolist() == [6, 6]


@given(lengths_of_documents, st.integers(4, 30))
def test_windows_cover_every_token_once_and_never_share_a_document(lengths, max_positions):
    ids, offsets, windows = corpus(lengths, max_positions)
    stretches = zip(windows.document, windows.start, windows.length, strict=True)
    covered = [(d, t) for d, start, n in stretches for t in range(start, start + n)]
    assert covered == [(d, t) for d in range(len(lengths)) for t in range(offsets[d], offsets[d + 1])]
    assert np.array_equal(windows.starts, np.isin(windows.start, offsets[:-1]))
    assert np.array_equal(windows.ends, np.isin(windows.start + windows.length, offsets[1:]))
    assert (windows.length >= 1).all()


@given(lengths_of_documents, st.integers(4, 30))
def test_windows_fit_are_as_few_as_can_be_and_about_equally_long(lengths, max_positions):
    _, _, windows = corpus(lengths, max_positions)
    assert windows.sample_tokens().max() <= max_positions
    for d, length in enumerate(lengths):
        mine = windows[windows.document == d].sample_tokens()
        # eos counts, and every window has a cls
        assert len(mine) == math.ceil((length + 1) / (max_positions - 1))
        assert mine.max() - mine.min() <= 1
        assert mine.sum() == length + 1 + len(mine)


@given(lengths_of_documents, st.integers(4, 30))
def test_the_texts_of_the_windows_are_the_documents(lengths, max_positions):
    ids, offsets, windows = corpus(lengths, max_positions)
    drawn = SampleSource(ids, windows, DataConfig(), SENTENCE_ENDS)
    texts = {d: [] for d in range(len(lengths))}
    for w, d in enumerate(windows.document):
        text = drawn.text(w)
        assert text.dtype == np.int64 and text[0] == SPECIAL.cls and len(text) == windows.sample_tokens()[w]
        texts[d] += text[1:].tolist()
    for d, text in texts.items():
        assert text == [*ids[offsets[d] : offsets[d + 1]].tolist(), SPECIAL.eos]


def test_a_million_tokens_are_cut_into_windows():
    windows = cut_windows(np.array([0, 1_000_000]), 256)
    assert len(windows) == math.ceil(1_000_001 / 255) and windows.length.sum() == 1_000_000
    assert windows.sample_tokens().max() <= 256 and windows.ends.sum() == windows.starts.sum() == 1


# Sentences


def sentences_of(lengths, max_positions, spread=1.0):
    """Random documents of these lengths -> (ids, offsets, Sentences)."""
    ids, offsets, _ = corpus(lengths, max_positions)
    return ids, offsets, cut_sentences(ids, offsets, SENTENCE_ENDS, max_positions, spread)


def in_sentences(
    lengths=(9, 30, 4, 61, 17, 5, 44), max_positions=16, seed=0, spread=1.0, openers=None, **dials
):
    ids, _, sentences = sentences_of(lengths, max_positions, spread)
    settings = DataConfig(samples="sentences", spread=spread, **dials)
    return SampleSource(ids, sentences, settings, SENTENCE_ENDS, seed=seed, openers=openers)


def test_documents_are_cut_into_sentences_as_in_the_docstring_and_marks_in_a_row_end_one():
    a, b, c = 20, 21, 22
    ids = np.array([a, b, STOP, c, STOP, a, STOP, STOP, b, a, b, c, a])
    sentences = cut_sentences(ids, np.array([0, 5, 13]), SENTENCE_ENDS, 6)
    assert sentences.start.tolist() == [0, 3, 5, 8, 10] and sentences.length.tolist() == [3, 2, 3, 2, 3]
    assert sentences.document.tolist() == [0, 0, 1, 1, 1]
    assert sentences.starts.tolist() == [True, False, True, False, False]
    assert sentences.ends.tolist() == [False, True, False, False, True]
    # five tokens and no mark: two pieces of at most four
    assert sentences.closed.tolist() == [True, True, True, False, True]


@given(
    lengths_of_documents,
    st.integers(4, 30),
    seeds,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_every_epoch_has_every_text_token_once_in_samples_that_fit(
    lengths, max_positions, seed, epoch, spread
):
    ids, offsets, sentences = sentences_of(lengths, max_positions, spread)
    windows = sentences.in_epoch(seed, epoch)
    stretches = zip(windows.document, windows.start, windows.length, strict=True)
    covered = [(d, t) for d, start, n in stretches for t in range(start, start + n)]
    assert covered == [(d, t) for d in range(len(lengths)) for t in range(offsets[d], offsets[d + 1])]
    assert np.array_equal(windows.starts, np.isin(windows.start, offsets[:-1]))
    assert np.array_equal(windows.ends, np.isin(windows.start + windows.length, offsets[1:]))
    assert (windows.length >= 1).all() and windows.sample_tokens().max() <= max_positions
    assert set(windows.start) <= set(sentences.start) and (windows.closed | ~windows.ends).all()
    fewest, longest = sentences.bounds()
    assert fewest <= windows.sample_tokens().sum() and longest >= windows.sample_tokens().max()


def test_no_spread_is_single_sentences_and_a_wide_one_as_many_as_fit():
    _, _, sentences = sentences_of([60] * 5, 200, 0.0)
    assert sentences.in_epoch(1, 2).start.tolist() == sentences.start.tolist()
    wide = sentences_of([60] * 5, 200, 1e9)[2].in_epoch(1, 2)
    assert wide.length.tolist() == [60] * 5


def test_n_sentences_or_more_come_with_probability_n_to_the_power_of_minus_one_over_spread():
    ids = np.full(60_000, STOP)
    ids[::2] = 20  # two tokens for each sentence
    for spread in (0.5, 1.0):
        windows = cut_sentences(ids, np.array([0, 60_000]), SENTENCE_ENDS, 512, spread).in_epoch(3, 0)
        for n in (1, 2, 3, 10):
            share = np.mean(windows.length[:-1] >= 2 * n)
            assert share == pytest.approx(n ** (-1 / spread), abs=4 * 0.5 / len(windows) ** 0.5)


def test_epochs_and_seeds_cut_elsewhere_and_the_same_ones_alike():
    sentences = sentences_of([60] * 20, 64)[2]
    cuts = {
        (seed, epoch): tuple(sentences.in_epoch(seed, epoch).start)
        for seed in (0, 1, 2**40)
        for epoch in range(3)
    }
    assert len(set(cuts.values())) == 9
    assert all(tuple(sentences.in_epoch(*key).start) == cut for key, cut in cuts.items())


def test_a_text_in_the_middle_of_a_document_is_closed_by_eos_unless_it_is_written_on():
    drawn = in_sentences([60] * 8, 64, token=1, sentence=1, document=1)
    windows = drawn.in_epoch(0)
    inside = [w for w in range(len(windows)) if not windows.ends[w]]
    assert inside and all(drawn.text(w)[-1] == SPECIAL.eos for w in inside)
    for w in inside:
        read, written = drawn.example(w, "token", Rng(0)), drawn.example(w, "document", Rng(0))
        assert restore(read).tolist() == drawn.text(w).tolist()
        assert restore(written).tolist() == drawn.text(w)[:-1].tolist() and SPECIAL.eop not in written.targets
    for w in np.flatnonzero(windows.ends):
        assert drawn.example(w, "document", Rng(0)).targets[-2:].tolist() == [SPECIAL.eos, SPECIAL.eop]


def test_a_sentence_that_begins_a_sample_begins_like_a_text():
    openers = np.arange(VOCABULARY)
    openers[20:30] = range(30, 40)
    ids = np.array([20, 25, STOP, 21, 22, STOP, 23, 24])
    sentences = cut_sentences(ids, np.array([0, 8]), SENTENCE_ENDS, 16, 0.0)
    drawn = SampleSource(ids, sentences, DataConfig(samples="sentences"), SENTENCE_ENDS, openers=openers)
    assert [drawn.text(w).tolist() for w in range(3)] == [
        [1, 30, 25, STOP, 2],
        [1, 31, 22, STOP, 2],
        [1, 33, 24, 2],
    ]


@pytest.mark.parametrize("world", [1, 2, 3, 40])
def test_samples_of_sentences_resume_anywhere_and_are_shared_between_ranks(world):
    batches = TrainingBatches(in_sentences(seed=5), 40)
    for step in (0, 7, 3 * batches.per_epoch + 1, 2):
        alone = TrainingBatches(in_sentences(seed=5), 40)
        whole = alone.examples(step)
        assert whole and all_same(batches.examples(step), whole)
        shares = [alone.examples(step, rank, world) for rank in range(world)]
        dealt = [sample for turn in itertools.zip_longest(*shares) for sample in turn if sample is not None]
        assert all_same(dealt, whole)


@given(lengths_of_documents, st.integers(1, 200), seeds)
def test_epochs_of_sentences_have_equally_many_batches_and_none_is_empty(lengths, batch_tokens, seed):
    batches = TrainingBatches(in_sentences(lengths, 16, seed), batch_tokens)
    for epoch in range(4):
        drawn = [batches.windows_of(epoch * batches.per_epoch + k)[1] for k in range(batches.per_epoch)]
        assert all(drawn)
        assert sorted(w for windows in drawn for w in windows) == list(
            range(len(batches.source.in_epoch(epoch)))
        )


def test_the_held_out_documents_are_those_of_windows_and_their_samples_the_same_in_every_run():
    ids, offsets, sentences = sentences_of([25] * 45, 16)
    assert set(hold_out(sentences)[1].document) == set(hold_out(cut_windows(offsets, 16))[1].document)
    tokenizer = SimpleNamespace(
        sentence_ends=lambda: SENTENCE_ENDS, openers=lambda: np.arange(VOCABULARY), special=SPECIAL
    )
    held = []
    for seed in ("1", "2"):
        how = {"data.samples": "sentences", "model.max_positions": "16", "train.seed": seed}
        training, held_out = sources(
            SimpleNamespace(ids=ids, offsets=offsets), tokenizer, resolve("tiny", overrides=how)
        )
        assert training.seed == int(seed) and not set(training.windows.document) & set(
            held_out.windows.document
        )
        held.append([held_out.held_out(w, "token") for w in range(len(held_out.windows))])
    assert len(held[0]) >= 4 and all(same(a, b) for a, b in zip(*held, strict=True))


# Held-out text


@pytest.mark.parametrize(
    ("documents", "held_out"),
    [(2, [1]), (3, [2]), (19, [18]), (20, [19]), (21, [19]), (45, [19, 39]), (100, [19, 39, 59, 79, 99])],
)
def test_every_twentieth_document_is_held_out_and_at_least_the_last(documents, held_out):
    _, _, windows = corpus([25] * documents, 16)
    training, held = hold_out(windows)
    assert sorted(set(held.document.tolist())) == held_out
    assert sorted({*training.document.tolist(), *held_out}) == list(range(documents))
    assert len(training) + len(held) == len(windows) and not {*training.document} & {*held.document}


@pytest.mark.parametrize(
    ("tokens", "windows", "held_out"), [(10, 1, 0), (20, 2, 1), (200, 14, 1), (3000, 201, 10)]
)
def test_of_one_document_the_end_is_held_out(tokens, windows, held_out):
    _, _, all_windows = corpus([tokens], 16)
    assert len(all_windows) == windows
    training, held = hold_out(all_windows)
    assert len(held) == held_out
    assert [*training.start, *held.start] == all_windows.start.tolist()
    assert len(training) >= 1


def test_how_many_are_held_out_can_be_chosen():
    _, _, windows = corpus([10] * 9, 16)
    assert sorted(set(hold_out(windows, every=3)[1].document.tolist())) == [2, 5, 8]
    assert [len(part) for part in hold_out(windows[[]])] == [0, 0]


@pytest.mark.parametrize("objective", ["token", "sentence", "document"])
def test_held_out_samples_do_not_depend_on_the_seed(objective):
    sources = [source(seed=seed) for seed in (0, 1, 2**40)]
    for w in range(len(sources[0].windows)):
        first, *others = (drawn.held_out(w, objective) for drawn in sources)
        assert all(same(first, other) for other in others)
    # while training samples depend on it
    assert not all_same([sources[0].draw(0, 3)], [sources[1].draw(0, 3)])


def test_held_out_spans_differ_by_window_and_by_objective():
    drawn = source([200] * 5, 16)
    for objective in ("token", "document"):
        assert len({tuple(drawn.held_out(w, objective).position_ids) for w in range(20)}) > 5
    _, _, windows = corpus([3000], 256)
    unbroken = SampleSource(np.full(3000, 20), windows, DataConfig(), NO_SENTENCE_ENDS)
    token, fallback = (unbroken.held_out(2, objective) for objective in ("token", "sentence"))
    # each objective has its own random numbers
    assert fallback.objective == "token" and not same(token, fallback)


# Samples


@given(lengths_of_documents, st.integers(4, 30), seeds, st.integers(0, 2**32 - 1))
def test_every_window_makes_a_sample_that_fits_and_gives_its_text_back(lengths, max_positions, seed, epoch):
    ids, _, windows = corpus(lengths, max_positions)
    drawn = SampleSource(ids, windows, DataConfig(token=1, sentence=1, document=1), SENTENCE_ENDS, seed=seed)
    for w in range(len(windows)):
        _, example = drawn.draw(epoch, w)
        assert len(example.targets) >= 1
        assert restore(example).tolist() == drawn.text(w).tolist()
        assert example.text_len == windows.sample_tokens()[w] <= max_positions
        assert example.position_ids.max() < max_positions
        assert example.block_position_ids.max() <= max_positions  # the tables have max_positions + 1 rows


@given(lengths_of_documents, st.integers(4, 30), seeds)
def test_no_special_token_is_ever_learned_but_eop_and_eos(lengths, max_positions, seed):
    ids, _, windows = corpus(lengths, max_positions)
    drawn = SampleSource(ids, windows, DataConfig(token=1, sentence=1, document=1), SENTENCE_ENDS, seed=seed)
    for w in range(len(windows)):
        _, example = drawn.draw(0, w)
        allowed = {SPECIAL.eop} | ({SPECIAL.eos} if example.objective == "document" else set())
        assert {t for t in example.targets.tolist() if t < FIRST_WORD} <= allowed
        inputs = example.tokens[example.part_a_len :]
        assert {t for t in inputs.tolist() if t < FIRST_WORD} <= {SPECIAL.sop, SPECIAL.eos}
        masks = Counter(t for t in example.tokens[: example.part_a_len].tolist() if t < FIRST_WORD)
        assert masks[SPECIAL.cls] == 1 and example.tokens[0] == SPECIAL.cls
        assert set(masks) <= {SPECIAL.cls, SPECIAL.eos, SPECIAL.mask_of(example.objective)}
        assert masks[SPECIAL.mask_of(example.objective)] == (inputs == SPECIAL.sop).sum()


@pytest.mark.parametrize("weights", [(5, 3, 2), (1, 1, 1), (0.1, 0.0, 0.3), (0, 7, 0)])
def test_the_mixture_is_drawn_for_every_sample_by_its_weights(weights):
    drawn = source([13] * 40, 16, token=weights[0], sentence=weights[1], document=weights[2])
    objectives = [[drawn.draw(epoch, w)[0] for w in range(40)] for epoch in range(25)]
    counts = Counter(itertools.chain(*objectives))
    chi2 = 0
    for objective, weight in zip(("token", "sentence", "document"), weights, strict=True):
        expected = 1000 * weight / sum(weights)
        assert expected or objective not in counts
        chi2 += (counts[objective] - expected) ** 2 / expected if expected else 0
    assert chi2 < 2 + 5 * 2  # 5 standard deviations above the mean
    if min(weights):
        assert all(len(set(epoch)) == 3 for epoch in objectives)  # drawn per sample, not per batch


def test_a_window_without_a_whole_sentence_serves_the_token_objective_and_says_so():
    ids, _, windows = corpus([300], 16, stops=False)  # one sentence, cut into 21 windows
    drawn = SampleSource(ids, windows, DataConfig(token=0, sentence=1, document=0), SENTENCE_ENDS)
    samples = [drawn.draw(0, w) for w in range(len(windows))]
    assert {objective for objective, _ in samples} == {"sentence"}
    assert {example.objective for _, example in samples} == {"token"}
    for _, example in samples:
        assert SPECIAL.mask in example.tokens and SPECIAL.smask not in example.tokens
    assert drawn.held_out(4, "sentence").objective == "token"


def test_a_sentence_counts_as_whole_when_the_window_before_ends_one():
    ids = np.array([20, 20, 20, 20, STOP, 21, 21, 21, 21], dtype=np.uint16)
    windows = cut_windows(np.array([0, 9]), 6)  # 20 20 20 20 STOP | 21 21 21 21 eos
    drawn = SampleSource(ids, windows, DataConfig(token=0, sentence=1, document=0), SENTENCE_ENDS)
    assert drawn.draw(0, 1)[1].tokens.tolist() == [1, SPECIAL.smask, SPECIAL.eos, SPECIAL.sop, 21, 21, 21, 21]
    drawn.sentence_ends = NO_SENTENCE_ENDS
    assert drawn.draw(0, 1)[1].objective == "token"  # its sentence began in the window before


def test_part_b_holds_the_spans_in_every_order_alike():
    drawn = source(
        [13], 16, token=1, sentence=0, document=0, mask_ratio=0.3, max_span_length=2, mean_span_length=1.5
    )
    orders = Counter()
    for epoch in range(900):
        _, example = drawn.draw(epoch, 0)
        begins = example.block_position_ids == 1
        positions = example.position_ids[begins]
        assert len(positions) == 4  # int(0.3 x 15) spans of one token
        orders[tuple(np.argsort(positions))] += 1
    assert len(orders) == 24
    assert sum((n - 900 / 24) ** 2 / (900 / 24) for n in orders.values()) < 23 + 5 * math.sqrt(2 * 23)


def test_the_dials_reach_the_spans():
    half = source([39], 60, token=1, sentence=0, document=0, mask_ratio=0.5).draw(0, 0)[1]
    assert 20 <= (half.targets != SPECIAL.eop).sum() < 20 + 12  # of 41 tokens, including cls and eos
    short = source([500], 600, token=1, sentence=0, document=0, max_span_length=3, mean_span_length=2.5)
    long = source([500], 600, token=1, sentence=0, document=0, mean_span_length=20.0)
    # sop has block position 1, the n-th token n + 1; spans are shorter than max_span_length
    assert (
        short.draw(0, 0)[1].block_position_ids.max() == 1 + 2
        and long.draw(0, 0)[1].block_position_ids.max() > 15
    )
    exact = source([99], 200, token=0, sentence=0, document=1, document_min_ratio=0.3, document_max_ratio=0.3)
    # cls, 70 % of text and eos, mask
    assert {exact.draw(epoch, 0)[1].part_a_len for epoch in range(20)} == {1 + 70 + 1}


# Packing


def test_samples_are_packed_end_to_end_as_in_the_docstring():
    ten = build_example(list(range(20, 26)), [(2, 3), (4, 6)], [1, 0])
    seven = build_example(list(range(30, 35)), [(2, 4)], [0])
    assert (len(ten.tokens), ten.part_a_len, len(seven.tokens), seven.part_a_len) == (10, 5, 7, 4)
    batch = pack([ten, seven])
    assert batch.target_rows.tolist() == [5, 6, 7, 8, 9, 14, 15, 16]
    assert batch.mask.cu_seqlens_q.tolist() == batch.mask.cu_seqlens_k.tolist() == [0, 10, 17]
    assert batch.mask.part_a_lens.tolist() == [5, 4] and batch.text_tokens == 11


@given(st.lists(st.integers(0, 15), max_size=6), seeds)
def test_every_sample_stands_whole_in_its_batch(which, seed):
    drawn = source(seed=seed)
    examples = [drawn.draw(0, w)[1] for w in which]
    batch = pack(examples)
    edges = batch.mask.cu_seqlens_q.tolist()
    assert len(edges) == len(examples) + 1 and edges[-1] == len(batch.tokens)
    for k, example in enumerate(examples):
        rows = slice(edges[k], edges[k + 1])
        learned = (batch.target_rows >= edges[k]) & (batch.target_rows < edges[k + 1])
        for name in ("tokens", "position_ids", "block_position_ids"):
            assert getattr(batch, name)[rows].tolist() == getattr(example, name).tolist(), name
        assert (batch.target_rows[learned] - edges[k]).tolist() == [
            *range(example.part_a_len, len(example.tokens))
        ]
        assert batch.targets[learned].tolist() == example.targets.tolist()
        assert batch.mask.part_a_lens[k] == example.part_a_len
    assert batch.target_rows.tolist() == sorted(batch.target_rows.tolist())
    assert len(batch.targets) == len(batch.target_rows) and batch.text_tokens == sum(
        e.text_len for e in examples
    )


def test_no_sample_at_all_gives_a_batch_of_no_rows():
    batch = pack([])
    for name in ("tokens", "position_ids", "block_position_ids", "target_rows", "targets"):
        assert getattr(batch, name).dtype == torch.int64 and getattr(batch, name).shape == (0,), name
    assert batch.mask.dense().shape == (0, 0) and batch.text_tokens == 0


def test_a_batch_moves_to_a_device_but_for_its_mask():
    batch = pack([source().draw(0, 0)[1]])
    moved = batch.to("meta")
    for name in ("tokens", "position_ids", "block_position_ids", "target_rows", "targets"):
        assert (
            getattr(moved, name).device.type == "meta"
            and getattr(moved, name).shape == getattr(batch, name).shape
        )
    assert moved.mask is batch.mask and moved.text_tokens == batch.text_tokens


# The order of an epoch

sample_lengths = st.lists(st.integers(2, 40), min_size=1, max_size=60)


@given(sample_lengths, st.integers(1, 400), seeds, st.integers(0, 2**32 - 1))
def test_an_epoch_visits_every_window_once_in_batches_that_are_never_empty(
    lengths, batch_tokens, seed, epoch
):
    batches = TrainingBatches(lengths_only(lengths, seed), batch_tokens)
    n = batches.per_epoch
    drawn = [batches.windows_of(epoch * n + k) for k in range(n)]
    assert {e for e, _ in drawn} == {epoch}
    assert all(windows for _, windows in drawn)
    assert sorted(w for _, windows in drawn for w in windows) == list(range(len(lengths)))
    assert batches.windows_of((epoch + 1) * n)[0] == epoch + 1  # as many batches in every epoch


@given(sample_lengths, st.integers(1, 400), seeds)
def test_a_batch_misses_its_share_by_less_than_a_sample(lengths, batch_tokens, seed):
    batches = TrainingBatches(lengths_only(lengths, seed), batch_tokens)
    sizes = [sum(lengths[w] for w in batches.windows_of(step)[1]) for step in range(2 * batches.per_epoch)]
    assert max(abs(size - batches.share) for size in sizes) < max(lengths)
    assert sum(sizes) / len(sizes) == pytest.approx(batches.share)


@given(sample_lengths, st.integers(0, 360), seeds)
def test_the_share_is_batch_tokens_but_for_cutting_an_epoch_evenly(lengths, more, seed):
    longest, total = max(lengths), sum(lengths)
    batch_tokens = longest + more  # settings guarantee this
    batches = TrainingBatches(lengths_only(lengths, seed), batch_tokens)
    n = batches.per_epoch
    assert batches.share * n == pytest.approx(total)
    assert n <= total / batch_tokens + 1  # at most one batch too many, by rounding
    assert n > total / batch_tokens - 1  # and at most one too few


@pytest.mark.parametrize(
    ("lengths", "batch_tokens", "per_epoch"),
    [
        ([5], 1, 1),
        ([5], 5, 1),
        ([5], 1000, 1),
        ([7] * 27, 95, 2),  # 189 tokens, just under 2 x 95
        ([95, 94], 95, 1),  # the same, but two cuts could leave a batch empty
        ([10] * 100, 100, 10),
        ([256] * 80, 2048, 10),
        ([1, 40, 1, 1, 1], 5, 1),
    ],
)
def test_tiny_and_even_corpora_have_as_many_batches_as_they_should(lengths, batch_tokens, per_epoch):
    batches = TrainingBatches(lengths_only(lengths), batch_tokens)
    assert batches.per_epoch == per_epoch
    for step in range(3 * per_epoch):
        epoch, windows = batches.windows_of(step)
        assert epoch == step // per_epoch and windows


def test_equal_samples_make_equal_batches():
    batches = TrainingBatches(lengths_only([256] * 80), 2048)
    assert {len(batches.windows_of(step)[1]) for step in range(20)} == {8}


def test_a_corpus_without_a_sample_is_an_error():
    with pytest.raises(MinglmError, match="no sample"):
        TrainingBatches(lengths_only([]), 100)


def test_epochs_and_seeds_differ_in_their_order():
    orders = set()
    for seed in (0, 1, 2**40):
        batches = TrainingBatches(lengths_only([10] * 40, seed), 100)
        for epoch in range(3):
            orders.add(tuple(w for k in range(4) for w in batches.windows_of(4 * epoch + k)[1]))
    assert len(orders) == 9


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), seeds)
def test_a_batch_is_a_function_of_seed_and_step_however_it_is_asked_for(steps, seed):
    in_this_order = TrainingBatches(source(seed=seed), 40)
    for step in steps:
        alone = TrainingBatches(source(seed=seed), 40)
        assert in_this_order.windows_of(step) == alone.windows_of(step)
        assert all_same(in_this_order.examples(step), alone.examples(step))


def test_spans_of_a_window_differ_from_epoch_to_epoch_and_seed_to_seed():
    drawn = {
        tuple(
            source([200] * 3, 256, seed=seed, token=1, sentence=0, document=0).draw(epoch, w)[1].position_ids
        )
        for seed in (0, 1)
        for epoch in range(3)
        for w in range(3)
    }
    assert len(drawn) == 18


def test_no_sample_is_dropped():
    drawn = source(token=1, sentence=1, document=1)
    batches = TrainingBatches(drawn, 60)
    for epoch in range(3):
        samples = [
            e for k in range(batches.per_epoch) for _, e in batches.examples(epoch * batches.per_epoch + k)
        ]
        assert len(samples) == len(drawn.windows)
        assert sum(e.text_len for e in samples) == drawn.windows.sample_tokens().sum()
        texts = Counter(tuple(restore(e)) for e in samples)
        assert texts == Counter(tuple(drawn.text(w)) for w in range(len(drawn.windows)))


# Ranks and micro-batches


@pytest.mark.parametrize("world", [1, 2, 3, 5, 40])
def test_the_ranks_share_the_global_batch_between_them(world):
    batches = TrainingBatches(source(), 60)
    for step in range(2 * batches.per_epoch):
        whole = batches.examples(step)
        shares = [batches.examples(step, rank, world) for rank in range(world)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        dealt = [sample for turn in itertools.zip_longest(*shares) for sample in turn if sample is not None]
        assert all_same(dealt, whole)
    assert world < 40 or not all(shares)  # some of 40 ranks have no sample, which is allowed


@given(st.lists(st.integers(0, 15), max_size=12), st.integers(1, 80))
def test_micro_batches_keep_every_sample_in_order_and_within_the_budget(which, max_tokens):
    drawn = source()
    examples = [drawn.draw(0, w)[1] for w in which]
    runs = micro_batches(examples, max_tokens)
    assert [id(e) for run in runs for e in run] == [id(e) for e in examples]
    assert runs and (all(runs) or runs == [[]])
    for run in runs:
        assert len(run) == 1 or sum(len(e.tokens) for e in run) <= max_tokens
    for run, after in itertools.pairwise(runs):  # no run ends early
        assert sum(len(e.tokens) for e in run) + len(after[0].tokens) > max_tokens


def test_a_process_without_a_sample_still_has_one_empty_run():
    assert micro_batches([], 100) == [[]]
