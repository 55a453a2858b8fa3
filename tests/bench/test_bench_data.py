"""`minglm bench data`: both ways prepare the same; what differs from the definition is not timed."""

import json

import numpy as np
import pytest

from minglm.bench import data, timing
from minglm.bench.data import DOCUMENT, Preparer, check, joined, line
from minglm.data import drawing, flat
from minglm.data.corpus import build_corpus
from minglm.data.samples import sources
from minglm.data.tokenizer import Tokenizer
from minglm.train.config import resolve
from minglm.train.plan import plan
from minglm.use.models import BOX


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A small corpus in the ids of the bundled tokenizer, which the bench reads."""
    folder = tmp_path_factory.mktemp("bench")
    text = "\n\n".join(f"Anna saw {n} horses. Then she went home, and Ben did, too!" for n in range(1500))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    return build_corpus([folder / "text.txt"], Tokenizer.from_pretrained(BOX), folder / "tokens")


@pytest.fixture
def small_corpus(corpus, monkeypatch):
    monkeypatch.setattr(data, "cached_corpus", lambda *args: corpus)
    monkeypatch.setattr(timing, "GEMM_SHAPES", ((8, 8, 8), (16, 4, 8)))


def preparers(corpus, preset="page"):
    config = resolve(preset)
    source, _ = sources(corpus, Tokenizer.from_pretrained(BOX), config)
    return [Preparer(source, config, defined) for defined in (False, True)]


def test_joined_documents_are_long_and_lose_nothing(corpus):
    long = joined(corpus)
    lengths = np.diff(long.offsets)
    assert lengths.sum() == corpus.n_tokens and len(lengths) == len(long.hashes) > 1
    assert (lengths[:-1] >= DOCUMENT - 100).all() and np.isin(long.offsets, corpus.offsets).all()


def test_both_ways_prepare_the_same_batches(corpus):
    fast, definition = preparers(corpus)
    assert check(fast, definition) is None
    for _ in range(3):
        for a, b in zip(fast.prepare(), definition.prepare(), strict=True):
            assert a.tokens.equal(b.tokens) and a.targets.equal(b.targets)
            assert a.target_rows.equal(b.target_rows) and a.mask.part_a_lens.equal(b.mask.part_a_lens)
    assert fast.tokens == definition.tokens and fast.samples == definition.samples


def test_a_difference_is_named_and_not_timed(corpus, monkeypatch):
    fast, definition = preparers(corpus)
    monkeypatch.setattr(drawing, "mean_length_of", lambda *args: 9.0)
    assert "differs from the definition in" in check(fast, definition)
    row = data.measure(definition.batches.source, resolve("page"), 0.1)
    assert row["wrong"] and "times" not in row
    assert "WRONG" in line(row | dict(preset="page", text="short"))


def test_the_command_prints_both_texts_and_what_training_consumes(
    small_corpus, minglm, monkeypatch, tmp_path
):
    monkeypatch.setattr(data, "PRESETS", ("page", "base"))
    monkeypatch.setattr(data, "SHARE", 2048)
    result = minglm("bench", "data", "--seconds", "0.05", "--mfu", "0.2", "--json", tmp_path / "found.json")
    assert result.code == 0 and result.out.count("±") == 5
    found = json.loads((tmp_path / "found.json").read_text())
    rows = found["rows"]
    assert [(row["preset"], row["text"]) for row in rows] == [
        (preset, text) for preset in ("page", "base") for text in ("short", "long")
    ]
    assert [row["consumed"]["how"] for row in rows] == ["measured"] * 2 + ["derived"] * 2
    assert all(row["prepared"]["tokens_per_s"] > 0 and row["defined"]["tokens_per_s"] > 0 for row in rows)
    assert rows[3]["tokens_per_sample"] > 5 * rows[2]["tokens_per_sample"]


def test_what_a_gpu_consumes_agrees_with_the_plan_of_a_run(small_corpus, minglm, tmp_path):
    args = ("--preset", "base", "--seconds", "0.02", "--mfu", "0.5", "--tflops", "100")
    assert minglm("bench", "data", *args, "--json", tmp_path / "found.json").code == 0
    row, config = json.loads((tmp_path / "found.json").read_text())["rows"][0], resolve("base")
    days = config.train.steps * config.train.batch_tokens / row["consumed"]["gpu"] / 86_400
    assert plan(config, 1, 0.5, 100.0)["time"].startswith(f"{days:,.2f} days")


def test_a_wrong_fast_path_ends_with_an_error(small_corpus, minglm, monkeypatch):
    monkeypatch.setattr(flat, "SPANS", flat.SPANS + 1)
    result = minglm("bench", "data", "--preset", "page", "--seconds", "0.05")
    assert result.code == 1 and result.out.count("WRONG") == 2 and "not timed" in result.out


@pytest.mark.parametrize(
    "args", [("--mfu", "0"), ("--mfu", "2"), ("--tflops", "nan"), ("--seconds", "0"), ("--preset", "bas")]
)
def test_values_that_mean_nothing_are_refused(args, minglm):
    result = minglm("bench", "data", *args)
    assert result.code == 2 and args[0].strip("-") in result.err
