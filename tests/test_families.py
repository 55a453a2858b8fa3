"""Seven ways to train one network: the rows of each family against viz, by hand, and in generation."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from minglm import GLM, GLMConfig, GLMMask, MinglmError, Tokenizer, explain, fill, pack, write
from minglm.data.samples import SampleSource, TrainingBatches, cut_windows
from minglm.families import (
    FAMILIES,
    INFILLING,
    WORDS,
    answer_example,
    as_family,
    continuation,
    objectives_of,
    sentinel,
    training_example,
)
from minglm.infilling import SpecialTokens
from minglm.measure.evaluate import evaluate_infill
from minglm.measure.perplexity import evaluate_last_word, evaluate_text
from minglm.rng import Rng
from minglm.train.config import Finetuning, resolve
from minglm.train.finetune import LabelScorer, fit
from minglm.use.cloze import ClozeScorer, predict
from minglm.use.drafts import Dials, Draft, fill_drafts
from minglm.use.questions import ask_all
from minglm.use.tasks import Cloze, TextToText

S = SpecialTokens()
VOCABULARY = 64
DIALS = dict(
    has_eos=True,
    mask_ratio=0.15,
    mean_length=3.0,
    max_length=40,
    document_ratio=(0.5, 1.0),
    sentence_ends=np.arange(VOCABULARY) == 30,
    starts_sentence=True,
)
TEXT = [S.cls, *range(31, 59), S.eos]


def drawn(family, seed, objective=None, text=TEXT):
    objective = objective or objectives_of(family)[0]
    return training_example(family, text, objective, Rng(seed), S, VOCABULARY, DIALS)


def model_of(family, vocabulary=VOCABULARY, positions=64):
    torch.manual_seed(0)
    model = GLM(GLMConfig(vocabulary, 32, 2, 2, positions, dropout=0.0, family=family)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(6 if p.dim() > 1 else 1)  # so that rows differ clearly
    return model


# ---- rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt", "prefix", "bert"])
@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_the_pictures(family, seed):
    """`explain` was written independently: both must give the same rows for the same spans."""
    e = drawn(family, seed)
    L = len(TEXT)
    each = [(int(row), int(row) + 1) for row in e.target_rows]
    spans = {"gpt": [(1, 2)], "prefix": [(e.part_a_len, L)], "bert": each}[family]
    d = explain(TEXT, spans, range(len(spans)), model=family)
    rows = len(e.tokens)
    assert d.part_a_len == e.part_a_len
    assert d.position_ids[:rows].tolist() == e.position_ids.tolist()
    learned = {int(row): str(target) for row, target in zip(e.target_rows, e.targets, strict=True)}
    named = {S.eos: "[EOS]"}
    assert {i: text for i, text in enumerate(d.targets) if text} == {
        i: named.get(int(text), text) for i, text in learned.items()
    }
    assert np.array_equal(pack([e]).mask.dense().numpy(), d.mask[:rows, :rows])
    if family != "bert":  # the last token has no row, because nothing follows it
        assert rows == L - 1 and e.tokens.tolist() == TEXT[:-1]


def test_gpt_learns_every_token_but_the_first_from_the_row_before_it():
    e = drawn("gpt", 0)
    assert (
        e.part_a_len == 0
        and e.targets.tolist() == TEXT[1:]
        and e.target_rows.tolist() == list(range(len(TEXT) - 1))
    )
    assert not e.block_position_ids.any()


def test_prefix_continues_as_much_as_a_gmask_span_covers():
    for seed in range(50):
        e, glm = drawn("prefix", seed), drawn("glm", seed, "document")
        assert e.targets.tolist() == glm.targets[: len(e.targets)].tolist()  # glm adds an eop
        assert len(glm.targets) == len(e.targets) + 1
        assert e.target_rows.tolist() == list(range(e.part_a_len - 1, len(TEXT) - 1))


def test_bert_hides_fifteen_per_cent_and_leaves_the_rest_as_it_was():
    counts = np.zeros(3)  # masked, replaced, unchanged
    for seed in range(2000):
        e = drawn("bert", seed)
        assert len(e.targets) == int(0.15 * len(TEXT)) and e.part_a_len == len(e.tokens) == len(TEXT)
        assert e.targets.tolist() == [TEXT[row] for row in e.target_rows]
        assert 0 not in e.target_rows and len(TEXT) - 1 not in e.target_rows  # cls and eos
        others = np.setdiff1d(np.arange(len(TEXT)), e.target_rows)
        assert e.tokens[others].tolist() == [TEXT[row] for row in others]
        now = e.tokens[e.target_rows]
        masked, left = now == S.mask, now == e.targets
        counts += masked.sum(), (~masked & ~left).sum(), left.sum()
        assert (now[~masked] >= WORDS).all()
    share = counts / counts.sum()
    expected = np.array(
        [0.8, 0.1 * (VOCABULARY - WORDS - 1) / (VOCABULARY - WORDS), 0.1 + 0.1 / (VOCABULARY - WORDS)]
    )
    assert np.abs(share - expected).max() < 4 * np.sqrt(0.25 / counts.sum())


def test_ablations_differ_from_glm_in_what_their_name_says_and_in_nothing_else():
    shuffled = False
    for seed in range(30):
        glm = drawn("glm", seed)
        flat, named = drawn("glm-1d", seed), drawn("glm-sentinels", seed)
        A = glm.part_a_len
        for e in (flat, named):
            assert (
                e.targets.tolist() == glm.targets.tolist()
                and e.position_ids.tolist() == glm.position_ids.tolist()
            )
            assert e.part_a_len == A and e.tokens[A:].tolist() == glm.tokens[A:].tolist()
        assert flat.tokens.tolist() == glm.tokens.tolist() and not flat.block_position_ids.any()
        assert named.block_position_ids.tolist() == glm.block_position_ids.tolist()
        blanks = np.flatnonzero(glm.tokens[:A] == S.mask)
        assert named.tokens[blanks].tolist() == [8 + n for n in range(len(blanks))]
        ordered = drawn("glm-ordered", seed)
        starts = ordered.position_ids[ordered.part_a_len :][
            ordered.block_position_ids[ordered.part_a_len :] == 1
        ]
        assert (np.diff(starts) > 0).all()
        assert sorted(ordered.targets.tolist()) == sorted(glm.targets.tolist())  # the same spans
        shuffled |= ordered.targets.tolist() != glm.targets.tolist()
    assert shuffled


def test_the_seventeenth_sentinel_is_the_first_again():
    assert [sentinel(n) for n in (0, 15, 16)] == [8, 23, 8]


def test_continuation_by_hand():
    e = continuation([5, 6, 7, 8], 2, 2, S, "prefix")
    assert (e.tokens.tolist(), e.target_rows.tolist(), e.targets.tolist(), e.part_a_len) == (
        [5, 6, 7],
        [1, 2],
        [7, 8],
        2,
    )


def test_a_packed_batch_asks_the_rows_of_each_sample():
    examples = [drawn(family, 3) for family in ("bert", "gpt", "glm", "prefix")]
    batch, start = pack(examples), 0
    rows = []
    for e in examples:
        rows += (start + e.target_rows).tolist()
        start += len(e.tokens)
    assert batch.target_rows.tolist() == rows
    assert batch.targets.tolist() == [t for e in examples for t in e.targets.tolist()]


# ---- training --------------------------------------------------------------------------------------------


def drawn_rows(source, epoch, w):
    e = source.draw(epoch, w)[1]
    return e.tokens.tolist(), e.part_a_len


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_draws_the_same_samples_again_and_others_in_the_next_epoch(family):
    ids = np.arange(31, 59).repeat(30)[:700]
    windows, settings = cut_windows([0, 300, 700], 32), resolve("tiny").data
    ends = np.arange(VOCABULARY) == 30
    sources = [SampleSource(ids, windows, settings, ends, S, seed=5, family=family) for _ in range(2)]
    first, again = (TrainingBatches(source, 128).examples(0) for source in sources)
    for (_, a), (_, b) in zip(first, again, strict=True):
        assert a.tokens.tolist() == b.tokens.tolist() and a.target_rows.tolist() == b.target_rows.tolist()
        assert a.objective in objectives_of(family)
    if family != "gpt":  # gpt draws nothing
        assert any(drawn_rows(sources[0], 0, w) != drawn_rows(sources[0], 1, w) for w in range(9))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_a_batch_by_heart(family):
    torch.manual_seed(0)
    model = GLM(GLMConfig(VOCABULARY, 32, 2, 2, 64, dropout=0.0, family=family))
    batch = pack([drawn(family, seed) for seed in range(3)])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(50):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_an_unknown_family_is_told_what_is_accepted():
    with pytest.raises(
        MinglmError, match="model.family: 'bart' is not accepted; one of glm, glm-ordered, .*prefix"
    ):
        GLMConfig(8, 4, 1, 1, 4, family="bart")


def test_a_config_of_before_families_is_a_glm(tmp_path):
    import json

    model = model_of("glm")
    model.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config.pop("family") == "glm"
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    (tmp_path / "m/manifest.json").unlink()
    assert GLM.from_pretrained(tmp_path / "m").config.family == "glm"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_knows_its_family(family, tmp_path):
    model_of(family).save_pretrained(tmp_path / "m")
    assert GLM.from_pretrained(tmp_path / "m").config.family == family


# ---- use -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    triples = itertools.product(("good", "poor", "he", "she"), ("saw", "film", "it"), ("yes", "no", "was"))
    words = [" ".join(triple) + "." for triple in triples]
    return Tokenizer.train(words * 4, 320)


def greedy(model, tokenizer, text, most):
    """What gpt and prefix write, computed without a cache: everything is read again for each token."""
    ids, A = [tokenizer.special.cls, *tokenizer.encode(text)], len(tokenizer.encode(text)) + 1
    written = []
    is_text = torch.from_numpy(tokenizer.byte_lengths() > 0)
    for n in range(most):
        may = is_text.clone()
        may[[tokenizer.special.eos, tokenizer.special.eop]] = n > 0
        e = continuation(
            [*ids, *written, 0],
            len(ids) + n,
            A if model.config.family == "prefix" else 0,
            tokenizer.special,
            "gpt",
        )
        batch = pack([e])
        logits = model(
            batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask, batch.target_rows
        )[-1]
        token = int(logits.masked_fill(~may, -torch.inf).argmax())
        if token in (tokenizer.special.eos, tokenizer.special.eop):
            break
        written.append(token)
    return written


@pytest.mark.parametrize("family", ["gpt", "prefix"])
@torch.no_grad()
def test_left_to_right_models_write_on_with_a_cache_as_without(family, tokenizer):
    model = model_of(family, tokenizer.vocab_size)
    texts = ["he saw", "she was no film", "it"]
    prompts = [[*tokenizer.encode(text), tokenizer.special.gmask] for text in texts]
    dials = Dials(max_tokens=9)
    drafts = fill_drafts(model, [Draft(model, tokenizer, ids, dials) for ids in prompts], dials)
    for text, draft in zip(texts, drafts, strict=True):
        expected = greedy(model, tokenizer, text, 9)
        assert draft.blanks[0].tokens == expected
        assert len(set(expected)) > 1 or len(expected) < 2  # the model must not repeat itself
    whole = write(model, tokenizer, texts[0], max_tokens=9)
    assert whole == texts[0] + tokenizer.decode(greedy(model, tokenizer, texts[0], 9))


@pytest.mark.parametrize("family", ["gpt", "prefix"])
def test_left_to_right_models_fill_no_blank_with_words_behind_it(family, tokenizer):
    model = model_of(family, tokenizer.vocab_size)
    for text in ("he [MASK] it", "he [MASK]", "[gMASK] he", "[MASK] he [gMASK]"):
        with pytest.raises(
            MinglmError, match=f"trained as {family} writes on, and sees nothing behind a blank"
        ):
            fill(model, tokenizer, text)
    assert fill(model, tokenizer, "he saw [gMASK]", max_tokens=3).text.startswith("he saw")


def test_left_to_right_models_stop_where_their_positions_end(tokenizer):
    model = model_of("gpt", tokenizer.vocab_size, positions=12)
    ids = tokenizer.encode("he saw it")
    dials, ids_to_fill = Dials(min_tokens=12 - len(ids)), [*ids, tokenizer.special.gmask]
    [draft] = fill_drafts(model, [Draft(model, tokenizer, ids_to_fill, dials)], dials)
    # cls is row 0, and the table has a row more than positions
    assert len(ids) + len(draft.blanks[0].tokens) == 12


def test_bert_writes_nothing_and_says_so(tokenizer):
    model = model_of("bert", tokenizer.vocab_size)
    for use in (
        lambda: fill(model, tokenizer, "he [MASK] it"),
        lambda: write(model, tokenizer, "he"),
        lambda: evaluate_text(model, tokenizer, ["he saw it was no"]),
        lambda: evaluate_last_word(model, tokenizer, {"1": {"context": "he saw", "answer": "it"}}),
    ):
        with pytest.raises(MinglmError, match="trained as bert writes nothing"):
            use()


@pytest.mark.parametrize("family", [family for family in INFILLING if family != "glm"])
def test_ablations_fill_what_a_full_reading_says(family, tokenizer):
    model = model_of(family, tokenizer.vocab_size)
    draft = Draft(model, tokenizer, "he [MASK] it [MASK].", Dials(max_tokens=4))
    part_a = [tokenizer.special.cls, *draft.ids, tokenizer.special.eos]
    fill_drafts(model, [draft], Dials(max_tokens=4))
    gap = draft.blanks[0]
    e = answer_example(family, part_a, gap.position, gap.tokens, tokenizer.special)
    batch = pack([e])
    with torch.no_grad():
        log_p = model(
            *[getattr(batch, n) for n in ("tokens", "position_ids", "block_position_ids", "mask")],
            batch.target_rows,
        ).log_softmax(-1)
    for n, token in enumerate(gap.tokens):
        assert float(log_p[n, token]) == pytest.approx(gap.scores[n], abs=1e-4)
    if family == "glm-sentinels":
        assert [t for t in e.tokens[: e.part_a_len] if 8 <= t < 24] == [
            8,
            9,
        ] and tokenizer.special.mask not in e.tokens
    if family == "glm-1d":
        assert not e.block_position_ids.any()


TASK = Cloze("{text} was [MASK].", {"plus": "good", "minus": "poor"})
SPLIT = Cloze("{text} was [MASK].", {"plus": "good film", "minus": "poor"})


def by_hand(model, question, answer, whole):
    """log P of an answer, row by row as each family reads it, computed from plain lists without a cache."""
    family, A, special = model.config.family, question.part_a, question.special
    before, behind = A[: question.position], A[question.position + 1 :]
    if family == "bert":
        rows = [*before, *[special.mask] * len(answer), *behind]
        part_a_len, targets = len(rows), [(len(before) + n, token) for n, token in enumerate(answer)]
    else:
        text = [*before, *answer, *(behind if whole else [])]
        rows, part_a_len = text[:-1], len(before) if family == "prefix" else 0
        targets = [(i - 1, text[i]) for i in range(len(before), len(text))]
    zeros = torch.zeros(len(rows), dtype=torch.int64)
    log_p = model(
        torch.tensor(rows), torch.arange(len(rows)), zeros, GLMMask.packed([len(rows)], [part_a_len])
    ).log_softmax(-1)
    return sum(float(log_p[i, token]) for i, token in targets)


@pytest.mark.parametrize("family", ["gpt", "prefix", "bert"])
@pytest.mark.parametrize("task", [TASK, SPLIT], ids=["one token", "several"])
@torch.no_grad()
def test_labels_score_as_each_family_reads_them(family, task, tokenizer):
    model = model_of(family, tokenizer.vocab_size)
    rows = {n: {"text": text} for n, text in enumerate(["he saw it", "she", "it was no film"])}
    questions = ask_all(task, tokenizer, rows, 64)
    whole = any(len(answer) > 1 for answer in questions[0].answers)
    assert questions[0].whole == whole
    for question, p in zip(questions, predict(ClozeScorer(model), questions), strict=True):
        scores = torch.tensor([by_hand(model, question, answer, whole) for answer in question.answers])
        assert p.tolist() == pytest.approx(scores.softmax(-1).tolist(), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_a_task(family, tokenizer):
    labelled = [
        ("he saw it", "plus"),
        ("she saw no film", "minus"),
        ("it film", "plus"),
        ("no no", "minus"),
    ] * 2
    rows = {n: {"text": text, "label": label} for n, (text, label) in enumerate(labelled)}
    questions = ask_all(TASK, tokenizer, rows, 64, labelled=True)
    torch.manual_seed(0)
    scorer = LabelScorer(GLM(GLMConfig(tokenizer.vocab_size, 32, 2, 2, 64, dropout=0.0, family=family)))
    settings = Finetuning(epochs=4, batch=8, lr=3e-3, dropout=0.0)
    history = fit(scorer, questions, questions, settings, 0, TASK, say=lambda _: None)
    assert max(h["accuracy"] for h in history) == 1.0


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_text_to_text_ends_where_each_family_knows_an_end(family, tokenizer):
    [pair] = ask_all(
        TextToText("{src} [gMASK]"), tokenizer, {"1": {"src": "he saw", "tgt": "it"}}, 32, labelled=True
    )
    e = pair.example(family)
    end = tokenizer.special.eop if family in INFILLING else tokenizer.special.eos
    assert e.targets.tolist() == [*tokenizer.encode(" it"), end]
    assert (
        tokenizer.special.gmask in e.tokens
        if family in INFILLING
        else tokenizer.special.gmask not in e.tokens
    )


@pytest.mark.parametrize("family", ["gpt", "prefix"])
def test_running_text_costs_what_each_token_costs(family, tokenizer):
    """log P of a text in one window: the sum over all tokens except the first."""
    model, text = model_of(family, tokenizer.vocab_size), "he saw it was no film"
    ids = tokenizer.encode(text)
    report = evaluate_text(model, tokenizer, [text])
    e = continuation(
        [tokenizer.special.cls, *ids], 2, 2 if family == "prefix" else 0, tokenizer.special, family
    )
    with torch.no_grad():
        nats = float(model.loss(pack([e]), "sum"))
    assert report["predictions"][0]["nats_left_to_right"] == pytest.approx(nats, rel=1e-5)
    assert report["predictions"][0]["nats_bidirectional"] == pytest.approx(nats, rel=1e-5)


def test_only_the_layout_knows_a_family():
    """The weights of one family load into another as they are: the network is the same."""
    weights = model_of("glm").state_dict()
    other = GLM(dataclasses.replace(model_of("glm").config, family="bert"))
    other.load_state_dict(weights)
    assert as_family(drawn("glm", 1), "glm").tokens.tolist() == drawn("glm", 1).tokens.tolist()


# ---- BERT fills blanks of given length -------------------------------------------------------------------


@torch.no_grad()
def test_bert_is_told_how_long_an_answer_is_and_says_each_token_at_once(tokenizer, capsys):
    model = model_of("bert", tokenizer.vocab_size)
    rows = {
        "1": dict(text="he saw [BLANK].", blanks=["no film"]),
        "2": dict(text="[BLANK] saw it [BLANK] poor film was no", blanks=["she", "was it."]),
    }
    report = evaluate_infill(model, tokenizer, rows)
    assert "it gets one mask per token" in capsys.readouterr().err
    special = tokenizer.special
    for line in report["predictions"]:
        pieces, ids, expected = line["text"].split("[BLANK]"), [special.cls], []
        for piece, words in itertools.zip_longest(pieces, line["blanks"]):
            ids += tokenizer.encode(piece.rstrip() if words else piece)
            if words:
                answer = tokenizer.encode(" " + words)
                expected.append(range(len(ids), len(ids) + len(answer)))
                ids += [special.mask] * len(answer)
        ids.append(special.eos)
        zeros = torch.zeros(len(ids), dtype=torch.int64)
        logits = model(torch.tensor(ids), torch.arange(len(ids)), zeros, GLMMask.bert([len(ids)]))
        logits[:, torch.from_numpy(tokenizer.byte_lengths() == 0)] = -torch.inf
        decoded = [tokenizer.decode([int(logits[i].argmax()) for i in where]) for where in expected]
        assert line["filled"] == decoded
    assert report["metrics"]["exact_match"]["n"] == 3


def test_left_to_right_models_restore_no_blanks(tokenizer):
    with pytest.raises(MinglmError, match="trained as gpt writes on"):
        evaluate_infill(
            model_of("gpt", tokenizer.vocab_size),
            tokenizer,
            {"1": dict(text="he [BLANK] it", blanks=["saw"])},
        )


def test_a_page_shows_glm_alone(tokenizer):
    from minglm.viz.page.weights import model_spec

    with pytest.raises(MinglmError, match="trained as prefix; a page shows models that were trained as glm"):
        model_spec(model_of("prefix", tokenizer.vocab_size), tokenizer, "he [MASK]", "m")


# ---- from the command line -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt", "bert", "prefix", "glm-sentinels"])
def test_pretrain_takes_an_objective_and_its_model_is_used_as_what_it_is(family, tmp_path, minglm):
    sizes = [
        "--model.vocab_size",
        "300",
        "--model.hidden_size",
        "16",
        "--model.num_layers",
        "1",
        "--model.num_heads",
        "2",
    ]
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(f"He saw {n} films. She saw none of them, and it was good." for n in range(40))
    )
    run = tmp_path / "run"
    how = [
        "--steps",
        "4",
        "--batch-tokens",
        "256",
        "--model.max_positions",
        "64",
        "--dtype",
        "float32",
        "--text",
        str(text),
    ]
    done = minglm(
        "pretrain", "--objective", family, *sizes, *how, "--train.sample_every", "2", "--out", str(run)
    )
    assert done.code == 0, done.err
    assert f"objective   {family}" in done.out
    assert GLM.from_pretrained(run).config.family == family
    result = minglm("fill", "--model", str(run), "He saw [MASK] films.")
    if family == "glm-sentinels":
        assert result.code == 0
    else:
        assert result.code == 2 and f"trained as {family}" in result.err and result.err.count("\n") == 1
    written = minglm("write", "--model", str(run), "He saw", "--max-tokens", "3")
    assert (written.code == 0) == (family != "bert")
    assert minglm("classify", "--model", str(run), "--task", "sentiment", "He saw it.").code == 0


def test_an_unknown_objective_is_one_line(tmp_path, minglm):
    result = minglm("pretrain", "--objective", "bart", "--out", str(tmp_path / "run"))
    assert (
        result.code == 2
        and "'bart' is not accepted; one of glm" in result.err
        and not (tmp_path / "run").exists()
    )


# ---- long texts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt", "prefix", "bert"])
@pytest.mark.parametrize("task", [TASK, SPLIT], ids=["one token", "several"])
def test_a_text_as_long_as_the_model_leaves_room_for_its_label(family, task, tokenizer):
    from minglm.use import cloze

    model = model_of(family, tokenizer.vocab_size, positions=32)
    ranking = cloze.classify(model, tokenizer, task, ["he saw it. " * 60, "he saw"])
    assert {f.label for f in ranking} <= {"plus", "minus"}


@pytest.mark.parametrize("family", ["gpt", "prefix"])
def test_a_text_as_long_as_the_model_leaves_room_for_its_answer(family, tokenizer):
    from minglm.families import text_limit

    model = model_of(family, tokenizer.vocab_size, positions=32)
    row = {"src": "he saw it. " * 60, "tgt": "she saw no film. " * 60}
    [pair] = ask_all(
        TextToText("{src} [gMASK]"), tokenizer, {"1": row}, text_limit(model.config, True), labelled=True
    )
    assert torch.isfinite(model.loss(pack([pair.example(family)])))


@pytest.mark.parametrize("family", ["gpt", "prefix"])
def test_a_given_answer_is_scored_with_the_end_that_the_family_has_learned(family, tokenizer):
    from minglm import score

    model = model_of(family, tokenizer.vocab_size)
    [found] = score(model, tokenizer, "he saw [gMASK]", ["it was"])
    ids, answer = [tokenizer.special.cls, *tokenizer.encode("he saw")], tokenizer.encode(" it was")
    e = continuation(
        [*ids, *answer, tokenizer.special.eos],
        len(ids),
        len(ids) if family == "prefix" else 0,
        tokenizer.special,
        family,
    )
    with torch.no_grad():
        assert found.log_probability == pytest.approx(-float(model.loss(pack([e]), "sum")), abs=1e-3)
