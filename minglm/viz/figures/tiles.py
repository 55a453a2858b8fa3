"""The kernel's view of a mask (F14): full, partial and empty tiles, as a picture and as text.

Both read a Derivation or a GLMMask. The rule is that of csrc/mask.h.
"""

import numpy as np

from ...errors import MinglmError
from ...mask import GLMMask, keys_of_row
from ..palette import KINDS
from .canvas import MARGIN, Canvas, width_of
from .grid import marks
from .masks import LARGEST

TILE_KINDS = {"full": "BA", "partial": "BE", "empty": ""}
TILE_WORDS = {
    "full": "full: every pair is seen, nothing is compared",
    "partial": "partial: looked at pair by pair (dots: seen)",
    "empty": "empty: never visited",
}
TILE_SIGNS = {
    "unicode": {"full": "█", "partial": "▒", "empty": "·"},
    "ascii": {"full": "#", "partial": "+", "empty": "."},
}


def tiles(mask, rows, keys):
    """Return the tiles of a GLMMask as a list of (kind, first row, end of rows, first key, end of keys).

    As in csrc/mask.h: all rows [i0, i1) of a tile see the keys of row i0, and none that row i1 - 1 does not.
    """
    cu_q, cu_k, lens_k, part_a_lens = mask.cu_seqlens_q, mask.cu_seqlens_k, mask.len_k, mask.part_a_lens
    columns = [x.tolist() for x in (cu_q, cu_q[1:], cu_k, lens_k, part_a_lens)]
    pieces = []
    for q0, q1, k0, len_k, A in zip(*columns, strict=False):
        shift = len_k - (q1 - q0)
        for i0 in range(0, q1 - q0, rows):
            i1 = min(i0 + rows, q1 - q0)
            fewest, most = (min(len_k, keys_of_row(shift + i, A)) for i in (i0, i1 - 1))
            for j0 in range(0, len_k, keys):
                j1 = min(j0 + keys, len_k)
                kind = "full" if j1 <= fewest else "empty" if j0 >= most else "partial"
                pieces.append((kind, q0 + i0, q0 + i1, k0 + j0, k0 + j1))
    return pieces


def tile_facts(mask, rows, keys):
    """Return (tiles, number of each kind, numbers of pairs, a sentence about the work that tiles save)."""
    pieces, every = tiles(mask, rows, keys), int(mask.cu_seqlens_q[-1]) * int(mask.cu_seqlens_k[-1])
    number = {name: sum(kind == name for kind, *_ in pieces) for name in TILE_KINDS}
    visited = sum((i1 - i0) * (j1 - j0) for kind, i0, i1, j0, j1 in pieces if kind != "empty")
    seen = int(mask.visible_keys().sum())
    saved, useful = 1 - visited / max(1, every), seen / max(1, visited)
    words = (
        f"Tiles of {rows} x {keys}: {visited:,} of {every:,} pairs are visited, so {saved:.0%} of the FLOPs "
        f"of a dense pass are saved; {useful:.0%} of what is visited is seen."
    )
    return pieces, number, dict(pairs=every, visited=visited, seen=seen), words


def mask_and_tile(what, tile):
    """Return (GLMMask, rows, keys) of a Derivation or a GLMMask, and of a tile or None."""
    mask = what if isinstance(what, GLMMask) else GLMMask.packed([len(what)], [what.part_a_len])
    N = int(mask.cu_seqlens_k[-1])
    if tile is None:
        tile = (16, 16) if N > 64 else (4, 4)
        if N >= 512:
            tile = (32, 64)  # as in csrc/cpu/tiled.cpp
    rows, keys = tile
    if not all(isinstance(n, int) and n >= 1 for n in (rows, keys)):
        raise MinglmError(f"tile: {rows}, {keys} is not accepted; two whole numbers >= 1 are (rows, keys)")
    return mask, rows, keys


