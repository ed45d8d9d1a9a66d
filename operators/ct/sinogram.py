"""A measured sinogram: line integrals, their rays, and which of them are there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_count
from onmanifold.errors import InputError
from onmanifold.operators.ct.geometry import FanBeam

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sinogram:
    """Line integrals ``log(I_0 / I)`` of a fan beam.

    Attributes:
        values: ``(angles, detectors)``, float64; 0 where missing.
        beam: the rays.
        mask: which are there, boolean, ``(angles, detectors)``.
        merged: how many views each row is the mean of, ``(angles,)``.
        pixels: how many detector pixels each column is the mean of.
        name: of the file, for messages.

    Raises:
        ValueError: values that are not finite or do not fit the beam.
    """

    values: Array
    beam: FanBeam
    mask: NDArray[np.bool_]
    merged: NDArray[np.intp]
    pixels: int = 1
    name: str = "the sinogram"

    def __post_init__(self) -> None:
        if self.values.shape != self.beam.shape:
            raise InputError(
                f"{self.name} holds {_times(self.values.shape)} numbers, its beam has "
                f"{_times(self.beam.shape)} (angles x detector pixels)"
            )
        if not np.isfinite(self.values).all():
            raise InputError(
                f"{self.name} holds NaN or infinity; missing ones are 0, False in mask"
            )

    @classmethod
    def of(cls, values: Array, beam: FanBeam, name: str = "the sinogram") -> Sinogram:
        """A sinogram of single views; what is not finite counts as missing."""
        values = np.asarray(values, np.float64)
        there = np.isfinite(values)
        ones = np.ones(len(values), np.intp)
        return cls(np.where(there, values, 0.0), beam, there, ones, name=name)

    @property
    def angles(self) -> Array:
        """Degrees."""
        return np.asarray(self.beam.angles, np.float64)

    def binned(self, views: int, pixels: int) -> Sinogram:
        """Means of ``views`` neighbouring views and ``pixels`` neighbouring detector pixels.

        A view that is left over stays alone; detector pixels that are left over are dropped.

        Example:
            >>> beam = FanBeam([0.0, 1.0, 2.0], 4, 1.0, source_origin=10.0, source_detector=20.0)
            >>> few = Sinogram.of(np.ones((3, 4)), beam).binned(2, 2)
            >>> few.values.shape, few.angles, few.merged
            ((2, 2), array([0.5, 2. ]), array([2, 1]))
        """
        check_count(views, "views"), check_count(pixels, "pixels")
        starts = np.arange(0, len(self.values), views)
        kept = self.values.shape[1] // pixels * pixels
        weight = self.mask * self.merged[:, None]
        total, there = (
            np.add.reduceat(part[:, :kept].reshape(len(part), -1, pixels).sum(2), starts)
            for part in (weight * self.values, weight)
        )
        merged = np.add.reduceat(self.merged, starts)
        angles = np.add.reduceat(self.angles * self.merged, starts) / merged
        lost = self.values.shape[1] - kept
        beam = replace(
            self.beam,
            angles=angles,
            detectors=kept // pixels,
            spacing=self.beam.spacing * pixels,
            offset=self.beam.offset - 0.5 * lost * self.beam.spacing,
        )
        mask = 2 * there > merged[:, None] * pixels  # half of them are enough
        values = np.where(mask, total / np.maximum(there, 1), 0.0)
        return replace(
            self, values=values, beam=beam, mask=mask, merged=merged, pixels=self.pixels * pixels
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
