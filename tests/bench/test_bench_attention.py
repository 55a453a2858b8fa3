"""`minglm bench attention`: wrong results are refused, work is counted right, variants alternate."""

import contextlib
import json
import math
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import python

from minglm import GLMMask, keys_of_row, masked_attention
from minglm.attention import backends, kernel_rungs
from minglm.bench import attention, cases, check, timing, variants
from minglm.bench.cases import BOTH, FORWARD, SHAPES, Shape, draw, shape_of
from minglm.errors import MinglmError
from minglm.machine import machine, machine_line
from minglm.viz.figures.speed import fig_attention

RUNGS = [rung["name"] for rung in kernel_rungs() if rung["supported"]]
needs_emulator = pytest.mark.skipif(
    not any(name == "emulated" and usable for name, usable, _ in backends()),
    reason="needs a build with the emulator",
)
MIXED = GLMMask.packed([5, 40, 1, 33], [2, 40, 0, 0])
MASKS = {
    "mixed": MIXED,
    "one sample": GLMMask.packed([37], [20]),
    "gpt": GLMMask.gpt([9, 3]),
    "one query": MIXED.with_queries([1, 1, 1, 1]),
    "suffixes": MIXED.with_queries([3, 10, 0, 33]),
}


@pytest.fixture
def tiny(monkeypatch):
    """The shapes of the command, but tiny."""
    shapes = {
        "small-a": partial(cases.mixture, "small-a", 24, 15, rows=80, head_dim=8),
        "small-b": partial(cases.mixture, "small-b", 24, 50, rows=80, head_dim=8),
        "decode": lambda: Shape("decode", MASKS["one query"], 2, 16, "decoding", "one query a sample"),
    }
    monkeypatch.setattr(attention, "SHAPES", shapes)
    monkeypatch.setattr(timing, "GEMM_SHAPES", ((8, 8, 8), (16, 4, 8)))
    return shapes


@pytest.fixture
def wrong_kernel(monkeypatch):
    """A machine with two rungs: "right", and "wrong", where a row of Part B does not see itself."""

    def attend(q, k, v, mask, *, scale, backend):
        if backend == "kernel:wrong":
            mask = GLMMask(
                mask.cu_seqlens_q, mask.cu_seqlens_k, (mask.part_a_lens - 1).clamp(min=0), mask.seqlens_k
            )
        return masked_attention(q, k, v, mask, scale=scale, backend="reference")

    rungs = [dict(name=name, supported=True, float32=True, bfloat16=True) for name in ("right", "wrong")]
    monkeypatch.setattr(variants, "masked_attention", attend)
    monkeypatch.setattr(attention, "kernel_rungs", lambda: rungs)


# ---- the command -----------------------------------------------------------------------------------------


def test_every_variant_is_checked_and_timed_and_the_json_says_so(tiny, minglm, tmp_path):
    files = ("--json", tmp_path / "found.json", "--plot", tmp_path / "found.png")
    result = minglm("bench", "attention", "--seconds", 0.01, *files)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)
    assert (
        found["ok"]
        and found["bench"] == "attention"
        and found["machine"]["threads"] == torch.get_num_threads()
    )
    assert [shape["name"] for shape in found["shapes"]] == list(tiny)
    for shape in found["shapes"]:
        for dtype in ("float32", "bfloat16"):
            rows = {
                row["variant"]: row
                for row in found["rows"]
                if (row["shape"], row["dtype"]) == (shape["name"], dtype)
            }
            kernel = {
                f"kernel:{rung['name']}" for rung in kernel_rungs() if rung["supported"] and rung[dtype]
            }
            assert rows.keys() == {
                "naive",
                *(f"sdpa {form} {layout}" for form, layout in variants.SDPA_FORMS),
                *kernel,
            }
            passes = [FORWARD] if shape["kind"] == "decoding" else [FORWARD, BOTH]
            for row in rows.values():
                assert row["status"] in ("timed", "slow form") and 0 <= row["of_fair"] <= 1
                assert row["error"].keys() == set(attention.TENSORS[: 4 if BOTH in passes else 1])
                if row["status"] == "timed":
                    assert [step for step in (FORWARD, BOTH) if step in row] == passes
                    check_numbers(row, shape, passes)
            best = rows[rows["naive"][passes[0]]["best_of_pytorch"]][passes[0]]
            assert best["ratio"] == best["ratio_low"] == 1 and best["ms"] <= rows["naive"][passes[0]]["ms"]
    assert found["summary"].keys() == {dtype for dtype in ("float32", "bfloat16") if RUNGS}
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    lines = result.out.splitlines()
    for row in found["rows"]:
        name = row["variant"].split(" ")[0]  # the forms of sdpa share a line
        assert sum(line.split()[:3] == [row["shape"], row["dtype"], name] for line in lines) == 1


