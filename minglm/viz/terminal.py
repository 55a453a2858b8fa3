"""A Derivation as text: tokens, both positions, targets and the mask in one table, on any terminal.

What `minglm show` prints: a text is parsed (typed.py), explained, and then rendered by one of

    render      the table                       film           the derivation, step by step
    compare     GLM next to its relatives       explain_cell   why one cell is open or shut

They read nothing but derivations. Everything here returns a string; nothing prints. columns.py knows how wide
a text is and what a stream can show.
"""

import json
import re

from .columns import (
    BOLD,
    INVERSE,
    display_width,
    is_unicode,
    pad_right,
    plain_width,
    printable,
    shorten,
    style,
    wrap,
)
from .derivation import why
from .tables import LABEL_CAP, LABELS, SHORTEST, finish, legend_lines, narrow_rows, row_list, table, texts
from .typed import parse_cell, parse_models, read
from .words import MODELS, RULES

GAP = 3  # columns between tables side by side


def show(
    text,
    spans=None,
    order=None,
    objective="token",
    *,
    models=None,
    cell=None,
    step=False,
    as_json=False,
    width=None,
    colour=False,
    charset="unicode",
    **drawing,
):
    """Return what `minglm show` prints. Example: show("x1 x2 x3", "1:2") blanks x2; no spans: random ones.

    models: "gpt,t5" or "all"; cell: "ROW,COLUMN"; step: the film; drawing: seed, mask_ratio, mean_length.
    """
    sample = read(text, spans, order, objective, **drawing)
    derivation, how = sample.explain(), dict(width=width, colour=colour, charset=charset)
    ascii_only = charset == "ascii" or not is_unicode(text)
    if models is not None:
        derivations = [sample.explain(model) for model in parse_models(models)]
        shown = {d.model: d.to_json() for d in derivations} if as_json else compare(derivations, **how)
    elif cell is not None:
        at = parse_cell(cell)
        shown = cell_facts(derivation, *at) if as_json else explain_cell(derivation, *at, **how)
    elif as_json:
        shown = derivation.to_json()
    else:
        shown = film(derivation, **how) if step else render(derivation, **how)
    if as_json:
        return json.dumps(shown, ensure_ascii=ascii_only)
    drawn = "\n".join(wrap(sample.drawn, width)) + "\n\n" if sample.drawn else ""
    return drawn + shown


# ---- the table -------------------------------------------------------------------------------------------


def render(derivation, *, width=None, colour=False, charset="unicode"):
    """Return the table and its legend in lines of at most `width` columns (None or 0: no limit).

    Queries go down, keys across. When space is short, long tokens are cut first; then every row carries its
    own target and one glyph per cell; then the mask is left out, and a line says so.
    """
    width = width or None
    lines, has_mask, shortened = table(derivation, width, charset, colour)
    legend = legend_lines([derivation], charset, has_mask, shortened)
    return finish([*lines, ""], legend, width, charset, colour and has_mask)


# ---- the relatives, side by side -------------------------------------------------------------------------


