"""How a sample is made: from the text to Part A and Part B (F1), where every row stands (F2), step by step (F4).

Each reads a Derivation and nothing else, and returns a matplotlib Figure with `alt_text`. width: in pixels,
900 unless given.
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

CHIP, GAP = 24, 5  # pixels: the height of a token's box, and between two of them


# ---- F1 --------------------------------------------------------------------------------------------------


def fig_corruption(d, *, theme="light", width=None):
    """The text; under it Part A, with one mask for each span, however long; at the bottom Part B, and what it learns."""
    need_glm(d, "corruption")
    canvas, blanked = Canvas(theme, width), sum(b - a for a, b in d.spans)
    left = MARGIN + 10 + width_of("Part A", BODY, True)
    room, soft = canvas.width - left - MARGIN, canvas.look["soft"]
    about = f"{blanked / len(d.text):.0%} of {count(len(d.text), 'token')} blanked"
    if d.spans:
        about += f", in {count(len(d.spans), 'span')}; Part B holds them in the order {', '.join(f's{k + 1}' for k in d.order)}"
    y = canvas.title("From a text to Part A and Part B", about)
    rows_of_text = {int(w): i for i, w in enumerate(d.word[: d.part_a_len].tolist()) if w >= 0}
    masks = {k: a for k, a, _ in runs(d) if a < d.part_a_len}
    # a short text is spread out
    spare = max(0.0, min(26.0, room / len(d.text) - GAP - sum(w for _, w in chips(d.text)) / len(d.text)))
    lines, mask_places = flow(units(d, spare), room), {}
    in_one_line = len(lines) == 1
    for line in lines:
        top = y + 20
        canvas.text(left - 10, top + CHIP / 2, "text", ha="right", colour=soft)
        below = top + CHIP + 26
        canvas.text(left - 10, below + CHIP / 2, "Part A", ha="right", bold=True)
        for span, words, x, w in line:
            at = left + x
            if span < 0:
                token = texts_of([d.text[words[0]]], w, BODY)[0]
                canvas.chip(at, top, w, CHIP, token, gid=f"text-{words[0]}")
                canvas.line((at + w / 2, top + CHIP + 4), (at + w / 2, below - 4), colour=canvas.look["grid"])
                canvas.chip(at, below, w, CHIP, token, gid=f"row-{rows_of_text[words[0]]}")
                continue
            colour, style = span_look(span)
            for word, (dx, dw) in zip(words, chips([d.text[i] for i in words], spare), strict=True):
                token = texts_of([d.text[word]], dw)[0]
                canvas.chip(at + dx, top, dw, CHIP, token, span=span, gid=f"text-{word}")
            canvas.bracket(at, at + w, top - 6, span, f"s{span + 1}")
            if (
                words[0] == d.spans[span].start
            ):  # a span that is broken across lines has its mask under the first
                mw, mid = max(34, width_of(d.tokens[masks[span]]) + 14), at + w / 2
                mask_places[span] = (mid, below + CHIP)
                for edge, foot in ((at + 2, mid - mw / 2 + 3), (at + w - 2, mid + mw / 2 - 3)):
                    canvas.curve(edge, top + CHIP + 3, foot, below - 2, colour=colour, style=style)
                canvas.chip(
                    mid - mw / 2, below, mw, CHIP, d.tokens[masks[span]], span=span, gid=f"row-{masks[span]}"
                )
        y = below + CHIP + 14
    if not d.spans:
        return canvas.finish(y + MARGIN, in_words(d))

    y += 18
    pieces = [(k, list(range(a, b))) for k, a, b in runs(d) if a >= d.part_a_len]
    pairs = {
        i: max(width_of(legible(d.tokens[i])), width_of(legible(d.targets[i])))
        for _, rows in pieces
        for i in rows
    }
    wide = {i: min(150, w + 14) + (spare if in_one_line else 0) for i, w in pairs.items()}
    lines = flow([(k, rows, [wide[i] for i in rows]) for k, rows in pieces], room, 18)
    for line in lines:
        top = y + 24
        canvas.text(left - 10, top + CHIP / 2, "Part B", ha="right", bold=True)
        canvas.text(left - 10, top + CHIP + 14, "learns", ha="right", colour=soft)
        for span, rows, x, w in line:
            at = left + x
            canvas.bracket(at, at + w, top - 6, span, f"s{span + 1}")
            for i, (dx, dw) in zip(rows, boxes([wide[i] for i in rows]), strict=True):
                canvas.chip(at + dx, top, dw, CHIP, legible(d.tokens[i]), span=span, gid=f"row-{i}")
                canvas.text(
                    at + dx + dw / 2, top + CHIP + 14, texts_of([d.targets[i]], dw)[0], gid=f"target-{i}"
                )
            if in_one_line and len(lines) == 1:
                colour, style = span_look(span)
                canvas.curve(*mask_places[span], at + w / 2, top - 22, colour=colour, style=style)
        y = top + CHIP + 34
    y = canvas.paragraph(
        MARGIN, y, f"{d.steps[2][1]} {d.steps[4][1]}", canvas.width - 2 * MARGIN, colour=soft
    )
    return canvas.finish(y + MARGIN, in_words(d))


def units(d, spare):
    """(span or -1, words, widths of their boxes) of the text, in order: a kept word, or a whole span."""
    found, i, starts = [], 0, {span.start: (k, span.end) for k, span in enumerate(d.spans)}
    while i < len(d.text):
        k, end = starts.get(i, (-1, i + 1))
        found.append((k, list(range(i, end)), [w for _, w in chips(d.text[i:end], spare)]))
        i = end
    return found


def chips(tokens, spare=0.0):
    """(x, width) of the boxes of tokens side by side, each with some pixels to spare."""
    return boxes([min(150, max(26, width_of(legible(t)) + 14)) + spare for t in tokens])


def boxes(widths):
    """(x, width) of boxes of known widths, side by side."""
    places, x = [], 0
    for w in widths:
        places.append((x, w))
        x += w + GAP
    return places


def flow(pieces, room, gap=GAP):
    """Lines of (span, items, x, width) from (span, items, widths): a piece is broken only where it is wider than a line."""
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
    part_a, part_b = " ".join(d.tokens[: d.part_a_len]), " ".join(d.tokens[d.part_a_len :])
    learned = " ".join(t for t in d.targets if t)
    what = f"Text: {' '.join(d.text)}. Part A: {part_a}."
    return f"How GLM blanks {count(len(d.spans), 'span')} of {count(len(d.text), 'token')}. {what}" + (
        f" Part B: {part_b}; it learns: {learned}."
        if part_b
        else " Nothing is blanked, so there is no Part B."
    )


# ---- F2 --------------------------------------------------------------------------------------------------

BARS = 96  # pixels that the highest bar takes


def fig_positions(d, *, theme="light", width=None):
    """Both positions of every row as bars: rows of a span stand where its mask stands, and are told apart by the second."""
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
                token_label(
                    canvas, d, j, token, left + j * side + 2, y + high / 2, side - 4, high, size, "row"
                )
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
    """A bar for each row and its number under it; where bars of a span are equal, a line leads to them from their mask."""
    T, A, most = len(d), d.part_a_len, max(1, int(values.max()))
    unit, base = min(26, BARS / most), y + min(26 * most, BARS) + 6
    colours = part_colours(canvas.theme)
    if lane and A:
        canvas.box(left, y, A * side, base - y, fill=canvas.look["faint"], zorder=0.5)
        if d.model == "glm" and A * side > 70:
            canvas.text(left + A * side / 2, (y + base) / 2, "0 in Part A", SMALL, colour=canvas.look["soft"])
    for j, value in enumerate(values.tolist()):
        high = max(2, value * unit)
        canvas.box(
            left + j * side + side * 0.1,
            base - high,
            side * 0.8,
            high,
            fill=colours[d.part[j]],
            gid=f"bar-{lane}-{j}",
        )
    if d.model == "glm" and lane == 0:
        for k, a, b in runs(d):
            if a >= A:  # from the mask, whose position the rows carry, to the last of them
                at, (colour, style) = base - max(2, values[a] * unit), span_look(k)
                canvas.line(
                    (left + (values[a] + 0.5) * side, at),
                    (left + (b - 0.1) * side, at),
                    colour=colour,
                    style=style,
                    width=1.8,
                    gid=f"join-{k}",
                )
    canvas.line((left, base), (left + T * side, base), width=0.8)
    canvas.text(left - 10, base + 12, name, ha="right", colour=canvas.look["soft"] if lane else None)
    how = dict(
        first=firsts, size=size, colour=canvas.look["soft"] if lane else None, gid=name.replace(" ", "-")
    )
    numbers(canvas, values.tolist(), left, base + 12, side, **how)
    return base + 28


# ---- F4 --------------------------------------------------------------------------------------------------

OLD = 0.35  # how much of its colour a cell keeps that an earlier step has added
LANES = {
    "text": "text",
    "tokens": "reads",
    "targets": "learns",
    "position_ids": "position",
    "block_position_ids": "block",
    "mask": "",
}


def fig_film(d, *, theme="light", width=None):
    """The derivation as a film: a panel for each step, on the same axes; what it adds is lit, what was there is pale.

    The mask comes last, and beside it, under the panels of its row, stands what its cells mean.
    """
    canvas, T = Canvas(theme, width), max(len(d), len(d.text))
    names = {**LANES, "block_position_ids": "segment" if d.model == "unilm" else "block"}
    lanes = [lane for lane in LANES if any(lane in lights for *_, lights in d.steps)]
    room = 8 + max(width_of(names[lane], SMALL) for lane in lanes)
    # names of lanes stand left of the first panel only
    panel_of = {n: (canvas.width - 2 * MARGIN - room - 20 * (n - 1)) / n for n in (4, 2, 1)}
    n = next((n for n, panel in panel_of.items() if panel / T >= LEAST_CELL and panel >= 150), 1)
    panel, side = panel_of[n], min(30, panel_of[n] / T)
    size = BODY if side >= 21 else SMALL
    texts = {lane: texts_of(getattr(d, lane), 64, size) for lane in ("text", "tokens", "targets")}
    texts |= {
        lane: [str(v) for v in getattr(d, lane).tolist()] for lane in ("position_ids", "block_position_ids")
    }
    words = side >= LEAST_CELL
    high = {
        lane: rise(texts[lane], side + 4, size)[0] + 2 if words else 10 for lane in lanes if lane != "mask"
    }
    for lane in ("position_ids", "block_position_ids"):
        if lane in high:
            high[lane] = 17 if words else 10
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
                where = (MARGIN + room + i * (panel + 20), at, side)
                if lane == "mask":
                    if "mask" in lights:
                        at = film_mask(
                            canvas, d, *where, panel, beside=i * (panel + 20), gid=f"cells-{begin + i}"
                        )
                    continue
                if i == 0:
                    how = dict(ha="right", colour=canvas.look["soft"])
                    canvas.text(MARGIN + room - 8, at + high[lane] / 2, names[lane], SMALL, **how)
                new = set(lights.get(lane, ()))
                film_lane(
                    canvas,
                    d,
                    lane,
                    new,
                    before[lane],
                    texts[lane] if words else None,
                    *where,
                    high[lane],
                    size,
                    gid=f"{lane}-{begin + i}",
                )
                before[lane] |= new
                at += high[lane] + 3
            ends.append(at)
        y = max(ends) + 20
    sentences = " ".join(sentence for _, sentence, _ in d.steps)
    return canvas.finish(y, f"How a sample is made, in {len(d.steps)} steps. {sentences}")


def film_lane(canvas, d, lane, new, old, texts, x, y, side, high, size, gid):
    """A lane of one panel: cells that the step adds, those that were there, and places for those to come."""
    look, colours = canvas.look, part_colours(canvas.theme)
    blanked = {i: k for k, span in enumerate(d.spans) for i in range(*span)}
    for j in range(len(d.text) if lane == "text" else len(d)):
        colour = look["soft"] if lane == "text" else colours[d.part[j]]
        if lane == "text" and j in blanked and old:
            colour = colours["B"]
        lit, known = j in new, j in new or j in old
        box = (x + j * side + 1, y, side - 2, high)
        if not known:
            canvas.box(*box, edge=look["grid"], width=0.6, zorder=1)
            continue
        canvas.box(*box, fill=colour if lit else f"{colour}{round(255 * OLD):02X}", gid=f"{gid}-{j}")
        if texts is None or not texts[j]:
            continue
        on_colour = look["back"] if colour == look["soft"] else KINDS["AA"].ink[canvas.theme]
        ink = on_colour if lit else look["ink"]
        if width_of(texts[j], size) <= side - 1:
            canvas.text(x + (j + 0.5) * side, y + high / 2, texts[j], size, colour=ink)
        elif width_of(texts[j], size) <= high:
            canvas.text(
                x + (j + 0.5) * side,
                y + high / 2 + width_of(texts[j], size) / 2,
                texts[j],
                size,
                angle=90,
                colour=ink,
            )


def film_mask(canvas, d, x, y, side, panel, beside, gid):
    """The mask, and what its cells mean: left of it if there are that many pixels, else under it. Returns where they end."""
    end = y + len(d) * side
    cells(canvas, d.kind, x, y, side, gid=gid)
    separators(canvas, d, x, y, side)
    found = dict.fromkeys(counts(d.kind), "")
    if beside:
        columns = 2 if beside >= 2 * panel else 1
        return max(end, legend(canvas, found, MODELS[d.model], x - beside, y + 8, beside - 12, columns))
    return legend(canvas, found, MODELS[d.model], x, end + 12, panel)
