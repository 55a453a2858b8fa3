"""The command line: `minglm pretrain`, `fill`, `write`, `show`, `info`, `bench`.

Bad input is one line on stderr and exit code 2; Ctrl-C is 130.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from . import __version__
from .bench import add_bench
from .errors import MinglmError, note

# Short names of settings on the command line; every setting also has its full name, e.g. --train.lr.
SHORT = {
    "--text": "data.text", "--text-key": "data.text_key", "--documents": "data.documents", "--errors": "data.errors",
    "--steps": "train.steps", "--minutes": "train.minutes", "--batch-tokens": "train.batch_tokens", "--lr": "train.lr",
    "--seed": "train.seed", "--dtype": "train.dtype", "--device": "train.device", "--backend": "train.backend",
    "--compile": "train.compile", "--checkpoint-activations": "train.checkpoint_activations",
    "--keep": "train.keep", "--log": "train.log",
}  # fmt: skip


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


def refuse_unknown(whole, args, unknown):
    """An option or word that no command has: the error names the nearest setting where there are settings."""
    name = next((word for word in unknown if word.startswith("--")), None)
    if args.run is pretrain_command and name:
        from .config import resolve

        resolve(overrides={name.removeprefix("--").partition("=")[0]: ""})  # raises: no such setting
    whole.error(f"{unknown[0]!r} is not accepted; see minglm --help")


# ---- pretrain -----------------------------------------------------------------------------------------------------------


def pretrain_command(args):
    from .config import resolve, to_toml

    overrides = {SHORT.get(name, name.removeprefix("--")): value for name, value in args.settings}
    if args.resume:
        return resume_command(args, overrides)
    if args.init and (clash := [key for key in overrides if key.startswith("model.") and key != "model.dropout"]):
        raise MinglmError(f"{clash[0]}: the model's shape comes from --init {args.init}; leave it out")
    config = resolve(args.preset, args.config, overrides)
    init = read_init(args.init, config, overrides) if args.init else None
    if init:
        from dataclasses import replace

        config = replace(config, model=init[0].config)
    if args.print_config:
        print(to_toml(config), end="")
        return
    run_and_close(config, args.out or next_run(config.preset), stop_at=args.stop_at, init=init)


def resume_command(args, overrides):
    from .pretrain import run_settings

    given = [name for name, value in (("--preset", args.preset), ("--config", args.config), ("--init", args.init)) if value]
    if given or overrides:
        first = (given or list(overrides))[0]
        raise MinglmError(f"{first}: a resumed run keeps its settings; only --stop-at goes with --resume")
    if not args.out:
        raise MinglmError("--resume: which run? name its folder: minglm pretrain --out RUN --resume")
    run_and_close(run_settings(args.out), args.out, stop_at=args.stop_at, resume=True)


def run_and_close(config, out, **how):
    """Train, then say what was written and what to try."""
    from .pretrain import Interrupted, pretrain
    from .viz.curves import save_curves

    try:
        out = pretrain(config, out, draw_curves=save_curves, **how)
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    if int(os.environ.get("RANK", 0)) == 0:
        wrote = [name for name in RUN_FILES if (Path(out) / name).exists()]
        print(f"wrote       {out}: {', '.join(wrote)}")
        print(f"try         minglm fill --model {shlex.quote(str(out))} {shlex.quote(blank_to_try(config, Path(out)))}")


def blank_to_try(config, out):
    """A text with a blank that suits what the model has read."""
    samples = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    if not config.data.text or not samples:
        return "And God [MASK] the light [MASK]."
    return " ".join(json.loads(samples[-1])["text"].split())


RUN_FILES = (
    "model.safetensors", "config.json", "tokenizer.json", "run.toml", "metrics.csv", "samples.jsonl", "curves.png",
    "evaluation.json", "checkpoints",
)  # fmt: skip


def read_init(directory, config, overrides):
    """(GLM, Tokenizer) that a new run starts from."""
    from dataclasses import replace

    from .model import GLM

    model, tokenizer = read_model(directory)
    if "model.dropout" in overrides:
        weights, model = model.state_dict(), GLM(replace(model.config, dropout=config.model.dropout))
        model.load_state_dict(weights)
    return model, tokenizer


def next_run(preset, runs=Path("runs")):
    """The next free name runs/PRESET-NNN."""
    taken = [int(p.name[len(preset) + 1 :]) for p in runs.glob(f"{preset}-*") if p.name[len(preset) + 1 :].isdigit()]
    return runs / f"{preset}-{max(taken, default=0) + 1:03}"


def escape(text):
    """argparse reads per cent signs of a help text as formats."""
    return text.replace("%", "%%")


class Setting(argparse.Action):
    """Collects (option, value) pairs, in the order given."""

    def __call__(self, parser, namespace, value, option=None):
        namespace.settings = [*namespace.settings, (self.option_strings[0], True if self.nargs == 0 else value)]


def add_pretrain(commands):
    from .config import PRESETS, keys

    p = commands.add_parser(
        "pretrain", help="train a GLM; without arguments: the preset tiny on the embedded corpus, about five minutes",
        description="Train a GLM. Without arguments: the preset tiny on the embedded corpus, about five minutes on two cores.",
        epilog="Settings come from: default < preset < --config FILE < command line. --print-config shows them all.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    p.set_defaults(run=pretrain_command, settings=[])
    p.add_argument("--preset", metavar="NAME", help=f"{', '.join(PRESETS)} (default tiny)")
    p.add_argument("--config", metavar="FILE", help="settings from a TOML file")
    p.add_argument("--out", metavar="RUN", type=Path, help="the run folder (default runs/PRESET-NNN)")
    p.add_argument("--resume", action="store_true", help="go on with the run in --out, bit for bit")
    p.add_argument("--init", metavar="DIR", help="start a new run from the weights and tokenizer of a model")
    p.add_argument("--stop-at", metavar="K", type=positive, help="save and leave after step K of the schedule")
    p.add_argument("--print-config", action="store_true", help="print the settings as TOML and leave")
    known, settings = keys(), p.add_argument_group("settings")
    for option, key in SHORT.items():
        kind, about = known[key].type, known[key].help
        if kind is bool:
            settings.add_argument(option, action=Setting, nargs=0, help=escape(about))
        else:
            nargs = "+" if key == "data.text" else None
            settings.add_argument(option, action=Setting, nargs=nargs, metavar="X", help=escape(about))
    every = p.add_argument_group("every setting by its full name")
    for key, about in known.items():
        nargs = "+" if key == "data.text" else None
        every.add_argument(f"--{key}", action=Setting, nargs=nargs, metavar="X", help=escape(f"{about.help} ({about.default})"))
    return p


# ---- fill, write, show -----------------------------------------------------------------------------------------------------


def fill_command(args):
    from .generate import fill
    from .viz.terminal import charset_of, highlight, wants_colour

    model, tokenizer = load(args.model)
    filled = fill(model, tokenizer, args.text, top=args.top, **sampling(args))
    if args.json:
        print(json.dumps(as_json(filled), ensure_ascii=False))
        return
    print(highlight(filled.pieces, colour=wants_colour(sys.stdout), charset=charset_of(sys.stdout)))
    if args.top > 1:
        for number, blank in enumerate(filled.blanks, 1):
            print(f"\nblank {number}, {blank.mask}: the likeliest whole fillings, their end included")
            for filling in blank.alternatives:
                text = repr(filling.text.strip())[1:-1] + ("" if filling.complete else " ...")
                print(f"  {probability(filling.log_probability):>9}  {text}")


def as_json(filled):
    """What --json prints: the text and, for each blank, its mask and fillings with natural log-probabilities."""
    def filling(f):
        return dict(text=f.text, tokens=f.tokens, log_probability=f.log_probability,
                    log_probabilities=f.log_probabilities, complete=f.complete)  # fmt: skip

    blanks = [dict(mask=b.mask, **filling(b.answer), alternatives=[filling(a) for a in b.alternatives]) for b in filled.blanks]
    return dict(text=filled.text, blanks=blanks)


def probability(log_p):
    """A natural log-probability as per cent, e.g. 12.3 % or 4.1e-05 %."""
    from math import exp

    share = 100 * exp(log_p)
    return f"{share:.1f} %" if share >= 0.1 else f"{share:.1e} %"


def write_command(args):
    from .generate import write

    model, tokenizer = load(args.model)
    print(write(model, tokenizer, args.text, **sampling(args)))


def sampling(args):
    """The dials that fill and write share."""
    return {name: getattr(args, name) for name in ("temperature", "top_k", "top_p", "seed", "max_tokens")}


def load(directory):
    """(GLM, Tokenizer) of a folder, or of the newest run; stderr says which."""
    if directory is None:
        directory = newest_run()
        note(f"the model is {directory}")
    return read_model(directory)


def read_model(directory):
    """(GLM, Tokenizer) of a model folder, or of a run folder's last checkpoint."""
    from .checkpoint import model_folder
    from .model import GLM
    from .tokenizer import Tokenizer

    folder = model_folder(directory)
    return GLM.from_pretrained(folder), Tokenizer.from_pretrained(folder)


