"""The front door of attention: `masked_attention(q, k, v, mask)`, and the ways to compute it.

    reference   a few lines of PyTorch per sample with the dense mask: the truth, to be read in a minute
    sdpa        PyTorch's own scaled_dot_product_attention on a padded copy with a boolean mask

Every backend gives every argument the same meaning. Attention probabilities are never dropped.
"""

import math

import torch
import torch.nn.functional as F

from .errors import MinglmError
from .mask import GLMMask


def masked_attention(q, k, v, mask, *, scale=None, backend="auto"):
    """softmax(scale q k^T + mask) v for every sample of a packed batch, head by head.

    q: (Nq, H, D), k and v: (Nk, H, D), mask: GLMMask -> (Nq, H, D). scale is 1 / sqrt(D) unless given.
    A row that sees no key gives 0 and passes no gradient. backend: "auto", "sdpa" or "reference".
    Raises MinglmError when shapes, dtypes or the backend do not fit.
    """
    _check(q, k, v, mask)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if backend == "auto":
        backend = best_backend()[0]
    if backend not in BACKENDS:
        raise MinglmError(f"backend: {backend!r} is not one of {', '.join(['auto', *BACKENDS])}")
    return BACKENDS[backend](q, k, v, mask, scale)


def reference(q, k, v, mask, scale):
    """Attention as the paper writes it, one sample at a time (paper eq. of section 2.1; Vaswani et al. 2017, eq. 1)."""
    out = []
    visible = mask.visible_keys()
    for s in range(len(mask.part_a_lens)):
        rows = slice(int(mask.cu_seqlens_q[s]), int(mask.cu_seqlens_q[s + 1]))
        first = int(mask.cu_seqlens_k[s])
        keys = slice(first, first + int(mask.len_k[s]))
        may_attend = torch.arange(int(mask.len_k[s])) < visible[rows, None]  # (Tq, Tk)
        may_attend = may_attend.to(q.device)

        scores = scale * torch.einsum("qhd,khd->hqk", q[rows], k[keys])  # (H, Tq, Tk)
        scores = scores.masked_fill(~may_attend, -math.inf)
        # subtle: the softmax of a row of -inf is NaN, and so is its gradient; such a row gets finite scores, then weight 0
        blind = ~may_attend.any(-1, keepdim=True)  # (Tq, 1)
        weights = scores.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)
        out.append(torch.einsum("hqk,khd->qhd", weights, v[keys]))
    return torch.cat(out) if out else q * 0


def sdpa(q, k, v, mask, scale):
    """The same through PyTorch's scaled_dot_product_attention: one call a sample on a CPU, one padded call elsewhere.

    A CPU pays for every padded row and not for calls; a GPU pays for calls.
    """
    if len(q) == 0:
        return q * 0
    attend = _sdpa_by_sample if q.device.type == "cpu" else _sdpa_padded
    out = attend(q, k, v, mask, scale)
    blind = mask.remember("blind", lambda: mask.visible_keys() == 0)
    return out.masked_fill(blind.to(q.device)[:, None, None], 0) if blind.any() else out


def _sdpa_by_sample(q, k, v, mask, scale):
    grids = mask.remember("grids", lambda: _grids(mask))
    q, k, v = (
        x.split(cu.diff().tolist()) for x, cu in zip((q, k, v), (mask.cu_seqlens_q, *[mask.cu_seqlens_k] * 2), strict=True)
    )
    out = []
    for qs, ks, vs, may_attend in zip(q, k, v, grids, strict=True):
        keys = may_attend.shape[1]
        if keys == 0:
            out.append(qs * 0)
        elif len(qs):
            qs, ks, vs = (x.transpose(0, 1)[None] for x in (qs, ks[:keys], vs[:keys]))  # (1, H, T, D)
            out.append(F.scaled_dot_product_attention(qs, ks, vs, may_attend, scale=scale)[0].transpose(0, 1))
    return torch.cat(out)


def _sdpa_padded(q, k, v, mask, scale):
    samples, room_q, room_k = len(mask.part_a_lens), int(mask.len_q.max()), int(mask.len_k.max())
    if room_k == 0:
        return q * 0
    row_slot, keys, key_slot, grid = mask.remember(("padded", q.device), lambda: _padded(mask, room_q, room_k, q.device))

    def pad(x, slot, room):
        padded = x.new_zeros(samples * room, *x.shape[1:]).index_copy(0, slot, x)
        return padded.view(samples, room, *x.shape[1:]).transpose(1, 2)  # (S, H, room, D)

    if mask.seqlens_k is not None:  # a cache with room to grow: what lies in the room may be anything, NaN too
        k, v = k.index_select(0, keys), v.index_select(0, keys)
    q, k, v = pad(q, row_slot, room_q), pad(k, key_slot, room_k), pad(v, key_slot, room_k)
    out = F.scaled_dot_product_attention(q, k, v, grid, scale=scale)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, row_slot)


def _grids(mask):
    """For each sample: (len_q, len_k) bool, True = may attend; a row that sees nothing is given key 0, to be zeroed later."""
    visible = mask.visible_keys().clamp(min=1).split(mask.len_q.tolist())
    return [torch.arange(keys) < rows[:, None] for rows, keys in zip(visible, mask.len_k.tolist(), strict=True)]


def _padded(mask, room_q, room_k, device):
    """For a padded batch: where each row goes, which keys are read and where they go, and the mask (S, 1, room_q, room_k)."""
    grid = torch.zeros(len(mask.part_a_lens), 1, room_q, room_k, dtype=torch.bool)
    grid[..., 0] = True  # padded rows need something to see; what they compute is dropped
    for s, may_attend in enumerate(_grids(mask)):
        grid[s, 0, : may_attend.shape[0], : may_attend.shape[1]] = may_attend

    def runs(starts, lens):
        return torch.cat([torch.arange(start, start + n) for start, n in zip(starts, lens.tolist(), strict=True)]).to(device)

    rows = runs(range(0, len(grid) * room_q, room_q), mask.len_q)
    keys = runs(mask.cu_seqlens_k[:-1].tolist(), mask.len_k)
    return rows, keys, runs(range(0, len(grid) * room_k, room_k), mask.len_k), grid.to(device)


def _check(q, k, v, mask):
    if not isinstance(mask, GLMMask):
        raise MinglmError(f"mask: {type(mask).__name__}; a GLMMask is needed")
    if any(x.dim() != 3 for x in (q, k, v)) or k.shape != v.shape or q.shape[1:] != k.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise MinglmError(f"q, k, v: shapes {shapes}; (Nq, H, D), (Nk, H, D), (Nk, H, D) are needed")
    if not (q.dtype == k.dtype == v.dtype and q.device == k.device == v.device and q.is_floating_point()):
        kinds = ", ".join(f"{x.dtype} on {x.device}" for x in (q, k, v))
        raise MinglmError(f"q, k, v: {kinds}; one floating dtype on one device is needed")
    for name, x, cu in (("q", q, mask.cu_seqlens_q), ("k", k, mask.cu_seqlens_k)):
        if len(x) != cu[-1]:
            raise MinglmError(f"{name}: {len(x)} rows, but the mask has {int(cu[-1])}")


BACKENDS = {"sdpa": sdpa, "reference": reference}


def best_backend():
    """What "auto" takes here, and why, in one line for the banner."""
    return "sdpa", "PyTorch's own attention; no compiled kernel in this build"
