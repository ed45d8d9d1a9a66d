"""Operators and what they are made of go through pickle, deepcopy and joblib, and come back equal."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from onmanifold import Gaussian, load_prior, solve
from onmanifold.operators import (
    Blur,
    Compose,
    Downsampling,
    Fourier,
    Mask,
    ParallelBeam,
    Stack,
    Tomography,
    coil_maps,
    gaussian_kernel,
)
from onmanifold.operators.eit import (
    EIT,
    Affine,
    BoundaryCurve,
    Continuum,
    Cylinder,
    Exponential,
    Inclusions,
    Labels,
    Measurement,
    MeshGeometry,
    Protocol,
    Saturating,
    Tank,
    approximation_error,
    assemble,
    flag_channels,
    polar_mesh,
)

TANK = Tank(electrodes=8, width=20)
WAYS = {
    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}
PROTOCOLS = {
    "electrodes": Protocol.adjacent(8, drop_driven=True),
    "piecewise": Continuum.walsh(4),
    "waves": Continuum.trigonometric(2),
}

ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def image(seed=0):
    return 0.5 + torch.rand(
        2, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


@ways
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("solver", ["mumps", "superlu", "torch"])
def test_eit(solver, protocol, way):
    mesh = polar_mesh(TANK)
    eit = EIT(TANK, protocol, (1, 6, 6), conductivity=Affine(0.2, 1.1), mesh=mesh, solver=solver)
    x = image()
    fresh = way(eit)
    lin = eit.linearize(x)
    tangents, cotangents = image(1)[:, None], torch.ones_like(lin.y)[:, None]
    used, copied = way(eit), way(lin)
    for other in (fresh, used):
        assert torch.equal(other.A(x), eit.A(x))
        torch.testing.assert_close(other.jacobian(x), eit.jacobian(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(copied.jvp(tangents), lin.jvp(tangents), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(copied.vjp(cotangents), lin.vjp(cotangents), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(way(lin.select(torch.tensor([1]))).y, lin.y[1:])


@pytest.mark.usefixtures("dolfinx")
def test_eit_in_a_process_of_joblib():
    joblib = pytest.importorskip("joblib")
    eit = EIT(Tank.unit(), Protocol.adjacent(32), (1, 6, 6), mesh="coarse")
    x = image()
    (theirs,) = joblib.Parallel(n_jobs=2)([joblib.delayed(eit.A)(x)])
    torch.testing.assert_close(theirs, eit.A(x), rtol=1e-12, atol=0)


@ways
def test_a_solution_with_eit(way):
    prior = load_prior("two-balls")
    eit = EIT(
        Tank.unit(),
        Protocol.adjacent(32),
        prior.x_shape,
        conductivity=Affine(0.2, 1.6),
        mesh="coarse",
    )
    y = eit.A(prior.decode(prior.sample(1, 0)))
    solution = solve(eit, y, prior, fidelity=Gaussian(1e-2), starts=1)
    other = way(solution)
    assert torch.equal(other.x, solution.x) and torch.equal(other.measurement, solution.measurement)
    assert other.status == solution.status
    assert torch.equal(other.problem.operator.A(other.x), eit.A(solution.x))


@ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_operators(dtype, way):
    x = torch.rand(2, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    blurs = [
        Blur(gaussian_kernel(5, 1.0), (8, 8), boundary=boundary, method=method)
        for boundary in ("zero", "reflect", "circular")
        for method in ("fft", "spatial", "separable")
    ]
    mask = Mask(x[0] > 0.5, (8, 8))
    others = (
        Blur(torch.ones(3, 2, 2), (8, 8)),
        Downsampling(3, (8, 8)),
        Fourier(x[0] > 0.5, coils=coil_maps((8, 8), 2)),
        Tomography(ParallelBeam([0.0, 50.0], 9), (8, 8)),
        Compose(blurs[0], mask),
        Stack(blurs[0], mask),
    )
    for operator in (*blurs, mask, *others):
        other = way(operator)
        y = operator.A(x)
        assert torch.equal(other.A(x), y)
        assert torch.equal(other.A_adjoint(y), operator.A_adjoint(y))
        assert (other.x_shape, other.y_shape) == (operator.x_shape, operator.y_shape)


def parts():
    protocol = PROTOCOLS["electrodes"]
    values = np.random.default_rng(0).uniform(1, 2, protocol.shape)
    measurement = Measurement.from_values(protocol, values)
    square = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    mesh = polar_mesh(TANK)
    full = Measurement.from_values(Protocol.adjacent(8), np.ones((8, 8)))
    yield from (TANK, Cylinder(per_ring=4), MeshGeometry.of(mesh), mesh, protocol, measurement)
    yield from (BoundaryCurve(square, 4, 0.2, smooth=smooth) for smooth in (False, True))
    yield from (Affine(0.1, 2.0), Exponential(), Saturating(), Labels(free=("background",)))
    yield from (Inclusions(), *PROTOCOLS.values(), Gaussian(0.1))
    yield approximation_error(full, torch.full((8, 8), 0.1, dtype=torch.float64)).fidelity()
    yield flag_channels(full)


@ways
@pytest.mark.parametrize("part", list(parts()), ids=lambda part: type(part).__name__)
def test_parts(part, way):
    if isinstance(part, BoundaryCurve):
        part.pieces()  # what it caches goes along
    assert_same(way(part), part)


@ways
@pytest.mark.usefixtures("compiler")
def test_discretizations(way):
    discretization = assemble(polar_mesh(TANK))
    assert_same(way(discretization), discretization)


def test_copies_of_protocols_cannot_be_written_to():
    for way in WAYS.values():
        with pytest.raises(ValueError, match="read-only"):
            way(Protocol.adjacent(4)).injections[0, 0] = 2.0


def assert_same(a, b):
    """Equal through all fields and attributes."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif type(a).__module__.startswith("onmanifold"):
        assert_same(vars(a), vars(b))
    elif not callable(a):
        assert a == b
