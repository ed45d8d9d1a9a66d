"""Packages that only some tasks need: where one is missing, one line says how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onmanifold.errors import MissingPackage


@contextmanager
def needs(purpose: str, extra: str) -> Iterator[None]:
    """Import optional packages within; one that is missing is named, with the extra that brings it.

    Args:
        purpose: what it is for, as the beginning of a sentence.
        extra: the extra of this package that requires it.

    Raises:
        MissingPackage: an import within failed.

    Example:
        >>> with needs("drums are read by noise", "train"):
        ...     import no_such_package
        Traceback (most recent call last):
        onmanifold.errors.MissingPackage: drums are read by noise, which is not installed (...): ...
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackage(
            f"{purpose}, which is not installed ({error}): pip install 'onmanifold[{extra}]'"
        ) from error
