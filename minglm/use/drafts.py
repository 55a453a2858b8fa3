"""Fill the blanks of many texts side by side: greedy decoding, sampling or beam search."""

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

MOST_BEAMS = 1000  # each has a cache of its own for the rows of its text
# the most rows in the caches of texts that are filled together: 200 MB for a model like `tiny`
CACHE_ROWS = 16_384


@dataclass(frozen=True)
class Dials:
    """How the next token is chosen, and when a blank ends.

    temperature: 0 takes the likeliest token (greedy decoding); above 0, tokens are sampled from the top_k
    likeliest (0: all) and from the smallest set that holds top_p of the probability. beams: if > 0, search
    instead (see `beam_search`) and keep the `top` best. length_penalty p: the log-probability of a filling is
    divided by its number of tokens ** p. min_tokens, max_tokens: of a blank. Without max_tokens, [MASK] gets
    40 (or min_tokens, if more) and the other masks as many as positions allow. no_repeat_ngram n: no n tokens
    in a row come twice in one blank (0: they may). repetition_penalty: multiplies the log-probability of
    tokens that the blank already holds (1: off; Keskar et al. 2019, arXiv 1909.05858, in logs). Raises
    MinglmError for any other value, including NaN and infinities.
    """

    top: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int | None = None
    min_tokens: int = 1  # spans are never empty in training, so the model has not learned empty blanks
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
            if (value := getattr(self, name)) > 1 and self.temperature > 0:
                why = f"does not go with temperature {self.temperature}"
                raise MinglmError(f"{name}: {value} searches and does not sample, so it {why}")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise MinglmError(f"min_tokens: {self.min_tokens} is more than max_tokens = {self.max_tokens}")

    @property
    def width(self):
        """The number of beams; 0 for no search. Listing the `top` best needs at least `top` beams."""
        return max(self.beams, self.top if self.top > 1 else 0)


@dataclass
class Gap:
    """Work in progress: a blank while it is being filled. (`generate.Blank` is the result of that work.)

    position: of its mask in Part A. stops: the ids that end it. limit: its most tokens.
    """

    mask: int
    position: int
    start: Start
    stops: frozenset
    limit: int
    number: int  # among the blanks of the text, from 0
    spaced: bool = False  # there is a space before the mask
    tokens: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    complete: bool = False
    found: list = field(default_factory=list)  # by beam search: (tokens, scores, complete), best first
    rng: Rng | None = None


