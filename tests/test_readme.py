"""The README: its commands run, its output is real, its links work, and the Chinese one follows it."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

from minglm import Tokenizer
from minglm.model_config import num_parameters
from minglm.train.config import resolve
from minglm.train.presets import PRESETS

PAGES = [
    *(
        "README.md",
        "README.zh.md",
        "csrc/README.md",
        "tests/recorded/README.md",
        "tutorials/README.md",
        "tutorials/README.zh.md",
    ),
    *(
        "tutorials/puzzles.md",
        "tutorials/cluster.md",
        "tutorials/running.md",
        "tutorials/with_other_tools.md",
        *(f"tutorials/{name}.zh.md" for name in ("why", "puzzles", "running", "cluster", "with_other_tools")),
        "tutorials/data/README.md",
        "tutorials/results/README.md",
    ),
]
EXTRAS = "test,browser,tasks,interop,tools,onnx,data"
INSTALL = """\
pip install -e . && minglm fill "She was very [MASK] to see him." --top 5
pip install -e '.[test]' && pytest
"""
HEADINGS = {
    "minglm: GLM, understood": "minglm：读懂 GLM",
    "Install": "安装",
    "A blank being filled": "填一个空",
    "How it works": "原理",
    "What is where": "目录",
    "The course": "教程",
    "Six commands": "六条命令",
    "The kernel": "注意力算子",
    "Results": "结果",
    "What the original calls things": "与原版代码的名称对照",
    "Licence": "许可",
}


def read(page):
    """The text of a page, named from the root of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, *languages):
    """The code blocks of a page, without comments; all of them where no language is given."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.M | re.S)
    return [re.sub(r" +# .*", "", text) for language, text in found if language in languages or not languages]


def without_blocks(text):
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def headings(text):
    """The headings of a page, of every level."""
    return re.findall(r"^#+ (.+)$", without_blocks(text), re.M)


# ---- its form --------------------------------------------------------------------------------------------


def test_the_readme_stays_short():
    assert len(read("README.md").splitlines()) <= 180 and len(read("README.md").split()) <= 2000


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_its_first_sh_block_is_the_two_lines_that_a_stranger_copies(page):
    assert re.findall(r"^```sh\n(.*?)^```$", read(page), re.M | re.S)[0] == INSTALL
    assert f"`pip install -e '.[{EXTRAS}]' && MINGLM_THOROUGH=1 pytest`" in read(page)
    assert f"'.[dev,{EXTRAS},site]'" in read(".ci/run")


def test_the_chinese_readme_follows_the_english_one():
    english, chinese = headings(read("README.md")), headings(read("README.zh.md"))
    assert list(zip(english, chinese, strict=True)) == list(HEADINGS.items())
    assert blocks("README.md") == blocks("README.zh.md") and len(blocks("README.md")) >= 5
    assert "自回归空白填充" in read("README.zh.md")[:300] and "通用语言模型" in read("README.zh.md")[:300]


def test_every_folder_of_the_package_is_in_the_table_of_what_is_where():
    text = re.search(r"\n## What is where\n(.*?)\n## ", read("README.md"), re.S)[1]
    shown = set(re.findall(r"\]\(([\w/]+)", text))
    inside = {
        f"minglm/{p.name}" for p in (ROOT / "minglm").iterdir() if p.is_dir() and p.name != "__pycache__"
    }
    assert {"csrc/README", "tutorials/README", "tests"} < shown
    assert inside and all(
        any(link == folder or link.startswith(f"{folder}/") for link in shown) for folder in inside
    )


# ---- its links -------------------------------------------------------------------------------------------


def anchors(text):
    """What GitHub makes of a page's headings: lower case, no punctuation, a hyphen in place of each space."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(text)}


