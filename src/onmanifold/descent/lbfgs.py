"""Riemannian limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_number
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

_POSITIVE = 1e-4  # of |s| |y|: pairs with less curvature are not used


@dataclass(frozen=True)
class LBFGSState(State):
    """A :class:`State` with the first-order model there and the pairs (s, y) of the last steps.

    Attributes:
        model: the objective's derivatives and the tangent space.
        scale: curvature in units of the metric in directions without a step, ``(B,)``.
        stretch: factor of all curvature after rejected attempts, ``(B,)``.
        steps_gone: tangents s of the last m steps, newest first, ``(B, m, d)``.
        changes: of the Riemannian gradient with each, y, ``(B, m, d)``; zero where there was no step.
    """

    model: FirstOrderModel
    scale: Tensor
    stretch: Tensor
    steps_gone: Tensor
    changes: Tensor


@dataclass(frozen=True)
class LBFGS:
    """Quasi-Newton steps along the manifold: the last gradients give the curvature.

    Steps s and changes of the gradient y of the last ``memory`` steps are transported by projection onto
    the tangent space at the present point. There the BFGS formula, from a multiple
    of the metric, makes a matrix ``(d, d)`` of them; so latent box and penalty count as in the other
    methods. A rejected attempt scales the matrix up, which shortens the step.

    Args:
        memory: number of steps that are kept.
        sufficient: share of the predicted reduction that an accepted step achieves.

    References:
        J. Nocedal, S. Wright, Numerical Optimization (2006), chapter 7; W. Huang, K. A. Gallivan, P.-A.
        Absil, A Broyden class of quasi-Newton methods for Riemannian optimization, SIAM J. Optim. 25 (2015).

    Example:
        >>> LBFGS(memory=5)
        LBFGS(memory=5, sufficient=0.0001)
    """

    memory: int = 10
    sufficient: float = 1e-4

    def __post_init__(self) -> None:
        check_count(self.memory, "LBFGS: memory")
        check_number(self.sufficient, "LBFGS: sufficient", high=1.0)

    def init(self, problem: Problem, point: Point) -> LBFGSState:
        state = self._arrive(problem, problem.at(point))
        return replace(state, scale=curvature_guess(state))

    def step(self, problem: Problem, state: LBFGSState) -> LBFGSState:
        model = state.model
        matrix = _bfgs(model.metric, state) * state.stretch[:, None, None]
        v, penalty_reduction = composite_step(problem, state.point, model, matrix)
        predicted = penalty_reduction - (model.misfit_gradient * v).sum(1)
        tried = attempt(problem, state, v, model.metric, predicted, self.sufficient)

        share = parabola(tried.predicted_reduction, tried.actual_reduction).clamp(0.05, 0.5)
        stay = tried.rejected(replace(state, stretch=state.stretch / share))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved = self._arrive(problem.select(rows), tried.trial.select(rows))
        carried = self._remember(state.select(rows), moved, v[rows])
        return stay.merge(rows, tried.arrived(state, carried))

    def _arrive(self, problem: Problem, trial: Trial) -> LBFGSState:
        state, model = first_order_arrival(problem, trial)
        nothing = model.gradient.new_zeros((len(problem), self.memory, problem.prior.dim))
        return LBFGSState(
            **vars(state),
            model=model,
            scale=torch.ones_like(trial.objective),
            stretch=torch.ones_like(trial.objective),
            steps_gone=nothing,
            changes=nothing,
        )

    def _remember(self, before: LBFGSState, after: LBFGSState, v: Tensor) -> LBFGSState:
        """``after``, with the memory transported there and the last step ``v`` added to it."""
        metric, carry = after.model.metric, after.model.transport_from(before.model)
        s = times(carry, v)
        y = after.model.natural_gradient - times(carry, before.model.natural_gradient)
        steps, changes = (
            torch.cat([last[:, None], kept @ carry.mT], dim=1)[:, : self.memory]
            for last, kept in ((s, before.steps_gone), (y, before.changes))
        )
        curvature, size = inner(metric, s, y), inner(metric, s, s)
        usable = curvature > _POSITIVE * (size * inner(metric, y, y)).sqrt()
        scale = torch.where(usable, inner(metric, y, y) / curvature, before.scale * before.stretch)
        return replace(after, scale=scale, steps_gone=steps, changes=changes)


def _bfgs(metric: Tensor, state: LBFGSState) -> Tensor:
    """The BFGS matrix of the memory, oldest step first: ``(B, d, d)``."""
    matrix = state.scale[:, None, None] * metric
    for s, y in zip(state.steps_gone.unbind(1)[::-1], state.changes.unbind(1)[::-1], strict=True):
        curvature, size = inner(metric, s, y), inner(metric, s, s)
        usable = curvature > _POSITIVE * (size * inner(metric, y, y)).sqrt()
        ms, gy = times(matrix, s), times(metric, y)
        along = torch.where(usable, (ms * s).sum(1), 1.0)
        change = (
            gy[:, :, None] * gy[:, None, :] / torch.where(usable, curvature, 1.0)[:, None, None]
        )
        change = change - ms[:, :, None] * ms[:, None, :] / along[:, None, None]
        matrix = torch.where(usable[:, None, None], matrix + change, matrix)
    return matrix
