"""Holes in a disk: from their masks to measured line integrals, by a beam that hardens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onmanifold.checks import check_batch
from onmanifold.external import ByLinearization
from onmanifold.operators.ct.disk import Attenuation, Disk, SeenFromDisk
from onmanifold.operators.ct.geometry import Beam
from onmanifold.operators.ct.operator import Tomography


class HolesInDisk(ByLinearization):
    """Masks of holes in a disk to line integrals: ``s = mu l - h l^2``, ``l = L - A(x)``.

    L is the length of a ray in the disk, ``A(x)`` that in the holes. Derivatives along directions that change
    few pixels cost what these cost.

    Attributes:
        x_shape: ``(1, S, S)``: the square around the disk.
        y_shape: ``(angles, detectors)``.

    Args:
        beam: the rays, mm.
        disk: where it is in them.
        attenuation: of its material.
        size: S.

    Example:
        >>> from onmanifold.operators.ct import ParallelBeam
        >>> disk = Disk((0.0, 0.0), 5.0)
        >>> drilled = HolesInDisk(ParallelBeam([0.0], 3, 2.0), disk, Attenuation(0.1, 0.0), 8)
        >>> [f"{s:.3f}" for s in drilled.A(torch.zeros(1, 1, 8, 8))[0, 0].tolist()]
        ['0.917', '1.000', '0.917']
    """

    linear = False

    def __init__(self, beam: Beam, disk: Disk, attenuation: Attenuation, size: int) -> None:
        self.attenuation, self.radius = attenuation, disk.radius
        self.x_shape, self.y_shape = (1, size, size), beam.shape
        seen = SeenFromDisk(beam, disk)
        self.projection = Tomography(seen, self.x_shape, pixel=2.0 / size)
        self.full = torch.from_numpy(disk.chords(beam))

    def A(self, x: Tensor) -> Tensor:
        """Masks ``(B, 1, S, S)``, 1 in holes, to line integrals ``(B, angles, detectors)``."""
        check_batch(x, self.x_shape, "x")
        length = self._length(x)
        return length * (self.attenuation.mu - self.attenuation.hardening * length)

    def linearize(self, x: Tensor) -> _Linearized:
        """Value and derivative at ``x``, ``(B, 1, S, S)``."""
        length = self._length(x)
        mu, h = self.attenuation.mu, self.attenuation.hardening
        slope = self.radius * (2 * h * length - mu)  # by the length in the holes
        return _Linearized(self, length * (mu - h * length), slope)

    def _length(self, x: Tensor) -> Tensor:
        length: Tensor = self.full.to(x) - self.radius * self.projection.A(x)
        return length

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw the sinogram; see :mod:`onmanifold.plot`."""
        return self.projection.draw_y(ax, y, **scale)


@dataclass(frozen=True, eq=False)
class _Linearized:
    """The value at B images, and the slopes there."""

    operator: HolesInDisk
    y: Tensor
    slope: Tensor

    def jvp(self, v: Tensor) -> Tensor:
        lengths = self.operator.projection.project_windows(v.flatten(0, 2))
        return lengths.view(*v.shape[:2], *self.operator.y_shape) * self.slope[:, None]

    def vjp(self, u: Tensor) -> Tensor:
        back = self.operator.projection.A_adjoint((u * self.slope[:, None]).flatten(0, 1))
        return back.view(*u.shape[:2], *self.operator.x_shape)

    def select(self, rows: Tensor) -> _Linearized:
        return _Linearized(self.operator, self.y[rows], self.slope[rows])
