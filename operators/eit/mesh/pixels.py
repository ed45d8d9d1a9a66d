"""From pixels to cells: the sparse map that averages an image over each cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from onmanifold.errors import InputError
from onmanifold.operators.eit.mesh.mesh import EDGES

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Box = tuple[Sequence[float], Sequence[float]]

_COARSEST = {2: 8, 3: 4}  # parts along an edge of a cell that reaches into several pixels, at least
_SAMPLES = 2_000_000  # points that are looked up at once


def cell_average(
    points: Array, cells: NDArray[np.int32], extent: Box, shape: Sequence[int]
) -> csr_array:
    """The average over each cell of an image that is constant on its pixels.

    The image covers the box ``extent``. Its last axis is x, column 0 on the left; the one before is y, row
    0 on top (largest y); of three axes the first is z, slice 0 at the bottom. A cell inside of one pixel
    takes that pixel's value. Any other is cut into ``n^D`` parts of equal size, about half a pixel long;
    each takes the value of the pixel under its centre. What reaches out of the box takes the nearest pixel.

    Args:
        points: vertices, m, ``(V, D)``.
        cells: vertices of each triangle or tetrahedron, ``(C, D + 1)``.
        extent: the box's lower and upper corner, m, D numbers each.
        shape: (rows H, columns W), or (slices, H, W).

    Returns:
        Weights ``(C, H W)`` or ``(C, slices H W)``; each row sums to one.

    Raises:
        ValueError: points, extent and shape are not of one dimension.

    Example:
        >>> points, cells = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[0, 1, 2]])
        >>> cell_average(points, cells, ((0, 0), (1, 1)), (1, 2)).toarray()
        array([[0.75, 0.25]])
    """
    dim = points.shape[1]
    if len(shape) != dim or [len(corner) for corner in extent] != [dim, dim]:
        raise InputError(
            f"an image of shape {tuple(shape)} on the box {extent} does not fit points of {dim} coordinates"
        )
    pixels = int(np.prod(shape))
    parts = _parts(points, cells, extent, shape)
    keys, weights = [], []
    for n in np.unique(parts).tolist():
        rows, inside = np.flatnonzero(parts == n), _centres(n, dim)
        step = max(1, _SAMPLES // len(inside))
        for some in (rows[k : k + step] for k in range(0, len(rows), step)):
            where = inside @ points[cells[some]]
            key = some[:, None] * pixels + _pixel(where, extent, shape)
            unique, count = np.unique(key, return_counts=True)
            keys.append(unique)
            weights.append(count / len(inside))
    key = np.concatenate(keys)
    entries = np.concatenate(weights), (key // pixels, key % pixels)
    return coo_array(entries, shape=(len(cells), pixels)).tocsr()


def _parts(points: Array, cells: NDArray[np.int32], extent: Box, shape: Sequence[int]) -> Index:
    """Into how many parts to cut an edge of each cell: 1 for cells within a pixel, ``(C,)``."""
    corners = points[cells]
    lower, upper = corners.min(axis=1), corners.max(axis=1)
    start, end = np.array(EDGES[points.shape[1]]).T
    longest = np.linalg.norm(corners[:, end] - corners[:, start], axis=2).max(axis=1)
    side = (np.subtract(extent[1], extent[0]) / shape[::-1]).min()
    parts = np.maximum(_COARSEST[points.shape[1]], np.ceil(2 * longest / side).astype(np.int64))
    # the box around a cell has its corners with the smallest and the largest pixel number here
    first, last = lower.copy(), upper.copy()
    first[:, 1], last[:, 1] = upper[:, 1], lower[:, 1]
    parts[_pixel(first, extent, shape) == _pixel(last, extent, shape)] = 1
    return parts


def _pixel(where: Array, extent: Box, shape: Sequence[int]) -> Index:
    """Number of the pixel at each place, ``(..., D)`` to ``(...)``."""
    lower, upper = (np.asarray(corner, np.float64) for corner in extent)
    number = np.zeros(where.shape[:-1], np.int64)
    for length, axis in zip(shape, reversed(range(len(shape))), strict=True):
        share = (where[..., axis] - lower[axis]) / (upper[axis] - lower[axis])
        if axis == 1:
            share = 1 - share  # row 0 on top
        number = number * length + np.floor(share * length).astype(np.int64).clip(0, length - 1)
    return number


def _centres(n: int, dim: int) -> Array:
    """Barycentric coordinates of the centres of the ``n^dim`` equal parts of a simplex.

    The simplex ``1 >= t_1 >= ... >= t_dim >= 0`` is filled by those of each cube of a grid.
    """
    cubes = np.array(list(product(range(n), repeat=dim)), np.float64)
    offsets = np.array(list(permutations(range(1, dim + 1)))) / (dim + 1)
    t = (cubes[:, None] + offsets).reshape(-1, dim)
    t = t[(np.diff(t, axis=1) < 0).all(axis=1)] / n
    edge = np.ones((len(t), 1))
    return np.diff(np.hstack([edge, t, 0 * edge]), axis=1) * -1.0
