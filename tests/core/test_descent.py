"""Quadratic models on a box, stopping rules, methods and the loop."""

import math
from dataclasses import replace

import pytest
import torch
from analytic_priors import ANALYTIC, Affine, Circle, Sine, Sphere

from onmanifold import (
    LBFGS,
    ConjugateGradient,
    Discrepancy,
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
from onmanifold.descent import StoppingRule, descend, pose
from onmanifold.descent.quadratic import (
    clip_to_psd,
    minimize_on_box,
    model_decrease,
    projected_norm,
)
from onmanifold.descent.subproblem import composite_step
from onmanifold.geometry import jacobian, pullback_metric

METHODS = [LevenbergMarquardt(), RiemannianGradientDescent(), ConjugateGradient(), LBFGS()]
TIGHT = MaxSteps(300) | GradientNorm(1e-7)


def randn(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64)


def warp(x):
    """A nonlinear operator for every analytic prior."""
    flat = x.flatten(1)
    return torch.cat([flat + 0.3 * flat.square(), flat.sum(1, keepdim=True).sin()], dim=1)


def simulated(prior, n=5, std=0.05, seed=0):
    truth = prior.sample(n, seed)
    y = warp(prior.decode(truth.z, truth.chart))
    return y + std * randn(*y.shape, seed=seed + 1)


def posed(prior, y, **options):
    options.setdefault("fidelity", Gaussian(0.05))
    return pose(warp, y, prior, **options)


# Quadratic models ---------------------------------------------------------------------------------


def positive(n, d, seed=0):
    root = randn(n, d, d, seed=seed)
    return root @ root.mT + 0.1 * torch.eye(d, dtype=torch.float64)


def test_without_borders_it_is_the_minimizer():
    matrix, gradient = positive(4, 5), randn(4, 5)
    far = torch.full_like(gradient, math.inf)
    v = minimize_on_box(matrix, gradient, -far, far)
    assert torch.allclose((matrix @ v.unsqueeze(2)).squeeze(2), -gradient)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_box_it_descends_on_every_member(seed):
    matrix, gradient = positive(50, 6, seed=seed), randn(50, 6, seed=seed + 50)
    upper, lower = randn(50, 6, seed=1).abs() * 0.2, -randn(50, 6, seed=2).abs() * 0.2
    upper[:, 0], lower[:, 1] = 0.0, 0.0
    v = minimize_on_box(matrix, gradient, lower, upper)
    assert ((lower <= v) & (v <= upper)).all()
    assert (model_decrease(matrix, gradient, v) > 0).all()
    slope = gradient + (matrix @ v.unsqueeze(2)).squeeze(2)
    inside = (v > lower) & (v < upper)
    assert slope[inside].abs().max() < 1e-10  # nothing left to gain where no border was met
    # Never worse than cutting off the steepest descent at the border:
    steepest = torch.linspace(0, 1, 50, dtype=torch.float64).view(-1, 1, 1) * -gradient
    cut = model_decrease(matrix, gradient, torch.zeros_like(v))
    for direction in steepest:
        kept = (direction >= lower).all(1) & (direction <= upper).all(1)
        cut = torch.where(kept, model_decrease(matrix, gradient, direction), cut)
    assert (model_decrease(matrix, gradient, v) >= cut - 1e-12).all()


def test_a_separable_box_problem_is_solved_exactly():
    matrix = torch.diag_embed(torch.tensor([[1.0, 2.0, 4.0]])).double()
    gradient = torch.tensor([[-3.0, 1.0, -1.0]]).double()
    one = torch.ones(1, 3).double()
    v = minimize_on_box(matrix, gradient, -one, one)
    assert torch.allclose(v, torch.tensor([[1.0, -0.5, 0.25]]).double())


def test_projected_norm_ignores_what_leaves_the_box():
    metric = torch.eye(2).double().unsqueeze(0)
    gradient = torch.tensor([[-3.0, 4.0]]).double()
    room = torch.tensor([[0.0, 1.0]]).double()
    assert projected_norm(metric, gradient, -room, room).item() == pytest.approx(4.0)
    assert projected_norm(metric, -gradient, -room - 1, room).item() == pytest.approx(5.0)


def test_clipping_keeps_the_positive_part():
    matrix = torch.diag_embed(torch.tensor([[2.0, -1.0]])).double()
    assert torch.allclose(
        clip_to_psd(matrix), torch.diag_embed(torch.tensor([[2.0, 0.0]])).double()
    )


# The model of the objective -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_both_gradients_are_the_objectives(name):
    prior = ANALYTIC[name]()
    y = simulated(prior)
    problem = posed(prior, y)
    start = prior.sample(5, 7)
    start = Point(start.chart, 0.4 * start.z)

    def objective(z):
        x = prior.decode(z, start.chart)
        penalty = prior.log_prob(z, start.chart)
        return (0.5 * (warp(x) - y).square().sum(1) / 0.05**2 - penalty).sum()

    expected = torch.func.grad(objective)(start.z)
    trial = problem.at(start)
    assert trial.objective.sum().item() == pytest.approx(objective(start.z).item())
    for model in (problem.slope(trial), problem.model(trial)):
        assert torch.allclose(model.gradient + model.slope, expected)


def test_curvature_of_a_linear_problem_is_the_hessian():
    prior = Affine()
    y = randn(5, 6)
    problem = pose(lambda x: x, y, prior, Gaussian(0.5))
    model = problem.model(problem.at(prior.sample(5, 0)))
    expected = prior.matrix.T @ prior.matrix / 0.25 + torch.eye(3, dtype=torch.float64)
    assert torch.allclose(model.curvature + model.bend, expected.expand(5, 3, 3))


def test_large_batches_are_differentiated_in_parts(monkeypatch):
    prior = Circle()
    y = simulated(prior, n=7)
    problem, point = posed(prior, y), prior.sample(7, 1)
    whole = problem.model(problem.at(point))
    monkeypatch.setattr("onmanifold.descent.problem._COLUMN_BUDGET", 4)
    parts = problem.model(problem.at(point))
    assert torch.allclose(parts.curvature, whole.curvature)
    assert torch.allclose(parts.gradient, whole.gradient)


# The step with the penalty as it is ---------------------------------------------------------------


class Kinked(Affine):
    """A density whose negative logarithm has kinks at +-0.5 in every coordinate."""

    def log_prob_chart(self, z, chart):
        return -5 * (z.abs() - 0.5).clamp(min=0).sum(1)


def kinked_problem(n=20, size=12, dim=8, **options):
    prior = Kinked(dim=dim, size=size, **options)
    problem = pose(lambda x: x, 3 * randn(n, size), prior, Gaussian(1.0))
    point = prior.sample(n, 0)
    return problem, point, problem.model(problem.at(point))


def composite_values(problem, point, model, v):
    moved = Point(point.chart, point.z + v)
    return model_decrease(model.curvature, model.gradient, v) + (
        problem.penalty(point) - problem.penalty(moved)
    )


@pytest.mark.parametrize("box", [math.inf, 0.8])
def test_a_step_across_kinks_is_nearly_the_best(box):
    problem, point, model = kinked_problem(box=box)
    v, eased = composite_step(problem, point, model, model.curvature)
    found = composite_values(problem, point, model, v)
    assert torch.allclose(found, model_decrease(model.curvature, model.gradient, v) + eased)
    # Against proximal gradient steps, many of them, exact for this penalty:
    low, high = problem.bounds(point)
    best, rate = torch.zeros_like(v), 1 / torch.linalg.eigvalsh(model.curvature)[:, -1:, None]
    for _ in range(20000):
        slope = model.gradient + (model.curvature @ best.unsqueeze(2)).squeeze(2)
        z = point.z + best - rate[:, :, 0] * slope
        excess = (z.abs() - 0.5).clamp(min=0)
        shrunk = z.sign() * (z.abs() - torch.minimum(excess, 5 * rate[:, :, 0]))
        best = (shrunk - point.z).clamp(low, high)
    ideal = composite_values(problem, point, model, best)
    assert (found <= ideal + 1e-9).all()
    assert (found >= 0.8 * ideal).all()
    assert (found / ideal).median() > 0.97
    assert ((low <= v) & (v <= high)).all()


def test_a_smooth_penalty_takes_one_round(monkeypatch):
    prior = Affine()
    problem = pose(lambda x: x, randn(5, 6), prior, Gaussian(0.5))
    point = prior.sample(5, 0)
    model = problem.model(problem.at(point))
    monkeypatch.setattr("onmanifold.descent.subproblem._ROUNDS", 1)
    v, _ = composite_step(problem, point, model, model.curvature)
    expected = torch.linalg.solve(model.curvature + model.bend, -(model.gradient + model.slope))
    assert torch.allclose(v, expected)


def test_kinks_do_not_hold_up_the_descent():
    problem, point, _ = kinked_problem()
    state = descend(problem, LevenbergMarquardt(), MaxSteps(12) | SmallDecrease(1e-9), point).state
    further = descend(
        problem, LevenbergMarquardt(), MaxSteps(60) | SmallDecrease(1e-9), state.point
    )
    assert torch.allclose(state.objective, further.state.objective, rtol=1e-4)
    on_kink = (further.state.point.z.abs() - 0.5).abs() < 1e-3
    assert on_kink.double().mean() > 0.1


# Methods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retraction", [None, ProjectionRetraction()], ids=["chart", "projection"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_the_objective_never_rises_and_ends_stationary(name, method, retraction):
    prior = ANALYTIC[name]()
    problem = posed(prior, simulated(prior), retraction=retraction)
    start = problem.at(prior.sample(5, 9))
    descent = descend(problem, method, MaxSteps(300) | SmallDecrease(1e-9), start.point)
    objective = descent.history.objective
    assert torch.equal(objective[0], start.objective)
    assert (objective.diff(dim=0) <= 0).all()
    assert (objective[-1] < objective[0]).all()
    assert (descent.state.gradient_norm <= 1e-2 * descent.history.gradient_norm[0]).all()


def test_a_linear_least_squares_problem_takes_a_few_steps():
    prior = Affine()
    matrix, y = randn(8, 6), randn(4, 8, seed=1)
    problem = pose(lambda x: x @ matrix.T, y, prior, Gaussian(0.3))
    descent = descend(problem, LevenbergMarquardt(), TIGHT, prior.sample(4, 0))
    forward = matrix @ prior.matrix
    normal = forward.T @ forward / 0.09 + torch.eye(3, dtype=torch.float64)
    right = (y - matrix @ prior.centre) @ forward / 0.09
    assert torch.allclose(descent.state.point.z, torch.linalg.solve(normal, right.T).T)
    assert descent.state.steps.max() <= 8
    assert (descent.status == Status.SMALL_GRADIENT).all()


def test_methods_agree_with_brute_force():
    prior = Sine()
    y = simulated(prior, n=8, std=0.1)
    problem = posed(prior, y, fidelity=Gaussian(0.1))
    grid = torch.linspace(-3, 3, 60001, dtype=torch.float64).unsqueeze(1)
    prediction = warp(prior.decode_chart(grid, 0))
    cost = (y.unsqueeze(1) - prediction).square().sum(2) / 0.02 + 0.5 * grid.square().T
    best = cost.min(dim=1)
    start = Point(torch.zeros(8, dtype=torch.long), grid[best.indices] + 0.1)
    for method in METHODS:
        ends = descend(problem, method, TIGHT, start).state
        assert torch.allclose(ends.objective, best.values, atol=1e-5)
        assert torch.allclose(ends.point.z, grid[best.indices], atol=2e-4)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_circle_is_gone_around_through_both_charts(method):
    prior = Circle()
    angle = torch.tensor([2.6, -2.6, 1.9, 3.0], dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=1)
    problem = pose(lambda x: x, y, prior, Gaussian(0.1))
    start = Point(torch.zeros(4, dtype=torch.long), 0.1 * angle.sign().unsqueeze(1))
    descent = descend(problem, method, TIGHT, start)
    assert descent.state.point.chart.tolist() == [1, 1, 1, 1]
    x = prior.decode(descent.state.point.z, descent.state.point.chart)
    assert torch.allclose(x, y, atol=1e-6)
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    assert (descent.history.chart[0] == 0).all()


class Torn(Circle):
    """The circle with charts that disagree by a little, and of which neither admits the other."""

    def decode_chart(self, z, chart):
        return (1 + 0.002 * chart) * super().decode_chart(z, chart)

    def responsibilities(self, x):
        return torch.full((len(x), 2), 0.5, dtype=x.dtype)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_charts_that_do_not_fit_exactly_are_crossed(method):
    prior = Torn()
    angle = torch.tensor([2.6, -2.9, 3.1], dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=1)
    problem = pose(lambda x: x, y, prior, Gaussian(0.05))
    start = Point(torch.zeros(3, dtype=torch.long), 0.5 * angle.sign().unsqueeze(1))
    descent = descend(problem, method, TIGHT, start)
    assert descent.state.point.chart.tolist() == [1, 1, 1]
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    x = prior.decode(descent.state.point.z, descent.state.point.chart)
    assert torch.allclose(x, y, atol=3e-3)


def test_refused_changes_of_chart_are_tried_ever_more_rarely():
    class Misfit(Circle):
        """A second chart that claims all and fits nowhere."""

        def decode_chart(self, z, chart):
            return (1 + 3 * chart) * super().decode_chart(z, chart)

        def responsibilities(self, x):
            return torch.tensor([0.0, 1.0], dtype=x.dtype).expand(len(x), 2)

    prior = Misfit()
    problem = pose(lambda x: x, randn(1, 2), prior, Gaussian(1.0))
    switched = []
    original = type(problem).after

    def spy(self, *arguments):
        trial = original(self, *arguments)
        switched.append(bool(trial.switched))
        return trial

    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 1.5).double())
    method = RiemannianGradientDescent(sufficient=0.9)  # slow, to see many steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(problem), "after", spy)
        descend(problem, method, MaxSteps(12), start)
    expected = [True, False, True, False, False, True] + [False] * 4 + [True, False]
    assert switched == expected[: len(switched)]
    assert len(switched) > 5


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_descent_ends_at_the_border_of_the_box(method):
    prior = Affine(dim=3, box=0.1)
    y = 5 * randn(6, 6)
    problem = pose(lambda x: x, y, prior, Gaussian(1.0))
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


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_an_attempted_step_is_one_linearization(method):
    operator, prior = Counted(), Circle()
    problem = pose(operator, 3 * randn(6, 2), prior, Gaussian(0.1))
    descent = descend(problem, method, MaxSteps(40) | GradientNorm(1e-6), prior.sample(6, 0))
    assert torch.equal(problem.counts.linearizations, descent.state.steps + 1)
    assert torch.equal(problem.counts.evaluations, descent.state.steps + 1)
    assert operator.points == int((descent.state.steps + 1).sum())
    assert descent.state.steps.unique().numel() > 1  # they did not all stop together


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_an_operator_that_breaks_down_somewhere_is_kept_away_from(method):
    """NaN beyond x > 1.5: the step is rejected, not the measurement."""

    def fragile(x):
        return torch.where(x > 1.5, torch.nan, x)

    prior = Sine()
    y = prior.decode_chart(torch.tensor([[1.4]]).double(), 0)
    problem = pose(fragile, y, prior, Gaussian(0.01), prior_weight=0)
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
    problem = pose(strict, y, prior, Gaussian(0.1))
    start = Point(torch.zeros(2, dtype=torch.long), torch.full((2, 1), 0.8).double())
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(50) | SmallDecrease(1e-9), start)
    assert (descent.state.point.z <= 1).all()
    assert (descent.history.objective.diff(dim=0) <= 0).all()


