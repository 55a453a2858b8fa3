"""Animated SVG from plain strings: elements, one loop of CSS keyframes, and the file.

The file has no script, font or link, so it also moves inside an <img>. Without animation (with
prefers-reduced-motion, or in a simple viewer) every element rests where its own attributes put it.
"""

import re
from dataclasses import dataclass, field
from html import escape, unescape
from itertools import groupby
from pathlib import Path

from ...errors import MinglmError
from ...files.whole import write_whole
from ..columns import display_width, printable
from ..words import labels

FONTS = 'system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,"Noto Sans",sans-serif'
WIDE, NARROW = set("mwMW@%…—"), set("ijlItfr.,:;'|!()[] ")


@dataclass(frozen=True)
class Animation:
    """An animated picture. svg: the text of its file; alt_text: a description in words."""

    svg: str
    alt_text: str

    def _repr_svg_(self):
        return self.svg

    def translated(self, language):
        """Return it with its labels in a language of words.LANGUAGES; a chip's word is no label."""
        if not (say := labels(language)):
            return self
        label = re.compile(r'(?<=class=")([^"]*\b[cs]\b[^"]*">)([^<]+)(?=</text>)')
        svg = label.sub(lambda found: found[1] + escape(say(unescape(found[2])), quote=False), self.svg)
        words = say(self.alt_text)
        for name, text in (("title", words.partition("。")[0]), ("desc", words)):
            svg = re.sub(
                rf"(<{name} [^>]*>)[^<]*", lambda found, text=text: found[1] + clean(text), svg, count=1
            )
        name = {"zh": "zh-CN"}.get(language, language)  # by which a browser chooses the form of letters
        return Animation(svg.replace("<svg ", f'<svg xml:lang="{name}" ', 1), words)

    def save(self, path):
        """Write it as .svg. -> Path. Raises MinglmError for another ending or if it cannot be written."""
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise MinglmError(f"{path}: an animation is written as .svg only; name a file that ends in .svg")
        write_whole(path, self.svg)
        return path


@dataclass
class Loop:
    """The keyframes of one loop of `seconds`; equal ones are kept once."""

    seconds: float
    names: dict = field(default_factory=dict)  # {keyframes: their name}

    def moves(self, *stops, css_class="m"):
        """Return the attributes of an element that passes through stops, (second, css) in order."""
        percents = [(f"{number(100 * t / self.seconds, 2)}%", css) for t, css in stops]
        alike = groupby(percents, key=lambda percent: percent[1])  # equal neighbours share a rule
        frames = "".join(f"{','.join(when for when, _ in group)}{{{css}}}" for css, group in alike)
        name = self.names.setdefault(frames, f"k{len(self.names)}")
        return dict(class_=css_class, style=f"animation-name:{name}")

    def shows(self, start, end=None, fade=0.3):
        """Return the attributes of an element that is visible from `start` on, with `end` only until then."""
        stops = [(0, "opacity:0"), (start, "opacity:0"), (start + fade, "opacity:1")]
        if end is None:
            return self.moves(*stops, (self.seconds, "opacity:1"))
        stops += [(end - fade, "opacity:1"), (end, "opacity:0"), (self.seconds, "opacity:0")]
        return self.moves(*stops, css_class="m h")  # h: hidden in the finished picture

    def css(self):
        """Return the rules behind `moves` and `shows`; class f is for paths with their own easing."""
        every = f"animation:{number(self.seconds, 2)}s ease-in-out infinite"
        return (
            f".m,.f{{{every}}}.f{{animation-timing-function:linear}}.h{{opacity:0}}"
            + "".join(f"@keyframes {name}{{{frames}}}" for frames, name in self.names.items())
            + "@media(prefers-reduced-motion:reduce){.m,.f{animation:none!important}}"
        )


def tag(name, *inside, **attributes):
    """Return an element: tag("rect", x=1.5, class_="m") -> <rect x="1.5" class="m"/>. None is left out.

    inside: elements, or escaped text.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            value = number(value) if isinstance(value, float) else escape(str(value))
            words.append(f'{key.rstrip("_").replace("_", "-")}="{value}"')
    return f"<{' '.join(words)}>{''.join(inside)}</{name}>" if inside else f"<{' '.join(words)}/>"


def label(x, y, words, css_class):
    """Return a line of text centred at height y."""
    return tag("text", escape(words, quote=False), x=float(x), y=float(y), dy=".35em", class_=css_class)


def place(x, y, angle=0, scale=1):
    """Return a place as CSS: moved to (x, y), turned by `angle` degrees, scaled."""
    more = f" rotate({number(angle)}deg)" * bool(angle) + f" scale({number(scale, 2)})" * (scale != 1)
    return f"transform:translate({number(x)}px,{number(y)}px){more}"


def still(x, y, angle=0, scale=1):
    """Return the same as an SVG attribute."""
    more = f" rotate({number(angle)})" * bool(angle) + f" scale({number(scale, 2)})" * (scale != 1)
    return f"translate({number(x)} {number(y)}){more}"


def flight(here, there, start, end, aisle, n=12):
    """Return [(second, css)] from one place to another in n steps: out, across, in; slow at both ends.

    here, there: (x, y, angle, scale), see `place`. aisle: the height of a Bezier curve's two inner points.
    """
    stops = []
    for step in range(n + 1):
        t = step / n
        u = t * t * (3 - 2 * t)
        across = u * u * (3 - 2 * u)
        x, _, angle, scale = (a + across * (b - a) for a, b in zip(here, there, strict=True))
        y = here[1] * (1 - u) ** 3 + aisle * 3 * u * (1 - u) + there[1] * u**3
        stops.append((start + t * (end - start), place(x, y, angle, scale)))
    return stops


def number(x, digits=1):
    """Format a number as short as possible: 1, 1.5."""
    return f"{x:.{digits}f}".rstrip("0").rstrip(".")


def ems(text):
    """Estimate the width of a text in font sizes, rather too wide, because the font is unknown."""
    return sum(
        0.98 if display_width(c) > 1 or c in WIDE else 0.38 if c in NARROW else 0.68 if c.isupper() else 0.62
        for c in text
        if display_width(c)
    )


def clean(words):
    """Escape a sentence for XML."""
    return escape(printable(words, "unicode", space=" "), quote=False)
