"""A record of a task as the model reads it: a question with candidate answers, or a pair of texts."""

from dataclasses import dataclass
from functools import cache

from ..errors import MinglmError, note
from ..special import SpecialTokens


@dataclass(frozen=True, eq=False)
class Question:
    """A row as the model reads it: Part A with its mask at `position`, and the tokens of each label's answer.

    whole: answers are scored to their end, else by their one token. gold: the right label's index, or None.
    cut: tokens that had to go.
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
        """Part A and one answer as a sample that a model of a family (layout.py) learns: an Example."""
        from ..families import answer_example

        return answer_example(family, self.part_a, self.position, answer, self.special, end=end)


@dataclass(frozen=True, eq=False)
class Pair:
    """A row of text to text as the model reads it: Part A with its mask at `position`, and the tokens to write, or None.

    targets: the answer and eop; a cut one has no eop. cut, cut_target: tokens of Part A and of the targets
    that had to go.
    """

    part_a: list
    position: int
    targets: list | None
    cut: int
    cut_target: int
    objective: str
    special: SpecialTokens

    def example(self, family="glm"):
        """Part A and its targets as a sample that a model of a family (layout.py) learns: an Example."""
        from ..families import answer_example

        whole = self.targets[-1] == self.special.eop
        answer = self.targets[:-1] if whole else self.targets
        return answer_example(
            family, self.part_a, self.position, answer, self.special, self.objective, end=whole
        )


def _is_text(x):
    if not isinstance(x, str) or not x.strip():
        return False
    return not any("\ud800" <= c <= "\udfff" for c in x)


def _shortened(lens, may, limit):
    """How many tokens each piece keeps: one goes at a time, from the longest that `may` be shortened (of equals the last).

    Example: lens=[1, 5, 3], may=[1, 2], limit=6 -> [1, 3, 2].
    """
    lens, excess = list(lens), sum(lens) - limit
    for _ in range(excess):
        longest = max(may, key=lambda i: (lens[i], i), default=None)
        if longest is None or not lens[longest]:
            raise MinglmError(
                f"{sum(lens)} tokens are left that may not be shortened; this model reads {limit}"
            )
        lens[longest] -= 1
    return lens


def ask_all(task, tokenizer, rows, limit, labelled=False):
    """The Question or Pair of each row, and notes that count what had to be cut. rows: {where it stands: row}."""
    encode, questions = cache(tokenizer.encode), []
    for where, row in rows.items():
        try:
            questions.append(task.ask(tokenizer, row, limit, labelled, encode))
        except MinglmError as error:
            raise MinglmError(f"{where}: {error}") from None
    if cut := [question.cut for question in questions if question.cut]:
        note(
            f"{len(cut):,} of {len(questions):,} texts were too long for this model, which reads {limit} tokens: "
            f"{sum(cut):,} tokens were cut"
        )
    if cut := [question.cut_target for question in questions if getattr(question, "cut_target", 0)]:
        note(
            f"{len(cut):,} of {len(questions):,} answers were too long to be written, so their ends, {sum(cut):,} tokens, "
            "are not learned"
        )
    return questions