def compare(derivations, *, width=None, colour=False, charset="unicode"):
    """Return the tables of several models on the same text, and what each reads, predicts and cannot do."""
    width = width or None
    blocks = [block(d, width and (width - GAP) // 2, width, charset, colour) for d in derivations]
    bands = bands_of([max(map(plain_width, rows)) for rows, _, _ in blocks], GAP, width)
    for [k] in (band for band in bands if len(band) == 1):  # alone in its band: all of the width
        blocks[k] = block(derivations[k], width, width, charset, colour)
    second = [f"{MODELS[d.model]['name']}: {d.second_position}" for d in derivations if d.second_position]
    second = f", a second position ({', '.join(second)})" if second else ""
    lines = wrap(f"In a row: token, position{second}, target; then one glyph for each row it may see.", width)
    for band in bands:
        lines += ["", *side_by_side([blocks[k][0] for k in band])]
        for k in band:
            names = MODELS[derivations[k].model]
            lines += ["", *(style(piece, BOLD, colour) for piece in wrap(names["name"], width))]
            lines += wrap(f"   reads: {names['input']}", width, "      ")
            for verb in ("sees", "predicts", "cannot"):
                lines += wrap(f"   {verb}: {names[verb]}", width, "      ")
    has_mask = any(drawn for _, drawn, _ in blocks)
    legend = legend_lines(derivations, charset, has_mask, any(shortened for _, _, shortened in blocks))
    if any(0 < d.part_a_len < len(d) for d in derivations):
        parts = "Above a line of dashes is Part A, or what stands for it in a model; below it is Part B."
        legend.insert(-1, parts)
    return finish([*lines, ""], legend, width, charset, colour and has_mask)


def block(d, room, width, charset, colour):
    """Return a model's name and its narrow table in `room` columns, or else in `width`; as `table`."""
    tokens, targets = texts(d, charset)
    layout = narrow_rows(d, tokens, targets, room, charset, colour, keep=LABEL_CAP // 2)
    layout = layout or narrow_rows(d, tokens, targets, width, charset, colour)
    lines, shortened = layout or row_list(d, tokens, targets, width, charset)
    title = [style(piece, BOLD, colour) for piece in wrap(MODELS[d.model]["name"], width)]
    return title + lines, layout is not None, shortened


def bands_of(columns, gap, width):
    """Group items of these widths into bands that fit into `width` columns, in order: lists of indices."""
    bands, used = [], 0
    for k, w in enumerate(columns):
        if bands and (width is None or used + gap + w <= width):
            bands[-1].append(k)
            used += gap + w
        else:
            bands.append([k])
            used = w
    return bands


def side_by_side(blocks):
    """Join blocks (lists of lines) side by side into one list of lines."""
    columns = [max(map(plain_width, lines)) for lines in blocks]
    tall = max(map(len, blocks))
    blocks = [lines + [""] * (tall - len(lines)) for lines in blocks]
    return [
        (" " * GAP).join(line + " " * (w - plain_width(line)) for line, w in zip(row, columns, strict=True))
        for row in zip(*blocks, strict=True)
    ]


# ---- step by step, and cell by cell ----------------------------------------------------------------------


def film(derivation, *, width=None, colour=False, charset="unicode"):
    """Return the derivation step by step: sentences and the sample so far; ^ or inverse marks what is new."""
    d, width, shown, shortened = derivation, width or None, {}, False
    lines = wrap("Inverse: what a step adds." if colour else "^ marks what a step adds.", width)
    for number, (name, sentence, lights) in enumerate(d.steps, 1):
        title = wrap(f"{number}/{len(d.steps)} {name}", width)
        lines += ["", *(style(piece, BOLD, colour) for piece in title), *wrap(sentence, width)]
        for lane, lit in lights.items():
            shown[lane] = shown.get(lane, set()) | set(lit)
        if "mask" not in lights:
            frame, cut = frame_of_step(d, shown, lights, number > 1, width, colour, charset)
            lines, shortened = lines + frame, shortened or cut
    rows, has_mask, cut = table(d, width, charset, colour)
    legend = legend_lines([d], charset, has_mask, shortened or cut)
    return finish([*lines, "", *rows, ""], legend, width, charset, colour and has_mask)


def frame_of_step(d, shown, lights, spans_are_chosen, width, colour, charset):
    """Return the sample so far, and the text until it is complete: (lines, was a token shortened).

    shown, lights: {lane: indices}, what is shown by now and what of it is new.
    """
    of_sample = lanes_of_sample(d, shown, charset)
    label = 2 + max(len(label) for label, _ in of_sample.values())  # the same in every step
    groups = []  # (lanes, column with a bar before it)
    if len(shown.get("tokens", ())) < len(d):
        groups.append((lanes_of_text(d, spans_are_chosen, charset), None))
    if "tokens" in shown:
        groups.append((of_sample, d.part_a_len))
    lines, shortened = [], False
    for lanes, bar in groups:
        columns, filled = columns_of(cells for _, cells in lanes.values()), []
        for name, (label_of_lane, cells) in lanes.items():
            if name != "spans":
                cells = [cell if i in shown.get(name, ()) else "" for i, cell in enumerate(cells)]
            if any(cells):
                filled.append((label_of_lane, cells, set(lights.get(name, ()))))
        rows, cut = strip(filled, columns, bar, label, width=width, colour=colour, charset=charset)
        lines, shortened = [*lines, "", *rows], shortened or cut
    return lines, shortened


def lanes_of_text(d, spans_are_chosen, charset):
    """Return {lane: (label, a cell per token of the text)}."""
    spans = [""] * len(d.text)
    for k, span in enumerate(d.spans if spans_are_chosen else ()):
        spans[slice(*span)] = [f"s{k + 1}"] * (span.end - span.start)
    return {"text": ("text", [printable(t, charset) for t in d.text]), "spans": ("span", spans)}


def lanes_of_sample(d, shown, charset):
    """Return {lane: (label, a cell per row of the sample)}; a span is named where its token is shown."""
    (tokens, targets), there = texts(d, charset), shown.get("tokens", ())
    spans = [f"s{k + 1}" if k >= 0 and i in there else "" for i, k in enumerate(d.span_id.tolist())]
    second = LABELS.get(d.second_position, d.second_position)
    return {
        "tokens": ("token", tokens),
        "spans": ("span", spans),
        "targets": ("target", [text if d.targets[i] else "" for i, text in enumerate(targets)]),
        "position_ids": ("position", [*map(str, d.position_ids.tolist())]),
        "block_position_ids": (second, [*map(str, d.block_position_ids.tolist())]),
    }


def explain_cell(derivation, i, j, *, width=None, colour=False, charset="unicode"):
    """Say why row i may or may not see row j: where they are, the sentence of `why`, and the rule as code."""
    d, width, facts = derivation, width or None, cell_facts(derivation, i, j)
    marks = {j: "j", i: "ij" if i == j else "i"}
    lanes = [
        ("row", [*map(str, range(len(d)))], set()),
        ("token", texts(d, charset)[0], {i, j} if colour else set()),
        ("", [marks.get(row, "") for row in range(len(d))], set()),
    ]
    columns = columns_of(cells for _, cells, _ in lanes)
    lines = [*strip(lanes, columns, d.part_a_len, 7, width=width, colour=colour, charset=charset)[0], ""]
    sentence = facts["why"] if charset == "unicode" else facts["why"].replace("“", '"').replace("”", '"')
    lines += wrap(printable(sentence, charset, " "), width)
    numbers = {"i": i, "j": j, "part_a_len": d.part_a_len}
    here = re.sub(r"\b(part_a_len|i|j)\b", lambda name: str(numbers[name[0]]), facts["code"])
    rule = f"Rule {facts['rule']}, {facts['code']} (here {here}): {facts['meaning']}."
    return "\n".join(line.rstrip() for line in lines + wrap(rule, width))


def cell_facts(d, i, j):
    """Return the facts about a cell as a dict for JSON."""
    because, name = why(d, i, j), str(d.rule[i, j])
    rule = RULES[name]
    return dict(
        row=i,
        column=j,
        query=d.tokens[i],
        key=d.tokens[j],
        part_a_len=d.part_a_len,
        open=bool(d.mask[i, j]),
        kind=str(d.kind[i, j]),
        rule=name,
        code=rule["code"],
        meaning=rule["meaning"].format(**MODELS[d.model]),
        why=because,
    )


def columns_of(lanes):
    """Return the width of each column that holds the cells of several lanes."""
    return [max(map(display_width, cells)) for cells in zip(*lanes, strict=True)]


def strip(lanes, columns, cut, label, *, width, colour, charset):
    """Return lanes one below the other, folded to the width: (lines, was a token shortened).

    lanes: (name, cells, which of them are lit), names in the first `label` columns; a lane without a name
    holds marks. There is a bar before column `cut`.
    """
    if width is not None and width < label + SHORTEST:
        label = 0
    natural, columns = columns, [max(1, w if width is None else min(w, width - label)) for w in columns]
    has_bar = cut in range(1, len(columns)) and (width is None or label + 2 + columns[cut] <= width)
    bars = {cut} if has_bar else set()

    def line(band, name, cells, lit=()):
        text, bar = pad_right(name, label) if label else "", "| " if name else "  "
        for k in band:
            cell = shorten(cells[k], columns[k], charset)
            text += " " if k > band[0] else ""
            text += bar if k in bars else ""
            text += " " * (columns[k] - display_width(cell)) + style(cell, INVERSE, colour and k in lit)
        return text

    lines = []
    for band in bands_of([w + 2 * (k in bars) for k, w in enumerate(columns)], 1, width and width - label):
        if not any(cells[k] for _, cells, _ in lanes for k in band):
            continue  # nothing there yet
        lines += [""] * bool(lines)
        for name, cells, lit in lanes:
            lines.append(line(band, name, cells, lit))
            if lit and not colour:
                marks = ["^" if k in lit and cell else "" for k, cell in enumerate(cells)]
                lines.append(line(band, "", marks))
            if not lines[-1].strip():
                lines.pop()
    return lines, columns != natural
