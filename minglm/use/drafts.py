"""How blanks are written, many texts side by side: greedily, by sampling or by beam search."""

import math
import re
import reprlib
import sys
from dataclasses import dataclass, field
from numbers import Integral, Real

import torch

from ..batch import in_runs
from ..checks import check_pair
from ..errors import MinglmError, note
from ..families import Start, next_row, read_before, rows_of, start_of
from ..rng import SAMPLING, Rng
from .reader import Reader

MOST_BEAMS = 1000  # each holds the rows of its text in a cache of its own


MAX_ROWS = 16_384  # of the caches of texts that are filled together: 200 MB for a model like `tiny`


@dataclass(frozen=True)
class Dials:
    """How the next token is chosen, and when a blank ends.

    temperature 0 takes the likeliest token each time (greedy); above, tokens are drawn, from the top_k
    likeliest (0: all) and from the fewest that hold top_p of the probability. beams > 0 searches instead (see
    `beam_search`) and keeps the `top` best. length_penalty p divides the log-probability of a whole filling
    by its number of tokens ** p. min_tokens, max_tokens: of a blank; max_tokens is 40 for [MASK] unless given
    (or min_tokens, if that is more), otherwise as many as positions allow. Raises MinglmError for any other
    value, NaN and infinities too. no_repeat_ngram: no n tokens in a row come twice in one blank (0: they
    may). repetition_penalty: a token that the blank holds already has its log-probability multiplied by this
    (1: nothing; Keskar et al. 2019, arXiv 1909.05858, in logs).
    """

    top: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int | None = None
    min_tokens: int = 1  # no span is empty, so a model knows nothing of empty blanks
    beams: int = 0
    length_penalty: float = 0.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        beams, finite, tiny, any_ = MOST_BEAMS, sys.float_info.max, math.ulp(0.0), math.inf
        for name, kind, least, most, accepted in (
            ("top", Integral, 1, beams, f"a whole number from 1 to {beams}"),
            ("temperature", Real, 0, finite, "0 (greedy) or a number above it"),
            ("top_k", Integral, 0, any_, "0 (all) or a whole number above it"),
            ("top_p", Real, tiny, 1, "a number above 0, at most 1"),
            ("seed", Integral, -(2**63), 2**64 - 1, "a whole number of 64 bits"),
            ("max_tokens", Integral, 1, any_, "a whole number >= 1"),
            ("min_tokens", Integral, 0, any_, "a whole number >= 0"),
            ("beams", Integral, 0, beams, f"0 (no search) or a whole number up to {beams}"),
            ("length_penalty", Real, -10, 10, "a number from -10 to 10"),
            ("no_repeat_ngram", Integral, 0, any_, "0 (repeat freely) or a whole number above it"),
            ("repetition_penalty", Real, tiny, 1000, "a number above 0, at most 1000"),
        ):
            value = getattr(self, name)
            fine = isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most
            if not fine and not (name == "max_tokens" and value is None):
                raise MinglmError(f"{name}: {reprlib.repr(value)} is not accepted; {accepted} is")
        for name in ("top", "beams"):
            if getattr(self, name) > 1 and self.temperature > 0:
                raise MinglmError(
                    f"{name}: {getattr(self, name)} searches and draws nothing, so it does not go with "
                    f"temperature {self.temperature}"
                )
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise MinglmError(f"min_tokens: {self.min_tokens} is more than max_tokens = {self.max_tokens}")

    @property
    def width(self):
        """Beams to search with; 0 for none. Listing the `top` best needs as many."""
        return max(self.beams, self.top if self.top > 1 else 0)


@dataclass
class Gap:
    """A blank that is being filled: where its mask stands, how it begins and ends, how long it may grow, what stands there."""

    mask: int
    position: int
    start: Start
    stops: frozenset
    limit: int
    number: int  # among the blanks of the text, from 0
    spaced: bool = False  # the text has a blank before the mask
    tokens: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    complete: bool = False
    found: list = field(default_factory=list)  # of a beam search: (tokens, scores, complete), best first
    rng: Rng | None = None


