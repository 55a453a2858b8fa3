"""Holds each Chinese text to its English one, whose digest is its stamp.

Of a chapter, a text is a cell. Of a page without a chapter (running.md, running.zh.md), it is a section: a
heading and what stands under it; the stamp is a comment at the end of the Chinese section.
"""

import hashlib
import re
from itertools import zip_longest
from typing import NamedTuple

from pages import Wrong

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


def alike(english, chinese):
    """Whether lists of blocks say the same; of a console, comments, --lang and Chinese answers may differ."""
    return len(english) == len(chinese) and all(map(same_block, english, chinese))


def same_block(english, chinese):
    if english == chinese or not str(english).startswith("```console"):
        return english == chinese
    lines = [re.sub(r"( --lang zh)? *( # .*)?$", "", block, flags=re.M) for block in (english, chinese)]
    if re.search(r"[\u4e00-\u9fff]", lines[1]):
        lines = [re.findall(r"^\$ .*", block, re.M) for block in lines]
    return lines[0] == lines[1]


def differences(chapter):
    """Where a Chinese cell is not what the English one above it is, one line each."""
    english = "\n".join(cell.text for cell in chapter.cells if cell.kind != "zh")
    return compare(pairs(chapter), english)


def compare(texts, whole):
    """Where the Chinese of some (heading, English, Chinese) is not what the English is, one line each.

    whole: all English text. Every number in English prose is also in its Chinese; one more in Chinese is
    somewhere in the whole.
    """
    found = []
    known = set(re.findall(r"\d+(?:\.\d+)?", whole.replace(",", "")))
    known |= {str(n) for n, word in enumerate(WORDS) if word in whole.lower()}
    for heading, english, chinese in texts:
        where = f"line {chinese.line}: section {heading!r}"
        if chinese.stamp and chinese.stamp != digest(english.text):
            found.append(
                f"{where}: the English text has changed; compare the Chinese, then render.py --stamp"
            )
        for what, parts in (("headings", headings), ("code", code), ("figures", figures)):
            here, there = parts(english.text), parts(chinese.text)
            if not alike(here, there):
                found.append(f"{where}: {what}: {there} in Chinese, {here} in English")
        here, there = numbers(english.text), numbers(chinese.text)
        if missing := sorted(here - there):
            found.append(f"{where}: numbers that the Chinese text lacks: {', '.join(missing)}")
        if added := sorted(there - here - known):
            found.append(f"{where}: numbers that no English text has: {', '.join(added)}")
    return found


def stamped(chapter):
    """The source with each Chinese cell's header naming the English text above it, as it is now."""
    stamps = iter([digest(english.text) for _, english, _ in pairs(chapter)])
    header = re.compile(r"^# %% \[markdown\] zh( [0-9a-f]{6})?$", re.M)
    return header.sub(lambda _: f"# %% [markdown] zh {next(stamps)}", chapter.source)


# ---- pages without a chapter -----------------------------------------------------------------------------

STAMP = re.compile(r"\n*<!-- en: ([0-9a-f]{6}) -->\s*\Z")
BAR = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n+", re.M)  # the link to the other language


class Section(NamedTuple):
    line: int
    text: str
    stamp: str = ""


def written(folder):
    """{name: (English path, Chinese path)} of pages that no chapter makes; README.zh.md is written freely."""
    found = {path.name.removesuffix(".zh.md"): path for path in sorted(folder.glob("*.zh.md"))}
    return {
        name: (path.with_name(f"{name}.md"), path)
        for name, path in found.items()
        if name != "README" and not path.with_name(f"{name}.py").exists()
    }


def sections(text):
    """The Sections of a page. Headings inside of code do not count."""
    blanked = FENCED.sub(lambda block: re.sub(r"[^\n]", " ", block.group()), text)
    starts = [0, *(match.start() for match in re.finditer(r"^#+ ", blanked, re.M) if match.start())]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        part, stamp = text[start:end], STAMP.search(text[start:end])
        body = BAR.sub("", STAMP.sub("", part))
        yield Section(text[:start].count("\n") + 1, body.strip(), stamp[1] if stamp else "")


def page_differences(english, chinese):
    """As `differences`, for the paths of a page without a chapter."""
    whole, other = (path.read_text(encoding="utf-8") for path in (english, chinese))
    here, there = [*sections(whole)], [*sections(other)]
    found, texts = [], []
    for path, text, target, word in ((english, whole, chinese, "中文"), (chinese, other, english, "English")):
        if f"\n[{word}]({target.name})\n" not in text:
            found.append(f"{path.name} has no line with a link to {target.name}")
    for a, b in zip_longest(here, there):
        if a is None or b is None or headings(a.text)[:1] != headings(b.text)[:1]:
            heading = (a or b).text.partition("\n")[0].lstrip("# ")
            return [*found, f"line {(b or a).line}: section {heading!r}: its twin is missing"]
        heading = a.text.partition("\n")[0].lstrip("# ")
        if not b.stamp:
            found.append(f"line {b.line}: section {heading!r}: it has no stamp; render.py --stamp writes it")
        texts.append((heading, a, b))
    return found + compare(texts, whole)


def stamped_page(english, chinese):
    """The Chinese page with a stamp at the end of each section. Raises Wrong if one has more sections."""
    here, there = ([*sections(path.read_text(encoding="utf-8"))] for path in (english, chinese))
    if len(here) != len(there):
        raise Wrong(f"{chinese.name} has {len(there)} sections, {english.name} {len(here)}")
    lines = chinese.read_text(encoding="utf-8").split("\n")
    starts = [section.line - 1 for section in there] + [len(lines)]
    parts = []
    for a, start, end in zip(here, starts[:-1], starts[1:], strict=True):
        part = STAMP.sub("", "\n".join(lines[start:end])).rstrip()
        parts.append(f"{part}\n\n<!-- en: {digest(a.text)} -->")
    return "\n\n".join(parts) + "\n"
