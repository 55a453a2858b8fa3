"""One sample row by row: tokens, both positions, targets, who sees whom and why, and how it is made.

Nothing is computed a second way: GLM's rows come from `infilling.build_example` and visibility from
`rule.keys_of_row`, as for GLMMask, so a picture cannot disagree with what is trained. This module only names
every cell:

    AA    Part A sees Part A                    AB   hidden: Part A never sees Part B
    BA    Part B sees Part A                    BF   hidden: Part B never sees what comes later in Part B
    BE    Part B sees an earlier span           self a token of Part B sees itself
    BS    ... an earlier token of its own span       (a token of Part A does so too: AA, on the diagonal)

The other families read the same text as the same kind of rows: for each, the mask is one integer, the length
of Part A.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import MinglmError
from ..infilling import Example, SpecialTokens, build_example, restore
from ..rule import keys_of_row
from ..spans import OBJECTIVES, Span
from .words import AMONG, BECAUSE, CELL, MAY, MODELS, NAMES, STEPS

VERSION = 2  # of to_json(); goes up when a field changes its meaning
FIRST_WORD = 100  # explain() numbers the words of a text from here, well clear of the special tokens
EOS_TEXTS = ("[EOS]", "<|endoftext|>")
EXAMPLE = (("x1", "x2", "x3", "x4", "x5", "x6"), ((2, 3), (4, 6)), (1, 0))  # the paper's figure 2
SENTENCE = (("We", "see", "the", "stars", "at", "night"), ((2, 4), (5, 6)), (1, 0))
MASK_NAMES = {"token": "[M]", "sentence": "[sM]", "document": "[gM]"}
TYPED = {"[MASK]": "[M]", "[sMASK]": "[sM]", "[gMASK]": "[gM]"}  # blanks typed into a text: without an answer
VISIBLE = {("A", "A"): "AA", ("B", "A"): "BA", ("B", "B"): "BE"}
HIDDEN = {("A", "B"): "AB", ("B", "B"): "BF"}
KINDS = ("AA", "BA", "BE", "BS", "self", "AB", "BF")


@dataclass(frozen=True, eq=False)
class Derivation:
    """A sample of T rows made from a text of L tokens, as texts and numbers ready to be shown.

    model: one of words.MODELS; text: L texts; spans: half-open, in text order; order: that of the spans in
    Part B, from 0. tokens, targets: T texts ("" where nothing is learned); part: T times "A" or "B"; word:
    (T,) ints, the index in `text` of the row's token or of the token blanked there, else -1; span_id: (T,)
    ints, the span that the row belongs to or is the mask of, else -1; position_ids, block_position_ids: (T,)
    ints; second_position: the name of the latter, "" for a model without them; mask: (T, T) bool, True = may
    attend; kind: (T, T) of KINDS; rule: (T, T) of words.RULES; steps: (name, sentence, lights), where lights
    is {lane: what the step adds}: indices for the lanes text, tokens, targets, position_ids and
    block_position_ids, rows for mask.
    """

    model: str
    objective: str
    text: tuple[str, ...]
    spans: tuple[Span, ...]
    order: tuple[int, ...]
    tokens: tuple[str, ...]
    part: tuple[str, ...]
    word: np.ndarray
    span_id: np.ndarray
    position_ids: np.ndarray
    block_position_ids: np.ndarray
    second_position: str
    targets: tuple[str, ...]
    part_a_len: int
    mask: np.ndarray
    kind: np.ndarray
    rule: np.ndarray
    steps: tuple

    def __len__(self):
        return len(self.tokens)

    def to_json(self):
        """Return everything as a dict of lists, strings and numbers, with the version of the format."""
        return {
            "version": VERSION,
            **{name: plain(getattr(self, name)) for name in self.__dataclass_fields__},
        }

    def _repr_html_(self):
        """Return what a notebook shows: the explorer, opened at this sample."""
        from .page import html, iframe

        return iframe(html(self, story=False))

    @classmethod
    def from_json(cls, data):
        """Return the Derivation of a `to_json` dict, derived anew: a file cannot make a picture lie."""
        accepted = f"what to_json() gives in version {VERSION} is accepted"
        if not isinstance(data, dict) or data.get("version") != VERSION:
            version = data.get("version") if isinstance(data, dict) else None
            raise MinglmError(f"derivation: version {version!r}; {accepted}")
        try:
            texts, spans = data["text"], [Span(*span) for span in data["spans"]]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
            derived = explain(texts, spans, data["order"], data["objective"], model=data["model"])
        except (KeyError, TypeError) as error:
            names = "text, spans, order, objective or model"
            raise MinglmError(f"derivation: {names} is missing or has the wrong type; {accepted}") from error
        if wrong := [name for name, value in derived.to_json().items() if data.get(name) != value]:
            raise MinglmError(
                f"derivation: {wrong[0]} is not what follows from its text and spans; {accepted}"
            )
        return derived


def explain(tokens, spans, order, objective="token", *, model="glm"):
    """Derive what a model reads and learns when `spans` of `tokens` are blanked. -> Derivation

    tokens: words, or ids of a vocabulary; nothing is added to them ("[EOS]" and "<|endoftext|>" end a
    document). spans: half-open, counted from 0. order: that of the spans in Part B, a permutation of
    0 .. n - 1. model: "glm", or a relative that ignores order and objective: "bert", "gpt", "prefix",
    "unilm", "t5". A word of TYPED is a blank without an answer, which is shown as "?"; a span of its own.

    Example: explain(["x1", "x2", "x3"], [(1, 2)], [0]) -> tokens x1 [M] x3 [S] x2, targets "" "" "" x2 [E].
    """
    for name, value, accepted in (("objective", objective, OBJECTIVES), ("model", model, MODELS)):
        if value not in accepted:
            raise MinglmError(f"{name} {value!r} is not accepted: it is one of {', '.join(accepted)}")
    if isinstance(tokens, str):
        raise TypeError("tokens: a list of words is accepted, str given")
    if not len(tokens):
        raise MinglmError("tokens: none given; at least one is needed")
    special = SpecialTokens()
    ids, words = list(tokens), str
    if not all(isinstance(token, int | np.integer) for token in tokens):
        ids = [special.eos if token in EOS_TEXTS else FIRST_WORD + i for i, token in enumerate(tokens)]
        words = dict(zip(ids, tokens, strict=True))
    typed = [i for i, token in zip(ids, tokens, strict=True) if token in TYPED]
    example = unanswered(build_example(ids, spans, order, special, objective), typed)
    return ask(derivation_of(example, words) if model == "glm" else relative(model, example, words))


def unanswered(example, typed):
    """Return an Example without the rows that read a typed blank and would end it. typed: ids."""
    if not typed:
        return example
    targets = np.append(np.zeros(example.part_a_len, dtype=np.int64), example.targets)
    ends = (example.block_position_ids == 2) & (targets == example.special.eop)
    keep = ~(np.isin(example.tokens, typed) & ends)
    rows = {name: getattr(example, name)[keep] for name in ("tokens", "position_ids", "block_position_ids")}
    return replace(example, **rows, targets=targets[keep][example.part_a_len :])


def blanks_of(text, spans):
    """Return the typed blanks of a text that are spans of their own."""
    return {text[start] for start, end in spans if end - start == 1} & TYPED.keys()


def ask(d):
    """Return a Derivation with "?" for every answer that is a typed blank, and with the mask as typed."""
    blanks = blanks_of(d.text, d.spans)
    tokens = ["?" if token in blanks else token for token in d.tokens]
    for i in range(d.part_a_len if d.model == "glm" else 0):
        first = d.text[d.spans[d.span_id[i]].start] if d.span_id[i] >= 0 else ""
        tokens[i] = TYPED[first] if first in blanks else tokens[i]
    targets = ("?" if target in blanks else target for target in d.targets)
    return replace(d, tokens=tuple(tokens), targets=tuple(targets))


def derivation_of(example: Example, token_texts):
    """Return the Derivation of any Example. token_texts: id -> text, as a dict, a list or a function.

    Special tokens get their short names: [M] [sM] [gM] [S] [E] [CLS] [EOS].
    """
    texts, (spans, order) = texts_of(example, token_texts), spans_of(example)
    T, A = len(example.tokens), example.part_a_len
    # A row of Part B carries the position of its mask in Part A, and no two spans share a mask.
    mask_rows = np.unique(example.position_ids[A:])
    span_id = np.full(T, -1)
    span_id[mask_rows] = np.arange(len(mask_rows))
    span_id[A:] = np.searchsorted(mask_rows, example.position_ids[A:])
    visible = [i for i in range(example.text_len) if not any(span.start <= i < span.end for span in spans)]
    word = np.full(T, -1)
    word[np.setdiff1d(np.arange(A), mask_rows)] = visible
    inside = np.flatnonzero(example.block_position_ids > 1)
    starts = np.array([span.start for span in spans], dtype=int)
    word[inside] = starts[span_id[inside]] + example.block_position_ids[inside] - 2
    return derivation(
        "glm",
        example.objective,
        texts(restore(example)),
        spans,
        order,
        part_a_len=A,
        word=word,
        span_id=span_id,
        tokens=texts(example.tokens),
        targets=("",) * A + texts(example.targets),
        position_ids=example.position_ids,
        block_position_ids=example.block_position_ids,
    )


def relative(model, example, token_texts):
    """Return the Derivation of the same text and spans for another family; words.MODELS describes them."""
    text, (spans, _) = texts_of(example, token_texts)(restore(example)), spans_of(example)
    L, n, first = len(text), len(spans), min((span.start for span in spans), default=len(text))
    span_of = np.full(L, -1)
    for k, span in enumerate(spans):
        span_of[span.start : span.end] = k
    blanked = span_of >= 0
    hidden = tuple("[M]" if b else t for t, b in zip(text, blanked, strict=True))
    answers = tuple(t if b else "" for t, b in zip(text, blanked, strict=True))
    words, what = np.arange(L), dict(word=np.arange(L), span_id=span_of, position_ids=np.arange(L))
    second, piece = None, None
    if model == "bert":
        rows = dict(tokens=hidden, targets=answers, part_a_len=L, **what)
    elif model == "gpt":
        rows = dict(tokens=text, targets=(*text[1:], ""), part_a_len=0, **what)
        piece = np.zeros(L)
    elif model == "prefix":  # the last row of the context already learns the first token of the continuation
        targets = tuple(text[i + 1] if first <= i + 1 < L else "" for i in range(L))
        rows = dict(tokens=text, targets=targets, part_a_len=first, **what)
        piece = np.zeros(L)
    elif model == "unilm":
        tail = ("[EOS]",) * (first < L)
        second = np.repeat([0, 1], [first + 1, L - first + len(tail)])
        rows = dict(
            tokens=(*text[:first], "[EOS]", *hidden[first:], *tail),
            targets=(*[""] * (first + 1), *answers[first:], *[""] * len(tail)),
            part_a_len=first + 1,
            word=np.array([*words[:first], -1, *words[first:], *[-1] * len(tail)]),
            span_id=np.array([*span_of[:first], -1, *span_of[first:], *[-1] * len(tail)]),
            position_ids=np.arange(L + 1 + len(tail)),
        )
        piece = np.zeros(len(rows["tokens"]))
    else:  # t5
        encoder = [i for i in range(L) if not blanked[i] or i == spans[span_of[i]].start]
        part_a = [f"<X{span_of[i]}>" if blanked[i] else text[i] for i in encoder]
        output = []  # (token, word, span) of the decoder
        for k, span in enumerate(spans):
            output += [(f"<X{k}>", -1, k), *((text[i], i, k) for i in range(*span))]
        output.append((f"<X{n}>", -1, n))  # a last sentinel ends it
        part_b, targets = [("[S]", -1, 0 if n else -1), *output[:-1]], [token for token, _, _ in output]
        A, B = len(part_a), len(part_b)
        rows = dict(
            tokens=(*part_a, *(token for token, _, _ in part_b)),
            targets=(*[""] * A, *targets),
            part_a_len=A,
            word=np.array([*(-1 if blanked[i] else i for i in encoder), *(word for _, word, _ in part_b)]),
            span_id=np.array([*span_of[encoder], *(k for _, _, k in part_b)]),
            position_ids=np.array([*range(A), *range(B)]),
        )
    return derivation(model, "token", text, spans, range(n), block_position_ids=second, piece=piece, **rows)


def derivation(
    model, objective, text, spans, order, *, tokens, part_a_len, block_position_ids=None, piece=None, **rows
):
    """Return the Derivation of known rows; the other fields follow. piece: (T,), by default span_id."""
    T, A = len(tokens), part_a_len
    part = ("A",) * A + ("B",) * (T - A)
    mask = np.arange(T) < keys_of_row(np.arange(T), A)[:, None]
    has_second = block_position_ids is not None
    known = dict(
        model=model,
        objective=objective,
        text=text,
        spans=tuple(spans),
        order=tuple(order),
        tokens=tokens,
        part=part,
        part_a_len=A,
        mask=mask,
        kind=kinds(mask, part, rows["span_id"] if piece is None else piece),
        rule=rules(T, A),
        block_position_ids=block_position_ids if has_second else np.zeros(T, dtype=np.int64),
        second_position={"glm": "block position", "unilm": "segment"}.get(model, ""),
        **rows,
    )
    return Derivation(**known, steps=steps(**known))


def texts_of(example, token_texts):
    """Return a function from ids to the tuple of their texts."""
    lookup = token_texts if callable(token_texts) else token_texts.__getitem__
    names = {getattr(example.special, field): name for field, name in NAMES.items()}
    return lambda ids: tuple(names[i] if i in names else str(lookup(i)) for i in ids.tolist())


def spans_of(example):
    """Read an Example's spans, in text order, and their order in Part B off its rows: (spans, order)."""
    A, eop = example.part_a_len, example.special.eop
    begins = [*np.flatnonzero(example.block_position_ids[A:] == 1).tolist(), len(example.targets)]
    length = {}  # {row of the mask in Part A: length of its span}, in the order of Part B
    for a, b in zip(begins, begins[1:], strict=False):
        length[int(example.position_ids[A + a])] = b - a - int(example.targets[b - 1] == eop)
    spans, shift = [], 0
    for row in sorted(length):
        spans.append(Span(row + shift, row + shift + length[row]))
        shift += length[row] - 1
    return spans, [sorted(length).index(row) for row in length]


