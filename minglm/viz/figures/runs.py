"""What a run says without a text: its position embeddings (F8) and the spans that its settings draw (F13)."""

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

# Cosines from -1 to 1: blue to orange, and what is not alike at all is the background.
DIVERGING = {
    theme: LinearSegmentedColormap.from_list(f"minglm-{theme}", colours)
    for theme, colours in {
        "light": ["#00315A", "#56B4E9", "#FFFFFF", "#F0A050", "#7A2B00"],
        "dark": ["#CFEBFF", "#2F7FD0", "#16181C", "#C05A1E", "#FFE0C2"],
    }.items()
}
SAMPLES = 2000  # that F13 draws, at most
ROOM = 0.75  # of the height of F13's panels belongs to what is drawn, the rest to the legend


def two_panels(title, theme, width, height):
    """A Figure with two panels beside each other, or below each other where it is narrow: (fig, axes, colours).

    height: of (width, panels in a row), in pixels.
    """
    colours, width = look(theme), width_in_pixels(width)
    columns = 2 if width >= 640 else 1
    size = (width / DPI, height(width, columns) / DPI)
    fig = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor=colours["back"])
    fig.get_layout_engine().set(h_pad=0.08, w_pad=0.1)
    fig.suptitle(title, x=0.01, ha="left", color=colours["ink"], fontsize=13, fontweight="bold")
    return fig, fig.subplots(2 // columns, columns), colours


def dress(ax, colours, title, x="", y=""):
    """Axes in the colours of the theme."""
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
    """(P, C) -> (P, P): how alike every two rows of a table are, from -1 to 1. A row of zeros is like nothing: 0."""
    table = np.asarray(table, dtype=np.float64)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)
    return unit @ unit.T


def fig_position_embeddings(model, *, theme="light", width=None):
    """How alike the embeddings of every two positions are, for both tables of a model. Blue: opposite, orange: alike."""
    tables = {"position": model.position_embedding, "block position": model.block_position_embedding}
    alike = {name: cosines(table.weight.detach().float().cpu()) for name, table in tables.items()}
    fig, axes, colours = two_panels(
        "How alike are two positions?",
        theme,
        width,
        lambda w, columns: (w - 160) / 2 + 80 if columns == 2 else 2 * (w - 70),
    )
    words = []
    for ax, (name, table) in zip(axes, alike.items(), strict=True):
        image = ax.imshow(
            table, cmap=DIVERGING[theme], vmin=-1, vmax=1, interpolation="none", gid=name.replace(" ", "-")
        )
        dress(ax, colours, f"{name} embeddings", name, name)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], prune="upper"))
        near = np.diagonal(table, 1).mean() if len(table) > 1 else 1.0
        words.append(f"{name}: {len(table)} rows, neighbours have a cosine of {near:.2f} in the mean")
    bar = fig.colorbar(image, ax=list(axes), shrink=0.8, aspect=30)
    bar.set_label("cosine", color=colours["ink"], fontsize=9)
    bar.ax.tick_params(colors=colours["ink"], labelsize=9)
    bar.outline.set_edgecolor(colours["grid"])
    fig.alt_text = f"Cosine similarity of the rows of both position tables. {'; '.join(words)}."
    return fig


# ---- F13 -------------------------------------------------------------------------------------------------


def draw_spans(lengths, data, seed=0):
    """Token spans of texts of these lengths (cls counted): lengths of all spans, blanked share of each text. Two arrays."""
    found, shares = [], []
    for n, length in enumerate(lengths):
        dials = dict(
            mask_ratio=data.mask_ratio, mean_length=data.mean_span_length, max_length=data.max_span_length
        )
        spans = sample_spans(range(length), "token", Rng(seed, n), **dials)
        found += [end - start for start, end in spans]
        shares.append(sum(end - start for start, end in spans) / length)
    return np.array(found), np.array(shares)


def fig_spans(lengths=None, data=None, *, seed=0, theme="light", width=None):
    """Spans of the token objective as they are drawn: their lengths beside Poisson's law, and the share that is blanked.

    lengths: tokens of texts, cls counted (128 each unless given; of more than 2,000 so many are taken); data:
    DataConfig.
    """
    data, lengths = data or DataConfig(), [128] * SAMPLES if lengths is None else list(lengths)
    if not lengths or min(lengths) < 2:
        raise MinglmError("lengths: at least one text is needed, and each has cls and a token at least")
    lengths = [
        lengths[i]
        for i in np.unique(np.linspace(0, len(lengths) - 1, min(len(lengths), SAMPLES)).astype(int))
    ]
    found, shares = draw_spans(lengths, data, seed)
    pmf = np.diff(poisson_cdf(data.mean_span_length, data.max_span_length), prepend=0.0)  # of 1, 2, ...
    title = f"{len(found):,} spans in {len(lengths):,} texts"
    fig, (left, right), colours = two_panels(
        title, theme, width, lambda _, columns: 380 if columns == 2 else 680
    )
    most = max(int(found.max()), int(np.flatnonzero(pmf > 1e-4).max(initial=0)) + 1)
    measured = np.bincount(found, minlength=most + 1)[1 : most + 1] / len(found)
    law = np.pad(pmf, (0, max(0, most - len(pmf))))[:most]
    bar, ink = (
        KINDS["BA"].light if theme == "light" else KINDS["AA"].dark,
        colours["ink"],
    )  # lines can be seen on it
    bars = left.bar(np.arange(1, most + 1), measured, width=0.8, color=bar, label="measured")
    for n, patch in enumerate(bars, 1):
        patch.set_gid(f"measured-{n}")
    left.plot(
        np.arange(1, most + 1),
        law,
        "o-",
        color=ink,
        markersize=4,
        linewidth=1.2,
        gid="law",
        label=f"Poisson({data.mean_span_length:g}) without 0",
    )
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
        f"Spans of the token objective in {len(lengths):,} texts: {len(found):,} spans of {found.mean():.2f} tokens in the "
        f"mean (Poisson without zero: {law @ np.arange(1, most + 1):.2f}); {shares.mean():.1%} of a text is blanked in the "
        f"mean, {data.mask_ratio:.0%} was asked for and the last span may pass it."
    )
    return fig
