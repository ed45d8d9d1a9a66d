"""Descents that end close to the border of a chart look around in the neighbouring charts.

There a chart has seen few examples or none. It may stick out of the manifold, and the minimum of the
objective be a corner that is nowhere near any data, while a neighbouring chart leads on. But
the charts disagree by a little, so that the objective may rise at the change, and the descent refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from onmanifold.descent.method import Method
from onmanifold.descent.problem import Problem
from onmanifold.descent.state import State
from onmanifold.geometry import neighbour
from onmanifold.operator import OutsideDomain
from onmanifold.status import Status

_PATIENCE = 20  # steps after which a visit that has not led below is over
_ENDS = (Status.SMALL_GRADIENT, Status.SMALL_DECREASE, Status.STALLED)


@dataclass(frozen=True)
class Visits[S: State]:
    """Which members visit another chart, and where they come from.

    Attributes:
        home: where they stand as long as no visit has led below, B members.
        status: why they ended there, ``(B,)``.
        away: which members are on a visit, ``(B,)``, boolean.
        began: number of the step at which the visit began, ``(B,)``.
        seen: charts that they have been to since, ``(B, K)``, boolean.
    """

    home: S
    status: Tensor
    away: Tensor
    began: Tensor
    seen: Tensor

    @classmethod
    def none(cls, problem: Problem, state: S, status: Tensor) -> Self:
        """Everybody is at home."""
        nowhere = torch.zeros_like(status, dtype=torch.bool)
        unseen = nowhere[:, None].expand(-1, problem.prior.num_charts)
        return cls(state, status, nowhere, torch.zeros_like(state.steps), unseen)

    def best(self, state: S) -> S:
        """The members where they stand: on a visit, at home."""
        rows = self.away.nonzero().squeeze(1)
        return state.merge(rows, self.home.select(rows))

    def settle(
        self,
        problem: Problem,
        method: Method[S],
        judge: Callable[[Problem, S], Tensor],
        state: S,
        status: Tensor,
        rows: Tensor,
    ) -> tuple[S, Tensor, Self]:
        """Begin visits where the members ``rows``, which made a step, have ended; end visits.

        Those end that led below, or have not for a while. A visit is descended like any other
        stretch, and counts as a step; the charts that it ends in lead to further ones.
        """
        lower = self.away & (state.objective < self.home.objective)
        visits = replace(self, away=self.away & ~lower, seen=self.seen & ~lower[:, None])
        tired = visits.away & (status == Status.RUNNING) & (state.steps - self.began >= _PATIENCE)
        status = torch.where(tired, self.status, status)
        while True:
            ended = torch.stack([status[rows] == code for code in _ENDS]).any(0)
            rows = rows[ended]
            here = state.point.select(rows)
            seen = visits.seen[rows].scatter(1, here.chart[:, None], True)
            there, found = neighbour(problem.prior, here, seen)
            if not bool(found.any()):
                return visits._return(state, status)
            part = problem.select(rows[found])
            try:
                fresh = method.init(part, there.select(found))
            except OutsideDomain as error:  # of the operator: no neighbours
                outside = found.nonzero().squeeze(1)[error.members]
                visits = visits._skip(rows[outside], there.chart[outside])
                continue
            rows, seen = rows[found], seen[found]
            first = rows[~visits.away[rows]]
            visits = replace(
                visits,
                home=visits.home.merge(first, state.select(first)),
                status=visits.status.index_copy(0, first, status[first]),
                away=visits.away.index_fill(0, rows, True),
                began=visits.began.index_copy(0, rows, state.steps[rows]),
                seen=visits.seen.index_copy(0, rows, seen),
            )
            fresh = replace(fresh, steps=state.steps[rows] + 1)
            state = state.merge(rows, fresh)
            status = status.index_copy(0, rows, judge(part, fresh))

    def _skip(self, rows: Tensor, chart: Tensor) -> Self:
        """Members ``rows`` need not look into the charts given."""
        seen = self.seen[rows].scatter(1, chart[:, None], True)
        return replace(self, seen=self.seen.index_copy(0, rows, seen))

    def _return(self, state: S, status: Tensor) -> tuple[S, Tensor, Self]:
        """Visits that have ended led nowhere: back home, where the descent had ended."""
        rows = (self.away & (status != Status.RUNNING)).nonzero().squeeze(1)
        home = replace(self.home.select(rows), steps=state.steps[rows])
        status = status.index_copy(0, rows, self.status[rows])
        return (
            state.merge(rows, home),
            status,
            replace(self, away=self.away.index_fill(0, rows, False)),
        )
