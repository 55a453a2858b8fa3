"""Builds the extension minglm._C with ninja: finds the compilers, writes build.ninja, records the result.

setup.py calls `build_extension` and `install`. Nothing here needs torch, minglm or a GPU.

CUDA kernels are compiled if there is an nvcc (`find_nvcc` looks for it): for the GPUs of this machine or,
without any, as PTX for compute capability 8.0, which a later GPU's driver compiles at first use. That takes
seconds; all architectures take minutes. nvcc can come from PyPI, in two steps, because a package's extras are
installed after the package is built:

    pip install -e '.[cuda-compiler]' && pip install -e .

One library serves machines with different instruction sets: each set has its own file and flags, and the
library asks the CPU when it loads. Nothing is compiled with -march=native, for older machines.

Environment variables:
    CXX (or CC), CXXFLAGS, LDFLAGS, MAX_JOBS
    MINGLM_REQUIRE_EXT             1: a missing extension is an error
    MINGLM_CUDA                    1: missing CUDA kernels are an error; 0: build none
    MINGLM_CUDA_HOME or CUDA_HOME  the folder that holds bin/nvcc
    MINGLM_CUDA_ARCHS              the architectures to compile for: "80 90", or "all"

Tested: g++ 12 and clang++ 14 on Linux, nvcc 13.0. Never run: clang on macOS, MSVC on Windows.
"""

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
SETS = {  # file in csrc/cpu: (architecture, flags, an instruction that compiler and assembler must know)
    "avx2": ("x86_64", "-mavx2 -mfma", "vfmadd231ps %ymm0, %ymm1, %ymm2"),
    "avx512": ("x86_64", AVX512, "vpermw %zmm0, %zmm1, %zmm2"),
    "avx512_bf16": ("x86_64", f"{AVX512} -mavx512bf16", "vdpbf16ps %zmm0, %zmm1, %zmm2"),
    "neon": ("aarch64", "", "nop"),
}
ARCHITECTURES = ["75", "80", "86", "90", "100", "120"]  # "all"; each also serves later GPUs of its generation
PORTABLE = "80"  # as PTX, for a machine without a GPU: the first with bfloat16 in tensor cores
BINDINGS = Path("csrc/bindings.cpp")
KERNELS = Path("csrc/cuda/launch.cu")  # includes all CUDA kernels but one
HOPPER = Path("csrc/cuda/hopper.cu")  # for compute capability 9.0 alone
EMULATED = sorted(Path("csrc/cuda_on_cpu").glob("*.cpp")) if sys.platform == "linux" else []  # they do, too
PLAIN = [path for path in sorted(Path("csrc/cpu").glob("*.cpp")) if path.stem not in SETS]
PLATFORM = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
BUILD = Path("build", f"ninja-{PLATFORM}")  # kept from one build to the next
KERNELS_OBJECT, HOPPER_OBJECT = (BUILD / path.with_suffix(".o") for path in (KERNELS, HOPPER))
MODULE = "_C" + sysconfig.get_config_var("EXT_SUFFIX")


class NoExtension(Exception):
    """The extension cannot be built; the message gives the reason in one line."""


class NoCuda(NoExtension):
    """The extension can be built, but without CUDA kernels."""


class Compiler:
    """The C++ compiler: its version, the architecture it compiles for, and whether it can use OpenMP."""

    def __init__(self):
        self.command = find_compiler()
        self.msvc = Path(self.command[0]).stem == "cl"
        if self.msvc:
            lines = subprocess.run(self.command, capture_output=True, text=True).stderr.splitlines()
        else:
            ask = [*self.command, "--version"]
            lines = subprocess.run(ask, capture_output=True, text=True).stdout.splitlines()
        self.version = lines[0] if lines else shlex.join(self.command)
        if self.msvc:
            self.machine, self.openmp = platform.machine(), False
            return
        if not self.accepts("int probe;", "-std=c++17"):
            raise NoExtension(f"{shlex.join(self.command)} does not compile C++17: {self.complaint}")
        macros = {"x86_64": "__x86_64__", "aarch64": "__aarch64__"}
        machines = [name for name, macro in macros.items() if self.accepts(f"int probe = {macro};")]
        self.machine = machines[0] if machines else "other"
        # PyTorch runs on libgomp, the OpenMP of g++. The one of clang++ would be a second pool of threads on
        # the same cores.
        code = "#include <omp.h>\nint probe() { return omp_get_max_threads(); }"
        clang = self.accepts("int probe = __clang__;")
        self.openmp = not clang and self.accepts(code, "-fopenmp", "-fPIC", "-shared", link=True)

    def accepts(self, code, *flags, link=False):
        """Whether a file with this code compiles (and links); if not, `complaint` is the compiler's error."""
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "probe.cpp").write_text(code + "\n")
        command = [*self.command, *words_of("CXXFLAGS"), *flags, *([] if link else ["-c"])]
        command += [BUILD / "probe.cpp", "-o", BUILD / "probe.o"]
        done = subprocess.run(command, capture_output=True, text=True)
        self.complaint = first_error(done.stderr)
        return done.returncode == 0


