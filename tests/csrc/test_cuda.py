"""The CUDA kernels on the emulator: against float64 at every edge of a tile, in all schedules; refusals.

csrc/tests/check_cuda.cpp tests the same kernels further, without torch; test_cuda_device.py uses a GPU.
"""

import contextlib
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from attention_cases import random_numbers
from conftest import ROOT, need_compiler
from cuda_cases import DTYPES, MASKS, assert_right, by_cuda, every_dtype, every_mask
from torch._subclasses.fake_tensor import FakeTensorMode

from minglm import GLM, GLMConfig, GLMMask, MinglmError, attention, masked_attention, ops
from minglm.kernel import lengths

emulated = pytest.mark.skipif(not ops.has_emulator()[0], reason=ops.has_emulator()[1])
built_for_cuda = pytest.mark.skipif(not (ops._C and ops._C.cuda_built), reason="built without nvcc")


@emulated
@every_dtype
@every_mask
def test_the_kernels_are_right_at_every_edge_of_a_tile(name, dtype):
    assert_right(random_numbers(MASKS[name], 2, 64, DTYPES[dtype]), MASKS[name])


@emulated
@every_dtype
def test_an_empty_batch_gives_empty_results(dtype):
    q, k, v, g = random_numbers(GLMMask.packed([], []), 2, 64, DTYPES[dtype])
    results = by_cuda(q, k, v, g, GLMMask.packed([], []))
    assert results.pop("lse").shape == (2, 0) and all(x.shape == (0, 2, 64) for x in results.values())


@emulated
@every_dtype
@pytest.mark.parametrize("width", [32, 96, 128])
def test_other_head_widths_are_right_too(width, dtype):
    for mask in (GLMMask.packed([65, 17, 130], [20, 17, 0]), MASKS["caches"]):
        assert_right(random_numbers(mask, 3, width, DTYPES[dtype]), mask)


@emulated
@every_dtype
def test_no_schedule_changes_a_bit(dtype):
    mask = GLMMask.packed([130, 20], [70, 3])
    numbers = random_numbers(mask, 1, 64, DTYPES[dtype])
    first = by_cuda(*numbers, mask)
    for schedule in ("reverse", *(f"pct:{seed}" for seed in range(4))):
        for name, x in by_cuda(*numbers, mask, schedule).items():
            assert x.equal(first[name]), f"{name} under {schedule}"


@emulated
def test_a_rule_that_is_wrong_by_one_key_is_noticed():
    right, wrong = GLMMask.packed([77], [38]), GLMMask.packed([77], [39])
    numbers = random_numbers(right, 1, 64, torch.bfloat16)
    with pytest.raises(AssertionError, match="off by"):
        assert_right(numbers, right, run=lambda q, k, v, g, mask: by_cuda(q, k, v, g, wrong))


@emulated
@pytest.mark.parametrize(
    ("dtype", "backend"), [*((dtype, "emulated") for dtype in DTYPES), ("bfloat16", "emulated:hopper")]
)
def test_keys_that_score_minus_infinity_get_no_weight_even_in_a_tile_without_a_mask(dtype, backend):
    mask = GLMMask.packed([300], [300])
    q, k, v, _ = random_numbers(mask, 1, 64, DTYPES[dtype])
    q[..., 0], k[..., 0] = 1, 0
    k[:150, :, 0] = -torch.inf  # the first tile of 64 or 128 keys, and a part of the next
    out = masked_attention(q, k, v, mask, backend=backend)
    expected = masked_attention(*(x.double() for x in (q, k, v)), mask, backend="reference")
    torch.testing.assert_close(out.double(), expected, atol=0.02, rtol=0.02)


@emulated
def test_shared_memory_has_no_bank_conflicts_and_whole_sectors_are_read_and_written():
    for width in ops.CUDA_HEAD_DIMS:
        # whole tiles, because a tile that sticks out reads the last row several times
        mask, few = GLMMask.packed([256, 128], [70, 128]), GLMMask([0, 16], [0, 256], [70])
        numbers, few_rows = (random_numbers(x, 2, width, torch.bfloat16) for x in (mask, few))
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        ops._C.count_traffic(True)
        try:
            by_cuda(*numbers, mask)
            masked_attention(*few_rows[:3], few, backend="emulated")
            traffic = ops._C.traffic()
        finally:
            ops._C.count_traffic(False)
            torch.set_num_threads(before)
        assert traffic["matrix_phases"] > 1000 and traffic["shared_phases"] > 1000
        assert traffic["matrix_conflicts"] == traffic["shared_conflicts"] == 0
        assert traffic["global_bytes"] == 32 * traffic["global_sectors"] > 0


