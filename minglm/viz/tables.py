"""A sample as a table of characters: wide, narrow, or a list of rows without the mask."""

from .columns import (
    ELLIPSIS,
    colour_legend,
    digits,
    display_width,
    glyph,
    of_span,
    pad_left,
    pad_right,
    printable,
    shorten,
    wrap,
)
from .derivation import MASK_NAMES, blanks_of
from .words import HIDDEN_MEANING, MEANING, MODELS

LABELS = {"block position": "block pos."}  # short names of positions
# In a text these are ordinary words, and the legend says so.
LOOK_ALIKES = set("[MASK] [sMASK] [gMASK] [M] [sM] [gM] [S] [E]".split())
SHORTEST = 3  # a token is cut to this many columns before the table takes another form
LABEL_CAP = 12  # columns that a token keeps in front of its row when the width is limited


def table(d, width, charset, colour):
    """Return (lines of the best table that fits, has it the mask, was a token shortened)."""
    tokens, targets = texts(d, charset)
    for form in (wide_table, narrow_table):
        if layout := form(d, tokens, targets, width, charset, colour):
            lines, shortened = layout
            return lines, True, shortened
    lines, shortened = row_list(d, tokens, targets, width, charset)
    return lines, False, shortened


def texts(d, charset):
    """Return tokens and targets as printed; "." where there is nothing to learn."""
    return [printable(t, charset) for t in d.tokens], [printable(t, charset) or "." for t in d.targets]


def finish(lines, legend, width, charset, colour):
    """Join lines and a legend, which is wrapped here, into one text."""
    legend = [piece for text in legend for piece in wrap(text, width)]
    if colour:
        legend = [colour_legend(line, charset) for line in legend]
    return "\n".join(line.rstrip() for line in lines + legend)


def wide_table(d, tokens, targets, width, charset, colour):
    """Put tokens, positions and targets above the columns of the mask.

    Returns (lines, was a token shortened), or None if it does not fit.
    """
    positions, lanes = position_texts(d), {"position": map(str, d.position_ids.tolist())}
    if d.second_position:
        lanes[LABELS.get(d.second_position, d.second_position)] = map(str, d.block_position_ids.tolist())
    lanes["target"] = targets
    natural = [max(display_width(a), display_width(b)) for a, b in zip(tokens, targets, strict=True)]
    longest = max(display_width(t) for t in tokens)
    floor = max(digits(d.position_ids), digits(d.block_position_ids), shortest_cut(d, tokens))
    fit = fit_wide(natural, longest, floor, max(*map(len, lanes), len(positions[0])), width)
    if fit is None:
        return None
    name, label, columns = fit
    edge = (
        d.part_a_len if 0 < d.part_a_len < len(d) else None
    )  # a bar, not a space, stands before this column
    room = [w + (k != edge) for k, w in enumerate(columns)]

    def line(head, cells):
        return pad_right(head, label) + "".join("|" * (k == edge) + c for k, c in enumerate(cells))

    def row_of(texts):
        cut = (shorten(text, w, charset) for text, w in zip(texts, columns, strict=True))
        return [pad_left(text, w) for text, w in zip(cut, room, strict=True)]

    spans = d.span_id.tolist()
    heads = zip(row_of(tokens), spans, strict=True)
    lines = [line("", [of_span(cell, span, colour) for cell, span in heads])]
    lines += [line(" " * (name + 2) + head, row_of(row)) for head, row in lanes.items()]
    for i, token in enumerate(tokens):
        if i == d.part_a_len:
            left = label + sum(room[:i])
            lines.append("-" * left + "+" * (i > 0) + "-" * (sum(columns) + len(columns) + label - left - 1))
        head = pad_left(shorten(token, name, charset), name)
        cells = [glyph(kind, charset, colour, w) for kind, w in zip(d.kind[i], room, strict=True)]
        row = line(f"{head}  {positions[i]}", cells)
        lines.append(of_span(head, spans[i], colour) + row[len(head) :])
    return lines, name < longest or any(c < w for c, w in zip(columns, natural, strict=True))


def fit_wide(natural, longest, floor, heads, width):
    """Return the widest that fit, or None: (token in front of a row, all in front of a row, mask columns).

    natural: widths of the columns if nothing is cut; longest: of the tokens; floor: the least width of a
    column; heads: width of the positions or lane names behind the token.
    """
    for cap in range(max(floor, *natural), floor - 1, -1):
        columns = [max(floor, min(cap, w)) for w in natural]
        name = longest if width is None else min(longest, max(cap, LABEL_CAP))
        label = name + 2 + heads
        if width is None or label + sum(columns) + len(columns) <= width:
            return name, label, columns
    return None


def narrow_table(d, tokens, targets, width, charset, colour):
    """Put each row's facts in front of it, then one glyph per cell.

    Returns (lines, was a token shortened), or None if it does not fit.
    """
    layout = narrow_rows(d, tokens, targets, width, charset, colour)
    if layout is None:
        return None
    rows, shortened = layout
    return wrap(f"{in_a_row(d)}; then one glyph for each row it may see.", width) + rows, shortened


