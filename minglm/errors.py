"""Messages for the user: MinglmError (one line, exit code 2) and note() (one line on stderr)."""

import sys


class MinglmError(ValueError):
    """Something that the user gave cannot be used; the message is one line that names it and what is accepted.

    The command line prints it without a traceback and exits with code 2.
    """

    def __str__(self):
        """The message in one line, never an empty one."""
        return " ".join(super().__str__().splitlines()).strip() or reason(self.__cause__ or self)


def reason(error):
    """What an exception says, in one line: the system's words, its own first line, or its kind where it says nothing."""
    lines = [] if isinstance(error, MinglmError) else str(error).splitlines()
    said = getattr(error, "strerror", None) or next((line.strip() for line in lines if line.strip()), None)
    return said or f"{type(error).__name__} without a message"


def note(text):
    """One line on stderr: something that is no error, but that the user may want to know."""
    print(f"minglm: note: {text}", file=sys.stderr)
