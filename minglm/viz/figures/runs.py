"""What a run shows without a text: its position embeddings (F8) and the spans that it trains on (F13)."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...errors import MinglmError
from ...rng import Rng
from ...spans import poisson_cdf, sample_spans
from ...train.config import DataConfig
from ..palette import KINDS
from .canvas import DPI, look, width_in_pixels

# Cosines from -1 to 1: blue to orange; 0 is the background.
DIVERGING = {
    theme: LinearSegmentedColormap.from_list(f"minglm-{theme}", colours)
    for theme, colours in {
        "light": ["#00315A", "#56B4E9", "#FFFFFF", "#F0A050", "#7A2B00"],
        "dark": ["#CFEBFF", "#2F7FD0", "#16181C", "#C05A1E", "#FFE0C2"],
    }.items()
}
SAMPLES = 2000  # the most texts of F13
ROOM = 0.75  # share of the height of F13's panels below the legend


def two_panels(title, theme, width, height):
    """Return (fig, axes, colours) of a Figure with two panels side by side, or stacked if it is narrow.

    height: a function of (width, panels per row), in pixels.
    """
    colours, width = look(theme), width_in_pixels(width)
    columns = 2 if width >= 640 else 1
    size = (width / DPI, height(width, columns) / DPI)
    fig = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor=colours["back"])
    fig.get_layout_engine().set(h_pad=0.08, w_pad=0.1)
    fig.suptitle(title, x=0.01, ha="left", color=colours["ink"], fontsize=13, fontweight="bold")
    return fig, fig.subplots(2 // columns, columns), colours


def dress(ax, colours, title, x="", y=""):
    """Give axes the colours of the theme, a title and labels."""
    ax.set_title(title, loc="left", fontsize=10, color=colours["ink"])
    ax.set_xlabel(x, color=colours["ink"], fontsize=9)
    ax.set_ylabel(y, color=colours["ink"], fontsize=9)
    ax.set_facecolor(colours["back"])
    ax.tick_params(colors=colours["ink"], labelsize=9, length=3)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours["ink"])


# ---- F8 --------------------------------------------------------------------------------------------------


def cosines(table):
    """Return the cosines of any two rows of a table, (P, C) -> (P, P); 0 for a row of zeros."""
    table = np.asarray(table, dtype=np.float64)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)
    return unit @ unit.T


def _values(embedding, rows, name):
    from ...checks import finite
    from ...modules import table_of

    return finite(table_of(embedding, rows).detach().float().cpu(), f"the {name} embeddings")


def fig_position_embeddings(model, *, theme="light", width=None):
    """Draw how similar the embeddings of any two positions are. Blue: opposite, orange: alike."""
    rows = model.config.max_positions + 1
    tables = {"position": model.position_embedding, "block position": model.block_position_embedding}
    alike = {name: cosines(_values(table, rows, name)) for name, table in tables.items()}

    def height(w, columns):
        return (w - 160) / 2 + 80 if columns == 2 else 2 * (w - 70)

    fig, axes, colours = two_panels("How alike are two positions?", theme, width, height)
    words = []
    for ax, (name, table) in zip(axes, alike.items(), strict=True):
        how = dict(cmap=DIVERGING[theme], vmin=-1, vmax=1, interpolation="none")
        image = ax.imshow(table, gid=name.replace(" ", "-"), **how)
        dress(ax, colours, f"{name} embeddings", name, name)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], prune="upper"))
        near = np.diagonal(table, 1).mean() if len(table) > 1 else 1.0
        words.append(f"{name}: {len(table)} rows, neighbours have a cosine of {near:.2f} on average")
    bar = fig.colorbar(image, ax=list(axes), shrink=0.8, aspect=30)
    bar.set_label("cosine", color=colours["ink"], fontsize=9)
    bar.ax.tick_params(colors=colours["ink"], labelsize=9)
    bar.outline.set_edgecolor(colours["grid"])
    fig.alt_text = f"Cosine similarity of the rows of both position tables. {'; '.join(words)}."
    return fig


# ---- F13 -------------------------------------------------------------------------------------------------


def lengths_and_shares(lengths, data, seed=0):
    """Draw token spans in texts of these lengths, cls included. -> (lengths of all spans, blanked shares)"""
    dials = dict(
        mask_ratio=data.mask_ratio, mean_length=data.mean_span_length, max_length=data.max_span_length
    )
    of_spans, shares = [], []
    for n, length in enumerate(lengths):
        drawn = [end - start for start, end in sample_spans(range(length), "token", Rng(seed, n), **dials)]
        of_spans += drawn
        shares.append(sum(drawn) / length)
    return np.array(of_spans), np.array(shares)


def fig_spans(lengths=None, data=None, *, seed=0, theme="light", width=None):
    """Draw the lengths of token spans next to Poisson's law, and the share of a text that is blanked.

    lengths: tokens of each text, cls included (default: 128; at most 2,000 texts are used); data: DataConfig.
    """
    data, lengths = data or DataConfig(), [128] * SAMPLES if lengths is None else list(lengths)
    if not lengths or min(lengths) < 2:
        raise MinglmError("lengths: at least one text is needed, and each has cls and at least one token")
    evenly = np.linspace(0, len(lengths) - 1, min(len(lengths), SAMPLES)).astype(int)
    lengths = [lengths[i] for i in np.unique(evenly)]
    drawn, shares = lengths_and_shares(lengths, data, seed)
    pmf = np.diff(poisson_cdf(data.mean_span_length, data.max_span_length), prepend=0.0)  # of 1, 2, ...
    title = f"{len(drawn):,} spans in {len(lengths):,} texts"
    fig, (left, right), colours = two_panels(
        title, theme, width, lambda _, columns: 380 if columns == 2 else 680
    )
    most = max(int(drawn.max()), int(np.flatnonzero(pmf > 1e-4).max(initial=0)) + 1)
    measured = np.bincount(drawn, minlength=most + 1)[1 : most + 1] / len(drawn)
    law, every = np.pad(pmf, (0, max(0, most - len(pmf))))[:most], np.arange(1, most + 1)
    bar, ink = KINDS["BA"].light if theme == "light" else KINDS["AA"].dark, colours["ink"]
    bars = left.bar(every, measured, width=0.8, color=bar, label="measured")
    for n, patch in enumerate(bars, 1):
        patch.set_gid(f"measured-{n}")
    label = f"Poisson({data.mean_span_length:g}) without 0"
    left.plot(every, law, "o-", color=ink, markersize=4, linewidth=1.2, gid="law", label=label)
    dress(left, colours, "length of a span", "tokens", "share of spans")
    left.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    edges = np.linspace(0, max(0.3, float(shares.max())), 31)
    right.hist(shares, bins=edges, color=bar)
    for name, share, style in (("asked for", data.mask_ratio, "--"), ("mean", shares.mean(), ":")):
        label = f"{name}: {share:.1%}"
        how = dict(color=ink, linewidth=1.4, linestyle=style, label=label, gid=name.replace(" ", "-"))
        right.axvline(share, ymax=ROOM, **how)
    dress(right, colours, "share of a text that is blanked", "share", "texts")
    for axis in (left.yaxis, right.xaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    right.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for ax in (left, right):
        ax.set_ylim(0, ax.dataLim.y1 / (ROOM - 0.03))
        ax.legend(frameon=False, fontsize=9, labelcolor=ink, loc="upper right", borderaxespad=0)
    fig.alt_text = (
        f"Spans of the token objective in {len(lengths):,} texts: {len(drawn):,} spans of "
        f"{drawn.mean():.2f} tokens on average (Poisson without zero: {law @ every:.2f}); "
        f"{shares.mean():.1%} of a text is blanked on average, {data.mask_ratio:.0%} was asked for and the "
        f"last span may pass it."
    )
    return fig
