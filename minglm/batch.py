"""From a corpus to packed batches: which windows, in which order, cut where; and the rows the model reads.

A window is one sample's text: cls + a stretch of one document + eos where the document ends. The global batch of step k
is a function of (seed, k) alone: an epoch visits every window once in a keyed order, and the order is cut into batches
of about `batch_tokens` text tokens. The spans of a window are keyed by (seed, epoch, window). So a run resumes without
any state of its data, and neither the number of processes nor the micro-batch changes what is learned.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from .errors import MinglmError
from .infilling import SpecialTokens
from .layout import objectives_of, training_example
from .mask import GLMMask
from .rng import Rng, permutation

# What a stream of random numbers is for: the last word of its counter.
ORDER, SPANS, HELD_OUT, NOISE, DROPOUT, SAMPLING = range(6)


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples end to end, no padding. N rows, of which the M rows `target_rows` learn `targets`.

    tokens, position_ids, block_position_ids: (N,) int64; target_rows, targets: (M,) int64; mask: GLMMask.
    text_tokens: tokens of the texts before spans were drawn.
    """

    tokens: torch.Tensor
    position_ids: torch.Tensor
    block_position_ids: torch.Tensor
    mask: GLMMask
    target_rows: torch.Tensor
    targets: torch.Tensor
    text_tokens: int = 0

    def to(self, device):
        """The same batch with its tensors on a device (the mask's lengths stay on the host)."""
        names = ("tokens", "position_ids", "block_position_ids", "target_rows", "targets")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def pack(examples):
    """Put samples end to end: list of Example -> Batch. No sample at all gives a batch of no rows.

    Example: samples of 10 and 7 rows with Part A of 5 and 4 -> N = 17, target_rows 5..9 and 14..16.
    """

    def row(values):
        return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *values]))

    lens = [len(e.tokens) for e in examples]
    starts = np.cumsum([0, *lens])
    return Batch(
        tokens=row([e.tokens for e in examples]),
        position_ids=row([e.position_ids for e in examples]),
        block_position_ids=row([e.block_position_ids for e in examples]),
        mask=GLMMask.packed(lens, [e.part_a_len for e in examples]),
        target_rows=row([start + e.target_rows for e, start in zip(examples, starts, strict=False)]),
        targets=row([e.targets for e in examples]),
        text_tokens=sum(e.text_len for e in examples),
    )


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of documents, one a sample: n of them, all (n,) arrays.

    start: first token in the corpus; length: text tokens (cls and eos not counted); ends: whether the document ends with
    it; starts: whether it begins one; document: its number.
    """

    start: np.ndarray
    length: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    document: np.ndarray

    def __len__(self):
        return len(self.start)

    def __getitem__(self, which):
        """The windows of an index array or boolean array."""
        return Windows(*(getattr(self, name)[which] for name in ("start", "length", "starts", "ends", "document")))

    def sample_tokens(self):
        """Tokens of each sample's text, cls and eos counted, (n,)."""
        return self.length + 1 + self.ends


