"""`.gpu/run`, as far as it can be tested without a GPU: order, limits, what is recorded, and the table."""

import importlib.machinery
import importlib.util
import json
import sys

import pytest
from conftest import ROOT

from minglm.bench import BOTH, FORWARD

loader = importlib.machinery.SourceFileLoader("gpu_run", str(ROOT / ".gpu" / "run"))
gpu = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_run", loader))
loader.exec_module(gpu)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops process groups")


def says(text, code=0, seconds=0):
    program = f"import sys, time; print({text!r}, flush=True); time.sleep({seconds}); sys.exit({code})"
    return [sys.executable, "-c", program]


def test_the_build_comes_first_and_all_limits_fit_into_eight_minutes(tmp_path):
    steps = gpu.steps(tmp_path)
    assert list(steps)[:3] == ["build", "tests", "bench"]
    assert sum(limit for limit, _ in steps.values()) <= 480
    assert "MINGLM_CUDA_ARCHS" not in gpu.environment()  # the GPUs of the machine, never all architectures


def test_steps_run_in_order_and_one_that_fails_or_hangs_stops_no_other(tmp_path, capsys):
    steps = dict(
        build=(20, says("built")),
        tests=(20, says("2 failed", code=1)),
        bench=(1, says("begun", seconds=60)),
        memcheck=(20, ["/nonexistent/tool"]),
        racecheck=(20, says("no hazards")),
    )
    assert gpu.run_all(steps, tmp_path, 480) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [(step["name"], step["code"]) for step in report["steps"]] == [
        ("build", 0),
        ("tests", 1),
        ("bench", "limit"),
        ("memcheck", None),
        ("racecheck", 0),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tests") and "failed with 1: 2 failed" in line for line in lines)
    assert any(line.startswith("bench") and "stopped at its limit" in line for line in lines)
    assert any(line.startswith("memcheck") and "did not start: /nonexistent/tool" in line for line in lines)


def test_without_a_build_nothing_runs_and_without_time_nothing_starts(tmp_path):
    steps = dict(build=(20, says("no nvcc", code=1)), tests=(20, says("never")))
    assert gpu.run_all(steps, tmp_path, 480) == 1
    assert [step["name"] for step in json.loads((tmp_path / "gpu.json").read_text())["steps"]] == ["build"]
    late = tmp_path / "late"
    assert gpu.run_all(dict(build=(9, says("built", seconds=1)), tests=(9, says("never"))), late, 5.5) == 1
    last = json.loads((late / "gpu.json").read_text())["steps"][-1]
    assert last["name"] == "build" or last["last"] == ["no time was left"]


RECORDED = dict(
    steps=[dict(name="build", limit=110, seconds=41.2, code=0, last=["link"])],
    attention=dict(
        rows=[
            dict(
                shape="t512-a50",
                variant="kernel",
                status="timed",
                note="",
            )
            | {FORWARD: dict(ms=0.5, gflop_per_s=190_000.0, of_gemm=0.25)}
            | {BOTH: dict(ms=2.5, gflop_per_s=133_000.0, of_gemm=0.17)},
            dict(shape="t512-a50", variant="flex", status="wrong", note="WRONG, so not timed: out is off"),
        ]
    ),
    tokens_per_second={"train-kernel": 123456, "train-sdpa": None},
)


def test_the_table_of_a_recorded_run_is_printed_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "gpu.json").write_text(json.dumps(RECORDED))
    monkeypatch.setattr(sys, "argv", ["run", "--table", str(tmp_path / "gpu.json")])
    assert gpu.main() == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "build 41.2 110 ok" in lines
    assert (
        "t512-a50 kernel forward 0.500 190.0 0.25" in lines
        and "t512-a50 kernel both 2.500 133.0 0.17" in lines
    )
    assert any("flex" in line and "WRONG" in line for line in lines)
    assert "train-kernel 123456 text tokens per second" in lines
    assert "train-sdpa nothing measured" in lines


def test_training_speed_is_that_of_the_second_half(tmp_path):
    rows = ["step,text_tokens,seconds", "1,100,9.0", "2,100,1.0", "3,200,0.5", "4,200,0.5"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert gpu.tokens_per_second(tmp_path) == 400 and gpu.tokens_per_second(tmp_path / "none") is None


def test_a_step_that_does_not_exist_is_an_error_that_names_those_that_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run", "--only", "bench", "ncu"])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "--only: 'ncu' is not one of build, tests, bench" in capsys.readouterr().err
