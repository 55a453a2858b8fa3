"""Evaluation: each number against plain loops, its error against a formula, and messages for bad input."""

import json
import lzma
import math
import os
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import hide, needs

from minglm import GLM, MinglmError, Span, Tokenizer, build_example, cli, fill, pack
from minglm.errors import how_to_install
from minglm.measure import evaluate as module
from minglm.measure import perplexity as perplexity_module
from minglm.measure.evaluate import evaluate_cloze, evaluate_everyday, evaluate_infill, in_pieces, with_blanks
from minglm.measure.metrics import (
    bleu_counts,
    bleu_of,
    compare,
    jackknife,
    mean_of,
    measure,
    perplexity,
    standard_error,
)
from minglm.measure.metrics import number as shown
from minglm.measure.perplexity import evaluate_last_word, evaluate_text, windows
from minglm.use import rewrite as seq2seq
from minglm.use.cloze import ClozeScorer, classify, predict
from minglm.use.questions import ask_all
from minglm.use.tasks import Cloze, read_task

DOCUMENTS = [
    'Anna went to the house of Ben. There Anna asked for water! "I have water," said Ben.\n' * 4,
    "So Clara took a horse and went home.",
    "né 中文 \U0001f600 the night was good. " * 9,
    "The day was long, and the night was good. " * 3,
]
TASK = Cloze("{text} It was [MASK].", {"food": "good", "other": "long"}, name="kind")
INFILL = [
    dict(id=1, ratio=0.1, text="Anna went to the [BLANK] of Ben.", blanks=["house"]),
    dict(
        id=2,
        ratio=0.5,
        text='[BLANK] Anna asked [BLANK] bread! "I have [BLANK]" said Ben.',
        blanks=["There", "for", "bread,"],
    ),
    dict(id=3, ratio=0.5, text="So Ben took a horse and [BLANK]", blanks=["went home. The day was long."]),
]
LAST = [
    dict(context="Anna asked Ben for water. Ben had", answer="water", end="."),
    dict(context="So Clara took the key and went", answer="home"),
    dict(context="", answer="Iris"),
    dict(context="The", answer="day and night"),
    dict(context="Felix went to the house of Grace. " * 9 + "Felix went to the", answer="house"),
]


@pytest.fixture(scope="module")
def tokenizer(small_run):
    return Tokenizer.from_pretrained(small_run)


@pytest.fixture(scope="module")
def model(small_run):
    model = GLM.from_pretrained(small_run).double().eval()
    with torch.no_grad():  # positions and what is seen must matter
        for p in model.parameters():
            p.mul_(1.5)
    return model


@pytest.fixture
def evaluate(capsys):
    """Run `minglm evaluate ...` in this process -> .code, .out, .err."""

    def run(*args):
        capsys.readouterr()
        try:
            code = cli.main(["evaluate", *map(str, args)])
        except SystemExit as leaving:  # argparse
            code = leaving.code
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return run


def numbered(rows):
    return {f"row {n}": row for n, row in enumerate(rows)}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def value(report, name):
    return report["metrics"][name]["value"]


# ---- running text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6, 7, 9, 10, 31, 64])
@pytest.mark.parametrize(("most", "stride"), [(2, 1), (6, 1), (6, 3), (6, 5), (63, 32)])
def test_windows_score_every_token_but_the_first_once_and_read_no_more_than_they_may(n, most, stride):
    found = list(windows(n, most, stride))
    assert [i for _, end, first in found for i in range(first, end)] == list(range(1, n))
    assert all(0 <= start < first < end <= min(n, start + most) for start, end, first in found)
    assert [start for start, *_ in found] == [i * stride for i in range(len(found))]
    if n > 1:  # the original's count
        assert len(found) == math.ceil(max(n - most, 0) / stride) + 1
    # a window after the first has exactly its first most - stride tokens as prompt
    assert all(first - start == most - stride for start, _, first in found[1:])


def slow_text(model, tokenizer, stride, left_to_right):
    """[(document, nats)] of every scored token: one window at a time, by the model's own loss."""
    most, special, found = model.config.max_positions - 1, tokenizer.special, []
    for n, document in enumerate(DOCUMENTS):
        ids, index, done = tokenizer.encode(document), 0, 1
        while done < len(ids):
            window = ids[index * stride : index * stride + most]
            prompt = 1 if index == 0 or left_to_right else most - stride
            span = Span(1 + prompt, 1 + len(window))
            example = build_example([special.cls, *window], [span], [0], special, "document")
            assert special.eos not in example.tokens and special.eop not in example.targets
            assert example.part_a_len == prompt + 2 <= model.config.max_positions
            with torch.no_grad():
                losses = model.loss(pack([example]), "none").tolist()
            for i, loss in enumerate(losses, start=index * stride + prompt):
                if i >= done:
                    found.append((n, loss))
            done, index = index * stride + len(window), index + 1
    return found