def check_numbers(row, shape, passes):
    flop = {FORWARD: 4, BOTH: 14}
    for step in passes:
        x = row[step]
        assert x["runs"] >= 1 and 0 < x["ms_low"] <= x["ms"] <= x["ms_high"]
        work = flop[step] * shape["head_dim"] * shape["heads"] * shape["pairs"]
        assert x["gflop_per_s"] == pytest.approx(work / x["ms"] / 1e6)
        assert 0 < x["of_gemm_low"] <= x["of_gemm"] <= x["of_gemm_high"] and x["gemm_gflop_per_s"] > 0
        assert 0 < x["ratio_low"] <= x["ratio"] <= x["ratio_high"]
        if shape["kind"] == "decoding":
            width = 4 if row["dtype"] == "float32" else 2
            kv = 2 * sum(shape["len_k"]) * shape["heads"] * shape["head_dim"] * width
            assert x["gb_per_s"] == pytest.approx(kv / x["ms"] / 1e6)


def test_a_wrong_kernel_is_refused_and_not_timed(tiny, wrong_kernel, minglm):
    result = minglm(
        "bench", "attention", "--seconds", 0.01, "--dtype", "float32", "--shapes", "small-a", "--json"
    )
    assert result.code == 1
    rows = {row["variant"]: row for row in json.loads(result.out)["rows"]}
    assert rows["kernel:right"]["status"] == "timed" and BOTH in rows["kernel:right"]
    wrong = rows["kernel:wrong"]
    assert (
        wrong["status"] == "wrong" and wrong["of_fair"] > 1000 and FORWARD not in wrong and BOTH not in wrong
    )
    [line] = [
        line
        for line in result.err.splitlines()
        if line.split()[2:3] == ["kernel:wrong"] and "would be fair" in line
    ]
    assert line.split()[:2] == ["small-a", "float32"] and "WRONG" in line and "ms" not in line


def test_a_kernel_of_nans_is_refused(tiny, wrong_kernel, minglm, monkeypatch):
    def attend(q, k, v, mask, *, scale, backend):
        out = masked_attention(q, k, v, mask, scale=scale, backend="reference")
        return out * math.nan if backend == "kernel:wrong" else out

    monkeypatch.setattr(variants, "masked_attention", attend)
    result = minglm(
        "bench", "attention", "--seconds", 0.01, "--dtype", "bfloat16", "--shapes", "decode", "--json"
    )
    [wrong] = [row for row in json.loads(result.out)["rows"] if row["variant"] == "kernel:wrong"]
    assert result.code == 1 and wrong["status"] == "wrong" and wrong["error"]["out"] is None


