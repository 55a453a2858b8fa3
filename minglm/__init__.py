"""minglm: GLM, understood. A readable GLM ("All NLP Tasks Are Generation Tasks", arXiv 2103.10360) that trains on a laptop."""

from .attention import masked_attention
from .batch import Batch, pack
from .cloze import classify
from .embedding import embed
from .errors import MinglmError
from .generate import Filled, fill, score, write
from .infilling import Example, SpecialTokens, build_example, restore
from .mask import GLMMask, keys_of_row
from .model import GLM, GLMConfig
from .rng import Rng
from .seq2seq import rewrite
from .spans import Span, sample_spans
from .tasks import Cloze, TextToText
from .tokenizer import Tokenizer
from .version import __version__
from .viz.derivation import Derivation, explain

__all__ = [
    "GLM",
    "Batch",
    "Cloze",
    "Derivation",
    "Example",
    "Filled",
    "GLMConfig",
    "GLMMask",
    "MinglmError",
    "Rng",
    "Span",
    "SpecialTokens",
    "TextToText",
    "Tokenizer",
    "__version__",
    "build_example",
    "classify",
    "embed",
    "explain",
    "fill",
    "keys_of_row",
    "masked_attention",
    "pack",
    "restore",
    "rewrite",
    "sample_spans",
    "score",
    "write",
]
