"""What a trained model does with a sample: all heads (F9), one query of one head (F10), filling blanks (F11).

Weights are `attention_of(model, example)`, (layers, H, T, T); the sample is the Derivation of that example.
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
from .canvas import BODY, MARGIN, SMALL, Canvas, Quoted, fitted, legible, span_look, width_of
from .grid import cells, part_colours, texts_of

MOST_KEYS = 48  # the most bars of F10
SCALE = PowerNorm(0.5, 0, 1)  # of weights: the square root shows small ones too


def attention_of(model, example):
    """Return the attention weights of all layers and heads: (layers, H, T, T), each row summing to 1."""
    batch = pack([example]).to(next(model.parameters()).device)
    layers = [model.attention_weights(batch, layer)[0] for layer in range(model.config.num_layers)]
    return torch.stack(layers).float().cpu().numpy()


def check_weights(weights, d):
    """Return weights as an array (layers, H, T, T). Raises MinglmError if they do not fit the sample."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 4 or weights.shape[2:] != (len(d), len(d)):
        accepted = f"(layers, heads, {len(d)}, {len(d)}) is accepted for this sample"
        raise MinglmError(f"weights: shape {weights.shape}; {accepted}")
    if not np.abs(weights.sum(-1) - 1).max() <= 1e-3:
        raise MinglmError("weights: a row does not sum to 1; what attention_weights gives is accepted")
    if not np.abs(weights[:, :, ~d.mask]).max(initial=0) <= 1e-6:
        raise MinglmError("weights: a row sees what the sample's mask hides; they must belong together")
    return weights


# ---- F9 --------------------------------------------------------------------------------------------------


def fig_heads(weights, d, *, theme="light", width=None):
    """Draw a small picture of each head, layers down and heads across, from 1; hidden cells are hatched."""
    weights = check_weights(weights, d)
    canvas, (layers, heads, T, _) = Canvas(theme, width), weights.shape
    left = MARGIN + 10 + width_of(f"layer {layers}", SMALL)
    gap = 8 if heads <= 8 else 4
    side = min(200, (canvas.width - left - MARGIN - gap * (heads - 1)) / heads)
    size = f"{count(layers, 'layer')} of {count(heads, 'head')}, {count(T, 'row')}"
    about = "queries down, keys across; the line is the end of Part A, hatched is hidden"
    y = canvas.title("Who looks at whom", f"{size}: {about}")
    for head in range(heads):
        name = f"head {head + 1}" if side > 46 else str(head + 1)
        canvas.text(left + head * (side + gap) + side / 2, y + 6, name, SMALL, colour=canvas.look["soft"])
    y += 18
    for layer in range(layers):
        canvas.text(
            left - 8, y + side / 2, f"layer {layer + 1}", SMALL, ha="right", colour=canvas.look["soft"]
        )
        for head in range(heads):
            x, gid = left + head * (side + gap), f"weights-{layer}-{head}"
            thumbnail(canvas, weights[layer, head], d, x, y, side, gid=gid)
        y += side + gap
    y = colour_bar(canvas, left, y + 8, min(260, canvas.width - left - MARGIN))
    sharp = weights.max(-1).mean((2,))  # (layers, H)
    layer, head = np.unravel_index(sharp.argmax(), sharp.shape)
    what = (
        f"Attention weights of {count(layers, 'layer')} with {count(heads, 'head')} each on {count(T, 'row')}"
    )
    sharpest = (
        f"The sharpest is head {head + 1} of layer {layer + 1}, whose rows give one key {sharp.max():.0%}"
    )
    even = f"of their weight on average; the most even gives {sharp.min():.0%}."
    return canvas.finish(y + MARGIN, f"{what}: {' '.join(d.tokens)}. {sharpest} {even}")


def thumbnail(canvas, weights, d, x, y, side, gid):
    """Draw one head: weights where the mask is open, hatching elsewhere, lines between Part A and Part B."""
    T, A, cell = len(d), d.part_a_len, side / len(d)
    how = dict(cmap="cividis", norm=SCALE, aspect="auto", interpolation="none", gid=gid, zorder=1.5)
    canvas.ax.imshow(np.ma.masked_array(weights, ~d.mask), extent=(x, x + side, y + side, y), **how)
    ends = [(x + n * cell, y + (i + down) * cell) for i, n in enumerate(d.mask.sum(1)) for down in (0, 1)]
    shut = Path([*ends, (x + side, y + side), (x + side, y), ends[0]], closed=True)
    how = dict(facecolor=canvas.look["faint"], edgecolor=canvas.look["grid"], hatch="////", linewidth=0)
    canvas.ax.add_artist(PathPatch(shut, **how))
    if 0 < A < T:
        colour = canvas.look["back"]
        canvas.line((x + A * cell, y), (x + A * cell, y + side), colour=colour, width=1.4)
        canvas.line((x, y + A * cell), (x + side, y + A * cell), colour=colour, width=1.4)
    canvas.rectangle(x, y, side, side, edge=canvas.look["soft"], width=0.6)


