"""One scorer for everything: what a model is worth on a task, each number with its standard error.

    text            bits per byte and perplexity of running text, by sliding windows (perplexity.py)
    last_word       is the last word of a passage the model's first choice? (perplexity.py)
    infill          the blanks of a text: restored exactly, and BLEU of the whole text
    sentiment ...   a task of classification (cloze.py): accuracy and macro F1
    modernise ...   a task of text to text (seq2seq.py): BLEU, chrF, ROUGE

Each is a function that returns a dict: task, metrics {name: value, standard_error, n, of}, yardsticks {name: value} to hold
them against, meaning (a sentence), and predictions, a line for each row.
"""

import contextlib
import difflib
import json
import math
import os
import reprlib
import sys
import textwrap
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .arguments import add_model, positive
from .batch import in_runs, pack
from .cloze import MAX_ROWS, ClozeScorer, columns, device_of, measure, predict, standard_error
from .corpus import DOCUMENTS, ERRORS, find_files, read_documents
from .errors import MinglmError, note
from .generate import Dials, Draft, evaluating, fill_drafts
from .layout import all_part_a, text_limit
from .measures import GROUPS, bleu_counts, bleu_of, jackknife, mean_of, metric, number, text_in, told_where
from .perplexity import MASKS, evaluate_last_word, evaluate_text
from .rows import read_rows, write_rows
from .tasks import BLANK, TASK, Cloze, ask_all, read_task, shipped_tasks

OWN = ("text", "last_word", "infill")  # tasks that are no pattern


# ---- the blanks of a text ------------------------------------------------------------------------------------------------


def evaluate_infill(model, tokenizer, rows):
    """How many blanks come back exactly, and BLEU of the restored texts; by `ratio` too where rows have one.

    rows: {where it stands: {"text" with [BLANK]s, "blanks": [words of each], "ratio": share of the words that is blanked}}.
    Blanks are filled greedily, left to right, each seeing the answers before it. Exact means the same but for white space.
    BLEU is of the whole text, as the original scores its Yahoo answers, so what was given counts too: the same texts with
    their blanks left out are the yardstick. A text that is longer than the model reads is read in equal pieces. Raises
    MinglmError for rows that are no such texts.
    """
    special, room, read = tokenizer.special, model.config.max_positions - 2, []
    if room < 1:
        raise MinglmError(f"max_positions: {room + 2} is too few for a text with a blank; 3 are needed")
    for where, row in rows.items():
        with told_where(where):
            read.append(with_blanks(tokenizer, row))
    told = model.config.family == "bert"
    if told:
        note("a model that was trained as bert cannot say how long an answer is: it was told, a mask for each token")
        texts = [with_a_mask_for_each_token(tokenizer, ids, blanks) for ids, blanks, *_ in read]
    else:
        texts = [ids for ids, *_ in read]
    pieces = [in_pieces(ids, room) for ids in texts]
    if split := sum(len(p) > 1 for p in pieces):
        note(f"{split:,} of {len(read):,} texts were too long for this model, which reads {room + 2} tokens: they were read in "
             "pieces")  # fmt: skip
    asked = [piece for text in pieces for piece in text if special.mask in piece]
    answers = iter((likeliest_words if told else written)(model, tokenizer, asked))
    predictions, right = [], []
    for row, (ids, blanks, *_), text in zip(rows.values(), read, pieces, strict=True):
        said = [answer for piece in text if special.mask in piece for answer in next(answers)]
        if told:  # masks that stand together are one blank
            lens = iter([len(answer) for answer in answers_of(tokenizer, blanks)])
            words = iter(said)
            said = [[token for _ in range(n) for token in next(words)] for n in lens]
        said, restored = iter(said), []
        filled = []
        for token in ids:
            answer = next(said) if token == special.mask else [token]
            filled += [tokenizer.decode(answer)] if token == special.mask else []
            restored += answer
        predictions.append({**row, "filled": filled, "restored": tokenizer.decode(restored)})
        right.append(sum(a.split() == b.split() for a, b in zip(filled, blanks, strict=True)))
    return infill_report(predictions, right, [whole for *_, whole, _ in read], [bare for *_, bare in read])