def newest_run(runs=Path("runs")):
    """The newest finished run under ./runs, else the newest that has saved a step; MinglmError when there is none."""
    found = [p for p in runs.glob("*") if (p / "model.safetensors").is_file()]
    finished = [p for p in found if (p / "evaluation.json").is_file()]
    if not found:
        raise MinglmError(f"--model: no run in {runs.resolve()}; train one with `minglm pretrain`, or give --model DIR")
    return max(finished or found, key=lambda p: (p / "model.safetensors").stat().st_mtime)


def show_command(args):
    from .viz.terminal import charset_of, show, wants_colour

    charset = "ascii" if args.ascii else charset_of(sys.stdout)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    how = dict(objective=args.objective, width=width, colour=wants_colour(sys.stdout), charset=charset)
    print(show(args.text, args.spans, args.order, **how))


# ---- info ----------------------------------------------------------------------------------------------------------------


def info_command(args):
    from .info import collect, show

    report = collect()
    print(json.dumps(report, ensure_ascii=False) if args.json else show(report))
    if not all(result["ok"] for result in report["self_test"]):
        raise MinglmError("the self-test failed")


def add_info(commands):
    about = "versions, instruction sets, which attention runs where and why, a self-test, and what would improve it"
    p = commands.add_parser("info", help=about, description=f"Says {about}.")
    p.set_defaults(run=info_command)
    p.add_argument("--json", action="store_true", help="for programs: one line of JSON")


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not accepted; a whole number >= 1 is")
    return int(text)


