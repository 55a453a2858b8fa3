"""Labels of pictures in Chinese: every one is known, drawn with a font that has it, and put back."""

import json
import re
from importlib.resources import files
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from matplotlib.image import imread

from minglm import GLM, MinglmError, Tokenizer, explain
from minglm.viz import words
from minglm.viz.figures import FIGURES, TEXT, canvas, draw, fig_spans, fig_story, save_figure
from minglm.viz.figures.comparison import fig_comparison
from minglm.viz.figures.curves import fig_curves, fig_runs
from minglm.viz.figures.models import attention_of, fig_query, in_tokens
from minglm.viz.figures.speed import fig_attention
from minglm.viz.figures.translated import can_draw, translated, words_of
from minglm.viz.words.labels import Labels, pairs, parse

SAY = words.labels("zh")
RESULTS = ROOT / "tutorials" / "results"
PAPER = explain("x1 x2 x3 x4 x5 x6".split(), [(2, 3), (4, 6)], [1, 0])
STARS = explain("We see the stars at night".split(), [(2, 4), (5, 6)], [1, 0])
PLAIN = explain("text learns rows".split(), [], [])  # words that labels have, too
font = pytest.mark.skipif(not can_draw("填空"), reason="no installed font has Chinese letters")

# ---- the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("english", "chinese", "unknown"),
    [
        ("step", "步", []),
        ("row 3", "第 3 行", []),
        ("held out, token", "留出集，token", []),
        ("held out, other", "留出集，other", ["other"]),
        ("2 of the 6 tokens", "6 个 token 中的 2 个", []),
        ("reads step", "读 step", []),  # a quotation
        ("says  a !", "说 a ！", []),
        ("row 3. Step 4.", "第 3. Step 4 行。", ["3. Step 4"]),
        ("step.", "一步。", []),
        ("row 3. step.", "第 3 行。一步。", []),
        ("GLM, token", "GLM, token", []),
        ("tokens of the GLM", "GLM 中的 tokens 个", ["tokens"]),
        ("x1, Q and 7%", "x1, Q and 7%", ["x1, Q and 7%"]),
        ("x1, Q, [MASK], $\\alpha$, 7%", "x1, Q, [MASK], $\\alpha$, 7%", []),
        ("", "", []),
    ],
)
def test_a_label_is_looked_up_whole_then_by_sentences_then_by_patterns(english, chinese, unknown):
    table = {
        "step": "步",
        "step.": "一步。",
        "row {}": "第 {} 行",
        "row {}.": "第 {} 行。",
        "held out, {}": "留出集，{}",
        "{a} of the {b}": "{b}中的 {a} 个",
        "{} tokens": "{} 个 token",
        "reads {...}": "读 {...}",
        "says {t...}!": "说{t...}！",
        "token": "token",
        "GLM": "GLM",
    }
    say = Labels(table)
    assert (say(english), say.unknown(english)) == (chinese, unknown)


def test_several_sentences_are_looked_up_one_by_one_and_the_first_table_comes_first():
    say = Labels({"Rows: {...}.": "各行：{...}。", "It ends.": "完。", "{n} rows": "{n} 行"})
    assert say("Rows: a . b. It ends. It ends.") == "各行：a . b。完。完。"
    assert say.with_first({"It ends.": "结束。"})("It ends.") == "结束。"
    assert say("{x} rows") == "{x} 行"  # braces of a label are no fields


def test_a_line_of_a_table_has_as_many_equal_signs_on_both_sides():
    table = parse("# a comment\n\na\\nb = 甲\\n乙\nA = {} = A = {}\n")
    assert table == {"a\nb": "甲\n乙", "A = {}": "A = {}"}
    with pytest.raises(ValueError, match="'A = B = C': a line is"):
        parse("A = B = C")


def test_strings_at_the_same_place_of_two_tables_are_pairs():
    here, there = {"a": [("b", "c")], "n": 1, "same": "x"}, {"a": [("乙", "丙")], "n": 2, "same": "x"}
    assert pairs(here, there) == {"b": "乙", "c": "丙"}


