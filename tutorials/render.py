"""Renders the chapters: runs NN_name.py, writes NN_name.md, NN_name.zh.md, NN_name.ipynb, img/NN_name-K.png.

    python tutorials/render.py [NAME ...]            all chapters, or those named: 02, 02_two_positions
    python tutorials/render.py --check [NAME ...]    only checks that they run and match their pages
    python tutorials/render.py --run NAME ...        prints headings and outputs, saves figures in ./NAME/
    python tutorials/render.py --prose [NAME ...]    writes pages anew with the outputs that their notebooks
                                                     hold, where only text has changed

A chapter is Python in cells; the first is markdown and begins with the title. start.py comes before the
numbered ones, museum.py and questions.py after them. A header says what a cell is:

    # %% [markdown]       English, each line begins with "# "
    # %% [markdown] zh    the cell above it in Chinese; lines of a paragraph are joined
    # %%                  code
    # %% exact            code whose output is always the same, even in quick mode: --check compares it
    # %% imports          code that a page and a notebook fold away: imports,
    # %% picture          what draws a picture,
    # %% check            the check of an exercise,
    # %% setup            and what only prepares the next cells
    # %% answer           an exact cell whose output is folded away: the answer to a puzzle

Below a cell, the page shows what it prints, its last expression (a str as it is; any other value as its repr;
None is omitted) and its figures: those of pyplot that it leaves open, and one that is its last expression. A
figure needs `alt_text`, a sentence, and is shown once. The cells of a chapter run in one namespace, named
__main__, in a new process that starts in an empty folder. The page does not show stderr, or output that
bypasses Python (other programs, C++). MINGLM_FAST=1 in the environment makes a quick page, as a preview;
--check always runs in quick mode, and tests the checks of the exercises on the answers in solutions.py.

Exit code: 0; 1 if a chapter fails, with one line per failure (after a traceback, if any); 2 for wrong usage.
"""

import argparse
import ast
import base64
import functools
import hashlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
import traceback
import types
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DPI, LARGEST = 120, 120 * 1024  # resolution and bytes of a picture
OUTPUT = "<!-- output of code cell {} -->"
RECORDED = re.compile(r"^<!-- output of code cell (\d+) -->\n(`{3,})text\n(.*?)\n\2$", re.M | re.S)
FOLDED = {  # what a page says in place of the code: English, Chinese
    "imports": ("Imports", "导入"),
    "picture": ("How this picture is drawn", "这张图的代码"),
    "check": ("The check", "检查答案的代码"),
    "setup": ("Setup", "准备工作"),
}
ANSWER, SOLUTION = ("Answer", "答案"), ("A solution", "一种解法")
EXACT = ("exact", "answer")
CODE = ("code", *EXACT, *FOLDED)
INSTALL = """\
# Run this cell first where minglm is not installed yet: in a hosted notebook, or in an empty folder.
# SOURCE is anything that pip can install: the folder of a clone, a wheel, or git+https://...
import importlib.util
import os

SOURCE = os.environ.get("MINGLM_SOURCE") or (".." if os.path.exists("../pyproject.toml") else {source!r})
if importlib.util.find_spec("minglm") is None:
    assert SOURCE, "minglm is not installed: set SOURCE to a clone, a wheel or git+https://... and run again"
    %pip install -q {{SOURCE}}
%matplotlib inline
"""
WORDS = {False: ("The course", "中文"), True: ("课程目录", "English")}
MARK = "[\u3001-\u301f\uff01-\uff0f\uff1a-\uff20“”‘’…—]"  # Chinese punctuation
WIDE = f"(?:[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]|{MARK})"  # and letters


class Wrong(Exception):
    """An error in a chapter or in the arguments, as one line."""


# ---- what a chapter is -----------------------------------------------------------------------------------


class Cell(NamedTuple):
    kind: str  # "en", "zh", or one of CODE
    line: int  # the line of its first text in the file
    text: str