def test_a_wrong_derivative_stalls_and_says_so():
    class Wrong(Counted):
        def A_jvp(self, x, v):
            return -v

    prior = Circle()
    problem = pose(Wrong(), randn(2, 2), prior, Gaussian(0.1))
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(200), prior.sample(2, 0))
    assert (descent.status == Status.STALLED).all()


def test_not_finite_from_the_start_is_a_status():
    prior = Sine()
    y = prior.decode_chart(torch.full((2, 1), 1.2).double(), 0)
    problem = pose(lambda x: x / (x[:, :1] > 0), y, prior, Gaussian(0.1))
    start = Point(torch.zeros(2, dtype=torch.long), torch.tensor([[-1.0], [1.0]]).double())
    descent = descend(problem, LevenbergMarquardt(), TIGHT, start)
    assert descent.status.tolist()[0] == Status.NOT_FINITE
    assert descent.state.steps[0] == 0
    assert descent.status.tolist()[1] == Status.SMALL_GRADIENT


def test_not_finite_derivatives_are_a_status():
    class Sharp(Counted):
        def A_jvp(self, x, v):
            return v * torch.nan

    problem = pose(Sharp(), randn(2, 2), Circle(), Gaussian(0.1))
    descent = descend(problem, LevenbergMarquardt(), TIGHT, Circle().sample(2, 0))
    assert (descent.status == Status.NOT_FINITE).all()


