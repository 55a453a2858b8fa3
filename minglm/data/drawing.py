"""The samples of many windows at once: what `SampleSource.draw` gives, about ten times as fast.

The definition is samples.py with spans.py, infilling.py and families.py; it treats one sample at a time and
is what to read. Here the same words of the same random streams give the same arrays, bit for bit. Two ideas:

    flat      the values of all samples stand end to end in one array, `counts` says how many each sample has;
              then one call of numpy does for all samples what a loop in the definition does for one
    streams   a window's random words are a function of (seed, window, epoch) and their number, so they are
              computed for all windows at once, as many as are needed

The definition draws a word again if it would favour small numbers, about once in ten million; here this hands
the whole list of windows to the definition (Redrawn).
"""

import numpy as np

from ..families import RUNS_ON, SENTINELS, WORDS
from ..infilling import Example
from ..rng import MASK32, SPANS, philox
from ..spans import OBJECTIVES, mean_length_of, poisson_cdf

TOKEN, SENTENCE, DOCUMENT = range(3)  # the objectives by number


class Redrawn(Exception):
    """A word that the definition would draw again."""


def draw(source, epoch, windows):
    """[source.draw(epoch, w) for w in windows], a list of (objective drawn, Example), but faster."""
    if len(windows):
        try:
            texts = Texts(source, epoch, np.asarray(windows))
            if texts.words.min() > 0:
                return DRAWERS.get(source.family, infill)(texts)
        except Redrawn:
            pass
    return [source.draw(epoch, w) for w in windows]


# ---- flat arrays -----------------------------------------------------------------------------------------


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


# ---- streams ---------------------------------------------------------------------------------------------


class Streams:
    """The random streams of n windows, Rng(seed, window, epoch, SPANS) each, and how far each was read."""

    def __init__(self, seed, windows, epoch):
        self.key = (int(seed) & MASK32, (int(seed) >> 32) & MASK32)
        self.windows, self.epoch = windows.astype(np.uint64), int(epoch) & MASK32
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
        """Rng.shuffle of each sample's numbers, which are counted through: a permutation of all of them."""
        steps = np.maximum(counts - 1, 0)
        place = np.repeat(counts, steps) - 1 - within(steps)  # n - 1, ..., 1
        other = self.integers(which, steps, place + 1)
        first = np.repeat(before(counts)[:-1], steps)
        order = list(range(int(counts.sum())))
        for i, j in zip((first + place).tolist(), (first + other).tolist(), strict=True):
            order[i], order[j] = order[j], order[i]
        return np.array(order, dtype=np.int64)


# ---- texts -----------------------------------------------------------------------------------------------


