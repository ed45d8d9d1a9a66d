"""The descent loop, written once for every method; all else observes it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from onmanifold.descent.exploration import ChartExploration
from onmanifold.descent.method import Method, State
from onmanifold.descent.observers import (
    Callback,
    SuccessiveHalving,
    progress_bar,
)
from onmanifold.descent.problem import Problem
from onmanifold.descent.run import Descent
from onmanifold.descent.stopping import StoppingRule
from onmanifold.prior import Point
from onmanifold.status import Status

logger = logging.getLogger(__name__)


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
    catch_interrupt: bool = False,
) -> Descent[S]:
    """Descend from ``start`` until every member has stopped; those that have stay where they are.

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
        catch_interrupt: whether an interrupt from the keyboard ends all descents where they are, and no
            more; the caller has to say so.
    """
    run = Descent(problem, method, stop, start, change_charts, keep_path)

    def ask(run: Descent[S]) -> None:
        """End all descents where the user's callback returns something true or raises."""
        try:
            stops = callback is not None and bool(callback(run.best))
        except Exception as error:
            run.error, stops = error, True
        run.end(stops, Status.STOPPED_BY_CALLBACK)

    with progress_bar(len(problem), progress) as show:
        observers: list[Callable[[Descent[S]], None]] = [ChartExploration(run), Descent.record]
        observers += [show, ask] if halving is None else [halving, show, ask]
        try:
            while run.going:
                run.step()
                for observe in observers:
                    observe(run)
        except KeyboardInterrupt:
            if not catch_interrupt:
                raise
            run.end(True, Status.INTERRUPTED)
    run.state = run.best
    logger.debug("%d members ended after %d steps", len(problem), run.count)
    return run
