"""Texts as vectors: what they are computed from, and that the nearest texts are found."""

import pytest
import torch

from minglm import GLM, GLMConfig, GLMMask, MinglmError, Tokenizer, embed
from minglm.use.embedding import most_similar

TEXTS = ["the cat sat on the mat", "a", "the dog", "the cat sat on the mat and the dog sat on the cat"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 16, dropout=0.3)).train()


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_a_vector_is_the_mean_or_the_first_of_part_as_states(model, tokenizer, pool):
    vectors = embed(model, tokenizer, TEXTS, pool=pool, batch_tokens=20)
    assert vectors.shape == (4, 16) and model.training  # and left as it was
    model.eval()
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = torch.tensor([tokenizer.special.cls, *tokenizer.encode(text)[:14], tokenizer.special.eos])
        with torch.no_grad():
            states = model.hidden(
                ids, torch.arange(len(ids)), torch.zeros_like(ids), GLMMask.bert([len(ids)])
            )
        torch.testing.assert_close(
            vector, states[0] if pool == "first" else states[1:-1].mean(0), atol=1e-5, rtol=0
        )
    model.train()


def test_gpt_reads_a_text_as_it_learned_to(tokenizer):
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 16, family="gpt")).eval()
    ids = torch.tensor([tokenizer.special.cls, *tokenizer.encode("the cat sat"), tokenizer.special.eos])
    with torch.no_grad():
        states = model.hidden(ids, torch.arange(len(ids)), torch.zeros_like(ids), GLMMask.gpt([len(ids)]))
    torch.testing.assert_close(
        embed(model, tokenizer, ["the cat sat"])[0], states[1:-1].mean(0), atol=1e-5, rtol=0
    )
    with pytest.raises(MinglmError, match="trained as gpt sees no other; mean is accepted"):
        embed(model, tokenizer, ["the cat sat"], pool="first")


def test_texts_are_embedded_alone_however_they_are_packed(model, tokenizer):
    together = embed(model, tokenizer, TEXTS)
    for i in (3, 0, 2, 1):
        torch.testing.assert_close(embed(model, tokenizer, [TEXTS[i]])[0], together[i], atol=1e-5, rtol=0)
    assert embed(model, tokenizer, []).shape == (0, 16)


def test_a_long_text_keeps_its_beginning_and_is_counted(model, tokenizer, capsys):
    long = "the cat " * 30
    vector = embed(model, tokenizer, [long, "a"])[0]
    assert "1 of 2 texts are longer than this model reads (16 tokens)" in capsys.readouterr().err
    torch.testing.assert_close(vector, embed(model, tokenizer, [long + "dog"])[0])


def test_neighbours_come_best_first():
    vectors = torch.tensor(
        [[9.0, 1.0], [9.0, 3.0], [9.0, -2.0], [9.0, -3.0]]
    )  # alike except for the second number
    found = most_similar(vectors, torch.tensor([9.0, 2.0]), top=3)
    assert (
        [i for i, _ in found] == [0, 1, 2]
        and found[0][1] == pytest.approx(1)
        and found[2][1] == pytest.approx(-1)
    )


def test_similar_prints_lines_of_a_file(minglm, small_run, tmp_path):
    (tmp_path / "lines.txt").write_text(
        "Anna went home.\n\nBen asked for bread.\nAnna went to the house of Ben.\n"
    )
    result = minglm("similar", tmp_path / "lines.txt", "Anna went home.", "--model", small_run, "--top", 2)
    first, second = result.out.splitlines()
    assert (
        result.code == 0
        and first.split(maxsplit=2) == ["1.000", "1", "Anna went home."]
        and len(second.split()) > 3
    )
    (tmp_path / "one.txt").write_text("Anna\n")
    for file, words in (("none.txt", "no such file"), ("one.txt", "at least two")):
        result = minglm("similar", tmp_path / file, "Anna", "--model", small_run)
        assert result.code == 2 and words in result.err


def test_what_cannot_be_embedded_is_named(model, tokenizer):
    with pytest.raises(MinglmError, match="number 1 is empty"):
        embed(model, tokenizer, ["a", ""])
    with pytest.raises(MinglmError, match="'max' is not accepted; mean or first"):
        embed(model, tokenizer, ["a"], pool="max")
