"""The standard streams: closed, full, or too narrow for what is to be said.

A daemon or a cron wrapper may start a process without stdout or stderr; a terminal may know ASCII alone. None
of this is a reason to lose a training run or a result.
"""

import codecs
import contextlib
import os
import sys


@contextlib.contextmanager
def usable_streams():
    """Within the block, stdout and stderr take whatever is printed.

    A closed one swallows it. Characters that the encoding lacks are written as JSON writes them, so lines of
    JSON stay valid: U+8D77 as \\u8d77 in six characters of ASCII. An encoding with its own way
    (PYTHONIOENCODING=ascii:replace) keeps it.
    """
    open_closed()
    changed = [
        (s, s.errors)
        for s in (sys.stdout, sys.stderr)
        if getattr(s, "errors", None) in ("strict", "surrogateescape") and hasattr(s, "reconfigure")
    ]
    for stream, _ in changed:
        stream.reconfigure(errors="minglm.json")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                give_up(stream)
        for stream, errors in changed:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def open_closed():
    """Put a stream that leads nowhere in the place of one that is closed: Python has None there."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _fill_descriptors():
    """Occupy 0, 1 and 2, or the next file that is opened would get one, and what C code prints with it."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)


def give_up(stream):
    """What is left in a stream that cannot be written (its reader has left, its disk is full) is dropped, at exit too."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)


def say(text):
    """One line on stderr; where that cannot be written, nothing."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)


def _as_json(error):
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


codecs.register_error("minglm.json", _as_json)
