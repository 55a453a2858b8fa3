"""The explorer in a real Chromium: it works offline and by keyboard, and explains every cell."""

import re
import zlib
from collections import Counter
from importlib.resources import files

import pytest
from explorer_page import (
    PAPER,
    STEPS,
    box,
    button,
    derivation,
    explorer,
    lit,
    looks,
    state,
    tab,
    text_box,
    type_text,
    until,
)

from minglm import Rng
from minglm.viz import page
from minglm.viz.derivation import explain, why

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


def test_the_page_is_small_and_what_it_computes_with_can_be_read_in_it():
    text = page.html(PAPER)
    assert len(text.encode()) <= 111_000  # both languages
    assert all(page.source(name) in text for name in ("unpack.js", "derive.js", "leak.js", "train.js"))


def test_the_page_unpacks_whatever_python_deflates(tab):
    random = Rng(0)
    texts = [b"", b"a", b"abc" * 300, bytes(random.integer(256) for _ in range(3000)), b"x" * 70_000]
    for text in texts:
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED):
            for level in (0, 9):
                deflate = zlib.compressobj(level, wbits=-zlib.MAX_WBITS, strategy=strategy)
                packed = list(deflate.compress(text) + deflate.flush())
                assert bytes(tab.evaluate("bytes => [...inflate(bytes)]", packed)) == text


@looks
def test_pointing_at_a_row_of_the_sample_lights_the_words_that_it_sees(tab):
    for i in (1, 6, 9):
        tab.locator(f"#lanes td[data-lane=tokens][data-i='{i}']").hover()
        seen = tab.locator("#chips .seen").evaluate_all("chips => chips.map(chip => Number(chip.dataset.i))")
        assert seen == sorted({int(PAPER.word[j]) for j in range(len(PAPER)) if PAPER.mask[i, j]} - {-1})
        assert tab.locator("#grid td.cross").evaluate("cell => cell.dataset.i") == str(i)


def test_no_text_in_its_scripts_goes_over_several_lines():
    for path in files(page).iterdir():
        if path.name.endswith(".js"):
            lines = [page.COMMENT.sub("", line) for line in path.read_text(encoding="utf-8").split("\n")]
            assert not [line for line in lines if line.count("`") % 2], path.name


# ---- the story -------------------------------------------------------------------------------------------


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
        kinds = Counter(
            tab.locator("#grid td[data-j]").evaluate_all("cells => cells.map(td => td.dataset.kind)")
        )
        if name == "mask":
            assert sum(kinds.values()) == 100 and not kinds.keys() & {"", "none"}
        else:  # a cell is there as soon as both of its tokens are
            there = len({i for *_, lights in PAPER.steps[:k] for i in lights.get("tokens", ())})
            assert kinds == Counter({"": there**2, "none": 100 - there**2}) - Counter()
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
