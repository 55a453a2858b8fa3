"""Pictures of chapter 09, its film reviews, and the checks of its exercises."""

import math

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from ...files.jsonl import read_rows
from ...infilling import build_example
from ...use.tasks import read_task, shipped_tasks
from ...viz.derivation import explain
from ...viz.figures.canvas import SMALL, Canvas, width_of
from ...viz.palette import KINDS, SPAN_COLOURS, THEMES

BLUE, SAND, PALE = KINDS["AA"].light, KINDS["BE"].light, THEMES["light"]["grid"]
TASKS = {  # name: (text, spans, order, objective)
    "fill": ("The dog ran to the park .", [(1, 2), (5, 6)], [0, 1], "token"),
    "continue": ("Once upon a time there was a cat", [(4, 8)], [0], "document"),
    "classify": ("A warm and funny film . It was good .", [(8, 9)], [0], "token"),
    "rewrite": ("He saith unto them . He says to them .", [(5, 10)], [0], "document"),
}

# ---- pictures --------------------------------------------------------------------------------------------


def fig_tasks():
    """Draw four tasks, each as Part A with blanks and what is written into them."""
    canvas, begin, written = Canvas("light", 760), 84, 516
    canvas.text(begin, 16, "given: Part A", bold=True, ha="left")
    canvas.text(written, 16, "written: Part B", bold=True, ha="left")
    for n, (name, (text, *blanks)) in enumerate(TASKS.items()):
        d = explain(text.split(), *blanks)
        x, y, A = begin, 34 + 36 * n, d.part_a_len
        canvas.text(14, y + 12, name, bold=True, ha="left")
        for i, token in enumerate([*d.tokens[:A], *d.targets[A:]]):
            x = written if i == A else x + 6 * (i > A and d.block_position_ids[i] == 1)
            wide = width_of(token) + 12
            canvas.chip(x, y, wide, 24, token, span=int(d.span_id[i]))
            x += wide + 4
        canvas.line((written - 32, y + 12), (written - 12, y + 12), width=1.5)
        canvas.line((written - 17, y + 8), (written - 12, y + 12), (written - 17, y + 16), width=1.5)
    about = "Four tasks: fill, continue, classify, rewrite. Each is Part A with blanks and their answers."
    return canvas.finish(182, about)


def panels(figsize, columns=1, **how):
    """Return (a Figure, its axes, side by side), with no frame at the top and on the right."""
    fig = Figure(figsize=figsize, layout="constrained")
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        return fig, fig.subplots(1, columns, **how)


def fig_rows_read(part_a_len, T):
    """Draw how many rows are read at each step until a sample has T rows, with a cache and without."""
    fig, ax = panels((6.4, 2.6))
    n = np.arange(T - part_a_len + 1)
    ax.bar(n[1:] - 0.2, range(part_a_len + 1, T + 1), 0.4, color=SAND, label="everything again")
    ax.bar(n + 0.2, [part_a_len] + [1] * (T - part_a_len), 0.4, color=BLUE, label="with a cache")
    ax.set(xlabel="step (0: Part A)", ylabel="rows read", xticks=n, ylim=(0, 1.4 * T))
    ax.legend(frameon=False, ncols=2, loc="upper left")
    fig.alt_text = "Rows read at each step: growing without a cache, one with it after Part A was read once."
    return fig


def fig_temperatures():
    """Draw what three temperatures make of the probabilities of three words."""
    p = np.array([0.64, 0.32, 0.04])
    fig, axes = panels((6.4, 2.1), 3, sharey=True)
    for ax, t in zip(axes, (0.5, 1.0, 2.0), strict=True):
        warm = p ** (1 / t) / (p ** (1 / t)).sum()
        ax.bar_label(ax.bar(["cat", "dog", "idea"], warm, color=BLUE), fmt="%.2f", padding=2, fontsize=9)
        ax.set(title=f"t = {t:g}", ylim=(0, 1), yticks=(0, 0.5, 1))
    axes[0].set_ylabel("probability")
    fig.alt_text = (
        "Probabilities 0.64, 0.32, 0.04 become 0.80, 0.20, 0.00 at t = 0.5 and 0.51, 0.36, 0.13 at t = 2."
    )
    return fig


def fig_labels(tokenizer, row, labels):
    """Draw the likeliest words of a row of logits (V,), and label words alone. labels: {label: word's id}"""
    fig, (ax, right) = panels((6.6, 2.7), 2, width_ratios=(3, 2))
    p, ids = row.softmax(-1), list(labels.values())
    shown = sorted({*p.topk(7).indices.tolist(), *ids}, key=lambda i: -p[i])
    colours = [BLUE if i in ids else SAND for i in shown]
    bars = ax.barh([tokenizer.decode([i]).strip() for i in shown], p[shown], color=colours)
    ax.bar_label(bars, [f"{p[i]:.2%}" for i in shown], padding=3, fontsize=9)
    ax.set(title="all words compete", xlim=(0, 1.25 * float(p.max())), xticks=[])
    ax.invert_yaxis()
    for name, i in zip(ax.get_yticklabels(), shown, strict=True):
        name.set(color=BLUE if i in ids else "black", weight="bold" if i in ids else "normal")
    alone = row[ids].softmax(-1)
    bars = right.barh([tokenizer.decode([i]) for i in ids], alone, color=BLUE)
    text = [f"{label}: {x:.0%}" for label, x in zip(labels, alone, strict=True)]
    right.bar_label(bars, text, padding=3, fontsize=9)
    right.set(title="label words alone", xlim=(0, 1.6), ylim=(-1.2, 2.2), xticks=[])
    fig.alt_text = (
        "Left, the likeliest words for the blank; right, the two that stand for labels, renormalised."
    )
    return fig


