"""One network, seven ways to train it: GLM, the three families that it unites, and three ablations of the paper.

    family          Part A                  then                                      learned
    glm             x1 x2 [M] x4 [M]        [S] x5 x6  [S] x3, with 2D positions      Part B (infilling.py)
    prefix          x1 x2 x3                x4 x5 x6, positions go on                 from x4 on: the last row of Part A says x4
    gpt             -                       x1 x2 x3 x4 x5 x6                         from x2 on
    bert            x1 x2 [M] x4 x5 [M]     -                                         the words under the masks, in their rows

    glm-ordered     as glm, but Part B holds the spans in text order                  (paper table 6, "without span shuffling")
    glm-1d          as glm, but every block position is 0                             (figure 4, "without the second dimension")
    glm-sentinels   as glm, but the blanks of a text are <X0>, <X1>, ...              (table 6, "with sentinel tokens")

All of them are rows of one kind under one mask, GLMMask: only Part A's length, the spans and the positions
differ. What a model was trained as stands in its config (`GLMConfig.family`), and decides how everything that
uses it lays out its rows.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from .errors import MinglmError
from .infilling import Example, build_example
from .spans import OBJECTIVES, document_span, sample_spans

INFILLING = (
    "glm",
    "glm-ordered",
    "glm-1d",
    "glm-sentinels",
)  # these have blanks, and a Part B to write them in
FAMILIES = (*INFILLING, "gpt", "bert", "prefix")
SENTINELS = range(8, 24)  # ids: the spare rows of a vocabulary that minglm has trained
WORDS = 24  # the first id that is text


def objectives_of(family):
    """What a family's samples are drawn from: the three objectives of GLM, or the family's own one."""
    return OBJECTIVES if family in INFILLING else (family,)


# ---- training --------------------------------------------------------------------------------------------


def training_example(family, tokens, objective, rng, special, vocab_size, dials):
    """A text as a family learns from it -> Example. The objective falls back to token as in GLM where there is no sentence.

    tokens: (L,) ids, cls first. objective: one of `objectives_of(family)`. dials: those of `sample_spans`.
    """
    if family == "gpt":
        return continuation(tokens, 1, 0, special, "gpt")
    if family == "prefix":  # as much is continued as a [gMASK] span of GLM covers
        start, _ = document_span(1, len(tokens), rng, *dials["document_ratio"])
        return continuation(tokens, start, start, special, "prefix")
    if family == "bert":
        return bert_example(tokens, rng, special, vocab_size, dials["mask_ratio"], dials["has_eos"])
    spans = sample_spans(tokens, objective, rng, **dials)
    if not spans:
        objective = "token"
        spans = sample_spans(tokens, objective, rng, **dials)
    order = list(range(len(spans)))
    if family != "glm-ordered":
        rng.shuffle(order)
    return as_family(build_example(tokens, spans, order, special, objective), family)


def as_family(example, family):
    """An Example of GLM as an ablation of it has it."""
    A, special = example.part_a_len, example.special
    if family == "glm-1d":
        example.block_position_ids[:] = 0
    if family == "glm-sentinels":
        blanks = np.flatnonzero(example.tokens[:A] == special.mask)
        example.tokens[blanks] = [sentinel(n) for n in range(len(blanks))]
    return example


def sentinel(number):
    """The token of a text's blank `number`, from 0; there are 16, then they come again."""
    return SENTINELS[number % len(SENTINELS)]


