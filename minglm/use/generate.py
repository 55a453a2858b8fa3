"""Use a trained GLM: fill the blanks of a text, continue a text, or score given answers.

Part A is read once, with all its blanks, and its keys and values are cached. Then the blanks are filled one
by one: each starts with `sop` at its mask's position and grows token by token until `eop`, seeing Part A and
all earlier answers. A step reads one row per text. Texts of any lengths are packed together, and each gets
the same answers as alone.
"""

from dataclasses import dataclass

import torch

from ..checks import check_pair
from ..errors import MinglmError, note
from ..families import end_of, rows_of
from .drafts import Dials, Draft, bar, fill_drafts, room_of
from .reader import Reader, log_probabilities


@dataclass(frozen=True)
class Filling:
    """One answer for one blank.

    log_probabilities: the natural log of each token's probability, then eop's if `complete`.
    """

    text: str
    tokens: list
    log_probabilities: list
    complete: bool  # it ended in eop; False: it reached the limit of tokens

    @property
    def log_probability(self):
        """The log-probability of the whole filling, in nats: the sum over its tokens and eop."""
        return sum(self.log_probabilities)


@dataclass(frozen=True)
class Blank:
    """A result: a blank that has been filled, its answer, and the best fillings the answer was chosen from.

    (`drafts.Gap` is the same blank while it is being filled.)
    """

    mask: str  # "[MASK]", "[sMASK]" or "[gMASK]"
    answer: Filling
    alternatives: list

    @property
    def text(self):
        """The text of the answer."""
        return self.answer.text


@dataclass(frozen=True)
class Filled:
    """A text with its blanks filled. pieces: (text, whether it fills a blank); joined, they are `text`."""

    text: str
    pieces: list
    blanks: list


def fill(model, tokenizer, text, *, order=None, on_token=None, **dials):
    """Fill every [MASK], [sMASK] and [gMASK] of a text -> Filled; of a list of texts -> a list of Filled.

    order: the order in which the blanks of a text are filled, a permutation counted from 0 (None: left to
    right); each sees the answers before it. on_token: called as on_token(text number, blank number, ids so
    far) after every token (but not during beam search). dials: the fields of `Dials`, e.g. temperature=0.8,
    top_k=40, or top=5 to list the five best fillings of each blank. A text longer than the model reads loses
    its beginning, with a note. Raises MinglmError when there is no blank, or one in the part that was lost.
    """
    dials = Dials(**dials)
    texts = texts_of(text, "text")
    drafts = [
        Draft(model, tokenizer, one, dials, order, number, may_cut=True) for number, one in enumerate(texts)
    ]
    filled = [_assemble(tokenizer, draft) for draft in fill_drafts(model, drafts, dials, on_token)]
    return filled[0] if isinstance(text, str) else filled


def write(model, tokenizer, text, *, on_token=None, **dials):
    """Continue a text through [gMASK] -> the text and its continuation, until eop, eos or max_tokens.

    A text longer than the model reads loses its beginning, with a note. The dials are those of `fill`.
    """
    check_pair(model, tokenizer)
    limit, special, tokens = model.config.max_positions, tokenizer.special, tokenizer.encode(text)
    dials = {name: value for name, value in dials.items() if value is not None}
    dials = Dials(**{"max_tokens": max(limit, dials.get("min_tokens", 0))} | dials)
    # besides the text: cls, the mask and, for a model without a [gMASK] of its own, eos
    room = max(0, limit - 2 - (special.gmask == special.mask))
    if len(tokens) > room:
        note(f"the first {len(tokens) - room} tokens of the text were cut: this model reads {limit}")
        tokens = tokens[-room:] if room else []
    [draft] = fill_drafts(model, [Draft(model, tokenizer, [*tokens, special.gmask], dials)], dials, on_token)
    # subtle: decoded together, because a character may begin in the text and end in the continuation
    return text + tokenizer.decode(tokens + draft.blanks[0].tokens)[len(tokenizer.decode(tokens)) :]


def fill_ids(model, tokenizer, ids, **dials):
    """Fill the blanks of a text given as ids, with mask tokens -> its Gaps, filled. dials: as in `fill`."""
    dials = Dials(**dials)
    return fill_drafts(model, [Draft(model, tokenizer, ids, dials)], dials)[0].blanks


