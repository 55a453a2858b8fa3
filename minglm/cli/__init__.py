"""The command line. One file for each group of commands, imported when one of them is typed.

A command checks what was typed, then imports what it needs: so --help and usage errors import no torch.
Bad input is one line on stderr and exit code 2; Ctrl-C is 130.
"""

import argparse
import sys
from importlib import import_module

from ..errors import MinglmError, reason
from ..streams import say, usable_streams
from ..version import __version__

# command: (its file, its line in `minglm --help`). The file's function add_COMMAND adds the arguments.
COMMANDS = {
    "pretrain": (
        "pretrain",
        "train a GLM; without arguments: the preset tiny on the embedded corpus, about five minutes",
    ),
    "fill": ("fill", "fill the blanks of a text"),
    "write": ("fill", "continue a text"),
    "show": ("show", "Part A, Part B, both positions, targets and mask of a text, as a table"),
    "explore": (
        "show",
        "an interactive page: the derivation, the mask, related models; with --model, a model runs in it",
    ),
    "plot": ("plot", "draw a run, several runs, or a benchmark, as .png, .svg or .pdf"),
    "classify": ("tasks", "classify a text: the words of each label compete for a blank"),
    "rewrite": ("tasks", "text to text, with a model that was fine-tuned for it"),
    "finetune": ("tasks", "fine-tune a model on labelled rows, and compare it with baselines"),
    "evaluate": (
        "evaluate",
        "evaluate a model on a task or on running text; every number has a standard error",
    ),
    "compare": (
        "compare",
        "GLM against GPT, BERT and prefix LM: the same network, the same text, the same tasks",
    ),
    "similar": ("fill", "the lines of a file that are most similar to a text, by the model's vectors"),
    "convert": ("convert", "convert weights of the original GLM into a model folder"),
    "info": (
        "info",
        "versions, instruction sets, which attention runs and why, a self-test, and what to improve",
    ),
    "bench": (
        "bench",
        "benchmark attention, training end to end, or generation; results are checked before they are timed",
    ),
}


@usable_streams()
def main(argv=None):
    """Run one command; returns the exit code."""
    try:
        args, unknown = (whole := parser()).parse_known_args(argv)
        if unknown:
            refuse_unknown(whole, args, unknown)
        args.run(args)
        sys.stdout.flush()
    except MinglmError as error:
        say(f"minglm: error: {error}")
        return 2
    except BrokenPipeError:  # the reader of a pipe has left, as in `minglm ... | head`
        return 1
    except KeyboardInterrupt as error:
        say(f"minglm: {str(error) or 'interrupted'}")
        return 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"minglm: error: {where}{reason(error)}")
        return 2
    return 0


def parser():
    """The whole command line."""
    p = argparse.ArgumentParser(
        prog="minglm", description="GLM, understood: train it, fill blanks with it, look inside."
    )
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
    """Exit with an error about an unknown option or word; for pretrain it names the nearest setting."""
    name = next((word for word in unknown if word.startswith("--")), None)
    if args.command == "pretrain" and name:
        from ..train.config import resolve

        resolve(overrides={name.removeprefix("--").partition("=")[0]: ""})  # raises: no such setting
    whole.error(f"{unknown[0]!r} is not accepted; see minglm --help")
