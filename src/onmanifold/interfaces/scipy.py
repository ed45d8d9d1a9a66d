"""Operators of scipy: sparse matrices and ``scipy.sparse.linalg.LinearOperator``."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor

from onmanifold.checks import check_batch
from onmanifold.errors import InputError, InputTypeError
from onmanifold.interfaces._common import shape_of_columns


class MatrixFree:
    """A linear operator of numpy arrays, given by its products with blocks of columns.

    It computes on the CPU, in the precision that the operator chooses. Results have the dtype and the
    device of the argument.

    Attributes:
        operator: an object with ``shape`` ``(m, n)``, ``dtype``, ``matmat`` and ``rmatmat``.
        x_shape: shape of one unknown, of n entries.
        y_shape: shape of one measurement, of m entries.

    Raises:
        TypeError: the operator is complex.
        ValueError: it has more than two axes, or the unknown another number of entries.
    """

    linear = True

    def __init__(self, operator: Any, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        name = type(operator).__name__
        if len(operator.shape) != 2:
            raise InputError(f"{name} is a batch of operators, {operator.shape}: pass one of them")
        self.operator = operator
        self.x_shape = shape_of_columns(operator.shape[1], x_shape)
        self.y_shape = y_shape
        # The dtype is not enough: a transform of real numbers may be complex.
        tried = operator.matmat(np.zeros((operator.shape[1], 1)))
        if np.iscomplexobj(tried) or np.issubdtype(operator.dtype, np.complexfloating):
            raise InputTypeError(
                f"{name} is complex: unknowns and measurements are real here. Wrap it so that it takes and "
                "returns real and imaginary parts, stacked"
            )

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        return _columns(self.operator.matmat, x, self.y_shape)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """``(B, *y_shape)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        try:
            return _columns(self.operator.rmatmat, u, self.x_shape)
        except (NotImplementedError, TypeError) as error:  # scipy raises either if there is none
            raise InputTypeError(
                f"the adjoint of {type(self.operator).__name__} fails ({error}): define its rmatvec, or "
                "descend with LevenbergMarquardt, which needs no adjoint"
            ) from error

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """``A(v)``: the operator is linear."""
        return self.A(v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """``A_adjoint(u)``."""
        return self.A_adjoint(u)


def _columns(multiply: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Multiply the members of a batch, as columns; reshape the results to ``shape``."""
    block = multiply(x.flatten(1).cpu().numpy().T)
    return torch.from_numpy(np.ascontiguousarray(block.T)).to(x).reshape(len(x), *shape)


def as_operator(
    operator: Any,
    x_shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> MatrixFree | None:
    """A scipy operator or sparse matrix ``(m, n)`` as an operator, or ``None`` for any other object.

    Args:
        operator: any object.
        x_shape: shape of one unknown, ``(n,)`` by default.
        dtype: has no effect: results have the dtype of the argument.
        device: has no effect: results are on the device of the argument.

    Raises:
        TypeError: the operator is complex.
        ValueError: ``x_shape`` has not n entries.

    Example:
        >>> from scipy.sparse import eye_array
        >>> as_operator(eye_array(4, 6), (2, 3)).A(torch.ones(1, 2, 3))
        tensor([[1., 1., 1., 1.]])
    """
    if not (issparse(operator) or isinstance(operator, LinearOperator)):
        return None
    linear: LinearOperator = aslinearoperator(cast(Any, operator))
    return MatrixFree(linear, linear.shape[1:] if x_shape is None else x_shape, linear.shape[:1])
