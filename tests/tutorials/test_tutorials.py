"""The renderer on made-up chapters."""

import base64
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rendering import pages, pictures, render, twins

from minglm.viz.figures.translated import can_draw

COUNTING = '''\
# %% [markdown]
# # 00 Counting
# *How far?* Read [on](01_picture.md) or see [there](https://example.org).
# %% [markdown] zh
# # 00 数数
# 到多少？
# %% exact
import os

FAST = os.environ.get("MINGLM_FAST") == "1"
print("a row   ")
"one\\n  two ``` three"
# %%
print("quick" if FAST else "full")
[1, 2]
# %%
None  # [a](b)
# %% [markdown]
# ## Exercise
# %% [markdown] zh
# ## 练习
# %%
def check_square(square):
    """Any function of a number."""
    assert square(3) == 9, "3 times 3 is 9"


# check_square(lambda x: ...)   # uncomment
'''
PICTURE = """\
# %% [markdown]
# # 01 Picture
# %% exact
from matplotlib.figure import Figure

figure = Figure((2, 1), facecolor="pink")
figure.alt_text = "Nothing [yet]."
figure
# %%
figure
"""
SOLUTIONS = """\
from pages import Exercise

SOLUTIONS = {}
wrong = [lambda x: 2 * x, lambda x: x]
SOLUTIONS["00_counting"] = [Exercise("check_square", right=lambda x: x * x, wrong=wrong)]
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder of two chapters and their pages: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("rendered")
    files = {
        "00_counting.py": COUNTING,
        "01_picture.py": PICTURE,
        "solutions.py": SOLUTIONS,
        "README.md": "# Course\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert render.main(["--folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def check_once():
    """render.run for --check, with a cache: each pair of files runs once."""
    real, known = render.run, {}

    def run(chapter, folder, solutions=None, limit=None):
        if limit is None:  # its pictures are wanted, too
            return real(chapter, folder, solutions, limit)
        key = (
            chapter.path.name,
            chapter.path.read_bytes(),
            pictures.labels_of(chapter),
            Path(solutions).exists() and Path(solutions).read_bytes(),
            limit,
        )
        if key not in known:
            known[key] = real(chapter, folder, solutions, limit)
        return known[key]

    return run


@pytest.fixture
def course(rendered, check_once, tmp_path, capfd, monkeypatch):
    """A copy of it: course.read(name), .edit(name, old, new), .run(*arguments) -> .code, .out, .err."""
    folder = tmp_path / "course"
    shutil.copytree(rendered, folder)
    monkeypatch.setattr(render, "run", check_once)

    def edit(name, old, new):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    def run(*arguments):
        capfd.readouterr()
        code = render.main([*map(str, arguments), "--folder", str(folder)])
        return SimpleNamespace(code=code, **capfd.readouterr()._asdict())

    return SimpleNamespace(
        folder=folder, run=run, edit=edit, read=lambda name: (folder / name).read_text(encoding="utf-8")
    )


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- what a page holds -----------------------------------------------------------------------------------


def test_under_a_cell_stand_its_prints_and_its_last_expression(course):
    page = course.read("00_counting.md")
    assert (
        "*How far?* Read [on]" in page
        and '```python\nimport os\n\nFAST = os.environ.get("MINGLM_FAST")' in page
    )
    assert "<!-- output of code cell 0 -->\n````text\na row\none\n  two ``` three\n````\n" in page
    assert "<!-- output of code cell 1 -->\n```text\nfull\n[1, 2]\n```\n" in page
    assert "code cell 2" not in page and "<!-- output of code cell 3" not in page


def test_the_chinese_page_has_other_prose_and_the_same_code_and_outputs(course):
    english, chinese = course.read("00_counting.md"), course.read("00_counting.zh.md")
    assert "# 00 数数\n到多少？" in chinese and "How far" not in chinese and "数数" not in english
    parts = [page[page.index("```python") : page.index("## ")] for page in (english, chinese)]
    assert parts[0] == parts[1]
    assert not (course.folder / "01_picture.zh.md").exists()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("一个空\n一个词", "一个空一个词"),
        ("看左边，\n也看右边。\n“看完”\n再写", "看左边，也看右边。“看完”再写"),
        ("三行\n也是\n一段", "三行也是一段"),
        ("顺序如下，\nPart B 在后，\n`[M]` 在前，\n10 个", "顺序如下，Part B 在后，`[M]` 在前，10 个"),
        ("看：\n**GPT** 和\n*T5*，\n*GLM*\n（它）", "看：**GPT** 和\n*T5*，*GLM*（它）"),
        ("见\nPart B\n的行", None),  # a blank belongs between Chinese and Latin letters
        ("其中，\n$m$\n，$k$\n是个数", None),  # and around a formula
        ("甲\n\n乙", None),
        ("两点：\n- 甲\n- 乙", None),
        ("两点：\n* 甲\n* 乙", None),
        ("两点：\n1. 甲\n2) 乙", None),
        ("- 这一项\n  有两行\n- 下一项", "- 这一项有两行\n- 下一项"),
        ("## 标题\n正文", None),
        ("如下：\n| 甲 | 乙 |\n|---|---|\n| 丙 | 丁 |", None),
        ("如下：\n```text\n甲\n乙\n```\n丙\n丁", "如下：\n```text\n甲\n乙\n```\n丙丁"),
        ("就是\n$$p(\\text{上\n文})\n= 1$$\n完\n了", "就是\n$$p(\\text{上\n文})\n= 1$$\n完了"),
        ("是\n**强调。**\n下句", None),  # ** between a mark and a letter would not end the emphasis
        ("English\nstays", None),
    ],
)
def test_lines_of_chinese_are_joined_and_all_others_stay(written, shown):
    assert pages.joined(written) == (written if shown is None else shown)


def test_only_the_chinese_page_joins_lines(course):
    course.edit("00_counting.py", "# 到多少？\n", "# 数到几，\n# 才算\n# 完？\n")
    course.edit("00_counting.py", "*How far?*", "到\n# 哪？")
    assert course.run("00").code == 0
    assert "# 00 数数\n数到几，才算完？\n" in course.read("00_counting.zh.md") and "到\n哪？" in course.read(
        "00_counting.md"
    )


def test_pages_are_linked_with_their_neighbours_and_with_the_other_language(course):
    last = "[.py](00_counting.py) · [.ipynb](notebooks/00_counting.ipynb)"
    top = f"[The course](README.md) · [01 Picture →](01_picture.md) · [中文](00_counting.zh.md) · {last}"
    lines = course.read("00_counting.md").split("\n")
    assert lines[0] == lines[-4] == top
    top = f"[课程目录](README.md) · [01 Picture →](01_picture.md) · [English](00_counting.md) · {last}"
    assert course.read("00_counting.zh.md").startswith(top + "\n")
    assert course.read("01_picture.md").startswith(
        "[← 00 Counting](00_counting.md) · [The course](README.md) · [.py]"
    )


def test_a_figure_is_shown_once_with_its_alternative_text(course):
    page = course.read("01_picture.md")
    assert (
        page.count("img/") == 1
        and "![Nothing \\[yet\\].](img/01_picture-1.png)\n\n```python\nfigure\n```\n\n---" in page
    )
    with Image.open(course.folder / "img/01_picture-1.png") as image:
        assert (
            image.format == "PNG" and image.size == (240, 120) and image.mode == "P"
        )  # a palette: a third of the bytes
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_figures_left_open_are_shown_where_they_were_made(course):
    loop = 'for i in range(2):\n    f = plt.figure(figsize=(1, 1))\n    f.alt_text = f"F{i}."\nf'
    cells = f"# %%\nimport matplotlib.pyplot as plt\n\n{loop}\n# %% exact\nplt.get_fignums()\n# %%\n"
    course.edit("01_picture.py", "# %% exact\n", cells)
    assert course.run("01").code == 0
    shown = [
        line for line in course.read("01_picture.md").split("\n") if line.startswith("!") or line == "[]"
    ]
    names = [
        "![F0.](img/01_picture-1.png)",
        "![F1.](img/01_picture-2.png)",
        "[]",
        r"![Nothing \[yet\].](img/01_picture-3.png)",
    ]
    assert shown == names
    course.edit("01_picture.py", "range(2)", "range(1)")
    assert course.run("01").code == 0 and not (course.folder / "img/01_picture-3.png").exists()


def test_the_notebook_is_english_with_outputs_and_its_cells_have_fixed_ids(course):
    notebook = json.loads(course.read("notebooks/00_counting.ipynb"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert [cell["cell_type"] for cell in notebook["cells"]] == [
        "markdown",
        *["code"] * 4,
        "markdown",
        "code",
    ]
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{n}" for n in range(7)]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [bool(cell["outputs"]) for cell in code] == [False, True, True, False, False]
    assert "[on](../01_picture.md)" in "".join(notebook["cells"][0]["source"])
    assert code[2]["outputs"][0]["text"] == ["full\n", "[1, 2]\n"] and "数" not in str(notebook)
    assert "%pip install" in "".join(code[0]["source"]) and "".join(code[1]["source"]).startswith(
        "import os\n"
    )


def test_the_notebook_holds_its_pictures(course):
    [cell] = [c for c in json.loads(course.read("notebooks/01_picture.ipynb"))["cells"] if c.get("outputs")]
    [output] = cell["outputs"]
    picture = (course.folder / "img/01_picture-1.png").read_bytes()
    assert base64.b64decode(output["data"]["image/png"]) == picture
    assert output["data"]["text/plain"] == ["Nothing [yet]."]


def test_imports_pictures_and_checks_are_folded_away_on_the_page_and_in_the_notebook(course):
    course.edit("00_counting.py", "# %%\ndef check_square", "# %% check\ndef check_square")
    assert course.run("00").code == 0
    english, chinese = course.read("00_counting.md"), course.read("00_counting.zh.md")
    folded = "<details><summary>{}</summary>\n\n```python\ndef check_square"
    assert folded.format("The check") in english and folded.format("检查答案的代码") in chinese
    cells = json.loads(course.read("notebooks/00_counting.ipynb"))["cells"]
    hidden = [c["metadata"].get("cellView") for c in cells if c["cell_type"] == "code"]
    assert hidden == ["form", None, None, None, "form"]
    assert course.run("--check").code == 0


def test_the_output_of_an_answer_is_folded_away_and_compared(course):
    course.edit("00_counting.py", "# %% exact\nimport os", "# %% answer\nimport os")
    assert course.run("00").code == 0
    page = course.read("00_counting.md")
    assert "<details><summary>Answer</summary>\n\n<!-- output of code cell 0 -->\n````text\na row\n" in page
    course.edit("00_counting.md", "a row", "two rows")
    assert "the output of this exact cell is not that of" in course.run("--check", "00").out


def test_a_chapter_run_as_a_script_prints_headings_and_says_where_its_figures_are(
    course, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = everything(course.folder)
    out = course.run("--run").out
    figure = tmp_path / "01_picture" / "01_picture-1.png"
    assert "# 00 Counting\na row\none\n" in out and f"# 01 Picture\nfigure: {figure}\n" in out
    assert figure.is_file() and everything(course.folder) == before


def test_prose_is_rendered_anew_without_running_the_code(course):
    before = everything(course.folder)
    course.edit("00_counting.py", 'print("quick" if FAST', 'print("never" if FAST')
    assert "00_counting: its code is not that of its notebook" in course.run("--prose").out
    course.edit("00_counting.py", 'print("never" if FAST', 'print("quick" if FAST')
    assert course.run("--prose").code == 0 and everything(course.folder) == before
    course.edit("00_counting.py", "How far?", "How near?")
    assert course.run("--prose").code == 0 and "How near?" in course.read("00_counting.md")
    assert course.run("--check").code == 0


def test_a_solution_is_folded_under_its_exercise_with_the_functions_it_uses(course):
    folded = "<details><summary>A solution</summary>\n\n```python\n{}\n```\n\n</details>"
    assert folded.format("square = lambda x: x * x") in course.read("00_counting.md")
    course.edit("solutions.py", "wrong =", "def twice(x):\n    return x + x\n\n\nwrong =")
    course.edit("solutions.py", "right=lambda x: x * x", "right=lambda x: x * twice(x) / 2")
    pages.parsed.cache_clear()
    assert course.run("--prose").code == 0
    code = "def twice(x):\n    return x + x\n\n\nsquare = lambda x: x * twice(x) / 2"
    assert folded.format(code) in course.read("00_counting.md")


def test_rendering_twice_gives_the_same_bytes(course):
    before = everything(course.folder)
    assert course.run().code == 0
    assert everything(course.folder) == before


def test_a_chapter_runs_as_a_script_would_in_an_empty_folder(course):
    names = '__name__, __file__, sys.argv, os.listdir(), "solutions" in sys.modules'
    cell = f'({names}, __import__("__main__").FAST)'
    course.edit("00_counting.py", "None  # [a](b)\n", f"import sys\n\n{cell}\n")
    assert course.run("00_counting").code == 0
    path = str(course.folder / "00_counting.py")
    assert repr(("__main__", path, [path], [], False, False)) in course.read("00_counting.md")


# ---- a chapter that fails --------------------------------------------------------------------------------


def test_a_failing_chapter_changes_no_file_and_names_its_line(course):
    course.edit("00_counting.py", "None  # [a](b)\n", "def f():\n    raise ValueError('no\\nway')\n\n\nf()\n")
    before = everything(course.folder)
    run = course.run()
    line = course.read("00_counting.py").split("\n").index("    raise ValueError('no\\nway')") + 1
    assert run.code == 1 and f"00_counting: line {line}: ValueError: no way\n" in run.out
    assert f'00_counting.py", line {line}, in f\n' in run.err and "render.py" not in run.err
    same = everything(course.folder)
    assert all(same[path] == before[path] for path in before if path.name.startswith("00"))
    assert "chapters: 2, failed: 1" in run.out


NOISE = (
    "import numpy\nfigure.set_size_inches(9, 4)\n"
    "figure.figimage(numpy.random.default_rng(0).random((400, 900)))"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('figure.alt_text = "Nothing [yet]."', "", "line 4: a figure of this cell has no alt_text"),
        ("figure.alt", f"{NOISE}\nfigure.alt", " KB; 120 is the most"),
        (
            "from matplotlib",
            "import os\nos._exit(3)\nfrom matplotlib",
            "its process ended early, without a word",
        ),
        ("from matplotlib", "raise SystemExit(0)\nfrom matplotlib", "line 4: SystemExit: 0"),
    ],
)
def test_what_a_page_could_not_show_is_an_error(course, old, new, said):
    course.edit("01_picture.py", old, new)
    run = course.run("01")
    assert run.code == 1 and said in run.out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[1, 2]", "[1, 2", "00_counting.py:15: '[' was never closed"),
        ("print(", "for x in y:\nprint(", "expected an indented block"),
        ("[1, 2]", '"""', "unterminated triple-quoted string"),
        ("# 到多少？", "到多少？", '00_counting.py:6: a line of a markdown cell begins with "# "'),
        ("# 到多少？", "# ```\n# 到多少？", "00_counting.py:5: ``` is opened and not closed"),
        ("# %% exact", "# %% exakt", "00_counting.py:7: unknown cell '# %% exakt'"),
        ("# %% exact", "#%% exact", "unknown cell '#%% exact'"),
        ("None  # [a](b)\n", "\n", "00_counting.py:16: an empty cell"),
        (
            "None  # [a](b)\n",
            "None\n# %% [markdown] zh\n# 空\n",
            "a Chinese cell stands directly behind the English one",
        ),
        ("# # 00 Counting", "# Counting", "the first cell is English markdown and begins with the title"),
        (
            "# %% [markdown]\n# # 00",
            "import os\n# %% [markdown]\n# # 00",
            "00_counting.py:1: a chapter begins with a cell",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [["00"], ["--check"]])
