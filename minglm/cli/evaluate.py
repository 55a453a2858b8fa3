"""`minglm evaluate`: how well a model does on a task."""

import contextlib
import os
import reprlib
import sys
import textwrap
from pathlib import Path

from ..errors import MinglmError, nearest, suggestion
from ..files import strict_json
from ..files.whole import beside, check_writable, is_stdout
from ..use.models import load, the_model
from ..use.tasks import TASK, Cloze, read_task, shipped_tasks
from .arguments import add_model, positive

OWN = ("text", "last_word", "infill", "everyday")  # tasks without a pattern
# Spelled out, because their modules import torch and --help must not; a test compares them.
MASKS = ("MASK", "sMASK", "gMASK")  # perplexity.MASKS
DOCUMENTS, ERRORS = (
    ("blank_line", "line", "file"),
    ("strict", "replace"),
)  # documents.DOCUMENTS, documents.ERRORS


def add_evaluate(p):
    p.description = (
        "Evaluate a model on a task or on running text; each number comes with its standard error."
    )
    p.epilog = (
        "+- is one standard error: sqrt(p (1 - p) / n) for an accuracy, the jackknife for everything else "
        "(each of up to 50 groups of neighbouring records or windows is left out in turn)."
    )
    p.set_defaults(run=evaluate_command)
    p.add_argument(
        "--task",
        metavar="TASK",
        help=f"{', '.join(task_names())}, or a TOML file (default: the task the model was fine-tuned on)",
    )
    p.add_argument(
        "--file",
        metavar="FILE",
        required=True,
        help="records as .jsonl; for --task text also a .txt or a folder; .xz and .gz work too",
    )
    add_model(p)
    p.add_argument(
        "--out",
        metavar="FILE",
        help="a .jsonl with the model's answer to each record (for text: the bits of each document)",
    )
    p.add_argument("--json", action="store_true", help="print one line of JSON")
    p.add_argument(
        "--mask",
        choices=MASKS,
        help="for text and last_word: the mask after the prompt (default gMASK; MASK for models trained on "
        "it alone)",
    )
    text = p.add_argument_group("running text")
    text.add_argument(
        "--stride",
        type=positive,
        metavar="N",
        help="tokens between windows (default: half of what the model reads; smaller: longer prompts, "
        "slower)",
    )
    text.add_argument("--text-key", metavar="KEY", help="key of the text in a line of .jsonl (default text)")
    text.add_argument(
        "--documents", choices=DOCUMENTS, help="what separates the documents of a .txt (default blank_line)"
    )
    text.add_argument(
        "--errors",
        choices=ERRORS,
        help="on bytes that are not UTF-8: stop (strict, the default) or replace them",
    )


def task_names():
    """Return the names of all tasks that `evaluate` knows."""
    return [*OWN, *shipped_tasks()]


def evaluate_command(args):
    name = args.task or _task_of(args.model)
    for option in ("mask", "stride", "text_key", "documents", "errors"):
        tasks = ("text", "last_word") if option == "mask" else ("text",)
        if getattr(args, option) is not None and name not in tasks:
            raise MinglmError(
                f"--{option.replace('_', '-')}: goes with --task {' or '.join(tasks)}, not with {name}"
            )
    task = None if name in OWN else _read_task(name)
    check_writable("--out", args.out)
    both_exist = args.out and os.path.exists(args.out) and os.path.exists(args.file)
    if both_exist and os.path.samefile(args.out, args.file):
        raise MinglmError(f"--out: {args.out} is also the input file; give another name")
    from ..data.documents import find_files, read_documents
    from ..files.jsonl import read_rows, write_rows
    from ..measure.evaluate import evaluate_cloze, evaluate_everyday, evaluate_infill, evaluate_text_to_text
    from ..measure.perplexity import evaluate_last_word, evaluate_text
    from ..train.distributed import choose_device

    files = find_files(args.file) if name == "text" else None
    rows = None if name == "text" else read_rows(args.file)
    model, tokenizer = load(args.model)
    model.to(choose_device("auto"))
    given = {
        name: value for name, value in (("mask", args.mask), ("stride", args.stride)) if value is not None
    }
    if name == "text":
        how = dict(
            text_key=args.text_key or "text",
            documents=args.documents or "blank_line",
            errors=args.errors or "strict",
        )
        documents = (document for file in files for document in read_documents(file, **how))
        report = evaluate_text(model, tokenizer, documents, **given)
    elif name == "last_word":
        report = evaluate_last_word(model, tokenizer, rows, **given)
    elif name == "infill":
        report = evaluate_infill(model, tokenizer, rows)
    elif name == "everyday":
        report = evaluate_everyday(model, tokenizer, rows)
    elif isinstance(task, Cloze):
        report = evaluate_cloze(model, tokenizer, task, rows)
    else:
        report = evaluate_text_to_text(model, tokenizer, task, rows)
    predictions = report.pop("predictions")
    report = dict(model=str(args.model or the_model()), file=args.file, **report)
    if args.json:
        print(strict_json.dumps(report), file=beside(args.out), flush=True)
    else:
        with contextlib.redirect_stdout(beside(args.out)):
            print_report(report)
    if args.out:  # with --json, stdout holds nothing but the JSON
        keep_clear = args.json and not is_stdout(args.out)
        with contextlib.redirect_stdout(sys.stderr) if keep_clear else contextlib.nullcontext():
            write_rows(args.out, predictions)


def print_report(report):
    """Print each metric with its standard error and sample size, then the yardsticks."""
    from ..measure.metrics import number

    print(f"{report['task']:<11} {report['file']}, by {report['model']}")
    lines = [
        (name, number(name, m["value"], m["standard_error"]), f"{m['n']:,} {m['of']}")
        for name, m in report["metrics"].items()
    ]
    lines += [(name, number(name, value), "") for name, value in report["yardsticks"].items()]
    wide, wider = max(len(name) for name, *_ in lines), max(len(value) for _, value, _ in lines)
    for name, value, of in lines:
        print(f"            {name.replace('_', ' '):<{wide}}   {value:<{wider}}   {of}".rstrip())
    print(textwrap.fill(report["meaning"], 120, initial_indent=" " * 12, subsequent_indent=" " * 12))


def _task_of(directory):
    if directory and (Path(directory) / TASK).is_file():
        return str(directory)
    raise MinglmError(f"--task is missing; accepted: {', '.join(task_names())}, or a TOML file")


def _read_task(name):
    path = Path(name)
    if name not in shipped_tasks() and path.suffix != ".toml" and not (path / TASK).is_file():
        rest = suggestion(nearest(name, task_names()), [*task_names(), "or a TOML file"])
        raise MinglmError(f"--task: unknown task {reprlib.repr(name)}; {rest}")
    return read_task(name)
