"""Threads may share a tokenizer, model, mask or task: each gets the result that it would get alone."""

import copy
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from minglm import (
    GLM,
    Cloze,
    GLMConfig,
    GLMMask,
    MinglmError,
    Tokenizer,
    classify,
    embed,
    fill,
    masked_attention,
    score,
)
from minglm.data.samples import SampleSource, TrainingBatches, cut_windows
from minglm.files.checkpoint import LOADING, load_plain
from minglm.modules import evaluating
from minglm.spans import Span
from minglm.train.config import resolve

THREADS = 8
TEXTS = [
    f"{who} [MASK] sat on {where} [MASK]."
    for who in ("the", "a cat and", "dog", "cat")
    for where in ("the", "", "mat")
]
TASK = Cloze("{text} It was [MASK].", {"good": "the cat", "bad": "dog"})


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the dog sat on the cat"] * 5, 300)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = GLM(GLMConfig(tokenizer.vocab_size, 16, 2, 2, 32, dropout=0.5))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model


@pytest.fixture(autouse=True)
def threads_alternate_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(job, items):
    """[job(item) for item in items], each in one of eight threads that start at the same time."""
    start = threading.Barrier(THREADS)

    def one(number):
        start.wait()
        return [job(item) for item in items[number::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(one, range(THREADS)))
    return [parts[i % THREADS][i // THREADS] for i in range(len(items))]


def uses(model, tokenizer):
    return {
        "fill": lambda text: [
            (b.text, b.answer.tokens) for b in fill(model, tokenizer, text, max_tokens=3).blanks
        ],
        "search": lambda text: fill(model, tokenizer, text, max_tokens=2, beams=2).text,
        "score": lambda text: score(model, tokenizer, text, ["cat", "mat"])[1].tokens,
        "classify": lambda text: classify(model, tokenizer, TASK, text).label,
        "embed": lambda text: embed(model, tokenizer, text).round(decimals=3).tolist(),
    }


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("use", ["fill", "search", "score", "classify", "embed"])
def test_eight_threads_get_what_one_gets(model, tokenizer, use, trains):
    model.train(trains)
    job = uses(model, tokenizer)[use]
    alone = [job(text) for text in TEXTS * 2]
    assert together(job, TEXTS * 2) == alone
    assert all(module.training == trains for module in model.modules())


@pytest.mark.parametrize("trains", [False, True])
def test_using_a_model_switches_none_of_its_modules_not_even_for_a_moment(model, tokenizer, trains):
    """Checked while a layer computes, when another thread could see it."""
    model.train(trains)
    model.layers[0].eval()
    before, seen = [module.training for module in model.modules()], []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: seen.append([module.training for module in model.modules()]))
    for job in uses(model, tokenizer).values():
        job(TEXTS[0])
    model.attention_weights(batch_of(tokenizer), 1)
    assert len(seen) > 10 and all(modes == before for modes in seen)


def batch_of(tokenizer):
    from minglm import build_example, pack

    return pack([build_example(tokenizer.encode("the cat sat on the mat"), [(1, 2)], [0], tokenizer.special)])


def test_a_mode_that_changes_while_the_model_is_used_changes_no_answer_and_is_kept(model, tokenizer):
    """train() in the middle of a fill: dropout would change the words."""
    expected = fill(model.eval(), tokenizer, TEXTS[0], max_tokens=6).text
    assert (
        fill(model.eval(), tokenizer, TEXTS[0], max_tokens=6, on_token=lambda *_: model.train()).text
        == expected
    )
    assert all(module.training for module in model.modules())
    assert fill(model, tokenizer, TEXTS[0], max_tokens=6, on_token=lambda *_: model.eval()).text == expected
    assert not any(module.training for module in model.modules())


def test_a_view_shares_weights_and_sees_them_change(model):
    view = evaluating(model)
    names = dict(view.named_parameters())
    assert all(names[name] is weight for name, weight in model.named_parameters())
    model.load_state_dict({name: weight * 0 for name, weight in model.state_dict().items()})
    assert not view.token_embedding.weight.any()


def test_a_replaced_forward_that_trains_is_refused_by_name_and_works_in_eval_mode(model, tokenizer):
    model.eval()
    expected, inner = fill(model, tokenizer, TEXTS[0], max_tokens=2).text, model.layers[1].up
    inner.forward = lambda x, old=inner.forward: old(x)
    assert fill(model, tokenizer, TEXTS[0], max_tokens=2).text == expected
    with pytest.raises(MinglmError, match=r"Linear: its forward was replaced.*model\.eval\(\)"):
        fill(model.train(), tokenizer, TEXTS[0])


def test_modules_that_are_shared_stay_shared_in_a_view(model):
    model.layers[1].norm2 = model.layers[0].norm2
    model.extra = nn.ModuleList([model.layers[0]])
    view = evaluating(model)
    assert view.layers[1].norm2 is view.layers[0].norm2 and view.extra[0] is view.layers[0]


# ---- the tokenizer


def test_a_tokenizer_reads_masks_as_each_thread_says(tokenizer):
    def job(special):
        return tokenizer.encode("a [MASK] sat" * 20, special=special)

    expected = {special: job(special) for special in (True, False)}
    kinds = [True, False, False, True] * 200
    assert together(job, kinds) == [expected[special] for special in kinds]


def test_nothing_of_a_tokenizer_changes_between_two_calls_that_overlap(tokenizer, monkeypatch):
    """The other call comes when the first one has prepared everything, right before it calls the library."""
    expected = {special: tokenizer.encode("a [MASK]", special=special) for special in (True, False)}

    class Overlapped:
        def __init__(self, library, other):
            object.__setattr__(self, "library", library)
            object.__setattr__(self, "other", other)

        def __getattr__(self, name):
            return getattr(self.library, name)

        def __setattr__(self, name, value):
            setattr(self.library, name, value)

        def encode(self, *args, **kwargs):
            if other := self.other:
                object.__setattr__(self, "other", None)
                other()
            return self.library.encode(*args, **kwargs)

    for special in (True, False):
        fresh = copy.deepcopy(tokenizer)
        fresh.encode("a", special=True)
        for name in ("_library", "_typed"):
            other = partial(fresh.encode, "a [MASK]", special=not special)
            vars(fresh)[name] = Overlapped(vars(fresh)[name], other)
        assert fresh.encode("a [MASK]", special=special) == expected[special]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copied_tokenizer_still_reads_masks_as_text(tokenizer, copied):
    other = copied(tokenizer)
    for special in (True, False, True):
        assert other.encode("a [MASK]", special=special) == tokenizer.encode("a [MASK]", special=special)
    assert other.encode_batch(["a [MASK]"]) == [tokenizer.encode("a [MASK]")]
    assert other.fingerprint == tokenizer.fingerprint


# ---- masks


@pytest.mark.parametrize("backend", ["auto", "sdpa", "reference"])
def test_a_mask_and_what_it_remembers_serve_all_threads(backend):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 60, 2, 16)
    lens, part_a = [17, 30, 13], [5, 30, 0]
    expected = masked_attention(q, k, v, GLMMask.packed(lens, part_a), backend=backend)

    def job(mask):
        return torch.equal(masked_attention(q, k, v, mask, backend=backend), expected)

    assert all(together(job, [GLMMask.packed(lens, part_a)] * 64))


# ---- what training reads


def test_the_batches_of_steps_are_the_same_whichever_thread_asks_first(tokenizer):
    corpus = np.random.default_rng(0).integers(24, 290, 4000)
    windows = cut_windows(np.arange(0, 4001, 50), 32)
    settings = resolve("tiny").data

    def batches():
        source = SampleSource(corpus, windows, settings, tokenizer.sentence_ends(), tokenizer.special)
        return TrainingBatches(source, 100)

    shared, steps = batches(), [step for k in range(40) for step in (k, 60 + k, 120 + k)]
    expected = [batches().windows_of(step) for step in steps]
    assert together(shared.windows_of, steps) == expected


def test_what_one_thread_may_load_is_not_allowed_in_another(tmp_path):
    torch.save({"a": 1}, tmp_path / "plain.pt")
    loaded = together(lambda _: load_plain(tmp_path / "plain.pt", [Span]), range(64))
    assert loaded == [{"a": 1}] * 64 and Span not in torch.serialization.get_safe_globals()
    assert not LOADING.locked()
