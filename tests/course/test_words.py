"""The course in another language: nothing is missing or left over, and what is said is in that language."""

import argparse
import ast
import inspect
import re
import textwrap

import pytest
from conftest import ROOT

from minglm import errors
from minglm.course import kernels, stubs, words
from minglm.course.checker import check
from minglm.course.kernel_report import COUNTS
from minglm.course.puzzles import OPEN, PARTS, PUZZLES, RIGHT
from minglm.course.reader import ADVICE, Reader

CHINESE = re.compile("[\u4e00-\u9fff]")
SOURCES = [*sorted((ROOT / "minglm" / "course").glob("*.py")), ROOT / "minglm" / "cli" / "course.py"]


# ---- what there is to say --------------------------------------------------------------------------------


def literals(path):
    """The texts that a module tells: arguments of `tell`, and what the variables hold that it gets."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "tell" and n.args]
    names = {call.args[0].id for call in calls if isinstance(call.args[0], ast.Name)}
    values = [call.args[0] for call in calls]
    values += [
        n.value for n in nodes if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") in names
    ]
    for value in values:
        for node in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def catalogue():
    """The texts of puzzles.toml and cuda/puzzles.toml."""
    for part in PARTS:
        yield part.title
        for puzzle in part.puzzles:
            yield from (puzzle.question, *puzzle.hints, *(mistake.say for mistake in puzzle.mistakes))
    for kernel in kernels.KERNELS.values():
        yield from (kernel.question, *kernel.hints, *filter(None, [kernel.say]))


def is_code(paragraph):
    """Whether a paragraph of a description is loops, which need no translation."""
    try:
        ast.parse(paragraph)
    except SyntaxError:
        return False
    return not paragraph.startswith("Example")


def descriptions():
    """What the two files of the reader say in descriptions and comments."""
    head = inspect.getsource(kernels.stub_file).partition('"""\\\n')[2].partition('"""')[0]
    for text in (
        stubs.HEAD,
        stubs.text().split('"""', 2)[2],
        head,
        kernels.solution_text().partition("\n")[2],
    ):
        loops = {
            words.key(p)
            for p in re.split(r"\n *\n", text.replace('"""', "\n\n"))
            if is_code(textwrap.dedent(p).strip())
        }
        for paragraph in words.paragraphs(text):
            example = paragraph.removeprefix("Example: ")
            if paragraph not in loops and not (example != paragraph and is_code(example) or fixed(example)):
                yield paragraph


def fixed(example):
    """Whether an example is tokens alone, the same in every language."""
    return bool(re.fullmatch(r"(x\d|\[\w\]|None|[\[\], \d])+", example))


def english():
    found = {text for path in SOURCES for text in literals(path)}
    return found | {*catalogue(), *descriptions(), *ADVICE.values(), *COUNTS.values()}


@pytest.mark.parametrize("language", words.LANGUAGES[1:])
def test_every_english_text_has_its_translation_and_none_is_left_over(language):
    tables = words.tables(language)
    known = [text for part, table in tables.items() if part != words.OTHERS for text in table]
    assert len(known) == len({*known}), "a text is in two parts of the table"
    assert sorted(english() - {*known}) == []
    assert sorted({*known} - english()) == []


@pytest.mark.parametrize("language", words.LANGUAGES[1:])
def test_a_translation_has_the_values_and_the_code_of_the_english_text(language):
    def fields(text):
        return sorted(re.findall(r"\{([a-z_]\w*)((?:!r)?(?::[^} ]+)?)\}", text, re.I | re.A))

    for text, other in words.texts(language).items():
        assert other.strip() and fields(text) == fields(other), text
        for code in re.findall(r"`[^`]+`", text):
            assert code in other or "OTHER" in code, f"{code} is not in {other}"


def test_what_other_programs_say_is_still_what_they_say():
    """Each piece of these texts is in the source that it comes from."""
    files = [
        ROOT / "csrc" / "cuda_on_cpu" / "simt.cpp",
        *(kernels.HERE / name for name in ("driver.cpp", "puzzle.h")),
    ]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    source += inspect.getsource(argparse) + inspect.getsource(errors) + inspect.getsource(kernels)
    system = {"No such file or directory", "Is a directory", "Permission denied"}
    for language in words.LANGUAGES[1:]:
        for text in words.tables(language)[words.OTHERS].keys() - system:
            for piece in re.split(r"\{\w+\}", text):
                parts = [
                    p
                    for p in re.split(r"^: | threads$|[:;,] | warp$|(?= between)|\d+", piece)
                    if len(p.strip()) > 3
                ]
                assert all(part.strip(" ,(") in source for part in parts), (text, parts)


# ---- what is said ----------------------------------------------------------------------------------------


@pytest.fixture
def chinese():
    with words.speaking("zh"):
        yield


