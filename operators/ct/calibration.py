"""What a disk without holes says of the instrument: attenuation, hardening, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onmanifold.errors import InputError
from onmanifold.operators.ct.disk import Array, Attenuation, Disk, locate_disk, without_air
from onmanifold.operators.ct.sinogram import Sinogram

_START = Attenuation(0.045, 2e-4)  # of acrylic at 45 kV, to begin with
_ROUNDS = 3
_LARGEST = 0.03  # root mean square of what a solid disk may leave
_GEOMETRY = ("spacing", "source_origin", "source_detector", "offset")


@dataclass(frozen=True)
class CalibratedScanner:
    """A scanner and its material, as a disk without holes shows them.

    Attributes:
        attenuation: of the material.
        noise: standard deviation of a line integral in air; where it is s, ``exp(s / 2)`` times
            as large.
        lag: correlation of neighbouring detector pixels.
        solid: the measurement.
        disk: where the disk was.
    """

    attenuation: Attenuation
    noise: float
    lag: float
    solid: Sinogram
    disk: Disk

    def std(self, data: Sinogram) -> Array:
        """Standard deviation of line integrals, ``(angles, detectors)``, binned or not.

        It is that of means over more pixels, so that correlated noise counts as much as it weighs there.
        """
        n = data.pixels
        one = (n + 2 * (n - 1) * self.lag) / n**2  # variance of a mean of n neighbours
        beside = self.lag / n**2  # covariance of neighbouring means
        scale = np.sqrt((one + 2 * beside) / data.merged)[:, None]
        return np.asarray(self.noise * np.exp(np.maximum(data.values, 0.0) / 2) * scale)

    def check(self, data: Sinogram) -> None:
        """Raise where a measurement comes from another geometry than the disk's.

        Raises:
            ValueError: both files are named.
        """
        same = data.beam.detectors == self.solid.beam.detectors
        for name in _GEOMETRY:
            same &= bool(
                np.isclose(getattr(data.beam, name), getattr(self.solid.beam, name), rtol=1e-4)
            )
        if not same:
            raise InputError(
                f"{data.name} was measured with {_geometry(data)}, the solid disk {self.solid.name} with "
                f"{_geometry(self.solid)}: the same geometry was expected"
            )


def calibrate_disk(solid: Sinogram) -> CalibratedScanner:
    """Calibrate a scanner by a disk without holes: attenuation, hardening, noise and its correlation.

    Args:
        solid: as it is read, single views.

    Raises:
        ValueError: the disk leaves the field of view, or has holes; the file is named.
    """
    data, attenuation = without_air(solid), _START
    for _ in range(_ROUNDS):
        disk = locate_disk(data, attenuation)
        length = disk.chords(data.beam)
        inside = (length > 1.0) & data.mask
        attenuation = fit_attenuation(length[inside], data.values[inside])
    left = np.where(inside, data.values - attenuation(length), 0.0)
    size = float(np.sqrt((left[inside] ** 2).mean()))
    if not size < _LARGEST:
        raise InputError(
            f"{solid.name}: a solid disk leaves {size:.3f} unexplained (root mean square; up to "
            f"{_LARGEST} was expected): it has holes, is no disk, or the geometry is another"
        )
    middle = (length > disk.radius) & data.mask  # away from the rim
    left = np.where(middle, left * np.exp(-data.values / 2), 0.0)
    left -= left.sum(0) / np.maximum(middle.sum(0), 1) * middle  # the detector's pattern
    both = middle[:, 1:] & middle[:, :-1]
    variance = float((left[middle] ** 2).mean())
    lag = float((left[:, 1:] * left[:, :-1])[both].mean()) / variance
    return CalibratedScanner(attenuation, variance**0.5, float(np.clip(lag, 0.0, 0.5)), solid, disk)


def fit_attenuation(length: Array, values: Array) -> Attenuation:
    """Attenuation and hardening by least squares from lengths (mm) and line integrals.

    Example:
        >>> length = np.array([10.0, 20.0, 40.0])
        >>> found = fit_attenuation(length, Attenuation(0.04, 1e-4)(length))
        >>> round(found.mu, 6), round(found.hardening, 8)
        (0.04, 0.0001)
    """
    mu, h = np.linalg.lstsq(np.stack([length, -(length**2)], axis=1), values, rcond=None)[0]
    return Attenuation(float(mu), max(float(h), 0.0))


def _geometry(data: Sinogram) -> str:
    beam = data.beam
    return (
        f"{beam.detectors} pixels of {beam.spacing:g} mm, source to centre {beam.source_origin:g} mm, "
        f"source to detector {beam.source_detector:g} mm"
    )
