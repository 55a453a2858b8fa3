"""The page's last region in a real browser: what a model does with a text there is what it does in Python."""

import contextlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minglm import GLM, MinglmError, Tokenizer, fill
from minglm.batch import pack
from minglm.infilling import Example
from minglm.use.drafts import Dials, Draft
from minglm.use.models import BOX, load
from minglm.viz.derivation import EXAMPLE, explain
from minglm.viz.page import html, iframe
from minglm.viz.page.weights import live_spec, quantised, recorded_spec

with contextlib.suppress(
    ImportError
):  # without it all tests that need it are skipped: they need `browser`, too
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # a busy machine is no failure; its own 5 s are for people who wait

TEXT = "Ben went home. The day was [MASK], and the night was [MASK]."
HOSTILE = "</script><img src=x onerror=alert(1)> & \u202e [MASK] <b>\u4f60\u597d</b>"


@pytest.fixture(scope="module")
def trained(small_run):
    """A model whose weights are those of the page, so that both compute with the same numbers."""
    model = GLM.from_pretrained(small_run)
    with torch.no_grad():
        for p in (p for p in model.parameters() if p.dim() == 2):
            level, scale = quantised(p)
            p.copy_(level * scale)
    return model.eval(), Tokenizer.from_pretrained(small_run)


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory):
    """Open a page from its file, without a network: pages(spec, **context) -> Lab. The console is empty."""
    complaints, contexts = [], []

    def open_page(spec, **options):
        path = tmp_path_factory.mktemp("page") / "glm.html"
        path.write_text(html(explain(*EXAMPLE), spec), encoding="utf-8")
        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append("dialog") or dialog.dismiss())
        page.goto(path.as_uri())
        return Lab(page)

    yield SimpleNamespace(open=open_page, complaints=complaints)
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="module")
def opened(pages, trained):
    """The page of all tests that change nothing but the text and the dials."""
    return pages.open(live_spec(*trained, text=TEXT, name="small"), viewport={"width": 1440, "height": 900})


@pytest.fixture
def lab(opened, pages):
    """That page at its beginning: TEXT, greedy, nothing filled."""
    for dial, value in dict(temperature=0, top_k=0, top_p=1, seed=0).items():
        opened.dial(dial, value)
    opened.say(TEXT)
    opened.press("Reset", if_enabled=True)
    for mean in opened.box.get_by_label("layer 2, the mean of its heads").all():  # none before it was drawn
        mean.check(force=True)
    assert opened.box.locator(".lab-column, .lab-compared").count() == 0
    yield opened
    assert not pages.complaints


class Lab:
    """The region as somebody sees it who looks at the page."""

    def __init__(self, page):
        self.page, self.box = page, page.locator("#model")
        self.box.scroll_into_view_if_needed()
        self.text_box = self.box.locator("#lab-text")
        self.sentence = self.box.locator(".lab-sentence")
        self.error = self.box.locator("#lab-error")

    def button(self, name):
        return self.box.get_by_role("button", name=name, exact=True)

    def press(self, name, if_enabled=False):
        button = self.button(name)
        if not if_enabled or (button.count() and button.is_enabled()):
            button.click()

    def say(self, text):
        """Put a text into the box and leave it."""
        self.text_box.fill(text)
        self.text_box.dispatch_event("change")

    def dial(self, name, value):
        """Move a slider, or type a seed. top_k = 0, all tokens, is the right end of its slider."""
        value = 50 if (name, value) == ("top_k", 0) else value
        dial = self.box.get_by_label(name.replace("_", " "), exact=True)
        if dial.input_value() != str(value):
            dial.evaluate(
                "(dial, value) => { dial.value = value; dial.dispatchEvent(new Event('input'));"
                " dial.dispatchEvent(new Event('change')); }",
                str(value),
            )

    def fill(self):
        self.press("Fill")
        expect(self.button("Fill")).to_be_disabled()
        return self

    def text(self):
        return self.box.locator(".lab-text").text_content().replace("↵", "\n")

    def bars(self):
        """[{id, p, before, chosen}] of the step in view, from top to bottom."""
        bars = self.box.locator(".lab-bars").first.locator(".lab-bar")
        found = []
        for bar in bars.evaluate_all("bars => bars.map(bar => ({...bar.dataset}))"):
            before = float(bar["before"]) if "before" in bar else None
            found.append(
                SimpleNamespace(
                    id=int(bar["id"]), p=float(bar["p"]), before=before, chosen=bar["chosen"] == "true"
                )
            )
        return found

    def quiet(self, head="layer 2, the mean of its heads"):
        """Wait until attention has been drawn."""
        heading = self.box.locator("h3", has_text="Who looks at whom")
        heading.scroll_into_view_if_needed()
        expect(heading).to_have_text(f"Who looks at whom: {head}")
        rows = str(self.box.locator(".lab-row").count())
        expect(self.box.locator(".lab-thumbs canvas").last).to_have_attribute("width", rows)


