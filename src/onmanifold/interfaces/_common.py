"""Functions that the interfaces share."""

from __future__ import annotations

from math import prod

from onmanifold.checks import check_shape
from onmanifold.errors import InputError


def missing(library: str, error: ImportError) -> ModuleNotFoundError:
    """The error for an optional library that does not import; its message says what to install."""
    return ModuleNotFoundError(
        f"onmanifold.interfaces.{library} needs {library} ({error}); install it with "
        "`pip install onmanifold[interfaces]`",
        name=error.name,
    )


def shape_of_columns(columns: int, x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check that an unknown of shape ``x_shape`` has one entry for each column of a matrix."""
    x_shape = check_shape(x_shape, "x_shape")
    if prod(x_shape) != columns:
        raise InputError(
            f"an unknown of x_shape {x_shape} has {prod(x_shape)} entries, but the operator has {columns} "
            "columns: it has to take the unknown's entries in row-major order"
        )
    return x_shape