class Draft:
    """A text as the model reads it, and its blanks. text: a str, or ids with mask tokens among them.

    may_cut: a text that is too long loses its beginning, at most up to its first blank; otherwise it is
    refused.
    """

    def __init__(self, model, tokenizer, text, dials, order=None, number=0, may_cut=False):
        check_pair(model, tokenizer)
        self.number = number  # among the texts that are filled together
        special, positions, family = tokenizer.special, model.config.max_positions, model.config.family
        self.special, masks = special, special.masks
        self.ids = text if isinstance(text, list) else tokenizer.encode(text, special=True)
        self.is_text = torch.from_numpy(tokenizer.byte_lengths() > 0)  # (V,) special tokens have no bytes
        if foreign := [t for t in self.ids if not self.is_text[t] and t not in masks]:
            name = tokenizer.token_str(foreign[0])
            raise MinglmError(f"text: {name} cannot be typed; blanks are [MASK], [sMASK] and [gMASK]")
        where = [i for i, token in enumerate(self.ids) if token in masks]
        if not where:
            how = "write [MASK] for some words, [sMASK] for a sentence, [gMASK] for the rest"
            raise MinglmError(f"text: no blank in it; {how}")
        # As in the original's interactive mode: only a text that ends in [gMASK] runs on; any other is a
        # whole document and gets eos. (A model trained with [MASK] alone has no mask that runs on.)
        runs_on = self.ids[-1] == special.gmask != special.mask
        part_a = [special.cls, *self.ids] + ([] if runs_on else [special.eos])
        excess, self.cut = len(part_a) - positions, []
        if excess > 0 and (not may_cut or excess > where[0]):
            why = f", and the first blank stands at token {where[0] + 1}" if may_cut else ""
            what = f"{len(part_a)} tokens are longer than this model reads ({positions})"
            raise MinglmError(f"text: {what}{why}")
        if excess > 0:
            note(f"the first {excess} tokens of the text were not read: this model reads {positions}")
            self.cut, self.ids = self.ids[:excess], self.ids[excess:]
            where = [i - excess for i in where]
            part_a = [special.cls, *part_a[1 + excess :]]
        if family in ("gpt", "prefix") and not (runs_on and len(where) == 1):
            why = f"a model that was trained as {family} writes on, and sees nothing behind a blank"
            raise MinglmError(f"text: {why}; a text that ends in its one blank, [gMASK], is accepted")
        self.part_a, self.blanks = read_before(family, part_a, special), []
        self.part_a_len = len(part_a) - 1 if family == "prefix" else len(self.part_a)
        spaces = []
        if isinstance(text, str):
            spaces = _spaces_before([tokenizer.token_str(t) for t in masks], text)
        for number, i in enumerate(where):
            stops = {special.eop, special.eos} if self.ids[i] == special.gmask else {special.eop}
            start = start_of(family, part_a, i + 1, special)
            # the size of the position tables is the limit
            most = positions - start.positions[-1] if start.step else positions - 1
            if dials.min_tokens > most:
                what = f"{reprlib.repr(dials.min_tokens)} is more than this model's positions allow here"
                raise MinglmError(f"min_tokens: {what} ({most})")
            usual = 40 if self.ids[i] == special.mask else positions
            limit = min(dials.max_tokens or max(usual, dials.min_tokens), most)
            spaced = bool(spaces and spaces[number])
            self.blanks.append(Gap(self.ids[i], i + 1, start, frozenset(stops), limit, number, spaced))
        if order is None:
            order = range(len(where))
        if sorted(order) != list(range(len(where))):
            raise MinglmError(
                f"order {list(order)} is not a permutation of 0 .. {len(where) - 1}, one entry for each blank"
            )
        self.todo = [self.blanks[k] for k in order]

    def room(self):
        """The most rows of Part B that its blanks can need."""
        return sum(gap.limit + len(gap.start.tokens) for gap in self.blanks)


def room_of(draft, answers):
    """The rows that given answers (lists of ids) to the blanks of a draft take."""
    return sum(len(gap.start.tokens) + len(tokens) for gap, tokens in zip(draft.blanks, answers, strict=True))


def fill_drafts(model, drafts, dials, on_token=None):
    """Fill the blanks of all drafts, by beam search if the dials ask for it; returns the drafts."""
    if dials.width:
        for draft in drafts:
            search_blanks(Reader(model, [draft]), draft, dials)
    else:
        for run in in_runs(drafts, lambda draft: len(draft.part_a) + draft.room(), CACHE_ROWS):
            write_blanks(Reader(model, run), run, dials, on_token)
    return drafts


def write_blanks(reader, drafts, dials, on_token=None):
    """Fill all blanks of all drafts in place, one row per text and step, greedily or by sampling."""
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
    """log_p (V,) after `tokens`, with -inf for special tokens other than stops and where the dials say so."""
    may_come = is_text.clone()
    may_come[list(stops)] = len(tokens) >= dials.min_tokens
    n = dials.no_repeat_ngram
    if n and len(tokens) >= n - 1:
        before, starts = tokens[len(tokens) - n + 1 :], range(len(tokens) - n + 1)
        may_come[[tokens[i + n - 1] for i in starts if tokens[i : i + n - 1] == before]] = False
    if dials.repetition_penalty != 1 and tokens:
        log_p = log_p.clone()
        log_p[tokens] *= dials.repetition_penalty
    return log_p.masked_fill(~may_come, -math.inf)


NO_TOKEN = "min_tokens and no_repeat_ngram leave no token that may come; a lower min_tokens is accepted"


