"""solve(): interrupted, halved, refused by its own checks, inconsistent with the noise."""

import dataclasses
import warnings

import pytest
import torch
from analytic_priors import Affine, Circle, Sine, Sphere
from solve_cases import measured, warp

from onmanifold import (
    ByLCurve,
    Gaussian,
    InconsistentWarning,
    InitialPoints,
    LevenbergMarquardt,
    MaxSteps,
    Point,
    Status,
    simulate,
    solve,
)
from onmanifold.descent import build_problem
from onmanifold.descent.observers import SuccessiveHalving
from onmanifold.descent.run import Descent
from onmanifold.operator import as_operator
from onmanifold.posterior import laplace

# Ends that were not asked for ---------------------------------------------------------------------


def fitted(**options):
    y = torch.tensor([[2.0, 1.0], [0.3, -2.0]], dtype=torch.float64)
    return solve(lambda x: x, y, Circle(), fidelity=Gaussian(0.1), **options)


def test_an_error_of_the_callback_carries_the_solution_so_far():
    def callback(state):
        if state.steps.max() == 2:
            raise RuntimeError("no more of this")

    with pytest.raises(RuntimeError, match="no more of this") as caught:
        fitted(callback=callback, stop=MaxSteps(50))
    solution = caught.value.solution
    assert solution.status == (Status.STOPPED_BY_CALLBACK,) * 2
    assert len(solution.history.objective) == 3
    assert (solution.history.objective[-1] < solution.history.objective[0]).all()


def test_an_interrupt_returns_the_best_so_far():
    def callback(state):
        if state.steps.max() == 2:
            raise KeyboardInterrupt

    solution = fitted(callback=callback, stop=MaxSteps(50))
    assert solution.status == (Status.INTERRUPTED,) * 2
    assert not solution.converged.any()
    assert torch.equal(solution.objective, solution.history.objective[-1])
    assert "interrupted" in solution.summary()


def test_an_interrupt_ends_the_search_for_a_weight():
    calls = []

    def callback(state):
        calls.append(state)
        if len(calls) == 3:
            raise KeyboardInterrupt

    solution = fitted(callback=callback, stop=MaxSteps(50), prior_weight=ByLCurve(count=5))
    assert Status.INTERRUPTED in solution.status
    assert len(calls) == 3


def test_an_interrupt_of_a_search_for_modes_is_not_swallowed(monkeypatch):
    solution = fitted()

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Descent, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        laplace(solution)


def test_starts_that_are_not_finite_are_dropped_and_counted():
    def half(x):
        return torch.where(x[:, :1] > 0, x, torch.nan)

    y = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    angles = torch.tensor([[0.5], [-0.5], [1.9], [-1.9]], dtype=torch.float64)
    starts = Point(torch.zeros(4, dtype=torch.long), angles)
    solution = solve(half, y, Circle(), fidelity=Gaussian(0.1), starts=starts)
    assert solution.dropped.tolist() == [2]
    assert solution.converged.all()
    assert "2 of 4 starts were not finite" in solution.summary()


def test_halving_finds_the_same_with_fewer_calls():
    y = torch.stack(
        [3 * torch.linspace(-1, 1, 5).double(), torch.linspace(-2, 2, 5).double()], dim=1
    )
    y = torch.cat([y, y.flip(0).cos()], dim=1)[:, :3]
    whole = solve(lambda x: x, y, Sine(), fidelity=Gaussian(0.3), starts=16)
    halved = solve(
        lambda x: x, y, Sine(), fidelity=Gaussian(0.3), starts=InitialPoints(64, 16, halve_after=2)
    )
    assert torch.allclose(halved.objective, whole.objective, rtol=1e-4)
    assert (halved.operator_calls <= whole.operator_calls).all()
    assert halved.operator_calls.sum() < 0.95 * whole.operator_calls.sum()
    assert (halved.final_points.status == Status.DROPPED).any()
    assert Status.DROPPED not in halved.status


def test_halving_drops_the_worse_half_and_none_that_promises_more():
    state = LevenbergMarquardt().init(
        build_problem(lambda x: x, torch.ones(4, 2).double(), Circle()), Circle().sample(4, 0)
    )
    state = dataclasses.replace(
        state,
        objective=torch.tensor([1.0, 5.0, 4.0, 2.0]).double(),
        predicted_reduction=torch.tensor([0.1, 4.5, 0.1, 0.1]).double(),
    )
    running = torch.zeros(4, dtype=torch.long)
    halving = SuccessiveHalving(starts=4, after=3)
    assert not halving.dropped(state, running, 2).any()
    assert halving.dropped(state, running, 3).tolist() == [False, False, True, False]
    assert halving.dropped(state, running, 6).tolist() == [False, False, True, True]
    assert not halving.dropped(state, running, 9).any()
    assert not halving.dropped(state, running + 1, 3).any()


# Measurements that the manifold does not explain --------------------------------------------------


def test_genuine_measurements_are_explained_and_others_are_not():
    prior = Sphere()
    x, y = measured(prior, n=100)
    genuine = solve(warp, y, prior, fidelity=Gaussian(0.05), starts=4)
    assert genuine.consistent.sum() >= 95
    off = x + 0.5 * torch.nn.functional.normalize(x, dim=2)  # above the sphere
    y = simulate(as_operator(warp, prior.x_shape, dtype=prior.dtype), off, 0.05, 0)
    with pytest.warns(
        InconsistentWarning, match=r"\d+ of 100 measurements \(0, 1, 2, 3, 4, \.\.\.\)"
    ):
        wrong = solve(warp, y, prior, fidelity=Gaussian(0.05), starts=4)
    assert (~wrong.consistent).sum() >= 95
    assert "inconsistent with the noise" in wrong.summary()


def test_nothing_is_warned_of_without_a_noise_level():
    prior = Sphere()
    _, y = measured(prior)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = solve(warp, 100 * y, prior, prior_weight=1.0)
    assert solution.p_value.isnan().all()
    assert solution.consistent.all()


def test_the_summary_says_that_the_prior_does_not_count():
    prior = Affine()  # its density is not constant
    y = prior.decode(prior.sample(3, 0)) + 0.01
    said = "no noise level given: least squares, the prior does not count"
    assert said in solve(lambda x: x, y, prior).summary()
    assert said not in solve(lambda x: x, y, prior, fidelity=Gaussian(0.05)).summary()
    assert said not in solve(lambda x: x, y, prior, prior_weight=1.0).summary()