class Replay:
    """What the library's model says of TEXT's rows when the answers so far are given."""

    def __init__(self, trained, text):
        self.model, self.tokenizer = trained
        special, tokens = self.tokenizer.special, self.tokenizer.encode(text, special=True)
        self.part_a = [special.cls, *tokens, special.eos]
        self.blanks = [i + 1 for i, token in enumerate(tokens) if token == special.mask]

    @torch.no_grad()
    def probabilities(self, answers):
        """P(next token) after the last row: (V,)."""
        batch = pack([self.rows(answers)])
        return (
            self.model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)[-1]
            .softmax(-1)
            .numpy()
        )

    def rows(self, answers):
        """Part A and the sop-led answers as one Example."""
        A, sop = len(self.part_a), self.tokenizer.special.sop
        parts = [(position, [sop, *answer]) for position, answer in zip(self.blanks, answers, strict=False)]
        tokens = [*self.part_a, *(token for _, part in parts for token in part)]
        positions = [*range(A), *(position for position, part in parts for _ in part)]
        blocks = [0] * A + [i + 1 for _, part in parts for i in range(len(part))]
        columns = (np.array(x, dtype=np.int64) for x in (tokens, positions, blocks))
        return Example(
            *columns,
            np.zeros(len(tokens) - A, dtype=np.int64),
            A,
            len(tokens),
            "token",
            self.tokenizer.special,
        )


# ---- filling ---------------------------------------------------------------------------------------------


def test_it_fills_what_the_library_fills(lab, trained):
    assert lab.fill().text() == fill(*trained, TEXT).text
    steps = sum(
        len(blank.answer.log_probabilities) + (not blank.answer.complete)
        for blank in fill(*trained, TEXT).blanks
    )
    assert lab.box.locator(".lab-column").count() == steps


@pytest.mark.parametrize(
    "dials", [dict(temperature=1.2, seed=3), dict(temperature=0.8, seed=4, top_k=5, top_p=0.9)]
)
def test_it_draws_what_the_library_draws(lab, trained, dials):
    for name, value in dials.items():
        lab.dial(name, value)
    drawn = fill(*trained, TEXT, **dials).text
    assert lab.fill().text() == drawn != fill(*trained, TEXT).text


def test_the_bars_are_the_models_probabilities(lab, trained):
    """Before a step nothing is taken; after it, the most likely of the allowed tokens has the ring."""
    replay, answer = Replay(trained, TEXT), fill(*trained, TEXT).blanks[0].answer.tokens
    expect(lab.sentence).to_contain_text("Nothing is taken yet")
    assert not any(bar.chosen for bar in lab.bars())
    for n in range(min(3, len(answer))):
        lab.press("Next ▶")
        truth = replay.probabilities([answer[:n]])
        assert_close({bar.id: bar.p for bar in lab.bars()}, truth)
        assert [bar.id for bar in lab.bars() if bar.chosen] == [answer[n]]
        assert [bar.p for bar in lab.bars()][:8] == pytest.approx(sorted(truth, reverse=True)[:8], abs=2e-3)


def test_the_sentence_says_where_the_row_stands_and_what_it_sees(lab, trained):
    replay, answer = Replay(trained, TEXT), fill(*trained, TEXT).blanks[0].answer.tokens
    A, position = len(replay.part_a), replay.blanks[0]
    lab.button("Next ▶").focus()
    lab.page.keyboard.press("Enter")
    lab.page.keyboard.press("Space")
    piece = trained[1].token_str(answer[0]).replace(" ", "▁")
    assert lab.sentence.text_content().startswith(
        f"Step 2: row {A + 1} = “{piece}” of blank 1 ([MASK]) stands at position {position}, "
        f"block position 2; it sees {A + 2} keys: {A} of Part A, 2 of Part B. "
    )
    assert lab.sentence.get_attribute("aria-live") == "polite"
    chip = lab.box.locator(f'[data-key="row-{A + 1}"]')
    assert chip.get_attribute("aria-label") == f"row {A + 1}: {piece}, position {position}, block position 2"


