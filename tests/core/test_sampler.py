"""The sampler against integration over a grid."""

import math
from dataclasses import replace

import pytest
import torch
from analytic_priors import Affine, Sine
from posterior_cases import (
    DOUBLE,
    STOP,
    by_hand,
    linear,
    on_a_grid,
    total_variation,
    two_points,
)

from onmanifold import Gaussian, OutsideDomain, Point, simulate, solve
from onmanifold.operator import Autodiff, as_operator
from onmanifold.posterior import NotMixed, PosteriorSamples, laplace, sample_posterior


def test_the_sampler_visits_both_modes_in_both_charts_with_the_right_mass():
    operator, prior, y, solution = two_points()
    samples = sample_posterior(solution, draws=300, chains=16, warmup=60, seed=1)
    mass, z = on_a_grid(operator, prior, y, 0.04)
    assert samples.mixed.all()
    assert total_variation(samples, mass, prior.box, 40) < 0.05
    assert torch.allclose(samples.chart_probabilities[0], mass.sum(1), atol=0.03)
    angle = z + math.pi * torch.arange(2).unsqueeze(1)
    above = mass[angle.sin() > 0].sum()
    assert 0.55 < above < 0.95
    drawn = samples.x(4800)[0, :, 1] > 0
    assert abs(drawn.double().mean() - above) < 0.03


def test_moments_and_intervals_of_the_draws():
    _, prior, _, solution = two_points()
    samples = sample_posterior(solution, draws=125, chains=8, warmup=30, seed=3)
    x = prior.decode(Point(samples.chart.flatten(), samples.z.flatten(0, 2))).view(1, -1, 2)
    assert torch.allclose(samples.mean, x.mean(1), atol=1e-9)
    assert torch.allclose(samples.std, x.std(1, correction=0), atol=1e-7)
    assert torch.equal(samples.x(1000), x)
    low, high = samples.interval(0.9)
    inside = ((x > low.unsqueeze(1)) & (x < high.unsqueeze(1))).double().mean(1)
    assert torch.allclose(inside, torch.full_like(inside, 0.9), atol=0.005)
    low, high = samples.latent_interval(0.5)
    for k in range(2):
        z = samples.z[samples.chart == k]
        assert abs(((z > low[0, k]) & (z < high[0, k])).double().mean() - 0.5) < 0.01
    assert samples.rhat.shape == samples.ess.shape == (1, 9)
    assert "mixed" in samples.summary()


def test_local_moves_alone_are_exact():
    """A curve with bends, sampled with proposals so poor that hardly any jump is accepted."""
    prior = Sine()
    y = torch.tensor([[0.3, 0.4]], dtype=DOUBLE)

    def operator(x):
        return x[:, :2] ** 3 + x[:, :2]

    solution = solve(operator, y, prior, fidelity=Gaussian(0.6), stop=STOP)
    good = laplace(solution)
    far = replace(good, mean=good.mean + 2.5, covariance=good.covariance * 0.01)
    samples = sample_posterior(solution, 400, 32, 100, 2, approximation=far, adaptation=0)
    assert samples.global_acceptance.max() < 0.1
    assert 0.4 < samples.local_acceptance.min() < 0.8
    mass, _ = on_a_grid(operator, prior, y, 0.6)
    assert total_variation(samples, mass, prior.box, 20) < 0.05


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_same_seed_same_draws_and_another_seed_others():
    solution = two_points()[3]
    first, again, other = (
        sample_posterior(solution, draws=20, warmup=5, seed=s) for s in (4, 4, 5)
    )
    assert torch.equal(first.z, again.z) and torch.equal(first.chart, again.chart)
    assert not torch.equal(first.z, other.z)


def test_measurements_are_sampled_side_by_side():
    prior = Affine(dim=2, size=4)
    matrix, operator = linear(prior)
    y = simulate(operator, prior.decode(Point(torch.zeros(3).long(), prior.sample(3, 1).z)), 0.5, 2)
    solution = solve(operator, y, prior, fidelity=Gaussian(0.5), stop=STOP)
    samples = sample_posterior(solution, draws=200, chains=16, warmup=50)
    mean, covariance, _ = by_hand(matrix, prior, y, 0.5)
    z = samples.z.flatten(1, 2)
    deviation = covariance.diagonal().sqrt()
    assert ((z.mean(1) - mean).abs() < 0.08 * deviation).all()
    assert torch.allclose(z.std(1), deviation.expand(3, -1), rtol=0.06)
    assert samples.global_acceptance.min() > 0.8
    assert (samples.operator_calls > 16 * 200).all()


def test_single_precision():
    prior = Sine(torch.float32)
    y = torch.tensor([[0.3, 0.4]])
    solution = solve(lambda x: x[:, :2], y, prior, fidelity=Gaussian(0.3))
    samples = sample_posterior(solution, draws=200, chains=16, warmup=50)
    assert samples.x(5).dtype == samples.mean.dtype == laplace(solution).std().dtype == y.dtype
    mass, _ = on_a_grid(lambda x: x[:, :2], prior.double(), y.double(), 0.3)
    assert total_variation(samples, mass, prior.box, 20) < 0.06


def test_points_outside_the_operators_domain_are_never_drawn():
    class Root(Autodiff):
        x_shape, y_shape, linear = (3,), (1,), False

        def A(self, x):
            bad = x[:, 0] <= -0.2
            if bad.any():
                raise OutsideDomain("negative", bad)
            return (x[:, :1] + 0.2).sqrt()

    y = torch.tensor([[0.4]], dtype=DOUBLE)
    prior = Sine()
    solution = solve(Root(), y, prior, fidelity=Gaussian(0.3), stop=STOP)
    samples = sample_posterior(solution, draws=600, chains=16, warmup=50)
    assert (samples.z > -0.2).all()
    mass, _ = on_a_grid(
        lambda x: (x[:, :1] + 0.2).clamp(min=0).sqrt() - torch.where(x[:, :1] > -0.2, 0.0, 1e3),
        prior,
        y,
        0.3,
    )
    assert total_variation(samples, mass, prior.box, 40) < 0.05


def test_chains_that_do_not_agree_are_announced():
    solution = two_points()[3]
    first = laplace(solution)
    one = replace(first, mean=first.mean + 30.0)  # no jump is ever accepted
    with pytest.warns(NotMixed, match=r"measurements \[0\]: R-hat above 1.01"):
        samples = sample_posterior(solution, draws=50, warmup=5, approximation=one)
    assert isinstance(samples, PosteriorSamples)
    assert not samples.mixed.any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_intervals_of_90_percent_hold_the_truth_in_85_to_95():
    prior = Sine()
    truth = prior.sample(200, 7)
    truth = Point(truth.chart, torch.erfinv(truth.z / 3.01) * math.sqrt(2))  # from even to normal
    x = prior.decode(truth)
    operator = as_operator(lambda x: (x + x**3)[:, :2], (3,), dtype=DOUBLE)
    solution = solve(operator, simulate(operator, x, 0.5, 8), prior, fidelity=Gaussian(0.5))
    found = laplace(solution)
    for result in (found, sample_posterior(solution, 400, 2, 50, approximation=found)):
        low, high = result.latent_interval(0.9)
        inside = ((low[:, 0] <= truth.z) & (truth.z <= high[:, 0])).double().mean()
        assert 0.85 <= inside <= 0.95
        low, high = result.interval(0.9)
        assert 0.85 <= ((low <= x) & (x <= high)).double().mean() <= 0.95
