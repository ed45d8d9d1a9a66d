"""When a descent has gone far enough: rules that combine by ``|`` (any) and ``&`` (all).

A rule looks at each member by itself and returns a :class:`~onmanifold.status.Status` code,
0 to go on. A user's rule is a subclass that defines ``__call__``.

Example:
    >>> stop = MaxSteps(200) | GradientNorm(1e-6) & SmallDecrease(1e-3)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.checks import check_count, check_field, check_number
from onmanifold.descent.method import State
from onmanifold.descent.problem import Problem
from onmanifold.status import Status


class StoppingRule(ABC):
    """Decides for each member whether, and why, its descent ends."""

    @abstractmethod
    def __call__(self, problem: Problem, state: State) -> Tensor:
        """A status code for each member, 0 where the descent goes on: ``(B,)``, integer."""

    def __or__(self, other: StoppingRule) -> StoppingRule:
        return _Combined(self, other, both=False)

    def __and__(self, other: StoppingRule) -> StoppingRule:
        return _Combined(self, other, both=True)


@dataclass(frozen=True)
class _Combined(StoppingRule):
    first: StoppingRule
    second: StoppingRule
    both: bool

    def __call__(self, problem: Problem, state: State) -> Tensor:
        a, b = self.first(problem, state), self.second(problem, state)
        # Codes of convergence are the smallest: of two reasons they are the one to report.
        together = torch.minimum(a, b)
        if self.both:
            return together  # 0 unless both say stop
        return torch.where(together == 0, torch.maximum(a, b), together)


@dataclass(frozen=True)
class MaxSteps(StoppingRule):
    """Stop after this number of attempted steps; it does not count as convergence."""

    steps: int = 100

    def __post_init__(self) -> None:
        check_field(self, "steps", check_count)

    def __call__(self, problem: Problem, state: State) -> Tensor:
        return _code(state.steps >= self.steps, Status.MAX_STEPS)


@dataclass(frozen=True)
class GradientNorm(StoppingRule):
    """Stop where the Riemannian gradient is at most ``tol`` long (objective per length of x)."""

    tol: float = 1e-6

    def __post_init__(self) -> None:
        check_field(self, "tol", check_number)

    def __call__(self, problem: Problem, state: State) -> Tensor:
        return _code(state.gradient_norm <= self.tol, Status.SMALL_GRADIENT)


@dataclass(frozen=True)
class SmallDecrease(StoppingRule):
    """Stop where the last step's reduction of the objective, or the predicted one, is negligible.

    Negligible is ``rtol`` times the objective, or what the dtype can tell apart. After a rejected
    step the larger change counts, of the objective or of its model.
    """

    rtol: float = 1e-6

    def __post_init__(self) -> None:
        check_field(self, "rtol", check_number, high=1.0)

    def __call__(self, problem: Problem, state: State) -> Tensor:
        tolerance = torch.maximum(self.rtol * state.objective.abs(), state.resolution)
        left = torch.minimum(state.decrease, state.predicted_reduction)
        return _code(left <= tolerance, Status.SMALL_DECREASE)


@dataclass(frozen=True)
class Discrepancy(StoppingRule):
    """Stop where the residual is at most ``tau`` times the one expected of noise alone (Morozov).

    For a Gaussian fidelity: where ``|A(x) - y|^2 / std^2 <= tau^2 m`` with m entries present.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        check_field(self, "tau", check_number)

    def __call__(self, problem: Problem, state: State) -> Tensor:
        limit = self.tau**2 * problem.fidelity.expected(problem.measurement)
        return _code(state.misfit <= limit, Status.DISCREPANCY)


def _code(stops: Tensor, status: Status) -> Tensor:
    return torch.where(stops, int(status), int(Status.RUNNING))
