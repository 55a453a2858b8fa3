"""The kernel for Hopper on the emulator: against float64 at every edge of a tile; when "auto" takes it.

csrc/tests/check_cuda.cpp --sm 90 tests the same kernel further, without torch.
"""

import functools
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from attention_cases import random_numbers
from conftest import ROOT, need_compiler
from cuda_cases import MASKS, assert_right, by_cuda, every_mask

from minglm import GLMMask, MinglmError, attention, masked_attention, ops
from minglm.kernel import hopper

emulated = pytest.mark.skipif(not ops.has_emulator()[0], reason=ops.has_emulator()[1])
both = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
by_hopper = functools.partial(by_cuda, schedule="hopper")
GPU = torch.device("cuda", 0)


@emulated
@every_mask
def test_the_kernel_is_right_at_every_edge_of_a_tile(name):
    assert_right(random_numbers(MASKS[name], 1, 64, torch.bfloat16), MASKS[name], run=by_hopper)


@emulated
@both
@pytest.mark.parametrize("width", hopper.HOPPER_HEAD_DIMS)
def test_both_widths_and_dtypes_are_right(width, dtype):
    for mask in (GLMMask.packed([65, 17, 130], [20, 17, 0]), MASKS["caches"], MASKS["more rows than keys"]):
        assert_right(random_numbers(mask, 3, width, dtype), mask, run=by_hopper)


@emulated
@pytest.mark.parametrize("width", hopper.HOPPER_HEAD_DIMS)
def test_more_tiles_than_the_ring_has_stages_are_right_under_every_schedule(width):
    mask = GLMMask([0, 130, 150], [0, 800, 820], [700, 3])
    q, k, v, _ = random_numbers(mask, 1, width, torch.bfloat16)
    first = masked_attention(q, k, v, mask, backend="emulated:hopper")
    expected = masked_attention(*(x.double() for x in (q, k, v)), mask, backend="reference")
    torch.testing.assert_close(first.double(), expected, atol=0.02, rtol=0.02)
    for schedule in ("reverse", *(f"pct:{seed}" for seed in range(2))):
        assert masked_attention(q, k, v, mask, backend=f"emulated:hopper:{schedule}").equal(first), schedule


@emulated
def test_it_computes_what_the_kernel_before_it_computes_but_is_another_kernel():
    mask = GLMMask.packed([200], [50])
    q, k, v, _ = random_numbers(mask, 2, 64, torch.float16)
    outs = [masked_attention(q, k, v, mask, backend=f"emulated{kind}") for kind in ("", ":hopper")]
    torch.testing.assert_close(*outs, atol=2e-3, rtol=2e-3)
    assert not outs[0].equal(outs[1]), "tiles of 64 and of 128 keys round differently"


@emulated
def test_copies_have_no_bank_conflicts_and_whole_sectors_are_read_and_written():
    for width in hopper.HOPPER_HEAD_DIMS:
        mask = GLMMask.packed([256, 128], [70, 128])
        q, k, v, _ = random_numbers(mask, 2, width, torch.bfloat16)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        ops._C.count_traffic(True)
        try:
            masked_attention(q, k, v, mask, backend="emulated:hopper")
            traffic = ops._C.traffic()
        finally:
            ops._C.count_traffic(False)
            torch.set_num_threads(before)
        assert traffic["shared_phases"] > 1000 and traffic["shared_conflicts"] == 0
        assert traffic["global_bytes"] == 32 * traffic["global_sectors"] > 0


@emulated
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(dtype=torch.float32), "^q, k, v: the Hopper kernel serves bfloat16 and float16$"),
        (dict(width=96), "^q, k, v: head width 96; the Hopper kernel serves 64 and 128$"),
        (dict(scale=-1.0), "^q, k, v: scale -1.000000; the Hopper kernel serves positive ones$"),
        (dict(schedule=":sometimes"), "sometimes"),
    ],
)
def test_what_the_kernel_cannot_serve_is_one_clear_line(change, says):
    q = torch.zeros(5, 2, change.get("width", 64), dtype=change.get("dtype", torch.bfloat16))
    backend = f"emulated:hopper{change.get('schedule', '')}"
    with pytest.raises(MinglmError, match=says):
        masked_attention(q, q, q, GLMMask.packed([5], [2]), backend=backend, scale=change.get("scale"))


