"""EIT as an operator: the checks, autograd, the reference, bad input."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from onmanifold.operator import ForwardOperator, linearize
from onmanifold.operators.eit import (
    EIT,
    Affine,
    Exponential,
    Protocol,
    Saturating,
    Tank,
    from_options,
    ktc,
    polar_mesh,
)
from onmanifold.testing import check_operator

pytestmark = pytest.mark.usefixtures("dolfinx")

SHAPE = (1, 16, 16)


def _random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


@pytest.fixture(scope="module")
def small(small_tank, small_mesh):
    """128 cells, 8 electrodes, 16 x 16 pixels."""
    return EIT(
        small_tank, Protocol.opposite(8), SHAPE, conductivity=Exponential(2.0), mesh=small_mesh
    )


@pytest.fixture(scope="module")
def tank():
    """The challenge's tank on the coarse mesh."""
    return EIT(ktc.tank(), ktc.protocol(), (1, 32, 32), conductivity=Saturating(0.8), mesh="coarse")


def with_conductivity(operator, conductivity):
    """The same with another map of one channel."""
    other = copy.copy(operator)
    other.conductivity = conductivity
    return other


def test_it_is_a_forward_operator(small):
    assert isinstance(small, ForwardOperator)
    assert small.y_shape == (4, 8) and small.x_shape == SHAPE and small.linear is False


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "conductivity",
    [Affine(0.2, 1.6), Exponential(2.0), Saturating(0.8), Saturating(0.8, reach=0.9)],
)
def test_contract(small, conductivity, dtype):
    operator = with_conductivity(small, conductivity)
    x = 0.1 + 0.7 * torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    check_operator(operator, x.to(dtype))


def test_contract_on_the_challenge_tank(tank):
    check_operator(tank, 0.3 * _random(2, 1, 32, 32).clamp(-2, 2) + 0.01)


def test_dot_test_to_rounding(tank):
    x, v = 0.3 * _random(1, *tank.x_shape), _random(1, *tank.x_shape, seed=1)
    u = _random(1, *tank.y_shape, seed=2)
    a, b = (tank.A_jvp(x, v) * u).sum(), (v * tank.A_vjp(x, u)).sum()
    torch.testing.assert_close(a, b, rtol=1e-10, atol=0)


def test_gradient_by_finite_differences(tank):
    """The derivative is the whole one: the ratio is 1, not 1/2."""
    tank = with_conductivity(tank, Exponential(0.8, 2.0))
    x, v = 0.2 * _random(1, *tank.x_shape), _random(1, *tank.x_shape, seed=1)
    target = tank.A(torch.zeros_like(x))

    def misfit(t):
        return 0.5 * (tank.A(x + t * v) - target).square().sum()

    h = 1e-4
    slope = (8 * (misfit(h) - misfit(-h)) - misfit(2 * h) + misfit(-2 * h)) / (12 * h)
    gradient = tank.A_vjp(x, tank.A(x) - target)
    assert float((gradient * v).sum() / slope) == pytest.approx(1, abs=1e-5)


def test_taylor_slope_is_two(tank):
    tank = with_conductivity(tank, Exponential(0.8))
    x, v = 0.2 * _random(1, *tank.x_shape), _random(1, *tank.x_shape, seed=1)
    lin = tank.linearize(x)
    steps = [0.1 * 2.0**-k for k in range(6)]
    rest = [
        float((tank.A(x + t * v) - lin.y - t * lin.jvp(v[:, None])[:, 0]).norm()) for t in steps
    ]
    slopes = np.diff(np.log(rest)) / np.diff(np.log(steps))
    np.testing.assert_allclose(slopes[2:], 2, atol=0.05)


def test_gradcheck(small_tank, small_mesh):
    operator = EIT(
        small_tank, Protocol.adjacent(8), (3, 3), conductivity=Exponential(), mesh=small_mesh
    )
    x = (0.3 * _random(2, 3, 3)).requires_grad_()
    assert torch.autograd.gradcheck(operator.A, (x,), check_forward_ad=True)


