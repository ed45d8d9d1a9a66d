"""Reconstructions a little off the manifold."""

import pytest
import torch
from analytic_priors import Affine, Circle
from descent_cases import randn

from onmanifold import Gaussian, StudentT, relax, relaxation, solve


def off_the_manifold(n=4, std=0.2, seed=0):
    prior = Affine()
    truth = prior.sample(n, seed)
    x = prior.decode(truth) + std * randn(n, 6, seed=seed + 1)
    matrix = randn(5, 6, seed=7)
    return prior, matrix, x, x @ matrix.T + 0.1 * randn(n, 5, seed=seed + 2)


def analytic(prior, matrix, y, noise, std):
    """z and w by the normal equations."""
    d, n = prior.dim, 6
    both = torch.cat([prior.matrix, torch.eye(n, dtype=torch.float64)], dim=1)
    forward = matrix @ both / noise
    price = torch.diag(torch.cat([torch.ones(d), torch.full((n,), std**-2)]).double())
    right = (y - matrix @ prior.centre) / noise @ forward
    found = torch.linalg.solve(forward.T @ forward + price, right.T).T
    return found[:, :d], found[:, d:]


@pytest.mark.parametrize("dense", [True, False])
def test_linear_problems_have_the_analytic_answer(dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(relaxation, "_DENSE", 0)
    prior, matrix, _, y = off_the_manifold()
    solution = solve(lambda x: x @ matrix.T, y, prior, fidelity=Gaussian(0.1))
    relaxed = relax(solution, std=0.2, rounds=12)
    z, w = analytic(prior, matrix, y, 0.1, 0.2)
    assert torch.allclose(relaxed.point.z, z, atol=1e-5)
    assert torch.allclose(relaxed.off, w, atol=1e-5)
    assert torch.allclose(relaxed.x, relaxed.on + relaxed.off)
    residual = (relaxed.x @ matrix.T - y) / 0.1
    assert torch.allclose(relaxed.misfit, 0.5 * residual.square().sum(1))


def test_it_comes_nearer_to_a_truth_off_the_manifold():
    prior, matrix, x, y = off_the_manifold(n=50)
    solution = solve(lambda x: x @ matrix.T, y, prior, fidelity=Gaussian(0.1))
    relaxed = relax(solution, std=0.2)
    before, after = ((found.x - x).norm(dim=1).mean() for found in (solution, relaxed))
    assert after < 0.8 * before
    assert (relaxed.misfit < solution.misfit).all()


def test_missing_entries_do_not_count():
    prior, matrix, _, y = off_the_manifold()
    mask = torch.tensor([True, True, False, True, True])
    some = solve(lambda x: x @ matrix[mask].T, y[:, mask], prior, fidelity=Gaussian(0.1))
    whole = solve(
        lambda x: x @ matrix.T, torch.where(mask, y, 1e3), prior, fidelity=Gaussian(0.1, mask)
    )
    assert torch.allclose(relax(some, 0.2).x, relax(whole, 0.2).x, atol=1e-5)


def test_a_nonlinear_operator_ends_stationary_in_w():
    def operator(x):
        return torch.cat([x + 0.3 * x.square(), x.prod(dim=1, keepdim=True)], dim=1)

    y = torch.tensor([[1.5, 0.9, 0.3], [-0.8, 0.2, 0.0]], dtype=torch.float64)
    solution = solve(operator, y, Circle(), fidelity=Gaussian(0.1), prior_weight=0.0)
    relaxed = relax(solution, std=0.1, rounds=30)

    def objective(w):
        return ((operator(relaxed.on + w) - y).square().sum() / 0.01 + w.square().sum() / 0.01) / 2

    slope = torch.func.grad(objective)(relaxed.off)
    assert slope.norm() < 1e-5 * torch.func.grad(objective)(torch.zeros_like(relaxed.off)).norm()
    assert (relaxed.objective < solution.objective).all()


def test_a_small_price_range_stays_on_the_manifold():
    prior, matrix, _, y = off_the_manifold()
    solution = solve(lambda x: x @ matrix.T, y, prior, fidelity=Gaussian(0.1))
    assert relax(solution, std=1e-6).off.abs().max() < 1e-6
    std = torch.tensor([1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 0.3])
    off = relax(solution, std=std).off
    assert off[:, :5].abs().max() < 1e-6 < off[:, 5].abs().min()


def test_bad_input_is_refused():
    prior, matrix, _, y = off_the_manifold()
    solution = solve(lambda x: x @ matrix.T, y, prior, fidelity=Gaussian(0.1))
    for std in (0.0, -1.0, torch.nan, torch.ones(7)):
        with pytest.raises(ValueError, match="relax: std"):
            relax(solution, std)
    with pytest.raises(ValueError, match="relax: rounds"):
        relax(solution, 0.1, rounds=0)
    heavy = solve(lambda x: x @ matrix.T, y, prior, fidelity=StudentT(0.1))
    with pytest.raises(ValueError, match="StudentT"):
        relax(heavy, 0.1)