@pytest.mark.parametrize("stride", [None, 1, 20, 62])
def test_text_is_what_a_loop_over_windows_says(model, tokenizer, stride):
    report = evaluate_text(model, tokenizer, DOCUMENTS, stride=stride)
    lengths = tokenizer.byte_lengths()
    for reading in ("bidirectional", "left_to_right"):
        slow = slow_text(model, tokenizer, stride or 32, reading == "left_to_right")
        tokens = sum(len(tokenizer.encode(d)) - 1 for d in DOCUMENTS)
        assert len(slow) == tokens
        nats = math.fsum(loss for _, loss in slow)
        n_bytes = sum(len(d.encode()) - int(lengths[tokenizer.encode(d)[0]]) for d in DOCUMENTS)
        words = sum(len(d.split()) - 1 for d in DOCUMENTS)
        assert value(report, f"bits_per_byte_{reading}") == pytest.approx(
            nats / math.log(2) / n_bytes, rel=1e-10
        )
        assert value(report, f"perplexity_{reading}") == pytest.approx(math.exp(nats / tokens), rel=1e-10)
        assert value(report, f"perplexity_per_word_{reading}") == pytest.approx(
            math.exp(min(20, nats / words)), rel=1e-9
        )
        assert [
            report["metrics"][f"{x}_{reading}"]["n"]
            for x in ("bits_per_byte", "perplexity", "perplexity_per_word")
        ] == [n_bytes, tokens, words]
        for number, line in enumerate(report["predictions"]):
            own = math.fsum(loss for document, loss in slow if document == number)
            assert line[f"nats_{reading}"] == pytest.approx(own, rel=1e-10)
    assert report["windows"] == sum(
        1 for d in DOCUMENTS for _ in windows(len(tokenizer.encode(d)), 63, stride or 32)
    )


def test_the_two_readings_differ_only_behind_the_first_window(model, tokenizer):
    short = evaluate_text(model, tokenizer, DOCUMENTS[1:2])
    assert value(short, "perplexity_bidirectional") == pytest.approx(
        value(short, "perplexity_left_to_right"), rel=1e-12
    )
    long = evaluate_text(model, tokenizer, DOCUMENTS[:1])
    assert value(long, "perplexity_bidirectional") != value(long, "perplexity_left_to_right")


def test_documents_that_come_twice_or_in_another_order_change_no_mean(model, tokenizer):
    once, twice = (
        evaluate_text(model, tokenizer, DOCUMENTS),
        evaluate_text(model, tokenizer, [*DOCUMENTS[::-1], *DOCUMENTS]),
    )
    for name, m in once["metrics"].items():
        assert value(twice, name) == pytest.approx(m["value"], rel=1e-12)
        assert twice["metrics"][name]["n"] == 2 * m["n"]
        if m["value"] < 1e8:  # at the bound of perplexity there is none
            assert twice["metrics"][name]["standard_error"] < m["standard_error"]


def test_how_samples_are_packed_changes_nothing(model, tokenizer, monkeypatch):
    whole = evaluate_text(model, tokenizer, DOCUMENTS)
    monkeypatch.setattr(perplexity_module, "BATCH_ROWS", 100)
    monkeypatch.setattr(perplexity_module, "LOGIT_ROWS", 7)
    for name, m in evaluate_text(model, tokenizer, DOCUMENTS)["metrics"].items():
        assert m["value"] == pytest.approx(whole["metrics"][name]["value"], rel=1e-12)


def test_the_mask_of_the_prompt_matters_and_a_wrong_one_is_told(model, tokenizer):
    a, b = (evaluate_text(model, tokenizer, DOCUMENTS, mask=mask) for mask in ("MASK", "gMASK"))
    assert value(a, "perplexity_bidirectional") != value(b, "perplexity_bidirectional")
    with pytest.raises(MinglmError, match="mask: 'X' is not accepted; MASK, sMASK, gMASK are"):
        evaluate_text(model, tokenizer, DOCUMENTS, mask="X")


