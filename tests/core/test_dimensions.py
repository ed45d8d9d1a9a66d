"""Charts of different dimension in one atlas, a curve, a surface and a point: prior and geometry."""

import json

import numpy as np
import pytest
import torch
from analytic_priors import Circle, Sheets, Union
from dimension_cases import of_each_chart, warp

from onmanifold import (
    AveragedRetraction,
    ChartRetraction,
    Point,
    ProjectionRetraction,
    Solution,
    pretrained,
    solve,
)
from onmanifold.geometry import (
    decode_with_jacobian,
    filled,
    locate,
    log_prob_derivatives,
    log_prob_gradient,
    neighbour,
    on_border,
    pullback_metric,
    transition,
    transport,
)
from onmanifold.prior import pad_to
from onmanifold.storage import DamagedFile
from onmanifold.testing import CheckFailed, check_prior

DOUBLE = torch.float64
RETRACTIONS = [ChartRetraction(), ProjectionRetraction(), AveragedRetraction()]


# The prior ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_the_laws_hold(dtype):
    assert "encode: (B, 0), finite, chart 2" in str(check_prior(Union(dtype)))


def test_dimensions_are_those_of_the_prior_unless_it_says_else():
    assert Circle().chart_dims == (1, 1)
    assert Union().chart_dims == (1, 2, 0)
    assert Circle().active(torch.tensor([0, 1])).all()


def test_which_coordinates_a_chart_has():
    used = Union().active(torch.tensor([[2, 0], [1, 1]]))
    assert used.tolist() == [[[False, False], [True, False]], [[True, True], [True, True]]]


def test_zeros_are_appended_along_each_axis():
    assert pad_to(torch.ones(2, 1, 3), 2).shape == (2, 2, 3)
    wide = pad_to(torch.ones(2, 1, 1), 2, 3)
    assert wide.shape == (2, 2, 3) and wide.sum() == 2 and (wide[:, 0, 0] == 1).all()
    same = torch.ones(2, 3)
    assert pad_to(same, 3) is same


def test_charts_see_their_own_coordinates_and_nothing_else():
    prior = Union()
    point = of_each_chart(prior)
    x = prior.decode(point)
    for k, d in enumerate(prior.chart_dims):
        rows = point.chart == k
        assert torch.equal(x[rows], prior.decode_chart(point.z[rows, :d], k))
    astray = torch.where(prior.active(point.chart), point.z, 7.0)
    assert torch.equal(prior.decode(point.at(astray)), x)
    assert torch.equal(prior.log_prob(point.at(astray)), prior.log_prob(point))
    torch.testing.assert_close(prior.encode(x, point.chart).z, point.z)
    found = locate(prior, x)
    torch.testing.assert_close(prior.decode(found), x)
    assert not found.z[~prior.active(found.chart)].any()


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
    ("prior", "check"),
    [
        (TooMany(), "chart_dims: K numbers"),
        (TooLarge(), "chart_dims: K numbers"),
        (Stray(), "sample: 0 in coordinates that a chart does not have"),
        (Wide(), "encode: \\(B, 1\\), finite, chart 0"),
    ],
)
def test_broken_laws_are_told(prior, check):
    with pytest.raises(CheckFailed, match=check):
        check_prior(prior)


# Geometry -----------------------------------------------------------------------------------------


def test_derivatives_are_zero_along_what_a_chart_does_not_have():
    prior = Sheets((1, 2, 0), (0.3, 0.5, 0.2))
    point = of_each_chart(prior)
    x, columns = decode_with_jacobian(prior, point)
    assert torch.equal(x, prior.decode(point))
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
    metric = pullback_metric(small, prior.active(point.chart))
    assert (torch.linalg.cond(metric) < 10).all()
    curve, bare = metric[:4], pullback_metric(small)[:4]
    assert torch.equal(curve[:, 0, 0], bare[:, 0, 0]) and not curve[:, 0, 1].any()
    assert torch.equal(curve[:, 1, 1], curve[:, 0, 0])
    assert torch.equal(metric[8:], torch.eye(2).to(metric).expand(4, 2, 2))
    part = pullback_metric(small[:4, :1], prior.active(point.chart[:4]))
    torch.testing.assert_close(part, curve)
    one = filled(bare, prior.active(point.chart[:4]), size=1.0)
    assert (one[:, 1, 1] == 1).all()