class Chapter:
    """A source file, cut into cells. Raises Wrong, with the line, if the file is not a chapter."""

    KINDS = {"": "code", "[markdown]": "en", "[markdown] zh": "zh", **{name: name for name in CODE[1:]}}

    def __init__(self, path):
        self.path, self.name, self.cells = path, path.stem, []
        self.source = path.read_text(encoding="utf-8")
        self.sum = hashlib.sha256(self.source.encode()).hexdigest()
        lines = self.source.split("\n")
        heads = [n for n, line in enumerate(lines) if re.match(r"# ?%%", line)]
        if any(line.strip() for line in lines[: heads[0] if heads else None]):
            self.refuse(1, "a chapter begins with a cell: # %% [markdown]")
        for head, end in zip(heads, [*heads[1:], len(lines)], strict=True):
            tag = lines[head].removeprefix("# %%").strip()
            if tag not in self.KINDS or not lines[head].startswith("# %%"):
                accepted = f"# %% followed by one of {list(self.KINDS)} is accepted"
                self.refuse(head + 1, f"unknown cell {lines[head]!r}; {accepted}")
            self.add(self.KINDS[tag], head + 1, lines[head + 1 : end])
        if not self.cells or self.cells[0].kind != "en" or not self.cells[0].text.startswith("# "):
            self.refuse(1, "the first cell is English markdown and begins with the title")

    def refuse(self, line, why):  # line: counted from 1
        raise Wrong(f"{self.path.name}:{line}: {why}")

    def add(self, kind, line, lines):
        if not any(text.strip() for text in lines):
            self.refuse(line, "an empty cell")
        text, line = "\n".join(lines).rstrip(), line + 1
        while text.startswith("\n"):
            text, line = text[1:], line + 1
        if kind in ("en", "zh"):
            for n, comment in enumerate(text.split("\n")):
                if comment.strip() and not re.match(r"#( |$)", comment):
                    self.refuse(line + n, 'a line of a markdown cell begins with "# "')
            text = re.sub(r"^# ?", "", text, flags=re.M).strip()
            if len(re.findall(r"^\s*```", text, re.M)) % 2:
                self.refuse(line, "``` is opened and not closed in this cell")
            if kind == "zh" and (not self.cells or self.cells[-1].kind != "en"):
                self.refuse(line, "a Chinese cell stands directly behind the English one")
        else:
            try:
                ast.parse(text)
            except SyntaxError as error:
                self.refuse(line + (error.lineno or 1) - 1, f"{error.msg}; a cell is whole statements")
        self.cells.append(Cell(kind, line, text))

    @property
    def has_zh(self):
        return any(cell.kind == "zh" for cell in self.cells)

    def code(self):
        return [cell for cell in self.cells if cell.kind in CODE]

    def untranslated(self):
        """The first English cell without a Chinese translation, or None."""
        pairs = zip(self.cells, [*self.cells[1:], None], strict=True)
        return next((a for a, b in pairs if a.kind == "en" and (b is None or b.kind != "zh")), None)

    def title(self, zh):
        kind = "zh" if zh and self.has_zh else "en"
        return next(cell.text.split("\n")[0].lstrip("# ") for cell in self.cells if cell.kind == kind)

    def page(self, zh):
        return f"{self.name}.zh.md" if zh and self.has_zh else f"{self.name}.md"


# ---- running it in a process of its own ------------------------------------------------------------------


