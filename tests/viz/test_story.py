"""The animation: it shows the derivation, moves as planned, and is complete when it stands still."""

import ast
import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, need_browser
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from matplotlib.testing.compare import calculate_rms

from minglm import MinglmError, explain
from minglm.viz import figures
from minglm.viz.figures import animated, draw, save_figure, story, storyboard
from minglm.viz.figures.story import fig_story
from minglm.viz.figures.storyboard import Places, captions, shown, timeline
from minglm.viz.palette import KINDS, SPAN_COLOURS, THEMES

STARS = explain("We see the stars at night".split(), [(2, 4), (5, 6)], [1, 0])
ENGLISH = explain(
    "The old man went slowly down to the river and sat there until evening came , thinking .".split(),
    [(3, 5), (9, 12), (15, 16)],
    [2, 0, 1],
)
CHINESE = explain(list("春眠不觉晓处处闻啼鸟夜来风雨声"), [(2, 5), (10, 12)], [1, 0])
ODD = explain(
    [
        "a",
        "int\"ern<b>&ation'",
        "$\\frac$",
        "</text>",
        "\u202e",
        "c\n",
        "",
        "😀",
        "👨\u200d👩\u200d👧",
        "\ud800",
    ],
    [(1, 2), (4, 5), (5, 6), (7, 10)],
    [3, 1, 0, 2],
)
CUT = explain(["a", "b", "c", "d"], [(1, 4)], [0], "document")  # nothing says that it ends here
SAMPLES = {
    "stars": STARS,
    "english": ENGLISH,
    "chinese": CHINESE,
    "odd": ODD,
    "one word": explain(["x"], [(0, 1)], [0]),
    "paper": explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0]),
    "document": explain(["a", "b", "c", "[EOS]"], [(1, 4)], [0], "document"),
    "cut": CUT,
    "many": explain([f"w{i}" for i in range(12)], [(2 * i, 2 * i + 1) for i in range(6)], range(5, -1, -1)),
}
every_sample = pytest.mark.parametrize("d", SAMPLES.values(), ids=SAMPLES)
SVG = "{http://www.w3.org/2000/svg}"


class Read:
    """An animation as it was written: root, by id, and the keyframes {name: [(second, css)]}."""

    def __init__(self, d, **look):
        self.svg = fig_story(d, **look).svg
        self.root = ElementTree.fromstring(self.svg)
        self.css = self.root.find(SVG + "style").text
        self.seconds = float(re.search(r"\.m,\.f\{animation:([\d.]+)s", self.css)[1])
        self.id = {e.get("id"): e for e in self.root.iter() if e.get("id")}
        self.above = {child: parent for parent in self.root.iter() for child in parent}
        self.frames = {}
        for name, body in re.findall(r"@keyframes (k\d+)\{((?:[^{}]*\{[^{}]*\})*)\}", self.css):
            stops = [
                (self.seconds * float(percent[:-1]) / 100, css)
                for when, css in re.findall(r"([^{}]*)\{([^{}]*)\}", body)
                for percent in when.split(",")
            ]
            assert stops == sorted(
                stops, key=lambda stop: stop[0]
            )  # or they would be in another order than written
            assert stops[0][0] == 0 and stops[-1][0] == pytest.approx(self.seconds)
            self.frames[name] = stops

    def motion(self, element):
        """The keyframes of an element, or None."""
        style = element.get("style", "")
        return self.frames[style.removeprefix("animation-name:")] if "animation-name" in style else None

    def opacity(self, element, second):
        """How much of an element is seen at a second, by its own keyframes."""
        stops = [
            (t, float(m[1])) for t, css in self.motion(element) if (m := re.search(r"opacity:([\d.]+)", css))
        ]
        return np.interp(second, *zip(*stops, strict=True))

    def appears(self, element):
        """The first second at which an element, in a group that moves, can be seen."""
        while self.motion(element) is None:
            element = self.above[element]
        return next(t for t, css in reversed(self.motion(element)) if "opacity:0" in css)

    def words(self, element):
        """What is written in an element."""
        return [text.text or "" for text in element.iter(SVG + "text")]


