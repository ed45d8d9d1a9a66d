"""Two disjoint circles in the plane: the smallest manifold that no single chart covers."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.datasets.base import NoisyPoints, uniform


@dataclass(frozen=True)
class TwoCircles(NoisyPoints):
    """Noisy points of two circles (Alberti et al., JMLR 2024, section 5).

    Attributes:
        radius: radius of both circles.
        offset: their centres are ``(-offset, 0)`` and ``(offset, 0)``.
        noise: standard deviation of the noise on each coordinate.

    Example:
        >>> x, coordinates = TwoCircles().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    radius: float = 1.0
    offset: float = 1.5
    noise: float = 0.01
    x_shape = (2,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Coordinates ``(n, 2)``: circle (0 or 1) and angle in radians."""
        circle = torch.randint(0, 2, (n,), generator=generator).float()
        angle = uniform((n,), 0.0, 2 * pi, generator)
        return torch.stack([circle, angle], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, 2)`` at coordinates ``(n, 2)``."""
        circle, angle = coordinates.unbind(dim=1)
        centre = (2 * circle - 1) * self.offset
        x = centre + self.radius * angle.cos()
        return torch.stack([x, self.radius * angle.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, 2)`` to the nearer circle, ``(n,)``."""
        to_circles = [
            (torch.hypot(x[:, 0] - centre, x[:, 1]) - self.radius).abs()
            for centre in (-self.offset, self.offset)
        ]
        return torch.minimum(*to_circles)
