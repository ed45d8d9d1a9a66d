"""Linear operators of others: tensors, numpy arrays, operators and sparse matrices of scipy, pylops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any, cast

import numpy as np
import torch
from scipy.sparse import issparse
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor, nn

from onmanifold.checks import check_batch, check_shape
from onmanifold.errors import InputError, InputTypeError
from onmanifold.external import linear_map
from onmanifold.operator import Linear
from onmanifold.tensors import as_real


class LinearMap(Linear, ABC):
    """A linear operator, by its products with the entries of unknowns in row-major order.

    Attributes:
        x_shape: shape of one unknown, of n entries.
        y_shape: shape of one measurement, of m entries.
    """

    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]

    @abstractmethod
    def _forward(self, rows: Tensor) -> Tensor:
        """``(B, n)`` to ``(B, m)``."""

    @abstractmethod
    def _backward(self, rows: Tensor) -> Tensor:
        """The transpose, ``(B, m)`` to ``(B, n)``."""

    def A(self, x: Tensor) -> Tensor:
        """``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        return self._forward(x.flatten(1)).reshape(len(x), *self.y_shape)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """``(B, *y_shape)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        return self._backward(u.flatten(1)).reshape(len(u), *self.x_shape)


class Matrix(nn.Module, LinearMap):
    """``A(x) = M x``. It computes in the dtype of its input; ``.to(device)`` moves it.

    Attributes:
        matrix: M, ``(m, n)``.

    Example:
        >>> operator = Matrix(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), (2,))
        >>> operator.A(torch.ones(1, 2))
        tensor([[ 3.,  7., 11.]])
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        matrix = as_real(matrix, "the matrix")
        if matrix.ndim != 2:
            raise InputError(f"a matrix (m, n) is needed, got an array {tuple(matrix.shape)}")
        self.x_shape = _shape_of_columns(matrix.shape[1], x_shape)
        self.y_shape = (matrix.shape[0],)
        self.register_buffer("matrix", matrix.detach(), persistent=False)

    def _forward(self, rows: Tensor) -> Tensor:
        return rows @ self.matrix.to(rows).mT

    def _backward(self, rows: Tensor) -> Tensor:
        return rows @ self.matrix.to(rows)


class MatrixFree(LinearMap):
    """A linear operator of numpy arrays, given by its products with blocks of columns.

    It computes on the CPU, in the precision that the operator chooses. Results have the dtype and the
    device of the argument.

    Attributes:
        operator: an object with ``shape`` ``(m, n)``, ``dtype``, ``matmat`` and ``rmatmat``.

    Raises:
        TypeError: the operator is complex.
        ValueError: it has more than two axes, or the unknown another number of entries.
    """

    def __init__(self, operator: Any, x_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> None:
        name = type(operator).__name__
        if len(operator.shape) != 2:
            raise InputError(f"{name} is a batch of operators, {operator.shape}: pass one of them")
        self.operator = operator
        self.x_shape = _shape_of_columns(operator.shape[1], x_shape)
        self.y_shape = y_shape
        # The dtype is not enough: a transform of real numbers may be complex.
        tried = operator.matmat(np.zeros((operator.shape[1], 1)))
        if np.iscomplexobj(tried) or np.issubdtype(operator.dtype, np.complexfloating):
            raise InputTypeError(
                f"{name} is complex: unknowns and measurements are real here. Wrap it so that it takes and "
                "returns real and imaginary parts, stacked"
            )

    def _forward(self, rows: Tensor) -> Tensor:
        return linear_map(self._product, self._transposed, rows)

    def _backward(self, rows: Tensor) -> Tensor:
        return linear_map(self._transposed, self._product, rows)

    def _product(self, rows: Tensor) -> Tensor:
        return _by_numpy(self.operator.matmat, rows)

    def _transposed(self, rows: Tensor) -> Tensor:
        try:
            return _by_numpy(self.operator.rmatmat, rows)
        except (NotImplementedError, TypeError) as error:  # scipy raises either if there is none
            raise InputTypeError(
                f"the adjoint of {type(self.operator).__name__} fails ({error}): define its rmatvec, or "
                "descend with LevenbergMarquardt, which needs no adjoint"
            ) from error


def _by_numpy(multiply: Any, rows: Tensor) -> Tensor:
    """Multiply the members of a batch, as columns."""
    block = multiply(rows.cpu().numpy().T)
    return torch.from_numpy(np.ascontiguousarray(block.T)).to(rows)


def _shape_of_columns(columns: int, x_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check that an unknown of shape ``x_shape`` has one entry for each column of a matrix."""
    x_shape = check_shape(x_shape, "x_shape")
    if prod(x_shape) != columns:
        raise InputError(
            f"an unknown of x_shape {x_shape} has {prod(x_shape)} entries, but the operator has {columns} "
            "columns: it has to take the unknown's entries in row-major order"
        )
    return x_shape


def as_operator(
    operator: Any,
    x_shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> LinearMap | None:
    """A matrix ``(m, n)``, dense or sparse, or a linear operator of scipy or pylops, as an operator.

    ``None`` for any other object.

    Args:
        operator: any object.
        x_shape: shape of one unknown; ``(n,)`` by default, for a pylops operator its ``dims``.
        dtype: dtype of a tensor or array; default: its own. Other results have that of the argument.
        device: device of a tensor or array; default: its own. Other results are where the argument is.

    Raises:
        TypeError: the operator is complex or holds no numbers.
        ValueError: the matrix has not two axes, or NaN or infinite entries, or ``x_shape`` has not n entries.

    Example:
        >>> as_operator(np.eye(6), (2, 3)).A_adjoint(torch.ones(1, 6)).shape
        torch.Size([1, 2, 3])
        >>> from scipy.sparse import eye_array
        >>> as_operator(eye_array(4, 6), (2, 3)).A(torch.ones(1, 2, 3))
        tensor([[1., 1., 1., 1.]])
    """
    if isinstance(operator, Tensor | np.ndarray):
        numbers = operator * 1.0 if "bool" in str(operator.dtype) else operator  # of 0 and 1
        tensor = as_real(numbers, "the matrix").to(dtype=dtype, device=device)
        _check_finite(tensor.isfinite(), tensor.dtype)
        return Matrix(tensor, tuple(tensor.shape[1:]) if x_shape is None else x_shape)
    if issparse(operator):
        entries = cast(Any, operator).tocoo().data
        if entries.dtype.kind in "fc":
            _check_finite(torch.from_numpy(np.isfinite(entries)), entries.dtype)
        operator = aslinearoperator(cast(Any, operator))
    if not (hasattr(operator, "matmat") and hasattr(operator, "rmatmat")):
        return None
    dims = tuple(getattr(operator, "dims", operator.shape[1:]))  # pylops has more than one axis
    dimsd = tuple(int(n) for n in getattr(operator, "dimsd", operator.shape[:1]))
    return MatrixFree(operator, dims if x_shape is None else x_shape, dimsd)


def _check_finite(finite: Tensor, dtype: object) -> None:
    bad = int((~finite).sum())
    if bad:
        raise InputError(
            f"the matrix holds {bad} NaN or infinite of {finite.numel()} entries in {dtype}"
        )
