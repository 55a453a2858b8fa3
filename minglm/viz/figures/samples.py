"""How a sample is made: from the text to Part A and Part B (F1), both positions (F2), step by step (F4).

Each figure reads only a Derivation and returns a matplotlib Figure with `alt_text`. width: in pixels, 900 by
default.
"""

from ..derivation import count
from ..palette import KINDS
from ..words import MODELS
from .canvas import BODY, MARGIN, SMALL, Canvas, legible, span_look, width_of
from .grid import (
    LEAST_CELL,
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
    texts_of,
    upright,
)
from .masks import headline, need_glm, token_label

CHIP, GAP = 24, 5  # pixels: the height of a token's rectangle (its chip), and the gap between two


# ---- F1 --------------------------------------------------------------------------------------------------


def fig_corruption(d, *, theme="light", width=None):
    """Draw the text, Part A below it (one mask per span, however long), then Part B and what it learns."""
    need_glm(d, "corruption")
    canvas, blanked = Canvas(theme, width), sum(b - a for a, b in d.spans)
    left = MARGIN + 10 + width_of("Part A", BODY, True)
    room = canvas.width - left - MARGIN
    about = f"{blanked / len(d.text):.0%} of {count(len(d.text), 'token')} blanked"
    if d.spans:
        order = ", ".join(f"s{k + 1}" for k in d.order)
        about += f", in {count(len(d.spans), 'span')}; Part B holds them in the order {order}"
    y = canvas.title("From a text to Part A and Part B", about)
    # a short text is spread out
    spare = max(0.0, min(26.0, room / len(d.text) - GAP - sum(w for _, w in chips(d.text)) / len(d.text)))
    lines = flow(units(d, spare), room)
    y, mask_places = text_and_part_a(canvas, d, lines, left, y, spare)
    if d.spans:
        if len(lines) > 1:
            spare, mask_places = 0, None
        y = part_b_and_targets(canvas, d, left, y + 18, room, spare, mask_places)
        sentences = f"{d.steps[2][1]} {d.steps[4][1]}"
        y = canvas.paragraph(MARGIN, y, sentences, canvas.width - 2 * MARGIN, colour=canvas.look["soft"])
    return canvas.finish(y + MARGIN, in_words(d))


def text_and_part_a(canvas, d, lines, left, y, spare):
    """Draw the text in lines, Part A below each. Returns (where they end, {span: place of its mask})."""
    row_of_word = {int(w): i for i, w in enumerate(d.word[: d.part_a_len].tolist()) if w >= 0}
    mask_places = {}
    for line in lines:
        top = y + 20
        below = top + CHIP + 26
        canvas.text(left - 10, top + CHIP / 2, "text", ha="right", colour=canvas.look["soft"])
        canvas.text(left - 10, below + CHIP / 2, "Part A", ha="right", bold=True)
        for span, words, x, w in line:
            at, first = left + x, words[0]
            if span < 0:
                token, mid = texts_of([d.text[first]], w, BODY)[0], at + w / 2
                canvas.chip(at, top, w, CHIP, token, gid=f"text-{first}")
                canvas.line((mid, top + CHIP + 4), (mid, below - 4), colour=canvas.look["grid"])
                canvas.chip(at, below, w, CHIP, token, gid=f"row-{row_of_word[first]}")
                continue
            for word, (dx, dw) in zip(words, chips([d.text[i] for i in words], spare), strict=True):
                token = texts_of([d.text[word]], dw)[0]
                canvas.chip(at + dx, top, dw, CHIP, token, span=span, gid=f"text-{word}")
            canvas.bracket(at, at + w, top - 6, span, f"s{span + 1}")
            if first == d.spans[span].start:  # a span broken across lines has its mask below the first
                mask_places[span] = (at + w / 2, below + CHIP)
                mask_of_span(canvas, d, span, at, w, top + CHIP, below)
        y = below + CHIP + 14
    return y, mask_places


def mask_of_span(canvas, d, span, x, w, y, below):
    """Draw a span's mask at height `below`, and curves to it from the ends of [x, x + w) at height y."""
    row = next(a for k, a, _ in runs(d) if k == span and a < d.part_a_len)
    wide, mid, (colour, style) = max(34, width_of(d.tokens[row]) + 14), x + w / 2, span_look(span)
    for edge, foot in ((x + 2, mid - wide / 2 + 3), (x + w - 2, mid + wide / 2 - 3)):
        canvas.curve(edge, y + 3, foot, below - 2, colour=colour, style=style)
    canvas.chip(mid - wide / 2, below, wide, CHIP, d.tokens[row], span=span, gid=f"row-{row}")


