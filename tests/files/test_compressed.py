"""Compressed text is read completely or refused; corpora and data sets follow the same rules."""

import gzip
import json
import lzma
import shutil
import subprocess

import pytest

import minglm.data.corpus
import minglm.data.documents
from minglm.data.documents import find_files, read_documents
from minglm.errors import MinglmError
from minglm.files.jsonl import read_rows, write_rows
from minglm.files.text import byte_chunks, packing_of, text_chunks
from minglm.files.whole import packed

ONE, TWO = b"first half, of some words\n\n" * 30, b"second half, of other words\n\n" * 30
PACK = {".xz": lzma.compress, ".gz": lambda data: gzip.compress(data, mtime=0)}


def read(path, size=1 << 20):
    return b"".join(byte_chunks(path, size))


def given(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("ending", "between", "behind"),
    [
        (".xz", b"", b""),
        (".xz", bytes(4), b""),
        (".xz", bytes(8), bytes(4)),
        (".xz", b"", bytes(4096)),
        (".gz", b"", b""),
        (".gz", b"", bytes(1)),
        (".gz", b"", bytes(513)),
        (".gz", bytes(3), bytes(2)),
    ],
)
def test_every_stream_is_read_whatever_padding_the_format_allows(tmp_path, ending, between, behind, size):
    one, two = map(PACK[ending], (ONE, TWO))
    path = given(tmp_path / f"x.txt{ending}", one + between + two + behind)
    assert read(path, size) == ONE + TWO


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("ending", [".xz", ".gz"])
def test_what_is_no_complete_stream_is_refused_wherever_it_stands(tmp_path, ending, size):
    one, two = map(PACK[ending], (ONE, TWO))
    wrong = {
        "nothing": b"",
        "zeros first": bytes(4) + one,
        "garbage behind": one + b"garbage",
        "one byte behind": one + b"x",
        "garbage behind zeros": one + bytes(4) + b"\xff" * 40,
        "a first stream that is cut": one[:-5],
        "a second stream that is cut": one + two[:-5],
        "a second stream of which the header is cut": one + two[:3],
        "a second stream that is cut behind padding": one + bytes(8) + two[: len(two) // 2],
        "a damaged header": one + bytes([two[0] ^ 1]) + two[1:],
        "a damaged checksum": one + two[:-8] + bytes([two[-8] ^ 1]) + two[-7:],
    }
    if ending == ".xz":
        for zeros in (1, 2, 3, 5, 4099):
            wrong[f"{zeros} zeros at the end"] = one + bytes(zeros)
            wrong[f"{zeros} zeros between"] = one + bytes(zeros) + two
    for what, data in wrong.items():
        path = given(tmp_path / f"x.jsonl{ending}", data)
        with pytest.raises(MinglmError, match=rf"x\.jsonl{ending}: broken or cut short") as error:
            read(path, size)
        assert "\n" not in str(error.value), what


def test_bombs_are_unpacked_in_bounded_pieces(tmp_path):
    for ending, pack in PACK.items():
        path = given(tmp_path / f"zeros{ending}", pack(bytes(1 << 22)))
        sizes = [len(chunk) for chunk in byte_chunks(path, 1 << 16)]
        assert max(sizes) <= 1 << 16 and sum(sizes) == 1 << 22


@pytest.mark.skipif(not shutil.which("xz"), reason="no xz on this machine")
@pytest.mark.parametrize("zeros", [0, 1, 4, 6, 8])
def test_xz_itself_agrees_about_padding(tmp_path, zeros):
    path = given(tmp_path / "x.xz", PACK[".xz"](ONE) + bytes(zeros) + PACK[".xz"](TWO))
    theirs = subprocess.run(["xz", "-dc", path], capture_output=True)
    if theirs.returncode:
        with pytest.raises(MinglmError):
            read(path)
    else:
        assert read(path) == theirs.stdout


def test_rows_and_documents_behind_padding_are_counted(tmp_path):
    rows = [json.dumps({"text": f"film {i}", "label": "positive"}).encode() + b"\n" for i in range(7)]
    pack = PACK[".xz"]
    path = given(tmp_path / "rows.jsonl.xz", pack(b"".join(rows[:3])) + bytes(4) + pack(b"".join(rows[3:])))
    assert [row["text"] for row in read_rows(path).values()] == [f"film {i}" for i in range(7)]
    assert list(read_documents(path)) == [f"film {i}" for i in range(7)]


# ---- the same bytes mean the same in a corpus and in a data set ------------------------------------------

BOM = b"\xef\xbb\xbf"
ROWS = [{"text": "a"}, {"text": "b"}, {"text": "起"}]
LINES = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(LINES),
        b"\r".join(LINES) + b"\r",
        b"\r\n".join(LINES) + b"\r\n",
        b"\r\r\n".join(LINES),
        b"\n\n \n".join(LINES),
        b"".join(BOM + line + b"\n" for line in LINES),
        BOM + BOM + b"\n" + b"\n".join(LINES),
    ],
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.JSONL.GZ", "x.Jsonl.Xz", "x.ndjson", "X.NDJSON.gz", "x.json"])
def test_records_and_corpora_read_the_same_file(tmp_path, monkeypatch, data, name):
    path = given(tmp_path / name, packed(name, data))
    assert list(read_rows(path).values()) == ROWS
    for size in (1, 2, 3, 1 << 20):
        monkeypatch.setattr(minglm.data.documents, "CHUNK_BYTES", size)
        assert list(read_documents(path)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("reader", [read_rows, lambda path: list(read_documents(path))])
def test_what_is_wrong_is_told_in_the_same_words(tmp_path, reader):
    for name, data, words in (
        ("x.jsonl", b'{"text": "a"}\n\n{"text":\n', r"x\.jsonl:3: not JSON"),
        ("x.jsonl", b"[1]", r"x\.jsonl:1: holds no object but a list"),
        ("x.json", b'[\n{"text": "a"}\n]', r"x\.json:1: not JSON .*one JSON object on each line"),
        ("x.jsonl", b'{"text": "\xe9"}', r"x\.jsonl: not UTF-8 at byte 10 \(0xe9\)"),
        ("x.jsonl", gzip.compress(b"{}"), r"x\.jsonl: holds gzip"),
        ("x.jsonl", lzma.compress(b"{}"), r"x\.jsonl: holds xz"),
        ("x.jsonl.lz4", b"\x04\x22\x4d\x18", r"x\.jsonl\.lz4: \.lz4 is not supported; .*\.xz, \.gz, \.zst"),
        ("x.jsonl.bz2", b"BZh", r"\.bz2 is not supported"),
    ):
        with pytest.raises(MinglmError, match=words) as error:
            reader(given(tmp_path / name, data))
        assert "\n" not in str(error.value)


def test_packed_bytes_under_a_plain_name_are_no_text_with_errors_replaced_either(tmp_path):
    for data in (gzip.compress(ONE), lzma.compress(ONE), b"\x28\xb5\x2f\xfd" + ONE):
        with pytest.raises(MinglmError, match="its name does not say so"):
            list(read_documents(given(tmp_path / "x.txt", data), errors="replace"))


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
def test_line_ends_and_marks_do_not_depend_on_how_a_file_is_cut(tmp_path, size):
    data = (
        BOM
        + "one\r\rtwo\r\nthree\r\r\nfour\ufefffour\n".encode()
        + BOM
        + b"five\r"
        + BOM
        + b"six\r\n\nseven\r"
    )
    text = "".join(text_chunks(given(tmp_path / "x.txt", data), size=size))
    assert text == "one\n\ntwo\nthree\nfour\ufefffour\nfive\nsix\n\nseven\n"


def test_a_text_with_carriage_returns_alone_has_its_documents(tmp_path):
    path = given(tmp_path / "mac.txt", b"first text of words\r\rsecond text\rof words\r")
    assert list(read_documents(path)) == ["first text of words", "second text\nof words"]
    assert list(read_documents(path, documents="line")) == ["first text of words", "second text", "of words"]


# ---- what published files contain besides text -----------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize("documents", ["blank_line", "line", "file"])
def test_end_of_text_parts_documents_and_is_text_of_none(tmp_path, monkeypatch, documents, size):
    monkeypatch.setattr(minglm.data.documents, "CHUNK_BYTES", size)
    text = b"<|endoftext|>\nOnce there was.\n<|endoftext|>\n\nThe second.<|endoftext|>The <|end third.\r\n"
    text += b"<|endoftext|>"
    assert list(read_documents(given(tmp_path / "stories.txt", text), documents=documents)) == [
        "Once there was.",
        "The second.",
        "The <|end third.",
    ]


def test_end_of_text_keeps_the_paragraphs_of_a_story_together_where_files_are_documents(tmp_path):
    path = given(tmp_path / "stories.txt", b"One.\n\nTwo.\n<|endoftext|>\nThree.\n\nFour.\n<|endoftext|>\n")
    assert list(read_documents(path, documents="file")) == ["One.\n\nTwo.", "Three.\n\nFour."]
    records = given(tmp_path / "rows.jsonl", b'{"text": "it ends in <|endoftext|>"}')
    assert list(read_documents(records)) == ["it ends in <|endoftext|>"]  # a line of JSON is one document


def test_null_is_skipped_and_counted(tmp_path, capsys, minglm, small_run):
    lines = (
        b'{"text": "There was light in the day."}',
        b'{"text": null}',
        b"null",
        b'{"text": "It was good."}',
    )
    path = given(tmp_path / "x.jsonl", b"\n".join(lines))
    assert list(read_documents(path)) == ["There was light in the day.", "", "", "It was good."]
    assert (
        len(read_rows(path)) == 3
        and "x.jsonl: 1 of 4 lines are null and were skipped" in capsys.readouterr().err
    )
    result = minglm("evaluate", "--task", "text", "--file", path, "--model", small_run)
    assert result.code == 0 and "2 of 4 documents were skipped" in result.err
    result = minglm("similar", path, "light", "--model", small_run)
    assert result.code == 0 and len(result.out.splitlines()) == 2


# ---- folders ---------------------------------------------------------------------------------------------


def test_linked_folders_are_searched_and_every_real_one_once(tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("elsewhere/a.txt", "elsewhere/deep/b.txt", "elsewhere/deep/c.jsonl", "corpus/plain.txt"):
        given((tmp_path / name).parent.mkdir(exist_ok=True) or tmp_path / name, b"words")
    corpus = tmp_path / "corpus"
    (corpus / "books").symlink_to("../elsewhere")
    (corpus / "again").symlink_to(tmp_path / "elsewhere")
    (corpus / "circle").symlink_to(".")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path)
    files = find_files(corpus)
    assert {path.resolve().name for path in files} == {"a.txt", "b.txt", "c.jsonl", "plain.txt"} and len(
        files
    ) == 4


def test_what_a_folder_holds_besides_text_is_told(tmp_path, capsys):
    for name in ("a.txt", "wiki_00", "b.jsonl.lz4", "meta.json", ".hidden"):
        given(tmp_path / name, b"{}")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert find_files(tmp_path) == [tmp_path / "a.txt"]
    assert (
        capsys.readouterr().err
        == f"minglm: note: {tmp_path}: left out: b.jsonl.lz4, gone.txt, meta.json and 1 more\n"
    )
    assert find_files(tmp_path / "meta.json") == [tmp_path / "meta.json"]  # it is read if it is named
    (tmp_path / "a.txt").unlink()
    with pytest.raises(MinglmError, match=r"no text file in this folder; .*; left out: b\.jsonl\.lz4"):
        find_files(tmp_path)
    with pytest.raises(MinglmError, match=r"b\.jsonl\.lz4: \.lz4 is not supported"):
        find_files(tmp_path / "b.jsonl.lz4")


# ---- output is compressed by its ending ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "magic"), [("l.jsonl.gz", b"\x1f\x8b"), ("l.jsonl.XZ", b"\xfd7"), ("l.jsonl", b'{"')]
)
def test_rows_are_written_as_their_name_says_and_read_again(tmp_path, name, magic):
    rows = [{"text": "a fine film", "n": 1}, {"text": "起初"}]
    write_rows(tmp_path / name, rows)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(magic) and list(read_rows(tmp_path / name).values()) == rows
    write_rows(tmp_path / name, rows)
    assert (tmp_path / name).read_bytes() == first  # it contains no time


def test_a_packing_that_cannot_be_written_is_refused_before_the_work(minglm, tmp_path):
    rows = given(tmp_path / "rows.jsonl", b'{"text": "a fine film"}\n')
    result = minglm("classify", "--task", "sentiment", "--file", rows, "--out", tmp_path / "said.jsonl.lz4")
    assert result.code == 2 and ".lz4 is not supported" in result.err and "model" not in result.err
    assert packing_of("a/b.TXT.Gz") == ".gz" and packing_of("gz") == packing_of("a.gz/b") == ""