class Texts:
    """The texts of some windows, end to end, and the objective of each.

    text: (all tokens,); first: (n,) where each text begins in it; lengths: (n,) with cls and eos; has_eos:
    (n,) bool; words: (n,) without cls and eos. drawn: (n,) the objective from the mixture, by number.
    """

    def __init__(self, source, epoch, numbers):
        self.source, self.settings, self.special = source, source.settings, source.special
        windows = source.in_epoch(epoch)[numbers]
        self.streams, self.all = Streams(source.seed, numbers, epoch), np.arange(len(numbers))
        self.most = self.most_token_spans(windows.sample_tokens())
        self.streams.prepare(2 + self.most)
        self.drawn = self.objectives() if len(source.objectives) > 1 else np.zeros_like(numbers)

        runs_on = self.drawn == DOCUMENT if len(source.objectives) > 1 else source.family in RUNS_ON
        closed = windows.closed & (windows.ends | ~np.asarray(runs_on))
        self.lengths = 1 + windows.length + closed
        self.first = before(self.lengths)[:-1]
        at = np.repeat(windows.start - 1, self.lengths) + within(self.lengths)
        ids = np.asarray(source.ids)
        self.text = ids.take(at, mode="clip").astype(np.int64)  # subtle: cls and eos replace what is outside
        last = self.first + self.lengths - 1
        self.text[self.first], self.text[last[closed]] = self.special.cls, self.special.eos
        self.begins = windows.starts | source.sentence_ends[ids.take(windows.start - 1, mode="clip")]
        if source.openers is not None:
            opening = self.first[self.begins] + 1
            self.text[opening] = source.openers[self.text[opening]]
        self.has_eos = self.text[last] == self.special.eos
        self.words = self.lengths - 1 - self.has_eos

    def objectives(self):
        """The objective of each window, drawn from the mixture by its first word."""
        s = self.settings
        u = self.streams.peek(self.all, np.ones_like(self.all)) / 2**32 * (s.token + s.sentence + s.document)
        self.streams.read += 1
        return (u >= s.token).astype(np.int64) + (u >= s.token + s.sentence)

    def most_token_spans(self, lengths):
        """As many spans as `token_spans` can draw, or more: (n,)."""
        s = self.settings
        if s.blanks == "budget":
            return np.maximum(1, (s.mask_ratio * lengths).astype(np.int64))
        mean = mean_length_of(s.mean_span_length, s.max_span_length)
        return np.maximum(1, np.rint(2 * (s.mask_ratio * lengths) / mean).astype(np.int64) - 1)

    def examples(self, tokens, positions, block_positions, targets, part_a_lens, target_rows, used):
        """The list of (objective drawn, Example) whose flat arrays these are.

        tokens, positions, block_positions: (rows, flat array); targets and target_rows likewise.
        """
        (lens, tokens), (learned, targets) = tokens, targets
        names, special = self.source.objectives, self.special
        rows, learned = before(lens).tolist(), before(learned).tolist()
        many = self.drawn, part_a_lens, self.lengths, used
        return [
            (
                names[drawn],
                Example(
                    tokens[a:b],
                    positions[a:b],
                    block_positions[a:b],
                    targets[c:d],
                    A,
                    length,
                    names[objective],
                    special,
                    target_rows[c:d],
                ),
            )
            for drawn, A, length, objective, a, b, c, d in zip(
                *(x.tolist() for x in many), rows[:-1], rows[1:], learned[:-1], learned[1:], strict=True
            )
        ]


# ---- spans -----------------------------------------------------------------------------------------------


def spans_of(texts):
    """The objective used for each text, by number, and its spans: two (n,) arrays, two flat ones.

    -> objectives, counts, and the first token and the end of every span, in text order
    """
    used, counts = texts.drawn.copy(), np.ones_like(texts.drawn)
    which = np.flatnonzero(used == SENTENCE)
    number, *sentences = whole_sentences(texts, which)
    used[which[number == 0]] = TOKEN
    token, sentence, document = (np.flatnonzero(used == objective) for objective in range(3))
    number = number[number > 0]
    counts[token], lengths = token_lengths(texts, token)
    needed = 3 * counts  # places, and two shuffles
    needed[sentence] = 2 * number
    texts.streams.prepare(needed)
    found = token_spans(texts, token, counts[token], lengths), document_spans(texts, document)
    counts[sentence], *chosen = sentence_spans(texts, sentence, number, *sentences)
    sample = np.concatenate([np.repeat(which, counts[which]) for which in (token, document, sentence)])
    in_order = np.argsort(sample, kind="stable")
    start, end = (np.concatenate(x)[in_order] for x in zip(*found, chosen, strict=True))
    return used, counts, start, end


