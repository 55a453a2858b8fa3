"""A task: how a row becomes a text with one blank, and which words stand for which label. The files beside are tasks.

    pattern      "{text} It was [MASK]."            Part A   [CLS] A fine film. It was [MASK] . <eos>
    verbalizer   positive: good, negative: bad      answers  " good", " bad"
"""

import difflib
import json
import re
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from string import Formatter

import numpy as np

from ..errors import MinglmError, note
from ..generate import rows_of
from ..infilling import Example, SpecialTokens

MASK, BLANK = "[MASK]", "[BLANK]"
METRICS = ("accuracy", "macro_f1")
TASK = "task.toml"  # in the folder of a fine-tuned model


@dataclass(frozen=True)
class Cloze:
    """A task: how a row becomes a text with one blank, and which words stand for which label.

    pattern: text with {column} for the columns of a row, and one [MASK]; without it, one of the columns holds [BLANK].
    verbalizer: {label: words}, or the name of the column with each row's candidates (which are the labels then).
    Raises MinglmError for anything else.

    Example: Cloze("{text} It was [MASK].", {"positive": "good", "negative": "bad"})
    """

    pattern: str
    verbalizer: Mapping | str
    label: str = "label"  # the column with the right answer
    metric: str = "accuracy"  # what early stopping watches
    # column: "start" or "end", where it loses tokens when a text is too long; empty: every column, at its end
    shorten: Mapping = field(default_factory=dict)
    length_penalty: float = 0.0  # p divides an answer's log-probability by its tokens ** p, eop counted; 0 as the original
    name: str = "task"

    def __post_init__(self):
        def need(fine, name, accepted):
            if not fine:
                raise MinglmError(f"{name}: {reprlib.repr(getattr(self, name))} is not accepted; {accepted}")

        for name in ("pattern", "label", "name"):
            need(_is_text(getattr(self, name)), name, "a text is")
        need(all(not spec and not how for *_, spec, how in self._parsed), "pattern", "{column} is, and nothing more in braces")
        need(self.columns and all(self.columns), "pattern", "a text with a {column} is")
        need(self._masks <= 1, "pattern", f"one {MASK} is")
        words = self.verbalizer
        if isinstance(words, Mapping):
            fine = len(words) > 1 and all(_is_text(x) for item in words.items() for x in item)
            need(fine, "verbalizer", "two or more labels with words for each are")
            for label, word in words.items():
                if twin := [other for other in words if other != label and words[other].strip() == word.strip()]:
                    raise MinglmError(f"verbalizer: {label} and {twin[0]} have the same words, {word!r}; their own are needed")
        else:
            need(_is_text(words), "verbalizer", "a table of labels and words is, or the column of each row's candidates")
        need(self.metric in METRICS, "metric", " or ".join(METRICS) + " is")
        need(self.labels or self.metric == "accuracy", "metric", "accuracy is, where each row brings its candidates")
        fine = isinstance(self.shorten, Mapping) and all(side in ("start", "end") for side in self.shorten.values())
        need(fine, "shorten", '{column = "start"} or {column = "end"} is')
        for column in self.shorten:
            need(column in self.columns, "shorten", f"a column of the pattern is ({', '.join(self.columns)})")
        p = self.length_penalty
        fine = isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 10
        need(fine, "length_penalty", "a number from 0 to 10 is")

    @cached_property
    def _parsed(self):
        """[(text, column after it or None, format, conversion)]: what Python's own format strings are made of."""
        try:
            return list(Formatter().parse(self.pattern))
        except ValueError as error:
            raise MinglmError(f"pattern: {reprlib.repr(self.pattern)} is not accepted ({error}); {{column}} is") from None

    @property
    def columns(self):
        """The columns that the pattern names."""
        return list(dict.fromkeys(column for _, column, *_ in self._parsed if column is not None))

    @property
    def labels(self):
        """The labels; none where every row brings its own candidates."""
        return list(self.verbalizer) if isinstance(self.verbalizer, Mapping) else []

    @property
    def _masks(self):
        return sum(text.count(MASK) for text, *_ in self._parsed)

    def _pieces(self, row):
        """The text of a row: [(words, column or None)], and None for the blank."""
        found = []
        if not self._masks and (blanks := sum(row[column].count(BLANK) for _, column, *_ in self._parsed if column)) != 1:
            raise MinglmError(f"{blanks} times {BLANK} in {' and '.join(self.columns)}; the pattern has no {MASK}, so exactly "
                              "one is needed there")  # fmt: skip
        for text, column, *_ in self._parsed:
            for words, source in ((text, None), (row[column] if column else "", column)):
                before, mark, after = words.partition(MASK if self._masks and source is None else BLANK)
                if mark and (source is None) == bool(self._masks):
                    found += [(before, source), None, (after, source)]
                else:
                    found.append((words, source))
        return found

    def ask(self, tokenizer, row, limit, labelled=False, encode=None):
        """The Question that a row is, in at most `limit` tokens. encode: the tokenizer's, with a memory for answers.

        Raises MinglmError when a column is missing or no text, a label unknown (or missing, if `labelled`), or the text too
        long although all that may be shortened is gone.
        """
        encode = encode or tokenizer.encode
        for column in (*self.columns, *([] if self.labels else [self.verbalizer]), *([self.label] if labelled else [])):
            if column not in row:
                names = ", ".join(map(repr, list(row)[:12])) or "none"
                raise MinglmError(f"no column {column!r}; the columns there are: {names if len(names) < 200 else names[:200]}")
            if column in self.columns and not isinstance(row[column], str):
                raise MinglmError(f"{column}: {reprlib.repr(row[column])} is not accepted; a text is")
        part_a, position, spaced, cut = self._part_a(tokenizer, row, limit)
        labels = self.labels or self._candidates(row)
        words = [self.verbalizer[label] if self.labels else label for label in labels]
        answers = [encode(" " * (spaced and not word[0].isspace()) + word) for word in words]
        for label, answer in zip(labels, answers, strict=True):
            if len(answer) >= limit:
                raise MinglmError(f"{label[:40]}: {len(answer)} tokens; at most {limit - 1} are accepted as an answer")
        # subtle: the same for all rows of a task, so that what a text is asked with never changes how it is scored
        whole = not (self.labels and self._masks) or any(len(answer) > 1 for answer in answers)
        gold = self._gold(row, labels, labelled)
        return Question(part_a, position, labels, answers, whole, gold, cut, tokenizer.special)

    def _part_a(self, tokenizer, row, limit):
        """(Part A, its mask's position, whether the mask took a blank on its left, tokens that were cut) of a row."""
        special, shorten = tokenizer.special, self.shorten or dict.fromkeys(self.columns, "end")
        ids, sides, blank, space = [[special.cls]], [None], 0, ""
        for piece in self._pieces(row):
            if piece is None:
                # subtle: where the pattern holds the mask, its answers must be the same for every row
                spaced = bool(re.search(r"\s\[MASK\]", self.pattern) if self._masks else space)
                blank, space = len(ids), ""
                ids.append([special.mask])
                sides.append(None)
            else:
                words, column = space + piece[0], piece[1]
                space = words[len(words.rstrip()) :]  # white space goes with what follows, as in the tokenizer
                ids.append(tokenizer.encode(words.rstrip()))
                sides.append(shorten.get(column))
        ids.append([special.eos])  # a whole document, as the original's
        sides.append(None)
        kept = _shortened([len(piece) for piece in ids], [i for i, side in enumerate(sides) if side], limit)
        cut = sum(map(len, ids)) - sum(kept)
        ids = [x[len(x) - n :] if side == "start" else x[:n] for x, n, side in zip(ids, kept, sides, strict=True)]
        return [token for piece in ids for token in piece], sum(map(len, ids[:blank])), spaced, cut

    def _candidates(self, row):
        found = row[self.verbalizer]
        if not isinstance(found, list) or len(found) < 2 or not all(map(_is_text, found)) or len(set(found)) < len(found):
            raise MinglmError(f"{self.verbalizer}: {reprlib.repr(found)} is not accepted; a list of two or more texts is, "
                              "all different")  # fmt: skip
        return found

    def _gold(self, row, labels, labelled):
        value = row.get(self.label)
        value = str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e9 else value
        if isinstance(value, str) and value in labels:
            return labels.index(value)
        if labelled:
            near = difflib.get_close_matches(str(value)[:80], labels, 1)
            rest = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(labels)}"
            raise MinglmError(f"{self.label}: {reprlib.repr(row[self.label])} is no label of this task; {rest}")
        return None

    def how_scored(self, tokenizer):
        """One sentence: what is compared, and which words the tokenizer splits."""
        if not self.labels:
            return "each candidate as a whole: log P of its tokens and of its end"
        split = {word: tokenizer.encode(f" {word.lstrip()}") for word in self.verbalizer.values()}
        split = [f"{word!r} into {len(ids)} tokens" for word, ids in split.items() if len(ids) > 1]
        if not split and self._masks:
            return "each label is one token: the row of sop compares them"
        cut = f"the tokenizer splits {', '.join(split)}, so " if split else ""
        return f"{cut}every label is scored as a whole: log P of its tokens and of its end" + (
            f", divided by their number ** {self.length_penalty}" if self.length_penalty else "")  # fmt: skip

    def to_toml(self):
        """The task as TOML that `read_task` reads back to an equal Cloze."""
        def value(x):  # JSON's texts and numbers are TOML's, but for DEL
            return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lines = [f"{name} = {value(x)}" for name, x in values.items() if not isinstance(x, Mapping)]
        for name, table in values.items():
            if isinstance(table, Mapping) and table:
                lines += ["", f"[{name}]", *(f"{value(key)} = {value(x)}" for key, x in table.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, eq=False)
class Question:
    """A row as the model reads it: Part A with its mask at `position`, and the tokens of each label's answer.

    whole: answers are scored to their end, else by their one token. gold: the right label's index, or None. cut: tokens
    that had to go.
    """

    part_a: list
    position: int
    labels: list
    answers: list
    whole: bool
    gold: int | None
    cut: int
    special: SpecialTokens

    @property
    def sop(self):
        return self.special.sop

    def example(self, answer):
        """Part A and one answer as a sample of training: an Example."""
        tokens, positions, block_positions = rows_of(self.sop, self.position, answer)
        A = len(self.part_a)
        return Example(
            tokens=np.array(self.part_a + tokens, dtype=np.int64),
            position_ids=np.array([*range(A), *positions], dtype=np.int64),
            block_position_ids=np.array([0] * A + [*block_positions], dtype=np.int64),
            targets=np.array([*answer, self.special.eop], dtype=np.int64),
            part_a_len=A, text_len=A + len(answer), objective="token", special=self.special,
        )  # fmt: skip


def _is_text(x):
    if not isinstance(x, str) or not x.strip():
        return False
    return not any("\ud800" <= c <= "\udfff" for c in x)


def _shortened(lens, may, limit):
    """How many tokens each piece keeps: one goes at a time, from the longest that `may` be shortened (of equals the last).

    Example: lens=[1, 5, 3], may=[1, 2], limit=6 -> [1, 3, 2].
    """
    lens, excess = list(lens), sum(lens) - limit
    for _ in range(excess):
        longest = max(may, key=lambda i: (lens[i], i), default=None)
        if longest is None or not lens[longest]:
            raise MinglmError(f"{sum(lens)} tokens are left that may not be shortened; this model reads {limit}")
        lens[longest] -= 1
    return lens


# ---- tasks in files --------------------------------------------------------------------------------------------------------


def shipped_tasks():
    """The tasks that come with minglm, by name: {name: file}."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.toml"))}


def read_task(name):
    """A Cloze from a TOML file, from the folder of a fine-tuned model, or by the name of a shipped task.

    Raises MinglmError for an unknown name or key (it tells the nearest), and for a file that is no task.
    """
    path, shipped = Path(name), shipped_tasks()
    if str(name) in shipped:
        path = shipped[str(name)]
    elif (path / TASK).is_file():
        path = path / TASK
    elif path.suffix != ".toml":
        near = difflib.get_close_matches(str(name), shipped, 1)
        rest = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(shipped)}, or a TOML file"
        raise MinglmError(f"unknown task {reprlib.repr(str(name))}; {rest}")
    known = [f.name for f in fields(Cloze)]
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                raise MinglmError(f"unknown key {reprlib.repr(key)}; "
                                  + (f"did you mean {near[0]}?" if near else f"accepted: {', '.join(known)}"))  # fmt: skip
        for key in ("pattern", "verbalizer"):
            if key not in values:
                raise MinglmError(f"no {key}; a task needs pattern and verbalizer")
        return Cloze(**{"name": path.stem} | values)
    except OSError as error:
        raise MinglmError(f"{path}: {error.strerror}; a TOML file with pattern and verbalizer is accepted") from None
    except MinglmError as error:
        raise MinglmError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, not utf-8, a whole number of 5,000 digits
        raise MinglmError(f"{path}: not TOML: {error}") from None


def ask_all(task, tokenizer, rows, limit, labelled=False):
    """The Question of each row, and a note that counts what had to be cut. rows: {where it stands: row}."""
    encode, questions = cache(tokenizer.encode), []
    for where, row in rows.items():
        try:
            questions.append(task.ask(tokenizer, row, limit, labelled, encode))
        except MinglmError as error:
            raise MinglmError(f"{where}: {error}") from None
    if cut := [question.cut for question in questions if question.cut]:
        note(f"{len(cut):,} of {len(questions):,} texts were too long for this model, which reads {limit} tokens: "
             f"{sum(cut):,} tokens were cut")  # fmt: skip
    return questions
