"""What a chapter is, and what is written of it: the page in English and in Chinese, and the notebook.

`render.py` runs chapters and calls this; its docstring says what a chapter looks like.
"""

import ast
import base64
import functools
import hashlib
import json
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pictures import Wrong, labels_of

HERE = Path(__file__).resolve().parent
OUTPUT = "<!-- output of code cell {} -->"
RECORDED = re.compile(r"^<!-- output of code cell (\d+) -->\n(`{3,})text\n(.*?)\n\2$", re.M | re.S)
FOLDED = {  # what a page says in place of the code: English, Chinese
    "imports": ("Imports", "导入"),
    "check": ("The check", "检查答案的代码"),
    "setup": ("Setup", "准备工作"),
}
ANSWER, SOLUTION = ("Answer", "答案"), ("A solution", "一种解法")
EXACT = ("exact", "answer", "toy")
CODE = ("code", *EXACT, *FOLDED)
LINK = re.compile(r"(?<!\\)\]\((?![a-z]+:|#)")  # to a file; notebooks are a folder deeper
INSTALL = """\
# Run this cell first where minglm is not installed yet: in a hosted notebook, or in an empty folder.
# SOURCE is anything that pip can install: the folder of a clone, a wheel, or git+https://...
import importlib.util
import os

SOURCE = os.environ.get("MINGLM_SOURCE") or ("../.." if os.path.exists("../../setup.py") else {source!r})
if importlib.util.find_spec("minglm") is None:
    assert SOURCE, "minglm is not installed: set SOURCE to a clone, a wheel or git+https://... and run again"
    %pip install -q {{SOURCE}}
%matplotlib inline
"""
WORDS = {False: ("The course", "中文"), True: ("课程目录", "English")}
MARK = "[\u3001-\u301f\uff01-\uff0f\uff1a-\uff20“”‘’…—]"  # Chinese punctuation
WIDE = f"(?:[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]|{MARK})"  # and letters

ZH = r"^(# %% \[markdown\] zh) ([0-9a-f]{6})$"  # the header of a stamped Chinese cell


# ---- what a chapter is -----------------------------------------------------------------------------------


class Cell(NamedTuple):
    kind: str  # "en", "zh", or one of CODE
    line: int  # the line of its first text in the file
    text: str
    stamp: str = ""  # of a Chinese cell: the digest of the English text that it says, if it was stamped


class Chapter:
    """A source file, cut into cells. Raises Wrong, with the line, if the file is not a chapter."""

    KINDS = {"": "code", "[markdown]": "en", "[markdown] zh": "zh", **{name: name for name in CODE[1:]}}

    def __init__(self, path):
        self.path, self.name, self.cells = path, path.stem, []
        self.source = path.read_text(encoding="utf-8")
        # stamps are no part of a page: stamping makes no page out of date
        self.sum = hashlib.sha256(re.sub(ZH, r"\1", self.source, flags=re.M).encode()).hexdigest()
        lines = self.source.split("\n")
        heads = [n for n, line in enumerate(lines) if re.match(r"# ?%%", line)]
        if any(line.strip() for line in lines[: heads[0] if heads else None]):
            self.refuse(1, "a chapter begins with a cell: # %% [markdown]")
        for head, end in zip(heads, [*heads[1:], len(lines)], strict=True):
            stamp = re.fullmatch(ZH, lines[head])
            tag = (stamp[1] if stamp else lines[head]).removeprefix("# %%").strip()
            if tag not in self.KINDS or not lines[head].startswith("# %%"):
                accepted = f"# %% followed by one of {list(self.KINDS)} is accepted"
                self.refuse(head + 1, f"unknown cell {lines[head]!r}; {accepted}")
            self.add(self.KINDS[tag], head + 1, lines[head + 1 : end], stamp[2] if stamp else "")
        if not self.cells or self.cells[0].kind != "en" or not self.cells[0].text.startswith("# "):
            self.refuse(1, "the first cell is English markdown and begins with the title")

    def refuse(self, line, why):  # line: counted from 1
        raise Wrong(f"{self.path.name}:{line}: {why}")

    def add(self, kind, line, lines, stamp):
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
        self.cells.append(Cell(kind, line, text, stamp))

    @property
    def has_zh(self):
        return any(cell.kind == "zh" for cell in self.cells)

    def code(self):
        return [cell for cell in self.cells if cell.kind in CODE]

    def has_toy(self):
        """Whether the Chinese page needs a run of its own."""
        return self.has_zh and any(cell.kind == "toy" for cell in self.cells)

    def untranslated(self):
        """The first English cell without a Chinese translation, or None."""
        pairs = zip(self.cells, [*self.cells[1:], None], strict=True)
        return next((a for a, b in pairs if a.kind == "en" and (b is None or b.kind != "zh")), None)

    def title(self, zh):
        kind = "zh" if zh and self.has_zh else "en"
        return next(cell.text.split("\n")[0].lstrip("# ") for cell in self.cells if cell.kind == kind)

    @property
    def notebook(self):
        """The path of its notebook."""
        return self.path.parent / "notebooks" / f"{self.name}.ipynb"

    def page(self, zh):
        return f"{self.name}.zh.md" if zh and self.has_zh else f"{self.name}.md"


