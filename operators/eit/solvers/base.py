"""What a linear solver has to do."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
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


def not_positive_definite(member: int) -> InputError:
    """The error for a matrix that has no Cholesky factorization."""
    return InputError(
        f"the matrix of member {member} is not positive definite: are its conductivities too far apart?"
    )


def to_numpy(tensor: Tensor) -> Array:
    """The values of a tensor, on the CPU."""
    array: Array = tensor.detach().cpu().numpy()
    return array
