"""A single text in place of a list is one text or a TypeError, never a list of its letters."""

import pytest
import torch

from minglm import GLM, GLMConfig, Tokenizer, embed, explain, fill, score
from minglm.data.corpus import build_corpus, cached_corpus
from minglm.measure.metrics import bleu, compare
from minglm.measure.perplexity import evaluate_text


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return GLM(GLMConfig(tokenizer.vocab_size, 16, 1, 2, 32)).eval()


def test_a_text_alone_is_embedded_as_one_vector(model, tokenizer):
    text = "light in the night"
    alone = embed(model, tokenizer, text)
    assert alone.shape == (16,)
    torch.testing.assert_close(alone, embed(model, tokenizer, [text, "a"])[0])
    assert embed(model, tokenizer, [text]).shape == (1, 16) and embed(model, tokenizer, []).shape == (0, 16)
    assert torch.equal(embed(model, tokenizer, iter([text])), embed(model, tokenizer, (text,)))


def test_what_is_filled_is_a_text_or_texts(model, tokenizer):
    assert [f.text for f in fill(model, tokenizer, ("a [MASK]",))] == [
        fill(model, tokenizer, "a [MASK]").text
    ]
    for wrong in (["a [MASK]", 5], [["a [MASK]"]], [None], [b"a [MASK]"]):
        with pytest.raises(TypeError, match="text: a text or a list of texts is accepted"):
            fill(model, tokenizer, wrong)
    with pytest.raises(TypeError, match="texts: a text or a list of texts is accepted, int given"):
        embed(model, tokenizer, ["a", 5])


def test_answers_are_a_list_and_the_text_is_one(model, tokenizer):
    with pytest.raises(TypeError, match="answers: .* str and str given"):
        score(model, tokenizer, "[MASK] saw [MASK].", "he")
    with pytest.raises(TypeError, match="list and list given"):
        score(model, tokenizer, ["[MASK] saw [MASK]."], ["he", "it"])


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.encode_batch("abc"),
        lambda t: t.decode("12"),
        lambda t: t.decode(b"12"),
        lambda t: t.pieces("12"),
        lambda t: Tokenizer.train("the cat sat", 300),
        lambda t: t.encode(["a"]),
        lambda t: bleu("abc", "abd"),
        lambda t: compare(["abc"], "a"),
        lambda t: explain("x1 x2 x3", [(0, 1)], [0]),
    ],
)
def test_letters_are_no_list_of_texts_or_ids(tokenizer, use):
    with pytest.raises(TypeError, match="accepted"):
        use(tokenizer)


def test_a_file_alone_is_one_file(tokenizer, tmp_path):
    (tmp_path / "t.txt").write_text("the cat sat on the mat")
    file = str(tmp_path / "t.txt")
    one = cached_corpus(file, tokenizer, tmp_path / "cache")
    assert one.directory == cached_corpus([file], tokenizer, tmp_path / "cache").directory
    assert build_corpus(tmp_path / "t.txt", tokenizer, tmp_path / "own").fingerprint == one.fingerprint


def test_a_document_alone_is_one_document(model, tokenizer):
    text = "the cat sat on the mat"
    assert (
        evaluate_text(model, tokenizer, text)["documents"]
        == evaluate_text(model, tokenizer, [text])["documents"]
        == 1
    )
