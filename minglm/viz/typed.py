"""Parse what a person types (a text, spans, an order, a cell, names of models), and draw random spans.

read("x1 x2 x3", "1:2")  ->  Sample(tokens x1 x2 x3, spans [1:2], order [0], objective "token")
"""

import re
from typing import NamedTuple

from ..errors import MinglmError, nearest, suggestion
from ..rng import Rng
from ..spans import OBJECTIVES, Span, sample_spans
from ..special import SENTENCE_MARKS
from .columns import characters
from .derivation import EOS_TEXTS, TYPED, explain
from .words import MODELS


class Sample(NamedTuple):
    """A text and what is blanked in it. drawn: a sentence about spans that were drawn at random, else ""."""

    tokens: list[str]
    spans: list[Span]
    order: list[int]
    objective: str
    drawn: str = ""

    def explain(self, model="glm"):
        """Return the Derivation of a model on this text."""
        return explain(self.tokens, self.spans, self.order, self.objective, model=model)

    def with_blanks(self):
        """Return the text with a mask token in place of each span; a typed blank stays as it is."""
        words, mask = list(self.tokens), list(TYPED)[OBJECTIVES.index(self.objective)]
        for start, end in sorted(self.spans, reverse=True):
            words[start:end] = words[start:end] if words[start] in TYPED else [mask]
        is_split = split("".join(self.tokens)) == self.tokens  # characters, as in Chinese
        return ("" if is_split else " ").join(words)


def read(text, spans=None, order=None, objective="token", *, seed=0, **dials):
    """Return the Sample of a text, spans and order as typed; a word [MASK] is a span without an answer.

    Neither spans nor blanks in the text: see `draw_spans`.
    """
    tokens = split(text)
    blanks = [Span(i, i + 1) for i, token in enumerate(tokens) if token in TYPED]
    if spans is not None or blanks:
        spans = parse_spans(spans) if spans is not None else []
        spans += [span for span in blanks if span not in spans]
        return Sample(tokens, spans, parse_order(order, len(spans)), objective)
    spans, shuffled, became = draw_spans(tokens, objective, seed, **dials)
    drawn = "spans " + ",".join(f"{span.start}:{span.end}" for span in spans)
    if order is None:
        drawn += " order " + ",".join(str(k + 1) for k in shuffled)
    drawn += f" drawn with seed {seed}"
    if became != objective:
        drawn += f"; no whole sentence in the text, so the {became} objective, as in training"
    return Sample(tokens, spans, shuffled if order is None else parse_order(order, len(spans)), became, drawn)


def draw_spans(tokens, objective="token", seed=0, *, mask_ratio=0.15, mean_length=3.0):
    """Draw spans as training does from a document without cls. -> (spans, order, objective)

    The page's button draws the same spans for the same seed. A token ends a sentence if it contains one of
    special.SENTENCE_MARKS. A text without a whole sentence gets the token objective instead.
    """
    if not 0 < mask_ratio <= 1:
        raise MinglmError(
            f"ratio {mask_ratio} is not accepted: it is the share of tokens to blank, above 0 and at most 1"
        )
    if not 0 < mean_length <= 40:
        raise MinglmError(
            f"mean length {mean_length} is not accepted: it is a number of tokens, above 0 and at most 40"
        )
    rng = Rng(seed)
    ends = [any(mark in token for mark in SENTENCE_MARKS) for token in tokens]
    how = dict(has_cls=False, has_eos=tokens[-1] in EOS_TEXTS, sentence_ends=ends)
    how |= dict(mask_ratio=mask_ratio, mean_length=mean_length)
    spans = sample_spans(range(len(tokens)), objective, rng, **how)
    if not spans:
        objective = "token"
        spans = sample_spans(range(len(tokens)), objective, rng, **how)
    return spans, rng.shuffle(list(range(len(spans)))), objective


def split(text):
    r"""Split a text into tokens: words; or characters, if it has no spaces and is not ASCII (as in Chinese).

    Example: "two words" -> two, words; "春眠不觉" -> 春, 眠, 不, 觉; "我爱[MASK]" -> 我, 爱, [MASK].

    The page follows the same rule: the text is cut at its spaces. Several words, or a single word of ASCII
    characters, are the tokens. A single word with other characters is read from left to right; the first
    match applies:
    1. What matches \[[A-Za-z]+\] or <\|[A-Za-z]+\|>, such as [MASK] or <|endoftext|>, is a token.
    2. A character without width (Unicode category Mn or Me, U+200D, U+1160 to U+11FF), or one after U+200D,
       joins the token before it, if there is one.
    3. Any other character is a token.
    """
    words = text.split()
    if not words:
        raise MinglmError(f"text {text!r} is empty: at least one word is needed")
    if len(words) > 1 or words[0].isascii():
        return words
    return characters(words[0], r"\[[A-Za-z]+\]|<\|[A-Za-z]+\|>")


def parse_spans(text):
    """Parse "2:3,4:6" -> [Span(2, 3), Span(4, 6)], slices of the tokens. Their fit is checked later."""
    spans = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9}):([0-9]{1,9})\s*", piece)
        if not match:
            raise MinglmError(
                f"span {piece.strip()!r} is not accepted: spans are start:end, counted from 0 and without "
                f"the end, with commas between them, as in 2:3,4:6"
            )
        spans.append(Span(*map(int, match.groups())))
    return spans


def parse_order(text, n):
    """Parse the order of n spans in Part B, counted from 1: ("2,1", 2) -> [1, 0]. None is left to right."""
    if text is None:
        return list(range(n))
    pieces = [piece.strip() for piece in text.split(",")]
    if sorted(pieces) != sorted(str(k + 1) for k in range(n)):
        accepted = ",".join(str(k) for k in range(n, 0, -1)) if n < 10 else f"{n},{n - 1},...,1"
        raise MinglmError(
            f"order {text!r} is not accepted: it names each of the {n} span{'s' * (n != 1)} once, counted "
            f"from 1 in the order of the text, as in {accepted}"
        )
    return [int(piece) - 1 for piece in pieces]


def parse_cell(text):
    """Parse "9,6" -> (9, 6), a row and a column. Whether they exist is checked later."""
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", text)
    if not match:
        raise MinglmError(f"cell {text!r} is not accepted: it is ROW,COLUMN, both counted from 0, as in 9,6")
    return int(match[1]), int(match[2])


def parse_models(text):
    """Parse "T5, gpt" -> ["glm", "t5", "gpt"]: GLM is always included. "all" is every family."""
    models = ["glm"]
    for name in (piece.strip() for piece in text.split(",")):
        if name.lower() == "all":
            models += MODELS
        elif name.lower() in MODELS:
            models.append(name.lower())
        else:
            names = [*MODELS, "all"]
            rest = suggestion(nearest(name.lower(), names, cutoff=0.5), names)
            raise MinglmError(f"unknown model {name!r}; {rest}")
    return list(dict.fromkeys(models))
