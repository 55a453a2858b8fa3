"""Renders the chapters: runs NN_name.py, writes NN_name.md, NN_name.zh.md, notebooks/NN_name.ipynb,
img/NN_name-K.png and, where its labels differ in Chinese, img/NN_name-K.zh.png.

    python tutorials/render.py [NAME ...]            all chapters, or those named: 02, 02_two_positions
    python tutorials/render.py --check [NAME ...]    only checks that they run and match their pages
    python tutorials/render.py --run NAME ...        prints headings and outputs, saves figures in ./NAME/
    python tutorials/render.py --prose [NAME ...]    writes pages anew with the outputs that their notebooks
                                                     hold, where only text has changed
    python tutorials/render.py --stamp [NAME ...]    after someone compared the Chinese texts with the English
                                                     ones: writes into each which English text it says

A page that no chapter makes (running.md) has a Chinese twin (running.zh.md), which --stamp stamps, section by
section, and --check compares.

A chapter is Python in cells; the first is markdown and begins with the title. start.py comes before the
numbered ones, museum.py and questions.py after them. A header says what a cell is:

    # %% [markdown]       English, each line begins with "# "
    # %% [markdown] zh    the cell above it in Chinese; lines of a paragraph are joined. --stamp puts a digest
                          of the English text behind zh; --check fails once the English text differs
    # %%                  code
    # %% exact            code whose output is always the same, even in quick mode: --check compares it
    # %% toy              an exact cell with an example that minglm has in each language. For the Chinese page
                          the chapter runs again with MINGLM_LANG=zh, so outputs and pictures are Chinese
    # %% imports          code that a page and a notebook fold away: imports,
    # %% check            the check of an exercise,
    # %% setup            and what only prepares the next cells
    # %% answer           an exact cell whose output is folded away: the answer to a puzzle

Below a cell, the page shows what it prints, its last expression (a str as it is; any other value as its repr;
None is omitted) and its figures: those of pyplot that it leaves open, and one that is its last expression. A
figure needs `alt_text`, a sentence, and is shown once. The cells of a chapter run in one namespace, named
__main__, in a new process that starts in an empty folder. The page does not show stderr, or output that
bypasses Python (other programs, C++). MINGLM_FAST=1 in the environment makes a quick page, as a preview;
--check always runs in quick mode, and tests the checks of the exercises on the answers in solutions.py.

The Chinese page shows the same figures with Chinese labels and alt_text: a line `English = Chinese` for each
in labels/NN.txt (labels/start.txt, ...), unless minglm/viz/words has it. A name that stays is on both sides.
viz/words/labels.py says what else a line may be. A font with Chinese letters draws them.

Exit code: 0; 1 if a chapter fails, with one line per failure (after a traceback, if any); 2 for wrong usage.
"""

import argparse
import ast
import base64
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import types
from contextlib import redirect_stdout
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out
from pages import (
    CODE,
    EXACT,
    RECORDED,
    Chapter,
    Wrong,
    ending,
    links,
    markdown,
    notebook,
    spoken,
    without_outputs,
)
from pictures import labels_of, prepare_letters, recorded_chinese, save, undrawn, without_translation
from twins import differences, page_differences, stamped, stamped_page, written

HERE = Path(__file__).resolve().parent

# ---- running it in a process of its own ------------------------------------------------------------------


def outputs_of(chapter, folder):
    """Run the cells; returns the namespace and, for each code cell, a list of {"text"} or {"png", "alt"}.

    Pictures are saved in `folder`. For a Chinese page, a picture also has "zh", see pictures.py.
    """
    main = types.ModuleType("__main__")
    main.__file__ = str(chapter.path)
    sys.modules["__main__"], sys.argv = main, [str(chapter.path)]
    prepare_letters()
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
                outputs[-1].append(save(figure, folder / f"{chapter.name}-{len(seen)}.png", cell, chapter))
        if plt:
            plt.close("all")
    return main.__dict__, outputs


