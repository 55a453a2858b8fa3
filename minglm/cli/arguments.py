"""Arguments that several commands share: whole numbers, a model, texts or a file of records."""

import argparse

from ..errors import MinglmError
from ..files.jsonl import read_rows
from ..files.whole import check_writable, is_stdout
from ..use.models import named


def positive(text):
    """Parse a whole number >= 1, for argparse."""
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not accepted; a whole number >= 1 is")
    return int(text)


class ModelFolder(argparse.Action):
    """Store the folder that --model names: box and box-zh are models of minglm's own."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, named(values))  # subtle: a MinglmError raised by a type= loses its text


def add_model(p, default="the newest run under ./runs, else box"):
    """Add --model, which `models.load` reads."""
    about = f"a model or run folder; box: the small bundled model, box-zh: a Chinese one (default: {default})"
    p.add_argument("--model", metavar="DIR", action=ModelFolder, help=about)


def add_rows(p, tasks, file, out):
    """Add TEXT, --task, --model, --file, --out and --json. tasks: names of the bundled tasks."""
    p.add_argument("text", metavar="TEXT", nargs="*", help="one text per column of the task's pattern")
    p.add_argument(
        "--task",
        metavar="TASK",
        help=f"{', '.join(tasks)}, or a TOML file (default: the task the model was fine-tuned on)",
    )
    add_model(p)
    p.add_argument("--file", metavar="FILE", help=f"{file}: .jsonl, .jsonl.xz or .jsonl.gz")
    p.add_argument("--out", metavar="FILE", help=f"{out} (default: stdout)")
    p.add_argument("--json", action="store_true", help="print one line of JSON")


def check_rows(command, args):
    """Raise MinglmError unless either TEXT or --file is given and --out can be written."""
    if bool(args.text) == bool(args.file):
        raise MinglmError(f"{command}: give either a TEXT or --file FILE")
    if args.out and not args.file:
        raise MinglmError("--out needs --file; the answer to a single text is printed")
    check_writable("--out", args.out)
    if args.out and is_stdout(args.out):  # None: print nothing else there
        args.out = None


def rows_asked(args, task):
    """{where: record} from the file, or from TEXT. Raises MinglmError for a wrong number of texts."""
    if args.file:
        return read_rows(args.file)
    columns, given = task.columns, len(args.text)
    if given != len(columns):
        raise MinglmError(f"{task.name}: {given} texts given; it takes {len(columns)}: {', '.join(columns)}")
    return {"text": dict(zip(columns, args.text, strict=True))}
