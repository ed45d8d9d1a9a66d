"""Sparse Cholesky factorization by MUMPS, through PETSc."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit.fem.assembly import require_dolfinx
from onmanifold.operators.eit.solvers.base import (
    Array,
    Index,
    Kept,
    check_system,
    not_positive_definite,
)
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
        self._kept = Kept[SparseCholesky]()  # whose factorization is that of a member
        self._given = Kept[Any]()  # PETSc's matrix of right-hand sides
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
            if right.ndim == 2:
                given = self._prepare(right)
            else:
                given = self._factor.prepare(_numpy(right[b]))
            self._factor.solve(given, result[b])
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def _factorize(self, entries: Tensor, member: int) -> None:
        if self._kept.get(entries, member) is not None:
            return
        if not self._factor.factorize(_numpy(entries[member])):
            raise not_positive_definite(member)
        self._kept.put(self._factor, entries, member)

    def _prepare(self, right: Tensor) -> Any:
        """PETSc's matrix of right-hand sides that probably come again."""
        known = self._given.get(right)
        if known is None:
            known = self._given.put(self._factor.prepare(_numpy(right)), right)
        return known

    def _has_workers(self) -> bool:
        """Whether workers are ready; starts them where batches have taken long enough to pay for it."""
        processes = torch.get_num_threads()
        if self._spent < _WORTH or processes == 1 or not can_have_workers():
            return False
        try:
            if self._workers is None:
                self._workers = Workers(*self._pattern, processes)
            return self._workers.ready
        except (OSError, RuntimeError):  # no memory or no processes left, or one has ended
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
        except BaseException:
            # an interrupt: answers that are still to come would be taken for others
            workers.close()
            self._workers = None
            raise

    def _without_workers(self) -> None:
        """Go on alone."""
        if self._workers is not None:
            self._workers.close()
        self._workers, self._spent = None, -np.inf


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
