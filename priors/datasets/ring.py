"""A ring in the plane: two-dimensional, with a hole."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.datasets.base import NoisyPoints, uniform


@dataclass(frozen=True)
class Ring(NoisyPoints):
    """Noisy points between two circles, evenly spread (Alberti et al., JMLR 2024, section 5).

    Attributes:
        inner: radius of the hole.
        outer: radius of the ring.
        noise: standard deviation of the noise on each coordinate.

    Example:
        >>> x, coordinates = Ring().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    inner: float = 0.5
    outer: float = 1.5
    noise: float = 0.01
    x_shape = (2,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Coordinates ``(n, 2)``: radius, and angle in radians."""
        radius = uniform((n,), self.inner**2, self.outer**2, generator).sqrt()
        return torch.stack([radius, uniform((n,), 0.0, 2 * pi, generator)], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, 2)`` at coordinates ``(n, 2)``."""
        radius, angle = coordinates.unbind(dim=1)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, 2)`` to the ring, ``(n,)``; 0 inside it."""
        radius = x.norm(dim=1)
        return torch.maximum(self.inner - radius, radius - self.outer).clamp(min=0)
