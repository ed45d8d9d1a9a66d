"""Tetrahedra over a mesh of rings: layers of prisms, each cut into three."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.mesh.mesh import oriented

Array = NDArray[np.float64]
Index = NDArray[np.int32]


def layers(
    tank: Cylinder, edges: int, growth: float, longest: float, halvings: int
) -> tuple[Array, Index]:
    """Heights of the layers' borders, and which ring of electrodes each layer belongs to.

    Args:
        tank: the cylinder.
        edges: number of layers in each ring of electrodes.
        growth: factor from layer to layer away from a ring.
        longest: highest layer, in radii.
        halvings: how often each layer is halved.

    Returns:
        Heights in radii, ascending, ``(K + 1,)``, and the ring of each layer, -1 for none, ``(K,)``.
    """
    high = tank.electrode_height / tank.radius
    size = min(high / edges, longest)
    order = np.argsort(tank.rings)
    heights, ring = [0.0], []
    for k, number in enumerate([*order.tolist(), None]):
        start = heights[-1]
        end = (
            tank.height / tank.radius
            if number is None
            else tank.rings[number] / tank.radius - high / 2
        )
        steps = _steps(end - start, size, growth, longest, both=0 < k < len(order))
        heights += (start + np.cumsum(steps[::-1] if k == 0 else steps)).tolist()
        ring += [-1] * len(steps)
        if number is not None:
            heights += (end + high * np.arange(1, edges + 1) / edges).tolist()
            ring += [number] * edges
    parts = 2**halvings
    fine = np.interp(np.arange(parts * len(ring) + 1) / parts, np.arange(len(heights)), heights)
    return fine, np.repeat(np.array(ring, np.int32), parts)


def extrude(
    points: Array, cells: Index, facets: Index, electrode: Index, heights: Array, ring: Index
) -> tuple[Array, Index, Index, Index]:
    """Points, tetrahedra, electrode triangles and electrodes of a body of layers.

    The cut of a prism follows an order of its triangle's vertices: from outside to inside, then
    counterclockwise. Neighbours agree on it, and so do cells that a rotation maps to each other.

    Args:
        points: of the base, the axis at the origin, ``(N, 2)``.
        cells: its triangles, counterclockwise, each with two vertices of one radius, ``(C, 3)``.
        facets: its edges on electrodes, counterclockwise, ``(E, 2)``.
        electrode: of these edges, ``(E,)``.
        heights: borders of the layers, ``(K + 1,)``.
        ring: ring of electrodes at each layer, -1 for none, ``(K,)``.
    """
    count, each = len(points), int(electrode.max()) + 1
    body = np.concatenate([np.hstack([points, np.full((count, 1), z)]) for z in heights])
    prisms = np.hstack([_outside_first(points, cells), _outside_first(points, cells) + count])
    walls = np.hstack([facets, facets + count])
    tetrahedra = prisms[:, [[0, 1, 2, 5], [0, 1, 4, 5], [0, 3, 4, 5]]].reshape(-1, 4)
    triangles = walls[:, [[0, 1, 3], [0, 3, 2]]].reshape(-1, 3)
    tetrahedra = oriented(body, tetrahedra.astype(np.int32))
    shift = count * np.arange(len(ring), dtype=np.int32)[:, None, None]
    on = np.flatnonzero(ring >= 0)
    owner = each * ring[on, None] + np.repeat(electrode, 2)
    return (
        body,
        (tetrahedra + shift).reshape(-1, 4),
        (triangles + shift[on]).reshape(-1, 3),
        owner.ravel().astype(np.int32),
    )


def _steps(length: float, size: float, growth: float, longest: float, both: bool) -> Array:
    """Heights of layers that grow from the start, or from both ends, and fill ``length``."""
    if length <= 1e-9:
        return np.zeros(0)
    steps: list[float] = []
    while sum(steps) < length / (1 + both):
        steps.append(size)
        size = min(size * growth, longest)
    full = np.array(steps + steps[::-1] if both else steps)
    return np.asarray(full * (length / full.sum()))


def _outside_first(points: Array, cells: Index) -> Index:
    """Vertices of each triangle from outside to inside, those of one radius counterclockwise."""
    radius = np.linalg.norm(points, axis=1)[cells]
    odd = np.abs(radius - np.median(radius, axis=1, keepdims=True)).argmax(axis=1)
    row = np.arange(len(cells))
    turned = cells[row[:, None], (odd[:, None] + [1, 2, 0]) % 3]  # the odd vertex last
    inside = radius[row, odd] < np.median(radius, axis=1)
    return np.asarray(np.where(inside[:, None], turned, turned[:, ::-1]), np.int32)
