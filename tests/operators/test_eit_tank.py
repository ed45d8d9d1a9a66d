"""Tank and mesh: what they are, and what they refuse."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from mesh_cases import volumes

from onmanifold.operators.eit import Mesh, Tank, generate_mesh, ktc, polar_mesh


def test_challenge_tank_places_its_electrodes_counterclockwise_from_the_top():
    tank = ktc.tank()
    expected = {0: (0, 1), 8: (-1, 0), 16: (0, -1), 24: (1, 0)}
    for k, centre in expected.items():
        np.testing.assert_allclose(tank.centres[k], 0.115 * np.array(centre), atol=1e-12)


def test_clockwise_runs_the_other_way():
    np.testing.assert_allclose(Tank(clockwise=True).centres[8], (0, -1), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius"),
        ({"radius": float("nan")}, "radius"),
        ({"electrodes": 1}, "at least 2"),
        ({"electrodes": 2.5}, "an int"),
        ({"width": 0.0}, "width"),
        ({"width": 11.25}, "overlap"),
        ({"contact_impedance": 0.0}, "electrode 1 "),
        ({"contact_impedance": [1.0] * 31}, "one number or 32"),
        ({"contact_impedance": [1.0] * 20 + [-1.0] + [1.0] * 11}, "electrode 21 "),
        ({"first_angle": float("inf")}, "first_angle"),
    ],
)
def test_tank_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Tank(**options)


@pytest.mark.parametrize(
    ("tank", "edges"),
    [(Tank(electrodes=8, width=20), 2), (ktc.tank(), 4), (Tank(electrodes=3, width=110), 5)],
)
def test_polar_mesh_fills_the_disk(tank, edges):
    mesh = polar_mesh(tank, edges)
    assert volumes(mesh).sum() == pytest.approx(np.pi * tank.radius**2, rel=0.04)
    np.testing.assert_array_equal(np.bincount(mesh.electrode), edges)
    middle = mesh.points[mesh.facets].mean(axis=1)
    for k, centre in enumerate(tank.centres):
        average = middle[mesh.electrode == k].mean(axis=0)
        np.testing.assert_allclose(
            average / np.linalg.norm(average), centre / tank.radius, atol=1e-12
        )


def _square():
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    cells = np.array([[0, 1, 2], [0, 2, 3]])
    return points, cells, np.array([[0, 1], [2, 3]]), np.array([0, 1])


def test_mesh_accepts_a_square_with_two_electrodes():
    mesh = Mesh(*_square())
    assert mesh.electrodes == 2
    np.testing.assert_allclose(volumes(mesh), 0.5)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, [[0, 1, 2], [0, 3, 2]], "cell 1 is inverted"),
        (1, [[0, 1, 2], [0, 2, 7]], "numbers of points, 0 to 3"),
        (1, [[0, 1, 2]], "point 3 belongs to no cell"),
        (2, [[0, 1], [0, 2]], "facet 1 of electrode 2 is not on the boundary"),
        (2, [[0, 1], [1, 2]], "electrodes 1 and 2 touch"),
        (3, [0, 2], "electrode 2 has no facet"),
        (3, [0, -1], "numbered from 0"),
        (3, [0], "shapes"),
    ],
)
def test_mesh_refuses(position, value, message):
    parts = list(_square())
    parts[position] = np.array(value)
    with pytest.raises(ValueError, match=message):
        Mesh(*parts)


def test_generate_mesh_says_what_gmsh_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "gmsh", None)
    with pytest.raises(ImportError, match="libglu1-mesa libxcursor1 libxft2 libxinerama1"):
        generate_mesh(Tank.unit())