class Nvcc:
    """The CUDA compiler: its version, the architectures it compiles for, and what the linker needs.

    Needs no GPU and no driver. Tested with 13.0 from NVIDIA's packages and from PyPI; 11.8, the first that
    knows sm_90, should work but was never run.
    """

    def __init__(self, compiler):
        if os.environ.get("MINGLM_CUDA") == "0":
            raise NoCuda("MINGLM_CUDA=0 left it out")
        if sys.platform != "linux":
            raise NoCuda(f"CUDA is untested on {platform.system()}")
        self.command = [find_nvcc()]
        if len(compiler.command) == 1:  # nvcc takes the path of a host compiler, not a command with words
            self.command += ["-ccbin", *compiler.command]
        self.version = (re.findall(r"V(\d+[.\d]*)", self.run("--version")) or ["of unknown version"])[0]
        self.archs, self.machine_code = self.architectures()
        has_90a = re.match(r"1[2-9]|[2-9]\d", self.version)  # from 12.0 on
        self.hopper = bool(has_90a) and self.machine_code and 90 in map(number, self.archs)
        self.link = self.link_flags()
        code, made = str(BUILD / "probe.cu"), str(BUILD / "probe.cu.o")
        self.run(*self.flags(self.archs[-1:]), "-c", code, "-o", made)
        if not compiler.accepts("int other;", "-fPIC", "-shared", made, *self.link, link=True):
            raise NoCuda(f"{self.command[0]}: what it compiles does not link: {compiler.complaint}")

    def run(self, *words):
        """The output of nvcc."""
        command = [*self.command, *words]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as error:
            raise NoCuda(f"{self.command[0]}: {error.strerror}") from None
        if done.returncode:
            raise NoCuda(f"{self.command[0]}: {first_error(done.stdout)}")
        return done.stdout

    def architectures(self):
        """(the architectures to compile for, whether as machine code, not PTX alone).

        They are those of MINGLM_CUDA_ARCHS, else those of this machine's GPUs, else PORTABLE.
        """
        known = re.findall(r"\bcompute_(\d+)\b", self.run("--list-gpu-arch"))
        wanted = os.environ.get("MINGLM_CUDA_ARCHS", "").split()
        # "90a": with the instructions that only this architecture has
        if unknown := [arch for arch in wanted if re.sub(r"(?<=\d)[af]$", "", arch) not in [*known, "all"]]:
            accepted = f"nvcc {self.version} accepts all, or of {' '.join(known)}"
            sys.exit(f"minglm: error: MINGLM_CUDA_ARCHS: {unknown[0]}; {accepted}")
        everything = [arch for arch in ARCHITECTURES if arch in known]
        if not everything:
            raise NoCuda(f"{self.command[0]}: {self.version} knows none of {' '.join(ARCHITECTURES)}")
        if "all" in wanted:
            return everything, True
        if wanted:
            return sorted({*wanted}, key=number), True
        older = [[arch for arch in known if int(arch) <= gpu] for gpu in visible_gpus()]
        if archs := {max(some, key=int) for some in older if some}:
            return sorted(archs, key=int), True
        return [PORTABLE if PORTABLE in known else everything[0]], False

    def link_flags(self):
        """Flags with which the linker, which is not nvcc, finds the CUDA runtime.

        Linked statically and with its symbols hidden, the runtime does not mix with the one of torch. Without
        a driver the import still works; only a call fails.
        """
        (BUILD / "probe.cu").write_text(
            "#include <cuda_runtime.h>\n__global__ void kernel(int* n) { *n = 1; }\n"
            "int probe(int* n) { kernel<<<1, 1>>>(n); return cudaGetDeviceCount(n); }\n"
        )
        plan = self.run("--dryrun", "-c", str(BUILD / "probe.cu"))
        folders = re.findall(r'"-L(.*?)"', plan)
        folders += [f"{top}/lib" for top in re.findall(r"\bTOP=(.*)", plan)]  # where PyPI's wheels have it
        link = [f"-L{os.path.realpath(folder)}" for folder in folders if os.path.isdir(folder)]
        return link + ["-lcudart_static", "-ldl", "-lrt", "-lpthread", "-Wl,--exclude-libs,ALL"]

    def flags(self, archs, machine_code=True):
        """Flags for machine code of each architecture, and for PTX.

        PTX of the last architecture serves later GPUs. Where there are several, or one with a letter, whose
        PTX serves no other, that of PORTABLE serves those between.
        """
        codes = [f"arch=compute_{arch},code=sm_{arch}" for arch in archs if machine_code]
        ptx = [arch for arch in archs if arch.isdigit()][-1:]
        if (len(archs) > 1 or not ptx) and number(archs[-1]) > int(PORTABLE):
            ptx = [PORTABLE, *ptx]
        codes += [f"arch=compute_{arch},code=compute_{arch}" for arch in ptx]
        host = ["-fPIC", "-fvisibility=hidden", *words_of("CXXFLAGS")]
        host = [flag.replace(",", r"\,") for flag in host]  # nvcc splits what it passes on at commas
        passed_on = [word for flag in host for word in ("-Xcompiler", flag)]
        return ["-std=c++17", "-O3", *passed_on, *[word for code in codes for word in ("-gencode", code)]]


