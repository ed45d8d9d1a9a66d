"""The descent loop, written once for every method."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onmanifold.descent.halving import Halving
from onmanifold.descent.method import Method
from onmanifold.descent.problem import Problem
from onmanifold.descent.progress import progress_bar
from onmanifold.descent.state import State
from onmanifold.descent.stopping import StoppingRule
from onmanifold.descent.visits import Visits
from onmanifold.prior import Point
from onmanifold.status import History, Status

logger = logging.getLogger(__name__)

Callback = Callable[[State], object]


@dataclass(frozen=True)
class Descent[S: State]:
    """How the descent of N members went.

    Attributes:
        state: where they ended.
        status: a :class:`~onmanifold.solution.Status` code each, ``(N,)``, integer.
        history: ``(T + 1, N)`` each.
        path: the points after each step, ``T + 1`` of them, if asked for.
        error: what the callback raised, which ended all descents.
    """

    state: S
    status: Tensor
    history: History
    path: tuple[Point, ...] | None
    error: Exception | None = None


def descend[S: State](
    problem: Problem,
    method: Method[S],
    stop: StoppingRule,
    start: Point | S,
    *,
    callback: Callback | None = None,
    halving: Halving | None = None,
    keep_path: bool = False,
    progress: bool = False,
) -> Descent[S]:
    """Descend from ``start`` until every member has stopped; those that have stand still.

    An interrupt from the keyboard ends all descents where they are.

    Args:
        problem: N members.
        method: makes the steps.
        stop: decides for each member when to end.
        start: where they start, or where an earlier descent of theirs ended, to go on from there.
        callback: called with the state of all members after each step; anything true stops them
            all, and so does an error, which is returned.
        halving: drops starts that will not win.
        keep_path: whether to keep the points.
        progress: whether to show a bar.
    """

    def judge(members: Problem, at: S) -> Tensor:
        return _judge(members, stop, at)

    def end(which: Tensor | bool, why: Status) -> Tensor:
        return torch.where((status == Status.RUNNING) & which, why, status)

    best = state = method.init(problem, start) if isinstance(start, Point) else start
    status = judge(problem, state)
    visits = Visits.none(problem, state, status)
    records, path, error = [_record(state)], [state.point], None
    try:
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
                if halving is not None:
                    status = end(halving.dropped(best, status, len(records) - 1), Status.DROPPED)
                show(status)
                enough, error = _ask(callback, best)
                status = end(enough, Status.STOPPED_BY_CALLBACK)
    except KeyboardInterrupt:
        status = end(True, Status.INTERRUPTED)
    logger.debug("%d members ended after %d steps", len(problem), len(records) - 1)
    columns = [torch.stack(column) for column in zip(*records, strict=True)]
    return Descent(best, status, History(*columns), tuple(path) if keep_path else None, error)


def _ask(callback: Callback | None, state: State) -> tuple[bool, Exception | None]:
    """Whether the callback has had enough, and what it raised."""
    try:
        return callback is not None and bool(callback(state)), None
    except Exception as error:
        return True, error


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
