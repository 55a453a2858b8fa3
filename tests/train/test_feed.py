"""Batches prepared ahead: the same run for any number of workers, and workers that end when they should."""

import csv
import os
import pickle
import signal
import time

import numpy as np
import pytest
import torch
from conftest import SMALL, Forked, thorough

from minglm.cli import main
from minglm.data.samples import SampleSource, TrainingBatches, cut_sentences, cut_windows
from minglm.errors import MinglmError
from minglm.train import feed
from minglm.train.config import resolve, settings_of_run
from minglm.train.distributed import World
from minglm.train.feed import Share, Shares, prepared, worker_count
from minglm.train.pretrain import Run

CPU = torch.device("cpu")
HARD = (
    *(
        "--model.dropout",
        "0.2",
        "--train.micro_batch_tokens",
        "100",
        "--steps",
        "9",
        "--train.save_every",
        "4",
    ),
    *("--train.eval_every", "5", "--train.sample_every", "6"),
)


def words(text_file, out, *more):
    return [str(word) for word in ("pretrain", "--text", text_file, "--out", out, *SMALL, *HARD, *more)]


def table(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "mfu")} for row in csv.DictReader(file)]


def same_run(a, b):
    for name in ("model.safetensors", "samples.jsonl", "evaluation.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert table(a) == table(b)


@pytest.fixture(scope="module")
def alone(text_file, tmp_path_factory):
    """A run without workers, over two passes of the text."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(words(text_file, out)) == 0
    return out


@pytest.fixture(scope="module")
def shares(text_file, tmp_path_factory):
    """The Shares of the first of two processes."""
    settings = {name.removeprefix("--"): value for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)}
    settings = {key: value for key, value in settings.items() if "." in key}
    settings |= {"data.text": [str(text_file)], "train.steps": 2, "train.micro_batch_tokens": 100}
    run = Run(resolve(overrides=settings), tmp_path_factory.mktemp("made") / "run", World(0, 1), False, None)
    run.close()
    return Shares(run.batches, run.config.model, 100, rank=0, size=2)


def same_share(a, b):
    assert a.counts == b.counts and len(a.batches) == len(b.batches) > 1
    for one, two in zip(a.batches, b.batches, strict=True):
        assert one.text_tokens == two.text_tokens and torch.equal(one.mask.dense(), two.mask.dense())
        for name in feed.TENSORS:
            assert torch.equal(getattr(one, name), getattr(two, name)), name


# ---- the same run ----------------------------------------------------------------------------------------


def test_any_number_of_workers_gives_the_same_run_bit_for_bit_also_if_it_changes(
    minglm, text_file, alone, tmp_path
):
    out = tmp_path / "run"
    begun = minglm(*words(text_file, out, "--train.workers", 3, "--stop-at", 5))
    assert begun.code == 0 and "(train.workers 3, started by fork)" in begun.out
    assert minglm("pretrain", "--out", out, "--resume", "--train.workers", 1).code == 0
    same_run(out, alone)
    assert settings_of_run(out / "run.toml").train.workers == 1


@thorough
def test_spawned_workers_give_the_same_run(minglm, text_file, alone, tmp_path, monkeypatch):
    for module in ("feed", "log"):
        monkeypatch.setattr(f"minglm.train.{module}.start_method", lambda device: "spawn")
    assert minglm(*words(text_file, tmp_path / "run", "--train.workers", 2)).code == 0
    same_run(tmp_path / "run", alone)


def test_a_share_arrives_as_it_was_sent_and_names_no_shared_memory(shares):
    sent = pickle.dumps(shares[3])
    assert b"torch.multiprocessing" not in sent and b"storage" not in sent
    same_share(pickle.loads(sent), shares[3])


def test_a_spawned_worker_reads_the_corpus_from_its_file(shares):
    ids = shares.batches.source.ids
    assert isinstance(ids, np.memmap)
    sent = pickle.dumps(shares)
    assert ids[:50].tobytes() not in sent and b"ids.bin" in sent
    there = pickle.loads(sent)
    assert there.batches.source.ids.filename == ids.filename
    same_share(there[3], shares[3])
    part = ids[10:]  # a part of a file is no file
    shares.batches.source.ids = part
    try:
        assert np.array_equal(pickle.loads(pickle.dumps(shares)).batches.source.ids, part)
    finally:
        shares.batches.source.ids = ids


@pytest.mark.parametrize("samples", ["windows", "sentences"])
def test_a_spawned_worker_maps_the_list_of_windows(shares, tmp_path, samples):
    """It is sent no list, however long that is, and no cache; its steps are the same in every epoch."""
    source = shares.batches.source
    how = dict(settings=source.settings, sentence_ends=source.sentence_ends, seed=source.seed)
    offsets = np.array([0, len(source.ids)])
    windows = cut_windows(offsets, 16)
    if samples == "sentences":
        windows = cut_sentences(source.ids, offsets, source.sentence_ends, 16)
    source = SampleSource(source.ids, windows, openers=source.openers, **how)
    shares = Shares(TrainingBatches(source, 256), shares.model, 40, rank=0, size=2)
    later = shares.batches.per_epoch + 1
    here = [shares[step] for step in (0, 3, later)]  # fills the caches
    sent = pickle.dumps(shares.with_windows_in(tmp_path))
    n = len(source.windows)
    assert n > 100 and source.windows.start[:50].tobytes() not in sent
    assert len(sent) < len(pickle.dumps(shares)) - 20 * n  # of 27 bytes per window
    there = pickle.loads(sent)
    assert there.batches.source.windows.start.filename == str(tmp_path / "start.npy")
    for step, share in zip((later, 0, 3), (here[2], *here[:2]), strict=True):
        same_share(there[step], share)


def test_temporary_files_of_spawned_workers_are_gone_afterwards(shares, tmp_path, monkeypatch):
    """Whether the worker has ended or never started."""
    monkeypatch.setattr(feed.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(feed, "start_method", lambda device: "spawn")
    seen = []

    def started(shares, steps, workers, device):
        seen.extend(os.listdir(next(tmp_path.iterdir())))
        raise RuntimeError("no process could start")

    monkeypatch.setattr(feed, "_started", started)
    with pytest.raises(RuntimeError, match="could start"), prepared(shares, 0, 2, 1, CPU):
        pass
    assert "start.npy" in seen and not [*tmp_path.iterdir()]


# ---- who does the work -----------------------------------------------------------------------------------


class Facts:
    """Instead of a Share: which step, which process, how many threads."""

    def __getitem__(self, step):
        return step, os.getpid(), torch.get_num_threads()


def test_steps_arrive_in_order_from_as_many_processes_of_one_thread_each():
    torch.set_num_threads(2)
    try:
        with prepared(Facts(), 3, 12, 3, CPU) as steps:
            numbers, processes, threads = zip(*steps, strict=True)
    finally:
        torch.set_num_threads(1)
    assert numbers == tuple(range(3, 12)) and len({*processes} - {os.getpid()}) == 3
    assert {*threads} == {1}


def test_no_more_workers_start_than_there_are_steps():
    with prepared(Facts(), 3, 5, 64, CPU) as steps:
        assert len({process for _, process, _ in steps}) == 2
    with prepared(Facts(), 5, 5, 64, CPU) as steps:
        assert list(steps) == []


@pytest.mark.parametrize("workers, here", [(0, 9), (2, 0)])
def test_with_workers_the_loop_only_asks_for_finished_batches(
    minglm, text_file, tmp_path, monkeypatch, workers, here
):
    drawn, plain = [], Shares.__getitem__
    monkeypatch.setattr(Shares, "__getitem__", lambda self, step: drawn.append(step) or plain(self, step))
    assert minglm(*words(text_file, tmp_path / "run", "--train.workers", workers)).code == 0
    assert len(drawn) == here  # in this process; a worker's list is its own


def test_a_gpu_gets_workers_and_a_cpu_none(monkeypatch):
    monkeypatch.setattr(feed, "cpu", lambda: dict(cores=16))
    gpu = torch.device("cuda", 0)
    assert worker_count(-1, CPU) == 0 and worker_count(3, CPU) == 3 and worker_count(0, gpu) == 0
    assert worker_count(-1, gpu) == 4 and worker_count(-1, gpu, 8) == 1 and worker_count(-1, gpu, 16) == 1
    assert feed.start_method(gpu) == "spawn"


# ---- when something goes wrong ---------------------------------------------------------------------------


def test_an_error_of_a_worker_is_the_line_that_it_is_without_workers(
    minglm, text_file, tmp_path, monkeypatch
):
    plain = TrainingBatches.examples

    def spoilt(self, step, *how):
        if step == 3:
            raise MinglmError("corpus: token 7 is not accepted")
        return plain(self, step, *how)

    monkeypatch.setattr(TrainingBatches, "examples", spoilt)
    for workers in (0, 2):
        result = minglm(
            *words(text_file, tmp_path / str(workers), "--train.workers", workers, "--dtype", "float32")
        )
        assert result.code == 2 and result.err == "minglm: error: corpus: token 7 is not accepted\n"


def test_a_worker_that_is_killed_ends_the_run_with_one_line(text_file, tmp_path):
    def work():
        plain, me = Shares.__getitem__, os.getpid()

        def deadly(self, step):
            if step == 3 and os.getpid() != me:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(self, step)

        Shares.__getitem__ = deadly
        return main(words(text_file, tmp_path / "run", "--train.workers", "2"))

    result = Forked(work).wait()
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "train.workers: a process that prepares batches was killed" in result.stderr


def started(text_file, out):
    """A long run with workers, in a process group of its own, after its first step."""

    def work():
        os.setpgrp()
        return main(words(text_file, out, "--steps", 100_000, "--train.workers", 2, "--train.log_every", 1))

    process = Forked(work)
    assert any(line.startswith("step ") for line in process.stdout)
    return process


def is_gone(group, seconds=10):
    """Whether all processes of a group end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_ends_them_without_a_traceback(text_file, tmp_path, signal_):
    """As Ctrl-C sends it to a terminal's foreground processes, and Slurm to those of a job."""
    process = started(text_file, tmp_path / "run")
    os.killpg(process.pid, signal_)
    done = process.wait()
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert done.stderr.count("stopping after this step") == 1 and "--resume" in done.stderr
    assert is_gone(process.pid)


def test_workers_end_when_the_training_process_is_killed(text_file, tmp_path):
    process = started(text_file, tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL and is_gone(process.pid)


def test_a_share_is_pinned_tensor_by_tensor(shares, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    share = shares[3]
    moved = share.pin_memory()
    assert isinstance(moved, Share) and len(pinned) == len(feed.TENSORS) * len(share.batches)
    same_share(moved, share)