def colour_bar(canvas, x, y, room):
    """Draw the scale of colours for weights from 0 to 1. Returns where it ends."""
    weights = np.linspace(0, 1, 256)[None] ** 2  # evenly spread on the scale
    canvas.ax.imshow(weights, cmap="cividis", norm=SCALE, extent=(x, x + room, y + 12, y), aspect="auto")
    for weight in (0, 0.05, 0.25, 0.5, 1):
        at = x + room * weight**0.5
        canvas.line((at, y + 12), (at, y + 16), width=0.8)
        canvas.text(at, y + 24, f"{weight:g}", SMALL, colour=canvas.look["soft"])
    return y + 32


# ---- F10 -------------------------------------------------------------------------------------------------


def fig_query(weights, d, *, layer=-1, head=None, row=-1, theme="light", width=None):
    """Draw one row of one head (None: the mean over heads): a bar per key, in the colour of its kind.

    layer and head are indices, from 0 or from the end; the figure names them from 1, as the page does. Keys
    that the row may not see keep their place and are marked as hidden. Of more than 48 keys, the
    heaviest are drawn.
    """
    weights = check_weights(weights, d)
    layers, heads, T, _ = weights.shape
    given = dict(layer=(layer, layers), head=(0 if head is None else head, heads), row=(row, T))
    for name, (value, n) in given.items():
        if not -n <= value < n:
            raise MinglmError(f"{name}: {value} is not accepted; {-n} to {n - 1} are")
    layer, row = layer % layers, row % T
    shares = (weights[layer].mean(0) if head is None else weights[layer, head % heads])[row]  # (T,)
    by_weight = np.argsort(-shares, kind="stable").tolist()
    keys = sorted(by_weight[:MOST_KEYS])
    canvas = Canvas(theme, width)
    who = "the mean of all heads" if head is None else f"head {head % heads + 1}"
    left_out = f"; the {len(keys)} heaviest of {T} keys" if len(keys) < T else ""
    y = canvas.title(
        f"What row {row}, {legible(d.tokens[row])}, looks at",
        f"Layer {layer + 1}, {who}: the weights of its keys, and its row of the mask{left_out}",
    )
    tokens = texts_of([d.tokens[j] for j in keys], 120)
    name, digits = max(map(width_of, tokens)), width_of(str(T))
    x = MARGIN + digits + 10 + name + 10
    room, most, line = canvas.width - x - 26 - MARGIN - 54, shares.max(), 20
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
        wide = room * float(shares[j]) / most
        how = dict(fill=getattr(KINDS[kind], theme), gid=f"weight-{j}")
        canvas.rectangle(x + 26, mid - 7, max(1.0, wide), 14, **how)
        canvas.text(x + 26 + wide + 6, mid, f"{shares[j]:.1%}", SMALL, ha="left")
    heaviest = [f"{d.tokens[j]} (row {j}) {shares[j]:.1%}" for j in by_weight[:5] if shares[j] > 0]
    seen = f"It may see {count(int(d.mask[row].sum()), 'row')} of {T}. The heaviest: {', '.join(heaviest)}."
    what = f"Attention of row {row}, {d.tokens[row]}, in layer {layer + 1}, {who}."
    return canvas.finish(y + len(keys) * line + MARGIN, f"{what} {seen}")


# ---- F11 -------------------------------------------------------------------------------------------------


