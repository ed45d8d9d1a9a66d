"""Levenberg-Marquardt descent, damped in the manifold's own metric."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field, check_number
from onmanifold.descent.method import (
    Attempt,
    State,
    arrival,
    attempt,
    composite_step,
    curvature_guess,
    parabola,
)
from onmanifold.descent.model import QuadraticModel, inner, model_decrease
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.secant import secant_model
from onmanifold.geometry import mean_diagonal, solve_spd
from onmanifold.prior import Point

_AGREES = 0.6  # share of the predicted reduction above which a step says enough of the derivatives


@dataclass(frozen=True)
class LMState(State):
    """A :class:`State` with the model of the objective around it, and the next step.

    Attributes:
        model: the misfit to second order, the penalty, and the metric G = J^T J.
        damping: mu, ``(B,)``.
        growth: factor of mu after the next rejection, ``(B,)``.
        v: tangent of the next step, ``(B, d)``.
        model_reduction: how far the undamped model falls with it, ``(B,)``.
        age: steps since the model's tangents were computed, ``(B,)``, integer.
    """

    model: QuadraticModel
    damping: Tensor
    growth: Tensor
    v: Tensor
    model_reduction: Tensor
    age: Tensor


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Gauss-Newton steps along the manifold, shortened in the metric G = J^T J of its tangent
    space.

    With F the derivative of A o D_k (d tangents through one linearization of A), g and C the
    fidelity's gradient and curvature, and R the weighted penalty with Hessian H, a step solves

        (F^T C F + H + mu G) v = -(F^T g + grad R)

    inside the latent box, with derivatives of R that are renewed on the way. mu falls when the
    objective follows the model and rises when it does not (Nielsen's rule); each attempt costs one
    linearization, and a rejected one no derivatives.

    Where tangents cost much more than a prediction, ``secant`` steps in a row that go well update F by
    Broyden's formula instead. A step by such an F that is rejected computes it anew.

    Args:
        damping: first mu, as a multiple of the misfit's mean curvature, trace(G^{-1} F^T C F) / d.
        secant: steps in a row without new tangents.

    References:
        K. Madsen, H. B. Nielsen, O. Tingleff, Methods for Non-Linear Least Squares Problems, DTU
        (2004); Alberti et al., JMLR 25 (2024), for the setting.

    Example:
        >>> LevenbergMarquardt(damping=1e-2)
        LevenbergMarquardt(damping=0.01, secant=0)
    """

    damping: float = 1e-3
    secant: int = 0

    def __post_init__(self) -> None:
        check_field(self, "damping", check_number)
        check_field(self, "secant", check_count, at_least=0)

    def init(self, problem: Problem, point: Point) -> LMState:
        trial = problem.at(point)
        model = self._exact(problem, trial)
        scale = _mean_curvature(problem, trial, model)
        # Of a misfit without curvature, as a sum of distances, only the gradient says how far to go.
        guess = curvature_guess(arrival(problem, trial, model))
        damping = torch.where(scale > 0, self.damping * scale, guess)
        return _arrive(problem, trial, model, damping, torch.zeros_like(trial.point.chart))

    def step(self, problem: Problem, state: LMState) -> LMState:
        predicted, metric = state.model_reduction, state.model.metric
        tried = attempt(problem, state, state.v, metric, predicted)
        stay = tried.rejected(state)
        rejected = (~tried.accepted).nonzero().squeeze(1)
        if len(rejected):
            shorter = _damped(stay, tried).select(rejected)
            stay = stay.merge(rejected, self._again(problem.select(rejected), shorter))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        part, trial, before = problem.select(rows), tried.trial.select(rows), state.select(rows)
        model, age = self._model(part, trial, before, tried.agreement[rows])
        scale, limits = _mean_curvature(part, trial, model), torch.finfo(model.metric.dtype)
        least = scale * limits.eps + limits.tiny
        damping = torch.maximum(state.damping[rows] * _relief(tried)[rows], least)
        arrived = tried.arrived(state, _arrive(part, trial, model, damping, age))
        # a small step by old tangents does not say that there is little left
        decrease = torch.where(age > 0, torch.inf, arrived.decrease)
        return stay.merge(rows, replace(arrived, decrease=decrease))

    def _exact(self, problem: Problem, trial: Trial) -> QuadraticModel:
        return problem.quadratic_model(trial, keep_tangents=self.secant > 0)

    def _model(
        self, problem: Problem, trial: Trial, before: LMState, agreement: Tensor
    ) -> tuple[QuadraticModel, Tensor]:
        """The model where accepted steps ended, and the age of its tangents."""
        updated = (before.age < self.secant) & (agreement > _AGREES) & ~trial.switched
        if getattr(problem.fidelity, "indefinite", False):
            updated = torch.zeros_like(updated)
        old, new = (part.nonzero().squeeze(1) for part in (updated, ~updated))
        if len(old) == 0:
            return self._exact(problem, trial), torch.zeros_like(before.age)
        moved = (trial.point.z - before.point.z)[old]
        model = secant_model(
            problem.select(old), trial.select(old), before.model.select(old), moved
        )
        if len(new):
            exact = self._exact(problem.select(new), trial.select(new))
            model = exact.cat([model, exact]).select(torch.cat([old, new]).argsort())
        return model, torch.where(updated, before.age + 1, 0)

    def _again(self, problem: Problem, state: LMState) -> LMState:
        """The next step of members whose last one was rejected; by new tangents where they were old."""
        rows = (state.age > 0).nonzero().squeeze(1)
        if len(rows):
            stale, part = state.select(rows), problem.select(rows)
            model = self._exact(part, part.at(stale.point))
            goes_on = torch.zeros_like(stale.stalled)
            fresh = replace(stale, model=model, age=torch.zeros_like(rows), stalled=goes_on)
            state = state.merge(rows, fresh)
        return _aim(problem, state)


