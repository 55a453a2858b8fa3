"""Writes the tables of the READMEs (this folder's and the project's two) from the JSON files in this folder.

    python tutorials/results/report.py             write every table
    python tutorials/results/report.py --check     only check that the tables agree with the files

A page marks each table with `<!-- box: learned -->` before it and `<!-- end -->` after it; the text between
them is generated. `box` is the file, `learned` the function below that makes the table.
"""

import csv
import json
import re
import sys
from pathlib import Path
from textwrap import shorten

from minglm.compare.plan import COUNTED
from minglm.compare.table import NAMES, entry
from minglm.machine import machine_line
from minglm.use.models import BOX
from minglm.viz.figures.comparison import ABLATED, MODELS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGES = HERE / "README.md", ROOT / "README.md", ROOT / "README.zh.md"
MARKED = re.compile(r"(<!-- (\w+): (\w+) -->\n)(.*?)(\n<!-- end -->)", re.S)
BOTH = "forward+backward"
HELD_OUT = [
    "objective",
    "perplexity",
    "bits per byte",
    "unigram model",
    "ours / unigram",
    "Part A is noise",
    "noise / ours",
]
TITLES = NAMES | dict(text="running text, bits per byte")
YARDSTICKS = (
    ("bits_per_byte_of_bzip2", "bzip2 {:.2f}", 1),
    ("accuracy_of_chance", "chance {:.0f} %", 100),
    ("accuracy_of_most_frequent_label", "majority {:.1f} %", 100),
)
MADE = {}  # (file, name): the function that makes it


def of(file):
    """Marks a function that makes a table or a paragraph of FILE.json."""

    def keep(function):
        MADE[file, function.__name__] = function
        return function

    return keep


# ---- small things ----------------------------------------------------------------------------------------


def table(heads, rows):
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def pm(found, digits=1):
    """Example: pm({"score": 73.14, "standard_error": 1.4}) -> "73.1 ± 1.4"."""
    return f"{found['score']:.{digits}f} ± {found['standard_error']:.{digits}f}"


def value(metric):
    """Example: value({"value": 1.443, "standard_error": 0.011}) -> "1.44 ± 0.01"."""
    return pm(dict(score=metric["value"], standard_error=metric["standard_error"]), 2)


def scaled(metric, times, digits):
    """Example: scaled({"value": 0.731, "standard_error": 0.014}, 100, 1) -> "73.1 ± 1.4"."""
    return pm(
        {
            name: times * metric[key]
            for name, key in (("score", "value"), ("standard_error", "standard_error"))
        },
        digits,
    )


def share(metric):
    """Example: share({"value": 0.731, "standard_error": 0.014}) -> "73.1 % ± 1.4"."""
    return f"{100 * metric['value']:.1f} % ± {100 * metric['standard_error']:.1f}"


def benched(found):
    """Where and when, of a bench."""
    return machine_line(found["machine"]) + "."


def held_out(report):
    """Rows under HELD_OUT."""
    for name, x in report["objectives"].items():
        ours, unigram, noise = (x[key] for key in ("perplexity", "unigram_perplexity", "noise_perplexity"))
        yield [
            name,
            f"{ours:.1f}",
            f"{x['bits_per_byte']:.2f}",
            f"{unigram:.1f}",
            f"{ours / unigram:.2f}",
            f"{noise:.1f}",
            f"{noise / ours:.2f}",
        ]


# ---- the bundled model -----------------------------------------------------------------------------------


@of("box")
def conditions(found):
    """How, where and when, of any result with compare.py's `origin`."""
    threads = f"{found['threads']} thread{'s' * (found['threads'] > 1)}"
    where = f"{found['day']}, {found['machine']}, {threads} on {found['cores']} cores"
    return f"`{found['command']}`: {where}, commit {found['commit']}, PyTorch {found['torch']}, Python {found['python']}."


