"""What all figures stand on: the two themes, letters for any script, a canvas that counts pixels, and files.

A figure that is made of cells, words and lines is laid out by hand, in pixels from the top left: only so can
words be measured before they are placed, and nothing covers anything. Figures with axes and ticks take `look`
and `save_figure`.
"""

import io
import pathlib
import re
from functools import cache, lru_cache

import matplotlib
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from ...errors import MinglmError
from ...files.whole import write_whole
from ..columns import printable
from ..palette import SPAN_COLOURS, SPAN_OUTLINES, THEMES

DPI, WIDTH, MARGIN = 100, 900, 14  # WIDTH: of a figure, in pixels, unless another is asked for
TITLE, BODY, SMALL = 12, 9, 8  # sizes of letters, in points; a point is 1.39 pixels
# The first of these that are installed are used; each brings letters that those before it lack.
FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)
DASHES = {"solid": (0, ()), "dashed": (0, (4, 2)), "dotted": (0, (1, 1.6))}
SUFFIXES = (".svg", ".png", ".pdf")


def look(theme):
    """The colours of a theme of palette.THEMES, by name: back, ink, grid, soft, faint."""
    if theme not in THEMES:
        raise MinglmError(f"theme {theme!r} is not accepted: it is one of {', '.join(THEMES)}")
    return THEMES[theme]


# ---- letters ---------------------------------------------------------------------------------------------


@cache
def families():
    """FAMILIES that this machine has: matplotlib would warn of any other. And all the letters that they have."""
    installed = {font.name for font in fontManager.ttflist}
    found = [name for name in FAMILIES if name in installed]
    letters = set()
    for name in found:
        letters |= get_font(fontManager.findfont(FontProperties(family=name))).get_charmap().keys()
    return found, frozenset(letters)


@lru_cache
def font(size=BODY, bold=False):
    return FontProperties(family=families()[0], size=size, weight="bold" if bold else "normal")


@cache
def ruler():
    return RendererAgg(8, 8, DPI)


@lru_cache(maxsize=4096)
def width_of(text, size=BODY, bold=False):
    """How wide a text is, in pixels."""
    return ruler().get_text_width_height_descent(text, font(size, bold), False)[0] if text else 0.0


def height_of(size):
    """Of a line of text from the highest letter to the lowest, in pixels; lines stand 1.25 of it apart."""
    return 1.12 * size * DPI / 72


@lru_cache(maxsize=4096)
def legible(text):
    """A token as it can be drawn: blanks and control characters visible, letters that no font has as escapes."""
    letters = families()[1]
    text = printable(text, "unicode")
    return "".join(c if ord(c) in letters else c.encode("ascii", "backslashreplace").decode() for c in text)


def fitted(text, room, size=BODY, bold=False):
    """As much of a text as `room` pixels hold, with an ellipsis for the rest."""
    if width_of(text, size, bold) <= room:
        return text
    while text and width_of(text + "…", size, bold) > room:
        text = text[:-1]
    return text + "…"


