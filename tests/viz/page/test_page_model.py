"""The GLM of the page computes what the GLM of PyTorch computes: glm.js, in a real browser."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from minglm import GLM, GLMConfig, MinglmError, Tokenizer, fill
from minglm.batch import pack
from minglm.infilling import build_example
from minglm.rng import SAMPLING, Rng
from minglm.special import byte_of_character
from minglm.use.drafts import Dials, Draft
from minglm.use.models import BOX
from minglm.viz.page import weights
from minglm.viz.page.weights import live_spec, model_spec, recorded_spec
from minglm.viz.words import LANGUAGES

MODEL_JS = "".join(
    Path(weights.__file__).with_name(f"{name}.js").read_text("utf-8") for name in ("derive", "glm")
)
REPEATS = (
    "aa a\u3000a\U000e0001a\x85\x85 bread" * 90
)  # "aaa" has two ways, and some unprintable characters are one token
CHINESE = "从前有一只小猫，它住在一座很大的房子里。小猫说：“我要去看海！”"
TEXTS = [
    "Anna asked for[MASK].",
    "[MASK] went to the house of [MASK]. There Anna asked for water!",
    "Ben said: [sMASK] The day was long.",
    "So Clara took the key and [gMASK]",
    "the [MASK] 小猫 [MASK] \u00e9 [gMASK]",
]

# A stand-in for the page's Rng: what Python's has drawn, number after number.
HELPERS = (
    f"""
const DATA = {json.dumps({"words": LANGUAGES["en"]})};
"""
    + """
const drawn = uniforms => { let i = 0; return {uniform: () => uniforms[i++]}; };
const message = f => { try { f(); return null; } catch (error) { return error.message; } };
function run(session) {
  const steps = [];
  while (!session.done) steps.push(session.step());
  return {steps, blanks: session.blanks, pieces: session.pieces(), rows: rowsOf(session.reading)};
}
function rowsOf({tokens, position_ids, block_position_ids, part_a_len, targets}) {
  return {tokens, position_ids, block_position_ids, part_a_len, targets};
}
"""
)


@pytest.fixture(scope="module")
def page(browser):
    """A blank page that has read derive.js and glm.js; it must not complain."""
    page, complaints = browser.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_script_tag(content=f'"use strict";\n{MODEL_JS}\n{HELPERS}')
    yield page
    page.close()
    assert not complaints


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([TEXT, CHINESE * 3, REPEATS], 500)


def make_model(tokenizer, hidden=32, layers=2, heads=2, positions=48, gelu="tanh", scale=6, seed=0):
    """A random model far from uniform; biases and norms are not their initial values either."""
    torch.manual_seed(seed)
    model = GLM(GLMConfig(tokenizer.vocab_size, hidden, layers, heads, positions, dropout=0.2, gelu=gelu))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                p.add_(torch.randn_like(p) * 0.2)
            else:
                p.mul_(scale)
    return model.eval()


@pytest.fixture(scope="module")
def model(tokenizer):
    return make_model(tokenizer)


@pytest.fixture(scope="module")
def trained(small_run):
    return GLM.from_pretrained(small_run).eval(), Tokenizer.from_pretrained(small_run)


def rounded(model):
    """The model with the weights that the page has: the rows of its matrices as int8 with a scale each."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                level, scale = weights.quantised(p)
                p.copy_(level * scale)
    return model


def rows_of(example):
    names = ("tokens", "position_ids", "block_position_ids", "targets")
    return {name: getattr(example, name).tolist() for name in names} | {"part_a_len": example.part_a_len}