@emulated
def test_the_self_test_goes_round_the_ring(monkeypatch):
    assert attention.wrong_by("emulated:hopper", torch.bfloat16, "cpu") is None
    right = attention.BACKENDS["emulated"]

    def wrong_if_long(q, k, v, mask, *rest):
        return right(q, k, v.roll(1, 0) if max(mask.len_k) > 384 else v, mask, *rest)

    monkeypatch.setitem(attention.BACKENDS, "emulated", wrong_if_long)
    assert "out is off by" in attention.wrong_by("emulated:hopper", torch.bfloat16, "cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of compute capability 9.0 that is not there; .wrong is what its self-tests say, by backend."""
    gpu = SimpleNamespace(wrong={}, tested=[], capability=(9, 0))

    def wrong(dtype, device, head_dim, backend="kernel"):
        gpu.tested.append((backend, dtype, device, head_dim))
        return gpu.wrong.get(backend)

    built = SimpleNamespace(cuda_built=True, hopper_built=True)
    monkeypatch.setattr(ops, "_C", built)
    monkeypatch.setattr(hopper, "_C", built)
    monkeypatch.setattr(ops, "has_kernel", lambda device="cpu": (True, "compiled by nvcc"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: gpu.capability)
    monkeypatch.setattr(attention, "_wrong_on_cuda", wrong)
    return gpu


@both
@pytest.mark.parametrize("width", hopper.HOPPER_HEAD_DIMS)
def test_auto_takes_it_on_hopper_after_both_kernels_have_passed_their_tests(gpu, width, dtype):
    name, why = attention.best_backend(dtype, GPU, width)
    assert name == "kernel:hopper" and "passed its test" in why
    assert gpu.tested == [(backend, dtype, GPU, width) for backend in ("kernel", "kernel:hopper")]


def test_a_kernel_for_hopper_that_fails_its_test_leaves_the_one_before_it_and_one_line(gpu):
    gpu.wrong["kernel:hopper"] = "it failed its test against the reference: out is off by 0.3"
    name, why = attention.best_backend(torch.bfloat16, GPU, 64)
    assert name == "kernel" and why.endswith(f"without its rung for Hopper: {gpu.wrong['kernel:hopper']}")
    assert "\n" not in why
    gpu.wrong["kernel"] = "it failed its test"
    assert attention.best_backend(torch.bfloat16, GPU, 64)[0] == "sdpa"


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "built"),
    [
        (torch.bfloat16, 32, (9, 0), True),
        (torch.bfloat16, 96, (9, 0), True),
        (torch.bfloat16, 64, (8, 0), True),
        (torch.bfloat16, 64, (10, 0), True),
        (torch.bfloat16, 64, (9, 0), False),
    ],
)
def test_everything_else_stays_as_it_was(gpu, monkeypatch, dtype, width, capability, built):
    gpu.capability = capability
    monkeypatch.setattr(hopper._C, "hopper_built", built)
    assert attention.best_backend(dtype, GPU, width)[0] == "kernel"
    assert all(backend == "kernel" for backend, *_ in gpu.tested), "nothing else is even tried"
    assert hopper.why_no_hopper(dtype, GPU, width)


def test_a_rung_that_cannot_serve_a_gpu_is_one_clear_line(gpu):
    mask = GLMMask.packed([5], [2])
    with torch.device("meta"):
        q = torch.zeros(5, 2, 96, dtype=torch.bfloat16)

    class OnGpu(torch.Tensor):
        device = GPU

    q = q.as_subclass(OnGpu)
    with pytest.raises(MinglmError, match="^backend: 'kernel:hopper' cannot serve this: head width 96; it"):
        ops.kernel_problem(q, q, q, mask, "hopper")
    with pytest.raises(MinglmError, match="^backend: 'kernel:avx2' is a rung for CPUs; on cuda:0 it is"):
        ops.kernel_problem(q, q, q, mask, "avx2")


