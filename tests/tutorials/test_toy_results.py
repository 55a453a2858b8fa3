"""What is possible in the toy world, by hand: tutorials/results/toy.py."""

import importlib.util
import json
import re

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def toy():
    path = ROOT / "tutorials" / "results" / "toy.py"
    spec = importlib.util.spec_from_file_location("toy_results", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("family", "question", "p"),
    [
        ("gpt", "The [MASK] lives on the farm and eats mice.", 5 / 117),  # before any clue
        ("bert", "The [MASK] lives on the farm and eats mice.", 1),
        ("gpt", "The fox lives in the forest and eats [MASK].", 1 / 2),
        ("bert", "The fox lives in the forest and eats [MASK].", 1 / 4),  # red and berries, each 1/2
    ],
)
def test_the_ideal_reader_knows_what_its_mask_shows(toy, family, question, p):
    for tokens, spans, _ in toy.told_lengths(question):
        assert toy.ideal(family, tokens, spans) == pytest.approx(p)


def test_the_likeliest_sentence_is_found_from_its_food_and_not_from_its_animal(toy):
    for question in toy.questions()["animal and food"]:
        assert toy.ideal_order(question, False) == 0 and toy.ideal_order(question, True) == 1


def test_greedy_ties_are_broken_by_chance(toy):
    paths = {(1, 5): 2, (2, 6): 2, (3, 7): 1}
    assert toy.greedy_share(paths, {(1, 5), (3, 7)}) == 0.5


def test_no_question_is_in_the_text_that_is_read(toy):
    read = {tuple(tokens) for tokens in toy.READ}
    for texts in toy.questions().values():
        assert not any(tuple(tokens) in read for text in texts for tokens, *_ in toy.answers(text))


@pytest.mark.parametrize(
    "name",
    ["README.md", "README.zh.md", "tutorials/05_three_families.md", "tutorials/05_three_families.zh.md"],
)
def test_sentences_about_the_order_of_blanks_have_the_measured_numbers(name):
    glm = json.loads((ROOT / "tutorials/results/toy.json").read_text(encoding="utf-8"))["table"]["glm"]
    text = (ROOT / name).read_text(encoding="utf-8")
    for order in ("in order", "last first"):
        assert re.search(rf"(?<!\d){glm[order]['score']:.0f} %", text), order
