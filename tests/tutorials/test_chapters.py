"""The form of the chapters of this repository; `render.py --check` runs them."""

import ast
import json
import re
import runpy

import pytest
from conftest import ROOT
from rendering import CHAPTERS, TUTORIALS, pages, render, twins

from minglm import build_example
from minglm.files.jsonl import read_rows


def checks_of(path):
    """The functions check_... that a chapter defines or imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    names += [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return [name for name in names if name.startswith("check_")]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_well_formed(path):
    chapter = render.Chapter(path)
    assert chapter.title(False)[:3] == path.stem[:2] + " " and chapter.code()
    assert not chapter.has_zh or chapter.untranslated() is None
    assert checks_of(path), "every chapter has exercises"
    long = [
        n + 1
        for n, line in enumerate(chapter.source.split("\n"))
        if len(line) > 110 and not line.startswith("#")
    ]
    assert not long, "code is read on a page: at most 110 characters per line"


CHINESE = [path for path in sorted(TUTORIALS.glob("*.py")) if "# %% [markdown] zh" in path.read_text("utf-8")]


@pytest.mark.parametrize(
    "path", [path for path in CHINESE if path.stem not in ("pages", "render", "twins")], ids=lambda p: p.stem
)
def test_a_chinese_page_says_what_the_english_one_says(path):
    assert twins.differences(render.Chapter(path)) == []


@pytest.mark.parametrize(
    "path", [path for path in CHAPTERS if render.Chapter(path).has_zh], ids=lambda path: path.stem
)
def test_outputs_of_a_chinese_page_have_the_numbers_of_the_english_one(path):
    texts = [path.with_name(f"{path.stem}{end}").read_text(encoding="utf-8") for end in (".md", ".zh.md")]
    english, chinese = ({n: text for n, _, text in pages.RECORDED.findall(page)} for page in texts)
    assert english.keys() == chinese.keys()
    for n, text in english.items():
        assert re.findall(r"\d+", text) == re.findall(r"\d+", chinese[n]), f"the output of code cell {n}"


def test_the_toy_of_chapter_05_is_chinese_in_chinese():
    chapter = render.Chapter(TUTORIALS / "05_three_families.py")
    words = re.compile(r"\b(wine|tea|drank|dawn)\b")
    assert not any(words.search(cell.text) for cell in chapter.code())
    page = chapter.path.with_name(chapter.page(zh=True)).read_text(encoding="utf-8")
    assert {"牛浆", "豆肉"} <= set(re.findall(r"[\u4e00-\u9fff]+", page)) and not words.search(page)


@pytest.mark.parametrize(
    "path", [path for path in CHAPTERS if render.Chapter(path).has_zh], ids=lambda path: path.stem
)
def test_every_picture_of_a_chinese_page_is_described_in_chinese(path):
    page = path.with_name(f"{path.stem}.zh.md").read_text(encoding="utf-8")
    for alt, name in re.findall(r"^!\[(.*)\]\((img/.*)\)$", page, re.M):
        assert re.search("[\u4e00-\u9fff]", alt), name


@pytest.mark.parametrize(
    "path", [path for path in CHAPTERS if render.Chapter(path).has_zh], ids=lambda path: path.stem
)
def test_formulas_in_chinese_stand_between_blanks_or_ascii(path):
    """GitHub takes $...$ for a formula only where no Chinese letter or mark touches it from outside."""
    for cell in render.Chapter(path).cells:
        text = re.sub(r"`[^`\n]*`|\$\$.*?\$\$", "", cell.text if cell.kind == "zh" else "", flags=re.S)
        wrong = [
            m.group()
            for m in re.finditer(r"(.?)\$[^$]+\$(.?)", text)
            if not re.fullmatch(r"[\x00-\x7f]*", m[1] + m[2])
        ]
        assert not wrong, f"line {cell.line}: {wrong}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_opens_the_explorer_and_its_notebook_keeps_what_it_printed(path):
    assert any(re.search("^Explorer\\(", cell.text, re.M) for cell in render.Chapter(path).code())
    cells = json.loads(render.Chapter(path).notebook.read_text(encoding="utf-8"))["cells"]
    kinds = {output["output_type"] for cell in cells for output in cell.get("outputs", ())}
    assert kinds == {"stream", "display_data"}


def test_the_course_stays_short():
    """Words of prose, and lines of code, in all chapters together."""
    chapters = [render.Chapter(path) for path in CHAPTERS]
    prose = [cell.text for chapter in chapters for cell in chapter.cells if cell.kind == "en"]
    code = [cell.text for chapter in chapters for cell in chapter.code()]
    assert sum(len(text.split()) for text in prose) <= 11_000
    assert sum(bool(line.strip()) for text in code for line in text.split("\n")) <= 1_800


def test_the_reviews_that_chapter_09_learns_from_are_those_of_the_task():
    folder = TUTORIALS / "data" / "sentiment"
    train, dev = (list(read_rows(folder / f"{side}.jsonl.xz").values()) for side in ("train", "dev"))
    packed = read_rows(ROOT / "minglm" / "tasks" / "sentiment.jsonl.xz").values()
    assert list(packed) == [{"text": row["text"], "label": row["label"]} for row in train[:400] + dev]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_has_a_solution_and_two_wrong_answers(path):
    exercises = runpy.run_path(str(TUTORIALS / "solutions.py"))["SOLUTIONS"].get(path.stem, [])
    assert sorted(exercise.check for exercise in exercises) == sorted(checks_of(path))
    assert all(len(exercise.wrong) >= 2 for exercise in exercises)


def test_solutions_are_of_chapters_that_exist():
    solutions = runpy.run_path(str(TUTORIALS / "solutions.py"))["SOLUTIONS"]
    assert solutions.keys() <= {path.stem for path in CHAPTERS} | {"museum"}


def test_the_start_page_cuts_as_the_library_does():
    chapter = render.Chapter(TUTORIALS / "start.py")
    cut = next(cell.text for cell in chapter.code() if "def cut" in cell.text)
    names = {}
    exec(cut, names)
    for length, spans, order in (
        (10, [(1, 2), (7, 9)], [1, 0]),
        (9, [(0, 1), (3, 6), (8, 9)], [2, 0, 1]),
        (4, [(0, 4)], [0]),
    ):
        rows, part_a_len = names["cut"](list(range(100, 100 + length)), spans, order)
        sample = build_example(list(range(100, 100 + length)), spans, order)
        special = {
            "[M]": sample.tokens[spans[0][0]],
            "[S]": sample.tokens[part_a_len],
            "[E]": sample.targets[-1],
        }
        tokens, position, inside, learns = zip(*rows, strict=True)
        assert [special.get(token, token) for token in tokens] == list(sample.tokens)
        assert [special.get(token, token) for token in learns[part_a_len:]] == list(sample.targets)
        assert part_a_len == sample.part_a_len and not any(learns[:part_a_len])
        assert list(position) == list(sample.position_ids) and list(inside) == list(sample.block_position_ids)
