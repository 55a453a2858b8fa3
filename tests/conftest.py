"""Shared fixtures: a small text, a small run, and the command line in this process or in its own."""

import importlib
import importlib.util
import json
import lzma
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

# For this process, before torch is loaded, and for all that it starts. One thread each: shapes are small, and
# tests run in one process per core. Threads sleep while they wait: spinning threads made the suite ten times
# slower. Started in any folder, Python imports the copy that this process tests.
ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "recorded"
HERE = Path(importlib.util.find_spec("minglm").origin).parents[1]
os.environ |= dict(
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="passive",
    PYTHONSAFEPATH="1",
    PYTHONUNBUFFERED="1",
    PYTHONPATH=os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
)
for name in ("LC_ALL", "LC_MESSAGES", "LANG"):  # texts are compared in English
    if os.environ.get(name, "").startswith("zh"):
        del os.environ[name]
if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
    # PyTorch's attention asks oneDNN, which ignores that variable, and then lacks its own code for AVX-512
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from minglm import GLM, GLMConfig  # noqa: E402
from minglm.cli import main  # noqa: E402
from minglm.data.corpus import embedded_corpus  # noqa: E402
from minglm.errors import missing  # noqa: E402

# What takes longest and seldom finds anything, such as builds with sanitizers: CI runs it.
THOROUGH = os.environ.get("MINGLM_THOROUGH") == "1"
NOT_THOROUGH = "takes seconds more: MINGLM_THOROUGH=1"
thorough = pytest.mark.skipif(not THOROUGH, reason=NOT_THOROUGH)

torch.set_num_threads(1)  # even if torch was loaded before
# the same examples on every machine
settings.register_profile("minglm", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("minglm")

# Forty short, repetitive documents: a model of a few thousand weights learns something from them in seconds.
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jonas"]
THINGS = ["bread", "water", "a horse", "the key"]
TEXT = "\n\n".join(
    f"{name} went to the house of {friend}. There {name} asked for {thing}! "
    f'"I have {thing}," said {friend}.\n'
    f"So {name} took {thing} and went home. The day was long, and the night was good."
    for i, name in enumerate(NAMES)
    for j, thing in enumerate(THINGS)
    for friend in [NAMES[(i + j + 1) % len(NAMES)]]
)

SMALL = (
    *(
        "--model.vocab_size",
        "400",
        "--model.hidden_size",
        "32",
        "--model.num_layers",
        "2",
        "--model.num_heads",
        "2",
    ),
    *(
        "--model.max_positions",
        "64",
        "--batch-tokens",
        "256",
        "--dtype",
        "float32",
        "--train.eval_samples",
        "2",
    ),
    # the paper's samples, and its optimiser: full windows, spans by a budget, AdamW
    *"--data.samples windows --data.blanks budget --data.mask_ratio .15 --data.mean_span_length 3".split(),
    *"--data.token .6 --data.sentence .05 --data.document .35".split(),
    *"--train.optimizer adamw --train.warmup .2 --train.decay cosine".split(),
)


# The slowest files, which are started first, so that no process works on one of them when all else is done.
LONG = (
    "packaging figures kernel tutorials pretrain page_model page page_everybody csrc page_lab cli finetune "
    "checkpoint cuda"
)


def pytest_collection_modifyitems(items):
    places = {f"test_{name}.py": i for i, name in enumerate(LONG.split())}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Put the token files of the tests into a folder of their own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def no_curves():
    """Drawing takes longer than the steps of a small run. `small_run`, set up before, has its curves.png."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minglm.viz.figures.curves.save_curves", lambda run: None)
        yield


@pytest.fixture
def any_rung(monkeypatch):
    """For tests in float64, which only the scalar rung computes: ignore MINGLM_KERNEL."""
    monkeypatch.delenv("MINGLM_KERNEL", raising=False)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """The path of a file with TEXT."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, text_file):
    """The folder of a finished run: 30 steps of a small model on TEXT."""
    out = tmp_path_factory.mktemp("runs") / "small"
    assert (
        main(
            ["pretrain", "--text", str(text_file), "--out", str(out), *SMALL, "--steps", "30", "--lr", "1e-2"]
        )
        == 0
    )
    return out


@pytest.fixture
def minglm(capsys):
    """Run the command line in this process: minglm("fill", ...) -> .code, .out, .err."""

    def run(*args):
        capsys.readouterr()
        try:
            code = main([str(a) for a in args])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run


def python(*words, env=None, **options):
    """Run Python with these arguments in its own process -> CompletedProcess. env: added to ours."""
    environment = os.environ | (env or {})
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=environment, **options
    )


def command(*args, env=None, **options):
    """The command line as arguments of its own process, and the options to start it with."""
    return [sys.executable, "-m", "minglm", *map(str, args)], dict(
        env=os.environ | (env or {}), text=True
    ) | options


def run_command(*args, **options):
    """Run the command line in its own process -> subprocess.CompletedProcess."""
    words, options = command(*args, **options)
    return subprocess.run(words, capture_output=True, **options)