def test_nothing_moves_by_itself_and_play_stops_when_told_to(pages, trained):
    lab = pages.open(live_spec(*trained, text=TEXT, name="small"))
    steps, clock = lab.box.locator(".lab-column"), lab.page.clock
    clock.install(time=0)
    clock.pause_at(1000)  # from here on its hands move when they are moved
    clock.run_for(5000)
    assert steps.count() == 0
    lab.press("Play")
    expect(steps).to_have_count(1)
    clock.run_for(1000)
    expect(steps).to_have_count(2)
    lab.press("Pause")
    clock.run_for(5000)
    assert steps.count() == 2


@torch.no_grad()
def test_the_sliders_move_the_bars_before_anything_is_taken(lab, trained):
    """The bars are then softmax(logits / temperature) of the tokens that may come, cut to top k and top p."""
    replay = Replay(trained, TEXT)
    p = torch.tensor(replay.probabilities([[]])).double().log()
    is_text = torch.from_numpy(trained[1].byte_lengths() > 0)
    p = torch.where(is_text, p / 0.5, -math.inf).softmax(-1)
    lab.dial("temperature", 0.5)
    assert_close({bar.id: bar.p for bar in lab.bars()}, p.numpy())
    lab.dial("top_k", 3)
    lab.dial("top_p", 0.6)
    best = p.sort(descending=True)
    kept = best.values[:3] / best.values[:3].sum()
    n = 1 + int((kept.cumsum(0) < 0.6).sum())
    truth = np.zeros(len(p))
    truth[best.indices[:n]] = kept[:n] / kept[:n].sum()
    assert_close({bar.id: bar.p for bar in lab.bars()}, truth)
    assert lab.box.get_by_text("cut off").count() >= 5
    assert lab.box.locator(".lab-column").count() == 0


def test_the_address_brings_the_lab_back(lab, pages, trained):
    """Text, dials, what was taken and what is in view: a reloaded page shows the same."""
    lab.say(TEXT.replace("Ben", "Anna"))
    for dial, value in dict(temperature=1.2, top_k=9, seed=4).items():
        lab.dial(dial, value)
    lab.fill()
    other = next(bar for bar in lab.bars() if not bar.chosen and bar.p)
    lab.box.locator(".lab-column").nth(1).click()
    lab.box.locator('[data-key="row-2"]').click()
    lab.page.wait_for_timeout(400)  # the address is written when nothing has changed for a while
    shown = [lab.text(), lab.sentence.text_content(), [bar.id for bar in lab.bars()], other is not None]
    address = lab.page.url
    page = lab.page.context.new_page()
    page.goto(address)
    again = Lab(page)
    expect(again.box.locator('[data-key="row-2"]')).to_have_attribute("aria-pressed", "true")
    assert [again.text(), again.sentence.text_content(), [bar.id for bar in again.bars()], True] == shown
    assert again.text_box.input_value().startswith("Anna")
    assert again.box.get_by_label("top k", exact=True).input_value() == "9"
    page.goto(address.split("#")[0] + "#t=a&lab=x&dials=-1,x&taken=9999999&look=99,99,99")
    page.reload()
    expect(again.error).to_contain_text("no blank in it")
    page.close()


# ---- what if ---------------------------------------------------------------------------------------------


def test_a_click_on_another_candidate_takes_it(lab, trained):
    replay, greedy = Replay(trained, TEXT), fill(*trained, TEXT).blanks[0].answer.tokens
    lab.fill()
    lab.box.locator(".lab-column").nth(1).click()
    other = next(bar for bar in lab.bars() if bar.id != greedy[1] and trained[1].byte_lengths()[bar.id])
    lab.box.locator(f'button[data-key="token-{other.id}"]').click()
    expect(lab.button("Fill")).to_be_disabled()
    assert [bar.id for bar in lab.bars() if bar.chosen] == [other.id]
    taken = [
        int(step.locator("[data-chosen=true]").get_attribute("data-id"))
        for step in lab.box.locator(".lab-column").all()
    ]
    assert taken[:2] == [greedy[0], other.id]
    truth = replay.probabilities([taken[:2]])
    allowed = np.where(trained[1].byte_lengths() > 0, truth, 0)
    allowed[trained[1].special.eop] = truth[trained[1].special.eop]
    assert taken[2] == allowed.argmax()
    expect(lab.box.locator(".lab-ghost")).to_contain_text("before: ")


