"""Tank, protocol and mesh: what they are, and what they refuse."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from onmanifold.operators.eit import Mesh, Protocol, Tank, disk_mesh, polar_mesh


def test_challenge_tank_places_its_electrodes_counterclockwise_from_the_top():
    tank = Tank.ktc()
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
        ({"electrodes": 2.5}, "whole"),
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


def test_adjacent_and_opposite():
    adjacent, opposite = Protocol.adjacent(6), Protocol.opposite(6)
    assert adjacent.shape == (6, 6) and opposite.shape == (3, 6)
    np.testing.assert_array_equal(adjacent.injections[:, 5], [-1, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(adjacent.patterns, adjacent.injections)
    np.testing.assert_array_equal(opposite.injections[:, 1], [0, 1, 0, 0, -1, 0])


def test_protocols_are_equal_by_value():
    assert Protocol.adjacent(8) == Protocol.adjacent(8)
    assert Protocol.adjacent(8) != Protocol.opposite(8)
    assert Protocol.adjacent(8) != 8


def test_protocol_names_the_column_that_does_not_sum_to_zero():
    injections = Protocol.adjacent(4).injections.copy()
    injections[0, 2] = 0.5
    with pytest.raises(ValueError, match=r"injection 3 \(of 4\) sum to 0\.5"):
        Protocol.from_matrices(injections, np.eye(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, p: (i, p[:3]), "4 electrodes, patterns for 3"),
        (lambda i, p: (i * 0, p), "column 1 of injections is zero"),
        (lambda i, p: (i, p * [1, 1, np.nan, 1]), "column 3 of patterns holds a NaN"),
        (lambda i, p: (i[0], p), "one row for each electrode"),
    ],
)
def test_protocol_refuses(change, message):
    adjacent = Protocol.adjacent(4)
    with pytest.raises(ValueError, match=message):
        Protocol.from_matrices(*change(adjacent.injections, adjacent.patterns))


def test_pairs_have_to_exist():
    with pytest.raises(ValueError, match="injection 2 drives"):
        Protocol.from_pairs(4, [(0, 1), (1, 4)])
    with pytest.raises(ValueError, match="even number"):
        Protocol.opposite(5)


@pytest.mark.parametrize(
    ("tank", "edges"),
    [(Tank(electrodes=8, width=20), 2), (Tank.ktc(), 4), (Tank(electrodes=3, width=110), 5)],
)
def test_polar_mesh_fills_the_disk(tank, edges):
    mesh = polar_mesh(tank, edges)
    assert mesh.areas.sum() == pytest.approx(np.pi * tank.radius**2, rel=0.04)
    np.testing.assert_array_equal(np.bincount(mesh.electrode), edges)
    middle = mesh.points[mesh.edges].mean(axis=1)
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
    np.testing.assert_allclose(mesh.areas, 0.5)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, [[0, 1, 2], [0, 3, 2]], "cell 1 is inverted"),
        (1, [[0, 1, 2], [0, 2, 7]], "vertex numbers 0 to 3"),
        (1, [[0, 1, 2]], "2 parts"),
        (2, [[0, 1], [0, 2]], "edge 1 of electrode 2 is not on the boundary"),
        (2, [[0, 1], [1, 2]], "electrodes 1 and 2 touch"),
        (3, [0, 2], "electrode 2 has no boundary edge"),
        (3, [0, -1], "numbered from 0"),
        (3, [0], "shapes"),
    ],
)
def test_mesh_refuses(position, value, message):
    parts = list(_square())
    parts[position] = np.array(value)
    with pytest.raises(ValueError, match=message):
        Mesh(*parts)


def test_disk_mesh_says_what_gmsh_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "gmsh", None)
    with pytest.raises(ImportError, match="libglu1-mesa libxcursor1 libxft2 libxinerama1"):
        disk_mesh(Tank.unit())


def test_disk_mesh_is_refined_at_the_electrodes():
    try:
        mesh = disk_mesh(Tank(electrodes=4, width=30, first_angle=10), 0.02, 0.3, 0.2)
    except ImportError as error:
        pytest.skip(str(error))
    assert mesh.areas.sum() == pytest.approx(np.pi, rel=1e-2)
    lengths = np.linalg.norm(np.diff(mesh.points[mesh.edges], axis=1)[:, 0], axis=1)
    assert lengths.min() < 0.03 and np.sqrt(mesh.areas.max()) > 0.1
    assert mesh.electrodes == 4