def test_what_would_take_too_long_is_skipped_with_a_reason(tiny, wrong_kernel, minglm, monkeypatch):
    monkeypatch.setattr(attention.Bench, "speed", lambda self, name, *_: 1e3 if name == "kernel:right" else 0)
    arguments = ("bench", "attention", "--seconds", 0.01, "--dtype", "float32", "--shapes", "decode")
    [line] = [line for line in minglm(*arguments).out.splitlines() if "kernel:right" in line]
    assert "skipped: about" in line and "--rungs" in line
    [line] = [
        line for line in minglm(*arguments, "--rungs", "right").out.splitlines() if "kernel:right" in line
    ]
    assert "skipped" not in line
    long = draw(Shape("long", GLMMask.packed([16384], [1]), 2, 8, "training", ""), torch.float32)
    bench = attention.Bench([], 1)
    assert "2.0 GiB" in bench.too_slow(long, "naive", 5)
    assert not bench.too_slow(long, "sdpa bool padded", 5)
    monkeypatch.setattr(bench, "speed", lambda *_: 6 / long.shape.flop(BOTH))  # 6 seconds
    assert not bench.too_slow(long, "kernel:right", 3) and "6.0 s" in bench.too_slow(long, "kernel:right", 1)


def test_without_a_kernel_pytorch_is_still_measured(tiny, minglm, monkeypatch):
    monkeypatch.setattr(attention, "kernel_rungs", lambda: [])
    monkeypatch.setattr(attention, "backends", lambda: [("kernel", False, "no compiler was found")])
    result = minglm("bench", "attention", "--seconds", 0.01, "--dtype", "float32", "--shapes", "small-a")
    assert (
        result.code == 0 and "kernel      no compiler was found" in result.out and "kernel:" not in result.out
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--shapes", "t511"), "t512-a85"),
        (("--dtype", "float16"), "bfloat16"),
        (("--rungs", "avx4096"), "avx4096"),
        (("--device", "cuda:0"), "cpu, cuda"),
        (("--device", "tpu"), "cpu, cuda"),
        pytest.param(
            ("--device", "cuda"),
            "PyTorch sees no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
        (("--seconds", "0"), "> 0"),
        (("--seconds", "nan"), "> 0"),
        (("--plot", "picture.txt"), ".png"),
        (("--plot", "nowhere/picture.png"), "nowhere"),
        (("--json", "nowhere/found.json"), "nowhere"),
    ],
)
def test_bad_arguments_are_one_line(minglm, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = minglm("bench", "attention", *arguments)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert arguments[0] in result.err and said in result.err


def test_other_commands_start_without_the_bench():
    loaded = "any('minglm.bench.' + x in sys.modules for x in sys.argv)"
    code = f"import sys, minglm.cli; minglm.cli.parser(); sys.exit({loaded})"
    assert python("-c", code, "attention", "training").returncode == 0


# ---- what is compared ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_flop_are_those_of_a_count_pair_by_pair(mask):
    shape = Shape("x", mask, 3, 16, "training", "")
    pairs = sum(
        key < min(len_k, keys_of_row(len_k - len_q + r, part_a_len))
        for len_q, len_k, part_a_len in zip(
            mask.len_q.tolist(), mask.len_k.tolist(), mask.part_a_lens.tolist(), strict=True
        )
        for r in range(len_q)
        for key in range(len_k)
    )
    assert shape.pairs == pairs == int(mask.dense().sum())
    # QK^T and PV; backward QK^T once more, dO V^T, dS K, dS^T Q, P^T dO: a multiplication and an addition
    # each
    assert shape.flop(FORWARD) == 3 * pairs * 16 * 2 * 2
    assert shape.flop(BOTH) == 3 * pairs * 16 * 2 * 7


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("form, layout", [("truth", ""), *variants.SDPA_FORMS])
def test_every_form_of_pytorchs_attention_is_glms(mask, form, layout):
    case = draw(Shape("x", mask, 2, 8, "training", ""), torch.float64)
    q, k, v = (x.clone().requires_grad_() for x in (case.q, case.k, case.v))
    out = masked_attention(q, k, v, mask, backend="reference")
    expected = dict(
        zip(attention.TENSORS, (out, *torch.autograd.grad(out, (q, k, v), case.grad_out)), strict=True)
    )
    if form == "truth":
        got = attention.truth(case, chunk=7)
    else:
        variant = variants.sdpa(case, form, layout)
        got = dict(zip(attention.TENSORS, variant.gather(*variant.both()), strict=True))
        [forward] = variant.gather(*variant.forward())
        torch.testing.assert_close(forward, got["out"])
    for name in attention.TENSORS:
        torch.testing.assert_close(
            got[name], expected[name].detach(), msg=lambda text, name=name: f"{name}: {text}"
        )


def test_what_is_fair_follows_from_the_ordinary_error_and_from_the_size():
    true = {
        "out": torch.tensor([1.0, -3.0], dtype=torch.float64),
        "dq": torch.tensor([0.5], dtype=torch.float64),
    }
    eps = torch.finfo(torch.float32).eps
    fair = check.fair_errors(true, torch.float32, {"out": 1e-3, "dq": math.inf})
    assert fair == {"out": 2e-3, "dq": 4 * eps * 0.5}
    got = {"out": torch.tensor([1.0, -3.5]), "dq": torch.tensor([math.nan])}
    assert check.errors(got, true) == {"out": 0.5, "dq": math.inf}


@pytest.mark.parametrize(
    "name, share", [("t256-a85", 0.82), ("t512-a50", 0.5), ("t2048-a85", 0.82), ("t2048-a50", 0.5)]
)
def test_the_mixtures_are_what_their_names_say(name, share):
    shape = SHAPES[name]()
    lens, part_a_lens = shape.mask.len_k, shape.mask.part_a_lens
    most = int(name[1:].partition("-")[0])
    assert 4096 <= int(lens.sum()) <= 8192
    assert most < 1.4 * int(lens.max()) and int(lens.max()) <= 1.3 * most  # Part B comes on top of the text
    assert float(part_a_lens.sum() / lens.sum()) == pytest.approx(share, abs=0.06)
    assert len(set(lens.tolist())) > 1
    assert torch.equal(SHAPES[name]().mask.part_a_lens, part_a_lens)  # the same draw in every run


# ---- on a GPU, as far as it can be seen without one ------------------------------------------------------

TRAINING_MASKS = {name: mask for name, mask in MASKS.items() if mask.cu_seqlens_q.equal(mask.cu_seqlens_k)}


def by_reference(case):
    """{name: tensor} in the dtype of the case."""
    q, k, v = (x.clone().requires_grad_() for x in (case.q, case.k, case.v))
    out = masked_attention(q, k, v, case.shape.mask, scale=case.scale, backend="reference")
    grads = torch.autograd.grad(out, (q, k, v), case.grad_out)
    return dict(zip(attention.TENSORS, (out.detach(), *grads), strict=True))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("mask", TRAINING_MASKS.values(), ids=TRAINING_MASKS)
def test_flex_has_glms_mask_and_gives_the_same(mask):
    rows = torch.arange(int(mask.cu_seqlens_q[-1]))
    rule = variants.flex_rule(mask, "cpu")
    assert rule(None, None, rows[:, None], rows).equal(mask.dense())
    case = draw(Shape("x", mask, 2, 32, "training", ""), torch.float32)
    variant = variants.flex(case, compiled=False)
    for x in variant.inputs:
        x.requires_grad_(False)  # on a CPU it refuses whatever could go backward
    [out] = variant.gather(*variant.forward())
    torch.testing.assert_close(out, by_reference(case)["out"])


def test_flex_does_not_serve_fewer_queries_than_keys():
    for name in ("one query", "suffixes"):
        with pytest.raises(MinglmError, match="as many queries as keys"):
            variants.flex(draw(Shape("x", MASKS[name], 2, 32, "decoding", ""), torch.float32))


def flash_attn_varlen_func(q, k, v, cu_q, cu_k, longest_q, longest_k, *, softmax_scale, causal):
    """What the package flash-attn promises: without a mask, or causal with the last query at the last key."""
    assert all(cu.dtype == torch.int32 for cu in (cu_q, cu_k))
    assert (longest_q, longest_k) == (cu_q.diff().max(), cu_k.diff().max())
    out = []
    for qs, ks, vs in zip(
        *(x.split(cu.diff().tolist()) for x, cu in ((q, cu_q), (k, cu_k), (v, cu_k))), strict=True
    ):
        scores = softmax_scale * torch.einsum("qhd,khd->hqk", qs, ks)
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(ks) - len(qs))
        out.append(
            torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden & causal, -math.inf).softmax(-1), vs)
        )
    return torch.cat(out)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_flash_attn_is_glms_in_two_calls(mask, monkeypatch):
    package = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    case = draw(Shape("x", mask, 2, 8, "training", ""), torch.float64)
    variant = variants.flash_attn(case)
    got = dict(zip(attention.TENSORS, variant.gather(*variant.both()), strict=True))
    for name, expected in by_reference(case).items():
        torch.testing.assert_close(got[name], expected, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(variant.gather(*variant.forward())[0], got["out"])


def test_a_time_on_a_gpu_begins_and_ends_when_it_is_idle(monkeypatch):
    said = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: said.append("idle"))
    run = timing.waiting(lambda: said.append("run") or 7, "cuda")
    assert run() == 7 and said == ["idle", "run", "idle"]
    assert timing.waiting(max, "cpu") is max