def outputs_of(chapter, folder):
    """Run the cells; returns the namespace and, for each code cell, a list of {"text"} or {"png", "alt"}.

    Pictures are saved in `folder`.
    """
    main = types.ModuleType("__main__")
    main.__file__ = str(chapter.path)
    sys.modules["__main__"], sys.argv = main, [str(chapter.path)]
    seen, outputs = [], []  # seen: the figures themselves, so that no new one gets the id() of an old one
    for cell in chapter.code():
        tree = ast.parse("\n" * (cell.line - 1) + cell.text)
        last, value = None, None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(tree, chapter.path, "exec", dont_inherit=True), main.__dict__)
            if last:
                value = eval(compile(last, chapter.path, "eval", dont_inherit=True), main.__dict__)
        matplotlib = sys.modules.get("matplotlib.figure")
        is_figure = matplotlib is not None and isinstance(value, matplotlib.Figure)
        if value is not None and not is_figure:
            print(value if isinstance(value, str) else repr(value), file=printed)
        text = "\n".join(line.rstrip() for line in printed.getvalue().rstrip().split("\n")).lstrip("\n")
        outputs.append([{"text": text}] if text else [])
        plt = sys.modules.get("matplotlib.pyplot")
        figures = [plt.figure(number) for number in plt.get_fignums()] if plt else []
        for figure in [*figures, value] if is_figure else figures:
            if not any(figure is other for other in seen):
                seen.append(figure)
                outputs[-1].append(save(figure, folder / f"{chapter.name}-{len(seen)}.png", cell))
        if plt:
            plt.close("all")
    return main.__dict__, outputs


def save(figure, path, cell):
    """Save a figure as a small PNG; returns the output that the page shows."""
    alt = " ".join(getattr(figure, "alt_text", "").split())
    if not alt:
        raise Wrong(f"line {cell.line}: a figure of this cell has no alt_text")
    from PIL import Image  # comes with matplotlib

    figure.savefig(path, dpi=DPI, facecolor="white")
    with Image.open(path) as image:
        # a palette takes a third of the bytes; metadata is dropped
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    size = path.stat().st_size
    if size > LARGEST:
        raise Wrong(f"line {cell.line}: {path.name} has {size / 1024:.0f} KB; {LARGEST // 1024} is the most")
    return {"png": path.name, "alt": alt}


def solve(chapter, namespace, path):
    """Test the checks of a chapter on the answers in a file of solutions; raises Wrong if one fails."""
    # the names of our solutions.py come first, because a fragment has no imports
    answers = runpy.run_path(str(HERE / "solutions.py"), run_name="solutions") | {"SOLUTIONS": {}}
    if path.exists():
        exec(compile(path.read_text(encoding="utf-8"), path, "exec", dont_inherit=True), answers)
    exercises = answers["SOLUTIONS"].get(chapter.name, [])
    checks = [name for name, value in namespace.items() if name.startswith("check_") and callable(value)]
    for name in checks:
        if name not in [exercise.check for exercise in exercises]:
            raise Wrong(f"{name} has no Exercise in {path.name}")
    for check, right, wrong in exercises:
        if check not in checks:
            raise Wrong(f"{path.name} answers {check}, which is not in the chapter")
        try:
            namespace[check](right)
        except Exception as error:
            raise Wrong(f"{check} refuses the right answer: {type(error).__name__}: {error}") from error
        for n, answer in enumerate(wrong):
            try:
                namespace[check](answer)
            except AssertionError as error:
                if str(error).strip():
                    continue
                raise Wrong(f"{check} refuses wrong answer {n} without a message") from error
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise Wrong(f"{check} falls over wrong answer {n}: {why}") from error
            raise Wrong(f"{check} takes wrong answer {n} for a right one")


def child(source, folder, solutions):
    """The main function of the process: writes the outputs, or one line of error, to outputs.json."""
    chapter, result = Chapter(Path(source)), {}
    try:
        namespace, result["outputs"] = outputs_of(chapter, Path(folder))
        if solutions:
            solve(chapter, namespace, Path(solutions))
    except Wrong as error:
        result["error"] = str(error)
    except (Exception, SystemExit) as error:
        trace, lines = error.__traceback__, []
        while trace and trace.tb_frame.f_code.co_filename != str(chapter.path):  # from the chapter on
            trace = trace.tb_next
        if trace:
            traceback.print_exception(error.with_traceback(trace))
            frames = traceback.extract_tb(trace)
            lines = [f"line {frame.lineno}: " for frame in frames if frame.filename == str(chapter.path)]
        result["error"] = "".join(lines[-1:]) + " ".join(f"{type(error).__name__}: {error}".split())
    (Path(folder) / "outputs.json").write_text(json.dumps(result), encoding="utf-8")


