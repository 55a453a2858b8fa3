"""`minglm bench data`: text tokens per second that one core prepares, beside those that training consumes.

Preparing is what a training process does on the host: choose the windows of a step, draw their spans, lay out
Part A and Part B, pack micro-batches. It is timed as training does it (drawing.py) and by the definition
(samples.py), in turn, in CPU seconds of this process, which uses one thread. Before that, both must give
the same arrays for whole steps of every preset.

Short texts cost more per token, so there are two lines: the embedded corpus as it is, mostly single
sentences, and the same joined to documents of DOCUMENT tokens. The ids are those of the bundled tokenizer.

Consumed: here, by a forward and backward pass in float32. It is measured for models of up to LARGEST
parameters, and for larger ones derived: the rate of plain matrix products / FLOP per text token, which is
more than training reaches. By a GPU: its peak * MFU / FLOP per text token (train/plan.py), derived, too. A
small model does not fill a GPU and consumes far less.
"""

import copy
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from ..batch import micro_batches, pack
from ..data.corpus import cached_corpus, default_cache, embedded_corpus
from ..data.samples import TrainingBatches, sources
from ..data.tokenizer import Tokenizer
from ..errors import MinglmError
from ..machine import machine as machine_here
from ..machine import machine_line
from ..model import GLM
from ..model_config import num_parameters
from ..train.config import resolve
from ..train.plan import step_flop
from ..use.models import BOX
from . import timing
from .check import seconds_asked

VERSION = 1  # of the result of run(); goes up when a field changes its meaning
PRESETS = ("page", "tiny", "box", "small", "base")
SHARE = 32_768  # text tokens of a step at most: a process's share of the larger presets' batches
DOCUMENT = 16_384  # tokens of a joined document
LARGEST = 40_000_000  # parameters of a model that is trained here
CHECKED = 2  # steps compared before timing
ARRAYS = ("tokens", "position_ids", "block_position_ids", "targets", "target_rows")


class Preparer:
    """Prepares the batches of step 0, 1, 2, ..., as training does or by the definition.

    tokens: text tokens of each step so far; samples: the number of samples in all.
    """

    def __init__(self, source, config, defined):
        self.batches = TrainingBatches(copy.copy(source), min(config.train.batch_tokens, SHARE))
        self.rows, self.defined, self.tokens, self.samples = config.train.micro_batch_tokens, defined, [], 0

    def examples(self, step):
        """The samples of a step: list of (objective drawn, Example)."""
        if not self.defined:
            return self.batches.examples(step)
        epoch, windows = self.batches.windows_of(step)
        return [self.batches.source.draw(epoch, w) for w in windows]

    def prepare(self):
        """Draw and pack the next step."""
        examples = [example for _, example in self.examples(len(self.tokens))]
        packed = [pack(micro) for micro in micro_batches(examples, self.rows)]
        self.tokens.append(sum(batch.text_tokens for batch in packed))
        self.samples += len(examples)
        return packed


def joined(corpus):
    """The corpus with its documents joined to longer ones, of about DOCUMENT tokens."""
    ends = np.searchsorted(corpus.offsets, np.arange(DOCUMENT, corpus.n_tokens, DOCUMENT))
    offsets = np.unique([0, *corpus.offsets[ends], corpus.n_tokens])
    return replace(corpus, offsets=offsets, hashes=corpus.hashes[: len(offsets) - 1])


def check(fast, definition):
    """Return how the samples of the first steps differ from the definition, in one line, or None."""
    for step in range(CHECKED):
        pairs = zip(fast.examples(step), definition.examples(step), strict=True)
        for n, ((one, a), (other, b)) in enumerate(pairs):
            wrong = [name for name in ARRAYS if not np.array_equal(getattr(a, name), getattr(b, name))]
            if (one, a.part_a_len, a.text_len, a.objective) != (other, b.part_a_len, b.text_len, b.objective):
                wrong.append("lengths or objective")
            if wrong:
                return f"sample {n} of step {step} differs from the definition in {', '.join(wrong)}"


def measure(source, config, seconds):
    """Check, then time one preset on one text. Returns the results as a dict."""
    runs = {"defined": Preparer(source, config, True), "prepared": Preparer(source, config, False)}
    row = dict(wrong=check(runs["prepared"], runs["defined"]))
    if row["wrong"]:
        return row
    steps = {name: run.prepare for name, run in runs.items()}
    taken = timing.alternate(steps, seconds, clock=time.process_time)
    for name, run in runs.items():
        rates = [tokens / spent for tokens, spent in zip(run.tokens, taken[name], strict=True)]
        row[name] = dict(tokens_per_s=statistics.median(rates), steps=len(rates))
    run = runs["prepared"]
    row["tokens_per_sample"] = sum(run.tokens) / run.samples
    return row | dict(times=timing.speedup(taken["defined"], taken["prepared"])._asdict())


