"""A matrix for each axis of an image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class AxisMatrices(nn.Module):
    """The product with a matrix along each axis of image planes, ``(N, K, *n)`` to ``(N, K, *m)``.

    Args:
        matrices: one for each axis, ``(K or 1, m, n)``.

    Example:
        >>> import torch
        >>> sums = AxisMatrices([torch.ones(1, 1, 2), torch.ones(1, 1, 3)])
        >>> sums(torch.ones(1, 1, 2, 3))
        tensor([[[[6.]]]])
    """

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        super().__init__()
        self.count = len(matrices)
        for axis, matrix in enumerate(matrices):
            self.register_buffer(f"matrix{axis}", matrix.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(x, adjoint=False)

    def adjoint(self, u: Tensor) -> Tensor:
        """The transposed matrices: ``(N, K, *m)`` to ``(N, K, *n)``."""
        return self._multiply(u, adjoint=True)

    def _multiply(self, x: Tensor, adjoint: bool) -> Tensor:
        for axis in reversed(range(self.count)):
            matrix: Tensor = getattr(self, f"matrix{axis}").to(x.dtype)
            matrix = matrix.mT if adjoint else matrix
            if axis == self.count - 1:
                x = x @ _beside(matrix.mT, axis - 1)
            else:
                behind = x.shape[axis + 3 :]
                x = (_beside(matrix, axis) @ x.flatten(axis + 3)).unflatten(-1, behind)
        return x


def _beside(matrix: Tensor, axes: int) -> Tensor:
    """``(K, m, n)`` as ``(K, 1, ..., 1, m, n)``, for image planes with so many axes in front."""
    return matrix.reshape(len(matrix), *[1] * axes, *matrix.shape[1:])
