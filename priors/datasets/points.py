"""Manifolds in the plane and in space, as noisy points that are evenly spread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from onmanifold.autodiff import jvp
from onmanifold.checks import as_generator
from onmanifold.errors import InputError
from onmanifold.priors.datasets.base import Examples, check_numbers, uniform


class NoisyPoints(ABC):
    """Points of a manifold in R^m, with normal noise on each coordinate.

    Attributes:
        noise: standard deviation of the noise.

    Example:
        >>> x, coordinates = Sphere().sample(5, torch.Generator().manual_seed(0))
        >>> x.shape, coordinates.shape
        (torch.Size([5, 3]), torch.Size([5, 2]))
    """

    x_shape: tuple[int, ...]
    noise: float

    def __post_init__(self) -> None:
        check_numbers(self)

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Intrinsic coordinates ``(n, ...)`` of points that are spread evenly."""

    @abstractmethod
    def points(self, coordinates: Tensor) -> Tensor:
        """The noise-free points ``(n, m)`` at some coordinates."""

    @abstractmethod
    def distance(self, x: Tensor) -> Tensor:
        """Distance of points ``(n, m)`` to the manifold, ``(n,)``."""

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """``n`` noisy points ``(n, m)``, and their coordinates."""
        generator = as_generator(generator)
        coordinates = self.draw(n, generator)
        noise = self.noise * torch.randn((n, *self.x_shape), generator=generator)
        return Examples(self.points(coordinates) + noise, coordinates)


