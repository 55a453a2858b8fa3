"""What the reader is told about their kernels: which are right, what they cost, what went wrong and where."""

import re
import textwrap
from pathlib import Path

from .drawing import draw
from .kernels import KERNELS, SECONDS, function_of, read, run, stub_file
from .puzzles import OPEN, RIGHT, WRONG, Verdict

COUNTS = {
    "global_reads": "global reads",
    "shared_reads": "shared reads",
    "conflicts": "bank conflicts",
    "sectors": "sectors of 32 bytes",
}
STOPPED = f"It crashed, or it ran for {SECONDS} seconds: does a loop never end?"


def walk(path, look):
    """Run the kernels in order. -> ([(name, record) of those that are right], name, Verdict).

    The last two are None where all are right.
    """
    text = read(path)
    written = []
    for name in KERNELS:
        source, stub = function_of(text, name), function_of(stub_file("x"), name)
        if source is None:
            break
        if source == stub:
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
        return right, left[0], Verdict(WRONG, [STOPPED])
    if function_of(text, left[0]) is None:
        return right, left[0], Verdict(WRONG, [f"{left[0]} is gone: its `__global__ void` line was changed."])
    return right, left[0], Verdict(OPEN)


def judge(record, path, look):
    """The Verdict on a record of the driver."""
    if record["right"]:
        over = {count: most for count, most in KERNELS[record["name"]].limits.items() if record[count] > most}
        return Verdict(WRONG, too_much(record, over, path, look)) if over else Verdict(RIGHT)
    lines = [look.soft("The case:  ") + f"{record['case']}; schedule {record['schedule']}"]
    source = read(path).splitlines()
    if record["report"]:
        lines += ["", *emulator_lines(record["report"], path, source)]
    kinds = {finding["kind"]: finding for finding in reversed(record["findings"])}  # the first of each kind
    for finding in reversed(kinds.values()):
        lines += ["", look.bold(f"{finding['kind']}: ") + finding["what"]]
        lines += [
            f"    line {n}:  {source[n - 1].strip()}" for n in sorted({n for n in finding["lines"] if n})
        ]
    if not record["findings"] and not record["report"]:
        lines += ["", *results(record, look)]
    return Verdict(WRONG, lines)


def emulator_lines(report, path, source):
    """A report of the emulator, with the lines that it names."""
    name, lines = str(Path(path).resolve()), []
    for line in report.splitlines():
        lines.append(line.replace(name, str(path)))
        if at := re.search(rf"{re.escape(name)}:(\d+)", line):
            quoted = f"    line {at[1]}:  {source[int(at[1]) - 1].strip()}"
            lines += [quoted] if quoted not in lines else []
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
    said = f"{len(wrong)} of {len(got)} numbers are wrong, the first is out[{wrong[0]}]"
    if got[wrong[0]] != got[wrong[0]]:
        said += ": nothing (or NaN) was written there"
    return [*lines, "", f"{said}. (The drawing starts at out[{start}].)"]


def shown(x):
    return "nan" if x != x else f"{x:.4g}"


def too_much(record, over, path, look):
    """A right kernel that costs too much."""
    lines = ["The numbers are right, but there is a cheaper way:", ""]
    lines += [
        f"    {COUNTS[count]:20} {record[count]:7,}   possible: {most:,}" for count, most in over.items()
    ]
    if "conflicts" in over and record["conflict"]:
        line = record["conflict"]
        lines += [f"    line {line}:  {read(path).splitlines()[line - 1].strip()}"]
    return [*lines, "", *map(look.bold, textwrap.wrap(KERNELS[record["name"]].say, 100))]


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
    text = f" global {record['global_reads']:,} reads, {record['global_writes']:,} writes"
    if record["shared_reads"] + record["shared_writes"]:
        text += f"; shared {record['shared_reads']:,} reads, {record['shared_writes']:,} writes"
        text += f", {record['conflicts']:,} bank conflicts"
    return text


def about(name, verdict, path, look):
    """The kernel at hand: its question, and what is wrong or where to write."""
    number = [*KERNELS].index(name) + 1
    lines = [look.bold(f"{number}. {name}") + f"   {KERNELS[name].question}", ""]
    if verdict.state == OPEN:
        text = read(path)
        line = text[: text.index(f"__global__ void {name}(")].count("\n") + 1
        return [*lines, f"   Not written yet: line {line} of {path}."]
    return lines + [f"   {line}".rstrip() for line in verdict.lines]
