"""The command line. One file for each group of commands, imported when one of them is typed.

A command checks what was typed, then imports what it needs: so --help and usage errors import no torch.
Bad input is one line on stderr and exit code 2; Ctrl-C is 130.
"""

import argparse
import os
import sys
from importlib import import_module

from ..errors import MinglmError
from ..version import __version__

COMMANDS = {  # command: (its file, what `minglm --help` says about it); the file's add_COMMAND adds its arguments
    "pretrain": ("pretrain", "train a GLM; without arguments: the preset tiny on the embedded corpus, about five minutes"),
    "fill": ("fill", "fill the blanks of a text"),
    "write": ("fill", "continue a text"),
    "show": ("show", "Part A, Part B, both positions, targets and mask of a text, as a table"),
    "explore": ("show", "one interactive page: the derivation, the mask, the relatives; with --model, a model alive in it"),
    "plot": ("plot", "draw a run, several runs, or a bench, as .png, .svg or .pdf"),
    "classify": ("tasks", "say what a text is: a blank is filled with the words of each label"),
    "rewrite": ("tasks", "text to text: what a model that was fine-tuned for it makes of a text"),
    "finetune": ("tasks", "learn a task from labelled rows, and be compared with what else one could use"),
    "evaluate": ("evaluate", "what a model is worth on a task or on running text: each number with its standard error"),
    "compare": ("compare", "GLM beside GPT, BERT and prefix LM: the same network, the same text, the same tasks"),
    "similar": ("fill", "the lines of a file that are most like a text, by the model's own vectors"),
    "convert": ("convert", "make a model folder of weights of the original GLM"),
    "info": ("info", "versions, instruction sets, which attention runs where and why, a self-test, and what would improve it"),
    "bench": ("bench", "check, then time: attention, training end to end, or writing"),
}


def main(argv=None):
    """Run one command; returns the exit code."""
    try:
        args, unknown = (whole := parser()).parse_known_args(argv)
        if unknown:
            refuse_unknown(whole, args, unknown)
        args.run(args)
        sys.stdout.flush()
    except MinglmError as error:
        print(f"minglm: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has left, as in `minglm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as error:
        print(f"minglm: {error or 'interrupted'}", file=sys.stderr)
        return 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"minglm: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def parser():
    """The whole command line."""
    p = argparse.ArgumentParser(prog="minglm", description="GLM, understood: train it, fill blanks with it, look inside.")
    p.add_argument("--version", action="version", version=f"minglm {__version__}")
    commands = p.add_subparsers(metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, (file, about) in COMMANDS.items():
        commands.add_parser(name, help=about).command = (name, file)
    return p


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, which gets its arguments when it is the one that was typed."""

    command = None  # (name, file)

    def parse_known_args(self, args=None, namespace=None):
        if self.command:
            (name, file), self.command = self.command, None
            self.set_defaults(command=name)
            getattr(import_module(f".{file}", __name__), f"add_{name}")(self)
        return super().parse_known_args(args, namespace)


def refuse_unknown(whole, args, unknown):
    """An option or word that no command has: the error names the nearest setting where there are settings."""
    name = next((word for word in unknown if word.startswith("--")), None)
    if args.command == "pretrain" and name:
        from ..config import resolve

        resolve(overrides={name.removeprefix("--").partition("=")[0]: ""})  # raises: no such setting
    whole.error(f"{unknown[0]!r} is not accepted; see minglm --help")
