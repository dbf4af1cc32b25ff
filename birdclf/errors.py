"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """A mistake of the user's, worded as what is wrong, where, and what to do.

    The command line prints the message alone, without a stack trace, and exits with status 1.
    """