def test_tangents_are_carried_between_charts_of_different_dimension():
    prior = Union()
    curve = Point(torch.tensor([0]), torch.tensor([[-0.4, 0.0]], dtype=DOUBLE))
    surface = Point(torch.tensor([1]), torch.tensor([[0.6, 0.0]], dtype=DOUBLE))
    here, there = (decode_with_jacobian(prior, p)[1] for p in (curve, surface))
    along = torch.tensor([[0.7, 0.0]], dtype=DOUBLE)
    for metric, columns, before in (
        (pullback_metric(there), there, here),
        (pullback_metric(here, prior.active(curve.chart)), here, there),
    ):
        carried = (transport(metric, columns, before) @ along[:, :, None]).squeeze(2)
        torch.testing.assert_close(carried, along)
    across = torch.tensor([[0.0, 0.7]], dtype=DOUBLE)  # which the curve does not have
    carry = transport(pullback_metric(here, prior.active(curve.chart)), here, there)
    assert (carry @ across[:, :, None]).abs().max() < 1e-12


def test_boxes_of_charts():
    prior = Union()
    chart = torch.tensor([0, 1, 2])
    z = torch.full((3, 2), 3.0, dtype=DOUBLE)
    expected = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    assert torch.equal(prior.clamp(Point(chart, z)).z, expected)
    border = on_border(prior, Point(chart, expected))
    assert border.tolist() == [[True, False], [True, True], [False, False]]
    prior.box = torch.tensor([[0.5, 9.0], [2.0, 0.3], [9.0, 9.0]])
    own = torch.tensor([[0.5, 0.0], [2.0, 0.3], [0.0, 0.0]])
    assert torch.equal(prior.box_half_width(chart, torch.zeros(1)), own)


def test_points_go_over_from_the_surface_to_the_curve_and_stay_in_their_coordinates():
    prior = Union()
    edge = Point(torch.tensor([1, 2]), torch.tensor([[1.0, 0.01], [0.0, 0.0]], dtype=DOUBLE))
    x = prior.decode(edge)
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
    assert not moved.z[~prior.active(point.chart)].any()
    gone = (moved.z - point.z)[prior.active(point.chart)]
    assert ((gone - 0.05).abs() < 0.02).all()


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


def test_cards_name_the_dimensions(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "kind_of", lambda cls: "union")
    monkeypatch.setattr(pretrained, "prior_class", lambda kind: Union)
    pretrained.save_prior(Union(), tmp_path / "union")
    card = json.loads((tmp_path / "union" / "card.json").read_text())
    assert card["chart_dims"] == [1, 2, 0]
    assert pretrained.load_prior(tmp_path / "union").chart_dims == (1, 2, 0)
    for dims in ([1, 2, 1], [2, 2, 2]):
        (tmp_path / "union" / "card.json").write_text(json.dumps(card | {"chart_dims": dims}))
        with pytest.raises(DamagedFile, match="says chart_dims"):
            pretrained.load_prior(tmp_path / "union")
    with pytest.raises(ValueError, match="chart_dims"):
        pretrained.save_prior(Union(), tmp_path / "other", {"chart_dims": [1, 2, 0]})


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
        y = warp(manifold.decode(truth).unsqueeze(0))
        problem = as_problem(manifold, warp, y)
        found = TrustRegions(verbosity=0).run(problem, initial_point=np.full(d, 0.1)).point
        assert np.abs(found - truth).max() < 1e-4
        assert manifold.point(found).z.shape == (1, 2)
