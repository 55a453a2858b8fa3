"""Use a trained GLM: fill the blanks of a text, write on from where it stops, or say how likely an answer is.

Part A is read once with every blank in it; its keys and values are kept. Then the blanks are filled one after
the other: each starts with `sop` at its mask's position and grows token by token until `eop`, seeing Part A
and all earlier answers. A step reads one row a text. Texts of any lengths go together, packed, and each gets
what it would get alone.
"""

from dataclasses import dataclass

import torch

from ..errors import MinglmError, note
from ..families import end_of, rows_of
from .drafts import Dials, Draft, bar, fill_drafts, room_of
from .reader import Reader, log_probabilities


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


def fill(model, tokenizer, text, *, order=None, on_token=None, **dials):
    """Fill every [MASK], [sMASK] and [gMASK] of a text -> Filled; of a list of texts, packed -> a list of Filled.

    order: in which the blanks of a text are filled, a permutation counted from 0 (None: left to right); each
    sees the answers before it. on_token: called as on_token(text number, blank number, ids so far) whenever a
    token has come (not while beams are searched). dials: the fields of `Dials`, e.g. temperature=0.8,
    top_k=40, or top=5 to list the five best fillings of each blank. Of a text longer than the model reads,
    the end is read, with a note that counts what was not. Raises MinglmError when there is no blank, or when
    one lies so far ahead that it cannot be read.
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

    A text longer than the model reads keeps its end, with a note that counts what was cut. The dials are
    those of `fill`.
    """
    limit, special, tokens = model.config.max_positions, tokenizer.special, tokenizer.encode(text)
    dials = {name: value for name, value in dials.items() if value is not None}
    dials = Dials(**{"max_tokens": max(limit, dials.get("min_tokens", 0))} | dials)
    room = max(
        0, limit - 2 - (special.gmask == special.mask)
    )  # cls, the mask, and an eos where no mask runs on
    if len(tokens) > room:
        note(f"the first {len(tokens) - room} tokens of the text were cut: this model reads {limit}")
        tokens = tokens[-room:] if room else []
    [draft] = fill_drafts(model, [Draft(model, tokenizer, [*tokens, special.gmask], dials)], dials, on_token)
    # subtle: decoded together, for a character may begin in the text and end in the continuation
    return text + tokenizer.decode(tokens + draft.blanks[0].tokens)[len(tokenizer.decode(tokens)) :]


def fill_ids(model, tokenizer, ids, **dials):
    """Fill the blanks of a text given as ids, mask tokens among them -> its Gaps, filled. The dials are those of `fill`."""
    dials = Dials(**dials)
    return fill_drafts(model, [Draft(model, tokenizer, ids, dials)], dials)[0].blanks


def score(model, tokenizer, text, answers):
    """How likely given answers are, for a text with blanks: -> one Filling for each blank, its log-probabilities filled in.

    answers: a text for each blank, in the order of the text; each blank sees the answers before it. An answer
    gets the blank in front of it that its mask took. Raises MinglmError when their numbers differ, and
    TypeError when answers is a text.
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
    """One token of a filling: the one that was taken, and what might have come instead.

    choices: the likeliest tokens, (id, natural log-probability), best first; log_p: (V,), -inf what may not
    come.
    """

    taken: int
    choices: list
    log_p: torch.Tensor


def trace(model, tokenizer, text, filled, top=5):
    """What each token of a filling was chosen from: for every blank of `filled = fill(model, tokenizer, text)` a list of Steps.

    The model reads the answers that stand in the blanks, left to right; nothing is drawn again. The end of a
    blank that is complete has a Step too.
    """
    draft, dials, found = Draft(model, tokenizer, text, Dials()), Dials(), []
    reader = Reader(model, [draft], room=[room_of(draft, [blank.answer.tokens for blank in filled.blanks])])
    for gap, blank in zip(draft.blanks, filled.blanks, strict=True):
        tokens, steps = blank.answer.tokens, []
        log_p = reader.read([rows_of(gap.start, tokens)], want="all")[
            len(gap.start.tokens) - 1 :
        ]  # (len(tokens) + 1, V)
        for n, row in enumerate(log_p[: len(tokens) + blank.answer.complete]):
            row = bar(row, draft.is_text, gap.stops, tokens[:n], dials)
            best = row.topk(min(top, int(row.isfinite().sum())))
            taken = (
                tokens[n] if n < len(tokens) else max(gap.stops, key=lambda stop, row=row: float(row[stop]))
            )
            steps.append(
                Step(taken, list(zip(best.indices.tolist(), best.values.tolist(), strict=True)), row)
            )
        found.append(steps)
    return found


# ---- a text with blanks, and a model that has read it ----------------------------------------------------


# ---- one token after the other ---------------------------------------------------------------------------


# ---- the likeliest whole ---------------------------------------------------------------------------------


# ---- the rest --------------------------------------------------------------------------------------------


def texts_of(texts, name):
    """A list of texts; a text alone is a list of one. Raises TypeError for anything else, and for anything else in it."""
    texts = [texts] if isinstance(texts, str) else list(texts)
    if others := [type(text).__name__ for text in texts if not isinstance(text, str)]:
        raise TypeError(f"{name}: a text or a list of texts is accepted, {others[0]} given")
    return texts


def _assemble(tokenizer, draft):
    """The text with its blanks filled. Pieces are cut out of one decoding, so that split characters survive."""
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
        found = gap.found or [(gap.tokens, gap.scores, gap.complete)]
        fillings = [
            Filling(tokenizer.decode(tokens), tokens, scores, complete) for tokens, scores, complete in found
        ]
        blanks.append(Blank(tokenizer.token_str(gap.mask), fillings[0], fillings))
    return Filled(text, [(piece, is_blank) for piece, is_blank in pieces if piece or is_blank], blanks)
