"""What the tests of the explorer share: the opened page, constants, and how they point at things in it."""

from types import SimpleNamespace

import pytest

from minglm.viz import page
from minglm.viz.derivation import EXAMPLE, explain

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


def looks(test):
    """Mark a test that points at the page and changes nothing: the next test need not load it again."""
    test.looks = True
    return test


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


def chip(tab, i):
    return tab.locator(f"#chips [data-i='{i}']")


def copied(tab, name):
    """What a button copies; where the clipboard is refused, it stands in a text area instead."""
    tab.evaluate("() => void (navigator.clipboard.writeText = async () => {throw new Error('refused')})")
    button(tab, name).click()
    tab.locator("#to-copy").wait_for()
    assert tab.evaluate("getSelection().toString() || byId('to-copy').selectionEnd > 0")
    return tab.locator("#to-copy").input_value()


def lit(tab):
    """{lane: indices} of what is lit now."""
    return tab.evaluate("""() => {
        const lanes = {}, all = (what) => [...document.querySelectorAll(what)];
        for (const cell of all("#stage [data-lit]")) (lanes[cell.dataset.lane] ??= []).push(+cell.dataset.i);
        if (app.state.step === LAST) lanes.mask = all("#grid tbody tr").map((row) => +row.dataset.i);
        return lanes;
    }""")


def leaves(words, path=()):
    """Return {where in a table: its text or number}."""
    if isinstance(words, dict | list | tuple):
        entries = words.items() if isinstance(words, dict) else enumerate(words)
        return {key: leaf for name, value in entries for key, leaf in leaves(value, (*path, name)).items()}
    return {path: words}
