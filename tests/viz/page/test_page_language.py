"""The page in Chinese, in a real Chromium: every word of it, at every width, and a switch that keeps all."""

import pytest
from explorer_page import OVERLAPS, leaves

from minglm import GLM, Tokenizer
from minglm.viz import page
from minglm.viz.derivation import EXAMPLE, explain
from minglm.viz.page.weights import model_spec
from minglm.viz.words import LANGUAGES

TEXT = "Ben went home. The day was [MASK], and the night was [MASK]."
ENGLISH, CHINESE = LANGUAGES["en"], LANGUAGES["zh"]
FRAMES = len(CHINESE["story"]["frames"])

# All that a reader sees or hears but tokens (quoted ones, too), code and names: [text, where].
SAID = """() => {
  const names = ".token, bdi, code, .mono, .head, .lab-text, .lab-edit, #to-copy, button[lang], option";
  const spoken = ["aria-label", "title", "aria-valuetext", "data-empty", "data-name"], found = [];
  const add = (text, node) => !node.closest(names) &&
    found.push([text.replace(/“[^”]*”/g, ""), node.id || node.className || node.tagName]);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode())
    if (!node.parentElement.closest("script, noscript")) add(node.data, node.parentElement);
  for (const name of spoken)
    for (const node of document.querySelectorAll(`[${name}]`)) add(node.getAttribute(name), node);
  return [...found, [document.title, "title"]].filter(([text]) => /[A-Za-z]/.test(text));
}"""
LATIN = r"/[A-Za-z']{2,}([ ,.:;]+[A-Za-z']{2,}){3}/"  # four words in a row
SENTENCES = {
    text for key, text in leaves(ENGLISH).items() if isinstance(text, str) and text.count(" ") > 1
} - {text for text in leaves(CHINESE).values() if isinstance(text, str)}


