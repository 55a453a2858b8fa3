"""What all figures use: the two themes, fonts for any script, a canvas measured in pixels, and files.

A figure of cells, words and lines is laid out by hand, in pixels from the top left, so that words are
measured before they are placed and nothing overlaps. Figures with axes use only `look` and `save_figure`.
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

DPI, WIDTH, MARGIN = 100, 900, 14  # WIDTH: the default width of a figure, in pixels
TITLE, BODY, SMALL = 12, 9, 8  # font sizes in points; a point is 1.39 pixels
# Of these the installed ones are used, in this order; each adds letters that the earlier ones lack.
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
CLOSING = "，。、；：！？）”’…》」』】"  # no line begins with these
WIDE = "\u2e80-\u9fff\uff00-\uffef"  # letters and marks of Chinese: a line may end after each
PIECE = re.compile(f" *(?:[{WIDE}]|[^ {WIDE}]+)[{CLOSING}]*")
DASHES = {"solid": (0, ()), "dashed": (0, (4, 2)), "dotted": (0, (1, 1.6))}
SUFFIXES = (".svg", ".png", ".pdf")


def look(theme):
    """Return the colours of a theme of palette.THEMES by name: back, ink, grid, soft, faint."""
    if theme not in THEMES:
        raise MinglmError(f"theme {theme!r} is not accepted: it is one of {', '.join(THEMES)}")
    return THEMES[theme]


# ---- letters ---------------------------------------------------------------------------------------------


@cache
def families():
    """Return (the installed FAMILIES, all their letters); matplotlib would warn about any other family."""
    installed = {font.name for font in fontManager.ttflist}
    names, letters = [name for name in FAMILIES if name in installed], set()
    for name in names:
        letters |= get_font(fontManager.findfont(FontProperties(family=name))).get_charmap().keys()
    return names, frozenset(letters)


@lru_cache
def font(size=BODY, bold=False):
    return FontProperties(family=families()[0], size=size, weight="bold" if bold else "normal")


@cache
def ruler():
    return RendererAgg(8, 8, DPI)


@lru_cache(maxsize=4096)
def width_of(text, size=BODY, bold=False):
    """Return the width of a text in pixels."""
    return ruler().get_text_width_height_descent(text, font(size, bold), False)[0] if text else 0.0


def height_of(size):
    """Return the height of a line of text in pixels; the distance between lines is 1.25 times that."""
    return 1.12 * size * DPI / 72


class Quoted(str):
    """Words of the text that a picture shows: they are the same in every language."""


@lru_cache(maxsize=4096)
def legible(text):
    """Return a token as it is drawn: spaces visible, control characters and unknown letters escaped."""
    letters = families()[1]
    text = printable(text, "unicode")
    shown = (c if ord(c) in letters else c.encode("ascii", "backslashreplace").decode() for c in text)
    return Quoted("".join(shown))


def fitted(text, room, size=BODY, bold=False):
    """Cut a text to `room` pixels, with an ellipsis for the rest."""
    kind = type(text)
    if width_of(text, size, bold) <= room:
        return text
    while text and width_of(text + "…", size, bold) > room:
        text = text[:-1]
    return kind(text + "…")


def wrapped(text, room, size=BODY, bold=False):
    """Wrap a sentence into lines of at most `room` pixels; a word that is wider is cut."""
    lines = [""]
    for word in PIECE.findall(text):
        longer = (lines[-1] + word).strip()
        if not lines[-1] or width_of(longer, size, bold) <= room:
            lines[-1] = longer
        else:
            lines.append(word.strip())
    return [fitted(line, room, size, bold) for line in lines]


# ---- canvas ----------------------------------------------------------------------------------------------


class Canvas:
    """A figure of a given width in pixels, drawn from the top down; `finish` sets its height.

    fig, ax: matplotlib's, in pixels from the top left; look: the colours of the theme.
    """

    def __init__(self, theme, width, least=320):
        self.theme, self.look = theme, look(theme)
        self.width = width_in_pixels(width, least)
        self.fig = Figure(figsize=(self.width / DPI, 1), dpi=DPI, facecolor=self.look["back"])
        self.ax = self.fig.add_axes((0, 0, 1, 1), xlim=(0, self.width))
        self.ax.set_axis_off()

    def text(self, x, y, text, size=BODY, *, bold=False, colour=None, ha="center", angle=0, gid=None):
        """Draw a line of text at height y (with angle > 0: from (x, y) on). "$" is no mathematics."""
        place = dict(ha=ha, va="baseline")
        if angle:
            place = dict(ha="left", va="center", rotation=angle, rotation_mode="anchor")
        else:
            y += 0.36 * size * DPI / 72  # centres capital letters and keeps neighbours on one line
        style = dict(fontproperties=font(size, bold), color=colour or self.look["ink"], zorder=5, gid=gid)
        drawn = self.ax.text(x, y, text, parse_math=False, **style, **place)
        drawn.quoted = isinstance(text, Quoted)
        return drawn

    def lines_of_text(self, x, y, text, room, line, size=BODY, **how):
        """Draw lines at most `room` pixels wide, the first at height y. line: their distance. -> their number

        Each line knows the whole, which another language breaks elsewhere.
        """
        bold = how.get("bold", False)
        for i, words in enumerate(lines := wrapped(text, room, size, bold)):
            drawn = self.text(x, y + i * line, words, size, ha="left", **how)
            drawn.quoted, drawn.line_of = isinstance(text, Quoted), (text, i, room, size, bold)
        return len(lines)

    def paragraph(self, x, y, text, room, size=BODY, **how):
        """Draw lines from y down, at most `room` pixels wide. Returns where they end."""
        line = 1.25 * height_of(size)
        return y + line * self.lines_of_text(x, y + 0.5 * line, text, room, line, size, **how)

    def title(self, text, about=""):
        """Draw the head of the figure. Returns where the rest may begin."""
        room = self.width - 2 * MARGIN
        y = self.paragraph(MARGIN, MARGIN - 4, text, room, TITLE, bold=True)
        return self.paragraph(MARGIN, y + 1, about, room, colour=self.look["soft"]) + 10 if about else y + 10

    def line(self, *points, colour=None, width=1.0, style="solid", zorder=3, gid=None):
        """Draw a line through (x, y) points; width in points."""
        how = dict(color=colour or self.look["ink"], linewidth=width, linestyle=DASHES[style])
        ends = dict(dash_capstyle="butt", solid_capstyle="butt", solid_joinstyle="round")
        self.ax.plot(*zip(*points, strict=True), zorder=zorder, gid=gid, **how, **ends)

    def lines(self, segments, colour, width=1.0, zorder=3, gid=None):
        """Draw many lines, each of (x, y) points, as one object."""
        how = dict(colors=colour, linewidths=width, zorder=zorder, gid=gid, capstyle="butt")
        self.ax.add_collection(LineCollection(segments, **how), autolim=False)

    def rectangle(
        self, x, y, w, h, *, fill="none", edge="none", width=1.0, style="solid", round=0, zorder=2, gid=None
    ):
        """Draw a rectangle from its top left corner; round: the radius of its corners."""
        how = dict(facecolor=fill, edgecolor=edge, linewidth=width, linestyle=DASHES[style])
        how |= dict(zorder=zorder, gid=gid)
        if round:
            r = min(round, w / 2, h / 2)
            shape = FancyBboxPatch((x, y), w, h, boxstyle=f"round,pad=0,rounding_size={r}", **how)
        else:
            shape = Rectangle((x, y), w, h, **how)
        self.ax.add_artist(shape)  # add_patch would update the limits, which are known

    def chip(self, x, y, w, h, text, *, span=-1, size=BODY, fill=None, colour=None, gid=None):
        """Draw a token in a rectangle; with a span, in that span's colour and outline."""
        edge, style = span_look(span) if span >= 0 else (self.look["grid"], "solid")
        fill = fill or (self.look["back"] if span >= 0 else self.look["faint"])
        width = 1.6 if span >= 0 else 0.8
        self.rectangle(x, y, w, h, fill=fill, edge=edge, style=style, width=width, round=4)
        self.text(x + w / 2, y + h / 2, fitted(text, w - 4, size), size, colour=colour, gid=gid)

    def curve(self, x0, y0, x1, y1, *, colour, width=1.4, style="solid", zorder=1.5):
        """Draw a curve from one point to another that leaves and arrives vertically."""
        mid = (y0 + y1) / 2
        path = Path([(x0, y0), (x0, mid), (x1, mid), (x1, y1)], [Path.MOVETO, *[Path.CURVE4] * 3])
        how = dict(edgecolor=colour, linewidth=width, linestyle=DASHES[style], zorder=zorder)
        self.ax.add_artist(PathPatch(path, fill=False, **how))

    def bracket(self, x0, x1, y, span, label=""):
        """Draw a bracket over the columns [x0, x1) and its label above."""
        colour, style = span_look(span)
        self.line((x0, y + 4), (x0, y), (x1, y), (x1, y + 4), colour=colour, width=1.8, style=style)
        if label:
            self.text((x0 + x1) / 2, y - 8, label, SMALL, bold=True)

    def finish(self, height, alt_text):
        """Return the Figure, `height` pixels high."""
        height = int(round(height))
        self.fig.set_size_inches(self.width / DPI, height / DPI)
        self.ax.set_ylim(height, 0)
        words = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in alt_text)
        self.fig.alt_text = re.sub(r"(?<!\.)\.\.(?!\.)", ".", words)  # the text's full stop and ours are one
        return self.fig


