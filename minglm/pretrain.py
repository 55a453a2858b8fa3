"""Pretraining: from settings to a run folder. Read `pretrain` first: it is the job from top to bottom.

One step: the global batch is a function of (seed, step); each process takes its share in micro-batches; every micro-batch
backpropagates the sum of its token losses / M, with M the learned rows of the whole global batch; clip; AdamW.
So neither the number of processes (torchrun) nor the micro-batch changes what is learned.
"""

import csv
import json
import math
import os
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from tqdm import tqdm

from .attention import best_backend
from .batch import DROPOUT, NOISE, Batch, SampleSource, TrainingBatches, cut_windows, hold_out, micro_batches, pack
from .checkpoint import Checkpoints
from .config import resolve, to_toml
from .corpus import cached_corpus, default_cache, embedded_corpus, find_files, read_documents
from .errors import MinglmError
from .generate import Reader, sample
from .model import GLM
from .rng import Rng
from .spans import OBJECTIVES
from .tokenizer import Tokenizer

SETTINGS, METRICS, SAMPLES, REPORT = "run.toml", "metrics.csv", "samples.jsonl", "evaluation.json"
COLUMNS = (
    *("step", "loss", "lr", "grad_norm", "text_tokens", "learned_tokens", "masked", "fallbacks", "seconds", "held_out"),
    *(f"held_out_{objective}" for objective in OBJECTIVES),
)
FINAL_SAMPLES = 512  # the last evaluation reads up to so many held-out samples for each objective


class Interrupted(Exception):
    """Ctrl-C, after the checkpoint was saved."""


def pretrain(config, out, *, resume=False, init=None, stop_at=None, draw_curves=None):
    """Train a GLM as `config` (RunConfig) says and leave a run folder at `out`; returns the folder.

    resume: go on with the run in `out` (its own run.toml is the config then). init: (GLM, Tokenizer) to start from.
    stop_at: save and leave after that step. draw_curves: called with the folder when curves.png is due.
    Raises MinglmError (bad input, a loss that is not finite, a disk that is full) and Interrupted (Ctrl-C).
    """
    with processes() as world:
        run = Run(config, Path(out), world, resume, init)
        try:
            stop = min(run.config.train.steps, stop_at or run.config.train.steps)
            if run.step > stop:
                raise MinglmError(f"{out}: already at step {run.step}, which is past {stop}")
            with Interrupt(world) as interrupt:
                train(run, stop, interrupt)
            if run.step == run.config.train.steps:
                final_report(run)
            if draw_curves and world.first:
                draw_curves(run.out)
        finally:
            run.close()
        if interrupt.happened:
            done = f"saved step {run.step} of {run.config.train.steps}"
            raise Interrupted(f"{done}; go on with: minglm pretrain --out {out} --resume")
        return run.out


# ---- one run: everything between the settings and the first step ------------------------------------------------------