def number(arch):
    """The number of an architecture: 90 of "90a"."""
    return int(arch.rstrip("af"))


def visible_gpus():
    """Compute capabilities of the GPUs that the driver shows, e.g. [90]; [] without a driver or a GPU."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # a driver may hang
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(major + minor) for major, minor in re.findall(r"^(\d+)\.(\d)\s*$", done.stdout, re.M)]


def find_nvcc():
    """The path of nvcc: of MINGLM_CUDA_HOME if set, else of CUDA_HOME, the PATH, or PyPI's wheels.

    The wheels are looked for in the environment of this Python and in the activated one. pip's isolation
    keeps both; that of `uv` and `python -m build` only the second. If neither helps, name the folder:
    MINGLM_CUDA_HOME=.../nvidia/cu13.
    """
    if home := os.environ.get("MINGLM_CUDA_HOME"):
        if not Path(home, "bin", "nvcc").is_file():
            raise NoCuda(f"MINGLM_CUDA_HOME={home}: there is no bin/nvcc in it")
        return str(Path(home, "bin", "nvcc"))
    places = [Path(os.environ["CUDA_HOME"], "bin")] if os.environ.get("CUDA_HOME") else []
    places += os.get_exec_path()
    for environment in (sys.prefix, os.environ.get("VIRTUAL_ENV") or sys.prefix):
        places += sorted(Path(environment).glob("lib/python3*/site-packages/nvidia/cu*/bin"))
    if nvcc := shutil.which("nvcc", path=os.pathsep.join(map(str, places))):
        return nvcc
    from_pypi = "pip install -e '.[cuda-compiler]' && pip install -e ."
    raise NoCuda(f"there is no nvcc (CUDA_HOME, PATH; or from PyPI: {from_pypi})")


def find_compiler():
    """The C++ compiler's command: CXX, else the C++ counterpart of CC, else the first on the PATH."""
    if command := words_of("CXX"):
        if not shutil.which(command[0]):
            raise NoExtension(f"CXX={os.environ['CXX']}: there is no such program")
        return command
    cc = os.environ.get("CC", "")
    counterpart = re.sub(r"gcc(?=[-.\d]*$)", "g++", re.sub(r"clang(?=[-.\d]*$)", "clang++", cc))
    commands = [shlex.split(counterpart)] if counterpart != cc else []
    for command in [*commands, ["g++"], ["clang++"], ["c++"], ["cl"]]:
        if shutil.which(command[0]):
            return command
    how = "Debian, Ubuntu: apt install g++; macOS: xcode-select --install"
    raise NoExtension(f"there is no C++ compiler ({how})")


def words_of(variable):
    """The words of an environment variable that holds a command or flags."""
    return shlex.split(os.environ.get(variable, ""))


def first_error(output):
    """The line of a compiler's output that says what is wrong."""
    lines = output.strip().splitlines() or ["it says nothing"]
    errors = [line for line in lines if re.search(r"\b(error|fatal)\b[: ]|undefined reference", line)]
    return errors[0] if errors else lines[-1]


