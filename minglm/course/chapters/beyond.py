"""Pictures of chapter 10, and the checks of its exercises."""

import math

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from ...mask import GLMMask
from ...viz.figures.canvas import Canvas, span_look
from ...viz.figures.grid import cells
from ...viz.palette import KINDS

BLUE, SAND, RED = (KINDS[kind].light for kind in ("AA", "BE", "BS"))


# ---- pictures --------------------------------------------------------------------------------------------


def fig_later_masks(derivations, side=30):
    """Draw the masks of {title: Derivation}, after checking that one integer says what later code builds."""
    canvas, x = Canvas("light", 680), 50
    for title, d in derivations.items():
        T, A = len(d), d.part_a_len
        row, column = np.indices((T, T))
        theirs = (column <= row) | (column < A)
        assert (theirs == GLMMask.packed([T], [A]).dense().numpy()).all() and (theirs == d.mask).all()
        canvas.text(x, 14, title, bold=True, ha="left")
        canvas.text(x + T * side / 2, 70 + T * side, f"A = {A}", bold=True)
        for i, token in enumerate(d.tokens):
            canvas.text(x + (i + 0.5) * side, 40, token)
            canvas.text(x - 8, 53 + (i + 0.5) * side, token, ha="right")
        cells(canvas, d.kind, x, 53, side)
        x += 350
    return canvas.finish(
        84 + T * side, "Two masks of eight rows. A = 5: rows see five keys or more; A = 0: only those before."
    )


def fig_rows_read():
    """Draw the rows that are read in each of four turns of 5 tokens, by both ways to make a chat."""
    canvas, ends = Canvas("light", 700), (5, 10, 15, 20)
    for x, title, again in ((62, "history = Part A", True), (410, "A = 0", False)):
        total = sum(ends) if again else ends[-1]
        canvas.text(x, 14, title, bold=True, ha="left")
        canvas.text(x + 279, 14, f"{total} rows", ha="right")
        for turn, end in enumerate(ends):
            canvas.text(x - 8, 38 + 20 * turn, f"turn {turn + 1}", ha="right")
            for i in range(0 if again else end - 5, end):
                fill = BLUE if i >= end - 5 else SAND
                canvas.rectangle(x + 14 * i, 30 + 20 * turn, 12, 16, fill=fill)
    for x, colour, meaning in ((62, BLUE, "read for the first time"), (410, SAND, "read again")):
        canvas.rectangle(x, 122, 12, 16, fill=colour)
        canvas.text(x + 20, 130, meaning, ha="left")
    return canvas.finish(
        148, "Rows read in four turns: 5, 10, 15, 20 if the history is Part A; 5 each time with A = 0."
    )


def fig_later_positions(short, long, chat):
    """Draw the positions that each GLM gives to a short blank, to a text that continues and to a prompt."""
    canvas, y = Canvas("light", 680), 6
    two = ("GLM, ChatGLM-6B", "block position", "GLM-130B")
    for d, rules in ((short, two), (long, two), (chat, ("ChatGLM2-6B",))):
        for i, token in enumerate(d.tokens):
            canvas.chip(150 + 58 * i, y, 52, 22, token, span=int(d.span_id[i]) if d is not chat else -1)
        y += 24
        for rule in rules:
            runs_on = d is chat or d is long and rule == "GLM-130B"
            values = d.block_position_ids if rule == "block position" else d.position_ids
            values = np.arange(len(d)) if runs_on else values
            canvas.text(142, y + 9, rule, ha="right", bold=rule != "block position")
            for i, value in enumerate(values.tolist()):
                colour = span_look(0)[0] if i >= d.part_a_len and d is not chat else None
                canvas.text(176 + 58 * i, y + 9, str(value), bold=bool(colour), colour=colour)
            y += 20
        y += 14
    return canvas.finish(y, "GLM and ChatGLM-6B number blanks twice, GLM-130B once; ChatGLM2 counts 0 to 7.")


def fig_turned(turn):
    """Draw a query and a key, turned by turn(x, positions, theta) to three pairs of positions two apart."""
    x, thirty = torch.tensor([[1.0, 0.0]]), torch.tensor([math.pi / 6])
    fig = Figure(figsize=(6.6, 1.9), layout="constrained")
    for ax, (i, j) in zip(fig.subplots(1, 3), ((0, 2), (1, 3), (5, 7)), strict=True):
        turned = turn(x, [i], thirty)[0], turn(x, [j], thirty)[0]
        ax.add_patch(Circle((0, 0), 1, fill=False, ec="#DDDDDD"))
        for (a, b), name, colour in zip(turned, (f"q at {i}", f"k at {j}"), (BLUE, RED), strict=True):
            ax.annotate("", (a, b), (0, 0), arrowprops=dict(arrowstyle="-|>", color=colour, lw=2))
            ax.text(1.45 * a, 1.25 * b, name, ha="center", va="center", color=colour)
        ax.set(xlim=(-1.9, 1.9), ylim=(-1.1, 1.4), aspect="equal")
        ax.set_title(f"q · k = {float(turned[0] @ turned[1]):.2f}", fontsize=11)
        ax.axis("off")
    fig.alt_text = "Queries and keys two positions apart: always 60 degrees between them, their product 0.5."
    return fig