def part_b_and_targets(canvas, d, left, y, room, spare, mask_places):
    """Draw Part B and its targets, with curves from the masks if it fits on a line. Returns the end."""

    def width(row):
        texts = legible(d.tokens[row]), legible(d.targets[row])
        return min(150, max(map(width_of, texts)) + 14) + spare

    pieces = [(k, list(range(a, b))) for k, a, b in runs(d) if a >= d.part_a_len]
    lines = flow([(k, rows, [width(i) for i in rows]) for k, rows in pieces], room, 18)
    for line in lines:
        top = y + 24
        canvas.text(left - 10, top + CHIP / 2, "Part B", ha="right", bold=True)
        canvas.text(left - 10, top + CHIP + 14, "learns", ha="right", colour=canvas.look["soft"])
        for span, rows, x, w in line:
            at = left + x
            canvas.bracket(at, at + w, top - 6, span, f"s{span + 1}")
            for i, (dx, dw) in zip(rows, side_by_side([width(i) for i in rows]), strict=True):
                canvas.chip(at + dx, top, dw, CHIP, legible(d.tokens[i]), span=span, gid=f"row-{i}")
                target = texts_of([d.targets[i]], dw)[0]
                canvas.text(at + dx + dw / 2, top + CHIP + 14, target, gid=f"target-{i}")
            if mask_places and len(lines) == 1:
                colour, style = span_look(span)
                canvas.curve(*mask_places[span], at + w / 2, top - 22, colour=colour, style=style)
        y = top + CHIP + 34
    return y


def units(d, spare):
    """Cut the text into (span or -1, words, widths of their chips): a word that stays, or a whole span."""
    pieces, i, starts = [], 0, {span.start: (k, span.end) for k, span in enumerate(d.spans)}
    while i < len(d.text):
        k, end = starts.get(i, (-1, i + 1))
        pieces.append((k, list(range(i, end)), [w for _, w in chips(d.text[i:end], spare)]))
        i = end
    return pieces


def chips(tokens, spare=0.0):
    """Return (x, width) for the chips of tokens side by side, each with some pixels to spare."""
    return side_by_side([min(150, max(26, width_of(legible(t)) + 14)) + spare for t in tokens])


def side_by_side(widths):
    """Return (x, width) for chips of these widths side by side."""
    places, x = [], 0
    for w in widths:
        places.append((x, w))
        x += w + GAP
    return places


def flow(pieces, room, gap=GAP):
    """Arrange pieces (span, items, widths) in lines of (span, items, x, width); too wide a piece is cut."""
    lines, x = [[]], 0
    for span, items, widths in pieces:
        whole = sum(widths) + GAP * (len(widths) - 1)
        if x and x + whole > room:
            lines.append([])
            x = 0
        while items:
            n, used = 1, widths[0]
            while n < len(items) and x + used + GAP + widths[n] <= room:
                used, n = used + GAP + widths[n], n + 1
            lines[-1].append((span, items[:n], x, min(used, room)))
            x += used + gap
            items, widths = items[n:], widths[n:]
            if items:
                lines.append([])
                x = 0
    return lines


def in_words(d):
    """Return the alternative text of fig_corruption."""
    part_a, part_b = " ".join(d.tokens[: d.part_a_len]), " ".join(d.tokens[d.part_a_len :])
    learned = " ".join(t for t in d.targets if t)
    rest = (
        f"Part B: {part_b}; it learns: {learned}." if part_b else "Nothing is blanked, so there is no Part B."
    )
    what = f"How GLM blanks {count(len(d.spans), 'span')} of {count(len(d.text), 'token')}."
    return f"{what} Text: {' '.join(d.text)}. Part A: {part_a}. {rest}"


# ---- F2 --------------------------------------------------------------------------------------------------

BARS = 96  # pixels of the highest bar