GNU_RULES = """
rule compile
  command = $cxx $flags -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = compile $in
rule link
  command = $cxx $in -o $out $link
  description = link $out
"""
NVCC_RULE = """
rule nvcc
  command = $nvcc --threads $${MAX_JOBS:-0} -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = compile $in
"""
MSVC_RULES = """
rule compile
  command = $cxx $flags /showIncludes /c $in /Fo$out
  deps = msvc
  description = compile $in
rule link
  command = $cxx /LD $in /Fe$out $link
  description = link $out
"""


def write_ninja(compiler, nvcc=None):
    """Write build.ninja; returns the instruction sets that it compiles.

    -MMD makes the compiler list the headers that it read, and `deps` makes ninja remember them: touching a
    header compiles every file that includes it, and only those.
    """
    headers = header_folders()
    # MSVC compiles no vector files: they use the vector types of g++ and clang++.
    known = {name: flags.split() for name, (machine, flags, _) in SETS.items() if machine == compiler.machine}
    probes = {name: f'void probe() {{ asm("{SETS[name][2]}"); }}' for name in known}
    sets = [name for name, flags in known.items() if compiler.accepts(probes[name], *flags)]
    if compiler.msvc:
        flags = ["/nologo", "/O2", "/std:c++17", "/EHsc", "/MD"]
        link = ["/link", f"/LIBPATH:{Path(sys.base_prefix, 'libs')}"]
    else:
        threads = "-fopenmp" if compiler.openmp else "-pthread"  # parallel.cpp can also use std::thread
        flags = ["-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", threads]
        flags += [f"-DMINGLM_NO_{name.upper()}" for name in known if name not in sets]
        bundle = sys.platform == "darwin"
        link = ["-bundle", "-undefined", "dynamic_lookup", threads] if bundle else ["-shared", threads]

    parts = [f"-I{folder}" for folder in headers]
    built = dict(CUDA=nvcc, HOPPER=nvcc and nvcc.hopper, EMULATED=EMULATED)
    parts += [f"-DMINGLM_{name}" for name, is_built in built.items() if is_built]
    # The slowest to compile come first, so that no core is left with one of them at the end. The bindings
    # only pass addresses on, and the emulator spends its time switching threads: neither runs faster at -O3,
    # and both compile slower.
    sources = {path: ["-O2", "-fno-openmp", "-pthread", "-Wno-unknown-pragmas"] for path in EMULATED}
    sources |= {BINDINGS: parts if compiler.msvc else ["-O1", *parts]}
    vectors = {Path(f"csrc/cpu/{name}.cpp"): known[name] for name in sets}
    sources |= vectors | {path: [] for path in PLAIN}
    # subtle: of an inline function that several files hold, the linker keeps the first. So they are linked
    # from the plainest machine to the richest; in any other order, code for AVX-512 could end up where every
    # machine runs it.
    plainest_first = [BINDINGS, *PLAIN, *EMULATED, *vectors]
    objects = {source: BUILD / source.with_suffix(".o") for source in plainest_first}
    lines = [f"builddir = {BUILD}", f"cxx = {quoted(compiler.command)}"]
    lines += [MSVC_RULES if compiler.msvc else GNU_RULES]
    if nvcc:
        objects = {KERNELS: KERNELS_OBJECT} | objects
        link += nvcc.link
        lines += [f"nvcc = {quoted(nvcc.command + nvcc.flags(nvcc.archs, nvcc.machine_code))}", NVCC_RULE]
        lines += [f"build {KERNELS_OBJECT}: nvcc {KERNELS}"]
        if nvcc.hopper:
            objects = {HOPPER: HOPPER_OBJECT} | objects
            words = quoted(nvcc.command + nvcc.flags(["90a"]))
            lines += [f"build {HOPPER_OBJECT}: nvcc {HOPPER}\n  nvcc = {words}"]
    for source, more in sources.items():
        lines += [f"build {objects[source]}: compile {source}"]
        lines += [f"  flags = {quoted(flags + more + words_of('CXXFLAGS'))}"]
    lines += [f"build {BUILD / MODULE}: link {' '.join(map(str, objects.values()))}"]
    lines += [f"  link = {quoted(link + words_of('LDFLAGS'))}"]
    (BUILD / "build.ninja").write_text("\n".join(lines) + "\n")
    return sets