def test_the_chinese_file_is_the_english_one_with_other_descriptions(tmp_path, chinese):
    def code(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.Module) and ast.get_docstring(node):
                node.body.pop(0)
        return ast.dump(tree)

    file = tmp_path / "mine.py"
    file.write_text(stubs.stub_file(file.name), encoding="utf-8")
    text = file.read_text(encoding="utf-8")
    assert all(check(Reader(file), name).state == OPEN for name in PUZZLES)
    assert f"minglm course check {file.name} --hint" in text and words.written_in(text) == "zh"
    assert max(map(words.display_width, text.splitlines())) <= 110
    nodes = ast.walk(ast.parse(text))
    docs = [ast.get_docstring(node) for node in nodes if isinstance(node, ast.FunctionDef | ast.Module)]
    assert len(docs) > 30 and all(CHINESE.search(doc) for doc in filter(None, docs))
    comments = re.findall(r"^(?:# (?!----)| {4}\.\.\.  # )(.*)", text, re.M)
    assert len(comments) > 30 and sum(not CHINESE.search(line) for line in comments) == 0
    with words.speaking("en"):
        assert code(text) == code(stubs.stub_file(file.name))
        assert words.written_in(stubs.stub_file(file.name)) == "en"
    cuda = kernels.stub_file("x.cu")
    assert words.written_in(cuda) == "zh" and max(map(words.display_width, cuda.splitlines())) <= 118
    found = re.findall(r"^// (?!---)(.*)", cuda, re.M)
    assert len(found) > 30 and sum(not CHINESE.search(line) for line in found) == 0


def test_answers_are_judged_in_chinese(tmp_path, chinese):
    """A right one, a usual mistake by its name, and mistakes of a general kind."""
    file = tmp_path / "mine.py"

    def said(name, source):
        file.write_text(stubs.text().replace(stubs.solution_of(name), source), encoding="utf-8")
        return check(Reader(file), name)

    assert said("mask", stubs.solution_of("mask")).state == RIGHT
    wrong = "\n".join(said("mask", "def mask(T, A): return torch.ones(T, T).tril().bool()").lines)
    assert "你的" in wrong and "正确" in wrong and "这是 GPT 的掩码" in wrong and "该开却关着" in wrong
    for name, source, text in (
        ("visible", "def visible(i, A): max(A, i + 1)", "是不是忘了写 `return`"),
        ("visible", "def visible(i, A): return max(B, i + 1)", "行：  def visible|NameError"),
        ("part_a", "def part_a(words, spans): return words * 9", "项"),
        ("gelu", "def gelu(x): return x", "个数里有"),
        (
            "restore",
            "def restore(tokens, positions, targets, A): return (x for x in tokens)",
            "返回的是一个 generator",
        ),
    ):
        lines = said(name, source).lines
        assert re.search(text, "\n".join(lines)), lines
        assert not re.search(r"\b(It|The|are|of) ", "\n".join(lines)), lines


def test_the_command_speaks_the_language_that_is_asked_for_else_the_environment_s_else_the_file_s(
    minglm, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert "wrote       my_glm.py" in minglm("course", "start").out
    assert "Not written yet" in minglm("course", "check").out
    assert "还没写：my_glm.py 第 20 行" in minglm("course", "check", "--lang", "zh").out
    assert minglm("course", "--lang", "zh").out.startswith("各章在 ")
    assert "已写出      zh.py：26 道题" in minglm("course", "start", "zh.py", "--lang", "zh").out
    fresh = minglm("course", "check", "zh.py")
    assert (
        "卡住了？  minglm course check zh.py --hint   或者读 tutorials/01_breaking_a_text.zh.md" in fresh.out
    )
    assert "Stuck?" in minglm("course", "check", "zh.py", "--lang", "en").out
    assert "提示 2 / 2：" in minglm("course", "check", "zh.py", "--hint", "2").out
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "还没写" in minglm("course", "check").out
    assert '"""一个样本的掩码' in minglm("course", "solution", "mask").out
    assert minglm("course", "start").err.startswith("minglm: error: my_glm.py: 已经存在，不会覆盖")
    assert minglm("course", "solution", "masc").err == "minglm: error: 题目：'masc' 不存在；是不是 mask？\n"
    assert "没有这个文件或文件夹" in minglm("course", "check", "other.py").err
    assert "参数 --hint：没有 3；可以是 1, 2" in minglm("course", "check", "--hint", "3").err
    monkeypatch.setenv("LC_ALL", "C")
    assert "Not written yet" in minglm("course", "check").out
    assert "argument --hint: invalid choice: 3" in minglm("course", "check", "--hint", "3").err


def test_the_locale_decides_by_its_first_variable_that_is_set():
    assert words.from_environment({}) == words.from_environment({"LANG": "fr_FR.UTF-8"}) == "en"
    assert words.from_environment({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}) == "zh"
    assert words.from_environment({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_GB.UTF-8"}) == "en"
    assert words.from_environment({"LC_MESSAGES": "zh_TW", "LANG": "C"}) == "zh"


def test_long_chinese_sentences_are_folded_and_no_line_begins_with_a_mark():
    mark = "[，。、：；！？）”」》]"
    for text in words.texts("zh").values():
        lines = words.wrapped(text)
        assert all(words.display_width(line) <= 104 for line in lines)  # 104: code has no place to break
        assert not [line for line in lines[1:] if re.match(mark, line)]
        assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
