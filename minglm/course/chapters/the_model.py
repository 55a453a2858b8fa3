"""Pictures of chapter 07, its proverbs, PyTorch's layer, and the checks of its exercises."""

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...attention import masked_attention
from ...mask import GLMMask
from ...model import GLM
from ...model_config import GLMConfig, num_parameters
from ...viz.figures.canvas import SMALL, Canvas
from ...viz.palette import KINDS, THEMES

BLUE, SKY, SAND, RUST = (KINDS[kind].light for kind in ("AA", "BA", "BE", "BS"))
INK, SOFT, FAINT = (THEMES["light"][name] for name in ("ink", "soft", "faint"))
CENTRED = dict(ha="center", va="center")

PROVERBS = """A rolling stone gathers no moss.
Actions speak louder than words.
Haste makes waste.
All that glitters is not gold.
Every cloud has a silver lining.
Great minds think alike.
Make hay while the sun shines.
Still waters run deep.""".splitlines()

# ---- pictures --------------------------------------------------------------------------------------------

PATHS = (  # of the network: lines with an arrow at the end; the boxes are put upon them
    ((5, 0.5), (5, 2), (2, 2)),
    ((8, 0.5), (8, 2), (2, 2)),
    ((2, 3), (5.5, 3), (5.5, 4.7), (2, 4.7)),
    ((2, 5.4), (5.5, 5.4), (5.5, 7.1), (2, 7.1)),
    ((2, 8.2), (2, 9.2), (2, 10.2)),
)
BOXES = (
    (2, 0.6, "table E (V, C)\ntokens", SKY),
    (5, 0.6, "table P (L+1, C)\nposition_ids", SKY),
    (8, 0.6, "table Q (L+1, C)\nblock_position_ids", SKY),
    (2, 2, "+", "white"),
    (5.5, 3, "LayerNorm", "white"),
    (5.5, 3.95, "attention: who sees whom", SAND),
    (2, 4.7, "+", "white"),
    (5.5, 5.4, "LayerNorm", "white"),
    (5.5, 6.35, "MLP: C to 4C to C, each row alone", SAND),
    (2, 7.1, "+", "white"),
    (2, 8.2, "LayerNorm", "white"),
    (2, 9.2, "table E again", SKY),
    (2, 10.2, "logits (N, V)", "white"),
)


def fig_network():
    """Draw the whole network: what is around attention."""
    fig = Figure(figsize=(6.6, 5.4), layout="constrained")
    ax = fig.subplots()
    ax.set(xlim=(0.3, 9.7), ylim=(10.6, 0))
    ax.axis("off")
    ax.add_patch(Rectangle((0.5, 2.5), 9, 5.1, fc=FAINT, ec=SOFT, ls="--"))
    ax.text(0.7, 2.9, "a layer,\nn times", va="center", color=SOFT)
    ax.plot((2, 2), (0.5, 8.2), color=INK, lw=4)
    arrow = dict(arrowstyle="-|>", color=INK, lw=1.2, shrinkA=0, shrinkB=11)
    for path in PATHS:
        ax.plot(*zip(*path[:-1], strict=True), color=INK, lw=1.2)
        ax.annotate("", path[-1], path[-2], arrowprops=arrow)
    for x, y, text, colour in BOXES:
        shape = "circle" if text == "+" else "square,pad=0.4"
        ax.text(x, y, text, bbox=dict(boxstyle=shape, fc=colour, ec=INK), **CENTRED)
    fig.alt_text = "Three tables make the residual, n layers add to it, and table E makes logits of it."
    return fig


def fig_three_tables(example, names, parts):
    """Draw the rows of three tables and their sum. names: {id: token}; parts: three tensors (T, C)."""
    fig = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = fig.subplots(1, 4, sharey=True)
    titles = "E[token]", "+ P[position]", "+ Q[block position]", "= x"
    for ax, title, part in zip(axes, titles, [*parts, sum(parts)], strict=True):
        ax.imshow(part.sqrt(), cmap="Blues", aspect="auto", vmax=6)
        for (i, c), number in np.ndenumerate(part.int().numpy()):
            ax.text(c, i, number, fontsize=9, **CENTRED)
        ax.axhline(example.part_a_len - 0.5, color=RUST, lw=1.5)
        ax.set_title(title, fontsize=10)
        ax.set_xticks(range(part.shape[1]))
    axes[0].set_yticks(range(len(example.tokens)), [names[t] for t in example.tokens])
    fig.supxlabel("columns; above the line Part A, below it Part B", fontsize=9)
    fig.alt_text = "For each of the ten rows its row of each of the three tables, and their sum."
    return fig


