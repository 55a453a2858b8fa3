"""`minglm bench train`: text tokens a second of our trainer beside two padded trainers in plain PyTorch (padded.py).

All train the same model on the same samples of the embedded corpus, in turn, step by step: ours by
pretraining's own `train_step`, with each backend of attention; the padded ones by a loop as one would write
it, each in a process of its own. A step is everything from drawing the samples to the new weights. A text
token is a token of the text before spans were drawn, cls and eos included, so every layout counts alike.

Before anything is timed, each computes the loss and the gradient norm of the first step, which have to be
those of the reference in float64. Then the useful work of a step is counted and held against the rate of
plain matrix products in the same minutes, and a profile tells where the time goes.
"""

import math
import multiprocessing
import os
import statistics
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch.nn import functional, utils
from torch.profiler import ProfilerActivity, profile, record_function

from .. import model as model_module
from ..attention import backends
from ..batch import pack
from ..data.corpus import cached_corpus, default_cache, embedded_corpus
from ..data.documents import read_documents
from ..data.samples import TrainingBatches, sources
from ..data.tokenizer import Tokenizer
from ..errors import MinglmError
from ..machine import machine as machine_here
from ..machine import machine_line
from ..model import GLM
from ..model_config import useful_flop
from ..train.config import resolve
from ..train.distributed import World, keep_memory
from ..train.optimizer import learning_rate, make_optimizer
from ..train.pretrain import SumLoss, train_step
from . import timing
from .check import DTYPES, dtypes_asked, seconds_asked
from .padded import PaddedGLM, pad, padded_step

VERSION = 1  # of what run() returns; goes up when a field changes its meaning
# How far loss and gradient norm may be from float64, relatively: a few times what rounding was seen to do.
FAIR = {"float32": {"loss": 2e-6, "gradient norm": 3e-4}, "bfloat16": {"loss": 5e-4, "gradient norm": 1e-2}}
# added to the weights, in standard deviations: at init attention hardly matters, and a wrong mask would not
# show
LOUD = 0.1
EVERY, LEARNED = "padded, every row", "padded, learned rows"  # of which rows logits are computed
BATCH_TOKENS = {"tiny": [512, 2048], "small": [2048]}  # of a step; `small` takes many times that


# ---- who trains ------------------------------------------------------------------------------------------


def training_batches(config, batch_tokens):
    """(config with the vocabulary as it came out, TrainingBatches of the embedded corpus)."""
    tokenizer = Tokenizer.train(read_documents(embedded_corpus()), config.model.vocab_size)
    config = replace(config, model=replace(config.model, vocab_size=tokenizer.vocab_size))
    corpus = cached_corpus([embedded_corpus()], tokenizer, default_cache())
    source, _ = sources(corpus, tokenizer, config)
    return config, [TrainingBatches(source, n) for n in batch_tokens]


class Trainer:
    """A model, and step() -> (loss, gradient norm)."""

    def first_step(self):
        """The same, without dropout."""
        self.model.eval()
        found = self.step()
        self.model.train()
        return found

    def parts(self):
        """`where_time_goes` in a step."""
        return where_time_goes(self.step)


class Ours(Trainer):
    """Pretraining's own step, with one backend of attention."""

    def __init__(self, config, batches, weights, dtype, backend):
        self.model = GLM(config.model)
        self.model.load_state_dict(weights)
        self.model.backend = backend
        self.run = SimpleNamespace(
            config=config,
            world=World(0, 1),
            step=0,
            batches=batches,
            device=torch.device("cpu"),
            model=self.model,
            loss=SumLoss(self.model),
            optimizer=make_optimizer(self.model, config.train),
            autocast=lambda: torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
        )

    def step(self):
        row = train_step(self.run)
        self.run.step += 1
        return float(row["loss"]), float(row["grad_norm"])


class Padded(Trainer):
    """The padded trainer, with logits of every row or of those that learn."""

    def __init__(self, config, batches, weights, dtype, every_row):
        self.model = PaddedGLM(config.model, every_row)
        self.model.load_state_dict(weights)
        self.optimizer, self.train = make_optimizer(self.model, config.train), config.train
        self.batches, self.dtype, self.number = batches, dtype, 0

    def step(self):
        examples = [example for _, example in self.batches.examples(self.number)]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.number, self.train) * group["lr_ratio"]
        self.number += 1
        return padded_step(self.model, self.optimizer, examples, self.dtype, self.train.clip or math.inf)


