"""The score test: p-values under the noise, and off the manifold."""

import pytest
import torch
from analytic_priors import Affine, Circle
from descent_cases import randn

from onmanifold import CorrelatedGaussian, Gaussian, Poisson, StudentT, score_test, solve
from onmanifold.prior import Point

MANY = 600


def measured(name, off=0.0):
    """Truths of an affine manifold, measured by a smooth operator; its fidelity, and the measurements."""
    prior = Affine()
    truth = prior.sample(MANY, 0)
    x = prior.decode(truth) + off * randn(MANY, 6, seed=1)
    matrix = randn(40, 6, seed=2) * torch.tensor([1.0, 1.0, 0.5, 0.2, 0.05, 0.01]).double()
    source = torch.Generator().manual_seed(3)
    if name == "poisson":
        rates = (x @ matrix.T).exp() * 20
        return prior, lambda x: (x @ matrix.T).exp(), Poisson(20.0), torch.poisson(rates, source)
    noise = 0.2 * randn(MANY, 40, seed=3)
    if name == "gaussian":
        return prior, lambda x: x @ matrix.T, Gaussian(0.2), x @ matrix.T + noise
    factor = randn(40, 2, seed=4)
    y = x @ matrix.T + noise + randn(MANY, 2, seed=5) @ factor.T
    return prior, lambda x: x @ matrix.T, CorrelatedGaussian.low_rank(0.2, factor), y


@pytest.mark.parametrize("name", ["gaussian", "correlated", "poisson"])
def test_p_values_are_uniform_under_the_noise(name):
    prior, operator, fidelity, y = measured(name)
    p = score_test(solve(operator, y, prior, fidelity=fidelity, prior_weight=0.0))
    for level in (0.05, 0.2, 0.5):
        share = float((p < level).double().mean())
        assert abs(share - level) < 4 * (level * (1 - level) / MANY) ** 0.5 + 0.01


def test_it_is_the_gamma_law_of_the_exact_moments():
    prior, operator, fidelity, y = measured("gaussian")
    solution = solve(operator, y[:5], prior, fidelity=fidelity)
    forward = operator(torch.eye(6).double()).T / 0.2
    tangent = forward @ prior.matrix
    off = torch.eye(40).double() - tangent @ torch.linalg.pinv(tangent)
    eigenvalues = torch.linalg.eigvalsh(forward.T @ off @ forward)
    residual = (operator(solution.x) - y[:5]) / 0.2
    square = (residual @ off @ forward).square().sum(1)
    mean, half = eigenvalues.sum(), eigenvalues.square().sum()
    expected = torch.special.gammaincc(mean**2 / (2 * half), mean * square / (2 * half))
    assert torch.allclose(score_test(solution), expected, atol=1e-8)


def test_it_sees_what_drowns_in_the_noise_of_many_entries():
    prior = Affine()
    matrix = torch.zeros(4000, 6).double()
    matrix[:6] = torch.eye(6)
    truth = prior.decode(Point(torch.zeros(20).long(), prior.sample(20, 0).z))
    away = randn(20, 6, seed=1)
    away = 0.6 * (away - away @ prior.matrix @ torch.linalg.pinv(prior.matrix))
    y = torch.cat([truth, truth + away]) @ matrix.T + 0.1 * randn(40, 4000, seed=2)
    solution = solve(lambda x: x @ matrix.T, y, prior, fidelity=Gaussian(0.1))
    genuine, wrong = (score_test(solution) < 0.01).view(2, 20).sum(1).tolist()
    assert genuine <= 1
    assert wrong >= 18
    assert int((~solution.consistent[20:]).sum()) < 10


def test_it_is_the_same_for_each_measurement_alone():
    prior, operator, fidelity, y = measured("gaussian", off=0.3)
    together = score_test(solve(operator, y[:4], prior, fidelity=fidelity))
    alone = [score_test(solve(operator, y[b : b + 1], prior, fidelity=fidelity)) for b in range(4)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_a_few_probes_of_many_entries_are_close():
    prior = Circle()
    decay = torch.linspace(0, 6, 300).double().neg().exp()
    spread = randn(300, 2, seed=1)
    lifted = Lifted(prior, spread)
    y = (
        lifted.decode(Point(torch.zeros(8).long(), torch.linspace(-1, 1, 8).double()[:, None]))
        * decay
    )
    y = y + 0.1 * randn(8, 300, seed=2)
    solution = solve(lambda x: x * decay, y, lifted, fidelity=Gaussian(0.1))
    assert (score_test(solution) - score_test(solution, probes=300)).abs().max() < 0.1


class Lifted(Circle):
    """The circle in a space of many dimensions."""

    def __init__(self, circle, spread):
        super().__init__()
        self.circle, self.spread, self.x_shape = circle, spread, (len(spread),)

    def decode_chart(self, z, chart):
        return self.circle.decode_chart(z, chart) @ self.spread.T

    def encode_chart(self, x, chart):
        return self.circle.encode_chart(x @ torch.linalg.pinv(self.spread).T, chart)

    def responsibilities(self, x):
        return self.circle.responsibilities(x @ torch.linalg.pinv(self.spread).T)


def test_nothing_to_be_seen_off_the_manifold_is_nan():
    y = torch.tensor([[0.3]]).double()
    assert score_test(solve(lambda x: x[:, :1], y, Circle(), fidelity=Gaussian(0.1))).isnan()


def test_what_has_no_score_is_refused():
    y = torch.ones(1, 2).double()
    with pytest.raises(ValueError, match="has none"):
        score_test(solve(lambda x: x, y, Circle()))
    with pytest.raises(ValueError, match="StudentT"):
        score_test(solve(lambda x: x, y, Circle(), fidelity=StudentT(0.5)))
    solution = solve(lambda x: x, y, Circle(), fidelity=Gaussian(0.5))
    with pytest.raises(ValueError, match="probes"):
        score_test(solution, probes=0)
