"""Filling and writing: each blank reads Part A and earlier answers, and the dials work as documented."""

import json
import math
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minglm import GLM, GLMConfig, MinglmError, Tokenizer, fill, pack, score, write
from minglm.families import rows_of, start_of
from minglm.infilling import SpecialTokens, build_example
from minglm.rng import Rng
from minglm.use.drafts import Dials, Draft, Gap, beam_search, choose, write_blanks
from minglm.use.generate import Reader
from minglm.use.reader import Cache


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
    """A model that predicts `answers[position]` token by token, then eop; it records what it reads."""

    def __init__(self, tokenizer, answers, max_positions=32):
        self.tokenizer, self.answers, self.read = tokenizer, answers, ([], [], [])
        self.config = SimpleNamespace(
            vocab_size=tokenizer.vocab_size, max_positions=max_positions, family="glm"
        )
        self.parameters, self.modules = lambda: iter([torch.zeros(1)]), lambda: iter([])

    def __call__(self, tokens, positions, block_positions, mask, rows, cache):
        for whole, new in zip(self.read, (tokens, positions, block_positions), strict=True):
            whole += new.tolist()
        self.part_a_len = mask.part_a_lens.tolist()[0]
        logits = torch.full((len(rows), self.tokenizer.vocab_size), -10.0)
        for i, row in enumerate(rows.tolist()):
            answer = [*self.answers[int(positions[row])], self.tokenizer.special.eop]
            logits[i, answer[min(int(block_positions[row]), len(answer)) - 1]] = 10.0
        return logits


def reader_of(model, tokenizer, text, **dials):
    """(Reader that has read a text's Part A, its Draft, Dials)."""
    dials = Dials(**dials)
    draft = Draft(model, tokenizer, text, dials)
    return Reader(model, [draft]), draft, dials


def next_of(reader, start, answers):
    """log P(next) after each of several beginnings of a blank; the reader stays as it is: (n, V)."""
    return reader.fork([0] * len(answers)).read([rows_of(start, answer) for answer in answers])


def test_every_blank_is_filled_and_the_text_reads_on(tokenizer):
    text = "the [MASK] sat on [MASK]."
    positions = [
        1 + i for i, t in enumerate(tokenizer.encode(text, special=True)) if t == tokenizer.special.mask
    ]
    answers = dict(zip(positions, [tokenizer.encode(" cat"), tokenizer.encode(" the mat")], strict=True))
    filled = fill(Scripted(tokenizer, answers), tokenizer, text)
    assert filled.text == "the cat sat on the mat."
    assert [blank.text for blank in filled.blanks] == [" cat", " the mat"]
    assert filled.pieces == [
        ("the", False),
        (" cat", True),
        (" sat on", False),
        (" the mat", True),
        (".", False),
    ]
    assert all(blank.answer.complete and blank.mask == "[MASK]" for blank in filled.blanks)


def test_later_blanks_read_earlier_answers_exactly_as_in_training(tokenizer):
    """Before its last word, the model has read the Part A and Part B that training makes of the text."""
    text = "the [MASK] sat on [MASK]."
    tokens = tokenizer.encode(text, special=True)
    mask = tokenizer.special.mask
    first, second = (1 + i for i, t in enumerate(tokens) if t == mask)
    answers = {first: tokenizer.encode(" cat"), second: tokenizer.encode(" the mat")}
    model = Scripted(tokenizer, answers)
    fill(model, tokenizer, text)
    ids, positions, block_positions = model.read

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
    assert model.part_a_len == example.part_a_len


def test_an_earlier_answer_changes_what_a_later_blank_says(model, tokenizer):
    after = []
    for answer in (" cat", " dog"):
        reader, draft, _ = reader_of(model, tokenizer, "the [MASK] sat on [MASK].")
        first, second = draft.blanks
        reader.read([rows_of(first.start, tokenizer.encode(answer))], want=False)
        after.append(next_of(reader, second.start, [[]]))
    assert not torch.equal(*after)
    assert torch.equal(after[1], next_of(reader, second.start, [[]]))  # dropout is off


