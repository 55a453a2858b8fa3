"""Special tokens, and the characters that end a sentence."""

from dataclasses import dataclass

from .errors import MinglmError

# A sentence ends with one of these. "3.14" and "Mr." match too; the rule is deliberately simple.
SENTENCE_MARKS = (".", "?", "!", "。", "？", "！", "…", "\n")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of the special tokens. The defaults are those of a vocabulary trained by minglm.

    In a vocabulary of the original they differ, and two may share an id: pad is eos, and [sMASK] and [gMASK]
    can be [MASK].
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


# A vocabulary begins with these, in the order of SpecialTokens' ids, ...
SPECIAL_STRINGS = {
    "pad": "[PAD]",
    "cls": "[CLS]",
    "eos": "<|endoftext|>",
    "mask": "[MASK]",
    "smask": "[sMASK]",
    "gmask": "[gMASK]",
    "sop": "<|startofpiece|>",
    "eop": "<|endofpiece|>",
}
SPARE_STRINGS = tuple(f"<|spare{i}|>" for i in range(16))  # ... and spare rows for experiments

# If a vocabulary lacks the first, it uses the id of the second: the original's pad is its eos, and its models
# that were trained with [MASK] alone use it for sentences and documents, too.
STAND_INS = {"pad": "eos", "eos": "pad", "smask": "mask", "gmask": "mask"}


def byte_of_character():
    """{character: byte} of GPT-2's byte alphabet: printable Latin-1 is itself, the rest is U+0100 and up.

    Example: "A" -> 65, "Ġ" (U+0120) -> 32, the space.
    """
    itself = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(256 + n): byte for n, byte in enumerate(others)}
