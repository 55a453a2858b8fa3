"""How GLM learns from a sentence, as an animation: blanks fly out, the mask grows row by row, the blanks fly home.

`timeline` says when each step comes, `Places` where everything stands, `Story` draws; the sentences under the picture are
in words.py, the file is made by animated.py. Neither torch nor matplotlib is needed.
"""

from ..errors import MinglmError
from .animated import FONTS, Animation, Loop, clean, ems, flight, label, number, place, still, tag
from .columns import printable, shorten
from .derivation import MASK_NAMES, count
from .palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from .words import STORY

WIDTH, LEAST, MOST_ROWS = 720, 460, 36  # of the picture in pixels, and at least; rows: the file stays under 60 KB
CHIP, PAD, LEFT, RIGHT = 32, 16, 86, 76  # pixels: height of a token's box, margin, room for labels beside the grid
DASHES = {"solid": None, "dashed": "5 3", "dotted": "2 2"}
DOT = '<circle cx="{}" cy="{}" r=".06" fill="currentColor"/>'
# What is drawn in a cell over its colour, in a square of side 1: the patterns of palette.KINDS.
SIGNS = {
    "plain": "",
    "dots": "".join(DOT.format(x, y) for x in (0.3, 0.7) for y in (0.3, 0.7)),
    "diagonal": '<path d="M.26 .26L.74 .74"/>',
    "ring": '<circle cx=".5" cy=".5" r=".24"/>',
    "cross": '<path d="M.4 .4L.6 .6M.4 .6L.6 .4"/>',
    "hatch": '<path d="M.38 .62L.62 .38"/>',
}


def fig_story(d, *, theme="light", width=None):
    """The Animation of a Derivation of GLM's with at least one blank. width: in pixels, 720 unless given."""
    width = WIDTH if width is None else width
    if d.model != "glm":
        raise MinglmError(f"figure story: a sample of {d.model!r} came; one of 'glm' is needed")
    if not d.spans:
        raise MinglmError("figure story: nothing is blanked; --spans names what to blank, as in --spans 2:4")
    if theme not in THEMES:
        raise MinglmError(f"theme {theme!r} is not accepted: it is one of {', '.join(THEMES)}")
    if not LEAST <= width <= 4000:
        raise MinglmError(f"width: {width} is not accepted; {LEAST} to 4000 pixels are")
    return Story(d, theme, int(width)).animation()


def timeline(d):
    """{step: (start, length)} in seconds. Many blanks or rows move faster, so that any text takes about as long."""
    spans, rows = len(d.spans), len(d) - d.part_a_len
    lengths = {
        "spans": 1.4, "part_b": 1.0 + min(0.8 * spans, 2), "part_a": 1.6, "positions": 1.7, "rows_a": 1.0,
        "rows_b": min(0.45 * rows, 4), "home": 0.2 + min(0.6 * spans, 2), "end": 1.8,
    }  # fmt: skip
    steps, now = {}, 0
    for name, length in lengths.items():
        steps[name] = (now, length)
        now += length
    return steps


