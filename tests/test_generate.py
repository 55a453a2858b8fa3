"""Filling and writing: each blank reads Part A and the earlier answers, and what is chosen is what was promised."""

import math
from types import SimpleNamespace

import pytest
import torch

from minglm import GLM, GLMConfig, MinglmError, Tokenizer, fill, write
from minglm.generate import Reader, beam_search, choose, sample
from minglm.infilling import build_example
from minglm.rng import Rng


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, dropout=0.3))
    with torch.no_grad():  # far from uniform, so that likeliest and unlikely differ
        for p in model.parameters():
            p.mul_(8)
    return model


class Scripted:
    """A model that says what it is told: `answers[position]` token by token, then eop. Remembers what it read."""

    def __init__(self, tokenizer, answers, max_positions=32):
        self.tokenizer, self.answers, self.read = tokenizer, answers, []
        self.config, self.training = SimpleNamespace(max_positions=max_positions), False
        self.parameters = lambda: iter([torch.zeros(1)])
        self.eval = self.train = lambda *_: self

    def __call__(self, tokens, positions, block_positions, mask, rows):
        self.read.append((tokens.tolist(), positions.tolist(), block_positions.tolist(), mask.part_a_lens.tolist()))
        logits = torch.full((len(rows), self.tokenizer.vocab_size), -10.0)
        for i, row in enumerate(rows.tolist()):
            answer = [*self.answers[int(positions[row])], self.tokenizer.special.eop]
            logits[i, answer[min(int(block_positions[row]), len(answer)) - 1]] = 10.0
        return logits


def test_every_blank_is_filled_and_the_text_reads_on(tokenizer):
    text = "the [MASK] sat on [MASK]."
    positions = [1 + i for i, t in enumerate(tokenizer.encode(text, special=True)) if t == tokenizer.special.mask]
    answers = dict(zip(positions, [tokenizer.encode(" cat"), tokenizer.encode(" the mat")], strict=True))
    filled = fill(Scripted(tokenizer, answers), tokenizer, text)
    assert filled.text == "the cat sat on the mat."
    assert [blank.text for blank in filled.blanks] == [" cat", " the mat"]
    assert filled.pieces == [("the", False), (" cat", True), (" sat on", False), (" the mat", True), (".", False)]
    assert all(blank.answer.complete and blank.mask == "[MASK]" for blank in filled.blanks)


def test_later_blanks_read_earlier_answers_exactly_as_in_training(tokenizer):
    """What the model reads before its last word is the Part A and Part B that training makes of the filled text."""
    text = "the [MASK] sat on [MASK]."
    tokens = tokenizer.encode(text, special=True)
    mask = tokenizer.special.mask
    first, second = (1 + i for i, t in enumerate(tokens) if t == mask)
    answers = {first: tokenizer.encode(" cat"), second: tokenizer.encode(" the mat")}
    model = Scripted(tokenizer, answers)
    fill(model, tokenizer, text)
    ids, positions, block_positions, part_a_lens = model.read[-1]

    whole, spans = [tokenizer.special.cls], []
    for i, token in enumerate([*tokens, tokenizer.special.eos]):
        answer = answers.get(1 + i, [token]) if token == mask else [token]
        if token == mask:
            spans.append((len(whole), len(whole) + len(answer)))
        whole += answer
    example = build_example(whole, spans, [0, 1], tokenizer.special)
    assert ids == example.tokens.tolist()
    assert positions == example.position_ids.tolist()
    assert block_positions == example.block_position_ids.tolist()
    assert part_a_lens == [example.part_a_len]


def test_an_earlier_answer_changes_what_a_later_blank_says(model, tokenizer):
    part_a = [tokenizer.special.cls, *tokenizer.encode("the [MASK] sat on [MASK].", special=True)]
    blanks = [i for i, t in enumerate(part_a) if t == tokenizer.special.mask]
    after = []
    for answer in (" cat", " dog"):
        reader = Reader(model, part_a, tokenizer)
        reader.append(blanks[0], tokenizer.encode(answer))
        after.append(reader.next_log_probabilities(blanks[1], [[]]))
    assert not torch.equal(*after)
    assert torch.equal(after[1], reader.next_log_probabilities(blanks[1], [[]]))  # dropout is off


def test_log_probabilities_are_those_of_the_training_loss(model, tokenizer):
    """The sum over a filling, eop included, is minus the loss of the same span."""
    from minglm import pack

    filled = fill(model, tokenizer, "the [MASK] sat.", max_tokens=3)
    answer = filled.blanks[0].answer
    tokens = tokenizer.encode("the [MASK] sat.", special=True)
    at = tokens.index(tokenizer.special.mask)
    whole = [tokenizer.special.cls, *tokens[:at], *answer.tokens, *tokens[at + 1 :], tokenizer.special.eos]
    example = build_example(whole, [(1 + at, 1 + at + len(answer.tokens))], [0], tokenizer.special)
    model.eval()
    losses = model.loss(pack([example]), "none").tolist()
    scores = answer.log_probabilities if answer.complete else [*answer.log_probabilities, -losses[-1]]
    assert [-x for x in losses] == pytest.approx(scores, abs=1e-4)