def test_a_chapter_that_cannot_be_read_is_one_line_and_code_2(course, arguments, old, new, said):
    course.edit("00_counting.py", old, new)
    run = course.run(*arguments)
    assert run.code == 2 and run.out == "" and run.err.count("\n") == 1
    assert run.err.startswith("render: error: 00_counting.py:") and said in run.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["11_tiles"], "no chapter '11_tiles' in "),
        (["00", "count"], "there are 00_counting, 01_picture"),
    ],
)
def test_what_is_not_there_is_one_line_and_code_2(course, arguments, said):
    run = course.run(*arguments)
    assert run.code == 2 and said in run.err and run.err.count("\n") == 1


def test_a_neighbour_that_cannot_be_read_does_not_stop_a_chapter(course):
    course.edit("00_counting.py", "[1, 2]", "[1, 2")
    assert course.run("tutorials/01_picture.py").code == 0
    assert course.read("01_picture.md").startswith("[The course](README.md) · [.py]")


# ---- --check ---------------------------------------------------------------------------------------------


def test_check_passes_what_was_rendered_and_writes_nothing(course):
    before = everything(course.folder)
    run = course.run("--check")
    assert run.code == 0 and run.out.count(" s  ok\n") == 2 and "chapters: 2, failed: 0" in run.out
    assert everything(course.folder) == before


