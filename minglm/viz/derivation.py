"""One sample row by row: tokens, both positions, targets, who sees whom and why, and the steps that lead there.

Nothing is worked out here a second time: GLM's rows come from `infilling.build_example`, what is visible from
`rule.keys_of_row`, as for GLMMask, so a picture cannot disagree with what is trained. This page only gives
every cell a name:

    AA    Part A sees Part A                    AB   hidden: Part A never sees Part B
    BA    Part B sees Part A                    BF   hidden: Part B never sees what comes later in Part B
    BE    Part B sees an earlier span           self a token of Part B sees itself
    BS    ... an earlier token of its own span       (a token of Part A does so too: AA, on the diagonal)

The other families read the same text as rows of the same kind: one integer, the length of Part A, is the mask
of each.
"""

from dataclasses import dataclass

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
MASK_NAMES = {"token": "[M]", "sentence": "[sM]", "document": "[gM]"}
VISIBLE = {("A", "A"): "AA", ("B", "A"): "BA", ("B", "B"): "BE"}
HIDDEN = {("A", "B"): "AB", ("B", "B"): "BF"}
KINDS = ("AA", "BA", "BE", "BS", "self", "AB", "BF")


@dataclass(frozen=True, eq=False)
class Derivation:
    """A sample of T rows made of a text of L tokens, as texts and numbers ready to be shown.

    model: one of words.MODELS; text: L texts; spans: half-open, in text order; order: of the spans in Part B,
    from 0. tokens, targets: T texts ("" where nothing is learned); part: T times "A" or "B"; word: (T,) ints,
    the token of the text that stands in the row or stood there before it was blanked, else -1; span_id: (T,)
    ints, the span that the row belongs to or is the mask of, else -1; position_ids, block_position_ids: (T,)
    ints; second_position: what the latter are called, "" for a model without; mask: (T, T) bool, True = may
    attend; kind: (T, T) of KINDS; rule: (T, T) of words.RULES; steps: (name, sentence, lights), lights:
    {lane: what the step adds to it}, lanes being the fields text, tokens, targets, position_ids,
    block_position_ids (indices) and mask (rows).
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
        """Everything as a dict of lists, strings and numbers, with the version of this format."""
        return {
            "version": VERSION,
            **{name: plain(getattr(self, name)) for name in self.__dataclass_fields__},
        }

    def _repr_html_(self):
        """What a notebook shows: the explorer, opened at this sample."""
        from .page import html, iframe

        return iframe(html(self))

    @classmethod
    def from_json(cls, data):
        """What `to_json` gave, as a Derivation again. It is derived anew and compared: a file cannot make a picture lie."""
        wanted = f"what to_json() gives in version {VERSION} is accepted"
        if not isinstance(data, dict) or data.get("version") != VERSION:
            version = data.get("version") if isinstance(data, dict) else None
            raise MinglmError(f"derivation: version {version!r}; {wanted}")
        try:
            texts, (spans, order) = data["text"], (data["spans"], data["order"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
            derived = explain(
                texts, [Span(*span) for span in spans], order, data["objective"], model=data["model"]
            )
        except (KeyError, TypeError) as error:
            raise MinglmError(
                f"derivation: text, spans, order, objective or model is missing or no list; {wanted}"
            ) from error
        if wrong := [name for name, value in derived.to_json().items() if data.get(name) != value]:
            raise MinglmError(f"derivation: {wrong[0]} is not what follows from its text and spans; {wanted}")
        return derived


def explain(tokens, spans, order, objective="token", *, model="glm"):
    """What a model reads and learns when `spans` of `tokens` are blanked; Part B holds them in `order`. -> Derivation.

    tokens: words, or ids of a vocabulary; nothing is added to them ("[EOS]" and "<|endoftext|>" are the end
    of a document). spans: half-open, counted from 0. order: a permutation of 0 .. n - 1 of the spans in text
    order. model: "glm", or a relative on the same text, without order and objective: "bert", "gpt", "prefix",
    "unilm", "t5".

    Example: explain(["x1", "x2", "x3"], [(1, 2)], [0]) -> tokens x1 [M] x3 [S] x2, targets "" "" "" x2 [E].
    """
    for name, value, accepted in (("objective", objective, OBJECTIVES), ("model", model, MODELS)):
        if value not in accepted:
            raise MinglmError(f"{name} {value!r} is not accepted: it is one of {', '.join(accepted)}")
    if isinstance(tokens, str):
        raise TypeError("tokens: a list of words is accepted, str given")
    if not len(tokens):
        raise MinglmError("tokens: none came; at least one is needed")
    special = SpecialTokens()
    ids, words = list(tokens), str
    if not all(isinstance(token, int | np.integer) for token in tokens):
        ids = [special.eos if token in EOS_TEXTS else FIRST_WORD + i for i, token in enumerate(tokens)]
        words = dict(zip(ids, tokens, strict=True))
    example = build_example(ids, spans, order, special, objective)
    return derivation_of(example, words) if model == "glm" else relative(model, example, words)


def derivation_of(example: Example, token_texts):
    """The Derivation of any Example, one from training too. token_texts: id -> text, a dict, a list or a function.

    Special tokens go by their short names: [M] [sM] [gM] [S] [E] [CLS] [EOS].
    """
    texts, (spans, order) = texts_of(example, token_texts), spans_of(example)
    T, A = len(example.tokens), example.part_a_len
    # A row of Part B carries the position of its mask in Part A, and no two spans share a mask.
    mask_rows = np.unique(example.position_ids[A:])
    span_id = np.full(T, -1)
    span_id[mask_rows] = np.arange(len(mask_rows))
    span_id[A:] = np.searchsorted(mask_rows, example.position_ids[A:])
    kept = [i for i in range(example.text_len) if not any(span.start <= i < span.end for span in spans)]
    word = np.full(T, -1)
    word[np.setdiff1d(np.arange(A), mask_rows)] = kept
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
    """The same text and spans as another family reads them -> Derivation. Which rows there are is said in words.MODELS."""
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
        spoken = [
            (f"<X{k}>", -1, k) for k in range(n + 1)
        ]  # (token, word, span) of the decoder; a last sentinel ends it
        for k, span in reversed(list(enumerate(spans))):
            spoken[k + 1 : k + 1] = [(text[i], i, k) for i in range(*span)]
        part_b, targets = [("[S]", -1, 0 if n else -1), *spoken[:-1]], [token for token, _, _ in spoken]
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
    """The Derivation of rows that are known: parts, mask, kinds, rules and steps follow. piece: (T,), if not span_id."""
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
    """A function from ids to the tuple of their texts."""
    lookup = token_texts if callable(token_texts) else token_texts.__getitem__
    names = {getattr(example.special, field): name for field, name in NAMES.items()}
    return lambda ids: tuple(names[i] if i in names else str(lookup(i)) for i in ids.tolist())


def spans_of(example):
    """The spans of an Example in text order, and their order in Part B: (spans, order), read off its rows."""
    A, eop = example.part_a_len, example.special.eop
    begins = [*np.flatnonzero(example.block_position_ids[A:] == 1).tolist(), len(example.targets)]
    length = {}  # of the span whose mask stands at a row of Part A, in the order of Part B
    for a, b in zip(begins, begins[1:], strict=False):
        length[int(example.position_ids[A + a])] = b - a - int(example.targets[b - 1] == eop)
    spans, shift = [], 0
    for row in sorted(length):
        spans.append(Span(row + shift, row + shift + length[row]))
        shift += length[row] - 1
    return spans, [sorted(length).index(row) for row in length]


def kinds(mask, part, piece):
    """The name of every cell: (T, T) bool, T parts and (T,) pieces of Part B -> (T, T) strings.

    A cell that no GLM mask can have (Part A seeing Part B, or Part B not seeing Part A) is a KeyError.
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
    """Which rule opens or shuts every cell, from the three integers alone: (T, T) strings."""
    i, j = np.arange(T)[:, None], np.arange(T)
    shut = np.where(i < A, "answers", "future")
    return np.where(j < A, "part_a", np.where((j <= i) & (i >= A), "past", shut))


def why(d, i, j):
    """Why row i may or may not see row j, in a sentence. Raises MinglmError for rows that there are not."""
    T = len(d)
    for name, row in (("row", i), ("column", j)):
        if not 0 <= row < T:
            raise MinglmError(f"{name} {row} is not accepted: rows and columns count from 0 to {T - 1}")
    kind, opened = str(d.kind[i, j]), bool(d.mask[i, j])
    if i == j:
        kind = "self"
    elif kind == "BF" and d.model not in ("glm", "t5") or kind == "BF" and d.span_id[i] == d.span_id[j]:
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
    """The derivation as a film: what each step adds, and its sentence. Returns tuples (name, sentence, lights)."""
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
    """ "1 token", "2 tokens"."""
    return f"{n} {what}{'s' * (n != 1)}"


def plain(value):
    """A field as JSON has it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, tuple) else value