def cut_windows(offsets, max_positions):
    """Cut every document into the fewest windows that fit, all about equally long.

    offsets: (documents + 1,) where documents begin in the corpus. A window takes cls and at most max_positions - 1 tokens,
    eos included where the document ends.

    Example: one document of 9 tokens and eos, max_positions = 6 -> two windows of 5 tokens, the second 4 and eos.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    lengths = np.diff(offsets) + 1  # eos counts
    pieces = -(-lengths // (max_positions - 1))
    document = np.repeat(np.arange(len(lengths)), pieces)
    first = np.cumsum(pieces) - pieces
    piece = np.arange(len(document)) - first[document]
    a = lengths[document] * piece // pieces[document]
    b = lengths[document] * (piece + 1) // pieces[document]
    ends = piece + 1 == pieces[document]
    return Windows(offsets[:-1][document] + a, b - a - ends, piece == 0, ends, document)


def hold_out(windows, every=20):
    """Split into (training, held-out) windows: every `every`-th document is held out.

    With fewer documents than that, the last of them; with one document, its last twentieth, at least a window; a single
    window is trained on and nothing is held out.
    """
    documents = windows.document[-1] + 1 if len(windows) else 0
    if documents >= every:
        held_out = windows.document % every == every - 1
    elif documents > 1:
        held_out = windows.document == documents - 1
    else:
        held_out = np.arange(len(windows)) >= len(windows) - max(1, len(windows) // every)
        held_out &= len(windows) > 1
    return windows[~held_out], windows[held_out]


class SampleSource:
    """Draws samples from the windows of a corpus.

    ids: the corpus, 1-D; settings: DataConfig (mixture and span dials); sentence_ends: (V,) bool; family: see layout.py.
    """

    def __init__(self, ids, windows, settings, sentence_ends, special=SpecialTokens(), seed=0, family="glm"):  # noqa: B008
        self.ids, self.windows, self.settings, self.seed = ids, windows, settings, seed
        self.sentence_ends, self.special, self.family = sentence_ends, special, family
        self.objectives = objectives_of(family)

    def text(self, w):
        """The tokens of window w: cls, text, eos where the document ends. int64."""
        windows, special = self.windows, self.special
        text = self.ids[windows.start[w] : windows.start[w] + windows.length[w]]
        return np.concatenate([[special.cls], text, [special.eos] * int(windows.ends[w])]).astype(np.int64)

    def example(self, w, objective, rng):
        """Window w as an Example. A window without a whole sentence serves the token objective instead."""
        tokens, s, start = self.text(w), self.settings, self.windows.start[w]
        dials = dict(
            has_eos=bool(self.windows.ends[w]),
            mask_ratio=s.mask_ratio,
            mean_length=s.mean_span_length,
            max_length=s.max_span_length,
            document_ratio=(s.document_min_ratio, s.document_max_ratio),
            sentence_ends=self.sentence_ends,
            starts_sentence=bool(self.windows.starts[w] or self.sentence_ends[self.ids[start - 1]]),
        )
        return training_example(self.family, tokens, objective, rng, self.special, len(self.sentence_ends), dials)

    def draw(self, epoch, w):
        """(objective drawn from the mixture, Example) of window w in an epoch; the Example knows what it became."""
        rng, s = Rng(self.seed, w, epoch, SPANS), self.settings
        if len(self.objectives) == 1:
            return self.family, self.example(w, self.family, rng)
        u = rng.uniform() * (s.token + s.sentence + s.document)
        objective = "token" if u < s.token else "sentence" if u < s.token + s.sentence else "document"
        return objective, self.example(w, objective, rng)

    def held_out(self, w, objective):
        """The fixed sample of window w for an objective, the same in every run: its spans do not depend on the seed."""
        return self.example(w, objective, Rng(0, w, self.objectives.index(objective), HELD_OUT))


class TrainingBatches:
    """The global batch of every step, as a function of (seed, step).

    An epoch's order of windows is cut where the running count of text tokens passes a multiple of `share`, the epoch's
    tokens divided by its number of batches. So every epoch has equally many batches of equal shares, at most `batch_tokens`
    (but for a text too short for that), and a batch misses its share by less than a sample either way.
    """

    def __init__(self, source, batch_tokens):
        self.source = source
        self.lengths = source.windows.sample_tokens()
        if not len(self.lengths):
            raise MinglmError("the corpus has no sample to train on")
        total, longest = int(self.lengths.sum()), int(self.lengths.max())
        # subtle: never so many batches that one of them could be empty
        self.per_epoch = max(1, min(-(-total // batch_tokens), total // longest))
        self.share = total / self.per_epoch
        self._kept = None, None, None  # an epoch, its order, its cuts: set together, so that threads may share them

    def windows_of(self, step):
        """(epoch, the windows of that step's global batch in order)."""
        epoch, k = divmod(step, self.per_epoch)
        kept, order, cuts = self._kept
        if epoch != kept:
            order = permutation(len(self.lengths), self.source.seed, epoch, 0, ORDER)
            begins = np.cumsum(self.lengths[order]) - self.lengths[order]
            batch = np.minimum(begins // self.share, self.per_epoch - 1)
            cuts = np.searchsorted(batch, np.arange(self.per_epoch + 1))
            self._kept = epoch, order, cuts
        return epoch, order[cuts[k] : cuts[k + 1]].tolist()

    def examples(self, step, rank=0, world=1):
        """This rank's share of a step's global batch: list of (objective drawn, Example). The ranks' shares are disjoint."""
        epoch, windows = self.windows_of(step)
        return [self.source.draw(epoch, w) for w in windows[rank::world]]


def in_runs(items, rows, most):
    """Any number of items in lists of at most `most` rows each, in order (a larger item is a list of its own).

    rows: a function, how many rows an item takes. Example: items of 3, 3 and 9 rows, most=7 -> two lists, of two and of one.
    """
    run, total = [], 0
    for item in items:
        if run and total + rows(item) > most:
            yield run
            run, total = [], 0
        run.append(item)
        total += rows(item)
    if run:
        yield run


def micro_batches(examples, max_tokens):
    """A list of Example `in_runs` of at most `max_tokens` rows.

    Always at least one run, if only an empty one: a process without a sample still takes part in the step.
    """
    return list(in_runs(examples, lambda example: len(example.tokens), max_tokens)) or [[]]