def kinds(mask, part, piece):
    """Return the name of every cell: (T, T) bool, T parts and (T,) pieces of Part B -> (T, T) strings.

    Raises KeyError for a cell that no GLM mask has (Part A seeing Part B, or Part B not seeing Part A).
    """
    T = len(part)
    names = np.empty((T, T), dtype="<U4")
    for i in range(T):
        for j in range(T):
            name = (VISIBLE if mask[i, j] else HIDDEN)[part[i], part[j]]
            if name == "BE" and piece[i] == piece[j]:
                name = "self" if i == j else "BS"
            names[i, j] = name
    return names


def rules(T, A):
    """Return which rule opens or shuts every cell, from the integers T, A, i and j alone: (T, T) strings."""
    i, j = np.arange(T)[:, None], np.arange(T)
    shut = np.where(i < A, "answers", "future")
    return np.where(j < A, "part_a", np.where((j <= i) & (i >= A), "past", shut))


def why(d, i, j):
    """Say in a sentence why row i may or may not see row j. Raises MinglmError for rows that do not exist."""
    T = len(d)
    for name, row in (("row", i), ("column", j)):
        if not 0 <= row < T:
            raise MinglmError(f"{name} {row} is not accepted: rows and columns count from 0 to {T - 1}")
    kind, opened = str(d.kind[i, j]), bool(d.mask[i, j])
    if i == j:
        kind = "self"
    elif kind == "BF" and (d.model not in ("glm", "t5") or d.span_id[i] == d.span_id[j]):
        kind = "BF same"
    because = BECAUSE[kind].format(key=d.tokens[j], **MODELS[d.model])
    return CELL.format(
        query=d.tokens[i],
        key=d.tokens[j],
        i=i,
        j=j,
        may=MAY[opened],
        because=because,
        among=AMONG[opened],
        part_a_len=d.part_a_len,
        n=keys_of_row(i, d.part_a_len),
    )


