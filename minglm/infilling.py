"""Autoregressive blank infilling: from a text and its spans to Part A, Part B and targets, and back.

Part A is the text with one mask token in place of each span. Part B holds the spans in shuffled order, each
after a `sop`. A token of Part B has two positions: that of its span's mask in Part A, and its own within the
span.

    text                x1 x2 x3 x4 x5 x6     spans [x3] and [x5 x6], order: second, first   (paper figure 2)

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
    """One sample: T rows, one per token. The first part_a_len are Part A, the others are Part B.

    tokens, position_ids, block_position_ids: (T,) int64. targets: (M,) int64, what the rows target_rows (M,)
    are to predict; by default these are all rows of Part B. text_len: the number of tokens of the original
    text (cls and eos included).
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
    """The Example that blanks `spans` of `tokens`; `order` is that of Part B, a permutation of the n spans.

    tokens are taken as given: no cls or eos is added. The targets of a span end in eop, except those of a
    document span at the end of a cut text (one without eos), where it is unknown what follows. Raises
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
    """Raise MinglmError if sorted `spans` overlap or exceed `length`, or `order` does not permute them."""
    end = 0
    for span in spans:
        if not end <= span.start < span.end <= length:
            raise MinglmError(
                f"span {span.start}:{span.end} is not accepted: spans are start:end with start < end, "
                f"lie in 0:{length} and do not overlap"
            )
        end = span.end
    if sorted(order) != list(range(len(spans))):
        last = len(spans) - 1
        raise MinglmError(f"order {list(order)} is not a permutation of 0 .. {last}, one entry for each span")


def restore(example):
    """The original text, (L,) int64: each span of Part B goes back to the mask at its position.

    (A cut document span must not end in the id of eop itself; no text does.)
    """
    A = example.part_a_len
    filling = {}
    part_b = example.position_ids[A:].tolist(), example.block_position_ids[A:].tolist()
    for position, block_position, target in zip(*part_b, example.targets.tolist(), strict=True):
        if block_position == 1:
            filling[position] = []
        filling[position].append(target)
    text = []
    for i, token in enumerate(example.tokens[:A].tolist()):
        span = filling.get(i, [token])
        text += span[:-1] if i in filling and span[-1] == example.special.eop else span
    return np.array(text, dtype=np.int64)