def score(model, tokenizer, text, answers):
    """The log-probabilities of given answers to the blanks of a text: one Filling for each blank.

    answers: one text per blank, in order; each blank sees the answers before it. If the mask absorbed a
    space, the space is put back before the answer. Raises MinglmError when their numbers differ, and
    TypeError when answers is a str.
    """
    if isinstance(answers, str) or not isinstance(text, str):
        kinds = f"{type(text).__name__} and {type(answers).__name__}"
        raise TypeError(f"text, answers: a text and a list of texts are accepted, {kinds} given")
    draft = Draft(model, tokenizer, text, Dials())
    if len(answers) != len(draft.blanks):
        raise MinglmError(f"answers: {len(answers)} for {len(draft.blanks)} blanks; one for each is needed")
    given = [
        tokenizer.encode(f" {answer}" if gap.spaced and not answer[:1].isspace() else answer)
        for gap, answer in zip(draft.blanks, answers, strict=True)
    ]
    reader, fillings = Reader(model, [draft], room=[room_of(draft, given)]), []
    for gap, tokens in zip(draft.blanks, given, strict=True):
        if len(tokens) > (most := model.config.max_positions - 1):
            raise MinglmError(f"answers: {len(tokens)} tokens are longer than a blank may be ({most})")
        [scores] = log_probabilities(reader, gap.start, [tokens], end_of(model.config.family, draft.special))
        fillings.append(Filling(tokenizer.decode(tokens), tokens, scores, True))
    return fillings


@dataclass(frozen=True)
class Step:
    """One token of a filling: the token that was taken, and what it was chosen from.

    choices: the likeliest tokens, (id, natural log-probability), best first; log_p: (V,), -inf for tokens
    that are not allowed.
    """

    taken: int
    choices: list
    log_p: torch.Tensor


def trace(model, tokenizer, text, filled, top=5):
    """What each token of `filled = fill(model, tokenizer, text)` was chosen from: a list of Steps per blank.

    The model reads the given answers, left to right; nothing is sampled again. The end of a complete filling
    has a Step too.
    """
    draft, dials, traces = Draft(model, tokenizer, text, Dials()), Dials(), []
    reader = Reader(model, [draft], room=[room_of(draft, [blank.answer.tokens for blank in filled.blanks])])
    for gap, blank in zip(draft.blanks, filled.blanks, strict=True):
        tokens, steps = blank.answer.tokens, []
        log_p = reader.read([rows_of(gap.start, tokens)], want="all")
        log_p = log_p[len(gap.start.tokens) - 1 :]  # (len(tokens) + 1, V)
        for n, row in enumerate(log_p[: len(tokens) + blank.answer.complete]):
            row = bar(row, draft.is_text, gap.stops, tokens[:n], dials)
            taken = tokens[n] if n < len(tokens) else max(gap.stops, key=row.__getitem__)
            best = row.topk(min(top, int(row.isfinite().sum())))
            choices = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            steps.append(Step(taken, choices, row))
        traces.append(steps)
    return traces


def texts_of(texts, name):
    """A list of texts; a single text becomes a list of one. Raises TypeError if anything is not a str."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    if others := [type(text).__name__ for text in texts if not isinstance(text, str)]:
        raise TypeError(f"{name}: a text or a list of texts is accepted, {others[0]} given")
    return texts


def _assemble(tokenizer, draft):
    """The Filled of a draft. Pieces are cut from one decoded text: a character may span two of them."""
    ids, edges, end = list(draft.cut), [], 0
    for gap in draft.blanks:
        ids += draft.ids[end : gap.position - 1]
        edges.append((len(ids), len(ids) + len(gap.tokens)))
        ids += gap.tokens
        end = gap.position
    ids += draft.ids[end:]
    text, pieces, at = tokenizer.decode(ids), [], 0
    for a, b in edges:
        start, stop = (len(tokenizer.decode(ids[:n])) for n in (a, b))
        pieces += [(text[at:start], False), (text[start:stop], True)]
        at = stop
    pieces.append((text[at:], False))
    blanks = []
    for gap in draft.blanks:
        results = gap.found or [(gap.tokens, gap.scores, gap.complete)]
        fillings = [
            Filling(tokenizer.decode(tokens), tokens, scores, done) for tokens, scores, done in results
        ]
        blanks.append(Blank(tokenizer.token_str(gap.mask), fillings[0], fillings))
    return Filled(text, [(piece, is_blank) for piece, is_blank in pieces if piece or is_blank], blanks)
