"""Pretraining: the files of a run, and that runs are reproducible."""

import csv
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SMALL, TEXT, Forked, command, dies_at, group, python, thorough

from minglm import GLM, Tokenizer
from minglm.attention import backends, best_backend
from minglm.batch import pack
from minglm.cli import main
from minglm.cli.pretrain import SHORT
from minglm.errors import how_to_install
from minglm.files.checkpoint import Checkpoints
from minglm.measure.held_out import evaluate
from minglm.rng import stream_seed
from minglm.train.config import resolve
from minglm.train.distributed import Interrupt, World
from minglm.train.log import COLUMNS, words_in_the_middle
from minglm.train.optimizer import learning_rate, make_optimizer
from minglm.train.pretrain import Run, cut_back, pretrain


def rows(run):
    """metrics.csv as a list of dicts."""
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(run):
    return [float(row["loss"]) for row in rows(run)]


def small(text_file, *more):
    return ["pretrain", "--text", text_file, *SMALL, *more]


# ---- what a run leaves -----------------------------------------------------------------------------------


def test_a_run_folder_holds_what_it_promises(small_run):
    found = {p.name for p in small_run.iterdir()}
    promised = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "metrics.csv",
        "samples.jsonl",
        "curves.png",
        "run.toml",
    }
    assert promised | {"evaluation.json", "checkpoints"} == found
    table = rows(small_run)
    assert list(table[0]) == list(COLUMNS)
    assert [int(row["step"]) for row in table] == list(range(1, 31))
    assert all(math.isfinite(float(row["loss"])) and 0 < float(row["masked"]) < 1 for row in table)
    assert float(table[-1]["held_out"]) < float(table[0]["loss"])
    sample = json.loads((small_run / "samples.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (
        "[MASK]" in sample["text"] and sample["filled"] and sample["truth"] and sample["log_probability"] < 0
    )
    assert (small_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((small_run / "evaluation.json").read_text(encoding="utf-8"))
    assert set(report["objectives"]) == {"token", "sentence", "document"}


def test_a_run_learns(small_run):
    first, last = np.mean(losses(small_run)[:3]), np.mean(losses(small_run)[-3:])
    assert first == pytest.approx(math.log(400), rel=0.1)
    assert last < 0.75 * first


def test_the_run_folders_own_model_is_the_last_checkpoint(small_run):
    last = Checkpoints(small_run).verified()
    assert last.name.endswith("30")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (small_run / name).read_bytes() == (last / name).read_bytes()


def test_the_banner_says_what_was_chosen_and_why_and_the_end_what_to_try(minglm, text_file, tmp_path):
    result = minglm(*small(text_file, "--steps", 4, "--out", tmp_path / "run"))
    assert result.code == 0
    words = (
        "parameters",
        "documents",
        "held out",
        "objective",
        "masked",
        "device",
        "dtype",
        "attention",
        "a step",
        "time",
    )
    for word in words:
        assert word in result.out
    assert (
        f"attention   {best_backend(head_dim=16)[0]} (" in result.out
        and "float32 (as requested)" in result.out
    )
    assert "a blank" in result.out and "(it was: " in result.out
    assert f"minglm fill --model {tmp_path / 'run'} " in result.out
    assert f"minglm explore --model {tmp_path / 'run'} --open" in result.out
    plain = [line for line in result.out.splitlines() if line.startswith("step ")]
    assert all(word in plain[0] for word in ("loss", "lr", "grad", "tokens/s", "left"))


def test_resolved_settings_give_the_same_run_again(minglm, text_file, tmp_path):
    assert minglm(*small(text_file, "--steps", 5, "--out", tmp_path / "a")).code == 0
    assert minglm("pretrain", "--config", tmp_path / "a" / "run.toml", "--out", tmp_path / "b").code == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()


def test_another_seed_is_another_run(minglm, text_file, tmp_path):
    for seed in (1, 2):
        assert (
            minglm(*small(text_file, "--steps", 2, "--seed", seed, "--out", tmp_path / str(seed))).code == 0
        )
    assert losses(tmp_path / "1")[0] != losses(tmp_path / "2")[0]


def test_the_attention_that_was_asked_for_is_the_one_that_runs(minglm, text_file, tmp_path, monkeypatch):
    from minglm import attention

    called, plain = set(), dict(attention.BACKENDS)
    for name in plain:
        monkeypatch.setitem(
            attention.BACKENDS, name, lambda *args, name=name: called.add(name) or plain[name](*args)
        )
    first = next(name for name, serves, _ in backends() if serves)
    for asked, runs in (("auto", first), ("reference", "reference"), ("sdpa", "sdpa")):
        called.clear()
        result = minglm(*small(text_file, "--steps", 1, "--backend", asked, "--out", tmp_path / asked))
        assert result.code == 0 and called == {runs}
        assert f"attention   {runs}" in result.out and (
            asked == "auto" or f"{asked} (as requested)" in result.out
        )
    assert (
        minglm(*small(text_file, "--steps", 1, "--backend", "flash", "--out", tmp_path / "flash")).code == 2
    )


def test_minutes_fix_the_number_of_steps_once_and_record_it(minglm, text_file, tmp_path):
    result = minglm(*small(text_file, "--minutes", 0.01, "--out", tmp_path / "run"))
    assert result.code == 0
    steps = len(rows(tmp_path / "run"))
    settings = resolve(file=tmp_path / "run" / "run.toml")
    assert settings.train.steps == steps and settings.train.minutes == 0


def test_auto_dtype_is_decided_once_with_its_reason(minglm, text_file, tmp_path):
    result = minglm(*small(text_file, "--steps", 1, "--dtype", "auto", "--out", tmp_path / "run"))
    assert "times as fast as in float32" in result.out
    assert resolve(file=tmp_path / "run" / "run.toml").train.dtype in ("float32", "bfloat16")


def test_keep_limits_the_checkpoints(minglm, text_file, tmp_path):
    args = small(text_file, "--steps", 9, "--train.save_every", 2, "--keep", 2, "--out", tmp_path / "run")
    assert minglm(*args).code == 0
    kept = Checkpoints(tmp_path / "run").steps()
    assert {8, 9} <= set(kept) and len(kept) <= 3  # the best by held-out loss may be a third


def test_best_points_to_the_lowest_held_out_loss(minglm, text_file, tmp_path):
    args = small(text_file, "--steps", 12, "--lr", "1e-2", "--train.eval_every", 3, "--out", tmp_path / "run")
    assert minglm(*args).code == 0
    held_out = {int(r["step"]): float(r["held_out"]) for r in rows(tmp_path / "run") if r["held_out"]}
    best = Checkpoints(tmp_path / "run").verified("best")
    assert int(best.name.rpartition("-")[2]) == min(held_out, key=held_out.get)


def test_a_new_run_starts_from_the_weights_of_another(minglm, text_file, small_run, tmp_path):
    args = (
        "pretrain",
        "--text",
        text_file,
        "--init",
        small_run,
        "--steps",
        2,
        "--batch-tokens",
        256,
        "--dtype",
        "float32",
    )
    assert minglm(*args, "--out", tmp_path / "run").code == 0
    assert losses(tmp_path / "run")[0] < 0.8 * losses(small_run)[0]
    result = minglm(*args, "--model.num_layers", 3, "--out", tmp_path / "other")
    assert result.code == 2 and "model.num_layers" in result.err and "--init" in result.err


def test_tensorboard_gets_every_column(minglm, text_file, tmp_path, monkeypatch):
    from types import SimpleNamespace

    logged = {}

    class Writer:
        def __init__(self, folder, purge_step):
            assert folder == tmp_path / "run" and purge_step == 0

        def add_scalar(self, name, value, step):
            logged.setdefault(name, []).append((step, value))

        def close(self):
            logged["closed"] = True

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    assert (
        minglm(*small(text_file, "--steps", 2, "--log", "tensorboard", "--out", tmp_path / "run")).code == 0
    )
    assert logged["closed"] and set(logged) == {*COLUMNS, "closed"} - {"step"}
    assert [value for _, value in logged["loss"]] == losses(tmp_path / "run")


@thorough
def test_a_compiled_run_learns_the_same(minglm, text_file, tmp_path, monkeypatch):
    """With the cheap compiler backend: what is compiled, and that it trains (the real one takes minutes)."""
    compile_with = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compile_with(f, **{**options, "backend": "aot_eager"})
    )
    assert minglm(*small(text_file, "--steps", 3, "--out", tmp_path / "plain")).code == 0
    assert minglm(*small(text_file, "--steps", 3, "--compile", "--out", tmp_path / "compiled")).code == 0
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)
    GLM.from_pretrained(tmp_path / "compiled")