def test_english_needs_no_table_and_the_chinese_one_has_each_label_once_with_the_same_fields():
    assert words.labels("en") is None
    text = (files(words) / "zh_labels.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(parse(text)) == len(lines)
    for english, chinese in parse(text).items():
        numbers, there = re.findall(r"\{[^}]*\}", english), re.findall(r"\{[^}]*\}", chinese)
        places = {f"{{{n}}}" for n in range(len(numbers))}
        assert {*there} <= {*numbers} or {*there} <= places, english


# ---- every label of the library --------------------------------------------------------------------------


def figures_of_the_library(small_run):
    """(name, figure) of each figure, on several samples."""
    every = [f.name for f in FIGURES.values() if f.needs == TEXT and f.name != "story"]
    document = explain("a b c [EOS]".split(), [(1, 4)], [0], "document")
    for d, names in ((PAPER, every), (PLAIN, ("corruption", "shuffles")), (document, ("mask", "positions"))):
        for name in names:
            yield name, draw(name, derivation=d)
    for model in ("bert", "gpt", "prefix", "unilm", "t5"):
        d = explain(STARS.text, STARS.spans, STARS.order, model=model)
        for name in ("mask", "positions", "film"):
            yield name, draw(name, derivation=d, width=420)
    model, tokenizer = GLM.from_pretrained(small_run).eval(), Tokenizer.from_pretrained(small_run)
    for name in ("heads", "query", "infilling", "position_embeddings"):
        yield name, draw(name, derivation=STARS, model=model, tokenizer=tokenizer)
    example, d = in_tokens(STARS, tokenizer)
    yield "query", fig_query(attention_of(model, example), d, head=1, row=0)
    yield "infilling", draw("infilling", model=model, tokenizer=tokenizer, text="We see [MASK].")
    yield "spans", fig_spans([32] * 10)
    metrics = small_run / "metrics.csv"
    yield from (("curves", fig_curves(metrics, title="")), ("curves", fig_runs([metrics, metrics])))
    read = lambda name: json.loads((RESULTS / name).read_text(encoding="utf-8"))  # noqa: E731
    yield from (
        ("attention", fig_attention(read("attention.json"))),
        ("compare", fig_comparison(read("comparison.json"))),
    )


def test_every_label_and_alternative_text_of_the_library_is_known(small_run):
    unknown, seen = {}, set()
    for name, fig in figures_of_the_library(small_run):
        seen.add(name)
        for text in [*words_of(fig), fig.alt_text]:
            if pieces := [piece for piece in SAY.unknown(text) if small_run.name not in piece]:
                unknown[name] = pieces
            assert can_draw(SAY(text)) or not can_draw("填空"), text
    assert unknown == {} and seen | {"story"} == {*FIGURES, "compare"}


# ---- drawing ---------------------------------------------------------------------------------------------


@font
def test_a_figure_is_drawn_in_chinese_and_put_back():
    fig = draw("mask", derivation=STARS, width=460)
    before, alt = words_of(fig), fig.alt_text
    lines = [text.get_text() for text in fig.axes[0].texts]
    with translated(fig, SAY):
        inside = [text.get_text() for text in fig.axes[0].texts]
        assert "谁能看到谁" in inside and "stars" in inside and fig.alt_text == SAY(alt) != alt
        assert not any("sees" in text for text in inside)
        assert "".join(inside).count("论文从 1 数起") == 1  # a sentence that English breaks elsewhere
    assert (words_of(fig), fig.alt_text) == (before, alt)
    assert [text.get_text() for text in fig.axes[0].texts] == lines


@font
@pytest.mark.parametrize("width", [320, 900])
def test_no_chinese_sentence_needs_more_lines_than_the_english_one_or_is_cut(width):
    for name in ("corruption", "positions", "mask", "film", "family", "shuffles", "batch", "tiles"):
        fig = draw(name, derivation=STARS, width=width)
        whole = [text for text in fig.axes[0].texts if hasattr(text, "line_of")]
        sentences = {text.line_of[:1] + text.line_of[2:]: 0 for text in whole}
        for text in whole:
            sentences[text.line_of[:1] + text.line_of[2:]] += 1
        for (sentence, room, size, bold), n in sentences.items():
            lines = canvas.wrapped(SAY(sentence), room, size, bold)
            assert len(lines) <= n and not any(line.endswith("…") for line in lines), (name, sentence)


@font
def test_labels_of_ticks_legends_and_titles_are_translated_and_numbers_stay(tmp_path):
    fig = Figure()
    ax = fig.subplots()
    ax.plot([0, 1], [0, 1], label="measured")
    ax.set(title="texts", xlabel="step", ylabel="loss, nats per token")
    ax.set_xticks([0, 1], ["rows", "7"])
    ax.legend()
    fig.alt_text = "No held-out loss yet."
    with translated(fig, SAY):
        fig.draw_without_rendering()
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["行", "7"]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["实测"]
        assert (ax.get_title(), ax.get_xlabel()) == ("文本数", "步")
    fig.draw_without_rendering()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["rows", "7"]
    english, chinese = save_figure(fig, tmp_path / "a.png"), save_figure(fig, tmp_path / "b.png", "zh")
    assert (imread(english) != imread(chinese)).any()
    assert save_figure(fig, tmp_path / "c.png").read_bytes() == english.read_bytes()


def test_words_of_the_text_stay(tmp_path):
    fig = draw("mask", derivation=PLAIN)
    assert not {"text", "rows"} & {*words_of(fig)}  # these are tokens; the labels "position", ... are not
    assert "position" in words_of(fig)
    story = fig_story(explain("blank learns rows position".split(), [(1, 2)], [0])).translated("zh")
    texts = [text.text for text in ElementTree.fromstring(story.svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"空 1", "位置 1", "要学的", "learns", "rows"} <= {*texts} and "blank 1" not in texts
    assert not SAY.unknown(fig_story(STARS).alt_text)
    assert all(
        not SAY.unknown(text) for text in re.findall(r'class="[cs][^>]*>([^<]+)</text>', fig_story(STARS).svg)
    )


def test_without_a_font_one_line_says_what_to_install(tmp_path, monkeypatch):
    few = ["DejaVu Sans"], frozenset(range(0x2000))
    monkeypatch.setattr("minglm.viz.figures.translated.families", lambda: few)
    with pytest.raises(MinglmError, match="no installed font has Chinese letters; install one"):
        save_figure(draw("mask", derivation=PAPER), tmp_path / "a.png", "zh")
    assert not (tmp_path / "a.png").exists()


# ---- the command -----------------------------------------------------------------------------------------


@font
def test_show_and_plot_write_chinese_figures(minglm, tmp_path, small_run):
    out = tmp_path / "a.svg"
    said = minglm("show", "a b c", "--spans", "1:2", "--figure", "mask", "--lang", "zh", "--out", out)
    assert (said.code, said.err) == (0, "") and "GLM 的注意力掩码" in out.read_text(encoding="utf-8")
    out = tmp_path / "b.svg"
    assert minglm("plot", small_run, "--lang", "zh", "--out", out).code == 0
    assert "训练损失：" in out.read_text(encoding="utf-8")
    said = minglm("show", "a b c", "--lang", "zh")
    assert said.code == 2 and "--lang goes with --figure NAME" in said.err


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chinese_animation_of_the_readme_is_what_the_command_writes(minglm, tmp_path, theme):
    said = (
        "show|We see the stars at night|--spans|2:4,5:6|--order|2,1|--figure|story|--lang|zh|--theme".split(
            "|"
        )
    )
    assert minglm(*said, theme, "--out", tmp_path / "story.svg").code == 0
    kept = RESULTS / f"story-{theme}.zh.svg"
    assert (tmp_path / "story.svg").read_bytes() == kept.read_bytes()
