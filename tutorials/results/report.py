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

from minglm.compare.plan import COUNTED, SIMPLE
from minglm.compare.table import NAMES, entry
from minglm.use.models import BOX
from minglm.viz.figures.comparison import ABLATED, MODELS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out

import speed  # noqa: E402
from parts import conditions, of, pm, scaled, share, table, value  # noqa: E402

ROOT = HERE.parent.parent
PAGES = HERE / "README.md", ROOT / "README.md", ROOT / "README.zh.md"
MADE = speed.MADE  # with the tables of this file
MARKED = re.compile(r"(<!-- (\w+): (\w+) -->\n)(.*?)(\n<!-- end -->)", re.S)
SIBLINGS = dict(glm="GLM", gpt="GPT", bert="BERT")
HELD_OUT = ["objective", "perplexity", "bits per byte", "unigram model", "ours / unigram"]
HELD_OUT += ["Part A is noise", "noise / ours"]
TITLES = NAMES | dict(text="running text, bits per byte")
YARDSTICKS = (
    ("bits_per_byte_of_bzip2", "bzip2 {:.2f}", 1),
    ("accuracy_of_chance", "chance {:.0f} %", 100),
    ("accuracy_of_most_frequent_label", "majority {:.1f} %", 100),
)


def held_out(report):
    """The rows of a table with the heads HELD_OUT."""
    for name, x in report["objectives"].items():
        ours, unigram, noise = (x[key] for key in ("perplexity", "unigram_perplexity", "noise_perplexity"))
        row = [name, f"{ours:.1f}", f"{x['bits_per_byte']:.2f}", f"{unigram:.1f}", f"{ours / unigram:.2f}"]
        yield [*row, f"{noise:.1f}", f"{noise / ours:.2f}"]


# ---- the bundled model -----------------------------------------------------------------------------------


