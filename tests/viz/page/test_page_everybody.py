"""The explorer for everybody: axe, keyboard, forced colours, every width, a notebook, every kind of eyes."""

import json
import re
from itertools import combinations

import numpy as np
import pytest
from explorer_page import (
    HOSTILE,
    OVERLAPS,
    PAPER,
    WIDE,
    box,
    button,
    copied,
    explorer,
    looks,
    tab,
    text_box,
    type_text,
)

import minglm
from minglm.viz import page
from minglm.viz.derivation import Derivation, why

# ---- for everybody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_to_mend(tab, axe, theme):
    tab.emulate_media(color_scheme=theme)
    tab.get_by_text("Sample spans, or type them").click()
    button(tab, "Where does the shape come from?").click()
    for name in ("prefix LM", "UniLM"):
        tab.get_by_label(name, exact=True).check()
    copied(tab, "Copy JSON")
    tab.evaluate("complain('text: an error that is shown')")
    tab.evaluate("Promise.all(document.getAnimations().map((animation) => animation.finished))")
    found = axe(tab)
    assert found.violations_count == 0, found.generate_report()
    type_text(tab, " ".join("w" * 80))  # a canvas in place of each grid
    found = axe(tab, context="#mask, #compare")
    assert found.violations_count == 0, found.generate_report()


def test_axe_would_find_something(tab, axe):
    tab.evaluate("document.querySelector('main').append(el('img', {src: 'data:,'}))")
    assert axe(tab, options={"runOnly": ["image-alt"]}).violations_count == 1


def test_tab_goes_through_the_page_in_reading_order(tab):
    tab.evaluate("document.body.focus()")
    places = []
    for _ in range(80):
        tab.keyboard.press("Tab")
        place = tab.evaluate("""() => {
            const at = document.activeElement,
                home = at.closest("#spans, #order, #sample, section, nav") ?? at;
            return at === document.body ? null
                : [home.id || home.className, at.closest("table[role=grid]") !== null];
        }""")
        if place is None:
            break
        places.append(tuple(place))
    regions = list(dict.fromkeys(home for home, _ in places))
    assert regions == [
        "skip",
        "to-zh",
        "theme",
        "ways",
        "story",
        "sentence",
        "stage",
        "spans",
        "order",
        "sample",
        "mask",
        "compare",
        "share",
    ]
    assert (
        places.count(("mask", True)) == 1 and places.count(("spans", False)) == 2
    )  # one stop each, and the summary


