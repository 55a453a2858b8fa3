"""What `pip install .` builds: with a compiler, without one, with an nvcc, and after a header was touched.

The package is the real one. The sources in csrc/ are stand-ins that compile in a second, and so is nvcc,
except in one test. .ci/run builds the real thing in environments without torch, which needs the network.
"""

import ast
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, need_compiler, thorough

from minglm import errors

spec = importlib.util.spec_from_file_location("minglm_build", ROOT / "csrc" / "build.py")
csrc_build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(csrc_build)
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="about the flags of x86-64")
BUILT = ("*.so", "*.pyd", "*.pyc", "_build_info.json", "__pycache__")
BINDINGS = """
#include <Python.h>
#include "value.h"
int value_of_the_kernel();
#ifdef MINGLM_CUDA
namespace cuda { int value(); }
#endif
#ifdef MINGLM_EMULATED
namespace emulated { int value(); }
#endif
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1};
PyMODINIT_FUNC PyInit__C() {
    PyObject* m = PyModule_Create(&module);
    PyModule_AddIntConstant(m, "value", VALUE + value_of_the_kernel());
#ifdef MINGLM_CUDA
    PyModule_AddIntConstant(m, "cuda", cuda::value());
#endif
#ifdef MINGLM_EMULATED
    PyModule_AddIntConstant(m, "emulated", emulated::value());
#endif
    return m;
}
"""
LAUNCH = """
#include "kernels.cuh"
#ifdef __CUDACC__
__global__ void kernel(int* n) { *n = KERNELS; }
#endif
#ifndef DEVICE
#define DEVICE cuda
#endif
namespace DEVICE {
int value() {
#ifdef __CUDACC__
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess) return -1;
    kernel<<<1, 1>>>(nullptr);
#endif
    return KERNELS;
}
}
"""
KERNEL = """
int avx2(), neon();
#if defined(__x86_64__) && !defined(MINGLM_NO_AVX2)
int value_of_the_kernel() { return avx2(); }
#elif defined(__aarch64__)
int value_of_the_kernel() { return neon(); }
#else
int value_of_the_kernel() { return 20; }
#endif
"""

OURS = ["CC", "CXX", "CXXFLAGS", "LDFLAGS", "MAX_JOBS", "CUDA_HOME", "VIRTUAL_ENV", "MINGLM_REQUIRE_EXT"]
OURS += ["MINGLM_CUDA", "MINGLM_CUDA_HOME", "MINGLM_CUDA_ARCHS"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="CUDA is built on Linux alone")
INPLACE = ("setup.py", "build_ext", "--inplace")


