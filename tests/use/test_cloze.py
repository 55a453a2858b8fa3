"""Classification as filling a blank: the questions, the scores of answers, and messages for bad input."""

import gzip
import json
import lzma
import math
from dataclasses import replace

import pytest
import torch

from minglm import GLM, MinglmError, Tokenizer, build_example, pack
from minglm.batch import in_runs
from minglm.compare.rivals import LinearHead
from minglm.files.jsonl import read_rows
from minglm.infilling import SpecialTokens
from minglm.use.cloze import ClozeScorer, classify, predict, predictions
from minglm.use.questions import Question, _shortened, ask_all
from minglm.use.tasks import Cloze, read_task, shipped_tasks

ONE = Cloze("{text} It was [MASK].", {"positive": "good", "negative": "long", "so so": "day"})
WHOLE = replace(ONE, verbalizer={"positive": "good", "negative": "a long day", "none": "night, and Iris"})
OWN = Cloze("{page} {text}", "choices", label="answer", shorten={"page": "start"})
TEXTS = [
    "Anna took the key.",
    "The house was long!",
    "",
    "Ben asked for water and bread and a horse and went home. " * 2,
]


@pytest.fixture(scope="module")
def tokenizer(small_run):
    return Tokenizer.from_pretrained(small_run)


@pytest.fixture(scope="module")
def model(small_run):
    model = GLM.from_pretrained(small_run)
    with torch.no_grad():  # positions and the order of an answer must matter
        for p in model.parameters():
            p.mul_(1.5)
    return model


def own(text="A [BLANK] for Ben.", **more):
    return (
        dict(
            page="The day was long.",
            text=text,
            choices=["horse", "key to the house", "night"],
            answer="night",
        )
        | more
    )


def ask(task, tokenizer, row, limit=64, **how):
    return task.ask(tokenizer, row if isinstance(row, dict) else {"text": row}, limit, **how)


# ---- questions -------------------------------------------------------------------------------------------


def test_a_row_becomes_part_a_with_one_mask_and_its_labels_become_answers(tokenizer):
    question, special = ask(ONE, tokenizer, "Anna went home.", labelled=False), tokenizer.special
    assert tokenizer.decode(question.part_a) == "[CLS]Anna went home. It was[MASK].<|endoftext|>"
    assert question.part_a[question.position] == special.mask
    assert question.part_a == [
        special.cls,
        *tokenizer.encode("Anna went home. It was [MASK].", special=True),
        special.eos,
    ]
    assert [tokenizer.decode(answer) for answer in question.answers] == [" good", " long", " day"]
    assert not question.whole and question.gold is None and question.cut == 0


def test_an_answer_has_the_blank_that_its_mask_took(tokenizer):
    for pattern, answer in (
        ("{text}: [MASK]", " good"),
        ("{text}:[MASK]", "good"),
        ("[MASK]: {text}", "good"),
        ("{text} [MASK]", " good"),
        ("{text}\n[MASK]", " good"),
    ):
        question = ask(replace(ONE, pattern=pattern), tokenizer, "so")
        assert tokenizer.decode(question.answers[0]) == answer
    # the text must not decide it, or labels of one token would differ between records
    assert tokenizer.decode(ask(replace(ONE, pattern="{text}[MASK]"), tokenizer, "so ").answers[0]) == "good"


def test_what_a_text_says_is_text(tokenizer):
    question = ask(ONE, tokenizer, "a [MASK] and [CLS] {x} <|endofpiece|> [BLANK]")
    assert question.part_a.count(tokenizer.special.mask) == 1 and tokenizer.special.eop not in question.part_a


def test_the_blank_may_stand_in_the_row(tokenizer):
    question = ask(OWN, tokenizer, own(), labelled=True)
    assert tokenizer.decode(question.part_a) == "[CLS]The day was long. A[MASK] for Ben.<|endoftext|>"
    assert question.labels == own()["choices"] and question.gold == 2 and question.whole
    assert [tokenizer.decode(a) for a in question.answers] == [" horse", " key to the house", " night"]
    for text, times in (("none", 0), ("[BLANK] [BLANK]", 2)):
        with pytest.raises(MinglmError, match=rf"{times} times \[BLANK\] in page and text"):
            ask(OWN, tokenizer, own(text))


