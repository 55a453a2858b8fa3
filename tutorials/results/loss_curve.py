"""Draws loss_curve.png: the same 50 steps with the reference and with the kernel.

    python tutorials/results/loss_curve.py        from the root of the repository; about a minute

Trains the preset tiny in float32 without dropout, once with each backend. The picture shows both curves, and
their difference below. The losses go to loss_curve.csv next to it.
"""

import csv
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from minglm.train.config import resolve
from minglm.train.pretrain import pretrain

HERE, BACKENDS = Path(__file__).parent, ("reference", "kernel")


def losses(backend):
    """The loss of each of the 50 steps."""
    changes = {"train.steps": 50, "train.dtype": "float32", "train.backend": backend, "model.dropout": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(resolve("tiny", None, changes), Path(folder) / "run")
        return [float(row["loss"]) for row in csv.DictReader(open(run / "metrics.csv", encoding="utf-8"))]


curves = {backend: losses(backend) for backend in BACKENDS}
difference = [abs(a - b) for a, b in zip(*curves.values(), strict=True)]
print(f"largest difference of a loss: {max(difference):.1e}")

with open(HERE / "loss_curve.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["step", *BACKENDS])
    table.writerows(zip(range(1, 51), *curves.values(), strict=True))

figure, (above, below) = plt.subplots(
    2, 1, figsize=(6.4, 4.2), height_ratios=(3, 1), sharex=True, layout="constrained"
)
steps = range(1, 51)
above.plot(steps, curves["reference"], color="#4477aa", lw=4, alpha=0.5, label="reference: plain PyTorch")
above.plot(steps, curves["kernel"], color="#bb5566", lw=1.2, label="kernel: C++")
above.set(ylabel="loss, nats per token", title="The same 50 steps, computed twice")
above.legend(frameon=False)
below.semilogy(steps, [max(x, 1e-8) for x in difference], color="#333333", lw=1)
below.axhline(1e-3, color="#999999", lw=0.8, ls=":")
below.set(xlabel="step", ylabel="difference", ylim=(1e-8, 1e-2))
for axes in (above, below):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig(HERE / "loss_curve.png", dpi=110)
