"""Pictures of chapter 01, what it tries on many texts, and the checks of its exercises."""

from collections import Counter
from itertools import combinations_with_replacement

import numpy as np
from matplotlib.figure import Figure

from ...infilling import build_example, restore
from ...rng import Rng
from ...spans import OBJECTIVES, Span, sample_spans
from ...viz.derivation import explain
from ...viz.figures.canvas import Canvas, width_of
from ...viz.palette import KINDS, SPAN_COLOURS, THEMES

LOOK = THEMES["light"]
PROVERB = "the early bird catches the worm but the second mouse gets the cheese".split()
PUZZLE = "[M] bird catches the [M] but the second mouse [M]"  # Part A
PUZZLE += " [S] gets the cheese [S] the early [S] worm"  # Part B
POSITIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 0, 0, 0, 4, 4]

# ---- pictures --------------------------------------------------------------------------------------------


def fig_lengths(drawn, budget, law):
    """Draw the lengths of eight texts, and the mean of the first and the last that were drawn for a text.

    drawn: a list of lengths for each text; law: the probability of the lengths 1, 2, ..., which they follow.
    """
    counted = np.bincount(sum(drawn, [])) / sum(map(len, drawn))
    assert np.allclose(counted[1:], law[: len(counted) - 1], atol=0.01)
    ends = LOOK["soft"], SPAN_COLOURS[0]  # the first, the last
    fig = Figure(figsize=(7, 2.9), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(3, 1))
    for row, lengths in enumerate(drawn[:8]):
        for k, n in enumerate(lengths):
            last, before = k == len(lengths) - 1, sum(lengths[:k])
            colour = ends[0] if k == 0 else ends[1] if last else KINDS["BA"].light
            left.broken_barh([(before + 0.1, n - 0.2)], (row, 0.8), facecolors=colour)
            middle = before + n + 0.5 if last else before + n / 2
            left.text(middle, row + 0.43, n, ha="center", va="center", fontsize=8)
    left.axvline(budget, color=LOOK["ink"], ls="--")
    left.set(xlim=(0, budget + 7), ylim=(8, -0.2), yticks=[], xlabel="tokens")
    left.text(budget, -0.4, f"budget: {budget}", ha="center")
    left.set_title("lengths drawn for eight texts", loc="left")
    means = [np.mean([lengths[i] for lengths in drawn]) for i in (0, -1)]
    right.bar(["first", "last"], means, color=ends, width=0.6)
    for x, mean in enumerate(means):
        right.text(x, mean + 0.1, f"{mean:.2f}", ha="center")
    right.set(ylim=(0, means[1] * 1.2), yticks=[], title="mean length")
    for ax in (left, right):
        ax.spines[["top", "right", "left"]].set_visible(False)
    fig.alt_text = (
        f"Left: the lengths drawn for eight texts, end to end; the last reaches or passes the budget of "
        f"{budget}. Right: the last length drawn for a text is longer on average than the first."
    )
    return fig


def fig_expanded(spans, slots, length=10, side=44):
    """Draw how points in slots between tokens become spans, each but the last with a gap."""
    owner = {i: k for k, (a, b) in enumerate(spans) for i in range(a, b)}
    gaps = {b for _, b in spans[:-1]}
    kept = [i for i in range(length) if i not in owner and i not in gaps]
    canvas = Canvas("light", 620)
    x_of = {i: 130 + side * i for i in range(length)}
    top = {i: 130 + 2.2 * side * (n + 0.5) for n, i in enumerate(kept)}  # the tokens that are left
    for name, y in (("slots", 22), (f"{len(kept)} tokens left", 62), ("expanded", 152)):
        canvas.text(14, y, name, ha="left", colour=LOOK["soft"])
    for i, x in top.items():
        canvas.chip(x, 50, side - 4, 24, "")
        canvas.curve(x + side / 2 - 2, 76, x_of[i] + side / 2 - 2, 138, colour=LOOK["grid"])
    for slot in range(len(kept) + 1):
        x = 130 + 2.2 * side * slot + 0.35 * side - 6
        canvas.text(x, 22, str(slot), bold=slot in slots)
        if slot in slots:
            k = slots.index(slot)
            (a, b), colour = spans[k], SPAN_COLOURS[k]
            canvas.rectangle(x - 8, 54, 16, 16, fill=colour, round=8)
            canvas.curve(x, 72, x_of[a] + 2, 138, colour=colour)
            canvas.curve(x, 72, x_of[b if b in gaps else b - 1] + side - 6, 138, colour=colour)
    for i, x in x_of.items():
        canvas.chip(x, 140, side - 4, 24, "gap" if i in gaps else str(i), span=owner.get(i, -1), size=8)
    return canvas.finish(
        176, "Two points in slots 1 and 3 of four tokens become spans 1 to 3, with a gap, and 6 to 9."
    )


def fig_objectives(samples):
    """Draw one text as each objective blanks it; samples: a Derivation for each."""
    canvas, y = Canvas("light", 700), 6
    for d in samples:
        owner = {i: k for k, (a, b) in enumerate(d.spans) for i in range(a, b)}
        canvas.text(14, y + 12, d.objective, 10, bold=True, ha="left")
        x, y = 14, y + 26
        for i, word in enumerate(d.text):
            w = width_of(word) + 8
            if x + w > 690:
                x, y = 14, y + 26
            fill = SPAN_COLOURS[owner[i]] if i in owner else LOOK["faint"]
            canvas.rectangle(x, y, w, 22, fill=fill, round=4)
            canvas.text(x + w / 2, y + 11, word, colour="white" if i in owner else None)
            x += w + 2
        y += 30
    return canvas.finish(
        y + 4,
        "One text, blanked by each objective: short spans, a whole sentence, everything from a point on.",
    )


