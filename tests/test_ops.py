"""The ops around the kernel: gradients, torch.compile, rungs, bad arguments, and no extension at all."""

import contextlib
import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from attention_cases import LAYOUTS, Sample, mask_of, numbers
from conftest import python
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from minglm import GLM, GLMConfig, attention, ops
from minglm.attention import masked_attention, parts_of
from minglm.errors import MinglmError
from minglm.kernel.lengths import host_lengths
from minglm.mask import GLMMask

pytestmark = pytest.mark.usefixtures("any_rung")
needs_kernel = pytest.mark.skipif(not ops.rungs(), reason=ops.HOW)
EVERYTHING = {  # blind rows, empty samples, suffixes, more queries than keys, a cache with unused slots
    "training": [Sample(5, 5, 3), Sample(0, 0, 0), Sample(3, 3, 0)],
    "suffixes": [Sample(2, 5, 3), Sample(0, 3, 1), Sample(1, 4, 4)],
    "blind rows": [Sample(4, 2, 0), Sample(3, 2, 1), Sample(2, 0, 0)],
    "a cache with room": [Sample(1, 4, 2, 2), Sample(2, 3, 0, 1)],
}
every_batch = pytest.mark.parametrize("samples", EVERYTHING.values(), ids=EVERYTHING)


def test_an_extension_that_is_required_is_there():
    # CI sets MINGLM_REQUIRE_EXT=1: then a missing extension must not cause skipped tests
    assert ops.rungs() or os.environ.get("MINGLM_REQUIRE_EXT") != "1", ops.HOW


COPY = """
import sys
sys.meta_path = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", "")]
import minglm.ops as ops
print(ops.HOW)
"""


