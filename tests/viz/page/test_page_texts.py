"""The explorer's texts: blanks by click, by key and as slices; texts that are hostile or cannot be drawn."""

import re

import pytest
from explorer_page import (
    HOSTILE,
    PAPER,
    box,
    button,
    chip,
    derivation,
    explorer,
    looks,
    state,
    tab,
    type_text,
    until,
)

from minglm.viz import page
from minglm.viz.derivation import Derivation, explain
from minglm.viz.typed import draw_spans, read

# ---- texts, spans, order ---------------------------------------------------------------------------------


def test_a_click_blanks_a_token_joins_neighbours_and_shows_it_again(tab):
    for i, spans in (
        (3, [[2, 6]]),
        (4, [[2, 4], [5, 6]]),
        (0, [[0, 1], [2, 4], [5, 6]]),
        (0, [[2, 4], [5, 6]]),
    ):
        chip(tab, i).click()
        assert state(tab)["spans"] == spans
    assert (
        chip(tab, 2).get_attribute("aria-pressed") == "true"
        and chip(tab, 4).get_attribute("aria-pressed") == "false"
    )


def test_dragging_and_shift_with_arrows_blank_a_run_as_a_span_of_its_own(tab):
    button(tab, "No blank").click()
    chip(tab, 0).drag_to(chip(tab, 1))
    assert state(tab)["spans"] == [[0, 2]]
    chip(tab, 2).focus()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("End")
    tab.keyboard.press("Shift+ArrowLeft")
    assert tab.locator("#chips .chosen").count() == 2
    tab.keyboard.press("Enter")
    assert state(tab)["spans"] == [[0, 2], [2, 4]]  # neighbours, and yet two


def test_spans_can_be_typed_as_slices_and_mistakes_are_said_beside_the_text(tab):
    tab.get_by_text("Sample spans, or type them").click()
    slices = tab.get_by_label("spans, start:end")
    for typed, error in (
        ("0:2, 2:3", None),
        ("0:2, 1:3", "do not overlap"),
        ("x", "start:end"),
        ("4:9", "lie in 0:6"),
        ("", None),
    ):
        slices.fill(typed)
        slices.press("Enter" if typed else "Tab")
        slices.blur()
        assert tab.get_by_role("alert").count() == (error is not None)
        if error:
            assert error in tab.get_by_role("alert").inner_text()
    assert state(tab)["spans"] == []


def test_sampling_by_hand_draws_what_python_draws(tab):
    text = "The rain stopped . We went out . The sun came through the clouds and it was warm again ."
    type_text(tab, text)
    tab.get_by_text("Sample spans, or type them").click()
    for objective, ratio, mean, seed in (
        ("token", 40, 2, 11),
        ("sentence", 15, 3, 5),
        ("document", 15, 3, 7),
    ):
        tab.get_by_label("objective").select_option(objective)
        for label, value in (("blanked, %", ratio), ("mean length", mean), ("seed", seed)):
            tab.get_by_label(label, exact=True).fill(str(value))
        button(tab, "Sample").click()
        spans, order, _ = draw_spans(text.split(), objective, seed, mask_ratio=ratio / 100, mean_length=mean)
        assert (state(tab)["spans"], state(tab)["order"]) == ([list(span) for span in spans], order)
    tab.get_by_label("seed", exact=True).fill("-1")
    tab.evaluate("byId('sampling').noValidate = true")
    button(tab, "Sample").click()
    assert "seed" in tab.get_by_role("alert").inner_text()


def test_shuffle_changes_the_order_every_time_and_never_the_spans(tab):
    type_text(tab, "a b c d e f g h")
    tab.evaluate("set({spans: [[0, 1], [2, 3], [4, 5], [6, 8]], order: [0, 1, 2, 3]})")
    orders = [tuple(state(tab)["order"])]
    for _ in range(12):
        tab.evaluate("byId('shuffle').click()")
        orders.append(tuple(state(tab)["order"]))
        assert orders[-1] != orders[-2] and sorted(orders[-1]) == [0, 1, 2, 3]
    assert len(set(orders)) > 4 and len(state(tab)["spans"]) == 4
    button(tab, "Text order").click()
    assert state(tab)["order"] == [0, 1, 2, 3]


def test_the_order_moves_by_buttons_and_by_dragging_and_keeps_the_focus(tab):
    tab.evaluate("set({spans: [[0, 1], [2, 3], [4, 5]], order: [0, 1, 2]})")
    button(tab, "move s1 later").focus()
    tab.keyboard.press("Enter")
    assert state(tab)["order"] == [1, 0, 2]
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "move s1 later"
    tab.locator("#pieces li[data-k='2'] .tag").drag_to(tab.locator("#pieces li[data-k='1'] .tag"))
    assert state(tab)["order"] == [2, 1, 0]


def test_a_span_keeps_its_place_in_the_order_when_another_is_added(tab):
    chip(tab, 0).click()  # the paper's order is s2, s1; the new first span goes last
    assert (state(tab)["spans"], state(tab)["order"]) == ([[0, 1], [2, 3], [4, 6]], [2, 1, 0])


def test_every_preset_is_what_python_makes_of_it_and_answers_in_a_sentence_or_two(tab):
    presets, names = tab.locator(".preset"), []
    assert presets.count() == 8 + 4
    for preset in presets.all():
        preset.click()
        d, answer = derivation(tab), tab.locator("#answer").inner_text()
        assert Derivation.from_json(d).to_json() == d
        assert 40 < len(answer) < 400 and tab.get_by_role("alert").count() == 0
        assert tab.locator("#grid td[data-j]").count() == len(d["tokens"]) ** 2
        if number := re.search(
            r"here (\d)", answer
        ):  # a position that an answer names is the one that is drawn
            assert {d["position_ids"][i] for i, part in enumerate(d["part"]) if part == "B"} == {
                int(number[1])
            }
        if "just causal" in preset.inner_text():
            assert all(row == [j <= i for j in range(len(row))] for i, row in enumerate(d["mask"]))
        names.append(d["text"])
    assert sum(d != list(PAPER.text) for d in names) == 10


