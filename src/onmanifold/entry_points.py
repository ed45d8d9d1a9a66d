"""Entry points: how the core finds plugins, which it never imports by name.

Those of this package are found in the same way as those of any other. The groups:

==========================  ==================  ====================================================
group                       name                value
==========================  ==================  ====================================================
``onmanifold.operators``    operator's name     a function ``(x_shape, **options) -> operator``
``onmanifold.priors``       kind, as in cards   a subclass of ``ManifoldPrior``
``onmanifold.pretrained``   any                 a package whose folders are stored priors
``onmanifold.datasets``     data set            a class ``(**options)`` with ``x_shape``, ``sample``
``onmanifold.methods``      training method     a subclass of ``TrainingMethod``
``onmanifold.commands``     subcommand          a function with typer annotations
``onmanifold.adapters``     library             a function like ``as_operator``
==========================  ==================  ====================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from onmanifold.errors import InputError, InputLookupError, InputTypeError, MissingPackage

OPERATORS = "onmanifold.operators"
PRIORS = "onmanifold.priors"
PRETRAINED = "onmanifold.pretrained"
DATASETS = "onmanifold.datasets"
METHODS = "onmanifold.methods"
COMMANDS = "onmanifold.commands"
ADAPTERS = "onmanifold.adapters"


class UnknownName(InputLookupError):
    """No operator, prior, data set or the like of that name is installed."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1)
        listed = ", ".join(known) if known else "none is installed"
        guess = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"unknown {what} {name!r}{guess} Known: {listed}{hint}")


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name.

    Raises:
        ValueError: two packages claim one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise InputError(
                f"two installed packages claim the name {entry.name!r} in {group}: "
                f"{_owner(other)} and {_owner(entry)}; remove one"
            )
    return dict(sorted(found.items()))


def load(group: str, what: str, name: str, hint: str = "") -> Any:
    """What the entry point ``name`` of a group stands for.

    Raises:
        TypeError: the name is no text.
        LookupError: there is none of that name (:class:`UnknownName`).
        ImportError: it does not import (:class:`onmanifold.errors.MissingPackage`).
    """
    if not isinstance(name, str):
        raise InputTypeError(f"the name of the {what} has to be text, got {type(name).__name__}")
    known = plugins(group)
    if name not in known:
        raise UnknownName(what, name, known, hint)
    try:
        return known[name].load()
    except MissingPackage:
        raise
    except ImportError as error:
        raise MissingPackage(f"{what} {name!r} does not import: {error}") from error


def _owner(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "?"
    return f"{package} ({entry.value})"
