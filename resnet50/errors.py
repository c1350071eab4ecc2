"""The one base class of every error that a user, a file or the other process causes."""


class UserError(Exception):
    """Ends a program with one line on stderr instead of a traceback.

    The text follows ``where: what is wrong, with the value (what to do)``. Each module
    that can fail in such a way derives its own named exception from this class.
    """