PAGES = "00_counting.md 00_counting.zh.md".split()


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        (
            "00_counting.py",
            "None  # [a](b)\n",
            "1 / 0\n",
            "00_counting: line 17: ZeroDivisionError: division by zero",
        ),
        (
            "00_counting.py",
            "None  # [a](b)\n",
            "import time\n\ntime.sleep(60)\n",
            "it takes more than 1.5 s in quick mode",
        ),
        (
            "00_counting.py",
            "None  #",
            "None  # still",
            "00_counting.md was not made from this 00_counting.py",
        ),
        (
            "00_counting.py",
            "# 到多少？",
            "# 到几？",
            "00_counting.zh.md was not made from this 00_counting.py",
        ),
        (
            "00_counting.py",
            "## Exercise",
            "## An exercise",
            "00_counting.ipynb is not what 00_counting.py gives",
        ),
        (
            "00_counting.py",
            "# %% [markdown] zh\n# ## 练习\n",
            "",
            "line 19: this English cell has no Chinese one behind it",
        ),
        *[
            (page, "  two", "two", f"line 8: the output of this exact cell is not that of {page}: line 2 is")
            for page in PAGES
        ],
        (
            "00_counting.md",
            "cell 0 -->",
            "cell 9 -->",
            "line 8: the output of this exact cell is not that of",
        ),
        (
            "00_counting.md",
            "[01 Picture →](01_picture.md) · ",
            "",
            "the links at its top are not those to its neighbours",
        ),
        (
            "00_counting.md",
            "[on](01_picture.md)",
            "[on](02_none.md#there)",
            "00_counting.md points to 02_none.md#there, which",
        ),
        (
            "01_picture.md",
            "01_picture-1.png",
            "01_picture-7.png",
            "01_picture.md points to img/01_picture-7.png, which does",
        ),
        (
            "01_picture.py",
            "# # 01 Picture",
            "# # 01 A picture",
            "00_counting.md: the links at its top are not those",
        ),
        (
            "notebooks/01_picture.ipynb",
            "facecolor=",
            "edgecolor=",
            "01_picture.ipynb is not what 01_picture.py gives",
        ),
        (
            "solutions.py",
            "x * x",
            "x + x",
            "check_square refuses the right answer: AssertionError: 3 times 3 is 9",
        ),
        (
            "solutions.py",
            "x * x",
            "x.y",
            "check_square refuses the right answer: AttributeError: 'int' object has no",
        ),
        ("solutions.py", "2 * x", "3 * x", "check_square takes wrong answer 0 for a right one"),
        (
            "solutions.py",
            "lambda x: x]",
            "3]",
            "check_square falls over wrong answer 1: TypeError: 'int' object is not",
        ),
        ("solutions.py", "check_square", "check_cube", "check_square has no Exercise in solutions.py"),
        ("solutions.py", "00_counting", "01_picture", "check_square has no Exercise in solutions.py"),
        (
            "solutions.py",
            "00_counting",
            "01_picture",
            "solutions.py answers check_square, which is not in the chapter",
        ),
        ("00_counting.py", ', "3 times 3 is 9"', "", "check_square refuses wrong answer 0 without a message"),
    ],
)
def test_check_catches(course, name, old, new, said):
    course.edit(name, old, new)
    chapter = ["00"] * (
        name == "solutions.py" and new != "01_picture"
    )  # the other one could say nothing about it
    run = course.run(*chapter, "--check", "--limit", "1.5" if "sleep" in new else "600")
    assert run.code == 1 and said in run.out and "FAILED" in run.out
    assert all(line.startswith(("00_counting", "01_picture", "chapters: ")) for line in run.out.splitlines())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("img/01_picture-1.png", "01_picture.md points to img/01_picture-1.png, which does not exist"),
        ("README.md", "00_counting.zh.md points to README.md, which does not exist"),
        ("01_picture.md", "01_picture.md was not made from this 01_picture.py"),
        ("00_counting.zh.md", "00_counting.zh.md was not made from this 00_counting.py"),
        ("notebooks/01_picture.ipynb", "01_picture.ipynb is not what 01_picture.py gives"),
        ("solutions.py", "check_square has no Exercise in solutions.py"),
    ],
)
def test_check_misses_what_was_deleted(course, name, said):
    (course.folder / name).unlink()
    run = course.run("--check")
    assert run.code == 1 and said in run.out


