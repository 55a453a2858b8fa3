"""The CUDA kernels on a GPU, if there is one: the tests of test_cuda.py, and those that need a GPU."""

import json

import pytest
import torch
from attention_cases import random_numbers
from cuda_cases import DTYPES, MASKS, assert_right, by_cuda, every_dtype, every_mask

from minglm import GLMMask, attention, masked_attention, ops
from minglm.kernel import hopper
from minglm.kernel.extension import sizes_of

able = torch.cuda.is_available() and ops.has_kernel("cuda")[0]
pytestmark = pytest.mark.skipif(not able, reason="needs a GPU and a build with nvcc")


def on_gpu(mask, heads, width, dtype, seed=0):
    return [x.cuda() for x in random_numbers(mask, heads, width, dtype, seed)]


@every_dtype
@every_mask
def test_the_kernels_are_right_at_every_edge_of_a_tile(name, dtype):
    assert_right(on_gpu(MASKS[name], 2, 64, DTYPES[dtype]), MASKS[name])


@every_dtype
@pytest.mark.parametrize("width", ops.CUDA_HEAD_DIMS)
def test_every_head_width_is_right(width, dtype):
    short, long = GLMMask.packed([65, 17, 130], [20, 17, 0]), GLMMask.packed([1500, 700], [900, 0])
    for mask in (short, MASKS["caches"], long):
        assert_right(on_gpu(mask, 3, width, DTYPES[dtype]), mask)


def by_hopper(q, k, v, g, mask):
    """As by_cuda, with the kernel for Hopper; it is skipped where there is none."""
    if why := hopper.why_no_hopper(q.dtype, q.device, q.shape[-1]):
        pytest.skip(why)
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out, lse = ops.kernel_attention(q, k, v, mask, q.shape[-1] ** -0.5, hopper.HOPPER, return_lse=True)
    return dict(
        out=out.detach(),
        lse=lse,
        **dict(zip(("dq", "dk", "dv"), torch.autograd.grad(out, (q, k, v), g), strict=True)),
    )


@every_mask
@pytest.mark.parametrize("width", hopper.HOPPER_HEAD_DIMS)
def test_the_kernel_for_hopper_is_right_at_every_edge_of_a_tile(name, width):
    for dtype in (torch.bfloat16, torch.float16):
        assert_right(on_gpu(MASKS[name], 2, width, dtype), MASKS[name], run=by_hopper)


@pytest.mark.parametrize("width", hopper.HOPPER_HEAD_DIMS)
def test_the_kernel_for_hopper_is_right_with_many_tiles_and_repeats_bit_for_bit(width):
    mask = GLMMask.packed([1500, 700, 130], [900, 0, 70])
    numbers = on_gpu(mask, 4, width, torch.bfloat16)
    assert_right(numbers, mask, run=by_hopper)
    first = by_hopper(*numbers, mask)
    for _ in range(20):
        assert all(x.equal(first[name]) for name, x in by_hopper(*numbers, mask).items())


@every_mask
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_backward_of_short_samples_is_right_at_every_edge_of_a_tile_and_repeats(name, dtype, monkeypatch):
    bytes_of_a_block = sizes_of(torch.device("cuda", torch.cuda.current_device()))[1]
    monkeypatch.setattr(ops, "sizes_of", lambda gpu: (1, bytes_of_a_block))  # a few samples are enough for it
    numbers = on_gpu(MASKS[name], 2, 64, DTYPES[dtype])
    first = assert_right(numbers, MASKS[name])
    for _ in range(5):
        assert all(x.cpu().equal(first[key]) for key, x in by_cuda(*numbers, MASKS[name]).items())


@every_dtype
def test_results_repeat_bit_for_bit(dtype):
    mask = GLMMask.packed([700, 130, 20], [300, 70, 3])
    numbers = on_gpu(mask, 4, 64, DTYPES[dtype])
    first = by_cuda(*numbers, mask)
    for _ in range(20):
        assert all(x.equal(first[name]) for name, x in by_cuda(*numbers, mask).items())


@every_dtype
def test_the_emulator_and_the_gpu_agree(dtype):
    mask = GLMMask.packed([130, 20], [70, 3])
    numbers = random_numbers(mask, 2, 64, DTYPES[dtype])
    emulated, gpu = by_cuda(*numbers, mask), by_cuda(*(x.cuda() for x in numbers), mask)
    eps = torch.finfo(DTYPES[dtype]).eps
    for name, x in emulated.items():
        assert (gpu[name].cpu() - x).abs().max() <= 4 * eps * x.abs().max(), name


def test_another_stream_and_a_captured_graph_give_the_same():
    mask = GLMMask.packed([200, 77], [100, 10])
    q, k, v, _ = on_gpu(mask, 2, 64, torch.bfloat16)
    expected = masked_attention(q, k, v, mask, backend="kernel")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        out = masked_attention(q, k, v, mask, backend="kernel")
    stream.synchronize()
    assert out.equal(expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = masked_attention(q, k, v, mask, backend="kernel")
    v.mul_(2)
    graph.replay()
    torch.cuda.synchronize()
    assert captured.equal(masked_attention(q, k, v, mask, backend="kernel"))


def test_auto_takes_the_kernel_after_its_test_and_sdpa_for_what_the_kernel_cannot_serve():
    name, why = attention.best_backend(torch.bfloat16, "cuda", 64)
    on_hopper = not hopper.why_no_hopper(torch.bfloat16, "cuda", 64)
    assert name == ("kernel:hopper" if on_hopper else "kernel") and "passed its test" in why
    assert attention.best_backend(torch.bfloat16, "cuda", 48)[0] == "sdpa"
    assert attention.best_backend(torch.float64, "cuda", 64)[0] == "sdpa"
    mask = GLMMask.packed([33], [10])
    q, k, v, _ = on_gpu(mask, 2, 64, torch.bfloat16)
    shifted = torch.cat([q.flatten(), q.flatten()[:1]])[1:].view_as(q)  # begins at 2 bytes
    assert masked_attention(shifted, k, v, mask).shape == q.shape


def test_the_bench_times_the_kernel_and_pytorchs_best(minglm):
    result = minglm("bench", "attention", "--device", "cuda", "--quick", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert torch.cuda.get_device_name() in report["machine"]["gpu"]
    kernel = [row for row in report["rows"] if row["variant"] == "kernel"]
    assert len(kernel) == 4 and all(row["status"] == "timed" for row in kernel)  # two shapes in two dtypes
    assert all(0 <= row["of_fair"] <= 1 and row["forward"]["best_of_pytorch"] != "kernel" for row in kernel)
