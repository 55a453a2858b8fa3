"""Every figure: it shows the derivation, model or run, can be read at any width, and files stay the same."""

import io
import json
import math
import re
import warnings
from collections import Counter
from itertools import permutations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from conftest import RECORDED, ROOT, python, thorough
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import AxesImage, imread
from matplotlib.testing.compare import calculate_rms
from matplotlib.text import Text
from matplotlib.transforms import Affine2D

from minglm import GLM, GLMMask, MinglmError, Tokenizer, build_example, explain, fill
from minglm.bench.cases import BOTH
from minglm.cli import main, parser
from minglm.use.generate import trace
from minglm.viz import figures
from minglm.viz.derivation import derivation_of
from minglm.viz.figures import FIGURES, canvas, draw
from minglm.viz.figures import masks as mask_figures
from minglm.viz.figures import models as model_figures
from minglm.viz.figures import runs as run_figures
from minglm.viz.figures import samples as sample_figures
from minglm.viz.figures import tiles as tile_figures
from minglm.viz.figures.canvas import save_figure
from minglm.viz.figures.curves import fig_runs, read_metrics, smooth
from minglm.viz.figures.grid import CODES
from minglm.viz.palette import KINDS

# a letter without a font is a warning
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
PAPER = explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0])
SENTENCE = "The old man went slowly down to the river and sat there until evening came , "
SENTENCE += "thinking of the long war ."
ENGLISH = explain(SENTENCE.split(), [(3, 5), (9, 12), (18, 20)], [2, 0, 1])
CHINESE = explain(list("春眠不觉晓处处闻啼鸟夜来风雨声"), [(2, 5), (10, 12)], [1, 0])
ODD = explain(
    ["a", "internationalisation-of-everything", "$\\frac$", "b", "\u202e", "c\n", "", "😀"],
    [(1, 2), (4, 5), (5, 6), (6, 8)],
    [3, 1, 0, 2],
)
SAMPLES = {
    "paper": PAPER,
    "english": ENGLISH,
    "chinese": CHINESE,
    "odd": ODD,
    "one word": explain(["word"], [], []),
    "one span": explain(["x"], [(0, 1)], [0]),
    "document": explain(["a", "b", "c", "[EOS]"], [(1, 4)], [0], "document"),
    "long": explain([f"w{i}" for i in range(60)], [(3, 5), (20, 29), (40, 41), (57, 59)], [2, 0, 3, 1]),
}
OF_A_TEXT = {
    name: f for name, f in FIGURES.items() if f.needs == figures.TEXT and name != "story"
}  # see test_story.py


@pytest.fixture(scope="module")
def tokenizer(small_run):
    return Tokenizer.from_pretrained(small_run)


@pytest.fixture(scope="module")
def model(small_run):
    """Of 2 layers and 2 heads."""
    return GLM.from_pretrained(small_run).eval()


@pytest.fixture(scope="module")
def seen(model, tokenizer):
    """A sample, what every head makes of it: .d, .weights."""
    text = "And God saw the light, that it was good."
    d = explain(text.split(), [(1, 3), (6, 8)], [1, 0])
    example, d = model_figures.in_tokens(d, tokenizer, text)
    return SimpleNamespace(d=d, weights=model_figures.attention_of(model, example))


def by_gid(fig):
    """{gid: artist} of everything that has a name; a name comes once, for in an SVG it is an id."""
    found = [artist for artist in fig.findobj() if artist.get_gid()]
    names = [artist.get_gid() for artist in found]
    assert len(set(names)) == len(names), Counter(names).most_common(1)
    return dict(zip(names, found, strict=True))


def words_of(fig, prefix):
    """The texts whose name is prefix-0, prefix-1, ..., in order."""
    named = {
        gid: t.get_text()
        for gid, t in by_gid(fig).items()
        if isinstance(t, Text) and gid.rpartition("-")[0] == prefix
    }
    return [named[gid] for gid in sorted(named, key=lambda gid: int(gid.rpartition("-")[2]))]


def codes(kind):
    return [[CODES[name] for name in row] for row in kind.tolist()]


# ---- every figure can be read ----------------------------------------------------------------------------


def corners(text, renderer):
    """The four corners of a text as it is drawn, turned if it is turned: (4, 2) pixels."""
    angle, at = text.get_rotation(), text.get_transform().transform(text.get_position())
    text.set_rotation(0)
    box = text.get_window_extent(renderer)
    text.set_rotation(angle)
    turn = Affine2D().rotate_deg_around(*at, angle) if angle else Affine2D()
    return turn.transform([(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)])


