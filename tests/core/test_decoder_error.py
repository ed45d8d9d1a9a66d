"""What a prior cannot show: its covariance, in data terms, p-values and standard deviations."""

import pytest
import torch
from analytic_priors import Circle

from onmanifold import (
    Autodiff,
    CorrelatedGaussian,
    DecoderError,
    Gaussian,
    InputError,
    OutsideDomain,
    StudentT,
    load_prior,
    measure_decoder_error,
    relax,
    save_prior,
    score_test,
    solve,
)
from onmanifold.fidelity.inexact import InexactModel, with_model_error
from onmanifold.operator import as_operator
from onmanifold.posterior import laplace, sample_posterior

N = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


class Beside(Circle):
    """A circle in the first two of N entries."""

    x_shape = (N,)

    def decode_chart(self, z, chart):
        return torch.nn.functional.pad(super().decode_chart(z, chart), (0, N - 2))

    def encode_chart(self, x, chart):
        return super().encode_chart(x[:, :2], chart)

    def responsibilities(self, x):
        return super().responsibilities(x[:, :2])


def examples(n, seed=0):
    """Genuine unknowns: a circle's points, and errors of one common direction and of each entry."""
    prior = Beside().double()
    common = torch.linspace(-1, 1, N, dtype=torch.float64)
    scale = torch.where(torch.rand(n, 1, generator=generator(seed)) < 0.5, 0.6, 1.4).double()
    error = 0.1 * normal(n, 1, seed=seed) * common + 0.05 * normal(n, N, seed=seed + 1)
    return prior, prior.decode(prior.sample(n, seed)) + scale * error


def test_the_fit_is_the_errors_covariance():
    axes = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    errors = normal(20_000, 2) @ axes + 0.1 * normal(20_000, 3, seed=1)
    error = DecoderError.of(errors, rank=2)
    covariance = error.factor.mT @ error.factor + torch.diag(error.rest.square())
    expected = axes.mT @ axes + 0.01 * torch.eye(3)
    torch.testing.assert_close(covariance, expected, atol=0.08, rtol=0)
    torch.testing.assert_close(error.variance, errors.square().mean(0))
    drawn = error.sample(20_000, 3)
    torch.testing.assert_close(drawn.T.cov(), expected, atol=0.12, rtol=0)


