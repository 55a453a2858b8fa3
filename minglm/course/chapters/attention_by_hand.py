"""Pictures of chapter 06, the training of its cheating models, and the checks of its exercises."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...attention import masked_attention
from ...batch import pack
from ...infilling import build_example
from ...mask import GLMMask
from ...model import GLM
from ...model_config import GLMConfig
from ...viz.figures.canvas import DPI, SMALL, Canvas
from ...viz.palette import KINDS, THEMES

LIGHT, AMBER, ORANGE = (KINDS[kind].light for kind in ("BA", "BE", "BS"))
SOFT, FAINT = THEMES["light"]["soft"], THEMES["light"]["faint"]
TOKENS = "the cat [M] [S] sat down".split()
TOY = np.array([[1, 0, 0], [1, 2, 0], [1, 0, 1], [1, 1, 0], [2, 1, 0], [2, 0, 0]])  # a row of x for each

# ---- pictures --------------------------------------------------------------------------------------------


def fig_one_row(d, x, scored, counted, row=3):
    """Draw how `row` of a Derivation mixes its keys. x: (T, D); scored, counted: T numbers each."""
    fig = Figure(figsize=(7, 3.6), layout="constrained")
    ax, total = fig.subplots(), sum(counted)
    lines = ("key", "score = query · key", "power = 2^score", "counted", "weight = share of the sum")
    for n, name in enumerate(lines):
        ax.text(-0.75, n, name, ha="right", va="center", fontsize=10)
    for j, token in enumerate(d.tokens):
        seen = counted[j] > 0
        ink = "black" if seen else SOFT
        box = dict(boxstyle="round,pad=0.3", fc=LIGHT if seen else FAINT, ec="none")
        ax.text(j, -0.85, token, ha="center", va="center", bbox=box, color=ink)
        weight = f"{counted[j]}/{total}" if seen else "0"
        for n, number in enumerate((x[j], scored[j], 2 ** scored[j], counted[j], weight)):
            ax.text(j, n, number, ha="center", va="center", color=ink, weight="bold" if n == 4 else "normal")
            if n:
                arrow = dict(arrowstyle="->", color=ink, lw=0.9)
                ax.annotate("", (j, n - 0.28), (j, n - 0.72), arrowprops=arrow)
        if not seen:
            ax.plot((j - 0.18, j + 0.18), (2.66, 2.34), color=ORANGE, lw=2.5)
        ax.bar(j, counted[j] / total, 0.7, 4.4, color=LIGHT)
    ax.text(-0.75, -0.85, f"query of {d.tokens[row]}: {x[row]}", ha="right", va="center", fontsize=10)
    ax.set(xlim=(-3.6, len(d) - 0.5), ylim=(4.95, -1.25))
    ax.axis("off")
    fig.alt_text = (
        "Row 3, step by step for each of the six keys: its score, two to the power of the score, what is "
        "counted (0 for the hidden sat and down), and the weight: 2/16 the, 8/16 cat, 2/16 the mask, "
        "4/16 itself."
    )
    return fig


def fig_all_rows(d, x, weights):
    """Draw the scores of all rows of a Derivation, their powers of two, and the weights (T, T)."""
    fig = Figure(figsize=(7.2, 3), layout="constrained")
    axes, pale = fig.subplots(1, 3), np.where(d.mask, 0.25, 1)
    draw_table(axes[0], d, x @ x.T, "scores", pale)
    draw_table(axes[1], d, np.where(d.mask, 2 ** (x @ x.T), 0), "2^score, or 0", pale)
    draw_table(axes[2], d, weights, "weights", np.where(d.mask, 0.7 * weights, 1), "{:.2f}")
    axes[0].set_yticks(np.arange(len(d)) + 0.5, d.tokens)
    fig.alt_text = (
        "Three grids of six rows and six keys: all scores, their powers of two with zeros where the "
        "mask is shut, and the weights, which sum to one in every row."
    )
    return fig


def draw_table(ax, d, numbers, title, strength, form="{}"):
    """Draw numbers (T, T) on the colours of who sees whom; strength: (T, T), from 0 to 1."""
    T, A = len(d), d.part_a_len
    for (i, j), number in np.ndenumerate(numbers):
        colour = KINDS[d.kind[i, j]].light or FAINT
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, alpha=strength[i, j]))
        style = dict(ha="center", va="center", fontsize=9, color="black" if d.mask[i, j] else SOFT)
        ax.text(j + 0.5, i + 0.52, form.format(number), **style)
    ax.hlines(range(T), 0, T, color="white", lw=1.5)
    ax.vlines(range(T), 0, T, color="white", lw=1.5)
    ax.plot((0, T, np.nan, A, A), (A, A, np.nan, 0, T), color="black", lw=1.2)
    ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", title=title, yticks=[])
    ax.set_xticks(np.arange(T) + 0.5, d.tokens, rotation=90)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def fig_ways(d, ways, row=3):
    """Draw the weights of `row` of a Derivation as a bar for each way to mask. ways: {name: weights (T,)}"""
    sees = d.mask[row]
    fig = Figure(figsize=(7, 2.5), layout="constrained")
    ax = fig.subplots()
    for n, w in enumerate(ways.values()):
        left = 0
        for j, token in enumerate(d.tokens):
            colour = LIGHT if sees[j] else ORANGE
            ax.barh(n, w[j], 0.66, left, color=colour, edgecolor="white", lw=1.5)
            if w[j] > 0.06:
                ink = "black" if sees[j] else "white"
                ax.text(left + w[j] / 2, n, token, ha="center", va="center", fontsize=8, color=ink)
            left += w[j]
        ax.text(1.02, n, f"{w[~sees].sum():.0%}", va="center", color=ORANGE if w[~sees].any() else "black")
    ax.axvline(1, color="black", lw=1)
    ax.text(1.02, -0.62, "on hidden keys", va="center", fontsize=9)
    ax.set(yticks=range(len(ways)), yticklabels=ways, xlim=(0, 1.3), ylim=(3.5, -0.9), xticks=(0, 0.5, 1))
    ax.set_xlabel(f"weights of row {row}", loc="left")
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.tick_params(left=False)
    fig.alt_text = (
        "The weights of row 3 as bars for four ways to mask. Times 0 after the softmax: they sum to less "
        "than 1. Times 0 before, and a score of -4: hidden keys, in orange, have weight. Only with -inf "
        "they have none and the sum is 1."
    )
    return fig


def fig_wall(leak):
    """Draw how much leaks past hidden scores of -10000 and of -inf. leak: function (shift, fill) -> weight"""
    fig = Figure(figsize=(6.4, 2.5), layout="constrained")
    ax, shifts = fig.subplots(), np.linspace(-9980, -10020, 200)
    leaks = [leak(shift, -10000) for shift in shifts]
    ax.fill_between(shifts, leaks, color=ORANGE, alpha=0.25)
    ax.plot(shifts, leaks, color=ORANGE, lw=2)
    ax.plot(shifts, [leak(shift, -np.inf) for shift in shifts], color="black", lw=2, clip_on=False)
    ax.axvline(-10000, color=SOFT, lw=1, ls=":")
    ax.text(-10006.5, 0.86, "hidden score -10000", color=ORANGE, ha="left", va="center")
    ax.text(-10006.5, 0.08, "hidden score -inf", ha="left")
    ax.text(-9999.4, 1.06, "the wall", color=SOFT, ha="right", va="center", fontsize=9)
    ticks = dict(xticks=(-9980, -9990, -10000, -10010, -10020), yticks=(0, 0.5, 1))
    ax.set(xlim=(-9980, -10020), ylim=(0, 1.12), **ticks)
    ax.set(xlabel="visible scores moved by", ylabel="weight that leaks")
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = (
        "The weight on hidden keys while all visible scores sink. With hidden scores of -10000 it rises "
        "from 0 to 1 around -10000; with -inf it stays 0."
    )
    return fig


def fig_cheating(curves, steps):
    """Draw both losses of models with four hidden scores. curves: {score: (records, 3)}, as of `train`"""
    fig = Figure(figsize=(7.2, 3.1), layout="constrained")
    axes = fig.subplots(1, 2, sharex=True)
    looks = list(zip(curves, (ORANGE, AMBER, LIGHT, "black"), ("-", "-", "-", "--"), strict=True))
    titles = "the loss it trains on", "the same weights, honest mask"
    for ax, column, title in zip(axes, (1, 2), titles, strict=True):
        for fill, colour, style in looks:
            ax.plot(curves[fill][:, 0], curves[fill][:, column], style, color=colour, lw=2, label=fill)
        ax.axhline(math.log(10), color=SOFT, lw=0.8)
        ax.set(xlabel="step", title=title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel="loss of a digit", ylim=(0, 3.1))
    axes[0].text(steps, math.log(10) + 0.06, "ln 10", color=SOFT, ha="right", va="bottom")
    axes[1].legend(frameon=False, fontsize=8, title="hidden score", title_fontsize=8)
    fig.alt_text = (
        "Losses over steps for four hidden scores. With 0 and -2 the training loss falls far below "
        "ln 10 while the honest loss of the same weights rises; -4 and -inf stay at ln 10."
    )
    return fig


def fig_remember(d, x, row=3):
    """Draw what flows from the keys of a Derivation into the output of `row` behind three masks. x: (T, D)"""
    T, sees = len(d), torch.from_numpy(d.mask[row])
    keys = F.pad(torch.tensor(x, dtype=torch.float64), (0, T - x.shape[1]))
    values = torch.eye(T, dtype=torch.float64)[:, None]  # so an output is the weights

    def weights(queries, mask, which):
        q, k = keys[queries, None], keys[:, None]
        return masked_attention(q, k, values, mask, scale=1.0, backend="reference")[which, 0].tolist()

    shut = weights(range(T), GLMMask.packed([T], [d.part_a_len]), row)
    sunk = torch.where(sees, keys @ keys[row] - 10002, -10000).softmax(0).tolist()
    nothing = weights([row, *range(T)], GLMMask([0, T + 1], [0, T], [0]), 0)  # it ends before the first key
    hidden = [[w for w, seen in zip(flow, sees, strict=True) if not seen] for flow in (shut, sunk)]
    assert math.isclose(sum(shut), 1) and not any(hidden[0]) and all(hidden[1]) and not any(nothing)
    canvas = Canvas("light", 620)
    draw_flow(canvas, 6, "-inf: shut", shut, sees.tolist(), d.tokens)
    draw_flow(canvas, 211, "-10000: a wall to climb", sunk, sees.tolist())
    draw_flow(canvas, 416, "sees nothing: 0", nothing, [False] * T)
    return canvas.finish(
        162,
        "Weights as ribbons from six keys into the output of a row. Behind -inf two keys send nothing; "
        "behind -10000 they leak, as the visible scores are lower. A row that sees nothing gets 0.",
    )


def draw_flow(canvas, x, title, weights, sees, tokens=("",) * 6):
    """Draw weights (T,) as ribbons from keys, at x, into an output, and a gate before each hidden key."""
    wide, full = 33, 72  # pixels of a key, and of a weight of 1
    left = end = x + (wide * len(weights) - full) / 2
    canvas.text(left + full / 2, 13, title, bold=True)
    for j, (token, weight, seen) in enumerate(zip(tokens, weights, sees, strict=True)):
        centre = x + wide * (j + 0.5)
        canvas.rectangle(centre - 15.5, 28, 31, 20, fill=LIGHT if seen else canvas.look["grid"], round=4)
        canvas.text(centre, 38, token, SMALL, colour=None if seen else SOFT)
        if weight:
            look = dict(colour=LIGHT if seen else ORANGE, width=weight * full * 72 / DPI)  # in points
            canvas.curve(centre, 48, end + weight * full / 2, 126, **look)
        if not seen:
            canvas.line((centre - 15, 58), (centre + 15, 58), width=4)
        end += weight * full
    canvas.rectangle(left, 126, full, 22, edge=canvas.look["ink"], zorder=4)
    canvas.text(left + full / 2, 137, "output" if any(weights) else "0", SMALL)


# ---- models that cheat -----------------------------------------------------------------------------------


def digits(rng, samples):
    """Return a Batch of random digits, the ids 10 .. 19: six for each sample, two of them blanked."""
    spans = [(a, a + 2) for a in rng.integers(0, 5, samples)]
    texts = rng.integers(10, 20, (samples, 6))
    return pack([build_example(text, [span], [0]) for text, span in zip(texts, spans, strict=True)])


def loss_of(model, batch, fill):
    """Return the loss of a digit, without [E], with the attention that BACKENDS calls f"fill {fill}"."""
    model.backend = f"fill {fill}"
    return model.loss(batch, "none")[batch.targets >= 10].mean()


def train(fill, steps):
    """Train a small GLM on digits with hidden scores of `fill`. -> (model, curve)

    curve: a row (step, its loss, the loss of the same weights with -inf) for every tenth step.
    """
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    model = GLM(GLMConfig(20, 64, num_layers=1, num_heads=2, max_positions=8, dropout=0.0))
    model.prune = False  # the chapter's attention takes all 8 rows of a sample, in the last layer too
    optimizer, curve = torch.optim.Adam(model.parameters(), 1e-3), []
    for step in range(steps):
        batch = digits(rng, 64)
        loss = loss_of(model, batch, fill)
        if step % 10 == 0:
            with torch.no_grad():
                curve.append((step, loss.item(), loss_of(model, batch, -math.inf).item()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, np.array(curve)


# ---- checks of the exercises -----------------------------------------------------------------------------


def check_weights_of_sat(weights):
    scores = math.log(2) * torch.from_numpy(TOY @ TOY[4])
    true, under_mask = scores.softmax(0), [*scores[:5].softmax(0).tolist(), 0]  # GLM's row 4 sees rows 0 .. 4
    assert isinstance(weights, list), "the answer is a list of six numbers"
    assert len(weights) == len(TOY), f"{len(weights)} numbers; there are {len(TOY)} keys"
    assert abs(sum(weights) - 1) < 1e-6, f"weights sum to 1, yours to {sum(weights):.3f}"
    wrong = [token for token, w, right in zip(TOKENS, weights, true, strict=True) if abs(w - right) > 1e-6]
    hint = " (these are the weights under GLM's mask)" if np.allclose(weights, under_mask) else ""
    assert not wrong, f"not right yet: {', '.join(wrong)}{hint}"
    print("✓ check_weights_of_sat: six weights")


def check_foot_of_the_wall(s):
    assert s is not None, "the answer is a number"
    scores = torch.tensor([s] * 4 + [-10000.0] * 2, dtype=torch.float64)
    leak = scores.softmax(0)[4:].sum().item()
    assert abs(leak - 0.5) < 1e-3, f"at s = {s} the share that leaks is {leak:.4f}"
    print(f"✓ check_foot_of_the_wall: {leak:.4f} of the weight leaks")


def check_weights_of(weights_of):
    rng = np.random.default_rng(3)
    with np.errstate(all="ignore"):
        for size in (1, 1000, 20000):
            scores, may = size * rng.normal(size=(7, 5)) - size, rng.random((7, 5)) < 0.6
            may[2], may[5] = False, True
            w = weights_of(scores.copy(), may.copy())
            assert w is not None, "weights_of returned None: did you forget `return`?"
            assert np.isfinite(w).all(), f"scores of about {size}: not all numbers are finite"
            assert (w[~may] == 0).all(), f"scores of about {size}: a hidden key has a weight"
            assert np.allclose(w.sum(1), may.any(1)), "rows must sum to 1, or to 0 if they see nothing"
            rows = may.any(1)
            true = torch.from_numpy(np.where(may, scores, -np.inf))[rows].softmax(1).numpy()
            assert np.allclose(w[rows], true), "not a softmax of what is seen"
    print("✓ check_weights_of: scores of about 1, 1000 and 20000")
