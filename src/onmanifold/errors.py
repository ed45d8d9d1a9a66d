"""Errors that are the caller's: bad input, as opposed to a bug.

A check of input raises one of these, and says what came, what was expected and what to do. The command
line prints such an error as one line; any other error is a bug and keeps its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used: a wrong shape, a number out of range, a file of another format.

    Plugins raise it as well, where an option or a measurement is bad.

    Example:
        >>> raise InputError("std has to be positive, got -1")
        Traceback (most recent call last):
        onmanifold.errors.InputError: std has to be positive, got -1
    """


class InputTypeError(InputError, TypeError):
    """Input of the wrong type, or an option that does not exist."""


class InputLookupError(InputError, LookupError):
    """A name that is not known."""


class MissingPackage(InputError, ImportError):
    """An optional package is not installed, or does not import."""
