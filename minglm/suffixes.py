"""Rows that a step may skip, and rows that it adds to reach a round number; neither changes a result.

Only the rows of Part B predict a token. The lower layers need all rows, because each is a key for others, but
the last layer has to compute only those that predict.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .kernel.lengths import sent
from .mask import GLMMask


class Plan(NamedTuple):
    """A batch as it is computed: columns and mask, and which rows the last layer computes."""

    columns: tuple  # tokens, position_ids, block_position_ids: (N,) each, rounded up
    mask: GLMMask
    last_rows: torch.Tensor | None  # the rows that the last layer computes; None: all
    last_mask: GLMMask  # its queries are those rows
    wanted: torch.Tensor | None  # the indices of the wanted rows among them; None: all are wanted

    def steps(self, layers, cache=None):
        """Yield each layer with its arguments (mask, rows, keep); only the last one may skip rows."""
        for number, layer in enumerate(layers):
            keep = partial(cache.keep, number) if cache else None
            is_last = number + 1 == len(layers)
            yield (layer, self.last_mask, self.last_rows, keep) if is_last else (layer, self.mask, None, keep)

    def chosen(self, x):
        """The wanted rows of the last layer's output."""
        return x if self.wanted is None else x.index_select(0, self.wanted)


def plan(columns, mask, rows, prune, cache=None):
    """The Plan for a batch if `rows` (R,) are wanted (None: all). prune: the last layer skips the others."""
    N, multiple = len(columns[0]), 1 if cache else row_multiple(columns[0].device)
    columns, mask = fill_up(columns, mask, multiple)
    if rows is not None and prune:
        return Plan(columns, mask, *shortest_suffixes(mask, rows, multiple))
    if rows is None and len(columns[0]) > N:
        rows = torch.arange(N, device=columns[0].device)
    return Plan(columns, mask, None, mask, rows)


def row_multiple(device):
    """The number of rows is rounded up to a multiple of this: 16 in bfloat16 on a CPU, else 1.

    There oneDNN prepares each matrix product for its shape, which takes about as long as the product itself,
    and caches the preparation. Packed batches hardly ever have the same number of rows twice; rounded up to
    sixteens they do.
    """
    return 16 if device.type == "cpu" and torch.is_autocast_enabled("cpu") else 1


def fill_up(columns, mask, multiple):
    """The batch with a sample added that no other row sees, so that N is a multiple of `multiple`."""
    extra = -len(columns[0]) % multiple
    if not extra:
        return tuple(columns), mask
    columns = tuple(F.pad(column, (0, extra)) for column in columns)
    return columns, mask.remember(("filled", extra), lambda: mask.with_sample(extra))


def repeat_last(*columns):
    """Columns (M,) whose last entry is repeated until M is a multiple of `row_multiple`."""
    extra = -len(columns[0]) % row_multiple(columns[0].device)
    return [torch.cat([column, column[-1:].expand(extra)]) for column in columns] if extra else columns


def shortest_suffixes(mask, rows, multiple=1):
    """The rows the last layer must compute to give `rows`: each sample from its first wanted row on.

    A few more rows, from the first samples that have them, make their number a multiple of `multiple`.
    mask: GLMMask, rows: (R,) int64 ascending -> the suffix rows (R',) int64, the GLMMask whose queries they
    are, and the indices of the wanted rows among them, (R,) int64.

    Example: one sample of 6 rows, rows = [4, 5] -> [4, 5], a mask with 2 queries and 6 keys, [0, 1].
    """
    start = mask.cu_seqlens_q.long()
    # subtle: reading them back would wait for all that the GPU has still to do
    host = rows.on_host if hasattr(rows, "on_host") else rows.cpu()
    sample = torch.searchsorted(start, host, right=True) - 1
    # (S,) the first wanted row of each sample; its end if it has none
    first = start[1:].scatter_reduce(0, sample, host, "amin")
    spare = first - start[:-1]  # rows that are not wanted
    more = (-int((start[1:] - first).sum()) % multiple - spare.cumsum(0) + spare).clamp(min=0).minimum(spare)
    first = first - more
    len_q = start[1:] - first
    which = torch.repeat_interleave(torch.arange(len(len_q)), len_q)
    end_of_suffix = len_q.cumsum(0)
    shift = first - (end_of_suffix - len_q)  # suffix row j of sample s is packed row j + shift[s]
    suffix = torch.arange(len(which)) + shift[which]
    wanted, device = host - shift[sample], rows.device
    return sent(suffix, device), mask.with_queries(len_q), sent(wanted, device)