def test_a_text_without_white_space_has_no_perplexity_per_word_and_a_short_document_is_skipped(
    model, tokenizer, capsys
):
    report = evaluate_text(model, tokenizer, ["中文中文中文", "", "a", "b"])
    assert set(report["metrics"]) == {
        f"{x}_{y}" for x in ("bits_per_byte", "perplexity") for y in ("bidirectional", "left_to_right")
    }
    assert report["skipped"] == 3 and "3 of 4 documents were skipped" in capsys.readouterr().err
    assert [line["document"] for line in report["predictions"]] == [0]
    assert report["metrics"]["perplexity_bidirectional"]["standard_error"] is None  # one window
    with pytest.raises(MinglmError, match="none of 2 has 2 tokens"):
        evaluate_text(model, tokenizer, ["", "a"])
    with pytest.raises(MinglmError, match="stride: 63 is not accepted; a whole number from 1 to 62 is"):
        evaluate_text(model, tokenizer, DOCUMENTS, stride=63)


def test_bzip2_stands_beside_a_longer_text(model, tokenizer):
    import bz2

    text = "\n".join(f"Anna took {i} keys." for i in range(800))
    assert evaluate_text(model, tokenizer, DOCUMENTS)["yardsticks"] == {}
    found = evaluate_text(model, tokenizer, text)["yardsticks"]["bits_per_byte_of_bzip2"]
    assert found == pytest.approx(8 * len(bz2.compress(text.encode() + b"\n")) / len(text))


def test_a_model_whose_scores_are_not_finite_is_told(model, tokenizer):
    broken = GLM(model.config)
    with torch.no_grad():
        broken.token_embedding.weight.fill_(math.nan)
    with pytest.raises(MinglmError, match="not finite"):
        evaluate_text(broken, tokenizer, DOCUMENTS)


# ---- the last word ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["bidirectional", "left_to_right"])
def test_the_last_word_is_what_one_sample_at_a_time_says(model, tokenizer, reading):
    special, nats, right = tokenizer.special, [], []
    for row in LAST:
        context, answer = tokenizer.encode(row["context"]), tokenizer.encode(" " + row["answer"])
        context = context[-min(61, 65 - len(answer)) :]
        start = 1 + (len(context) if reading == "bidirectional" else min(1, len(context)))
        text = [special.cls, *context, *answer, special.eos]
        example = build_example(text, [Span(start, len(text) - 1)], [0], special, "document")
        batch = pack([example])
        assert (
            example.tokens[start : start + 2].tolist() == [special.gmask, special.eos]
            and start + 2 == example.part_a_len
        )
        with torch.no_grad():
            logits = model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)
            losses = model.loss(batch, "none")[:-1]  # without eop
        best = logits[example.part_a_len : -1].argmax(-1).tolist()
        nats.append(float(losses[-len(answer) :].sum()))
        right.append(best[-len(answer) :] == answer)
    report = evaluate_last_word(model, tokenizer, numbered(LAST))
    assert [line[f"correct_{reading}"] for line in report["predictions"]] == right
    assert [line[f"log_probability_{reading}"] for line in report["predictions"]] == pytest.approx(
        [-x for x in nats]
    )
    assert value(report, f"accuracy_{reading}") == sum(right) / len(LAST)
    assert value(report, f"word_perplexity_{reading}") == pytest.approx(math.exp(statistics.fmean(nats)))
    error = math.exp(statistics.fmean(nats)) * statistics.stdev(nats) / math.sqrt(len(LAST))
    assert report["metrics"][f"word_perplexity_{reading}"]["standard_error"] == pytest.approx(error)
    assert report["cut"] == 1


def test_a_word_is_right_when_all_its_tokens_are_the_likeliest_and_its_error_is_the_formula(
    model, tokenizer, monkeypatch
):
    def scripted(_, examples):
        for n, example in enumerate(examples):
            best = example.targets.copy()
            best[-1] += n in (6, 7)  # of row 3, in both readings, the last of several tokens
            yield np.full(len(best), 0.5), best

    monkeypatch.setattr(perplexity_module, "read_answers", scripted)
    report = evaluate_last_word(model, tokenizer, numbered(LAST))
    for reading in ("bidirectional", "left_to_right"):
        m = report["metrics"][f"accuracy_{reading}"]
        assert m == dict(
            value=0.8, standard_error=pytest.approx(math.sqrt(0.8 * 0.2 / 5)), n=5, of="passages"
        )
    words = [len(tokenizer.encode(" " + row["answer"])) for row in LAST]
    assert words[3] > 1 and [line["correct_bidirectional"] for line in report["predictions"]] == [
        True
    ] * 3 + [False, True]
    assert value(report, "word_perplexity_bidirectional") == pytest.approx(
        math.exp(0.5 * statistics.fmean(words))
    )
    assert report["predictions"][1]["predicted_bidirectional"] == " home"


