"""Work on the members of a batch, a thread for each."""

from __future__ import annotations

import threading
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
        with ThreadPoolExecutor(min(count, threads), initializer=_limit) as pool:
            return list(pool.map(work, range(count)))


class _Limits(threading.local):
    """What is known of the present thread.

    Attributes:
        on: whether it is limited to one thread of torch.
        met: whether it has been limited before.
    """

    on = False
    met = False


_limits = _Limits()
_lock = threading.Lock()
_limited = 0  # threads of the user that are limited now
_number = 1  # threads that torch may use where none is


def _limit() -> None:
    _limits.on = True
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[int]:
    """Keep torch from using more than one thread; gives the number that it may use otherwise.

    Torch keeps a number for each thread, and gives a new thread the one that was set last in any. A thread of
    the user that is born while another one computes here would stay at 1: where it calls us, it gets the
    number that holds outside.
    """
    if _limits.on:
        yield 1
        return
    own = _enter()
    try:
        yield own
    finally:
        _leave(own)


def _enter() -> int:
    global _limited, _number
    with _lock:
        own = torch.get_num_threads()
        if own == 1 and not _limits.met:
            own = _number if _limited else _of_new_threads()
        if not _limited:
            _number = own
        _limited += 1
        _limit()
        _limits.met = True
    return own


def _leave(own: int) -> None:
    global _limited
    with _lock:
        _limited -= 1
        _limits.on = False
        torch.set_num_threads(own)


def _of_new_threads() -> int:
    """How many threads of torch a new thread may use."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]
