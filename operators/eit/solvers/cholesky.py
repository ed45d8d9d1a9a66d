"""MUMPS' sparse Cholesky factorization through PETSc, one matrix at a time; also the program of the workers.

This file needs neither torch nor the rest of the package: a worker process that runs it (see :mod:`workers`)
starts in a fraction of a second and is small.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[Any]  # of any integer type

_AMF, _METIS = 2, 5  # MUMPS' numbers of orderings (its control parameter 7)
NEGATIVE_PIVOTS = 12  # of its global information
_SPARSE = 0.1  # right-hand sides with a smaller share of nonzeros are given as sparse ones


class SparseCholesky:
    """Cholesky factorizations of matrices of one pattern; the symbolic analysis is done once.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        dimension: of the mesh.
    """

    def __init__(self, indptr: Index, indices: Index, dimension: int) -> None:
        with contextlib.suppress(ModuleNotFoundError):  # conda-forge's PETSc comes without it
            import_module("dolfinx_solver")  # the wheel's libraries have to be loaded in its order
        self._petsc: Any = import_module("petsc4py.PETSc")
        self._alone = self._petsc.COMM_SELF
        self._size = len(indptr) - 1
        self._data = np.zeros(len(indices))
        pattern = (a.astype(self._petsc.IntType) for a in (indptr, indices))
        self._matrix = self._petsc.Mat().createAIJWithArrays(
            (self._size, self._size), (*pattern, self._data), comm=self._alone
        )
        self._matrix.setOption(self._petsc.Mat.Option.SPD, True)
        self._factor = self._petsc.PC().create(self._alone)
        self._factor.setType("cholesky")
        self._factor.setFactorSolverType("mumps")
        self._factor.setOperators(self._matrix)
        self._factor.setFactorSetUpSolverType()
        # minimum fill is the faster one to find; in three dimensions nested dissection fills far less
        self._factor.getFactorMatrix().setMumpsIcntl(7, _AMF if dimension < 3 else _METIS)

    def factorize(self, entries: Array) -> bool:
        """Factorize the matrix with these entries, ``(nnz,)``; False where it is not positive definite."""
        self._data[:] = entries
        self._matrix.assemble()
        self._matrix.stateIncrease()
        self._factor.setUp()
        if self._factor.getFailedReason() != self._petsc.PC.FailedReason.NOERROR:
            return False
        return bool(self._factor.getFactorMatrix().getMumpsInfog(NEGATIVE_PIVOTS) == 0)

    def prepare(self, right: Array) -> Any:
        """Right-hand sides ``(n, k)`` as :meth:`solve` takes them.

        As sparse ones they skip the branches of the elimination tree that they are zero on. Unit currents
        touch one unknown each: then half of a solve is saved.
        """
        if np.count_nonzero(right) > _SPARSE * right.size:
            array = np.asfortranarray(right)
            return self._petsc.Mat().createDense(right.shape, array=array, comm=self._alone)
        column, row = np.nonzero(right.T)
        start = np.searchsorted(column, np.arange(right.shape[1] + 1))
        pattern = (a.astype(self._petsc.IntType) for a in (start, row))
        transposed = self._petsc.Mat().createAIJ(
            right.T.shape, csr=(*pattern, right[row, column]), comm=self._alone
        )
        return self._petsc.Mat().createTranspose(transposed)

    def solve(self, prepared: Any, result: Array) -> None:
        """Solve with the last factorization; solutions are the rows of ``result``, ``(k, n)``."""
        x = self._petsc.Mat().createDense(result.shape[::-1], array=result.T, comm=self._alone)
        self._factor.getFactorMatrix().matSolve(prepared, x)
        x.destroy()


def serve(descriptor: int, size: int, count: int, dimension: int) -> None:
    """Work on what the standard input asks for, a line of JSON each, until it ends.

    The shared memory begins with the pattern. A request says where in it the entries of the matrices, the
    right-hand sides and the solutions are, and which members to work on. The answer is the member that is not
    positive definite, or null.
    """
    memory = mmap.mmap(descriptor, 0)
    indptr = np.frombuffer(memory, np.int64, size + 1)
    indices = np.frombuffer(memory, np.int64, count, indptr.nbytes)
    solver = SparseCholesky(indptr, indices, dimension)
    print("null", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["size"] > len(memory):
            memory = mmap.mmap(descriptor, 0)
        views = [
            np.frombuffer(memory, np.float64, np.prod(shape), place).reshape(shape)
            for place, shape in request["arrays"]
        ]
        print(json.dumps(_work(solver, range(*request["members"]), *views)), flush=True)


def _work(
    solver: SparseCholesky, members: range, entries: Array, right: Array, result: Array
) -> int | None:
    """Solve for some members of a batch; the member that is not positive definite, if one is not."""
    x = np.empty(result.shape[:0:-1])
    shared = solver.prepare(right) if right.ndim == 2 else None
    for b in members:
        if not solver.factorize(entries[b]):
            return b
        solver.solve(solver.prepare(right[b]) if shared is None else shared, x)
        result[b] = x.T
    return None


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
