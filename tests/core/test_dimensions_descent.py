"""Descents through a curve, a surface and a point."""

import pytest
import torch
from analytic_priors import Analytic, Sheets, Union
from descent_cases import METHODS
from dimension_cases import of_each_chart, unused, warp
from hypothesis import given, settings
from hypothesis import strategies as st

from onmanifold import (
    AveragedRetraction,
    ByLCurve,
    ChartRetraction,
    FunctionFidelity,
    Gaussian,
    LatentAdam,
    MaxSteps,
    Point,
    ProjectionRetraction,
    SmallDecrease,
    relax,
    simulate,
    solve,
)
from onmanifold.descent import build_problem
from onmanifold.operator import Autodiff, PointwiseLinearization, as_operator

DOUBLE = torch.float64
RETRACTIONS = [ChartRetraction(), ProjectionRetraction(), AveragedRetraction()]
# Every method with one retraction, every retraction with one method.
WAYS = [(method, RETRACTIONS[0]) for method in (*METHODS, LatentAdam())]
WAYS += [(METHODS[0], retraction) for retraction in RETRACTIONS[1:]]
NAMES = [f"{type(method).__name__}-{type(retraction).__name__}" for method, retraction in WAYS]


class Apart(Union):
    """The three far from each other, and wide, so that no descent changes charts."""

    box = 8.0

    def decode_chart(self, z, chart):
        return super().decode_chart(z, chart) + 3.0 * chart

    def encode_chart(self, x, chart):
        return super().encode_chart(x - 3.0 * chart, chart)


class Alone(Analytic):
    """One chart of these as an atlas of its own."""

    x_shape, num_charts, box = (3,), 1, Apart.box

    def __init__(self, chart):
        super().__init__()
        self.whole, self.chart, self.dim = Apart(), chart, Apart.chart_dims[chart]

    def decode_chart(self, z, chart):
        return self.whole.decode_chart(z, self.chart)

    def encode_chart(self, x, chart):
        return self.whole.encode_chart(x, self.chart)

    def log_prob_chart(self, z, chart):
        return self.whole.log_prob_chart(z, self.chart)


@pytest.mark.parametrize(("method", "retraction"), WAYS, ids=NAMES)
def test_truths_in_every_chart_are_found_in_one_batch(method, retraction):
    prior = Union()
    truth = of_each_chart(prior, each=2)
    x = prior.decode(truth)
    solution = solve(
        warp,
        warp(x),
        prior,
        fidelity=Gaussian(0.01),
        starts=4,
        method=method,
        retraction=retraction,
        stop=MaxSteps(200) | SmallDecrease(1e-9),
        trajectory=True,
    )
    assert (solution.x - x).norm(dim=1).max() < 1e-3
    assert set(solution.chart.tolist()) == {0, 1, 2}
    assert not unused(prior, solution).any()


@pytest.mark.filterwarnings("ignore::onmanifold.solution.InconsistentWarning")
@pytest.mark.parametrize(("method", "retraction"), WAYS, ids=NAMES)
def test_a_chart_is_descended_as_if_it_were_alone(method, retraction):
    prior = Apart()
    start, truth = (of_each_chart(prior, 3, seed) for seed in (1, 2))
    y = warp(prior.decode(truth))
    options = {"fidelity": Gaussian(0.5), "method": method, "retraction": retraction}
    options |= {"stop": MaxSteps(6), "trajectory": True}
    together = solve(warp, y, prior, starts=start, **options)
    assert not unused(prior, together).any()
    for chart, d in ((0, 1), (1, 2)):
        rows = start.chart == chart
        own = Point(torch.zeros(3, dtype=torch.long), start.z[rows, :d])
        single = solve(warp, y[rows], Alone(chart), starts=own, **options)
        z = together.history.z[:, rows, :d]
        steps = len(single.history.z)  # it may be over before those of the other charts
        torch.testing.assert_close(z[:steps], single.history.z, atol=1e-8, rtol=0)
        torch.testing.assert_close(together.objective[rows], single.objective)
        assert (z[-1] - z[0]).abs().max() > 1e-3


