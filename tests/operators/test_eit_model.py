"""The finite element model against theory, against itself, and against what ships."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import (
    EIT,
    Continuum,
    Cylinder,
    Discretization,
    Protocol,
    Tank,
    assemble,
    ktc,
    load_discretization,
    polar_mesh,
)
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.eit.models.electrodes import CompleteElectrodes

pytestmark = pytest.mark.usefixtures("dolfinx")


def _engine(discretization, tank, protocol=None, impedances=None):
    protocol = protocol or Protocol.adjacent(tank.electrodes)
    z = tank.impedances if impedances is None else impedances
    return Engine(discretization, CompleteElectrodes(z, protocol, tank.shunted))


def _transfer(discretization, tank, s=1.0):
    """Electrode potentials of mean zero for unit currents out of the last electrode, (L, L)."""
    engine = _engine(discretization, tank)
    s = torch.from_numpy(np.broadcast_to(s, (1, engine.cells)).astype(float))
    grounded = np.zeros((tank.electrodes, tank.electrodes))
    grounded[:-1, :-1] = engine.transfer(engine.fields(s).w[0]).numpy()
    centre = np.eye(tank.electrodes) - 1 / tank.electrodes
    return centre @ grounded @ centre


def _some_conductivity(discretization, seed=0):
    return np.exp(np.random.default_rng(seed).normal(size=(1, len(discretization.cells))))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["coarse", "medium", "fine"])
def test_what_ships_is_what_dolfinx_assembles(name):
    shipped = load_discretization(name, Tank.unit())
    edge = shipped.rows != shipped.columns
    edges = np.stack([shipped.rows, shipped.columns], axis=1)[edge]
    one = edges[:, 0] < edges[:, 1]
    mesh = Mesh(shipped.points, shipped.cells, edges[one], shipped.electrode[edge][one])
    fresh = assemble(mesh)
    np.testing.assert_array_equal(fresh.cells, shipped.cells)
    np.testing.assert_allclose(fresh.stiffness, shipped.stiffness, rtol=2e-7, atol=2e-7)
    size = shipped.size
    order, fresh_order = (
        np.argsort(d.rows.astype(int) * size + d.columns) for d in (shipped, fresh)
    )
    np.testing.assert_allclose(fresh.mass[fresh_order], shipped.mass[order], rtol=1e-12)
    np.testing.assert_array_equal(fresh.electrode[fresh_order], shipped.electrode[order])


@pytest.mark.parametrize(("name", "cells"), [("coarse", 4500), ("medium", 12000), ("fine", 22500)])
def test_shipped_meshes_resolve_the_electrodes(name, cells):
    d = load_discretization(name, ktc.tank())
    assert len(d.cells) == pytest.approx(cells, rel=0.05)
    edges = np.bincount(d.electrode[d.rows < d.columns])
    assert len(edges) == 32 and edges.min() >= (7 if name == "coarse" else 12)
    for k, centre in enumerate(ktc.tank().centres):
        middle = d.points[d.rows[d.electrode == k]].mean(axis=0)
        assert np.linalg.norm(middle - centre) < 1e-3


def test_reciprocity():
    tank = ktc.tank()
    d = load_discretization("coarse", tank)
    z = _transfer(d, tank, _some_conductivity(d))
    assert np.abs(z - z.T).max() < 1e-10 * np.abs(z).max()


def test_voltages_do_not_change_when_the_tank_is_turned_by_one_electrode(small_mesh, small_tank):
    z = _transfer(small_mesh, small_tank)
    np.testing.assert_allclose(np.roll(z, (1, 1), axis=(0, 1)), z, rtol=0, atol=1e-12 * z.max())


def test_potentials_shrink_with_conductivity_and_contact(small_mesh, small_tank):
    z = small_tank.impedances
    s = torch.from_numpy(_some_conductivity(small_mesh))
    plain, scaled = (_engine(small_mesh, small_tank, impedances=z / c) for c in (1, 3))
    a = plain.voltages(plain.fields(s))
    b = scaled.voltages(scaled.fields(3 * s))
    torch.testing.assert_close(b, a / 3, rtol=1e-10, atol=0)


def test_in_two_dimensions_only_impedance_by_radius_counts():
    small = Tank(radius=0.1, contact_impedance=1e-3)
    large = Tank(radius=10.0, contact_impedance=1e-1)
    a, b = (_transfer(load_discretization("coarse", t), t) for t in (small, large))
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_clockwise_tank_is_the_mirrored_one():
    tank, mirrored = Tank.unit(), Tank(clockwise=True)
    d = load_discretization("coarse", tank)
    s = _some_conductivity(d)
    a, b = _transfer(d, tank, s), _transfer(load_discretization("coarse", mirrored), mirrored, s)
    back = -np.arange(32) % 32
    np.testing.assert_allclose(b, a[back][:, back], rtol=0, atol=1e-11)


def test_a_contact_impedance_of_each_electrode_adds_to_its_own_potential(small_mesh, small_tank):
    """Far from the field, as z / |e| in series: exact where the current density is even."""
    low, high = np.full(8, 1e3), np.full(8, 1e3)
    high[3] *= 2
    length = np.bincount(small_mesh.electrode, small_mesh.mass)[3]
    drive = np.eye(8)[:, [3]] - np.eye(8)[:, [0]]
    protocol = Protocol(drive, drive)
    engine = _engine(small_mesh, small_tank, protocol)
    s = torch.ones(2, engine.cells, dtype=torch.float64)
    a, b = engine.voltages(engine.fields(s, torch.from_numpy(np.stack([low, high])))).flatten()
    assert float(b - a) == pytest.approx(1e3 / length, rel=1e-4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("kappa", [0.1, 20.0])
def test_concentric_inclusion_against_the_formula(order, kappa):
    """Electrodes without gaps, to speak of, and a high contact impedance: the continuum model.

    For the current density cos(n t) the trace is (1 - m r^2n) / (1 + m r^2n) cos(n t) / n with
    m = (kappa - 1) / (kappa + 1); electrodes average both over their width.
    """
    count = 16
    tank = Tank(electrodes=count, width=22.49, contact_impedance=100.0)
    mesh = polar_mesh(tank, edges=8, growth=1.05)
    radii = np.linalg.norm(mesh.points, axis=1)
    rho = np.unique(radii.round(9))[np.searchsorted(np.unique(radii.round(9)), 0.5)]
    inside = radii[mesh.cells].max(axis=1) <= rho + 1e-6
    d = assemble(mesh)
    change = _transfer(d, tank, np.where(inside, kappa, 1.0)) - _transfer(d, tank)
    wave = np.cos(order * np.deg2rad(tank.angles))
    width = 2 * np.pi / count
    current = wave * width  # into each electrode, of the density cos(n t)
    measured = (wave @ change @ current) / (wave @ wave)
    m = (kappa - 1) / (kappa + 1)
    exact = (-2 * m * rho ** (2 * order)) / (1 + m * rho ** (2 * order)) / order
    exact *= np.sinc(order * width / 2 / np.pi) ** 2
    assert measured == pytest.approx(exact, rel=0.01)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("degree", "least"), [(1, 1.9), (2, 2.8)])
def test_traces_converge_at_the_elements_order(degree, least):
    """Concentric inclusion, continuum model: for cos(n t) the trace is known, see the formula above.

    Quadratic elements on curved cells; straight ones would keep the order at two.
    """
    rho, kappa, n, errors = 0.5, 5.0, 2, []
    tank, t = Tank(electrodes=16, width=11.25), 2 * np.pi * np.arange(256) / 256
    decay = (kappa - 1) / (kappa + 1) * rho ** (2 * n)
    exact = (1 - decay) / (1 + decay) * np.cos(n * t) / (2 * np.pi * n)
    for halvings in range(3):
        mesh = polar_mesh(tank, 2, halvings=halvings, interface=rho, order=degree)
        d = assemble(mesh, degree)
        engine = Engine(d, Continuum.trigonometric(n, 256))
        middle = np.linalg.norm(d.points[d.cells].mean(axis=1), axis=1)
        s = torch.from_numpy(np.where(middle < rho, kappa, 1.0))[None]
        trace = engine.voltages(engine.fields(s))[0, 2 * n - 2].numpy()
        errors.append(np.linalg.norm(trace - exact) / np.linalg.norm(exact))
    assert -np.polyfit(range(3), np.log2(errors), 1)[0] >= least
    assert errors[-1] < (2e-3 if degree == 1 else 1e-5)


def test_good_contacts_cost_no_digits():
    """Drops over the contacts are unknowns: voltages for z = 1e-6 are as smooth as for z = 1e-2."""
    d, noise = load_discretization("coarse", Tank.unit()), []
    s = torch.from_numpy(_some_conductivity(d))
    for z in (1e-2, 1e-6):
        engine = _engine(d, Tank.unit(contact_impedance=z))
        shaken = [s * (1 + 1e-15 * (k % 7)) for k in range(6)]
        v = torch.stack([engine.voltages(engine.fields(one))[0] for one in shaken])
        noise.append(float((v - v.mean(0)).norm(dim=(1, 2)).max() / v[0].norm()))
    assert noise[1] < 1e-13 and noise[1] < 20 * noise[0]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("z", [1e-6, 1.0, 1e3, 1e6])
def test_poor_contacts_leave_the_voltages_beside_them(z):
    """Measured off the driven electrodes; all injections into a uniform disk are turns of one."""
    tank = Tank(electrodes=16, width=10, contact_impedance=z)
    protocol = Protocol.adjacent(16, drop_driven=True)
    engine = _engine(assemble(polar_mesh(tank)), tank, protocol)
    v = engine.voltages(engine.fields(torch.ones(1, engine.cells, dtype=torch.float64)))[0]
    v = protocol.spread(v)
    turned = torch.stack([v[k].roll(-k) for k in range(16)])
    assert (turned - turned[0]).abs().max() < max(1e-11, 1e-12 * z) * v.abs().max()


def test_shunted_electrodes_are_the_limit_of_good_contacts(small_mesh, small_tank):
    """Also the last one, which is grounded; the difference is of first order in z."""
    z = np.full(8, 0.05)
    z[[2, 7]] = 1e-9
    shunted = dataclasses.replace(small_tank, contact_impedance=0.05, shunted=(2, 7))
    limit = dataclasses.replace(small_tank, contact_impedance=tuple(z))
    s = _some_conductivity(small_mesh)
    a, b = _transfer(small_mesh, shunted, s), _transfer(small_mesh, limit, s)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def test_cell_jacobian_holds_the_derivative_of_what_is_measured(small_mesh, small_tank):
    for protocol in (Protocol.adjacent(8), Protocol.adjacent(8, drop_driven=True)):
        engine = _engine(small_mesh, small_tank, protocol)
        field = engine.fields(torch.from_numpy(_some_conductivity(small_mesh)))[0]
        ds = torch.randn(1, engine.cells, generator=torch.Generator().manual_seed(0)).double()
        full = engine.jacobian(field)
        assert full.shape == (*protocol.shape, engine.cells)
        torch.testing.assert_close(full @ ds[0], engine.jvp(field, ds)[0])


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("kind", ["linear", "quadratic", "shunted", "three dimensions"])
def test_gradients_are_the_jacobian_s(small_tank, kind):
    """By differences along pairs of nodes, many and few cotangents; the Jacobian by cells' gradients."""
    tank = dataclasses.replace(small_tank, shunted=(2, 7)) if kind == "shunted" else small_tank
    if kind == "three dimensions":
        tank = Cylinder(per_ring=8, width=20, electrode_height=0.3)
    d = assemble(polar_mesh(tank, 2, 1.5), degree=1 + (kind == "quadratic"))
    engine = _engine(d, tank, Protocol.adjacent(8, drop_driven=True))
    fields = engine.fields(
        torch.from_numpy(np.concatenate([_some_conductivity(d, k) for k in (0, 1)]))
    )
    du = torch.randn(2, 40, *engine.y_shape, generator=torch.Generator().manual_seed(0)).double()
    for count in (1, 40):
        got = engine.vjp(fields, du[:, :count])
        for member in (0, 1):
            expected = du[member, :count] @ engine.jacobian(fields[member])
            scale = 1e-12 * float(expected.abs().max())
            torch.testing.assert_close(got[member], expected.T, rtol=0, atol=scale)


