"""The comparison on a tiny data set: its cells, that each is computed once, and the table of results."""

import dataclasses
import json
import lzma
import math
import multiprocessing
import shutil
import statistics

import pytest
from conftest import hide, needs, thorough

from minglm.compare.cells import (
    STORIES,
    Comparison,
    add_cell,
    key_of,
    pieces,
    pretraining_texts,
    read_cells,
    story_texts,
)
from minglm.compare.plan import (
    ABLATIONS,
    COUNTED,
    FEW,
    QUICK,
    RIVALS,
    SIMPLE,
    TASKS,
    Cell,
    LargePlan,
    Plan,
    cells,
    uses_of,
)
from minglm.compare.table import entry, helped, print_summary, summary, together
from minglm.data.tokenizer import Tokenizer
from minglm.errors import how_to_install, missing
from minglm.train import finetune
from minglm.use.models import BOX
from minglm.use.tasks import Cloze
from minglm.viz.figures.comparison import fig_comparison

FEWER = dict(
    steps=3,
    batch_tokens=128,
    vocab_size=400,
    max_positions=64,
    learn=8,
    learn_book_cloze=8,
    report=6,
    report_written=3,
)
TINY = dataclasses.replace(QUICK, **FEWER)
WORDS = [
    *"king water house night good poor yes no animal plant person object food".split(),
    *"body place substance action communication".split(),
]


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """Two steps of fine-tuning instead of at least twenty: the results do not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "MIN_STEPS", 2)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folders that a comparison reads, with a dozen records each."""
    folder = tmp_path_factory.mktemp("data")

    def rows(task, side, found):
        (folder / task).mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (folder / task / f"{side}.jsonl.xz").write_bytes(lzma.compress(lines.encode()))

    text = "\n".join(
        f"The {a} was in the {b}, and it was no {a}. So they said yes." for a in WORDS for b in WORDS[:6]
    )
    for name in ("austen", "scripture", "glosses"):
        (folder / name).mkdir()
        for side in ("train", "dev"):
            (folder / name / f"{side}.txt.xz").write_bytes(lzma.compress((text + "\n\n" + text).encode()))
    for side in ("train", "dev"):
        n = range(12)
        rows(
            "sentiment",
            side,
            [dict(text=f"the {WORDS[i]} film", label=["positive", "negative"][i % 2]) for i in n],
        )
        labels = TASKS["topic"].labels
        rows("topic", side, [dict(text=f"a {WORDS[i]}", label=labels[i % len(labels)]) for i in n])
        rows(
            "paraphrase",
            side,
            [dict(a="the king", b=f"the {WORDS[i]}", label=["yes", "no"][i % 2]) for i in n],
        )
        rows(
            "book_cloze",
            side,
            [
                dict(
                    context="The king was there.",
                    query="He saw the [BLANK].",
                    candidates=WORDS[:5],
                    answer=WORDS[i % 5],
                )
                for i in n
            ],
        )
        pairs = [
            dict(src=f"thou {WORDS[i]} art in the house", tgt=f"you {WORDS[i]} are in the house") for i in n
        ]
        rows("modernise", side, pairs)
    rows("infill", "dev", [dict(text="The [BLANK] was in the house.", blanks=["king"], ratio=0.1)] * 3)
    rows("everyday", "dev", [dict(text="The king was in the [MASK].", accept=["house", "water"])] * 3)
    rows("last_word", "dev", [dict(context="The king was in the", answer="house")] * 3)
    return folder


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A comparison that is partly done: glm, bert, one ablation, and random weights."""
    comparison = Comparison(TINY, data, tmp_path_factory.mktemp("out"))
    wanted = [
        cell
        for cell in cells(TINY)
        if cell.family in ("glm", "bert", "gpt", "glm-1d")
        and not (cell.task == "modernise" and missing("sacrebleu"))
    ]
    said = []
    comparison.run(wanted, say=said.append)
    return comparison, wanted, said


# ---- which cells -----------------------------------------------------------------------------------------


def test_the_table_is_four_objectives_by_two_models_by_three_learnings():
    found = cells(Plan())
    assert len(found) == len(set(found))
    for family in RIVALS:
        assert [cell.pretrained for cell in found if cell.family == family and cell.task is None] == [0, 1]
        for task in Plan().uses(family):
            ours = [
                c
                for c in found
                if (c.family, c.task, c.head) == (family, task, False) and c.pretrained is not None
            ]
            seeds = [(cell.pretrained, cell.seed) for cell in ours]
            expected = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] if task in TASKS else [(0, 0), (1, 0)]
            assert sorted(seeds) == expected
        random = {
            (cell.task, cell.seed) for cell in found if cell.family == family and cell.pretrained is None
        }
        assert random == {(task, seed) for task in Plan().uses(family) for seed in range(3)}


def test_ablations_are_of_one_model_on_sentiment_and_infilling():
    for family in ABLATIONS:
        found = [cell for cell in cells(Plan()) if cell.family == family]
        assert {cell.pretrained for cell in found} == {0} and {cell.task for cell in found} == {
            None,
            "sentiment",
            "infill",
        }
    assert sum(cell.head for cell in cells(Plan())) == 3


def test_a_model_is_trained_before_it_is_used():
    trained = set()
    for cell in cells(Plan()):
        if cell.task is None:
            trained.add((cell.family, cell.pretrained))
        assert cell.pretrained is None or (cell.family, cell.pretrained) in trained


def test_what_a_family_cannot_do_is_not_asked():
    assert not {"modernise", "last_word", "text"} & set(uses_of("bert")) and "infill" in uses_of("bert")
    assert "infill" not in uses_of("gpt") and "infill" not in uses_of("prefix") and "text" in uses_of("gpt")
    assert set(Plan().uses("glm")) == {*TASKS, "infill", "last_word", "text"}


def test_blanks_stand_where_a_left_to_right_model_has_read_what_it_needs():
    for name, task in TASKS.items():
        if isinstance(task, Cloze) and name != "book_cloze":
            behind = task.pattern.partition("[MASK]")[2]
            assert "{" not in behind


# ---- computing them --------------------------------------------------------------------------------------


def test_chapters_become_short_and_long_documents_and_every_word_is_there_once():
    text = "\n\n".join("\n".join(f"chapter {c} paragraph {n} has six" for n in range(40)) for c in range(3))
    found = list(pieces(text, words=30))
    assert " ".join(found).split() == text.split()
    assert {len(document.split()) for document in found} == {6, 30}
    assert all(
        len(set(document.split()[1::6])) == 1 for document in found
    )  # none runs on into the next chapter


def test_texts_of_tasks_are_read_without_their_labels_and_two_of_a_row_together(data):
    found = list(pretraining_texts(data))
    for task, texts in (("paraphrase", ("a", "b")), ("modernise", ("src",)), ("topic", ("text",))):
        rows = [json.loads(line) for line in lzma.open(data / task / "train.jsonl.xz", "rt")]
        assert {" ".join(row[name] for name in texts) for row in rows} <= set(found)
    targets = {json.loads(line)["tgt"] for line in lzma.open(data / "modernise" / "train.jsonl.xz", "rt")}
    assert all(found) and not targets & set(found)


@pytest.mark.parametrize(
    "task", ["sentiment", "paraphrase"]
)  # two of topic's ten labels are no words of simple stories
def test_labels_are_one_token_for_the_box_or_learning_would_take_ten_times_as_long(task):
    tokenizer = Tokenizer.from_pretrained(BOX)
    assert all(len(tokenizer.encode(" " + word)) == 1 for word in TASKS[task].verbalizer.values())


def test_every_cell_is_done_and_none_twice(done):
    comparison, wanted, said = done
    assert all(comparison.known(cell) is not None for cell in wanted) and len(said) == len(wanted)
    before = comparison.file.read_bytes()
    assert len(before.splitlines()) == len(wanted)
    comparison.run(wanted, say=said.append)
    assert len(said) == len(wanted) and comparison.file.read_bytes() == before


def lose(comparison, cell):
    """Take a cell's line out of cells.jsonl."""
    lines = [
        line for line in read_cells(comparison.file) if key_of(line["config"]) != comparison.key_of(cell)
    ]
    comparison.file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert comparison.known(cell) is None


