"""Scores that are not finite never become text, ranks, vectors or JSON; settings are finite numbers, too."""

import copy
import json
import math

import pytest
import torch

from minglm import (
    GLM,
    Cloze,
    GLMConfig,
    MinglmError,
    TextToText,
    Tokenizer,
    classify,
    embed,
    fill,
    rewrite,
    score,
    write,
)
from minglm.compare.finetuned import finetune
from minglm.files import strict_json
from minglm.files.jsonl import read_rows, write_rows
from minglm.measure.evaluate import evaluate_cloze, evaluate_infill, evaluate_text_to_text
from minglm.measure.metrics import number, perplexity_metric
from minglm.measure.perplexity import evaluate_last_word, evaluate_text
from minglm.train.finetune import TextScorer
from minglm.use.cloze import ClozeScorer
from minglm.use.drafts import Dials, choose
from minglm.use.embedding import most_similar
from minglm.use.generate import fill_ids, trace
from minglm.use.models import read_model
from minglm.use.questions import ask_all
from minglm.viz.page.weights import recorded_spec

TEXT = "the [MASK] sat on the [MASK]."
LABELS = Cloze("{text} It was [MASK].", {"good": "cat", "bad": "dog"})
WHOLE = Cloze("{text} It was [MASK].", {"good": "the cat", "bad": "dog"})
REWRITE = TextToText("{src} [gMASK]", "tgt")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, dropout=0.0)).eval()


def nan_weight(model):
    model.layers[0].qkv.weight.data[0, 0] = math.nan


def overflow(model):
    model.final_norm.weight.data.fill_(1e38)
    model.token_embedding.weight.data.mul_(1e3)


def one_token_impossible(model):
    model.register_forward_hook(lambda module, inputs, out: out.index_fill(1, torch.tensor([30]), -math.inf))


BROKEN = [nan_weight, overflow]
ROWS = {"1": {"text": "a cat sat", "label": "good"}, "2": {"text": "a dog", "label": "bad"}}
PAIRS = {"1": {"src": "a cat sat", "tgt": "the cat"}, "2": {"src": "a dog", "tgt": "the dog"}}
USES = {
    "fill": lambda m, t: fill(m, t, TEXT),
    "fill, drawn": lambda m, t: fill(m, t, TEXT, temperature=1.0),
    "fill, searched": lambda m, t: fill(m, t, TEXT, top=3),
    "fill of a list": lambda m, t: fill(m, t, [TEXT, TEXT]),
    "fill of ids": lambda m, t: fill_ids(m, t, t.encode(TEXT, special=True)),
    "write": lambda m, t: write(m, t, "the cat", max_tokens=3),
    "score": lambda m, t: score(m, t, TEXT, ["cat", "mat"]),
    "embed": lambda m, t: embed(m, t, ["a cat", "a dog"]),
    "classify": lambda m, t: classify(m, t, LABELS, "a cat"),
    "classify, whole answers": lambda m, t: classify(m, t, WHOLE, "a cat"),
    "rewrite": lambda m, t: rewrite(m, t, REWRITE, "a cat"),
    "evaluate text": lambda m, t: evaluate_text(m, t, "the cat sat on the mat"),
    "evaluate last_word": lambda m, t: evaluate_last_word(
        m, t, {"1": {"context": "the cat sat on the", "answer": "mat"}}
    ),
    "evaluate infill": lambda m, t: evaluate_infill(
        m, t, {"1": {"text": "the [BLANK] sat", "blanks": ["cat"]}}
    ),
    "evaluate cloze": lambda m, t: evaluate_cloze(m, t, LABELS, ROWS),
    "evaluate text to text": lambda m, t: evaluate_text_to_text(m, t, REWRITE, PAIRS),
    "finetune": lambda m, t: finetune(m, t, LABELS, ROWS, ROWS, say=lambda _: None),
    "finetune to text": lambda m, t: finetune(m, t, REWRITE, PAIRS, PAIRS, say=lambda _: None),
    "loss on dev": lambda m, t: TextScorer(m).judge(ask_all(REWRITE, t, PAIRS, 32, labelled=True)),
    "attention weights": lambda m, t: m.attention_weights(batch_of(t), 1),
}


