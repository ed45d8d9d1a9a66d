"""Images of least total variation between bounds, and binary ones: classical images from few angles."""

from __future__ import annotations

from collections.abc import Callable

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
    start: Tensor | None = None,
    steps: int = 300,
) -> Tensor:
    """Minimize ``|(A(x) - y) / std|^2 / 2 + weight TV(x)`` between bounds, by primal-dual steps.

    TV is isotropic: the integral of the length of the gradient. That of a mask is the length of its edge.

    Args:
        operator: A.
        y: line integrals, ``(B, angles, detectors)``.
        weight: of the total variation.
        std: of the noise, broadcasts to y; infinite where a value is missing.
        bounds: of the image's values.
        start: where the steps begin, ``(B, *x_shape)``; by default the lower bound.
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
    return _primal_dual(operator, y, weight, std, bounds, start, steps, lambda x, _: None)


def binary_total_variation(
    operator: Tomography,
    y: Tensor,
    weight: float,
    *,
    binary: float,
    std: Tensor | float = 1.0,
    log_odds: Tensor | None = None,
    start: Tensor | None = None,
    steps: int = 300,
) -> Tensor:
    """The same between 0 and 1, and values in between cost ``binary`` times the integral of ``x (1 - x)``.

    The cost rises from 0 with the steps (graduated non-convexity): the image becomes that of a
    mask. From few angles that says far more than bounds do.

    Args:
        operator: A.
        y: line integrals, ``(B, angles, detectors)``.
        weight: of the total variation, as in :func:`total_variation`.
        binary: of values in between.
        std: of the noise, as in :func:`total_variation`.
        log_odds: what is known of each pixel: the logarithm of the odds that it is 1, ``(B, *x_shape)``; by
            default nothing.
        start: where the steps begin; by default the image without the last two terms.
        steps: number of steps.

    References:
        A. Blake, A. Zisserman, Visual Reconstruction, MIT Press (1987).

    Example:
        >>> from onmanifold.operators.ct import ParallelBeam
        >>> ct = Tomography(ParallelBeam(range(0, 60, 3), 24), (16, 16))
        >>> x = torch.zeros(1, 16, 16)
        >>> x[0, 4:10, 5:9] = 1.0
        >>> bool((binary_total_variation(ct, ct.A(x), 0.1, binary=0.2) - x).abs().max() < 0.2)
        True
    """
    check_number(binary, "binary")
    if start is None:
        start = total_variation(operator, y, weight, std=std, steps=steps // 2)
    area = operator.pixel**2

    def slope(x: Tensor, done: float) -> Tensor:
        between = binary * area * done * (1 - 2 * x)
        return between if log_odds is None else between - log_odds

    return _primal_dual(operator, y, weight, std, (0.0, 1.0), start, steps, slope)


def total_variation_of(x: Tensor, pixel: float = 1.0) -> Tensor:
    """The TV of an image ``(..., H, W)``: of a mask, the length of its edge.

    Example:
        >>> x = torch.zeros(8, 8)
        >>> x[2:5, 2:6] = 1.0
        >>> print(f"{total_variation_of(x).item():.2f}")  # one corner is cut
        13.41
    """
    length: Tensor = pixel * _gradient(x).square().sum(0).sqrt().sum()
    return length


def _primal_dual(
    operator: Tomography,
    y: Tensor,
    weight: float,
    std: Tensor | float,
    bounds: tuple[float, float],
    start: Tensor | None,
    steps: int,
    slope: Callable[[Tensor, float], Tensor | None],
) -> Tensor:
    """Primal-dual steps; ``slope`` is the derivative of what else the objective holds, by x and progress."""
    check_batch(y, tuple(operator.y_shape), "y", finite=True)
    weight, steps = check_number(weight, "weight"), check_count(steps, "steps")
    scale = 1 / torch.as_tensor(std, dtype=y.dtype, device=y.device)
    # steps of each row and column by the sums of the matrix's entries
    rays = scale * operator.A(y.new_ones(1, *operator.x_shape))
    pixels = operator.A_adjoint(scale * y.new_ones(1, *operator.y_shape))
    tau, sigma = 1 / (pixels + 4).clamp(min=1e-6), 1 / rays.clamp(min=1e-6)
    x = y.new_full((len(y), *operator.x_shape), bounds[0]) if start is None else start.to(y)
    ahead, residual = x, torch.zeros_like(y)
    slopes = y.new_zeros(2, *x.shape)
    for step in range(steps):
        residual = (residual + sigma * scale * (operator.A(ahead) - y)) / (1 + sigma)
        slopes = slopes + 0.5 * _gradient(ahead)
        slopes = slopes / (slopes.square().sum(0).sqrt() / (weight * operator.pixel)).clamp(min=1.0)
        back = operator.A_adjoint(scale * residual) - _divergence(slopes)
        more = slope(x, step / steps)
        new = (x - tau * (back if more is None else back + more)).clamp(*bounds)
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
