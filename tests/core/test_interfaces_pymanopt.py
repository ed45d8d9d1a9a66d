"""One chart of a learned manifold as a manifold of pymanopt."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from analytic_priors import Affine, Circle, Sine, Sphere

from onmanifold import (
    Gaussian,
    GradientNorm,
    MaxSteps,
    Point,
    ProjectionRetraction,
    load_prior,
    solve,
)

pymanopt = pytest.importorskip(
    "pymanopt", reason="pymanopt is missing: pip install onmanifold[interfaces]"
)
from pymanopt.optimizers import ConjugateGradient, SteepestDescent, TrustRegions  # noqa: E402
from pymanopt.tools import diagnostics  # noqa: E402

from onmanifold.interfaces.pymanopt import LearnedManifold, as_problem  # noqa: E402

PRIORS = {"circle": Circle, "sine": Sine, "sphere": Sphere, "affine": Affine}


class RepairedNumpy:
    """pymanopt 2.2.1 writes arrays of one entry where numbers belong, which numpy 2.5 refuses."""

    def __getattr__(self, name):
        return getattr(np, name)

    def sqrt(self, x):
        return np.sqrt(x).squeeze()[()]


@pytest.fixture(autouse=True)
def repaired(monkeypatch):
    monkeypatch.setattr(diagnostics, "np", RepairedNumpy())


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]()


def blurring(x):
    """A nonlinear operator made of torch operations."""
    flat = x.flatten(1)
    return torch.cat([flat.cumsum(1), 0.3 * flat.square()], dim=1)


def measured(prior, seed=5):
    """A start, and what a point near it gives, with noise so that the residual does not vanish."""
    z = 0.4 * prior.sample(1, seed).z.clamp(-2, 2)
    y = blurring(prior.decode_chart(z, 0))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return (z + 0.2).squeeze(0).numpy(), y + 0.1 * noise


def torch_problem(manifold, y):
    """With a cost in torch: gradient and Hessian by pymanopt's own differentiation."""

    @pymanopt.function.pytorch(manifold)
    def cost(z):
        return 0.5 * (blurring(manifold.decode(z).unsqueeze(0)) - y).square().sum()

    return pymanopt.Problem(manifold, cost)


def slope(problem, point, direction, second_order):
    """The order at which the error of pymanopt's Taylor model falls, on its own straightest piece."""
    *_, poly = diagnostics.check_directional_derivative(
        problem, point, direction, use_quadratic_model=second_order
    )
    return poly[0]


def test_gradients_pass_pymanopts_check(prior):
    manifold = LearnedManifold(prior)
    z, y = measured(prior)
    direction = manifold.random_tangent_vector(z)
    for problem in (torch_problem(manifold, y), as_problem(manifold, blurring, y)):
        assert slope(problem, z, direction, False) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["circle", "sphere", "affine"])
def test_hessians_pass_pymanopts_check(name):
    """Their encoders project orthogonally, so that the projection is a retraction of second order."""
    prior = PRIORS[name]()
    manifold = LearnedManifold(prior, retraction=ProjectionRetraction())
    z, y = measured(prior)
    problem = torch_problem(manifold, y)
    assert slope(problem, z, manifold.random_tangent_vector(z), True) == pytest.approx(3, abs=0.15)


def test_the_hessian_is_linear_and_symmetric_in_the_metric(prior):
    manifold = LearnedManifold(prior)
    z, y = measured(prior)
    problem = torch_problem(manifold, y)
    a, b = (manifold.random_tangent_vector(z) for _ in range(2))
    h = problem.riemannian_hessian
    np.testing.assert_allclose(h(z, 2 * a - 3 * b), 2 * h(z, a) - 3 * h(z, b), atol=1e-10)
    left, right = manifold.inner_product(z, a, h(z, b)), manifold.inner_product(z, h(z, a), b)
    assert left == pytest.approx(right, abs=1e-10)


def test_the_hessian_along_a_curve_is_what_differences_of_gradients_say():
    """On the sine, whose encoder does not project orthogonally: the covariant derivative by hand."""
    prior, step = Sine(), 1e-5
    manifold = LearnedManifold(prior)
    z, y = measured(prior)
    problem = torch_problem(manifold, y)
    v = manifold.random_tangent_vector(z)

    def ambient(t):
        """The Riemannian gradient as a vector in space, at z + t v."""
        here = manifold.point(z + t * v)
        g = torch.from_numpy(problem.riemannian_gradient(z + t * v)).unsqueeze(0)
        return torch.func.jvp(lambda w: prior.decode_chart(w, 0), (here.z,), (g,))[1]

    derivative = (ambient(step) - ambient(-step)) / (2 * step)
    tangent = torch.func.jvp(
        lambda w: prior.decode_chart(w, 0), (manifold.point(z).z,), (torch.ones(1, 1).double(),)
    )[1]
    expected = (derivative * tangent).sum() / tangent.square().sum()
    assert problem.riemannian_hessian(z, v)[0] == pytest.approx(float(expected), rel=1e-6)


