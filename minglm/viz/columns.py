"""What a terminal can show and how wide text is: colours, charsets, wide letters, lines that fit.

Nothing here knows about GLM. `wants_colour` and `charset_of` tell what a stream can show.
"""

import os
import re
import unicodedata

from .palette import KINDS, SPAN_TERMINAL

# in each charset: the end of a shortened token, a space inside a token, the brackets around a filled blank
ELLIPSIS = {"unicode": "…", "ascii": ".."}
SPACE = {"unicode": "▁", "ascii": "_"}
BRACKETS = {"unicode": "⟦⟧", "ascii": "[]"}
BOLD, INVERSE = 1, 7  # of a terminal's styles
LETTERS = {"#FFFFFF": 231, "#000000": 16}  # ink of letters, among a terminal's 256 colours


def highlight(pieces, *, colour=False, charset="unicode"):
    """Return a text with its filled blanks marked: bold and underlined, or in brackets without colour.

    pieces: (text, is_blank) pairs in order.
    Example: [("the", False), (" sky", True), (".", False)] -> "the ⟦sky⟧."
    """
    left, right = BRACKETS[charset]
    out = []
    for text, is_blank in pieces:
        text = "".join(c if c in "\n\t" else printable(c, charset, space=" ") for c in text)
        if is_blank:
            lead = text[: len(text) - len(text.lstrip())]
            text = text[len(lead) :]
            # an empty blank would be invisible without brackets
            text = f"{lead}\x1b[1;4m{text}\x1b[0m" if colour and text else f"{lead}{left}{text}{right}"
        out.append(text)
    return "".join(out)


def wants_colour(stream, environ=os.environ):
    """Return whether to colour: by NO_COLOR, FORCE_COLOR, TERM=dumb, or else if `stream` is a terminal."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    if environ.get("TERM") == "dumb":
        return False
    return bool(getattr(stream, "isatty", lambda: False)())


def charset_of(stream):
    """Return "unicode" if the stream's encoding has the glyphs or is unknown, else "ascii"."""
    glyphs = [kind.unicode for kind in KINDS.values()]
    glyphs += [signs["unicode"] for signs in (ELLIPSIS, SPACE, BRACKETS)]
    try:
        "".join(glyphs).encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "ascii"
    return "unicode"


# ---- how wide is a text ----------------------------------------------------------------------------------

ZERO_WIDTH_JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"


def char_width(c):
    """Return the columns of a character: 0 for combining marks, 2 for CJK and emoji, else 1."""
    if c == ZERO_WIDTH_JOINER or unicodedata.category(c) in ("Mn", "Me") or "\u1160" <= c <= "\u11ff":
        return 0  # the last range: vowels and finals of Korean letters written apart
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def display_width(text):
    """Return the columns of a text. "春" -> 2, "e" with an accent -> 1, emoji (also joined ones) -> 2."""
    total, last, joined = 0, 0, False
    for c in text:
        width = 0 if joined else char_width(c)
        if c == EMOJI_STYLE and last == 1:
            total, width = total - 1, 2
        joined = c == ZERO_WIDTH_JOINER and last == 2  # only emoji join
        last = width or last
        total += width
    return total


def printable(text, charset, space=None):
    """Return a token that cannot break the table: spaces are visible, unprintable characters escaped."""
    space = SPACE[charset] if space is None else space
    text = "".join(space if c == " " else escape(c) for c in text)
    return text if charset == "unicode" else text.encode("ascii", "backslashreplace").decode()


def escape(c):
    """Return a printable character as it is, another as its escape: "\\x1b" is text, not a control code."""
    return c if c.isprintable() or c == ZERO_WIDTH_JOINER else c.encode("unicode_escape").decode()


def shorten(text, width, charset):
    """Cut a text to `width` columns, with an ellipsis if it is longer: ("blankets", 4) -> "bla…"."""
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


def wrap(text, width, hanging=""):
    """Wrap a sentence; later lines start with `hanging`, or are indented if a glyph opens the first."""
    if width is None:
        return [text]
    hanging = "   " if text[1:3] == "  " != text[:2] else hanging
    hanging = hanging if len(hanging) + 2 <= width else ""
    lines, line = [], ""
    for word in re.findall(r"\s*\S+", text):
        if display_width(line + word) <= width:
            line += word
            continue
        if line.strip():
            lines.append(line)
            line = hanging
        for c in characters(word.lstrip()):
            if display_width(line + c) > width and line.strip():
                lines.append(line)
                line = hanging
            fits = display_width(line + c) <= width  # a wide letter does not fit in one column
            line += c if fits else ELLIPSIS["unicode"]
    return [*lines, line]


def glyph(kind, charset, colour=False, width=1):
    """Return the sign of a kind of cell, on the right of a cell of `width` columns that its colour fills."""
    look = KINDS[kind]
    cell = pad_left(getattr(look, charset), width)
    if not colour:
        return cell
    ink = look.terminal_ink if charset == "unicode" else LETTERS.get(look.ink["light"], look.terminal_ink)
    back = "" if look.terminal is None else f";48;5;{look.terminal}"
    return f"\x1b[38;5;{ink}{back}m{cell}\x1b[0m"


def colour_legend(line, charset):
    """Colour the glyph of a legend line, which opens with the glyph and two spaces."""
    for kind in KINDS:
        if line.startswith(glyph(kind, charset) + "  "):
            return glyph(kind, charset, True) + line[1:]
    return line


def of_span(text, span, colour):
    """Return a text in the colour of a span, if it belongs to one (span >= 0) and there is colour."""
    return style(text, f"38;5;{SPAN_TERMINAL[span % len(SPAN_TERMINAL)]}", colour and span >= 0)


def style(text, code, colour):
    """Return a text in bold, inverse or a colour, if there is colour and something to see."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and text else text


def plain_width(line):
    """Return the columns of a line that may hold colour codes (no other codes get into one)."""
    return display_width(re.sub(r"\x1b\[[0-9;]*m", "", line))


def is_unicode(text):
    """Return whether a text can be written as UTF-8; what a shell passes on may hold lone bytes."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def characters(text, whole=r"(?!)"):
    """Split a text into characters: a mark stays with its letter, a match of `whole` stays whole."""
    pieces = []
    for match in re.finditer(f"({whole})|.", text, re.DOTALL):
        c = match[0]
        if pieces and not match[1] and (char_width(c) == 0 or pieces[-1].endswith(ZERO_WIDTH_JOINER)):
            pieces[-1] += c
        else:
            pieces.append(c)
    return pieces
