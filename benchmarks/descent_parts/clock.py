"""Where the time of a descent goes: operator, networks, everything else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

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

    @contextmanager
    def networks(self, prior: ManifoldPrior) -> Iterator[None]:
        """Put the prior's networks, and their derivatives, on the clock."""
        functions = {name: self.timed(getattr(geometry, name)) for name in DERIVATIVES}
        with patch.multiple(geometry, **functions):
            for name in NETWORK:
                setattr(prior, name, self.timed(getattr(prior, name)))
            try:
                yield
            finally:
                for name in NETWORK:
                    delattr(prior, name)


class TimedLinearization:
    """A linearization on a clock."""

    def __init__(self, at: Linearization, clock: Clock) -> None:
        self.at, self.clock, self.y = at, clock, at.y
        self.jvp, self.vjp = clock.timed(at.jvp), clock.timed(at.vjp)

    def select(self, rows: Tensor) -> "TimedLinearization":
        return TimedLinearization(self.clock.timed(self.at.select)(rows), self.clock)


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
