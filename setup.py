"""Builds minglm, with the extension minglm._C from csrc/ where there is a C++ compiler.

    pip install -e .                       builds the extension in this folder; the same line again, after a change in csrc/,
                                           compiles what the change touches and nothing else
    python setup.py build_ext --inplace    the same without pip
    pip install .                          a copy that no longer needs this folder

None of them needs torch or a GPU. Without a compiler the package is the same, in pure Python.

CUDA kernels are compiled where there is an nvcc (class Nvcc says where it is looked for): for the GPUs of
this machine, or, where there is none, as PTX for compute capability 8.0, which the driver of any later GPU
compiles at its first use. That takes seconds; every architecture takes minutes (MINGLM_CUDA_ARCHS=all). nvcc
may come from PyPI; a package's extras are installed after the package is built, so that takes two steps:

    pip install -e '.[cuda-compiler]' && pip install -e .

How one library serves machines with different instruction sets: each set has a file of its own, compiled with
flags of its own, and the library asks the CPU when it loads. Nothing is compiled with -march=native: that
would not run on an older machine.

Environment: CXX (or CC), CXXFLAGS, LDFLAGS, MAX_JOBS; MINGLM_REQUIRE_EXT=1 makes a missing extension an
error. MINGLM_CUDA=1 makes missing CUDA kernels an error, =0 leaves them out; MINGLM_CUDA_HOME, CUDA_HOME: the
folder of bin/nvcc; MINGLM_CUDA_ARCHS: what they are compiled for, "80 90" or "all".
Tested: g++ 12 and clang++ 14 on Linux, nvcc 13.0. Written with care but never run: clang on macOS, MSVC on
Windows.
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

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma"
SETS = {  # file in csrc/cpu: (architecture, flags, an instruction that compiler and assembler have to know)
    "avx2": ("x86_64", "-mavx2 -mfma", "vfmadd231ps %ymm0, %ymm1, %ymm2"),
    "avx512": ("x86_64", AVX512, "vpermw %zmm0, %zmm1, %zmm2"),
    "avx512_bf16": ("x86_64", f"{AVX512} -mavx512bf16", "vdpbf16ps %zmm0, %zmm1, %zmm2"),
    "neon": ("aarch64", "", "nop"),
}
ARCHITECTURES = (
    "75",
    "80",
    "86",
    "90",
    "100",
    "120",
)  # "all"; code for one runs on later ones of its generation
PORTABLE = "80"  # as PTX, for a machine without a GPU: the first with bfloat16 in tensor cores
BINDINGS = Path("csrc/bindings.cpp")
KERNELS = Path("csrc/cuda/launch.cu")  # includes all CUDA kernels
EMULATED = (
    sorted(Path("csrc/cuda_on_cpu").glob("*.cpp")) if sys.platform == "linux" else []
)  # and so does one of these
PLAIN = [path for path in sorted(Path("csrc/cpu").glob("*.cpp")) if path.stem not in SETS]
BUILD = Path(
    "build", f"ninja-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
)  # kept from one build to the next
KERNELS_OBJECT = BUILD / KERNELS.with_suffix(".o")
MODULE = "_C" + sysconfig.get_config_var("EXT_SUFFIX")


class NoExtension(Exception):
    """There will be no extension; the message says why in one line."""


class NoCuda(NoExtension):
    """There will be an extension, but no CUDA in it."""


class Compiler:
    """The C++ compiler: its version, the architecture it compiles for, and what it can do."""

    def __init__(self):
        self.command = find_compiler()
        self.msvc = Path(self.command[0]).stem == "cl"
        asked = subprocess.run(
            [*self.command, *([] if self.msvc else ["--version"])], capture_output=True, text=True
        )
        self.version = next(
            iter((asked.stderr if self.msvc else asked.stdout).splitlines()), shlex.join(self.command)
        )
        if self.msvc:
            self.machine, self.openmp = platform.machine(), False
            return
        if not self.accepts("int probe;", "-std=c++17"):
            raise NoExtension(f"{shlex.join(self.command)} does not compile C++17: {self.complaint}")
        targets = {"x86_64": "__x86_64__", "aarch64": "__aarch64__"}
        self.machine = next(
            (name for name, macro in targets.items() if self.accepts(f"int probe = {macro};")), "other"
        )
        # PyTorch runs on libgomp, which is g++'s; the OpenMP of clang++ would be a second pool of threads on
        # the same cores
        code = "#include <omp.h>\nint probe() { return omp_get_max_threads(); }"
        clang = self.accepts("int probe = __clang__;")
        self.openmp = not clang and self.accepts(code, "-fopenmp", "-fPIC", "-shared", link=True)

    def accepts(self, code, *flags, link=False):
        """Whether a file with this code compiles (and links)."""
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "probe.cpp").write_text(code + "\n")
        command = [*self.command, *words_of("CXXFLAGS"), *flags, *([] if link else ["-c"])]
        tried = subprocess.run(
            [*command, BUILD / "probe.cpp", "-o", BUILD / "probe.o"], capture_output=True, text=True
        )
        self.complaint = first_error(tried.stderr)
        return tried.returncode == 0


class Nvcc:
    """The CUDA compiler: its version, the architectures it compiles for, and what the linker needs. Needs no GPU and no driver.

    Tried: 13.0 from NVIDIA's packages and from PyPI. 11.8 should do, the first one that knows sm_90, but was
    never run.
    """

    def __init__(self, compiler):
        if os.environ.get("MINGLM_CUDA") == "0":
            raise NoCuda("MINGLM_CUDA=0 left it out")
        if sys.platform != "linux":
            raise NoCuda(f"CUDA is untested on {platform.system()}")
        self.command = [find_nvcc()]
        if len(compiler.command) == 1:  # nvcc takes the path of a host compiler, not a command with words
            self.command += ["-ccbin", *compiler.command]
        self.version = next(iter(re.findall(r"V(\d+[.\d]*)", self.say("--version"))), "of unknown version")
        self.archs, self.machine_code = self.architectures()
        # The linker is not nvcc, so it has to be told where the CUDA runtime is. Linked statically and kept
        # to itself, it meets neither the runtime of torch nor the want of a driver: that is an answer to a
        # call, not an import that fails.
        (BUILD / "probe.cu").write_text(
            "#include <cuda_runtime.h>\n__global__ void kernel(int* n) { *n = 1; }\n"
            "int probe(int* n) { kernel<<<1, 1>>>(n); return cudaGetDeviceCount(n); }\n"
        )
        plan = self.say("--dryrun", "-c", str(BUILD / "probe.cu"))
        folders = re.findall(r'"-L(.*?)"', plan) + [
            f"{top}/lib" for top in re.findall(r"\bTOP=(.*)", plan)
        ]  # PyPI: lib
        self.link = [f"-L{os.path.realpath(folder)}" for folder in folders if os.path.isdir(folder)]
        self.link += ["-lcudart_static", "-ldl", "-lrt", "-lpthread", "-Wl,--exclude-libs,ALL"]
        self.say(*self.flags(self.archs[-1:]), "-c", str(BUILD / "probe.cu"), "-o", str(BUILD / "probe.cu.o"))
        if not compiler.accepts(
            "int other;", "-fPIC", "-shared", str(BUILD / "probe.cu.o"), *self.link, link=True
        ):
            raise NoCuda(f"{self.command[0]}: what it compiles does not link: {compiler.complaint}")

    def say(self, *words):
        """What nvcc answers."""
        try:
            done = subprocess.run(
                [*self.command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except OSError as error:
            raise NoCuda(f"{self.command[0]}: {error.strerror}") from None
        if done.returncode:
            raise NoCuda(f"{self.command[0]}: {first_error(done.stdout)}")
        return done.stdout

    def architectures(self):
        """MINGLM_CUDA_ARCHS, else those of this machine's GPUs; and whether machine code is compiled for them, or PTX alone."""
        known = re.findall(r"\bcompute_(\d+)\b", self.say("--list-gpu-arch"))
        asked = os.environ.get("MINGLM_CUDA_ARCHS", "").split()
        if unknown := [arch for arch in asked if arch not in [*known, "all"]]:
            accepted = f"nvcc {self.version} accepts all, or of {' '.join(known)}"
            sys.exit(f"minglm: error: MINGLM_CUDA_ARCHS: {unknown[0]}; {accepted}")
        everything = [arch for arch in ARCHITECTURES if arch in known]
        if not everything:
            raise NoCuda(f"{self.command[0]}: {self.version} knows none of {' '.join(ARCHITECTURES)}")
        if asked:
            return (everything if "all" in asked else sorted({*asked}, key=int)), True
        gpus = [
            max((arch for arch in known if int(arch) <= gpu), key=int, default=None) for gpu in visible_gpus()
        ]
        if archs := sorted({arch for arch in gpus if arch}, key=int):
            return archs, True
        return [PORTABLE if PORTABLE in known else everything[0]], False

    def flags(self, archs, machine_code=True):
        """Machine code for each architecture (if asked for), and PTX of the last, which drivers compile for later GPUs."""
        host = ["-fPIC", "-fvisibility=hidden", *words_of("CXXFLAGS")]
        pairs = [(arch, f"sm_{arch}") for arch in archs if machine_code] + [
            (archs[-1], f"compute_{archs[-1]}")
        ]
        codes = [f"arch=compute_{arch},code={code}" for arch, code in pairs]
        # nvcc splits what it passes on at commas
        return [
            "-std=c++17",
            "-O3",
            *[word for flag in host for word in ("-Xcompiler", flag.replace(",", r"\,"))],
            *[word for code in codes for word in ("-gencode", code)],
        ]


