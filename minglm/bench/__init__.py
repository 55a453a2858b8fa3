"""`minglm bench attention`, `bench train` and `bench generate`: check, then time, then print one table.

    check.py       the arguments of both, and how far a result may be off
    timing.py      variants in turn, medians, ratios with their spread, the machine's GEMM rate
    attention.py   every way to compute attention under GLM's mask (what: cases.py, how: variants.py, printed: table.py)
    training.py    the trainer, end to end, beside two padded trainers in plain PyTorch (padded.py)
    generate.py    writing with the cache of keys and values, and without

A bench is a module with `add_arguments(parser)` and `run(args)`, which prints its table and returns everything in it as a
dict; {"ok": False} in it is exit code 1.
"""

import argparse
import contextlib
import importlib
import json
import sys

from ..files.whole import check_writable, write_whole

BENCHES = {  # command: (module, what it does)
    "attention": ("attention", "every way to compute attention under GLM's mask, checked against float64, then timed"),
    "train": ("training", "text tokens a second of the trainer, and of padded trainers in plain PyTorch"),
    "generate": ("generate", "tokens a second that a model writes, with the cache of keys and values and without"),
}


class BenchParser(argparse.ArgumentParser):
    """The parser of one bench. The bench's module is imported when it is asked for: other commands start without it."""

    module = None

    def parse_known_args(self, args=None, namespace=None):
        if self.module:
            bench, self.module = importlib.import_module(f".{self.module}", __name__), None
            bench.add_arguments(self)
            self.set_defaults(bench=bench)
        return super().parse_known_args(args, namespace)


def add_bench(commands):
    """The command `bench` and its own two commands."""
    p = commands.add_parser("bench", help="check, then time: attention, training end to end, or writing")
    benches = p.add_subparsers(metavar="|".join(BENCHES), required=True, parser_class=BenchParser)
    for name, (module, about) in BENCHES.items():
        b = benches.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        b.module = module
        b.set_defaults(run=bench_command)
        b.add_argument("--json", nargs="?", const="-", metavar="FILE",
                       help="every number as JSON; without FILE to stdout, and the table to stderr")  # fmt: skip


def bench_command(args):
    """Run one bench; what it returns is written as JSON if asked for."""
    to_stdout = args.json == "-"
    check_writable("--json", None if to_stdout else args.json)
    with contextlib.redirect_stdout(sys.stderr) if to_stdout else contextlib.nullcontext():
        result = args.bench.run(args)
    if args.json:
        text = json.dumps(result, indent=1, allow_nan=False) + "\n"
        if to_stdout:
            sys.stdout.write(text)
        else:
            write_whole(args.json, text)
            print(f"wrote       {args.json}")
    if not result.get("ok", True):
        sys.stdout.flush()
        raise SystemExit(1)
