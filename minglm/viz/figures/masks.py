"""Who sees whom: the mask of a sample (F3), its relatives (F5), all orders (F6), a packed batch (F7).

Each figure reads a Derivation (F7: several) and returns a matplotlib Figure with `alt_text`. width: in
pixels, 900 by default.
"""

from itertools import islice, permutations
from math import factorial

import numpy as np

from ...errors import MinglmError
from ...mask import GLMMask
from ..derivation import MASK_NAMES, count, explain
from ..words import MODELS
from .canvas import BODY, MARGIN, SMALL, Canvas, height_of, span_look, width_of
from .grid import (
    LEAST_CELL,
    LEGEND,
    MOST_WORDS,
    cells,
    counts,
    legend,
    numbers,
    part_colours,
    part_heads,
    rise,
    runs,
    separators,
    span_heads,
    spread_labels,
    texts_of,
    upright,
)

ROW, LARGEST = 19, 44  # pixels: the height of a line of numbers, the largest cell
FAMILY = ("bert", "gpt", "prefix", "unilm", "t5", "glm")
ANY = {"A": "the first part", "B": "the second", "span": "piece"}  # what the family has in common
SHUFFLES = 6  # the most panels of F6


# ---- F3 --------------------------------------------------------------------------------------------------


def fig_mask(d, *, theme="light", width=None):
    """Draw tokens, both positions, targets and who sees whom, aligned. Queries go down, keys across."""
    canvas, T = Canvas(theme, width), len(d)
    wide = canvas.width >= 700
    tokens, targets = texts_of(d.tokens, 110 if wide else 72), texts_of(d.targets, 90 if wide else 60)
    name = max(map(width_of, tokens)) + 10
    digits = [max(width_of(str(n)) for n in row.tolist()) for row in (d.position_ids, d.block_position_ids)]
    labels = len(d.text) <= MOST_WORDS
    places = digits[0] + (9 + digits[1] if d.second_position else 0)
    left = MARGIN + 34 + max(name + 8 + places + 10, width_of("block position") - 20)
    right = MARGIN + max([width_of(t) + 14 for t in targets if t], default=0)
    side = min(LARGEST, (canvas.width - left - right) / T)
    if not labels or side < LEAST_CELL:
        labels, left, right = False, MARGIN + 40, MARGIN
        side = min(LARGEST, (canvas.width - left - right) / T)
    size = BODY if side >= 15 else SMALL

    y = canvas.title("Who may see whom", headline(d)) + 16
    part_heads(canvas, d, left, y, side)
    y += 22 if d.spans else 0
    span_heads(canvas, d, left, y, side)
    y += 8
    if labels:
        y = column_heads(canvas, d, tokens, left, y, side, size)
    separators(canvas, d, left, y, side, over=4)
    cells(canvas, d.kind, left, y, side)
    if labels:
        for i, (token, target) in enumerate(zip(tokens, targets, strict=True)):
            row_head(canvas, d, i, token, left - 10, y + (i + 0.5) * side, side, size, name, digits)
            if target:
                x, mid = left + T * side + 8, y + (i + 0.5) * side
                canvas.text(x, mid, target, size, ha="left", gid=f"target-{i}")
        if any(targets):
            x, above = left + T * side + 8, y + d.part_a_len * side - 9
            canvas.text(x, above, "learns", SMALL, ha="left", colour=canvas.look["soft"])
    row_brackets(canvas, d, MARGIN, y, side)
    end = mask_legend(canvas, d, left + T * side + right + 16, y, y + T * side)
    kinds = ", ".join(f"{n} {name}" for name, n in counts(d.kind).items())
    what = f"{MODELS[d.model]['name']}'s attention mask of {count(T, 'row')}, {d.part_a_len} of them Part A. "
    what += f"Rows: {' '.join(d.tokens)}. {share_open(d)} Cells of each kind: {kinds}. {d.steps[-1][1]}"
    return canvas.finish(end + MARGIN, what)


def row_head(canvas, d, i, token, x, mid, side, size, name, digits):
    """Draw token and positions in front of row i, up to x. name, digits: widths of the columns."""
    if d.second_position:
        second = str(d.block_position_ids[i])
        canvas.text(x, mid, second, size, ha="right", colour=canvas.look["soft"])
        x -= digits[1] + 9
    canvas.text(x, mid, str(d.position_ids[i]), size, ha="right")
    x -= digits[0] + 9
    token_label(canvas, d, i, token, x - name, mid, name, side, size)