def broken(text, folder):
    """The links and pictures of a page in `folder` that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", without_blocks(text))
    for link, source in re.findall(r'\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"', prose):
        name, _, anchor = (link or source).partition("#")
        if ":" in name:
            continue
        if not (folder / name).exists():
            yield link or source
        elif anchor and anchor not in anchors((folder / name).read_text(encoding="utf-8") if name else text):
            yield link or source


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_exists(page):
    assert list(broken(read(page), (ROOT / page).parent)) == []


def test_a_link_that_leads_nowhere_is_reported():
    text = "# A heading\n[a](csrc/README.md#the-ladder) [b](#a-heading) [c](https://x.org/#y) `[d](no.md)`\n"
    wrong = '[e](no.md) [f](csrc/README.md#no) [g](#no) <img src="no.png"> <source srcset="no.svg">'
    assert list(broken(text, ROOT)) == []
    assert list(broken(text + wrong, ROOT)) == ["no.md", "csrc/README.md#no", "#no", "no.png", "no.svg"]


# ---- its commands ----------------------------------------------------------------------------------------


def commands(page):
    """The minglm lines of a page's code blocks, those that are joined by && apart."""
    lines = [
        line.removeprefix("$ ") for block in blocks(page, "sh", "console") for line in block.splitlines()
    ]
    return [part for line in lines for part in line.split(" && ") if part.startswith("minglm ")]


def test_the_blank_being_filled_is_what_the_command_prints(minglm, tmp_path, monkeypatch):
    block = next(block for block in blocks("README.md", "console") if "⟦" in block)
    line, _, shown = block.removeprefix("$ ").partition("\n")
    assert line in INSTALL
    monkeypatch.chdir(tmp_path)  # no run here, so the bundled model answers
    assert minglm(*shlex.split(line)[1:]).out.strip() == shown.strip()


@pytest.mark.parametrize("page", ["README.md", "tutorials/running.md"])
def test_the_commands_run(page, minglm, small_run, tmp_path, monkeypatch, text_file):
    """In a folder with a small run; training is cut to two steps of a small model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("tiny-001", "page-001"):
        (tmp_path / "runs" / name).symlink_to(small_run)
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "text.txt").write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    Tokenizer.from_pretrained(small_run).save_pretrained(tmp_path / "gpt2")
    (tmp_path / "my.toml").write_text("[train]\nlr = 1e-3\n", encoding="utf-8")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    for line in commands(page):
        words = shlex.split(line)[1:]
        assert all((ROOT / word).is_file() for word in words if word.startswith("tutorials/"))
        if words[0] in (
            "finetune",
            "classify",
            "rewrite",
            "compare",
        ):  # their own tests run them; here the options must exist
            words += ["--help"]
        if words[0] == "pretrain" and not {"--print-config", "--resume"} & {*words}:
            words += [
                *SMALL,
                "--steps",
                "2",
                "--text",
                str(text_file),
                "--out",
                f"runs/{len(list(Path('runs').iterdir()))}",
            ]
        result = minglm(*words)
        assert result.code == 0, (line, result.err)
    assert len(opened) == 1 and len(commands(page)) >= 7


def test_the_python_example_runs(monkeypatch):
    [example] = blocks("README.md", "python")
    monkeypatch.chdir(ROOT)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(example, {})
    assert re.fullmatch(r"The cat drank some .+ and went to .+\. \['.+', '.+'\]\n", shown.getvalue())


# ---- its tables ------------------------------------------------------------------------------------------


def test_the_table_of_presets_is_that_of_the_code():
    row = r"^\| `(\w+)` \| ([\d.]+) M \| (\d+) x (\d+) x (\d+) \| (\d+) \| ([\d,]+) \|"
    rows = re.findall(row, read("tutorials/running.md"), re.M)
    assert [row[0] for row in rows] == list(PRESETS)
    for name, millions, *shape, batch in rows:
        model, train = (found := resolve(name)).model, found.train
        assert millions == f"{num_parameters(model) / 1e6:.1f}" and batch == f"{train.batch_tokens:,}"
        assert [*map(int, shape)] == [
            model.num_layers,
            model.hidden_size,
            model.num_heads,
            model.max_positions,
        ]
