"""One factorization per conductivity, one solve per electrode; everything else is linear combination.

The complete electrode model (Somersalo, Cheney, Isaacson, SIAM J. Appl. Math. 52, 1992) with
conductivity ``s``, contact impedances ``z_l`` and electrodes ``e_l`` asks for ``u`` and ``U`` with, for
all ``v`` and ``V``,

    int s grad u . grad v + sum_l 1/z_l int_{e_l} (u - U_l) (v - V_l) = sum_l I_l V_l.

The last electrode is grounded, which makes the matrix positive definite. With ``w_a`` the solution for a unit
current from electrode a to the last one, every injection, measurement, derivative and adjoint follows:

    Z_ab = U_b of w_a,        dZ_ab / ds_c = - int_c grad w_a . grad w_b.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any
from typing import Protocol as Structural

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from onmanifold.operators.eit.assembly import require_dolfinx
from onmanifold.operators.eit.discretization import Discretization
from onmanifold.operators.eit.protocol import Protocol

Array = NDArray[np.float64]
_CHUNK = 128  # cells whose products of gradients are formed at a time: they stay in the cache


class Solver(Structural):
    """Solves with positive definite matrices of one sparsity pattern."""

    def solve(self, data: Array, right: Array) -> Array:
        """Factorize the matrix with entries ``data`` and solve for the columns of ``right``."""
        ...


class MumpsCholesky:
    """PETSc's sparse Cholesky factorization by MUMPS; the symbolic analysis is done once.

    Args:
        indptr: row pointers of the matrix in compressed rows, both triangles.
        indices: its column indices, ascending in each row.
    """

    def __init__(self, indptr: NDArray[Any], indices: NDArray[Any]) -> None:
        require_dolfinx()
        petsc: Any = import_module("petsc4py.PETSc")
        self._petsc = petsc
        self._data = np.zeros(len(indices))
        pattern = indptr.astype(petsc.IntType), indices.astype(petsc.IntType)
        n = len(indptr) - 1
        self._matrix = petsc.Mat().createAIJWithArrays(
            (n, n), (*pattern, self._data), comm=petsc.COMM_SELF
        )
        self._matrix.setOption(petsc.Mat.Option.SPD, True)
        self._factor = petsc.PC().create(petsc.COMM_SELF)
        self._factor.setType("cholesky")
        self._factor.setFactorSolverType("mumps")
        self._factor.setOperators(self._matrix)

    def solve(self, data: Array, right: Array) -> Array:
        """Factorize the matrix with entries ``data`` and solve for the columns of ``right``.

        Raises:
            ValueError: the matrix is not positive definite.
        """
        petsc = self._petsc
        self._data[:] = data
        self._matrix.assemble()
        self._matrix.stateIncrease()
        self._factor.setUp()
        if self._factor.getFailedReason() != petsc.PC.FailedReason.NOERROR:
            raise ValueError(
                "the stiffness matrix could not be factorized: is it positive definite?"
            )
        result = np.zeros(right.shape, order="F")
        b = petsc.Mat().createDense(
            right.shape, array=np.asfortranarray(right), comm=petsc.COMM_SELF
        )
        x = petsc.Mat().createDense(right.shape, array=result, comm=petsc.COMM_SELF)
        self._factor.getFactorMatrix().matSolve(b, x)
        b.destroy()
        x.destroy()
        return result


class Engine:
    """The complete electrode model on one discretization, with given contact impedances and protocol.

    Args:
        discretization: element matrices and electrode blocks.
        impedances: contact impedance z of each electrode, Ohm m^2, ``(L,)``.
        protocol: injections ``(L, I)`` and measurement patterns ``(L, M)``.
        solver: class of the linear solver.
    """

    def __init__(
        self,
        discretization: Discretization,
        impedances: Array,
        protocol: Protocol,
        solver: type[MumpsCholesky] = MumpsCholesky,
    ) -> None:
        count = discretization.electrodes
        if not len(impedances) == protocol.electrodes == count:
            raise ValueError(
                f"the mesh has {count} electrodes; {len(impedances)} contact impedances and a protocol for "
                f"{protocol.electrodes} electrodes came"
            )
        self.discretization = discretization
        self.cells = len(discretization.cells)
        self._nodes = discretization.size
        size = self._nodes + count - 1
        self._assembly, self._base, indptr, indices = _linear_assembly(discretization, impedances)
        self._gradient = _gradient(discretization, size)
        self._solver: Solver = solver(indptr, indices)
        self._currents = np.zeros((size, count - 1))
        self._currents[self._nodes :] = np.eye(count - 1)
        self._drive = torch.from_numpy(protocol.injections[:-1].copy())  # the last one is grounded
        centred = protocol.patterns - protocol.patterns.mean(axis=0)
        self._sense = torch.from_numpy(centred[:-1].copy())

    def potentials(self, s: Array) -> Array:
        """Potentials ``w`` of unit currents from each electrode into the last one.

        Args:
            s: conductivity of each cell, S/m, ``(C,)``; positive.

        Returns:
            Potentials at the nodes, then at all electrodes but the last, V, ``(N + L - 1, L - 1)``.
        """
        entries = self._base + self._assembly @ s
        return np.ascontiguousarray(self._solver.solve(entries, self._currents))

    def transfer(self, w: Array) -> Tensor:
        """Electrode potentials ``Z`` for unit currents, V/A, ``(L - 1, L - 1)``."""
        return torch.from_numpy(w[self._nodes :])

    def voltages(self, w: Array) -> Tensor:
        """Measured voltages, V, ``(I, M)``."""
        return self._measure(self.transfer(w))

    def jvp(self, w: Array, ds: Tensor) -> Tensor:
        """Change of the voltages in T directions ``ds`` of ``(C, T)``: ``(T, I, M)``."""
        n = len(self._drive)
        change = torch.zeros(n * n, ds.shape[1], dtype=torch.float64)
        for i, products in self._products(w, _CHUNK):
            change.addmm_(products.T, ds[i : i + _CHUNK], alpha=-1.0)
        return self._measure(change.T.reshape(-1, n, n))

    def vjp(self, w: Array, du: Tensor) -> Tensor:
        """Adjoint of :meth:`jvp`: T cotangents ``(T, I, M)`` to ``(C, T)``."""
        g = self._gradients(w)
        flat = g.flatten(0, 1)
        weights = self._drive @ du @ self._sense.T
        columns = [((flat @ m) * flat).view(self.cells, -1).sum(dim=1) for m in weights]
        return -torch.stack(columns, dim=1)

    def jacobian(self, w: Array, average: csr_array) -> Tensor:
        """Derivative of the voltages by P pixels, ``(I, M, P)``.

        Args:
            w: potentials.
            average: pixels to cells, ``(C, P)``.
        """
        change: Any = 0.0
        for i, products in self._products(w, 2048):
            change = change - average[i : i + len(products)].T @ products.numpy()
        n = len(self._drive)
        return self._measure(torch.from_numpy(change).reshape(-1, n, n)).permute(1, 2, 0)

    def _measure(self, z: Tensor) -> Tensor:
        return self._drive.T @ z @ self._sense

    def _gradients(self, w: Array) -> Tensor:
        """``g`` with ``int_c grad w_a . grad w_b = sum_q g[c, q, a] g[c, q, b]``: ``(C, Q, L - 1)``."""
        return torch.from_numpy(self._gradient @ w).view(self.cells, -1, w.shape[1])

    def _products(self, w: Array, size: int) -> Iterator[tuple[int, Tensor]]:
        """``int_c grad w_a . grad w_b`` of ``size`` cells at a time: first cell, ``(c, (L - 1)^2)``."""
        g = self._gradients(w)
        for i in range(0, self.cells, size):
            part = g[i : i + size]
            yield i, torch.bmm(part.transpose(1, 2), part).flatten(1)


def _linear_assembly(
    d: Discretization, impedances: Array
) -> tuple[csr_array, Array, NDArray[Any], NDArray[Any]]:
    """The map from conductivity to matrix entries, ``entries = base + assembly @ s``, and its pattern."""
    n, electrodes = d.size, d.electrodes
    size = n + electrodes - 1
    k = d.dofs.shape[1]
    rows = np.repeat(d.dofs, k, axis=1).ravel()
    columns = np.tile(d.dofs, (1, k)).ravel()
    weight = d.mass / impedances[d.electrode]
    live = d.electrode < electrodes - 1  # the last electrode is grounded
    u, column, v = d.rows[live], n + d.electrode[live], weight[live]
    fixed_rows = np.concatenate([d.rows, u, column, column])
    fixed_columns = np.concatenate([d.columns, column, u, column])
    fixed = np.concatenate([weight, -v, -v, v])

    key = np.concatenate([rows, fixed_rows]).astype(np.int64) * size
    key += np.concatenate([columns, fixed_columns])
    unique, position = np.unique(key, return_inverse=True)
    base = np.bincount(position[len(rows) :], fixed, minlength=len(unique))
    cell = np.repeat(np.arange(len(d.cells)), k * k)
    assembly = coo_array(
        (d.stiffness.ravel(), (position[: len(rows)], cell)), shape=(len(unique), len(d.cells))
    ).tocsr()
    indptr = np.searchsorted(unique, np.arange(size + 1, dtype=np.int64) * size)
    return assembly, base, indptr, unique % size


def _gradient(d: Discretization, size: int) -> csr_array:
    """Sparse ``G`` with ``E_c = G_c^T G_c`` for each cell's ``n - 1`` rows: ``(C (n - 1), size)``.

    ``E_c`` maps constants to zero; without its last row and column it is positive definite. So
    ``G_c = R [I, -1]`` with the Cholesky factor ``R^T R`` of what is left.
    """
    upper = np.linalg.cholesky(d.stiffness[:, :-1, :-1]).transpose(0, 2, 1)
    factor = np.concatenate([upper, -upper.sum(axis=2, keepdims=True)], axis=2)
    cells, q, k = factor.shape
    rows = np.repeat(np.arange(cells * q), k)
    columns = np.repeat(d.dofs[:, None, :], q, axis=1).ravel()
    return coo_array((factor.ravel(), (rows, columns)), shape=(cells * q, size)).tocsr()