def drawn_texts(fig):
    """(words, left, bottom, right, top) in pixels of every text that is drawn."""
    fig.draw_without_rendering()
    renderer, found = fig._get_renderer(), []
    hidden = {id(t) for ax in fig.axes for t in undrawn_ticks(ax)}
    for text in fig.findobj(Text):
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden:
            points = corners(text, renderer)
            found.append((text.get_text(), *points.min(0), *points.max(0)))
    return found


def undrawn_ticks(ax):
    """Labels of ticks outside the axes, or of axes that are switched off."""
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not ax.axison or not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)
        if not ax.axison:
            yield from (axis.label, axis.offsetText)


def check_readable(fig, width):
    """Nothing overlaps, nothing leaves the picture, and there is an alternative text."""
    texts, (wide, high) = drawn_texts(fig), (fig.get_size_inches() * fig.dpi).round()
    assert wide == width and texts
    boxes = np.array([box for _, *box in texts]) + [1, 1, -1, -1]  # a pixel of rounding on each side
    outside = (boxes[:, 0] < 0) | (boxes[:, 1] < 0) | (boxes[:, 2] > wide) | (boxes[:, 3] > high)
    assert not outside.any(), texts[outside.argmax()]
    left, bottom, right, top = boxes.T
    apart = (
        (left[:, None] >= right)
        | (right[:, None] <= left)
        | (bottom[:, None] >= top)
        | (top[:, None] <= bottom)
    )
    np.fill_diagonal(apart, True)
    assert apart.all(), [texts[i] for i in np.argwhere(~apart)[0]]
    assert len(fig.alt_text) > 40 and fig.alt_text.endswith(".") and "\n" not in fig.alt_text


@pytest.mark.parametrize("name", OF_A_TEXT)
@pytest.mark.parametrize(
    "sample, width, theme",
    [
        ("paper", 460, "light"),
        ("paper", 900, "dark"),
        ("english", 460, "dark"),
        ("chinese", 460, "light"),
        ("odd", 460, "light"),
        pytest.param(*("one word", 460, "light"), marks=thorough),
        pytest.param(*("one span", 900, "light"), marks=thorough),
        ("long", 460, "light"),
    ],
)
def test_nothing_covers_anything(name, sample, width, theme):
    check_readable(draw(name, derivation=SAMPLES[sample], theme=theme, width=width), width)


@pytest.mark.parametrize("width, theme", [(460, "light"), pytest.param(900, "dark", marks=thorough)])
def test_nothing_covers_anything_in_what_a_model_does(model, tokenizer, seen, width, theme):
    look = dict(width=width, theme=theme)
    check_readable(model_figures.fig_heads(seen.weights, seen.d, **look), width)
    check_readable(model_figures.fig_query(seen.weights, seen.d, row=2, **look), width)
    check_readable(
        draw("infilling", model=model, tokenizer=tokenizer, text="And [MASK] saw [MASK].", **look), width
    )
    check_readable(draw("position_embeddings", model=model, **look), width)
    check_readable(run_figures.fig_spans([40, 64, 9] * 20, **look), width)


def test_a_derivation_can_be_drawn_wide():
    for name in ("film", "family", "mask"):
        check_readable(draw(name, derivation=PAPER, width=1400), 1400)


# ---- what is drawn is what is there ----------------------------------------------------------------------


@pytest.mark.parametrize("sample", ["paper", "english", "one span"])
def test_the_mask_is_the_derivations(sample):
    d = SAMPLES[sample]
    found = by_gid(fig := mask_figures.fig_mask(d))
    assert found["cells"].get_array().tolist() == codes(d.kind)
    assert words_of(fig, "key") == words_of(fig, "query") == list(d.tokens)
    assert words_of(fig, "position") == list(map(str, d.position_ids)) and len(
        words_of(fig, "block-position")
    ) == len(d)
    assert words_of(fig, "target") == [t for t in d.targets if t]
    for name, n in Counter(d.kind.ravel().tolist()).items():
        assert found[f"count-{name}"].get_text() == str(n)
        assert found[f"swatch-{name}"].get_array().tolist() == [[CODES[name]]]
    assert f"{int(d.mask.sum())} of {len(d) ** 2} cells are open" in fig.alt_text and all(
        t in fig.alt_text for t in d.tokens
    )


def test_a_long_text_keeps_its_brackets_and_loses_its_labels():
    fig = mask_figures.fig_mask(SAMPLES["long"])
    assert not words_of(fig, "key") and by_gid(fig)["cells"].get_array().shape == (len(SAMPLES["long"]),) * 2
    assert {"s1", "s2", "s3", "s4"} <= {text.get_text() for text in fig.findobj(Text)}


