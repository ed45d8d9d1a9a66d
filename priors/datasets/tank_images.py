"""A water tank with one to three objects, each of them resistive or conductive."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.checks import as_generator
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform

TABLE = 256  # angles at which an outline is tabulated


@dataclass(frozen=True)
class TankImages(SquareImages):
    """Images of a round tank seen from above: water 0, resistive -1, conductive +1.

    The tank fills the image: it is the unit disk in ``[-1, 1]^2``. Every object is star-shaped, bounded by
    ``radius * outline(angle)`` with an outline of largest value one: a disk, an ellipse, a polygon (convex or
    not) or a smooth blob. Objects do not touch each other or the wall.

    Attributes:
        size: the image has ``size x size`` pixels.
        max_objects: there are 1 to ``max_objects`` objects, each number equally likely.
        min_radius: smallest bounding radius, in tank radii.
        max_radius: largest bounding radius, in tank radii.
        background: value of the water; objects are relative to it.
        gap: smallest distance between bounding circles, and to the wall, in tank radii.

    Example:
        >>> x, objects = TankImages().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, objects.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 3, 4]))
    """

    size: int = 64
    max_objects: int = 3
    min_radius: float = 0.18
    max_radius: float = 0.5
    gap: float = 0.03
    background: float = 0.0

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; objects ``(n, max_objects, 4)``: x, y, radius, sign.

        A sign of zero marks an object that is not there.
        """
        generator = as_generator(generator)
        objects = self._arrange(n, generator)
        outline = outlines(n * self.max_objects, generator).unflatten(0, (n, self.max_objects))
        return Examples(self.render(objects, outline), objects)

    def _arrange(self, n: int, generator: torch.Generator) -> Tensor:
        """Disjoint bounding circles and signs, by rejection within each number of objects."""
        count = torch.randint(1, self.max_objects + 1, (n,), generator=generator)
        objects = self._propose(count, generator)
        bad = (~self.allowed(objects)).nonzero().squeeze(1)
        while len(bad):
            objects[bad] = self._propose(count[bad], generator)
            bad = bad[~self.allowed(objects[bad])]
        return objects

    def _propose(self, count: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(count), self.max_objects)
        radius = uniform(shape, self.min_radius, self.max_radius, generator)
        distance = (1 - self.gap - radius) * torch.rand(shape, generator=generator).sqrt()
        angle = uniform(shape, 0.0, 2 * pi, generator)
        sign = 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
        sign = sign * (torch.arange(self.max_objects) < count[:, None])
        return torch.stack([distance * angle.cos(), distance * angle.sin(), radius, sign], dim=2)

    def allowed(self, objects: Tensor) -> Tensor:
        """Which arrangements ``(n, max_objects, 4)`` have no two circles that meet, ``(n,)``."""
        centre, radius, there = objects[..., :2], objects[..., 2], objects[..., 3] != 0
        distance = torch.cdist(centre, centre)
        apart = distance >= radius[:, :, None] + radius[:, None, :] + self.gap
        irrelevant = ~(there[:, :, None] & there[:, None, :])
        itself = torch.eye(self.max_objects, dtype=torch.bool)
        return (apart | irrelevant | itself).flatten(1).all(dim=1)

    def render(self, objects: Tensor, outline: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` of objects with outlines ``(n, max_objects, TABLE)``."""
        x, y = pixel_grid(self.size, 1.0)
        pixel = 2.0 / self.size
        image = torch.zeros(len(objects), self.size, self.size)
        for i in range(self.max_objects):
            cx, cy, radius, sign = (objects[:, i, j, None, None] for j in range(4))
            dx, dy = x - cx, y - cy
            edge = radius * _interpolate(outline[:, i], torch.atan2(dy, dx))
            image += sign * (0.5 + (edge - torch.hypot(dx, dy)) / pixel).clamp(0, 1)
        return image[:, None]


def _interpolate(table: Tensor, angle: Tensor) -> Tensor:
    """Values at angles ``(n, H, W)`` of the periodic functions tabulated in ``(n, TABLE)``."""
    position = (angle / (2 * pi) % 1.0) * TABLE
    left = position.floor()
    weight = position - left
    index = left.long().flatten(1) % TABLE
    low = table.gather(1, index).view_as(angle)
    high = table.gather(1, (index + 1) % TABLE).view_as(angle)
    return low + weight * (high - low)


def outlines(n: int, generator: torch.Generator) -> Tensor:
    """``n`` random outlines of largest value one, ``(n, TABLE)``, five families in equal parts."""
    theta = torch.arange(TABLE) * (2 * pi / TABLE) + uniform((n, 1), 0.0, 2 * pi, generator)
    families = torch.stack(
        [
            torch.ones(n, TABLE),
            _ellipses(theta, generator),
            _polygons(theta, 0.85, 6, generator),
            _polygons(theta, 0.4, 8, generator),
            blobs(theta, generator),
        ]
    )
    family = torch.randint(0, len(families), (n,), generator=generator)
    outline = families[family, torch.arange(n)]
    return outline / outline.amax(dim=1, keepdim=True)


def _ellipses(theta: Tensor, generator: torch.Generator) -> Tensor:
    ratio = uniform((len(theta), 1), 0.4, 1.0, generator)
    return ratio / torch.sqrt((ratio * theta.cos()) ** 2 + theta.sin() ** 2)


def _polygons(
    theta: Tensor, min_radius: float, max_corners: int, generator: torch.Generator
) -> Tensor:
    """Polygons with 3 (or 4) to ``max_corners`` corners at radii from ``min_radius`` to one."""
    n, least = len(theta), 3 if min_radius > 0.5 else 5
    corners = torch.randint(least, max_corners + 1, (n, 1), generator=generator)
    spacing = 2 * pi / corners
    slots = torch.arange(max_corners)
    angle = spacing * (slots + uniform((n, max_corners), 0.0, 0.36, generator))
    radius = uniform((n, max_corners), min_radius, 1.0, generator)
    turn, last = theta % (2 * pi), corners - 1
    passed = (turn[:, :, None] >= angle[:, None, :]) & (slots < corners)[:, None, :]
    before = passed.sum(dim=2) - 1
    turn = torch.where(before < 0, turn + 2 * pi, turn)  # on the edge that passes the angle 2 pi
    here = torch.where(before < 0, last, before)
    following = torch.where(here == last, 0, here + 1)
    start, end = angle.gather(1, here), angle.gather(1, following) + 2 * pi * (here == last)
    r, s = radius.gather(1, here), radius.gather(1, following)
    return (
        r * s * torch.sin(end - start) / (r * torch.sin(turn - start) + s * torch.sin(end - turn))
    )


def blobs(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Radii of smooth outlines at angles ``(n, m)``: exponentials of random Fourier series of order five."""
    order = torch.arange(1, 6)
    shape = (len(theta), 5, 1)
    spread = (0.35 / order**1.3)[:, None]
    cos, sin = (spread * torch.randn(shape, generator=generator) for _ in range(2))
    angle = order[:, None] * theta[:, None, :]
    return (cos * angle.cos() + sin * angle.sin()).sum(dim=1).clamp(-1.2, 1.2).exp()
