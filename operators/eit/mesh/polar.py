"""Meshes of round tanks by rings: no mesh generator, and the same after a turn by one electrode.

And such meshes with each electrode between other angles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.arguments import doubles
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.mesh import EDGES, Mesh, oriented, with_middles

Array = NDArray[np.float64]
Index = NDArray[np.int32]


def polar_mesh(
    tank: Tank | Cylinder,
    edges: int = 4,
    growth: float = 1.2,
    longest: float = 0.25,
    halvings: int = 0,
    *,
    interface: float | None = None,
    order: int = 1,
) -> Mesh:
    """Mesh a tank by rings: invariant under rotation by one electrode, and no gmsh needed.

    The length of an edge at depth d is about ``min(longest, rim + (growth - 1) d)``, before halving. A
    cylinder gets layers of prisms over such a mesh, each cut into three tetrahedra; layers grow likewise
    with the distance from the rings of electrodes.

    Args:
        tank: a disk or a cylinder.
        edges: boundary edges on each electrode, and in each gap, more where one would span over 30 degrees;
            layers in each ring of electrodes.
        growth: factor by which cells grow from one ring to the next one inwards.
        longest: longest edge, in radii.
        halvings: how often every edge is then halved, in polar coordinates.
        interface: radius of a circle (or cylinder) that no cell crosses, in radii, between 0 and 1.
        order: 1 for straight cells; 2 for curved cells, whose edges along rings lie on the rings' circles.

    Example:
        >>> mesh = polar_mesh(Tank(electrodes=8, width=20), edges=2)
        >>> mesh.electrodes, len(mesh.facets)
        (8, 16)
    """
    edges, halvings = check_count(edges, "edges"), check_count(halvings, "halvings", at_least=0)
    longest = check_number(longest, "longest")
    if check_number(growth, "growth") < 1:
        raise InputError(f"growth has to be at least 1, got {growth}")
    if interface is not None:
        interface = check_number(interface, "interface (in radii)", high=1.0)
    if check_count(order, "order") > 2:
        raise InputError(f"order has to be 1 or 2, got {order}")
    if not isinstance(tank, Tank | Cylinder):
        raise InputTypeError(f"polar_mesh takes a Tank or a Cylinder, got {type(tank).__name__}")
    base = tank.base if isinstance(tank, Cylinder) else tank
    points, cells, facets = _disk(base, edges, growth, longest, halvings, interface)
    numbers = np.arange(base.electrodes, dtype=np.int32)
    if base.clockwise:
        numbers = -numbers % base.electrodes
    electrode = np.repeat(numbers, len(facets) // base.electrodes)
    if isinstance(tank, Cylinder):
        heights, ring = _layers(tank, edges, growth, longest, halvings)
        points, cells, facets, electrode = _extrude(points, cells, facets, electrode, heights, ring)
    if order == 2:
        points, (cells, facets) = _curved(points, cells, facets)
    turn = np.deg2rad(tank.first_angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points[:, :2] = points[:, :2] @ rotation
    return Mesh(tank.radius * points, cells, facets, electrode)


def _disk(
    tank: Tank, edges: int, growth: float, longest: float, halvings: int, interface: float | None
) -> tuple[Array, Index, Index]:
    """Vertices, triangles and electrode edges of the unit disk, the first electrode at angle 0."""
    number, sector = tank.electrodes, np.deg2rad(tank.spacing)
    rings = _rings(tank, edges, growth, longest, interface)
    points, cells = _fill(rings, sector, number)
    rim = number * len(rings[0][1])
    first = np.arange(rim).reshape(number, -1)[:, : _rim_edges(tank.width, edges)]
    facets = np.stack([first, first + 1], axis=2).reshape(-1, 2).astype(np.int32)
    for _ in range(halvings):
        points, cells, facets = _halved(points, cells, facets)
    return points, cells, facets


def _rings(
    tank: Tank, edges: int, growth: float, longest: float, interface: float | None
) -> list[tuple[float, Array]]:
    """Radius of each ring and the angles of its vertices in the first electrode's sector, from outside."""
    sector, half = np.deg2rad(tank.spacing), np.deg2rad(tank.width) / 2
    electrode = np.linspace(-half, half, _rim_edges(tank.width, edges) + 1)[:-1]
    gap = np.linspace(half, sector - half, _rim_edges(tank.spacing - tank.width, edges) + 1)[:-1]
    rings = [(1.0, np.concatenate([electrode, gap]))]
    fewest = -(-6 // tank.electrodes)
    for radius, size in _radii(min(sector / (2 * edges), longest), growth, longest, interface):
        if radius < 0.5 * size or radius * sector < 0.25 * size:
            break
        count = min(len(rings[-1][1]), max(fewest, round(radius * sector / size)))
        rings.append((radius, -half + sector * np.arange(count) / count))
    return rings


def _rim_edges(angle: float, edges: int) -> int:
    """Edges on an arc of this many degrees: longer ones would cut off too much of the disk."""
    return max(edges, int(np.ceil(angle / 30)))


def _radii(
    size: float, growth: float, longest: float, interface: float | None
) -> Iterator[tuple[float, float]]:
    """Radii of rings inside of the rim, and the length of an edge there."""
    radius, outer = 1.0, []
    while radius > (interface or 0.0):
        radius -= size
        outer.append((radius, size))
        size = min(size * growth, longest)
    if interface is None:
        yield from outer
        return
    if len(outer) > 1 and interface - outer[-1][0] > outer[-2][0] - interface:
        outer.pop()
    stretch = (1 - interface) / (1 - outer[-1][0])
    yield from ((1 - stretch * (1 - radius), stretch * size) for radius, size in outer)
    radius, size = interface, min(stretch * outer[-1][1] * growth, longest)
    while radius > 0:
        radius -= size
        yield radius, size
        size = min(size * growth, longest)


def _fill(rings: list[tuple[float, Array]], sector: float, number: int) -> tuple[Array, Index]:
    """Vertices of all rings and the centre, and triangles between them."""
    points, starts = [], [0]
    for radius, angles in rings:
        full = (angles + sector * np.arange(number)[:, None]).ravel()
        points.append(radius * np.stack([np.cos(full), np.sin(full)], axis=1))
        starts.append(starts[-1] + len(full))
    cells = [
        starts[k] + _strip(rings[k][1], rings[k + 1][1], sector, number)
        for k in range(len(rings) - 1)
    ]
    last = np.arange(starts[-2], starts[-1])
    cells.append(np.stack([last, np.roll(last, -1), np.full(len(last), starts[-1])], axis=1))
    return np.concatenate([*points, np.zeros((1, 2))]), np.concatenate(cells).astype(np.int32)


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


def _halved(points: Array, cells: Index, facets: Index) -> tuple[Array, Index, Index]:
    """Every triangle cut into four, every edge into two."""
    points, (cells, facets) = _curved(points, cells, facets)
    quarters = cells[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2], [3, 4, 5]]]
    halves = facets[:, [[0, 2], [2, 1]]]
    return points, quarters.reshape(-1, 3), halves.reshape(-1, 2)