def steps(model, objective, text, spans, order, tokens, part_a_len, block_position_ids, **_):
    """Return the steps of the derivation as tuples (name, sentence, lights); lights: what the step adds."""
    L, T, A = len(text), len(tokens), part_a_len
    rows, blanked = list(range(T)), [i for span in spans for i in range(*span)]
    begins = [i for i in range(A, T) if block_position_ids[i] == 1]
    lights = {
        "tokens": {"text": list(range(L))},
        "spans": {"text": blanked},
        "masks": {"tokens": rows[:A]},
        "order": {"tokens": [i for i in rows[A:] if i not in begins]},
        "pieces": {"tokens": begins, "targets": rows[A:]},
        "input": {"tokens": rows},
        "targets": {"targets": rows},
        "positions": {"position_ids": rows} | ({"block_position_ids": rows} if model == "unilm" else {}),
        "block positions": {"block_position_ids": rows},
        "mask": {"mask": rows},
    }
    facts = MODELS[model] | dict(
        text=count(L, "token"),
        spans=count(len(spans), "span"),
        blanked=len(blanked),
        part_a=count(A, "token"),
        order=", ".join(f"s{k + 1}" for k in order) or "none",
        mask=MASK_NAMES[objective],
        sop="[S]",
        eop="[E]",
        part_a_len=A,
    )
    film = STEPS["glm" if model == "glm" else "others"]
    return tuple((name, sentence.format(**facts), lights[name]) for name, sentence in film)


def count(n, what):
    """Return "1 token", "2 tokens"."""
    return f"{n} {what}{'s' * (n != 1)}"


def plain(value):
    """Return a field as lists, strings and numbers."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, tuple) else value