def visible_gpus():
    """Compute capabilities of the GPUs that the driver shows, e.g. [90]; [] where there is no driver or no GPU."""
    try:
        asked = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        said = subprocess.run(
            asked, capture_output=True, text=True, timeout=60
        )  # a driver that hangs is no GPU
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [
        int(major) * 10 + int(minor) for major, minor in re.findall(r"^(\d+)\.(\d)\s*$", said.stdout, re.M)
    ]


def find_nvcc():
    """The nvcc of MINGLM_CUDA_HOME if that is set, else of CUDA_HOME, on the PATH, or of PyPI's wheels.

    The wheels are looked for in the environment of this Python, and in the one that is activated. pip's own
    isolation leaves both as they are; that of `uv` and `python -m build` the second. Else name the folder:
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
    raise NoCuda(
        "there is no nvcc (CUDA_HOME, PATH; or from PyPI: pip install -e '.[cuda-compiler]' && pip install -e .)"
    )


def find_compiler():
    """CXX if it is set, else the C++ brother of CC if that is set, else what is on the PATH; as a list of words."""
    if asked := words_of("CXX"):
        if not shutil.which(asked[0]):
            raise NoExtension(f"CXX={os.environ['CXX']}: there is no such program")
        return asked
    cc = os.environ.get("CC", "")
    brother = re.sub(
        r"(gcc|clang)(?=[-.\d]*$)", lambda found: {"gcc": "g++", "clang": "clang++"}[found[1]], cc
    )
    for command in [shlex.split(brother) if brother != cc else [], ["g++"], ["clang++"], ["c++"], ["cl"]]:
        if command and shutil.which(command[0]):
            return command
    raise NoExtension(
        "there is no C++ compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)"
    )


def words_of(variable):
    """The words of an environment variable that holds a command or flags."""
    return shlex.split(os.environ.get(variable, ""))


def first_error(output):
    """The line of a compiler's output that says what is wrong."""
    lines = output.strip().splitlines() or ["it says nothing"]
    return next(
        (line for line in lines if re.search(r"\b(error|fatal)\b[: ]|undefined reference", line)), lines[-1]
    )


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
    """Write build.ninja: what is made of what, by which command. Returns the instruction sets that are in it.

    -MMD makes the compiler list the headers that it read, and `deps` makes ninja remember them: touching a
    header compiles every file that includes it, and only those.
    """
    try:
        import pybind11
    except ImportError:
        raise NoExtension("pybind11 is missing: pip install pybind11") from None
    headers = [own_copy(Path(pybind11.get_include()), pybind11.__version__), sysconfig.get_path("include")]
    if not Path(headers[1], "Python.h").is_file():
        raise NoExtension(f"{headers[1]} holds no Python.h (Debian, Ubuntu: apt install python3-dev)")

    # MSVC compiles no vector files: they use the vector types of g++ and clang++.
    known = {name: more.split() for name, (machine, more, _) in SETS.items() if machine == compiler.machine}
    sets = [
        name
        for name, more in known.items()
        if compiler.accepts(f'void probe() {{ asm("{SETS[name][2]}"); }}', *more)
    ]
    if compiler.msvc:
        flags, link = (
            ["/nologo", "/O2", "/std:c++17", "/EHsc", "/MD"],
            ["/link", f"/LIBPATH:{Path(sys.base_prefix, 'libs')}"],
        )
    else:
        threads = (
            "-fopenmp" if compiler.openmp else "-pthread"
        )  # parallel.cpp takes std::thread where OpenMP is off
        flags = ["-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", threads]
        flags += [f"-DMINGLM_NO_{name.upper()}" for name in known if name not in sets]
        link = [
            *(["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]),
            threads,
        ]

    parts = ["-DMINGLM_CUDA"] * (nvcc is not None) + ["-DMINGLM_EMULATED"] * bool(EMULATED)
    # The slowest to compile come first, so that no core is left with one of them at the end. The bindings
    # only pass addresses on, and the emulator spends its time in switching threads: neither runs faster at
    # -O3, and both compile slower.
    quick = [] if compiler.msvc else ["-O1"]
    sources = {path: ["-O2", "-fno-openmp", "-pthread", "-Wno-unknown-pragmas"] for path in EMULATED}
    sources |= {BINDINGS: quick + [f"-I{folder}" for folder in headers] + parts}
    sources |= {Path(f"csrc/cpu/{name}.cpp"): known[name] for name in sets} | {path: [] for path in PLAIN}
    # subtle: of an inline function that several files hold, the linker keeps the first. So the order goes
    # from the plainest machine to the richest; in any other, code for AVX-512 could end up where every
    # machine runs it.
    plainest_first = [BINDINGS, *PLAIN, *EMULATED, *(Path(f"csrc/cpu/{name}.cpp") for name in sets)]
    objects = {source: BUILD / source.with_suffix(".o") for source in plainest_first}
    lines = [f"builddir = {BUILD}", f"cxx = {quoted(compiler.command)}"]
    lines += [MSVC_RULES if compiler.msvc else GNU_RULES]
    if nvcc:
        objects = {KERNELS: KERNELS_OBJECT} | objects
        link += nvcc.link
        lines += [f"nvcc = {quoted(nvcc.command + nvcc.flags(nvcc.archs, nvcc.machine_code))}", NVCC_RULE]
        lines += [f"build {KERNELS_OBJECT}: nvcc {KERNELS}"]
    for source, more in sources.items():
        lines += [
            f"build {objects[source]}: compile {source}",
            f"  flags = {quoted(flags + more + words_of('CXXFLAGS'))}",
        ]
    lines += [f"build {BUILD / MODULE}: link {' '.join(map(str, objects.values()))}"]
    lines += [f"  link = {quoted(link + words_of('LDFLAGS'))}"]
    (BUILD / "build.ninja").write_text("\n".join(lines) + "\n")
    return sets


def own_copy(headers, version):
    """The folder of our own copy of pybind11's headers.

    pip brings them in a folder that lives for one build; compiled from there, the next build would have to
    compile again.
    """
    copy = BUILD / f"pybind11-{version}"
    if not copy.is_dir():
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(headers, unfinished)
        unfinished.rename(copy)
    return copy


def quoted(command):
    """Words of a command as ninja wants them: quoted for the shell, and every $ doubled."""
    return (subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)).replace("$", "$$")


def run_ninja(jobs, target):
    """Make a target, which compiles what is out of date of it, and nothing else."""
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
    """Build the extension and try whether it loads; returns the instruction sets that are in it."""
    sets = write_ninja(compiler, nvcc)
    run_ninja(jobs, BUILD / MODULE)
    load = f"import importlib.util as u; u.module_from_spec(u.spec_from_file_location('_C', {str(BUILD / MODULE)!r}))"
    tried = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True)
    if tried.returncode:
        raise NoExtension(f"the extension does not load: {tried.stderr.strip().splitlines()[-1]}")
    return sets


