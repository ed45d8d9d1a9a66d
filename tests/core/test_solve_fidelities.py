"""solve() with each data term."""

import pytest
import torch
from analytic_priors import Affine, Sphere

from onmanifold import (
    LBFGS,
    CorrelatedGaussian,
    FunctionFidelity,
    Gaussian,
    LevenbergMarquardt,
    Poisson,
    RiemannianGradientDescent,
    StudentT,
    p_value,
    solve,
)

SIZE = 60


def generator(seed=4):
    return torch.Generator().manual_seed(seed)


def points(prior, n=4):
    point = prior.sample(n, 1)
    return prior.decode(point)


def identity(x):
    return x


def noise(n=4):
    return torch.randn((n, SIZE), generator=generator(), dtype=torch.float64)


def errors(y, truth, prior, operator=identity, **options):
    x = solve(operator, y, prior, **options).x
    return (x - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)


def test_outliers_bend_the_gaussian_result_and_not_the_student_one():
    """A tenth of the entries grossly wrong: a twentieth of the error that least squares make."""
    prior = Affine(dim=3, size=SIZE)
    truth = points(prior)
    y = truth + 0.01 * noise()
    y[:, torch.randperm(SIZE, generator=generator(5))[:6]] += 5.0
    bent, straight = (
        errors(y, truth, prior, fidelity=f) for f in (Gaussian(0.01), StudentT(0.01, df=3))
    )
    assert (bent > 0.05).all()
    assert (straight < 0.005).all() and (straight < bent / 20).all()


def test_a_known_covariance_removes_what_errors_have_in_common():
    prior = Affine(dim=3, size=SIZE)
    truth = points(prior)
    factor = torch.randn((SIZE, 2), generator=generator(5), dtype=torch.float64)
    common = torch.randn((4, 2), generator=generator(6), dtype=torch.float64)
    y = truth + 0.01 * noise() + common @ factor.T
    full = 1e-4 * torch.eye(SIZE) + factor @ factor.T
    mask = torch.arange(SIZE) % 5 > 0
    blind = errors(y, truth, prior, fidelity=Gaussian(1.0, mask))
    fidelities = CorrelatedGaussian(full, mask), CorrelatedGaussian.low_rank(0.01, factor, mask)
    for fidelity in fidelities:
        seeing = errors(y, truth, prior, fidelity=fidelity)
        assert (seeing < 0.01).all() and (seeing < blind / 10).all()


def brightness(x):
    return (0.4 * x).exp()


def test_counts_tell_more_to_poisson_than_to_gaussian():
    """Means from 0.1 to 10: by the counts' own variances, or by one for all, the error is larger."""
    prior = Affine(dim=3, size=SIZE)
    truth = points(prior, 40)
    y = torch.poisson(brightness(truth), generator=generator())
    of_counts = Gaussian(y.clamp(min=1.0).sqrt())
    fidelities = (Poisson(), of_counts, Gaussian(float(y.mean().sqrt())))
    found = [errors(y, truth, prior, brightness, fidelity=f) for f in fidelities]
    poisson, weighted, equal = (float(e.square().mean().sqrt()) for e in found)
    assert poisson < 0.9 * weighted and poisson < 0.9 * equal


def test_poisson_starts_where_the_model_predicts_less_than_nothing():
    """Most samples of the prior are negative somewhere, and so is the truth, a little."""
    prior = Affine(dim=3, size=SIZE)
    prior.centre.fill_(3.0)
    truth = points(prior, 20)
    y = torch.poisson(100 * truth.clamp(min=0), generator=generator())
    dark = truth < 0
    assert dark.any(1).sum() >= 10 and truth.min() < -0.5
    solution = solve(identity, y, prior, fidelity=Poisson(100.0, mask=~dark))
    assert solution.converged.all() and solution.objective.isfinite().all()
    error = (solution.x - truth).norm(dim=1) / truth.norm(dim=1)
    assert error.max() < 0.05
    assert (p_value(solution.problem.fidelity, solution.misfit, y) > 0.001).all()


METHODS = [LevenbergMarquardt(), LBFGS(), RiemannianGradientDescent()]
PHIS = {
    "squares": lambda p, y: 50 * (p - y).square().sum(1),
    "distances": lambda p, y: (p - y).abs().sum(1),  # no curvature anywhere
    "cauchy": lambda p, y: (1 + ((p - y) / 0.05).square()).log().sum(1),  # concave far away
    "welsch": lambda p, y: 100 * (1 - (-4 * (p - y).square()).exp()).sum(1),
    "angle": lambda p, y: 100 * (1 - torch.cosine_similarity(p, y)),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("phi", PHIS)
def test_a_function_is_a_fidelity(phi, method):
    prior = Sphere()
    truth = points(prior, 3)
    y = truth.flatten(1) + 0.01 * noise(3)[:, :3]
    solution = solve(
        lambda x: x.flatten(1),
        y,
        prior,
        fidelity=PHIS[phi],
        method=method,
        starts=2,
        prior_weight=0,
    )
    assert (solution.x - truth).flatten(1).norm(dim=1).max() < 0.03
    assert solution.expected_misfit.isnan().all()
    if phi != "distances":  # at a kink a descent may zigzag
        assert solution.converged.all()


def test_a_function_gives_what_the_class_gives():
    prior = Affine(dim=3, size=SIZE)
    y = points(prior) + 0.1 * noise()
    mask = torch.rand((4, SIZE), generator=generator(9)) > 0.3

    def phi(p, y):
        return 50 * (p - y).square().sum(1)

    by_class = solve(identity, y, prior, fidelity=Gaussian(0.1, mask))
    by_function = solve(identity, y, prior, fidelity=FunctionFidelity(phi, mask))
    torch.testing.assert_close(by_class.x, by_function.x)
    torch.testing.assert_close(by_class.misfit, by_function.misfit)


class Own:
    """A user's fidelity, which does not know its deviation."""

    def bind(self, measurement):
        return self

    def select(self, rows):
        return self

    def value(self, prediction, measurement):
        return 50 * (prediction - measurement).square().sum(1)

    def gradient(self, prediction, measurement):
        return 100 * (prediction - measurement)

    def curvature(self, prediction, measurement, tangents):
        return 100 * tangents

    def expected(self, measurement):
        return measurement.new_full((len(measurement),), SIZE / 2)


def test_a_users_class_needs_no_deviation():
    prior = Affine(dim=3, size=SIZE)
    y = points(prior) + 0.1 * noise()
    own, normal = (solve(identity, y, prior, fidelity=f) for f in (Own(), Gaussian(0.1)))
    torch.testing.assert_close(own.x, normal.x)
    assert p_value(Own(), own.misfit, y).isnan().all()


def test_p_values_of_a_solution_tell_a_wrong_noise_level():
    prior = Affine(dim=3, size=SIZE)
    y = points(prior) + 0.1 * noise()
    right, wrong = (solve(identity, y, prior, fidelity=Gaussian(s)) for s in (0.1, 0.06))
    p = [p_value(s.problem.fidelity, s.misfit, s.measurement) for s in (right, wrong)]
    assert (p[0] > 0.05).all() and (p[1] < 1e-3).all()


@pytest.mark.parametrize(
    "fidelity", [Gaussian(torch.ones(SIZE)), StudentT(0.1), Poisson(2.0)], ids=str
)
def test_a_bound_fidelity_serves_again(fidelity):
    prior = Affine(dim=3, size=SIZE)
    y = points(prior).abs()
    first = solve(identity, y, prior, fidelity=fidelity)
    again = solve(identity, y, prior, fidelity=first.problem.fidelity)
    assert torch.equal(first.objective, again.objective)