class Run:
    """A run folder being trained: settings, corpus, model, optimiser, checkpoints."""

    def __init__(self, config, out, world, resume, init):
        self.out, self.world = out, world
        device = choose_device(config.train.device, world)
        self.device, (self.backend, self.backend_reason) = device, (config.train.backend, "as asked")
        if self.backend == "auto":
            self.backend, self.backend_reason = best_backend()
        self.checkpoints = Checkpoints(out, config.train.keep)
        where, state = None, None
        if resume:
            where, state = self.checkpoints.load_state()
        elif world.first:
            claim_folder(out)
        world.barrier()

        # the corpus: the first process writes the token file, the others find it
        if init:
            model, self.tokenizer = init
        else:
            self.tokenizer = Tokenizer.from_pretrained(where) if resume else None
        with world.first_goes_first():
            self.read_corpus(config)
        config = replace(config, model=replace(config.model, vocab_size=self.tokenizer.vocab_size))
        if state and state["corpus"] != self.corpus.fingerprint:
            raise MinglmError(f"data.text: the corpus has changed since {out} was started; resume needs the same texts")

        torch.manual_seed(stream_seed(config.train.seed, 0, 0, 0))
        self.model = GLM.from_pretrained(where) if resume else model if init else GLM(config.model)
        self.model.to(device).train()
        self.model.backend = self.backend
        self.model.checkpoint_activations = config.train.checkpoint_activations
        special, ends, seed = self.tokenizer.special, self.tokenizer.sentence_ends(), config.train.seed
        self.source = SampleSource(self.corpus.ids, self.training, config.data, ends, special, seed)
        self.held_out_source = SampleSource(self.corpus.ids, self.held_out, config.data, ends, special)
        self.batches = TrainingBatches(self.source, config.train.batch_tokens)

        self.step, self.best = 0, math.inf
        self.seconds_a_token, config = self.decide(config)  # dtype and steps, where they are left open
        self.config, self.dtype = config, config.train.dtype
        self.optimizer = make_optimizer(self.model, config.train)
        self.loss = SumLoss(self.model)
        if world.size > 1:
            self.loss = nn.parallel.DistributedDataParallel(self.loss, device_ids=[device] if device.type == "cuda" else None)
        if config.train.compile:
            self.model.compile()
        if state:
            self.step, self.best = state["step"], state["best"]
            self.optimizer.load_state_dict(state["optimizer"])
        self.metrics = self.samples = self.tensorboard = None
        if world.first:
            self.open_files(resume)
            banner(self, resume)
            if not resume:
                self.save()
        world.barrier()

    def read_corpus(self, config):
        """Tokenizer (trained unless there is one), token file, windows to train on and windows held out."""
        data = config.data
        self.files = find_files(data.text) if data.text else [embedded_corpus()]
        if self.tokenizer is None:
            dials = dict(text_key=data.text_key, documents=data.documents, errors=data.errors)
            texts = (text for path in self.files for text in read_documents(path, **dials))
            self.tokenizer = Tokenizer.train(texts, config.model.vocab_size)
        cache = Path(data.cache).expanduser() if data.cache else default_cache()
        self.corpus = cached_corpus(
            self.files, self.tokenizer, cache, text_key=data.text_key, documents=data.documents, errors=data.errors
        )
        windows = cut_windows(self.corpus.offsets, config.model.max_positions)
        self.training, self.held_out = hold_out(windows, data.held_out_every)

    def decide(self, config):
        """Settle what was left to measure: (seconds a text token, config with dtype and steps decided)."""
        t, why = config.train, "as asked"
        examples, tokens = [], 0
        for _, example in self.batches.examples(0):
            if not examples or tokens + example.text_len <= 2048:
                examples.append(example)
                tokens += example.text_len
        batch = pack(examples).to(self.device)
        timed = {d: time_step(self.model, batch, d) for d in (["float32", "bfloat16"] if t.dtype == "auto" else [t.dtype])}
        dtype = t.dtype
        if dtype == "auto":
            gain = timed["float32"] / timed["bfloat16"]
            dtype = "bfloat16" if gain >= 1.15 else "float32"
            why = f"a step in bfloat16 was measured {gain:.2f} times as fast as in float32"
        self.dtype_reason, seconds = why, timed[dtype] / batch.text_tokens
        decided = torch.tensor([seconds, dtype == "bfloat16"], dtype=torch.float64)
        self.world.broadcast(decided)
        seconds, dtype = float(decided[0]), "bfloat16" if decided[1] else "float32"
        t = replace(t, dtype=dtype)
        if t.minutes:
            a_step = seconds * self.batches.share / self.world.size
            t = replace(t, minutes=0.0, steps=max(1, int(60 * t.minutes * 0.9 / a_step)))  # a tenth for evaluation
        return seconds, replace(config, train=t)

    def open_files(self, resume):
        """metrics.csv and samples.jsonl, cut back to the checkpoint's step; run.toml."""
        if resume:
            cut_back(self.out / METRICS, lambda line: line.startswith("step") or int(line.split(",")[0]) <= self.step)
            cut_back(self.out / SAMPLES, lambda line: json.loads(line)["step"] <= self.step)
        else:
            text = replace(self.config.data, text=tuple(str(Path(p).resolve()) for p in self.config.data.text))
            write_whole(self.out / SETTINGS, to_toml(replace(self.config, data=text)))
        self.metrics = open(self.out / METRICS, "a", newline="", encoding="utf-8")
        self.samples = open(self.out / SAMPLES, "a", encoding="utf-8")
        if not resume:
            csv.writer(self.metrics, lineterminator="\n").writerow(COLUMNS)
        if self.config.train.log == "tensorboard":
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MinglmError("train.log: tensorboard is not installed; pip install 'minglm[tensorboard]'") from None
            self.tensorboard = SummaryWriter(self.out, purge_step=self.step)

    def close(self):
        for file in (self.metrics, self.samples, self.tensorboard):
            if file:
                file.close()

    def save(self, best=False):
        """A checkpoint of this step (first process only)."""
        if self.world.first:
            state = dict(step=self.step, best=self.best, corpus=self.corpus.fingerprint, optimizer=self.optimizer.state_dict())
            self.checkpoints.save(self.step, self.model, self.tokenizer, state, best=best)

    def autocast(self):
        """Matrix products in bfloat16, if that is the run's dtype."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")


class SumLoss(nn.Module):
    """The sum of a batch's token losses as a module, for DistributedDataParallel wraps modules."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch):
        return self.model.loss(batch, "sum")


