"""The reader's result next to the right one, with what is wrong marked, as lines for a terminal."""

from typing import NamedTuple

import torch

from ..viz.columns import display_width, pad_left, pad_right, style
from ..viz.palette import KINDS
from .compare import equal, number
from .words import tell

RED, GREEN, SOFT, BOLD = 31, 32, 90, 1
MOST = 12  # columns and rows of a matrix that are shown
SIGNS = {
    "unicode": dict(right="✓", wrong="✗", next="→", later="·", full="█", empty="░"),
    "ascii": dict(right="+", wrong="x", next=">", later=".", full="#", empty="."),
}


class Look(NamedTuple):
    """What the terminal can show."""

    colour: bool = False
    charset: str = "unicode"

    def sign(self, name):
        return SIGNS[self.charset][name]

    def red(self, text):
        return style(text, RED, self.colour)

    def green(self, text):
        return style(text, GREEN, self.colour)

    def soft(self, text):
        return style(text, SOFT, self.colour)

    def bold(self, text):
        return style(text, BOLD, self.colour)


def draw(got, want, look):
    """Lines with both results."""
    got, want = number(got), number(want)
    if torch.is_tensor(got) and torch.is_tensor(want) and want.dim():
        return draw_tensors(got, want, look)
    if isinstance(got, list | tuple) and isinstance(want, list | tuple):
        if any(torch.is_tensor(x) for x in want):
            return draw_parts(got, want, look)
        return draw_lists(got, want, look)
    return [label(tell("yours")) + look.red(text_of(got)), label(tell("right")) + look.green(text_of(want))]


def label(name):
    """What is in front of a row."""
    return pad_right(name, 7)


def text_of(value):
    """A value in a few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else repr(value)


def draw_lists(got, want, look):
    """Two lists in columns, folded to 100 characters, the first wrong entry marked."""
    size = max(len(got), len(want))
    rows = [[text_of(x) for x in values] + [""] * (size - len(values)) for values in (got, want)]
    wrong = [n >= len(got) or n >= len(want) or not equal(got[n], want[n]) for n in range(size)]
    widths = [
        max(display_width(c) for c in (str(n), a, b)) for n, (a, b) in enumerate(zip(*rows, strict=True))
    ]
    lines, start = [], 0
    while start < size or not lines:
        end = start + 1
        while end < size and sum(widths[start : end + 1]) + 2 * (end - start) < 90:
            end += 1
        band = range(start, end)
        cells = [[pad_left(row[n], widths[n]) for n in band] for row in rows] if size else [[], []]
        numbers = "  ".join(pad_left(str(n), widths[n]) for n in band) if size else ""
        mine = [look.red(c) if wrong[n] else c for c, n in zip(cells[0], band, strict=size > 0)]
        marks = (
            "  ".join(pad_left("^" * max(1, len(rows[0][n])) if wrong[n] else "", widths[n]) for n in band)
            if size
            else ""
        )
        lines += [
            look.soft(label(tell("place")) + numbers),
            label(tell("yours")) + ("  ".join(mine) or tell("(nothing)")),
            label(tell("right")) + ("  ".join(cells[1]) or tell("(nothing)")),
        ]
        lines += ["       " + marks] if marks.strip() else []
        start = end
    return [line.rstrip() for line in lines]


def draw_parts(got, want, look):
    """The first part of a tuple of tensors that is wrong."""
    for n, right in enumerate(want):
        if n >= len(got):
            break
        if not equal(got[n], right):
            return [tell("Part {n} of what is returned:", n=n), *draw(got[n], right, look)]
    return [tell("Yours has {mine} parts, the right one {right}.", mine=len(got), right=len(want))]


def draw_tensors(got, want, look):
    """Two tensors side by side: of more than two dimensions, the first matrix that is wrong."""
    if got.shape != want.shape:
        return [
            label(tell("yours")) + look.red(tell("shape {shape}", shape=tuple(got.shape))),
            label(tell("right")) + look.green(tell("shape {shape}", shape=tuple(want.shape))),
        ]
    title = []
    while want.dim() > 2:
        n = next((n for n in range(len(want)) if not equal(got[n], want[n])), 0)
        got, want = got[n], want[n]
        title.append(str(n))
    lines = [tell("[{place}] of it:", place=", ".join(title))] if title else []
    if want.dim() == 1:
        got, want = got[None], want[None]
    got, want = got[:MOST, :MOST], want[:MOST, :MOST]
    return lines + (draw_masks if want.dtype == torch.bool else draw_matrices)(got, want, look)


def draw_masks(got, want, look):
    """Two masks; in the reader's, + is open and should be shut, - is shut and should be open."""
    seen, hidden = (getattr(KINDS[kind], look.charset) for kind in ("AA", "AB"))

    def cell(i, j):
        mine, right = bool(got[i, j]), bool(want[i, j])
        if mine != right:
            return look.red("+" if mine else "-")
        return seen if mine else hidden

    rows = [
        (" ".join(cell(i, j) for j in range(want.shape[1])), " ".join(seen if x else hidden for x in want[i]))
        for i in range(len(want))
    ]
    width = 2 * want.shape[1] - 1
    lines = [f"      {pad_right(tell('yours'), max(5, width))}     {tell('right')}"]
    lines += [f"  {i:2}  {mine}{' ' * (5 - width)}     {right}" for i, (mine, right) in enumerate(rows)]
    more, less = tell("open, should be shut"), tell("shut, should be open")
    return [*lines, f"      {look.red('+')} {more}   {look.red('-')} {less}"]


def draw_matrices(got, want, look):
    """Two matrices of numbers, the wrong ones of the reader's marked by *."""
    texts = [
        [[text_of(round(x, 4) if isinstance(x, float) else x) for x in row] for row in m.tolist()]
        for m in (got, want)
    ]
    width = max(len(x) for m in texts for row in m for x in row)

    def row(i, which):
        cells = []
        for j, text in enumerate(texts[which][i]):
            good = equal(got[i, j], want[i, j])
            cell = pad_left(text, width) + (" " if good or which else "*")
            cells.append(cell if good or which else look.red(cell))
        return " ".join(cells)

    one = (width + 2) * want.shape[1] - 1
    if 2 * one + 8 <= 110:
        lines = [f"  {pad_right(tell('yours'), one)}     {tell('right')}"]
        return lines + [f"  {row(i, 0)}     {row(i, 1).rstrip()}" for i in range(len(want))]
    lines = []
    for which, name in enumerate(("yours", "right")):
        lines += [tell(name), *(f"  {row(i, which)}".rstrip() for i in range(len(want)))]
    return lines
