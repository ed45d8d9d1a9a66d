"""The checks of operators over bodies, elements, protocols and solvers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import (
    EIT,
    BoundaryCurve,
    Continuum,
    Cylinder,
    Exponential,
    MeshGeometry,
    Protocol,
    Tank,
    generate_mesh,
    polar_mesh,
)
from onmanifold.testing import check_operator

pytestmark = pytest.mark.usefixtures("compiler")

TANK = Tank(radius=0.3, electrodes=8, width=25, contact_impedance=tuple(0.01 * np.arange(1, 9)))
CYLINDER = Cylinder(0.2, 0.3, rings=(0.1, 0.2), per_ring=4, width=40, electrode_height=0.05)
CHEST = BoundaryCurve(
    [(0, 0), (4, 0), (4, 2), (2, 3), (0, 2)], electrodes=8, width=0.5, smooth=True, first=0.05
)


def _disk(**options):
    defaults = {"conductivity": Exponential(2.0), "mesh": polar_mesh(TANK, 3)}
    protocol = options.pop("protocol", Protocol.adjacent(8))
    return EIT(options.pop("tank", TANK), protocol, (1, 10, 10), **(defaults | options))


def _shunted():
    tank = Tank(radius=0.3, electrodes=8, width=25, shunted=(0, 3, 7))
    return _disk(tank=tank)


def _imported():
    mesh = polar_mesh(TANK, 3)
    return _disk(tank=MeshGeometry.of(mesh, contact_impedance=0.02), mesh=mesh)


def _cylinder(degree=1, order=1):
    mesh = polar_mesh(CYLINDER, 1, 1.5, 0.6, order=order)
    protocol = Protocol.skip(8, 2, drop_driven=True)
    return EIT(CYLINDER, protocol, (4, 6, 6), conductivity=Exponential(), mesh=mesh, degree=degree)


def _curve(order=1):
    try:
        mesh = generate_mesh(CHEST, edge=0.05, interior=0.15, order=order)
    except ImportError as error:
        pytest.skip(str(error))
    return EIT(CHEST, Protocol.opposite(8), (8, 8), conductivity=Exponential(), mesh=mesh)


OPERATORS = {
    "quadratic": lambda: _disk(degree=2),
    "quadratic, curved": lambda: _disk(mesh=polar_mesh(TANK, 3, order=2), degree=2),
    "linear, curved": lambda: _disk(mesh=polar_mesh(TANK, 3, order=2)),
    "trigonometric": lambda: _disk(protocol=Protocol.trigonometric(8)),
    "voltages left out": lambda: _disk(protocol=Protocol.skip(8, 1, drop_driven=True)),
    "shunted": _shunted,
    "imported": _imported,
    "torch": lambda: _disk(solver="torch"),
    "superlu": lambda: _disk(solver="superlu"),
    "continuum, quadratic": lambda: _disk(protocol=Continuum.walsh(8, 16), degree=2),
    "continuum, torch": lambda: _disk(protocol=Continuum.walsh(4, 16), solver="torch"),
    "cylinder": _cylinder,
    "cylinder, quadratic, curved": lambda: _cylinder(2, 2),
    "curve": _curve,
    "curve, curved": lambda: _curve(2),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_contract(name):
    operator = OPERATORS[name]()
    x = 0.5 * torch.randn(2, *operator.x_shape, generator=torch.Generator().manual_seed(0)).double()
    check_operator(operator, x)


@pytest.mark.parametrize("name", ["torch", "superlu", "continuum, torch"])
def test_solvers_agree(name):
    other = OPERATORS[name]()
    protocol = Continuum.walsh(4, 16) if name.startswith("continuum") else Protocol.adjacent(8)
    mumps = _disk(solver="mumps", protocol=protocol)
    x = torch.randn(3, *mumps.x_shape, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(other.A(x), mumps.A(x), rtol=1e-9, atol=1e-12)
    u = torch.randn(3, *mumps.y_shape, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(other.A_vjp(x, u), mumps.A_vjp(x, u), rtol=1e-9, atol=1e-12)