def point(css):
    """(x, y) of a translation: CSS of keyframes, or an attribute."""
    return [float(n) for n in re.search(r"translate\(([-\d.]+)(?:px,| )([-\d.]+)(?:px)?\)", css).groups()]


# ---- it says what the derivation says --------------------------------------------------------------------


@every_sample
def test_every_token_stands_in_the_sentence_over_the_mask_and_beside_it(d):
    read = Read(d)
    for i, token in enumerate(d.text):
        assert read.words(read.id[f"word-{i}"]) == [shown(token)]
    for j, token in enumerate(d.tokens):
        assert read.words(read.id[f"head-{j}"]) == [shown(token)] == read.words(read.id[f"row-{j}"])
    texts = Counter(read.words(read.root))
    for target, n in Counter(shown(t, 8) for t in d.targets if t).items():
        assert texts[target] >= n
    for values in (d.position_ids, d.block_position_ids):
        assert not Counter(map(str, values.tolist())) - texts
    assert {"Part A", "Part B", "position 1", "position 2", "learns"} < set(texts)
    assert set(captions(d).values()) < set(texts)


@every_sample
def test_the_cells_drawn_are_those_of_the_mask(d):
    read = Read(d)
    for i in range(len(d)):
        (strip,) = read.id[f"row-{i}"].iter(SVG + "use")
        cells = list(read.id[strip.get("href")[1:]])
        assert [cell.get("href")[1:] for cell in cells] == d.kind[i].tolist()
        xs = [float(cell.get("x")) for cell in cells]
        assert np.allclose(np.diff(xs), Places(d, 720).pitch, atol=0.11)
        opened = sum(read.id[cell.get("href")[1:]].find(SVG + "rect").get("fill") != "none" for cell in cells)
        assert opened == d.mask[i].sum() == max(d.part_a_len, i + 1)


@every_sample
def test_the_rows_of_the_mask_appear_one_after_the_other_and_light_what_they_see(d):
    read = Read(d)
    rows = [read.appears(read.id[f"row-{i}"]) for i in range(len(d))]
    assert rows == sorted(rows) and len(set(rows)) == len(rows)
    lit = [read.appears(list(read.above[read.id[f"head-{j}"]])[n + 1]) for j, n in heads(read, d)]
    for i, now in enumerate(rows):
        if i >= d.part_a_len or i == 0:  # rows of Part A see all that the first one sees
            assert [second <= now + 0.01 for second in lit] == d.mask[i].tolist()


def heads(read, d):
    """(j, place among its neighbours) of the tokens over the columns; the next neighbour is the token lit."""
    for j in range(len(d)):
        head = read.id[f"head-{j}"]
        yield j, list(read.above[head]).index(head)


@every_sample
def test_a_blanked_word_flies_from_its_place_in_the_sentence_to_its_place_in_part_b_and_home(d):
    read, p = Read(d), Places(d, 720)
    for row in np.flatnonzero(d.block_position_ids > 1):
        word = read.id[f"word-{d.word[row]}"]
        assert d.tokens[row] == d.text[d.word[row]]
        home, there = p.home[d.word[row]], point(read.id[f"head-{row}"].get("transform"))
        assert there[0] == pytest.approx(p.column(row), abs=0.1)
        path = [(t, *point(css)) for t, css in read.motion(word)]
        # it stays until it leaves, and is home before the end
        assert all(at == pytest.approx(home, abs=0.1) for _, *at in (*path[:2], *path[-2:]))
        parked = [t for t, *at in path if at == there]
        start, length = read_steps(read, d)["part_b"]
        assert start < parked[0] < start + length
        start, length = read_steps(read, d)["home"]
        assert start < parked[-1] < start + length
        assert all(at == there for t, *at in path if parked[0] <= t <= parked[-1])  # it stays there meanwhile


def test_the_last_word_of_a_cut_document_is_learned_and_has_no_place_in_part_b():
    read = Read(CUT)
    assert CUT.tokens[-1] == "c" and CUT.targets[-1] == "d" and CUT.text[3] == "d"
    word, (out, landed), (back, arrived) = read.id["word-3"], *story.Story(CUT, "light", 720).flights(0)
    assert len({tuple(point(css)) for _, css in read.motion(word)}) == 1  # it stays where it is
    seen = [
        read.opacity(word, second) for second in (0, out, landed + 0.2, back - 0.2, arrived, read.seconds)
    ]
    assert seen == pytest.approx([1, 1, 0, 0, 1, 1], abs=0.05)


