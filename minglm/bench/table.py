"""The table of `minglm bench attention` and its summary, from the measured rows."""

import math

from . import BOTH, FLOP

OURS = ("kernel", "emulated")  # the kernel's variants have names that begin so; the others are baselines

LEGEND = """\
GFLOP/s     useful work: 4 D flop forward, 14 D forward and backward, per visible pair of query and key
GEMM        as a share of the rate of the best linear layer, timed in alternation
PyTorch     speedup over PyTorch's best (naive or sdpa; on a GPU also flex and, if installed, flash-attn):
            the median over the rounds ± half the interquartile range
error       the worst of out, dq, dk, dv against float64, as a share of the largest entry; fair: as a share
            of what rounding excuses, twice naive's error or 4 eps of the largest entry
"""
CELLS = f"{'ms':>9} {'GFLOP/s':>9} {'GEMM':>5} {'PyTorch':>9}"
TITLE = f"""\
{"":36}{" forward ".center(35, "-"):>36} {" forward and backward ".center(34, "-")}
{"shape":<9} {"dtype":<8} {"variant":<18}{CELLS}{CELLS} {"error":>7} {"fair":>4}"""


def shape_line(shape):
    """Describe a shape in one line."""
    mask = shape.mask
    samples, queries, keys = len(mask.part_a_lens), len(mask.visible_keys()), int(mask.len_k.sum())
    rows = f"{queries:,} rows" if queries == keys else f"{queries:,} rows, {keys:,} keys"
    share = 100 * int(mask.part_a_lens.sum()) / max(1, keys)
    width = f"{shape.heads} heads of {shape.head_dim}"
    number = f"{samples:>2} sample{'s' * (samples != 1)}"
    return f"{shape.name:<11} {number}, {rows}, {width}, Part A {share:.0f} %: {shape.about}"


def table_lines(rows):
    """Return the lines of one shape and dtype. sdpa has one line: the fastest form of each pass."""
    forms = [row for row in rows if row["variant"].startswith("sdpa") and row["status"] == "timed"]
    lines = []
    for row in rows:
        if forms and row is forms[0]:
            lines.append(table_line(fastest_forms(forms)))
        elif not row["variant"].startswith("sdpa") or row["status"] in ("wrong", "skipped"):
            lines.append(table_line(row))
    return lines


def fastest_forms(forms):
    """Merge the timed forms of sdpa into one row."""
    best = {step: min(forms, key=lambda row: row[step]["ms"]) for step in FLOP if step in forms[0]}
    names = dict.fromkeys(row["variant"].removeprefix("sdpa ") for row in best.values())
    *_, last = best.values()
    numbers = {step: row[step] for step, row in best.items()}
    return last | numbers | dict(variant="sdpa", note=" | ".join(names))


def table_line(row):
    """Return a row as one line; if it was not timed, with the reason."""
    line = f"{row['shape']:<9} {row['dtype']:<8} {row['variant']:<18}"
    if row["status"] == "skipped":
        return f"{line}  skipped: {row['note']}"
    if row["status"] != "timed":
        return f"{line}  {row['note']}"
    cells = "".join(cell(row.get(step)) for step in FLOP)
    return f"{line}{cells} {row['relative_error']:>7.0e} {row['of_fair']:>4.2f}  {row['note']}".rstrip()


def cell(x):
    """Return the columns of one pass."""
    if x is None:
        return f"{'-':>9} {'-':>9} {'-':>5} {'-':>9}"
    decoding = "gb_per_s" in x
    rate = f"{x['gb_per_s']:.1f} GB/s" if decoding else f"{x['gflop_per_s']:.1f}"
    share = "-" if decoding else f"{x['of_gemm']:.2f}"
    ratio = f"{x['ratio']:.2f}±{(x['ratio_high'] - x['ratio_low']) / 2:.2f}" if "ratio" in x else "-"
    return f"{x['ms']:>9.{2 if x['ms'] < 1000 else 0}f} {rate:>9} {share:>5} {ratio:>9}"


def summary(rows, shapes):
    """Return {dtype: results of the kernel's fastest rung, forward and backward}.

    Means are over the mixtures; the worst ratio is also given over all training shapes.
    """
    kinds, summed = {shape.name: shape.kind for shape in shapes}, {}
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        rungs = {}
        for row in rows:
            if row["dtype"] == dtype and row["variant"].startswith(OURS) and "ratio" in row.get(BOTH, {}):
                rungs.setdefault(row["variant"], []).append(row)
        mixtures = {
            rung: [row[BOTH] for row in timed if kinds[row["shape"]] == "mixture"]
            for rung, timed in rungs.items()
        }
        most = max(map(len, mixtures.values()), default=0)
        if not most:
            continue
        means = {rung: mean([x["ratio"] for x in xs]) for rung, xs in mixtures.items() if len(xs) == most}
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
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def summary_lines(result):
    """Return the summary in words, and all errors once more."""
    lines = []
    for dtype, x in result["summary"].items():
        lines += [
            f"{dtype:<11} {x['variant']}, forward and backward, {x['mixtures']} mixtures: "
            f"{x['ratio_mean']:.2f} times as fast as PyTorch's best (geometric mean),",
            f"{'':12}at least {x['ratio_min']:.2f} ({x['training_ratio_min']:.2f} over all "
            f"{x['training_shapes']} training shapes); {x['of_gemm_mean']:.2f} of the GEMM rate "
            f"({x['of_gemm_min']:.2f} to {x['of_gemm_max']:.2f})",
        ]
    wrong = [row for row in result["rows"] if row["status"] == "wrong"]
    return lines + [f"{row['shape']} {row['dtype']} {row['variant']}: {row['note']}" for row in wrong]
