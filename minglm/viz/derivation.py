"""One sample of GLM row by row: tokens, both positions, targets, and who sees whom and why.

Nothing is worked out here a second time: the rows come from `infilling.build_example`, what is visible from
`mask.GLMMask`, so a picture cannot disagree with what is trained. This page only gives every cell a name:

    AA    Part A sees Part A                    AB   hidden: Part A never sees Part B
    BA    Part B sees Part A                    BF   hidden: Part B never sees what comes later in Part B
    BE    Part B sees an earlier span           self a token of Part B sees itself
    BS    ... an earlier token of its own span       (a token of Part A does so too: AA, on the diagonal)
"""

from dataclasses import dataclass

import numpy as np

from ..errors import MinglmError
from ..infilling import Example, SpecialTokens, build_example
from ..mask import GLMMask
from ..spans import OBJECTIVES

VERSION = 1  # of to_json(); goes up when a field changes its meaning
FIRST_WORD = 100  # explain() numbers the words of a text from here, well clear of the special tokens
EOS_TEXTS = ("[EOS]", "<|endoftext|>")
NAMES = {
    "pad": "[PAD]", "cls": "[CLS]", "eos": "[EOS]", "mask": "[M]", "smask": "[sM]", "gmask": "[gM]", "sop": "[S]", "eop": "[E]",
}  # fmt: skip
VISIBLE = {("A", "A"): "AA", ("B", "A"): "BA", ("B", "B"): "BE"}
HIDDEN = {("A", "B"): "AB", ("B", "B"): "BF"}


@dataclass(frozen=True, eq=False)
class Derivation:
    """A sample of T rows, as texts and numbers ready to be shown.

    tokens, targets: T texts ("" where nothing is learned: all of Part A); part: T times "A" or "B";
    position_ids, block_position_ids: (T,) ints; span_id: (T,) ints, which span (in text order) a row of Part B, or a
    mask of Part A, belongs to, else -1; mask: (T, T) bool, True = may attend; kind: (T, T) of the names above.
    """

    objective: str
    tokens: tuple[str, ...]
    part: tuple[str, ...]
    span_id: np.ndarray
    position_ids: np.ndarray
    block_position_ids: np.ndarray
    targets: tuple[str, ...]
    part_a_len: int
    mask: np.ndarray
    kind: np.ndarray

    def __len__(self):
        return len(self.tokens)

    def to_json(self):
        """Everything as a dict of lists, strings and numbers, with the version of this format."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {tuple: list, np.ndarray: np.ndarray.tolist}
        return {"version": VERSION, **{name: plain.get(type(v), lambda v: v)(v) for name, v in fields.items()}}


def explain(tokens, spans, order, objective="token"):
    """What GLM reads and learns when `spans` of `tokens` are blanked; Part B holds them in `order`. -> Derivation.

    tokens: words, or ids of a vocabulary; nothing is added to them ("[EOS]" and "<|endoftext|>" are the end of a
    document). spans: half-open, counted from 0. order: a permutation of 0 .. n - 1 of the spans in text order.

    Example: explain(["x1", "x2", "x3"], [(1, 2)], [0]) -> tokens x1 [M] x3 [S] x2, targets "" "" "" x2 [E].
    """
    if objective not in OBJECTIVES:
        raise MinglmError(f"objective {objective!r} is not accepted: it is one of {', '.join(OBJECTIVES)}")
    if not len(tokens):
        raise MinglmError("tokens: none came; at least one is needed")
    special = SpecialTokens()
    if all(isinstance(token, int | np.integer) for token in tokens):
        return derivation_of(build_example(tokens, spans, order, special, objective), str)
    ids = [special.eos if token in EOS_TEXTS else FIRST_WORD + i for i, token in enumerate(tokens)]
    words = dict(zip(ids, tokens, strict=True))
    return derivation_of(build_example(ids, spans, order, special, objective), words)


def derivation_of(example: Example, token_texts):
    """The Derivation of any Example, one from training too. token_texts: id -> text, a dict, a list or a function.

    Special tokens go by their short names: [M] [sM] [gM] [S] [E] [CLS] [EOS].
    """
    lookup = token_texts if callable(token_texts) else token_texts.__getitem__
    names = {getattr(example.special, field): name for field, name in NAMES.items()}

    def texts(ids):
        return tuple(names[i] if i in names else str(lookup(i)) for i in ids.tolist())

    T, A = len(example.tokens), example.part_a_len
    part = ("A",) * A + ("B",) * (T - A)
    # A row of Part B carries the position of its mask in Part A, and no two spans share a mask.
    mask_rows = np.unique(example.position_ids[A:])
    span_id = np.full(T, -1)
    span_id[mask_rows] = np.arange(len(mask_rows))
    span_id[A:] = np.searchsorted(mask_rows, example.position_ids[A:])
    mask = GLMMask.packed([T], [A]).dense().numpy()
    return Derivation(
        objective=example.objective,
        tokens=texts(example.tokens),
        part=part,
        span_id=span_id,
        position_ids=example.position_ids,
        block_position_ids=example.block_position_ids,
        targets=("",) * A + texts(example.targets),
        part_a_len=A,
        mask=mask,
        kind=kinds(mask, part, span_id),
    )


def kinds(mask, part, span_id):
    """The name of every cell: (T, T) bool, T parts and (T,) spans -> (T, T) strings.

    A cell that no GLM mask can have (Part A seeing Part B, or Part B not seeing Part A) is a KeyError.
    """
    T = len(part)
    names = np.empty((T, T), dtype="<U4")
    for i in range(T):
        for j in range(T):
            name = (VISIBLE if mask[i, j] else HIDDEN)[part[i], part[j]]
            if name == "BE" and span_id[i] == span_id[j]:
                name = "self" if i == j else "BS"
            names[i, j] = name
    return names
