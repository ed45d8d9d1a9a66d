"""SuperLU, which comes with scipy: for the CPU, where there is no PETSc."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

from onmanifold.operators.eit.solvers.base import (
    Array,
    Index,
    Kept,
    check_system,
    not_positive_definite,
)

_OPTIONS = {"SymmetricMode": True, "Equil": False}


class SuperLU:
    """Sparse factorization by scipy's SuperLU, in symmetric mode.

    The fill-reducing ordering (minimum degree) is computed once and the pattern permuted by it; with pivots
    from the diagonal it holds for all matrices. SuperLU releases the interpreter's lock, so the members of
    a batch are shared among threads. The factorization of a single matrix is kept.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: places of the unknowns, ``(n, D)``; not used.
    """

    def __init__(self, indptr: Index, indices: Index, coordinates: Array) -> None:
        self._size, self._count = len(indptr) - 1, len(indices)
        self._position = _minimum_degree(indptr, indices)
        self._order = np.argsort(self._position)
        positions = csc_array((np.arange(self._count), indices, indptr))
        permuted = positions[self._order][:, self._order].tocsc()
        permuted.sort_indices()
        self._source = permuted.data  # where in ``entries`` each entry of the permuted matrix is
        self._pattern = permuted.indices, permuted.indptr
        self._kept = Kept[Any]()  # the factorization of a single matrix

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`; the factorization of a single matrix is kept."""
        check_system(entries, right, self._size, self._count)
        values = entries.detach().cpu().numpy()
        given = right.detach().cpu().numpy()[..., self._order, :]
        known = self._kept.get(entries)

        def solve(b: int) -> Array:
            factor = self._factorize(values[b], b) if known is None else known
            x: Array = factor.solve(given if given.ndim == 2 else given[b])
            if len(values) == 1 and known is None:
                self._kept.put(factor, entries)
            return x[self._position]

        with ThreadPoolExecutor(max(1, min(len(values), torch.get_num_threads()))) as pool:
            columns = list(pool.map(solve, range(len(values))))
        return torch.from_numpy(np.stack(columns)).to(entries.device)

    def sum(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

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


def _minimum_degree(indptr: Index, indices: Index) -> Index:
    """The place of each unknown in SuperLU's minimum degree ordering of ``A + A^T``, ``(n,)``."""
    size = len(indptr) - 1
    row = np.repeat(np.arange(size), np.diff(indptr))
    laplacian = np.where(row == indices, np.diff(indptr)[row].astype(float), -1.0)
    matrix = csc_array((laplacian, indices, indptr), shape=(size, size))
    factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=_OPTIONS)
    return np.asarray(factor.perm_c)