@pytest.fixture
def tree(built, tmp_path):
    """A copy of the source tree with a small csrc/, built before; skips if there is no compiler for it."""
    shutil.copytree(built.root, tmp_path / "tree")  # with its times, so that nothing is out of date
    return Tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The tree that `tree` copies; .done is how it was built: without torch and numpy."""
    need_compiler("g++")  # the scripts of these tests call it
    tree = source_tree(tmp_path_factory.mktemp("built") / "tree")
    forbidden = "sys.modules.update(torch=None, numpy=None)"  # an import of them would raise
    build = f"sys.argv = {list(INPLACE)}; runpy.run_path('setup.py', run_name='__main__')"
    tree.done = tree.run("-c", f"import runpy, sys; {forbidden}; {build}")
    return tree


def source_tree(root):
    """The sources, with a csrc/ that compiles in a second."""
    root.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "minglm", root / "minglm", ignore=shutil.ignore_patterns(*BUILT))
    files = {"bindings.cpp": BINDINGS, "value.h": "#define VALUE 1\n"}
    files |= {"cpu/cpu.cpp": KERNEL, "cpu/vector.inc": "return 20;\n"}
    files |= {"cuda/launch.cu": LAUNCH, "cuda/kernels.cuh": "#define KERNELS 5\n"}
    files |= {"cuda_on_cpu/emulated.cpp": '#define DEVICE emulated\n#include "../cuda/launch.cu"\n'}
    files |= {f"cpu/{name}.cpp": f'int {name}() {{\n#include "vector.inc"\n}}\n' for name in csrc_build.SETS}
    for name, text in files.items():
        (root / "csrc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "csrc" / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "csrc" / "build.py", root / "csrc")
    (root / "tests").mkdir()
    (root / "tests" / "test_it.py").touch()
    return Tree(root)


class Tree:
    """A source tree, with methods to build it and to ask what was built."""

    def __init__(self, root):
        self.root = root

    def run(self, *words, check=True, **variables):
        """Run Python in the tree, in a new process; without CUDA unless `variables` set MINGLM_CUDA."""
        env = {name: value for name, value in os.environ.items() if name not in OURS}
        env |= {"MINGLM_CUDA": "0"} | variables
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def hook(self, name, **how):
        """Call a hook of the build backend, as pip does; returns the path of what it built."""
        out = str(self.root.parent / "out")
        call = f"print(backend.{name}({out!r}), file=sys.stderr)"
        done = self.run("-c", f"import sys, setuptools.build_meta as backend; {call}", **how)
        return done if done.returncode else Path(out, done.stderr.split()[-1])

    def edit(self, name, old, new):
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old}"
        (self.root / name).write_text(text.replace(old, new), encoding="utf-8")

    def info(self):
        return json.loads((self.root / "minglm" / "_build_info.json").read_text(encoding="utf-8"))

    def value(self, name="value", **variables):
        """A constant of the extension in the tree; None if it has no such name."""
        code = f"import sys; sys.path[:0] = ['minglm']; import _C; print(getattr(_C, {name!r}, None))"
        return ast.literal_eval(self.run("-c", code, **variables).stdout.strip())


def compiled(done):
    """The files that ninja compiled."""
    return {line.split("compile ")[1] for line in done.stdout.splitlines() if "] compile " in line}


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# ---- with a compiler -------------------------------------------------------------------------------------


@thorough
def test_a_touched_header_or_inc_compiles_what_includes_it_and_nothing_else(built, tree):
    done = built.done
    sets = tree.info()["sets"]
    vectors = {f"csrc/cpu/{name}.cpp" for name in sets}
    emulated = {"csrc/cuda_on_cpu/emulated.cpp"} if sys.platform == "linux" else set()
    assert compiled(done) == {"csrc/bindings.cpp", "csrc/cpu/cpu.cpp"} | vectors | emulated
    assert tree.value() == 21 and tree.value("cuda") is None
    assert tree.value("emulated") == (5 if emulated else None)
    assert compiled(tree.run(*INPLACE)) == set()

    (tree.root / "csrc" / "value.h").write_text("#define VALUE 2\n", encoding="utf-8")
    assert compiled(tree.run(*INPLACE)) == {"csrc/bindings.cpp"}
    assert tree.value() == 22
    (tree.root / "csrc" / "cpu" / "vector.inc").write_text("return 30;\n", encoding="utf-8")
    assert compiled(tree.run(*INPLACE)) == vectors
    assert tree.value() == (32 if sets else 22)
    assert compiled(tree.run(*INPLACE, CXXFLAGS="-DOTHER=1")) >= {"csrc/bindings.cpp", "csrc/cpu/cpu.cpp"}
    assert compiled(tree.run(*INPLACE, "--force")) >= {"csrc/bindings.cpp", "csrc/cpu/cpu.cpp"}


def test_setup_imports_neither_torch_nor_numpy(built):
    assert built.info()["extension"]


@X86
def test_each_instruction_set_is_compiled_with_its_own_flags_and_linked_after_the_plain_files(built):
    [ninja] = built.root.glob("build/ninja-*/build.ninja")
    lines = ninja.read_text(encoding="utf-8").splitlines()
    pairs = [(line, after) for line, after in zip(lines, lines[1:], strict=False) if ": compile " in line]
    flags = {line.split()[-1]: after.split() for line, after in pairs}
    for source, words in flags.items():
        name = Path(source).stem
        more = csrc_build.SETS[name][1].split() if name in csrc_build.SETS else []
        assert [word for word in words if word.startswith("-m")] == more, source
        assert "-O3" in words and "-fvisibility=hidden" in words and "-ffast-math" not in words
    [linked] = [line.split() for line in lines if ": link " in line]
    assert [Path(path).stem for path in linked[-3:]] == ["avx2", "avx512", "avx512_bf16"]
    assert "csrc/cpu/neon.cpp" not in flags


@X86
@pytest.mark.parametrize(
    ("refused", "sets", "openmp", "flag"),
    [
        ("-mavx512bf16", ["avx2", "avx512"], True, "-DMINGLM_NO_AVX512_BF16"),
        ("-fopenmp", ["avx2", "avx512", "avx512_bf16"], False, "-pthread"),
    ],
)
def test_what_a_compiler_cannot_do_is_left_out(build_folder, refused, sets, openmp, flag):
    need_compiler("g++")
    error = f'echo "error: {refused}: what is that?" >&2; exit 1'
    script = f'case " $* " in *" {refused} "*) {error};; esac; exec g++ "$@"'
    old = build_folder(CXX=program(Path.cwd() / "old-g++", script)).Compiler()
    assert csrc_build.write_ninja(old) == sets and old.openmp is openmp
    text = Path(csrc_build.BUILD, "build.ninja").read_text(encoding="utf-8")
    assert flag in text and refused not in text.split()


def test_an_editable_install_builds_into_the_source_tree_and_the_next_one_only_what_changed(tree):
    wheel = tree.hook("build_editable", MINGLM_REQUIRE_EXT="1")
    assert "editable" in wheel.name and tree.value() == 21 and tree.info()["extension"]
    [build] = tree.root.glob("build/ninja-*")
    times = {path: path.stat().st_mtime_ns for path in build.rglob("*.o")}
    (tree.root / "csrc" / "value.h").write_text("#define VALUE 2\n", encoding="utf-8")
    tree.hook("build_editable", PYTHONPATH=str(moved_pybind11(tree.root / "elsewhere")))
    assert tree.value() == 22
    rebuilt = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert rebuilt - {"probe.o"} == {"bindings.o"}


def moved_pybind11(folder):
    """Copy pybind11 to another folder, because each build by pip has it in a new one; returns the folder."""
    import pybind11

    shutil.copytree(Path(pybind11.__file__).parent, folder / "pybind11")
    return folder


# ---- without one -----------------------------------------------------------------------------------------


def test_without_a_compiler_the_install_is_pure_python_and_says_why(tree):
    tree.hook("build_editable")
    assert list(tree.root.glob("minglm/_C*"))
    wheel = tree.hook("build_wheel", CXX="/nonexistent/c++")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as files:
        built = json.loads(files.read("minglm/_build_info.json"))
        assert not [name for name in files.namelist() if "_C" in name]
    assert built["extension"] is False and built["reason"] == "CXX=/nonexistent/c++: there is no such program"
    tree.hook("build_editable", CXX="/nonexistent/c++")
    assert not list(tree.root.glob("minglm/_C*")), "a stale kernel was left"
    assert tree.info() == built


def test_each_reason_for_no_extension_names_what_is_missing(build_folder, monkeypatch):
    build_folder(PATH="/nonexistent")
    for module in ("pybind11", "ninja"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(csrc_build.NoExtension, match="there is no C.. compiler"):
        csrc_build.Compiler()
    with pytest.raises(csrc_build.NoExtension, match="^ninja is missing: pip install ninja$"):
        csrc_build.run_ninja(None, "all")
    with pytest.raises(csrc_build.NoExtension, match="^pybind11 is missing: pip install pybind11$"):
        csrc_build.header_folders()
    monkeypatch.delitem(sys.modules, "pybind11")
    monkeypatch.setattr(csrc_build.sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(csrc_build.NoExtension, match="^/nowhere holds no Python.h"):
        csrc_build.header_folders()


def test_the_reason_is_one_line_and_an_error_if_the_extension_is_required(tree):
    (tree.root / "csrc" / "cpu" / "cpu.cpp").write_text("int value_of_the_kernel() { return 1 }\n")
    wheel = tree.hook("build_wheel")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as files:
        reason = json.loads(files.read("minglm/_build_info.json"))["reason"]
    assert "csrc/cpu/cpu.cpp:1:" in reason and len(reason.splitlines()) == 1

    done = tree.hook("build_wheel", check=False, MINGLM_REQUIRE_EXT="1")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last == f"minglm: error: the extension was not built: {reason}"
    assert "Traceback" not in done.stderr


def test_build_ext_alone_fails_when_the_extension_does(tree):
    (tree.root / "csrc" / "cpu" / "cpu.cpp").write_text("#error not today\n", encoding="utf-8")
    done = tree.run(*INPLACE, check=False)
    assert done.returncode == 1 and "not today" in done.stderr and "not today" in done.stdout


def test_an_extension_that_does_not_load_is_none(tree):
    (tree.root / "csrc" / "cpu" / "cpu.cpp").write_text("int nothing;\n", encoding="utf-8")
    done = tree.run(*INPLACE, check=False)
    assert done.returncode == 1 and "does not load" in done.stderr and "value_of_the_kernel" in done.stderr


# ---- with nvcc, and without ------------------------------------------------------------------------------

NVCC = """
case "$*" in
*" --version") echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
*" --list-gpu-arch") printf "compute_75\\ncompute_80\\ncompute_87\\ncompute_100\\n" ;;
*" --dryrun "*) printf '#$ TOP=%s\\n#$ LIBRARIES=  "-L%s/lib64"\\n' HOME HOME ;;
*probe.cu*) PROBE ;;
*) echo "$*" >>HOME/commands
   while [ "$1" != -MMD ]; do shift; done
   exec g++ -fPIC -x c++ "$@" ;;