def consumed_here(source, config, seconds, gemm_rate):
    """Text tokens per second of a forward and backward pass on this machine: (their number, how known)."""
    if num_parameters(config.model) > LARGEST:
        return gemm_rate / flop_per_token(config), "derived"
    batch = min(Preparer(source, config, False).prepare(), key=lambda batch: abs(batch.text_tokens - 2048))
    model, V = GLM(config.model).train(), config.model.vocab_size
    # a small vocabulary lacks some ids, which do not change the time
    batch = replace(batch, tokens=batch.tokens % V, targets=batch.targets % V)

    def step():
        model.loss(batch).backward()
        model.zero_grad(set_to_none=True)

    step()
    taken = timing.alternate({"step": step}, seconds)["step"]
    return batch.text_tokens / statistics.median(taken), "measured"


def flop_per_token(config):
    """FLOP of training per text token."""
    return step_flop(config) / config.train.batch_tokens


def gemm_rate():
    """The rate of plain matrix products of this machine, in FLOP/s."""
    products = timing.gemms(torch.float32)
    for product in products.values():
        product()
    return timing.gemm_rate(timing.alternate(products, 1.0))


def run(args):
    """Check, time and print; returns all results."""
    configs, tflops, mfu = settle(args)
    tokenizer, machine = Tokenizer.from_pretrained(BOX), machine_here()
    corpus = cached_corpus([embedded_corpus()], tokenizer, default_cache())
    texts = {"short": corpus, "long": joined(corpus)}
    rate = gemm_rate()
    print(f"machine     {machine_line(machine)}")
    print("text        short: the embedded corpus; long: the same, joined to long documents")
    print("prepared    text tokens per second of one core, drawn and packed as training does")
    print("x           speedup over the definition, step by step: the median ± half the interquartile range")
    print(
        "here        text tokens per second that training consumes on this machine, in float32; ~ is derived:"
    )
    print(f"            {rate / 1e9:,.0f} GFLOP/s of matrix products / FLOP per text token, an upper bound")
    print(f"GPU         likewise: {tflops:,.0f} TFLOP/s at an MFU of {mfu:.0%}; small models reach far less")
    print("cores       needed to prepare what the GPU consumes\n")
    print(f"{'preset':<8}{'text':<7}{'per sample':>10}", end="")
    print(f"{'definition':>12}{'prepared':>12}{'x':>13}{'here':>10}{'GPU':>13}{'cores':>7}")
    rows = []
    for config in configs:
        consumed = dict(gpu=tflops * 1e12 * mfu / flop_per_token(config))
        for name, text in texts.items():
            source, _ = sources(text, tokenizer, config)
            row = dict(preset=config.preset, text=name) | measure(source, config, args.seconds)
            if name == "short":
                consumed["here"], consumed["how"] = consumed_here(source, config, args.seconds, rate)
            rows.append(row | dict(consumed=dict(consumed)))
            print(line(rows[-1]), flush=True)
    ok = not any(row["wrong"] for row in rows)
    how = dict(tflops=tflops, mfu=mfu, gemm_rate=rate)
    return dict(bench="data", version=VERSION, ok=ok, machine=machine, **how, rows=rows)


def settle(args):
    """Return the requested (RunConfigs, peak in TFLOP/s, MFU). Raises MinglmError."""
    seconds_asked(args.seconds)
    if not 0 < args.mfu <= 1:
        raise MinglmError(f"--mfu: {args.mfu} is not accepted; a number > 0 and <= 1 is")
    if not 0 < args.tflops < float("inf"):
        raise MinglmError(f"--tflops: {args.tflops} is not accepted; a number > 0 is")
    return [resolve(name) for name in args.preset or PRESETS], args.tflops, args.mfu


def line(row):
    """Return a row as one line."""
    begin = f"{row['preset']:<8}{row['text']:<7}"
    if row["wrong"]:
        return f"{begin} WRONG: {row['wrong']}; not timed"
    times, consumed, prepared = row["times"], row["consumed"], row["prepared"]["tokens_per_s"]
    ratio = f"{times['median']:.2f} ± {(times['high'] - times['low']) / 2:.2f}"
    here = f"{'~' if consumed['how'] == 'derived' else ''}{consumed['here']:,.0f}"
    return (
        f"{begin}{row['tokens_per_sample']:>10.1f}{row['defined']['tokens_per_s']:>12,.0f}{prepared:>12,.0f}"
        f"{ratio:>13}{here:>10}{consumed['gpu']:>13,.0f}{consumed['gpu'] / prepared:>7.2f}"
    )
