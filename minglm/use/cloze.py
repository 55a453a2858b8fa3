"""Classification as filling a blank: the words of the labels compete for the blank (paper section 2.3).

    "{text} It was [MASK]."                   Part A   [CLS] A fine film. It was [MASK] . <eos>
    positive: good, negative: bad             Part B   sop, at the mask's position

The row of `sop` gives the probabilities of " good" and " bad"; if each label is one token, that is all. If a
label has more tokens (or records bring their own candidates), each answer is read to its end: log P = the sum
over its tokens and eop. Part A is read once for all answers. The model needs no new parts, so it can classify
before it has seen a single labelled text.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ..batch import columns, in_runs, pack
from ..checks import check_pair, finite
from ..families import rows_of, start_of, text_limit
from ..modules import device_of, evaluating
from .questions import ask_all, records_of
from .reader import Reader
from .tasks import Cloze, read_task

BATCH_ROWS = 8192  # most rows of one batch, cached rows included


@dataclass(frozen=True)
class Prediction:
    """A model's answer to a record: the likeliest label, and {label: probability}, which sum to 1."""

    label: str
    probabilities: dict


class ClozeScorer(nn.Module):
    """A GLM that scores the answers of questions: log-probabilities, up to a constant per question."""

    def __init__(self, model, length_penalty=0.0):
        super().__init__()
        self.model, self.length_penalty = model, length_penalty

    def rows(self, question):
        """The number of rows that a question takes in a batch."""
        A = len(question.part_a) + 1
        return sum(A + len(answer) for answer in question.answers) if question.whole else A

    def forward(self, questions):
        """Questions of one task -> scores (S, most candidates), padded with -inf."""
        if not questions[0].whole:
            return self.at_sop(questions)
        answers = [answer for question in questions for answer in question.answers]
        once = self.model.config.family == "glm" and not torch.is_grad_enabled()
        sums = self.read_part_a_once(questions) if once else self.read_all(questions)
        lens = torch.tensor([len(answer) + 1 for answer in answers], device=sums.device)
        scores = (sums / lens**self.length_penalty).split([len(q.answers) for q in questions])
        return pad_sequence(scores, batch_first=True, padding_value=-math.inf)

    def at_sop(self, questions):
        """The logits after sop of labels that are one token each: (S, labels)."""
        words = torch.tensor([answer for [answer] in questions[0].answers], device=device_of(self.model))
        # any answer will do: only the row that predicts its one token is read
        family = self.model.config.family
        batch = pack([q.example(q.answers[0], family, end=False) for q in questions]).to(words.device)
        states = self.model(*columns(batch), rows=batch.target_rows, states=True)  # (S, C)
        return self.model.head(states, words).float()

    def read_all(self, questions):
        """log P of each answer, each read as a training sample, so that gradients flow: (all answers,)."""
        family = self.model.config.family
        examples = [question.example(answer, family) for question in questions for answer in question.answers]
        losses = self.model.loss(pack(examples).to(device_of(self.model)), "none")
        return -torch.stack([loss.sum() for loss in losses.split([len(e.targets) for e in examples])])

    def read_part_a_once(self, questions):
        """The same as `read_all`, but Part A is read once per question and the answers on forks of it."""
        which = [n for n, question in enumerate(questions) for _ in question.answers]
        answers = [answer for question in questions for answer in question.answers]
        room = max(len(q.part_a) for q in questions) + max(map(len, answers)) + 1  # a fork needs equal rooms
        reader = Reader(self.model, questions, [room - len(q.part_a) for q in questions])
        starts = [start_of("glm", q.part_a, q.position, q.special) for q in questions]
        new = [rows_of(starts[n], answer) for n, answer in zip(which, answers, strict=True)]
        log_p = reader.fork(which).read(new, want="all")
        targets = torch.tensor([t for answer in answers for t in (*answer, questions[0].special.eop)])
        log_p = log_p[torch.arange(len(targets)), targets].split([len(answer) + 1 for answer in answers])
        return torch.stack([x.sum() for x in log_p])


@torch.no_grad()
def predict(scorer, questions):
    """The probabilities of each question's labels: a list of (labels,) tensors."""
    probabilities, scorer = [], evaluating(scorer)
    with tqdm(total=len(questions), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(questions, scorer.rows, BATCH_ROWS):
            for question, row in zip(run, scorer(run).cpu(), strict=True):
                probabilities.append(finite(row[: len(question.labels)]).softmax(-1))
            bar.update(len(run))
    return probabilities


def classify(model, tokenizer, task, texts):
    """Classify a text -> its Prediction; a list of texts, packed -> a list of Predictions.

    task: a Cloze, or a name or path that `read_task` reads. texts: a dict of the task's columns, or a str if
    the task has just one column. Raises MinglmError as `Cloze.ask` does.
    """
    check_pair(model, tokenizer)
    task = task if isinstance(task, Cloze) else read_task(task, Cloze)
    records, single = records_of(task, texts)
    answers = predictions(model, task, ask_all(task, tokenizer, records, text_limit(model.config)))
    return answers[0] if single else answers


def predictions(model, task, questions):
    """The Prediction of each question."""
    probabilities = predict(ClozeScorer(model, task.length_penalty), questions)
    return [
        Prediction(q.labels[int(p.argmax())], dict(zip(q.labels, p.tolist(), strict=True)))
        for q, p in zip(questions, probabilities, strict=True)
    ]
