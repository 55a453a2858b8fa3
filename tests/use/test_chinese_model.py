"""The small Chinese model: where --model box-zh looks, and what it can do."""

import re

import pytest
from conftest import ROOT

from minglm.files.checkpoint import model_folder, verify
from minglm.files.jsonl import read_rows
from minglm.measure.evaluate import evaluate_everyday
from minglm.use.models import read_model

FOLDER = ROOT / "tutorials" / "box-zh"
EVERYDAY = ROOT / "tutorials" / "data" / "everyday_zh" / "dev.jsonl.xz"
clone = pytest.mark.skipif(not EVERYDAY.is_file(), reason="in a clone, not beside an installed package")


@clone
def test_the_everyday_sentences_have_one_blank_and_different_answers():
    rows = read_rows(EVERYDAY).values()
    assert len(rows) == 30 and len({row["text"] for row in rows}) == 30
    for row in rows:
        assert row["text"].count("[MASK]") == 1 and len(set(row["accept"])) == len(row["accept"]) > 0
        assert re.fullmatch("[\u4e00-\u9fff]+", "".join(row["accept"]))


@clone
def test_it_is_small_and_names_its_sources():
    assert verify(model_folder(FOLDER))
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 3_000_000
    origin = (FOLDER / "ORIGIN.md").read_text(encoding="utf-8")
    for words in ("CC BY 2.0 FR", "tatoeba.org", "python tutorials/box_zh.py --sentences"):
        assert words in origin, words


@clone
def test_it_fills_everyday_blanks_as_a_person_would():
    """A lower bound for the score in tutorials/results/README.md, 12 and 21."""
    metrics = evaluate_everyday(*read_model(FOLDER), read_rows(EVERYDAY))["metrics"]
    assert metrics["accuracy"]["value"] >= 8 / 30 and metrics["accuracy_in_five"]["value"] >= 15 / 30