def fig_scores(added, rotary):
    """Draw the scores of two tokens at all positions, with added and with rotary positions: (T, T) each."""
    fig = Figure(figsize=(6.6, 3.6), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, scores, title in ((axes[0], added, "random tables, added"), (axes[1], rotary, "rotary")):
        ax.imshow(scores, cmap="cividis")
        ax.set(title=title, xlabel="position of the key")
    axes[0].set_ylabel("position of the query")
    fig.alt_text = "Scores of two tokens at all positions: rotary ones are equal along each diagonal."
    return fig


def fig_ranks(weights, share):
    """Draw which entries of a layer's four matrices are on rank 0 of two, by share(name, w, rank, ranks)."""
    fig = Figure(figsize=(6.6, 3.7), layout="constrained")
    ax, left, two = fig.subplots(), 0, ListedColormap([SAND, BLUE])
    for key in ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"):
        name = f"transformer.layers.0.{key}.weight"
        rows, columns = weights[name].shape
        entries = torch.arange(rows * columns).view(rows, columns)
        on_rank_0 = torch.isin(entries, share(name, entries, 0, 2))
        ax.imshow(on_rank_0, cmap=two, interpolation="none", extent=(left, left + columns, -rows, 0))
        words = key.replace(".", "\n") + f"\n{rows} x {columns}"
        ax.text(left + columns / 2, 12, words, ha="center", fontsize=9)
        left += columns + 85
    ax.set(xlim=(-50, left - 40), ylim=(-520, 150))
    ax.text(700, -310, "dark: on rank 0", fontsize=10)
    ax.text(700, -360, "light: on rank 1", fontsize=10)
    ax.axis("off")
    fig.alt_text = "Rank 0 has the upper half of Q, K, V and h_to_4h, the left half of the other two."
    return fig


# ---- checks ----------------------------------------------------------------------------------------------


def check_rotary_2d(rotary_2d):
    """Check exercise 1: the halves of a head, each turned by its own positions."""
    torch.manual_seed(2)
    q, k = torch.randn(1, 8).expand(5, 8), torch.randn(1, 8).expand(5, 8)
    ids = torch.tensor([0, 1, 2, 2, 2]), torch.tensor([0, 0, 0, 1, 2])
    a, b = rotary_2d(q, *ids), rotary_2d(k, *ids)
    assert a is not None, "rotary_2d returned None: did you forget `return`?"
    assert a.shape == q.shape, f"the result has shape {tuple(a.shape)}, not {tuple(q.shape)}"
    assert torch.allclose(a[0], q[0], atol=1e-6), "at positions 0 and 0 nothing is turned"
    assert torch.allclose(a.norm(dim=1), q.norm(dim=1), atol=1e-5), "turning keeps lengths"
    moved = [(a[i] != a[j]).nonzero().flatten().tolist() for i, j in ((0, 1), (2, 3))]
    assert moved[0] == [0, 1, 2, 3], f"the position alone moves columns {moved[0]}"
    assert moved[1] == [4, 5, 6, 7], f"the block position alone moves columns {moved[1]}"
    for rows, half in (((0, 1), slice(0, 4)), ((2, 3), slice(4, 8))):  # one step of one position
        pairs = torch.view_as_complex(a[list(rows), half].unflatten(1, (2, 2)).contiguous())
        angles = (pairs[1] / pairs[0]).angle().tolist()
        assert np.allclose(angles, (1, 0.01), atol=1e-4), f"one step turns the pairs by {angles}"
    assert torch.allclose(a[3] @ b[2], a[4] @ b[3], atol=1e-5), "scores must depend on distances only"
    print("✓ check_rotary_2d: both halves turn, by their own positions")


def check_join_qkv(join_qkv):
    """Check exercise 2: the matrix of Q, K and V from its pieces on all ranks."""
    for C, ranks in ((4, 1), (4, 2), (12, 3), (8, 4)):
        whole = torch.randn(3 * C, C)
        thirds = [third.chunk(ranks) for third in whole.chunk(3)]  # Q, K and V, each in as many pieces
        joined = join_qkv([torch.cat(pieces) for pieces in zip(*thirds, strict=True)])
        assert joined is not None, "join_qkv returned None: did you forget `return`?"
        assert joined.shape == whole.shape, f"{ranks} ranks: the result has shape {tuple(joined.shape)}"
        wrong = (joined != whole).any(1).nonzero().flatten().tolist()
        assert not wrong, f"C={C}, {ranks} ranks: rows {wrong} are not where they were"
    print("✓ check_join_qkv: 1 to 4 ranks")