@of("box")
def pretraining(results):
    with open(BOX / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tokens, minutes = (sum(float(row[name]) for row in rows) for name in ("text_tokens", "seconds"))
    costs = f"{tokens / 1e6:.2f} M text tokens, {minutes / 60:.0f} minutes of steps"
    lines = table(HELD_OUT, held_out(results["pretraining"]))
    return f"{len(rows):,} steps, {costs}. Held-out documents of its texts:\n\n{lines}"


@of("box")
def untrained(results):
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
        yardsticks = results["tasks"][task]["yardsticks"]
        known = [(words, times * yardsticks[key]) for key, words, times in YARDSTICKS if key in yardsticks]
        others = ", ".join(words.format(number) for words, number in known)
        x, random = results["tasks"][task]["metrics"][metric], results["random_weights"][task][metric]
        rows.append([name, shown(x), shown(random), others, f"{x['n']:,}"])
    return table(["", "bundled model", "random weights", "for comparison", "of"], rows)


@of("box")
def headline(results):
    """The small table of the project's README."""
    baselines = dict(bzip2="bzip2", majority="majority", chance="chance")
    baselines |= dict(words="TF-IDF", dictionary="dictionary", before="the model before it")
    titles = (
        "toy world: an animal, the clue behind the blank, %",
        "toy world: two words that go together, %",
        "everyday blanks filled acceptably, %",
        "chapters of Jane Austen, bits per byte (lower is better)",
        "blanks restored exactly, %",
        "sentiment, not fine-tuned, %",
        "sentiment, %",
        "topic, %",
        "paraphrase, %",
        "book cloze, %",
        "King James to modern English, BLEU",
    )
    return headlines(results, ["", "pretrained", "random weights", "baseline"], titles, baselines)


@of("box")
def headline_zh(results):
    """The same table for README.zh.md."""
    baselines = dict(bzip2="bzip2", majority="多数类", chance="随机猜")
    baselines |= dict(words="TF-IDF", dictionary="逐词词典", before="上一个模型")
    titles = (
        "玩具世界：动物，线索在空的右边，%",
        "玩具世界：必须搭配的两个词，%",
        "日常句子填空可接受，%",
        "简·奥斯汀的章节，每字节比特数（越低越好）",
        "空白完全还原，%",
        "情感分类，未微调，%",
        "情感分类，%",
        "主题分类，%",
        "复述判断，%",
        "小说选词，%",
        "钦定本英语译成现代英语，BLEU",
    )
    return headlines(results, ["", "预训练", "随机权重", "基线"], titles, baselines)


def headlines(results, heads, titles, baselines):
    """Two rows of the toy world, four of the bundled model, and one row per task after fine-tuning."""
    toy = json.loads((HERE / "toy.json").read_text(encoding="utf-8"))["table"]
    rows = []
    for kind in ("animal", "two-word food"):
        glm, gpt, bert = (pm(toy[family]["probability"][kind]) for family in SIBLINGS)
        rows.append([glm, "", f"GPT {gpt}, BERT {bert}"])
    models = json.loads((HERE / "boxes.json").read_text(encoding="utf-8"))["models"]
    before, now = (models[name]["everyday"]["metrics"] for name in ("before", "now"))
    simple = f"{baselines['before']} {scaled(before['accuracy'], 100, 1)}"
    rows.append([scaled(now["accuracy"], 100, 1), "", simple])
    for task, metric, times, digits, key, baseline in (
        ("text", "bits_per_byte_left_to_right", 1, 2, "bits_per_byte_of_bzip2", "bzip2"),
        ("infill", "exact_match", 100, 1, None, None),
        ("sentiment", "accuracy", 100, 1, "accuracy_of_most_frequent_label", "majority"),
    ):
        ours, random = results["tasks"][task], results["random_weights"][task]
        simple = f"{baselines[baseline]} {times * ours['yardsticks'][key]:.{digits}f}" if key else ""
        rows.append([*(scaled(x, times, digits) for x in (ours["metrics"][metric], random[metric])), simple])
    for task, x in results["learned"]["tasks"].items():
        simple = dict(book_cloze="chance", modernise="dictionary").get(task, "words")
        number = f"{x['chance']:.1f}" if simple == "chance" else counted(x)
        rows.append([pm(x["box"]), pm(x["random weights"]), f"{baselines[simple]} {number}"])
    return table(heads, [[title, *row] for title, row in zip(titles, rows, strict=True)])


@of("box")
def learned(results):
    rows = []
    for task, x in results["learned"]["tasks"].items():
        difference = f"{x['standard_errors_above_random']:+.1f}"
        scores = [pm(x["box"]), pm(x["random weights"]), difference, counted(x)]
        rows.append([TITLES[task], *scores, *floors(x)])
    x = results["learned"]
    heads = ["", x["model"], "random weights", "difference / error", "counting words"]
    heads += ["chance", "majority", "copying"]
    return f"`{x['command']}`: {x['day']}, commit {x['commit']}.\n\n{table(heads, rows)}"


@of("boxes")
def compared(results):
    before, now = (results["models"][name] for name in ("before", "now"))
    rows, both_ways, austen = [], "bits_per_byte_bidirectional", "held-out chapters of Jane Austen"
    for name, task, metric, shown in (
        ("everyday blanks, filled acceptably", "everyday", "accuracy", share),
        ("everyday blanks, among the five likeliest", "everyday", "accuracy_in_five", share),
        ("held-out stories, reading both ways, bits per byte", "stories", both_ways, value),
        ("held-out stories, left to right, bits per byte", "stories", "bits_per_byte_left_to_right", value),
        (f"{austen}, both ways, bits per byte", "novels", both_ways, value),
        ("blanks of 10 % restored exactly", "infill", "exact_match_at_10%", share),
        ("blanks of 10 %, BLEU", "infill", "bleu_at_10%", value),
    ):
        numbers = [model[task]["metrics"][metric] for model in (before, now)]
        yardstick = now["infill"]["yardsticks"].get(f"{metric}_of_blanks_left_out")
        other = f"blanks left out {yardstick:.1f}" if yardstick else ""
        rows.append([name, *map(shown, numbers), other, f"{numbers[1]['n']:,}"])
    sizes = [f"{model['parameters'] / 1e6:.1f} M" for model in (before, now)]
    heads = ["", f"before, {sizes[0]}", f"now, {sizes[1]}", "compare", "of"]
    return f"{conditions(results)}\n\n{table(heads, rows)}"


@of("boxes")
def written(results):
    texts = [" ".join(text.split()) for text in results["models"]["now"]["writes"]]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


# ---- the comparison --------------------------------------------------------------------------------------


@of("comparison")
def progress(results):
    done = f"**{results['done']} of {results['cells']} cells are done**"
    return f"{done}, {results['minutes']:.0f} minutes of work. {conditions(results)}"


@of("comparison")
def families(results):
    rows = []
    for use, title in TITLES.items():
        x = results["table"].get(use, {})
        if use in SIMPLE and not x:
            continue
        rows.append([title, *entries(x, "pretrained", MODELS, use), counted(x), *floors(x)])
        rows.append(["from random weights", *entries(x, "random", MODELS, use), "", "", "", ""])
    return table(["", *MODELS.values(), "counting words", "chance", "majority", "copying"], rows)


def entries(row, kind, names, use):
    """What `minglm compare` prints about these models."""
    return [entry(row, kind, name, use).replace("+-", "±") for name in names]


def counted(row):
    return pm(row[COUNTED]) if COUNTED in row else ""


def floors(row):
    """[chance, the most frequent label, BLEU of copying]; "" for those that do not apply."""
    return [f"{row[key]:.1f}" if key in row else "" for key in ("chance", "most_frequent", "copying")]


@of("comparison")
def ablations(results):
    rows = []
    for use in ("sentiment", "infill"):
        rows.append([TITLES[use], *entries(results["table"][use], "pretrained", ABLATED, use)])
    return table(["", *ABLATED.values()], rows)


@of("comparison")
def costs(results):
    rows, names = [], ABLATED | MODELS
    for family, x in results["pretraining"].items():
        tokens = [f"{x[key]:,.0f}" for key in ("text_tokens", "learned_tokens")]
        rows.append([names[family], *tokens, f"{x['petaflop']:.3f}", f"{x['training_seconds']:.0f}"])
    return table(["", "text tokens", "learned", "PFLOP", "seconds"], rows)


@of("blanks")
def short_blanks(results):
    rows = []
    for title, use, digits in (
        ("infilling, % exact", "infill", 1),
        ("running text, bits per byte", "text", 2),
    ):
        rows.append([title, *(pm(plan[use]["result"], digits) for plan in results.values())])
    return table(["", *(f"{name}, commit {plan['text']['commit']}" for name, plan in results.items())], rows)


# ---- the toy world ---------------------------------------------------------------------------------------


@of("toy")
def siblings(results):
    rows = [[kind, n, *with_best(results, kind, "{} | {:.1f}")] for kind, n in results["questions"].items()]
    heads = [head for name in SIBLINGS.values() for head in (name, "ideal")]
    size = f"{results['parameters']:,} weights, {results['steps']:,} steps of {results['batch']} sentences"
    costs = f"{size}, {results['seconds']:.0f} seconds of one core on average; {results['seeds']} seeds"
    return f"{conditions(results)} {costs}.\n\n{table(['blank', 'questions', *heads], rows)}"


def with_best(results, kind, form):
    """For each family: the probability of right answers in %, and the highest that its mask allows."""
    best, table = results["best"]["probability"], results["table"]
    return [form.format(pm(table[f]["probability"][kind]), 100 * best[f][kind]) for f in SIBLINGS]


@of("toy")
def greedily(results):
    x, rows = results["table"], []
    for kind in results["questions"]:
        ranked = pm(x["gpt"]["rank"][kind]) if kind in x["gpt"]["rank"] else ""
        greedy = [pm(x[family]["greedy"][kind]) for family in SIBLINGS]
        rows.append([kind, *greedy, pm(x["bert"]["again"][kind]), ranked])
    return table(["blank", *SIBLINGS.values(), "BERT, one mask at a time", "GPT, ranking all animals"], rows)


@of("toy")
def orders(results):
    x, best = results["table"]["glm"], results["best"]
    rows = [[how, pm(x[how]), f"{100 * best[how]:.1f}"] for how in ("in order", "last first")]
    return table(["blanks filled", "GLM", "ideal"], rows)


# ---- the small presets -----------------------------------------------------------------------------------


@of("models")
def runs(results):
    rows = []
    for name, x in results["models"].items():
        minutes = [f"{x[key]:.1f}" for key in ("minutes", "minutes_of_steps")]
        counts = [f"{x[key]:,}" for key in ("steps", "text_tokens")]
        rows.append([name, f"`{x['command']}`", *counts, *minutes, f"{x['tokens_per_s']:,.0f}"])
    heads = ["", "command", "steps", "text tokens", "minutes in all", "of steps", "text tokens per second"]
    return f"{conditions(results)}\n\n{table(heads, rows)}"


@of("models")
def perplexities(results):
    rows = [[name, *row] for name, x in results["models"].items() for row in held_out(x["evaluation"])]
    return table(["", *HELD_OUT], rows)


@of("models")
def uses(results):
    rows = []
    for name, x in results["models"].items():
        if "tasks" in x:
            metrics = {task: result["metrics"] for task, result in x["tasks"].items()}
            text = value(metrics["text"]["bits_per_byte_bidirectional"])
            infill = share(metrics["infill"]["exact_match"])
            cloze = share(metrics["book_cloze"]["accuracy"])
            everyday = [share(metrics["everyday"][key]) for key in ("accuracy", "accuracy_in_five")]
            rows.append([name, *everyday, text, infill, cloze])
    heads = ["", "everyday blanks filled acceptably", "among the five likeliest"]
    more = ["running text, bits per byte", "blanks restored exactly", "one of five words (chance 20 %)"]
    return table(heads + more, rows)


@of("models")
def said(results):
    lines = []
    for name, x in results["models"].items():
        for verb in ("fills", "writes"):
            texts = (shorten(text, 160, placeholder=" ...") for text in x.get(verb, {}).values())
            lines += [f"- `{name}` {verb} *{text}*" for text in texts]
    return "\n".join(lines)


# ---- the pages -------------------------------------------------------------------------------------------


def filled(text):
    """The text of a page, with all tables made again."""

    def make(mark):
        results = json.loads((HERE / f"{mark[2]}.json").read_text(encoding="utf-8"))
        return f"{mark[1]}\n{MADE[mark[2], mark[3]](results)}\n{mark[5]}"

    complete = text.count("<!-- end -->") == len(MARKED.findall(text))
    assert complete, "a mark without an end, or an end without a mark"
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
        raise SystemExit(f"not up to date: {', '.join(map(str, stale))}; run report.py")
