"""Attention: every backend against loops written from the rule, at every edge case, and under wrong rules."""

import math
from contextlib import nullcontext
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from attention_cases import LAYOUTS, Sample, ignoring, mask_of, numbers
from hypothesis import given
from hypothesis import strategies as st

from minglm import attention, ops
from minglm.attention import masked_attention
from minglm.errors import MinglmError
from minglm.kernel import varlen
from minglm.mask import GLMMask

# sdpa takes the second on a CPU and the third elsewhere
IN_PYTHON = ("reference", "sdpa by sample", "sdpa padded")
RUNGS = {f"kernel:{name}": name for name in ops.rungs()}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def serves(path, dtype):
    """Whether a path computes a dtype; not all rungs of the kernel support all."""
    return path in IN_PYTHON or ops.serves(dtype, RUNGS[path])


PATHS = [path for path in (*IN_PYTHON, *RUNGS) if serves(path, torch.float32)]
every_path = pytest.mark.parametrize("path", PATHS)
# the kernel's rule cannot be replaced: see test_kernel.py
every_path_in_python = pytest.mark.parametrize("path", IN_PYTHON)


@st.composite
def a_sample(draw):
    len_k = draw(st.integers(0, 6))
    len_q = draw(st.sampled_from([len_k, draw(st.integers(0, 6))]))
    return Sample(len_q, len_k, draw(st.integers(0, len_k)), draw(st.sampled_from([0, 0, 2])))


batches = st.lists(a_sample(), max_size=4)

EDGES = {
    "no sample": [],
    "only empty samples": [Sample(0, 0, 0)] * 2,
    "empty samples among others": [
        Sample(0, 0, 0),
        Sample(5, 5, 3),
        Sample(0, 0, 0),
        Sample(2, 2, 1),
        Sample(0, 0, 0),
    ],
    "one row": [Sample(1, 1, 0)],
    "GPT": [Sample(6, 6, 0), Sample(3, 3, 0)],
    "BERT": [Sample(6, 6, 6), Sample(3, 3, 3)],
    "GLM": [Sample(7, 7, 4), Sample(5, 5, 2), Sample(4, 4, 3)],
    "one query, as when decoding": [Sample(1, 7, 4), Sample(1, 3, 3), Sample(1, 5, 0)],
    "only the last rows": [Sample(2, 7, 4), Sample(6, 7, 4), Sample(3, 3, 1)],
    "samples without queries": [Sample(0, 4, 2), Sample(3, 4, 2), Sample(0, 2, 2)],
    "no query at all": [Sample(0, 4, 2)],
    "more queries than keys": [Sample(7, 3, 2), Sample(5, 2, 0), Sample(4, 2, 2)],
    "queries without a key": [Sample(3, 0, 0), Sample(2, 2, 1)],
    "no key at all": [Sample(3, 0, 0), Sample(2, 0, 0)],
    "no key in a cache with room": [Sample(3, 0, 0, unused=4), Sample(1, 2, 1, unused=2)],
    "a cache with room": [Sample(1, 5, 3, unused=3), Sample(2, 4, 4, unused=1), Sample(2, 2, 0)],
    "one past a power of two": [Sample(17, 17, 9), Sample(33, 33, 16)],
}
every_edge = pytest.mark.parametrize("samples", EDGES.values(), ids=EDGES)


def by_the_rule(q, k, v, g, samples, scale):
    """Attention and its gradients in float64, one row of one head at a time.

    -> {"out", "dq", "dk", "dv"}, and the sizes of these numbers if nothing in their sums cancelled, to which
    rounding errors are proportional.
    """
    q, k, v, g = (x.double().numpy() for x in (q, k, v, g))
    truth = dict(out=np.zeros_like(q), dq=np.zeros_like(q), dk=np.zeros_like(k), dv=np.zeros_like(v))
    size = {name: np.zeros_like(x) for name, x in truth.items()}
    row = first = 0
    for s in samples:
        for r in range(s.len_q):
            i = s.len_k - s.len_q + r  # queries end with the last key
            keys = [first + j for j in range(s.len_k) if j < s.part_a or j <= i]
            for h in range(q.shape[1]) if keys else ():
                Q, K, V, G = q[row, h], k[keys, h], v[keys, h], g[row, h]
                scores = scale * K @ Q
                P = np.exp(scores - scores.max())
                P /= P.sum()
                truth["out"][row, h] = P @ V
                truth["dv"][keys, h] += np.outer(P, G)
                dP = V @ G
                dS = P * (dP - P @ dP)
                truth["dq"][row, h] = scale * dS @ K
                truth["dk"][keys, h] += scale * np.outer(dS, Q)

                # a score's rounding error is magnified by exp
                P = P * (1 + abs(scale) * (abs(K) @ abs(Q)).max())
                size["out"][row, h] = P @ abs(V)
                size["dv"][keys, h] += np.outer(P, abs(G))
                dP = abs(V) @ abs(G)
                dS = P * (dP + P @ dP)
                size["dq"][row, h] = abs(scale) * dS @ abs(K)
                size["dk"][keys, h] += abs(scale) * np.outer(dS, abs(Q))
            row += 1
        first += s.len_k + s.unused
    return truth, size


