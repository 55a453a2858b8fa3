"""`minglm info`: what it prints, and that its self-test notices errors."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import run_command

from minglm import ops
from minglm.attention import kernel_rungs, masked_attention
from minglm.cli import report as info
from minglm.kernel import extension

HERE = info.HERE


def test_info_says_versions_rungs_and_what_auto_takes(minglm):
    result = minglm("info")
    assert result.code == 0 and not result.err
    assert torch.__version__ in result.out and "auto takes" in result.out and "to improve" in result.out
    for rung in kernel_rungs():
        assert f"kernel:{rung['name']}" in result.out


def test_json_says_the_same_for_programs(minglm, monkeypatch):
    monkeypatch.setenv("MINGLM_FAST", "1")
    report = json.loads(minglm("info", "--json").out)
    assert report["torch"] == torch.__version__ and report["environment"]["MINGLM_FAST"] == "1"
    assert [there["device"] for there in report["devices"]] == ["cpu", "cuda"]
    assert report["rungs"] == kernel_rungs()


def test_the_self_test_runs_every_rung_of_this_machine_in_every_dtype():
    results = info.self_test()
    here = [rung for rung in kernel_rungs() if rung["supported"]]
    expected = {
        (f"kernel:{rung['name']}", dtype) for rung in here for dtype in ("float32", "bfloat16") if rung[dtype]
    }
    assert {(r["backend"], r["dtype"]) for r in results} == expected | {
        ("sdpa", "float32"),
        ("sdpa", "bfloat16"),
    }
    assert all(result["ok"] and 0 <= result["share"] <= 1 for result in results)


def test_the_self_test_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    info.self_test()
    assert torch.equal(torch.rand(3), expected)


def off_by_one(q, k, v, mask, backend):
    """Part A is one key too short: the mistake that a mask invites."""
    shorter = type(mask)(mask.cu_seqlens_q, mask.cu_seqlens_k, (mask.part_a_lens - 1).clamp(min=0))
    return masked_attention(q, k, v, shorter, backend=backend)


def not_a_number(q, k, v, mask, backend):
    return masked_attention(q, k, v, mask, backend=backend) + torch.nan


def wrong_gradient_of_k(q, k, v, mask, backend):
    return masked_attention(q, k * 1.01 - k.detach() * 0.01, v, mask, backend=backend)


def refuses(q, k, v, mask, backend):
    raise ValueError("not today")


@pytest.mark.parametrize("wrong", [off_by_one, not_a_number, wrong_gradient_of_k, refuses])
def test_the_self_test_catches(wrong, monkeypatch, minglm):
    def attention(q, k, v, mask, backend):
        chosen = masked_attention if backend == "reference" else wrong
        return chosen(q, k, v, mask, backend=backend)

    monkeypatch.setattr("minglm.attention.masked_attention", attention)
    assert not any(result["ok"] for result in info.self_test() if result["dtype"] == "float32")
    result = minglm("info")
    assert result.code == 2 and "self-test failed" in result.err and "computes wrong" in result.out
    assert not json.loads(minglm("info", "--json").out)["self_test"][0]["ok"]


@pytest.mark.usefixtures("any_rung")
def test_it_works_without_the_extension_and_says_why_there_is_none(tmp_path):
    shutil.copytree(HERE, tmp_path / "minglm", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    why = "there is no C++ compiler"
    built = dict(extension=False, reason=why, compiler=None, openmp=False, sets=[])
    (tmp_path / "minglm" / "_build_info.json").write_text(json.dumps(built), encoding="utf-8")
    # in an editable install, a finder would lead to the extension of the checkout
    kept = 'f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")'
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.meta_path = [{kept}]\n", encoding="utf-8")
    result = run_command("info", "--json", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["folder"] == str(tmp_path / "minglm") and report["devices"][0]["auto"] == "sdpa"
    assert why in report["devices"][0]["reason"] and why in report["advice"]
    assert not any(rung["built"] for rung in report["rungs"]) and all(
        result["ok"] for result in report["self_test"]
    )
    assert f"none: {why}" in info.show(report)


# ---- CUDA ------------------------------------------------------------------------------------------------


def patch(monkeypatch, name, value):
    """Replace a name that ops takes from extension, in both."""
    for module in (ops, extension):
        monkeypatch.setattr(module, name, value)


def with_cuda(devices, driver):
    functions = dict(cuda_devices=lambda: (devices, driver), cuda_capability=lambda device: 90)
    return SimpleNamespace(cuda_built=True, hopper_built=True, emulated_built=True, **functions)


def test_info_says_for_which_gpus_there_are_kernels_or_why_there_are_none():
    built = dict(built=True, nvcc="13.0.88", archs=[75, 80, 120], machine_code=True)
    assert info.cuda_line(built) == "kernels by nvcc 13.0.88 for compute capability 7.5, 8.0, 12.0 and later"
    ptx = info.cuda_line(built | dict(archs=[80], machine_code=False))
    assert ptx.startswith("kernels by nvcc 13.0.88 for compute capability 8.0 and later, as PTX")
    assert "MINGLM_CUDA_ARCHS=all" in ptx
    assert info.cuda_line(built | dict(hopper=True)).endswith(", and one for 9.0 alone (kernel:hopper)")
    assert info.cuda_line(dict(built=False, reason="there is no nvcc")) == "no kernels: there is no nvcc"
    assert "no kernels" in info.cuda_line(dict(built=False, reason=None))


def test_the_report_has_the_build_the_driver_and_the_emulator(monkeypatch):
    note = dict(built=False, reason="there is no nvcc", nvcc=None, archs=[], machine_code=False)
    patch(monkeypatch, "build_info", lambda: dict(cuda=note))
    for older in (None, SimpleNamespace()):  # no extension, and one from before there were CUDA kernels
        patch(monkeypatch, "_C", older)
        none = dict(devices=0, driver=None, capability=None, hopper=False, emulated=False)
        assert ops.cuda() == note | none
    note = dict(built=True, reason=None, nvcc="13.0.88", archs=[80], machine_code=False)
    patch(monkeypatch, "build_info", lambda: dict(cuda=note))
    patch(monkeypatch, "_C", with_cuda(2, ""))
    assert ops.cuda() == note | dict(devices=2, driver="", capability=90, hopper=True, emulated=True)


def test_without_a_gpu_info_says_what_pytorch_and_the_driver_see(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    patch(monkeypatch, "_C", None)
    assert info.device("cuda")["reason"] == "PyTorch sees no GPU"
    patch(monkeypatch, "_C", with_cuda(0, "no CUDA-capable device is detected"))
    assert (
        info.device("cuda")["reason"]
        == "PyTorch sees no GPU, and the driver: no CUDA-capable device is detected"
    )
    patch(monkeypatch, "_C", with_cuda(1, ""))
    for version, built in ((None, "is built without CUDA"), ("13.0", "is built for CUDA 13.0")):
        monkeypatch.setattr(torch.version, "cuda", version)
        assert (
            info.device("cuda")["reason"] == f"PyTorch sees no GPU, the driver shows 1: this PyTorch {built}"
        )


# ---- the one thing to improve ----------------------------------------------------------------------------


def report_of(**changes):
    """A report in which nothing is left to improve, except for the changes."""
    rungs = [dict(name=name, built=True) for name in ("scalar", "avx2")]
    report = dict(
        build=dict(extension=True, reason=None, compiler="g++ 12", sets=["avx2"]),
        cpu=dict(sets=["avx2"]),
        rungs=rungs,
        self_test=[dict(backend="kernel:avx2", ok=True)],
        environment={},
        devices=[dict(auto="kernel:avx2")],
    )
    return report | changes


CUDA = ("csrc/cuda/forward.cuh", "csrc/cuda/launch.cu", "csrc/cuda_on_cpu/simt.h")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout whose extension was built after its sources were written."""
    for name in (
        "csrc/mask.h",
        "csrc/cpu/scalar.cpp",
        "csrc/cpu/avx512.cpp",
        "csrc/README.md",
        *CUDA,
        "minglm/_C.so",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000, 1000))
    os.utime(tmp_path / "minglm" / "_C.so", (2000, 2000))
    monkeypatch.setattr(info, "HERE", tmp_path / "minglm")
    return tmp_path