def with_blanks(tokenizer, row):
    """A row as (ids with a mask for each [BLANK], the words of its blanks, the whole text, the text without its blanks)."""
    pieces, blanks, ratio = text_in(row, "text").split(BLANK), row.get("blanks"), row.get("ratio")
    if not isinstance(blanks, list) or not all(isinstance(x, str) and x.strip() for x in blanks):
        raise MinglmError(f"blanks: {reprlib.repr(blanks)} is not accepted; a list with the words of each {BLANK} is")
    if len(pieces) != len(blanks) + 1 or not blanks:
        raise MinglmError(f"blanks: {len(blanks)} for {len(pieces) - 1} times {BLANK} in text; one for each is needed")
    if ratio is not None and not (type(ratio) in (int, float) and 0 < ratio <= 1):
        raise MinglmError(f"ratio: {reprlib.repr(ratio)} is not accepted; a number above 0, at most 1 is")
    ids = []
    for piece in pieces[:-1]:  # a mask takes the white space on its left; what a row says is text, even "[MASK]"
        ids += [*tokenizer.encode(piece.rstrip()), tokenizer.special.mask]
    ids += tokenizer.encode(pieces[-1])
    whole = "".join(x for pair in zip(pieces, [*blanks, ""], strict=True) for x in pair)
    tokenizer.encode(whole)  # refuses half a character, in the blanks too
    return ids, blanks, whole, "".join(pieces)


def written(model, tokenizer, pieces):
    """What a model writes in the blanks of each piece, greedily: [[tokens of a blank]]."""
    drafts = [Draft(model, tokenizer, piece, Dials()) for piece in pieces]
    with tqdm(total=len(drafts), disable=None, unit="text", leave=False, dynamic_ncols=True) as bar:
        for run in in_runs(drafts, lambda draft: len(draft.part_a) + draft.room(), MAX_ROWS):
            fill_drafts(model, run, Dials())
            bar.update(len(run))
    return [[gap.tokens for gap in draft.blanks] for draft in drafts]


def answers_of(tokenizer, blanks):
    """The tokens of the words of blanks, with the white space before them that a mask takes."""
    return [tokenizer.encode(" " + words.strip()) for words in blanks]


def with_a_mask_for_each_token(tokenizer, ids, blanks):
    """The ids of a text with as many masks in each blank as its answer has tokens."""
    lens = iter([len(answer) for answer in answers_of(tokenizer, blanks)])
    mask = tokenizer.special.mask
    return [x for token in ids for x in ([mask] * next(lens) if token == mask else [token])]


@torch.inference_mode()
def likeliest_words(model, tokenizer, pieces):
    """The likeliest word under each mask of each piece, all at once, as BERT says it: [[one token of a mask]]."""
    special, found = tokenizer.special, []
    no_text = torch.from_numpy(tokenizer.byte_lengths() == 0)
    for run in in_runs(pieces, len, MAX_ROWS):
        rows = [[special.cls, *piece, special.eos] for piece in run]
        masks = [[i for i, token in enumerate(row) if token == special.mask] for row in rows]
        unknown = [[special.mask] * len(at) for at in masks]  # what the rows are to say does not matter: they are asked
        batch = pack([all_part_a(*parts, special) for parts in zip(rows, masks, unknown, strict=True)]).to(device_of(model))
        with evaluating(model):
            best = model(*columns(batch), rows=batch.target_rows).cpu().masked_fill(no_text, -math.inf).argmax(-1).tolist()
        words = iter(best)
        found += [[[next(words)] for _ in at] for at in masks]
    return found


