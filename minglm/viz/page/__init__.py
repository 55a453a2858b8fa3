"""The explorer: one HTML file that needs no server, no network and no library. Python puts it together from these files:

explorer.html   the regions, in reading order        derive.js    the rules: random numbers, spans, rows, mask
explorer.css    how they look                        dom.js       elements, in a few lines
                                                     matrix.js    the mask as a grid to point at and walk in
                                                     texts.js     tokens, spans and the texts that the page brings along
with a model:                                        ui.js        the state, and what happens when somebody acts
lab.css         how the model's region looks         compare.js   other models on the same text
glm.js        a GLM that runs in the page          share.js     the state as an address, JSON, Python, a picture
lab.js          what it is asked to do
"""

import base64
import hashlib
import html as html_text
import inspect
import json
from functools import cache
from importlib.resources import files

from ...rule import keys_of_row
from ...special import SENTENCE_MARKS
from ..palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from ..words import HIDDEN_MEANING, MEANING, NAMES, WORDS

SCRIPTS = ("derive.js", "dom.js", "matrix.js", "texts.js", "ui.js", "compare.js", "share.js")
MODEL_SCRIPTS = ("derive.js", "glm.js", *SCRIPTS[1:], "lab.js")


def html(derivation, model: dict | None = None) -> str:
    """The page as one text, opened at a Derivation.

    model: what `weights.model_spec` gave, to be run or shown in the page. The page's own content security
    policy lets nothing in but what is written here: no request leaves it, and no text that is shown in it can
    become code.
    """
    data = {
        "derivation": derivation.to_json(),
        "model": model,
        "words": WORDS,
        "names": NAMES,
        "kinds": {name: kind._asdict() for name, kind in KINDS.items()},
        "span_colours": SPAN_COLOURS,
        "span_outlines": SPAN_OUTLINES,
        "rule": inspect.getsource(keys_of_row),
        "meaning": MEANING | HIDDEN_MEANING,
        "sentence_marks": SENTENCE_MARKS,
    }
    style = colours() + read("explorer.css") + (read("lab.css") if model else "")
    script = '"use strict";\n' + "\n".join(map(read, MODEL_SCRIPTS if model else SCRIPTS))
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:"
    fill = {"POLICY": policy, "STYLE": style, "DATA": json_in_html(data), "SCRIPT": script}
    page = read("explorer.html")
    parts = page.split(
        "%%"
    )  # text, name, text, name, ..., text: nothing that is filled in is looked at again
    return "".join(
        fill[part] if odd else part for odd, part in zip([False, True] * len(parts), parts, strict=False)
    )


def iframe(page: str, height: int = 900) -> str:
    """The page as a sandboxed frame for a notebook: neither sees the other's styles, scripts or cookies."""
    source = html_text.escape(page, quote=True)
    return (
        f'<iframe title="minglm explorer" sandbox="allow-scripts allow-downloads" srcdoc="{source}" '
        f'style="width:100%;height:{int(height)}px;border:0"></iframe>'
    )


@cache
def read(name):
    return (files(__package__) / name).read_text(encoding="utf-8")


def digest(text):
    """How a content security policy names the one script or style that it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_in_html(data):
    r"""JSON that cannot end the element it stands in: < is written \u003c, which JSON reads as the same letter."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
        "<", r"\u003c"
    )


def colours():
    """The palette as CSS variables: --AA, --AA-ink, ..., --back, --ink, ... for both themes, --span-0, ..."""

    def block(theme):
        kinds = {
            name: (getattr(kind, theme) or THEMES[theme]["back"], kind.ink[theme])
            for name, kind in KINDS.items()
        }
        names = {f"--{name}": colour for name, (colour, _) in kinds.items()}
        names |= {f"--{name}-ink": ink for name, (_, ink) in kinds.items()}
        names |= {f"--{name}": colour for name, colour in THEMES[theme].items()}
        return "".join(f"{name}:{value};" for name, value in names.items())

    spans = "".join(f"--span-{i}:{colour};" for i, colour in enumerate(SPAN_COLOURS))
    light, dark = block("light"), block("dark")
    return (
        f":root{{color-scheme:light dark;{spans}{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n:root[data-theme=light]{{color-scheme:light}}\n"
    )