def test_check_compares_exact_cells_in_quick_mode(course):
    course.edit("00_counting.py", 'print("a row   ")', 'print("a quick row" if FAST else "a row")')
    assert course.run("00").code == 0
    run = course.run("--check", "00")
    assert (
        run.code == 1
        and "exact cell is not that of 00_counting.md: line 0 is now 'a quick row', was 'a row'" in run.out
    )


def test_check_does_not_compare_other_cells(course):
    for page in PAGES:
        course.edit(page, "full\n", "another machine\n")
    assert course.run("--check").code == 0


# ---- pictures with Chinese labels ------------------------------------------------------------------------

LABELLED = """\
# %% [markdown]
# # 02 Labels
# %% [markdown] zh
# # 02 标签
# %%
from matplotlib.figure import Figure

figure = Figure((2, 1))
figure.text(0.1, 0.6, "step")
figure.text(0.1, 0.1, "cat 7")
figure.alt_text = "A cat."
figure
# %%
figure = Figure((1, 1))
figure.alt_text = "Nothing."
figure
"""


@pytest.fixture
def labelled(course):
    """The course with a chapter whose figure has words."""
    (course.folder / "02_labels.py").write_text(LABELLED, encoding="utf-8")
    (course.folder / "labels").mkdir()
    lines = "# a comment\ncat {} = 猫 {}\nA cat. = 一只猫。\nNothing. = 什么都没有。\n"
    (course.folder / "labels" / "02.txt").write_text(lines, encoding="utf-8")
    return course


