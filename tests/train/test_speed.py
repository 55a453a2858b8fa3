"""MFU: the formula, the peaks, and what the banner says about precision."""

import pytest
import torch

from minglm.train import speed
from minglm.train.speed import measured_peak, mfu, peak, precision, row_of

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_mfu_is_useful_work_over_what_the_peak_could_do_in_that_time():
    rows = [dict(flop=3e12, seconds=1.0), dict(flop=1e12, seconds=3.0)]
    assert mfu(rows, 2e12) == 0.5  # 4 TFLOP in 4 s at 2 TFLOP/s


@pytest.mark.parametrize(
    "name, key",
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A10G", None),  # neither an A10 nor an A100
        ("Tesla T4", None),
    ],
)
def test_a_gpu_is_found_by_the_words_of_its_name(name, key):
    assert row_of(name) == (speed.PEAKS[key] if key else None)


def test_the_peak_of_a_gpu_is_that_of_its_dtype_and_of_an_unknown_one_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    assert peak(GPU, "bfloat16")[0] == 312e12 and peak(GPU, "float32")[0] == 19.5e12
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert peak(GPU, "float32") == (156e12, "NVIDIA A100-SXM4-40GB, TF32: 156 TFLOP/s")
        assert "TF32" in precision(GPU, "float32") and "TF32" not in precision(CPU, "float32")
    finally:
        torch.set_float32_matmul_precision(before)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    number, why = peak(GPU, "bfloat16")
    assert number is None and "Tesla T4 is not in the table" in why


def test_the_peak_of_a_cpu_is_measured():
    rate, why = peak(CPU, "float32")
    assert 1e8 < rate < 1e15 and "measured" in why
    assert measured_peak(torch.bfloat16, at_least=1e-6) > 1e6


def test_the_banner_and_the_log_say_precision_and_mfu(minglm, small_run):
    """Of the finished run: the banner is that of its end."""
    shown = minglm("pretrain", "--out", small_run, "--resume").out
    assert "float32 (as requested); everything in float32\n" in shown and "TF32" not in shown
    assert "MFU of      measured" in shown and "batches     prepared by the training process" in shown


def test_without_a_known_peak_there_is_no_mfu(minglm, text_file, tmp_path, monkeypatch):
    from conftest import SMALL

    monkeypatch.setattr("minglm.train.pretrain.peak", lambda device, dtype: (None, "X is not in the table"))
    out = tmp_path / "run"
    result = minglm("pretrain", "--text", text_file, *SMALL, "--steps", 2, "--out", out)
    assert result.code == 0 and "MFU of      X is not in the table" in result.out
    assert "MFU" not in result.out.partition("step ")[2]
    assert all(line.endswith(",") for line in (out / "metrics.csv").read_text().splitlines()[1:])
