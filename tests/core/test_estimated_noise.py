"""Noise of unknown size, estimated with the solution."""

import pytest
import torch
from analytic_priors import Affine
from test_decoder_error import Beside, N, examples

from onmanifold import (
    ByDiscrepancy,
    DecoderError,
    EstimatedGaussian,
    EstimatedPoisson,
    Gaussian,
    InputError,
    Solution,
    relax,
    score_test,
    solve,
)
from onmanifold.fidelity.joint import Joint
from onmanifold.posterior import find_posterior, laplace, sample_posterior
from onmanifold.priors.scene import Arrangement, RadialOutlines, Scene

FLOAT = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def problems(std, count=50, entries=60):
    """Unknowns of an affine manifold of 3 dimensions, their measurements by a matrix, and its operator."""
    prior, matrix = Affine(dim=3, size=20), normal(20, entries)
    x = prior.decode(prior.sample(count, 0))
    return prior, x, x @ matrix + std * normal(count, entries, seed=1), lambda x: x @ matrix


def rms(values):
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("std", [0.02, 0.3, 1.5])
@pytest.mark.parametrize("masked", [False, True])
def test_the_level_is_found_and_the_reconstruction_as_good_as_with_it(std, masked):
    prior, x, y, operator = problems(std)
    mask = torch.arange(60) % 3 != 0 if masked else None
    y = y if mask is None else torch.where(mask, y, 1e6)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(mask=mask), starts=2)
    known = solve(operator, y, prior, fidelity=Gaussian(std, mask), starts=2)
    assert rms(found.noise_std) == pytest.approx(
        std, rel=0.05
    )  # without a correction 4 % too small
    free = (60 if mask is None else 40) - 3
    assert float((found.noise_std / std).std()) < 1.3 / (2 * free) ** 0.5  # as chi-square scatters
    assert rms(found.x - x) == pytest.approx(rms(known.x - x), rel=0.03)
    assert found.noise_gain is None and known.noise_std is None


def test_degrees_of_freedom_of_the_solution_are_taken_off():
    """With 6 entries and 3 dimensions half of the residual is fitted away."""
    prior, _, y, operator = problems(0.05, count=400, entries=6)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=1)
    assert rms(found.noise_std) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("guess", [None, 1e-4, 100.0])
def test_the_first_guess_matters_little(guess):
    prior, _, y, operator = problems(0.3, count=3)
    best = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=2).noise_std
    other = solve(operator, y, prior, fidelity=EstimatedGaussian(guess), starts=2).noise_std
    assert torch.allclose(other, best, rtol=0.02)


def test_beside_a_decoder_error():
    prior, x = examples(50, seed=3)
    _, more = examples(2000, seed=8)
    nearest = prior.project(more, torch.zeros(len(more), dtype=torch.long))
    prior.decoder_error = DecoderError.of(more - nearest)
    matrix = normal(N, 80)
    y = x @ matrix + 0.05 * normal(50, 80, seed=2)
    found = solve(lambda x: x @ matrix, y, prior, fidelity=EstimatedGaussian(), starts=4)
    assert rms(found.noise_std) == pytest.approx(0.05, rel=0.05)
    without = Beside().double()
    alone = solve(lambda x: x @ matrix, y, without, fidelity=EstimatedGaussian(), starts=4)
    assert rms(alone.noise_std) > 3 * 0.05  # takes the decoder's error for noise
    assert found.p_value.isnan().all()


def test_gain_and_noise_of_counts():
    prior, ramp, matrix = (
        Affine(dim=3, size=20),
        torch.linspace(1, 400, 400).double(),
        normal(20, 400),
    )

    def operator(x):
        return ramp * (1 + 0.1 * torch.tanh(x @ matrix / 20))

    x = prior.decode(prior.sample(50, 0))
    mean, source = operator(x), torch.Generator().manual_seed(0)
    y = 2 * torch.poisson(mean / 2, generator=source) + 5 * normal(50, 400, seed=2)
    found = solve(operator, y, prior, fidelity=EstimatedPoisson(), starts=2)
    true = Gaussian((2 * mean + 25).sqrt())
    known = solve(operator, y, prior, fidelity=true, starts=2)
    assert float(found.noise_gain.mean()) == pytest.approx(2, rel=0.1)
    assert rms(found.noise_std) == pytest.approx(5, rel=0.1)
    assert rms(found.x - x) == pytest.approx(rms(known.x - x), rel=0.05)
    assert "gain of counts estimated" in found.summary()


