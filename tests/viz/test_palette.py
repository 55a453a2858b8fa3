"""The palette: kinds stay apart for colour-blind readers, in print, on a terminal, and can be written on."""

import itertools

import numpy as np
import pytest

from minglm.viz.palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES

VISIBLE = ("AA", "BA", "BE", "BS")  # self is BS with a ring; hidden cells are the background with a mark
# Machado, Oliveira, Fernandes 2009, severity 1.0: linear RGB as it is seen -> linear RGB that looks so to
# everybody.
BLIND = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    """ "#RRGGBB" -> linear RGB (3,), 0 to 1."""
    x = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Linear RGB -> CIELAB under D65, (3,)."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    t = to_xyz @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one, other):
    """The distance of two CIELAB colours as people see it; about 2 is just visible."""
    (L1, a1, b1), (L2, a2, b2) = one, other
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    a1, a2 = (a * (1.5 - 0.5 * np.sqrt(mean_c7 / (mean_c7 + 25**7))) for a in (a1, a2))
    C1, C2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if C1 * C2 else 0
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = (h1 + turn / 2) % 360 if C1 * C2 else h1 + h2

    def cos(angle):
        return np.cos(np.radians(angle))

    T = 1 - 0.17 * cos(h - 30) + 0.24 * cos(2 * h) + 0.32 * cos(3 * h + 6) - 0.20 * cos(4 * h - 63)
    dL = (L2 - L1) / (1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2))
    dC = (C2 - C1) / (1 + 0.045 * C)
    dH = 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * C * T)
    twist = -np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2)))) * 2 * np.sqrt(C**7 / (C**7 + 25**7))
    return np.sqrt(dL**2 + dC**2 + dH**2 + twist * dC * dH)


def smallest_distance(colours, blindness):
    seen = [lab(np.array(BLIND[blindness]) @ linear(colour)) for colour in colours]
    return min(ciede2000(a, b) for a, b in itertools.combinations(seen, 2))


def contrast(one, other):
    """WCAG's ratio, 1 to 21."""
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "one, other, distance",  # pairs 1, 7, 14, 17 and 25 of Sharma, Wu, Dalal 2005
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ],
)
def test_the_distance_is_that_of_the_published_pairs(one, other, distance):
    assert ciede2000(one, other) == pytest.approx(distance, abs=1e-4)
    assert ciede2000(other, one) == pytest.approx(distance, abs=1e-4)


@pytest.mark.parametrize("blindness", BLIND)
@pytest.mark.parametrize("theme, least", [("light", 27), ("dark", 19.5)])
def test_kinds_stay_apart_for_every_eye(theme, least, blindness):
    assert smallest_distance([getattr(KINDS[name], theme) for name in VISIBLE], blindness) >= least


@pytest.mark.parametrize("blindness", BLIND)
@pytest.mark.parametrize("theme, least", [("light", 25), ("dark", 38)])
def test_no_kind_looks_like_the_background(theme, least, blindness):
    back = THEMES[theme]["back"]
    assert min(smallest_distance([getattr(KINDS[name], theme), back], blindness) for name in VISIBLE) >= least


def test_spans_have_more_than_their_colours():
    """Six hues cannot stay far apart for everybody, so a span has a number and an outline too."""
    assert min(smallest_distance(SPAN_COLOURS, blindness) for blindness in BLIND) < 15
    looks = [(SPAN_COLOURS[k % 6], SPAN_OUTLINES[k % 3]) for k in range(6)]
    assert len(set(SPAN_COLOURS)) == 6 and len(set(SPAN_OUTLINES)) == 3 and len(set(looks)) == 6
    assert all(looks[k][1] != looks[k + 1][1] for k in range(5))  # neighbours differ in both


def test_print_in_grey_keeps_the_order():
    def lightness(colour):
        return lab(linear(colour))[0]

    steps = [
        lightness(c)
        for c in (KINDS["AA"].light, KINDS["BS"].light, KINDS["BA"].light, KINDS["BE"].light, "#FFFFFF")
    ]
    assert min(np.diff(steps)) > 8
    assert lightness(KINDS["AA"].dark) < lightness(KINDS["BA"].dark)


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_written_can_be_read(theme):
    colours = THEMES[theme]
    for name in ("AA", "BA", "BE", "BS", "self"):
        assert contrast(getattr(KINDS[name], theme), KINDS[name].ink[theme]) >= 4.5, name
    for ground in ("back", "faint"):
        assert (
            contrast(colours["ink"], colours[ground]) >= 12
            and contrast(colours["soft"], colours[ground]) >= 4.5
        )
        assert contrast(KINDS["AB"].ink[theme], colours[ground]) >= 4.5
    for name in ("AA", "BS"):  # bars over Part A and Part B
        assert contrast(getattr(KINDS[name], theme), colours["back"]) >= 3
    for colour in SPAN_COLOURS:  # outlines
        assert contrast(colour, colours["back"]) >= 2.2


def test_patterns_and_glyphs_tell_the_kinds_apart_without_colour():
    assert len({kind.pattern for name, kind in KINDS.items() if name != "BA"}) == len(KINDS) - 1
    assert (
        KINDS["AA"].pattern == KINDS["BA"].pattern == "plain"
    )  # the darkest and a light one, in different quarters
    for charset in ("unicode", "ascii"):
        glyphs = [getattr(KINDS[name], charset) for name in (*VISIBLE, "self", "AB")]
        assert len(set(glyphs)) == len(glyphs) and all(len(glyph) == 1 for glyph in glyphs)
    assert all(kind.ascii.isascii() for kind in KINDS.values())
    assert len({KINDS[name].terminal for name in VISIBLE}) == len(VISIBLE)
    assert KINDS["BS"][:2] == KINDS["self"][:2]
