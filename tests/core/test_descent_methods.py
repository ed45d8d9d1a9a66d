"""Methods of descent, each on every analytic manifold."""

import math

import pytest
import torch
from analytic_priors import ANALYTIC, Affine, Circle, Sine
from descent_cases import METHODS, TIGHT, problem_for, randn, simulated, warp

from onmanifold import (
    LBFGS,
    AveragedRetraction,
    Gaussian,
    GradientNorm,
    LevenbergMarquardt,
    MaxSteps,
    Point,
    ProjectionRetraction,
    RiemannianGradientDescent,
    SmallDecrease,
    Status,
)
from onmanifold.descent import build_problem, descend
from onmanifold.examination import DerivativeWarning

# Methods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "retraction",
    [None, ProjectionRetraction(), AveragedRetraction()],
    ids=["chart", "projection", "averaged"],
)
@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_the_objective_never_rises_and_ends_stationary(name, method, retraction):
    prior = ANALYTIC[name]()
    problem = problem_for(prior, simulated(prior), retraction=retraction)
    start = problem.at(prior.sample(5, 9))
    descent = descend(problem, method, MaxSteps(300) | SmallDecrease(1e-9), start.point)
    objective = descent.history.objective
    assert torch.equal(objective[0], start.objective)
    assert (objective.diff(dim=0) <= 0).all()
    assert (objective[-1] < objective[0]).all()
    assert (descent.state.gradient_norm <= 1e-2 * descent.history.gradient_norm[0]).all()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_descent_goes_on_where_it_ended(method):
    prior = Sine()
    problem = problem_for(prior, simulated(prior))
    start = prior.sample(5, 9)
    whole = descend(problem, method, MaxSteps(9), start)
    half = descend(problem, method, MaxSteps(4), start)
    rest = descend(problem, method, MaxSteps(9), half.state)
    assert torch.equal(rest.state.point.z, whole.state.point.z)
    assert torch.equal(rest.history.objective, whole.history.objective[4:])


def test_a_linear_least_squares_problem_takes_a_few_steps():
    prior = Affine()
    matrix, y = randn(8, 6), randn(4, 8, seed=1)
    problem = build_problem(lambda x: x @ matrix.T, y, prior, Gaussian(0.3))
    stop = MaxSteps(300) | GradientNorm(1e-6)
    descent = descend(problem, LevenbergMarquardt(), stop, prior.sample(4, 0))
    forward = matrix @ prior.matrix
    normal = forward.T @ forward / 0.09 + torch.eye(3, dtype=torch.float64)
    right = (y - matrix @ prior.centre) @ forward / 0.09
    assert torch.allclose(descent.state.point.z, torch.linalg.solve(normal, right.T).T)
    assert descent.state.steps.max() <= 8
    assert (descent.status == Status.SMALL_GRADIENT).all()


def test_methods_agree_with_brute_force():
    prior = Sine()
    y = simulated(prior, n=8, std=0.1)
    problem = problem_for(prior, y, fidelity=Gaussian(0.1))
    grid = torch.linspace(-3, 3, 60001, dtype=torch.float64).unsqueeze(1)
    prediction = warp(prior.decode_chart(grid, 0))
    cost = (y.unsqueeze(1) - prediction).square().sum(2) / 0.02 + 0.5 * grid.square().T
    best = cost.min(dim=1)
    start = Point(torch.zeros(8, dtype=torch.long), grid[best.indices] + 0.1)
    for method in METHODS:
        ends = descend(problem, method, TIGHT, start).state
        assert torch.allclose(ends.objective, best.values, atol=1e-5)
        assert torch.allclose(ends.point.z, grid[best.indices], atol=2e-4)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_circle_is_gone_around_through_both_charts(method):
    prior = Circle()
    angle = torch.tensor([2.6, -2.6, 1.9, 3.0], dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=1)
    problem = build_problem(lambda x: x, y, prior, Gaussian(0.1))
    start = Point(torch.zeros(4, dtype=torch.long), 0.1 * angle.sign().unsqueeze(1))
    descent = descend(problem, method, TIGHT, start)
    assert descent.state.point.chart.tolist() == [1, 1, 1, 1]
    x = prior.decode(descent.state.point)
    assert torch.allclose(x, y, atol=1e-6)
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    assert (descent.history.chart[0] == 0).all()