def test_recomputed_activations_change_nothing(minglm, text_file, tmp_path):
    args = small(text_file, "--steps", 3, "--model.dropout", "0.1")
    assert minglm(*args, "--out", tmp_path / "kept").code == 0
    assert minglm(*args, "--checkpoint-activations", "--out", tmp_path / "recomputed").code == 0
    assert losses(tmp_path / "recomputed") == pytest.approx(losses(tmp_path / "kept"), abs=1e-5)


def test_tensorboard_missing_is_a_clear_error(minglm, text_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = minglm(*small(text_file, "--steps", 1, "--log", "tensorboard", "--out", tmp_path / "run"))
    line = f"minglm: error: train.log: tensorboard is not installed; {how_to_install('tensorboard')}\n"
    assert (result.code, result.err, result.out) == (2, line, "") and not (tmp_path / "run").exists()


# ---- resume ----------------------------------------------------------------------------------------------

# dropout, accumulation and several passes over the text: whatever could depend on history
HARD = (
    *("--model.dropout", "0.2", "--train.micro_batch_tokens", "100"),
    *("--train.save_every", "4", "--train.eval_every", "5", "--train.sample_every", "10"),
)


def same_run(a, b):
    """Weights, optimiser state and loss columns of two run folders are equal bit for bit."""
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    (_, one), (_, two) = Checkpoints(a).load_state(), Checkpoints(b).load_state()
    for p, q in zip(one["optimizer"]["state"].values(), two["optimizer"]["state"].values(), strict=True):
        assert all(torch.equal(p[name], q[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
    columns = [name for name in COLUMNS if name not in ("seconds", "mfu")]
    assert [[r[c] for c in columns] for r in rows(a)] == [[r[c] for c in columns] for r in rows(b)]
    assert (a / "samples.jsonl").read_bytes() == (b / "samples.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole_run(text_file, tmp_path_factory):
    """20 steps without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([str(word) for word in small(text_file, *HARD, "--steps", 20, "--out", out)]) == 0
    return out


@pytest.mark.parametrize("stop", [10, 13])
def test_twenty_steps_equal_some_and_the_rest_bit_for_bit(minglm, text_file, whole_run, tmp_path, stop):
    out = tmp_path / "run"
    assert minglm(*small(text_file, *HARD, "--steps", 20, "--stop-at", stop, "--out", out)).code == 0
    assert len(rows(out)) == stop
    torch.manual_seed(stop)  # as in a process of its own, which would not find what the first left behind
    again = minglm("pretrain", "--out", out, "--resume")
    assert again.code == 0 and f"resumed at step {stop}" in again.out
    same_run(out, whole_run)


@pytest.mark.parametrize("die_at", [30, 44])
def test_a_run_killed_while_it_saves_resumes_bit_for_bit(minglm, text_file, whole_run, tmp_path, die_at):
    out = tmp_path / "run"
    words = [str(word) for word in small(text_file, *HARD, "--steps", 20, "--out", out)]
    killed = Forked(lambda: dies_at(die_at, ("replace", "rename", "fsync", "link")) or main(words))
    assert killed.wait().returncode == -signal.SIGKILL
    GLM.from_pretrained(out)
    assert minglm("pretrain", "--out", out, "--resume").code == 0
    same_run(out, whole_run)


def test_a_resumed_run_keeps_its_settings(minglm, small_run, text_file, tmp_path):
    result = minglm("pretrain", "--out", small_run, "--resume", "--lr", "1")
    assert result.code == 2 and "train.lr" in result.err
    assert minglm("pretrain", "--resume").code == 2
    result = minglm("pretrain", "--out", tmp_path, "--resume")
    assert result.code == 2 and "run.toml" in result.err


def test_a_finished_run_resumes_to_its_end(minglm, small_run):
    before = (small_run / "metrics.csv").read_bytes()
    assert minglm("pretrain", "--out", small_run, "--resume").code == 0
    assert (small_run / "metrics.csv").read_bytes() == before


def test_a_changed_corpus_is_refused(minglm, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    assert minglm(*small(text, "--steps", 2, "--stop-at", 1, "--out", tmp_path / "run")).code == 0
    text.write_text(TEXT.replace("bread", "cake"), encoding="utf-8")
    result = minglm("pretrain", "--out", tmp_path / "run", "--resume")
    assert result.code == 2 and "changed" in result.err


def test_lines_after_the_checkpoint_and_half_a_line_are_cut(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,5\n2,4\n3,3\n4,", encoding="utf-8")
    cut_back(path, lambda line: line.startswith("step") or int(line.split(",")[0]) <= 2)
    assert path.read_text(encoding="utf-8") == "step,loss\n1,5\n2,4\n"


# ---- the same curve on any number of processes -----------------------------------------------------------


def torchrun(processes, *args):
    words, options = command(*args)
    words[1:3] = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "-m",
        "minglm",
    ]
    return subprocess.run(words, capture_output=True, **options)


def test_two_processes_and_accumulation_give_the_loss_curve_of_one(minglm, text_file, tmp_path, monkeypatch):
    """Batches of one or a few samples: shares are unequal; with one sample, the second process has none."""
    args = small(text_file, "--model.dropout", "0", "--steps", 12, "--lr", "1e-2", "--batch-tokens", "80")
    assert minglm(*args, "--out", tmp_path / "one").code == 0
    assert minglm(*args, "--train.micro_batch_tokens", 1, "--out", tmp_path / "accumulated").code == 0
    first, _ = group(monkeypatch, 2, [*args, "--out", tmp_path / "two"])
    assert "2 processes" in first.stdout
    batches = Run(
        resolve(file=tmp_path / "one" / "run.toml"), tmp_path / "again", World(0, 1), False, None
    ).batches
    assert {len(batches.windows_of(step)[1]) for step in range(12)} >= {1, 2}
    for other in ("accumulated", "two"):
        assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / "one"), abs=2e-4)
        for column in ("grad_norm", "held_out"):
            ours, theirs = ([float(r[column] or 0) for r in rows(tmp_path / name)] for name in ("one", other))
            assert theirs == pytest.approx(ours, rel=2e-3)


@thorough
def test_torchrun_trains_in_two_processes(text_file, tmp_path):
    done = torchrun(2, *small(text_file, "--steps", 2, "--out", tmp_path / "run"))
    assert done.returncode == 0 and "2 processes" in done.stdout, done.stderr
    assert len(losses(tmp_path / "run")) == 2


def test_micro_batches_averaged_apart_would_be_noticed(text_file, tmp_path):
    """The test can fail: averaging each micro-batch by itself, as the original does, gives other curves."""
    run = make_run(text_file, tmp_path, "--train.micro_batch_tokens", "60")
    examples = [e for _, e in run.batches.examples(0)]
    assert len(examples) > 2
    together = run.model.loss(pack(examples))
    apart = torch.stack([run.model.loss(pack([e])) for e in examples]).mean()
    assert abs(float((together - apart).detach())) > 1e-4


# ---- rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 10, 997])
def test_the_learning_rate_rises_then_falls_and_is_never_negative(decay, steps):
    t = replace(resolve().train, steps=steps, lr=0.1, warmup=0.1, min_lr_ratio=0.05, decay=decay)
    rates = [learning_rate(step, t) for step in range(2 * steps)]
    warmup = int(0.1 * steps)
    assert all(a < b for a, b in zip(rates[:warmup], rates[1:warmup], strict=False))
    assert all(a >= b for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))
    assert max(rates) == pytest.approx(0.1) and rates[0] > 0
    assert min(rates[warmup:]) >= 0.1 * 0.05 - 1e-12
    if steps > 1:
        assert rates[steps - 1] == pytest.approx(0.1 * 0.05)


def test_norms_and_biases_are_not_decayed_and_tables_are():
    model = GLM(replace(resolve().model, vocab_size=50, hidden_size=8, num_heads=2, num_layers=1))
    t = replace(resolve().train, optimizer="adamw", table_lr_ratio=4.0)
    tables, matrices, free = make_optimizer(model, t).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert free["weight_decay"] == 0 and tables["weight_decay"] == matrices["weight_decay"] == 0.1
    assert [g["lr_ratio"] for g in (tables, matrices, free)] == [4.0, 1.0, 1.0]
    assert {names[id(p)] for p in tables["params"]} == {n for n in names.values() if "embedding" in n}
    assert {names[id(p)] for p in free["params"]} == {
        n for n in names.values() if "norm" in n or n.endswith("bias")
    }
    assert sum(len(g["params"]) for g in (tables, matrices, free)) == len(names)


def test_dropout_is_keyed_by_seed_step_rank_and_micro_batch():
    keys = [(s, k, r, m) for s in (1, 2) for k in (0, 1) for r in (0, 1) for m in (0, 1)]
    assert len({stream_seed(*key) for key in keys}) == len(keys)
    assert stream_seed(1, 2, 3, 4) == stream_seed(1, 2, 3, 4)


def make_run(text_file, tmp_path, *more):
    words = [*SMALL, *more]
    overrides = {SHORT.get(a, a.removeprefix("--")): b for a, b in zip(words[::2], words[1::2], strict=True)}
    config = resolve(overrides={**overrides, "data.text": [str(text_file)], "train.steps": 2})
    return Run(config, tmp_path / "made", World(0, 1), False, None)


def test_held_out_loss_is_an_average_over_tokens(text_file, tmp_path):
    run = make_run(text_file, tmp_path, "--train.micro_batch_tokens", "50")
    score = evaluate(run, 100)["token"]
    examples = [run.held_out_source.held_out(w, "token") for w in range(len(run.held_out))]
    run.model.eval()
    alone = [run.model.loss(pack([e]), "sum").item() for e in examples]
    assert score.targets == sum(len(e.targets) for e in examples)
    assert score.nats == pytest.approx(sum(alone), rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(sum(alone) / score.targets), rel=1e-5)
    text = b"".join(run.tokenizer.decode(e.targets[e.targets >= 24].tolist()).encode() for e in examples)
    assert score.bytes == len(text)
    assert score.bits_per_byte == pytest.approx(sum(alone) / math.log(2) / len(text), rel=1e-5)


def test_noise_in_part_a_does_not_depend_on_the_number_of_processes(text_file, tmp_path):
    run = make_run(text_file, tmp_path)
    alone, shares = evaluate(run, 100, noise=True), []
    for rank in (0, 1):
        run.world = World(rank, 2)
        run.world.sum = lambda tensor: None  # each process for itself
        shares.append(evaluate(run, 100, noise=True))
    for objective, score in alone.items():
        assert sum(share[objective].targets for share in shares) == score.targets
        assert sum(share[objective].nats for share in shares) == pytest.approx(score.nats, rel=1e-6)


def test_held_out_documents_are_never_trained_on(text_file, tmp_path):
    run = make_run(text_file, tmp_path)
    assert set(run.held_out.document) == {19, 39}
    assert not set(run.held_out.document) & set(run.training.document)


def test_a_blank_to_show_is_whole_words():
    assert words_in_the_middle([" and", " liv", "ed", " between", " K", "ad"]) == (3, 4)
    assert words_in_the_middle(["我", "們", "在", "家"]) == (2, 4)
    assert words_in_the_middle(["x"]) == (0, 1)


# ---- when something goes wrong ---------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_checkpoint(
    minglm, text_file, tmp_path
):
    out = tmp_path / "run"
    args = small(
        text_file, "--steps", 30, "--lr", "1e30", "--train.clip", 0, "--train.save_every", 1, "--out", out
    )
    result = minglm(*args)
    assert result.code == 2 and "not finite" in result.err and "step" in result.err
    assert str(Checkpoints(out).verified()) in result.err
    model = GLM.from_pretrained(out)
    assert len(rows(out)) == Checkpoints(out).steps()[-1]
    assert all(torch.isfinite(p).all() for p in model.parameters())


def start_long_run(text_file, out):
    words = small(text_file, "--steps", 100_000, "--train.log_every", 1, "--out", out)
    process = Forked(lambda: main([str(word) for word in words]))
    for line in process.stdout:
        if line.startswith("step "):
            return process
    raise AssertionError(process.stderr.read())


def test_the_first_ctrl_c_saves_and_leaves(text_file, tmp_path):
    process = start_long_run(text_file, tmp_path / "run")
    os.kill(process.pid, signal.SIGINT)
    done = process.wait()
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert "--resume" in done.stderr
    saved = Checkpoints(tmp_path / "run").steps()[-1]
    assert saved == len(rows(tmp_path / "run")) > 0
    assert f"saved step {saved}" in done.stderr


def test_the_second_ctrl_c_leaves_at_once(text_file, tmp_path, monkeypatch):
    def endless(run, share):
        print("step begun", flush=True)
        while True:
            time.sleep(1)

    monkeypatch.setattr("minglm.train.pretrain.train_step", endless)
    words = small(text_file, "--steps", 2, "--out", tmp_path / "run")
    process = Forked(lambda: main([str(word) for word in words]))
    assert any(line == "step begun\n" for line in process.stdout)
    os.kill(process.pid, signal.SIGINT)
    assert any("a second Ctrl-C quits immediately" in line for line in process.stderr)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait().returncode == -signal.SIGINT
    GLM.from_pretrained(tmp_path / "run")  # the earlier checkpoint is intact


STILL_MAPPED = """
import torch
from minglm.train.distributed import keep_memory
def is_mapped():
    tensor = torch.ones(1 << 21)  # 8 MiB
    address = tensor.data_ptr()
    del tensor
    ranges = [line.split()[0].split("-") for line in open("/proc/self/maps")]
    return any(int(first, 16) <= address < int(end, 16) for first, end in ranges)
print(is_mapped())
keep_memory()
print(is_mapped())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_memory_that_a_step_leaves_is_kept_for_the_next():
    done = python("-c", STILL_MAPPED)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_after_a_run_ctrl_c_is_what_it_was():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(World(0, 1)) as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert interrupt.happened
    assert signal.getsignal(signal.SIGINT) == before


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_saved(minglm, text_file, tmp_path):
    out = tmp_path / "run"
    assert minglm(*small(text_file, "--steps", 4, "--stop-at", 2, "--out", out)).code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}

    def resume():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # like a disk with 20 kB left
        return main(["pretrain", "--out", str(out), "--resume"])

    result = Forked(resume).wait()
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and "minglm: error:" in result.stderr
    assert (out / "model.safetensors").read_bytes() == before["model.safetensors"]
    GLM.from_pretrained(out)
    assert minglm("pretrain", "--out", out, "--resume").code == 0
    assert len(rows(out)) == 4


def test_a_damaged_checkpoint_is_named(minglm, text_file, tmp_path):
    out = tmp_path / "run"
    assert minglm(*small(text_file, "--steps", 2, "--stop-at", 1, "--out", out)).code == 0
    state = Checkpoints(out).verified() / "state.pt"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes(data)
    result = minglm("pretrain", "--out", out, "--resume")
    assert result.code == 2 and "state.pt" in result.err and "Traceback" not in result.err


def test_a_folder_that_holds_something_is_left_alone(minglm, small_run, text_file, tmp_path):
    before = sorted(p.name for p in small_run.iterdir())
    result = minglm(*small(text_file, "--steps", 1, "--out", small_run))
    assert result.code == 2 and "another run" in result.err and "--resume" in result.err
    assert sorted(p.name for p in small_run.iterdir()) == before
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    result = minglm(*small(text_file, "--steps", 1, "--out", tmp_path))
    assert result.code == 2 and "thesis.txt" in result.err
    result = minglm(*small(text_file, "--steps", 1, "--out", tmp_path / "thesis.txt"))
    assert result.code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "text"),
        (b"ok ok ok ok\n\n\xff bad", "byte 13"),
        (b"a b", "4 tokens"),
    ],
)
def test_a_text_that_cannot_be_used_leaves_no_run(minglm, tmp_path, content, words):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    result = minglm(*small(path, "--steps", 1, "--out", tmp_path / "run"))
    assert result.code == 2 and str(path) in result.err and words in result.err
    assert not (tmp_path / "run" / "run.toml").exists()
    missing = minglm(*small(tmp_path / "none.txt", "--steps", 1, "--out", tmp_path / "run"))
    assert missing.code == 2 and "none.txt" in missing.err
    path.write_text(TEXT, encoding="utf-8")
    assert (
        minglm(*small(path, "--steps", 1, "--out", tmp_path / "run")).code == 0
    )  # the folder was not spoilt


def test_errors_replace_goes_on(minglm, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode() + b"\xff")
    assert minglm(*small(path, "--steps", 1, "--errors", "replace", "--out", tmp_path / "run")).code == 0


def test_documents_that_are_too_short_are_counted_in_the_banner(minglm, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n\na\n\nb", encoding="utf-8")
    assert "2 skipped" in minglm(*small(path, "--steps", 1, "--out", tmp_path / "run")).out


def test_chinese_text_trains_and_fills(minglm, tmp_path):
    path = tmp_path / "text.txt"
    documents = ["起初，神創造天地。地是空虛混沌，淵面黑暗。", "神說：要有光，就有了光。神看光是好的。"]
    path.write_text("\n\n".join(documents * 12), encoding="utf-8")
    assert minglm(*small(path, "--steps", 40, "--lr", "1e-2", "--out", tmp_path / "run")).code == 0
    result = minglm("fill", "--model", tmp_path / "run", "神說：要有[MASK]，就有了光。")
    assert result.code == 0 and result.out.startswith("神說：要有") and "\ufffd" not in result.out
    Tokenizer.from_pretrained(tmp_path / "run")


def test_a_library_user_can_call_it(text_file, tmp_path):
    overrides = {
        "data.text": [str(text_file)],
        "train.steps": 1,
        "model.hidden_size": 16,
        "model.num_heads": 2,
    }
    overrides |= {"model.num_layers": 1, "model.vocab_size": 300, "train.dtype": "float32"}
    drawn = []
    assert (
        pretrain(resolve(overrides=overrides), tmp_path / "run", draw_curves=drawn.append) == tmp_path / "run"
    )
    assert drawn == [tmp_path / "run"]


def test_a_report_with_a_number_that_is_no_json_is_not_written(minglm, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr("minglm.train.pretrain.final_report", lambda run: {"perplexity": math.nan})
    result = minglm(*small(text_file, "--steps", 1, "--out", tmp_path / "run"))
    assert result.code == 2 and result.err.splitlines()[-1].startswith("minglm: error: ")
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert (tmp_path / "run" / "model.safetensors").exists()  # nothing that was learned is lost
