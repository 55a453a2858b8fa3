"""The plan of the animation: when each step comes, what it says, and where everything is."""

from ...errors import MinglmError
from ..columns import printable, shorten
from ..derivation import MASK_NAMES, count
from ..words import STORY
from .animated import ems

MOST_ROWS = 24  # more are hard to read and make the file larger than 60 KB
CHIP, PAD, LEFT, RIGHT = 32, 16, 86, 76  # pixels: height of a token, margin, space beside the mask


def timeline(d):
    """Return {step: (start, length)} in seconds. Many blanks or rows go faster, so length hardly matters."""
    spans, rows = len(d.spans), len(d) - d.part_a_len
    lengths = {
        "spans": 1.4,
        "part_b": 1 + min(0.7 * spans, 2),
        "part_a": 1.5,
        "positions": 1.6,
        "rows_a": 1,
        "rows_b": max(1.8, min(0.42 * rows, 3.4)),
        "home": 0.2 + max(1, min(0.55 * spans, 2)),
        "end": 1.6,
    }
    steps, now = {}, 0
    for name, length in lengths.items():
        steps[name] = (now, length)
        now += length
    return steps


def captions(d):
    """Return {step: its sentence}."""
    blanked, shuffled = sum(b - a for a, b in d.spans), list(d.order) != sorted(d.order)
    facts = dict(
        blanked=blanked,
        text=count(len(d.text), "word"),
        order=", in shuffled order" * shuffled,
        mask=MASK_NAMES[d.objective],
        part_a=count(d.part_a_len, "token"),
    )
    return {name: sentence.format(**facts) for name, sentence in STORY.items()}


class Places:
    """Where everything is, in pixels from the top left.

    words, tokens: as they are drawn. size: of their letters; big: how much larger the sentence is. pitch,
    high: width and height of a cell. upright: whether tokens wider than their column are turned. home: (x, y)
    of each word.
    """

    def __init__(self, d, width):
        T, room = len(d), width - LEFT - RIGHT
        most = min(MOST_ROWS, room // 12)
        if T > most:
            wider = " or a larger --width" * (most < MOST_ROWS)
            fits = f"{width} pixels hold {most}; take a shorter text{wider}"
            raise MinglmError(f"figure story: {T} rows given, {fits}")
        self.width, self.pitch, self.high = width, min(64, 10 * room // T / 10), max(14, min(24, 260 // T))
        self.words, self.tokens = [shown(text) for text in d.text], [shown(token) for token in d.tokens]
        self.size = min(18, (self.pitch - 14) / max(map(ems, (*self.words, *self.tokens))))
        self.upright = self.size < 12.5
        if self.upright:
            self.size = min(14, self.pitch * 0.75)
        self.thick = min(CHIP, self.pitch - 3) if self.upright else CHIP
        self.left, self.end = LEFT + (room - self.pitch * T) / 2, LEFT + (room + self.pitch * T) / 2
        self.big = max(1, min(1.45, (width - 2 * PAD) / sum(self.wide(word) + 6 for word in self.words)))
        self.home, self.aisle = self.lines()
        self.heads = max(map(self.wide, self.tokens)) if self.upright else CHIP
        self.parts = self.aisle + 28
        self.brackets = self.parts + 26
        self.numbers = self.brackets + self.heads + 22
        self.top = self.numbers + 32
        self.caption = self.top + T * self.high + 28
        self.height = round(self.caption + 24)

    def wide(self, text):
        """Return the width of a token's rectangle."""
        return max(18 if self.upright else 26, ems(text) * self.size + 9)

    def lines(self):
        """Return {word: its middle} in centred lines, and the height at which words fly, below them."""
        lines, x = [[]], 0
        for i, w in enumerate(self.big * self.wide(word) for word in self.words):
            if x and x + w > self.width - 2 * PAD:
                lines.append([])
                x = 0
            lines[-1].append((i, x, w))
            x += w + 6 * self.big
        home, high = {}, self.big * self.thick
        for n, line in enumerate(lines):
            shift = (self.width - line[-1][1] - line[-1][2]) / 2
            home |= {i: (shift + x + w / 2, PAD + (n + 1) * (high + 22) - high / 2) for i, x, w in line}
        return home, PAD + len(lines) * (high + 22) + 14

    def at_home(self, i):
        """Return the place of word i in the sentence: (x, y, angle, scale)."""
        return *self.home[i], 0, self.big

    def hole(self, span):
        """Return (x, y, width) of a blank in the sentence, around (x, y); if broken, on its first line."""
        line = [i for i in range(*span) if self.home[i][1] == self.home[span.start][1]]
        half = [self.big * self.wide(self.words[i]) / 2 for i in (line[0], line[-1])]
        a, b = self.home[line[0]][0] - half[0], self.home[line[-1]][0] + half[1]
        return (a + b) / 2, self.home[line[0]][1], b - a

    def head(self, j):
        """Return the place of the token over column j: (x, y, angle, scale)."""
        turned = self.upright and self.wide(self.tokens[j]) > self.pitch - 2
        high = self.wide(self.tokens[j]) if turned else self.thick
        return self.column(j), self.brackets + 7 + self.heads - high / 2, -90 * turned, 1

    def column(self, j):
        """Return the middle of column j."""
        return self.left + (j + 0.5) * self.pitch

    def row(self, i):
        """Return the middle of row i."""
        return self.top + (i + 0.5) * self.high


def shown(token, columns=12):
    """Return a token as it is drawn: every character visible, and cut to `columns`."""
    return shorten(printable(token, "unicode"), columns, "unicode")
