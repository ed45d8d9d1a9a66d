"""SuperLU, which comes with scipy: for the CPU, where there is no PETSc."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

from onmanifold.operators.eit.fem.threads import each
from onmanifold.operators.eit.solvers.base import (
    Array,
    Index,
    Solver,
    check_entries,
    check_right,
    not_positive_definite,
    to_numpy,
)


class SuperLU(Solver):
    """Sparse factorization by scipy's SuperLU, in symmetric mode with pivots from the diagonal.

    SuperLU releases the interpreter's lock, so the members of a batch are shared among threads. All
    factorizations of a batch are kept.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
    """

    def __init__(self, indptr: Index, indices: Index) -> None:
        self._pattern = indices, indptr

    def factorize(self, entries: Tensor) -> SuperLUFactor:
        check_entries(entries, len(self._pattern[0]))
        values = to_numpy(entries)
        parts = each(lambda b: self._factorize(values[b], b), len(values))
        return SuperLUFactor(parts, self, entries)

    def _factorize(self, entries: Array, member: int) -> Any:
        size = len(self._pattern[1]) - 1
        matrix = csc_array((entries, *self._pattern), shape=(size, size))
        try:
            factor = splu(
                matrix,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                panel_size=1,
                options={"SymmetricMode": True, "Equil": False},
            )
        except RuntimeError as error:  # a pivot is exactly zero
            raise not_positive_definite(member) from error
        # U's diagonal holds the pivots; another order of rows is another sign that one was zero
        stayed = np.array_equal(factor.perm_r, factor.perm_c)
        if not (stayed and (factor.U.diagonal() > 0).all()):
            raise not_positive_definite(member)
        return factor


class SuperLUFactor:
    """SuperLU's factorizations of a batch."""

    def __init__(self, parts: list[Any], solver: SuperLU, entries: Tensor) -> None:
        self._parts, self._solver, self._entries = parts, solver, entries

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy factorizes again: nothing of SuperLU's can be copied."""
        return self._solver.factorize, (self._entries,)

    def solve(self, right: Tensor) -> Tensor:
        """See :meth:`Factor.solve`."""
        check_right(right, len(self._parts), self._parts[0].shape[0])
        given = to_numpy(right)
        columns = each(
            lambda b: self._parts[b].solve(given if given.ndim == 2 else given[b]), len(self._parts)
        )
        return torch.from_numpy(np.stack(columns)).to(self._entries.device)

    def select(self, rows: Tensor) -> SuperLUFactor:
        """See :meth:`Factor.select`."""
        chosen = torch.arange(len(self._parts))[rows.cpu()].tolist()
        return SuperLUFactor([self._parts[b] for b in chosen], self._solver, self._entries[rows])