def test_every_kind_has_its_colour_and_is_no_colour_where_it_is_hidden():
    for theme in ("light", "dark"):
        mesh = by_gid(mask_figures.fig_mask(PAPER, theme=theme))["cells"]
        colours = {name: mesh.cmap(mesh.norm(code))[:3] for name, code in CODES.items()}
        for name, kind in KINDS.items():
            wanted = getattr(kind, theme) or canvas.THEMES[theme]["faint"]
            assert "#" + "".join(f"{round(255 * c):02X}" for c in colours[name]) == wanted


def test_the_corruption_shows_text_part_a_part_b_and_targets():
    fig = sample_figures.fig_corruption(ENGLISH, width=460)
    assert words_of(fig, "text") == list(ENGLISH.text)
    assert words_of(fig, "row") == list(ENGLISH.tokens)
    assert words_of(fig, "target") == [t for t in ENGLISH.targets if t]
    captions = " ".join(text.get_text() for text in fig.findobj(Text))
    assert "32% of 22 tokens blanked, in 3 spans" in captions and "s3, s1, s2" in captions


def test_a_span_wider_than_the_picture_is_broken_and_loses_nothing():
    d = explain([f"word{i}" for i in range(30)], [(1, 28)], [0])
    fig = sample_figures.fig_corruption(d, width=460)
    assert words_of(fig, "text") == list(d.text) and words_of(fig, "row") == list(d.tokens)
    check_readable(fig, 460)


def test_bars_are_as_high_as_positions():
    found = by_gid(fig := sample_figures.fig_positions(PAPER))
    for lane, values in enumerate((PAPER.position_ids, PAPER.block_position_ids)):
        heights = [found[f"bar-{lane}-{j}"].get_height() for j in range(len(PAPER))]
        unit = heights[int(values.argmax())] / values.max()
        assert heights == pytest.approx([max(2, v * unit) for v in values])
    assert words_of(fig, "position") == "0 1 2 3 4 4 4 4 2 2".split()
    assert words_of(fig, "block-position") == "0 0 0 0 0 1 2 3 1 2".split()
    for k, mask_row in enumerate((2, 4)):  # a line from the middle of the mask's bar, at its height
        (x0, x1), (y0, y1) = found[f"join-{k}"].get_data()
        bar = found[f"bar-0-{mask_row}"]
        assert y0 == y1 == bar.get_y() and x0 == pytest.approx(bar.get_x() + bar.get_width() / 2) and x1 > x0


def test_the_film_lights_what_each_step_adds():
    found = by_gid(sample_figures.fig_film(PAPER))
    old = set()
    for n, (_, _, lights) in enumerate(PAPER.steps):
        for lane in ("text", "tokens", "targets", "position_ids", "block_position_ids"):
            cells = {
                int(gid.rpartition("-")[2]): p for gid, p in found.items() if gid.startswith(f"{lane}-{n}-")
            }
            lit = {j for j, patch in cells.items() if patch.get_facecolor()[3] == 1}
            new = set(lights.get(lane, ()))
            assert lit == new and set(cells) == new | {j for where, j in old if where == lane}
            old |= {(lane, j) for j in new}
    assert found["cells-7"].get_array().tolist() == codes(PAPER.kind) and "cells-6" not in found
    assert [found[f"row-{i}"].get_text() for i in range(len(PAPER))] == list(PAPER.tokens)
    assert [name for name in CODES if f"swatch-{name}" in found] == [
        name for name in CODES if (PAPER.kind == name).any()
    ]


def test_the_family_has_every_mask_and_t5_has_three_blocks():
    found = by_gid(mask_figures.fig_family(PAPER))
    for name in ("bert", "gpt", "prefix", "unilm", "glm"):
        d = explain(PAPER.text, PAPER.spans, PAPER.order, model=name)
        assert found[f"{name}-cells"].get_array().tolist() == codes(d.kind)
    d = explain(PAPER.text, PAPER.spans, PAPER.order, model="t5")
    A, T = d.part_a_len, len(d)
    for rows, keys in ((slice(0, A), slice(0, A)), (slice(A, T), slice(0, A)), (slice(A, T), slice(A, T))):
        assert found[f"t5-cells-{rows.start}-{keys.start}"].get_array().tolist() == codes(d.kind[rows, keys])
    assert f"t5-cells-0-{A}" not in found


def test_shuffles_outline_the_pairs_that_change():
    found = by_gid(fig := mask_figures.fig_shuffles(ENGLISH))
    first = found["cells-0"].get_array()
    for n, order in enumerate(permutations(range(3))):
        # who sees whom, by the word and not by the row
        d = explain(ENGLISH.text, ENGLISH.spans, order)
        at = {key(d, i): i for i in range(len(d))}
        base = explain(ENGLISH.text, ENGLISH.spans, [0, 1, 2])
        rows = [at[key(base, i)] for i in range(len(base))]
        here = found[f"cells-{n}"].get_array()
        assert here.tolist() == codes(d.kind[np.ix_(rows, rows)])
        differ = int((here != first).sum())
        assert f"{differ} cells differ" in fig.alt_text and (f"differs-{n}" in found) == bool(differ)
    assert "cells-6" not in found
    assert "the first 6 of 24 orders" in " ".join(
        t.get_text() for t in mask_figures.fig_shuffles(ODD).findobj(Text)
    )