def batch_of(tokenizer):
    from minglm import build_example, pack

    return pack([build_example(tokenizer.encode("the cat sat on the mat"), [(1, 2)], [0], tokenizer.special)])


@pytest.mark.parametrize("use", USES)
def test_a_model_with_a_nan_weight_gives_one_line_in_every_use(model, tokenizer, use):
    broken = copy.deepcopy(model)
    nan_weight(broken)
    if use == "attention weights":
        broken.layers[0].qkv.weight.data.fill_(math.nan)
    with pytest.raises(MinglmError, match="not finite") as caught:
        USES[use](broken, tokenizer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("use", [use for use in USES if use != "attention weights"])
def test_scores_that_overflow_are_refused_too(model, tokenizer, use):
    broken = copy.deepcopy(model)
    overflow(broken)
    with pytest.raises(MinglmError, match="not finite"):
        USES[use](broken, tokenizer)


@pytest.mark.parametrize(
    "use", ["fill", "fill, searched", "write", "score", "classify, whole answers", "rewrite"]
)
def test_a_single_infinite_score_is_refused_though_it_is_not_chosen(model, tokenizer, use):
    broken = copy.deepcopy(model)
    one_token_impossible(broken)
    with pytest.raises(MinglmError, match="not finite"):
        USES[use](broken, tokenizer)


def test_a_label_without_a_finite_score_is_refused_though_the_probabilities_are_numbers(
    model, tokenizer, monkeypatch
):
    scores = torch.tensor([[0.0, -math.inf]])
    monkeypatch.setattr(ClozeScorer, "forward", lambda self, questions: scores)
    with pytest.raises(MinglmError, match="not finite"):
        classify(model, tokenizer, LABELS, "a cat")


def test_bert_fills_no_blank_with_nan(tokenizer):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, family="bert")).eval()
    rows = {"1": {"text": "the [BLANK] sat", "blanks": ["cat"]}}
    assert evaluate_infill(model, tokenizer, rows)["predictions"][0]["filled"]
    nan_weight(model)
    with pytest.raises(MinglmError, match="not finite"):
        evaluate_infill(model, tokenizer, rows)


def test_a_trace_and_a_page_of_a_broken_model_are_refused(model, tokenizer):
    filled, broken = fill(model, tokenizer, TEXT), copy.deepcopy(model)
    nan_weight(broken)
    with pytest.raises(MinglmError, match="not finite"):
        trace(broken, tokenizer, TEXT, filled)
    overflow(broken := copy.deepcopy(model))
    with pytest.raises(MinglmError, match="not finite"):
        recorded_spec(broken, tokenizer, TEXT)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_vectors_that_are_not_finite_have_no_rank(bad):
    vectors = torch.eye(3)
    assert most_similar(vectors, vectors[1], 1)[0][0] == 1
    vectors[2, 0] = bad
    with pytest.raises(MinglmError, match="not finite"):
        most_similar(vectors, torch.ones(3))


@pytest.mark.parametrize(
    "command",
    [
        ("fill", TEXT, "--json"),
        ("fill", TEXT, "--temperature", "1"),
        ("fill", TEXT, "--top", "2"),
        ("write", "the cat"),
        ("classify", "a cat", "--task", "sentiment"),
        ("rewrite", "a cat", "--task", "modernise"),
    ],
)
def test_commands_end_in_one_line_and_code_2(minglm, model, tokenizer, tmp_path, command):
    broken = copy.deepcopy(model)
    nan_weight(broken)
    broken.save_pretrained(tmp_path / "nan", tokenizer)
    run = minglm(*command, "--model", tmp_path / "nan")
    assert (run.code, run.out) == (2, "") and run.err.splitlines()[-1].startswith(
        "minglm: error: the model's scores are not"
    )


# ---- dials


EDGES = [math.nan, math.inf, -math.inf, -1, 1e400, "1", None, True, [1], 10**400]


