"""Electrodes that lie elsewhere: turned meshes, and finding them from a tank without objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold.operators.eit import (
    EIT,
    Measurement,
    Protocol,
    Tank,
    assemble,
    calibrate_electrodes,
    electrode_edges,
    ktc,
    polar_mesh,
    with_electrode_edges,
)
from onmanifold.operators.eit.calibration.electrode_fit import _EdgeProblem
from onmanifold.operators.eit.calibration.uniform import UniformTank

TANK = Tank(radius=0.1, electrodes=8, width=20, first_angle=30, clockwise=True)


def angles(points):
    return np.rad2deg(np.arctan2(points[..., 1], points[..., 0]))


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), clockwise=st.booleans(), depth=st.floats(0.1, 0.9))
def test_electrodes_lie_between_their_ends(seed, clockwise, depth):
    tank = Tank(radius=0.1, electrodes=8, width=20, first_angle=30, clockwise=clockwise)
    edges = electrode_edges(tank) + 2 * np.random.default_rng(seed).uniform(-1, 1, (8, 2))
    mesh = polar_mesh(tank, 5, 1.3)
    moved = with_electrode_edges(mesh, tank, edges, depth)
    for k, (first, last) in enumerate(edges):
        middle = (first + last) / 2
        turned = (angles(moved.points[moved.facets[moved.electrode == k]]) - middle + 180) % 360
        assert turned.min() - 180 == pytest.approx((first - last) / 2, abs=1e-9)
        assert turned.max() - 180 == pytest.approx((last - first) / 2, abs=1e-9)
    radius = np.linalg.norm(mesh.points, axis=1)
    assert np.allclose(np.linalg.norm(moved.points, axis=1), radius)
    deep = radius < (1 - depth) * tank.radius
    assert deep.any() and np.allclose(moved.points[deep], mesh.points[deep])


def test_ends_where_they_are_change_nothing():
    mesh = polar_mesh(TANK)
    assert np.allclose(with_electrode_edges(mesh, TANK, electrode_edges(TANK)).points, mesh.points)


def test_impossible_ends_are_refused():
    mesh, edges = polar_mesh(TANK), electrode_edges(TANK)
    with pytest.raises(ValueError, match=r"of shape \(8, 2\), got shape \(16,\)"):
        with_electrode_edges(mesh, TANK, edges.ravel())
    edges[2, 0] = edges[2, 1] + 1
    with pytest.raises(ValueError, match="electrode 3 overlaps another one, or ends before"):
        with_electrode_edges(mesh, TANK, edges)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("dropped", "error"), [(False, 0.005), (True, 0.03)])
def test_what_the_reference_tells_of_the_edges_is_found(dropped, error):
    """All but turns of the whole tank and the conformal maps of a disk, under which nothing changes.

    Without the voltages of driven electrodes the prior is felt a little.
    """
    tank = Tank(radius=0.1, electrodes=8, width=20, contact_impedance=1e-4)
    nominal = electrode_edges(tank)
    edges = nominal + 0.4 * np.random.default_rng(0).standard_normal((8, 2))
    protocol, mesh = Protocol.skip(8, 2, drop_driven=dropped), polar_mesh(tank, 8, 1.3)
    eit = EIT(tank, protocol, (1, 4, 4), mesh=with_electrode_edges(mesh, tank, edges))
    voltages = eit.A(torch.full((1, 1, 4, 4), 1.5, dtype=torch.float64))[0]
    found = calibrate_electrodes(
        tank,
        Measurement.from_values(protocol, voltages),
        make_mesh=lambda _: mesh,
        fit=("conductivity",),
        spread=1.0,
        error=1e-4,
        rounds=3,
    )
    angle = np.deg2rad(nominal.ravel())
    hidden = np.stack([np.ones(16), np.cos(angle), np.sin(angle)], axis=1)

    def determined(shift):
        shift = shift.ravel()
        return shift - hidden @ np.linalg.lstsq(hidden, shift, rcond=None)[0]

    assert np.abs(determined(edges - nominal)).max() > 0.4
    assert np.abs(determined(found.edges - edges)).max() < error
    assert found.before > 0.005 and found.calibration.after < 2e-5
    assert found.calibration.values.conductivity == pytest.approx(1.5, rel=1e-4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_by_the_edges(order):
    """Against difference quotients of the whole model, also on curved cells and with a perfect contact."""
    tank = replace(TANK, shunted=(5,))
    mesh, protocol = polar_mesh(tank, 4, 1.3, order=order), Protocol.skip(8, 2)
    edges = electrode_edges(tank) + np.random.default_rng(0).uniform(-1, 1, (8, 2))
    problem = _EdgeProblem(tank, None, mesh, (), 1.0, None)

    def model(edges):
        return UniformTank(tank, protocol, assemble(with_electrode_edges(mesh, tank, edges)))

    z = torch.linspace(0.01, 0.02, 8, dtype=torch.float64)
    got = problem.by_edges(edges, model(edges), 1.5, z)
    step = 1e-3 * np.random.default_rng(1).standard_normal((8, 2))
    ends = [model(edges + sign * step) for sign in (1, -1)]
    up, down = (end.transfer(end.solve(1.5, z)) for end in ends)
    expected = (up - down) / 2
    along = torch.tensordot(torch.from_numpy(step.ravel()), got, 1)
    assert float((along - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.usefixtures("compiler")
def test_the_measured_tank_is_fitted_better(shared_data):
    """With electrodes that stand where they were built to, within a degree."""
    tank, folder = ktc.tank(), shared_data / "ktc2023" / "training"
    found = calibrate_electrodes(tank, ktc.read(folder / "ref.mat"), rounds=1)
    assert found.calibration.after < 0.7 * found.before
    assert np.abs(found.edges - electrode_edges(tank)).max() < 2


def test_bad_arguments_are_named():
    water = Measurement.from_values(Protocol.skip(8, 2), torch.ones(Protocol.skip(8, 2).shape))
    with pytest.raises(ValueError, match="spread"):
        calibrate_electrodes(TANK, water, spread=0.0)
    with pytest.raises(ValueError, match="rounds"):
        calibrate_electrodes(TANK, water, rounds=0)
