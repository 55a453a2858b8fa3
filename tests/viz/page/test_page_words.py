"""The tables of words: every language says the same things, with the same names to fill in."""

import re

import pytest
from explorer_page import leaves

from minglm.viz.words import LANGUAGES

ENGLISH = LANGUAGES["en"]


def names(text):
    return set(re.findall(r"\{(\w+)\}", text)) if isinstance(text, str) else text


@pytest.mark.parametrize("language", LANGUAGES.keys() - {"en"})
def test_a_language_has_the_keys_and_the_placeholders_of_english(language):
    ours, theirs = leaves(ENGLISH), leaves(LANGUAGES[language])
    assert theirs.keys() == ours.keys()
    wrong = {key: (ours[key], theirs[key]) for key in ours if names(ours[key]) != names(theirs[key])}
    # subtle: a name may be repeated or moved, but "none" and "" stay what they are
    assert wrong == {}


def test_no_sentence_is_left_in_english():
    """Four words in a row are no name. The story's sentence is English: the bundled model reads only that."""
    example = {("story", "text"), ("story", "blank")}
    for key, text in leaves(LANGUAGES["zh"]).items():
        if isinstance(text, str) and key[:2] not in example:
            assert not re.search(r"[A-Za-z']{2,}([ ,]+[A-Za-z']{2,}){3}", text), (key, text)
