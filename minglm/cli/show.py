"""`minglm show` and `minglm explore`: how GLM reads a text."""

import shutil
import sys
from pathlib import Path

from ..errors import MinglmError, note
from ..files.whole import beside, check_writable, write_whole
from ..use.models import load
from ..viz.figures import BENCH, FIGURES, RUN, RUNS, draw, find, save_figure
from .arguments import positive
from .pretrain import BLANK_TO_TRY, blank_to_try


def show_command(args):
    refuse_together(args)
    if args.figure:
        return draw_command(args)
    from ..viz.columns import charset_of, wants_colour
    from ..viz.terminal import show

    charset = "ascii" if args.ascii else charset_of(sys.stdout)
    width = args.width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    dials = drawing(args)
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
            **{name: value for name, value in dials.items() if value is not None},
        )
    )


def draw_command(args):
    """One figure of a text, or of a text and a model, as a file."""
    figure = find(args.figure)
    from ..viz.typed import read

    model, tokenizer = load(args.model) if args.model else (None, None)
    has_blanks = model is not None and any(
        t in tokenizer.special.masks for t in tokenizer.encode(args.text, special=True)
    )
    d = None
    if not (figure.name == "infilling" and has_blanks and args.spans is None):
        dials = {name: value for name, value in drawing(args).items() if value is not None}
        d = read(args.text, args.spans, args.order, args.objective, **dials).explain()
    look = dict(theme=args.theme or "light", width=args.width)
    fig = draw(figure.name, derivation=d, model=model, tokenizer=tokenizer, text=args.text, **look)
    out = args.out or Path(f"{figure.name}.svg")
    print(f"wrote       {save_figure(fig, out)}", file=beside(out))


def drawing(args):
    """The options for spans that are drawn at random; None for those that were not given."""
    return dict(seed=args.seed, mask_ratio=args.ratio, mean_length=args.mean_length)


def refuse_together(args):
    """Raise MinglmError for two options of which one would have no effect; it names both."""
    given = {
        "--" + name.replace("_", "-")
        for name, value in vars(args).items()
        if value is not None and value is not False
    }
    given.add(f"--objective {args.objective}")
    for one, other, reason in (
        ("--compare", "--explain", "one view at a time"),
        ("--compare", "--step", "one view at a time"),
        ("--explain", "--step", "one view at a time"),
        ("--step", "--json", "the JSON holds every step already"),
        ("--width", "--json", "JSON is one line"),
        *(
            ("--figure", other, "one view at a time")
            for other in ("--compare", "--explain", "--step", "--json", "--ascii")
        ),
        *(
            (dial, "--spans", "only spans that are not given are drawn")
            for dial in ("--seed", "--ratio", "--mean-length")
        ),
        *(
            (dial, "--objective document", "its one span is the last 50 to 100 %")
            for dial in ("--ratio", "--mean-length")
        ),
        ("--mean-length", "--objective sentence", "its spans are whole sentences"),
    ):
        if {one, other} <= given:
            raise MinglmError(f"{one} and {other} do not go together: {reason}")
    for option in ("--out", "--model", "--theme"):
        if option in given and "--figure" not in given:
            raise MinglmError(f"{option} goes with --figure NAME: a table is printed, and needs no model")


def add_show(p):
    p.description = (
        "Shows Part A, Part B, both positions, targets and mask of a text, as a table. Needs no model."
    )
    p.epilog = "Rows, columns and positions count from 0, spans in --order from 1. NO_COLOR and FORCE_COLOR are obeyed."
    p.set_defaults(run=show_command)
    p.add_argument(
        "text",
        metavar="TEXT",
        help='words, e.g. "x1 x2 x3 x4 x5 x6"; Chinese without spaces is read as characters',
    )
    p.add_argument(
        "--spans",
        metavar="A:B,C:D",
        help="words to blank, counted from 0, end not included (default: random)",
    )
    p.add_argument(
        "--order",
        metavar="2,1",
        help="order of the spans in Part B, counted from 1 (default: 1,2,...; random spans: random)",
    )
    p.add_argument(
        "--objective", default="token", choices=["token", "sentence", "document"], help="which mask token"
    )
    drawn = p.add_argument_group("random spans, drawn as in training")
    drawn.add_argument("--seed", type=int, metavar="N", help="seed of the random spans (default 0)")
    drawn.add_argument("--ratio", type=float, metavar="R", help="share of the text to blank (default 0.15)")
    drawn.add_argument(
        "--mean-length",
        type=float,
        metavar="L",
        help="mean length of token spans: lambda of the Poisson distribution (default 3)",
    )
    views = p.add_argument_group("other views than the table")
    views.add_argument("--step", action="store_true", help="the derivation step by step")
    views.add_argument(
        "--explain", metavar="ROW,COL", help="why one cell of the mask is open or closed, e.g. 9,6"
    )
    views.add_argument(
        "--compare",
        metavar="M,M",
        help="compare GLM with bert, gpt, prefix, unilm, t5 or all, on the same text",
    )
    names = ", ".join(f.name for f in FIGURES.values() if f.needs not in (RUN, RUNS, BENCH))
    picture = p.add_argument_group(
        "a picture instead of text", description=f"NAME: {names}, position_embeddings"
    )
    picture.add_argument("--figure", metavar="NAME", help="write this figure to a file")
    picture.add_argument(
        "--out", metavar="FILE", type=Path, help=".svg, .png or .pdf; story: .svg only (default NAME.svg)"
    )
    picture.add_argument("--model", metavar="RUN", help="a model or run folder, for figures of a model")
    picture.add_argument("--theme", choices=["light", "dark"], help="colours (default light)")
    p.add_argument("--json", action="store_true", help="print one line of JSON")
    p.add_argument(
        "--width",
        type=positive,
        metavar="N",
        help="width in columns (default: the terminal's; unlimited in a file); of a figure: in "
        "pixels (default 900)",
    )
    p.add_argument("--ascii", action="store_true", help="plain characters only")


