"""What the reader is told about their kernels: which are right, what they cost, what went wrong and where."""

import re
from pathlib import Path

from ..viz.columns import pad_right
from .drawing import draw
from .kernels import KERNELS, SECONDS, function_of, read, run, stub_file
from .puzzles import OPEN, RIGHT, WRONG, Verdict
from .words import tell, tell_again, wrapped

COUNTS = {
    "global_reads": "global reads",
    "shared_reads": "shared reads",
    "conflicts": "bank conflicts",
    "sectors": "sectors of 32 bytes",
}


def walk(path, look):
    """Run the kernels in order. -> ([(name, record) of those that are right], name, Verdict).

    The last two are None where all are right.
    """
    text = read(path)
    written = []
    for name in KERNELS:
        source, stub = function_of(text, name), function_of(stub_file("x"), name)
        if source is None or without_comments(source) == without_comments(stub):
            break
        written.append(name)
    right = []
    for record in run(path, written) if written else ():
        verdict = judge(record, path, look)
        if verdict.state != RIGHT:
            return right, record["name"], verdict
        right.append((record["name"], record))
    left = [name for name in KERNELS if name not in dict(right)]
    if not left:
        return right, None, None
    if left[0] in written:
        said = "It crashed, or it ran for {n} seconds: does a loop never end?"
        return right, left[0], Verdict(WRONG, [tell(said, n=SECONDS)])
    if function_of(text, left[0]) is None:
        said = tell("{name} is gone: its `__global__ void` line was changed.", name=left[0])
        return right, left[0], Verdict(WRONG, [said])
    return right, left[0], Verdict(OPEN)


def without_comments(source):
    """C++ without its comments, which are in the language in which the file was written."""
    return re.sub(r"\s*//.*", "", source)


def judge(record, path, look):
    """The Verdict on a record of the driver."""
    if record["right"]:
        over = {count: most for count, most in KERNELS[record["name"]].limits.items() if record[count] > most}
        return Verdict(WRONG, too_much(record, over, path, look)) if over else Verdict(RIGHT)
    case = dict(case=tell_again(record["case"]), schedule=record["schedule"])
    lines = [look.soft(tell("The case:  ")) + tell("{case}; schedule {schedule}", **case)]
    source = read(path).splitlines()
    if record["report"]:
        lines += ["", *emulator_lines(record["report"], path, source)]
    kinds = {finding["kind"]: finding for finding in reversed(record["findings"])}  # the first of each kind
    for finding in reversed(kinds.values()):
        lines += [
            "",
            look.bold(tell("{kind}: ", kind=tell_again(finding["kind"]))) + tell_again(finding["what"]),
        ]
        lines += [quoted(n, source) for n in sorted({n for n in finding["lines"] if n})]
    if not record["findings"] and not record["report"]:
        lines += ["", *results(record, look)]
    return Verdict(WRONG, lines)


def quoted(n, source):
    """A line of the reader's file."""
    return f"    {tell('line {n}:  ', n=n)}{source[n - 1].strip()}"


def emulator_lines(report, path, source):
    """A report of the emulator, with the lines that it names."""
    name, lines = str(Path(path).resolve()), []
    for line in report.splitlines():
        lines.append(tell_again(line.replace(name, str(path))))
        if at := re.search(rf"{re.escape(name)}:(\d+)", line):
            line = quoted(int(at[1]), source)
            lines += [line] if line not in lines else []
    return lines


def results(record, look):
    """Both results around the first wrong number."""
    got = [float("nan") if x is None else x for x in record["got"]]
    wrong = [
        n
        for n, (a, b) in enumerate(zip(got, record["want"], strict=True))
        if not abs(a - b) <= 1e-4 * (1 + abs(b))
    ]
    start = max(0, wrong[0] - 2)
    lines = draw(
        [*map(shown, got[start : start + 8])], [*map(shown, record["want"][start : start + 8])], look
    )
    said = "{n} of {size} numbers are wrong, the first is out[{first}]. (The drawing starts at out[{start}].)"
    if got[wrong[0]] != got[wrong[0]]:
        said = (
            "{n} of {size} numbers are wrong, the first is out[{first}]: nothing (or NaN) was written there. "
            "(The drawing starts at out[{start}].)"
        )
    return [*lines, "", tell(said, n=len(wrong), size=len(got), first=wrong[0], start=start)]


def shown(x):
    return "nan" if x != x else f"{x:.4g}"


def too_much(record, over, path, look):
    """A right kernel that costs too much."""
    lines = [tell("The numbers are right, but there is a cheaper way:"), ""]
    for count, most in over.items():
        possible = tell("possible: {most:,}", most=most)
        lines.append(f"    {pad_right(tell(COUNTS[count]), 20)} {record[count]:7,}   {possible}")
    if "conflicts" in over and record["conflict"]:
        lines += [quoted(record["conflict"], read(path).splitlines())]
    return [*lines, "", *map(look.bold, wrapped(tell(KERNELS[record["name"]].say)))]


def chart(right, current, is_wrong, look):
    """One line per kernel: its sign and, if it is right, what it cost."""
    lines, done = [], dict(right)
    for number, name in enumerate(KERNELS, 1):
        title = f"{number:2} {name:15}"
        if name in done:
            lines.append(look.green(f"  {look.sign('right')} {title}") + look.soft(cost(done[name])))
        elif name == current:
            sign = look.red(look.sign("wrong")) if is_wrong else look.sign("next")
            lines.append(f"  {sign} {look.bold(title)}".rstrip())
        else:
            lines.append(look.soft(f"  {look.sign('later')} {title}".rstrip()))
    return lines


def cost(record):
    """What a kernel read and wrote."""
    text = tell(" global {global_reads:,} reads, {global_writes:,} writes", **record)
    if record["shared_reads"] + record["shared_writes"]:
        said = "; shared {shared_reads:,} reads, {shared_writes:,} writes, {conflicts:,} bank conflicts"
        text += tell(said, **record)
    return text


def about(name, verdict, path, look):
    """The kernel at hand: its question, and what is wrong or where to write."""
    number = [*KERNELS].index(name) + 1
    lines = [look.bold(f"{number}. {name}") + f"   {tell(KERNELS[name].question)}", ""]
    if verdict.state == OPEN:
        text = read(path)
        line = text[: text.index(f"__global__ void {name}(")].count("\n") + 1
        return [*lines, "   " + tell("Not written yet: line {n} of {path}.", n=line, path=path)]
    return lines + [f"   {line}".rstrip() for line in verdict.lines]
