"""Quadratic models, the model of the objective, the step that it makes."""

import math

import pytest
import torch
from analytic_priors import ANALYTIC, Affine, Circle, Sphere
from descent_cases import problem_for, randn, simulated, warp

from onmanifold import (
    Gaussian,
    Point,
)
from onmanifold.descent import build_problem
from onmanifold.descent.method import composite_step
from onmanifold.descent.model import (
    clip_to_psd,
    magnitude,
    minimize_on_box,
    model_decrease,
    projected_norm,
)
from onmanifold.geometry import jacobian, pullback_metric, transport

# Quadratic models ---------------------------------------------------------------------------------


def positive(n, d, seed=0):
    root = randn(n, d, d, seed=seed)
    return root @ root.mT + 0.1 * torch.eye(d, dtype=torch.float64)


def test_without_borders_it_is_the_minimizer():
    matrix, gradient = positive(4, 5), randn(4, 5)
    far = torch.full_like(gradient, math.inf)
    v = minimize_on_box(matrix, gradient, -far, far)
    assert torch.allclose((matrix @ v.unsqueeze(2)).squeeze(2), -gradient)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_box_it_descends_on_every_member(seed):
    matrix, gradient = positive(50, 6, seed=seed), randn(50, 6, seed=seed + 50)
    upper, lower = randn(50, 6, seed=1).abs() * 0.2, -randn(50, 6, seed=2).abs() * 0.2
    upper[:, 0], lower[:, 1] = 0.0, 0.0
    v = minimize_on_box(matrix, gradient, lower, upper)
    assert ((lower <= v) & (v <= upper)).all()
    assert (model_decrease(matrix, gradient, v) > 0).all()
    slope = gradient + (matrix @ v.unsqueeze(2)).squeeze(2)
    inside = (v > lower) & (v < upper)
    assert slope[inside].abs().max() < 1e-10  # nothing left to gain where no border was met
    # Never worse than cutting off the steepest descent at the border:
    steepest = torch.linspace(0, 1, 50, dtype=torch.float64).view(-1, 1, 1) * -gradient
    cut = model_decrease(matrix, gradient, torch.zeros_like(v))
    for direction in steepest:
        kept = (direction >= lower).all(1) & (direction <= upper).all(1)
        cut = torch.where(kept, model_decrease(matrix, gradient, direction), cut)
    assert (model_decrease(matrix, gradient, v) >= cut - 1e-12).all()


def test_a_separable_box_problem_is_solved_exactly():
    matrix = torch.diag_embed(torch.tensor([[1.0, 2.0, 4.0]])).double()
    gradient = torch.tensor([[-3.0, 1.0, -1.0]]).double()
    one = torch.ones(1, 3).double()
    v = minimize_on_box(matrix, gradient, -one, one)
    assert torch.allclose(v, torch.tensor([[1.0, -0.5, 0.25]]).double())


def test_projected_norm_ignores_what_leaves_the_box():
    metric = torch.eye(2).double().unsqueeze(0)
    gradient = torch.tensor([[-3.0, 4.0]]).double()
    room = torch.tensor([[0.0, 1.0]]).double()
    assert projected_norm(metric, gradient, -room, room).item() == pytest.approx(4.0)
    assert projected_norm(metric, -gradient, -room - 1, room).item() == pytest.approx(5.0)


def test_clipping_keeps_the_positive_part():
    matrix = torch.diag_embed(torch.tensor([[2.0, -1.0]])).double()
    assert torch.allclose(
        clip_to_psd(matrix), torch.diag_embed(torch.tensor([[2.0, 0.0]])).double()
    )


# The model of the objective -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_both_gradients_are_the_objectives(name):
    prior = ANALYTIC[name]()
    y = simulated(prior)
    problem = problem_for(prior, y)
    start = prior.sample(5, 7)
    start = Point(start.chart, 0.4 * start.z)

    def objective(z):
        x = prior.decode(start.at(z))
        penalty = prior.log_prob(start.at(z))
        return (0.5 * (warp(x) - y).square().sum(1) / 0.05**2 - penalty).sum()

    expected = torch.func.grad(objective)(start.z)
    trial = problem.at(start)
    assert trial.objective.sum().item() == pytest.approx(objective(start.z).item())
    for model in (problem.first_order_model(trial), problem.quadratic_model(trial)):
        assert torch.allclose(model.gradient, expected)


def test_curvature_of_a_linear_problem_is_the_hessian():
    prior = Affine()
    y = randn(5, 6)
    problem = build_problem(lambda x: x, y, prior, Gaussian(0.5))
    model = problem.quadratic_model(problem.at(prior.sample(5, 0)))
    expected = prior.matrix.T @ prior.matrix / 0.25 + torch.eye(3, dtype=torch.float64)
    assert torch.allclose(model.hessian, expected.expand(5, 3, 3))


