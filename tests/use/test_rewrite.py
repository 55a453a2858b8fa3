"""Text to text: rows as in pretraining, the loss equals the formula, and answers are those of `fill`."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from conftest import hide, needs

from minglm import GLM, MinglmError, Tokenizer, build_example, fill
from minglm.cli import parser
from minglm.cli.tasks import print_report
from minglm.compare.finetuned import draw, finetune, text_table
from minglm.compare.rivals import word_for_word
from minglm.errors import how_to_install
from minglm.measure.metrics import bleu, compare, rouge, scores_line, tell_what_is_left_out
from minglm.rng import Rng
from minglm.train import finetune as finetune_module
from minglm.train.config import Finetuning
from minglm.train.finetune import TextScorer, fit, train_step
from minglm.train.optimizer import make_adamw, parameter_groups
from minglm.use.drafts import Dials, Draft
from minglm.use.questions import ask_all
from minglm.use.rewrite import _text_of, dials_of, generate, rewrite
from minglm.use.tasks import Cloze, TextToText, read_task, shipped_tasks

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix"]
LAST = TextToText("{src} [gMASK]", name="turn")
FIRST = TextToText("[gMASK] Content: {text}", "summary")
INSIDE = TextToText('"{a}" is [sMASK] "{b}"', "c")
QUICK = Finetuning(epochs=4, batch=16, lr=1e-2, dropout=0.0, label_smoothing=0.0)


def turned(n, seed, words=2):
    """{where: record}: names, and the same in reverse."""
    rng, rows = Rng(seed), {}
    for i in range(n):
        names = [NAMES[rng.integer(len(NAMES))] for _ in range(words)]
        rows[f"row {i}"] = dict(src=" ".join(names), tgt=" ".join(reversed(names)))
    return rows


@pytest.fixture(scope="module")
def tokenizer(small_run):
    return Tokenizer.from_pretrained(small_run)


@pytest.fixture
def model(small_run):
    return GLM.from_pretrained(small_run)


def pairs(tokenizer, n=16, seed=0, limit=64):
    return ask_all(LAST, tokenizer, turned(n, seed), limit, labelled=True)


def quiet(*_):
    pass


# ---- rows ------------------------------------------------------------------------------------------------


def same_rows(ours, theirs):
    for name in ("tokens", "position_ids", "block_position_ids", "targets"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist(), name
    assert (ours.part_a_len, ours.objective) == (theirs.part_a_len, theirs.objective)


def test_a_pair_is_a_document_whose_end_is_blanked(tokenizer):
    special, row = tokenizer.special, dict(src="Anna went home.", tgt="Home went Anna.")
    pair = LAST.ask(tokenizer, row, 64, labelled=True)
    source, answer = tokenizer.encode(row["src"]), tokenizer.encode(" " + row["tgt"])
    whole = [
        special.cls,
        *source,
        *answer,
        special.eop,
    ]  # its own eop: a span that does not end in eos gets none
    span = (1 + len(source), len(whole))
    same_rows(pair.example(), build_example(whole, [span], [0], special, "document"))
    assert pair.targets == [*answer, special.eop] and pair.part_a == [special.cls, *source, special.gmask]
    assert (pair.cut, pair.cut_target) == (0, 0)


def test_a_blank_elsewhere_is_a_span_of_its_objective(tokenizer):
    special, encode = tokenizer.special, tokenizer.encode
    for task, row, before, answer, after in (
        (FIRST, dict(text="Anna went home.", summary="Home!"), "", "Home!", " Content: Anna went home."),
        (INSIDE, dict(a="Anna", b="Ben", c="not"), '"Anna" is', " not", ' "Ben"'),
    ):
        pair = task.ask(tokenizer, row, 64, labelled=True)
        ids = [special.cls, *encode(before), *encode(answer), *encode(after), special.eos]
        span = (1 + len(encode(before)), 1 + len(encode(before)) + len(encode(answer)))
        same_rows(pair.example(), build_example(ids, [span], [0], special, pair.objective))


def test_an_answer_that_is_cut_has_no_eop(tokenizer):
    special, long = tokenizer.special, " ".join(NAMES * 20)
    pair = LAST.ask(tokenizer, dict(src="Anna", tgt=long), 12, labelled=True)
    answer = tokenizer.encode(" " + long)
    assert pair.targets == answer[:12] and pair.cut_target == len(answer) + 1 - 12
    assert max(pair.example().block_position_ids) == 12  # the last that the model has
    source = tokenizer.encode("Anna")
    same_rows(
        pair.example(),
        build_example(
            [special.cls, *source, *answer[:12]],
            [(1 + len(source), 13 + len(source))],
            [0],
            special,
            "document",
        ),
    )
    fits = " ".join(NAMES[:3])
    n = len(tokenizer.encode(" " + fits)) + 1
    assert LAST.ask(tokenizer, dict(src="", tgt=fits), n, labelled=True).targets[-1] == special.eop
    assert LAST.ask(tokenizer, dict(src="", tgt=fits), n - 1, labelled=True).cut_target == 1


def test_what_was_cut_is_counted_and_the_task_says_on_which_side(tokenizer, capsys):
    long = " ".join(NAMES * 20)
    n = len(tokenizer.encode(long))
    rows = {
        "row 0": dict(src=long, tgt="so"),
        "row 1": dict(src="so", tgt=long),
        "row 2": dict(src="so", tgt="so"),
    }
    read = ask_all(LAST, tokenizer, rows, 20, labelled=True)
    assert [len(p.part_a) for p in read] == [
        20,
        2 + len(tokenizer.encode("so")),
        2 + len(tokenizer.encode("so")),
    ]
    assert [p.cut for p in read] == [n - 18, 0, 0]
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith(
        f"1 of 3 texts were too long for this model, which reads 20 tokens: {n - 18:,} tokens were cut"
    )
    cut = read[1].cut_target
    assert told[1].endswith(
        f"1 of 3 answers were too long to be written, so their ends, {cut:,} tokens, are not learned"
    )
    ids = tokenizer.encode(long)
    assert read[0].part_a[1:-1] == ids[:18]
    assert replace(LAST, shorten={"src": "start"}).ask(tokenizer, rows["row 0"], 20).part_a[1:-1] == ids[-18:]


def test_what_a_text_says_is_text(tokenizer):
    pair = LAST.ask(
        tokenizer, dict(src="a [gMASK] [BLANK] <|endofpiece|>", tgt="<|endofpiece|> so"), 64, labelled=True
    )
    assert pair.part_a.count(tokenizer.special.gmask) == 1 and pair.targets.count(tokenizer.special.eop) == 1


# ---- learning --------------------------------------------------------------------------------------------


def test_the_smoothed_loss_is_its_formula(model, tokenizer):
    scorer, read = TextScorer(model.double().eval()), pairs(tokenizer, 5)
    losses = scorer.losses(read, replace(QUICK, label_smoothing=0.1))
    expected = []
    for pair in read:  # each alone, and with pencil and paper
        logits, targets = scorer([pair])
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
            top = max(row)
            log_z = top + math.log(math.fsum(math.exp(x - top) for x in row))
            log_p = [x - log_z for x in row]
            expected.append(0.9 * -log_p[target] + 0.1 * -math.fsum(log_p) / len(log_p))
    torch.testing.assert_close(
        losses.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    plain = scorer.losses(read, QUICK)
    assert len(plain) == scorer.count(read)
    assert scorer.judge(read)["dev_loss"] == pytest.approx(float(plain.detach().mean()), rel=1e-12)


def test_the_loss_is_that_of_pretraining(model, tokenizer):
    from minglm import pack

    read = pairs(tokenizer, 5)
    batch = pack([pair.example() for pair in read])
    torch.testing.assert_close(
        TextScorer(model).losses(read, QUICK), model.loss(batch, "none"), rtol=0, atol=0
    )


def test_the_micro_batch_does_not_change_what_is_learned(model, tokenizer, monkeypatch):
    read, steps = pairs(tokenizer, 9), []
    for most in (10**6, 40):
        monkeypatch.setattr(finetune_module, "BATCH_ROWS", most)
        scorer = TextScorer(GLM(model.config))
        scorer.model.load_state_dict(model.state_dict())
        settings = replace(QUICK, steps=10, label_smoothing=0.1)
        loss = train_step(
            scorer, read, make_adamw(parameter_groups(scorer, settings), settings), settings, 0, 0
        )
        steps.append((loss, torch.cat([p.detach().flatten() for p in scorer.parameters()])))
    assert steps[0][0] == pytest.approx(steps[1][0], abs=1e-5)
    torch.testing.assert_close(steps[0][1], steps[1][1], atol=1e-4, rtol=0)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(model, tokenizer):
    found = []
    for seed in (3, 3, 4):
        scorer = TextScorer(GLM(model.config))
        scorer.model.load_state_dict(model.state_dict())
        torch.rand(7)  # earlier random draws do not matter
        fit(
            scorer,
            pairs(tokenizer),
            pairs(tokenizer, 4),
            replace(QUICK, epochs=1, dropout=0.2),
            seed,
            LAST,
            quiet,
        )
        found.append(torch.cat([p.detach().flatten() for p in scorer.parameters()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_the_epoch_with_the_lowest_loss_on_dev_stays(model, tokenizer):
    read, said = pairs(tokenizer, 16), []
    scorer, dev = TextScorer(model), pairs(tokenizer, 8, 1)
    history = fit(scorer, read, dev, replace(QUICK, epochs=6, lr=3e-2, patience=2), 0, LAST, said.append)
    best = min(epoch["dev_loss"] for epoch in history)
    assert scorer.judge(dev)["dev_loss"] == best < history[0]["dev_loss"]
    assert "per token" in said[0] and any(line.endswith("best") for line in said)


def test_a_toy_language_is_learned_and_the_model_given_stays_as_it_was(model, tokenizer, capsys):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    test = turned(30, 2)
    tuned, report = finetune(
        model,
        tokenizer,
        LAST,
        turned(128, 0),
        turned(30, 1),
        test=test,
        say=quiet,
        settings=replace(QUICK, epochs=12),
    )
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    scores = report["scores"]
    assert scores["fine-tuned GLM"]["exact"] > 80 > scores["copying the source"]["exact"]
    assert report["texts"] == {"train": 128, "dev": 30, "test": 30} and report["about"] == "test"
    said = rewrite(tuned, tokenizer, LAST, list(test.values()))
    assert 100 * sum(
        a == row["tgt"] for a, row in zip(said, test.values(), strict=True)
    ) / 30 == pytest.approx(scores["fine-tuned GLM"]["exact"])
    assert rewrite(tuned, tokenizer, LAST, test["row 0"]["src"]) == said[0] == report["examples"][0]["ours"]
    json.dumps(report)
    print_report(report)
    out = capsys.readouterr().out
    for words in (
        "test        30 texts",
        "copying the source",
        "exact",
        "source      ",
        "ours        ",
        "gold        ",
    ):
        assert words in out


def test_seeds_and_few_rows(model, tokenizer, capsys):
    how = dict(settings=replace(QUICK, epochs=1), seeds=(0, 1), few_shot=10, rivals=True, say=quiet)
    _, report = finetune(model, tokenizer, LAST, turned(40, 0), turned(6, 1), **how)
    assert [run["texts"] for run in report["seeds"]] == [10, 10] and report["about"] == "dev"
    assert report["scores"]["fine-tuned GLM"]["between_seeds"]["exact"] >= 0
    assert report["scores"]["from random weights"]["between_seeds"]["exact"] >= 0
    print_report(report)
    assert "the epoch was chosen on them" in capsys.readouterr().out
    with pytest.raises(MinglmError, match="--few-shot: 17 given; there are 16 rows in all"):
        draw(LAST, pairs(tokenizer), 17, 0)


# ---- answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dials",
    [
        dict(),
        dict(beams=3),
        dict(beams=2, length_penalty=1.0, no_repeat_ngram=2),
        dict(temperature=1.0, seed=3),
        dict(no_repeat_ngram=1),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "task", [LAST, TextToText("[gMASK] Content: {src}"), TextToText('"{src}" is [MASK].')], ids=str
)
def test_answers_in_batches_are_those_alone_and_those_of_fill(model, tokenizer, task, dials):
    dials = dials | dict(max_tokens=9)
    sources = [
        "Anna went home",
        "Ben",
        "",
        "The day was long, and the night was good. " * 2,
        "So David asked for water!",
    ]
    if "{src} " in task.pattern:
        sources.remove("")  # without a source, `fill` would read the space before the mask
    together = rewrite(model, tokenizer, task, sources, **dials)
    assert together == [rewrite(model, tokenizer, task, text, **dials) for text in sources]
    for text, said in zip(sources, together, strict=True):
        filled = fill(model, tokenizer, task.pattern.replace("{src}", text).rstrip(), **dials)
        assert said == filled.blanks[0].text.strip()


@pytest.mark.parametrize("task", [LAST, FIRST, INSIDE], ids=str)
def test_what_was_learned_is_what_is_read_when_an_answer_is_written(model, tokenizer, task):
    row = dict.fromkeys(["src", "text", "a", "b"], "Anna [gMASK] went home. ")
    pair = task.ask(tokenizer, row, 64)
    draft = Draft(model, tokenizer, _text_of(pair), Dials())
    assert draft.part_a == pair.part_a and draft.blanks[0].position == pair.position


def test_many_texts_come_back_in_their_order(model, tokenizer, monkeypatch):
    from minglm.use import rewrite as seq2seq

    rows = [" ".join(NAMES[: n % 5]) + f" {n}" for n in (3, 9, 1, 7, 4)]
    found = rewrite(model, tokenizer, LAST, rows, max_tokens=5)
    monkeypatch.setattr(seq2seq, "BATCH_ROWS", 30)  # two at a time
    assert rewrite(model, tokenizer, LAST, rows, max_tokens=5) == found


def test_the_tasks_dials_hold_unless_others_are_given():
    task = replace(LAST, dials=dict(beams=5, length_penalty=0.6))
    assert dials_of(task) == Dials(beams=5, length_penalty=0.6)
    assert dials_of(task, beams=0, max_tokens=7, length_penalty=None) == Dials(
        max_tokens=7, length_penalty=0.6
    )
    with pytest.raises(MinglmError, match="beams: -1"):
        dials_of(task, beams=-1)


def test_the_means_over_seeds_count_zeros_too():
    table = text_table(
        {
            "fine-tuned GLM": [["a"], ["b"]],
            "word for word, by a dictionary": [["a"]],
            "copying the source": [["b"]],
        },
        ["b"],
    )
    assert table["fine-tuned GLM"]["exact"] == 50 and table["fine-tuned GLM"]["between_seeds"]["exact"] > 70
    assert (
        table["copying the source"]["exact"] == 100 and table["copying the source"]["between_seeds"] is None
    )


def test_no_pairs_give_no_texts(model, tokenizer):
    assert generate(model, tokenizer, [], Dials()) == rewrite(model, tokenizer, LAST, []) == []


# ---- how good an answer is -------------------------------------------------------------------------------


@needs("sacrebleu")
def test_bleu_by_hand_and_of_the_library():
    assert bleu(["a b c d e"], ["a b c d f"])["bleu"] == pytest.approx(
        100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    )
    assert bleu(["a b c d"], ["a b c d e"])["bleu"] == pytest.approx(100 * math.exp(1 - 5 / 4))  # too short
    assert bleu(["so it is now"], ["so it is now"]) == dict(bleu=pytest.approx(100), chrf=pytest.approx(100))
    import sacrebleu

    said, gold = ["the cat sat on a mat .", "it was good"], ["the cat sat on the mat.", "it is so good"]
    found = bleu(said, gold)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, [gold]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [gold]).score)


@needs("rouge_score")
def test_rouge_by_hand():
    found = rouge(["the cat sat"], ["the cat sat down"])  # 3 of 3 and 3 of 4 words; 2 of 2 and 2 of 3 pairs
    assert found == dict(
        rouge1=pytest.approx(600 / 7), rouge2=pytest.approx(80), rougeL=pytest.approx(600 / 7)
    )
    assert rouge(["b a", "x"], ["a b", "x"])["rougeL"] == pytest.approx((50 + 100) / 2)


def test_scores_without_the_libraries_are_exact_matches_and_a_line(monkeypatch, capsys):
    hide(monkeypatch, "sacrebleu", "rouge_score")
    for metric, named in ((bleu, "BLEU and chrF: sacrebleu"), (rouge, "ROUGE: rouge-score")):
        with pytest.raises(
            MinglmError, match=re.escape(f"{named} is not installed; {how_to_install('tasks')}")
        ):
            metric(["a"], ["a"])
    scores = compare(["a ", "b"], ["a", "c"])
    assert scores == dict(bleu=None, chrf=None, rouge1=None, rouge2=None, rougeL=None, exact=50)
    tell_what_is_left_out()
    notes = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[2] for line in notes] == ["without BLEU and chrF", "without ROUGE"]
    assert scores_line(scores) == "exact 50.0 %"


def test_scores_of_texts_that_do_not_match_are_refused():
    for said, gold in (([], []), (["a"], ["a", "b"])):
        for metric in (bleu, rouge, compare):
            with pytest.raises(MinglmError, match="one for each is needed"):
                metric(said, gold)


def test_a_dictionary_is_an_honest_rival():
    learned = [("he saith so", "he says so"), ("she saith no", "she says no"), ("thou art", "you are now")]
    assert word_for_word(learned, ["saith  he", "thou art", "unknown"]) == ["says he", "thou art", "unknown"]
    assert word_for_word([], ["so it is"]) == ["so it is"]


# ---- tasks in files --------------------------------------------------------------------------------------


def test_the_shipped_tasks_of_text_to_text_survive_the_way_through_toml(tmp_path):
    assert list(shipped_tasks(TextToText)) == ["modernise", "summary", "text2text"]
    assert set(shipped_tasks()) == {*shipped_tasks(Cloze), *shipped_tasks(TextToText)}
    strange = TextToText(
        '"{a b}"\t\\ [sMASK]\x7f', "起", shorten={"a b": "start"}, dials={"beams": 2, "length_penalty": 0.5}
    )
    for task in (*map(read_task, shipped_tasks(TextToText)), LAST, FIRST, strange):
        path = tmp_path / "task.toml"
        path.write_text(task.to_toml(), encoding="utf-8")
        assert read_task(path) == read_task(tmp_path, TextToText) == task
    assert (read_task("modernise").columns, read_task("modernise").target) == (["src"], "tgt")
    assert (read_task("summary").columns, read_task("summary").target) == (["text"], "summary")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('target = "tgt"', "no pattern; a task needs pattern"),
        ('target = 3\npattern = "{src} [gMASK]"', "target: 3"),
        ('target = " "\npattern = "{src} [gMASK]"', "target: ' '"),
        ('target = "src"\npattern = "{src} [gMASK]"', "a column that the pattern does not show"),
        ('target = "tgt"\npattern = "{src}"', "one of [gMASK], [sMASK], [MASK] is"),
        ('target = "tgt"\npattern = "{src} [gMASK] [MASK]"', "one of [gMASK], [sMASK], [MASK] is"),
        ('target = "tgt"\npattern = "[gMASK]"', "a {column}"),
        ('target = "tgt"\npattern = "{src} [gMASK]"\nverbalizer = "x"', "unknown key 'verbalizer'"),
        ('targets = "tgt"\npattern = "{src} [gMASK]"', "unknown key 'targets'; did you mean target?"),
        ('target = "tgt"\npattern = "{src} [gMASK]"\nshorten = {tgt = "end"}', "a column of the pattern"),
        ('target = "tgt"\npattern = "{src} [gMASK]"\ndials = 5', "dials: 5"),
        (
            'target = "tgt"\npattern = "{src} [gMASK]"\ndials = {beam = 5}',
            "dials: unknown key 'beam'; accepted: beams, ",
        ),
        (
            'target = "tgt"\npattern = "{src} [gMASK]"\ndials = {beams = 2.5}',
            "dials: beams: 2.5 is not accepted; a whole ",
        ),
        ('target = "tgt"\npattern = "{src} [gMASK]"\ndials = {beams = true}', "dials: beams: True"),
        ('target = "tgt"\npattern = "{src} [gMASK]"\ndials = {beams = -1}', "beams: -1 is not accepted"),
        ('target = "tgt"\npattern = "{src} [gMASK]"\ndials = {length_penalty = nan}', "length_penalty: nan"),
        (
            f'target = "tgt"\npattern = "{{src}} [gMASK]"\ndials = {{max_tokens = 1{"0" * 400}}}',
            "max_tokens: 1000",
        ),
    ],
)
def test_a_file_that_is_no_task_is_refused_in_one_line(tmp_path, toml, words):
    path = tmp_path / "task.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(MinglmError) as error:
        read_task(path)
    assert (
        words in str(error.value) and str(error.value).startswith(str(path)) and len(str(error.value)) < 400
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"source": "so"}, "no column 'src'; the columns there are: 'source'"),
        ({"src": "so"}, "no column 'tgt'"),
        ({"src": ["so"], "tgt": "so"}, "src: ['so'] is not accepted; a text is"),
        ({"src": "so", "tgt": None}, "tgt: None is not accepted; a text is, and not an empty one"),
        ({"src": "so", "tgt": " \n"}, "and not an empty one"),
        ({"src": "so", "tgt": "\ud800"}, "tgt: '\\ud800'"),
        ({"src": "\ud800", "tgt": "so"}, "not valid unicode"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_in_one_line(tokenizer, row, words):
    with pytest.raises(MinglmError) as error:
        ask_all(LAST, tokenizer, {"in.jsonl:7": row}, 64, labelled=True)
    assert str(error.value).startswith("in.jsonl:7: ") and words in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


# ---- the command line ------------------------------------------------------------------------------------


@pytest.fixture
def minglm_rewrite(capsys):
    """Run `rewrite` -> (stdout, stderr)."""

    def run(*words):
        args = parser().parse_args(["rewrite", *map(str, words)])
        capsys.readouterr()
        args.run(args)
        return capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with train.jsonl, dev.jsonl and test.jsonl."""
    folder = tmp_path_factory.mktemp("data")
    for seed, (name, n) in enumerate((("train", 64), ("dev", 16), ("test", 20))):
        lines = [json.dumps(row) + "\n" for row in turned(n, seed).values()]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_a_task_is_learned_from_files_and_its_folder_rewrites(
    minglm, minglm_rewrite, small_run, data, tmp_path
):
    out = tmp_path / "turn"
    words = [
        "finetune",
        "--model",
        small_run,
        "--task",
        "text2text",
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
        "--lr",
        "1e-2",
    ]
    said = minglm(*words)
    assert said.code == 0, said.err
    for text in (
        "finetune text2text",
        "64 texts to learn from",
        "epoch 1",
        "best",
        "fine-tuned GLM",
        "copying the source",
        "word for word",
        "test        20 texts",
        f"minglm rewrite --model {out} TEXT",
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
    assert report["texts"] == {"train": 64, "dev": 16, "test": 20} and len(report["examples"]) == 20
    assert report["settings"]["label_smoothing"] == 0.1
    assert read_task(out) == read_task("text2text")

    one = minglm_rewrite("--model", out, "Anna Ben", "--json").out
    assert json.loads(one)["written"] + "\n" == minglm_rewrite("--model", out, "Anna Ben").out
    assert minglm_rewrite("--model", out, "Anna Ben", "--beams", "3", "--max-tokens", "4").out
    told = minglm_rewrite("--model", out, "--file", data / "test.jsonl", "--out", tmp_path / "written.jsonl")
    rows = [
        json.loads(line) for line in (tmp_path / "written.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    exact = 100 * sum(row["written"] == row["tgt"] for row in rows) / 20
    assert exact == pytest.approx(report["scores"]["fine-tuned GLM"]["exact"])
    assert f"exact {exact:.1f} %, of the 20 rows that have an answer" in told.out and "20 rows" in told.out
    told = minglm_rewrite("--model", out, "--file", data / "test.jsonl")
    assert [json.loads(line) for line in told.out.splitlines()] == rows and "exact" in told.err

    refused = minglm("classify", "--model", out, "Anna")
    assert refused.code == 2 and "a task of text to text; minglm rewrite serves it" in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "rewrite: give either a TEXT or --file FILE"),
        (["so", "--file", "x.jsonl"], "rewrite: give either a TEXT or --file FILE"),
        (["so", "--out", "x"], "--out needs --file"),
        (["so"], "--task is missing; accepted: modernise, summary, text2text, or a TOML file"),
        (["so", "--task", "modernize"], "unknown task 'modernize'; did you mean modernise?"),
        (["so", "--task", "sentiment"], "a task that chooses among labels; minglm classify serves it"),
        (["so", "so", "--task", "modernise"], "modernise: 2 texts given; it takes 1: src"),
        (["so", "--task", "modernise", "--beams", "-1"], "beams: -1 is not accepted"),
        (
            ["so", "--task", "modernise", "--min-tokens", "9", "--max-tokens", "2"],
            "min_tokens: 9 is more than max_tokens = 2",
        ),
        (["--file", "no.jsonl", "--task", "modernise"], "no.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_rewritten_is_told_in_one_line(minglm_rewrite, small_run, words, told):
    with pytest.raises(MinglmError) as error:
        minglm_rewrite("--model", small_run, *words)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "line", "told"),
    [
        ([], '{"src": "so"}', "train.jsonl:2: no column 'tgt'; the columns there are: 'src'"),
        ([], '{"src": 1, "tgt": "so"}', "train.jsonl:2: src: 1 is not accepted; a text is"),
        ([], '{"src": "so", "tgt": ""}', "train.jsonl:2: tgt: '' is not accepted"),
        ([], '{"src": "so", "tgt": "\\ud83d"}', "train.jsonl:2: tgt: "),
        ([], "[1]", "train.jsonl:2: holds no object"),
        (
            ["--label-smoothing", "1"],
            '{"src": "so", "tgt": "so"}',
            "label_smoothing: 1.0 is not accepted; a number",
        ),
        (["--few-shot", "3"], '{"src": "so", "tgt": "so"}', "--few-shot: 3 given; there are 2 rows in all"),
    ],
)
def test_rows_that_do_not_fit_are_told_in_one_line_and_leave_nothing(
    minglm, small_run, tmp_path, more, line, told
):
    (tmp_path / "train.jsonl").write_text(f'{{"src": "so", "tgt": "so"}}\n{line}\n', encoding="utf-8")
    said = minglm(
        "finetune",
        "--model",
        small_run,
        "--task",
        "text2text",
        "--train",
        tmp_path / "train.jsonl",
        "--dev",
        tmp_path / "train.jsonl",
        "--out",
        tmp_path / "out",
        *more,
    )
    assert said.code == 2 and told in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
