"""The loop and its stopping rules."""

import math
from dataclasses import replace

import pytest
import torch
from analytic_priors import Affine, Circle, Sphere
from descent_cases import problem_for, randn, simulated

from onmanifold import (
    LBFGS,
    Discrepancy,
    Gaussian,
    GradientNorm,
    LevenbergMarquardt,
    MaxSteps,
    RiemannianGradientDescent,
    SmallDecrease,
    Status,
)
from onmanifold.descent import StoppingRule, build_problem, descend

# Loop ---------------------------------------------------------------------------------------------


def test_finished_members_stand_still():
    prior = Sphere()
    y = simulated(prior, n=12)
    problem = problem_for(prior, y)
    stop = MaxSteps(200) | GradientNorm(1e-3)
    start = prior.sample(12, 5)
    descent = descend(problem, RiemannianGradientDescent(), stop, start, keep_path=True)
    history, steps = descent.history, descent.state.steps
    assert steps.min() < steps.max() == len(history.objective) - 1
    for b, ended in enumerate(steps.tolist()):
        for name in ("objective", "gradient_norm", "chart"):
            rest = getattr(history, name)[ended:, b]
            assert (rest == rest[0]).all()
        assert (history.step_length[ended + 1 :, b] == 0).all()
        assert all(torch.equal(p.z[b], descent.path[ended].z[b]) for p in descent.path[ended:])
        alone = descend(
            problem.select(torch.tensor([b])),
            RiemannianGradientDescent(),
            stop,
            start.select(torch.tensor([b])),
        )
        assert alone.state.steps.item() == ended
        assert torch.allclose(alone.state.point.z[0], descent.state.point.z[b])


def test_masks_go_with_their_members():
    prior = Sphere()
    y = simulated(prior, n=6, std=0.0)
    mask = randn(6, 4) > -0.3
    spoilt = torch.where(mask, y, 1e6)
    stop = MaxSteps(100) | GradientNorm(1e-7)
    options = {"fidelity": Gaussian(0.05, mask), "prior_weight": 0}
    start = prior.sample(6, 5)
    clean = descend(problem_for(prior, y, **options), LevenbergMarquardt(), stop, start)
    other = descend(problem_for(prior, spoilt, **options), LevenbergMarquardt(), stop, start)
    assert torch.equal(clean.state.point.z, other.state.point.z)
    assert torch.equal(clean.history.objective, other.history.objective)


def test_callback_sees_every_step_and_can_stop():
    prior = Sphere()
    seen = []

    def callback(state):
        seen.append(state.objective)
        return len(seen) == 3

    descent = descend(
        problem_for(prior, simulated(prior)),
        RiemannianGradientDescent(),
        MaxSteps(50),
        prior.sample(5, 1),
        callback=callback,
    )
    assert (descent.status == Status.STOPPED_BY_CALLBACK).all()
    assert torch.equal(torch.stack(seen), descent.history.objective[1:])


def test_step_length_is_the_distance_gone():
    prior = Affine()
    problem = build_problem(lambda x: x, randn(3, 6), prior, Gaussian(1.0))
    stop = MaxSteps(3)
    descent = descend(problem, LevenbergMarquardt(), stop, prior.sample(3, 0), keep_path=True)
    x = torch.stack([prior.decode(p) for p in descent.path])
    assert torch.allclose(x.diff(dim=0).norm(dim=2), descent.history.step_length[1:], atol=1e-9)


# Stopping rules -----------------------------------------------------------------------------------


def some_state(**changes):
    prior = Circle()
    problem = build_problem(lambda x: x, randn(2, 2), prior, Gaussian(0.5))
    return problem, replace(LevenbergMarquardt().init(problem, prior.sample(2, 0)), **changes)


def pair(a, b):
    return torch.tensor([a, b], dtype=torch.float64)


def test_rules_look_at_each_member():
    problem, state = some_state(gradient_norm=pair(1e-9, 1.0), steps=torch.tensor([4, 5]))
    assert GradientNorm(1e-6)(problem, state).tolist() == [Status.SMALL_GRADIENT, 0]
    assert MaxSteps(5)(problem, state).tolist() == [0, Status.MAX_STEPS]


def test_small_decrease_looks_at_the_actual_and_the_predicted_reduction():
    far = pair(math.inf, math.inf)
    problem, state = some_state(objective=pair(10.0, -10.0), decrease=far, predicted_reduction=far)
    rule = SmallDecrease(1e-3)
    assert rule(problem, state).tolist() == [0, 0]
    assert rule(problem, replace(state, decrease=pair(0.009, 0.011))).tolist() == [2, 0]
    assert rule(problem, replace(state, predicted_reduction=pair(0.011, 0.009))).tolist() == [0, 2]


def test_discrepancy_compares_with_the_noise():
    problem, state = some_state(misfit=pair(0.9, 1.1))  # two entries: one is expected
    assert Discrepancy()(problem, state).tolist() == [Status.DISCREPANCY, 0]
    assert Discrepancy(1.1)(problem, state).tolist() == [Status.DISCREPANCY] * 2
    assert Discrepancy(0.9)(problem, state).tolist() == [0, 0]


def test_rules_combine():
    problem, state = some_state(
        gradient_norm=pair(1e-9, 1.0), steps=torch.tensor([5, 5]), misfit=pair(9.0, 0.1)
    )
    gradient, steps, discrepancy = GradientNorm(1e-6), MaxSteps(5), Discrepancy()
    reasons = [Status.SMALL_GRADIENT, Status.MAX_STEPS]  # convergence is the reason to report
    assert (gradient | steps)(problem, state).tolist() == reasons
    assert (steps | gradient)(problem, state).tolist() == reasons
    assert (steps & gradient)(problem, state).tolist() == [Status.SMALL_GRADIENT, 0]
    assert (gradient & discrepancy)(problem, state).tolist() == [0, 0]
    assert (gradient & steps | discrepancy)(problem, state).tolist() == [1, 3]


def test_a_users_rule():
    class Patience(StoppingRule):
        def __call__(self, problem, state):
            return torch.where(state.steps >= 2, int(Status.MAX_STEPS), 0)

    prior = Sphere()
    problem = problem_for(prior, simulated(prior))
    start = prior.sample(5, 1)
    descent = descend(problem, RiemannianGradientDescent(), Patience() | GradientNorm(1e-9), start)
    assert descent.state.steps.max() == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MaxSteps(0), ValueError, "MaxSteps: steps has to be at least 1, got 0"),
        (lambda: MaxSteps(2.5), TypeError, "MaxSteps: steps has to be an int"),
        (lambda: GradientNorm(-1), ValueError, "GradientNorm: tol has to be above 0"),
        (lambda: SmallDecrease(2.0), ValueError, "SmallDecrease: rtol .* below 1"),
        (lambda: Discrepancy(math.nan), ValueError, "Discrepancy: tau"),
        (lambda: LevenbergMarquardt(damping="1"), TypeError, "LevenbergMarquardt: damping"),
        (lambda: LevenbergMarquardt(damping=0), ValueError, "LevenbergMarquardt: damping"),
        (lambda: LBFGS(memory=0), ValueError, "LBFGS: memory has to be at least 1"),
    ],
)
def test_bad_options_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
