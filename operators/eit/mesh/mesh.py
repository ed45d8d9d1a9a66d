"""Meshes: triangles or tetrahedra, straight or curved, and the facets that are electrodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from onmanifold.errors import InputError
from onmanifold.operators.eit.arguments import doubles, whole_numbers
from onmanifold.operators.eit.mesh.seams import check_seams

Array = NDArray[np.float64]
Index = NDArray[np.int32]

# Vertices of each edge of a simplex of this dimension, in the order of basix.
EDGES: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 1),),
    2: ((1, 2), (0, 2), (0, 1)),
    3: ((2, 3), (1, 3), (1, 2), (0, 3), (0, 2), (0, 1)),
}


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles (D = 2) or tetrahedra (D = 3), and the boundary facets that lie on electrodes.

    Cells are straight, or curved of second order: then each has a node on every edge too, near its middle.
    Nodes of a cell or facet are its vertices and then the middles of its edges, in basix' order: of
    a triangle those of the edges (1, 2), (0, 2), (0, 1); of a tetrahedron those of the edges
    (2, 3), (1, 3), (1, 2), (0, 3), (0, 2), (0, 1).

    Attributes:
        points: nodes, m, ``(N, D)``.
        cells: nodes of each cell, vertices counterclockwise or with positive volume, ``(C, D + 1)``;
            ``(C, 6)`` or ``(C, 10)`` for curved cells.
        facets: nodes of each boundary facet that lies on an electrode, ``(E, D)``; ``(E, 3)`` or ``(E, 6)``
            for curved cells.
        electrode: number of the electrode of each of these facets, from 0, ``(E,)``.

    Raises:
        TypeError: no real numbers.
        ValueError: node numbers that do not exist or are not whole, a node of no cell, an inverted or flat
            cell (its number is given), a mesh in several parts or with a seam along which cells share no
            nodes, an electrode facet that is not on the boundary or given twice, electrodes that touch, an
            electrode number without a facet.

    Example:
        >>> points = [[0, 0], [1, 0], [1, 1], [0, 1]]
        >>> mesh = Mesh(points, [[0, 1, 2], [0, 2, 3]], facets=[[0, 1], [2, 3]], electrode=[0, 1])
        >>> mesh.dim, mesh.order, mesh.electrodes
        (2, 1, 2)
    """

    points: Array
    cells: Index
    facets: Index
    electrode: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", doubles(self.points, "points"))
        for name in ("cells", "facets", "electrode"):
            object.__setattr__(self, name, whole_numbers(getattr(self, name), name))
        _check_shapes(self)
        _check_cells(self)
        _check_facets(self)
        _check_electrodes(self)

    @property
    def dim(self) -> int:
        """D, 2 or 3."""
        return int(self.points.shape[1])

    @property
    def order(self) -> int:
        """1 for straight cells, 2 for curved ones."""
        return 1 if self.cells.shape[1] == self.dim + 1 else 2

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return int(self.electrode.max()) + 1

    def second_order(self) -> Mesh:
        """The same mesh with a node in the middle of every edge; itself if it has them."""
        if self.order == 2:
            return self
        points, (cells, facets) = with_middles(self.points, self.cells, self.facets)
        return Mesh(points, cells, facets, self.electrode)