def fig_tiles(what, *, tile=None, theme="light", width=None):
    """Draw the kernel's view of a mask: full, partial and empty tiles, and the work that they save.

    what: a Derivation or a GLMMask. tile: (rows, keys), by default the kernel's 32 x 64 for a long mask.
    `tiles_text` returns the same as text.
    """
    mask, rows, keys = mask_and_tile(what, tile)
    canvas = Canvas(theme, width)
    pieces, number, facts, words = tile_facts(mask, rows, keys)
    Nq, Nk = int(mask.cu_seqlens_q[-1]), int(mask.cu_seqlens_k[-1])
    y = canvas.title("What the kernel visits", words) + 16
    left = MARGIN + width_of(str(Nq)) + 10
    side = min(LARGEST, (min(canvas.width, 640) - left - MARGIN - 8) / max(Nk, 1))
    dense = mask.dense().numpy()
    fills = {
        name: getattr(KINDS[kind], theme) if kind else canvas.look["back"]
        for name, kind in TILE_KINDS.items()
    }
    for kind, i0, i1, j0, j1 in pieces:
        x, top, w, h = left + j0 * side, y + i0 * side, (j1 - j0) * side, (i1 - i0) * side
        empty, gid = kind == "empty", f"{kind}-{i0}-{j0}"
        edge = dict(edge=canvas.look["grid" if empty else "back"], width=1.2, zorder=1 if empty else 2)
        canvas.rectangle(x, top, w, h, fill=fills[kind], gid=gid, **edge)
        if kind == "partial" and side >= 7:  # pairs that are seen
            marks(canvas, "BE", np.argwhere(dense[i0:i1, j0:j1]), x, top, side)
    sample, _ = mask.rows()
    ends = mask.cu_seqlens_k.long()[sample] + mask.visible_keys()
    edge = [(left + float(end) * side, y + (i + d) * side) for i, end in enumerate(ends) for d in (0, 1)]
    canvas.line(*edge, colour=canvas.look["back"], width=4.5)  # visible on every colour
    canvas.line(*edge, width=2.0, gid="edge")
    for at, value in {left: 0, left + Nk * side: Nk}.items():
        canvas.text(at, y - 10, str(value), colour=canvas.look["soft"], ha="center")
    canvas.text(left - 6, y + Nq * side - 6, str(Nq), ha="right", colour=canvas.look["soft"])
    if Nk * side > 60:
        canvas.text(left + Nk * side / 2, y - 10, "keys", colour=canvas.look["soft"])
    if Nq * side > 60:
        mid = y + Nq * side / 2 + width_of("rows") / 2
        canvas.text(left - 12, mid, "rows", colour=canvas.look["soft"], angle=90)
    lines = [(TILE_WORDS[name], n, name) for name, n in number.items()]
    lines.append(("the edge of the mask", "", "edge"))
    room = canvas.width - MARGIN - (x := left + Nk * side + 28)
    top, bottom = (y, y + Nq * side) if room >= 230 else (y + Nq * side + 18, 0)
    if room < 230:
        x, room = MARGIN, canvas.width - 2 * MARGIN
    for text, n, name in lines:
        if name == "edge":
            canvas.line((x, top + 9), (x + 17, top + 9), width=2.0)
        else:
            canvas.rectangle(x, top, 17, 17, fill=fills[name], edge=canvas.look["grid"], gid=f"swatch-{name}")
            if name == "partial":
                marks(canvas, "BE", np.array([[0, 0]]), x, top, 17)
            how = dict(ha="right", colour=canvas.look["soft"], gid=f"count-{name}")
            canvas.text(x + room, top + 9, f"{n:,}", **how)
        top += 20 * canvas.lines_of_text(x + 26, top + 9, text, room - 70, 20) + 5
    kinds = ", ".join(f"{n} {name}" for name, n in number.items())
    what = f"The kernel's tiles of a mask of {Nq} rows and {Nk} keys: {kinds}. {words}"
    return canvas.finish(max(top, bottom) + MARGIN, what)


def tiles_text(what, *, tile=None, charset="unicode"):
    """Return `fig_tiles` as text: a line for each row of tiles, then the same numbers.

    Example: a GLM sample of 10 rows, 5 of them Part A, in tiles of 4 x 4 -> the lines ██·, ██▒ and ██▒, ...
    """
    mask, rows, keys = mask_and_tile(what, tile)
    pieces, number, _, words = tile_facts(mask, rows, keys)
    lines, signs = {}, TILE_SIGNS[charset]
    for kind, i0, *_ in pieces:
        lines[i0] = lines.get(i0, "") + signs[kind]
    kinds = ", ".join(f"{signs[name]} {n} {name}" for name, n in number.items())
    return "\n".join([*lines.values(), kinds, words])
