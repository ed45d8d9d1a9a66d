"""Levenberg-Marquardt descent, damped in the manifold's own metric."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_field, check_number
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
from onmanifold.geometry import mean_diagonal, solve_spd
from onmanifold.prior import Point


@dataclass(frozen=True)
class LMState(State):
    """A :class:`State` with the model of the objective around it, and the next step.

    Attributes:
        model: the misfit to second order, the penalty, and the metric G = J^T J.
        damping: mu, ``(B,)``.
        growth: factor of mu after the next rejection, ``(B,)``.
        v: tangent of the next step, ``(B, d)``.
        model_reduction: how far the undamped model falls with it, ``(B,)``.
    """

    model: QuadraticModel
    damping: Tensor
    growth: Tensor
    v: Tensor
    model_reduction: Tensor


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

    Args:
        damping: first mu, as a multiple of the misfit's mean curvature, trace(G^{-1} F^T C F) / d.

    References:
        K. Madsen, H. B. Nielsen, O. Tingleff, Methods for Non-Linear Least Squares Problems, DTU
        (2004); Alberti et al., JMLR 25 (2024), for the setting.

    Example:
        >>> LevenbergMarquardt(damping=1e-2)
        LevenbergMarquardt(damping=0.01)
    """

    damping: float = 1e-3

    def __post_init__(self) -> None:
        check_field(self, "damping", check_number)

    def init(self, problem: Problem, point: Point) -> LMState:
        trial = problem.at(point)
        model = problem.quadratic_model(trial)
        scale = _mean_curvature(problem, trial, model)
        # Of a misfit without curvature, as a sum of distances, only the gradient says how far to go.
        guess = curvature_guess(arrival(problem, trial, model))
        damping = torch.where(scale > 0, self.damping * scale, guess)
        return _arrive(problem, trial, model, damping)

    def step(self, problem: Problem, state: LMState) -> LMState:
        predicted, metric = state.model_reduction, state.model.metric
        tried = attempt(problem, state, state.v, metric, predicted)
        stay = tried.rejected(state)
        rejected = (~tried.accepted).nonzero().squeeze(1)
        if len(rejected):
            shorter = _damped(stay, tried).select(rejected)
            stay = stay.merge(rejected, _aim(problem.select(rejected), shorter))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        part, trial = problem.select(rows), tried.trial.select(rows)
        model = part.quadratic_model(trial)
        scale, limits = _mean_curvature(part, trial, model), torch.finfo(model.metric.dtype)
        least = scale * limits.eps + limits.tiny
        damping = torch.maximum(state.damping[rows] * _relief(tried)[rows], least)
        return stay.merge(rows, tried.arrived(state, _arrive(part, trial, model, damping)))


def _arrive(problem: Problem, trial: Trial, model: QuadraticModel, damping: Tensor) -> LMState:
    """The state at ``trial``, with the next step by this damping."""
    state = LMState(
        **vars(arrival(problem, trial, model)),
        model=model,
        damping=damping,
        growth=torch.full_like(damping, 2.0),
        v=torch.zeros_like(model.gradient),
        model_reduction=torch.zeros_like(damping),
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
    tiny = torch.finfo(tried.actual_reduction.dtype).tiny
    ratio = tried.actual_reduction / tried.predicted_reduction.clamp(min=tiny)
    return (1 - (2 * ratio.clamp(0.0, 2.0) - 1) ** 3).clamp(min=1 / 3)


def _mean_curvature(problem: Problem, trial: Trial, model: QuadraticModel) -> Tensor:
    """Of the misfit along unit tangents, trace(G^{-1} F^T C F) / d, whatever the coordinates: ``(B,)``."""
    relative = solve_spd(model.metric, model.misfit_hessian)
    active = problem.prior.active(trial.point.chart)
    return mean_diagonal(relative, active).clamp(min=0.0).nan_to_num(nan=0.0, posinf=0.0)
