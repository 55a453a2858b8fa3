"""Outputs are written through links and into pipes and devices, and never replace them."""

import errno
import json
import os
import stat
import sys
import threading
from types import SimpleNamespace

import pytest
from conftest import ROOT
from devices import FULL, NULL, device

from minglm.errors import MinglmError
from minglm.files.jsonl import read_rows
from minglm.files.whole import check_writable, cut_back, is_stdout, write_whole

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")


def read_from(pipe):
    """Reads a named pipe in another thread; .bytes after .end()."""
    os.mkfifo(pipe)
    got = SimpleNamespace(bytes=b"")

    def work():
        with open(pipe, "rb") as file:
            got.bytes = file.read()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    got.end = thread.join
    return got


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_run):
    """The input files of the commands."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "rows.jsonl").write_text('{"text": "a fine film", "label": "positive"}\n')
    (folder / "src.jsonl").write_text('{"src": "he saith", "tgt": "he says"}\n')
    (folder / "last.jsonl").write_text('{"context": "The day was", "answer": "long"}\n')
    return folder, small_run


COMMANDS = {  # name of the output: arguments
    "labelled.jsonl": lambda f, run: (
        "classify",
        "--task",
        "sentiment",
        "--file",
        f / "rows.jsonl",
        "--model",
        run,
    ),
    "rewritten.jsonl": lambda f, run: (
        *("rewrite", "--task", "modernise", "--file", f / "src.jsonl", "--model", run, "--max-tokens", 2),
    ),
    "evaluated.jsonl": lambda f, run: (
        "evaluate",
        "--task",
        "last_word",
        "--file",
        f / "last.jsonl",
        "--model",
        run,
    ),
    "page.html": lambda f, run: ("explore", "a b c", "--no-model"),
    "mask.svg": lambda f, run: ("show", "a b c d", "--spans", "1:2", "--figure", "mask"),
    "curves.png": lambda f, run: ("plot", run),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_writes_into_a_pipe_a_device_and_through_links(minglm, files, tmp_path, name):
    words = COMMANDS[name](*files)
    (tmp_path / "there").mkdir()
    (tmp_path / name).symlink_to(f"there/{name}")  # it leads nowhere yet
    result = minglm(*words, "--out", tmp_path / name)
    assert result.code == 0, result.err
    assert (tmp_path / name).is_symlink() and os.listdir(tmp_path / "there") == [name]
    content = (tmp_path / "there" / name).read_bytes()
    assert len(content) > 20

    (tmp_path / "pipes").mkdir()
    got = read_from(tmp_path / "pipes" / name)
    assert minglm(*words, "--out", tmp_path / "pipes" / name).code == 0
    got.end()
    assert stat.S_ISFIFO((tmp_path / "pipes" / name).stat().st_mode) and got.bytes == content

    (tmp_path / "devices").mkdir()
    node = device(tmp_path / "devices" / name, NULL)
    assert minglm(*words, "--out", node).code == 0
    assert stat.S_ISCHR(node.stat().st_mode) and os.listdir(node.parent) == [name]


def test_a_full_device_is_one_line_and_stays_a_device(minglm, files, tmp_path):
    node = device(tmp_path / "full.jsonl", FULL)
    result = minglm(*COMMANDS["labelled.jsonl"](*files), "--out", node)
    assert result.code == 2 and "full.jsonl: cannot be written: No space left on device" in result.err
    assert stat.S_ISCHR(node.stat().st_mode) and result.err.count("error") == 1


def test_links_of_links_are_followed_and_every_one_stays(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "target").write_text("old")
    (tmp_path / "a" / "second").symlink_to("../b/target")
    (tmp_path / "first").symlink_to(tmp_path / "a" / "second")
    write_whole(tmp_path / "first", "new")
    assert (tmp_path / "b" / "target").read_text() == "new" and not (tmp_path / "b" / "target").is_symlink()
    assert (tmp_path / "first").is_symlink() and (tmp_path / "a" / "second").is_symlink()
    (tmp_path / "nowhere").symlink_to("no/such/folder/x")
    with pytest.raises(MinglmError, match="nowhere: cannot be written: No such file.*a folder that exists"):
        write_whole(tmp_path / "nowhere", "x")
    with pytest.raises(MinglmError, match="--out: .*nowhere cannot be written"):
        check_writable("--out", tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(MinglmError, match="circle: cannot be written"):
        write_whole(tmp_path / "circle", "x")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "circle", "first", "nowhere"]


def test_a_file_that_is_replaced_keeps_its_rights_and_a_new_one_gets_the_usual(tmp_path):
    (tmp_path / "secret").write_text("old")
    (tmp_path / "secret").chmod(0o600)
    before = os.umask(0o027)
    try:
        for name in ("secret", "new", "é" * 120):  # 240 bytes: the temporary name cannot be much longer
            write_whole(tmp_path / name, "new")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secret", "new")] == [0o600, 0o640]
    assert (tmp_path / ("é" * 120)).read_text() == "new"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM])
def test_a_file_that_cannot_be_renamed_onto_is_written_where_it_is(tmp_path, monkeypatch, code):
    """For example, a single file that is mounted into a container."""

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    (tmp_path / "mounted").write_text("something older and longer")
    monkeypatch.setattr(os, "replace", refuse)
    write_whole(tmp_path / "mounted", "new")
    assert (tmp_path / "mounted").read_text() == "new" and os.listdir(tmp_path) == ["mounted"]
    with pytest.raises(MinglmError, match="new: cannot be written"):
        write_whole(tmp_path / "new", "x")
    assert os.listdir(tmp_path) == ["mounted"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "x").write_text("old")
    for name in ("fsync", "replace"):
        with (
            monkeypatch.context() as patch,
            pytest.raises(MinglmError, match="x: cannot be written: No space left"),
        ):
            patch.setattr(os, name, full)
            write_whole(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_standard_output_by_another_name_is_standard_output(minglm, files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with open(out, "a", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        (tmp_path / "stdout").symlink_to(out)
        assert is_stdout(tmp_path / "stdout") and not is_stdout(files[0] / "rows.jsonl")
        print("before")
        write_whole(tmp_path / "stdout", "within\n")
        print("behind")
        stream.flush()
        assert out.read_text() == "before\nwithin\nbehind\n"
        stream.truncate(0)
        for name in ("labelled.jsonl", "evaluated.jsonl"):
            assert minglm(*COMMANDS[name](*files), "--out", tmp_path / "stdout").code == 0
    lines = read_rows(out).values()  # and there is no other output
    assert ["predicted" in line for line in lines] == [True, False] and len(lines) == 2


def test_what_is_open_already_is_written_there_and_keeps_what_it_holds(tmp_path, monkeypatch):
    """For example, --out /dev/stderr with 2>> log, or --out /dev/fd/3 with 3>> log."""
    log, link = tmp_path / "log", tmp_path / "link"
    log.write_text("before\n")
    with open(log, "a", encoding="utf-8") as stream, open(log, "a", encoding="utf-8") as other:
        monkeypatch.setattr(sys, "stderr", stream)
        print("a note", file=sys.stderr)
        write_whole(log, "to stderr\n")
        monkeypatch.undo()
        link.symlink_to(f"/dev/fd/{other.fileno()}")
        write_whole(f"/dev/fd/{other.fileno()}", "to another\n")
        write_whole(link, "through a link\n")
        assert log.read_text() == "before\na note\nto stderr\nto another\nthrough a link\n"
    (tmp_path / "3").symlink_to("log")  # a number alone is no descriptor
    write_whole(tmp_path / "3", "new")
    assert log.read_text() == "new" and link.is_symlink()


def test_a_log_is_cut_back_at_line_ends_alone_whatever_a_kill_has_left_in_it(tmp_path):
    path = tmp_path / "samples.jsonl"
    lines = [
        json.dumps(dict(step=step, text="a\u2028b\x85c"), ensure_ascii=False).encode() for step in (1, 2, 3)
    ]
    path.write_bytes(b"\n".join([lines[0], bytes(40), b"[1]", lines[1], lines[2]]) + b"\n" + lines[2][:18])
    cut_back(path, lambda line: json.loads(line)["step"] <= 2)
    assert path.read_bytes() == lines[0] + b"\n" + lines[1] + b"\n"
    path.write_bytes(lines[0] + b"\n" + "起".encode()[:2])
    cut_back(path, lambda line: json.loads(line)["step"] <= 2)
    assert path.read_bytes() == lines[0] + b"\n"


def test_the_picture_of_a_benchmark_goes_where_a_link_points(minglm, tmp_path, monkeypatch):
    result = json.loads((ROOT / "tutorials" / "results" / "attention.json").read_text(encoding="utf-8"))
    monkeypatch.setattr("minglm.bench.attention.run", lambda args: result)
    target, link = tmp_path / "real.png", tmp_path / "link.png"
    target.write_bytes(b"")
    link.symlink_to(target)
    assert minglm("bench", "attention", "--plot", link).code == 0
    assert link.is_symlink() and target.read_bytes().startswith(b"\x89PNG")
