"""Methods in units of the objective, so that no unit of the measurement can over- or underflow them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from onmanifold.descent.method import Method, State
from onmanifold.descent.problem import Problem
from onmanifold.prior import Point


@dataclass(frozen=True)
class Normalized[S: State]:
    """``method`` on the objective divided by the problem's ``unit``; states are in the user's units.

    Methods square gradients, and these grow with the square of the measurement: volts written as nanovolts
    are too much for float32. Units are powers of two, which round nothing.

    Args:
        method: makes the steps.
    """

    method: Method[S]

    def init(self, problem: Problem, point: Point) -> S:
        return _multiplied(self.method.init(problem.normalized(), point), problem.unit)

    def step(self, problem: Problem, state: S) -> S:
        inside = _multiplied(state, 1 / problem.unit)
        return _multiplied(self.method.step(problem.normalized(), inside), problem.unit)


def _multiplied[S: State](state: S, factor: Tensor) -> S:
    """``state`` with what observers and rules read of it times ``factor`` ``(B,)``."""
    return replace(
        state,
        objective=factor * state.objective,
        misfit=factor * state.misfit,
        resolution=factor * state.resolution,
        gradient_norm=factor * state.gradient_norm,
        predicted_reduction=factor * state.predicted_reduction,
        decrease=factor * state.decrease,
    )
