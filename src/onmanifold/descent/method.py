"""What every descent method shares: state, protocol, the step's subproblem, one attempted step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from onmanifold.descent.model import (
    FirstOrderModel,
    QuadraticModel,
    Rows,
    inner,
    minimize_on_box,
    model_decrease,
    projected_norm,
    times,
)
from onmanifold.descent.problem import Problem, Trial
from onmanifold.prior import Point

_ROUNDS = 30
_ACCURACY = 0.1  # share of its decrease by which a model of the penalty may be wrong
_WORTHWHILE = 0.02  # share of the reduction so far that a further round has to add


@dataclass(frozen=True)
class State(Rows):
    """Where B members are. Methods extend it by what they need themselves.

    Attributes:
        point: the present points.
        objective: misfit plus weighted penalty, ``(B,)``.
        misfit: the fidelity's value alone, ``(B,)``.
        resolution: changes of the objective below it are rounding, ``(B,)``.
        gradient_norm: length of the Riemannian gradient, ``(B,)``; directions that leave the latent
            box do not count.
        predicted_reduction: how far the method's model of the objective falls from here, ``(B,)``;
            infinite if the method has no such model.
        steps: steps attempted, ``(B,)``, integer.
        step_length: length of the last step in the space of x, 0 if it was rejected, ``(B,)``.
        decrease: how far the objective fell with the last step, or, if that was rejected, by how much the
            objective and its model changed, ``(B,)``; infinite if that says nothing (no step yet, a
            change of chart).
        stalled: whether no step lowers the objective any more, ``(B,)``, boolean.
    """

    point: Point
    objective: Tensor
    misfit: Tensor
    resolution: Tensor
    gradient_norm: Tensor
    predicted_reduction: Tensor
    steps: Tensor
    step_length: Tensor
    decrease: Tensor
    stalled: Tensor

    def __len__(self) -> int:
        return len(self.objective)


class Method[S: State](Protocol):
    """A descent method: its initial state, and one attempted step of all members it is given.

    The loop, the stopping rules and the history are outside. A step that would raise the objective
    must leave its member where it was.
    """

    def init(self, problem: Problem, point: Point) -> S:
        """The state at ``point``."""
        ...

    def step(self, problem: Problem, state: S) -> S:
        """The state after one attempted step."""
        ...


def arrival(
    problem: Problem,
    trial: Trial,
    model: FirstOrderModel | QuadraticModel,
) -> State:
    """The state of members that have just arrived at ``trial``, the predicted reduction unknown."""
    norm = projected_norm(model.metric, model.gradient, *problem.bounds(trial.point))
    zero = torch.zeros_like(norm)
    return State(
        point=trial.point,
        objective=trial.objective,
        misfit=trial.misfit,
        resolution=trial.resolution,
        gradient_norm=norm,
        predicted_reduction=zero + torch.inf,
        steps=torch.zeros_like(trial.point.chart),
        step_length=zero,
        decrease=zero + torch.inf,
        stalled=torch.zeros_like(norm, dtype=torch.bool),
    )


def first_order_arrival(problem: Problem, trial: Trial) -> tuple[State, FirstOrderModel]:
    """The state at ``trial`` for methods that look at gradients only, and the model there."""
    model = problem.first_order_model(trial)
    return arrival(problem, trial, model), model


def curvature_guess(state: State) -> Tensor:
    """A curvature in units of the metric where only the gradient is known, ``(B,)``.

    For a quadratic misfit with minimum 0 this is twice its curvature along the gradient.
    """
    squared = state.gradient_norm.square()
    return torch.where((state.misfit > 0) & (squared > 0), squared / state.misfit, 1.0)


def composite_step(
    problem: Problem, point: Point, model: FirstOrderModel | QuadraticModel, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimize ``g.v + v.M v / 2 + R(z + v)`` over v in the latent box, approximately; it never exceeds 0.

    The penalty R costs nothing next to the operator. So its model, a gradient and a curvature, is renewed
    at the best v so far, until that brings no more. Where R rises above its model, as against a wall that
    the derivatives at ``z`` do not show, the way from v to the model's minimizer is halved.

    Args:
        problem: B members.
        point: where they are.
        model: g is the misfit's gradient there; the penalty's derivatives there.
        matrix: M, positive semidefinite, ``(B, d, d)``.

    Returns:
        v, shape ``(B, d)``, and the reduction of the penalty ``R(z) - R(z + v)``, ``(B,)``.
    """
    low, high = problem.bounds(point)
    v = torch.zeros_like(model.misfit_gradient)
    if not problem.weighted:
        return minimize_on_box(matrix, model.misfit_gradient, low, high), v.sum(1)
    start = value = problem.penalty(point)
    slope, hessian = model.penalty_gradient, model.penalty_hessian
    reduced, going = torch.zeros_like(value), torch.isfinite(value)
    halved, s = torch.zeros_like(going), v
    rounding = 10 * torch.finfo(value.dtype).eps * value.abs()
    for _ in range(_ROUNDS):
        gradient, whole = model.misfit_gradient + times(matrix, v) + slope, matrix + hessian
        s = 0.5 * s
        rows = (going & ~halved).nonzero().squeeze(1)
        if len(rows):
            parts = (t[rows] for t in (whole, gradient, low - v, high - v))
            s = s.index_copy(0, rows, minimize_on_box(*parts))
        target = point.at(point.z + v + s)
        after, turn = problem.penalty(target), problem.penalty_gradient(target) - slope
        predicted = model_decrease(whole, gradient, s)
        error = after - value - ((slope + 0.5 * times(hessian, s)) * s).sum(1)  # of R's model
        holds = going & (error <= _ACCURACY * predicted + rounding)

        v = torch.where(holds[:, None], v + s, v)
        slope = torch.where(holds[:, None], slope + turn, slope)
        value = torch.where(holds, after, value)
        secant = torch.where(s == 0, 0.0, turn / s).nan_to_num(0.0, 0.0, 0.0).clamp(min=0.0)
        hessian = torch.where(holds[:, None, None], torch.diag_embed(secant), hessian)
        actual = predicted - error
        reduced = torch.where(holds, reduced + actual, reduced)
        # Done where the model was right and its minimizer reached, or where the round brought little.
        reached = (error.abs() <= _ACCURACY * predicted) & ~halved
        going = going & ~(holds & (reached | (actual <= _WORTHWHILE * reduced + rounding)))
        if not bool(going.any()):
            break
        halved = going & ~holds
    return v, start - value


