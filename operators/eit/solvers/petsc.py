"""Solvers for matrices whose rows are spread over the ranks of an MPI run, by PETSc."""

from __future__ import annotations

from importlib import import_module
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
from onmanifold.operators.eit.solvers.cholesky import NEGATIVE_PIVOTS

METHODS = ("gamg", "hypre", "mumps")
_TOLERANCE = 1e-12  # of the residual, so that voltages do not depend on the number of ranks
_ITERATIONS = 1000

# Symmetric Gauss-Seidel smooths better than PETSc's default where conductivities jump
_OPTIONS = {
    "gamg": {"mg_levels_pc_type": "sor"},
    "hypre": {"pc_hypre_type": "boomeramg"},
    "mumps": {},
}


class PetscDistributed:
    """Conjugate gradients with algebraic multigrid, or MUMPS, on all ranks of a communicator.

    Every rank holds some of the cells, numbers the unknowns that these touch, and gives what its cells
    contribute to the matrix; unknowns on the interface belong to several ranks. All calls are collective.

    Args:
        indptr: row pointers of this rank's pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, by this rank's numbers, ``(nnz,)``.
        numbering: number of each of this rank's unknowns among those of all ranks, ``(n,)``.
        constant: this rank's values of the constant potential, nearly in the matrix' kernel, ``(n,)``.
        comm: mpi4py's communicator.
        method: ``"gamg"`` (PETSc's multigrid), ``"hypre"`` (where PETSc has it) or ``"mumps"``.

    Raises:
        ImportError: petsc4py is missing, or its PETSc has no hypre.
        ValueError: an unknown method.
    """

    def __init__(
        self,
        indptr: Index,
        indices: Index,
        numbering: Index,
        constant: Array,
        comm: Any,
        method: str = "gamg",
    ) -> None:
        require_dolfinx()
        petsc: Any = import_module("petsc4py.PETSc")
        if method not in METHODS:
            raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        if method != "gamg" and not petsc.Sys.hasExternalPackage(method):
            raise ImportError(f"this PETSc was built without {method}; take 'gamg'")
        self._petsc, self._comm, self._method = petsc, comm, method
        self._size, self._count = len(numbering), len(indices)
        place, owned = _ownership(np.asarray(numbering, np.int64), comm)
        place = place.astype(petsc.IntType)
        self._owned = np.flatnonzero((place >= owned.start) & (place < owned.stop))
        self._owned = self._owned[np.argsort(place[self._owned])]

        matrix = petsc.Mat().create(comm)
        matrix.setSizes(((len(owned), None), (len(owned), None)))
        matrix.setType("aij")
        row = np.repeat(place, np.diff(indptr))
        matrix.setPreallocationCOO(row, place[indices])
        matrix.setOption(petsc.Mat.Option.SPD, True)
        self._matrix = matrix
        self._x, self._b = matrix.createVecs()
        self._local = petsc.Vec().createSeq(self._size)
        everywhere = petsc.IS().createGeneral(place, comm=petsc.COMM_SELF)
        self._scatter = petsc.Scatter().create(self._x, everywhere, self._local, None)
        self._b.array[:] = constant[self._owned]
        self._b.normalize()
        nullspace = petsc.NullSpace().create(vectors=[self._b.copy()], comm=comm)
        matrix.setNearNullSpace(nullspace)
        self._ksp = self._solver()
        self._kept = Kept[Any]()  # the solver, set up for a member

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`; the last member's factorization or preconditioner is kept.

        Args:
            entries: what this rank's cells contribute, ``(B, nnz)``.
            right: right-hand sides at this rank's unknowns, the same on all ranks that share one.

        Returns:
            Solutions at this rank's unknowns, ``(B, n, k)``.
        """
        self._check(entries, right)
        columns = right.shape[-1]
        result = np.empty((len(entries), columns, self._size))
        for b in range(len(entries)):
            self._set(entries, b)
            given = (right if right.ndim == 2 else right[b]).detach().cpu().numpy()[self._owned]
            dense = self._all_at_once(given) if self._method == "mumps" else None
            for c in range(columns):
                if dense is None:
                    self._iterate(given[:, c], b)
                else:
                    self._x.array[:] = dense[:, c]
                self._scatter.scatter(self._x, self._local)
                result[b, c] = self._local.array
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks."""
        total = value.detach().cpu().contiguous().numpy().copy()
        self._comm.Allreduce(import_module("mpi4py.MPI").IN_PLACE, total)
        return torch.from_numpy(total).to(value.device)

    def _solver(self) -> Any:
        ksp = self._petsc.KSP().create(self._comm)
        ksp.setOperators(self._matrix)
        direct = self._method == "mumps"
        ksp.setType("preonly" if direct else "cg")
        ksp.setTolerances(rtol=_TOLERANCE, atol=0.0, max_it=_ITERATIONS)
        ksp.getPC().setType("cholesky" if direct else self._method)
        if direct:
            ksp.getPC().setFactorSolverType("mumps")
        prefix = f"eit{id(self)}_"
        ksp.setOptionsPrefix(prefix)
        options = self._petsc.Options(prefix)
        for key, value in _OPTIONS[self._method].items():
            options[key] = value
        ksp.setFromOptions()
        return ksp

    def _set(self, entries: Tensor, member: int) -> None:
        """Make member's matrix the operator, and set up what solves with it."""
        if self._kept.get(entries, member) is not None:
            return
        self._matrix.setValuesCOO(entries[member].detach().cpu().numpy())
        if self._matrix.getDiagonal().min()[1] <= 0:  # iterations do not always notice
            raise not_positive_definite(member)
        self._ksp.setOperators(self._matrix)  # says that its values are new
        self._ksp.setUp()
        if self._method == "mumps":
            pc = self._ksp.getPC()
            failed = pc.getFailedReason() != self._petsc.PC.FailedReason.NOERROR
            if failed or pc.getFactorMatrix().getMumpsInfog(NEGATIVE_PIVOTS) > 0:
                raise not_positive_definite(member)
        self._kept.put(self._ksp, entries, member)

    def _iterate(self, right: Array, member: int) -> None:
        """Solve for one right-hand side, into ``self._x``."""
        self._b.array[:] = right
        self._ksp.solve(self._b, self._x)
        reason = self._ksp.getConvergedReason()
        if reason < 0:
            raise ValueError(
                f"conjugate gradients did not solve member {member} in {self._ksp.getIterationNumber()} "
                f"steps (PETSc's reason {reason}): is its matrix positive definite?"
            )

    def _all_at_once(self, right: Array) -> Array:
        """Solve for all right-hand sides by the factorization, at this rank's own unknowns."""
        total = self._matrix.getSize()[0]
        sizes = ((len(right), total), (None, right.shape[1]))
        b = self._petsc.Mat().createDense(sizes, array=np.asfortranarray(right), comm=self._comm)
        x = self._petsc.Mat().createDense(sizes, comm=self._comm)
        x.setUp()
        self._ksp.getPC().getFactorMatrix().matSolve(b, x)
        return np.array(x.getDenseArray())

    def _check(self, entries: Tensor, right: Tensor) -> None:
        """:func:`check_system`, raising on all ranks if it does on one: the others would wait forever."""
        message = None
        try:
            check_system(entries, right, self._size, self._count)
        except ValueError as error:
            message = f"rank {self._comm.rank}: {error}"
        messages = [m for m in self._comm.allgather(message) if m is not None]
        if messages:
            raise ValueError(messages[0])


def _ownership(numbering: Index, comm: Any) -> tuple[Index, range]:
    """PETSc's number of each of this rank's unknowns, and the range of those that this rank owns.

    PETSc wants each rank to own a contiguous range; an unknown belongs to the lowest rank that has it.
    """
    everyone = comm.allgather(numbering)
    total = 1 + max(int(n.max(initial=-1)) for n in everyone)
    owner = np.full(total, comm.size)
    for rank in reversed(range(comm.size)):
        owner[everyone[rank]] = rank
    if (owner == comm.size).any():
        raise ValueError(f"no rank has unknown {int(np.argmax(owner))} of {total}")
    place = np.empty(total, np.int64)
    place[np.argsort(owner, kind="stable")] = np.arange(total)
    start, stop = np.searchsorted(np.sort(owner), [comm.rank, comm.rank + 1]).tolist()
    return place[numbering], range(start, stop)
