"""Every sentence that the terminal, the figures and the page share: one table for each language.

    en.py         what the terminal and the figures need, and the page too
    en_page.py    what only the page says
    en_story.py   the story at the page's beginning
    zh*.py        the same in Chinese; a new language has such files, too, and a line in LANGUAGES
    zh_labels.txt what only the figures say, English = Chinese; labels.py looks it up

`{name}` is filled in from a derivation (see ../derivation.py, and derive.js on the page, which gets a
`table` as JSON).
"""

from functools import cache
from importlib.resources import files

from . import en, en_page, en_story, zh, zh_page, zh_story
from .en import AMONG, BECAUSE, CELL, HIDDEN_MEANING, MAY, MEANING, MODELS, NAMES, RULES, STEPS, STORY
from .en_story import CHAPTERS
from .labels import Labels, pairs, parse

__all__ = [
    "AMONG",
    "BECAUSE",
    "CELL",
    "CHAPTERS",
    "HIDDEN_MEANING",
    "LANGUAGES",
    "MAY",
    "MEANING",
    "MODELS",
    "NAMES",
    "RULES",
    "STEPS",
    "STORY",
    "labels",
]


def table(name, sample, page, story):
    """Return all that a page says in one language, as JSON can hold it. name: that of the language."""
    return {
        "language": name,
        "rules": sample.RULES,
        "cell": sample.CELL,
        "because": sample.BECAUSE,
        "may": [sample.MAY[False], sample.MAY[True]],
        "among": [sample.AMONG[False], sample.AMONG[True]],
        "meaning": sample.MEANING | sample.HIDDEN_MEANING,
        "steps": sample.STEPS,
        "step names": sample.STEP_NAMES,
        "models": sample.MODELS,
        **page.PIECES,
        "page": page.PAGE,
        "presets": page.PRESETS,
        "errors": page.ERRORS,
        "lab": page.LAB,
        "siblings": page.SIBLINGS,
        "story": story.CHAPTERS,
    }


LANGUAGES = {"en": table("English", en, en_page, en_story), "zh": table("中文", zh, zh_page, zh_story)}
OF_FIGURES = ("RULES", "BECAUSE", "MEANING", "STEPS", "STEP_NAMES", "MODELS", "STORY")


@cache
def labels(language):
    """Return the Labels of all figures in a language, or None for English."""
    if language == "en":
        return None
    shared = [pairs(getattr(en, name), getattr(zh, name)) for name in OF_FIGURES]
    own = (files(__package__) / f"{language}_labels.txt").read_text(encoding="utf-8")
    return Labels(parse(own), *shared)