def test_a_gpu_is_timed_by_replays_of_a_graph_or_as_called_where_none_can_be_captured(monkeypatch):
    said = []

    class Graph:
        def replay(self):
            said.append("replay")

    for name, value in dict(
        synchronize=lambda device: None,
        Stream=lambda device: SimpleNamespace(wait_stream=lambda other: None),
        current_stream=lambda device: SimpleNamespace(wait_stream=lambda other: None),
        stream=lambda stream: contextlib.nullcontext(),
        graph=lambda graph: contextlib.nullcontext(),
        CUDAGraph=Graph,
    ).items():
        monkeypatch.setattr(torch.cuda, name, value)
    run = timing.waiting(lambda: said.append("run"), "cuda")
    timing.replayed(run, "cuda")()
    assert said == ["run", "run", "run", "replay"]  # once to compile, once on the other stream, once captured
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: 1 / 0)
    assert timing.replayed(run, "cuda") is run


def test_shapes_for_a_gpu_have_work_for_all_of_it():
    shape = shape_of(SHAPES["t2048-a50"], "cuda")
    assert shape.heads == 16 and shape.mask.num_queries >= 65536
    assert shape_of(SHAPES["t2048-a50"]).heads == 4 and shape_of(SHAPES["decode"], "cuda").heads == 8


