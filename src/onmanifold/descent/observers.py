"""What looks at descents after each step, and may end members: successive halving, progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onmanifold.descent.method import State
from onmanifold.descent.run import Descent
from onmanifold.status import Status

Callback = Callable[[State], object]

_BAR_AFTER = 2.0  # seconds


@dataclass(frozen=True)
class SuccessiveHalving:
    """Drops the worse half of each measurement's starts after some steps, then after twice as many, etc.

    The best start stays, and so does one whose predicted reduction would make it the best.

    Args:
        starts: S, members of each measurement, which are consecutive.
        after: steps to the first round.

    References:
        K. Jamieson, A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization,
        AISTATS 2016.

    Example:
        >>> SuccessiveHalving(starts=8, after=5)
        SuccessiveHalving(starts=8, after=5)
    """

    starts: int
    after: int

    def __call__(self, run: Descent[Any]) -> None:
        run.end(self.dropped(run.best, run.status, run.count), Status.DROPPED)

    def dropped(self, state: State, status: Tensor, steps: int) -> Tensor:
        """Which of the running members end here, after so many ``steps``: ``(N,)``, boolean."""
        rounds, rest = divmod(steps, self.after)
        if rest or rounds & (rounds - 1):  # 1, 2, 4, 8 times ``after``
            return torch.zeros_like(state.stalled)
        keep = max(self.starts >> rounds.bit_length(), 1)
        objective = state.objective.nan_to_num(nan=torch.inf).view(-1, self.starts)
        rank = objective.argsort(dim=1, stable=True).argsort(dim=1)
        # A gradient alone predicts no reduction: then the rank decides.
        predicted = state.predicted_reduction
        predicted = torch.where(predicted.isfinite(), predicted, 0.0).view_as(objective)
        hopeful = objective - predicted <= objective.amin(dim=1, keepdim=True)
        hopeless = ((rank >= keep) & ~hopeful).flatten()
        return hopeless & (status == Status.RUNNING)


@contextmanager
def progress_bar(members: int, wanted: bool) -> Iterator[Callable[[Descent[Any]], None]]:
    """Yield an observer that shows how many members have ended, once the descent takes a while."""
    if not wanted:
        yield lambda run: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(*columns, TimeElapsedColumn(), transient=True)
    task = bar.add_task("descending", total=members)
    began = time.monotonic()

    def show(run: Descent[Any]) -> None:
        ended = int((run.status != Status.RUNNING).sum())
        bar.update(task, completed=ended, description=f"descending, step {run.count}")
        if time.monotonic() - began > _BAR_AFTER:
            bar.start()

    try:
        yield show
    finally:
        bar.stop()