def narrow_rows(d, tokens, targets, width, charset, colour, keep=SHORTEST):
    """Return the rows of the narrow table: (lines, was a token shortened), or None if they do not fit."""
    heads, shortened = row_heads(d, tokens, targets, width and width - len(d) - 2, charset, keep)
    if heads is None:
        return None
    lines = []
    for i, head in enumerate(heads):
        if i == d.part_a_len:
            lines.append("-" * (display_width(head) + 2 + len(d)))
        lines.append(head + "  " + "".join(glyph(kind, charset, colour) for kind in d.kind[i]))
    return lines, shortened


def row_list(d, tokens, targets, width, charset):
    """Return the rows without the mask, for a text too long for the width: (lines, was a token shortened)."""
    heads, shortened = row_heads(d, tokens, targets, width, charset)
    if heads is None:  # a handful of columns
        heads, shortened = row_heads(d, tokens, targets, None, charset)
        heads, shortened = [shorten(head.lstrip(), width, charset) for head in heads], True
    dashes = ["-" * min(width, display_width(heads[0]))] * (d.part_a_len < len(d))
    rows = [*heads[: d.part_a_len], *dashes, *heads[d.part_a_len :]]
    missing = f"The mask of {len(d)} rows does not fit in {width} columns: "
    missing += "it needs a wider window or a shorter text."
    return [*wrap(f"{in_a_row(d)}.", width), *rows, *wrap(missing, width)], shortened


def in_a_row(d):
    """Say what comes before a row of the narrow tables."""
    second = f"{d.second_position}, " if d.second_position else ""
    return f"In a row: token, position, {second}target"


def row_heads(d, tokens, targets, room, charset, keep=SHORTEST):
    """Return token, positions and target of each row in at most `room` columns: (None or T lines, shortened).

    keep: the least columns of a token.
    """
    positions = position_texts(d)
    longest, longest_target = (max(map(display_width, texts)) for texts in (tokens, targets))
    floor = max(shortest_cut(d, tokens), min(keep, longest))
    for cap in range(max(longest, longest_target, floor), floor - 1, -1):
        name, target = min(cap, longest), min(cap, longest_target)
        if room is None or name + 2 + len(positions[0]) + 2 + target <= room:
            break
    else:
        return None, False
    heads = []
    for token, numbers, text in zip(tokens, positions, targets, strict=True):
        token, text = shorten(token, name, charset), shorten(text, target, charset)
        heads.append(f"{pad_left(token, name)}  {numbers}  {pad_left(text, target)}")
    return heads, name < longest or target < longest_target


def shortest_cut(d, tokens):
    """Return the least columns of a token: [M] and other special tokens stay whole."""
    special = [token for token, word in zip(tokens, d.word.tolist(), strict=True) if word < 0]
    return max([SHORTEST, *map(display_width, special)])


def position_texts(d):
    """Return the positions of every row, aligned: " 4 1"; only the first if the model has no second."""
    first, second = digits(d.position_ids), digits(d.block_position_ids)
    both = zip(d.position_ids.tolist(), d.block_position_ids.tolist(), strict=True)
    return [f"{a:>{first}} {b:>{second}}" if d.second_position else f"{a:>{first}}" for a, b in both]


def legend_lines(derivations, charset, has_mask, shortened):
    """Explain the signs that occur in these tables, in the terms of the first."""
    d, names = derivations[0], MODELS[derivations[0].model]
    present = {kind for each in derivations for kind in each.kind.ravel().tolist()}
    lines = []
    if has_mask:
        meanings = [(kind, MEANING[kind].format(**names)) for kind in MEANING if kind in present]
        if meanings and meanings[0][1].startswith("... and"):
            meanings[0] = meanings[0][0], f"{names['B']} sees" + meanings[0][1].removeprefix("... and")
        lines = [f"{glyph(kind, charset)}  {meaning}" for kind, meaning in meanings]
        hidden = [meaning.format(**names) for kind, meaning in HIDDEN_MEANING.items() if kind in present]
        if hidden:
            lines.append(f"{glyph('AB', charset)}  hidden: {'; '.join(hidden)}")
    blanks = blanks_of(d.text, d.spans)
    if d.model != "glm":
        lines.append(f"{names['name']} reads {names['input']}. It learns {names['predicts']}.")
    elif "B" in d.part:
        lines.append(f"{MASK_NAMES[d.objective]} a blank, [S] the start of its span, [E] its end.")
        lines.append("target: what the row learns to say next.")
        open_ends = sum(d.text[start] in blanks for start, _ in d.spans)
        if d.targets.count("[E]") + open_ends < len(d.spans):
            lines.append(
                "The last span has no [E]: the document may go on. Where it ends, end the text in [EOS]."
            )
    if blanks:
        lines.append(f"{', '.join(sorted(blanks))} in the text: a blank without an answer, shown as ?.")
    if text := [token for token in dict.fromkeys(d.text) if token in LOOK_ALIKES - blanks]:
        lines.append(f"{', '.join(text)} was in the text and is a word like any other.")
    if shortened:
        lines.append(f"{ELLIPSIS[charset]} stands for the rest of a long token.")
    return [*lines, "Positions count from 0; the paper counts from 1."]
