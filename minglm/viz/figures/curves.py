"""The curves of a training run: figure F12, from the run's metrics.csv."""

import csv
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...errors import MinglmError
from ..palette import SPAN_COLOURS
from .canvas import DPI, look, save_figure, width_in_pixels

# columns of metrics.csv that the figure reads; losses in nats per token
COLUMNS = ("step", "loss", "lr", "grad_norm", "text_tokens", "seconds")
HELD_OUT = {
    "held_out": "all",
    "held_out_token": "token",
    "held_out_sentence": "sentence",
    "held_out_document": "document",
}
# one panel each; the second only where the trainer knew the hardware's peak
SPEEDS = {"tokens_per_second": "text tokens per second", "mfu_percent": "MFU, share of the peak FLOP rate"}
# Markers and dashes differ first, colours (Okabe and Ito's) second, for colour-blind readers.
STYLES = {"all": ("o", "-"), "token": ("s", "--"), "sentence": ("^", "-."), "document": ("D", ":")}
LINES = {
    "light": {
        "training": "#004B87",
        "all": "#1A1A1A",
        "token": "#D55E00",
        "sentence": "#009E73",
        "document": "#AA4499",
    },
    "dark": {
        "training": "#4FA3F0",
        "all": "#E8E8E8",
        "token": "#FF8A3D",
        "sentence": "#3DD6A3",
        "document": "#E89AD8",
    },
}
DASHES, MARKS = ("-", "--", ":", "-."), ("o", "s", "^", "D", "v", "P")  # of several runs, besides colours
MOST_POINTS = 20_000  # of a raw line; of a longer run only the extremes of short stretches are drawn


