"""Equations in UFL: analytic solutions, derivatives, functionals, loads, and bad input."""

import copy

import numpy as np
import pytest
import torch

from onmanifold import OutsideDomain, load_operator
from onmanifold.operators.pde import PDE, darcy, diffuse_optics
from onmanifold.operators.pde.observations import image_values
from onmanifold.testing import check_operator

pytestmark = pytest.mark.usefixtures("compiler")
POINTS = [[0.31, 0.52], [0.77, 0.15], [0.5, 0.5]]


@pytest.fixture(scope="module")
def square(dolfinx):
    """Function spaces on a square, by degree, and what forms are made of."""
    import ufl
    from dolfinx import fem, mesh
    from mpi4py import MPI

    domain = mesh.create_unit_square(MPI.COMM_SELF, 8, 8)

    class Square:
        ufl_, fem_, mesh_ = ufl, fem, mesh
        x = ufl.SpatialCoordinate(domain)

        @staticmethod
        def space(degree=1, kind="Lagrange"):
            return fem.functionspace(domain, (kind, degree))

        @staticmethod
        def bc(space, value, where):
            prescribed = fem.Function(space)
            prescribed.interpolate(value)
            return fem.dirichletbc(prescribed, fem.locate_dofs_geometrical(space, where))

    return Square


def everywhere(x):
    return np.isclose(x[0] * (1 - x[0]) * x[1] * (1 - x[1]), 0)


def channel(square, observe, **options):
    """Flow from right to left through exp(m): with m = x it has a simple solution."""
    ufl, space = square.ufl_, square.space(2)
    u, m, v = square.fem_.Function(space), square.fem_.Function(space), ufl.TestFunction(space)
    residual = ufl.exp(m) * ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx
    ends = square.bc(space, lambda x: x[0], lambda x: np.isclose(x[0] * (1 - x[0]), 0))
    seen = observe(u, m) if callable(observe) else observe
    return PDE(residual, u, m, seen, bcs=[ends], **options), space


def test_a_linear_equation_has_its_analytic_solution(square):
    operator, space = channel(square, POINTS)
    assert operator.equation.linear and operator.y_shape == (3,)
    x = torch.from_numpy(space.tabulate_dof_coordinates()[:, 0].copy())
    at = np.array(POINTS)[:, 0]
    expected = torch.from_numpy((1 - np.exp(-at)) / (1 - np.exp(-1)))
    torch.testing.assert_close(operator.A(x[None])[0], expected, atol=2e-5, rtol=0)


def test_a_nonlinear_equation_has_its_analytic_solution(square):
    """-div((m + u^2) grad u) = -10 - 10 x - 20 y for m = 1, by u = 1 + x + 2 y."""
    ufl, space, x = square.ufl_, square.space(), square.x
    u, m, v = square.fem_.Function(space), square.fem_.Function(space), ufl.TestFunction(space)
    flow = (m + u**2) * ufl.inner(ufl.grad(u), ufl.grad(v))
    residual = (flow + (10 + 10 * x[0] + 20 * x[1]) * v) * ufl.dx
    edge = square.bc(space, lambda x: 1 + x[0] + 2 * x[1], everywhere)
    operator = PDE(residual, u, m, POINTS, bcs=[edge])
    assert not operator.equation.linear
    ones = torch.ones(1, *operator.x_shape, dtype=torch.float64)
    p = torch.tensor(POINTS, dtype=torch.float64)
    torch.testing.assert_close(operator.A(ones)[0], 1 + p[:, 0] + 2 * p[:, 1])
    check_operator(operator, ones + 0.3 * torch.rand(2, *operator.x_shape, dtype=torch.float64))


