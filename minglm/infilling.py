"""From a text and its spans to what GLM reads and learns, and back.

Part A is the text with one mask token in place of each span. Part B is the spans in shuffled order, each led
by `sop`. A token of Part B carries two positions: where its span's mask stands in Part A, and where it stands
in the span.

    text                x1 x2 x3 x4 x5 x6       spans [x3] and [x5 x6], order: second, first     (paper figure 2)

                        Part A              |  Part B
    tokens              x1 x2 M  x4 M       |  S  x5 x6  S  x3
    position_ids         0  1  2  3  4      |  4  4  4   2  2        (the paper counts from 1)
    block_position_ids   0  0  0  0  0      |  1  2  3   1  2
    targets                                    x5 x6 E   x3 E        S = sop, E = eop
"""

from dataclasses import dataclass

import numpy as np

from .errors import MinglmError
from .spans import Span
from .special import SpecialTokens


@dataclass(frozen=True, eq=False)
class Example:
    """One sample: T rows, of which the first part_a_len are Part A; GLM learns a target in all others.

    tokens, position_ids, block_position_ids: (T,) int64; targets: (M,) int64, what the rows target_rows (M,)
    are to say: the next token of each row of Part B, unless other rows are named. text_len: tokens of the
    text it was made from (cls and eos included).
    """

    tokens: np.ndarray
    position_ids: np.ndarray
    block_position_ids: np.ndarray
    targets: np.ndarray
    part_a_len: int
    text_len: int
    objective: str
    special: SpecialTokens
    target_rows: np.ndarray | None = None

    def __post_init__(self):
        if self.target_rows is None:
            object.__setattr__(self, "target_rows", np.arange(self.part_a_len, len(self.tokens)))


def build_example(tokens, spans, order, special=SpecialTokens(), objective="token"):  # noqa: B008 (immutable)
    """Blank `spans` of `tokens`; Part B holds them in `order`, a permutation of 0 .. n-1 (spans in text order).

    Adds no cls and no eos: tokens are taken as given. Every span ends in eop, but for a document span that
    stops where the text was cut (its last token is not eos): there nothing is known to follow. Raises
    MinglmError when spans overlap or lie outside, or when order is not a permutation.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    spans, order = sorted(Span(*span) for span in spans), list(order)
    check_spans(len(tokens), spans, order)
    mask = special.mask_of(objective)

    part_a, mask_position, end = [], [], 0
    for span in spans:
        part_a.extend(tokens[end : span.start])
        mask_position.append(len(part_a))
        part_a.append(mask)
        end = span.end
    part_a.extend(tokens[end:])

    part_b, targets, positions, block_positions = [], [], [], []
    for k in order:
        text = tokens[spans[k].start : spans[k].end].tolist()
        is_cut = objective == "document" and spans[k].end == len(tokens) and text[-1] != special.eos
        target = text if is_cut else [*text, special.eop]
        part_b += [special.sop, *target[:-1]]
        targets += target
        positions += [mask_position[k]] * len(target)
        block_positions += range(1, len(target) + 1)

    A = len(part_a)
    return Example(
        tokens=np.array(part_a + part_b, dtype=np.int64),
        position_ids=np.array([*range(A), *positions], dtype=np.int64),
        block_position_ids=np.array([0] * A + block_positions, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        part_a_len=A,
        text_len=len(tokens),
        objective=objective,
        special=special,
    )


def check_spans(length, spans, order):
    """Raise MinglmError unless sorted `spans` fit `length` tokens without overlap and `order` permutes them."""
    end = 0
    for span in spans:
        if not end <= span.start < span.end <= length:
            raise MinglmError(
                f"span {span.start}:{span.end} is not accepted: spans are start:end with start < end, "
                f"lie in 0:{length} and do not overlap"
            )
        end = span.end
    if sorted(order) != list(range(len(spans))):
        raise MinglmError(
            f"order {list(order)} is not a permutation of 0 .. {len(spans) - 1}, one entry for each span"
        )


def restore(example):
    """The text again, from the rows alone: every span goes back to the mask whose position it carries. (L,) int64.

    (A cut document span must not end in the id of eop itself; no text does.)
    """
    A = example.part_a_len
    filling = {}
    for position, block_position, target in zip(
        example.position_ids[A:].tolist(),
        example.block_position_ids[A:].tolist(),
        example.targets.tolist(),
        strict=True,
    ):
        if block_position == 1:
            filling[position] = []
        filling[position].append(target)
    text = []
    for i, token in enumerate(example.tokens[:A].tolist()):
        span = filling.get(i, [token])
        text += span[:-1] if i in filling and span[-1] == example.special.eop else span
    return np.array(text, dtype=np.int64)
