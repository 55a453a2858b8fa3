"""Pictures of chapter 03, and the checks of its exercises."""

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ...mask import GLMMask
from ...viz.derivation import EXAMPLE, explain
from ...viz.figures.canvas import Canvas
from ...viz.figures.grid import cells
from ...viz.palette import KINDS, THEMES

LOOK, BLUE = THEMES["light"], KINDS["BA"].light

# ---- pictures --------------------------------------------------------------------------------------------


def fig_known(d, row, side=56):
    """Draw the tokens of a sample as a row of Part B knows them: given, written, or not written yet."""
    A, T, canvas = d.part_a_len, len(d), Canvas("light", 620)

    def middle(i):
        return 20 + side * i + side / 2 - 3

    for name, a, b in (("known", 0, A), ("written so far", A, row + 1), ("not written yet", row + 1, T)):
        soft = LOOK["soft"] if a > row else None
        assert d.mask[row, a:b].all() == d.mask[row, a:b].any() == (not soft)
        left, right = 20 + side * a, 14 + side * b
        canvas.text((left + right) / 2, 16, name, bold=not soft, colour=soft)
        canvas.line((left, 28), (right, 28), width=2.5, colour=LOOK["grid" if soft else "ink"])
        for i in range(a, b):
            box = dict(x=20 + side * i, y=38, w=side - 6, h=28, round=4)
            edge, fill = LOOK["ink"] if i == row else "none", "white" if soft else BLUE
            canvas.rectangle(**box, fill=fill, edge=edge, width=2.5)
            if soft:
                canvas.rectangle(**box, edge=soft, style="dotted")
            canvas.text(middle(i), 52, d.tokens[i], colour=soft)
    x, answer = middle(row), middle(row + 1)
    canvas.line((x, 70), (x, 88), (answer, 88), (answer, 72), width=1.5)
    canvas.line((answer - 4, 78), (answer, 71), (answer + 4, 78), width=1.5)
    canvas.text(answer + 10, 88, f"has to say {d.targets[row]}", ha="left")
    written = " and ".join(token.strip("[]") for token in d.tokens[A : row + 1])
    return canvas.finish(
        104,
        f"What row {row} knows: Part A, and {written} of Part B. Not written yet: {d.targets[row]}, which it "
        "has to say.",
    )


def fig_sentences(d, by_words, side=17):
    """Draw which cells of the mask each of the three sentences decides; by_words: (T, T), what they say."""
    assert np.array_equal(by_words, d.mask)
    T, canvas, decided = len(d), Canvas("light", 620), np.zeros(d.mask.shape, dtype=bool)
    i, j = np.arange(T)[:, None], np.arange(T)
    sentence = np.where(j < d.part_a_len, 1, np.where(i < d.part_a_len, 2, 3))  # (T, T)
    for n, title in ((1, "1: all of Part A"), (2, "2: not Part B"), (3, "3: its own past")):
        x = 20 + 200 * (n - 1)
        canvas.text(x + side * T / 2, 16, title, 10, bold=True)
        canvas.rectangle(x, 32, side * T, side * T, edge=LOOK["grid"])
        cells(canvas, np.where(decided, d.kind, ""), x, 32, side, alpha=0.3, gid=f"decided-{n}")
        cells(canvas, np.where(sentence == n, d.kind, ""), x, 32, side, gid=f"sentence-{n}")
        decided |= sentence == n
    return canvas.finish(
        32 + side * T + 14,
        "Three masks of ten rows. Sentence 1 opens the columns of Part A, sentence 2 shuts Part B for the "
        "rows of Part A, sentence 3 opens a staircase in the rest.",
    )


def fig_dial(T, part_a_lens, side=11):
    """Draw the mask of T rows for each length of Part A."""
    canvas, i, j = Canvas("light", 620), np.arange(T)[:, None], np.arange(T)
    for n, part_a_len in enumerate(part_a_lens):
        x, grid = 16 + 120 * n, GLMMask.packed([T], [part_a_len]).dense().numpy()
        name = {0: "0: GPT", 5: "5: GLM", T: f"{T}: BERT"}.get(part_a_len, part_a_len)
        canvas.text(x + side * T / 2, 16, f"A = {name}", 10, bold=True)
        kind = np.where(j >= part_a_len, "BS", np.where(i < part_a_len, "AA", "BA"))
        cells(canvas, np.where(grid, kind, "BF"), x, 32, side, gid=f"dial-{n}")
    lens = f"{', '.join(map(str, part_a_lens[:-1]))} and {part_a_lens[-1]}"
    return canvas.finish(
        32 + side * T + 14,
        f"The mask of ten rows for a Part A of {lens}: from a triangle, GPT, to a full square, BERT.",
    )


