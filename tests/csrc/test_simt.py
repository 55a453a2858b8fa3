"""The emulator of CUDA on a CPU: csrc/tests/check_simt.cpp, built with and without sanitizers."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT, need_compiler, thorough

CSRC = ROOT / "csrc"
SOURCES = [CSRC / "tests" / "check_simt.cpp", CSRC / "cuda_on_cpu" / "simt.cpp"]
ADDRESS = ["-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREAD = ["-O0", "-g1", "-fsanitize=thread"]  # -g1: reports name the lines of a kernel
BUILDS = {  # name -> (flags, a macro that they must define)
    "plain": (["-O1"], None),
    "ucontext": (["-O1", "-DMINGLM_UCONTEXT"], None),  # what machines other than x86-64 run
    "address": (ADDRESS, "__SANITIZE_ADDRESS__"),
    "thread": (THREAD, "__SANITIZE_THREAD__"),
}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the emulator is built on Linux only"),
    thorough,
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """{name of the build: the program, or why there is none}."""
    compiler = need_compiler()
    folder = tmp_path_factory.mktemp("simt")

    def run(*words, **options):
        return subprocess.run([*map(str, words)], capture_output=True, text=True, **options)

    def build(name):
        flags, macro = BUILDS[name]
        if macro:
            probe = f"#ifndef {macro}\n#error\n#endif\nint main() {{}}"
            done = run(compiler, *flags, "-x", "c++", "-", "-o", folder / f"probe_{name}", input=probe)
            if done.returncode:
                return f"{compiler} has no such sanitizer, or does not set {macro}"
        done = run(compiler, "-std=c++17", "-pthread", *flags, *SOURCES, "-o", folder / name)
        assert done.returncode == 0, done.stderr[-3000:]
        return folder / name

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(BUILDS, pool.map(build, BUILDS), strict=True))


@pytest.fixture(scope="module")
def check(programs):
    """check(build, arguments ...) runs the program of a build."""

    def check(build, *arguments):
        program = programs[build]
        if isinstance(program, str):
            pytest.skip(program)
        fixed = ["setarch", "-R"]  # older ThreadSanitizers fail if the system randomises addresses
        able = (
            shutil.which("setarch") and not subprocess.run([*fixed, "true"], capture_output=True).returncode
        )
        command = [*(fixed if build == "thread" and able else []), program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if "FATAL: ThreadSanitizer" in done.stderr:
            pytest.skip("ThreadSanitizer does not start here: " + done.stderr.strip().splitlines()[0])
        return done

    return check


@pytest.mark.parametrize("build", ["plain", "ucontext", "address"])
def test_right_kernels_are_right_and_wrong_ones_are_reported(check, build):
    done = check(build)
    assert done.returncode == 0 and done.stderr == "", (done.stdout + done.stderr)[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 11 and all(line.endswith(" ok") for line in lines), done.stdout


@pytest.mark.parametrize("where, error", [("shared", "use-after-poison"), ("global", "heap-buffer-overflow")])
def test_address_sanitizer_sees_a_kernel_leave_its_memory(check, where, error):
    done = check("address", "overrun", where)
    assert done.returncode != 0 and error in done.stderr, done.stderr[-3000:]
    assert f"overrun_{where}" in done.stderr, done.stderr[-3000:]


def test_thread_sanitizer_reports_nothing_about_kernels_without_races(check):
    done = check("thread", "norace")
    assert done.returncode == 0 and done.stderr == "", done.stderr[-3000:]


@pytest.mark.parametrize(
    "missing, kernel",
    [
        ("barrier", "sum_kernel"),
        ("warp", "pass_in_warp"),
        ("blocks", "write_in_blocks"),
        ("ring", "ring_kernel"),
    ],
)
def test_thread_sanitizer_sees_accesses_that_nothing_orders(check, missing, kernel):
    done = check("thread", "race", missing)
    assert done.returncode != 0 and "WARNING: ThreadSanitizer: data race" in done.stderr, done.stderr[-3000:]
    assert kernel in done.stderr and "check_simt.cpp" in done.stderr, done.stderr[-3000:]
    assert check("plain", "race", missing).returncode == 0  # nothing else sees it