def some_example(rng, vocab_size, positions, kind):
    """A sample of random tokens: "part b" has two spans, "all part a" none, "gpt" a Part A of one token."""
    tokens = np.array([1, *(rng.integer(vocab_size - 24) + 24 for _ in range(positions // 2))])
    spans = {"part b": [(2, 4), (7, 12)], "all part a": [], "gpt": [(0, len(tokens))]}[kind]
    return build_example(tokens, spans, list(range(len(spans)))[::-1])


# ---- the tokenizer ---------------------------------------------------------------------------------------


def collected(strategy, n):
    """n values of a strategy, the same every time: Python and the page then see them all in one call."""
    found = []

    @settings(
        max_examples=n,
    )
    @given(strategy)
    def collect(value):
        found.append(value)

    collect()
    return found


TRICKY = [
    "[MASK]",
    " [MASK]",
    "\u2003\x85[sMASK]",
    "[gMASK] ",
    "<|endoftext|>",
    "[M",
    "ASK]",
    "<|spare3|>",
    "<|spare15|>",
    "  ",
    "'s",
    "\ufeff",
    "小猫",
    "Anna went",
    "12 3½",
    "\U0001f469\u200d\U0001f680",
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12)


def test_texts_become_the_same_ids_and_pieces(page, tokenizer):
    texts = [
        "",
        " ",
        "a",
        "\x00\t\r\n\x7f\x85\xad",
        "\ufeffa\ufeff",
        "don't  we'll 'S",
        " \n\n [MASK] x",
        CHINESE,
        TEXT[:500],
        "é" * 70,
        "a\x85\x85 bread\ufeff \ufeff",
        "\u2028\u2029\u200b\u180e\u3000",
        "\U0001f600\U0001f3fb",
        "[MASK][MASK]  [sMASK]",
        "\\x41",
        "the" * 50,
        " " * 300,
        REPEATS,
        "aaaaa",
    ]
    texts += collected(st.lists(st.sampled_from(TRICKY) | ANY_TEXT, max_size=6).map("".join), 200)
    ids = [[tokenizer.encode(text, special) for special in (False, True)] for text in texts]
    ids_lists = [x for pair in ids for x in pair]
    ids_lists += collected(
        st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=12), 100
    )  # mostly broken UTF-8
    found = page.evaluate(
        """([spec, texts, lists]) => {
          const t = new GlmTokenizer(spec);
          return [texts.map(text => [t.encode(text), t.encode(text, true)]),
                  lists.map(x => t.decode(x)), lists.map(x => t.pieces(x)),
                  t.bytes.map((_, id) => t.isText(id)), t.special, t.pieces(t.bytes.keys())];
        }""",
        [weights.tokenizer_spec(tokenizer), texts, ids_lists],
    )
    assert len(texts) > 200
    assert found[0] == ids
    assert found[1] == [tokenizer.decode(x) for x in ids_lists]
    assert found[2] == [tokenizer.pieces(x) for x in ids_lists]
    assert found[3] == (tokenizer.byte_lengths() > 0).tolist()
    assert found[4] == vars(tokenizer.special)
    assert found[5] == tokenizer.pieces(range(tokenizer.vocab_size))
    assert {"\\xe5", "\\u3000", "\\U000e0001"} <= set(found[5])  # there was something to escape


def test_half_a_character_and_unknown_ids_are_refused_as_in_python(page, tokenizer):
    found = page.evaluate(
        "spec => { const t = new GlmTokenizer(spec); return [() => t.encode('a😀b\\ud83dc'),"
        " () => t.decode([-1]), () => t.pieces([10 ** 6])].map(message); }",
        weights.tokenizer_spec(tokenizer),
    )
    for message, wrong in zip(
        found,
        [
            lambda: tokenizer.encode("a😀b\ud83dc"),
            lambda: tokenizer.decode([-1]),
            lambda: tokenizer.pieces([10**6]),
        ],
        strict=True,
    ):
        with pytest.raises(MinglmError) as error:
            wrong()
        assert message == str(error.value)


def test_a_tokenizer_that_the_page_cannot_repeat_is_not_imitated(page, tokenizer):
    library = json.loads(tokenizer._library.to_str())
    library["pre_tokenizer"]["add_prefix_space"] = True
    other = Tokenizer(type(tokenizer._library).from_str(json.dumps(library)))
    spec = weights.tokenizer_spec(other)
    assert spec["merges"] is None
    found = page.evaluate(
        "spec => { const t = new GlmTokenizer(spec);"
        " return [message(() => t.encode('a')), t.decode([60, 61])]; }",
        spec,
    )
    assert found[0].startswith("text: this page cannot cut") and found[1] == other.decode([60, 61])


@pytest.mark.parametrize("kind", ["WordPiece", "GPT-2"])
def test_the_originals_vocabularies_are_read_too(page, tmp_path, kind):
    """Their special tokens are elsewhere, some share an id, and WordPiece is shown but not imitated."""
    if kind == "WordPiece":
        words = [
            "[PAD]",
            "[unused0]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            "a",
            "cat",
            "##s",
            "sat",
            "é",
            "小",
            ".",
        ]
        (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    else:
        names = byte_of_character() | {"Ġc": 256, "at": 257, "Ġcat": 258}
        (tmp_path / "vocab.json").write_text(json.dumps(names | {"<|endoftext|>": 259}), encoding="utf-8")
        (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ c\na t\nĠc at\n", encoding="utf-8")
    original = Tokenizer.from_original(tmp_path)
    text = "a cat [MASK] sat. cats é [MASK]" if kind == "WordPiece" else "a cat [MASK] sat\x85\xa0 小[gMASK]"
    ids, V = original.encode(text, special=True), original.vocab_size
    spec = recorded_spec(make_model(original), original, text)
    assert (spec["tokenizer"]["merges"] is None) == (kind == "WordPiece")
    found = page.evaluate(
        """([spec, text, ids]) => {
          const t = new GlmTokenizer(spec.tokenizer), told = run(glmModel(spec).session());
          return [t.pieces(t.bytes.keys()), t.bytes.map((_, id) => t.isText(id)), t.decode(ids),
                  t.merges ? t.encode(text, true) : ids, told];
        }""",
        [spec, text, ids],
    )
    assert found[0] == original.pieces(range(V)) and found[1] == (original.byte_lengths() > 0).tolist()
    assert found[2] == original.decode(ids) and found[3] == ids
    check_filling(found[4], fill(make_model(original), original, text))


# ---- the forward pass ------------------------------------------------------------------------------------

READ = """([spec, samples]) => samples.map(rows => {
  const model = glmModel(spec), reading = model.read(rows), heads = [...Array(model.config.num_heads).keys()];
  return {logits: rows.tokens.map((_, i) => [...reading.logits(i)]),
          attention: reading.layers.map(layer => heads.map(head => [...reading.attention(layer, head)])),
          predictions: reading.predictions(4),
          lens: reading.T > rows.part_a_len ? reading.lens(rows.part_a_len, 3) : null};
})"""


SHAPES = [
    dict(),
    dict(hidden=30, layers=3, heads=3, gelu="erf"),
    dict(hidden=20, heads=1, layers=1, seed=3),
    dict(hidden=35, heads=5, gelu="erf", positions=33),
    "trained",
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_and_attention_are_torch_s(page, tokenizer, shape, trained):
    model = trained[0] if shape == "trained" else make_model(tokenizer, scale=4, **shape)
    words = trained[1] if shape == "trained" else tokenizer
    rng = Rng(5)
    kinds = ("part b", "all part a", "gpt")
    examples = [some_example(rng, words.vocab_size, model.config.max_positions, kind) for kind in kinds]
    found = page.evaluate(READ, [live_spec(model, words), [rows_of(example) for example in examples]])
    for example, seen in zip(examples, found, strict=True):
        batch = pack([example])
        args = (batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)
        logits = torch.tensor(seen["logits"])
        with torch.no_grad():
            truth = rounded(model)(*args)
            torch.testing.assert_close(logits, truth, atol=1e-4, rtol=0)
        T = len(example.tokens)
        for layer, heads in enumerate(seen["attention"]):
            weights_there = rounded(model).attention_weights(batch, layer)[0]
            torch.testing.assert_close(torch.tensor(heads).view(-1, T, T), weights_there, atol=1e-5, rtol=0)
        check_predictions(seen["predictions"], truth.log_softmax(-1), example, words)
        if seen["lens"]:
            assert [entry["layer"] for entry in seen["lens"]] == list(range(model.config.num_layers + 1))
            for entry, state in zip(seen["lens"], states(rounded(model), batch), strict=True):
                p = head(rounded(model), state)[example.part_a_len].softmax(-1)
                assert [t["id"] for t in entry["top"]] == p.topk(3).indices.tolist()
                assert entry["rank"] == 1 + int((p > p[entry["target"]]).sum())
                assert entry["p"] == pytest.approx(float(p[entry["target"]]), abs=1e-4)


def check_predictions(found, log_p, example, tokenizer):
    A = example.part_a_len
    assert [entry["row"] for entry in found] == list(range(A, len(example.tokens)))
    assert [entry["target"] for entry in found] == example.targets.tolist()
    for entry in found:
        row, target = log_p[entry["row"]], entry["target"]
        assert entry["logProbability"] == pytest.approx(float(row[target]), abs=1e-4)
        assert entry["rank"] == 1 + int((row > row[target]).sum()) and entry["text"] == tokenizer.token_str(
            target
        )
        assert [t["id"] for t in entry["top"]] == row.topk(4).indices.tolist()
        assert [t["p"] for t in entry["top"]] == pytest.approx(row.topk(4).values.exp().tolist(), abs=1e-4)
        assert [t["text"] for t in entry["top"]] == tokenizer.pieces([t["id"] for t in entry["top"]])


@torch.no_grad()
def states(model, batch):
    """The residual before the first layer, between layers and after the last."""
    x = model.token_embedding(batch.tokens) + model.position_embedding(batch.position_ids)
    found = [x + model.block_position_embedding(batch.block_position_ids)]
    for layer in model.layers:
        found.append(layer(found[-1], batch.mask, "reference"))
    return found


@torch.no_grad()
def head(model, state):
    return model.final_norm(state) @ model.token_embedding.weight.T


def test_reading_row_by_row_gives_what_reading_at_once_gives(page, tokenizer, model):
    example = some_example(Rng(8), tokenizer.vocab_size, 48, "part b")
    differences = page.evaluate(
        """([spec, rows]) => {
          const model = glmModel(spec), whole = model.read(rows), part = (a, b) => Object.fromEntries(
            ["tokens", "position_ids", "block_position_ids"].map(name => [name, rows[name].slice(a, b)]));
          return [1, 3].map(step => {
            const reading = model.begin(rows.part_a_len);
            reading.extend(part(0, rows.part_a_len));
            for (let i = rows.part_a_len; i < rows.tokens.length; i += step)
              reading.extend(part(i, i + step));
            const far = (a, b) => a.length === b.length
              ? Math.max(...a.map((x, i) => Math.abs(x - b[i]))) : Infinity;
            return [reading.T,
              Math.max(...rows.tokens.map((_, i) => far(reading.logits(i), whole.logits(i)))),
                    far(reading.attention(1, 1), whole.attention(1, 1))];
          });
        }""",
        [live_spec(model, tokenizer), rows_of(example)],
    )
    for T, logits, attention in differences:
        assert T == len(example.tokens) and logits < 1e-5 and attention < 1e-6


def test_a_row_sees_nothing_that_the_rule_shuts(page, tokenizer, model):
    """Another last token of Part B changes no bit of an earlier row; another one of Part A does."""
    rows = rows_of(some_example(Rng(9), tokenizer.vocab_size, 48, "part b"))
    changed = {key: {**rows, "tokens": [*rows["tokens"]]} for key in ("a", "b")}
    changed["a"]["tokens"][0] = changed["b"]["tokens"][-1] = 30
    same = page.evaluate(
        """([spec, rows, others]) => others.map(other => {
          const model = glmModel(spec), [x, y] = [rows, other].map(r => model.read(r));
          return rows.tokens.map((_, i) => x.hidden(i).every((value, c) => value === y.hidden(i)[c]));
        })""",
        [live_spec(model, tokenizer), rows, [changed["a"], changed["b"]]],
    )
    assert not any(same[0])
    assert same[1] == [True] * (len(rows["tokens"]) - 1) + [False]


# ---- what int8 costs -------------------------------------------------------------------------------------

# No two tokens are close to a tie here. In "The cat drank some [MASK] and went to [MASK]." two are:
# " the" and " sleep" have log probabilities of -1.424 and -1.431, and int8 swaps them.
EVERYDAY = [
    "She was very [MASK] to see him.",
    "Tom and his [MASK] went to the park. They played on the [MASK].",
    "One day, Tom and his [MASK] went to the park. They saw a big [MASK].",
    "The little boy was sad because [MASK].",
    "Once upon a time, [gMASK]",
]


def test_the_bundled_model_fills_in_the_page_what_it_fills_in_python(page):
    """Greedy fillings are equal, and no log probability of a taken token is further off than 0.1."""
    box = GLM.from_pretrained(BOX), Tokenizer.from_pretrained(BOX)
    jobs = [[text, {"maxTokens": 12}, []] for text in EVERYDAY]
    for seen, (text, _, _) in zip(page.evaluate(FILL, [live_spec(*box), jobs]), jobs, strict=True):
        expected = fill(*box, text, max_tokens=12)
        assert [blank["tokens"] for blank in seen["blanks"]] == [b.answer.tokens for b in expected.blanks]
        for blank, there in zip(seen["blanks"], expected.blanks, strict=True):
            assert blank["logProbabilities"] == pytest.approx(there.answer.log_probabilities, abs=0.1)


FLOATS = st.floats(-(2.0**90), 2.0**90, width=32)


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_weight_is_off_by_half_a_level_at_most(rows):
    matrix = torch.tensor(rows)
    level, scale = weights.quantised(matrix)
    assert ((level * scale - matrix).abs() <= 0.5001 * scale).all() and (level.abs() <= 127).all()
    assert (level.abs().amax(1)[scale[:, 0] > 1e-30] == 127).all()


# ---- filling ---------------------------------------------------------------------------------------------

FILL = """([spec, jobs]) => { const model = glmModel(spec); return jobs.map(([text, dials, uniforms]) =>
  run(model.session(text, {...dials, rng: number => drawn(uniforms[number])}))); }"""


def check_filling(found, expected):
    """What the page's session did, beside a Filled."""
    assert [blank["tokens"] for blank in found["blanks"]] == [
        blank.answer.tokens for blank in expected.blanks
    ]
    for seen, blank in zip(found["blanks"], expected.blanks, strict=True):
        assert (seen["mask"], seen["text"], seen["complete"]) == (
            blank.mask,
            blank.text,
            blank.answer.complete,
        )
        assert seen["logProbabilities"] == pytest.approx(blank.answer.log_probabilities, abs=1e-3)
    assert [(piece["text"], piece["blank"] >= 0) for piece in found["pieces"]] == expected.pieces
    assert "".join(piece["text"] for piece in found["pieces"]) == expected.text


def test_greedy_filling_is_fill_s(page, tokenizer, trained, model):
    other = make_model(tokenizer, gelu="erf", scale=9, seed=4)
    for some_model, words, texts in (
        (model, tokenizer, TEXTS),
        (other, tokenizer, TEXTS[:2]),
        (*trained, TEXTS),
    ):
        jobs = [[text, {}, []] for text in texts] + [[text, {"maxTokens": 3}, []] for text in texts[1::3]]
        found = page.evaluate(FILL, [live_spec(some_model, words), jobs])
        for seen, (text, dials, _) in zip(found, jobs, strict=True):
            check_filling(seen, fill(rounded(some_model), words, text, max_tokens=dials.get("maxTokens")))


SEARCH = """([spec, texts]) => texts.map(text => {
  const session = glmModel(spec).session(text, {maxTokens: 4}), search = session.fillings(0, 3);
  for (;;) { const {done, value} = search.next(); if (done) return value; }
})"""


def test_the_likeliest_whole_fillings_are_those_of_beam_search(page, tokenizer, trained, model):
    for some_model, words in ((model, tokenizer), trained):
        for found, text in zip(
            page.evaluate(SEARCH, [live_spec(some_model, words), TEXTS]), TEXTS, strict=True
        ):
            expected = fill(rounded(some_model), words, text, top=3, max_tokens=4).blanks[0].alternatives
            assert [(each["tokens"], each["complete"]) for each in found] == [
                (each.tokens, each.complete) for each in expected
            ]
            assert [each["logProbability"] for each in found] == pytest.approx(
                [each.log_probability for each in expected], abs=1e-3
            )


DIALS = [dict(temperature=1.0), dict(temperature=0.5, top_k=5), dict(temperature=1.5, top_p=0.8)]


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_equal_seeds_draw_equal_tokens(page, tokenizer, trained, model, dials):
    names = {"temperature": "temperature", "top_k": "topK", "top_p": "topP"}
    for some_model, words, texts in ((model, tokenizer, TEXTS[1:]), (*trained, TEXTS[:3])):
        jobs = []
        for seed, text in enumerate(texts):
            streams = [Rng(seed, number, 0, SAMPLING) for number in range(3)]
            jobs.append(
                [
                    text,
                    {names[k]: v for k, v in dials.items()},
                    [[r.uniform() for _ in range(70)] for r in streams],
                ]
            )
        found = page.evaluate(FILL, [live_spec(some_model, words), jobs])
        for seed, (seen, text) in enumerate(zip(found, texts, strict=True)):
            check_filling(seen, fill(rounded(some_model), words, text, seed=seed, **dials))


def test_each_step_says_what_it_saw(page, tokenizer, model):
    text = TEXTS[1]
    expected = fill(rounded(model), tokenizer, text)
    found = page.evaluate(FILL, [live_spec(model, tokenizer), [[text, {"k": 6}, []]]])[0]
    rows, steps = found["rows"], found["steps"]
    answers = [t for blank in expected.blanks for t in [tokenizer.special.sop, *blank.answer.tokens]]
    A = rows["part_a_len"]
    assert rows["tokens"][A:] == answers and [step["row"] for step in steps] == list(
        range(A, A + len(answers))
    )
    assert rows["block_position_ids"] == [0] * A + [
        1 + j for b in expected.blanks for j in range(len(b.answer.tokens) + 1)
    ]
    assert [step["done"] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert sum(step["blankDone"] for step in steps) == 2
    eop = tokenizer.special.eop
    for step, position, block_position in zip(
        steps, rows["position_ids"][A:], rows["block_position_ids"][A:], strict=True
    ):
        assert (step["position"], step["block_position"]) == (position, block_position)
        assert len(step["top"]) == 6 and step["text"] == tokenizer.token_str(step["token"])
        assert step["stop"] == (step["token"] == eop)
        for entry in step["top"]:
            is_text = tokenizer.byte_lengths()[entry["id"]] > 0
            assert entry["allowed"] == (is_text or (entry["id"] == eop and block_position > 1))
        if not step["limit"]:
            first_allowed = next((entry["id"] for entry in step["top"] if entry["allowed"]), None)
            assert first_allowed in (None, step["token"])


def test_a_step_can_be_told_what_to_take(page, tokenizer, model):
    """Then everything after it follows from that token, as if it were the model's own."""
    token = tokenizer.encode(" water")[0]
    found = page.evaluate(
        """([spec, text, token, eop]) => {
          const model = glmModel(spec), session = model.session(text);
          const refused = message(() => session.step(eop));
          const before = session.pieces(), step = session.step(token), during = session.pieces();
          session.step();
          const again = model.read(rowsOf(session.reading)).predictions(3);
          const grown = session.reading.predictions(3);
          return {refused, before, step, during, again, grown};
        }""",
        [live_spec(model, tokenizer), "Anna asked for [MASK].", token, tokenizer.special.eop],
    )
    assert found["refused"] == "token: <|endofpiece|> cannot come next"  # a blank is never empty
    assert found["step"]["token"] == token and not found["step"]["done"]
    assert [piece["text"] for piece in found["before"]] == ["Anna asked for", "[MASK]", "."]
    assert [piece["text"] for piece in found["during"]] == ["Anna asked for", tokenizer.decode([token]), "."]
    assert [piece["filled"] for piece in found["during"]] == [False, True, False]
    assert [entry["target"] for entry in found["grown"]] == [entry["target"] for entry in found["again"]]
    assert [e["top"][0]["p"] for e in found["grown"]] == pytest.approx(
        [e["top"][0]["p"] for e in found["again"]], abs=1e-6
    )


def test_texts_that_cannot_be_filled_get_python_s_sentence(page, tokenizer, model):
    texts = ["no blank", "", "x" * 99 + "[MASK]", "<|endoftext|> [MASK]", "[PAD][MASK]"]
    found = page.evaluate(
        "([spec, texts]) => { const model = glmModel(spec);"
        " return texts.map(text => message(() => model.session(text))); }",
        [live_spec(model, tokenizer), texts],
    )
    for text, message in zip(texts, found, strict=True):
        with pytest.raises(MinglmError) as error:
            Draft(model, tokenizer, text, Dials())  # `fill` would read the end of a text that is too long
        assert message == str(error.value)


def test_wrong_dials_and_rows_are_refused(page, tokenizer, model):
    found = page.evaluate(
        """spec => {
          const model = glmModel(spec);
          const dials = [{temperature: -1}, {topK: NaN}, {topP: 0}, {maxTokens: -2}, {temperature: 1}];
          const wrong = [[[1, 9999], [0, 1], 2], [[1], [65], 1], [[1], [0], 3], [[1], [], 1]];
          const rows = wrong.map(([tokens, position_ids, A]) =>
            ({tokens, position_ids, block_position_ids: tokens.map(() => 0), part_a_len: A}));
          return [...dials.map(x => message(() => model.session("[MASK]", x))),
                  ...rows.map(x => message(() => model.read(x)))];
        }""",
        live_spec(model, tokenizer),
    )
    begin = [
        "temperature: -1 is",
        "top_k: NaN is",
        "top_p: 0 is",
        "max_tokens: -2 is",
        "rng: ",
        "tokens: 9999 given, 0 to",
        "position_ids: 65 given, 0 to 48",
        "part_a_len: 3, but 1 rows",
        "position_ids: 0 given for 1",
    ]
    assert all(message.startswith(start) for message, start in zip(found, begin, strict=True)), found


# ---- what Python puts into the page ----------------------------------------------------------------------


def test_a_recording_shows_what_the_living_model_shows(page, tokenizer, trained, model):
    for some_model, words, texts in ((model, tokenizer, TEXTS[1::3]), (*trained, TEXTS[2:3])):
        for text in texts:
            kept = recorded_spec(rounded(some_model), words, text, name="kept")
            json.dumps(kept, allow_nan=False)
            found = page.evaluate(
                """([specs, text]) => specs.map(spec => {
                  const model = glmModel(spec), told = run(model.session(text));
                  const rows = told.rows.tokens.keys();
                  const reading = model.live ? model.read(told.rows) : model.read();
                  const half = model.session(text), early = half.step() && half.reading;
                  return {...told, live: model.live, layers: reading.layers,
                          attention: [...reading.attention(1, 0)],
                          early: [...early.attention(0, 1)], predictions: reading.predictions(5),
                          lens: [...rows].filter(i => i >= reading.part_a_len).map(i => reading.lens(i, 4))};
                })""",
                [[live_spec(some_model, words), kept], text],
            )
            live, recorded = found
            assert (live["live"], recorded["live"]) == (True, False)
            assert recorded["blanks"] and recorded["layers"] == live["layers"]
            check_filling(recorded, fill(rounded(some_model), words, text))
            for key in ("attention", "early"):
                np.testing.assert_allclose(recorded[key], live[key], atol=0.5 / 255 + 1e-4, rtol=0)
            for key in ("steps", "predictions", "lens", "pieces"):
                assert_alike(recorded[key], live[key])


def assert_alike(a, b):
    """Equal, except for rounding."""
    if isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_alike(x, y)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_alike(a[key], b[key])
    elif isinstance(a, float) or isinstance(b, float):
        assert math.isclose(a, b, rel_tol=2e-3, abs_tol=2e-3)
    else:
        assert a == b


def test_a_recording_goes_one_way_only(page, tokenizer, model):
    found = page.evaluate(
        """spec => {
          const model = glmModel(spec), other = spec.recording.chosen[0] === 30 ? 31 : 30;
          return [() => model.session("other [MASK]"), () => model.session().step(other),
                  () => model.read().hidden(0)].map(message);
        }""",
        recorded_spec(model, tokenizer, TEXTS[0]),
    )
    begin = ["text: this page holds", "token: ", "this page holds a recording"]
    assert all(message.startswith(start) for message, start in zip(found, begin, strict=True)), found


def test_the_size_of_a_model_decides_and_the_middle_layers_go_first(page, tokenizer, monkeypatch):
    deep = make_model(tokenizer, layers=5)
    assert model_spec(deep, tokenizer, TEXTS[0], "n") == live_spec(deep, tokenizer, TEXTS[0], "n")
    monkeypatch.setattr(weights, "MAX_LIVE_PARAMETERS", deep.num_parameters() - 1)
    spec = model_spec(deep, tokenizer, TEXTS[0], "n")
    assert spec["kind"] == "recorded" and spec["dropped"] == {"attention": [], "lens": []}
    monkeypatch.setattr(weights, "MAX_ATTENTION", len(json.dumps(spec["recording"]["attention"])) * 3 // 5)
    spec = model_spec(deep, tokenizer, TEXTS[0])
    assert spec["dropped"] == {"attention": [2, 3], "lens": []}
    layers = page.evaluate(
        "spec => [glmModel(spec).read().layers, message(() => glmModel(spec).read().attention(2, 0))]", spec
    )
    assert layers[0] == [0, 3, 4]
    assert layers[1].startswith("layer 3 was left out")
    monkeypatch.setattr(weights, "MAX_SPEC", 5_000)
    with pytest.raises(MinglmError, match="text: a page of it would take"):
        model_spec(deep, tokenizer, TEXTS[0])


@pytest.mark.parametrize("make", [live_spec, recorded_spec])
@pytest.mark.parametrize("text", [TEXTS[0], "no blank here"])
def test_looking_changes_nothing(tokenizer, make, text):
    model = make_model(tokenizer).train()
    model.layers[0].eval()
    model.backend = "reference"
    before, random = copy.deepcopy(model), torch.get_rng_state()
    try:
        make(model, tokenizer, text)
    except MinglmError:
        assert make is recorded_spec and text == "no blank here"
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert model.backend == "reference" and torch.equal(torch.get_rng_state(), random)
    for key, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]) and model.get_parameter(key).grad is None


def test_models_that_cannot_be_shown_are_refused_in_one_line(tokenizer):
    for value, make, words in (
        (float("nan"), live_spec, "layers.1.up.weight: holds values that are not finite"),
        (float("inf"), recorded_spec, "layers.1.up.weight: holds values that are not finite"),
    ):
        model = make_model(tokenizer)
        with torch.no_grad():
            model.layers[1].up.weight[0, 0] = value
        with pytest.raises(MinglmError) as error:
            make(model, tokenizer, TEXTS[0])
        assert str(error.value).startswith(words) and "\n" not in str(error.value)
    with pytest.raises(MinglmError, match="tokenizer: it has .* tokens, the model has 300"):
        live_spec(GLM(GLMConfig(300, 8, 1, 1, 16)), tokenizer)
    with pytest.raises(MinglmError, match="tokens are longer than this model reads"):
        recorded_spec(make_model(tokenizer, positions=8), tokenizer, TEXTS[1])