class Apart:
    """A trainer in a process of its own: what ours does to its process (`keep_memory`) does not help it there."""

    def __init__(self, *how):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, torch.get_num_threads(), *how), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends when that process does

    def ask(self, what):
        try:
            self.pipe.send(what)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise MinglmError(
                f"a padded trainer's process has ended (exit code {self.process.exitcode})"
            ) from None

    def first_step(self):
        return self.ask("first_step")

    def step(self):
        return self.ask("step")

    def parts(self):
        return self.ask("parts")

    def close(self):
        self.pipe.close()
        self.process.join()


def serve(pipe, threads, keep, make, *args):
    """Make a trainer and do what the other end of the pipe asks for, until it is closed. keep: whether to keep memory."""
    torch.set_num_threads(threads)
    if keep:
        keep_memory()
    trainer = make(*args)
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(getattr(trainer, pipe.recv())())


@contextmanager
def trainers(config, batches, dtype, names, keep):
    """The weights that all start from, and {name: trainer}, ours by the names of their backends."""
    torch.manual_seed(config.train.seed)
    weights = {
        name: weight + LOUD * torch.randn_like(weight)
        for name, weight in GLM(config.model).state_dict().items()
    }
    rivals = {
        name: Apart(keep, Padded, config, batches, weights, dtype, name == EVERY) for name in (EVERY, LEARNED)
    }
    try:
        yield weights, {name: Ours(config, batches, weights, dtype, name) for name in names} | rivals
    finally:
        for rival in rivals.values():
            rival.close()


# ---- check -----------------------------------------------------------------------------------------------


def check(config, batches, weights, ready, dtype_name):
    """What is wrong with the first step of some trainers: {name: why}; without dropout, held against float64."""
    truth = GLM(config.model).double().eval()
    truth.load_state_dict(weights)
    truth.backend = "reference"
    loss = truth.loss(pack([example for _, example in batches.examples(0)]))
    loss.backward()
    norm = utils.get_total_norm([p.grad for p in truth.parameters()])
    wrong = {}
    for name, trainer in ready.items():
        found = trainer.first_step()
        for (what, fair), came, true in zip(
            FAIR[dtype_name].items(), found, (loss.item(), norm.item()), strict=True
        ):
            if not abs(came - true) <= fair * true:
                wrong[name] = f"its {what} of the first step is {came:.7g}, in float64 {true:.7g}"
    return wrong


# ---- how much work, and where the time goes --------------------------------------------------------------


PARTS = ("linear layers", "attention", "norm and GELU", "head and loss", "casts", "optimiser", "the rest")
# An operation counts, with all that runs inside it, for the first part of which its name holds a word.
PART_OF = {
    "optimiser": ("Optimizer.step", "clip_grad_norm_"),
    "head and loss": (
        "cross_entropy",
        "LogSoftmax",
        "NllLoss",
        "MmBackward",
    ),  # no other weight is used without a bias
    "linear layers": ("aten::linear", "AddmmBackward"),
    "attention": (
        "attention",
        "Attention",
        "nbind",
        "Split",
        "Cat",
        "Where",
        "Bmm",
        "SoftmaxBackward",
        "MaskedFill",
    ),
    "norm and GELU": ("layer_norm", "LayerNorm", "gelu", "Gelu"),
    "casts": ("aten::to", "ToCopy"),
}


def part_of(event):
    """The part that an operation of the profile counts for."""
    if event.name == "aten::linear" and not event.input_shapes[2]:
        return "head and loss"
    return next(
        (part for part, words in PART_OF.items() if any(word in event.name for word in words)), "the rest"
    )


