"""The five sentences of chapter 05, in each language."""

import pytest

from minglm.course.chapters.three_families import SENTENCES, fig_two_ways, five_sentences, said
from minglm.course.words import LANGUAGES, of_toys
from minglm.errors import MinglmError


def in_language(language, monkeypatch):
    monkeypatch.setenv("MINGLM_LANG", language)
    return five_sentences()


def test_the_five_sentences_are_alike_word_for_word_in_every_language(monkeypatch):
    assert tuple(SENTENCES) == LANGUAGES
    shapes = []
    for language in LANGUAGES:
        begin, corpus = in_language(language, monkeypatch)
        words = [*begin, *(word for filling, right in corpus for word in (*filling, "|", *right))]
        first = {word: n for n, word in reversed([*enumerate(words)])}  # where each word was first
        shapes.append([first[word] for word in words])
    assert shapes[1:] == shapes[:-1] and len(set(shapes[0])) == 14


def test_the_figure_names_pairs_that_no_sentence_has(monkeypatch):
    for language, pair in (("en", "red tea"), ("zh", "牛浆")):
        begin, corpus = in_language(language, monkeypatch)
        assert pair not in [said(filling) for filling, _ in corpus]
        fig = fig_two_ways(begin, corpus, corpus[0][1])
        assert f"{pair}\n1/4" in [text.get_text() for text in fig.axes[0].texts] and pair in fig.alt_text


def test_a_language_that_no_toy_has_is_one_line():
    assert of_toys({}) == of_toys({"MINGLM_LANG": "", "LANG": "zh_CN.UTF-8"}) == "en"
    with pytest.raises(MinglmError, match="MINGLM_LANG='fr' is not accepted; it is one of en, zh"):
        of_toys({"MINGLM_LANG": "fr"})
