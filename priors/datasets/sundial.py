"""A sundial: the shadow of an upright rod on the ground, for every direction of the light."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, radians, sin, sqrt

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count, check_number
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform
from onmanifold.priors.datasets.geodesic import (
    GeodesicDataset,
    ball,
    check_eps,
    sphere_angle,
    sphere_geodesic,
    sphere_step,
)


@dataclass(frozen=True)
class Sundial(SquareImages, GeodesicDataset):
    r"""Images of a shadow; the manifold is a cap of the unit sphere (Braunsmann et al., 2024).

    The ground is the square ``[-1, 1]^2``, the rod stands in its middle and is translucent: a column of
    Gaussian density around the axis, ``height`` high. Light from direction ``s`` reaches the ground at ``p``
    with the brightness ``exp(-depth)`` (Beer and Lambert), where the depth is the integral of the density
    along the ray, ``opacity / s_z \int_0^height exp(-|p + h s_xy / s_z|^2 / (2 width^2)) dh``.
    So the image is smooth in the direction, overhead light included.

    Attributes:
        size: the image has ``size x size`` pixels.
        height: of the rod.
        width: standard deviation of its density.
        opacity: of its axis, per length.
        elevation: smallest angle of the light above the horizon, degrees.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> x, light = Sundial().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, light.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 3]))
    """

    size: int = 32
    height: float = 0.45
    width: float = 0.07
    opacity: float = 20.0
    elevation: float = 30.0
    injectivity_radius = pi  # that of the unit sphere

    def __post_init__(self) -> None:
        check_count(self.size, "Sundial: size")
        for name in ("height", "width", "opacity"):
            check_number(getattr(self, name), f"Sundial: {name}")
        check_number(self.elevation, "Sundial: elevation", high=90.0)

    @property
    def _lowest(self) -> float:
        return sin(radians(self.elevation))

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; coordinates ``(n, 3)``: unit vectors to the light, uniform."""
        generator = as_generator(generator)
        light = self._lights(n, generator)
        return Examples(self.render(light), light)

    def _lights(self, n: int, generator: torch.Generator) -> Tensor:
        up = uniform(
            (n,), self._lowest, 1.0, generator
        )  # heights are uniform on a sphere (Archimedes)
        around = uniform((n,), 0.0, 2 * pi, generator)
        flat = (1 - up.square()).sqrt()
        return torch.stack([flat * around.cos(), flat * around.sin(), up], dim=1)

    def pairs(self, n: int, eps: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` directions and to each another one at most ``eps`` radians from it, both ``(n, 3)``."""
        check_eps(eps, self.injectivity_radius)
        a = self._lights(n, generator)
        b = sphere_step(a, ball(n, 2, eps, generator))
        while len(low := (b[:, 2] < self._lowest).nonzero().squeeze(1)):
            b[low] = sphere_step(a[low], ball(len(low), 2, eps, generator))
        return a, b

    def distance_between(self, a: Tensor, b: Tensor) -> Tensor:
        """Angle between directions ``(n, 3)`` in radians, ``(n,)``."""
        return sphere_angle(a, b)

    def geodesic(self, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
        """Direction at share ``t`` of the way from ``a`` to ``b`` ``(n, 3)``."""
        return sphere_geodesic(a, b, t)

    def render(self, light: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` for light from directions ``(n, 3)``."""
        x, y = (grid.to(light) for grid in pixel_grid(self.size, 1.0))
        up = light[:, 2, None, None]
        tip = -self.height * light[:, :2] / light[:, 2:]
        length = tip.norm(dim=1, keepdim=True).clamp(
            min=0.01 * self.width
        )  # shorter ones look the same
        along, length = tip / length, length[:, :, None]
        ahead = along[:, :1, None] * x + along[:, 1:, None] * y
        aside = x.square() + y.square() - ahead.square()
        scale = sqrt(2) * self.width
        inside = torch.erf((length - ahead) / scale) + torch.erf(ahead / scale)
        density = torch.exp(-aside / scale**2) * inside * (scale * sqrt(pi) / 2) / length
        return torch.exp(-self.opacity * self.height / up * density)[:, None]
