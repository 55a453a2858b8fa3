"""Attention under torch.func, forward-mode autograd, and with a learned scale: the same in every backend."""

import math

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from minglm import GLM, GLMConfig, GLMMask, MinglmError, build_example, masked_attention, pack
from minglm.ops import has_emulator, has_kernel

pytestmark = pytest.mark.usefixtures("any_rung")

MASK = GLMMask.packed([12, 8], [5, 3])
BACKENDS = ["reference", "sdpa", "auto", *["kernel"] * has_kernel()[0]]


QKV = torch.randn(3, 20, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def inputs():
    return QKV.clone()


def total(q, backend, mask=MASK):
    return masked_attention(q, QKV[1], QKV[2], mask, backend=backend).pow(2).sum()


TRANSFORMS = {
    "grad": lambda f, q: grad(f)(q),
    "vmap": lambda f, q: vmap(f)(torch.stack([q, 2 * q])),
    "gradients per sample": lambda f, q: vmap(grad(f))(torch.stack([q, 2 * q])),
    "jvp": lambda f, q: jvp(f, (q,), (q.cos(),))[1],
    "jacrev": lambda f, q: jacrev(f)(q),
    "jacfwd": lambda f, q: jacfwd(f)(q),
    "hessian": lambda f, q: hessian(f)(q),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_auto_serves_every_transform_as_the_reference_does(transform):
    q, mask = inputs()[0], GLMMask.packed([12, 8], [5, 3])
    found, expected = (
        TRANSFORMS[transform](lambda x, b=b: total(x, b, mask), q) for b in ("auto", "reference")
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # what the mask has cached is still usable
    torch.testing.assert_close(total(q, "auto", mask), total(q, "reference"))
    torch.testing.assert_close(total(q, "sdpa", mask), total(q, "reference"))


def test_gradients_of_functions_are_those_of_backward():
    q = inputs()[0].requires_grad_()
    total(q, "auto").backward()
    torch.testing.assert_close(grad(lambda x: total(x, "auto"))(q.detach()), q.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("which", range(3))
def test_forward_gradients_are_not_lost(which):
    tensors, direction = list(inputs()), torch.ones(20, 2, 8, dtype=torch.float64)
    with forward_ad.dual_level():
        tensors[which] = forward_ad.make_dual(tensors[which], direction)
        found, expected = (
            forward_ad.unpack_dual(masked_attention(*tensors, MASK, backend=b)).tangent
            for b in ("auto", "reference")
        )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", [*["kernel"] * has_kernel()[0], *["emulated"] * has_emulator()[0]])
def test_a_kernel_that_is_asked_for_by_name_refuses_transforms_in_one_line(backend):
    q, k, v = inputs().float().repeat(1, 1, 1, 4)
    with pytest.raises(
        MinglmError, match="backend: the kernel serves no transforms of torch.func.*'reference' do"
    ):
        grad(lambda x: masked_attention(x, k, v, MASK, backend=backend).sum())(q)
    with forward_ad.dual_level(), pytest.raises(MinglmError, match="no forward-mode gradients"):
        masked_attention(q, forward_ad.make_dual(k, v), v, MASK, backend=backend)


def test_the_gradient_of_a_whole_model_by_torch_func_is_that_of_backward():
    torch.manual_seed(0)
    model = GLM(GLMConfig(40, 16, 2, 2, 16, dropout=0.0)).double()
    batch = pack([build_example(list(range(8, 20)), [(3, 6)], [0])] * 2)
    columns = (batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask, batch.target_rows)
    gradients = grad(lambda weights: functional_call(model, weights, columns).logsumexp(-1).mean())(
        dict(model.named_parameters())
    )
    model(*columns).logsumexp(-1).mean().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-9, atol=1e-12, msg=name)


# ---- scale


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scale_that_learns_gets_the_gradient_of_differences(backend, shape):
    q, k, v = inputs()

    def loss(scale):
        return masked_attention(q, k, v, MASK, scale=scale, backend=backend).pow(2).sum()

    scale = torch.full(shape, 0.4, dtype=torch.float64, requires_grad=True)
    out = loss(scale)
    out.backward()
    torch.testing.assert_close(out.detach(), loss(0.4), rtol=1e-10, atol=1e-12)
    expected = (loss(0.4 + 1e-5) - loss(0.4 - 1e-5)) / 2e-5
    assert scale.grad.shape == shape and float(scale.grad) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [math.nan, math.inf, "0.5", [0.5], torch.ones(2), torch.tensor(1)])
def test_a_scale_that_is_no_number_is_refused_in_every_backend(backend, scale):
    with pytest.raises(MinglmError, match="^scale: .*a tensor of one number"):
        masked_attention(*inputs(), MASK, scale=scale, backend=backend)
