"""Attention by PyTorch's FlashAttention, for GPUs and shapes that the kernel does not serve: two calls.

The rows of Part A see Part A: no mask. The rows of Part B are the last ones of their sample, and each sees
one key more than the row before it: the causal mask, aligned to the last key.
"""

import torch
import torch.nn.functional as F

from .lengths import sent

DTYPES = (torch.float16, torch.bfloat16)
MAX_HEAD_DIM = 256


def can_serve(q, mask):
    """Whether PyTorch has this function and it takes such tensors: 16 bits, no cache, a recent GPU."""
    if q.dtype not in DTYPES or q.shape[-1] % 8 or q.shape[-1] > MAX_HEAD_DIM or mask.seqlens_k is not None:
        return False
    new_enough = q.device.type == "cuda" and torch.cuda.get_device_capability(q.device) >= (8, 0)
    return new_enough and _function() is not None


def _function():
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def attend(q, k, v, mask, scale):
    """softmax(scale q k^T + mask) v for a packed batch: q (Nq, H, D), k and v (Nk, H, D) -> (Nq, H, D)."""
    calls = mask.remember(("varlen", q.device), lambda: plan(mask, q.device))
    out = torch.zeros_like(q, memory_format=torch.contiguous_format)
    for rows, keys, lengths, window in calls:
        chosen = (k, v) if keys is None else (k.index_select(0, keys), v.index_select(0, keys))
        part = _function()(q.index_select(0, rows), *chosen, *lengths, scale=scale, window_size=window)
        out = out.index_copy(0, rows, part)
    return out


def plan(mask, device):
    """The calls of a mask: list of (rows, keys or None for all, (cu_q, cu_k, max_q, max_k), window)."""
    sample, i = mask.rows()
    part_a = mask.part_a_lens.long()
    in_a = i < part_a[sample]
    room = mask.cu_seqlens_k.diff().long()
    key_sample = torch.repeat_interleave(torch.arange(len(room)), room)
    key = torch.arange(len(key_sample)) - mask.cu_seqlens_k.long()[key_sample]
    keys_a = (key < part_a[key_sample]).nonzero()[:, 0]
    calls, keys_a = [], sent(keys_a, device)
    for which, keys, len_k, window in ((in_a, keys_a, part_a, (-1, -1)), (~in_a, None, room, (-1, 0))):
        if which.any():
            len_q = torch.bincount(sample[which], minlength=len(room))
            lengths = *(_ends(x, device) for x in (len_q, len_k)), int(len_q.max()), int(len_k.max())
            calls.append((sent(which.nonzero()[:, 0], device), keys, lengths, window))
    return calls


def _ends(lens, device):
    return sent(F.pad(lens.cumsum(0), (1, 0)).int(), device)