def read_steps(read, d):
    steps = timeline(d)
    assert sum(steps["end"]) == pytest.approx(read.seconds, abs=0.01)
    return steps


@every_sample
def test_spans_fly_one_at_a_time_in_their_order_in_part_b(d):
    drawing = story.Story(d, "light", 720)
    flights = [drawing.flights(k) for k in d.order]
    for way in (0, 1):
        times = [t for flight in flights for t in flight[way]]
        assert times == pytest.approx(sorted(times))


@every_sample
def test_tokens_of_part_a_come_down_from_the_sentence_and_close_the_gap(d):
    read, p = Read(d), Places(d, 720)
    for j in range(d.part_a_len):
        path = [point(css) for _, css in read.motion(read.id[f"head-{j}"])]
        start = p.home[d.word[j]] if d.word[j] >= 0 else p.hole(d.spans[d.span_id[j]])[:2]
        assert path[0] == pytest.approx(start, abs=0.1) and path[-1] == pytest.approx(p.head(j)[:2], abs=0.1)
    columns = [p.head(j)[0] for j in range(len(d))]
    assert np.allclose(np.diff(columns), p.pitch)


# ---- it can be looked at ---------------------------------------------------------------------------------


@every_sample
def test_a_loop_takes_about_twelve_seconds_and_every_caption_can_be_read(d):
    steps = timeline(d)
    assert 11 <= sum(steps["end"]) <= 16 and 12 <= sum(timeline(STARS)["end"]) <= 13
    for name, (_, length) in steps.items():
        assert len(captions(d)[name].split()) / length <= 8 and length >= 1


@every_sample
@pytest.mark.parametrize("width", [460, 720, 1200])
def test_nothing_leaves_the_picture(d, width):
    p = Places(d, width)
    for i, (x, y) in p.home.items():
        half = p.big * p.wide(p.words[i]) / 2
        assert half <= x <= width - half and p.thick / 2 < y < p.aisle
    assert p.left > 80 and p.end <= width - 70
    assert p.top + len(d) * p.high < p.caption < p.height
    boxes = sorted(
        (y, x - p.big * p.wide(p.words[i]) / 2, x + p.big * p.wide(p.words[i]) / 2)
        for i, (x, y) in p.home.items()
    )
    assert all(
        a[2] <= b[1] + 0.01 for a, b in zip(boxes, boxes[1:], strict=False) if a[0] == b[0]
    )  # nothing overlaps


@every_sample
def test_without_motion_the_picture_is_the_last_one(d):
    """Hidden at rest: the captions of earlier steps, the frame, and the [M] where words are away."""
    read = Read(d)
    assert "@media(prefers-reduced-motion:reduce){.m,.f{animation:none!important}}" in read.css
    assert re.search(r"\.h\{opacity:0\}", read.css)
    end = read.seconds - 0.51
    hidden = [e for e in read.root.iter() if "h" in e.get("class", "").split()]
    moving = [e for e in read.root.iter() if read.motion(e)]
    for element in moving:
        assert set(element.get("class").split()) & {"m", "f"}  # or the rule above would not stop it
        if any("opacity" in css for _, css in read.motion(element)):
            assert read.opacity(element, end) == pytest.approx(0 if element in hidden else 1)
        places = [css for t, css in read.motion(element) if "translate" in css and t <= end]
        if places and element not in hidden:
            assert point(places[-1]) == point(element.get("transform", "translate(0 0)"))
    assert len(hidden) == len(captions(d)) - 1 + len(d.spans) + 1
    unseen = {word for element in hidden for word in read.words(element)}
    masks = {d.tokens[row] for row in range(d.part_a_len) if d.span_id[row] >= 0}
    assert unseen == {sentence for name, sentence in captions(d).items() if name != "end"} | masks


@every_sample
@pytest.mark.parametrize("theme", THEMES)
def test_colours_are_the_palettes(d, theme):
    used = set(re.findall(r"#[0-9A-Fa-f]{6}", fig_story(d, theme=theme).svg))
    kinds = {getattr(kind, theme) for kind in KINDS.values()} | {kind.ink[theme] for kind in KINDS.values()}
    assert used <= {*THEMES[theme].values(), *kinds, *SPAN_COLOURS}
    assert THEMES[theme]["back"] in used and getattr(KINDS["AA"], theme) in used


