"""A disk that moves on a flat torus: an image whose opposite edges are joined."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count, check_number
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform
from onmanifold.priors.datasets.geodesic import GeodesicDataset, ball, check_eps


@dataclass(frozen=True)
class TorusDisk(SquareImages, GeodesicDataset):
    """Images of a bright disk; the manifold is the flat torus (Braunsmann et al., 2024).

    The image is the square of side ``2 pi`` with opposite edges joined, so that the torus is the product
    of two unit circles.

    Attributes:
        size: the image has ``size x size`` pixels.
        radius: of the disk.
        edge: width over which the brightness falls at the rim.

    Raises:
        ValueError: a number out of range, or a disk that meets itself.

    Example:
        >>> x, centre = TorusDisk().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, centre.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 2]))
    """

    size: int = 32
    radius: float = 1.0
    edge: float = 0.4
    injectivity_radius = pi  # half the way around

    def __post_init__(self) -> None:
        check_count(self.size, "TorusDisk: size")
        check_number(self.edge, "TorusDisk: edge")
        check_number(self.radius, "TorusDisk: radius", high=pi - 2 * self.edge)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; coordinates ``(n, 2)``: the centre, from ``-pi`` to ``pi``."""
        generator = as_generator(generator)
        centre = uniform((n, 2), -pi, pi, generator)
        return Examples(self.render(centre), centre)

    def pairs(self, n: int, eps: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` centres and to each another one at most ``eps`` from it, both ``(n, 2)``."""
        check_eps(eps, self.injectivity_radius)
        a = uniform((n, 2), -pi, pi, generator)
        return a, _wrapped(a + ball(n, 2, eps, generator))

    def distance_between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of centres ``(n, 2)`` on the torus, ``(n,)``."""
        distance: Tensor = _wrapped(b - a).norm(dim=1)
        return distance

    def geodesic(self, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
        """Centre at share ``t`` of the way from ``a`` to ``b`` ``(n, 2)``."""
        return _wrapped(a + t * _wrapped(b - a))

    def render(self, centre: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` of disks around ``(n, 2)``."""
        x, y = (grid.to(centre) for grid in pixel_grid(self.size, pi))
        away = torch.hypot(
            _wrapped(x - centre[:, 0, None, None]), _wrapped(y - centre[:, 1, None, None])
        )
        return torch.sigmoid(4 * (self.radius - away) / self.edge)[:, None]


def _wrapped(difference: Tensor) -> Tensor:
    """The same on the circle, from ``-pi`` to ``pi``."""
    return torch.remainder(difference + pi, 2 * pi) - pi
