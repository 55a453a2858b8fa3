"""Checks of a model: its scores are finite, and its vocabulary is that of the tokenizer."""

from .errors import MinglmError


def finite(scores, what="the model's scores"):
    """Return `scores`; raise MinglmError if one is NaN or infinite, before anything is computed from them."""
    if not bool(scores.isfinite().all()):
        raise MinglmError(f"{what} are not finite; has its training diverged?")
    return scores


def check_pair(model, tokenizer):
    """Raise MinglmError unless it is a model and a tokenizer, with vocabularies of the same size."""
    if not hasattr(model, "config"):  # DistributedDataParallel, AveragedModel
        inner = ", its .module" if hasattr(model, "module") else ""
        raise MinglmError(f"model: a {type(model).__name__} is not accepted; the GLM itself is{inner}")
    if tokenizer.vocab_size != model.config.vocab_size:
        sizes = f"it has {tokenizer.vocab_size:,} tokens, the model has {model.config.vocab_size:,}"
        raise MinglmError(f"tokenizer: {sizes}; the tokenizer that was saved with the model is accepted")