def test_loss_backward_is_the_adjoint(small):
    x = (0.3 * _random(2, *SHAPE)).requires_grad_()
    y = small.A(x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, small.A_vjp(x.detach(), 2 * y.detach()))


def test_functional_transforms_agree(small):
    x, v = 0.3 * _random(2, *SHAPE), _random(2, *SHAPE, seed=1)
    y, change = torch.func.jvp(small.A, (x,), (v,))
    torch.testing.assert_close(y, small.A(x))
    torch.testing.assert_close(change, small.A_jvp(x, v))
    back = torch.func.vjp(small.A, x)[1](y)[0]
    torch.testing.assert_close(back, small.A_vjp(x, y))


def test_second_derivatives_are_refused(small):
    x = (0.3 * _random(1, *SHAPE)).requires_grad_()
    (gradient,) = torch.autograd.grad(small.A(x).square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        gradient.sum().backward()


def test_jacobian_holds_the_derivative(small):
    x, v = 0.3 * _random(2, *SHAPE), _random(2, *SHAPE, seed=1)
    jacobian = small.jacobian(x)
    assert jacobian.shape == (2, 4, 8, *SHAPE)
    change = torch.einsum("bimchw,bchw->bim", jacobian, v)
    torch.testing.assert_close(change, small.A_jvp(x, v))


def test_linearization_serves_many_directions_and_selects(small):
    x = 0.3 * _random(3, *SHAPE)
    v, u = _random(3, 5, *SHAPE, seed=1), _random(3, 2, *small.y_shape, seed=2)
    lin = linearize(small, x)
    assert lin.jvp(v).shape == (3, 5, 4, 8) and lin.vjp(u).shape == (3, 2, *SHAPE)
    for rows in (torch.tensor([True, False, True]), torch.tensor([2, 0]), torch.tensor([-1])):
        part = lin.select(rows)
        torch.testing.assert_close(part.y, lin.y[rows])
        torch.testing.assert_close(part.jvp(v[rows]), lin.jvp(v)[rows])
        torch.testing.assert_close(part.vjp(u[rows]), lin.vjp(u)[rows])


def test_dtype_is_that_of_the_images(small):
    x = 0.3 * _random(1, *SHAPE)
    single = small.A(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), small.A(x.float().double()), rtol=1e-6, atol=1e-7)


def test_device_is_that_of_the_images(small, device):
    x = (0.3 * _random(2, *SHAPE)).to(device)
    lin = small.linearize(x)
    assert small.A(x).device == x.device
    assert lin.jvp(x[:, None]).device == x.device
    assert lin.select(torch.tensor([True, False], device=device)).y.device == x.device


def test_a_resistive_object_is_seen_by_the_electrodes_beside_it(tank):
    """Electrode 1 sits at 12 o'clock, 9 at 9, 17 at 6, 25 at 3; row 0 is on top."""
    water = tank.A(torch.zeros(1, 1, 32, 32, dtype=torch.float64))[0]
    places = {1: (4, 16), 9: (16, 4), 17: (28, 16), 25: (16, 28)}
    for electrode, (row, column) in places.items():
        x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
        x[..., row - 2 : row + 2, column - 2 : column + 2] = -0.5
        change = (tank.A(x)[0] - water).abs().sum(0)  # by measurement pattern: j and j + 1
        nearest = int(change.argmax()) + 1
        distance = (nearest + 0.5 - electrode + 16) % 32 - 16
        assert abs(distance) <= 2.5, (electrode, nearest)


def test_pixels_outside_the_tank_have_no_effect(tank):
    x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    corner = x.clone()
    corner[..., :3, :3] = 0.9
    torch.testing.assert_close(tank.A(corner), tank.A(x), rtol=0, atol=0)


