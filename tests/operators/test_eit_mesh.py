"""Meshes: what they are and refuse, by rings, by gmsh, straight and curved, in 2D and 3D."""

from __future__ import annotations

import numpy as np
import pytest
from mesh_cases import volumes
from scipy.spatial import cKDTree

from onmanifold.operators.eit.geometry.base import MeshGeometry
from onmanifold.operators.eit.geometry.curve import BoundaryCurve
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import EDGES, Mesh, boundary_facets
from onmanifold.operators.eit.mesh.polar import polar_mesh

TANK = Tank(radius=0.5, electrodes=8, width=20, first_angle=30)
CYLINDER = Cylinder(
    0.14, 0.2, rings=(0.15, 0.05), per_ring=8, width=20, electrode_height=0.03, first_angle=10
)
POLYGON = BoundaryCurve([(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (0, 2)], electrodes=7, width=0.3)
BEAN = BoundaryCurve(
    [(1, 0), (0.7, 0.6), (0, 0.5), (-0.7, 0.6), (-1, 0), (0, -0.7)],
    at=[0.05, 0.3, 0.6, 0.9],
    width=[0.1, 0.2, 0.3, 0.2],
    smooth=True,
)


def _cube():
    """Six tetrahedra around the diagonal of the unit cube; electrodes on x = 0 and x = 1."""
    points = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    steps = ([4, 2, 1], [2, 1, 4], [1, 4, 2], [4, 1, 2], [1, 2, 4], [2, 4, 1])
    paths = [np.cumsum([0, *s]) for s in steps]
    cells = np.array([p if k < 3 else p[[0, 1, 3, 2]] for k, p in enumerate(paths)])
    facets = np.array([[0, 1, 3], [0, 2, 3], [4, 5, 7], [4, 6, 7]])
    return points, cells, facets, np.array([0, 0, 1, 1])


def test_a_cube():
    mesh = Mesh(*_cube())
    assert (mesh.dim, mesh.order, mesh.electrodes) == (3, 1, 2)
    np.testing.assert_allclose(volumes(mesh), 1 / 6)
    assert len(boundary_facets(mesh.cells, 3)[0]) == 12
    fine = mesh.second_order()
    assert fine.cells.shape == (6, 10) and fine.facets.shape == (4, 6) and len(fine.points) == 27
    for nodes, dim in ((fine.cells, 3), (fine.facets, 2)):
        for (i, j), middle in zip(EDGES[dim], nodes[:, dim + 1 :].T, strict=True):
            both = fine.points[nodes[:, i]] + fine.points[nodes[:, j]]
            np.testing.assert_allclose(fine.points[middle], both / 2)
    np.testing.assert_allclose(volumes(fine), 1 / 6)
    assert fine.second_order() is fine


def _swapped(cells, row):
    cells = cells.copy()
    cells[row, [2, 3]] = cells[row, [3, 2]]
    return cells


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, c, f, e: (p, _swapped(c, 4), f, e), "cell 4 is inverted"),
        (lambda p, c, f, e: (p * [1, 1, 0], c, f, e), "cell 0 is inverted or flat .* 6 such"),
        (lambda p, c, f, e: (p * np.nan, c, f, e), "cell 0 is inverted"),
        (
            lambda p, c, f, e: (p, c, f[[0, 1, 1]], e[:3] * 0),
            "facet 1 of electrode 1 is given twice",
        ),
        (
            lambda p, c, f, e: (p, c, [[0, 1, 3], [0, 3, 7]], [0, 1]),
            "facet 1 of electrode 2 is not on",
        ),
        (lambda p, c, f, e: (p, c, [[0, 1, 3], [0, 1, 5]], [0, 1]), "electrodes 1 and 2 touch"),
        (lambda p, c, f, e: (p, c, [[3, 1, 0], [5, 1, 0]], [1, 0]), "electrodes 1 and 2 touch"),
        (lambda p, c, f, e: (p, c, f, e * 2), "electrode 2 has no facet"),
        (lambda p, c, f, e: (p, c, f[:, :2], e), "a mesh takes points"),
        (lambda p, c, f, e: (p, c, f[:0], e[:0]), "facets has to hold numbers of points, 0 to 7"),
        (
            lambda p, c, f, e: (np.vstack([p, p + 5]), np.vstack([c, c + 8]), f, e),
            "the mesh falls into 2 parts",
        ),
    ],
)
def test_mesh_refuses_in_three_dimensions(change, message):
    with pytest.raises(ValueError, match=message):
        Mesh(*change(*_cube()))


