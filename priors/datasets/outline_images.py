"""Outlines of single objects: simple shapes of one area, at any angle, as signed distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor

from onmanifold.checks import as_generator, check_count
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid, uniform
from onmanifold.priors.datasets.polygon import normalized, signed_distance, turned
from onmanifold.priors.datasets.tank_images import blobs

ROUND = 96  # corners of the polygons that stand for curved outlines


@dataclass(frozen=True)
class OutlineImages(SquareImages):
    """Images ``tanh(s)`` of the signed distance s to an outline, positive inside.

    A shape has area pi, so that lengths are measured in its equal-area radius, and its centroid is at the
    origin, the middle of the grid ``[-half_width, half_width]^2``. The distance is exact for polygons; curved
    outlines are polygons of about 100 corners. Classes (:data:`CLASSES`) are drawn evenly, and so are the
    families of each: round shapes, convex polygons, elongated, pointed, branched and notched ones. Each is
    turned by any angle.

    With 40 x 40 pixels the zero level of the bicubically interpolated image is within 0.01 of the outline
    along 96 % of it; the rest is corners.

    Attributes:
        size: the image has ``size x size`` pixels.

    Example:
        >>> x, coordinates = OutlineImages().sample(3, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([3, 1, 40, 40]), torch.Size([3, 2]))
    """

    size: int = 40
    half_width = 2.5  # of the grid, in equal-area radii
    reach = 2.4  # no point of a shape is farther from its centroid; longer ones are drawn anew

    def __post_init__(self) -> None:
        check_count(self.size, "OutlineImages: size")

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; ``(n, 2)``: number of the family, angle in radians."""
        generator = as_generator(generator)
        weights = torch.tensor([family.share for family in FAMILIES.values()])
        family = torch.multinomial(weights, n, replacement=True, generator=generator)
        angle = uniform((n,), 0.0, 2 * pi, generator)
        x = torch.empty(n, *self.x_shape)
        for number, name in enumerate(FAMILIES):
            rows = (family == number).nonzero().squeeze(1)
            x[rows] = self.render(turned(self.corners(name, len(rows), generator), angle[rows]))
        return Examples(x, torch.stack([family.to(angle), angle], dim=1))

    def corners(self, family: str, n: int, generator: torch.Generator) -> Tensor:
        """``n`` outlines of a family in its own position, polygons ``(n, K, 2)`` of area pi."""
        draw = FAMILIES[family].draw
        corners = normalized(draw(n, generator))
        while len(far := (corners.norm(dim=2).amax(dim=1) > self.reach).nonzero().squeeze(1)):
            corners[far] = normalized(draw(len(far), generator))
        return corners

    def weights(self, x: Tensor) -> Tensor:
        """What entries of images count in a loss, most near the outline: the shape of ``x``.

        0.05 + (1 - x^2)^2: with as many steps the symmetric difference falls by a fifth.
        """
        return 0.05 + (1 - x.square()).square()

    def render(self, corners: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` of polygons ``(n, K, 2)``."""
        points = torch.stack(pixel_grid(self.size, self.half_width), dim=2).view(-1, 2)
        return signed_distance(corners, points.to(corners)).tanh().view(-1, *self.x_shape)


_SQUARE = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def _points(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], dim=-1)


def _arc(n: int, start: Tensor | float, angle: Tensor | float, corners: int) -> Tensor:
    """Points of the unit circle, ``(n, corners, 2)``, from one angle over another; both are ``(n, 1)``."""
    theta = start + angle * torch.linspace(0, 1, corners).expand(n, -1)
    return _points(theta.cos(), theta.sin())


def _disks(n: int, generator: torch.Generator) -> Tensor:
    return _arc(n, 0.0, 2 * pi * (1 - 1 / ROUND), ROUND)


def _stretched(corners: Tensor, least: float, largest: float, generator: torch.Generator) -> Tensor:
    """Polygons ``(n, K, 2)``, longer in x by a factor that is uniform in its logarithm."""
    n = len(corners)
    x = least * (largest / least) ** uniform((n, 1), 0.0, 1.0, generator)
    return corners * _points(x, torch.ones(n, 1))


def _ellipses(n: int, generator: torch.Generator) -> Tensor:
    return _stretched(_disks(n, generator), 1.0, 2.5, generator)


def _long_ellipses(n: int, generator: torch.Generator) -> Tensor:
    return _stretched(_disks(n, generator), 2.5, 6.0, generator)


def _half_disks(n: int, generator: torch.Generator) -> Tensor:
    half = _arc(n, 0.0, pi, ROUND // 2)
    return half * _points(uniform((n, 1), 0.8, 1.25, generator), torch.ones(n, 1))


def _rectangles(n: int, generator: torch.Generator) -> Tensor:
    return _stretched(_SQUARE.expand(n, -1, -1), 1.0, 2.5, generator)


def _bars(n: int, generator: torch.Generator) -> Tensor:
    """Bars that are 2.5 to 6 times as long as wide."""
    return _stretched(_SQUARE.expand(n, -1, -1), 2.5, 6.0, generator)


def _tapered_bars(n: int, generator: torch.Generator) -> Tensor:
    """Bars whose one end is narrower, and bent by up to 40 degrees in the middle."""
    along = torch.tensor([1.0, 0.0, -1.0]).expand(n, -1)
    narrow = uniform((n, 1), 0.3, 1.0, generator)
    half = torch.cat([narrow, (1 + narrow) / 2, torch.ones(n, 1)], dim=1)
    half = half / uniform((n, 1), 2.5, 5.0, generator)
    bend = uniform((n, 1), 0.0, 0.36, generator) * (along.square() - 0.5)
    upper, lower = _points(along, bend + half), _points(along, bend - half)
    return torch.cat([upper, lower.flip(1)], dim=1)


def _polygons(n: int, fewest: int, most: int, inner: float, generator: torch.Generator) -> Tensor:
    """``fewest`` to ``most`` corners at random angles, at radii from ``inner`` to one."""
    count = torch.randint(fewest, most + 1, (n, 1), generator=generator)
    gap = uniform((n, most), 0.4, 1.0, generator) * (torch.arange(most) < count)
    theta = 2 * pi * (gap / gap.sum(dim=1, keepdim=True)).cumsum(dim=1)
    radius = uniform((n, most), inner, 1.0, generator)
    last = radius.gather(1, count - 1)
    radius = torch.where(torch.arange(most) < count, radius, last)  # the last corner, repeated
    return _points(radius * theta.cos(), radius * theta.sin())


def _convex_polygons(n: int, generator: torch.Generator) -> Tensor:
    return _stretched(_polygons(n, 3, 8, 1.0, generator), 1.0, 1.8, generator)


def _star_polygons(n: int, generator: torch.Generator) -> Tensor:
    return _polygons(n, 5, 9, 0.4, generator)


def _acute_triangles(n: int, generator: torch.Generator) -> Tensor:
    """A base of width 1, and an apex of about 15 to 60 degrees over any place of it."""
    height = uniform((n,), 0.9, 3.5, generator)
    apex = uniform((n,), -0.5, 0.5, generator)
    zero = 0 * apex
    return _points(
        torch.stack([zero - 0.5, zero + 0.5, apex], 1), torch.stack([zero, zero, height], 1)
    )


def _drops(n: int, generator: torch.Generator) -> Tensor:
    """A disk and its tangents from a point, 1.3 to 3.5 radii away."""
    away = uniform((n, 1), 1.3, 3.5, generator)
    touching = (1 / away).acos()
    round_part = _arc(n, touching, 2 * pi - 2 * touching, ROUND)
    return torch.cat([_points(away, 0 * away), round_part], dim=1)


def _rays(n: int, generator: torch.Generator) -> Tensor:
    """Two to four points of length 0.6 to 1, at uneven angles; between them radii of 0.15 to 0.45."""
    most = 4
    count = torch.randint(2, most + 1, (n, 1), generator=generator)
    there = torch.arange(most) < count
    gap = uniform((n, most), 0.7, 1.0, generator) * there
    end = 2 * pi * (gap / gap.sum(dim=1, keepdim=True)).cumsum(dim=1)
    middle = end - pi * gap / gap.sum(dim=1, keepdim=True)
    tip, inner = uniform((n, most), 0.6, 1.0, generator), uniform((n, most), 0.15, 0.45, generator)
    last = tip.gather(1, count - 1)  # the last point, repeated
    inner, tip = torch.where(there, inner, last), torch.where(there, tip, last)
    theta, radius = (
        torch.stack([middle, end], 2).flatten(1),
        torch.stack([inner, tip], 2).flatten(1),
    )
    return _points(radius * theta.cos(), radius * theta.sin())


def _crosses(n: int, generator: torch.Generator) -> Tensor:
    """Two bars across each other: half-lengths 1 and b, half-widths u and v."""
    b = uniform((n,), 0.65, 1.0, generator)
    u, v = uniform((2, n), 0.16, 0.4, generator)
    x = torch.stack([0 * b + 1, v, v, -v, -v, 0 * b - 1, 0 * b - 1, -v, -v, v, v, 0 * b + 1], dim=1)
    y = torch.stack([u, u, b, b, u, u, -u, -u, -b, -b, -u, -u], dim=1)
    return _points(x, y)


def _ells(n: int, generator: torch.Generator) -> Tensor:
    """An L of lengths 1 and b, widths u and v."""
    b = uniform((n,), 0.6, 1.0, generator)
    u, v = uniform((2, n), 0.22, 0.5, generator)
    zero, one = 0 * b, 0 * b + 1
    x = torch.stack([zero, one, one, v, v, zero], dim=1)
    y = torch.stack([zero, zero, u * b, u * b, b, b], dim=1)
    return _points(x, y)


def _tees(n: int, generator: torch.Generator) -> Tensor:
    """A T with a bar of width 2 and height u on a stem of half-width v down to -b."""
    b = uniform((n,), 0.7, 1.6, generator)
    u, v = uniform((2, n), 0.35, 0.8, generator)
    v = v / 2
    zero, one = 0 * b, 0 * b + 1
    x = torch.stack([one, -one, -one, -v, -v, v, v, one], dim=1)
    y = torch.stack([u, u, zero, zero, -b, -b, zero, zero], dim=1)
    return _points(x, y)


def _ring_segments(n: int, generator: torch.Generator) -> Tensor:
    """Outer radius 1, inner radius 0.35 to 0.7, over 60 to 270 degrees."""
    angle = uniform((n, 1), pi / 3, 3 * pi / 2, generator)
    outer = _arc(n, 0.0, angle, ROUND // 2)
    return torch.cat([outer, uniform((n, 1, 1), 0.35, 0.7, generator) * outer.flip(1)], dim=1)


def _limbed(n: int, ends: tuple[float, float], most: int, generator: torch.Generator) -> Tensor:
    """Ellipses with 1 to ``most`` strips that reach from their outline to a distance of the middle.

    A strip is added where its end lies beyond the outline, else cut out.
    """
    count = torch.randint(1, most + 1, (n, 1), generator=generator)
    there = torch.arange(most) < count
    place = uniform((n, most), -0.2, 0.2, generator)
    middle = 2 * pi * (torch.arange(most) + place) / count
    half = uniform((n, most), 0.1, 0.22, generator)
    end = uniform((n, most), *ends, generator)
    long, turn = uniform((n, 1), 1.0, 1.4, generator), uniform((n, 1), 0.0, pi, generator)

    def outline(theta: Tensor) -> Tensor:
        across = (
            long.square() * (theta - turn).sin().square() + (theta - turn).cos().square() / long**2
        )
        return across.rsqrt()

    turn_by = (half / outline(middle)).asin()
    around = (
        2 * pi + (middle - turn_by)[:, :1]
    )  # where the first strip begins again: others end there
    start = torch.where(there, middle - turn_by, around)
    stop = torch.where(there, middle + turn_by, around)
    following = torch.cat([start[:, 1:], around], dim=1)
    along, across = _points(middle.cos(), middle.sin()), _points(-middle.sin(), middle.cos())
    t = torch.linspace(0, 1, ROUND // most)
    corners = []
    for k in range(most):
        theta = torch.lerp(stop[:, k, None], following[:, k, None], t)
        arc = outline(theta)[..., None] * _points(theta.cos(), theta.sin())
        tip, wide = end[:, k, None] * along[:, k], half[:, k, None] * across[:, k]
        strip = torch.stack([tip - wide, tip + wide], dim=1)
        corners += [torch.where(there[:, k, None, None], strip, arc[:, :1]), arc]
    return torch.cat(corners, dim=1)


def _with_appendages(n: int, generator: torch.Generator) -> Tensor:
    return _limbed(n, (1.5, 2.6), 3, generator)


def _notched(n: int, generator: torch.Generator) -> Tensor:
    return _limbed(n, (-0.4, 0.6), 1, generator)


def _notched_twice(n: int, generator: torch.Generator) -> Tensor:
    return _limbed(n, (0.25, 0.7), 2, generator)


def _blobs(n: int, generator: torch.Generator) -> Tensor:
    theta = torch.arange(ROUND) * (2 * pi / ROUND)
    return blobs(theta.expand(n, -1), generator)[:, :, None] * _points(theta.cos(), theta.sin())


Draw = Callable[[int, torch.Generator], Tensor]
CLASSES: dict[str, dict[str, Draw]] = {
    "round": {"disk": _disks, "ellipse": _ellipses, "half disk": _half_disks, "blob": _blobs},
    "polygon": {"rectangle": _rectangles, "convex polygon": _convex_polygons},
    "elongated": {"long ellipse": _long_ellipses, "bar": _bars, "tapered bar": _tapered_bars},
    "pointed": {
        "star polygon": _star_polygons,
        "acute triangle": _acute_triangles,
        "drop": _drops,
        "rays": _rays,
    },
    "branched": {"cross": _crosses, "L": _ells, "T": _tees, "appendages": _with_appendages},
    "notched": {"ring segment": _ring_segments, "notch": _notched, "two notches": _notched_twice},
}
"""What draws the outlines ``(n, K, 2)`` of each family, by class of shapes."""


class Family(NamedTuple):
    """Shapes of one make."""

    share: float  # among the examples
    draw: Draw


FAMILIES = {
    name: Family(1 / (len(CLASSES) * len(members)), draw)
    for members in CLASSES.values()
    for name, draw in members.items()
}
"""All families: classes have the same share, and so have the families of a class."""