def attend(path, q, k, v, g, mask, **options):
    """The results of a path: {"out", "dq", "dk", "dv"} as tensors."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    patched = path == "sdpa padded"
    swap = (
        mock.patch.object(attention, "_sdpa_by_sample", attention._sdpa_padded) if patched else nullcontext()
    )
    with swap:
        out = masked_attention(q, k, v, mask, backend=path.split()[0], **options)
    assert out.shape == q.shape and out.dtype == q.dtype and out.device == q.device
    assert out.requires_grad, "the output is cut off from its inputs"
    grads = torch.autograd.grad(out, (q, k, v), g, allow_unused=True)
    grads = [torch.zeros_like(x) if d is None else d for d, x in zip(grads, (q, k, v), strict=True)]
    return dict(zip(("out", "dq", "dk", "dv"), (out.detach(), *grads), strict=True))


# The error allowed in units of rounding of the sizes above: twice the worst in 1,000 random batches
# (float32: reference 1.5, sdpa 3.0, kernel 2.0; bfloat16: 0.9, 0.7, 0.8; float64: 1.2, 2.5, 2.2).
ROUNDINGS = 6


def check(
    path, samples, heads=2, width=4, seed=0, dtype=torch.float32, scale=None, layout="plain", device="cpu"
):
    """Assert that a path's output and gradients agree with the loops, as closely as rounding allows."""
    q, k, v, g = numbers(samples, heads, width, seed, dtype)
    truth, size = by_the_rule(q, k, v, g, samples, 1 / math.sqrt(width) if scale is None else scale)
    q, k, v, g = (LAYOUTS[layout](x).to(device) for x in (q, k, v, g))
    got = attend(path, q, k, v, g, mask_of(samples), scale=scale)
    for name, x in got.items():
        x = x.cpu().double().numpy()
        assert np.isfinite(x).all(), f"{name} is not finite"
        allowed = ROUNDINGS * torch.finfo(dtype).eps * size[name]
        wrong = ~(abs(x - truth[name]) <= allowed)
        assert not wrong.any(), f"{name} of {path}: {wrong.sum()} of {wrong.size} numbers are off"
        assert (x[size[name] == 0] == 0).all(), f"{name}: what no attention reaches is not exactly 0"


# ---- agreement with the rule


@pytest.mark.parametrize(
    ("path", "dtype"), [(p, d) for p in (*IN_PYTHON, *RUNGS) for d in DTYPES if serves(p, d)], ids=str
)
@given(
    samples=batches,
    heads=st.integers(1, 3),
    width=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([None, 0.3, 1.0, 0.0, -0.7]),
    layout=st.sampled_from(list(LAYOUTS)),
)
def test_output_and_gradients_follow_the_rule(path, dtype, samples, heads, width, seed, scale, layout):
    if path in RUNGS and layout == "width first":
        layout = "heads first"  # the kernel refuses the other layout
    check(path, samples, heads, width, seed, dtype, scale, layout)