def test_log_probabilities_are_those_of_the_training_loss(model, tokenizer):
    """The sum over a filling, eop included, is minus the loss of the same span."""
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
        drawn = (
            torch.bincount(torch.tensor([choose(log_p, Dials(**dials), rng) for _ in range(n)]), minlength=4)
            / n
        )
        return drawn.tolist()

    assert shares(temperature=1.0) == pytest.approx([0.15, 0.5, 0.1, 0.25], abs=0.03)
    assert shares(temperature=1.0, top_k=2) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    assert shares(temperature=1.0, top_p=0.75) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    assert shares(temperature=1.0, top_p=0.76) == pytest.approx(
        [0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9], abs=0.03
    )
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
        assert (model.read[0][model.part_a_len - 1] == tokenizer.special.eos) is ends


def test_a_model_that_knows_mask_alone_reads_whole_documents_and_may_end_in_eos(tokenizer):
    """As in the original's base and large models: every mask is the same token, and none runs on."""
    plain = copy(tokenizer)
    plain.special = replace(tokenizer.special, smask=tokenizer.special.mask, gmask=tokenizer.special.mask)
    answer = [*plain.encode(" cat"), plain.special.eos]
    model = Scripted(plain, {i: answer for i in range(32)})
    assert fill(model, plain, "the [MASK]").text == "the cat"
    assert model.read[0][model.part_a_len - 2 : model.part_a_len] == [plain.special.mask, plain.special.eos]
    long = Scripted(plain, {i: plain.encode(" cat") * 60 for i in range(64)}, max_positions=64)
    assert len(plain.encode(write(long, plain, "the"))) > 50  # not the limit of 40 of a [MASK]
    assert write(long, plain, "the cat " * 99).startswith("the cat")


def test_beam_search_finds_the_likeliest_whole_fillings(model, tokenizer):
    """Compared with an exhaustive search over all 1- and 2-token fillings of the vocabulary."""
    reader, draft, dials = reader_of(model, tokenizer, "the [gMASK]", top=100, max_tokens=2)
    [gap], eop = draft.blanks, tokenizer.special.eop
    gap.stops = frozenset({eop})
    text = range(24, tokenizer.vocab_size)
    first = next_of(reader, gap.start, [[]])[0]
    second = next_of(reader, gap.start, [[t] for t in text])
    scored = {(t,): float(first[t] + second[t - 24, eop]) for t in text}
    pairs = (first[24:, None] + second[:, 24:]).flatten()  # (a, b) without its end: at most this likely
    likely = [(24 + int(i) // len(text), 24 + int(i) % len(text)) for i in pairs.topk(6000).indices]
    third = next_of(reader, gap.start, [list(pair) for pair in likely])
    for (a, b), row in zip(likely, third, strict=True):
        scored[(a, b)] = float(first[a] + second[a - 24, b] + row[eop])
    best = sorted(scored, key=scored.get, reverse=True)[:5]
    assert scored[best[-1]] > float(
        pairs.topk(6000).values[-1]
    )  # no pair that was left out could be among them
    found = beam_search(reader, gap, draft.is_text, dials)
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
    greedy, beam = (
        fill(model, tokenizer, "the [MASK] sat.", beams=beams, max_tokens=3).blanks[0] for beams in (0, 5)
    )
    [whole] = score(model, tokenizer, "the[MASK] sat.", [greedy.text])  # its end included, even at the limit
    assert beam.answer.log_probability >= whole.log_probability - 1e-4


def test_writing_continues_the_text_and_stops_where_told(model, tokenizer):
    text = write(model, tokenizer, "the cat", max_tokens=5)
    assert text.startswith("the cat") and len(text) > len("the cat")
    tokens = len(tokenizer.encode("the cat"))
    model_ = Scripted(tokenizer, {tokens + 1: tokenizer.encode(" sat on the mat.")})
    assert write(model_, tokenizer, "the cat") == "the cat sat on the mat."
    part_a = [tokenizer.special.cls, *tokenizer.encode("the cat"), tokenizer.special.gmask]
    assert model_.read[0][: len(part_a)] == part_a


def test_a_long_text_keeps_its_end_unless_a_blank_is_in_its_beginning(model, tokenizer, capsys):
    long = "the cat " * 60
    assert write(model, tokenizer, long, max_tokens=2).startswith(long)
    assert "tokens of the text were cut: this model reads 32" in capsys.readouterr().err
    assert fill(model, tokenizer, long + "[MASK]", max_tokens=2).text.startswith("the cat the cat ")
    assert "tokens of the text were not read: this model reads 32" in capsys.readouterr().err
    with pytest.raises(
        MinglmError, match=r"longer than this model reads \(32\), and the first blank stands at token 1"
    ):
        fill(model, tokenizer, "[MASK]" + long)


def test_positions_never_run_past_the_tables(model, tokenizer):
    endless = Scripted(tokenizer, {i: tokenizer.encode(" the cat") * 60 for i in range(40)})
    for text in ("[MASK]", "[gMASK]", "the cat [gMASK]"):
        fill(endless, tokenizer, text)
        assert 30 < max(endless.read[2]) <= 32


def test_a_character_split_over_a_blank_survives(tokenizer):
    text = tokenizer.encode("起")
    assert len(text) == 3  # no merges learned: one token per byte
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
        ("[MASK]", {"beams": 2, "temperature": 1}, "beams"),
        ("[MASK]", {"beams": -1}, "beams"),
        ("[MASK]", {"length_penalty": math.inf}, "length_penalty"),
        ("[MASK]", {"min_tokens": 4, "max_tokens": 3}, "min_tokens: 4 is more than max_tokens = 3"),
        ("[MASK]", {"no_repeat_ngram": -1}, "no_repeat_ngram"),
        ("[MASK]", {"repetition_penalty": 0}, "repetition_penalty"),
        ("[MASK] [MASK]", {"order": [0, 0]}, "order [0, 0] is not a permutation of 0 .. 1"),
        ("[MASK]", {"max_tokens": 0}, "max_tokens"),
        ("[MASK]<|endofpiece|>", {}, "cannot be typed"),
    ],
)
def test_dials_that_mean_nothing_are_refused(model, tokenizer, text, dials, words):
    with pytest.raises(MinglmError, match=words.replace("[", r"\[")):
        fill(model, tokenizer, text, **dials)