def test_contact_impedances_have_to_be_positive(small_mesh, small_tank):
    engine = _engine(small_mesh, small_tank)
    s = torch.from_numpy(_some_conductivity(small_mesh))
    with pytest.raises(ValueError, match="electrode 3 .* positive"):
        engine.fields(s, torch.tensor([1.0, 1, -1, 1, 1, 1, 1, 1], dtype=torch.float64))


def test_meshes_agree():
    """A smooth image on three meshes: the voltages differ by little, less so the finer they are."""
    axis = torch.linspace(-1, 1, 48, dtype=torch.float64)
    x = (1 + 0.5 * torch.sin(3 * axis)[:, None] * torch.cos(2 * axis))[None, None]
    y = [
        EIT(Tank.unit(), Protocol.adjacent(32), (1, 48, 48), mesh=m).A(x)
        for m in ("coarse", "medium", "fine")
    ]
    coarse, medium = ((v - y[2]).norm() / y[2].norm() for v in y[:2])
    assert coarse < 0.02 and medium < 0.006 and medium < coarse / 2


def test_unreadable_discretization_is_named(tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="broken.npz is not a readable"):
        Discretization.load(broken)
    np.savez(tmp_path / "other.npz", points=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="other.npz is not a saved discretization: it lacks cells"):
        Discretization.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        Discretization.load(tmp_path / "none.npz")