def test_the_longest_column_is_shortened_token_by_token(tokenizer):
    assert _shortened([1, 5, 3], [1, 2], 6) == [1, 3, 2]  # of equals, the last, as in the original
    assert _shortened([1, 5, 3], [1, 2], 9) == [1, 5, 3]
    with pytest.raises(MinglmError, match="4 tokens are left that may not be shortened; this model reads 3"):
        _shortened([4, 2], [1], 3)
    words = "Anna Ben Clara David Emma Felix Grace Henry Iris Jonas"
    uncut = ask(ONE, tokenizer, words)
    for limit in range(len(uncut.part_a) - 8, len(uncut.part_a) + 1):
        question = ask(ONE, tokenizer, words, limit)
        assert len(question.part_a) == limit and question.cut == len(uncut.part_a) - limit
        kept = tokenizer.encode(words)[: len(tokenizer.encode(words)) - question.cut]
        assert question.part_a == [
            tokenizer.special.cls,
            *kept,
            *uncut.part_a[1 + len(tokenizer.encode(words)) :],
        ]
        assert question.part_a[question.position] == tokenizer.special.mask
    page = ask(OWN, tokenizer, own(page=words), 14)
    text = tokenizer.decode(page.part_a)
    assert text.endswith("Jonas A[MASK] for Ben.<|endoftext|>") and "Anna" not in text and page.cut > 0
    with pytest.raises(MinglmError, match=r"may not be shortened; this model reads 6"):
        ask(OWN, tokenizer, own(), 6)


def test_how_many_tokens_were_cut_is_said_once(tokenizer, capsys):
    rows = {f"row {n}": {"text": text} for n, text in enumerate(["Anna " * 200, "Ben", "day " * 300])}
    questions = ask_all(ONE, tokenizer, rows, 32)
    cut = sum(q.cut for q in questions)
    assert cut > 0
    assert capsys.readouterr().err == (
        "minglm: note: 2 of 3 texts were too long for this model, which reads 32 tokens: "
        f"{cut} tokens were cut\n"
    )


# ---- how answers are scored ------------------------------------------------------------------------------


def brute_force(model, question, penalty=0.0):
    """Scores by one full forward pass per answer, on the sample that training makes of the filled text."""
    scores, p = [], question.position
    for answer in question.answers:
        text = [*question.part_a[:p], *answer, *question.part_a[p + 1 :]]
        batch = pack([build_example(text, [(p, p + len(answer))], [0], question.special)])
        with torch.no_grad():
            losses = model.eval().loss(batch, "none")
        n = len(answer) + 1 if question.whole else 1
        scores.append(-float(losses[:n].sum()) / n**penalty)
    return torch.tensor(scores)


@pytest.mark.parametrize(
    "task", [ONE, WHOLE, replace(WHOLE, length_penalty=1.0), OWN], ids=["one", "whole", "penalty", "own"]
)
def test_probabilities_are_those_of_full_forward_passes_and_sum_to_one(model, tokenizer, task):
    rows = (
        [own(f"{text[:40]} [BLANK] so") for text in TEXTS]
        if task is OWN
        else [{"text": text} for text in TEXTS]
    )
    questions, scorer = (
        [ask(task, tokenizer, row) for row in rows],
        ClozeScorer(model, task.length_penalty).eval(),
    )
    with torch.no_grad():
        scores = scorer(questions).log_softmax(-1)
    for question, row, found, said in zip(
        questions, scores, predict(scorer, questions), predictions(model, task, questions), strict=True
    ):
        wanted = brute_force(model, question, task.length_penalty).log_softmax(0)
        torch.testing.assert_close(row, wanted, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found, wanted.exp(), atol=1e-5, rtol=1e-4)
        assert sum(said.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert said.label == question.labels[int(wanted.argmax())]


@pytest.mark.parametrize("task", [ONE, WHOLE], ids=["one", "whole"])
def test_a_batch_says_what_its_texts_are_told_alone(model, tokenizer, task):
    together = classify(model, tokenizer, task, TEXTS)
    for text, said in zip(TEXTS, together, strict=True):
        alone = classify(model, tokenizer, task, text)
        assert alone.label == said.label
        assert said.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    assert classify(model, tokenizer, task, []) == []


@pytest.mark.parametrize("task", [ONE, WHOLE], ids=["one", "whole"])
def test_the_order_of_the_labels_does_not_matter(model, tokenizer, task):
    turned = replace(task, verbalizer=dict(reversed(task.verbalizer.items())))
    for a, b in zip(
        classify(model, tokenizer, task, TEXTS), classify(model, tokenizer, turned, TEXTS), strict=True
    ):
        assert list(a.probabilities) == list(b.probabilities)[::-1]
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
    words = own()["choices"]
    a, b = (classify(model, tokenizer, OWN, own(choices=c)) for c in (words, words[::-1]))
    assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)