# ---- the cache, batches, order, repetition, scores -------------------------------------------------------

TEXTS = [
    "the [MASK] sat on [MASK].",
    "[MASK]",
    "the cat and the [MASK] sat",
    "the [gMASK]",
    "[sMASK] the dog [MASK] on",
]


@pytest.mark.parametrize("dials", [{}, dict(temperature=2.0, seed=4), dict(no_repeat_ngram=2, min_tokens=3)])
def test_a_batch_gives_every_text_what_it_gets_alone(model, tokenizer, dials):
    together = fill(model, tokenizer, TEXTS, max_tokens=6, **dials)
    for text, filled in zip(TEXTS, together, strict=True):
        alone = fill(model, tokenizer, text, max_tokens=6, **dials)
        assert filled.text == alone.text
        for a, b in zip(filled.blanks, alone.blanks, strict=True):
            assert a.answer.tokens == b.answer.tokens and a.answer.complete == b.answer.complete
            assert a.answer.log_probabilities == pytest.approx(b.answer.log_probabilities, abs=1e-4)
    assert fill(model, tokenizer, []) == []


def test_many_texts_are_filled_in_runs_of_bounded_memory(model, tokenizer, monkeypatch):
    texts, rooms, seen = TEXTS * 4, [], set()
    make = Cache.__init__
    monkeypatch.setattr(
        Cache, "__init__", lambda self, a, room: rooms.append(sum(room)) or make(self, a, room)
    )
    monkeypatch.setattr("minglm.use.drafts.CACHE_ROWS", 100)
    together = fill(model, tokenizer, texts, max_tokens=3, on_token=lambda text, blank, ids: seen.add(text))
    assert [f.text for f in together[:5]] * 4 == [f.text for f in together] and seen == set(range(20))
    assert len(rooms) > 2 and max(rooms) <= 100


