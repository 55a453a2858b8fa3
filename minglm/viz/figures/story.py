"""How GLM learns from a sentence, as an animation: blanks fly out, the mask grows, the blanks fly home.

storyboard.py plans when and where; this file draws it. Every element rests as in the last picture, and every
motion ends there. It needs neither torch nor matplotlib.
"""

from ...errors import MinglmError
from ..derivation import MASK_NAMES
from ..palette import KINDS, SPAN_COLOURS, SPAN_OUTLINES, THEMES
from .animated import FONTS, Animation, Loop, clean, ems, flight, label, number, place, still, tag
from .storyboard import PAD, Places, captions, shown, timeline

WIDTH, LEAST = 720, 460  # the default and the smallest width, in pixels
DASHES = {"solid": "none", "dashed": "5 3", "dotted": "2 2"}
DOT = '<circle cx="{}" cy="{}" r=".06" fill="currentColor"/>'
# The patterns of palette.KINDS, in a square of side 1.
SIGNS = {
    "plain": "",
    "dots": "".join(DOT.format(x, y) for x in (0.3, 0.7) for y in (0.3, 0.7)),
    "diagonal": '<path d="M.26 .26L.74 .74"/>',
    "ring": '<circle cx=".5" cy=".5" r=".24"/>',
    "cross": '<path d="M.4 .4L.6 .6M.4 .6L.6 .4"/>',
    "hatch": '<path d="M.38 .62L.62 .38"/>',
}


def fig_story(d, *, theme="light", width=None):
    """Return the Animation of a GLM Derivation with at least one blank. width: in pixels, default 720."""
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


