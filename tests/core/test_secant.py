"""Levenberg-Marquardt steps whose tangents are updated by Broyden's formula."""

import pytest
import torch
from analytic_priors import Affine, Sphere
from descent_cases import problem_for, randn, simulated

from onmanifold import Gaussian, LevenbergMarquardt, MaxSteps, SmallDecrease
from onmanifold.descent import build_problem, descend
from onmanifold.descent.secant import secant_model

STOP = MaxSteps(60) | SmallDecrease(1e-12)


def test_the_update_agrees_with_the_step():
    prior = Sphere()
    problem = problem_for(prior, simulated(prior))
    before = problem.at(prior.sample(5, 9))
    model = problem.quadratic_model(before, keep_tangents=True)
    moved = 0.1 * randn(5, prior.dim, seed=3)
    after = problem.at(before.point.at(before.point.z + moved))
    updated = secant_model(problem, after, model, moved)
    change = (after.linearization.y - before.linearization.y).flatten(1)
    predicted = torch.einsum("bdm,bd->bm", updated.tangents, moved)
    assert torch.allclose(predicted, change)
    rows = updated.tangents / 0.05
    assert torch.allclose(updated.misfit_hessian, rows @ rows.mT)  # of the updated tangents
    residual = (after.linearization.y - problem.measurement).flatten(1) / 0.05
    assert torch.allclose(updated.misfit_gradient, (rows @ residual.unsqueeze(2)).squeeze(2))
    exact = problem.quadratic_model(after)
    assert torch.allclose(updated.penalty_gradient, exact.penalty_gradient)


def test_of_a_linear_operator_the_update_is_exact():
    prior, matrix = Affine(), randn(8, 6)
    problem = build_problem(lambda x: x @ matrix.T, randn(4, 8, seed=1), prior, Gaussian(0.3))
    before = problem.at(prior.sample(4, 0))
    moved = randn(4, prior.dim, seed=3)
    after = problem.at(before.point.at(before.point.z + moved))
    model = problem.quadratic_model(before, keep_tangents=True)
    updated = secant_model(problem, after, model, moved)
    exact = problem.quadratic_model(after, keep_tangents=True)
    for name in ("misfit_gradient", "misfit_hessian", "tangents", "prediction"):
        assert torch.allclose(getattr(updated, name), getattr(exact, name), atol=1e-8)


@pytest.mark.parametrize("secant", [1, 4])
def test_minima_are_the_same_by_fewer_tangents(secant, monkeypatch):
    prior = Sphere()
    problem, start = problem_for(prior, simulated(prior)), prior.sample(5, 9)
    asked = []
    exact = type(problem).quadratic_model

    def counted(problem, trial, keep_tangents=False):
        asked.append(len(trial.point))
        return exact(problem, trial, keep_tangents)

    monkeypatch.setattr(type(problem), "quadratic_model", counted)
    whole = descend(problem, LevenbergMarquardt(), STOP, start)
    without, asked[:] = sum(asked), []
    descent = descend(problem, LevenbergMarquardt(secant=secant), STOP, start)
    assert torch.allclose(descent.state.objective, whole.state.objective, rtol=1e-6)
    assert sum(asked) < without
    assert (descent.state.age <= secant).all()


@pytest.mark.parametrize("secant", [-1, 0.5])
def test_the_number_of_steps_is_checked(secant):
    with pytest.raises(ValueError, match="LevenbergMarquardt: secant"):
        LevenbergMarquardt(secant=secant)