def header_folders():
    """The folders of the headers of pybind11 and Python."""
    try:
        import pybind11
    except ImportError:
        raise NoExtension("pybind11 is missing: pip install pybind11") from None
    python = sysconfig.get_path("include")
    if not Path(python, "Python.h").is_file():
        raise NoExtension(f"{python} holds no Python.h (Debian, Ubuntu: apt install python3-dev)")
    return [own_copy(Path(pybind11.get_include()), pybind11.__version__), python]


def own_copy(headers, version):
    """The folder of our own copy of pybind11's headers.

    pip puts them into a folder that lives for one build; compiled from there, everything would be out of date
    in the next build.
    """
    copy = BUILD / f"pybind11-{version}"
    if not copy.is_dir():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(headers, unfinished)
        unfinished.rename(copy)
    return copy


def quoted(command):
    """The words of a command as ninja expects them: quoted for the shell, and every $ doubled."""
    return (subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)).replace("$", "$$")


def run_ninja(jobs, target):
    """Make a target: compile what is out of date, and nothing else."""
    try:
        from ninja import BIN_DIR

        ninja = str(Path(BIN_DIR, "ninja"))
    except ImportError:
        ninja = shutil.which("ninja")
    if not ninja:
        raise NoExtension("ninja is missing: pip install ninja")
    command = [ninja, "-f", str(BUILD / "build.ninja"), *(["-j", str(jobs)] if jobs else []), str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise NoExtension(first_error(done.stdout))


def build(compiler, jobs, nvcc=None):
    """Build the extension and check that it loads; returns its instruction sets."""
    sets = write_ninja(compiler, nvcc)
    run_ninja(jobs, BUILD / MODULE)
    spec = f"u.spec_from_file_location('_C', {str(BUILD / MODULE)!r})"
    load = f"import importlib.util as u; u.module_from_spec({spec})"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True)
    if done.returncode:
        raise NoExtension(f"the extension does not load: {done.stderr.strip().splitlines()[-1]}")
    return sets


NO_CUDA = dict(built=False, reason="there is no extension", nvcc=None, archs=[], machine_code=False)


def build_with_cuda(compiler, jobs):
    """Build the extension, without CUDA if anything is wrong with that; returns its part of the record."""
    nvcc = None
    try:
        nvcc = Nvcc(compiler)
        sets = build(compiler, jobs, nvcc)
        cuda = dict(built=True, reason=None, nvcc=nvcc.version)
        cuda |= dict(archs=[*map(number, nvcc.archs)], machine_code=nvcc.machine_code)
    except NoExtension as why:
        if os.environ.get("MINGLM_CUDA") == "1":
            sys.exit(f"minglm: error: the CUDA kernels were not built: {why}")
        print(f"minglm: note: no CUDA kernels: {why}", file=sys.stderr)
        cuda = NO_CUDA | dict(reason=str(why), nvcc=nvcc and nvcc.version)
        sets = build(compiler, jobs)
    return dict(extension=True, sets=sets, cuda=cuda, emulated=bool(EMULATED))


def build_extension(jobs=None, required=False):
    """Build the extension as far as this machine can; returns the record of the build for _build_info.json.

    If there is none in the end, the record says why; with `required`, that is an error instead.
    """
    record = dict(extension=False, reason=None, compiler=None, openmp=False, sets=[])
    record |= dict(cuda=NO_CUDA, emulated=False)
    try:
        compiler = Compiler()
        record |= dict(compiler=compiler.version, openmp=compiler.openmp)
        record |= build_with_cuda(compiler, os.environ.get("MAX_JOBS") or jobs)
    except NoExtension as why:
        if required or "1" in (os.environ.get("MINGLM_REQUIRE_EXT"), os.environ.get("MINGLM_CUDA")):
            sys.exit(f"minglm: error: the extension was not built: {why}")
        print(f"minglm: note: installing without the compiled kernel: {why}", file=sys.stderr)
        record |= dict(reason=str(why))
    return record


def install(record, folder):
    """Put the extension, if there is one, and the record of its build into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if record["extension"]:
        shutil.copy2(BUILD / MODULE, folder / f"{MODULE}.new")
        os.replace(folder / f"{MODULE}.new", folder / MODULE)  # a running process keeps the old file
    else:
        (folder / MODULE).unlink(missing_ok=True)  # never leave a stale kernel
    (folder / "_build_info.json").write_text(json.dumps(record, indent=2) + "\n")
