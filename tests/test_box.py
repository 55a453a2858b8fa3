"""The model in the box: small enough, whole, used where no other is named, and made as its recipe says."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from minglm import GLM, MinglmError, Tokenizer, fill
from minglm.checkpoint import model_folder, verify
from minglm.config import PRESETS, resolve
from minglm.generate import fill_ids
from minglm.rng import Rng
from minglm.runs import BOX, load, the_model

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "tutorials" / "box.py"


@pytest.fixture(scope="module")
def box():
    return GLM.from_pretrained(BOX), Tokenizer.from_pretrained(BOX)


def test_it_is_as_small_as_promised(box):
    model, tokenizer = box
    assert model.num_parameters() <= 4_000_000 and model.config.max_positions == 512
    assert (BOX / "model.safetensors").stat().st_size <= 8_000_000
    with safe_open(BOX / "model.safetensors", "pt") as file:
        assert {str(file.get_slice(name).get_dtype()) for name in file.keys()} == {"F16"}  # noqa: SIM118 (no dict)
    assert tokenizer.vocab_size == model.config.vocab_size


def test_its_files_are_whole_and_tell_where_it_comes_from():
    assert verify(model_folder(BOX))
    assert {"ORIGIN.md", "metrics.csv", "run.toml", "evaluation.json", "tokenizer.json"} < {f.name for f in BOX.iterdir()}
    origin = (BOX / "ORIGIN.md").read_text(encoding="utf-8")
    assert "public domain" in origin and "python tutorials/box.py" in origin
    assert "minglm pretrain --preset box --text build/box --out runs/box-001" in origin
    steps = PRESETS["box"]["train"]["steps"]
    assert (BOX / "metrics.csv").read_text().splitlines()[-1].startswith(f"{steps},")


def test_its_settings_are_those_of_the_preset():
    import dataclasses

    made, preset = resolve(file=BOX / "run.toml"), resolve("box", overrides={"data.text": ["build/box"]})
    assert made.model == preset.model and made.data == preset.data
    decided = dict(dtype=made.train.dtype)  # measured on the machine that trained it
    assert made.train == dataclasses.replace(preset.train, **decided)


def test_fill_right_after_the_installation_uses_it_and_says_so(minglm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = minglm("fill", "She was very [MASK] to see him.", "--top", "3")
    assert done.code == 0 and "glad" in done.out
    assert "the tiny one that comes with minglm" in done.err and done.err.count("\n") == 1


def test_a_run_of_ones_own_comes_before_it(tmp_path, monkeypatch, small_run):
    monkeypatch.chdir(tmp_path)
    assert the_model() == BOX
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(small_run)
    assert the_model() == Path("runs/mine")


def test_which_model_is_used_is_told_on_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load(None)
    assert re.fullmatch(r"minglm: note: the model is .*minglm.box: the tiny one [^\n]*\n", capsys.readouterr().err)
    load(BOX)
    assert capsys.readouterr().err == ""


def test_it_looks_at_what_stands_around_a_blank(box):
    """Not a model that says the most frequent word everywhere: other neighbours, other answers."""
    texts = ["She was very [MASK] to see him.", "And God [MASK] the light.", "He went to the [MASK] of the king."]
    assert len({filled.blanks[0].answer.text for filled in fill(*box, texts)}) == 3


def test_a_long_text_keeps_its_end_and_the_number_cut_is_told(box, capsys):
    long = "the king said to them, " * 200 + "She was very [MASK] to see him."
    filled = fill(*box, long)
    tokens = len(box[1].encode(long, special=True)) + 2
    assert f"the first {tokens - 512} tokens of the text were not read: this model reads 512" in capsys.readouterr().err
    assert filled.text == long.replace(" [MASK]", filled.blanks[0].answer.text)
    assert "".join(piece for piece, _ in filled.pieces) == filled.text
    [gap] = fill_ids(*box, box[1].encode(long, special=True)[tokens - 512 :])
    assert gap.tokens == filled.blanks[0].answer.tokens


def test_a_blank_that_cannot_be_read_is_an_error(box):
    with pytest.raises(MinglmError, match=r"longer than this model reads \(512\), and the first blank stands at token 1$"):
        fill(*box, "[MASK] " + "the king said to them, " * 200)


# ---- the recipe ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    if not RECIPE.is_file():
        pytest.skip("the recipe is in a clone, not beside an installed package")
    spec = importlib.util.spec_from_file_location("box_recipe", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_texts_are_cut_anew_and_every_word_is_there_once(recipe):
    lines = [f'Mr. A{n} said no. "But {n}!" he cried. So it was, and no more.' for n in range(40)]
    text = "\n".join(lines) + "\n\nEnd. And end.\n"
    found = list(recipe.documents(text, Rng(0, 0)))
    assert " ".join(found).split() == text.split()
    lengths = {len(document.split()) for document in found}
    assert 3 in lengths and max(lengths) > 20  # single sentences, and pages
    assert max(lengths) <= recipe.PAGE
    assert not any(document.endswith("Mr.") for document in found)
    assert found == list(recipe.documents(text, Rng(0, 0))) != list(recipe.documents(text, Rng(0, 1)))


def test_the_recipe_writes_its_texts(recipe, tmp_path, capsys):
    recipe.write_texts(tmp_path / "texts")
    lines = [line for file in (tmp_path / "texts").iterdir() for line in file.read_text().splitlines()]
    assert len(list(map(json.loads, lines))) == 32_686  # as the run in the box had it
    assert capsys.readouterr().out.count("wrote") == 3


def test_a_finished_run_is_shipped_halved(recipe, small_run, tmp_path):
    recipe.ship(small_run, tmp_path / "box")
    before, after = GLM.from_pretrained(small_run).state_dict(), GLM.from_pretrained(tmp_path / "box").state_dict()
    assert all((before[name].half().float() == after[name]).all() for name in before)
    assert 'text = ["build/box"]' in (tmp_path / "box" / "run.toml").read_text()
    assert verify(tmp_path / "box")