def test_light_and_dark_differ_in_colours_alone():
    light, dark = (re.sub(r"#[0-9A-Fa-f]{6}", "#", fig_story(STARS, theme=theme).svg) for theme in THEMES)
    assert light == dark


def test_letters_are_large_enough_at_the_width_of_a_readme():
    sizes = [float(size) for size in re.findall(r"font-size:([\d.]+)px", Read(STARS).css)]
    assert min(sizes) >= 12
    p = Places(STARS, 720)
    assert p.size > 15.5 and p.big > 1.4 and not p.upright and Places(ENGLISH, 720).upright


# ---- the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_the_pictures_of_the_readme_are_what_the_command_writes(minglm, tmp_path, theme):
    kept = (ROOT / "tutorials" / "results" / f"story-{theme}.svg").read_bytes()
    out = tmp_path / "story.svg"
    said = minglm(
        "show",
        "We see the stars at night",
        "--spans",
        "2:4,5:6",
        "--order",
        "2,1",
        "--figure",
        "story",
        "--theme",
        theme,
        "--out",
        out,
    )
    assert (said.code, said.out, said.err) == (0, f"wrote       {out}\n", "")
    assert out.read_bytes() == kept and len(kept) < 60_000
    assert [path.name for path in tmp_path.iterdir()] == ["story.svg"]


