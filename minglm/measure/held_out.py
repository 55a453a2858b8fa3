"""How well a model fills held-out blanks: perplexity and bits per byte for each objective, and two baselines.

One baseline knows no context at all (a unigram model); the other is the model itself, reading a Part A of
random words.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..batch import micro_batches, pack
from ..checks import finite
from ..modules import evaluating
from ..rng import NOISE, Rng
from ..spans import OBJECTIVES
from .metrics import bounded_exp

FINAL_SAMPLES = 512  # most held-out samples per objective in the last evaluation


@dataclass(frozen=True)
class Score:
    """The total loss on held-out targets in nats, their number (eop included), and their bytes of text."""

    nats: float
    targets: int
    bytes: int

    @property
    def perplexity(self):
        """exp(nats per target), bounded (see `metrics.bounded_exp`)."""
        return bounded_exp(self.nats / self.targets)

    @property
    def bits_per_byte(self):
        """Bits per byte of blanked text, comparable across tokenizers."""
        return self.nats / math.log(2) / self.bytes


def evaluate(run, most, noise=False):
    """{objective: Score} on up to `most` held-out samples, spread evenly; spans are the same in every run.

    noise=True replaces the words of Part A by random words of the corpus (cls, eos and masks stay). Raises
    MinglmError when a loss is not finite.
    """
    model = evaluating(run.model)
    mine = spread(len(run.held_out), most)[run.world.rank :: run.world.size]
    byte_lengths, scores = torch.from_numpy(run.tokenizer.byte_lengths()), {}
    for objective in run.source.objectives:
        total = torch.zeros(3, dtype=torch.float64)
        examples = [run.held_out_source.held_out(w, objective) for w in mine]
        if noise:
            examples = [with_noise(run, example, w) for w, example in zip(mine, examples, strict=True)]
        micros = micro_batches(examples, run.config.train.micro_batch_tokens)
        for micro in run.same_number(micros, []):
            batch = pack(micro)
            with torch.no_grad(), run.autocast():  # subtle: FSDP keeps tensors of inference mode
                nats = float(finite(model.loss(batch.to(run.device), "sum"), "the losses of held-out text"))
            total += torch.tensor([nats, len(batch.targets), int(byte_lengths[batch.targets].sum())])
        run.world.sum(total)
        if total[1]:
            scores[objective] = Score(float(total[0]), int(total[1]), int(total[2]))
    return scores


def spread(n, most):
    """Up to `most` of the numbers 0 .. n-1, evenly spread, as a list."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist() if n else []


def with_noise(run, example, w):
    """The sample of held-out window w with every word of Part A replaced by a random one of the corpus."""
    rng, tokens = Rng(0, w, 0, NOISE), example.tokens.copy()
    words = run.tokenizer.byte_lengths() > 0
    for i in range(example.part_a_len):
        if words[tokens[i]]:
            tokens[i] = run.corpus.ids[rng.integer(len(run.corpus.ids))]
    return replace(example, tokens=tokens)


def unigram(run, objective, most=300_000):
    """log P of every token from counts of training targets (eop included, add-one smoothing): (V,)."""
    counts, epoch = np.ones(run.tokenizer.vocab_size), 0
    while counts.sum() < most and epoch < 4:
        for w in range(len(run.source.in_epoch(0))):
            np.add.at(counts, run.source.example(w, objective, Rng(1, w, epoch, NOISE)).targets, 1)
            if counts.sum() >= most:
                break
        epoch += 1
    return np.log(counts / counts.sum())


def held_out_columns(scores):
    """The held-out columns of metrics.csv: nats per target over all objectives together, and over each."""
    if not scores:
        return {}
    together = sum(s.nats for s in scores.values()) / sum(s.targets for s in scores.values())
    each = {f"held_out_{o}": s.nats / s.targets for o, s in scores.items() if o in OBJECTIVES}
    return {"held_out": together} | each


def final_report(run):
    """The contents of evaluation.json: the scores of the trained model, of a unigram model, and on noise."""
    scores = evaluate(run, FINAL_SAMPLES)
    noisy = evaluate(run, FINAL_SAMPLES, noise=True)
    report = dict(step=run.step, samples=min(len(run.held_out), FINAL_SAMPLES), objectives={})
    windows = spread(len(run.held_out), FINAL_SAMPLES)
    for objective, score in scores.items():
        log_p = unigram(run, objective)
        targets = np.concatenate([run.held_out_source.held_out(w, objective).targets for w in windows])
        report["objectives"][objective] = dict(
            perplexity=score.perplexity,
            bits_per_byte=score.bits_per_byte,
            targets=score.targets,
            unigram_perplexity=bounded_exp(-log_p[targets].mean()),
            noise_perplexity=noisy[objective].perplexity,
        )
    return report