# Loop ---------------------------------------------------------------------------------------------


def test_finished_members_stand_still():
    prior = Sphere()
    y = simulated(prior, n=12)
    problem = posed(prior, y)
    stop = MaxSteps(200) | GradientNorm(1e-3)
    start = prior.sample(12, 5)
    descent = descend(problem, RiemannianGradientDescent(), stop, start, keep_path=True)
    history, steps = descent.history, descent.state.steps
    assert steps.min() < steps.max() == len(history.objective) - 1
    for b, ended in enumerate(steps.tolist()):
        for name in ("objective", "gradient_norm", "chart"):
            rest = getattr(history, name)[ended:, b]
            assert (rest == rest[0]).all()
        assert (history.step_length[ended + 1 :, b] == 0).all()
        assert all(torch.equal(p.z[b], descent.path[ended].z[b]) for p in descent.path[ended:])
        alone = descend(
            problem.select(torch.tensor([b])),
            RiemannianGradientDescent(),
            stop,
            start.select(torch.tensor([b])),
        )
        assert alone.state.steps.item() == ended
        assert torch.allclose(alone.state.point.z[0], descent.state.point.z[b])


def test_masks_go_with_their_members():
    prior = Sphere()
    y = simulated(prior, n=6, std=0.0)
    mask = randn(6, 4) > -0.3
    spoilt = torch.where(mask, y, 1e6)
    stop = MaxSteps(100) | GradientNorm(1e-7)
    options = {"fidelity": Gaussian(0.05, mask), "prior_weight": 0}
    start = prior.sample(6, 5)
    clean = descend(posed(prior, y, **options), LevenbergMarquardt(), stop, start)
    other = descend(posed(prior, spoilt, **options), LevenbergMarquardt(), stop, start)
    assert torch.equal(clean.state.point.z, other.state.point.z)
    assert torch.equal(clean.history.objective, other.history.objective)


