"""Gathers what the site shows, as Markdown in its own folders, and adds the explorer at the end."""

import html
import inspect
import os
import posixpath
import re
import shlex
import textwrap
from pathlib import Path
from urllib.parse import urlencode

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

import minglm
from minglm.viz import page
from minglm.viz.derivation import EXAMPLE, explain

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(`{3,}).*?^\1[^\S\n]*$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
COMMAND = re.compile(
    r"(?:<!-- output of code cell \d+ -->\n)?^(`{3,})\w*\n(minglm explore \"[^\n]*--open)\n\1$", re.M
)
FOLDERS = "csrc minglm tests tutorials".split()
APPS = ("explorer.html", "cell.html", "story.html", "alive.html")
NAMED = {  # what Sphinx and furo leave without a level, a name or a text
    'class="caption" role="heading"': 'class="caption" role="heading" aria-level="2"',
    '<aside class="sidebar-drawer"': '<aside aria-label="All pages" class="sidebar-drawer"',
    '<aside class="toc-drawer': '<aside aria-label="This page" class="toc-drawer',
    '<th class="head"><p></p></th>': '<td class="head"></td>',
}
FRONT = """\
# minglm: GLM, understood

GLM, the General Language Model, learns to read and to write by **filling blanks**: spans of a text are
removed, and the model writes them back, one token after the other. One integer says who sees whom. Break the
rule below, and see what a model would learn.

[Install](README.md#install) · [In 20 minutes](tutorials/start.md) · [The course](tutorials/README.md) ·
[Puzzles](tutorials/puzzles.md) · [中文](index.zh.md) ·
<a href="alive.html">this page with a model alive in it (6 MB)</a>

<iframe class="story" src="story.html" title="Break the mask: an interactive story about GLM"></iframe>
"""
FRONT_ZH = """\
# minglm：读懂 GLM

GLM（通用语言模型，General Language Model）靠**自回归空白填充**来学会读和写：把文本里的几个片段挖掉，\
再由模型一个 token 一个 token 地写回来。谁能看到谁，只由一个整数决定。\
下面可以亲手打破这条规则，看看模型会学成什么样。

[安装](README.zh.md#安装) · [20 分钟](tutorials/start.zh.md) · [教程](tutorials/README.zh.md) ·
[动手题](tutorials/puzzles.zh.md) · [English](index.md) ·
<a href="alive.html?lang=zh">同一页，带一个能运行的模型（6 MB）</a>

<iframe class="story" src="story.html?lang=zh" title="打破掩码：关于 GLM 的互动故事"></iframe>
"""
MENU = {
    "Begin": "README tutorials/README tutorials/start tutorials/questions tutorials/why",
    "Understand": "00 01 02 03 04 05 06 07",
    "Use": "08 09 10 tutorials/running tutorials/cluster tutorials/with_other_tools",
    "Make it fast": "11 12 13 csrc/README",
    "Build, break, measure": "tutorials/puzzles tutorials/museum tutorials/results/README",
    "Reference": "api",
}


def gather(root, out):
    """Write everything that Sphinx reads to `out`."""
    texts = [root / "README.md", root / "README.zh.md"]
    texts += [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.md"))]
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in texts}
    texts = {name: text for name, text in texts.items() if not name.startswith("tutorials/book/")}
    sources, made = {}, {}
    for name, text in texts.items():
        made[name] = whole(name, text, root, texts, sources)
    made["api.md"] = api(root, sources)
    made["index.md"], made["index.zh.md"] = FRONT + menu(texts), FRONT_ZH
    done = set()
    while todo := sorted(set(sources) - done):
        for name in todo:
            made[sources[name]] = source(root, name, sources)
        done |= set(todo)
    for name, text in made.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(switched(name, text), encoding="utf-8")
    for name in ("tutorials/img", "tutorials/results"):
        for path in (root / name).iterdir():
            if path.suffix in (".png", ".svg"):
                (out / name).mkdir(parents=True, exist_ok=True)
                (out / name / path.name).write_bytes(path.read_bytes())
    (out / "tutorials/notebooks").mkdir(parents=True, exist_ok=True)
    for path in (root / "tutorials/notebooks").glob("*.ipynb"):
        (out / "tutorials/notebooks" / path.name).write_bytes(path.read_bytes())


