"""What `minglm course` says, in the reader's language: English is in the code, zh.toml has it in Chinese.

A text is looked up by its English. So a language is added in one place: one file, and its name in LANGUAGES.
A chapter whose toy exists in each language (chapters/three_families.py) asks `of_toys` for its language.
"""

import os
import re
import textwrap
import tomllib
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from ..errors import MinglmError
from ..viz.columns import display_width

LANGUAGES = ("en", "zh")
TUTORIALS = Path(__file__).parents[2] / "tutorials"
OTHERS = "other programs"  # the part of a table with what tell_again translates
_language = ContextVar("language", default="en")


@contextmanager
def speaking(language):
    """Speak one of LANGUAGES in the block."""
    token = _language.set(language)
    try:
        yield
    finally:
        _language.reset(token)


def from_environment(environ=os.environ):
    """The language of the locale: by the first of LC_ALL, LC_MESSAGES and LANG that is set."""
    names = [environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)]
    return names[0][:2] if names and names[0][:2] in LANGUAGES else "en"


def of_toys(environ=os.environ):
    """The language of a chapter's toy: MINGLM_LANG, which render.py sets for a Chinese page, else English.

    The locale does not count, because a chapter and its notebook are in English. Raises MinglmError.
    """
    language = environ.get("MINGLM_LANG") or "en"
    if language not in LANGUAGES:
        raise MinglmError(f"MINGLM_LANG={language!r} is not accepted; it is one of {', '.join(LANGUAGES)}")
    return language


@cache
def tables(language):
    """{part: {English: text}} of a language other than English."""
    if language == "en":
        return {}
    return tomllib.loads(Path(__file__).with_name(f"{language}.toml").read_text(encoding="utf-8"))


@cache
def texts(language):
    """{English: text} of a language."""
    return {english: text for part in tables(language).values() for english, text in part.items()}


def tell(text, /, **values):
    """A text in the language that is spoken; its {names} get these values."""
    text = texts(_language.get()).get(text, text)
    return text.format(**values) if values else text


def page(name):
    """A page of tutorials/ in the language that is spoken, where a clone has it; else in English."""
    other = name.replace(".md", f".{_language.get()}.md")
    return other if (TUTORIALS / other).is_file() else name


# ---- what other programs say -----------------------------------------------------------------------------


@cache
def patterns(language):
    """[(pattern of an English text, the text)] of what other programs say."""
    found = tables(language).get(OTHERS, {}).items()
    return [(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(english)), text) for english, text in found]


def tell_again(text):
    """What another program said (the emulator, argparse), as far as the language has it."""
    for pattern, template in patterns(_language.get()):
        if match := re.fullmatch(pattern, text, re.S):
            return template.format(**{name: tell_again(value) for name, value in match.groupdict().items()})
    return text


# ---- source code -----------------------------------------------------------------------------------------

DOC = re.compile(r'"""(.*?)"""', re.S)
COMMENT = re.compile(r"^((?:#|//) )(?!----)(.*(?:\n\1.*)*)$", re.M)
TITLE = re.compile(r"^(#|//) ---- (.+?) -+$", re.M)
BEHIND = re.compile(r"(?<=\S)  (#|//) (.+)$", re.M)


def paragraphs(text):
    """The keys of a source's paragraphs: of its descriptions, its comments, and its titles."""
    for doc in DOC.findall(text):
        yield from map(key, re.split(r"\n *\n", doc))
    for pattern in (COMMENT, TITLE, BEHIND):
        for mark, comment in pattern.findall(text):
            yield key(comment.replace(f"\n{mark}", "\n"))


def key(text):
    return " ".join(text.split())


def translated(source):
    """Python or C++ source with its descriptions and comments in the language that is spoken."""
    if _language.get() == "en":
        return source

    def description(match):
        start = source.rfind("\n", 0, match.start()) + 1
        return f'"""{paragraphs_in(match[1], " " * (match.start() - start))}"""'

    source = DOC.sub(description, source)
    source = TITLE.sub(title, COMMENT.sub(block, source))
    return BEHIND.sub(lambda m: f"  {m[1]} {tell(m[2])}", source)


def block(match):
    mark = match[1]
    return mark + comment(match[2].replace(f"\n{mark}", "\n")).replace("\n", f"\n{mark}")


def comment(text):
    return tell(key(text)) if key(text) in texts(_language.get()) else text


def title(match):
    head = f"{match[1]} ---- {tell(match[2])} "
    return head + "-" * (display_width(match[0]) - display_width(head))


def paragraphs_in(doc, indent):
    """A description; a paragraph without a translation (loops) stays, an example gets its word."""
    parts = []
    for part in re.split(r"\n *\n", doc):
        found = comment(part.strip())
        example = part.strip().removeprefix("Example: ")
        if found == part.strip() != example:
            found = tell("Example: {example}", example=example)
        begin, end = re.match(r"\s*", part)[0], re.search(r"\s*$", part)[0]
        if found != part.strip():
            found = found.lstrip().replace("\n", f"\n{indent}")
        parts.append(begin + found + end)
    return "\n\n".join(parts)


def written_in(text):
    """The language in which a reader's file begins."""
    start = "".join(text[:2000].split())
    for language in LANGUAGES[1:]:
        heads = tables(language)["heads"].values()
        if any("".join(head.split()) in start for head in heads):
            return language
    return "en"


# ---- lines -----------------------------------------------------------------------------------------------


def wrapped(text, width=100):
    """A text in lines of at most `width` columns. Chinese breaks anywhere, except in front of a mark."""
    if len(text) == display_width(text):
        return textwrap.wrap(text, width)
    lines = [""]
    for piece in re.findall(r"[（“「《]*(?:[!-~]+|[^\s])[，。、：；！？）”」》]*|\s+", text):
        if lines[-1].strip() and display_width(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines if line.strip()]
