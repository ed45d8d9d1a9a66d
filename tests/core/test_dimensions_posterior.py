"""The posterior over a curve, a surface and a point."""

import itertools
import math

import pytest
import torch
from analytic_priors import Sheets, Union
from dimension_cases import of_each_chart, warp
from posterior_cases import by_hand, linear

from onmanifold import (
    Gaussian,
    MaxSteps,
    SmallDecrease,
    simulate,
    solve,
)
from onmanifold.posterior import laplace, sample_posterior
from onmanifold.prior import Point

DOUBLE = torch.float64
STOP = MaxSteps(100) | SmallDecrease(1e-10)


def test_laplace_is_exact_where_everything_is_linear_and_normal():
    prior = Sheets((1, 3, 0), (0.3, 0.5, 0.2))
    matrix, operator = linear(prior)
    truth = of_each_chart(prior, each=2)
    y = simulate(operator, prior.decode(truth), 2.0, 2)
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
    assert not drawn.z[~prior.active(drawn.chart)].any()


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
    charts = torch.tensor([0, 1])
    y = warp(prior.decode(Point(charts, z * prior.active(charts))))
    found = laplace(solve(warp, y, prior, fidelity=Gaussian(std), stop=STOP))
    for b in range(2):
        exact = integrated(warp, prior, y[b], std)
        near = exact > exact.max() - 20  # of charts that count Laplace's evidence is a good one
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
        torch.testing.assert_close(samples.chart_probabilities[b], exact, atol=0.03, rtol=0)
    assert not samples.z[~prior.active(samples.chart)].any()
    assert samples.rhat.max() < 1.05


def test_the_sampler_is_exact_within_each_chart():
    prior, std = Sheets((1, 3, 0), (0.4, 0.4, 0.2)), 2.0
    matrix, operator = linear(prior)
    truth = of_each_chart(prior, each=1)
    y = simulate(operator, prior.decode(truth), std, 4)[:1]
    solution = solve(operator, y, prior, fidelity=Gaussian(std), stop=STOP)
    samples = sample_posterior(solution, draws=300, chains=16, warmup=60, seed=1)
    parts = [by_hand(matrix, sheet, y, std) for sheet in prior.sheets]
    evidence = torch.cat([part[2] for part in parts]) + torch.tensor(prior.shares).log()
    torch.testing.assert_close(
        samples.chart_probabilities[0], evidence.softmax(0), atol=0.03, rtol=0
    )
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
        known = prior.active(torch.arange(3)).unsqueeze(0)
        assert torch.equal(low.isfinite(), known) and torch.equal(high.isfinite(), known)
        assert (low < high)[known].all()
        assert all(end.isfinite().all() for end in result.interval())
