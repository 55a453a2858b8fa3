"""The mask as a grid of cells, and what surrounds it: tokens, positions, brackets of spans, a legend."""

import math

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap

from ..palette import KINDS
from ..words import MODELS
from .canvas import BODY, SMALL, fitted, height_of, legible, width_of

LEAST_CELL = 12  # pixels of a row with a label; in smaller cells, brackets say which span is where
MOST_WORDS = 48  # in longer texts brackets do so, too
CODES = {name: i for i, name in enumerate(KINDS)}
LEGEND = {
    "AA": "{A} sees {A}",
    "BA": "{B} sees {A}",
    "BE": "{B} sees what came in an earlier {span}",
    "BS": "... and earlier in the same {span}",
    "self": "... and itself",
    "AB": "hidden: {A} never sees {B}",
    "BF": "hidden: {B} never sees what comes later",
}
# The pattern over the colour of a cell, in shares of its side: lines through points, or filled dots.
ROUND = [(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 25)]
STROKES = {
    "plain": [],
    "dots": [],
    "diagonal": [[(0.24, 0.24), (0.76, 0.76)]],
    "ring": [[(0.5 + 0.24 * c, 0.5 + 0.24 * s) for c, s in ROUND]],
    "cross": [[(0.4, 0.4), (0.6, 0.6)], [(0.4, 0.6), (0.6, 0.4)]],
    "hatch": [[(0.36, 0.64), (0.64, 0.36)]],
}
DOTS = [(0.3, 0.3), (0.7, 0.3), (0.3, 0.7), (0.7, 0.7)]


def part_colours(theme):
    """Return the colours of Part A and Part B."""
    return {"A": getattr(KINDS["AA"], theme), "B": getattr(KINDS["BS"], theme)}


def cells(canvas, kind, x, y, side, *, alpha=1.0, gid="cells"):
    """Draw a (rows, keys) array of kinds as cells of `side` pixels from (x, y) on; "" is no cell.

    The mesh holds the index of each kind in KINDS, masked where there is no cell.
    """
    theme, rows, keys = canvas.theme, *kind.shape
    codes = np.array([[CODES.get(name, -1) for name in row] for row in kind])  # (rows, keys)
    fills = [getattr(k, theme) or canvas.look["faint"] for k in KINDS.values()]
    canvas.ax.pcolormesh(
        x + side * np.arange(keys + 1),
        y + side * np.arange(rows + 1),
        np.ma.masked_less(codes, 0),
        cmap=ListedColormap(fills),
        vmin=-0.5,
        vmax=len(fills) - 0.5,
        alpha=alpha,
        gid=gid,
        zorder=1,
        edgecolors=canvas.look["back"] if side >= 7 else "none",
        linewidth=min(1.2, side / 16) if side >= 7 else 0,
    )
    if side >= 7:
        for name in np.unique(kind[kind != ""]):
            marks(canvas, name, np.argwhere(kind == name), x, y, side, alpha)


def marks(canvas, name, where, x, y, side, alpha=1.0):
    """Draw the pattern of a kind in the cells (row, key) of `where`, (n, 2)."""
    kind, corners = KINDS[name], [(x + j * side, y + i * side) for i, j in where]
    colour, thin = kind.ink[canvas.theme], kind.pattern in ("cross", "hatch")
    if kind.pattern == "dots":
        radius = max(0.07 * side, 0.8)
        middles = [(a + side * u, b + side * v) for a, b in corners for u, v in DOTS]
        dots = [[(a + radius * c, b + radius * s) for c, s in ROUND[::3]] for a, b in middles]
        dots = PolyCollection(dots, facecolors=colour, alpha=alpha, zorder=2)
        canvas.ax.add_collection(dots, autolim=False)
    elif STROKES[kind.pattern]:
        pattern = STROKES[kind.pattern]
        strokes = [
            [(a + side * u, b + side * v) for u, v in stroke] for a, b in corners for stroke in pattern
        ]
        rgba = f"{colour}{round(255 * alpha):02X}"
        canvas.lines(strokes, rgba, width=min(1.6, max(0.6, side / (26 if thin else 18))), zorder=2)


def runs(d):
    """Return (span, first row, row after the last) for every run of rows of one part and one span."""
    stretches = []
    for i, (k, part) in enumerate(zip(d.span_id.tolist(), d.part, strict=True)):
        if k < 0:
            continue
        begins = d.model == "glm" and d.block_position_ids[i] == 1
        last, first, end = stretches[-1] if stretches else (-1, 0, 0)
        if last == k and end == i and d.part[i - 1] == part and not begins:
            stretches[-1] = (k, first, i + 1)
        else:
            stretches.append((k, i, i + 1))
    return stretches