def continuation(tokens, start, part_a_len, special, family):
    """Tokens as one row after the other, of which `start` and all behind it are learned: by the row before each.

    Example: continuation([5, 6, 7, 8], 2, 2, ...) has rows 5 6 7 and learns 7 in row 1 and 8 in row 2.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    T = len(tokens) - 1
    return Example(
        tokens=tokens[:-1],
        position_ids=np.arange(T),
        block_position_ids=np.zeros(T, dtype=np.int64),
        targets=tokens[start:],
        part_a_len=part_a_len,
        text_len=len(tokens),
        objective=family,
        special=special,
        target_rows=np.arange(start - 1, T),
    )


def bert_example(tokens, rng, special, vocab_size, mask_ratio, has_eos):
    """Single tokens of a text are hidden, and their own rows learn them: 80 % become [MASK], 10 % any word, 10 % stay.

    (Devlin et al. 2019, arXiv 1810.04805, section 3.1; no next sentences, as later models showed them to be
    no use.)
    """
    tokens = np.array(tokens, dtype=np.int64)
    words = list(range(1, len(tokens) - has_eos))
    rows = np.sort(rng.shuffle(words)[: max(1, int(mask_ratio * len(tokens)))])
    targets = tokens[rows]
    for row in rows:
        u = rng.uniform()
        if u < 0.8:
            tokens[row] = special.mask
        elif u < 0.9:
            tokens[row] = WORDS + rng.integer(vocab_size - WORDS)
    return all_part_a(tokens, rows, targets, special)


def all_part_a(tokens, rows, targets, special):
    """A sample without a Part B, whose `rows` say `targets` in their own place: what BERT reads -> Example."""
    tokens, rows, targets = (np.array(x, dtype=np.int64) for x in (tokens, rows, targets))
    T = len(tokens)
    return Example(
        tokens=tokens,
        position_ids=np.arange(T),
        block_position_ids=np.zeros(T, dtype=np.int64),
        targets=targets,
        part_a_len=T,
        text_len=T,
        objective="bert",
        special=special,
        target_rows=rows,
    )


# ---- use -------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """How the answer to a blank begins: rows, the last of which says its first token; each further row is a step ahead."""

    tokens: list
    positions: list
    block_positions: list
    step: int  # from one row's position to the next
    block_step: int


def refuse_bert(family):
    """The family again; MinglmError for bert, which writes nothing."""
    if family == "bert":
        raise MinglmError(
            "a model that was trained as bert writes nothing; classify, similar and finetune on labels accept it"
        )
    return family


def start_of(family, part_a, position, special):
    """The Start of the blank at `position` of Part A; GLM reads Part A before it, the others read what is left of the blank.

    Raises MinglmError for a model that was trained as BERT: it writes nothing.
    """
    if refuse_bert(family) in INFILLING:
        second = family != "glm-1d"
        return Start([special.sop], [position], [int(second)], 0, int(second))
    return Start(part_a[:position], list(range(position)), [0] * position, 1, 0)


def rows_of(start, tokens):
    """A blank's rows from its start: (tokens, positions, block positions)."""
    steps = range(1, len(tokens) + 1)
    positions = [start.positions[-1] + start.step * n for n in steps]
    block_positions = [start.block_positions[-1] + start.block_step * n for n in steps]
    return (
        [*start.tokens, *tokens],
        [*start.positions, *positions],
        [*start.block_positions, *block_positions],
    )


def next_row(start, tokens):
    """The last of a blank's rows, that of the last token."""
    n = len(tokens)
    return (
        [tokens[-1]],
        [start.positions[-1] + start.step * n],
        [start.block_positions[-1] + start.block_step * n],
    )


def read_before(family, part_a, special):
    """What is read before a blank's Start, a list of ids: GLM's Part A; of the others nothing, for their Start is the text."""
    if family in INFILLING:
        return with_sentinels(part_a, special) if family == "glm-sentinels" else part_a
    return []


def with_sentinels(part_a, special):
    """Part A with a sentinel in place of each [MASK]."""
    blanks = [i for i, token in enumerate(part_a) if token == special.mask]
    return [sentinel(blanks.index(i)) if i in blanks else token for i, token in enumerate(part_a)]


def text_limit(config, to_text=False):
    """How many tokens a text with one blank may have (a GLMConfig, whether the answer is a text -> tokens).

    GLM's answers stand at the blank's own position; all others go on in the same positions, so some are kept
    for them: half for a text, eight for a label.
    """
    if config.family in INFILLING:
        return config.max_positions
    return config.max_positions // 2 if to_text else max(1, config.max_positions - 8)


def end_of(family, special):
    """The token that ends an answer: eop, and of a model that writes from left to right eos."""
    return special.eop if family in INFILLING else special.eos


def text_example(family, tokens, special):
    """A text that is read for its states alone -> Example: by gpt from left to right, by all others as Part A."""
    example = all_part_a(tokens, [], [], special)
    return example if family != "gpt" else dataclasses.replace(example, part_a_len=0)


def answer_example(family, part_a, position, answer, special, objective="token", end=True):
    """Part A with `answer` in its blank at `position`, as a sample that a family learns (or scores) -> Example.

    end: what follows the answer is asked for too: eop in GLM, and in gpt and prefix the text behind the
    blank, or eos where there is none. BERT reads a mask for each token, so it is told how many there are.
    """
    answer = list(answer)
    if family == "bert":
        tokens = [*part_a[:position], *[special.mask] * len(answer), *part_a[position + 1 :]]
        return all_part_a(tokens, range(position, position + len(answer)), answer, special)
    if family not in INFILLING:
        behind = (part_a[position + 1 :] or [end_of(family, special)]) if end else []
        A = position if family == "prefix" else 0
        return continuation([*part_a[:position], *answer, *behind], position, A, special, family)
    targets = [*answer, end_of(family, special)] if end else answer
    tokens, positions, block_positions = rows_of(start_of(family, part_a, position, special), targets[:-1])
    before, A = read_before(family, part_a, special), len(part_a)
    return Example(
        tokens=np.array([*before, *tokens], dtype=np.int64),
        position_ids=np.array([*range(A), *positions], dtype=np.int64),
        block_position_ids=np.array([0] * A + block_positions, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        part_a_len=A,
        text_len=A + len(targets) - 1,
        objective=objective,
        special=special,
    )