def choose(log_p, dials, rng=None):
    """A token chosen by log-probabilities (V,): the likeliest at temperature 0, else a sample."""
    best = log_p.max()
    if best == -math.inf:
        raise MinglmError(NO_TOKEN)
    if dials.temperature == 0:
        return int(log_p.argmax())
    # subtle: shifted so that the best is 0; otherwise a very low temperature would make all of them -inf
    p, token = ((log_p - best).double() / dials.temperature).softmax(-1).sort(descending=True, stable=True)
    if dials.top_k:
        p[min(dials.top_k, len(p)) :] = 0
    # the smallest set that holds top_p: a token is dropped if those before it already hold that much
    p[p.cumsum(0) - p >= dials.top_p * p.sum()] = 0
    drawn = torch.searchsorted(p.cumsum(0), rng.uniform() * p.sum(), right=True)
    return int(token[min(int(drawn), int((p > 0).sum()) - 1)])


def search_blanks(reader, draft, dials):
    """Fill the blanks of one draft in place by beam search; each sees the best fillings before it."""
    for gap in draft.todo:
        gap.found = beam_search(reader, gap, draft.is_text, dials)
        gap.tokens, gap.scores, gap.complete = gap.found[0]
        reader.read([rows_of(gap.start, gap.tokens)], want=False)


def beam_search(reader, gap, is_text, dials):
    """The best fillings of a blank by beam search, best first: a list of (tokens, scores, complete).

    Each step ends every beam once and goes on with the `width` likeliest continuations of all beams. A
    filling's score is the sum of its log-probabilities / tokens ** length_penalty. The `width` best are kept,
    and the search stops when the worst of them is at least as good as the best open beam. At the limit of
    tokens, open beams count as they are, without an end, unless only the `top` complete ones are wanted. (The
    original ends a beam only if its end is among the first `width` continuations, so it can miss a filling
    that is kept here; with its settings, this search reproduces its recorded results.)
    """
    width, best = dials.width, []  # best: (score, (tokens, scores, complete))
    beams, sums = [([], [])], torch.zeros(1)  # beams: (tokens, scores)
    reader = reader.fork([0])
    log_p = reader.read([rows_of(gap.start, [])])  # (beams, V)

    def score(total, length):
        return total / max(1, length) ** dials.length_penalty

    def keep(tokens, scores, complete):
        best.append((score(sum(scores), len(tokens)), (tokens, scores, complete)))
        best.sort(key=lambda entry: -entry[0])
        del best[width:]

    while True:
        length = len(beams[0][0])  # the same for all beams
        total = [bar(row, is_text, gap.stops, beam[0], dials) for row, beam in zip(log_p, beams, strict=True)]
        total = torch.stack(total) + sums[:, None]  # (beams, V)
        for (tokens, scores), row, totals in zip(beams, log_p, total, strict=True):
            for stop in gap.stops:
                if totals[stop] > -math.inf:
                    keep(tokens, [*scores, float(row[stop])], True)
        open_ = total.clone()
        open_[:, list(gap.stops)] = -math.inf
        sums, flat = open_.flatten().topk(min(width, int((open_ > -math.inf).sum())))
        if not len(flat) or (len(best) == width and best[-1][0] >= score(float(total.max()), length)):
            break
        if length == gap.limit:
            for tokens, scores in beams if dials.beams or len(best) < width else ():
                keep(tokens, scores, False)
            break
        origins = (flat // log_p.shape[1]).tolist()  # which beam each continuation extends
        new = zip(origins, (flat % log_p.shape[1]).tolist(), strict=True)
        beams = [([*beams[b][0], token], [*beams[b][1], float(log_p[b, token])]) for b, token in new]
        reader.cache.select(origins)
        log_p = reader.read([next_row(gap.start, tokens) for tokens, _ in beams])
    if not best:
        raise MinglmError(NO_TOKEN)
    return [filling for _, filling in best]


def _spaces_before(masks, text):
    """For each mask in a text, whether there is white space before it."""
    return [bool(match[1]) for match in re.finditer(rf"(\s?)(?:{'|'.join(map(re.escape, masks))})", text)]