def separators(canvas, d, x, y, side, over=0):
    """Draw heavy lines between Part A and B, thin ones between spans of B. over: pixels past the grid."""
    T, A = len(d), d.part_a_len
    if 0 < A < T:
        at, end = A * side, T * side
        canvas.line((x + at, y - over), (x + at, y + end), width=1.8, zorder=4)
        canvas.line((x - over, y + at), (x + end, y + at), width=1.8, zorder=4)
    for _, first, _ in runs(d):
        if first > A and d.model in ("glm", "t5"):  # elsewhere Part B is one piece
            at = first * side
            canvas.line((x + at, y + A * side), (x + at, y + T * side), width=0.9, zorder=4)
            canvas.line((x + A * side, y + at), (x + T * side, y + at), width=0.9, zorder=4)


def rise(texts, side, size=BODY):
    """Return (height of labels over columns of `side` pixels, do they fit on one line, not turned)."""
    widest = max(width_of(t, size) for t in texts)
    return (height_of(size) + 8, True) if widest <= side - 5 else (widest + 6, False)


def upright(canvas, text, x, bottom, side, size, gid=None):
    """Draw a label over a column, turned; a single character that fits (as in Chinese) is not turned."""
    if len(text) == 1 and width_of(text, size) <= side - 1:
        canvas.text(x, bottom - height_of(size) / 2, text, size, gid=gid)
    else:
        canvas.text(x, bottom, text, size, angle=90, gid=gid)


def spread_labels(places, widths, first=()):
    """Return the indices of labels on one line that do not touch; those in `first` are preferred."""
    taken, chosen = [], []
    for i in (*first, *(i for i in range(len(places)) if i not in set(first))):
        a, b = places[i] - widths[i] / 2 - 2, places[i] + widths[i] / 2 + 2
        if all(b <= c or e <= a for c, e in taken):
            taken.append((a, b))
            chosen.append(i)
    return sorted(chosen)


def numbers(canvas, values, x, y, side, *, first=(), colour=None, size=BODY, gid="number"):
    """Draw a number under each column where there is space for it."""
    texts = [str(v) for v in values]
    places = [x + (j + 0.5) * side for j in range(len(texts))]
    for j in spread_labels(places, [width_of(t, size) for t in texts], first):
        canvas.text(places[j], y, texts[j], size, colour=colour, gid=f"{gid}-{j}")


def span_heads(canvas, d, x, y, side):
    """Draw brackets over the columns of each span, named where names do not touch."""
    spans = runs(d)
    widths = [width_of(f"s{k + 1}", SMALL, True) for k, _, _ in spans]
    named = spread_labels([x + (a + b) / 2 * side for _, a, b in spans], widths)
    for n, (k, a, b) in enumerate(spans):
        canvas.bracket(x + a * side + 2, x + b * side - 2, y, k, f"s{k + 1}" if n in named else "")


def part_heads(canvas, d, x, y, side, gap=0):
    """Draw bars over the columns of both parts, with their names. gap: pixels between the parts."""
    names, A = MODELS[d.model], d.part_a_len
    for part, a, b in (("A", 0, A), ("B", A, len(d))):
        if a < b:
            colour = part_colours(canvas.theme)[part]
            x += gap * (part == "B")
            canvas.rectangle(x + a * side + 1, y, (b - a) * side - 2, 4, fill=colour)
            name = names[part].removeprefix("the ")
            name = name[0].upper() + name[1:]
            if width_of(name, SMALL, True) <= (b - a) * side - 2:
                canvas.text(x + (a + b) / 2 * side, y - 9, name, SMALL, bold=True)


def texts_of(tokens, room, size=BODY):
    """Return tokens as they are drawn: legible, and cut to `room` pixels."""
    return [fitted(legible(t), room, size) for t in tokens]


def counts(kind):
    """Return {kind: number of its cells} in the order of KINDS, without kinds that do not occur."""
    return {name: n for name in KINDS if (n := int((kind == name).sum()))}


def legend(canvas, number_of, names, x, y, room, columns=1):
    """Draw a swatch, the meaning and the count of each kind of cell. Returns where it ends.

    number_of: {kind: count or ""}; names: what A, B and span are called, an entry of words.MODELS.
    """
    side, line = 17, 18
    column = (room - 24 * (columns - 1)) / columns
    per_column, ends, top = -(-len(number_of) // columns), [y], y
    for n, (name, count) in enumerate(number_of.items()):
        left, top = x + n // per_column * (column + 24), top if n % per_column else y
        cells(canvas, np.array([[name]]), left, top, side, gid=f"swatch-{name}")
        number = f"{count:,}" if count != "" else ""
        meaning = LEGEND[name].format(**names)
        meaning = meaning[0].upper() + meaning[1:] if name in ("AA", "BA", "BE") else meaning
        if number:
            how = dict(ha="right", colour=canvas.look["soft"], gid=f"count-{name}")
            canvas.text(left + column, top + side / 2, number, **how)
        room = column - side - 18 - width_of(number)
        top += canvas.lines_of_text(left + side + 8, top + side / 2, meaning, room, line) * line + 6
        ends.append(top)
    return max(ends)
