"""The CUDA puzzles: their solution runs on the emulator, and each mistake is reported with its line."""

import re
import sys

import pytest
from conftest import need_compiler, thorough

from minglm.course import kernels
from minglm.course.drawing import Look
from minglm.course.kernel_report import judge
from minglm.course.puzzles import RIGHT, WRONG
from minglm.course.words import speaking

NAMES = [*kernels.KERNELS]
MUTANTS = {  # kernel: (text of the solution, what is there instead, what has to be reported)
    "map": ("2 * in[i]", "in[i]", "70 of 70 numbers are wrong|8 of 8 numbers are wrong"),
    "guard": (
        "if (i < n) ",
        "",
        r"out of bounds: in\[8\]: it has the numbers 0 to 7\n.* line \d+:  out\[i\] = 2",
    ),
    "tile": (
        "    __syncthreads();\n",
        "",
        r"race: shared\[\d+\] is written and read, by thread \d+ and by thread",
    ),
    "two_barriers": (
        "        __syncthreads();  // nobody reads the last tile any more\n",
        "        if (i < 32) __syncthreads();\n",
        "barrier divergence|leaves the kernel|barrier after an exit|deadlock",
    ),
    "warp_max": ("n = 16", "n = 8", "32 of 32 numbers are wrong|16 of 32 numbers are wrong"),
    "online_softmax": ("sum = sum * expf(m - top) + expf", "sum = sum + expf", "1 of 2 numbers are wrong"),
    "skip": (
        "if (j < visible) sum += values[j];",
        "const float x = values[j]; if (j < visible) sum += x;",
        r"out of bounds: values\[100\]",
    ),
    "swizzle": ("tile[32 * c + (r ^ c)]", "tile[32 * c + r]", "numbers are wrong"),
    "fragment": ("const int row = 2 * t + 8 * n;", "const int row = 2 * t + n;", "numbers are wrong"),
    "forward": (
        "        __syncwarp();  // they are complete\n",
        "",
        r"race: shared\[\d+\] is written and read, by thread \d+( of block \d+)? and by",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def can_run(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the emulator is built on Linux only")
    need_compiler()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def program_of(text, folder):
    file = folder / "kernels.cu"
    file.write_text(text, encoding="utf-8")
    return kernels.build(file, folder), file


@thorough
def test_the_solution_is_right_and_costs_no_more_than_is_accepted(tmp_path):
    program, file = program_of(kernels.solution_text(), tmp_path)
    records = kernels.records(program, file, NAMES)
    assert [record["name"] for record in records] == NAMES
    assert all(judge(record, file, Look()).state == RIGHT for record in records)
    assert all(record["conflicts"] == 0 for record in records)


@thorough
def test_each_mistake_is_reported_where_it_is(tmp_path):
    text = kernels.solution_text()
    for name, (old, new, _) in MUTANTS.items():
        source = kernels.function_of(text, name)
        assert old in source, name
        text = text.replace(source, source.replace(old, new))
    program, file = program_of(text, tmp_path)
    for name, (_, _, report) in MUTANTS.items():
        [record] = kernels.records(program, file, [name])
        verdict = judge(record, file, Look())
        said = "\n".join(verdict.lines)
        assert verdict.state == WRONG and re.search(report, said), said
        with speaking("zh"):
            said = "\n".join(judge(record, file, Look()).lines)
        english = re.findall(
            r"\b(?:thread|barrier|numbers|is|are|block) \S+", re.sub(r".*行：  .*", "", said)
        )
        assert said.startswith("用例：  ") and not english, said


def test_what_costs_too_much_is_refused(tmp_path):
    record = dict.fromkeys(("global_reads", "shared_reads", "conflicts", "sectors"), 0)
    record |= dict(name="swizzle", right=True, conflict=None)
    assert judge(record, "x.cu", Look()).state == RIGHT
    refused = judge(record | dict(conflicts=992), "x.cu", Look())
    assert refused.state == WRONG and "992" in "\n".join(refused.lines)


def test_a_kernel_that_does_not_compile_is_one_line(minglm, tmp_path):
    file = tmp_path / "kernels.cu"
    text = kernels.stub_file(file.name).replace("    // your code", "    out[i] = 2;", 1)
    file.write_text(text, encoding="utf-8")
    result = minglm("course", "check", file)
    assert result.code == 2 and re.search(r"kernels\.cu, line \d+: .+out\[i\] = 2;\n$", result.err)
    file.write_text(kernels.stub_file(file.name), encoding="utf-8")
    fresh = minglm("course", "check", file)
    assert fresh.code == 1 and "→  1 map" in fresh.out and "Not written yet: line" in fresh.out
    assert minglm("course", "start", file).code == 2
    assert "in[i]" in minglm("course", "solution", "map").out


def test_without_a_compiler_or_a_clone_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    with pytest.raises(kernels.MinglmError, match="no C\\+\\+ compiler"):
        kernels.compiler()
    monkeypatch.setattr(kernels, "CSRC", tmp_path)
    with pytest.raises(kernels.MinglmError, match="a clone"):
        kernels.compiler()
