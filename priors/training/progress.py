"""How far a training is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

BETWEEN = 20.0  # seconds between lines in a log
STEPS = 10  # between two updates of the bar


def duration(seconds: float) -> str:
    """A number of seconds for a reader.

    Example:
        >>> duration(8), duration(200), duration(4000)
        ('8 s', '3:20 min', '1:06 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


class Reporter:
    """Says how far a training is, how long it will take, and how well it does; silent unless ``shown``.

    Args:
        steps: in all.
        start: that are done already.
        shown: whether to say anything.
    """

    def __init__(self, steps: int, start: int, shown: bool) -> None:
        self.steps, self.start, self.shown = steps, start, shown
        self.error: float | None = None
        self.best = float("nan")
        self.began = self.said = time.monotonic()
        self.loss = float("nan")
        self.bar: Progress | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the bar, if there is a terminal."""
        console = Console(stderr=True)
        self.began = self.said = time.monotonic()
        if not (self.shown and console.is_terminal):
            yield
            return
        columns = BarColumn(bar_width=None), TextColumn("{task.description}")
        with Progress(*columns, console=console, expand=True) as self.bar:
            self.task = self.bar.add_task("training", total=self.steps, completed=self.start)
            yield
        self.bar = None

    def step(self, step: int, loss: float) -> None:
        """After a step."""
        self.loss = loss
        if self.bar is not None and step % STEPS == 0:
            self.bar.update(self.task, completed=step, description=self._text(step))

    def looked(self, step: int, curve: list[tuple[int, float]], last: bool) -> None:
        """After a measurement of the error; a log gets a line where the last one is long ago."""
        if curve:
            self.error, self.best = curve[-1][1], min(error for _, error in curve)
        now = time.monotonic()
        if self.shown and self.bar is None and (last or now - self.said >= BETWEEN):
            self.said = now
            print(f"training: {self._text(step)}", file=sys.stderr, flush=True)

    def _text(self, step: int) -> str:
        passed = time.monotonic() - self.began
        left = passed * (self.steps - step) / max(1, step - self.start)
        parts = [f"step {step} of {self.steps}", f"{duration(left)} left"]
        if self.error is None:
            return ", ".join([*parts, f"loss {self.loss:.3g}"])
        return ", ".join([*parts, f"held-out error {self.error:.1%} (least {self.best:.1%})"])