def key(d, i):
    """What a row is, whatever the order: its part, span and place in the span."""
    return d.part[i], int(d.span_id[i]), int(d.block_position_ids[i]), int(d.word[i])


def test_a_batch_is_what_the_kernel_gets():
    samples = [
        PAPER,
        explain("a b c".split(), [], [], model="bert"),
        explain("a b c d".split(), [], [], model="gpt"),
    ]
    mask = GLMMask.packed([10, 3, 4], [5, 3, 0])
    found = by_gid(fig := mask_figures.fig_batch(samples))
    drawn = found["cells"].get_array()
    opened = np.isin(drawn.filled(-1), [CODES[k] for k in ("AA", "BA", "BE", "BS", "self")])
    assert (opened == mask.dense().numpy()).all()
    assert drawn.mask.sum() == 17**2 - (100 + 9 + 16)  # pairs of two samples
    assert words_of(fig, "keys") == list(map(str, mask.visible_keys().tolist()))
    assert words_of(fig, "cu") == ["0", "10", "13", "17"]
    longest = found["visible-9"].get_width()
    for i, n in enumerate(mask.visible_keys().tolist()):
        assert found[f"visible-{i}"].get_width() == pytest.approx(longest * n / 10)
    assert "cu_seqlens = [0, 10, 13, 17]; part_a_lens = [5, 3, 0]" in fig.alt_text


MASKS = [
    GLMMask.packed([10], [5]),
    GLMMask.packed([7, 1, 12], [3, 1, 0]),
    GLMMask.packed([9, 6], [4, 6]).with_queries([2, 6]),
]


@pytest.mark.parametrize("mask", MASKS, ids=["one", "three", "suffixes"])
@pytest.mark.parametrize("tile", [(4, 4), (3, 5), (1, 1), (32, 64)])
def test_tiles_are_those_of_the_dense_mask(mask, tile):
    found, number, facts, _ = tile_figures.tile_facts(mask, *tile)
    dense, covered = mask.dense().numpy(), np.zeros(mask.dense().shape, dtype=int)
    for kind, i0, i1, j0, j1 in found:
        part = dense[i0:i1, j0:j1]
        assert kind == ("full" if part.all() else "partial" if part.any() else "empty")
        assert i1 - i0 <= tile[0] and j1 - j0 <= tile[1]
        covered[i0:i1, j0:j1] += 1
    assert covered.max() == 1 and not dense[covered == 0].any()
    assert number == {kind: sum(k == kind for k, *_ in found) for kind in ("full", "partial", "empty")}
    visited = sum((i1 - i0) * (j1 - j0) for kind, i0, i1, j0, j1 in found if kind != "empty")
    assert facts == dict(pairs=dense.size, visited=visited, seen=int(dense.sum()))


def test_the_picture_of_tiles_and_its_text_say_the_same():
    found, text = by_gid(fig := tile_figures.fig_tiles(PAPER)), tile_figures.tiles_text(PAPER)
    assert text.splitlines()[:3] == ["█▒·", "█▒·", "██▒"] and "4 full" in text and "16% of the FLOPs" in text
    drawn = Counter(
        gid.partition("-")[0] for gid in found if gid.partition("-")[0] in ("full", "partial", "empty")
    )
    assert drawn == {"full": 4, "partial": 3, "empty": 2}
    assert [found[f"count-{kind}"].get_text() for kind in ("full", "partial", "empty")] == ["4", "3", "2"]
    assert (
        tile_figures.tiles_text(PAPER, charset="ascii").isascii()
        and "4 full, 3 partial, 2 empty" in fig.alt_text
    )
    check_readable(tile_figures.fig_tiles(MASKS[1], tile=(4, 8), width=460), 460)
    with pytest.raises(MinglmError, match="tile"):
        tile_figures.fig_tiles(PAPER, tile=(0, 4))


# ---- what a model does -----------------------------------------------------------------------------------


def test_heads_are_the_models_weights_and_nothing_is_drawn_where_the_mask_is_shut(seen):
    found = by_gid(fig := model_figures.fig_heads(seen.weights, seen.d, width=460))
    for layer in range(2):
        for head in range(2):
            image = found[f"weights-{layer}-{head}"]
            assert isinstance(image, AxesImage)
            assert (image.get_array().mask == ~seen.d.mask).all()
            np.testing.assert_allclose(image.get_array().filled(0), seen.weights[layer, head])
    assert "2 layers with 2 heads" in fig.alt_text