def span_look(span):
    """Return (colour, outline) of span 0, 1, ...: six colours, three outlines."""
    return SPAN_COLOURS[span % len(SPAN_COLOURS)], SPAN_OUTLINES[span % len(SPAN_OUTLINES)]


def width_in_pixels(width, least=320, most=4000):
    """Return the requested width, else WIDTH. Raises MinglmError if it is out of range."""
    if width is None:
        return WIDTH
    if not least <= width <= most:
        raise MinglmError(f"width: {width} is not accepted; {least} to {most} pixels are")
    return int(width)


# ---- files -----------------------------------------------------------------------------------------------


def save_figure(fig, path):
    """Write a figure as .svg, .png or .pdf, by the ending of the name. -> Path

    Files are written atomically and reproducibly, with fig.alt_text in them. Letters of an SVG are drawn as
    outlines, so that no reader needs the fonts.
    """
    path = pathlib.Path(path)
    suffix, words = path.suffix.lower(), getattr(fig, "alt_text", None)
    head, tool = {"Title": title_of(words)}, {"Creator": "minglm"}
    metadata = {
        ".svg": {"Date": None, "Description": words} | head | tool,
        ".png": {"Software": None, "Description": words},  # Software would hold matplotlib's version
        ".pdf": {"CreationDate": None, "Producer": None, "Subject": words} | head | tool,
    }
    if suffix not in metadata:
        raise MinglmError(f"{path}: a picture's name ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    metadata = {name: text for name, text in metadata[suffix].items() if text or name in FIXED}
    with matplotlib.rc_context({"svg.hashsalt": "minglm", "svg.fonttype": "path"}):
        fig.savefig(picture := io.BytesIO(), format=suffix[1:], metadata=metadata)
    write_whole(path, picture.getvalue())
    return path


FIXED = ("Date", "Software", "CreationDate", "Producer")  # None leaves them out of the file


def title_of(words):
    """Return the first sentence of an alternative text."""
    return (words or "").partition(". ")[0].removesuffix(".")
