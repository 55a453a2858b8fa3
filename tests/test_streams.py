"""With any streams and any environment, a command works or says in one line what is missing."""

import io
import json
import os
import subprocess
import sys
import threading

import pytest
from conftest import SMALL, command

from minglm.cli import main
from minglm.data.corpus import cache_folder
from minglm.errors import MinglmError, note
from minglm.streams import open_closed, usable_streams
from minglm.train.config import resolve
from minglm.train.distributed import Interrupt, World, is_first, local_rank, processes
from minglm.train.pretrain import pretrain
from minglm.use.models import load, newest_run, the_model

CHINESE = "起初 😀"


def tiny(text_file, **more):
    values = {name.removeprefix("--"): value for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)}
    values = {
        {"batch-tokens": "train.batch_tokens", "dtype": "train.dtype"}.get(k, k): v for k, v in values.items()
    }
    return resolve(
        overrides=values | {"data.text": [str(text_file)], "train.steps": 2, "train.eval_every": 1} | more
    )


# ---- closed streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("closed", "most"), [("stdout", 99), ("stderr", 5)])
def test_every_command_works_with_a_closed_stream(closed, most, monkeypatch, small_run, text_file, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good", "label": "positive"}\n{"text": "bad", "label": "negative"}\n')
    on = ("--model", small_run)
    commands = [
        (
            "pretrain",
            "--text",
            text_file,
            "--steps",
            2,
            "--train.eval_every",
            1,
            "--out",
            tmp_path / "run",
            *SMALL,
        ),
        ("pretrain", "--out", tmp_path / "run", "--resume"),
        ("pretrain", "--print-config"),
        ("fill", "Anna went [MASK].", *on),
        ("fill", "Anna went [MASK].", "--json", "--top", 2, *on),
        ("write", "Anna went", "--stream", *on),
        ("show", "a b c"),
        ("explore", "a b c", "--no-model", "--out", tmp_path / "page.html"),
        ("classify", "--task", "sentiment", "--file", rows, *on),
        ("classify", "--task", "sentiment", "--file", rows, "--out", tmp_path / "said.jsonl", *on),
        ("evaluate", "--task", "sentiment", "--file", rows, *on),
        ("similar", text_file, "bread", *on),
        ("plot", small_run, "--out", tmp_path / "curves.png"),
        (
            "finetune",
            "--task",
            "sentiment",
            "--train",
            rows,
            "--dev",
            rows,
            "--epochs",
            1,
            "--out",
            tmp_path / "tuned",
            *on,
        ),
    ]
    for words in commands[:most]:
        monkeypatch.setattr(sys, closed, None)
        assert main([str(word) for word in words]) == 0, words
    assert (tmp_path / "run" / "evaluation.json").is_file() and rows.read_text().count("\n") == 2
    monkeypatch.setattr(sys, closed, None)
    # an error stays an error, even if nobody can read it
    assert main(["fill", "no blank", "--model", str(small_run)]) == 2


@pytest.mark.skipif(os.name != "posix", reason="descriptors of POSIX")
def test_what_is_opened_next_does_not_become_stdout(tmp_path):
    """In a process started with `>&-`, the first opened file would get descriptor 1."""
    words, options = command("explore", "a b c", "--no-model", "--out", tmp_path / "page.html")
    code = "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, **options)
    assert done.returncode == 0 and not done.stderr
    assert (tmp_path / "page.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_a_run_of_ones_own_program_needs_no_streams(monkeypatch, text_file, tmp_path):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    pretrain(tiny(text_file), tmp_path / "run")
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_streams_are_left_as_they_were(monkeypatch):
    monkeypatch.setattr(sys, "stdout", narrow := io.TextIOWrapper(io.BytesIO(), "ascii", errors="strict"))
    with usable_streams():
        open_closed()
        assert sys.stdout is narrow and narrow.errors != "strict"
    assert narrow.errors == "strict"


# ---- narrow and full ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "gb18030"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_what_an_encoding_lacks_is_written_as_json_does(monkeypatch, tmp_path, encoding, errors):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": CHINESE, "label": "positive"}) + "\n")
    bytes_out = io.BytesIO()
    stream = io.TextIOWrapper(bytes_out, encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["classify", "--task", "sentiment", "--file", str(rows)]) == 0
    assert main(["show", CHINESE]) == 0
    stream.flush()
    first, _, rest = bytes_out.getvalue().decode(encoding).partition("\n")
    assert json.loads(first)["text"] == CHINESE and len(rest.splitlines()) > 3


def test_half_a_character_is_no_traceback(monkeypatch, capsys):
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(bytes_out, "utf-8", errors="strict"))
    assert main(["explore", "a b", "--out", "no/\udce4/x.html"]) == 2
    assert rb"no/\udce4/x.html cannot be written" in bytes_out.getvalue()


def test_an_encoding_with_a_way_of_its_own_keeps_it(monkeypatch):
    bytes_out = io.BytesIO()
    stream = io.TextIOWrapper(bytes_out, "ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    with usable_streams():
        print("a起")
    assert bytes_out.getvalue() == b"a?\n"


class Full(io.RawIOBase):
    """A stream on a full disk, or a pipe whose reader has closed it."""

    def __init__(self, error):
        self.error = error

    def writable(self):
        return True

    def write(self, data):
        raise self.error


def full(error):
    return io.TextIOWrapper(io.BufferedWriter(Full(error), 10), "utf-8", write_through=True)


def test_a_full_disk_behind_stdout_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", full(OSError(28, "No space left on device")))
    assert main(["show", "a b c d e"]) == 2
    assert capsys.readouterr().err == "minglm: error: No space left on device\n"
    monkeypatch.setattr(sys, "stdout", full(BrokenPipeError()))
    assert main(["show", "a b c d e"]) == 1 and not capsys.readouterr().err


def test_a_note_that_nobody_can_read_stops_nothing(monkeypatch):
    for error in (OSError(28, "No space left on device"), BrokenPipeError()):
        monkeypatch.setattr(sys, "stderr", full(error))
        note("something")
        assert main(["fill", "no blank", "--model", "gone"]) == 2


@pytest.mark.skipif(os.name != "posix", reason="device nodes of POSIX")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_exit_codes_are_right_when_a_stream_is_on_a_full_device(tmp_path, stream):
    """Python itself would exit with 120, because it flushes once more at the end."""
    from devices import FULL, device

    with open(device(tmp_path / "full", FULL), "wb") as file:
        words, options = command("show", "a b c")
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) | {stream: file}
        assert subprocess.run(words, **quiet, **options).returncode == (2 if stream == "stdout" else 0)


# ---- no home ---------------------------------------------------------------------------------------------


def test_without_a_home_an_error_names_the_setting(monkeypatch, tmp_path):
    def no_entry(*_):
        raise KeyError("uid not found: 4711")

    import pwd

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for setting in ("", "~/cache"):
        with pytest.raises(
            MinglmError, match="there is no home folder; --data.cache DIR .or XDG_CACHE_HOME"
        ) as error:
            cache_folder(setting)
        assert "\n" not in str(error.value)
    assert cache_folder(str(tmp_path)) == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("") == tmp_path / "minglm"


def test_a_cache_that_cannot_be_written_names_the_setting_and_leaves_no_run(
    minglm, monkeypatch, text_file, tmp_path
):
    (tmp_path / "home").touch()  # where not even root can create a folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = ("pretrain", "--text", text_file, "--steps", 1, "--out", tmp_path / "run", *SMALL)
    result = minglm(*words)
    assert result.code == 2 and "cannot be written: Not a directory; --data.cache DIR" in result.err
    assert not (tmp_path / "run").exists()
    assert minglm(*words, "--data.cache", tmp_path / "cache").code == 0


# ---- torchrun's variables --------------------------------------------------------------------------------

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def environment(monkeypatch):
    def put(**values):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    "values",
    [
        {},
        dict(RANK="3"),
        dict(RANK="", LOCAL_RANK="", WORLD_SIZE="", MASTER_ADDR="", MASTER_PORT=""),
        dict(WORLD_SIZE="1"),
        dict(WORLD_SIZE="1", RANK="0", LOCAL_RANK="0", MASTER_ADDR="localhost", MASTER_PORT="1"),
        dict(RANK="x", LOCAL_RANK="2", MASTER_PORT="x"),
    ],
)
def test_what_announces_no_other_process_is_one_process(environment, values):
    environment(**values)
    with processes() as world:
        assert (world.rank, world.size, world.first) == (0, 1, True)
    assert is_first() and local_rank() == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict(WORLD_SIZE="2"), "RANK is not set, and WORLD_SIZE is above 1"),
        (dict(WORLD_SIZE="2", RANK=""), "RANK is not set"),
        (dict(WORLD_SIZE="2", RANK="0"), "MASTER_PORT is not set"),
        (dict(WORLD_SIZE="2", RANK="0", MASTER_PORT="29500"), "MASTER_ADDR is not set"),
        (
            dict(WORLD_SIZE="2", RANK="2", MASTER_PORT="29500", MASTER_ADDR="localhost"),
            "RANK is 2, and WORLD_SIZE is 2",
        ),
        (dict(WORLD_SIZE="2", RANK="-1"), "RANK is '-1'; a whole number >= 0"),
        (dict(WORLD_SIZE="two"), "WORLD_SIZE is 'two'; a whole number >= 1"),
        (dict(WORLD_SIZE="0"), "WORLD_SIZE is '0'"),
    ],
)
def test_half_of_what_torchrun_sets_is_one_line(environment, minglm, tmp_path, values, words):
    environment(**values)
    result = minglm("pretrain", "--out", tmp_path / "run")
    assert (
        result.code == 2 and words in result.err and "torchrun" in result.err and result.err.count("\n") == 1
    )
    assert not (tmp_path / "run").exists()