# ---- the loop -----------------------------------------------------------------------------------------------------------


def train(run, stop, interrupt):
    """Steps run.step, ..., stop - 1, with evaluation, samples and checkpoints on their way."""
    t, world = run.config.train, run.world
    bar = tqdm(total=t.steps, initial=run.step, disable=None if world.first else True, unit="step", dynamic_ncols=True)
    saved, began, first_step = run.step, time.monotonic(), run.step
    while run.step < stop and not interrupt.happened:
        started = time.monotonic()
        row = train_step(run)
        run.step += 1
        row |= dict(step=run.step, seconds=round(time.monotonic() - started, 3))
        due = run.step == stop
        if due or run.step % t.eval_every == 0:
            row |= {name: f"{nats:.6f}" for name, nats in held_out_columns(evaluate(run, t.eval_samples)).items()}
        improved = float(row.get("held_out", math.inf)) < run.best
        if improved:
            run.best = float(row["held_out"])
        if world.first:
            left = (time.monotonic() - began) / (run.step - first_step) * (t.steps - run.step)
            report_step(run, row, left, bar)
        if due or run.step % t.sample_every == 0:
            show_sample(run, bar)
        interrupt.agree()
        if due or improved or run.step % t.save_every == 0 or interrupt.happened:
            run.save(best=improved)
            saved = run.step
    bar.close()
    if saved != run.step:
        run.save()


def train_step(run):
    """One optimiser step on the global batch of run.step; returns its columns of metrics.csv."""
    t, world, step = run.config.train, run.world, run.step
    drawn = run.batches.examples(step, world.rank, world.size)
    examples = [example for _, example in drawn]
    counts = torch.tensor(
        [
            sum(len(e.targets) for e in examples),
            sum(e.text_len for e in examples),
            sum(len(e.targets) - sum(e.targets == e.special.eop) for e in examples),
            sum(objective != e.objective for objective, e in drawn),
        ],
        dtype=torch.float64,
    )
    world.sum(counts)
    learned, text_tokens, blanked, fallbacks = (int(n) for n in counts)

    lr = learning_rate(step, t)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    total = torch.zeros((), dtype=torch.float64)
    runs = micro_batches(examples, t.micro_batch_tokens)
    for number, micro in enumerate(runs):
        torch.manual_seed(stream_seed(t.seed, step + 1, world.rank, number))  # dropout
        batch = pack(micro).to(run.device)
        is_last = number == len(runs) - 1
        with nullcontext() if is_last or world.size == 1 else run.loss.no_sync(), run.autocast():
            loss = run.loss(batch)
            (loss * (world.size / learned)).backward()  # subtle: DDP averages over processes, so each counts `size` times
        total += loss.detach().double().cpu()
    world.sum(total)
    mean = float(total) / learned
    norm = float(nn.utils.clip_grad_norm_(run.model.parameters(), t.clip or math.inf))
    if not (math.isfinite(mean) and math.isfinite(norm)):
        raise MinglmError(
            f"the loss of step {step + 1} is not finite ({mean}, gradient norm {norm}); the last good one is "
            f"{run.checkpoints.verified()}. A lower train.lr, a longer train.warmup or train.dtype float32 may help"
        )
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    masked = round(blanked / text_tokens, 4)
    return dict(
        loss=f"{mean:.6f}", lr=f"{lr:.6g}", grad_norm=f"{norm:.4f}", text_tokens=text_tokens,
        learned_tokens=learned, masked=masked, fallbacks=fallbacks,
    )  # fmt: skip