@pytest.fixture(scope="module")
def short_corpus(tmp_path_factory):
    """A sixth of the embedded corpus in its place: reading all of it takes six seconds."""
    text = lzma.decompress(embedded_corpus().read_bytes()).decode()
    file = tmp_path_factory.mktemp("corpus") / "short.txt"
    file.write_text(text[: len(text) // 6], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minglm.bench.training.embedded_corpus", lambda: file)
        yield


class Forked:
    """work() -> exit code in a forked process, which starts at once because torch is loaded."""

    def __init__(self, work):
        if not hasattr(os, "fork"):
            pytest.skip("no fork on this system")
        pipes = [os.pipe(), os.pipe()]
        if (pid := os.fork()) == 0:
            code = 1
            try:
                for name, handle, (_, end) in zip(("stdout", "stderr"), (1, 2), pipes, strict=True):
                    os.dup2(end, handle)
                    setattr(sys, name, open(handle, "w", encoding="utf-8", closefd=False))
                code = work()
                sys.stdout.flush()
            finally:
                os._exit(code)
        self.pid = pid
        for _, end in pipes:
            os.close(end)
        self.stdout, self.stderr = (open(begin, encoding="utf-8") for begin, _ in pipes)

    def wait(self):
        """The rest of stdout and stderr, and the exit code; negative: the signal that killed it."""
        with self.stdout, self.stderr:
            out, err = self.stdout.read(), self.stderr.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)


def group(monkeypatch, size, *commands):
    """Run commands one after the other in `size` processes that train together -> how each process ended."""
    for name in ("fsdp", "checkpoint.state_dict"):  # loaded once, before the processes part
        importlib.import_module(f"torch.distributed.{name}")
    ports = [socket.socket() for _ in commands]
    for port in ports:
        port.bind(("127.0.0.1", 0))
    numbers = [port.getsockname()[1] for port in ports]
    for port in ports:
        port.close()

    def work(rank):
        for number, words in zip(numbers, commands, strict=True):
            names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, MASTER_PORT=number)
            for name, value in (names | dict(MASTER_ADDR="127.0.0.1")).items():
                monkeypatch.setenv(name, str(value))
            if code := main([*map(str, words)]):
                return code
        return 0

    processes = [Forked(lambda rank=rank: work(rank)) for rank in range(size)]
    ended = [process.wait() for process in processes]
    assert not any(end.returncode for end in ended), ended
    return ended


def dies_at(number, names):
    """From now on, the n-th call of one of these functions of os kills this process, as kill -9 does."""
    calls = 0

    def deadly(function):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    for name in names:
        setattr(os, name, deadly(getattr(os, name)))


# ---- optional requirements -------------------------------------------------------------------------------


def pytest_terminal_summary(terminalreporter):
    """Print what was skipped and how to install it, one line per reason."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, n in reasons.most_common():
        terminalreporter.write_line(f"{n} skipped: {reason.removeprefix('Skipped: ')}")


def needs(module):
    """A mark for tests that need an optional package; otherwise they are skipped with the install command."""
    return pytest.mark.skipif(bool(missing(module)), reason=missing(module) or "")


def hide(monkeypatch, *modules):
    """Behave as if these modules were not installed."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def need_compiler(*names):
    """The C++ compiler of this machine (one of `names`, if given); without one the test is skipped."""
    names = names or tuple(filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))
    if found := next(filter(shutil.which, names), None):
        return found
    why = f"no C++ compiler ({', '.join(names)}); Debian, Ubuntu: apt install g++"
    raise pytest.skip.Exception(why, _use_item_location=True)


def no_browser():
    """Why the tests of the page cannot run here, or None."""
    for package in ("pytest_playwright", "axe_playwright_python"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed; pip install -e '.[browser]'"
    return None if chromium() else "no Chromium on the PATH, as Debian's package chromium brings it"


def need_browser():
    """Skip the current test if there is no Chromium; with MINGLM_REQUIRE_BROWSER=1 that is an error."""
    if (reason := no_browser()) and os.environ.get("MINGLM_REQUIRE_BROWSER") == "1":
        raise RuntimeError(reason)
    if reason:
        pytest.skip(reason)


def chromium():
    """The path of Chromium or Chrome, or None."""
    paths = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in paths if path), None)


if importlib.util.find_spec("pytest_playwright") is None:

    @pytest.fixture(scope="session")
    def browser():
        """Replaces the fixture of pytest-playwright."""
        need_browser()


@pytest.fixture(scope="session")
def axe():
    """An accessibility check of a page: axe(page) -> its complaints."""
    need_browser()
    from axe_playwright_python.sync_playwright import Axe

    return Axe().run


@pytest.fixture(scope="session")
def browser_type_launch_args():
    """Make pytest-playwright start the system's Chromium, without downloads and name lookups."""
    need_browser()
    quiet = ("gpu", "background-networking", "component-update", "sync")
    return dict(
        executable_path=chromium(),
        args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
    )


@pytest.fixture(scope="session")
def original():
    """(GLM, recorded outputs) of the original code: a model with its weights, and what it did on tasks."""
    weights = RECORDED / "thudm_parity_a.npz"
    values = json.loads(str(np.load(weights)["config"]))
    names = ("vocab_size", "hidden_size", "num_layers", "num_attention_heads", "max_sequence_length")
    config = GLMConfig(*(values[name] for name in names), dropout=0.0)
    return GLM.from_original(weights, config), dict(np.load(RECORDED / "thudm_parity_tasks_a.npz"))