@pytest.mark.skipif(not can_draw("猫"), reason="no installed font has Chinese letters")
def test_a_chinese_page_shows_pictures_with_chinese_labels(labelled):
    assert labelled.run("02").code == 0
    english, chinese = labelled.read("02_labels.md"), labelled.read("02_labels.zh.md")
    assert "![A cat.](img/02_labels-1.png)" in english and "zh.png" not in english
    assert "![一只猫。](img/02_labels-1.zh.png)" in chinese
    assert "![什么都没有。](img/02_labels-2.png)" in chinese  # no word differs: no second file
    images = sorted(path.name for path in (labelled.folder / "img").glob("02*"))
    assert images == ["02_labels-1.png", "02_labels-1.zh.png", "02_labels-2.png"]
    first, second = (Image.open(labelled.folder / "img" / name) for name in images[:2])
    assert first.size == second.size and first.tobytes() != second.tobytes()
    before = everything(labelled.folder)
    assert labelled.run("--prose", "02").code == 0 and everything(labelled.folder) == before
    assert labelled.run("--check", "02").code == 0
    (labelled.folder / "img" / images[1]).unlink()
    assert "02_labels.zh.md points to img/02_labels-1.zh.png" in labelled.run("--check", "02").out
    labelled.edit("02_labels.zh.md", "-1.zh.png", "-1.png")
    assert "02_labels.zh.md shows ['img/02_labels-1.png'," in labelled.run("--check", "02").out
    labelled.edit("labels/02.txt", "一只猫", "那只猫")
    said = "02_labels.zh.md was not made from this 02_labels.py and its labels; render it again"
    assert said in labelled.run("--check", "02").out