@pytest.fixture
def pretended_gpu(tiny, monkeypatch):
    """`--device cuda` with tensors on the CPU: "flex" cannot be compiled, "kernel" is the emulator."""

    def attend(q, k, v, mask, *, scale, backend):
        backend = "emulated" if backend == "kernel" else backend
        return masked_attention(q, k, v, mask, scale=scale, backend=backend)

    def flex(case):
        raise RuntimeError("no compiler was found\nand much more")

    shape = Shape("glm", GLMMask.packed([90, 40], [50, 40]), 2, 32, "mixture", "")
    monkeypatch.setattr(attention, "SHAPES", {"glm": lambda: shape, **tiny})
    monkeypatch.setattr(timing, "CUDA_GEMM_SHAPES", ((8, 8, 16),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU of the test")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    gemms = timing.gemms
    monkeypatch.setattr(timing, "gemms", lambda dtype, device: gemms(dtype))
    monkeypatch.setattr(attention, "draw", lambda shape, dtype, device: draw(shape, dtype))
    monkeypatch.setattr(attention, "kernel_on_cuda", lambda: (True, "compiled by nvcc"))
    monkeypatch.setattr(variants, "masked_attention", attend)
    monkeypatch.setattr(attention, "flex", flex)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: None)


@needs_emulator
def test_on_a_gpu_what_cannot_be_built_is_skipped_and_the_rest_is_timed(pretended_gpu, minglm, tmp_path):
    files = ("--json", tmp_path / "found.json", "--plot", tmp_path / "found.png")
    shapes = ("--shapes", "glm", "small-a")
    result = minglm("bench", "attention", "--device", "cuda", "--seconds", 0.01, *shapes, *files)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)
    assert (
        found["machine"]["gpu"] == "GPU of the test (capability 9.0)"
        and found["machine"]["gpu"] in result.out
    )
    rows = {(row["shape"], row["dtype"], row["variant"]): row for row in found["rows"]}
    for dtype in ("float32", "bfloat16"):
        names = {variant for shape, kind, variant in rows if (shape, kind) == ("glm", dtype)}
        assert names == {
            "naive",
            *(f"sdpa {form} {layout}" for form, layout in variants.SDPA_FORMS),
            "flex",
            "varlen",
            "kernel",
        }
        kernel, flex = rows["glm", dtype, "kernel"], rows["glm", dtype, "flex"]
        assert kernel["status"] == "timed" and kernel[BOTH]["best_of_pytorch"] != "kernel"
        assert (flex["status"], flex["note"]) == ("skipped", "RuntimeError: no compiler was found")
        assert found["summary"][dtype]["variant"] == "kernel"
        assert rows["small-a", dtype, "kernel"]["status"] == "skipped"  # heads of 8
    assert "skipped: RuntimeError: no compiler was found" in result.out


