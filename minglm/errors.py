"""Messages for the user: MinglmError (one line, exit code 2) and note() (one line on stderr)."""

import difflib
import importlib
import re
from pathlib import Path

from .streams import say

# Optional imports: module -> the package that provides it, and the extra of minglm that installs the package.
OPTIONAL = {
    "sklearn": ("scikit-learn", "tasks"),
    "sacrebleu": ("sacrebleu", "tasks"),
    "rouge_score": ("rouge-score", "tasks"),
    "torch.utils.tensorboard": ("tensorboard", "tensorboard"),
    "onnxscript": ("onnxscript", "onnx"),
    "pyarrow": ("pyarrow", "data"),
    "backports.zstd": ("backports.zstd", "data"),
    "huggingface_hub": ("huggingface_hub", "data"),
}


class MinglmError(ValueError):
    """An input cannot be used; the message is one line that names it and says what is accepted.

    The command line prints it without a traceback and exits with code 2.
    """

    def __str__(self):
        """The message in one line, never empty."""
        return " ".join(super().__str__().splitlines()).strip() or reason(self.__cause__ or self)


def reason(error):
    """The message of an exception in one line: the system's, else its first line, else its type."""
    lines = [] if isinstance(error, MinglmError) else str(error).splitlines()
    message = getattr(error, "strerror", None) or next((line.strip() for line in lines if line.strip()), None)
    return message or f"{type(error).__name__} without a message"


def note(text):
    """Print one line on stderr that is no error, but that the user may want to know."""
    say(f"minglm: note: {text}")


# ---- optional packages -----------------------------------------------------------------------------------


def missing(module):
    """A message with the install command if a module of OPTIONAL cannot be imported, else None."""
    package, extra = OPTIONAL[module]
    try:
        importlib.import_module(module)
    except ImportError:
        return f"{package} is not installed; {how_to_install(extra)}"
    return None


def how_to_install(extra):
    """The command that installs an extra.  Example: "tasks" -> "pip install -e '.[tasks]'" in a clone."""
    clone = (Path(__file__).parents[1] / "pyproject.toml").exists()
    return f"pip install -e '.[{extra}]'" if clone else f"pip install 'minglm[{extra}]'"


def need(module, what):
    """Raise MinglmError if a module of OPTIONAL is missing that `what` needs. Call this before long work."""
    if why := missing(module):
        raise MinglmError(f"{what}: {why}")


def have(module, what):
    """Whether a module of OPTIONAL can be imported; if not, a note says that `what` is left out."""
    if why := missing(module):
        note(f"without {what}: {why}")
    return not why


def first_line(error):
    """The first line of an exception's message, without torch's advice to switch its protection off."""
    if "weights_only" in str(error):
        culprit = re.search(r"nsupported (?:global: )?GLOBAL ([\w.]+)|<class '([\w.]+)'", str(error))
        return f"it asks for {culprit[1] or culprit[2] if culprit else 'more than tensors and plain values'}"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def nearest(name, names, cutoff=0.6):
    """The most similar of some names, in a list; an empty list if none is similar.

    Example: "stpes", ["lr", "steps"] -> ["steps"].
    """
    return difflib.get_close_matches(str(name)[:80], names, 1, cutoff)


def suggestion(near, accepted):
    """The end of a message about an unknown name. Example: ["lr"], ... -> "did you mean lr?"."""
    return f"did you mean {' or '.join(near)}?" if near else f"accepted: {', '.join(accepted)}"


def listed(names, most=12):
    """Names in one line.  Example: ["a", "b", "c"], most=2 -> "a, b and 1 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