def wrapped(text, room, size=BODY, bold=False):
    """A sentence as lines of at most `room` pixels; a word that is wider alone is cut."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or width_of(longer, size, bold) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return [fitted(line, room, size, bold) for line in lines]


# ---- canvas ----------------------------------------------------------------------------------------------


class Canvas:
    """A figure of a given width in pixels, drawn from the top down; `finish` cuts it to its height.

    fig, ax: matplotlib's, the axes counting pixels from the top left; look: the colours of the theme.
    """

    def __init__(self, theme, width, least=320):
        self.theme, self.look = theme, look(theme)
        self.width = width_in_pixels(width, least)
        self.fig = Figure(figsize=(self.width / DPI, 1), dpi=DPI, facecolor=self.look["back"])
        self.ax = self.fig.add_axes((0, 0, 1, 1), xlim=(0, self.width))
        self.ax.set_axis_off()

    def text(self, x, y, text, size=BODY, *, bold=False, colour=None, ha="center", angle=0, gid=None):
        """One line around the height y (for angle > 0: that begins at x, y). What is drawn is never read as mathematics."""
        place = dict(ha=ha, va="baseline")
        if angle:
            place = dict(ha="left", va="center", rotation=angle, rotation_mode="anchor")
        else:
            y += (
                0.36 * size * DPI / 72
            )  # capital letters then stand in the middle, and neighbours on one line
        self.ax.text(
            x,
            y,
            text,
            fontproperties=font(size, bold),
            color=colour or self.look["ink"],
            gid=gid,
            parse_math=False,
            zorder=5,
            **place,
        )

    def paragraph(self, x, y, text, room, size=BODY, **how):
        """Lines from y down, at most `room` pixels wide. Returns where they end."""
        line = 1.25 * height_of(size)
        for i, words in enumerate(lines := wrapped(text, room, size, how.get("bold", False))):
            self.text(x, y + (i + 0.5) * line, words, size, ha="left", **how)
        return y + len(lines) * line

    def title(self, text, about=""):
        """The head of the figure; returns where the rest may begin."""
        room = self.width - 2 * MARGIN
        y = self.paragraph(MARGIN, MARGIN - 4, text, room, TITLE, bold=True)
        return self.paragraph(MARGIN, y + 1, about, room, colour=self.look["soft"]) + 10 if about else y + 10

    def line(self, *points, colour=None, width=1.0, style="solid", zorder=3, gid=None):
        """A line through (x, y) points; width in points."""
        xs, ys = zip(*points, strict=True)
        self.ax.plot(
            xs,
            ys,
            color=colour or self.look["ink"],
            linewidth=width,
            linestyle=DASHES[style],
            zorder=zorder,
            gid=gid,
            dash_capstyle="butt",
            solid_capstyle="butt",
            solid_joinstyle="round",
        )

    def lines(self, segments, colour, width=1.0, zorder=3, gid=None):
        """Many lines, each of (x, y) points, as one object."""
        self.ax.add_collection(
            LineCollection(
                segments, colors=colour, linewidths=width, zorder=zorder, gid=gid, capstyle="butt"
            ),
            autolim=False,
        )

    def box(
        self, x, y, w, h, *, fill="none", edge="none", width=1.0, style="solid", round=0, zorder=2, gid=None
    ):
        """A rectangle from its top left corner; round: the radius of its corners."""
        how = dict(
            facecolor=fill, edgecolor=edge, linewidth=width, linestyle=DASHES[style], zorder=zorder, gid=gid
        )
        if round:
            r = min(round, w / 2, h / 2)
            shape = FancyBboxPatch((x, y), w, h, boxstyle=f"round,pad=0,rounding_size={r}", **how)
        else:
            shape = Rectangle((x, y), w, h, **how)
        self.ax.add_artist(shape)  # add_patch would look for limits, which are known

    def chip(self, x, y, w, h, text, *, span=-1, size=BODY, fill=None, colour=None, gid=None):
        """A token in its box; of a span: in the colour and the outline of that span."""
        edge, style = span_look(span) if span >= 0 else (self.look["grid"], "solid")
        fill = fill or (self.look["back"] if span >= 0 else self.look["faint"])
        self.box(x, y, w, h, fill=fill, edge=edge, style=style, width=1.6 if span >= 0 else 0.8, round=4)
        self.text(x + w / 2, y + h / 2, fitted(text, w - 4, size), size, colour=colour, gid=gid)

    def curve(self, x0, y0, x1, y1, *, colour, width=1.4, style="solid", zorder=1.5):
        """From one point to another, leaving and arriving upright."""
        mid = (y0 + y1) / 2
        path = Path([(x0, y0), (x0, mid), (x1, mid), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3])
        how = dict(edgecolor=colour, linewidth=width, linestyle=DASHES[style], zorder=zorder)
        self.ax.add_artist(PathPatch(path, fill=False, **how))

    def bracket(self, x0, x1, y, span, label=""):
        """A line over the columns [x0, x1) with its ends bent down to them, and its label above."""
        colour, style = span_look(span)
        self.line((x0, y + 4), (x0, y), (x1, y), (x1, y + 4), colour=colour, width=1.8, style=style)
        if label:
            self.text((x0 + x1) / 2, y - 8, label, SMALL, bold=True)

    def finish(self, height, alt_text):
        """The Figure, `height` pixels high."""
        height = int(round(height))
        self.fig.set_size_inches(self.width / DPI, height / DPI)
        self.ax.set_ylim(height, 0)
        words = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in alt_text)
        self.fig.alt_text = re.sub(
            r"(?<!\.)\.\.(?!\.)", ".", words
        )  # a text that ends in a point, and ours after it
        return self.fig


def span_look(span):
    """(colour, outline) of span 0, 1, ...: six colours, three outlines."""
    return SPAN_COLOURS[span % len(SPAN_COLOURS)], SPAN_OUTLINES[span % len(SPAN_OUTLINES)]


def width_in_pixels(width, least=320, most=4000):
    """The width that was asked for, else WIDTH."""
    if width is None:
        return WIDTH
    if not least <= width <= most:
        raise MinglmError(f"width: {width} is not accepted; {least} to {most} pixels are")
    return int(width)


# ---- files -----------------------------------------------------------------------------------------------


def save_figure(fig, path):
    """Write a figure as .svg, .png or .pdf by the name's ending: whole or not at all, and the same bytes every time.

    fig.alt_text goes into the file. Letters of an SVG are drawn as outlines, so that no reader needs the
    fonts. -> Path
    """
    path = pathlib.Path(path)
    suffix, words = path.suffix.lower(), getattr(fig, "alt_text", None)
    metadata = {
        ".svg": {"Date": None, "Creator": "minglm", "Title": title_of(words), "Description": words},
        ".png": {"Software": None, "Description": words},  # the library's version would be in it
        ".pdf": {
            "CreationDate": None,
            "Creator": "minglm",
            "Producer": None,
            "Title": title_of(words),
            "Subject": words,
        },
    }
    if suffix not in metadata:
        raise MinglmError(f"{path}: a picture's name ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    metadata = {name: text for name, text in metadata[suffix].items() if text or name in FIXED}
    with matplotlib.rc_context({"svg.hashsalt": "minglm", "svg.fonttype": "path"}):
        fig.savefig(picture := io.BytesIO(), format=suffix[1:], metadata=metadata)
    write_whole(path, picture.getvalue())
    return path


FIXED = ("Date", "Software", "CreationDate", "Producer")  # left out by naming them as None


def title_of(words):
    """The first sentence of an alternative text."""
    return (words or "").partition(". ")[0].removesuffix(".")
