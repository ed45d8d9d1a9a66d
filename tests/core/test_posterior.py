"""The posterior: Laplace against closed forms, the sampler against integration over a grid."""

import math
import sys
from dataclasses import replace

import pytest
import torch
from analytic_priors import Affine, Circle, Sheets, Sine
from hypothesis import given, settings
from hypothesis import strategies as st
from posterior_cases import by_hand, linear

from onmanifold import Gaussian, MaxSteps, OutsideDomain, Point, SmallDecrease, simulate, solve
from onmanifold.operator import Autodiff, as_operator
from onmanifold.posterior import NotMixed, PosteriorSamples, laplace, sample_posterior
from onmanifold.posterior.border import CutNormal
from onmanifold.posterior.intervals import central

DOUBLE = torch.float64
STOP = MaxSteps(100) | SmallDecrease(1e-10)


def on_a_grid(operator, prior, y, std, cells=4000):
    """The posterior's mass in even cells of each chart of a curve: ``(K, cells)``, and their centres."""
    edges = torch.linspace(-prior.box, prior.box, cells + 1, dtype=DOUBLE)
    z = (0.5 * (edges[1:] + edges[:-1])).unsqueeze(1)
    logs = []
    for k in range(prior.num_charts):
        off = operator(prior.decode_chart(z, k)) - y
        logs.append(prior.log_prob_chart(z, k) - 0.5 * off.square().flatten(1).sum(1) / std**2)
    mass = torch.stack(logs).flatten().softmax(0).view(prior.num_charts, cells)
    return mass, z.squeeze(1)


