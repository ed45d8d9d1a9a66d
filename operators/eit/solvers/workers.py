"""Processes that factorize the members of a batch beside each other.

MUMPS is not thread-safe and petsc4py holds the interpreter's lock, so a second core needs a second process.
The workers are programs of their own (:mod:`cholesky`), not copies of this process: scripts need no
``if __name__ == "__main__"``, nothing is forked, and they end when their input does. Matrices and
solutions lie in shared memory.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import subprocess
import sys
import tempfile
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit.fem.threads import one_thread
from onmanifold.operators.eit.solvers import cholesky
from onmanifold.operators.eit.solvers.base import Index, not_positive_definite

_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_LAUNCHERS = ("PMI", "PMIX", "MPI", "OMPI", "HYDRA")  # how launchers of MPI talk to their processes


class _Worker:
    """One process, and how to talk to it."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        # not a pipe: when one breaks, PETSc's handler of that signal ends this process
        self._input, its = socket.socketpair()
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(Path(cholesky.__file__)), *arguments],
                stdin=its.fileno(),
                stdout=subprocess.PIPE,
                env=environment,
                pass_fds=[int(arguments[0])],
                start_new_session=True,  # an interrupt from the keyboard is for this process
            )
        self.output: Any = self.process.stdout

    def ask(self, request: dict[str, Any]) -> None:
        try:
            self._input.sendall(json.dumps(request).encode() + b"\n", _NO_SIGNAL)
        except OSError as error:
            raise self._lost() from error

    def answer(self) -> int | None:
        line = self.output.readline()
        if not line:
            raise self._lost()
        answer: int | None = json.loads(line)
        return answer

    def end(self) -> None:
        """End the process; it holds nothing that has to be saved."""
        self._input.close()
        self.process.kill()
        self.process.wait()
        self.output.close()

    def _lost(self) -> RuntimeError:
        return RuntimeError(f"a worker process of the solver ended, status {self.process.poll()}")


class Workers:
    """Worker processes for matrices of one pattern; they start while this process goes on.

    Args:
        indptr: row pointers of the pattern, ``(n + 1,)``.
        indices: its column indices, ``(nnz,)``.
        dimension: of the mesh.
        count: number of processes.
    """

    def __init__(self, indptr: Index, indices: Index, dimension: int, count: int) -> None:
        self._pattern = np.concatenate([indptr, indices]).astype(np.int64)
        self._size, self._count = len(indptr) - 1, len(indices)
        self._descriptor = _shared_memory()
        os.write(self._descriptor, self._pattern.tobytes())
        self._memory = mmap.mmap(self._descriptor, 0)
        arguments = self._descriptor, self._size, self._count, dimension
        clean = {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHERS)}
        self._owner = os.getpid()
        self._workers: list[_Worker] = []
        self.close = weakref.finalize(self, _close, self._workers, self._descriptor, self._owner)
        try:
            for _ in range(count):
                environment = clean | {"OMP_NUM_THREADS": "1"}
                self._workers.append(_Worker([*map(str, arguments)], environment))
        except OSError:
            self.close()
            raise
        self._starting = list(self._workers)

    @property
    def ready(self) -> bool:
        """Whether all have started; does not wait.

        Raises:
            RuntimeError: a worker has ended, or this process is a fork of the one that they work for.
        """
        if os.getpid() != self._owner:
            raise RuntimeError("the workers belong to another process")
        while self._starting:
            if not select.select([self._starting[0].output], [], [], 0)[0]:
                return False
            self._starting.pop(0).answer()
        return True

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`.

        Raises:
            RuntimeError: a worker has ended.
        """
        result = torch.empty(len(entries), *right.shape[-2:], dtype=torch.float64)
        tensors = entries, right, result
        places = np.cumsum([self._pattern.nbytes, *(8 * t.numel() for t in tensors)]).tolist()
        self._resize(places[-1])
        entries_there, right_there, result_there = (
            torch.frombuffer(self._memory, dtype=t.dtype, count=t.numel(), offset=place).view(
                t.shape
            )
            for t, place in zip(tensors, places[:-1], strict=True)
        )
        request: dict[str, Any] = {
            "size": len(self._memory),
            "arrays": [(p, list(t.shape)) for p, t in zip(places[:-1], tensors, strict=True)],
        }
        parts = np.linspace(0, len(entries), len(self._workers) + 1).round().astype(int).tolist()
        with one_thread():  # torch's other threads would go on turning, on the cores of the workers
            entries_there.copy_(entries)
            right_there.copy_(right)
            for worker, members in zip(self._workers, pairwise(parts), strict=True):
                worker.ask(request | {"members": members})
            failed = [b for b in (worker.answer() for worker in self._workers) if b is not None]
            result.copy_(result_there)
        if failed:
            raise not_positive_definite(min(failed))
        return result

    def _resize(self, size: int) -> None:
        """Have at least so many bytes of shared memory."""
        if len(self._memory) < size:
            os.ftruncate(self._descriptor, size)
            self._memory = mmap.mmap(self._descriptor, 0)


def _shared_memory() -> int:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("onmanifold")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def can_have_workers() -> bool:
    """Whether processes can share memory here, and no launcher of MPI has filled the cores already."""
    ranks = {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"}
    return os.name == "posix" and bool(sys.executable) and not ranks & os.environ.keys()


def _close(workers: list[_Worker], descriptor: int, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        for worker in workers:
            worker.end()
        os.close(descriptor)
