"""The boundary of a two-dimensional mesh as one closed curve, and the potential along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from onmanifold.errors import InputError
from onmanifold.operators.eit.fem.discretization import Discretization

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BoundaryLoop:
    """Boundary edges in counterclockwise order.

    Places are ``t`` in [0, 1), the part of the boundary's length from the positive x axis.

    Attributes:
        dofs: degrees of freedom of each edge: start, end and, for second-order elements, middle, ``(F,
            2 or 3)``.
        start: t of each edge's start, ascending, ``(F,)``.
        length: of the boundary, m.
    """

    dofs: Index
    start: Array
    length: float

    def shapes(self, t: Array, size: int) -> csr_array:
        """The shape functions' values at ``t`` of ``(P,)``: ``(P, size)``."""
        # -1: the last edge, which reaches over t = 0
        edge = np.searchsorted(self.start, t, side="right") - 1
        width = np.diff(self.start, append=self.start[0] + 1)
        x = (t - self.start[edge] + (edge < 0)) / width[edge]
        if self.dofs.shape[1] == 2:
            values = np.stack([1 - x, x], axis=1)
        else:
            values = np.stack([(1 - x) * (1 - 2 * x), x * (2 * x - 1), 4 * x * (1 - x)], axis=1)
        rows = np.repeat(np.arange(len(t)), values.shape[1])
        entries = (values.ravel(), (rows, self.dofs[edge].ravel()))
        return coo_array(entries, shape=(len(t), size)).tocsr()


def boundary_loop(discretization: Discretization) -> BoundaryLoop:
    """Walk once around the boundary.

    Raises:
        ValueError: the mesh is not two-dimensional, or its boundary is not one closed curve.
    """
    d = discretization
    if d.cells.shape[1] != 3:
        raise InputError("the continuum model is for two-dimensional meshes")
    edges = _outer_edges(d)
    order = _walk(edges)
    dofs = edges[order]
    lengths = _lengths(d.nodes, dofs)
    total = float(lengths.sum())
    start = np.concatenate([[0.0], np.cumsum(lengths)[:-1]]) / total
    start = (start - _origin(d.nodes, dofs, start, lengths / total)) % 1
    first = int(np.argmin(start))
    return BoundaryLoop(np.roll(dofs, -first, axis=0), np.roll(start, -first), total)


def _outer_edges(d: Discretization) -> Index:
    """Edges of one cell only: start, end and middle if there is one, the mesh on their left."""
    corners = np.array([[0, 1], [1, 2], [2, 0]])
    middle = np.array([5, 3, 4])  # the middle of edge (0, 1) belongs to corner 2, and so on
    local = corners if d.dofs.shape[1] == 3 else np.column_stack([corners, middle])
    edges = d.dofs[:, local].reshape(-1, local.shape[1]).astype(np.int64)
    low, high = np.sort(edges[:, :2], axis=1).T
    _, index, count = np.unique(low * d.size + high, return_index=True, return_counts=True)
    return np.asarray(edges[index[count == 1]])


def _walk(edges: Index) -> Index:
    """The order in which the edges follow each other."""
    following = dict(zip(edges[:, 0].tolist(), range(len(edges)), strict=True))
    order = [0]
    while (nxt := following.get(int(edges[order[-1], 1]))) != 0:
        if nxt is None or len(order) > len(edges):
            raise InputError("the mesh's boundary is not a closed curve")
        order.append(nxt)
    if len(order) != len(edges):
        raise InputError(
            "the mesh's boundary falls into several curves; the continuum model needs one"
        )
    return np.array(order)


def _lengths(nodes: Array, dofs: Index) -> Array:
    """Length of each edge, m, ``(F,)``; of second-order edges along their parabola."""
    a, b = nodes[dofs[:, 0]], nodes[dofs[:, 1]]
    if dofs.shape[1] == 2:
        return np.asarray(np.linalg.norm(b - a, axis=1))
    c = nodes[dofs[:, 2]]
    x, weight = np.polynomial.legendre.leggauss(5)
    x = ((x + 1) / 2)[:, None, None]
    speed = (4 * x - 3) * a + (4 * x - 1) * b + (4 - 8 * x) * c
    return np.asarray((weight / 2) @ np.linalg.norm(speed, axis=2))


def _origin(nodes: Array, dofs: Index, start: Array, width: Array) -> float:
    """Where the boundary crosses the positive x axis, seen from the middle of its box."""
    rim = nodes[dofs[:, 0]]
    middle = (rim.min(axis=0) + rim.max(axis=0)) / 2
    (x1, y1), (x2, y2) = (rim - middle).T, (nodes[dofs[:, 1]] - middle).T
    crossing = np.flatnonzero((y1 <= 0) & (y2 > 0) & (x1 + x2 > 0))
    if len(crossing) == 0:
        return 0.0
    k = crossing[np.argmax(x1[crossing] + x2[crossing])]
    return float(start[k] + width[k] * -y1[k] / (y2[k] - y1[k]))