class Draft:
    """A text as the model reads it, and its blanks. text: a str, or ids with mask tokens among them.

    may_cut: a text that is too long loses its beginning, up to its first blank at most; else it is refused.
    """

    def __init__(self, model, tokenizer, text, dials, order=None, number=0, may_cut=False):
        check_pair(model, tokenizer)
        self.number = number  # among the texts that are filled together
        special, positions, family = tokenizer.special, model.config.max_positions, model.config.family
        self.special, masks = special, special.masks
        self.ids = text if isinstance(text, list) else tokenizer.encode(text, special=True)
        self.is_text = torch.from_numpy(
            tokenizer.byte_lengths() > 0
        )  # (V,) special tokens stand for no bytes
        if foreign := [t for t in self.ids if not self.is_text[t] and t not in masks]:
            name = tokenizer.token_str(foreign[0])
            raise MinglmError(f"text: {name} cannot be typed; blanks are [MASK], [sMASK] and [gMASK]")
        where = [i for i, token in enumerate(self.ids) if token in masks]
        if not where:
            raise MinglmError(
                "text: no blank in it; write [MASK] for some words, [sMASK] for a sentence, [gMASK] for the rest"
            )
        # the original's interactive reading: a text that does not run on is a whole document. (A model
        # trained with [MASK] alone knows no mask that runs on, and ends every blank in eop or eos.)
        runs_on = self.ids[-1] == special.gmask != special.mask
        part_a = [special.cls, *self.ids] + ([] if runs_on else [special.eos])
        excess, self.cut = len(part_a) - positions, []
        if excess > 0 and (not may_cut or excess > where[0]):
            why = f", and the first blank stands at token {where[0] + 1}" if may_cut else ""
            raise MinglmError(
                f"text: {len(part_a)} tokens are longer than this model reads ({positions}){why}"
            )
        if excess > 0:
            note(f"the first {excess} tokens of the text were not read: this model reads {positions}")
            self.cut, self.ids = self.ids[:excess], self.ids[excess:]
            where = [i - excess for i in where]
            part_a = [special.cls, *part_a[1 + excess :]]
        if family in ("gpt", "prefix") and not (runs_on and len(where) == 1):
            raise MinglmError(
                f"text: a model that was trained as {family} writes on, and sees nothing behind a blank; a text "
                "that ends in its one blank, [gMASK], is accepted"
            )
        self.part_a, self.blanks = read_before(family, part_a, special), []
        self.part_a_len = len(part_a) - 1 if family == "prefix" else len(self.part_a)
        spaced = (
            _spaces_before([tokenizer.token_str(t) for t in masks], text) if isinstance(text, str) else None
        )
        for number, i in enumerate(where):
            stops = {special.eop, special.eos} if self.ids[i] == special.gmask else {special.eop}
            start = start_of(family, part_a, i + 1, special)
            most = (
                positions - start.positions[-1] if start.step else positions - 1
            )  # what the tables of positions hold
            if dials.min_tokens > most:
                given = reprlib.repr(dials.min_tokens)
                raise MinglmError(
                    f"min_tokens: {given} is more than this model's positions allow here ({most})"
                )
            usual = 40 if self.ids[i] == special.mask else positions
            limit = min(dials.max_tokens or max(usual, dials.min_tokens), most)
            spaced_here = bool(spaced and spaced[number])
            self.blanks.append(Gap(self.ids[i], i + 1, start, frozenset(stops), limit, number, spaced_here))
        if order is not None and sorted(order) != list(range(len(where))):
            raise MinglmError(
                f"order {list(order)} is not a permutation of 0 .. {len(where) - 1}, one entry for each blank"
            )
        self.todo = [self.blanks[k] for k in (order if order is not None else range(len(where)))]

    def room(self):
        """Rows of Part B that its blanks may come to."""
        return sum(gap.limit + len(gap.start.tokens) for gap in self.blanks)


def room_of(draft, answers):
    """Rows that given answers (lists of ids) to the blanks of a draft take."""
    return sum(len(gap.start.tokens) + len(tokens) for gap, tokens in zip(draft.blanks, answers, strict=True))


def fill_drafts(model, drafts, dials, on_token=None):
    """Fill the blanks of all drafts, by search where dials say so; returns the drafts."""
    if dials.width:
        for draft in drafts:
            search_blanks(Reader(model, [draft]), draft, dials)
    else:
        for run in in_runs(drafts, lambda draft: len(draft.part_a) + draft.room(), MAX_ROWS):
            write_blanks(Reader(model, run), run, dials, on_token)
    return drafts


def write_blanks(reader, drafts, dials, on_token=None):
    """Fill all blanks of all drafts, each text one row a step; what is chosen goes into the drafts' blanks."""
    current = [list(draft.todo) for draft in drafts]
    while any(current):
        rows, asking = [], []
        for draft, gaps in zip(drafts, current, strict=True):
            if not gaps:
                rows.append(((), (), ()))
                continue
            gap = gaps[0]
            rows.append(next_row(gap.start, gap.tokens) if gap.tokens else rows_of(gap.start, []))
            asking.append((draft, gaps))
        for (draft, gaps), log_p in zip(asking, reader.read(rows), strict=True):
            gap = gaps[0]
            gap.rng = gap.rng or Rng(dials.seed, gap.number, 0, SAMPLING)
            token = choose(bar(log_p, draft.is_text, gap.stops, gap.tokens, dials), dials, gap.rng)
            gap.complete = token in gap.stops
            if gap.complete or len(gap.tokens) < gap.limit:
                gap.scores.append(float(log_p[token]))
            if gap.complete or len(gap.tokens) == gap.limit:
                gaps.pop(0)
                continue
            gap.tokens.append(token)
            if on_token:
                on_token(draft.number, gap.number, gap.tokens)


