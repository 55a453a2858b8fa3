"""How the user is told: the exception that carries one line, and the line that is no error."""

from .streams import say


class MinglmError(ValueError):
    """Something that the user gave cannot be used; the message is one line that names it and what is accepted.

    The command line prints it without a traceback and exits with code 2.
    """


def note(text):
    """One line on stderr: something that is no error, but that the user may want to know."""
    say(f"minglm: note: {text}")
