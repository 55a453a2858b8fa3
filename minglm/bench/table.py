"""The table of `minglm bench attention` and its summary, from the rows that were measured."""

import math

from . import BOTH, FLOP

OURS = (
    "kernel",
    "emulated",
)  # variants whose names begin like this are the kernel; the others are its rivals

LEGEND = """\
GFLOP/s     useful work: 4 D flop forward, 14 D forward and backward, for each pair of a query and a key that it may see
GEMM        as a share of the rate of the best linear layer, timed in alternation
PyTorch     times as fast as PyTorch's best (naive or sdpa; on a GPU also flex, and flash-attn where it is installed): the
            median of the rounds, ± half the way between the quartiles
error       the worst of out, dq, dk, dv against float64, as a share of the largest entry; fair: as a share of what rounding
            may do, twice naive's error or 4 eps of the largest entry
"""
CELLS = f"{'ms':>9} {'GFLOP/s':>9} {'GEMM':>5} {'PyTorch':>9}"
TITLE = f"""\
{"":36}{" forward ".center(35, "-"):>36} {" forward and backward ".center(34, "-")}
{"shape":<9} {"dtype":<8} {"variant":<18}{CELLS}{CELLS} {"error":>7} {"fair":>4}"""


def shape_line(shape):
    """A shape in words."""
    mask = shape.mask
    samples, queries, keys = len(mask.part_a_lens), len(mask.visible_keys()), int(mask.len_k.sum())
    rows = f"{queries:,} rows" if queries == keys else f"{queries:,} rows, {keys:,} keys"
    share = 100 * int(mask.part_a_lens.sum()) / max(1, keys)
    width = f"{shape.heads} heads of {shape.head_dim}"
    return f"{shape.name:<11} {samples:>2} sample{'s' * (samples != 1)}, {rows}, {width}, Part A {share:.0f} %: {shape.about}"


def table_lines(rows):
    """The rows of one shape and dtype as lines. The forms of sdpa are one line, the fastest form of each pass."""
    forms = [row for row in rows if row["variant"].startswith("sdpa") and row["status"] == "timed"]
    lines = []
    for row in rows:
        if row is (forms or [None])[0]:
            lines.append(table_line(fastest_forms(forms)))
        elif not row["variant"].startswith("sdpa") or row["status"] in ("wrong", "skipped"):
            lines.append(table_line(row))
    return lines


def fastest_forms(forms):
    """One row for sdpa from those of its forms that were timed."""
    best = {step: min(forms, key=lambda row: row[step]["ms"]) for step in FLOP if step in forms[0]}
    names = dict.fromkeys(row["variant"].removeprefix("sdpa ") for row in best.values())
    *_, last = best.values()
    return (
        last | {step: row[step] for step, row in best.items()} | dict(variant="sdpa", note=" | ".join(names))
    )


def table_line(row):
    """One line; what was not timed says why."""
    line = f"{row['shape']:<9} {row['dtype']:<8} {row['variant']:<18}"
    if row["status"] != "timed":
        return f"{line}  {'skipped: ' * (row['status'] == 'skipped')}{row['note']}"
    cells = "".join(cell(row.get(step)) for step in FLOP)
    return f"{line}{cells} {row['relative_error']:>7.0e} {row['of_fair']:>4.2f}  {row['note']}".rstrip()


def cell(x):
    """What was measured of one pass."""
    if x is None:
        return f"{'-':>9} {'-':>9} {'-':>5} {'-':>9}"
    decoding = "gb_per_s" in x
    rate = f"{x['gb_per_s']:.1f} GB/s" if decoding else f"{x['gflop_per_s']:.1f}"
    share = "-" if decoding else f"{x['of_gemm']:.2f}"
    ratio = f"{x['ratio']:.2f}±{(x['ratio_high'] - x['ratio_low']) / 2:.2f}" if "ratio" in x else "-"
    return f"{x['ms']:>9.{2 if x['ms'] < 1000 else 0}f} {rate:>9} {share:>5} {ratio:>9}"


def summary(rows, shapes):
    """{dtype: how the kernel's fastest rung does, forward and backward}; a dtype without a rung is left out.

    Over the mixtures alone, and the worst ratio over every shape that trains.
    """
    kinds, summed = {shape.name: shape.kind for shape in shapes}, {}
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        rungs = {}
        for row in rows:
            if row["dtype"] == dtype and row["variant"].startswith(OURS) and "ratio" in row.get(BOTH, {}):
                rungs.setdefault(row["variant"], []).append(row)
        mixtures = {
            rung: [row[BOTH] for row in found if kinds[row["shape"]] == "mixture"]
            for rung, found in rungs.items()
        }
        most = max(map(len, mixtures.values()), default=0)
        if not most:
            continue
        means = {
            rung: mean([x["ratio"] for x in found]) for rung, found in mixtures.items() if len(found) == most
        }
        rung = max(means, key=means.get)
        shares = [x["of_gemm"] for x in mixtures[rung]]
        summed[dtype] = dict(
            variant=rung,
            mixtures=most,
            ratio_mean=means[rung],
            ratio_min=min(x["ratio"] for x in mixtures[rung]),
            of_gemm_mean=mean(shares),
            of_gemm_min=min(shares),
            of_gemm_max=max(shares),
            training_shapes=len(rungs[rung]),
            training_ratio_min=min(row[BOTH]["ratio"] for row in rungs[rung]),
        )
    return summed


def mean(values):
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def summary_lines(result):
    """The summary in words, and whatever is wrong once more."""
    lines = [
        f"{dtype:<11} {x['variant']}, forward and backward, mixtures ({x['mixtures']}): {x['ratio_mean']:.2f} times as fast as "
        f"PyTorch's best in the geometric mean,\n{'':12}{x['ratio_min']:.2f} at least ({x['training_ratio_min']:.2f} over all "
        f"{x['training_shapes']} shapes that train); {x['of_gemm_mean']:.2f} of the GEMM rate "
        f"({x['of_gemm_min']:.2f} to {x['of_gemm_max']:.2f})"
        for dtype, x in result["summary"].items()
    ]
    wrong = [row for row in result["rows"] if row["status"] == "wrong"]
    return lines + [f"{row['shape']} {row['dtype']} {row['variant']}: {row['note']}" for row in wrong]