WRAPPERS = """
#include "hopper_device.h"
using namespace minglm;
using namespace minglm::cuda;
template <class T>
__device__ void products(float* out, const uint32_t* x, Matrix a, Matrix b) {
    float s[16][4], o[8][4], w[16][4];
    for (int i = 0; i < 64; ++i) s[i / 4][i % 4] = w[i / 4][i % 4] = o[i / 8][i % 4] = out[i];
    const uint32_t p[4] = {x[0], x[1], x[2], x[3]};
    start_products();
    multiply_group<T>(s, a, b, out[0] > 0);
    multiply_group_transposed<T>(o, p, b);
    multiply_group_transposed<T>(w, p, b);
    end_products();
    wait_products<1>();
    for (int i = 0; i < 64; ++i) out[i] = s[i / 4][i % 4] + o[i / 8][i % 4] + w[i / 4][i % 4];
}
extern "C" __global__ void both(float* out, const uint32_t* x, Matrix a, Matrix b) {
    products<bf16>(out, x, a, b);
    products<f16>(out, x, a, b);
    uint64_t* barrier = reinterpret_cast<uint64_t*>(shared_memory());
    fewer_registers<40>();
    more_registers<232>();
    publish_copies();
    barrier_init(barrier, 4);
    barrier_arrive(barrier);
    barrier_wait(barrier, 1);
    if (barrier_done(barrier, 1)) out[0] = 1;
    group_sync(3, 128);
    group_arrive(2, 256);
}
"""


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc on the PATH; '.[cuda-compiler]' brings one")
def test_the_instructions_that_the_emulator_replaces_are_the_documented_ones(tmp_path):
    """The emulator does not run the PTX of hopper_device.h, so this test reads it, with its last operands."""
    need_compiler("g++")  # nvcc calls it
    (tmp_path / "wrappers.cu").write_text(WRAPPERS)
    flags = ["-std=c++17", "-ptx", "-arch=sm_90a", f"-I{ROOT / 'csrc' / 'cuda'}"]
    subprocess.run(["nvcc", *flags, tmp_path / "wrappers.cu", "-o", tmp_path / "out.ptx"], check=True)
    text = (tmp_path / "out.ptx").read_text()
    for kind in ("bf16", "f16"):
        name = rf"wgmma\.mma_async\.sync\.aligned\.m64n%sk16\.f32\.{kind}\.{kind} \{{([^}}]*)\}}, "
        a_b = re.findall(name % 128 + r"%rd\d+, %rd\d+, p, 1, 1, 0, 0;", text)
        assert [len(set(d.split(", "))) for d in a_b] == [64], "a and b: rows of k numbers"
        for n in (64, 128):
            found = re.findall(name % n + r"\{%r\d+, %r\d+, %r\d+, %r\d+\}, %rd\d+, 1, 1, 1, 1;", text)
            assert [len(set(d.split(", "))) for d in found] == [n // 2], "b: rows of n numbers"
    for line in (
        "wgmma.fence.sync.aligned;",
        "wgmma.commit_group.sync.aligned;",
        "wgmma.wait_group.sync.aligned 1;",
        "fence.proxy.async.shared::cta;",
        "setmaxnreg.dec.sync.aligned.u32 40;",
        "setmaxnreg.inc.sync.aligned.u32 232;",
    ):
        assert line in text
    for pattern in (
        r"mbarrier\.init\.shared::cta\.b64 \[%r\d+\], %r\d+;",
        r"mbarrier\.arrive\.shared::cta\.b64 _, \[%r\d+\];",
        r"mbarrier\.try_wait\.parity\.shared::cta\.b64 p, \[%r\d+\], %r\d+;",
        r"mbarrier\.test_wait\.parity\.shared::cta\.b64 p, \[%r\d+\], %r\d+;",
        r"bar\.sync %r\d+, %r\d+;",
        r"bar\.arrive %r\d+, %r\d+;",
    ):
        assert re.search(pattern, text), pattern