def test_callback_sees_every_step_and_can_stop():
    prior = Sphere()
    seen = []

    def callback(state):
        seen.append(state.objective)
        return len(seen) == 3

    descent = descend(
        posed(prior, simulated(prior)),
        RiemannianGradientDescent(),
        MaxSteps(50),
        prior.sample(5, 1),
        callback=callback,
    )
    assert (descent.status == Status.STOPPED_BY_CALLBACK).all()
    assert torch.equal(torch.stack(seen), descent.history.objective[1:])


def test_step_length_is_the_distance_gone():
    prior = Affine()
    problem = pose(lambda x: x, randn(3, 6), prior, Gaussian(1.0))
    stop = MaxSteps(3)
    descent = descend(problem, LevenbergMarquardt(), stop, prior.sample(3, 0), keep_path=True)
    x = torch.stack([prior.decode(p.z, p.chart) for p in descent.path])
    assert torch.allclose(x.diff(dim=0).norm(dim=2), descent.history.step_length[1:], atol=1e-9)


# Stopping rules -----------------------------------------------------------------------------------


def some_state(**changes):
    prior = Circle()
    problem = pose(lambda x: x, randn(2, 2), prior, Gaussian(0.5))
    return problem, replace(LevenbergMarquardt().init(problem, prior.sample(2, 0)), **changes)


