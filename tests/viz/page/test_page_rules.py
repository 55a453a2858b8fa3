"""The rules of the page, in JavaScript, against those in Python: the same numbers, masks and sentences."""

import json
import random

import pytest

from minglm import Rng, Span, sample_spans
from minglm.viz import page
from minglm.viz.columns import characters
from minglm.viz.derivation import EOS_TEXTS, EXAMPLE, explain, why
from minglm.viz.typed import draw_spans, split
from minglm.viz.words import MODELS

AWKWARD = [
    "春眠",
    "不",
    "😀",
    "👨\u200d👩\u200d👧",
    "e\u0301",
    "שלום",
    "a b",
    "\x1b[31m",
    "{key}",
    "{",
    "$&",
    "</script>",
    "[EOS]",
]
OBJECTIVES = ("token", "sentence", "document")


@pytest.fixture(scope="module")
def javascript(browser, tmp_path_factory):
    """javascript("f", list) -> [f(item) for item in list], computed in the page, everything as JSON."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    path.write_text(page.html(explain(*EXAMPLE)), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())

    def run(function, items):
        call = f"(items) => JSON.stringify(JSON.parse(items).map({function}))"
        return json.loads(tab.evaluate(call, json.dumps(items)))

    yield run
    tab.close()


def random_case(rng, model):
    """A text with spans anywhere, neighbours too, in any order."""
    n = rng.randint(1, 14)
    text = [rng.choice(AWKWARD) if rng.random() < 0.2 else f"x{i}" for i in range(n)]
    text[:-1] = [
        token if token not in EOS_TEXTS else "x" for token in text[:-1]
    ]  # the end of a document is at the end
    spans, i = [], 0
    while (i := i + rng.randint(0, 3)) < n:
        end = min(n, i + rng.randint(1, 4))
        spans.append([i, end])
        i = end
    order = rng.sample(range(len(spans)), len(spans))
    return dict(text=text, spans=spans, order=order, objective=rng.choice(OBJECTIVES), model=model)


def edge_cases(model):
    """No span, all of the text, neighbours, one token, a long text; an end of document in the last span."""
    letters = list("abcdef")
    for text, spans, order in (
        (letters, [], []),
        (letters, [[0, 6]], [0]),
        (letters, [[0, 2], [2, 3], [3, 6]], [2, 0, 1]),
        (["x"], [[0, 1]], [0]),
        (["x"], [], []),
        (["a", "b", "[EOS]"], [[1, 3]], [0]),
        (["a", "b", "<|endoftext|>"], [[1, 3]], [0]),
        ([str(i) for i in range(60)], [[i, i + 2] for i in range(0, 60, 5)], list(range(11, -1, -1))),
        (AWKWARD[:-1], [[0, 3], [5, 9]], [1, 0]),
        (["a", "[MASK]", "b", "[gMASK]"], [[0, 1], [1, 2], [3, 4]], [2, 1, 0]),
        (["a", "[MASK]", "b", "[sMASK]"], [[0, 2]], [0]),
    ):
        for objective in OBJECTIVES:
            yield dict(text=text, spans=spans, order=order, objective=objective, model=model)


def derivation_of(case):
    return explain(
        case["text"],
        [Span(*span) for span in case["spans"]],
        case["order"],
        case["objective"],
        model=case["model"],
    )


def test_rows_masks_and_steps_are_those_of_python_for_every_model(javascript):
    rng = random.Random(0)
    cases = [random_case(rng, model) for model in MODELS for _ in range(50)]
    cases += [case for model in MODELS for case in edge_cases(model)]
    got = javascript("(given) => derive(given, DATA.words)", cases)
    for case, here in zip(cases, got, strict=True):
        expected = json.loads(json.dumps(derivation_of(case).to_json()))
        assert here.keys() == expected.keys()
        assert [name for name in expected if here[name] != expected[name]] == [], case


def test_every_cell_is_explained_in_the_words_of_python(javascript):
    rng = random.Random(1)
    cases = [random_case(rng, model) for model in MODELS for _ in range(6)]
    sentences = "d.tokens.map((_, i) => d.tokens.map((_, j) => why(d, i, j, DATA.words)))"
    got = javascript(f"(given) => {{const d = derive(given, DATA.words); return {sentences}}}", cases)
    for case, sentences in zip(cases, got, strict=True):
        d = derivation_of(case)
        assert sentences == [[why(d, i, j) for j in range(len(d))] for i in range(len(d))], case


def test_a_seed_draws_the_same_spans_and_the_same_order_as_in_python(javascript):
    words = (
        "It rained . We stayed in ! Then , at last ; the sun came out and all went well until night".split()
    )
    texts = [words[:n] for n in (1, 2, 3, 7, 12, 20)] + [
        words * 6,
        [*words, "[EOS]"],
        ["春", "。", "眠", "。"],
    ]
    dials = [(ratio, mean) for ratio in (0.05, 0.15, 0.6, 1.0) for mean in (0.7, 3.0, 8.0)]
    cases = [
        dict(text=text, objective=objective, seed=seed, ratio=ratio, mean=mean)
        for k, text in enumerate(texts)
        for objective in OBJECTIVES
        for n, (ratio, mean) in enumerate(dials)
        for seed in (n, 1000 * k + n, 2**40 + 7 * n + k)
    ]
    got = javascript("(c) => sampled(c.text, c.objective, c)", cases)
    seen = set()
    for case, here in zip(cases, got, strict=True):
        dials = dict(mask_ratio=case["ratio"], mean_length=case["mean"])
        spans, order, objective = draw_spans(case["text"], case["objective"], case["seed"], **dials)
        assert here == dict(spans=[list(span) for span in spans], order=order, objective=objective), case
        rng = Rng(case["seed"])
        if objective == "token" == case["objective"]:  # the promise in the words of the public names
            text, eos = case["text"], case["text"][-1] in EOS_TEXTS
            assert spans == sample_spans(range(len(text)), "token", rng, has_cls=False, has_eos=eos, **dials)
            assert order == rng.shuffle(list(range(len(spans))))
        seen |= {len(spans), objective}
    assert {1, 2, 3, "token", "sentence", "document"} <= seen  # the cases are worth something


def test_a_text_is_cut_into_words_as_the_terminal_cuts_it(javascript):
    texts = [
        "a b  c",
        " a\tb\n",
        "春眠不觉晓",
        "春眠 不觉",
        "e\u0301te\u0301",
        "👨\u200d👩\u200d👧😀",
        "한ᄒ\u1161",
    ]
    texts += ["a\u00a0b\x1cc\u0085d", "x\ufeffy", "word", "שלום"]
    texts += ["我爱[MASK]京", "[EOS]é<|endoftext|>\u0301\u200d[S]", "\u0301é", "é[M1][a"]
    assert javascript("(text) => splitWords(text)", texts) == [split(text) for text in texts]
    assert javascript("(text) => splitCharacters(text)", texts) == [characters(text) for text in texts]


def test_spans_and_orders_that_make_no_sense_are_named_as_in_python(javascript):
    wrong = (
        ([[0, 2], [1, 3]], [0, 1]),
        ([[1, 1]], [0]),
        ([[2, 4]], [0]),
        ([[0, 1]], []),
        ([[0, 1], [2, 3]], [0, 0]),
    )
    cases = [dict(text=["a", "b", "c"], spans=spans, order=order) for spans, order in wrong]
    got = javascript(
        "(given) => {try {derive(given, DATA.words); return ''} catch (error) {return error.message}}", cases
    )
    for case, message in zip(cases, got, strict=True):
        with pytest.raises(ValueError) as error:
            explain(case["text"], case["spans"], case["order"])
        assert message == str(error.value)
