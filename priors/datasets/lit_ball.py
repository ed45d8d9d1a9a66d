"""A coloured ball on a coloured table in the sun, with its shadow: images in colour."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.priors.datasets.base import Examples, pixel_grid
from onmanifold.priors.datasets.geodesic import GeodesicDataset, ball, check_eps

EYE = (0.0, -3.2, 2.6)  # the camera; it looks at the origin, the middle of the table
VIEW = 0.36  # tangent of half the angle of view
PALE = 0.25  # light that reaches shadows
SHADOW = 0.04  # half of the width of a shadow's edge, as a length
ROUND = 0.1  # how round a rim is, of the ball's radius squared: depth has no root of zero there
ELEVATION = pi / 4  # of the sun
# The coordinates: place on the table, radius, hues of ball and table, the sun's angle.
LEAST = (-0.5, -0.5, 0.2, 0.0, 0.0, -pi / 3)
MOST = (0.5, 0.5, 0.4, 1.0, 1.0, pi / 3)
SCALE = (1.0, 1.0, 2.5, 2.0, 2.0, 0.5)  # a unit of each is so long on the manifold
HUES = slice(3, 5)


@dataclass(frozen=True)
class LitBall(GeodesicDataset):
    """Images of a ball that lies on a table; the manifold is a product of two circles and four intervals.

    It is flat: hues are places on circles of length 2, and the other coordinates lengths, the radius 2.5
    times and the sun's angle half.

    The table is the plane ``z = 0``, the ball touches it. Sunlight is white. The table reflects it as
    Lambert's law says, the ball a little softer: ``((1 + cos) / 2)^2`` instead of the cosine where that is
    positive. A pinhole camera sees both from above the front edge. Edges are shaded over a pixel, and that of
    the shadow over a little more, so that images are smooth in all coordinates.

    Attributes:
        size: number of rows, and of columns.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> x, coordinates = LitBall().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 6]))
    """

    size: int = 64
    injectivity_radius = 1.0  # half the way around a circle of hues

    def __post_init__(self) -> None:
        check_count(self.size, "LitBall: size")

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one image, channels red, green, blue."""
        return (3, self.size, self.size)

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 3, size, size)`` in [0, 1]; coordinates ``(n, 6)``, uniform.

        They are the ball's place x and y and radius as lengths, hues of ball and table in [0, 1], and the
        angle of the sun to the left or right in radians.
        """
        coordinates = self._uniform(n, as_generator(generator))
        return Examples(self.render(coordinates), coordinates)

    def _uniform(self, n: int, generator: torch.Generator) -> Tensor:
        low, high = torch.tensor(LEAST), torch.tensor(MOST)
        return low + (high - low) * torch.rand((n, len(LEAST)), generator=generator)

    def pairs(self, n: int, eps: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` scenes and to each another one at most ``eps`` from it, both ``(n, 6)``."""
        check_eps(eps, self.injectivity_radius)
        a = self._uniform(n, generator)
        b = self._near(a, eps, generator)
        while len(outside := (~self._allowed(b)).nonzero().squeeze(1)):
            b[outside] = self._near(a[outside], eps, generator)
        return a, b

    def _near(self, a: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        return _turned(a + ball(len(a), len(SCALE), eps, generator) / torch.tensor(SCALE))

    def _allowed(self, coordinates: Tensor) -> Tensor:
        low, high = torch.tensor(LEAST), torch.tensor(MOST)
        return ((coordinates >= low) & (coordinates <= high)).all(dim=1)

    def distance_between(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of scenes ``(n, 6)`` on the manifold, ``(n,)``."""
        distance: Tensor = (_way(a, b) * torch.tensor(SCALE).to(a)).norm(dim=1)
        return distance

    def geodesic(self, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
        """Scene at share ``t`` of the way from ``a`` to ``b`` ``(n, 6)``."""
        return _turned(a + t * _way(a, b))

    def render(self, coordinates: Tensor) -> Tensor:
        """Images ``(n, 3, size, size)`` of scenes ``(n, 6)``, see :meth:`sample`."""
        eye, rays = (part.to(coordinates) for part in self._rays())
        at, radius, hue, ground, side = coordinates.split([2, 1, 1, 1, 1], dim=1)
        centre = torch.cat([at, radius], dim=1)  # it touches the table
        flat = torch.cos(torch.full_like(side, ELEVATION))
        sun = torch.cat([flat * side.sin(), -flat * side.cos(), (1 - flat.square()).sqrt()], dim=1)
        to_centre = centre - eye
        along = torch.einsum("hwi,ni->nhw", rays, to_centre)  # of the rays' points nearest to it
        beside = (to_centre.square().sum(dim=1)[:, None, None] - along.square()).clamp(min=0).sqrt()
        radius = radius[:, :, None]
        inner = radius.square() - beside.square()
        depth = ((inner + torch.hypot(inner, ROUND * radius.square())) / 2).sqrt()
        hit = eye + (along - depth)[..., None] * rays
        normal = (hit - centre[:, None, None]) / radius[..., None]
        facing = ((1 + torch.einsum("nhwi,ni->nhw", normal, sun)) / 2).square()
        pixel = 2 * VIEW / self.size * along  # its width where the ball is
        covered = torch.sigmoid(4 * (radius - beside) / pixel)[:, None]
        ball = _colour(hue) * (PALE + (1 - PALE) * facing)[:, None]
        table = eye - (eye[2] / rays[..., 2])[..., None] * rays
        light = sun[:, 2, None, None] * self._lit(table, centre, radius, sun)
        table_seen = 0.8 * _colour(ground) * (PALE + (1 - PALE) * light)[:, None]
        return table_seen + covered * (ball - table_seen)

    def _rays(self) -> tuple[Tensor, Tensor]:
        """The camera's place ``(3,)``, and unit vectors from it through the pixels ``(size, size, 3)``."""
        eye = torch.tensor(EYE)
        ahead = -eye / eye.norm()
        right = torch.tensor([1.0, 0.0, 0.0])
        x, y = pixel_grid(self.size, VIEW)
        rays = ahead + x[..., None] * right + y[..., None] * torch.linalg.cross(right, ahead)
        return eye, rays / rays.norm(dim=-1, keepdim=True)

    def _lit(self, point: Tensor, centre: Tensor, radius: Tensor, sun: Tensor) -> Tensor:
        """The share of the sun's light that passes the ball to points ``(H, W, 3)``, ``(n, H, W)``."""
        away = centre[:, None, None] - point
        ahead = torch.einsum("nhwi,ni->nhw", away, sun)
        beside = (away.square().sum(dim=-1) - ahead.square()).clamp(min=0).sqrt()
        return torch.sigmoid((beside - radius) / (SHADOW / 2))


def _turned(coordinates: Tensor) -> Tensor:
    """The same with hues from 0 to 1."""
    turned = coordinates.clone()
    turned[:, HUES] = torch.remainder(coordinates[:, HUES], 1.0)
    return turned


def _way(a: Tensor, b: Tensor) -> Tensor:
    """From one scene to another, the shorter way around the circles."""
    way = b - a
    way[:, HUES] = torch.remainder(way[:, HUES] + 0.5, 1.0) - 0.5
    return way


def _colour(hue: Tensor) -> Tensor:
    """Red, green and blue of hues ``(n, 1)`` on a circle of length 1, ``(n, 3, 1, 1)``."""
    phase = hue - torch.arange(3).to(hue) / 3
    return (0.55 + 0.4 * torch.cos(2 * pi * phase))[..., None, None]
