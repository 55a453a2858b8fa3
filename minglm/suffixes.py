"""What a step may skip, and what it rounds up; neither changes a result.

Only some rows of a batch are asked for their next token: those of Part B. Everything below the last layer
needs all rows, because each is a key of others, but the last layer has to compute only the rows that are
asked for.
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .mask import GLMMask


class Plan(NamedTuple):
    """A batch as it is computed: the columns and the mask, and what the last layer does with them."""

    columns: tuple  # tokens, position_ids, block_position_ids: (N,) each, rounded up
    mask: GLMMask
    last_rows: torch.Tensor | None  # that the last layer computes; None: all
    last_mask: GLMMask  # its queries are those rows
    wanted: torch.Tensor | None  # where among them the wanted rows stand; None: they are the wanted ones

    def of_layers(self, n, cache=None):
        """(mask, rows, keep) as each of n layers takes them: all rows, and in the last layer those that are left to compute."""
        for layer in range(n):
            keep = partial(cache.keep, layer) if cache else None
            yield (self.last_mask, self.last_rows, keep) if layer + 1 == n else (self.mask, None, keep)

    def chosen(self, x):
        """The wanted rows of what the last layer gave."""
        return x if self.wanted is None else x.index_select(0, self.wanted)


def plan(columns, mask, rows, prune, cache=None):
    """The Plan for a batch of which only `rows` (R,) are wanted (None: all). prune: the last layer computes no others."""
    N, multiple = len(columns[0]), 1 if cache else row_multiple(columns[0].device)
    columns, mask = fill_up(columns, mask, multiple)
    if rows is not None and prune:
        return Plan(columns, mask, *shortest_suffixes(mask, rows, multiple))
    if rows is None and len(columns[0]) > N:
        rows = torch.arange(N, device=columns[0].device)
    return Plan(columns, mask, None, mask, rows)


def row_multiple(device):
    """What the numbers of rows are rounded up to: 16 in bfloat16 on a CPU, else 1.

    There oneDNN prepares a matrix product for the shape it meets, which takes about as long as the product
    itself, and keeps what it has prepared. A batch of packed samples hardly ever has the same number of rows
    twice; in sixteens it does.
    """
    return 16 if device.type == "cpu" and torch.is_autocast_enabled("cpu") else 1


def fill_up(columns, mask, multiple):
    """The batch with one more sample at its end, of fewer than `multiple` rows that no other sees and none learns from."""
    extra = -len(columns[0]) % multiple
    if not extra:
        return tuple(columns), mask
    columns = tuple(F.pad(column, (0, extra)) for column in columns)
    return columns, mask.remember(("filled", extra), lambda: mask.with_sample(extra))


def shortest_suffixes(mask, rows, multiple=1):
    """The rows a last layer must compute so that `rows` come out: in each sample, everything from its first wanted row on.

    A few more, from the first samples that have them, make it a multiple of `multiple` rows.
    mask: GLMMask, rows: (R,) int64 ascending -> the suffix rows (R',) int64, the GLMMask whose queries they
    are, and where among them the wanted rows stand, (R,) int64.

    Example: one sample of 6 rows, rows = [4, 5] -> [4, 5], a mask with 2 queries and 6 keys, [0, 1].
    """
    start = mask.cu_seqlens_q.long()
    host = rows.cpu()
    sample = torch.searchsorted(start, host, right=True) - 1
    first = start[1:].scatter_reduce(
        0, sample, host, "amin"
    )  # (S,) samples without wanted rows keep their end
    spare = first - start[:-1]  # rows that are not wanted
    more = (-int((start[1:] - first).sum()) % multiple - spare.cumsum(0) + spare).clamp(min=0).minimum(spare)
    first = first - more
    len_q = start[1:] - first
    which = torch.repeat_interleave(torch.arange(len(len_q)), len_q)
    end_of_suffix = len_q.cumsum(0)
    shift = first - (end_of_suffix - len_q)  # suffix row j of sample s is packed row j + shift[s]
    suffix = torch.arange(len(which)) + shift[which]
    return suffix.to(rows.device), mask.with_queries(len_q), (host - shift[sample]).to(rows.device)
