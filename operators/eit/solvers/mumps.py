"""Sparse Cholesky factorization by MUMPS, through PETSc."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.operators.eit.assembly import require_dolfinx
from onmanifold.operators.eit.solvers.base import Array, Index, check_system, not_positive_definite

_AMF, _METIS = 2, 5  # MUMPS's numbers of orderings (its control parameter 7)
_SPARSE = 0.1  # right-hand sides with fewer nonzeros are given as sparse ones


class MumpsCholesky:
    """PETSc's sparse Cholesky factorization by MUMPS; the symbolic analysis is done once.

    Members of a batch follow one another: MUMPS is not thread-safe. The factorization of the last one is
    kept. Sparse right-hand sides (unit currents touch one unknown each) skip the branches of the
    elimination tree that they are zero on, which halves the time of a solve.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: places of the unknowns, ``(n, D)``.

    Raises:
        ImportError: petsc4py is missing.
    """

    def __init__(self, indptr: Index, indices: Index, coordinates: Array) -> None:
        require_dolfinx()
        petsc: Any = import_module("petsc4py.PETSc")
        self._petsc = petsc
        self._size = len(indptr) - 1
        self._data = np.zeros(len(indices))
        pattern = indptr.astype(petsc.IntType), indices.astype(petsc.IntType)
        self._matrix = petsc.Mat().createAIJWithArrays(
            (self._size, self._size), (*pattern, self._data), comm=petsc.COMM_SELF
        )
        self._matrix.setOption(petsc.Mat.Option.SPD, True)
        self._factor = petsc.PC().create(petsc.COMM_SELF)
        self._factor.setType("cholesky")
        self._factor.setFactorSolverType("mumps")
        self._factor.setOperators(self._matrix)
        self._factor.setFactorSetUpSolverType()
        # minimum fill is the faster one to find; in three dimensions nested dissection fills far less
        ordering = _AMF if coordinates.shape[1] < 3 else _METIS
        self._factor.getFactorMatrix().setMumpsIcntl(7, ordering)
        self._lock = threading.Lock()
        self._kept: tuple[Tensor, int, int] | None = None  # entries, their version, member
        self._given: tuple[Tensor, int, Any] | None = (
            None  # right-hand sides, their version, PETSc's
        )

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`; the last member's factorization is kept."""
        check_system(entries, right, self._size, len(self._data))
        result = np.zeros((len(entries), right.shape[-1], self._size))  # columns of x one by one
        with self._lock:
            for b in range(len(entries)):
                self._factorize(entries, b)
                given = self._give(right) if right.ndim == 2 else self._convert(right[b])
                x = self._petsc.Mat().createDense(
                    (self._size, right.shape[-1]), array=result[b].T, comm=self._petsc.COMM_SELF
                )
                self._factor.getFactorMatrix().matSolve(given, x)
                x.destroy()
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def sum(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

    def _factorize(self, entries: Tensor, member: int) -> None:
        if self._kept is not None:
            known, version, last = self._kept
            if known is entries and version == entries._version and last == member:
                return
        self._kept = None
        self._data[:] = entries[member].detach().cpu().numpy()
        self._matrix.assemble()
        self._matrix.stateIncrease()
        self._factor.setUp()
        failed = self._factor.getFailedReason() != self._petsc.PC.FailedReason.NOERROR
        if failed or self._factor.getFactorMatrix().getMumpsInfog(12) > 0:  # negative pivots
            raise not_positive_definite(member)
        self._kept = entries, entries._version, member

    def _give(self, right: Tensor) -> Any:
        """PETSc's matrix of right-hand sides that probably come again."""
        if self._given is not None:
            known, version, given = self._given
            if known is right and version == right._version:
                return given
        given = self._convert(right)
        self._given = right, right._version, given
        return given

    def _convert(self, right: Tensor) -> Any:
        petsc = self._petsc
        array = right.detach().cpu().numpy()
        if np.count_nonzero(array) > _SPARSE * array.size:
            return petsc.Mat().createDense(
                array.shape, array=np.asfortranarray(array), comm=petsc.COMM_SELF
            )
        rows = csr_array(array.T)
        pattern = rows.indptr.astype(petsc.IntType), rows.indices.astype(petsc.IntType)
        sparse = petsc.Mat().createAIJ(rows.shape, csr=(*pattern, rows.data), comm=petsc.COMM_SELF)
        return petsc.Mat().createTranspose(sparse)
