"""How the benchmarks measure time."""

import statistics
import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call; ``time.process_time`` as clock counts those of the processor alone."""
    began = clock()
    work()
    return clock() - began


def milliseconds(
    work: Callable[[], object],
    repeats: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median time of ``work``, after one call to warm up, in ms."""
    work()
    return 1000 * statistics.median(seconds_of(work, clock) for _ in range(repeats))


def side_by_side(*works: Callable[[], object], repeats: int = 15) -> list[float]:
    """Median wall times of several works, called in turns so that all see the same machine, in ms."""
    for work in works:
        work()
    rounds = [[seconds_of(work) for work in works] for _ in range(repeats)]
    return [1000 * statistics.median(times) for times in zip(*rounds, strict=True)]
