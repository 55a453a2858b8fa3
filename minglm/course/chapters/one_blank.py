"""Pictures of chapter 00, and the checks of its exercises."""

import math
import re

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...data.toy import ANIMALS
from ...infilling import build_example
from ...rng import Rng
from ...spans import sample_spans
from ...use.generate import fill
from ...viz.derivation import explain
from ...viz.figures import draw
from ...viz.figures.canvas import Canvas
from ...viz.palette import KINDS, THEMES

BLUE, SAND, SOFT = KINDS["AA"].light, KINDS["BE"].light, THEMES["light"]["soft"]
HIDDEN = "Today [M] frog that lives [M] river eats flies."

# ---- pictures --------------------------------------------------------------------------------------------


def fig_world(animals, asked="cat"):
    """Draw the facts by place; animals: {animal: (place, food)}; asked: the one with a coloured edge."""
    canvas = Canvas("light", 620)
    for column, place in enumerate(dict.fromkeys(place for place, _ in animals.values())):
        x = 14 + 202 * column
        canvas.rectangle(x, 10, 188, 134, fill=THEMES["light"]["faint"], round=8)
        canvas.text(x + 94, 28, place, 10, bold=True)
        for n, animal in enumerate(animal for animal, (home, _) in animals.items() if home == place):
            y = 58 + 33 * n
            canvas.chip(x + 10, y - 13, 62, 26, animal, span=0 if animal == asked else -1, fill="white")
            canvas.text(x + 94, y, "eats", 8, colour=SOFT)
            canvas.chip(x + 116, y - 13, 62, 26, animals[animal][1], fill="white")
    return canvas.finish(
        154, "Nine animals in three places, three in each, every one with a food of its own."
    )


def fig_row(d):
    """Draw the mask of the chapter's sentence, with one row marked."""
    figure = draw("mask", derivation=d, width=620)  # coordinates are pixels
    ax = figure.axes[0]
    ax.add_patch(Rectangle((44, 466), 570, 29, fill=False, ec="black", lw=2.5))
    words = "one row: the token\n'forest', what it sees,\nand what it learns"
    arrow = dict(arrowstyle="-|>", lw=2)
    ax.annotate(words, (480, 466), (480, 300), ha="center", bbox=dict(fc="white"), arrowprops=arrow)
    return figure


def panels(height, columns=1):
    """Return a figure, in inches, and its axes in a row, without frames."""
    fig = Figure(figsize=(6.4, height), layout="constrained")
    axes = fig.subplots(1, columns, sharey=True, squeeze=False)[0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, *axes


def fig_loss(losses, ln_V):
    """Draw the loss of every step, below that of a model that knows nothing."""
    fig, ax = panels(2.8)
    ax.plot(losses, color=BLUE, lw=1)
    ax.axhline(ln_V, color=SOFT, ls=":")
    ax.text(len(losses), ln_V * 1.02, "ln V: knows nothing", ha="right", va="bottom", color=SOFT)
    ax.set(xlabel="step", ylabel="loss, nats per token", ylim=(0, ln_V * 1.15))
    fig.alt_text = "The loss begins at ln V, falls steeply, and then levels off above 0."
    return fig


def fig_surprises(sentence, tokenizer, targets, untrained, trained):
    """Draw the surprise at each target of a sample before and after training; the last three: (M,)."""
    assert sentence == HIDDEN.replace("[M]", "the", 1).replace("[M]", "by the")
    special, ln_V = tokenizer.special, math.log(tokenizer.vocab_size)
    names = {special.sop: "[S]", special.eop: "[E]"}
    answers = [names.get(token) or tokenizer.token_str(token).strip() for token in targets.tolist()]
    ends = (targets == special.eop).long()
    at = torch.arange(len(answers)) + 0.6 * (ends.cumsum(0) - ends)  # a gap after each blank
    fig, ax = panels(2.7)
    ax.bar(at - 0.2, untrained, 0.4, color=SAND, label="before training")
    ax.bar(at + 0.2, trained, 0.4, color=BLUE, label="after training")
    for x, y in zip(at.tolist(), trained.tolist(), strict=True):
        ax.text(x + 0.2, y + 0.1, f"{y:.2f}", ha="center", color=BLUE)
    ax.axhline(ln_V, color=SOFT, ls=":")
    ax.set(title=HIDDEN, ylabel="surprise", ylim=(0, ln_V * 1.5))
    ax.set_xticks(at, answers)
    ax.set_xlabel("right next token: second blank, then first")
    ax.legend(frameon=False, ncols=2, loc="upper right")
    fig.alt_text = (
        "The surprise at each right token of one sample: near ln V for all before training; after it near "
        "0, except for 'the' behind 'Today', which might as well be 'our'."
    )
    return fig


def fig_probabilities(before, after):
    """Draw how likely each answer was before training and is after it; both: {answer: probability}."""
    fig, left, right = panels(3.0, columns=2)
    left.barh(list(before), [1e6 * p for p in before.values()], color=SAND)
    right.barh(list(after), after.values(), color=BLUE)
    left.set(title="before", xlabel="probability, in millionths")
    right.set(title="after", xlabel="probability", xlim=(0, 1))
    left.invert_yaxis()
    fig.alt_text = (
        "The probability of each of nine animals as the answer: about equal and near 0 "
        "before training, mostly on cat after it."
    )
    return fig


# ---- exercises -------------------------------------------------------------------------------------------


def check_count_rows(count_rows):
    """Check exercise 1 on 50 random texts."""
    for n in range(50):
        rng = Rng(7, n)
        text = list(range(8, 8 + 5 + rng.integer(60)))
        spans = sample_spans(text, "token", rng)
        rows = len(build_example(text, spans, list(range(len(spans)))).tokens)
        answer = count_rows(len(text), [tuple(span) for span in spans])
        assert answer is not None, "count_rows returned None: did you forget `return`?"
        assert answer == rows, f"{len(text)} tokens, spans {spans}: you say {answer}, but it is {rows}"
    print("✓ check_count_rows: 50 texts")


def check_part_b(part_b):
    """Check exercise 2 on 50 random layouts."""
    words = "a b c d e f g h i j k l".split()
    for n in range(50):
        rng = Rng(8, n)
        spans = sample_spans(words, "token", rng, has_cls=False, mask_ratio=0.4)
        order = rng.shuffle(list(range(len(spans))))
        d = explain(words, spans, order)
        rows, answer = list(d.tokens)[d.part_a_len :], part_b(words, spans, order)
        assert answer is not None, "part_b returned None: did you forget `return`?"
        assert "[E]" not in answer, "[E] is a target: the model writes it and never reads it"
        where = f"spans {spans}, order {order}"
        in_text_order = list(explain(words, spans, sorted(order)).tokens)[d.part_a_len :]
        if list(answer) == in_text_order != rows:
            raise AssertionError(f"{where}: these are the spans in the order of the text")
        assert list(answer) == rows, f"{where}: you say {answer}, but it is {rows}"
    print("✓ check_part_b: 50 texts")


def goose_check(model, tokenizer):
    """Return the check of exercise 3, which asks the model that the chapter has trained."""

    def check_goose(text):
        assert isinstance(text, str), "the answer is a text in quotes"
        assert text.count("[MASK]") == 1, "exactly one [MASK] is needed"
        named = set(re.findall(r"\w+", text.lower())) & set(ANIMALS)
        assert not named, f"the text names {named}"
        filled = fill(model, tokenizer, text, max_tokens=6).blanks[0].text.strip()
        assert filled == "goose", f"the model answers {filled!r}"
        print(f"✓ check_goose: the model answers {filled}")

    return check_goose
