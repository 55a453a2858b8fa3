"""Fine-tuning: a task is learned, the best epoch is kept, seeds are reproducible, and rivals are reported."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import hide, needs

from minglm import GLM, MinglmError, Tokenizer
from minglm.cli.tasks import print_report
from minglm.compare.finetuned import Labels, draw, finetune
from minglm.compare.rivals import LinearHead, tf_idf
from minglm.errors import how_to_install
from minglm.measure.metrics import measure
from minglm.rng import Rng
from minglm.train import finetune as module
from minglm.train.config import Finetuning
from minglm.train.finetune import LabelScorer, fit, train_step
from minglm.train.optimizer import make_adamw, parameter_groups
from minglm.use.cloze import classify, predict
from minglm.use.questions import ask_all
from minglm.use.tasks import Cloze, read_task

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jonas"]
WORDS = {
    "food": ["bread", "water"],
    "other": ["the key", "a horse"],
}  # which a model can learn from few texts
TASK = Cloze("{text} It was [MASK].", {"food": "good", "other": "long"}, name="kind")
OWN = Cloze("{text}", "choices", label="answer", name="which")
QUICK = Finetuning(epochs=4, batch=8, lr=3e-3, dropout=0.0)


def sentences(n, seed):
    """{where: record} of n texts of two kinds, equally many of each."""
    rng, rows = Rng(seed), {}
    for i in range(n):
        label = list(WORDS)[i % 2]
        a, b, thing = (x[rng.integer(len(x))] for x in (NAMES, NAMES, WORDS[label]))
        rows[f"row {i}"] = dict(text=f"{a} asked {b} for {thing}.", label=label)
    return rows


@pytest.fixture(scope="module")
def tokenizer(small_run):
    return Tokenizer.from_pretrained(small_run)


@pytest.fixture
def model(small_run):
    return GLM.from_pretrained(small_run)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train.jsonl, dev.jsonl, test.jsonl and kind.toml."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate((("train", 64), ("dev", 32), ("test", 40))):
        lines = [json.dumps(row) + "\n" for row in sentences(n, seed).values()]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "kind.toml").write_text(TASK.to_toml(), encoding="utf-8")
    return folder


def questions(tokenizer, n=32, seed=0, task=TASK):
    return ask_all(task, tokenizer, sentences(n, seed), 64, labelled=True)


def quiet(*_):
    pass


# ---- learning --------------------------------------------------------------------------------------------


def test_an_easy_task_is_learned_and_the_model_given_stays_as_it_was(model, tokenizer):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tuned, report = finetune(
        model,
        tokenizer,
        TASK,
        sentences(64, 0),
        sentences(32, 1),
        test=sentences(40, 2),
        settings=QUICK,
        rivals=True,
        say=quiet,
    )
    scores = report["scores"]
    assert scores["fine-tuned cloze"]["accuracy"] > 0.85
    assert scores["linear head"]["accuracy"] > 0.85
    assert scores["most frequent label"]["accuracy"] == scores["chance"]["accuracy"] == 0.5
    assert 0.5 <= scores["from random weights"]["accuracy"] <= 1
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert report["texts"] == {"train": 64, "dev": 32, "test": 40} and report["about"] == "test"
    assert sum(n for row in report["confusion"].values() for n in row.values()) == 40
    assert len(report["wrong"]) == round(40 * (1 - scores["fine-tuned cloze"]["accuracy"]))
    rows = sentences(40, 2).values()
    said = classify(tuned, tokenizer, TASK, list(rows))
    right = sum(p.label == row["label"] for p, row in zip(said, rows, strict=True))
    assert right / 40 == scores["fine-tuned cloze"]["accuracy"]


def test_learning_in_bfloat16_is_learning_and_weights_stay_float32(model, tokenizer):
    settings = replace(QUICK, dtype="bfloat16")
    tuned, report = finetune(
        model, tokenizer, TASK, sentences(64, 0), sentences(32, 1), settings=settings, say=quiet
    )
    assert report["scores"]["fine-tuned cloze"]["accuracy"] > 0.85
    plain, _ = finetune(model, tokenizer, TASK, sentences(64, 0), sentences(32, 1), settings=QUICK, say=quiet)
    same = [
        torch.equal(a, b)
        for a, b in zip(tuned.state_dict().values(), plain.state_dict().values(), strict=True)
    ]
    assert not any(same) and {p.dtype for p in tuned.parameters()} == {next(model.parameters()).dtype}


def test_words_of_several_tokens_are_learned_too(model, tokenizer):
    task = replace(TASK, verbalizer={"food": "good bread", "other": "a long day"})
    assert questions(tokenizer, 2, task=task)[0].whole
    _, report = finetune(
        model, tokenizer, task, sentences(64, 0), sentences(32, 1), settings=QUICK, say=quiet
    )
    assert report["scores"]["fine-tuned cloze"]["accuracy"] > 0.85


def test_rows_with_their_own_candidates_are_learned_too(model, tokenizer, capsys):
    def rows(n, seed):
        return {
            where: dict(text=f"{row['text']} So [BLANK] it was.", answer=answer, choices=choices)
            for i, (where, row) in enumerate(sentences(n, seed).items())
            for choices in [["bread", "a horse", "the house"][: 2 + i % 2]]
            for answer in [choices[row["label"] == "other"]]
        }

    tuned, report = finetune(
        model, tokenizer, OWN, rows(48, 0), rows(32, 1), settings=QUICK, say=quiet, rivals=True
    )
    assert report["scores"]["fine-tuned cloze"]["accuracy"] > 0.8
    # changing labels have no linear head and no most frequent label
    assert set(report["scores"]) == {"fine-tuned cloze", "zero-shot cloze", "from random weights", "chance"}
    assert report["scores"]["chance"]["accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    print_report(report)
    assert "confusion" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(model, tokenizer):
    settings, found = replace(QUICK, epochs=1, dropout=0.2), []
    for seed in (3, 3, 4):
        scorer = LabelScorer(GLM(model.config))
        scorer.model.load_state_dict(model.state_dict())
        torch.rand(7)  # earlier random draws do not matter
        fit(scorer, questions(tokenizer), questions(tokenizer, 8, 1), settings, seed, TASK, quiet)
        scorer.load_state_dict(scorer.state_dict())
        found.append(torch.cat([p.detach().flatten() for p in scorer.parameters()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_the_best_epoch_stays_and_training_stops_when_it_is_old(model, tokenizer, monkeypatch):
    dev, weights = iter([0.4, 0.5, 0.7, 0.6, 0.7, 0.6, 0.9]), []

    def scripted(found, asked):
        weights.append(model.final_norm.weight.detach().clone())
        return dict(accuracy=next(dev), macro_f1=0.0)

    monkeypatch.setattr(module, "measure", scripted)
    said, settings = [], replace(QUICK, epochs=9)
    history = fit(
        LabelScorer(model), questions(tokenizer), questions(tokenizer, 4), settings, 0, TASK, said.append
    )
    assert [epoch["accuracy"] for epoch in history] == [
        0.4,
        0.5,
        0.7,
        0.6,
        0.7,
        0.6,
    ]  # an equal one is not better
    assert torch.equal(model.final_norm.weight, weights[2]) and not torch.equal(weights[2], weights[5])
    assert [line.endswith("best") for line in said] == [True, True, False, False, False]


def test_training_that_never_helps_leaves_the_model_as_it_was(model, tokenizer, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda found, asked: dict(accuracy=0.5, macro_f1=0.5))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fit(
        LabelScorer(model),
        questions(tokenizer),
        questions(tokenizer, 4),
        replace(QUICK, patience=1),
        0,
        TASK,
        quiet,
    )
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_what_is_watched_is_the_tasks_metric(model, tokenizer, monkeypatch):
    values = iter([(0.5, 0.1), (0.9, 0.2), (0.8, 0.3), (0.9, 0.2), (0.9, 0.2), (0.9, 0.2)])
    monkeypatch.setattr(
        module, "measure", lambda *_: dict(zip(("accuracy", "macro_f1"), next(values), strict=True))
    )
    task, said = replace(TASK, metric="macro_f1"), []
    fit(
        LabelScorer(model),
        questions(tokenizer),
        questions(tokenizer, 4),
        replace(QUICK, epochs=5),
        0,
        task,
        said.append,
    )
    assert [line.endswith("best") for line in said] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "verbalizer", [TASK.verbalizer, {"food": "good bread", "other": "long"}], ids=["one", "whole"]
)
def test_the_micro_batch_does_not_change_what_is_learned(model, tokenizer, monkeypatch, verbalizer):
    asked, steps = questions(tokenizer, 9, task=replace(TASK, verbalizer=verbalizer)), []
    for most in (10**6, 40):
        monkeypatch.setattr(module, "BATCH_ROWS", most)
        scorer = LabelScorer(GLM(model.config))
        scorer.model.load_state_dict(model.state_dict())
        settings = replace(QUICK, steps=10)
        loss = train_step(
            scorer, asked, make_adamw(parameter_groups(scorer, settings), settings), settings, 0, 0
        )
        steps.append((loss, torch.cat([p.detach().flatten() for p in scorer.parameters()])))
    assert steps[0][0] == pytest.approx(steps[1][0], abs=1e-5)
    torch.testing.assert_close(steps[0][1], steps[1][1], atol=1e-4, rtol=0)


def test_a_loss_that_is_not_finite_stops_with_one_line(model, tokenizer):
    with pytest.raises(MinglmError, match="not finite"):
        fit(
            LabelScorer(model),
            questions(tokenizer),
            questions(tokenizer, 4),
            replace(QUICK, lr=1e30),
            0,
            TASK,
            quiet,
        )


@pytest.mark.parametrize("pool", ["cls", "sop", "end"])
def test_a_linear_head_learns_from_any_of_its_rows(model, tokenizer, pool):
    torch.manual_seed(0)
    head = LinearHead(model, 2, pool)
    history = fit(head, questions(tokenizer, 64), questions(tokenizer, 32, 1), QUICK, 0, TASK, quiet)
    assert max(epoch["accuracy"] for epoch in history) > 0.85
    assert measure(predict(head, questions(tokenizer, 32, 1)), questions(tokenizer, 32, 1))["accuracy"] > 0.85


# ---- few rows, metrics, rivals ---------------------------------------------------------------------------


def test_few_shot_draws_as_many_of_each_label_by_seed(tokenizer):
    asked = questions(tokenizer, 40)
    chosen = [draw(TASK, asked, 5, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    for which in chosen:
        assert len(set(which)) == 10 and [asked[i].gold for i in which].count(0) == 5
    assert len(set(draw(OWN, asked, 7, 0))) == 7
    with pytest.raises(MinglmError, match="--few-shot: 21 given; there are 20 rows with the label 'food'"):
        draw(TASK, asked, 21, 0)
    with pytest.raises(MinglmError, match="there are 40 rows in all"):
        draw(OWN, asked, 41, 0)


def test_accuracy_and_macro_f1_by_hand():
    asked = [SimpleNamespace(gold=gold, labels=["a", "b", "c"]) for gold in (0, 0, 0, 1)]
    # a: 2 right of 3 gold and 2 predicted: 4/5; b: 1 right of 1 gold and 2 predicted: 2/3; c: nowhere, so it
    # does not count
    assert measure([0, 0, 1, 1], asked) == dict(accuracy=0.75, macro_f1=pytest.approx((4 / 5 + 2 / 3) / 2))
    assert measure([torch.tensor([0.2, 0.5, 0.3])] * 4, asked)["accuracy"] == 0.25


@needs("sklearn")
def test_macro_f1_is_scikit_learns():
    from sklearn import metrics

    rng = Rng(5)
    for labels in (2, 3, 7):
        gold, said = ([rng.integer(labels) for _ in range(40)] for _ in range(2))
        found = measure(said, [SimpleNamespace(gold=g, labels=list(range(labels))) for g in gold])
        assert found["macro_f1"] == pytest.approx(metrics.f1_score(gold, said, average="macro"))
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))


@needs("sklearn")
def test_tf_idf_is_an_honest_rival(tokenizer):
    rows = [list(sentences(n, seed).values()) for seed, n in ((0, 64), (1, 20), (2, 40))]
    asked = [questions(tokenizer, n, seed) for seed, n in ((0, 64), (1, 20), (2, 40))]
    said = tf_idf(TASK, rows[0], asked[0], rows[1], asked[1], rows[2])
    assert measure(said, asked[2])["accuracy"] == 1.0  # one word decides
    empty = [dict(text="!") for _ in rows[0]]
    assert len(set(tf_idf(TASK, empty, asked[0], rows[1], asked[1], rows[2]))) == 1


def test_without_scikit_learn_a_line_says_how_to_get_it(model, tokenizer, monkeypatch, capsys):
    hide(monkeypatch, "sklearn")
    line = f"scikit-learn is not installed; {how_to_install('tasks')}"
    settings, told = replace(QUICK, epochs=1), []

    def say(_):
        told.append(capsys.readouterr().err)

    _, report = finetune(model, tokenizer, TASK, sentences(8, 0), sentences(8, 1), settings=settings, say=say)
    assert told[0] == f"minglm: note: without {Labels.TF_IDF}: {line}\n"  # before anything was learned
    assert Labels.TF_IDF not in report["scores"]
    with pytest.raises(MinglmError, match=re.escape(line)):
        tf_idf(TASK, [], [], [], [], [])


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        (dict(epochs=0), "epochs: 0 is not accepted; a whole number >= 1 is"),
        (dict(batch=0), "batch"),
        (dict(patience=0), "patience"),
        (dict(lr=0.0), "lr"),
        (dict(lr=float("nan")), "lr: nan"),
        (dict(lr=float("inf")), "lr: inf"),
        (dict(dropout=1.0), "dropout"),
        (dict(dtype="float16"), "dtype: float16 is not accepted; float32 or bfloat16 is"),
    ],
)
def test_settings_that_mean_nothing_are_refused(dials, words):
    with pytest.raises(MinglmError, match=words):
        Finetuning(**dials)


# ---- the command line ------------------------------------------------------------------------------------


def test_a_task_is_learned_from_files_and_its_folder_classifies(minglm, small_run, data, tmp_path):
    out = tmp_path / "kind"
    words = [
        "finetune",
        "--model",
        small_run,
        "--task",
        data / "kind.toml",
        "--train",
        data / "train.jsonl",
        "--dev",
        data / "dev.jsonl",
        "--test",
        data / "test.jsonl",
        "--out",
        out,
        "--epochs",
        "3",
        "--batch",
        "8",
        "--lr",
        "3e-3",
        "--seeds",
        "0",
        "1",
        "--few-shot",
        "24",
    ]
    said = minglm(*words)
    assert said.code == 0, said.err
    for text in (
        "each label is one token",
        "48 texts to learn from",
        "epoch 1",
        "best",
        "fine-tuned cloze",
        "zero-shot cloze",
        "most frequent label",
        "between seeds",
        "is / said",
        f"wrote       {out}",
        "test        40 ",
    ):
        assert text in said.out, text
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "manifest.json",
        "task.toml",
        "report.json",
    }
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [run["seed"] for run in report["seeds"]] == [0, 1] and report["few_shot"] == 24
    assert report["scores"]["fine-tuned cloze"]["accuracy"] > 0.7
    assert read_task(out) == TASK
    row = sentences(1, 9)["row 0"]
    found = minglm("classify", "--model", out, row["text"], "--json")  # the folder knows its task
    assert found.code == 0 and json.loads(found.out)["label"] in WORDS
    again = minglm(*words)
    assert again.code == 2 and "holds other files" in again.err and again.err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        (
            "train",
            '{"text": "so", "label": "foods"}',
            "train.jsonl:2: label: 'foods' is no label of this task; did you mean",
        ),
        (
            "train",
            '{"txt": "so", "label": "food"}',
            "train.jsonl:2: no column 'text'; the columns there are: 'txt', 'label'",
        ),
        ("train", '{"text": "so"}', "train.jsonl:2: no column 'label'"),
        (
            "train",
            '{"text": "so", "label": "food"}',
            "train: no row with the label 'other'; each of food, other needs at l",
        ),
        ("dev", '{"text": "so", "label": 1e400}', "dev.jsonl:2: not JSON (1e400 is too large a number)"),
        ("dev", "[]", "dev.jsonl:2: holds no object"),
    ],
)
def test_rows_that_do_not_fit_are_told_in_one_line_and_leave_nothing(
    minglm, small_run, data, tmp_path, file, line, told
):
    good = '{"text": "so", "label": "food"}\n'
    for name in ("train", "dev"):
        more = line if name == file else '{"text": "so", "label": "other"}'
        (tmp_path / f"{name}.jsonl").write_text(f"{good}{more}\n", encoding="utf-8")
    said = minglm(
        "finetune",
        "--model",
        small_run,
        "--task",
        data / "kind.toml",
        "--train",
        tmp_path / "train.jsonl",
        "--dev",
        tmp_path / "dev.jsonl",
        "--out",
        tmp_path / "out",
    )
    assert said.code == 2 and told in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "sentimant"], "unknown task 'sentimant'; did you mean sentiment?"),
        (["--seeds", "-1"], "--seeds: -1 is not accepted"),
        (["--lr", "nan"], "lr: nan is not accepted; a number > 0 is"),
        (["--few-shot", "500"], "--few-shot: 500 given; there are 32 rows with the label 'food'"),
        (["--test", "no.jsonl"], "no.jsonl: cannot be read: No such file"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_dials_that_do_not_fit_are_told_in_one_line(minglm, small_run, data, tmp_path, words, told):
    given = dict(
        [
            ("--task", data / "kind.toml"),
            ("--train", data / "train.jsonl"),
            ("--dev", data / "dev.jsonl"),
            ("--model", small_run),
            ("--out", tmp_path / "out"),
        ]
    ) | dict([words])
    said = minglm("finetune", *(x for pair in given.items() for x in pair))
    assert said.code == 2 and told in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