class Torn(Circle):
    """The circle with charts that disagree by a little, and of which neither admits the other."""

    def decode_chart(self, z, chart):
        return (1 + 0.002 * chart) * super().decode_chart(z, chart)

    def responsibilities(self, x):
        return torch.full((len(x), 2), 0.5, dtype=x.dtype)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_charts_that_do_not_fit_exactly_are_crossed(method):
    prior = Torn()
    angle = torch.tensor([2.6, -2.9, 3.1], dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=1)
    problem = build_problem(lambda x: x, y, prior, Gaussian(0.05))
    start = Point(torch.zeros(3, dtype=torch.long), 0.5 * angle.sign().unsqueeze(1))
    descent = descend(problem, method, TIGHT, start)
    assert descent.state.point.chart.tolist() == [1, 1, 1]
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    x = prior.decode(descent.state.point)
    assert torch.allclose(x, y, atol=3e-3)


def test_refused_changes_of_chart_are_tried_ever_more_rarely():
    class Misfit(Circle):
        """A second chart that claims all and fits nowhere."""

        def decode_chart(self, z, chart):
            return (1 + 3 * chart) * super().decode_chart(z, chart)

        def responsibilities(self, x):
            return torch.tensor([0.0, 1.0], dtype=x.dtype).expand(len(x), 2)

    prior = Misfit()
    problem = build_problem(lambda x: x, randn(1, 2), prior, Gaussian(1.0))
    switched = []
    original = type(problem).after

    def spy(self, *arguments):
        trial = original(self, *arguments)
        switched.append(bool(trial.switched))
        return trial

    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 1.5).double())
    method = RiemannianGradientDescent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(problem), "after", spy)
        descend(problem, method, MaxSteps(12), start)
    expected = [True, False, True, False, False, True] + [False] * 4 + [True, False]
    assert switched == expected[: len(switched)]
    assert len(switched) > 5


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_descent_ends_at_the_border_of_the_box(method):
    prior = Affine(dim=3, box=0.1)
    y = 5 * randn(6, 6)
    problem = build_problem(lambda x: x, y, prior, Gaussian(1.0))
    stop = MaxSteps(500) | GradientNorm(1e-6)
    state = descend(problem, method, stop, prior.sample(6, 0)).state
    z = state.point.z
    assert z.abs().max() == pytest.approx(0.1)
    assert (z.abs() <= 0.1).all()
    # First-order optimality, coordinate by coordinate: inside no slope, at the border outward.
    residual = prior.decode_chart(z, 0) - y
    slope = residual @ prior.matrix + z
    inside = z.abs() < 0.1
    assert slope[inside].abs().max() < 1e-4
    assert (slope[~inside] * z[~inside].sign() < 0).all()


class Counted:
    """The identity, which counts what it is asked."""

    x_shape = y_shape = (2,)
    linear = False

    def __init__(self):
        self.points = 0

    def A(self, x):
        self.points += len(x)
        return x.clone()

    def A_jvp(self, x, v):
        return v

    def A_vjp(self, x, u):
        return u


@pytest.mark.parametrize("method", [m for m in METHODS if not getattr(m, "secant", 0)], ids=str)
def test_an_attempted_step_is_one_linearization(method):
    operator, prior = Counted(), Circle()
    problem = build_problem(operator, 3 * randn(6, 2), prior, Gaussian(0.1))
    operator.points = 0  # its examination called it
    descent = descend(problem, method, MaxSteps(40) | GradientNorm(1e-6), prior.sample(6, 0))
    assert torch.equal(problem.counts.linearizations, descent.state.steps + 1)
    assert torch.equal(problem.counts.evaluations, descent.state.steps + 1)
    assert operator.points == int((descent.state.steps + 1).sum())
    assert descent.state.steps.unique().numel() > 1  # they did not all stop together


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_an_operator_that_breaks_down_somewhere_is_kept_away_from(method):
    """NaN beyond x > 1.5: the step is rejected, not the measurement."""

    def fragile(x):
        return torch.where(x > 1.5, torch.nan, x)

    prior = Sine()
    y = prior.decode_chart(torch.tensor([[1.4]]).double(), 0)
    problem = build_problem(fragile, y, prior, Gaussian(0.01), prior_weight=0)
    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 0.9).double())
    descent = descend(problem, method, TIGHT, start)
    assert descent.state.point.z.item() == pytest.approx(1.4, abs=1e-5)


class Overflowing(Sine):
    """Decodes to infinity beyond z = 1."""

    def decode_chart(self, z, chart):
        return torch.where(z > 1, torch.inf, super().decode_chart(z, chart))


def test_the_operator_never_sees_what_is_not_finite():
    def strict(x):
        assert torch.isfinite(x).all()
        return x

    prior = Overflowing()
    y = Sine().decode_chart(torch.tensor([[1.5], [0.5]]).double(), 0)
    problem = build_problem(strict, y, prior, Gaussian(0.1))
    start = Point(torch.zeros(2, dtype=torch.long), torch.full((2, 1), 0.8).double())
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(50) | SmallDecrease(1e-9), start)
    assert (descent.state.point.z <= 1).all()
    assert (descent.history.objective.diff(dim=0) <= 0).all()


