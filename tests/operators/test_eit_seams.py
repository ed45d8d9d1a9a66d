"""What is given twice or not quite closed: seams of meshes, electrodes in mesh files, points of outlines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mesh_cases import volumes

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit import (
    EIT,
    BoundaryCurve,
    Cylinder,
    Mesh,
    Protocol,
    Tank,
    polar_mesh,
    read_mesh,
)
from onmanifold.operators.eit.mesh.files import _numbers
from onmanifold.operators.eit.mesh.generate import gmsh_session
from onmanifold.operators.eit.mesh.mesh import boundary_facets

TANK = Tank(electrodes=8, width=20)
BODIES = {"disk": TANK, "cylinder": Cylinder(per_ring=6, electrode_height=0.3, width=20)}


def cut(mesh, shift=0.0):
    """The mesh with nodes on half of a plane in its inside given twice, those of one side moved."""
    points, cells = mesh.points, mesh.cells.copy()
    rim = np.unique(boundary_facets(mesh.cells, mesh.dim)[0])
    upper = points[cells[:, : mesh.dim + 1]].mean(axis=1)[:, 0] > 0
    both = np.setdiff1d(np.intersect1d(cells[upper], cells[~upper]), rim)
    both = both[points[both, 1] > -0.2]
    number = np.arange(len(points))
    number[both] = len(points) + np.arange(len(both))
    cells[upper] = number[cells[upper]]
    moved = points[both] + shift
    return np.vstack([points, moved]), cells, mesh.facets, mesh.electrode


@pytest.mark.parametrize("shift", [0.0, 1e-9])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_nodes_given_twice_are_refused(body, order, shift):
    mesh = polar_mesh(body, edges=2, order=order)
    with pytest.raises(InputError, match=r"point \d+ lies at the place of point \d+.*Merge points"):
        Mesh(*cut(mesh, shift))


def square(left, right):
    """Two halves of a square, side by side, with so many edges each along the seam."""
    points, cells = [], []
    for x, count in ((0.0, left), (1.0, right)):
        first = len(points)
        points += [(x + s, t) for t in np.linspace(0, 1, count + 1) for s in (0.0, 1.0)]
        for k in range(count):
            a = first + 2 * k
            cells += [(a, a + 1, a + 3), (a, a + 3, a + 2)]
    return np.array(points), np.array(cells)


def test_halves_that_do_not_match_are_refused():
    """Joined at the corners, with other nodes along the seam: hanging ones."""
    points, cells = square(2, 3)
    same = {6: 1, 12: 5}  # the corners of the seam
    cells = np.vectorize(lambda n: same.get(n, n))(cells)
    used, cells = np.unique(cells, return_inverse=True)
    cells = cells.reshape(-1, 3)
    with pytest.raises(InputError, match="parts that share no facets|lies at a facet"):
        Mesh(points[used], cells, [[0, 2]], [0])


def test_a_node_within_a_facet_is_refused():
    """A square of three triangles, one edge of which has a node in its middle on one side only."""
    points = [[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5], [-1, 0.5]]
    cells = [[0, 1, 2], [0, 4, 3], [4, 2, 3], [0, 3, 5]]
    with pytest.raises(InputError, match="parts that share no facets|point 4 lies at a facet"):
        Mesh(points, cells, [[0, 1]], [0])


def test_parts_that_touch_in_a_point_are_refused():
    points = [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]
    with pytest.raises(InputError, match="2 parts that share no facets"):
        Mesh(points, [[0, 1, 2], [0, 3, 4]], [[1, 2], [3, 4]], [0, 1])


def test_cells_given_twice_are_refused():
    mesh = polar_mesh(TANK, edges=2)
    with pytest.raises(InputError, match="more than two cells"):
        Mesh(mesh.points, np.vstack([mesh.cells, mesh.cells[:3]]), mesh.facets, mesh.electrode)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_whole_meshes_pass(body, scale):
    mesh = polar_mesh(body, edges=3, growth=2.0)
    again = Mesh(scale * mesh.points, mesh.cells, mesh.facets, mesh.electrode)
    assert volumes(again).sum() == pytest.approx(scale**again.dim * volumes(mesh).sum())


def test_a_narrow_slit_is_one():
    """A gap of a hundredth of an edge is no seam: somebody meant it."""
    points, cells, facets, electrode = cut(polar_mesh(TANK, edges=2))
    mesh = polar_mesh(TANK, edges=2)
    moved = points.copy()
    sides = points[mesh.cells[:, 1]] - points[mesh.cells[:, 0]]
    moved[len(mesh.points) :, 0] += 0.01 * np.linalg.norm(sides, axis=1).min()
    assert len(Mesh(moved, cells, facets, electrode).points) == len(points)


# Electrodes in files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({1: "electrode 1", 2: "Electrode_01"}, "one electrode by their names: 1 'electrode 1', 2"),
        ({1: "electrode 0", 2: "electrode 1"}, "count from 0"),
        ({1: "electrode 1", 2: "electrode left"}, "no number of their own: 2 'electrode left'"),
        ({1: "electrode 1", 2: "elec2b"}, "no number of their own"),
        ({1: "wall", 2: ""}, "no group of facets is named like"),
    ],
)
def test_names_that_are_unclear(groups, message):
    with pytest.raises(InputError, match=message):
        _numbers(groups, None)


def test_names_that_are_clear():
    assert _numbers({5: "e1", 6: " E-002 ", 7: "wall", 8: "elevation"}, None) == {5: 0, 6: 1}


@pytest.mark.parametrize(
    ("electrodes", "error", "message"),
    [
        ({"a": 0, "x": 1}, InputError, "no group of facets 'x'"),
        ({"b": 0}, InputError, "several groups of facets are named 'b'"),
        ({"a": 0, 1: 1}, InputError, "two electrode numbers"),
        ({"a": -1}, InputError, "at least 0"),
        ({"a": 0.5}, InputTypeError, "int"),
        ({"a": "0"}, InputTypeError, "int"),
        ({"a": True}, InputTypeError, "int"),
        (["a"], InputTypeError, "map groups"),
    ],
)
def test_numbers_that_are_wrong(electrodes, error, message):
    with pytest.raises(error, match=message):
        _numbers({1: "a", 2: "b", 3: "b"}, electrodes)


def test_numbers_of_numpy_and_several_groups():
    assert _numbers({1: "a", 2: "b", 3: "c"}, {"a": np.int64(1), 2: 0, 3: 1}) == {1: 1, 2: 0, 3: 1}


def test_an_electrode_of_several_groups(gmsh, tmp_path):
    """All of them are its facets; numbers with a gap are refused."""
    with gmsh_session(gmsh):
        gmsh.option.setNumber("Mesh.MeshSizeMax", 0.4)
        gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
        gmsh.model.occ.synchronize()
        for tag in (1, 2, 3):
            gmsh.model.addPhysicalGroup(1, [tag], name=f"electrode {(1, 2, 4)[tag - 1]}")
        gmsh.model.addPhysicalGroup(2, [1], name="water")
        gmsh.model.mesh.generate(2)
        gmsh.write(str(tmp_path / "a.msh"))
    with pytest.raises(InputError, match="electrode 3 has no facet"):
        read_mesh(tmp_path / "a.msh")
    lengths = []
    for groups in ({"electrode 1": 0, "electrode 4": 0}, {"electrode 1": 0}):
        mesh = read_mesh(tmp_path / "a.msh", groups)
        sides = mesh.points[mesh.facets]
        lengths.append(np.linalg.norm(sides[:, 1] - sides[:, 0], axis=1).sum())
    assert lengths == pytest.approx([2.0, 1.0])


# Outlines -----------------------------------------------------------------------------------------

ANGLES = np.linspace(0, 2 * np.pi, 65)
ROUND = 0.15 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


@pytest.mark.usefixtures("gmsh", "compiler")
@pytest.mark.parametrize("digits", [17, 9, 8])
@pytest.mark.parametrize("smooth", [False, True])
def test_closed_up_to_rounding(smooth, digits):
    closed = np.array([[float(f"{x:.{digits}g}") for x in point] for point in ROUND])
    closed[-1] += 1e-9
    open_one, closed_one = (
        BoundaryCurve(points, electrodes=16, width=0.02, smooth=smooth)
        for points in (ROUND[:-1], closed)
    )
    assert len(np.asarray(closed_one.points)) == 64
    np.testing.assert_allclose(closed_one.centres, open_one.centres, atol=1e-8)
    x = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    y, expected = (
        EIT(body, Protocol.adjacent(16), (1, 8, 8)).A(x) for body in (closed_one, open_one)
    )
    assert (y - expected).abs().max() < 1e-2 * expected.abs().max()


def test_both_senses_are_taken():
    curves = [BoundaryCurve(p, electrodes=4, width=0.02) for p in (ROUND[:-1], ROUND[:-1][::-1])]
    assert curves[0].length == pytest.approx(curves[1].length)


SQUARE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([*SQUARE[:2], (1.0, 1e-9), *SQUARE[2:]], "points 2 and 3 .* coincide"),
        ([*SQUARE[:2], SQUARE[1], *SQUARE[2:]], "points 2 and 3 .* coincide"),
        ([*SQUARE, SQUARE[0], SQUARE[0]], "points 5 and 1 .* coincide"),
        ([SQUARE[k] for k in (0, 2, 1, 3)], "crosses itself"),
        ([*SQUARE, (0.5, 0.0)], "crosses itself|turns back"),
        ([(0, 0), (2, 0), (1, 0), (1, 1)], "turns back on itself"),
        ([(0, 0), (1, 0), (2, 0)], "turns back on itself"),
        ([*SQUARE, (0.0, -1.0)], "turns back|crosses"),
        ([(0, 0), (3, 0), (3, 1), (2, 1), (2, 0), (1, 0), (1, 1), (0, 1)], "crosses itself"),
        ([(0, 0), (1, 0), (0, 0)], "at least 3 points, got 2"),
        ([(0, 0), (1, 0)], "at least 3 points, got 2"),
        ([], "finite points"),
        ([(0, 0), (0, 0), (0, 0)], "at least 3 points|coincide"),
        ([(0, 0), (1, 0), (1, np.nan)], "finite points"),
        (np.array(SQUARE).T[:, :3], "finite points"),
        (np.array(SQUARE) + 1j, "complex"),
        ("square", "text"),
    ],
)
@pytest.mark.parametrize("smooth", [False, True])
def test_outlines_that_are_none(points, message, smooth):
    if smooth and ("itself" in message or "crosses" in message):
        pytest.skip("a spline through such points may be a curve")
    with pytest.raises(ValueError, match=message):
        BoundaryCurve(points, electrodes=2, width=0.1, smooth=smooth)
