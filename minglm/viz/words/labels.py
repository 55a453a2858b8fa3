"""The words of pictures in another language: a table of labels, and how a label is looked up in it."""

import re

WORD = re.compile(r"[^\W\d_]{2,}")  # one letter, as in x1 or Q, is a name
FIELD = re.compile(r"\{(\w*)(\.\.\.)?\}")
ANY = r"(?!\s).*?(?<!\s)"  # spaces around belong to the label
TOUCH = re.compile(  # Chinese stands apart from Latin letters and digits, not from itself
    r"(?<=[a-zA-Z0-9%])(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])(?=[a-zA-Z0-9])|"
    r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])"
)
ASIDE = re.compile(r"\$[^$]+\$|\[s?g?[A-Z]+\]|[\u2e80-\u9fff]+")  # formulas, special tokens, Chinese


class Labels:
    """Labels in English and in another language.

    tables: dicts {English: other}. `{}` in both stands for any words, which are looked up, too; `{...}` for a
    quotation, which stays. With names, {a} and {b}, the order may change. A label that is the same in both
    languages stays, and so do its words in other labels. Of several sentences, each is looked up. Earlier
    tables come first.
    """

    def __init__(self, *tables):
        self.tables = tables
        self.whole, self.patterns, self.stay, self.known = {}, [], set(), {}
        for english, other in (pair for table in tables for pair in table.items()):
            if FIELD.search(english):
                self.patterns.append(pattern(english, other))
            else:
                self.whole.setdefault(english, other)
            if english == other:
                self.stay |= set(WORD.findall(english))
        self.patterns.sort(key=lambda it: -len("".join(it[0])))  # the one that says most comes first

    def with_first(self, table):
        """Return these Labels with a table before them."""
        return Labels(table, *self.tables)

    def __call__(self, text):
        """Return a text in the other language; what has no translation stays."""
        return self.look_up(text)[0]

    def unknown(self, text):
        """Return the pieces of a text that have words but no translation."""
        return self.look_up(text)[1]

    def look_up(self, text):
        """Return (the text in the other language, its pieces without a translation)."""
        if text not in self.known:  # subtle: without this, many sentences would take exponential time
            self.known[text] = self.looked_up(text)
        return self.known[text]

    def looked_up(self, text):
        if text in self.whole:
            return self.whole[text], []
        for end in re.finditer(r"(?<=[.!?]) ", text):
            first = self.look_up(text[: end.start()])
            if not first[1] and not (rest := self.look_up(text[end.end() :]))[1]:
                return f"{first[0]}{' ' * first[0].isascii()}{rest[0]}", []
        best = None
        for literals, english, other, quoted in self.patterns:
            if not all(part in text for part in literals) or not (found := english.fullmatch(text)):
                continue
            said, unknown = {}, []
            for name, piece in found.groupdict().items():
                words, missing = (piece, []) if name in quoted else self.look_up(piece)
                said[name], unknown = words, unknown + missing
            joined = TOUCH.sub(lambda found: "" if found[0] else " ", other.format(**said))
            result = joined, unknown
            if not unknown:
                return result
            best = best or result
        if best:
            return best
        words = set(WORD.findall(ASIDE.sub(" ", text)))
        return text, [text] if words - self.stay else []


def pattern(english, other):
    """Return (the words between the fields, the expression, the other text, names of quotations)."""
    parts, quoted, end, n = [], set(), 0, 0
    for field in FIELD.finditer(english):
        name, n = f"_{field[1] or n}", n + (not field[1])
        again = f"(?P<{name}>" in "".join(parts)
        words = ".*?" if field[1] and field[2] else ANY  # a token may be a blank
        parts += [
            re.escape(english[end : field.start()]),
            f"(?P={name})" if again else f"(?P<{name}>{words})",
        ]
        quoted |= {name} if field[2] else set()
        end = field.end()
    parts.append(re.escape(english[end:]))
    count = iter(range(n))
    other = FIELD.sub(lambda field: f"{{_{field[1] or next(count)}}}", other)
    return FIELD.sub("\0", english).split("\0"), re.compile("".join(parts), re.DOTALL), other, quoted


def parse(text):
    r"""Return {English: other} of lines `English = other`; \n is a new line, # begins a comment.

    " = " may also be inside of both, equally often: `A = {} = A = {}`. Raises ValueError with the line.
    """
    table = {}
    for line in text.splitlines():
        parts = line.strip().split(" = ")
        if not line.strip() or line.startswith("#"):
            continue
        if len(parts) % 2:
            raise ValueError(f"{line!r}: a line is `English = its translation`")
        half = len(parts) // 2
        english, other = (" = ".join(part).replace("\\n", "\n") for part in (parts[:half], parts[half:]))
        table[english] = other
    return table


def pairs(here, there):
    """Return {English: other} for all strings at the same place of two tables of words."""
    if isinstance(here, str):
        return {here: there} if here != there else {}
    items = here.items() if isinstance(here, dict) else enumerate(here)
    found = {}
    for key, value in items:
        if isinstance(value, str | dict | list | tuple) and (isinstance(key, int) or key in there):
            found = pairs(value, there[key]) | found
    return found
