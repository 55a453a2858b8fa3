"""The reader's file: run as their own Python, with the line where it stopped, if it did."""

import ast
import contextlib
import io
import linecache
import re
import signal
import threading
import traceback
from pathlib import Path

from ..errors import MinglmError
from .words import tell, tell_again

SECONDS = 5  # of CPU time, so that a busy machine stops nobody


# what Python says, and what that often means
ADVICE = {
    "return_types": "`.max(-1)` returns values and places; `.amax(-1)` returns the values alone.",
    "only one element|to Python scalar": "math.exp or math.tanh takes one number; torch.tanh takes a tensor.",
    "Target -1 is out of bounds": "torch's cross_entropy has ignore_index=-1 for rows that learn nothing.",
    "must match the size|cannot be multiplied|must be equal|expanded size": (
        "The shapes do not fit. Look at them with print(a.shape, b.shape) above that line."
    ),
    "expected sequence of length|to be equal size": "A tensor is a rectangle: pad to the same T.",
    "NoneType": "Something is None here: did a function forget its `return`?",
    "unhashable type: 'list'": "A list cannot be a key of a dict; a number, a string or a tuple can.",
    "can only concatenate": "`+` joins a list with a list: [word], not word.",
    "list indices must be integers": "An index is a whole number: is it a pair (start, end), or a word?",
    "out of range|out of bounds": "Lists count from 0, so the last entry is number len - 1.",
    "dtype|same type|Float but found|scalar type": "The tensors have different dtypes: make them alike.",
}
TRANSPOSE = "`.T` is for matrices; `.transpose(-1, -2)` swaps the last two of any number of dimensions."


class Stopped(Exception):
    """The reader's code raised or ran too long. lines: what to tell them."""

    def __init__(self, lines):
        super().__init__("\n".join(lines))
        self.lines = lines


class TooLong(BaseException):
    """Raised in the reader's code when its time is over; no `except Exception` of theirs catches it."""


class Reader:
    """The reader's file. Raises MinglmError if it cannot be read or run at all.

    names: its global names. tree: its syntax. says: what its last call printed.
    """

    def __init__(self, path):
        self.path, self.says = str(path), ""
        try:
            self.text = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            why = tell("this is not a text file in UTF-8; `minglm course start` writes one")
            raise MinglmError(f"{path}: {why}") from None
        except FileNotFoundError as error:
            said = tell("{why}; `minglm course start` writes one", why=tell_again(error.strerror))
            raise MinglmError(f"{path}: {said}") from None
        except OSError as error:
            raise MinglmError(f"{path}: {tell_again(error.strerror)}") from None
        try:
            self.tree = ast.parse(self.text, self.path)
        except (SyntaxError, ValueError) as error:
            raise MinglmError(self._syntax(error)) from None
        self.names = {"__name__": "puzzles", "__file__": self.path}
        # so that tracebacks show the lines that were run, even if the file changes meanwhile
        linecache.cache[self.path] = (len(self.text), None, self.text.splitlines(True), self.path)
        try:
            self.call(exec, compile(self.tree, self.path, "exec"), self.names)
        except Stopped as stopped:
            lines = " | ".join(stopped.lines)
            raise MinglmError(
                tell("{path}: it stops while it is read: {lines}", path=path, lines=lines)
            ) from None

    def _syntax(self, error):
        line = getattr(error, "text", None)
        shown = f": {line.strip()}" if line and line.strip() else ""
        said = f"{getattr(error, 'msg', error)}{shown}"
        return tell("{path}, line {n}: {what}", path=self.path, n=getattr(error, "lineno", "?"), what=said)

    def call(self, function, *args):
        """Call one of the reader's functions. Raises Stopped with the line where it stopped."""
        printed = io.StringIO()
        try:
            with limit(SECONDS), contextlib.redirect_stdout(printed):
                return function(*args)
        except KeyboardInterrupt:
            raise
        except TooLong as error:
            said = tell("It was stopped after {n} seconds: does this loop ever end?", n=SECONDS)
            raise Stopped([said, *self._where(error)]) from None
        except SystemExit as error:
            said = tell("It ends the program: exit() and quit() are not needed.")
            raise Stopped([said, *self._where(error)]) from None
        except Exception as error:
            raise Stopped(self._raised(error, function)) from None
        finally:
            self.says = printed.getvalue()

    def run(self, function, *args):
        """As `call`, but without a time limit, and what it prints is shown."""
        try:
            return function(*args)
        except (Exception, SystemExit) as error:
            raise Stopped(self._raised(error, function)) from None

    def _where(self, error):
        """The lines of the reader's file that an exception passed, at most the last three."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == self.path]
        return [f"{tell('line {n}:  ', n=frame.lineno)}{frame.line}" for frame in frames[-3:]]

    def _raised(self, error, function):
        where, what = self._where(error), traceback.format_exception_only(error)[-1].strip()
        if not where and isinstance(error, TypeError) and "argument" in what:
            said = "The arguments in its `def` line were changed; it needs those that it came with."
            return [tell(said), what]
        advice = [tell(say) for pattern, say in ADVICE.items() if re.search(pattern, what)][:1]
        if ".T" in "".join(where) and not isinstance(error, NameError):
            advice = [tell(TRANSPOSE)]
        return [*where, what, *([""] + advice if advice else [])]

    def line_of(self, name):
        """The line where a function begins, or None."""
        nodes = [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        return nodes[-1].lineno if nodes else None

    def is_written(self, name):
        """Whether a function has a body other than its description and `...`."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return any(not _is_empty(statement) for statement in node.body)
        return name in self.names


def _is_empty(statement):
    """Whether a statement is a description, `...`, `pass` or `raise NotImplementedError`."""
    return (
        isinstance(statement, ast.Pass)
        or isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        or isinstance(statement, ast.Raise)
        and "NotImplementedError" in ast.dump(statement)
    )


@contextlib.contextmanager
def limit(seconds):
    """Raise TooLong in the block after some seconds, where the system and the thread can do that."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
