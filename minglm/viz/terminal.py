"""A Derivation as text: tokens, both positions, targets and the mask in one table, on any terminal.

Everything here returns a string; nothing prints. What a stream can show is asked with `wants_colour` and `charset_of`.
"""

import os
import re
import textwrap
import unicodedata

from ..errors import MinglmError
from ..spans import Span
from .derivation import explain

GLYPHS = {
    "unicode": {"AA": "█", "BA": "▓", "BE": "▒", "BS": "◆", "self": "●", "AB": "·", "BF": "·"},
    "ascii": {"AA": "#", "BA": "+", "BE": "o", "BS": "=", "self": "@", "AB": ".", "BF": "."},
}
# how a charset writes: a shortened token, a blank inside a token, the brackets around a filled blank
ELLIPSIS = {"unicode": "…", "ascii": ".."}
BLANK = {"unicode": "▁", "ascii": "_"}
BRACKETS = {"unicode": "⟦⟧", "ascii": "[]"}
# The colours of all pictures (#004B87 #56B4E9 #F0C05A #B8450B) in the nearest of a terminal's 256.
COLOURS = {"AA": 24, "BA": 74, "BE": 221, "BS": 130, "self": 130, "AB": 245, "BF": 245}
MEANING = {
    "AA": "Part A sees all of Part A, left and right",
    "BA": "Part B sees all of Part A",
    "BE": "Part B sees the spans that came before in Part B",
    "BS": "... and the earlier tokens of its own span",
    "self": "... and itself",
}
HIDDEN_MEANING = {"AB": "Part A never sees Part B", "BF": "Part B never sees what comes later"}
MASK_NAMES = {"token": "[M]", "sentence": "[sM]", "document": "[gM]"}
LABELS = ("position", "block pos.", "target")
SHORTEST = 3  # columns that a token keeps before the table takes another form
LABEL_CAP = 12  # columns that a token keeps in front of its row, where there is a limit


def show(text, spans, order=None, objective="token", *, width=None, colour=False, charset="unicode"):
    """What `minglm show` prints. text, spans and order as typed: show("x1 x2 x3", "1:2") blanks x2."""
    spans = parse_spans(spans)
    derivation = explain(split(text), spans, parse_order(order, len(spans)), objective)
    return render(derivation, width=width, colour=colour, charset=charset)


def split(text):
    """A text as tokens: at its blanks; a text that has none and is not ASCII, as Chinese, one character a token.

    Example: "a blank" -> a, blank; "春眠不觉晓" -> 春, 眠, 不, 觉, 晓. A mark stays with the letter it sits on.
    """
    words = text.split()
    if not words:
        raise MinglmError(f"text {text!r} is empty: at least one word is needed")
    if len(words) > 1 or words[0].isascii():
        return words
    characters = []
    for c in words[0]:
        joins = characters and (char_width(c) == 0 or characters[-1].endswith(ZERO_WIDTH_JOINER))
        if joins:
            characters[-1] += c
        else:
            characters.append(c)
    return characters


def parse_spans(text):
    """ "2:3,4:6" -> [Span(2, 3), Span(4, 6)]: Python slices of the tokens. Whether they fit is checked later."""
    spans = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9}):([0-9]{1,9})\s*", piece)
        if not match:
            raise MinglmError(
                f"span {piece.strip()!r} is not accepted: spans are start:end, counted from 0 and without the end, "
                "with commas between them, as in 2:3,4:6"
            )
        spans.append(Span(*map(int, match.groups())))
    return spans


def parse_order(text, n):
    """The order of n spans in Part B as typed, counted from 1: ("2,1", 2) -> [1, 0]. None is left to right."""
    if text is None:
        return list(range(n))
    pieces = [piece.strip() for piece in text.split(",")]
    if sorted(pieces) != sorted(str(k + 1) for k in range(n)):
        accepted = ",".join(str(k) for k in range(n, 0, -1)) if n < 10 else f"{n},{n - 1},...,1"
        raise MinglmError(
            f"order {text!r} is not accepted: it names each of the {n} span{'s' * (n != 1)} once, counted from 1 in the "
            f"order of the text, as in {accepted}"
        )
    return [int(piece) - 1 for piece in pieces]


def render(derivation, *, width=None, colour=False, charset="unicode"):
    """The table and its legend, every line at most `width` columns (None or 0: no limit). Queries down, keys across.

    Where the room is short, long tokens are cut first. Then every row carries its own target and one glyph a cell;
    then the mask is left out, and a line says so.
    """
    width = width or None
    tokens = [printable(t, charset) for t in derivation.tokens]
    targets = [printable(t, charset) or "." for t in derivation.targets]
    layout = wide_table(derivation, tokens, targets, width, charset, colour)
    layout = layout or narrow_table(derivation, tokens, targets, width, charset, colour)
    has_mask = layout is not None
    if not has_mask:
        layout = row_list(derivation, tokens, targets, width, charset)
    lines, shortened = layout
    legend = legend_lines(derivation, charset, has_mask, ELLIPSIS[charset] if shortened else "")
    lines += [""] + [piece for text in legend for piece in wrap(text, width)]
    if colour and has_mask:
        lines = [colour_legend(line, charset) for line in lines]
    return "\n".join(line.rstrip() for line in lines)