@of("box")
def pretraining(found):
    rows = []
    for name in ("metrics.first.csv", "metrics.csv"):
        with open(BOX / name, encoding="utf-8") as file:
            rows += csv.DictReader(file)
    tokens, minutes = (sum(float(row[name]) for row in rows) for name in ("text_tokens", "seconds"))
    told = f"{len(rows):,} steps in two rounds, {tokens / 1e6:.2f} M text tokens, {minutes / 60:.0f} minutes of steps."
    return f"{told} Held-out documents of its texts:\n\n{table(HELD_OUT, held_out(found['pretraining']))}"


@of("box")
def untrained(found):
    rows = []
    for name, task, metric, shown in (
        ("running text, reading both ways, bits per byte", "text", "bits_per_byte_bidirectional", value),
        ("running text, left to right, bits per byte", "text", "bits_per_byte_left_to_right", value),
        ("blanks restored exactly", "infill", "exact_match", share),
        ("a word in novels, one of five", "book_cloze", "accuracy", share),
        ("the last word of a passage, left to right", "last_word", "accuracy_left_to_right", share),
        ("the last word, the passage as Part A", "last_word", "accuracy_bidirectional", share),
        ("sentiment", "sentiment", "accuracy", share),
        ("topic", "topic", "accuracy", share),
        ("paraphrase", "paraphrase", "accuracy", share),
    ):
        ours, nothing, yardsticks = (
            found["tasks"][task],
            found["random_weights"][task],
            found["tasks"][task]["yardsticks"],
        )
        beside = [
            words.format(times * yardsticks[key]) for key, words, times in YARDSTICKS if key in yardsticks
        ]
        x = ours["metrics"][metric]
        rows.append([name, shown(x), shown(nothing[metric]), ", ".join(beside), f"{x['n']:,}"])
    return table(["", "bundled model", "random weights", "for comparison", "of"], rows)


@of("box")
def headline(found):
    """The small table of the project's README."""
    baselines = dict(
        bzip2="bzip2",
        majority="majority",
        chance="chance",
        words="TF-IDF",
        dictionary="dictionary",
        before="the model before it",
    )
    titles = (
        "everyday blanks filled acceptably, %",
        "the same, among five fillings, %",
        "chapters of Jane Austen, bits per byte (lower is better)",
        "blanks restored exactly, %",
        "sentiment, not fine-tuned, %",
        "sentiment, %",
        "topic, %",
        "paraphrase, %",
        "book cloze, %",
        "King James to modern English, BLEU",
    )
    return headlines(found, ["", "pretrained", "random weights", "baseline"], titles, baselines)


@of("box")
def headline_zh(found):
    """The same table for README.zh.md."""
    baselines = dict(
        bzip2="bzip2",
        majority="多数类",
        chance="随机猜",
        words="TF-IDF",
        dictionary="逐词词典",
        before="上一个模型",
    )
    titles = (
        "日常句子填空可接受，%",
        "同上，前五个答案之一，%",
        "简·奥斯汀的章节，每字节比特数（越低越好）",
        "空白完全还原，%",
        "情感分类，未微调，%",
        "情感分类，%",
        "主题分类，%",
        "复述判断，%",
        "小说选词，%",
        "钦定本英语译成现代英语，BLEU",
    )
    return headlines(found, ["", "预训练", "随机权重", "基线"], titles, baselines)


