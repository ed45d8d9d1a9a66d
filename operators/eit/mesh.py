"""Triangle meshes of tanks: shipped ones, gmsh's, and polar ones that need no mesh generator.

``python -m onmanifold.operators.eit.shipped`` makes the shipped files again (needs gmsh and dolfinx).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from onmanifold.operators.eit.tank import Tank

Array = NDArray[np.float64]
Index = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, and the boundary edges that lie on electrodes.

    Attributes:
        points: vertices, m, ``(N, 2)``.
        cells: the three vertices of each triangle, counterclockwise, ``(C, 3)``.
        edges: the two vertices of each boundary edge that lies on an electrode, ``(E, 2)``.
        electrode: number of the electrode of each of these edges, from 0, ``(E,)``.

    Raises:
        ValueError: vertex numbers that do not exist, an inverted or flat cell (its number is given), a
            mesh in several parts, an electrode edge that is not on the boundary, an electrode
            number without an edge.
    """

    points: Array
    cells: Index
    edges: Index
    electrode: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", np.asarray(self.points, np.float64))
        for name in ("cells", "edges", "electrode"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int32))
        shapes = self.points.shape, self.cells.shape, self.edges.shape
        if [s[1:] for s in shapes] != [(2,), (3,), (2,)] or self.electrode.shape != shapes[2][:1]:
            raise ValueError(
                "a mesh takes points (N, 2), cells (C, 3), edges (E, 2) and electrode (E,), got shapes "
                f"{', '.join(map(str, shapes))} and {self.electrode.shape}"
            )
        _check_cells(self)
        _check_electrodes(self)

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return int(self.electrode.max()) + 1

    @property
    def areas(self) -> Array:
        """Area of each cell, m^2, ``(C,)``."""
        a, b, c = (self.points[self.cells[:, k]] for k in range(3))
        (x1, y1), (x2, y2) = (b - a).T, (c - a).T
        area: Array = 0.5 * (x1 * y2 - x2 * y1)
        return area


