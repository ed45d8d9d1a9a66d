"""What a posterior is asked: intervals, and what has none."""

import sys
from dataclasses import replace

import pytest
import torch
from analytic_priors import Circle, Sine
from hypothesis import given, settings
from hypothesis import strategies as st
from posterior_cases import DOUBLE

from onmanifold import Gaussian, MaxSteps, solve
from onmanifold.posterior import find_posterior, laplace, sample_posterior
from onmanifold.posterior.base import central_interval

# Intervals ----------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.floats(0.05, 0.99), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_their_share_and_leave_out_what_has_no_weight(n, level, seed):
    source = torch.Generator().manual_seed(seed)
    values = torch.randn(3, n, generator=source, dtype=DOUBLE)
    low, high = central_interval(values, torch.ones(n, dtype=DOUBLE), level)
    assert (low <= high).all() and (low >= values.amin(1)).all() and (high <= values.amax(1)).all()
    if n >= 50:
        inside = ((values >= low[:, None]) & (values <= high[:, None])).double().mean(1)
        assert ((inside - level).abs() <= 2.0 / n + 1e-9).all()
    weights = (torch.arange(n) % 2).double()
    some = central_interval(values, weights, level)
    if n >= 6:
        odd = central_interval(values[:, 1::2], torch.ones(n // 2, dtype=DOUBLE), level)
        assert torch.allclose(torch.stack(some), torch.stack(odd), atol=1e-6)


def test_no_weight_gives_no_interval():
    low, high = central_interval(torch.zeros(2, 5), torch.zeros(2, 5), 0.9)
    assert low.isnan().all() and high.isnan().all()


# Consistency --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_every_posterior_says_whether_the_data_are_consistent_with_it():
    y = torch.tensor([[0.6, 0.8], [3.0, 3.0]], dtype=DOUBLE)  # on the circle, and far from it
    with pytest.warns(UserWarning, match=r"posterior of measurements \[1\] is not to be relied on"):
        found = find_posterior(lambda x: x, y, Circle(), fidelity=Gaussian(0.1))
    assert found.consistent.tolist() == [True, False]
    assert found.p_value[0] > 0.5 and found.p_value[1] < 1e-6
    solution = solve(lambda x: x, y, Circle(), fidelity=Gaussian(0.1))
    assert torch.allclose(found.p_value, solution.p_value, rtol=0, atol=1e-6)
    samples = sample_posterior(solution, draws=10, chains=1, warmup=2, approximation=found)
    assert samples.consistent.tolist() == [True, False]
    assert [line.split()[-1] for line in samples.summary().splitlines()[1:3]] == ["yes", "no"]


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
        ({"draws": 0}, "draws has to be at least 4, got 0"),
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
