"""Tables and zst: the documents arrive, and what cannot be read is named in one line."""

import json

import pytest
from conftest import needs

from minglm.data.documents import find_files, read_documents
from minglm.errors import MinglmError
from minglm.files.text import zstd

ROWS = {
    "title": ["One", None, "Three"] * 200,
    "body": ["first\r\ntext", "second", None] * 200,
    "n": [1, 2, 3] * 200,
}
TEXTS = ["One\nfirst\ntext", "second", "Three"] * 200


def saved(path):
    """Write ROWS in the format that the name says."""
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    table = pyarrow.table(ROWS)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=100)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path, compression="zstd")
    else:  # a stream, as `datasets` saves it
        with pyarrow.ipc.new_stream(path, table.schema) as file:
            file.write_table(table)
    return path


@needs("pyarrow")
@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow", "X.PARQUET"])
def test_every_row_is_a_document_of_the_named_columns(tmp_path, name):
    path, seen = saved(tmp_path / name.lower()).rename(tmp_path / name), []
    assert list(read_documents(path, text_key="title,body", on_read=seen.append)) == TEXTS
    assert sum(seen) == path.stat().st_size
    assert find_files(tmp_path) == [path]


@needs("pyarrow")
@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow"])
def test_what_is_wrong_with_a_table_is_said_in_one_line(tmp_path, name):
    path = saved(tmp_path / name)
    for key, reason in [
        ("text", "no column 'text'; the columns there are: 'title', 'body', 'n'"),
        ("title,boddy", "no column 'boddy'"),
        ("n", "column 'n' holds int64; strings are accepted"),
    ]:
        with pytest.raises(MinglmError, match=reason):
            list(read_documents(path, text_key=key))
    data = path.read_bytes()
    for broken in (b"", b"PAR1", b"ARROW1\0\0", b"\xff" * 99, data[: len(data) // 2], data[:-9]):
        path.write_bytes(broken)
        if name == "x.arrow" and broken == data[:-9]:
            continue  # only the end mark of the stream is missing, which the format allows
        with pytest.raises(MinglmError, match=name) as error:
            list(read_documents(path, text_key="title"))
        assert "\n" not in str(error.value)


def test_keys_of_json_lines_are_joined_too(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": "x", "b": "y", "a,b": "z"}\n{"a": "x", "b": null}\n{"a": "x", "b": "y"}\n')
    assert list(read_documents(path, text_key="a,b")) == ["z", "x", "x\ny"]
    with pytest.raises(MinglmError, match=r":1: no key 'c'; the keys"):
        list(read_documents(path, text_key="a,c"))


@needs("backports.zstd")
def test_zst_is_read_in_all_its_frames_and_a_cut_one_is_refused(tmp_path):
    path, pack = tmp_path / "x.jsonl.zst", zstd("x").compress
    lines = [json.dumps({"text": f"film {i}"}) + "\n" for i in range(50)]
    data = b"".join(pack("".join(lines[i : i + 10]).encode()) for i in range(0, 50, 10))
    path.write_bytes(data)
    assert list(read_documents(path)) == [f"film {i}" for i in range(50)]
    assert find_files(tmp_path) == [path]
    for broken in (data[:-3], data[: len(data) // 2], data + b"x", b"no zstd"):
        path.write_bytes(broken)
        with pytest.raises(MinglmError, match="broken or cut short") as error:
            list(read_documents(path))
        assert "\n" not in str(error.value)


def test_without_the_extra_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    from conftest import hide

    hide(monkeypatch, "pyarrow", "backports.zstd")
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(MinglmError, match=r"x.parquet: pyarrow is not installed; pip install .*\[data\]"):
        list(read_documents(tmp_path / "x.parquet"))


@needs("pyarrow")
def test_of_a_saved_data_set_one_split_is_read(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "set" / split).mkdir(parents=True)
        saved(tmp_path / "set" / split / "data-00000-of-00001.arrow")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(MinglmError, match=r"in splits \(test, train\); the folder of one is accepted"):
        find_files(tmp_path / "set")
    (file,) = find_files(tmp_path / "set" / "train")
    assert list(read_documents(file, text_key="title,body")) == TEXTS


@needs("pyarrow")
@needs("backports.zstd")
def test_the_commands_of_the_page_pretrain(tmp_path, capsys):
    from minglm.cli import main

    saved(tmp_path / "wiki.parquet")
    rows = "".join(json.dumps({"text": f"A story of {i} words, and so on."}) + "\n" for i in range(90))
    (tmp_path / "stories.jsonl.zst").write_bytes(zstd("x").compress(rows.encode()))
    small = (
        "--preset page --steps 1 --model.hidden_size 32 --model.num_layers 1 --model.vocab_size 290".split()
    )
    for name, more in [("wiki.parquet", ["--text-key", "title,body"]), ("stories.jsonl.zst", [])]:
        places = ["--data.cache", str(tmp_path / "cache"), "--out", str(tmp_path / f"run-{name}")]
        assert main(["pretrain", "--text", str(tmp_path / name), *more, *small, *places]) == 0
