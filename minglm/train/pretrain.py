"""Pretraining: from settings to a run folder. Read `pretrain` first: it is the job from top to bottom.

One step: the global batch is a function of (seed, step); each process takes its share in micro-batches; every
micro-batch backpropagates the sum of its token losses / M, where M counts the targets of the whole global
batch; clip; optimiser step. So neither the number of processes (torchrun) nor the micro-batch size changes
what is learned.
"""

import csv
import json
import math
import shlex
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace

import torch
from torch import nn
from tqdm import tqdm

from ..attention import best_backend
from ..batch import pack
from ..checks import check_pair
from ..data.corpus import cache_folder, cached_corpus, embedded_corpus
from ..data.documents import find_files, read_documents
from ..data.samples import TrainingBatches, sources
from ..data.token_files import tokenizer_of
from ..data.tokenizer import Tokenizer
from ..errors import MinglmError, need
from ..files import strict_json
from ..files.checkpoint import Checkpoints
from ..files.weights import ShapesOnly
from ..files.whole import cut_back, write_whole
from ..measure.held_out import evaluate, final_report, held_out_columns
from ..model import GLM
from ..modules import TokenLoss
from ..rng import stream_seed
from ..streams import open_closed
from .config import to_toml
from .distributed import Interrupt, choose_device, keep_memory, local_size, processes
from .feed import Shares, prepared, worker_count
from .folders import METRICS, REPORT, SAMPLES, SETTINGS, data_text, folder_of, has_begun, run_settings
from .log import COLUMNS, add_columns, banner, print_scores, report_steps, show_sample
from .optimizer import learning_rate, make_optimizer
from .pending import Pending
from .sharding import check_shard, parted, same_number, shard, whole
from .speed import peak, time_step


class Interrupted(Exception):
    """Ctrl-C, after the checkpoint was saved."""


def pretrain(config, out=None, *, resume=False, init=None, stop_at=None, draw_curves=None):
    """Train a GLM with the settings of a RunConfig; returns the run folder.

    out: the folder; None takes the next free runs/PRESET-NNN. It is locked against other processes.
    resume: continue the run in `out` (`config` is then that of its run.toml). init: (GLM, Tokenizer) to start
    from. stop_at: save and stop after that step. draw_curves: called with the folder when training stops.
    Raises MinglmError (bad input, a loss that is not finite, a full disk) and Interrupted (Ctrl-C).
    """
    keep_memory()
    open_closed()
    with processes() as world, folder_of(out, config.preset, world, resume) as out:
        run = Run(config, out, world, resume, init)
        try:
            stop = min(run.config.train.steps, stop_at or run.config.train.steps)
            if run.step > stop:
                raise MinglmError(f"{out}: already at step {run.step}, which is past {stop}")
            with Interrupt(world) as interrupt:
                train(run, stop, interrupt)
            if run.step == run.config.train.steps:
                report = final_report(run)
                if world.first:
                    write_whole(run.out / REPORT, strict_json.dumps(report, indent=2) + "\n")
                    print_scores(report)
            if draw_curves and world.first:
                draw_curves(run.out)
        finally:
            run.close()
        if interrupt.agreed:
            done = f"saved step {run.step} of {run.config.train.steps}"
            again = f"minglm pretrain --out {shlex.quote(str(out))} --resume"
            raise Interrupted(f"{done}; continue with: {again}")
        return run.out


# ---- one run: everything between the settings and the first step -----------------------------------------


