"""Where the rays of a tomograph run.

The image lies in the plane, x to the right and y up, its centre at the origin, row 0 on top. Angles turn
counterclockwise. At angle 0 the beam comes from above; the number of a detector pixel rises to the right.
Lengths are in any unit, the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError
from onmanifold.tensors import real_array

Array = NDArray[np.float64]
_MOST = 10**8  # rays of one beam


class Beam(Protocol):
    """A set of rays, a line for each angle and detector pixel."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of angles and of detector pixels."""
        ...

    def rays(self) -> tuple[Array, Array]:
        """A point of each ray and its direction of length 1, each ``(angles, detectors, 2)``."""
        ...


@dataclass(frozen=True, eq=False)
class ParallelBeam:
    """Parallel rays.

    Args:
        angles: of the projections, degrees; any, in any order.
        detectors: number of detector pixels.
        spacing: distance of their centres.
        offset: of the detector's middle from the origin, along the detector.

    Raises:
        ValueError: no angles, or such as are not finite; no detectors; a spacing that is not positive.

    Example:
        >>> points, directions = ParallelBeam(angles=[0, 90], detectors=3).rays()
        >>> points[0, :, 0]  # x, from left to right
        array([-1.,  0.,  1.])
    """

    angles: ArrayLike
    detectors: int
    spacing: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        angles, detectors = check_rays(self.angles, self.detectors)
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "detectors", detectors)
        check_number(self.spacing, "spacing")
        check_number(self.offset, "offset", low=-np.inf)

    @property
    def shape(self) -> tuple[int, int]:
        return len(np.asarray(self.angles)), self.detectors

    def rays(self) -> tuple[Array, Array]:
        along, down = axes_of(np.asarray(self.angles))
        t = self.offset + centres(self.detectors, self.spacing)
        points = t[:, None] * along[:, None]
        return points, np.broadcast_to(down[:, None], points.shape)


@dataclass(frozen=True, eq=False)
class FanBeam:
    """Rays from a point source to a flat detector; both turn around the origin.

    Args:
        angles: of the projections, degrees; any, in any order.
        detectors: number of detector pixels.
        spacing: distance of their centres, on the detector.
        source_origin: distance from the source to the origin.
        source_detector: distance from the source to the detector.
        offset: of the detector's middle from the line through source and origin, along the detector.

    Raises:
        ValueError: as for :class:`ParallelBeam`, or a detector that is nearer to the source than the origin.

    Example:
        >>> FanBeam([0.0], 3, spacing=1.0, source_origin=10.0, source_detector=20.0).rays()[0][0, 0]
        array([-0., 10.])
    """

    angles: ArrayLike
    detectors: int
    spacing: float
    source_origin: float
    source_detector: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        angles, detectors = check_rays(self.angles, self.detectors)
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "detectors", detectors)
        check_number(self.spacing, "spacing")
        check_number(self.offset, "offset", low=-np.inf)
        check_number(self.source_origin, "source_origin")
        if not check_number(self.source_detector, "source_detector") >= self.source_origin:
            raise InputError(
                f"source_detector {self.source_detector:g} is less than source_origin "
                f"{self.source_origin:g}: both are measured from the source, and the object stands between"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return len(np.asarray(self.angles)), self.detectors

    def rays(self) -> tuple[Array, Array]:
        along, down = axes_of(np.asarray(self.angles))
        t = self.offset + centres(self.detectors, self.spacing)
        to_detector = self.source_detector * down[:, None] + t[:, None] * along[:, None]
        direction = to_detector / np.linalg.norm(to_detector, axis=2, keepdims=True)
        source = -self.source_origin * down[:, None]
        return np.broadcast_to(source, direction.shape), direction


def check_rays(angles: ArrayLike, detectors: object) -> tuple[Array, int]:
    """Angles in degrees, and the number of detector pixels; else raise."""
    found, count = check_angles(angles), check_count(detectors, "detectors")
    if len(found) * count > _MOST:
        raise InputError(
            f"{len(found)} angles of {count} detectors are {len(found) * count:.3g} rays, more than "
            f"{_MOST:.0e}"
        )
    return found, count


def check_angles(angles: ArrayLike) -> Array:
    """Angles in degrees as an array ``(n,)``; else raise."""
    array = np.asarray(real_array(angles, "angles"), np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InputError(
            f"angles have to be a list of at least one, in degrees; got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InputError(f"angles hold {int((~np.isfinite(array)).sum())} NaN or infinite entries")
    return array


def axes_of(degrees: Array) -> tuple[Array, Array]:
    """The direction along the detector, and that of the beam, for each angle: ``(n, 2)`` each."""
    a = np.deg2rad(degrees)
    along = np.stack([np.cos(a), np.sin(a)], axis=1)
    return along, np.stack([np.sin(a), -np.cos(a)], axis=1)


def centres(count: int, spacing: float) -> Array:
    """Centres of detector pixels about 0."""
    return np.asarray(spacing * (np.arange(count) - (count - 1) / 2), np.float64)
