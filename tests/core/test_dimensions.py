"""Charts of different dimension in one atlas: a curve, a surface and a point."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from analytic_priors import Analytic, Sheets, Union
from descent_cases import METHODS
from hypothesis import given, settings
from hypothesis import strategies as st
from posterior_cases import by_hand, linear

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
    Solution,
    relax,
    simulate,
    solve,
    storage,
)
from onmanifold.descent import pose
from onmanifold.geometry import (
    clamp_to_box,
    decode_with_jacobian,
    filled,
    half_widths,
    log_prob_derivatives,
    log_prob_gradient,
    neighbour,
    on_border,
    pullback_metric,
    transition,
    transport,
)
from onmanifold.operator import Autodiff, PointwiseLinearization, as_operator
from onmanifold.posterior import laplace, sample_posterior
from onmanifold.prior import widened
from onmanifold.priors.background import WithBackground
from onmanifold.priors.nuisance import WithNuisance
from onmanifold.testing import LawViolation, check_prior

DOUBLE = torch.float64
STOP = MaxSteps(100) | SmallDecrease(1e-10)
RETRACTIONS = [ChartRetraction(), ProjectionRetraction(), AveragedRetraction()]
# Every method with one retraction, every retraction with one method.
WAYS = [(method, RETRACTIONS[0]) for method in (*METHODS, LatentAdam())]
WAYS += [(METHODS[0], retraction) for retraction in RETRACTIONS[1:]]
NAMES = [f"{type(method).__name__}-{type(retraction).__name__}" for method, retraction in WAYS]


def bend(x):
    """A nonlinear operator."""
    return torch.cat([x + 0.2 * x.square(), x.sum(1, keepdim=True).sin()], dim=1)


def of_each_chart(prior, each=4, seed=0):
    """So many points of each chart, well inside its box, one chart after the other."""
    source = torch.Generator().manual_seed(seed)
    chart = torch.arange(prior.num_charts).repeat_interleave(each)
    z = 1.4 * torch.rand(len(chart), prior.dim, generator=source, dtype=DOUBLE) - 0.7
    return Point(chart, (z * prior.used(chart)).to(prior.dtype))


def unused(prior, solution):
    """Coordinates that the charts do not have, of every end and every step."""
    ends = solution.ends.z[~prior.used(solution.ends.chart)]
    path = solution.history.z[~prior.used(solution.history.chart)]
    return torch.cat([ends, path, solution.z[~prior.used(solution.chart)]])


class Apart(Union):
    """The same far from each other, and wide, so that no descent changes charts."""

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


# The prior ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_laws_hold(dtype):
    assert "encode: (B, 0), finite, chart 2" in str(check_prior(Union(dtype)))


def test_dimensions_are_those_of_the_prior_unless_it_says_else():
    class Plain(Alone):
        num_charts = 3

    assert Plain(1).chart_dims == (2, 2, 2)
    assert Union().chart_dims == (1, 2, 0)
    assert Plain(1).used(torch.tensor([0, 2])).all()


def test_which_coordinates_a_chart_has():
    used = Union().used(torch.tensor([[2, 0], [1, 1]]))
    assert used.tolist() == [[[False, False], [True, False]], [[True, True], [True, True]]]


def test_zeros_are_appended_along_each_axis():
    assert widened(torch.ones(2, 1, 3), 2).shape == (2, 2, 3)
    wide = widened(torch.ones(2, 1, 1), 2, 3)
    assert wide.shape == (2, 2, 3) and wide.sum() == 2 and (wide[:, 0, 0] == 1).all()
    same = torch.ones(2, 3)
    assert widened(same, 3) is same


def test_charts_see_their_own_coordinates_and_nothing_else():
    prior = Union()
    point = of_each_chart(prior)
    x = prior.decode(point.z, point.chart)
    for k, d in enumerate(prior.chart_dims):
        rows = point.chart == k
        assert torch.equal(x[rows], prior.decode_chart(point.z[rows, :d], k))
    astray = torch.where(prior.used(point.chart), point.z, 7.0)
    assert torch.equal(prior.decode(astray, point.chart), x)
    assert torch.equal(prior.log_prob(astray, point.chart), prior.log_prob(point.z, point.chart))
    torch.testing.assert_close(prior.encode(x, point.chart), point.z)
    found = prior.locate(x)
    torch.testing.assert_close(prior.decode(found.z, found.chart), x)
    assert not found.z[~prior.used(found.chart)].any()


class TooMany(Union):
    chart_dims = (1, 2)


class TooLarge(Union):
    chart_dims = (1, 3, 0)


class Stray(Union):
    def sample(self, n, generator=None):
        point = super().sample(n, generator)
        return Point(point.chart, point.z + 0.1)


class Wide(Union):
    def encode_chart(self, x, chart):
        return x[:, :2]


@pytest.mark.parametrize(
    ("prior", "law"),
    [
        (TooMany(), "chart_dims: K numbers"),
        (TooLarge(), "chart_dims: K numbers"),
        (Stray(), "sample: 0 in coordinates that a chart does not have"),
        (Wide(), "encode: \\(B, 1\\), finite, chart 0"),
    ],
)
def test_broken_laws_are_told(prior, law):
    with pytest.raises(LawViolation, match=law):
        check_prior(prior)


# Geometry -----------------------------------------------------------------------------------------


def test_derivatives_are_zero_along_what_a_chart_does_not_have():
    prior = Sheets((1, 2, 0), (0.3, 0.5, 0.2))
    point = of_each_chart(prior)
    x, columns = decode_with_jacobian(prior, point)
    assert torch.equal(x, prior.decode(point.z, point.chart))
    gradient, hessian = log_prob_derivatives(prior, point)
    assert torch.equal(gradient, log_prob_gradient(prior, point))
    for k, d in enumerate(prior.chart_dims):
        rows = point.chart == k
        torch.testing.assert_close(
            columns[rows, :d], prior.sheets[k].matrix.T.expand(int(rows.sum()), -1, -1)
        )
        assert not columns[rows, d:].any()
        assert torch.equal(gradient[rows, :d], -point.z[rows, :d])
        assert not gradient[rows, d:].any() and not hessian[rows, d:].any()
        assert torch.equal(-hessian[rows, :d, :d], torch.eye(d).to(x).expand(4, d, d))


def test_the_metric_stays_regular_and_well_scaled():
    prior = Union()
    point = of_each_chart(prior)
    _, columns = decode_with_jacobian(prior, point)
    small = 1e-4 * columns
    metric = pullback_metric(small, prior.used(point.chart))
    assert (torch.linalg.cond(metric) < 10).all()
    curve, bare = metric[:4], pullback_metric(small)[:4]
    assert torch.equal(curve[:, 0, 0], bare[:, 0, 0]) and not curve[:, 0, 1].any()
    assert torch.equal(curve[:, 1, 1], curve[:, 0, 0])
    assert torch.equal(metric[8:], torch.eye(2).to(metric).expand(4, 2, 2))
    part = pullback_metric(small[:4, :1], prior.used(point.chart[:4]))
    torch.testing.assert_close(part, curve)
    one = filled(bare, prior.used(point.chart[:4]), size=1.0)
    assert (one[:, 1, 1] == 1).all()


def test_tangents_are_carried_between_charts_of_different_dimension():
    prior = Union()
    curve = Point(torch.tensor([0]), torch.tensor([[-0.4, 0.0]], dtype=DOUBLE))
    surface = Point(torch.tensor([1]), torch.tensor([[0.6, 0.0]], dtype=DOUBLE))
    here, there = (decode_with_jacobian(prior, p)[1] for p in (curve, surface))
    along = torch.tensor([[0.7, 0.0]], dtype=DOUBLE)
    for metric, columns, before in (
        (pullback_metric(there), there, here),
        (pullback_metric(here, prior.used(curve.chart)), here, there),
    ):
        carried = (transport(metric, columns, before) @ along[:, :, None]).squeeze(2)
        torch.testing.assert_close(carried, along)
    across = torch.tensor([[0.0, 0.7]], dtype=DOUBLE)  # which the curve does not have
    carry = transport(pullback_metric(here, prior.used(curve.chart)), here, there)
    assert (carry @ across[:, :, None]).abs().max() < 1e-12


def test_boxes_of_charts():
    prior = Union()
    chart = torch.tensor([0, 1, 2])
    z = torch.full((3, 2), 3.0, dtype=DOUBLE)
    expected = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    assert torch.equal(clamp_to_box(prior, Point(chart, z)).z, expected)
    border = on_border(prior, Point(chart, expected))
    assert border.tolist() == [[True, False], [True, True], [False, False]]
    prior.box = torch.tensor([[0.5, 9.0], [2.0, 0.3], [9.0, 9.0]])
    own = torch.tensor([[0.5, 0.0], [2.0, 0.3], [0.0, 0.0]])
    assert torch.equal(half_widths(prior, chart, torch.zeros(1)), own)


def test_points_go_over_from_the_surface_to_the_curve_and_stay_in_their_coordinates():
    prior = Union()
    edge = Point(torch.tensor([1, 2]), torch.tensor([[1.0, 0.01], [0.0, 0.0]], dtype=DOUBLE))
    x = prior.decode(edge.z, edge.chart)
    moved, switched = transition(prior, edge, x)
    assert switched.tolist() == [True, False] and moved.chart.tolist() == [0, 2]
    assert not moved.z[0, 1] and moved.z[0, 0].abs() < 1e-9
    seen = torch.nn.functional.one_hot(edge.chart, 3).bool()
    there, found = neighbour(prior, edge, seen)
    assert found.tolist() == [True, False] and there.chart.tolist() == [0, 2]
    assert torch.equal(there.z, moved.z)


@pytest.mark.parametrize("retract", RETRACTIONS, ids=repr)
def test_retractions_move_along_what_a_chart_has(retract):
    prior = Union()
    point = of_each_chart(prior)
    v = torch.full_like(point.z, 0.05)
    moved = retract(prior, point, v)
    assert torch.equal(moved.chart, point.chart)
    assert not moved.z[~prior.used(point.chart)].any()
    gone = (moved.z - point.z)[prior.used(point.chart)]
    assert ((gone - 0.05).abs() < 0.02).all()


# Descent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "retraction"), WAYS, ids=NAMES)
def test_truths_in_every_chart_are_found_in_one_batch(method, retraction):
    prior = Union()
    truth = of_each_chart(prior, each=2)
    x = prior.decode(truth.z, truth.chart)
    solution = solve(
        bend,
        bend(x),
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


@pytest.mark.filterwarnings("ignore::onmanifold.solution.NotExplained")
@pytest.mark.parametrize(("method", "retraction"), WAYS, ids=NAMES)
def test_a_chart_is_descended_as_if_it_were_alone(method, retraction):
    prior = Apart()
    start, truth = (of_each_chart(prior, 3, seed) for seed in (1, 2))
    y = bend(prior.decode(truth.z, truth.chart))
    options = {"fidelity": Gaussian(0.5), "method": method, "retraction": retraction}
    options |= {"stop": MaxSteps(6), "trajectory": True}
    together = solve(bend, y, prior, starts=start, **options)
    assert not unused(prior, together).any()
    for chart, d in ((0, 1), (1, 2)):
        rows = start.chart == chart
        own = Point(torch.zeros(3, dtype=torch.long), start.z[rows, :d])
        single = solve(bend, y[rows], Alone(chart), starts=own, **options)
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
    x = prior.decode(truth.z, truth.chart)
    y = bend(x + 0.1 * torch.randn(x.shape, generator=source, dtype=DOUBLE))
    options = {"fidelity": Gaussian(0.1), "stop": MaxSteps(30) | SmallDecrease(1e-8)}
    together = solve(bend, y, prior, starts=start, **options)
    for i in range(len(charts)):
        row = torch.tensor([i])
        one = solve(bend, y[row], prior, starts=start.select(row), **options)
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
    problem = pose(operator, prior.decode(mixed.z, mixed.chart) + 0.1, prior, Gaussian(0.1))
    model = problem.model(problem.at(mixed))
    assert sorted(operator.asked) == [(2, 1), (2, 1), (2, 2)]
    for i in range(6):
        row = torch.tensor([i])
        one = problem.select(row)
        alone = one.model(one.at(mixed.select(row)))
        for name in ("gradient", "curvature", "metric", "slope", "bend"):
            torch.testing.assert_close(getattr(model, name)[row], getattr(alone, name))


def test_fidelities_without_a_sign_of_curvature():
    prior = Union()
    truth = of_each_chart(prior)
    x = prior.decode(truth.z, truth.chart)

    def rough(prediction, measurement):  # not convex
        off = (prediction - measurement).square()
        return (off / (0.1 + off)).sum(1)

    solution = solve(bend, bend(x), prior, fidelity=FunctionFidelity(rough), prior_weight=0.0)
    assert (solution.x - x).norm(dim=1).max() < 1e-2
    assert not solution.z[~prior.used(solution.chart)].any()


def test_rules_for_the_weight_and_solutions_off_the_manifold():
    prior = Sheets((1, 2, 0), (0.3, 0.5, 0.2))
    truth = of_each_chart(prior)
    x = prior.decode(truth.z, truth.chart)
    y = simulate(as_operator(lambda x: x, (5,), dtype=DOUBLE), x, 0.1, 1)
    solution = solve(lambda x: x, y, prior, fidelity=Gaussian(0.1), prior_weight=ByLCurve(count=3))
    assert torch.isfinite(solution.objective).all()
    relaxed = relax(solve(lambda x: x, y, prior, fidelity=Gaussian(0.1)), std=0.05)
    assert not relaxed.point.z[~prior.used(relaxed.point.chart)].any()


def test_starts_are_brought_into_their_charts():
    prior = Union()
    point = of_each_chart(prior, each=1)
    astray = Point(point.chart, torch.where(prior.used(point.chart), point.z, 0.5))
    y = prior.decode(point.z, point.chart)
    solution = solve(lambda x: x, y, prior, starts=astray, trajectory=True)
    assert not unused(prior, solution).any()


# Posterior ----------------------------------------------------------------------------------------


def test_laplace_is_exact_where_everything_is_linear_and_normal():
    prior = Sheets((1, 3, 0), (0.3, 0.5, 0.2))
    matrix, operator = linear(prior)
    truth = of_each_chart(prior, each=2)
    y = simulate(operator, prior.decode(truth.z, truth.chart), 2.0, 2)
    found = laplace(solve(operator, y, prior, fidelity=Gaussian(2.0), stop=STOP))
    parts = [by_hand(matrix, sheet, y, 2.0) for sheet in prior.sheets]
    shares = torch.tensor(prior.shares, dtype=DOUBLE).log()
    evidence = torch.stack([part[2] for part in parts], dim=1) + shares
    torch.testing.assert_close(found.log_evidence, evidence, atol=1e-6, rtol=0)
    for b, m in itertools.product(range(6), range(3)):
        k = int(found.chart[b, m])
        d, (mean, covariance, _) = prior.chart_dims[k], parts[k]
        torch.testing.assert_close(found.mean[b, m, :d], mean[b], atol=1e-6, rtol=0)
        torch.testing.assert_close(found.covariance[b, m, :d, :d], covariance, atol=1e-6, rtol=0)
        assert not found.mean[b, m, d:].any() and not found.covariance[b, m, d:].any()
    share = evidence.softmax(1)
    sheets = list(zip(prior.sheets, parts, strict=True))
    means = torch.stack([s.decode_chart(p[0], 0) for s, p in sheets], dim=1)
    within = torch.stack([(s.matrix @ p[1] @ s.matrix.T).diagonal() for s, p in sheets])
    mean = (share.unsqueeze(2) * means).sum(1, keepdim=True)
    variance = (share.unsqueeze(2) * (within + (means - mean).square())).sum(1)
    torch.testing.assert_close(found.std(), variance.sqrt(), atol=1e-6, rtol=0)
    drawn = found.sample(500, 0)
    assert not drawn.z[~prior.used(drawn.chart)].any()


def integrated(operator, prior, y, std, cells=800):
    """Logarithms of the evidences of the charts of :class:`Union`, by midpoints of even cells."""
    edges = torch.linspace(-1, 1, cells + 1, dtype=DOUBLE)
    middle = 0.5 * (edges[1:] + edges[:-1])
    grids = [middle[:, None], torch.cartesian_prod(middle, middle), middle.new_zeros(1, 0)]
    logs = []
    for k, z in enumerate(grids):
        off = operator(prior.decode_chart(z, k)) - y
        log = prior.log_prob_chart(z, k) - 0.5 * off.square().sum(1) / std**2
        logs.append(log.logsumexp(0) + z.shape[1] * math.log(2 / cells))
    return torch.stack(logs)


def test_evidence_of_charts_of_different_dimension_against_integration():
    prior, std = Union(), 0.05
    z = torch.tensor([[-0.5, 0.2], [0.4, 0.4]], dtype=DOUBLE)
    y = bend(prior.decode(z * prior.used(torch.tensor([0, 1])), torch.tensor([0, 1])))
    found = laplace(solve(bend, y, prior, fidelity=Gaussian(std), stop=STOP))
    for b in range(2):
        exact = integrated(bend, prior, y[b], std)
        near = exact > exact.max() - 20  # of charts that count Laplace's law is a good one
        torch.testing.assert_close(found.log_evidence[b, near], exact[near], atol=0.02, rtol=0)
        assert int(near.sum()) >= 1
    assert found.log_evidence[0, :2].isfinite().all()  # curve and surface share the first


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_the_sampler_visits_every_chart_as_often_as_integration_says():
    prior, std = Union(), 0.4
    y = torch.tensor([[0.6, 0.1, 1.0], [0.3, 0.0, 1.2]], dtype=DOUBLE)
    solution = solve(lambda x: x, y, prior, fidelity=Gaussian(std), stop=STOP)
    samples = sample_posterior(solution, draws=300, chains=16, warmup=60, seed=1)
    for b in range(2):
        exact = integrated(lambda x: x, prior, y[b], std, cells=200).softmax(0)
        assert (exact > 0.05).all()
        torch.testing.assert_close(samples.chart_shares[b], exact, atol=0.03, rtol=0)
    assert not samples.z[~prior.used(samples.chart)].any()
    assert samples.rhat.max() < 1.05


def test_the_sampler_is_exact_within_each_chart():
    prior, std = Sheets((1, 3, 0), (0.4, 0.4, 0.2)), 2.0
    matrix, operator = linear(prior)
    truth = of_each_chart(prior, each=1)
    y = simulate(operator, prior.decode(truth.z, truth.chart), std, 4)[:1]
    solution = solve(operator, y, prior, fidelity=Gaussian(std), stop=STOP)
    samples = sample_posterior(solution, draws=300, chains=16, warmup=60, seed=1)
    parts = [by_hand(matrix, sheet, y, std) for sheet in prior.sheets]
    evidence = torch.cat([part[2] for part in parts]) + torch.tensor(prior.shares).log()
    torch.testing.assert_close(samples.chart_shares[0], evidence.softmax(0), atol=0.03, rtol=0)
    for k, d in enumerate(prior.chart_dims[:2]):
        z = samples.z[samples.chart == k][:, :d]
        mean, covariance, _ = parts[k]
        deviation = covariance.diagonal().sqrt()
        assert ((z.mean(0) - mean[0]).abs() < 0.15 * deviation).all()
        torch.testing.assert_close(z.std(0), deviation, rtol=0.1, atol=0)


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_intervals_are_of_coordinates_that_a_chart_has():
    prior = Union()
    y = torch.tensor([[0.5, 0.2, 0.9]], dtype=DOUBLE)
    solution = solve(lambda x: x, y, prior, fidelity=Gaussian(0.7), stop=STOP)
    found = laplace(solution)
    results = found, sample_posterior(solution, 30, 16, 5, approximation=found)
    for result in results:
        low, high = result.latent_interval()
        known = prior.used(torch.arange(3)).unsqueeze(0)
        assert torch.equal(low.isfinite(), known) and torch.equal(high.isfinite(), known)
        assert (low < high)[known].all()
        assert all(end.isfinite().all() for end in result.interval())


# What else knows points ---------------------------------------------------------------------------


def test_a_path_through_a_surface_and_a_curve_is_drawn(tmp_path):
    prior = Union()
    start = Point(torch.tensor([1]), torch.tensor([[0.3, -0.5]], dtype=DOUBLE))
    y = prior.decode_chart(torch.tensor([[0.8]], dtype=DOUBLE), 0)
    solution = solve(lambda x: x, y, prior, starts=start, trajectory=True)
    figure = solution.plot_path(axes=(1, 0), resolution=7)
    labels = [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes[:2]]
    assert labels == [("chart 1", "z[1]", "z[0]"), ("chart 0", "z[0]", "")]
    figure.draw_without_rendering()
    point = solve(lambda x: x, prior.decode_chart(y[:, :0], 2), prior, starts=8, trajectory=True)
    assert point.plot_path(resolution=3).axes[0].get_title() == "chart 2"
    solution.save(tmp_path / "solution")
    assert torch.equal(Solution.load(tmp_path / "solution").history.z, solution.history.z)


class Raised(WithNuisance):
    """Each point, and a height of its own above it."""

    def __init__(self, prior):
        super().__init__(prior, (0.5,), (4,))

    def join(self, picture, parameters):
        return torch.cat([picture, parameters], dim=1)

    def split(self, x):
        return x[:, :3], x[:, 3:]

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(Union())


def test_further_unknowns_follow_the_coordinates_of_each_chart():
    prior = Raised(Union())
    assert (prior.dim, prior.chart_dims) == (3, (2, 3, 1))
    box = torch.tensor([[1, 4, 0], [1, 1, 4], [4, 0, 0]])
    assert torch.equal(half_widths(prior, torch.arange(3), box.double()), box.double())
    check_prior(prior)
    point = prior.sample(200, 0)
    x = prior.decode(point.z, point.chart)
    assert torch.equal(x[:, :3], Union().decode(Union().sample(200, 0).z, point.chart))
    assert ((x[:, 3].std() - 0.5).abs() < 0.05) and x[:, 3].unique().numel() == 200
    z = torch.tensor([[0.3, 1.0]], dtype=DOUBLE)
    assert torch.equal(prior.decode_chart(z, 0)[0, 3:], z[0, 1:] * 0.5)
    inner = Union().log_prob_chart(z[:, :1], 0)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 1])
    torch.testing.assert_close(prior.log_prob_chart(z, 0), inner + normal)
    solution = solve(lambda x: x, x[:6], prior, fidelity=Gaussian(0.01))
    torch.testing.assert_close(solution.x, x[:6], atol=0.02, rtol=0)


def test_the_background_is_read_where_charts_differ_in_dimension():
    known = torch.tensor([False, True, False])
    prior = WithBackground(Flat(), 0.1, known)
    point = prior.sample(5, 0)
    x = prior.decode(point.z, point.chart)
    torch.testing.assert_close(prior.encode(x, point.chart), point.z)


class Flat(Union):
    """The same with y = 0: known everywhere; the first chart has the fewest coordinates."""

    dim, chart_dims, num_charts, shares = 1, (0, 1), 2, (0.5, 0.5)

    def decode_chart(self, z, chart):
        return super().decode_chart(z, 2 if chart == 0 else 0)

    def encode_chart(self, x, chart):
        return super().encode_chart(x, 2 if chart == 0 else 0)


def test_cards_name_the_dimensions(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "kind_of", lambda cls: "union")
    monkeypatch.setattr(storage, "prior_class", lambda kind: Union)
    storage.save_prior(Union(), tmp_path / "union")
    card = json.loads((tmp_path / "union" / "card.json").read_text())
    assert card["chart_dims"] == [1, 2, 0]
    assert storage.load_prior_folder(tmp_path / "union").chart_dims == (1, 2, 0)
    for dims in ([1, 2, 1], [2, 2, 2]):
        (tmp_path / "union" / "card.json").write_text(json.dumps(card | {"chart_dims": dims}))
        with pytest.raises(storage.DamagedFile, match="says chart_dims"):
            storage.load_prior_folder(tmp_path / "union")
    with pytest.raises(ValueError, match="chart_dims"):
        storage.save_prior(Union(), tmp_path / "other", {"chart_dims": [1, 2, 0]})


def test_a_chart_as_a_manifold_of_pymanopt():
    pytest.importorskip(
        "pymanopt", reason="pymanopt is missing: pip install onmanifold[interfaces]"
    )
    from pymanopt.optimizers import TrustRegions

    from onmanifold.interfaces.pymanopt import LearnedManifold, as_problem

    with pytest.raises(ValueError, match="chart 2 is a single point"):
        LearnedManifold(Union(), 2)
    for chart, d in ((0, 1), (1, 2)):
        manifold = LearnedManifold(Union(), chart, seed=3)
        truth = manifold.random_point()
        assert manifold.dim == d and truth.shape == (d,)
        y = bend(manifold.decode(truth).unsqueeze(0))
        problem = as_problem(manifold, bend, y)
        found = TrustRegions(verbosity=0).run(problem, initial_point=np.full(d, 0.1)).point
        assert np.abs(found - truth).max() < 1e-4
        assert manifold.point(found).z.shape == (1, 2)
