"""A progress bar for descents that take a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from onmanifold.status import Status

_PATIENCE = 2.0  # seconds before the bar appears


@contextmanager
def progress_bar(members: int, wanted: bool) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that takes the members' status codes after each step and shows them."""
    if not wanted:
        yield lambda status: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, transient=True)
    task = bar.add_task("descending", total=members)
    began, steps = time.monotonic(), 0

    def show(status: Tensor) -> None:
        nonlocal steps
        steps += 1
        ended = int((status != Status.RUNNING).sum())
        bar.update(task, completed=ended, description=f"descending, step {steps}")
        if time.monotonic() - began > _PATIENCE:
            bar.start()

    try:
        yield show
    finally:
        bar.stop()
