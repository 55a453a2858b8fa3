"""One network, seven ways to train it: GLM, the three families that it unites, and three ablations.

    family          Part A                 Part B                            targets
    glm             x1 x2 [M] x4 [M]       [S] x5 x6  [S] x3, 2D positions   x5 x6 [E] x3 [E] (infilling.py)
    prefix          x1 x2 x3               x4 x5 x6, positions continue      x4 x5 x6 (x4 in the row of x3)
    gpt             -                      x1 x2 x3 x4 x5 x6                 x2 x3 x4 x5 x6
    bert            x1 x2 [M] x4 x5 [M]    -                                 x3 x6, in the rows of their masks

    glm-ordered     as glm, but Part B has the spans in text order    (table 6, "without span shuffling")
    glm-1d          as glm, but all block positions are 0     (figure 4, "without the second dimension")
    glm-sentinels   as glm, but the masks are <X0>, <X1>, ...         (table 6, "with sentinel tokens")

They differ only in the length of Part A, the spans and the positions; the mask is always a GLMMask. The
family is part of a model's config (`GLMConfig.family`) and decides how rows are laid out for the model.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from .errors import MinglmError
from .infilling import Example, build_example
from .spans import OBJECTIVES, document_span, sample_spans

INFILLING = ("glm", "glm-ordered", "glm-1d", "glm-sentinels")  # these fill blanks, in Part B
FAMILIES = (*INFILLING, "gpt", "bert", "prefix")
RUNS_ON = ("document", "gpt", "prefix")  # objectives that continue a text
SENTINELS = range(8, 24)  # ids: the spare rows of a vocabulary trained by minglm
WORDS = 24  # the first id that is text


def objectives_of(family):
    """The objectives of a family: the three of GLM, or one named like the family."""
    return OBJECTIVES if family in INFILLING else (family,)


# ---- training --------------------------------------------------------------------------------------------


def training_example(family, tokens, objective, rng, special, vocab_size, dials):
    """The Example that a family learns from a text. "sentence" becomes "token" if there is no whole sentence.

    tokens: (L,) ids, cls first. objective: one of `objectives_of(family)`. dials: keyword arguments of
    `sample_spans`.
    """
    if family == "gpt":
        return continuation(tokens, 1, 0, special, "gpt")
    if family == "prefix":  # the continuation is as long as a [gMASK] span of GLM
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
    """A GLM Example, changed in place to what an ablation reads."""
    A, special = example.part_a_len, example.special
    if family == "glm-1d":
        example.block_position_ids[:] = 0
    if family == "glm-sentinels":
        blanks = np.flatnonzero(example.tokens[:A] == special.mask)
        example.tokens[blanks] = [sentinel(n) for n in range(len(blanks))]
    return example


def sentinel(number):
    """The mask token of blank `number` of a text, from 0. There are 16; after that they repeat."""
    return SENTINELS[number % len(SENTINELS)]


def continuation(tokens, start, part_a_len, special, family):
    """An Example in text order whose targets are the tokens from `start` on; the row before each predicts it.

    Example: continuation([5, 6, 7, 8], 2, 2, ...) has rows 5 6 7; row 1 predicts 7 and row 2 predicts 8.
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
    """An Example of BERT: of the chosen tokens 80 % become [MASK], 10 % a random token, and 10 % stay.

    (Devlin et al. 2019, arXiv 1810.04805, section 3.1; without next-sentence prediction, which later models
    showed to be of no use.)
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
    """An Example without Part B, as BERT reads it: `rows` predict `targets`, their own tokens."""
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
    """The rows before an answer, the last of which predicts its first token; how positions go on."""

    tokens: list
    positions: list
    block_positions: list
    step: int  # from one row's position to the next
    block_step: int  # likewise for block positions


def refuse_bert(family):
    """Return `family`; raise MinglmError if it is bert, which cannot write."""
    if family == "bert":
        accept = "classify, similar and finetune on labels accept it"
        raise MinglmError(f"a model that was trained as bert writes nothing; {accept}")
    return family


def start_of(family, part_a, position, special):
    """The Start of the blank at `position` of Part A; except in GLM it holds the text before the blank.

    Raises MinglmError for bert, which cannot write.
    """
    if refuse_bert(family) in INFILLING:
        second = family != "glm-1d"
        return Start([special.sop], [position], [int(second)], 0, int(second))
    return Start(part_a[:position], list(range(position)), [0] * position, 1, 0)


def rows_of(start, tokens):
    """A blank's rows when `tokens` have been written: lists of tokens, positions and block positions."""
    steps = range(1, len(tokens) + 1)
    positions = [start.positions[-1] + start.step * n for n in steps]
    block_positions = [start.block_positions[-1] + start.block_step * n for n in steps]
    return (
        [*start.tokens, *tokens],
        [*start.positions, *positions],
        [*start.block_positions, *block_positions],
    )


def next_row(start, tokens):
    """The last of these rows alone, that of the last token."""
    position = start.positions[-1] + start.step * len(tokens)
    return [tokens[-1]], [position], [start.block_positions[-1] + start.block_step * len(tokens)]


def read_before(family, part_a, special):
    """The ids to read before the Start: Part A in GLM, none in the others, whose Start is the text itself."""
    if family in INFILLING:
        return with_sentinels(part_a, special) if family == "glm-sentinels" else part_a
    return []


def with_sentinels(part_a, special):
    """Part A with a sentinel in place of each [MASK]."""
    numbers = itertools.count()
    return [sentinel(next(numbers)) if token == special.mask else token for token in part_a]


def text_limit(config, to_text=False):
    """The most tokens that a text with one blank may have; config: GLMConfig, to_text: the answer is a text.

    In GLM an answer shares the position of its blank. In the others it takes further positions, so some are
    reserved: half for a text, eight for a label.
    """
    if config.family in INFILLING:
        return config.max_positions
    return config.max_positions // 2 if to_text else max(1, config.max_positions - 8)


def end_of(family, special):
    """The token that ends an answer: eop in GLM, eos in the others."""
    return special.eop if family in INFILLING else special.eos


def text_example(family, tokens, special):
    """An Example without targets, for the states of a text: causal for gpt, all Part A for the others."""
    example = all_part_a(tokens, [], [], special)
    return example if family != "gpt" else dataclasses.replace(example, part_a_len=0)


def answer_example(family, part_a, position, answer, special, objective="token", end=True):
    """The Example by which a family learns (or scores) `answer` in the blank at `position` of Part A.

    end: the targets also contain what follows the answer: eop in GLM; in gpt and prefix the text after the
    blank, or eos if there is none. BERT reads one mask per token, so it knows the length of the answer.
    """
    answer = list(answer)
    if family == "bert":
        tokens = [*part_a[:position], *[special.mask] * len(answer), *part_a[position + 1 :]]
        return all_part_a(tokens, range(position, position + len(answer)), answer, special)
    if family not in INFILLING:
        rest = (part_a[position + 1 :] or [end_of(family, special)]) if end else []
        A = position if family == "prefix" else 0
        return continuation([*part_a[:position], *answer, *rest], position, A, special, family)
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
