"""The numbers of the README are those of the committed results, and the task data is what its page says."""

import csv
import json
import lzma
import re
from pathlib import Path

import pytest

from minglm.perplexity import evaluate_last_word
from minglm.rows import read_rows
from minglm.runs import BOX, read_model

ROOT = Path(__file__).parent.parent
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
RESULTS = ROOT / "tutorials" / "results"
PAGE, THE_BOX, COMPARED, BLANKS = (
    json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("page", "box", "comparison", "blanks")
)


def percent(scores):
    return f"{100 * scores['accuracy']:.1f} % ± {100 * scores['standard_error']:.1f}"


def said():
    """Every phrase that the README takes from page.json, made anew."""
    for name, x in PAGE["pretrain"]["evaluation"]["objectives"].items():
        yield f"{name} {x['perplexity']:.1f} ({x['perplexity'] / x['unigram_perplexity']:.2f} of the unigram model's"
        yield f"{x['bits_per_byte']:.2f} bits a byte, {x['noise_perplexity'] / x['perplexity']:.2f} times as high with noise"
    for x in PAGE["generate"]["rows"]:
        speeds = " | ".join(f"{x[how]['tokens_per_s']:,.0f}" for how in ("cache", "no cache"))
        yield f"| {x['read']} | {x['write']} | {x['texts']} | {speeds} | {x['times']['median']:.2f} |"
    names = ["fine-tuned cloze", "head", "cloze without training", "most frequent label", "logistic regression"]
    of = ["fine-tuned cloze", "linear head", "zero-shot cloze", "most frequent label", "TF-IDF, logistic regression"]
    for name, method in zip(names, of, strict=True):
        yield f"{name} {percent(PAGE['sentiment']['scores'][method])}"
    tuned, words, copied = PAGE["modernise"]["scores"].values()
    yield f"BLEU {tuned['bleu']:.1f}, chrF {tuned['chrf']:.1f}"
    yield f"Copying the source gives {copied['bleu']:.1f} and {copied['chrf']:.1f}"
    yield f"from the same pairs {words['bleu']:.1f} and {words['chrf']:.1f}"
    tasks = {name: x["metrics"] for name, x in PAGE["evaluate"]["tasks"].items()}
    for way, words in (("bidirectional", "bits a byte reading both ways"), ("left_to_right", "left to right")):
        x = tasks["text"][f"bits_per_byte_{way}"]
        yield f"{x['value']:.2f} ± {x['standard_error']:.2f} {words}"
    x = tasks["book_cloze"]["accuracy"]
    yield f"{100 * x['value']:.1f} % ± {100 * x['standard_error']:.1f} of {x['n']} blanks"


