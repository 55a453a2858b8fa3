"""AdamW, Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) and the learning rate.

The gradient of a matrix has few large singular values, and a step along it changes little else. Muon sets all
of them to about 1, so that a step moves equally in every direction. It suits the matrices of the layers;
tables and vectors stay with AdamW. PyTorch's own torch.optim.Muon is newer than the oldest PyTorch that
minglm supports, and always orthogonalises in bfloat16.
"""

import math

import torch

from .sharding import like


def orthogonalised(matrix, dtype=torch.float32):
    """The matrix with all its singular values brought to about 1 (0.7 to 1.2): (A, B) -> (A, B).

    Four Newton-Schulz steps, X -> P X with P = a + b X X^T + c (X X^T)^2, act on each singular value
    separately: s becomes a s + b s^3 + c s^5. The coefficients are the authors', who begin with values of
    which the squares sum to 1. Here the fourth powers do, so all begin larger, and one step less is needed.
    dtype: of the products.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x  # the smaller square is cheaper
    x = x / x.norm().clamp(min=1e-7)
    square = x @ x.T
    norm = square.norm().clamp(min=1e-14)
    x, square = x / norm.sqrt(), square / norm  # no singular value is above 1
    for step in range(4):
        square = x @ x.T if step else square
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for matrices: p -= lr * (weight_decay * p + 0.2 * sqrt(longer side) * orthogonalised(gradients)).

    The factor makes each entry of a step as large as AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one
    learning rate suits both. The gradients are a moving average with Nesterov `momentum`. dtype: of the
    orthogonalisation; bfloat16 on hardware that is fast at it.
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
        """Do one step of the matrix `p`, whose average gradient is in the optimiser's state."""
        average = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        average.lerp_(p.grad, 1 - momentum)
        step = p.grad.lerp(average, momentum)
        if hasattr(p, "full_tensor"):  # sharded: singular values are those of the whole matrix
            step = like(orthogonalised(step.full_tensor(), self.dtype), p)
        else:
            step = orthogonalised(step, self.dtype)
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


def learning_rate(step, t):
    """The rate of step 0, 1, ...: linear warm-up to the peak, then decay to min_lr_ratio of the peak.

    t: TrainConfig. The rate of the first step is above 0 (in the original it is 0).
    """
    warmup = int(t.warmup * t.steps)
    if step < warmup:
        return t.lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, t.steps - 1 - warmup))
    fall = (1 + math.cos(math.pi * progress)) / 2 if t.decay == "cosine" else 1 - progress
    return t.lr * (t.min_lr_ratio + (1 - t.min_lr_ratio) * fall)


def make_optimizer(model, t):
    """The optimiser of a TrainConfig: AdamW, or Muon for the matrices and AdamW for the rest."""
    tables, matrices, vectors = parameter_groups(model, t)
    if t.optimizer == "adamw":
        return make_adamw([tables, matrices, vectors], t)
    dtype = torch.bfloat16 if t.dtype == "bfloat16" else torch.float32  # no longer "auto" here
    muon = Muon([matrices | dict(lr_ratio=t.muon_lr_ratio)], t.lr, t.momentum, dtype=dtype)
    return Together(muon=muon, adamw=make_adamw([tables, vectors], t))


def make_adamw(groups, t):
    """AdamW for groups of parameters; t: settings with lr, beta1, beta2 and eps."""
    return torch.optim.AdamW(groups, lr=t.lr, betas=(t.beta1, t.beta2), eps=t.eps, fused=True)


def parameter_groups(model, t):
    """A model's (tables, matrices, vectors); vectors have no weight decay, tables do (as in the original).

    The tables may have a learning rate of their own: Adam moves every weight by about the rate, but a matrix
    adds up as many of these moves as the model is wide, and a table row none (Yang et al. 2022, arXiv
    2203.03466).
    """
    named = list(model.named_parameters())
    tables = [p for name, p in named if "embedding" in name]
    matrices = [p for name, p in named if p.dim() > 1 and "embedding" not in name]
    vectors = [p for _, p in named if p.dim() == 1]
    return (
        dict(params=tables, weight_decay=t.weight_decay, lr_ratio=t.table_lr_ratio),
        dict(params=matrices, weight_decay=t.weight_decay, lr_ratio=1.0),
        dict(params=vectors, weight_decay=0.0, lr_ratio=1.0),
    )
