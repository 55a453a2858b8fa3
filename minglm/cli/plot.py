"""`minglm plot`: draw a run, several runs, or a benchmark. viz/figures lists the figures."""

import argparse
import json
from pathlib import Path

from ..errors import MinglmError
from ..viz.figures import BENCH, FIGURES, RUN, RUNS, find, save_figure
from ..viz.words import LANGUAGES

OF = {
    RUNS: "at least one run folder",
    RUN: "a run folder",
    BENCH: "a file of `minglm bench attention --json FILE`",
}


def add_plot(p):
    width = max(map(len, FIGURES))
    listed = [f"  {f.name:{width}}  {f.about} ({OF[f.needs]})" for f in FIGURES.values() if f.needs in OF]
    others = ", ".join(f.name for f in FIGURES.values() if f.needs not in OF)
    p.description = "Draw a run (default: its curves), several runs, or the JSON of `minglm bench attention`."
    rest = "for figures of a text, use minglm show TEXT --figure NAME --out FILE, where NAME is one of"
    p.epilog = "\n".join(["figures:", *listed, "", rest, others])
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.set_defaults(run=plot_command)
    p.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        type=Path,
        help="a run folder (several for curves), or the JSON file of a benchmark (default for "
        "position_embeddings: the newest run, or else the bundled model)",
    )
    add_looks(p)
    p.add_argument(
        "--figure", metavar="NAME", help="which figure (default: curves for a run, attention for a benchmark)"
    )
    p.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="default: NAME.png in the run folder, or next to the JSON file",
    )


def add_looks(p):
    """Add --theme, --width and --lang."""
    p.add_argument("--theme", choices=("light", "dark"), default="light", help="colours (default light)")
    p.add_argument("--width", metavar="PX", type=int, help="width of the picture in pixels (default 900)")
    p.add_argument(
        "--lang", choices=list(LANGUAGES), default="en", help="language of the labels (default en)"
    )


def plot_command(args):
    """Draw the figure and print where it was written."""
    from ..files.whole import beside

    is_bench = bool(args.paths) and args.paths[0].suffix == ".json"
    figure = find(args.figure or ("attention" if is_bench else "curves"))
    if figure.needs not in OF:
        raise MinglmError(
            f"figure {figure.name} needs {figure.needs}: minglm show TEXT --figure {figure.name} --out FILE"
        )
    if not args.paths and figure.name != "position_embeddings":
        raise MinglmError(f"PATH: none given; figure {figure.name} needs {OF[figure.needs]}")
    if is_bench != (figure.needs == BENCH):
        raise MinglmError(f"{args.paths[0]}: figure {figure.name} needs {OF[figure.needs]}")
    if len(args.paths) > 1 and figure.needs != RUNS:
        raise MinglmError(f"PATH: {len(args.paths)} given; figure {figure.name} needs {OF[figure.needs]}")
    out = args.out or default_out(args.paths, figure.name)
    fig = draw_of(figure, args.paths, dict(theme=args.theme, width=args.width))
    print(f"wrote       {save_figure(fig, out, args.lang)}", file=beside(out))


def default_out(paths, name):
    """Return the file to write when --out is not given."""
    if len(paths) != 1:
        return Path(f"{name}.png")
    return paths[0].with_suffix(".png") if paths[0].is_file() else paths[0] / f"{name}.png"


def draw_of(figure, paths, look):
    """Return the Figure of run folders or of a benchmark's file."""
    if figure.needs == BENCH:
        return figure.function(read_bench(paths[0]), **look)
    for path in paths:
        if not path.is_dir():
            raise MinglmError(f"{path}: no such folder; {OF[figure.needs]} is needed")
    if figure.name == "curves":
        from ..viz.figures.curves import fig_curves, fig_runs

        files = [path / "metrics.csv" for path in paths]
        return fig_curves(files[0], **look) if len(files) == 1 else fig_runs(files, **look)
    if figure.name == "spans":
        return figure.function(*span_settings(paths[0]), **look)
    from ..use.models import load

    return figure.function(load(paths[0] if paths else None)[0], **look)


def read_bench(path):
    """Return what `minglm bench attention --json FILE` wrote. Raises MinglmError for any other file."""
    try:
        result = json.loads(path.read_bytes())
    except OSError as error:
        raise MinglmError(f"{path}: {error.strerror}; {OF[BENCH]} is needed") from None
    except ValueError:
        result = None
    if not isinstance(result, dict) or not {"rows", "shapes", "machine", "summary"} <= result.keys():
        raise MinglmError(f"{path}: not written by bench attention; {OF[BENCH]} is needed")
    return result


def span_settings(run):
    """Return (tokens of every text that a run trains on, its DataConfig)."""
    from ..data.corpus import cache_folder, cached_corpus, embedded_corpus
    from ..data.documents import find_files
    from ..data.samples import cut_as
    from ..data.tokenizer import Tokenizer
    from ..files.checkpoint import model_folder
    from ..train.folders import run_settings

    config = run_settings(run)
    data, tokenizer = config.data, Tokenizer.from_pretrained(model_folder(run))
    files = find_files(data.text) if data.text else [embedded_corpus()]
    how = dict(text_key=data.text_key, documents=data.documents, errors=data.errors)
    corpus = cached_corpus(files, tokenizer, cache_folder(data.cache), **how)
    windows = cut_as(data, corpus.ids, corpus.offsets, tokenizer.sentence_ends(), config.model.max_positions)
    return windows.in_epoch(config.train.seed, 0).sample_tokens().tolist(), data
