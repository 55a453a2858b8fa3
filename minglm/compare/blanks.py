"""A blank whose right side matters, filled by each family in its own way, without fine-tuning.

GLM reads both sides and finds out how long the answer is. BERT reads both sides and is told the number of
tokens: it gets one mask per token and predicts all of them at once. GPT and the prefix LM read the left side
only, and are told the number of tokens, too.
"""

import math
import re

from ..errors import MinglmError
from ..families import INFILLING, answer_example
from ..measure.evaluate import accepted_answers, answers_of, as_answer, likeliest_words, with_blanks, written
from ..measure.metrics import jackknife, mean_of, standard_error
from ..measure.perplexity import read_answers
from ..rng import HELD_OUT, Rng
from ..use.drafts import Dials, Draft, fill_drafts
from ..use.tasks import BLANK

MARKS = ".,!?;:\"'"  # at the end of a blank's last word: they stay in the text


def story_blanks(stories, most):
    """Up to `most` pairs of sentences of stories, each with a blank of one to three words: a list of records.

    A record is {"text" with one [BLANK], "blanks": [its words]}. At least three words stand on each side.
    Each blank is a function of its place, so every family gets the same. Raises MinglmError if there is none.
    """
    records = []
    for number, story in enumerate(stories):
        sentences = re.split(r"(?<=[.!?]) ", story)
        for k in range(0, len(sentences) - 1, 4):
            words, rng = " ".join(sentences[k : k + 2]).split(), Rng(0, number, k, HELD_OUT)
            if not 12 <= len(words) <= 60:
                continue
            length = 1 + rng.integer(3)
            start = 3 + rng.integer(len(words) - length - 5)
            answer = " ".join(words[start : start + length])
            kept = answer.rstrip(MARKS)
            if kept:
                after = answer[len(kept) :] + " " + " ".join(words[start + length :])
                text = " ".join(words[:start]) + f" {BLANK}{after}"
                records.append(dict(text=text, blanks=[kept]))
    if not records:
        raise MinglmError("stories: none has two sentences of 12 to 60 words in all; such stories are needed")
    return records[:most]


def everyday_blanks(rows):
    """The records of {"text" with [MASK], "accept"}; a blank holds the first answer."""
    return [
        dict(row, text=row["text"].replace("[MASK]", BLANK), blanks=row["accept"][:1])
        for row in rows.values()
    ]


def score_blanks(model, tokenizer, records, in_bits=False):
    """The share of acceptable greedy fillings in percent, or the bits of the right ones, as a cell's result.

    Without "accept" in a record, only its own words are acceptable; case and final punctuation do not matter.
    The bits of a GLM contain the end of the blank: it has to find its length.
    """
    read = [with_blanks(tokenizer, record)[0] for record in records]
    answers = [answers_of(tokenizer, record["blanks"])[0] for record in records]
    n = len(records)
    if in_bits:
        bits = [float(losses.sum()) / math.log(2) for losses in losses_of(model, tokenizer, read, answers)]
        mean, error = jackknife(mean_of(bits, [1] * n), n)
        return dict(metric="bits per blank", n=n, score=mean, standard_error=error)
    filled = map(as_answer, map(tokenizer.decode, fillings(model, tokenizer, read, answers)))
    accepted = [accepted_answers({"accept": r["blanks"]} | r) for r in records]
    share = sum(text in those for text, those in zip(filled, accepted, strict=True)) / n
    return dict(metric="exact", n=n, score=100 * share, standard_error=100 * standard_error(share, n))


def losses_of(model, tokenizer, read, answers):
    """Yields the losses in nats of the tokens of each answer, of a GLM also of the end."""
    special, family, examples = tokenizer.special, model.config.family, []
    for ids, answer in zip(read, answers, strict=True):
        part_a = [special.cls, *ids, special.eos]
        position, end = part_a.index(special.mask), family in INFILLING
        examples.append(answer_example(family, part_a, position, answer, special, end=end))
    for losses, _ in read_answers(model, examples):
        yield losses


def fillings(model, tokenizer, read, answers):
    """The greedy filling of each text, a list of tokens. answers: only their lengths are used."""
    special, family = tokenizer.special, model.config.family
    if family in INFILLING:
        return [blanks[0] for blanks in written(model, tokenizer, read)]
    if family == "bert":
        masked = [
            [x for token in ids for x in [token] * (len(answer) if token == special.mask else 1)]
            for ids, answer in zip(read, answers, strict=True)
        ]
        return [[word for (word,) in words] for words in likeliest_words(model, tokenizer, masked)]
    drafts = []
    for ids, answer in zip(read, answers, strict=True):
        before = [*ids[: ids.index(special.mask)], special.gmask]
        dials = Dials(min_tokens=len(answer), max_tokens=len(answer))
        drafts.append((Draft(model, tokenizer, before, dials), dials))
    for length in {dials.max_tokens for _, dials in drafts}:
        group = [(draft, dials) for draft, dials in drafts if dials.max_tokens == length]
        fill_drafts(model, [draft for draft, _ in group], group[0][1])
    return [draft.blanks[0].tokens for draft, _ in drafts]
