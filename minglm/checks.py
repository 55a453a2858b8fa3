"""What is made sure before numbers leave a model: they are finite, its ids are the tokenizer's, a file can hold its weights."""

import torch

from .errors import MinglmError


def finite(scores, what="the model's scores"):
    """The tensor again. Raises MinglmError when an entry is NaN or infinite: no text, rank, vector or JSON is made of it."""
    if not bool(scores.isfinite().all()):
        raise MinglmError(f"{what} are not finite; has its training diverged?")
    return scores


def check_pair(model, tokenizer):
    """Raise MinglmError unless the model has a row for each token of the tokenizer, and no other."""
    if tokenizer.vocab_size != model.config.vocab_size:
        raise MinglmError(f"tokenizer: it has {tokenizer.vocab_size:,} tokens, the model has {model.config.vocab_size:,}; the "
                          "tokenizer that was saved with the model is accepted")  # fmt: skip


def check_plain(model):
    """Raise MinglmError for a GLM with other weights than those of its config: no reader could make them a model again."""
    from .model import GLM

    with torch.device("meta"):
        plain = GLM(model.config).state_dict().keys()
    if other := sorted(plain ^ model.state_dict().keys()):
        part = max((name for name, _ in model.named_modules() if other[0].startswith(f"{name}.")), key=len, default="")
        what = f"{part or 'model'} ({type(model.get_submodule(part)).__name__})"
        raise MinglmError(f"{what}: it was changed, and a file holds the plain weights of a GLM; merge adapters, make pruning "
                          "permanent or remove what wraps it, then it can be saved")  # fmt: skip