def wide_table(d, tokens, targets, width, charset, colour):
    """Tokens, positions and targets above the columns of the mask: (lines, was a token shortened), None if too wide."""
    first, second = digits(d.position_ids), digits(d.block_position_ids)
    natural = [max(display_width(a), display_width(b)) for a, b in zip(tokens, targets, strict=True)]
    floor = max(SHORTEST, first, second, len(MASK_NAMES[d.objective]))
    longest = max(display_width(t) for t in tokens)
    for cap in range(max(floor, *natural), floor - 1, -1):
        columns = [max(floor, min(cap, w)) for w in natural]
        name = longest if width is None else min(longest, max(cap, LABEL_CAP))
        label = name + 2 + max(max(map(len, LABELS)), first + 1 + second)
        if width is None or label + sum(columns) + len(columns) <= width:
            break
    else:
        return None

    def line(head, cells):
        return pad_right(head, label) + "".join(" " + c for c in cells)

    def row_of(texts):
        return [pad_left(shorten(text, w, charset), w) for text, w in zip(texts, columns, strict=True)]

    rows = (map(str, d.position_ids.tolist()), map(str, d.block_position_ids.tolist()), targets)
    lines = [line("", row_of(tokens))]
    lines += [line(" " * (name + 2) + head, row_of(row)) for head, row in zip(LABELS, rows, strict=True)]
    for i, token in enumerate(tokens):
        if i == d.part_a_len:
            lines.append("-" * (label + sum(columns) + len(columns) - 1))
        positions = f"{d.position_ids[i]:>{first}} {d.block_position_ids[i]:>{second}}"
        head = f"{pad_left(shorten(token, name, charset), name)}  {positions}"
        cells = [" " * (w - 1) + glyph(kind, charset, colour) for kind, w in zip(d.kind[i], columns, strict=True)]
        lines.append(line(head, cells))
    return lines, name < longest or any(c < w for c, w in zip(columns, natural, strict=True))


def narrow_table(d, tokens, targets, width, charset, colour):
    """Everything of a row in front of it, and one glyph a cell. (lines, was a token shortened), None if too wide."""
    heads, shortened = row_heads(d, tokens, targets, width - len(d) - 2, charset)
    if heads is None:
        return None
    lines = wrap("In a row: token, position, block position, target; then one glyph for each row it may see.", width)
    for i, head in enumerate(heads):
        if i == d.part_a_len:
            lines.append("-" * (display_width(head) + 2 + len(d)))
        lines.append(head + "  " + "".join(glyph(kind, charset, colour) for kind in d.kind[i]))
    return lines, shortened


def row_list(d, tokens, targets, width, charset):
    """The rows without the mask, for a text too long for the width: (lines, was a token shortened)."""
    heads, shortened = row_heads(d, tokens, targets, width, charset)
    if heads is None:  # a handful of columns
        heads, shortened = row_heads(d, tokens, targets, None, charset)
        heads, shortened = [shorten(head.lstrip(), width, charset) for head in heads], True
    lines = wrap("In a row: token, position, block position, target.", width)
    lines += [*heads[: d.part_a_len], "-" * min(width, display_width(heads[0])), *heads[d.part_a_len :]]
    missing = f"The mask of {len(d)} rows does not fit in {width} columns: it needs a wider window or a shorter text."
    return lines + wrap(missing, width), shortened


def row_heads(d, tokens, targets, room, charset):
    """Token, both positions and target of every row, at most `room` columns wide: (None or T lines, shortened)."""
    first, second = digits(d.position_ids), digits(d.block_position_ids)
    longest, longest_target = (max(map(display_width, texts)) for texts in (tokens, targets))
    for cap in range(max(longest, longest_target, SHORTEST), SHORTEST - 1, -1):
        name, target = min(cap, longest), min(cap, longest_target)
        if room is None or name + 2 + first + 1 + second + 2 + target <= room:
            break
    else:
        return None, False
    heads = []
    for i, (token, text) in enumerate(zip(tokens, targets, strict=True)):
        positions = f"{d.position_ids[i]:>{first}} {d.block_position_ids[i]:>{second}}"
        token, text = shorten(token, name, charset), shorten(text, target, charset)
        heads.append(f"{pad_left(token, name)}  {positions}  {pad_left(text, target)}")
    return heads, name < longest or target < longest_target


