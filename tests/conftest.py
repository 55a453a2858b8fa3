"""What several test files share: a small text, a small run, and the command line in this process or in its own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from minglm.cli import main

torch.set_num_threads(1)  # small shapes: a second thread would only wait

# Forty short documents with much repetition: a model of a few thousand weights learns something from them in seconds.
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jonas"]
THINGS = ["bread", "water", "a horse", "the key"]
TEXT = "\n\n".join(
    f"{name} went to the house of {friend}. There {name} asked for {thing}! \"I have {thing},\" said {friend}.\n"
    f"So {name} took {thing} and went home. The day was long, and the night was good."
    for i, name in enumerate(NAMES)
    for j, thing in enumerate(THINGS)
    for friend in [NAMES[(i + j + 1) % len(NAMES)]]
)  # fmt: skip

SMALL = (
    *("--model.vocab_size", "400", "--model.hidden_size", "32", "--model.num_layers", "2", "--model.num_heads", "2"),
    *("--model.max_positions", "64", "--batch-tokens", "256", "--dtype", "float32", "--train.eval_samples", "2"),
)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Token files of the tests go to a folder of their own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """TEXT as a file."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, text_file):
    """The folder of a finished run: 30 steps of a small model on TEXT."""
    out = tmp_path_factory.mktemp("runs") / "small"
    assert main(["pretrain", "--text", str(text_file), "--out", str(out), "--steps", "30", "--lr", "1e-2", *SMALL]) == 0
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


def command(*args, **options):
    """The command line as the words of a process of its own, and the options to start it with."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | options.pop("env", {})
    return [sys.executable, "-m", "minglm", *map(str, args)], dict(env=environment, text=True) | options


def run_command(*args, **options):
    """Run the command line in a process of its own -> subprocess.CompletedProcess."""
    words, options = command(*args, **options)
    return subprocess.run(words, capture_output=True, timeout=120, **options)


# ---- a real browser ------------------------------------------------------------------------------------------------------


def need_browser():
    """Called at the top of a test file that needs Chromium: skips it, with the reason, where there is none.

    With MINGLM_REQUIRE_BROWSER=1 that is an error instead.
    """
    missing = [name for name in ("pytest_playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    reason = f"{missing[0]} is not installed: pip install '.[browser]'" if missing else ""
    if not chromium():
        reason = "no Chromium on the PATH, as Debian's package chromium brings it"
    if reason and os.environ.get("MINGLM_REQUIRE_BROWSER") == "1":
        raise RuntimeError(reason)
    if reason:
        pytest.skip(reason, allow_module_level=True)


def chromium():
    """The path of Chromium or Chrome, or None."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest.fixture(scope="session")
def browser_type_launch_args():
    """pytest-playwright starts the system's Chromium, never a download of its own, and it looks up nothing."""
    quiet = ("gpu", "background-networking", "component-update", "sync")
    return dict(executable_path=chromium(), args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)])
