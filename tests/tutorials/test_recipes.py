"""The recipes of the two models: which texts they write, that they go on, what they ship."""

import importlib
import json
import lzma
import os
import shutil
import subprocess
import sys

import pytest
from rendering import TUTORIALS  # finds the modules of tutorials/

from minglm import GLM, MinglmError
from minglm.files.checkpoint import verify
from minglm.files.jsonl import read_rows

box, box_zh = (importlib.import_module(name) for name in ("box", "box_zh"))


def write_stories(folder):
    folder.mkdir()
    for name in ("train", "classics.train"):
        lines = [f"Story {n} of {name}. It ends." for n in range(10)]
        (folder / f"{name}.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    return folder


def test_the_recipe_writes_its_texts_stories_first(tmp_path, capsys):
    box.write_texts(write_stories(tmp_path / "stories"), tmp_path / "texts")
    texts = {
        path.stem: [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (tmp_path / "texts").iterdir()
    }
    assert {name: len(lines) for name, lines in texts.items()} == {
        "train": 10,
        "classics.train": 2,
        "austen": 38,
        "scripture": 91,
        "paraphrase": 500,
        "everyday": 94_370,
    }
    assert texts["train"][3] == "Story 3 of train. It ends."
    assert texts["classics.train"][1] == "Story 5 of classics.train. It ends."
    assert not any("\n\n" in text or not text.strip() for lines in texts.values() for text in lines)
    assert capsys.readouterr().out.count("wrote") == 6


def test_the_recipe_goes_on_where_it_was_stopped(tmp_path):
    texts, run = tmp_path / "texts", tmp_path / "run"
    texts.mkdir()
    for name in ("train", "everyday"):
        (texts / f"{name}.jsonl").touch()
    pretrain = ["pretrain", "--preset", "box", "--text"]
    first, second = str(run / "first"), str(run / "second")
    for stage, words in (
        ("first", [str(texts / "train.jsonl"), "--out", first]),
        ("second", [str(texts), "--init", first, *box.SECOND, "--out", second]),
    ):
        assert box.command(texts, run) == [*pretrain, *words]
        (run / stage).mkdir(parents=True)
        (run / stage / "run.toml").write_text("")
        assert box.command(texts, run) == ["pretrain", "--out", str(run / stage), "--resume"]
        (run / stage / "evaluation.json").write_text("{}")
    assert box.command(texts, run) is None


def test_a_finished_run_is_shipped_halved(small_run, tmp_path):
    folder = tmp_path / "box"
    folder.mkdir()
    for name in ("ORIGIN.md", "CREDITS.tsv"):
        (folder / name).write_text(f"{name} of a person")
    run = tmp_path / "run"
    for stage in ("first", "second"):
        shutil.copytree(small_run, run / stage)
    box.ship_both(run, folder)
    before, after = GLM.from_pretrained(small_run).state_dict(), GLM.from_pretrained(folder).state_dict()
    assert all((before[name].half().float() == after[name]).all() for name in before)
    for file in ("run.toml", "run.first.toml"):
        assert 'text = ["build/box"]' in (folder / file).read_text()
    lines, once = ((made / "metrics.csv").read_text().splitlines() for made in (folder, small_run))
    assert lines[: len(once)] == once and len(lines) == 2 * len(once) - 1
    assert [line.split(",")[0] for line in lines[1:]] == [str(n) for n in range(1, len(lines))]
    assert (folder / "ORIGIN.md").read_text() == "ORIGIN.md of a person" and verify(folder)


def test_the_chinese_recipe_reads_both_kinds_of_lists(tmp_path):
    export, pairs = tmp_path / "cmn_sentences.tsv", tmp_path / "cmn.txt"
    export.write_text("1\tcmn\t我该去睡觉了。\n2\tjpn\tきみに\n", encoding="utf-8")
    pairs.write_text("\ufeffHi.\t你好。\tCC-BY 2.0 (France)\nRun!\t跑！\n", encoding="utf-8")
    assert list(box_zh.read_sentences(export)) == ["我该去睡觉了。"]
    assert list(box_zh.read_sentences(pairs)) == ["你好。", "跑！"]


def test_the_chinese_recipe_leaves_out_other_scripts_rare_characters_and_the_everyday_sentences(monkeypatch):
    row = next(iter(read_rows(box_zh.EVERYDAY).values()))
    asked = row["text"].replace("[MASK]", row["accept"][0])
    usual = ["你在干什么啊?", "你 在干什么啊？", "我喜欢Linux。"]
    read = [*usual, asked, *(f"{asked}第{n}次" for n in range(99)), "他喜欢鼹鼠。"]
    simplified = {"甚": "什"}
    monkeypatch.setattr(box_zh, "RARE", 1)
    chosen = box_zh.simple_sentences(read, lambda text: text.translate(str.maketrans(simplified)))
    assert chosen.count("你在干什么啊？") == 1 and len(chosen) == 101
    assert asked not in chosen and "我喜欢Linux。" not in chosen and "他喜欢鼹鼠。" in chosen
    assert box_zh.simple_sentences(reversed(read), str) == chosen
    monkeypatch.setattr(box_zh, "RARE", 2)
    assert "他喜欢鼹鼠。" not in box_zh.simple_sentences(read, str)


def test_an_interrupted_run_of_the_chinese_recipe_is_continued(tmp_path):
    first = box_zh.command(tmp_path / "texts", tmp_path)
    assert first[:3] == ["pretrain", "--preset", "page"] and "--resume" not in first
    (tmp_path / "run.toml").touch()
    assert box_zh.command(tmp_path / "texts", tmp_path) == ["pretrain", "--out", str(tmp_path), "--resume"]
    (tmp_path / "evaluation.json").touch()
    assert box_zh.command(tmp_path / "texts", tmp_path) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["box.py", "--ship", "--run", "runs/none"], "runs/none/second: no evaluation.json; a finished run"),
        (["box.py", "--stories", "nowhere"], "nowhere/train.txt.xz: cannot be read: No such file"),
        (["box_zh.py", "--ship", "--run", "runs/none"], "runs/none: no evaluation.json; a finished run"),
        (["box_zh.py", "--sentences", "cmn.tsv"], "cmn.tsv: No such file or directory"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words, told, tmp_path):
    command = [sys.executable, TUTORIALS / words[0], *words[1:]]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}  # as a reader has it
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"error: {told}" in done.stderr and not list(tmp_path.rglob("*.jsonl"))


def test_texts_that_were_cut_short_are_written_again(tmp_path):
    stories = write_stories(tmp_path / "stories")
    broken = stories / "classics.train.txt.xz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    texts = tmp_path / "texts"
    with pytest.raises(MinglmError, match="classics.train.txt.xz"):
        box.write_texts(stories, texts)
    assert not texts.exists()
    broken.write_bytes(whole)
    box.write_texts(stories, texts)
    assert (texts / "train.jsonl").is_file()


def test_a_package_that_the_chinese_recipe_needs_is_named(tmp_path, monkeypatch):
    (tmp_path / "cmn.txt").write_text("Hi.\t你好。\tCC-BY\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(MinglmError, match="^jieba is not installed; pip install jieba opencc"):
        box_zh.write_texts([tmp_path / "cmn.txt"], tmp_path / "texts")
    assert not (tmp_path / "texts").exists()
