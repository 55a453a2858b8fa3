"""Holds each Chinese cell of a chapter to the English one above it, whose text its stamp stands for."""

import hashlib
import re

FENCED = re.compile(r"^\s*(`{3,})[^\n]*\n.*?^\s*\1\s*$", re.M | re.S)
WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def digest(text):
    """Six hexadecimal digits for an English text; line breaks do not count."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:6]


def pairs(chapter):
    """(the section's heading, English cell, Chinese cell) for each Chinese cell."""
    heading = ""
    for cell, after in zip(chapter.cells, chapter.cells[1:], strict=False):
        if cell.kind == "en":
            headings = re.findall(r"^#+ (.*)", FENCED.sub("", cell.text), re.M)
            heading = headings[0] if headings else heading
            if after.kind == "zh":
                yield heading, cell, after
            heading = headings[-1] if headings else heading


def headings(text):
    """The levels of the headings, in their order."""
    return [len(mark) for mark in re.findall(r"^(#+) ", FENCED.sub("", text), re.M)]


def code(text):
    """The blocks of code; of a block of plain text, whose words are translated, only its digits."""
    blocks = [match.group().strip() for match in FENCED.finditer(text)]
    return [re.findall(r"\d", block) if re.match("`+text", block) else block for block in blocks]


def figures(text):
    """The files that are shown as pictures, in their order."""
    return re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text) + re.findall(r'<img[^>]* src="([^"]+)', text)


def numbers(text):
    """The numbers that a text states in digits, as a set; those of code, formulas and links do not count."""
    prose = re.sub(r"\]\([^)]*\)", "]", FENCED.sub("", text))
    prose = re.sub(r"`[^`]*`|\$\$.*?\$\$|\$[^$]+\$", " ", prose, flags=re.S)
    prose = re.sub(r"\b0\d\b|^\s*\d+\. ", " ", prose, flags=re.M | re.A)  # chapters, and the marks of lists
    return set(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", prose)))


def differences(chapter):
    """Where a Chinese cell is not what the English one above it is, one line each.

    Every number in the English prose is in the Chinese cell; one more in Chinese is somewhere in the chapter.
    """
    found = []
    english_text = "\n".join(cell.text for cell in chapter.cells if cell.kind != "zh")
    known = set(re.findall(r"\d+(?:\.\d+)?", english_text.replace(",", "")))
    known |= {str(n) for n, word in enumerate(WORDS) if word in english_text.lower()}
    for heading, english, chinese in pairs(chapter):
        where = f"line {chinese.line}: section {heading!r}"
        if chinese.stamp and chinese.stamp != digest(english.text):
            found.append(
                f"{where}: the English text has changed; compare the Chinese, then render.py --stamp"
            )
        for what, parts in (("headings", headings), ("code", code), ("figures", figures)):
            if (here := parts(english.text)) != (there := parts(chinese.text)):
                found.append(f"{where}: {what}: {there} in Chinese, {here} in English")
        here, there = numbers(english.text), numbers(chinese.text)
        if missing := sorted(here - there):
            found.append(f"{where}: numbers that the Chinese cell lacks: {', '.join(missing)}")
        if added := sorted(there - here - known):
            found.append(f"{where}: numbers that no English text has: {', '.join(added)}")
    return found


def stamped(chapter):
    """The source with each Chinese cell's header naming the English text above it, as it is now."""
    stamps = iter([digest(english.text) for _, english, _ in pairs(chapter)])
    header = re.compile(r"^# %% \[markdown\] zh( [0-9a-f]{6})?$", re.M)
    return header.sub(lambda _: f"# %% [markdown] zh {next(stamps)}", chapter.source)