# ---- what is written -------------------------------------------------------------------------------------


def links(chapter, chapters, zh):
    """The line of links at the top and at the bottom of a page."""
    at = [other.name for other in chapters].index(chapter.name)
    before, after = chapters[max(at - 1, 0) : at], chapters[at + 1 : at + 2]
    course, language = WORDS[zh]
    chinese = zh and chapter.path.with_name("README.zh.md").exists()
    index = "README.zh.md" if chinese else "README.md"
    parts = [f"[← {other.title(zh)}]({other.page(zh)})" for other in before] + [f"[{course}]({index})"]
    parts += [f"[{other.title(zh)} →]({other.page(zh)})" for other in after]
    parts += [f"[{language}]({chapter.page(not zh)})"] if chapter.has_zh else []
    return " · ".join([*parts, f"[.py]({chapter.path.name})", f"[.ipynb](notebooks/{chapter.name}.ipynb)"])


class Exercise(NamedTuple):
    """check: a function's name in the chapter; right: an answer, often a function; wrong: likely mistakes."""

    check: str
    right: Any
    wrong: list


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
            shown = [shown_output(output, number, zh) for output in outputs[number]]
            if cell.kind == "answer" and shown:
                shown = [f"<details><summary>{ANSWER[zh]}</summary>", *shown, "</details>"]
            parts += shown
            for check in re.findall(r"^# (check_\w+)\(", cell.text, re.M):
                if answer := solution(chapter, check):
                    words = f"<details><summary>{SOLUTION[zh]}</summary>"
                    parts.append(f"{words}\n\n```python\n{answer}\n```\n\n</details>")
            number += 1
    return "\n\n".join([*parts, "---", bar, ending(chapter, zh)])


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


def spoken(output, zh):
    """An output, {"text"} or {"png", "alt"}, in the language of the page."""
    return output.get("zh", output) if zh else output


def shown_output(output, number, zh=False):
    """What a page shows of an output of code cell `number`."""
    output = spoken(output, zh)
    if "text" in output:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", output["text"])), default=0))
        return f"{OUTPUT.format(number)}\n{fence}text\n{output['text']}\n{fence}"
    alt = re.sub(r"([\[\]\\])", r"\\\1", output["alt"])
    return f"![{alt}](img/{output['png']})"


def ending(chapter, zh=False):
    """The last line of a page: what it was made from. The labels of pictures are only on the Chinese one."""
    path, text = labels_of(chapter)
    line = f"<!-- SHA-256 of {chapter.path.name}: {chapter.sum} -->\n"
    return f"<!-- SHA-256 of labels/{path.name}: {digest(text)} -->\n{line}" if zh and text else line


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


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
            text = LINK.sub("](../", cell.text)
            cells.append({"cell_type": "markdown", "metadata": {}, "source": text.splitlines(True)})
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