def learning_rate(step, t):
    """The rate of step 0, 1, ...: up in a line over the warm-up, then down to min_lr_ratio of the peak, never below.

    t: TrainConfig. The first step already learns (the original's first step has rate 0).
    """
    warmup = int(t.warmup * t.steps)
    if step < warmup:
        return t.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, t.steps - 1 - warmup))
    fall = (1 + math.cos(math.pi * progress)) / 2 if t.decay == "cosine" else 1 - progress
    return t.lr * (t.min_lr_ratio + (1 - t.min_lr_ratio) * fall)


def make_optimizer(model, t):
    """AdamW; LayerNorms and biases are not decayed, tables are (as in the original)."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    groups = [dict(params=decayed, weight_decay=t.weight_decay), dict(params=free, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=t.lr, betas=(t.beta1, t.beta2), eps=t.eps, fused=True)


def stream_seed(seed, step, rank, number):
    """A seed for torch, keyed by (seed, step, rank, micro-batch): dropout needs no history either."""
    rng = Rng(seed, number, step, DROPOUT + 256 * rank)
    return rng.word() << 31 | rng.word() >> 1  # 63 bits


def time_step(model, batch, dtype):
    """Seconds of one forward and backward pass on a batch, the second of two; nothing is learned."""
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model.loss(batch)
        loss.backward()
        if batch.tokens.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        model.zero_grad(set_to_none=True)
    return seconds


# ---- how well it does ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """What a model pays for held-out targets: nats in all, how many targets (eop included), bytes of text they stand for."""

    nats: float
    targets: int
    bytes: int

    @property
    def perplexity(self):
        """exp(nats per target)."""
        return math.exp(self.nats / self.targets)

    @property
    def bits_per_byte(self):
        """Bits for each byte of blanked text; tokenizers do not matter to it."""
        return self.nats / math.log(2) / self.bytes


def evaluate(run, most, noise=False, objectives=OBJECTIVES):
    """Score of each objective on up to `most` held-out samples, spread evenly; spans are the same in every run.

    noise=True replaces the words of Part A by random words of the corpus (cls, eos and masks stay).
    """
    chosen = spread(len(run.held_out), most)
    byte_lengths, scores = torch.from_numpy(run.tokenizer.byte_lengths()), {}
    run.model.eval()
    for objective in objectives:
        total = torch.zeros(3, dtype=torch.float64)
        examples = [run.held_out_source.held_out(w, objective) for w in chosen[run.world.rank :: run.world.size]]
        if noise:
            examples = [with_noise(run, example, number) for number, example in enumerate(examples)]
        for micro in micro_batches(examples, run.config.train.micro_batch_tokens):
            batch = pack(micro)
            with torch.inference_mode(), run.autocast():
                nats = float(run.model.loss(batch.to(run.device), "sum"))
            total += torch.tensor([nats, len(batch.targets), int(byte_lengths[batch.targets].sum())])
        run.world.sum(total)
        if total[1]:
            scores[objective] = Score(float(total[0]), int(total[1]), int(total[2]))
    run.model.train()
    return scores


def spread(n, most):
    """Up to `most` of 0 .. n-1, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)).tolist() if n else []


def with_noise(run, example, number):
    """The same sample with every word of Part A drawn from the corpus at random."""
    rng, tokens = Rng(0, number, 0, NOISE), example.tokens.copy()
    words = run.tokenizer.byte_lengths() > 0
    for i in range(example.part_a_len):
        if words[tokens[i]]:
            tokens[i] = run.corpus.ids[rng.integer(len(run.corpus.ids))]
    return replace(example, tokens=tokens)


