"""The lengths of a mask where a kernel reads them: on the host, or on a GPU, copied there once per mask."""

import torch

from ..errors import MinglmError

# subtle: a captured CUDA graph holds addresses, not tensors, and says nothing when it is gone. So what it
# reads stays for the life of the process: a few KiB per captured mask.
_CAPTURED = []


class Lengths:
    """cu_seqlens_q, cu_seqlens_k, part_a_lens and seqlens_k (or None): int32 tensors on one device.

    longest: the most rows of a sample; 0: not known, as in a traced graph.
    On a GPU they are made on one stream; `reach` makes them safe to read on another.
    """

    def __init__(self, tensors, longest=0, memory=None, stream=None, arrived=None):
        self.tensors, self.memory, self.stream, self.arrived = tensors, memory, stream, arrived
        self.longest = longest
        self.addresses = tuple(0 if x is None else x.data_ptr() for x in tensors)

    def reach(self, stream):
        """Call before a kernel reads them on `stream`, the current stream of their GPU."""
        if torch.cuda.is_current_stream_capturing():
            _CAPTURED.append(self)
        elif self.stream not in (None, stream.cuda_stream):
            stream.wait_event(self.arrived)
            self.memory.record_stream(stream)  # a dropped mask must not give it away while a kernel reads it


def host_lengths(mask):
    """The four tensors of a mask, on the CPU."""
    return mask.cu_seqlens_q, mask.cu_seqlens_k, mask.part_a_lens, mask.seqlens_k


def lengths_of(mask, device):
    """The Lengths of a mask on a device. Raises MinglmError where a captured graph would need a copy."""
    if device.type == "cpu":
        return Lengths(host_lengths(mask), _longest(mask))
    return mask.remember(("lengths", device), lambda: _copied(mask, device))


def _copied(mask, device):
    if torch.cuda.is_current_stream_capturing():
        what = "a CUDA graph is being captured, and the mask's lengths are not on the GPU yet"
        raise MinglmError(f"mask: {what}; call masked_attention with it once before")
    row, stream = sent(packed(mask), device), torch.cuda.current_stream(device)
    arrived = stream.record_event()
    return Lengths(views(row, mask), _longest(mask), row, stream.cuda_stream, arrived)


def _longest(mask):
    return int(mask.len_q.max()) if len(mask.len_q) else 0


def sent(row, device):
    """A tensor of the host on a device; the host does not wait for the copy, nor for earlier work there."""
    # subtle: PyTorch keeps the pinned memory until the copy is done
    return row if device.type == "cpu" else row.pin_memory().to(device, non_blocking=True)


def packed(mask):
    """All lengths of a mask as one row, so that one copy brings them to a GPU."""
    return torch.cat([x for x in host_lengths(mask) if x is not None])


def views(row, mask):
    """The four tensors in such a row."""
    parts = row.split([len(x) for x in host_lengths(mask) if x is not None])
    return (*parts, None)[:4]
