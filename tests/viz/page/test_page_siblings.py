"""The siblings of the page: one network as GLM, GPT and BERT, in a real browser as in Python."""

import json
from pathlib import Path

import pytest
import torch

from minglm import GLMMask, explain
from minglm.use.models import SIBLINGS, read_siblings
from minglm.viz.derivation import EXAMPLE
from minglm.viz.page import html, weights
from minglm.viz.page.siblings import QUESTIONS, siblings_spec
from minglm.viz.words import LANGUAGES

FOLDER = Path(weights.__file__).parent


@pytest.fixture(scope="module")
def page(browser):
    """A blank page that has read what siblings.js needs; it must not complain."""
    page, complaints = browser.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    data = json.dumps({"language": "en"})
    page.set_content(
        f'<html lang="en"><body><script id="data" type="application/json">{data}</script></body></html>'
    )
    code = "\n".join(
        (FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("derive", "glm", "dom", "siblings")
    )
    page.add_script_tag(
        content=f'"use strict";\nconst PACKED = {json.dumps({"data": {"languages": LANGUAGES}})};\n{code}'
    )
    yield page
    page.close()
    assert not complaints


@pytest.fixture(scope="module")
def filled(page):
    """{family: for each question the text, steps and rows of the page}."""
    return page.evaluate(
        """spec => Object.fromEntries(Object.entries(glmSiblings(spec)).map(([family, model]) =>
          [family, spec.questions.map(({text, lengths}) => {
            const {reading, ...found} = fillAs(family, model, text, lengths);
            const {tokens, position_ids, block_position_ids, part_a_len} = reading;
            return {...found, columns: [tokens, position_ids, block_position_ids], part_a_len};
          })]))""",
        siblings_spec(),
    )


@torch.no_grad()
@pytest.mark.parametrize("family", SIBLINGS)
def test_each_token_is_the_likeliest_and_as_likely_as_python_says(filled, family):
    """Up to what a page's weights lose by rounding: two answers may be equally good."""
    model = read_siblings()[0][family]
    for found in filled[family]:
        mask = GLMMask.packed([len(found["columns"][0])], [found["part_a_len"]])
        p = model(*map(torch.tensor, found["columns"]), mask).softmax(-1)
        for step in found["steps"]:
            assert step["p"] == pytest.approx(p[step["row"], step["token"]].item(), abs=0.03)
            assert step["p"] >= p[step["row"]].max().item() - 0.03


def test_each_family_reads_with_its_own_mask_and_fills_its_blanks(filled):
    tokenizer = read_siblings()[1]
    for n, (text, lengths) in enumerate(QUESTIONS):
        gpt, bert, glm = (filled[name][n] for name in ("gpt", "bert", "glm"))
        part_a = len(tokenizer.encode(text, special=True)) + 2  # cls and eos
        rows = {name: len(filled[name][n]["columns"][0]) for name in SIBLINGS}
        assert (gpt["part_a_len"], bert["part_a_len"], glm["part_a_len"]) == (0, rows["bert"], part_a)
        assert rows["gpt"] == rows["bert"] == part_a + sum(lengths) - len(lengths)
        assert rows["glm"] == part_a + len(glm["steps"])  # with the end of each blank
        masks = [row for row, token in enumerate(bert["columns"][0]) if token == tokenizer.special.mask]
        assert [step["row"] for step in bert["steps"]] == masks
        assert all(gpt["columns"][0][step["row"] + 1] == step["token"] for step in gpt["steps"])
        assert [step["row"] + 1 for step in gpt["steps"]] == masks
        for found in (gpt, bert):
            assert found["columns"][1:] == [list(range(rows["gpt"])), [0] * rows["gpt"]]
            words = iter(tokenizer.pieces([step["token"] for step in found["steps"]]))
            expected = text
            for length in lengths:
                expected = expected.replace(" [MASK]", "".join(next(words) for _ in range(length)), 1)
            assert found["text"] == expected and next(words, None) is None


def test_the_panel_shows_three_answers_and_says_which_sentences_are_true(page, filled):
    spec = siblings_spec()
    page.evaluate("spec => { document.body.append(siblingsPanel(spec)); }", spec)
    for n, question in enumerate(spec["questions"]):
        page.get_by_role("button", name=question["text"], exact=True).click()
        for name in SIBLINGS:
            answer = page.locator(f'[data-family="{name}"]')
            text = filled[name][n]["text"]
            assert answer.locator(".sib-text").inner_text() == text
            assert answer.get_attribute("data-right") == json.dumps(text in question["right"])


def test_the_page_of_the_bundled_model_has_them_and_a_page_without_a_model_has_not():
    model, tokenizer = read_siblings()[0]["glm"], read_siblings()[1]
    spec = weights.live_spec(model, tokenizer)
    whole, alone = html(explain(*EXAMPLE), spec), html(explain(*EXAMPLE))
    assert "lives on the farm and eats mice" in whole and "lives on the farm and eats mice" not in alone