def test_rows_may_bring_different_numbers_of_candidates(model, tokenizer):
    rows = [own(), own(choices=["night", "day"]), own(choices=["key", "night", "Anna", "Ben and Clara"])]
    for row, said in zip(rows, classify(model, tokenizer, OWN, rows), strict=True):
        assert list(said.probabilities) == row["choices"]
        assert sum(said.probabilities.values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "task", [ONE, WHOLE, replace(WHOLE, length_penalty=0.7)], ids=["one", "whole", "penalty"]
)
def test_training_learns_from_the_scores_that_are_used(model, tokenizer, task):
    questions = [ask(task, tokenizer, text) for text in TEXTS]
    scorer = ClozeScorer(model, task.length_penalty).eval()
    with torch.no_grad():
        used = scorer(questions)
    learned = scorer(questions)
    assert learned.requires_grad
    torch.testing.assert_close(learned.log_softmax(-1), used.log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_part_a_is_read_once_for_all_candidates(model, tokenizer, monkeypatch):
    question, read, hidden = ask(WHOLE, tokenizer, TEXTS[0]), [], model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda tokens, *rest, **how: read.append(len(tokens)) or hidden(tokens, *rest, **how)
    )
    predict(ClozeScorer(model), [question] * 3)
    assert read == [3 * len(question.part_a), 3 * sum(len(answer) + 1 for answer in question.answers)]
    read.clear()
    predict(ClozeScorer(model), [ask(ONE, tokenizer, TEXTS[0])] * 3)
    assert read == [3 * (len(question.part_a) + 1)]


def test_batches_hold_every_question_once_and_few_rows(model, tokenizer):
    scorer, questions = ClozeScorer(model), [ask(WHOLE, tokenizer, text) for text in TEXTS * 3]
    for most in (1, 150, 10**6):
        runs = list(in_runs(questions, scorer.rows, most))
        assert [q for run in runs for q in run] == questions
        assert all(len(run) == 1 or sum(map(scorer.rows, run)) <= most for run in runs)


def test_a_model_that_has_lost_its_mind_does_not_choose(model, tokenizer):
    broken = GLM(model.config)
    with torch.no_grad():
        broken.final_norm.weight.fill_(math.nan)
    for task in (ONE, WHOLE):
        with pytest.raises(MinglmError, match="not finite"):
            classify(broken, tokenizer, task, "so")


# ---- the original's numbers ------------------------------------------------------------------------------


SPECIAL = SpecialTokens(pad=0, cls=1, eos=0, mask=2, smask=3, gmask=4, sop=5, eop=6)


def single(recorded):
    """The questions of the fixture's sections `single` and `classify`."""
    words = [[int(word)] for word in recorded["single/verbalizer_ids"]]
    for ids, positions, A in zip(
        *(recorded[f"single/{n}"] for n in ("input_ids", "position_ids", "sep")), strict=True
    ):
        assert ids[A] == SPECIAL.sop and positions[1, A] == 1
        yield Question(
            ids[:A].tolist(), int(positions[0, A]), ["a", "b", "c"], words, False, None, 0, SPECIAL
        )