def test_consistency_is_unknown_and_posteriors_use_the_estimate(tmp_path):
    prior, _, y, operator = problems(0.3, count=3)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=2)
    assert found.p_value.isnan().all() and found.consistent.all()
    text = found.summary()
    assert "noise std" in text and "unknown" in text and "no p-value" in text
    level = found.noise_std.view(-1, 1).expand_as(y)
    known = solve(operator, y, prior, fidelity=Gaussian(level), starts=2)
    torch.testing.assert_close(laplace(found).std(), laplace(known).std(), rtol=1e-3, atol=1e-6)
    assert laplace(found).p_value.isnan().all()
    assert torch.isfinite(score_test(found)).all()
    assert relax(found, 0.1).x.shape == found.x.shape
    found.save(tmp_path / "s")
    assert torch.equal(Solution.load(tmp_path / "s").noise_std, found.noise_std)
    assert torch.equal(found.select(torch.tensor([2])).noise_std, found.noise_std[2:])
    titles = [ax.get_title() for ax in found.plot(rows=1).axes]
    assert "standard deviation" in titles


def test_samples_use_the_estimate():
    pytest.importorskip("arviz_stats")
    prior, _, y, operator = problems(0.3, count=1)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=2)
    samples = sample_posterior(found, draws=200, chains=4, warmup=50)
    torch.testing.assert_close(samples.std, laplace(found).std(), rtol=0.2, atol=1e-4)


def test_the_search_for_the_level_counts_its_calls():
    prior, _, y, operator = problems(0.3, count=2)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=2)
    known = solve(operator, y, prior, fidelity=Gaussian(0.3), starts=2)
    assert (found.operator_calls > known.operator_calls).all()


def test_measurements_without_noise():
    prior, x, y, operator = problems(0.0, count=3)
    found = solve(operator, y, prior, fidelity=EstimatedGaussian(), starts=2)
    assert (found.noise_std < 1e-4 * y.std()).all() and rms(found.x - x) < 1e-3


@pytest.mark.parametrize("kind", [EstimatedGaussian, EstimatedPoisson])
def test_too_few_entries_are_refused(kind):
    prior, _, y, operator = problems(0.1, count=2, entries=3)
    with pytest.raises(InputError, match=r"3 entries, the manifold 3 dimensions"):
        solve(operator, y, prior, fidelity=kind())
    prior, _, y, operator = problems(0.1, count=2)
    few = torch.arange(60) < 3
    with pytest.raises(InputError, match="nothing is left to tell the noise from"):
        solve(operator, y, prior, fidelity=kind(mask=few))


def test_bad_arguments_are_refused():
    prior, _, y, operator = problems(0.1, count=2)
    with pytest.raises(InputError, match="std has to be positive"):
        EstimatedGaussian(-1.0)
    with pytest.raises(TypeError, match="mask has to be a boolean tensor"):
        EstimatedGaussian(mask=torch.ones(60))
    with pytest.raises(InputError, match="leave out one of them"):
        solve(operator, y, prior, fidelity=EstimatedGaussian(), prior_weight=ByDiscrepancy())
    with pytest.raises(InputError, match="estimate it from each measurement alone"):
        Joint((EstimatedGaussian(), Gaussian(1.0)), ((2,), (3,)))
    with pytest.raises(InputError, match="mask has shape"):
        solve(operator, y, prior, fidelity=EstimatedGaussian(mask=torch.ones(7).bool()))


def test_a_search_for_modes_needs_a_level():
    scene = Scene(RadialOutlines(3), size=24, arrangement=Arrangement(counts=(1, 1, 1)))
    y = scene.decode(scene.sample(1, 0))
    with pytest.raises(InputError, match=r"estimate it first, solution = solve"):
        find_posterior(lambda x: x, y, scene, fidelity=EstimatedGaussian())
