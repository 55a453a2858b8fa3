"""Use a trained GLM: fill the blanks of a text, or write on from where it stops.

Part A is read once with every blank in it. Then the blanks are filled one after the other, left to right: each starts
with `sop` at its mask's position and grows token by token until `eop`, seeing Part A and all earlier answers.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .batch import SAMPLING, pack
from .errors import MinglmError, note
from .infilling import Example
from .rng import Rng


@dataclass(frozen=True)
class Filling:
    """One whole answer for one blank.

    text; tokens; log_probabilities: natural log of each token's probability, then eop's when `complete`.
    """

    text: str
    tokens: list
    log_probabilities: list
    complete: bool  # it ended in eop; False when it met the limit of tokens

    @property
    def log_probability(self):
        """Of the whole filling: the sum over its tokens and eop, in nats."""
        return sum(self.log_probabilities)


@dataclass(frozen=True)
class Blank:
    """One blank of a text: the answer that was taken, and the best whole fillings it was chosen from."""

    mask: str  # "[MASK]", "[sMASK]" or "[gMASK]"
    answer: Filling
    alternatives: list

    @property
    def text(self):
        """What stands in the blank now."""
        return self.answer.text


@dataclass(frozen=True)
class Filled:
    """A text with its blanks filled. pieces: (text, is a filled blank) in order; joined they are `text`."""

    text: str
    pieces: list
    blanks: list


def fill(model, tokenizer, text, *, top=1, temperature=0.0, top_k=0, top_p=1.0, seed=0, max_tokens=None):
    """Fill every [MASK], [sMASK] and [gMASK] of a text -> Filled.

    temperature 0 takes the likeliest token each time (greedy); above, tokens are drawn, from the top_k likeliest (0: all)
    and from the fewest that hold top_p of the probability. top > 1 searches the `top` likeliest whole fillings of each
    blank (beam search by the sum of log-probabilities, eop included) and takes the first; it does not go with a
    temperature. max_tokens: of a blank; 40 for [MASK], otherwise as many as positions allow.
    Raises MinglmError when there is no blank, or when the text is longer than the model reads.
    """
    check_sampling(top, temperature, top_k, top_p, max_tokens)
    special = tokenizer.special
    tokens = tokenizer.encode(text, special=True)
    is_text = tokenizer.byte_lengths() > 0
    if foreign := [t for t in tokens if not is_text[t] and t not in _masks(special)]:
        raise MinglmError(f"text: {tokenizer.token_str(foreign[0])} cannot be typed; blanks are [MASK], [sMASK] and [gMASK]")
    blanks = [i for i, token in enumerate(tokens) if token in _masks(special)]
    if not blanks:
        raise MinglmError("text: no blank in it; write [MASK] for some words, [sMASK] for a sentence, [gMASK] for the rest")
    # the original's interactive reading: a text that does not run on is a whole document
    part_a = [special.cls, *tokens] + ([] if tokens[-1] == special.gmask else [special.eos])
    if len(part_a) > model.config.max_positions:
        raise MinglmError(f"text: {len(part_a)} tokens are longer than this model reads ({model.config.max_positions})")

    reader = Reader(model, part_a, tokenizer)
    results = []
    for number, i in enumerate(blanks):
        stops = {special.eop, special.eos} if tokens[i] == special.gmask else {special.eop}
        room = model.config.max_positions - 1
        limit = min(max_tokens or (40 if tokens[i] == special.mask else room), room)
        if top > 1:
            found = beam_search(reader, i + 1, stops, limit, top)
        else:
            found = [sample(reader, i + 1, stops, limit, temperature, top_k, top_p, Rng(seed, number, 0, SAMPLING))]
        fillings = [Filling(tokenizer.decode(ids), ids, scores, complete) for ids, scores, complete in found]
        results.append(Blank(tokenizer.token_str(tokens[i]), fillings[0], fillings))
        reader.append(i + 1, fillings[0].tokens)
    return _assemble(tokenizer, tokens, blanks, results)


def write(model, tokenizer, text, *, temperature=0.0, top_k=0, top_p=1.0, seed=0, max_tokens=None):
    """Continue a text through [gMASK] -> the text and its continuation, until eop, eos or max_tokens.

    A text longer than the model reads keeps its end, with a note that counts what was cut. The dials are those of `fill`.
    """
    check_sampling(1, temperature, top_k, top_p, max_tokens)
    special, limit = tokenizer.special, model.config.max_positions
    tokens = tokenizer.encode(text)
    if len(tokens) > limit - 2:
        note(f"the first {len(tokens) - limit + 2} tokens of the text were cut: this model reads {limit}")
        tokens = tokens[-(limit - 2) :] if limit > 2 else []
    reader = Reader(model, [special.cls, *tokens, special.gmask], tokenizer)
    rng = Rng(seed, 0, 0, SAMPLING)
    stops = {special.eop, special.eos}
    ids, _, _ = sample(reader, 1 + len(tokens), stops, min(max_tokens or limit, limit - 1), temperature, top_k, top_p, rng)
    # subtle: decoded together, for a character may begin in the text and end in the continuation
    return text + tokenizer.decode(tokens + ids)[len(tokenizer.decode(tokens)) :]


class Reader:
    """What the model has read so far: Part A, and the answers that stand in Part B."""

    def __init__(self, model, part_a, tokenizer):
        self.model, self.special, self.part_a = model, tokenizer.special, list(part_a)
        self.is_text = torch.from_numpy(tokenizer.byte_lengths() > 0)  # (V,) special tokens stand for no bytes
        self.part_b, self.positions, self.block_positions = [], [], []

    def append(self, position, tokens):
        """Keep an answer: from now on every blank sees it."""
        self.part_b += [self.special.sop, *tokens]
        self.positions += [position] * (len(tokens) + 1)
        self.block_positions += range(1, len(tokens) + 2)

    @torch.inference_mode()
    def next_log_probabilities(self, position, hypotheses):
        """log P(next token) after each of several beginnings of the blank at `position`: list of n token lists -> (n, V)."""
        A, device = len(self.part_a), next(self.model.parameters()).device
        examples = []
        for tokens in hypotheses:
            ids = [*self.part_a, *self.part_b, self.special.sop, *tokens]
            positions = [*range(A), *self.positions, *[position] * (len(tokens) + 1)]
            block_positions = [*[0] * A, *self.block_positions, *range(1, len(tokens) + 2)]
            rows = (np.array(x, dtype=np.int64) for x in (ids, positions, block_positions))
            examples.append(Example(*rows, np.zeros(len(ids) - A, dtype=np.int64), A, len(ids), "token", self.special))
        batch = pack(examples).to(device)
        last = batch.mask.cu_seqlens_q[1:].long().to(device) - 1
        training, _ = self.model.training, self.model.eval()
        logits = self.model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask, last)
        self.model.train(training)
        return logits.float().log_softmax(-1).cpu()

    def allowed(self, log_p, stops):
        """log_p (..., V) with every special token but the stops at -inf: what may come next."""
        may_come = self.is_text.clone()
        may_come[list(stops)] = True
        return log_p.masked_fill(~may_come, -math.inf)


def sample(reader, position, stops, max_tokens, temperature=0.0, top_k=0, top_p=1.0, rng=None):
    """Grow one filling token by token: (tokens, log-probabilities, whether it ended in a stop)."""
    tokens, scores = [], []
    while True:
        log_p = reader.next_log_probabilities(position, [tokens])[0]  # (V,)
        # a blank is never empty: no span is, so a model knows nothing of it
        token = choose(reader.allowed(log_p, stops if tokens else ()), temperature, top_k, top_p, rng)
        if token in stops:
            return tokens, [*scores, float(log_p[token])], True
        if len(tokens) == max_tokens:
            return tokens, scores, False
        tokens.append(token)
        scores.append(float(log_p[token]))


def choose(log_p, temperature=0.0, top_k=0, top_p=1.0, rng=None):
    """One token of log-probabilities (V,): the likeliest at temperature 0, else drawn from what top_k and top_p leave."""
    if temperature == 0:
        return int(log_p.argmax())
    p, token = (log_p.double() / temperature).softmax(-1).sort(descending=True, stable=True)
    if top_k:
        p[top_k:] = 0
    # the fewest tokens that hold top_p: one goes when those before it hold that much already
    p[p.cumsum(0) - p >= top_p * p.sum()] = 0
    drawn = torch.searchsorted(p.cumsum(0), rng.uniform() * p.sum(), right=True)
    return int(token[min(int(drawn), int((p > 0).sum()) - 1)])


def beam_search(reader, position, stops, max_tokens, width):
    """The likeliest whole fillings of 1 to max_tokens tokens that a beam meets: up to `width`, as `sample` returns them.

    Best first, by the sum of log-probabilities, that of the stop included.
    """
    running, finished = [([], [])], []
    while running:
        log_p = reader.next_log_probabilities(position, [tokens for tokens, _ in running])  # (beams, V)
        length = len(running[0][0])  # all have grown equally long
        if length:  # a blank is never empty
            for (tokens, scores), row in zip(running, log_p, strict=True):
                finished += [(tokens, [*scores, float(row[stop])], True) for stop in stops]
            finished = sorted(finished, key=lambda f: -sum(f[1]))[:width]
        if length == max_tokens:
            break
        so_far = torch.tensor([sum(scores) for _, scores in running])[:, None]
        total = (so_far + reader.allowed(log_p, ())).flatten()
        best = total.topk(min(width, int(reader.is_text.sum()))).indices.tolist()
        beams = [(running[i // log_p.shape[1]], i // log_p.shape[1], i % log_p.shape[1]) for i in best]
        running = [([*tokens, new], [*scores, float(log_p[beam, new])]) for (tokens, scores), beam, new in beams]
        # every token makes a filling less likely, so no running one can pass the worst that is kept
        if len(finished) == width and sum(running[0][1]) <= sum(finished[-1][1]):
            break
    return finished


def check_sampling(top, temperature, top_k, top_p, max_tokens):
    """Raise MinglmError for dials that mean nothing."""
    for name, value, fine, accepted in (
        ("top", top, top >= 1, "a whole number >= 1"),
        ("temperature", temperature, 0 <= temperature < math.inf, "0 (greedy) or a number above it"),
        ("top_k", top_k, top_k >= 0, "0 (all) or a whole number above it"),
        ("top_p", top_p, 0 < top_p <= 1, "a number above 0, at most 1"),
        ("max_tokens", max_tokens, max_tokens is None or max_tokens >= 1, "a whole number >= 1"),
    ):
        if not fine:
            raise MinglmError(f"{name}: {value} is not accepted; {accepted} is")
    if top > 1 and temperature > 0:
        raise MinglmError(f"top: {top} searches and draws nothing, so it does not go with temperature {temperature}")


def _masks(special):
    return (special.mask, special.smask, special.gmask)


def _assemble(tokenizer, tokens, blanks, results):
    """The text with its blanks filled. Pieces are cut out of one decoding, so that split characters survive."""
    ids, edges, end = [], [], 0
    for i, blank in zip(blanks, results, strict=True):
        ids += tokens[end:i]
        edges.append((len(ids), len(ids) + len(blank.answer.tokens)))
        ids += blank.answer.tokens
        end = i + 1
    ids += tokens[end:]
    text, pieces, at = tokenizer.decode(ids), [], 0
    for a, b in edges:
        start, stop = (len(tokenizer.decode(ids[:n])) for n in (a, b))
        pieces += [(text[at:start], False), (text[start:stop], True)]
        at = stop
    pieces.append((text[at:], False))
    return Filled(text, [(piece, is_blank) for piece, is_blank in pieces if piece or is_blank], results)