@pytest.fixture(scope="module")
def file(tmp_path_factory, small_run):
    """A page with a model and the story."""
    model, tokenizer = GLM.from_pretrained(small_run), Tokenizer.from_pretrained(small_run)
    path = tmp_path_factory.mktemp("page") / "glm.html"
    spec = model_spec(model, tokenizer, TEXT, ENGLISH["lab"]["bundled"])
    path.write_text(page.html(explain(*EXAMPLE), spec), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(
        offline=True, viewport=dict(width=1440, height=900), reduced_motion="reduce"
    )
    context.set_default_timeout(120_000)  # a busy machine is no failure
    yield context
    context.close()


@pytest.fixture
def open_page(context, file):
    """Open the page with a query; it must not complain."""
    tab, complaints = context.new_page(), []
    tab.on(
        "console", lambda message: message.type in ("error", "warning") and complaints.append(message.text)
    )
    tab.on("pageerror", lambda error: complaints.append(str(error)))

    def go(query="", width=1440):
        tab.set_viewport_size(dict(width=width, height=900))
        tab.goto(file + query)
        return tab

    yield go
    tab.close()
    assert complaints == []


def foreign(tab):
    """Texts in which four English words follow one another, or that are a sentence of the English page."""
    said = tab.evaluate(SAID)
    latin = tab.evaluate(f"(said) => said.filter(([text]) => {LATIN}.test(text))", said)
    return latin + [entry for entry in said if entry[0].strip() in SENTENCES]


SCENES = [
    *[
        f"byId('story').querySelector('.story-player button:nth-child(2)').click() /* {n} */"
        for n in range(13)
    ],
    "document.querySelectorAll('#story details').forEach((node) => (node.open = true))",
    *[f"document.querySelectorAll('.preset')[{n}].click()" for n in range(12)],
    *[f"set({{step: {n}, pin: null}})" for n in range(9)],
    "set({step: 8, walk: 67})",
    "set({beside: BESIDE, only: true, step: 0, walk: null})",
    "maskMatrix.draw(viewOf(app.derivation, {canvas: true}))",
    "app.setText(['a', 'b'])",
    "app.lab.advance(Infinity)",
    "app.lab.change(TEXT)",
    "app.lab.showAttention()",
    "app.lab.showLens(0)",
    "app.lab.turn('topK', 3), app.lab.turn('topP', 0.5), app.lab.turn('temperature', 1)",
    "copy('python', '')",
    "editSpans([[0, 9]])",
    "set({order: [5]})",
    "complain(''), byId('text').value = '', byId('text').dispatchEvent(new Event('input'))",
    "byId('text').value = 'w '.repeat(200), byId('text').dispatchEvent(new Event('input'))",
    "byId('slices').value = 'x', byId('slices').dispatchEvent(new Event('change'))",
    *[f"byId('sample-{name}').value = '-1', submit()" for name in ("seed", "mean", "ratio")],
    "readAddress('#t=a&objective=x')",
    "readAddress('#t=a&t=b&spans=0:9')",
    "app.lab.searchWhole()",
    "app.lab.dial('seed', '')",
    "app.lab.change('no blank')",
    "app.lab.change('x'.repeat(999) + '[MASK]')",
]


def test_in_chinese_nothing_is_said_in_english_whatever_one_does(open_page):
    tab = open_page("?lang=zh")
    assert tab.evaluate("[document.documentElement.lang, document.title]") == ["zh", CHINESE["page"]["title"]]
    assert foreign(tab) == []
    submit = "const submit = () => byId('sampling').dispatchEvent(new Event('submit', {cancelable: true}));"
    for scene in SCENES:
        tab.evaluate(f"(TEXT) => {{ {submit} {scene}; }}", TEXT.replace("day", "key"))
        tab.wait_for_timeout(20)
        assert foreign(tab) == [], scene
    errors = tab.locator(".error:visible").all_inner_texts()
    assert len(errors) == 2 and "超过" in errors[0] and "互不重叠" in errors[1]


def test_the_check_for_foreign_words_would_find_some(open_page):
    assert len(foreign(open_page())) > 50


def test_without_a_parameter_the_page_is_in_its_own_language(open_page, small_run, minglm, tmp_path):
    tab = open_page()
    assert (tab.evaluate("document.documentElement.lang"), tab.title()) == ("en", ENGLISH["page"]["title"])
    out = tmp_path / "zh.html"
    assert minglm("explore", "--no-model", "--lang", "zh", "--out", out).code == 0
    text = out.read_text(encoding="utf-8")
    assert '<html lang="zh">' in text and f"<title>{CHINESE['page']['title']}</title>" in text
    assert CHINESE["page"]["noscript"] in text
    tab.goto(out.as_uri())
    assert tab.title() == CHINESE["page"]["title"] and foreign(tab) == []
    tab.goto(out.as_uri() + "?lang=en")
    assert tab.title() == ENGLISH["page"]["title"]
    tab.goto(out.as_uri() + "?lang=tlh")  # not spoken here
    assert tab.title() == CHINESE["page"]["title"]
    assert minglm("explore", "--lang", "tlh").code == 2


STATE = """() => {
  const {answer, ...state} = app.state, lab = app.lab;
  const story = byId("story").querySelector("[data-frame]").dataset.frame;
  const values = [...document.querySelectorAll("#sampling input, #lab-text")].map((node) => node.value);
  return {state, answer, story, values, lab: [lab.run.text, lab.run.steps.length, lab.at, lab.dials],
          filled: document.querySelector(".lab-text").textContent, address: address(),
          open: [...document.querySelectorAll("details")].map((node) => node.open)};
}"""


def test_the_switch_keeps_the_state_and_back_returns_to_the_language(open_page):
    tab = open_page()
    for scene in (
        "document.querySelectorAll('.preset')[9].click()",
        "set({step: 5, beside: ['gpt']})",
        "byId('sample-seed').value = '7'",
        "document.querySelector('.more').open = true",
        "app.lab.turn('temperature', 0.5), app.lab.refill(), app.lab.advance(Infinity)",
        "byId('story').querySelector('.story-player button:nth-child(2)').click()",
    ):
        tab.evaluate(f"() => void ({scene})")
    while not tab.evaluate("app.lab.run.done && location.hash.slice(1) === address()"):
        tab.wait_for_timeout(50)
    before = tab.evaluate(STATE)
    assert before["lab"][1] > 1 and before["story"] == "answer"
    tab.get_by_role("button", name="中文", exact=True).click()
    assert tab.evaluate(STATE) == before and foreign(tab) == []
    assert tab.evaluate("document.activeElement.textContent") == "English"
    assert tab.locator("#answer").inner_text() == CHINESE["page"]["asked"].format(
        answer=CHINESE["presets"]["gmask"][1], where="zai-org/ChatGLM-6B#498"
    )
    while not tab.evaluate("location.search === '?lang=zh' && location.hash.slice(1) === address()"):
        tab.wait_for_timeout(50)
    tab.go_back()
    assert tab.evaluate("document.documentElement.lang") == "en" and tab.evaluate(STATE) == before
    tab.go_forward()
    assert tab.evaluate("document.documentElement.lang") == "zh" and tab.evaluate(STATE) == before
    tab.reload()
    assert tab.evaluate("document.documentElement.lang") == "zh"
    assert tab.evaluate(STATE)["address"] == before["address"]


def test_after_a_switch_everything_still_works_once(open_page):
    tab = open_page()
    for name in ("中文", "English", "中文"):
        tab.get_by_role("button", name=name, exact=True).click()
    tab.evaluate("set({step: 0, walk: null})")
    tab.locator("#next").click()
    assert tab.evaluate("app.state.step") == 1
    tab.locator("#chips [data-i='0']").click()
    assert tab.evaluate("app.state.spans.length") == 3
    assert tab.locator("#family figure").count() == 4 and tab.locator("#story .story-box").count() == 1
    assert tab.locator("#theme").count() == 1 and tab.evaluate("app.addressed.length") == 1


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_in_chinese_no_box_meets_another_and_axe_finds_nothing(open_page, axe, width):
    tab = open_page("?lang=zh", width)
    for scene in ("1", "document.querySelectorAll('.preset')[8].click()", "app.lab.advance(Infinity)"):
        tab.evaluate(f"() => void ({scene})")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, scene
        assert tab.evaluate(OVERLAPS) == [], scene
    if width == 768:
        return
    tab.emulate_media(color_scheme="dark" if width == 360 else "light")
    found = axe(tab)
    assert found.violations_count == 0, found.generate_report()
