"""From a corpus to the samples of every training step: windows, their order, and where batches are cut.

A window is the text of one sample: cls, a stretch of one document, and eos where the document ends. Windows
are as long as the model allows and the same in every epoch, or runs of sentences of many lengths, drawn anew
for every epoch. The global batch of step k depends on (seed, k) alone: an epoch visits every window once, in
a keyed order, and this order is cut into batches of about `batch_tokens` text tokens. The spans of a window
are keyed by (seed, epoch, window). So a run resumes without any data state, and neither the number of
processes nor the size of a micro-batch changes what is learned.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import MinglmError
from ..families import RUNS_ON, objectives_of, training_example
from ..infilling import SpecialTokens
from ..rng import CUTS, HELD_OUT, ORDER, SPANS, Rng, permutation, uniforms
from .drawing import draw


@dataclass(frozen=True, eq=False)
class Windows:
    """n stretches of documents, one per sample; every attribute is an (n,) array.

    start: index of the first token in the corpus; length: in text tokens, without cls and eos; starts, ends:
    whether the window begins or ends its document; closed: whether eos follows; document: its number.
    """

    start: np.ndarray
    length: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    closed: np.ndarray
    document: np.ndarray

    def __len__(self):
        return len(self.start)

    def __getitem__(self, which):
        """The Windows that an index array or boolean array selects."""
        names = ("start", "length", "starts", "ends", "closed", "document")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    def sample_tokens(self):
        """The number of tokens of each sample's text, with cls and eos: (n,)."""
        return self.length + 1 + self.closed

    def in_epoch(self, seed, epoch):
        """The Windows of an epoch; here the same in every epoch."""
        return self

    def bounds(self):
        """(the fewest tokens of any epoch, the most tokens of any sample), over all epochs and seeds."""
        tokens = self.sample_tokens()
        return int(tokens.sum()), int(tokens.max())


@dataclass(frozen=True, eq=False)
class Sentences(Windows):
    """The sentences of documents; `in_epoch` joins them to windows of many lengths, anew for every epoch.

    most: the most text tokens of a window. spread: a window takes the next 1 / u ** spread sentences of its
    document (rounded down), u uniform between 0 and 1, or as many as fit: n or more with probability
    n ** (-1 / spread).
    """

    most: int
    spread: float

    def in_epoch(self, seed, epoch):
        """The Windows of an epoch, a function of (seed, epoch); each sentence is in exactly one of them."""
        n, ends = len(self), self.start + self.length
        u = 1 - uniforms(n, seed, epoch, 0, CUTS)  # subtle: in (0, 1]
        with np.errstate(over="ignore"):
            wanted = np.arange(n) + np.minimum(u**-self.spread, n).astype(np.int64)
        fitting = np.searchsorted(ends, self.start + self.most, side="right")
        end_of_document = np.searchsorted(self.document, self.document, side="right")
        after = np.minimum(np.minimum(wanted, fitting), end_of_document).tolist()
        chosen, i = [], 0
        while i < n:
            chosen.append(i)
            i = after[i]
        first = np.array(chosen, dtype=np.int64)
        last = np.array([*chosen[1:], n][: len(chosen)], dtype=np.int64) - 1
        start, length = self.start[first], ends[last] - self.start[first]
        starts, document = self.starts[first], self.document[first]
        return Windows(start, length, starts, self.ends[last], self.closed[last], document)

    def bounds(self):
        """As in Windows; an epoch has at least one cls per document, and a window lies within a document."""
        documents, ends = np.unique(self.document, return_index=True)[1], int(self.closed.sum() > 0)
        longest = np.add.reduceat(self.length, documents).max() if len(documents) else 0
        return int(self.length.sum()) + 2 * len(documents), min(self.most, int(longest)) + 1 + ends