class Run:
    """A run folder being trained: settings, corpus, model, optimiser, checkpoints."""

    def __init__(self, config, out, world, resume, init):
        if config.train.log == "tensorboard":
            need("torch.utils.tensorboard", "train.log")
        if config.train.shard:
            check_shard(world)
        if init:
            if config.data.tokenizer:
                raise MinglmError(
                    "data.tokenizer: a model to start from brings its own; leave one of them out"
                )
            check_pair(*init)
        self.out, self.world, self.device = out, world, choose_device(config.train.device)
        self.checkpoints = Checkpoints(out, config.train.keep)
        folder, state, resume = None, None, resume and has_begun(out)
        if resume:
            folder, state = self.checkpoints.load_state(mmap=config.train.shard)
        world.barrier()

        model, self.tokenizer = init or (None, Tokenizer.from_pretrained(folder) if resume else None)
        with world.first_goes_first():  # the first process writes the token file, the others find it
            self.read_corpus(config, resume)
        if state:
            self.check_corpus(config, state)
        config = replace(config, model=replace(config.model, vocab_size=self.tokenizer.vocab_size))
        self.make_model(config, model, folder)
        self.source, self.held_out_source = sources(self.corpus, self.tokenizer, config)
        self.training, self.held_out = self.source.windows, self.held_out_source.windows
        self.batches = TrainingBatches(self.source, config.train.batch_tokens)
        micro, rank, size = config.train.micro_batch_tokens, world.rank, world.size
        self.shares = Shares(self.batches, config.model, micro, rank, size)
        self.decide(config)
        self.prepare(state)
        self.metrics = self.samples = self.tensorboard = None
        if not resume:
            self.save()  # before run.toml, which says that there is something to resume
        if world.first:
            self.open_files(resume)
            banner(self, resume)
        world.barrier()

    def read_corpus(self, config, resume):
        """Set the tokenizer (trained now unless there is one), the files and the corpus."""
        data = config.data
        try:
            self.files = find_files(data.text) if data.text else [embedded_corpus()]
        except MinglmError as error:
            if not resume:
                raise
            again = f"minglm pretrain --out {shlex.quote(str(self.out))} --resume --text PATH"
            raise MinglmError(f"{error}; if the text has moved, say where to: {again}") from None
        dials = dict(text_key=data.text_key, documents=data.documents, errors=data.errors)
        if self.tokenizer is None and data.tokenizer:
            self.tokenizer = tokenizer_of(data.tokenizer)
        if self.tokenizer is None:
            if ids := [path for path in self.files if path.suffix.lower() == ".bin"]:
                raise MinglmError(
                    f"{ids[0]}: holds token ids; --tokenizer PATH names the tokenizer they are of"
                )
            texts = (text for path in self.files for text in read_documents(path, **dials))
            progress = self.world.first and sys.stderr.isatty()
            self.tokenizer = Tokenizer.train(texts, config.model.vocab_size, progress=progress)
        self.corpus = cached_corpus(
            self.files, self.tokenizer, cache_folder(data.cache), processes=data.processes, **dials
        )

    def check_corpus(self, config, state):
        """Raise MinglmError unless the corpus is the one that the run was started with."""
        if state["corpus"] == self.corpus.fingerprint:
            return
        now = ", ".join(data_text(config)) or "the embedded corpus"
        before = ", ".join(data_text(run_settings(self.out))) or "the embedded corpus"
        what = f"{now} has changed since"
        if now != before:
            what = f"{now} is another text than {before}, with which"
        raise MinglmError(f"data.text: {what} {self.out} was started; resume needs the same corpus")

    def make_model(self, config, model, folder):
        """Set the model: from a checkpoint folder, or else the one given, or else a new one."""
        torch.manual_seed(stream_seed(config.train.seed, 0, 0, 0))

        def make(meta=False):
            if meta:
                with torch.device("meta"), ShapesOnly():
                    return GLM(config.model)
            return GLM.from_pretrained(folder) if folder else model or GLM(config.model)

        self.model = shard(make, self.world, self.device) if config.train.shard else make()
        self.model.to(self.device).train()
        self.model.backend = config.train.backend
        self.model.checkpoint_activations = config.train.checkpoint_activations

    def decide(self, config):
        """Set the config, with dtype and steps decided by timing some steps; and the attention backend."""
        t, why = config.train, "as requested"
        number, at_most = (2, math.inf) if t.shard else (8, 6.0)  # sharded: the same number in all processes
        batches = [self.first_samples(step).to(self.device) for step in range(number)]
        dtypes = ["float32", "bfloat16"] if t.dtype == "auto" else [t.dtype]
        times = time_step(self.model, batches, dtypes, at_most)
        dtype = t.dtype
        if dtype == "auto":
            gain = times["float32"] / times["bfloat16"]
            dtype = "bfloat16" if gain >= 1.15 else "float32"
            why = f"a step in bfloat16 was measured {gain:.2f} times as fast as in float32"
        decision = torch.tensor([times[dtype], dtype == "bfloat16"], dtype=torch.float64)
        self.world.broadcast(decision)
        self.seconds_per_token, self.dtype = float(decision[0]), "bfloat16" if decision[1] else "float32"
        t = replace(t, dtype=self.dtype)
        if t.minutes:  # a tenth is left for evaluation
            step_seconds = self.seconds_per_token * self.batches.share / self.world.size
            t = replace(t, minutes=0.0, steps=max(1, int(60 * t.minutes * 0.9 / step_seconds)))
        self.config, self.dtype_reason = replace(config, train=t), why
        self.backend, self.backend_reason = t.backend, "as requested"
        if t.backend == "auto":
            head_dim, dtype = config.model.hidden_size // config.model.num_heads, getattr(torch, self.dtype)
            self.backend, self.backend_reason = best_backend(dtype, self.device, head_dim)
        own, self.peak_reason = peak(self.device, self.dtype)
        together, unknown = self.world.totals([own or 0.0, own is None])
        self.peak = 0.0 if unknown else together
        self.workers = worker_count(t.workers, self.device, local_size())

    def prepare(self, state):
        """Set the optimiser, the loss module and the step; from a checkpoint's state if there is one."""
        t, self.step, self.best = self.config.train, 0, math.inf
        self.optimizer, self.loss = make_optimizer(self.model, t), TokenLoss(self.model, "sum")
        if self.world.size > 1 and not t.shard:
            ids = [self.device] if self.device.type == "cuda" else None
            self.loss = nn.parallel.DistributedDataParallel(self.loss, device_ids=ids)
        if t.compile:
            self.model.compile()
        if state:
            self.step, self.best = state["step"], state["best"]
            optimizer = parted(state["optimizer"], self.optimizer) if t.shard else state["optimizer"]
            self.optimizer.load_state_dict(optimizer)

    def first_samples(self, step, most=2048):
        """The first samples of a step's global batch, as a Batch of up to `most` text tokens."""
        examples, tokens = [], 0
        for _, example in self.batches.examples(step):
            if not examples or tokens + example.text_len <= most:
                examples.append(example)
                tokens += example.text_len
        return pack(examples)

    def open_files(self, resume):
        """Write run.toml; open metrics.csv and samples.jsonl, cut back to the checkpoint's step."""

        def done(line):
            return line.startswith("step") or int(line.split(",")[0]) <= self.step

        if resume:
            cut_back(self.out / METRICS, done)
            add_columns(self.out / METRICS)
            cut_back(self.out / SAMPLES, lambda line: json.loads(line)["step"] <= self.step)
        data = replace(self.config.data, text=data_text(self.config))
        write_whole(self.out / SETTINGS, to_toml(replace(self.config, data=data)))
        self.metrics = open(self.out / METRICS, "a", newline="", encoding="utf-8")
        self.samples = open(self.out / SAMPLES, "a", encoding="utf-8")
        if self.metrics.tell() == 0:
            csv.writer(self.metrics, lineterminator="\n").writerow(COLUMNS)
            self.metrics.flush()
        if self.config.train.log == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.tensorboard = SummaryWriter(self.out, purge_step=self.step)

    def close(self):
        for file in (self.metrics, self.samples, self.tensorboard):
            if file:
                with suppress(OSError):  # every line was flushed, and a full disk was reported then
                    file.close()

    def save(self, best=False):
        """Save a checkpoint of this step: the first process writes; sharded weights come from all."""
        weights, optimizer = None, self.optimizer.state_dict()
        if self.config.train.shard:
            weights, optimizer = (whole(x, self.world.first) for x in (self.model.state_dict(), optimizer))
        if self.world.first:
            state = dict(step=self.step, best=self.best, corpus=self.corpus.fingerprint)
            state |= dict(optimizer=optimizer)
            self.checkpoints.save(self.step, self.model, self.tokenizer, state, best=best, weights=weights)

    def same_number(self, micros, empty):
        """Micro-batches, of which sharded processes need the same number: some get `empty` ones."""
        return same_number(self.world, micros, empty) if self.config.train.shard else micros

    def autocast(self):
        """A context with matrix products in bfloat16, if that is the run's dtype."""
        # subtle: the cache would keep a copy of all weights, also of those that FSDP has freed
        on, cache = self.dtype == "bfloat16", not self.config.train.shard
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on, cache_enabled=cache)


