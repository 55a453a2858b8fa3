"""A Derivation as text: tokens, both positions, targets and the mask in one table, on any terminal.

What `minglm show` prints: a text is read (typed.py), explained, and then drawn by one of

    render      the table                       film       the derivation, step by step
    compare     GLM beside its relatives        cell       why one cell is open or shut

They see nothing but derivations. Everything here returns a string; nothing prints. How wide a text is, and
what a stream can show, is said in columns.py.
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

GAP = 3  # columns between the tables that stand side by side


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
    """What `minglm show` prints. Everything as typed: show("x1 x2 x3", "1:2") blanks x2; without spans they are drawn.

    models: "gpt,t5", also "all"; cell: "ROW,COLUMN"; step: the film; drawing: seed, mask_ratio, mean_length.
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
    """The table and its legend, every line at most `width` columns (None or 0: no limit). Queries down, keys across.

    Where the room is short, long tokens are cut first. Then every row carries its own target and one glyph a
    cell; then the mask is left out, and a line says so.
    """
    width = width or None
    lines, has_mask, shortened = table(derivation, width, charset, colour)
    legend = legend_lines([derivation], charset, has_mask, shortened)
    return finish([*lines, ""], legend, width, charset, colour and has_mask)


# ---- the relatives, side by side -------------------------------------------------------------------------