def token_lengths(texts, which):
    """How many spans `token_spans` draws, (n,), and their lengths in the order drawn, flat."""
    s, streams, most = texts.settings, texts.streams, texts.most[which]
    count = budget = np.iinfo(np.int64).max
    if s.blanks == "drawn":
        count = np.repeat(1 + streams.integers(which, np.ones_like(which), most), most)
    else:
        budget = np.repeat(most, most)
    cdf = poisson_cdf(s.mean_span_length, s.max_span_length)
    length = 1 + np.searchsorted(cdf, streams.peek(which, most) / 2**32, side="right")
    number, blanked = within(most), so_far(length, most)
    room = np.repeat(texts.words[which], most) - blanked - number
    drawn = (room >= 1) & (blanked < budget) & (number < count)  # the first few of each text
    counts = sums(drawn, most)
    streams.read[which] += counts
    return counts, np.minimum(length, room)[drawn]


def token_spans(texts, which, counts, lengths):
    """Shuffle the lengths and place the spans: first tokens and ends, flat."""
    streams = texts.streams
    lengths = lengths[streams.shuffled(which, counts)]
    free = texts.words[which] - sums(lengths, counts) - counts + 1
    slots = streams.integers(which, counts, np.repeat(free + 1, counts))
    sample = np.repeat(np.arange(len(which)) * (1 << 32), counts)
    start = 1 + np.sort(sample + slots) - sample + so_far(lengths + 1, counts)
    return start, start + lengths


def whole_sentences(texts, which):
    """The number of complete sentences of each text, (n,), their first tokens and ends, flat."""
    words, has_eos = texts.words[which], texts.has_eos[which]
    at = within(words)
    ends = texts.source.sentence_ends[texts.text[np.repeat(texts.first[which] + 1, words) + at]]
    ends[(before(words)[1:] - 1)[has_eos]] = True
    marks = np.flatnonzero(ends)
    sample = np.repeat(np.arange(len(which)), words)[marks]
    end = at[marks] + 2
    is_first = np.diff(sample, prepend=-1) > 0
    start = np.where(is_first, 1, np.roll(end, 1))
    whole = ~is_first | texts.begins[which][sample]
    return np.bincount(sample[whole], minlength=len(which)), start[whole], end[whole]


def sentence_spans(texts, which, counts, start, end):
    """Random sentences until the budget is blanked: how many of each text, (n,), first tokens and ends."""
    budget = np.maximum(1, (texts.settings.mask_ratio * texts.lengths[which]).astype(np.int64))
    order = texts.streams.shuffled(which, counts)
    chosen = so_far((end - start)[order], counts) < np.repeat(budget, counts)
    order = np.sort(order[chosen])
    return sums(chosen, counts), start[order], end[order]


def document_spans(texts, which):
    """One span at the end of each text: first tokens and ends."""
    s, end = texts.settings, texts.lengths[which]
    shortest = np.maximum(1, np.ceil(s.document_min_ratio * (end - 1)).astype(np.int64))
    longest = np.maximum(shortest, np.floor(s.document_max_ratio * (end - 1)).astype(np.int64))
    return end - shortest - texts.streams.integers(which, np.ones_like(which), longest - shortest + 1), end


# ---- rows ------------------------------------------------------------------------------------------------