# ---- the loop --------------------------------------------------------------------------------------------


def train(run, stop, interrupt):
    """Do the steps run.step, ..., stop - 1, with evaluation, samples and checkpoints in between."""
    t, world, pending = run.config.train, run.world, Pending(run)
    silent = None if world.first else True
    bar = tqdm(total=t.steps, initial=run.step, disable=silent, unit="step", dynamic_ncols=True)
    began, first_step = time.monotonic(), run.step
    shares = prepared(run.shares, run.step, stop, run.workers, run.device)
    with shares as shares, bar:
        while run.step < stop and not interrupt.agreed:
            started = time.monotonic()
            row, loss, norm = train_step(run, next(shares))
            run.step += 1
            pending.add(row | dict(step=run.step, seconds=time.monotonic() - started), loss, norm)
            bar.update()
            interrupt.agree()

            last = run.step == t.steps
            evaluates, shows, saves, logs = (
                last or run.step % every == 0
                for every in (t.eval_every, t.sample_every, t.save_every, t.log_every)
            )
            saves = saves or run.step == stop or interrupt.agreed
            if not (evaluates or shows or saves or logs or run.step == 1):
                continue
            rows, failure = pending.read()
            if evaluates and not failure:
                losses = held_out_columns(evaluate(run, t.eval_samples))
                rows[-1] |= {name: f"{nats:.6f}" for name, nats in losses.items()}
            if world.first and rows:
                left = (time.monotonic() - began) / (run.step - first_step) * (t.steps - run.step)
                report_steps(run, rows, left, bar)
            if failure:
                raise failure
            improved = float(rows[-1].get("held_out", math.inf)) < run.best
            if improved:
                run.best = float(rows[-1]["held_out"])
            if shows:
                show_sample(run, bar)
            if saves or improved:
                run.save(best=improved)


