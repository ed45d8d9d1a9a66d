"""Outlines and cylinders: where their electrodes are, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from onmanifold.operators.eit.geometry.curve import BoundaryCurve
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.geometry.tank import Tank

SQUARE = [(0, 0), (2, 0), (2, 2), (0, 2)]


def _circle(count, radius=1.0):
    phi = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(phi), np.sin(phi)], axis=1)


def test_polygon_places_electrodes_by_arc_length():
    curve = BoundaryCurve(SQUARE, electrodes=8, width=0.3)
    assert curve.length == 8
    np.testing.assert_allclose(curve.centres[:3], [[0, 0], [1, 0], [2, 0]], atol=1e-12)
    assert curve.extent == ((0, 0), (2, 2))


def test_an_electrode_may_lie_over_a_corner():
    pieces = BoundaryCurve(SQUARE, electrodes=4, width=0.4).pieces()
    assert [piece.electrode for piece in pieces] == [0, -1, 1, -1, 2, -1, 3, -1]
    np.testing.assert_allclose(pieces[0].points, [[0, 0.2], [0, 0], [0.2, 0]], atol=1e-12)
    np.testing.assert_allclose(pieces[1].points, [[0.2, 0], [1.8, 0]], atol=1e-12)


def test_pieces_of_a_polygon_fill_it_in_order():
    curve = BoundaryCurve(
        [(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (0, 2)], at=[0.7, 0.1, 0.4], width=[0.1, 0.2, 0.3]
    )
    pieces = curve.pieces()
    lengths = [np.linalg.norm(np.diff(p.points, axis=0), axis=1).sum() for p in pieces]
    assert sum(lengths) == pytest.approx(curve.length)
    assert [p.electrode for p in pieces] == [1, -1, 2, -1, 0, -1]
    np.testing.assert_allclose(lengths[::2], [0.2, 0.3, 0.1])
    for a, b in zip(pieces, pieces[1:] + pieces[:1], strict=True):
        np.testing.assert_allclose(a.points[-1], b.points[0], atol=1e-12)


def test_smooth_outline_is_a_spline_through_the_points():
    errors = []
    for count in (12, 24):
        curve = BoundaryCurve(_circle(count), electrodes=16, width=0.1, smooth=True)
        radius = np.linalg.norm(np.concatenate([p.points for p in curve.pieces()]), axis=1)
        errors.append(np.abs(radius - 1).max())
        assert curve.length == pytest.approx(2 * np.pi, rel=2e-4)
        np.testing.assert_allclose(curve.centres, _circle(16), atol=1e-3)
    assert errors[1] < errors[0] / 12 and errors[1] < 2e-5  # fourth order


def test_electrodes_at_points_are_projected():
    curve = BoundaryCurve(SQUARE, at=[(1.0, -0.01), (2.01, 0.5)], width=0.2)
    np.testing.assert_allclose(curve.centres, [[1, 0], [2, 0.5]], atol=1e-12)
    smooth = BoundaryCurve(_circle(16), at=_circle(4), width=0.2, smooth=True)
    np.testing.assert_allclose(smooth.centres, _circle(4), atol=1e-9)


def test_an_image_covers_the_smallest_square():
    curve = BoundaryCurve([(0, 0), (4, 0), (4, 2), (0, 2)], electrodes=4, width=0.1)
    assert curve.extent == ((0, -1), (4, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": [(0, 0), (1, 1), (1, 0), (0, 1)]}, r"crosses itself at \(0.5, 0.5\)"),
        ({"points": [(0, 0), (1, 0)]}, "at least 3 points"),
        (
            {"points": [(0, 0), (1, 0), (1, 0), (0, 1)]},
            "points 2 and 3 of the boundary curve coincide",
        ),
        ({"points": [(0, 0), (1, np.nan), (0, 1)]}, "finite points"),
        ({"electrodes": 1}, "at least 2"),
        ({"width": 2.1}, "electrodes 1 and 2 overlap or touch"),
        ({"width": [0.1, 0.1, 3.9, 0.1]}, "electrodes 2 and 3 overlap"),
        ({"width": [0.1, -0.1, 0.1, 0.1]}, "width of electrode 2 has to be positive"),
        ({"width": [0.1, 0.1]}, "width has to be one number or 4"),
        ({"electrodes": 0, "at": [0.1, 0.5, 0.11]}, "electrodes 1 and 3 overlap"),
        ({"electrodes": 0, "at": [0.01, 0.5, 0.99], "width": 0.2}, "electrodes 1 and 3 overlap"),
        ({"electrodes": 0, "at": [(1, 0), (1, 1)]}, r"electrode 2 at \(1.0, 1.0\) is 1 m off"),
        ({"electrodes": 3, "at": [0.1, 0.2]}, "electrodes says 3, at has 2"),
        ({"electrodes": 0, "at": [0.1, np.inf]}, "all finite"),
        ({"contact_impedance": [1, 1, 0, 1]}, "contact impedance of electrode 3"),
        ({"shunted": [4]}, "numbers 0 to 3, got 4"),
    ],
)
def test_outline_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        BoundaryCurve(**({"points": SQUARE, "electrodes": 4, "width": 0.2} | options))


def test_cylinder_numbers_its_electrodes_ring_by_ring():
    tank = Cylinder(
        0.14, 0.2, rings=(0.15, 0.05), per_ring=4, width=20, electrode_height=0.03, first_angle=90
    )
    assert tank.electrodes == 8
    expected = [[0, 0.14], [-0.14, 0], [0, -0.14], [0.14, 0]] * 2
    np.testing.assert_allclose(tank.centres[:, :2], expected, atol=1e-12)
    np.testing.assert_array_equal(tank.centres[:, 2], [0.15] * 4 + [0.05] * 4)
    assert tank.extent == ((-0.14, -0.14, 0), (0.14, 0.14, 0.2))
    clockwise = Cylinder(per_ring=4, first_angle=90, clockwise=True)
    np.testing.assert_allclose(clockwise.centres[1], [1, 0, 0.5], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0}, "radius has to be positive"),
        ({"height": -1}, "height has to be positive"),
        ({"electrode_height": np.nan}, "electrode_height has to be above"),
        ({"per_ring": 1}, "at least 2"),
        ({"per_ring": 2.5}, "an int"),
        ({"width": 22.5}, "electrodes 1 and 2 overlap"),
        ({"rings": (0.5, 0.98)}, "electrodes 17 to 32 reach beyond the mantle"),
        ({"rings": (0.5, 0.2, 0.58)}, "electrodes 1 and 33 overlap"),
        ({"first_angle": np.inf}, "first_angle"),
        ({"contact_impedance": [1.0] * 15 + [-1.0]}, "contact impedance of electrode 16"),
        ({"shunted": [-1]}, "numbers 0 to 15, got -1"),
    ],
)
def test_cylinder_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Cylinder(**options)


def test_shunted_electrodes_are_sorted_and_exist():
    assert Tank(shunted=[5, 2, 5]).shunted == (2, 5)
    with pytest.raises(ValueError, match="numbers 0 to 31, got 32"):
        Tank(shunted=[32])


def test_tank_covers_its_square():
    assert Tank(radius=0.5).extent == ((-0.5, -0.5), (0.5, 0.5))
