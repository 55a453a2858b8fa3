"""`minglm bench attention`, `bench train` and `bench generate`: check, then time, then print one table.

    check.py       the arguments of both, and how far a result may be off
    timing.py      variants in turn, medians, ratios with their spread, the machine's GEMM rate
    attention.py   every way to compute attention under GLM's mask (what: cases.py, how: variants.py, printed: table.py)
    training.py    the trainer, end to end, beside two padded trainers in plain PyTorch (padded.py)
    generate.py    writing with the cache of keys and values, and without

A bench is a module with `run(args)`, which prints its table and returns everything in it as a dict; {"ok":
False} in it is exit code 1. Its options are in cli/bench.py.
"""

FORWARD, BOTH = "forward", "forward+backward"
FLOP = {FORWARD: 4, BOTH: 14}  # useful ones per visible pair, head and unit of width