def test_a_lost_cell_comes_out_as_before(done):
    comparison, wanted, _ = done
    [cell] = [
        cell for cell in wanted if (cell.family, cell.pretrained, cell.task) == ("glm", 0, "paraphrase")
    ]
    before = comparison.known(cell)
    lose(comparison, cell)
    comparison.run(wanted, say=lambda _: None)
    again = comparison.known(cell)
    assert {**again, "seconds": 0} == {**before, "seconds": 0}


def test_what_decides_a_cell_is_in_its_name_and_nothing_else(done, data):
    comparison, *_ = done
    path = comparison.key_of

    def other(cell, **change):
        return Comparison(dataclasses.replace(TINY, **change), data, comparison.out).key_of(cell)

    model, use = Cell("glm", 0), Cell("glm", 0, "sentiment")
    assert (
        len(
            {
                path(model),
                path(use),
                path(Cell("gpt", 0)),
                path(Cell("glm", 1)),
                path(Cell("glm", 0, "sentiment", 1)),
                path(Cell("glm", 0, "sentiment", head=True)),
                path(Cell("glm", None, "sentiment")),
            }
        )
        == 7
    )
    assert other(model, steps=4) != path(model) and other(use, steps=4) != path(use)
    assert other(model, epochs=9, learn=9, lr=1.0) == path(model)  # its use does not affect its training
    assert other(use, epochs=9) != path(use)
    assert other(use, pretraining_seeds=5, finetuning_seeds=5) == path(use)