@dataclass(frozen=True)
class Attempt:
    """One attempted step of B members, judged.

    Attributes:
        trial: where it led.
        actual_reduction: how far the objective fell, ``(B,)``.
        predicted_reduction: how far it falls by the method's model, ``(B,)``.
        step_length: length in the space of x, ``(B,)``.
        accepted: whether the step is accepted, ``(B,)``, boolean.
        rows: the members whose step is accepted, an index.
    """

    trial: Trial
    actual_reduction: Tensor
    predicted_reduction: Tensor
    step_length: Tensor
    accepted: Tensor
    rows: Tensor

    @property
    def agreement(self) -> Tensor:
        """The reduction of the objective over that of the model, ``(B,)``."""
        tiny = torch.finfo(self.actual_reduction.dtype).tiny
        return self.actual_reduction / self.predicted_reduction.clamp(min=tiny)

    def rejected[S: State](self, state: S) -> S:
        """``state`` as it goes on where the step is rejected."""
        switched = self.trial.switched
        change = torch.maximum(self.predicted_reduction, self.actual_reduction.abs())
        return replace(
            state,
            steps=state.steps + 1,
            step_length=torch.zeros_like(change),
            decrease=torch.where(switched, torch.inf, change.nan_to_num(nan=torch.inf)),
            stalled=~switched & (self.predicted_reduction <= 0.01 * state.resolution),
        )

    def arrived[S: State](self, before: S, state: S) -> S:
        """``state``, of the members ``rows``, as it goes on where the step is accepted."""
        reduction, switched = self.actual_reduction[self.rows], self.trial.switched[self.rows]
        no_flatter = state.gradient_norm >= before.gradient_norm[self.rows]
        return replace(
            state,
            steps=before.steps[self.rows] + 1,
            step_length=self.step_length[self.rows],
            decrease=torch.where(switched, torch.inf, reduction),
            stalled=(reduction <= 0) & ~switched & no_flatter,
        )


def attempt(
    problem: Problem,
    state: State,
    v: Tensor,
    metric: Tensor,
    predicted_reduction: Tensor,
    sufficient: float = 1e-4,
) -> Attempt:
    """Try the step ``v``; it is accepted if it achieves the share ``sufficient`` of the predicted reduction.

    Where the chart changed, of which the model knows nothing, any reduction is accepted; where the
    dtype cannot tell the predicted one from zero, any step that does not raise the objective.
    """
    predicted = predicted_reduction.clamp(min=0.0)
    trial = problem.after(state.point, v)
    actual = state.objective - trial.objective
    enough = (actual >= sufficient * predicted) | trial.switched
    blind = predicted <= state.resolution
    accepted = ((actual > 0) & enough) | (blind & (actual >= 0))
    accepted = accepted & torch.isfinite(trial.objective)
    if problem.chart_changes is not None:
        problem.chart_changes.record(problem.members, trial.switched, accepted)
    rows = accepted.nonzero().squeeze(1)
    length = inner(metric, v, v).clamp(min=0.0).sqrt()
    return Attempt(trial, actual, predicted, length, accepted, rows)


def parabola(predicted_reduction: Tensor, actual_reduction: Tensor) -> Tensor:
    """The share of a step at which the parabola through its slope and actual reduction is lowest."""
    excess = 2 * (predicted_reduction - actual_reduction)
    return torch.where(excess > 0, predicted_reduction / excess, torch.inf).nan_to_num(nan=0.0)
