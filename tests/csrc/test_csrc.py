"""csrc without torch: every rung on recorded cases, and what its files may include and export."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import NOT_THOROUGH, ROOT, THOROUGH, need_compiler, thorough

CSRC = ROOT / "csrc"
SANITIZE = ROOT / ".ci" / "sanitize"
CASES = CSRC / "tests" / "cases.bin"


def load(path):
    """The module of a Python file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record_cases = load(CSRC / "tests" / "record_cases.py")
build = load(CSRC / "build.py")
SETS = build.SETS  # name -> (architecture, flags, an instruction)


def includes(path, seen=()):
    """All that a file of csrc includes, directly or indirectly, e.g. {"<cmath>", "csrc/mask.h"}."""
    names = set()
    for name in re.findall(r'^\s*#\s*include\s+(<.+?>|".+?")', path.read_text(), re.MULTILINE):
        inner = (path.parent / name.strip('"')).resolve()
        if name.startswith("<"):
            names.add(name)
        elif inner not in seen:
            names |= {str(inner.relative_to(ROOT))} | includes(inner, (*seen, inner))
    return names


class Toolbox:
    """The compiler, and the objects of check_cases in a folder."""

    def __init__(self, folder):
        self.command = need_compiler()
        machine = self.run(self.command, "-dumpmachine").split("-")[0]
        self.sets = [name for name, (arch, *_) in SETS.items() if arch == machine and self.knows(name)]
        self.without = [f"-DMINGLM_NO_{name.upper()}" for name in SETS if name not in self.sets]
        self.folder = folder
        sources = [p for p in CSRC.glob("cpu/*.cpp") if p.stem not in SETS or p.stem in self.sets]
        sources.sort(key=lambda p: p.stem not in self.sets)  # the slowest to compile come first
        with ThreadPoolExecutor(2) as pool:
            self.objects = list(pool.map(self.compile, sources))
            self.objects += [self.compile(CSRC / "tests" / "check_cases.cpp", "-O0")]
        self.program = self.link("check_cases", self.objects)

    @staticmethod
    def run(*words):
        done = subprocess.run([*map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    def knows(self, name):
        asm = f'void probe() {{ asm("{SETS[name][2]}"); }}'
        words = [self.command, *SETS[name][1].split(), "-x", "c++", "-c", "-", "-o", os.devnull]
        return subprocess.run(words, input=asm, capture_output=True, text=True).returncode == 0

    def compile(self, source, *flags):
        output = self.folder / f"{source.stem}.o"
        own = SETS[source.stem][1].split() if source.stem in self.sets else self.without
        common = ["-std=c++17", "-O0", "-fno-math-errno", "-DMINGLM_STD_THREAD", "-pthread"]
        self.run(self.command, *common, *own, *flags, "-c", source, "-o", output)
        return output

    def link(self, name, objects):
        self.run(self.command, "-pthread", *objects, "-o", self.folder / name)
        return self.folder / name


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory):
    if not THOROUGH:
        pytest.skip(NOT_THOROUGH)  # all of the CPU kernels are compiled anew
    return Toolbox(tmp_path_factory.mktemp("csrc"))


def check(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)


# ---- the recorded cases ----------------------------------------------------------------------------------


@thorough
def test_the_recorded_cases_are_what_recording_them_again_gives(tmp_path):
    fresh = tmp_path / "cases.bin"
    record_cases.write(record_cases.record_all(), fresh)
    old, new = record_cases.read(CASES), record_cases.read(fresh)
    assert [c["name"] for c in old] == [c["name"] for c in new] == list(record_cases.CASES)
    for a, b in zip(old, new, strict=True):
        for name in (*record_cases.COUNTS, "scale", *record_cases.LENGTHS):
            np.testing.assert_array_equal(a[name], b[name], f"{name} of {a['name']}")
        rtol = 1e-12 if a["wide"] else 1e-6
        for name in record_cases.NAMES:
            np.testing.assert_allclose(a[name], b[name], rtol, 1e-14, err_msg=f"{name} of {a['name']}")
        # the budgets follow from PyTorch's errors, which depend on the machine
        for one, other in ((a["budgets"], b["budgets"]), (b["budgets"], a["budgets"])):
            assert (one <= 4 * np.abs(other)).all(), a["name"]
            assert ((one < 0) == (other < 0)).all()


def test_the_recorded_cases_hold_every_kind_that_the_kernels_must_serve():
    cases = record_cases.read(CASES)
    assert CASES.stat().st_size < 800_000
    samples = []
    for c in cases:
        samples += zip(np.diff(c["cu_seqlens_q"]), c["seqlens_k"], c["part_a_lens"], strict=True)
    square = {len_k for len_q, len_k, _ in samples if len_q == len_k}
    assert square >= {0, 1, 2, 5, 31, 64, 65, 130}
    assert {c["head_dim"] for c in cases} >= {8, 32, 64, 80, 256}
    kinds = Counter()
    for len_q, len_k, part_a in samples:
        kinds["A = 0"] += part_a == 0 and len_k > 1
        kinds["A = 1"] += part_a == 1 and len_k > 1
        kinds["A between"] += 1 < part_a < len_k
        kinds["A = T"] += part_a == len_k > 1
        kinds["suffix"] += 1 < len_q < len_k
        kinds["one query"] += 1 == len_q < len_k
        kinds["more queries"] += len_q > len_k > 0
        kinds["no query"] += len_q == 0 < len_k
    assert len(kinds) == 8 and min(kinds.values()) > 0, kinds
    for dtype in range(3):
        assert sum(c["budgets"][dtype, 0] >= 0 for c in cases) >= 2
    assert any(c["room"] and (c["seqlens_k"] < np.diff(c["cu_seqlens_k"])).any() for c in cases)


def test_a_file_of_cases_that_was_cut_or_is_something_else_is_refused(toolbox, tmp_path):
    data = CASES.read_bytes()
    for name, content in dict(cut=data[:-1], longer=data + b"\0", other=b"x" + data[1:], empty=b"").items():
        (tmp_path / name).write_bytes(content)
        assert check(toolbox.program, tmp_path / name).returncode == 2, name
        with pytest.raises(ValueError, match=name):
            record_cases.read(tmp_path / name)
    assert check(toolbox.program, tmp_path / "missing").returncode == 2


# ---- the rungs -------------------------------------------------------------------------------------------


def test_every_rung_of_this_machine_gives_the_recorded_answers(toolbox):
    done = check(toolbox.program, CASES)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert list(lines) == ["scalar", "tiled", *toolbox.sets]
    for rung, line in lines.items():
        assert line.endswith(": ok") or line.endswith("cannot run it"), line
        assert line.endswith(": ok") or rung in toolbox.sets, line


def test_a_rung_can_be_asked_for_by_name_and_an_unknown_one_is_an_error(toolbox):
    done = check(toolbox.program, CASES, "tiled")
    assert done.returncode == 0 and [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["tiled"]
    assert check(toolbox.program, CASES, "tiled", "nonsense").returncode == 2


@pytest.mark.parametrize("answer", record_cases.NAMES)
def test_a_wrong_expectation_is_caught(toolbox, tmp_path, answer):
    cases = record_cases.read(CASES)
    case = next(c for c in cases if c["name"] == "GLM")
    wrong = case[answer] = case[answer].copy()
    wrong.flat[wrong.size // 2] += 8 * case["budgets"][:2].max()
    record_cases.write(cases, tmp_path / "wrong.bin")
    done = check(toolbox.program, tmp_path / "wrong.bin", "tiled")
    assert done.returncode == 1, done.stdout
    assert f"tiled: MISS {answer} of 'GLM', float32, 1 threads" in done.stdout, done.stdout
    assert "bfloat16" in done.stdout, done.stdout


RULE = "part_a_len > i + 1 ? part_a_len : i + 1"


@pytest.mark.parametrize(
    "wrong, mistake",
    [
        ("part_a_len > i + 2 ? part_a_len : i + 2", "a leak of the future"),
        ("part_a_len > i ? part_a_len : i", "a row that misses itself"),
        ("i + 1", "a Part A that is causal"),
    ],
)
def test_a_wrong_rule_is_caught_in_every_dtype(toolbox, tmp_path, wrong, mistake):
    shutil.copytree(CSRC, tmp_path / "csrc")
    mask = tmp_path / "csrc" / "mask.h"
    assert mask.read_text().count(RULE) == 1
    mask.write_text(mask.read_text().replace(RULE, wrong))
    mutant = Toolbox.__new__(Toolbox)
    mutant.__dict__ |= vars(toolbox) | dict(folder=tmp_path)
    scalar = mutant.compile(tmp_path / "csrc" / "cpu" / "scalar.cpp", "-O0")
    program = mutant.link("mutant", [scalar, *(o for o in toolbox.objects if o.stem != "scalar")])
    done = check(program, CASES, "scalar")
    assert done.returncode == 1, mistake
    for dtype in ("float32", "bfloat16", "float64"):
        assert "MISS out of '" in done.stdout and f"', {dtype}, " in done.stdout, done.stdout


# ---- the files -------------------------------------------------------------------------------------------


def sources():
    return [p for pattern in ("*.h", "*.cpp", "*.inc") for p in sorted(CSRC.rglob(pattern))]


def test_csrc_includes_neither_torch_nor_python_outside_the_bindings():
    foreign = re.compile(r"<(torch|ATen|c10|pybind11|Python\.h|numpy)")
    with_foreign = {path for path in sources() if any(map(foreign.match, includes(path)))}
    assert with_foreign == {CSRC / "bindings.cpp"}


def test_files_with_an_instruction_set_of_their_own_include_no_code_of_the_standard_library():
    # only types, and functions that are always inlined
    harmless = {"<cstddef>", "<cstdint>", "<immintrin.h>", "<arm_neon.h>"}
    files = [p for p in sources() if p.stem in SETS]
    assert files
    for path in files:
        assert {i for i in includes(path) if i.startswith("<")} <= harmless, path.name
    assert not includes(CSRC / "cpu" / "tiled.cpp") <= harmless  # a file that may include it, and does


def test_no_object_with_an_instruction_set_of_its_own_defines_what_the_linker_could_give_to_others(toolbox):
    if not shutil.which("nm"):
        pytest.skip("no nm")

    def symbols(kinds, path):
        return re.findall(rf"^\S+ [{kinds}] (.+)$", toolbox.run("nm", "-C", path), re.MULTILINE)

    own = [path for path in toolbox.objects if path.stem in SETS]
    if not own:
        pytest.skip("this compiler knows none of the instruction sets")
    for path in own:
        assert symbols("WVu", path) == [], path.stem
        assert symbols("TDRBG", path) == [f"minglm::{path.stem}_rung"]
    [cpu] = [path for path in toolbox.objects if path.stem == "cpu"]
    assert symbols("WVu", cpu)  # it uses std::vector, so this check does see such symbols


def test_the_sanitizers_compile_with_the_flags_of_the_build():
    script = 'eval "$(grep -E "^(avx512=|declare -A flags=)" "$0")"; '
    script += 'for s in "${!flags[@]}"; do echo "$s=${flags[$s]}"; done'
    output = Toolbox.run("bash", "-c", script, SANITIZE)
    flags = dict(line.split("=", 1) for line in output.splitlines())
    assert flags == {name: flags for name, (_, flags, _) in SETS.items()}


@pytest.mark.parametrize(
    ("archs", "codes", "ptx"),
    [
        (["90"], ["sm_90"], ["90"]),
        (["90a"], ["sm_90a"], ["80"]),  # PTX with a letter runs on no later GPU
        (["80", "90", "120"], ["sm_80", "sm_90", "sm_120"], ["80", "120"]),  # 80: for a GPU of 11.0
        (["75", "80"], ["sm_75", "sm_80"], ["80"]),
    ],
)
def test_a_build_has_ptx_for_later_gpus_and_for_those_between(archs, codes, ptx):
    nvcc = build.Nvcc.__new__(build.Nvcc)  # finding a compiler is tested in test_packaging.py
    flags = [flag.split("code=")[1] for flag in nvcc.flags(archs) if flag.startswith("arch=")]
    assert flags == [*codes, *(f"compute_{arch}" for arch in ptx)]


def test_the_readme_of_csrc_names_every_file_and_its_commands_exist():
    text = (CSRC / "README.md").read_text()
    for path in sources():
        assert re.search(rf"[`/]{re.escape(path.name)}`", text), path.name
    for path in re.findall(r"`(\.ci/\w+)`", text):
        assert (ROOT / path).is_file(), path


if sys.platform == "win32":
    pytestmark = pytest.mark.skip("the program is compiled as on Unix")
