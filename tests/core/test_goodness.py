"""What a misfit is under noise alone: its mean, its deviation, and p-values."""

import pytest
import torch
from scipy import stats

from onmanifold import CorrelatedGaussian, FunctionFidelity, Gaussian, Poisson, StudentT, p_value

SIZE, MANY = 60, 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape):
    return torch.randn(shape, generator=generator(), dtype=torch.float64)


def student(df):
    halves = torch.full((MANY, SIZE), df / 2, dtype=torch.float64)
    chi = 2 * torch._standard_gamma(halves, generator=generator(1))
    return normal(MANY, SIZE) / (chi / df).sqrt()


def covariance():
    root = torch.randn((SIZE, SIZE), generator=generator(2), dtype=torch.float64)
    return root @ root.T / SIZE + 0.1 * torch.eye(SIZE)


def means():
    """Of counts, from hardly any to many."""
    return torch.logspace(-1.0, 1.5, SIZE, dtype=torch.float64)


def noisy(name):
    """A fidelity, the prediction of the truth, and many measurements of it."""
    mask = torch.arange(SIZE) % 3 > 0
    if name.startswith("student"):
        df = float(name.split()[1])
        return StudentT(0.7, mask, df), torch.zeros(SIZE).double(), 0.7 * student(df)
    if name == "poisson":
        counts = torch.poisson((2 * means() + 0.3).expand(MANY, -1), generator=generator())
        return Poisson(2.0, 0.3, mask), means(), counts
    zero, noise = torch.zeros(SIZE).double(), normal(MANY, SIZE)
    if name == "gaussian":
        return Gaussian(0.7, mask), zero, 0.7 * noise
    if name == "correlated":
        noise = noise @ torch.linalg.cholesky(covariance()).T
        return CorrelatedGaussian(covariance(), mask), zero, noise
    factor = torch.randn((SIZE, 2), generator=generator(3), dtype=torch.float64)
    scale = torch.randn((MANY, 2), generator=generator(4), dtype=torch.float64)
    return CorrelatedGaussian.low_rank(0.7, factor, mask), zero, 0.7 * noise + scale @ factor.T


NAMES = ["gaussian", "correlated", "low rank", "student 1", "student 4", "student 30", "poisson"]


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_over_the_noise(name):
    fidelity, truth, y = noisy(name)
    bound = fidelity.bind(y)
    value, expected = bound.value(truth.expand_as(y), y), bound.expected(y)
    deviation = bound.deviation(y)
    assert expected.shape == deviation.shape == (MANY,)
    surprise = (value - expected) / deviation.square().mean().sqrt()
    assert abs(surprise.mean().item()) < (0.1 if name == "poisson" else 4 / MANY**0.5)
    assert surprise.std().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_p_values_are_uniform_under_noise(name):
    fidelity, truth, y = noisy(name)
    bound = fidelity.bind(y)
    p = p_value(bound, bound.value(truth.expand_as(y), y), y)
    distance, significance = stats.kstest(p.numpy(), "uniform")
    if name in ("gaussian", "correlated", "low rank"):
        assert significance > 0.01
    assert distance < 0.05


def test_gaussian_p_values_are_the_tail_of_chi_square():
    misfit = torch.tensor([0.0, 10.0, 30.0, 60.0, 200.0], dtype=torch.float64)
    for y, rtol in ((torch.zeros(5, SIZE).double(), 1e-8), (torch.zeros(5, SIZE), 1e-4)):
        p = p_value(Gaussian(), misfit.to(y), y)
        assert p.dtype == y.dtype
        wanted = torch.from_numpy(stats.chi2.sf(2 * misfit.numpy(), SIZE))
        torch.testing.assert_close(p, wanted.to(y), rtol=rtol, atol=0)


def test_a_wrong_noise_level_shows():
    y = normal(50, SIZE)
    value = Gaussian(0.7).value(torch.zeros_like(y), y)
    assert (p_value(Gaussian(0.7), value, y) < 0.05).float().mean() > 0.9


def test_p_values_are_unknown_where_the_moments_are():
    y = torch.zeros(2, 3)
    function = FunctionFidelity(lambda p, y: (p - y).abs().sum(1)).bind(y)
    assert p_value(function, torch.ones(2), y).isnan().all()

    class WithoutDeviation:
        expected = staticmethod(lambda y: torch.ones(len(y)))

    assert p_value(WithoutDeviation(), torch.ones(2), y).isnan().all()


@pytest.mark.parametrize("mean", [0.0, 0.02, 0.1, 0.3, 0.7, 1.5, 3.0, 7.0, 20.0, 45.0, 1000.0])
def test_poisson_moments_for_each_mean(mean):
    """Summed over the distribution: the estimate's bias, and the deviation about the estimate."""
    most = int(mean + 12 * mean**0.5 + 20)
    y = torch.arange(most, dtype=torch.float64).unsqueeze(1)
    weight = torch.from_numpy(stats.poisson.pmf(y[:, 0].numpy(), mean))
    bound = Poisson().bind(y)
    error = bound.value(torch.full_like(y, mean), y) - bound.expected(y)
    bias = (weight @ error).item()
    assert abs(bias) < 0.01
    deviation = (weight @ error.square() - bias**2).sqrt()
    claimed = (weight @ bound.deviation(y).square()).sqrt()
    assert claimed >= 0.9 * deviation
    if mean >= 0.5:
        assert claimed <= 1.1 * deviation
