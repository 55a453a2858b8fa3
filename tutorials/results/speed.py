"""The tables of the kernel's speed and memory, for report.py."""

from parts import MADE as MADE
from parts import benched, conditions, of, table

BOTH = "forward+backward"


@of("attention")
def shapes(results):
    columns = ("ms, PyTorch's best", "ms, kernel", "times as fast", "share of GEMM")
    heads = ["shape", *(f"{dtype}: {column}" for dtype in results["summary"] for column in columns)]
    rows = []
    for shape in results["shapes"]:
        row = [f"`{shape['name']}`"]
        for dtype in results["summary"]:
            kernel = results["summary"][dtype]["variant"]
            same = [x for x in results["rows"] if (x["shape"], x["dtype"]) == (shape["name"], dtype)]
            timed = {x["variant"]: x[BOTH] for x in same if x.get(BOTH)}
            if kernel in timed:
                ours, best = timed[kernel], timed[timed[kernel]["best_of_pytorch"]]
                row += [f"{x['ms']:,.2f}" for x in (best, ours)]
                row += [f"{ours[key]:.2f}" for key in ("ratio", "of_gemm")]
        if len(row) == len(heads):  # the other shapes are not used in training
            rows.append(row)
    return f"`minglm bench attention`: {benched(results)}\n\n{table(heads, rows)}"


@of("attention")
def in_short(results):
    keys = ("ratio_mean", "ratio_min", "of_gemm_mean")
    rows = [[dtype, *(f"{x[key]:.2f}" for key in keys)] for dtype, x in results["summary"].items()]
    heads = ["", "times PyTorch's best, geometric mean", "at least", "share of the rate of matrix products"]
    return table(heads, rows)


@of("training")
def tokens_per_second(results):
    rows = []
    for x in results["tables"]:
        by = {row["trainer"]: row for row in x["trainers"]}
        ours = by["kernel"]
        row = [f"`{x['preset']}`, {x['dtype']}, {x['text_tokens']:,.0f}"]
        row += [f"{trainer['tokens_per_s']:,.0f}" for trainer in by.values()]
        row += [f"{ours[key]['median']:.2f}" for key in ("times_every_row", "times_learned_rows")]
        rows.append([*row, f"{ours['of_gemm']:.2f}", ours["steps"]])
    heads = ["preset, dtype, text tokens per step", *by]
    heads += ["kernel / every row", "kernel / learned rows", "share of GEMM", "steps"]
    rates = {x["dtype"]: f"{x['gemm_gflop_per_s']:,.0f} GFLOP/s in {x['dtype']}" for x in results["tables"]}
    about = f"`minglm bench train`: {benched(results)} Plain matrix products: {', '.join(rates.values())}."
    return f"{about}\n\n{table(heads, rows)}"


@of("memory")
def papers_models(results):
    rows = {}
    for x in results["steps"]:
        costs = f"{x['gigabytes']:.1f} GB, {x['text_tokens'] / x['seconds']:.0f} tokens/s"
        rows.setdefault(f"`{x['preset']}`", {})[f"{x['dtype']}, {x['backend']}"] = costs
    heads = ["model", *next(iter(rows.values()))]
    rows = [[preset, *row.values()] for preset, row in rows.items()]
    return f"{conditions(results)}\n\n{table(heads, rows)}"


@of("memory")
def long_sample(results):
    x = results["long"]
    costs = f"{x['megabytes']:.0f} MB, not counting inputs and outputs, and {x['seconds']:.1f} seconds"
    what = "one head of width 32, forward and backward"
    return f"Training works on a sample of {x['tokens']:,} tokens: {what}, took {costs}."


@of("generate")
def speeds(results):
    rows = []
    for x in results["rows"]:
        rates = [f"{x[how]['tokens_per_s']:,.0f}" for how in ("cache", "no cache")]
        rows.append([x["read"], x["write"], x["texts"], *rates, f"{x['times']['median']:.2f}"])
    heads = ["read", "written", "texts at once", "cache", "no cache", "times"]
    return f"`minglm bench generate`: {benched(results)}\n\n{table(heads, rows)}"
