"""How far is the reader? The puzzles of a file in order, as lines for a terminal, and the last task."""

from ..viz.columns import pad_right
from .checker import check
from .puzzles import OPEN, PARTS, PUZZLES, RIGHT
from .reader import Stopped
from .stubs import body_lines
from .words import tell


def walk(reader, look):
    """Check puzzles in order up to the first that is not right. -> (names that are right, name, Verdict).

    The last two are None where all are right.
    """
    right = []
    for name in PUZZLES:
        verdict = check(reader, name, look)
        if verdict.state != RIGHT:
            return right, name, verdict
        right.append(name)
    return right, None, None


def chart(right, current, is_wrong, look):
    """One line per part: its puzzles with a sign each; then the bar."""
    lines = []
    for part in PARTS:
        cells = []
        for name in (puzzle.name for puzzle in part.puzzles):
            if name in right:
                cells.append(look.green(f"{look.sign('right')} {name}"))
            elif name == current:
                sign = look.red(look.sign("wrong")) if is_wrong else look.sign("next")
                cells.append(f"{sign} {look.bold(name)}")
            else:
                cells.append(look.soft(f"{look.sign('later')} {name}"))
        lines.append(f"  {pad_right(tell(part.title), 15)} {'  '.join(cells)}")
    return [*lines, "", "  " + bar(len(right), look)]


def bar(done, look):
    """How many of the puzzles are done."""
    total = len(PUZZLES)
    said = tell("{done} of {total}", done=done, total=total)
    return f"{look.green(look.sign('full') * done)}{look.sign('empty') * (total - done)}  {said}"


def about(name, verdict, reader, look):
    """The puzzle at hand: its question, and what is wrong or where to write."""
    names = [*PUZZLES]
    number = names.index(name) + 1
    lines = []
    if number > 1 and verdict.state == OPEN:
        said = tell("{name} is right!", name=names[number - 2])
        lines = [look.green(look.bold(f"{look.sign('right')} {said}")), ""]
    lines += [look.bold(f"{number}. {name}") + f"   {tell(PUZZLES[name].question)}", ""]
    if verdict.state != OPEN:
        return lines + [f"   {line}".rstrip() for line in verdict.lines]
    count = body_lines(name)
    said = "Not written yet: line {n} of {path}, about {count} lines."
    if count == 1:
        said = "Not written yet: line {n} of {path}, one line."
    return [*lines, "   " + tell(said, n=reader.line_of(name), path=reader.path, count=count)]


def page_of(name):
    """The page of tutorials/ that explains a puzzle."""
    return next(part.page for part in PARTS if name in [puzzle.name for puzzle in part.puzzles])


def train_and_fill(reader, look):
    """Train the reader's GLM on its small world and let it fill `cat`. -> lines; raises Stopped."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is too small to share
    try:
        predict = reader.run(reader.names["predictor"], reader.run(reader.names["train"]))
        fill, animals = reader.names["fill"], reader.names["ANIMALS"]
        lines, correct = [], 0
        for animal, (home, food) in animals.items():
            text = f"the [M] lives {home} and eats {food}"
            answer = " ".join(reader.run(fill, text.split(), predict))
            good = answer == text.replace("[M]", animal)
            correct += good
            sign = look.green(look.sign("right")) if good else look.red(look.sign("wrong"))
            lines.append(f"    {sign} {text:43}  {answer}")
    except KeyError as error:
        said = tell("{name} is gone from your file; the last task needs it.", name=error.args[0])
        raise Stopped([said]) from None
    finally:
        torch.set_num_threads(threads)
    return lines, correct