def mask_legend(canvas, d, x, y, end):
    """Draw the legend of fig_mask from x on if it fits, else below `end`. Returns where the figure ends."""
    signs = f"{MASK_NAMES[d.objective]} a blank, [S] the start of its span, [E] its end. "
    signs = signs if d.model == "glm" and d.spans else ""
    about = f"{d.steps[-1][1]} {share_open(d)} {signs}Positions count from 0; the paper counts from 1."
    if canvas.width - x < 270:
        return legend_below(canvas, counts(d.kind), MODELS[d.model], end + 16, about) - MARGIN
    room = canvas.width - x - MARGIN
    top = legend(canvas, counts(d.kind), MODELS[d.model], x, y, room) + 6
    return max(end, canvas.paragraph(x, top, about, room, colour=canvas.look["soft"]))


def share_open(d):
    """Say how many cells of the mask are open."""
    opened, T = int(d.mask.sum()), len(d)
    return f"{opened:,} of {T * T:,} cells are open ({opened / T**2:.0%})."


def legend_below(canvas, number_of, names, y, about=""):
    """Draw the legend over the whole width, and a sentence under it. Returns the height of the figure."""
    room = canvas.width - 2 * MARGIN
    y = legend(canvas, number_of, names, MARGIN, y, room, columns=2 if canvas.width >= 700 else 1)
    if about:
        y = canvas.paragraph(MARGIN, y + 4, about, room, colour=canvas.look["soft"])
    return y + MARGIN


def headline(d):
    """Describe a sample in one line."""
    names, blanked = MODELS[d.model], sum(b - a for a, b in d.spans)
    what = f"{count(len(d.text), 'token')}, {blanked} of them blanked in {count(len(d.spans), 'span')}"
    return f"{names['name']} on {what}: {count(len(d), 'row')}, {d.part_a_len} of them {names['A']}"


def column_heads(canvas, d, tokens, x, y, side, size):
    """Draw tokens and both positions over the columns. Returns where the grid begins."""
    high, flat = rise(tokens, side, size)
    for j, token in enumerate(tokens):
        if flat:
            token_label(canvas, d, j, token, x + j * side + 2, y + high / 2, side - 4, high, size, "key")
        else:
            upright(canvas, token, x + (j + 0.5) * side, y + high - 2, side, size, gid=f"key-{j}")
    y += high + 3
    lanes = [("position", d.position_ids, None)]
    lanes += [(d.second_position, d.block_position_ids, canvas.look["soft"])] if d.second_position else []
    first = [row for _, row, _ in runs(d)]
    for name, values, colour in lanes:
        canvas.text(x - 10, y + ROW / 2, name, ha="right", colour=colour)
        how = dict(first=first, colour=colour, size=size, gid=name.replace(" ", "-"))
        numbers(canvas, values.tolist(), x, y + ROW / 2, side, **how)
        y += ROW
    return y + 4


def token_label(canvas, d, i, token, x, mid, w, h, size=BODY, what="query"):
    """Draw a token beside its row or over its column: as a chip if there is space for one."""
    if h >= 18:
        high = min(h - 3, 24)
        canvas.chip(x, mid - high / 2, w, high, token, span=int(d.span_id[i]), size=size, gid=f"{what}-{i}")
    else:
        canvas.text(x + w, mid, token, size, ha="right", gid=f"{what}-{i}")


def row_brackets(canvas, d, x, y, side):
    """Draw both parts and the spans along the left side of the grid."""
    colours = part_colours(canvas.theme)
    for part, a, b in (("A", 0, d.part_a_len), ("B", d.part_a_len, len(d))):
        if a < b:
            canvas.rectangle(x, y + a * side + 1, 4, (b - a) * side - 2, fill=colours[part])
    places = [y + (a + b) / 2 * side for _, a, b in runs(d)]
    named = spread_labels(places, [height_of(SMALL)] * len(places))
    for n, (k, a, b) in enumerate(runs(d)):
        bracket = x + 26
        colour, style = span_look(k)
        top, bottom, bend = y + a * side + 2, y + b * side - 2, bracket + 4
        corners = (bend, top), (bracket, top), (bracket, bottom), (bend, bottom)
        canvas.line(*corners, colour=colour, style=style, width=1.8)
        if n in named:
            canvas.text(bracket - 5, places[n], f"s{k + 1}", SMALL, bold=True, ha="right")


# ---- F5 --------------------------------------------------------------------------------------------------