@pytest.mark.parametrize(
    "dial",
    [
        "temperature",
        "top_p",
        "length_penalty",
        "repetition_penalty",
        "top",
        "top_k",
        "beams",
        "min_tokens",
        "max_tokens",
        "no_repeat_ngram",
        "seed",
    ],
)
def test_a_dial_at_the_edge_is_named_where_it_is_read(model, tokenizer, dial):
    fine = {"length_penalty": [-1], "seed": [-1], "max_tokens": [None]}.get(dial, [])
    fine += [10**400] if dial in ("top_k", "min_tokens", "max_tokens", "no_repeat_ngram") else []
    for value in EDGES:
        if value in fine:
            continue
        with pytest.raises(MinglmError, match=f"^{dial}: .*is not accepted; .+ is$"):
            fill(model, tokenizer, TEXT, **{dial: value})
    for value in (
        (2.5, 0.5)
        if dial in ("top", "top_k", "beams", "min_tokens", "max_tokens", "no_repeat_ngram", "seed")
        else ()
    ):
        with pytest.raises(MinglmError, match=f"^{dial}: {value} is not accepted"):
            Dials(**{dial: value})


@pytest.mark.parametrize(
    "dials",
    [
        dict(top_k=10**400),
        dict(max_tokens=10**400),
        dict(no_repeat_ngram=10**400),
        dict(top_p=5e-324),
        dict(repetition_penalty=5e-324),
        dict(repetition_penalty=1000),
    ],
)
def test_dials_as_large_or_small_as_they_may_be_give_a_text(model, tokenizer, dials):
    assert fill(model, tokenizer, TEXT, **{"max_tokens": 3} | dials).blanks[1].answer.tokens
    with pytest.raises(
        MinglmError, match=r"min_tokens: 1000\d*\.\.\.\d* is more than this model's positions allow"
    ):
        fill(model, tokenizer, TEXT, min_tokens=10**400)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-9])
def test_the_lowest_temperature_takes_the_likeliest(temperature):
    from minglm.rng import Rng

    log_p = torch.tensor([-3.0, -0.5, -math.inf, -0.6])
    assert choose(log_p, Dials(temperature=temperature), Rng(1)) == 1


def test_the_highest_temperature_draws_only_what_may_come():
    from minglm.rng import Rng

    log_p, rng = torch.tensor([-3.0, -0.5, -math.inf, -0.6]), Rng(1)
    drawn = [choose(log_p, Dials(temperature=1.7e308, top_k=10**9), rng) for _ in range(300)]
    assert set(drawn) == {0, 1, 3} and min(map(drawn.count, {0, 1, 3})) > 60


@pytest.mark.parametrize("dials", [dict(), dict(beams=2), dict(temperature=1.0)])
def test_where_no_token_may_come_none_is_made_up(model, tokenizer, dials):
    short = GLM(GLMConfig(tokenizer.vocab_size, 16, 1, 2, 400, dropout=0.0))
    texts = int((tokenizer.byte_lengths() > 0).sum())
    with pytest.raises(MinglmError, match="min_tokens and no_repeat_ngram leave no token"):
        fill(short, tokenizer, "[MASK]", min_tokens=texts + 1, no_repeat_ngram=1, **dials)


@pytest.mark.parametrize("top", [0, -3, 1.5])
def test_the_number_of_similar_lines_is_at_least_one(top):
    with pytest.raises(MinglmError, match=f"top: {top} is not accepted"):
        most_similar(torch.eye(3), torch.ones(3), top)


# ---- a minimum above the limit


@pytest.mark.parametrize("dials", [dict(), dict(beams=2), dict(temperature=1.0)])
def test_a_minimum_above_the_usual_limit_raises_the_limit(tokenizer, dials):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 1, 2, 64, dropout=0.0))
    [blank] = fill(model, tokenizer, "the [MASK]", min_tokens=50, **dials).blanks
    assert len(blank.answer.tokens) >= 50
    with pytest.raises(MinglmError, match=r"min_tokens: 50 is more than max_tokens = 49"):
        fill(model, tokenizer, "the [MASK]", min_tokens=50, max_tokens=49)


