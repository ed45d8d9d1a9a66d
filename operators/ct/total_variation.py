"""Images of least total variation between bounds: the classical reconstruction from few angles."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.checks import check_batch, check_count, check_number
from onmanifold.operators.ct.operator import Tomography


def total_variation(
    operator: Tomography,
    y: Tensor,
    weight: float,
    *,
    std: Tensor | float = 1.0,
    bounds: tuple[float, float] = (0.0, 1.0),
    steps: int = 300,
) -> Tensor:
    """Minimize ``|(A(x) - y) / std|^2 / 2 + weight TV(x)`` between bounds, by primal-dual steps.

    TV is isotropic: the sum of the lengths of the gradient in pixels.

    Args:
        operator: A.
        y: line integrals, ``(B, angles, detectors)``.
        weight: of the total variation.
        std: of the noise, broadcasts to y; infinite where a pixel is missing.
        bounds: of the image's values.
        steps: number of steps.

    Returns:
        ``(B, *x_shape)``.

    References:
        A. Chambolle, T. Pock, A first-order primal-dual algorithm for convex problems, J. Math. Imaging
        Vis. 40 (2011); with its preconditioning, T. Pock, A. Chambolle, ICCV 2011.

    Example:
        >>> from onmanifold.operators.ct import ParallelBeam
        >>> ct = Tomography(ParallelBeam(range(0, 180, 10), 24), (16, 16))
        >>> x = torch.zeros(1, 16, 16)
        >>> x[0, 4:10, 5:9] = 1.0
        >>> bool((total_variation(ct, ct.A(x), 0.1) - x).abs().max() < 0.2)
        True
    """
    check_batch(y, tuple(operator.y_shape), "y", finite=True)
    check_number(weight, "weight"), check_count(steps, "steps")
    scale = 1 / torch.as_tensor(std, dtype=y.dtype, device=y.device)
    image = (len(y), *operator.x_shape)
    # steps of each row and column by the sums of the matrix's entries
    rays = scale * operator.A(y.new_ones(1, *operator.x_shape))
    pixels = operator.A_adjoint((scale * y.new_ones(1, *operator.y_shape)))
    tau, sigma = 1 / (pixels + 4).clamp(min=1e-6), 1 / rays.clamp(min=1e-6)
    x = y.new_full(image, bounds[0])
    ahead, residual = x, torch.zeros_like(y)
    slopes = y.new_zeros(2, *image)
    for _ in range(steps):
        residual = (residual + sigma * scale * (operator.A(ahead) - y)) / (1 + sigma)
        slopes = slopes + 0.5 * _gradient(ahead)
        slopes = slopes / (slopes.square().sum(0).sqrt() / weight).clamp(min=1.0)
        back = operator.A_adjoint(scale * residual) - _divergence(slopes)
        new = (x - tau * back).clamp(*bounds)
        x, ahead = new, 2 * new - x
    return x


def _gradient(x: Tensor) -> Tensor:
    """Differences to the next pixel below and to the right, ``(2, *x.shape)``."""
    found = x.new_zeros(2, *x.shape)
    found[0, ..., :-1, :] = x.diff(dim=-2)
    found[1, ..., :, :-1] = x.diff(dim=-1)
    return found


def _divergence(slopes: Tensor) -> Tensor:
    """Minus the adjoint of the gradient."""
    down, right = slopes
    found = torch.zeros_like(down)
    found[..., :-1, :] += down[..., :-1, :]
    found[..., 1:, :] -= down[..., :-1, :]
    found[..., :, :-1] += right[..., :, :-1]
    found[..., :, 1:] -= right[..., :, :-1]
    return found