def test_layers_and_heads_are_numbered_from_1_as_on_the_page(seen):
    heads = model_figures.fig_heads(seen.weights, seen.d, width=460)
    names = [text.get_text() for text in heads.findobj(Text)]
    named = [name for name in names if name.startswith(("layer ", "head "))]
    assert named == ["head 1", "head 2", "layer 1", "layer 2"]
    query = model_figures.fig_query(seen.weights, seen.d, layer=0, head=1)
    assert "in layer 1, head 2." in query.alt_text
    assert any("Layer 1, head 2:" in text.get_text() for text in query.findobj(Text))


@pytest.mark.parametrize(
    "spoil, match",
    [
        (lambda w: w * 0.5, "sum to 1"),
        (lambda w: w * math.nan, "sum to 1"),
        (lambda w: w[:, :, :, ::-1].copy(), "hides"),
        (lambda w: w[0], "shape"),
    ],
)
def test_weights_that_cannot_be_are_refused(seen, spoil, match):
    for fig in (model_figures.fig_heads, model_figures.fig_query):
        with pytest.raises(MinglmError, match=match):
            fig(spoil(seen.weights), seen.d)


def test_the_bars_of_a_query_are_its_weights(seen):
    T, row = len(seen.d), seen.d.part_a_len + 1
    found = by_gid(fig := model_figures.fig_query(seen.weights, seen.d, layer=0, head=1, row=row))
    weights = seen.weights[0, 1, row]
    widths = {j: found[f"weight-{j}"].get_width() for j in range(T) if f"weight-{j}" in found}
    assert set(widths) == set(np.flatnonzero(seen.d.mask[row]).tolist())
    most = max(widths, key=widths.get)
    for j, wide in widths.items():
        assert wide == pytest.approx(widths[most] * weights[j] / weights[most], rel=1e-5)
        assert found[f"kind-{j}"].get_array().tolist() == [[CODES[seen.d.kind[row, j]]]]
    assert f"row {row}" in fig.alt_text and f"{weights.max():.1%}" in fig.alt_text
    for wrong in (dict(layer=2), dict(head=-3), dict(row=T)):
        with pytest.raises(MinglmError, match=next(iter(wrong))):
            model_figures.fig_query(seen.weights, seen.d, **wrong)


@pytest.mark.parametrize("text", ["And [MASK] saw [MASK].", "And God [gMASK]"])
def test_the_trace_is_what_the_filling_was_chosen_from(model, tokenizer, text):
    filled = fill(model, tokenizer, text, max_tokens=4)
    for blank, steps in zip(filled.blanks, trace(model, tokenizer, text, filled, top=3), strict=True):
        answer = blank.answer
        assert [step.taken for step in steps][: len(answer.tokens)] == answer.tokens
        assert len(steps) == len(answer.tokens) + answer.complete
        special = tokenizer.special
        for n, step in enumerate(
            steps
        ):  # what may not come has no probability: special tokens, and an end at the beginning
            assert not step.log_p[[special.pad, special.mask, special.sop]].isfinite().any()
            assert step.log_p[special.eop].isfinite() == (n > 0)
        for step, log_p in zip(steps, answer.log_probabilities, strict=True):
            assert step.choices[0][0] == step.taken and len(step.choices) == 3  # greedy
            assert step.choices[0][1] == pytest.approx(log_p, abs=1e-4) == float(step.log_p[step.taken])
            assert [p for _, p in step.choices] == sorted((p for _, p in step.choices), reverse=True)


def test_the_infilling_shows_choices_the_taken_one_and_the_truth(model, tokenizer):
    text, truth = "And God [MASK] the light.", [tokenizer.encode(" saw")]
    filled = fill(model, tokenizer, text, max_tokens=2)
    steps = trace(model, tokenizer, text, filled, top=4)[0]
    truth = [[steps[0].taken, *truth[0]]]  # the first token is met, the second is not
    found = by_gid(
        fig := model_figures.fig_infilling(model, tokenizer, text, filled=filled, truth=truth, top=4)
    )
    bars = {
        gid: p.get_width() for gid, p in found.items() if gid.startswith("p-0-0-") and p.get_width() > 1.01
    }
    wide = {f"p-0-0-{token}": math.exp(log_p) for token, log_p in steps[0].choices}
    assert set(bars) <= set(wide) and bars
    scale = {round(bars[gid] / wide[gid], 3) for gid in bars}
    assert len(scale) == 1
    assert {"taken-0-0", "taken-0-1", "true-0-0", "true-0-1"} <= set(
        found
    ) and f"p-0-1-{truth[0][1]}" in found
    assert repr(filled.text) in fig.alt_text
    other = [
        [truth[0][1], steps[1].taken]
    ]  # the first token is missed: what would have come next cannot be said
    assert "true-0-1" not in by_gid(
        model_figures.fig_infilling(model, tokenizer, text, filled=filled, truth=other)
    )


