"""minglm in ten small tests: read this file first."""

import math

import numpy as np
import torch

import minglm
from minglm import (
    GLM,
    GLMConfig,
    GLMMask,
    Rng,
    Span,
    Tokenizer,
    build_example,
    fill,
    pack,
    restore,
    sample_spans,
)

SENTENCES = [
    "the cat sat on the mat.",
    "the dog lay on the rug.",
    "the cat saw the dog.",
    "the dog saw the cat.",
]


def paper_example():
    """x1 ... x6 with [x3] and [x5 x6] blanked, the second first (paper, figure 2). Ids are 101 ... 106."""
    return build_example([101, 102, 103, 104, 105, 106], [Span(2, 3), Span(4, 6)], order=[1, 0])


def test_1_a_blank_leaves_one_mask_and_moves_its_words_to_part_b():
    M, S, E = 3, 6, 7  # [MASK], sop, eop
    example = paper_example()
    assert example.tokens[: example.part_a_len].tolist() == [101, 102, M, 104, M]
    assert example.tokens[example.part_a_len :].tolist() == [S, 105, 106, S, 103]
    assert example.targets.tolist() == [105, 106, E, 103, E]  # what each row of Part B learns to predict


def test_2_two_positions_say_which_blank_and_where_inside():
    example = paper_example()
    assert example.position_ids.tolist() == [0, 1, 2, 3, 4, 4, 4, 4, 2, 2]
    assert example.block_position_ids.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 1, 2]


def test_3_the_text_comes_back():
    assert restore(paper_example()).tolist() == [101, 102, 103, 104, 105, 106]


def test_4_the_mask_is_one_integer():
    """Row i sees max(part_a_len, i + 1) keys; that is the whole rule."""
    mask = GLMMask.packed([10], [5])
    assert mask.visible_keys().tolist() == [5, 5, 5, 5, 5, 6, 7, 8, 9, 10]
    grid = mask.dense()
    assert grid[:5, :5].all() and not grid[:5, 5:].any()  # Part A sees all of Part A, and nothing of Part B
    assert grid[5:, :5].all() and grid[5:, 5:].tolist() == torch.ones(5, 5).tril().bool().tolist()


def test_5_gpt_and_bert_are_the_ends_of_the_same_rule():
    assert GLMMask.gpt([4]).dense().tolist() == torch.ones(4, 4).tril().bool().tolist()
    assert GLMMask.bert([4]).dense().all()


def test_6_samples_lie_end_to_end_and_never_see_each_other():
    grid = GLMMask.packed([3, 2], [2, 1]).dense()
    assert not grid[:3, 3:].any() and not grid[3:, :3].any()


def test_7_spans_are_drawn_from_a_seed_and_cover_15_percent():
    tokens = np.arange(100, 612)
    spans = sample_spans(tokens, "token", Rng(7))
    assert spans == sample_spans(tokens, "token", Rng(7))
    assert 0.15 <= sum(b - a for a, b in spans) / 512 < 0.2
    [document] = sample_spans(tokens, "document", Rng(7))
    assert document.end == 512 and document.end - document.start >= 256


def test_8_a_new_model_knows_nothing():
    torch.manual_seed(0)
    model = GLM(GLMConfig(vocab_size=200, hidden_size=32, num_layers=2, num_heads=2, max_positions=16))
    loss = model.loss(pack([paper_example()]))
    assert abs(loss.item() - math.log(200)) < 0.2


def test_9_part_b_never_sees_the_future():
    torch.manual_seed(0)
    model = GLM(GLMConfig(200, 32, 2, 2, 16)).eval()
    batch = pack([paper_example()])
    inputs = (batch.position_ids, batch.block_position_ids, batch.mask)
    before, changed = model(batch.tokens, *inputs), batch.tokens.clone()
    changed[7] = 150  # x6, the third token of Part B
    after = model(changed, *inputs)
    same = (before == after).all(-1)
    assert same[:7].all() and not same[7:].any()


def test_10_a_blank_is_learned_and_filled():
    """Fifty steps on four sentences whose last two words are blanked; then one of them is filled."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(SENTENCES * 3, 300)
    model = GLM(GLMConfig(tokenizer.vocab_size, 48, 2, 2, 32, dropout=0.0))
    examples = []
    for sentence in SENTENCES:
        before, after = sentence.rsplit(" ", 2)[0], " " + " ".join(sentence.rsplit(" ", 2)[1:])
        a, b = [tokenizer.special.cls, *tokenizer.encode(before)], tokenizer.encode(after)
        examples.append(build_example([*a, *b, tokenizer.special.eos], [(len(a), len(a) + len(b))], [0]))
    batch, optimizer = pack(examples), torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(50):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert fill(model, tokenizer, "the cat sat on [MASK]").text == "the cat sat on the mat."


def test_everything_that_is_promised_is_there():
    assert all(hasattr(minglm, name) for name in minglm.__all__)
