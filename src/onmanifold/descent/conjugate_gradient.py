"""Riemannian nonlinear conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_number
from onmanifold.descent.derivatives import Slope
from onmanifold.descent.method import attempt, parabola, slope_arrival
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.quadratic import times
from onmanifold.descent.state import State
from onmanifold.descent.subproblem import composite_step
from onmanifold.geometry import riemannian_gradient
from onmanifold.prior import Point


@dataclass(frozen=True)
class ConjugateGradientState(State):
    """A :class:`State` with the slope there and the direction of the last step.

    Attributes:
        slope: the objective's derivatives and the tangent space.
        momentum: what the last direction adds to the next, ``(B, d)``.
        rate: step length t of the next step, ``(B,)``.
    """

    slope: Slope
    momentum: Tensor
    rate: Tensor


@dataclass(frozen=True)
class ConjugateGradient:
    """Steps ``t (momentum - G^{-1} grad f)``, the momentum a share of the last direction.

    That direction is carried along by projection onto the tangent space where the descent has come to, and
    the share is Polak's and Ribiere's, or none where it would be negative or the direction would not
    descend. t is the one that minimizes the misfit to second order along the direction, which costs one
    tangent through the operator; it is shortened until the objective falls by a share of what the slope
    promises (Armijo).

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
        slope = state.slope
        stretched = slope.metric / state.rate[:, None, None]
        pushed = times(slope.metric, state.momentum)
        v, eased = composite_step(
            problem, state.point, replace(slope, gradient=slope.gradient - pushed), stretched
        )
        promised = eased - (slope.gradient * v).sum(1)
        tried = attempt(problem, state, v, slope.metric, promised, self.sufficient)

        share = parabola(tried.promised, tried.gain).clamp(0.1 * self.shrink, self.shrink)
        uphill = (promised <= 0)[:, None]
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
        state, slope = slope_arrival(problem, trial)
        return ConjugateGradientState(
            **vars(state),
            slope=slope,
            momentum=torch.zeros_like(slope.gradient),
            rate=torch.ones_like(trial.objective),
        )

    def _aim(
        self, problem: Problem, trial: Trial, state: ConjugateGradientState, momentum: Tensor
    ) -> ConjugateGradientState:
        """Choose direction and step length at ``state``."""
        gradient = _gradient(state)
        steepest = -riemannian_gradient(state.slope.metric, gradient)
        downhill = ((steepest + momentum) * gradient).sum(1) < 0
        momentum = torch.where(downhill[:, None], momentum, 0.0)
        direction = steepest + momentum
        bend = problem.curvature_along(trial, direction)
        fall = -(direction * gradient).sum(1)
        rate = torch.where((bend > 0) & (fall > 0), fall / bend, 1.0)
        return replace(state, momentum=momentum, rate=rate)


def _gradient(state: ConjugateGradientState) -> Tensor:
    return state.slope.gradient + state.slope.slope


def _momentum(
    before: ConjugateGradientState, after: ConjugateGradientState, direction: Tensor
) -> Tensor:
    """Polak's and Ribiere's share of the last direction, carried along."""
    carry = after.slope.transport_from(before.slope)
    old, new = _gradient(before), _gradient(after)
    was = riemannian_gradient(before.slope.metric, old)
    now = riemannian_gradient(after.slope.metric, new)
    turned = (new * (now - times(carry, was))).sum(1)
    squared = (old * was).sum(1)
    share = torch.where(squared > 0, turned / squared, 0.0).clamp(min=0.0)
    return share[:, None] * times(carry, direction)
