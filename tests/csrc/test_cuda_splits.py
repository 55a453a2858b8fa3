"""Few rows with many keys on the emulator: blocks share the keys of a row, and a second kernel combines what
they leave. check_cuda.cpp has more cases, under sanitizers and with mutants."""

import pytest
import torch
from attention_cases import random_numbers
from cuda_cases import DTYPES, assert_right

from minglm import GLM, GLMConfig, GLMMask, Tokenizer, masked_attention, ops
from minglm.kernel.extension import EMULATED_SIZES
from minglm.kernel.lengths import lengths_of
from minglm.use.generate import write
from minglm.use.reader import Cache

pytestmark = pytest.mark.skipif(not ops.has_emulator()[0], reason=ops.has_emulator()[1])

# one row, three, none, and one that sees little of a cache with room: 9 tiles of 128 keys, or 18 of 64
CACHES = GLMMask([0, 1, 4, 4, 5], [0, 1150, 2300, 3450, 4600], [100, 700, 0, 3], [1150, 1100, 0, 130])


@pytest.mark.parametrize("width", ops.CUDA_HEAD_DIMS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rows_whose_keys_are_shared_are_right_and_repeat_bit_for_bit(width, dtype):
    numbers = random_numbers(CACHES, 2, width, DTYPES[dtype])
    first = assert_right(numbers, CACHES, run=forward_and_reference)
    again = forward_and_reference(*numbers, CACHES, schedule="pct:3")
    assert all(again[name].equal(first[name]) for name in ("out", "lse"))


def forward_and_reference(q, k, v, g, mask, schedule="in-order"):
    """by_cuda, but the backward, which is the same with and without shares, by the reference: it is long."""
    assert ops.Problem(q, k, v, lengths_of(mask, q.device), "emulated:in-order").splits > 1
    out, lse = ops.emulated_attention(q, k, v, mask, q.shape[-1] ** -0.5, schedule, return_lse=True)
    q, k, v = (x.double().requires_grad_() for x in (q, k, v))
    grads = torch.autograd.grad(masked_attention(q, k, v, mask, backend="reference"), (q, k, v), g.double())
    return dict(out=out, lse=lse, **dict(zip(("dq", "dk", "dv"), grads, strict=True)))


def splits(queries, keys, samples=1, heads=16, width=64, dtype="bfloat16", gpu=EMULATED_SIZES[0]):
    """What the rule says for samples of equal lengths."""
    sizes, strides = (samples, heads, width, queries * samples, keys * samples), (width * heads, width) * 3
    return ops._C.Problem(getattr(ops._C, dtype), sizes, (0, 0, 0, 0), strides).emulated_plan(gpu, 0, 0)[:2]


def test_keys_are_shared_where_rows_are_few_keys_many_and_blocks_fewer_than_the_gpu_could_run():
    assert splits(1, 32768) == (13, 13 * 16 * 66)  # 2 * 108 places for 16 blocks
    assert splits(1, 32768, heads=2)[0] == 32, "a lane of combine_kernel for each"
    assert splits(1, 32768, gpu=132)[0] == 16 and splits(16, 32768, gpu=132)[0] == 8
    assert splits(1, 1024)[0] == 2 and splits(1, 1024, width=128)[0] == 4, "four tiles for each block"
    alone = (1, 0)
    assert splits(1, 1023) == alone, "one tile less"
    assert splits(17, 32768) == alone, "many rows"
    assert splits(1, 32768, samples=7) == alone and splits(1, 32768, samples=6)[0] == 2, "blocks enough"
    assert splits(1, 32768, dtype="float32") == alone
    assert splits(1, 32768, gpu=0) == alone and splits(0, 5) == alone and splits(1, 8, samples=0) == alone


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat"], 280)


@pytest.fixture(scope="module")
def reader(tokenizer):
    """A model of one layer whose texts may be long, in bfloat16."""
    torch.manual_seed(0)
    sizes = dict(vocab_size=tokenizer.vocab_size, hidden_size=64, num_layers=1, num_heads=2)
    return GLM(GLMConfig(**sizes, max_positions=1200, dropout=0.0)).bfloat16().eval()


@pytest.fixture
def asked(monkeypatch):
    """(rows, splits) of every call of the kernel."""
    asked, forward = [], ops.Problem.forward

    def spy(self, q, *rest):
        asked.append((len(q), self.splits))
        return forward(self, q, *rest)

    monkeypatch.setattr(ops.Problem, "forward", spy)
    return asked


def test_a_cached_step_shares_the_keys_of_its_rows(reader, asked):
    tokens, found = torch.randint(200, (1100,), generator=torch.Generator().manual_seed(1)), {}
    for backend in ("reference", "emulated"):
        cache, reader.backend = Cache([1040], [1100]), "sdpa"
        with torch.inference_mode():
            for begin, end in ((0, 1040), (1040, 1041), (1041, 1044)):
                rows, places = tokens[begin:end], torch.arange(begin, end)
                found[backend] = reader(rows, places, places * 0, cache.next([end - begin]), cache=cache)
                reader.backend = backend
    assert asked == [(1, 2), (3, 2)]
    torch.testing.assert_close(found["emulated"], found["reference"], atol=0.05, rtol=0.05)


def test_what_is_written_after_a_long_text_comes_from_shared_keys(reader, tokenizer, asked):
    reader.backend = "emulated"
    write(reader, tokenizer, "xyz" * 350, max_tokens=3, min_tokens=3)
    assert len(asked) >= 4 and set(asked[1:]) == {(1, 2)}, "after Part A, read without a row"