def test_curved_cells_are_checked_at_their_nodes():
    mesh = polar_mesh(TANK, 2, order=2)
    points = mesh.points.copy()
    vertex, middle = mesh.cells[7, 0], mesh.cells[7, 5]  # the middle of the edge (0, 1)
    points[middle] = 0.99 * points[vertex] + 0.01 * points[middle]
    with pytest.raises(ValueError, match="is inverted"):
        Mesh(points, mesh.cells, mesh.facets, mesh.electrode)
    facets = mesh.facets.copy()
    facets[3, 2] = facets[4, 2]  # another edge's middle
    with pytest.raises(ValueError, match="facet 3 of electrode 2 is not on the boundary"):
        Mesh(mesh.points, mesh.cells, facets, mesh.electrode)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("geometry", [TANK, Tank(electrodes=2, width=75), CYLINDER])
def test_polar_mesh_is_invariant_under_a_turn_by_one_electrode(geometry, order):
    mesh = polar_mesh(geometry, 2, order=order)
    _check(mesh, geometry, order)
    count = geometry.electrodes if mesh.dim == 2 else geometry.per_ring
    turn = 2 * np.pi / count
    rotation = np.eye(mesh.dim)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    distance, where = cKDTree(mesh.points).query(mesh.points @ rotation.T)
    assert distance.max() < 1e-12
    vertices = slice(mesh.dim + 1)
    turned = {tuple(cell) for cell in np.sort(where[mesh.cells[:, vertices]], axis=1).tolist()}
    assert turned == {tuple(cell) for cell in np.sort(mesh.cells[:, vertices], axis=1).tolist()}


@pytest.mark.parametrize("geometry", [TANK, CYLINDER])
def test_polar_mesh_is_conforming(geometry):
    """Every facet of one cell only lies on the surface."""
    mesh = polar_mesh(geometry, 3)
    corners = mesh.points[boundary_facets(mesh.cells, mesh.dim)[0]]
    radius = np.linalg.norm(corners[..., :2], axis=2)
    on = (np.abs(radius - geometry.radius) < 1e-12).all(axis=1)
    if mesh.dim == 3:
        on |= np.ptp(corners[..., 2], axis=1) < 1e-12  # and then on the bottom or the lid
        assert set(corners[~(np.abs(radius - 0.14) < 1e-12).all(axis=1)][..., 2].ravel()) == {
            0,
            0.2,
        }
    assert on.all()


@pytest.mark.parametrize("order", [1, 2])
def test_an_interface_is_a_circle_that_no_cell_crosses(order):
    mesh = polar_mesh(TANK, 3, interface=0.43, order=order)
    radius = np.linalg.norm(mesh.points, axis=1)[mesh.cells] / 0.5
    inside, outside = (
        (radius <= 0.43 + 1e-9).all(axis=1),
        (radius[:, :3] >= 0.43 - 1e-9).all(axis=1),
    )
    assert (inside ^ outside).all()
    circle = np.pi * (0.43 * 0.5) ** 2
    assert volumes(mesh)[inside].sum() == pytest.approx(circle, rel=0.11 if order == 1 else 1e-3)


def test_halving_quarters_every_triangle():
    coarse, fine = (polar_mesh(TANK, 2, halvings=k, interface=0.5) for k in (2, 3))
    assert len(fine.cells) == 4 * len(coarse.cells)
    np.testing.assert_array_equal(np.bincount(fine.electrode), 16)
    a, b = (
        m.points[m.cells[:, [0, 1, 2]]] - m.points[m.cells[:, [1, 2, 0]]] for m in (coarse, fine)
    )
    lengths = [np.linalg.norm(edges, axis=2).max() for edges in (a, b)]
    assert lengths[1] == pytest.approx(lengths[0] / 2, rel=0.1)
    _check(fine, TANK, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": 0}, "edges has to be at least 1"),
        ({"growth": 0.9}, "growth has to be at least 1"),
        ({"longest": 0.0}, "longest has to be above 0"),
        ({"interface": 1.0}, "interface .* below 1"),
        ({"halvings": -1}, "halvings"),
        ({"order": 3}, "order has to be 1 or 2"),
    ],
)
def test_polar_mesh_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        polar_mesh(TANK, **options)


