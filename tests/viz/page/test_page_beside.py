"""The explorer beside other models, and what can be taken out of it: address, JSON, Python, SVG, paper."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from explorer_page import (
    HOSTILE,
    MODELS,
    PAPER,
    button,
    chip,
    copied,
    derivation,
    explorer,
    looks,
    state,
    tab,
    text_box,
    type_text,
    until,
)

from minglm.viz.derivation import EXAMPLE, Derivation, explain, why

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
    assert tab.get_by_text(
        "Part A is the question, Part B is the answers."
    ).is_visible()  # on paper, unfolded
    assert len(re.findall(rb"/Type\s*/Page\b", tab.pdf(format="A4"))) <= 3


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
