"""Pictures of chapter 05, its five sentences, its questions, and the checks of its exercises."""

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...mask import GLMMask
from ...rule import keys_of_row
from ...viz.derivation import explain
from ...viz.figures.canvas import Canvas, Quoted, width_of
from ...viz.palette import KINDS, THEMES
from ..words import of_toys

SENTENCES = {  # word for word alike, so that every number is the same: how they begin, a blank | the rest
    "en": (
        "we drank",
        "red wine | with him today",
        "green tea | with him today",
        "water | with him today",
        "red wine | at night",
        "green tea | at dawn",
    ),
    "zh": (
        "我们 点了",
        "牛 肉 | 和 他 分享",
        "豆 浆 | 和 他 分享",
        "鱼 | 和 他 分享",
        "牛 肉 | 当 晚饭",
        "豆 浆 | 当 早饭",
    ),
}
ASKED = {  # of the trained networks: answers, right and wrong ones
    "The [MASK] lives on the farm and eats mice.": ["cat", "cow", "pig", "fox", "otter"],
    "The fox lives in the forest and eats [MASK].": [
        f"{a} {b}" for a, b in product(("red", "white"), ("berries", "mushrooms"))
    ],
    "The mouse lives [MASK] and eats seeds.": [
        f"{a} the {b}" for a, b in product(("on", "in"), ("farm", "forest"))
    ],
}
LINES = {0: "GPT", 2: "prefix LM", 4: "prefix LM", 7: "BERT"}  # A: what that mask is


def five_sentences():
    """Return (the words before the blank, [(the words in it, the words after it)]) of five sentences.

    They are in the language of MINGLM_LANG, see ..words.of_toys.
    """
    begin, *rest = SENTENCES[of_toys()]
    corpus = [tuple(tuple(part.split()) for part in line.split("|")) for line in rest]
    return tuple(begin.split()), corpus


def said(words):
    """Return words as one text; Chinese is written without blanks."""
    return ("" if words[0] > "\u2e7f" else " ").join(words)


# ---- pictures --------------------------------------------------------------------------------------------


def fig_two_ways(begin, corpus, right):
    """Draw the fillings before the words `right`: as BERT combines their words, and as GLM writes them."""
    fit = [filling for filling, after in corpus if after == right]
    fig = Figure((7, 2.7), layout="constrained")
    table, tree = fig.subplots(1, 2, width_ratios=(1, 1.5))
    each_alone(table, fit)
    tree.text(0, 1, said(begin), ha="center", va="center")
    grow(tree, [*map(list, fit)], [], 0.05, 1, 1)
    tree.set(xlim=(-0.4, 3.3), ylim=(2.5, -0.5))
    table.set_title("BERT: two words, each alone", fontsize=10)
    tree.set_title("GLM: one by one", fontsize=10)
    for ax in (table, tree):
        ax.axis("off")
    (a, b), (c, d), (e,) = fit
    fig.alt_text = (
        f"Fillings of '{said(begin)} ... {said(right)}'. BERT multiplies two halves, so {said((a, b))}, "
        f"{said((a, d))}, {said((c, b))} and {said((c, d))} get a quarter each, though two of them occur "
        f"nowhere. GLM is a tree with three branches of a third each: {a} then {b}, {c} then {d}, and {e}, "
        "each with its end."
    )
    return fig


def each_alone(ax, fit):
    """Draw the table of first and second words; what occurs nowhere is orange."""
    two = [filling for filling in fit if len(filling) == 2]
    counts = [Counter(words) for words in zip(*two, strict=True)]
    firsts, seconds = ({word: Fraction(n, len(two)) for word, n in count.items()} for count in counts)
    for (r, a), (c, b) in product(enumerate(firsts), enumerate(seconds)):
        kind = KINDS["BA" if (a, b) in fit else "BS"]
        ax.add_patch(Rectangle((c, r), 0.94, 0.9, color=kind.light))
        text = f"{said((a, b))}\n{firsts[a] * seconds[b]}"
        ax.text(c + 0.47, r + 0.45, text, color=kind.ink["light"], ha="center", va="center")
    for n, (word, p) in enumerate(seconds.items()):
        ax.text(n + 0.47, -0.12, f"{word} {p}", ha="center")
    for n, (word, p) in enumerate(firsts.items()):
        ax.text(-0.1, n + 0.45, f"{word} {p}", ha="right", va="center")
    ax.set(xlim=(-0.85, 2), ylim=(2, -0.4))


