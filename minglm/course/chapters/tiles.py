"""Pictures of chapter 11, and the checks of its exercises."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...mask import GLMMask
from ...viz.figures.canvas import Canvas
from ...viz.figures.tiles import tile_facts, tiles
from ...viz.palette import KINDS, THEMES

BLUE, LIGHT, AMBER = (KINDS[kind].light for kind in ("AA", "BA", "BE"))
FAINT, GRID = THEMES["light"]["faint"], THEMES["light"]["grid"]


# ---- pictures --------------------------------------------------------------------------------------------


def fig_running_softmax(scores):
    """Draw the weights of a row's scores, (16,), after each tile of four keys, in units of the largest."""
    fig = Figure(figsize=(7, 2.4), layout="constrained")
    axes = fig.subplots(1, 4, sharey=True)
    for t, ax in enumerate(axes):
        seen = scores[: 4 * t + 4]
        bars = np.exp(seen - seen.max())
        ax.bar(range(len(seen)), bars, color=[LIGHT] * 4 * t + [BLUE] * 4)
        ax.set(xlim=(-0.8, 15.8), xticks=(0, 4, 8, 12), xlabel="key", ylim=(0, 1.15))
        ax.set_title(f"tile {t}: l = {bars.sum():.2f}")
        ax.spines[["top", "right"]].set_visible(False)
        ax.axvspan(4 * t + 3.5, 15.8, color=FAINT, zorder=0)
    axes[0].set_ylabel("exp(score - m)")
    fig.alt_text = (
        "Four panels, one a tile of four keys: the weights so far in units of the largest. "
        "Tiles 1 and 3 bring a larger score, and all earlier bars shrink by one factor."
    )
    return fig


def fig_band(T, part_a_len, side, first_row=12, now=8):
    """Draw the forward pass at work: the band of rows from `first_row` on, its tile from key `now` on."""
    canvas, cell, x, y = Canvas("light", 640), 16, 130, 56
    high, wide = side * cell / 2, side * cell
    top = y + first_row * cell / 2
    looks = {
        "gone": dict(fill=LIGHT),
        "s": dict(fill=BLUE, ink=dict(colour="white", bold=True)),
        "later": dict(fill=FAINT),
        "skipped": dict(fill="none"),
    }
    for kind, i0, _, j0, _ in tiles(GLMMask.packed([T], [part_a_len]), side, side):
        words = "skipped" if kind == "empty" else "gone" if j0 < now else "s" if j0 == now else "later"
        look, here = looks[words], i0 == first_row
        left, fill = x + j0 * cell, look["fill"] if here else "none"
        canvas.rectangle(left, y + i0 * cell / 2, wide, high, fill=fill, edge=GRID, width=1.2)
        if here:
            canvas.text(left + wide / 2, top + high / 2, words, **look.get("ink", {}))
    for left, above, w, h, name in (
        (x - 44, top, 38, high, "q"),
        (x + now * cell, y - 40, wide, 34, "k, v"),
        (x + T * cell + 6, top, 60, high, "m, l, o"),
    ):
        canvas.rectangle(left, above, w, h, fill=AMBER)
        canvas.text(left + w / 2, above + h / 2, name)
    canvas.text(x - 50, top + high / 2, "these rows", ha="right")
    return canvas.finish(
        y + T * cell / 2 + 10,
        "A band of rows goes along its keys: two tiles are gone, one is s, one comes later, two are skipped.",
    )


def fig_walks(forward, backward, side):
    """Draw the tiles (i0, i1, j0, j1) that both passes visit, numbered, in two colours for their owners."""
    fig, T = Figure(figsize=(7, 3.7), layout="constrained"), max(i1 for _, i1, _, _ in forward)
    axes, ticks = fig.subplots(1, 2), range(0, T + 1, side)
    for ax, walk, owner in zip(axes, (forward, backward), (0, 2), strict=True):
        for n, tile in enumerate(walk):
            i0, i1, j0, j1 = tile
            even = tile[owner] // side % 2 == 0
            ax.fill((j0, j1, j1, j0), (i0, i0, i1, i1), fc=BLUE if even else LIGHT, ec="white", lw=2)
            ink = "white" if even else "black"
            ax.text(j0 + side / 2, i0 + side / 2, n, ha="center", va="center", color=ink)
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xlabel="keys", xticks=ticks, yticks=ticks)
    axes[0].set_title("forward: rows own m, l, o")
    axes[1].set_title("backward: keys own dK, dV")
    axes[0].set_ylabel("rows")
    fig.alt_text = (
        "The visited tiles of a mask with 24 rows and a Part A of 10, twice: forward they "
        "are numbered along the rows, backward down the columns; empty ones have none."
    )
    return fig


