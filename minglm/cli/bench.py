"""`minglm bench attention`, `bench train` and `bench generate`."""

import argparse
import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path

from ..bench import BENCHES, check_writable


class BenchParser(argparse.ArgumentParser):
    """The parser of one bench. The bench's module is imported when it is asked for: other commands start without it."""

    module = None

    def parse_known_args(self, args=None, namespace=None):
        if self.module:
            bench, self.module = import_module(f"..bench.{self.module}", __package__), None
            bench.add_arguments(self)
            self.set_defaults(bench=bench)
        return super().parse_known_args(args, namespace)


def add_bench(p):
    """`bench` and its own three commands."""
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
            Path(args.json).write_text(text, encoding="utf-8")
            print(f"wrote       {args.json}")
    if not result.get("ok", True):
        sys.stdout.flush()
        raise SystemExit(1)
