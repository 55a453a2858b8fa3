"""FSDP2: sharded runs on the CPU (gloo), in processes forked from this one, which has loaded torch."""

import csv
import importlib
import json
import os
import shutil
import signal
import socket

import pytest
import torch
from conftest import SMALL, Forked, dies_at, group, thorough

from minglm import GLM
from minglm.cli import main
from minglm.errors import MinglmError
from minglm.files.checkpoint import Checkpoints, read_safetensors
from minglm.train.distributed import World
from minglm.train.sharding import check_shard, whole

STEPS = 4


def arguments(text_file, out, *more):
    """Command-line arguments of a small run; with 100 tokens per step, a process may get no sample."""
    dials = ("--steps", STEPS, "--batch-tokens", 100, "--train.micro_batch_tokens", 64, "--lr", "1e-2")
    dials += ("--model.dropout", 0, "--train.eval_every", 2, "--train.clip", 0.5, "--checkpoint-activations")
    return ["pretrain", "--text", text_file, *SMALL, *dials, "--dtype", "float32", "--out", out, *more]


def column(run, name):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [float(row[name] or 0) for row in csv.DictReader(file)]


def same_run(run, one):
    """Whether two runs agree up to the order in which float32 numbers were added.

    Each of 4 steps adds some hundred products in another order: an error of about 1e-6 in a loss of 6, which
    AdamW's division by small gradients enlarges; 2e-4 is what the test of two DDP processes allows.
    """
    for name, tolerance in (("loss", 2e-4), ("held_out", 2e-4), ("grad_norm", 2e-3)):
        assert column(run, name) == pytest.approx(column(one, name), abs=tolerance), name
    ours, theirs = (GLM.from_pretrained(folder).state_dict() for folder in (run, one))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=2e-3, rtol=0)
    assert json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["step"] == STEPS


def test_sharded_runs_are_the_run_of_one_process_and_resume_at_any_number(
    minglm, text_file, tmp_path, monkeypatch
):
    """One process, then 4 (with workers), then 2, then 1 again; and 2 all the way. Muon leaves the tables to
    AdamW."""
    how = ("--optimizer", "muon")
    one, moved, two = (tmp_path / name for name in ("one", "moved", "two"))
    assert minglm(*arguments(text_file, one, *how)).code == 0
    again = ("pretrain", "--out", moved, "--resume")
    assert minglm(*arguments(text_file, moved, *how, "--stop-at", 1)).code == 0
    group(monkeypatch, 4, (*again, "--shard", "--stop-at", 2, "--train.workers", 1))
    assert Checkpoints(moved).load_state()[1]["step"] == 2  # plain tensors, or it would not load
    all_the_way = arguments(text_file, two, *how, "--shard")
    group(monkeypatch, 2, (*again, "--stop-at", 3, "--train.workers", 0), all_the_way)
    refused = minglm(*again)
    assert refused.code == 2 and "--train.shard false" in refused.err
    assert minglm(*again, "--train.shard", "false").code == 0
    same_run(moved, one)
    same_run(two, one)


@thorough
def test_two_processes_with_and_without_workers_give_the_same_run_bit_for_bit(
    minglm, text_file, tmp_path, monkeypatch
):
    """Replicated weights (DDP) and sharded ones, each after a first step of one process."""
    assert minglm(*arguments(text_file, tmp_path / "begun", "--stop-at", 1)).code == 0
    ways = {}
    for shard in ("false", "true"):
        for workers in (0, 2):
            out = shutil.copytree(tmp_path / "begun", tmp_path / f"{shard}-{workers}", symlinks=True)
            ways[shard, workers] = "pretrain", "--out", out, "--resume", "--train.shard", shard
            ways[shard, workers] += "--train.workers", workers
    group(monkeypatch, 2, *ways.values())
    for shard in ("false", "true"):
        one, two = (tmp_path / f"{shard}-{workers}" for workers in (0, 2))
        assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
        for name in ("loss", "grad_norm", "held_out", "learned_tokens"):
            assert column(one, name) == column(two, name) and len(column(one, name)) == STEPS


def test_one_process_refuses_to_shard_before_it_writes_anything(minglm, text_file, tmp_path):
    refused = minglm(*arguments(text_file, tmp_path / "run", "--shard"))
    assert refused.code == 2 and "train.shard: a single process" in refused.err
    assert not (tmp_path / "run" / "run.toml").exists()
    with pytest.raises(MinglmError, match="torchrun"):
        check_shard(World(0, 1))


def test_what_is_not_sharded_is_kept_as_it_is():
    state = {"state": {0: {"step": torch.ones(()), "lists": [1, None]}}, "name": "x"}
    assert whole(state, keep=True) == state


CALLS = "rename", "replace", "link", "mkdir", "rmdir"  # of a save: each is a moment to be killed at


@thorough
@pytest.mark.parametrize("number", [2, 3, 4, 6, 9])
def test_a_kill_during_a_sharded_save_loses_no_earlier_step(minglm, text_file, tmp_path, monkeypatch, number):
    """The writing process dies at the n-th such call of its second save, and the other one is ended, too.

    The run then resumes from a complete checkpoint, and ends as the run of one process does.
    """
    one, run = tmp_path / "one", tmp_path / "run"
    dials = ("--train.save_every", 1, "--optimizer", "muon")
    assert minglm(*arguments(text_file, one, *dials)).code == 0
    group(monkeypatch, 2, arguments(text_file, run, *dials, "--shard", "--stop-at", 1))
    before = Checkpoints(run).load_state()[1]["step"]
    resume = ["pretrain", "--out", run, "--resume"]
    ended = killed_at(monkeypatch, number, resume)
    assert -signal.SIGKILL in ended and 0 not in ended
    _, state = Checkpoints(run).load_state()  # every file is compared with its checksum
    assert state["step"] in (before, before + 1) and before == 1
    read_safetensors(run / "model.safetensors")
    group(monkeypatch, 2, resume)
    same_run(run, one)
    assert not [path for path in run.rglob("*") if path.name.startswith((".tmp-", ".old-"))]


def killed_at(monkeypatch, number, words):
    """Train in two processes; the first is killed in a save, the other is ended -> exit codes."""
    for name in ("fsdp", "checkpoint.state_dict"):
        importlib.import_module(f"torch.distributed.{name}")
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        address = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port.getsockname()[1])

    def work(rank):
        for name, value in (dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2) | address).items():
            monkeypatch.setenv(name, str(value))
        plain = Checkpoints.save

        def save(self, *how, **more):
            dies_at(number, CALLS)
            return plain(self, *how, **more)

        monkeypatch.setattr(Checkpoints, "save", save)  # only the first process calls it
        return main([*map(str, words)])

    first, second = (Forked(lambda rank=rank: work(rank)) for rank in range(2))
    code = first.wait().returncode
    os.kill(second.pid, signal.SIGKILL)
    return code, second.wait().returncode
