"""How the sections measure time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def milliseconds(work: Callable[[], object], repeats: int = 9) -> float:
    """Median wall time of ``work``, after one call to warm up, in ms."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def side_by_side(*works: Callable[[], object], repeats: int = 15) -> list[float]:
    """Median wall times of several works, called in turns so that all see the same machine, in ms."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for spent, work in zip(times, works, strict=True):
            start = time.perf_counter()
            work()
            spent.append(time.perf_counter() - start)
    return [1000 * statistics.median(spent) for spent in times]
