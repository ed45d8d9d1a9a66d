"""Laplace's approximation against closed forms and integration."""

import math

import pytest
import torch
from analytic_priors import Affine, Circle, Sheets
from hypothesis import given, settings
from hypothesis import strategies as st
from posterior_cases import (
    DOUBLE,
    STOP,
    by_hand,
    linear,
)

from onmanifold import Gaussian, simulate, solve
from onmanifold.posterior import laplace
from onmanifold.posterior.component import TruncatedNormal


def test_laplace_is_exact_where_everything_is_linear_and_normal():
    prior = Affine(dim=3, size=6)
    matrix, operator = linear(prior)
    truth = prior.sample(4, 1)
    y = simulate(operator, prior.decode(truth), 0.5, 2)
    found = laplace(solve(operator, y, prior, fidelity=Gaussian(0.5), stop=STOP))
    mean, covariance, evidence = by_hand(matrix, prior, y, 0.5)
    assert found.chart.shape == (4, 1)  # all starts end in the one mode
    assert torch.allclose(found.mean[:, 0], mean, atol=1e-6)
    assert torch.allclose(found.covariance[:, 0], covariance.expand(4, -1, -1), atol=1e-6)
    density = 1.5 * math.log(2 * math.pi)  # the prior's, which it leaves out
    assert torch.allclose(found.total_log_evidence - density, evidence, atol=1e-6)
    spread = (prior.matrix @ covariance @ prior.matrix.T).diagonal().sqrt()
    assert torch.allclose(found.std(), spread.expand(4, -1), atol=1e-6)


def test_evidence_weighs_charts_against_each_other():
    prior = Sheets()
    matrix, operator = linear(prior)
    truth = prior.sample(6, 1)
    y = simulate(operator, prior.decode(truth), 2.0, 2)
    found = laplace(solve(operator, y, prior, fidelity=Gaussian(2.0), stop=STOP))
    parts = [by_hand(matrix, sheet, y, 2.0) for sheet in prior.sheets]
    shares = torch.tensor(prior.shares, dtype=DOUBLE).log()
    evidence = torch.stack([part[2] for part in parts], dim=1) + shares
    assert torch.allclose(found.log_evidence, evidence, atol=1e-6)
    assert torch.allclose(found.total_log_evidence, evidence.logsumexp(1), atol=1e-6)
    share = evidence.softmax(1)
    assert ((share > 0.02) & (share < 0.98)).all(1).any()  # both charts count somewhere
    assert torch.allclose(found.weights.sum(1), torch.ones(6, dtype=DOUBLE))
    # the law of total variance over both charts
    means = torch.stack(
        [s.decode_chart(p[0], 0) for s, p in zip(prior.sheets, parts, strict=True)], dim=1
    )
    within = torch.stack(
        [
            (s.matrix @ p[1] @ s.matrix.T).diagonal()
            for s, p in zip(prior.sheets, parts, strict=True)
        ]
    )
    mean = (share.unsqueeze(2) * means).sum(1, keepdim=True)
    variance = (share.unsqueeze(2) * (within + (means - mean).square())).sum(1)
    assert torch.allclose(found.std(), variance.sqrt(), atol=1e-6)
    assert torch.allclose(found.x(20000, 0).std(1), variance.sqrt(), rtol=0.03)


def test_charts_that_overlap_share_the_mass():
    prior = Circle()  # at the angle 1.6 both arcs are inside their boxes
    y = torch.tensor([[math.cos(1.6), math.sin(1.6)]], dtype=DOUBLE)
    found = laplace(solve(lambda x: x, y, prior, fidelity=Gaussian(0.01)))
    assert sorted(found.chart[0, :2].tolist()) == [0, 1]
    assert torch.allclose(found.weights[0, :2], torch.full((2,), 0.5, dtype=DOUBLE), atol=1e-3)
    low, high = found.latent_interval(0.9)
    angles = torch.tensor([[[1.6], [1.6 - math.pi]]], dtype=DOUBLE)
    assert ((low < angles) & (angles < high)).all()
    assert torch.allclose(high - low, torch.full_like(low, 2 * 1.645 * 0.01), rtol=0.1)


