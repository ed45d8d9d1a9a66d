"""From pixels to cells: the sparse map that averages a picture over each cell."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array


def cell_average(
    points: NDArray[np.float64], cells: NDArray[np.int32], radius: float, shape: tuple[int, int]
) -> csr_array:
    """The average over each cell of a picture that is constant on its pixels.

    The picture covers the square ``[-radius, radius]^2``: row 0 on top, column 0 on the left. Each cell is
    cut into ``n^2`` equal triangles, ``n`` such that they are about half a pixel long; each takes
    the value of the pixel under its centre. What reaches out of the square takes the nearest pixel.

    Args:
        points: vertices, m, ``(V, 2)``.
        cells: vertices of each triangle, ``(C, 3)``.
        radius: half of the picture's side, m.
        shape: rows H and columns W.

    Returns:
        Weights ``(C, H W)``; each row sums to one.
    """
    height, width = shape
    corners = points[cells]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max()
    n = max(4, math.ceil(2 * longest / (2 * radius / max(shape))))
    where = np.einsum("pk,ckd->cpd", _centres(n), corners)
    column = np.floor((where[..., 0] / radius + 1) / 2 * width).astype(np.int64)
    row = np.floor((1 - where[..., 1] / radius) / 2 * height).astype(np.int64)
    pixel = row.clip(0, height - 1) * width + column.clip(0, width - 1)
    cell = np.repeat(np.arange(len(cells)), pixel.shape[1])
    weight = np.full(pixel.size, 1.0 / pixel.shape[1])
    return coo_array((weight, (cell, pixel.ravel())), shape=(len(cells), height * width)).tocsr()


def _centres(n: int) -> NDArray[np.float64]:
    """Barycentric coordinates of the centres of the ``n^2`` equal parts of a triangle, ``(n^2, 3)``."""
    up = [(i + 1 / 3, j + 1 / 3) for i in range(n) for j in range(n - i)]
    down = [(i + 2 / 3, j + 2 / 3) for i in range(n - 1) for j in range(n - 1 - i)]
    ab = np.array(up + down) / n
    return np.column_stack([ab, 1 - ab.sum(axis=1)])