@given(st.lists(st.integers(0, 2), min_size=1, max_size=3), st.integers(0, 99))
@settings(max_examples=6, deadline=None)
def test_a_mixed_batch_is_its_members_one_by_one(charts, seed):
    prior = Union()
    every = of_each_chart(prior, 5, seed)
    start = every.select(torch.tensor([5 * k + i for i, k in enumerate(charts)]))
    source = torch.Generator().manual_seed(seed)
    truth = prior.sample(len(charts), seed)
    x = prior.decode(truth)
    y = warp(x + 0.1 * torch.randn(x.shape, generator=source, dtype=DOUBLE))
    options = {"fidelity": Gaussian(0.1), "stop": MaxSteps(30) | SmallDecrease(1e-8)}
    together = solve(warp, y, prior, starts=start, **options)
    for i in range(len(charts)):
        row = torch.tensor([i])
        one = solve(warp, y[row], prior, starts=start.select(row), **options)
        assert one.chart[0] == together.chart[i] and one.status[0] == together.status[i]
        torch.testing.assert_close(one.z[0], together.z[i], atol=1e-7, rtol=0)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_way_leads_over_the_border_of_the_surface_into_the_curve(method):
    prior = Union()
    start = Point(torch.tensor([1]), torch.tensor([[0.3, -0.5]], dtype=DOUBLE))
    y = prior.decode_chart(torch.tensor([[0.8]], dtype=DOUBLE), 0)
    solution = solve(lambda x: x, y, prior, starts=start, method=method, trajectory=True)
    assert solution.chart.tolist() == [0]
    assert abs(float(solution.z[0, 0]) - 0.8) < 1e-3 and not unused(prior, solution).any()


class Counting(Autodiff):
    """The identity, which keeps book of how many tangents it was given of how many points."""

    x_shape, y_shape, linear = (3,), (3,), True

    def __init__(self):
        self.asked = []

    def A(self, x):
        return x

    def linearize(self, x):
        return Line(self, x, x)


class Line(PointwiseLinearization):
    def jvp(self, v):
        self.operator.asked.append(tuple(v.shape[:2]))
        return super().jvp(v)

    def select(self, rows):
        return Line(self.operator, self.x[rows], self.y[rows])


def test_small_charts_take_few_tangents():
    prior, operator = Union(), Counting()
    point = of_each_chart(prior, each=2)
    order = torch.tensor([3, 0, 5, 2, 4, 1])
    mixed = point.select(order)
    problem = build_problem(operator, prior.decode(mixed) + 0.1, prior, Gaussian(0.1))
    model = problem.quadratic_model(problem.at(mixed))
    assert sorted(operator.asked) == [(2, 1), (2, 1), (2, 2)]
    for i in range(6):
        row = torch.tensor([i])
        one = problem.select(row)
        alone = one.quadratic_model(one.at(mixed.select(row)))
        for name in ("gradient", "hessian", "metric", "misfit_gradient", "penalty_hessian"):
            torch.testing.assert_close(getattr(model, name)[row], getattr(alone, name))


def test_fidelities_without_a_sign_of_curvature():
    prior = Union()
    truth = of_each_chart(prior)
    x = prior.decode(truth)

    def rough(prediction, measurement):  # not convex
        off = (prediction - measurement).square()
        return (off / (0.1 + off)).sum(1)

    solution = solve(warp, warp(x), prior, fidelity=FunctionFidelity(rough), prior_weight=0.0)
    assert (solution.x - x).norm(dim=1).max() < 1e-2
    assert not solution.z[~prior.active(solution.chart)].any()


def test_rules_for_the_weight_and_solutions_off_the_manifold():
    prior = Sheets((1, 2, 0), (0.3, 0.5, 0.2))
    truth = of_each_chart(prior)
    x = prior.decode(truth)
    y = simulate(as_operator(lambda x: x, (5,), dtype=DOUBLE), x, 0.1, 1)
    solution = solve(lambda x: x, y, prior, fidelity=Gaussian(0.1), prior_weight=ByLCurve(count=3))
    assert torch.isfinite(solution.objective).all()
    relaxed = relax(solve(lambda x: x, y, prior, fidelity=Gaussian(0.1)), std=0.05)
    assert not relaxed.point.z[~prior.active(relaxed.point.chart)].any()


def test_starts_in_a_chart_that_is_not_there():
    start = Point(torch.tensor([3]), torch.zeros(1, 2, dtype=DOUBLE))
    with pytest.raises(ValueError, match=r"charts are numbered 0 to 2, got \[3\]"):
        solve(lambda x: x, torch.ones(1, 3, dtype=DOUBLE), Union(), starts=start)


def test_starts_are_brought_into_their_charts():
    prior = Union()
    point = of_each_chart(prior, each=1)
    astray = Point(point.chart, torch.where(prior.active(point.chart), point.z, 0.5))
    y = prior.decode(point)
    solution = solve(lambda x: x, y, prior, starts=astray, trajectory=True)
    assert not unused(prior, solution).any()
