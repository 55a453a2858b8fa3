"""The settings of a GLM's network, apart from the network, so that reading them does not import torch."""

from dataclasses import asdict, dataclass

from .errors import MinglmError

FAMILIES = ("glm", "glm-ordered", "glm-1d", "glm-sentinels", "gpt", "bert", "prefix")  # see families.py


@dataclass(frozen=True)
class GLMConfig:
    """The settings of a GLM: everything that decides what its weights mean.

    max_positions bounds Part A and every block position; the two position tables have one row more.
    gelu: "tanh" as in the original training code, "erf" as in its Hugging Face port. family: how samples are
    laid out for these weights (families.py); the network is the same for all.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    max_positions: int
    dropout: float = 0.1  # the original's; on the embedding sum, the attention output and the MLP output
    gelu: str = "tanh"
    family: str = "glm"

    def __post_init__(self):
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "max_positions"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise MinglmError(f"model.{name}: {value!r} is not accepted; a whole number of at least 1 is")
        if self.hidden_size % self.num_heads:
            size, heads = self.hidden_size, self.num_heads
            raise MinglmError(f"model.hidden_size: {size} is not a multiple of model.num_heads = {heads}")
        is_number = isinstance(self.dropout, int | float) and not isinstance(self.dropout, bool)
        if not is_number or not 0 <= self.dropout < 1:
            raise MinglmError(
                f"model.dropout: {self.dropout!r} is not accepted; a number from 0 to below 1 is"
            )
        if self.gelu not in ("tanh", "erf"):
            raise MinglmError(f'model.gelu: {self.gelu!r} is not accepted; "tanh" or "erf" is')
        if self.family not in FAMILIES:
            accepted = ", ".join(FAMILIES)
            raise MinglmError(f"model.family: {self.family!r} is not accepted; one of {accepted} is")

    def to_dict(self):
        """The settings and "model_type": "minglm", as in a config.json; peft and others look for this."""
        return {"model_type": "minglm", **asdict(self)}


def useful_flop(config, batch):
    """The multiplications and additions that one training step needs: (in matrix products, in attention).

    A weight costs 2 per row forward and 4 backward. All rows pass all layers except the last, where they only
    need keys and values; the target rows pass the whole last layer and the head. Attention costs 4 C per
    visible pair forward and 10 C backward.
    """
    C, V, layers = config.hidden_size, config.vocab_size, config.num_layers
    N, M = len(batch.tokens), len(batch.targets)
    weights_rows = 12 * C * C * N * (layers - 1) + 2 * C * C * N + 10 * C * C * M + C * V * M
    visible = batch.mask.visible_keys()
    pairs = int(visible.sum()) * (layers - 1) + int(visible[batch.target_rows].sum())
    return 6 * weights_rows, 14 * C * pairs


def num_parameters(model: GLMConfig) -> int:
    """The number of weights, the tied head counted once: V h + 2 (P + 1) h + N (12 h^2 + 13 h) + 2 h.

    Example: V=10, h=2, N=1, P=3 -> 20 + 16 + 74 + 4 = 114.
    """
    h = model.hidden_size
    tables = (model.vocab_size + 2 * (model.max_positions + 1)) * h
    return tables + model.num_layers * (12 * h * h + 13 * h) + 2 * h