def fig_work(forward, T=512, lens=(0, 128, 256, 384, 512)):
    """Draw the pairs that are seen, visited in vain and skipped, for Part A of each length and two tiles.

    forward: the chapter's, which must visit the tiles that are not empty.
    """
    fig = Figure(figsize=(7, 2.9), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, (rows, keys) in zip(axes, ((32, 64), (128, 128)), strict=True):
        for n, part_a_len in enumerate(lens):
            visits = []
            _, number, pairs, _ = tile_facts(GLMMask.packed([T], [part_a_len]), rows, keys)
            forward(*np.zeros((3, T, 1)), part_a_len, rows, keys, visits)
            assert len(visits) == number["full"] + number["partial"]
            seen, visited = pairs["seen"] / T**2, pairs["visited"] / T**2
            ax.bar(n, seen, color=BLUE)
            ax.bar(n, visited - seen, bottom=seen, color=AMBER)
            ax.bar(n, 1 - visited, bottom=visited, color=FAINT, ec=GRID)
            place = dict(ha="center", va="bottom" if visited < 1 else "top")
            ax.text(n, min(visited + 0.02, 0.97), f"{visited:.0%}", **place)
        ax.texts[-1].set_color("white")
        ax.set(xticks=range(len(lens)), xticklabels=lens, ylim=(0, 1.01), yticks=[])
        ax.set(xlabel="length of Part A", title=f"tiles of {rows} x {keys}")
        ax.spines[["top", "right", "left"]].set_visible(False)
    patches = [Rectangle((0, 0), 1, 1, fc=colour, ec="#DDDDDD") for colour in (BLUE, AMBER, FAINT)]
    names = ["seen", "visited in vain", "skipped"]
    fig.legend(patches, names, loc="outside upper center", ncols=3, frameon=False)
    fig.alt_text = (
        "Shares of all pairs. With tiles of 32 x 64, 56 to 100 percent are visited, hardly more than are "
        "seen; with tiles of 128 x 128, 62 to 100 percent."
    )
    return fig


# ---- checks ----------------------------------------------------------------------------------------------


def check_merge(merge):
    """Check exercise 1: two halves of a softmax, in both orders, put together."""
    rng = np.random.default_rng(1)
    for n, cut in ((2, 1), (9, 4), (9, 0), (9, 9)):
        s, v = 5 * rng.normal(size=n) + 400, rng.normal(size=n)
        parts = []
        for piece in (slice(0, cut), slice(cut, n)):
            m = s[piece].max(initial=-np.inf)
            w = np.exp(s[piece] - m)
            parts.append((m, w.sum(), w @ v[piece]))
        for a, b in (parts, parts[::-1]):
            answer = merge(a, b)
            assert answer is not None, "merge returned None: did you forget `return`?"
            m, total, o = answer
            assert m == s.max(), f"m is {m}, the largest score is {s.max()}"
            w = np.exp(s - s.max())
            early = np.isclose(o, w @ v / w.sum()) and not np.isclose(o, w @ v)
            assert not early, "your o is already divided by l; divide only at the very end"
            assert np.allclose((total, o), (w.sum(), w @ v)), (
                f"{n} keys cut at {cut}: l, o = {total:.3g}, {o:.3g}; they are {w.sum():.3g}, {w @ v:.3g}"
            )
    print("✓ check_merge: four cuts, in both orders")


def check_first_row(first_row):
    """Check exercise 2: the first row that sees a key."""
    for T, part_a_len in ((6, 0), (6, 1), (6, 4), (6, 6)):
        grid = GLMMask.packed([T], [part_a_len]).dense().numpy()
        for j in range(T):
            want = int(grid[:, j].argmax())
            got = first_row(j, part_a_len)
            assert got is not None, "first_row returned None: did you forget `return`?"
            where = f"part_a_len {part_a_len}, key {j}"
            assert got == want, f"{where}: you say row {got}, but it is row {want}"
    print("✓ check_first_row: 24 keys")


def check_tiles(counts):
    """Check exercise 3: [full, partial] tiles of a sample."""
    grid = GLMMask.packed([512], [256]).dense().numpy()
    pieces = grid.reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(64, -1)
    full, partial = int(pieces.all(1).sum()), int((pieces.any(1) & ~pieces.all(1)).sum())
    assert sum(counts) == full + partial, f"{sum(counts)} visited tiles is not right"
    assert list(counts) == [full, partial], "the sum is right, but not the two numbers"
    print(f"✓ check_tiles: {full} full, {partial} partial, {64 - full - partial} never visited")
