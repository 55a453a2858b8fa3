"""The shape of a GLM, apart from the network itself: settings and help texts read it without importing torch."""

from dataclasses import dataclass

from .errors import MinglmError

FAMILIES = ("glm", "glm-ordered", "glm-1d", "glm-sentinels", "gpt", "bert", "prefix")  # those of layout.py


@dataclass(frozen=True)
class GLMConfig:
    """The shape of a GLM: everything that decides what its weights mean.

    max_positions bounds Part A and every block position; the two position tables have one row more.
    gelu: "tanh" as in the original training code, "erf" as in its Hugging Face port. family: what it is trained as
    (layout.py); it says how rows are laid out for these weights, and the network is the same for all.
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
            raise MinglmError(f"model.hidden_size: {self.hidden_size} is not a multiple of model.num_heads = {self.num_heads}")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise MinglmError(f"model.dropout: {self.dropout!r} is not accepted; a number from 0 to below 1 is")
        if self.gelu not in ("tanh", "erf"):
            raise MinglmError(f'model.gelu: {self.gelu!r} is not accepted; "tanh" or "erf" is')
        if self.family not in FAMILIES:
            raise MinglmError(f"model.family: {self.family!r} is not accepted; one of {', '.join(FAMILIES)} is")