def build_with_cuda(compiler, jobs):
    """Build the extension, without CUDA kernels if anything is wrong with them; returns what the record of the build says."""
    nvcc, cuda = None, dict(built=True, reason=None, nvcc=None, archs=[], machine_code=False)
    try:
        nvcc = Nvcc(compiler)
        sets = build(compiler, jobs, nvcc)
        cuda |= dict(
            nvcc=nvcc.version, archs=[int(arch) for arch in nvcc.archs], machine_code=nvcc.machine_code
        )
    except NoExtension as why:
        if os.environ.get("MINGLM_CUDA") == "1":
            sys.exit(f"minglm: error: the CUDA kernels were not built: {why}")
        print(f"minglm: note: no CUDA kernels: {why}", file=sys.stderr)
        cuda |= dict(built=False, reason=str(why), nvcc=nvcc and nvcc.version)
        sets = build(compiler, jobs)
    return dict(extension=True, sets=sets, cuda=cuda, emulated=bool(EMULATED))


class NinjaBuild(build_ext):
    """build_ext through ninja. Leaves _build_info.json beside the extension, or where it would have been."""

    def run(self):
        cuda = dict(built=False, reason="there is no extension", nvcc=None, archs=[], machine_code=False)
        info = dict(
            extension=False, reason=None, compiler=None, openmp=False, sets=[], cuda=cuda, emulated=False
        )
        if self.force:
            shutil.rmtree(BUILD, ignore_errors=True)
        try:
            compiler = Compiler()
            info |= dict(compiler=compiler.version, openmp=compiler.openmp)
            info |= build_with_cuda(compiler, os.environ.get("MAX_JOBS") or self.parallel)
        except NoExtension as why:
            insists = "1" in (os.environ.get("MINGLM_REQUIRE_EXT"), os.environ.get("MINGLM_CUDA"))
            if insists or "build_ext" in self.distribution.commands:
                sys.exit(f"minglm: error: the extension was not built: {why}")
            print(f"minglm: note: installing without the compiled kernel: {why}", file=sys.stderr)
            self.extensions = (
                self.distribution.ext_modules
            ) = []  # from here on this is a package in pure Python
            info |= dict(reason=str(why))
        for folder in [Path(self.build_lib, "minglm"), *([Path("minglm")] if self.inplace else [])]:
            folder.mkdir(parents=True, exist_ok=True)
            if info["extension"]:
                shutil.copy2(BUILD / MODULE, folder / f"{MODULE}.new")
                os.replace(folder / f"{MODULE}.new", folder / MODULE)  # a running process keeps the old file
            else:
                (folder / MODULE).unlink(missing_ok=True)  # never leave a stale kernel
            (folder / "_build_info.json").write_text(json.dumps(info, indent=2) + "\n")


class Wheel(bdist_wheel):
    """A wheel is bound to a platform only if the extension is in it, and that is known when it is built."""

    def run(self):
        shutil.rmtree(
            self.get_finalized_command("build").build_lib, ignore_errors=True
        )  # modules that are no more
        self.run_command("build")
        self.skip_build, self.root_is_pure = True, not self.distribution.has_ext_modules()
        super().run()


if __name__ == "__main__":
    extension = Extension("minglm._C", [str(path) for path in (BINDINGS, *PLAIN)])
    setup(ext_modules=[extension], cmdclass=dict(build_ext=NinjaBuild, bdist_wheel=Wheel))
