"""`minglm bench attention`, `bench train` and `bench generate`: check, then time, then print one table.

    check.py       the arguments of both, and how far a result may be off
    timing.py      variants in turn, medians, ratios with their spread, the machine's GEMM rate
    attention.py   every way to compute attention under GLM's mask (what: cases.py, how: variants.py, printed: table.py)
    training.py    the trainer, end to end, beside two padded trainers in plain PyTorch (padded.py)
    generate.py    writing with the cache of keys and values, and without

A bench is a module with `add_arguments(parser)` and `run(args)`, which prints its table and returns everything in it as a
dict; {"ok": False} in it is exit code 1.
"""

from pathlib import Path

from ..errors import MinglmError

BENCHES = {  # command: (module, what it does)
    "attention": ("attention", "every way to compute attention under GLM's mask, checked against float64, then timed"),
    "train": ("training", "text tokens a second of the trainer, and of padded trainers in plain PyTorch"),
    "generate": ("generate", "tokens a second that a model writes, with the cache of keys and values and without"),
}


def check_writable(option, path):
    """A file that cannot be written is told before minutes of measuring, not after."""
    if path and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir()):
        raise MinglmError(f"{option}: {path} cannot be written; a file in a folder that exists is needed")
