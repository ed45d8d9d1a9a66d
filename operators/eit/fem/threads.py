"""Work on the members of a batch, a thread for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


def each[T](work: Callable[[int], T], count: int) -> list[T]:
    """``work(0)``, ..., ``work(count - 1)``, on as many threads as torch may use, one for each member.

    The products are small: torch's own threads would mostly wait for each other, above all where
    other programs use the same cores. A member alone may share out its own work.
    """
    if count == 1:
        return [work(0)]
    with one_thread() as threads:
        if threads == 1:
            return [work(k) for k in range(count)]
        with ThreadPoolExecutor(min(count, threads)) as pool:
            return list(pool.map(work, range(count)))


@contextmanager
def one_thread() -> Iterator[int]:
    """Keep torch from using more than one thread; gives the number that it may use otherwise.

    The number belongs to the process: where calls from several threads overlap, the last one to end sets it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