@pytest.mark.parametrize("command", [["02"], ["--check", "02"]])
def test_a_label_without_a_translation_is_named(labelled, command):
    labelled.edit("labels/02.txt", "cat {} = 猫 {}\n", "")
    run = labelled.run(*command)
    assert (
        run.code == 1 and "labels/02.txt lacks a line 'cat 7' = its Chinese, for 02_labels-1.png" in run.out
    )
    assert not (labelled.folder / "img" / "02_labels-1.png").exists()
    labelled.edit("labels/02.txt", "A cat. = ", "A cat.")
    assert "labels/02.txt: 'A cat.一只猫。': a line is" in labelled.run(*command).out


def test_without_a_font_check_says_so_and_render_names_the_picture(labelled, monkeypatch):
    real = render.run

    def run(*words):
        outputs = real(*words)
        outputs[0][0]["zh"]["drawn"] = False
        return outputs

    monkeypatch.setattr(render, "run", run)
    run = labelled.run("02")
    assert (
        run.code == 1
        and "02_labels-1.zh.png cannot be drawn: no installed font has Chinese letters" in run.out
    )
    run = labelled.run("--check", "02")
    assert "02_labels: 1 Chinese pictures were not drawn: no installed font has Chinese letters" in run.out


# ---- an example in each language -------------------------------------------------------------------------