def fig_positions(d, *, theme="light", width=None):
    """Draw both positions of every row as bars: rows of a span share the first position of its mask."""
    canvas, T, A = Canvas(theme, width), len(d), d.part_a_len
    names = ["position"] + [d.second_position] * bool(d.second_position)
    left = MARGIN + 10 + max(map(width_of, names))
    side = min(44, (canvas.width - left - MARGIN) / T)
    tokens, size = texts_of(d.tokens, 110 if canvas.width >= 700 else 72), BODY if side >= 15 else SMALL
    y = canvas.title("Two positions for every row", headline(d)) + 16
    part_heads(canvas, d, left, y, side)
    y += 22 if d.spans else 0
    span_heads(canvas, d, left, y, side)
    y += 8
    if side >= LEAST_CELL and len(d.text) <= MOST_WORDS:
        high, flat = rise(tokens, side, size)
        for j, token in enumerate(tokens):
            if flat:
                x, mid = left + j * side + 2, y + high / 2
                token_label(canvas, d, j, token, x, mid, side - 4, high, size, "row")
            else:
                upright(canvas, token, left + (j + 0.5) * side, y + high - 2, side, size, gid=f"row-{j}")
        y += high
    sentences = {name: sentence for name, sentence, _ in d.steps}
    lanes = [("position", d.position_ids, sentences["positions"])]
    if d.second_position:
        lanes.append((d.second_position, d.block_position_ids, sentences.get("block positions", "")))
    firsts = [a for _, a, _ in runs(d)]
    for lane, (name, values, sentence) in enumerate(lanes):
        y = lane_of_bars(canvas, d, lane, name, values, left, y + 14, side, firsts, size)
        y = canvas.paragraph(left, y, sentence, canvas.width - left - MARGIN, colour=canvas.look["soft"])
    listed = f"Positions: {' '.join(map(str, d.position_ids))}."
    if d.second_position:
        name = d.second_position[0].upper() + d.second_position[1:]
        listed += f" {name}s: {' '.join(map(str, d.block_position_ids))}."
    about = "Positions count from 0; the paper counts from 1."
    y = canvas.paragraph(left, y, about, canvas.width - left - MARGIN, colour=canvas.look["soft"])
    what = f"Positions of {count(T, 'row')}, {A} of them Part A"
    return canvas.finish(y + MARGIN, f"{what}. Rows: {' '.join(d.tokens)}. {listed}")


def lane_of_bars(canvas, d, lane, name, values, left, y, side, firsts, size):
    """Draw a bar and its number for each row; a line joins a mask and the rows with its position."""
    T, A, most = len(d), d.part_a_len, max(1, int(values.max()))
    unit, base = min(26, BARS / most), y + min(26 * most, BARS) + 6
    colours = part_colours(canvas.theme)
    if lane and A:
        canvas.rectangle(left, y, A * side, base - y, fill=canvas.look["faint"], zorder=0.5)
        if d.model == "glm" and A * side > 70:
            canvas.text(left + A * side / 2, (y + base) / 2, "0 in Part A", SMALL, colour=canvas.look["soft"])
    for j, value in enumerate(values.tolist()):
        high = max(2, value * unit)
        x = left + j * side + side * 0.1
        how = dict(fill=colours[d.part[j]], gid=f"bar-{lane}-{j}")
        canvas.rectangle(x, base - high, side * 0.8, high, **how)
    if d.model == "glm" and lane == 0:
        for k, a, b in runs(d):
            if a >= A:  # from the mask, whose position the rows share, to the last of them
                at, (colour, style) = base - max(2, values[a] * unit), span_look(k)
                ends = (left + (values[a] + 0.5) * side, at), (left + (b - 0.1) * side, at)
                canvas.line(*ends, colour=colour, style=style, width=1.8, gid=f"join-{k}")
    canvas.line((left, base), (left + T * side, base), width=0.8)
    colour = canvas.look["soft"] if lane else None
    canvas.text(left - 10, base + 12, name, ha="right", colour=colour)
    how = dict(first=firsts, size=size, colour=colour, gid=name.replace(" ", "-"))
    numbers(canvas, values.tolist(), left, base + 12, side, **how)
    return base + 28


# ---- F4 --------------------------------------------------------------------------------------------------

OLD = 0.35  # opacity of cells that an earlier step has added
LANES = {
    "text": "text",
    "tokens": "reads",
    "targets": "learns",
    "position_ids": "position",
    "block_position_ids": "block",
    "mask": "",
}


