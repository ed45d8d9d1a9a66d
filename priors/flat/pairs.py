"""Pairs of examples with their distance and a point between them: what a flat encoder learns from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onmanifold.errors import InputError
from onmanifold.priors.datasets.base import stream
from onmanifold.priors.datasets.geodesic import GeodesicDataset, check_eps

LANDMARKS = 500  # examples whose distances to all others say where those lie


class Pairs(NamedTuple):
    """N pairs of examples.

    Attributes:
        start: x, ``(N, *x_shape)``.
        end: y, ``(N, *x_shape)``.
        between: a point of the shortest way from x to y, ``(N, *x_shape)``.
        distance: length of that way, ``(N,)``.
        share: the share of it that lies between x and that point, ``(N,)``; 1/2 for the midpoint.
    """

    start: Tensor
    end: Tensor
    between: Tensor
    distance: Tensor
    share: Tensor


class GeodesicPairs:
    """Pairs of a data set whose distances and geodesics are known, by its own formulas.

    Args:
        data: the manifold.
        eps: largest distance.

    Raises:
        ValueError: ``eps`` is not positive or above the injectivity radius; or pairs on trial that are not
            what they should be: images of another shape than ``x_shape``, NaN, distances that are zero,
            above ``eps``, or not twice those to the midpoint.

    Example:
        >>> from onmanifold.priors.datasets import TorusDisk
        >>> pairs = GeodesicPairs(TorusDisk(), 0.5).draw(4, torch.Generator().manual_seed(0))
        >>> pairs.between.shape, bool((pairs.distance <= 0.5).all())
        (torch.Size([4, 1, 32, 32]), True)
    """

    def __init__(self, data: GeodesicDataset, eps: float) -> None:
        check_eps(eps, data.injectivity_radius)
        self.data, self.eps = data, eps
        self._check()
        self._marks = data.sample(LANDMARKS, stream(0, "seeding"))[1]

    def draw(self, n: int, generator: torch.Generator) -> Pairs:
        """``n`` random pairs."""
        a, b = self.data.pairs(n, self.eps, generator)
        distance = self.data.distance_between(a, b)
        x, y, middle = (self.data.render(c) for c in (a, b, self.data.average(a, b)))
        return Pairs(x, y, middle, distance, torch.full_like(distance, 0.5))

    @property
    def landmarks(self) -> Tensor:
        """Distances between landmarks, ``(L, L)``."""
        return self._to_landmarks(self._marks)

    def draw_far(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` random examples, and their distances to the landmarks, ``(n, L)``."""
        x, coordinates = self.data.sample(n, generator)
        return x, self._to_landmarks(coordinates)

    def _to_landmarks(self, coordinates: Tensor) -> Tensor:
        n, marks = len(coordinates), self._marks
        each = coordinates.repeat_interleave(len(marks), dim=0)
        every = marks.repeat(n, *(1 for _ in marks.shape[1:]))
        return self.data.distance_between(each, every).reshape(n, len(marks))

    def _check(self, n: int = 200) -> None:
        generator = torch.Generator().manual_seed(0)
        name = type(self.data).__name__
        for images in (self.draw(n, generator).start, self.data.sample(2, generator)[0]):
            if tuple(images.shape[1:]) != tuple(self.data.x_shape):
                raise InputError(
                    f"data: {name} makes images of shape {tuple(images.shape[1:])}, but its "
                    f"x_shape is {tuple(self.data.x_shape)}: they have to be the same"
                )
        a, b = self.data.pairs(n, self.eps, generator)
        distance = self.data.distance_between(a, b)
        middle = self.data.average(a, b)
        halves = torch.stack([self.data.distance_between(c, middle) for c in (a, b)])
        finite = (torch.isfinite(value).all() for value in (self.data.render(a), distance, halves))
        if not all(bool(each) for each in finite):
            raise InputError(f"data: images or distances of {name} hold NaN or infinite values")
        if bool((distance <= 0).any()):
            raise InputError(
                f"data: {name}.pairs gives pairs of zero distance; the ends of a pair have to differ"
            )
        rounding = 1e-3 * self.eps
        if bool((distance > self.eps + rounding).any()):
            raise InputError(
                f"data: {name}.pairs gives pairs {float(distance.max()):.4g} apart, eps is {self.eps:g}"
            )
        if bool(((halves - distance / 2).abs() > rounding).any()):
            raise InputError(
                f"data: {name}.average is not in the middle: half of distance_between from both ends"
            )
