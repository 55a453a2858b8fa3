"""What a training run prints: the banner, a line or a bar for the steps, a filled blank, the final table."""

import csv
import json
import math
from contextlib import contextmanager

import numpy as np
import torch

from ..errors import MinglmError
from ..families import INFILLING
from ..files.whole import write_whole
from ..measure.metrics import bounded_exp, is_bound
from ..spans import OBJECTIVES
from ..use.generate import fill_ids
from .feed import start_method
from .speed import mfu, precision

COLUMNS = "step loss lr grad_norm text_tokens learned_tokens masked fallbacks seconds held_out".split()
COLUMNS = (*COLUMNS, *(f"held_out_{objective}" for objective in OBJECTIVES), "mfu")  # of metrics.csv


def banner(run, resume):
    """Print the settings that were chosen, and why."""
    c, t, d, corpus, size = run.config, run.config.train, run.config.data, run.corpus, run.world.size
    samples, sizes = len(run.source.in_epoch(0)), f"vocabulary {c.model.vocab_size:,}"
    name, mixture, left = "the embedded corpus", "", ""
    if d.text:
        name = ", ".join(map(str, run.files[:3])) + (", ..." if len(run.files) > 3 else "")
    if run.source.objectives == OBJECTIVES:
        weights = {o: getattr(d, o) / (d.token + d.sentence + d.document) for o in OBJECTIVES}
        mixture = ": " + ", ".join(f"{o} {weight:.0%}" for o, weight in weights.items())
    device = f"{run.device}, {size} processes" if size > 1 else f"{run.device}"
    device += ", weights sharded (no blanks are filled meanwhile)" if t.shard else ""
    gpu = "" if run.device.type == "cuda" else " (no CUDA GPU is used)"
    if resume:
        left = f"resumed at step {run.step:,} of {t.steps:,}; "
    seconds = run.seconds_per_token * run.batches.share / size * (t.steps - run.step)
    held_out = f"{len(np.unique(run.training.document)):,} documents; {len(run.held_out):,} held out"
    batch = f"{run.batches.share:,.0f} text tokens, at most {t.micro_batch_tokens:,} rows at once"
    batches, each = "prepared by the training process", " per process" if size > 1 else ""
    if run.workers:
        how = start_method(run.device)
        batches = f"prepared ahead by worker processes (train.workers {run.workers}{each}, started by {how})"
    lines = {
        "minglm": f"pretrain {c.preset}: {run.model.num_parameters() / 1e6:.1f} M parameters, {sizes}",
        "text": f"{name}: {corpus.n_documents:,} documents, {corpus.n_tokens:,} tokens; "
        f"{corpus.skipped} skipped (too short)",
        "samples": f"{samples:,} of up to {c.model.max_positions} tokens, {held_out}",
        "objective": f"{c.model.family}{mixture}",
        "masked": masked_shares(run, min(256, samples)),
        "device": f"{device}, {torch.get_num_threads()} threads{gpu}",
        "dtype": f"{run.dtype} ({run.dtype_reason}); {precision(run.device, run.dtype)}",
        "attention": f"{run.backend} ({run.backend_reason})",
        "MFU of": run.peak_reason,
        "a step": f"{batch}; {run.batches.per_epoch:,} steps are a pass",
        "batches": batches,
        "time": f"{left}{t.steps - run.step:,} steps in about {clock(seconds * 1.1)}",
        "run": f"{run.out}",
    }
    print("\n".join(f"{key:<11} {line}" for key, line in lines.items()), flush=True)


def masked_shares(run, n):
    """One line: which share of the text the first n samples mask, by objective."""
    shares, fallbacks = {o: [0, 0] for o in OBJECTIVES + run.source.objectives}, 0
    for objective, e in (run.source.draw(0, w) for w in range(n)):
        shares[e.objective][0] += len(e.targets) - int((e.targets == e.special.eop).sum())
        shares[e.objective][1] += e.text_len
        fallbacks += objective != e.objective
    masked = ", ".join(f"{o} {a / b:.1%}" for o, (a, b) in shares.items() if b)
    why = f"{fallbacks} without a whole sentence became token samples"
    return f"{masked} of the text (first {n} samples; {why})"