def fig_ripple(d, size):
    """Draw how far the output of each row moved when one token was changed; size: (T,)."""
    T, A = len(d), d.part_a_len
    fig = Figure(figsize=(6.2, 2.7), layout="constrained")
    ax = fig.subplots()
    ax.bar(range(T), np.maximum(size, 1e-6), color=BLUE)
    for i in np.flatnonzero(size == 0):
        ax.text(i, 1.6e-6, "0", ha="center", color=LOOK["soft"])
    ax.axvline(A - 0.5, color=LOOK["ink"], lw=1.2)
    ax.text(A - 0.6, 3, "Part A", ha="right")
    ax.text(A - 0.4, 3, "Part B", ha="left")
    ax.set(yscale="log", ylim=(1e-6, 10), ylabel="change of the output")
    ax.set_xticks(range(T), [f"{token}\n{i}" for i, token in enumerate(d.tokens)])
    ax.spines[["top", "right"]].set_visible(False)
    fig.alt_text = (
        "How far each row's output moves when x6 in row 7 is changed: exactly 0 in rows 0 to 6, most "
        "in row 7, less in rows 8 and 9."
    )
    return fig


def fig_leaks(d, glm, leaky):
    """Draw which rows moved with which token, twice for each of two masks: {layers: (T, T)}."""
    fig = Figure(figsize=(6.4, 6.7), layout="constrained")
    cases = [("GLM's mask", *case) for case in glm.items()]
    cases += [("Part A sees all", *case) for case in leaky.items()]
    for ax, (name, layers, moved) in zip(fig.subplots(2, 2).flat, cases, strict=True):
        wrong = moved & ~d.mask
        assert wrong.any() == (name == "Part A sees all")
        draw_moved(ax, d, moved, wrong)
        ax.set_title(f"{name}, {layers} layer{'s' * (layers > 1)}", size=11)
    fig.alt_text = (
        "Which rows move when which token changes, four times. Under GLM's mask the grid is the mask "
        "with 1 layer and with 4. If Part A sees all, its own rows move too with 1 layer, and with 2 "
        "layers every row moves: all cells outside the mask carry an exclamation mark."
    )
    return fig


def draw_moved(ax, d, moved, wrong):
    """Draw a grid of who moved with whom; cells that are `wrong` carry an exclamation mark."""
    T, A = len(d), d.part_a_len
    colours = ListedColormap([LOOK["faint"], BLUE, LOOK["ink"]])
    ax.pcolormesh(moved * 1 + wrong, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1)
    for i, j in np.argwhere(wrong):
        ax.text(j + 0.5, i + 0.55, "!", color="white", ha="center", va="center", size=9)
    ax.axhline(A, color=LOOK["ink"])
    ax.axvline(A, color=LOOK["ink"])
    ax.set(ylim=(T, 0), aspect="equal", xlabel="token that is changed", ylabel="row that moves")
    ax.set_xticks(np.arange(T) + 0.5, d.tokens, size=8, rotation=90)
    ax.set_yticks(np.arange(T) + 0.5, d.tokens, size=8)
    ax.tick_params(length=0)


# ---- exercises -------------------------------------------------------------------------------------------


def check_part_a_lens_of(part_a_lens_of):
    """Check exercise 1 on every mask of 1, 2, 5 and 8 rows."""
    for length in (1, 2, 5, 8):
        masks = [GLMMask.packed([length], [n]).visible_keys().tolist() for n in range(length + 1)]
        for visible in masks:
            answer = part_a_lens_of(list(visible))
            assert answer is not None, "part_a_lens_of returned None: did you forget `return`?"
            got = sorted(answer)
            for n in range(length + 1):
                if masks[n] == visible:
                    assert n in got, f"{visible} also comes from part_a_len {n}; you left it out"
                else:
                    assert n not in got, f"part_a_len {n} gives {masks[n]}, not {visible}"
    print("✓ check_part_a_lens_of: 20 lists")


def check_open_cells(open_cells):
    """Check exercise 2 on every mask of up to 11 rows."""
    for length in range(12):
        for n in range(length + 1):
            want, got = int(GLMMask.packed([length], [n]).dense().sum()), open_cells(length, n)
            assert got is not None, "open_cells returned None: did you forget `return`?"
            assert got == want, f"T = {length}, A = {n}: you say {got}, but {want} cells are open"
    print("✓ check_open_cells: 78 masks")


def check_cheating_rows(rows):
    """Check exercise 3 on the paper's example: the answer of a row is what the next row reads."""
    d = explain(*EXAMPLE)
    A, T = d.part_a_len, len(d)
    for n in range(A + 1, T + 1):
        assert isinstance(rows, dict) and n in rows, f"your dict has no key {n}"
        visible = GLMMask.packed([T], [n]).visible_keys().tolist()
        ends = [i for i in range(A, T) if d.targets[i] == "[E]"]
        cheat = [i for i in range(A, T) if i not in ends and visible[i] > i + 1]
        told = [i for i in rows[n] if i in ends]
        hint = f"; the target of row {told[0]} is [E], which no row reads" if told else ""
        assert sorted(rows[n]) == cheat, f"part_a_len {n}: not the rows {sorted(rows[n])}{hint}"
    print("✓ check_cheating_rows: five wrong integers")
