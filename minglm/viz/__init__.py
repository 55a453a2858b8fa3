"""Pictures of what GLM reads, sees and learns. Everything is imported at first use, matplotlib above all.

derivation.py   one sample, row by row: the only input of everything that shows a mask
words.py        the sentences they share
palette.py      every colour, pattern and glyph
terminal.py     the sample as text, for `minglm show`; tables.py: its tables; columns.py: what fits in a line
typed.py        what a person types
figures/        the sixteen figures: their names, modules, and `draw`
page/           the explorer: one HTML file
"""

from importlib import import_module

HOMES = {  # name: its module; every fig_... is in figures
    "Derivation": "derivation",
    "derivation_of": "derivation",
    "explain": "derivation",
    "Explorer": "page",
    "highlight": "columns",
    "render": "terminal",
    "show": "terminal",
    "save_curves": "figures.curves",
    **dict.fromkeys(("FIGURES", "draw", "save_figure", "tiles_text", "attention_of"), "figures"),
}

__all__ = [
    "Derivation",
    "Explorer",
    "derivation_of",
    "explain",
    "fig_curves",
    "highlight",
    "render",
    "save_curves",
    "show",
]


def __getattr__(name):
    home = "figures" if name.startswith("fig_") else HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__():
    return sorted({*globals(), *__all__, *HOMES})