def test_whole_fillings_are_those_of_the_librarys_search_and_a_click_takes_one(lab, trained):
    found = fill(*trained, TEXT, top=5).blanks[0].alternatives
    lab.press("Search for the likeliest whole fillings", if_enabled=True)
    whole = lab.box.locator(".lab-wide")
    expect(whole).to_have_count(5)
    assert whole.locator("bdi").all_inner_texts() == [
        filling.text.strip() + " …" * (not filling.complete) for filling in found
    ]
    shares = whole.locator(".lab-value").all_inner_texts()
    assert shares[0] == f"{100 * math.exp(found[0].log_probability):.1f} %"
    whole.nth(2).click()
    expect(lab.button("Reset")).to_be_enabled()
    taken = lab.page.evaluate("app.lab.run.session.blanks[0].tokens")
    assert taken == found[2].tokens
    expect(whole).to_have_count(5)  # they depend on what comes before the blank alone


def test_the_text_above_goes_to_the_lab_with_its_blanks(lab):
    lab.page.evaluate("app.setText(['Ben', '[MASK]', 'to', 'the', 'house', '.'], [[1, 2], [4, 5]])")
    lab.page.get_by_role("button", name="Let the model fill these blanks").click()
    expect(lab.text_box).to_have_value("Ben [MASK] to the [MASK] .")
    lab.page.evaluate("app.set({objective: 'document'}), app.setText(['Ben', 'went', 'home'], [[1, 3]])")
    lab.page.get_by_role("button", name="Let the model fill these blanks").click()
    expect(lab.text_box).to_have_value("Ben [gMASK]")
    lab.page.evaluate("app.set({objective: 'token'})")


def test_a_changed_word_shows_the_probabilities_before_and_after(lab, trained):
    """One step is made and stays in view: it is looked at in both texts, former favourites included."""
    after = TEXT.replace("home.", "took took took bread, bread")
    lab.press("Next ▶")
    lab.box.get_by_role("button", name="home.", exact=True).click()
    lab.page.keyboard.type("took took took bread, bread")
    lab.page.keyboard.press("Enter")
    expect(lab.text_box).to_have_value(after)
    expect(lab.box.locator(".lab-compared").first).to_be_visible()
    expect(lab.box.locator(".lab-column")).to_have_count(1)
    bars, now, then = (
        lab.bars(),
        Replay(trained, after).probabilities([[]]),
        Replay(trained, TEXT).probabilities([[]]),
    )
    assert {bar.id for bar in bars} == {*(-now).argsort()[:8].tolist(), *(-then).argsort()[:3].tolist()}
    assert_close({bar.id: bar.p for bar in bars}, now)
    assert_close({bar.id: bar.before for bar in bars}, then)
    assert max(abs(bar.p - bar.before) for bar in bars) > 4e-3  # or nothing was seen here
    assert f"was {100 * bars[0].before:.1f} %" in lab.box.locator(".lab-compared").first.text_content()
    lab.press("forget it")
    expect(lab.box.locator(".lab-compared")).to_have_count(0)


def test_a_word_changed_and_changed_back_gives_the_same_text(lab, trained):
    """Steps that are repeated use up the random numbers that they used when they were drawn."""
    lab.dial("temperature", 1.2)
    drawn = lab.fill().text()
    lab.box.locator(".lab-column").nth(3).click()
    for old, new in (("Ben", "Anna"), ("Anna", "Ben")):
        lab.box.get_by_role("button", name=old, exact=True).click()
        lab.page.keyboard.type(new)
        lab.page.keyboard.press("Enter")
        expect(lab.box.get_by_role("button", name=new, exact=True)).to_be_focused()
        expect(lab.button("Fill")).to_be_disabled()
    assert lab.text() == drawn == fill(*trained, TEXT, temperature=1.2).text