def test_the_rungs_of_a_cpu_are_not_taken_on_a_gpu(pretended_gpu, minglm):
    result = minglm("bench", "attention", "--device", "cuda", "--rungs", "scalar")
    assert result.code == 2 and "--rungs" in result.err and len(result.err.splitlines()) == 1


@needs_emulator
def test_the_emulator_is_timed_only_if_it_is_asked_for(tiny, minglm, monkeypatch):
    shape = Shape("glm", GLMMask.packed([90, 40], [50, 40]), 2, 32, "mixture", "")
    monkeypatch.setattr(attention, "SHAPES", {"glm": lambda: shape, "small-a": tiny["small-a"]})
    arguments = (
        "bench",
        "attention",
        "--seconds",
        0.01,
        "--dtype",
        "bfloat16",
        "--json",
        "--rungs",
        "emulated",
    )
    rows = {(row["shape"], row["variant"]): row for row in json.loads(minglm(*arguments).out)["rows"]}
    assert rows["glm", "emulated"]["status"] == "timed" and rows["glm", "emulated"]["of_fair"] <= 1
    assert rows["glm", "emulated"][BOTH]["best_of_pytorch"] != "emulated"
    refused = rows["small-a", "emulated"]  # heads of 8
    assert refused["status"] == "skipped" and "8" in refused["note"]
    assert not any(variant.startswith("kernel:") for _, variant in rows)
    assert "emulated" not in minglm(*arguments[:-2], "--shapes", "glm").out


# ---- timing ----------------------------------------------------------------------------------------------


class Clock:
    """Time passes only where a variant says so."""

    def __init__(self):
        self.now, self.ran = 0.0, ""

    def __call__(self):
        return self.now

    def variant(self, name, seconds):
        def run():
            self.ran += name
            self.now += seconds

        return run


def test_variants_run_in_turn_and_slow_ones_leave_first():
    clock = Clock()
    taken = timing.alternate({"a": clock.variant("a", 1), "b": clock.variant("b", 2)}, 12, clock=clock)
    assert clock.ran == "abbaabaaa" and taken == {"a": [1] * 6, "b": [2] * 3}


def test_every_variant_gets_its_least_rounds_unless_they_take_far_too_long():
    clock = Clock()
    variants = {name: clock.variant(name, seconds) for name, seconds in (("a", 1), ("b", 15), ("c", 100))}
    taken = timing.alternate(variants, 30, least=3, clock=clock)
    assert {name: len(runs) for name, runs in taken.items()} == {"a": 10, "b": 2, "c": 1}
    assert clock.ran == "abc" + "ba" + "a" * 8