@pytest.mark.parametrize("x_shape", [None, (5, 7), (1, 6, 6)])
def test_points_seen_by_a_linear_equation(square, x_shape):
    operator, _ = channel(square, POINTS, x_shape=x_shape)
    x = torch.rand(3, *operator.x_shape, dtype=torch.float64)
    check_operator(operator, x)
    check_operator(operator, x.float())
    if x_shape == (5, 7):
        assert torch.autograd.gradcheck(operator.A, x[:1].requires_grad_())


def test_functionals_of_state_and_parameter(square):
    ufl = square.ufl_

    def observe(u, m):
        flux = ufl.exp(m) * ufl.grad(u)[0]
        return [flux * ufl.dx, u**2 * ufl.dx, m * ufl.dx]

    operator, space = channel(square, observe)
    check_operator(operator)
    x = torch.from_numpy(space.tabulate_dof_coordinates()[:, 0].copy())
    flux, _, mean = operator.A(x[None])[0].tolist()
    assert flux == pytest.approx(1 / (1 - np.exp(-1)), rel=1e-4) and mean == pytest.approx(0.5)


def test_loads_share_an_equation(square):
    ufl, fem = square.ufl_, square.fem_
    space, scalar = square.space(1, "Lagrange"), square.space(0, "DG")
    u, m, v = fem.Function(space), fem.Function(scalar), ufl.TestFunction(space)
    residual = (ufl.inner(ufl.grad(u), ufl.grad(v)) + m * u * v) * ufl.dx
    loads = [v * ufl.dx, square.x[0] * v * ufl.dx]
    both = PDE(residual, u, m, POINTS, loads=loads, x_shape=(4, 4))
    assert both.y_shape == (2, 3)
    check_operator(both)
    x = 0.5 + torch.rand(1, 4, 4, dtype=torch.float64)
    for k, load in enumerate(loads):
        alone = PDE(residual - load, u, m, POINTS, x_shape=(4, 4))
        torch.testing.assert_close(both.A(x)[:, k], alone.A(x))
    assert both.state_at(x).shape == (1, 2, 81)


def test_nonlinear_loads(square):
    ufl, fem, space = square.ufl_, square.fem_, square.space()
    u, m, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
    residual = (ufl.inner(ufl.grad(u), ufl.grad(v)) + m * u * v + u**3 * v) * ufl.dx
    operator = PDE(residual, u, m, POINTS, loads=[v * ufl.dx, 20 * v * ufl.dx], x_shape=(3, 3))
    check_operator(operator)


def test_images_lie_over_the_mesh_as_they_are_seen():
    box = np.zeros(2), np.array([2.0, 1.0])
    places = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 0.5]])  # top left, bottom right, middle
    weights = image_values(places, box, (2, 4)).toarray().reshape(3, 2, 4)
    assert weights[0, 0, 0] == 1 and weights[1, 1, 3] == 1
    np.testing.assert_allclose(weights[2, :, 1:3], 0.25)
    np.testing.assert_allclose(weights.sum((1, 2)), 1)
    volume = image_values(np.array([[0.1, 0.9, 0.9]]), (np.zeros(3), np.ones(3)), (3, 3, 3))
    assert volume.toarray().reshape(3, 3, 3)[2, 0, 0] == 1


def test_darcy_and_optics(dolfinx):
    flow = load_operator("darcy", (1, 12, 12), cells=12)
    assert flow.y_shape == (25,)
    check_operator(flow)
    # -laplace p = 1 on the unit square has 0.0736714 in its middle
    middle = darcy((8, 8), cells=48, points=1).A(torch.zeros(1, 8, 8, dtype=torch.float64))
    assert float(middle) == pytest.approx(0.0736714, rel=2e-3)
    optics = load_operator("optics", (10, 10), side=15.0, cells=15, sources=3, detectors=4)
    x = 0.005 + 0.01 * torch.rand(2, 10, 10, dtype=torch.float64)
    check_operator(optics, x)
    light, less = optics.A(torch.full((1, 10, 10), 0.01)), optics.A(torch.full((1, 10, 10), 0.02))
    assert light.shape == (1, 3, 4) and (less < light).all()  # absorption takes light away