def test_words_become_the_tokens_that_fill_reads(model, tokenizer):
    text = "And God saw  the light, that it was good."
    d = explain(text.split(), [(1, 3), (5, 6)], [1, 0])
    typed, truth = model_figures.with_blanks(d, tokenizer, text)
    assert typed == "And [MASK]  the light, [MASK] it was good."
    assert [tokenizer.decode(ids) for ids in truth] == [" God saw", " that"]
    example, tokens = model_figures.in_tokens(d, tokenizer, text)
    special = tokenizer.special
    part_a = [special.cls, *tokenizer.encode(typed, special=True), special.eos]
    assert example.tokens[: example.part_a_len].tolist() == part_a
    assert len(tokens.spans) == 2 and tokens.order == (1, 0)
    with pytest.raises(MinglmError, match="longer than this model reads"):
        model_figures.in_tokens(d, tokenizer, text, 5)
    chinese, _ = model_figures.with_blanks(CHINESE, tokenizer)
    assert chinese == "春眠[MASK]处处闻啼鸟[MASK]风雨声"


def test_position_embeddings_are_compared_by_cosine(model):
    found = by_gid(run_figures.fig_position_embeddings(model))
    table = model.block_position_embedding.weight.detach()
    wanted = torch.cosine_similarity(table[:, None], table[None], dim=-1)
    np.testing.assert_allclose(found["block-position"].get_array(), wanted, atol=1e-6)
    assert found["position"].get_clim() == (-1, 1)
    for theme, colours in run_figures.DIVERGING.items():
        assert np.round(255 * np.array(colours(0.5)[:3])).tolist() == pytest.approx(
            [int(canvas.THEMES[theme]["back"][i : i + 2], 16) for i in (1, 3, 5)], abs=2
        )


def test_spans_are_counted_and_the_law_is_poissons():
    lengths, settings = [64] * 150 + [30] * 50, run_figures.DataConfig(mask_ratio=0.2, mean_span_length=2.0)
    measured, shares = run_figures.lengths_and_shares(lengths, settings)
    fig = run_figures.fig_spans(lengths, settings)
    left, right = fig.axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == pytest.approx([(measured == n).mean() for n in range(1, len(heights) + 1)])
    assert sum(heights) == pytest.approx(1)
    law = by_gid(fig)["law"].get_ydata()
    pmf = [math.exp(-2) * 2**n / math.factorial(n) / (1 - math.exp(-2)) for n in range(1, len(law) + 1)]
    np.testing.assert_allclose(law, pmf, rtol=1e-6)
    assert sum(patch.get_height() for patch in right.patches) == len(lengths)
    assert by_gid(fig)["asked-for"].get_xdata()[0] == 0.2
    assert by_gid(fig)["mean"].get_xdata()[0] == pytest.approx(shares.mean())
    assert f"{len(measured):,} spans" in fig.alt_text and f"{shares.mean():.1%}" in fig.alt_text


@pytest.mark.parametrize("width", [460, 900])
@pytest.mark.parametrize("dials", [{}, dict(mask_ratio=0.5, mean_span_length=12.0)], ids=["narrow", "wide"])
def test_the_legend_of_spans_lies_over_everything_that_is_drawn(dials, width):
    fig = run_figures.fig_spans([128] * 100, run_figures.DataConfig(**dials), width=width)
    fig.draw_without_rendering()
    for ax in fig.axes:
        drawn = [artist.get_window_extent() for artist in (*ax.lines, *ax.patches)]
        assert ax.get_legend().get_window_extent().y0 > max(box.y1 for box in drawn)


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_a_file_is_the_same_every_time_and_carries_the_words(tmp_path, suffix):
    one, two = (
        save_figure(mask_figures.fig_mask(CHINESE, width=460), tmp_path / f"{n}.{suffix}") for n in (1, 2)
    )
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"1.{suffix}", f"2.{suffix}"]
    if suffix == "svg":
        text = one.read_text(encoding="utf-8")
        assert "<text" not in text and "GLM's attention mask of 19 rows" in text and "<dc:date>" not in text
    if suffix == "png":
        assert b"Description" in one.read_bytes() and b"Software" not in one.read_bytes()