def compare(derivations, *, width=None, colour=False, charset="unicode"):
    """Models on the same text, as many tables side by side as fit; under them what each reads, predicts and cannot do."""
    width = width or None
    blocks = [block(d, width and (width - GAP) // 2, width, charset, colour) for d in derivations]
    bands = bands_of([max(map(plain_width, rows)) for rows, _, _ in blocks], GAP, width)
    for [k] in (band for band in bands if len(band) == 1):  # alone, so there is more room
        blocks[k] = block(derivations[k], width, width, charset, colour)
    second = [f"{MODELS[d.model]['name']}: {d.second_position}" for d in derivations if d.second_position]
    second = f", a second position ({', '.join(second)})" if second else ""
    lines = wrap(f"In a row: token, position{second}, target; then one glyph for each row it may see.", width)
    for band in bands:
        lines += ["", *side_by_side([blocks[k][0] for k in band])]
        for k in band:
            names = MODELS[derivations[k].model]
            lines += ["", *(style(piece, BOLD, colour) for piece in wrap(names["name"], width))]
            for verb, what in (
                ("reads", "input"),
                ("sees", "sees"),
                ("predicts", "predicts"),
                ("cannot", "cannot"),
            ):
                lines += wrap(f"   {verb}: {names[what]}", width, "      ")
    has_mask = any(drawn for _, drawn, _ in blocks)
    legend = legend_lines(derivations, charset, has_mask, any(shortened for _, _, shortened in blocks))
    if any(0 < d.part_a_len < len(d) for d in derivations):
        legend.insert(
            -1, "Above a line of dashes is Part A, or what stands for it in a model; below it is Part B."
        )
    return finish([*lines, ""], legend, width, charset, colour and has_mask)


def block(d, room, width, charset, colour):
    """A model's name over its narrow table in `room` columns, or else in `width` of them: as `table`."""
    tokens, targets = texts(d, charset)
    layout = narrow_rows(d, tokens, targets, room, charset, colour, keep=LABEL_CAP // 2)
    layout = layout or narrow_rows(d, tokens, targets, width, charset, colour)
    lines, shortened = layout or row_list(d, tokens, targets, width, charset)
    title = [style(piece, BOLD, colour) for piece in wrap(MODELS[d.model]["name"], width)]
    return title + lines, layout is not None, shortened


def bands_of(columns, gap, width):
    """Which of the things so many columns wide stand side by side: lists of their numbers, as few as fit in `width`."""
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
    """Lists of lines as one list: each block keeps its columns."""
    columns = [max(map(plain_width, lines)) for lines in blocks]
    tall = max(map(len, blocks))
    blocks = [lines + [""] * (tall - len(lines)) for lines in blocks]
    return [
        (" " * GAP).join(line + " " * (w - plain_width(line)) for line, w in zip(row, columns, strict=True))
        for row in zip(*blocks, strict=True)
    ]


# ---- step by step, and cell by cell ----------------------------------------------------------------------


def film(derivation, *, width=None, colour=False, charset="unicode"):
    """The derivation step by step: each step's sentence and what stands by then, what the step adds marked by ^ or inverse."""
    d, width, shown, shortened = derivation, width or None, {}, False
    lines = wrap("Inverse: what a step adds." if colour else "^ marks what a step adds.", width)
    for number, (name, sentence, lights) in enumerate(d.steps, 1):
        title = wrap(f"{number}/{len(d.steps)} {name}", width)
        lines += ["", *(style(piece, BOLD, colour) for piece in title), *wrap(sentence, width)]
        for lane, lit in lights.items():
            shown[lane] = shown.get(lane, set()) | set(lit)
        if "mask" not in lights:
            frame, cut = lanes_of_step(d, shown, lights, number > 1, width, colour, charset)
            lines, shortened = lines + frame, shortened or cut
    rows, has_mask, cut = table(d, width, charset, colour)
    return finish(
        [*lines, "", *rows, ""],
        legend_lines([d], charset, has_mask, shortened or cut),
        width,
        charset,
        colour and has_mask,
    )


def lanes_of_step(d, shown, lights, spans_are_chosen, width, colour, charset):
    """The text until the row of tokens is complete, and what is known of that row: (lines, was a token shortened).

    shown, lights: {lane: indices}, what stands by now and what of it is new.
    """
    (tokens, targets), how = texts(d, charset), dict(width=width, colour=colour, charset=charset)
    name_of_word = {i: f"s{k + 1}" for k, span in enumerate(d.spans) for i in range(*span)}
    of_text = {
        "text": ("text", [printable(t, charset) for t in d.text]),
        "spans": ("span", [name_of_word.get(i, "") * spans_are_chosen for i in range(len(d.text))]),
    }
    of_row = {
        "tokens": ("token", tokens),
        "spans": (
            "span",
            [
                f"s{k + 1}" * (k >= 0 and i in shown.get("tokens", ()))
                for i, k in enumerate(d.span_id.tolist())
            ],
        ),
        "targets": ("target", [text * (d.targets[i] != "") for i, text in enumerate(targets)]),
        "position_ids": ("position", [*map(str, d.position_ids.tolist())]),
        "block_position_ids": (
            LABELS.get(d.second_position, d.second_position),
            [*map(str, d.block_position_ids.tolist())],
        ),
    }
    label = (
        max(len(label) for label, _ in of_row.values()) + 2
    )  # the same in all steps: columns stay where they are
    lines, shortened = [], False
    for lanes, cut in ((of_text, None), (of_row, d.part_a_len)):
        if (
            lanes is of_text
            and len(shown.get("tokens", ())) == len(d)
            or lanes is of_row
            and "tokens" not in shown
        ):
            continue
        columns = columns_of(cells for _, cells in lanes.values())
        cells_now = {
            name: [cell * (name == "spans" or i in shown.get(name, ())) for i, cell in enumerate(cells)]
            for name, (_, cells) in lanes.items()
        }
        now = [
            (lanes[name][0], cells, set(lights.get(name, ())))
            for name, cells in cells_now.items()
            if any(cells)
        ]
        drawn, was_cut = strip(now, columns, cut, label, **how)
        lines, shortened = [*lines, "", *drawn], shortened or was_cut
    return lines, shortened


def explain_cell(derivation, i, j, *, width=None, colour=False, charset="unicode"):
    """Why row i may or may not see row j: where they are in the row, the sentence of `why`, and the rule as code."""
    d, width, facts = derivation, width or None, cell_facts(derivation, i, j)
    marks = {j: "j", i: "ij" if i == j else "i"}
    lanes = [
        ("row", [*map(str, range(len(d)))], set()),
        ("token", texts(d, charset)[0], {i, j} if colour else set()),
        ("", [marks.get(row, "") for row in range(len(d))], set()),
    ]
    columns = columns_of(cells for _, cells, _ in lanes)
    lines = [*strip(lanes, columns, d.part_a_len, 7, width=width, colour=colour, charset=charset)[0], ""]
    lines += wrap(printable(facts["why"], charset, " "), width)
    numbers = {"i": i, "j": j, "part_a_len": d.part_a_len}
    here = re.sub(r"\b(part_a_len|i|j)\b", lambda name: str(numbers[name[0]]), facts["code"])
    rule = f"Rule {facts['rule']}, {facts['code']} (here {here}): {facts['meaning']}."
    return "\n".join(line.rstrip() for line in lines + wrap(rule, width))


def cell_facts(d, i, j):
    """What there is to say about a cell, as JSON has it."""
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
    """How wide each column is that holds the cells of several lanes."""
    return [max(map(display_width, cells)) for cells in zip(*lanes, strict=True)]


def strip(lanes, columns, cut, label, *, width, colour, charset):
    """Lanes one below the other, folded to the width: (lines, was a token shortened). A bar stands before column `cut`.

    lanes: (name, cells, which of them are lit), names in the first `label` columns; a lane without a name
    holds marks.
    """
    if width is not None and width < label + SHORTEST:
        label = 0
    natural, columns = columns, [max(1, w if width is None else min(w, width - label)) for w in columns]
    bars = (
        {cut}
        if cut in range(1, len(columns)) and (width is None or label + 2 + columns[cut] <= width)
        else set()
    )

    def line(band, name, cells, lit=()):
        text, bar = pad_right(name, label) if label else "", "| " if name else "  "
        for k in band:
            cell = shorten(cells[k], columns[k], charset)
            padding = " " * (columns[k] - display_width(cell))
            text += (
                " " * (k > band[0]) + bar * (k in bars) + padding + style(cell, INVERSE, colour and k in lit)
            )
        return text

    lines = []
    for band in bands_of([w + 2 * (k in bars) for k, w in enumerate(columns)], 1, width and width - label):
        if not any(cells[k] for _, cells, _ in lanes for k in band):
            continue  # nothing stands there yet
        lines += [""] * bool(lines)
        for name, cells, lit in lanes:
            lines.append(line(band, name, cells, lit))
            if lit and not colour:
                lines.append(
                    line(band, "", ["^" * (k in lit and cell != "") for k, cell in enumerate(cells)])
                )
            if not lines[-1].strip():
                lines.pop()
    return lines, columns != natural


# ---- filled blanks, and what a stream can show -----------------------------------------------------------
