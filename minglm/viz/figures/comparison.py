"""The results of `minglm compare` as one picture: a panel per use, a point with its error per model."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..palette import SPAN_COLOURS
from .canvas import DPI, look, width_in_pixels
from .runs import dress

MODELS = dict(glm="GLM", gpt="GPT", bert="BERT", prefix="prefix LM")
ABLATED = {
    "glm": "GLM",
    "glm-ordered": "spans in order",
    "glm-1d": "one position",
    "glm-sentinels": "sentinels",
    "glm-head": "linear head",
}
TITLES = dict(book_cloze="book cloze", last_word="last word", text="running text")
MARKS = "osD^vP"
PANEL = 150, 200  # pixels: the least width of a panel, and its height


def fig_comparison(results, *, theme="light", width=None):
    """Draw compare.table.summary as panels; a hollow point is fine-tuning from random weights.

    Bars are one standard error. The dotted line is chance (for BLEU: copying the source), the dashed one a
    baseline that counts words. A model that cannot do a task has no point there. Ablations of GLM have two
    panels of their own.
    """
    colours, width = look(theme), width_in_pixels(width)
    table = results["table"]
    panels = [(use, MODELS, use) for use in table]
    for use in ("sentiment", "infill"):
        if any(name in table.get(use, {}).get("pretrained", {}) for name in list(ABLATED)[1:]):
            panels.append((f"{use},\nablations", ABLATED, use))
    columns = max(1, min(len(panels), width // PANEL[0]))
    rows = -(-len(panels) // columns)
    size = (width / DPI, (rows * PANEL[1] + 70) / DPI)
    fig = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor=colours["back"])
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    words = []
    for ax, (title, names, use) in zip(axes, panels, strict=False):
        row = table[use]
        for place, name in enumerate(names):
            for kind, shift, face in (("random", 0.18, colours["back"]), ("pretrained", 0.0, None)):
                point = row[kind].get(name)
                if point and not (kind == "random" and names is ABLATED):
                    colour = SPAN_COLOURS[place % len(SPAN_COLOURS)]
                    how = dict(color=colour, markerfacecolor=face or colour, gid=f"{use}-{kind}-{name}")
                    how |= dict(fmt=MARKS[place], markersize=6, capsize=2, linewidth=1)
                    ax.errorbar(place + shift, point["score"], point["standard_error"], **how)
                    if kind == "pretrained":
                        words.append(f"{' '.join(title.split())}, {names[name]}: {point['score']:.1f}")
        lines = {
            "chance": (row.get("chance", row.get("copying")), ":"),
            "words": (row.get("words", {}).get("score"), "--"),
        }
        for name, (height, style) in lines.items():
            if height is not None:
                ax.axhline(height, color=colours["soft"], linewidth=1, linestyle=style, gid=f"{use}-{name}")
        unit = {"accuracy": "%", "exact": "%"}.get(row["metric"], row["metric"])
        dress(ax, colours, TITLES.get(title, title), "", unit)
        ax.title.set_fontsize(9)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.set_xticks(range(len(names)), names.values(), fontsize=8, rotation=90)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    how = dict(color=colours["ink"], fontsize=13, fontweight="bold")
    fig.suptitle("One network, trained in four ways", x=0.01, ha="left", **how)
    about = "Scores of the same network pretrained as GLM, GPT, BERT and prefix LM."
    fig.alt_text = f"{about} {'; '.join(words)}."
    return fig
