"""CUDA puzzles: their catalogue, and the reader's kernels compiled for the emulator and run there."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import MinglmError
from .words import tell, tell_again, translated

HERE = Path(__file__).parent / "cuda"
CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = ["-std=c++17", "-O1", "-g", "-no-pie", "-pthread", "-w", f"-I{HERE}", f"-I{CSRC}"]
SECONDS = 60  # of CPU time, for all kernels


class Kernel(NamedTuple):
    """A CUDA puzzle. limits: {count: the most that is accepted}; say: what to tell those who need more."""

    name: str
    question: str
    hints: list
    limits: dict = {}
    say: str = ""


def _read():
    data = tomllib.loads((HERE / "puzzles.toml").read_text(encoding="utf-8"))
    return {one["name"]: Kernel(**one) for one in data["puzzle"]}


KERNELS = _read()


# ---- the reader's file -----------------------------------------------------------------------------------


@cache
def solution_text():
    return (HERE / "solution.cu").read_text(encoding="utf-8")


def stub_file(name):
    """The text of the reader's file, which is to be called `name`."""
    head = """\
// Ten CUDA kernels, each a puzzle. They are compiled by your C++ compiler and run on an emulated GPU.
//
//     minglm course check {name}            runs your kernels in order, up to the first that is not right
//     minglm course check {name} --hint     one hint for that kernel; --hint 2 gives the second
//
// Array<float> is a float* (nvcc takes it as one), but here every access is watched: races, numbers that were
// never written, indices outside, bank conflicts. expf, fmaxf, sqrtf, min and max are as in CUDA.
"""
    here = f"    // {tell('your code')}\n"
    text = re.sub(r"    // solution\n.*?    // end\n", here, solution_text(), flags=re.S)
    return translated(head).format(name=name) + translated(text[text.index("\n") :])


def function_of(text, name):
    """The source of a kernel in a text, or None."""
    found = re.search(rf"^__global__ void {name}\(.*?^}}$", text, re.M | re.S)
    return found and found[0]


def solution_of(name):
    """The source of a kernel's solution."""
    return translated(re.sub(r"    // (solution|end)\n", "", function_of(solution_text(), name)))


# ---- run -------------------------------------------------------------------------------------------------


def compiler():
    """The C++ compiler. Raises MinglmError if these puzzles cannot run here."""
    if sys.platform != "linux":
        raise MinglmError(tell("CUDA puzzles: the emulator runs on Linux only (in WSL on Windows)"))
    if not (CSRC / "cuda_on_cpu" / "simt.cpp").is_file():
        raise MinglmError(
            tell("CUDA puzzles: they need csrc/ of a clone of minglm's repository (pip install -e .)")
        )
    names = filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))
    for name in names:
        if shutil.which(name):
            return name
    raise MinglmError(tell("CUDA puzzles: there is no C++ compiler; Debian, Ubuntu: apt install g++"))


def read(path):
    """The text of the reader's file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = tell_again(getattr(error, "strerror", None) or "this is not a text file in UTF-8")
        said = tell("{why}; `minglm course start kernels.cu` writes one", why=what)
        raise MinglmError(f"{path}: {said}") from None


def run(path, names):
    """The records of driver.cpp about these kernels, with lines in place of addresses."""
    with tempfile.TemporaryDirectory() as folder:
        return records(build(path, Path(folder)), path, names)


def records(program, path, names):
    """Run a program that `build` made; the last record is of the first kernel that is not right."""
    done = subprocess.run([program, *names], capture_output=True, text=True, preexec_fn=limit)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    return [with_lines(record, program, path) for record in lines]


def limit():
    """In the child: stop after SECONDS of CPU time."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def build(path, folder):
    """Compile the reader's file with the driver -> the program. Raises MinglmError with the first error."""
    program, reader = folder / "driver", Path(path).resolve()
    words = [
        compiler(),
        *FLAGS,
        f'-DREADER="{reader}"',
        str(HERE / "driver.cpp"),
        emulator(),
        "-o",
        str(program),
    ]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        error = re.search(rf"^{re.escape(str(reader))}:(\d+):\d+: (?:fatal )?error: (.+)$", done.stderr, re.M)
        if not error:
            said = tell("it does not compile: {why}", why=done.stderr.strip()[:300])
            raise MinglmError(f"{path}: {said}")
        line = read(path).splitlines()[int(error[1]) - 1].strip()
        said = f"{error[2]}: {line}"
        raise MinglmError(tell("{path}, line {n}: {what}", path=path, n=error[1], what=said))
    return program


def emulator():
    """The emulator as an object file, compiled once per version of it into the user's cache."""
    sources = [*sorted((CSRC / "cuda_on_cpu").glob("*")), CSRC / "cuda" / "device.h"]
    digest = hashlib.sha256(
        b"".join(source.read_bytes() for source in sources) + compiler().encode()
    ).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "minglm"
    made = home / f"emulator-{digest[:16]}.o"
    if not made.is_file():
        home.mkdir(parents=True, exist_ok=True)
        part = home / f"{made.name}.{os.getpid()}"
        source = str(CSRC / "cuda_on_cpu" / "simt.cpp")
        subprocess.run([compiler(), *FLAGS, "-c", source, "-o", str(part)], check=True)
        part.replace(made)
    return str(made)


def with_lines(record, program, path):
    """A record whose places are lines of the reader's file (None: unknown)."""
    findings = record.get("findings", [])
    places = {finding[key] for finding in findings for key in ("place", "other")} | {record["conflict"]}
    lines = {place: line_of(program, place, path) for place in places if place != "(nil)"}
    for finding in findings:
        finding["lines"] = [lines[finding[key]] for key in ("place", "other") if finding[key] in lines]
    return record | {"conflict": lines.get(record["conflict"])}


def line_of(program, place, path):
    """The line of the reader's file that an address belongs to, through whatever was inlined there."""
    if not shutil.which("addr2line"):
        return None
    done = subprocess.run(["addr2line", "-i", "-e", program, place], capture_output=True, text=True)
    name = str(Path(path).resolve())
    lines = [int(line) for file, line in re.findall(r"^(.+):(\d+)", done.stdout, re.M) if file == name]
    return lines[-1] if lines else None
