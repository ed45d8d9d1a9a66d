"""A bar through the image's centre, turned by any angle: a circle of images."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform


@dataclass(frozen=True)
class Bar(SquareImages):
    """Images of a bright bar (Alberti et al., JMLR 2024, section 6.1).

    Attributes:
        size: the image has ``size x size`` pixels.
        length: length of the bar, in pixels.
        width: width of the bar, in pixels.
        background: value around the bar.
        value: value inside it.

    Example:
        >>> x, angle = Bar(size=32, length=20, width=4).sample(3, torch.Generator().manual_seed(0))
        >>> x.shape, angle.shape
        (torch.Size([3, 1, 32, 32]), torch.Size([3, 1]))
    """

    size: int = 128
    length: float = 50.0
    width: float = 10.0
    background: float = 0.5
    value: float = 0.75

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; coordinates ``(n, 1)``: angle in radians."""
        generator = as_generator(generator)
        angle = uniform((n, 1), 0.0, 2 * pi, generator)
        return Examples(self.render(angle), angle)

    def render(self, angle: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` of bars at angles ``(n, 1)``, counterclockwise from x.

        Pixels on the edge are shaded by how far the edge is: the image varies continuously with the angle.
        """
        x, y = (grid.to(angle) for grid in pixel_grid(self.size, self.size / 2))
        cos, sin = angle[:, :, None].cos(), angle[:, :, None].sin()
        along, across = cos * x + sin * y, cos * y - sin * x
        inside = (0.5 + self.length / 2 - along.abs()).clamp(0, 1)
        inside = inside * (0.5 + self.width / 2 - across.abs()).clamp(0, 1)
        return (self.background + (self.value - self.background) * inside)[:, None]
