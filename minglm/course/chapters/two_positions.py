"""Pictures of chapter 02, what it tries on many texts, and the checks of its exercises."""

import math
from itertools import permutations

import numpy as np
from matplotlib.figure import Figure

from ...infilling import build_example
from ...rng import Rng
from ...spans import sample_spans
from ...viz.derivation import EXAMPLE, explain
from ...viz.figures.canvas import Canvas
from ...viz.palette import KINDS, SPAN_COLOURS, THEMES

BLUE, SOFT = KINDS["AA"].light, THEMES["light"]["soft"]

# ---- pictures --------------------------------------------------------------------------------------------


def fig_same_rows(examples, names, shown=6):
    """Draw the first rows of two samples, one with each blank first, and the first right answer of each."""
    canvas = Canvas("light", 620)
    for k, (example, order) in enumerate(zip(examples, ("first", "second"), strict=True)):
        y = 34 + 76 * k
        canvas.text(14, y, f"{order} blank first", ha="left")
        for i in range(shown):
            x = 150 + 56 * i
            canvas.chip(x, y - 13, 50, 26, names[int(example.tokens[i])])
            canvas.text(x + 25, y + 25, str(example.position_ids[i]), colour=SOFT)
        canvas.line((486, y), (522, y), colour=SOFT)
        canvas.line((515, y - 4), (522, y), (515, y + 4), colour=SOFT)
        canvas.chip(528, y - 13, 50, 26, names[int(example.targets[0])], span=k)
    canvas.text(553, 8, "right answer", 8, colour=SOFT)
    return canvas.finish(
        148, "The same six tokens, numbered 0 to 5, twice: once x3 is the right answer, once x5."
    )


def fig_losses(losses):
    """Draw the losses of two runs, and the least of numbered rows; losses: {name: one per step}."""
    fig = Figure(figsize=(6.4, 2.8), layout="constrained")
    ax = fig.subplots()
    for (name, values), style in zip(losses.items(), ("--", "-"), strict=True):
        ax.plot(values, style, color=BLUE, label=name)
    ax.axhline(math.log(2) / 5, color=SOFT, linestyle=":", label="ln 2 / 5")
    ax.set(xlabel="step", ylabel="loss", yscale="log")
    ax.set_yticks((0.01, 0.1, 1), ("0.01", "0.1", "1"))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = (
        "Two loss curves. With numbered rows the loss stops at ln 2 / 5, with GLM's two "
        "positions it goes on falling."
    )
    return fig


def draw_towers(ax, d):
    """Draw every row of a sample at its two positions: Part A as a line, each span as a tower."""
    for i, token in enumerate(d.tokens):
        x, y, k = d.position_ids[i], d.block_position_ids[i], d.span_id[i]
        colour = BLUE if k < 0 else SPAN_COLOURS[k]
        ink, paper = ("white", colour) if y == 0 else (colour, "white")
        box = dict(boxstyle="round", facecolor=paper, edgecolor=colour)
        ax.text(x, y, token, ha="center", va="center", color=ink, bbox=box)
    ax.set(xlim=(-0.6, d.part_a_len - 0.4), xticks=range(d.part_a_len))
    ax.spines[["top", "right"]].set_visible(False)


def fig_towers(d):
    """Draw the two positions of a sample as coordinates."""
    fig = Figure(figsize=(6.4, 2.9), layout="constrained")
    ax = fig.subplots()
    draw_towers(ax, d)
    ax.set(ylim=(-0.6, 3.6), yticks=range(4), ylabel="block position: where inside")
    ax.set_xlabel("position: which blank")
    fig.alt_text = (
        "The rows of the example by their two positions: Part A along the bottom, over "
        "position 2 the tower S x3, over position 4 the tower S x5 x6."
    )
    return fig


def fig_lengths(samples):
    """Draw samples with one blank each side by side: the same line, and towers of different heights."""
    fig = Figure(figsize=(6.4, 2.9), layout="constrained")
    axes = fig.subplots(1, len(samples), sharey=True)
    for ax, d in zip(axes, samples, strict=True):
        draw_towers(ax, d)
        start, end = d.spans[0]
        ax.set(title=f"a blank of {end - start}", ylim=(-0.6, 5.6), yticks=range(6))
    axes[0].set_ylabel("block position")
    fig.alt_text = "A blank of one word and one of four: Part A is the same four tokens, the towers differ."
    return fig


