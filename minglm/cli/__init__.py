"""The command line: one file per group of commands, imported when one of them is run.

A command checks its arguments before it imports what it needs, so --help and usage errors import no torch.
Bad input gives one line on stderr and exit code 2; Ctrl-C gives 130.
"""

import argparse
import os
import sys
from importlib import import_module

from ..errors import MinglmError, reason
from ..streams import say, usable_streams
from ..version import __version__

# command: (its file, its line in `minglm --help`). add_COMMAND in that file adds the arguments.
COMMANDS = {
    "course": ("course", "build GLM from an empty file, puzzle by puzzle; lists the chapters, too"),
    "pretrain": (
        "pretrain",
        "train a GLM; without arguments: the preset tiny on the embedded corpus, five to ten minutes",
    ),
    "fill": ("fill", "fill the blanks of a text"),
    "write": ("fill", "continue a text"),
    "show": ("show", "print Part A, Part B, both positions, targets and mask of a text as a table"),
    "explore": (
        "show",
        "write an interactive page: the steps, the mask, related models, a live model",
    ),
    "plot": ("plot", "draw a run, several runs, or a benchmark, as .png, .svg or .pdf"),
    "classify": ("tasks", "classify a text: the words for each label compete for a blank"),
    "rewrite": ("tasks", "rewrite a text, with a model that was fine-tuned for it"),
    "finetune": ("tasks", "fine-tune a model on labelled records, and compare it with baselines"),
    "evaluate": ("evaluate", "evaluate a model on a task or on running text, with standard errors"),
    "compare": ("compare", "compare GLM with GPT, BERT and prefix LM: same network, text and tasks"),
    "similar": ("fill", "find the lines of a file most similar to a text, by the model's vectors"),
    "convert": ("convert", "convert weights of the original GLM into a model folder, and back"),
    "info": ("info", "print versions, instruction sets, which attention runs and why, and a self-test"),
    "bench": ("bench", "benchmark attention, training, its data or generation; checked, then timed"),
}


def main(argv=None):
    """Run one command; returns the exit code."""
    share_cores()
    return exit_code(lambda: run(argv))


def run(argv):
    """Run one command. Raises MinglmError for bad input, and SystemExit for a usage error."""
    top = parser()
    args, unknown = top.parse_known_args(argv)
    if unknown:
        refuse_unknown(top, args, unknown)
    args.run(args)
    sys.stdout.flush()


@usable_streams()
def exit_code(act):
    """Call act(), print in one line on stderr what stopped it, and return the exit code: 0, 1, 2 or 130."""
    try:
        act()
    except MinglmError as error:
        say(f"minglm: error: {error}")
        return 2
    except BrokenPipeError:  # the reader of the pipe has gone, as in `minglm ... | head`
        return 1
    except KeyboardInterrupt as error:
        say(f"minglm: {str(error) or 'interrupted'}")
        return 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"minglm: error: {where}{reason(error)}")
        return 2
    return 0


def share_cores():
    """Let OpenMP threads that wait sleep after some microseconds, unless the user set how they wait.

    libgomp lets them spin for milliseconds, which takes the core from the threads that they wait for as soon
    as another program runs: measured on two cores beside other work, training was 5 to 20 times slower, and
    on a quiet machine no faster. libgomp reads the variable when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def parser():
    """The top-level parser."""
    p = argparse.ArgumentParser(
        prog="minglm", description="GLM, understood: train it, fill blanks with it, look inside."
    )
    p.add_argument("--version", action="version", version=f"minglm {__version__}")
    commands = p.add_subparsers(metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, (file, about) in COMMANDS.items():
        commands.add_parser(name, help=about).command = (name, file)
    return p


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, which adds its arguments only when that command is run."""

    command = None  # (name, file)

    def parse_known_args(self, args=None, namespace=None):
        if self.command:
            (name, file), self.command = self.command, None
            self.set_defaults(command=name)
            getattr(import_module(f".{file}", __name__), f"add_{name}")(self)
        return super().parse_known_args(args, namespace)


def refuse_unknown(top, args, unknown):
    """Exit with an error about an unknown option or word; for pretrain, suggest the nearest setting."""
    name = next((word for word in unknown if word.startswith("--")), None)
    if args.command == "pretrain" and name:
        from ..train.config import resolve

        resolve(overrides={name.removeprefix("--").partition("=")[0]: ""})  # raises: no such setting
    top.error(f"{unknown[0]!r} is not accepted; see minglm --help")