def fig_heads():
    """Draw which rows of qkv.weight make what, for two heads of two columns each."""
    C, H, D = 4, 2, 2
    fig = Figure(figsize=(7, 3.5), layout="constrained")
    ax, arrow = fig.subplots(), dict(arrowstyle="-|>", color=SOFT, lw=1)
    for row in range(0, 3 * C, D):
        part, column = divmod(row, C)
        head, fill = column // D, (BLUE, SKY, SAND)[part]
        ax.add_patch(Rectangle((2.6, row + 0.05), 1.6, D - 0.1, fc=fill, ec=INK, ls=("-", "--")[head]))
        ink = "white" if part == 0 else INK
        ax.text(3.4, row + D / 2, f"{'qkv'[part]}, head {head}", color=ink, fontsize=9, **CENTRED)
        ax.text(2.5, row + D / 2, f"{row}, {row + 1}", ha="right", va="center", color=SOFT, fontsize=9)
        ax.annotate("", (5.5, 3 + 6 * head), (4.25, row + D / 2), arrowprops=arrow)
    for head in range(H):
        ax.text(6.2, 3 + 6 * head, f"attention\nof head {head}", fontsize=9, **CENTRED)
        ax.add_patch(Rectangle((5.5, 2 + 6 * head), 1.4, 2, fill=False, ec=INK, ls=("-", "--")[head]))
        ax.annotate("", (7.6, 5.5 + head), (6.95, 3 + 6 * head), arrowprops=arrow)
        ax.add_patch(Rectangle((7.6, 5 + head), 0.75, 1, fc="white", ec=INK, ls=("-", "--")[head]))
    for x0, x1 in ((0.95, 1.85), (8.4, 8.85), (9.75, 10.2)):
        ax.annotate("", (x1, 6), (x0, 6), arrowprops=arrow)
    ax.text(0.5, 6, "LN(x)\n(T, C)", **CENTRED)
    ax.text(7.97, 7.6, "joined\n(T, C)", fontsize=9, **CENTRED)
    ax.text(9.3, 6, "out\n(C, C)", bbox=dict(boxstyle="square", fc="white", ec=INK), **CENTRED)
    ax.text(3.4, -0.6, "rows of qkv.weight", fontsize=9, **CENTRED)
    ax.set(xlim=(0, 10.3), ylim=(12.1, -1))
    ax.axis("off")
    fig.alt_text = (
        "The 12 rows of qkv.weight: rows 0 to 3 make queries, 4 to 7 keys, 8 to 11 values, two rows per "
        "head. Each head attends with its own six rows; their results are joined and mixed by the matrix out."
    )
    return fig


def fig_gelu(gelu):
    """Draw a function of tensors, such as GELU, and what `down` can make of it and its mirror image."""
    fig = Figure(figsize=(7, 2.3), layout="constrained")
    axes, line = fig.subplots(1, 3, sharex=True, sharey=True), torch.linspace(-3, 3, 121)
    up = gelu(line), gelu(-line)
    axes[0].plot(line, up[0], color=RUST, lw=2)
    axes[0].plot(line, up[1], color=RUST, lw=1.2, ls="--")
    axes[0].text(-0.15, 2.4, "GELU(-x)", color=RUST, fontsize=9, ha="right")
    axes[0].text(0.15, 2.4, "GELU(x)", color=RUST, fontsize=9)
    axes[1].plot(line, up[0] - up[1], color=BLUE, lw=2)
    axes[2].plot(line, up[0] + up[1], color=BLUE, lw=2)
    for ax, title in zip(axes, ("up", "down (1, -1)", "down (1, 1)"), strict=True):
        ax.set_title(title, fontsize=10)
        ax.axhline(0, color=SOFT, lw=0.6)
        ax.axvline(0, color=SOFT, lw=0.6)
        ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=(-3, 0, 3), yticks=(-3, 0, 3))
        ax.spines[:].set_visible(False)
    axes[1].text(0.4, -2, "the identity", fontsize=9)
    axes[2].text(0.4, -2, "nearly |x|", fontsize=9)
    fig.alt_text = (
        "GELU is nearly 0 on the left and nearly x on the right. GELU(x) minus GELU(-x) is exactly x; their "
        "sum is nearly the absolute value of x."
    )
    return fig


