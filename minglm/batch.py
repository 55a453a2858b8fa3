"""Packed batches: samples end to end, without padding, as the model reads them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from .mask import GLMMask


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples end to end, without padding: N rows, of which the M rows `target_rows` predict `targets`.

    tokens, position_ids, block_position_ids: (N,) int64; target_rows, targets: (M,) int64; mask: GLMMask.
    text_tokens: the tokens of the texts before spans were drawn.
    """

    tokens: torch.Tensor
    position_ids: torch.Tensor
    block_position_ids: torch.Tensor
    mask: GLMMask
    target_rows: torch.Tensor
    targets: torch.Tensor
    text_tokens: int = 0

    def to(self, device):
        """The same batch with its tensors on a device (the mask's lengths stay on the host)."""
        names = ("tokens", "position_ids", "block_position_ids", "target_rows", "targets")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        if moved["target_rows"] is not self.target_rows:  # suffixes.py reads them on the host
            moved["target_rows"].on_host = getattr(self.target_rows, "on_host", self.target_rows)
        return replace(self, **moved)


def pack(examples):
    """Put samples end to end: list of Example -> Batch. An empty list gives a batch of no rows.

    Example: samples of 10 and 7 rows with Part A of 5 and 4 -> N = 17, target_rows 5..9 and 14..16.
    """

    def row(values):
        return torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *values]))

    lens = [len(e.tokens) for e in examples]
    starts = np.cumsum([0, *lens])[:-1]
    learned = [len(e.target_rows) for e in examples]
    return Batch(
        tokens=row([e.tokens for e in examples]),
        position_ids=row([e.position_ids for e in examples]),
        block_position_ids=row([e.block_position_ids for e in examples]),
        mask=GLMMask.packed(lens, [e.part_a_len for e in examples]),
        target_rows=row([e.target_rows for e in examples]) + torch.from_numpy(np.repeat(starts, learned)),
        targets=row([e.targets for e in examples]),
        text_tokens=sum(e.text_len for e in examples),
    )


def in_runs(items, rows, most):
    """Yield the items in order, in lists of at most `most` rows each (a larger item is a list of its own).

    rows: a function from an item to its number of rows. Example: items of 3, 3 and 9 rows, most=7 -> a list
    of two and a list of one.
    """
    run, total = [], 0
    for item in items:
        if run and total + rows(item) > most:
            yield run
            run, total = [], 0
        run.append(item)
        total += rows(item)
    if run:
        yield run


def micro_batches(examples, max_tokens):
    """Lists of at most `max_tokens` rows from a list of Example.

    At least one list, which may be empty: a process without a sample still takes part in the step.
    """
    return list(in_runs(examples, lambda example: len(example.tokens), max_tokens)) or [[]]


def columns(batch):
    """The part of a Batch that GLM.hidden reads: tokens, position_ids, block_position_ids, mask."""
    return batch.tokens, batch.position_ids, batch.block_position_ids, batch.mask
