"""Two disjoint balls in the unit disk: conductivities for electrical impedance tomography."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform


@dataclass(frozen=True)
class TwoBalls(SquareImages):
    """Images of two balls (Alberti et al., JMLR 2024, section 6.2).

    Lengths are pixels of an image of 128 x 128 pixels. The image is ``(conductivity - 0.2) / 1.6`` with
    conductivity 1 outside (value ``background``) and ``conductivity`` inside a ball. Centres and radii are
    uniform among the pairs that respect the bounds.

    Example:
        >>> x, balls = TwoBalls().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, balls.shape
        (torch.Size([2, 1, 128, 128]), torch.Size([2, 2, 3]))
    """

    size: int = 128
    min_radius: float = 12.0
    max_radius: float = 25.0
    max_centre: float = 45.0
    disk: float = 62.0
    gap: float = 6.0
    conductivity: float = 1.5
    background: float = 0.5

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, 128, 128)``; coordinates ``(n, 2, 3)``: x, y, radius in pixels."""
        generator = as_generator(generator)
        balls = torch.empty(0, 2, 3)
        while len(balls) < n:
            candidates = self._propose(4 * n, generator)
            balls = torch.cat([balls, candidates[self.allowed(candidates)]])
        return Examples(self.render(balls[:n]), balls[:n])

    def _propose(self, n: int, generator: torch.Generator) -> Tensor:
        distance = self.max_centre * torch.rand((n, 2), generator=generator).sqrt()
        angle = uniform((n, 2), 0.0, 2 * pi, generator)
        radius = uniform((n, 2), self.min_radius, self.max_radius, generator)
        return torch.stack([distance * angle.cos(), distance * angle.sin(), radius], dim=2)

    def allowed(self, balls: Tensor) -> Tensor:
        """Which pairs ``(n, 2, 3)`` stay inside the disk and apart from each other, ``(n,)``."""
        centre, radius = balls[..., :2], balls[..., 2]
        inside = (centre.norm(dim=2) + radius <= self.disk).all(dim=1)
        apart = (centre[:, 0] - centre[:, 1]).norm(dim=1) >= radius.sum(dim=1) + self.gap
        allowed: Tensor = inside & apart
        return allowed

    def render(self, balls: Tensor) -> Tensor:
        """Images ``(n, 1, 128, 128)`` of balls ``(n, 2, 3)``, edges shaded over one pixel."""
        x, y = (grid.to(balls) for grid in pixel_grid(self.size, self.size / 2))
        inside = torch.zeros((), dtype=balls.dtype)
        for i in range(2):  # the balls are disjoint, so their masks add
            cx, cy, radius = (balls[:, i, j, None, None] for j in range(3))
            inside = inside + (0.5 + radius - torch.hypot(x - cx, y - cy)).clamp(0, 1)
        conductivity = 1.0 + (self.conductivity - 1.0) * inside
        return ((conductivity - 0.2) / 1.6)[:, None]