@pytest.mark.parametrize("backend", ["reference", "sdpa", "auto"])
def test_with_the_cache_every_row_is_what_the_whole_gives(model, tokenizer, backend):
    """Samples of different lengths read in uneven pieces, compared with one forward pass over everything."""
    rng = Rng(3)
    examples = [
        build_example([8 + rng.integer(200) for _ in range(n)], spans, order)
        for n, spans, order in (
            (9, [(1, 3), (5, 8)], [1, 0]),
            (4, [(0, 1)], [0]),
            (12, [(2, 3), (4, 9)], [0, 1]),
        )
    ]
    batch, model.backend = pack(examples), backend
    A, T, start = (
        [e.part_a_len for e in examples],
        [len(e.tokens) for e in examples],
        batch.mask.cu_seqlens_q.tolist(),
    )
    model.eval()
    with torch.inference_mode():
        whole = model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)
        cache, done, lens = Cache(A, [t + 2 for t in T]), [0, 0, 0], list(A)
        while any(lens):
            rows = torch.cat(
                [torch.arange(a + d, a + d + n) for a, d, n in zip(start, done, lens, strict=False)]
            )
            columns = (x[rows] for x in (batch.tokens, batch.position_ids, batch.block_position_ids))
            found = model(*columns, cache.next(lens), cache=cache)
            torch.testing.assert_close(found, whole[rows], atol=2e-4, rtol=1e-5)
            done = [d + n for d, n in zip(done, lens, strict=True)]
            lens = [min(1 + rng.integer(3), t - d) for t, d in zip(T, done, strict=True)]
    model.backend = "auto"


def test_a_cache_without_room_says_so_and_loses_nothing(model):
    cache = Cache([3], [5])
    cache.next([3])
    with pytest.raises(MinglmError, match="seqlens_k"):
        cache.next([3])
    assert cache.used.tolist() == [3] and cache.next([2]).visible_keys().tolist() == [4, 5]


def test_blanks_are_filled_in_the_order_that_is_asked_for(tokenizer):
    text = "the [MASK] sat on [MASK]."
    answers = {2: tokenizer.encode(" cat"), 5: tokenizer.encode(" the mat")}
    model = Scripted(tokenizer, {i: answers.get(i, []) for i in range(12)})
    where = [1 + i for i, t in enumerate(tokenizer.encode(text, special=True)) if t == tokenizer.special.mask]
    model.answers = dict(zip(where, answers.values(), strict=True))
    filled = fill(model, tokenizer, text, order=[1, 0])
    assert filled.text == "the cat sat on the mat."
    in_part_b = [p for p, block in zip(model.read[1], model.read[2], strict=True) if block == 1]
    assert in_part_b == where[::-1]


def test_no_run_of_tokens_comes_twice_and_no_blank_is_too_short(tokenizer):
    cat, dog = tokenizer.encode(" cat"), tokenizer.encode(" dog")
    stutter = Scripted(tokenizer, {i: (cat + dog) * 9 for i in range(9)})
    for n in (1, 2, 3):
        tokens = (
            fill(stutter, tokenizer, "the [MASK]", max_tokens=20, min_tokens=20, no_repeat_ngram=n)
            .blanks[0]
            .answer.tokens
        )
        runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        assert len(tokens) == 20 and len(set(runs)) == len(runs)
    short = Scripted(tokenizer, {i: cat for i in range(9)})
    assert len(fill(short, tokenizer, "the [MASK]", min_tokens=4).blanks[0].answer.tokens) == 4
    assert len(fill(short, tokenizer, "the [MASK]", min_tokens=4, beams=2).blanks[0].answer.tokens) == 4


def test_a_penalty_makes_repetition_rarer(model, tokenizer):
    def repeats(**dials):
        tokens = fill(model, tokenizer, "the [gMASK]", max_tokens=30, **dials).blanks[0].answer.tokens
        return len(tokens) - len(set(tokens))

    assert repeats() > repeats(repetition_penalty=3.0)


def test_tokens_come_as_they_are_chosen(model, tokenizer):
    seen = []

    def on_token(text, blank, ids):
        seen.append((text, blank, list(ids)))

    filled = fill(model, tokenizer, TEXTS[0], max_tokens=5, on_token=on_token)
    for number, blank in enumerate(filled.blanks):
        tokens = blank.answer.tokens
        assert [ids for _, k, ids in seen if k == number] == [tokens[: n + 1] for n in range(len(tokens))]


