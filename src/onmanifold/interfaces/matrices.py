"""Matrices as operators: tensors and numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onmanifold.checks import check_batch
from onmanifold.errors import InputError, InputTypeError
from onmanifold.interfaces._common import shape_of_columns


class Matrix(nn.Module):
    """``A(x) = M x``, for the entries of ``x`` in row-major order.

    It computes in the dtype of its input; ``.to(device)`` moves it.

    Attributes:
        matrix: M, ``(m, n)``.
        x_shape: shape of one unknown, of n entries.
        y_shape: ``(m,)``.

    Example:
        >>> import torch
        >>> operator = Matrix(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), (2,))
        >>> operator.A(torch.ones(1, 2))
        tensor([[ 3.,  7., 11.]])
    """

    matrix: Tensor
    linear = True

    def __init__(self, matrix: Tensor, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        if matrix.ndim != 2:
            raise InputError(f"a matrix (m, n) is needed, got an array {tuple(matrix.shape)}")
        if matrix.is_complex():
            raise InputTypeError(
                f"the matrix is complex, {matrix.dtype}; stack real and imaginary part"
            )
        self.x_shape = shape_of_columns(matrix.shape[1], x_shape)
        self.y_shape = (matrix.shape[0],)
        self.register_buffer("matrix", matrix.detach(), persistent=False)

    def A(self, x: Tensor) -> Tensor:
        """``M x``: ``(B, *x_shape)`` to ``(B, m)``."""
        check_batch(x, self.x_shape, "x")
        return x.flatten(1) @ self.matrix.to(x).mT

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The transpose: ``(B, m)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        return (u @ self.matrix.to(u)).reshape(-1, *self.x_shape)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """``A(v)``: the operator is linear."""
        return self.A(v)

    def A_vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """``A_adjoint(u)``."""
        return self.A_adjoint(u)


def as_operator(
    matrix: object,
    x_shape: tuple[int, ...] | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Matrix | None:
    """A tensor or numpy array ``(m, n)`` as an operator, or ``None`` for any other object.

    Args:
        matrix: any object.
        x_shape: shape of one unknown, ``(n,)`` by default.
        dtype: dtype of the matrix; default: its own.
        device: device of the matrix; default: its own.

    Raises:
        TypeError: the matrix is complex or holds no numbers.
        ValueError: the matrix has not two axes, or ``x_shape`` has not n entries.

    Example:
        >>> as_operator(np.eye(6), (2, 3)).A_adjoint(torch.ones(1, 6)).shape
        torch.Size([1, 2, 3])
    """
    if not isinstance(matrix, Tensor | np.ndarray):
        return None
    tensor: Any = matrix if isinstance(matrix, Tensor) else torch.as_tensor(np.array(matrix))
    if dtype is None and not (tensor.is_floating_point() or tensor.is_complex()):
        dtype = torch.float64
    if not tensor.is_complex():
        tensor = tensor.to(dtype=dtype, device=device)
    return Matrix(tensor, tuple(tensor.shape[1:]) if x_shape is None else x_shape)