class Places:
    """Where everything stands, in pixels from the top left.

    words, tokens: as they are drawn. size: of letters; big: how much larger those of the sentence are. pitch, high: of a
    cell. upright: whether tokens stand on their side in their columns. home: (x, y) of the middle of each word.
    """

    def __init__(self, d, width):
        T, room = len(d), width - LEFT - RIGHT
        most = min(MOST_ROWS, room // 12)
        if T > most:
            wider = " or a larger --width" * (most < MOST_ROWS)
            raise MinglmError(f"figure story: {T} rows came; {width} pixels hold {most}: take a shorter text{wider}")
        self.width, self.pitch, self.high = width, min(64, 10 * room // T / 10), max(14, min(24, 260 // T))
        self.words, self.tokens = ([shown(t) for t in texts] for texts in (d.text, d.tokens))
        self.size = min(18, (self.pitch - 16) / max(map(ems, (*self.words, *self.tokens))))
        self.upright = self.size < 12.5
        self.size = min(14, self.pitch * 0.75) if self.upright else self.size
        self.thick = min(CHIP, self.pitch - 3) if self.upright else CHIP
        self.left = LEFT + (room - self.pitch * T) / 2
        self.big = max(1, min(1.45, (width - 2 * PAD) / sum(self.wide(w) + 6 for w in self.words)))
        self.home, self.aisle = self.lines()
        self.heads = max(map(self.wide, self.tokens)) if self.upright else CHIP
        self.parts = self.aisle + 28
        self.brackets = self.parts + 26
        self.numbers = self.brackets + self.heads + 22
        self.top = self.numbers + 32
        self.caption = self.top + T * self.high + 28
        self.height = int(self.caption + 24)

    def wide(self, text):
        """The width of a token's box."""
        return max(26, ems(text) * self.size + 9)

    def lines(self):
        """The middle of every word of the sentence, in centred lines, and the height at which the words fly."""
        lines, x = [[]], 0
        for i, w in enumerate(self.big * self.wide(word) for word in self.words):
            if x and x + w > self.width - 2 * PAD:
                lines.append([])
                x = 0
            lines[-1].append((i, x, w))
            x += w + 6 * self.big
        home, step = {}, self.big * self.thick + 22
        for n, line in enumerate(lines):
            shift = (self.width - line[-1][1] - line[-1][2]) / 2
            home |= {i: (shift + x + w / 2, PAD + (n + 1) * step - self.big * self.thick / 2) for i, x, w in line}
        return home, PAD + len(lines) * step + 14

    def at_home(self, i):
        """Where word i stands in the sentence: (x, y, angle, scale)."""
        return *self.home[i], 0, self.big

    def head(self, j):
        """Where the token stands over column j; an upright one begins at the numbers."""
        y = self.brackets + 7 + self.heads - (self.wide(self.tokens[j]) if self.upright else CHIP) / 2
        return self.column(j), y, -90 * self.upright, 1

    def column(self, j):
        """The middle of column j."""
        return self.left + (j + 0.5) * self.pitch

    def hole(self, span):
        """The middle and the width of a blank in the sentence: of its part on the first line."""
        line = [i for i in range(*span) if self.home[i][1] == self.home[span.start][1]]
        half = [self.big * self.wide(self.words[i]) / 2 for i in (line[0], line[-1])]
        a, b = self.home[line[0]][0] - half[0], self.home[line[-1]][0] + half[1]
        return (a + b) / 2, self.home[line[0]][1], b - a


class Story:
    """One animation while it is drawn: each method yields a part of the picture."""

    def __init__(self, d, theme, width):
        self.d, self.A, self.theme, self.look = d, d.part_a_len, theme, THEMES[theme]
        self.p, self.steps = Places(d, width), timeline(d)
        self.seconds = sum(self.steps["end"])
        self.loop = Loop(self.seconds)
        self.span_of = {i: k for k, span in enumerate(d.spans) for i in range(*span)}
        self.mask_row = [int((d.span_id[: self.A] == k).argmax()) for k in range(len(d.spans))]
        self.rows = [[i for i in range(self.A, len(d)) if d.span_id[i] == k] for k in range(len(d.spans))]

    def animation(self):
        p, d = self.p, self.d
        back = tag("rect", width=p.width, height=p.height, rx=10, fill=self.look["back"])
        leaves = [(0, "opacity:1"), (self.seconds - 0.5, "opacity:1"), (self.seconds, "opacity:0")]
        # The sentence comes in the middle, alone, and makes room; at the end it goes back there.
        middle = place(0, p.height / 2 - p.aisle + p.big * p.thick / 2), place(0, 0)
        up = self.steps["part_b"][0]
        glides = [(0, middle[0]), (up, middle[0]), (up + 0.5, middle[1]), (self.seconds - 0.5, middle[1])]
        drawn = [*self.heads(), *self.positions(), *self.grid(), *self.captions()]
        sentence = [*self.kept_words(), tag("g", *self.holes(), **self.loop.moves(*leaves)), *self.flyers()]
        body = [tag("g", *drawn, **self.loop.moves(*leaves)),
                tag("g", *sentence, **self.loop.moves(*glides, (self.seconds, middle[0])))]  # fmt: skip
        small, most = self.caption_size(20), self.caption_size(26)
        style = (
            f"text{{font-family:{FONTS};font-size:{number(p.size)}px;text-anchor:middle;fill:{self.look['ink']}}}"
            f".s{{font-size:12px}}.b{{font-weight:600}}.e{{text-anchor:end}}.l{{text-anchor:start}}.c{{font-size:{small}px}}"
            f"@media(max-width:480px){{.c{{font-size:{most}px}}.s{{font-size:14px}}}}" + self.loop.css()
        )
        words = in_words(d)
        title, about = tag("title", clean(words.partition(". ")[0]), id="title"), tag("desc", clean(words), id="words")
        svg = tag(
            "svg", *("\n" + part for part in (title, about, tag("style", style), self.signs(), back, *body)), "\n",
            xmlns="http://www.w3.org/2000/svg", width=p.width, height=p.height, viewBox=f"0 0 {p.width} {p.height}",
            role="img", aria_labelledby="title words",
        )  # fmt: skip
        return Animation(svg + "\n", words)

    # ---- the sentence ----

    def kept_words(self):
        """The words that are not blanked: they stay."""
        for i, word in enumerate(self.p.words):
            if i not in self.span_of:
                chip = self.chip(self.p.wide(word), word)
                yield tag("g", chip, id=f"word-{i}", transform=still(*self.p.at_home(i)))

    def holes(self):
        """What marks the blanks in the sentence: outlines, numbers, and an [M] while the words are away."""
        start, masked = self.steps["spans"][0] + 0.6, self.steps["part_a"][0]
        for k, span in enumerate(self.d.spans):
            x, y, w = self.p.hole(span)
            edges = [tag("g", self.box(self.p.wide(self.p.words[i]), **self.outline(k)), transform=still(*self.p.at_home(i)))
                     for i in range(*span)]  # fmt: skip
            name = label(x, y - self.p.big * self.p.thick / 2 - 10, blank_name(k, w), class_="s b")
            yield tag("g", *edges, name, **self.loop.shows(start))
            mask = self.chip(w / self.p.big, self.p.tokens[self.mask_row[k]], **self.outline(k, self.look["back"]))
            while_away = self.loop.shows(masked, self.flights(k)[1][1] + 0.1)
            yield tag("g", tag("g", mask, transform=still(x, y, 0, self.p.big)), **while_away)

    def flyers(self):
        """The blanked words: from the sentence into Part B, where a chip of its own takes over, and home at the end."""
        outlined = self.steps["spans"][0] + 0.6
        for i, k in self.span_of.items():
            (leave, land), (back, arrive) = self.flights(k)
            j = self.rows[k][1 + i - self.d.spans[k].start]
            home, head = self.p.at_home(i), self.p.head(j)
            out, again = flight(home, head, leave, land, self.p.aisle), flight(head, home, back, arrive, self.p.aisle)
            seen = {t: f"{css};opacity:1" for t, css in (*out, *again)}
            stops = [(0, f"{place(*home)};opacity:1"), *seen.items(), (self.seconds, f"{place(*home)};opacity:1")]
            stops += [(t, f"{place(*head)};opacity:0") for t in (land + 0.1, back - 0.1)]
            edge = [(0, "opacity:0"), (outlined, "opacity:0"), (outlined + 0.3, "opacity:1"), (self.seconds - 0.5, "opacity:1")]
            wide, word = self.p.wide(self.p.words[i]), self.p.words[i]
            drawn = self.chip(wide, word) + tag("g", self.box(wide, **self.outline(k)),
                                                **self.loop.moves(*edge, (self.seconds, "opacity:0")))  # fmt: skip
            yield tag("g", drawn, id=f"word-{i}", transform=still(*home), **self.loop.moves(*sorted(stops), css_class="f"))

    def flights(self, k):
        """When the words of span k fly out, and when home: ((start, end), (start, end)). One span after the other."""
        n, turn = len(self.d.spans), self.d.order.index(k)
        (start, length), (home, back) = self.steps["part_b"], self.steps["home"]
        each, each_back = (length - 1) / n, (back - 0.2) / n
        out = start + 0.5 + turn * each
        return (out, out + each), (home + 0.1 + turn * each_back, home + 0.1 + (turn + 1) * each_back)

    # ---- over the mask: tokens and positions ----

    def heads(self):
        """Both parts: their names, brackets over spans, and every token, outlined at first, filled when it may be seen."""
        d, p = self.d, self.p
        part_b, part_a = sum(self.steps["part_b"]) - 0.5, self.steps["part_a"][0] + 0.4
        for part, a, b, start in (("A", 0, self.A, part_a + 0.7), ("B", self.A, len(d), part_b)):
            x, w = p.left + a * p.pitch + 1.5, (b - a) * p.pitch - 3
            bar = tag("rect", x=x, y=float(p.parts), width=w, height=4, rx=2, fill=self.colour(part))
            yield tag("g", bar, label(x + w / 2, p.parts - 10, f"Part {part}", class_="s b"), **self.loop.shows(start))
        for k in range(len(d.spans)):
            for rows, start in (([self.mask_row[k]], part_a + 0.7), (self.rows[k], part_b)):
                x, w = p.left + rows[0] * p.pitch + 3, len(rows) * p.pitch - 6
                path = tag("path", d=f"M{number(x)} {number(p.brackets + 4)}v-4h{number(w)}v4", **self.outline(k))
                name = label(x + w / 2, p.brackets - 8, blank_name(k, w), class_="s")
                yield tag("g", path, name, **self.loop.shows(start))
        for j in range(len(d)):
            yield self.arriving(j, part_a, part_b)
            yield self.lit(j)

    def arriving(self, j, part_a, part_b):
        """A token of Part A comes down from the sentence; one of Part B takes over from the word that landed, or appears."""
        p, k, i = self.p, int(self.d.span_id[j]), int(self.d.word[j])
        chip = self.chip(p.wide(p.tokens[j]), p.tokens[j], **(self.outline(k, self.look["back"]) if k >= 0 else {}))
        if j < self.A:
            here = p.at_home(i) if i >= 0 else (*p.hole(self.d.spans[k])[:2], 0, p.big)
            unseen, there = f"{place(*here)};opacity:0", f"{place(*p.head(j))};opacity:1"
            stops = [(0, unseen), (part_a - 0.05, unseen), (part_a, f"{place(*here)};opacity:1"), (part_a + 0.8, there)]
            motion = self.loop.moves(*stops, (self.seconds, there))
        else:
            motion = self.loop.shows(self.flights(k)[0][1] - 0.05, fade=0.05) if i >= 0 else self.loop.shows(part_b)
            chip, motion = tag("g", chip, **motion), {}
        return tag("g", chip, id=f"head-{j}", transform=still(*p.head(j)), **motion)

    def lit(self, j):
        """A token in the colour of its part, from the first row on that may see it."""
        p, part = self.p, self.d.part[j]
        first = int(self.d.mask[:, j].argmax())
        size = (p.heads, p.pitch - 3) if p.upright else (p.pitch - 3, CHIP + 2)
        ink = (KINDS["AA"] if part == "A" else KINDS["BS"]).ink[self.theme]
        chip = self.chip(size[0], p.tokens[j], ink, size[1], fill=self.colour(part))
        where = still(p.column(j), p.brackets + 7 + p.heads / 2, p.head(j)[2])
        return tag("g", tag("g", chip, transform=where), **self.loop.shows(self.turn(first), fade=0.2))

    def positions(self):
        """The two rows of numbers. A line in the span's colour leads from an [M] to the rows of Part B that stand there."""
        p, (start, length) = self.p, self.steps["positions"]
        size = min(14.0, p.pitch * 0.6)
        for lane, values in enumerate((self.d.position_ids, self.d.block_position_ids)):
            y, fill = p.numbers + 19 * lane, self.look["soft" if lane else "ink"]
            drawn = [label(p.left - 9, y, f"position {lane + 1}", class_="s e")]
            for j, value in enumerate(values.tolist()):
                drawn.append(label(p.column(j), y, str(value), size=size))
                if lane == 0 and self.d.span_id[j] >= 0:
                    line = f"M{number(p.column(j) - size / 2)} {number(y + size / 2 + 2)}h{number(size)}"
                    drawn.append(tag("path", d=line, **self.outline(int(self.d.span_id[j]))))
            yield tag("g", *drawn, **self.loop.shows(start + lane * length / 2, fade=0.4))

    # ---- the mask ----

    def grid(self):
        """Empty cells, then a group for each row: its token, its cells, what it learns; around the one of now, a frame."""
        d, p, T = self.d, self.p, len(self.d)
        size, end = min(p.size, p.high * 0.7), p.left + T * p.pitch
        lines = "".join(f"M{number(p.left + 1.5)} {number(p.top + (i + 0.5) * p.high)}h{number(T * p.pitch - 3)}" for i in range(T))
        empty = tag("path", d=lines, stroke=self.look["faint"], stroke_width=p.high - 3, stroke_dasharray=f"{number(p.pitch - 3)} 3")
        yield tag("g", empty, **self.loop.shows(self.steps["part_b"][0], fade=0.5))
        learns = label(end + 7, p.top + (self.A - 0.5) * p.high, "learns", class_="s l")
        yield tag("g", learns, **self.loop.shows(self.turn(self.A)))
        for i in range(T):
            cells = [tag("use", href=f"#{d.kind[i, j]}", x=p.left + j * p.pitch) for j in range(T)]
            row = [label(p.left - 9, p.high / 2, p.tokens[i], size=size, class_="e"), *cells]
            moved = tag("g", *row, id=f"row-{i}", transform=still(0, p.top + i * p.high))
            yield tag("g", moved, **self.loop.shows(self.turn(i), fade=0.2))
            if d.targets[i]:
                target = label(end + 7, p.top + (i + 0.5) * p.high, shown(d.targets[i], 8), size=size, class_="l b")
                yield tag("g", target, **self.loop.shows(self.turn(i) + 0.2, fade=0.2))
        yield self.frame()

    def turn(self, i):
        """When row i of the mask appears."""
        name, first, rows = ("rows_a", 0, self.A) if i < self.A else ("rows_b", self.A, len(self.d) - self.A)
        start, length = self.steps[name]
        return start + (i - first) * length / rows

    def frame(self):
        """Around the row that is being written: it goes down Part B, and is gone when all is written."""
        p, (start, length) = self.p, self.steps["rows_b"]
        where = [place(0, p.top + i * p.high) for i in range(self.A, len(self.d))]
        each = length / len(where)
        stops = [(0, f"{where[0]};opacity:0"), (start - 0.1, f"{where[0]};opacity:0")]
        for n, at in enumerate(where):
            stops += [(start + n * each + 0.1, f"{at};opacity:1"), (start + (n + 1) * each - 0.1, f"{at};opacity:1")]
        stops += [(t, f"{where[-1]};opacity:0") for t in (start + length + 0.1, self.seconds)]
        ink = self.look["ink"]
        box = tag("rect", x=6, y=-1, width=p.width - 12, height=p.high + 2, rx=5, fill=ink, fill_opacity=".05", stroke=ink, stroke_width=2)
        return tag("g", box, **self.loop.moves(*stops, css_class="m h"))

    def signs(self):
        """One cell of each kind, which all rows use."""
        p, side, drawn = self.p, float(min(self.p.pitch, self.p.high)), []
        for name, kind in KINDS.items():
            fill, ink = getattr(kind, self.theme), kind.ink[self.theme]
            cell = tag("rect", x=1.5, y=1.5, width=p.pitch - 3, height=p.high - 3, rx=2, fill=fill) if fill else ""
            where = still((p.pitch - side) / 2, (p.high - side) / 2, 0, side)
            sign = tag("g", SIGNS[kind.pattern], transform=where, fill="none", stroke=ink, color=ink, stroke_width=".06")
            drawn.append(tag("g", cell, sign * bool(SIGNS[kind.pattern]), id=name))
        return tag("defs", *drawn)

    # ---- under it: what happens, in words ----

    def captions(self):
        """One sentence for each step; the last one stays."""
        for name, sentence in self.sentences().items():
            start, length = self.steps[name]
            line = label(self.p.width / 2, self.p.caption, sentence, class_="c")
            end = None if name == "end" else start + length
            yield tag("g", line, **self.loop.shows(start, end, fade=0.2))

    def sentences(self):
        """{step: its caption}."""
        d = self.d
        order = f", shuffled to {', '.join(str(k + 1) for k in d.order)}" if sorted(d.order) != list(d.order) else ""
        facts = dict(blanked=len(self.span_of), text=count(len(d.text), "word"), order=order, part_a=count(self.A, "token"),
                     mask=MASK_NAMES[d.objective])  # fmt: skip
        return {name: STORY[name].format(**facts) for name in self.steps}

    def caption_size(self, most):
        """The size of the captions: as large as the longest allows."""
        return number(min(most, (self.p.width - 2 * PAD) / max(map(ems, self.sentences().values()))))

    # ---- pieces ----

    def colour(self, part):
        return getattr(KINDS["AA" if part == "A" else "BS"], self.theme)

    def outline(self, k, fill="none"):
        """The colour and the dashes of span k."""
        colour, dashes = SPAN_COLOURS[k % len(SPAN_COLOURS)], DASHES[SPAN_OUTLINES[k % len(SPAN_OUTLINES)]]
        return dict(fill=fill, stroke=colour, stroke_width=2, stroke_dasharray=dashes)

    def box(self, wide, high=None, **look):
        """A box around (0, 0)."""
        high = high or self.p.thick
        return tag("rect", x=-wide / 2, y=-high / 2, width=float(wide), height=float(high), rx=6, **look)

    def chip(self, wide, word, ink=None, high=None, **look):
        """A token in its box, around (0, 0)."""
        look = dict(fill=self.look["faint"]) | look
        style = f"fill:{ink}" if ink else None
        return self.box(wide, high, **look) + tag("text", clean(word), dy=".35em", style=style)


def shown(token, columns=12):
    """A token as it is drawn: every character can be seen, and there are few of them."""
    return shorten(printable(token, "unicode"), columns, "unicode")


def blank_name(k, room):
    """What a blank is called where there is so much room, in pixels."""
    name = f"blank {k + 1}"
    return name if ems(name) * 12 <= room else str(k + 1)


def in_words(d):
    """What the picture shows, for those who cannot see it."""
    part_a, part_b = " ".join(d.tokens[: d.part_a_len]), " ".join(d.tokens[d.part_a_len :])
    return (
        f"How GLM learns from a sentence, as an animation. The sentence: {' '.join(d.text)}. Part A, with one "
        f"{MASK_NAMES[d.objective]} for each blank: {part_a}. Part B, the blanked words: {part_b}. It learns: "
        f"{' '.join(t for t in d.targets if t)}. Position 1: {' '.join(map(str, d.position_ids))}. Position 2: "
        f"{' '.join(map(str, d.block_position_ids))}. {int(d.mask.sum())} of {d.mask.size} cells of the mask are open: "
        "Part A sees Part A; Part B sees Part A and its own past."
    )