def in_pieces(ids, room):
    """Ids in the fewest pieces of at most `room`, all about equally long."""
    n = -(-len(ids) // room)
    return [ids[len(ids) * i // n : len(ids) * (i + 1) // n] for i in range(n)]


def infill_report(predictions, right, wholes, bare):
    """The report of `evaluate_infill` from its lines, the blanks that are right in each, the true texts, and the bare ones."""
    blanks, metrics, yardsticks = [len(line["blanks"]) for line in predictions], {}, {}
    scored = bleu_counts([line["restored"] for line in predictions], wholes)
    scored_bare = None if scored is None else bleu_counts(bare, wholes)
    ratios = [line.get("ratio") for line in predictions]
    parts = {"": np.arange(len(ratios))}
    for ratio in sorted({ratio for ratio in ratios if ratio is not None}):
        parts[f"_at_{100 * ratio:g}%"] = np.array([i for i, other in enumerate(ratios) if other == ratio])
    for name, part in parts.items() if len(parts) != 2 else [("", parts[""])]:  # one ratio is the whole
        n, exact = sum(blanks[i] for i in part), mean_of(np.array(right)[part], np.array(blanks)[part])
        metrics[f"exact_match{name}"] = metric(*jackknife(exact, len(part)), n, "blanks")
        if scored is not None:
            found = jackknife(lambda rows, counts=scored[part]: bleu_of(counts[rows]), len(part))
            metrics[f"bleu{name}"] = metric(*found, len(part), "texts")
            yardsticks[f"bleu{name}_of_blanks_left_out"] = bleu_of(scored_bare[part])
    metrics = dict(sorted(metrics.items(), key=lambda item: item[0].startswith("bleu")))
    return dict(
        task="infill", metrics=metrics, yardsticks=yardsticks, predictions=predictions,
        meaning="exact match is of blanks; BLEU (sacrebleu, 13a) is of whole texts, what was given counts, so compare it with "
                "that of the texts whose blanks are left out",
    )  # fmt: skip


# ---- tasks with a pattern ------------------------------------------------------------------------------------------------


def evaluate_cloze(model, tokenizer, task, rows):
    """Accuracy and macro F1 of a task of classification on labelled rows, beside chance and the most frequent label.

    task: a Cloze. rows: {where it stands: row}. Raises MinglmError as `ask_all` does.
    """
    questions = ask_all(task, tokenizer, rows, text_limit(model.config), labelled=True)
    found = predict(ClozeScorer(model, task.length_penalty), questions)
    scores, n = measure(found, questions), len(questions)
    metrics = {"accuracy": metric(scores["accuracy"], standard_error(scores["accuracy"], n), n, "texts")}
    if scores["macro_f1"] is not None:
        def macro_f1(kept):
            return measure([found[i] for i in kept], [questions[i] for i in kept])["macro_f1"]

        metrics["macro_f1"] = metric(*jackknife(macro_f1, n), n, "texts")
    yardsticks = {"accuracy_of_chance": sum(1 / len(q.labels) for q in questions) / n}
    if task.labels:
        yardsticks["accuracy_of_most_frequent_label"] = int(np.bincount([q.gold for q in questions]).max()) / n
    predictions = [
        {**row, "predicted": q.labels[int(p.argmax())], "probabilities": dict(zip(q.labels, p.tolist(), strict=True))}
        for row, q, p in zip(rows.values(), questions, found, strict=True)
    ]
    return dict(task=task.name, metrics=metrics, yardsticks=yardsticks, predictions=predictions,
                meaning=f"the share of texts that get their label; {task.how_scored(tokenizer)}")  # fmt: skip


def evaluate_text_to_text(model, tokenizer, task, rows):
    """BLEU, chrF, ROUGE and exact matches of what a model writes for each row, beside those of the source itself.

    task: a TextToText. rows: {where it stands: row with the task's columns and its target}. Raises MinglmError as `ask_all`.
    """
    from .seq2seq import compare, dials_of, generate

    pairs = ask_all(task, tokenizer, rows, text_limit(model.config, True), labelled=True)
    written = generate(model, tokenizer, pairs, dials_of(task))
    gold, n = [row[task.target] for row in rows.values()], len(rows)
    copies = [" ".join(row[column] for column in task.columns) for row in rows.values()]

    def scores(said, kept, tell=False):
        found = compare([said[i] for i in kept], [gold[i] for i in kept], tell)
        found["exact_match"] = found.pop("exact") / 100  # a share, as everywhere here
        return {name: value for name, value in found.items() if value is not None}

    all_rows, without = np.arange(n), []  # `jackknife` of six numbers at once, in half as many groups: ROUGE is slow
    groups = np.array_split(all_rows, min(n, GROUPS // 2))
    for group in groups if len(groups) > 1 else []:
        without.append(scores(written, np.setdiff1d(all_rows, group)))
    metrics = {}
    for name, value in scores(written, all_rows, tell=True).items():
        spread = math.sqrt((len(groups) - 1) * float(np.var([w[name] for w in without]))) if without else None
        metrics[name] = metric(value, spread, n, "texts")
    return dict(
        task=task.name, metrics=metrics,
        yardsticks={f"{name}_of_copying": value for name, value in scores(copies, all_rows).items()},
        predictions=[{**row, "written": text} for row, text in zip(rows.values(), written, strict=True)],
        meaning="BLEU, chrF and ROUGE from 0 to 100 against each row's target; copying is the source as it stands",
    )  # fmt: skip


# ---- the command line ----------------------------------------------------------------------------------------------------


def add_evaluate(commands):
    """The command `evaluate`."""
    about = "what a model is worth on a task or on running text: each number with its standard error"
    p = commands.add_parser(
        "evaluate", help=about, description=f"Says {about}.",
        epilog="+- is one standard error: of an accuracy sqrt(p (1 - p) / n), of all else by the jackknife (up to 50 runs of "
               "neighbouring rows or windows are left out in turn).",
    )  # fmt: skip
    p.set_defaults(run=evaluate_command)
    p.add_argument("--task", metavar="TASK", help=f"{', '.join(task_names())}, or a TOML file "
                                                  "(default: the one that the model was fine-tuned on)")
    p.add_argument("--file", metavar="FILE", required=True,
                   help="rows as .jsonl; for --task text also .txt or a folder; .xz and .gz too")
    add_model(p)
    p.add_argument("--out", metavar="FILE", help="a .jsonl: what the model said to each row (of text: what each document cost)")
    p.add_argument("--json", action="store_true", help="for programs: one line of JSON")
    p.add_argument("--mask", choices=MASKS, help="of text and last_word: the mask behind the prompt (default gMASK; a model "
                                                 "that was trained with [MASK] alone wants MASK)")
    text = p.add_argument_group("running text")
    text.add_argument("--stride", type=positive, metavar="N", help="tokens from window to window (default: half of what the "
                                                                   "model reads; fewer: longer prompts, more time)")
    text.add_argument("--text-key", metavar="KEY", help="key of the text in a line of .jsonl (default text)")
    text.add_argument("--documents", choices=DOCUMENTS, help="what parts the documents of a .txt (default blank_line)")
    text.add_argument("--errors", choices=ERRORS, help="bytes that are not UTF-8: stop (strict, the default), or replace them")


def task_names():
    """All tasks that `evaluate` knows by name."""
    return [*OWN, *shipped_tasks()]


def evaluate_command(args):
    from .files.whole import beside, check_writable, is_stdout
    from .pretrain import choose_device
    from .runs import load, the_model

    name = args.task or _task_of(args.model)
    for option in ("mask", "stride", "text_key", "documents", "errors"):
        tasks = ("text", "last_word") if option == "mask" else ("text",)
        if getattr(args, option) is not None and name not in tasks:
            raise MinglmError(f"--{option.replace('_', '-')}: goes with --task {' or '.join(tasks)}, not with {name}")
    task = None if name in OWN else _read_task(name)
    check_writable("--out", args.out)
    if args.out and os.path.exists(args.out) and os.path.exists(args.file) and os.path.samefile(args.out, args.file):
        raise MinglmError(f"--out: {args.out} is the file that is read; another one is accepted")
    files = find_files(args.file) if name == "text" else None
    rows = None if name == "text" else read_rows(args.file)
    model, tokenizer = load(args.model)
    model.to(choose_device("auto", None))
    given = {option: getattr(args, option) for option in ("mask", "stride") if getattr(args, option) is not None}
    if name == "text":
        how = dict(text_key=args.text_key or "text", documents=args.documents or "blank_line", errors=args.errors or "strict")
        documents = (document for file in files for document in read_documents(file, **how))
        report = evaluate_text(model, tokenizer, documents, **given)
    elif name == "last_word":
        report = evaluate_last_word(model, tokenizer, rows, **given)
    elif name == "infill":
        report = evaluate_infill(model, tokenizer, rows)
    elif isinstance(task, Cloze):
        report = evaluate_cloze(model, tokenizer, task, rows)
    else:
        report = evaluate_text_to_text(model, tokenizer, task, rows)
    predictions = report.pop("predictions")
    report = dict(model=str(args.model or the_model()), file=args.file, **report)
    if args.json:
        print(json.dumps(report, allow_nan=False), file=beside(args.out), flush=True)
    else:
        with contextlib.redirect_stdout(beside(args.out)):
            print_report(report)
    if args.out:
        with contextlib.redirect_stdout(sys.stderr) if args.json and not is_stdout(args.out) else contextlib.nullcontext():
            write_rows(args.out, predictions)


def print_report(report):
    """One table: each metric with its standard error and what it was counted over, then the yardsticks."""
    print(f"{report['task']:<11} {report['file']}, by {report['model']}")
    lines = [(name, number(name, m["value"], m["standard_error"]), f"{m['n']:,} {m['of']}")
             for name, m in report["metrics"].items()]  # fmt: skip
    lines += [(name, number(name, value), "") for name, value in report["yardsticks"].items()]
    wide, wider = max(len(name) for name, *_ in lines), max(len(value) for _, value, _ in lines)
    for name, value, of in lines:
        print(f"            {name.replace('_', ' '):<{wide}}   {value:<{wider}}   {of}".rstrip())
    print(textwrap.fill(report["meaning"], 120, initial_indent=" " * 12, subsequent_indent=" " * 12))


def _task_of(directory):
    if directory and (Path(directory) / TASK).is_file():
        return str(directory)
    raise MinglmError(f"--task: which? {', '.join(task_names())}, or a TOML file")


def _read_task(name):
    path = Path(name)
    if name not in shipped_tasks() and path.suffix != ".toml" and not (path / TASK).is_file():
        near = difflib.get_close_matches(name, task_names(), 1)
        rest = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(task_names())}, or a TOML file"
        raise MinglmError(f"--task: unknown task {reprlib.repr(name)}; {rest}")
    return read_task(name)