def cut_windows(offsets, max_positions):
    """Cut every document into as few Windows as possible, all about equally long.

    offsets: (documents + 1,) where documents begin in the corpus. A window has cls and at most
    max_positions - 1 tokens, including eos where the document ends.

    Example: a document of 9 tokens and eos, max_positions = 6 -> windows of 5 tokens, and of 4 and eos.
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
    return Windows(offsets[:-1][document] + a, b - a - ends, piece == 0, ends, ends, document)


def cut_sentences(ids, offsets, sentence_ends, max_positions, spread=1.0):
    """Cut every document into its Sentences, each followed by eos; marks in a row end one sentence.

    ids: the corpus, 1-D; offsets as in `cut_windows`; sentence_ends: (V,) bool. A sentence of more than
    max_positions - 2 tokens (cls and eos must fit, too) is cut into as few pieces as possible, about equally
    long; eos follows the last.

    Example: a document "a b . c ." -> sentences of 3 and 2 tokens.
    """
    offsets, most = np.asarray(offsets, dtype=np.int64), max_positions - 2
    marks = sentence_ends[ids]
    marks[:-1] &= ~marks[1:]
    marks[offsets[1:] - 1] = True
    after = np.flatnonzero(marks) + 1
    lengths = np.diff(after, prepend=0)
    pieces = -(-lengths // most)
    sentence = np.repeat(np.arange(len(after)), pieces)
    piece = np.arange(len(sentence)) - (np.cumsum(pieces) - pieces)[sentence]
    a, b = (lengths[sentence] * (piece + k) // pieces[sentence] for k in (0, 1))
    start = (after - lengths)[sentence] + a
    document = np.searchsorted(offsets, start, side="right") - 1
    starts, ends = np.isin(start, offsets[:-1]), np.isin(start + b - a, offsets[1:])
    return Sentences(start, b - a, starts, ends, piece + 1 == pieces[sentence], document, most, spread)


def cut_as(settings, ids, offsets, sentence_ends, max_positions):
    """The Windows or Sentences of a corpus, by `settings.samples` (DataConfig)."""
    if settings.samples == "windows":
        return cut_windows(offsets, max_positions)
    return cut_sentences(ids, offsets, sentence_ends, max_positions, settings.spread)


def hold_out(windows, every=20, hashes=None):
    """Split into (training, held-out) windows: every `every`-th document is held out.

    hashes: (documents,) uint64; if given, a document is held out if its hash is a multiple of `every`,
    wherever it stands; if there is none, those with the smallest hash are. Else, with fewer documents, the
    last one is held out; with one document, its last windows (1 in `every`, but at least one). A single
    window is used for training.
    """
    documents = windows.document[-1] + 1 if len(windows) else 0
    if hashes is not None and documents > 1:
        chosen = hashes % np.uint64(every) == 0
        held_out = (chosen if chosen.any() else hashes == hashes.min())[windows.document]
    elif documents >= every:
        held_out = windows.document % every == every - 1
    elif documents > 1:
        held_out = windows.document == documents - 1
    else:
        held_out = np.arange(len(windows)) >= len(windows) - max(1, len(windows) // every)
        held_out &= len(windows) > 1
    return windows[~held_out], windows[held_out]


class SampleSource:
    """Draws samples from the windows of a corpus.

    ids: the corpus, 1-D; settings: DataConfig (mixture and span settings); sentence_ends: (V,) bool; family:
    see families.py. openers: (V,) ids that replace a sample's first token if it begins a sentence, or None.
    """

    def __init__(
        self,
        ids,
        windows,
        settings,
        sentence_ends,
        special=SpecialTokens(),  # noqa: B008
        seed=0,
        family="glm",
        openers=None,
    ):
        self.ids, self.windows, self.settings, self.seed = ids, windows, settings, seed
        self.sentence_ends, self.special, self.family = sentence_ends, special, family
        self.objectives, self.openers = objectives_of(family), openers
        # subtle: an epoch and its windows, set in one step, so that threads may share them
        self._current = None, None

    def in_epoch(self, epoch):
        """The Windows of an epoch."""
        current, windows = self._current
        if epoch != current:
            windows = self.windows.in_epoch(self.seed, epoch)
            self._current = epoch, windows
        return windows

    def begins_sentence(self, w, epoch=0):
        """Whether window w of an epoch begins with a new sentence."""
        windows = self.in_epoch(epoch)
        return bool(windows.starts[w] or self.sentence_ends[self.ids[windows.start[w] - 1]])

    def text(self, w, epoch=0):
        """The tokens of window w of an epoch: cls, text, and eos if the window is closed. int64."""
        windows, special = self.in_epoch(epoch), self.special
        text = self.ids[windows.start[w] : windows.start[w] + windows.length[w]]
        text = np.concatenate([[special.cls], text, [special.eos] * int(windows.closed[w])]).astype(np.int64)
        if self.openers is not None and self.begins_sentence(w, epoch):
            text[1] = self.openers[text[1]]
        return text

    def example(self, w, objective, rng, epoch=0):
        """The Example of window w of an epoch. Without a whole sentence the objective falls back to "token".

        Inside a document, eos is dropped for objectives that continue the text: there the text goes on.
        """
        tokens, s, windows = self.text(w, epoch), self.settings, self.in_epoch(epoch)
        if objective in RUNS_ON and windows.closed[w] and not windows.ends[w]:
            tokens = tokens[:-1]
        dials = dict(
            has_eos=bool(tokens[-1] == self.special.eos),
            mask_ratio=s.mask_ratio,
            mean_length=s.mean_span_length,
            max_length=s.max_span_length,
            blanks=s.blanks,
            document_ratio=(s.document_min_ratio, s.document_max_ratio),
            sentence_ends=self.sentence_ends,
            starts_sentence=self.begins_sentence(w, epoch),
        )
        return training_example(
            self.family, tokens, objective, rng, self.special, len(self.sentence_ends), dials
        )

    def draw(self, epoch, w):
        """(the objective drawn from the mixture, Example) of window w; Example.objective is the one used."""
        rng, s = Rng(self.seed, w, epoch, SPANS), self.settings
        if len(self.objectives) == 1:
            return self.family, self.example(w, self.family, rng, epoch)
        u = rng.uniform() * (s.token + s.sentence + s.document)
        if u < s.token:
            objective = "token"
        else:
            objective = "sentence" if u < s.token + s.sentence else "document"
        return objective, self.example(w, objective, rng, epoch)

    def held_out(self, w, objective):
        """The Example of window w for an objective; its spans do not depend on the seed of the run."""
        return self.example(w, objective, Rng(0, w, self.objectives.index(objective), HELD_OUT))


def sources(corpus, tokenizer, config):
    """The SampleSources of a Corpus under a RunConfig: (for training, held out and the same in every run)."""
    data, ends = config.data, tokenizer.sentence_ends()
    windows = cut_as(data, corpus.ids, corpus.offsets, ends, config.model.max_positions)
    hashes = corpus.hashes if data.held_out_by == "content" else None
    training, held_out = hold_out(windows, data.held_out_every, hashes)
    openers = tokenizer.openers() if data.samples == "sentences" else None
    how = dict(special=tokenizer.special, family=config.model.family, openers=openers)
    return (
        SampleSource(corpus.ids, training, data, ends, seed=config.train.seed, **how),
        SampleSource(corpus.ids, held_out.in_epoch(0, 0), data, ends, **how),
    )


class TrainingBatches:
    """The global batch of every step, as a function of (seed, step).

    An epoch's windows are cut where the running count of text tokens passes a multiple of the epoch's share,
    which is its number of tokens divided by its number of batches. So every epoch has the same number of
    batches, and a batch differs from its share by less than a sample. The share is at most `batch_tokens`,
    except for very short texts; it varies a little if windows are drawn anew. share: that of the first epoch.
    """

    def __init__(self, source, batch_tokens):
        self.source = source
        if not len(source.windows):
            raise MinglmError("the corpus has no sample to train on")
        total = int(source.in_epoch(0).sample_tokens().sum())
        fewest, longest = source.windows.bounds()
        # subtle: so few batches that none of them can be empty
        self.per_epoch = max(1, min(-(-total // batch_tokens), fewest // longest))
        self.share = total / self.per_epoch
        self._current = None, None, None  # an epoch, its order, its cuts: as in SampleSource

    def windows_of(self, step):
        """(epoch, window numbers of that step's global batch in order)."""
        epoch, k = divmod(step, self.per_epoch)
        current, order, cuts = self._current
        if epoch != current:
            lengths = self.source.in_epoch(epoch).sample_tokens()
            order = permutation(len(lengths), self.source.seed, epoch, 0, ORDER)
            begins = np.cumsum(lengths[order]) - lengths[order]
            batch = np.minimum(begins // (lengths.sum() / self.per_epoch), self.per_epoch - 1)
            cuts = np.searchsorted(batch, np.arange(self.per_epoch + 1))
            self._current = epoch, order, cuts
        return epoch, order[cuts[k] : cuts[k + 1]].tolist()

    def examples(self, step, rank=0, world=1):
        """A rank's own share of a step's global batch: list of (objective drawn, Example)."""
        epoch, windows = self.windows_of(step)
        return draw(self.source, epoch, windows[rank::world])