def fig_infilling(model, tokenizer, text, *, filled=None, truth=None, top=5, theme="light", width=None):
    """Draw blanks being filled: a column per token, its most likely choices down, a bar for each probability.

    filled: the result of `fill` (None: greedy decoding). truth: the original tokens of each blank, marked as
    long as the filling agrees with all before them.
    """
    filled = filled or fill(model, tokenizer, text)
    blanks = trace(model, tokenizer, text, filled, top)
    canvas, stops = Canvas(theme, width), {tokenizer.special.eop, tokenizer.special.eos}
    about = "A column for each token. Bar: its probability; ring: taken"
    y = canvas.title("Blanks filled, token by token", about + ("; ▸: what stood there" if truth else ""))
    marked = "".join(in_brackets(piece) if blank else piece for piece, blank in filled.pieces)
    y = canvas.paragraph(MARGIN, y, running(marked), canvas.width - 2 * MARGIN) + 10
    columns = max(1, int((canvas.width - 2 * MARGIN + 10) // 142))
    wide, line, words = (canvas.width - 2 * MARGIN - 10 * (columns - 1)) / columns, 24, []

    def name_of(token):
        return "[E]" if token in stops else legible(tokenizer.token_str(token))

    steps = [(k, n, step) for k, blank in enumerate(blanks) for n, step in enumerate(blank)]
    for begin in range(0, len(steps), columns):
        bottom = y
        for column, (k, n, step) in enumerate(steps[begin : begin + columns]):
            x, top_of = MARGIN + column * (wide + 10), y
            colour, style = span_look(k)
            true = true_token(truth[k], [s.taken for s in blanks[k][:n]], n) if truth else None
            true = tokenizer.special.eop if true == "end" else true
            canvas.line((x, top_of + 18), (x + wide, top_of + 18), colour=colour, style=style, width=1.8)
            what = f"blank {k + 1}, token {n + 1}"
            canvas.text(x, top_of + 6, what, SMALL, ha="left", colour=canvas.look["soft"])
            choices = list(step.choices)
            for extra in (step.taken, true):  # of interest even if they are not among the most likely
                if extra is not None and extra not in [token for token, _ in choices]:
                    choices.append((extra, float(step.log_p[extra])))
            for row, (token, log_p) in enumerate(choices):
                p, at = exp(log_p), top_of + 24 + row * line
                how = dict(fill=part_colours(theme)["B"] + "66", gid=f"p-{k}-{n}-{token}")
                canvas.rectangle(x + 12, at, max(1.0, (wide - 12) * p), line - 4, **how)
                percent = f"{p:.0%}" if p >= 0.1 else f"{p:.1%}" if p >= 0.001 else "< 0.1%"
                canvas.text(x + wide - 4, at + 10, percent, SMALL, ha="right", colour=canvas.look["ink"])
                name = fitted(name_of(token), wide - 12 - 10 - width_of(percent, SMALL) - 8)
                canvas.text(x + 18, at + 10, name, BODY, ha="left", bold=token == step.taken)
                if token == step.taken:
                    ring = dict(edge=canvas.look["ink"], width=1.5, round=5, zorder=4, gid=f"taken-{k}-{n}")
                    canvas.rectangle(x + 12, at, wide - 12, line - 4, **ring)
                if token == true:
                    canvas.text(x + 10, at + 10, "▸", ha="right", gid=f"true-{k}-{n}")
            bottom = max(bottom, top_of + 24 + len(choices) * line)
            words.append(f"{what}: {name_of(step.taken)} at {exp(float(step.log_p[step.taken])):.1%}")
        y = bottom + 16
    what = f"The text {filled.text!r}, its {count(len(blanks), 'blank')} filled token by token."
    return canvas.finish(y, f"{what} {'; '.join(words)}.")


def true_token(truth, taken, n):
    """Return the original token n of a blank ("end" after the last), or None if an earlier one was missed."""
    if list(truth[:n]) != taken or n > len(truth):
        return None
    return truth[n] if n < len(truth) else "end"


def in_brackets(text):
    """Put a filled blank in brackets; the white space before it stays outside."""
    words = text.lstrip()
    return f"{text[: len(text) - len(words)]}⟦{words}⟧"


def running(text):
    """Return a text as one line; its spaces stay spaces."""
    return Quoted(" ".join(legible(word) for word in text.split()))


# ---- words become tokens ---------------------------------------------------------------------------------


def stretches(d, text=None):
    """Cut a derivation's text at its spans: (piece, span or -1); a piece keeps the white space before it."""
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
    """Tokenize a sample of words: (Example in tokens, its Derivation), with cls and eos as in `fill`."""
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
    """Return a sample of words as a text with [MASK] (or [sMASK], [gMASK]), and the tokens of each blank."""
    if not d.spans:
        raise MinglmError("spans: none; a blank to fill is needed")
    mask = tokenizer.token_str(tokenizer.special.mask_of(d.objective))
    pieces = stretches(d, text)
    masked = [piece[: len(piece) - len(piece.lstrip())] + mask if k >= 0 else piece for piece, k in pieces]
    return "".join(masked), [tokenizer.encode(piece) for piece, k in pieces if k >= 0]
