"""The same work on many things, by several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch
from rich.progress import track


def in_jobs[T, R](
    work: Callable[[T], R], things: Sequence[T], jobs: int, title: str
) -> Iterator[tuple[T, R]]:
    """Each thing with what ``work`` makes of it, as it is done, with a progress bar.

    Args:
        work: a function that can be pickled if there are several jobs.
        things: its arguments; so can they.
        jobs: number of processes of one thread each; 1: this one.
        title: of the progress bar.

    Example:
        >>> sorted(in_jobs(abs, [1, -2], 1, "numbers"))  # doctest: +ELLIPSIS
        numbers ...
        [(-2, 2), (1, 1)]
    """
    if jobs == 1 or len(things) < 2:
        for thing in track(things, title):
            yield thing, work(thing)
        return
    with ProcessPoolExecutor(
        min(jobs, len(things)), get_context("spawn"), torch.set_num_threads, (1,)
    ) as pool:
        started = {pool.submit(work, thing): thing for thing in things}
        for done in track(as_completed(started), title, total=len(things)):
            yield started[done], done.result()