def infill(texts):
    """Draw spans and lay out Part A and Part B, as `training_example` does for GLM and its ablations."""
    source, special = texts.source, texts.special
    used, counts, start, end = spans_of(texts)
    order = np.arange(len(start))
    if source.family != "glm-ordered":
        order = texts.streams.shuffled(texts.all, counts)
    lengths, first = end - start, start + np.repeat(texts.first, counts)

    text, keep = texts.text.copy(), np.ones(len(texts.text), dtype=bool)
    keep[np.repeat(first, lengths) + within(lengths)] = False
    keep[first] = True
    text[first] = np.repeat(np.array([special.mask_of(name) for name in OBJECTIVES])[used], counts)
    part_a = text[keep]
    a_lens = texts.lengths - sums(lengths - 1, counts)
    mask_position = start - so_far(lengths - 1, counts)
    if source.family == "glm-sentinels":
        blanks = np.flatnonzero(part_a == special.mask)
        number = within(sums(part_a == special.mask, a_lens))
        part_a[blanks] = np.array(SENTINELS)[number % len(SENTINELS)]

    first, lengths = first[order], lengths[order]
    goes_on = np.repeat((used == DOCUMENT) & ~texts.has_eos, counts)  # a cut text: no eop
    rows = lengths + ~goes_on
    at = within(rows)
    targets = texts.text.take(np.repeat(first, rows) + at, mode="clip")
    targets[(before(rows)[1:] - 1)[~goes_on]] = special.eop
    part_b = np.concatenate([targets[:1], targets[:-1]])
    part_b[at == 0] = special.sop

    b_lens = sums(rows, counts)
    lens = a_lens + b_lens
    in_b = np.repeat(np.tile([False, True], len(lens)), np.stack([a_lens, b_lens], axis=1).ravel())
    tokens, positions, blocks = (
        np.empty(len(in_b), dtype=np.int64),
        within(lens),
        np.zeros_like(in_b, np.int64),
    )
    tokens[~in_b], tokens[in_b] = part_a, part_b
    target_rows = positions[in_b]
    positions[in_b] = np.repeat(mask_position[order], rows)
    if source.family != "glm-1d":
        blocks[in_b] = at + 1
    return texts.examples((lens, tokens), positions, blocks, (b_lens, targets), a_lens, target_rows, used)


def continue_text(texts):
    """Lay out gpt and prefix, as `training_example` does: each row predicts the next token."""
    start = np.ones_like(texts.all)
    if texts.source.family == "prefix":
        start, _ = document_spans(texts, texts.all)
    part_a_lens = start if texts.source.family == "prefix" else np.zeros_like(start)
    lens, learned = texts.lengths - 1, texts.lengths - start
    number = within(learned) + np.repeat(start, learned)
    targets = texts.text[np.repeat(texts.first, learned) + number]
    tokens, positions = np.delete(texts.text, texts.first + lens), within(lens)
    blocks, used = np.zeros_like(positions), np.zeros_like(lens)
    return texts.examples(
        (lens, tokens), positions, blocks, (learned, targets), part_a_lens, number - 1, used
    )


def hide_words(texts):
    """Lay out bert, as `bert_example` does: some words become [MASK], a few a random token."""
    tokens, special, vocab_size = texts.text.copy(), texts.special, len(texts.source.sentence_ends)
    share = np.minimum(
        texts.words, np.maximum(1, (texts.settings.mask_ratio * texts.lengths).astype(np.int64))
    )
    texts.streams.prepare(texts.words + 2 * share)
    order = texts.streams.shuffled(texts.all, texts.words)
    chosen = np.sort(order[within(texts.words) < np.repeat(share, texts.words)])
    rows = chosen - np.repeat(before(texts.words)[:-1], share) + 1
    at = rows + np.repeat(texts.first, share)
    targets, limit = tokens[at], 2**32 - 2**32 % (vocab_size - WORDS)
    words, becomes = texts.streams.peek(texts.all, 2 * share).tolist(), []
    for begin, number in zip(2 * before(share), share.tolist(), strict=False):
        mine = iter(words[begin : begin + 2 * number])
        for _ in range(number):
            u = next(mine) / 2**32
            if 0.8 <= u < 0.9:
                if (word := next(mine)) >= limit:
                    raise Redrawn
                becomes.append(WORDS + word % (vocab_size - WORDS))
            else:
                becomes.append(special.mask if u < 0.8 else -1)
    becomes = np.array(becomes, dtype=np.int64)
    tokens[at] = np.where(becomes >= 0, becomes, targets)
    lens, positions = texts.lengths, within(texts.lengths)
    blocks, used = np.zeros_like(positions), np.zeros_like(lens)
    return texts.examples((lens, tokens), positions, blocks, (share, targets), lens, rows, used)


DRAWERS = {"gpt": continue_text, "prefix": continue_text, "bert": hide_words}  # all others: infill
