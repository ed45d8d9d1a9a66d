"""The lengths of rays within pixels, as a sparse matrix.

Siddon, Fast calculation of the exact radiological path for a three-dimensional CT array, Medical Physics 12
(1985): a ray crosses the lines of the grid at known places; between two of them it lies in one pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

Array = NDArray[np.float64]
_ENTRIES = 4_000_000  # crossings that are held at a time


def lengths(points: Array, directions: Array, shape: tuple[int, int], pixel: float) -> csr_array:
    """The length of each ray within each pixel, ``(rays, H W)``, float64, in the unit of ``pixel``.

    Args:
        points: a point of each ray, ``(n, 2)``, x to the right and y up.
        directions: of length 1, ``(n, 2)``.
        shape: ``(H, W)`` of the image; its centre is the origin, row 0 is on top.
        pixel: side of a pixel.

    Example:
        >>> down = lengths(np.array([[0.5, 9.0]]), np.array([[0.0, -1.0]]), (2, 2), pixel=1.0)
        >>> down.toarray()
        array([[0., 1., 0., 1.]])
    """
    step = max(1, _ENTRIES // (sum(shape) + 2))
    parts = [
        _lengths(points[i : i + step], directions[i : i + step], shape, pixel)
        for i in range(0, len(points), step)
    ]
    return csr_array(vstack(parts, format="csr"))


def _lengths(points: Array, directions: Array, shape: tuple[int, int], pixel: float) -> csr_array:
    h, w = shape
    # in pixels, the corner of pixel (0, 0) at the origin, rows downwards
    x = points[:, 0] / pixel + w / 2
    y = h / 2 - points[:, 1] / pixel
    dx, dy = directions[:, 0], -directions[:, 1]
    crossings = np.concatenate([_crossings(x, dx, w), _crossings(y, dy, h)], axis=1)
    crossings.sort(axis=1)
    with np.errstate(invalid="ignore"):  # infinity less infinity, of lines that are never crossed
        length = np.diff(crossings, axis=1)
        middle = 0.5 * (crossings[:, 1:] + crossings[:, :-1])
        column = np.floor(x[:, None] + middle * dx[:, None])
        row = np.floor(y[:, None] + middle * dy[:, None])
        inside = (length > 1e-12) & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    ray, _ = np.nonzero(inside)
    place = (row[inside] * w + column[inside]).astype(np.int64)
    entries = (length[inside] * pixel, (ray, place))
    return csr_array(entries, shape=(len(points), h * w))


def _crossings(start: Array, slope: Array, n: int) -> Array:
    """Where rays cross the lines 0, ..., n of one axis, ``(rays, n + 1)``; infinite for parallel ones."""
    flat = np.abs(slope) < 1e-12
    safe = np.where(flat, 1.0, slope)
    crossed: Array = (np.arange(n + 1) - start[:, None]) / safe[:, None]
    return np.where(flat[:, None], np.inf, crossed)
