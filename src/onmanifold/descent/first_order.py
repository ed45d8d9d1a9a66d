"""Methods that look at gradients only: steepest descent, conjugate gradients, limited-memory BFGS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field
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
from onmanifold.geometry import solve_spd
from onmanifold.prior import Point

_POSITIVE = 1e-4  # of |s| |y|: pairs with less curvature are not used

type Last[S] = tuple[S, Tensor] | None  # the state before, and the tangent that led from it


@dataclass(frozen=True)
class FirstOrderState(State):
    """A :class:`State` with the first-order model there and what makes the next step of it.

    Attributes:
        model: the objective's derivatives and the tangent space.
        matrix: what stands for the misfit's Hessian at step length 1, ``(B, d, d)``.
        momentum: the multiple of the last direction that is added to the next, ``(B, d)``.
        rate: step length t of the next step, ``(B,)``.
    """

    model: FirstOrderModel
    matrix: Tensor
    momentum: Tensor
    rate: Tensor


class _FirstOrder[S: FirstOrderState](ABC):
    """Steps ``t (momentum - matrix^{-1} grad f)``; t shrinks until the objective falls enough (Armijo).

    A rejected attempt says by the parabola through what it found how much shorter the next one is.
    """

    def init(self, problem: Problem, point: Point) -> S:
        return self._arrive(problem, problem.at(point), None)

    def step(self, problem: Problem, state: S) -> S:
        model = state.model
        matrix = state.matrix / state.rate[:, None, None]
        pushed = model.misfit_gradient - times(model.metric, state.momentum)
        v, penalty_reduction = composite_step(
            problem, state.point, replace(model, misfit_gradient=pushed), matrix
        )
        predicted = penalty_reduction - (model.misfit_gradient * v).sum(1)
        tried = attempt(problem, state, v, model.metric, predicted)

        share = parabola(tried.predicted_reduction, tried.actual_reduction).clamp(0.05, 0.5)
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
        last = state.select(rows), v[rows]
        moved = self._arrive(problem.select(rows), tried.trial.select(rows), last)
        return stay.merge(rows, tried.arrived(state, moved))

    @abstractmethod
    def _arrive(self, problem: Problem, trial: Trial, last: Last[S]) -> S:
        """The state at ``trial``, with what makes the next step."""


def _steepest(problem: Problem, trial: Trial) -> FirstOrderState:
    """The state at ``trial``, the next step the full one along the Riemannian gradient."""
    state, model = first_order_arrival(problem, trial)
    return FirstOrderState(
        **vars(state),
        model=model,
        matrix=model.metric,
        momentum=torch.zeros_like(model.gradient),
        rate=torch.ones_like(trial.objective),
    )


@dataclass(frozen=True)
class RiemannianGradientDescent(_FirstOrder[FirstOrderState]):
    """Steps ``-t G^{-1} grad f`` along the manifold.

    t is guessed from the last two gradients (Barzilai-Borwein, in the metric) and shortened until
    the objective falls by a share of the predicted reduction (Armijo). One attempt is one step of
    the loop.

    References:
        B. Iannazzo, M. Porcelli, The Riemannian Barzilai-Borwein method with nonmonotone line
        search, IMA J. Numer. Anal. 38 (2018); here the line search is monotone.
    """

    def _arrive(
        self, problem: Problem, trial: Trial, last: Last[FirstOrderState]
    ) -> FirstOrderState:
        state = _steepest(problem, trial)
        if last is None:
            return replace(state, rate=1 / curvature_guess(state))
        before = last[0].rate
        _, s, change = _transported(state, *last)
        rise = inner(state.model.metric, s, change)
        squared = inner(state.model.metric, s, s)
        rate = torch.where((rise > 0) & (squared > 0), squared / rise, 2 * before)
        # A guess that leaves a factor 1e4 behind comes from rounding.
        return replace(state, rate=rate.clamp(before * 1e-4, before * 1e4))


@dataclass(frozen=True)
class ConjugateGradient(_FirstOrder[FirstOrderState]):
    """Steps ``t (momentum - G^{-1} grad f)``, the momentum a multiple of the last direction.

    That direction is transported by projection onto the tangent space at the present point. The multiple is
    Polak's and Ribiere's, or 0 where that would be negative or the direction would not
    descend. t minimizes the misfit to second order along the direction, which costs one
    tangent through the operator; it is shortened until the objective falls by a share of the predicted
    reduction (Armijo).

    References:
        H. Sato, Riemannian Conjugate Gradient Methods, SIAM J. Optim. 32 (2022).
    """

    def _arrive(
        self, problem: Problem, trial: Trial, last: Last[FirstOrderState]
    ) -> FirstOrderState:
        state = _steepest(problem, trial)
        gradient, momentum = state.model.gradient, state.momentum
        steepest = -solve_spd(state.model.metric, gradient)
        if last is not None:
            momentum = _polak_ribiere(state.model, -steepest, *last)
        downhill = ((steepest + momentum) * gradient).sum(1) < 0
        momentum = torch.where(downhill[:, None], momentum, 0.0)
        direction = steepest + momentum
        curvature = problem.curvature_along(trial, direction)
        fall = -(direction * gradient).sum(1)
        rate = torch.where((curvature > 0) & (fall > 0), fall / curvature, 1.0)
        return replace(state, momentum=momentum, rate=rate)


def _polak_ribiere(
    model: FirstOrderModel, natural: Tensor, before: FirstOrderState, v: Tensor
) -> Tensor:
    """The multiple of the last direction, transported to where the Riemannian gradient is ``natural``."""
    carry = model.transport_from(before.model)
    old = before.model.gradient
    was = solve_spd(before.model.metric, old)
    turned = (model.gradient * (natural - times(carry, was))).sum(1)
    squared = (old * was).sum(1)
    multiple = torch.where(squared > 0, turned / squared, 0.0).clamp(min=0.0)
    return multiple[:, None] * times(carry, v / before.rate[:, None])


@dataclass(frozen=True)
class LBFGSState(FirstOrderState):
    """The same with the pairs (s, y) of the last steps.

    Attributes:
        scale: curvature in units of the metric in directions without a step, ``(B,)``.
        steps_gone: tangents s of the last m steps, newest first, ``(B, m, d)``.
        changes: of the Riemannian gradient with each, y, ``(B, m, d)``; zero where there was no step.
    """

    scale: Tensor
    steps_gone: Tensor
    changes: Tensor


@dataclass(frozen=True)
class LBFGS(_FirstOrder[LBFGSState]):
    """Quasi-Newton steps along the manifold: the last gradients give the curvature.

    Steps s and changes of the gradient y of the last ``memory`` steps are transported by projection onto
    the tangent space at the present point. There the BFGS formula, from a multiple
    of the metric, makes a matrix ``(d, d)`` of them; so latent box and penalty count as in the other
    methods. A rejected attempt scales the matrix up, which shortens the step.

    Args:
        memory: number of steps that are kept.

    References:
        J. Nocedal, S. Wright, Numerical Optimization (2006), chapter 7; W. Huang, K. A. Gallivan, P.-A.
        Absil, A Broyden class of quasi-Newton methods for Riemannian optimization, SIAM J. Optim. 25 (2015).

    Example:
        >>> LBFGS(memory=5)
        LBFGS(memory=5)
    """

    memory: int = 10

    def __post_init__(self) -> None:
        check_field(self, "memory", check_count)

    def _arrive(self, problem: Problem, trial: Trial, last: Last[LBFGSState]) -> LBFGSState:
        state = _steepest(problem, trial)
        metric = state.model.metric
        if last is None:
            steps = changes = metric.new_zeros((len(metric), self.memory, metric.shape[1]))
            scale = curvature_guess(state)
        else:
            before, (carry, s, y) = last[0], _transported(state, *last)
            steps, changes = (
                torch.cat([newest[:, None], kept @ carry.mT], dim=1)[:, : self.memory]
                for newest, kept in ((s, before.steps_gone), (y, before.changes))
            )
            curvature, usable = _curvature(metric, s, y)
            scale = torch.where(usable, inner(metric, y, y) / curvature, before.scale / before.rate)
        state = replace(state, matrix=_bfgs(metric, scale, steps, changes))
        return LBFGSState(**vars(state), scale=scale, steps_gone=steps, changes=changes)


def _transported(
    state: FirstOrderState, before: FirstOrderState, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The transport to ``state``, and there the last step and the gradient's change with it."""
    carry = state.model.transport_from(before.model)
    change = state.model.natural_gradient - times(carry, before.model.natural_gradient)
    return carry, times(carry, v), change


def _curvature(metric: Tensor, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """<s, y>, and whether that is clearly positive."""
    curvature = inner(metric, s, y)
    return curvature, curvature > _POSITIVE * (inner(metric, s, s) * inner(metric, y, y)).sqrt()


def _bfgs(metric: Tensor, scale: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """The BFGS matrix of pairs ``(B, m, d)``, oldest step first: ``(B, d, d)``."""
    matrix = scale[:, None, None] * metric
    for s, y in zip(steps.unbind(1)[::-1], changes.unbind(1)[::-1], strict=True):
        curvature, usable = _curvature(metric, s, y)
        ms, gy = times(matrix, s), times(metric, y)
        along = torch.where(usable, (ms * s).sum(1), 1.0)
        change = (
            gy[:, :, None] * gy[:, None, :] / torch.where(usable, curvature, 1.0)[:, None, None]
        )
        change = change - ms[:, :, None] * ms[:, None, :] / along[:, None, None]
        matrix = torch.where(usable[:, None, None], matrix + change, matrix)
    return matrix