def test_the_originals_single_token_cloze(original):
    model, recorded = original
    questions = list(single(recorded))
    with torch.no_grad():
        scores = ClozeScorer(model)(questions)
    torch.testing.assert_close(
        scores, torch.from_numpy(recorded["single/label_logits"]), atol=1e-4, rtol=1e-5
    )
    for question, log_p in zip(questions, recorded["single/label_log_softmax"], strict=True):
        torch.testing.assert_close(
            brute_force(model, question), torch.from_numpy(log_p), atol=1e-4, rtol=1e-5
        )


@pytest.mark.parametrize("penalty", [0, 1])
@pytest.mark.parametrize("gradients", [False, True])
def test_the_originals_multi_token_cloze(original, penalty, gradients):
    model, recorded = original
    ids, positions, seps, targets, scored = (
        recorded[f"multi/{name}"] for name in ("input_ids", "position_ids", "sep", "target_ids", "logit_mask")
    )
    questions = []
    for n in range(len(ids)):
        answers = [targets[n, c][scored[n, c] == 1].tolist() for c in range(len(ids[n]))]
        assert all(answer[-1] == SPECIAL.eop for answer in answers)
        A = int(seps[n, 0])
        questions.append(
            Question(
                ids[n, 0, :A].tolist(),
                int(positions[n, 0, 0, A]),
                ["a", "b", "c"],
                [answer[:-1] for answer in answers],
                True,
                None,
                0,
                SPECIAL,
            )
        )
    with torch.set_grad_enabled(gradients):
        scores = ClozeScorer(model, float(penalty))(questions).detach()
    wanted = recorded["multi/scores_length_penalty_1" if penalty else "multi/scores"]
    torch.testing.assert_close(scores, torch.from_numpy(wanted), atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize(("pool", "called"), [("cls", "cls"), ("sop", "start"), ("end", "pad")])
def test_the_originals_linear_heads(original, pool, called):
    model, recorded = original
    head = LinearHead(model, 3, pool).eval()
    weights = {
        name: torch.from_numpy(recorded[f"classify/weight/{theirs}.{what}"])
        for ours, theirs in (("pool", "pool_layer"), ("out", "multichoice_head"))
        for what in ("weight", "bias")
        for name in [f"{ours}.{what}"]
    }
    head.load_state_dict(weights, strict=False)
    with torch.no_grad():
        scores = head(list(single(recorded)))
    torch.testing.assert_close(
        scores, torch.from_numpy(recorded[f"classify/logits_pool_{called}"]), atol=1e-4, rtol=1e-5
    )


# ---- tasks and rows in files -----------------------------------------------------------------------------


def test_the_shipped_tasks_are_tasks_and_survive_the_way_through_toml(tmp_path):
    assert list(shipped_tasks(Cloze)) == ["book_cloze", "paraphrase", "sentiment", "topic"]
    strange = replace(
        ONE, pattern='"{a b}"\t\\ 起[MASK]\x7f', shorten={"a b": "end"}, length_penalty=1, name="x y"
    )
    for task in (*map(read_task, shipped_tasks()), ONE, OWN, strange):
        path = tmp_path / "task.toml"
        path.write_text(task.to_toml(), encoding="utf-8")
        assert read_task(path) == read_task(tmp_path) == task


def test_the_shipped_tasks_ask_about_the_columns_and_labels_of_their_data():
    found = {
        task.name: (task.columns, task.labels, task.label) for task in map(read_task, shipped_tasks(Cloze))
    }
    topics = "animal plant person object food body_part place substance action communication".split()
    assert found == {
        "sentiment": (["text"], ["negative", "positive"], "label"),
        "topic": (["text"], [topic.replace("_", " ") for topic in topics], "label"),
        "paraphrase": (["a", "b"], ["yes", "no"], "label"),
        "book_cloze": (["context", "query"], [], "answer"),
    }


def test_a_new_task_needs_no_code(tmp_path, tokenizer, model):
    path = tmp_path / "mine.toml"
    path.write_text(
        'pattern = "{title}: {text} It was [MASK]."\n[verbalizer]\nx = "good"\ny = "long"',
        encoding="utf-8-sig",
    )
    task = read_task(path)
    assert task.name == "mine" and task.columns == ["title", "text"] and task.labels == ["x", "y"]
    assert set(classify(model, tokenizer, str(path), dict(title="Anna", text="Ben")).probabilities) == {
        "x",
        "y",
    }


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('verbalizer = "x"', "no pattern"),
        ('pattern = "{text} [MASK]"', "no verbalizer"),
        ("pattern = 3", "no verbalizer"),
        ('pattern = 3\nverbalizer = "x"', "pattern: 3"),
        ('pattern = ""\nverbalizer = "x"', "pattern: ''"),
        ('pattern = "[MASK]"\nverbalizer = "x"', "a {column}"),
        ('pattern = "{} [MASK]"\nverbalizer = "x"', "a {column}"),
        ('pattern = "{text [MASK]"\nverbalizer = "x"', "expected '}'"),
        ('pattern = "{text!r} [MASK]"\nverbalizer = "x"', "nothing more in braces"),
        ('pattern = "{text:9} [MASK]"\nverbalizer = "x"', "nothing more in braces"),
        ('pattern = "{text} [MASK] [MASK]"\nverbalizer = "x"', "one [MASK]"),
        ('pattern = "{text} [MASK]"\nverbalizer = 1', "verbalizer: 1"),
        ('pattern = "{text} [MASK]"\n[verbalizer]\na = "good"', "two or more labels"),
        ('pattern = "{text} [MASK]"\n[verbalizer]\na = "good"\nb = 2', "two or more labels"),
        ('pattern = "{text} [MASK]"\n[verbalizer]\na = "good"\nb = " "', "two or more labels"),
        ('pattern = "{text} [MASK]"\n[verbalizer]\na = "good"\nb = " good"', "have the same words"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nmetric = "f1"', "accuracy or macro_f1"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nmetric = "macro_f1"', "brings its candidates"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nlength_penalty = nan', "length_penalty"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nlength_penalty = true', "length_penalty"),
        (f'pattern = "{{text}} [MASK]"\nverbalizer = "x"\nlength_penalty = 1{"0" * 400}', "length_penalty"),
        (f'pattern = "{{text}} [MASK]"\nverbalizer = "x"\nlength_penalty = 1{"0" * 5000}', "not TOML"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nshorten = "end"', "shorten"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nshorten = {text = "middle"}', "shorten"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nshorten = {txt = "end"}', "a column of the pattern"),
        ('patern = "{text} [MASK]"\nverbalizer = "x"', "unknown key 'patern'; did you mean pattern?"),
        ('pattern = "{text} [MASK]"\nverbalizer = "x"\nlabel = 1', "label: 1"),
        ("pattern = ", "not TOML"),
        ("[" * 5000, "not TOML"),
        (b"\xff\xfe", "not TOML"),
    ],
)
def test_a_file_that_is_no_task_is_refused_in_one_line(tmp_path, toml, words):
    path = tmp_path / "task.toml"
    path.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    with pytest.raises(MinglmError) as error:
        read_task(path)
    assert (
        words in str(error.value) and str(error.value).startswith(str(path)) and len(str(error.value)) < 400
    )
    assert "\n" not in str(error.value).removeprefix(str(path)) or words == "not TOML"