def test_shipped_tanks_need_no_dolfinx():
    code = (
        "import sys, torch\n"
        "for name in ('dolfinx', 'dolfinx_solver', 'petsc4py', 'mpi4py'): sys.modules[name] = None\n"
        "from onmanifold.operators.eit import EIT, Protocol, Tank\n"
        "operator = EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh='coarse')\n"
        "print(float(operator.A(torch.ones(1, 8, 8, dtype=torch.float64))[0, 0, 0]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    operator = EIT(Tank.unit(), Protocol.adjacent(32), (8, 8), mesh="coarse")
    here = float(operator.A(torch.ones(1, 8, 8, dtype=torch.float64))[0, 0, 0])
    assert float(run.stdout) == pytest.approx(here, rel=1e-10)


def test_other_meshes_say_how_to_install_dolfinx(monkeypatch, small_tank):
    monkeypatch.setitem(sys.modules, "dolfinx", None)
    with pytest.raises(ImportError, match=r"pip install onmanifold\[eit\].*fenics-dolfinx"):
        EIT(small_tank, Protocol.adjacent(8), mesh=polar_mesh(small_tank, edges=2))


def test_importing_needs_no_dolfinx_and_does_no_work():
    code = (
        "import sys, onmanifold.operators.eit\n"
        "loaded = {'dolfinx', 'petsc4py', 'ufl', 'gmsh'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("compiler")
def test_a_mesh_needs_a_node_off_the_electrodes():
    points = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    square = Mesh(points, [[0, 1, 2], [0, 2, 3]], [[3, 0], [1, 2]], [0, 1])
    protocol = Protocol.from_pairs(2, [(0, 1)], measure=[(0, 1)])
    with pytest.raises(ValueError, match="every node of the mesh is on an electrode"):
        Engine(assemble(square), CompleteElectrodes(np.ones(2), protocol))
