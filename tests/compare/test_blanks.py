"""The larger comparison: simple stories, and blanks that each family fills in its own way."""

import math

import pytest
import torch

from minglm import GLM, GLMConfig, Tokenizer
from minglm.compare.blanks import everyday_blanks, fillings, losses_of, score_blanks, story_blanks
from minglm.compare.plan import RIVALS, SIMPLE, LargePlan, Plan, cells
from minglm.measure.evaluate import evaluate_everyday, with_blanks
from minglm.train.config import resolve
from minglm.use.models import BOX, read_model
from minglm.use.tasks import BLANK

STORY = "One day a girl named Sue went to the big park. She saw a red ball there, and she was very happy. "
STORY += "Her mom said that the ball was not hers. Sue put it back and then they went home to eat."
ROWS = {
    "line 1": dict(text="The fish can [MASK] in the water.", accept=["swim", "live"]),
    "line 2": dict(text="She was very [MASK] to see him.", accept=["happy", "excited", "glad"]),
}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_pretrained(BOX)


def model_of(family, tokenizer):
    torch.manual_seed(0)
    config = GLMConfig(tokenizer.vocab_size, hidden_size=16, num_layers=1, num_heads=1, max_positions=64)
    return GLM(GLMConfig(**vars(config) | dict(family=family, dropout=0.0))).eval()


def test_a_blank_of_a_story_has_words_on_both_sides_and_comes_out_again():
    records = story_blanks([STORY] * 30, 20)
    assert len(records) == 20 and records == story_blanks([STORY] * 30, 20)
    assert len({record["text"] for record in records}) > 5  # another place in each story
    for record in records:
        before, after = record["text"].split(BLANK)
        [answer] = record["blanks"]
        assert len(before.split()) >= 3 and len(after.split()) >= 3 and 1 <= len(answer.split()) <= 3
        assert before + answer + after in STORY


@pytest.mark.parametrize("family", RIVALS)
def test_the_bits_of_an_answer_are_those_of_its_tokens_and_the_mask_decides_what_they_depend_on(
    family, tokenizer
):
    """A changed word behind the blank changes them for glm and bert, and not for gpt and prefix."""
    model = model_of(family, tokenizer)
    answer = tokenizer.encode(" very happy")
    bits = []
    for text in (f"She was {BLANK} to see him.", f"She was {BLANK} to see a dog."):
        ids = with_blanks(tokenizer, dict(text=text, blanks=["very happy"]))[0]
        [losses] = losses_of(model, tokenizer, [ids], [answer])
        assert len(losses) == len(answer) + (family == "glm")  # glm has to end the blank, too
        bits.append(losses.sum() / math.log(2))
    assert (bits[0] == bits[1]) == (family in ("gpt", "prefix"))


@pytest.mark.parametrize("family", RIVALS[1:])
def test_those_who_are_told_the_length_keep_it_and_choose_likely_tokens(family, tokenizer):
    model = model_of(family, tokenizer)
    read = [
        with_blanks(tokenizer, dict(text=f"She saw {BLANK} in the {word}.", blanks=["it"]))[0]
        for word in ("garden", "old house")
    ]
    answers = [[30, 31], [30, 31, 32]]
    filled = fillings(model, tokenizer, read, answers)
    assert [len(tokens) for tokens in filled] == [2, 3]
    if family != "bert":  # no first token is likelier than the one chosen
        chosen = [losses[0] for losses in losses_of(model, tokenizer, read[:1], [filled[0]])]
        others = [
            losses[0] for losses in losses_of(model, tokenizer, read[:1] * 200, [[t] for t in range(24, 224)])
        ]
        assert min(others) >= chosen[0] - 1e-5


def test_the_bundled_model_scores_as_in_minglm_evaluate():
    model, tokenizer = read_model(BOX)
    ours = score_blanks(model, tokenizer, everyday_blanks(ROWS))
    theirs = evaluate_everyday(model, tokenizer, ROWS)["metrics"]["accuracy"]
    assert (ours["score"], ours["n"]) == (100 * theirs["value"], 2) and ours["score"] > 0


def test_the_plan_holds_its_recipe_whatever_the_presets_become(monkeypatch):
    """The first comparison read full windows with AdamW; the larger one short samples with Muon."""
    page, large = Plan().pretraining("glm", 0, "t"), LargePlan().pretraining("gpt", 1, "t")
    assert (page.data.samples, page.train.optimizer, page.train.lr) == ("windows", "adamw", 1.5e-3)
    assert (page.data.blanks, page.data.document, page.train.warmup) == ("budget", 0.35, 0.1)
    assert (large.data.samples, large.data.blanks, large.train.optimizer) == ("sentences", "drawn", "muon")
    box = resolve("box")
    for section, name in (
        ("data", "spread"),
        ("data", "document"),
        ("train", "lr"),
        ("train", "muon_lr_ratio"),
    ):
        assert getattr(getattr(large, section), name) == getattr(getattr(box, section), name)


def test_the_larger_plan_asks_four_families_on_simple_english_too():
    found = cells(LargePlan())
    assert len(found) == len(set(found)) and not {cell.task for cell in cells(Plan())} & set(SIMPLE)
    for family in RIVALS:
        seeds = [cell.pretrained for cell in found if (cell.family, cell.task) == (family, "blank")]
        assert sorted(seeds, key=str) == [0, 1, 2, None]
    assert ("bert", "stories") not in {(cell.family, cell.task) for cell in found}
    assert {cell.family for cell in found} == {*RIVALS, "words"}