def fig_film(d, *, theme="light", width=None):
    """Draw one panel per step of the derivation, on the same axes; what a step adds is lit, the rest is pale.

    The mask comes last; its legend is on its left, below the other panels of its row, or under it.
    """
    canvas, T = Canvas(theme, width), max(len(d), len(d.text))
    names = {**LANES, "block_position_ids": "segment" if d.model == "unilm" else "block"}
    lanes = [lane for lane in LANES if any(lane in lights for *_, lights in d.steps)]
    room = 8 + max(width_of(names[lane], SMALL) for lane in lanes)
    # names of lanes are left of the first panel only
    panel_of = {n: (canvas.width - 2 * MARGIN - room - 20 * (n - 1)) / n for n in (4, 2, 1)}
    n = next((n for n, panel in panel_of.items() if panel / T >= LEAST_CELL and panel >= 150), 1)
    panel, side = panel_of[n], min(30, panel_of[n] / T)
    size = BODY if side >= 21 else SMALL
    texts = {lane: texts_of(getattr(d, lane), 64, size) for lane in ("text", "tokens", "targets")}
    numbers_of = ("position_ids", "block_position_ids")
    texts |= {lane: [str(v) for v in getattr(d, lane).tolist()] for lane in numbers_of}
    words = side >= LEAST_CELL
    high = {lane: 10 for lane in lanes if lane != "mask"}
    for lane in high if words else ():
        high[lane] = 17 if lane in numbers_of else rise(texts[lane], side + 4, size)[0] + 2
    y, before = (
        canvas.title(f"{len(d.steps)} steps to a sample", headline(d)),
        {lane: set() for lane in lanes},
    )
    for begin in range(0, len(d.steps), n):
        row, ends, heads = d.steps[begin : begin + n], [], []
        for i, (name, sentence, _) in enumerate(row):
            x = MARGIN + room + i * (panel + 20)
            head = f"{begin + i + 1}  {name}"
            canvas.text(x, y + 8, head, 10, bold=True, ha="left")
            heads.append(canvas.paragraph(x, y + 20, sentence, panel, SMALL, colour=canvas.look["soft"]))
        top = max(heads) + 8
        for i, (*_, lights) in enumerate(row):
            at = top
            for lane in lanes:
                beside = i * (panel + 20)
                where = (MARGIN + room + beside, at, side)
                if lane == "mask":
                    if "mask" in lights:
                        at = film_mask(canvas, d, *where, panel, beside=beside, gid=f"cells-{begin + i}")
                    continue
                if i == 0:
                    how = dict(ha="right", colour=canvas.look["soft"])
                    canvas.text(MARGIN + room - 8, at + high[lane] / 2, names[lane], SMALL, **how)
                new = set(lights.get(lane, ()))
                shown, gid = texts[lane] if words else None, f"{lane}-{begin + i}"
                film_lane(canvas, d, lane, new, before[lane], shown, *where, high[lane], size, gid=gid)
                before[lane] |= new
                at += high[lane] + 3
            ends.append(at)
        y = max(ends) + 20
    sentences = " ".join(sentence for _, sentence, _ in d.steps)
    return canvas.finish(y, f"How a sample is made, in {len(d.steps)} steps. {sentences}")


def film_lane(canvas, d, lane, new, old, texts, x, y, side, high, size, gid):
    """Draw a lane of one panel: cells that the step adds, older ones, and outlines of those to come."""
    look, colours = canvas.look, part_colours(canvas.theme)
    blanked = {i: k for k, span in enumerate(d.spans) for i in range(*span)}
    for j in range(len(d.text) if lane == "text" else len(d)):
        colour = look["soft"] if lane == "text" else colours[d.part[j]]
        if lane == "text" and j in blanked and old:
            colour = colours["B"]
        lit, known = j in new, j in new or j in old
        cell = (x + j * side + 1, y, side - 2, high)
        if not known:
            canvas.rectangle(*cell, edge=look["grid"], width=0.6, zorder=1)
            continue
        canvas.rectangle(*cell, fill=colour if lit else f"{colour}{round(255 * OLD):02X}", gid=f"{gid}-{j}")
        if texts is None or not texts[j]:
            continue
        on_colour = look["back"] if colour == look["soft"] else KINDS["AA"].ink[canvas.theme]
        ink = on_colour if lit else look["ink"]
        mid, wide = x + (j + 0.5) * side, width_of(texts[j], size)
        if wide <= side - 1:
            canvas.text(mid, y + high / 2, texts[j], size, colour=ink)
        elif wide <= high:
            canvas.text(mid, y + high / 2 + wide / 2, texts[j], size, angle=90, colour=ink)


def film_mask(canvas, d, x, y, side, panel, beside, gid):
    """Draw the mask and its legend, in `beside` pixels to its left or (0) below it. Returns the end.

    Its rows have their tokens where there is room.
    """
    end = y + len(d) * side
    cells(canvas, d.kind, x, y, side, gid=gid)
    separators(canvas, d, x, y, side)
    kinds = dict.fromkeys(counts(d.kind), "")
    if beside:
        columns, heads = (2 if beside >= 2 * panel else 1), 12
        if columns == 2 and side >= LEAST_CELL:
            tokens = texts_of(d.tokens, 64)
            heads += max(width_of(token, SMALL) for token in tokens)
            for i, token in enumerate(tokens):
                canvas.text(x - 6, y + (i + 0.5) * side, token, SMALL, ha="right", gid=f"row-{i}")
        return max(end, legend(canvas, kinds, MODELS[d.model], x - beside, y + 8, beside - heads, columns))
    return legend(canvas, kinds, MODELS[d.model], x, end + 12, panel)
