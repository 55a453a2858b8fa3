"""The backward kernel for short samples on the emulator: five products for each tile, dQ in shared memory."""

import pytest
import torch
from attention_cases import random_numbers
from cuda_cases import DTYPES, MASKS, assert_right, by_cuda

from minglm import GLMMask, attention, ops
from minglm.kernel.extension import EMULATED_SIZES

pytestmark = pytest.mark.skipif(not ops.has_emulator()[0], reason=ops.has_emulator()[1])


@pytest.fixture
def taken(monkeypatch):
    """The .longest of every Problem that is made: 0 if its samples are not short."""
    taken, make = [], ops.Problem.__init__

    def spy(self, *how):
        make(self, *how)
        taken.append(self.longest)

    monkeypatch.setattr(ops.Problem, "__init__", spy)
    return taken


@pytest.fixture
def one_multiprocessor(monkeypatch):
    """A GPU that a few samples fill."""
    monkeypatch.setattr(ops, "sizes_of", lambda gpu: (1, EMULATED_SIZES[1]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["mixed, packed", "caches", "more rows than keys", "long"])
def test_one_kernel_gives_all_three_gradients(name, dtype, taken, one_multiprocessor):
    mask = MASKS[name]
    assert_right(random_numbers(mask, 2, 64, DTYPES[dtype]), mask)
    assert taken == [int(mask.len_q.max())]


def test_no_schedule_changes_a_bit_of_it(taken, one_multiprocessor):
    mask = GLMMask.packed([130, 20], [70, 3])
    numbers = random_numbers(mask, 1, 64, torch.bfloat16)
    first = by_cuda(*numbers, mask)
    for schedule in ("reverse", "pct:1"):
        assert all(x.equal(first[name]) for name, x in by_cuda(*numbers, mask, schedule).items()), schedule
    assert set(taken) == {130}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_self_test_of_a_gpu_takes_it(dtype, taken):
    assert attention.wrong_by("emulated", DTYPES[dtype], "cpu") is None
    assert taken == [0, 0, 0, 130]


def longest(rows, samples=14, heads=16, width=64, dtype="bfloat16", gpu=EMULATED_SIZES):
    """What the rule says where the longest sample has so many rows: they, or 0."""
    sizes, strides = (samples, heads, width, samples * rows, samples * rows), (width * heads, width) * 3
    return ops._C.Problem(getattr(ops._C, dtype), sizes, (0, 0, 0, 0), strides).emulated_plan(*gpu, rows)[2]


def test_samples_are_short_if_they_fit_in_shared_memory_and_there_are_enough_for_the_gpu():
    h200 = 132, 227 * 1024
    assert longest(384) == 384 and longest(385) == 0, "163 KiB"
    assert longest(640, 17, gpu=h200) == 640 and longest(641, 17, gpu=h200) == 0, "227 KiB"
    assert longest(128, 17, gpu=(2, 99 * 1024)) == 128 and longest(193, 17, gpu=(2, 99 * 1024)) == 0
    assert longest(100, samples=13) == 0, "208 blocks for 108 multiprocessors"
    assert longest(100, width=128) == longest(100, dtype="float32") == longest(0) == 0
    assert longest(100, gpu=(0, EMULATED_SIZES[1])) == 0, "a GPU that does not say"