def fig_draws(drawn, text):
    """Draw the spans of many draws from one text, one per line; drawn: {objective: the spans of each}."""
    fig = Figure(figsize=(7, 5), layout="constrained")
    axes = fig.subplots(len(drawn), 1, sharex=True)
    for ax, (objective, draws) in zip(axes, drawn.items(), strict=True):
        for row, spans in enumerate(draws):
            ax.broken_barh([(0, len(text))], (row, 0.8), facecolors=LOOK["faint"])
            for k, (a, b) in enumerate(spans):
                ax.broken_barh([(a + 0.1, b - a - 0.2)], (row, 0.8), facecolors=SPAN_COLOURS[k % 6])
        for i, word in enumerate(text):
            if word == ".":
                ax.axvline(i + 1, color=LOOK["soft"], linewidth=0.8)
        share = np.mean([sum(b - a for a, b in spans) / len(text) for spans in draws])
        ax.set_title(f"{objective}: {share:.0%} blanked", loc="left", fontsize=10)
        ax.set(yticks=[], ylim=(len(draws), -0.3), xlim=(0, len(text)))
        ax.spines[:].set_visible(False)
    axes[-1].set_xlabel("token of the text")
    fig.alt_text = (
        "The same text broken twelve times by each objective. Token: short spans. "
        "Sentence: one whole sentence. Document: one span that begins at the middle or "
        "before it and runs to the end."
    )
    return fig


# ---- on many texts ---------------------------------------------------------------------------------------


def restore_random_texts():
    """Blank 300 random texts by each objective, put each together again, and print how many spans."""
    tried = Counter()
    for objective in OBJECTIVES:
        for n in range(300):
            rng = Rng(1, n)
            ids = [1] + [100 + rng.integer(50) for _ in range(5 + rng.integer(200))]  # 1 is cls
            ends = [i % 10 == 0 for i in range(150)]  # every tenth word ends a sentence
            spans = sample_spans(ids, objective, rng, sentence_ends=ends)
            order = rng.shuffle(list(range(len(spans))))
            assert restore(build_example(ids, spans, order, objective=objective)).tolist() == ids
            tried[objective] += len(spans)
    print("spans cut out and put back:", dict(tried))


# ---- exercises -------------------------------------------------------------------------------------------


def placed(lengths, slots):
    """Return the spans of these lengths in these slots, as the chapter's `place` does."""
    starts = [slot + sum(lengths[:k]) + k for k, slot in enumerate(slots)]  # k: the gaps before
    return [Span(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def check_slots_of(slots_of):
    """Check exercise 1 on every layout of spans of 2 and 3 in a text of 10."""
    lengths = [2, 3]
    for spans in [placed(lengths, slots) for slots in combinations_with_replacement(range(5), 2)]:
        slots = slots_of(spans)
        assert slots is not None, "slots_of returned None: did you forget `return`?"
        assert slots != [a for a, _ in spans] or spans == placed(lengths, slots), (
            f"{spans}: {slots} are places in the text; what has `place` added to each slot?"
        )
        assert slots == sorted(slots), f"{spans}: slots {slots} are not sorted"
        assert all(0 <= slot <= 4 for slot in slots), f"{spans}: slots {slots} are not in 0 .. 4"
        assert placed(lengths, slots) == spans, f"{spans}: {slots} gives {placed(lengths, slots)}"
    print("✓ check_slots_of: all 15 layouts come back")


def check_mean_blanked(answer):
    """Check exercise 2 against 4,000 random texts."""
    seen = [sum(b - a for a, b in sample_spans(range(20), "token", Rng(9, n))) for n in range(4000)]
    assert answer is not None, "the answer is a number"
    assert abs(answer - np.mean(seen)) < 0.1, f"{answer} is not what 4,000 texts lose on average"
    print(f"✓ check_mean_blanked: 4,000 texts lose {np.mean(seen):.2f} tokens on average")


def print_puzzle():
    """Print the tokens and positions of exercise 3, ten rows in a line."""
    for start in (0, 10):
        rows = list(zip(PUZZLE.split(), POSITIONS, strict=True))[start : start + 10]
        print(*(f"{token:8}" for token, _ in rows))
        print(*(f"{position:<8}" for _, position in rows))


def check_puzzle(answer):
    """Check exercise 3: the answer must break the proverb into the rows of the puzzle."""
    assert isinstance(answer, tuple) and len(answer) == 2, "the answer is a pair: (spans, order)"
    spans, order = answer

    def reads(spans, order):
        try:
            return " ".join(explain(PROVERB, spans, order).tokens)
        except ValueError as error:
            return str(error)

    hint = ""
    if reads([(start - 1, end - 1) for start, end in spans], order) == PUZZLE:
        hint = "; do you count from 1?"
    elif reads(spans, np.argsort(order).tolist()) == PUZZLE:
        hint = "; yours is the inverse permutation"
    assert reads(spans, order) == PUZZLE, f"with your answer: {reads(spans, order)}{hint}"
    print("✓ check_puzzle: the proverb is whole again")