def whole(name, text, root, texts, sources):
    """A page's text: its links lead to pages, no bars of links, the explorer in its place."""
    folder = posixpath.dirname(name)
    lines = text.split("\n")
    if ".ipynb)" in lines[0]:
        parts = [part for part in lines[0].split(" · ") if re.match(r"\[(中文|English|\.py|\.ipynb)\]", part)]
        body = "\n".join(lines[1:]).rpartition("\n---\n")[0]
        head, _, rest = body.lstrip().partition("\n")
        text = f"{head}\n\n{' · '.join(parts)}\n\n{rest}"

    def to(match):
        label, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if ":" in target or target.startswith("/") or target.endswith((".ipynb", ".png", ".svg")):
            return match.group()
        path = posixpath.normpath(posixpath.join(folder, target))
        if path in texts:
            return match.group()
        if not (root / path).exists():
            raise SystemExit(f"book: error: {name} points to {target}, which does not exist")
        if f"{path}/README.md" in texts and (root / path).is_dir():
            return f"[{label}]({posixpath.relpath(f'{path}/README.md', folder or '.')})"
        sources[path] = f"source/{path}.md"
        return f"[{label}]({posixpath.relpath(sources[path], folder or '.')}{anchor})"

    text = COMMAND.sub(lambda match: explorer(match.group(2), folder, ".zh." in name), text)
    parts, end = [], 0
    for fence in FENCE.finditer(text):  # links in code stay code
        parts += [LINK.sub(to, text[end : fence.start()]), fence.group().replace("```console", "```text", 1)]
        end = fence.end()
    text = "".join([*parts, LINK.sub(to, text[end:])])
    if re.search("^# ", text, re.M):
        return text
    return f"# {name}\n\n{text}"  # where texts come from, licences: short files without a title


def switched(name, text):
    """A page with a way to the other language: to its Chinese front page, where there is no Chinese twin."""
    if re.search(r"^[^`\n]*\[(中文|English)\]\(", text, re.M):
        return text
    front = posixpath.relpath("index.zh.md", posixpath.dirname(name) or ".")
    return re.sub(r"^# .*$", lambda title: f"{title.group()}\n\n[中文]({front})", text, count=1, flags=re.M)


def explorer(command, folder, zh):
    """The command as an embedded explorer, opened at the same cell, with the command under it."""
    words = shlex.split(command)
    options = dict(zip(words[3::2], words[4::2], strict=False))
    state = [("t", token) for token in words[2].split()] + [("cut", "words")]
    state += [("spans", options["--spans"])]
    state += [("order", ",".join(str(int(n) - 1) for n in options["--order"].split(",")))]
    state += [("objective", options["--objective"])] if "--objective" in options else []
    state += [("pin", options["--pin"])] if "--pin" in options else []
    file = posixpath.relpath("explorer.html", folder or ".") + "?lang=zh" * zh
    address = f"{file}#{urlencode(state)}"
    address, words = (
        html.escape(address),
        ("在单独的页面打开", "掩码浏览器") if zh else ("Open it on its own", "The explorer"),
    )
    inner = address.replace("explorer.html", "cell.html") if "--pin" in options else address
    frame = f'<iframe class="explorer" loading="lazy" src="{inner}" title="{words[1]}"></iframe>'
    return f'{frame}\n\n<p><a href="{address}">{words[0]}</a></p>\n\n```sh\n{command}\n```'


