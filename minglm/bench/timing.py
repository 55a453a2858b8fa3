"""Reliable timing: alternating variants, medians, ratios within a round, and the machine's own GEMM rate.

Machine speed drifts, so variants are timed in alternation, round after round, and ratios are taken within a
round before the median: both sides saw the same conditions.
"""

import statistics
import time
from typing import NamedTuple

import torch

# Rows x inputs x outputs of a linear layer: sizes at which the library is fastest; the better one counts.
GEMM_SHAPES = ((2048, 2048, 2048), (4096, 512, 2048))
CUDA_GEMM_SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192))  # large enough to hide launch overhead


def alternate(variants, seconds=1.0, least=3, most=1000, clock=time.perf_counter):
    """Run the variants in turn: {name: callable} -> {name: seconds in round 0, 1, 2, ...}.

    A variant stops after its equal share of `seconds` and `least` rounds (fewer if these take `least` times
    its share), or after `most` rounds. Slow ones stop first and never come back, so two lists can be compared
    entry by entry. Each round begins with another variant, because a run leaves traces in the caches.

    Example: a and b take 1 s and 2 s, 12 s, least=1 -> six runs of a, three of b: ab, ba, ab, a, a, a.
    """
    taken = {name: [] for name in variants}
    running, share = list(variants), seconds / max(1, len(variants))

    def enough(runs):
        return len(runs) >= most or sum(runs) >= share and (len(runs) >= least or sum(runs) >= least * share)

    while running:
        for name in running:
            began = clock()
            variants[name]()
            taken[name].append(clock() - began)
        running = [name for name in running[1:] + running[:1] if not enough(taken[name])]
    return taken


def waiting(function, device):
    """Return the function; on a GPU, one that waits for earlier work and for its own.

    Its time then includes the launch, some microseconds.
    """
    if torch.device(device).type != "cuda":
        return function

    def run():
        torch.cuda.synchronize(device)
        result = function()
        torch.cuda.synchronize(device)
        return result

    run.function = function
    return run


def replayed(run, device):
    """Return the replay of a CUDA graph of `run`, waited for; or `run` itself where none can be captured."""
    run()  # a forward pass without gradients is compiled separately, and nothing is built during a capture
    try:
        stream, graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # memory for another stream
            unwaited(run)()
        torch.cuda.current_stream(device).wait_stream(stream)
        with torch.cuda.graph(graph):
            unwaited(run)()
    except Exception:  # something in it needs the host: it is timed as it is called
        torch.cuda.synchronize(device)
        return run
    return waiting(graph.replay, device)


def unwaited(run):
    """Return the function inside of `waiting`."""
    return getattr(run, "function", run)


class Spread(NamedTuple):
    """The median of some numbers and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values):
    """Return median and quartiles. Example: 1, 2, 3, 4, 5 -> Spread(3, 2, 4)."""
    values = sorted(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(statistics.median(values), low, high)


def speedup(slow, fast):
    """Return how many times as fast `fast` is: two lists of seconds, compared round by round. -> Spread"""
    return spread([a / b for a, b in zip(slow, fast, strict=False)])


def gemms(dtype, device="cpu"):
    """Return matrix products as in a linear layer, for `alternate`: {name: callable}."""
    shapes = GEMM_SHAPES if torch.device(device).type == "cpu" else CUDA_GEMM_SHAPES

    def product(rows, inputs, outputs):
        x, weight = (torch.randn(n, inputs, device=device).to(dtype) for n in (rows, outputs))
        return waiting(lambda: torch.mm(x, weight.T), device)

    return {gemm_name(shape): product(*shape) for shape in shapes}


def gemm_rate(taken):
    """Return the machine's GEMM rate in flop/s from the result of alternate(): the best of the medians."""
    return statistics.median(gemm_rates(taken))


def gemm_rates(taken):
    """Return the GEMM rates round by round, for the shape with the best median."""
    rates = []
    for rows, inputs, outputs in (*GEMM_SHAPES, *CUDA_GEMM_SHAPES):
        runs = taken.get(gemm_name((rows, inputs, outputs)))
        if runs:
            rates.append([2 * rows * inputs * outputs / seconds for seconds in runs])
    return max(rates, key=statistics.median)


def gemm_name(shape):
    """Return a name: (2048, 2048, 2048) -> "gemm 2048x2048x2048"."""
    return "gemm " + "x".join(map(str, shape))
