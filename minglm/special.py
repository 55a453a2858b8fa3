"""The tokens that are not text, and the characters that end a sentence."""

from dataclasses import dataclass

from .errors import MinglmError

# A sentence ends with one of these. "3.14" and "Mr." count too: the rule is deliberately simple.
SENTENCE_MARKS = (".", "?", "!", "。", "？", "！", "…", "\n")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that are not text. The defaults are those of a vocabulary that minglm has trained.

    In a vocabulary of the original they are others, and two may be one: pad is eos, [sMASK] and [gMASK] can be [MASK].
    """

    pad: int = 0
    cls: int = 1
    eos: int = 2
    mask: int = 3
    smask: int = 4
    gmask: int = 5
    sop: int = 6
    eop: int = 7

    @property
    def masks(self):
        """The three mask tokens."""
        return self.mask, self.smask, self.gmask

    def mask_of(self, objective):
        """The mask token of an objective: [MASK], [sMASK] or [gMASK]."""
        masks = {"token": self.mask, "sentence": self.smask, "document": self.gmask}
        if objective not in masks:
            raise MinglmError(f"objective: {objective!r} is not one of {', '.join(masks)}")
        return masks[objective]
