"""Two disjoint balls in the unit disk: conductivities for electrical impedance tomography."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

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

    def distance(self, x: Tensor, chunk: int = 50) -> Tensor:
        """Distance of images ``(n, 1, 128, 128)`` to the nearest image of two balls, ``(n,)``.

        Levenberg-Marquardt over the six numbers of a pair, kept within the bounds, from the nearest of many
        pairs by coarse images. A local search: where several pairs compete it may miss the nearest.
        """
        known = self.sample(5000, torch.Generator().manual_seed(0))[1].to(x)
        coarse = torch.cat([_coarse(self.render(part)) for part in known.split(500)])
        found = []
        for part in x.split(chunk):
            nearest = torch.cdist(_coarse(part), coarse).topk(3, largest=False).indices
            fits = torch.stack([self._fit(part, known[start]) for start in nearest.T])
            found.append(fits.amin(dim=0))
        return torch.cat(found)

    def _fit(self, x: Tensor, balls: Tensor, steps: int = 20) -> Tensor:
        """How far images ``x`` are from those of pairs fitted from ``balls`` ``(n, 2, 3)``: ``(n,)``."""
        damping = x.new_full((len(x),), 1e-2)
        rest = (x - self.render(balls)).flatten(1)
        eye = torch.eye(6).to(x)
        for _ in range(steps):
            columns = self._derivatives(balls)
            normal = columns @ columns.mT
            scale = damping * normal.diagonal(dim1=1, dim2=2).mean(dim=1)
            normal = normal + scale[:, None, None] * eye
            move = torch.linalg.solve(normal, columns @ rest[:, :, None]).view(-1, 2, 3)
            tried = self._bounded(balls, move)
            tried_rest = (x - self.render(tried)).flatten(1)
            better = tried_rest.norm(dim=1) < rest.norm(dim=1)
            balls = torch.where(better[:, None, None], tried, balls)
            rest = torch.where(better[:, None], tried_rest, rest)
            damping = torch.where(better, damping / 3, damping * 4)
        distance: Tensor = rest.norm(dim=1)
        return distance

    def _bounded(self, balls: Tensor, move: Tensor) -> Tensor:
        """``balls + move``, as much of the move as the bounds allow."""
        share = balls.new_ones(len(balls), 1, 1)
        for _ in range(12):
            tried = balls + share * move
            tried[..., 2] = tried[..., 2].clamp(self.min_radius, self.max_radius)
            fine = self.allowed(tried) & (tried[..., :2].norm(dim=2) <= self.max_centre).all(dim=1)
            share = torch.where(fine[:, None, None], share, share / 2)
        return torch.where(fine[:, None, None], tried, balls)

    def _derivatives(self, balls: Tensor) -> Tensor:
        """Derivatives of images by centre and radius of both balls, ``(n, 6, size * size)``."""
        x, y = (grid.to(balls) for grid in pixel_grid(self.size, self.size / 2))
        columns = []
        for i in range(2):
            cx, cy, radius = (balls[:, i, j, None, None] for j in range(3))
            away = torch.hypot(x - cx, y - cy)
            rim = ((away - radius).abs() < 0.5) * (self.conductivity - 1.0) / 1.6
            columns += [rim * (x - cx) / away, rim * (y - cy) / away, rim]
        return torch.stack(columns, dim=1).flatten(2)

    def render(self, balls: Tensor) -> Tensor:
        """Images ``(n, 1, 128, 128)`` of balls ``(n, 2, 3)``, edges shaded over one pixel."""
        x, y = (grid.to(balls) for grid in pixel_grid(self.size, self.size / 2))
        inside = torch.zeros((), dtype=balls.dtype)
        for i in range(2):  # the balls are disjoint, so their masks add
            cx, cy, radius = (balls[:, i, j, None, None] for j in range(3))
            inside = inside + (0.5 + radius - torch.hypot(x - cx, y - cy)).clamp(0, 1)
        conductivity = 1.0 + (self.conductivity - 1.0) * inside
        return ((conductivity - 0.2) / 1.6)[:, None]


def _coarse(x: Tensor) -> Tensor:
    """Images averaged over 8 x 8 pixels, flat."""
    return functional.avg_pool2d(x, 8).flatten(1)