def test_the_focus_is_seen_at_three_to_one(tab):
    def luminance(rgb):
        channels = [int(c) / 255 for c in re.findall(r"\d+", rgb)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in ("light", "dark"):
        tab.emulate_media(color_scheme=theme)
        for name in ("Next ▶", "Shuffle", "Copy link"):
            button(tab, name).focus()
            tab.keyboard.press("Shift+Tab")
            tab.keyboard.press("Tab")
            ring, back = tab.evaluate("""() => [getComputedStyle(document.activeElement).outlineColor,
                getComputedStyle(document.querySelector(".panel")).backgroundColor]""")
            light, dark = sorted((luminance(ring), luminance(back)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3
            assert tab.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


@looks
def test_forced_colours_tell_kinds_by_glyphs(tab):
    tab.emulate_media(forced_colors="active")
    glyph = "(cell) => getComputedStyle(cell, '::after').content"
    seen = {
        tab.locator(f"#grid td[data-kind={kind}]").first.evaluate(glyph).strip('"')
        for kind in ("AA", "BA", "BE", "BS", "self", "BF")
    }
    assert seen == {"█", "▓", "▒", "◆", "●", "·"}
    tab.emulate_media(forced_colors="none")
    assert tab.locator("#grid td[data-kind=AA]").first.evaluate(glyph) == "none"


def test_the_theme_button_turns_light_and_dark_whatever_the_system_says(tab):

    def back():
        return tab.evaluate("getComputedStyle(document.querySelector('.panel')).backgroundColor")

    light = back()
    button(tab, "Dark").click()
    assert back() != light
    button(tab, "Light").click()
    assert back() == light
    tab.emulate_media(color_scheme="dark")
    assert back() == light


TALE = "It was the best of times it was the worst of times it was the age of wisdom "
TALE += "it was the age of foolishness it was the epoch"
SCENES = {
    "paper": "1",
    "english": f"app.setText({TALE.split()!r}, [[3, 6], [14, 16], [20, 21]])",
    "chinese": "app.setText([...'我爱北京天安门上太阳升'], [[2, 4], [7, 9]])",
    "no span": "app.setText(['nothing', 'is', 'hidden'])",
    "hostile": f"app.setText({HOSTILE!r}, [[0, 2], [4, 6]])",
    "question": "document.querySelector('#questions button').click()",
    "long": "app.setText([...'a'.repeat(90)], [[0, 40], [50, 60]])",
    "walk": "set({step: 8, walk: 67})",
}


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_box_meets_another_and_the_page_never_scrolls_sideways(tab, width):
    tab.set_viewport_size(dict(width=width, height=900))
    tab.get_by_text("Sample spans, or type them").click()
    copied(tab, "Copy Python")
    for name, scene in SCENES.items():
        tab.evaluate(f"() => void ({scene})")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        assert tab.evaluate(OVERLAPS) == [], name


def test_the_check_for_overlaps_would_find_one(tab):
    tab.evaluate("document.querySelector('#card').style.marginTop = '-40px'")
    assert any("#card" in wrong for wrong in tab.evaluate(OVERLAPS))


def test_the_page_reflows_at_twice_its_size(tab):
    tab.set_viewport_size(dict(width=720, height=450))  # 1440 pixels at 200 %
    assert tab.evaluate("document.documentElement.scrollWidth") <= 720 and tab.evaluate(OVERLAPS) == []


@looks
def test_on_a_wide_window_the_card_and_the_mask_stand_beside_the_steps(tab):
    tab.evaluate("byId('stage').scrollIntoView(), scrollBy(0, -20)")
    stage, mask, card = (box(tab, f"#{name}") for name in ("stage", "mask", "card"))
    assert mask["x"] >= stage["x"] + stage["width"] and abs(mask["y"] - stage["y"]) < 2
    assert card["y"] + 80 < WIDE["height"]  # its verdict and its reason are seen without scrolling


# ---- inside a notebook -----------------------------------------------------------------------------------


def test_in_the_frame_of_a_notebook_it_works_the_same(browser, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(
        f"<!doctype html><style>td {{display: none}}</style>{page.iframe(page.html(PAPER))}", encoding="utf-8"
    )
    errors, requests, other = [], [], browser.new_page(viewport=WIDE)
    other.on("pageerror", lambda error: errors.append(str(error)))
    other.on("request", lambda request: requests.append(request.url))
    other.goto(path.as_uri())
    frame = other.frames[1]
    frame.locator("#next").wait_for()
    for k, (_, sentence, _) in enumerate(PAPER.steps, start=1):
        frame.locator("#next").click()
        assert (
            frame.locator("#step-sentence").inner_text() == sentence and frame.evaluate("app.state.step") == k
        )
    frame.locator("#grid td[data-i='6'][data-j='9']").hover()
    assert frame.locator("#why").inner_text() == why(PAPER, 6, 9)
    frame.locator("#copy-json").click()
    frame.locator("#to-copy, #shared:not(:empty)").first.wait_for()
    assert (
        Derivation.from_json(json.loads(frame.locator("#to-copy").input_value())).to_json() == PAPER.to_json()
    )
    with other.expect_download() as saved:
        frame.locator("#save-svg").click()
    assert saved.value.suggested_filename == "glm-mask.svg"
    assert errors == [] and [url for url in requests if not url.startswith(("data:", "about:", "blob:"))] == [
        path.as_uri()
    ]
    other.close()


def test_the_page_opens_at_the_derivation_it_is_given(browser, tmp_path):
    d = minglm.explain(["春", "眠", "不"], [(1, 3)], [0], "document")
    path = tmp_path / "given.html"
    path.write_text(page.html(d), encoding="utf-8")
    other = browser.new_page()
    other.goto(path.as_uri())
    assert other.evaluate("app.derivation") == d.to_json() and not other.locator("#model").is_visible()
    assert text_box(other).input_value() == "春眠不"
    other.close()


VISION = ("none", "protanopia", "deuteranopia", "tritanopia", "achromatopsia")


@looks
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_kinds_of_cells_are_told_apart_whatever_eyes_see(tab, tmp_path, vision, scheme):
    """The browser's own simulation; the screenshot stays in the test's folder, to be looked at."""
    from matplotlib.image import imread

    tab.emulate_media(color_scheme=scheme)
    chromium = tab.context.new_cdp_session(tab)
    chromium.send("Emulation.setEmulatedVisionDeficiency", {"type": vision})
    path, seen = tmp_path / f"{vision}-{scheme}.png", {}
    tab.evaluate("byId('mask').scrollIntoView()")
    area = box(tab, "#grid table")
    clip = {name: area[name] for name in ("x", "y", "width", "height")}
    tab.screenshot(path=path, clip=clip)
    picture = imread(path)[..., :3] * 255
    for kind in ("AA", "BA", "BE", "BS", "BF"):
        cell = box(tab, f"#grid td[data-kind={kind}]")
        x, y = round(cell["x"] - area["x"]), round(cell["y"] - area["y"])
        width, height = round(cell["width"]), round(cell["height"])
        pixels = picture[y : y + height, x : x + width].reshape(-1, 3)
        seen[kind] = np.concatenate(
            [pixels.mean(0), pixels.std(0)]
        )  # colour, and how much of a pattern there is
    chromium.send("Emulation.setEmulatedVisionDeficiency", {"type": "none"})
    chromium.detach()
    close = [(a, b) for a, b in combinations(seen, 2) if abs(seen[a] - seen[b]).max() < 12]
    assert not close, {kind: numbers.round().tolist() for kind, numbers in seen.items()}