def fig_weights(sizes):
    """Draw where the weights of networks are, as shares. sizes: {name: GLMConfig}"""
    fig = Figure(figsize=(6.6, 2.5), layout="constrained")
    ax = fig.subplots()
    legend = {"token table": SKY, "attention": SAND, "MLP": RUST, "positions and norms": SOFT}
    for n, config in enumerate(sizes.values()):
        left = 0
        for (name, colour), share in zip(legend.items(), shares_of(config), strict=True):
            ax.barh(n, share, 0.72, left, color=colour, edgecolor="white")
            if colour != SOFT:
                ink = "white" if name == "MLP" else INK
                ax.text(left + share / 2, n, f"{share:.0%}", color=ink, fontsize=9, **CENTRED)
            left += share
    for at, (label, colour) in zip((0.02, 0.25, 0.45, 0.59), legend.items(), strict=True):
        ax.text(at, -0.85, "■", color=colour, va="center")
        ax.text(at + 0.035, -0.85, label, va="center", fontsize=9)
    ax.set(yticks=range(len(sizes)), yticklabels=sizes, xlim=(0, 1), ylim=(4.5, -1.2), xticks=())
    ax.spines[:].set_visible(False)
    ax.tick_params(left=False)
    fig.alt_text = (
        "Where the weights of five presets are: the token table has 9 to 24 percent of them. In every size "
        "the MLPs hold twice as much as attention; positions and norms have a few percent."
    )
    return fig


def shares_of(config):
    """Return the shares of the token table, attention, the MLPs and all else in a network's weights."""
    C, n = config.hidden_size, config.num_layers
    parts = [config.vocab_size * C, n * (4 * C * C + 4 * C), n * (8 * C * C + 5 * C)]
    every = num_parameters(config)
    return [part / every for part in (*parts, every - sum(parts))]