def test_pymanopts_checks_run_as_a_user_calls_them(prior, capsys, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    manifold = LearnedManifold(prior)
    z, y = measured(prior)
    problem = torch_problem(manifold, y)
    diagnostics.check_gradient(problem, z)
    diagnostics.check_hessian(problem, z)
    plt.close("all")
    said = capsys.readouterr().out
    assert "The residual should be close to 0: 0." in said
    assert "unable to verify" not in said


@pytest.mark.parametrize("make", [torch_problem, None], ids=["torch", "ours"])
@pytest.mark.parametrize("method", [SteepestDescent, ConjugateGradient, TrustRegions])
def test_its_optimizers_reach_what_solve_reaches(prior, method, make):
    manifold = LearnedManifold(prior)
    z, y = measured(prior)
    start = Point(torch.zeros(1, dtype=torch.long), torch.from_numpy(z).unsqueeze(0))
    ours = solve(blurring, y, prior, starts=start, stop=GradientNorm(1e-11) | MaxSteps(200))
    assert int(ours.chart) == 0
    problem = make(manifold, y) if make else as_problem(manifold, blurring, y)
    options = {"min_gradient_norm": 1e-9, "max_iterations": 500, "verbosity": 0}
    found = method(**options).run(problem, initial_point=z)
    np.testing.assert_allclose(found.point, ours.z.squeeze(0).numpy(), atol=1e-7)
    assert problem.cost(found.point) == pytest.approx(float(ours.misfit), abs=1e-12)


def test_a_problem_has_fidelity_and_density():
    prior = Affine()
    manifold, fidelity = LearnedManifold(prior), Gaussian(0.2)
    z, y = measured(prior)
    ours = solve(blurring, y, prior, fidelity=fidelity, stop=GradientNorm(1e-11) | MaxSteps(200))
    problem = as_problem(manifold, blurring, y, fidelity)
    found = TrustRegions(min_gradient_norm=1e-9, verbosity=0).run(problem, initial_point=z)
    np.testing.assert_allclose(found.point, ours.z.squeeze(0).numpy(), atol=1e-7)
    assert problem.cost(found.point) == pytest.approx(float(ours.objective))


def test_metric_norm_and_transport(prior):
    manifold = LearnedManifold(prior)
    z, other = manifold.random_point(), manifold.random_point()
    a, b = (manifold.random_tangent_vector(z) for _ in range(2))
    columns = torch.func.jacfwd(lambda t: manifold.decode(t).flatten())
    here, there = columns(torch.from_numpy(z)).numpy(), columns(torch.from_numpy(other)).numpy()
    assert manifold.inner_product(z, a, b) == pytest.approx((here @ a) @ (here @ b), abs=1e-12)
    assert manifold.norm(z, a) == pytest.approx(1)
    moved = manifold.transport(z, other, a)
    np.testing.assert_allclose(there.T @ (there @ moved - here @ a), 0, atol=1e-10)
    np.testing.assert_allclose(manifold.transport(z, z, a), a, atol=1e-10)
    assert manifold.dim == prior.dim
    assert not manifold.zero_vector(z).any()
    assert np.array_equal(manifold.projection(z, a), a)


def test_random_points_are_samples_of_the_chart_and_depend_on_the_seed():
    prior = load_prior("two-circles")
    for chart in range(prior.num_charts):
        points = [LearnedManifold(prior, chart, seed=s).random_point() for s in (0, 0, 1)]
        assert np.array_equal(points[0], points[1])
        assert not np.array_equal(points[0], points[2])
        assert all((np.abs(z) <= np.asarray(prior.box)).all() for z in points)


def test_retractions_end_in_the_box():
    manifold = LearnedManifold(Circle())
    assert manifold.retraction(np.array([1.5]), np.array([3.0])) == pytest.approx(2.0)


def test_the_typical_distance_is_that_of_samples():
    assert LearnedManifold(Affine(dim=1, size=2)).typical_dist > 0
    circle = LearnedManifold(Circle())
    assert circle.typical_dist == pytest.approx(np.sqrt(2), rel=0.1)  # of two points of the circle


def test_a_stored_prior_stays_as_it_was_and_is_followed_in_float64():
    prior = load_prior("ring").train()
    before = {name: t.clone() for name, t in prior.state_dict().items()}
    manifold = LearnedManifold(prior)
    truth = manifold.decode(manifold.random_point())
    problem = as_problem(manifold, lambda x: 2 * x, 2 * truth.unsqueeze(0).float())
    found = ConjugateGradient(verbosity=0).run(problem)
    assert found.point.dtype == np.float64
    assert float((manifold.decode(found.point) - truth).norm()) < 1e-3
    assert prior.training
    assert all(torch.equal(t, before[name]) for name, t in prior.state_dict().items())
    assert all(p.grad is None for p in prior.parameters())


def test_a_cost_outside_the_operators_domain_is_infinite():
    from onmanifold import Autodiff, OutsideDomain

    class Logarithm(Autodiff):
        x_shape, y_shape, linear = (2,), (2,), False

        def A(self, x):
            if bool((x <= -1).any()):
                raise OutsideDomain("x has to be above -1", (x <= -1).any(1))
            return torch.log1p(x)

    manifold = LearnedManifold(Affine(dim=2, size=2))
    problem = as_problem(manifold, Logarithm(), torch.zeros(1, 2))
    inside, outside = (
        np.linalg.solve(manifold.prior.matrix.numpy(), np.array(x) - manifold.prior.centre.numpy())
        for x in ([0.0, 1.0], [-3.0, 0.0])
    )
    assert problem.cost(outside) == np.inf
    assert problem.cost(inside) == pytest.approx(0.5 * np.log(2) ** 2)


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match="prior has to be a ManifoldPrior, got str"):
        LearnedManifold("ring")
    with pytest.raises(ValueError, match="charts are numbered 0 to 1, got 2"):
        LearnedManifold(Circle(), chart=2)
    with pytest.raises(ValueError, match="one measurement makes a problem, got 2"):
        as_problem(LearnedManifold(Circle()), lambda x: x, torch.zeros(2, 2))
    with pytest.raises(NotImplementedError, match="dist"):
        LearnedManifold(Circle()).dist(np.zeros(1), np.ones(1))
