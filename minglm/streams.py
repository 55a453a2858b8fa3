"""Standard streams that are closed, full, or limited to ASCII.

A daemon or a cron job may run without stdout or stderr, and a terminal may know only ASCII. A training run or
a result must not be lost because of that.
"""

import codecs
import contextlib
import os
import sys


@contextlib.contextmanager
def usable_streams():
    """Within the block, stdout and stderr accept whatever is printed.

    A closed stream drops it. Characters that the encoding lacks are escaped as in JSON, so that lines of JSON
    stay valid: U+8D77 becomes \\u8d77. An explicit error handler (PYTHONIOENCODING=ascii:replace) is kept.
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
    """Replace a closed stream (None in Python) by one that drops everything."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_descriptors()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _fill_descriptors():
    """Occupy descriptors 0, 1 and 2; else the next opened file gets one, and with it the output of C code."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)


def give_up(stream):
    """Drop the buffer of a stream that cannot be written (closed pipe, full disk), so exit does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, stream.fileno())
        os.close(handle)


def say(text):
    """Print one line on stderr, if it can be written."""
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