def test_another_machine_goes_on_from_the_cells_alone(done, data, tmp_path):
    """A missing model is pretrained again, with the same result."""
    comparison, wanted, _ = done
    there = Comparison(TINY, data, tmp_path / "there")
    there.out.mkdir()
    shutil.copy(comparison.file, there.file)
    assert all(there.known(cell) == comparison.known(cell) for cell in wanted)
    cell = Cell("glm-1d", 0, "sentiment")
    lose(there, cell)
    there.run(wanted, say=lambda _: None)
    assert {**there.known(cell), "seconds": 0} == {**comparison.known(cell), "seconds": 0}
    assert [path.name for path in (there.out / "models").iterdir()] == [there.folder_of(cell).name]


def test_half_a_line_is_a_cell_to_be_done(done, data, tmp_path):
    comparison, wanted, _ = done
    there = Comparison(TINY, data, tmp_path)
    there.file.write_bytes(comparison.file.read_bytes()[:-9])
    lost = [cell for cell in wanted if there.known(cell) is None]
    assert len(lost) == 1
    add_cell(there.file, read_cells(comparison.file)[-1])
    assert there.known(lost[0]) == comparison.known(lost[0])
    assert len(read_cells(there.file)) == len(wanted) == len(there.file.read_bytes().splitlines()) - 1


def test_processes_that_share_a_file_do_not_mix_their_lines(tmp_path):
    path, lines = tmp_path / "cells.jsonl", [dict(config=n, result="x" * 5000) for n in range(200)]
    with multiprocessing.get_context("fork").Pool(
        4
    ) as pool:  # none of them computes, so none needs its own Python
        pool.starmap(add_cell, [(path, line) for line in lines], chunksize=1)
    assert sorted(line["config"] for line in read_cells(path)) == list(range(200))


@needs("sklearn")
@needs("sacrebleu")
def test_counting_words_stands_beside_the_models(done, data):
    """TF-IDF learns which words go with a label; a dictionary turns thou into you."""
    comparison, *_ = done
    counted = [cell for cell in cells(TINY) if cell.family == COUNTED]
    assert [cell.task for cell in counted] == ["sentiment", "topic", "paraphrase", "modernise"]
    there = Comparison(TINY, data, comparison.out)
    there.file = comparison.out / "counted.jsonl"
    there.run(counted, say=lambda _: None)
    table = summary(there)["table"]
    assert (
        table["modernise"]["words"]["score"] == pytest.approx(100)
        and table["sentiment"]["words"]["score"] == 100
    )
    assert list(table) == ["sentiment", "topic", "paraphrase", "modernise"]


