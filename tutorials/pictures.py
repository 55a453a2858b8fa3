"""Saves the pictures of a chapter: small PNGs, and for its Chinese page their twins with Chinese labels.

The labels of chapter NN_name are in labels/NN.txt, those of another chapter in labels/name.txt, and what many
chapters share is in minglm/viz/words.
"""

import os
import re
from pathlib import Path

DPI, LARGEST = 120, 120 * 1024  # resolution and bytes of a picture


class Wrong(Exception):
    """An error in a chapter or in the arguments, as one line."""


def labels_of(chapter):
    """(the file of a chapter's labels in Chinese, its text: "" if there is none)."""
    number = re.match(r"\d\d(?=_)", chapter.name)
    path = chapter.path.parent / "labels" / f"{number[0] if number else chapter.name}.txt"
    return path, path.read_text(encoding="utf-8") if path.exists() else ""


def chinese(chapter):
    """The Labels of a chapter's figures in Chinese: its own, then those of the library."""
    from minglm.viz.words import labels
    from minglm.viz.words.labels import parse

    path, text = labels_of(chapter)
    try:
        return labels("zh").with_first(parse(text))
    except ValueError as error:
        raise Wrong(f"labels/{path.name}: {error}") from None


def in_chinese():
    """Whether the chapter's toy is Chinese in this process: the run for its Chinese page."""
    return os.environ.get("MINGLM_LANG") == "zh"


def prepare_letters():
    """If the toy is Chinese, let every figure have Chinese letters, not only translated labels."""
    if not in_chinese():
        return
    import matplotlib

    from minglm.viz.figures.canvas import families

    matplotlib.rcParams["font.family"] = families()[0]


def save(figure, path, cell, chapter):
    """Save a figure as a small PNG, in Chinese too; returns the output that the pages show."""
    alt = " ".join(getattr(figure, "alt_text", "").split())
    if not alt:
        raise Wrong(f"line {cell.line}: a figure of this cell has no alt_text")
    save_small(figure, path, cell)
    output = {"png": path.name, "alt": alt}
    return output | {"zh": save_chinese(figure, path, cell, chapter, alt)} if chapter.has_zh else output


def save_chinese(figure, path, cell, chapter, alt):
    """Save a figure with its labels in Chinese, if any differs; returns what the Chinese page shows of it.

    unknown: labels without a translation; drawn: whether a font has the letters.
    """
    from minglm.viz.figures.translated import can_draw, translated, words_of

    say, words = chinese(chapter), words_of(figure)
    unknown = [piece for text in [*words, alt] for piece in say.unknown(text)]
    zh = {"png": path.name, "alt": say(alt), "unknown": list(dict.fromkeys(unknown)), "drawn": True}
    if in_chinese() or any(say(text) != text for text in words):
        zh |= {"png": f"{path.stem}.zh.png", "drawn": can_draw("".join(map(say, words)))}
        if zh["drawn"]:
            with translated(figure, say):
                save_small(figure, path.with_name(zh["png"]), cell)
    return zh


def save_small(figure, path, cell):
    """Save a figure as a small PNG."""
    from PIL import Image  # comes with matplotlib

    figure.savefig(path, dpi=DPI, facecolor="white")
    with Image.open(path) as image:
        # a palette takes a third of the bytes; metadata is dropped
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    size = path.stat().st_size
    if size > LARGEST:
        raise Wrong(f"line {cell.line}: {path.name} has {size / 1024:.0f} KB; {LARGEST // 1024} is the most")


def recorded_chinese(chapter, work, name, alt):
    """What a Chinese page shows of a picture that was drawn before."""
    say, drawn = chinese(chapter), chapter.path.parent / "img" / f"{Path(name).stem}.zh.png"
    if drawn.exists():
        name = drawn.name
        (Path(work) / name).write_bytes(drawn.read_bytes())
    return {"png": name, "alt": say(alt), "unknown": say.unknown(alt), "drawn": True}


def without_translation(chapter, outputs):
    """What the Chinese page lacks, one line each: translations of labels."""
    file = labels_of(chapter)[0]
    return [
        f"labels/{file.name} lacks a line {piece!r} = its Chinese, for {output['png']}"
        for shown in outputs
        for output in shown
        for piece in output.get("zh", {}).get("unknown", ())
    ]


def undrawn(outputs):
    """The Chinese pictures that no font could draw."""
    every = [output["zh"] for shown in outputs for output in shown if "zh" in output]
    return [zh["png"] for zh in every if not zh.get("drawn", True)]
