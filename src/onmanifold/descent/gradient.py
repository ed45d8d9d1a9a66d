"""Riemannian gradient descent with step lengths of Barzilai and Borwein."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.method import (
    State,
    attempt,
    composite_step,
    curvature_guess,
    first_order_arrival,
    parabola,
)
from onmanifold.descent.model import FirstOrderModel, inner, times
from onmanifold.descent.problem import Problem, Trial
from onmanifold.prior import Point


@dataclass(frozen=True)
class GradientState(State):
    """A :class:`State` with the first-order model there.

    Attributes:
        model: the objective's derivatives and the tangent space.
        rate: step length t of the next step ``-t G^{-1} gradient``, ``(B,)``.
    """

    model: FirstOrderModel
    rate: Tensor


@dataclass(frozen=True)
class RiemannianGradientDescent:
    """Steps ``-t G^{-1} grad f`` along the manifold.

    t is guessed from the last two gradients (Barzilai-Borwein, in the metric) and shortened until
    the objective falls by a share of the predicted reduction (Armijo). One attempt is one step of
    the loop.

    Args:
        sufficient: that share, Armijo's constant.
        shrink: largest factor of t after a rejected attempt; the parabola through what the attempt
            found says how much less.

    References:
        B. Iannazzo, M. Porcelli, The Riemannian Barzilai-Borwein method with nonmonotone line
        search, IMA J. Numer. Anal. 38 (2018); here the line search is monotone.

    Example:
        >>> RiemannianGradientDescent(shrink=0.3)
        RiemannianGradientDescent(sufficient=0.0001, shrink=0.3)
    """

    sufficient: float = 1e-4
    shrink: float = 0.5

    def __post_init__(self) -> None:
        check_number(self.sufficient, "RiemannianGradientDescent: sufficient", high=1.0)
        check_number(self.shrink, "RiemannianGradientDescent: shrink", high=1.0)

    def init(self, problem: Problem, point: Point) -> GradientState:
        state = self._arrive(problem, problem.at(point))
        return replace(state, rate=1 / curvature_guess(state))

    def step(self, problem: Problem, state: GradientState) -> GradientState:
        model = state.model
        matrix = model.metric / state.rate[:, None, None]
        v, penalty_reduction = composite_step(problem, state.point, model, matrix)
        predicted = penalty_reduction - (model.misfit_gradient * v).sum(1)
        tried = attempt(problem, state, v, model.metric, predicted, self.sufficient)

        stay = tried.rejected(state)
        share = parabola(tried.predicted_reduction, tried.actual_reduction)
        stay = replace(stay, rate=state.rate * share.clamp(0.1 * self.shrink, self.shrink))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved = self._arrive(problem.select(rows), tried.trial.select(rows))
        guess = _barzilai_borwein(state.select(rows), moved, v[rows])
        return stay.merge(rows, replace(tried.arrived(state, moved), rate=guess))

    def _arrive(self, problem: Problem, trial: Trial) -> GradientState:
        state, model = first_order_arrival(problem, trial)
        return GradientState(**vars(state), model=model, rate=torch.ones_like(trial.objective))


def _barzilai_borwein(before: GradientState, after: GradientState, v: Tensor) -> Tensor:
    """<s, s> / <s, change of gradient>, or twice the last rate where that curvature is not positive.

    The step ``v`` and the gradient before are transported to the present point.
    """
    metric, carry = after.model.metric, after.model.transport_from(before.model)
    s = times(carry, v)
    change = after.model.natural_gradient - times(carry, before.model.natural_gradient)
    rise = inner(metric, s, change)
    squared = inner(metric, s, s)
    rate = torch.where((rise > 0) & (squared > 0), squared / rise, 2 * before.rate)
    # A guess that leaves a factor 1e4 behind comes from rounding.
    return rate.clamp(before.rate * 1e-4, before.rate * 1e4)
