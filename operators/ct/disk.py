"""A disk of one material in a fan beam: its attenuation, and where it is, from its own line integrals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from onmanifold.errors import InputError
from onmanifold.operators.ct.geometry import Beam
from onmanifold.operators.ct.sinogram import Sinogram

Array = NDArray[np.float64]
_AIR = 0.15  # line integrals below are air, or next to the rim
_RIM = 0.07  # share of the radius at whose rays the disk is measured: no hole is expected there
_BEYOND = 0.03  # the same outside
_FEWEST = 8  # pixels of air on both sides together


@dataclass(frozen=True)
class Attenuation:
    """Line integrals of a material in a beam that hardens: ``s = mu l - h l^2`` at length l.

    Attributes:
        mu: attenuation, 1/mm.
        hardening: h, 1/mm^2.

    Example:
        >>> acrylic = Attenuation(0.045, 2e-4)
        >>> s = acrylic(np.array([10.0, 20.0]))
        >>> s.round(3), acrylic.length(s).round(3)
        (array([0.43, 0.82]), array([10., 20.]))
    """

    mu: float
    hardening: float

    def __call__(self, length: Array) -> Array:
        """The line integral at lengths in mm."""
        return length * (self.mu - self.hardening * length)

    def length(self, values: Array) -> Array:
        """The inverse, mm; the longest length that the curve allows beyond its top."""
        root = np.sqrt(np.maximum(self.mu**2 - 4 * self.hardening * np.asarray(values), 0.0))
        return np.asarray(2 * np.asarray(values) / (self.mu + root))


@dataclass(frozen=True)
class Disk:
    """A disk in the plane of a beam.

    Attributes:
        centre: x to the right and y up, mm, from the centre of rotation.
        radius: mm.
    """

    centre: tuple[float, float]
    radius: float

    def chords(self, beam: Beam) -> Array:
        """The length of each ray within the disk, mm."""
        away = distances(beam, self.centre)
        return np.asarray(2 * np.sqrt(np.maximum(self.radius**2 - away**2, 0.0)))


@dataclass(frozen=True, eq=False)
class SeenFromDisk:
    """The rays of a beam as a disk sees them: its centre is the origin, its radius is 1.

    Attributes:
        beam: the rays, in mm.
        disk: where it is.
    """

    beam: Beam
    disk: Disk

    @property
    def shape(self) -> tuple[int, int]:
        return self.beam.shape

    def rays(self) -> tuple[Array, Array]:
        points, directions = self.beam.rays()
        away = distances(self.beam, self.disk.centre) / self.disk.radius
        along = np.stack([-directions[..., 1], directions[..., 0]], axis=2)
        return away[..., None] * along, directions


def distances(beam: Beam, centre: tuple[float, float]) -> Array:
    """Distance of each ray from a point, positive where the detector's numbers rise, mm."""
    points, directions = beam.rays()
    to = np.asarray(centre) - points
    apart: Array = to[..., 0] * directions[..., 1] - to[..., 1] * directions[..., 0]
    return apart


def without_air(data: Sinogram) -> Sinogram:
    """The sinogram with each view's mean in air subtracted: the source's power varies a little.

    Raises:
        ValueError: no view shows air beside the disk: it leaves the field of view.
    """
    air = _outside(data)
    sums = np.where(air, data.values, 0.0).sum(1)
    count = air.sum(1)
    level = np.where(count >= _FEWEST, sums / np.maximum(count, 1), 0.0)
    return replace(data, values=np.where(data.mask, data.values - level[:, None], 0.0))


def _outside(data: Sinogram) -> NDArray[np.bool_]:
    """Pixels of air on either side of the disk, some pixels away from it, ``(angles, detectors)``."""
    solid = (data.values > _AIR) & data.mask
    if not solid.any(1).all():
        raise InputError(
            f"{data.name}: {int((~solid.any(1)).sum())} views show nothing but air: a disk was "
            "expected in all"
        )
    number = np.arange(data.values.shape[1])
    first = solid.argmax(1)[:, None]
    last = data.values.shape[1] - 1 - solid[:, ::-1].argmax(1)[:, None]
    if (first == 0).any() or (last == number[-1]).any():
        views = np.flatnonzero(((first == 0) | (last == number[-1]))[:, 0])
        raise InputError(
            f"{data.name}: the disk leaves the field of view at {data.angles[views[0]]:g} degrees"
            f"{f' and {len(views) - 1} other angles' if len(views) > 1 else ''}: air is expected on both "
            "sides of it"
        )
    outside: NDArray[np.bool_] = ((number < first - 4) | (number > last + 4)) & data.mask
    return outside


def locate_disk(data: Sinogram, attenuation: Attenuation) -> Disk:
    """Centre and radius of a disk by the rays at its rim, whatever holes it has inside.

    Args:
        data: air subtracted (:func:`without_air`).
        attenuation: of its material.

    Raises:
        ValueError: no disk is found; the file is named.
    """
    x, y, r = _first_guess(data)

    def residuals(p: Array) -> Array:
        disk = Disk((p[0], p[1]), p[2])
        return (attenuation(disk.chords(data.beam)) - data.values)[near]

    for _ in range(3):
        away = np.abs(distances(data.beam, (x, y))) / r
        near = (away > 1 - _RIM) & (away < 1 + _BEYOND) & data.mask
        x, y, r = least_squares(residuals, [x, y, r], loss="soft_l1", f_scale=0.05).x
    return Disk((float(x), float(y)), float(r))


def _first_guess(data: Sinogram) -> tuple[float, float, float]:
    """Its centre and radius by the outermost rays that are not air, of each view."""
    solid = (data.values > _AIR) & data.mask
    first = solid.argmax(1)
    last = data.values.shape[1] - 1 - solid[:, ::-1].argmax(1)
    rows = np.arange(len(solid))
    points, directions = data.beam.rays()
    # a ray touches the disk where its distance from the centre is the radius
    equations, right = [], []
    for column, side in ((first, -1.0), (last, 1.0)):
        p, d = points[rows, column], directions[rows, column]
        equations.append(np.stack([d[:, 1], -d[:, 0], np.full(len(d), -side)], axis=1))
        right.append(p[:, 0] * d[:, 1] - p[:, 1] * d[:, 0])
    x, y, r = np.linalg.lstsq(np.concatenate(equations), np.concatenate(right), rcond=None)[0]
    if not r > 0:
        raise InputError(f"{data.name}: no disk is found in it, whose rim all views show")
    return float(x), float(y), float(r)
