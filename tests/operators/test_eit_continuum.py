"""The continuum model: patterns, the boundary, traces against theory, derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onmanifold.operators.eit import EIT, Affine, Exponential, Tank, load_discretization
from onmanifold.operators.eit.fem.engine import Engine
from onmanifold.operators.eit.models.continuum import Continuum, boundary_loop
from onmanifold.testing import check_operator

PLACES = (np.arange(64) + 0.5) / 64


def test_patterns_have_unit_mass_and_are_orthogonal():
    g = Continuum.walsh(16).currents(PLACES)
    assert g.shape == (15, 64)
    np.testing.assert_allclose(g.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(np.abs(g).mean(axis=1), 1)
    np.testing.assert_allclose(g @ g.T, 64 * np.eye(15), atol=1e-12)


def test_walsh_patterns_are_plus_and_minus_one_and_start_with_halves_and_quarters():
    g = Continuum.walsh(16).currents(PLACES)
    assert set(np.unique(g)) == {-1.0, 1.0}
    np.testing.assert_array_equal(g[0], np.repeat([1, -1], 32))
    np.testing.assert_array_equal(g[1], np.repeat([1, -1, -1, 1], 16))
    assert sorted((np.diff(g, axis=1) != 0).sum(axis=1)) == list(range(1, 16))


@pytest.mark.parametrize("name", ["coarse", "medium"])
def test_the_boundary_is_walked_once_around_from_the_x_axis(name):
    d = load_discretization(name, Tank(radius=2.0))
    loop = boundary_loop(d)
    assert loop.length == pytest.approx(4 * np.pi, rel=1e-3)
    np.testing.assert_array_equal(loop.dofs[:-1, 1], loop.dofs[1:, 0])
    assert loop.dofs[-1, 1] == loop.dofs[0, 0]
    x, y = d.nodes[loop.dofs[:, 0]].T
    np.testing.assert_allclose(np.arctan2(y, x) % (2 * np.pi), 2 * np.pi * loop.start, atol=1e-3)
    shapes = loop.shapes(PLACES, d.size)
    np.testing.assert_allclose(shapes.sum(axis=1), 1)
    circle = 2 * np.stack([np.cos(2 * np.pi * PLACES), np.sin(2 * np.pi * PLACES)], axis=1)
    np.testing.assert_allclose(shapes @ d.nodes, circle, atol=5e-3)


def test_the_boundary_has_to_be_one_curve():
    d = load_discretization("coarse", Tank.unit())
    inner = np.linalg.norm(d.points[d.cells].mean(axis=1), axis=1) > 0.4
    ring = replace(d, cells=d.cells[inner], dofs=d.dofs[inner], stiffness=d.stiffness[inner])
    with pytest.raises(ValueError, match="several curves"):
        boundary_loop(ring)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_trace_on_a_uniform_disk(n):
    """For the current density cos(n t) on the unit disk of conductivity s it is cos(n t) / (n s)."""
    operator = EIT(Tank.unit(), Continuum.trigonometric(4), (8, 8), mesh="medium")
    y = operator.A(torch.full((1, 8, 8), 2.0, dtype=torch.float64))[0]
    t = 2 * np.pi * np.arange(128) / 128
    for wave, trace in ((np.cos(n * t), y[2 * n - 2]), (np.sin(n * t), y[2 * n - 1])):
        exact = torch.from_numpy(wave / (2 * np.pi * n * 2.0))
        assert float((trace - exact).norm() / exact.norm()) < 3e-3


def test_traces_have_zero_mean_on_the_boundary():
    operator = EIT(Tank.unit(), Continuum.walsh(16, points=1024), (8, 8), mesh="coarse")
    x = 0.5 + torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    y = operator.A(x)[0]
    assert float((y.mean(dim=1).abs() / y.abs().mean(dim=1)).max()) < 1e-4


def test_the_potential_of_one_pattern_at_another_is_reciprocal():
    """The integral of g_a u_b over the boundary is symmetric in a and b."""
    d = load_discretization("coarse", Tank.unit())
    engine = Engine(d, Continuum.walsh())
    s = torch.exp(torch.randn(1, engine.cells, generator=torch.Generator().manual_seed(0)).double())
    z = torch.from_numpy(engine.system.sources.toarray()).T @ engine.fields(s).w[0]
    assert float((z - z.T).abs().max() / z.abs().max()) < 1e-10


@pytest.mark.parametrize("conductivity", [Affine(0.2, 1.6), Exponential(1.0)])
def test_contract(conductivity):
    operator = EIT(
        Tank.unit(), Continuum.walsh(8, 24), (12, 12), conductivity=conductivity, mesh="coarse"
    )
    x = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    check_operator(operator, x)


def test_both_ways_to_the_adjoint_agree():
    """Few cotangents are solved for one by one, many through the sensors' potentials."""
    operator = EIT(Tank.unit(), Continuum.walsh(8, 24), (12, 12), mesh="coarse")
    g = torch.Generator().manual_seed(0)
    x = 0.5 + torch.rand(2, 12, 12, generator=g).double()
    u = torch.randn(2, 5, 7, 24, generator=g).double()
    few, many = operator.linearize(x), operator.linearize(x)
    one_by_one = torch.cat([few.vjp(u[:, t : t + 1]) for t in range(5)], dim=1)
    torch.testing.assert_close(many.vjp(u), one_by_one, rtol=1e-9, atol=1e-12)
    assert many.fields.solved and not few.fields.solved


def test_the_l2_fidelity_is_the_norm_on_the_boundary():
    operator = EIT(Tank(radius=3.0), Continuum.trigonometric(1), (8, 8), mesh="medium")
    t = torch.arange(128) * 2 * np.pi / 128
    residual = torch.stack([torch.cos(t), torch.zeros(128)]).double()[None]
    fidelity = operator.l2_fidelity(0.5).bind(residual)
    value = float(fidelity.value(residual, torch.zeros_like(residual)))
    assert value == pytest.approx(3.0 * np.pi / (2 * 0.25), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Continuum.walsh(12), "power of two"),
        (lambda: Continuum.trigonometric(0), "at least 1"),
        (lambda: Continuum.walsh(16, points=1), "points"),
        (lambda: Continuum(lambda t: np.ones(3)), "map"),
        (lambda: Continuum(lambda t: np.ones((1, len(t))), breaks=(1.5,)), "breaks"),
        (lambda: Continuum.piecewise(np.array([[1.0, -1.0], [1.0, 1.0]])), "pattern 2 sum to"),
    ],
)
def test_patterns_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unbalanced_currents_are_named():
    patterns = Continuum(lambda t: np.stack([np.cos(2 * np.pi * t), np.cos(2 * np.pi * t) + 0.1]))
    with pytest.raises(ValueError, match="pattern 2 sum to 0.1 A"):
        EIT(Tank.unit(), patterns, (8, 8), mesh="coarse")
