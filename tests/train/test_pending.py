"""Losses and norms stay on the device until they are read: how often, and what is found then."""

import csv
import re

import pytest
import torch
from conftest import SMALL

from minglm.files.checkpoint import Checkpoints
from minglm.train import pretrain as module
from minglm.train.config import resolve
from minglm.train.distributed import Interrupt, World
from minglm.train.log import COLUMNS
from minglm.train.pretrain import Run, train

LOG = ("--train.log_every", 5, "--train.save_every", 1000, "--train.eval_every", 1000)
LOG += ("--train.sample_every", 1000)


def words(text_file, out, *more):
    return [str(word) for word in ("pretrain", "--text", text_file, "--out", out, *SMALL, *more)]


def rows(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


READS = ("item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__format__", "cpu")


@pytest.fixture
def reads(monkeypatch):
    """The reads of numbers that a GPU would have, in order: floats, and whatever is moved to the host."""
    seen = []

    def noted(name, plain):
        def read(self, *how, **more):
            if name == "cpu" or self.is_floating_point():
                seen.append(name)
            return plain(self, *how, **more)

        return read

    def to(self, *where, non_blocking=False, plain=torch.Tensor.to, **how):
        there = plain(self, *where, **how)
        return there.clone() if non_blocking else there  # another tensor, as on a GPU

    monkeypatch.setattr(torch.Tensor, "to", to)
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, noted(name, getattr(torch.Tensor, name)))
    return seen


def settings(text_file, **more):
    given = dict(zip((name.removeprefix("--") for name in SMALL[::2]), SMALL[1::2], strict=True))
    overrides = {key: value for key, value in given.items() if "." in key} | {"data.text": [str(text_file)]}
    return resolve(overrides=overrides | {f"train.{key}": value for key, value in more.items()})


@pytest.fixture
def train_twelve(text_file, tmp_path, monkeypatch, reads):
    """Train for 12 steps with a reading every fifth one -> the reads meanwhile."""

    def reads_of(optimizer="adamw"):
        often = dict(eval_every=1000, sample_every=1000, save_every=1000, steps=100, log_every=5)
        config = settings(text_file, **often, optimizer=optimizer, micro_batch_tokens=100, dtype="float32")
        run = Run(config, tmp_path / "run", World(0, 1), False, None)
        monkeypatch.setattr(run, "save", lambda best=False: None)
        reads.clear()
        with Interrupt(run.world) as interrupt:
            train(run, 12, interrupt)
        run.close()
        return list(reads)

    return reads_of


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_host_reads_once_per_interval(tmp_path, train_twelve, optimizer):
    """At steps 1, 5, 10 and 12, the last one before it stops: each time one copy, from which it reads."""
    assert train_twelve(optimizer) == ["cpu", "tolist", "tolist"] * 4
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(step) for step in range(1, 13)]


def test_reading_every_loss_would_be_noticed(train_twelve, monkeypatch):
    plain = module.train_step

    def as_before(run, share):
        row, loss, norm = plain(run, share)
        return row, torch.tensor(float(loss)), norm

    monkeypatch.setattr(module, "train_step", as_before)
    assert train_twelve().count("__float__") == 12


def test_the_interval_changes_no_number(text_file, tmp_path, minglm):
    for every in (1, 4, 50):
        how = (*LOG[2:], "--train.log_every", every, "--steps", 9, "--train.micro_batch_tokens", 100)
        assert minglm(*words(text_file, tmp_path / str(every), *how)).code == 0
    tables = [rows(tmp_path / str(every)) for every in (1, 4, 50)]
    for name in (name for name in COLUMNS if name not in ("seconds", "mfu")):
        one, *others = ([row[name] for row in table] for table in tables)
        assert all(other == one for other in others), name


def test_the_first_step_that_is_not_finite_is_named_though_it_is_found_later(text_file, tmp_path, minglm):
    out = tmp_path / "run"
    how = ("--steps", 30, "--lr", "1e30", "--train.clip", 0, "--train.warmup", 0)
    every_step = minglm(*words(text_file, tmp_path / "each", *how, *LOG, "--train.log_every", 1))
    result = minglm(*words(text_file, out, *how, *LOG, "--train.log_every", 10))
    first = int(re.search(r"the loss of step (\d+) is not finite", result.err)[1])
    assert every_step.code == result.code == 2 and f"step {first} is not finite" in every_step.err
    assert 1 < first < 10 and len(rows(out)) == first - 1  # those before it are kept
    assert Checkpoints(out).steps() == [0] and str(Checkpoints(out).verified()) in result.err


def test_a_step_that_is_not_finite_is_never_saved(text_file, tmp_path, minglm):
    """Step 4 is saved before anything is logged, and step 5 would be the first one read by log_every."""
    out = tmp_path / "run"
    how = (
        "--steps",
        30,
        "--lr",
        "1e30",
        "--train.clip",
        0,
        "--train.warmup",
        0,
        *LOG,
        "--train.save_every",
        4,
    )
    result = minglm(*words(text_file, out, *how, "--train.log_every", 1000))
    assert result.code == 2 and Checkpoints(out).steps() == [0]


def test_a_run_of_an_earlier_version_goes_on_with_its_rows_kept(text_file, tmp_path, minglm):
    out = tmp_path / "run"
    assert minglm(*words(text_file, out, "--steps", 6, "--stop-at", 3)).code == 0
    path = out / "metrics.csv"
    before = [line.rpartition(",")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(before) + "\n", encoding="utf-8")  # without the last column, mfu
    settings = (out / "run.toml").read_text(encoding="utf-8")
    lines = [line for line in settings.splitlines() if not line.startswith("workers")]
    (out / "run.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert minglm("pretrain", "--out", out, "--resume").code == 0
    after = path.read_text(encoding="utf-8").splitlines()
    assert after[0] == ",".join(COLUMNS) and after[1:4] == [line + "," for line in before[1:]]
    assert [bool(row["mfu"]) for row in rows(out)] == [False] * 3 + [True] * 3
    assert minglm("plot", out, "--out", tmp_path / "curves.png").code == 0