def fig_by_heart(losses, ln_V, best_alone):
    """Draw the losses of two models on one batch, and two levels. losses: {"seeing", "blind": floats}"""
    fig, steps = Figure(figsize=(6.6, 3.2), layout="constrained"), len(losses["seeing"])
    ax = fig.subplots()
    ax.plot(losses["seeing"], color=BLUE, lw=2, label="GLM")
    ax.plot(losses["blind"], color=RUST, lw=2, ls="--", label="blind: attention switched off")
    beside = dict(ha="right", fontsize=9)
    ax.text(steps, ln_V, "ln V: knows nothing", va="bottom", **beside)
    ax.text(steps, best_alone * 0.93, "(ln 8) / 4: the best of a row alone", va="top", **beside)
    ax.axhline(ln_V, color=SOFT, lw=1)
    ax.axhline(best_alone, color=SOFT, lw=1, ls=":")
    ax.set(yscale="log", xlabel="step", ylabel="loss on the one batch, nats", ylim=(None, 14))
    ax.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    ax.legend(fontsize=9, loc="lower left", frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = "GLM falls from ln V to nearly 0; without attention it stops at (ln 8) / 4."
    return fig


def fig_remember(model, example, losses):
    """Draw the rows of an Example on their way through two layers of a GLM, and the losses of one batch."""
    T, A = len(example.tokens), example.part_a_len
    mask, x = GLMMask.packed([T], [A]), torch.randn(T, model.config.hidden_size)
    for layer in model.layers:
        links = rows_moved(partial(attention, layer, mask), x)
        alone = rows_moved(partial(layer.combine, attended=torch.zeros_like(x)), x)
        assert torch.equal(links, mask.dense()) and torch.equal(alone, torch.eye(T) > 0)
    assert abs(losses[0] - math.log(model.config.vocab_size)) < 0.2 and losses[-1] < 0.1
    canvas, height = Canvas("light", 620), [36 + 12 * i + 6 * (i >= A) for i in range(T)]
    for i, y in enumerate(height):
        colour = SKY if i < A else SAND
        canvas.line((60, y), (412 if i >= A else 372, y), colour=colour, width=2.5, zorder=1)
        for n in range(3):
            canvas.rectangle(58 + 11 * n, y - 4, 9, 8, fill=BLUE)
        for left in (112, 250):
            canvas.lines([((left, height[j]), (left + 72, y)) for j in range(T) if links[i, j]], colour, 0.8)
            canvas.rectangle(left + 92, y - 4, 22, 8, fill=RUST, round=2)
        if i >= A:
            canvas.rectangle(390, y - 4, 9, 8, fill=BLUE)
    names = "E + P + Q", "attention", "MLP", "attention", "MLP", "E", "loss of one batch"
    for at, words in zip((74, 148, 215, 286, 353, 394, 524), names, strict=True):
        canvas.text(at, 14, words, SMALL, bold=True)
    canvas.text(8, (height[0] + height[A - 1]) / 2, "Part A", SMALL, ha="left")
    canvas.text(8, (height[A] + height[-1]) / 2, "Part B", SMALL, ha="left")
    high, low, left, right = height[0], height[-1], 450, 598
    across, down = np.linspace(left, right, len(losses)), low - (low - high) * np.array(losses) / losses[0]
    canvas.line((left, low), (right, low), colour=SOFT)
    canvas.line(*zip(across, down, strict=True), width=2)
    canvas.text(left + 8, high, "ln V", SMALL, ha="left")
    canvas.text(right, low - 12, "by heart", SMALL, ha="right")
    return canvas.finish(
        166,
        "Ten rows start as the sum of three tables. In each of two layers attention links every row to "
        "those it may see, and the MLP has each row alone. Table E reads out Part B. The loss falls from "
        "ln V to 0.",
    )


def attention(layer, mask, x):
    """Return what the attention of a layer adds to its rows x (T, C)."""
    return layer.out(masked_attention(*layer.project(x), mask, backend="reference").flatten(1))


def rows_moved(f, x):
    """Return (T, T) bool: whether row i of f(x) changes when row j of x (T, C) does."""
    columns, before = [], f(x)
    for j in range(len(x)):
        changed = x.clone()
        changed[j] = torch.randn(x.shape[1])
        columns.append((f(changed) != before).any(1))
    return torch.stack(columns, 1)


# ---- PyTorch's layer, and the checks of the exercises ----------------------------------------------------


def pytorchs(layer, norm_first):
    """Return PyTorch's layer with the weights of ours, as a function of x (T, C) and a GLMMask.

    norm_first: True for pre-LN, False for post-LN.
    """
    C, H = layer.out.in_features, layer.num_heads
    how = dict(activation=partial(F.gelu, approximate="tanh"), norm_first=norm_first, batch_first=True)
    theirs = torch.nn.TransformerEncoderLayer(C, H, 4 * C, dropout=0.0, **how)
    attention = theirs.self_attn
    attention.in_proj_weight, attention.in_proj_bias = layer.qkv.weight, layer.qkv.bias
    attention.out_proj, theirs.linear1, theirs.linear2 = layer.out, layer.up, layer.down
    theirs.norm1, theirs.norm2 = layer.norm1, layer.norm2
    return lambda x, mask: theirs(x[None], ~mask.dense())[0]


def check_key_rows(key_rows):
    for C, H in ((4, 2), (12, 3), (8, 4)):
        for head in range(H):
            layer, rows = GLM(GLMConfig(10, C, 1, H, 4)).layers[0], key_rows(head, C, H)
            assert rows is not None, "key_rows returned None: did you forget `return`?"
            with torch.no_grad():
                layer.qkv.weight.fill_(0)[rows] = 1.0
                layer.qkv.bias.fill_(0)[rows] = 1.0
                q, k, v = (part.any(0) for part in layer.project(torch.randn(5, C)))  # (H, D)
            where = f"C={C}, H={H}, head {head}: rows {list(rows)}"
            assert not q.any() and not v.any(), f"{where} make queries or values too"
            assert k[head].all(), f"{where} do not make all keys of the head"
            assert k.sum() == C // H, f"{where} make keys of other heads too"
    print("✓ check_key_rows: 9 heads")


def check_post_ln(post_ln):
    torch.manual_seed(1)
    layer = GLM(GLMConfig(10, 12, 1, 3, 8)).layers[0].eval().requires_grad_(False)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    x, mask = torch.randn(7, 12), GLMMask.packed([7], [4])
    answer, right = post_ln(layer, x, mask), pytorchs(layer, norm_first=False)(x, mask)
    assert answer is not None, "post_ln returned None: did you forget `return`?"
    assert answer.shape == x.shape, f"the result has shape {tuple(answer.shape)}, not {tuple(x.shape)}"
    pre_ln = torch.allclose(answer, layer(x, mask, "reference"), atol=1e-5)
    assert not pre_ln, "this is pre-LN, the layer as it was"
    off = float((answer - right).abs().max())
    assert off < 1e-4, f"off by {off:.2g} from PyTorch's post-LN layer of the same weights and mask"
    print(f"✓ check_post_ln: equal to PyTorch's post-LN layer up to {off:.0e}")