def test_with_a_reference_the_model_is_that_of_the_difference():
    reference = _random(32, 32)
    plain = EIT(Tank.unit(), Protocol.adjacent(32), SHAPE, mesh="coarse")
    made = EIT(
        Tank.unit(),
        Protocol.adjacent(32),
        SHAPE,
        mesh="coarse",
        reference=reference.ravel(),
        background=1.5,
    )
    water = torch.full((1, *SHAPE), 1.5, dtype=torch.float64)
    torch.testing.assert_close(made.A(water)[0], reference)
    x = 1 + 0.3 * _random(1, *SHAPE).clamp(-3, 3)
    torch.testing.assert_close(made.A(x) - reference, plain.A(x) - plain.A(water))
    torch.testing.assert_close(made.A_jvp(x, water), plain.A_jvp(x, water))


def test_the_reference_s_conductivity_is_that_of_a_blank_image():
    operator = from_options(
        SHAPE, tank="unit", conductivity="saturating", mesh="coarse", reference=torch.ones(32, 32)
    )
    assert operator.background == 1.0
    blank = torch.zeros(1, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(operator.A(blank), torch.ones(1, 32, 32, dtype=torch.float64))


def test_scale_of_the_background_is_found():
    operator = EIT(
        ktc.tank(),
        ktc.protocol(),
        (1, 32, 32),
        conductivity=Saturating(0.8),
        mesh="coarse",
        reference=_random(76, 31),
    )
    x = torch.zeros(2, 1, 32, 32, dtype=torch.float64)
    x[0, 0, 8:12, 8:12], x[1, 0, 20:24, 10:16] = -1, 1
    y = operator.scaled(1.08).A(x)
    mask = torch.rand(76, 31, generator=torch.Generator().manual_seed(0)) < 0.8
    found = operator.fit_scale(x, torch.where(mask, y, 0.0), mask)
    torch.testing.assert_close(
        found, torch.full((2,), 1.08, dtype=torch.float64), rtol=1e-4, atol=0
    )
    twice = operator.scaled(2.0)
    assert torch.equal(twice.cell_conductivity(x), 2 * operator.cell_conductivity(x))
    with pytest.raises(ValueError, match="factor has to be above 0"):
        operator.scaled(-1.0)


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(1, 16, 16), ValueError, r"expected \(B, 1, 16, 16\)"),
        (torch.zeros(0, *SHAPE), ValueError, "empty batch"),
        (torch.zeros(1, *SHAPE, dtype=torch.long), TypeError, "floating-point"),
        (torch.full((1, *SHAPE), math.nan), ValueError, "NaN"),
        (np.zeros((1, *SHAPE)), TypeError, "torch.Tensor"),
    ],
)
def test_bad_images(small, x, error, message):
    for call in (small.A, small.linearize, small.cell_conductivity):
        with pytest.raises(error, match=message):
            call(x)


def test_conductivity_has_to_be_positive(small):
    x = torch.ones(2, *SHAPE)
    x[1, 0, 8, 8] = -5
    with pytest.raises(ValueError, match=r"positive and finite, got -\d.* member 1"):
        with_conductivity(small, Affine()).A(x)