def legend_lines(d, charset, has_mask, ellipsis):
    """What the signs of this table mean; signs that do not occur are left out."""
    glyphs, present = GLYPHS[charset], set(d.kind.ravel().tolist())
    lines = []
    if has_mask:
        lines = [f"{glyphs[kind]}  {meaning}" for kind, meaning in MEANING.items() if kind in present]
        hidden = [meaning for kind, meaning in HIDDEN_MEANING.items() if kind in present]
        if hidden:
            lines.append(f"{glyphs['AB']}  hidden: {'; '.join(hidden)}")
    if "B" in d.part:
        lines.append(f"{MASK_NAMES[d.objective]} a blank, [S] the start of its span, [E] its end.")
        lines.append("target: what the row learns to say next.")
        if d.targets.count("[E]") < d.span_id.max() + 1:
            lines.append("The last span has no [E]: the document may go on. Where it ends, end the text in [EOS].")
    if ellipsis:
        lines.append(f"{ellipsis} stands for the rest of a long token.")
    return [*lines, "Positions count from 0; the paper counts from 1."]


def highlight(pieces, *, colour=False, charset="unicode"):
    """A text with its filled blanks marked: bold and underlined, or in brackets without colour.

    pieces: (text, is_blank) pairs in order. Example: [("the", False), (" sky", True), (".", False)] -> "the ⟦sky⟧."
    """
    left, right = BRACKETS[charset]
    out = []
    for text, is_blank in pieces:
        text = "".join(c if c in "\n\t" else printable(c, charset, blank=" ") for c in text)
        if is_blank:
            lead = text[: len(text) - len(text.lstrip())]
            text = text[len(lead) :]
            # an empty blank would be invisible without brackets
            text = f"{lead}\x1b[1;4m{text}\x1b[0m" if colour and text else f"{lead}{left}{text}{right}"
        out.append(text)
    return "".join(out)


def wants_colour(stream, environ=os.environ):
    """Whether to colour what goes to `stream`: NO_COLOR, then FORCE_COLOR, then TERM=dumb, then whether it is a terminal."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    if environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def charset_of(stream):
    """ "unicode" where the stream's encoding can write the glyphs, else "ascii". A stream without encoding takes all."""
    encoding = getattr(stream, "encoding", None)
    signs = "".join([*GLYPHS["unicode"].values(), ELLIPSIS["unicode"], BLANK["unicode"], BRACKETS["unicode"]])
    try:
        signs.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    return "unicode"


# ---------------------------------------------------------------------------- how wide is a text on a terminal

ZERO_WIDTH_JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"


def char_width(c):
    """Columns of one character: 0 for marks on the letter before, 2 for Chinese, Japanese, Korean and emoji, else 1."""
    if c == ZERO_WIDTH_JOINER or unicodedata.category(c) in ("Mn", "Me") or "\u1160" <= c <= "\u11ff":
        return 0  # the last range: vowels and finals of Korean letters written apart
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def display_width(text):
    """Columns of a text. "春" -> 2, "e" and an accent -> 1, a heart in emoji style -> 2, a family joined to one emoji -> 2."""
    total, last, joined = 0, 0, False
    for c in text:
        width = 0 if joined else char_width(c)
        if c == EMOJI_STYLE and last == 1:
            total, width = total - 1, 2
        joined = c == ZERO_WIDTH_JOINER and last == 2  # only emoji join
        last = width or last
        total += width
    return total


def printable(text, charset, blank=None):
    """A token that cannot upset the table: blanks visible, control characters (and in ascii all others) escaped."""
    blank = BLANK[charset] if blank is None else blank
    text = "".join(blank if c == " " else c if c.isprintable() or c == ZERO_WIDTH_JOINER else escape(c) for c in text)
    return text if charset == "unicode" else text.encode("ascii", "backslashreplace").decode()


def escape(c):
    """ "\\x1b" for the character that starts a terminal's control codes: text, not a command."""
    return c.encode("unicode_escape").decode()


def shorten(text, width, charset):
    """The text, or as much of it as fits in `width` columns before an ellipsis: ("blankets", 4) -> "bla…"."""
    if display_width(text) <= width:
        return text
    ellipsis = ELLIPSIS[charset][:width]
    while text and display_width(text) > width - len(ellipsis):
        text = text[:-1]
    return text + ellipsis


def pad_left(text, width):
    return " " * (width - display_width(text)) + text


def pad_right(text, width):
    return text + " " * (width - display_width(text))


def digits(numbers):
    return len(str(max(numbers.tolist())))


def wrap(text, width):
    """The lines of a sentence; the meaning of a glyph stays clear of the glyph's column."""
    hanging = "   " if text[1:3] == "  " else ""
    return [text] if width is None else textwrap.wrap(text, width, subsequent_indent=hanging)


def glyph(kind, charset, colour):
    sign = GLYPHS[charset][kind]
    return f"\x1b[38;5;{COLOURS[kind]}m{sign}\x1b[0m" if colour else sign


def colour_legend(line, charset):
    """A legend line opens with its glyph and two blanks: give it the colour of the table."""
    for kind, sign in GLYPHS[charset].items():
        if line.startswith(sign + "  "):
            return glyph(kind, charset, True) + line[1:]
    return line
