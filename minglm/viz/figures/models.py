"""What a trained model does with a sample: all heads (F9), one query of one head (F10), a filling token by token (F11).

Weights are `attention_of(model, example)`, (layers, H, T, T), the sample is the Derivation of the same
example.
"""

from math import exp

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from ...batch import pack
from ...errors import MinglmError
from ...infilling import build_example
from ...use.generate import fill, trace
from ..derivation import count, derivation_of
from ..palette import KINDS
from .canvas import BODY, MARGIN, SMALL, Canvas, fitted, legible, span_look, width_of
from .grid import cells, part_colours, texts_of

MOST_KEYS = 48  # rows of F10
SCALE = PowerNorm(0.5, 0, 1)  # of weights: the square root shows small ones too


def attention_of(model, example):
    """Who looked at whom, in every layer and head: (layers, H, T, T) float array, each row summing to 1."""
    batch = pack([example]).to(next(model.parameters()).device)
    layers = [
        model.attention_weights(batch, layer)[0].float().cpu() for layer in range(model.config.num_layers)
    ]
    return torch.stack(layers).numpy()


def check_weights(weights, d):
    """Weights as an array, after a look at them: (layers, H, T, T), rows that sum to 1, nothing where the mask is shut."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 4 or weights.shape[2:] != (len(d), len(d)):
        raise MinglmError(
            f"weights: shape {weights.shape}; (layers, heads, {len(d)}, {len(d)}) is accepted for this sample"
        )
    if not np.abs(weights.sum(-1) - 1).max() <= 1e-3:
        raise MinglmError("weights: a row does not sum to 1; what attention_weights gives is accepted")
    if not np.abs(weights[:, :, ~d.mask]).max(initial=0) <= 1e-6:
        raise MinglmError(
            "weights: a row sees what the sample's mask hides; weights and sample must belong together"
        )
    return weights


# ---- F9 --------------------------------------------------------------------------------------------------


def fig_heads(weights, d, *, theme="light", width=None):
    """A small picture of each head, layers down and heads across: queries down, keys across, hidden cells hatched."""
    weights = check_weights(weights, d)
    canvas, (layers, heads, T, _) = Canvas(theme, width), weights.shape
    left = MARGIN + 10 + width_of(f"layer {layers - 1}", SMALL)
    gap = 8 if heads <= 8 else 4
    side = min(200, (canvas.width - left - MARGIN - gap * (heads - 1)) / heads)
    about = (
        f"{count(layers, 'layer')} of {count(heads, 'head')}, {count(T, 'row')}: queries down, keys across"
    )
    y = canvas.title("Who looks at whom", f"{about}; the line is the end of Part A, hatched is hidden")
    for head in range(heads):
        name = f"head {head}" if side > 46 else str(head)
        canvas.text(left + head * (side + gap) + side / 2, y + 6, name, SMALL, colour=canvas.look["soft"])
    y += 18
    for layer in range(layers):
        canvas.text(left - 8, y + side / 2, f"layer {layer}", SMALL, ha="right", colour=canvas.look["soft"])
        for head in range(heads):
            thumbnail(
                canvas,
                weights[layer, head],
                d,
                left + head * (side + gap),
                y,
                side,
                gid=f"weights-{layer}-{head}",
            )
        y += side + gap
    y = colour_bar(canvas, left, y + 8, min(260, canvas.width - left - MARGIN))
    sharp = weights.max(-1).mean((2,))  # (layers, H)
    layer, head = np.unravel_index(sharp.argmax(), sharp.shape)
    what = (
        f"Attention weights of {count(layers, 'layer')} with {count(heads, 'head')} each on {count(T, 'row')}"
    )
    sharpest = f"The sharpest is head {head} of layer {layer}, whose rows give {sharp.max():.0%} of their weight to one key"
    even = f"in the mean; the most even gives {sharp.min():.0%}."
    return canvas.finish(y + MARGIN, f"{what}: {' '.join(d.tokens)}. {sharpest} {even}")


def thumbnail(canvas, weights, d, x, y, side, gid):
    """One head: the weights where the mask is open, hatching elsewhere, lines between Part A and Part B."""
    T, A, cell = len(d), d.part_a_len, side / len(d)
    hidden = np.ma.masked_array(weights, ~d.mask)
    canvas.ax.imshow(
        hidden,
        cmap="cividis",
        norm=SCALE,
        extent=(x, x + side, y + side, y),
        aspect="auto",
        interpolation="none",
        gid=gid,
        zorder=1.5,
    )
    ends = [(x + n * cell, y + (i + down) * cell) for i, n in enumerate(d.mask.sum(1)) for down in (0, 1)]
    shut, colours = Path([*ends, (x + side, y + side), (x + side, y), ends[0]], closed=True), canvas.look
    canvas.ax.add_artist(
        PathPatch(shut, facecolor=colours["faint"], edgecolor=colours["grid"], hatch="////", linewidth=0)
    )
    if 0 < A < T:
        colour = canvas.look["back"]
        canvas.line((x + A * cell, y), (x + A * cell, y + side), colour=colour, width=1.4)
        canvas.line((x, y + A * cell), (x + side, y + A * cell), colour=colour, width=1.4)
    canvas.box(x, y, side, side, edge=canvas.look["soft"], width=0.6)


def colour_bar(canvas, x, y, room):
    """The colours of weights from 0 to 1. Returns where it ends."""
    weights = np.linspace(0, 1, 256)[None] ** 2  # evenly spread on the scale
    canvas.ax.imshow(weights, cmap="cividis", norm=SCALE, extent=(x, x + room, y + 12, y), aspect="auto")
    for weight in (0, 0.05, 0.25, 0.5, 1):
        at = x + room * weight**0.5
        canvas.line((at, y + 12), (at, y + 16), width=0.8)
        canvas.text(at, y + 24, f"{weight:g}", SMALL, colour=canvas.look["soft"])
    return y + 32


# ---- F10 -------------------------------------------------------------------------------------------------


def fig_query(weights, d, *, layer=-1, head=None, row=-1, theme="light", width=None):
    """One row of one head (None: the mean over heads): a bar for every key, in the colour and pattern of its kind.

    Keys that the row may not see keep their place and are marked as hidden. Of more than 48 keys the heaviest
    are drawn.
    """
    weights = check_weights(weights, d)
    layers, heads, T, _ = weights.shape
    for name, value, n in (
        ("layer", layer, layers),
        ("head", 0 if head is None else head, heads),
        ("row", row, T),
    ):
        if not -n <= value < n:
            raise MinglmError(f"{name}: {value} is not accepted; {-n} to {n - 1} are")
    layer, row = layer % layers, row % T
    chosen = weights[layer].mean(0) if head is None else weights[layer, head % heads]
    chosen = chosen[row]  # (T,)
    keys = sorted(np.argsort(-chosen, kind="stable")[:MOST_KEYS].tolist())
    canvas = Canvas(theme, width)
    who = "the mean of all heads" if head is None else f"head {head % heads}"
    left_out = f"; the {len(keys)} heaviest of {T} keys" if len(keys) < T else ""
    y = canvas.title(
        f"What row {row}, {legible(d.tokens[row])}, looks at",
        f"Layer {layer}, {who}: the weights of its keys, and its row of the mask{left_out}",
    )
    tokens = texts_of([d.tokens[j] for j in keys], 120)
    name, digits = max(map(width_of, tokens)), width_of(str(T))
    x = MARGIN + digits + 10 + name + 10
    room, most, line = canvas.width - x - 26 - MARGIN - 54, chosen.max(), 20
    for n, (j, token) in enumerate(zip(keys, tokens, strict=True)):
        mid, kind = y + (n + 0.5) * line, str(d.kind[row, j])
        if n and d.part[j] == "B" and d.part[keys[n - 1]] == "A":
            canvas.line((MARGIN, y + n * line), (canvas.width - MARGIN, y + n * line), width=1.0)
        canvas.text(MARGIN + digits, mid, str(j), SMALL, ha="right", colour=canvas.look["soft"])
        canvas.text(x - 10, mid, token, ha="right", bold=j == row, gid=f"key-{j}")
        cells(canvas, np.array([[kind]]), x, mid - 8, 16, gid=f"kind-{j}")
        if not d.mask[row, j]:
            canvas.text(x + 26, mid, "hidden", SMALL, ha="left", colour=canvas.look["soft"])
            continue
        share = float(chosen[j])
        canvas.box(
            x + 26,
            mid - 7,
            max(1.0, room * share / most),
            14,
            fill=getattr(KINDS[kind], theme),
            gid=f"weight-{j}",
        )
        canvas.text(x + 26 + room * share / most + 6, mid, f"{share:.1%}", SMALL, ha="left")
    heaviest = [
        f"{d.tokens[j]} (row {j}) {chosen[j]:.1%}"
        for j in np.argsort(-chosen, kind="stable")[:5]
        if chosen[j] > 0
    ]
    seen = f"It may see {count(int(d.mask[row].sum()), 'row')} of {T}. The heaviest: {', '.join(heaviest)}."
    what = f"Attention of row {row}, {d.tokens[row]}, in layer {layer}, {who}."
    return canvas.finish(y + len(keys) * line + MARGIN, f"{what} {seen}")


# ---- F11 -------------------------------------------------------------------------------------------------


def fig_infilling(model, tokenizer, text, *, filled=None, truth=None, top=5, theme="light", width=None):
    """Blanks being filled: a column for each token, its likeliest choices down, the bar is the probability.

    filled: what `fill` gave (None: the likeliest token each time). truth: for each blank the tokens that
    stood there, marked as long as the filling agrees with them up to that place.
    """
    filled = filled or fill(model, tokenizer, text)
    found = trace(model, tokenizer, text, filled, top)
    canvas, stops = Canvas(theme, width), {tokenizer.special.eop, tokenizer.special.eos}
    y = canvas.title(
        "Blanks filled, token by token",
        "A column for each token. Bar: its probability; ring: taken"
        + ("; ▸: what stood there" if truth else ""),
    )
    marked = "".join(in_brackets(piece) if blank else piece for piece, blank in filled.pieces)
    y = canvas.paragraph(MARGIN, y, running(marked), canvas.width - 2 * MARGIN) + 10
    columns = max(1, int((canvas.width - 2 * MARGIN + 10) // 142))
    wide, line, words = (canvas.width - 2 * MARGIN - 10 * (columns - 1)) / columns, 24, []

    def name_of(token):
        return "[E]" if token in stops else legible(tokenizer.token_str(token))

    steps = [(k, n, step) for k, blank in enumerate(found) for n, step in enumerate(blank)]
    for begin in range(0, len(steps), columns):
        bottom = y
        for column, (k, n, step) in enumerate(steps[begin : begin + columns]):
            x, top_of = MARGIN + column * (wide + 10), y
            colour, style = span_look(k)
            true = true_token(truth[k], [s.taken for s in found[k][:n]], n) if truth else None
            true = tokenizer.special.eop if true == "end" else true
            canvas.line((x, top_of + 18), (x + wide, top_of + 18), colour=colour, style=style, width=1.8)
            canvas.text(
                x, top_of + 6, f"blank {k + 1}, token {n}", SMALL, ha="left", colour=canvas.look["soft"]
            )
            choices = list(step.choices)
            for extra in (step.taken, true):  # not among the likeliest, and yet of interest
                if extra is not None and extra not in [token for token, _ in choices]:
                    choices.append((extra, float(step.log_p[extra])))
            for row, (token, log_p) in enumerate(choices):
                p, at = exp(log_p), top_of + 24 + row * line
                canvas.box(
                    x + 12,
                    at,
                    max(1.0, (wide - 12) * p),
                    line - 4,
                    fill=part_colours(theme)["B"] + "66",
                    gid=f"p-{k}-{n}-{token}",
                )
                percent = f"{p:.0%}" if p >= 0.1 else f"{p:.1%}" if p >= 0.001 else "< 0.1%"
                canvas.text(x + wide - 4, at + 10, percent, SMALL, ha="right", colour=canvas.look["ink"])
                room = wide - 12 - 10 - width_of(percent, SMALL) - 8
                canvas.text(
                    x + 18, at + 10, fitted(name_of(token), room), BODY, ha="left", bold=token == step.taken
                )
                if token == step.taken:
                    canvas.box(
                        x + 12,
                        at,
                        wide - 12,
                        line - 4,
                        edge=canvas.look["ink"],
                        width=1.5,
                        round=5,
                        zorder=4,
                        gid=f"taken-{k}-{n}",
                    )
                if token == true:
                    canvas.text(x + 10, at + 10, "▸", ha="right", gid=f"true-{k}-{n}")
            bottom = max(bottom, top_of + 24 + len(choices) * line)
            words.append(
                f"blank {k + 1}, token {n}: {name_of(step.taken)} at {exp(float(step.log_p[step.taken])):.1%}"
            )
        y = bottom + 16
    what = f"The text {filled.text!r}, its {count(len(found), 'blank')} filled token by token."
    return canvas.finish(y, f"{what} {'; '.join(words)}.")


def true_token(truth, taken, n):
    """What stood at token n of a blank, if everything before it was met: a token, "end" after the last, else None."""
    if list(truth[:n]) != taken:
        return None
    return truth[n] if n < len(truth) else "end" if n == len(truth) else None


def in_brackets(text):
    """A filled blank in running text: the white space before it stays outside."""
    words = text.lstrip()
    return f"{text[: len(text) - len(words)]}⟦{words}⟧"


def running(text):
    """A text as one line: its blanks stay blanks."""
    return " ".join(legible(word) for word in text.split())


# ---- words become tokens ---------------------------------------------------------------------------------


def stretches(d, text=None):
    """The text of a derivation in order, cut at its spans: (piece, span or -1); a piece keeps the white space before it."""
    words = [word for word in d.text if word != "[EOS]"]
    if text is None:
        glued = all(len(word) == 1 and not word.isascii() for word in words)
        text = ("" if glued else " ").join(words)
    span_of = {i: k for k, span in enumerate(d.spans) for i in range(*span)}
    pieces, at = [], 0
    for i, word in enumerate(words):
        end, k = text.index(word, at) + len(word), span_of.get(i, -1)
        if pieces and pieces[-1][1] == k:
            pieces[-1] = (pieces[-1][0] + text[at:end], k)
        else:
            pieces.append((text[at:end], k))
        at = end
    return pieces


def in_tokens(d, tokenizer, text=None, max_positions=None):
    """A sample of words as a model reads it: (Example in the tokenizer's tokens, its Derivation), cls and eos as in `fill`."""
    special = tokenizer.special
    ids, spans = [special.cls], []
    for piece, k in stretches(d, text):
        begin = len(ids)
        ids += tokenizer.encode(piece)
        if k >= 0:
            spans.append((begin, len(ids)))
    if d.objective != "document" or d.text[-1] == "[EOS]":
        ids.append(special.eos)
    example = build_example(ids, spans, d.order, special, d.objective)
    longest = max(example.part_a_len, int(example.block_position_ids.max()))
    if max_positions and longest > max_positions:
        raise MinglmError(f"text: {longest} tokens are longer than this model reads ({max_positions})")
    return example, derivation_of(example, tokenizer.token_str)


def with_blanks(d, tokenizer, text=None):
    """A sample of words as a text with [MASK] (or [sMASK], [gMASK]) to be filled, and the tokens that stood in each blank."""
    if not d.spans:
        raise MinglmError("spans: none; a blank to fill is needed")
    mask = tokenizer.token_str(tokenizer.special.mask_of(d.objective))
    pieces = stretches(d, text)
    typed = "".join(
        piece[: len(piece) - len(piece.lstrip())] + mask if k >= 0 else piece for piece, k in pieces
    )
    return typed, [tokenizer.encode(piece) for piece, k in pieces if k >= 0]