def test_a_text_with_other_blanks_is_compared_with_nothing(lab, trained):
    """The last step of two blanks was in view; now there is one blank, and fewer steps."""
    one = TEXT.replace("[MASK]", "long", 1)
    lab.fill().say(one)
    expect(lab.button("Fill")).to_be_disabled()
    assert lab.text() == fill(*trained, one).text
    assert lab.bars() and all(bar.before is None for bar in lab.bars())
    assert lab.box.locator(".lab-ghost").text_content() == ""


def test_what_is_typed_counts_even_if_fill_is_pressed_at_once(lab, trained):
    other = TEXT.replace("Ben", "Anna")
    lab.text_box.evaluate(
        "(box, text) => { box.value = text; box.dispatchEvent(new Event('input')); }", other
    )
    assert lab.fill().text() == fill(*trained, other).text


def test_the_regions_above_can_show_how_the_rows_come_about(lab):
    lab.fill()
    chips = lab.box.locator(".lab-row").all()
    rows = [
        (chip.locator(".token").text_content(), *chip.locator(".lab-positions span").all_text_contents())
        for chip in chips
    ]
    lab.press("show how these rows come about")
    lanes = [
        lab.page.locator(f'#stage [data-lane="{lane}"][data-i]').all_text_contents()
        for lane in ("tokens", "position_ids", "block_position_ids")
    ]
    assert list(zip(*lanes, strict=True)) == rows


def test_escape_leaves_a_word_as_it_was_and_the_keyboard_where_it_was(lab):
    word = lab.box.locator(".lab-word").nth(2)
    word.focus()
    lab.page.keyboard.press("Enter")
    lab.page.keyboard.type("nonsense")
    lab.page.keyboard.press("Escape")
    expect(lab.text_box).to_have_value(TEXT)
    expect(lab.box.locator(".lab-word").nth(2)).to_be_focused()
    lab.page.keyboard.press("ArrowRight")
    expect(lab.box.locator(".lab-word").nth(3)).to_be_focused()


# ---- inside ----------------------------------------------------------------------------------------------


def test_attention_shows_the_models_weights(lab, trained):
    lab.press("Next ▶")
    lab.press("Next ▶")
    lab.quiet()
    answer = fill(*trained, TEXT).blanks[0].answer.tokens
    example = Replay(trained, TEXT).rows([answer[:2]])
    weights = trained[0].attention_weights(pack([example]), 1)[0][1].detach().numpy()  # (T, T)
    A, T = example.part_a_len, len(example.tokens)
    lab.box.get_by_label("layer 2, head 2").focus()
    lab.page.keyboard.press("Space")
    lab.quiet("layer 2, head 2")
    for row in (A + 1, 2):  # of the step; of Part A, chosen below
        expect(lab.box.locator(".lab-line").first).to_contain_text(f"In layer 2, head 2, row {row} ")
        shown = lab.box.locator(".lab-keys li").evaluate_all(
            "keys => keys.map(key => Number(key.dataset.weight))"
        )
        assert shown == pytest.approx(weights[row], abs=2e-3) and sum(shown) == pytest.approx(1, abs=1e-5)
        lab.box.locator('[data-key="row-2"]').click()
    cell = lab.box.locator(f'.mask td[data-i="{A}"][data-j="3"]')
    assert f"{weights[A, 3]:.2f}" in f"{float(cell.get_attribute('aria-label').split()[-1]):.2f}"
    assert cell.evaluate("cell => cell.style.backgroundColor")
    shut = lab.box.locator(f'.mask td[data-i="2"][data-j="{T - 1}"]')
    assert shut.get_attribute("data-kind") == "AB" and shut.get_attribute("aria-label").endswith(
        "may not see it"
    )
    assert not shut.evaluate("cell => cell.style.backgroundColor")


def test_thumbnails_show_every_head(lab):
    """Each picture has a pixel per row, a colour where a row may look, and none where it may not."""
    lab.quiet()
    rows = lab.box.locator(".lab-row").count()
    sizes = lab.box.locator(".lab-thumbs canvas").evaluate_all(
        "all => all.map(c => [c.width, c.getContext('2d').getImageData(0, 0, 1, 1).data[3],"
        " c.getContext('2d').getImageData(c.width - 1, 0, 1, 1).data[3]])"
    )
    assert sizes == [[rows, 255, 0]] * 6  # two layers of two heads and their mean


