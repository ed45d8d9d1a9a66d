"""Riemannian nonlinear conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.method import (
    State,
    attempt,
    composite_step,
    first_order_arrival,
    parabola,
)
from onmanifold.descent.model import FirstOrderModel, times
from onmanifold.descent.problem import Problem, Trial
from onmanifold.geometry import riemannian_gradient
from onmanifold.prior import Point


@dataclass(frozen=True)
class ConjugateGradientState(State):
    """A :class:`State` with the first-order model there and the direction of the last step.

    Attributes:
        model: the objective's derivatives and the tangent space.
        momentum: the multiple of the last direction that is added to the next, ``(B, d)``.
        rate: step length t of the next step, ``(B,)``.
    """

    model: FirstOrderModel
    momentum: Tensor
    rate: Tensor


@dataclass(frozen=True)
class ConjugateGradient:
    """Steps ``t (momentum - G^{-1} grad f)``, the momentum a multiple of the last direction.

    That direction is transported by projection onto the tangent space at the present point. The multiple is
    Polak's and Ribiere's, or 0 where that would be negative or the direction would not
    descend. t minimizes the misfit to second order along the direction, which costs one
    tangent through the operator; it is shortened until the objective falls by a share of the predicted
    reduction (Armijo).

    Args:
        sufficient: that share, Armijo's constant.
        shrink: largest factor of t after a rejected attempt.

    References:
        H. Sato, Riemannian Conjugate Gradient Methods, SIAM J. Optim. 32 (2022).

    Example:
        >>> ConjugateGradient(shrink=0.3)
        ConjugateGradient(sufficient=0.0001, shrink=0.3)
    """

    sufficient: float = 1e-4
    shrink: float = 0.5

    def __post_init__(self) -> None:
        check_number(self.sufficient, "ConjugateGradient: sufficient", high=1.0)
        check_number(self.shrink, "ConjugateGradient: shrink", high=1.0)

    def init(self, problem: Problem, point: Point) -> ConjugateGradientState:
        trial = problem.at(point)
        state = self._arrive(problem, trial)
        return self._aim(problem, trial, state, torch.zeros_like(state.momentum))

    def step(self, problem: Problem, state: ConjugateGradientState) -> ConjugateGradientState:
        model = state.model
        matrix = model.metric / state.rate[:, None, None]
        pushed = model.misfit_gradient - times(model.metric, state.momentum)
        v, penalty_reduction = composite_step(
            problem, state.point, replace(model, misfit_gradient=pushed), matrix
        )
        predicted = penalty_reduction - (model.misfit_gradient * v).sum(1)
        tried = attempt(problem, state, v, model.metric, predicted, self.sufficient)

        share = parabola(tried.predicted_reduction, tried.actual_reduction)
        share = share.clamp(0.1 * self.shrink, self.shrink)
        uphill = (predicted <= 0)[:, None]
        stay = replace(
            tried.rejected(state),
            rate=state.rate * share,
            momentum=torch.where(uphill, 0.0, state.momentum),
        )
        stay = replace(stay, stalled=stay.stalled & ~(uphill.squeeze(1) & state.momentum.any(1)))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        part, trial = problem.select(rows), tried.trial.select(rows)
        before, after = state.select(rows), self._arrive(part, trial)
        momentum = _momentum(before, after, v[rows] / before.rate[:, None])
        return stay.merge(rows, tried.arrived(state, self._aim(part, trial, after, momentum)))

    def _arrive(self, problem: Problem, trial: Trial) -> ConjugateGradientState:
        state, model = first_order_arrival(problem, trial)
        return ConjugateGradientState(
            **vars(state),
            model=model,
            momentum=torch.zeros_like(model.gradient),
            rate=torch.ones_like(trial.objective),
        )

    def _aim(
        self, problem: Problem, trial: Trial, state: ConjugateGradientState, momentum: Tensor
    ) -> ConjugateGradientState:
        """Choose direction and step length at ``state``."""
        gradient = state.model.gradient
        steepest = -riemannian_gradient(state.model.metric, gradient)
        downhill = ((steepest + momentum) * gradient).sum(1) < 0
        momentum = torch.where(downhill[:, None], momentum, 0.0)
        direction = steepest + momentum
        curvature = problem.curvature_along(trial, direction)
        fall = -(direction * gradient).sum(1)
        rate = torch.where((curvature > 0) & (fall > 0), fall / curvature, 1.0)
        return replace(state, momentum=momentum, rate=rate)


def _momentum(
    before: ConjugateGradientState, after: ConjugateGradientState, direction: Tensor
) -> Tensor:
    """Polak's and Ribiere's multiple of the last direction, transported."""
    carry = after.model.transport_from(before.model)
    old, new = before.model.gradient, after.model.gradient
    was = riemannian_gradient(before.model.metric, old)
    now = riemannian_gradient(after.model.metric, new)
    turned = (new * (now - times(carry, was))).sum(1)
    squared = (old * was).sum(1)
    multiple = torch.where(squared > 0, turned / squared, 0.0).clamp(min=0.0)
    return multiple[:, None] * times(carry, direction)