def test_a_wrong_derivative_stalls_and_says_so():
    class Wrong(Counted):
        def A_jvp(self, x, v):
            return -v

    prior = Circle()
    with pytest.warns(DerivativeWarning):
        problem = build_problem(Wrong(), randn(2, 2), prior, Gaussian(0.1))
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(200), prior.sample(2, 0))
    assert (descent.status == Status.STALLED).all()


def test_not_finite_from_the_start_is_a_status():
    prior = Sine()
    y = prior.decode_chart(torch.full((2, 1), 1.2).double(), 0)
    problem = build_problem(lambda x: x / (x[:, :1] > 0), y, prior, Gaussian(0.1))
    start = Point(torch.zeros(2, dtype=torch.long), torch.tensor([[-1.0], [1.0]]).double())
    descent = descend(problem, LevenbergMarquardt(), TIGHT, start)
    assert descent.status.tolist()[0] == Status.NOT_FINITE
    assert descent.state.steps[0] == 0
    assert descent.status.tolist()[1] == Status.SMALL_GRADIENT


def test_not_finite_derivatives_are_a_status():
    class Sharp(Counted):
        def A_jvp(self, x, v):
            return v * torch.nan

    problem = build_problem(Sharp(), randn(2, 2), Circle(), Gaussian(0.1))
    descent = descend(problem, LevenbergMarquardt(), TIGHT, Circle().sample(2, 0))
    assert (descent.status == Status.NOT_FINITE).all()


def test_a_rejected_step_is_shortened_by_what_it_found():
    """On a circle seen from far the undamped step is too long by a factor of ten."""
    prior = Circle()
    problem = build_problem(
        lambda x: x, torch.tensor([[20.0, 0.0]]).double(), prior, Gaussian(), 0.0
    )
    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 0.3).double())
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(40) | GradientNorm(1e-6), start)
    assert descent.status.item() == Status.SMALL_GRADIENT
    assert descent.history.step_length[1:4].max() > 0  # not after a series of doublings only
    assert descent.state.steps.item() <= 15


def test_lbfgs_learns_the_curvature_of_a_quadratic():
    """On a flat manifold, where transport is the identity: as many steps as in Euclidean space."""
    prior = Affine()
    matrix = torch.diag(torch.logspace(0, 2, prior.x_shape[0], dtype=torch.float64))
    truth = prior.sample(3, 0)
    y = prior.decode(truth) @ matrix
    steps = {}
    for method in (LBFGS(), RiemannianGradientDescent()):
        problem = build_problem(lambda x: x @ matrix, y, prior)
        steps[type(method)] = descend(problem, method, TIGHT, prior.sample(3, 5)).state.steps
    assert (steps[LBFGS] < steps[RiemannianGradientDescent]).all()


# Exploration of neighbouring charts --------------------------------------------------------------------


class Flared(Circle):
    """A circle whose first arc sticks out at both ends, by 0.2, and there explains itself best."""

    def decode_chart(self, z, chart):
        out = 0.0 if chart else 0.2 * ((z.abs() - 1.6) / 0.4).clamp(min=0).square()
        return (1 + out) * super().decode_chart(z, chart)

    def responsibilities(self, x):
        own = (x.norm(dim=1) > 1.001) | (x[:, 0] > 0)
        return torch.stack([own, ~own], dim=1).to(x)


def from_the_right(target, method, angle=1.95):
    """Descend from close to the end of the first arc to what is nearest to a target."""
    problem = build_problem(lambda x: x, torch.tensor([target]).double(), Flared(), Gaussian(), 0.0)
    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), angle).double())
    return descend(problem, method, MaxSteps(100) | SmallDecrease(1e-9), start, keep_path=True)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_chart_that_sticks_out_holds_nobody_up(method):
    descent = from_the_right([-2.0, 1.5], method)  # the change of chart costs 0.2, then gains
    end, prior = descent.state.point, Flared()
    expected = torch.tensor([[-0.8, 0.6]]).double()
    assert torch.allclose(prior.decode(end), expected, atol=1e-3)
    assert end.chart.item() == 1 and descent.status.item() == Status.SMALL_DECREASE
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    assert len(descent.path) == descent.history.objective.shape[0]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_visit_that_leads_nowhere_ends_where_it_began(method):
    descent = from_the_right([3 * math.cos(2), 3 * math.sin(2)], method)
    assert descent.state.point.chart.item() == 0
    assert descent.state.point.z.item() == pytest.approx(2.0)
    assert descent.status.item() in (Status.SMALL_DECREASE, Status.SMALL_GRADIENT)
    assert descent.state.objective.item() == pytest.approx(0.5 * 1.8**2)
