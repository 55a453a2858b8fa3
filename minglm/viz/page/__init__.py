"""The explorer: one HTML file without server, network or library. Python assembles it from these files:

explorer.html   the regions, in reading order        derive.js    the rules: random numbers, spans, rows, mask
explorer.css    their style                          dom.js       elements, in a few lines
                                                     matrix.js    the mask as a grid to point at and walk in
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
"""

import base64
import hashlib
import html as html_text
import inspect
import json
import re
from functools import cache
from importlib.resources import files

from ...errors import MinglmError
from ...rule import keys_of_row
from ...special import SENTENCE_MARKS
from ..palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from ..words import LANGUAGES, NAMES

NAMED = re.compile(r'<[^>]* data-t="([^"]+)"[^>]*>')  # an element with a text of words.LANGUAGES
COMMENT = re.compile(r"(^|\s+)// .*|^\s*//$|^\s*/\*.*\*/$")
STRING = re.compile(r'("(?:\\.|[^"\\])*"|(?<!\$\{)`[^`$]*`)')
SUM = re.compile(r"(?<![+-]) ([+-]) (?![+-])")  # x - -1 stays
SPACED = re.compile(r" ?(=>|[=!,:?&|(){}\[\];<>*]+) ?")
BROKEN = re.compile(r",?\n(?=[)\]}])|(?<=[,({\[])\n")  # where no statement could end
STORY_SCRIPTS = ("leak.js", "train.js", "cheat.js", "story.js")
SCRIPTS = ("derive.js", "dom.js", "matrix.js", "texts.js", "ui.js", "compare.js", "share.js")
MODEL_SCRIPTS = ("derive.js", "glm.js", *SCRIPTS[1:], "lab.js")


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
    style = colours() + "".join(map(read, styles))
    scripts = (*(MODEL_SCRIPTS if model else SCRIPTS), *["siblings.js"] * siblings, *STORY_SCRIPTS * story)
    script = '"use strict";\n' + "\n".join(map(read, scripts))
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'; img-src data:"
    words = LANGUAGES[language]["page"]
    fill = {
        "LANG": language,
        "TITLE": words["title"],
        "STORY": named(read("story.html"), words) if story else "",
        "POLICY": policy,
        "STYLE": style,
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


@cache
def read(name):
    """Return a file of the page without what only its readers need: comments, indentation, spaces, breaks.

    So no text in these files may go over several lines, or hold // between spaces.
    """
    text = (files(__package__) / name).read_text(encoding="utf-8")
    lines = filter(None, (COMMENT.sub("", line).strip() for line in text.split("\n")))
    if name.endswith(".js"):
        return BROKEN.sub("", "\n".join(map(squeezed, lines)))
    text = "\n".join(lines)
    if name.endswith(".css"):
        return re.sub(r"(?<=[,{};])\n|(?<=\w:) | (?={)|(?<=,) |;\n?(?=})", "", text)
    return text


def squeezed(line):
    """Return a line of a script without the spaces around its signs; strings keep theirs.

    A line with a template, a pattern or a string of another kind stays as it is.
    """
    parts = STRING.split(line)  # code, string, code, ..., code
    if re.search(r"[`/']", "".join(parts[::2])):
        return line
    parts[::2] = [SPACED.sub(r"\1", SUM.sub(r"\1", code)) for code in parts[::2]]
    return "".join(parts)


def digest(text):
    """Return the name of a script or style in a content security policy: its hash."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


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
