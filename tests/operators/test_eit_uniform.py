"""A tank of one conductivity, condensed onto its contacts, against the whole model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import Protocol, Tank, assemble, load_discretization, polar_mesh
from onmanifold.operators.eit.calibration.uniform import UniformTank
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.geometry.cylinder import Cylinder
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes

Z = torch.logspace(-8, 0, 8, dtype=torch.float64)


@pytest.fixture(params=["linear", "quadratic", "shunted", "three dimensions"])
def problem(request, compiler, small_tank):
    """A tank and its discretization."""
    if request.param == "shunted":
        return dataclasses.replace(small_tank, shunted=(2, 7)), assemble(polar_mesh(small_tank, 3))
    if request.param == "three dimensions":
        body = Cylinder(
            radius=0.1,
            height=0.2,
            rings=(0.1,),
            per_ring=8,
            width=20,
            electrode_height=0.02,
        )
        return body, assemble(polar_mesh(body, 2, 1.5))
    return small_tank, assemble(polar_mesh(small_tank, 3), degree=1 + (request.param != "linear"))


def whole_and_condensed(problem):
    geometry, d = problem
    protocol = Protocol.skip(8, 2)
    full = Protocol(protocol.injections, np.eye(8))
    engine = Engine(d, CompleteElectrodes(geometry.impedances, full, geometry.shunted))
    return engine, UniformTank(geometry, protocol, d)


@pytest.mark.parametrize("s", [1e-3, 0.7, 50.0])
def test_potentials_are_those_of_the_whole_model(problem, s):
    engine, condensed = whole_and_condensed(problem)
    fields = engine.fields(torch.full((1, engine.cells), s, dtype=torch.float64), Z)
    w = condensed.solve(s, Z)
    expected = engine.voltages(fields)[0]
    got = condensed.read(condensed.transfer(w))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    one, other = torch.from_numpy(engine.system.unknowns).T
    padded = torch.cat([fields.w[0], torch.zeros(1, 7, dtype=torch.float64)])
    potentials, drops = condensed.potentials(w)
    scale = 1e-11 * float(padded.abs().max())
    torch.testing.assert_close(potentials, padded[one] + padded[other], rtol=0, atol=scale)
    on = other >= 0
    torch.testing.assert_close(drops[on], padded[one[on]], rtol=0, atol=scale)
    assert not drops[~on].any()


def test_derivatives(problem):
    """By the conductivity against the whole model's, by contact impedances against differences."""
    engine, condensed = whole_and_condensed(problem)
    z = torch.linspace(0.01, 0.03, 8, dtype=torch.float64)
    s = torch.full((1, engine.cells), 0.7, dtype=torch.float64)
    w = condensed.solve(0.7, z)
    expected = engine.jvp(engine.fields(s, z)[0], torch.ones_like(s))[0]
    got = condensed.read(condensed.by_conductivity(w))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()))
    slope = condensed.by_impedances(w, z)
    for electrode in (0, 2, 7):
        h = torch.zeros_like(z)
        h[electrode] = 1e-6
        up, down = (condensed.transfer(condensed.solve(0.7, z + sign * h)) for sign in (1, -1))
        torch.testing.assert_close(
            (up - down) / 2e-6, slope[electrode], rtol=1e-5, atol=1e-6 * float(slope.abs().max())
        )


def test_contacts_that_cannot_be_are_refused():
    tank = Tank.unit()
    model = UniformTank(tank, Protocol.adjacent(32), load_discretization("coarse", tank))
    with pytest.raises(ValueError, match="not positive definite"):
        model.solve(1.0, -torch.from_numpy(tank.impedances))
