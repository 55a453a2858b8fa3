"""The command line: `minglm pretrain`, `fill`, `write`, `show`, `explore` and the commands of other rooms.

Bad input is one line on stderr and exit code 2; Ctrl-C is 130.
"""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

from . import __version__
from .arguments import add_model, positive
from .bench import add_bench
from .cloze import add_classify
from .compare import add_compare
from .convert import add_convert
from .embedding import add_similar
from .errors import MinglmError, note
from .finetune import add_finetune
from .runs import load, read_model
from .scorer import add_evaluate
from .seq2seq import add_rewrite
from .streams import say, usable_streams
from .viz.plot import add_plot

# Short names of settings on the command line; every setting also has its full name, e.g. --train.lr.
SHORT = {
    "--text": "data.text", "--text-key": "data.text_key", "--documents": "data.documents", "--errors": "data.errors",
    "--objective": "model.family", "--steps": "train.steps", "--minutes": "train.minutes",
    "--batch-tokens": "train.batch_tokens", "--lr": "train.lr", "--seed": "train.seed", "--dtype": "train.dtype",
    "--device": "train.device", "--backend": "train.backend", "--compile": "train.compile",
    "--checkpoint-activations": "train.checkpoint_activations", "--keep": "train.keep", "--log": "train.log",
}  # fmt: skip


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
        say(f"minglm: error: {where}{error.strerror or str(error) or type(error).__name__}")
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
    run_and_close(config, args.out, stop_at=args.stop_at, init=init)


def resume_command(args, overrides):
    from .pretrain import resumed_settings

    if not args.out:
        raise MinglmError("--resume: which run? name its folder: minglm pretrain --out RUN --resume")
    if args.init:
        raise MinglmError("--init: a resumed run goes on from its own checkpoint; leave it out")
    config = resumed_settings(args.out, overrides, args.preset, args.config)
    run_and_close(config, args.out, stop_at=args.stop_at, resume=True)


def run_and_close(config, out, **how):
    """Train, then say what was written and what to try."""
    from .pretrain import Interrupted, pretrain
    from .processes import is_first
    from .viz.curves import save_curves

    try:
        out = pretrain(config, out, draw_curves=save_curves, **how)
    except Interrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from None
    if is_first():
        wrote = [name for name in RUN_FILES if (Path(out) / name).exists()]
        print(f"wrote       {out}: {', '.join(wrote)}")
        print(f"try         minglm fill --model {shlex.quote(str(out))} {shlex.quote(blank_to_try(config, Path(out)))}")
        print(f"see         minglm explore --model {shlex.quote(str(out))} --open")


BLANK_TO_TRY = "And God [MASK] the light [MASK]."


def blank_to_try(config, out):
    """A text with a blank that suits what the model has read."""
    samples = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    if not config.data.text or not samples:
        return BLANK_TO_TRY
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
    from .viz.columns import charset_of, highlight, wants_colour
    from .viz.typed import parse_order

    model, tokenizer = load(args.model)
    dials = sampling(args) | dict(top=args.top)
    if args.order:
        blanks = sum(token in tokenizer.special.masks for token in tokenizer.encode(args.text, special=True))
        dials["order"] = parse_order(args.order, blanks)
    if args.json:
        print(json.dumps(as_json(fill(model, tokenizer, args.text, **dials)), ensure_ascii=False))
        return
    look = dict(colour=wants_colour(sys.stdout), charset=charset_of(sys.stdout))
    stream = Stream()
    if wants_stream(args) and not args.order and args.top == 1 and not args.beams:
        dials["on_token"] = stream_blanks(stream, tokenizer, args.text, look)
    filled = fill(model, tokenizer, args.text, **dials)
    stream.end(highlight(filled.pieces, **look))
    if args.top > 1:
        for number, blank in enumerate(filled.blanks, 1):
            print(f"\nblank {number}, {blank.mask}: the likeliest whole fillings, their end included")
            for filling in blank.alternatives:
                text = repr(filling.text.strip())[1:-1] + ("" if filling.complete else " ...")
                print(f"  {probability(filling.log_probability):>9}  {text}")


class Stream:
    """A line that grows on stdout as tokens come."""

    def __init__(self):
        self.shown = ""

    def show(self, text):
        """The line as it stands; half of a character at its end waits for the other half."""
        text = text.rstrip("\ufffd")
        if text.startswith(self.shown) and text != self.shown:
            print(text[len(self.shown) :], end="", flush=True)
            self.shown = text

    def end(self, text):
        """The finished line; anew where it is no continuation of what was shown."""
        anew = not text.startswith(self.shown)
        print("\n" * anew + text[0 if anew else len(self.shown) :])


