"""Element matrices and electrode blocks against theory, and their files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mesh_cases import volumes
from scipy.sparse import coo_array

from onmanifold.operators.eit.fem import assembly
from onmanifold.operators.eit.fem.assembly import assemble
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank
from onmanifold.operators.eit.mesh.mesh import EDGES
from onmanifold.operators.eit.mesh.polar import polar_mesh

TANK = Tank(radius=0.5, electrodes=8, width=20, first_angle=30)
CYLINDER = Cylinder(0.14, 0.2, rings=(0.05, 0.15), per_ring=6, width=30, electrode_height=0.03)
CASES = [
    pytest.param(geometry, order, degree, id=f"{type(geometry).__name__}-mesh{order}-P{degree}")
    for geometry in (TANK, CYLINDER)
    for order in (1, 2)
    for degree in (1, 2)
]

pytestmark = pytest.mark.usefixtures("compiler")


def _energy(d, u):
    """Integral of |grad u|^2 over each cell."""
    return np.einsum("ci,cij,cj->c", u[d.dofs], d.stiffness, u[d.dofs])


@pytest.mark.parametrize("geometry", [TANK, CYLINDER])
def test_linear_elements_are_the_textbook_ones(geometry):
    mesh = polar_mesh(geometry, 2)
    d = assemble(mesh)
    np.testing.assert_array_equal(d.cells, mesh.cells)
    np.testing.assert_array_equal(d.points, mesh.points)
    corners = mesh.points[mesh.cells]
    ones = np.ones((*corners.shape[:2], 1))
    gradients = np.linalg.inv(np.concatenate([ones, corners], axis=2))[:, 1:]  # of shape functions
    expected = volumes(mesh)[:, None, None] * (gradients.transpose(0, 2, 1) @ gradients)
    np.testing.assert_allclose(d.stiffness, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("geometry", "order", "degree"), CASES)
def test_what_every_discretization_obeys(geometry, order, degree):
    mesh = polar_mesh(geometry, 2, order=order)
    d = assemble(mesh, degree)
    vertices = mesh.dim + 1
    largest = np.abs(d.stiffness).max(axis=(1, 2))[:, None]
    assert (np.abs(d.stiffness.sum(axis=2)) <= 1e-13 * largest).all()
    assert (
        np.abs(d.stiffness - d.stiffness.transpose(0, 2, 1)).max(axis=2) <= 1e-13 * largest
    ).all()
    np.testing.assert_array_equal(d.points[d.cells], mesh.points[mesh.cells[:, :vertices]])
    np.testing.assert_array_equal(d.nodes[d.dofs[:, :vertices]], d.points[d.cells])
    np.testing.assert_array_equal(np.unique(d.dofs), np.arange(d.size))
    if degree == 2:
        fine = mesh.second_order()
        np.testing.assert_array_equal(d.nodes[d.dofs], fine.points[fine.cells])
        for (i, j), k in zip(EDGES[mesh.dim], range(vertices, d.dofs.shape[1]), strict=True):
            middle = d.nodes[d.dofs[:, [i, j]]].mean(axis=1)
            off = np.linalg.norm(d.nodes[d.dofs[:, k]] - middle, axis=1)
            assert off.max() < (1e-12 if order == 1 else 0.1 * geometry.radius)


@pytest.mark.parametrize(
    ("geometry", "order", "degree"), [case for case in CASES if case.values[2] >= case.values[1]]
)
def test_energies_of_polynomials_are_exact(geometry, order, degree):
    """Of linear ones where the elements are as rich as the cells' shape; of squares for straight P2."""
    mesh = polar_mesh(geometry, 2, order=order)
    d = assemble(mesh, degree)
    x, y = d.nodes[:, 0], d.nodes[:, 1]
    linear = _energy(d, 2 * x - 3 * y)
    np.testing.assert_allclose(linear, 13 * volumes(mesh), rtol=1e-10)
    if degree == 2 and order == 1 and mesh.dim == 2:  # the rule of the middles is exact for squares
        middles = 0.5 * (mesh.points[mesh.cells][:, :, None] + mesh.points[mesh.cells][:, None])
        i, j = np.triu_indices(3, 1)
        mean = (4 * middles[:, i, j, 0] ** 2).mean(axis=1)
        np.testing.assert_allclose(_energy(d, x**2), mean * volumes(mesh), rtol=1e-10)
    if degree == 2 and order == 2 and mesh.dim == 2:  # |grad r^2|^2 = 4 r^2 over the disk
        whole = _energy(d, x**2 + y**2).sum()
        assert whole == pytest.approx(2 * np.pi * geometry.radius**4, rel=1e-3)


