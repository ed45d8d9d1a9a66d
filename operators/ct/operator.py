"""Tomography: from an image of attenuation to its line integrals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.checks import check_batch, check_count, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.external import linear_map
from onmanifold.operator import Linear
from onmanifold.operators.ct.geometry import Beam, ParallelBeam
from onmanifold.operators.ct.lines import lengths
from onmanifold.operators.ct.windows import WindowedProjection
from onmanifold.operators.sparse import SparseMatrix

_MOST_ANGLES = 100_000


class Tomography(Linear):
    """Line integrals of an image, ``A(x)_ij = sum over pixels of length in it times its value``.

    Pixels are squares of constant value, so the integrals are exact, and so is the adjoint. With values in
    1/mm and lengths in mm the measurement is ``log(I_0 / I)``, a number without unit. The matrix is made
    once, on the CPU; it multiplies in the dtype of its input, of half precision in float32, where its input
    is.

    Attributes:
        beam: the rays.
        pixel: side of a pixel.
        x_shape: shape of one image.
        y_shape: ``(angles, detectors)``.

    Args:
        beam: :class:`ParallelBeam`, :class:`FanBeam`, or what else has ``shape`` and ``rays``.
        x_shape: ``(H, W)`` or ``(1, H, W)``; row 0 is on top, the centre is the origin of the beam.
        pixel: side of a pixel, in the unit of the beam.

    Raises:
        TypeError: ``beam`` is none.
        ValueError: an image with channels; no ray meets the image.

    Example:
        >>> import torch
        >>> ct = Tomography(ParallelBeam(angles=[0, 90], detectors=2), (2, 2))
        >>> ct.A(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[4., 6.],
                 [7., 3.]]])
    """

    def __init__(self, beam: Beam, x_shape: tuple[int, ...], pixel: float = 1.0) -> None:
        if isinstance(beam, type) or not (hasattr(beam, "rays") and hasattr(beam, "shape")):
            raise InputError(
                f"beam has to be one such as ParallelBeam(angles, detectors), got {beam!r}"
            )
        self.beam, self.pixel = beam, check_number(pixel, "pixel")
        self.x_shape = check_shape(x_shape, "x_shape")
        if len(self.x_shape) not in (2, 3) or len(self.x_shape) == 3 and self.x_shape[0] != 1:
            raise InputError(f"x_shape has to be (H, W) or (1, H, W), got {self.x_shape}")
        self.y_shape = beam.shape
        points, directions = (part.reshape(-1, 2) for part in beam.rays())
        plane = (self.x_shape[-2], self.x_shape[-1])
        self._matrix = lengths(points, directions, plane, self.pixel)
        if self._matrix.nnz == 0:
            raise InputError(
                f"no ray meets the image of {plane[0]} x {plane[1]} pixels of side {self.pixel:g}: are beam "
                "and pixel in the same unit?"
            )
        self._prepared: dict[tuple[torch.dtype, torch.device], SparseMatrix] = {}
        self._windowed: dict[torch.dtype, WindowedProjection] = {}

    def A(self, x: Tensor) -> Tensor:
        """Line integrals: ``(B, *x_shape)`` to ``(B, angles, detectors)``."""
        check_batch(x, self.x_shape, "x")
        return linear_map(self._project, self._back, x)

    def A_adjoint(self, u: Tensor) -> Tensor:
        """The adjoint, unfiltered back-projection: ``(B, angles, detectors)`` to ``(B, *x_shape)``."""
        check_batch(u, self.y_shape, "u")
        return linear_map(self._back, self._project, u)

    def _project(self, x: Tensor) -> Tensor:
        matrix = self._matrix_for(x)
        columns = x.reshape(len(x), -1).to(_wide(x)).T.contiguous()
        return (matrix @ columns).T.reshape(len(x), *self.y_shape).to(x.dtype)

    def _back(self, u: Tensor) -> Tensor:
        matrix = self._matrix_for(u)
        columns = u.reshape(len(u), -1).to(_wide(u)).T.contiguous()
        return matrix.adjoint(columns).T.reshape(len(u), *self.x_shape).to(u.dtype)

    def project_windows(self, x: Tensor) -> Tensor:
        """As :meth:`A` without derivatives, for images ``(B, H, W)`` that are 0 outside of a window each.

        They cost what their windows cost; on the CPU.
        """
        if x.device.type != "cpu":
            return self._project(x)
        wide = _wide(x)
        if wide not in self._windowed:
            by_pixel = self._matrix.astype(np.float32 if wide == torch.float32 else np.float64)
            plane = (self.x_shape[-2], self.x_shape[-1])
            self._windowed[wide] = WindowedProjection(by_pixel.T.tocsr(), plane)
        found: Tensor = self._windowed[wide](x.to(wide)).to(x.dtype)
        return found.view(len(x), *self.y_shape)

    def _matrix_for(self, like: Tensor) -> SparseMatrix:
        key = (_wide(like), like.device)
        if key not in self._prepared:
            single = key[0] == torch.float32
            values = self._matrix.astype(np.float32 if single else np.float64)
            self._prepared[key] = SparseMatrix(values, like.device)
        return self._prepared[key]

    def draw_y(self, ax: Any, y: Tensor, **scale: Any) -> Any:
        """Draw the sinogram, an angle a row, stretched to a square; see :mod:`onmanifold.plot`."""
        from onmanifold.plot import draw

        drawn = draw(ax, y, **scale)
        ax.set_aspect("auto")
        return drawn

    def __repr__(self) -> str:
        angles, detectors = self.y_shape
        kind = type(self.beam).__name__
        return f"Tomography({kind}, {angles} angles, {detectors} detectors, x_shape={self.x_shape})"


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def from_options(
    x_shape: tuple[int, ...] | None,
    *,
    angles: int | tuple[float, ...] = 60,
    arc: float = 180.0,
    detectors: int | None = None,
    spacing: float = 1.0,
    pixel: float = 1.0,
) -> Tomography:
    """:class:`Tomography` by a parallel beam.

    Args:
        x_shape: ``(H, W)`` or ``(1, H, W)``.
        angles: number of angles, spread evenly over the arc from 0 on, or the angles, degrees.
        arc: where a number of them lies, degrees.
        detectors: number of detector pixels; default: as many as cover the image from all sides.
        spacing: distance of their centres.
        pixel: side of an image pixel, in the unit of ``spacing``.

    Example:
        >>> from_options((28, 28), angles=12).y_shape
        (12, 40)
    """
    if x_shape is None:
        raise InputError("tomography needs the shape of the images: x_shape (H, W) or (1, H, W)")
    if isinstance(angles, int):
        count, arc = check_count(angles, "angles"), check_number(arc, "arc")
        if count > _MOST_ANGLES:
            raise InputError(f"angles has to be at most {_MOST_ANGLES}, got {count}")
        angles = tuple(arc * k / count for k in range(count))
    if detectors is None:
        across = math.hypot(*check_shape(x_shape, "x_shape")[-2:]) * check_number(pixel, "pixel")
        detectors = math.ceil(min(across / check_number(spacing, "spacing"), 1e18))
    return Tomography(ParallelBeam(angles, detectors, spacing), x_shape, pixel)