def where_time_goes(step, repeats=5):
    """The share of each of PARTS in a step: {part: share}, of the least disturbed of a few steps under torch's profiler.

    Operations are told apart by their names. "attention" is everything between the linear layers, whatever a
    backend does there; "casts" are weights and activations to bfloat16 and gradients back; "the rest" is what
    is left of the step: samples drawn and packed, embeddings, residual sums, Python.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else the profiler talks
    found = []
    for _ in range(repeats):
        with named_calls(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
            with record_function("a whole step"):
                step()
        events = profiled.events()
        whole = next(event for event in events if event.name == "a whole step")
        seconds = dict.fromkeys(PARTS, 0.0)
        for event in whole.cpu_children:
            casts = sum(inner.cpu_time_total for inner in event.cpu_children if inner.name == "aten::to")
            seconds["casts"] += casts
            seconds[part_of(event)] += event.cpu_time_total - casts
        seconds["the rest"] += whole.cpu_time_total - sum(seconds.values())
        found.append((whole.cpu_time_total, seconds))
    whole, seconds = min(found, key=lambda step: step[0])
    return {part: seconds[part] / whole for part in PARTS}


@contextmanager
def named_calls():
    """Attention and clipping bear their names in a profile."""
    named = [
        (model_module, "masked_attention"),
        (functional, "scaled_dot_product_attention"),
        (utils, "clip_grad_norm_"),
    ]
    plain = [getattr(module, name) for module, name in named]

    def marked(function, name):
        def call(*args, **kwargs):
            with record_function(name):
                return function(*args, **kwargs)

        return call

    for (module, name), function in zip(named, plain, strict=True):
        setattr(module, name, marked(function, name))
    try:
        yield
    finally:
        for (module, name), function in zip(named, plain, strict=True):
            setattr(module, name, function)


# ---- one table -------------------------------------------------------------------------------------------


def measure(config, batches, dtype_name, names, seconds, keep=False):
    """Check, time, profile: everything about one preset, batch and dtype, as a dict. keep: the rivals keep memory too."""
    dtype = DTYPES[dtype_name]
    with trainers(config, batches, dtype, names, keep) as (weights, ready):
        wrong = check(config, batches, weights, ready, dtype_name)
        ready = {name: trainer for name, trainer in ready.items() if name not in wrong}
        taken = timing.alternate(
            {name: trainer.step for name, trainer in ready.items()} | timing.gemms(dtype), seconds
        )
        parts = {name: ready[name].parts() for name in (names[0], EVERY, LEARNED) if name in ready}
    gemm = timing.gemm_rate(taken)

    rounds = max((len(taken[name]) for name in ready), default=1)
    steps = [
        [example for _, example in batches.examples(1 + k)] for k in range(rounds)
    ]  # step 0 was the check's
    text_tokens = [sum(e.text_len for e in examples) for examples in steps]
    packed = [pack(examples) for examples in steps]
    flop = [sum(useful_flop(config.model, batch)) for batch in packed]
    rows = []
    for name in ready:
        speed = timing.spread([n / s for n, s in zip(text_tokens, taken[name], strict=False)])
        rate = statistics.median(work / s for work, s in zip(flop, taken[name], strict=False))
        row = dict(
            trainer=name,
            tokens_per_s=speed.median,
            tokens_per_s_low=speed.low,
            tokens_per_s_high=speed.high,
            ms=1e3 * statistics.median(taken[name]),
            steps=len(taken[name]),
            of_gemm=rate / gemm,
        )
        for rival, key in ((EVERY, "times_every_row"), (LEARNED, "times_learned_rows")):
            if rival in ready:
                row[key] = timing.speedup(taken[rival], taken[name])._asdict()
        if name in parts:
            row["parts"] = parts[name]
        rows.append(row)
    return dict(
        preset=config.preset,
        dtype=dtype_name,
        parameters=GLM(config.model).num_parameters(),
        trainers=rows,
        wrong=wrong,
        text_tokens=statistics.mean(text_tokens),
        samples=statistics.mean(map(len, steps)),
        rows=statistics.mean(len(batch.tokens) for batch in packed),
        learned=statistics.mean(len(batch.targets) for batch in packed),
        padded_rows=statistics.mean(pad(examples).tokens.numel() for examples in steps),
        gflop=statistics.mean(flop) / 1e9,
        gemm_gflop_per_s=gemm / 1e9,
    )


TITLE = f"{'':<24}{'text tokens/s':>16}{'ms a step':>11}{'of GEMM':>9}{'x every row':>14}{'x learned rows':>16}{'steps':>7}"


def table_lines(found):
    """What measure() found, as lines."""
    size = (
        f"a step of {found['text_tokens']:,.0f} text tokens, {found['samples']:.1f} samples, {found['rows']:,.0f} rows "
        f"({found['padded_rows']:,.0f} padded), {found['learned']:,.0f} of them learned"
    )
    lines = [
        f"{found['preset']}, {found['parameters'] / 1e6:.1f} M parameters, {found['dtype']}: {size}",
        f"{found['gflop']:,.1f} useful GFLOP a step; plain matrix products: {found['gemm_gflop_per_s']:,.0f} GFLOP/s",
        TITLE,
    ]
    for row in found["trainers"]:
        spread = (row["tokens_per_s_high"] - row["tokens_per_s_low"]) / 2
        speed = f"{row['tokens_per_s']:,.0f} ± {spread:,.0f}"
        line = f"{row['trainer']:<24}{speed:>16}{row['ms']:>11.1f}{row['of_gemm']:>9.2f}"
        for key, width in (("times_every_row", 14), ("times_learned_rows", 16)):
            times = row.get(key)
            line += (
                f"{times['median']:.2f} ± {(times['high'] - times['low']) / 2:.2f}" if times else "-"
            ).rjust(width)
        lines.append(f"{line}{row['steps']:>7}")
    lines += [f"{name:<24}WRONG: {why}; not timed" for name, why in found["wrong"].items()]
    lines.append("where the time goes, ms" + "".join(f"{part:>15}" for part in PARTS))
    for row in found["trainers"]:
        if "parts" in row:
            cells = (f"{share * row['ms']:>9.1f} {share:>4.0%} " for share in row["parts"].values())
            lines.append(f"  {row['trainer']:<21}{''.join(cells)}".rstrip())
    return lines


# ---- the command -----------------------------------------------------------------------------------------


def run(args):
    """Check, time, print; returns everything that was found."""
    presets, dtypes, names = settle(args)
    keep_memory()  # as pretraining does
    machine = machine_here()
    print(f"machine     {machine_line(machine)}")
    print(
        "of GEMM     useful matrix products and attention, as a share of the rate of plain matrix products in alternation"
    )
    print(
        "x           times as fast as the padded trainer with logits of every row, or of learned rows: step by step, median"
    )
    print("±           half the distance of the quartiles\n")
    tables = []
    for config in presets:
        config, batches = training_batches(
            config, args.batch_tokens or BATCH_TOKENS.get(config.preset, [4096])
        )
        for each in batches:
            for dtype in dtypes:
                tables.append(measure(config, each, dtype, names, args.seconds, args.keep_memory))
                print("\n".join(table_lines(tables[-1])) + "\n", flush=True)
    ok = not any(table["wrong"] for table in tables)
    how = dict(seconds=args.seconds, keep_memory=args.keep_memory)
    return dict(bench="train", version=VERSION, ok=ok, machine=machine, **how, tables=tables)


def settle(args):
    """(RunConfigs, names of dtypes, names of backends) that the arguments ask for. Raises MinglmError."""
    presets = [resolve(name) for name in args.preset or BATCH_TOKENS]
    dtypes = dtypes_asked(args.dtype)
    for config in presets:  # a step of ours is one micro-batch, as one of theirs
        least, most = config.model.max_positions, config.train.micro_batch_tokens // 2
        for n in args.batch_tokens or []:
            if not least <= n <= most:
                raise MinglmError(
                    f"--batch-tokens: {n} is not accepted for {config.preset}; {least} to {most} is"
                )
    seconds_asked(args.seconds)
    serving = {name: (serves, why) for name, serves, why in backends() if name != "emulated"}  # hours a step
    for name in args.backends or []:
        serves, why = serving.get(name.partition(":")[0], (False, f"{', '.join(serving)} are known"))
        if not serves:
            raise MinglmError(f"--backends: {name!r} cannot serve here; {why}")
    return presets, dtypes, args.backends or [name for name, (serves, _) in serving.items() if serves]
