"""`minglm bench train --to-loss STEPS`: how soon does our trainer reach the held-out loss of a padded one?

All trainers start from the same weights and read the same batches, one step each in turn, so that they meet
the same conditions. Ours is `minglm pretrain` as it is: the preset's optimiser, the fastest attention, only
rows that learn. The padded ones (padded.py) train with AdamW, with the settings below. After every tenth of
the steps the held-out loss is measured, and its time is not counted. Between two measurements the loss is
taken to fall along a straight line.

With --optimizers, our own trainer with AdamW takes the place of the padded ones, so only the optimiser
differs. Both run in this process, so its processor time is counted: it excludes waiting for busy cores.
"""

import time
from dataclasses import replace

import torch

from ..attention import best_backend
from ..batch import pack
from ..data.samples import TrainingBatches
from ..errors import MinglmError
from ..machine import machine as machine_here
from ..machine import machine_line
from ..measure.held_out import spread
from ..model import GLM
from ..train.distributed import keep_memory
from .check import DTYPES
from .training import EVERY, LEARNED, Apart, Ours, Padded, corpus_of, initial_weights, settle

VERSION = 1  # of the result of run(); goes up when a field changes its meaning
SAMPLES = 64  # held-out samples per objective
POINTS = 10  # measurements of the held-out loss
# What AdamW learned best with, when it was these presets' optimiser; others keep the preset's rate.
WITH_ADAMW = "minglm, AdamW"
ADAMW = {"tiny": dict(lr=8e-4, warmup=0.2), "page": dict(lr=1.5e-3, warmup=0.1)}


class Racer:
    """A trainer with the seconds of its steps so far and its held-out losses: [(seconds, loss), ...]."""

    def __init__(self, trainer, clock="perf_counter"):
        self.trainer, self.clock, self.seconds, self.curve = trainer, clock, 0.0, []

    def now(self):
        return getattr(time, self.clock)()

    def step(self):
        began = self.now()
        self.trainer.step()
        self.seconds += self.now() - began

    def measure(self, twin, batch):
        """Append the loss of the trainer's weights on a held-out batch; twin: a GLM of their shape."""
        twin.load_state_dict(self.trainer.weights())
        with torch.inference_mode():
            self.curve.append((self.seconds, float(twin.loss(batch))))


def seconds_to(curve, loss):
    """The seconds at which a curve [(seconds, loss), ...] first reaches a loss, or None.

    Example: [(0, 8.0), (10, 4.0)] reaches 5.0 after 7.5 s.
    """
    for (t0, before), (t1, after) in zip(curve, curve[1:], strict=False):
        if after <= loss:
            return t0 + (t1 - t0) * (before - loss) / (before - after) if before > after else t1
    return None


def padded_apart(*how):
    """A padded trainer in its own process, where freed memory is kept as ours keeps it."""
    return Apart(True, Padded, *how)


def race(config, batch_tokens, dtype_name, steps, padded=padded_apart, optimizers=False):
    """Train all trainers for `steps` steps -> dict: their curves, and the seconds to the others' losses.

    padded: makes a padded trainer, in a process of its own or in this one (Padded). optimizers: race against
    our trainer with AdamW instead, by processor time.
    """
    config, source, held_out = corpus_of(config)
    config = replace(config, train=replace(config.train, steps=steps, dtype=dtype_name))
    adamw = dict(optimizer="adamw") | ADAMW.get(config.preset, {})
    theirs = replace(config, train=replace(config.train, **adamw))
    batches, weights, dtype = (
        TrainingBatches(source, batch_tokens),
        initial_weights(config),
        DTYPES[dtype_name],
    )
    head_dim = config.model.hidden_size // config.model.num_heads
    backend, _ = best_backend(dtype, torch.device("cpu"), head_dim)
    if optimizers:
        rivals = {WITH_ADAMW: Ours(theirs, batches, weights, dtype, backend)}
    else:
        rivals = {name: padded(theirs, batches, weights, dtype, name == EVERY) for name in (EVERY, LEARNED)}
    clock = "process_time" if optimizers else "perf_counter"
    try:
        ours = Ours(config, batches, weights, dtype, backend)
        racers = {name: Racer(trainer, clock) for name, trainer in {"minglm": ours, **rivals}.items()}
        run_laps(racers.values(), steps, held_out_batch(held_out), config.model)
    finally:
        for trainer in rivals.values():
            trainer.close()
    return result_of(config, dtype_name, backend, batch_tokens, racers)