def test_without_scikit_learn_counting_words_is_left_out_and_said(data, tmp_path, monkeypatch, capsys):
    hide(monkeypatch, "sklearn")
    there, said = Comparison(TINY, data, tmp_path), []
    there.run([Cell(COUNTED, None, task) for task in ("sentiment", "topic")], say=said.append)
    line = f"without what counting words gives: scikit-learn is not installed; {how_to_install('tasks')}"
    assert capsys.readouterr().err == f"minglm: note: {line}\n" and not said and not there.file.exists()


def test_without_sacrebleu_nothing_is_begun(data, tmp_path, minglm, monkeypatch):
    hide(monkeypatch, "sacrebleu")
    told = minglm("compare", "--data", data, "--out", tmp_path, "--quick")
    line = f"BLEU of text to text: sacrebleu is not installed; {how_to_install('tasks')}"
    assert (told.code, told.err) == (2, f"minglm: error: {line}\n")
    assert not (tmp_path / "models").exists() and not (tmp_path / "cells.jsonl").exists()


def test_minutes_end_it_between_cells(data, tmp_path):
    said = []
    Comparison(TINY, data, tmp_path).run([Cell("glm", 0), Cell("bert", 0)], minutes=-1, say=said.append)
    assert len(said) == 1 and "; 2 cells are left: the same command continues" in said[0]


def test_an_interrupted_pretraining_is_begun_anew(done, tmp_path):
    comparison, *_ = done
    cell = Cell("glm", 0)
    before = comparison.known(cell)
    lose(comparison, cell)
    (comparison.folder_of(cell) / "evaluation.json").unlink()  # as if it had been killed
    comparison.run([cell], say=lambda _: None)
    assert comparison.known(cell)["loss"] == pytest.approx(before["loss"], abs=1e-5)


def test_a_folder_that_is_missing_is_named(tmp_path, minglm):
    told = minglm("compare", "--data", tmp_path, "--out", tmp_path / "out", "--quick")
    assert told.code == 2 and "has no folder" in told.err and "tutorials/data" in told.err


def test_a_report_of_nothing_is_an_error(data, tmp_path, minglm):
    told = minglm("compare", "--data", data, "--out", tmp_path / "out", "--quick", "--report")
    assert told.code == 2 and "holds no cell" in told.err and not (tmp_path / "out").exists()


# ---- the larger one, on simple stories --------------------------------------------------------------------


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """A folder of stories: two texts to learn from, and one that no model reads."""
    folder, story = tmp_path_factory.mktemp("stories"), "The king went to the house by the big water. "
    for name, n in zip(STORIES, (4, 6, 8), strict=True):
        lines = [
            f"{name[:3]} {i}. " + story + "He was good to every animal and plant there." for i in range(n)
        ]
        (folder / name).write_bytes(lzma.compress("\n".join(lines).encode()))
    return folder


def test_stories_are_read_first_and_a_share_of_the_rest(stories, data):
    found = list(story_texts(stories, data, classics=3, others=4))
    assert [text[:6] for text in found[:6]] == ["tra 0.", "tra 1.", "tra 2.", "tra 3.", "cla 0.", "cla 3."]
    assert found[6:] == list(pretraining_texts(data))[::4]


def test_each_family_uses_simple_english_as_it_can_without_fine_tuning(stories, data, tmp_path, capsys):
    plan = LargePlan(**FEW | FEWER)
    comparison = Comparison(plan, data, tmp_path, stories)
    wanted = [cell for cell in cells(plan) if cell.family in ("gpt", "bert") and cell.pretrained == 0]
    wanted = [cell for cell in wanted if cell.task in (None, *SIMPLE)]
    comparison.run(wanted, say=lambda _: None)
    found = json.loads(json.dumps(summary(comparison)))
    assert found["done"] == len(wanted) == 9
    table = found["table"]
    assert {use: list(table[use]["pretrained"]) for use in table} == {
        "everyday": ["gpt", "bert"],
        "blank": ["gpt", "bert"],
        "blank_bits": ["gpt", "bert"],
        "stories": ["gpt"],
    }
    assert (table["everyday"]["n"], table["blank"]["n"]) == (3, 6)
    assert 2 < table["blank_bits"]["pretrained"]["gpt"]["score"] < 100
    print_summary(found)
    printed = capsys.readouterr().out
    assert "blanks in stories, % exact" in printed and "linear head" not in printed
    assert fig_comparison(found).axes


