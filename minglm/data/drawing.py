"""The samples of many windows at once: what `SampleSource.draw` gives, several times as fast.

The definition is samples.py with spans.py, infilling.py and families.py. It treats one sample at a time; read
that. Here the same words of the same random streams give the same arrays, bit for bit. Two ideas:

    flat      the values of all samples stand end to end in one array, and `counts` says how many each has;
              so one call of numpy does for all samples what a loop in the definition does for one
    streams   a random word is a function of (seed, epoch, window) and its number, so the words of all windows
              are computed at once, as many as are needed

A word that would favour small numbers is drawn again, about once in ten million times. This module then
leaves the whole list of windows to the definition (Redrawn).
"""

import numpy as np

from ..families import RUNS_ON, SENTINELS, WORDS
from ..infilling import Example
from ..spans import OBJECTIVES, mean_length_of, poisson_cdf
from .flat import Redrawn, Streams, before, so_far, sums, within

TOKEN, SENTENCE, DOCUMENT = range(3)  # the objectives by number


def draw(source, epoch, windows):
    """[source.draw(epoch, w) for w in windows], a list of (objective drawn, Example), but faster."""
    if len(windows):
        try:
            texts = Texts(source, epoch, np.asarray(windows))
            if texts.inner.min() > 0:  # else the definition says what is wrong
                return DRAWERS.get(source.family, infill)(texts)
        except Redrawn:
            pass
    return [source.draw(epoch, w) for w in windows]


# ---- texts -----------------------------------------------------------------------------------------------


