"""The one exception that carries a message for the user."""


class MinglmError(ValueError):
    """Something that the user gave cannot be used; the message is one line that names it and what is accepted.

    The command line prints it without a traceback and exits with code 2.
    """
