"""`minglm bench train`: text tokens per second of our trainer and of two padded trainers in plain PyTorch.

All train the same model on the same samples of the embedded corpus, alternating step by step: ours with
pretraining's own `train_step` and each attention backend, the padded ones (padded.py) with the usual loop,
each in its own process. A step is everything from drawing the samples to the new weights. Text tokens are
counted before spans are drawn, cls and eos included, so they are the same for every layout.

Before timing, each trainer must reproduce the loss and gradient norm of the first step in float64. Then the
useful work per step is compared with the rate of plain matrix products, and a profile shows where time goes.
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
from ..modules import TokenLoss
from ..train.config import resolve
from ..train.distributed import World, keep_memory
from ..train.feed import Shares
from ..train.optimizer import learning_rate, make_optimizer
from ..train.pretrain import train_step
from . import timing
from .check import DTYPES, dtypes_asked, seconds_asked
from .padded import PaddedGLM, groups_of_similar_length, pad, padded_step

VERSION = 1  # of the result of run(); goes up when a field changes its meaning
# Relative error allowed for loss and gradient norm against float64: a few times the observed rounding.
FAIR = {"float32": {"loss": 2e-6, "gradient norm": 3e-4}, "bfloat16": {"loss": 5e-4, "gradient norm": 1e-2}}
# Noise added to the weights: at initialisation attention hardly matters, and a wrong mask would not show.
LOUD = 0.1
EVERY, LEARNED = "padded, every row", "padded, learned rows"  # rows whose logits are computed
BATCH_TOKENS = {"tiny": [512, 2048], "small": [2048]}  # per step; the preset small has many more


# ---- trainers ------------------------------------------------------------------------------------------


def corpus_of(config):
    """Return (config with the actual vocabulary size, the embedded corpus' samples, those held out)."""
    tokenizer = Tokenizer.train(read_documents(embedded_corpus()), config.model.vocab_size)
    config = replace(config, model=replace(config.model, vocab_size=tokenizer.vocab_size))
    corpus = cached_corpus([embedded_corpus()], tokenizer, default_cache())
    return config, *sources(corpus, tokenizer, config)


def training_batches(config, batch_tokens):
    """Return (config with the actual vocabulary size, list of TrainingBatches of the embedded corpus)."""
    config, source, _ = corpus_of(config)
    return config, [TrainingBatches(source, n) for n in batch_tokens]


def initial_weights(config):
    """Return the weights that a run with this config starts from, by name."""
    torch.manual_seed(config.train.seed)
    return GLM(config.model).state_dict()


class Trainer:
    """A model, and step() -> (loss, gradient norm)."""

    def weights(self):
        """Return the weights, by name."""
        return self.model.state_dict()

    def close(self):
        """Nothing to close; see Apart."""

    def first_step(self):
        """Return (loss, gradient norm) of a step without dropout."""
        self.model.eval()
        result = self.step()
        self.model.train()
        return result

    def parts(self):
        """Return `where_time_goes` for a step."""
        return where_time_goes(self.step)


class Ours(Trainer):
    """Pretraining's own step, with one attention backend."""

    def __init__(self, config, batches, weights, dtype, backend):
        self.model = GLM(config.model)
        self.model.load_state_dict(weights)
        self.model.backend = backend
        self.shares = Shares(batches, config.model, config.train.micro_batch_tokens)
        self.run = SimpleNamespace(
            config=config,
            world=World(0, 1),
            step=0,
            device=torch.device("cpu"),
            model=self.model,
            loss=TokenLoss(self.model, "sum"),
            same_number=lambda micros, empty: micros,
            optimizer=make_optimizer(self.model, config.train),
            autocast=lambda: torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16),
        )

    def step(self):
        row, loss, norm = train_step(self.run, self.shares[self.run.step])
        self.run.step += 1
        return float(loss) / row["learned_tokens"], float(norm)


class Padded(Trainer):
    """The padded trainer, with logits of every row or only of those that learn."""

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
    """A trainer in its own process, so that our trainer's malloc settings (`keep_memory`) do not help it."""

    def __init__(self, *how):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, torch.get_num_threads(), *how), daemon=True)
        self.process.start()
        other.close()  # so that the pipe closes when that process ends

    def ask(self, what):
        try:
            self.pipe.send(what)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode
            raise MinglmError(f"a padded trainer's process has ended (exit code {code})") from None

    def first_step(self):
        return self.ask("first_step")

    def step(self):
        return self.ask("step")

    def parts(self):
        return self.ask("parts")

    def weights(self):
        return self.ask("weights")

    def close(self):
        self.pipe.close()
        self.process.join()