def fig_asked(answers, names):
    """Draw what the model answers for each blank; answers: {the position of its [S]: probabilities (V,)}."""
    fig = Figure(figsize=(6.4, 2.4), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    words = {token: name for token, name in names.items() if name not in ("[M]", "[S]")}
    for k, (ax, (place, p)) in enumerate(zip(axes, answers.items(), strict=True)):
        assert names[int(p.argmax())] == ("x3", "x5")[k]
        ax.bar(list(words.values()), p[list(words)], color=SPAN_COLOURS[k])
        ax.set(title=f"[S] at position {place}", ylim=(0, 1))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("probability")
    fig.alt_text = "With S at position 2 the model answers x3, with S at position 4 it answers x5."
    return fig


# ---- on many texts ---------------------------------------------------------------------------------------


def random_layout(rng, least, most):
    """Return (length, spans, order) of a random text of least to most - 1 tokens."""
    length = least + rng.integer(most - least)
    spans = sample_spans(range(length), "token", rng)
    return length, spans, rng.shuffle(list(range(len(spans))))


def try_on_random_texts(positions):
    """Assert that `positions(length, spans, order)` gives both lists of the library, on 200 texts."""
    for n in range(200):
        length, spans, order = random_layout(Rng(3, n), 10, 110)
        e = build_example(range(length), spans, order)
        assert (e.position_ids.tolist(), e.block_position_ids.tolist()) == positions(length, spans, order)


def count_places(ids, spans):
    """Print how many places the rows of a sample have, and how many sets of places its spans' orders give."""
    every = []
    for order in permutations(range(len(spans))):
        e = build_example(ids, spans, order)
        columns = e.position_ids, e.block_position_ids, e.tokens
        every.append(list(zip(*(column.tolist() for column in columns), strict=True)))
    places, sets = {row[:2] for row in every[0]}, {frozenset(rows) for rows in every}
    print("rows:", len(every[0]), "  different places:", len(places))
    print("orders:", len(every), "  different sets of places:", len(sets))
    assert len(places) == len(every[0]) and len(sets) == 1


# ---- exercises -------------------------------------------------------------------------------------------


def check_layout(layout):
    """Check exercise 1 on 100 random texts."""
    for n in range(100):
        length, spans, order = random_layout(Rng(8, n), 6, 66)
        spans = [tuple(span) for span in spans]
        e = build_example(range(length), spans, order)
        answer = layout(e.position_ids.tolist(), e.block_position_ids.tolist())
        assert answer is not None, "layout returned None: did you forget `return`?"
        got, got_order = answer
        got = [tuple(span) for span in got]
        hint = " (the first row of a span is [S], not a token)"
        hint = hint if got == [(a, b + 1) for a, b in spans] else ""
        assert got == spans, f"text {n}: you say spans {got}, but they were {spans}{hint}"
        inverse = list(got_order) == np.argsort(order).tolist() != order
        hint = " (yours is the inverse permutation)" if inverse else ""
        assert list(got_order) == order, (
            f"text {n}: you say order {list(got_order)}, but it was {order}{hint}"
        )
    print("✓ check_layout: 100 layouts read from their numbers")


def check_first_row(first_row):
    """Check exercise 2 on every blank of four samples."""
    for spans in ([(2, 3), (4, 6)], [(0, 1), (2, 5)], [(1, 4)], [(0, 1), (2, 3), (4, 5)]):
        for n in range(len(spans)):
            d = explain(EXAMPLE[0], spans, [n, *(k for k in range(len(spans)) if k != n)])
            A, got = d.part_a_len, first_row(list(d.tokens[: d.part_a_len]), n)
            assert got is not None, "first_row returned None: did you forget `return`?"
            truth = d.tokens[A], int(d.position_ids[A]), int(d.block_position_ids[A])
            asked = f"blank {n} of {' '.join(d.tokens[:A])}"
            hints = {
                (truth[0], truth[1], 0): "that is the place of the [M] itself",
                (truth[0], A, 1): "the rows of Part B take no new positions",
                (truth[0], truth[1] + 1, 1): "positions count from 0",
            }
            hint = hints.get(tuple(got), "look at the towers")
            assert tuple(got) == truth, f"{asked}: {got} is not its first row; {hint}"
    print("✓ check_first_row: every blank is found")
