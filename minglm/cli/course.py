"""`minglm course`: the chapters, and the puzzles that build GLM from an empty file."""

import re
import sys
from pathlib import Path

from ..errors import MinglmError, nearest, suggestion

FILE, KERNELS = "my_glm.py", "kernels.cu"


def add_course(p):
    p.description = (
        "Build GLM from an empty file, puzzle by puzzle. Without a further word: the chapters of the course, "
        "the puzzles, and how far you are."
    )
    p.set_defaults(run=list_command)
    steps = p.add_subparsers(metavar="STEP")
    about = f"write the file with the puzzles (default {FILE}; {KERNELS}: the CUDA puzzles)"
    start = steps.add_parser("start", help=about)
    start.add_argument("file", metavar="FILE", nargs="?", type=Path, default=Path(FILE))
    start.set_defaults(run=start_command)
    check = steps.add_parser(
        "check", help="check the puzzles of your file, up to the first that is not right"
    )
    check.add_argument("file", metavar="FILE", nargs="?", type=Path, default=Path(FILE))
    about = "print a hint for that puzzle; --hint 2: the second one"
    check.add_argument("--hint", metavar="N", nargs="?", const=1, type=int, choices=(1, 2), help=about)
    check.set_defaults(run=check_command)
    solution = steps.add_parser("solution", help="print the solution of a puzzle")
    solution.add_argument("puzzle", metavar="PUZZLE")
    solution.set_defaults(run=solution_command)


def list_command(args):
    from ..course.puzzles import PARTS, PUZZLES

    print("\n".join(chapters()))
    print(f"\nBuild GLM from an empty file: {len(PUZZLES)} puzzles\n")
    if Path(FILE).is_file():
        return show_progress()
    for part in PARTS:
        print(f"  {part.title}")
        for puzzle in part.puzzles:
            print(f"      {puzzle.name:16} {puzzle.question}")
    print(f"\n  minglm course start    writes {FILE}, and you write the rest\n")
    list_kernels()


def chapters():
    """The chapters, read from tutorials/README.md of a clone."""
    page = Path(__file__).parents[2] / "tutorials" / "README.md"
    if not page.is_file():
        return ["The chapters are in the folder tutorials/ of minglm's repository."]
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d\d [^\]]+)\]\(([^)]+)\).*? \| ([^|]+) \| (\d+) \|", text, re.M)
    width = max((len(title) for title, *_ in rows), default=0)
    lines = [f"The chapters, in {page.parent}", ""]
    return lines + [
        f"  {title:{width}}  {minutes:>2} min  {question}" for title, _, question, minutes in rows
    ]


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

    print(f"CUDA without a GPU: {len(kernels)} kernels, run by an emulator (they need a C++ compiler)\n")
    print("\n".join(f"      {kernel.name:16} {kernel.question}" for kernel in kernels.values()))
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
        raise MinglmError(
            f"{args.file}: it exists and is never overwritten; `minglm course start OTHER` writes a new one"
        ) from None
    line = text[: text.index(f" {names[0]}(")].count("\n") + 1
    print(f"wrote       {args.file}: {len(names)} puzzles")
    print(f"\nOpen it in an editor and write {names[0]}, line {line}. Then:")
    print(f"\n    minglm course check {args.file}")


def check_kernels(args):
    """As check_command, for the CUDA puzzles."""
    from ..course.kernel_report import about, chart, walk
    from ..course.kernels import KERNELS as kernels

    right, name, verdict = walk(args.file, look())
    is_wrong = bool(verdict and verdict.lines)
    print("\n".join(chart(right, name, is_wrong, look())) + "\n")
    if name is None:
        print("All kernels are right, under five schedules, and none touches more memory than it has to.")
        print(
            "Next: csrc/cuda/simple.cuh, the first real kernel of minglm, is your `forward` with more rows."
        )
        return
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


def help_with(puzzle, args, page):
    """The hint that was requested, or how to get one."""
    command = f"minglm course check {args.file}"
    if args.hint:
        more = f"{command} --hint 2" if args.hint == 1 else f"minglm course solution {puzzle.name}"
        return [f"Hint {args.hint} of 2: {puzzle.hints[args.hint - 1]}", "", f"Still stuck?  {more}"]
    return [f"Stuck?  {command} --hint   or read tutorials/{page}"]


def last_task(reader, train_and_fill):
    print("All puzzles are right. Now your own GLM learns the small world at the end of your file:\n")
    return train_and_fill(reader, look())


def praise(lines, correct, file):
    """The last words; exit code 1 if the cat was not found."""
    found_cat = any(line.endswith("the cat lives on the farm and eats mice") for line in lines)
    print("\nNine sentences that it has never read, each with its animal blanked:\n")
    print("\n".join(lines))
    if not found_cat:
        print(f"\n{correct} of {len(lines)}. The cat is missing: was something after the puzzles changed?")
        sys.exit(1)
    print(f"\n{correct} of {len(lines)}. You have built GLM: your {file} cuts, masks, learns and fills.")
    print("It uses no line of minglm. Run it alone:  python " + str(file))


def solution_command(args):
    from ..course import kernels, stubs
    from ..course.puzzles import PUZZLES

    if args.puzzle in PUZZLES:
        return print(stubs.solution_of(args.puzzle))
    if args.puzzle in kernels.KERNELS:
        return print(kernels.solution_of(args.puzzle))
    names = [*PUZZLES, *kernels.KERNELS]
    near = suggestion(nearest(args.puzzle, names), names)
    raise MinglmError(f"puzzle: {args.puzzle[:40]!r} does not exist; {near}")


def look():
    """What this terminal can show."""
    from ..course.drawing import Look
    from ..viz.columns import charset_of, wants_colour

    return Look(wants_colour(sys.stdout), charset_of(sys.stdout))