def serve(pipe, threads, keep, make, *args):
    """Make a trainer and serve requests from the pipe until it closes. keep: whether to keep freed memory."""
    torch.set_num_threads(threads)
    if keep:
        keep_memory()
    trainer = make(*args)
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            pipe.send(getattr(trainer, pipe.recv())())


@contextmanager
def trainers(config, batches, dtype, names, keep):
    """Yield the initial weights and {name: trainer}; ours are named after their backends."""
    initial = initial_weights(config)
    weights = {name: weight + LOUD * torch.randn_like(weight) for name, weight in initial.items()}
    how = (config, batches, weights, dtype)
    rivals = {name: Apart(keep, Padded, *how, name == EVERY) for name in (EVERY, LEARNED)}
    try:
        yield weights, {name: Ours(*how, name) for name in names} | rivals
    finally:
        for rival in rivals.values():
            rival.close()


# ---- check -----------------------------------------------------------------------------------------------


def check(config, batches, weights, ready, dtype_name):
    """Compare the trainers' first step, without dropout, with float64. Returns {name: what is wrong}."""
    truth = GLM(config.model).double().eval()
    truth.load_state_dict(weights)
    truth.backend = "reference"
    loss = truth.loss(pack([example for _, example in batches.examples(0)]))
    loss.backward()
    norm = utils.get_total_norm([p.grad for p in truth.parameters()])
    wrong = {}
    for name, trainer in ready.items():
        values = zip(FAIR[dtype_name].items(), trainer.first_step(), (loss.item(), norm.item()), strict=True)
        for (what, fair), value, true in values:
            if not abs(value - true) <= fair * true:
                wrong[name] = f"its {what} of the first step is {value:.7g}, in float64 {true:.7g}"
    return wrong


# ---- how much work, and where the time goes --------------------------------------------------------------


PARTS = ("linear layers", "attention", "norm and GELU", "head and loss", "casts", "optimiser", "the rest")
# An operation, with everything inside it, counts for the first part one of whose words is in its name.
PART_OF = {
    "optimiser": ("Optimizer.step", "clip_grad_norm_"),
    # MmBackward: the head is the only weight without a bias
    "head and loss": ("cross_entropy", "LogSoftmax", "NllLoss", "MmBackward"),
    "linear layers": ("aten::linear", "AddmmBackward"),
    "attention": "attention Attention nbind Split Cat Where Bmm SoftmaxBackward MaskedFill".split(),
    "norm and GELU": ("layer_norm", "LayerNorm", "gelu", "Gelu"),
    "casts": ("aten::to", "ToCopy"),
}


def part_of(event):
    """Return the part that an operation of the profile counts for."""
    if event.name == "aten::linear" and not event.input_shapes[2]:
        return "head and loss"
    parts = (part for part, words in PART_OF.items() if any(word in event.name for word in words))
    return next(parts, "the rest")