def unigram(run, objective, most=300_000):
    """log P of every token by its count among training targets (eop included, one added to each), (V,)."""
    counts, epoch = np.ones(run.tokenizer.vocab_size), 0
    while counts.sum() < most and epoch < 4:
        for w in range(len(run.training)):
            np.add.at(counts, run.source.example(w, objective, Rng(1, w, epoch, NOISE)).targets, 1)
            if counts.sum() >= most:
                break
        epoch += 1
    return np.log(counts / counts.sum())


def held_out_columns(scores):
    """The held-out columns of metrics.csv: nats per target of all objectives together, and of each."""
    if not scores:
        return {}
    together = sum(s.nats for s in scores.values()) / sum(s.targets for s in scores.values())
    return {"held_out": together} | {f"held_out_{o}": s.nats / s.targets for o, s in scores.items()}


def final_report(run):
    """Score the finished model on held-out text and write evaluation.json: ours, the unigram model's, and ours on noise."""
    scores = evaluate(run, FINAL_SAMPLES)
    noisy = evaluate(run, FINAL_SAMPLES, noise=True)
    if not run.world.first:
        return
    report = dict(step=run.step, samples=min(len(run.held_out), FINAL_SAMPLES), objectives={})
    for objective, score in scores.items():
        log_p = unigram(run, objective)
        samples = [run.held_out_source.held_out(w, objective) for w in spread(len(run.held_out), FINAL_SAMPLES)]
        targets = np.concatenate([example.targets for example in samples])
        report["objectives"][objective] = dict(
            perplexity=score.perplexity,
            bits_per_byte=score.bits_per_byte,
            targets=score.targets,
            unigram_perplexity=math.exp(-log_p[targets].mean()),
            noise_perplexity=noisy[objective].perplexity,
        )
    write_whole(run.out / REPORT, json.dumps(report, indent=2) + "\n")
    if not scores:
        print("held out    nothing: the corpus is a single sample")
        return
    print(f"held out    {report['samples']} samples that were never trained on, spans fixed")
    print("            objective   perplexity  bits/byte   a unigram model's   with Part A replaced by noise")
    for objective, r in report["objectives"].items():
        share, worse = r["perplexity"] / r["unigram_perplexity"], r["noise_perplexity"] / r["perplexity"]
        print(
            f"            {objective:<10} {r['perplexity']:>11.1f} {r['bits_per_byte']:>10.2f}   "
            f"{r['unigram_perplexity']:>7.1f} (x {share:.2f})   {r['noise_perplexity']:>9.1f} (x {worse:.2f})"
        )


# ---- what a person sees -------------------------------------------------------------------------------------------------


