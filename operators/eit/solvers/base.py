"""What a linear solver has to do."""

from __future__ import annotations

import threading
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onmanifold.errors import InputError

Array = NDArray[np.float64]
Index = NDArray[Any]  # of any integer type


class Factor(typing.Protocol):
    """The factorizations of a batch of B symmetric positive definite matrices of size n."""

    def solve(self, right: Tensor) -> Tensor:
        """Solve ``K_b x_b = right_b``.

        Args:
            right: k right-hand sides, ``(n, k)`` for all matrices or ``(B, n, k)``.

        Returns:
            The solutions, ``(B, n, k)``, float64 on the device of the matrices; not always contiguous.

        Raises:
            ValueError: another shape or dtype; or a matrix is not positive definite, where the solver
                makes its factorizations only now.
        """
        ...

    def select(self, rows: Tensor) -> Factor:
        """The factorizations of the members ``rows``, a mask or an index."""
        ...


class Solver(ABC):
    """Factorizes symmetric positive definite matrices of one sparsity pattern.

    What depends on the pattern alone is done once, when a solver is made.
    """

    @abstractmethod
    def factorize(self, entries: Tensor) -> Factor:
        """The factorizations of a batch of matrices.

        Args:
            entries: the matrices' entries in the order of the pattern, ``(B, nnz)``, float64. A solver
                may keep them: they must not be changed as long as the result is used.

        Raises:
            ValueError: a matrix is not positive definite, its entries are not finite, or the shape does
                not fit the pattern.
        """

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all ranks of an MPI run; ``value`` itself where there is one."""
        return value


class OneAtATime(Solver):
    """A solver that holds the factorization of one matrix at a time.

    The members of a batch are factorized while they are solved for, so that the memory does not grow with the
    batch. The last one is kept.

    Args:
        size: number of unknowns n.
        count: number of entries of a matrix.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count
        self.lock = threading.Lock()
        self.held: tuple[object, int] | None = None  # the factor's key and the member

    def factorize(self, entries: Tensor) -> Factor:
        self.check(lambda: check_entries(entries, self.count))
        return _DeferredFactor(self, entries)

    @abstractmethod
    def set_matrix(self, entries: Array) -> bool:
        """Factorize the matrix with these entries, ``(nnz,)``; False where it is not positive definite."""

    @abstractmethod
    def prepare(self, right: Array) -> Any:
        """Right-hand sides ``(n, k)`` as :meth:`substitute` takes them."""

    @abstractmethod
    def substitute(self, prepared: Any, result: Array) -> None:
        """Solve with the present factorization; solutions are the rows of ``result``, ``(k, n)``."""

    def check(self, test: Callable[[], None]) -> None:
        """Call a test that raises ``ValueError`` where the input is wrong."""
        test()


class _DeferredFactor:
    """The matrices of a batch, factorized one after the other when a solution is asked for."""

    def __init__(self, solver: OneAtATime, entries: Tensor) -> None:
        self._solver, self._entries = solver, entries
        self._key = object()

    def solve(self, right: Tensor) -> Tensor:
        solver, entries = self._solver, self._entries
        solver.check(lambda: check_right(right, len(entries), solver.size))
        result = np.empty((len(entries), right.shape[-1], solver.size))
        given, matrices = to_numpy(right), to_numpy(entries)
        with solver.lock:
            shared = solver.prepare(given) if right.ndim == 2 else None
            for b, row in enumerate(result):
                if solver.held != (self._key, b):
                    solver.held = None
                    if not solver.set_matrix(matrices[b]):
                        raise not_positive_definite(b)
                    solver.held = (self._key, b)
                solver.substitute(solver.prepare(given[b]) if shared is None else shared, row)
        return torch.from_numpy(result).transpose(1, 2).to(entries.device)

    def select(self, rows: Tensor) -> Factor:
        return _DeferredFactor(self._solver, self._entries[rows])


def check_entries(entries: Tensor, count: int) -> None:
    """Refuse what does not fit a pattern of ``count`` entries.

    Raises:
        ValueError: another shape or dtype, or entries that are not finite.
    """
    if entries.ndim != 2 or entries.shape[1] != count:
        raise InputError(f"entries have shape {tuple(entries.shape)}, expected (B, {count})")
    if entries.dtype != torch.float64:
        raise InputError(f"expected entries of float64, got {entries.dtype}")
    if not bool(torch.isfinite(entries.sum())):  # one pass, no temporary
        raise InputError("the matrix holds NaN or infinite entries")


def check_right(right: Tensor, members: int, size: int) -> None:
    """Refuse right-hand sides that do not fit ``members`` matrices of ``size`` unknowns.

    Raises:
        ValueError: another shape or dtype.
    """
    batch = () if right.ndim == 2 else (members,)
    if right.ndim not in (2, 3) or right.shape[:-1] != (*batch, size):
        raise InputError(
            f"right has shape {tuple(right.shape)}, expected ({size}, k) or ({members}, {size}, k)"
        )
    if right.dtype != torch.float64:
        raise InputError(f"expected right-hand sides of float64, got {right.dtype}")


def not_positive_definite(member: int) -> ValueError:
    """The error for a matrix that has no Cholesky factorization."""
    return ValueError(f"the matrix of member {member} is not positive definite")


def to_numpy(tensor: Tensor) -> Array:
    """The values of a tensor, on the CPU."""
    array: Array = tensor.detach().cpu().numpy()
    return array