def _curved(points: Array, cells: Index, facets: Index) -> tuple[Array, list[Index]]:
    """A node on every edge, half-way in polar coordinates: on its circle where the edge is of a ring."""
    points, (cells, facets) = with_middles(points, cells, facets)
    radius = np.linalg.norm(points[:, :2], axis=1, keepdims=True)
    unit = points[:, :2] / np.where(radius > 0, radius, 1)  # the axis has no direction
    vertices = points.shape[1] + 1
    for (i, j), middle in zip(EDGES[vertices - 1], cells[:, vertices:].T, strict=True):
        a, b = cells[:, i], cells[:, j]
        direction = unit[a] + unit[b]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction /= np.where(length > 0, length, 1)
        points[middle, :2] = 0.5 * (radius[a] + radius[b]) * direction
    return points, [cells, facets]


# Cylinders: layers of prisms over a disk, each cut into three tetrahedra ----------------------


def _layers(
    tank: Cylinder, edges: int, growth: float, longest: float, halvings: int
) -> tuple[Array, Index]:
    """Heights of the layers' borders, in radii, ``(K + 1,)``, and the ring of each layer, -1 for none."""
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


def _extrude(
    points: Array, cells: Index, facets: Index, electrode: Index, heights: Array, ring: Index
) -> tuple[Array, Index, Index, Index]:
    """Points, tetrahedra, electrode triangles and electrodes of a body of layers over a disk.

    The cut of a prism follows an order of its triangle's vertices: from outside to inside, then
    counterclockwise. Neighbours agree on it, and so do cells that a rotation maps to each other.
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


# Other electrode edges: nodes near the wall are turned, cells stay as they are -----------------


def electrode_edges(tank: Tank) -> Array:
    """Angles between which each electrode of a tank lies, degrees, counterclockwise: ``(L, 2)``."""
    half = tank.width / 2
    return np.stack([tank.angles - half, tank.angles + half], axis=1)


def with_electrode_edges(mesh: Mesh, tank: Tank, edges: ArrayLike, depth: float = 0.3) -> Mesh:
    """The mesh with each electrode between other angles.

    Nodes on the wall turn with the electrode edges next to them, those further in by less, those
    deeper than ``depth`` not at all.

    Args:
        mesh: of the tank with evenly spaced electrodes of one width.
        tank: that tank.
        edges: angles at which each electrode starts and ends, degrees, counterclockwise, ``(L, 2)``.
        depth: in radii.

    Raises:
        ValueError: not two angles for each electrode, or electrodes that overlap or are turned inside out.

    Example:
        >>> tank = Tank(electrodes=4, width=30)
        >>> moved = with_electrode_edges(polar_mesh(tank), tank, electrode_edges(tank) + 2)
        >>> tip = moved.points[moved.facets[0, 0]]
        >>> round(float(np.rad2deg(np.arctan2(tip[1], tip[0]))), 6)
        -13.0
    """
    depth = check_number(depth, "depth (in radii)")
    return replace(mesh, points=turned(mesh.points, tank, doubles(edges, "edges"), depth))


def turned(points: Array, tank: Tank, edges: Array, depth: float = 0.3) -> Array:
    """Where :func:`with_electrode_edges` moves the points of a mesh, m, ``(N, 2)``."""
    nominal = electrode_edges(tank)
    if edges.shape != nominal.shape or not np.isfinite(edges).all():
        raise InputError(
            f"edges has to be finite of shape {nominal.shape}, got shape {edges.shape}"
        )
    order = np.argsort(nominal.ravel() % 360)
    shift = ((edges - nominal + 180) % 360 - 180).ravel()[order]
    at = (nominal.ravel() % 360)[order]
    gaps = np.diff(np.append(at + shift, at[0] + shift[0] + 360))
    if not (gaps > 0).all():
        number = order[int(gaps.argmin())] // 2 + 1
        raise InputError(f"electrode {number} overlaps another one, or ends before it starts")
    radius = np.linalg.norm(points, axis=1) / tank.radius
    angle = np.rad2deg(np.arctan2(points[:, 1], points[:, 0])) % 360
    near = np.clip(1 - (1 - radius) / depth, 0, 1)
    share = near**2 * (3 - 2 * near)
    around = np.concatenate([at - 360, at, at + 360])
    new = np.deg2rad(angle + share * np.interp(angle, around, np.tile(shift, 3)))
    unit = np.stack([np.cos(new), np.sin(new)], axis=1)
    return np.asarray((radius * tank.radius)[:, None] * unit)
