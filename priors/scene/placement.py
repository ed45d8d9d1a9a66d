"""Outlines put in their places: signed-distance pictures to soft masks on the pixels of a scene."""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 2.5
"""Half-width of the square that an outline's picture covers, in radii of a disk of the same area."""


class Placement:
    """Puts outlines of ``side x side`` numbers on a grid of ``size x size`` pixels.

    An outline is shown as the hyperbolic tangent of the signed distance (positive inside) to a shape of
    area pi with its centroid at the origin, on ``[-REACH, REACH]^2``. Between its numbers it is a cubic
    spline, so that masks have continuous second derivatives by place and size. Since objects are not
    turned, the spline's basis is a product of one along rows and one along columns: placing is two small
    matrix products.

    Args:
        side: of the outlines' pictures.
        size: of the scene's pictures, which cover ``[-1, 1]^2``, row 0 on top (largest y).
        edge: distance over which a mask falls from 0.73 to 0.27, pixels.

    Example:
        >>> place = Placement(side=20, size=32)
        >>> place(torch.zeros(3, 20, 20), torch.zeros(3, 2), torch.ones(3)).shape
        torch.Size([3, 32, 32])
    """

    def __init__(self, side: int, size: int, edge: float = 1.0) -> None:
        self.side, self.size = side, size
        self.edge = edge * 2 / size
        self.pixels = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
        self.filter = torch.linalg.inv(_basis(torch.arange(side, dtype=torch.float64), side))

    def __call__(self, outline: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
        """Soft masks ``(N, size, size)``.

        Args:
            outline: tanh of the signed distance, ``(N, side, side)``, row 0 on top.
            centre: x and y, ``(N, 2)``.
            radius: of the disk of the same area, ``(N,)``.
        """
        prefilter = self.filter.to(outline)
        coefficients = (
            prefilter @ (outline + 1) @ prefilter.T
        )  # 0, far outside, continues the picture
        pixels = self.pixels.to(outline)
        columns = self._weights((pixels - centre[:, :1]) / radius[:, None])
        rows = self._weights((pixels + centre[:, 1:]) / radius[:, None])
        level = rows @ coefficients @ columns.mT - 1
        return torch.sigmoid(level * (2 * radius / self.edge)[:, None, None])

    def _weights(self, place: Tensor) -> Tensor:
        """Of the spline's coefficients at coordinates ``(N, P)`` in radii: ``(N, P, side)``."""
        return _basis((place + REACH) * (self.side / (2 * REACH)) - 0.5, self.side)


def _basis(t: Tensor, side: int) -> Tensor:
    """The cubic B-splines centred at 0, ..., side - 1, at ``t`` ``(..., P)``: ``(..., P, side)``."""
    away = (t.unsqueeze(-1) - torch.arange(side, dtype=t.dtype, device=t.device)).abs()
    near, far = (2 - away).clamp(min=0), (1 - away).clamp(min=0)
    return (near**3 - 4 * far**3) / 6
