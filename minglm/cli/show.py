"""`minglm show` and `minglm explore`: how GLM reads a text."""

import shutil
import sys
from pathlib import Path

from ..errors import MinglmError, note
from ..files.whole import beside, check_writable, write_whole
from ..use.models import BOX, load
from ..viz.figures import BENCH, FIGURES, MODEL, RUN, RUNS, draw, find, save_figure
from ..viz.words import LANGUAGES
from .arguments import ModelFolder, add_model, positive
from .pretrain import BLANK_TO_TRY, blank_to_try

BLANK_OF_BOX = "She was very [MASK] to see him."  # the first text for the bundled model


def show_command(args):
    refuse_together(args)
    if args.figure:
        return draw_command(args)
    from ..viz.columns import charset_of, wants_colour
    from ..viz.terminal import show

    charset = "ascii" if args.ascii else charset_of(sys.stdout)
    width = args.width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    print(
        show(
            args.text,
            args.spans,
            args.order,
            args.objective,
            models=args.compare,
            cell=args.explain,
            step=args.step,
            as_json=args.json,
            width=width,
            colour=wants_colour(sys.stdout),
            charset=charset,
            **random_spans(args),
        )
    )


def draw_command(args):
    """Write one figure of a text, or of a text and a model, to a file."""
    figure = find(args.figure)
    from ..viz.typed import read

    model, tokenizer = load(args.model) if args.model or figure.needs in (MODEL, RUN) else (None, None)
    d = None
    if not (figure.name == "infilling" and model and args.spans is None and has_blanks(tokenizer, args.text)):
        d = read(args.text, args.spans, args.order, args.objective, **random_spans(args)).explain()
    look = dict(theme=args.theme or "light", width=args.width)
    fig = draw(figure.name, derivation=d, model=model, tokenizer=tokenizer, text=args.text, **look)
    out = args.out or Path(f"{figure.name}.svg")
    print(f"wrote       {save_figure(fig, out, args.lang or 'en')}", file=beside(out))


def has_blanks(tokenizer, text):
    """Return whether a text has [MASK], [sMASK] or [gMASK] in it."""
    return any(token in tokenizer.special.masks for token in tokenizer.encode(text, special=True))


def random_spans(args):
    """Return the options for random spans that were given, named as `typed.read` names them."""
    dials = dict(seed=args.seed, mask_ratio=args.ratio, mean_length=args.mean_length)
    return {name: value for name, value in dials.items() if value is not None}


def refuse_together(args):
    """Raise MinglmError if two options exclude each other, or one has no effect without another."""
    names = [name for name, value in vars(args).items() if value is not None and value is not False]
    given = {f"--{name.replace('_', '-')}" for name in names} | {f"--objective {args.objective}"}
    views = ("--compare", "--explain", "--step")
    for one, others, reason in (
        ("--compare", ("--explain", "--step"), "one view at a time"),
        ("--explain", ("--step",), "one view at a time"),
        ("--json", ("--step",), "the JSON holds every step already"),
        ("--json", ("--width",), "JSON is one line"),
        ("--figure", (*views, "--json", "--ascii"), "one view at a time"),
        ("--spans", ("--seed", "--ratio", "--mean-length"), "these spans are not random"),
        ("--objective document", ("--ratio", "--mean-length"), "its one span is the last 50 to 100 %"),
        ("--objective sentence", ("--mean-length",), "its spans are whole sentences"),
    ):
        for other in others:
            if {one, other} <= given:
                raise MinglmError(f"{one} and {other} do not go together: {reason}")
    for option in ("--out", "--model", "--theme", "--lang"):
        if option in given and "--figure" not in given:
            raise MinglmError(f"{option} goes with --figure NAME: the table is printed, and needs no model")


