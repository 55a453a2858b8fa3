"""The result of a comparison: its cells as one table."""

import math
import statistics
from dataclasses import asdict

from ..machine import origin
from .cells import COMMAND
from .plan import ABLATIONS, COUNTED, RIVALS, SIMPLE, TASKS, cells, uses_of


def summary(comparison):
    """All results so far as one dict for JSON: the table, the cost of pretraining, and what it gained."""
    all_cells = cells(comparison.plan)
    results = {cell: result for cell in all_cells if (result := comparison.known(cell))}
    table = table_of({cell: result for cell, result in results.items() if cell.task})
    costs = {}
    for cell, result in results.items():
        if cell.task is None:
            costs.setdefault(cell.family, []).append(result)
    columns, pretraining = ("text_tokens", "learned_tokens", "petaflop", "training_seconds"), {}
    for family, runs in costs.items():
        means = {name: statistics.fmean(run[name] for run in runs) for name in columns}
        pretraining[family] = dict(models=len(runs), **means)
    return dict(
        plan=asdict(comparison.plan),
        cells=len(all_cells),
        done=len(results),
        minutes=round(sum(result["seconds"] for result in results.values()) / 60, 1),
        table=table,
        pretraining=pretraining,
        helped=helped(table),
        command=COMMAND,
        **origin(),
    )


def table_of(results):
    """{use: {"metric", "n", "pretrained": {family: scores}, "random": ...}} from {cell: result}."""
    table = {}
    for cell, result in results.items():
        name = "glm-head" if cell.head else cell.family
        new = dict(metric=result["metric"], n=result["n"], pretrained={}, random={})
        row = table.setdefault(cell.task, new)
        if cell.family == COUNTED:
            row[COUNTED] = {key: result[key] for key in ("score", "standard_error")}
            continue
        for key in ("chance", "most_frequent", "copying"):
            if result.get(key) is not None:
                row[key] = result[key]
        row["pretrained" if cell.pretrained is not None else "random"].setdefault(name, []).append(result)
    for row in table.values():
        for kind in ("pretrained", "random"):
            row[kind] = {name: together(runs) for name, runs in row[kind].items()}
    return {use: table[use] for use in NAMES if use in table}


def together(results):
    """Several runs as one: mean, its standard error, standard deviation between runs, and number of runs.

    The error combines that of the number of dev texts and that of the runs: sqrt(s_text^2 + s_runs^2 / runs).
    """
    scores, errors = [r["score"] for r in results], [r["standard_error"] or 0.0 for r in results]
    between = statistics.stdev(scores) if len(scores) > 1 else None
    error = math.sqrt(statistics.fmean(errors) ** 2 + (between or 0.0) ** 2 / len(scores))
    return dict(score=statistics.fmean(scores), standard_error=error, between_runs=between, runs=len(scores))


def helped(table):
    """{task: by how much the pretrained GLM beats the same fine-tuning from random weights}."""
    gains = {}
    for task in TASKS:
        ours, random = (table.get(task, {}).get(kind, {}).get("glm") for kind in ("pretrained", "random"))
        if ours and random:
            error = math.hypot(ours["standard_error"], random["standard_error"])
            difference = ours["score"] - random["score"]
            gains[task] = dict(difference=difference, standard_errors=difference / error if error else None)
    return gains


NAMES = dict(
    sentiment="sentiment, %",
    topic="topic, %",
    paraphrase="paraphrase, %",
    book_cloze="book cloze, %",
    modernise="modernise, BLEU",
    infill="infilling, % exact",
    last_word="last word, %",
    text="running text, bits/byte",
    everyday="everyday blanks, %",
    blank="blanks in stories, % exact",
    blank_bits="the same, bits per blank",
    stories="stories, bits/byte",
)


def print_summary(summary):
    """Print the two tables, the cost of pretraining, and what it gained."""
    table = summary["table"]
    print(f"compared    {summary['done']} of {summary['cells']} cells, {summary['minutes']} minutes of work")
    heads = "".join(f"{family:>16}" for family in RIVALS)
    print(f"\n{'':<26}{heads}{'chance':>9}{'majority':>10}{'counted':>9}")
    for use in NAMES:
        row = table.get(use)
        if use in SIMPLE and not row:
            continue
        for kind, name in (("pretrained", NAMES[use]), ("random", "  from random weights")):
            line = "".join(f"{entry(row, kind, family, use):>16}" for family in RIVALS)
            floor = [f"{row[key]:.1f}" if row and key in row else "" for key in ("chance", "most_frequent")]
            floor.append(f"{row[COUNTED]['score']:.1f}" if row and COUNTED in row else "")
            if kind == "pretrained":
                line += f"{floor[0]:>9}{floor[1]:>10}{floor[2]:>9}"
            print(f"{name:<26}{line}")
    print("counted: TF-IDF with logistic regression, of modernise a dictionary of words; no network")
    print(
        "told how many tokens a blank has: bert, and gpt and prefix where they fill blanks; glm finds it out"
    )
    if any(name in row["pretrained"] for row in table.values() for name in ABLATIONS):
        print_ablations(table)
    print(f"\n{'pretraining, a model':<26}{'text tokens':>16}{'learned':>16}{'PFLOP':>16}{'seconds':>16}")
    for family, cost in summary["pretraining"].items():
        tokens = f"{cost['text_tokens']:>16,.0f}{cost['learned_tokens']:>16,.0f}"
        print(f"{family:<26}{tokens}{cost['petaflop']:>16.3f}{cost['training_seconds']:>16.0f}")
    if summary["helped"]:
        gains = [f"{task} {x['standard_errors'] or 0:+.1f}" for task, x in summary["helped"].items()]
        print(f"\nabove random weights (glm), in standard errors: {', '.join(gains)}")


def print_ablations(table):
    """Print the table of GLM's ablations and of its linear head."""
    print(f"\n{'ablations of glm':<26}{'glm':>16}" + "".join(f"{x:>16}" for x in (*ABLATIONS, "linear head")))
    for use in ("sentiment", "infill"):
        row = table.get(use)
        line = [entry(row, "pretrained", name, use) for name in ("glm", *ABLATIONS, "glm-head")]
        print(f"{NAMES[use]:<26}" + "".join(f"{x:>16}" for x in line))


def entry(row, kind, name, use):
    """A table's entry: mean +- standard error; "n/a" if a model cannot do it, "..." if it is not done yet."""
    family = name.removesuffix("-head")
    if use not in uses_of(family) or (name, use) == ("glm-head", "infill"):
        return "n/a"
    scores = row and row[kind].get(name)
    digits = 2 if use in ("text", "stories") else 1
    return f"{scores['score']:.{digits}f} +- {scores['standard_error']:.{digits}f}" if scores else "..."
