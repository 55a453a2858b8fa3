"""A figure with its words in another language: every text of it is looked up, drawn, and put back.

So no figure is drawn by other code than in English. What it shows of a text (`canvas.Quoted`) stays.
"""

from contextlib import ExitStack, contextmanager

import matplotlib
from matplotlib.text import Text
from matplotlib.ticker import Formatter

from ...errors import MinglmError
from .canvas import families, wrapped


def words_of(fig):
    """Return the words of a figure as a list: whole sentences, and no quotations."""
    return list(dict.fromkeys(whole(text) for text in texts_of(fig)))


def texts_of(fig):
    """Return the Text objects of a figure that are drawn and are not quotations."""
    fig.draw_without_rendering()  # makes the ticks, and their texts
    texts = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text()]
    return [text for text in texts if not getattr(text, "quoted", False)]


def whole(text):
    """Return what a Text says, and if it is one line of a sentence, the sentence."""
    return text.line_of[0] if hasattr(text, "line_of") else text.get_text()


def can_draw(words):
    """Return whether an installed font has all Chinese letters of some words."""
    return all(ord(c) in families()[1] for c in words if c > "\u2e7f")


@contextmanager
def translated(fig, say):
    """Within it, the words of a figure and its alt_text are what `say` makes of them.

    Raises MinglmError if no installed font has the letters.
    """
    texts = texts_of(fig)
    if not can_draw("".join(say(whole(text)) for text in texts)):
        what = "no installed font has Chinese letters; install one, such as Noto Sans CJK"
        raise MinglmError(f"{what} (Debian: fonts-noto-cjk)")
    with ExitStack() as undo, matplotlib.rc_context({"font.family": families()[0]}):
        axes = [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]
        ticks = {id(tick.label1) for axis in axes for tick in axis.get_major_ticks()}
        ticks |= {id(tick.label2) for axis in axes for tick in axis.get_major_ticks()}
        names = [ax.yaxis.label for ax in fig.axes if ax.yaxis.label.get_rotation() == 90]
        for axis in axes:
            undo.callback(setattr, axis.major, "formatter", axis.major.formatter)
            axis.major.formatter = Spoken(axis.major.formatter, say)
        for text in texts:
            undo.callback(text.set_fontfamily, text.get_fontfamily())
            text.set_fontfamily([*text.get_fontfamily(), *families()[0]])
            if id(text) not in ticks:
                undo.callback(text.set_text, text.get_text())
                text.set_text(said(text, say))
                if text in names and len(text.get_text()) == 1:  # one letter of Chinese is not turned
                    undo.callback(text.set, rotation=90, ha="center", va="bottom")
                    text.set(rotation=0, ha="right", va="center")
        if hasattr(fig, "alt_text"):
            undo.callback(setattr, fig, "alt_text", fig.alt_text)
            fig.alt_text = say(" ".join(fig.alt_text.split()))
        yield fig


def said(text, say):
    """Return what a Text says in the other language; of a sentence, its line, and the last one the rest."""
    if not hasattr(text, "line_of"):
        return say(text.get_text())
    sentence, line, room, size, bold = text.line_of
    lines = wrapped(say(sentence), room, size, bold)
    return lines[line] if line < len(lines) else ""


class Spoken(Formatter):
    """A formatter of ticks whose labels are looked up."""

    def __init__(self, formatter, say):
        self.formatter, self.say = formatter, say

    def __call__(self, value, at=None):
        return self.say(self.formatter(value, at))

    def format_ticks(self, values):
        return [self.say(label) for label in self.formatter.format_ticks(values)]

    def get_offset(self):
        return self.formatter.get_offset()

    def set_locs(self, locs):
        self.formatter.set_locs(locs)