def held_out_batch(held_out):
    """SAMPLES held-out samples of each objective, as one Batch."""
    chosen = spread(len(held_out.windows), SAMPLES)
    return pack([held_out.held_out(w, objective) for objective in held_out.objectives for w in chosen])


def run_laps(racers, steps, batch, shape):
    """Take every racer through all steps, in turn, with POINTS measurements on the way and one before."""
    twin = GLM(shape).eval()
    marks = {round(steps * k / POINTS) for k in range(POINTS + 1)}
    for done in range(steps + 1):
        if done in marks:
            for racer in racers:
                racer.measure(twin, batch)
        if done < steps:
            for racer in racers:
                racer.step()


def result_of(config, dtype_name, backend, batch_tokens, racers):
    """The curves, and for each padded trainer the seconds to its final loss: its own and ours."""
    rows = []
    for name, racer in racers.items():
        row = dict(trainer=name, curve=racer.curve, seconds=racer.seconds, loss=racer.curve[-1][1])
        if name != "minglm":
            row["ours"] = seconds_to(racers["minglm"].curve, row["loss"])
            row["times"] = row["ours"] and racer.seconds / row["ours"]
        rows.append(row)
    how = dict(preset=config.preset, dtype=dtype_name, backend=backend, optimizer=config.train.optimizer)
    return how | dict(steps=config.train.steps, batch_tokens=batch_tokens, trainers=rows)


def table_lines(result):
    """Return the result of race() as lines."""
    head = "{preset}, {dtype}, {steps:,} steps of {batch_tokens:,} text tokens; ours: {optimizer}, {backend}"
    lines = [
        head.format(**result),
        f"{'':<24}{'seconds':>10}{'held out':>10}{'ours there after':>18}{'times':>8}",
    ]
    for row in result["trainers"]:
        line = f"{row['trainer']:<24}{row['seconds']:>10.1f}{row['loss']:>10.3f}"
        if "times" in row:
            there = f"{row['ours']:.1f} s" if row["times"] else "never"
            line += f"{there:>18}" + (f"{row['times']:>8.2f}" if row["times"] else "")
        lines.append(line)
    return lines


def run(args):
    """Race, and print a table for each preset, batch and dtype; returns all results. Raises MinglmError."""
    if args.to_loss < POINTS:
        raise MinglmError(f"--to-loss: {args.to_loss} is not accepted; {POINTS} or more steps are")
    presets, dtypes, _ = settle(args)
    if args.optimizers and (same := [c.preset for c in presets if c.train.optimizer == "adamw"]):
        raise MinglmError(f"--optimizers: {same[0]} trains with AdamW itself; presets with Muon are accepted")
    keep_memory()  # as pretraining does
    machine, tables = machine_here(), []
    print(f"machine     {machine_line(machine)}")
    print("held out    nats per token that is learned, after the last step")
    print("times       seconds of that trainer / seconds until ours has its held-out loss\n")
    for config in presets:
        for batch_tokens in args.batch_tokens or [config.train.batch_tokens]:
            for dtype in dtypes:
                tables.append(race(config, batch_tokens, dtype, args.to_loss, optimizers=args.optimizers))
                print("\n".join(table_lines(tables[-1])) + "\n", flush=True)
    return dict(bench="to_loss", version=VERSION, machine=machine, tables=tables)