# ---- the blanks of a text --------------------------------------------------------------------------------


def test_blanks_are_filled_as_fill_does(model, tokenizer):
    report = evaluate_infill(model, tokenizer, numbered(INFILL))
    for row, line in zip(INFILL, report["predictions"], strict=True):
        filled = fill(model, tokenizer, row["text"].replace("[BLANK]", "[MASK]"))
        assert line["restored"] == filled.text and line["filled"] == [blank.text for blank in filled.blanks]


def script(monkeypatch, tokenizer, answer):
    """Every blank is filled with `answer(n)`, n being its number among all blanks."""
    count = iter(range(10**6))

    def fill_drafts(model, drafts, dials):
        for draft in drafts:
            for gap in draft.blanks:
                gap.tokens = tokenizer.encode(answer(next(count)))
        return drafts

    monkeypatch.setattr(module, "fill_drafts", fill_drafts)


def test_a_perfect_model_restores_everything(model, tokenizer, monkeypatch):
    right = [" " + word for row in INFILL for word in row["blanks"]]
    right[1] = right[1].strip()  # its text begins with the blank
    script(monkeypatch, tokenizer, right.__getitem__)
    report = evaluate_infill(model, tokenizer, numbered(INFILL))
    assert {name: m["value"] for name, m in report["metrics"].items() if name.startswith("exact")} == {
        "exact_match": 1.0,
        "exact_match_at_10%": 1.0,
        "exact_match_at_50%": 1.0,
    }
    assert [line["restored"] for line in report["predictions"]] == [
        with_blanks(tokenizer, row)[2] for row in INFILL
    ]


def test_exact_matches_are_counted_by_blank_and_by_ratio(model, tokenizer, monkeypatch):
    said = [" house", "There", " of", "  bread,", " went  home. The day was long"]
    script(monkeypatch, tokenizer, said.__getitem__)
    report = evaluate_infill(model, tokenizer, numbered(INFILL))
    exact = {name: (m["value"], m["n"]) for name, m in report["metrics"].items() if name.startswith("exact")}
    assert exact == {
        "exact_match": (3 / 5, 5),
        "exact_match_at_10%": (1, 1),
        "exact_match_at_50%": (2 / 4, 4),
    }
    right, blanks = np.array([1, 2, 0]), np.array([1, 3, 1])
    without = [(right.sum() - r) / (blanks.sum() - b) for r, b in zip(right, blanks, strict=True)]
    error = math.sqrt(2 / 3 * sum((x - statistics.fmean(without)) ** 2 for x in without))
    assert report["metrics"]["exact_match"]["standard_error"] == pytest.approx(error)
    assert report["metrics"]["exact_match_at_10%"]["standard_error"] is None


@needs("sacrebleu")
def test_bleu_is_sacrebleus_and_stands_beside_that_of_the_bare_text(model, tokenizer):
    import sacrebleu

    report = evaluate_infill(model, tokenizer, numbered(INFILL))
    wholes = [with_blanks(tokenizer, row)[2] for row in INFILL]
    assert wholes[1] == 'There Anna asked for bread! "I have bread," said Ben.'
    ours = sacrebleu.corpus_bleu([line["restored"] for line in report["predictions"]], [wholes]).score
    bare = sacrebleu.corpus_bleu([row["text"].replace("[BLANK]", "") for row in INFILL], [wholes]).score
    assert value(report, "bleu") == pytest.approx(ours)
    assert report["yardsticks"]["bleu_of_blanks_left_out"] == pytest.approx(bare)
    texts = [[line["restored"] for line in report["predictions"][1:]], wholes[1:]]
    assert value(report, "bleu_at_50%") == pytest.approx(sacrebleu.corpus_bleu(texts[0], [texts[1]]).score)
    assert bleu_of(bleu_counts(wholes, wholes)) == pytest.approx(100)


def test_without_sacrebleu_the_rest_is_told_and_bleu_is_named(model, tokenizer, monkeypatch, capsys):
    hide(monkeypatch, "sacrebleu")
    report = evaluate_infill(model, tokenizer, numbered(INFILL))
    assert (
        set(report["metrics"]) == {"exact_match", "exact_match_at_10%", "exact_match_at_50%"}
        and not report["yardsticks"]
    )
    err = capsys.readouterr().err
    assert err == f"minglm: note: without BLEU: sacrebleu is not installed; {how_to_install('tasks')}\n"


