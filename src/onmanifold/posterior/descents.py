"""Descents of candidates for one measurement, and evaluations of many points, shared among processes."""

from __future__ import annotations

import torch
from torch import Tensor

from onmanifold.descent import LevenbergMarquardt, StoppingRule, descend
from onmanifold.descent.levenberg_marquardt import LMState
from onmanifold.descent.problem import Counts, Problem
from onmanifold.evaluation_mode import computing
from onmanifold.initial_points import objectives
from onmanifold.prior import Point
from onmanifold.processes import Processes

_GROUPS = ((16, 4), (4, 2))  # from so many candidates on, so many groups
_POINTS = 16  # that are evaluated in a group


class Descents:
    """Descents of candidates for one measurement, in groups that processes share.

    The groups are the same however many processes there are: so is the result, to the last bit.

    Args:
        problem: of one member, the measurement. Its counts are kept.
        method: makes the steps.
        processes: which share the work.
    """

    def __init__(self, problem: Problem, method: LevenbergMarquardt, processes: Processes) -> None:
        self.problem, self.method, self._processes = problem, method, processes

    def __call__(self, start: Point | LMState, stop: StoppingRule) -> LMState:
        """The final state of the descents from ``start``, in its order."""
        count = next((groups for least, groups in _GROUPS if len(start) >= least), 1)
        rows = [torch.arange(k, len(start), count) for k in range(count)]
        tasks = [(self.method, start.select(some), stop) for some in rows]
        found = self._processes.map(_descend, self.problem, tasks)
        for _, counts in found:
            self.count(int(counts.evaluations.sum()), int(counts.linearizations.sum()))
        states = [state for state, _ in found]
        return states[0].cat(states).select(torch.cat(rows).argsort())

    def count(self, evaluations: int, linearizations: int) -> None:
        """Note calls of the operator."""
        kept, row = self.problem.counts, self.problem.members
        kept.evaluations[row] += evaluations
        kept.linearizations[row] += linearizations

    def members(self, n: int) -> Problem:
        """The problem of ``n`` candidates."""
        return _members(self.problem, n)

    def objectives(self, point: Point) -> Tensor:
        """The objective at each point, ``(B,)``."""
        self.count(len(point), 0)
        return shared_objectives(self._processes, self.problem, point)[0]


def shared_objectives(processes: Processes, problem: Problem, pool: Point) -> Tensor:
    """As :func:`~onmanifold.initial_points.objectives`, in groups that processes share."""
    rows = torch.arange(len(pool), device=pool.z.device).split(_POINTS)
    tasks = [(pool.select(some),) for some in rows]
    return torch.cat(processes.map(_objectives, problem, tasks), dim=1)


def _objectives(problem: Problem, pool: Point) -> Tensor:
    with computing(problem.prior):
        return objectives(problem, pool)


def _descend(
    problem: Problem, method: LevenbergMarquardt, start: Point | LMState, stop: StoppingRule
) -> tuple[LMState, Counts]:
    members = _members(problem, len(start)).repeat(1)
    with computing(problem.prior):
        return descend(members, method, stop, start).state, members.counts


def _members(problem: Problem, n: int) -> Problem:
    return problem.select(torch.zeros(n, dtype=torch.long, device=problem.members.device))
