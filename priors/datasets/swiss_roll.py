"""A rolled-up sheet in space."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.priors.datasets.base import NoisyPoints, uniform

_START, _END = 1.5 * pi, 4.5 * pi  # of the spiral, radians; its radius is its angle


@dataclass(frozen=True)
class SwissRoll(NoisyPoints):
    """Noisy points of the swiss roll, as scikit-learn's ``make_swiss_roll`` draws them.

    The sheet is ``(t cos t, y, t sin t)`` with t uniform from 1.5 pi to 4.5 pi and y from 0 to ``width``.

    Attributes:
        width: of the sheet.
        noise: standard deviation of the noise on each coordinate.

    Example:
        >>> x, coordinates = SwissRoll().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """

    width: float = 21.0
    noise: float = 0.05
    x_shape = (3,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Coordinates ``(n, 2)``: t and y."""
        t = uniform((n,), _START, _END, generator)
        return torch.stack([t, uniform((n,), 0.0, self.width, generator)], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, 3)`` at coordinates ``(n, 2)``."""
        t, y = coordinates.unbind(dim=1)
        return torch.stack([t * t.cos(), y, t * t.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, 3)`` to the sheet, ``(n,)``."""
        flat = x[:, [0, 2]]
        off_spiral = torch.cat([_to_spiral(part) for part in flat.split(1024)])
        off_side = torch.maximum(-x[:, 1], x[:, 1] - self.width).clamp(min=0)
        return torch.hypot(off_spiral, off_side)


def _to_spiral(flat: Tensor) -> Tensor:
    """Distance of points ``(n, 2)`` to the spiral: the nearest of many places, then Newton."""
    places = torch.linspace(_START, _END, 2000).to(flat)
    spiral = places[:, None] * torch.stack([places.cos(), places.sin()], dim=1)
    t = places[torch.cdist(flat, spiral).argmin(dim=1)]
    for _ in range(4):
        e = torch.stack([t.cos(), t.sin()], dim=1)
        normal = torch.stack([-e[:, 1], e[:, 0]], dim=1)
        rest = t[:, None] * e - flat
        first_derivative, second_derivative = e + t[:, None] * normal, 2 * normal - t[:, None] * e
        first, second = (
            (rest * first_derivative).sum(1),
            (first_derivative.square() + rest * second_derivative).sum(1),
        )
        t = (t - first / second.clamp(min=1e-6)).clamp(_START, _END)
    nearest = t[:, None] * torch.stack([t.cos(), t.sin()], dim=1)
    distance: Tensor = (flat - nearest).norm(dim=1)
    return distance