def test_a_text_that_is_too_long_is_read_in_pieces_and_comes_back_whole(model, tokenizer, capsys):
    row = dict(text="Anna took \U0001f600 and [BLANK] went home. " * 30, blanks=["water"] * 30)
    report = evaluate_infill(model, tokenizer, {"row": row})
    [line] = report["predictions"]
    assert len(line["filled"]) == 30 and "\ufffd" not in line["restored"].replace("".join(line["filled"]), "")
    assert line["restored"].count("Anna took \U0001f600 and") == 30
    assert "1 of 1 texts were too long for this model, which reads 64 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("n", [1, 5, 62, 63, 300])
def test_pieces_are_the_text_again(n):
    pieces = in_pieces(list(range(n)), 62)
    assert [i for piece in pieces for i in piece] == list(range(n)) and len(pieces) == -(-n // 62)
    assert (
        all(0 < len(piece) <= 62 for piece in pieces) and max(map(len, pieces)) - min(map(len, pieces)) <= 1
    )


def test_what_a_row_says_is_text_even_a_special_token(model, tokenizer):
    row = dict(text="a [MASK] <|endoftext|> [CLS] [BLANK] b", blanks=["[gMASK]"])
    [line] = evaluate_infill(model, tokenizer, {"row": row})["predictions"]
    assert line["restored"].startswith("a [MASK] <|endoftext|> [CLS]") and len(line["filled"]) == 1
    assert evaluate_last_word(model, tokenizer, {"row": dict(context="a [gMASK]", answer="[MASK]")})[
        "metrics"
    ]
    assert evaluate_text(model, tokenizer, ["a [MASK] <|endoftext|> b"])["metrics"]


# ---- tasks with a pattern --------------------------------------------------------------------------------


def kinds(n=30):
    things = [("bread", "food"), ("the key", "other"), ("water", "food")]
    return [dict(text=f"Anna asked Ben for {thing}.", label=label) for thing, label in (things * n)[:n]]


def test_a_task_of_classification_is_measured_as_cloze_measures(model, tokenizer):
    rows = kinds()
    report = evaluate_cloze(model, tokenizer, TASK, numbered(rows))
    questions = ask_all(TASK, tokenizer, numbered(rows), 64, labelled=True)
    scores = measure(predict(ClozeScorer(model), questions), questions)
    error = standard_error(scores["accuracy"], 30)
    assert report["metrics"]["accuracy"] == dict(
        value=scores["accuracy"], standard_error=error, n=30, of="texts"
    )
    assert value(report, "macro_f1") == scores["macro_f1"]
    assert report["yardsticks"] == {"accuracy_of_chance": 0.5, "accuracy_of_most_frequent_label": 2 / 3}
    said = classify(model, tokenizer, TASK, rows)
    assert [(line["predicted"], line["probabilities"]) for line in report["predictions"]] == [
        (p.label, p.probabilities) for p in said
    ]


def test_rows_with_their_own_candidates_have_no_macro_f1(model, tokenizer):
    rows = [
        dict(context="Anna took bread.", query="Ben asked for [BLANK].", candidates=c, answer="bread")
        for c in (["bread", "night"], ["a horse", "bread", "water", "the key"])
    ]
    report = evaluate_cloze(model, tokenizer, read_task("book_cloze"), numbered(rows))
    assert set(report["metrics"]) == {"accuracy"} and report["yardsticks"] == {
        "accuracy_of_chance": (1 / 2 + 1 / 4) / 2
    }


def test_text_to_text_stands_beside_its_source(model, tokenizer):
    task, rows = (
        read_task("modernise"),
        [dict(src="Anna hath water.", tgt="Anna has water."), dict(src="a key", tgt="a key")],
    )
    report = module.evaluate_text_to_text(model, tokenizer, task, numbered(rows))
    written = seq2seq.generate(
        model, tokenizer, ask_all(task, tokenizer, numbered(rows), 64), seq2seq.dials_of(task)
    )
    assert [line["written"] for line in report["predictions"]] == written
    assert report["yardsticks"]["exact_match_of_copying"] == 0.5
    spread = abs(float(written[0] == rows[0]["tgt"]) - float(written[1] == rows[1]["tgt"])) / 2
    assert report["metrics"]["exact_match"]["standard_error"] == spread  # each row is left out in turn
    found = compare(written, ["Anna has water.", "a key"])
    assert all(
        report["metrics"][name]["value"] == found[name]
        for name in found
        if name != "exact" and found[name] is not None
    )


# ---- how sure a number is --------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_the_textbook_error():
    x = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    assert jackknife(mean_of(x, np.ones(6)), 6) == pytest.approx((x.mean(), x.std(ddof=1) / math.sqrt(6)))
    assert jackknife(mean_of(x[:1], [1]), 1) == (3.0, None)


def test_a_perplexity_has_the_error_of_its_mean_times_its_slope_and_a_bound():
    nats, tokens = np.array([2.0, 6.0, 4.0]), np.array([1, 2, 3])
    mean, error = jackknife(mean_of(nats, tokens), 3)
    assert mean == 2 and error > 0
    assert perplexity(nats, tokens) == pytest.approx((math.exp(2), math.exp(2) * error))
    assert perplexity(nats, tokens, 3) == pytest.approx((math.exp(6), math.exp(6) * 3 * error))
    assert perplexity(nats, tokens, 11) == (math.exp(20), None)


def test_of_many_rows_runs_of_neighbours_are_left_out():
    x, w = np.arange(23.0) ** 2, np.arange(1.0, 24)
    value, error = jackknife(mean_of(x, w), 23, most=5)
    groups = [range(0, 5), range(5, 10), range(10, 15), range(15, 19), range(19, 23)]
    without = [
        sum(x[i] for i in range(23) if i not in g) / sum(w[i] for i in range(23) if i not in g)
        for g in groups
    ]
    assert value == pytest.approx(x.sum() / w.sum())
    assert error == pytest.approx(
        math.sqrt(4 / 5 * sum((y - statistics.fmean(without)) ** 2 for y in without))
    )


# ---- what a person would accept --------------------------------------------------------------------------

EVERYDAY = [
    dict(text="Anna went to the [MASK].", accept=["house", "Town"]),
    dict(text="Ben said [MASK] to Clara.", accept=["so"]),
    dict(text="The day was [MASK]", accept=["long"]),
]


def test_an_answer_counts_without_case_outer_spaces_and_final_punctuation(model, tokenizer, monkeypatch):
    greedy = [" HOUSE. ", " no", " long!？。"]
    likeliest = [["day", "night", "town"], ["a", "b", "so so"], ["long"]]

    def fill_drafts(model, drafts, dials):
        for draft in drafts:
            row = [row["text"] for row in EVERYDAY].index(
                tokenizer.decode(draft.ids).replace("[MASK]", " [MASK]")
            )
            draft.blanks[0].tokens = tokenizer.encode(greedy[row])
            draft.blanks[0].found = [(tokenizer.encode(text), [], True) for text in likeliest[row]][
                : dials.top
            ]
        return drafts

    monkeypatch.setattr(module, "fill_drafts", fill_drafts)
    report = evaluate_everyday(model, tokenizer, numbered(EVERYDAY))
    assert report["metrics"]["accuracy"] == dict(
        value=2 / 3, standard_error=standard_error(2 / 3, 3), n=3, of="texts"
    )
    assert value(report, "accuracy_in_five") == 2 / 3
    assert [line["filled"] for line in report["predictions"]] == ["HOUSE.", "no", "long!？。"]
    assert report["predictions"][0]["likeliest"] == ["day", "night", "town"]


def test_everyday_blanks_are_filled_as_fill_does(model, tokenizer):
    for row, line in zip(
        EVERYDAY, evaluate_everyday(model, tokenizer, numbered(EVERYDAY))["predictions"], strict=True
    ):
        assert line["filled"] == fill(model, tokenizer, row["text"]).blanks[0].text.strip()
        five = fill(model, tokenizer, row["text"], top=5).blanks[0].alternatives
        assert line["likeliest"] == [filling.text.strip() for filling in five] and len(five) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(text="no blank"), "FILE:1: text: 'no blank' is not accepted; a text with one [MASK] is"),
        (dict(text="[MASK] and [MASK]"), "a text with one [MASK] is"),
        (dict(text="[sMASK]"), "a text with one [MASK] is"),
        (dict(text=3), "FILE:1: text: 3 is not accepted"),
        (dict(accept=[]), "FILE:1: accept: [] is not accepted; a list of answers is"),
        (dict(accept="so"), "accept: 'so' is not accepted"),
        (dict(accept=["so", "!"]), "a list of answers is"),
        (dict(accept=None), "accept: None is not accepted"),
        (dict(text="bread " * 99 + "[MASK]"), "FILE:1: text: 1"),
    ],
)
def test_what_is_no_everyday_row_is_told_where_it_stands(model, tokenizer, change, message):
    with pytest.raises(MinglmError) as caught:
        evaluate_everyday(model, tokenizer, {"FILE:1": EVERYDAY[0] | change})
    assert message in str(caught.value) and "\n" not in str(caught.value)