def pair(a, b):
    return torch.tensor([a, b], dtype=torch.float64)


def test_rules_look_at_each_member():
    problem, state = some_state(gradient_norm=pair(1e-9, 1.0), steps=torch.tensor([4, 5]))
    assert GradientNorm(1e-6)(problem, state).tolist() == [Status.SMALL_GRADIENT, 0]
    assert MaxSteps(5)(problem, state).tolist() == [0, Status.MAX_STEPS]


def test_small_decrease_looks_at_what_was_gained_and_what_is_promised():
    far = pair(math.inf, math.inf)
    problem, state = some_state(objective=pair(10.0, -10.0), decrease=far, promise=far)
    rule = SmallDecrease(1e-3)
    assert rule(problem, state).tolist() == [0, 0]
    assert rule(problem, replace(state, decrease=pair(0.009, 0.011))).tolist() == [2, 0]
    assert rule(problem, replace(state, promise=pair(0.011, 0.009))).tolist() == [0, 2]


def test_discrepancy_compares_with_the_noise():
    problem, state = some_state(misfit=pair(0.9, 1.1))  # two entries: one is expected
    assert Discrepancy()(problem, state).tolist() == [Status.DISCREPANCY, 0]
    assert Discrepancy(1.1)(problem, state).tolist() == [Status.DISCREPANCY] * 2
    assert Discrepancy(0.9)(problem, state).tolist() == [0, 0]