def report_steps(run, rows, left, bar):
    """Write lines of metrics.csv, show the last step as a line or in the bar, and log all to TensorBoard."""
    with writing(run.metrics):
        table = csv.DictWriter(run.metrics, COLUMNS, lineterminator="\n", extrasaction="ignore")
        table.writerows(row | dict(seconds=round(row["seconds"], 3)) for row in rows)
    t, row = run.config.train, rows[-1]
    speed = sum(row["text_tokens"] for row in rows) / max(1e-9, sum(row["seconds"] for row in rows))
    loss, lr, norm = (float(row[name]) for name in ("loss", "lr", "grad_norm"))
    dials = f"loss {loss:.3f}  lr {lr:.2e}  grad {norm:.2f}  {speed:,.0f} tokens/s"
    dials += f"  MFU {mfu(rows, run.peak):.0%}" if run.peak else ""
    bar.set_postfix_str(dials)
    if bar.disable and (run.step % t.log_every == 0 or run.step in (1, t.steps)):
        print(f"step {run.step:>{len(str(t.steps))}}/{t.steps}  {dials}  {clock(left)} left", flush=True)
    if "held_out" in row:
        losses = {o: row.get(f"held_out_{o}") for o in OBJECTIVES}
        parts = "  ".join(f"{o} {float(loss):.3f}" for o, loss in losses.items() if loss is not None)
        print_above(bar, f"held out    {float(row['held_out']):.3f} nats per token   {parts}")
    if run.tensorboard:
        for row in rows:
            for name in COLUMNS[1:]:
                if name in row:
                    run.tensorboard.add_scalar(name, float(row[name]), row["step"])


def add_columns(path):
    """Give a metrics.csv of an earlier version today's columns, which are empty in its rows."""
    if not path.exists() or not (lines := path.read_bytes().splitlines()):
        return
    if missing := COLUMNS[lines[0].count(b",") + 1 :]:
        ends = [",".join(["", *missing]), *["," * len(missing)] * (len(lines) - 1)]
        whole = (line + end.encode() + b"\n" for line, end in zip(lines, ends, strict=True))
        write_whole(path, b"".join(whole))


def show_sample(run, bar):
    """Fill one blank of held-out text (or else of training text), print it and append it to samples.jsonl.

    Not for sharded weights: writing takes one process, and gathering them takes all.
    """
    if not run.world.first or run.model.config.family == "bert" or run.config.train.shard:
        return
    source = run.held_out_source if len(run.held_out) else run.source
    text = source.text(0)[1:33].tolist()  # no cls; the window may be shorter
    if text[-1] == run.tokenizer.special.eos:
        text = text[:-1]
    start, end = words_in_the_middle([run.tokenizer.decode([token]) for token in text])
    fills = run.model.config.family in INFILLING
    mask, name = (run.tokenizer.special.mask, "[MASK]") if fills else (run.tokenizer.special.gmask, "[gMASK]")
    truth, before, after = text[start:end], text[:start], text[end:] if fills else []
    with run.autocast():
        [gap] = fill_ids(run.model, run.tokenizer, [*before, mask, *after], max_tokens=10)
    left, truth, right, filled = (run.tokenizer.decode(x) for x in (before, truth, after, gap.tokens))
    record = dict(step=run.step, text=f"{left} {name}{right}", filled=filled, truth=truth)
    record |= dict(log_probability=sum(gap.scores))
    with writing(run.samples):
        run.samples.write(json.dumps(record, ensure_ascii=False) + "\n")
    one_line = " ".join(f"{left} [{filled.strip()}]{right}".split())
    print_above(bar, f"a blank     {one_line}   (it was: {' '.join(truth.split())})")


@contextmanager
def writing(file):
    """A context for writing to a run's file, which is then flushed. Raises MinglmError if that fails."""
    try:
        yield
        file.flush()
    except OSError as error:
        reason = f"{error.strerror or error}; --resume continues from the last checkpoint"
        raise MinglmError(f"{file.name}: cannot be written: {reason}") from error


def print_above(bar, text):
    """Print a line on stdout, above a progress bar on the same terminal."""
    with bar.external_write_mode():
        print(text, flush=True)


def words_in_the_middle(pieces, most=3):
    """(start, end) of one or two whole words near the middle of a list of token texts.

    Without spaces between words, it is that of any tokens. Example:
    [" and", " liv", "ed", " between", " K", "ad"] -> (1, 4).
    """
    middle = len(pieces) // 2
    begins = [i for i, piece in enumerate(pieces) if piece[:1].isspace()]
    spans = [(a, b) for a in begins for b in begins if 0 < b - a <= most]
    if not spans:
        return middle, min(middle + 2, len(pieces))
    return min(spans, key=lambda span: (abs(span[0] - middle), span[0] - span[1]))


def clock(seconds):
    """Seconds as text: 42 s, 4:05 min, 3:20 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def print_scores(report):
    """Print the table of `final_report`: each number and its baselines."""
    if not report["objectives"]:
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
    numbers = [x for r in report["objectives"].values() for name, x in r.items() if "perplexity" in name]
    if any(map(is_bound, numbers)):
        print(f"            a perplexity of {bounded_exp(math.inf):.1f} is the bound; the true one is larger")