@torch.no_grad()
def test_the_lens_ranks_what_was_taken(lab, trained):
    model, answer = trained[0], fill(*trained, TEXT).blanks[0].answer.tokens
    lab.press("Next ▶")
    lab.press("Next ▶")
    batch = pack([Replay(trained, TEXT).rows([answer[:2]])])
    row = len(batch.tokens) - 2
    x = model.token_embedding(batch.tokens) + model.position_embedding(batch.position_ids)
    x = x + model.block_position_embedding(batch.block_position_ids)
    slider, line = lab.box.get_by_role("slider", name="after layer"), lab.box.locator(".lab-line").last
    slider.focus()
    lab.page.keyboard.press("Home")
    for layer in range(3):
        p = F.linear(model.final_norm(x[row]), model.token_embedding.weight).softmax(-1)
        rank = 1 + int((p > p[answer[1]]).sum())
        cells = lab.box.locator(f".lab-lens tbody tr:nth-child({layer + 1}) td").all_text_contents()
        assert cells[0] == str(rank)
        assert lab.box.locator(".lab-lens tr[aria-current] th").text_content() == str(layer)
        assert f"is number {rank} of {model.config.vocab_size}" in line.text_content()
        bars = lab.box.locator(".lab-bars").last.locator(".lab-bar")
        assert float(bars.first.get_attribute("data-p")) == pytest.approx(float(p.max()), abs=2e-3)
        lab.page.keyboard.press("ArrowRight")
        if layer < 2:
            x = model.layers[layer](x, batch.mask, "reference")


# ---- what cannot be done ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["no blank in it", "", "a [CLS] b [MASK]", "[MASK] " + "went to the house " * 40]
)
def test_a_text_that_cannot_be_filled_is_said_beside_it(lab, trained, text):
    with pytest.raises(MinglmError) as refused:
        Draft(
            *trained, text, Dials()
        )  # `fill` would read the end of a text that is too long; the page shows all of it
    lab.say(text)
    assert lab.error.text_content() == str(refused.value)
    assert lab.text_box.get_attribute("aria-invalid") == "true"
    assert lab.button("Fill").is_disabled() and lab.button("Next ▶").is_disabled()
    lab.say(TEXT)
    assert lab.error.text_content() == "" and lab.button("Fill").is_enabled()


@pytest.mark.parametrize(
    ("dial", "value", "message"),
    [
        ("seed", "1.5", "seed: 1.5 is not accepted; a whole number from 0 on is"),
        ("seed", "", "seed: nothing is not accepted; a whole number from 0 on is"),
    ],
)
def test_a_dial_that_means_nothing_is_said_too(lab, dial, value, message):
    lab.dial(dial, value)
    assert lab.error.text_content() == message
    assert lab.button("Fill").is_disabled()


def test_buttons_put_blanks_into_the_text_and_examples_replace_it(lab):
    lab.say("Anna went home")
    lab.text_box.evaluate("box => box.setSelectionRange(4, 10)")
    lab.press("[sMASK]")
    expect(lab.text_box).to_have_value("Anna [sMASK] home")
    assert lab.error.text_content() == ""
    lab.box.get_by_label("an example").select_option(index=2)
    assert lab.text_box.input_value().count("[MASK]") == 1
    assert lab.button("Fill").is_enabled()


def test_the_examples_suit_the_bundled_model(lab):
    examples = lab.box.locator("option[value*=' ']").evaluate_all("all => all.map(one => one.value)")
    model, tokenizer = load(BOX)
    filled = [fill(model, tokenizer, text).text for text in examples[:4]]
    answers = ("singing", "light", "water and went to the kitchen", "wanted to play with the dog")
    assert all(answer in text for text, answer in zip(filled, answers, strict=True)), filled
    assert [text.count("MASK]") for text in examples] == [1, 1, 2, 1, 1]
    assert "[sMASK]" in examples[3] and "[gMASK]" in examples[4]


def test_text_never_becomes_markup(lab, trained):
    lab.say(HOSTILE)
    assert lab.error.text_content() == ""
    lab.fill()
    assert lab.text() == fill(*trained, HOSTILE).text
    assert lab.box.locator("img, b").count() == 0
    lab.box.locator(".lab-word").first.click()
    lab.page.keyboard.type("$& <i>x</i>")
    lab.page.keyboard.press("Enter")
    expect(lab.text_box).to_have_value(HOSTILE.replace("</script><img", "$& <i>x</i>"))
    assert lab.box.locator("i").count() == 0