TOY = """\
# %% [markdown]
# # 02 Toy
# %% [markdown] zh
# # 02 例子
# %% toy
import os

dish = {"en": "red wine", "zh": "牛肉"}[os.environ["MINGLM_LANG"]]
f"{dish} 7"
# %%
from matplotlib.figure import Figure

figure = Figure((2, 1))
figure.text(0.1, 0.5, dish)
figure.alt_text = f"It says {dish}."
figure
"""


@pytest.mark.skipif(not can_draw("牛肉"), reason="no installed font has Chinese letters")
def test_a_chapter_with_a_toy_runs_again_for_its_chinese_page(course, monkeypatch):
    (course.folder / "02_toy.py").write_text(TOY, encoding="utf-8")
    (course.folder / "labels").mkdir()
    (course.folder / "labels" / "02.txt").write_text("It says {...}. = 写着{...}。", encoding="utf-8")
    monkeypatch.setenv("MINGLM_LANG", "zh")  # a reader's own wish changes no page
    run = course.run("02")
    assert run.code == 0 and "Glyph" not in run.err
    english, chinese = course.read("02_toy.md"), course.read("02_toy.zh.md")
    assert "red wine 7\n" in english and "![It says red wine.](img/02_toy-1.png)" in english
    assert "牛肉 7\n" in chinese and "![写着牛肉。](img/02_toy-1.zh.png)" in chinese
    assert "red wine 7" in course.read("notebooks/02_toy.ipynb") and "牛肉 7" not in course.read(
        "notebooks/02_toy.ipynb"
    )
    images = [Image.open(course.folder / "img" / f"02_toy-1{end}.png").tobytes() for end in ("", ".zh")]
    assert images[0] != images[1]
    assert "does not hold the outputs of its Chinese page" in course.run("--prose", "02").out
    course.edit("02_toy.zh.md", "牛肉 7\n", "牛肉 8\n")
    said = course.run("--check", "02").out
    wrong = "line 6: the output of this exact cell is not that of 02_toy.zh.md: line 0 is now '牛肉 7', was"
    assert said.count("02_toy: ") == 1 and wrong in said


