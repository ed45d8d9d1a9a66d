"""The same work on many things, by several processes."""

from collections.abc import Callable, Sequence

import torch
from joblib import Parallel, delayed
from rich.progress import track


def in_jobs[T, R](work: Callable[[T], R], things: Sequence[T], jobs: int, title: str) -> list[R]:
    """What ``work`` makes of each thing, on one thread each, with a progress bar.

    Example:
        >>> in_jobs(abs, [1, -2], 1, "numbers")  # doctest: +ELLIPSIS
        numbers ...
        [1, 2]
    """
    torch.set_num_threads(1)
    pool = Parallel(jobs, return_as="generator", inner_max_num_threads=1 if jobs > 1 else None)
    return list(track(pool(delayed(work)(thing) for thing in things), title, len(things)))