# ---- recordings, other pages -----------------------------------------------------------------------------


def test_a_recording_says_so_and_can_be_stepped_through(pages, trained):
    lab = pages.open(recorded_spec(*trained, TEXT, "large"))
    assert lab.box.locator(".lab-badge").text_content() == "recorded"
    expect(lab.box.locator(".lab-about")).to_contain_text("too large to run in a page")
    expect(lab.text_box).to_have_value(TEXT)
    expect(lab.text_box).not_to_be_editable()
    assert lab.box.locator(".lab-word, .lab-dials, button.lab-bar").count() == 0
    assert lab.fill().text() == fill(*trained, TEXT).text
    lab.box.locator(".lab-column").nth(1).click()
    answer = fill(*trained, TEXT).blanks[0].answer.tokens
    assert_close({bar.id: bar.p for bar in lab.bars()}, Replay(trained, TEXT).probabilities([answer[:1]]))
    lab.box.locator(".lab-keys").scroll_into_view_if_needed()
    lab.quiet()
    assert lab.box.locator(".lab-keys li").count() == lab.box.locator(".lab-row").count()


def test_a_page_that_begins_with_no_blank_waits_for_one(pages, trained):
    lab = pages.open(live_spec(*trained, text="no blank"))
    expect(lab.error).to_contain_text("no blank in it")
    assert all(lab.button(name).is_disabled() for name in ("Fill", "Play", "◀ Back", "Next ▶", "Reset"))
    lab.dial("seed", 3)
    lab.say(TEXT)
    lab.press("Next ▶")
    expect(lab.box.locator(".lab-column")).to_have_count(1)


def test_a_live_model_says_so_and_how_large_it_is(lab, trained):
    about = lab.box.locator(".lab-about")
    assert lab.box.locator(".lab-badge").text_content() == "live"
    for words in (
        f"small, {trained[0].num_parameters():,} parameters",
        "2 layers of 2 heads",
        "It runs here",
        "knows little",
    ):
        expect(about).to_contain_text(words)


def test_it_runs_in_a_sandboxed_frame(browser, trained):
    page = browser.new_page()
    page.set_content(iframe(html(explain(*EXAMPLE), live_spec(*trained, text=TEXT))))
    frame = page.frame_locator("iframe").locator("#model")
    frame.get_by_role("button", name="Next ▶").click()
    expect(frame.locator(".lab-column")).to_have_count(1)
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(lab, axe, theme):
    lab.page.emulate_media(color_scheme=theme)
    lab.fill()
    lab.box.locator(".lab-word").first.click()
    lab.page.keyboard.type("Ben")
    lab.page.keyboard.press("Enter")
    expect(lab.button("Fill")).to_be_disabled()
    lab.box.locator(".lab-column").nth(1).click()
    lab.press("Search for the likeliest whole fillings", if_enabled=True)
    expect(lab.box.locator(".lab-wide")).to_have_count(5)
    lab.quiet()
    found = axe(lab.page, context="#model").response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
    lab.page.emulate_media(color_scheme=None)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_sticks_out(lab, width):
    """Only boxes that scroll by themselves may hold more than there is room for."""
    lab.page.set_viewport_size({"width": width, "height": 900})
    lab.say(f"The day was [MASK] {'x' * 40} [MASK].")
    lab.fill()
    lab.press("Search for the likeliest whole fillings", if_enabled=True)
    expect(lab.box.locator(".lab-wide")).to_have_count(5)
    lab.quiet()
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= width
    current = lab.box.locator(".lab-column[aria-current=step]").bounding_box()  # scrolled to, in its own box
    assert 0 <= current["x"] and current["x"] + current["width"] <= width
    sticks_out = "e => { const box = e.getBoundingClientRect();"
    sticks_out += " return box.width && (box.right > innerWidth || box.left < 0); }"
    all_boxes = lab.box.locator("*:not(.scroller *, .visually-hidden, option)")
    assert all_boxes.evaluate_all(f"all => all.filter({sticks_out}).map(e => e.className || e.tagName)") == []
    lab.page.set_viewport_size({"width": 1440, "height": 900})


def assert_close(shown, truth):
    """Probabilities by token id, beside those of all tokens."""
    assert shown and all(math.isfinite(p) for p in shown.values())
    assert shown == pytest.approx({token: float(truth[token]) for token in shown}, abs=2e-3)
