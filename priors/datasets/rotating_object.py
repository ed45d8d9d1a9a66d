"""A solid object that is turned in space: a manifold of dimension 3."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from onmanifold.checks import as_generator, check_count
from onmanifold.priors.datasets.base import Examples, SquareImages, pixel_grid
from onmanifold.priors.datasets.geodesic import (
    GeodesicDataset,
    ball,
    check_eps,
    sphere_angle,
    sphere_geodesic,
    unit,
)

# Balls: centre (3), radius, brightness. A body with three arms of different length, no two alike.
BALLS = (
    (0.00, 0.00, 0.00, 0.34, 0.45),
    (0.62, 0.05, 0.00, 0.24, 1.00),
    (-0.12, 0.50, 0.10, 0.22, 0.75),
    (-0.25, -0.20, 0.55, 0.26, 0.60),
    (0.30, -0.45, -0.25, 0.18, 0.90),
)
EDGE = 0.1  # width over which the brightness falls at the rim of a ball
DEPTH = 0.1  # one ball hides another that lies so much farther back


@dataclass(frozen=True)
class RotatingObject(SquareImages, GeodesicDataset):
    """Images of five shaded balls that are joined; the manifold is SO(3) (Braunsmann et al., 2024).

    Seen from afar along the third axis, in the square ``[-1, 1]^2``. Which ball is in front is decided
    softly, and rims are soft: the image is a smooth function of the rotation. The distance of two
    rotations is the angle of the rotation between them.

    Attributes:
        size: the image has ``size x size`` pixels.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> x, quaternion = RotatingObject().sample(2, torch.Generator().manual_seed(0))
        >>> x.shape, quaternion.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 4]))
    """

    size: int = 32
    injectivity_radius = pi  # half a turn

    def __post_init__(self) -> None:
        check_count(self.size, "RotatingObject: size")

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Examples:
        """Images ``(n, 1, size, size)``; coordinates ``(n, 4)``: unit quaternions, uniform rotations.

        A quaternion and its negative are the same rotation.
        """
        generator = as_generator(generator)
        quaternion = _quaternions(n, generator)
        return Examples(self.render(quaternion), quaternion)

    def pairs(self, n: int, eps: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` rotations and to each another one at most ``eps`` radians from it, both ``(n, 4)``."""
        check_eps(eps, self.injectivity_radius)
        a = _quaternions(n, generator)
        return a, product(quaternion_of(ball(n, 3, eps, generator)), a)

    def distance_between(self, a: Tensor, b: Tensor) -> Tensor:
        """Angle of the rotation from ``a`` to ``b`` ``(n, 4)``, radians, ``(n,)``."""
        return 2 * sphere_angle(a, _beside(a, b))

    def geodesic(self, a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
        """Rotation at share ``t`` of the way from ``a`` to ``b`` ``(n, 4)``."""
        return sphere_geodesic(a, _beside(a, b), t)

    def render(self, quaternion: Tensor) -> Tensor:
        """Images ``(n, 1, size, size)`` of the object turned by ``(n, 4)``."""
        balls = torch.tensor(BALLS).to(quaternion)
        radius, brightness = (balls[:, i, None, None] for i in (3, 4))
        centres = torch.einsum("nij,bj->nbi", rotation_matrix(quaternion), balls[:, :3])
        x, y = (grid.to(quaternion) for grid in pixel_grid(self.size, 1.0))
        cx, cy, cz = (centres[..., i, None, None] for i in range(3))
        away = ((x - cx).square() + (y - cy).square()) / radius.square()
        inside = 2 * (1 - away) * radius / EDGE
        # in front is what is higher: the ball's surface, as a paraboloid
        height = (cz + radius * (1 - away / 2)) / DEPTH
        front = torch.softmax(height + functional.logsigmoid(inside), dim=1)
        shade = brightness * torch.exp(-0.5 * away)
        seen = 1 - torch.sigmoid(-inside).prod(dim=1)
        image: Tensor = seen * (front * shade).sum(dim=1)
        return image[:, None]


def _quaternions(n: int, generator: torch.Generator) -> Tensor:
    return unit(torch.randn((n, 4), generator=generator))


def _beside(a: Tensor, b: Tensor) -> Tensor:
    """Of ``b`` and ``-b``, the same rotation, the one nearer to ``a``."""
    return torch.where((a * b).sum(dim=1, keepdim=True) < 0, -b, b)


def quaternion_of(vector: Tensor) -> Tensor:
    """Unit quaternions ``(n, 4)``, real part first, of rotations about axes by their length ``(n, 3)``."""
    angle = vector.norm(dim=1, keepdim=True)
    return torch.cat([(angle / 2).cos(), torch.sinc(angle / (2 * pi)) / 2 * vector], dim=1)


def product(p: Tensor, q: Tensor) -> Tensor:
    """Product of unit quaternions ``(n, 4)``: first turned by ``q``, then by ``p``."""
    real = p[:, :1] * q[:, :1] - (p[:, 1:] * q[:, 1:]).sum(dim=1, keepdim=True)
    rest = p[:, :1] * q[:, 1:] + q[:, :1] * p[:, 1:] + torch.linalg.cross(p[:, 1:], q[:, 1:])
    return unit(torch.cat([real, rest], dim=1))


def rotation_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices ``(n, 3, 3)`` of unit quaternions ``(n, 4)``."""
    w, x, y, z = quaternion.unbind(dim=1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