@dataclass(frozen=True)
class TwoCircles(NoisyPoints):
    """Two circles in the plane: the smallest manifold that no single chart covers.

    Coordinates are the circle (0 or 1) and the angle in radians. Source: Alberti et al., JMLR 2024, section
    5, as for the ring, the sphere and the torus.

    Attributes:
        radius: radius of both circles.
        offset: their centres are ``(-offset, 0)`` and ``(offset, 0)``.
    """

    radius: float = 1.0
    offset: float = 1.5
    noise: float = 0.01
    x_shape = (2,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        circle = torch.randint(0, 2, (n,), generator=generator).float()
        angle = uniform((n,), 0.0, 2 * pi, generator)
        return torch.stack([circle, angle], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        circle, angle = coordinates.unbind(dim=1)
        centre = (2 * circle - 1) * self.offset
        x = centre + self.radius * angle.cos()
        return torch.stack([x, self.radius * angle.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        to_circles = [
            (torch.hypot(x[:, 0] - centre, x[:, 1]) - self.radius).abs()
            for centre in (-self.offset, self.offset)
        ]
        return torch.minimum(*to_circles)


@dataclass(frozen=True)
class Ring(NoisyPoints):
    """The part of the plane between two circles: two-dimensional, with a hole.

    Coordinates are the radius and the angle in radians. Source: see :class:`TwoCircles`.

    Attributes:
        inner: radius of the hole.
        outer: radius of the ring.
    """

    inner: float = 0.5
    outer: float = 1.5
    noise: float = 0.01
    x_shape = (2,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.inner < self.outer:
            raise InputError(f"Ring: inner {self.inner} has to be below outer {self.outer}")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        radius = uniform((n,), self.inner**2, self.outer**2, generator).sqrt()
        return torch.stack([radius, uniform((n,), 0.0, 2 * pi, generator)], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        radius, angle = coordinates.unbind(dim=1)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        radius = x.norm(dim=1)
        return torch.maximum(self.inner - radius, radius - self.outer).clamp(min=0)


@dataclass(frozen=True)
class Sphere(NoisyPoints):
    """The sphere in space: no single chart covers it.

    Coordinates are the angles from the north pole and around it, radians. Source: see :class:`TwoCircles`.

    Attributes:
        radius: radius of the sphere.
    """

    radius: float = 1.0
    noise: float = 0.01
    x_shape = (3,)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        x, y, z = torch.randn((n, 3), generator=generator).unbind(dim=1)
        return torch.stack([torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        polar, around = coordinates.unbind(dim=1)
        flat = self.radius * polar.sin()
        z = self.radius * polar.cos()
        return torch.stack([flat * around.cos(), flat * around.sin(), z], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        distance: Tensor = (x.norm(dim=1) - self.radius).abs()
        return distance


@dataclass(frozen=True)
class Torus(NoisyPoints):
    """The torus around the z axis, in space.

    Coordinates are the angles around the axis and around the tube, radians. Source: see :class:`TwoCircles`.

    Attributes:
        major: radius of the circle inside the tube.
        minor: radius of the tube.
    """

    major: float = 3.0
    minor: float = 1.0
    noise: float = 0.01
    x_shape = (3,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.minor <= self.major:
            raise InputError(f"Torus: minor {self.minor} has to be at most major {self.major}")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        tube = torch.empty(0)
        while len(tube) < n:  # the surface is larger outside: rejection
            angle = uniform((2 * n + 8,), 0.0, 2 * pi, generator)
            height = uniform((2 * n + 8,), 0.0, self.major + self.minor, generator)
            tube = torch.cat([tube, angle[height < self.major + self.minor * angle.cos()]])
        return torch.stack([uniform((n,), 0.0, 2 * pi, generator), tube[:n]], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        around, tube = coordinates.unbind(dim=1)
        flat = self.major + self.minor * tube.cos()
        z = self.minor * tube.sin()
        return torch.stack([flat * around.cos(), flat * around.sin(), z], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        to_circle = torch.hypot(torch.hypot(x[:, 0], x[:, 1]) - self.major, x[:, 2])
        return (to_circle - self.minor).abs()


@dataclass(frozen=True)
class SwissRoll(NoisyPoints):
    """The swiss roll, a rolled-up sheet in space, as scikit-learn's ``make_swiss_roll`` draws it.

    The sheet is ``(t cos t, y, t sin t)`` with t uniform from 1.5 pi to 4.5 pi and y from 0 to ``width``, its
    coordinates.

    Attributes:
        width: of the sheet.
    """

    width: float = 21.0
    noise: float = 0.05
    x_shape = (3,)
    ends = 1.5 * pi, 4.5 * pi

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        t = uniform((n,), *self.ends, generator)
        return torch.stack([t, uniform((n,), 0.0, self.width, generator)], dim=1)

    def points(self, coordinates: Tensor) -> Tensor:
        t, y = coordinates.unbind(dim=1)
        return torch.stack([t * t.cos(), y, t * t.sin()], dim=1)

    def distance(self, x: Tensor) -> Tensor:
        def spiral(t: Tensor) -> Tensor:
            return t * torch.cat([t.cos(), t.sin()], dim=1)

        off_spiral = distance_to_curve(x[:, [0, 2]], spiral, self.ends)
        off_side = torch.maximum(-x[:, 1], x[:, 1] - self.width).clamp(min=0)
        return torch.hypot(off_spiral, off_side)


def distance_to_curve(
    x: Tensor, curve: Callable[[Tensor], Tensor], ends: tuple[float, float], chunk: int = 1000
) -> Tensor:
    """Distance of points ``(n, m)`` to a curve, ``(n,)``: to the nearest of many places, then Newton steps.

    Args:
        x: the points.
        curve: smooth, parameters ``(n, 1)`` to points.
        ends: its first and its last parameter.
        chunk: points whose distances to all places are computed at once.
    """
    places = torch.linspace(*ends, 4001).to(x)[:, None]
    known = curve(places)
    t = torch.cat([places[torch.cdist(part, known).argmin(dim=1)] for part in x.split(chunk)])
    along = torch.ones_like(t)
    for _ in range(4):
        both, change = jvp(lambda s: torch.stack(jvp(curve, s, along)), t, along)
        (here, slope), bend = both, change[1]
        first = ((here - x) * slope).sum(dim=1, keepdim=True)
        second = (slope.square() + (here - x) * bend).sum(dim=1, keepdim=True)
        t = (t - first / second.clamp(min=1e-6)).clamp(*ends)
    distance: Tensor = (curve(t) - x).norm(dim=1)
    return distance