def test_a_mode_on_the_border_has_a_truncated_component():
    prior = Affine(dim=2, size=2, box=torch.tensor([1.0, math.inf], dtype=DOUBLE))
    y = prior.decode_chart(torch.tensor([[3.0, 0.2]], dtype=DOUBLE), 0)
    found = laplace(solve(lambda x: x, y, prior, fidelity=Gaussian(0.8)))
    assert found.mode[0, 0, 0] == 1
    edge = torch.linspace(-1, 1, 801, dtype=DOUBLE)
    z = torch.cartesian_prod(edge, torch.linspace(-9, 9, 1801, dtype=DOUBLE))  # free in the second
    cost = 0.5 * (prior.decode_chart(z, 0) - y).square().sum(1) / 0.64 + 0.5 * z.square().sum(1)
    mass = (-cost).exp().view(801, 1801)
    mass[[0, -1]] *= 0.5
    share = (mass / mass.sum()).flatten()
    mean = share @ z
    covariance = (share.unsqueeze(1) * (z - mean)).T @ (z - mean)
    assert torch.allclose(found.mean[0, 0], mean, atol=2e-3)
    assert torch.allclose(found.covariance[0, 0], covariance, atol=2e-3)
    total = (mass.sum() * (2 / 800) * (18 / 1800)).log()
    assert torch.allclose(found.total_log_evidence[0], total, atol=2e-3)
    drawn = found.sample(20000, 0)
    assert (drawn.z[:, 0].abs() <= 1).all()
    assert abs(drawn.z[:, 0].mean() - mean[0]) < 0.01


@given(st.floats(0.0, 60.0), st.floats(0.01, 100.0))
@settings(max_examples=30, deadline=None)
def test_the_truncated_normal_against_integration(a, curvature):
    slope = a * math.sqrt(curvature)
    check = TruncatedNormal(
        torch.tensor([slope], dtype=DOUBLE), torch.tensor([curvature], dtype=DOUBLE)
    )
    unit = 1 / (slope + math.sqrt(curvature))
    t = torch.linspace(0, 40 * unit, 400001, dtype=DOUBLE)
    density = (-slope * t - 0.5 * curvature * t.square()).exp()
    mass = torch.trapezoid(density, t)
    mean = torch.trapezoid(t * density, t) / mass
    variance = torch.trapezoid((t - mean).square() * density, t) / mass
    assert torch.allclose(check.log_mass(), mass.log(), atol=1e-5)
    assert torch.allclose(check.mean(), mean, rtol=1e-3)
    assert torch.allclose(check.variance(), variance, rtol=1e-3)
    for upper in (0.999, 0.5, 1e-3):
        at = check.quantile(torch.tensor([upper], dtype=DOUBLE))
        beyond = torch.trapezoid(torch.where(t >= at, density, 0.0), t) / mass
        assert abs(beyond.item() - upper) < 1e-3


def test_no_direction_is_less_certain_than_the_box():
    prior = Circle()
    y = torch.zeros(1, 1, dtype=DOUBLE)
    found = laplace(solve(lambda x: 0.0 * x[:, :1], y, prior, fidelity=Gaussian(1.0)))
    assert torch.allclose(found.covariance[0, 0, 0, 0], torch.tensor(4 / 3, dtype=DOUBLE))


def test_a_posterior_that_nothing_confines_is_refused():
    class Open(Affine):
        def log_prob_chart(self, z, chart):
            return torch.zeros_like(z[:, 0])

    prior = Open(dim=2, size=2)
    y = torch.zeros(1, 1, dtype=DOUBLE)
    solution = solve(lambda x: x[:, :1], y, prior, fidelity=Gaussian(1.0))
    with pytest.raises(ValueError, match="neither the data nor the prior confines"):
        laplace(solution)