def headlines(found, heads, titles, baselines):
    """Five rows before fine-tuning, then one row per task after it."""
    before, now = (
        model["everyday"]["metrics"]
        for model in map(json.loads((HERE / "boxes.json").read_text())["models"].get, ("before", "now"))
    )
    rows = [
        [scaled(now[name], 100, 1), "", f"{baselines['before']} {scaled(before[name], 100, 1)}"]
        for name in ("accuracy", "accuracy_in_five")
    ]
    for task, metric, times, digits, key, baseline in (
        ("text", "bits_per_byte_left_to_right", 1, 2, "bits_per_byte_of_bzip2", "bzip2"),
        ("infill", "exact_match", 100, 1, None, None),
        ("sentiment", "accuracy", 100, 1, "accuracy_of_most_frequent_label", "majority"),
    ):
        ours, nothing = found["tasks"][task], found["random_weights"][task]
        simple = f"{baselines[baseline]} {times * ours['yardsticks'][key]:.{digits}f}" if key else ""
        rows.append([*(scaled(x, times, digits) for x in (ours["metrics"][metric], nothing[metric])), simple])
    for task, x in found["learned"]["tasks"].items():
        simple = dict(book_cloze="chance", modernise="dictionary").get(task, "words")
        number = f"{x['chance']:.1f}" if simple == "chance" else counted(x)
        rows.append([pm(x["box"]), pm(x["random weights"]), f"{baselines[simple]} {number}"])
    return table(heads, [[title, *row] for title, row in zip(titles, rows, strict=True)])


@of("box")
def learned(found):
    rows = []
    for task, x in found["learned"]["tasks"].items():
        rows.append(
            [
                TITLES[task],
                pm(x["box"]),
                pm(x["random weights"]),
                f"{x['standard_errors_above_random']:+.1f}",
                counted(x),
                *floors(x),
            ]
        )
    x = found["learned"]
    heads = [
        "",
        x["model"],
        "random weights",
        "difference / error",
        "counting words",
        "chance",
        "majority",
        "copying",
    ]
    return f"`{x['command']}`: {x['day']}, commit {x['commit']}.\n\n{table(heads, rows)}"


@of("boxes")
def compared(found):
    before, now = (found["models"][name] for name in ("before", "now"))
    rows = []
    for name, task, metric, shown in (
        ("everyday blanks, filled acceptably", "everyday", "accuracy", share),
        ("everyday blanks, among the five likeliest", "everyday", "accuracy_in_five", share),
        (
            "held-out stories, reading both ways, bits per byte",
            "stories",
            "bits_per_byte_bidirectional",
            value,
        ),
        ("held-out stories, left to right, bits per byte", "stories", "bits_per_byte_left_to_right", value),
        (
            "held-out chapters of Jane Austen, both ways, bits per byte",
            "novels",
            "bits_per_byte_bidirectional",
            value,
        ),
        ("blanks of 10 % restored exactly", "infill", "exact_match_at_10%", share),
        ("blanks of 10 %, BLEU", "infill", "bleu_at_10%", value),
    ):
        numbers = [model[task]["metrics"][metric] for model in (before, now)]
        beside = now["infill"]["yardsticks"].get(f"{metric}_of_blanks_left_out")
        beside = f"blanks left out {beside:.1f}" if beside else ""
        rows.append([name, *map(shown, numbers), beside, f"{numbers[1]['n']:,}"])
    names = [
        f"{name}, {model['parameters'] / 1e6:.1f} M" for name, model in (("before", before), ("now", now))
    ]
    return f"{conditions(found)}\n\n{table(['', *names, 'compare', 'of'], rows)}"


@of("boxes")
def written(found):
    return "\n".join(
        f"{number}. {' '.join(text.split())}"
        for number, text in enumerate(found["models"]["now"]["writes"], 1)
    )


# ---- the comparison --------------------------------------------------------------------------------------


@of("comparison")
def progress(found):
    cells = f"**{found['done']} of {found['cells']} cells are done**, {found['minutes']:.0f} minutes of work."
    return f"{cells} {conditions(found)}"


@of("comparison")
def families(found):
    rows = []
    for use, title in TITLES.items():
        x = found["table"].get(use, {})
        rows.append([title, *entries(x, "pretrained", MODELS, use), counted(x), *floors(x)])
        rows.append(["from random weights", *entries(x, "random", MODELS, use), "", "", "", ""])
    return table(["", *MODELS.values(), "counting words", "chance", "majority", "copying"], rows)


def entries(row, kind, names, use):
    """What `minglm compare` prints of these models."""
    return [entry(row, kind, name, use).replace("+-", "±") for name in names]


def counted(row):
    return pm(row[COUNTED]) if COUNTED in row else ""


