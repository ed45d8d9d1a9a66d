"""Outlines put in their places: signed-distance images to soft masks on the pixels of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

REACH = 2.5
"""Half-width of the square that an outline's image covers, in radii of a disk of the same area."""
_WIDTHS = 16  # different widths of windows, at most


@dataclass(frozen=True)
class Window:
    """Squares of pixels of one width, each around an object; outside of it its mask is 0.

    Attributes:
        members: which objects, ``(N,)``.
        rows: the pixels' rows, ``(N, w)``.
        columns: their columns, ``(N, w)``.
    """

    members: Tensor
    rows: Tensor
    columns: Tensor

    def where(self) -> tuple[Tensor, Tensor]:
        """The pixels of each square, as an index that broadcasts to ``(N, w, w)``."""
        return self.rows[:, :, None], self.columns[:, None, :]


class Placement:
    """Puts outlines of ``side x side`` numbers on a grid of ``size x size`` pixels.

    An outline is shown as the hyperbolic tangent of the signed distance (positive inside) to a shape of
    area pi with its centroid at the origin, on ``[-REACH, REACH]^2``. Between its numbers it is a cubic
    spline, so that masks have continuous second derivatives by place and size. Since objects are not
    turned, the spline's basis is a product of one along rows and one along columns: placing is two small
    matrix products.

    Args:
        side: of the outlines' images.
        size: of the scene's images, which cover ``[-1, 1]^2``, row 0 on top (largest y).
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

    def windows(self, centre: Tensor, radius: Tensor) -> list[Window]:
        """Where masks are not 0: windows of few different widths.

        Args:
            centre: x and y, ``(N, 2)``.
            radius: of the disk of the same area, ``(N,)``.
        """
        step = max(self.size // _WIDTHS, 1)
        wide = (radius.detach() * (REACH * self.size)).nan_to_num(nan=self.size) + 2
        parts = (wide / step).ceil().clamp(1, ceil(self.size / step)).long()
        found = []
        for part in parts.unique().tolist():
            members = (parts == part).nonzero().squeeze(1)
            width = min(part * step, self.size)
            x, y = (centre.detach()[members] * self.size / 2).nan_to_num().unbind(1)
            first = torch.stack([self.size / 2 - y, self.size / 2 + x]) - width / 2
            first = first.round().clamp(0, self.size - width).long()
            rows, columns = first[:, :, None] + torch.arange(width, device=first.device)
            found.append(Window(members, rows, columns))
        return found

    def __call__(
        self, outline: Tensor, centre: Tensor, radius: Tensor, window: Window | None = None
    ) -> Tensor:
        """Soft masks ``(N, size, size)``, exactly 0 beyond the outlines' images; or in windows.

        Args:
            outline: tanh of the signed distance, ``(N, side, side)``, row 0 on top.
            centre: x and y, ``(N, 2)``.
            radius: of the disk of the same area, ``(N,)``.
            window: around these N objects: then masks are ``(N, w, w)``.
        """
        bases = (self._weights(t) for t in reversed(self._places(centre, radius, window)))
        level = self._level(self._coefficients(outline + 1), *bases) - 1
        slope = self._slope(radius)
        return (torch.sigmoid(level * slope) - torch.sigmoid(-slope)) / torch.sigmoid(slope)

    def with_derivatives(
        self, outline: Tensor, centre: Tensor, radius: Tensor, window: Window | None = None
    ) -> Tensor:
        """Masks and their derivatives ``(N, 1 + 2 + 1 + d, size, size)``: by place, radius and code.

        Args:
            outline: the outline and its derivatives by d numbers, ``(N, 1 + d, side, side)``.
            centre: x and y, ``(N, 2)``.
            radius: of the disk of the same area, ``(N,)``.
            window: around these N objects: then images are of ``w x w`` pixels.
        """
        x, y = self._places(centre, radius, window)
        rows, columns = self._weights(y), self._weights(x)
        per_radius = (
            self.side / (2 * REACH) / radius[:, None, None]
        )  # the outline's numbers in a unit
        row_slopes, column_slopes = (per_radius * self._weights(t, slope=True) for t in (y, x))
        value = self._coefficients(outline[:, 0] + 1)
        along_x = self._level(value, rows, column_slopes)
        along_y = self._level(value, row_slopes, columns)
        outwards = x[:, None] * along_x + y[:, :, None] * along_y
        level = self._level(value, rows, columns) - 1
        by_code = self._level(self._coefficients(outline[:, 1:]), rows[:, None], columns[:, None])
        slope = self._slope(radius)
        soft, far, near = (torch.sigmoid(t) for t in (level * slope, -slope, slope))
        mask, steep = (soft - far) / near, soft * (1 - soft) / near
        by_radius = steep * (level * (2 / self.edge) - slope * outwards)
        by_radius += far * (1 - mask) * (2 / self.edge)
        by_place = torch.stack([-slope * along_x, slope * along_y], dim=1) * steep[:, None]
        by_code = (slope * steep)[:, None] * by_code
        return torch.cat([mask[:, None], by_place, by_radius[:, None], by_code], dim=1)

    def _slope(self, radius: Tensor) -> Tensor:
        """How steep masks are at the edge, for a level in radii: ``(N, 1, 1)``."""
        return (2 * radius / self.edge)[:, None, None]

    def _coefficients(self, outline: Tensor) -> Tensor:
        """Of the splines through outlines ``(..., side, side)``, 0 far outside, as their images end."""
        prefilter = self.filter.to(outline)
        coefficients: Tensor = prefilter @ outline @ prefilter.T
        return coefficients

    def _level(self, coefficients: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        level: Tensor = rows @ (coefficients @ columns.mT)
        return level

    def _places(
        self, centre: Tensor, radius: Tensor, window: Window | None
    ) -> tuple[Tensor, Tensor]:
        """The pixels' columns and rows as an outline sees them, in radii, ``(N, size)`` each."""
        pixels = self.pixels.to(centre)
        x, y = (pixels, pixels) if window is None else (pixels[window.columns], pixels[window.rows])
        return (x - centre[:, :1]) / radius[:, None], (y + centre[:, 1:]) / radius[:, None]

    def _weights(self, place: Tensor, slope: bool = False) -> Tensor:
        """Of the spline's coefficients at coordinates ``(N, P)`` in radii: ``(N, P, side)``."""
        return _basis((place + REACH) * (self.side / (2 * REACH)) - 0.5, self.side, slope)


def _basis(t: Tensor, side: int, slope: bool = False) -> Tensor:
    """The cubic B-splines centred at 0, ..., side - 1, at ``t`` ``(..., P)``: ``(..., P, side)``.

    Or their derivatives.
    """
    away = t.unsqueeze(-1) - torch.arange(side, dtype=t.dtype, device=t.device)
    distance = away.abs()
    near, far = (2 - distance).clamp(min=0), (1 - distance).clamp(min=0)
    if slope:
        return away.sign() * (4 * far.square() - near.square()) / 2
    return (near**3 - 4 * far**3) / 6