# ---- the command line ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    lines(folder / "infill.jsonl", INFILL)
    lines(folder / "last.jsonl", LAST)
    lines(folder / "everyday.jsonl", EVERYDAY)
    lines(folder / "kinds.jsonl", kinds())
    (folder / "text.txt").write_text("\n\n".join(DOCUMENTS), encoding="utf-8")
    (folder / "text.txt.xz").write_bytes(lzma.compress("\n\n".join(DOCUMENTS).encode()))
    lines(folder / "text.jsonl", [dict(said=d) for d in DOCUMENTS])
    (folder / "kind.toml").write_text(TASK.to_toml(), encoding="utf-8")
    (folder / "empty.jsonl").write_text("\n")
    (folder / "empty.txt").write_text("\n")
    (folder / "short.txt").write_text("a\n")
    (folder / "bytes.txt").write_bytes(b"Anna \xff took bread and water.")
    return folder


@pytest.mark.parametrize(
    ("task", "file", "words"),
    [
        (
            "text",
            "text.txt",
            ["bits per byte bidirectional", "per word left to right", "windows of 63 tokens, 32 apart"],
        ),
        ("last_word", "last.jsonl", ["accuracy left to right", "5 passages"]),
        ("infill", "infill.jsonl", ["exact match at 50%", "4 blanks"]),
        ("everyday", "everyday.jsonl", ["accuracy in five", "3 texts"]),
        ("{}/kind.toml", "kinds.jsonl", ["accuracy", "macro f1", "accuracy of most frequent label 66.7 %"]),
    ],
)
def test_a_task_prints_the_same_numbers_twice_and_as_json(
    evaluate, small_run, files, tmp_path, task, file, words
):
    args = ("--task", task.format(files), "--file", files / file, "--model", small_run)
    table = evaluate(*args)
    assert table.code == 0 and all(word in " ".join(table.out.split()) for word in words), table
    assert max(map(len, table.out.splitlines()[1:])) <= 120
    assert evaluate(*args).out == table.out
    out = tmp_path / "said.jsonl"
    found = evaluate(*args, "--json", "--out", out)
    assert found.code == 0 and found.out.count("\n") == 1
    report = json.loads(found.out)
    assert report["file"] == str(files / file) and "predictions" not in report
    for name, m in report["metrics"].items():
        assert (
            shown(name, m["value"], m["standard_error"]) in table.out and f"{m['n']:,} {m['of']}" in table.out
        )
    said = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (
        len(said)
        == dict(text=4, kinds=30, infill=len(INFILL), last=len(LAST), everyday=len(EVERYDAY))[
            file.split(".")[0]
        ]
    )
    assert f"wrote       {out}: {len(said)} rows" in found.err


