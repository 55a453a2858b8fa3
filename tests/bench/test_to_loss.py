"""`minglm bench train --to-loss`: everyone reads the same, and the clock stops where the loss is reached."""

import json
from dataclasses import replace

import pytest

from minglm.bench import to_loss
from minglm.bench.to_loss import Racer, race, run_laps, seconds_to
from minglm.bench.training import Padded
from minglm.model_config import GLMConfig
from minglm.train.config import resolve

SHAPE = GLMConfig(vocab_size=320, hidden_size=32, num_layers=1, num_heads=2, max_positions=32, dropout=0.0)


@pytest.mark.parametrize(
    ("loss", "seconds"), [(8.0, 0.0), (5.0, 7.5), (4.0, 10.0), (3.5, 15.0), (3.0, 20.0), (2.9, None)]
)
def test_between_two_measurements_the_loss_falls_along_a_line(loss, seconds):
    assert seconds_to([(0.0, 8.0), (10.0, 4.0), (20.0, 3.0)], loss) == seconds


def test_a_loss_that_rises_counts_where_it_was_first_reached():
    assert seconds_to([(0.0, 5.0), (10.0, 6.0), (20.0, 4.0), (30.0, 4.5)], 5.0) == 15.0


def test_measuring_takes_no_time_of_a_trainer(monkeypatch):
    class Slow:
        def step(self):
            clock[0] += 2.0

    def measure(self, twin, batch):
        clock[0] += 100.0
        self.curve.append((self.seconds, 0.0))

    clock = [0.0]
    monkeypatch.setattr(to_loss.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(Racer, "measure", measure)
    racers = [Racer(Slow()), Racer(Slow())]
    run_laps(racers, 20, None, SHAPE)
    assert [racer.seconds for racer in racers] == [40.0, 40.0]
    assert racers[0].curve == [(4.0 * k, 0.0) for k in range(11)]


@pytest.fixture(scope="module")
def result(short_corpus):
    theirs = dict(optimizer="adamw") | to_loss.ADAMW["tiny"]
    config = resolve("tiny", overrides={f"train.{name}": value for name, value in theirs.items()})
    return race(replace(config, model=SHAPE), 64, "float32", 10, padded=Padded)


def test_with_the_same_optimiser_all_reach_the_same_loss(result):
    first, every, learned = (row["curve"] for row in result["trainers"])
    assert len(first) == 11 and first[-1][1] < first[0][1]
    for other in (every, learned):
        assert [loss for _, loss in other] == pytest.approx([loss for _, loss in first], rel=1e-4)


def test_the_table_has_a_line_for_each_trainer_and_the_result_is_json(result):
    lines = to_loss.table_lines(json.loads(json.dumps(result)))
    assert len(lines) == 5 and lines[0].startswith("tiny, float32, 10 steps of 64 text tokens; ours: adamw, ")
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "minglm",
        "padded, every row",
        "padded, learned rows",
    ]


def test_too_few_steps_are_one_line_of_error(minglm):
    done = minglm("bench", "train", "--to-loss", "3")
    assert (
        done.code == 2 and done.err == "minglm: error: --to-loss: 3 is not accepted; 10 or more steps are\n"
    )


def test_muon_meets_adamw_in_the_same_trainer_by_processor_time(short_corpus, monkeypatch, minglm):
    config = replace(resolve("page"), model=SHAPE)
    assert config.train.optimizer == "muon"
    monkeypatch.setattr(to_loss.time, "perf_counter", None)  # whatever else runs here does not count
    result = json.loads(json.dumps(race(config, 64, "float32", 10, optimizers=True)))
    muon, adamw = result["trainers"]
    assert (muon["trainer"], adamw["trainer"]) == ("minglm", "minglm, AdamW")
    assert muon["curve"][0][1] == adamw["curve"][0][1] and muon["loss"] != adamw["loss"]
    assert 0 < adamw["seconds"] and len(adamw["curve"]) == len(muon["curve"]) == 11


def test_optimizers_are_compared_where_there_are_two(minglm):
    told = minglm("bench", "train", "--optimizers")
    assert told.code == 2 and "goes with --to-loss" in told.err
    told = minglm("bench", "train", "--optimizers", "--to-loss", "10", "--preset", "small")
    assert told.code == 2 and "small trains with AdamW itself" in told.err