def banner(run, resume):
    """What was chosen, and why."""
    c, t, d, model, corpus = run.config, run.config.train, run.config.data, run.model, run.corpus
    held, cuda = len(run.held_out), run.device.type == "cuda"
    learned = len(np.unique(run.training.document))
    name = "the embedded corpus" if not d.text else ", ".join(map(str, run.files[:3])) + (", ..." if len(run.files) > 3 else "")
    total = d.token + d.sentence + d.document
    shares, drawn = {o: [0, 0] for o in OBJECTIVES}, 0
    fallbacks = 0
    for objective, e in (run.source.draw(0, w) for w in range(min(256, len(run.training)))):
        shares[e.objective][0] += len(e.targets) - int((e.targets == e.special.eop).sum())
        shares[e.objective][1] += e.text_len
        fallbacks += objective != e.objective
        drawn += 1
    masked = ", ".join(f"{o} {a / n:.1%}" for o, (a, n) in shares.items() if n)
    steps_a_pass, micro = run.batches.per_epoch, t.micro_batch_tokens
    seconds = run.seconds_a_token * run.batches.share / run.world.size * (t.steps - run.step)
    procs = f", {run.world.size} processes" if run.world.size > 1 else ""
    left = f"resumed at step {run.step:,} of {t.steps:,}; " if resume else ""
    lines = [
        ("minglm", f"pretrain {c.preset}: {model.num_parameters() / 1e6:.1f} M parameters, vocabulary {c.model.vocab_size:,}"),
        ("text", f"{name}: {corpus.n_documents:,} documents, {corpus.n_tokens:,} tokens; {corpus.skipped} skipped (too short)"),
        ("samples", f"{len(run.training):,} of up to {c.model.max_positions} tokens, {learned:,} documents; {held:,} held out"),
        ("mixture", f"token {d.token / total:.0%}, sentence {d.sentence / total:.0%}, document {d.document / total:.0%}"),
        ("masked", f"{masked} of the text (first {drawn} samples; {fallbacks} without a whole sentence became token samples)"),
        ("device", f"{run.device}{procs}, {torch.get_num_threads()} threads" + ("" if cuda else " (no CUDA GPU is used)")),
        ("dtype", f"{run.dtype} ({run.dtype_reason})"),
        ("attention", f"{run.backend} ({run.backend_reason})"),
        ("a step", f"{run.batches.share:,.0f} text tokens, at most {micro:,} rows at once; {steps_a_pass:,} steps are a pass"),
        ("time", f"{left}{t.steps - run.step:,} steps in about {clock(seconds * 1.1)}"),
        ("run", f"{run.out}"),
    ]
    print("\n".join(f"{key:<11} {line}" for key, line in lines), flush=True)


def report_step(run, row, left, bar):
    """One flushed line of metrics.csv; one line (or the bar) for the person; TensorBoard if asked."""
    csv.DictWriter(run.metrics, COLUMNS, lineterminator="\n").writerow(row)
    run.metrics.flush()
    t, speed = run.config.train, row["text_tokens"] / max(1e-9, row["seconds"])
    loss, lr, norm = (float(row[name]) for name in ("loss", "lr", "grad_norm"))
    dials = f"loss {loss:.3f}  lr {lr:.2e}  grad {norm:.2f}  {speed:,.0f} tokens/s"
    bar.set_postfix_str(dials, refresh=False)
    bar.update()
    if bar.disable and (run.step % t.log_every == 0 or run.step in (1, t.steps)):
        print(f"step {run.step:>{len(str(t.steps))}}/{t.steps}  {dials}  {clock(left)} left", flush=True)
    if "held_out" in row:
        parts = "  ".join(f"{o} {float(row[f'held_out_{o}']):.3f}" for o in OBJECTIVES if f"held_out_{o}" in row)
        bar.write(f"held out    {float(row['held_out']):.3f} nats a token   {parts}", file=sys.stdout)
        sys.stdout.flush()
    if run.tensorboard:
        for name in COLUMNS[1:]:
            if name in row:
                run.tensorboard.add_scalar(name, float(row[name]), run.step)


def show_sample(run, bar):
    """Fill one blank of held-out text (of training text if nothing is held out), print it and keep it in samples.jsonl."""
    if not run.world.first:
        return
    source = run.held_out_source if len(run.held_out) else run.source
    text = source.text(0)[1:33].tolist()  # no cls; the window may be shorter
    if text[-1] == run.tokenizer.special.eos:
        text = text[:-1]
    start, end = words_in_the_middle([run.tokenizer.decode([token]) for token in text])
    truth, before, after = text[start:end], text[:start], text[end:]
    reader = Reader(run.model, [run.tokenizer.special.cls, *before, run.tokenizer.special.mask, *after], run.tokenizer)
    with run.autocast():
        tokens, scores, complete = sample(reader, len(before) + 1, {run.tokenizer.special.eop}, 10)
    left, truth, right, filled = (run.tokenizer.decode(x) for x in (before, truth, after, tokens))
    record = dict(step=run.step, text=f"{left} [MASK]{right}", filled=filled, truth=truth, log_probability=sum(scores))
    run.samples.write(json.dumps(record, ensure_ascii=False) + "\n")
    run.samples.flush()
    one_line = " ".join(f"{left} [{filled.strip()}]{right}".split())
    bar.write(f"a blank     {one_line}   (it was: {' '.join(truth.split())})", file=sys.stdout)
    sys.stdout.flush()