def test_rules_combine():
    problem, state = some_state(
        gradient_norm=pair(1e-9, 1.0), steps=torch.tensor([5, 5]), misfit=pair(9.0, 0.1)
    )
    gradient, steps, discrepancy = GradientNorm(1e-6), MaxSteps(5), Discrepancy()
    told = [Status.SMALL_GRADIENT, Status.MAX_STEPS]  # convergence is the reason worth telling
    assert (gradient | steps)(problem, state).tolist() == told
    assert (steps | gradient)(problem, state).tolist() == told
    assert (steps & gradient)(problem, state).tolist() == [Status.SMALL_GRADIENT, 0]
    assert (gradient & discrepancy)(problem, state).tolist() == [0, 0]
    assert (gradient & steps | discrepancy)(problem, state).tolist() == [1, 3]


def test_a_rule_of_ones_own():
    class Patience(StoppingRule):
        def __call__(self, problem, state):
            return torch.where(state.steps >= 2, int(Status.MAX_STEPS), 0)

    prior = Sphere()
    problem = posed(prior, simulated(prior))
    start = prior.sample(5, 1)
    descent = descend(problem, RiemannianGradientDescent(), Patience() | GradientNorm(1e-9), start)
    assert descent.state.steps.max() == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MaxSteps(0), ValueError, "MaxSteps: steps has to be at least 1, got 0"),
        (lambda: MaxSteps(2.5), TypeError, "MaxSteps: steps has to be an int"),
        (lambda: GradientNorm(-1), ValueError, "GradientNorm: tol has to be above 0"),
        (lambda: SmallDecrease(2.0), ValueError, "SmallDecrease: rtol .* below 1"),
        (lambda: Discrepancy(math.nan), ValueError, "Discrepancy: tau"),
        (lambda: LevenbergMarquardt(damping="1"), TypeError, "LevenbergMarquardt: damping"),
        (lambda: LevenbergMarquardt(damping=0), ValueError, "LevenbergMarquardt: damping"),
        (lambda: RiemannianGradientDescent(shrink=1), ValueError, "Descent: shrink"),
    ],
)
def test_bad_options_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Visits to neighbouring charts --------------------------------------------------------------------


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
    problem = pose(lambda x: x, torch.tensor([target]).double(), Flared(), Gaussian(), 0.0)
    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), angle).double())
    return descend(problem, method, MaxSteps(100) | SmallDecrease(1e-9), start, keep_path=True)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_chart_that_sticks_out_holds_nobody_up(method):
    descent = from_the_right([-2.0, 1.5], method)  # the change of chart costs 0.2, then gains
    end, prior = descent.state.point, Flared()
    expected = torch.tensor([[-0.8, 0.6]]).double()
    assert torch.allclose(prior.decode(end.z, end.chart), expected, atol=1e-3)
    assert end.chart.item() == 1 and descent.status.item() == Status.SMALL_DECREASE
    assert (descent.history.objective.diff(dim=0) <= 0).all()
    assert len(descent.path) == descent.history.objective.shape[0]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_visit_that_leads_nowhere_ends_where_it_began(method):
    descent = from_the_right([3 * math.cos(2), 3 * math.sin(2)], method)
    assert descent.state.point.chart.item() == 0
    assert descent.state.point.z.item() == pytest.approx(2.0)
    assert descent.status.item() in (Status.SMALL_DECREASE, Status.SMALL_GRADIENT)
    assert descent.state.objective.item() == pytest.approx(0.5 * 1.8**2)


