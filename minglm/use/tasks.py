"""A task: how a row becomes a text with one blank, and what is to stand there. The files beside are tasks, of two kinds.

Cloze        pattern      "{text} It was [MASK]."            Part A   [CLS] A fine film. It was [MASK] . <eos>
             verbalizer   positive: good, negative: bad      answers  " good", " bad"
TextToText   pattern      "{src} [gMASK]"                    Part A   [CLS] He saith unto them. [gMASK]
             target       tgt: the column with the answer    answer   " He says to them."
"""

import difflib
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

from ..errors import MinglmError
from .questions import Pair, Question, _is_text, _shortened

MASK, BLANK = "[MASK]", "[BLANK]"
OBJECTIVES = {"[gMASK]": "document", "[sMASK]": "sentence", MASK: "token"}  # what a mask was pretrained for
METRICS = ("accuracy", "macro_f1")
DIALS = (
    "beams",
    "length_penalty",
    "no_repeat_ngram",
    "min_tokens",
    "max_tokens",
)  # that a text-to-text task may set
TASK = "task.toml"  # in the folder of a fine-tuned model


@dataclass(frozen=True)
class Task:
    """What both kinds of tasks share: a pattern with {column} for the columns of a row, and one mask.

    shorten: {column: "start" or "end"}, where it loses tokens when a text is too long; empty: every column,
    at its end.
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
        fine = isinstance(self.shorten, Mapping) and all(
            side in ("start", "end") for side in self.shorten.values()
        )
        self._need(fine, "shorten", '{column = "start"} or {column = "end"} is')
        for column in self.shorten:
            self._need(
                column in self.columns, "shorten", f"a column of the pattern is ({', '.join(self.columns)})"
            )

    def _need(self, fine, name, accepted):
        if not fine:
            raise MinglmError(f"{name}: {reprlib.repr(getattr(self, name))} is not accepted; {accepted}")

    @cached_property
    def _parsed(self):
        """[(text, column after it or None, format, conversion)]: what Python's own format strings are made of."""
        try:
            return list(Formatter().parse(self.pattern))
        except ValueError as error:
            raise MinglmError(
                f"pattern: {reprlib.repr(self.pattern)} is not accepted ({error}); {{column}} is"
            ) from None

    @property
    def columns(self):
        """The columns that the pattern names."""
        return list(dict.fromkeys(column for _, column, *_ in self._parsed if column is not None))

    @property
    def labels(self):
        """The labels that compete for the blank; none where none do."""
        return []

    @cached_property
    def _masks(self):
        """The masks that stand in the pattern itself."""
        return [
            mask
            for text, *_ in self._parsed
            for mask in re.findall("|".join(map(re.escape, self.MASKS)), text)
        ]

    def _pieces(self, row):
        """The text of a row: [(words, column or None)], and None for the blank."""
        found = []
        if (
            not self._masks
            and (blanks := sum(row[column].count(BLANK) for _, column, *_ in self._parsed if column)) != 1
        ):
            raise MinglmError(
                f"{blanks} times {BLANK} in {' and '.join(self.columns)}; the pattern has no {MASK}, so exactly "
                "one is needed there"
            )
        for text, column, *_ in self._parsed:
            for words, source in ((text, None), (row[column] if column else "", column)):
                before, mark, after = words.partition(
                    self._masks[0] if self._masks and source is None else BLANK
                )
                if mark and (source is None) == bool(self._masks):
                    found += [(before, source), None, (after, source)]
                else:
                    found.append((words, source))
        return found

    def _check_columns(self, row, more):
        for column in (*self.columns, *more):
            if column not in row:
                names = ", ".join(map(repr, list(row)[:12])) or "none"
                raise MinglmError(
                    f"no column {column!r}; the columns there are: {names if len(names) < 200 else names[:200]}"
                )
            if column in self.columns and not isinstance(row[column], str):
                raise MinglmError(f"{column}: {reprlib.repr(row[column])} is not accepted; a text is")

    def _part_a(self, tokenizer, row, limit):
        """(Part A, its mask's position, whether the mask took a blank on its left, tokens that were cut) of a row."""
        special, shorten = tokenizer.special, self.shorten or dict.fromkeys(self.columns, "end")
        mask = special.mask_of(OBJECTIVES[self._masks[0]] if self._masks else "token")
        ids, sides, blank, space = [[special.cls]], [None], 0, ""
        for piece in self._pieces(row):
            if piece is None:
                # subtle: where the pattern holds the mask, its answers must be the same for every row
                spaced = bool(
                    re.search(rf"\s{re.escape(self._masks[0])}", self.pattern) if self._masks else space
                )
                blank, space = len(ids), ""
                ids.append([mask])
                sides.append(None)
            else:
                words, column = space + piece[0], piece[1]
                space = words[
                    len(words.rstrip()) :
                ]  # white space goes with what follows, as in the tokenizer
                ids.append(tokenizer.encode(words.rstrip()))
                sides.append(shorten.get(column))
        runs_on = mask == special.gmask != special.mask and not any(
            ids[blank + 1 :]
        )  # as in `generate.Draft`
        ids.append([] if runs_on else [special.eos])  # a whole document, as the original's
        sides.append(None)
        kept = _shortened([len(piece) for piece in ids], [i for i, side in enumerate(sides) if side], limit)
        cut = sum(map(len, ids)) - sum(kept)
        ids = [
            x[len(x) - n :] if side == "start" else x[:n] for x, n, side in zip(ids, kept, sides, strict=True)
        ]
        return [token for piece in ids for token in piece], sum(map(len, ids[:blank])), spaced, cut

    def to_toml(self):
        """The task as TOML that `read_task` reads back to an equal one."""

        def value(x):  # JSON's texts and numbers are TOML's, but for DEL
            return json.dumps(x, ensure_ascii=False).replace("\x7f", "\\u007f")

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lines = [f"{name} = {value(x)}" for name, x in values.items() if not isinstance(x, Mapping)]
        for name, table in values.items():
            if isinstance(table, Mapping) and table:
                lines += ["", f"[{name}]", *(f"{value(key)} = {value(x)}" for key, x in table.items())]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Cloze(Task):
    """A choice: how a row becomes a text with one blank, and which words stand for which label.

    pattern: text with {column} for the columns of a row, and one [MASK]; without it, one of the columns holds
    [BLANK]. verbalizer: {label: words}, or the name of the column with each row's candidates (which are the
    labels then). Raises MinglmError for anything else.

    Example: Cloze("{text} It was [MASK].", {"positive": "good", "negative": "bad"})
    """

    pattern: str
    verbalizer: Mapping | str
    label: str = "label"  # the column with the right answer
    metric: str = "accuracy"  # what early stopping watches
    length_penalty: float = (
        0.0  # p divides an answer's log-probability by its tokens ** p, eop counted; 0 as the original
    )

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
                if twin := [
                    other for other in words if other != label and words[other].strip() == word.strip()
                ]:
                    raise MinglmError(
                        f"verbalizer: {label} and {twin[0]} have the same words, {word!r}; their own are needed"
                    )
        else:
            need(
                _is_text(words),
                "verbalizer",
                "a table of labels and words is, or the column of each row's candidates",
            )
        need(self.metric in METRICS, "metric", " or ".join(METRICS) + " is")
        need(
            self.labels or self.metric == "accuracy",
            "metric",
            "accuracy is, where each row brings its candidates",
        )
        p = self.length_penalty
        fine = isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p <= 10
        need(fine, "length_penalty", "a number from 0 to 10 is")

    @property
    def labels(self):
        """The labels; none where every row brings its own candidates."""
        return list(self.verbalizer) if isinstance(self.verbalizer, Mapping) else []

    def ask(self, tokenizer, row, limit, labelled=False, encode=None):
        """The Question that a row is, in at most `limit` tokens. encode: the tokenizer's, with a memory for answers.

        Raises MinglmError when a column is missing or no text, a label unknown (or missing, if `labelled`),
        or the text too long although all that may be shortened is gone.
        """
        encode = encode or tokenizer.encode
        self._check_columns(
            row, [*([] if self.labels else [self.verbalizer]), *([self.label] if labelled else [])]
        )
        part_a, position, spaced, cut = self._part_a(tokenizer, row, limit)
        labels = self.labels or self._candidates(row)
        words = [self.verbalizer[label] if self.labels else label for label in labels]
        answers = [encode(" " * (spaced and not word[0].isspace()) + word) for word in words]
        for label, answer in zip(labels, answers, strict=True):
            if len(answer) >= limit:
                raise MinglmError(
                    f"{label[:40]}: {len(answer)} tokens; at most {limit - 1} are accepted as an answer"
                )
        # subtle: the same for all rows of a task, so that what a text is asked with never changes how it is
        # scored
        whole = not (self.labels and self._masks) or any(len(answer) > 1 for answer in answers)
        gold = self._gold(row, labels, labelled)
        return Question(part_a, position, labels, answers, whole, gold, cut, tokenizer.special)

    def _candidates(self, row):
        found = row[self.verbalizer]
        if (
            not isinstance(found, list)
            or len(found) < 2
            or not all(map(_is_text, found))
            or len(set(found)) < len(found)
        ):
            raise MinglmError(
                f"{self.verbalizer}: {reprlib.repr(found)} is not accepted; a list of two or more texts is, "
                "all different"
            )
        return found

    def _gold(self, row, labels, labelled):
        value = row.get(self.label)
        value = (
            str(value)
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e9
            else value
        )
        if isinstance(value, str) and value in labels:
            return labels.index(value)
        if labelled:
            near = difflib.get_close_matches(str(value)[:80], labels, 1)
            rest = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(labels)}"
            raise MinglmError(
                f"{self.label}: {reprlib.repr(row[self.label])} is no label of this task; {rest}"
            )
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
            f", divided by their number ** {self.length_penalty}" if self.length_penalty else ""
        )


