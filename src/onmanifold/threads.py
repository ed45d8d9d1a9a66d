"""How many threads torch computes with.

Torch shares every operation among its threads, and they wait for each other, spinning, thousands of times
a second. Small operations gain nothing from it; where another process takes one of the cores they become
ten times slower. So one thread computes unless the arrays are large.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

LARGE = 2**24
"""Numbers in the Jacobians of a batch from which its operations are shared among threads."""

_allowed: ContextVar[int | None] = ContextVar("threads of the caller", default=None)


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """Compute with one thread, or with the caller's number of threads where that pays.

    Args:
        numbers: size of the largest arrays. From :data:`LARGE` on all threads share the work that
            ``torch.set_num_threads`` allowed.

    Example:
        >>> before = torch.get_num_threads()
        >>> with threads_for(1000):
        ...     torch.get_num_threads()
        1
        >>> torch.get_num_threads() == before
        True
    """
    before = torch.get_num_threads()
    allowed = _allowed.get() or before
    token = _allowed.set(allowed)
    _set(allowed if numbers >= LARGE else 1)
    try:
        yield
    finally:
        _set(before)
        _allowed.reset(token)


def _set(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