# ---- a Chinese cell and the English one ------------------------------------------------------------------

TWINS = """\
# %% [markdown]
# # 00 Counting
# Twelve, or 7 of 1,000. ![twelve](img/a.png)
# %% [markdown] zh
# # 00 数数
# 1000 里的 7，或者 12。![十二](img/a.png)
# %%
12
# %% [markdown]
# ## How far
# ```sh
# count 3
# ```
# %% [markdown] zh
# ## 到多少
# ```sh
# count 3
# ```
"""


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("里的 7", "里的 8", "line 5: section '00 Counting': numbers that the Chinese text lacks: 7"),
        ("或者 12", "或者 13", "line 5: section '00 Counting': numbers that no English text has: 13"),
        (
            "# ## 到多少",
            "# ### 到多少",
            "line 15: section 'How far': headings: [3] in Chinese, [2] in English",
        ),
        ("![十二](img/a.png)", "", "line 5: section '00 Counting': figures: [] in Chinese, ['img/a.png'] in"),
        ("# ## 到多少\n# ```sh\n# count 3", "# ## 到多少\n# ```sh\n# count 4", "section 'How far': code: "),
        ("## How far", "## How very far", "line 15: section 'How very far': the English text has changed; "),
    ],
)
def test_a_chinese_cell_is_held_to_the_english_one_above_it(tmp_path, old, new, said):
    path = tmp_path / "00_counting.py"
    path.write_text(TWINS, encoding="utf-8")
    assert twins.differences(render.Chapter(path)) == []
    before = render.Chapter(path).sum
    path.write_text(twins.stamped(render.Chapter(path)), encoding="utf-8")
    assert twins.stamped(render.Chapter(path)) == render.Chapter(path).source
    assert twins.differences(render.Chapter(path)) == [] and render.Chapter(path).sum == before
    path.write_text(render.Chapter(path).source.replace(old, new), encoding="utf-8")
    [found, *more] = twins.differences(render.Chapter(path))
    assert said in found, found
    assert all("numbers" in line for line in more)


def test_the_command_stamps_chinese_cells_and_check_names_the_section_that_went_stale(course):
    path = course.folder / "00_counting.py"
    assert render.main(["--stamp", "00", "--folder", str(course.folder)]) == 0
    chapter = render.Chapter(path)
    assert all(cell.stamp for cell in chapter.cells if cell.kind == "zh")
    path.write_text(chapter.source.replace("How far?", "How very far?"), encoding="utf-8")
    assert "section '00 Counting': the English text has changed" in twins.differences(render.Chapter(path))[0]
