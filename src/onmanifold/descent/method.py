"""What every descent method shares: the protocol, and one attempted step with its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from onmanifold.descent.derivatives import Model, Slope
from onmanifold.descent.problem import Problem, Trial
from onmanifold.descent.quadratic import length, projected_norm
from onmanifold.descent.state import State
from onmanifold.prior import Point


class Method[S: State](Protocol):
    """A descent method: where it starts, and one attempted step of all members it is given.

    The loop, the stopping rules and the history live outside. A step that would raise the objective
    must leave its member where it was.
    """

    def init(self, problem: Problem, point: Point) -> S:
        """The state at ``point``."""
        ...

    def step(self, problem: Problem, state: S) -> S:
        """The state after one attempted step."""
        ...


def arrival(problem: Problem, trial: Trial, model: Slope | Model, promise: Tensor) -> State:
    """The state of members that have just arrived at ``trial``."""
    norm = projected_norm(model.metric, model.gradient + model.slope, *problem.bounds(trial.point))
    zero, no = torch.zeros_like(norm), torch.zeros_like(norm, dtype=torch.bool)
    return State(
        point=trial.point,
        objective=trial.objective,
        misfit=trial.misfit,
        resolution=trial.resolution,
        gradient_norm=norm,
        promise=promise,
        steps=torch.zeros_like(trial.point.chart),
        step_length=zero,
        decrease=zero + torch.inf,
        stalled=no,
        wait=torch.zeros_like(trial.point.chart),
        refusals=torch.zeros_like(trial.point.chart),
    )


def slope_arrival(problem: Problem, trial: Trial) -> tuple[State, Slope]:
    """The state at ``trial`` for methods that look at gradients only, and the slope there."""
    slope = problem.slope(trial)
    unknown = torch.full_like(trial.objective, torch.inf)  # a slope alone promises no minimum
    return arrival(problem, trial, slope, promise=unknown), slope


def curvature_guess(state: State) -> Tensor:
    """A curvature in units of the metric where only the slope is known, ``(B,)``.

    For a quadratic misfit with minimum 0 this is twice its curvature along the slope.
    """
    squared = state.gradient_norm.square()
    return torch.where((state.misfit > 0) & (squared > 0), squared / state.misfit, 1.0)


@dataclass(frozen=True)
class Attempt:
    """One attempted step of B members, judged.

    Attributes:
        trial: where it led.
        gain: how far the objective fell, ``(B,)``.
        promised: how far it should have, by the method's model, ``(B,)``.
        step_length: length in the unknown's space, ``(B,)``.
        accepted: whether the step stands, ``(B,)``, boolean.
        rows: the members whose step stands, an index.
    """

    trial: Trial
    gain: Tensor
    promised: Tensor
    step_length: Tensor
    accepted: Tensor
    rows: Tensor

    def rejected[S: State](self, state: S) -> S:
        """``state`` as it goes on where the step does not stand."""
        refused = self.trial.switched & ~self.accepted
        change = torch.maximum(self.promised, self.gain.abs())
        return replace(
            state,
            steps=state.steps + 1,
            step_length=torch.zeros_like(self.gain),
            decrease=torch.where(refused, torch.inf, change.nan_to_num(nan=torch.inf)),
            stalled=~refused & (self.promised <= 0.01 * state.resolution),
            # Refused changes of chart cost a linearization each: they are tried ever more rarely.
            wait=torch.where(refused, 2**state.refusals, (state.wait - 1).clamp(min=0)),
            refusals=(state.refusals + refused).clamp(max=6),
        )

    def arrived[S: State](self, before: S, state: S) -> S:
        """``state``, of the members ``rows``, as it goes on where the step stands."""
        gain, switched = self.gain[self.rows], self.trial.switched[self.rows]
        return replace(
            state,
            steps=before.steps[self.rows] + 1,
            step_length=self.step_length[self.rows],
            decrease=torch.where(switched, torch.inf, gain),
            wait=(before.wait[self.rows] - 1).clamp(min=0),
            refusals=torch.where(switched, 0, before.refusals[self.rows]),
            stalled=(gain <= 0)
            & ~switched
            & (state.gradient_norm >= before.gradient_norm[self.rows]),
        )


def attempt(
    problem: Problem, state: State, v: Tensor, metric: Tensor, promised: Tensor, sufficient: float
) -> Attempt:
    """Try the step ``v``; it stands if it gains at least ``sufficient * promised``.

    Where the chart changed, of which the model knows nothing, it stands if it gains anything; where the
    dtype cannot tell the promise from zero, if the objective does not rise.
    """
    promised = promised.clamp(min=0.0)
    trial = problem.after(state.point, v, state.wait == 0)
    gain = state.objective - trial.objective
    enough = (gain >= sufficient * promised) | trial.switched
    blind = promised <= state.resolution
    accepted = ((gain > 0) & enough) | (blind & (gain >= 0))
    accepted = accepted & torch.isfinite(trial.objective)
    rows = accepted.nonzero().squeeze(1)
    return Attempt(trial, gain, promised, length(metric, v), accepted, rows)


def parabola(promised: Tensor, gain: Tensor) -> Tensor:
    """The share of a step at which the parabola with its slope and its gain is lowest."""
    short = 2 * (promised - gain)
    return torch.where(short > 0, promised / short, torch.inf).nan_to_num(nan=0.0)