@pytest.mark.parametrize(("geometry", "order", "degree"), CASES)
def test_electrode_blocks_measure_the_electrodes(geometry, order, degree):
    mesh = polar_mesh(geometry, 2, order=order)
    d = assemble(mesh, degree)
    size = geometry.radius * np.deg2rad(geometry.width)
    if mesh.dim == 3:
        size *= geometry.electrode_height
    tolerance = {1: 0.012, 2: 1e-4}[order]
    np.testing.assert_allclose(np.bincount(d.electrode, d.mass), size, rtol=tolerance)
    middles = [np.bincount(d.electrode, d.mass * axis[d.rows]) / size for axis in d.nodes.T]
    np.testing.assert_allclose(
        np.stack(middles, axis=1), geometry.centres, atol=0.02 * geometry.radius
    )
    on, rows = np.unique(d.rows, return_inverse=True)
    block = coo_array((d.mass, (rows, np.searchsorted(on, d.columns)))).toarray()
    np.testing.assert_allclose(block, block.T, rtol=0, atol=1e-14 * block.max())
    assert np.linalg.eigvalsh(block).min() > 0
    assert len(np.unique(d.rows.astype(int) * d.size + d.columns)) == len(d.rows)


def test_blocks_of_cells_do_not_matter(monkeypatch):
    mesh = polar_mesh(TANK, 2, order=2)
    whole = assemble(mesh, 2)
    monkeypatch.setattr(assembly, "_BLOCK", 7)
    parts = assemble(mesh, 2)
    np.testing.assert_allclose(parts.stiffness, whole.stiffness, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parts.mass, whole.mass, rtol=1e-12)


def test_degree_has_to_be_one_or_two():
    with pytest.raises(ValueError, match="degree has to be 1 or 2, got 3"):
        assemble(polar_mesh(TANK, 2), 3)


def test_a_missing_compiler_is_explained(monkeypatch):
    import dolfinx.fem

    def broken(form):
        raise OSError("no gcc")

    assembly._assembler.cache_clear()
    monkeypatch.setattr(dolfinx.fem, "form", broken)
    with pytest.raises(RuntimeError, match=r"no gcc.*C compiler.*apt-get install gcc"):
        assemble(polar_mesh(TANK, 2))


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "order", "degree"), CASES)
@pytest.mark.parametrize("single", [False, True])
def test_a_file_gives_back_what_was_saved(tmp_path, geometry, order, degree, single):
    d = assemble(polar_mesh(geometry, 2, order=order), degree)
    d.save(tmp_path / "mesh.npz", single=single)
    again = Discretization.load(tmp_path / "mesh.npz")
    for name in ("points", "cells", "nodes", "dofs", "rows", "columns", "mass", "electrode"):
        np.testing.assert_array_equal(getattr(again, name), getattr(d, name))
    tolerance = (1e-6 if single else 1e-14) * np.abs(d.stiffness).max()
    np.testing.assert_allclose(again.stiffness, d.stiffness, rtol=0, atol=tolerance)
    assert (again.dofs.dtype, again.stiffness.dtype) == (np.int32, np.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": None}, "it lacks cells"),
        ({"points": np.zeros((3, 2))}, r"cells runs from 0 to \d+, but there are 3 points"),
        ({"rows": np.array([0])}, r"columns has shape .*, expected \(1,\)"),
        ({"mass": np.array([np.nan])}, "mass holds a NaN or infinity"),
        (
            {"electrode": np.array([1.5])},
            "electrode has to hold whole numbers on 1 axes, got float64",
        ),
        ({"stiffness": np.zeros((4, 4, 4))}, "stiffness has to hold real numbers on 2 axes"),
        ({"stiffness": np.zeros((4, 3))}, r"stiffness has shape \(4, 3\), expected \(\d+, 15\)"),
        (
            {"cells": "four", "dofs": "four", "stiffness": "six"},
            r"cells has shape \(128, 4\), expected \(128, 3\)",
        ),
    ],
)
def test_a_wrong_file_is_named(tmp_path, change, message):
    path = tmp_path / "mesh.npz"
    d = assemble(polar_mesh(TANK, 2), 2)
    d.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    numbers = {"four": np.zeros((len(d.cells), 4), int), "six": np.zeros((len(d.cells), 6))}
    for name, value in change.items():
        arrays[name] = numbers[value] if isinstance(value, str) else value
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=rf"mesh.npz is not a saved discretization: {message}"):
        Discretization.load(path)


def test_a_left_out_electrode_is_refused(tmp_path):
    d = assemble(polar_mesh(TANK, 2))
    broken = replace(d, electrode=d.electrode + (d.electrode > 3))
    broken.save(tmp_path / "mesh.npz")
    with pytest.raises(ValueError, match="an electrode number is negative or left out"):
        Discretization.load(tmp_path / "mesh.npz")