class Story:
    """An animation in progress: its methods return or yield elements, as strings."""

    def __init__(self, d, theme, width):
        self.d, self.A, self.theme, self.look = d, d.part_a_len, theme, THEMES[theme]
        self.p, self.steps, self.captions = Places(d, width), timeline(d), captions(d)
        self.seconds = sum(self.steps["end"])
        self.loop = Loop(self.seconds)
        # Seconds: blanks are outlined; Part B is complete; Part A comes down, and has come; the end begins.
        self.outlined, self.part_b = self.steps["spans"][0] + 0.6, sum(self.steps["part_b"]) - 0.5
        self.part_a, self.moved = self.steps["part_a"][0] + 0.4, self.steps["part_a"][0] + 1.1
        self.leaving = self.seconds - 0.5
        self.span_of = {i: k for k, span in enumerate(d.spans) for i in range(*span)}
        self.mask_row = [int((d.span_id[: self.A] == k).argmax()) for k in range(len(d.spans))]
        self.rows_of = [[i for i in range(self.A, len(d)) if d.span_id[i] == k] for k in range(len(d.spans))]
        self.strips = {}  # {the cells of a row: their name}, because equal rows are kept once

    def animation(self):
        """Return the whole. The sentence is alone in the middle, moves up, and at the end returns there."""
        p, up = self.p, self.steps["part_b"][0]
        alone, above = place(0, p.height / 2 - p.aisle + p.big * p.thick / 2), place(0, 0)
        glide = [(0, alone), (up, alone), (up + 0.5, above), (self.leaving, above), (self.seconds, alone)]
        drawn = [*self.heads(), *self.positions(), *self.grid(), *self.sentences()]
        sentence = [*self.kept_words(), tag("g", *self.holes(), **self.leaves()), *self.flyers()]
        moving = [tag("g", *drawn, **self.leaves()), tag("g", *sentence, **self.loop.moves(*glide))]
        words = in_words(self.d)
        title = tag("title", clean(words.partition(". ")[0]), id="title")
        title += tag("desc", clean(words), id="words")
        back = tag("rect", width=p.width, height=p.height, rx=10, fill=self.look["back"])
        svg = tag(
            "svg",
            *(f"\n{part}" for part in (title, self.style(), self.cells(), back, *moving)),
            "\n",
            xmlns="http://www.w3.org/2000/svg",
            width=p.width,
            height=p.height,
            viewBox=f"0 0 {p.width} {p.height}",
            role="img",
            aria_labelledby="title words",
        )
        return Animation(svg + "\n", words)

    def leaves(self):
        """Return the attributes of elements that fade when the loop ends."""
        return self.loop.moves((0, "opacity:1"), (self.leaving, "opacity:1"), (self.seconds, "opacity:0"))

    def style(self):
        """Return the styles. On a phone, captions are as large as the longest one allows."""
        p = self.p
        room = (p.width - 2 * PAD) / max(map(ems, self.captions.values()))
        sizes = {"text": p.size, ".s": 12, ".n": min(14, p.pitch * 0.6), ".r": min(p.size, p.high * 0.7)}
        sizes[".c"] = min(20, room)
        rules = [f"text{{font-family:{FONTS};text-anchor:middle;fill:{self.look['ink']}}}"]
        rules += [f"{name}{{font-size:{number(size)}px}}" for name, size in sizes.items()]
        rules += [".b{font-weight:600}.e{text-anchor:end}.l{text-anchor:start}"]
        rules += [f"@media(max-width:480px){{.c{{font-size:{number(min(26, room))}px}}.s{{font-size:14px}}}}"]
        for k in range(len(self.d.spans)):
            colour = SPAN_COLOURS[k % len(SPAN_COLOURS)]
            dashes = DASHES[SPAN_OUTLINES[k % len(SPAN_OUTLINES)]]
            rules.append(f".o{k}{{stroke:{colour};stroke-width:2;stroke-dasharray:{dashes}}}")
        return tag("style", *rules, self.loop.css())

    # ---- the sentence -------------------------------------------------------------------------------------

    def kept_words(self):
        """Yield the words that are not blanked: they stay."""
        for i, word in enumerate(self.p.words):
            if i not in self.span_of:
                chip = self.chip(self.p.wide(word), word)
                yield tag("g", chip, id=f"word-{i}", transform=still(*self.p.at_home(i)))

    def holes(self):
        """Yield the marks of blanks: outlines, numbers, and an [M] while the words are away."""
        p, masked = self.p, self.steps["part_a"][0]
        for k, span in enumerate(self.d.spans):
            x, y, w = p.hole(span)
            marks = [label(x, y - p.big * p.thick / 2 - 10, blank_name(k, w), "s b")]
            for i in range(*span):
                edge = self.rectangle(p.wide(p.words[i]), **self.outline(k))
                marks.append(tag("g", edge, transform=still(*p.at_home(i))))
            yield tag("g", *marks, **self.loop.shows(self.outlined))
            mask = self.chip(w / p.big, p.tokens[self.mask_row[k]], **self.outline(k, self.look["back"]))
            away = self.loop.shows(masked, self.flights(k)[1][1] + 0.1)
            yield tag("g", tag("g", mask, transform=still(x, y, 0, p.big)), **away)

    def flyers(self):
        """Yield the blanked words: out to Part B, where `arriving` takes over, and home at the end.

        The last word of a cut document has no place in Part B, because nothing follows it: it only fades.
        """
        for i, k in self.span_of.items():
            (out, landed), (back, arrived) = self.flights(k)
            row = 1 + i - self.d.spans[k].start  # subtle: the first row of a span is its [S]
            has_place = row < len(self.rows_of[k])
            home = self.p.at_home(i)
            head = self.p.head(self.rows_of[k][row]) if has_place else home
            n = max(4, min(12, 60 // len(self.span_of)))  # fewer steps for many words, to keep the file small
            at_home, parked = f"{place(*home)};opacity:1", f"{place(*head)};opacity:"
            there = again = [(out, at_home), (back, at_home)]
            if has_place:
                there = flight(home, head, out, landed, self.p.aisle, n)
                again = flight(head, home, back, arrived, self.p.aisle, n)
            stops = [(0, at_home), *there[:-1], (landed, parked + "1"), (landed + 0.1, parked + "0")]
            stops += [(back - 0.1, parked + "0"), (back, parked + "1"), *again[1:], (self.seconds, at_home)]
            wide, word = self.p.wide(self.p.words[i]), self.p.words[i]
            edge = [(0, "opacity:0"), (self.outlined, "opacity:0"), (self.outlined + 0.3, "opacity:1")]
            edge = self.loop.moves(*edge, (self.leaving, "opacity:1"), (self.seconds, "opacity:0"))
            drawn = self.chip(wide, word) + tag("g", self.rectangle(wide, **self.outline(k)), **edge)
            motion = self.loop.moves(*stops, css_class="f")
            yield tag("g", drawn, id=f"word-{i}", transform=still(*home), **motion)

    def flights(self, k):
        """Return when span k flies out and when home, one span at a time: ((start, end), (start, end))."""
        n, turn = len(self.d.spans), self.d.order.index(k)
        (start, length), (home, back) = self.steps["part_b"], self.steps["home"]
        each, each_back = (length - 1) / n, (back - 0.2) / n
        start, home = start + 0.5 + turn * each, home + 0.1 + turn * each_back
        return (start, start + each), (home, home + each_back)

    # ---- over the mask: tokens and positions --------------------------------------------------------------

    def heads(self):
        """Yield both parts: names, brackets over spans, and tokens, outlined first and filled when seen."""
        p = self.p
        for part, a, b, start in (("A", 0, self.A, self.moved), ("B", self.A, len(self.d), self.part_b)):
            x, w = p.left + a * p.pitch + 1.5, (b - a) * p.pitch - 3
            bar = tag("rect", x=x, y=float(p.parts), width=w, height=4, rx=2, fill=self.colour(part))
            name = label(x + w / 2, p.parts - 10, f"Part {part}", "s b")
            yield tag("g", bar, name, **self.loop.shows(start))
        for k, rows in enumerate(self.rows_of):
            yield self.bracket(k, self.mask_row[k], 1, self.moved)
            yield self.bracket(k, rows[0], len(rows), self.part_b)
        for j in range(len(self.d)):
            yield self.arriving(j) + self.lit(j)

    def bracket(self, k, first, rows, start):
        """Return a bracket with the name of a blank over the columns from `first` on."""
        x, w = self.p.left + first * self.p.pitch + 3, rows * self.p.pitch - 6
        path = f"M{number(x)} {number(self.p.brackets + 4)}v-4h{number(w)}v4"
        name = label(x + w / 2, self.p.brackets - 8, blank_name(k, w), "s")
        return tag("g", tag("path", d=path, **self.outline(k)), name, **self.loop.shows(start))

    def arriving(self, j):
        """Return a token; in Part A it comes down from the sentence, in Part B it replaces its flyer."""
        p, k, i = self.p, int(self.d.span_id[j]), int(self.d.word[j])
        edge = self.outline(k, self.look["back"]) if k >= 0 else {}
        chip = self.chip(p.wide(p.tokens[j]), p.tokens[j], **edge)
        named = dict(id=f"head-{j}", transform=still(*p.head(j)))
        if j >= self.A:
            landed, shows = self.flights(k)[0][1], self.loop.shows
            when = shows(landed - 0.05, fade=0.05) if i >= 0 else shows(self.part_b)
            return tag("g", tag("g", chip, **when), **named)
        here = place(*(p.at_home(i) if i >= 0 else (*p.hole(self.d.spans[k])[:2], 0, p.big)))
        there, start = f"{place(*p.head(j))};opacity:1", self.part_a
        stops = [(0, f"{here};opacity:0"), (start - 0.05, f"{here};opacity:0"), (start, f"{here};opacity:1")]
        return tag("g", chip, **named, **self.loop.moves(*stops, (start + 0.8, there), (self.seconds, there)))

    def lit(self, j):
        """Return a token in the colour of its part, shown from the first row that may see it."""
        p, part, head = self.p, self.d.part[j], self.p.head(j)
        first = int(self.d.mask[:, j].argmax())
        wide, high = (p.wide(p.tokens[j]) + 2 if head[2] else p.pitch - 3), min(p.thick + 2, p.pitch - 3)
        ink = KINDS["AA" if part == "A" else "BS"].ink[self.theme]
        chip = self.chip(wide, p.tokens[j], ink, high, fill=self.colour(part))
        return tag("g", tag("g", chip, transform=still(*head)), **self.loop.shows(self.turn(first), fade=0.2))

    def positions(self):
        """Yield two rows of numbers; the position shared by a span's [M] and its rows is underlined."""
        p, (start, length) = self.p, self.steps["positions"]
        for lane, values in enumerate((self.d.position_ids, self.d.block_position_ids)):
            y = p.numbers + 19 * lane
            drawn = [label(p.left - 9, y, f"position {lane + 1}", "s e")]
            for j, value in enumerate(values.tolist()):
                drawn.append(label(p.column(j), y, str(value), "n"))
                if lane == 0 and self.d.span_id[j] >= 0:
                    line = f"M{number(p.column(j) - 6)} {number(y + 9)}h12"
                    drawn.append(tag("path", d=line, **self.outline(self.d.span_id[j])))
            yield tag("g", *drawn, **self.loop.shows(start + lane * length / 2, fade=0.4))

    # ---- the mask -----------------------------------------------------------------------------------------

    def grid(self):
        """Yield empty cells; for each row its token, its cells and its target; a frame around the newest."""
        d, p, T = self.d, self.p, len(self.d)
        yield self.board()
        learns = label(p.end + 7, p.row(self.A - 1), "learns", "s l")
        yield tag("g", learns, **self.loop.shows(self.turn(self.A)))
        for i in range(T):
            cells = "".join(tag("use", href=f"#{d.kind[i, j]}", x=p.left + j * p.pitch) for j in range(T))
            strip = tag("use", href="#" + self.strips.setdefault(cells, f"cells-{len(self.strips)}"))
            token = label(p.left - 9, p.high / 2, p.tokens[i], "r e")
            moved = tag("g", token, strip, id=f"row-{i}", transform=still(0, p.row(i) - p.high / 2))
            yield tag("g", moved, **self.loop.shows(self.turn(i), fade=0.2))
            if d.targets[i]:
                target = label(p.end + 7, p.row(i), shown(d.targets[i], 8), "r l b")
                yield tag("g", target, **self.loop.shows(self.turn(i) + 0.2, fade=0.2))
        yield self.frame()

    def turn(self, i):
        """Return when row i of the mask appears."""
        name, first, rows = ("rows_a", 0, self.A) if i < self.A else ("rows_b", self.A, len(self.d) - self.A)
        start, length = self.steps[name]
        return start + (i - first) * length / rows

    def board(self):
        """Return the empty cells: a dashed line for each row."""
        p, T = self.p, len(self.d)
        lines = [f"M{number(p.left + 1.5)} {number(p.row(i))}h{number(T * p.pitch - 3)}" for i in range(T)]
        dashes = dict(stroke_width=p.high - 3, stroke_dasharray=f"{number(p.pitch - 3)} 3")
        empty = tag("path", d="".join(lines), stroke=self.look["faint"], **dashes)
        return tag("g", empty, **self.loop.shows(self.steps["part_b"][0], fade=0.5))

    def frame(self):
        """Return the frame around the row being written, which moves down Part B and then disappears."""
        p, (start, length) = self.p, self.steps["rows_b"]
        where = [place(0, p.row(i) - p.high / 2) for i in range(self.A, len(self.d))]
        each = length / len(where)
        stops = [(t, f"{where[0]};opacity:0") for t in (0, start - 0.1)]
        for n, at in enumerate(where):
            stops += [(start + t * each, f"{at};opacity:1") for t in (n + 0.2, n + 0.8)]
        stops += [(t, f"{where[-1]};opacity:0") for t in (start + length + 0.1, self.seconds)]
        look = dict(rx=5, fill=self.look["ink"], fill_opacity=".05", stroke=self.look["ink"], stroke_width=2)
        frame = tag("rect", x=6, y=-1, width=p.width - 12, height=p.high + 2, **look)
        return tag("g", frame, **self.loop.moves(*stops, css_class="m h"))

    def cells(self):
        """Return one cell of each kind, and the rows of cells made of them."""
        p, side, drawn = self.p, min(self.p.pitch, self.p.high), []
        for name, kind in KINDS.items():
            fill, ink, sign = getattr(kind, self.theme), kind.ink[self.theme], SIGNS[kind.pattern]
            place_and_size = dict(
                x=1.5, y=1.5, width=p.pitch - 3, height=p.high - 3, rx=2, fill=fill or "none"
            )
            where = still((p.pitch - side) / 2, (p.high - side) / 2, 0, side)
            mark = tag("g", sign, transform=where, fill="none", stroke=ink, color=ink, stroke_width=".06")
            drawn.append(tag("g", tag("rect", **place_and_size), mark, id=name))
        return tag("defs", *drawn, *(tag("g", cells, id=name) for cells, name in self.strips.items()))

    def sentences(self):
        """Yield the captions, one sentence per step; the last one stays."""
        for name, (start, length) in self.steps.items():
            end = None if name == "end" else start + length
            line = label(self.p.width / 2, self.p.caption, self.captions[name], "c")
            yield tag("g", line, **self.loop.shows(start, end, fade=0.2))

    # ---- pieces -------------------------------------------------------------------------------------------

    def colour(self, part):
        return getattr(KINDS["AA" if part == "A" else "BS"], self.theme)

    def outline(self, k, fill="none"):
        """Return the attributes of an element with the outline of span k."""
        return dict(class_=f"o{k}", fill=fill)

    def rectangle(self, wide, high=None, **look):
        """Return a rectangle around (0, 0)."""
        high = high or self.p.thick
        return tag("rect", x=-wide / 2, y=-high / 2, width=float(wide), height=float(high), rx=6, **look)

    def chip(self, wide, word, ink=None, high=None, **look):
        """Return a token in a rectangle around (0, 0)."""
        rectangle = self.rectangle(wide, high, **dict(fill=self.look["faint"]) | look)
        return rectangle + tag("text", clean(word), dy=".35em", style=f"fill:{ink}" if ink else None)


def blank_name(k, room):
    """Return the name of a blank that fits in `room` pixels."""
    name = f"blank {k + 1}"
    return name if ems(name) * 12 <= room else str(k + 1)


def in_words(d):
    """Return the alternative text."""
    part_a, part_b = " ".join(d.tokens[: d.part_a_len]), " ".join(d.tokens[d.part_a_len :])
    one, two = (" ".join(map(str, ids)) for ids in (d.position_ids, d.block_position_ids))
    return (
        f"How GLM learns from a sentence, as an animation. The sentence: {' '.join(d.text)}. "
        f"Part A, with one {MASK_NAMES[d.objective]} for each blank: {part_a}. "
        f"Part B, the blanked words: {part_b}. It learns: {' '.join(filter(None, d.targets))}. "
        f"Position 1: {one}. Position 2: {two}. {int(d.mask.sum())} of {d.mask.size} cells of the mask are "
        "open: Part A sees Part A; Part B sees Part A and its own past."
    )