def words_in_the_middle(pieces, most=3):
    """(start, end) of one or two whole words near the middle of a list of token texts; any tokens where no blank separates.

    Example: [" and", " liv", "ed", " between", " K", "ad"] -> (1, 4).
    """
    middle = len(pieces) // 2
    begins = [i for i, piece in enumerate(pieces) if piece[:1].isspace()]
    spans = [(a, b) for a in begins for b in begins if 0 < b - a <= most]
    return min(spans, key=lambda s: (abs(s[0] - middle), s[0] - s[1]), default=(middle, min(middle + 2, len(pieces))))


def clock(seconds):
    """Seconds as people say them: 42 s, 4:05 min, 3:20 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


# ---- the machine --------------------------------------------------------------------------------------------------------


class World:
    """The processes that train together: one, or as many as torchrun started."""

    def __init__(self, rank, size):
        self.rank, self.size, self.first = rank, size, rank == 0

    def sum(self, tensor):
        """Add a CPU tensor up over all processes, in place."""
        self._reduce(lambda t: dist.all_reduce(t), tensor)

    def broadcast(self, tensor):
        """Give every process the first one's CPU tensor, in place."""
        self._reduce(lambda t: dist.broadcast(t, 0), tensor)

    def _reduce(self, operation, tensor):
        if self.size > 1:
            device = "cuda" if dist.get_backend() == "nccl" else "cpu"
            moved = tensor.to(device)
            operation(moved)
            tensor.copy_(moved)

    def barrier(self):
        """Wait for all processes."""
        self.sum(torch.zeros(1))

    @contextmanager
    def first_goes_first(self):
        """The first process runs the block, then the others: what it wrote, they find."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()


@contextmanager
def processes():
    """The World of this process; joins the group that torchrun has set up, and leaves it at the end."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World(0, 1)
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


class Interrupt:
    """The first Ctrl-C (or SIGTERM) asks for a checkpoint and an end; the second ends the process at once."""

    def __init__(self, world):
        self.world, self.happened = world, False

    def __enter__(self):
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def note(self, number, frame):
        self.happened = True
        for s in self.before:
            signal.signal(s, signal.SIG_DFL)
        if self.world.first:
            print("\nstopping after this step and saving; once more to leave at once", file=sys.stderr, flush=True)

    def agree(self):
        """All processes stop after the same step."""
        if self.world.size > 1:
            flag = torch.tensor([float(self.happened)])
            self.world.sum(flag)
            self.happened = bool(flag[0])

    def __exit__(self, *error):
        for s, handler in self.before.items():
            signal.signal(s, handler)


def choose_device(name, world):
    """The torch.device a process trains on; "auto" is its own GPU where there is one."""
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MinglmError(f"train.device: {name}: PyTorch {torch.__version__} sees no GPU here; cpu or auto is accepted")
    return torch.device(name)


def claim_folder(out):
    """Make the run folder; one that holds anything is refused."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = sorted(p.name for p in out.iterdir())
    except OSError as error:
        raise MinglmError(f"{out}: cannot be made a run folder: {error.strerror}") from None
    if found:
        what = "holds another run; --resume goes on with it" if SETTINGS in found else f"holds other files ({found[0]}, ...)"
        raise MinglmError(f"{out}: {what}; a new run needs a new or empty folder")


def run_settings(out):
    """The RunConfig that a run folder was started with."""
    if not (Path(out) / SETTINGS).is_file():
        raise MinglmError(f"{out}: no {SETTINGS} in it, so there is no run to resume; give the folder of a run")
    return resolve(file=Path(out) / SETTINGS)


def write_whole(path, text):
    """Write a text file under another name and rename it: it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise MinglmError(f"{path}: cannot be written: {error.strerror}") from None


def cut_back(path, keep):
    """Drop the lines of a text file that `keep` refuses (and a half-written last one): a resumed run repeats them."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_whole(path, "".join(line for line in lines if line.endswith("\n") and keep(line)))