def where_time_goes(step, repeats=5):
    """Profile a few steps and return {part: share} of the fastest, for each of PARTS.

    Operations are classified by name. "attention" is everything between the linear layers, whatever a backend
    does there; "casts" are weights and activations to bfloat16 and gradients back; "the rest" is drawing and
    packing samples, embeddings, residual sums, and Python.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # else the profiler prints
    profiles = []
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
        profiles.append((whole.cpu_time_total, seconds))
    whole, seconds = min(profiles, key=lambda profile: profile[0])
    return {part: seconds[part] / whole for part in PARTS}


@contextmanager
def named_calls():
    """Within this context, attention and clipping appear by name in a profile."""
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
    """Check, time and profile one preset, batch and dtype. -> dict. keep: rivals keep freed memory, too."""
    dtype = DTYPES[dtype_name]
    config = replace(config, train=replace(config.train, dtype=dtype_name))  # Muon's products, too
    with trainers(config, batches, dtype, names, keep) as (weights, ready):
        wrong = check(config, batches, weights, ready, dtype_name)
        ready = {name: trainer for name, trainer in ready.items() if name not in wrong}
        runs = {name: trainer.step for name, trainer in ready.items()}
        taken = timing.alternate(runs | timing.gemms(dtype), seconds)
        parts = {name: ready[name].parts() for name in (names[0], EVERY, LEARNED) if name in ready}
    gemm = timing.gemm_rate(taken)

    rounds = max((len(taken[name]) for name in ready), default=1)
    # step 0 was the check's
    steps = [[example for _, example in batches.examples(1 + k)] for k in range(rounds)]
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
        padded_rows=statistics.mean(map(padded_rows, steps)),
        gflop=statistics.mean(flop) / 1e9,
        gemm_gflop_per_s=gemm / 1e9,
    )


def padded_rows(examples):
    """The rows of a step of the padded trainers, with padding."""
    return sum(pad(group).tokens.numel() for group in groups_of_similar_length(examples))


TITLE = f"{'':<24}{'text tokens/s':>16}{'ms/step':>11}{'of GEMM':>9}"
TITLE += f"{'x every row':>14}{'x learned rows':>16}{'steps':>7}"


def table_lines(result):
    """Return the result of measure() as lines."""
    size = f"{result['text_tokens']:,.0f} text tokens, {result['samples']:.1f} samples, "
    size += (
        f"{result['rows']:,.0f} rows ({result['padded_rows']:,.0f} padded), {result['learned']:,.0f} learned"
    )
    gemm = f"{result['gemm_gflop_per_s']:,.0f} GFLOP/s"
    parameters = f"{result['parameters'] / 1e6:.1f} M parameters"
    lines = [
        f"{result['preset']}, {parameters}, {result['dtype']}; per step: {size}",
        f"{result['gflop']:,.1f} useful GFLOP per step; plain matrix products: {gemm}",
        TITLE,
    ]
    for row in result["trainers"]:
        spread = (row["tokens_per_s_high"] - row["tokens_per_s_low"]) / 2
        speed = f"{row['tokens_per_s']:,.0f} ± {spread:,.0f}"
        line = f"{row['trainer']:<24}{speed:>16}{row['ms']:>11.1f}{row['of_gemm']:>9.2f}"
        for key, width in (("times_every_row", 14), ("times_learned_rows", 16)):
            times, ratio = row.get(key), "-"
            if times:
                ratio = f"{times['median']:.2f} ± {(times['high'] - times['low']) / 2:.2f}"
            line += ratio.rjust(width)
        lines.append(f"{line}{row['steps']:>7}")
    lines += [f"{name:<24}WRONG: {why}; not timed" for name, why in result["wrong"].items()]
    lines.append("where the time goes, ms" + "".join(f"{part:>15}" for part in PARTS))
    for row in result["trainers"]:
        if "parts" in row:
            cells = (f"{share * row['ms']:>9.1f} {share:>4.0%} " for share in row["parts"].values())
            lines.append(f"  {row['trainer']:<21}{''.join(cells)}".rstrip())
    return lines


# ---- the command -----------------------------------------------------------------------------------------


def run(args):
    """Check, time and print; returns all results."""
    presets, dtypes, names = settle(args)
    keep_memory()  # as pretraining does
    machine = machine_here()
    print(f"machine     {machine_line(machine)}")
    print("of GEMM     useful matrix products and attention, as a share of the rate of plain matrix products")
    print(
        "x           speedup over the padded trainer with logits of every row, or of learned rows: the median"
    )
    print("±           half the interquartile range\n")
    tables = []
    for config in presets:
        batch_tokens = args.batch_tokens or BATCH_TOKENS.get(config.preset, [4096])
        config, batches = training_batches(config, batch_tokens)
        for each in batches:
            for dtype in dtypes:
                tables.append(measure(config, each, dtype, names, args.seconds, args.keep_memory))
                print("\n".join(table_lines(tables[-1])) + "\n", flush=True)
    ok = not any(table["wrong"] for table in tables)
    how = dict(seconds=args.seconds, keep_memory=args.keep_memory)
    return dict(bench="train", version=VERSION, ok=ok, machine=machine, **how, tables=tables)


def settle(args):
    """Return the requested (RunConfigs, names of dtypes, names of backends). Raises MinglmError."""
    presets = [resolve(name) for name in args.preset or BATCH_TOKENS]
    dtypes = dtypes_asked(args.dtype)
    for config in presets:  # our step must be one micro-batch, as theirs is
        least, most = config.model.max_positions, config.train.micro_batch_tokens // 2
        for n in args.batch_tokens or []:
            if not least <= n <= most:
                accepted = f"{least} to {most} is"
                raise MinglmError(f"--batch-tokens: {n} is not accepted for {config.preset}; {accepted}")
    seconds_asked(args.seconds)
    serving = {
        name: (serves, why) for name, serves, why in backends() if name != "emulated"
    }  # hours per step
    for name in args.backends or []:
        serves, why = serving.get(name.partition(":")[0], (False, f"{', '.join(serving)} are known"))
        if not serves:
            raise MinglmError(f"--backends: {name!r} cannot serve here; {why}")
    return presets, dtypes, args.backends or [name for name, (serves, _) in serving.items() if serves]