def fig_remember():
    """Draw the rows that three tasks read with a cache, a line per step, and what each row of Part B says."""
    canvas, x, labels = Canvas("light", 620), 8, read_task("sentiment").verbalizer.values()
    for name, order, where in (
        ("fill", [1, 0], "any order"),
        ("continue", [0], "the end"),
        ("classify", [0], "few words"),
    ):
        text, spans, _, objective = TASKS[name]
        d = explain(text.split(), spans, order, objective)
        A, T = d.part_a_len, d.part_a_len + 1 if name == "classify" else len(d)  # a label needs [S] alone
        canvas.text(x, 14, f"{name}: {where}", SMALL, bold=True, ha="left")
        for step, rows in enumerate([range(A), *([i] for i in range(A, T))]):
            y, end = 28 + 19 * step, rows[-1] + 1
            assert d.mask[rows, :end].all() and not d.mask[: rows[0], rows].any()  # old rows stay as they are
            for i in range(end):
                colour = SPAN_COLOURS[d.span_id[i]] if d.span_id[i] >= 0 else BLUE
                canvas.rectangle(x + 14 * i, y, 12, 14, fill=colour if i in rows else PALE)
            if step:
                said = " / ".join(labels) if name == "classify" else d.targets[end - 1]
                canvas.text(x + 14 * end + 2, y + 7, said, SMALL, ha="left")
        x += 14 * T + 50
    for n, (words, colours) in enumerate({"read": (BLUE, *SPAN_COLOURS[:2]), "cached": (PALE,)}.items()):
        for m, colour in enumerate(colours):
            canvas.rectangle(438 + 14 * m, 86 + 19 * n, 12, 14, fill=colour)
        canvas.text(442 + 14 * len(colours), 93 + 19 * n, words, SMALL, ha="left")
    return canvas.finish(
        130,
        "Three tasks, step by step: Part A is read once, then one row of Part B at a time; earlier rows are "
        "cached. Two blanks are filled, the right one first. A text is continued. A label is one of two "
        "words.",
    )


# ---- film reviews, and the checks of the exercises -------------------------------------------------------


def film_reviews(learn, dev):
    """Return {id: row} twice, from the task "sentiment": `learn` of its first 400 rows, and `dev` others."""
    rows = list(read_rows(shipped_tasks()["sentiment"].with_suffix(".jsonl.xz")).items())
    return dict(rows[:learn]), dict(rows[400 : 400 + dev])


def check_rows_read(rows_read):
    for A, lens in ((4, [2]), (7, [1, 3]), (10, [5, 2, 1]), (3, [1])):
        spans, at = [], 1
        for length in lens:
            spans.append((at, at + length))
            at += length + 1
        text = range(100, 100 + A + sum(lens) - len(lens))
        T = len(build_example(text, spans, list(range(len(lens)))).tokens)  # Part A has A of them
        got = rows_read(A, list(lens))
        assert got is not None, "rows_read returned None: did you forget `return`?"
        hint = "; the end of a blank is predicted too" if got[1] == A + sum(lens) else ""
        hint = hint or ("; Part A has to be read once" if got[1] == T - A else "")
        assert got[1] == T, f"part_a_len={A}, lens={lens}: {got[1]} rows with a cache?{hint}"
        right = sum(range(A + 1, T + 1))
        assert got[0] == right, f"part_a_len={A}, lens={lens}: {got[0]} rows without one?"
    print("✓ check_rows_read: four texts")


def check_temperature(t):
    assert t is not None, "the answer is a number"
    p = (torch.tensor([9.0, 1.0]).log() / t).softmax(-1)
    ratio = float(p[0] / p[1])
    assert abs(ratio - 3) < 0.01, f"at {t} it is {ratio:.2f} times as likely"
    print(f"✓ check_temperature: at {t} it is {ratio:.2f} times as likely")


def check_label_probabilities(label_probabilities):
    words = {"good": [3], "bad": [7, 1], "so-so": [4, 5, 6]}
    for seed in range(3):
        row = 3 * torch.randn(10, generator=torch.Generator().manual_seed(seed))
        answer = label_probabilities(row, words)
        assert answer is not None, "label_probabilities returned None: did you forget `return`?"
        got = {label: float(p) for label, p in answer.items()}
        assert set(got) == set(words), f"your labels are {sorted(got)}, not {sorted(words)}"
        assert abs(sum(got.values()) - 1) < 1e-4, f"your labels sum to {sum(got.values()):.3f}"
        for a, b in (("good", "bad"), ("bad", "so-so")):
            ratio = math.exp(row[words[a]].logsumexp(0) - row[words[b]].logsumexp(0))
            yours = got[a] / max(got[b], 1e-12)
            assert abs(yours / ratio - 1) < 1e-3, (
                f"your {a} is {yours:.3f} times as likely as {b}; it should be {ratio:.3f}"
            )
    print("✓ check_label_probabilities: three labels, six words")
