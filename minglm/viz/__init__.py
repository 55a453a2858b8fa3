"""Pictures of what GLM reads, sees and learns. matplotlib is imported only when a figure is asked for.

derivation.py   one sample, row by row: the only thing that the renderings of a mask read
words.py        every sentence that they share;   palette.py   every colour, pattern and glyph
terminal.py     the sample as text, for `minglm show`;   typed.py   what a person types;   columns.py   what fits in a line
figures.py      the sixteen figures: their names, who draws them, and `draw`;   plot.py   `minglm plot`
story.py        the figure that moves: planned in storyboard.py, written by animated.py without matplotlib
page/           the explorer: one HTML file
"""

from .columns import highlight
from .derivation import Derivation, derivation_of, explain
from .terminal import render, show

__all__ = ["Derivation", "derivation_of", "explain", "fig_curves", "highlight", "render", "save_curves", "show"]


def __getattr__(name):
    if name == "save_curves":
        from .curves import save_curves

        return save_curves
    if name.startswith("fig_") or name in ("FIGURES", "draw", "save_figure", "tiles_text", "attention_of"):
        from . import figures

        return getattr(figures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
