"""`minglm pretrain`."""

import argparse
import json
import shlex
from pathlib import Path

from ..data.documents import ENDINGS
from ..errors import MinglmError
from ..train.config import keys
from ..train.presets import PRESETS
from ..use.models import read_model
from .arguments import positive

# Short names for settings on the command line; every setting also has a full name, e.g. --train.lr.
SHORT = {
    "--text": "data.text",
    "--text-key": "data.text_key",
    "--tokenizer": "data.tokenizer",
    "--documents": "data.documents",
    "--errors": "data.errors",
    "--objective": "model.family",
    "--steps": "train.steps",
    "--minutes": "train.minutes",
    "--batch-tokens": "train.batch_tokens",
    "--lr": "train.lr",
    "--optimizer": "train.optimizer",
    "--seed": "train.seed",
    "--dtype": "train.dtype",
    "--device": "train.device",
    "--backend": "train.backend",
    "--compile": "train.compile",
    "--checkpoint-activations": "train.checkpoint_activations",
    "--shard": "train.shard",
    "--keep": "train.keep",
    "--log": "train.log",
}
SIZES = {  # preset: its number of parameters and what it is for; a test counts them
    "page": "1.1 M, three to six minutes on two cores; runs live in minglm explore",
    "box": "3.7 M, the bundled model",
    "tiny": "4.3 M, five to ten minutes on two cores",
    "small": "29.9 M, for one GPU and some hundred megabytes of text",
    "base": "109.3 M, the paper's GLM-Base",
    "large": "334.7 M, the paper's GLM-Large",
    "2b": "1920.1 M, the published GLM-2B's shape, for --dry-run",
    "10b": "9880.7 M, the published GLM-10B's shape, for --dry-run",
}


def pretrain_command(args):
    from ..train.config import resolve, to_toml

    overrides = {SHORT.get(name, name.removeprefix("--")): value for name, value in args.settings}
    if args.resume:
        return resume_command(args, overrides)
    if (args.gpus or args.mfu) and not args.dry_run:
        raise MinglmError("--gpus and --mfu: accepted with --dry-run, which plans a run")
    shape = [key for key in overrides if key.startswith("model.") and key != "model.dropout"]
    if args.init and shape:
        raise MinglmError(f"{shape[0]}: the model's shape comes from --init {args.init}; leave it out")
    config = resolve(args.preset, args.config, overrides)
    init = read_init(args.init, config, overrides) if args.init else None
    if init:
        from dataclasses import replace

        config = replace(config, model=init[0].config)
    if args.print_config:
        print(to_toml(config), end="")
        return
    if args.dry_run:
        from ..train.plan import plan

        for name, line in plan(config, args.gpus or 8, args.mfu or 0.4).items():
            print(f"{name:<11} {line}")
        return
    run_and_close(config, args.out, stop_at=args.stop_at, init=init)


def resume_command(args, overrides):
    if not args.out:
        raise MinglmError("--resume needs the folder of the run: minglm pretrain --out RUN --resume")
    if args.dry_run:
        raise MinglmError("--dry-run: plans a run that has not begun; leave --resume out")
    if args.init:
        raise MinglmError("--init: a resumed run continues from its own checkpoint; leave it out")
    from ..train.folders import resumed_settings

    config = resumed_settings(args.out, overrides, args.preset, args.config)
    run_and_close(config, args.out, stop_at=args.stop_at, resume=True)


def run_and_close(config, out, **how):
    """Train, then print what was written and what to try next."""
    from ..train.distributed import is_first
    from ..train.pretrain import Interrupted, pretrain
    from ..viz.figures.curves import save_curves

    try:
        out = pretrain(config, out, draw_curves=save_curves, **how)
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    if is_first():
        files, model = [name for name in RUN_FILES if (Path(out) / name).exists()], shlex.quote(str(out))
        print(f"wrote       {out}: {', '.join(files)}")
        print(f"try         minglm fill --model {model} {shlex.quote(blank_to_try(config, Path(out)))}")
        print(f"see         minglm explore --model {model} --open")