def test_large_batches_are_differentiated_in_parts(monkeypatch):
    prior = Circle()
    y = simulated(prior, n=7)
    problem, point = problem_for(prior, y), prior.sample(7, 1)
    whole = problem.quadratic_model(problem.at(point))
    monkeypatch.setattr("onmanifold.descent.problem._COLUMN_BUDGET", 4)
    parts = problem.quadratic_model(problem.at(point))
    assert torch.allclose(parts.misfit_hessian, whole.misfit_hessian)
    assert torch.allclose(parts.misfit_gradient, whole.misfit_gradient)


# The step with the penalty as it is ---------------------------------------------------------------


def composite_values(problem, point, model, v):
    moved = Point(point.chart, point.z + v)
    return model_decrease(model.misfit_hessian, model.misfit_gradient, v) + (
        problem.penalty(point) - problem.penalty(moved)
    )


def test_a_smooth_penalty_takes_one_round(monkeypatch):
    prior = Affine()
    problem = build_problem(lambda x: x, randn(5, 6), prior, Gaussian(0.5))
    point = prior.sample(5, 0)
    model = problem.quadratic_model(problem.at(point))
    monkeypatch.setattr("onmanifold.descent.method._ROUNDS", 1)
    v, _ = composite_step(problem, point, model, model.misfit_hessian)
    expected = torch.linalg.solve(model.hessian, -model.gradient)
    assert torch.allclose(v, expected)


class Walled(Affine):
    """A smooth penalty that starts suddenly, as that of objects that meet."""

    def log_prob_chart(self, z, chart):
        return -200 * (z.abs() - 0.5).clamp(min=0).square().sum(1)


def test_a_step_against_walls_is_halved_and_goes_on():
    prior = Walled(dim=8, size=12)
    problem = build_problem(lambda x: x, 3 * randn(20, 12), prior, Gaussian(1.0))
    point = prior.sample(20, 0)
    point = Point(point.chart, point.z.clamp(-0.5, 0.5))
    model = problem.quadratic_model(problem.at(point))
    v, penalty_reduction = composite_step(problem, point, model, model.misfit_hessian)
    found = composite_values(problem, point, model, v)
    plain = -torch.linalg.solve(model.hessian, model.gradient)
    assert (composite_values(problem, point, model, plain) < 0).any()  # runs into a wall
    assert torch.allclose(
        found, model_decrease(model.misfit_hessian, model.misfit_gradient, v) + penalty_reduction
    )
    assert (found > 0).all()
    ideal, best = found.clone(), v.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([best], max_iter=2000, line_search_fn="strong_wolfe")

    def cost():
        optimizer.zero_grad()
        with torch.enable_grad():
            total = -composite_values(problem, point, model, best).sum()
        total.backward()
        return total

    optimizer.step(cost)
    with torch.no_grad():
        ideal = torch.maximum(ideal, composite_values(problem, point, model, best))
    assert (found / ideal).median() > 0.8


@pytest.mark.parametrize("name", sorted(ANALYTIC))
def test_transport_projects_onto_the_tangent_space_there(name):
    prior = ANALYTIC[name]()
    before, after = prior.sample(5, 0), prior.sample(5, 1)
    after = Point(before.chart, after.z)
    there, here = (jacobian(prior, point).flatten(2) for point in (after, before))
    v = randn(5, prior.dim)
    carry = transport(pullback_metric(there), there, here)
    moved = (carry @ v[:, :, None]).squeeze(2)
    pushed, kept = ((w[:, None] @ columns).squeeze(1) for w, columns in ((v, here), (moved, there)))
    left = (there @ (pushed - kept)[:, :, None]).squeeze(2)  # normal to what is tangent there
    assert left.abs().max() < 1e-8 * pushed.norm(dim=1).max()
    same = transport(pullback_metric(here), here, here)
    torch.testing.assert_close(same, torch.eye(prior.dim).to(same).expand_as(same))


def test_curvature_along_is_that_of_the_model():
    prior = Sphere()
    point = prior.sample(4, 0)
    problem = build_problem(lambda x: x**3, randn(4, *prior.x_shape), prior)
    trial = problem.at(point)
    v, model = randn(4, prior.dim), problem.quadratic_model(trial)
    exact = ((model.misfit_hessian @ v[:, :, None]).squeeze(2) * v).sum(1)
    torch.testing.assert_close(problem.curvature_along(trial, v), exact)


def test_magnitude_does_not_know_the_coordinates():
    matrix = randn(4, 3, 3)
    matrix, metric, change = matrix + matrix.mT, positive(4, 3, seed=1), randn(4, 3, 3, seed=2)
    there = magnitude(change.mT @ matrix @ change, change.mT @ metric @ change)
    assert torch.allclose(change.mT @ magnitude(matrix, metric) @ change, there)
    eye = torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    values = torch.linalg.eigvalsh(matrix).abs().sort().values
    assert torch.allclose(torch.linalg.eigvalsh(magnitude(matrix, eye)), values)
    definite = positive(4, 3, seed=3)
    assert torch.allclose(magnitude(definite, metric), definite)
