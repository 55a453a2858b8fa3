"""The explorer in a real Chromium: it works offline and by keyboard, and explains every cell."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

import minglm
from minglm.viz import page
from minglm.viz.derivation import EXAMPLE, Derivation, explain, why
from minglm.viz.typed import draw_spans, read

PAPER = explain(*EXAMPLE)
STEPS = [name for name, _, _ in PAPER.steps]
MODELS = ("bert", "gpt", "prefix", "unilm", "t5")
WIDE = dict(width=1440, height=900)
CALM = dict(media="screen", color_scheme="light", reduced_motion="no-preference", forced_colors="none")
HOSTILE = [
    "</script><img",
    "src=x",
    "onerror=document.title='hit'>",
    "<!--",
    "שלום",
    "👨\u200d👩\u200d👧",
    "{key}",
    "$&",
    "&lt;b&gt;",
]
WATCH = """window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));"""


@pytest.fixture(scope="module")
def explorer(browser, tmp_path_factory):
    """One page for all tests of this file, offline, with what it asked for and what it complained of."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(page.html(PAPER), encoding="utf-8")
    context = browser.new_context(viewport=WIDE, offline=True, accept_downloads=True, color_scheme="light")
    context.set_default_timeout(120_000)  # a busy machine is no failure
    tab, requests, errors = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on(
        "console",
        lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.add_init_script(WATCH)
    yield SimpleNamespace(tab=tab, url=path.as_uri(), requests=requests, errors=errors, is_fresh=False)
    context.close()


def looks(test):
    """Mark a test that points at the page and changes nothing: the next test need not load it again."""
    test.looks = True
    return test


@pytest.fixture
def tab(explorer, request):
    """The page as it opens. Whatever a test does with it, it must neither load nor complain."""
    explorer.requests.clear()
    explorer.errors.clear()
    explorer.tab.set_viewport_size(WIDE)
    explorer.tab.emulate_media(**CALM)
    if explorer.is_fresh:
        explorer.tab.mouse.move(0, 0)
    else:
        explorer.tab.goto(explorer.url)
    explorer.is_fresh = False  # unless the test gets to its end
    yield explorer.tab
    explorer.is_fresh = getattr(request.function, "looks", False)
    explorer.tab.evaluate("() => { try { localStorage.clear(); } catch { /* about:blank has none */ } }")
    asked = [url for url in explorer.requests if not url.startswith((explorer.url, "data:", "blob:"))]
    assert (asked, explorer.errors) == ([], [])


def state(tab):
    return tab.evaluate("app.state")


def derivation(tab):
    return tab.evaluate("app.derivation")


def until(tab, condition):
    """Wait until an expression is true. (Playwright's wait evaluates a string, which the page forbids.)"""
    while not tab.evaluate(condition):
        tab.wait_for_timeout(30)


def box(tab, selector):
    """Where the first such element stands, asked in one step: a redraw between two would take it away."""
    return tab.evaluate(
        """async (selector) => {
            for (const frame of [1, 2]) await new Promise(requestAnimationFrame);
            return document.querySelector(selector).getBoundingClientRect().toJSON();
        }""",
        selector,
    )


def button(tab, name):
    return tab.get_by_role("button", name=name, exact=True)


def text_box(tab):
    return tab.get_by_role("textbox", name="Text", exact=True)


def type_text(tab, text):
    text_box(tab).fill(text)


# ---- alone in the world ----------------------------------------------------------------------------------


def test_the_page_asks_for_itself_and_for_nothing_else(tab, explorer):
    for name in ("Next ▶", "Shuffle", "Next seed"):
        if not button(tab, name).is_visible():
            tab.get_by_text("Sample spans, or type them").click()
        button(tab, name).click()
    assert explorer.requests == [explorer.url]
    assert tab.evaluate("violations") == []
    assert tab.evaluate("performance.getEntriesByType('resource').length") == 0


def test_its_own_policy_blocks_a_script_a_handler_a_style_and_a_request(tab, explorer):
    tab.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        const frame = document.createElement("div");
        frame.innerHTML = "<img src='https://example.invalid/x.png' onerror='window.broken = 2'>" +
            "<p style='color: red'>";
        document.body.append(script, frame);
        return fetch("https://example.invalid/").catch(() => {});
    }""")
    until(tab, "violations.length >= 5")
    blocked = set(tab.evaluate("violations"))
    assert blocked == {"script-src-elem", "script-src-attr", "style-src-attr", "img-src", "connect-src"}
    assert tab.evaluate("window.broken") is None
    explorer.errors.clear()  # that it tried and complained is what was asked for
    explorer.requests.clear()


def test_the_page_is_small():
    assert len(page.html(PAPER).encode()) <= 169_000  # both languages
    assert len(page.html(PAPER, story=False).encode()) <= 124_000


def test_the_file_drops_the_spaces_of_the_code_and_keeps_those_of_its_texts():
    for line, file in (
        ('const a = f("b = c, d", `e + f`) + 1;', 'const a=f("b = c, d",`e + f`)+1;'),
        ("x = y - -z + i++ + 1;", "x=y - -z+i++ + 1;"),
        ("const half = x / 2;", "const half = x / 2;"),  # a division looks like a pattern
        ("say(`{ ${a, b} }`);", "say(`{ ${a, b} }`);"),
        ("if (a && !b) return { a, ...b };", "if(a&&!b)return{a,...b};"),
    ):
        assert page.squeezed(line) == file


# ---- the story -------------------------------------------------------------------------------------------


def lit(tab):
    """{lane: indices} of what is lit now."""
    return tab.evaluate("""() => {
        const lanes = {}, all = (what) => [...document.querySelectorAll(what)];
        for (const cell of all("#stage [data-lit]")) (lanes[cell.dataset.lane] ??= []).push(+cell.dataset.i);
        if (app.state.step === LAST) lanes.mask = all("#grid tbody tr").map((row) => +row.dataset.i);
        return lanes;
    }""")


def test_next_pressed_eight_times_tells_the_story_and_lights_what_each_step_adds(tab):
    text_box(tab).focus()
    for _ in range(100):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "next":
            break
    assert lit(tab) == {}  # the finished picture
    for k, (name, sentence, lights) in enumerate(PAPER.steps, start=1):
        tab.keyboard.press("Enter")
        assert state(tab)["step"] == k
        assert lit(tab) == {lane: rows for lane, rows in lights.items() if rows}, name
        assert tab.locator("#step-sentence").inner_text() == sentence
        assert tab.locator("#grid td[data-kind]:not([data-kind=''])").count() == (
            100 if name == "mask" else 0
        )
    assert button(tab, "Next ▶").is_disabled()
    assert tab.locator("#why").inner_text() == why(
        PAPER, 6, 9
    )  # x5 may not see x3, and the page says why without being asked


def test_what_no_step_has_brought_yet_cannot_be_seen(tab):
    for k in range(1, 9):
        tab.evaluate("(step) => set({step})", k)
        brought = [lights for _, _, lights in PAPER.steps[:k]]
        for lane in ("tokens", "position_ids", "block_position_ids", "targets"):
            seen = tab.locator(f"#lanes td[data-lane={lane}][data-shown=true]").evaluate_all(
                "(cells) => cells.map((c) => +c.dataset.i)"
            )
            assert seen == sorted({i for lights in brought for i in lights.get(lane, [])})
        heads = [text for text in tab.locator("#grid tbody .token").all_inner_texts() if text.strip()]
        assert len(heads) == len({i for lights in brought for i in lights.get("tokens", [])})


def test_the_scrubber_plays_the_same_film_by_arrow_keys(tab):
    tab.get_by_role("slider", name="step", exact=True).focus()
    for k, name in enumerate(STEPS, start=1):
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#step-name").inner_text() == f"step {k} of 8: {name}"
    tab.keyboard.press("Home")
    assert state(tab)["step"] == 0


def test_the_last_step_goes_cell_by_cell_with_the_rule_that_fired(tab):
    button(tab, "Cell by cell").click()
    told = tab.evaluate("""() => range(0, 100).map((cell) => {
        if (cell) move(1);
        const drawn = document.querySelectorAll("#grid td[data-kind]:not([data-kind=''])").length;
        return [byId("step-sentence").textContent, byId("rule").textContent, drawn];
    })""")
    for cell, (sentence, rule, drawn) in enumerate(told):
        i, j = divmod(cell, 10)
        assert (
            (rule, drawn) == (PAPER.rule[i, j], cell + 1)
            and f"“{rule}”" in sentence
            and f"i = {i}, j = {j}:" in sentence
        )
    assert button(tab, "Next ▶").is_disabled()
    button(tab, "Cell by cell").click()
    assert (state(tab)["walk"], state(tab)["step"]) == (None, 8)


def test_play_runs_and_stops_and_never_where_less_motion_is_wanted(tab):
    tab.evaluate("byId('speed').append(el('option', {value: '50'}, 'test')), (byId('speed').value = '50')")
    button(tab, "Play").click()
    until(tab, "app.state.step === LAST")
    assert button(tab, "Play").is_visible()
    tab.evaluate("byId('speed').value = '0.5'")
    button(tab, "Play").click()
    assert button(tab, "Pause").is_visible()
    tab.emulate_media(reduced_motion="reduce")
    until(tab, "player.timer === null")
    assert button(tab, "Play").is_disabled()
    assert tab.evaluate("document.getAnimations().length") == 0
    button(tab, "Next ▶").click()
    tab.emulate_media(reduced_motion="no-preference")
    until(tab, "!byId('play').disabled")


def test_a_step_is_shown_as_long_as_its_sentence_takes_to_read(tab):
    tab.evaluate("set({step: 1})")
    for _, sentence, _ in PAPER.steps:
        assert tab.evaluate("stepTime()") == 1000 + 350 * len(sentence.split())
        tab.evaluate("move(1)")
    assert tab.evaluate("readingTime('春眠不觉')") == 1000 + 350 * 3  # two characters take as long as a word


def test_the_mask_grows_row_by_row_and_a_step_back_ends_that(tab):
    delays = tab.evaluate("""() => {
        set({step: 7});
        move(1);
        return maskRows().map((row) => row.getAnimations()[0].effect.getTiming().delay);
    }""")
    assert len(delays) == len(PAPER) and delays == sorted(set(delays))
    tab.evaluate("move(-1)")
    assert tab.evaluate("maskRows().flatMap((row) => row.getAnimations()).length") == 0


def test_on_a_phone_the_player_stays_in_sight_beside_what_a_step_adds(tab):
    tab.set_viewport_size(dict(width=360, height=740))
    tab.emulate_media(reduced_motion="reduce")
    begins = {
        "order": STEPS.index("order"),
        "sample": STEPS.index("masks"),
        "mask": 7,
        "compare": 7,
        "share": 7,
    }
    for k, name in enumerate(STEPS):
        button(tab, "Next ▶").click()
        player = box(tab, "#stepper")
        assert player["y"] + player["height"] == pytest.approx(740, abs=1)
        for region, step in begins.items():
            assert tab.locator(f"#{region}").is_visible() == (k >= step), (name, region)
        added = box(tab, "#grid td" if name == "mask" else "#stage [data-lit]")
        assert 0 <= added["y"] <= player["y"] - added["height"], name


# ---- the mask --------------------------------------------------------------------------------------------


@looks
def test_every_cell_of_the_paper_example_says_its_rule_its_kind_and_why(tab):
    told = tab.evaluate("""() => [...document.querySelectorAll("#grid td[data-j]")].map((cell) => {
        cell.dispatchEvent(new PointerEvent("pointerover", {bubbles: true, pointerType: "mouse"}));
        return [cell.dataset.kind, ...["rule", "kind", "why"].map((id) => byId(id).textContent)];
    })""")
    expected = [
        (PAPER.kind[i, j], PAPER.rule[i, j], PAPER.kind[i, j], why(PAPER, i, j))
        for i in range(10)
        for j in range(10)
    ]
    assert [tuple(cell) for cell in told] == expected


def test_pointing_crosses_row_and_column_and_a_click_pins_the_cell(tab):
    cell = tab.locator("#grid td[data-i='9'][data-j='7']")
    cell.hover()
    assert tab.locator("#grid .in-row").count() == tab.locator("#grid .in-column").count() == 10
    assert tab.locator("#grid th.cross .token").all_inner_texts() == ["x6", "x3"]
    assert tab.locator("#lanes td.query").first.get_attribute("data-i") == "9"
    cell.click()
    tab.locator("#grid td[data-i='0'][data-j='0']").hover()
    assert tab.locator("#why").inner_text() == why(PAPER, 9, 7)
    cell.click()
    tab.locator("#grid td[data-i='0'][data-j='0']").hover()
    assert tab.locator("#why").inner_text() == why(PAPER, 0, 0)


def test_the_grid_is_one_tab_stop_that_arrow_keys_walk(tab):
    grid = tab.locator("#grid").get_by_role("grid", name="attention mask of GLM")
    assert grid.locator("[tabindex='0']").count() == 1
    grid.locator("[tabindex='0']").focus()

    def at():
        return tab.evaluate("[+document.activeElement.dataset.i, +document.activeElement.dataset.j]")

    walks = {
        "ArrowRight": [0, 1],
        "ArrowDown": [1, 1],
        "End": [1, 9],
        "Home": [1, 0],
        "Control+End": [9, 9],
        "ArrowUp": [8, 9],
        "ArrowLeft": [8, 8],
        "Control+Home": [0, 0],
    }
    for key, place in walks.items():
        tab.keyboard.press(key)
        assert at() == place, key
        assert tab.locator("#why").inner_text() == why(PAPER, *place)
    assert grid.locator("[tabindex='0']").count() == 1
    tab.keyboard.press("Enter")
    assert state(tab)["pin"] == [0, 0]
    tab.keyboard.press("Escape")
    assert state(tab)["pin"] is None


@looks
def test_rows_and_columns_are_headed_by_token_and_both_positions(tab):
    for place, count in (("thead th", 10), ("tbody th", 10)):
        heads = [re.split(r"\s+", head.strip()) for head in tab.locator(f"#grid {place}").all_inner_texts()]
        pairs = zip(PAPER.tokens, PAPER.position_ids, PAPER.block_position_ids, strict=True)
        assert heads == [[token, str(a), str(b)] for token, a, b in pairs] and len(heads) == count


@looks
def test_counts_and_density_are_those_of_the_mask(tab):
    counts = {
        item.get_attribute("data-kind"): int(item.locator(".count").inner_text())
        for item in tab.locator("#legend li").all()
    }
    assert (
        counts == {kind: int((PAPER.kind == kind).sum()) for kind in counts} and sum(counts.values()) == 100
    )
    assert f"{PAPER.mask.sum()} of 100 cells open" in tab.locator("#density").inner_text()


def test_above_32_rows_a_canvas_takes_over_and_the_keyboard_still_walks(tab):
    type_text(tab, " ".join(f"w{i}" for i in range(70)))
    canvas = tab.locator("#grid canvas")
    canvas.focus()
    tab.keyboard.press("Control+End")
    d = derivation(tab)
    here = explain(d["text"], d["spans"], d["order"])
    assert tab.locator("#why").inner_text() == why(here, len(here) - 1, len(here) - 1)
    side = box(tab, "#grid canvas")["width"] / len(here)
    canvas.hover(position=dict(x=side * 2.5, y=side * 69.5))
    assert tab.locator("#why").inner_text() == why(here, 69, 2)


@pytest.mark.parametrize("words", [10, 50])  # a table, a canvas
def test_a_letter_that_is_typed_draws_anew_only_the_word_that_it_changes(tab, words):
    tab.evaluate("(text) => app.setText(text, [[1, 3], [5, 6]])", [f"w{i}" for i in range(words)])
    tab.evaluate("""() => {
        const parts = "#chips > *, #lanes td, #lanes th, #pieces > *, #legend > *, #grid *, #card *";
        window.before = [...document.querySelectorAll(parts)].filter((node) => !node.closest(".head"));
    }""")
    text_box(tab).press("End")
    text_box(tab).press("s")
    gone = tab.evaluate("before.filter((node) => !node.isConnected).map((node) => node.textContent)")
    word, here = f"w{words - 1}", derivation(tab)
    assert gone == [f"{word}{words - 1}", word]  # its chip, and its cell in the rows
    assert here["text"][-1] == word + "s" and here["spans"] == [[1, 3], [5, 6]]
    assert tab.locator("#chips .token").last.inner_text() == word + "s"
    if words == 10:
        heads = tab.locator("#grid tbody .token").all_inner_texts()
        assert heads == here["tokens"]
        labels = tab.locator("#grid td[data-j]").evaluate_all(
            "(cells) => cells.map((cell) => cell.ariaLabel)"
        )
        assert sum(f"“{word}s”" in label for label in labels) == 2 * len(heads) - 1
        assert not any(f"“{word}”" in label for label in labels)


# ---- texts, spans, order ---------------------------------------------------------------------------------


def chip(tab, i):
    return tab.locator(f"#chips [data-i='{i}']")


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


# ---- other models ----------------------------------------------------------------------------------------


def marked(tab):
    """{model: the cell that is crossed}."""
    return tab.evaluate("""() => Object.fromEntries(
        [...document.querySelectorAll("#family figure")].map((figure) => {
        const cell = figure.querySelector("td.cross");
        return [figure.dataset.model, cell && [+cell.dataset.i, +cell.dataset.j]];
    }))""")


def test_a_pair_of_words_is_crossed_in_every_model(tab):
    for name in ("prefix LM", "UniLM"):
        tab.get_by_label(name, exact=True).check()
    others = {model: explain(*EXAMPLE, model=model) for model in MODELS}
    tab.locator("#grid td[data-i='6'][data-j='9']").hover()  # x5 looks at x3: words 4 and 2
    where = {
        model: [list(d.word).index(4), list(d.word).index(2)]
        for model, d in (("glm", PAPER), *others.items())
    }
    assert marked(tab) == where
    told = tab.locator("#linked").inner_text()
    assert told.startswith("“x5” looks at “x3”: GLM shut, BERT open")
    for model, d in others.items():
        name = {"bert": "BERT", "gpt": "GPT", "prefix": "prefix LM", "unilm": "UniLM", "t5": "T5"}[model]
        assert f"{name} {'open' if d.mask[tuple(where[model])] else 'shut'}" in told
    tab.locator("figure[data-model=t5] td[data-i='0'][data-j='3']").hover()  # x1 looks at x4, seen from T5
    assert marked(tab)["glm"] == [0, 3] and tab.locator("#why").inner_text() == why(PAPER, 0, 3)
    tab.locator("figure[data-model=glm] td[data-i='5'][data-j='0']").hover()  # [S] is a word of GLM alone
    assert marked(tab) == {"glm": [5, 0], **dict.fromkeys(MODELS)}


@looks
def test_below_each_picture_the_text_is_lit_as_that_model_sees_it(tab):
    """The row of x4: GLM and BERT see both sides, GPT only the left; a blanked word is [M] in BERT."""
    tab.locator("#grid td[data-i='3'][data-j='0']").hover()
    lit = tab.evaluate("""() => Object.fromEntries(
        [...document.querySelectorAll("#family figure")].map((figure) =>
        [figure.dataset.model, [...figure.querySelectorAll(".sight .token")].map((node) =>
            node.textContent + (node.classList.contains("lit") ? "+" : "-"))]))""")
    assert tab.locator(".sight .asks").all_inner_texts() == ["x4"] * len(lit)
    for model, words in lit.items():
        d = explain(*EXAMPLE, model=model) if model != "glm" else PAPER
        word = list(d.word)
        sees = d.mask[word.index(3)]
        expected = [f"{d.tokens[word.index(n)]}{'+' if sees[word.index(n)] else '-'}" for n in range(6)]
        assert words == expected, model
    assert lit["gpt"] == ["x1+", "x2+", "x3+", "x4+", "x5-", "x6-"] and lit["bert"][2] == "[M]+"


def test_differences_only_leaves_the_pairs_of_words_that_one_model_sees_and_the_other_does_not(tab):
    tab.get_by_label("differences only").check()
    for model in ("bert", "gpt", "t5"):
        d, clear = explain(*EXAMPLE, model=model), set()
        for i, a in enumerate(d.word):
            for j, b in enumerate(d.word):
                if (
                    a >= 0
                    and b >= 0
                    and d.mask[i, j] != PAPER.mask[list(PAPER.word).index(a), list(PAPER.word).index(b)]
                ):
                    clear.add((i, j))
        drawn = tab.locator(f"figure[data-model={model}] td[data-j]:not(.faded)")
        assert {
            (int(c.get_attribute("data-i")), int(c.get_attribute("data-j"))) for c in drawn.all()
        } == clear and clear


def test_the_table_says_of_each_model_what_it_reads_sees_learns_and_cannot(tab):
    rows = tab.locator("#facts tbody tr")
    assert rows.locator("th").all_inner_texts() == ["GLM", "BERT", "GPT", "T5"]
    tab.get_by_label("T5", exact=True).uncheck()
    assert rows.locator("th").all_inner_texts() == ["GLM", "BERT", "GPT"]
    assert rows.first.locator("td").count() == 5


# ---- taking it away --------------------------------------------------------------------------------------


def test_the_address_holds_the_state_and_brings_it_back(tab):
    type_text(tab, " ".join([*HOSTILE, "a+b", "100%", "c&d=e#f"]))
    tab.evaluate(
        "set({spans: [[0, 2], [5, 7]], order: [1, 0], objective: 'sentence', step: 6, beside: ['unilm'],"
        " only: true})"
    )
    tab.evaluate("set({step: 8, pin: [3, 4]})")
    until(tab, "location.hash.slice(1) === address()")
    before, url = state(tab), tab.url
    tab.goto("about:blank")
    tab.goto(url)
    assert state(tab) == before
    for number, hash in enumerate(
        ("cut=constructor&step=x&pin=99,99&beside=glm,t5", "spans=0:1", "step=99&pin=,&order=")
    ):
        tab.evaluate("(hash) => void (location.hash = hash)", "t=a&t=b&" + "t=c&" * number + hash)
        until(tab, f"app.state.text.length === {2 + number}")
    tab.evaluate("location.hash = 't=a&t=b&objective=toString'")
    until(tab, "!byId('error').hidden")
    tab.evaluate("() => app.setText(['a', 'b'])")
    assert tab.get_by_role("alert").count() == 0
    tab.evaluate("location.hash = 't=a&spans=0:9'")
    until(tab, "!byId('error').hidden")
    assert derivation(tab)["text"] == ["a", "b"] and "lie in 0:1" in tab.get_by_role("alert").inner_text()


def copied(tab, name):
    """What a button copies; where the clipboard is refused, it stands in a text area instead."""
    tab.evaluate("() => void (navigator.clipboard.writeText = async () => {throw new Error('refused')})")
    button(tab, name).click()
    tab.locator("#to-copy").wait_for()
    assert tab.evaluate("getSelection().toString() || byId('to-copy').selectionEnd > 0")
    return tab.locator("#to-copy").input_value()


@pytest.mark.parametrize("k", [0, 2, 6])
def test_json_and_python_taken_from_the_page_are_the_same_derivation(tab, k, capsys):
    tab.locator(".preset").nth(k).click()
    here = derivation(tab)
    assert Derivation.from_json(json.loads(copied(tab, "Copy JSON"))).to_json() == here
    names = {}
    exec(copied(tab, "Copy Python"), names)
    assert names["derivation"].to_json() == here and here["tokens"][0] in capsys.readouterr().out


def test_python_of_a_hostile_text_runs(tab):
    tab.evaluate("(text) => app.setText(text, [[1, 3]])", [*HOSTILE, "\"'\\", "\n", "\u2028", "'''"])
    names = {}
    exec(copied(tab, "Copy Python"), names)
    assert names["derivation"].to_json() == derivation(tab)


def test_the_link_is_an_address_that_opens_the_same_state(tab):
    tab.get_by_role("button", name="[sMASK]", exact=True).click()
    before, link = state(tab), copied(tab, "Copy link")
    tab.goto("about:blank")
    tab.goto(link)
    assert {**state(tab), "answer": before["answer"]} == before


def test_back_undoes_a_change_and_forward_makes_it_again(tab):
    settled = "location.hash.slice(1) === address()"
    until(tab, settled)
    states = [state(tab)]
    for change in (
        lambda: chip(tab, 0).click(),
        lambda: button(tab, "Shuffle").click(),
        lambda: tab.locator(".preset").nth(3).click(),
        lambda: text_box(tab).press_sequentially(" and more", delay=20),  # typing is one change
    ):
        before = tab.evaluate("location.hash")
        change()
        until(tab, f"location.hash !== {json.dumps(before)} && {settled}")
        if state(tab)["step"]:  # looking is none
            button(tab, "◀ Back").click()
            until(tab, settled)
        until(tab, settled)
        states.append(state(tab))
    keys = ("text", "spans", "order", "objective")
    for before in states[-2::-1]:
        tab.go_back()
        assert [state(tab)[key] for key in keys] == [before[key] for key in keys]
    for after in states[1:]:
        tab.go_forward()
        assert [state(tab)[key] for key in keys] == [after[key] for key in keys]


def test_the_svg_is_xml_with_a_cell_for_every_pair_and_the_png_is_a_picture(tab):
    tab.evaluate("set({step: 3})")  # it is the whole picture, whatever the step
    with tab.expect_download() as saved:
        button(tab, "Save SVG").click()
    root = ElementTree.fromstring(saved.value.path().read_text(encoding="utf-8"))
    cells = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") == "cell"]
    assert [cell.get("data-kind") for cell in cells] == PAPER.kind.ravel().tolist()
    assert "var(" not in ElementTree.tostring(root, encoding="unicode")
    with tab.expect_download() as saved:
        button(tab, "Save PNG").click()
    picture = saved.value.path().read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(picture[16:20], "big") > 600


def test_print_leaves_the_picture_and_drops_the_controls(tab):
    tab.emulate_media(media="print")
    assert not button(tab, "Next ▶").is_visible() and tab.locator("#grid table").is_visible()
    assert tab.locator("#legend").is_visible()


def test_paper_is_light_however_dark_the_page_is(tab):
    def colours():
        return tab.evaluate("""() => [".panel", "td[data-kind=AA]", "h2"].map((what) => {
            const style = getComputedStyle(document.querySelector(what));
            return [style.backgroundColor, style.color];
        })""")

    light = colours()
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        if scheme == "light":
            button(tab, "Dark").click()  # chosen, whatever the system says; kept for the next visit
            tab.reload()
        assert colours() != light
        tab.emulate_media(media="print", color_scheme=scheme)
        assert colours() == light
        tab.emulate_media(media="screen")
        tab.evaluate("localStorage.clear(); delete document.documentElement.dataset.theme")


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
            const at = document.activeElement, home = at.closest("#spans, #order, #sample, section") ?? at;
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


# Boxes that meet though neither holds the other, and texts wider than their box; what scrolls inside a
# .scroller is its own.
OVERLAPS = """() => {
    const names = "h1, h2, h3, p, button, label, legend, input, select, summary, textarea, table, canvas, " +
        "ul, ol, figcaption, .scroller, .card, .panel";
    const seen = (node) => node.checkVisibility({visibilityProperty: true}) &&
        !node.matches(".visually-hidden, .skip");
    const outside = (node) => !node.closest(".scroller") || node.matches(".scroller");
    const nodes = [...document.querySelectorAll(names)].filter((node) => seen(node) && outside(node));
    const boxes = nodes.map((node) => node.getBoundingClientRect()), wrong = [];
    const say = (node) => node.tagName + (node.id ? "#" + node.id : "") + " " +
        node.textContent.trim().slice(0, 20);
    nodes.forEach((a, i) => nodes.slice(i + 1).forEach((b, k) => {
        const [p, q] = [boxes[i], boxes[i + 1 + k]];
        const width = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const height = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (width > 1 && height > 1 && !a.contains(b) && !b.contains(a))
            wrong.push(say(a) + " meets " + say(b));
    }));
    for (const node of nodes) {
        const parent = node.parentElement.closest(".panel, .card, body").getBoundingClientRect();
        const box = node.getBoundingClientRect(),
            isText = node.matches("h1, h2, h3, p, button, label, summary");
        if (box.left < parent.left - 1 || box.right > parent.right + 1)
            wrong.push(say(node) + " leaves its panel");
        if (isText && node.clientWidth && node.scrollWidth > node.clientWidth + 1)
            wrong.push(say(node) + " spills over");
    }
    const heads = [...document.querySelectorAll("#grid thead .head")]
        .map((head) => head.getBoundingClientRect());
    heads.slice(1).forEach((box, k) => box.left < heads[k].right - 1 && wrong.push("column heads meet"));
    return wrong;
}"""
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
