"""Independent tasks shared among processes, with the same results however many there are."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import torch

from onmanifold.checks import check_count
from onmanifold.errors import MissingPackage

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Processes:
    """This process and ``jobs - 1`` others, which joblib starts and keeps for the next time.

    Args:
        jobs: number of processes.

    Raises:
        ImportError: more than one, and joblib is missing.

    Example:
        >>> with Processes(1) as processes:
        ...     processes.map(pow, 2, [(3,), (4,)])
        [8, 16]
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = check_count(jobs, "jobs")
        self._executor = None if self.jobs == 1 else executor(self.jobs - 1)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._stored: dict[int, tuple[Any, str]] = {}

    def __enter__(self) -> Self:
        if self._executor is not None:
            self._folder = tempfile.TemporaryDirectory(prefix="onmanifold-")
            self._executor.submit(_ready)  # they import torch while this process goes on
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stored.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def map[T](
        self, work: Callable[..., T], common: Any, tasks: Sequence[tuple[Any, ...]]
    ) -> list[T]:
        """``work(common, *task)`` of each task, in order.

        This process takes tasks from the end that no other has begun.

        Args:
            work: a function of a module.
            common: what all tasks need; each process reads it once, and it must not change meanwhile.
            tasks: further arguments.
        """
        if self._executor is None or len(tasks) < 2:
            return [work(common, *task) for task in tasks]
        path = self._path(common)
        others: list[Future[T]] = [
            self._executor.submit(_work, work, path, task) for task in tasks[:-1]
        ]
        try:
            found = [work(common, *tasks[-1])]
            for future, task in zip(reversed(others), reversed(tasks[:-1]), strict=True):
                found.append(work(common, *task) if future.cancel() else future.result())
        except BrokenExecutor:  # a process was killed: the next call starts new ones
            executor.cache_clear()
            raise
        finally:  # where one fails nobody waits for the others
            for future in others:
                future.cancel()
        return found[::-1]

    def _path(self, common: Any) -> str:
        """The file that holds ``common``, written when it is first asked for."""
        if id(common) not in self._stored:
            assert self._folder is not None, "with Processes(jobs) as processes: ..."
            file = Path(self._folder.name) / f"{len(self._stored)}.pickle"
            file.write_bytes(pickle.dumps(common))
            self._stored[id(common)] = common, str(file)  # held, so that its number stays its own
        return self._stored[id(common)][1]


@lru_cache(maxsize=1)
def executor(processes: int) -> Executor:
    """Other processes, one thread each, kept for the next time; idle ones end after a minute.

    They are not joblib's own reusable ones, which a user's ``joblib.Parallel`` has to find as it left them.

    Raises:
        ImportError: joblib is missing.
    """
    try:
        from joblib.externals.loky import ProcessPoolExecutor
    except ImportError as error:
        raise MissingPackage(
            f"several processes need joblib ({error}): install onmanifold[eit], or take jobs=1"
        ) from error
    return cast(Executor, ProcessPoolExecutor(processes, timeout=60, env=_ONE_THREAD))


def _ready() -> None:
    torch.set_num_threads(1)


@lru_cache(maxsize=2)
def _load(path: str) -> Any:
    return pickle.loads(Path(path).read_bytes())


def _work(work: Callable[..., Any], path: str, task: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    return work(_load(path), *task)


def over_cases[C, T](work: Callable[[int, C], T], cases: Sequence[C], jobs: int) -> Iterator[T]:
    """``work(number, case)`` of each case, in order; ``number`` of processes may share the work on it.

    Where there are as many cases as processes, each process has cases of its own, and the number is 1.

    Example:
        >>> list(over_cases(pow, [3, 4], jobs=1))
        [1, 1]
    """
    shared = len(cases) >= jobs
    each = partial(work, 1 if shared else jobs)
    if jobs == 1 or not shared:
        yield from map(each, cases)
        return
    yield from executor(jobs).map(each, cases)
