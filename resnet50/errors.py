"""The base class of all errors that a user, a file or the other process causes."""


class UserError(Exception):
    """Ends a program with one line on stderr instead of a traceback.

    The text has the form ``where: what is wrong, with the value (what to do)``. A
    module that raises such errors derives its own exceptions from this class.
    """