def add_model_command(commands, name, run, about, text_about, description):
    p = commands.add_parser(name, help=about, description=description)
    p.set_defaults(run=run)
    p.add_argument("text", metavar="TEXT", help=text_about)
    p.add_argument("--model", metavar="DIR", help="a model or run folder (default: the newest run under ./runs)")
    p.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest token (default); above: draw")
    p.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens only (0: all)")
    p.add_argument("--top-p", type=float, default=1.0, metavar="P", help="draw from the fewest tokens that hold so much")
    p.add_argument("--seed", type=int, default=0, help="of the draws")
    p.add_argument("--max-tokens", type=positive, metavar="N", help="of one blank")
    return p


def parser():
    """The whole command line."""
    p = argparse.ArgumentParser(prog="minglm", description="GLM, understood: train it, fill blanks with it, look inside.")
    p.add_argument("--version", action="version", version=f"minglm {__version__}")
    commands = p.add_subparsers(metavar="COMMAND", required=True)
    add_pretrain(commands)
    p_fill = add_model_command(
        commands, "fill", fill_command, "fill the blanks of a text",
        'a text with [MASK] (some words), [sMASK] (a sentence) or [gMASK] (the rest), e.g. "And God [MASK] the light [MASK]."',
        "Fill every blank of a text, one after the other; each sees the earlier answers.",
    )  # fmt: skip
    p_fill.add_argument("--top", type=int, default=1, metavar="N", help="search the N likeliest whole fillings of each blank")
    p_fill.add_argument("--json", action="store_true", help="for programs: one line of JSON")
    add_model_command(
        commands, "write", write_command, "continue a text", "how it begins", "Continue a text through [gMASK]."
    )  # fmt: skip
    p_show = commands.add_parser("show", help="Part A, Part B, both positions, targets and mask of a text, as a table")
    p_show.set_defaults(run=show_command)
    p_show.add_argument("text", metavar="TEXT", help='words, e.g. "x1 x2 x3 x4 x5 x6"')
    p_show.add_argument("--spans", required=True, metavar="A:B,C:D", help="words to blank; from 0, end not included")
    p_show.add_argument("--order", metavar="2,1", help="order of the spans in Part B, from 1 (default: 1,2,...)")
    p_show.add_argument("--objective", default="token", choices=["token", "sentence", "document"], help="which mask token")
    p_show.add_argument("--ascii", action="store_true", help="plain characters only")
    add_info(commands)
    add_bench(commands)
    return p