@emulated
def test_a_small_model_trains_on_the_emulator_as_it_does_on_the_reference():
    losses = {}
    for backend in ("reference", "emulated"):
        torch.manual_seed(0)
        sizes = dict(vocab_size=50, hidden_size=64, num_layers=2, num_heads=2, max_positions=32)
        model = GLM(GLMConfig(**sizes, dropout=0.0))
        model.backend = backend
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        tokens, positions = torch.randint(50, (40,)), torch.arange(40) % 20
        mask = GLMMask.packed([20, 20], [12, 5])
        losses[backend] = []
        for _ in range(3):
            logits = model(tokens, positions, positions // 2, mask)
            loss = torch.nn.functional.cross_entropy(logits, tokens.roll(-1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[backend].append(loss.item())
    assert losses["reference"][2] < losses["reference"][0]
    assert losses["emulated"] == pytest.approx(losses["reference"], abs=1e-5)


@emulated
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            dict(dtype=torch.float64),
            "^q, k, v: torch.float64, .*all float32, bfloat16, float16 alike are acc",
        ),
        (dict(width=48), "^q, k, v: head width 48; the CUDA kernels serve 32, 64, 96 and 128$"),
        (dict(backend="emulated:sometimes"), "sometimes"),
        (dict(backend="emulated:"), "^backend: 'emulated:' is not one of "),
        (dict(shift=1), "^q, k, v: q: rows of heads that do not begin at multiples of 16 bytes$"),
    ],
)
def test_what_the_kernels_cannot_serve_is_one_clear_line(change, says):
    width, dtype, shift = change.get("width", 64), change.get("dtype", torch.bfloat16), change.get("shift", 0)
    q = torch.zeros(5 * 2 * width + 8, dtype=dtype)[shift : shift + 5 * 2 * width].view(5, 2, width)
    k = torch.zeros(5, 2, width, dtype=dtype)
    with pytest.raises(MinglmError, match=says):
        masked_attention(q, k, k, GLMMask.packed([5], [2]), backend=change.get("backend", "emulated"))


@emulated
def test_a_gradient_that_no_kernel_could_load_is_copied_first():
    mask = GLMMask.packed([17], [5])
    q, k, v, _ = (x.requires_grad_() for x in random_numbers(mask, 2, 32, torch.bfloat16))
    masked_attention(q, k, v, mask, backend="emulated").sum().backward()  # one number, expanded
    expected = [x.grad.clone() for x in (q, k, v)]
    for x in (q, k, v):
        x.grad = None
    out = masked_attention(q, k, v, mask, backend="emulated")
    out.backward(torch.ones(out.numel() + 1, dtype=out.dtype)[1:].view_as(out))  # begins at 2 bytes
    assert all(x.grad.equal(want) for x, want in zip((q, k, v), expected, strict=True))


@built_for_cuda
def test_without_a_driver_the_extension_loads_and_says_what_the_driver_says():
    count, why = ops._C.cuda_devices()
    if count:
        pytest.skip("there is a GPU")
    usable, reason = ops.has_kernel("cuda")
    assert not usable and why and reason == why
    assert ("kernel", False, reason) in attention.backends("cuda")
    assert attention.best_backend(torch.bfloat16, "cuda") == ("sdpa", f"PyTorch's own attention; {reason}")
    numbers = torch.zeros(1, 1, 64)
    lengths = torch.tensor([0, 1, 0], dtype=torch.int32)
    addresses = (lengths.data_ptr(), lengths.data_ptr(), lengths[2:].data_ptr(), 0)
    problem = ops._C.Problem(0, (1, 1, 64, 1, 1), addresses, (64,) * 6)
    rest = 1.0, *[numbers.data_ptr()] * 5, 1, 0
    with pytest.raises(RuntimeError, match="^CUDA: CUDA driver version is insufficient"):
        problem.cuda_forward(0, 0, 80, *rest)
    with pytest.raises(ValueError, match="compute capability 7.0; these kernels need 7.5"):
        problem.cuda_forward(0, 0, 70, *rest)


