"""`minglm course`: the chapters, and the puzzles that build GLM from an empty file."""

import argparse
import re
import sys
from pathlib import Path

from ..course.words import (
    LANGUAGES,
    TUTORIALS,
    from_environment,
    page,
    speaking,
    tell,
    tell_again,
    translated,
    written_in,
)
from ..errors import MinglmError, nearest, suggestion
from ..viz.columns import display_width, pad_right

FILE, KERNELS = "my_glm.py", "kernels.cu"


def add_course(p):
    with speaking(from_environment()):
        add_steps(p)


def add_steps(p):
    p.description = tell(
        "Build GLM from an empty file, puzzle by puzzle. Without a further word: the chapters of the course, "
        "the puzzles, and how far you are."
    )
    p.set_defaults(run=spoken(list_command))
    steps = p.add_subparsers(metavar="STEP")
    about = "write the file with the puzzles (default {file}; {kernels}: the CUDA puzzles)"
    start = steps.add_parser("start", help=tell(about, file=FILE, kernels=KERNELS))
    start.add_argument("file", metavar="FILE", nargs="?", type=Path, default=Path(FILE))
    start.set_defaults(run=spoken(start_command))
    about = tell("check the puzzles of your file, up to the first that is not right")
    check = steps.add_parser("check", help=about)
    check.add_argument("file", metavar="FILE", nargs="?", type=Path, default=Path(FILE))
    about = tell("print a hint for that puzzle; --hint 2: the second one")
    check.add_argument("--hint", metavar="N", nargs="?", const=1, type=int, choices=(1, 2), help=about)
    check.set_defaults(run=spoken(check_command))
    solution = steps.add_parser("solution", help=tell("print the solution of a puzzle"))
    solution.add_argument("puzzle", metavar="PUZZLE")
    solution.set_defaults(run=spoken(solution_command))
    about = tell("the language of texts and files (default: that of the file, or of the environment)")
    for parser in (
        p,
        start,
        check,
        solution,
    ):  # without a default: that of a step would hide the one before it
        parser.add_argument("--lang", choices=LANGUAGES, default=argparse.SUPPRESS, help=about)
        parser.error = refuse(parser.error)


def refuse(error):
    """argparse's own errors, in the language of the environment."""

    def said(message):
        with speaking(from_environment()):
            message = tell_again(message)
        error(message)

    return said


def spoken(command):
    """A command that speaks the language that was asked for, else the environment's, else its file's."""

    def run(args):
        language = getattr(args, "lang", None) or from_environment()
        path = getattr(args, "file", Path(FILE))
        if not hasattr(args, "lang") and language == "en" and path.is_file():
            language = written_in(path.read_bytes()[:2000].decode(errors="replace"))
        with speaking(language):
            command(args)

    return run


def list_command(args):
    from ..course.puzzles import PARTS, PUZZLES

    print("\n".join(chapters()))
    print("\n" + tell("Build GLM from an empty file: {n} puzzles", n=len(PUZZLES)) + "\n")
    if Path(FILE).is_file():
        return show_progress()
    for part in PARTS:
        print(f"  {tell(part.title)}")
        for puzzle in part.puzzles:
            print(f"      {puzzle.name:16} {tell(puzzle.question)}")
    said = tell("writes {file}, and you write the rest", file=FILE)
    print(f"\n  minglm course start    {said}\n")
    list_kernels()


def chapters():
    """The chapters, read from tutorials/README.md of a clone."""
    pages = [TUTORIALS / name for name in ("README.md", page("README.md"))]
    if not pages[0].is_file():
        return [tell("The chapters are in the folder tutorials/ of minglm's repository.")]
    row = r"^\| \[(\d\d [^\]]+)\]\(([^)]+)\).*? \| ([^|]+) \| (\d+) \|"
    found = [re.findall(row, path.read_text(encoding="utf-8"), re.M) for path in pages]
    rows = {title[:2]: (title, *rest) for one in found for title, *rest in one}.values()
    width = max((display_width(title) for title, *_ in rows), default=0)
    lines = [tell("The chapters, in {folder}", folder=TUTORIALS), ""]
    for title, _, question, minutes in rows:
        said = tell("{minutes:>2} min", minutes=minutes)
        lines.append(f"  {pad_right(title, width)}  {said}  {question}")
    return lines


def show_progress():
    """The puzzles of FILE, without the last task."""
    from ..course.progress import chart, walk
    from ..course.reader import Reader

    right, name, verdict = walk(Reader(FILE), look())
    print("\n".join(chart(right, name, bool(verdict and verdict.lines), look())))
    print(f"\n  minglm course check {FILE}\n")
    list_kernels()


def list_kernels():
    """The CUDA puzzles."""
    from ..course.kernels import KERNELS as kernels

    said = "CUDA without a GPU: {n} kernels, run by an emulator (they need a C++ compiler)"
    print(tell(said, n=len(kernels)) + "\n")
    print("\n".join(f"      {kernel.name:16} {tell(kernel.question)}" for kernel in kernels.values()))
    print(f"\n  minglm course start {KERNELS}")


