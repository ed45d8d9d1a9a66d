"""The same work on many things, by several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from rich.progress import track


def in_jobs[T, R](work: Callable[[T], R], things: Sequence[T], jobs: int, name: str) -> Iterator[R]:
    """What ``work`` makes of each thing, in order, with a bar that shows how far it is.

    Args:
        work: can be pickled where there are several jobs.
        things: so can they.
        jobs: number of processes, one thread each; 1: this one.
        name: of the things.

    Example:
        >>> sum(in_jobs(abs, [1, -2], 1, "numbers"))  # doctest: +ELLIPSIS
        numbers ...
        3
    """
    if jobs == 1 or len(things) < 2:
        yield from track(map(work, things), name, total=len(things))
        return
    with ProcessPoolExecutor(min(jobs, len(things)), mp_context=get_context("spawn")) as pool:
        done = pool.map(partial(_on_one_thread, work), things)
        yield from track(done, name, total=len(things))


def _on_one_thread[T, R](work: Callable[[T], R], thing: T) -> R:
    torch.set_num_threads(1)
    return work(thing)
