"""The sixteen figures: their names, what they need, and who draws them. matplotlib is imported at first use.

    samples.py          corruption F1, positions F2, film F4
    masks.py            mask F3, family F5, shuffles F6, batch F7
    tiles.py            tiles F14, and tiles_text
    models.py           heads F9, query F10, infilling F11
    runs.py             position_embeddings F8, spans F13
    curves.py           curves F12
    speed.py            attention F15
    story.py            story F16, animated (no matplotlib): storyboard.py plans it, animated.py writes SVG
    canvas.py, grid.py  what the others use: pixels, fonts and files; cells, labels and legends
    translated.py       a figure with its labels in another language

Every `fig_name(...)` returns a matplotlib Figure (story: an Animation) with `alt_text`, takes theme="light"
or "dark" and width= in pixels, and leaves saving to the caller: `save_figure(fig, path)`. `draw(name, ...)`
prepares what a figure needs from a derivation, a model and a text. Labels are English; `save_figure` writes
them in another language.
"""

from importlib import import_module
from typing import NamedTuple

from ...errors import MinglmError, nearest, suggestion
from ..words import labels

TEXT, MODEL, RUN, RUNS, BENCH = "a text", "a text and a model", "a run", "runs", "a bench"


class Figure(NamedTuple):
    """A figure: its name, the module that draws it, what it needs, and one sentence about it."""

    name: str
    module: str
    needs: str
    about: str

    @property
    def function(self):
        """`fig_name`."""
        return getattr(import_module(f".{self.module}", __package__), f"fig_{self.name}")


FIGURES = {
    name: Figure(name, *rest)
    for name, *rest in (
        ("corruption", "samples", TEXT, "from the text to Part A and Part B"),
        ("positions", "samples", TEXT, "both positions of every token, as bars"),
        ("mask", "masks", TEXT, "tokens, both positions and who sees whom, in one aligned picture"),
        ("film", "samples", TEXT, "the steps from a text to a sample, one panel each"),
        ("family", "masks", TEXT, "the masks of BERT, GPT, prefix LM, UniLM, T5 and GLM on the same text"),
        ("shuffles", "masks", TEXT, "the mask in every order of the spans"),
        ("batch", "masks", TEXT, "samples packed end to end, and the few integers that the kernel needs"),
        ("position_embeddings", "runs", RUN, "how similar the embeddings of any two positions are"),
        ("heads", "models", MODEL, "what every head of every layer looks at"),
        ("query", "models", MODEL, "what one token looks at, a bar for each key"),
        ("infilling", "models", MODEL, "blanks being filled: the most likely choices for each token"),
        ("curves", "curves", RUNS, "loss, learning rate, gradient norm and speed over the steps"),
        ("spans", "runs", RUN, "span lengths next to Poisson's law, and the share of a text that is blanked"),
        ("tiles", "tiles", TEXT, "the kernel's tiles: full, partial, empty, and the work they save"),
        (
            "story",
            "story",
            TEXT,
            "an animated .svg: blanks fly out, the mask grows row by row, blanks fly home",
        ),
        ("attention", "speed", BENCH, "every way to compute attention, compared with PyTorch's best"),
    )
}
HERE = {"tiles_text": "tiles", "attention_of": "models", "fig_runs": "curves"}


def __getattr__(name):
    """Import fig_mask, ..., fig_attention, tiles_text and attention_of at first use."""
    if name.removeprefix("fig_") in FIGURES and name.startswith("fig_"):
        return FIGURES[name.removeprefix("fig_")].function
    if name in HERE:
        return getattr(import_module(f".{HERE[name]}", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def save_figure(fig, path, language="en"):
    """Write any figure, see `Animation.save` and `canvas.save_figure`. -> Path

    language: of its labels, one of words.LANGUAGES; what it shows of a text stays.
    """
    if hasattr(fig, "svg"):
        return fig.translated(language).save(path)
    from .canvas import save_figure as save

    if not (say := labels(language)):
        return save(fig, path)
    from .translated import translated

    with translated(fig, say):
        return save(fig, path)


def find(name):
    """Return the Figure of a name. Raises MinglmError with the nearest name if there is none."""
    plain = str(name).removeprefix("fig_").replace("-", "_")
    if plain in FIGURES:
        return FIGURES[plain]
    rest = suggestion(nearest(plain, FIGURES, cutoff=0.5), FIGURES)
    raise MinglmError(f"unknown figure {name!r}; {rest}")


def draw(name, *, derivation=None, model=None, tokenizer=None, text=None, theme="light", width=None, **dials):
    """Draw the figure of that name from a derivation (of words), or from one and a model with its tokenizer.

    Returns a matplotlib Figure. text: the derivation's text as typed, so that its spaces reach the tokenizer;
    "infilling" needs no derivation if the text has [MASK]. dials: options of the figure, e.g. layer=, head=
    and row= of "query", tile= of "tiles".
    """
    figure, look = find(name), dict(theme=theme, width=width, **dials)
    name = figure.name
    if figure.needs in (RUNS, BENCH) or name == "spans":
        raise MinglmError(f"figure {name} needs {figure.needs}, not a text: minglm plot PATH --figure {name}")
    if figure.needs != TEXT and model is None:
        raise MinglmError(f"figure {name} needs a model: --model RUN")
    if name == "position_embeddings":
        return figure.function(model, **look)
    if name == "infilling" and derivation is None and text:
        return figure.function(model, tokenizer, text, **look)
    if derivation is None:
        raise MinglmError(f"figure {name} needs a text and its spans")
    if name == "infilling":
        from .models import with_blanks

        typed, truth = with_blanks(derivation, tokenizer, text)
        return figure.function(model, tokenizer, typed, truth=truth, **look)
    if figure.needs == MODEL:
        from .models import attention_of, in_tokens

        example, tokens = in_tokens(derivation, tokenizer, text, model.config.max_positions)
        return figure.function(attention_of(model, example), tokens, **look)
    if name == "batch":  # the same text for three models: one integer each
        from ..derivation import explain

        d = derivation
        others = (explain(d.text, d.spans, d.order, d.objective, model=m) for m in ("bert", "gpt"))
        return figure.function([d, *others], **look)
    return figure.function(derivation, **look)
