"""The explorer: one HTML file without server, network or library. Python assembles it from these files:

explorer.html   the regions, in reading order        derive.js    the rules: random numbers, spans, rows, mask
explorer.css    their style                          dom.js       elements, in a few lines
unpack.js       the packed parts of the file         matrix.js    the mask as a grid to point at and walk in
with a model:                                        texts.js     tokens, spans, and the page's own texts
lab.css         the style of the model's region      ui.js        the state, and reactions to the user
glm.js          a GLM that runs in the page          compare.js   other models on the same text
lab.js          that model's user interface          share.js     the state as address, JSON, Python, picture
siblings.js     the same blank, filled by a GLM, a GPT and a BERT; siblings.css, its style

the story before the instrument:
story.html      its place
story.js        its frames                           leak.js      who knows what through which cell
story.css       its style                            train.js     a small GLM that learns in the page
                                                     cheat.js     its losses, and the mask in hand

The scripts that compute (COMPUTING) stand in the file as they are here. What draws, the style and the words
are deflated, to a third of their size.
"""

import base64
import hashlib
import html as html_text
import inspect
import json
import re
import zlib
from functools import cache
from importlib.resources import files

from ...errors import MinglmError
from ...rule import keys_of_row
from ...special import SENTENCE_MARKS
from ..palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from ..words import LANGUAGES, NAMES

NAMED = re.compile(r'<[^>]* data-t="([^"]+)"[^>]*>')  # an element with a text of words.LANGUAGES
COMMENT = re.compile(r"(^|\s+)// .*|^\s*//$|^\s*/\*.*\*/$")
STORY_SCRIPTS = ("leak.js", "train.js", "cheat.js", "story.js")
SCRIPTS = ("derive.js", "dom.js", "matrix.js", "texts.js", "ui.js", "compare.js", "share.js")
MODEL_SCRIPTS = ("glm.js", "lab.js")
COMPUTING = ("derive.js", "leak.js", "train.js", "glm.js")


def html(
    derivation,
    model: dict | None = None,
    story: bool = True,
    pin: tuple[int, int] | None = None,
    language: str = "en",
) -> str:
    """Return the page as one text, opened at a Derivation.

    model: a `weights.model_spec`, to be run or shown in the page. story: whether the page begins with the
    story. pin: (row, column), a cell of the mask that is explained at first; raises MinglmError if there is
    no such cell. language: of words.LANGUAGES, the one it opens in; it holds them all. The page's content
    security policy allows only what is written here: no request leaves it, and no text shown in it can become
    code.
    """
    rows = len(derivation)
    if pin is not None and not all(0 <= n < rows for n in pin):
        raise MinglmError(
            f"pin: cell {pin[0]},{pin[1]} is not in the mask; rows and columns go from 0 to {rows - 1}"
        )
    siblings = story and bool(model)
    regions = {"story": story, "lab": bool(model), "siblings": siblings}
    data = {
        "pin": pin,
        "derivation": derivation.to_json(),
        "model": model,
        "language": language,
    }
    if siblings:
        from .siblings import siblings_spec

        data["siblings"] = siblings_spec()
    styles = (
        "explorer.css",
        *["story.css"] * story,
        *["lab.css"] * bool(model),
        *["siblings.css"] * siblings,
    )
    scripts = (*SCRIPTS, *MODEL_SCRIPTS * bool(model), *["siblings.js"] * siblings, *STORY_SCRIPTS * story)
    parts = {
        "style": "".join(map(read, styles)),
        "data": {
            "languages": {
                code: {name: some for name, some in words.items() if regions.get(name, True)}
                for code, words in LANGUAGES.items()
            },
            "names": NAMES,
            "kinds": {name: kind._asdict() for name, kind in KINDS.items()},
            "span_colours": SPAN_COLOURS,
            "span_outlines": SPAN_OUTLINES,
            "rule": inspect.getsource(keys_of_row),
            "sentence_marks": SENTENCE_MARKS,
        },
        # a script has its name, for who looks for it in a browser's tools
        "scripts": [
            f'"use strict";\n{read(name)}\n//# sourceURL={name}' for name in scripts if name not in COMPUTING
        ],
    }
    unpacking = '"use strict";\n' + source("unpack.js")
    script = '"use strict";\n' + "\n".join(source(name) for name in COMPUTING if name in scripts)
    script += '\nfor (const code of PACKED.scripts) addPart("script", code);\n'
    allowed = {"script": (unpacking, script, *parts["scripts"]), "style": (colours(), parts["style"])}
    policy = "; ".join(
        ["default-src 'none'", "img-src data:"]
        + [f"{kind}-src {' '.join(map(digest, texts))}" for kind, texts in allowed.items()]
    )
    words = LANGUAGES[language]["page"]
    fill = {
        "LANG": language,
        "TITLE": words["title"],
        "STORY": named(read("story.html"), words) if story else "",
        "POLICY": policy,
        "STYLE": colours(),
        "PACKED": packed(parts),
        "UNPACK": unpacking,
        "DATA": json_in_html(data),
        "SCRIPT": script,
    }
    parts = read("explorer.html").split("%%")  # text, name, text, name, ..., text
    # subtle: what is filled in is not searched for names again
    return "".join(fill[part] if n % 2 else named(part, words) for n, part in enumerate(parts))


