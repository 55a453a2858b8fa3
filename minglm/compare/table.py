"""What a comparison says: its cells as one table."""

import math
import statistics
from dataclasses import asdict

from ..machine import origin
from .cells import COMMAND
from .plan import ABLATIONS, COUNTED, RIVALS, TASKS, cells, uses_of


def summary(comparison):
    """All results so far as one dict, ready for JSON: the main table, the ablations, what pretraining cost, and a verdict."""
    plan, table = comparison.plan, {}
    for cell in cells(plan):
        result = comparison.known(cell)
        if cell.task is None or result is None:
            continue
        name = "glm-head" if cell.head else cell.family
        row = table.setdefault(
            cell.task, dict(metric=result["metric"], n=result["n"], pretrained={}, random={})
        )
        if cell.family == COUNTED:
            row[COUNTED] = {key: result[key] for key in ("score", "standard_error")}
            continue
        row |= {
            key: result[key] for key in ("chance", "most_frequent", "copying") if result.get(key) is not None
        }
        row["pretrained" if cell.pretrained is not None else "random"].setdefault(name, []).append(result)
    for row in table.values():
        for kind in ("pretrained", "random"):
            row[kind] = {name: together(results) for name, results in row[kind].items()}
    table = {use: table[use] for use in NAMES if use in table}
    costs = {}
    for cell in cells(plan):
        if cell.task is None and (result := comparison.known(cell)):
            costs.setdefault(cell.family, []).append(result)
    pretraining = {
        family: dict(
            models=len(found),
            **{
                name: statistics.fmean(result[name] for result in found)
                for name in ("text_tokens", "learned_tokens", "petaflop", "training_seconds")
            },
        )
        for family, found in costs.items()
    }
    done = [comparison.known(cell) is not None for cell in cells(plan)]
    seconds = sum(result["seconds"] for cell in cells(plan) if (result := comparison.known(cell)))
    return dict(
        plan=asdict(plan),
        cells=len(done),
        done=sum(done),
        minutes=round(seconds / 60, 1),
        table=table,
        pretraining=pretraining,
        helped=helped(table),
        command=COMMAND,
        **origin(),
    )


def together(results):
    """Several runs of one thing as one: mean, its standard error, the deviation between runs, and how many there were.

    The error joins what the number of dev texts leaves open and what the runs do: sqrt(s_text^2 + s_runs^2 /
    runs).
    """
    scores, errors = [r["score"] for r in results], [r["standard_error"] or 0.0 for r in results]
    between = statistics.stdev(scores) if len(scores) > 1 else None
    error = math.sqrt(statistics.fmean(errors) ** 2 + (between or 0.0) ** 2 / len(scores))
    return dict(score=statistics.fmean(scores), standard_error=error, between_runs=between, runs=len(scores))


def helped(table):
    """Of each task that was learned: by how much the pretrained GLM is above the same learning from random weights."""
    found = {}
    for task in TASKS:
        ours, random = (table.get(task, {}).get(kind, {}).get("glm") for kind in ("pretrained", "random"))
        if ours and random:
            error = math.hypot(ours["standard_error"], random["standard_error"])
            difference = ours["score"] - random["score"]
            found[task] = dict(difference=difference, standard_errors=difference / error if error else None)
    return found


NAMES = dict(
    sentiment="sentiment, %",
    topic="topic, %",
    paraphrase="paraphrase, %",
    book_cloze="book cloze, %",
    modernise="modernise, BLEU",
    infill="infilling, % exact",
    last_word="last word, %",
    text="running text, bits a byte",
)


def print_summary(found):
    """The two tables, what pretraining cost, and what pretraining was good for."""
    table = found["table"]
    print(f"compared    {found['done']} of {found['cells']} cells, {found['minutes']} minutes of work")
    heads = "".join(f"{family:>16}" for family in RIVALS)
    print(f"\n{'':<26}{heads}{'chance':>9}{'majority':>10}{'counted':>9}")
    for use in NAMES:
        row = table.get(use)
        for kind, name in (("pretrained", NAMES[use]), ("random", "  from random weights")):
            line = "".join(f"{entry(row, kind, family, use):>16}" for family in RIVALS)
            floor = [f"{row[key]:.1f}" if row and key in row else "" for key in ("chance", "most_frequent")]
            floor.append(f"{row[COUNTED]['score']:.1f}" if row and COUNTED in row else "")
            print(
                f"{name:<26}{line}"
                + (f"{floor[0]:>9}{floor[1]:>10}{floor[2]:>9}" if kind == "pretrained" else "")
            )
    print("counted: TF-IDF with logistic regression, of modernise a dictionary of words; no network")
    print("bert is told how many tokens a blank has; the others find it out")
    print(f"\n{'ablations of glm':<26}{'glm':>16}" + "".join(f"{x:>16}" for x in (*ABLATIONS, "linear head")))
    for use in ("sentiment", "infill"):
        row = table.get(use)
        line = [entry(row, "pretrained", name, use) for name in ("glm", *ABLATIONS, "glm-head")]
        print(f"{NAMES[use]:<26}" + "".join(f"{x:>16}" for x in line))
    print(f"\n{'pretraining, a model':<26}{'text tokens':>16}{'learned':>16}{'PFLOP':>16}{'seconds':>16}")
    for family, cost in found["pretraining"].items():
        print(
            f"{family:<26}{cost['text_tokens']:>16,.0f}{cost['learned_tokens']:>16,.0f}{cost['petaflop']:>16.3f}"
            f"{cost['training_seconds']:>16.0f}"
        )
    if found["helped"]:
        print(
            "\nabove random weights (glm), in standard errors: "
            + ", ".join(f"{task} {x['standard_errors'] or 0:+.1f}" for task, x in found["helped"].items())
        )


def entry(row, kind, name, use):
    """A table's entry: mean +- standard error, "n/a" for what a model cannot do, "..." for what is not done yet."""
    family = name.removesuffix("-head")
    if use not in uses_of(family, 0) or (name, use) == ("glm-head", "infill"):
        return "n/a"
    found = row and row[kind].get(name)
    digits = 2 if use == "text" else 1
    return f"{found['score']:.{digits}f} +- {found['standard_error']:.{digits}f}" if found else "..."
