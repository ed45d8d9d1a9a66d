"""Where the time of a descent goes: operator, networks, everything else."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from onmanifold import ForwardOperator, ManifoldPrior, Point, geometry
from onmanifold.operator import linearize

NETWORK = ("decode", "encode", "log_prob", "responsibilities_at", "project_code")
DERIVATIVES = ("decode_with_jacobian", "log_prob_gradient", "log_prob_derivatives")
OPERATOR = ("A", "A_jvp", "A_vjp", "linearize")
LINEARIZATION = ("jvp", "vjp", "select")


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
def clock_on(operator: ForwardOperator, prior: ManifoldPrior, start: Point) -> Iterator[Clock]:
    """A clock on an operator, on its linearizations (as at a start), and on a prior's networks."""
    clock = Clock()
    linearization = type(linearize(operator, prior.decode(start.select([0]))))
    timed: list[tuple[object, Sequence[str]]] = [
        (operator, OPERATOR),
        (linearization, LINEARIZATION),
        (prior, NETWORK),
        (geometry, DERIVATIVES),
    ]
    with ExitStack() as patches:
        for owner, names in timed:
            for name in names:
                if hasattr(owner, name):
                    slow = clock.timed(getattr(owner, name))
                    patches.enter_context(patch.object(owner, name, slow))
        yield clock