BLANK_TO_TRY = "She opened the [MASK] and went [MASK]."


def blank_to_try(config, out):
    """Return a text with a blank, in the style of the training text."""
    samples = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    if not config.data.text or not samples:
        return BLANK_TO_TRY
    return " ".join(json.loads(samples[-1])["text"].split())


RUN_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "run.toml",
    "metrics.csv",
    "samples.jsonl",
    "curves.png",
    "evaluation.json",
    "checkpoints",
)


def read_init(directory, config, overrides):
    """Return (GLM, Tokenizer) for a new run to start from."""
    from dataclasses import replace

    from ..model import GLM

    model, tokenizer = read_model(directory)
    if "model.dropout" in overrides:
        weights, model = model.state_dict(), GLM(replace(model.config, dropout=config.model.dropout))
        model.load_state_dict(weights)
    return model, tokenizer


def escape(text):
    """Double the percent signs of a help text, because argparse reads them as formats."""
    return text.replace("%", "%%")


class Setting(argparse.Action):
    """Collect (option, value) pairs, in the order given."""

    def __call__(self, parser, namespace, value, option=None):
        value = True if self.nargs == 0 else value
        namespace.settings = [*namespace.settings, (self.option_strings[0], value)]


def share(text):
    """Parse a number above 0 and up to 1, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not accepted; a number > 0 and <= 1 is")
    return number


def add_pretrain(p):
    p.usage = f"{p.prog} [--preset NAME] [--text X [X ...]] [--out RUN [--resume]] [settings]"
    p.description = (
        "Train a GLM. Without arguments: the preset tiny on the embedded corpus, five\n"
        "to ten minutes on two cores. Ctrl-C saves a checkpoint and stops (continue with\n"
        "--out RUN --resume); a second Ctrl-C quits immediately."
    )
    p.epilog = "\n".join(
        [
            "presets and their number of parameters:",
            *(f"  {name:<5}  {about}" for name, about in SIZES.items()),
            "\n--text takes folders, and files that end in",
            f"  {' '.join(ENDINGS)}",
            "\nLater sources override earlier ones: defaults, preset, --config FILE, command",
            "line. --print-config shows every setting.",
        ]
    )
    p.formatter_class, p.allow_abbrev = argparse.RawDescriptionHelpFormatter, False
    p.set_defaults(run=pretrain_command, settings=[])
    p.add_argument("--preset", metavar="NAME", help=f"{', '.join(PRESETS)} (default tiny); sizes below")
    p.add_argument("--config", metavar="FILE", help="settings from a TOML file")
    p.add_argument("--out", metavar="RUN", type=Path, help="the run folder (default runs/PRESET-NNN)")
    p.add_argument(
        "--resume", action="store_true", help="continue the run in --out; the result is the same, bit for bit"
    )
    p.add_argument("--init", metavar="DIR", help="start a new run from the weights and tokenizer of a model")
    p.add_argument("--stop-at", metavar="K", type=positive, help="save and stop after step K of the schedule")
    p.add_argument("--print-config", action="store_true", help="print the settings as TOML and exit")
    p.add_argument("--dry-run", action="store_true", help="print parameters, memory, FLOP and days, and exit")
    p.add_argument("--gpus", metavar="N", type=positive, help="GPUs for --dry-run (default 8)")
    p.add_argument("--mfu", metavar="X", type=share, help="share of their peak (default 0.4)")
    known, settings = keys(), p.add_argument_group("settings")
    how = dict(action=Setting, metavar="X")
    for option, key in SHORT.items():
        nargs = 0 if known[key].type is bool else "+" if key == "data.text" else None
        settings.add_argument(option, nargs=nargs, help=escape(known[key].help), **how)
    full_names = p.add_argument_group("every setting by its full name")
    for key, setting in known.items():
        nargs = "+" if key == "data.text" else None
        about = escape(f"{setting.help} ({setting.default})")
        full_names.add_argument(f"--{key}", nargs=nargs, help=about, **how)
