"""A run folder of an earlier version (commit 86b4e21) can be read, and training resumes as it did then."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import RECORDED

from minglm import GLM, Tokenizer
from minglm.cli import main

EARLIER = RECORDED / "earlier_run"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A copy of the folder as of step 3 of 6. Files that only repeat the checkpoints are not stored."""
    monkeypatch.chdir(shutil.copytree(EARLIER, tmp_path / "earlier"))
    return Path("run")


def test_an_earlier_run_loads(run):
    model, tokenizer = (
        GLM.from_pretrained(run),
        Tokenizer.from_pretrained(run / "checkpoints" / "step-00000006"),
    )
    assert model.config.vocab_size == tokenizer.vocab_size == 280
    assert main(["fill", "--model", str(run), "The sun [MASK] over the hill."]) == 0


def test_an_earlier_run_goes_on_to_the_same_weights(run):
    end = GLM.from_pretrained(run).state_dict()
    (run / "checkpoints" / "last").write_text("step-00000003\n")
    (run / "evaluation.json").unlink()
    assert main(["pretrain", "--out", str(run), "--resume"]) == 0
    for name, weight in GLM.from_pretrained(run).state_dict().items():
        torch.testing.assert_close(weight, end[name], rtol=0, atol=1e-6, msg=name)