def floors(row):
    """Chance, the most frequent label, BLEU of copying; empty where there is none."""
    return [f"{row[key]:.1f}" if key in row else "" for key in ("chance", "most_frequent", "copying")]


@of("comparison")
def ablations(found):
    rows = [
        [TITLES[use], *entries(found["table"][use], "pretrained", ABLATED, use)]
        for use in ("sentiment", "infill")
    ]
    return table(["", *ABLATED.values()], rows)


@of("comparison")
def costs(found):
    names = ABLATED | MODELS
    rows = [
        [
            names[family],
            f"{x['text_tokens']:,.0f}",
            f"{x['learned_tokens']:,.0f}",
            f"{x['petaflop']:.3f}",
            f"{x['training_seconds']:.0f}",
        ]
        for family, x in found["pretraining"].items()
    ]
    return table(["", "text tokens", "learned", "PFLOP", "seconds"], rows)


@of("blanks")
def short_blanks(found):
    titles = ("infilling, % exact", "infill", 1), ("running text, bits per byte", "text", 2)
    rows = [
        [title, *(pm(plan[use]["result"], digits) for plan in found.values())]
        for title, use, digits in titles
    ]
    return table(["", *(f"{name}, commit {plan['text']['commit']}" for name, plan in found.items())], rows)


# ---- the small presets -----------------------------------------------------------------------------------


@of("models")
def runs(found):
    rows = [
        [
            name,
            f"`{x['command']}`",
            f"{x['steps']:,}",
            f"{x['text_tokens']:,}",
            f"{x['minutes']:.1f}",
            f"{x['minutes_of_steps']:.1f}",
            f"{x['tokens_per_s']:,.0f}",
        ]
        for name, x in found["models"].items()
    ]
    heads = ["", "command", "steps", "text tokens", "minutes in all", "of steps", "text tokens per second"]
    return f"{conditions(found)}\n\n{table(heads, rows)}"


@of("models")
def perplexities(found):
    return table(
        ["", *HELD_OUT],
        [[name, *row] for name, x in found["models"].items() for row in held_out(x["evaluation"])],
    )


@of("models")
def uses(found):
    rows = []
    for name, x in found["models"].items():
        if "tasks" in x:
            text, infill, cloze, last = (
                x["tasks"][task]["metrics"] for task in ("text", "infill", "book_cloze", "last_word")
            )
            rows.append(
                [
                    name,
                    value(text["bits_per_byte_bidirectional"]),
                    share(infill["exact_match"]),
                    share(cloze["accuracy"]),
                    share(last["accuracy_left_to_right"]),
                ]
            )
    heads = (
        "",
        "running text, bits per byte",
        "blanks restored exactly",
        "one of five words (chance 20 %)",
        "last word",
    )
    return table(list(heads), rows)


@of("models")
def said(found):
    lines = []
    for name, x in found["models"].items():
        for verb in ("fills", "writes"):
            texts = (shorten(text, 160, placeholder=" ...") for text in x.get(verb, {}).values())
            lines += [f"- `{name}` {verb} *{text}*" for text in texts]
    return "\n".join(lines)


# ---- the kernel ------------------------------------------------------------------------------------------


@of("attention")
def shapes(found):
    heads = [
        "shape",
        *(
            f"{dtype}: {what}"
            for dtype in found["summary"]
            for what in ("ms, PyTorch's best", "ms, kernel", "times as fast", "share of GEMM")
        ),
    ]
    rows = []
    for shape in found["shapes"]:
        row = [f"`{shape['name']}`"]
        for dtype in found["summary"]:
            kernel = found["summary"][dtype]["variant"]
            timed = {
                x["variant"]: x[BOTH]
                for x in found["rows"]
                if (x["shape"], x["dtype"]) == (shape["name"], dtype) and x.get(BOTH)
            }
            if kernel in timed:
                ours, best = timed[kernel], timed[timed[kernel]["best_of_pytorch"]]
                row += [
                    f"{best['ms']:,.2f}",
                    f"{ours['ms']:,.2f}",
                    f"{ours['ratio']:.2f}",
                    f"{ours['of_gemm']:.2f}",
                ]
        if len(row) == len(heads):  # else it is not trained with
            rows.append(row)
    return f"`minglm bench attention`: {benched(found)}\n\n{table(heads, rows)}"


