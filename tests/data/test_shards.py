"""Tokenising that was killed continues, and the corpus is the same, byte for byte."""

import os
import signal
import subprocess
import sys

import pytest

import minglm.data.corpus
from minglm.data.corpus import build_corpus
from minglm.data.tokenizer import Tokenizer

KILLED = """
import os, signal, sys
import minglm.data.corpus as corpus, minglm.data.shards as shards
from minglm.data.tokenizer import Tokenizer
corpus.SHARD_CHARS, write, done = 2000, shards._write, []
def write_three_and_die(path, data):
    write(path, data)
    done.append(path)
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
shards._write = write_three_and_die
corpus.build_corpus(sys.argv[1], Tokenizer.from_pretrained(sys.argv[2]), sys.argv[3], progress=False)
"""


@pytest.fixture
def text(tmp_path):
    Tokenizer.train(["Let there be light. " * 9], 300).save_pretrained(tmp_path)
    path = tmp_path / "x.txt"
    path.write_text("\n\n".join(f"Line {i} of a text, {i % 7} words." for i in range(900)))
    return path


def contents(corpus):
    return {path.name: path.read_bytes() for path in corpus.directory.iterdir()}


def test_a_killed_tokenising_goes_on_to_the_same_bytes(tmp_path, text, monkeypatch):
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    whole = build_corpus(text, tokenizer, tmp_path / "whole", progress=False)
    command = [sys.executable, "-c", KILLED, str(text), str(tmp_path), str(tmp_path / "y" / "corpus")]
    assert subprocess.run(command, cwd=os.getcwd(), timeout=300).returncode == -signal.SIGKILL
    monkeypatch.setattr(minglm.data.corpus, "SHARD_CHARS", 2000)
    encoded, encode = [], minglm.data.corpus._encode_group
    monkeypatch.setattr(minglm.data.corpus, "_encode_group", lambda *a: encoded.append(a[2]) or encode(*a))
    (shards,) = (tmp_path / "y").glob(".*.shards")
    (shards / "0" / "000001").write_bytes(b"damaged")
    again = build_corpus(text, tokenizer, tmp_path / "y" / "corpus", progress=False)
    assert contents(again) == contents(whole)
    assert encoded[0][0] != "Line 0 of a text, 0 words."  # the first shard was there, the second was damaged
    assert sum(map(len, encoded)) < 900 and not shards.exists()


def test_two_processes_write_the_same_bytes(tmp_path, text, monkeypatch):
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    whole = build_corpus(text, tokenizer, tmp_path / "whole", progress=False)
    monkeypatch.setattr(minglm.data.corpus, "SHARD_CHARS", 9000)
    two = build_corpus(text, tokenizer, tmp_path / "two", processes=2, progress=False)
    assert contents(two) == contents(whole)