def test_the_score_of_an_answer_is_minus_its_training_loss(model, tokenizer):
    answers, special = [" cat", " the mat"], tokenizer.special
    scored = score(model, tokenizer, "the[MASK] sat on[MASK].", answers)
    whole, spans = [special.cls], []
    for text in ("the", answers[0], " sat on", answers[1], "."):
        ids = tokenizer.encode(text)
        spans += [(len(whole), len(whole) + len(ids))] if text in answers else []
        whole += ids
    model.eval()
    losses = model.loss(pack([build_example([*whole, special.eos], spans, [0, 1], special)]), "none").tolist()
    assert [-x for x in losses] == pytest.approx([x for f in scored for x in f.log_probabilities], abs=1e-4)
    assert [f.text for f in scored] == answers and all(f.complete for f in scored)
    assert [f.text for f in score(model, tokenizer, "the [MASK] sat", ["cat"])] == [" cat"]
    assert [f.text for f in score(model, tokenizer, "the[MASK] sat", ["cat"])] == ["cat"]
    with pytest.raises(MinglmError, match="2 for 1 blanks"):
        score(model, tokenizer, "the [MASK]", ["a", "b"])


# ---- what the original code wrote with the same weights --------------------------------------------------


def gap_of(mask, position, stops, limit, number=0, sop=5):
    """A Gap as `Draft` makes it, for a vocabulary with its own sop."""
    return Gap(
        mask, position, start_of("glm", [], position, SpecialTokens(sop=sop)), frozenset(stops), limit, number
    )


def draft_of(part_a, gaps, vocabulary=211):
    """A Draft from ids, as if a tokenizer had made it: the recordings have none."""
    draft = object.__new__(Draft)
    draft.part_a, draft.part_a_len, draft.blanks, draft.todo, draft.number = (
        part_a,
        len(part_a),
        gaps,
        gaps,
        0,
    )
    draft.is_text = torch.ones(vocabulary, dtype=torch.bool)
    return draft


def test_the_original_codes_greedy_fillings_come_out(original):
    model, recorded = original
    compared = 0
    for context, output in zip(
        recorded["greedy/contexts"].tolist(), recorded["greedy/outputs"].tolist(), strict=True
    ):
        part_a = [t for t in context if t >= 0]
        gaps = [
            gap_of(2, i, {0, 6}, 8, n)
            for n, i in enumerate(i for i, t in enumerate(part_a) if t in (2, 3, 4))
        ]
        reader = Reader(model, [draft_of(part_a, gaps)])
        for gap in gaps:
            write_blanks(reader, [draft_of(part_a, [gap])], Dials(min_tokens=0))
            if not gap.complete:  # the original does not read the last token of a full blank
                reader.cache.used = reader.cache.used - 1
        assert [t for gap in gaps for t in (5, *gap.tokens)] == [t for t in output if t >= 0]
        compared += len(gaps)
    assert compared == 10


def test_the_original_codes_beam_searches_come_out(original):
    model, recorded = original
    runs = json.loads(str(recorded["config"]))["sections"]["beam"]["runs"]
    assert len(runs) == 5
    for name, r in runs.items():
        dials = Dials(
            beams=r["num_beams"],
            length_penalty=r["length_penalty"],
            min_tokens=r["min_tgt_length"],
            no_repeat_ngram=r["no_repeat_ngram_size"],
            max_tokens=r["max_new_tokens"],
        )
        for n, ids in enumerate(recorded["beam/input_ids"].tolist()):
            A = int(recorded["beam/sep"][n])
            gap = gap_of(2, int(recorded["beam/position_ids"][n, 0, A]), {4}, r["max_new_tokens"])
            draft = draft_of(ids[:A], [gap])
            tokens, scores, _ = beam_search(Reader(model, [draft]), gap, draft.is_text, dials)[0]
            assert tokens == [t for t in recorded[f"beam/{name}/predictions"][n].tolist() if t >= 0]
            wanted, divisor = (
                float(recorded[f"beam/{name}/scores"][n]),
                max(1, len(tokens)) ** dials.length_penalty,
            )
            assert sum(scores) / divisor == pytest.approx(wanted, abs=1e-4), (name, n)