def fig_family(d, *, theme="light", width=None):
    """Draw the same text and spans as six models read them, and what each of them learns and cannot do."""
    need_glm(d, "family")
    canvas = Canvas(theme, width)
    family = [d if m == "glm" else explain(d.text, d.spans, d.order, d.objective, model=m) for m in FAMILY]
    columns, about = panels(canvas, 3), []
    gap = 7  # between the two stacks of T5
    tokens = [texts_of(r.tokens, 44, SMALL) for r in family]
    gaps = {r.model: gap if r.model == "t5" else 0 for r in family}
    side, labels = small_side(
        [(t, columns.width - gaps[r.model]) for t, r in zip(tokens, family, strict=True)]
    )
    heads = max(rise(t, side, SMALL)[0] for t in tokens) if labels else 0
    for relative in family:
        names = MODELS[relative.model]
        predicts, positions = f"Learns {names['predicts']}.", f"Positions: {names['positions']}."
        about.append([predicts, positions, f"Cannot {names['cannot']}."])

    what = headline(d).partition(" on ")[2].partition(":")[0]
    y = canvas.title("One text, six models", f"{what}; queries down, keys across")
    for begin in range(0, len(family), columns.n):
        ends, tall = [], max(len(r) * side + gaps[r.model] for r in family[begin : begin + columns.n])
        for column, n in enumerate(range(begin, min(begin + columns.n, len(family)))):
            relative, x = family[n], columns.x(column)
            share = f"{relative.mask.mean():.0%} open"
            canvas.text(x, y + 8, MODELS[relative.model]["name"], 11, bold=True, ha="left")
            canvas.text(x + columns.width, y + 8, share, SMALL, ha="right", colour=canvas.look["soft"])
            top = y + 56 + heads
            labelled = tokens[n] if labels else None
            small_grid(canvas, relative, labelled, x, top, side, gaps[relative.model])
            below = top + tall + 6
            for line in about[n]:
                below = canvas.paragraph(x, below, line, columns.width, SMALL, colour=canvas.look["soft"]) + 4
            ends.append(below)
        y = max(ends) + 14
    kinds = {name: "" for name in LEGEND if any((r.kind == name).any() for r in family)}
    y = legend_below(canvas, kinds, ANY, y)
    words = [
        f"{MODELS[r.model]['name']}: {r.mask.mean():.0%} of {len(r)} x {len(r)} cells open. {lines[0]}"
        for r, lines in zip(family, about, strict=True)
    ]
    return canvas.finish(y, f"Six models on the same text, {' '.join(d.text)}. {' '.join(words)}")


def small_grid(canvas, d, tokens, x, y, side, gap=0):
    """Draw a mask with brackets, and labels if given. gap: pixels between two stacks (three blocks)."""
    A, T, left = d.part_a_len, len(d), x + (names_room(tokens) if tokens else 0)
    at = [left + j * side + gap * (j >= A) for j in range(T)]
    high = rise(tokens, side, SMALL)[0] if tokens else 0
    part_heads(canvas, d, left, y - high - 16, side, gap)
    for j, token in enumerate(tokens or ()):
        upright(canvas, token, at[j] + side / 2, y - 8, side, SMALL, gid=f"{d.model}-key-{j}")
        mid = y + (j + 0.5) * side + gap * (j >= A)
        canvas.text(left - 5, mid, token, SMALL, ha="right", gid=f"{d.model}-query-{j}")
    for k, a, b in runs(d):
        canvas.bracket(at[a] + 1, at[b - 1] + side - 1, y - 5, k)
    if not gap:
        separators(canvas, d, left, y, side)
        cells(canvas, d.kind, left, y, side, gid=f"{d.model}-cells")
        return
    for rows, keys in ((slice(0, A), slice(0, A)), (slice(A, T), slice(0, A)), (slice(A, T), slice(A, T))):
        right = left + keys.start * side + gap * (keys.start > 0)
        below = y + rows.start * side + gap * (rows.start > 0)
        gid = f"{d.model}-cells-{rows.start}-{keys.start}"
        cells(canvas, d.kind[rows, keys], right, below, side, gid=gid)


def names_room(tokens):
    """Return the pixels that row labels take beside a small grid."""
    return 8 + max(width_of(t, SMALL) for t in tokens)


def small_side(grids, most=26):
    """Return (side of cells, do labels fit) for small grids of one scale. grids: (tokens, pixels across)."""
    side = min(most, *((room - names_room(tokens)) / len(tokens) for tokens, room in grids))
    if side >= LEAST_CELL:
        return side, True
    return min(most, *(room / len(tokens) for tokens, room in grids)), False