def test_running_text_may_be_packed_or_jsonl(evaluate, small_run, files):
    plain, packed, rows = (
        json.loads(
            evaluate("--task", "text", "--model", small_run, "--json", "--file", files / name, *more).out
        )["metrics"]
        for name, more in (("text.txt", ()), ("text.txt.xz", ()), ("text.jsonl", ("--text-key", "said")))
    )
    assert plain == packed
    assert rows["perplexity_bidirectional"]["n"] == pytest.approx(
        plain["perplexity_bidirectional"]["n"], abs=4
    )  # line ends
    by_line = evaluate(
        "--task", "text", "--model", small_run, "--json", "--file", files / "text.txt", "--documents", "line"
    )
    assert json.loads(by_line.out)["documents"] > 4
    assert (
        evaluate(
            "--task", "text", "--model", small_run, "--file", files / "bytes.txt", "--errors", "replace"
        ).code
        == 0
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ("--task", "last-word", "--file", "last.jsonl"),
            "unknown task 'last-word'; did you mean last_word?",
        ),
        (("--task", "sentimant", "--file", "last.jsonl"), "did you mean sentiment?"),
        (("--task", "qqq", "--file", "last.jsonl"), "accepted: text, last_word, infill, everyday, "),
        (("--file", "last.jsonl"), "--task is missing; accepted: text, last_word, infill, everyday, "),
        (("--task", "last_word", "--file", "none.jsonl"), "none.jsonl: cannot be read"),
        (("--task", "text", "--file", "none.txt"), "none.txt: no such file"),
        (("--task", "last_word", "--file", "empty.jsonl"), "empty.jsonl: no row in it"),
        (("--task", "text", "--file", "empty.txt"), "documents: none of 0 has 2 tokens or more"),
        (("--task", "text", "--file", "short.txt"), "documents: none of 1 has 2 tokens or more"),
        (("--task", "text", "--file", "bytes.txt"), "--errors replace goes on"),
        (
            ("--task", "text", "--file", "text.jsonl"),
            "text.jsonl:1: no key 'text'; the keys there are: 'said'",
        ),
        (
            ("--task", "last_word", "--file", "infill.jsonl"),
            "infill.jsonl:1: no column 'context'; the columns there are: 'id', ",
        ),
        (("--task", "infill", "--file", "last.jsonl"), "last.jsonl:1: no column 'text'"),
        (("--task", "infill", "--file", "kinds.jsonl"), "kinds.jsonl:1: blanks: None is not accepted"),
        (("--task", "sentiment", "--file", "kinds.jsonl"), "kinds.jsonl:1: label: 'food' is no label"),
        (("--task", "infill", "--file", "text.txt"), "text.txt:1: not JSON"),
        (
            ("--task", "infill", "--file", "infill.jsonl", "--stride", "3"),
            "--stride: goes with --task text, not with infill",
        ),
        (
            ("--task", "infill", "--file", "infill.jsonl", "--mask", "MASK"),
            "--mask: goes with --task text or last_word",
        ),
        (
            ("--task", "text", "--file", "text.txt", "--stride", "64"),
            "stride: 64 is not accepted; a whole number from 1 to 62 is",
        ),
        (
            ("--task", "text", "--file", "text.txt", "--stride", "0"),
            "'0' is not accepted; a whole number >= 1 is",
        ),
        (("--task", "infill", "--file", "infill.jsonl", "--out", "."), "--out: . cannot be written"),
        (("--task", "infill", "--file", "infill.jsonl", "--out", "infill.jsonl"), "is also the input file"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line_with_code_2(
    evaluate, small_run, files, monkeypatch, args, told
):
    monkeypatch.chdir(files)
    found = evaluate(*args, "--model", small_run)
    assert found.code == 2 and told in found.err and not found.out, found
    if "usage" not in found.err:  # argparse's own
        assert found.err.startswith("minglm: error: ") and found.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(blanks=["a", "b"]), "blanks: 2 for 1 times [BLANK] in text; one for each is needed"),
        (dict(text="none", blanks=[]), "blanks: 0 for 0 times"),
        (dict(blanks=[" "]), "a list with the words of each [BLANK] is"),
        (dict(blanks=[3]), "blanks: [3] is not accepted"),
        (dict(blanks="a"), "blanks: 'a' is not accepted"),
        (dict(text=["a"]), "text: ['a'] is not accepted; a text is"),
        (dict(ratio=0), "ratio: 0 is not accepted"),
        (dict(ratio=True), "ratio: True is not accepted"),
        (dict(ratio=math.nan), "ratio: nan is not accepted"),
        (dict(text="\ud800 [BLANK]"), "is not valid unicode"),
        (dict(blanks=["\ud800"]), "is not valid unicode"),
    ],
)
def test_hostile_rows_of_blanks(model, tokenizer, change, told):
    with pytest.raises(MinglmError) as error:
        evaluate_infill(model, tokenizer, {"FILE:1": INFILL[0] | change})
    assert (
        told in str(error.value) and str(error.value).startswith("FILE:1: ") and "\n" not in str(error.value)
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (dict(answer=" "), "answer: it is empty; a word is needed"),
        (dict(answer=None), "answer: None is not accepted; a text is"),
        (dict(answer="x" * 1000), "tokens; at most 64 are accepted"),
        (dict(context=7), "context: 7 is not accepted"),
        (dict(context="\udfff"), "is not valid unicode"),
    ],
)
def test_hostile_rows_of_passages(model, tokenizer, change, told):
    with pytest.raises(MinglmError) as error:
        evaluate_last_word(model, tokenizer, {"FILE:1": LAST[0] | change})
    assert (
        told in str(error.value) and str(error.value).startswith("FILE:1: ") and "\n" not in str(error.value)
    )


def test_predictions_are_written_whole_or_not_at_all(evaluate, small_run, files, tmp_path, monkeypatch):
    out = tmp_path / "said.jsonl"
    out.write_text("old\n")
    rows = lines(
        tmp_path / "rows.jsonl", [LAST[0] | {"id": "\ud800"}, LAST[1]]
    )  # a lone surrogate in a column that is not read
    args = ("--task", "last_word", "--model", small_run, "--out", out, "--file")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        found = evaluate(*args, rows)
    assert found.code == 2 and "No space left" in found.err and out.read_text() == "old\n"
    assert "accuracy" in found.out  # the numbers are not lost
    assert evaluate(*args, files / "infill.jsonl").code == 2 and out.read_text() == "old\n"
    assert evaluate(*args, rows).code == 0
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()[:1]] == ["\ud800"]
