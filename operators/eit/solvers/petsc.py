"""PETSc's solvers: MUMPS on this process, MUMPS or multigrid on the ranks of an MPI run."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmanifold.errors import InputError, InputTypeError, MissingPackage
from onmanifold.operators.eit.solvers.base import (
    Array,
    Index,
    Solver,
    check_entries,
    check_right,
    not_positive_definite,
    to_numpy,
)
from onmanifold.operators.native import exclusive, one_at_a_time, require_dolfinx

METHODS = ("gamg", "hypre", "mumps")
_TOLERANCE = 1e-12  # of the residual, so that voltages do not depend on the number of ranks
_ITERATIONS = 1000
_AMF, _METIS = 2, 5  # MUMPS' numbers of orderings (its control parameter 7)
_LARGE = 30_000  # unknowns in the plane from which a few factorizations pay for nested dissection
_NEGATIVE_PIVOTS = 12  # of its global information
_SPARSE = 0.1  # right-hand sides with a smaller share of rows that are not zero are given as sparse


class PetscSolver(Solver):
    """Cholesky factorization by MUMPS, or conjugate gradients with algebraic multigrid.

    The symbolic analysis is done once. One matrix is held at a time: the members of a batch are factorized
    while they are solved for, so that the memory does not grow with the batch.

    On several ranks every one holds some of the cells, numbers the unknowns that these touch, and gives what
    its cells contribute to the matrix and its right-hand sides at these unknowns; unknowns on the interface
    belong to several ranks. Then all calls are collective.

    Args:
        indptr: row pointers of this rank's pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, by this rank's numbers, ``(nnz,)``.
        dimension: of the mesh.
        numbering: number of each of this rank's unknowns among those of all ranks, ``(n,)``.
        constant: this rank's values of the constant potential, nearly in the matrix' kernel, ``(n,)``;
            multigrid wants to know it.
        comm: mpi4py's communicator; this process alone if ``None``.
        method: ``"mumps"``, ``"gamg"`` (PETSc's multigrid) or ``"hypre"`` (where PETSc has it).

    Raises:
        ImportError: petsc4py is missing, or its PETSc has no hypre.
        ValueError: an unknown method.
    """

    @exclusive
    def __init__(
        self,
        indptr: Index,
        indices: Index,
        dimension: int,
        numbering: Index | None = None,
        constant: Array | None = None,
        comm: Any = None,
        method: str = "mumps",
    ) -> None:
        self.size, self.count = len(indptr) - 1, len(indices)
        self.held: tuple[object, int] | None = None  # batch and member that are factorized
        self._arguments = indptr, indices, dimension, numbering, constant, comm, method
        require_dolfinx()
        self._petsc: Any = import_module("petsc4py.PETSc")
        if method not in METHODS:
            raise InputError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
        if method != "gamg" and not self._petsc.Sys.hasExternalPackage(method):
            raise MissingPackage(f"this PETSc was built without {method}; take 'gamg'")
        self._comm = import_module("mpi4py.MPI").COMM_SELF if comm is None else comm
        self._direct = method == "mumps"
        numbers = np.arange(self.size) if numbering is None else numbering
        place, owned = _ownership(np.asarray(numbers, np.int64), self._comm)
        place = place.astype(self._petsc.IntType)
        self._owned = np.flatnonzero((place >= owned.start) & (place < owned.stop))
        self._owned = self._owned[np.argsort(place[self._owned])]
        self._matrix = self._new_matrix(indptr, indices, place, len(owned))
        self._x, self._b = self._matrix.createVecs()
        self._local = self._petsc.Vec().createSeq(self.size)
        everywhere = self._petsc.IS().createGeneral(place, comm=self._petsc.COMM_SELF)
        self._scatter = self._petsc.Scatter().create(self._x, everywhere, self._local, None)
        if constant is not None:
            self._b.array[:] = constant[self._owned]
            self._b.normalize()
            kernel = self._petsc.NullSpace().create(vectors=[self._b.copy()], comm=self._comm)
            self._matrix.setNearNullSpace(kernel)
        self._ksp = self._new_solver(method, dimension)

    def __reduce__(self) -> tuple[type[PetscSolver], tuple[Any, ...]]:
        """A copy is a new solver of the same pattern: nothing of PETSc's can be copied.

        Raises:
            TypeError: the solver works on several ranks, which a copy on one of them cannot.
        """
        if self._comm.size > 1:
            raise InputTypeError(
                f"a solver that {self._comm.size} MPI ranks share cannot be copied or pickled: make it "
                "on all ranks instead"
            )
        *pattern, _, method = self._arguments
        return PetscSolver, (*pattern, None, method)

    def factorize(self, entries: Tensor) -> PetscFactor:
        self.check(lambda: check_entries(entries, self.count))
        return PetscFactor(self, entries)

    def sum(self, value: Tensor) -> Tensor:
        if self._comm.size == 1:
            return value
        total = value.detach().cpu().contiguous().numpy().copy()
        self._comm.Allreduce(import_module("mpi4py.MPI").IN_PLACE, total)
        return torch.from_numpy(total).to(value.device)

    def check(self, test: Callable[[], None]) -> None:
        """Raise on all ranks if the test fails on one: the others would wait forever."""
        message = None
        try:
            test()
        except ValueError as error:
            message = str(error) if self._comm.size == 1 else f"rank {self._comm.rank}: {error}"
        messages = [m for m in self._comm.allgather(message) if m is not None]
        if messages:
            raise InputError(messages[0])

    def set_matrix(self, entries: Array) -> bool:
        """Factorize the matrix with these entries, ``(nnz,)``; False where it is not positive definite."""
        self._matrix.setValuesCOO(entries)
        if not self._direct and self._matrix.getDiagonal().min()[1] <= 0:
            return False  # iterations do not always notice
        self._ksp.setOperators(self._matrix)  # says that its values are new
        self._ksp.setUp()
        if not self._direct:
            return True
        pc = self._ksp.getPC()
        if pc.getFailedReason() != self._petsc.PC.FailedReason.NOERROR:
            return False
        return bool(pc.getFactorMatrix().getMumpsInfog(_NEGATIVE_PIVOTS) == 0)

    def prepare(self, right: Array) -> Any:
        """Right-hand sides at the unknowns that this rank owns; for MUMPS as a matrix of PETSc.

        As sparse ones they skip the branches of the elimination tree that they are zero on. Unit currents
        touch one unknown each: then half of a solve is saved.
        """
        own = right if len(self._owned) == len(right) else right[self._owned]
        if not self._direct:
            return own
        rows = np.flatnonzero(own.any(axis=1))
        few = 0 < len(rows) <= _SPARSE * len(own)  # MUMPS refuses sparse ones without any entry
        if self._comm.size > 1 or not few:
            return self._dense(np.asfortranarray(own))
        column, row = np.nonzero(own[rows].T)
        start = np.searchsorted(column, np.arange(own.shape[1] + 1))
        pattern = (a.astype(self._petsc.IntType) for a in (start, rows[row]))
        transposed = self._petsc.Mat().createAIJ(
            own.T.shape, csr=(*pattern, own[rows[row], column]), comm=self._comm
        )
        return self._petsc.Mat().createTranspose(transposed)

    def substitute(self, prepared: Any, result: Array) -> None:
        """Solve with the present factorization; solutions are the rows of ``result``, ``(k, n)``."""
        if self._direct and self._comm.size == 1:
            x = self._dense(result.T)
            self._ksp.getPC().getFactorMatrix().matSolve(prepared, x)
            x.destroy()
            return
        solutions = self._all_at_once(prepared, len(result)) if self._direct else None
        for c, row in enumerate(result):
            if solutions is None:
                self._iterate(prepared[:, c])
            else:
                self._x.array[:] = solutions[:, c]
            self._scatter.scatter(self._x, self._local)
            row[:] = self._local.array

    def _new_matrix(self, indptr: Index, indices: Index, place: Index, owned: int) -> Any:
        matrix = self._petsc.Mat().create(self._comm)
        matrix.setSizes(((owned, None), (owned, None)))
        matrix.setType("aij")
        row = np.repeat(place, np.diff(indptr))
        matrix.setPreallocationCOO(row, place[indices])
        matrix.setOption(self._petsc.Mat.Option.SPD, True)
        return matrix

    def _new_solver(self, method: str, dimension: int) -> Any:
        ksp = self._petsc.KSP().create(self._comm)
        ksp.setOperators(self._matrix)
        ksp.setType("preonly" if self._direct else "cg")
        ksp.setTolerances(rtol=_TOLERANCE, atol=0.0, max_it=_ITERATIONS)
        ksp.getPC().setType("cholesky" if self._direct else method)
        if self._direct:
            ksp.getPC().setFactorSolverType("mumps")
            ksp.getPC().setFactorSetUpSolverType()
            # minimum fill is found faster; nested dissection fills far less where there is much to fill
            small = dimension < 3 and self._matrix.getSize()[0] < _LARGE
            ordering = _AMF if small else _METIS
            ksp.getPC().getFactorMatrix().setMumpsIcntl(7, ordering)
            return ksp
        prefix = f"eit{id(self)}_"
        ksp.setOptionsPrefix(prefix)
        options = self._petsc.Options(prefix)
        if method == "hypre":
            options["pc_hypre_type"] = "boomeramg"
        else:  # smooths better than PETSc's default where conductivities jump
            options["mg_levels_pc_type"] = "sor"
        ksp.setFromOptions()
        return ksp

    def _iterate(self, right: Array) -> None:
        """Solve for one right-hand side, into ``self._x``."""
        self._b.array[:] = right
        self._ksp.solve(self._b, self._x)
        reason = self._ksp.getConvergedReason()
        if reason < 0:
            steps = self._ksp.getIterationNumber()
            raise InputError(
                f"conjugate gradients did not converge in {steps} steps (PETSc's reason {reason}): is the "
                "matrix positive definite?"
            )

    def _all_at_once(self, prepared: Any, columns: int) -> Array:
        """Solve for all right-hand sides by the factorization, at this rank's own unknowns."""
        x = self._dense(np.empty((len(self._owned), columns), order="F"))
        self._ksp.getPC().getFactorMatrix().matSolve(prepared, x)
        return np.array(x.getDenseArray())

    def _dense(self, own: Array) -> Any:
        """A dense matrix of PETSc over an array of this rank's rows, in columns."""
        sizes = ((len(own), self._matrix.getSize()[0]), (None, own.shape[1]))
        return self._petsc.Mat().createDense(sizes, array=own, comm=self._comm)


class PetscFactor:
    """The matrices of a batch, factorized one after the other when a solution is asked for."""

    def __init__(self, solver: PetscSolver, entries: Tensor) -> None:
        self._solver, self._entries = solver, entries
        self._key = object()

    def solve(self, right: Tensor) -> Tensor:
        """See :meth:`Factor.solve`."""
        solver, entries = self._solver, self._entries
        solver.check(lambda: check_right(right, len(entries), solver.size))
        result = np.empty((len(entries), right.shape[-1], solver.size))
        given, matrices = to_numpy(right), to_numpy(entries)
        with one_at_a_time():
            shared = solver.prepare(given) if right.ndim == 2 else None
            for b, row in enumerate(result):
                if solver.held != (self._key, b):
                    solver.held = None
                    if not solver.set_matrix(matrices[b]):
                        raise not_positive_definite(b)
                    solver.held = (self._key, b)
                solver.substitute(solver.prepare(given[b]) if shared is None else shared, row)
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def select(self, rows: Tensor) -> PetscFactor:
        """See :meth:`Factor.select`."""
        return PetscFactor(self._solver, self._entries[rows])


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
        raise InputError(f"no rank has unknown {int(np.argmax(owner))} of {total}")
    place = np.empty(total, np.int64)
    place[np.argsort(owner, kind="stable")] = np.arange(total)
    start, stop = np.searchsorted(np.sort(owner), [comm.rank, comm.rank + 1]).tolist()
    return place[numbering], range(start, stop)
