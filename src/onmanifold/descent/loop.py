"""The descent loop, written once for every method; all else observes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from onmanifold.descent.exploration import ChartExploration
from onmanifold.descent.method import Method, State
from onmanifold.descent.observers import (
    Callback,
    Recorder,
    SuccessiveHalving,
    progress_bar,
)
from onmanifold.descent.problem import Problem
from onmanifold.descent.run import Run
from onmanifold.descent.stopping import StoppingRule
from onmanifold.prior import Point
from onmanifold.status import History, Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Descent[S: State]:
    """How the descent of N members went.

    Attributes:
        state: the final state.
        status: a :class:`~onmanifold.status.Status` code each, ``(N,)``, integer.
        history: ``(T + 1, N)`` each.
        path: the points after each step, ``T + 1`` of them, if asked for.
        error: the error that the callback raised, which ended all descents.
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
    halving: SuccessiveHalving | None = None,
    keep_path: bool = False,
    change_charts: bool = True,
    progress: bool = False,
) -> Descent[S]:
    """Descend from ``start`` until every member has stopped; those that have stay where they are.

    An interrupt from the keyboard ends all descents where they are.

    Args:
        problem: N members.
        method: makes the steps.
        stop: decides for each member when to end.
        start: the initial points, or the final state of an earlier descent of theirs, to continue it.
        callback: called with the state of all members after each step; a true result stops them
            all, and so does an error, which is returned.
        halving: drops members that will not win.
        keep_path: whether to keep the points.
        change_charts: whether members may leave their initial charts.
        progress: whether to show a bar.
    """
    run = Run(problem, method, stop, start, change_charts)
    recorder = Recorder(run, keep_path)
    error: Exception | None = None

    def ask(run: Run[S]) -> None:
        """End all descents where the user's callback returns something true or raises."""
        nonlocal error
        try:
            stops = callback is not None and bool(callback(run.best))
        except Exception as raised:
            error, stops = raised, True
        run.end(stops, Status.STOPPED_BY_CALLBACK)

    with progress_bar(len(problem), progress) as show:
        observers: list[Callable[[Run[S]], None]] = [ChartExploration(run), recorder]
        observers += [show, ask] if halving is None else [halving, show, ask]
        try:
            while run.going:
                run.step()
                for observe in observers:
                    observe(run)
        except KeyboardInterrupt:
            run.end(True, Status.INTERRUPTED)
    logger.debug("%d members ended after %d steps", len(problem), run.count)
    return Descent(run.best, run.status, recorder.history(), recorder.path, error)
