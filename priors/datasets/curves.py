"""Curves in the plane: few noisy points, drawn once, by which autoencoders are compared."""

from __future__ import annotations

from math import pi
from typing import ClassVar

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.priors.datasets.base import SPLITS, stream, uniform
from onmanifold.priors.datasets.finite import FiniteDataset, Part
from onmanifold.priors.datasets.points import NoisyPoints, distance_to_curve


class PlaneCurve(FiniteDataset, NoisyPoints):
    """A curve, and ``size`` noisy points of it to learn from; other splits have as many others.

    Split ``seeding`` sees the points to learn from. The curves are the toys of Lee, Kwon and Park, NeurIPS
    2021.

    Args:
        size: number of points in each split.
        noise: standard deviation of the noise on each coordinate.
        seed: which points.

    Example:
        >>> x, t = Sine().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, t.shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    x_shape = (2,)
    ends: ClassVar[tuple[float, float]]  # coordinates of the curve's ends

    def __init__(self, size: int, noise: float, seed: int) -> None:
        name = type(self).__name__
        check_count(size, f"{name}: size")
        if noise != 0:
            check_number(noise, f"{name}: noise")
        self.size, self.noise, self.seed = size, noise, seed
        super().__init__({split: self._drawn(split) for split in SPLITS})

    def _drawn(self, split: str) -> Part:
        generator = stream(self.seed, "train" if split == "seeding" else split)
        x, coordinates = NoisyPoints.sample(self, self.size, generator)
        return Part(x, coordinates.squeeze(1), replacement=split == "train")

    def distance(self, x: Tensor) -> Tensor:
        return distance_to_curve(x, self.points, self.ends)


class Sine(PlaneCurve):
    """Points ``(t, sin t)`` with much noise, t uniform: does a learned curve follow the noise?"""

    ends = (-pi, pi)

    def __init__(self, size: int = 50, noise: float = 0.3, seed: int = 0) -> None:
        super().__init__(size, noise, seed)

    def points(self, coordinates: Tensor) -> Tensor:
        return torch.cat([coordinates, coordinates.sin()], dim=1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return uniform((n, 1), *self.ends, generator)


class Spiral(PlaneCurve):
    """Points ``t (cos t, sin t) / (2 pi)``: does a learned curve jump from arm to arm, at distance one?"""

    ends = (pi, 3 * pi)

    def __init__(self, size: int = 200, noise: float = 0.03, seed: int = 0) -> None:
        super().__init__(size, noise, seed)

    def points(self, coordinates: Tensor) -> Tensor:
        circle = torch.cat([coordinates.cos(), coordinates.sin()], dim=1)
        return coordinates / (2 * pi) * circle

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        inner, outer = self.ends  # the length of the curve grows about as t^2
        return uniform((n, 1), inner**2, outer**2, generator).sqrt()
