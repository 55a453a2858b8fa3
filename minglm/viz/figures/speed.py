"""The results of `minglm bench attention`: speed relative to PyTorch's best and to the GEMM rate."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...bench import BOTH, FORWARD
from ...bench.table import fastest_forms
from .canvas import look, width_in_pixels

# Markers differ first; colours second: PyTorch in orange, the kernel's ladder in blue.
MARKERS = {
    "naive": "x",
    "sdpa": "D",
    "scalar": "v",
    "tiled": "s",
    "avx2": "^",
    "neon": "^",
    "avx512": "o",
    "avx512_bf16": "P",
    "flex": "*",
    "flash-attn": "+",
    "kernel": "o",
    "emulated": "X",
}
COLOURS = {
    "light": {"PyTorch": "#D55E00", "kernel": "#004B87", "bar": "#A9C8E4"},
    "dark": {"PyTorch": "#FF8A3D", "kernel": "#B5DBFF", "bar": "#2C567E"},
}
ROW = 26  # pixels


def fig_attention(result, *, theme="light", width=None):
    """Draw a bar per shape for the kernel's fastest rung, marks for all else; a row of panels per dtype.

    result: what bench.attention.run returns. Times are of forward and backward together, or of forward alone
    for decoding. width: in pixels at 100 dpi (default 900); the height follows from the shapes. Returns a
    Figure whose alt_text describes it in words.
    """
    ink, width = look(theme), width_in_pixels(width)
    colours, dtypes = COLOURS[theme], dict.fromkeys(row["dtype"] for row in result["rows"])
    tables = {dtype: measured(result, dtype) for dtype in dtypes}
    heights = [ROW * len(shapes) + 60 for shapes in tables.values()]
    size = (width / 100, (sum(heights) + 90) / 100)
    fig = Figure(figsize=size, dpi=100, layout="constrained", facecolor=ink["back"])
    fig.get_layout_engine().set(h_pad=0.05, w_pad=0.08)
    machine = result["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    title = f"Attention under GLM's mask: {where}, torch {machine['torch']}, {machine['date']}"
    fig.suptitle(title, x=0.01, ha="left", color=ink["ink"], fontsize=10, fontweight="bold")
    grid = fig.subplots(len(tables), 2, height_ratios=heights, squeeze=False)
    for panels, (dtype, shapes) in zip(grid, tables.items(), strict=True):
        for ax, what, title in zip(panels, ("ratio", "of_gemm"), TITLES, strict=True):
            draw_panel(ax, shapes, what, ink, colours)
            ax.set_title(f"{dtype}: {title}", loc="left", fontsize=10, color=ink["ink"])
        panels[1].set_yticklabels([])
    seen = {name for shapes in tables.values() for variants in shapes.values() for name in variants}
    handles = legend([name for name in MARKERS if name in seen], colours)
    how = dict(ncols=8, frameon=False, fontsize=9, handletextpad=0.3, columnspacing=1.2)
    fig.legend(handles=handles, loc="outside lower left", labelcolor=ink["ink"], **how)
    fig.alt_text = in_words(result)
    return fig


TITLES = ("times as fast as PyTorch's best", "useful work as a share of the GEMM rate")


def measured(result, dtype):
    """Return {shape: {variant: its numbers}} for a dtype; sdpa is its fastest form.

    The name of a shape lists the variants that were wrong there and therefore not timed.
    """
    shapes = {}
    for shape in result["shapes"]:
        step = FORWARD if shape["kind"] == "decoding" else BOTH
        rows = [row for row in result["rows"] if (row["shape"], row["dtype"]) == (shape["name"], dtype)]
        wrong = [row["variant"].removeprefix("kernel:") for row in rows if row["status"] == "wrong"]
        rows = [row for row in rows if row["status"] == "timed"]
        forms = [row for row in rows if row["variant"].startswith("sdpa")]
        rows = [row for row in rows if row not in forms] + ([fastest_forms(forms)] if forms else [])
        name = f"{shape['name']} (forward)" if step == FORWARD else shape["name"]
        if wrong:
            name += f"\nwrong: {', '.join(wrong)}"
        shapes[name] = {row["variant"].removeprefix("kernel:"): row[step] for row in rows}
    return shapes


def draw_panel(ax, shapes, what, ink, colours):
    """Draw a line for each shape: a bar with its number for the kernel's fastest rung, and all marks."""
    for y, variants in enumerate(shapes.values()):
        values = {name: x[what] for name, x in variants.items() if what in x}
        if what == "of_gemm":  # decoding is measured in bytes
            values = {name: value for name, value in values.items() if "gb_per_s" not in variants[name]}
        kernel = {name: value for name, value in values.items() if kind(name) == "kernel"}
        fastest = max(kernel, key=kernel.get, default=None)
        if fastest:
            ax.barh(y, kernel[fastest], height=0.72, color=colours["bar"], gid=fastest)
            how = dict(ha="right", va="center", fontsize=9, color=ink["ink"])
            ax.text(0.995, y, f"{kernel[fastest]:.2f}", transform=ax.get_yaxis_transform(), **how)
        for name, value in values.items():
            colour = colours[kind(name)]
            face = colour if name == fastest else "none"
            how = dict(color=colour, markersize=6, markeredgewidth=1.4, markerfacecolor=face)
            ax.plot(value, y, MARKERS[name], gid=f"{name} mark", **how)
    ax.axvline(1, color=ink["ink"], linewidth=0.9, linestyle="--", zorder=1.5)
    ax.set_facecolor(ink["back"])
    ax.set_yticks(range(len(shapes)), list(shapes))
    ax.set_ylim(len(shapes) - 0.4, -0.6)
    ax.set_xlim(0, 1.16 * max(1, ax.get_xlim()[1]))  # room for the numbers
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.grid(True, axis="x", color=ink["grid"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(colors=ink["ink"], labelsize=9, length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(ink["ink"])


def kind(name):
    """Return whether a variant is "PyTorch" or "kernel"."""
    return "PyTorch" if name in ("naive", "sdpa", "flex", "flash-attn") else "kernel"


def legend(names, colours):
    """Return the handles of the legend."""
    handles, how = [Patch(color=colours["bar"], label="fastest rung")], dict(linestyle="none")
    how |= dict(markerfacecolor="none", markeredgewidth=1.4)
    for name in names:
        handles.append(Line2D([], [], marker=MARKERS[name], color=colours[kind(name)], label=name, **how))
    return handles


def in_words(result):
    """Return the alternative text of fig_attention."""
    words = [
        "Attention under GLM's mask: a bar for each shape, the kernel's fastest rung, and marks for "
        "everything else."
    ]
    for dtype, x in result["summary"].items():
        words.append(
            f"In {dtype}, {x['variant']} is {x['ratio_mean']:.2f} times as fast as PyTorch's best, on "
            f"average over {x['mixtures']} mixtures, forward and backward, and runs at "
            f"{x['of_gemm_mean']:.2f} of the GEMM rate."
        )
    return " ".join(words)