def test_rows_are_read_plain_and_packed(tmp_path):
    text = '\ufeff{"a": 1}\n\n  {"a": "起"}\r\n'
    for name, opened in (("x.jsonl", open), ("x.jsonl.xz", lzma.open), ("x.jsonl.gz", gzip.open)):
        with opened(tmp_path / name, "wb") as file:
            file.write(text.encode())
        assert read_rows(tmp_path / name) == {
            f"{tmp_path / name}:1": {"a": 1},
            f"{tmp_path / name}:3": {"a": "起"},
        }


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", b"{}\n[1]\n", "x.jsonl:2: holds no object"),
        ("x.jsonl", b'{"a": \n', "x.jsonl:1: not JSON"),
        ("x.jsonl", b"\xff\n", "x.jsonl: not UTF-8 at byte 0"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl:1: not JSON"),
        ("x.jsonl", b'{"a": 1' + b"0" * 5000 + b"}", "x.jsonl:1: not JSON"),
        ("x.jsonl", b"\n\n", "no row in it"),
        ("x.jsonl.xz", b"no xz", "cannot be read"),
        ("x.jsonl.gz", b"no gz", "cannot be read"),
        ("x.jsonl.xz", lzma.compress(b'{"a": "' + bytes(range(32, 127)) * 99)[:-20], "cannot be read"),
        ("x.jsonl", None, "cannot be read"),
    ],
)
def test_a_file_without_rows_is_refused_in_one_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MinglmError) as error:
        read_rows(tmp_path / name)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        (ONE, {"txt": "so"}, "no column 'text'; the columns there are: 'txt'"),
        (ONE, {}, "there are: none"),
        (ONE, {str(n): n for n in range(9999)}, "no column 'text'"),
        (ONE, {"text": 7}, "text: 7 is not accepted; a text is"),
        (ONE, {"text": None}, "text: None"),
        (ONE, {"text": "\ud800", "label": "positive"}, "not valid unicode"),
        (ONE, {"text": "so"}, "no column 'label'"),
        (
            ONE,
            {"text": "so", "label": "postive"},
            "label: 'postive' is no label of this task; did you mean positive?",
        ),
        (ONE, {"text": "so", "label": 10**400}, "no label of this task"),
        (ONE, {"text": "so", "label": 1e999}, "accepted: positive, negative, so so"),
        (ONE, {"text": "so", "label": ["positive"]}, "no label"),
        (ONE, {"text": "so", "label": True}, "no label"),
        (OWN, own(choices="night"), "choices: 'night' is not accepted; a list of two or more texts is"),
        (OWN, own(choices=["night"]), "two or more"),
        (OWN, own(choices=["night", "night"]), "all different"),
        (OWN, own(choices=["night", ""]), "two or more texts"),
        (OWN, own(choices=["night", 3]), "two or more texts"),
        (OWN, own(choices=["night", "day " * 99]), "at most 63 are accepted as an answer"),
        (
            OWN,
            own(answer="x"),
            "answer: 'x' is no label of this task; accepted: horse, key to the house, night",
        ),
    ],
)
def test_a_row_that_does_not_fit_its_task_is_refused_in_one_line(tokenizer, task, row, words):
    with pytest.raises(MinglmError) as error:
        ask_all(task, tokenizer, {"in.jsonl:7": row}, 64, labelled=True)
    assert str(error.value).startswith("in.jsonl:7: ") and words in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_label_may_be_a_number(tokenizer):
    task = replace(ONE, verbalizer={"0": "good", "1": "long"})
    assert ask(task, tokenizer, {"text": "so", "label": 1}, labelled=True).gold == 1


