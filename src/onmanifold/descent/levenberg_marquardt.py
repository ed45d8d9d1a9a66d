"""Levenberg-Marquardt descent, damped in the manifold's own metric."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.derivatives import Model
from onmanifold.descent.method import arrival, attempt, curvature_guess, parabola
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.quadratic import inner, model_decrease
from onmanifold.descent.state import State
from onmanifold.descent.subproblem import composite_step
from onmanifold.geometry import mean_diagonal, solve_spd
from onmanifold.prior import Point


@dataclass(frozen=True)
class LMState(State):
    """A :class:`State` with the model of the objective around it.

    Attributes:
        model: the misfit to second order, the penalty, and the metric G = J^T J.
        damping: mu, ``(B,)``.
        growth: factor of mu after the next rejection, ``(B,)``.
    """

    model: Model
    damping: Tensor
    growth: Tensor


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Gauss-Newton steps along the manifold, shortened in the metric G = J^T J of its tangent
    space.

    With F the derivative of A o D_k (d tangents through one linearization of A), g and C the
    fidelity's gradient and curvature, and R the penalty with weight beta, a step solves

        (F^T C F + beta H + mu G) v = -(F^T g + beta grad R)

    inside the latent box. R counts as it really is, kinks included, not only to second order. mu
    falls when the objective follows the model and rises when it does not (Nielsen's rule); each
    attempt costs one linearization, and a rejected one no derivatives.

    Args:
        damping: first mu, as a multiple of the misfit's mean curvature, trace(G^{-1} F^T C F) / d.
        sufficient: share of the model's decrease that a step has to achieve to stand.

    References:
        K. Madsen, H. B. Nielsen, O. Tingleff, Methods for Non-Linear Least Squares Problems, DTU
        (2004); Alberti et al., JMLR 25 (2024), for the setting.

    Example:
        >>> LevenbergMarquardt(damping=1e-2)
        LevenbergMarquardt(damping=0.01, sufficient=0.0001)
    """

    damping: float = 1e-3
    sufficient: float = 1e-4

    def __post_init__(self) -> None:
        check_number(self.damping, "LevenbergMarquardt: damping")
        check_number(self.sufficient, "LevenbergMarquardt: sufficient", high=1.0)

    def init(self, problem: Problem, point: Point) -> LMState:
        state, scale = self._arrive(problem, problem.at(point))
        # Of a misfit without curvature, as a sum of distances, only the slope says how far to go.
        damping = torch.where(scale > 0, self.damping * scale, curvature_guess(state))
        return replace(state, damping=damping)

    def step(self, problem: Problem, state: LMState) -> LMState:
        model = state.model
        v, promised = _propose(problem, state.point, model, state.damping)
        tried = attempt(problem, state, v, model.metric, promised, self.sufficient)

        # After a rejection at least half as long a step, or as the parabola through the attempt has it.
        share = parabola(tried.promised, tried.gain).clamp(0.1, 0.5)
        bend = _ratio(model.curvature, model.metric, v)
        shorter = (bend + state.damping) / share - bend
        stay = tried.rejected(
            replace(
                state,
                damping=torch.maximum(state.damping * state.growth, shorter),
                growth=2 * state.growth,
            )
        )
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved, scale = self._arrive(problem.select(rows), tried.trial.select(rows))
        ratio = (tried.gain / tried.promised.clamp(min=torch.finfo(v.dtype).tiny))[rows].clamp(
            0.0, 2.0
        )
        factor = (1 - (2 * ratio - 1) ** 3).clamp(min=1 / 3)
        damping = torch.maximum(state.damping[rows] * factor, _floor(scale))
        return stay.merge(rows, replace(tried.arrived(state, moved), damping=damping))

    def _arrive(self, problem: Problem, trial: Trial) -> tuple[LMState, Tensor]:
        """The state at ``trial``, its damping not yet set, and the scale that damping has there."""
        model = problem.model(trial)
        scale = _mean_curvature(model, problem.prior.active(trial.point.chart))
        _, promise = _propose(problem, trial.point, model, _floor(scale))
        basic = arrival(problem, trial, model, promise)
        return LMState(
            **vars(basic),
            model=model,
            damping=_floor(scale),
            growth=torch.full_like(scale, 2.0),
        ), scale


def _propose(
    problem: Problem, point: Point, model: Model, damping: Tensor
) -> tuple[Tensor, Tensor]:
    """The damped step, and how far the undamped model falls with it."""
    matrix = model.curvature + damping[:, None, None] * model.metric
    v, eased = composite_step(problem, point, model, matrix)
    return v, model_decrease(model.curvature, model.gradient, v) + eased


def _ratio(matrix: Tensor, metric: Tensor, v: Tensor) -> Tensor:
    """<v, M v> / <v, G v>, (B,); 0 for v = 0."""
    squared = inner(metric, v, v)
    return torch.where(squared > 0, inner(matrix, v, v) / squared, 0.0)


def _mean_curvature(model: Model, used: Tensor) -> Tensor:
    """Of the misfit along unit tangents, trace(G^{-1} F^T C F) / d, whatever the coordinates: ``(B,)``."""
    relative = solve_spd(model.metric, model.curvature)
    return mean_diagonal(relative, used).clamp(min=0.0).nan_to_num(nan=0.0, posinf=0.0)


def _floor(scale: Tensor) -> Tensor:
    limits = torch.finfo(scale.dtype)
    return scale * limits.eps + limits.tiny
