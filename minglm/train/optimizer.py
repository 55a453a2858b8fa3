"""Muon: a matrix moves by an orthogonal step (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

A gradient of a matrix has few large singular values, and a step along it moves little else. Muon sets all of them to about 1,
so that a step moves in every direction alike. It suits the matrices of the layers; tables and vectors stay with AdamW.
PyTorch's own torch.optim.Muon is newer than the oldest PyTorch that minglm runs on, and always orthogonalises in bfloat16.
"""

import math

import torch


def orthogonalised(matrix, dtype=torch.float32):
    """The matrix with all its singular values brought to about 1 (0.7 to 1.2): (A, B) -> (A, B).

    Five steps of Newton and Schulz, X -> a X + b (X X^T) X + c (X X^T)^2 X, act on each singular value alone: s becomes
    a s + b s^3 + c s^5. Coefficients of the authors; dtype: of the products.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the smaller square is cheaper
    x = x / x.norm().clamp(min=1e-7)  # no singular value is above 1
    for _ in range(5):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for matrices: p -= lr * (weight_decay * p + 0.2 * sqrt(longer side) * orthogonalised(gradients)).

    The factor makes a step as large as AdamW's, entry by entry (Liu et al. 2025, arXiv 2502.16982), so that one learning rate
    suits both. The gradients are an average over steps that remembers `momentum` of itself, taken one step ahead (Nesterov).
    dtype: of the orthogonalisation; bfloat16 where the hardware is fast at it.
    """

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1, dtype=torch.float32):
        self.dtype = dtype
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, **{name: group[name] for name in ("lr", "momentum", "weight_decay")})

    def move(self, p, lr, momentum, weight_decay):
        """One step of the matrix `p`, whose average gradient is in the optimiser's state."""
        average = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        average.lerp_(p.grad, 1 - momentum)
        step = orthogonalised(p.grad.lerp(average, momentum), self.dtype)
        p.mul_(1 - lr * weight_decay).add_(step, alpha=-lr * 0.2 * math.sqrt(max(p.shape)))


class Together:
    """Several optimisers, each for parameters of its own, as one."""

    def __init__(self, **optimisers):
        self.optimisers = optimisers

    @property
    def param_groups(self):
        return [group for optimiser in self.optimisers.values() for group in optimiser.param_groups]

    def step(self):
        for optimiser in self.optimisers.values():
            optimiser.step()

    def zero_grad(self, set_to_none=True):
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none)

    def state_dict(self):
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state):
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