@thorough
def test_another_process_writes_the_same_bytes(tmp_path):
    script = """
import sys
from minglm import explain
from minglm.viz import figures
d = explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0])
figures.save_figure(figures.fig_mask(d), sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    done = python("-c", script, tmp_path / "there.svg", env={"PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    here = save_figure(mask_figures.fig_mask(PAPER), tmp_path / "here.svg")
    assert (tmp_path / "there.svg").read_bytes() == here.read_bytes()


def test_files_that_cannot_be_written_are_told_in_one_line(tmp_path):
    fig = sample_figures.fig_positions(PAPER)
    (tmp_path / "file").write_text("")
    for name in ("x.gif", "x", "no/x.png", "file/x.png"):
        with pytest.raises(MinglmError) as error:
            save_figure(fig, tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(MinglmError, match="cannot be written"):
        save_figure(fig, tmp_path / "taken.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.png"]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def samples(draw_from):
    words = draw_from(st.lists(WORDS, min_size=1, max_size=8))
    cuts = sorted(draw_from(st.sets(st.integers(0, len(words)), max_size=4)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    return explain(words, spans, draw_from(st.permutations(range(len(spans)))))


@settings(max_examples=3)
@given(samples(), st.sampled_from(sorted(OF_A_TEXT)))
def test_drawing_reads_nothing_but_the_derivation_and_leaves_it_alone(d, name):
    before = json.dumps(d.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        one, two = (draw(name, derivation=x, width=460) for x in (d, type(d).from_json(json.loads(before))))
        one.canvas.draw_idle()
        drawn = [picture(fig) for fig in (one, two)]
    assert drawn[0] == drawn[1] and one.alt_text == two.alt_text and json.dumps(d.to_json()) == before


def picture(fig):
    """The pixels of a figure."""
    with io.BytesIO() as file:
        fig.savefig(file, format="rgba", dpi=50)
        return file.getvalue()


# ---- names and the command line --------------------------------------------------------------------------


def test_there_are_sixteen_figures_and_each_has_a_function():
    assert len(FIGURES) == 16
    for name, figure in FIGURES.items():
        assert figure.function is getattr(figures, f"fig_{name}") and figure.function.__doc__ and figure.about
    with pytest.raises(AttributeError):
        figures.fig_nothing  # noqa: B018


@pytest.mark.parametrize(
    "how, match",
    [
        (dict(name="maks"), "did you mean mask"),
        (dict(name="heads", derivation=PAPER), "--model"),
        (dict(name="mask"), "needs a text"),
        (dict(name="curves"), "minglm plot"),
        (dict(name="spans", derivation=PAPER), "minglm plot"),
        (dict(name="mask", derivation=PAPER, theme="sepia"), "light, dark"),
        (dict(name="mask", derivation=PAPER, width=5), "width: 5"),
        (dict(name="shuffles", derivation=explain(["a"], [], [], model="bert")), "'glm' is needed"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(how, match):
    with pytest.raises(MinglmError, match=match) as error:
        draw(**how)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def command():
    """The parser of `minglm plot` alone: command("RUN", ...) draws."""

    def run(*words):
        args = parser().parse_args(["plot", *map(str, words)])
        args.run(args)

    run.help = lambda: parser().parse_args(["plot", "-h"])
    return run


def test_a_run_is_plotted(command, small_run, tmp_path, capsys):
    assert main(["info"]) == 0  # the command line works beside it
    capsys.readouterr()
    command(small_run)
    assert capsys.readouterr().out == f"wrote       {small_run / 'curves.png'}\n"
    for name in ("spans", "position-embeddings"):
        command(
            small_run, "--figure", name, "--out", tmp_path / f"{name}.svg", "--theme", "dark", "--width", 640
        )
        assert (tmp_path / f"{name}.svg").stat().st_size > 5000
    command(small_run, small_run, "--out", tmp_path / "two.png")
    assert (tmp_path / "two.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "words, match",
    [
        (["--figure", "mask"], "minglm show"),
        (["--figure", "curvs"], "did you mean curves"),
        (["--figure", "attention"], "bench"),
        (["nowhere"], "nowhere"),
        ([".", "--figure", "spans"], "2 given"),
    ],
)
def test_what_cannot_be_plotted_is_told_in_one_line(command, small_run, words, match):
    with pytest.raises(MinglmError, match=match) as error:
        command(small_run, *words)
    assert "\n" not in str(error.value)


def test_a_bench_is_plotted_and_another_json_refused(command, tmp_path):
    row = dict(shape="s", dtype="float32", variant="kernel:avx2", status="timed")
    machine = dict(cpu="a processor", threads=2, torch="2.13", date="2026-11-22")
    found = dict(
        rows=[row | {BOTH: dict(ms=1.0, ratio=2.0, of_gemm=0.5)}], shapes=[dict(name="s", kind="mixture")]
    )
    (tmp_path / "b.json").write_text(json.dumps(found | dict(machine=machine, summary={})))
    command(tmp_path / "b.json")
    assert (tmp_path / "b.png").stat().st_size > 5000
    (tmp_path / "c.json").write_text("[1]")
    with pytest.raises(MinglmError, match="not written by bench attention"):
        command(tmp_path / "c.json")


def test_several_runs_keep_their_numbers_and_can_be_read(small_run, tmp_path):
    paths = [small_run / "metrics.csv"]
    for n in (1, 2):
        (tmp_path / f"run-{n}").mkdir()
        lines = paths[0].read_text().splitlines()
        paths.append(tmp_path / f"run-{n}" / "metrics.csv")
        paths[-1].write_text("\n".join(lines[: 10 * n + 1]) + "\n")
    fig = fig_runs(paths, width=460)
    check_readable(fig, 460)
    found = by_gid(fig)
    for n, path in enumerate(paths):
        metrics = read_metrics(path)
        np.testing.assert_allclose(found[f"loss-{n}"].get_ydata(), smooth(metrics["loss"]))
        assert found[f"lr-{n}"].get_xdata().tolist() == metrics["step"].tolist()
    assert "run-1: 10 steps" in fig.alt_text


def test_a_file_that_a_spreadsheet_has_saved_is_read(small_run, tmp_path):
    """With a byte order mark and the line ends of Windows."""
    lines = (small_run / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:], ""]).encode())
    ours, theirs = (read_metrics(folder / "metrics.csv") for folder in (small_run, tmp_path))
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_help_names_the_figures(command, capsys):
    with pytest.raises(SystemExit):
        command.help()
    said = capsys.readouterr().out
    assert all(name in said for name in FIGURES)


def test_a_letter_that_no_font_has_is_written_as_its_number():
    assert canvas.legible("a\U0010fffdb") == "a\\U0010fffdb" and canvas.legible("x1") == "x1"
    assert canvas.legible(" the\n") == "▁the\\n"
    assert canvas.fitted("abcdefghijkl", 30).endswith("…") and canvas.fitted("ab", 100) == "ab"


def test_example_and_derivation_agree_on_a_models_tokens(tokenizer):
    special = tokenizer.special
    ids = [special.cls, *tokenizer.encode("And God saw"), special.eos]
    example = build_example(ids, [(2, 3)], [0], special)
    assert derivation_of(example, tokenizer.token_str).tokens[0] == "[CLS]"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_of_the_readme_is_that_of_the_papers_example(theme):
    """Not byte for byte: outlines of letters follow the version of the fonts."""
    svg = (ROOT / f"tutorials/results/glm-{theme}.svg").read_text(encoding="utf-8")
    fig = mask_figures.fig_mask(PAPER, theme=theme)
    assert f"<dc:description>{fig.alt_text}</dc:description>" in svg
    assert (
        f"fill: {canvas.look(theme)['back'].lower()}" in svg
        and f"fill: {getattr(KINDS['AA'], theme).lower()}" in svg
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_of_the_readme_is_what_is_drawn_today(tmp_path, theme):
    """Made by: minglm show "x1 x2 x3 x4 x5 x6" --spans 2:3,4:6 --order 2,1 --figure mask --theme dark."""
    kept = (ROOT / "tutorials" / "results" / f"glm-{theme}.svg").read_text(encoding="utf-8")
    now = save_figure(mask_figures.fig_mask(PAPER, theme=theme), tmp_path / "now.svg").read_text(
        encoding="utf-8"
    )

    def drawn(
        text,
        # names and writing of paths differ between versions of matplotlib; shapes and words do not
    ):
        return re.findall(
            r'<g id="(?!patch|line|text|axes|figure)[^"]*"|fill: #\w+|<dc:description>.*|viewBox="[^"]*"',
            text,
        )

    assert drawn(kept) == drawn(now) and len(drawn(now)) > 100


@pytest.mark.skipif(
    not matplotlib.__version__.startswith("3.11."), reason="other letters than matplotlib 3.11's"
)
@pytest.mark.parametrize("name", ["mask", "family"])
def test_the_mask_and_the_family_look_as_when_somebody_last_looked_at_them(tmp_path, name):
    """Made by: minglm show "x1 x2 x3 x4 x5 x6" --spans 2:3,4:6 --order 2,1 --figure mask --width 460."""

    def pixels(path):
        return imread(path)[..., :3] * 255

    kept = pixels(RECORDED / f"{name}.png")
    now = pixels(save_figure(draw(name, derivation=PAPER, width=460), tmp_path / "now.png"))
    assert kept.shape == now.shape and calculate_rms(kept, now) < 2
    wrong = explain(PAPER.text, [(2, 3), (4, 6)], [0, 1])
    other = pixels(save_figure(draw(name, derivation=wrong, width=460), tmp_path / "other.png"))
    assert other.shape != kept.shape or calculate_rms(kept, other) > 6  # another order would be seen
