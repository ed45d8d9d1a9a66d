"""Jacobians, metric, retractions and changes of chart on manifolds known in closed form."""

import math

import pytest
import torch
from analytic_priors import ANALYTIC, Affine, Analytic, Circle, Sine, Sphere

from onmanifold import AveragedRetraction, ChartRetraction, Point, ProjectionRetraction
from onmanifold.geometry import (
    decode_with_jacobian,
    jacobian,
    locate,
    log_prob_derivatives,
    neighbour,
    pull_back,
    pullback_metric,
    push_forward,
    solve_spd,
    transition,
)

RETRACTIONS = [ChartRetraction(), ProjectionRetraction(), AveragedRetraction()]


@pytest.fixture(params=sorted(ANALYTIC))
def prior(request):
    return ANALYTIC[request.param]()


def inner(prior, n=6, seed=0):
    """Points well inside their boxes."""
    point = prior.sample(n, seed)
    return Point(point.chart, 0.5 * point.z)


def tangents(point, seed=1):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(point.z.shape, generator=source, dtype=point.z.dtype)


def test_jacobian_is_the_finite_difference(prior):
    point, h = inner(prior), 1e-6
    x, columns = decode_with_jacobian(prior, point)
    assert torch.equal(x, prior.decode(point))
    for i in range(prior.dim):
        step = h * torch.eye(prior.dim, dtype=x.dtype)[i]
        forth = prior.decode(point.at(point.z + step))
        back = prior.decode(point.at(point.z - step))
        assert torch.allclose(columns[:, i], (forth - back) / (2 * h), atol=1e-8)


def test_log_prob_derivatives_are_finite_differences(prior):
    point, h = inner(prior), 1e-5
    gradient, hessian = log_prob_derivatives(prior, point)
    for i in range(prior.dim):
        step = h * torch.eye(prior.dim, dtype=torch.float64)[i]
        forth, back = Point(point.chart, point.z + step), Point(point.chart, point.z - step)
        values = [prior.log_prob(p) for p in (forth, back)]
        assert torch.allclose(gradient[:, i], (values[0] - values[1]) / (2 * h), atol=1e-8)
        slopes = [log_prob_derivatives(prior, p)[0] for p in (forth, back)]
        assert torch.allclose(hessian[:, i], (slopes[0] - slopes[1]) / (2 * h), atol=1e-8)


class InPlace(Sphere):
    """A decoder that writes into a buffer, which vmap cannot batch."""

    def decode_chart(self, z, chart):
        out = torch.zeros(len(z), 3, dtype=z.dtype)
        out[:, :2] = z
        out[:, 2] = z.square().sum(1)
        return out.unsqueeze(1)


def test_jacobian_of_a_decoder_without_vmap():
    prior = InPlace()
    point = inner(prior)
    expected = torch.zeros(6, 2, 1, 3, dtype=torch.float64)
    expected[:, 0, 0, 0] = expected[:, 1, 0, 1] = 1
    expected[:, :, 0, 2] = 2 * point.z
    assert torch.allclose(jacobian(prior, point), expected)


def test_a_broken_decoder_says_why():
    class Broken(Sphere):
        def decode_chart(self, z, chart):
            raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        jacobian(Broken(), inner(Sphere()))


def test_metric_push_and_pull_agree(prior):
    point = inner(prior)
    columns = jacobian(prior, point)
    v, w = tangents(point), tangents(point, seed=2)
    metric = pullback_metric(columns)
    by_metric = torch.einsum("bi,bij,bj->b", v, metric, w)
    pushed = push_forward(columns, v)
    in_space = (pushed * push_forward(columns, w)).flatten(1).sum(1)
    assert torch.allclose(by_metric, in_space)
    assert torch.allclose((pull_back(columns, pushed) * w).sum(1), in_space)


def test_stereographic_metric_is_conformal():
    prior = Sphere()
    point = inner(prior)
    factor = (2 / (1 + point.z.square().sum(1))) ** 2
    expected = factor[:, None, None] * torch.eye(2, dtype=torch.float64)
    assert torch.allclose(pullback_metric(jacobian(prior, point)), expected)


