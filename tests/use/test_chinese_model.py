"""The small Chinese model: where --model box-zh looks, what its recipe chooses, and what it can do."""

import importlib.util
import re

import pytest
from conftest import ROOT

from minglm.files.checkpoint import model_folder, verify
from minglm.files.jsonl import read_rows
from minglm.measure.evaluate import evaluate_everyday
from minglm.use import models
from minglm.use.models import read_model

FOLDER = ROOT / "tutorials" / "box-zh"
EVERYDAY = ROOT / "tutorials" / "data" / "everyday_zh" / "dev.jsonl.xz"
clone = pytest.mark.skipif(not EVERYDAY.is_file(), reason="in a clone, not beside an installed package")


@pytest.fixture
def recipe():
    spec = importlib.util.spec_from_file_location("box_zh", ROOT / "tutorials" / "box_zh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_it_is_missing_one_line_says_where_it_comes_from(minglm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "CHINESE", models.CHINESE[:1])
    done = minglm("fill", "我每天早上喝一杯[MASK]。", "--model", "box-zh")
    assert done.code == 2 and done.out == "" and done.err.count("\n") == 1
    assert "box-zh: no such folder" in done.err and "tutorials/box_zh.py" in done.err


def test_a_folder_of_the_users_own_comes_first(minglm, tmp_path, monkeypatch, small_run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box-zh").symlink_to(small_run)
    assert models.named("box-zh") == "box-zh" and models.named("runs/x") == "runs/x"
    done = minglm("fill", "Anna went to the [MASK] of Ben.", "--model", "box-zh")
    assert done.code == 0 and done.out.startswith("Anna went to the")


@clone
def test_the_recipe_reads_both_kinds_of_lists(recipe, tmp_path):
    export, pairs = tmp_path / "cmn_sentences.tsv", tmp_path / "cmn.txt"
    export.write_text("1\tcmn\t我该去睡觉了。\n2\tjpn\tきみに\n", encoding="utf-8")
    pairs.write_text("\ufeffHi.\t你好。\tCC-BY 2.0 (France)\nRun!\t跑！\n", encoding="utf-8")
    assert list(recipe.read_sentences(export)) == ["我该去睡觉了。"]
    assert list(recipe.read_sentences(pairs)) == ["你好。", "跑！"]


@clone
def test_the_recipe_leaves_out_other_scripts_rare_characters_and_the_everyday_sentences(recipe):
    row = next(iter(read_rows(EVERYDAY).values()))
    asked = row["text"].replace("[MASK]", row["accept"][0])
    usual = ["你在干什么啊?", "你 在干什么啊？", "我喜欢Linux。"]
    read = [*usual, asked, *(f"{asked}第{n}次" for n in range(99)), "他喜欢鼹鼠。"]
    simplified = {"甚": "什"}
    recipe.RARE = 1
    chosen = recipe.simple_sentences(read, lambda text: text.translate(str.maketrans(simplified)))
    assert chosen.count("你在干什么啊？") == 1 and len(chosen) == 101
    assert asked not in chosen and "我喜欢Linux。" not in chosen and "他喜欢鼹鼠。" in chosen
    assert recipe.simple_sentences(reversed(read), str) == chosen
    recipe.RARE = 2
    assert "他喜欢鼹鼠。" not in recipe.simple_sentences(read, str)


@clone
def test_an_interrupted_run_of_the_recipe_is_continued(recipe, tmp_path):
    first = recipe.command(tmp_path / "texts", tmp_path)
    assert first[:3] == ["pretrain", "--preset", "page"] and "--resume" not in first
    (tmp_path / "run.toml").touch()
    assert recipe.command(tmp_path / "texts", tmp_path) == ["pretrain", "--out", str(tmp_path), "--resume"]
    (tmp_path / "evaluation.json").touch()
    assert recipe.command(tmp_path / "texts", tmp_path) is None


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
