"""Descents: a batch of members, the method that moves them, the rule that stops them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from onmanifold.descent.method import Method, State
from onmanifold.descent.problem import ChartChanges, Problem
from onmanifold.descent.stopping import StoppingRule
from onmanifold.prior import Point
from onmanifold.status import History, Status


class Descent[S: State]:
    """The descents of N members, in progress or ended. Those that have stopped stay where they are.

    Attributes:
        problem: N members; they may change charts.
        method: makes the steps.
        state: where the members are.
        best: the state without explorations that have not led lower yet.
        status: a :class:`~onmanifold.status.Status` code each, ``(N,)``, integer.
        moved: the members that made the last step, an index.
        count: number of steps of the loop.
        path: the points after each step, ``T + 1`` of them, if asked for.
        error: the error that the callback raised, which ended all descents.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method[S],
        stop: StoppingRule,
        start: Point | S,
        change_charts: bool = True,
        keep_path: bool = False,
    ) -> None:
        changes = ChartChanges.of(problem) if change_charts else None
        self.problem = replace(problem, chart_changes=changes)
        self.method, self._stop = method, stop
        self.state = method.init(self.problem, start) if isinstance(start, Point) else start
        self.best = self.state
        self.status = self._judge(self.problem, self.state)
        self.moved = torch.empty(0, dtype=torch.long, device=self.status.device)
        self.count = 0
        self.path: list[Point] | None = [] if keep_path else None
        self.error: Exception | None = None
        self._rows: list[tuple[Tensor, ...]] = []
        self.record()

    def record(self) -> None:
        """Note the numbers of the last step, and the points if they are kept."""
        state = self.best
        length = torch.zeros_like(state.step_length)  # of members that did not move
        length[self.moved] = state.step_length[self.moved]
        self._rows.append((state.objective, state.gradient_norm, length, state.point.chart))
        if self.path is not None:
            self.path.append(state.point)

    @property
    def history(self) -> History:
        """A row for the initial points and each step, ``(T + 1, N)`` each."""
        return History(*(torch.stack(column) for column in zip(*self._rows, strict=True)))

    @property
    def going(self) -> bool:
        """Whether any member is still descending."""
        return bool((self.status == Status.RUNNING).any())

    def step(self) -> None:
        """One attempted step of all members that are still descending."""
        self.moved = (self.status == Status.RUNNING).nonzero().squeeze(1)
        self.count += 1
        active = self.problem.select(self.moved)
        self.put(self.moved, self.method.step(active, self.state.select(self.moved)))
        self.best = self.state

    def put(self, rows: Tensor, state: S) -> None:
        """Set the state of the members ``rows`` (an index), and their status by the stopping rule."""
        self.state = self.state.merge(rows, state)
        status = self._judge(self.problem.select(rows), state)
        self.status = self.status.index_copy(0, rows, status)

    def end(self, which: Tensor | bool, why: Status) -> None:
        """End those members that are still descending."""
        ends = (self.status == Status.RUNNING) & which
        self.status = torch.where(ends, why, self.status)

    def _judge(self, problem: Problem, state: S) -> Tensor:
        status = self._stop(problem, state)
        status = torch.where((status == Status.RUNNING) & state.stalled, Status.STALLED, status)
        finite = torch.isfinite(state.objective) & torch.isfinite(state.gradient_norm)
        return torch.where(finite, status, Status.NOT_FINITE)