def named(part, words):
    """Return HTML with the words of its elements written in, for who reads it before its script runs."""
    return NAMED.sub(lambda tag: tag[0] + html_text.escape(words[tag[1]], quote=False), part)


class Explorer:
    """The explorer in a notebook, opened at a cell of the mask; its repr is the command for that."""

    def __init__(self, derivation, pin=None):
        self.derivation, self.page, self.pin = derivation, html(derivation, story=False, pin=pin), pin

    def _repr_html_(self):
        return iframe(self.page)

    def __repr__(self):
        d = self.derivation
        spans = ",".join(f"{start}:{end}" for start, end in d.spans)
        order = ",".join(str(k + 1) for k in d.order)
        objective = "" if d.objective == "token" else f" --objective {d.objective}"
        pin = "" if self.pin is None else f" --pin {self.pin[0]},{self.pin[1]}"
        text = json.dumps(" ".join(" ".join(d.text).split()), ensure_ascii=False)
        return f"minglm explore {text} --spans {spans} --order {order}{objective}{pin} --open"


def iframe(page: str, height: int = 900) -> str:
    """Return the page in a sandboxed frame for a notebook: they do not share styles, scripts or cookies."""
    source = html_text.escape(page, quote=True)
    return (
        f'<iframe title="minglm explorer" sandbox="allow-scripts allow-downloads" srcdoc="{source}" '
        f'style="width:100%;height:{int(height)}px;border:0"></iframe>'
    )


def source(name):
    """Return a file of the page."""
    return (files(__package__) / name).read_text(encoding="utf-8")


@cache
def read(name):
    """Return a file of the page without comments, indentation and empty lines.

    So no text in these files may go over several lines, or hold // between spaces.
    """
    return "\n".join(filter(None, (COMMENT.sub("", line).strip() for line in source(name).split("\n"))))


def packed(parts):
    """Return JSON, deflated and as base64, for unpack.js."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, memLevel=6)  # 6: the smallest result
    return base64.b64encode(deflate.compress(text.encode()) + deflate.flush()).decode()


def digest(text):
    """Return the name of a script or style in a content security policy: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def json_in_html(data):
    r"""Return JSON that cannot end its HTML element: < is written \u003c, which means the same in JSON."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c")


def colours():
    """Return the palette as CSS variables: --AA, --AA-ink, ..., --back, --ink, ..., --span-0, ..."""

    def block(theme):
        back = THEMES[theme]["back"]
        names = {f"--{name}": getattr(kind, theme) or back for name, kind in KINDS.items()}
        names |= {f"--{name}-ink": kind.ink[theme] for name, kind in KINDS.items()}
        names |= {f"--{name}": colour for name, colour in THEMES[theme].items()}
        return "".join(f"{name}:{value};" for name, value in names.items())

    spans = "".join(f"--span-{i}:{colour};" for i, colour in enumerate(SPAN_COLOURS))
    light, dark = block("light"), block("dark")
    return (
        f":root{{color-scheme:light dark;{spans}{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n"
        ":root[data-theme=light]{color-scheme:light}@media print{:root{color-scheme:light}}\n"
    )