def test_a_rejected_step_is_shortened_by_what_it_found():
    """On a circle seen from far the undamped step is too long by a factor of ten."""
    prior = Circle()
    problem = pose(lambda x: x, torch.tensor([[20.0, 0.0]]).double(), prior, Gaussian(), 0.0)
    start = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 0.3).double())
    descent = descend(problem, LevenbergMarquardt(), MaxSteps(40) | GradientNorm(1e-6), start)
    assert descent.status.item() == Status.SMALL_GRADIENT
    assert descent.history.step_length[1:4].max() > 0  # not after a series of doublings only
    assert descent.state.steps.item() <= 15


@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_transport_projects_onto_the_tangent_space_there(name):
    prior = ANALYTIC[name]()
    before, after = prior.sample(5, 0), prior.sample(5, 1)
    after = Point(before.chart, after.z)
    problem = pose(lambda x: x, prior.decode(before.z, before.chart), prior)
    there, here = (jacobian(prior, point).flatten(2) for point in (after, before))
    v = randn(5, prior.dim)
    carry = problem.transport(before, after, pullback_metric(jacobian(prior, after)))
    moved = (carry @ v[:, :, None]).squeeze(2)
    pushed, kept = ((w[:, None] @ columns).squeeze(1) for w, columns in ((v, here), (moved, there)))
    left = (there @ (pushed - kept)[:, :, None]).squeeze(2)  # normal to what is tangent there
    assert left.abs().max() < 1e-8 * pushed.norm(dim=1).max()
    same = problem.transport(before, before, pullback_metric(jacobian(prior, before)))
    torch.testing.assert_close(same, torch.eye(prior.dim).to(same).expand_as(same))


def test_curvature_along_is_that_of_the_model():
    prior = Sphere()
    point = prior.sample(4, 0)
    problem = pose(lambda x: x**3, randn(4, *prior.x_shape), prior)
    trial = problem.at(point)
    v, model = randn(4, prior.dim), problem.model(trial)
    exact = ((model.curvature @ v[:, :, None]).squeeze(2) * v).sum(1)
    torch.testing.assert_close(problem.curvature_along(trial, v), exact)


def test_lbfgs_learns_the_curvature_of_a_quadratic():
    """On a flat manifold, where transport is the identity: as many steps as in Euclidean space."""
    prior = Affine()
    matrix = torch.diag(torch.logspace(0, 2, prior.x_shape[0], dtype=torch.float64))
    truth = prior.sample(3, 0)
    y = prior.decode(truth.z, truth.chart) @ matrix
    steps = {}
    for method in (LBFGS(), RiemannianGradientDescent()):
        problem = pose(lambda x: x @ matrix, y, prior)
        steps[type(method)] = descend(problem, method, TIGHT, prior.sample(3, 5)).state.steps
    assert (steps[LBFGS] < steps[RiemannianGradientDescent]).all()
