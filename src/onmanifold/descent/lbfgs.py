"""Riemannian limited-memory BFGS."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_number
from onmanifold.descent.derivatives import Slope
from onmanifold.descent.method import attempt, curvature_guess, parabola, slope_arrival
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.quadratic import inner, times
from onmanifold.descent.state import State
from onmanifold.descent.subproblem import composite_step
from onmanifold.prior import Point

_POSITIVE = 1e-4  # of |s| |y|: pairs with less curvature say nothing


@dataclass(frozen=True)
class LBFGSState(State):
    """A :class:`State` with the slope there and what the last steps said of the curvature.

    Attributes:
        slope: the objective's derivatives and the tangent space.
        scale: curvature in units of the metric where no step has been, ``(B,)``.
        stretch: factor of all curvature after rejected attempts, ``(B,)``.
        steps_gone: tangents s of the last m steps, newest first, ``(B, m, d)``.
        turns: by how much the Riemannian gradient turned with each, y, ``(B, m, d)``; zero where there was
            no step.
    """

    slope: Slope
    scale: Tensor
    stretch: Tensor
    steps_gone: Tensor
    turns: Tensor


@dataclass(frozen=True)
class LBFGS:
    """Quasi-Newton steps along the manifold: curvature is what the last gradients say of it.

    Steps s and changes of the gradient y of the last ``memory`` steps are carried along by projection onto
    the tangent space where the descent has come to. There they make, by the BFGS formula from a multiple
    of the metric, a matrix of d rows; so the latent box and a penalty with kinks count as in the other
    methods. A rejected attempt stretches the matrix, which shortens the step.

    Args:
        memory: number of steps that are kept.
        sufficient: share of the model's decrease that a step has to achieve to stand.

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
        slope = state.slope
        matrix = _bfgs(slope.metric, state) * state.stretch[:, None, None]
        v, eased = composite_step(problem, state.point, slope, matrix)
        promised = eased - (slope.gradient * v).sum(1)
        tried = attempt(problem, state, v, slope.metric, promised, self.sufficient)

        share = parabola(tried.promised, tried.gain).clamp(0.05, 0.5)
        stay = tried.rejected(replace(state, stretch=state.stretch / share))
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved = self._arrive(problem.select(rows), tried.trial.select(rows))
        carried = self._remember(state.select(rows), moved, v[rows])
        return stay.merge(rows, tried.arrived(state, carried))

    def _arrive(self, problem: Problem, trial: Trial) -> LBFGSState:
        state, slope = slope_arrival(problem, trial)
        nothing = slope.gradient.new_zeros((len(problem), self.memory, problem.prior.dim))
        return LBFGSState(
            **vars(state),
            slope=slope,
            scale=torch.ones_like(trial.objective),
            stretch=torch.ones_like(trial.objective),
            steps_gone=nothing,
            turns=nothing,
        )

    def _remember(self, before: LBFGSState, after: LBFGSState, v: Tensor) -> LBFGSState:
        """``after``, with the memory carried there and the last step ``v`` added to it."""
        metric, carry = after.slope.metric, after.slope.transport_from(before.slope)
        s, y = times(carry, v), after.slope.natural - times(carry, before.slope.natural)
        steps, turns = (
            torch.cat([last[:, None], kept @ carry.mT], dim=1)[:, : self.memory]
            for last, kept in ((s, before.steps_gone), (y, before.turns))
        )
        bent, size = inner(metric, s, y), inner(metric, s, s)
        told = bent > _POSITIVE * (size * inner(metric, y, y)).sqrt()
        scale = torch.where(told, inner(metric, y, y) / bent, before.scale * before.stretch)
        return replace(after, scale=scale, steps_gone=steps, turns=turns)


def _bfgs(metric: Tensor, state: LBFGSState) -> Tensor:
    """The BFGS matrix of the memory, oldest step first: ``(B, d, d)``."""
    matrix = state.scale[:, None, None] * metric
    for s, y in zip(state.steps_gone.unbind(1)[::-1], state.turns.unbind(1)[::-1], strict=True):
        bent, size = inner(metric, s, y), inner(metric, s, s)
        told = bent > _POSITIVE * (size * inner(metric, y, y)).sqrt()
        ms, gy = times(matrix, s), times(metric, y)
        along = torch.where(told, (ms * s).sum(1), 1.0)
        change = gy[:, :, None] * gy[:, None, :] / torch.where(told, bent, 1.0)[:, None, None]
        change = change - ms[:, :, None] * ms[:, None, :] / along[:, None, None]
        matrix = torch.where(told[:, None, None], matrix + change, matrix)
    return matrix
