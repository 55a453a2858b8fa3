"""`minglm classify`, `minglm rewrite` and `minglm finetune`: tasks with a pattern."""

import shlex
import sys
from pathlib import Path

from ..errors import MinglmError, note
from ..files import strict_json
from ..train.config import Finetuning
from ..use.models import load, the_model
from ..use.questions import ask_all
from ..use.tasks import TASK, Cloze, TextToText, read_task, shipped_tasks
from .arguments import add_model, add_rows, check_rows, positive, rows_asked

REPORT = "report.json"


def add_classify(p):
    p.description = (
        "Classify a text: the task's pattern has a blank, and the words for each label compete for it. No "
        "training is needed; with labelled records, `minglm finetune` improves the model."
    )
    p.set_defaults(run=classify_command)
    add_rows(p, shipped_tasks(Cloze), "classify the records of a file", "where the labelled records go")


def classify_command(args):
    check_rows("classify", args)
    task = read_task(args.task or task_of(args.model, Cloze), Cloze)
    if args.text and not task.labels:
        raise MinglmError(
            f"{task.name}: each row has its own candidates, in {task.verbalizer!r}; give rows with --file"
        )
    rows = rows_asked(args, task)
    from ..families import text_limit
    from ..train.distributed import choose_device
    from ..use.cloze import predictions

    model, tokenizer = load(args.model)
    model.to(choose_device("auto"))
    questions = ask_all(task, tokenizer, rows, text_limit(model.config))
    if questions[0].whole and task.labels:
        note(task.how_scored(tokenizer))
    predicted = predictions(model, task, questions)
    first = predicted[0]
    if args.file:
        write_labelled(args.out, rows.values(), questions, predicted)
    elif args.json:
        answer = dict(label=first.label, probabilities=first.probabilities)
        print(strict_json.dumps(answer, ensure_ascii=False))
    else:
        for label, p in sorted(first.probabilities.items(), key=lambda item: -item[1]):
            print(f"{100 * p:5.1f} %  {label}")


def write_labelled(out, rows, questions, predicted):
    """Write the records with `predicted` and `probabilities` to a file or stdout, then print the accuracy."""
    import torch

    from ..files.jsonl import write_rows
    from ..measure.metrics import measure, percent, standard_error

    pairs = zip(rows, predicted, strict=True)
    write_rows(out, [{**row, "predicted": p.label, "probabilities": p.probabilities} for row, p in pairs])
    known = [(q, p.probabilities) for q, p in zip(questions, predicted, strict=True) if q.gold is not None]
    if known:
        scores = measure([torch.tensor(list(p.values())) for _, p in known], [q for q, _ in known])
        accuracy = percent(scores["accuracy"], standard_error(scores["accuracy"], len(known)))
        to = sys.stdout if out else sys.stderr
        print(f"accuracy    {accuracy} of the {len(known):,} rows that have a label", file=to)


def task_of(directory, kind):
    """Return the folder of a fine-tuned model, which holds its task. Raises MinglmError for any other."""
    if directory and (Path(directory) / TASK).is_file():
        return directory
    raise MinglmError(f"--task is missing; accepted: {', '.join(shipped_tasks(kind))}, or a TOML file")


def add_rewrite(p):
    p.description = (
        "Write the answer of a text-to-text task, e.g. a modern sentence or a summary. `minglm finetune` "
        "trains a model for it; that model's folder holds its task and its decoding settings."
    )
    p.set_defaults(run=rewrite_command)
    add_rows(
        p,
        shipped_tasks(TextToText),
        "rewrite the records of a file",
        "where its records go, each with `written`",
    )
    p.add_argument("--beams", type=int, metavar="N", help="beam search with N beams (0: off)")
    p.add_argument(
        "--length-penalty", type=float, metavar="P", help="score beams by log-probability / tokens ** P"
    )
    p.add_argument(
        "--no-repeat-ngram", type=int, metavar="N", help="never repeat a sequence of N tokens (0: off)"
    )
    p.add_argument("--max-tokens", type=positive, metavar="N", help="maximum tokens of an answer")
    p.add_argument("--min-tokens", type=int, metavar="N", help="minimum tokens of an answer")