def run(chapter, folder, solutions=None, limit=None):
    """Run a chapter in a new process (with a limit: in quick mode); returns its outputs.

    Pictures are saved in `folder`.
    """
    folder = Path(folder)
    (folder / "empty").mkdir()
    words = [sys.executable, __file__, "--child", chapter.path, folder, solutions or ""]
    environment = os.environ | {"MPLBACKEND": "Agg"} | ({"MINGLM_FAST": "1"} if limit else {})
    streams = dict(stdin=subprocess.DEVNULL, stdout=2)  # output that is not captured goes to stderr
    try:
        subprocess.run(words, cwd=folder / "empty", env=environment, timeout=limit, **streams)
    except subprocess.TimeoutExpired:
        raise Wrong(f"it takes more than {limit:g} s in quick mode") from None
    if not (folder / "outputs.json").exists():
        raise Wrong("its process ended early, without a word")
    result = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
    if "error" in result:
        raise Wrong(result["error"])
    return result["outputs"]


# ---- what is written -------------------------------------------------------------------------------------


def links(chapter, chapters, zh):
    """The line of links at the top and at the bottom of a page."""
    at = [other.name for other in chapters].index(chapter.name)
    before, after = chapters[max(at - 1, 0) : at], chapters[at + 1 : at + 2]
    course, language = WORDS[zh]
    parts = [f"[← {other.title(zh)}]({other.page(zh)})" for other in before] + [f"[{course}](README.md)"]
    parts += [f"[{other.title(zh)} →]({other.page(zh)})" for other in after]
    parts += [f"[{language}]({chapter.page(not zh)})"] if chapter.has_zh else []
    return " · ".join([*parts, f"[.py]({chapter.path.name})", f"[.ipynb]({chapter.name}.ipynb)"])


def joined(text):
    """Chinese markdown without the spaces that GitHub makes of newlines.

    Removes newlines between two Chinese letters or marks, and between a mark and a word. All others stay,
    including those of code, formulas, headings and tables, and those before a list item.
    """
    lines = [""]
    for line in text.split("\n"):
        before, whole = lines[-1], "\n".join(lines)
        is_open = len(re.findall(r"^\s*```", whole, re.M)) % 2 or whole.count("$$") % 2
        prose = not is_open and not re.match(r"\s*[#|]|    ", before)
        wide = re.search(f"{WIDE}$", before) and re.match(rf"\s*{WIDE}", line)
        word = re.search(f"{MARK}$", before) and re.match(r"\s*(?!```|\d+[.)]\s)(\*{0,2}\w|[`\[])", line)
        mark = re.search(r"[^$\s]$", before) and re.match(rf"\s*{MARK}", line)
        if prose and (wide or word or mark):
            lines[-1] += line.lstrip()
        else:
            lines.append(line)
    return "\n".join(lines[1:])


def markdown(chapter, chapters, outputs, zh=False):
    """The text of a page."""
    number, bar = 0, links(chapter, chapters, zh)
    parts = [bar]
    for cell in chapter.cells:
        if cell.kind == ("zh" if zh else "en"):
            parts.append(joined(cell.text) if zh else cell.text)
        elif cell.kind in CODE:
            parts.append(folded(cell, zh))
            shown = [shown_output(output, number) for output in outputs[number]]
            if cell.kind == "answer" and shown:
                shown = [f"<details><summary>{ANSWER[zh]}</summary>", *shown, "</details>"]
            parts += shown
            for check in re.findall(r"^# (check_\w+)\(", cell.text, re.M):
                if answer := solution(chapter, check):
                    words = f"<details><summary>{SOLUTION[zh]}</summary>"
                    parts.append(f"{words}\n\n```python\n{answer}\n```\n\n</details>")
            number += 1
    return "\n\n".join([*parts, "---", bar, ending(chapter)])


