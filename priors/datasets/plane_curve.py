"""Noisy points of a curve in the plane: a finite set, drawn once."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.priors.datasets.base import NoisyPoints, stream
from onmanifold.priors.datasets.finite import FiniteDataset, Part

SEGMENTS = 4000  # straight pieces of the curve that distances are measured to


class PlaneCurve(FiniteDataset, NoisyPoints):
    """A curve, and ``size`` noisy points of it to learn from; other splits have as many others.

    Args:
        size: number of points in each split.
        noise: standard deviation of the noise on each coordinate.
        seed: which points.
    """

    x_shape = (2,)

    def __init__(self, size: int, noise: float, seed: int) -> None:
        name = type(self).__name__
        check_count(size, f"{name}: size")
        if noise != 0:
            check_number(noise, f"{name}: noise")
        self.size, self.noise, self.seed = size, noise, seed

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """Coordinates of the curve's ends."""

    def _part(self, split: str) -> Part:
        """Split ``seeding`` sees the points to learn from."""
        generator = stream(self.seed, "train" if split == "seeding" else split)
        x, coordinates = NoisyPoints.sample(self, self.size, generator)
        return Part(x, coordinates.squeeze(1), replacement=split == "train")

    def distance(self, x: Tensor, chunk: int = 500) -> Tensor:
        """Distance of points ``(n, 2)`` to the curve, ``(n,)``, to a millionth of its size."""
        coordinates = torch.linspace(*self.ends, SEGMENTS + 1, dtype=x.dtype, device=x.device)
        corners = self.points(coordinates[:, None])
        start, along = corners[:-1], corners.diff(dim=0)
        found = []
        for part in x.split(chunk):
            share = (part[:, None] - start).mul(along).sum(dim=2) / along.square().sum(dim=1)
            nearest = start + share.clamp(0, 1)[:, :, None] * along
            found.append((part[:, None] - nearest).norm(dim=2).amin(dim=1))
        return torch.cat(found)