class panels:
    """Equal columns, at most `most`. n: how many; width: of each; x(i): where one begins."""

    def __init__(self, canvas, most, least=200, gap=22):
        room = canvas.width - 2 * MARGIN
        self.n = max(n for n in range(1, most + 1) if n == 1 or (room - gap * (n - 1)) / n >= least)
        self.gap, self.width = gap, (room - gap * (self.n - 1)) / self.n

    def x(self, column):
        return MARGIN + column * (self.width + self.gap)


def need_glm(d, name):
    if d.model != "glm":
        raise MinglmError(f"figure {name}: a sample of {d.model!r} came; one of 'glm' is needed")


# ---- F6 --------------------------------------------------------------------------------------------------


def fig_shuffles(d, *, theme="light", width=None):
    """Draw the same spans in every order, at most six; cells that differ from the first order are outlined.

    Rows and columns keep the order of the text, so a cell is the same pair in every panel.
    """
    need_glm(d, "shuffles")
    canvas, n = Canvas(theme, width), len(d.spans)
    every = list(islice(permutations(range(n)), SHUFFLES))
    columns = panels(canvas, min(3, len(every)))
    samples = [explain(d.text, d.spans, order, d.objective) for order in every]
    base, T = samples[0], len(d)
    kinds = [in_text_order(sample) for sample in samples]
    tokens = texts_of(base.tokens, 44, SMALL)
    side, labels = small_side([(tokens, columns.width)], most=34)
    room = names_room(tokens) if labels else 0
    high = rise(tokens, side, SMALL)[0] if labels else 0
    more = f"; the first {len(every)} of {factorial(n)} orders" if factorial(n) > len(every) else ""
    about = (
        f"Rows and columns stay in the order of the text; outlined: what differs from the first panel{more}"
    )
    y = canvas.title(f"{count(len(every), 'order')} of {count(n, 'span')}", about)
    words = []
    for i, (order, kind) in enumerate(zip(every, kinds, strict=True)):
        x, left = columns.x(i % columns.n), columns.x(i % columns.n) + room
        name = ", ".join(f"s{k + 1}" for k in order) or "no span"
        differs = kind != kinds[0]
        words.append(f"{name}: {int(differs.sum())} cells differ")
        canvas.text(x, y + 8, name, 10, bold=True, ha="left")
        if i:
            how = dict(ha="right", colour=canvas.look["soft"])
            canvas.text(x + columns.width, y + 8, f"{int(differs.sum())} differ", SMALL, **how)
        top = y + 34 + high
        for j, token in enumerate(tokens if labels else ()):
            upright(canvas, token, left + (j + 0.5) * side, top - 8, side, SMALL)
            canvas.text(left - 5, top + (j + 0.5) * side, token, SMALL, ha="right")
        for k, a, b in runs(base):
            canvas.bracket(left + a * side + 1, left + b * side - 1, top - 5, k)
        separators(canvas, base, left, top, side)
        cells(canvas, kind, left, top, side, gid=f"cells-{i}")
        outline(canvas, differs, left, top, side, gid=f"differs-{i}")
        if i % columns.n == columns.n - 1 or i == len(every) - 1:
            y = top + T * side + 22
    y = legend_below(canvas, counts(kinds[0]), MODELS["glm"], y, "The counts are those of the first panel.")
    what = f"GLM's mask of {count(T, 'row')} in {count(len(every), 'order')} of its spans"
    return canvas.finish(y, f"{what}: {'; '.join(words)}.")


def in_text_order(d):
    """Return `kind` with the rows and columns of Part B in the order of the text, (T, T)."""
    part_b = sorted(
        range(d.part_a_len, len(d)), key=lambda i: d.span_id[i]
    )  # stable: rows of a span stay in order
    rows = [*range(d.part_a_len), *part_b]
    return d.kind[np.ix_(rows, rows)]


def outline(canvas, where, x, y, side, gid=None):
    """Draw a line around every region of cells that are True in `where`, (rows, keys)."""
    padded, edges = np.pad(where, 1), []
    for i, j in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]):
        edges.append([(x + j * side, y + i * side), (x + (j + 1) * side, y + i * side)])
    for i, j in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]):
        edges.append([(x + j * side, y + i * side), (x + j * side, y + (i + 1) * side)])
    if edges:
        canvas.lines(edges, canvas.look["ink"], width=2.0, zorder=5, gid=gid)


# ---- F7 --------------------------------------------------------------------------------------------------


