"""`minglm bench generate`: what it times is right, and a wrong cache is not timed."""

import json

import pytest
import torch

from minglm import GLM, GLMConfig
from minglm.bench import generate
from minglm.bench.generate import Forgetful, Reader, check, measure, writes
from minglm.use.reader import Cache

SHAPE = (12, 9, 3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = GLM(GLMConfig(80, 32, 2, 2, 32, dropout=0.0)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(6)
    return model


def test_both_write_all_tokens_and_the_same(model):
    assert check(model, SHAPE) is None
    gaps = writes(model, Reader, SHAPE)
    assert [len(gap.tokens) for gap in gaps] == [9, 9, 9] and len({tuple(gap.tokens) for gap in gaps}) == 3
    assert [gap.tokens for gap in writes(model, Forgetful, SHAPE)] == [gap.tokens for gap in gaps]


def test_a_cache_that_forgets_is_not_timed(model, monkeypatch):
    def forgets(self, layer, k, v):
        k, v = keep(self, layer, k, v)
        return k, v * (1 - 0.2 * (layer == 1))

    keep = Cache.keep
    monkeypatch.setattr(Cache, "keep", forgets)
    found = measure(model, SHAPE, 0.1)
    assert found["wrong"] and "times" not in found


def test_the_command_prints_a_line_for_each_shape(minglm, monkeypatch, tmp_path):
    monkeypatch.setattr(generate, "SHAPES", ((8, 4, 1), (8, 4, 2), (1000, 4, 1)))
    result = minglm(
        "bench", "generate", "--preset", "tiny", "--seconds", "0.2", "--json", tmp_path / "found.json"
    )
    assert result.code == 0 and result.out.count("±") == 3
    found = json.loads((tmp_path / "found.json").read_text())
    assert (
        found["ok"]
        and [row["texts"] for row in found["rows"]] == [1, 2]
        and found["rows"][0]["cache"]["tokens_per_s"] > 0
    )
    assert minglm("bench", "generate", "--seconds", "0").code == 2
    assert minglm("bench", "generate", "--preset", "tiney").code == 2
