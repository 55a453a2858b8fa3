"""`minglm bench attention`, `train`, `data` and `generate`: check, then time, then print one table.

    check.py       arguments that the benches share, and the largest error allowed
    timing.py      alternating variants, medians, ratios with their spread, the machine's GEMM rate
    attention.py   all ways to compute attention under GLM's mask (cases.py, variants.py, table.py)
    training.py    the trainer, end to end, next to two padded trainers in plain PyTorch (padded.py)
    data.py        text tokens that one core draws and packs, beside those that training consumes
    generate.py    generation with and without the KV cache

A bench is a module with `run(args)`, which prints a table and returns its numbers as a dict; "ok": False in
it means exit code 1. cli/bench.py has the options.
"""

FORWARD, BOTH = "forward", "forward+backward"
FLOP = {FORWARD: 4, BOTH: 14}  # useful flop per visible pair, head and unit of head width