def _arrive(
    problem: Problem, trial: Trial, model: QuadraticModel, damping: Tensor, age: Tensor
) -> LMState:
    """The state at ``trial``, with the next step by this damping."""
    state = LMState(
        **vars(arrival(problem, trial, model)),
        model=model,
        damping=damping,
        growth=torch.full_like(damping, 2.0),
        v=torch.zeros_like(model.gradient),
        model_reduction=torch.zeros_like(damping),
        age=age,
    )
    state = _aim(problem, state)
    # Damping hides what is left to gain. Without it the step would go on to the model's minimum along v.
    held = damping * inner(model.metric, state.v, state.v)
    further = held.square() / (2 * inner(model.hessian, state.v, state.v))
    reduction = state.model_reduction + torch.where(held > 0, further, 0.0)
    return replace(state, predicted_reduction=reduction)


def _aim(problem: Problem, state: LMState) -> LMState:
    """``state`` with the next step by its damping."""
    model = state.model
    matrix = model.misfit_hessian + state.damping[:, None, None] * model.metric
    v, penalty_reduction = composite_step(problem, state.point, model, matrix)
    misfit_reduction = model_decrease(model.misfit_hessian, model.misfit_gradient, v)
    return replace(state, v=v, model_reduction=misfit_reduction + penalty_reduction)


def _damped(state: LMState, tried: Attempt) -> LMState:
    """``state`` with more damping: half the rejected step at most, or what the parabola through it says."""
    share = parabola(tried.predicted_reduction, tried.actual_reduction).clamp(0.1, 0.5)
    squared = inner(state.model.metric, state.v, state.v)
    bent = inner(state.model.misfit_hessian, state.v, state.v)
    curvature = torch.where(squared > 0, bent / squared, 0.0)
    shorter = (curvature + state.damping) / share - curvature
    damping = torch.maximum(state.damping * state.growth, shorter)
    return replace(state, damping=damping, growth=2 * state.growth)


def _relief(tried: Attempt) -> Tensor:
    """Nielsen's factor of the damping after an accepted step, ``(B,)``."""
    return (1 - (2 * tried.agreement.clamp(0.0, 2.0) - 1) ** 3).clamp(min=1 / 3)


def _mean_curvature(problem: Problem, trial: Trial, model: QuadraticModel) -> Tensor:
    """Of the misfit along unit tangents, trace(G^{-1} F^T C F) / d, whatever the coordinates: ``(B,)``."""
    relative = solve_spd(model.metric, model.misfit_hessian)
    active = problem.prior.active(trial.point.chart)
    return mean_diagonal(relative, active).clamp(min=0.0).nan_to_num(nan=0.0, posinf=0.0)