def test_the_larger_comparison_says_what_it_needs(data, stories, tmp_path, minglm):
    told = minglm("compare", "--data", data, "--out", tmp_path / "out", "--size", "large")
    assert told.code == 2 and "--stories: goes with --size large" in told.err
    told = minglm("compare", "--data", data, "--out", tmp_path / "out", "--stories", stories)
    assert told.code == 2 and "--stories: goes with --size large" in told.err
    large = ["compare", "--data", data, "--out", tmp_path / "out", "--size", "large", "--stories", tmp_path]
    told = minglm(*large)
    assert told.code == 2 and "has no file train.txt.xz" in told.err and not (tmp_path / "out").exists()


# ---- its results -----------------------------------------------------------------------------------------


def test_several_runs_become_one_number():
    runs = [
        dict(score=70.0, standard_error=1.0),
        dict(score=72.0, standard_error=1.2),
        dict(score=77.0, standard_error=0.8),
    ]
    found = together(runs)
    between = statistics.stdev([70.0, 72.0, 77.0])
    assert (
        found["score"] == pytest.approx(73.0)
        and found["between_runs"] == pytest.approx(between)
        and found["runs"] == 3
    )
    assert found["standard_error"] == pytest.approx(math.sqrt(1.0**2 + between**2 / 3))
    assert together(runs[:1]) == dict(score=70.0, standard_error=1.0, between_runs=None, runs=1)


def test_pretraining_helps_by_so_many_standard_errors():
    def row(ours, random):
        ours, random = dict(score=ours, standard_error=3.0), dict(score=random, standard_error=4.0)
        return dict(pretrained=dict(glm=ours), random=dict(glm=random))

    found = helped(
        dict(
            sentiment=row(70, 60),
            topic=row(50, 60),
            infill=row(1, 2),
            paraphrase=dict(pretrained={}, random={}),
        )
    )
    assert found == dict(
        sentiment=dict(difference=10, standard_errors=2.0), topic=dict(difference=-10, standard_errors=-2.0)
    )


@needs("sacrebleu")
def test_the_tables_say_what_is_known_what_is_not_and_what_cannot_be(done, capsys):
    comparison, wanted, _ = done
    found = json.loads(json.dumps(summary(comparison)))
    assert found["done"] == len(wanted) < found["cells"]
    assert entry(found["table"]["infill"], "pretrained", "gpt", "infill") == "n/a"
    assert entry(found["table"]["modernise"], "pretrained", "bert", "modernise") == "n/a"
    assert entry(found["table"]["sentiment"], "pretrained", "prefix", "sentiment") == "..."
    assert "+-" in entry(found["table"]["sentiment"], "pretrained", "bert", "sentiment")
    assert entry(found["table"]["topic"], "pretrained", "glm-1d", "topic") == "n/a"
    assert found["table"]["sentiment"]["chance"] == 50.0
    glm = found["pretraining"]["glm"]
    assert glm["text_tokens"] > 0 and glm["petaflop"] > 0
    assert glm["learned_tokens"] < found["pretraining"]["gpt"]["learned_tokens"]
    # equal text tokens for all; eos is not always among them
    assert found["pretraining"]["bert"]["text_tokens"] == pytest.approx(glm["text_tokens"], rel=0.01)
    print_summary(found)
    printed = capsys.readouterr().out
    for part in (
        "sentiment, %",
        "modernise, BLEU",
        "n/a",
        "...",
        "PFLOP",
        "linear head",
        "above random weights",
    ):
        assert part in printed
    assert max(map(len, printed.splitlines())) < 160


@thorough
def test_the_picture_has_a_point_for_each_model(done):
    found = summary(done[0])
    for theme in ("light", "dark"):
        fig = fig_comparison(found, theme=theme, width=700)
        ids = {artist.get_gid() for ax in fig.axes for artist in ax.findobj() if artist.get_gid()}
        assert {
            "sentiment-pretrained-glm",
            "sentiment-random-glm",
            "infill-pretrained-bert",
            "text-pretrained-gpt",
        } <= ids
        assert "infill-pretrained-gpt" not in ids
        assert "sentiment, GLM" in fig.alt_text