@functools.cache
def parsed(path):
    """(the text of a Python file, its syntax tree); nothing if there is no such file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text, ast.parse(text)


def solution(chapter, check):
    """The right answer to an exercise as solutions.py writes it, with the functions it uses; "" if none."""
    text, tree = parsed(chapter.path.with_name("solutions.py"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if getattr(call.func, "id", "") == "Exercise" and getattr(call.args[0], "value", "") == check:
            right = next(keyword.value for keyword in call.keywords if keyword.arg == "right")
            break
    else:
        return ""
    wanted, todo = [], [right]
    while todo:
        for name in {node.id for node in ast.walk(todo.pop()) if isinstance(node, ast.Name)}:
            if name in functions and functions[name] not in wanted:
                wanted.append(functions[name])
                todo.append(functions[name])
    parts = [ast.get_source_segment(text, node) for node in sorted(wanted, key=lambda node: node.lineno)]
    if not isinstance(right, ast.Name):
        name = "answer" if not isinstance(right, ast.Lambda) else check.removeprefix("check_")
        parts.append(f"{name} = {textwrap.dedent(ast.get_source_segment(text, right))}")
    return "\n\n\n".join(parts)


def shown_output(output, number):
    """What a page shows of an output of code cell `number`."""
    if "text" in output:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", output["text"])), default=0))
        return f"{OUTPUT.format(number)}\n{fence}text\n{output['text']}\n{fence}"
    alt = re.sub(r"([\[\]\\])", r"\\\1", output["alt"])
    return f"![{alt}](img/{output['png']})"


def ending(chapter):
    """The last line of a page."""
    return f"<!-- SHA-256 of {chapter.path.name}: {chapter.sum} -->\n"


def folded(cell, zh):
    """The code of a cell on a page: as it is, or folded away."""
    code = f"```python\n{cell.text}\n```"
    if cell.kind not in FOLDED:
        return code
    return f"<details><summary>{FOLDED[cell.kind][zh]}</summary>\n\n{code}\n\n</details>"


def install_cell():
    """The first code cell of a notebook; the repository, if it has an address, comes from pyproject.toml."""
    with open(HERE.parent / "pyproject.toml", "rb") as file:
        address = tomllib.load(file)["project"].get("urls", {}).get("Repository")
    return code_cell(INSTALL.format(source=address and f"git+{address}").rstrip("\n"), "imports")


def code_cell(text, kind, outputs=()):
    """A code cell of a notebook. Editors hide the code of a folded one in three different ways."""
    hidden = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"], "cellView": "form"}
    answer = {"jupyter": {"outputs_hidden": True}, "collapsed": True}
    metadata = hidden if kind in FOLDED else answer if kind == "answer" else {}
    cell = {"cell_type": "code", "metadata": metadata}
    return cell | {"source": text.splitlines(True), "execution_count": None, "outputs": list(outputs)}


def stored(outputs, pictures):
    """What a cell printed and drew, in the form of a notebook. pictures: {file name: bytes}."""
    for output in outputs:
        if "text" in output:
            text = (output["text"] + "\n").splitlines(True)
            yield {"output_type": "stream", "name": "stdout", "text": text}
        else:
            image = base64.b64encode(pictures[output["png"]]).decode()
            data = {"image/png": image, "text/plain": [output["alt"]]}
            yield {"output_type": "display_data", "metadata": {}, "data": data}


def notebook(chapter, outputs=None, pictures=None):
    """The chapter in English as a notebook (nbformat 4.5), with the outputs of its code cells, if given."""
    cells, outputs = [], iter(outputs or [[] for _ in chapter.code()])
    for cell in chapter.cells:
        if cell.kind == "en":
            cells.append({"cell_type": "markdown", "metadata": {}, "source": cell.text.splitlines(True)})
        elif cell.kind in CODE:
            cells += [] if any(c["cell_type"] == "code" for c in cells) else [install_cell()]
            cells.append(code_cell(cell.text, cell.kind, stored(next(outputs), pictures)))
    cells = [cell | {"id": f"cell-{n}"} for n, cell in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def without_outputs(text):
    """A notebook's text with no outputs, as `notebook` writes it; what is no notebook stays as it is."""
    try:
        whole = json.loads(text)
        for cell in whole["cells"]:
            cell |= {"outputs": []} if "outputs" in cell else {}
    except (ValueError, KeyError, TypeError):
        return text
    return json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def recorded(chapter, work):
    """The outputs that a chapter's notebook holds, pictures in `work`. Raises Wrong if code has changed."""
    cells = json.loads(chapter.path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"][1:]  # without the one that installs
    if ["".join(cell["source"]) for cell in code] != [cell.text for cell in chapter.code()]:
        raise Wrong("its code is not that of its notebook; render it without --prose")
    outputs, number = [], 0
    for cell in code:
        outputs.append([])
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                outputs[-1].append({"text": "".join(output["text"])[:-1]})
            else:
                number += 1
                name, data = f"{chapter.name}-{number}.png", output["data"]
                (Path(work) / name).write_bytes(base64.b64decode(data["image/png"]))
                outputs[-1].append({"png": name, "alt": "".join(data["text/plain"])})
    return outputs


def render(chapter, chapters, source=run):
    """Run a chapter and write its pages; returns the seconds. If the chapter fails, no file is changed.

    source: where outputs come from, `run` or `recorded`.
    """
    folder, files, begin = chapter.path.parent, {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        outputs = source(chapter, work)
        for path in Path(work).glob("*.png"):
            (folder / "img").mkdir(exist_ok=True)
            files[folder / "img" / path.name] = path.read_bytes()
    for zh in {False, chapter.has_zh}:
        files[folder / chapter.page(zh)] = markdown(chapter, chapters, outputs, zh).encode()
    pictures = {path.name: content for path, content in files.items() if path.suffix == ".png"}
    files[chapter.path.with_suffix(".ipynb")] = notebook(chapter, outputs, pictures).encode()
    for path, content in files.items():
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    for path in [*folder.glob(f"img/{chapter.name}-*.png"), folder / f"{chapter.name}.zh.md"]:
        if path not in files:
            path.unlink(missing_ok=True)
    return time.perf_counter() - begin


def play(chapter):
    """Run a chapter: print its headings and outputs, and save its figures; returns the seconds."""
    begin, folder, number = time.perf_counter(), Path.cwd() / chapter.name, 0
    with tempfile.TemporaryDirectory() as work:
        outputs = run(chapter, work)
        for cell in chapter.cells:
            for heading in re.findall(r"^#+ .*", cell.text, re.M) if cell.kind == "en" else ():
                print(heading)
            for output in outputs[number] if cell.kind in CODE else ():
                if "png" in output:
                    folder.mkdir(exist_ok=True)
                    (folder / output["png"]).write_bytes((Path(work) / output["png"]).read_bytes())
                print(output.get("text") or f"figure: {folder / output['png']}")
            number += cell.kind in CODE
    return time.perf_counter() - begin


def check(chapter, chapters, solutions, limit):
    """(everything that is wrong with a chapter, one line each; the seconds that it ran)."""
    errors, outputs, begin = [], None, time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        try:
            outputs = run(chapter, work, solutions, limit)
        except Wrong as error:
            errors.append(str(error))
    seconds = time.perf_counter() - begin
    if chapter.has_zh and (cell := chapter.untranslated()):
        errors.append(f"line {cell.line}: this English cell has no Chinese one behind it")
    for zh in (False, True)[: 1 + chapter.has_zh]:
        path = chapter.path.with_name(chapter.page(zh))
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        if not page.endswith(ending(chapter)):
            errors.append(f"{path.name} was not made from this {chapter.path.name}; render it again")
            continue
        if not page.startswith(links(chapter, chapters, zh) + "\n"):
            what = "the links at its top are not those to its neighbours"
            errors.append(f"{path.name}: {what}; render it again")
        recorded = {int(n): text for n, _, text in RECORDED.findall(page)}
        for n, (cell, shown) in enumerate(zip(chapter.code(), outputs, strict=True) if outputs else []):
            old, new = recorded.get(n, ""), "".join(output.get("text", "") for output in shown)
            if cell.kind in EXACT and old != new:
                where = f"line {cell.line}: the output of this exact cell is not that of {path.name}"
                errors.append(f"{where}: {first_difference(old, new)}")
        prose = re.sub(r"^(`{3,}).*?^\1$|`[^`\n]*`", "", page, flags=re.M | re.S)
        for target in dict.fromkeys(re.findall(r"(?<!\\)\]\(([^)\s]+)", prose)):
            name = target.partition("#")[0]
            if name and ":" not in name and not (path.parent / name).exists():
                errors.append(f"{path.name} points to {target}, which does not exist")
    path = chapter.path.with_suffix(".ipynb")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if without_outputs(text) != notebook(chapter):
        errors.append(f"{path.name} is not what {chapter.path.name} gives; render it again")
    return errors, seconds


def first_difference(old, new):
    """The first line in which two texts differ, as a message."""
    lines = zip_longest(old.split("\n"), new.split("\n"))
    return next(f"line {n} is now {b!r}, was {a!r}" for n, (a, b) in enumerate(lines) if a != b)


# ---- the command -----------------------------------------------------------------------------------------


def chosen(names, folder):
    """(all chapters of a folder, those that were named)."""
    paths = [*folder.glob("start.py"), *sorted(folder.glob("[0-9][0-9]_*.py"))]
    paths += [path for name in ("museum", "questions") for path in folder.glob(f"{name}.py")]
    wanted, chapters, bad = [], [], []
    for name in [Path(name).name.removesuffix(".py") for name in names]:
        named = [path for path in paths if name in (path.stem, path.stem[:2])]
        if not named:
            names_of_all = ", ".join(path.stem for path in paths) or "none"
            raise Wrong(f"no chapter {name!r} in {folder}; there are {names_of_all}")
        wanted += named
    for path in paths:  # a half-written chapter next to the named ones is left out
        try:
            chapters.append(Chapter(path))
        except Wrong as error:
            bad += [str(error)] if not names or path in wanted else []
    if bad:
        raise Wrong("; ".join(bad))
    return chapters, [chapter for chapter in chapters if not names or chapter.path in wanted]


def main(arguments=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME")
    add("--check", action="store_true", help="write nothing; exit code 1 if a chapter or its page is wrong")
    add("--run", action="store_true", help="print headings and outputs, and save figures in a folder here")
    add("--prose", action="store_true", help="keep the outputs; an error if code has changed")
    add("--folder", type=Path, default=HERE, help="folder of the chapters (default: that of this file)")
    add("--solutions", type=Path, help="answers to the exercises (default: solutions.py in that folder)")
    add("--limit", type=float, default=600.0, help="time limit of --check per chapter, in seconds (600)")
    add("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        return child(*args.child)
    folder, failures, total = args.folder.resolve(), 0, 0.0
    solutions = (args.solutions or folder / "solutions.py").resolve()
    try:
        if args.solutions and not solutions.is_file():
            raise Wrong(f"--solutions {args.solutions}: there is no such file")
        chapters, wanted = chosen(args.names, folder)
    except Wrong as error:
        print(f"render: error: {error}", file=sys.stderr)
        return 2
    for chapter in wanted:
        errors, seconds = [], 0.0
        try:
            if args.check:
                errors, seconds = check(chapter, chapters, solutions, args.limit)
            else:
                source = recorded if args.prose else run
                seconds = play(chapter) if args.run else render(chapter, chapters, source)
        except Wrong as error:
            errors = [str(error)]
        for line in errors:
            print(f"{chapter.name}: {line}")
        print(f"{chapter.name:<40} {seconds:6.1f} s  {'FAILED' if errors else 'ok'}", flush=True)
        failures, total = failures + bool(errors), total + seconds
    print(f"{f'chapters: {len(wanted)}, failed: {failures}':<40} {total:6.1f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
