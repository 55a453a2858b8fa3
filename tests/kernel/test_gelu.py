"""GELU by every rung: as exact as PyTorch's, with its gradients; PyTorch's own where no rung serves."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import hessian, vmap

from minglm import GLM, GLMConfig, build_example, ops, pack
from minglm.kernel import gelu as gelu_module
from minglm.kernel.gelu import gelu, reference
from minglm.spans import Span

pytestmark = pytest.mark.usefixtures("any_rung")
SERVED = [(rung, dtype) for rung in ops.rungs() for dtype in ops.DTYPES if ops.serves(dtype, rung)]
IDS = [f"{rung}-{str(dtype)[6:]}" for rung, dtype in SERVED]
needs_kernel = pytest.mark.skipif(not ops.rungs(), reason=ops.HOW)
# 16384 numbers are one piece of work; a vector holds up to 16
SIZES = (0, 1, 3, 15, 16, 17, 16384 + 5)


def value_and_slope(function, x, grad):
    x = x.detach().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, grad)[0]


def torchs(x):
    return F.gelu(x, approximate="tanh")


def numbers(n, dtype):
    """From -12 to 12 with everything between well covered, and incoming gradients."""
    generator = torch.Generator().manual_seed(n)
    x, grad = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return (3 * x).clamp(-12, 12).to(dtype), grad.to(dtype)


@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_the_formula_is_pytorchs(form):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(reference(x, form), F.gelu(x, approximate=form.replace("erf", "none")))
    assert torch.equal(gelu(x, form, "reference"), reference(x, form))
    example = torch.tensor([-1.0, 0, 1, 3])
    torch.testing.assert_close(gelu(example), torch.tensor([-0.1588, 0, 0.8412, 2.9964]), atol=5e-5, rtol=0)


@pytest.mark.parametrize(("rung", "dtype"), SERVED, ids=IDS)
def test_every_rung_is_as_exact_as_pytorch(rung, dtype):
    for n in SIZES:
        x, grad = numbers(n, dtype)
        truth = value_and_slope(torchs, x.double(), grad.double())
        found = value_and_slope(lambda x: gelu(x, backend=f"kernel:{rung}"), x, grad)
        # of a result: PyTorch's own worst is 2 of float32, 1.6 of its gradients, and half a unit of bfloat16
        fair = [
            2 * torch.finfo(dtype).eps * part.abs().clamp(min=0.5) for part in (x.double(), grad.double())
        ]
        fair[1] = fair[1] * x.double().abs().clamp(min=1) * (4 if dtype == torch.float64 else 1)
        for y, true, budget in zip(found, truth, fair, strict=True):
            assert y.dtype == dtype and y.shape == true.shape
            assert ((y.double() - true).abs() <= budget).all()


@pytest.mark.parametrize(("rung", "dtype"), SERVED, ids=IDS)
def test_far_from_zero_it_is_0_or_x_and_a_number_that_is_none_stays_none(rung, dtype):
    x = torch.tensor([-1e15, -300, -20, 20, 300, 1e15, torch.inf, torch.nan], dtype=dtype)
    y, slope = value_and_slope(lambda x: gelu(x, backend=f"kernel:{rung}"), x, torch.ones_like(x))
    assert y[:3].abs().max() < 1e-20 and torch.equal(y[3:7], x[3:7]) and y[7].isnan()
    assert slope[:3].abs().max() < 1e-20 and torch.equal(slope[3:6], torch.ones(3, dtype=dtype))
    assert slope[7].isnan()


@needs_kernel
def test_its_gradients_are_slopes_and_second_derivatives_are_pytorchs():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gelu(x, backend="kernel"), x)
    assert torch.autograd.gradgradcheck(lambda x: gelu(x, backend="kernel"), x)


@pytest.mark.parametrize(("rung", "dtype"), SERVED, ids=IDS)
def test_any_number_of_threads_gives_the_same_bits(rung, dtype):
    x, grad = numbers(40_000, dtype)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        results.append(value_and_slope(lambda x: gelu(x, backend=f"kernel:{rung}"), x, grad))
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))


def by_kernel(monkeypatch):
    """The list of rungs that are called from now on."""
    calls, run = [], gelu_module._run
    monkeypatch.setattr(gelu_module, "_run", lambda rung, *rest: calls.append(rung) or run(rung, *rest))
    return calls


WATCHED = {
    "torch.compile": lambda x: torch.compile(gelu, backend="aot_eager", fullgraph=True)(x),
    "vmap": lambda x: vmap(gelu)(x),
    "hessian": lambda x: hessian(lambda x: gelu(x).sum())(x[0]).diagonal(),
    "float64": lambda x: gelu(x.double()).float(),
    "float16": lambda x: gelu(x.half()).float(),
    "strides": lambda x: gelu(x.T).T,
    "sdpa": lambda x: gelu(x, backend="sdpa"),
    "emulated": lambda x: gelu(x, backend="emulated"),
    "erf": lambda x: gelu(x, "erf"),
}


@needs_kernel
@pytest.mark.parametrize("which", WATCHED)
def test_what_the_kernel_does_not_serve_is_pytorchs(which, monkeypatch):
    calls, x = by_kernel(monkeypatch), torch.linspace(-3, 3, 24).view(4, 6)
    found = WATCHED[which](x)
    expected = hessian(lambda x: torchs(x).sum())(x[0]).diagonal() if which == "hessian" else torchs(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-3 if which in ("float16", "erf") else 1e-6)
    assert not calls
    gelu(x)
    assert len(calls) == 1


@needs_kernel
def test_a_fake_tensor_gets_the_shape_of_the_output():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert gelu(mode.from_tensor(torch.zeros(3))).shape == (3,)


@needs_kernel
def test_minglm_kernel_and_the_backend_choose_its_rung(monkeypatch):
    calls, x = by_kernel(monkeypatch), torch.randn(3)
    gelu(x)
    gelu(x, backend="kernel:tiled")
    monkeypatch.setenv("MINGLM_KERNEL", "scalar")
    gelu(x)
    assert calls == [ops.BEST[torch.float32], "tiled", "scalar"]


@needs_kernel
def test_a_model_takes_it_with_attention_and_dropout_draws_the_same(monkeypatch):
    calls, results = by_kernel(monkeypatch), []
    batch = pack([build_example([*range(40, 60)], [Span(2, 5), Span(9, 11)], [1, 0])])
    torch.manual_seed(0)
    model = GLM(GLMConfig(64, 16, 2, 2, 32, dropout=0.3))
    for backend in ("auto", "sdpa", "reference"):
        model.backend = backend
        torch.manual_seed(1)
        loss = model.loss(batch)
        results.append([loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
        assert len(calls) == 4  # two layers, forward and backward, with the first backend only
    for name, other in (("sdpa", results[1]), ("reference", results[2])):
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6, msg=name)
    model.backend = "auto"
    with torch.inference_mode():
        model(batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask)
    assert len(calls) == 6