def bar(log_p, is_text, stops, tokens, dials):
    """log_p (V,) after `tokens` with what may not come at -inf: special tokens but the stops, and what the dials forbid."""
    may_come = is_text.clone()
    may_come[list(stops)] = len(tokens) >= dials.min_tokens
    n = dials.no_repeat_ngram
    if n and len(tokens) >= n - 1:
        before = tokens[len(tokens) - n + 1 :]
        may_come[
            [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i : i + n - 1] == before]
        ] = False
    if dials.repetition_penalty != 1 and tokens:
        log_p = log_p.clone()
        log_p[tokens] *= dials.repetition_penalty
    return log_p.masked_fill(~may_come, -math.inf)


def choose(log_p, dials, rng=None):
    """One token of log-probabilities (V,): the likeliest at temperature 0, else drawn from what top_k and top_p leave."""
    best = log_p.max()
    if best == -math.inf:
        raise MinglmError(
            "min_tokens and no_repeat_ngram leave no token that may come; a lower min_tokens is accepted"
        )
    if dials.temperature == 0:
        return int(log_p.argmax())
    # subtle: the likeliest at 0, so that no temperature, however low, makes all of them -inf
    p, token = ((log_p - best).double() / dials.temperature).softmax(-1).sort(descending=True, stable=True)
    if dials.top_k:
        p[min(dials.top_k, len(p)) :] = 0
    # the fewest tokens that hold top_p: one goes when those before it hold that much already
    p[p.cumsum(0) - p >= dials.top_p * p.sum()] = 0
    drawn = torch.searchsorted(p.cumsum(0), rng.uniform() * p.sum(), right=True)
    return int(token[min(int(drawn), int((p > 0).sum()) - 1)])


def search_blanks(reader, draft, dials):
    """Fill the blanks of one draft by beam search; each blank takes the best filling, and the next one sees it."""
    for gap in draft.todo:
        gap.found = beam_search(reader, gap, draft.is_text, dials)
        gap.tokens, gap.scores, gap.complete = gap.found[0]
        reader.read([rows_of(gap.start, gap.tokens)], want=False)


def beam_search(reader, gap, is_text, dials):
    """The best fillings of a blank that `dials.width` beams meet, best first: a list of (tokens, scores, complete).

    Each step ends every beam once and goes on with the `width` likeliest continuations of all of them. A
    filling's score is the sum of its log-probabilities / tokens ** length_penalty; the `width` best are kept,
    and the search stops when their worst is no worse than the best that still runs. At the limit of tokens
    the running ones count as they stand, without an end, unless only the `top` whole ones are asked for. (The
    original ends a beam only where its end is among the first `width` continuations, so it may miss a filling
    that is kept here; with its settings its recorded results come out.)
    """
    width, kept = dials.width, []
    running, sums = [([], [])], torch.zeros(1)
    reader = reader.fork([0])
    log_p = reader.read([rows_of(gap.start, [])])  # (beams, V)

    def keep(tokens, scores, complete):
        kept.append(
            (sum(scores) / max(1, len(tokens)) ** dials.length_penalty, len(kept), (tokens, scores, complete))
        )
        kept.sort(key=lambda k: -k[0])
        del kept[width:]

    while True:
        length = len(running[0][0])  # all have grown equally long
        total = torch.stack(
            [
                so_far + bar(row, is_text, gap.stops, tokens, dials)
                for so_far, row, (tokens, _) in zip(sums, log_p, running, strict=True)
            ]
        )  # (beams, V)
        for (tokens, scores), row, totals in zip(running, log_p, total, strict=True):
            for stop in gap.stops:
                if totals[stop] > -math.inf:
                    keep(tokens, [*scores, float(row[stop])], True)
        going = total.clone()
        going[:, list(gap.stops)] = -math.inf
        best = going.flatten().topk(min(width, int((going > -math.inf).sum())))
        going_on = []
        for value, i in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            beam, token = divmod(i, log_p.shape[1])
            tokens, scores = running[beam]
            going_on.append((beam, token, ([*tokens, token], [*scores, float(log_p[beam, token])]), value))
        done = (
            len(kept) == width and kept[-1][0] >= float(total.max()) / max(1, length) ** dials.length_penalty
        )
        if done or not going_on:
            break
        if length == gap.limit:
            for tokens, scores in running if dials.beams or len(kept) < width else ():
                keep(tokens, scores, False)
            break
        running, sums = (
            [hypothesis for _, _, hypothesis, _ in going_on],
            torch.tensor([value for *_, value in going_on]),
        )
        reader.cache.select([beam for beam, *_ in going_on])
        log_p = reader.read([next_row(gap.start, tokens) for _, _, (tokens, _), _ in going_on])
    if not kept:
        raise MinglmError(
            "min_tokens and no_repeat_ngram leave no token that may come; a lower min_tokens is accepted"
        )
    return [filling for _, _, filling in kept]


def _spaces_before(masks, text):
    """For each mask in a text, whether white space stands before it."""
    return [bool(found[1]) for found in re.finditer(rf"(\s?)(?:{'|'.join(map(re.escape, masks))})", text)]