esac
"""
PROBE = 'for last; do :; done; echo "int probed;" | g++ -fPIC -x c++ -c - -o "$last"'


@pytest.fixture
def build_folder(tmp_path, monkeypatch):
    """A function that enters an empty folder to call csrc/build.py in, with these variables alone."""
    monkeypatch.chdir(tmp_path)
    csrc_build.BUILD.mkdir(parents=True)
    for name in OURS:
        monkeypatch.delenv(name, raising=False)

    def enter(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return csrc_build

    return enter


@pytest.fixture(scope="module")
def compiler(tmp_path_factory):
    need_compiler("g++")
    with pytest.MonkeyPatch.context() as patch:
        for name in OURS:
            patch.delenv(name, raising=False)
        patch.chdir(tmp_path_factory.mktemp("compiler"))
        return csrc_build.Compiler()


@pytest.fixture
def nvcc(tree):
    """The home of a fake CUDA toolkit, laid out like the wheels of PyPI; g++ does the work."""
    return toolkit(tree.root / "toolkit")


def toolkit(home, nvcc=NVCC, probe=PROBE):
    (home / "bin").mkdir(parents=True, exist_ok=True)
    (home / "lib").mkdir(exist_ok=True)
    (home / "lib" / "libcudart_static.a").write_bytes(b"!<arch>\n")  # an empty one
    program(home / "bin" / "nvcc", nvcc.replace("PROBE", probe).replace("HOME", str(home)))
    return home


def codes(home):
    """(the -gencode arguments of the one call of nvcc that compiled kernels, its whole command line)."""
    [command] = (home / "commands").read_text(encoding="utf-8").splitlines()
    return [word for word in command.split() if word.startswith("arch=")], command


@thorough
@LINUX
def test_all_is_what_nvcc_knows_and_a_touched_cuh_compiles_the_kernels_alone(tree, nvcc):
    everything = dict(MINGLM_CUDA="1", MINGLM_CUDA_ARCHS="all", CXXFLAGS="-DA=1,2")
    everything |= dict(MINGLM_CUDA_HOME=str(nvcc))
    done = tree.run(*INPLACE, MAX_JOBS="2", **everything)
    assert compiled(done) >= {"csrc/cuda/launch.cu", "csrc/cuda_on_cpu/emulated.cpp", "csrc/bindings.cpp"}
    cuda = dict(built=True, reason=None, nvcc="13.0.88", archs=[75, 80, 100], machine_code=True)
    assert tree.info()["cuda"] == cuda and tree.info()["emulated"]
    assert (tree.value(), tree.value("cuda"), tree.value("emulated")) == (21, 5, 5)
    machine_codes = [f"arch=compute_{arch},code=sm_{arch}" for arch in (75, 80, 100)]
    compiled_for, command = codes(nvcc)
    ptx = [f"arch=compute_{arch},code=compute_{arch}" for arch in (80, 100)]
    assert compiled_for == [*machine_codes, *ptx]
    assert all(words in command for words in ("--threads 2 ", "-ccbin g++ ", r"-Xcompiler -DA=1\,2 "))

    assert compiled(tree.run(*INPLACE, **everything)) == set()
    (tree.root / "csrc" / "cuda" / "kernels.cuh").write_text("#define KERNELS 6\n", encoding="utf-8")
    kernels = {"csrc/cuda/launch.cu", "csrc/cuda_on_cpu/emulated.cpp"}
    assert compiled(tree.run(*INPLACE, **everything)) == kernels
    assert (tree.value("cuda"), tree.value("emulated")) == (6, 6)
    (tree.root / "csrc" / "value.h").write_text("#define VALUE 2\n", encoding="utf-8")
    assert compiled(tree.run(*INPLACE, **everything)) == {"csrc/bindings.cpp"}
    assert "csrc/bindings.cpp" in compiled(tree.run(*INPLACE)) and tree.value("cuda") is None  # MINGLM_CUDA=0


def shows_gpus(folder, *capabilities):
    """A PATH on which nvidia-smi shows these GPUs; without any, it fails as it does without a driver."""
    folder.mkdir()
    script = "; ".join(f"echo {capability}" for capability in capabilities)
    program(folder / "nvidia-smi", script or "echo 'NVIDIA-SMI has failed'; exit 9")
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@LINUX
@pytest.mark.parametrize(
    ("gpus", "archs", "compiled_for"),
    [
        ((), [80], "80,code=compute_80"),
        (("8.9",), [87], "87,code=sm_87 87,code=compute_87"),
        (
            ("10.0", "7.5", "10.0"),
            [75, 100],
            "75,code=sm_75 100,code=sm_100 80,code=compute_80 100,code=compute_100",
        ),
        (("7.0",), [80], "80,code=compute_80"),
    ],
)
def test_without_a_gpu_ptx_alone_is_compiled_and_with_one_its_own_machine_code(
    build_folder, compiler, gpus, archs, compiled_for
):
    path, home = shows_gpus(Path("driver").absolute(), *gpus), toolkit(Path("toolkit").absolute())
    nvcc = build_folder(MINGLM_CUDA_HOME=str(home), PATH=path).Nvcc(compiler)
    words = nvcc.flags(nvcc.archs, nvcc.machine_code)
    expected = [f"arch=compute_{code}" for code in compiled_for.split()]
    assert [word for word in words if word.startswith("arch=")] == expected
    assert nvcc.archs == list(map(str, archs)) and nvcc.machine_code is ("sm_" in compiled_for)


@LINUX
def test_what_is_recorded_is_what_was_compiled(tree, nvcc):
    path = shows_gpus(tree.root / "driver")
    tree.run(*INPLACE, MINGLM_CUDA="1", MINGLM_CUDA_HOME=str(nvcc), PATH=path)
    assert codes(nvcc)[0] == ["arch=compute_80,code=compute_80"]
    assert tree.info()["cuda"]["archs"] == [80] and tree.info()["cuda"]["machine_code"] is False


@LINUX
def test_the_architectures_can_be_named_and_a_wrong_name_is_an_error(build_folder, compiler):
    home = str(toolkit(Path("toolkit").absolute()))
    nvcc = build_folder(MINGLM_CUDA="", CUDA_HOME=home, MINGLM_CUDA_ARCHS="87 80").Nvcc(compiler)
    assert (nvcc.archs, nvcc.machine_code) == (["80", "87"], True)
    words = [word for word in nvcc.flags(nvcc.archs) if word.startswith("arch=")]
    ptx = ["arch=compute_80,code=compute_80", "arch=compute_87,code=compute_87"]
    assert words[1:] == ["arch=compute_87,code=sm_87", *ptx]
    for wrong, named in (("80 90", "90"), ("8.0", "8.0"), ("80,87", "80,87"), ("sm_80", "sm_80")):
        error = f"minglm: error: MINGLM_CUDA_ARCHS: {named}; nvcc 13.0.88 accepts all, or of 75 80 87 100"
        with pytest.raises(SystemExit) as leaving:
            build_folder(MINGLM_CUDA_ARCHS=wrong).Nvcc(compiler)
        assert leaving.value.code == error


# ways to have no CUDA: a function of a folder -> (environment variables, what is said)


def no_nvcc(folder):
    why = "there is no nvcc (CUDA_HOME, PATH; or from PyPI: pip install -e '.["
    return dict(PATH=str(folder)), why


def no_such_home(folder):
    return dict(MINGLM_CUDA_HOME="/nonexistent"), "MINGLM_CUDA_HOME=/nonexistent: there is no bin/nvcc in it"


def no_answer(folder):
    home = toolkit(folder / "other", "echo 'nvcc fatal   : not today'; exit 1")
    return dict(MINGLM_CUDA_HOME=str(home)), "bin/nvcc: nvcc fatal   : not today"


def no_program(folder):
    home = toolkit(folder / "other")
    (home / "bin" / "nvcc").write_text("#!/nonexistent/sh\n", encoding="utf-8")
    return dict(MINGLM_CUDA_HOME=str(home)), "bin/nvcc: No such file or directory"


def no_probe(folder):
    """An nvcc that refuses this host compiler."""
    why = "error: #error -- unsupported GNU version!"
    return dict(MINGLM_CUDA_HOME=str(toolkit(folder / "other", probe=f"echo '{why}'; exit 1"))), why


def no_runtime(folder):
    home = toolkit(folder / "other")
    (home / "lib" / "libcudart_static.a").unlink()
    return dict(MINGLM_CUDA_HOME=str(home)), "what it compiles does not link"


def no_such_architecture(folder):
    old = NVCC.replace("compute_75", "compute_70").replace("80", "72").replace("100", "74")
    home = toolkit(folder / "other", old)
    return dict(MINGLM_CUDA_HOME=str(home)), "knows none of 75 80 86 90 100 120"


def no_kernels(folder):
    """An nvcc that is too old for the kernels themselves."""
    (folder / "csrc" / "cuda" / "launch.cu").write_text("int a;\n#error new!\n", encoding="utf-8")
    emulated = folder / "csrc" / "cuda_on_cpu" / "emulated.cpp"
    emulated.write_text("namespace emulated { int value() { return 5; } }\n", encoding="utf-8")
    home = toolkit(folder / "other")
    return dict(MINGLM_CUDA_HOME=str(home)), "csrc/cuda/launch.cu:2:2: error: #error new!"


REASONS = [no_nvcc, no_such_home, no_answer, no_program]
REASONS += [no_probe, no_runtime, no_such_architecture]


@LINUX
@pytest.mark.parametrize("why", REASONS)
def test_each_reason_for_no_cuda_is_one_line(build_folder, compiler, monkeypatch, why):
    how, expected = why(Path.cwd())
    monkeypatch.setattr(sys, "prefix", "/nonexistent")  # no nvcc of the wheels either
    with pytest.raises(csrc_build.NoCuda) as error:
        build_folder(**how).Nvcc(compiler)
    assert expected in str(error.value) and len(str(error.value).splitlines()) == 1


@LINUX
@pytest.mark.parametrize("why", [no_answer, no_kernels], ids=["before the build", "in the build"])
def test_without_cuda_all_the_rest_is_built_and_says_why_and_it_is_an_error_if_cuda_is_required(tree, why):
    how, expected = why(tree.root)
    tree.run(*INPLACE, **{"MINGLM_CUDA": ""} | how)
    cuda = tree.info()["cuda"]
    assert expected in cuda["reason"] and len(cuda["reason"].splitlines()) == 1
    assert not cuda["built"] and not cuda["archs"]
    assert (tree.value(), tree.value("cuda"), tree.value("emulated")) == (21, None, 5)
    assert tree.info()["extension"] and tree.info()["reason"] is None

    done = tree.hook("build_wheel", check=False, MINGLM_CUDA="1", **how)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last == f"minglm: error: the CUDA kernels were not built: {cuda['reason']}"
    assert "Traceback" not in done.stderr


@LINUX
def test_cuda_can_be_left_out_and_then_nvcc_is_not_called(build_folder, compiler):
    home = toolkit(Path("other").absolute(), "touch HOME/called; exit 1")
    with pytest.raises(csrc_build.NoCuda, match="^MINGLM_CUDA=0 left it out$"):
        build_folder(MINGLM_CUDA="0", MINGLM_CUDA_HOME=str(home)).Nvcc(compiler)
    assert not (home / "called").exists()


def test_cuda_without_a_compiler_for_the_rest_is_an_error_too(build_folder):
    with pytest.raises(SystemExit, match="error: the extension was not built: CXX=/nonexistent/c"):
        build_folder(MINGLM_CUDA="1", CXX="/nonexistent/c++").build_extension()


def test_where_nvcc_is_looked_for_and_in_which_order(tmp_path, monkeypatch):
    wheels = "lib/python3.11/site-packages/nvidia/cu13"
    names = ("first", "second", "third", f"prefix/{wheels}", f"active/{wheels}")
    homes = [toolkit(tmp_path / name) for name in names]
    monkeypatch.setenv("MINGLM_CUDA_HOME", str(homes[0]))
    monkeypatch.setenv("CUDA_HOME", str(homes[1]))
    monkeypatch.setenv("PATH", str(homes[2] / "bin"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "active"))
    hide = [
        lambda: monkeypatch.delenv("MINGLM_CUDA_HOME"),
        lambda: monkeypatch.setenv("CUDA_HOME", "/nonexistent"),
        lambda: monkeypatch.setenv("PATH", "/nonexistent"),
        lambda: monkeypatch.setattr(sys, "prefix", "/nonexistent"),
        lambda: monkeypatch.delenv("VIRTUAL_ENV"),
    ]
    for home, hide_it in zip(homes, hide, strict=True):
        assert csrc_build.find_nvcc() == str(home / "bin" / "nvcc")
        hide_it()
    with pytest.raises(csrc_build.NoCuda, match="there is no nvcc"):
        csrc_build.find_nvcc()


def has_nvcc():
    try:
        return sys.platform == "linux" and csrc_build.find_nvcc()
    except csrc_build.NoCuda:
        return None


@thorough
@pytest.mark.skipif(not has_nvcc(), reason="no nvcc; pip install -e '.[cuda-compiler]' brings one")
def test_what_the_real_nvcc_compiles_is_loaded_without_a_gpu_and_shares_no_runtime(tree):
    places = ("MINGLM_CUDA_HOME", "CUDA_HOME", "VIRTUAL_ENV")
    how = {name: os.environ[name] for name in places if name in os.environ}
    how |= dict(MINGLM_CUDA="1", MINGLM_CUDA_ARCHS="80")
    assert "csrc/cuda/launch.cu" in compiled(tree.run(*INPLACE, **how))
    assert tree.value() == 21
    assert tree.value("cuda", CUDA_VISIBLE_DEVICES="") == -1  # the runtime answers that there is no GPU
    if shutil.which("nm"):
        [library] = (tree.root / "minglm").glob("_C*")
        symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
        assert "PyInit__C" in symbols and "cuda" not in symbols.lower()


# ---- what is in the packages -----------------------------------------------------------------------------


def test_a_wheel_out_of_the_sdist_works_and_holds_the_package_alone(tree, tmp_path):
    assert tree.value() == 21  # what was built in the source tree must not get into the sdist
    with tarfile.open(tree.hook("build_sdist")) as files:
        inside = {name.partition("/")[2] for name in files.getnames() if not files.getmember(name).isdir()}
        files.extractall(tmp_path / "sdist", filter="data")
    files = [path for path in tree.root.glob("csrc/**/*") if path.is_file() and path.suffix != ".pyc"]
    sources = {str(path.relative_to(tree.root)) for path in files}
    assert "csrc/build.py" in sources and sources < inside
    assert {"setup.py", "tests/test_it.py", "README.md", "minglm/data/default.txt.xz"} < inside
    assert not [name for name in inside if name.startswith("build/") or name.endswith((".so", ".pyc"))]
    assert not [name for name in inside if "_build_info" in name]

    [root] = (tmp_path / "sdist").iterdir()
    tree = Tree(root)
    tree.run("setup.py", "build")
    [library] = root.glob("build/lib*/minglm")
    (library / "gone.py").touch()  # a module that the package no longer has
    wheel = tree.hook("build_wheel")
    assert not wheel.name.endswith("none-any.whl")
    with zipfile.ZipFile(wheel) as files:
        inside = {name for name in files.namelist() if ".dist-info/" not in name}
        files.extractall(tmp_path / "installed")
    files = [path for path in (ROOT / "minglm").rglob("*") if path.is_file()]
    package = {str(path.relative_to(ROOT)) for path in files if not any(map(path.match, BUILT))}
    assert inside == package | {"minglm/_build_info.json", f"minglm/{csrc_build.MODULE}"}
    assert Tree(tmp_path / "installed").value() == 21


def test_every_instruction_set_has_its_file():
    assert all((ROOT / "csrc" / "cpu" / f"{name}.cpp").is_file() for name in csrc_build.SETS)


NM = pytest.mark.skipif(not shutil.which("nm"), reason="no nm to list symbols; apt install binutils")
OF_THIS_MACHINE = [name for name, (arch, *_) in csrc_build.SETS.items() if arch == platform.machine()]


@NM
@pytest.mark.parametrize("name", OF_THIS_MACHINE)
def test_the_file_of_an_instruction_set_shares_no_code_with_others(name):
    """The linker keeps one copy of an inline function; compiled for AVX-512 it would crash older machines."""
    objects = list((ROOT / "build").glob(f"ninja-*/csrc/cpu/{name}.o"))
    if not objects:
        pytest.skip("the extension was not built in this checkout")
    command = ["nm", "-C", "--defined-only", objects[0]]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shared = [line for line in symbols.splitlines() if line.split()[1] in "WwVvu"]
    assert not shared
    assert f"minglm::{name}_rung" in symbols


def test_every_import_is_of_a_dependency_or_of_a_package_that_an_extra_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    always, extras = project["dependencies"], project["optional-dependencies"]
    known = {re.match(r"[\w-]+", requirement)[0] for requirement in always}
    known |= {"minglm", *sys.stdlib_module_names, *(name.partition(".")[0] for name in errors.OPTIONAL)}
    known |= {"compression"}  # of Python 3.14
    known |= {"flash_attn"}  # `bench attention` compares with it where it was built, on a machine with a GPU
    for path in (ROOT / "minglm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert {name.partition(".")[0] for name in names} <= known, f"{path}, line {node.lineno}: {names}"
    for package, extra in errors.OPTIONAL.values():
        assert any(re.match(r"[\w.-]+", requirement)[0] == package for requirement in extras[extra]), package


def test_an_extra_is_installed_where_the_package_came_from(monkeypatch, tmp_path):
    (tmp_path / "minglm").mkdir()
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "minglm" / "errors.py"))
    assert errors.how_to_install("tasks") == "pip install 'minglm[tasks]'"
    (tmp_path / "pyproject.toml").touch()
    assert errors.how_to_install("tasks") == "pip install -e '.[tasks]'"
