"""Classification as filling a blank: a pattern asks, and the words of each label compete for the blank (paper section 2.3).

    "{text} It was [MASK]."                   Part A   [CLS] A fine film. It was [MASK] . <eos>
    positive: good, negative: bad             Part B   sop, at the mask's position

The row of `sop` says how likely " good" and " bad" are: where each label is one token, that is all. Where a
label is more (or rows bring their own candidates), each answer is read to its end: log P = the sum over its
tokens and eop. Part A is read once for all of them. Nothing is new in the model, so it answers before it has
seen one labelled text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ..batch import columns, in_runs, pack
from ..checks import check_pair, finite
from ..errors import MinglmError
from ..families import rows_of, start_of, text_limit
from ..modules import device_of, evaluating
from .questions import ask_all
from .reader import Reader
from .tasks import Cloze, read_task

MAX_ROWS = 8192  # of one batch, cached rows counted


@dataclass(frozen=True)
class Prediction:
    """What a model says to a row: the label, and the probability of each; they sum to 1."""

    label: str
    probabilities: dict


# ---- scores ----------------------------------------------------------------------------------------------


class ClozeScorer(nn.Module):
    """A GLM that scores the answers of questions: log-probabilities, but for a constant of each question."""

    def __init__(self, model, length_penalty=0.0):
        super().__init__()
        self.model, self.length_penalty = model, length_penalty

    def rows(self, question):
        """How many rows a question takes in a batch."""
        A = len(question.part_a) + 1
        return sum(A + len(answer) for answer in question.answers) if question.whole else A

    def forward(self, questions):
        """Questions of one task -> (S, most candidates); where a question has fewer, -inf."""
        if not questions[0].whole:
            return self.at_sop(questions)
        answers = [answer for question in questions for answer in question.answers]
        once = self.model.config.family == "glm" and not torch.is_grad_enabled()
        sums = self.read_part_a_once(questions) if once else self.read_all(questions)
        lens = torch.tensor([len(answer) + 1 for answer in answers], device=sums.device)
        scores = sums / lens**self.length_penalty
        return pad_sequence(
            scores.split([len(q.answers) for q in questions]), batch_first=True, padding_value=-math.inf
        )

    def at_sop(self, questions):
        """Each label is one token: the logits of these tokens after sop, (S, labels)."""
        words = torch.tensor([answer for [answer] in questions[0].answers], device=device_of(self.model))
        family = (
            self.model.config.family
        )  # any answer will do: the row that says its one token is asked for, and no end
        batch = pack([q.example(q.answers[0], family, end=False) for q in questions]).to(words.device)
        states = self.model.hidden(*columns(batch), rows=batch.target_rows)  # (S, C)
        return self.model.head(states, words).float()

    def read_all(self, questions):
        """log P of each answer, one training sample for each, so that gradients flow: (all answers,)."""
        family = self.model.config.family
        examples = [question.example(answer, family) for question in questions for answer in question.answers]
        losses = self.model.loss(pack(examples).to(device_of(self.model)), "none")
        return -torch.stack([loss.sum() for loss in losses.split([len(e.targets) for e in examples])])

    def read_part_a_once(self, questions):
        """The same numbers with Part A read once a question; the answers are read on forks of it."""
        which = [n for n, question in enumerate(questions) for _ in question.answers]
        answers = [answer for question in questions for answer in question.answers]
        room = max(len(q.part_a) for q in questions) + max(map(len, answers)) + 1  # a fork wants it equal
        reader = Reader(self.model, questions, [room - len(question.part_a) for question in questions]).fork(
            which
        )
        starts = [
            start_of("glm", question.part_a, question.position, question.special) for question in questions
        ]
        new = [rows_of(starts[n], answer) for n, answer in zip(which, answers, strict=True)]
        log_p = reader.read(new, want="all")
        targets = torch.tensor([t for answer in answers for t in (*answer, questions[0].special.eop)])
        log_p = log_p[torch.arange(len(targets)), targets].split([len(answer) + 1 for answer in answers])
        return torch.stack([x.sum() for x in log_p])


@torch.no_grad()
def predict(scorer, questions):
    """The probabilities of each question's labels: a list of (labels,) tensors, in the order of the questions."""
    found, scorer = [], evaluating(scorer)
    with tqdm(total=len(questions), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(questions, scorer.rows, MAX_ROWS):
            for question, row in zip(run, scorer(run).cpu(), strict=True):
                found.append(finite(row[: len(question.labels)]).softmax(-1))
            bar.update(len(run))
    return found


def classify(model, tokenizer, task, texts):
    """What a text is -> Prediction; of a list of them, packed -> a list.

    task: a Cloze, or what `read_task` reads. texts: a row with the task's columns as a dict, or its text
    where the task has one column. Raises MinglmError as `Cloze.ask` does.
    """
    check_pair(model, tokenizer)
    task = task if isinstance(task, Cloze) else read_task(task, Cloze)
    single = isinstance(texts, str | Mapping)
    rows = {}
    for n, text in enumerate([texts] if single else texts, 1):
        if isinstance(text, str) and len(task.columns) > 1:
            raise MinglmError(
                f"{task.name}: a text for each of {', '.join(task.columns)} is needed, as a dict"
            )
        rows["text" if single else f"text {n}"] = {task.columns[0]: text} if isinstance(text, str) else text
    found = predictions(model, task, ask_all(task, tokenizer, rows, text_limit(model.config)))
    return found[0] if single else found


def predictions(model, task, questions):
    """The Prediction of each question."""
    found = predict(ClozeScorer(model, task.length_penalty), questions)
    return [
        Prediction(q.labels[int(p.argmax())], dict(zip(q.labels, p.tolist(), strict=True)))
        for q, p in zip(questions, found, strict=True)
    ]


# ---- how good an answer is -------------------------------------------------------------------------------
