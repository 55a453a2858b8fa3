"""The inputs of `minglm bench attention`: masks as in pretraining, and random numbers."""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from ..data.samples import cut_windows
from ..mask import GLMMask
from ..rng import Rng
from ..spans import sample_spans
from . import BOTH, FLOP, FORWARD


@dataclass(frozen=True, eq=False)
class Shape:
    """A mask and H heads of width D; kind: "mixture", "training" or "decoding" (forward only)."""

    name: str
    mask: GLMMask
    heads: int
    head_dim: int
    kind: str
    about: str

    @property
    def passes(self):
        """The passes to time: FORWARD and, except for decoding, BOTH."""
        return (FORWARD,) if self.kind == "decoding" else (FORWARD, BOTH)

    @property
    def pairs(self):
        """The number of visible pairs of query and key, in one head."""
        return int(self.mask.visible_keys().sum())

    def flop(self, step):
        """Return the useful work of a pass: FORWARD or BOTH."""
        return FLOP[step] * self.head_dim * self.heads * self.pairs

    def key_bytes(self, dtype):
        """Return the bytes of all keys and values."""
        return 2 * int(self.mask.len_k.sum()) * self.heads * self.head_dim * dtype.itemsize

    def as_json(self):
        """Return the shape as a dict of lists and numbers."""
        return dict(
            name=self.name,
            kind=self.kind,
            about=self.about,
            heads=self.heads,
            head_dim=self.head_dim,
            pairs=self.pairs,
            len_q=self.mask.len_q.tolist(),
            len_k=self.mask.len_k.tolist(),
            part_a_lens=self.mask.part_a_lens.tolist(),
        )


def mixture(name, most, blanked, *, heads=4, head_dim=64, kind="mixture", rows=4500, seed=0):
    """Return a Shape as in pretraining: documents of up to 4 windows, in windows of at most `most` tokens.

    blanked: 15 for token spans over 15 % of a text, 50 for a document span of 25 to 75 %.
    """
    rng, starts = Rng(seed, most), [0]
    while starts[-1] < 2 * rows:
        starts.append(starts[-1] + 1 + rng.integer(4 * most))
    lens, part_a_lens = [], []
    for text in cut_windows(starts, most).sample_tokens().tolist():
        objective = "token" if blanked == 15 else "document"
        spans = sample_spans(range(max(2, text)), objective, rng, document_ratio=(0.25, 0.75))
        part_a_lens.append(text + len(spans) - sum(span.end - span.start for span in spans))
        lens.append(text + 2 * len(spans))
        if sum(lens) >= rows:
            break
    spans = "token spans over 15 %" if blanked == 15 else "a document span of 25-75 %"
    about = f"windows of at most {most} tokens, {spans}"
    return Shape(name, GLMMask.packed(lens, part_a_lens), heads, head_dim, kind, about)


def packed():
    """Return a Shape of samples of very different lengths, with any Part A."""
    rng = Rng(0, 16, 512)
    lens = [16 + rng.integer(497) for _ in range(20)]
    mask = GLMMask.packed(lens, [rng.integer(n + 1) for n in lens])
    return Shape("packed", mask, 4, 64, "training", "lengths from 16 to 512, any Part A")


def long():
    """Return a Shape of one sample, too long for a dense mask."""
    mask = GLMMask.packed([16384], [8192])
    return Shape("long", mask, 2, 64, "training", "one sample")


def decode():
    """Return a Shape of one query per sample, as in a step of generation; K and V exceed a 32 MB cache."""
    rng = Rng(0, 512, 2048)
    lens = [512 + rng.integer(1537) for _ in range(16)]
    mask = GLMMask.packed(lens, [n // 2 for n in lens]).with_queries([1] * len(lens))
    return Shape("decode", mask, 8, 64, "decoding", "one query per sample, 512 to 2048 keys")


SHAPES = {
    "t256-a85": partial(mixture, "t256-a85", 256, 15),
    "t256-a50": partial(mixture, "t256-a50", 256, 50),
    "t512-a85": partial(mixture, "t512-a85", 512, 15),
    "t512-a50": partial(mixture, "t512-a50", 512, 50),
    "t2048-a85": partial(mixture, "t2048-a85", 2048, 15),
    "t2048-a50": partial(mixture, "t2048-a50", 2048, 50),
    "d32": partial(mixture, "d32", 512, 15, head_dim=32, kind="training"),
    "d128": partial(mixture, "d128", 512, 15, head_dim=128, kind="training"),
    "long": long,
    "decode": decode,
    "packed": packed,
}
QUICK = ("t512-a85", "decode")
FOR_GPUS = dict(heads=16, rows=65536)  # enough blocks for every multiprocessor, many times


def shape_of(make, device="cpu"):
    """Return a Shape of SHAPES; on a GPU those drawn as in pretraining have more rows and heads."""
    drawn = getattr(make, "func", None) is mixture
    return make(**(FOR_GPUS | make.keywords)) if drawn and device == "cuda" else make()


class Case(NamedTuple):
    """A shape with inputs: q, grad_out (Nq, H, D), k, v (Nk, H, D), all of one dtype."""

    shape: Shape
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad_out: torch.Tensor
    scale: float


def draw(shape, dtype, seed=0, device="cpu"):
    """Return a Case of normal numbers; q, k and v are views of one tensor if Nq == Nk, as in the model."""
    g = torch.Generator().manual_seed(seed)
    width = (shape.heads, shape.head_dim)
    queries, keys = int(shape.mask.cu_seqlens_q[-1]), int(shape.mask.cu_seqlens_k[-1])
    qkv = torch.randn(keys, 3, *width, generator=g).to(device, dtype)
    q, k, v = qkv.unbind(1)  # each (Nk, H, D)
    if queries != keys:
        q = torch.randn(queries, *width, generator=g).to(device, dtype)
    grad_out = torch.randn(queries, *width, generator=g).to(device, dtype)
    return Case(shape, q, k, v, grad_out, 1 / math.sqrt(shape.head_dim))
