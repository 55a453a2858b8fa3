"""From files to token ids: every document arrives, and errors name what cannot be read."""

import errno
import gzip
import json
import lzma
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minglm.data.corpus
import minglm.data.documents
from minglm.data.corpus import build_corpus, cached_corpus, default_cache, embedded_corpus, open_corpus
from minglm.data.documents import find_files, read_documents
from minglm.data.samples import cut_windows, hold_out
from minglm.data.tokenizer import Tokenizer
from minglm.errors import MinglmError

CHINESE = "起初，神创造天地。神说：“要有光”，就有了光。"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(
        ["And God said, Let there be light: and there was light.\n" * 20, CHINESE * 20], 320
    )


@pytest.fixture(params=[1, 2, 3, 7, 1 << 20])
def chunk_bytes(request, monkeypatch):
    monkeypatch.setattr(minglm.data.documents, "CHUNK_BYTES", request.param)


def written(path, content):
    """Write `content` to `path`, compressed by its ending -> path."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes({".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)(data))
    return path


def documents_of(corpus, tokenizer):
    return [tokenizer.decode(corpus.document(i)) for i in range(corpus.n_documents)]


# Finding


def test_folders_are_searched_in_sorted_order_and_every_file_is_read_once(tmp_path):
    names = [
        "b.txt",
        "a/z.jsonl.gz",
        "a/y.txt.xz",
        "a/deep/x.jsonl",
        "c.xz",
        "UPPER.TXT",
        "d.gz",
        "e.txt.gz",
        "f.jsonl.xz",
    ]
    for name in [*names, "notes.md", "photos.tar.gz", ".hidden.txt", ".git/x.txt"]:
        written(tmp_path / name, "text")
    paths = [path.relative_to(tmp_path).as_posix() for path in find_files([tmp_path])]
    assert paths == sorted(names, key=lambda name: name.split("/"))
    assert find_files(tmp_path / "b.txt") == [tmp_path / "b.txt"]
    order = [tmp_path / "c.xz", tmp_path / "a", tmp_path / "a" / ".." / "c.xz", tmp_path / "a" / "y.txt.xz"]
    assert find_files(order) == [
        tmp_path / name for name in ("c.xz", "a/deep/x.jsonl", "a/y.txt.xz", "a/z.jsonl.gz")
    ]


def test_what_is_no_text_file_is_named_with_what_is_accepted(tmp_path):
    written(tmp_path / "folder" / "picture.png", "")
    for paths, reason in [
        ([tmp_path / "gone.txt"], "gone.txt: no such file or folder"),
        ([tmp_path / "folder"], "folder: no text file in this folder"),
        ([tmp_path / "folder" / "picture.png"], "picture.png: not a text file"),
        (["x" * 5000], "no such file"),
        ([], "no text file given"),
    ]:
        with pytest.raises(MinglmError, match=rf"{reason}.*\.txt\.xz .*\.jsonl") as error:
            find_files(paths)
        assert "\n" not in str(error.value)


# Reading


@pytest.mark.parametrize("ending", [".txt", ".txt.xz", ".txt.gz", ".gz"])
def test_documents_are_separated_as_asked(tmp_path, chunk_bytes, ending):
    path = written(
        tmp_path / f"corpus{ending}", "\n\none\n two \n\n \t\n\nthree\u2028four\r\nfive\rsix\r\n\r\n神 seven"
    )
    assert list(read_documents(path)) == ["one\n two ", "three\u2028four\nfive\nsix", "神 seven"]
    assert list(read_documents(path, documents="line")) == [
        "one",
        " two ",
        "three\u2028four",
        "five",
        "six",
        "神 seven",
    ]
    assert list(read_documents(path, documents="file")) == [
        "one\n two \n\n \t\n\nthree\u2028four\nfive\nsix\n\n神 seven"
    ]


def begins_a_line(text):
    """Whether a text can be a document: not empty, and no line begins with a byte order mark."""
    return text.strip() and not text.startswith("\ufeff")


@settings(max_examples=100)
@given(
    st.lists(
        st.text(alphabet="ab神é😀 \ufeff\u2028", min_size=1, max_size=5).filter(begins_a_line), max_size=6
    ),
    st.integers(1, 9),
    st.sampled_from(["\n", "\r\n", "\r", "\r\r\n"]),
)
def test_documents_come_back_however_the_bytes_are_cut(tmp_path_factory, documents, size, newline):
    path = tmp_path_factory.getbasetemp() / "cut.txt"
    path.write_bytes(b"\xef\xbb\xbf" + (newline * 2).join(documents).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minglm.data.documents, "CHUNK_BYTES", size)
        assert list(read_documents(path)) == documents
        assert list(read_documents(path, documents="line")) == documents


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl"])
def test_a_byte_order_mark_is_dropped_where_a_line_begins_only(tmp_path, chunk_bytes, name):
    text = (
        "\ufeffa\n\n\ufeff\ufeffb\ufeff"
        if name == "x.txt"
        else '\ufeff{"text": "a"}\n\ufeff{"text": "b\ufeff"}'
    )
    assert list(read_documents(written(tmp_path / name, text))) == ["a", "b\ufeff"]


@pytest.mark.parametrize("ending", [".txt", ".txt.xz", ".txt.gz"])
def test_bytes_that_are_not_utf8_are_named_by_their_offset(tmp_path, chunk_bytes, ending):
    # cut in the middle, cut at the end, Latin-1, half a surrogate pair, one byte too many
    for bad, first in [
        (b"\xe7\xa5 x", 0),
        (b"\xe7\xa5", 0),
        (b"\xe9", 0),
        (b"\xed\xa0\x80", 0),
        (b"\xe7\xa5\x9e\x80", 3),
    ]:
        for good in (0, 1, 5, 6, 7, 20):
            data = b"x" * good + bad
            path = written(tmp_path / f"mixed{ending}", data)
            with pytest.raises(
                MinglmError, match=rf"mixed{ending}: not UTF-8 at byte {good + first} .*--errors replace"
            ):
                list(read_documents(path))
            assert list(read_documents(path, errors="replace")) == [data.decode(errors="replace")]


def test_lines_of_json_give_their_text(tmp_path, chunk_bytes):
    lines = [{"text": "神\n\nlight\r\n", "id": 1}, {"id": 2, "text": ""}, {"text": "é" * 30}]
    for name in ("x.jsonl", "x.jsonl.xz", "x.jsonl.gz"):
        path = written(tmp_path / name, "\n\n".join(map(json.dumps, lines)) + "\n")
        assert list(read_documents(path)) == ["神\n\nlight\n", "", "é" * 30]
    path = written(tmp_path / "body.jsonl", json.dumps({"body": "x"}, ensure_ascii=False))
    assert list(read_documents(path, text_key="body")) == ["x"]


@pytest.mark.parametrize(
    "line, reason",
    [
        ('{"text": ', "not JSON"),
        ("[1]", "a list"),
        ('"text"', "a string"),
        ("7", "a number"),
        ('{"body": 1, "id": 2}', "no key 'text'; the keys there are: 'body', 'id'"),
        ("{}", "none"),
        ('{"text": 3}', "holds a number"),
        ('{"text": {}}', "holds an object"),
        ("[" * 100_000, "not JSON"),
        (r'{"text": "ab\ud800"}', r"ud800.*--errors replace"),
    ],
)
def test_a_bad_line_of_json_is_named_with_its_number(tmp_path, line, reason):
    path = written(tmp_path / "x.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    documents = read_documents(path)
    assert next(documents) == "fine"
    with pytest.raises(MinglmError, match=rf"x\.jsonl:3: .*{reason}") as error:
        next(documents)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_half_a_character_in_json_can_be_replaced(tmp_path):
    path = written(tmp_path / "x.jsonl", r'{"text": "ab\ud800 \ud83d\ude00"}')
    assert list(read_documents(path, errors="replace")) == ["ab\ufffd 😀"]


@pytest.mark.parametrize("ending", [".txt.xz", ".txt.gz"])
def test_a_broken_or_cut_archive_is_named(tmp_path, ending):
    path = written(tmp_path / f"x{ending}", os.urandom(3000).hex() + "\n\nend")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    head = whole[:10] + b"\xff" + whole[11:]  # of the first block
    for data in (whole[:-5], whole[: len(whole) // 2], bytes(flipped), head, b"not an archive at all"):
        path.write_bytes(data)
        with pytest.raises(MinglmError, match=rf"x{ending}: broken or cut short"):
            list(read_documents(path, errors="replace"))


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(MinglmError, match="gone.txt: cannot be read: No such file"):
        list(read_documents(tmp_path / "gone.txt"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(MinglmError, match="folder.txt: cannot be read: Is a directory"):
        list(read_documents(tmp_path / "folder.txt"))


def test_a_setting_that_is_not_known_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(MinglmError, match="'page'.*blank_line, line, file"):
        read_documents(tmp_path / "gone.txt", documents="page")
    with pytest.raises(MinglmError, match="'ignore'.*strict, replace"):
        read_documents(tmp_path / "gone.txt", errors="ignore")


@pytest.mark.parametrize("documents", ["blank_line", "line", "file"])
def test_an_endless_document_is_read_in_bounded_parts_and_nothing_is_lost(tmp_path, monkeypatch, documents):
    monkeypatch.setattr(minglm.data.documents, "CHUNK_BYTES", 64)
    monkeypatch.setattr(minglm.data.documents, "MAX_DOCUMENT_CHARS", 200)
    for text in ("abcdefghij" * 100, "abcdefghi\n" * 100, "神" * 1000):
        parts = list(read_documents(written(tmp_path / "endless.txt", text), documents=documents))
        assert max(map(len, parts)) <= 200 + 64 + 1
        assert "".join(parts).replace("\n", "") == text.replace("\n", "")
    whole = "x" * 10_000  # a line of JSON is not split
    assert list(read_documents(written(tmp_path / "x.jsonl", json.dumps({"text": whole})))) == [whole]


def test_the_embedded_corpus_is_94_501_documents_of_plain_english():
    assert find_files([embedded_corpus()]) == [embedded_corpus()]
    documents = list(read_documents(embedded_corpus()))
    assert len(documents) == 94_501 and all(document.isascii() and document for document in documents)
    text = "\n\n".join(documents) + "\n"
    assert len(text) == 3_949_095 and text.startswith("In the beginning, God created")
    read = []
    list(read_documents(embedded_corpus(), on_read=read.append))
    assert sum(read) == embedded_corpus().stat().st_size  # the progress bar counts bytes on disk


# Building


def build(tmp_path, tokenizer, content, name="x.txt", **settings):
    shutil.rmtree(tmp_path / "corpus", ignore_errors=True)
    return build_corpus([written(tmp_path / name, content)], tokenizer, tmp_path / "corpus", **settings)


def test_every_document_comes_back_from_the_file_of_ids(tmp_path, tokenizer):
    texts = [
        "And God said, Let there be light.",
        CHINESE,
        "a [MASK] b <|spare0|> [CLS]",
        "😀\0 e\u0301\ttabs",
    ]
    corpus = build(tmp_path, tokenizer, "\n\n".join(texts))
    assert documents_of(corpus, tokenizer) == texts
    assert (corpus.n_documents, corpus.skipped) == (4, 0) and corpus.ids.dtype == np.uint16
    assert corpus.ids.min() >= 24  # no cls or eos, and a literal [MASK] is text
    assert corpus.n_tokens == len(corpus.ids) == corpus.offsets[-1] and corpus.offsets.dtype == np.int64
    assert (
        corpus.n_bytes
        == sum(len(text.encode()) for text in texts)
        == tokenizer.byte_lengths()[corpus.ids].sum()
    )
    assert isinstance(corpus.ids, np.memmap) and not corpus.ids.flags.writeable
    for i in (-1, 4):
        with pytest.raises(IndexError):
            corpus.document(i)
    assert sorted(os.listdir(tmp_path)) == ["corpus", "x.txt"]  # nothing temporary is left


def test_documents_of_fewer_than_four_tokens_are_skipped_and_counted(tmp_path, tokenizer):
    assert len(tokenizer.encode("qxz")) == 3 and len(tokenizer.encode("qxzq")) == 4
    corpus = build(tmp_path, tokenizer, "qxz\n\nqxzq\n\nq\n\nqxzqx")
    assert documents_of(corpus, tokenizer) == ["qxzq", "qxzqx"]
    assert corpus.skipped == 2 and corpus.n_bytes == 9  # of the other documents


def test_an_empty_file_among_others_is_no_error_but_nothing_at_all_is(tmp_path, tokenizer):
    empty, text = written(tmp_path / "a.txt", ""), written(tmp_path / "b.txt", "Let there be light")
    corpus = build_corpus([empty, text], tokenizer, tmp_path / "corpus")
    assert documents_of(corpus, tokenizer) == ["Let there be light"] and corpus.skipped == 0
    short = written(tmp_path / "c.txt", "q\n\nx")
    for files, reason in [
        ([empty], r"a\.txt: no document .*\(0 shorter"),
        ([empty, short], r"a\.txt and 1 more: no document .*\(2 shorter"),
    ]:
        with pytest.raises(MinglmError, match=reason):
            build_corpus(files, tokenizer, tmp_path / "none")
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".*"))


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path, tokenizer):
    class Large:
        fingerprint = "large"
        vocab_size = (1 << 16) + 1
        encode_batch = staticmethod(lambda texts: [[1 << 16, 1, 2, 3] for _ in texts])

    corpus = build(tmp_path, Large, "one\n\ntwo")
    assert corpus.ids.dtype == np.uint32 and corpus.document(1).tolist() == [1 << 16, 1, 2, 3]
    Large.vocab_size, Large.encode_batch = 1 << 16, lambda texts: [[65535] * 4 for _ in texts]
    corpus = build(tmp_path, Large, "one\n\ntwo")
    assert corpus.ids.dtype == np.uint16 and corpus.ids.max() == 65535


pieces = st.sampled_from(
    [
        "And",
        " God",
        "\n",
        "\n\n",
        "  ",
        " ",
        "神说",
        "。",
        "，",
        "x" * 9,
        "'s",
        "1a",
        "\x1c",
        "\x85",
        "\u3000",
        "e\u0301",
        "²",
        "_",
        "\t",
        "😀",
    ]
)


@settings(max_examples=100)
@given(st.lists(pieces, max_size=40).map("".join), st.integers(8, 40))
def test_a_long_text_is_cut_where_the_ids_do_not_change(tokenizer, text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minglm.data.corpus, "BATCH_CHARS", size)
        cuts = [0, *minglm.data.corpus._cuts(text), len(text)]
    parts = [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    assert (
        "".join(parts) == text
        and all(0 < len(part) <= size for part in parts[:-1])
        and len(parts[-1]) <= size
    )

    def words_part(i):
        if text[i - 1] in "。，":
            return text[i] in " \n" or text[i].isalnum() and not text[i].isdecimal()
        return text[i] in " \n" and not text[i - 1].isspace()

    for start, cut in zip(cuts, cuts[1:-1], strict=False):  # the last place between words, if there is one
        assert [i for i in range(start + 1, start + size + 1) if words_part(i)][-1:] in ([cut], [])
    ids = [id for part in parts for id in tokenizer.encode(part)]
    assert tokenizer.decode(ids) == text
    if all(words_part(cut) for cut in cuts[1:-1]):
        assert ids == tokenizer.encode(text)


def test_the_example_of_a_cut(monkeypatch):
    monkeypatch.setattr(minglm.data.corpus, "BATCH_CHARS", 8)
    assert minglm.data.corpus._cuts("to be or not") == [8]
    assert minglm.data.corpus._cuts("to be or\n not to") == [8]
    assert minglm.data.corpus._cuts("to be  orly") == [5]
    assert minglm.data.corpus._cuts("to be or") == minglm.data.corpus._cuts("") == []
    assert minglm.data.corpus._cuts("x" * 20) == [8, 16]
    assert minglm.data.corpus._cuts("天地。神说要有光就有") == [3]


def test_batches_and_chunks_of_any_size_give_the_same_corpus(tmp_path, tokenizer, monkeypatch):
    text = "\n\n".join(
        ["q", "Let there be light, and there was light. " * 9, CHINESE * 5, "q", "And God said", "qx"]
    )
    whole = build(tmp_path, tokenizer, text)
    for chunk, batch in [(1, 100), (5, 101), (64, 250), (1 << 20, 60)]:
        monkeypatch.setattr(minglm.data.documents, "CHUNK_BYTES", chunk)
        monkeypatch.setattr(minglm.data.corpus, "BATCH_CHARS", batch)
        corpus = build(tmp_path, tokenizer, text, "y.txt.xz")
        assert (
            corpus.fingerprint == whole.fingerprint
            and corpus.n_bytes == whole.n_bytes
            and corpus.skipped == 3
        )


@pytest.mark.parametrize("text", ["light and " * 100_000, "神" * 1_000_000])
def test_a_document_of_a_million_characters_is_one_document(tmp_path, tokenizer, monkeypatch, text):
    monkeypatch.setattr(minglm.data.corpus, "BATCH_CHARS", 50_000)
    calls, encode_batch = [], tokenizer.encode_batch
    monkeypatch.setattr(
        tokenizer, "encode_batch", lambda texts: calls.append(sum(map(len, texts))) or encode_batch(texts)
    )
    corpus = build(tmp_path, tokenizer, "Let there be light\n\n" + text + "\n\nAnd there was light")
    assert corpus.n_documents == 3 and documents_of(corpus, tokenizer)[1] == text.rstrip("\n")
    assert max(calls) <= 100_000 and sum(calls) >= 1_000_000  # memory stays bounded


def test_the_fingerprint_is_that_of_the_tokens_and_their_documents(tmp_path, tokenizer):
    first = build(tmp_path, tokenizer, "Let there be light\n\nand there was light").fingerprint
    assert (
        build(tmp_path, tokenizer, "Let there be light\n\n\n\nand there was light\n", "z.txt.gz").fingerprint
        == first
    )
    assert build(tmp_path, tokenizer, "Let there be light\n\nand there was night").fingerprint != first
    one = build(tmp_path, tokenizer, '{"text": "quick quiz"}\n{"text": " jump quick quiz"}', "x.jsonl")
    ids, fingerprint = one.ids.tolist(), one.fingerprint
    two = build(tmp_path, tokenizer, '{"text": "quick quiz jump"}\n{"text": " quick quiz"}', "x.jsonl")
    assert ids == two.ids.tolist() == tokenizer.encode("quick quiz jump quick quiz")
    assert fingerprint != two.fingerprint  # the same tokens, other documents


def test_settings_reach_the_reader(tmp_path, tokenizer):
    corpus = build(
        tmp_path, tokenizer, b"Let there be\nlight \xff and light", documents="line", errors="replace"
    )
    assert documents_of(corpus, tokenizer) == ["Let there be", "light \ufffd and light"]
    corpus = build(tmp_path, tokenizer, '{"body": "Let there be light"}', "x.jsonl", text_key="body")
    assert documents_of(corpus, tokenizer) == ["Let there be light"]


def test_a_bar_is_shown_on_a_terminal_or_when_asked_for(tmp_path, tokenizer, capsys):
    build(tmp_path, tokenizer, "Let there be light")
    assert capsys.readouterr() == ("", "")  # no terminal here
    build(tmp_path, tokenizer, "Let there be light", progress=True)
    assert "tokenizing" in capsys.readouterr().err


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, tokenizer, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(MinglmError, match="x.txt: not UTF-8 at byte 22 "):
        build(tmp_path, tokenizer, b"Let there be light\n\nx \xff")
    with pytest.raises(MinglmError, match="corpus: cannot be written: Not a directory"):
        build_corpus([tmp_path / "x.txt"], tokenizer, tmp_path / "x.txt" / "corpus", errors="replace")
    for name in ("fsync", "rename"):
        with (
            monkeypatch.context() as patch,
            pytest.raises(MinglmError, match="corpus: cannot be written: No space left"),
        ):
            patch.setattr(os, name, full)
            build(tmp_path, tokenizer, "Let there be light")
    assert os.listdir(tmp_path) == ["x.txt"]
    build(tmp_path, tokenizer, "Let there be light")
    with pytest.raises(MinglmError, match="corpus: exists already"):
        build_corpus([tmp_path / "x.txt"], tokenizer, tmp_path / "corpus")


def broken_in_many_ways(directory):
    """Break the corpus in `directory` in each of these ways; yield the way, then repair it."""
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    meta = json.loads((copy / "meta.json").read_text())
    for name in ("ids.bin", "offsets.npy", "meta.json"):
        data = (copy / name).read_bytes()
        for how, new in [
            ("gone", None),
            ("empty", b""),
            ("short", data[: len(data) // 2 // 2 * 2]),
            ("odd", data[:-1]),
        ]:
            (directory / name).unlink() if new is None else (directory / name).write_bytes(new)
            yield f"{name} {how}"
            (directory / name).write_bytes(data)
    for key, value in [
        ("n_tokens", meta["n_tokens"] + 1),
        ("n_documents", 1),
        ("dtype", "O"),
        ("dtype", "<u4"),
        ("format", 99),
        ("skipped", None),
    ]:
        changed = {**meta, key: value} if value is not None else {k: v for k, v in meta.items() if k != key}
        (directory / "meta.json").write_text(json.dumps(changed))
        yield f"meta.json {key} {value}"
    for text in ("[]", "7", "null"):
        (directory / "meta.json").write_text(text)
        yield f"meta.json {text}"


def test_a_corpus_that_was_cut_short_is_an_error(tmp_path, tokenizer):
    build(tmp_path, tokenizer, "Let there be light\n\nand there was light")
    for how in broken_in_many_ways(tmp_path / "corpus"):
        with pytest.raises(
            MinglmError, match="corpus: (not a token file|token file with other sizes)"
        ) as error:
            open_corpus(tmp_path / "corpus")
        assert "\n" not in str(error.value), how
    with pytest.raises(MinglmError, match="gone: not a token file.*No such file"):
        open_corpus(tmp_path / "gone")


# The cache


def counted_builds(monkeypatch):
    builds, build_corpus = [], minglm.data.corpus.build_corpus
    monkeypatch.setattr(
        minglm.data.corpus, "build_corpus", lambda *a, **k: builds.append(a) or build_corpus(*a, **k)
    )
    return builds


def test_a_corpus_is_built_once_and_anew_when_anything_changes(tmp_path, tokenizer, monkeypatch):
    builds = counted_builds(monkeypatch)
    file, other, cache = tmp_path / "x.txt", tmp_path / "y.txt", tmp_path / "cache"
    for path in (file, other):
        written(path, "Let there be light\n\nand there was light\n")
        os.utime(path, ns=(0, 0))
    first = cached_corpus([file], tokenizer, cache)
    monkeypatch.chdir(tmp_path)
    again = cached_corpus([Path("x.txt")], tokenizer, cache)  # the same file under another path
    assert len(builds) == 1 and again.fingerprint == first.fingerprint and again.directory == first.directory
    smaller = Tokenizer.train(["nothing"], 280)
    for n, change in enumerate(
        [
            lambda: cached_corpus([other], tokenizer, cache),
            lambda: cached_corpus([file, other], tokenizer, cache),
            lambda: cached_corpus([other, file], tokenizer, cache),
            lambda: cached_corpus([file], smaller, cache),
            lambda: cached_corpus([file], tokenizer, cache, documents="line"),
            lambda: cached_corpus([file], tokenizer, cache, errors="replace"),
            lambda: cached_corpus([file], tokenizer, cache, text_key="body"),
            lambda: os.utime(file, ns=(0, 1)) or cached_corpus([file], tokenizer, cache),
        ],
        start=2,
    ):
        change(), change()
        assert len(builds) == n
    file.write_text("Let there be night")
    os.utime(file, ns=(0, 1))
    assert documents_of(cached_corpus([file], tokenizer, cache), tokenizer) == ["Let there be night"]


def test_an_entry_of_the_cache_that_is_broken_is_built_anew(tmp_path, tokenizer, monkeypatch):
    builds = counted_builds(monkeypatch)
    file, cache = (
        written(tmp_path / "x.txt", "Let there be light\n\nand there was light\n"),
        tmp_path / "cache",
    )
    first = cached_corpus([file], tokenizer, cache)
    for n, how in enumerate(broken_in_many_ways(first.directory), start=2):
        again = cached_corpus([file], tokenizer, cache)
        assert len(builds) == n and again.fingerprint == first.fingerprint, how
        assert documents_of(again, tokenizer) == documents_of(first, tokenizer)


def test_two_processes_may_build_the_same_entry(tmp_path, tokenizer, monkeypatch):
    file, cache = written(tmp_path / "x.txt", "Let there be light"), tmp_path / "cache"
    rename = os.rename

    def overtaken(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    corpus = cached_corpus([file], tokenizer, cache)
    assert documents_of(corpus, tokenizer) == ["Let there be light"]
    assert os.listdir(cache) == [corpus.directory.name]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, tokenizer):
    file = written(tmp_path / "x.txt", "Let there be light")
    with pytest.raises(MinglmError, match="x.txt/[0-9a-f]{64}: cannot be written: Not a directory"):
        cached_corpus([file], tokenizer, tmp_path / "x.txt")
    with pytest.raises(MinglmError, match="gone.txt: cannot be read: No such file"):
        cached_corpus([tmp_path / "gone.txt"], tokenizer, tmp_path)
    with pytest.raises(MinglmError, match="x.txt: not UTF-8 at byte 0"):
        cached_corpus([written(file, b"\xff")], tokenizer, tmp_path / "cache")


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch, tmp_path, tokenizer):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert default_cache() == tmp_path / "caches" / "minglm"
    corpus = cached_corpus([written(tmp_path / "x.txt", "Let there be light")], tokenizer)
    assert corpus.directory.parent == default_cache()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "minglm"


# Held out by content


def test_a_document_held_out_by_content_stays_so_when_texts_are_added(tokenizer, tmp_path):
    old, new = (written(tmp_path / name, "") for name in ("old.txt", "new.txt"))
    texts = [f"And God said, Let there be light {n}." for n in range(60)]
    old.write_text("\n\n".join(texts), encoding="utf-8")
    new.write_text("\n\n".join(t.upper() for t in texts[:7]) + "\n\n" + texts[3], encoding="utf-8")

    def held_out(name, *files):
        corpus = build_corpus(files, tokenizer, tmp_path / name)
        windows = cut_windows(corpus.offsets, 512)
        parts = [
            [tokenizer.decode(corpus.document(i)) for i in part.document]
            for part in hold_out(windows, 5, corpus.hashes)
        ]
        assert sorted(sum(parts, [])) == sorted(documents_of(corpus, tokenizer)) and not {*parts[0]} & {
            *parts[1]
        }
        return parts[1]

    before, after = held_out("one", old), held_out("two", new, old)
    assert 3 < len(before) < 25 and {*before} == {*after} & {*texts}


def test_if_no_hash_is_a_multiple_equal_documents_are_still_on_one_side():
    windows = cut_windows(np.array([0, 5, 9, 20, 24]), 512)
    hashes = np.array([7, 3, 9, 3], dtype=np.uint64)
    training, held = hold_out(windows, 20, hashes)
    assert held.document.tolist() == [1, 3] and training.document.tolist() == [0, 2]