def stream_blanks(stream, tokenizer, text, look):
    """A function for fill's on_token: shows the text up to the blank that is being filled, and what stands in it so far."""
    from .viz.columns import BRACKETS, highlight

    end_of_blank = "\x1b[0m" if look["colour"] else BRACKETS[look["charset"]][1]
    between, answers = [[]], {}  # ids of the text between its blanks
    for token in tokenizer.encode(text, special=True):
        if token in tokenizer.special.masks:
            between.append([])
        else:
            between[-1].append(token)

    def on_token(_, blank, ids):
        answers[blank] = ids
        parts = [part for n in range(blank + 1) for part in ((between[n], False), (answers[n], True))]
        pieces = [(tokenizer.decode(ids), is_blank) for ids, is_blank in parts]
        if pieces[-1][0].strip():
            stream.show(highlight(pieces, **look).removesuffix(end_of_blank))

    return on_token


def wants_stream(args):
    """Whether tokens are printed as they come: on a terminal, and wherever --stream asks for it."""
    return args.stream or sys.stdout.isatty()


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
    dials, stream = sampling(args), Stream()
    if wants_stream(args) and not args.beams:
        dials["on_token"] = lambda _, __, ids: stream.show(args.text + tokenizer.decode(ids))
    stream.end(write(model, tokenizer, args.text, **dials))


def sampling(args):
    """The dials that fill and write share."""
    return {name: getattr(args, name) for name in DIALS}


DIALS = (
    "temperature", "top_k", "top_p", "seed", "max_tokens", "min_tokens", "beams", "length_penalty", "no_repeat_ngram",
    "repetition_penalty",
)  # fmt: skip


def show_command(args):
    from .viz.columns import charset_of, wants_colour
    from .viz.terminal import show

    refuse_together(args)
    if args.figure:
        return draw_command(args)
    charset = "ascii" if args.ascii else charset_of(sys.stdout)
    width = args.width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    dials = drawing(args)
    print(show(
        args.text, args.spans, args.order, args.objective, models=args.compare, cell=args.explain, step=args.step,
        as_json=args.json, width=width, colour=wants_colour(sys.stdout), charset=charset,
        **{name: value for name, value in dials.items() if value is not None},
    ))  # fmt: skip


def draw_command(args):
    """One figure of a text, or of a text and a model, as a file."""
    from .files.whole import beside
    from .viz.figures import draw, find, save_figure
    from .viz.typed import read

    figure = find(args.figure)
    model, tokenizer = load(args.model) if args.model else (None, None)
    has_blanks = model is not None and any(t in tokenizer.special.masks for t in tokenizer.encode(args.text, special=True))
    d = None
    if not (figure.name == "infilling" and has_blanks and args.spans is None):
        dials = {name: value for name, value in drawing(args).items() if value is not None}
        d = read(args.text, args.spans, args.order, args.objective, **dials).explain()
    look = dict(theme=args.theme or "light", width=args.width)
    fig = draw(figure.name, derivation=d, model=model, tokenizer=tokenizer, text=args.text, **look)
    out = args.out or Path(f"{figure.name}.svg")
    print(f"wrote       {save_figure(fig, out)}", file=beside(out))


def drawing(args):
    """The dials of `show` for spans that are drawn; None where they were not given."""
    return dict(seed=args.seed, mask_ratio=args.ratio, mean_length=args.mean_length)


def refuse_together(args):
    """Two options of `show` of which one would be without effect: an error that names both."""
    given = {"--" + name.replace("_", "-") for name, value in vars(args).items() if value is not None and value is not False}
    given.add(f"--objective {args.objective}")
    for one, other, reason in (
        ("--compare", "--explain", "one view at a time"),
        ("--compare", "--step", "one view at a time"),
        ("--explain", "--step", "one view at a time"),
        ("--step", "--json", "the JSON holds every step already"),
        ("--width", "--json", "JSON is one line"),
        *(("--figure", other, "one view at a time") for other in ("--compare", "--explain", "--step", "--json", "--ascii")),
        *((dial, "--spans", "only spans that are not given are drawn") for dial in ("--seed", "--ratio", "--mean-length")),
        *((dial, "--objective document", "its one span is the last 50 to 100 %") for dial in ("--ratio", "--mean-length")),
        ("--mean-length", "--objective sentence", "its spans are whole sentences"),
    ):
        if {one, other} <= given:
            raise MinglmError(f"{one} and {other} do not go together: {reason}")
    for option in ("--out", "--model", "--theme"):
        if option in given and "--figure" not in given:
            raise MinglmError(f"{option} goes with --figure NAME: a table is printed, and needs no model")


