"""The story above the instrument: what it counts, what it trains, and that anybody can follow it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from minglm import GLM, GLMConfig, GLMMask, Tokenizer, keys_of_row
from minglm.attention import BACKENDS
from minglm.use.generate import fill
from minglm.viz import page
from minglm.viz.derivation import EXAMPLE, explain
from minglm.viz.page.weights import model_spec
from minglm.viz.words import CHAPTERS

STORY = explain(CHAPTERS["text"], CHAPTERS["spans"], CHAPTERS["order"])
FRAMES = [name for name, _, _ in CHAPTERS["frames"]]
SENTENCES = {name: sentence for name, _, sentence in CHAPTERS["frames"]}
WIDE, PHONE = dict(width=1440, height=900), dict(width=360, height=740)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """One page without a model, offline, with what it asked for and what it complained of."""
    path = tmp_path_factory.mktemp("story") / "page.html"
    path.write_text(page.html(explain(*EXAMPLE)), encoding="utf-8")
    context = browser.new_context(viewport=WIDE, offline=True)
    context.set_default_timeout(120_000)  # a busy machine is no failure
    tab, requests, errors = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield SimpleNamespace(tab=tab, url=path.as_uri(), requests=requests, errors=errors)
    context.close()


@pytest.fixture
def tab(opened):
    """The page as it opens, still: no test here depends on time. It must neither load nor complain."""
    opened.requests.clear()
    opened.errors.clear()
    opened.tab.set_viewport_size(WIDE)
    opened.tab.emulate_media(reduced_motion="reduce", color_scheme="light")
    opened.tab.goto(opened.url)
    yield opened.tab
    assert (set(opened.requests), opened.errors) == ({opened.url}, [])


def button(tab, name):
    return tab.locator("#story").get_by_role("button", name=name, exact=True)


def go_to(tab, name):
    """Press the chapter of a frame, then "Go on" until the frame is there."""
    chapter = next(chapter for frame, chapter, _ in CHAPTERS["frames"] if frame == name)
    button(tab, f"{chapter + 1} {CHAPTERS['chapters'][chapter]}").click()
    while frame(tab) != name:
        button(tab, CHAPTERS["next"]).click()


def frame(tab):
    return tab.locator(".story-box").get_attribute("data-frame")


def words(tab):
    """The tokens on the board, lane by lane."""
    return [lane.locator(".word .token").all_inner_texts() for lane in tab.locator(".lane").all()]


# ---- who knows what --------------------------------------------------------------------------------------


def known(mask, layers):
    """Which rows depend on which tokens after some layers: a boolean power, rows keep what they knew."""
    return np.linalg.matrix_power((mask | np.eye(len(mask), dtype=bool)).astype(int), layers) > 0


def cheaters(d, mask, layers):
    """The rows of Part B that know the word that they have to say."""
    rows = [i for i in range(d.part_a_len, len(d)) if d.targets[i] != "[E]"]
    return [i for i in rows if known(mask, layers)[i, i + 1]]


LEAKS = """(given) => {
    const {d, mask} = JSON.parse(given), paths = answers(d).map(([i, j]) => pathOf(mask, i, j));
    const known = (layers) => [knowledge(mask, layers), cheaters(d, mask, layers), paths];
    return JSON.stringify(range(0, 4).map(known));
}"""


def test_opened_cells_leak_what_the_power_of_the_mask_says(tab):
    rng = np.random.default_rng(0)
    samples = [STORY, explain(list("abcdefgh"), [(0, 2), (3, 4), (5, 8)], [2, 0, 1])]
    for d in samples:
        for layers in range(4):
            assert cheaters(d, d.mask, layers) == []  # GLM's own mask leaks to no depth
        for n in range(8):
            mask = d.mask | (rng.random(d.mask.shape) < n / 60)
            given = json.dumps(dict(d=d.to_json(), mask=mask.tolist()))
            for layers, (knows, rows, paths) in enumerate(json.loads(tab.evaluate(LEAKS, given))):
                assert np.array_equal(knows, known(mask, layers))
                assert rows == cheaters(d, mask, layers)
                assert sum(path is not None and len(path) - 1 <= layers for path in paths) == len(rows)
                assert all(mask[b, a] for path in paths if path for a, b in zip(path, path[1:], strict=False))


def test_a_cell_opened_by_hand_shows_the_way_of_the_answer_and_who_knows_it_now(tab):
    go_to(tab, "break")
    assert "0 of 3 after 1 layer, 0 of 3 after 2 layers" in tab.locator(".knows").inner_text()
    tab.locator(".story-mask td[data-i='4'][data-j='7']").click()
    assert tab.locator(".leak").inner_text() == "“sky” → “[M]” → “the”, which has to say “sky”."
    assert "0 of 3 after 1 layer, 1 of 3 after 2 layers" in tab.locator(".knows").inner_text()
    assert tab.locator(".word[data-knows]").all_inner_texts() == ["the\n→ sky"]
    button(tab, CHAPTERS["open all"]).click()
    leaky = STORY.mask.copy()
    leaky[: STORY.part_a_len] = True
    n = len(cheaters(STORY, leaky, 2))
    assert n == 3 and f"{n} of 3 after 2 layers" in tab.locator(".knows").inner_text()
    button(tab, CHAPTERS["shut"]).click()
    assert tab.locator(".word[data-knows], .story-mask td[data-kind=leak]").count() == 0


# ---- training in the page --------------------------------------------------------------------------------


def dense_attention(sees):
    """A backend for samples of equal length under one dense mask."""

    def attend(q, k, v, mask, scale):
        q, k, v = (x.unflatten(0, (-1, len(sees))) for x in (q, k, v))  # (S, T, H, D)
        scores = (scale * torch.einsum("sqhd,skhd->shqk", q, k)).masked_fill(~sees, -torch.inf)
        return torch.einsum("shqk,skhd->sqhd", scores.softmax(-1), v).flatten(0, 1)

    return attend


LEARN = """([looks, steps]) => {
    const net = new Net(DIGITS, 3), batch = digitBatch(new Rng(5), 4), keys = handKeys(5, looks), seen = [];
    const entries = Object.entries(net.parameters);
    const now = (what) => Object.fromEntries(entries.map(([name, p]) => [name, [...p[what]]]));
    for (let step = 0; step < steps; step++) {
        const value = now("value"), {loss, back} = net.loss(batch, keys);
        back();
        seen.push({value, loss, grad: now("grad")});
        adam(net, 0.01);
    }
    return JSON.stringify({config: DIGITS, batch, keys, seen});
}"""


@pytest.mark.parametrize("looks", [False, True])
def test_gradients_and_steps_of_the_page_are_those_of_torch(tab, monkeypatch, looks):
    here = json.loads(tab.evaluate(LEARN, [looks, 3]))
    config, batch, T = here["config"], here["batch"], len(here["keys"])
    sees = torch.tensor([[j in keys for j in range(T)] for keys in here["keys"]])
    honest = GLMMask.packed([T], [5])
    assert torch.equal(sees[5:], honest.dense()[5:]) and bool(sees[:5, 5:].all()) == looks
    model = GLM(
        GLMConfig(
            config["vocab"],
            config["width"],
            config["layers"],
            config["heads"],
            config["positions"],
            dropout=0,
        )
    )
    model, model.prune, model.backend = model.double(), False, "dense"
    monkeypatch.setitem(BACKENDS, "dense", dense_attention(sees))
    start = here["seen"][0]["value"]
    assert start.keys() == model.state_dict().keys()
    model.load_state_dict(
        {
            name: torch.tensor(start[name], dtype=torch.float64).view_as(p)
            for name, p in model.state_dict().items()
        }
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    tokens, positions, blocks, targets = (
        torch.tensor(batch[name]) for name in ("tokens", "positions", "blockPositions", "targets")
    )
    samples = len(tokens) // T
    assert (targets >= 0).sum() == 2 * samples  # the two digits, not [E]
    for step in here["seen"]:
        logits = model(tokens, positions, blocks, GLMMask.packed([T] * samples, [5] * samples))
        loss = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        assert abs(step["loss"] - loss.item()) < 1e-5
        for name, p in model.named_parameters():
            for kind, truth in (("value", p), ("grad", p.grad)):
                torch.testing.assert_close(
                    torch.tensor(step[kind][name]).view_as(p).double(), truth.detach(), rtol=1e-5, atol=1e-8
                )
        optimizer.step()


def test_the_experiment_begins_with_equal_weights_and_its_mask_is_in_the_hand(tab):
    first, second = json.loads(
        tab.evaluate("""() => {
        const experiment = new Experiment(handKeys(5, false));
        experiment.step();
        experiment.keys = handKeys(8, false);
        experiment.step();
        return JSON.stringify(experiment.curve);
    }""")
    )
    assert first[0] == first[1] == first[2]
    assert second[0] == second[2] != second[1]  # the same weights still, under two masks
    for n in range(9):
        rows = tab.evaluate("(n) => handKeys(n, false).map((keys) => keys.length)", n)
        assert rows == [keys_of_row(i, n) for i in range(8)]


def test_the_two_models_train_in_the_page_until_they_are_stopped(tab):
    go_to(tab, "cheat")
    while tab.locator(".curve.yours").get_attribute("points").count(",") < 3:
        tab.wait_for_timeout(30)
    button(tab, CHAPTERS["training"]["stop"]).click()
    points = tab.locator(".curve").evaluate_all("(lines) => lines.map((line) => line.points.length)")
    assert (
        len(set(points)) == 1
        and f"step {points[0]}: GLM's mask" in tab.locator(".story-training [role=status]").inner_text()
    )
    tab.locator(".story-training").get_by_role("slider").press(
        "End"
    )  # the mask changes, and training goes on
    assert "8 (BERT)" in tab.locator(".story-training .field").inner_text()
    button(tab, CHAPTERS["training"]["stop"]).click()
    button(tab, CHAPTERS["next"]).click()
    assert not tab.locator(".story-training").is_visible()


# ---- anybody can follow it -------------------------------------------------------------------------------


def test_the_story_is_told_by_keyboard_alone_and_stands_still_where_less_motion_is_wanted(tab):
    tab.get_by_label(CHAPTERS["guess"]).focus()
    tab.keyboard.type("sing")
    tab.keyboard.press("Enter")
    seen = ["ask"]
    while True:
        name = frame(tab)
        seen.append(name)
        assert tab.locator(".story-sentence").inner_text() == SENTENCES[name]
        assert tab.evaluate("document.getAnimations().length") == 0
        assert tab.evaluate("document.activeElement.textContent") == CHAPTERS["next"]
        if name == "answer":
            assert "You said “sing”." in tab.locator(".story-extras").inner_text()
        if name == FRAMES[-1]:
            break
        tab.keyboard.press("Enter")
    assert seen == FRAMES


def test_a_token_keeps_its_identity_while_it_moves(tab):
    tab.emulate_media(reduced_motion="no-preference")
    go_to(tab, "spans")
    assert words(tab) == [CHAPTERS["text"]]
    keys = "(lane) => [...lane.querySelectorAll('.word')].map((node) => node.dataset.key)"
    assert tab.locator(".lane").evaluate(keys) == [f"w{i}" for i in range(6)]
    button(tab, CHAPTERS["next"]).click()
    flies = "() => document.getAnimations().filter((a) => a.effect.target.dataset.key === 'w5').length"
    assert tab.evaluate(flies) == 1
    button(tab, CHAPTERS["next"]).click()
    assert words(tab) == [list(STORY.tokens[:5]), list(STORY.tokens[5:])]
    assert tab.locator(".lane").last.evaluate(keys) == ["s1", "w4", "w5", "s0", "w2"]


def test_the_reader_chooses_what_may_be_seen_and_is_told_why(tab):
    go_to(tab, "quiz")
    for i in (0, 1, 2, 3, 5, 7, 9):  # leaves out the second [M], takes the answer and a later word
        tab.locator(".word").nth(i).click()
    button(tab, CHAPTERS["next"]).click()
    marks = tab.locator(".word").evaluate_all("(nodes) => nodes.map((node) => node.dataset.mark)")
    assert marks == ["right"] * 4 + ["missed"] + ["right"] * 2 + ["wrong", "", "wrong"]
    told = tab.locator(".story-extras").inner_text()
    assert "“[M]”" in told and CHAPTERS["answer"] in told and "“fly”: written after you" in told


@pytest.mark.parametrize("family", ["glm", "bert", "gpt"])
def test_pointing_at_a_token_lights_the_words_it_sees(tab, family):
    d = explain(STORY.text, STORY.spans, STORY.order, model=family) if family != "glm" else STORY
    go_to(tab, "mask")
    button(tab, CHAPTERS["families"][family]).click()
    tab.mouse.move(0, 0)  # it would point at what comes under it
    for i in range(len(d)):
        tab.locator(f".word[data-i='{i}']").focus()
        lit = tab.locator(".word[data-i].lit").evaluate_all("(nodes) => nodes.map((node) => +node.dataset.i)")
        assert sorted(lit) == np.flatnonzero(d.mask[i]).tolist()
        assert f"sees {d.mask[i].sum()} of {len(d)} tokens" in tab.locator(".story-seen").inner_text()


def test_a_switched_off_number_makes_two_tokens_alike(tab):
    go_to(tab, "positions")
    twins = tab.locator(".word[data-twin] .token")
    assert twins.count() == 0
    tab.get_by_label(CHAPTERS["which"]).uncheck()
    assert twins.all_inner_texts() == ["[S]", "[S]"]
    tab.get_by_label(CHAPTERS["which"]).check()
    tab.get_by_label(CHAPTERS["where"]).uncheck()
    assert twins.all_inner_texts() == ["the", "sky"]


@pytest.mark.parametrize("width", [360, 1440])
def test_what_glm_does_is_on_the_first_screen_and_why_a_click_away(tab, width):
    tab.set_viewport_size(dict(width=width, height=740))
    tab.reload()
    screen = "(node) => [node.getBoundingClientRect()].every((b) => b.top >= 0 && b.bottom <= innerHeight)"
    for what in (".lead", ".story-sentence", "#story-guess", ".story-player"):
        assert tab.locator(what).evaluate(screen), what
    question, answer = CHAPTERS["questions"][2]
    tab.get_by_text(question).click()
    assert tab.get_by_text(answer).is_visible() and "carry the answer back" in answer
    button(tab, CHAPTERS["break it"]).click()
    assert frame(tab) == "leak" and tab.locator(".word[data-knows]").evaluate(screen)
    # the arrows go from "sky" to [M] to "the", although all words were still flying when they were drawn
    ends = tab.evaluate("""async () => {
        await Promise.all(document.getAnimations().map(motion => motion.finished.catch(() => 0)));
        const board = document.querySelector(".story-board").getBoundingClientRect();
        const middle = i => {
            const box = document.querySelector(`.word[data-i="${i}"]`).getBoundingClientRect();
            return [box.x + box.width / 2 - board.x, box.y + box.height / 2 - board.y];
        };
        return [...document.querySelectorAll(".story-over path")].map((path, n) => {
            const [x0, y0, x1, y1] = path.getAttribute("d").match(/[\\d.]+/g).map(Number);
            const [from, to] = [[7, 4], [4, 6]][n].map(middle);
            return [Math.hypot(x0 - from[0], y0 - from[1]), Math.hypot(x1 - to[0], y1 - to[1])];
        });
    }""")
    assert np.allclose(ends, 30, atol=2) and len(ends) == 2


def test_the_arrows_do_not_stick_out_before_they_are_drawn_anew(tab):
    tab.set_viewport_size(dict(width=768, height=900))
    go_to(tab, "leak")
    assert tab.locator(".story-over path").count() == 2
    # in one step: observers have not yet been told
    narrower = """(board) => {
        board.style.width = "300px";
        return [board.clientWidth, board.scrollWidth];
    }"""
    assert tab.locator(".story-board").evaluate(narrower) == [300, 300]


@pytest.mark.parametrize("width", [360, 1440])
def test_the_parts_of_the_page_are_within_reach_at_its_top(tab, width):
    tab.set_viewport_size(dict(width=width, height=740))
    tab.emulate_media(reduced_motion="reduce")
    ways = tab.get_by_role("navigation").get_by_role("button")
    assert ways.all_inner_texts() == ["Story", "Your text", "Other models"]  # this page has no model
    for name, region in (("Other models", "#compare"), ("Your text", "#sentence"), ("Story", "#story")):
        ways.get_by_text(name).evaluate("button => button.click()")
        assert abs(tab.locator(region).bounding_box()["y"]) < 2


@pytest.mark.parametrize(("viewport", "theme"), [(PHONE, "dark"), (WIDE, "light")])
def test_axe_finds_nothing_in_any_frame_and_nothing_sticks_out(tab, axe, viewport, theme):
    tab.set_viewport_size(viewport)
    tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
    for name in FRAMES:
        assert frame(tab) == name
        for size in (dict(width=768, height=900), viewport):
            tab.set_viewport_size(size)
            assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"], name
            inside = "(nodes) => nodes.every((node) => node.scrollWidth <= node.clientWidth + 1)"
            assert tab.locator("#story :is(p, button, .words)").evaluate_all(inside), name
        if name in ("rule", "mask", "leak", "cheat"):
            found = axe(tab, context="#story")
            assert found.violations_count == 0, (name, found.generate_report())
        if name != FRAMES[-1]:
            button(tab, CHAPTERS["next"]).click()


def test_a_live_model_answers_what_the_library_fills(browser, tmp_path, small_run):
    model, tokenizer = GLM.from_pretrained(small_run), Tokenizer.from_pretrained(small_run)
    path = tmp_path / "live.html"
    path.write_text(page.html(explain(*EXAMPLE), model_spec(model, tokenizer, "a [MASK]")), encoding="utf-8")
    other = browser.new_page()
    other.goto(path.as_uri())
    button(other, CHAPTERS["show"]).click()
    told = other.locator(".story-model p")
    told.wait_for()
    answer = fill(model.eval(), tokenizer, CHAPTERS["blank"], max_tokens=6).blanks[0].answer.text.strip()
    assert told.inner_text() == CHAPTERS["model"].format(answer=answer)
    other.close()