def fig_curves(metrics_csv_path, *, title=None, theme="light", width=None):
    """Draw loss, held-out losses, learning rate, gradient norm and speed over the steps of a run. -> Figure

    A run on hardware whose peak is known has a panel for the MFU, the share of that peak that it used, too.
    width: in pixels at 100 dpi (default 900); the height is 700, or 800 with the MFU. fig.alt_text
    describes it in words.
    """
    colours, width = look(theme) | LINES[theme], width_in_pixels(width)
    path = Path(metrics_csv_path)
    metrics = read_metrics(path)
    if not len(metrics["step"]):
        raise MinglmError(f"{path}: no step is written there yet")
    title = path.resolve().parent.name if title is None else title

    used = np.isfinite(metrics["mfu"]).any()
    fig, (loss, lr, norm, *speeds) = panels(title, colours, width, used)
    step = metrics["step"]
    label = f"training {last(smooth(metrics['loss'])):.2f}"
    handles = [noisy_line(loss, step, metrics["loss"], colours["training"], label)]
    for column, name in HELD_OUT.items():
        seen = np.isfinite(metrics[column])
        if seen.any():
            marker, dashes = STYLES[name]
            label = f"held out{'' if name == 'all' else ', ' + name} {last(metrics[column]):.2f}"
            how = dict(marker=marker, markersize=4.5, markevery=max(1, seen.sum() // 25), linewidth=1.4)
            how |= dict(color=colours[name], label=label, gid=column)
            handles += loss.plot(step[seen], metrics[column][seen], dashes, **how)
    legend_above(loss, handles, colours, width)

    lr.plot(step, metrics["lr"], color=colours["training"], linewidth=1.6, marker=dot(step), gid="lr")
    in_logs = spread(metrics["grad_norm"]) > 10
    noisy_line(norm, step, metrics["grad_norm"], colours["training"], gid="grad_norm", in_logs=in_logs)
    for ax, column in zip(speeds, SPEEDS, strict=False):
        noisy_line(ax, step, metrics[column], colours["training"], gid=column)
    scales((lr, norm, *speeds), step, in_logs, width)
    speeds[-1].set_xlabel("step", color=colours["ink"])
    fig.alt_text = in_words(metrics, title)
    return fig


def fig_runs(paths, *, theme="light", width=None):
    """Draw several runs: running means of the training loss, held-out losses as marks, rate, norm and speed.

    paths: each run's metrics.csv; a run is named after its folder. -> matplotlib Figure
    """
    colours, width = look(theme), width_in_pixels(width)
    runs = {str(Path(path).resolve().parent.name): read_metrics(path) for path in paths}
    if len(runs) < len(paths):  # folders of the same name
        runs = {str(Path(path).parent): read_metrics(path) for path in paths}
    if empty := [name for name, metrics in runs.items() if not len(metrics["step"])]:
        raise MinglmError(f"{empty[0]}: no step is written there yet")
    used = any(np.isfinite(metrics["mfu"]).any() for metrics in runs.values())
    fig, (loss, lr, norm, *speeds) = panels(f"{len(runs)} runs", colours, width, used)
    handles, words = [], []
    in_logs = max(spread(metrics["grad_norm"]) for metrics in runs.values()) > 10
    for n, (name, metrics) in enumerate(runs.items()):
        step, colour = metrics["step"], SPAN_COLOURS[n % len(SPAN_COLOURS)]
        how = dict(color=colour, linewidth=1.6, linestyle=DASHES[n % len(DASHES)], marker=dot(step))
        end = last(smooth(metrics["loss"]))
        handles += loss.plot(step, smooth(metrics["loss"]), label=f"{name} {end:.2f}", gid=f"loss-{n}", **how)
        seen, held = np.isfinite(metrics["held_out"]), last(metrics["held_out"])
        marks = dict(color=colour, markersize=4.5, markerfacecolor=colours["back"])
        marks |= dict(markevery=max(1, seen.sum() // 12))
        loss.plot(step[seen], metrics["held_out"][seen], MARKS[n % len(MARKS)], gid=f"held_out-{n}", **marks)
        lr.plot(step, metrics["lr"], gid=f"lr-{n}", **how)
        for ax, column in zip((norm, *speeds), ("grad_norm", *SPEEDS), strict=False):
            ax.plot(step, running_mean(metrics[column], in_logs and ax is norm), gid=f"{column}-{n}", **how)
        held_out = f", held out {held:.2f}" if math.isfinite(held) else ""
        words.append(f"{name}: {step[-1]:,.0f} steps, training loss {end:.2f}{held_out}")
    legend_above(loss, handles, colours, width)
    scales((lr, norm, *speeds), max((metrics["step"] for metrics in runs.values()), key=len), in_logs, width)
    speeds[-1].set_xlabel("step; marks in the first panel: held-out loss", color=colours["ink"])
    fig.alt_text = f"Training curves of {len(runs)} runs, in nats per token at the end. {'; '.join(words)}."
    return fig


def panels(title, colours, width, used):
    """Return a Figure and its axes: loss, learning rate, gradient norm, speed, and (used) MFU over steps."""
    fig = Figure(
        figsize=(width / DPI, 8 if used else 7), dpi=DPI, layout="constrained", facecolor=colours["back"]
    )
    fig.get_layout_engine().set(h_pad=0.06, w_pad=0.08)
    names = ("loss, nats per token", "learning rate", "gradient norm", *list(SPEEDS.values())[: 1 + used])
    axes = fig.subplots(len(names), 1, sharex=True, height_ratios=[3.4, *[1] * (len(names) - 1)])
    if title:
        fig.suptitle(title, x=0.01, ha="left", color=colours["ink"], fontsize=13, fontweight="bold")
    for ax, name in zip(axes, names, strict=True):
        style_axes(ax, name, colours)
    return fig, axes


def legend_above(ax, handles, colours, width):
    """Draw the legend above the axes, where it covers nothing."""
    where = dict(loc="lower left", bbox_to_anchor=(0, 1.1), borderaxespad=0, columnspacing=1.4)
    columns = 2 if width < 600 else 3
    columns = 5 if width >= 1000 else columns
    style = dict(frameon=False, fontsize=9, labelcolor=colours["ink"])
    ax.legend(handles=handles, ncols=columns, **where, **style)


def scales(axes, step, in_logs, width):
    """Set limits and number formats of the lower panels. step: of the longest run."""
    lr, norm, *speeds = axes
    for ax in (lr, *speeds) if in_logs else axes:
        ax.set_ylim(0, max(ax.get_ylim()[1], 1e-12) * 1.08)
    if in_logs:
        norm.set_yscale("log")
        norm.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        norm.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lr.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for ax, form in zip(speeds, ("{:,.0f}", "{:.3g} %"), strict=False):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _, form=form: form.format(value)))
    ticks = MaxNLocator(8 if width >= 600 else 5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    last_axis = speeds[-1]
    last_axis.xaxis.set_major_locator(ticks)
    if len(step) == 1:
        last_axis.set_xlim(step[0] - 1, step[0] + 1)
    last_axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def save_curves(run_dir):
    """Draw run_dir/metrics.csv to run_dir/curves.png, replacing an older picture atomically.

    Returns its path, or None for a run without a step, which has nothing to draw.
    """
    run_dir = Path(run_dir)
    if not len(read_metrics(run_dir / "metrics.csv")["step"]):
        return None
    return save_figure(fig_curves(run_dir / "metrics.csv"), run_dir / "curves.png")


def read_metrics(path):
    """Read metrics.csv as {column: (steps,) floats}, nan for empty fields.

    "tokens_per_second" and "mfu_percent" are added. An incomplete last line is left out.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = csv.reader(file)
    except OSError as error:
        why = error.strerror or error
        raise MinglmError(f"{path}: {why}; a run folder's metrics.csv is needed") from None
    except (ValueError, csv.Error):
        header, rows = [], []
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise MinglmError(f"{path}: column {missing[0]!r} is missing; a run folder's metrics.csv is needed")
    if rows and len(rows[-1]) != len(header):
        rows.pop()
    table = np.full((len(rows), len(header)), np.nan)
    for i, row in enumerate(rows):
        try:
            table[i] = [float(field) if field else math.nan for field in row]
        except ValueError:
            expected = f"one number for each of the {len(header)} columns"
            raise MinglmError(f"{path}: line {i + 2} is not {expected}") from None
    never = np.full(len(rows), np.nan)
    metrics = dict.fromkeys((*HELD_OUT, "mfu"), never) | dict(zip(header, table.T, strict=True))
    seconds = np.where(metrics["seconds"] > 0, metrics["seconds"], np.nan)
    metrics["tokens_per_second"] = metrics["text_tokens"] / seconds
    metrics["mfu_percent"] = 100 * metrics["mfu"]
    return metrics


def smooth(values, share=0.02):
    """Return a running mean over about `share` of the run on either side, ignoring nan. (n,) -> (n,)

    Weights fall off by the same factor per step, in a forward and a backward pass, so the mean does not lag.
    Example: three values 4, 2, 2 are few, so nothing is smoothed: 4, 2, 2.
    """
    keep = 1 - 1 / max(1.0, share * len(values))
    there = np.isfinite(values)
    total, weight = np.zeros(len(values)), np.zeros(len(values))
    for direction in (1, -1):
        a = b = 0.0
        for i in range(len(values))[::direction]:
            a, b = keep * a, keep * b
            if there[i]:
                a, b = a + values[i], b + 1.0
            total[i] += a
            weight[i] += b
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


def noisy_line(ax, step, values, colour, label=None, gid="loss", in_logs=False):
    """Draw a quantity of every step faintly, and over it its running mean, whose line is returned.

    in_logs: average logarithms, so that a spike on a logarithmic axis does not lift its neighbours.
    """
    x, y = extremes(step, values)
    ax.plot(x, y, color=colour, alpha=0.35, linewidth=0.8, gid=f"{gid} raw")
    how = dict(color=colour, linewidth=1.8, marker=dot(step), label=label, gid=gid)
    (line,) = ax.plot(step, running_mean(values, in_logs), **how)
    return line


def running_mean(values, in_logs=False):
    """Return `smooth(values)`, or with in_logs the same of the logarithms."""
    if not in_logs:
        return smooth(values)
    return np.exp(smooth(np.log(np.where(values > 0, values, np.nan))))


def extremes(step, values, most=MOST_POINTS):
    """Return the points of a line; of a long one the smallest and largest of each of most / 2 stretches."""
    if len(values) <= most:
        return step, values
    keep = set()
    for stretch in np.array_split(np.arange(len(values)), most // 2):
        part = values[stretch]
        if np.isfinite(part).any():
            keep |= {stretch[np.nanargmin(part)], stretch[np.nanargmax(part)]}
    keep = np.array(sorted(keep))
    return step[keep], values[keep]


def dot(step):
    """Return the marker of a line: a single point is invisible without one."""
    return "o" if len(step) == 1 else None


def last(values):
    """Return the last finite value, or nan."""
    values = values[np.isfinite(values)]
    return values[-1] if len(values) else math.nan


def spread(values):
    """Return the largest value divided by the median."""
    values = values[np.isfinite(values) & (values > 0)]
    return values.max() / np.median(values) if len(values) else 1.0


def style_axes(ax, name, colours):
    ax.set_title(name, loc="left", fontsize=10, color=colours["ink"], pad=4)
    ax.set_facecolor(colours["back"])
    ax.grid(True, color=colours["grid"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(colors=colours["ink"], labelsize=9, length=3)
    ticks = 4 if ax.get_subplotspec().rowspan.start else 8  # the first panel is taller
    ax.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours["ink"])


def in_words(metrics, title):
    """Return the alternative text of fig_curves."""
    step, loss = metrics["step"], metrics["loss"]
    words = [
        f"Training curves{' of ' + title if title else ''}, steps {step[0]:g} to {step[-1]:g}.",
        f"Training loss: {loss[0]:.2f} at first, {last(smooth(loss)):.2f} at the end, in nats per token.",
    ]
    held = [f"{name} {last(metrics[c]):.2f}" for c, name in HELD_OUT.items() if np.isfinite(metrics[c]).any()]
    words.append(f"Last held-out loss: {', '.join(held)}." if held else "No held-out loss yet.")
    for column, text, statistic in (
        ("lr", "Largest learning rate: {:.3g}.", np.max),
        ("grad_norm", "Median gradient norm: {:.3g}.", np.median),
        ("tokens_per_second", "Median speed: {:,.0f} text tokens per second.", np.median),
        ("mfu_percent", "Median MFU: {:.3g} %.", np.median),
    ):
        values = metrics[column][np.isfinite(metrics[column])]
        if len(values):
            words.append(text.format(statistic(values)))
    return " ".join(words)
