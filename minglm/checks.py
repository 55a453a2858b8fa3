"""What is made sure before numbers leave a model: they are finite, and its ids are the tokenizer's."""

from .errors import MinglmError


def finite(scores, what="the model's scores"):
    """The tensor again. Raises MinglmError when an entry is NaN or infinite: no text, rank, vector or JSON is made of it."""
    if not bool(scores.isfinite().all()):
        raise MinglmError(f"{what} are not finite; has its training diverged?")
    return scores


def check_pair(model, tokenizer):
    """Raise MinglmError unless the model has a row for each token of the tokenizer, and no other."""
    if tokenizer.vocab_size != model.config.vocab_size:
        raise MinglmError(
            f"tokenizer: it has {tokenizer.vocab_size:,} tokens, the model has {model.config.vocab_size:,}; the "
            "tokenizer that was saved with the model is accepted"
        )
