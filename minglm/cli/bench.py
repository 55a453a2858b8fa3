"""`minglm bench attention`, `bench train`, `bench data` and `bench generate`."""

import argparse
import contextlib
import sys
from importlib import import_module

from ..errors import MinglmError
from ..files import strict_json
from ..files.whole import beside, check_writable, write_whole
from ..train.plan import TFLOPS
from ..train.presets import PRESETS

BENCHES = {  # command: (its module in minglm.bench, what it does)
    "attention": (
        "attention",
        "time every way to compute attention under GLM's mask, after a check against float64",
    ),
    "train": ("training", "text tokens per second of the trainer and of padded trainers in plain PyTorch"),
    "data": ("data", "text tokens per second that one core draws and packs, and that training consumes"),
    "generate": ("generate", "tokens generated per second, with and without the KV cache"),
}
# Spelled out, because their modules import torch and --help must not; a test compares them.
SHAPES = (  # bench.cases.SHAPES
    "t256-a85",
    "t256-a50",
    "t512-a85",
    "t512-a50",
    "t2048-a85",
    "t2048-a50",
    "d32",
    "d128",
    "long",
    "decode",
    "packed",
)
QUICK = ("t512-a85", "decode")  # bench.cases.QUICK
DATA_PRESETS = ("page", "tiny", "box", "small", "base")  # bench.data.PRESETS
BATCH_TOKENS = {"tiny": [512, 2048], "small": [2048]}  # bench.training.BATCH_TOKENS


def add_bench(p):
    """Add the commands of `bench`."""
    benches = p.add_subparsers(metavar="|".join(BENCHES), required=True, parser_class=argparse.ArgumentParser)
    for name, (module, about) in BENCHES.items():
        b = benches.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        b.set_defaults(run=bench_command, bench=module)
        b.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="FILE",
            help="write every number as JSON; without FILE to stdout, and the table to stderr",
        )
        adders = dict(attention=add_attention, train=add_train, data=add_data, generate=add_generate)
        adders[name](b)


def add_attention(p):
    p.add_argument("--dtype", default="both", metavar="X", help="float32, bfloat16 or both (default)")
    p.add_argument("--shapes", nargs="+", metavar="NAME", help=f"some of {', '.join(SHAPES)} (default: all)")
    p.add_argument(
        "--rungs",
        nargs="+",
        metavar="NAME",
        help="some rungs (implementations) of the kernel, however slow (default: all but emulated, which "
        "runs the GPU kernel on the CPU)",
    )
    p.add_argument("--device", default="cpu", metavar="X", help="cpu (default) or cuda")
    p.add_argument(
        "--seconds", type=float, metavar="S", help="timing per shape and dtype, in seconds (default 2)"
    )
    p.add_argument("--quick", action="store_true", help=f"about a minute: {', '.join(QUICK)}")
    p.add_argument("--plot", metavar="FILE", help="draw the table (.png, .svg or .pdf)")


def add_train(p):
    sizes = ", ".join(f"{preset} {' and '.join(map(str, sizes))}" for preset, sizes in BATCH_TOKENS.items())
    p.add_argument(
        "--preset",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(PRESETS)} (default: {' '.join(BATCH_TOKENS)})",
    )
    p.add_argument(
        "--batch-tokens", nargs="+", type=int, metavar="N", help=f"text tokens per step (default: {sizes})"
    )
    p.add_argument(
        "--backends",
        nargs="+",
        metavar="NAME",
        help="attention backends of our trainer (default: kernel sdpa reference)",
    )
    p.add_argument("--dtype", default="both", metavar="X", help="float32, bfloat16 or both (default)")
    p.add_argument(
        "--keep-memory",
        action="store_true",
        help="let the padded trainers keep freed memory between steps, as ours does",
    )
    p.add_argument(
        "--seconds", type=float, default=30.0, metavar="S", help="timing per table, in seconds (default 30)"
    )
    p.add_argument(
        "--to-loss",
        type=int,
        metavar="STEPS",
        help="instead, train for STEPS steps and tell how soon ours has the loss that padded ones end with",
    )
    p.add_argument(
        "--optimizers",
        action="store_true",
        help="with --to-loss: against our own trainer with AdamW, by processor time",
    )


def add_data(p):
    p.add_argument(
        "--preset",
        nargs="+",
        metavar="NAME",
        help=f"some of {', '.join(PRESETS)} (default: {' '.join(DATA_PRESETS)})",
    )
    p.add_argument(
        "--mfu", type=float, default=0.4, metavar="X", help="share of the GPU's peak (default 0.4)"
    )
    p.add_argument(
        "--tflops",
        type=float,
        default=TFLOPS,
        metavar="X",
        help=f"the GPU's peak in TFLOP/s (default {TFLOPS:g}, an H100's or H200's in bfloat16)",
    )
    p.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="timing per line, in seconds (default 3)"
    )


def add_generate(p):
    p.add_argument(
        "--preset",
        default="tiny",
        metavar="NAME",
        help=f"the model's shape: {', '.join(PRESETS)} (default tiny)",
    )
    p.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="timing per line, in seconds (default 5)"
    )


def bench_command(args):
    """Run one bench; with --json write its result, with --plot draw it."""
    to_stdout = args.json == "-"
    if getattr(args, "optimizers", False) and args.to_loss is None:
        raise MinglmError("--optimizers: goes with --to-loss STEPS")
    check_writable("--json", None if to_stdout else args.json)
    plot = getattr(args, "plot", None)
    with contextlib.redirect_stdout(sys.stderr) if to_stdout else contextlib.nullcontext():
        module = "to_loss" if getattr(args, "to_loss", None) is not None else args.bench
        result = import_module(f"..bench.{module}", __package__).run(args)
        if plot:
            from ..viz.figures import save_figure
            from ..viz.figures.speed import fig_attention

            print(f"wrote       {save_figure(fig_attention(result), plot)}", file=beside(plot))
    if args.json:
        text = strict_json.dumps(result, indent=1) + "\n"
        if to_stdout:
            sys.stdout.write(text)
        else:
            write_whole(args.json, text)
            print(f"wrote       {args.json}", file=beside(args.json))
    if not result.get("ok", True):
        sys.stdout.flush()
        raise SystemExit(1)