def fig_batch(samples, *, theme="light", width=None):
    """Draw samples packed end to end: the mask, which is never built, and the integers that the kernel needs.

    samples: Derivations of any model. No sample sees another; the grid exists only for the picture.
    """
    if not samples:
        raise MinglmError("samples: none given; at least one is needed")
    canvas = Canvas(theme, width)
    lens, part_a_lens = [len(d) for d in samples], [d.part_a_len for d in samples]
    mask, N = GLMMask.packed(lens, part_a_lens), sum(lens)
    visible, starts = mask.visible_keys().tolist(), mask.cu_seqlens_q.tolist()
    digits = width_of(str(max(visible)))
    left, right = MARGIN + 12 + width_of(str(N)) + 14, MARGIN + digits + 74
    side = min(26, (canvas.width - left - right) / N)
    arrays = [f"cu_seqlens = {numbers_text(starts)}", f"part_a_lens = {numbers_text(part_a_lens)}"]
    what = f"{count(len(samples), 'sample')}, {count(N, 'row')}, no padding"
    about = "The kernel needs two short arrays; visible_keys follows from them."
    y = canvas.title("A packed batch: samples end to end", f"{what}. {about}")
    for line in arrays:
        y = canvas.paragraph(MARGIN, y, line, canvas.width - 2 * MARGIN, bold=True)
    y += 44
    kind = np.full((N, N), "", dtype="<U4")
    for d, a, b in zip(samples, starts, starts[1:], strict=False):
        kind[a:b, a:b] = d.kind
    canvas.rectangle(
        left, y, N * side, N * side, fill="none", edge=canvas.look["grid"], width=0.8, zorder=0.5
    )
    cells(canvas, kind, left, y, side)
    ticks = [left + s * side for s in starts]
    for n in spread_labels(ticks, [width_of(str(s)) for s in starts]):
        canvas.text(ticks[n], y - 34, str(starts[n]), gid=f"cu-{n}")
        canvas.line((ticks[n], y - 26), (ticks[n], y), colour=canvas.look["soft"], width=0.8)
    downs = [y + s * side for s in starts]
    for n in spread_labels(downs, [height_of(BODY)] * len(downs)):
        canvas.text(left - 12, downs[n], str(starts[n]), ha="right")
        canvas.line((left - 9, downs[n]), (left, downs[n]), colour=canvas.look["soft"], width=0.8)
    heads = [left + (a + A / 2) * side for a, A in zip(starts, part_a_lens, strict=False)]
    named = spread_labels(heads, [width_of(f"A = {A}", SMALL, True) for A in part_a_lens])
    for n, (a, A, T) in enumerate(zip(starts, part_a_lens, lens, strict=False)):
        if A:
            canvas.rectangle(left + a * side + 1, y - 8, A * side - 2, 4, fill=part_colours(theme)["A"])
        if A < T:
            canvas.rectangle(
                left + (a + A) * side + 1, y - 8, (T - A) * side - 2, 4, fill=part_colours(theme)["B"]
            )
        if n in named and (A or T * side > 40):
            canvas.text(heads[n] if A else left + (a + T / 2) * side, y - 17, f"A = {A}", SMALL, bold=True)
    x, longest, every = left + N * side + 12, 50, max(1, int(-(-LEAST_CELL // side)))
    canvas.text(x, y - 12, "visible_keys", SMALL, ha="left", colour=canvas.look["soft"])
    for i, (v, part) in enumerate(zip(visible, (part for d in samples for part in d.part), strict=True)):
        mid = y + (i + 0.5) * side
        bar = longest * v / max(visible)
        canvas.rectangle(
            x, mid - side * 0.35, bar, side * 0.7, fill=part_colours(theme)[part], gid=f"visible-{i}"
        )
        if i % every == 0:
            size = BODY if side >= 15 else SMALL
            canvas.text(x + longest + 8 + digits, mid, str(v), size, ha="right", gid=f"keys-{i}")
    opened = sum(visible)
    about = (
        f"{opened:,} of {N * N:,} cells are open ({opened / N**2:.0%}); the empty ones are between samples."
    )
    y = legend_below(canvas, counts(kind), ANY, y + N * side + 18, about)
    arrays.append(f"visible_keys = {numbers_text(visible)}")
    what = f"A packed batch of {count(len(samples), 'sample')}: {'; '.join(arrays)}. {about}"
    return canvas.finish(y, what)


def numbers_text(values, most=24):
    """Return "[0, 10, 16]", or the beginning of a long list."""
    return f"[{', '.join(map(str, values[:most]))}{', ...' if len(values) > most else ''}]"