def test_a_verbalizer_that_the_tokenizer_splits_is_told(tokenizer):
    assert ONE.how_scored(tokenizer) == "each label is one token: the row of sop compares them"
    n = len(tokenizer.encode(" a long day"))
    assert WHOLE.how_scored(tokenizer).startswith(
        f"the tokenizer splits 'a long day' into {n} tokens, 'night, and Iris' into"
    )
    assert "scored as a whole" in WHOLE.how_scored(tokenizer)
    assert replace(WHOLE, length_penalty=1.0).how_scored(tokenizer).endswith("divided by their number ** 1.0")
    assert OWN.how_scored(tokenizer).startswith("each candidate as a whole")


# ---- the command line ------------------------------------------------------------------------------------


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "kind.toml"
    path.write_text(ONE.to_toml(), encoding="utf-8")
    return path


def test_a_text_is_classified(minglm, small_run, task_file):
    said = minglm("classify", "--model", small_run, "--task", task_file, TEXTS[0])
    assert said.code == 0, said.err
    shares = [float(line.split()[0]) for line in said.out.splitlines()]
    assert (
        len(shares) == 3
        and shares == sorted(shares, reverse=True)
        and sum(shares) == pytest.approx(100, abs=0.2)
    )
    found = json.loads(minglm("classify", "--model", small_run, "--task", task_file, TEXTS[0], "--json").out)
    assert found["label"] == max(found["probabilities"], key=found["probabilities"].get)
    assert said.out.splitlines()[0].endswith(found["label"])


