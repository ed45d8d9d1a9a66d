"""A spiral in the plane whose arms are near each other."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.priors.datasets.base import uniform
from onmanifold.priors.datasets.plane_curve import PlaneCurve


class Spiral(PlaneCurve):
    """Points ``t (cos t, sin t) / (2 pi)``: a test of whether a learned curve jumps from arm to arm.

    Neighbouring arms are at distance one. The toy example of Lee, Kwon and Park, NeurIPS 2021.

    Args:
        size: number of points in each split.
        noise: standard deviation of the noise on each coordinate.
        seed: which points.
        turns: the angle t goes from half a turn to half a turn more than these.

    Example:
        >>> x, t = Spiral().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, t.shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    def __init__(
        self, size: int = 200, noise: float = 0.03, seed: int = 0, turns: float = 1.0
    ) -> None:
        super().__init__(size, noise, seed)
        check_number(turns, "Spiral: turns")
        self.turns = turns

    @property
    def ends(self) -> tuple[float, float]:
        return pi, pi + 2 * pi * self.turns

    def points(self, coordinates: Tensor) -> Tensor:
        circle = torch.cat([coordinates.cos(), coordinates.sin()], dim=1)
        return coordinates / (2 * pi) * circle

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        inner, outer = self.ends  # the length of the curve grows about as t^2
        return uniform((n, 1), inner**2, outer**2, generator).sqrt()