@pytest.mark.parametrize("installed", [False, True])
def test_a_source_folder_without_the_kernel_says_so_in_one_line_where_an_installed_copy_has_it(
    tmp_path, installed
):
    source, other = tmp_path / "clone" / "minglm", tmp_path / "site-packages" / "minglm"
    left_out = shutil.ignore_patterns("_C.*", "_build_info.json", "box", "__pycache__")
    shutil.copytree(Path(ops.__file__).parent, source, ignore=left_out)
    if installed:
        other.mkdir(parents=True)
        (other / "_C.cpython-311-x86_64-linux-gnu.so").touch()
    path = os.pathsep.join(map(str, (source.parent, other.parent)))
    how = dict(env=os.environ | {"PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True)
    result = subprocess.run([sys.executable, "-P", "-c", COPY], **how)
    assert result.returncode == 0, result.stderr
    [how] = result.stdout.splitlines()
    notes = [line for line in result.stderr.splitlines() if "minglm: note: " in line]
    assert "pip install -e ." in how and "circular" not in how + result.stderr
    assert notes == ([f"minglm: note: {how}"] if installed else [])
    assert (str(source) in how and str(other) in how) is installed


def inputs(samples, dtype=torch.float64, width=3):
    """q, k, v as views of wider tensors, and the mask."""
    mask = mask_of(samples)
    q, k, v, _ = numbers(samples, width=width, dtype=dtype)
    return *(LAYOUTS["fused"](x.nan_to_num(0)) for x in (q, k, v)), mask


def op_arguments(q, k, v, mask, rung="scalar", scale=0.6):
    return q, k, v, *host_lengths(mask), mask.num_queries, mask.num_keys, scale, rung


# ---- gradients


@needs_kernel
@every_batch
def test_gradients_are_slopes_of_the_output(samples):
    *leaves, mask = inputs(samples)
    leaves = [x.detach().requires_grad_() for x in leaves]

    def output(q, k, v):
        return masked_attention(
            *(LAYOUTS["heads first"](x) for x in (q, k, v)), mask, backend="kernel:scalar"
        )

    assert torch.autograd.gradcheck(output, leaves)


@needs_kernel
def test_gradients_reach_a_fused_projection():
    qkv, mask = (
        torch.randn(8, 3, 2, 4, dtype=torch.float64, requires_grad=True),
        GLMMask.packed([5, 3], [2, 3]),
    )
    assert torch.autograd.gradcheck(lambda x: masked_attention(*x.unbind(1), mask, backend="kernel"), qkv)


@needs_kernel
@pytest.mark.parametrize(
    ("order", "copies"),
    [((0, 1, 2), False), ((1, 0, 2), True), ((0, 1, 1), True)],
    ids=["q k v", "k q v", "q k k"],
)
@pytest.mark.parametrize("mask", [GLMMask.packed([5, 3], [2, 3]), GLMMask([0, 8], [0, 8], [2], [6])], ids=str)
def test_the_gradient_of_a_fused_projection_is_what_the_kernel_wrote_if_it_wrote_it_in_this_order(
    mask, order, copies
):
    qkv, g = torch.randn(8, 3, 2, 4, requires_grad=True), torch.randn(8, 2, 4)
    written, grads = [], []
    for parts in (parts_of(qkv), qkv.unbind(1)):
        out = masked_attention(*(parts[i] for i in order), mask, backend="kernel")
        parts[0].register_hook(lambda x: written.append(x))
        grads.append(torch.autograd.grad(out, qkv, g)[0])
    assert torch.equal(*grads)
    assert (grads[0].data_ptr() != written[0].data_ptr()) == copies


@needs_kernel
@every_batch
def test_the_ops_keep_what_they_promise_to_pytorch(samples):
    *qkv, mask = inputs(samples)
    forward = op_arguments(*qkv, mask)
    out, lse = torch.ops.minglm._attention_forward(*forward)
    torch.library.opcheck(torch.ops.minglm._attention_forward, forward)
    torch.library.opcheck(
        torch.ops.minglm._attention_backward, (torch.randn_like(out), *qkv, out, lse, *forward[3:])
    )


class Watch(TorchDispatchMode):
    """Records the ops of minglm that run, and whether one of them was asked for a gradient."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op.namespace == "minglm":
            learned = any(isinstance(x, torch.Tensor) and x.requires_grad for x in args)
            self.calls.append((op.__name__.split(".")[0], torch.is_grad_enabled() and learned))
        return op(*args, **(kwargs or {}))


@needs_kernel
@pytest.mark.parametrize("learned", ["", "q", "k", "v", "qkv"])
def test_what_follows_the_ops_sees_them_and_none_is_asked_for_a_gradient_it_lacks(learned):
    # opcheck does not notice that an op has no gradient, so it must not be called where one is recorded
    *tensors, mask = inputs(EVERYTHING["training"], torch.float32)
    results = []
    for watch in (Watch(), contextlib.nullcontext()):
        leaves = [x.detach().requires_grad_(n in learned) for n, x in zip("qkv", tensors, strict=True)]
        with watch:
            out = masked_attention(*leaves, mask, backend="kernel")
            assert out.requires_grad == bool(learned)
            if learned:
                out.sum().backward()
        assert [x.grad is not None for x in leaves] == [name in learned for name in "qkv"]
        results.append([out.detach(), *(x.grad for x in leaves if x.grad is not None)])
        if isinstance(watch, Watch):
            names = ["_attention_forward", "_attention_backward"][: 2 if learned else 1]
            assert watch.calls == [(name, False) for name in names]
    assert all(map(torch.equal, *results)), "the op and the direct call differ"


@needs_kernel
def test_a_profiler_sees_the_op_and_a_fake_tensor_gets_the_shape_of_the_output():
    *qkv, mask = inputs(EVERYTHING["training"], torch.float32)
    masked_attention(*qkv, mask, backend="kernel")
    with torch.autograd.profiler.profile() as profile:
        masked_attention(*qkv, mask, backend="kernel")
    assert "minglm::_attention_forward" in {event.name for event in profile.function_events}
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(x) for x in qkv]
        assert masked_attention(*fake, mask, backend="kernel").shape == qkv[0].shape


@needs_kernel
def test_a_copied_mask_keeps_no_addresses_of_the_first():
    mask = GLMMask.packed([5, 3], [2, 3])
    q = torch.randn(8, 2, 8)
    expected = masked_attention(q, q, q, mask, backend="kernel")
    for copied in (copy.copy(mask), copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert not copied._memory and copied.num_queries == 8
        assert masked_attention(q, q, q, copied, backend="kernel").equal(expected)


@needs_kernel
def test_what_a_mask_has_served_is_checked_again_when_anything_changes(monkeypatch):
    """The mask remembers that some tensors fit; these ones, which differ in one thing, do not."""
    monkeypatch.setenv("MINGLM_KERNEL", "scalar")
    q, mask = torch.randn(4, 2, 8), GLMMask.packed([4], [2])
    wide = torch.randn(4, 2, 16)
    for good in (q, q.double(), wide[..., :8]):
        for _ in range(2):
            masked_attention(good, good, good, mask, backend="kernel")
    width_first = LAYOUTS["width first"](q)
    for bad in ((q[:3], q, q), (q, q[:3], q[:3]), (q, q, q.double()), (q, q, q[:, :1]), (q, width_first, q)):
        with pytest.raises(MinglmError, match="^(q|k|q, k, v): "):
            masked_attention(*bad, mask, backend="kernel")
    monkeypatch.setenv("MINGLM_KERNEL", "avx1024")
    with pytest.raises(MinglmError, match="^MINGLM_KERNEL=avx1024: "):
        masked_attention(q, q, q, mask, backend="kernel")


@needs_kernel
def test_a_second_derivative_is_refused_and_not_made_up():
    q, k, v, mask = inputs(EVERYTHING["training"])
    q.requires_grad_()
    with pytest.raises(MinglmError, match="^create_graph: .*no second derivatives"):
        torch.autograd.grad(masked_attention(q, k, v, mask, backend="kernel").sum(), q, create_graph=True)


@needs_kernel
def test_the_log_sum_exp_comes_on_request_and_has_no_gradient():
    q, k, v, mask = inputs(EVERYTHING["blind rows"])
    q.requires_grad_()
    out, lse = ops.kernel_attention(q, k, v, mask, 0.5, return_lse=True)
    assert lse.shape == (2, 9) and lse.dtype == torch.float64 and not lse.requires_grad
    assert (lse.isneginf() == (mask.visible_keys() == 0)).all()
    assert torch.autograd.grad(out.sum(), q)[0].isfinite().all()
    # the first of two samples' keys that row 4 sees is key 2, the only one
    row, scores = (4, 0.5 * q[4, 1].detach() @ k[2, 1])
    assert mask.visible_keys()[row] == 1 and torch.allclose(lse[1, row], scores)


@needs_kernel
@pytest.mark.parametrize("layout", ["expanded", "width first", "one number", "a slice of rows"])
def test_a_gradient_of_any_layout_is_understood(layout):
    q, k, v, mask = inputs(EVERYTHING["training"], torch.float32, width=8)
    g = {
        "expanded": torch.randn(8).expand(8, 2, 8),
        "width first": LAYOUTS["width first"](torch.randn(8, 2, 8)),
        "one number": torch.tensor(0.3).expand(8, 2, 8),
        "a slice of rows": torch.randn(16, 2, 8)[::2],
    }[layout]
    for rung in ops.rungs():
        leaf = q.detach().requires_grad_()
        grads = (
            [
                torch.autograd.grad(ops.kernel_attention(leaf, k, v, mask, 0.5, rung), leaf, x)[0]
                for x in (g, g.contiguous())
            ]
            if ops.serves(torch.float32, rung)
            else [g, g]
        )
        assert torch.equal(*grads)


@needs_kernel
def test_queries_may_come_from_another_tensor_than_keys():
    mask = GLMMask.packed([6, 4], [3, 1]).with_queries([2, 4])
    q = torch.randn(6, 2, 8, requires_grad=True)
    kv = torch.randn(10, 2, 2, 8, requires_grad=True)
    got, truth = (
        torch.autograd.grad(masked_attention(q, *kv.unbind(1), mask, backend=name).square().sum(), (q, kv))
        for name in ("kernel", "reference")
    )
    for x, y in zip(got, truth, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@needs_kernel
def test_autocast_gives_the_kernel_bfloat16():
    torch.manual_seed(0)
    model = GLM(
        GLMConfig(vocab_size=32, hidden_size=32, num_layers=2, num_heads=2, max_positions=16, dropout=0.0)
    )
    tokens, positions, mask = torch.arange(12), torch.arange(12), GLMMask.packed([12], [5])
    results = {}
    for model.backend in ("kernel", "reference"):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens, positions, torch.zeros_like(positions), mask)
        assert logits.dtype == torch.bfloat16
        model.zero_grad()
        logits.float().square().mean().backward()
        results[model.backend] = [logits.float().detach(), model.layers[0].qkv.weight.grad.clone()]
    for ours, theirs in zip(*results.values(), strict=True):
        assert float((ours - theirs).abs().max()) <= 0.02 * float(theirs.abs().max())


# ---- torch.compile


@needs_kernel
@pytest.mark.parametrize(("backend", "dynamic"), [("auto", None), ("auto", True), ("kernel:tiled", False)])
def test_a_compiled_model_holds_the_kernel_in_one_graph(backend, dynamic):
    # aot_eager is everything except the code generator; inductor would need a C++ compiler, and minutes
    def layer(x, mask):
        q, k, v = (2 * x).unbind(1)
        return masked_attention(q, k, v, mask, backend=backend).square()

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for lens in ([7, 0, 5], [9, 0, 5]):
        mask, x = GLMMask.packed(lens, [3, 0, 5]), torch.randn(sum(lens), 3, 2, 8, requires_grad=True)
        (got, got_grad), (want, want_grad) = (
            (out.detach(), torch.autograd.grad(out.sum(), x)[0])
            for out in (compiled(x, mask), layer(x, mask))
        )
        assert torch.equal(got, want) and torch.equal(got_grad, want_grad)


@needs_kernel
def test_a_compiled_graph_still_checks_the_numbers_of_rows():
    def layer(x, mask):
        return masked_attention(*x.unbind(1), mask, backend="kernel")

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with pytest.raises(MinglmError, match="^q: 8 rows, but the mask has 9$"):
        compiled(torch.randn(8, 3, 2, 8), GLMMask.packed([9], [3]))


# ---- which backend is used, and under which name


def served(backend, dtype=torch.float32, width=8):
    """The name that "auto" becomes, or the outcome of choosing `backend`."""
    q = torch.randn(4, 1, width).to(dtype)
    return masked_attention(q, q, q, GLMMask.packed([4], [2]), backend=backend)


@needs_kernel
def test_every_rung_of_this_machine_can_be_asked_for_by_name(monkeypatch):
    for name in ops.rungs():
        dtype = next(d for d in ops.DTYPES if ops.serves(d, name))
        by_name = served(f"kernel:{name}", dtype)
        monkeypatch.setenv("MINGLM_KERNEL", name)
        assert served("kernel", dtype).shape == by_name.shape
        assert attention.best_backend(dtype)[0] == f"kernel:{name}" and ops.choose_rung(dtype) == name
        chosen = {rung["name"]: rung["chosen_for"] for rung in attention.kernel_rungs()}
        assert ops.DTYPES[dtype] in chosen[name] and not any(
            dtypes for other, dtypes in chosen.items() if other != name
        )


@pytest.mark.parametrize(
    "name", ["avx1024", "neon" if sys.platform == "linux" and os.uname().machine == "x86_64" else "avx2"]
)
def test_a_rung_that_this_machine_lacks_is_an_error_that_names_those_it_has(name, monkeypatch):
    has = ", ".join(ops.rungs()) or "no rung"
    if ops.rungs():
        with pytest.raises(MinglmError, match=f"^backend: 'kernel:{name}': this machine has {has}$"):
            served(f"kernel:{name}")
    monkeypatch.setenv("MINGLM_KERNEL", name)
    for backend in ("auto", *(["kernel"] if ops.rungs() else [])):
        with pytest.raises(MinglmError, match=f"^MINGLM_KERNEL={name}: this machine has {has}"):
            served(backend)
    with pytest.raises(MinglmError, match=f"^MINGLM_KERNEL={name}: "):
        attention.best_backend()
    assert served("sdpa").shape == served("reference").shape  # other backends still work
    kernel, *others = attention.backends()
    assert kernel[:2] == ("kernel", False) and f"MINGLM_KERNEL={name}" in kernel[2]
    assert all(usable for name, usable, _ in others if name != "emulated")


@needs_kernel
def test_a_rung_that_lacks_the_dtype_says_so_and_auto_goes_on(monkeypatch):
    with pytest.raises(
        MinglmError, match="^q, k, v: torch.float64; the rung tiled of the kernel serves float32, bfloat16$"
    ):
        served("kernel:tiled", torch.float64)
    with pytest.raises(
        MinglmError, match="^q, k, v: torch.float16; the kernel serves float32, bfloat16, float64$"
    ):
        served("kernel", torch.float16)
    monkeypatch.setenv("MINGLM_KERNEL", "tiled")
    with pytest.raises(MinglmError, match="the rung tiled of the kernel serves"):
        served("kernel", torch.float64)
    assert attention.best_backend(torch.float16)[0] == "sdpa"


@needs_kernel
@pytest.mark.parametrize(
    ("dtype", "width", "takes", "why"),
    [
        (torch.float32, 64, "kernel:", "fastest"),
        (torch.bfloat16, 64, "kernel:", "fastest"),
        (torch.float32, 256, "kernel:", "fastest"),
        (torch.float32, 257, "sdpa", "up to a width of 256, not 257"),
        (torch.float16, 64, "sdpa", "does not serve torch.float16"),
        (torch.float64, 64, "sdpa", "slowest rung"),
    ],
    ids=str,
)
def test_auto_takes_the_kernel_wherever_it_serves(dtype, width, takes, why, monkeypatch):
    monkeypatch.delenv("MINGLM_KERNEL", raising=False)
    name, reason = attention.best_backend(dtype, "cpu", width)
    assert name.startswith(takes) and why in reason and "\n" not in reason
    if takes == "kernel:":
        assert name == f"kernel:{ops.choose_rung(dtype)}"
    called = []
    monkeypatch.setitem(attention.BACKENDS, takes.rstrip(":"), lambda *_: called.append(takes))
    served("auto", dtype, width)
    assert called == [takes]


@needs_kernel
def test_auto_leaves_to_sdpa_what_would_need_a_secret_copy(monkeypatch):
    q = LAYOUTS["width first"](torch.randn(4, 1, 8))
    mask = GLMMask.packed([4], [2])
    monkeypatch.setitem(attention.BACKENDS, "kernel", None)
    assert torch.equal(masked_attention(q, q, q, mask), masked_attention(q, q, q, mask, backend="sdpa"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_left_to_pytorch_as_long_as_there_is_no_kernel_for_it(monkeypatch):
    monkeypatch.setenv("MINGLM_KERNEL", "avx1024")  # a rung of the CPU, so without effect on a GPU
    name, why = attention.best_backend(torch.float32, "cuda")
    assert name == "sdpa" and (ops.HOW in why or "no kernel for cuda" in why or "driver" in why)
    assert attention.backends("cuda")[1:] and not ops.has_kernel("cuda")[0]


def test_backends_and_rungs_are_listed_with_reasons(monkeypatch):
    monkeypatch.delenv("MINGLM_KERNEL", raising=False)
    listed = attention.backends()
    assert [name for name, *_ in listed] == list(attention.BACKENDS)
    assert all(why and "\n" not in why for *_, why in listed)
    ladder = attention.kernel_rungs()
    assert [rung["name"] for rung in ladder] == list(ops.LADDER)
    for rung in ladder:
        assert rung["built"] or not (rung["supported"] or rung["chosen_for"])
    chosen = [dtype for rung in ladder for dtype in rung["chosen_for"]]
    assert sorted(chosen) == (sorted(ops.DTYPES.values()) if ops.rungs() else [])
    assert set(ops.RUNGS) <= set(ops.LADDER), "the ladder in ops.py lacks a rung of the extension"


# ---- arguments that do not fit: an error, never a crash


def raw(**changes):
    """Arguments of the raw op, valid except for the changes."""
    good = dict(q=torch.randn(6, 2, 8), k=torch.randn(6, 2, 8), v=torch.randn(6, 2, 8))
    good |= dict(
        cu_seqlens_q=ints(0, 4, 6), cu_seqlens_k=ints(0, 4, 6), part_a_lens=ints(2, 0), seqlens_k=None
    )
    return good | dict(queries=6, keys=6, scale=0.3, rung="tiled") | changes


def ints(*values, dtype=torch.int32):
    return torch.tensor(values, dtype=dtype)


def x(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


BAD = {
    "a batch dimension": ("q, k, v", dict(q=x(1, 6, 2, 8)), "(Nq, H, D)"),
    "no rows at all": ("q, k, v", dict(v=x(8)), "(Nq, H, D)"),
    "other heads": ("q, k, v", dict(q=x(6, 3, 8)), "(Nq, H, D)"),
    "k and v unlike": ("q, k, v", dict(v=x(5, 2, 8)), "(Nq, H, D)"),
    "mixed dtypes": ("q, k, v", dict(q=x(6, 2, 8, dtype=torch.bfloat16)), "alike"),
    "float16": (
        "q, k, v",
        {name: x(6, 2, 8, dtype=torch.float16) for name in "qkv"},
        "float32, bfloat16, float64",
    ),
    "whole numbers": (
        "q, k, v",
        {name: x(6, 2, 8, dtype=torch.int64) for name in "qkv"},
        "float32, bfloat16, float64",
    ),
    "heads too wide": (
        "q, k, v",
        {name: x(6, 2, 257) for name in "qkv"},
        "head width 257; the kernel accepts 1 to 256",
    ),
    "heads of no width": ("q, k, v", {name: x(6, 2, 0) for name in "qkv"}, "head width 0"),
    "q width first": ("q", dict(q=x(6, 8, 2).transpose(1, 2)), "the last one must be 1"),
    "k by twos": ("k", dict(k=x(6, 2, 16)[..., ::2]), "(32, 16, 2)"),
    "v expanded": ("v", dict(v=x(6, 2, 1).expand(6, 2, 8)), "(2, 1, 0)"),
    "long lengths": ("cu_seqlens_q", dict(cu_seqlens_q=ints(0, 4, 6, dtype=torch.int64)), "int32"),
    "lengths in floating point": ("part_a_lens", dict(part_a_lens=x(2)), "int32"),
    "lengths with holes": ("cu_seqlens_k", dict(cu_seqlens_k=ints(0, 9, 4, 9, 6)[::2]), "contiguous"),
    "lengths as a grid": ("part_a_lens", dict(part_a_lens=ints(2, 0)[None]), "row of 2"),
    "a length too few": ("cu_seqlens_q", dict(cu_seqlens_q=ints(0, 6)), "row of 3"),
    "no lengths": ("cu_seqlens_q", dict(cu_seqlens_q=ints()), "row of 3"),
    "rooms for other samples": ("seqlens_k", dict(seqlens_k=ints(4)), "row of 2"),
    "a start that is not 0": ("cu_seqlens_k", dict(cu_seqlens_k=ints(1, 4, 6)), "starts at 1; 0 is needed"),
    "lengths that fall": ("cu_seqlens_q", dict(cu_seqlens_q=ints(0, 7, 6)), "falls from 7 to 6 for sample 1"),
    "a negative end": ("cu_seqlens_q", dict(cu_seqlens_q=ints(0, -4, 6)), "falls from 0 to -4 for sample 0"),
    "more rows than q has": (
        "cu_seqlens_q",
        dict(cu_seqlens_q=ints(0, 4, 7)),
        "ends at 7, but there are 6 rows",
    ),
    "fewer keys than k has": (
        "cu_seqlens_k",
        dict(cu_seqlens_k=ints(0, 4, 5)),
        "ends at 5, but there are 6 rows",
    ),
    "Part A larger than the sample": (
        "part_a_lens",
        dict(part_a_lens=ints(2, 3)),
        "3 for sample 1; 0 to its keys, 2,",
    ),
    "a negative Part A": ("part_a_lens", dict(part_a_lens=ints(-1, 2)), "-1 for sample 0"),
    "Part A beyond the used keys": (
        "part_a_lens",
        dict(seqlens_k=ints(1, 2)),
        "2 for sample 0; 0 to its keys, 1,",
    ),
    "more keys used than there is room": ("seqlens_k", dict(seqlens_k=ints(2, 3)), "3 for sample 1; 0 to 2"),
    "a negative number of keys": ("seqlens_k", dict(seqlens_k=ints(4, -1)), "-1 for sample 1"),
    "a mask of other rows": ("q", dict(queries=7), "6 rows, but the mask has 7"),
    "a mask of other keys": ("k", dict(keys=5), "6 rows, but the mask has 5"),
    "an unknown rung": ("rung avx1024", dict(rung="avx1024"), "not in this build"),
}


@needs_kernel
@pytest.mark.parametrize(("name", "change", "says"), BAD.values(), ids=BAD)
def test_an_argument_that_does_not_fit_is_named(name, change, says):
    op = torch.ops.minglm._attention_forward
    out, lse = op(*raw().values())
    assert out.isfinite().all()
    with pytest.raises(MinglmError, match=f"^{name}\\b.*{re.escape(says)}") as error:
        op(*raw(**change).values())
    assert "\n" not in str(error.value)
    q, k, v, *rest = raw(**change).values()  # and backward checks again
    with pytest.raises(MinglmError, match=f"^{name}\\b"):
        torch.ops.minglm._attention_backward(
            q, q, k, v, q, x(q.shape[1] if q.dim() > 1 else 1, q.shape[0]), *rest
        )


@needs_kernel
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("grad_out", dict(grad_out=x(5, 2, 8))),
        ("grad_out", dict(grad_out=x(6, 2, 8, dtype=torch.float64))),
        ("out", dict(out=x(6, 2, 9))),
        ("lse", dict(lse=x(6, 2))),
        ("lse", dict(lse=x(2, 6, dtype=torch.float64))),
    ],
)
def test_what_backward_gets_must_fit_too(name, change):
    q, k, v, *rest = raw().values()
    good = dict(grad_out=x(6, 2, 8), q=q, k=k, v=v, out=x(6, 2, 8), lse=x(2, 6))
    torch.ops.minglm._attention_backward(*good.values(), *rest)
    with pytest.raises(MinglmError, match=f"^{name}: "):
        torch.ops.minglm._attention_backward(*(good | change).values(), *rest)


@needs_kernel
def test_tensors_of_a_device_without_a_kernel_are_refused():
    q, mask = torch.zeros(4, 1, 8, device="meta"), GLMMask.packed([4], [2])
    with pytest.raises(
        MinglmError, match="^backend: the kernel cannot serve tensors on meta: .*no kernel for meta$"
    ):
        masked_attention(q, q, q, mask, backend="kernel")


@needs_kernel
@pytest.mark.parametrize(("rows", "heads"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_compute_gives_nothing(rows, heads):
    for rung in ops.rungs():
        dtype = next(d for d in ops.DTYPES if ops.serves(d, rung))
        q, k, v = (torch.randn(rows, heads, 8, dtype=dtype, requires_grad=True) for _ in range(3))
        out = ops.kernel_attention(q, k, v, GLMMask.gpt([rows] if rows else []), 0.5, rung)
        out.sum().backward()
        assert out.shape == q.grad.shape == v.grad.shape == (rows, heads, 8)


# ---- without the extension

WITHOUT = """
import json, sys
sys.modules["minglm._C"] = None  # importing it is an ImportError from now on
import torch
import minglm
from minglm import attention, ops
q, mask = torch.randn(4, 1, 8, requires_grad=True), minglm.GLMMask.packed([4], [2])
minglm.masked_attention(q, q, q, mask).sum().backward()
messages, lens = [], mask.part_a_lens
for call in (lambda: minglm.masked_attention(q, q, q, mask, backend="kernel"),
             lambda: minglm.masked_attention(q, q, q, mask, backend="kernel:tiled"),
             lambda: torch.ops.minglm._attention_forward(q, q, q, *[lens] * 3, None, 4, 4, 1.0, "tiled")):
    try:
        call()
    except minglm.MinglmError as error:
        messages.append(str(error))
a = attention
print(json.dumps([messages, a.best_backend(), a.backends(), a.kernel_rungs(), ops.rungs(), ops.has_kernel()]))
"""


def test_everything_but_the_kernel_works_without_the_extension():
    done = python("-c", WITHOUT, env={"MINGLM_KERNEL": ""})
    assert done.returncode == 0, done.stderr
    messages, best, backends, ladder, rungs, (usable, why) = json.loads(done.stdout)
    assert len(messages) == 3 and all(line.startswith("backend: ") and why in line for line in messages)
    assert best[0] == "sdpa" and why in best[1]
    assert [name for name, serves, _ in backends if serves] == ["sdpa", "reference"] and backends[0][2] == why
    assert not usable and rungs == [] and not any(rung["built"] or rung["supported"] for rung in ladder)
