"""Numbers of a user as the parts of this package need them: converted where nothing is lost, else refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_count
from onmanifold.errors import InputError, InputTypeError
from onmanifold.tensors import real_array

_MOST = 4096  # electrodes: more are a typing error, and dense protocols would fill the memory


def doubles(value: Any, name: str) -> NDArray[np.float64]:
    """A new array of float64; errors as of :func:`onmanifold.tensors.real_array`.

    Example:
        >>> doubles([1, 2], "currents")
        array([1., 2.])
    """
    return real_array(value, name).astype(np.float64, copy=False)


def whole_numbers(value: Any, name: str) -> NDArray[np.int32]:
    """A new array of int32, also of whole numbers that are kept as floats.

    Raises:
        TypeError: no real numbers.
        ValueError: numbers that are not whole, or too large.

    Example:
        >>> whole_numbers([[0.0, 2.0]], "cells")
        array([[0, 2]], dtype=int32)
    """
    array = doubles(value, name)
    with np.errstate(invalid="ignore"):
        result = array.astype(np.int32)
    wrong = np.flatnonzero(result != array)
    if len(wrong):
        raise InputError(f"{name} has to hold whole numbers, got {array.flat[wrong[0]]:g}")
    return result


def check_flag(value: Any, name: str) -> bool:
    """``value`` if it is True or False, also one of numpy's; text is not, whatever it says."""
    if not isinstance(value, bool | np.bool_):
        got = repr(value) if isinstance(value, str | int | float) else type(value).__name__
        raise InputTypeError(f"{name} has to be true or false, got {got}")
    return bool(value)


def electrode_count(value: Any, name: str, at_least: int = 2) -> int:
    """``value`` as an int if it can be a number of electrodes.

    Example:
        >>> electrode_count(5000, "electrodes")
        Traceback (most recent call last):
        onmanifold.errors.InputError: electrodes has to be at most 4096, got 5000
    """
    count = check_count(value, name, at_least)
    if count > _MOST:
        raise InputError(f"{name} has to be at most {_MOST}, got {count}")
    return count