def test_a_ratio_is_taken_round_by_round():
    # the machine slows down threefold half-way: the medians of each alone would say 4 / 3, or 12
    assert timing.speedup([4, 4, 12, 12, 12], [1, 1, 3, 3]) == (4, 4, 4)
    assert timing.spread([1, 2, 3, 4, 5]) == (3, 2, 4) and timing.spread([7]) == (7, 7, 7)


def test_the_gemm_rate_is_the_best_of_the_medians(monkeypatch):
    monkeypatch.setattr(timing, "GEMM_SHAPES", ((10, 10, 10), (20, 10, 10)))
    taken = {"gemm 10x10x10": [1.0, 2.0, 9.0], "gemm 20x10x10": [1.0, 3.0, 9.0]}
    assert timing.gemm_rate(taken) == 4000 / 3 and timing.gemm_rates(taken) == [4000, 4000 / 3, 4000 / 9]
    assert timing.gemms(torch.bfloat16).keys() == taken.keys()


def test_the_machine_is_named_in_one_line():
    about = machine()
    line = machine_line(about)
    assert (
        torch.__version__ in line and f"{torch.get_num_threads()} threads" in line and about["date"] in line
    )
    assert "\n" not in line and about["cores"] >= 1


# ---- picture ---------------------------------------------------------------------------------------------


def test_bars_and_marks_are_what_was_measured():
    def row(variant, ratio, share, status="timed"):
        found = dict(ms=1 / ratio, ratio=ratio, of_gemm=share) if status == "timed" else None
        return dict(shape="s", dtype="float32", variant=variant, status=status) | (
            {BOTH: found} if found else {}
        )

    rows = [
        row("naive", 0.5, 0.2),
        row("sdpa bool padded", 0.8, 0.3),
        row("sdpa split padded", 1.0, 0.4),
        row("kernel:tiled", 0.7, 0.25),
        row("kernel:avx2", 2.5, 0.9),
        row("kernel:scalar", 1, 1, "wrong"),
    ]
    machine = dict(cpu="a processor", threads=2, torch="2.13", date="2026-11-22")
    fig = fig_attention(dict(rows=rows, shapes=[dict(name="s", kind="mixture")], machine=machine, summary={}))
    ratios, shares = fig.axes
    for ax, bar, marks in (
        (ratios, 2.5, {"naive": 0.5, "sdpa": 1.0, "tiled": 0.7, "avx2": 2.5}),
        (shares, 0.9, {"naive": 0.2, "sdpa": 0.4, "tiled": 0.25, "avx2": 0.9}),
    ):
        assert [(patch.get_gid(), patch.get_width()) for patch in ax.patches] == [("avx2", bar)]
        drawn = {
            line.get_gid().removesuffix(" mark"): float(line.get_xdata()[0])
            for line in ax.lines
            if line.get_gid()
        }
        assert drawn == marks and ax.get_xlim()[1] > bar
    assert [label.get_text() for label in ratios.get_yticklabels()] == ["s\nwrong: scalar"]
    assert "a processor" in fig.get_suptitle() and "fastest rung" in fig.alt_text


def test_the_share_of_the_gemm_rate_is_taken_round_by_round(monkeypatch):
    shape = Shape("x", MASKS["one sample"], 2, 8, "training", "")
    flop, gemm = shape.flop(FORWARD), timing.gemm_name(timing.GEMM_SHAPES[0])
    rate = 2 * math.prod(timing.GEMM_SHAPES[0])
    # the machine is three times slower from the third round on, and the slow variant has left
    taken = {"naive": [flop, flop, 3 * flop, 3 * flop, 3 * flop], gemm: [2 * rate, 2 * rate, 6 * rate]}
    taken[timing.gemm_name(timing.GEMM_SHAPES[1])] = [1e99]
    monkeypatch.setattr(timing, "alternate", lambda *_: taken)
    rows, case = {"naive": {}}, draw(shape, torch.float32)
    attention.Bench([], 1).time(case, {"naive": variants.front_door(case, "reference")}, rows)
    assert rows["naive"][FORWARD]["of_gemm"] == pytest.approx(2)