def test_scales_scatter_as_the_examples_do():
    alike = torch.ones(50, 4) * torch.tensor([1.0, -1.0]).repeat(25)[:, None]
    assert DecoderError.of(alike).scale_variance < 1e-10
    uneven = alike * torch.tensor([1.0, 1.0, 3.0, 3.0, 3.0]).repeat(10)[:, None]
    squares = torch.tensor([1.0, 1.0, 9.0, 9.0, 9.0])
    expected = (squares / squares.mean()).var(correction=0)
    torch.testing.assert_close(DecoderError.of(uneven).scale_variance, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("correlated", [False, True])
def test_misfits_are_those_of_the_sum_of_both_covariances(masked, correlated):
    y, p = normal(3, N), normal(3, N, seed=1)
    factor, std = normal(N, 2, seed=2), normal(N, seed=3).abs()
    mask = torch.rand(3, N, generator=generator(4)) < 0.7 if masked else None
    own = normal(N, 1, seed=5)
    noise = CorrelatedGaussian.low_rank(0.3, own, mask) if correlated else Gaussian(0.3, mask)
    both = with_model_error(noise.bind(y), y, factor, std, torch.tensor(0.5))
    assert isinstance(both, InexactModel)
    whole = 0.09 * torch.eye(N) + factor @ factor.mT + torch.diag(std.square())
    if correlated:
        whole = whole + own @ own.mT
    exact = CorrelatedGaussian(whole.double(), mask).bind(y)
    for name in ("value", "gradient"):
        torch.testing.assert_close(getattr(both, name)(p, y), getattr(exact, name)(p, y))
    torch.testing.assert_close(
        both.select(torch.tensor([2])).value(p[2:], y[2:]), exact.value(p, y)[2:]
    )
    assert bool((both.deviation(y) > exact.deviation(y)).all())


def test_what_the_noise_hides_changes_nothing():
    y = normal(2, N)
    noise = Gaussian(1.0).bind(y)
    tiny = 1e-3 * torch.ones(N, dtype=torch.float64)
    assert with_model_error(noise, y, tiny[:, None], tiny, torch.tensor(0.0)) is noise


def test_other_noise_is_left_as_it_is():
    y, one = normal(2, N), torch.ones(N, dtype=torch.float64)
    for noise in (StudentT(0.1).bind(y), CorrelatedGaussian(torch.eye(N)).bind(y)):
        assert with_model_error(noise, y, one[:, None], one, torch.tensor(0.0)) is noise


def test_a_linear_operator_sees_the_error_as_it_is():
    prior, x = examples(400)
    error = measure_decoder_error(prior, x, rank=2)
    matrix = normal(5, N, seed=6)
    operator = as_operator(lambda v: v @ matrix.mT, (N,), dtype=torch.float64)
    factor, std = error.measured(operator, prior.decode(prior.sample(8, 0)))
    expected = matrix @ error.factor.mT
    torch.testing.assert_close(factor @ factor.mT, expected @ expected.mT)
    exact = (matrix.square() @ error.rest.square()).sqrt()
    torch.testing.assert_close(std, exact, rtol=0.4, atol=0)


def test_an_operator_that_is_not_linear_sees_it_on_average():
    prior, x = examples(400)
    error = measure_decoder_error(prior, x, rank=2)
    operator = as_operator(lambda v: v + 0.5 * v.square(), (N,), dtype=torch.float64)
    factor, std = error.measured(operator, prior.decode(prior.sample(8, 0)))
    assert factor.shape == (N, 2) and std.shape == (N,)
    places = prior.decode(prior.sample(2000, 3))
    slopes = (1 + places).square().mean(0)
    found = factor.square().sum(1) + std.square()
    torch.testing.assert_close(found[2:], (slopes * error.variance)[2:], rtol=0.2, atol=0)


class RightHalf(Autodiff):
    """Shows unknowns as they are, those whose first entry is positive."""

    x_shape, y_shape, linear = (N,), (N,), False

    def A(self, x):
        left = x[:, 0] < 0
        if bool(left.any()):
            raise OutsideDomain("on the left", left)
        return x * 1


def test_places_outside_of_the_domain_do_not_count():
    prior, x = examples(400)
    prior.decoder_error = error = measure_decoder_error(prior, x, rank=2)
    places = torch.zeros(2, N, dtype=torch.float64)
    places[:, 0] = torch.tensor([1.0, -1.0])
    factor, _ = error.measured(RightHalf(), places)
    torch.testing.assert_close(factor @ factor.mT, error.factor.mT @ error.factor)
    assert error.measured(RightHalf(), places[1:]) is None
    start = prior.encode(places[:1], torch.zeros(1, dtype=torch.long))
    noise = Gaussian(0.05)
    solution = solve(RightHalf(), places[:1] + 0.02, prior, fidelity=noise, starts=start)
    assert bool(solution.consistent.all())


def test_noise_that_takes_no_error_of_the_model_asks_for_none(monkeypatch):
    prior, x = examples(400)
    prior.decoder_error = measure_decoder_error(prior, x, rank=2)
    monkeypatch.setattr(DecoderError, "measured", lambda *_: pytest.fail("it was measured"))
    solve(lambda v: v, x[:1], prior, fidelity=StudentT(0.1), starts=2)


def solved(count=200, std=0.05, **options):
    prior, x = examples(600)
    prior.decoder_error = measure_decoder_error(prior, x[:300], rank=2)
    x = x[300 : 300 + count]
    y = x + std * normal(len(x), N, seed=9)
    return x, solve(lambda v: v, y, prior, fidelity=Gaussian(std), starts=4, **options)


@pytest.mark.filterwarnings("ignore::onmanifold.InconsistentWarning")
def test_genuine_unknowns_are_consistent_and_others_are_not():
    _, known = solved()
    _, unknown = solved(decoder_error=False)
    assert known.consistent.double().mean() > 0.95
    assert unknown.consistent.double().mean() < 0.5
    prior = known.problem.prior
    far = prior.decode(prior.sample(5, 1)) + torch.nn.functional.pad(normal(5, 6), (6, 0))
    found = solve(lambda v: v, far, prior, fidelity=Gaussian(0.05), starts=4)
    assert not bool(found.consistent.any())


def test_standard_deviations_cover_what_the_manifold_cannot_show():
    x, solution = solved()
    approximation = laplace(solution)
    covered = (x - solution.x).abs() <= 2 * approximation.std()
    assert 0.90 < covered.double().mean() < 0.98  # two standard deviations of two scales: 0.93
    low, high = approximation.interval(0.9, draws=400)
    assert 0.86 < ((low <= x) & (x <= high)).double().mean() < 0.94


@pytest.mark.filterwarnings("ignore::onmanifold.posterior.NotMixed")
def test_so_do_those_of_draws():
    draws = sample_posterior(solved(2)[1], chains=2, draws=100, seed=0)
    assert bool((draws.std[:, 2:] > 0.04).all())


def test_an_error_of_full_scale_leaves_relax_and_score_test_as_they_were():
    x, solution = solved(20)
    _, plain = solved(20, decoder_error=False)
    ours, theirs = (relax(s, std=0.1) for s in (solution, plain))
    torch.testing.assert_close(ours.x, theirs.x, atol=1e-3, rtol=0)
    assert score_test(solution).shape == (20,)


def test_it_is_stored_with_the_weights(tmp_path):
    prior = load_prior("two-circles")
    assert prior.decoder_error is None
    prior.decoder_error = DecoderError.of(0.1 * torch.ones(5, 2) + torch.eye(5, 2), rank=1)
    save_prior(prior, tmp_path / "prior")
    again = load_prior(tmp_path / "prior")
    torch.testing.assert_close(again.decoder_error.variance, prior.decoder_error.variance)
    assert again.double().decoder_error.factor.dtype == torch.float64


def test_bad_examples_are_refused():
    prior, x = examples(3)
    with pytest.raises(InputError, match="shape"):
        measure_decoder_error(prior, x[:, :3])
    with pytest.raises(InputError, match="examples"):
        measure_decoder_error(prior, x[:1])
    with pytest.raises(InputError):
        measure_decoder_error(prior, x * torch.nan)
