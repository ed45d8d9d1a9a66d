"""Chart exploration: descents that end close to the border of a chart try the neighbouring charts.

There a chart has seen few examples or none. It may leave the manifold, and the minimum of the
objective be a corner far from any data, while a neighbouring chart leads lower. But
charts disagree by a little, so that the objective may rise at the change, and a step rejects it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from onmanifold.descent.method import State
from onmanifold.descent.run import Descent
from onmanifold.geometry import neighbour
from onmanifold.operator import OutsideDomain
from onmanifold.status import Status

_STEPS = 20  # after which an exploration that has not led lower ends
_FINAL = (Status.SMALL_GRADIENT, Status.SMALL_DECREASE, Status.STALLED)


class ChartExploration[S: State]:
    """Observer that lets members explore other charts from where they ended.

    An exploration descends like any other, from the projection of the final point on the nearest other
    chart; that projection counts as a step. Where it ends, it may lead to a further chart. It is over when
    it has led lower than the final point, or has not after 20 steps: then the member returns to that point.
    """

    def __init__(self, run: Descent[S]) -> None:
        nowhere = torch.zeros_like(run.status, dtype=torch.bool)
        self._exploring = nowhere
        self._origin = run.state  # of members that explore: state and status where they had ended
        self._status = run.status.clone()
        self._began = torch.zeros_like(run.state.steps)
        self._visited = nowhere[:, None].repeat(1, run.problem.prior.num_charts)

    def __call__(self, run: Descent[S]) -> None:
        lower = self._exploring & (run.state.objective < self._origin.objective)
        self._exploring = self._exploring & ~lower
        self._visited = self._visited & ~lower[:, None]
        late = run.state.steps - self._began >= _STEPS
        late = late & self._exploring & (run.status == Status.RUNNING)
        run.status = torch.where(late, self._status, run.status)
        rows = run.moved
        while len(rows) and run.problem.chart_changes is not None:
            rows = self._explore(run, rows)
        self._return(run)
        rows = self._exploring.nonzero().squeeze(1)
        run.best = run.state.merge(rows, self._origin.select(rows))

    def _explore(self, run: Descent[S], rows: Tensor) -> Tensor:
        """Move those of the members ``rows`` that have ended to a neighbouring chart; returns these."""
        rows = rows[torch.stack([run.status[rows] == code for code in _FINAL]).any(0)]
        here = run.state.point.select(rows)
        visited = self._visited[rows].scatter(1, here.chart[:, None], True)
        there, found = neighbour(run.problem.prior, here, visited)
        rows, there, visited = rows[found], there.select(found), visited[found]
        if len(rows) == 0:
            return rows
        part = run.problem.select(rows)
        try:
            state = run.method.init(part, there)
        except OutsideDomain as error:  # look at these members' other neighbours
            outside = error.members
            self._visited[rows[outside], there.chart[outside]] = True
            return rows
        first = rows[~self._exploring[rows]]
        self._origin = self._origin.merge(first, run.state.select(first))
        self._status[first] = run.status[first]
        self._began[rows] = run.state.steps[rows]
        self._exploring[rows] = True
        self._visited[rows] = visited
        assert part.chart_changes is not None
        part.chart_changes.reset(part.members)
        run.put(rows, replace(state, steps=run.state.steps[rows] + 1))
        return rows

    def _return(self, run: Descent[S]) -> None:
        """Take members whose explorations have ended back to where they had ended before."""
        rows = (self._exploring & (run.status != Status.RUNNING)).nonzero().squeeze(1)
        origin = replace(self._origin.select(rows), steps=run.state.steps[rows])
        run.state = run.state.merge(rows, origin)
        run.status = run.status.index_copy(0, rows, self._status[rows])
        self._exploring = self._exploring.index_fill(0, rows, False)
