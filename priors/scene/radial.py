"""Star-shaped outlines by Fourier series: the classical description, to compare learned ones with."""

from __future__ import annotations

from math import log, pi
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.prior import ManifoldPrior, Point
from onmanifold.priors.datasets import pixel_grid
from onmanifold.priors.scene.placement import REACH

_RAYS = 64
SPREAD, DECAY = (
    0.6,
    1.3,
)  # the standard deviation of the coefficients of order n is SPREAD / n ** DECAY


class RadialOutlines(ManifoldPrior):
    r"""Outlines ``r(phi) = exp(sum_n a_n cos(n phi) + b_n sin(n phi))``, n from 2, scaled to area pi.

    Nothing is learned. Shown as outlines are, as the hyperbolic tangent of (about) the signed distance on
    ``[-REACH, REACH]^2``; see :class:`Placement`. Coordinates are standard normal; coefficients of order
    n are ``0.6 / n ** 1.3`` times as large.

    Args:
        orders: the highest n.

    Example:
        >>> RadialOutlines(orders=5).decode_chart(torch.zeros(1, 8), 0).shape
        torch.Size([1, 1, 40, 40])
    """

    x_shape, box, inverse_error = (1, 40, 40), 4.0, 0.05

    def __init__(self, orders: int = 5) -> None:
        super().__init__()
        self.orders = orders = check_count(orders, "RadialOutlines: orders", at_least=2)
        self.dim = 2 * (orders - 1)
        x, y = pixel_grid(self.x_shape[1], REACH)
        angle = torch.atan2(y, x).flatten()
        self.register_buffer("radii", torch.hypot(x, y).flatten().float())
        self.register_buffer("waves", self._waves(angle).float())
        self.register_buffer("slopes", self._waves(angle, slope=True).float())
        even = torch.arange(4 * _RAYS, dtype=torch.float64) * (2 * pi / (4 * _RAYS))
        self.register_buffer("around", self._waves(even).float())

    radii: Tensor
    waves: Tensor
    slopes: Tensor
    around: Tensor

    def _waves(self, angle: Tensor, slope: bool = False) -> Tensor:
        """Cosines and sines at angles ``(P,)`` with their weights, or their derivatives: ``(P, d)``."""
        n = torch.arange(2, self.orders + 1, dtype=angle.dtype)
        scale = SPREAD / n**DECAY
        turned = angle[:, None] * n
        pair = (-n * turned.sin(), n * turned.cos()) if slope else (turned.cos(), turned.sin())
        return torch.cat([scale * pair[0], scale * pair[1]], dim=1)

    def decode_chart(self, z: Tensor, chart: int) -> Tensor:
        area = (2 * (z @ self.around.T)).exp().mean(1, keepdim=True)
        radius = (z @ self.waves.T).exp() / area.sqrt()
        stretch = 1 + (z @ self.slopes.T).square()
        level: Tensor = torch.tanh((radius - self.radii) / stretch.sqrt())
        image: Tensor = level.unflatten(1, self.x_shape)
        return image

    def encode_chart(self, x: Tensor, chart: int) -> Tensor:
        angle = torch.arange(_RAYS, dtype=x.dtype, device=x.device) * (2 * pi / _RAYS)
        depth = torch.linspace(0.05, REACH - 0.05, 120, dtype=x.dtype, device=x.device)
        places = torch.stack([angle.cos()[:, None] * depth, -angle.sin()[:, None] * depth], dim=2)
        grid = (places / REACH).expand(len(x), -1, -1, -1)
        along = torch.nn.functional.grid_sample(x, grid, align_corners=False)[:, 0]
        radius = (along > 0).to(x).sum(2) * (depth[1] - depth[0])
        waves = self._waves(angle)
        weight = waves.square().sum(0)
        return (radius.clamp(min=0.05).log() @ waves) / weight

    def log_prob_chart(self, z: Tensor, chart: int) -> Tensor:
        return -0.5 * (z.square() + log(2 * pi)).sum(1)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Point:
        n = check_count(n, "n")
        z = torch.randn((n, self.dim), generator=as_generator(generator)).clamp(-4, 4)
        return Point(torch.zeros(n, dtype=torch.long), z.to(self.radii))

    def config(self) -> dict[str, Any]:
        return {"orders": self.orders}
