"""The exception for users' mistakes."""


class UserError(Exception):
    """A user's mistake; the message says what is wrong, where, and what to do.

    The command line prints only the message, without a stack trace, and exits with status 1.
    """