def test_greedy_takes_the_likeliest_and_seeds_repeat_draws(model, tokenizer):
    text = "the [MASK] sat on [MASK]."
    greedy = fill(model, tokenizer, text)
    assert fill(model, tokenizer, text, seed=5).text == greedy.text
    assert fill(model, tokenizer, text, temperature=1.0, top_k=1).text == greedy.text
    assert fill(model, tokenizer, text, temperature=1.0, top_p=1e-9).text == greedy.text
    draws = {fill(model, tokenizer, text, temperature=3.0, seed=s).text for s in range(8)}
    assert len(draws) > 4
    again = [fill(model, tokenizer, text, temperature=3.0, seed=3).text for _ in range(2)]
    assert again[0] == again[1]


def test_draws_follow_temperature_top_k_and_top_p():
    log_p = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()[[2, 0, 3, 1]]  # likeliest first: tokens 1, 3, 0, 2
    rng, n = Rng(1), 4000

    def shares(**dials):
        drawn = torch.bincount(torch.tensor([choose(log_p, rng=rng, **dials) for _ in range(n)]), minlength=4) / n
        return drawn.tolist()

    assert shares(temperature=1.0) == pytest.approx([0.15, 0.5, 0.1, 0.25], abs=0.03)
    assert shares(temperature=1.0, top_k=2) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    assert shares(temperature=1.0, top_p=0.75) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    assert shares(temperature=1.0, top_p=0.76) == pytest.approx([0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9], abs=0.03)
    squared = [p**2 for p in (0.15, 0.5, 0.1, 0.25)]
    assert shares(temperature=0.5) == pytest.approx([p / sum(squared) for p in squared], abs=0.03)


def test_no_special_token_is_ever_written_into_a_blank(tokenizer):
    for wrong in ("pad", "cls", "mask", "sop"):
        model = Scripted(tokenizer, {1: [getattr(tokenizer.special, wrong)] * 3})
        filled = fill(model, tokenizer, "[MASK] sat.", max_tokens=3)
        assert all(t >= 24 for t in filled.blanks[0].answer.tokens)


def test_a_blank_is_never_empty(tokenizer):
    filled = fill(Scripted(tokenizer, {1: []}), tokenizer, "[MASK] sat.")
    assert len(filled.blanks[0].answer.tokens) == 1
    filled = fill(Scripted(tokenizer, {1: []}), tokenizer, "[MASK] sat.", top=3)
    assert all(a.tokens for a in filled.blanks[0].alternatives)


def test_eos_ends_a_gmask_and_is_never_in_a_mask(tokenizer):
    answer = [*tokenizer.encode(" cat"), tokenizer.special.eos, *tokenizer.encode(" dog")]
    tokens = tokenizer.encode("the [gMASK]", special=True)
    written = fill(Scripted(tokenizer, {len(tokens): answer}), tokenizer, "the [gMASK]")
    assert written.text == "the cat"
    filled = fill(Scripted(tokenizer, {len(tokens): answer}), tokenizer, "the [MASK]", max_tokens=4)
    assert tokenizer.special.eos not in filled.blanks[0].answer.tokens


def test_a_text_that_runs_on_has_no_eos_and_another_has(tokenizer):
    for text, ends in (("the [MASK] sat", True), ("the [gMASK]", False)):
        model = Scripted(tokenizer, {i: tokenizer.encode(" cat") for i in range(32)})
        fill(model, tokenizer, text)
        ids, *_, part_a_lens = model.read[0]
        assert (ids[part_a_lens[0] - 1] == tokenizer.special.eos) is ends