# ---- hostile and impossible texts ------------------------------------------------------------------------


def test_hostile_text_is_never_more_than_text(tab):
    type_text(tab, " ".join(HOSTILE))
    chip(tab, 1).click()
    assert derivation(tab)["text"] == HOSTILE
    assert tab.locator("#chips .token").all_inner_texts() == HOSTILE
    assert tab.locator("main img").count() == 0 and tab.title() == "The GLM explorer"
    tab.locator("#grid td[data-i='2'][data-j='0']").hover()
    assert HOSTILE[0] in tab.locator("#why").inner_text()
    assert set(tab.locator("#grid .token").evaluate_all("(cells) => cells.map((cell) => cell.tagName)")) == {
        "BDI"
    }
    until(tab, "location.hash.slice(1) === address()")
    tab.reload()
    assert derivation(tab)["text"] == HOSTILE and tab.evaluate("violations") == []


def test_data_in_the_page_can_close_nothing(browser, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(page.html(explain([*HOSTILE, "\n", "\x1b[1m", " "], [(0, 2)], [0])), encoding="utf-8")
    other = browser.new_page()
    other.goto(path.as_uri())
    assert other.evaluate("app.derivation.text") == [*HOSTILE, "\n", "\x1b[1m", " "]
    assert other.locator("#chips .token").all_inner_texts()[-3:] == ["\\n", "\\x1b[1m", "▁"]
    other.close()


@pytest.mark.parametrize("text, message", [("", "empty"), ("   ", "empty"), (" ".join("w" * 129), "128")])
def test_a_text_that_cannot_be_drawn_is_said_in_one_line_and_the_picture_stays(tab, text, message):
    type_text(tab, text)
    assert (
        message in tab.get_by_role("alert").inner_text() and "\n" not in tab.get_by_role("alert").inner_text()
    )
    assert derivation(tab)["tokens"] == list(PAPER.tokens)
    type_text(tab, "a b")
    assert tab.get_by_role("alert").count() == 0 and derivation(tab)["text"] == ["a", "b"]


def test_text_is_cut_into_words_or_characters(tab):
    type_text(tab, "我爱[MASK]京")
    assert derivation(tab)["text"] == ["我", "爱", "[MASK]", "京"]
    type_text(tab, "ab c")
    tab.get_by_label("characters").check()
    assert derivation(tab)["text"] == ["a", "b", " ", "c"]
    assert tab.locator("#length").inner_text() == "4 tokens"


def test_thirty_two_tokens_are_still_a_table_of_cells_where_they_fit(tab):
    type_text(tab, " ".join(f"w{i}" for i in range(28)))
    tab.evaluate("set({spans: [[3, 6], [20, 22]], order: [1, 0]})")
    assert tab.locator("#grid td[data-j]").count() == 32**2
    tab.set_viewport_size(dict(width=360, height=740))
    tab.locator("#grid canvas").wait_for()  # all of it is seen, Part B too
    assert tab.locator("#grid").evaluate("(grid) => grid.scrollWidth <= grid.clientWidth")


def test_a_typed_mask_is_a_blank_without_an_answer(tab):
    type_text(tab, "She was very [MASK] to see [gMASK]")
    d = derivation(tab)
    assert d == read("She was very [MASK] to see [gMASK]").explain().to_json()
    assert d["spans"] == [[3, 4], [6, 7]] and d["targets"][-2:] == ["?", "?"]
    chip(tab, 3).click()  # it stays a blank: there is no word to show again
    assert state(tab)["spans"] == [[3, 4], [6, 7]]
    tab.evaluate("set({spans: [[2, 5]], order: [0]})")
    assert state(tab)["spans"] == [[2, 3], [3, 4], [4, 5], [6, 7]]


def test_characters_that_cannot_be_seen_are_shown_by_their_codes(tab):
    words = ["a‮b", "‍", "﻿", " ", "👨‍👩", "é‌"]
    tab.evaluate("(text) => app.setText(text)", words)
    shown = ["aU+202Eb", "U+200D", "U+FEFF", "U+2028", "👨‍👩", "é‌"]
    assert tab.locator("#chips .token").all_text_contents() == shown


def test_one_long_word_leaves_the_cells_as_large_as_they_can_be(tab):
    def cell():
        return box(tab, "#grid td[data-j]")["width"]

    type_text(tab, "a long word is one of them and short ones are others")
    before = cell()
    type_text(tab, "a Donaudampfschifffahrtsgesellschaftskapitän is one of them and short ones are others")
    assert cell() >= 0.8 * before >= 20


@looks
def test_pointing_at_a_row_lights_the_words_that_it_sees_in_the_text(tab):
    tab.locator("#grid td[data-i='6'][data-j='0']").hover()  # x5 sees x1, x2, x4 and itself
    seen = tab.locator("#chips .seen").evaluate_all("(chips) => chips.map((chip) => +chip.dataset.i)")
    assert seen == [0, 1, 3, 4] and tab.locator("#chips .asks").get_attribute("data-i") == "4"


def test_after_an_error_the_picture_is_grey_because_it_is_no_longer_of_the_text(tab):
    type_text(tab, "")
    assert tab.locator("main.stale").count() == 1
    assert tab.locator("#length").inner_text() == "the pictures show the text before"
    type_text(tab, "a b")
    assert tab.locator("main.stale").count() == 0
