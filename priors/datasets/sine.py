"""A sine curve in the plane, under much noise."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.priors.datasets.base import uniform
from onmanifold.priors.datasets.plane_curve import PlaneCurve


class Sine(PlaneCurve):
    """Points ``(t, sin t)`` with noise: a test of whether a learned curve follows noise.

    The toy example of Lee, Kwon and Park, NeurIPS 2021.

    Args:
        size: number of points in each split.
        noise: standard deviation of the noise on each coordinate.
        seed: which points.
        periods: of the sine; t is uniform, and zero in the middle.

    Example:
        >>> x, t = Sine().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, t.shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    def __init__(
        self, size: int = 50, noise: float = 0.3, seed: int = 0, periods: float = 1.0
    ) -> None:
        super().__init__(size, noise, seed)
        check_number(periods, "Sine: periods")
        self.periods = periods

    @property
    def ends(self) -> tuple[float, float]:
        return -pi * self.periods, pi * self.periods

    def points(self, coordinates: Tensor) -> Tensor:
        return torch.cat([coordinates, coordinates.sin()], dim=1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return uniform((n, 1), *self.ends, generator)