def total_variation(samples, mass, box, bins):
    """Between the draws and the grid's mass, over (chart, bin)."""
    charts, cells = mass.shape
    true = mass.view(charts, bins, cells // bins).sum(2)
    z, chart = samples.z.flatten(), samples.chart.flatten()
    cell = ((z + box) / (2 * box) * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(chart * bins + cell, minlength=charts * bins).view(charts, bins)
    return 0.5 * (counts / counts.sum() - true).abs().sum().item()


# Laplace ------------------------------------------------------------------------------------------


def test_laplace_is_exact_where_everything_is_linear_and_normal():
    prior = Affine(dim=3, size=6)
    matrix, operator = linear(prior)
    truth = prior.sample(4, 1)
    y = simulate(operator, prior.decode(truth.z, truth.chart), 0.5, 2)
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
    y = simulate(operator, prior.decode(truth.z, truth.chart), 2.0, 2)
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


def test_a_mode_on_the_border_has_a_law_cut_off_there():
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
def test_the_cut_off_law_against_integration(a, curvature):
    slope = a * math.sqrt(curvature)
    law = CutNormal(torch.tensor([slope], dtype=DOUBLE), torch.tensor([curvature], dtype=DOUBLE))
    unit = 1 / (slope + math.sqrt(curvature))
    t = torch.linspace(0, 40 * unit, 400001, dtype=DOUBLE)
    density = (-slope * t - 0.5 * curvature * t.square()).exp()
    mass = torch.trapezoid(density, t)
    mean = torch.trapezoid(t * density, t) / mass
    variance = torch.trapezoid((t - mean).square() * density, t) / mass
    assert torch.allclose(law.log_mass(), mass.log(), atol=1e-5)
    assert torch.allclose(law.mean(), mean, rtol=1e-3)
    assert torch.allclose(law.variance(), variance, rtol=1e-3)
    for upper in (0.999, 0.5, 1e-3):
        at = law.quantile(torch.tensor([upper], dtype=DOUBLE))
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


# Sampler ------------------------------------------------------------------------------------------


def two_points():
    """The first coordinate of a point of the circle: one above and one below the axis, in two charts."""
    prior = Circle()

    def operator(x):  # the point above is the likelier
        return torch.cat([x[:, :1], 0.02 * x[:, 1:]], dim=1)

    y = torch.tensor([[-0.1, 0.03]], dtype=DOUBLE)
    return operator, prior, y, solve(operator, y, prior, fidelity=Gaussian(0.04), stop=STOP)


def test_the_sampler_visits_both_modes_in_both_charts_with_the_right_mass():
    operator, prior, y, solution = two_points()
    samples = sample_posterior(solution, draws=300, chains=16, warmup=60, seed=1)
    mass, z = on_a_grid(operator, prior, y, 0.04)
    assert samples.mixed.all()
    assert total_variation(samples, mass, prior.box, 40) < 0.05
    assert torch.allclose(samples.chart_shares[0], mass.sum(1), atol=0.03)
    angle = z + math.pi * torch.arange(2).unsqueeze(1)
    above = mass[angle.sin() > 0].sum()
    assert 0.55 < above < 0.95
    drawn = samples.x(4800)[0, :, 1] > 0
    assert abs(drawn.double().mean() - above) < 0.03


def test_moments_and_intervals_of_the_draws():
    _, prior, _, solution = two_points()
    samples = sample_posterior(solution, draws=125, chains=8, warmup=30, seed=3)
    x = prior.decode(samples.z.flatten(0, 2), samples.chart.flatten()).view(1, -1, 2)
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
    samples = sample_posterior(solution, 400, 32, warmup=100, approximation=far, seed=2)
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
    y = simulate(operator, prior.decode(prior.sample(3, 1).z, torch.zeros(3).long()), 0.5, 2)
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
    x = prior.decode(truth.z, truth.chart)
    operator = as_operator(lambda x: (x + x**3)[:, :2], (3,), dtype=DOUBLE)
    solution = solve(operator, simulate(operator, x, 0.5, 8), prior, fidelity=Gaussian(0.5))
    found = laplace(solution)
    for result in (found, sample_posterior(solution, 400, 2, 50, approximation=found)):
        low, high = result.latent_interval(0.9)
        inside = ((low[:, 0] <= truth.z) & (truth.z <= high[:, 0])).double().mean()
        assert 0.85 <= inside <= 0.95
        low, high = result.interval(0.9)
        assert 0.85 <= ((low <= x) & (x <= high)).double().mean() <= 0.95


# Intervals ----------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.floats(0.05, 0.99), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_their_share_and_leave_out_what_has_no_weight(n, level, seed):
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(3, n, generator=source, dtype=DOUBLE)
    low, high = central(values, torch.ones(n, dtype=DOUBLE), level)
    assert (low <= high).all() and (low >= values.amin(1)).all() and (high <= values.amax(1)).all()
    if n >= 50:
        inside = ((values >= low[:, None]) & (values <= high[:, None])).double().mean(1)
        assert ((inside - level).abs() <= 2.0 / n + 1e-9).all()
    weights = (torch.arange(n) % 2).double()
    some = central(values, weights, level)
    if n >= 6:
        odd = central(values[:, 1::2], torch.ones(n // 2, dtype=DOUBLE), level)
        assert torch.allclose(torch.stack(some), torch.stack(odd), atol=1e-6)


def test_no_weight_gives_no_interval():
    low, high = central(torch.zeros(2, 5), torch.zeros(2, 5), 0.9)
    assert low.isnan().all() and high.isnan().all()


# Bad input ----------------------------------------------------------------------------------------


def solved(**options):
    y = torch.tensor([[0.3, 0.4], [0.1, 0.2]], dtype=DOUBLE)
    return solve(lambda x: x[:, :2], y, Sine(), **options)


@pytest.mark.parametrize("ask", [laplace, sample_posterior])
def test_what_has_no_posterior(ask):
    good = solved(fidelity=Gaussian(0.1))
    with pytest.raises(TypeError, match="what solve\\(\\) returns, got Tensor"):
        ask(good.x)
    with pytest.raises(ValueError, match="carries no problem.*call solve"):
        ask(replace(good, problem=None))
    with pytest.raises(ValueError, match="needs the noise level.*Gaussian"):
        ask(solved())
    with pytest.raises(ValueError, match="needs the noise level"):
        ask(solved(prior_weight=1.0))  # the scale of the misfit means nothing
    with pytest.raises(ValueError, match="prior_weight=0.5"):
        ask(solved(fidelity=Gaussian(0.1), prior_weight=0.5))
    with pytest.raises(
        ValueError, match=r"measurements \[0, 1\]: no start converged \(the step bud"
    ):
        ask(solved(fidelity=Gaussian(0.1), stop=MaxSteps(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws has to be at least 1, got 0"),
        ({"draws": 3}, "draws has to be at least 4"),
        ({"chains": 0}, "chains has to be at least 1"),
        ({"warmup": 0}, "warmup has to be at least 1"),
        ({"draws": 10.0}, "draws has to be an int, got float"),
        ({"seed": "x"}, "a seed has to be an int"),
    ],
)
def test_counts_are_checked(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sample_posterior(solved(fidelity=Gaussian(0.1)), **options)


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_levels_and_numbers_of_draws_are_checked():
    solution = solved(fidelity=Gaussian(0.1))
    found = laplace(solution)
    samples = sample_posterior(solution, draws=10, chains=1, warmup=2)
    for result in (found, samples):
        for ask in (result.interval, result.latent_interval):
            with pytest.raises(ValueError, match="level has to be above 0 and below 1, got 90"):
                ask(90)
    with pytest.raises(ValueError, match="n is 11, there are 10 draws"):
        samples.x(11)
    with pytest.raises(ValueError, match="n has to be at least 1"):
        found.sample(0)


def test_without_arviz_the_extra_is_named(monkeypatch):
    solution = solved(fidelity=Gaussian(0.1))
    monkeypatch.setitem(sys.modules, "arviz_stats.base.array", None)
    with pytest.raises(ImportError, match=r"onmanifold\[posterior\]"):
        sample_posterior(solution)