def add_show(commands):
    about = "Part A, Part B, both positions, targets and mask of a text, as a table"
    p = commands.add_parser(
        "show", help=about, description=f"Shows {about}. Needs no model.",
        epilog="Rows, columns and positions count from 0, spans in --order from 1. NO_COLOR and FORCE_COLOR are obeyed.",
    )  # fmt: skip
    p.set_defaults(run=show_command)
    p.add_argument("text", metavar="TEXT", help='words, e.g. "x1 x2 x3 x4 x5 x6"; Chinese without blanks: characters')
    p.add_argument("--spans", metavar="A:B,C:D", help="words to blank; from 0, end not included (default: they are drawn)")
    p.add_argument("--order", metavar="2,1", help="order of the spans in Part B, from 1 (default: 1,2,..., drawn if spans are)")
    p.add_argument("--objective", default="token", choices=["token", "sentence", "document"], help="which mask token")
    drawn = p.add_argument_group("spans that are drawn, as in training")
    drawn.add_argument("--seed", type=int, metavar="N", help="another seed draws others (default 0)")
    drawn.add_argument("--ratio", type=float, metavar="R", help="share of the text to blank (default 0.15)")
    drawn.add_argument("--mean-length", type=float, metavar="L", help="of token spans: lambda of their Poisson law (default 3)")
    views = p.add_argument_group("another view than the table")
    views.add_argument("--step", action="store_true", help="the derivation step by step")
    views.add_argument("--explain", metavar="ROW,COL", help="why one cell of the mask is open or shut, e.g. 9,6")
    views.add_argument("--compare", metavar="M,M", help="GLM beside bert, gpt, prefix, unilm, t5 or all, on the same text")
    from .viz.figures import BENCH, FIGURES, RUN, RUNS

    names = ", ".join(f.name for f in FIGURES.values() if f.needs not in (RUN, RUNS, BENCH))
    picture = p.add_argument_group("a picture instead of text", description=f"NAME: {names}, position_embeddings")
    picture.add_argument("--figure", metavar="NAME", help="write this figure")
    picture.add_argument("--out", metavar="FILE", type=Path, help=".svg, .png or .pdf (default NAME.svg)")
    picture.add_argument("--model", metavar="RUN", help="a model or run folder, for figures that look into one")
    picture.add_argument("--theme", choices=["light", "dark"], help="colours (default light)")
    p.add_argument("--json", action="store_true", help="for programs: one line of JSON")
    p.add_argument("--width", type=positive, metavar="N",
                   help="columns (default: those of the terminal; no limit in a file); of a figure: pixels (default 900)")
    p.add_argument("--ascii", action="store_true", help="plain characters only")


# ---- explore -------------------------------------------------------------------------------------------------------------


def explore_command(args):
    from .files.whole import beside, check_writable, write_whole
    from .viz.page import html
    from .viz.typed import read

    how = (args.spans, args.order, args.objective)
    if args.model:
        page = explore_model(args, how)
    else:
        if args.text is None and args.spans:
            raise MinglmError("--spans: of which text? name it: minglm explore TEXT --spans A:B")
        page = html(None if args.text is None else read(args.text, *how, seed=args.seed).explain())
    out = Path(args.out)
    check_writable("--out", out)
    write_whole(out, page)
    size = f"{len(page.encode()) / 1000:,.0f} KB"
    print(f"wrote       {out}, {size}: it opens with a double click, and needs no network", file=beside(out))
    if args.open:
        import webbrowser

        if not webbrowser.open(out.resolve().as_uri()):
            note(f"no browser could be started; open {out} yourself")