def test_bad_directions(small):
    x = torch.zeros(2, *SHAPE)
    lin = small.linearize(x)
    for v in (torch.zeros(2, *SHAPE), torch.zeros(1, 3, *SHAPE), torch.zeros(2, 3, 1, 8, 8)):
        with pytest.raises(ValueError, match="tangents"):
            lin.jvp(v)
    with pytest.raises(ValueError, match="cotangents"):
        lin.vjp(torch.zeros(2, 1, 8, 4))
    with pytest.raises(ValueError, match="v has shape"):
        small.A_jvp(x, torch.zeros(2, 16, 16))
    with pytest.raises(ValueError, match="u has shape"):
        small.A_vjp(x, torch.zeros(2, 8, 4))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": Protocol.adjacent(16)}, ValueError, "16 electrodes, the tank has 32"),
        ({"tank": Tank(width=5.0)}, ValueError, "32 electrodes of 5.625 degrees"),
        ({"mesh": "huge"}, ValueError, "unknown mesh 'huge'; known: coarse, medium, fine"),
        ({"mesh": 3}, TypeError, "got int"),
        ({"x_shape": (3, 8, 8)}, ValueError, r"\(1, H, W\) or \(H, W\)"),
        ({"x_shape": (64,)}, ValueError, r"\(1, H, W\) or \(H, W\)"),
        ({"reference": torch.zeros(3, 3)}, ValueError, r"reference has shape \(3, 3\)"),
        ({"reference": torch.full((32, 32), math.nan)}, ValueError, "reference holds NaN"),
        ({"reference": torch.zeros(32, 32)}, ValueError, "background's conductivity .* got 0.0"),
    ],
)
def test_what_does_not_fit_together(options, error, message):
    given = {"tank": Tank.unit(), "protocol": Protocol.adjacent(32), "mesh": "coarse", **options}
    with pytest.raises(error, match=message):
        EIT(**given)


def test_mesh_of_another_tank(small_mesh):
    with pytest.raises(ValueError, match="the mesh has 8 electrodes; 32 contact"):
        EIT(Tank.unit(), Protocol.adjacent(32), mesh=small_mesh)


# From options ---------------------------------------------------------------------------------


def test_options_make_the_same_operator():
    made = from_options(
        (1, 32, 32),
        tank="ktc",
        mesh="coarse",
        conductivity={"map": "saturating", "background": 0.8},
    )
    assert made.tank == ktc.tank() and made.protocol == ktc.protocol()
    assert made.conductivity == Saturating(0.8)
    other = from_options(tank={"radius": 2.0}, protocol="opposite", mesh="coarse")
    assert other.x_shape == (1, 64, 64) and other.y_shape == (16, 32)
    assert from_options(contact_impedance=0.5, mesh="coarse").tank == Tank.unit(0.5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tank": "bath"}, ValueError, "unknown tank 'bath'; known: unit, ktc"),
        ({"tank": {"diameter": 1}}, TypeError, "Tank does not take diameter; it takes radius"),
        ({"protocol": "cross"}, ValueError, "known: adjacent, opposite, ktc"),
        ({"conductivity": "log"}, ValueError, "known: affine, exponential, saturating"),
        ({"conductivity": {"map": "affine", "a": 1}}, TypeError, "Affine does not take a"),
        ({"grid": 3}, TypeError, "grid"),
    ],
)
def test_options_refuse(options, error, message):
    with pytest.raises(error, match=message):
        from_options(**options)


def test_the_registry_finds_it():
    from onmanifold.plugins import load_operator

    assert load_operator("eit", (1, 8, 8), mesh="coarse").y_shape == (32, 32)
    with pytest.raises(TypeError, match="no option 'grid'; its options: tank, protocol"):
        load_operator("eit", grid=3)


@pytest.mark.parametrize("other", [{"radius": 50.0}, {"first_angle": 120.0}, {"radius": 0.05}])
def test_meshes_of_another_size_or_turn_are_refused(small_tank, other):
    elsewhere = polar_mesh(dataclasses.replace(small_tank, **other), edges=2)
    with pytest.raises(ValueError, match=r"not one of this tank: its electrode \d+ is"):
        EIT(small_tank, Protocol.adjacent(8), SHAPE, mesh=elsewhere)


@pytest.mark.parametrize("solver", ["mumps", "torch", "superlu"])
def test_works_in_inference_mode(small_tank, small_mesh, solver):
    eit = EIT(small_tank, Protocol.adjacent(8), SHAPE, mesh=small_mesh, solver=solver)
    x = 1 + torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        y = eit.A(x)
        again = eit.A(2 * x)
    torch.testing.assert_close(y, eit.A(x))
    torch.testing.assert_close(again, eit.A(2 * x))
