"""Riemannian gradient descent with step lengths of Barzilai and Borwein."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.derivatives import Slope
from onmanifold.descent.method import attempt, curvature_guess, parabola, slope_arrival
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.quadratic import inner, times
from onmanifold.descent.state import State
from onmanifold.descent.subproblem import composite_step
from onmanifold.prior import Point


@dataclass(frozen=True)
class GradientState(State):
    """A :class:`State` with the slope there.

    Attributes:
        slope: the objective's derivatives and the tangent space.
        rate: step length t of the next step ``-t G^{-1} gradient``, ``(B,)``.
    """

    slope: Slope
    rate: Tensor


@dataclass(frozen=True)
class RiemannianGradientDescent:
    """Steps ``-t G^{-1} grad f`` along the manifold.

    t is guessed from the last two gradients (Barzilai-Borwein, in the metric) and shortened until
    the objective falls by a share of what the slope promises (Armijo). One attempt is one step of
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
        slope = state.slope
        stretched = slope.metric / state.rate[:, None, None]
        v, eased = composite_step(problem, state.point, slope, stretched)
        promised = eased - (slope.gradient * v).sum(1)
        tried = attempt(problem, state, v, slope.metric, promised, self.sufficient)

        stay = tried.rejected(state)
        share = parabola(tried.promised, tried.gain)
        stay = replace(stay, rate=state.rate * share.clamp(0.1 * self.shrink, self.shrink))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved = self._arrive(problem.select(rows), tried.trial.select(rows))
        guess = _barzilai_borwein(state.select(rows), moved, v[rows])
        return stay.merge(rows, replace(tried.arrived(state, moved), rate=guess))

    def _arrive(self, problem: Problem, trial: Trial) -> GradientState:
        state, slope = slope_arrival(problem, trial)
        return GradientState(**vars(state), slope=slope, rate=torch.ones_like(trial.objective))


def _barzilai_borwein(before: GradientState, after: GradientState, v: Tensor) -> Tensor:
    """<s, s> / <s, change of gradient>, or twice the last rate where the slope did not rise.

    The step ``v`` and the gradient before are carried to where the descent has come to.
    """
    metric, carry = after.slope.metric, after.slope.transport_from(before.slope)
    s = times(carry, v)
    rise = inner(metric, s, after.slope.natural - times(carry, before.slope.natural))
    squared = inner(metric, s, s)
    rate = torch.where((rise > 0) & (squared > 0), squared / rise, 2 * before.rate)
    # A guess that leaves a factor 1e4 behind comes from rounding.
    return rate.clamp(before.rate * 1e-4, before.rate * 1e4)
