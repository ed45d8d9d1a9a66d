"""Operators of pylops. They have the methods of scipy's operators, but are no subclass of them."""

from __future__ import annotations

from typing import Any

import torch

from onmanifold.interfaces._common import missing
from onmanifold.interfaces.scipy import MatrixFree

try:
    import pylops
except ImportError as error:
    raise missing("pylops", error) from error


def as_operator(
    operator: Any,
    x_shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> MatrixFree | None:
    """A ``pylops.LinearOperator`` as an operator, or ``None`` for any other object.

    Args:
        operator: any object. Of a pylops operator, ``dims`` is the shape of one unknown and ``dimsd`` the
            shape of one measurement.
        x_shape: another shape with as many entries, such as ``(1, H, W)`` for ``(H, W)``.
        dtype: has no effect: results have the dtype of the argument.
        device: has no effect: results are on the device of the argument.

    Raises:
        TypeError: the operator is complex.
        ValueError: ``x_shape`` has another number of entries.

    Example:
        >>> as_operator(pylops.FirstDerivative((4, 6), axis=1), (1, 4, 6)).y_shape
        (4, 6)
    """
    if not isinstance(operator, pylops.LinearOperator):
        return None
    shape = tuple(operator.dims) if x_shape is None else x_shape
    return MatrixFree(operator, shape, tuple(int(n) for n in operator.dimsd))