@every_path
@every_edge
def test_edges_follow_the_rule(path, samples):
    check(path, samples)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["reference", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gpu_follows_the_rule(backend, dtype):
    for samples in EDGES.values():
        check(backend, samples, width=8, dtype=dtype, device="cuda")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_what_they_claim_to_be(layout):
    x = torch.randn(5, 2, 4)
    assert torch.equal(LAYOUTS[layout](x), x) and LAYOUTS[layout](x).is_contiguous() == (layout == "plain")


@pytest.mark.parametrize(
    "samples", [EDGES["GLM"], EDGES["more queries than keys"]], ids=["GLM", "more queries"]
)
def test_gradients_of_the_reference_are_slopes_of_its_output(samples):
    q, k, v, _ = (x.double().requires_grad_() for x in numbers(samples, heads=1, width=2))
    mask = mask_of(samples)

    def output(q, k, v):
        return masked_attention(q, k, v, mask, backend="reference")

    assert torch.autograd.gradcheck(output, (q, k, v), fast_mode=True)


@every_path
def test_scale_is_one_over_the_root_of_the_width_unless_given(path):
    samples = EDGES["GLM"]
    q, k, v, g = numbers(samples, width=9)
    mask = mask_of(samples)
    assert torch.equal(
        attend(path, q, k, v, g, mask)["out"], attend(path, q, k, v, g, mask, scale=1 / 3)["out"]
    )
    assert not torch.equal(
        attend(path, q, k, v, g, mask)["out"], attend(path, q, k, v, g, mask, scale=0.5)["out"]
    )


@every_path
def test_a_row_that_sees_nothing_is_0_and_passes_no_gradient(path):
    samples = [Sample(5, 2, 0), Sample(2, 2, 1), Sample(2, 0, 0)]
    q, k, v, g = numbers(samples)
    got = attend(path, q, k, v, g, mask_of(samples))
    blind = [0, 1, 2, 7, 8]
    assert (got["out"][blind] == 0).all() and (got["dq"][blind] == 0).all()
    g[blind] *= 1e6  # the gradients of such rows must have no effect
    again = attend(path, q, k, v, g, mask_of(samples))
    assert all(torch.equal(got[name], again[name]) for name in got)


# ---- grouped-query attention


GROUPED = [*PATHS, *(["emulated"] if ops.has_emulator()[0] else [])]


@pytest.mark.parametrize("heads", [(4, 2), (6, 1), (3, 3)], ids=str)
@pytest.mark.parametrize("path", GROUPED)
def test_query_heads_that_share_a_key_head_follow_the_rule_with_that_head_repeated(path, heads):
    H, K = heads
    samples, width = [Sample(7, 7, 4), Sample(2, 6, 3)], 32
    q, _, _, g = numbers(samples, H, width)
    _, k, v, _ = numbers(samples, K, width, seed=1)
    repeated = [x.repeat_interleave(H // K, 1) for x in (k, v)]
    truth, size = by_the_rule(q, *repeated, g, samples, 1 / math.sqrt(width))
    for name in ("dk", "dv"):  # the gradients of a shared head add up
        truth[name], size[name] = (x[name].reshape(-1, K, H // K, width).sum(2) for x in (truth, size))
    got = attend(path, q, k, v, g, mask_of(samples))
    for name, x in got.items():
        assert x.shape == truth[name].shape
        error, allowed = abs(x.double().numpy() - truth[name]), ROUNDINGS * 2**-23 * size[name]
        assert (error <= allowed).all(), f"{name} of {path}"


@every_path
def test_the_wrong_group_would_be_noticed(path):
    """Query head h takes key head h // 2, not h % 2."""
    samples = [Sample(5, 5, 2)]
    q, k, v, g = numbers(samples, 4)
    got = attend(path, q, k[:, :2], v[:, :2], g, mask_of(samples))["out"]
    for order, same in (([0, 0, 1, 1], True), ([0, 1, 0, 1], False)):
        whole = attend(path, q, k[:, order], v[:, order], g, mask_of(samples))["out"]
        assert torch.allclose(got, whole, atol=1e-6) == same


# ---- PyTorch's FlashAttention


def by_documentation(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size):
    """What torch.nn.attention.varlen.varlen_attn says that it does, sample by sample, on a CPU."""
    outs = []
    samples = (x.split(cu.diff().tolist()) for x, cu in ((q, cu_q), (k, cu_k), (v, cu_k)))
    for qs, ks, vs in zip(*samples, strict=True):
        assert len(qs) <= max_q and len(ks) <= max_k
        offset = len(ks) - len(qs)  # the last query is aligned with the last key
        sees = torch.ones(len(qs), len(ks), dtype=torch.bool)
        sees = sees.tril(offset) if window_size == (-1, 0) else sees
        blind = ~sees.any(-1, keepdim=True)
        scores = (scale * torch.einsum("qhd,khd->hqk", qs, ks)).masked_fill(~sees & ~blind, -math.inf)
        outs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1).masked_fill(blind, 0), vs))
    return torch.cat(outs)


@pytest.mark.parametrize("name", [name for name in EDGES if not any(s.unused for s in EDGES[name])])
def test_two_calls_of_flash_attention_follow_the_rule(name, monkeypatch):
    """The GPU's function is replaced by one that does what its documentation says."""
    samples = EDGES[name]
    monkeypatch.setattr(varlen, "can_serve", lambda q, mask: mask.seqlens_k is None)
    monkeypatch.setattr(varlen, "_function", lambda: by_documentation)
    monkeypatch.setattr(attention, "_wrong_on_cuda", lambda *case: None)
    monkeypatch.setattr(attention, "_sdpa_by_sample", None)
    check("sdpa", samples, dtype=torch.float32)


def test_two_calls_are_for_16_bits_on_recent_gpus_and_pass_the_self_test_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    plain, cached = GLMMask.packed([4], [2]), GLMMask([0, 1], [0, 4], [2], [3])

    def serves(dtype=torch.bfloat16, width=64, mask=plain, device="cuda:0"):
        q = SimpleNamespace(dtype=dtype, shape=(4, 2, width), device=torch.device(device))
        return varlen.can_serve(q, mask)

    assert serves() and serves(torch.float16, 80) and serves(width=256)
    assert not serves(torch.float32) and not serves(width=36) and not serves(width=264)
    assert not serves(mask=cached) and not serves(device="cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not serves()
    monkeypatch.setattr(varlen, "_function", lambda: by_documentation)
    assert attention.wrong_by("varlen", torch.float32, "cpu") is None
    monkeypatch.setattr(varlen, "_function", lambda: lambda *a, **k: 1.5 * by_documentation(*a, **k))
    assert "out is off by 0.5" in attention.wrong_by("varlen", torch.float32, "cpu")


# ---- samples do not see each other


@every_path
@given(samples=batches, which=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_a_sample_does_not_notice_its_neighbours(path, samples, which, seed):
    samples = [*samples, Sample(4, 4, 2)]
    which %= len(samples)
    rows = slice(a := sum(s.len_q for s in samples[:which]), a + samples[which].len_q)
    keys = slice(
        a := sum(s.len_k + s.unused for s in samples[:which]),
        a + samples[which].len_k + samples[which].unused,
    )
    mine = dict(out=rows, dq=rows, dk=keys, dv=keys)

    ours, theirs = numbers(samples, seed=seed), numbers(samples, seed=seed + 1)
    together = attend(path, *ours, mask_of(samples))
    for x, y, where in zip(theirs, ours, (rows, keys, keys, rows), strict=True):
        x[where] = y[where]
    changed = attend(path, *theirs, mask_of(samples))
    for name, where in mine.items():
        assert torch.equal(together[name][where], changed[name][where]), f"{name} moved with the neighbours"

    dtype, near = (torch.float64, 1e-12) if serves(path, torch.float64) else (torch.float32, 1e-5)
    q, k, v, g = (x.to(dtype) for x in ours)
    together = attend(path, q, k, v, g, mask_of(samples))
    if samples[which].len_q:
        alone = attend(path, q[rows], k[keys], v[keys], g[rows], mask_of([samples[which]]))
        for name, where in mine.items():
            torch.testing.assert_close(together[name][where], alone[name], rtol=near, atol=near, msg=name)


@every_path
def test_a_key_that_a_row_cannot_see_can_change_without_moving_a_bit(path):
    samples = [Sample(6, 6, 3)]
    q, k, v, g = numbers(samples)
    before = attend(path, q, k, v, g, mask_of(samples))["out"]
    for j in range(6):
        k2, v2 = k.clone(), v.clone()
        k2[j] += 1
        v2[j] -= 1
        same = (attend(path, q, k2, v2, g, mask_of(samples))["out"] == before).all(-1).all(-1)
        assert same.tolist() == [not (j < 3 or j <= i) for i in range(6)]


@every_path
def test_a_mask_that_has_served_an_evaluation_can_be_trained_with(path):
    # The mask caches tensors; if created under inference_mode, they could not be saved for a backward pass.
    samples = [Sample(5, 3, 1), Sample(3, 3, 2), Sample(2, 2, 0)]
    q, k, v, g = numbers(samples)
    mask = mask_of(samples)
    padded = mock.patch.object(attention, "_sdpa_by_sample", attention._sdpa_padded)
    with torch.inference_mode(), padded if path == "sdpa padded" else nullcontext():
        masked_attention(q, k, v, mask, backend=path.split()[0])
    got, fresh = attend(path, q, k, v, g, mask), attend(path, q, k, v, g, mask_of(samples))
    assert all(torch.equal(got[name], fresh[name]) for name in got)


# ---- wrong rules are caught: the check above can fail


WRONG = [
    "Part A: all is causal",
    "the order of Part B: everything is seen",
    "the last key of Part A",
    "where Part A ends: one key more",
    "the row itself",
    "the present: the next row is seen",
    "Part B: only Part A is seen",
    "that queries stand at the end of the keys",
]


@every_path_in_python
@pytest.mark.parametrize("part", ["nothing", *WRONG])
def test_a_wrong_rule_is_caught(path, part, monkeypatch):
    monkeypatch.setattr(GLMMask, "visible_keys", ignoring(part))
    samples = [Sample(7, 7, 4), Sample(2, 6, 3), Sample(3, 3, 2)]
    if part == "nothing":
        return check(path, samples)
    with pytest.raises(AssertionError, match="numbers are off"):
        check(path, samples)


@every_path_in_python
def test_one_wrong_cell_is_caught(path, monkeypatch):
    right = GLMMask.visible_keys
    # either side of the end of Part A, and within Part B
    for row, by in ((0, -1), (3, +1), (4, -1), (5, +1)):

        def wrong(self, row=row, by=by):
            visible = right(self)
            visible[row] += by
            return visible

        monkeypatch.setattr(GLMMask, "visible_keys", wrong)
        with pytest.raises(AssertionError, match="numbers are off"):
            check(path, [Sample(7, 7, 4)])


# ---- arguments


def test_auto_is_the_best_backend_and_changes_nothing():
    samples = EDGES["GLM"]
    q, k, v, _ = numbers(samples)
    best, why = attention.best_backend()
    assert why and best.partition(":")[0] == next(name for name, usable, _ in attention.backends() if usable)
    auto, named = (masked_attention(q, k, v, mask_of(samples), backend=name) for name in ("auto", best))
    assert torch.equal(auto, named)


@pytest.mark.parametrize("backend", ["flash", "", "SDPA", None, "kernel:", "sdpa:avx2", ":"])
def test_an_unknown_backend_is_told_the_accepted_ones(backend):
    q, k, v, _ = numbers([Sample(2, 2, 1)])
    with pytest.raises(MinglmError, match=f"^backend: {backend!r} .*auto.*sdpa.*reference"):
        masked_attention(q, k, v, GLMMask.packed([2], [1]), backend=backend)


BAD_ARGUMENTS = {
    "a mask that is a grid": ("mask", dict(mask=torch.ones(3, 3, dtype=torch.bool))),
    "no mask": ("mask", dict(mask=None)),
    "a batch dimension": ("q, k, v", dict(q=torch.randn(1, 3, 2, 4))),
    "heads and width in one": ("q, k, v", dict(v=torch.randn(3, 8))),
    "k and v of different length": ("q, k, v", dict(v=torch.randn(4, 2, 4))),
    "heads in k that do not divide those of q": (
        "q, k, v",
        dict(q=torch.randn(3, 3, 4), k=torch.randn(3, 2, 4), v=torch.randn(3, 2, 4)),
    ),
    "more heads in k and v": ("q, k, v", dict(k=torch.randn(3, 4, 4), v=torch.randn(3, 4, 4))),
    "fewer heads in v than in k": ("q, k, v", dict(v=torch.randn(3, 1, 4))),
    "heads of no width": ("q, k, v", {name: torch.randn(3, 2, 0) for name in "qkv"}),
    "another width in q": ("q, k, v", dict(q=torch.randn(3, 2, 5))),
    "another dtype in v": ("q, k, v", dict(v=torch.randn(3, 2, 4, dtype=torch.float64))),
    "another device": ("q, k, v", dict(k=torch.randn(3, 2, 4, device="meta"))),
    "whole numbers": ("q, k, v", {name: torch.ones(3, 2, 4, dtype=torch.int64) for name in "qkv"}),
    "a row of q too many": ("q", dict(q=torch.randn(4, 2, 4))),
    "a row of k and v too few": ("k", dict(k=torch.randn(2, 2, 4), v=torch.randn(2, 2, 4))),
}


@pytest.mark.parametrize("backend", ["auto", "sdpa", "reference", *(["kernel"] if RUNGS else [])])
@pytest.mark.parametrize(("name", "change"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_an_argument_that_does_not_fit_is_named(backend, name, change):
    good = dict(zip("qkv", torch.randn(3, 3, 2, 4), strict=True), mask=GLMMask.packed([3], [1]))
    assert masked_attention(**good, backend=backend).shape == (3, 2, 4)
    with pytest.raises(MinglmError, match=f"^{name}: ") as error:
        masked_attention(**(good | change), backend=backend)
    assert "\n" not in str(error.value)
