"""Sparse Cholesky factorization by MUMPS, through PETSc."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit.fem.assembly import require_dolfinx
from onmanifold.operators.eit.solvers.base import Array, Index, check_system, not_positive_definite
from onmanifold.operators.eit.solvers.cholesky import SparseCholesky
from onmanifold.operators.eit.solvers.workers import Workers, can_have_workers

_WORTH = 0.5  # seconds spent on batches after which worker processes are started, which takes about as long


class MumpsCholesky:
    """Sparse Cholesky factorization by MUMPS; the symbolic analysis is done once.

    Members of a batch share the cores: after the first batches worker processes take them, as many as torch
    may use threads. Results do not depend on it. The factorization of a single matrix is kept.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: places of the unknowns, ``(n, D)``.

    Raises:
        ImportError: petsc4py is missing.
    """

    def __init__(self, indptr: Index, indices: Index, coordinates: Array) -> None:
        require_dolfinx()
        self._pattern = indptr, indices, coordinates.shape[1]
        self._size, self._count = len(indptr) - 1, len(indices)
        self._factor = SparseCholesky(*self._pattern)
        self._lock = threading.Lock()
        self._kept: tuple[Tensor, int, int] | None = None  # entries, their version, member
        self._given: tuple[Tensor, int, Any] | None = (
            None  # right-hand sides, their version, PETSc's
        )
        self._workers: Workers | None = None
        self._spent = 0.0  # seconds on batches, without workers

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`; the last member's factorization is kept, if not made by a worker."""
        check_system(entries, right, self._size, self._count)
        with self._lock:
            if len(entries) > 1 and self._has_workers():
                return self._by_workers(entries, right)
            start = time.perf_counter()
            result = self._alone(entries, right)
            if len(entries) > 1:
                self._spent += time.perf_counter() - start
            return result

    def sum(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

    def _alone(self, entries: Tensor, right: Tensor) -> Tensor:
        result = np.zeros((len(entries), right.shape[-1], self._size))  # columns of x one by one
        for b in range(len(entries)):
            self._factorize(entries, b)
            given = (
                self._prepare(right) if right.ndim == 2 else self._factor.prepare(_numpy(right[b]))
            )
            self._factor.solve(given, result[b])
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def _factorize(self, entries: Tensor, member: int) -> None:
        if self._kept is not None:
            known, version, last = self._kept
            if known is entries and version == entries._version and last == member:
                return
        self._kept = None
        if not self._factor.factorize(_numpy(entries[member])):
            raise not_positive_definite(member)
        self._kept = entries, entries._version, member

    def _prepare(self, right: Tensor) -> Any:
        """PETSc's matrix of right-hand sides that probably come again."""
        if self._given is not None:
            known, version, given = self._given
            if known is right and version == right._version:
                return given
        given = self._factor.prepare(_numpy(right))
        self._given = right, right._version, given
        return given

    def _has_workers(self) -> bool:
        """Whether workers are ready; starts them where batches have taken long enough to pay for it."""
        processes = torch.get_num_threads()
        if self._spent < _WORTH or processes == 1 or not can_have_workers():
            return False
        if self._workers is None:
            self._workers = Workers(*self._pattern, processes)
        try:
            return self._workers.ready
        except RuntimeError:
            self._without_workers()
            return False

    def _by_workers(self, entries: Tensor, right: Tensor) -> Tensor:
        workers: Any = self._workers
        try:
            result: Tensor = workers.solve(entries, right)
            return result.to(entries.device)
        except ValueError:  # not positive definite
            raise
        except RuntimeError:  # one was killed, perhaps for want of memory
            self._without_workers()
            return self._alone(entries, right)
        except (
            BaseException
        ):  # an interrupt: answers that are still to come would be taken for others
            workers.close()
            self._workers = None
            raise

    def _without_workers(self) -> None:
        """Go on alone."""
        workers: Any = self._workers
        workers.close()
        self._workers, self._spent = None, -np.inf


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