def menu(texts):
    """The order of the pages, which previous and next follow: English, then Chinese, then sources."""
    names = {name.removesuffix(".md") for name in texts}
    parts, chinese = [], []
    for caption, entries in MENU.items():
        found = []
        for entry in entries.split():
            found += (
                sorted(n for n in names if re.match(rf"tutorials/{entry}_[^.]*$", n))
                if entry.isdigit()
                else [entry]
            )
        parts.append((caption, found))
        chinese += [f"{name}.zh" for name in found if f"{name}.zh" in names]
    parts += [("中文", ["首页 <index.zh>", *chinese])]
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {head}\n\n" + "\n".join(body) + "\n```" for head, body in parts
    ]
    return "\n" + "\n\n".join(trees) + "\n"


def source(root, name, sources):
    """A file as a page with numbered lines, or a folder as a list."""
    path = root / name
    if path.is_dir():
        rows = [f"# {name}\n"]
        for inner in sorted(path.iterdir()):
            inside = f"{name}/{inner.name}"
            if inner.is_file() and inner.suffix == ".py":
                sources.setdefault(inside, f"source/{inside}.md")
            if inside in sources:
                here = f"source/{posixpath.dirname(name)}"
                rows.append(f"- [{inner.name}]({posixpath.relpath(sources[inside], here)})")
            elif not inner.name.startswith((".", "__pycache__")):
                rows.append(f"- {inner.name}")
        return "---\norphan: true\n---\n\n" + "\n".join(rows) + "\n"
    text = path.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    code = highlight(text, lexer, HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=False))
    code = code.replace("<pre>", '<pre tabindex="0">', 1)
    return f"---\norphan: true\n---\n\n# {name}\n\n````````{{raw}} html\n{code}\n````````\n"


def api(root, sources):
    """The public names with signature, docstring and a link to the line where each is defined."""
    parts = [
        "# Python API\n\n`from minglm import ...` has these names; each links to the line that defines it.\n"
    ]
    for name in sorted(minglm.HOMES, key=str.lower):
        thing = inspect.unwrap(getattr(minglm, name))
        parts.append(f"## {name}\n\n{entry(root, thing, name, sources)}")
        for inner, member in vars(thing).items() if inspect.isclass(thing) else ():
            member = inspect.unwrap(getattr(member, "__func__", member))
            if not inner.startswith("_") and inspect.isfunction(member) and member.__doc__:
                parts.append(f"### {name}.{inner}\n\n{entry(root, member, inner, sources)}")
    return "\n".join(parts)


def entry(root, thing, name, sources):
    try:
        signature = str(inspect.signature(thing))
    except (TypeError, ValueError):
        signature = ""
    if len(signature) > 80:
        signature = signature.replace("(", "(\n    ", 1).replace(", ", ",\n    ")
    path = Path(inspect.getsourcefile(thing)).resolve().relative_to(root).as_posix()
    sources[path] = f"source/{path}.md"
    line = inspect.getsourcelines(thing)[1] or 1
    words = textwrap.dedent(inspect.getdoc(thing) or "")
    link = f'<a href="source/{path}.html#L-{line}">{path}, line {line}</a>'
    return f"```python\n{name}{signature}\n```\n\n```text\n{words}\n```\n\n{link}\n"


def finish(root, out):
    """Add the explorer, the story and their model; Chinese pages say that they are Chinese."""
    paper = explain(*EXAMPLE)
    text = page.html(paper, story=False)
    (out / "explorer.html").write_text(text, encoding="utf-8")
    # what a chapter embeds where it asks about a cell begins with the mask
    style = text.partition("<style>")[2].partition("</style>")[0]
    mask_first = style + "\n.top, #sentence, #stage { display: none; }\n"
    text = text.replace(page.digest(style), page.digest(mask_first), 1).replace(style, mask_first, 1)
    (out / "cell.html").write_text(text, encoding="utf-8")
    (out / "story.html").write_text(page.html(paper), encoding="utf-8")
    from minglm.cli import main

    if main(["explore", "--out", os.fspath(out / "alive.html")]):
        raise SystemExit("book: error: the page with the model was not written")
    for name in ("tutorials/img", "tutorials/results"):
        (out / name).mkdir(parents=True, exist_ok=True)
        for path in (root / name).glob("*.*g"):
            (out / name / path.name).write_bytes(path.read_bytes())
    for path in set(out.rglob("*.html")) - {out / name for name in APPS}:
        text = path.read_text(encoding="utf-8")
        for old, new in NAMED.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    for path in out.rglob("*.zh.html"):
        text = path.read_text(encoding="utf-8").replace('lang="en"', 'lang="zh-CN"', 1)
        for english, chinese in (("Next", "下一页"), ("Previous", "上一页"), ("On this page", "本页内容")):
            text = re.sub(rf"(>\s*){english}(\s*<)", rf"\g<1>{chinese}\g<2>", text)
        # its own language comes first in the menu
        menu = re.compile(
            r'(<div class="sidebar-tree">\s*)(.*)(<p class="caption"[^>]*><span[^>]*>中文.*?)(</div>)', re.S
        )
        text = menu.sub(r"\1\3\2\4", text, count=1)
        path.write_text(text, encoding="utf-8")