def disk_mesh(
    tank: Tank, edge: float = 0.003, growth: float = 0.25, interior: float = 0.05
) -> Mesh:
    """Mesh a tank with gmsh, refined towards the ends of the electrodes.

    The length of an edge is ``min(interior, edge + growth * distance to the nearest electrode end)``.

    Args:
        tank: the tank.
        edge: length of an edge at an electrode's end, in radii.
        growth: growth of that length with the distance.
        interior: longest edge, in radii.

    Raises:
        ImportError: gmsh does not import; the message says what to install.
    """
    gmsh = _import_gmsh()
    if not 0 < edge <= interior:
        raise ValueError(f"expected 0 < edge <= interior, got {edge} and {interior}")
    ends = np.deg2rad(np.sort((tank.angles[:, None] + tank.width * np.array([-0.5, 0.5])).ravel()))
    corners = np.stack([np.cos(ends), np.sin(ends)], axis=1)

    def size(dim: int, tag: int, x: float, y: float, z: float, lc: float) -> float:
        distance = np.sqrt(((corners - (x, y)) ** 2).sum(axis=1).min())
        return float(min(interior, edge + growth * distance))

    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        surface = _disk_geometry(gmsh, corners)
        for option in ("ExtendFromBoundary", "FromPoints", "FromCurvature"):
            gmsh.option.setNumber(f"Mesh.MeshSize{option}", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.model.mesh.setSizeCallback(size)
        gmsh.model.mesh.generate(2)
        points, cells = _read_gmsh(gmsh, surface)
    finally:
        gmsh.finalize()
    return tag_electrodes(tank.radius * points, cells, tank)


def polar_mesh(tank: Tank, edges: int = 4, growth: float = 1.2) -> Mesh:
    """Mesh a tank by rings: invariant under rotation by one electrode, and no gmsh needed.

    Args:
        tank: the tank.
        edges: boundary edges on each electrode, and in each gap.
        growth: factor by which cells grow from one ring to the next one inwards.

    Example:
        >>> mesh = polar_mesh(Tank(electrodes=8, width=20), edges=2)
        >>> mesh.electrodes, len(mesh.edges)
        (8, 16)
    """
    if edges < 1 or not growth >= 1:
        raise ValueError(f"expected edges >= 1 and growth >= 1, got {edges} and {growth}")
    number, sector = tank.electrodes, np.deg2rad(tank.spacing)
    half = np.deg2rad(tank.width) / 2
    electrode = np.linspace(-half, half, edges + 1)[:-1]
    gap = np.linspace(half, sector - half, edges + 1)[:-1]
    rings = [(1.0, np.concatenate([electrode, gap]))]
    size = sector / (2 * edges)
    while True:
        radius = rings[-1][0] - size
        if radius < 0.5 * size or radius * sector < 0.25 * size:
            break
        count = min(len(rings[-1][1]), max(1, round(radius * sector / size)))
        rings.append((radius, -half + sector * np.arange(count) / count))
        size = min(size * growth, 0.25)
    points, starts = [], [0]
    for radius, angles in rings:
        full = (angles + sector * np.arange(number)[:, None]).ravel()
        points.append(radius * np.stack([np.cos(full), np.sin(full)], axis=1))
        starts.append(starts[-1] + len(full))
    cells = [
        starts[k] + _strip(rings[k][1], rings[k + 1][1], sector, number)
        for k in range(len(rings) - 1)
    ]
    last = starts[-2] + np.arange(starts[-1] - starts[-2])
    centre = np.full(len(last), starts[-1])
    cells.append(np.stack([last, np.roll(last, -1), centre], axis=1))
    turn = np.deg2rad(tank.first_angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    placed = np.concatenate([*points, np.zeros((1, 2))]) @ rotation
    return tag_electrodes(tank.radius * placed, np.concatenate(cells), tank)


def tag_electrodes(points: Array, cells: NDArray[Any], tank: Tank) -> Mesh:
    """A :class:`Mesh` of a disk whose boundary edges are on the electrode that their middle is on."""
    rim = boundary_edges(cells)
    middle = points[rim].mean(axis=1)
    angle = np.rad2deg(np.arctan2(middle[:, 1], middle[:, 0]))
    offset = np.abs((angle[:, None] - tank.angles + 180) % 360 - 180)
    on = offset.min(axis=1) < tank.width / 2
    return Mesh(points, cells.astype(np.int32), rim[on], offset.argmin(axis=1)[on].astype(np.int32))


def boundary_edges(cells: NDArray[Any]) -> Index:
    """The edges that belong to one cell only, ``(E, 2)``, vertices in ascending order."""
    edges = np.sort(cells[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return np.asarray(unique[count == 1], np.int32)


def _strip(outer: Array, inner: Array, sector: float, number: int) -> Index:
    """Triangles between two rings; vertices of the outer ring come first."""
    p, q = len(outer), len(inner)
    a, b = np.append(outer, outer[0] + sector), np.append(inner, inner[0] + sector)
    i = j = 0
    cells = []
    while i < p or j < q:
        if j == q or (i < p and a[i + 1] + a[i] <= b[j + 1] + b[j]):
            cells.append((i, i + 1, -1 - j))
            i += 1
        else:
            cells.append((i, -1 - (j + 1), -1 - j))
            j += 1
    one = np.array(cells)
    shift = np.arange(number)[:, None, None]
    ring = np.where(
        one >= 0,
        (one + p * shift) % (p * number),
        p * number + (-1 - one + q * shift) % (q * number),
    )
    return np.asarray(ring.reshape(-1, 3), np.int32)


def _disk_geometry(gmsh: ModuleType, corners: Array) -> int:
    """The unit disk, its rim cut at ``corners``; returns the surface's tag."""
    geo = gmsh.model.geo
    centre = geo.addPoint(0, 0, 0)
    tags = [geo.addPoint(x, y, 0) for x, y in corners]
    following = tags[1:] + tags[:1]
    arcs = [geo.addCircleArc(a, centre, b) for a, b in zip(tags, following, strict=True)]
    surface = geo.addPlaneSurface([geo.addCurveLoop(arcs)])
    geo.synchronize()
    return int(surface)


def _read_gmsh(gmsh: ModuleType, surface: int) -> tuple[Array, Index]:
    """Vertices and cells of the surface, counted from 0, counterclockwise."""
    tags, xyz, _ = gmsh.model.mesh.getNodes()
    position = dict(zip(tags.tolist(), xyz.reshape(-1, 3)[:, :2], strict=True))
    triangles = gmsh.model.mesh.getElements(2, surface)[2][0].reshape(-1, 3)
    used, cells = np.unique(triangles, return_inverse=True)
    points = np.array([position[t] for t in used.tolist()])
    cells = cells.reshape(-1, 3)
    a, b, c = (points[cells[:, k]] for k in range(3))
    u, v = b - a, c - a
    flip = u[:, 0] * v[:, 1] < u[:, 1] * v[:, 0]
    cells[flip] = cells[flip][:, ::-1]
    return points, cells.astype(np.int32)


def _import_gmsh() -> ModuleType:
    try:
        return import_module("gmsh")
    except (ImportError, OSError) as error:
        raise ImportError(
            f"gmsh does not import ({error}). Install it with `pip install onmanifold[mesh]`; on Debian and "
            "Ubuntu its wheel needs `apt-get install libglu1-mesa libxcursor1 libxft2 libxinerama1`. "
            "The shipped meshes (load_mesh) and polar_mesh need no gmsh."
        ) from error


def _check_cells(mesh: Mesh) -> None:
    count = len(mesh.points)
    for name in ("cells", "edges"):
        index = getattr(mesh, name)
        if index.size == 0 or index.min() < 0 or index.max() >= count:
            raise ValueError(f"{name} has to hold vertex numbers 0 to {count - 1}")
    bad = np.flatnonzero(~(mesh.areas > 0))
    if len(bad):
        raise ValueError(
            f"cell {bad[0]} is inverted or flat (area {mesh.areas[bad[0]]:.3g}), {len(bad)} such cells in all"
        )
    i, j = mesh.cells, np.roll(mesh.cells, 1, axis=1)
    graph = coo_array((np.ones(i.size), (i.ravel(), j.ravel())), shape=(count, count))
    parts = int(connected_components(graph, directed=False)[0])
    if parts != 1:
        raise ValueError(f"the mesh falls into {parts} parts (vertices of no cell count as parts)")


def _check_electrodes(mesh: Mesh) -> None:
    count = len(mesh.points)
    rim = boundary_edges(mesh.cells)
    known = rim[:, 0].astype(np.int64) * count + rim[:, 1]
    own = np.sort(mesh.edges, axis=1)
    lost = np.flatnonzero(~np.isin(own[:, 0].astype(np.int64) * count + own[:, 1], known))
    if len(lost):
        raise ValueError(
            f"edge {lost[0]} of electrode {mesh.electrode[lost[0]] + 1} is not on the boundary"
        )
    if mesh.electrode.min() < 0:
        raise ValueError("electrodes are numbered from 0, got a negative number")
    bare = np.flatnonzero(np.bincount(mesh.electrode) == 0)
    if len(bare):
        raise ValueError(f"electrode {bare[0] + 1} has no boundary edge in the mesh")
    touched = np.full(count, -1)
    for k in range(2):
        before = touched[mesh.edges[:, k]]
        clash = np.flatnonzero((before >= 0) & (before != mesh.electrode))
        if len(clash):
            pair = sorted((int(before[clash[0]]) + 1, int(mesh.electrode[clash[0]]) + 1))
            raise ValueError(f"electrodes {pair[0]} and {pair[1]} touch; leave a gap between them")
        touched[mesh.edges[:, k]] = mesh.electrode
