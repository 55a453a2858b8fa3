"""minglm: GLM, understood. A readable GLM (arXiv 2103.10360) that trains on a laptop.

The names below are imported when they are first used, so `import minglm` takes milliseconds, and `from minglm
import GLM` as long as importing torch.
"""

from .version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:  # for editors and type checkers; the same names as in HOMES
    # ruff: noqa: F401
    from .attention import masked_attention
    from .batch import Batch, pack
    from .data.tokenizer import Tokenizer
    from .errors import MinglmError
    from .infilling import Example, build_example, restore
    from .mask import GLMMask
    from .model import GLM
    from .model_config import GLMConfig
    from .rng import Rng
    from .rule import keys_of_row
    from .spans import Span, sample_spans
    from .special import SpecialTokens
    from .use.cloze import classify
    from .use.embedding import embed
    from .use.generate import Filled, fill, score, write
    from .use.rewrite import rewrite
    from .use.tasks import Cloze, TextToText
    from .viz.derivation import Derivation, explain

HOMES = {  # name: the module it comes from
    "GLM": "model",
    "Batch": "batch",
    "Cloze": "use.tasks",
    "Derivation": "viz.derivation",
    "Example": "infilling",
    "Filled": "use.generate",
    "GLMConfig": "model_config",
    "GLMMask": "mask",
    "MinglmError": "errors",
    "Rng": "rng",
    "Span": "spans",
    "SpecialTokens": "special",
    "TextToText": "use.tasks",
    "Tokenizer": "data.tokenizer",
    "build_example": "infilling",
    "classify": "use.cloze",
    "embed": "use.embedding",
    "explain": "viz.derivation",
    "fill": "use.generate",
    "keys_of_row": "rule",
    "masked_attention": "attention",
    "pack": "batch",
    "restore": "infilling",
    "rewrite": "use.rewrite",
    "sample_spans": "spans",
    "score": "use.generate",
    "write": "use.generate",
}

__all__ = ["__version__", *HOMES]


def __getattr__(name):
    """A public name, or one of the modules they come from, imported on first use."""
    from importlib import import_module

    if name in HOMES:
        value = getattr(import_module(f".{HOMES[name]}", __name__), name)
        globals()[name] = value  # so that the next access is direct
        return value
    if name in {home.partition(".")[0] for home in HOMES.values()}:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *HOMES})