def explore_model(args, how):
    """The page with a model in it. A text with blanks is filled by the model; of another text, spans are blanked."""
    from .generate import fill_ids
    from .spans import Span
    from .viz.derivation import explain
    from .viz.page import html
    from .viz.page.weights import model_spec
    from .viz.typed import Sample, draw, parse_order, parse_spans

    model, tokenizer = load(args.model)
    special, text = tokenizer.special, args.text if args.text is not None else text_to_explore(args.model)
    ids, objectives = tokenizer.encode(text, special=True), {special.smask: "sentence", special.gmask: "document"}
    blanks = [token for token in ids if token in special.masks]
    if blanks:
        if args.spans:
            raise MinglmError("--spans: the text has blanks already; one or the other")
        whole, spans = [], []
        for token, gap in zip_blanks(ids, fill_ids(model, tokenizer, ids), special.masks):
            answer = gap.tokens if gap else [token]
            spans += [Span(len(whole), len(whole) + len(answer))] if gap else []
            whole += answer
        objective = objectives.get(blanks[0], "token") if len(set(blanks)) == 1 else "token"
        sample = Sample(tokenizer.pieces(whole), spans, list(range(len(spans))), objective)
    else:
        spans, order, objective = how
        if spans:
            spans = parse_spans(spans)
            order = parse_order(order, len(spans))
        else:
            spans, order, objective = draw(tokenizer.pieces(ids), objective, args.seed)
        sample = Sample(tokenizer.pieces(ids), spans, order, objective)
        sample.explain()  # refuses spans that do not fit
        mask, end, blanked = special.mask_of(objective), 0, []
        for span in sorted(spans):
            blanked += [*ids[end : span.start], mask]
            end = span.end
        text = tokenizer.decode(blanked + ids[end:])
    derivation = explain(sample.tokens, sample.spans, sample.order, sample.objective)
    return html(derivation, model_spec(model, tokenizer, text, str(args.model)))


def zip_blanks(ids, gaps, masks):
    """(id, its Gap or None) for each id of a text: the gaps belong to the masks, in order."""
    gaps = iter(gaps)
    return [(token, next(gaps) if token in masks else None) for token in ids]


def text_to_explore(directory):
    """A text with a blank that suits what the model of a run has read."""
    from .config import resolve

    run = Path(directory)
    if not (run / "samples.jsonl").is_file() or not (run / "run.toml").is_file():
        return BLANK_TO_TRY
    return blank_to_try(resolve(file=run / "run.toml"), run)


def add_explore(commands):
    about = "one page that shows how GLM reads a text: step by step, cell by cell, beside its relatives"
    p = commands.add_parser(
        "explore", help="one interactive page: the derivation, the mask, the relatives; with --model, a model alive in it",
        description=f"Writes {about}. It is a single file, opened by a double click, that asks nothing of the network.",
    )  # fmt: skip
    p.set_defaults(run=explore_command)
    p.add_argument("text", metavar="TEXT", nargs="?",
                   help="words (default: the paper's example); with --model it may hold [MASK]")
    p.add_argument("--model", metavar="RUN", help="a model or run folder; up to 1.4 M parameters it runs live in the page")
    p.add_argument("--out", metavar="FILE", default="glm.html", help="the page (default glm.html)")
    p.add_argument("--open", action="store_true", help="open it in the browser")
    p.add_argument("--spans", metavar="A:B,C:D", help="words (of a model: tokens) to blank; from 0 (default: they are drawn)")
    p.add_argument("--order", metavar="2,1", help="order of the spans in Part B, from 1")
    p.add_argument("--objective", default="token", choices=["token", "sentence", "document"], help="which mask token")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of spans that are drawn")


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


def add_model_command(commands, name, run, about, text_about, description):
    p = commands.add_parser(name, help=about, description=description)
    p.set_defaults(run=run)
    p.add_argument("text", metavar="TEXT", help=text_about)
    add_model(p)
    p.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: the likeliest token (default); above: draw")
    p.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens only (0: all)")
    p.add_argument("--top-p", type=float, default=1.0, metavar="P", help="draw from the fewest tokens that hold so much")
    p.add_argument("--seed", type=int, default=0, help="of the draws")
    p.add_argument("--max-tokens", type=positive, metavar="N", help="of one blank")
    p.add_argument("--min-tokens", type=int, default=1, metavar="N", help="of one blank")
    p.add_argument("--beams", type=int, default=0, metavar="N", help="search with N beams instead of taking token by token")
    p.add_argument("--length-penalty", type=float, default=0.0, metavar="P", help="score: log-probability / tokens ** P")
    p.add_argument("--no-repeat-ngram", type=int, default=0, metavar="N", help="no N tokens in a row twice in one blank")
    p.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: fewer tokens come again")
    p.add_argument("--stream", action="store_true", help="print tokens as they come, as on a terminal, into a pipe too")
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
    p_fill.add_argument("--order", metavar="2,1", help="in which the blanks are filled, from 1 (default: left to right)")
    p_fill.add_argument("--json", action="store_true", help="for programs: one line of JSON")
    add_model_command(
        commands, "write", write_command, "continue a text", "how it begins", "Continue a text through [gMASK]."
    )  # fmt: skip
    add_show(commands)
    add_explore(commands)
    add_plot(commands)
    add_classify(commands)
    add_rewrite(commands)
    add_finetune(commands)
    add_evaluate(commands)
    add_compare(commands)
    add_similar(commands)
    add_convert(commands)
    add_info(commands)
    add_bench(commands)
    return p
