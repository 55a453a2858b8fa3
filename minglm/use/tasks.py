"""A task: how a record becomes a text with one blank, and what belongs in it. There are two kinds.

Cloze        pattern      "{text} It was [MASK]."            Part A   [CLS] A fine film. It was [MASK] . <eos>
             verbalizer   positive: good, negative: bad      answers  " good", " bad"
TextToText   pattern      "{src} [gMASK]"                    Part A   [CLS] He saith unto them. [gMASK]
             target       tgt: the column with the answer    answer   " He says to them."
"""

import json
import re
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from string import Formatter
from typing import ClassVar

from ..errors import MinglmError, nearest, suggestion
from .questions import Pair, Question, _is_text, _shortened

MASK, BLANK = "[MASK]", "[BLANK]"
OBJECTIVES = {"[gMASK]": "document", "[sMASK]": "sentence", MASK: "token"}  # of pretraining, for each mask
METRICS = ("accuracy", "macro_f1")
# what a text-to-text task may set
DIALS = ("beams", "length_penalty", "no_repeat_ngram", "min_tokens", "max_tokens")
TASK = "task.toml"  # in the folder of a fine-tuned model


@dataclass(frozen=True)
class Task:
    """What both kinds of tasks share: a pattern with {column} for the columns of a record, and one mask.

    shorten: {column: "start" or "end"}: the columns that are cut when a text is too long, and at which side;
    empty: every column, at its end.
    """

    pattern: str
    _: KW_ONLY
    shorten: Mapping = field(default_factory=dict)
    name: str = "task"
    MASKS: ClassVar = (MASK,)  # the masks that a pattern may hold

    def __post_init__(self):
        for name in ("pattern", "name"):
            self._need(_is_text(getattr(self, name)), name, "a text is")
        plain = all(not spec and not how for *_, spec, how in self._parsed)
        self._need(plain, "pattern", "{column} is, and nothing more in braces")
        self._need(self.columns and all(self.columns), "pattern", "a text with a {column} is")
        sides = list(self.shorten.values()) if isinstance(self.shorten, Mapping) else [None]
        fine = all(side in ("start", "end") for side in sides)
        self._need(fine, "shorten", '{column = "start"} or {column = "end"} is')
        accepted = f"a column of the pattern is ({', '.join(self.columns)})"
        self._need(set(self.shorten) <= set(self.columns), "shorten", accepted)

    def _need(self, fine, name, accepted):
        """Raise MinglmError about the field `name` unless it is fine."""
        if not fine:
            raise MinglmError(f"{name}: {reprlib.repr(getattr(self, name))} is not accepted; {accepted}")

    @cached_property
    def _parsed(self):
        """The pattern, parsed as a format string: [(text, column after it or None, format, conversion)]."""
        try:
            return list(Formatter().parse(self.pattern))
        except ValueError as error:
            what = f"{reprlib.repr(self.pattern)} is not accepted ({error})"
            raise MinglmError(f"pattern: {what}; {{column}} is") from None

    @property
    def columns(self):
        """The columns that the pattern names."""
        return list(dict.fromkeys(column for _, column, *_ in self._parsed if column is not None))

    @property
    def labels(self):
        """The labels that compete for the blank, if any."""
        return []

    @cached_property
    def _masks(self):
        """The masks in the pattern itself."""
        any_mask = "|".join(map(re.escape, self.MASKS))
        return [mask for text, *_ in self._parsed for mask in re.findall(any_mask, text)]

    def _pieces(self, record):
        """The text of a record: [(words, column or None)], and None for the blank."""
        pieces, columns = [], [column for _, column, *_ in self._parsed if column]
        if not self._masks and (blanks := sum(record[column].count(BLANK) for column in columns)) != 1:
            what = f"{blanks} times {BLANK} in {' and '.join(self.columns)}"
            raise MinglmError(f"{what}; the pattern has no {MASK}, so exactly one is needed there")
        for text, column, *_ in self._parsed:
            for words, source in ((text, None), (record[column] if column else "", column)):
                mark = self._masks[0] if self._masks and source is None else BLANK
                before, mark, after = words.partition(mark)
                if mark and (source is None) == bool(self._masks):
                    pieces += [(before, source), None, (after, source)]
                else:
                    pieces.append((words, source))
        return pieces

    def _check_columns(self, record, more):
        for column in (*self.columns, *more):
            if column not in record:
                names = ", ".join(map(repr, list(record)[:12])) or "none"
                raise MinglmError(f"no column {column!r}; the columns there are: {names[:200]}")
            if column in self.columns and not isinstance(record[column], str):
                raise MinglmError(f"{column}: {reprlib.repr(record[column])} is not accepted; a text is")

    def _part_a(self, tokenizer, record, limit):
        """(Part A, its mask's position, whether the mask absorbed a space, number of tokens cut)."""
        special, shorten = tokenizer.special, self.shorten or dict.fromkeys(self.columns, "end")
        mask = special.mask_of(OBJECTIVES[self._masks[0]] if self._masks else "token")
        ids, sides, blank, space = [[special.cls]], [None], 0, ""
        for piece in self._pieces(record):
            if piece is None:
                spaced = bool(space)
                if self._masks:  # subtle: then the answers must be the same for every record
                    spaced = bool(re.search(rf"\s{re.escape(self._masks[0])}", self.pattern))
                blank, space = len(ids), ""
                ids.append([mask])
                sides.append(None)
            else:
                words, column = space + piece[0], piece[1]
                space = words[len(words.rstrip()) :]  # goes with what follows, as in the tokenizer
                ids.append(tokenizer.encode(words.rstrip()))
                sides.append(shorten.get(column))
        # as in `drafts.Draft`: a text that does not run on is a whole document
        runs_on = mask == special.gmask != special.mask and not any(ids[blank + 1 :])
        ids.append([] if runs_on else [special.eos])
        sides.append(None)
        lens = _shortened([len(piece) for piece in ids], [i for i, side in enumerate(sides) if side], limit)
        cut = sum(map(len, ids)) - sum(lens)
        for i, (n, side) in enumerate(zip(lens, sides, strict=True)):
            ids[i] = ids[i][len(ids[i]) - n :] if side == "start" else ids[i][:n]
        return [token for piece in ids for token in piece], sum(map(len, ids[:blank])), spaced, cut

    def to_toml(self):
        """The task as TOML that `read_task` reads back to an equal one."""

        def value(x):  # JSON's texts and numbers are valid TOML, except DEL
            return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lines = [f"{name} = {value(x)}" for name, x in values.items() if not isinstance(x, Mapping)]
        for name, table in values.items():
            if isinstance(table, Mapping) and table:
                lines += ["", f"[{name}]", *(f"{value(key)} = {value(x)}" for key, x in table.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Cloze(Task):
    """A choice among labels: how a record becomes a text with one blank, and the words of each label.

    pattern: text with {column} for the columns of a record, and one [MASK]; without it, one of the columns
    holds [BLANK]. verbalizer: {label: words}, or the name of a column with each record's own candidates,
    which are then the labels. Raises MinglmError for anything else.

    Example: Cloze("{text} It was [MASK].", {"positive": "good", "negative": "bad"})
    """

    pattern: str
    verbalizer: Mapping | str
    label: str = "label"  # the column with the right answer
    metric: str = "accuracy"  # what early stopping watches
    # p divides an answer's log-probability by its number of tokens (eop included) ** p; 0 as in the original
    length_penalty: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        need = self._need
        need(_is_text(self.label), "label", "a text is")
        need(len(self._masks) <= 1, "pattern", f"one {MASK} is")
        words = self.verbalizer
        if isinstance(words, Mapping):
            fine = len(words) > 1 and all(_is_text(x) for item in words.items() for x in item)
            need(fine, "verbalizer", "two or more labels with words for each are")
            for label, word in words.items():
                if twin := [x for x in words if x != label and words[x].strip() == word.strip()]:
                    what = f"{label} and {twin[0]} have the same words, {word!r}"
                    raise MinglmError(f"verbalizer: {what}; their own are needed")
        else:
            accepted = "a table of labels and words is, or the column of each row's candidates"
            need(_is_text(words), "verbalizer", accepted)
        need(self.metric in METRICS, "metric", " or ".join(METRICS) + " is")
        fine = self.labels or self.metric == "accuracy"
        need(fine, "metric", "accuracy is, where each row brings its candidates")
        p = self.length_penalty
        fine = isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 10
        need(fine, "length_penalty", "a number from 0 to 10 is")

    @property
    def labels(self):
        """The labels; an empty list if every record brings its own candidates."""
        return list(self.verbalizer) if isinstance(self.verbalizer, Mapping) else []

    def ask(self, tokenizer, record, limit, labelled=False, encode=None):
        """The Question of a record, with at most `limit` tokens. encode: tokenizer.encode, perhaps cached.

        Raises MinglmError when a column is missing or not a text, when the label is unknown (or missing, if
        `labelled`), and when the text is too long even after cutting all that may be cut.
        """
        encode = encode or tokenizer.encode
        more = [] if self.labels else [self.verbalizer]
        self._check_columns(record, [*more, self.label] if labelled else more)
        part_a, position, spaced, cut = self._part_a(tokenizer, record, limit)
        labels = self.labels or self._candidates(record)
        words = [self.verbalizer[label] if self.labels else label for label in labels]
        answers = [encode(" " * (spaced and not word[0].isspace()) + word) for word in words]
        for label, answer in zip(labels, answers, strict=True):
            if len(answer) >= limit:
                what = f"{len(answer)} tokens; at most {limit - 1} are accepted as an answer"
                raise MinglmError(f"{label[:40]}: {what}")
        # subtle: the same for all records of a task, so that records asked together do not change the scoring
        whole = not (self.labels and self._masks) or any(len(answer) > 1 for answer in answers)
        gold = self._gold(record, labels, labelled)
        return Question(part_a, position, labels, answers, whole, gold, cut, tokenizer.special)

    def _candidates(self, record):
        """A record's own candidates; raises MinglmError unless they are two or more texts, all different."""
        x = record[self.verbalizer]
        if not isinstance(x, list) or len(x) < 2 or not all(map(_is_text, x)) or len(set(x)) < len(x):
            what = f"{reprlib.repr(x)} is not accepted; a list of two or more texts is, all different"
            raise MinglmError(f"{self.verbalizer}: {what}")
        return x

    def _gold(self, record, labels, labelled):
        """The index of a record's label, or None if it has none; then, if `labelled`, raises MinglmError."""
        value = record.get(self.label)
        if type(value) is int and abs(value) < 1e9:
            value = str(value)
        if isinstance(value, str) and value in labels:
            return labels.index(value)
        if labelled:
            what = f"{reprlib.repr(record[self.label])} is no label of this task"
            raise MinglmError(f"{self.label}: {what}; {suggestion(nearest(value, labels), labels)}")
        return None

    def how_scored(self, tokenizer):
        """One sentence: what is compared, and which words the tokenizer splits."""
        if not self.labels:
            return "each candidate as a whole: log P of its tokens and of its end"
        split = {word: tokenizer.encode(f" {word.lstrip()}") for word in self.verbalizer.values()}
        split = [f"{word!r} into {len(ids)} tokens" for word, ids in split.items() if len(ids) > 1]
        if not split and self._masks:
            return "each label is one token: the row of sop compares them"
        why = f"the tokenizer splits {', '.join(split)}, so " if split else ""
        power = f", divided by their number ** {self.length_penalty}" if self.length_penalty else ""
        return f"{why}every label is scored as a whole: log P of its tokens and of its end{power}"


@dataclass(frozen=True)
class TextToText(Task):
    """Text to text: a record's columns become Part A, and the answer is written into its one blank.

    pattern: text with {column}, and one of [gMASK], [sMASK], [MASK]. A [gMASK] at the end runs on as in
    `minglm write`; at the beginning, it is how the original summarises. target: the column with the answer.
    dials: defaults for writing an answer, fields of `drafts.Dials`, e.g. {"beams": 5}. Raises MinglmError for
    anything else.

    Example: TextToText("{src} [gMASK]", "tgt")
    """

    target: str = "tgt"
    dials: Mapping = field(default_factory=dict)
    MASKS: ClassVar = tuple(OBJECTIVES)

    def __post_init__(self):
        super().__post_init__()
        need = self._need
        need(_is_text(self.target), "target", "the name of a column is")
        need(len(self._masks) == 1, "pattern", f"one of {', '.join(self.MASKS)} is")
        need(self.target not in self.columns, "target", "a column that the pattern does not show is")
        need(isinstance(self.dials, Mapping), "dials", "a table is")
        for name, value in self.dials.items():
            if name not in DIALS:
                raise MinglmError(f"dials: unknown key {reprlib.repr(name)}; accepted: {', '.join(DIALS)}")
            types, accepted = int, "a whole number"
            if name == "length_penalty":
                types, accepted = int | float, "a number"
            if isinstance(value, bool) or not isinstance(value, types) or not abs(value) < 1e9:
                what = f"{reprlib.repr(value)} is not accepted; {accepted} is"
                raise MinglmError(f"dials: {name}: {what}")
        from .drafts import Dials  # imported here, because --help lists tasks and must not import torch

        Dials(**self.dials)

    def ask(self, tokenizer, record, limit, labelled=False, encode=None):
        """The Pair of a record: Part A with at most `limit` tokens and, if `labelled`, the targets.

        Raises MinglmError when a column is missing or not a text, when the target is empty, and when the text
        is too long even after cutting all that may be cut.
        """
        self._check_columns(record, [self.target] if labelled else [])
        part_a, position, spaced, cut = self._part_a(tokenizer, record, limit)
        special, targets, cut_target = tokenizer.special, None, 0
        if labelled:
            words = record[self.target]
            if not _is_text(words):
                what = f"{reprlib.repr(words)} is not accepted; a text is, and not an empty one"
                raise MinglmError(f"{self.target}: {what}")
            whole = [*tokenizer.encode(" " * spaced + words.strip()), special.eop]
            # subtle: Part B has block positions 1 .. limit. A target that is cut does not learn an end
            targets, cut_target = whole[:limit], max(0, len(whole) - limit)
        return Pair(part_a, position, targets, cut, cut_target, OBJECTIVES[self._masks[0]], special)


# ---- tasks in files --------------------------------------------------------------------------------------


@cache
def shipped_tasks(kind=None):
    """The tasks that come with minglm as {name: file}; of one kind only (Cloze or TextToText) if given."""
    paths = sorted((Path(__file__).parents[1] / "tasks").glob("*.toml"))
    tasks = {path: tomllib.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {path.stem: path for path, values in tasks.items() if kind in (None, _kind_of(values))}


def _kind_of(values):
    """The kind of task that a table describes: only text to text has a `target`."""
    return TextToText if "target" in values else Cloze


def read_task(name, kind=None):
    """A Cloze or TextToText from a TOML file, a fine-tuned model's folder, or by the name of a shipped task.

    Raises MinglmError for an unknown name or key (with a suggestion), for a file that is not a task, and for
    a task of another kind than `kind`.
    """
    path, shipped = Path(name), shipped_tasks(kind)
    if str(name) in shipped_tasks():
        path = shipped_tasks()[str(name)]
    elif (path / TASK).is_file():
        path = path / TASK
    elif path.suffix != ".toml":
        rest = suggestion(nearest(name, shipped), [*shipped, "or a TOML file"])
        raise MinglmError(f"unknown task {reprlib.repr(str(name))}; {rest}")
    try:
        return _task_from(tomllib.loads(path.read_bytes().decode("utf-8-sig")), path.stem, kind)
    except OSError as error:
        raise MinglmError(f"{path}: {error.strerror}; a TOML file with a task is accepted") from None
    except MinglmError as error:
        raise MinglmError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, not utf-8, an integer of 5,000 digits
        raise MinglmError(f"{path}: not TOML: {error}") from None


def _task_from(values, name, wanted):
    """The task that a table describes; `wanted` is Cloze, TextToText or None for either."""
    kind = _kind_of(values)
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            rest = suggestion(nearest(key, [*known, "target"]), known)
            raise MinglmError(f"unknown key {reprlib.repr(key)}; {rest}")
    for key in ("pattern", "target" if kind is TextToText else "verbalizer"):
        if key not in values:
            needed = "a task needs pattern and verbalizer, or pattern and target for text to text"
            raise MinglmError(f"no {key}; {needed}")
    if wanted is not None and kind is not wanted:
        if kind is TextToText:
            raise MinglmError("a task of text to text; minglm rewrite serves it")
        raise MinglmError("a task that chooses among labels; minglm classify serves it")
    return kind(**{"name": name} | values)
