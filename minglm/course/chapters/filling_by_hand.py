"""Pictures of chapter 04, the model that it asks, and the checks of its exercises."""

from itertools import permutations

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ...batch import pack
from ...infilling import build_example
from ...mask import GLMMask
from ...model import GLM
from ...model_config import GLMConfig
from ...viz.derivation import EXAMPLE, explain
from ...viz.figures.canvas import Canvas
from ...viz.palette import KINDS, SPAN_COLOURS, THEMES

# ---- pictures --------------------------------------------------------------------------------------------


def fig_steps(d):
    """Draw Part B as five steps: what each reads, where it stands, and what it predicts."""
    canvas, soft = Canvas("light", 620), THEMES["light"]["soft"]
    for name, y in (("reads", 62), ("position", 94), ("block position", 116), ("predicts", 168)):
        main = name in ("reads", "predicts")
        canvas.text(14, y, name, ha="left", bold=main, colour=None if main else soft)
    for n, i in enumerate(range(d.part_a_len, len(d))):
        x, k = 126 + 98 * n, int(d.span_id[i])
        canvas.text(x + 28, 18, f"step {n + 1}", colour=soft)
        canvas.chip(x, 48, 56, 28, d.tokens[i], span=k)
        canvas.text(x + 28, 94, str(d.position_ids[i]))
        canvas.text(x + 28, 116, str(d.block_position_ids[i]), colour=soft)
        canvas.line((x + 28, 128), (x + 28, 148), colour=soft)
        canvas.line((x + 24, 142), (x + 28, 149), (x + 32, 142), colour=soft)
        end = d.targets[i] == "[E]"
        canvas.chip(x, 154, 56, 28, d.targets[i], fill="white", colour=soft if end else None)
        if not end:  # the prediction is the next row
            assert d.targets[i] == d.tokens[i + 1]
            path = (x + 56, 168), (x + 77, 168), (x + 77, 62), (x + 96, 62)
            canvas.line(*path, colour=SPAN_COLOURS[k], width=1.6)
            canvas.line((x + 90, 58), (x + 97, 62), (x + 90, 66), colour=SPAN_COLOURS[k], width=1.6)
    return canvas.finish(
        196,
        "Five steps. Blank 2: S predicts x5, x5 predicts x6, x6 predicts the end. Blank 1: S predicts x3, x3 "
        "predicts the end. Each predicted token is what the next step reads.",
    )


def fig_growing(part_a_len, T):
    """Draw the mask at each step of filling, until it has T rows."""
    fig, steps = Figure(figsize=(7, 1.9), layout="constrained"), T - part_a_len
    colours = ListedColormap([THEMES["light"]["faint"], KINDS["AA"].light, KINDS["BA"].light])
    for step, ax in enumerate(fig.subplots(1, steps), 1):
        rows = part_a_len + step
        kind = GLMMask.packed([rows], [part_a_len]).dense().int()
        kind[-1] *= 2  # the row of this step
        ax.pcolormesh(kind, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=0.5)
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"step {step}", fontsize=9, loc="left")
        ax.spines[:].set_visible(False)
    fig.alt_text = (
        "The mask at each of the five steps, from 6 to 10 rows. Each step adds one row at the bottom, in "
        "light blue, that sees everything before it; the rows above stay as they were."
    )
    return fig


# ---- a model ---------------------------------------------------------------------------------------------


def learn_all_orders(d, steps=150):
    """Train a tiny GLM on one text, its spans in every order. -> (the model, {word: id}, the last loss)"""
    ids = dict(zip(d.text, range(8, 8 + len(d.text)), strict=True))  # 0 to 7 are the special tokens
    orders = permutations(range(len(d.spans)))
    batch = pack([build_example(list(ids.values()), d.spans, list(order)) for order in orders])
    torch.manual_seed(0)
    model = GLM(GLMConfig(8 + len(ids), 32, num_layers=2, num_heads=2, max_positions=16, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(steps):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, ids, loss.item()


# ---- exercises -------------------------------------------------------------------------------------------


def check_next_row(next_row):
    """Check exercise 1 on the five steps of the paper's example."""
    d = explain(*EXAMPLE)
    for i in range(d.part_a_len, len(d)):
        row = d.tokens[i], int(d.position_ids[i]), int(d.block_position_ids[i])
        want = None
        if d.targets[i] != "[E]":
            want = d.tokens[i + 1], int(d.position_ids[i + 1]), int(d.block_position_ids[i + 1])
        got = next_row(row, d.targets[i])
        hint = ""
        if want and got is None:
            hint = "; did you forget `return`?"
        elif want and tuple(got) == (want[0], want[1] + 1, want[2]):
            hint = "; all rows of a blank have the position of its mask"
        elif want and tuple(got) == (want[0], want[1], row[2]):
            hint = "; the block position counts up"
        elif not want and got is not None:
            hint = "; [E] is never read"
        assert got == want, f"after {row} and {d.targets[i]}: you say {got}, but it is {want}{hint}"
    print("✓ check_next_row: five steps")


def check_put_back(put_back):
    """Check exercise 2 on a sentence with three blanks, answered in two orders."""
    words = "the cat that lives on the farm eats mice every day".split()
    spans = [(1, 2), (3, 7), (8, 11)]
    for order in ([0, 1, 2], [2, 0, 1]):
        e = explain(words, spans, order)
        part_a, answers = list(e.tokens[: e.part_a_len]), {}
        for k in order:
            place = [i for i, token in enumerate(part_a) if token == "[M]"][k]
            answers[place] = words[slice(*spans[k])]
        got = put_back(list(part_a), dict(answers))
        assert got is not None, "put_back returned None: did you forget `return`?"
        hint = "; positions count in Part A, before anything is put back" if len(got) != len(words) else ""
        assert list(got) == words, f"order {order}: {' '.join(map(str, got))}{hint}"
    print("✓ check_put_back: two orders")