def test_light_falls_as_in_a_half_space(dolfinx):
    """Far from source and corners the logarithm falls by the effective attenuation."""
    absorption = 0.05
    optics = diffuse_optics((8, 8), side=60.0, cells=80, sources=4, detectors=16)
    light = optics.A(torch.full((1, 8, 8), absorption, dtype=torch.float64))
    state = optics.parts[0].state_at(torch.full((1, 8, 8), absorption, dtype=torch.float64))[0, 0]
    space = optics.parts[0].equation.state.function_space
    place = space.tabulate_dof_coordinates()
    column = np.abs(place[:, 0] - 30.0) < 1e-9
    depth, value = place[column, 1], state[column]
    deep = (depth > 15) & (depth < 30)
    slope = np.polyfit(depth[deep], np.log(value[deep]), 1)[0]
    attenuation = np.sqrt(3 * absorption * (absorption + 1.0))
    # in the plane the field is a Bessel function: exp(-a r) / sqrt(r) about
    assert -slope == pytest.approx(attenuation + 0.5 / 22.0, rel=0.08)
    assert light.isfinite().all()


def test_no_solution_is_outside_the_domain(square):
    ufl, fem, space = square.ufl_, square.fem_, square.space()
    u, m, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
    operator = PDE((m * u * v - v) * ufl.dx, u, m, POINTS, x_shape=(2, 2))
    x = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    with pytest.raises(OutsideDomain, match="cannot be solved for 1 of 2 unknowns") as caught:
        operator.A(x)
    assert caught.value.members.tolist() == [False, True]
    with pytest.raises(OutsideDomain):
        operator.A(torch.full((1, 2, 2), torch.nan))


def test_what_cannot_be_copied_says_so(dolfinx):
    with pytest.raises(TypeError, match="make it again"):
        copy.deepcopy(darcy((4, 4), cells=4, points=1))


def test_bad_input(square):
    ufl, fem, space = square.ufl_, square.fem_, square.space()
    u, m, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
    good = (m * u * v - v) * ufl.dx

    def says(match, *arguments, **options):
        with pytest.raises(ValueError, match=match):
            PDE(*arguments, **options)

    says("residual has to be a form in UFL", u, u, m, POINTS)
    says("no trial function", ufl.TrialFunction(space) * v * ufl.dx, u, m, POINTS)
    says("does not depend on the parameter", (u * v - v) * ufl.dx, u, m, POINTS)
    says("does not depend on the state", (m * v - v) * ufl.dx, u, m, POINTS)
    says("state has to be a dolfinx.fem.Function, got ndarray", good, np.ones(3), m, POINTS)
    says(
        "1 of 2 points lie outside of the mesh, the first is number 1", good, u, m, [[0, 0], [2, 0]]
    )
    says(r"points have shape \(3,\), expected \(P, 2\)", good, u, m, [0.1, 0.2, 0.3])
    says("functional 0 has to be a form", good, u, m, [v * ufl.dx])
    says(r"a list of forms: \[form\]", good, u, m, u * ufl.dx)
    with pytest.raises(ValueError, match="too coarse.*cells has to be at least 20"):
        diffuse_optics((8, 8), cells=10)
    says("load 1 depends on state", good, u, m, POINTS, loads=[v * ufl.dx, m * v * ufl.dx])
    says("load 0 has to be a form", good, u, m, POINTS, loads=[1.0])
    says(r"x_shape has to be \(H, W\) or \(1, H, W\)", good, u, m, POINTS, x_shape=(3, 4, 4))
    operator = PDE(good, u, m, POINTS, x_shape=(4, 4))
    with pytest.raises(ValueError, match=r"x has shape \(1, 5, 4\), expected \(B, 4, 4\)"):
        operator.A(torch.ones(1, 5, 4))
    with pytest.raises(ValueError, match="needs the shape"):
        load_operator("darcy")
