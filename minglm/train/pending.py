"""Steps whose loss and gradient norm are still on the device.

Asking for a number makes the host wait until the device has computed it, and meanwhile nothing new is sent
there. So the numbers of several steps are read at once.
"""

import math
import time

import torch

from ..errors import MinglmError
from .speed import mfu


class Pending:
    """The rows of metrics.csv since the last reading, as far as the host knows them, and what it does not.

    The first step that was not finite is found at the next reading, which comes before every checkpoint.
    """

    def __init__(self, run):
        self.run, self.rows, self.numbers = run, [], []

    def add(self, row, loss, norm):
        """Add a step: its row, the summed loss of this process and the gradient norm, both on the device."""
        self.rows.append(row)
        self.numbers.append(torch.stack([loss.double(), norm.double()]))

    def read(self):
        """(the rows, complete, up to the first step that is not finite; the error of that step, or None).

        All processes call this at the same steps. Their losses are added here.
        """
        rows, numbers = self.rows, self.numbers
        self.rows, self.numbers = [], []
        if not rows:
            return [], None
        began = time.monotonic()
        losses, norms = torch.stack(numbers, 1).cpu()  # the only line of the loop that waits for the device
        waited = time.monotonic() - began
        self.run.world.sum(losses)
        if self.run.device.type != "cpu":  # the host only knew when it had sent the work
            mean = (sum(row["seconds"] for row in rows) + waited) / len(rows)
            rows = [row | dict(seconds=mean) for row in rows]
        for i, (row, loss, norm) in enumerate(zip(rows, losses.tolist(), norms.tolist(), strict=True)):
            loss /= row["learned_tokens"]
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return rows[:i], self.failure(row["step"], loss, norm)
            row |= dict(loss=f"{loss:.6f}", grad_norm=f"{norm:.4f}")
            if self.run.peak:
                row["mfu"] = f"{mfu([row], self.run.peak):.4f}"
        return rows, None

    def failure(self, step, loss, norm):
        """The error of a step that is not finite."""
        what = f"the loss of step {step} is not finite ({loss}, gradient norm {norm})"
        advice = "A lower train.lr, a longer train.warmup or train.dtype float32 may help"
        good = self.run.checkpoints.verified()
        return MinglmError(f"{what}; the last good checkpoint is {good}. {advice}")
