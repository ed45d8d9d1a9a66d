"""Meshes of a tank whose electrodes are not even, cut along the outlines of what stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from benchmarks.tanks_parts.shapes import Array, Shape
from onmanifold.operators.eit import Mesh
from onmanifold.operators.eit.mesh.generate import gmsh_session, import_gmsh, read_model

RIM, OUTLINE = (0.002, 0.15), (0.01, 0.2)  # edge at electrodes' ends and outlines, growth; radii
INTERIOR = 0.05  # longest edge, radii


def cut_mesh(ends: Array, shapes: Sequence[Shape], radius: float, finer: float = 1.0) -> Mesh:
    """A mesh of second order, finer than any that a reconstruction uses.

    Args:
        ends: angles at which each electrode starts and ends, degrees, counterclockwise, ``(L, 2)``.
        shapes: rings in radii, none of which meet; no cell crosses them.
        radius: of the tank, m.
        finer: divides the length of all edges.

    Example:
        >>> ends = np.arange(8)[:, None] * 45.0 + [-10, 10]
        >>> square = np.array([[0.0, 0.0], [0.4, 0.0], [0.4, 0.4], [0.0, 0.4]])
        >>> cut_mesh(ends, [(square,)], 1.0).electrodes
        8
    """
    gmsh = import_gmsh()
    with gmsh_session(gmsh):
        arcs, corners = _rim(gmsh, np.deg2rad(ends))
        surface = gmsh.model.occ.addPlaneSurface([gmsh.model.occ.addCurveLoop(arcs)])
        lines = [line for shape in shapes for ring in shape for line in _ring(gmsh, ring)]
        gmsh.model.occ.synchronize()
        gmsh.model.mesh.embed(1, lines, 2, surface)
        near = [
            _near(gmsh, "PointsList", corners, *RIM, finer),
            _near(gmsh, "CurvesList", lines, *OUTLINE, finer),
        ]
        both = gmsh.model.mesh.field.add("Min")
        gmsh.model.mesh.field.setNumbers(both, "FieldsList", near)
        gmsh.model.mesh.field.setAsBackgroundMesh(both)
        gmsh.model.mesh.generate(2)
        gmsh.model.mesh.setOrder(2)
        order = np.argsort(ends[:, 0] % 360)
        electrodes = {int(k): [(1, arcs[2 * i])] for i, k in enumerate(order)}
        points, cells, facets, electrode = read_model(gmsh, electrodes)
    return Mesh(radius * points, cells, facets, electrode)


def middles(mesh: Mesh) -> Array:
    """Centroid of each cell's vertices, m, ``(C, 2)``."""
    return np.asarray(mesh.points[mesh.cells[:, :3]].mean(axis=1))


def _rim(gmsh: ModuleType, ends: Array) -> tuple[list[int], list[int]]:
    """Arcs along electrodes and gaps in turn, and the points between them."""
    occ = gmsh.model.occ
    angles: NDArray[np.float64] = ends[np.argsort(ends[:, 0] % (2 * np.pi))].ravel()
    centre = occ.addPoint(0, 0, 0)
    points = [occ.addPoint(np.cos(a), np.sin(a), 0) for a in angles]
    arcs = [occ.addCircleArc(a, centre, b) for a, b in pairwise([*points, points[0]])]
    occ.remove([(0, centre)])
    return arcs, points


def _ring(gmsh: ModuleType, ring: Array) -> list[int]:
    points = [gmsh.model.occ.addPoint(x, y, 0) for x, y in ring]
    return [gmsh.model.occ.addLine(a, b) for a, b in pairwise([*points, points[0]])]


def _near(
    gmsh: ModuleType, what: str, tags: Sequence[int], edge: float, growth: float, finer: float
) -> int:
    """A field of edge lengths that grow with the distance to points or curves."""
    field = gmsh.model.mesh.field
    distance, threshold = field.add("Distance"), field.add("Threshold")
    field.setNumbers(distance, what, tags)
    field.setNumber(distance, "Sampling", 10)
    for name, value in (
        ("InField", distance),
        ("SizeMin", edge / finer),
        ("SizeMax", INTERIOR / finer),
        ("DistMin", 0.0),
        ("DistMax", (INTERIOR - edge) / growth),
    ):
        field.setNumber(threshold, name, value)
    return int(threshold)