def explore_command(args):
    if args.spans and args.text is None and not args.model:
        raise MinglmError("--spans needs a text: minglm explore TEXT --spans A:B")
    check_writable("--out", args.out)
    how = (args.spans, args.order, args.objective)
    page, out = explore_model(args, how) if args.model else explore_text(args, how), Path(args.out)
    write_whole(out, page)
    size = f"{len(page.encode()) / 1000:,.0f} KB"
    print(f"wrote       {out}, {size}: open it with a double click; it works offline", file=beside(out))
    if args.open:
        import webbrowser

        if not webbrowser.open(out.resolve().as_uri()):
            note(f"no browser could be started; open {out} yourself")


def explore_text(args, how):
    """The page without a model, opened at a text or at the paper's example."""
    from ..viz.derivation import EXAMPLE, explain
    from ..viz.page import html
    from ..viz.typed import read

    return html(explain(*EXAMPLE) if args.text is None else read(args.text, *how, seed=args.seed).explain())


def explore_model(args, how):
    """The page with a model in it. The model fills the blanks of the text; a text without blanks gets some."""
    from ..spans import Span
    from ..use.generate import fill_ids
    from ..viz.derivation import explain
    from ..viz.page import html
    from ..viz.page.weights import model_spec
    from ..viz.typed import Sample, parse_order, parse_spans
    from ..viz.typed import draw as draw_spans

    model, tokenizer = load(args.model)
    special, text = tokenizer.special, args.text if args.text is not None else text_to_explore(args.model)
    ids, objectives = (
        tokenizer.encode(text, special=True),
        {special.smask: "sentence", special.gmask: "document"},
    )
    blanks = [token for token in ids if token in special.masks]
    if blanks:
        if args.spans:
            raise MinglmError("--spans: the text already has blanks; give one or the other")
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
            spans, order, objective = draw_spans(tokenizer.pieces(ids), objective, args.seed)
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
    """A text with a blank, in the style of a run's training text."""
    from ..train.config import resolve

    run = Path(directory)
    if not (run / "samples.jsonl").is_file() or not (run / "run.toml").is_file():
        return BLANK_TO_TRY
    return blank_to_try(resolve(file=run / "run.toml"), run)


def add_explore(p):
    p.description = (
        "Writes one page that shows how GLM reads a text: step by step, cell by cell, and next to its relatives. It is a "
        "single file that works offline; open it with a double click."
    )
    p.set_defaults(run=explore_command)
    p.add_argument(
        "text",
        metavar="TEXT",
        nargs="?",
        help="words (default: the paper's example); with --model it can contain [MASK]",
    )
    p.add_argument(
        "--model",
        metavar="RUN",
        help="a model or run folder; up to 1.4 M parameters it runs live in the page",
    )
    p.add_argument("--out", metavar="FILE", default="glm.html", help="the page (default glm.html)")
    p.add_argument("--open", action="store_true", help="open it in the browser")
    p.add_argument(
        "--spans",
        metavar="A:B,C:D",
        help="words (with --model: tokens) to blank, counted from 0 (default: random)",
    )
    p.add_argument("--order", metavar="2,1", help="order of the spans in Part B, counted from 1")
    p.add_argument(
        "--objective", default="token", choices=["token", "sentence", "document"], help="which mask token"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the random spans")
