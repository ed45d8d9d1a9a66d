"""The sphere in space: no single chart covers it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.priors.datasets.base import NoisyPoints


@dataclass(frozen=True)
class Sphere(NoisyPoints):
    """Noisy points of a sphere, evenly spread (Alberti et al., JMLR 2024, section 5).

    Attributes:
        radius: radius of the sphere.
        noise: standard deviation of the noise on each coordinate.

    Example:
        >>> x, coordinates = Sphere().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """

    radius: float = 1.0
    noise: float = 0.01
    x_shape = (3,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Coordinates ``(n, 2)``: angles from the north pole and around it, radians."""
        x = torch.randn((n, 3), generator=generator)
        return torch.stack(
            [torch.atan2(torch.hypot(x[:, 0], x[:, 1]), x[:, 2]), torch.atan2(x[:, 1], x[:, 0])],
            dim=1,
        )

    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, 3)`` at coordinates ``(n, 2)``."""
        polar, around = coordinates.unbind(dim=1)
        flat = self.radius * polar.sin()
        z = self.radius * polar.cos()
        return torch.stack([flat * around.cos(), flat * around.sin(), z], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, 3)`` to the sphere, ``(n,)``."""
        distance: Tensor = (x.norm(dim=1) - self.radius).abs()
        return distance
