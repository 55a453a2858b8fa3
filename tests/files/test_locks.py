"""Only one process writes to a folder, whatever path it uses."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

from minglm.errors import MinglmError
from minglm.files.lock import LOCK, claimed, contents, locked
from minglm.train.config import resolve
from minglm.train.pretrain import pretrain

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def test_default_names_are_never_given_twice(tmp_path):
    runs, everybody = tmp_path / "runs", threading.Barrier(8)

    def work(_):
        everybody.wait()
        with claimed(None, "tiny", runs) as folder:
            everybody.wait()
            (folder / "x").touch()
        return folder

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(work, range(8)))
    assert sorted(folders) == [runs / f"tiny-00{n}" for n in range(1, 9)]
    (runs / "tiny-1000").mkdir()
    (runs / "tiny-next").touch()
    with claimed(None, "tiny", runs) as folder:
        assert folder == runs / "tiny-1001"
    with claimed(None, "small", runs) as folder:
        assert folder == runs / "small-001"
    assert not (runs / "tiny-1001").exists() and not (runs / "small-001").exists()


def test_another_spelling_of_a_path_is_the_same_folder(tmp_path, monkeypatch):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to("run")  # it leads nowhere yet
    (elsewhere / "back").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with claimed(run):
        for name in ("run", "./run", "link", "elsewhere/../run", "elsewhere/back/link", run / "."):
            for take in (claimed, locked):
                message = rf"{Path(name)}: process {os.getpid()} is writing it"
                with pytest.raises(MinglmError, match=message) as error, take(name):
                    pass
                assert "\n" not in str(error.value)
        assert contents(run) == []
    assert not run.exists() and (tmp_path / "link").is_symlink()
    with claimed("link") as folder:
        (folder / "x").touch()
    assert sorted(os.listdir(run)) == ["x"]  # the target of the link was created, and no lock remains


def test_only_what_was_made_here_and_is_empty_is_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "deep/er/run"):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path / name):
            raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["mine"] and os.listdir(tmp_path / "mine") == []
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "deep" / "run") as folder:
        (folder / "x").touch()
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "deep" / "run") == ["x"]


@needs_fork
def test_a_lock_ends_with_its_process_even_by_kill_9(tmp_path):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with claimed(tmp_path / "run"):
            os.write(writer, b".")
            signal.pause()
    os.read(reader, 1)
    with pytest.raises(MinglmError, match=f"run: process {child} is writing it"), claimed(tmp_path / "run"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert os.listdir(tmp_path / "run") == [LOCK]  # no process is left to remove it
    with claimed(tmp_path / "run") as folder:
        assert contents(folder) == []
    assert os.listdir(tmp_path / "run") == []


def test_where_a_folder_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    # (an empty name is the current folder)
    for name in ("file", "pipe", "file/run", "x" * 300):
        with pytest.raises(MinglmError, match="cannot be written to: ") as error, claimed(tmp_path / name):
            pass
        assert "\n" not in str(error.value)
    with pytest.raises(MinglmError, match="cannot be written to: "), claimed(None, "tiny", tmp_path / "file"):
        pass
    with (
        pytest.raises(MinglmError, match="gone: cannot be written to: No such file"),
        locked(tmp_path / "gone"),
    ):
        pass


def test_a_disk_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys):
    def refuse(handle):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("minglm.files.lock._take", refuse)
    with claimed(tmp_path / "run") as folder:
        (folder / "x").touch()
    assert "this disk has no locks" in capsys.readouterr().err and os.listdir(tmp_path / "run") == ["x"]


@pytest.mark.parametrize("command", ["pretrain", "resume", "finetune", "compare", "convert"])
def test_every_command_that_writes_a_folder_is_refused_while_another_writes_it(
    command, minglm, small_run, tmp_path
):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good", "label": "positive"}\n{"text": "bad", "label": "negative"}\n')
    held = small_run if command == "resume" else tmp_path / "held"
    before = held.exists() and sorted(os.listdir(held))
    (tmp_path / "link").symlink_to(held)
    words = {
        "pretrain": ("pretrain", *SMALL),
        "resume": ("pretrain", "--resume"),
        "finetune": ("finetune", "--task", "sentiment", "--train", rows, "--dev", rows, "--model", small_run),
        "compare": ("compare", "--quick", "--data", ROOT / "tutorials" / "data"),
        "convert": ("convert", tmp_path / "nothing-to-read"),
    }[command]
    with locked(held) if command == "resume" else claimed(held):
        result = minglm(*words, "--out", tmp_path / "link")
        assert result.code == 2 and result.err.count(" is writing it; ") == 1
        assert result.err.splitlines()[-1].startswith(
            f"minglm: error: {tmp_path / 'link'}: process {os.getpid()} "
        )
    assert (held.exists() and sorted(os.listdir(held))) == before


def test_a_run_keeps_its_folder_until_it_has_ended(text_file, tmp_path):
    values = {name.removeprefix("--"): value for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)}
    values = {
        {"batch-tokens": "train.batch_tokens", "dtype": "train.dtype"}.get(k, k): v for k, v in values.items()
    }
    config = resolve(overrides=values | {"data.text": [str(text_file)], "train.steps": 1})
    refused = []

    def somebody_else(folder):
        for again in (True, False):
            with pytest.raises(MinglmError, match="is writing it"):
                pretrain(config, folder, resume=again)
            refused.append(folder)

    out = pretrain(config, tmp_path / "run", draw_curves=somebody_else)
    assert refused == [out, out] and LOCK not in os.listdir(out)
    assert pretrain(config, out, resume=True) == out


def test_a_model_is_saved_by_one_writer_at_a_time(small_run, tmp_path):
    """Two would remove each other's temporary folder, and none would be saved."""
    from minglm.use.models import read_model

    model, tokenizer = read_model(small_run)
    with claimed(tmp_path / "model"), pytest.raises(MinglmError, match="is writing it"):
        model.save_pretrained(tmp_path / "model", tokenizer)
    model.save_pretrained(tmp_path / "model", tokenizer)
    model.save_pretrained(tmp_path / "model", tokenizer)
    assert os.listdir(tmp_path) == ["model"] and LOCK not in os.listdir(tmp_path / "model")


def test_a_model_that_replaces_its_folder_leaves_no_lock(small_run, tmp_path):
    from minglm.files.checkpoint import save_pretrained
    from minglm.use.models import read_model

    model, tokenizer = read_model(small_run)
    for _ in range(2):  # a new folder, then a saved model
        with claimed(tmp_path / "model") as folder:
            save_pretrained(model, folder, tokenizer)
    assert LOCK not in os.listdir(tmp_path / "model") and os.listdir(tmp_path) == ["model"]
