"""Downsampling: an image on a coarser grid, low-pass filtered first, so that nothing aliases."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onmanifold.checks import check_batch, check_choice, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.operator import Linear
from onmanifold.operators.axes import AxisMatrices

FILTERS = ("average", "cubic", "gaussian")


class Downsampling(Linear, nn.Module):
    """Images or volumes on a grid that is coarser by a factor, each channel by itself.

    The coarse pixels cover the whole image: an axis of n pixels gets ``round(n / factor)``. Each coarse
    pixel is a weighted mean of the fine ones around it, with weights by the ``filter``:

    ============  ==============================================================================
    ``average``   the area that both pixels share: a detector with larger pixels
    ``cubic``     Keys' cubic, stretched by the factor, as ``imresize`` in Matlab and PIL
    ``gaussian``  a Gaussian with a standard deviation of half a coarse pixel
    ============  ==============================================================================

    At the border the weights of the pixels inside are scaled to a sum of one.

    It computes in the dtype of its input, of half precision in float32; ``.to(device)`` moves it.

    Attributes:
        x_shape: shape of one image.
        y_shape: shape of one coarse image.

    Args:
        factor: 1 or more, whole or not; one number or one for each axis.
        x_shape: ``(H, W)`` or ``(C, H, W)``; with ``dims=3`` ``(D, H, W)`` or ``(C, D, H, W)``.
        filter: ``average``, ``cubic`` or ``gaussian``.
        dims: number of axes that shrink, the last ones: 2 for images, 3 for volumes.

    Raises:
        ValueError: a factor below 1 or beyond the image, an unknown filter, another number of axes.

    Example:
        >>> import torch
        >>> coarse = Downsampling(2, (2, 4))
        >>> coarse.A(torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]]]))
        tensor([[[3.5000, 5.5000]]])
        >>> Downsampling(4, (3, 64, 50)).y_shape
        (3, 16, 12)
    """

    def __init__(
        self,
        factor: float | tuple[float, ...],
        x_shape: tuple[int, ...],
        filter: str = "average",
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.x_shape = check_shape(x_shape, "x_shape")
        if dims not in (2, 3) or len(self.x_shape) not in (dims, dims + 1):
            raise InputError(
                f"x_shape has to be (H, W) or (C, H, W), or with dims=3 (D, H, W) or (C, D, H, W); got "
                f"{self.x_shape} with dims={dims}"
            )
        self.filter = check_choice(filter, FILTERS, "filter")
        plane = self.x_shape[-dims:]
        self.factor = _check_factor(factor, plane)
        coarse = tuple(round(n / f) for n, f in zip(plane, self.factor, strict=True))
        self.y_shape = (*self.x_shape[:-dims], *coarse)
        matrices = [_weights(n, m, filter) for n, m in zip(plane, coarse, strict=True)]
        self._matrices = AxisMatrices([matrix.unsqueeze(0) for matrix in matrices])

    def A(self, x: Tensor) -> Tensor:
        """Coarse images: ``(B, *x_shape)`` to ``(B, *y_shape)``."""
        check_batch(x, self.x_shape, "x")
        coarse: Tensor = self._matrices(self._planes(x))
        return coarse.reshape(len(x), *self.y_shape).to(x.dtype)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint: ``(B, *y_shape)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        fine = self._matrices.adjoint(self._planes(u))
        return fine.reshape(len(u), *self.x_shape).to(u.dtype)

    def _planes(self, x: Tensor) -> Tensor:
        plane = x.shape[-self._matrices.count :]
        return x.reshape(-1, 1, *plane).to(torch.promote_types(x.dtype, torch.float32))

    def extra_repr(self) -> str:
        return f"{self.x_shape} to {self.y_shape}, {self.filter}"


def _check_factor(factor: float | tuple[float, ...], plane: tuple[int, ...]) -> tuple[float, ...]:
    several = isinstance(factor, tuple | list)
    factors = tuple(factor) if isinstance(factor, tuple | list) else (factor,) * len(plane)
    if several and len(factors) != len(plane):
        raise InputError(
            f"factor has to be a number or {len(plane)}, one for each axis; got {factor}"
        )
    numbers = tuple(check_number(f, "factor", low=0.0) for f in factors)
    for f, n in zip(numbers, plane, strict=True):
        if not 1 <= f <= n:
            raise InputError(f"factor has to be from 1 to {n}, the pixels of that axis; got {f:g}")
    return numbers


def _weights(n: int, m: int, filter: str) -> Tensor:
    """The weights of n pixels in each of m that cover the same length, ``(m, n)``, float64."""
    scale = n / m
    centre = (torch.arange(m, dtype=torch.float64) + 0.5) * scale - 0.5
    distance = torch.arange(n, dtype=torch.float64) - centre.unsqueeze(1)
    weights: dict[str, Callable[[], Tensor]] = {
        "average": lambda: (0.5 * (scale + 1) - distance.abs()).clamp(0.0, 1.0),
        "cubic": lambda: _cubic(distance / scale),
        "gaussian": lambda: torch.exp(-0.5 * (distance / (0.5 * scale)).square()),
    }
    weight = weights[filter]()
    return weight / weight.sum(1, keepdim=True)


def _cubic(t: Tensor) -> Tensor:
    """Keys' kernel of third order, a = -1/2 (IEEE Trans. ASSP 29, 1981)."""
    t = t.abs()
    inner = (1.5 * t - 2.5) * t * t + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0.0))


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    factor: float | tuple[float, float] | tuple[float, float, float],
    filter: str = "average",
    dims: int = 2,
) -> Downsampling:
    """:class:`Downsampling` by a factor, low-pass filtered first.

    Args:
        x_shape: ``(H, W)`` or ``(C, H, W)``; with ``dims=3`` ``(D, H, W)`` or ``(C, D, H, W)``.
        factor: one number or one for each axis.
        filter: ``average``, ``cubic`` or ``gaussian``.
        dims: 2 for images, 3 for volumes.

    Example:
        >>> from_options((28, 28), factor=4).y_shape
        (7, 7)
    """
    if x_shape is None:
        raise InputError("downsampling needs the shape of the images: x_shape (H, W) or (C, H, W)")
    return Downsampling(factor, x_shape, filter, dims)
