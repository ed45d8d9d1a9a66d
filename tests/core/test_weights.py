"""Rules that choose the weight of the latent density."""

import pytest
import torch
from analytic_priors import Affine, Circle
from descent_cases import randn

from onmanifold import ByDiscrepancy, ByLCurve, Gaussian, solve


def blurred(n=6, std=0.3, seed=0):
    """Ill-posed: the coordinates' density has to help."""
    prior = Affine(dim=8, size=12)
    scales = torch.logspace(0, -3, 12, dtype=torch.float64)
    truth = prior.sample(n, seed)
    x = prior.decode(truth)
    return prior, lambda x: x * scales, x, x * scales + std * randn(n, 12, seed=seed + 1)


def test_each_measurement_has_its_weight():
    prior, operator, _, y = blurred()
    weights = torch.tensor([0.0, 0.1, 0.5, 1.0, 3.0, 10.0]).double()
    together = solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=weights)
    for b in range(6):
        alone = solve(
            operator, y[b : b + 1], prior, fidelity=Gaussian(0.3), prior_weight=float(weights[b])
        )
        assert torch.allclose(together.x[b], alone.x[0], atol=1e-4)
        assert torch.allclose(together.objective[b], alone.objective[0])


def test_discrepancy_brings_the_misfit_to_the_noise():
    prior, operator, _, y = blurred()
    rule = ByDiscrepancy(rounds=14)
    solution = solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=rule)
    weight = solution.problem.prior_weight
    inner = (weight > 2e-4) & (weight < 5e3)
    assert inner.sum() >= 4
    assert torch.allclose(solution.misfit[inner], solution.expected_misfit[inner], rtol=0.02)
    assert (solution.misfit <= solution.expected_misfit * 1.001)[weight > 2e-4].all()


def test_what_cannot_be_explained_gets_the_smallest_weight():
    y = torch.tensor([[5.0, 0.0], [0.99, 0.1]], dtype=torch.float64)
    solution = solve(lambda x: x, y, Circle(), fidelity=Gaussian(0.1), prior_weight=ByDiscrepancy())
    assert solution.problem.prior_weight[0] == pytest.approx(1e-4)
    assert solution.problem.prior_weight[1] > 1e3  # a flat density: any weight explains it


def test_the_corner_of_the_l_curve_is_near_the_best_weight():
    prior, operator, truth, y = blurred(n=20)
    chosen = solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=ByLCurve())
    error = (chosen.x - truth).norm(dim=1).mean()
    others = [
        (solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=w).x - truth)
        .norm(dim=1)
        .mean()
        for w in (1e-3, 1.0, 1e3)
    ]
    assert error < 0.5 * others[0]
    assert error < others[2]
    assert error < 1.5 * others[1]  # 1 is the right one, by Bayes


def test_calls_of_all_solutions_count():
    prior, operator, _, y = blurred()
    one = solve(operator, y, prior, fidelity=Gaussian(0.3))
    rule = solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=ByDiscrepancy(rounds=3))
    assert (rule.operator_calls >= one.operator_calls + 3).all()
    assert (rule.operator_calls < 2 * one.operator_calls).all()  # one start each, close to the end


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(3), "prior_weight has to hold 6 numbers"),
        (-torch.ones(6), "of at least 0"),
    ],
)
def test_bad_weights_are_refused(weight, message):
    prior, operator, _, y = blurred()
    with pytest.raises(ValueError, match=message):
        solve(operator, y, prior, fidelity=Gaussian(0.3), prior_weight=weight)


def test_discrepancy_needs_to_know_what_the_noise_leaves():
    prior, operator, _, y = blurred()
    rule = ByDiscrepancy()
    with pytest.raises(ValueError, match="does not know the misfit that noise causes"):
        solve(operator, y, prior, fidelity=lambda p, y: (p - y).square().sum(1), prior_weight=rule)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ByDiscrepancy(tau=0),
        lambda: ByDiscrepancy(low=2, high=1),
        lambda: ByLCurve(count=2),
        lambda: ByLCurve(low=-1.0),
    ],
)
def test_bad_rules_are_refused(make):
    with pytest.raises(ValueError, match=r"By\w+: "):
        make()