def solve(chapter, namespace, path):
    """Test the checks of a chapter on the answers in a file of solutions; raises Wrong if one fails."""
    answers = runpy.run_path(str(path), run_name="solutions") if path.exists() else {}
    exercises = answers.get("SOLUTIONS", {}).get(chapter.name, [])
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
    """Run a chapter, and with a toy cell once more in Chinese, which is the "zh" of each output.

    Arguments and what is returned are those of `run_in`.
    """
    outputs = run_in("en", chapter, folder, solutions, limit)
    if chapter.has_toy():
        with tempfile.TemporaryDirectory() as work:
            chinese = run_in("zh", chapter, work, None, limit)
            for path in Path(work).glob("*.zh.png"):
                shutil.copy(path, folder)
        for cell, here, there in zip(chapter.code(), outputs, chinese, strict=True):
            if ["text" in output for output in here] != ["text" in output for output in there]:
                raise Wrong(f"line {cell.line}: this cell does not show the same things in Chinese")
            for output, other in zip(here, there, strict=True):
                output["zh"] = other.get("zh", other)
    return outputs


def run_in(language, chapter, folder, solutions=None, limit=None):
    """Run a chapter in a new process (with a limit: in quick mode); returns its outputs.

    language: that of its toy. Pictures are saved in `folder`.
    """
    folder = Path(folder)
    (folder / "empty").mkdir()
    words = [sys.executable, __file__, "--child", chapter.path, folder, solutions or ""]
    environment = os.environ | {"MPLBACKEND": "Agg", "MINGLM_LANG": language}
    environment |= {"MINGLM_FAST": "1"} if limit else {}
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


def recorded(chapter, work):
    """The outputs that a chapter's notebook holds, pictures in `work`. Raises Wrong if code has changed."""
    if chapter.has_toy():
        raise Wrong("its notebook does not hold the outputs of its Chinese page; render it without --prose")
    cells = json.loads(chapter.notebook.read_text(encoding="utf-8"))["cells"]
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
                output = {"png": name, "alt": "".join(data["text/plain"])}
                if chapter.has_zh:
                    output["zh"] = recorded_chinese(chapter, work, name, output["alt"])
                outputs[-1].append(output)
    return outputs