def test_riemannian_gradient_is_the_tangential_projection(prior):
    point = inner(prior)
    columns = jacobian(prior, point)
    source = torch.Generator().manual_seed(4)
    euclidean = torch.randn(6, *prior.x_shape, generator=source, dtype=torch.float64)
    slope = pull_back(columns, euclidean)
    along = push_forward(columns, solve_spd(pullback_metric(columns), slope))
    basis = torch.linalg.qr(columns.flatten(2).mT).Q
    expected = (basis @ (basis.mT @ euclidean.flatten(1).unsqueeze(2))).squeeze(2)
    assert torch.allclose(along.flatten(1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_metric_is_survived(dtype):
    columns = torch.randn(3, 2, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    columns = torch.cat([columns, columns.sum(1, keepdim=True), 0 * columns[:, :1]], dim=1)
    metric = pullback_metric(columns)
    slope = pull_back(columns, torch.ones(3, 7, dtype=dtype))
    v = solve_spd(metric, slope)
    assert torch.isfinite(v).all()
    back = (metric @ v.unsqueeze(2)).squeeze(2)
    assert torch.allclose(back, slope, atol=1e3 * torch.finfo(dtype).eps)
    assert torch.equal(solve_spd(0 * metric, 0 * slope), 0 * slope)


def test_members_do_not_feel_a_singular_neighbour():
    good = torch.eye(3, dtype=torch.float64) * 2
    indefinite = -torch.eye(3, dtype=torch.float64)
    rhs = torch.ones(2, 3, dtype=torch.float64)
    both = solve_spd(torch.stack([good, indefinite]), rhs)
    assert torch.equal(both[:1], solve_spd(good.unsqueeze(0), rhs[:1]))


# Retractions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("retract", RETRACTIONS, ids=repr)
def test_retraction_of_nothing_stays(prior, retract):
    point = inner(prior)
    still = retract(prior, point, torch.zeros_like(point.z))
    assert torch.equal(still.chart, point.chart)
    assert torch.allclose(still.z, point.z, atol=1e-12)


@pytest.mark.parametrize("retract", RETRACTIONS, ids=repr)
def test_retraction_is_rigid_to_first_order(prior, retract):
    point = inner(prior)
    v = tangents(point)
    x, columns = decode_with_jacobian(prior, point)
    h = push_forward(columns, v)
    errors = []
    for t in (1e-2, 1e-3):
        moved = retract(prior, point, t * v)
        away = prior.decode(moved) - (x + t * h)
        errors.append(away.norm().item())
    assert errors[1] < 1e-12 or errors[0] / errors[1] == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("retract", RETRACTIONS, ids=repr)
def test_retraction_ends_at_the_border(retract):
    prior = Sphere()
    point = Point(
        torch.zeros(2, dtype=torch.long), torch.tensor([[0.8, 0.0], [0.0, -0.8]]).double()
    )
    v = torch.tensor([[50.0, 0.1], [0.0, -50.0]], dtype=torch.float64)
    moved = retract(prior, point, v)
    assert moved.z.abs().max() == 1.0
    assert torch.equal(moved.z[0].abs() == 1.0, torch.tensor([True, False]))


class TwoSpeeds(Circle):
    """The circle by two arcs of which the second goes faster and faster; both have a say everywhere."""

    def decode_chart(self, z, chart):
        return super().decode_chart(z + chart * 0.1 * z.square(), chart)

    def encode_chart(self, x, chart):
        angle = super().encode_chart(x, chart)
        return (torch.sqrt(1 + 0.4 * angle) - 1) / 0.2 if chart else angle

    def responsibilities(self, x):
        return torch.tensor([0.7, 0.3]).to(x).expand(len(x), 2)


def test_charts_are_averaged_by_their_responsibilities():
    prior, step = TwoSpeeds(), 0.3
    point = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 1.6).double())
    there = prior.encode(prior.decode(point), torch.ones_like(point.chart)).z
    first = torch.tensor([[1.6 + step]]).double()  # chart 0 goes on by as much ...
    second = there + step / (1 + 0.2 * there)  # ... chart 1 at first as fast, then faster
    ends = prior.decode_chart(first, 0), prior.decode_chart(second, 1)
    mean = 0.7 * ends[0] + 0.3 * ends[1]
    moved = AveragedRetraction()(prior, point, torch.full((1, 1), step).double())
    assert torch.allclose(moved.z, prior.encode_chart(mean, 0))
    assert (moved.z - first).abs() > 1e-3


def test_box_of_its_own_for_each_coordinate():
    prior = Sphere()
    prior.box = torch.tensor([0.5, 2.0])
    z = torch.tensor([[-3.0, 3.0], [0.1, 0.2]], dtype=torch.float64)
    point = Point(torch.zeros(2, dtype=torch.long), z)
    expected = torch.tensor([[-0.5, 2.0], [0.1, 0.2]], dtype=torch.float64)
    assert torch.equal(prior.clamp(point).z, expected)


# Changes of chart ---------------------------------------------------------------------------------


def test_transition_keeps_the_point_and_changes_the_chart():
    prior = Circle()
    angle = torch.tensor([[0.3], [1.9], [-1.9], [1.2]], dtype=torch.float64)
    point = Point(torch.tensor([0, 0, 0, 1]), angle)
    x = prior.decode(point)
    moved, switched = transition(prior, point, x)
    assert switched.tolist() == [False, True, True, False]
    assert moved.chart.tolist() == [0, 1, 1, 1]
    assert torch.allclose(prior.decode(moved), x)
    assert torch.allclose(
        moved.z[1:3].squeeze(), torch.tensor([1.9 - math.pi, math.pi - 1.9]).double()
    )


def test_transition_needs_a_margin():
    prior = Circle()
    angle = torch.tensor([[math.pi / 2 + 0.01]], dtype=torch.float64)
    point = Point(torch.tensor([0]), angle)
    x = prior.decode(point)
    assert not transition(prior, point, x)[1].any()
    assert transition(prior, point, x, margin=0.0)[1].all()


def test_a_point_on_the_border_goes_to_the_nearest_other_chart():
    class Sure(Circle):
        """Chart 0 claims everything; chart 2 is chart 1 moved away."""

        num_charts = 3

        def decode_chart(self, z, chart):
            moved = torch.tensor([0.3, 0.0], dtype=z.dtype) if chart == 2 else 0.0
            return super().decode_chart(z, min(chart, 1)) + moved

        def encode_chart(self, x, chart):
            return super().encode_chart(x, min(chart, 1))

        def responsibilities(self, x):
            return torch.tensor([1.0, 0.0, 0.0], dtype=x.dtype).expand(len(x), 3)

    prior = Sure()
    angle = torch.tensor([[2.0], [1.9], [-2.0]], dtype=torch.float64)
    point = Point(torch.tensor([0, 0, 0]), angle)
    x = prior.decode(point)
    moved, switched = transition(prior, point, x)
    assert switched.tolist() == [True, False, True]
    assert moved.chart.tolist() == [1, 0, 1]
    assert torch.allclose(prior.decode(moved), x)


def test_a_single_chart_never_changes():
    prior = Sine()
    point = inner(prior)
    moved, switched = transition(prior, point, prior.decode(point))
    assert moved is point
    assert not switched.any()


def test_mixed_charts_come_back_in_order():
    prior = Circle()
    point = prior.sample(20, 3)
    assert set(point.chart.tolist()) == {0, 1}
    columns = jacobian(prior, point)
    for b in range(20):
        one = point.select(torch.tensor([b]))
        assert torch.equal(jacobian(prior, one), columns[b : b + 1])


def test_affine_metric_is_constant():
    prior = Affine()
    metric = pullback_metric(jacobian(prior, inner(prior)))
    assert torch.allclose(metric, (prior.matrix.T @ prior.matrix).expand_as(metric))
    assert isinstance(prior, Analytic)


def test_only_points_near_the_border_have_neighbours():
    prior = Circle()
    angle = torch.tensor([[0.5], [1.7], [1.9], [-2.0]], dtype=torch.float64)
    point = Point(torch.zeros(4, dtype=torch.long), angle)
    own = torch.tensor([True, False]).expand(4, 2)
    there, found = neighbour(prior, point, own)
    assert found.tolist() == [False, False, True, True]
    assert there.chart.tolist() == [0, 0, 1, 1]
    x = prior.decode(point)
    assert torch.allclose(prior.decode(there), x)
    assert not neighbour(prior, point, torch.ones(4, 2, dtype=torch.bool))[1].any()


def test_a_chart_far_away_is_no_neighbour():
    class Apart(Circle):
        """Two circles, five apart."""

        def decode_chart(self, z, chart):
            return super().decode_chart(z, chart) + torch.tensor([5.0 * chart, 0.0]).to(z)

        def encode_chart(self, x, chart):
            return super().encode_chart(x - torch.tensor([5.0 * chart, 0.0]).to(x), chart)

    point = Point(torch.zeros(1, dtype=torch.long), torch.full((1, 1), 2.0).double())
    assert not neighbour(Apart(), point, torch.tensor([[True, False]]))[1].any()


def test_locate_finds_the_chart_whose_box_holds_the_point():
    angle = torch.linspace(-3.1, 3.1, 40, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    found = locate(Circle(), 3 * x)
    assert float(found.z.abs().max()) <= Circle.box
    torch.testing.assert_close(Circle().decode(found), x)