@built_for_cuda
def test_asking_for_gpus_breaks_no_graph():
    def shift(x):
        return x + 1 if ops.has_kernel("cuda")[0] else x - 1

    x = torch.zeros(3)
    assert torch.compile(shift, backend="eager", fullgraph=True)(x).equal(shift(x))


GPU = torch.device("cuda", 3)


class FakeStream(SimpleNamespace):
    """What a kernel needs of a stream, and what was asked of it."""

    def record_event(self):
        return f"event of {self.cuda_stream}"

    def wait_event(self, event):
        self.waits.append(event)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is not there: .stream is the current one, .entered the devices made current right now."""
    gpu = SimpleNamespace(stream=FakeStream(cuda_stream=1234, waits=[]), entered=[], capturing=False, sent=[])

    @contextlib.contextmanager
    def current(device):
        gpu.entered.append(device)
        yield
        gpu.entered.pop()

    def sent(row, device):
        gpu.sent.append(device)
        return Row(row)

    class Row(torch.Tensor):
        def record_stream(self, stream):
            gpu.stream.waits.append("its memory")

        def split(self, sizes):  # plain tensors, as on a GPU
            return self.as_subclass(torch.Tensor).split(sizes)

    monkeypatch.setattr(lengths, "sent", sent)
    monkeypatch.setattr(lengths, "_CAPTURED", [])
    monkeypatch.setattr(ops, "capability", lambda index: 90)
    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: gpu.stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: gpu.capturing)
    return gpu


@emulated
def test_a_gpu_gets_the_same_addresses_its_number_its_current_stream_and_its_capability(gpu, monkeypatch):
    mask = GLMMask.packed([33, 20], [10, 20])
    numbers = random_numbers(mask, 2, 64, torch.bfloat16)
    expected, calls = by_cuda(*numbers, mask), []

    class OnGpu(ops.Problem):
        def __init__(self, q, k, v, _lengths, rung):
            super().__init__(q, k, v, lengths.lengths_of(mask, GPU), rung)
            self.gpu = GPU
            self.native_forward, self.native_backward = map(self.fake, ("forward", "backward"))

        def fake(self, direction):
            native = getattr(self, f"native_{direction}")

            def run(device, stream, sm, *rest):
                calls.append((direction, device, stream, sm, *gpu.entered))
                return native("in-order", 1, *rest)

            return run

    monkeypatch.setattr(ops, "Problem", OnGpu)
    for _ in range(2):
        results = by_cuda(*numbers, mask, "reverse")
        assert all(results[name].equal(x) for name, x in expected.items())
    assert calls == [("forward", 3, 1234, 90, GPU), ("backward", 3, 1234, 90, GPU)] * 2 and not gpu.entered
    assert gpu.sent == [GPU], "the lengths are copied once per mask"


def test_lengths_made_on_one_stream_are_waited_for_and_kept_for_another(gpu):
    mask = GLMMask([0, 3, 4], [0, 5, 9], [2, 0], [4, 3])
    made = lengths.lengths_of(mask, GPU)
    assert all(x.equal(y) for x, y in zip(made.tensors, lengths.host_lengths(mask), strict=True))
    assert made.addresses == tuple(x.data_ptr() for x in made.tensors)
    made.reach(gpu.stream)
    assert gpu.stream.waits == [], "the stream that made them need not wait"
    gpu.stream = FakeStream(cuda_stream=77, waits=[])
    assert lengths.lengths_of(mask, GPU) is made
    made.reach(gpu.stream)
    assert gpu.stream.waits == ["event of 1234", "its memory"]


def test_a_captured_graph_keeps_the_lengths_that_it_reads_and_makes_none(gpu):
    mask = GLMMask.packed([3], [1])
    gpu.capturing = True
    with pytest.raises(MinglmError, match="^mask: a CUDA graph is being captured.*once before$"):
        lengths.lengths_of(mask, GPU)
    gpu.capturing = False
    made = lengths.lengths_of(mask, GPU)
    gpu.capturing, gpu.stream = True, FakeStream(cuda_stream=77, waits=[])
    made.reach(gpu.stream)
    assert lengths._CAPTURED == [made] and gpu.stream.waits == []  # events of other streams are illegal here


def capable(monkeypatch):
    """Make "auto" believe in a GPU with a kernel that has passed its test."""
    here = ops.constant_when_compiled(lambda device="cpu": (True, "compiled by nvcc"))
    monkeypatch.setattr(ops, "has_kernel", here)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(attention, "_wrong_on_cuda", lambda *case: None)


@emulated
@pytest.mark.parametrize("backend", ["auto", "kernel"])
def test_a_model_compiled_for_a_gpu_is_one_graph_that_copies_the_lengths_once(monkeypatch, backend):
    """Traced with fake CUDA tensors: without a GPU they have shapes, strides and a device, but no memory."""
    capable(monkeypatch)
    graphs = []

    def layers(x, mask):
        for _ in range(3):
            x = x + masked_attention(*x.unbind(1), mask, backend=backend).unsqueeze(1)
        return x

    def keep(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op.startswith("call")])
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(layers, fullgraph=True, backend=keep)
    for lens in ([5, 3], [6, 1, 4]):
        mask = GLMMask.packed(lens, [2] + [0] * (len(lens) - 1))
        with FakeTensorMode(allow_non_fake_inputs=True):
            x = torch.empty(sum(lens), 3, 2, 64, device=GPU, dtype=torch.bfloat16)
            for _ in range(2):
                assert compiled(x, mask).device == GPU
    for calls, copies in zip(graphs, (1, 0, 1), strict=False):
        assert sum("_attention_forward" in name for name in calls) == 3 and calls.count("to") == copies


@emulated
def test_a_traced_graph_copies_rows_that_begin_between_16_bytes():
    """While it is traced a tensor has no address; in eager mode "auto" sends such rows to PyTorch."""
    mask = GLMMask.packed([17], [5])
    numbers = random_numbers(mask, 2, 32, torch.bfloat16)
    shifted = [torch.cat([x.flatten()[:1], x.flatten()])[1:].view_as(x) for x in numbers]
    rest = *lengths.host_lengths(mask), 17, 17, 0.2, "emulated:in-order"
    results = []
    for q, k, v, g in (numbers, shifted):
        assert ops.cuda_can_load(q) == (q is not shifted[0])
        out, lse = torch.ops.minglm._attention_forward(q, k, v, *rest)
        results.append((out, *torch.ops.minglm._attention_backward(g, q, k, v, out, lse, *rest)))
    assert all(map(torch.equal, *results))


@emulated
def test_the_self_test_finds_a_kernel_that_is_wrong(monkeypatch):
    for dtype in DTYPES.values():
        assert attention.wrong_by("emulated", dtype, "cpu") is None
    right = attention.BACKENDS["emulated"]

    def wrong(q, k, v, *rest):
        return right(q, k, v.roll(1, 0), *rest)

    monkeypatch.setitem(attention.BACKENDS, "emulated", wrong)
    why = attention.wrong_by("emulated", torch.bfloat16, "cpu")
    assert "it failed its test against the reference: out is off by" in why

    def wrong_if_few(q, k, v, *rest):
        return right(q, k, v.roll(1, 0) if len(q) < len(k) else v, *rest)

    def wrong_if_shared(q, k, v, *rest):  # by several blocks
        return right(q, k, v.roll(1, 0) if len(k) >= 1024 else v, *rest)

    for wrong in (wrong_if_few, wrong_if_shared):
        monkeypatch.setitem(attention.BACKENDS, "emulated", wrong)
        assert "out is off by" in attention.wrong_by("emulated", torch.bfloat16, "cpu")
    monkeypatch.setitem(attention.BACKENDS, "emulated", lambda *rest: 1 / 0)
    why = attention.wrong_by("emulated", torch.bfloat16, "cpu")
    assert why == "it failed its test: ZeroDivisionError: division by zero"


@emulated
@pytest.mark.parametrize("width", [32, 96])
def test_the_self_test_passes_whatever_mode_the_first_attention_of_a_process_runs_in(width):
    """As in `fill`, whose first attention runs in inference mode: a test that fails is remembered."""
    with torch.inference_mode(), torch.autocast("cpu", torch.float16), torch.device("meta"):
        assert attention.wrong_by("emulated", torch.bfloat16, "cpu", width) is None


def test_the_self_test_of_a_gpu_is_of_the_dtype_and_the_width_that_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(attention, "_wrong_on_cuda", lambda *case: asked.append(case))
    gpu = torch.device("cuda", 0)
    for dtype, width in ((torch.bfloat16, 64), (torch.float16, 128)):
        assert attention._serves_on_cuda(dtype, gpu, width)[0]
    assert asked == [(torch.bfloat16, gpu, 64), (torch.float16, gpu, 128)]


WRAPPERS = """
#include "device.h"
using namespace minglm;
using namespace minglm::cuda;
extern "C" __global__ void packs(uint32_t* out, float first, float second) {
    out[0] = pack<bf16>(first, second);
    out[1] = pack<f16>(first, second);
}
extern "C" __global__ void products(float* d, const uint32_t* x) {
    const uint32_t a[4] = {x[0], x[1], x[2], x[3]}, b[2] = {x[4], x[5]};
    float c[4] = {d[0], d[1], d[2], d[3]}, e[4] = {d[4], d[5], d[6], d[7]};
    multiply_add<bf16>(c, a, b);
    multiply_add<f16>(e, a, b);
    for (int i = 0; i < 4; ++i) d[i] = c[i], d[4 + i] = e[i];
}
extern "C" __global__ void loads(uint32_t* out, const void* global) {
    unsigned char* shared = shared_memory();
    copy16_async(shared, global);
    commit_copies();
    wait_copies<1>();
    uint32_t r[4], s[4];
    load_matrices(r, shared);
    load_matrices_transposed(s, shared);
    for (int i = 0; i < 4; ++i) out[i] = r[i], out[4 + i] = s[i];
    out[8] = __float_as_uint(exp2_fast(__uint_as_float(out[9])));
}
"""


NO_NVCC = "no nvcc on the PATH; pip install -e '.[cuda-compiler]' brings one"


@pytest.mark.skipif(not shutil.which("nvcc"), reason=NO_NVCC)
def test_the_instructions_that_the_emulator_replaces_are_the_documented_ones(tmp_path):
    """The emulator does not run the PTX of device.h, so this test reads it, with the order of operands."""
    need_compiler("g++")  # nvcc calls it
    (tmp_path / "wrappers.cu").write_text(WRAPPERS)
    cuda = ROOT / "csrc" / "cuda"
    flags = ["-std=c++17", "-ptx", "-arch=sm_80", f"-I{cuda}"]
    subprocess.run(["nvcc", *flags, tmp_path / "wrappers.cu", "-o", tmp_path / "out.ptx"], check=True)
    text = (tmp_path / "out.ptx").read_text()
    loaded = dict(re.findall(r"ld\.param\.[bf]32\s+(%\w+), \[packs_param_([12])\]", text))
    first, second = sorted(loaded, key=loaded.get)
    for kind in ("bf16x2", "f16x2"):  # PTX puts its first source into the upper half
        assert re.search(rf"cvt\.rn\.{kind}\.f32 %r\d+, {second}, {first};", text)

    body = text[text.index("products(") :]
    x = re.findall(r"ld\.global\.[bu]32\s+(%r\d+), \[%rd\d+(?:\+\d+)?\];", body)[:6]
    assert len(x) == 6
    four = r"\{(%[fr]\d+), (%[fr]\d+), (%[fr]\d+), (%[fr]\d+)\}"
    two = r"\{(%r\d+), (%r\d+)\}"
    for kind in ("bf16", "f16"):
        name = rf"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.{kind}\.{kind}\.f32"
        match = re.search(rf"{name} {four}, {four}, {two}, {four};", text)
        assert match, kind
        operands = match.groups()
        assert list(operands[4:10]) == x, "a, then b, in the order of their registers"
        assert len(set(operands[:4])) == 4 and len(set(operands[10:])) == 4

    assert re.search(r"cp\.async\.cg\.shared\.global\.L2::128B \[%r\d+\], \[%rd\d+\], 16;", text)
    assert "cp.async.commit_group;" in text and "cp.async.wait_group 1;" in text
    for transposed in ("", "trans."):
        name = rf"ldmatrix\.sync\.aligned\.m8n8\.x4\.{transposed}shared\.b16"
        assert re.search(rf"{name} {four}, \[%r\d+\];", text)
    assert "ex2.approx.ftz.f32" in text
