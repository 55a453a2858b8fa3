"""`minglm bench train`: all train the same model, wrong trainers are refused, work is counted right."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import thorough

from minglm import GLM, GLMConfig, build_example, pack
from minglm.attention import backends
from minglm.bench import padded, timing, training
from minglm.bench.padded import PaddedGLM, groups_of_similar_length, pad, padded_step
from minglm.bench.training import EVERY, LEARNED, PARTS
from minglm.errors import MinglmError
from minglm.model_config import useful_flop
from minglm.train.config import RunConfig, resolve
from minglm.train.optimizer import make_optimizer

SHAPE = GLMConfig(vocab_size=400, hidden_size=32, num_layers=2, num_heads=2, max_positions=64, dropout=0.0)
SERVING = [name for name, serves, _ in backends() if serves and name != "emulated"]


def example(length, spans, order, seed):
    return build_example(np.random.default_rng(seed).integers(8, 400, length), spans, order)


def examples():
    """Samples of 10, 5 and 33 rows: Part A of 5, 3 and 20."""
    return [
        example(6, [(2, 3), (4, 6)], [1, 0], seed=1),
        example(3, [(1, 2)], [0], seed=2),
        example(31, [(3, 9), (20, 27)], [1, 0], seed=3),
    ]


def model_of(seed=0, **changes):
    """A model whose every weight matters."""
    torch.manual_seed(seed)
    model = GLM(replace(SHAPE, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def padded_of(model, every_row):
    twin = PaddedGLM(model.config, every_row).to(model.final_norm.weight.dtype)
    twin.load_state_dict(model.state_dict())
    return twin


# ---- the rivals ------------------------------------------------------------------------------------------


def test_a_padded_batch_holds_the_samples_and_nothing_that_learns_besides():
    batch, packed = pad(examples()), pack(examples())
    assert batch.tokens.shape == (3, 35) and batch.may_attend.shape == (3, 1, 35, 35)
    assert batch.loss_mask.sum(1).tolist() == [5, 2, 15]
    assert batch.targets[batch.loss_mask].tolist() == packed.targets.tolist()
    dense = packed.mask.dense()
    for s, (a, b) in enumerate([(0, 10), (10, 15), (15, 50)]):
        for name in ("tokens", "position_ids", "block_position_ids"):
            row = getattr(batch, name)[s]
            assert row[: b - a].tolist() == getattr(packed, name)[a:b].tolist() and not row[b - a :].any(), (
                name
            )
        assert torch.equal(batch.may_attend[s, 0, : b - a, : b - a], dense[a:b, a:b])
        assert not batch.may_attend[s, 0, : b - a, b - a :].any()  # no row sees padding


@pytest.mark.parametrize("every_row", [True, False])
@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_padded_loss_and_gradients_are_those_of_our_model_with_the_same_weights(every_row, gelu):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        ours = model_of(gelu=gelu).to(dtype)
        theirs = padded_of(ours, every_row)
        loss = ours.loss(pack(examples()))
        mean = theirs(pad(examples())) / len(pack(examples()).targets)
        torch.testing.assert_close(mean, loss, rtol=0, atol=tolerance)
        loss.backward()
        mean.backward()
        gradients = {name: p.grad for name, p in ours.named_parameters()}
        for name, p in theirs.named_parameters():
            largest = float(gradients[name].abs().max())
            torch.testing.assert_close(
                p.grad, gradients[name], rtol=0, atol=10 * tolerance * largest, msg=name
            )


def test_groups_hold_every_sample_once_beside_others_of_its_length():
    lengths = [7, 3, 8, 3, 30]
    samples = [SimpleNamespace(tokens=np.zeros(n)) for n in lengths]

    def grouped(rows):
        return [[len(x.tokens) for x in group] for group in groups_of_similar_length(samples, rows)]

    assert grouped(16) == [[3, 3], [7, 8], [30]]
    assert grouped(4) == [[3], [3], [7], [8], [30]]  # a sample longer than a group is one by itself
    assert grouped(150) == [[3, 3, 7, 8, 30]]
    assert grouped(149) == [[3, 3, 7, 8], [30]]


@pytest.mark.parametrize("rows", [15, 1000])
@pytest.mark.parametrize("every_row", [True, False])
def test_padded_trainers_learn_the_same_as_ours_step_by_step(every_row, rows, monkeypatch):
    monkeypatch.setattr(groups_of_similar_length, "__defaults__", (rows,))  # three groups, or one
    ours = model_of().double()
    theirs = padded_of(ours, every_row)
    t = replace(resolve("tiny").train, lr=1e-3)
    mine, other = make_optimizer(ours, t), make_optimizer(theirs, t)
    for _ in range(4):
        loss = ours.loss(pack(examples()))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(ours.parameters(), 0.5)
        mine.step()
        mine.zero_grad()
        assert padded_step(theirs, other, examples(), torch.float64, 0.5) == pytest.approx(
            (loss.item(), norm.item()), rel=1e-9
        )


def test_padded_trainers_drop_out_where_ours_does():
    theirs, shapes = padded_of(model_of(dropout=0.3), True), []
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(
                lambda module, inputs, out: shapes.append((module.p, tuple(out.shape)))
            )
    theirs(pad(examples()))
    assert shapes == [(0.3, (3, 35, 32))] * 5


# ---- the command -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_data(short_corpus):
    """The settings of `tiny` with a model of a few thousand weights, and batches of 128 text tokens."""
    real = resolve("tiny")
    data = replace(real.data, token=0.5, sentence=0.0, document=0.5, samples="windows", blanks="budget")
    config = RunConfig(
        model=SHAPE, data=data, train=replace(real.train, batch_tokens=64, micro_batch_tokens=512)
    )
    return config, training.training_batches(config, [128])


class InThisProcess(training.Padded):
    """A padded trainer that a test can spoil."""

    def __init__(self, keep, make, *args):
        super().__init__(*args)

    def close(self):
        pass


@pytest.fixture
def small_preset(small_data, monkeypatch):
    """`tiny` shrunk, so that a run of the command takes a second."""
    monkeypatch.setattr(training, "resolve", lambda name: small_data[0])
    monkeypatch.setattr(training, "training_batches", lambda config, sizes: small_data[1])
    monkeypatch.setattr(training, "Apart", InThisProcess)
    monkeypatch.setattr(timing, "GEMM_SHAPES", ((8, 8, 8), (16, 4, 8)))
    once = partial(training.where_time_goes, repeats=1)  # reading a profile costs more than all else here
    monkeypatch.setattr(training, "where_time_goes", once)


def test_every_trainer_is_checked_timed_and_profiled_and_the_json_says_so(small_preset, minglm, tmp_path):
    path = tmp_path / "a.json"
    found = minglm(
        "bench", "train", "--preset", "tiny", "--batch-tokens", 128, "--seconds", 0.01, "--json", path
    )
    assert found.code == 0, found.err
    result = json.loads(path.read_text())
    casts = []
    assert result["ok"] and [table["dtype"] for table in result["tables"]] == ["float32", "bfloat16"]
    for table in result["tables"]:
        rows = {row["trainer"]: row for row in table["trainers"]}
        assert list(rows) == [*SERVING, EVERY, LEARNED] and table["wrong"] == {}
        assert table["parameters"] == GLM(SHAPE).num_parameters()
        assert table["padded_rows"] >= table["rows"] > table["learned"] > 0
        for name, row in rows.items():
            assert row["steps"] >= 1 and row["ms"] > 0 and 0 < row["of_gemm"] and name in found.out
            assert row["tokens_per_s"] == pytest.approx(1e3 * table["text_tokens"] / row["ms"], rel=0.9)
            if "parts" in row:
                assert tuple(row["parts"]) == PARTS and sum(row["parts"].values()) == pytest.approx(1)
        assert rows[EVERY]["times_every_row"]["median"] == rows[LEARNED]["times_learned_rows"]["median"] == 1
        profiled = [rows[name]["parts"] for name in (SERVING[0], EVERY, LEARNED)]
        for part in set(PARTS) - {"casts"}:
            assert all(parts[part] > 0.001 for parts in profiled), part
        casts.append(min(parts["casts"] for parts in profiled))
    assert casts[1] > 2 * casts[0]  # float32 casts nothing
    assert "text tokens/s" in found.out and "where the time goes" in found.out


def test_all_trainers_see_the_same_samples_step_by_step(small_preset, minglm, monkeypatch):
    seen = {"ours": [], "padded": []}

    def note(name, function):
        def call(samples):
            seen[name].append(sorted(e.tokens.tolist() for e in samples))
            return function(samples)

        return call

    monkeypatch.setattr("minglm.train.feed.pack", note("ours", pack))
    monkeypatch.setattr(padded, "groups_of_similar_length", note("padded", groups_of_similar_length))
    args = ("--preset", "tiny", "--seconds", 0.01, "--dtype", "float32", "--backends", "sdpa")
    assert minglm("bench", "train", *args).code == 0
    first = seen["ours"][:4]
    assert first[0] != first[1] and seen["padded"][::2][:1] == seen["padded"][1::2][:1] == first[:1]
    for step in first:
        assert seen["padded"].count(step) == 2  # one padded trainer and the other


@thorough
def test_a_padded_trainer_in_a_process_of_its_own_computes_the_same_and_leaves(small_data):
    _, (config, (batches,)) = small_data
    how = (config, batches, model_of().state_dict(), torch.float32, True)
    here, apart = training.Padded(*how), training.Apart(True, training.Padded, *how)
    assert apart.first_step() == here.first_step() and apart.step() == here.step()
    assert set(apart.parts()) == set(PARTS)
    apart.close()
    assert apart.process.exitcode == 0
    with pytest.raises(MinglmError, match="process has ended"):
        apart.step()


def causal(samples):
    batch = pad(samples)
    return batch._replace(may_attend=batch.may_attend.tril())


def shifted(samples):
    batch = pad(samples)
    return batch._replace(targets=batch.targets.roll(1, 1))


def unmasked(samples):
    batch = pad(samples)
    return batch._replace(loss_mask=torch.ones_like(batch.loss_mask))


@pytest.mark.parametrize("mistake", [causal, shifted, unmasked])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trainer_that_computes_something_else_is_refused(small_preset, minglm, monkeypatch, mistake, dtype):
    monkeypatch.setattr(padded, "pad", mistake)
    args = ("--preset", "tiny", "--seconds", 0.01, "--dtype", dtype, "--backends", "sdpa")
    found = minglm("bench", "train", *args)
    assert found.code == 1
    for name in (EVERY, LEARNED):
        assert f"{name:<24}WRONG: its " in found.out and "not timed" in found.out
    assert found.out.count("WRONG") == 2  # ours is right


def test_a_wrong_kernel_is_refused(small_preset, minglm, monkeypatch):
    from minglm import attention

    def forgetful(q, k, v, mask, scale):
        return attention.reference(q, k, v.flip(0), mask, scale)

    monkeypatch.setitem(attention.BACKENDS, "sdpa", forgetful)
    args = ("--preset", "tiny", "--seconds", 0.01, "--dtype", "float32", "--backends", "sdpa", "reference")
    found = minglm("bench", "train", *args)
    assert found.code == 1 and found.out.count("WRONG") == 1 and f"{'sdpa':<24}WRONG" in found.out


def test_useful_work_is_what_the_reference_multiplies():
    """Counted again by PyTorch's own counter, minus what the model computes beyond: every hidden pair, and in
    the last layer the query of every row (it calls qkv for the keys of all rows)."""
    from torch.utils.flop_counter import FlopCounterMode

    model, batch = model_of(), pack(examples())
    model.backend = "reference"
    with FlopCounterMode(display=False) as counter:
        model.loss(batch).backward()
    linear, attention = useful_flop(SHAPE, batch)
    lens, asked = [10, 5, 35], [5, 2, 15]
    C, cells = (
        SHAPE.hidden_size,
        sum(T * T for T in lens) + sum(q * T for q, T in zip(asked, lens, strict=True)),
    )
    unused_queries = 6 * C * C * (sum(lens) - sum(asked))
    # autograd keeps the scores, so QK^T is computed once
    assert counter.get_total_flops() == linear + unused_queries + 12 * C * cells
    visible = batch.mask.visible_keys().tolist()
    pairs = sum(visible) + sum(visible[row] for row in batch.target_rows.tolist())
    assert attention == 14 * C * pairs and pairs < cells


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset", "tinny"), ["tinny", "tiny"]),
        (("--dtype", "float16"), ["--dtype", "float16", "bfloat16"]),
        (("--seconds", "0"), ["--seconds", "> 0"]),
        (("--seconds", "nan"), ["--seconds", "> 0"]),
        (("--backends", "flash"), ["--backends", "flash", "sdpa"]),
        (("--preset", "tiny", "--batch-tokens", "100"), ["--batch-tokens", "100", "128"]),
        (("--preset", "tiny", "--batch-tokens", "5000"), ["--batch-tokens", "5000", "4096"]),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(minglm, args, words):
    found = minglm("bench", "train", *args)
    assert found.code == 2 and len(found.err.strip().splitlines()) == 1
    assert all(word in found.err for word in words)