def rewrite_command(args):
    check_rows("rewrite", args)
    task = read_task(args.task or task_of(args.model, TextToText), TextToText)
    from ..families import text_limit
    from ..files.jsonl import write_rows
    from ..measure.metrics import compare, scores_line, tell_what_is_left_out
    from ..train.distributed import choose_device
    from ..use.rewrite import dials_of, generate

    options = ("beams", "length_penalty", "no_repeat_ngram", "max_tokens", "min_tokens")
    dials = dials_of(task, **{name: getattr(args, name) for name in options})
    rows = rows_asked(args, task)
    if any(isinstance(row.get(task.target), str) for row in rows.values()):
        tell_what_is_left_out()
    model, tokenizer = load(args.model)
    model.to(choose_device("auto"))
    questions = ask_all(task, tokenizer, rows, text_limit(model.config, True))
    answers = generate(model, tokenizer, questions, dials)
    if not args.file:
        print(strict_json.dumps(dict(written=answers[0]), ensure_ascii=False) if args.json else answers[0])
        return
    pairs = list(zip(rows.values(), answers, strict=True))
    write_rows(args.out, [{**row, "written": answer} for row, answer in pairs])
    known = [(answer, row[task.target]) for row, answer in pairs if isinstance(row.get(task.target), str)]
    if known:
        scores = scores_line(compare(*zip(*known, strict=True)))
        show = print if args.out else note
        show(f"{scores}, of the {len(known):,} rows that have an answer")


def add_finetune(p):
    t = Finetuning()
    p.description = (
        "Fine-tune a model on labelled records, keep the epoch that is best on dev, and print its accuracy "
        "next to baselines (the model before fine-tuning, TF-IDF with logistic regression, the majority "
        "label), a confusion table and some mistakes. For text to text: BLEU, chrF and ROUGE, with a "
        "dictionary and the copied source as baselines, and examples."
    )
    p.set_defaults(run=finetune_command)
    p.add_argument(
        "--task", required=True, metavar="TASK", help=f"{', '.join(shipped_tasks())}, or a TOML file"
    )
    p.add_argument(
        "--train", required=True, metavar="FILE", help="records to train on: .jsonl, .jsonl.xz or .jsonl.gz"
    )
    p.add_argument("--dev", required=True, metavar="FILE", help="records that decide which epoch is kept")
    p.add_argument("--test", metavar="FILE", help="held-out records for the table (default: the dev records)")
    add_model(p)
    p.add_argument("--out", metavar="DIR", type=Path, help="the model's folder (default runs/TASK-NNN)")
    p.add_argument(
        "--few-shot",
        type=positive,
        metavar="K",
        help="train on K random records per label (text to text: K in all)",
    )
    p.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        metavar="N",
        help="one run per seed; the best on dev is kept (default 0)",
    )
    p.add_argument(
        "--rivals",
        action="store_true",
        help="add baselines: training from random weights, and a linear head as for BERT; three times as "
        "slow",
    )
    p.add_argument(
        "--epochs",
        type=positive,
        default=t.epochs,
        metavar="N",
        help=f"maximum epochs ({t.epochs})",
    )
    p.add_argument(
        "--patience",
        type=positive,
        default=t.patience,
        metavar="N",
        help=f"stop after N epochs without an improvement ({t.patience})",
    )
    p.add_argument("--batch", type=positive, default=t.batch, metavar="N", help=f"texts per step ({t.batch})")
    p.add_argument(
        "--lr", type=float, default=t.lr, metavar="X", help=f"peak learning rate ({t.lr}; large models: 1e-5)"
    )
    p.add_argument(
        "--dropout", type=float, default=t.dropout, metavar="X", help=f"dropout during training ({t.dropout})"
    )
    p.add_argument(
        "--label-smoothing",
        type=float,
        metavar="X",
        help=f"label smoothing for text to text ({t.label_smoothing})",
    )
    p.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default=t.dtype,
        help=f"dtype of matrix products ({t.dtype}); bfloat16 is faster where the hardware has it",
    )


def finetune_command(args):
    task = read_task(args.task)
    to_text = isinstance(task, TextToText)
    if args.label_smoothing is not None and not to_text:
        raise MinglmError(
            f"--label-smoothing is for text to text; {task.name} chooses among labels, so leave it out"
        )
    dials = ("epochs", "batch", "lr", "patience", "dropout", "label_smoothing", "dtype")
    settings = Finetuning(**{name: getattr(args, name) for name in dials if getattr(args, name) is not None})
    if bad := [seed for seed in args.seeds if not 0 <= seed < 2**63]:
        raise MinglmError(f"--seeds: {bad[0]} is not accepted; whole numbers from 0 to 2**63 - 1 are")
    from ..compare.finetuned import finetune
    from ..files.checkpoint import save_pretrained
    from ..files.jsonl import read_rows
    from ..train.distributed import keep_memory
    from ..train.folders import begun

    keep_memory()
    train, dev, test = (read_rows(path) if path else None for path in (args.train, args.dev, args.test))
    model, tokenizer = load(args.model)
    with begun(args.out, task.name) as out:
        banner(args, settings, task, model, tokenizer, train, dev, out)
        how = dict(settings=settings, seeds=args.seeds, few_shot=args.few_shot, test=test, rivals=args.rivals)
        tuned, report = finetune(model, tokenizer, task, train, dev, **how)
        print_report(report)  # first, so a full disk does not lose the results
        report = dict(model=str(args.model or the_model()), **report)
        text = strict_json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        save_pretrained(tuned, out, tokenizer, {TASK: task.to_toml(), REPORT: text})
    print(f"kept        the weights of seed {report['kept']['seed']}, epoch {report['kept']['epoch']}")
    print(f"wrote       {out}: model.safetensors, config.json, tokenizer.json, {TASK}, {REPORT}")
    what = "TEXT" if (task.labels or to_text) and len(task.columns) == 1 else "--file FILE.jsonl"
    print(f"try         minglm {'rewrite' if to_text else 'classify'} --model {shlex.quote(str(out))} {what}")