def test_nothing_to_improve_is_said_plainly(checkout):
    assert info.advice(report_of()) is None


def test_a_source_newer_than_the_extension_is_named(checkout):
    for other in ("csrc/README.md", "csrc/cpu/avx512.cpp", *CUDA):  # none is part of this build
        os.utime(checkout / other, (3000, 3000))
    assert info.advice(report_of()) is None
    os.utime(checkout / "csrc" / "mask.h", (3000, 3000))
    assert info.advice(report_of()).startswith("csrc/mask.h is newer")
    assert "pip install -e ." in info.advice(report_of())


@pytest.mark.parametrize("changed", CUDA)
def test_a_cuda_source_newer_than_the_kernels_is_named(checkout, changed):
    os.utime(checkout / changed, (3000, 3000))
    build = report_of()["build"]
    for emulated, cuda in ((False, True), (True, False), (True, True)):
        advice = info.advice(report_of(build=build | dict(emulated=emulated, cuda=dict(built=cuda))))
        part = emulated or "cuda_on_cpu" not in changed
        assert advice and advice.startswith(f"{changed} is newer") if part else advice is None


def test_a_gpu_without_kernels_is_the_first_thing_to_improve(checkout):
    gpu = [dict(auto="kernel:avx2"), dict(auto="sdpa", name="a GPU")]
    advice = info.advice(report_of(devices=gpu, cuda=dict(built=False, reason="there is no nvcc")))
    assert advice.startswith("there is no nvcc; then ")
    assert info.advice(report_of(devices=gpu, cuda=dict(built=True))) is None


def test_a_set_that_the_compiler_lacked_is_named(checkout):
    rungs = [*report_of()["rungs"], dict(name="avx512", built=False)]
    assert "newer than g++ 12 could build avx512" in info.advice(
        report_of(cpu=dict(sets=["avx2", "avx512"]), rungs=rungs)
    )
    assert info.advice(report_of(rungs=rungs)) is None  # this processor could not run it


def test_without_a_rung_the_reason_comes_first(checkout):
    none = [dict(name="scalar", built=False)]
    advice = info.advice(report_of(rungs=none, build=dict(extension=False, reason="apt install g++")))
    assert advice.startswith("apt install g++; then ")


def test_a_rung_that_is_not_here_is_one_line_of_advice(minglm, monkeypatch):
    monkeypatch.setenv("MINGLM_KERNEL", "avx9")
    result = minglm("info")
    assert result.code == 0 and "avx9" in result.out and result.out.rstrip().endswith("unset MINGLM_KERNEL")