def render(chapter, chapters, source=run):
    """Run a chapter and write its pages; returns the seconds. If the chapter fails, no file is changed.

    source: where outputs come from, `run` or `recorded`.
    """
    folder, files, begin = chapter.path.parent, {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        outputs = source(chapter, work)
        if errors := without_translation(chapter, outputs):
            raise Wrong("; ".join(errors))
        if lacking := undrawn(outputs):
            what = "no installed font has Chinese letters; install one, such as Noto Sans CJK"
            raise Wrong(f"{lacking[0]} cannot be drawn: {what} (Debian: fonts-noto-cjk)")
        for path in Path(work).glob("*.png"):
            files[folder / "img" / path.name] = path.read_bytes()
    for zh in {False, chapter.has_zh}:
        files[folder / chapter.page(zh)] = markdown(chapter, chapters, outputs, zh).encode()
    pictures = {path.name: content for path, content in files.items() if path.suffix == ".png"}
    files[chapter.notebook] = notebook(chapter, outputs, pictures).encode()
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        write_whole(path, content)
    for path in [*folder.glob(f"img/{chapter.name}-*.png"), folder / f"{chapter.name}.zh.md"]:
        if path not in files:
            path.unlink(missing_ok=True)
    return time.perf_counter() - begin


def write_whole(path, content):
    """Write a file completely or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def play(chapter):
    """Run a chapter: print its headings and outputs, and save its figures; returns the seconds."""
    begin, folder, number = time.perf_counter(), Path.cwd() / chapter.name, 0
    with tempfile.TemporaryDirectory() as work:
        outputs = run_in("en", chapter, work)
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
    errors += differences(chapter)
    errors += without_translation(chapter, outputs or [])
    if lacking := undrawn(outputs or []):
        what = "no installed font has Chinese letters"
        print(f"{chapter.name}: {len(lacking)} Chinese pictures were not drawn: {what}")
    for zh in (False, True)[: 1 + chapter.has_zh]:
        path = chapter.path.with_name(chapter.page(zh))
        page = path.read_text(encoding="utf-8") if path.exists() else ""
        if not page.endswith(ending(chapter, zh)):
            source = f"this {chapter.path.name}" + " and its labels" * (zh and labels_of(chapter)[0].exists())
            errors.append(f"{path.name} was not made from {source}; render it again")
            continue
        if not page.startswith(links(chapter, chapters, zh) + "\n"):
            what = "the links at its top are not those to its neighbours"
            errors.append(f"{path.name}: {what}; render it again")
        pictures = [
            f"img/{spoken(output, zh)['png']}"
            for shown in outputs or []
            for output in shown
            if "png" in output
        ]
        if outputs and pictures != (
            there := re.findall(rf"^!\[.*\]\((img/{chapter.name}-\d.*)\)$", page, re.M)
        ):
            errors.append(f"{path.name} shows {there}; its cells draw {pictures}")
        recorded = {int(n): text for n, _, text in RECORDED.findall(page)}
        for n, (cell, shown) in enumerate(zip(chapter.code(), outputs, strict=True) if outputs else []):
            old, new = recorded.get(n, ""), "".join(spoken(output, zh).get("text", "") for output in shown)
            if cell.kind in EXACT and old != new:
                where = f"line {cell.line}: the output of this exact cell is not that of {path.name}"
                errors.append(f"{where}: {first_difference(old, new)}")
        prose = re.sub(r"^(`{3,}).*?^\1$|`[^`\n]*`", "", page, flags=re.M | re.S)
        for target in dict.fromkeys(re.findall(r"(?<!\\)\]\(([^)\s]+)", prose)):
            name = target.partition("#")[0]
            if name and ":" not in name and not (path.parent / name).exists():
                errors.append(f"{path.name} points to {target}, which does not exist")
    path = chapter.notebook
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


def take_written(names, folder):
    """({name: both paths} of the named pages without a chapter, or of all; other names, None: none left)."""
    stems = {name: Path(name).name.removesuffix(".md").removesuffix(".zh") for name in names}
    every = written(folder)
    wanted = {name: paths for name, paths in every.items() if not names or name in stems.values()}
    others = [name for name, stem in stems.items() if stem not in every]
    return wanted, others if others or not names else None


def main(arguments=None):
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME")
    add("--check", action="store_true", help="write nothing; exit code 1 if a chapter or its page is wrong")
    add("--run", action="store_true", help="print headings and outputs, and save figures in a folder here")
    add("--prose", action="store_true", help="keep the outputs; an error if code has changed")
    add(
        "--stamp",
        action="store_true",
        help="the Chinese texts say what the English ones say: note it in them",
    )
    add("--folder", type=Path, default=HERE, help="folder of the chapters (default: that of this file)")
    add("--limit", type=float, default=600.0, help="time limit of --check per chapter, in seconds (600)")
    add("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        return child(*args.child)
    folder, failures, total = args.folder.resolve(), 0, 0.0
    solutions = folder / "solutions.py"
    try:
        twins, names = take_written(args.names, folder) if args.stamp or args.check else ({}, args.names)
        chapters, wanted = chosen(names, folder) if names is not None else ([], [])
        for english, chinese in twins.values() if args.stamp else ():
            write_whole(chinese, stamped_page(english, chinese).encode())
    except Wrong as error:
        print(f"render: error: {error}", file=sys.stderr)
        return 2
    for name, paths in twins.items() if args.check else ():
        errors = page_differences(*paths)
        failures += bool(errors)
        print(
            "\n".join(
                [
                    *(f"{paths[1].name}: {line}" for line in errors),
                    f"{name:<40} {'FAILED' if errors else 'ok'}",
                ]
            )
        )
    for chapter in wanted:
        errors, seconds = [], 0.0
        try:
            if args.stamp:
                write_whole(chapter.path, stamped(chapter).encode())
            elif args.check:
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