def with_middles(points: Array, *simplices: NDArray[Any]) -> tuple[Array, list[Index]]:
    """Add a node in the middle of every edge of straight cells.

    Args:
        points: vertices, m, ``(N, D)``.
        simplices: vertices of cells, facets and so on, ``(K, 2)``, ``(K, 3)`` or ``(K, 4)``, the cells first:
            what follows has no other edges.

    Returns:
        All nodes, the new ones last, and the simplices with the nodes on their edges.
    """
    count = len(points)
    keys = []
    for simplex in simplices:
        pairs = simplex[:, EDGES[simplex.shape[1] - 1]].astype(np.int64)
        keys.append(pairs.min(axis=2) * count + pairs.max(axis=2))
    unique = np.unique(keys[0])
    middles = 0.5 * (points[unique // count] + points[unique % count])
    numbers = [
        np.hstack([simplex, count + np.searchsorted(unique, key)]).astype(np.int32)
        for simplex, key in zip(simplices, keys, strict=True)
    ]
    return np.concatenate([points, middles]), numbers


def _facet_nodes(dim: int, order: int) -> NDArray[np.intp]:
    """Which nodes of a cell are those of its facet opposite each vertex, ``(D + 1, n)``."""
    vertices = [[v for v in range(dim + 1) if v != k] for k in range(dim + 1)]
    if order == 1:
        return np.array(vertices)
    middle = {edge: dim + 1 + k for k, edge in enumerate(EDGES[dim])}
    return np.array([v + [middle[v[i], v[j]] for i, j in EDGES[dim - 1]] for v in vertices])


def boundary_facets(cells: NDArray[Any], dim: int) -> tuple[Index, Index]:
    """The facets that belong to one cell only: their nodes, ``(F, n)``, and their cells, ``(F,)``."""
    return _unpaired(cells, dim, *_sorted_facets(cells, dim))


def _sorted_facets(cells: NDArray[Any], dim: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The facets of all cells in an order in which equal ones follow each other.

    Returns:
        Their numbers, ``(C (D + 1),)``, D + 1 for each cell, and whether each is the same as the next.
    """
    vertices = np.ascontiguousarray(cells[:, : dim + 1].T, np.int64)
    facets = (vertices[nodes].T for nodes in _facet_nodes(dim, 1))
    count = int(vertices.max()) + 1
    keys = np.stack([facet_keys(facet, count) for facet in facets], axis=1).ravel()
    order = np.argsort(keys)
    ordered = keys[order]
    return order, ordered[1:] == ordered[:-1]


def _unpaired(
    cells: NDArray[Any], dim: int, order: NDArray[np.intp], same: NDArray[np.bool_]
) -> tuple[Index, Index]:
    """What :func:`boundary_facets` gives, from :func:`_sorted_facets`."""
    paired = np.append(same, False)
    paired[1:] |= same
    cell, number = np.divmod(np.sort(order[~paired]), dim + 1)
    local = _facet_nodes(dim, 1 if cells.shape[1] == dim + 1 else 2)
    return cells[cell[:, None], local[number]].astype(np.int32), cell.astype(np.int32)


def oriented(points: Array, cells: Index) -> Index:
    """The same straight or curved cells with two vertices swapped where they were inverted."""
    dim = points.shape[1]
    corners = points[cells[:, : dim + 1]]
    wrong = np.linalg.det(corners[:, 1:] - corners[:, :1]) < 0
    swap = {3: [0, 2, 1], 6: [0, 2, 1, 3, 5, 4]}
    swap |= {4: [0, 1, 3, 2], 10: [0, 1, 3, 2, 4, 6, 5, 8, 7, 9]}
    turned = cells.copy()
    turned[wrong] = cells[wrong][:, swap[cells.shape[1]]]
    return turned


def facet_keys(facets: NDArray[Any], count: int) -> NDArray[np.int64]:
    """One number for each facet, from its vertices in any order: ``(F, D)``, below ``count``, to ``(F,)``."""
    if count ** facets.shape[1] >= 2**63:
        raise InputError(f"a three-dimensional mesh takes at most 2 million vertices, got {count}")
    first, *others = (column.astype(np.int64) for column in facets.T)
    low = high = total = first  # sorting rows of two or three would be slow
    for column in others:
        low, high, total = np.minimum(low, column), np.maximum(high, column), total + column
    if len(others) == 2:
        return np.asarray((low * count + (total - low - high)) * count + high)
    return np.asarray(low * count + high)


def _determinants(mesh: Mesh, places: Array) -> Array:
    """Determinant of the map from the reference cell at barycentric ``places``, ``(P, C)``."""
    corners = np.ascontiguousarray(mesh.points.T)[:, mesh.cells.T]  # (D, n, C)
    with np.errstate(invalid="ignore"):  # of points that are not finite
        return np.stack([_det(_shape_gradients(place, mesh.order).T @ corners) for place in places])


def _det(matrices: Array) -> Array:
    """Determinants of small matrices ``(D, D, C)``: numpy's takes many times as long."""
    if len(matrices) == 2:
        (a, b), (c, d) = matrices
        return np.asarray(a * d - b * c)
    u, (a, b, c), (d, e, f) = matrices
    return np.asarray(u[0] * (b * f - c * e) + u[1] * (c * d - a * f) + u[2] * (a * e - b * d))


def _shape_gradients(place: Array, order: int) -> Array:
    """Gradients of a cell's shape functions in reference coordinates at a place, ``(n, D)``."""
    eye = np.eye(len(place))
    by_barycentric = eye
    if order == 2:
        edges = [4 * (place[i] * eye[j] + place[j] * eye[i]) for i, j in EDGES[len(place) - 1]]
        by_barycentric = np.vstack([np.diag(4 * place - 1), edges])
    gradient: Array = by_barycentric[:, 1:] - by_barycentric[:, :1]
    return gradient


def _check_shapes(mesh: Mesh) -> None:
    shapes = mesh.points.shape, mesh.cells.shape, mesh.facets.shape
    columns = tuple(shape[1] if len(shape) == 2 else 0 for shape in shapes)
    known = {(2, 3, 2), (2, 6, 3), (3, 4, 3), (3, 10, 6)}
    if columns not in known or mesh.electrode.shape != shapes[2][:1]:
        raise InputError(
            "a mesh takes points (N, D), cells (C, D + 1), facets (E, D) and electrode (E,), or cells and "
            "facets with a node on every edge too: (C, 6) and (E, 3), (C, 10) and (E, 6); got shapes "
            f"{', '.join(map(str, shapes))} and {mesh.electrode.shape}"
        )
    count = len(mesh.points)
    for name in ("cells", "facets"):
        index = getattr(mesh, name)
        if index.size == 0 or index.min() < 0 or index.max() >= count:
            raise InputError(f"{name} has to hold numbers of points, 0 to {count - 1}")


def _check_cells(mesh: Mesh) -> None:
    places = np.eye(mesh.dim + 1)
    if mesh.order == 1:
        places = places[:1]
    else:  # at all nodes
        places = with_middles(places, np.arange(mesh.dim + 1)[None])[0]
    lowest = _determinants(mesh, places).min(axis=0)
    bad = np.flatnonzero(~(lowest > 0))
    if len(bad):
        raise InputError(
            f"cell {bad[0]} is inverted or flat (its Jacobian determinant falls to {lowest[bad[0]]:.3g}), "
            f"{len(bad)} such cells in all"
        )
    count = len(mesh.points)
    unused = np.flatnonzero(np.bincount(mesh.cells.ravel(), minlength=count) == 0)
    if len(unused):
        raise InputError(f"point {unused[0]} belongs to no cell, {len(unused)} such points in all")


def _check_facets(mesh: Mesh) -> None:
    order, same = _sorted_facets(mesh.cells, mesh.dim)
    outer = _unpaired(mesh.cells, mesh.dim, order, same)[0]
    check_seams(mesh.points, outer[:, : mesh.dim])
    cell = order // (mesh.dim + 1)
    pairs = cell[:-1][same], cell[1:][same]
    count = len(mesh.cells)
    graph = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(count, count))
    parts = connected_components(graph, directed=False)[0]
    if parts != 1:
        raise InputError(f"the mesh falls into {parts} parts that share no facets")
    if (same[1:] & same[:-1]).any():
        raise InputError(
            "a facet belongs to more than two cells: cells overlap, or are given twice"
        )


def _check_electrodes(mesh: Mesh) -> None:
    if mesh.electrode.min() < 0:
        raise InputError("electrodes are numbered from 0, got a negative number")
    bare = np.flatnonzero(np.bincount(mesh.electrode) == 0)
    if len(bare):
        raise InputError(f"electrode {bare[0] + 1} has no facet in the mesh")
    on = np.zeros(len(mesh.points), bool)
    on[mesh.facets] = True
    near = [
        mesh.cells[on[mesh.cells[:, nodes]].all(axis=1)][:, nodes]
        for nodes in _facet_nodes(mesh.dim, mesh.order)
    ]
    both = np.sort(np.concatenate([mesh.facets, *near]), axis=1)
    number = np.unique(both, axis=0, return_inverse=True)[1].ravel()
    given, known = np.split(number, [len(mesh.facets)])
    for problem, count in (
        ("is not on the boundary", np.bincount(known, minlength=number.max() + 1)),
        ("is given twice", np.bincount(given)),
    ):
        bad = np.flatnonzero(count[given] != 1)
        if len(bad):
            raise InputError(f"facet {bad[0]} of electrode {mesh.electrode[bad[0]] + 1} {problem}")
    owner = np.zeros(len(mesh.points), np.int32)
    owner[mesh.facets] = mesh.electrode[:, None]
    row, column = np.nonzero(owner[mesh.facets] != mesh.electrode[:, None])
    if len(row):
        pair = owner[mesh.facets[row[0], column[0]]] + 1, mesh.electrode[row[0]] + 1
        raise InputError(f"electrodes {min(pair)} and {max(pair)} touch; leave a gap between them")