class Texts:
    """The texts of some windows, end to end, and the objective of each.

    text: (all tokens,); first: (n,) where each text begins in it; lengths: (n,) with cls and eos; has_eos:
    (n,) bool; inner: (n,) lengths without cls and eos. drawn: (n,) the objective from the mixture, by number.
    streams: of all windows; all: their numbers 0 .. n-1. budget: (n,) tokens to blank; most: (n,) token spans
    at most.
    """

    def __init__(self, source, epoch, numbers):
        self.source, self.settings, self.special = source, source.settings, source.special
        windows = source.in_epoch(epoch)[numbers]
        self.streams, self.all = Streams(source.seed, numbers, epoch), np.arange(len(numbers))
        # subtle: windows that lose their eos below are for documents, which have no budget
        budget = self.settings.mask_ratio * windows.sample_tokens()
        self.budget = np.maximum(1, budget.astype(np.int64))
        self.most = self.budget if self.settings.blanks == "budget" else self.most_drawn(budget)
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
        self.inner = self.lengths - 1 - self.has_eos

    def objectives(self):
        """The objective of each window, drawn from the mixture by its first word."""
        s = self.settings
        u = self.streams.peek(self.all, np.ones_like(self.all)) / 2**32 * (s.token + s.sentence + s.document)
        self.streams.read += 1
        return (u >= s.token).astype(np.int64) + (u >= s.token + s.sentence)

    def most_drawn(self, budget):
        """The most spans that `span_count` can give: (n,)."""
        mean = mean_length_of(self.settings.mean_span_length, self.settings.max_span_length)
        return np.maximum(1, np.rint(2 * budget / mean).astype(np.int64) - 1)

    def examples(self, lens, rows, learned, targets, part_a_lens, used):
        """The list of (objective drawn, Example) of flat arrays.

        lens, learned: (n,) the number of rows and of targets. rows: tokens, positions and block positions,
        flat; targets: the targets and their rows, flat. used: (n,) the objective of the Example, by number.
        """
        names, at, to = self.source.objectives, before(lens).tolist(), before(learned).tolist()
        many = (x.tolist() for x in (self.drawn, part_a_lens, self.lengths, used))
        (tokens, positions, blocks), (targets, target_rows), special = rows, targets, self.special
        return [
            (
                names[drawn],
                Example(
                    tokens=tokens[a:b],
                    position_ids=positions[a:b],
                    block_position_ids=blocks[a:b],
                    targets=targets[c:d],
                    part_a_len=A,
                    text_len=length,
                    objective=names[objective],
                    special=special,
                    target_rows=target_rows[c:d],
                ),
            )
            for drawn, A, length, objective, a, b, c, d in zip(
                *many, at[:-1], at[1:], to[:-1], to[1:], strict=True
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
        budget = np.repeat(texts.budget[which], most)
    cdf = poisson_cdf(s.mean_span_length, s.max_span_length)
    length = 1 + np.searchsorted(cdf, streams.peek(which, most) / 2**32, side="right")
    number, blanked = within(most), so_far(length, most)
    room = np.repeat(texts.inner[which], most) - blanked - number
    drawn = (room >= 1) & (blanked < budget) & (number < count)  # the first few of each text
    counts = sums(drawn, most)
    streams.read[which] += counts
    return counts, np.minimum(length, room)[drawn]


def token_spans(texts, which, counts, lengths):
    """Shuffle the lengths and place the spans: first tokens and ends, flat."""
    streams = texts.streams
    lengths = lengths[streams.shuffled(which, counts)]
    free = texts.inner[which] - sums(lengths, counts) - counts + 1
    slots = streams.integers(which, counts, np.repeat(free + 1, counts))
    sample = np.repeat(np.arange(len(which)) * (1 << 32), counts)
    start = 1 + np.sort(sample + slots) - sample + so_far(lengths + 1, counts)
    return start, start + lengths


def whole_sentences(texts, which):
    """The number of complete sentences of each text, (n,), their first tokens and ends, flat."""
    inner, has_eos = texts.inner[which], texts.has_eos[which]
    at = within(inner)
    ends = texts.source.sentence_ends[texts.text[np.repeat(texts.first[which] + 1, inner) + at]]
    ends[(before(inner)[1:] - 1)[has_eos]] = True  # the last sentence may have no mark
    marks = np.flatnonzero(ends)
    sample = np.repeat(np.arange(len(which)), inner)[marks]
    end = at[marks] + 2
    is_first = np.diff(sample, prepend=-1) > 0
    start = np.where(is_first, 1, np.roll(end, 1))
    whole = ~is_first | texts.begins[which][sample]
    return np.bincount(sample[whole], minlength=len(which)), start[whole], end[whole]


def sentence_spans(texts, which, counts, start, end):
    """Random sentences until the budget is blanked: how many of each text, (n,), first tokens and ends."""
    order = texts.streams.shuffled(which, counts)
    chosen = so_far((end - start)[order], counts) < np.repeat(texts.budget[which], counts)
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
        is_blank = part_a == special.mask
        part_a[is_blank] = np.array(SENTINELS)[within(sums(is_blank, a_lens)) % len(SENTINELS)]

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
    tokens, positions, blocks = np.empty(len(in_b), np.int64), within(lens), np.zeros(len(in_b), np.int64)
    tokens[~in_b], tokens[in_b] = part_a, part_b
    target_rows = positions[in_b]
    positions[in_b] = np.repeat(mask_position[order], rows)
    if source.family != "glm-1d":
        blocks[in_b] = at + 1
    return texts.examples(
        lens, (tokens, positions, blocks), b_lens, (targets, target_rows), part_a_lens=a_lens, used=used
    )


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
    rows = tokens, positions, np.zeros_like(positions)
    return texts.examples(lens, rows, learned, (targets, number - 1), part_a_lens, used=texts.drawn)


def hide_words(texts):
    """Lay out bert, as `bert_example` does: some words become [MASK], a few a random token."""
    tokens, special, vocab_size = texts.text.copy(), texts.special, len(texts.source.sentence_ends)
    share = np.minimum(texts.inner, texts.budget)
    texts.streams.prepare(texts.inner + 2 * share)
    order = texts.streams.shuffled(texts.all, texts.inner)
    chosen = np.sort(order[within(texts.inner) < np.repeat(share, texts.inner)])
    rows = chosen - np.repeat(before(texts.inner)[:-1], share) + 1
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
    positions = within(texts.lengths)
    columns = tokens, positions, np.zeros_like(positions)
    return texts.examples(
        texts.lengths, columns, share, (targets, rows), part_a_lens=texts.lengths, used=texts.drawn
    )


DRAWERS = {"gpt": continue_text, "prefix": continue_text, "bert": hide_words}  # all others: infill
