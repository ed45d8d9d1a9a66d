"""Meshes by gmsh, refined towards the borders of the electrodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from onmanifold.checks import check_count, check_number
from onmanifold.errors import InputError, InputTypeError, MissingPackage
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.geometry.curve import BoundaryCurve
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.mesh import Mesh, oriented
from onmanifold.operators.native import one_at_a_time

Array = NDArray[np.float64]
Index = NDArray[np.int32]

_DEFAULTS = {2: (0.003, 0.25, 0.05), 3: (0.02, 0.25, 0.15)}  # edge, growth, interior

# Where basix' nodes are among those of gmsh's types of simplices: lines, triangles, tetrahedra.
_NODES = {
    1: [0, 1],
    8: [0, 1, 2],
    2: [0, 1, 2],
    9: [0, 1, 2, 4, 5, 3],
    4: [0, 1, 2, 3],
    11: [0, 1, 2, 3, 8, 9, 5, 7, 6, 4],
}


def generate_mesh(
    geometry: Geometry,
    edge: float | None = None,
    growth: float | None = None,
    interior: float | None = None,
    order: int = 1,
) -> Mesh:
    """Mesh a geometry with gmsh, refined towards the borders of the electrodes.

    The length of an edge is ``min(interior, edge + growth * distance to the nearest electrode's border)``.
    In two dimensions that border is the electrode's two edges. Lengths are in radii: parts of half the
    width of the geometry's ``extent``.

    Args:
        geometry: a :class:`Tank`, a :class:`BoundaryCurve` or a :class:`Cylinder`.
        edge: length of an edge at an electrode's border, in radii; 0.003 by default, 0.02 in three
            dimensions.
        growth: growth of that length with the distance; 0.25 by default.
        interior: longest edge, in radii; 0.05 by default, 0.15 in three dimensions.
        order: 1 for straight cells, 2 for cells that are curved along the boundary.

    Raises:
        ImportError: gmsh does not import; the message says what to install.
        TypeError: another geometry.
        ValueError: lengths or an order that make no sense.
    """
    if not isinstance(geometry, Geometry):
        raise InputTypeError(f"expected a geometry to mesh, got {type(geometry).__name__}")
    gmsh = import_gmsh()
    lower, upper = geometry.extent
    given = edge, growth, interior
    defaults = _DEFAULTS[len(lower)]
    names = "edge", "growth", "interior"
    edge, growth, interior = (
        default if value is None else check_number(value, name)
        for name, value, default in zip(names, given, defaults, strict=True)
    )
    if not (0 < edge <= interior and growth > 0):
        raise InputError(
            f"expected 0 < edge <= interior and growth > 0, got edge {edge}, growth {growth} and "
            f"interior {interior}"
        )
    if check_count(order, "order") > 2:
        raise InputError(f"order has to be 1 or 2, got {order}")
    radius = (upper[0] - lower[0]) / 2
    with gmsh_session(gmsh):
        electrodes, borders = _draw(gmsh, geometry, radius)
        _set_sizes(gmsh, borders, edge, growth, interior)
        gmsh.model.mesh.generate(len(lower))
        gmsh.model.mesh.setOrder(order)
        if order == 2:
            gmsh.model.mesh.optimize("HighOrder")  # repairs cells that the curved boundary inverts
        points, cells, facets, electrode = read_model(gmsh, electrodes)
    return Mesh(radius * points, cells, facets, electrode)


Entity = tuple[int, int]  # dimension and tag, as gmsh names points, curves and surfaces
# each electrode's entities, and their borders
Drawing = tuple[dict[int, list[Entity]], list[Entity]]


def _draw(gmsh: ModuleType, geometry: Geometry, radius: float) -> Drawing:
    """Draw a geometry in radii."""
    if isinstance(geometry, Tank):
        return _draw_disk(gmsh, geometry)
    if isinstance(geometry, BoundaryCurve):
        return _draw_curve(gmsh, geometry, radius)
    if isinstance(geometry, Cylinder):
        return _draw_cylinder(gmsh, geometry)
    raise InputTypeError(
        f"expected a Tank, a BoundaryCurve or a Cylinder to mesh, got {type(geometry).__name__}"
    )


def _draw_disk(gmsh: ModuleType, tank: Tank) -> Drawing:
    """A disk, its rim cut at the electrodes' edges."""
    occ = gmsh.model.occ
    order = np.argsort(tank.angles % 360)
    borders = np.deg2rad(
        (tank.angles[order, None] % 360 + tank.width * np.array([-0.5, 0.5])).ravel()
    )
    points = [occ.addPoint(np.cos(a), np.sin(a), 0) for a in borders]
    centre = occ.addPoint(0, 0, 0)
    following = points[1:] + points[:1]
    arcs = [occ.addCircleArc(a, centre, b) for a, b in zip(points, following, strict=True)]
    occ.remove([(0, centre)])
    electrodes = {int(k): [arcs[2 * i]] for i, k in enumerate(order)}
    return _fill_curves(gmsh, arcs, electrodes, points)


def _draw_curve(gmsh: ModuleType, curve: BoundaryCurve, radius: float) -> Drawing:
    """The inside of a curve: a line between the corners of a polygon, a spline along a smooth piece."""
    occ = gmsh.model.occ
    pieces = curve.pieces()
    borders = [occ.addPoint(x, y, 0) for x, y in (piece.points[0] / radius for piece in pieces)]
    curves: list[int] = []
    electrodes: dict[int, list[int]] = {}
    for piece, start, end in zip(pieces, borders, borders[1:] + borders[:1], strict=True):
        inside = [occ.addPoint(x, y, 0) for x, y in piece.points[1:-1] / radius]
        points = [start, *inside, end]
        if curve.smooth:
            own = [occ.addSpline(points)]
            occ.remove([(0, tag) for tag in inside])
        else:
            own = [occ.addLine(a, b) for a, b in pairwise(points)]
        curves += own
        if piece.electrode >= 0:
            electrodes[piece.electrode] = own
    return _fill_curves(gmsh, curves, electrodes, borders)


def _fill_curves(
    gmsh: ModuleType, curves: list[int], electrodes: dict[int, list[int]], borders: list[int]
) -> Drawing:
    """The surface inside of a closed loop of curves."""
    gmsh.model.occ.addPlaneSurface([gmsh.model.occ.addCurveLoop(curves)])
    gmsh.model.occ.synchronize()
    owned = {k: [(1, tag) for tag in tags] for k, tags in electrodes.items()}
    return owned, [(0, tag) for tag in borders]


def _draw_cylinder(gmsh: ModuleType, tank: Cylinder) -> Drawing:
    """A cylinder, its mantle cut along the borders of the electrodes."""
    occ = gmsh.model.occ
    body = occ.addCylinder(0, 0, 0, 0, 0, tank.height / tank.radius, 1)
    half, height = np.deg2rad(tank.width) / 2, tank.electrode_height / tank.radius
    patches = []
    for z in tank.rings:
        for phi in np.deg2rad(tank.base.angles):
            low = z / tank.radius - height / 2
            arc = occ.addCircle(0, 0, low, 1, angle1=phi - half, angle2=phi + half)
            patches += [e for e in occ.extrude([(1, arc)], 0, 0, height) if e[0] == 2]
    _, parts = occ.fragment([(3, body)], patches)
    occ.synchronize()
    electrodes = dict(enumerate(parts[1:]))
    borders = [e for part in parts[1:] for e in gmsh.model.getBoundary(part)]
    return electrodes, [(1, abs(tag)) for _, tag in borders]


def _set_sizes(
    gmsh: ModuleType, borders: Sequence[Entity], edge: float, growth: float, interior: float
) -> None:
    """The length of edges by the distance to ``borders``, as gmsh's background field."""
    field = gmsh.model.mesh.field
    distance = field.add("Distance")
    field.setNumbers(distance, "PointsList", [tag for dim, tag in borders if dim == 0])
    curves = [tag for dim, tag in borders if dim == 1]
    if curves:
        longest = max(gmsh.model.occ.getMass(1, tag) for tag in curves)
        field.setNumbers(distance, "CurvesList", curves)
        field.setNumber(distance, "Sampling", int(np.ceil(longest / edge)) + 2)
    threshold = field.add("Threshold")
    for name, value in (
        ("InField", distance),
        ("SizeMin", edge),
        ("SizeMax", interior),
        ("DistMin", 0.0),
        ("DistMax", (interior - edge) / growth),
    ):
        field.setNumber(threshold, name, value)
    field.setAsBackgroundMesh(threshold)


_OPTIONS = {
    "General.Terminal": 0,  # silent
    "Mesh.MeshSizeExtendFromBoundary": 0,  # sizes from the background field only
    "Mesh.MeshSizeFromPoints": 0,
    "Mesh.MeshSizeFromCurvature": 0,
    "Mesh.Algorithm": 6,
    "Mesh.Algorithm3D": 10,
}


@contextmanager
def gmsh_session(gmsh: ModuleType) -> Iterator[None]:
    """An empty model of gmsh, for one thread at a time; a session of the user stays as it was."""
    with one_at_a_time():
        own = not gmsh.isInitialized()
        if own:
            gmsh.initialize(interruptible=False)
        models, current = gmsh.model.list(), gmsh.model.getCurrent()
        options = {option: gmsh.option.getNumber(option) for option in _OPTIONS}
        try:
            for option, value in _OPTIONS.items():
                gmsh.option.setNumber(option, value)
            gmsh.model.add("onmanifold")
            yield
        finally:
            if own:
                gmsh.finalize()
            else:
                _hand_back(gmsh, models, current, options)


def _hand_back(
    gmsh: ModuleType, models: Sequence[str], current: str, options: Mapping[str, float]
) -> None:
    """A user's session as it was."""
    for model in set(gmsh.model.list()) - set(models):
        gmsh.model.setCurrent(model)
        gmsh.model.remove()
    gmsh.model.setCurrent(current)
    for option, value in options.items():
        gmsh.option.setNumber(option, value)


def read_model(
    gmsh: ModuleType, electrodes: Mapping[int, Sequence[Entity]]
) -> tuple[Array, Index, Index, Index]:
    """Points, cells, facets and electrodes of the mesh that gmsh holds.

    Args:
        gmsh: the module.
        electrodes: the curves or surfaces of each electrode.

    Raises:
        ValueError: cells or facets that are no simplices of order 1 or 2, or not all of one order.
    """
    dim = max(dim for dim, _ in gmsh.model.getEntities())
    tags, xyz, _ = gmsh.model.mesh.getNodes()
    number = np.zeros(int(tags.max()) + 1, np.int64)
    number[tags] = np.arange(len(tags))
    nodes = number[_elements(gmsh, [(dim, -1)])]
    owned = {k: number[_elements(gmsh, entities)] for k, entities in electrodes.items()}
    used, inverse = np.unique(nodes, return_inverse=True)
    places = xyz.reshape(-1, 3)[used]
    if dim == 2 and np.ptp(places[:, 2]) > 1e-9 * np.ptp(places[:, :2]):
        raise InputError("its triangles do not lie in a plane z = constant")
    points = np.ascontiguousarray(places[:, :dim])
    cells = oriented(points, inverse.reshape(nodes.shape).astype(np.int32))
    position = np.full(len(tags), -1, np.int32)
    position[used] = np.arange(len(used))
    facets = position[np.concatenate(list(owned.values()))]
    electrode = np.repeat(list(owned), [len(own) for own in owned.values()])
    return points, cells, facets, electrode.astype(np.int32)


def _elements(gmsh: ModuleType, entities: Sequence[Entity]) -> NDArray[np.int64]:
    """Node tags of all elements of these entities, in basix' order, ``(K, n)``."""
    found: dict[int, list[NDArray[np.int64]]] = {}
    for dim, tag in entities:
        kinds, _, nodes = gmsh.model.mesh.getElements(dim, tag)
        for kind, numbers in zip(kinds.tolist(), nodes, strict=True):
            found.setdefault(kind, []).append(numbers.astype(np.int64))
    if len(found) != 1 or not set(found) <= set(_NODES):
        names = [gmsh.model.mesh.getElementProperties(kind)[0] for kind in found]
        raise InputError(
            "expected triangles or tetrahedra of one order (1 or 2), got "
            f"{', '.join(names) or 'no elements'}"
        )
    ((kind, blocks),) = found.items()
    order = _NODES[kind]
    return np.concatenate(blocks).reshape(-1, len(order))[:, order]


def import_gmsh() -> ModuleType:
    """Import gmsh, or say what it needs."""
    try:
        return import_module("gmsh")
    except (ImportError, OSError) as error:
        raise MissingPackage(
            f"gmsh does not import ({error}). Install it with `pip install onmanifold[mesh]`; on Debian and "
            "Ubuntu its wheel needs `apt-get install libglu1-mesa libxcursor1 libxft2 libxinerama1`. "
            "The shipped meshes (load_discretization) and polar_mesh need no gmsh."
        ) from error