def add_show(p):
    p.description = (
        "Print Part A, Part B, both positions, targets and mask of a text as a table. No model needed."
    )
    p.epilog = (
        "Rows, columns and positions count from 0; spans in --order count from 1. "
        "NO_COLOR and FORCE_COLOR are respected."
    )
    p.set_defaults(run=show_command)
    p.add_argument(
        "text",
        metavar="TEXT",
        help='words, e.g. "x1 x2 x3 x4 x5 x6"; Chinese without spaces is split into characters',
    )
    p.add_argument(
        "--spans",
        metavar="A:B,C:D",
        help="words to blank, counted from 0, end excluded (default: random)",
    )
    p.add_argument(
        "--order",
        metavar="2,1",
        help="order of the spans in Part B, counted from 1 (default: 1,2,...; random spans: random)",
    )
    p.add_argument(
        "--objective", default="token", choices=["token", "sentence", "document"], help="which mask token"
    )
    drawn = p.add_argument_group("random spans, as in training")
    drawn.add_argument("--seed", type=int, metavar="N", help="seed of the random spans (default 0)")
    drawn.add_argument("--ratio", type=float, metavar="R", help="share of the text to blank (default 0.15)")
    drawn.add_argument(
        "--mean-length",
        type=float,
        metavar="L",
        help="mean length of token spans: lambda of the Poisson distribution (default 3)",
    )
    views = p.add_argument_group("instead of the table")
    views.add_argument("--step", action="store_true", help="show how the sample is made, step by step")
    views.add_argument(
        "--explain", metavar="ROW,COL", help="explain why one cell of the mask is open or closed, e.g. 9,6"
    )
    views.add_argument(
        "--compare",
        metavar="M,M",
        help="compare GLM with bert, gpt, prefix, unilm, t5 or all on the same text",
    )
    names = [f.name for f in FIGURES.values() if f.needs not in (RUNS, BENCH) and f.name != "spans"]
    about = f"NAME is one of {len(names)} figures: {', '.join(names)}. minglm plot draws the other "
    about += f"{len(FIGURES) - len(names)}."
    picture = p.add_argument_group("a picture instead of the table", about)
    picture.add_argument("--figure", metavar="NAME", help="write this figure to a file")
    picture.add_argument(
        "--out", metavar="FILE", type=Path, help=".svg, .png or .pdf; story: .svg only (default NAME.svg)"
    )
    picture.add_argument(
        "--model",
        metavar="DIR",
        action=ModelFolder,
        help="a run folder, or box, for figures of a model (default: the newest run, or else box)",
    )
    picture.add_argument("--theme", choices=["light", "dark"], help="colours (default light)")
    picture.add_argument("--lang", choices=list(LANGUAGES), help="language of the labels (default en)")
    p.add_argument("--json", action="store_true", help="print one line of JSON")
    p.add_argument(
        "--width",
        type=positive,
        metavar="N",
        help="columns of the table (default: the terminal's, or no limit in a file), or pixels of a figure "
        "(900)",
    )
    p.add_argument("--ascii", action="store_true", help="plain characters only")


def add_lang(p, about):
    p.add_argument("--lang", default="en", choices=list(LANGUAGES), help=f"{about} (default en)")


def explore_command(args):
    if args.spans and args.text is None:
        raise MinglmError("--spans needs a text: minglm explore TEXT --spans A:B")
    if args.model and args.no_model:
        raise MinglmError("--model and --no-model do not go together: a page has one model or none")
    check_writable("--out", args.out)
    page, about = explore_page(args)
    out = Path(args.out)
    write_whole(out, page)
    size = f"{len(page.encode()) / 1000:,.0f} KB, {about}"
    print(f"wrote       {out}, {size}: open it with a double click; it works offline", file=beside(out))
    if args.open:
        import webbrowser

        if not webbrowser.open(out.resolve().as_uri()):
            note(f"no browser could be started; open {out} yourself")


def explore_page(args):
    """Return (the page, what its model is in words). Without a model, torch is not needed."""
    from ..viz.derivation import EXAMPLE, SENTENCE, explain
    from ..viz.page import html
    from ..viz.typed import parse_cell, read

    pin = args.pin and parse_cell(args.pin)
    derivation, text = explain(*(EXAMPLE if args.no_model else SENTENCE)), None
    story = args.text is None  # who brings a text wants to see it at once
    if args.text is not None:
        sample = read(args.text, args.spans, args.order, args.objective, seed=args.seed)
        derivation, text = sample.explain(), sample.with_blanks()
    if args.no_model:
        return html(derivation, story=story, pin=pin, language=args.lang), "without a model"
    from ..viz.page.weights import model_spec

    folder = Path(args.model or BOX)
    # subtle: the name of the folder alone, because a path would tell who made the page
    name = LANGUAGES["en"]["lab"]["bundled"] if folder == BOX else folder.resolve().name
    spec = model_spec(*load(folder), text_to_explore(folder) if text is None else text, name)
    kind = "live in it" if spec["kind"] == "live" else "as a recording"
    return html(derivation, spec, story, pin, args.lang), f"with {name} {kind}"


def text_to_explore(directory):
    """Return a text with a blank, in the style of a run's training text."""
    from ..train.config import resolve

    run = Path(directory)
    if run == BOX:
        return BLANK_OF_BOX
    if not (run / "samples.jsonl").is_file() or not (run / "run.toml").is_file():
        return BLANK_TO_TRY
    return blank_to_try(resolve(file=run / "run.toml"), run)


def add_explore(p):
    p.description = (
        "Write a page that shows how GLM reads a text: step by step, cell by cell, and next to related "
        "models, with a model that fills blanks in it (up to 8 M parameters live; a larger one as a "
        "recording). It is a single file that works offline; open it with a double click."
    )
    p.set_defaults(run=explore_command)
    p.add_argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="words; a [MASK] among them is a blank without an answer (default: an example)",
    )
    add_model(p, "box")
    p.add_argument("--no-model", action="store_true", help="a light page: the mask and the steps alone")
    p.add_argument("--out", metavar="FILE", default="glm.html", help="the page (default glm.html)")
    p.add_argument("--open", action="store_true", help="open it in the browser")
    p.add_argument(
        "--spans",
        metavar="A:B,C:D",
        help="words to blank, counted from 0 (default: random)",
    )
    p.add_argument("--order", metavar="2,1", help="order of the spans in Part B, counted from 1")
    p.add_argument(
        "--objective", default="token", choices=["token", "sentence", "document"], help="which mask token"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random spans")
    add_lang(p, "language that the page opens in; a switch on it changes it")
    p.add_argument("--pin", metavar="ROW,COL", help="cell of the mask that is explained at first, e.g. 6,9")