@of("attention")
def in_short(found):
    rows = [
        [dtype, f"{x['ratio_mean']:.2f}", f"{x['ratio_min']:.2f}", f"{x['of_gemm_mean']:.2f}"]
        for dtype, x in found["summary"].items()
    ]
    return table(
        ["", "times PyTorch's best, geometric mean", "at least", "share of the rate of matrix products"], rows
    )


@of("training")
def tokens_per_second(found):
    rows = []
    for x in found["tables"]:
        by = {row["trainer"]: row for row in x["trainers"]}
        ours = by["kernel"]
        rows.append(
            [
                f"`{x['preset']}`, {x['dtype']}, {x['text_tokens']:,.0f}",
                *(f"{row['tokens_per_s']:,.0f}" for row in by.values()),
                f"{ours['times_every_row']['median']:.2f}",
                f"{ours['times_learned_rows']['median']:.2f}",
                f"{ours['of_gemm']:.2f}",
                ours["steps"],
            ]
        )
    heads = [
        "preset, dtype, text tokens per step",
        *by,
        "kernel / every row",
        "kernel / learned rows",
        "share of GEMM",
        "steps",
    ]
    rates = {x["dtype"]: f"{x['gemm_gflop_per_s']:,.0f} GFLOP/s in {x['dtype']}" for x in found["tables"]}
    return f"`minglm bench train`: {benched(found)} Plain matrix products: {', '.join(rates.values())}.\n\n{table(heads, rows)}"


@of("memory")
def papers_models(found):
    rows = {}
    for x in found["steps"]:
        took = f"{x['gigabytes']:.1f} GB, {x['text_tokens'] / x['seconds']:.0f} tokens/s"
        rows.setdefault(f"`{x['preset']}`", {})[f"{x['dtype']}, {x['backend']}"] = took
    heads = ["model", *next(iter(rows.values()))]
    rows = [[preset, *row.values()] for preset, row in rows.items()]
    return f"{conditions(found)}\n\n{table(heads, rows)}"


@of("memory")
def long_sample(found):
    x = found["long"]
    took = f"{x['megabytes']:.0f} MB, not counting inputs and outputs, and {x['seconds']:.1f} seconds"
    return f"Training works on a sample of {x['tokens']:,} tokens: one head of width 32, forward and backward, took {took}."


@of("generate")
def speeds(found):
    rows = [
        [
            x["read"],
            x["write"],
            x["texts"],
            *(f"{x[how]['tokens_per_s']:,.0f}" for how in ("cache", "no cache")),
            f"{x['times']['median']:.2f}",
        ]
        for x in found["rows"]
    ]
    heads = ["read", "written", "texts at once", "cache", "no cache", "times"]
    return f"`minglm bench generate`: {benched(found)}\n\n{table(heads, rows)}"


# ---- the pages -------------------------------------------------------------------------------------------


def filled(text):
    """A page with its tables made anew."""

    def make(mark):
        found = json.loads((HERE / f"{mark[2]}.json").read_text(encoding="utf-8"))
        return f"{mark[1]}\n{MADE[mark[2], mark[3]](found)}\n{mark[5]}"

    assert text.count("<!-- end -->") == len(MARKED.findall(text)), (
        "a mark without an end, or an end without a mark"
    )
    return MARKED.sub(make, text)


if __name__ == "__main__":
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(page)
            if sys.argv[1:] != ["--check"]:
                page.write_text(filled(text), encoding="utf-8")
                print(f"wrote       {page}")
    if sys.argv[1:] == ["--check"] and stale:
        raise SystemExit(f"not what the files say: {', '.join(map(str, stale))}; report.py makes it so")
