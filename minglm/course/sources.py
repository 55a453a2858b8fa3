"""The C++ sources that chapters 12 and 13 show and compile: csrc/ of a clone, if there is one."""

from pathlib import Path

PLACES = (Path(__file__).parents[2], Path.cwd(), Path.cwd().parent)
CSRC = next((place / "csrc" for place in PLACES if (place / "csrc" / "cuda").is_dir()), None)


def source_of(name, begin):
    """Return the lines of csrc/`name` from the one with `begin` on, to the bracket that closes their block.

    Where csrc/ is not here, a sentence that says where they are.
    """
    if CSRC is None:
        return f"csrc/ is not here: see csrc/{name}, from the line with {begin!r} on"
    text = (CSRC / name).read_text(encoding="utf-8")
    first = text.rfind("\n", 0, text.index(begin)) + 1
    close = "\n" + " " * (text.index(begin) - first) + "}"
    return text[first : text.index(close + "\n", first) + len(close)]