@dataclass(frozen=True)
class TextToText(Task):
    """Text to text: a row's columns become Part A, and what is written in its one blank is the answer.

    pattern: text with {column}, and one of [gMASK], [sMASK], [MASK]. Last, a [gMASK] runs on as in `minglm
    write`; first, it is the original's way to summarise. target: the column with the answer. dials: how an
    answer is written unless one says otherwise, fields of `generate.Dials`, e.g. {"beams": 5}. Raises
    MinglmError for anything else.

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
            whole = name != "length_penalty"
            if (
                isinstance(value, bool)
                or not isinstance(value, int if whole else int | float)
                or not abs(value) < 1e9
            ):
                raise MinglmError(
                    f"dials: {name}: {reprlib.repr(value)} is not accepted; a {'whole ' * whole}number is"
                )
        from .drafts import Dials  # here: the names of tasks, in --help, shall not cost an import of torch

        Dials(**self.dials)

    def ask(self, tokenizer, row, limit, labelled=False, encode=None):
        """The Pair that a row is: Part A in at most `limit` tokens, and (if `labelled`) what is to be written.

        Raises MinglmError when a column is missing or no text, the target empty, or the text too long
        although all that may be shortened is gone.
        """
        self._check_columns(row, [self.target] if labelled else [])
        part_a, position, spaced, cut = self._part_a(tokenizer, row, limit)
        special, targets, cut_target = tokenizer.special, None, 0
        if labelled:
            words = row[self.target]
            if not _is_text(words):
                raise MinglmError(
                    f"{self.target}: {reprlib.repr(words)} is not accepted; a text is, and not an empty one"
                )
            whole = [*tokenizer.encode(" " * spaced + words.strip()), special.eop]
            # subtle: the rows of Part B have block positions 1 .. limit. Nothing tells a target that is cut
            # that it ends here
            targets, cut_target = whole[:limit], max(0, len(whole) - limit)
        return Pair(part_a, position, targets, cut, cut_target, OBJECTIVES[self._masks[0]], special)


# ---- tasks in files --------------------------------------------------------------------------------------


@cache
def shipped_tasks(kind=None):
    """The tasks that come with minglm, by name: {name: file}; of one kind (Cloze or TextToText) only, if asked for."""
    paths = sorted((Path(__file__).parents[1] / "tasks").glob("*.toml"))
    return {
        p.stem: p for p in paths if kind in (None, _kind_of(tomllib.loads(p.read_text(encoding="utf-8"))))
    }


def _kind_of(values):
    """What kind of task a table describes: `target` belongs to text to text."""
    return TextToText if "target" in values else Cloze


def read_task(name, kind=None):
    """A Cloze or TextToText from a TOML file, from the folder of a fine-tuned model, or by the name of a shipped task.

    Raises MinglmError for an unknown name or key (it tells the nearest), for a file that is no task, and for
    a task of another kind than asked for.
    """
    path, shipped = Path(name), shipped_tasks(kind)
    if str(name) in shipped_tasks():
        path = shipped_tasks()[str(name)]
    elif (path / TASK).is_file():
        path = path / TASK
    elif path.suffix != ".toml":
        near = difflib.get_close_matches(str(name), shipped, 1)
        rest = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(shipped)}, or a TOML file"
        raise MinglmError(f"unknown task {reprlib.repr(str(name))}; {rest}")
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
        found = _kind_of(values)
        known, needed = (
            [f.name for f in fields(found)],
            ("pattern", "target" if found is TextToText else "verbalizer"),
        )
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, [*known, "target"], 1)
                raise MinglmError(
                    f"unknown key {reprlib.repr(key)}; "
                    + (f"did you mean {near[0]}?" if near else f"accepted: {', '.join(known)}")
                )
        for key in needed:
            if key not in values:
                raise MinglmError(
                    f"no {key}; a task needs pattern and verbalizer, or pattern and target for text to text"
                )
        if kind not in (None, found):
            raise MinglmError(
                "a task of text to text; minglm rewrite serves it"
                if found is TextToText
                else "a task that chooses among labels; minglm classify serves it"
            )
        return found(**{"name": path.stem} | values)
    except OSError as error:
        raise MinglmError(f"{path}: {error.strerror}; a TOML file with a task is accepted") from None
    except MinglmError as error:
        raise MinglmError(f"{path}: {error}") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # TOMLDecodeError, not utf-8, a whole number of 5,000 digits
        raise MinglmError(f"{path}: not TOML: {error}") from None