def grow(ax, fit, begin, x, y, high):
    """Draw the words that follow `begin` in some fillings, `high` rows of room for each, from (x, y) on."""
    fit = [filling for filling in fit if filling[: len(begin)] == begin]
    ways = Counter("".join(filling[len(begin) : len(begin) + 1]) or "[E]" for filling in fit)
    for n, (word, count) in enumerate(ways.items()):
        to = y + high * (n - (len(ways) - 1) / 2)
        ax.plot((x + 0.28, x + 0.72), (y, to), color=KINDS["AA"].light, lw=1.5, zorder=0)
        at = (x + 0.5, (y + to) / 2)
        ax.text(*at, Fraction(count, len(fit)), ha="center", va="center", fontsize=8, backgroundcolor="w")
        box = dict(boxstyle="round", fc="white" if word == "[E]" else KINDS["BA"].light, ec="none")
        ax.text(x + 1, to, word, ha="center", va="center", bbox=box)
        if word != "[E]":
            grow(ax, fit, [*begin, word], x + 1, to, high)


def fig_answers(begin, fillings, answers):
    """Draw the probability of each filling, {words after it: {family: probabilities}}."""
    fig = Figure((7, 2.9), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, (right, ways) in zip(axes, answers.items(), strict=True):
        bars(ax, ["\n".join(filling) for filling in fillings], ways)
        ax.set_title(f"{said(begin)} ... {said(right)}", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    first, both, crossed, last = (said(fillings[n]) for n in (0, 1, 2, 3))
    today, dawn = map(said, answers)
    fig.alt_text = (
        f"Probabilities of five fillings under BERT, GPT and GLM. Before '{today}' BERT gives {both} and "
        f"{crossed} as much as {first}; before '{dawn}' GPT alone is unsure of {last}."
    )
    return fig


def bars(ax, names, ways, size=10):
    """Draw the probabilities {family: probabilities of the names} as three rows of bars."""
    for n, (family, kind) in enumerate(zip(ways, ("BE", "BA", "AA"), strict=True)):
        at, heights = np.arange(len(names)) + 0.27 * (n - 1), [float(p) for p in ways[family]]
        ax.bar(at, heights, 0.25, label=family.upper(), color=KINDS[kind].light)
    ax.set_xticks(range(len(names)), names, fontsize=size)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("probability")


def fig_moving_line():
    """Draw the mask of seven tokens for growing A."""
    fig, T = Figure((7, 2.25), layout="constrained"), 7
    for ax, (A, name) in zip(fig.subplots(1, len(LINES)), LINES.items(), strict=True):
        mask = GLMMask.packed([T], [A]).dense().numpy()
        for i, j in product(range(T), repeat=2):
            kind = "AA" if i < A and j < A else "BA" if j < A else "BS"
            colour = KINDS[kind].light if mask[i, j] else THEMES["light"]["faint"]
            ax.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="white"))
        ax.plot((A, A), (0, T), color="black", lw=1.5)
        ax.text(A, T + 0.95, f"A = {A}", ha="center", fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(xlim=(-0.6, T + 0.6), ylim=(T + 1.2, -0.1), aspect="equal")
        ax.axis("off")
    fig.alt_text = (
        "Four masks of seven tokens. With A = 0 only the triangle of GPT is open; with A = 2 and A = 4 the "
        "first columns are open too, a prefix LM; with A = 7 everything is open, BERT."
    )
    return fig


def fig_sights(words, sights):
    """Draw which words are in sight while each blanked one is predicted.

    sights: {model: {learned word: the words that its row sees}}.
    """
    fig, look = Figure((7, 6.3), layout="constrained"), THEMES["light"]
    ax, blanked = fig.subplots(), [word for word in words if word in sights["glm"]]
    for m, (model, sight) in enumerate(sights.items()):
        for (n, asked), (x, word) in product(enumerate(blanked), enumerate(words)):
            y, seen = 3.5 * m + n, word in sight[asked]
            kind = KINDS["BS" if word in blanked else "BA"]
            ax.barh(y, 0.94, 0.9, x, color=kind.light if seen else look["faint"])
            ink, text = kind.ink["light"] if seen else look["ink"], word if seen else ""
            ax.text(x + 0.47, y, "?" if word == asked else text, color=ink, ha="center", va="center")
        ax.text(-0.15, 3.5 * m + 1, model, ha="right", va="center", weight="bold")
    ax.set(xlim=(-1.1, 7), ylim=(20.2, -0.7))
    ax.set_title("what is in sight while ? is predicted", fontsize=11, loc="left")
    ax.axis("off")
    *kept, last = [word for word in words if word not in blanked]
    fig.alt_text = (
        "For each of six models and each blanked word, the words of the text in sight. BERT sees "
        f"{', '.join(kept)} and {last}; GPT only what comes before; GLM the kept words on both sides and the "
        "answers given before."
    )
    return fig


def fig_trained(trained):
    """Draw the probabilities that trained networks give to the answers of ASKED, {text: {family: them}}."""
    fig = Figure((8.4, 3.3), layout="constrained")
    axes = fig.subplots(1, 3, sharey=True)
    for ax, (text, ways) in zip(axes, trained.items(), strict=True):
        bars(ax, [answer.replace(" ", "\n") for answer in ASKED[text]], ways, 8)
        ax.set_title(text.replace(" lives", "\nlives").replace(" and", "\nand"), fontsize=9)
    axes[0].legend(frameon=False, fontsize=9)
    fig.alt_text = (
        "Probabilities that three trained networks give to answers. The animal that eats mice: GLM and BERT "
        "are sure of the cat, GPT is not. The fox's food and the mouse's home: GLM and GPT share their "
        "probability between the two right answers, BERT also gives some to wrong pairs such as white "
        "berries."
    )
    return fig


def fig_remember(family, word):
    """Draw the row that predicts a word under BERT, GPT and GLM: the keys in sight, and the integer A."""
    canvas, look, left, wide = Canvas("light", 620), THEMES["light"], 62, 40
    canvas.text(left, 12, f"in sight while {word} is predicted", ha="left", bold=True)
    for n, model in enumerate(("bert", "gpt", "glm")):
        d, y = family[model], 42 + 46 * n
        i, A = d.targets.index(word), d.part_a_len
        keys = keys_of_row(i, A)
        assert d.mask[i].tolist() == [j < keys for j in range(len(d))]
        canvas.text(14, y + 13, model.upper(), ha="left", bold=True)
        for j, token in enumerate(d.tokens):
            fill, ink = (KINDS["BA"].light, None) if j < keys else (look["faint"], look["soft"])
            edge = look["ink"] if j == i else "none"
            x = left + wide * j
            canvas.rectangle(x + 2, y, wide - 4, 26, fill=fill, edge=edge, width=2.2, round=4)
            size = 8 if width_of(token, 8) <= wide - 6 else 7
            canvas.text(x + wide / 2, y + 13, Quoted(token), size, colour=ink)
        x = left + wide * A
        canvas.line((x, y - 4), (x, y + 30), width=2.2, zorder=6)
        canvas.text(x, y - 11, f"A = {A}", 8, bold=True)
        canvas.text(606, y + 13, f"max({A}, {i + 1}) = {keys}", 8, ha="right")
    return canvas.finish(
        168,
        f"The row that predicts {word}. BERT sees every key but no other answer, GPT only the left side, "
        "GLM both sides and what it has written; each is one line at A.",
    )


# ---- checks ----------------------------------------------------------------------------------------------


def check_one_integer(answer):
    """Check {"bert": A, "gpt": A, "prefix": A} for seven tokens, three of them a prompt."""
    assert isinstance(answer, dict), "the answer is a dict, such as {'bert': 1, 'gpt': 2, 'prefix': 3}"
    key, row = np.arange(7), np.arange(7)[:, None]
    rules = {"bert": row >= 0, "gpt": key <= row, "prefix": (key < 3) | (key <= row)}
    for model, rule in rules.items():
        assert model in answer, f"your dict has no key {model!r}"
        mask = GLMMask.packed([7], [answer[model]]).dense().numpy()
        wrong = np.argwhere(mask != rule)
        where = f"{model}: with A = {answer[model]} the first wrong cell [row, key] is"
        assert not len(wrong), f"{where} {wrong[0].tolist()}"
    print("✓ check_one_integer: one integer is the whole mask. (GPT: 0 or 1, as row 0 sees itself anyway.)")


def check_independent(fillings):
    """Check pairs of words as fillings: alone or one by one, each word is as likely."""
    assert fillings, "the answer is a list of fillings"
    rows = [tuple(filling) for filling in fillings]
    assert all(len(row) == 2 for row in rows), "every filling must have two words, as in ('a', 'b')"
    firsts, seconds = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    assert len(firsts) > 1 and len(seconds) > 1, "at least two first and two second words, please"
    for a, b in product(firsts, seconds):
        alone = Fraction(firsts[a] * seconds[b], len(rows) ** 2)
        chain = Fraction(rows.count((a, b)), len(rows))  # p(a) p(b | a), counted
        assert alone == chain, f"{said((a, b))}: {alone} with each word alone, {chain} one by one"
    print(f"✓ check_independent: {len(firsts) * len(seconds)} fillings, no difference")


def check_learned(learned):
    """Check a function of (model, length of the text, lengths of its blanks): the rows with a target."""
    for lengths in ([1], [3], [2, 1], [1, 1, 4]):
        spans, start = [], 1
        for n in lengths:
            spans.append((start, start + n))
            start += n + 1
        text = [f"x{i}" for i in range(start + 2)]
        for model in ("bert", "gpt", "t5", "glm"):
            d = explain(text, spans, range(len(spans)), model=model)
            right, got = [t for t in d.targets if t], learned(model, len(text), lengths)
            assert got is not None, "learned returned None: did you forget `return`?"
            where = f"{model}, {len(text)} tokens, blanks {lengths}"
            assert got == len(right), f"{where}: you say {got}, but the targets are {' '.join(right)}"
    print("✓ check_learned: 16 samples")
