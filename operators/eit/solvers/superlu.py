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

_OPTIONS = {"SymmetricMode": True, "Equil": False}


class SuperLU(Solver):
    """Sparse factorization by scipy's SuperLU, in symmetric mode.

    The fill-reducing ordering (minimum degree) is computed once and the pattern permuted by it; with pivots
    from the diagonal it holds for all matrices. SuperLU releases the interpreter's lock, so the members of
    a batch are shared among threads. All factorizations of a batch are kept.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
    """

    def __init__(self, indptr: Index, indices: Index) -> None:
        self._size, self._count = len(indptr) - 1, len(indices)
        self._position = _minimum_degree(indptr, indices)
        order = np.argsort(self._position)
        positions = csc_array((np.arange(self._count), indices, indptr))
        permuted = positions[order][:, order].tocsc()
        permuted.sort_indices()
        self._source = permuted.data  # where in ``entries`` each entry of the permuted matrix is
        self._pattern = permuted.indices, permuted.indptr

    def factorize(self, entries: Tensor) -> SuperLUFactor:
        check_entries(entries, self._count)
        values = to_numpy(entries)
        parts = each(lambda b: self._factorize(values[b], b), len(values))
        return SuperLUFactor(parts, self._position, entries.device)

    def _factorize(self, entries: Array, member: int) -> Any:
        shape = self._size, self._size
        matrix = csc_array((entries[self._source], *self._pattern), shape=shape)
        try:
            factor = splu(
                matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, panel_size=1, options=_OPTIONS
            )
        except RuntimeError as error:  # a pivot is exactly zero
            raise not_positive_definite(member) from error
        # U's diagonal holds the pivots; another order of rows is another sign that one was zero
        stayed = np.array_equal(factor.perm_r, np.arange(self._size))
        if not (stayed and (factor.U.diagonal() > 0).all()):
            raise not_positive_definite(member)
        return factor


class SuperLUFactor:
    """SuperLU's factorizations of a batch; unknowns are permuted by ``position``."""

    def __init__(self, parts: list[Any], position: Index, device: torch.device) -> None:
        self._parts, self._position, self._device = parts, position, device

    def solve(self, right: Tensor) -> Tensor:
        """See :meth:`Factor.solve`."""
        check_right(right, len(self._parts), len(self._position))
        given = to_numpy(right)[..., np.argsort(self._position), :]

        def solve(b: int) -> Array:
            x: Array = self._parts[b].solve(given if given.ndim == 2 else given[b])
            return x[self._position]

        columns = each(solve, len(self._parts))
        return torch.from_numpy(np.stack(columns)).to(self._device)

    def select(self, rows: Tensor) -> SuperLUFactor:
        """See :meth:`Factor.select`."""
        chosen = torch.arange(len(self._parts))[rows.cpu()].tolist()
        return SuperLUFactor([self._parts[b] for b in chosen], self._position, self._device)


def _minimum_degree(indptr: Index, indices: Index) -> Index:
    """The place of each unknown in SuperLU's minimum degree ordering of ``A + A^T``, ``(n,)``."""
    size = len(indptr) - 1
    row = np.repeat(np.arange(size), np.diff(indptr))
    laplacian = np.where(row == indices, np.diff(indptr)[row].astype(float), -1.0)
    matrix = csc_array((laplacian, indices, indptr), shape=(size, size))
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=_OPTIONS)
    return np.asarray(factor.perm_c)