@every_sample
def test_an_image_may_show_it(d):
    """GitHub shows an SVG through <img>, which runs no script and loads nothing."""
    read = Read(d, theme="dark")
    tags = {element.tag.removeprefix(SVG) for element in read.root.iter()}
    assert tags == {"svg", "title", "desc", "style", "defs", "g", "rect", "circle", "path", "use", "text"}
    names = {name for element in read.root.iter() for name in element.attrib}
    assert not [name for name in names if name.startswith("on") or "{" in name]
    assert all(element.get("href", "#").startswith("#") for element in read.root.iter())
    assert not re.search(r"url\(|@import|@font-face|http(?!://www\.w3\.org/2000/svg)", read.svg)
    ids = [element.get("id") for element in read.root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    assert len(read.svg.encode()) < 60_000


def test_it_says_in_words_what_it_shows():
    read = Read(STARS)
    about = read.id["words"].text
    assert read.root.get("aria-labelledby") == "title words" and read.root.get("role") == "img"
    assert (
        about == fig_story(STARS).alt_text
        and "Part A, with one [M] for each blank: We see [M] at [M]." in about
    )
    assert f"{STARS.mask.sum()} of 100 cells of the mask are open" in about
    assert read.id["title"].text == "How GLM learns from a sentence, as an animation"


WORDS = st.text(st.characters(), min_size=1, max_size=14)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=8), st.randoms(use_true_random=False), st.sampled_from([460, 720])
)
def test_any_text_is_escaped(words, random, width):
    cuts = sorted(random.sample(range(len(words) + 1), random.randint(1, (len(words) + 1) // 2) * 2))
    spans = list(zip(cuts[::2], cuts[1::2], strict=True))
    d = explain(words, spans, random.sample(range(len(spans)), len(spans)))
    read = Read(d, width=width)
    assert [read.words(read.id[f"word-{i}"])[0] for i in range(len(words))] == [shown(word) for word in words]
    assert read.svg == fig_story(d, width=width).svg


@pytest.mark.parametrize(
    "d, look, match",
    [
        (explain(["a"] * 30, [(1, 2)], [0]), {}, "32 rows given, 720 pixels hold 24; take a shorter text$"),
        (explain(["a", "b"], [], []), {}, "nothing is blanked; --spans"),
        (explain(["a"], [], [], model="bert"), {}, "'glm' is needed"),
        (STARS, dict(theme="sepia"), "light, dark"),
        (STARS, dict(width=459), "460 to 4000"),
        (STARS, dict(width=4001), "460 to 4000"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(d, look, match):
    with pytest.raises(MinglmError, match=match) as error:
        draw("story", derivation=d, **look)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, match",
    [
        ("x.png", "written as .svg only"),
        ("x", "written as .svg only"),
        ("no/x.svg", "cannot be written"),
        ("taken.svg", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(minglm, tmp_path, name, match):
    (tmp_path / "taken.svg").mkdir()
    said = minglm("show", "a b c", "--spans", "1:2", "--figure", "story", "--out", tmp_path / name)
    assert said.code == 2 and said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"minglm: error: {tmp_path / name}: ") and match in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.svg"]


def test_the_help_names_it(minglm):
    assert re.search(r"\bstory\b", minglm("show", "--help").out) and figures.FIGURES["story"].about


def test_it_needs_no_matplotlib(monkeypatch, tmp_path):
    for name in ("matplotlib", "minglm.viz.figures.canvas", "minglm.viz.figures.grid"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it is an ImportError
    assert save_figure(
        draw("story", derivation=STARS, theme="dark", width=800), tmp_path / "a.svg"
    ).read_text("utf-8")
    for module in (story, storyboard, animated):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        roots = {
            (n.module or "").split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and not n.level
        }
        roots |= {name.name for n in ast.walk(tree) if isinstance(n, ast.Import) for name in n.names}
        assert roots <= set(sys.stdlib_module_names)


# ---- in a browser ----------------------------------------------------------------------------------------

AT = """second => { for (const motion of document.getAnimations()) {
    motion.pause(); motion.currentTime = 1000 * second; } }"""
BOX = """id => { const box = document.getElementById(id).getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2]; }"""
OUTSIDE = """size => [...document.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < 0 || box.top < 0 || box.right > size[0] || box.bottom > size[1]); })
    .map(text => text.textContent)"""
TOO_WIDE = """room => [...document.querySelectorAll("[id^=head-] text")]
    .filter(text => text.getComputedTextLength() > room).map(text => text.textContent)"""


@pytest.fixture(scope="module")
def opened(request, tmp_path_factory):
    """opened(derivation, **context) -> the page of a browser that shows the animation alone."""
    need_browser()
    browser, folder, contexts = request.getfixturevalue("browser"), tmp_path_factory.mktemp("story"), []

    def page(d, **how):
        p = Places(d, 720)
        contexts.append(browser.new_context(viewport=dict(width=720, height=p.height), offline=True, **how))
        page = contexts[-1].new_page()
        page.goto(fig_story(d).save(folder / f"{len(contexts)}.svg").as_uri())
        return page

    yield page
    for context in contexts:
        context.close()


def pixels(page):
    return 255 * imread(io.BytesIO(page.screenshot()))[..., :3]


def test_the_still_picture_is_the_last_one_of_the_animation(opened):
    still, moving = opened(STARS, reduced_motion="reduce"), opened(STARS)
    assert (
        still.evaluate("document.getAnimations().length")
        == 0
        < moving.evaluate("document.getAnimations().length")
    )
    seconds = sum(timeline(STARS)["end"])
    last = pixels(still)
    moving.evaluate(AT, seconds - 0.55)
    assert calculate_rms(pixels(moving), last) < 5  # letters that moved are smoothed in another way: 2.1
    moving.evaluate(AT, sum(timeline(STARS)["rows_b"]) - 0.5)
    assert calculate_rms(pixels(moving), last) > 10  # its last row is not there yet


@pytest.mark.parametrize("name", ["stars", "english"])
def test_in_a_browser_words_fly_where_they_should_and_fit(opened, name):
    d = SAMPLES[name]
    page, p, steps = opened(d, reduced_motion="no-preference"), Places(d, 720), timeline(d)
    page.evaluate(AT, steps["part_a"][0] - 0.01)
    for row in np.flatnonzero(d.block_position_ids > 1):
        assert page.evaluate(BOX, f"word-{d.word[row]}") == pytest.approx(p.head(row)[:2], abs=1)
    page.evaluate(AT, sum(steps["end"]) - 0.55)
    for i in range(len(d.text)):
        assert page.evaluate(BOX, f"word-{i}") == pytest.approx(p.home[i], abs=1)
    assert page.evaluate(OUTSIDE, [720, p.height]) == []
    assert page.evaluate(TOO_WIDE, p.heads if p.upright else p.pitch - 3) == []