@pytest.mark.parametrize(
    "use",
    [
        lambda *a, **d: fill(*a, "the [MASK]", **d),
        lambda *a, **d: write(*a, "the cat", **d),
        lambda *a, **d: rewrite(*a, REWRITE, "a cat", **d),
    ],
)
def test_a_minimum_beyond_the_positions_names_them(model, tokenizer, use):
    with pytest.raises(
        MinglmError, match=r"min_tokens: 32 is more than this model's positions allow here \(31\)"
    ):
        use(model, tokenizer, min_tokens=32)
    assert use(model, tokenizer, min_tokens=31)


# ---- model and tokenizer


@pytest.mark.parametrize("more", [-5, 7])
@pytest.mark.parametrize("use", [use for use in USES if use not in ("attention weights", "loss on dev")])
def test_a_tokenizer_of_another_size_is_refused_in_every_use(model, tokenizer, use, more):
    other = GLM(GLMConfig(tokenizer.vocab_size + more, 16, 2, 2, 32)).eval()
    with pytest.raises(
        MinglmError, match=f"tokenizer: it has {tokenizer.vocab_size} tokens, the model has {298 + more}; "
    ):
        USES[use](other, tokenizer)


def test_a_folder_whose_tokenizer_has_another_size_is_neither_written_nor_read(
    minglm, model, tokenizer, tmp_path
):
    other = Tokenizer.train(["nothing"], 280)
    with pytest.raises(MinglmError, match="tokenizer: it has 280 tokens, the model has 298"):
        model.save_pretrained(tmp_path / "model", other)
    model.save_pretrained(tmp_path / "model")
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(MinglmError, match="tokenizer: it has 280 tokens, the model has 298"):
        read_model(tmp_path / "model")
    for command in (
        ("fill", TEXT),
        ("write", "a"),
        ("classify", "a", "--task", "sentiment"),
        ("explore", TEXT),
    ):
        run = minglm(*command, "--model", tmp_path / "model")
        assert run.code == 2 and "tokenizer: it has 280 tokens, the model has 298" in run.err


# ---- JSON and messages


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_named_and_not_written(tmp_path, bad):
    with pytest.raises(MinglmError, match=rf"value\['a'\]\[1\] is {bad}: no number that JSON has"):
        strict_json.dumps({"a": [1, bad], "b": bad})
    with pytest.raises(MinglmError, match="no number that JSON has"):
        write_rows(tmp_path / "rows.jsonl", [{"a": 1.0}, {"score": bad}])
    assert not (tmp_path / "rows.jsonl").exists()
    assert json.loads(strict_json.dumps({"a": [1.5, None, "é"]}, ensure_ascii=False)) == {
        "a": [1.5, None, "é"]
    }


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_not_read(tmp_path, word):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1e3}\n{"a": %s}\n' % word, encoding="utf-8")  # noqa: UP031
    with pytest.raises(MinglmError, match=f"rows.jsonl:2: not JSON .*{word}"):
        read_rows(path)


def test_a_perplexity_at_its_bound_is_marked():
    at, below = (perplexity_metric([nats * 10.0] * 3, [10] * 3, 30, "tokens") for nats in (21, 19))
    assert at["at_bound"] and at["standard_error"] is None and at["value"] == math.exp(20)
    assert not below["at_bound"] and below["value"] == pytest.approx(math.exp(19))
    assert number("perplexity_left_to_right", at["value"]) == "over 485,165,195, its bound"
    assert number("perplexity_left_to_right", below["value"], 1.0) == "178482301 +- 1"


@pytest.mark.parametrize("text", ["", "\n", "  \n "])
def test_a_message_is_never_empty_and_always_one_line(text):
    from minglm.errors import reason

    assert str(MinglmError(text)).strip() and str(MinglmError("a\nb")) == "a b"
    assert reason(EOFError(text)) == "EOFError without a message"
    assert (
        reason(FileNotFoundError(2, "No such file")) == "No such file"
        and reason(ValueError("\nwhy\nso")) == "why"
    )
    try:
        raise MinglmError("") from EOFError("too short")
    except MinglmError as error:
        assert str(error) == "too short"