@pytest.mark.usefixtures("gmsh")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "geometry",
    [TANK, Tank(electrodes=3, width=30, first_angle=-170, clockwise=True), POLYGON, BEAN],
)
def test_generated_mesh_resolves_the_electrodes(geometry, order):
    mesh = generate_mesh(geometry, 0.02, 0.3, 0.2, order=order)
    _check(mesh, geometry, order)
    lengths = np.linalg.norm(np.diff(mesh.points[mesh.facets[:, :2]], axis=1)[:, 0], axis=1)
    radius = (geometry.extent[1][0] - geometry.extent[0][0]) / 2
    assert lengths.min() < 0.03 * radius and np.sqrt(volumes(mesh).max()) > 0.08 * radius


@pytest.mark.usefixtures("gmsh")
@pytest.mark.parametrize("order", [1, 2])
def test_generated_cylinder_resolves_the_electrodes(order):
    tank = Cylinder(0.14, 0.1, rings=(0.05,), per_ring=4, width=40, electrode_height=0.04)
    mesh = generate_mesh(tank, 0.1, 0.3, 0.4, order=order)
    _check(mesh, tank, order)
    phi = np.rad2deg(np.arctan2(mesh.points[:, 1], mesh.points[:, 0]))
    first = mesh.facets[mesh.electrode == 0]
    assert (phi[first].min(), phi[first].max()) == pytest.approx((-20, 20))
    z = mesh.points[first, 2]
    assert (z.min(), z.max()) == pytest.approx((0.03, 0.07))


@pytest.mark.usefixtures("gmsh")
def test_generate_mesh_refuses():
    mesh = polar_mesh(TANK, 2)
    for options, message in (
        ({"edge": 0.3, "interior": 0.2}, "0 < edge <= interior"),
        ({"growth": 0.0}, "growth has to be above 0"),
        ({"order": 3}, "order has to be 1 or 2"),
    ):
        with pytest.raises(ValueError, match=message):
            generate_mesh(TANK, **options)
    with pytest.raises(
        TypeError, match="a Tank, a BoundaryCurve or a Cylinder to mesh, got MeshGeometry"
    ):
        generate_mesh(MeshGeometry.of(mesh))


def _check(mesh, geometry, order):
    """Order, whole size, and size and centre of each electrode."""
    assert (mesh.order, mesh.electrodes) == (order, geometry.electrodes)
    whole, sizes, tolerance = _sizes(geometry)
    assert volumes(mesh).sum() == pytest.approx(whole, rel=tolerance[order - 1])
    corners = mesh.points[mesh.facets[:, : mesh.dim]]
    sides = corners[:, 1:] - corners[:, :1]
    size = np.sqrt(np.linalg.det(sides @ sides.transpose(0, 2, 1))) / (mesh.dim - 1)
    np.testing.assert_allclose(np.bincount(mesh.electrode, size), sizes, rtol=2e-2)
    width = np.max(sizes ** (1 / (mesh.dim - 1)))
    off = np.abs(MeshGeometry.of(mesh).centres - geometry.centres)
    assert off.max() < 0.2 * width  # of a curved or bent electrode the centre is off it


def _sizes(geometry):
    """Area or volume, sizes of the electrodes, and how near straight and curved cells come."""
    count = geometry.electrodes
    if geometry is POLYGON:
        return 4.0, np.full(count, 0.3), (1e-9, 1e-9)
    if geometry is BEAN:
        x, y = np.concatenate([piece.points[:-1] for piece in geometry.pieces()]).T
        area = 0.5 * np.abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
        return area, np.array([0.1, 0.2, 0.3, 0.2]), (2e-2, 1e-2)
    disk = np.pi * geometry.radius**2
    arc = geometry.radius * np.deg2rad(geometry.width)
    if isinstance(geometry, Cylinder):
        return disk * geometry.height, np.full(count, arc * geometry.electrode_height), (4e-2, 1e-3)
    return disk, np.full(count, arc), (0.11, 1.1e-3)