def test_a_text_for_each_column(minglm, small_run):
    said = minglm("classify", "--model", small_run, "--task", "paraphrase", "Anna went home.", "She went.")
    assert said.code == 0 and "yes" in said.out and "scored as a whole" in said.err
    said = minglm("classify", "--model", small_run, "--task", "paraphrase", "Anna went home.")
    assert said.code == 2 and "1 texts given; it takes 2: a, b" in said.err


def test_a_whole_file_is_labelled(minglm, small_run, task_file, tmp_path):
    rows = [dict(id=n, text=text, label="positive", odd="\ud800") for n, text in enumerate(TEXTS)]
    source, out = tmp_path / "in.jsonl.xz", tmp_path / "out.jsonl"
    with lzma.open(source, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    said = minglm("classify", "--model", small_run, "--task", task_file, "--file", source, "--out", out)
    assert said.code == 0 and "wrote" in said.out and "of the 4 rows that have a label" in said.out
    labelled = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [
        {k: v for k, v in row.items() if k not in ("predicted", "probabilities")} for row in labelled
    ] == rows
    for text, row in zip(TEXTS, labelled, strict=True):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        alone = minglm("classify", "--model", small_run, "--task", task_file, "--json", text)
        assert row["probabilities"] == pytest.approx(json.loads(alone.out)["probabilities"], abs=1e-5)
    said = minglm("classify", "--model", small_run, "--task", task_file, "--file", source)
    assert [json.loads(line) for line in said.out.splitlines()] == labelled and "accuracy" in said.err


def test_the_labelled_file_appears_whole_or_not_at_all(minglm, small_run, task_file, tmp_path, monkeypatch):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    out.write_text("as it was", encoding="utf-8")
    source.write_text('{"text": "so"}\n{"txt": "so"}\n', encoding="utf-8")
    said = minglm("classify", "--model", small_run, "--task", task_file, "--file", source, "--out", out)
    assert said.code == 2 and "in.jsonl:2: no column 'text'" in said.err and out.read_text() == "as it was"
    source.write_text('{"text": "so"}\n', encoding="utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr("os.replace", full)
        said = minglm("classify", "--model", small_run, "--task", task_file, "--file", source, "--out", out)
    assert said.code == 2 and "No space left" in said.err and out.read_text() == "as it was"
    said = minglm(
        "classify",
        "--model",
        small_run,
        "--task",
        task_file,
        "--file",
        source,
        "--out",
        tmp_path / "no" / "x",
    )
    assert said.code == 2 and "--out" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "sentimant", "so"], "unknown task 'sentimant'; did you mean sentiment?"),
        (["--task", "xyz", "so"], "accepted: book_cloze, paraphrase, sentiment, topic, or a TOML file"),
        (["--task", "no.toml", "so"], "no.toml: No such file"),
        (["--task", "sentiment"], "give either a TEXT or --file FILE"),
        (["--task", "sentiment", "so", "--file", "x.jsonl"], "give either a TEXT or --file FILE"),
        (["--task", "sentiment", "so", "--out", "x.jsonl"], "--out needs --file"),
        (
            ["--task", "book_cloze", "so"],
            "each row has its own candidates, in 'candidates'; give rows with --file",
        ),
        (["--task", "sentiment", "--file", "no.jsonl"], "no.jsonl: cannot be read: No such file"),
        (["so"], "--task is missing; accepted: book_cloze, paraphrase, sentiment, topic, or a TOML file"),
    ],
)
def test_what_cannot_be_classified_is_told_in_one_line(minglm, small_run, words, told):
    said = minglm("classify", "--model", small_run, *words)
    assert said.code == 2 and told in said.err and said.err.count("\n") == 1 and not said.out
