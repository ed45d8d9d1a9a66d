"""The torus in space."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.datasets.base import NoisyPoints, uniform


@dataclass(frozen=True)
class Torus(NoisyPoints):
    """Noisy points of a torus around the z axis, evenly spread (Alberti et al., JMLR 2024, section 5).

    Attributes:
        major: radius of the circle inside the tube.
        minor: radius of the tube.
        noise: standard deviation of the noise on each coordinate.

    Example:
        >>> x, coordinates = Torus().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """

    major: float = 3.0
    minor: float = 1.0
    noise: float = 0.01
    x_shape = (3,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Coordinates ``(n, 2)``: angles around the axis and around the tube, radians."""
        tube = torch.empty(0)
        while len(tube) < n:  # the surface is larger outside: rejection
            angle = uniform((2 * n + 8,), 0.0, 2 * pi, generator)
            height = uniform((2 * n + 8,), 0.0, self.major + self.minor, generator)
            tube = torch.cat([tube, angle[height < self.major + self.minor * angle.cos()]])
        return torch.stack([uniform((n,), 0.0, 2 * pi, generator), tube[:n]], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, 3)`` at coordinates ``(n, 2)``."""
        around, tube = coordinates.unbind(dim=1)
        flat = self.major + self.minor * tube.cos()
        z = self.minor * tube.sin()
        return torch.stack([flat * around.cos(), flat * around.sin(), z], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, 3)`` to the torus, ``(n,)``."""
        to_circle = torch.hypot(torch.hypot(x[:, 0], x[:, 1]) - self.major, x[:, 2])
        return (to_circle - self.minor).abs()