def said_of_the_box():
    """Every phrase that the README takes from box.json, made anew."""
    for name, x in THE_BOX["pretraining"]["objectives"].items():
        ratios = x["perplexity"] / x["unigram_perplexity"], x["noise_perplexity"] / x["perplexity"]
        yield f"| {name} | {x['perplexity']:.1f} | {x['bits_per_byte']:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |"
    tasks = {name: x["metrics"] for name, x in THE_BOX["tasks"].items()}
    for way, words in (("bidirectional", "bits a byte reading both ways"), ("left_to_right", "left to right")):
        x = tasks["text"][f"bits_per_byte_{way}"]
        yield f"{x['value']:.2f} ± {x['standard_error']:.2f} {words}"
    yield f"(bzip2: {THE_BOX['tasks']['text']['yardsticks']['bits_per_byte_of_bzip2']:.2f})"

    def share(x):
        return f"{100 * x['value']:.1f} % ± {100 * x['standard_error']:.1f}"

    yield f"restores {share(tasks['infill']['exact_match'])} of {tasks['infill']['exact_match']['n']:,} blanks"
    yield f"{share(tasks['book_cloze']['accuracy'])} of {tasks['book_cloze']['accuracy']['n']} blanks in novels"
    yield f"{share(tasks['last_word']['accuracy_left_to_right'])} of {tasks['last_word']['accuracy_left_to_right']['n']}"
    yield f"in {100 * tasks['last_word']['accuracy_bidirectional']['value']:.1f} % when the passage is Part A"
    labels = [share(tasks[name]["accuracy"]) for name in ("sentiment", "topic", "paraphrase")]
    yield f"{labels[0]}, {labels[1]} and {labels[2]}"
    for x in THE_BOX["learned"]["tasks"].values():
        ours, random = (f"{x[name]['score']:.1f} ± {x[name]['standard_error']:.1f}" for name in ("box", "random weights"))
        yield f"| {ours} | {random} | {x['standard_errors_above_random']:+.1f} |"
    with open(BOX / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    minutes = sum(float(row["seconds"]) for row in rows) / 60
    yield f"{len(rows):,} steps, {sum(int(row['text_tokens']) for row in rows) / 1e6:.2f} M text tokens, {minutes:.0f} minutes"


def said_of_the_comparison():
    """Every row of the README's tables of the comparison, made anew."""
    def entry(found, digits):
        return f"{found['score']:.{digits}f} ± {found['standard_error']:.{digits}f}" if found else "n/a"

    yield f"{COMPARED['done']} of {COMPARED['cells']} cells"
    infill, text = (BLANKS["spans of 1.5, 30 %"][use]["result"] for use in ("infill", "text"))
    yield f"restores {infill['score']:.1f} % ± {infill['standard_error']:.1f} and needs"
    yield f"{text['score']:.2f} ± {text['standard_error']:.2f} bits a byte ([`blanks.json`]"
    for use, row in COMPARED["table"].items():
        for names in (("glm", "gpt", "bert", "prefix"), ("glm", "glm-ordered", "glm-1d", "glm-sentinels", "glm-head")):
            if names[1] == "gpt" or use in ("sentiment", "infill"):
                yield "| " + " | ".join(entry(row["pretrained"].get(name), 2 if use == "text" else 1) for name in names) + " |"
    for family, cost in COMPARED["pretraining"].items():
        counts = f"{cost['text_tokens']:,.0f} | {cost['learned_tokens']:,.0f}"
        yield f"| {family} | {counts} | {cost['petaflop']:.3f} | {cost['training_seconds']:.0f} |"


@pytest.mark.parametrize("phrase", list(said_of_the_comparison()))
def test_what_the_readme_says_of_the_comparison_is_what_was_measured(phrase):
    assert phrase in README


@pytest.mark.parametrize("phrase", list(said_of_the_box()))
def test_what_the_readme_says_of_the_box_is_what_was_measured(phrase):
    assert phrase in README


def test_a_number_of_the_readme_comes_out_again_from_the_model_that_is_shipped():
    found = evaluate_last_word(*read_model(BOX), read_rows(ROOT / "tutorials" / "data" / "last_word" / "dev.jsonl.xz"))
    for name, x in THE_BOX["tasks"]["last_word"]["metrics"].items():
        assert found["metrics"][name]["value"] == pytest.approx(x["value"], rel=2e-3, abs=1 / 146 + 1e-9), name  # one passage


def test_what_is_said_of_verses_that_stand_elsewhere_too_is_so():
    """Three quarters of the pairs' modern verses are in scripture, which flatters held-out verses; no dev sentence is."""
    def plain(text):
        return " ".join(re.findall(r"\w+", text.lower()))

    data = ROOT / "tutorials" / "data"
    known = plain(lzma.open(data / "scripture" / "train.txt.xz", "rt", encoding="utf-8").read())
    pairs = [plain(row["b"]) in known for row in read_rows(data / "paraphrase" / "train.jsonl.xz").values()]
    assert 0.7 < sum(pairs) / len(pairs) < 0.8 and "three quarters of the verses in the pairs" in README
    for task, names in (("paraphrase", ("a", "b")), ("modernise", ("tgt",))):
        for row in read_rows(data / task / "dev.jsonl.xz").values():
            assert not any(len(plain(row[name]).split()) > 4 and plain(row[name]) in known for name in names), row["id"]


def test_pretraining_helps_by_more_than_two_standard_errors_on_four_of_five_tasks():
    above = [x["standard_errors_above_random"] for x in THE_BOX["learned"]["tasks"].values()]
    assert len(above) == 5 and sum(x > 2 for x in above) >= 4


def test_the_box_was_measured_as_it_is_shipped():
    assert THE_BOX["pretraining"] == json.loads((BOX / "evaluation.json").read_text(encoding="utf-8"))
    assert {"commit", "cores", "threads", "torch", "day", "command"} <= THE_BOX.keys()


@pytest.mark.parametrize("phrase", list(said()))
def test_what_the_readme_says_is_what_was_measured(phrase):
    assert phrase in README


def test_the_results_come_with_their_conditions():
    assert re.fullmatch("[0-9a-f]{7,}", PAGE["commit"]) and {"cpu", "threads", "torch", "date"} <= PAGE["machine"].keys()
    assert all("minglm " in PAGE[part]["command"] for part in ("pretrain", "generate", "sentiment", "modernise", "evaluate"))


def table_of_data():
    text = (ROOT / "tutorials" / "data" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)/` \| .*? \| ([\d,-]+) \| ([\d,-]+) \| ([\w, ]+) \|", text, re.M)


@pytest.mark.parametrize(("folder", "train", "dev", "keys"), table_of_data())
def test_the_task_data_is_what_its_page_says(folder, train, dev, keys):
    assert (ROOT / "tutorials" / "data" / folder / "ORIGIN.md").is_file()
    for side, n in (("train", train), ("dev", dev)):
        if n != "-":
            rows = list(read_rows(ROOT / "tutorials" / "data" / folder / f"{side}.jsonl.xz").values())
            assert len(rows) == int(n.replace(",", "")) and all(set(keys.split(", ")) <= row.keys() for row in rows)


def table_of_texts():
    text = (ROOT / "tutorials" / "data" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)/` \| [^|]*? \| ([\d.]+ MB|-) \| ([\d.]+ MB|-) \| [^|]* \|$", text, re.M)


@pytest.mark.parametrize(("folder", "train", "dev"), table_of_texts())
def test_the_texts_are_as_long_as_their_page_says(folder, train, dev):
    assert (ROOT / "tutorials" / "data" / folder / "ORIGIN.md").is_file()
    for side, size in (("train", train), ("dev", dev)):
        path = ROOT / "tutorials" / "data" / folder / f"{side}.txt.xz"
        assert path.exists() == (size != "-")
        if path.exists():
            assert f"{len(lzma.open(path).read()) / 1e6:.1f} MB" == size


def test_every_folder_of_data_is_listed():
    folders = {p.name for p in (ROOT / "tutorials" / "data").iterdir() if p.is_dir()}
    assert {row[0] for row in table_of_data() + table_of_texts()} == folders and len(folders) == 10
