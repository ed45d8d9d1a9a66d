"""What a linear solver has to do, and the choice among those that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.operators.eit.fem.assembly import require_dolfinx

Array = NDArray[np.float64]
Index = NDArray[Any]  # of any integer type

SOLVERS = ("auto", "mumps", "superlu", "torch")


class Solver(Protocol):
    """Solves with symmetric positive definite matrices of one sparsity pattern.

    What depends on the pattern alone is done once, when a solver is made.
    """

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """Solve ``K_b x_b = right_b`` for a batch of matrices.

        A second call with the very same tensor ``entries`` uses the factorization of the first one again.

        Args:
            entries: the matrices' entries in the order of the pattern, ``(B, nnz)``.
            right: k right-hand sides, ``(n, k)`` for all matrices or ``(B, n, k)``.

        Returns:
            The solutions, ``(B, n, k)``, float64 where ``entries`` are; not always contiguous.

        Raises:
            ValueError: a matrix is not positive definite, or shapes do not fit the pattern.
        """
        ...

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks of an MPI run; ``value`` itself where there is one."""
        ...


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
            ``"auto"``: MUMPS where it can be had, else torch; or a class or function that is called with
            ``indptr``, ``indices`` and ``coordinates``.
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: a place for each unknown, ``(n, D)``; solvers use them to find small separators.
        device: where ``entries`` will be; only ``"torch"`` works on others than the CPU.

    Raises:
        ImportError: petsc4py is missing and ``"mumps"`` was asked for.
        ValueError: an unknown name, or a device that the solver does not work on.

    Example:
        >>> import numpy as np, torch
        >>> indptr, indices = np.array([0, 2, 4]), np.array([0, 1, 0, 1])
        >>> solver = make_solver("torch", indptr, indices, np.array([[0.0], [1.0]]))
        >>> entries = torch.tensor([[2.0, 1.0, 1.0, 2.0]], dtype=torch.float64)
        >>> solver.solve(entries, torch.tensor([[3.0], [3.0]], dtype=torch.float64)).round(decimals=9)
        tensor([[[1.],
                 [1.]]], dtype=torch.float64)
    """
    if callable(name):
        return name(indptr, indices, coordinates)
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; known: {', '.join(SOLVERS)}")
    device = torch.device(device)
    if name == "auto":
        name = "mumps" if device.type == "cpu" and _has_mumps() else "torch"
    if name == "torch":
        from onmanifold.operators.eit.solvers.multifrontal import MultifrontalCholesky

        return MultifrontalCholesky(indptr, indices, coordinates, device)
    if device.type != "cpu":
        raise ValueError(
            f"the solver {name!r} works on the CPU only, not on {device}; take 'torch'"
        )
    if name == "mumps":
        from onmanifold.operators.eit.solvers.mumps import MumpsCholesky

        return MumpsCholesky(indptr, indices, coordinates)
    from onmanifold.operators.eit.solvers.superlu import SuperLU

    return SuperLU(indptr, indices, coordinates)


class Kept[T]:
    """What was made of a tensor (and a member of it) last, as long as that tensor has not changed."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, int, int | None, T] | None = None

    def get(self, tensor: Tensor, member: int | None = None) -> T | None:
        """What was kept for this very tensor; otherwise what was kept is dropped."""
        if self._last is not None:
            known, version, of, value = self._last
            if known is tensor and version == tensor._version and of == member:
                return value
        self._last = None
        return None

    def put(self, value: T, tensor: Tensor, member: int | None = None) -> T:
        """Keep ``value``, and nothing else; nothing of tensors whose changes cannot be seen."""
        if tensor.is_inference():
            self._last = None
            return value
        self._last = tensor, tensor._version, member, value
        return value


def check_system(entries: Tensor, right: Tensor, size: int, count: int) -> None:
    """Refuse what does not fit a pattern of ``size`` unknowns and ``count`` entries.

    Raises:
        ValueError: another shape or dtype, or entries that are not finite.
    """
    if entries.ndim != 2 or entries.shape[1] != count:
        raise ValueError(f"entries have shape {tuple(entries.shape)}, expected (B, {count})")
    batch = () if right.ndim == 2 else (len(entries),)
    if right.ndim not in (2, 3) or right.shape[:-1] != (*batch, size):
        raise ValueError(
            f"right has shape {tuple(right.shape)}, expected ({size}, k) or ({len(entries)}, {size}, k)"
        )
    if entries.dtype != torch.float64 or right.dtype != torch.float64:
        raise ValueError(f"expected float64, got {entries.dtype} and {right.dtype}")
    if not bool(torch.isfinite(entries.sum())):  # one pass, no temporary
        raise ValueError("the matrix holds NaN or infinite entries")


def not_positive_definite(member: int) -> ValueError:
    """The error for a matrix that has no Cholesky factorization."""
    return ValueError(f"the matrix of member {member} is not positive definite")


def _has_mumps() -> bool:
    try:
        require_dolfinx()
    except ImportError:
        return False
    return True
