"""`pretrain --dry-run`: what a run would need."""

import pytest
import torch

from minglm.batch import pack
from minglm.model_config import num_parameters, useful_flop
from minglm.spans import OBJECTIVES
from minglm.train.config import resolve
from minglm.train.plan import learned_share, memory, plan, step_flop
from minglm.train.presets import PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_planned_without_a_tensor(minglm, preset, monkeypatch):
    monkeypatch.setattr(torch, "empty", None)
    shown = minglm("pretrain", "--preset", preset, "--dry-run", "--gpus", 4, "--mfu", 0.5)
    assert shown.code == 0 and "days on 4 GPUs" in shown.out and "MFU of 50%" in shown.out
    assert f"{num_parameters(resolve(preset).model) / 1e6:,.1f} M" in shown.out


@pytest.mark.parametrize(
    "words, said",
    [
        (["--gpus", 4], "accepted with --dry-run"),
        (["--mfu", 0.5], "accepted with --dry-run"),
        (["--out", "run", "--resume", "--dry-run"], "leave --resume out"),
    ],
)
def test_a_plan_that_would_be_ignored_is_refused(minglm, words, said):
    result = minglm("pretrain", *words)
    assert result.code == 2 and said in result.err


def test_float32_adamw_takes_16_bytes_a_weight_and_sharding_divides_them():
    config = resolve("10b", overrides={"train.dtype": "float32"})
    weights = num_parameters(config.model)
    one, many = memory(config, 1), memory(config, 64)
    names = ("weights", "gradients", "optimiser")
    assert sum(one[name] for name in names) == 16 * weights
    assert sum(many[name] for name in names) == pytest.approx(weights / 4)
    assert sum(many.values()) < 80e9 < sum(one.values())  # one does not fit a GPU of 80 GB, 64 do


def test_twice_the_gpus_or_twice_the_mfu_halve_the_days():
    def days(**how):
        return float(plan(resolve("10b"), **how)["time"].split()[0])

    assert days(gpus=16, mfu=0.2) == pytest.approx(days(gpus=8, mfu=0.4), abs=0.01)
    assert days(gpus=8, mfu=0.4) == pytest.approx(2 * days(gpus=16, mfu=0.4), abs=0.02)


def test_the_estimate_is_near_the_flop_and_targets_of_drawn_samples(small_source):
    config, examples = small_source
    texts = sum(e.text_len for e in examples)
    share = sum(len(e.targets) for e in examples) / texts
    assert learned_share(config) == pytest.approx(share, rel=0.3)
    flop = sum(useful_flop(config.model, pack(examples))) / texts
    assert step_flop(config) / config.train.batch_tokens == pytest.approx(flop, rel=0.3)


@pytest.fixture
def small_source(text_file, tmp_path):
    from conftest import SMALL

    from minglm.train.distributed import World
    from minglm.train.pretrain import Run

    given = dict(zip((name.removeprefix("--") for name in SMALL[::2]), SMALL[1::2], strict=True))
    overrides = {key: value for key, value in given.items() if "." in key}
    overrides |= {"data.text": [str(text_file)], "train.steps": 2, "data.samples": "windows"}
    run = Run(resolve(overrides=overrides), tmp_path / "run", World(0, 1), False, None)
    drawn = [run.source.draw(epoch, w) for epoch in range(8) for w in range(len(run.source.in_epoch(0)))]
    run.close()
    assert {objective for objective, _ in drawn} == {*OBJECTIVES}
    return run.config, [e for _, e in drawn]
