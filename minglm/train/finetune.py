"""Fine-tuning: a pretrained GLM learns a task from labelled records, by filling a blank (paper section 2.3).

For labels, the loss is the cross-entropy of the right label over the scores of all labels; for text to text,
it is the pretraining loss, with label smoothing, on pairs of a source and its answer. After each epoch the
model is scored on the dev records; the best epoch is kept, and training stops when it is `patience` epochs
old.
"""

import math
import statistics
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ..batch import columns, in_runs, pack
from ..checks import finite
from ..errors import MinglmError
from ..measure.metrics import measure, percent
from ..modules import device_of, evaluating
from ..rng import ORDER, permutation, stream_seed
from ..use.cloze import BATCH_ROWS, ClozeScorer, predict
from .optimizer import learning_rate, make_adamw, parameter_groups

# At least so many steps per epoch: dev is scored after each, so a handful of records is passed several times.
MIN_STEPS = 20


class LearnsLabels:
    """The methods that `fit` needs of a scorer that chooses among labels."""

    def losses(self, questions, settings):
        """Cross-entropy of the right label over the scores of all labels: (S,)."""
        scores = self(questions)
        gold = torch.tensor([q.gold for q in questions], device=scores.device)
        return F.cross_entropy(scores, gold, reduction="none")

    def count(self, questions):
        """The number of losses of these questions."""
        return len(questions)

    def judge(self, dev):
        """{"accuracy", "macro_f1"} on dev questions."""
        return measure(predict(self, dev), dev)

    def value(self, task, scores):
        """The number by which the best epoch is chosen: the highest wins."""
        return scores[task.metric]

    def shown(self, scores):
        """Example: {"accuracy": 0.71, "macro_f1": 0.7} -> "accuracy 71.0 %   macro F1 70.0 %"."""
        f1 = "" if scores["macro_f1"] is None else f"   macro F1 {percent(scores['macro_f1'])}"
        return f"accuracy {percent(scores['accuracy'])}{f1}"


class LabelScorer(LearnsLabels, ClozeScorer):
    """A GLM that learns to choose among labels by filling a blank."""


class TextScorer(nn.Module):
    """A GLM that learns text to text: it reads pairs as in pretraining, one sample each.

    The best epoch is the one with the lowest dev loss, which costs one pass; BLEU would cost writing all
    texts, and is noisier.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model

    def rows(self, pair):
        """The number of rows that a pair takes in a batch."""
        return len(pair.part_a) + len(pair.targets)

    def forward(self, pairs):
        """Pairs -> the logits of all rows of Part B, (M, V), and their targets, (M,)."""
        batch = pack([pair.example(self.model.config.family) for pair in pairs]).to(device_of(self.model))
        return self.model(*columns(batch), rows=batch.target_rows), batch.targets

    def losses(self, pairs, settings):
        """(1 - e) * -log p(target) + e * mean over the vocabulary of -log p, for each row of Part B: (M,)."""
        return F.cross_entropy(*self(pairs), reduction="none", label_smoothing=settings.label_smoothing)

    def count(self, pairs):
        """The number of losses of these pairs."""
        return sum(len(pair.targets) for pair in pairs)

    @torch.no_grad()
    def judge(self, pairs):
        """{"dev_loss"}: the mean over all targets of -log p, in nats, without smoothing."""
        scorer = evaluating(self)
        runs = in_runs(pairs, scorer.rows, BATCH_ROWS)
        losses = torch.stack([F.cross_entropy(*scorer(run), reduction="sum") for run in runs])
        return dict(dev_loss=sum(finite(losses, "the model's losses on dev").tolist()) / self.count(pairs))

    def value(self, task, scores):
        """The number by which the best epoch is chosen: the highest wins."""
        return -scores["dev_loss"]

    def shown(self, scores):
        """Example: {"dev_loss": 2.5} -> "loss 2.500 per token"."""
        return f"loss {scores['dev_loss']:.3f} per token"


def fit(scorer, train, dev, settings, seed, task, say=print):
    """Train a scorer on Questions or Pairs; it ends with the weights of its best epoch on dev.

    Returns [{"epoch", "loss", and what `judge` gives}]; epoch 0 is before training. The same seed gives the
    same weights on a CPU with as many threads. Raises MinglmError when the loss is no longer finite.
    """
    batch = min(settings.batch, len(train))
    steps = max(math.ceil(len(train) / batch), MIN_STEPS)  # per epoch
    settings = replace(settings, steps=settings.epochs * steps)
    for module in scorer.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    optimizer = make_adamw(parameter_groups(scorer, settings), settings)
    order = cache(lambda n: permutation(len(train), seed, n, 0, ORDER).tolist())
    history = [dict(epoch=0, loss=None) | scorer.judge(dev)]
    best, best_weights = 0, weights_of(scorer)
    with tqdm(total=settings.steps, disable=None, unit="step", dynamic_ncols=True) as bar:
        for epoch in range(1, settings.epochs + 1):
            losses = []
            for step in range((epoch - 1) * steps, epoch * steps):
                passes = (divmod(i, len(train)) for i in range(step * batch, (step + 1) * batch))
                questions = [train[order(n)[i]] for n, i in passes]
                losses.append(train_step(scorer, questions, optimizer, settings, step, seed))
                bar.update()
            history.append(dict(epoch=epoch, loss=statistics.fmean(losses)) | scorer.judge(dev))
            line = f"epoch {epoch:<5} loss {history[epoch]['loss']:.3f}   dev {scorer.shown(history[epoch])}"
            if scorer.value(task, history[epoch]) > scorer.value(task, history[best]):
                best, best_weights, line = epoch, weights_of(scorer), f"{line}   best"
            with bar.external_write_mode():
                say(line)
            if epoch - best >= settings.patience:
                break
    scorer.load_state_dict(best_weights)
    return history


def train_step(scorer, questions, optimizer, settings, step, seed):
    """Do one step on a batch of questions, in micro-batches; returns its mean loss."""
    scorer.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings) * group["lr_ratio"]
    total, n = 0.0, scorer.count(questions)
    for number, run in enumerate(in_runs(questions, scorer.rows, BATCH_ROWS)):
        torch.manual_seed(stream_seed(seed, step + 1, 0, number))  # dropout
        with torch.autocast(device_of(scorer).type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss = scorer.losses(run, settings).sum() / n
        loss.backward()
        total += float(loss.detach())
    norm = float(nn.utils.clip_grad_norm_(scorer.parameters(), settings.clip))
    if not (math.isfinite(total) and math.isfinite(norm)):
        what = f"the loss of step {step + 1} is not finite"
        raise MinglmError(f"{what}; a lower --lr than {settings.lr} may help")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def weights_of(module):
    """A copy of a module's weights: {name: tensor}."""
    return {name: weight.detach().clone() for name, weight in module.state_dict().items()}
