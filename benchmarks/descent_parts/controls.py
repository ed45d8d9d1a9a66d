"""Fixed-step Riemannian descent, as published, and a rule that stops at an objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onmanifold import Point, Status
from onmanifold.descent import State, StoppingRule
from onmanifold.descent.method import attempt, first_order_arrival
from onmanifold.descent.model import FirstOrderModel
from onmanifold.descent.problem import Problem, Trial


@dataclass(frozen=True)
class FixedState(State):
    """A state with the first-order model there and the present length of steps."""

    model: FirstOrderModel
    rate: Tensor


@dataclass(frozen=True)
class FixedStep:
    """Steps ``-rate G^{-1} grad f`` of a constant rate, halved for good where one would rise.

    Alberti et al., JMLR 25 (2024): 500 steps for the bars; 100 for the tomography, where halving makes it
    239 evaluations. ``rate`` is in units of the inverse of the misfit's curvature along the first gradient,
    so that one number serves all problems.
    """

    rate: float = 0.2

    def init(self, problem: Problem, point: Point) -> FixedState:
        trial = problem.at(point)
        state = self._arrive(problem, trial)
        direction = -state.model.natural_gradient
        curvature = problem.curvature_along(trial, direction)
        fall = -(direction * state.model.misfit_gradient).sum(1)
        best = torch.where((curvature > 0) & (fall > 0), fall / curvature, 1.0)
        return replace(state, rate=self.rate * best)

    def step(self, problem: Problem, state: FixedState) -> FixedState:
        model = state.model
        v = -state.rate[:, None] * model.natural_gradient
        low, high = problem.bounds(state.point)
        v = torch.maximum(torch.minimum(v, high), low)
        predicted = -(model.misfit_gradient * v).sum(1)
        tried = attempt(problem, state, v, model.metric, predicted, 0.0)
        stay = replace(tried.rejected(state), rate=state.rate / 2)
        rows = tried.rows
        if len(rows) == 0:
            return stay
        moved = self._arrive(problem.select(rows), tried.trial.select(rows))
        moved = replace(moved, rate=state.rate[rows])
        return stay.merge(rows, tried.arrived(state, moved))

    def _arrive(self, problem: Problem, trial: Trial) -> FixedState:
        state, model = first_order_arrival(problem, trial)
        # The density counts by its gradient alone, as in the paper's implementation of the penalty.
        model = replace(model, misfit_gradient=model.gradient)
        return FixedState(**vars(state), model=model, rate=torch.ones_like(trial.objective))


@dataclass(frozen=True, eq=False)
class Reaches(StoppingRule):
    """Stop where the objective of a measurement is down to its target, ``(B,)``, for S starts each."""

    target: Tensor
    starts: int

    def __call__(self, problem: Problem, state: State) -> Tensor:
        target = self.target[problem.members // self.starts]
        return torch.where(state.objective <= target, int(Status.DISCREPANCY), int(Status.RUNNING))
