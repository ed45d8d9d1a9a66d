"""Images of a drilled disk without learned shapes: least total variation, and binary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

from onmanifold.operators.ct import (
    Attenuation,
    CalibratedScanner,
    Disk,
    SeenFromDisk,
    Sinogram,
    Tomography,
    binary_total_variation,
    fit_attenuation,
    htc,
    locate_disk,
    total_variation,
    total_variation_of,
    without_air,
)
from onmanifold.operators.ct.disk import Array

SIZE = 128  # pixels along each side of images
_ROWS = 61  # views at most, merged where there are more
_PIXELS = 2  # detector pixels that are merged
_STD = 0.02  # of lengths in images without learned shapes, radii
_LENGTH, _AREA = 64.0, 4096.0  # weights of an edge's length, and of an area neither hole nor disk
_STEPS = 300
_ROUNDS = 3  # of images and the attenuation that they say
_RELAXATION = 3.0  # of the attenuation from round to round
_LOOSER = 2.0  # so many times the standard deviation, where images are compared
_SURE = 0.97  # most that a scene says of a pixel
_TRUST = 0.1  # weight of what a scene says of pixels


@dataclass(frozen=True, eq=False)
class Measured:
    """A measurement of a drilled disk, ready to be inverted.

    Attributes:
        data: air subtracted, neighbouring views and pixels merged.
        scanner: that measured it.
        disk: where it is.
        attenuation: of its material.
        tomography: masks of holes in the square around the disk to their lengths, in radii.
    """

    data: Sinogram
    scanner: CalibratedScanner
    disk: Disk
    attenuation: Attenuation
    tomography: Tomography

    @property
    def lengths(self) -> Tensor:
        """Of the rays in holes, by the present attenuation, radii, ``(1, angles, detectors)``."""
        full = self.disk.chords(self.data.beam)
        holes = (full - self.attenuation.length(self.data.values)) / self.disk.radius
        return torch.from_numpy(np.where(self.data.mask, holes, 0.0)).float()[None]

    def with_attenuation_of(self, image: Tensor) -> Measured:
        """The same with the attenuation that an image of holes ``(1, 1, S, S)`` says."""
        holes = self.disk.radius * self.tomography.A(image)[0].double().numpy()
        length = self.disk.chords(self.data.beam) - holes
        used = (length > 1.0) & self.data.mask
        return replace(self, attenuation=fit_attenuation(length[used], self.data.values[used]))

    @property
    def std(self) -> Tensor:
        """Standard deviation of these lengths in images without learned shapes; infinite where missing."""
        return torch.from_numpy(np.where(self.data.mask, _STD, np.inf)).float()[None]


def prepare(scanner: CalibratedScanner, measured: Sinogram) -> Measured:
    """Find the disk, subtract air, merge what is finer than the images.

    Args:
        scanner: calibrated by a solid disk.
        measured: single views of the same scanner.

    Raises:
        ValueError: another geometry, or no disk in the field of view; the file is named.
    """
    scanner.check(measured)
    data = without_air(measured)
    disk = locate_disk(data, scanner.attenuation)
    merged = data.binned(max(2, ceil(len(data.values) / _ROWS)), _PIXELS)
    tomography = Tomography(SeenFromDisk(merged.beam, disk), (1, SIZE, SIZE), pixel=2 / SIZE)
    return Measured(merged, scanner, disk, scanner.attenuation, tomography)


def variation_image(measured: Measured, weight: float = _LENGTH) -> Tensor:
    """The image of holes of least total variation between 0 and 1, ``(1, 1, S, S)``."""
    return total_variation(
        measured.tomography,
        measured.lengths,
        weight,
        std=measured.std,
        steps=_STEPS,
    )


def binary_image(measured: Measured) -> tuple[Tensor, Measured]:
    """A binary image of the holes, and the measurement with the attenuation that the image says.

    The material's attenuation differs a little from disk to disk. Rays beside the holes show it.

    Returns:
        ``(1, 1, S, S)``, and the measurement.
    """
    tomography = measured.tomography
    for left in reversed(range(_ROUNDS)):
        x = binary_total_variation(
            tomography,
            measured.lengths,
            _LENGTH,
            binary=_AREA,
            std=measured.std,
            steps=_STEPS,
        )
        said = measured.with_attenuation_of(x)
        if left:
            further = _beyond(measured.attenuation, said.attenuation)
            said = replace(said, attenuation=further)
        measured = said
    return x, measured


def _beyond(before: Attenuation, after: Attenuation) -> Attenuation:
    """The attenuation some way beyond what the last image said: images follow it too slowly."""
    mu, hardening = (
        old + _RELAXATION * (new - old)
        for old, new in ((before.mu, after.mu), (before.hardening, after.hardening))
    )
    return Attenuation(mu, max(hardening, 0.0))


def refined_image(measured: Measured, probability: Tensor) -> Tensor:
    """The binary image of the holes where a scene says the probability of each pixel, both ``(1, 1, S, S)``.

    Data decide where they say something, the scene elsewhere: outlines that were not learned may leave it.
    """
    smooth = gaussian_filter(probability[0, 0].double().numpy(), 1.0).clip(1 - _SURE, _SURE)
    odds = torch.from_numpy(np.log(smooth / (1 - smooth))).to(probability)
    return binary_total_variation(
        measured.tomography,
        measured.lengths,
        _LENGTH,
        binary=_AREA,
        std=measured.std,
        log_odds=_TRUST * odds[None, None],
        start=probability,
        steps=_STEPS,
    )


def objective(measured: Measured, image: Tensor) -> float:
    """What binary images minimize, the data weighed a little less: to compare images ``(1, 1, S, S)``."""
    tomography = measured.tomography
    left = (tomography.A(image) - measured.lengths) / (_LOOSER * measured.std)
    edges = _LENGTH * total_variation_of(image, tomography.pixel)
    between = _AREA * tomography.pixel**2 * (image * (1 - image)).sum()
    return float(0.5 * left.square().sum() + edges + between)


def picture(image: Tensor, disk: Disk) -> Array:
    """An image of holes ``(S, S)`` as the share of material in the challenge's pixels, ``(512, 512)``."""
    size = len(image)
    at = htc.PIXEL * (np.arange(htc.SIZE) - (htc.SIZE - 1) / 2)
    x, y = (at - disk.centre[0]) / disk.radius, (-at[:, None] - disk.centre[1]) / disk.radius
    rows, columns = np.broadcast_arrays((1 - y) * size / 2 - 0.5, (1 + x) * size / 2 - 0.5)
    holes = map_coordinates(image.double().numpy(), [rows, columns], order=1, mode="constant")
    inside = np.clip((1 - np.hypot(x, y)) * disk.radius / htc.PIXEL + 0.5, 0.0, 1.0)
    return np.asarray(inside * (1 - holes))