def train_step(run, share):
    """One optimiser step on this process's share of a global batch; nothing is read back from the device.

    Returns the step's row of metrics.csv as far as the host knows it, and two tensors on the device: this
    process's sum of token losses, and the gradient norm.
    """
    t, world, step = run.config.train, run.world, run.step
    learned, text_tokens, blanked, fallbacks, flop = map(int, world.totals(share.counts))
    lr = learning_rate(step, t)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    batches = run.same_number(share.batches, pack([]))
    for number, batch in enumerate(batches):
        torch.manual_seed(stream_seed(t.seed, step + 1, world.rank, number))  # dropout
        is_last = number == len(batches) - 1
        with nullcontext() if is_last or world.size == 1 or t.shard else run.loss.no_sync():
            with run.autocast():
                loss = run.loss(batch.to(run.device))
            # subtle: DDP and FSDP average over the processes, so the loss is multiplied by their number
            (loss * (world.size / learned)).backward()
        total += loss.detach().double()
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), t.clip or math.inf)
    norm = norm.full_tensor() if t.shard else norm
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    row = dict(lr=f"{lr:.6g}", text_tokens=text_tokens, learned_tokens=learned, fallbacks=fallbacks)
    return row | dict(masked=round(blanked / text_tokens, 4), flop=flop), total, norm
