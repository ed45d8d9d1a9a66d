"""Linear solvers of the EIT engine: sparse Cholesky factorizations on the CPU or a GPU, and across ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from onmanifold.errors import InputError
from onmanifold.operators.eit.solvers.base import Array, Factor, Index, Solver
from onmanifold.operators.eit.solvers.block_tridiagonal import BlockTridiagonalCholesky
from onmanifold.operators.eit.solvers.petsc import PetscSolver
from onmanifold.operators.eit.solvers.superlu import SuperLU
from onmanifold.operators.native import require_dolfinx

__all__ = ["SOLVERS", "Factor", "Solver", "make_solver"]

SOLVERS = ("auto", "mumps", "superlu", "torch")


def make_solver(
    name: str | Callable[..., Solver],
    indptr: Index,
    indices: Index,
    coordinates: Array,
    device: str | torch.device = "cpu",
) -> Solver:
    """A solver for matrices of one pattern.

    Args:
        name: ``"mumps"`` (PETSc's; needs petsc4py), ``"superlu"`` (scipy's), ``"torch"`` (any device), or
            ``"auto"``: on the CPU MUMPS where it can be had, else SuperLU; on other devices torch. Or a
            function that is called with ``indptr``, ``indices`` and ``coordinates``.
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: a place for each unknown, ``(n, D)``.
        device: where ``entries`` will be; only ``"torch"`` works on others than the CPU.

    Raises:
        ImportError: petsc4py is missing and ``"mumps"`` was asked for.
        ValueError: an unknown name, or a device that the solver does not work on.

    Example:
        >>> import numpy as np, torch
        >>> indptr, indices = np.array([0, 2, 4]), np.array([0, 1, 0, 1])
        >>> solver = make_solver("torch", indptr, indices, np.array([[0.0], [1.0]]))
        >>> factor = solver.factorize(torch.tensor([[2.0, 1.0, 1.0, 2.0]], dtype=torch.float64))
        >>> factor.solve(torch.tensor([[3.0], [3.0]], dtype=torch.float64)).round(decimals=9)
        tensor([[[1.],
                 [1.]]], dtype=torch.float64)
    """
    if callable(name):
        return name(indptr, indices, coordinates)
    if not isinstance(name, str) or name not in SOLVERS:
        raise InputError(f"unknown solver {name!r}; known: {', '.join(SOLVERS)}")
    device = torch.device(device)
    if name == "auto":
        name = "torch" if device.type != "cpu" else "mumps" if _has_mumps() else "superlu"
    if name == "torch":
        return BlockTridiagonalCholesky(indptr, indices, device)
    if device.type != "cpu":
        raise InputError(
            f"the solver {name!r} works on the CPU only, not on {device}; take 'torch'"
        )
    if name == "mumps":
        return PetscSolver(indptr, indices, coordinates.shape[1])
    return SuperLU(indptr, indices)


def _has_mumps() -> bool:
    try:
        require_dolfinx()
    except ImportError:
        return False
    return True
