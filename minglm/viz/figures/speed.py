"""What `minglm bench attention` found: how many times as fast as PyTorch's best, and the share of the GEMM rate."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...bench import BOTH, FORWARD
from ...bench.table import fastest_forms
from .canvas import look, width_in_pixels

# Told apart by marker first: PyTorch in orange, the kernel's ladder in blue.
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
    """A bar for each shape, the kernel's fastest rung; marks for everything else. A row of panels for each dtype. -> Figure.

    result: what bench.attention.run returns. Forward and backward together; forward alone where nothing goes
    backward. width: in pixels at 100 dots an inch (900 unless given); the height follows from the shapes.
    fig.alt_text says it in words.
    """
    ink, width = look(theme), width_in_pixels(width)
    colours = COLOURS[theme]
    tables = {
        dtype: measured(result, dtype) for dtype in dict.fromkeys(row["dtype"] for row in result["rows"])
    }
    heights = [ROW * len(shapes) + 60 for shapes in tables.values()]
    fig = Figure(
        figsize=(width / 100, (sum(heights) + 90) / 100), dpi=100, layout="constrained", facecolor=ink["back"]
    )
    fig.get_layout_engine().set(h_pad=0.05, w_pad=0.08)
    machine = result["machine"]
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['threads']} threads"
    about = f"{where}, torch {machine['torch']}, {machine['date']}"
    fig.suptitle(
        f"Attention under GLM's mask: {about}",
        x=0.01,
        ha="left",
        color=ink["ink"],
        fontsize=10,
        fontweight="bold",
    )
    grid = fig.subplots(len(tables), 2, height_ratios=heights, squeeze=False)
    for panels, (dtype, shapes) in zip(grid, tables.items(), strict=True):
        for ax, what, title in zip(panels, ("ratio", "of_gemm"), TITLES, strict=True):
            draw_panel(ax, shapes, what, ink, colours)
            ax.set_title(f"{dtype}: {title}", loc="left", fontsize=10, color=ink["ink"])
        panels[1].set_yticklabels([])
    seen = {name for shapes in tables.values() for found in shapes.values() for name in found}
    fig.legend(
        handles=legend([name for name in MARKERS if name in seen], colours),
        loc="outside lower left",
        ncols=8,
        frameon=False,
        fontsize=9,
        labelcolor=ink["ink"],
        handletextpad=0.3,
        columnspacing=1.2,
    )
    fig.alt_text = in_words(result)
    return fig


TITLES = ("times as fast as PyTorch's best", "useful work as a share of the GEMM rate")


def measured(result, dtype):
    """{shape: {variant: its numbers}} of a dtype, for the whole of what is timed; sdpa is its fastest form.

    The name of a shape says which variants were wrong there, and so were not timed.
    """
    shapes = {}
    for shape in result["shapes"]:
        step = FORWARD if shape["kind"] == "decoding" else BOTH
        found = [row for row in result["rows"] if (row["shape"], row["dtype"]) == (shape["name"], dtype)]
        wrong = [row["variant"].removeprefix("kernel:") for row in found if row["status"] == "wrong"]
        found = [row for row in found if row["status"] == "timed"]
        forms = [row for row in found if row["variant"].startswith("sdpa")]
        rows = [row for row in found if row not in forms] + ([fastest_forms(forms)] if forms else [])
        name = shape["name"] + " (forward)" * (step == FORWARD) + f"\nwrong: {', '.join(wrong)}" * bool(wrong)
        shapes[name] = {row["variant"].removeprefix("kernel:"): row[step] for row in rows}
    return shapes


def draw_panel(ax, shapes, what, ink, colours):
    """A line of the panel for each shape: the bar and its number are the kernel's fastest rung."""
    for y, found in enumerate(shapes.values()):
        values = {
            name: x[what]
            for name, x in found.items()
            if what in x and not (what == "of_gemm" and "gb_per_s" in x)
        }
        kernel = {name: value for name, value in values.items() if kind(name) == "kernel"}
        fastest = max(kernel, key=kernel.get, default=None)
        if fastest:
            ax.barh(y, kernel[fastest], height=0.72, color=colours["bar"], gid=fastest)
            ax.text(
                0.995,
                y,
                f"{kernel[fastest]:.2f}",
                transform=ax.get_yaxis_transform(),
                ha="right",
                va="center",
                fontsize=9,
                color=ink["ink"],
            )
        for name, value in values.items():
            ax.plot(
                value,
                y,
                MARKERS[name],
                markersize=6,
                color=colours[kind(name)],
                markeredgewidth=1.4,
                markerfacecolor=colours[kind(name)] if name == fastest else "none",
                gid=f"{name} mark",
            )
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
    """Whose a variant is."""
    return "PyTorch" if name in ("naive", "sdpa", "flex", "flash-attn") else "kernel"


def legend(names, colours):
    """What the bar and the marks are."""
    marks = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=MARKERS[name],
            color=colours[kind(name)],
            markerfacecolor="none",
            markeredgewidth=1.4,
            label=name,
        )
        for name in names
    ]
    return [Patch(color=colours["bar"], label="fastest rung"), *marks]


def in_words(result):
    """The figure for those who cannot see it."""
    words = [
        "Attention under GLM's mask: a bar for each shape, the kernel's fastest rung, and marks for everything else."
    ]
    for dtype, x in result["summary"].items():
        words.append(
            f"In {dtype}, {x['variant']} is {x['ratio_mean']:.2f} times as fast as PyTorch's best in the mean over "
            f"{x['mixtures']} mixtures, forward and backward, and runs at {x['of_gemm_mean']:.2f} of the GEMM rate."
        )
    return " ".join(words)