# ---- threads ---------------------------------------------------------------------------------------------


def test_training_works_outside_the_main_thread(text_file, tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(pretrain(tiny(text_file), tmp_path / "run")))
    thread.start()
    thread.join()
    assert done == [tmp_path / "run"] and (tmp_path / "run" / "evaluation.json").is_file()


def test_handlers_that_python_does_not_know_are_no_traceback(monkeypatch):
    import signal

    before = signal.getsignal(signal.SIGINT)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                signal, "signal", lambda number, handler, real=signal.signal: real(number, handler) and None
            )
            with Interrupt(World(0, 1)):
                pass
    finally:
        signal.signal(signal.SIGINT, before)


# ---- whose model -----------------------------------------------------------------------------------------


def test_a_foreign_model_in_runs_is_passed_over_with_a_note(minglm, monkeypatch, small_run, tmp_path):
    monkeypatch.chdir(tmp_path)
    contents = {"bert": '{"model_type": "bert"}', "broken": "{", "list": "[]", "bare": None}
    for name, config in contents.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "model.safetensors").write_bytes(b"x")
        if config is not None:
            (tmp_path / "runs" / name / "config.json").write_text(config)
    assert newest_run() is None
    result = minglm("fill", "She was very [MASK].")
    assert result.code == 0 and "runs/bert is passed over: its config.json is not one of minglm" in result.err
    assert (
        all(f"runs/{name} is passed over" in result.err for name in contents)
        and str(the_model()) in result.err
    )
    (tmp_path / "runs" / "own").symlink_to(small_run)
    assert newest_run().name == "own" and isinstance(load(None), tuple)