def test_beam_search_finds_the_likeliest_whole_fillings(model, tokenizer):
    """Against all 1- and 2-token fillings of the vocabulary, counted out."""
    reader = Reader(model, [tokenizer.special.cls, *tokenizer.encode("the [MASK]", special=True)], tokenizer)
    position, eop = len(reader.part_a) - 1, tokenizer.special.eop
    text = range(24, tokenizer.vocab_size)
    first = reader.next_log_probabilities(position, [[]])[0]
    second = reader.next_log_probabilities(position, [[t] for t in text])
    scored = {(t,): float(first[t] + second[t - 24, eop]) for t in text}
    pairs = (first[24:, None] + second[:, 24:]).flatten()  # (a, b) without its end: at most this likely
    likely = [(24 + int(i) // len(text), 24 + int(i) % len(text)) for i in pairs.topk(6000).indices]
    third = reader.next_log_probabilities(position, [list(pair) for pair in likely])
    for (a, b), row in zip(likely, third, strict=True):
        scored[(a, b)] = float(first[a] + second[a - 24, b] + row[eop])
    best = sorted(scored, key=scored.get, reverse=True)[:5]
    assert scored[best[-1]] > float(pairs.topk(6000).values[-1])  # no pair that was left out could be among them
    found = beam_search(reader, position, {eop}, 2, 100)
    complete = [(tuple(tokens), sum(scores)) for tokens, scores, _ in found][:5]
    assert [tokens for tokens, _ in complete] == best
    assert [score for _, score in complete] == pytest.approx([scored[t] for t in best], abs=1e-3)
    assert sum(math.exp(s) for _, s in complete) <= 1


def test_top_lists_whole_fillings_best_first_and_takes_the_best(model, tokenizer):
    filled = fill(model, tokenizer, "the [MASK] sat on [MASK].", top=5, max_tokens=4)
    for blank in filled.blanks:
        assert len({tuple(a.tokens) for a in blank.alternatives}) == 5
        order = [a.log_probability for a in blank.alternatives]
        assert order == sorted(order, reverse=True)
        assert blank.answer == blank.alternatives[0]
        assert all(a.complete and 1 <= len(a.tokens) <= 4 for a in blank.alternatives)


def test_a_beam_is_at_least_as_likely_as_greedy(model, tokenizer):
    reader = Reader(model, [tokenizer.special.cls, *tokenizer.encode("the [MASK]", special=True)], tokenizer)
    position, stops = len(reader.part_a) - 1, {tokenizer.special.eop}
    tokens, scores, _ = sample(reader, position, stops, 3)
    end = float(reader.next_log_probabilities(position, [tokens])[0, tokenizer.special.eop])
    assert sum(beam_search(reader, position, stops, 3, 5)[0][1]) >= sum(scores[: len(tokens)]) + end - 1e-5


def test_writing_continues_the_text_and_stops_where_told(model, tokenizer):
    text = write(model, tokenizer, "the cat", max_tokens=5)
    assert text.startswith("the cat") and len(text) > len("the cat")
    tokens = len(tokenizer.encode("the cat"))
    model_ = Scripted(tokenizer, {tokens + 1: tokenizer.encode(" sat on the mat.")})
    assert write(model_, tokenizer, "the cat") == "the cat sat on the mat."
    part_a = [tokenizer.special.cls, *tokenizer.encode("the cat"), tokenizer.special.gmask]
    assert model_.read[0][0][: len(part_a)] == part_a


def test_a_long_text_keeps_its_end_when_written_on_and_is_refused_when_filled(model, tokenizer, capsys):
    long = "the cat " * 60
    assert write(model, tokenizer, long, max_tokens=2).startswith(long)
    assert "tokens of the text were cut: this model reads 32" in capsys.readouterr().err
    with pytest.raises(MinglmError, match=r"longer than this model reads \(32\)"):
        fill(model, tokenizer, long + "[MASK]")


def test_positions_never_run_past_the_tables(model, tokenizer):
    endless = Scripted(tokenizer, {i: tokenizer.encode(" the cat") * 60 for i in range(40)})
    for text in ("[MASK]", "[gMASK]", "the cat [gMASK]"):
        endless.read.clear()
        fill(endless, tokenizer, text)
        assert max(max(block) for _, _, block, _ in endless.read) <= 32


def test_a_character_split_over_a_blank_survives(tokenizer):
    text = tokenizer.encode("起")
    assert len(text) == 3  # no merge learned: one token a byte
    answers = {1: text}
    filled = fill(Scripted(tokenizer, answers), tokenizer, "[MASK]")
    assert filled.text == "起" and filled.pieces == [("起", True)]


@pytest.mark.parametrize(
    ("text", "dials", "words"),
    [
        ("no blank here", {}, "no blank"),
        ("[MASK]", {"temperature": -1}, "temperature"),
        ("[MASK]", {"temperature": math.nan}, "temperature"),
        ("[MASK]", {"top_p": 0}, "top_p"),
        ("[MASK]", {"top_k": -1}, "top_k"),
        ("[MASK]", {"top": 0}, "top"),
        ("[MASK]", {"top": 2, "temperature": 1}, "top"),
        ("[MASK]", {"max_tokens": 0}, "max_tokens"),
        ("[MASK]<|endofpiece|>", {}, "cannot be typed"),
    ],
)
def test_dials_that_mean_nothing_are_refused(model, tokenizer, text, dials, words):
    with pytest.raises(MinglmError, match=words.replace("[", r"\[")):
        fill(model, tokenizer, text, **dials)
