"""Where the time of a descent goes: operator, networks, everything else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from onmanifold import ForwardOperator, ManifoldPrior, geometry
from onmanifold.operator import Linearization, linearize

NETWORK = ("decode", "encode", "log_prob", "responsibilities", "project_code")
DERIVATIVES = ("decode_with_jacobian", "log_prob_gradient", "log_prob_derivatives")


class Clock:
    """Adds up the seconds spent inside timed calls; those within others do not count twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, on the clock."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside, began = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._inside = False
                self.seconds += time.perf_counter() - began

        return wrapped


class TimedLinearization:
    """A linearization on a clock."""

    def __init__(self, line: Linearization, clock: Clock) -> None:
        self.line, self.clock, self.y = line, clock, line.y
        self.jvp, self.vjp = clock.timed(line.jvp), clock.timed(line.vjp)

    def select(self, rows: Tensor) -> TimedLinearization:
        return TimedLinearization(self.clock.timed(self.line.select)(rows), self.clock)


class TimedOperator:
    """An operator on a clock."""

    def __init__(self, operator: ForwardOperator, clock: Clock) -> None:
        self.operator, self.clock = operator, clock
        self.x_shape, self.y_shape = operator.x_shape, operator.y_shape
        self.linear = operator.linear
        self.A = clock.timed(operator.A)
        self.A_jvp, self.A_vjp = clock.timed(operator.A_jvp), clock.timed(operator.A_vjp)

    def linearize(self, x: Tensor) -> TimedLinearization:
        return TimedLinearization(self.clock.timed(linearize)(self.operator, x), self.clock)


@contextmanager
def networks_on(clock: Clock, prior: ManifoldPrior) -> Iterator[None]:
    """Put the prior's networks, and their derivatives, on the clock."""
    before = {name: getattr(geometry, name) for name in DERIVATIVES}
    for name in NETWORK:
        setattr(prior, name, clock.timed(getattr(prior, name)))
    for name, function in before.items():
        setattr(geometry, name, clock.timed(function))
    try:
        yield
    finally:
        for name in NETWORK:
            delattr(prior, name)
        for name, function in before.items():
            setattr(geometry, name, function)
