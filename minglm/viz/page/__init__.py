"""The explorer: one HTML file that needs no server, no network and no library. Python puts it together from five files.

    explorer.html   the regions, in reading order        derive.js   the rules: random numbers, spans, rows, mask
    explorer.css    how they look                        model.js    a GLM that runs in the page
                                                         ui.js       what happens when somebody points, types or steps
"""

import base64
import hashlib
import html as html_text
import inspect
import json
from functools import cache
from importlib.resources import files

from ...mask import keys_of_row
from ..derivation import NAMES, Derivation, explain
from ..palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from ..words import WORDS

SCRIPTS = ("derive.js", "model.js", "ui.js")
EXAMPLE = (("x1", "x2", "x3", "x4", "x5", "x6"), ((2, 3), (4, 6)), (1, 0))  # the paper's figure 2


def html(derivation: Derivation | None = None, model: dict | None = None) -> str:
    """The page as one text, opened at a derivation (the paper's example if None).

    model: what `weights.model_spec` gave, to be run or shown in the page. The page's own content security policy lets
    nothing in but what is written here: no request leaves it, and no text that is shown in it can become code.
    """
    derivation = derivation or explain(*EXAMPLE)
    data = {
        "derivation": derivation.to_json(), "model": model, "words": WORDS, "names": NAMES,
        "kinds": {name: kind._asdict() for name, kind in KINDS.items()},
        "span_colours": SPAN_COLOURS, "span_outlines": SPAN_OUTLINES, "rule": inspect.getsource(keys_of_row),
    }  # fmt: skip
    style, script = colours() + read("explorer.css"), '"use strict";\n' + "\n".join(map(read, SCRIPTS))
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:"
    fill = {"POLICY": policy, "STYLE": style, "DATA": json_in_html(data), "SCRIPT": script}
    page = read("explorer.html")
    parts = page.split("%%")  # text, name, text, name, ..., text: nothing that is filled in is looked at again
    return "".join(fill[part] if odd else part for odd, part in zip([False, True] * len(parts), parts, strict=False))


def iframe(page: str, height: int = 900) -> str:
    """The page as a sandboxed frame for a notebook: neither sees the other's styles, scripts or cookies."""
    source = html_text.escape(page, quote=True)
    return f'<iframe title="minglm explorer" sandbox="allow-scripts allow-downloads" srcdoc="{source}" ' \
           f'style="width:100%;height:{int(height)}px;border:0"></iframe>'  # fmt: skip


@cache
def read(name):
    return (files(__package__) / name).read_text(encoding="utf-8")


def digest(text):
    """How a content security policy names the one script or style that it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_in_html(data):
    r"""JSON that cannot end the element it stands in: < is written \u003c, which JSON reads as the same letter."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", r"\u003c")


def colours():
    """The palette as CSS variables: --AA, --AA-ink, ..., --back, --ink, ... for both themes, --span-0, ..."""
    def block(theme):
        kinds = {name: (getattr(kind, theme) or THEMES[theme]["back"], kind.ink[theme]) for name, kind in KINDS.items()}
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
