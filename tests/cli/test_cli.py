"""The command line."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
import torch
from conftest import RECORDED, ROOT, SMALL, command, python, run_command

from minglm import GLM, viz
from minglm.cli import share_cores
from minglm.cli.fill import Stream
from minglm.cli.pretrain import SIZES
from minglm.train.config import keys, resolve
from minglm.train.presets import PRESETS
from minglm.viz import figures


def test_fill_prints_the_text_with_its_blanks_marked(minglm, small_run):
    result = minglm("fill", "--model", small_run, "Anna went to the [MASK] of Ben. So Anna [MASK] home.")
    assert result.code == 0
    assert re.fullmatch(
        r"Anna went to the ?⟦.+⟧ of Ben\. So Anna ?⟦.+⟧ home\.", result.out.strip().replace("\n", " ")
    )


def test_top_lists_five_whole_fillings_with_their_probability(minglm, small_run):
    result = minglm("fill", "--model", small_run, "Anna went to the [MASK] of Ben.", "--top", 5)
    shares = re.findall(r"^ +([\d.e+-]+) %", result.out, re.M)
    assert len(shares) == 5
    assert [float(s) for s in shares] == sorted((float(s) for s in shares), reverse=True)


def test_json_is_for_programs(minglm, small_run):
    result = minglm("fill", "--model", small_run, "Anna went to the [MASK] of Ben.", "--json", "--top", 3)
    answer = json.loads(result.out)
    [blank] = answer["blanks"]
    assert blank["text"] in answer["text"] and blank["mask"] == "[MASK]" and len(blank["alternatives"]) == 3
    assert blank["log_probability"] == pytest.approx(sum(blank["log_probabilities"]))
    assert len(blank["log_probabilities"]) == len(blank["tokens"]) + 1  # eop included


@pytest.mark.parametrize("text", ["Anna went to the [MASK] of Ben. So Anna [MASK] home.", "[sMASK]"])
@pytest.mark.parametrize("colour", ["0", "1"])
def test_what_is_streamed_is_what_is_printed(minglm, small_run, monkeypatch, text, colour):
    monkeypatch.setenv("FORCE_COLOR", colour)
    words = ("fill", "--model", small_run, text, "--temperature", 1.5, "--max-tokens", 8, "--seed")
    shown = []
    monkeypatch.setattr(
        Stream, "show", lambda self, so_far, show=Stream.show: shown.append(so_far) or show(self, so_far)
    )
    count = 0
    for seed in range(6):
        shown.clear()
        assert minglm(*words, seed, "--stream").out == minglm(*words, seed).out
        # a character whose bytes are not all there yet waits
        whole = [text.rstrip("\ufffd") for text in shown]
        assert all(b.startswith(a) for a, b in zip(whole, whole[1:], strict=False))
        count += len(shown)
    assert count > 20


def test_write_streams_too(minglm, small_run):
    words = ("write", "--model", small_run, "Anna went", "--max-tokens", 9, "--temperature", 2, "--seed", 1)
    assert minglm(*words, "--stream").out == minglm(*words).out


def test_blanks_are_filled_in_the_order_that_is_typed(minglm, small_run):
    text = "Anna went to the [MASK] of Ben. So Anna [MASK] home."
    orders = ((), ("--order", "1,2"), ("--order", "2,1"))
    plain, same, other = (minglm("fill", "--model", small_run, text, *order) for order in orders)
    assert plain.out == same.out and other.code == 0
    wrong = minglm("fill", "--model", small_run, text, "--order", "1,1")
    assert wrong.code == 2 and "'1,1'" in wrong.err and "as in 2,1" in wrong.err


def test_a_search_with_beams_takes_the_dials_of_the_original(minglm, small_run):
    dials = (
        "--beams",
        3,
        "--length-penalty",
        0.7,
        "--min-tokens",
        2,
        "--no-repeat-ngram",
        2,
        "--repetition-penalty",
        1.2,
    )
    result = minglm("fill", "--model", small_run, "Anna went to the [MASK] of Ben.", *dials, "--json")
    [blank] = json.loads(result.out)["blanks"]
    assert len(blank["tokens"]) >= 2 and len(blank["alternatives"]) == 3
    refused = minglm("fill", "--model", small_run, "[MASK]", "--beams", 3, "--temperature", 1)
    assert refused.code == 2 and "beams" in refused.err


def test_write_continues_a_text(minglm, small_run):
    result = minglm(
        "write", "--model", small_run, "Anna went to", "--max-tokens", 8, "--temperature", 0.8, "--seed", 3
    )
    assert result.code == 0 and result.out.startswith("Anna went to")
    again = minglm(
        "write", "--model", small_run, "Anna went to", "--max-tokens", 8, "--temperature", 0.8, "--seed", 3
    )
    assert again.out == result.out


def test_the_newest_finished_run_is_used_and_named(minglm, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = minglm("fill", "a [MASK]")
    assert result.code == 0 and "minglm/box" in result.err and "minglm pretrain" in result.err
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny-001").symlink_to(small_run)
    result = minglm("fill", "a [MASK]")
    assert result.code == 0 and "runs/tiny-001" in result.err and "runs" not in result.out


def test_runs_are_numbered(tmp_path, monkeypatch, minglm, text_file):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert minglm("pretrain", "--text", text_file, "--steps", 1, *SMALL).code == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["tiny-001", "tiny-002"]


def test_show_prints_the_papers_table(minglm):
    result = minglm("show", "x1 x2 x3 x4 x5 x6", "--spans", "2:3,4:6", "--order", "2,1")
    golden = (RECORDED / "show_paper_unicode.txt").read_text(encoding="utf-8")
    assert result.code == 0 and result.out.strip().splitlines()[:15] == golden.strip().splitlines()[:15]
    assert minglm("show", "x1 x2 x3", "--spans", "1:2", "--ascii").out.isascii()


def test_every_preset_prints_its_settings(minglm):
    for preset in PRESETS:
        settings = tomllib.loads(minglm("pretrain", "--preset", preset, "--print-config").out)
        assert settings["preset"] == preset


def test_settings_come_from_default_preset_file_and_command_line_in_this_order(minglm, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text("[train]\nlr = 0.5\nclip = 0.25\n", encoding="utf-8")
    result = minglm(
        "pretrain", "--preset", "small", "--config", file, "--lr", "0.125", "--compile", "--print-config"
    )
    settings = tomllib.loads(result.out)
    assert (
        settings["train"]["lr"] == 0.125
        and settings["train"]["clip"] == 0.25
        and settings["train"]["compile"] is True
    )
    assert settings["model"]["hidden_size"] == 512 and settings["train"]["beta1"] == 0.9


def test_every_setting_has_a_full_name(minglm):
    shown = minglm("pretrain", "--help").out
    assert all(f"--{key}" in shown for key in keys())


def test_help_tells_the_size_of_every_preset_which_texts_are_read_and_that_ctrl_c_saves(minglm):
    shown = minglm("pretrain", "--help").out
    assert list(SIZES) == list(PRESETS) and "Ctrl-C saves" in shown and ".jsonl.gz" in shown
    for name, about in SIZES.items():
        with torch.device("meta"):
            weights = GLM(resolve(name).model).num_parameters()
        assert about.startswith(f"{weights / 1e6:.1f} M, ") and f"{name:<5}  {about}" in shown


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("--train.learning_rate", "1"), "train.lr"),
        (("--batch_tokens", "1"), "train.batch_tokens"),
        (("--preset", "tinny"), "tiny"),
        (("--lr", "fast"), "train.lr"),
        (("--dtype", "float16"), "bfloat16"),
        (("--config", "none.toml"), "none.toml"),
        (("--device", "cuda:99"), "cuda:99"),
        (("stray",), "stray"),
    ],
)
def test_wrong_settings_are_one_line_that_says_what_is_accepted(minglm, tmp_path, words, near):
    result = minglm("pretrain", "--out", tmp_path / "run", *words)
    assert result.code == 2 and near in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "run" / "run.toml").exists()


def test_wrong_models_and_texts_are_one_line(minglm, small_run, tmp_path):
    for words in (
        ("fill", "--model", tmp_path / "none", "a [MASK]"),
        ("fill", "--model", tmp_path, "a [MASK]"),
        ("fill", "--model", small_run, "no blank"),
        ("fill", "--model", small_run, "a [MASK]", "--top", 2, "--temperature", 1),
        ("fill", "--model", small_run, "[MASK]" + " word" * 100),
        ("write", "--model", small_run, "a", "--top-p", 2),
        ("show", "a b", "--spans", "0"),
        ("show", "a b", "--spans", "0:1", "--order", "2"),
    ):
        result = minglm(*words)
        assert result.code == 2, words
        assert result.err.startswith("minglm: error: ") and len(result.err.strip().splitlines()) == 1, (
            result.err
        )
        assert not result.out


def test_a_long_text_is_cut_with_a_note(minglm, small_run):
    result = minglm("write", "--model", small_run, "word " * 100, "--max-tokens", 2)
    assert result.code == 0 and "minglm: note:" in result.err and "cut" in result.err


def test_python_m_minglm_is_minglm_and_importing_it_is_quiet():
    assert run_command("--version").stdout.startswith("minglm ")
    code = "import sys, minglm; assert not {'matplotlib', 'torch._dynamo'} & set(sys.modules)"
    result = python("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_reader_that_leaves_early_is_no_error():
    words, options = command("pretrain", "--help")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


# ---- figures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--figure", "masc"), "did you mean mask?"),
        (("--figure", "curves"), "minglm plot PATH --figure curves"),
        (("--figure", "mask", "--step"), "--figure and --step"),
        (("--out", "x.svg"), "--out goes with --figure"),
        (("--figure", "mask", "--out", "x.gif"), ".gif"),
        (("--figure", "mask", "--out", "no/folder/x.svg"), "no/folder"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_line(minglm, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    result = minglm("show", "a b c", "--spans", "1:2", *words)
    assert (
        result.code == 2
        and says in result.err
        and result.err.count("\n") == 1
        and not list(tmp_path.iterdir())
    )


@pytest.mark.parametrize("figure", ["mask", "heads", "query", "infilling", "position_embeddings", "tiles"])
def test_show_draws_figures(minglm, tmp_path, small_run, figure):
    out = tmp_path / "f.svg"
    words = ("Anna went to the house of Ben.", "--spans", "2:4", "--figure", figure, "--model", small_run)
    result = minglm("show", *words, "--out", out)
    assert result.code == 0 and out.read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize("figure", ["heads", "position_embeddings"])
def test_a_figure_of_a_model_is_drawn_of_the_bundled_one_where_there_is_none(
    minglm, tmp_path, monkeypatch, figure
):
    monkeypatch.chdir(tmp_path)  # no run here
    result = minglm("show", "She was very glad to see him.", "--spans", "3:4", "--figure", figure)
    assert result.code == 0 and (tmp_path / f"{figure}.svg").stat().st_size > 5000
    assert "the tiny one that comes with minglm" in result.err


def test_the_help_of_show_and_plot_counts_every_figure_once(minglm):
    show, plot = minglm("show", "--help").out, minglm("plot", "--help").out
    here, there = re.search(r"one of (\d+)\s+figures.*other\s+(\d+)\.", show, re.S).groups()
    assert int(here) + int(there) == len(figures.FIGURES)
    assert all(re.search(rf"\b{name}\b", plot) for name in figures.FIGURES)
    words = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
    numbers = {word: n for n, word in enumerate(words, start=13)}
    told = [figures.__doc__, viz.__doc__, *(ROOT / name for name in ("README.md", "README.zh.md"))]
    told = [text if isinstance(text, str) else text.read_text(encoding="utf-8") for text in told]
    counts = [numbers[word] for text in told for word in re.findall(r"\b(\w+teen) figures", text)]
    assert counts.count(len(figures.FIGURES)) == len(counts) >= 2


def test_infilling_draws_the_blanks_of_a_text(minglm, tmp_path, small_run):
    words = ("show", "Anna went to the [MASK] of Ben.", "--figure", "infilling", "--model", small_run)
    assert minglm(*words, "--out", tmp_path / "f.png", "--theme", "dark", "--width", 600).code == 0
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "77"}, {"OMP_WAIT_POLICY": "active"}, {}])
def test_openmp_threads_that_wait_sleep_soon_unless_the_user_says_how(own, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    share_cores()
    assert own.items() <= os.environ.items()
    assert os.environ.pop("GOMP_SPINCOUNT", None) == (own.get("GOMP_SPINCOUNT") if own else "10000")


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
def test_what_the_command_line_says_of_waiting_is_there_when_torch_loads_libgomp():
    code = "import minglm.cli as c; c.share_cores(); import torch"
    env = {"OMP_DISPLAY_ENV": "verbose", "GOMP_SPINCOUNT": "", "OMP_WAIT_POLICY": ""}  # printed when loaded
    code = "import os; del os.environ['GOMP_SPINCOUNT'], os.environ['OMP_WAIT_POLICY']; " + code
    assert "GOMP_SPINCOUNT = '10000'" in python("-c", code, env=env).stderr