def banner(args, settings, task, model, tokenizer, train, dev, out):
    """Print the settings of the run."""
    import torch

    from ..train.distributed import choose_device

    few = ""
    if args.few_shot:
        few = f"; {args.few_shot} per label are drawn" if task.labels else f"; {args.few_shot} are drawn"
    if isinstance(task, TextToText):
        dials = ", ".join(f"{name} {value}" for name, value in task.dials.items())
        kind = [
            ("answer", f"{task.target} and its end, label smoothing {settings.label_smoothing:g}"),
            ("decoding", dials or "greedy"),
        ]
    else:
        labels = ", ".join(task.labels) or f"each record's own {task.verbalizer}"
        kind = [("labels", labels), ("scored", task.how_scored(tokenizer))]
    size = f"{model.num_parameters() / 1e6:.1f} M parameters, {len(args.seeds)} seed(s)"
    learning = f"at most {args.epochs} epochs, {args.batch} texts per step, lr {args.lr:g}, "
    lines = [
        ("minglm", f"finetune {task.name}: {size}"),
        ("pattern", repr(task.pattern)),
        *kind,
        ("texts", f"{len(train):,} to learn from, {len(dev):,} to choose the epoch by{few}"),
        ("device", f"{choose_device('auto')}, {torch.get_num_threads()} threads, {args.dtype}"),
        ("learning", learning + f"dropout {args.dropout:g}, patience {args.patience}"),
        ("model", f"{out}"),
    ]
    print("\n".join(f"{key:<11} {line}" for key, line in lines), flush=True)


def heading(report):
    """Return the line above a table of scores: which texts they are for, and how far to trust them."""
    n, about, why = report["texts"][report["about"]], report["about"], ""
    if about == "dev":
        why = "; the epoch was chosen on them, so new texts will score a little worse: use --test to see"
    return f"{about:<11} {n:,} texts that were not trained on{why}"


def line_of(scores):
    """Return the scores of one method in one line."""
    from ..measure.metrics import percent, scores_line

    between = scores["between_seeds"]
    if "accuracy" not in scores:
        bleu = between["bleu"] if between else None
        return scores_line(scores) + (f"   (BLEU {bleu:.1f} between seeds)" if bleu is not None else "")
    f1 = f"   macro F1 {percent(scores['macro_f1']):>7}" if scores["macro_f1"] is not None else ""
    seeds = f"   ({100 * between:.1f} between seeds)" if between is not None else ""
    return f"accuracy {percent(scores['accuracy'], scores['standard_error']):>14}{f1}{seeds}"


def print_report(report):
    """Print the table of scores; then the confusion table and a few mistakes, or a few examples."""
    print(heading(report))
    width = max(map(len, report["scores"]))
    for method, scores in report["scores"].items():
        print(f"            {method:<{width}}   {line_of(scores)}")
    if "examples" in report:
        for example in report["examples"][:: max(1, len(report["examples"]) // 3)][:3]:
            print("\n".join(f"{name:<11} {' '.join(text.split())}" for name, text in example.items()))
        return
    if labels := report["labels"]:
        short = [label[:12] for label in labels]
        side = max(len(x) for x in (*short, "is \\ said"))
        cell = max(6, max(map(len, short)) + 1)
        print(f"confusion   {'is / said':<{side}}" + "".join(f"{x:>{cell}}" for x in short))
        for label, name in zip(labels, short, strict=True):
            counts = "".join(f"{report['confusion'][label][x]:>{cell}}" for x in labels)
            print(f"            {name:<{side}}{counts}")
    from ..measure.metrics import percent

    for w in report["wrong"][:5]:
        text = " | ".join(" ".join(x.split()) for x in w["row"].values())
        text = text if len(text) <= 160 else f"{text[:157]}..."
        print(f"wrong       {w['predicted']} ({percent(w['probability'])}), it is {w['gold']}: {text}")