def start_command(args):
    from ..course import kernels, stubs
    from ..course.puzzles import PUZZLES

    is_cuda = args.file.suffix == ".cu"
    text = (kernels if is_cuda else stubs).stub_file(args.file.name)
    names = [*(kernels.KERNELS if is_cuda else PUZZLES)]
    try:
        with open(args.file, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        said = tell("it exists and is never overwritten; `minglm course start OTHER` writes a new one")
        raise MinglmError(f"{args.file}: {said}") from None
    line = text[: text.index(f" {names[0]}(")].count("\n") + 1
    print(tell("wrote       {file}: {n} puzzles", file=args.file, n=len(names)))
    print("\n" + tell("Open it in an editor and write {name}, line {line}. Then:", name=names[0], line=line))
    print(f"\n    minglm course check {args.file}")


def check_kernels(args):
    """As check_command, for the CUDA puzzles."""
    from ..course.kernel_report import about, chart, walk
    from ..course.kernels import KERNELS as kernels

    right, name, verdict = walk(args.file, look())
    is_wrong = bool(verdict and verdict.lines)
    print("\n".join(chart(right, name, is_wrong, look())) + "\n")
    if name is None:
        said = "All kernels are right, under five schedules, and none touches more memory than it has to."
        print(tell(said))
        said = (
            "Next: csrc/cuda/simple.cuh, the first real kernel of minglm, is your `forward` with more rows."
        )
        return print(tell(said))
    print("\n".join(about(name, verdict, args.file, look())) + "\n")
    lines = help_with(kernels[name], args, "13_the_cuda_kernel.md")
    print("\n".join(f"   {line}".rstrip() for line in lines))
    sys.exit(1)


def check_command(args):
    """Print how far the reader is; exit code 1 while something is not right or not written."""
    if args.file.suffix == ".cu":
        return check_kernels(args)
    from ..course.progress import about, chart, page_of, train_and_fill, walk
    from ..course.puzzles import PUZZLES
    from ..course.reader import Reader, Stopped

    reader = Reader(args.file)
    right, name, verdict = walk(reader, look())
    print("\n".join(chart(right, name, bool(verdict and verdict.lines), look())) + "\n")
    if name is None:
        try:
            lines, correct = last_task(reader, train_and_fill)
        except Stopped as stopped:
            print("\n".join(f"   {line}" for line in stopped.lines))
            sys.exit(1)
        return praise(lines, correct, args.file)
    print("\n".join(about(name, verdict, reader, look())) + "\n")
    print("\n".join(f"   {line}".rstrip() for line in help_with(PUZZLES[name], args, page_of(name))))
    sys.exit(1)


def help_with(puzzle, args, name):
    """The hint that was requested, or how to get one."""
    command = f"minglm course check {args.file}"
    if args.hint:
        more = f"{command} --hint 2" if args.hint == 1 else f"minglm course solution {puzzle.name}"
        hint = tell(puzzle.hints[args.hint - 1])
        said = tell("Hint {n} of 2: {hint}", n=args.hint, hint=hint)
        return [said, "", tell("Still stuck?  {command}", command=more)]
    return [tell("Stuck?  {command} --hint   or read tutorials/{page}", command=command, page=page(name))]


def last_task(reader, train_and_fill):
    said = "All puzzles are right. Now your own GLM learns the small world at the end of your file:"
    print(tell(said) + "\n")
    return train_and_fill(reader, look())


def praise(lines, correct, file):
    """The last words; exit code 1 if the cat was not found."""
    found_cat = any(line.endswith("the cat lives on the farm and eats mice") for line in lines)
    print("\n" + tell("Nine sentences that it has never read, each with its animal blanked:") + "\n")
    print("\n".join(lines))
    score = dict(correct=correct, size=len(lines))
    if not found_cat:
        said = "{correct} of {size}. The cat is missing: was something after the puzzles changed?"
        print("\n" + tell(said, **score))
        sys.exit(1)
    said = "{correct} of {size}. You have built GLM: your {file} cuts, masks, learns and fills."
    print("\n" + tell(said, file=file, **score))
    print(tell("It uses no line of minglm. Run it alone:  python {file}", file=file))


def solution_command(args):
    from ..course import kernels, stubs
    from ..course.puzzles import PUZZLES

    if args.puzzle in PUZZLES:
        return print(translated(stubs.solution_of(args.puzzle)))
    if args.puzzle in kernels.KERNELS:
        return print(kernels.solution_of(args.puzzle))
    names = [*PUZZLES, *kernels.KERNELS]
    near = tell_again(suggestion(nearest(args.puzzle, names), names))
    raise MinglmError(tell("puzzle: {name!r} does not exist; {near}", name=args.puzzle[:40], near=near))


def look():
    """What this terminal can show."""
    from ..course.drawing import Look
    from ..viz.columns import charset_of, wants_colour

    return Look(wants_colour(sys.stdout), charset_of(sys.stdout))
