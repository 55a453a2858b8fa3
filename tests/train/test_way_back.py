"""A run that dies at any moment can be resumed, or leaves its folder free for a new run."""

import csv
import io
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import SMALL, TEXT, Forked, dies_at, thorough

import minglm.files.checkpoint
from minglm.cli import main
from minglm.errors import MinglmError, how_to_install
from minglm.files.checkpoint import Checkpoints
from minglm.train.config import resolve
from minglm.train.folders import clear_unbegun, resumed_settings, run_settings

STEPS = ("--steps", "3", "--train.save_every", "2", "--train.eval_every", "9", "--train.sample_every", "2")


def words(text, out, *more):
    return [str(word) for word in ("pretrain", "--text", text, "--out", out, *SMALL, *STEPS, *more)]


def losses(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(text_file, tmp_path_factory):
    """Three steps without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(text_file, out)) == 0
    return out


# ---- ended before it began -------------------------------------------------------------------------------


def no_text(text_file, tmp_path, monkeypatch):
    return words(tmp_path / "gone.txt", tmp_path / "deep" / "run"), "gone.txt: no such file"


def no_document(text_file, tmp_path, monkeypatch):
    (tmp_path / "short.txt").write_text("a")
    return words(tmp_path / "short.txt", tmp_path / "deep" / "run"), "no document of 4 tokens"


def no_tensorboard(text_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    return words(text_file, tmp_path / "deep" / "run", "--log", "tensorboard"), how_to_install("tensorboard")


def no_gpu(text_file, tmp_path, monkeypatch):
    return words(text_file, tmp_path / "deep" / "run", "--device", "cuda:7"), "train.device: cuda:7"


def full_disk(name):
    def cause(text_file, tmp_path, monkeypatch):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(name, full)
        return words(text_file, tmp_path / "deep" / "run"), "No space left on device"

    return cause


def ctrl_c(text_file, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minglm.train.pretrain.sources", interrupted)
    return words(text_file, tmp_path / "deep" / "run"), "interrupted"


def no_settings(text_file, tmp_path, monkeypatch):
    def full(path, text, write=minglm.train.pretrain.write_whole):
        if path.name == "run.toml":
            raise MinglmError(f"{path}: cannot be written: No space left on device")
        write(path, text)

    monkeypatch.setattr("minglm.train.pretrain.write_whole", full)
    return words(text_file, tmp_path / "deep" / "run"), "run.toml: cannot be written"


FULL_DISKS = [full_disk("torch.save"), full_disk("minglm.files.whole.sha256_of")]
CAUSES = [no_text, no_document, no_tensorboard, no_gpu, *FULL_DISKS, ctrl_c, no_settings]


@pytest.mark.parametrize("cause", CAUSES)
def test_a_run_that_did_not_begin_leaves_nothing(cause, text_file, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        told, reason = cause(text_file, tmp_path, patch)
        before = sorted(os.listdir(tmp_path))
        assert main(told) in (2, 130)
    said = capsys.readouterr().err
    assert reason in said and "Traceback" not in said
    assert sorted(os.listdir(tmp_path)) == before  # not even the folder around it


def test_a_default_name_is_not_used_up_by_a_run_that_did_not_begin(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = [word for word in words("gone.txt", "x") if word not in ("--out", "x")]
    for _ in range(2):
        assert main(told) == 2
    assert os.listdir(tmp_path) == []
    told[told.index("gone.txt")] = str(text_file)
    assert main([*told, "--stop-at", "1"]) == 0
    assert os.listdir("runs") == ["tiny-001"] and "run         runs/tiny-001" in capsys.readouterr().out


def test_an_empty_folder_that_was_there_stays(text_file, tmp_path):
    (tmp_path / "mine").mkdir()
    assert main(words(tmp_path / "gone.txt", tmp_path / "mine")) == 2
    assert os.listdir(tmp_path) == ["mine"] and os.listdir(tmp_path / "mine") == []


# ---- killed ----------------------------------------------------------------------------------------------

CALLS = "mkdir", "rename", "replace", "fsync", "link", "unlink"


def killed_at(number, told):
    """Run a command in a process that dies, as by kill -9, at its n-th disk call -> whether it did."""
    return Forked(lambda: dies_at(number, CALLS) or main(told)).wait().returncode == -signal.SIGKILL


@pytest.mark.parametrize("start", [1, *(pytest.param(start, marks=thorough) for start in (4, 7))])
def test_a_run_killed_at_any_moment_goes_on_or_begins_again(text_file, whole, tmp_path, start, capsys):
    """With the losses of an undisturbed run. Tries every third disk call, up to the first steps."""
    ways = {}
    for number in range(start, 48, 9):
        out = tmp_path / str(number)
        assert killed_at(number, words(text_file, out, "--steps", "1"))
        capsys.readouterr()
        if main(words(text_file, out, "--steps", "1", "--resume")) == 0:
            ways[number] = "on"
        else:
            assert "no run.toml" in capsys.readouterr().err
            assert main(words(text_file, out, "--steps", "1")) == 0
            ways[number] = "again"
        assert [step for step, _ in losses(out)] == ["1"] and losses(out)[0][1] == losses(whole)[0][1]
        assert not [name for name in os.listdir(out) if name.startswith(".")]
        shutil.rmtree(out)
    assert list(ways.values()) == sorted(ways.values()) and set(ways.values()) == {
        "again",
        "on",
    }  # first again, then on


def test_settings_without_a_checkpoint_begin_at_step_0(text_file, whole, tmp_path):
    """The files that an earlier version left when it was killed."""
    out = tmp_path / "run"
    for lines in (None, "header", "one step"):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        shutil.copy(whole / "run.toml", out)
        table = (whole / "metrics.csv").read_text().splitlines(keepends=True)
        if lines:
            (out / "metrics.csv").write_text("".join(table[: 1 if lines == "header" else 2]))
        if lines == "one step":  # something is lost here, which must be reported
            assert main(["pretrain", "--out", str(out), "--resume"]) == 2
        else:
            assert main(["pretrain", "--out", str(out), "--resume"]) == 0
            assert losses(out) == losses(whole)


def test_only_the_beginning_of_a_run_is_ever_cleared_away(whole, tmp_path):
    for change in (
        lambda out: (out / "notes.txt").touch(),
        lambda out: (out / "checkpoints" / "epoch-3.ckpt").touch(),
        lambda out: (out / "checkpoints" / "step-00000000").rename(out / "checkpoints" / "step-00000001"),
        lambda out: shutil.copy(whole / "run.toml", out),
        lambda out: shutil.rmtree(out / "checkpoints"),  # a saved model
    ):
        out = tmp_path / "run"
        (out / "checkpoints" / "step-00000000").mkdir(parents=True)
        (out / "checkpoints" / "last").touch()
        for name in ("model.safetensors", "config.json", "tokenizer.json", ".tmp-config.json"):
            (out / name).touch()
        change(out)
        before = sorted(path for path in out.rglob("*"))
        clear_unbegun(out)
        assert sorted(path for path in out.rglob("*")) == before
        shutil.rmtree(out)
    (out / "checkpoints" / ".tmp-step-00000000").mkdir(parents=True)
    clear_unbegun(out)
    assert os.listdir(out) == []


# ---- typed again -----------------------------------------------------------------------------------------


def test_what_was_typed_may_be_typed_again_with_resume(text_file, whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert main(words(text_file, out, "--stop-at", "1")) == 0
    monkeypatch.chdir(Path(text_file).parent)
    assert (
        main(words(Path(text_file).name, out, "--resume", "--preset", "tiny")) == 0
    )  # the same text by another path
    assert losses(out) == losses(whole)
    capsys.readouterr()
    for more, both in (
        (("--steps", "7"), "train.steps: 7 is given, and {} was started with 3"),
        (("--lr", "1"), "train.lr: 1.0 is given, and {} was started with 0.0015"),
        (("--preset", "small"), "preset: small is given, and {} was started with tiny"),
        (("--objective", "gpt"), "model.family: gpt is given, and {} was started with glm"),
        (("--model.vocab_size", "300"), "model.vocab_size: 300 is given, and {} was started with 391"),
    ):
        assert main(["pretrain", "--out", str(out), "--resume", *more]) == 2
        assert both.format(out) in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert main(["pretrain", "--out", str(out), "--resume", "--init", str(whole)]) == 2
    assert "--init" in capsys.readouterr().err


def test_what_a_run_decides_when_it_begins_may_be_typed_again(whole, capsys):
    said = {"train.dtype": "auto", "train.minutes": "5", "model.vocab_size": "4096", "train.steps": "3"}
    assert resumed_settings(whole, said) == run_settings(whole)
    notes = capsys.readouterr().err
    assert "train.dtype: auto was decided when the run began: float32" in notes and "train.steps 3" in notes
    with pytest.raises(MinglmError, match="train.dtype: bfloat16 is given, and .* was started with float32"):
        resumed_settings(whole, {"train.dtype": "bfloat16"})


def test_a_file_of_settings_is_compared_too(whole, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nsteps = 3\n")
    assert resumed_settings(whole, {}, file=file) == run_settings(whole)
    assert resumed_settings(whole, {}, file=whole / "run.toml") == run_settings(whole)
    file.write_text("[train]\nsteps = 4\n")
    with pytest.raises(MinglmError, match="train.steps: 4 is given"):
        resumed_settings(whole, {}, file=file)
    assert resumed_settings(whole, {"train.steps": "3"}, file=file) == run_settings(
        whole
    )  # the command line overrides it


def test_a_run_whose_text_has_moved_says_how_to_go_on(whole, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    text, moved, other = tmp_path / "a" / "t.txt", tmp_path / "b" / "u.txt", tmp_path / "other.txt"
    text.write_text(TEXT, encoding="utf-8")
    other.write_text(TEXT.replace("bread", "cake"), encoding="utf-8")
    out = tmp_path / "run"
    assert main(words(text, out, "--stop-at", "1")) == 0
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / "t.txt").rename(moved)
    capsys.readouterr()
    assert main(["pretrain", "--out", str(out), "--resume"]) == 2
    said = capsys.readouterr().err
    assert f"{text}: no such file" in said and f"minglm pretrain --out {out} --resume --text PATH" in said
    assert main(["pretrain", "--out", str(out), "--resume", "--text", str(other)]) == 2
    said = capsys.readouterr().err
    assert f"{other} is another text than {text}" in said and resolve(file=out / "run.toml").data.text == (
        str(text),
    )
    assert main(["pretrain", "--out", str(out), "--resume", "--text", str(moved), "--stop-at", "2"]) == 0
    assert main(["pretrain", "--out", str(out), "--resume"]) == 0  # it is remembered
    assert losses(out) == losses(whole)


def test_the_header_of_the_table_is_there_from_the_first_moment(text_file, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minglm.train.pretrain.train", stop)
    assert main(words(text_file, tmp_path / "run")) == 130
    assert Checkpoints(tmp_path / "run").steps() == [0]
    assert (tmp_path / "run" / "metrics.csv").read_text().startswith("step,loss,")


def test_a_disk_that_fills_under_way_is_named_and_the_run_goes_on_later(
    text_file, whole, tmp_path, monkeypatch, capsys
):
    out, lines = tmp_path / "run", []

    class Full(io.TextIOWrapper):
        def flush(self):
            lines.append(1)
            if len(lines) > 2:  # the header, step 1, ...
                raise OSError(28, "No space left on device")
            super().flush()

    def opened(path, mode="r", **options):
        if Path(path).name == "metrics.csv" and mode == "a":
            return Full(open(path, "ab"), encoding="utf-8", newline="")
        return open(path, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr("minglm.train.pretrain.open", opened, raising=False)
        assert main(words(text_file, out)) == 2
    said = capsys.readouterr().err
    assert (
        f"{out / 'metrics.csv'}: cannot be written: No space left on device; --resume" in said
        and "Traceback" not in said
    )
    assert main(words(text_file, out, "--resume")) == 0 and losses(out) == losses(whole)
