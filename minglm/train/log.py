"""What a person sees of a training run: the banner, a line or a bar for the steps, a blank being filled, the final table."""

import csv
import json
import math
from contextlib import contextmanager

import numpy as np
import torch

from ..errors import MinglmError
from ..families import INFILLING
from ..measure.metrics import bounded_exp, is_bound
from ..spans import OBJECTIVES
from ..use.generate import fill_ids

COLUMNS = (
    *(
        "step",
        "loss",
        "lr",
        "grad_norm",
        "text_tokens",
        "learned_tokens",
        "masked",
        "fallbacks",
        "seconds",
        "held_out",
    ),
    *(f"held_out_{objective}" for objective in OBJECTIVES),
)  # of metrics.csv


def banner(run, resume):
    """What was chosen, and why."""
    c, t, d, model, corpus = run.config, run.config.train, run.config.data, run.model, run.corpus
    held, cuda = len(run.held_out), run.device.type == "cuda"
    learned = len(np.unique(run.training.document))
    name = (
        "the embedded corpus"
        if not d.text
        else ", ".join(map(str, run.files[:3])) + (", ..." if len(run.files) > 3 else "")
    )
    total = d.token + d.sentence + d.document
    mixture = (
        f"token {d.token / total:.0%}, sentence {d.sentence / total:.0%}, document {d.document / total:.0%}"
    )
    shares, drawn = {o: [0, 0] for o in OBJECTIVES + run.source.objectives}, 0
    fallbacks = 0
    samples = len(run.source.in_epoch(0))
    for objective, e in (run.source.draw(0, w) for w in range(min(256, samples))):
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
        (
            "minglm",
            f"pretrain {c.preset}: {model.num_parameters() / 1e6:.1f} M parameters, vocabulary {c.model.vocab_size:,}",
        ),
        (
            "text",
            f"{name}: {corpus.n_documents:,} documents, {corpus.n_tokens:,} tokens; {corpus.skipped} skipped (too short)",
        ),
        (
            "samples",
            f"{samples:,} of up to {c.model.max_positions} tokens, {learned:,} documents; {held:,} held out",
        ),
        ("objective", f"{c.model.family}" + (f": {mixture}" if run.source.objectives == OBJECTIVES else "")),
        (
            "masked",
            f"{masked} of the text (first {drawn} samples; {fallbacks} without a whole sentence became token samples)",
        ),
        (
            "device",
            f"{run.device}{procs}, {torch.get_num_threads()} threads"
            + ("" if cuda else " (no CUDA GPU is used)"),
        ),
        ("dtype", f"{run.dtype} ({run.dtype_reason})"),
        ("attention", f"{run.backend} ({run.backend_reason})"),
        (
            "a step",
            f"{run.batches.share:,.0f} text tokens, at most {micro:,} rows at once; {steps_a_pass:,} steps are a pass",
        ),
        ("time", f"{left}{t.steps - run.step:,} steps in about {clock(seconds * 1.1)}"),
        ("run", f"{run.out}"),
    ]
    print("\n".join(f"{key:<11} {line}" for key, line in lines), flush=True)


def report_step(run, row, left, bar):
    """One flushed line of metrics.csv; one line (or the bar) for the person; TensorBoard if asked."""
    with writing(run.metrics):
        csv.DictWriter(run.metrics, COLUMNS, lineterminator="\n").writerow(row)
    t, speed = run.config.train, row["text_tokens"] / max(1e-9, row["seconds"])
    loss, lr, norm = (float(row[name]) for name in ("loss", "lr", "grad_norm"))
    dials = f"loss {loss:.3f}  lr {lr:.2e}  grad {norm:.2f}  {speed:,.0f} tokens/s"
    bar.set_postfix_str(dials, refresh=False)
    bar.update()
    if bar.disable and (run.step % t.log_every == 0 or run.step in (1, t.steps)):
        print(f"step {run.step:>{len(str(t.steps))}}/{t.steps}  {dials}  {clock(left)} left", flush=True)
    if "held_out" in row:
        parts = "  ".join(
            f"{o} {float(row[f'held_out_{o}']):.3f}" for o in OBJECTIVES if f"held_out_{o}" in row
        )
        print_above(bar, f"held out    {float(row['held_out']):.3f} nats a token   {parts}")
    if run.tensorboard:
        for name in COLUMNS[1:]:
            if name in row:
                run.tensorboard.add_scalar(name, float(row[name]), run.step)


def show_sample(run, bar):
    """Fill one blank of held-out text (of training text if nothing is held out), print it and keep it in samples.jsonl."""
    if not run.world.first or run.model.config.family == "bert":
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
    record = dict(
        step=run.step,
        text=f"{left} {name}{right}",
        filled=filled,
        truth=truth,
        log_probability=sum(gap.scores),
    )
    with writing(run.samples):
        run.samples.write(json.dumps(record, ensure_ascii=False) + "\n")
    one_line = " ".join(f"{left} [{filled.strip()}]{right}".split())
    print_above(bar, f"a blank     {one_line}   (it was: {' '.join(truth.split())})")


@contextmanager
def writing(file):
    """Lines of a run's table or samples, flushed. Raises MinglmError when the disk does not take them."""
    try:
        yield
        file.flush()
    except OSError as error:
        reason = f"{error.strerror or error}; --resume goes on from the last checkpoint"
        raise MinglmError(f"{file.name}: cannot be written: {reason}") from error


def print_above(bar, text):
    """A line on stdout, above a bar on the same terminal."""
    with bar.external_write_mode():
        print(text, flush=True)


def words_in_the_middle(pieces, most=3):
    """(start, end) of one or two whole words near the middle of a list of token texts; any tokens where no blank separates.

    Example: [" and", " liv", "ed", " between", " K", "ad"] -> (1, 4).
    """
    middle = len(pieces) // 2
    begins = [i for i, piece in enumerate(pieces) if piece[:1].isspace()]
    spans = [(a, b) for a in begins for b in begins if 0 < b - a <= most]
    return min(
        spans, key=lambda s: (abs(s[0] - middle), s[0] - s[1]), default=(middle, min(middle + 2, len(pieces)))
    )


def clock(seconds):
    """Seconds as people say them: 42 s, 4:05 min, 3:20 h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def print_scores(report):
    """The table of `final_report`, and what each number is to be compared with."""
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
    if any(
        is_bound(x) for r in report["objectives"].values() for name, x in r.items() if "perplexity" in name
    ):
        print(f"            a perplexity of {bounded_exp(math.inf):.1f} is the bound; the true one is larger")
