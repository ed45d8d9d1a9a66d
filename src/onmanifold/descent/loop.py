"""The descent loop, written once for every method."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.descent.method import Method
from onmanifold.descent.problem import Problem
from onmanifold.descent.progress import progress_bar
from onmanifold.descent.state import State
from onmanifold.descent.stopping import StoppingRule
from onmanifold.descent.visits import Visits
from onmanifold.prior import Point
from onmanifold.solution import History, Status

logger = logging.getLogger(__name__)

Callback = Callable[[State], object]


@dataclass(frozen=True)
class Descent:
    """How the descent of N members went.

    Attributes:
        state: where they ended.
        status: a :class:`~onmanifold.solution.Status` code each, ``(N,)``, integer.
        history: ``(T + 1, N)`` each.
        path: the points after each step, ``T + 1`` of them, if asked for.
    """

    state: State
    status: Tensor
    history: History
    path: tuple[Point, ...] | None


def descend[S: State](
    problem: Problem,
    method: Method[S],
    stop: StoppingRule,
    point: Point,
    *,
    callback: Callback | None = None,
    keep_path: bool = False,
    progress: bool = False,
) -> Descent:
    """Descend from ``point`` until every member has stopped; those that have stand still.

    Args:
        problem: N members.
        method: makes the steps.
        stop: decides for each member when to end.
        point: where they start.
        callback: called with the state of all members after each step; anything true stops them
            all.
        keep_path: whether to keep the points.
        progress: whether to show a bar.
    """

    def judge(members: Problem, at: S) -> Tensor:
        return _judge(members, stop, at)

    state = method.init(problem, point)
    status = judge(problem, state)
    visits = Visits.none(problem, state, status)
    records, path = [_record(state)], [state.point]
    with progress_bar(len(problem), progress) as show:
        while len(rows := (status == Status.RUNNING).nonzero().squeeze(1)):
            active = problem.select(rows)
            moved = method.step(active, state.select(rows))
            state = state.merge(rows, moved)
            status = status.index_copy(0, rows, judge(active, moved))
            state, status, visits = visits.settle(problem, method, judge, state, status, rows)
            best = visits.best(state)
            records.append(_record(best, rows))
            if keep_path:
                path.append(best.point)
            show(status)
            if callback is not None and callback(best):
                state = best
                status = torch.where(status == Status.RUNNING, Status.STOPPED_BY_CALLBACK, status)
    logger.debug("%d members ended after %d steps", len(problem), len(records) - 1)
    columns = [torch.stack(column) for column in zip(*records, strict=True)]
    return Descent(state, status, History(*columns), tuple(path) if keep_path else None)


def _judge(problem: Problem, stop: StoppingRule, state: State) -> Tensor:
    """The status of each member: ``(B,)``, integer."""
    status = stop(problem, state)
    status = torch.where((status == Status.RUNNING) & state.stalled, Status.STALLED, status)
    finite = torch.isfinite(state.objective) & torch.isfinite(state.gradient_norm)
    return torch.where(finite, status, Status.NOT_FINITE)


def _record(state: State, moved: Tensor | None = None) -> tuple[Tensor, ...]:
    """This step's row of the history; members that stood still took a step of length 0."""
    length = torch.zeros_like(state.step_length)
    if moved is not None:
        length[moved] = state.step_length[moved]
    return state.objective, state.gradient_norm, length, state.point.chart
