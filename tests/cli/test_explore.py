"""`minglm explore`: which page is written, and what is refused. tests/viz/page tests what the page does."""

import json
import re

import pytest
import torch

from minglm import GLM, GLMConfig, Tokenizer, explain
from minglm.use.models import BOX
from minglm.viz.derivation import EXAMPLE, SENTENCE, Derivation
from minglm.viz.page import Explorer, html, iframe, weights
from minglm.viz.typed import read


def data_of(page):
    """The JSON that a page opens with."""
    return json.loads(re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.DOTALL)[1])


def write_page(minglm, tmp_path, *words):
    result = minglm("explore", *words, "--out", tmp_path / "glm.html")
    assert result.code == 0, result.err
    page = (tmp_path / "glm.html").read_text(encoding="utf-8")
    assert f"{len(page.encode()) / 1000:,.0f} KB" in result.out
    return data_of(page), page


def test_it_opens_with_the_bundled_model_alive_in_it(minglm, tmp_path):
    data, page = write_page(minglm, tmp_path)
    assert Derivation.from_json(data["derivation"]).to_json() == explain(*SENTENCE).to_json()
    assert data["model"]["kind"] == "live" and data["model"]["name"] == "the bundled model"
    assert "[MASK]" in data["model"]["text"] and len(page.encode()) <= 6_500_000
    assert str(BOX.parent) not in page


def test_without_a_model_it_is_light_and_opens_at_the_papers_example(minglm, tmp_path):
    data, page = write_page(minglm, tmp_path, "--no-model")
    assert Derivation.from_json(data["derivation"]).to_json() == explain(*EXAMPLE).to_json()
    assert data["model"] is None and len(page.encode()) <= 178_000


def test_spans_are_taken_as_typed_or_drawn_as_show_draws_them(minglm, tmp_path):
    spans = ("--spans", "0:1,2:4", "--order", "2,1", "--no-model")
    data, _ = write_page(minglm, tmp_path, "a b c d e f", *spans)
    assert data["derivation"] == explain("a b c d e f".split(), [(0, 1), (2, 4)], [1, 0]).to_json()
    text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    for words in (("--seed", 3), ("--objective", "sentence"), ("--objective", "document", "--seed", 1)):
        data, _ = write_page(minglm, tmp_path, text, *words, "--no-model")
        assert data["derivation"] == json.loads(minglm("show", text, *words, "--json").out)


def test_a_run_comes_with_its_name_alone_and_its_text_keeps_the_blanks(minglm, tmp_path, small_run):
    text = "Anna went to the [MASK] of Ben. So Anna [MASK] home."
    data, page = write_page(minglm, tmp_path, text, "--model", small_run)
    spec = data["model"]
    assert (spec["kind"], spec["text"], spec["name"]) == ("live", text, small_run.name)
    assert str(small_run.parent) not in page
    assert data["derivation"] == read(text).explain().to_json()
    assert data["derivation"]["targets"].count("?") == 2


def test_blanked_words_are_the_models_blanks(minglm, tmp_path, small_run):
    text = "Anna went to the house of Ben."
    data, _ = write_page(minglm, tmp_path, text, "--model", small_run, "--spans", "1:3,4:5", "--order", "2,1")
    assert data["derivation"] == explain(text.split(), [(1, 3), (4, 5)], [1, 0]).to_json()
    assert data["model"]["text"] == "Anna [MASK] the [MASK] of Ben."
    data, _ = write_page(minglm, tmp_path, text, "--model", small_run)  # drawn
    assert data["model"]["text"].count("[MASK]") == len(data["derivation"]["spans"]) >= 1


@pytest.mark.parametrize(
    "words", [("fill", "a [MASK]"), ("show", "a b", "--figure", "heads", "--out", "f.svg")]
)
def test_the_bundled_model_is_called_box_in_every_command(minglm, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert minglm(*words, "--model", "box").code == 0


def test_a_text_comes_with_the_run_where_none_is_given(minglm, tmp_path, small_run):
    data, _ = write_page(minglm, tmp_path, "--model", small_run)
    assert "[MASK]" in data["model"]["text"]


def test_a_model_that_is_too_large_is_recorded(minglm, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAX_LIVE_PARAMETERS", 1_000_000)
    tokenizer = Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)
    torch.manual_seed(0)
    GLM(GLMConfig(tokenizer.vocab_size, 256, 2, 4, 64)).save_pretrained(tmp_path / "large", tokenizer)
    data, page = write_page(minglm, tmp_path, "the [MASK] sat", "--model", tmp_path / "large")
    assert data["model"]["kind"] == "recorded" and len(page.encode()) <= 4_000_000


HOSTILE = '</script><img src=x onerror=alert(1)> <!-- <script> "quoted" %%DATA%% \u2028 א <b>'


def test_no_text_can_leave_the_data_it_stands_in(minglm, tmp_path):
    data, page = write_page(minglm, tmp_path, HOSTILE, "--spans", "1:2", "--no-model")
    assert data["derivation"]["text"] == HOSTILE.split()
    assert page.count("<script") == html(explain(*EXAMPLE)).count("<script") and page.count("<img") == 0
    frame = iframe(page)
    assert frame.count("<") == 2 and 'sandbox="allow-scripts allow-downloads"' in frame


def test_the_page_opens_at_a_cell_of_the_mask(minglm, tmp_path):
    words = ("a b c d", "--spans", "1:2", "--order", "1", "--no-model")
    data, _ = write_page(minglm, tmp_path, *words, "--pin", "4,5")
    assert data["pin"] == [4, 5] and write_page(minglm, tmp_path, *words)[0]["pin"] is None
    explorer = Explorer(explain("a b c d".split(), [(1, 2)], [0]), (4, 5))
    assert repr(explorer) == 'minglm explore "a b c d" --spans 1:2 --order 1 --pin 4,5 --open'
    assert data_of(explorer.page) == data


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    d = explain(["x1", "x2"], [(0, 1)], [0])
    assert 'id="story"' in html(d) and 'id="story"' not in html(d, story=False)
    assert d._repr_html_() == iframe(html(d, story=False)) and d._repr_html_().startswith("<iframe ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a b", "--spans", "1:9"), "1:9"),
        (("  ",), "at least one word"),
        (("a b", "--spans", "0:1", "--order", "2"), "'2'"),
        (("--spans", "0:1"), "--spans needs a text"),
        (("a b", "--model", "nowhere"), "nowhere"),
        (("a [MASK]", "--spans", "1:3"), "1:3"),
        (("--model", "box", "--no-model"), "do not go together"),
        (("a b", "--spans", "0:99"), "0:99"),
        (("word " * 99 + "[MASK]", "--model", "RUN"), "longer than this model reads (64)"),
        (("a b", "--spans", "0:1", "--pin", "9,0"), "cell 9,0 is not in the mask"),
        (("a b", "--out", "no/such/folder/x.html"), "a file in a folder that exists"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_nothing_is_written(
    minglm, tmp_path, monkeypatch, small_run, words, says
):
    monkeypatch.chdir(tmp_path)
    result = minglm("explore", *(small_run if word == "RUN" else word for word in words))
    assert (
        result.code == 2
        and says in result.err
        and result.err.count("\n") == 1
        and not list(tmp_path.iterdir())
    )
