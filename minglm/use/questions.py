"""A record of a task as the model reads it: a Question with candidate answers, or a Pair of texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ..errors import MinglmError, note
from ..special import SpecialTokens


@dataclass(frozen=True, eq=False)
class Question:
    """A record of a Cloze as the model reads it: Part A, its mask at `position`, and the answers.

    answers: the tokens of each label. whole: answers are scored to their end, otherwise by their one token.
    gold: the right label's index, or None. cut: how many tokens were cut.
    """

    part_a: list
    position: int
    labels: list
    answers: list
    whole: bool
    gold: int | None
    cut: int
    special: SpecialTokens

    @property
    def part_a_len(self):
        return len(self.part_a)

    def example(self, answer, family="glm", end=True):
        """Part A and one answer as a training sample of a family (families.py): an Example."""
        from ..families import answer_example

        return answer_example(family, self.part_a, self.position, answer, self.special, end=end)


@dataclass(frozen=True, eq=False)
class Pair:
    """A record of a TextToText as the model reads it: Part A, its mask at `position`, and the targets.

    targets: the tokens of the answer, then eop unless the answer was cut; or None. cut, cut_target: how many
    tokens of Part A and of the targets were cut.
    """

    part_a: list
    position: int
    targets: list | None
    cut: int
    cut_target: int
    objective: str
    special: SpecialTokens

    def example(self, family="glm"):
        """Part A and its targets as a training sample of a family (families.py): an Example."""
        from ..families import answer_example

        end = self.targets[-1] == self.special.eop
        answer = self.targets[:-1] if end else self.targets
        return answer_example(family, self.part_a, self.position, answer, self.special, self.objective, end)


def _is_text(x):
    """Whether x is a str with more than white space in it, and without lone surrogates."""
    return isinstance(x, str) and bool(x.strip()) and not any("\ud800" <= c <= "\udfff" for c in x)


def _shortened(lens, may, limit):
    """How many tokens each piece keeps: they are cut one by one, from the longest piece of those in `may`.

    Of equally long pieces, the last one is cut. Example: lens=[1, 5, 3], may=[1, 2], limit=6 -> [1, 3, 2].
    """
    lens, excess = list(lens), sum(lens) - limit
    for _ in range(excess):
        longest = max(may, key=lambda i: (lens[i], i), default=None)
        if longest is None or not lens[longest]:
            what = f"{sum(lens)} tokens are left that may not be shortened"
            raise MinglmError(f"{what}; this model reads {limit}")
        lens[longest] -= 1
    return lens


def records_of(task, texts):
    """(records as {where each comes from: record}, whether `texts` is a single one).

    texts: a dict of the task's columns, or a str if the task has just one column; or a list of them.
    """
    single, records = isinstance(texts, str | Mapping), {}
    for n, text in enumerate([texts] if single else texts, 1):
        if isinstance(text, str) and len(task.columns) > 1:
            what = f"a text for each of {', '.join(task.columns)} is needed, as a dict"
            raise MinglmError(f"{task.name}: {what}")
        where = "text" if single else f"text {n}"
        records[where] = {task.columns[0]: text} if isinstance(text, str) else text
    return records, single


def ask_all(task, tokenizer, records, limit, labelled=False):
    """The Question or Pair of each record, in a list; notes on stderr count what was cut.

    records: {where each comes from: record}.
    """
    encode, questions = cache(tokenizer.encode), []
    for where, record in records.items():
        try:
            questions.append(task.ask(tokenizer, record, limit, labelled, encode))
        except MinglmError as error:
            raise MinglmError(f"{where}: {error}") from None
    if cut := [question.cut for question in questions if question.cut]:
        what = f"{len(cut):,} of {len(questions):,} texts were too long for this model"
        note(f"{what}, which reads {limit} tokens: {sum(cut):,} tokens were cut")
    if cut := [question.cut_target for question in questions if getattr(question, "cut_target", 0)]:
        what = f"{len(cut):,} of {len(questions):,} answers were too long to be written"
        note(f"{what}, so their ends, {sum(cut):,} tokens, are not learned")
    return questions
