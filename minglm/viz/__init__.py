"""Pictures of what GLM reads, sees and learns. matplotlib is imported only when a figure is asked for.

derivation.py   one sample, row by row: the only thing that the renderings of a mask read
terminal.py     the same as text, for `minglm show`
curves.py       how a training run went
"""

from .derivation import Derivation, derivation_of, explain
from .terminal import highlight, render, show

__all__ = ["Derivation", "derivation_of", "explain", "fig_curves", "highlight", "render", "save_curves", "show"]


def __getattr__(name):
    if name in ("fig_curves", "save_curves"):
        from . import curves

        return getattr(curves, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
