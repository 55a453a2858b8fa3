"""The colours, patterns and glyphs of figures, terminal and page.

No two kinds of cell differ by colour alone: each has its own pattern and, in text, a glyph.
tests/viz/test_palette.py checks the colours: distances under simulated colour blindness, order of lightness
and contrast.
"""

from typing import NamedTuple

THEMES = {
    "light": {"back": "#FFFFFF", "ink": "#1A1A1A", "grid": "#DDDDDD", "soft": "#5A5F66", "faint": "#F3F4F6"},
    "dark": {"back": "#16181C", "ink": "#E8E8E8", "grid": "#3A3D44", "soft": "#A6ABB3", "faint": "#22252B"},
}


class Kind(NamedTuple):
    """How a kind of cell looks: colours ("" is the background), ink, pattern and glyphs."""

    light: str
    dark: str
    ink: dict  # the colour of text on it, in each theme
    pattern: str  # plain, dots, diagonal, ring (over the colour of BS), cross, hatch
    unicode: str
    ascii: str
    terminal: int | None  # what fills the cell: the nearest of a terminal's 256 colours
    terminal_ink: int  # that of its glyph, which stays in sight on it


WHITE = {"light": "#FFFFFF", "dark": "#000000"}
BLACK = {"light": "#000000", "dark": "#000000"}
SOFT = {theme: look["soft"] for theme, look in THEMES.items()}
KINDS = {
    "AA": Kind("#004B87", "#2F7FD0", WHITE, "plain", "█", "#", 24, 24),
    "BA": Kind("#56B4E9", "#9AD6FF", BLACK, "plain", "▓", "+", 74, 117),
    "BE": Kind("#F0C05A", "#FFD56B", BLACK, "dots", "▒", "o", 221, 178),
    "BS": Kind("#B8450B", "#E0662A", WHITE, "diagonal", "◆", "=", 130, 231),
    "self": Kind("#B8450B", "#E0662A", WHITE, "ring", "●", "@", 130, 231),
    "AB": Kind("", "", SOFT, "cross", "·", ".", None, 245),
    "BF": Kind("", "", SOFT, "hatch", "·", ".", None, 245),
}
# A span has a number, an outline and a colour (Okabe and Ito's); the seventh gets the first colour again.
SPAN_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#56B4E9")
SPAN_TERMINAL = (166, 36, 175, 32, 172, 74)  # the same among a terminal's 256 colours
SPAN_OUTLINES = ("solid", "dashed", "dotted")
