"""Sparse Cholesky factorization in torch: many matrices of one pattern at once, on a GPU or the CPU.

In the order of Cuthill and McKee (Proc. 24th ACM National Conference, 1969) an unknown is coupled to its own
block and the two next to it: the matrix is block tridiagonal, with the blocks ``D_k`` and ``C_k``. So

    L_k L_k^T = D_k - W_k^T W_k,    W_k = L_(k-1)^-1 C_k^T,

one block after the other. Each step is a dense product for all members of the batch together: what a GPU is
good at. In two dimensions a block is about as large as the mesh is wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from onmanifold.operators.eit.solvers.base import (
    Index,
    Solver,
    check_entries,
    check_right,
    not_positive_definite,
)

_SMALLEST = 64  # unknowns of a block: smaller ones make more steps, not less work


class _Block(NamedTuple):
    """Which entries of the matrix make a block: their numbers, and their places in the dense block."""

    shape: tuple[int, int]
    source: Tensor
    target: Tensor

    def dense(self, entries: Tensor) -> Tensor:
        """The block of each matrix, ``(B, *shape)``."""
        block = entries.new_zeros(len(entries), self.shape[0] * self.shape[1])
        block.index_copy_(1, self.target, entries.index_select(1, self.source))
        return block.view(-1, *self.shape)


class BlockTridiagonalCholesky(Solver):
    """Batched Cholesky factorization of block tridiagonal matrices; all members are kept.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        device: where ``entries`` will be.
    """

    def __init__(self, indptr: Index, indices: Index, device: str | torch.device = "cpu") -> None:
        size, self._count = len(indptr) - 1, len(indices)
        graph = csr_array((np.ones(len(indices)), indices, indptr), shape=(size, size))
        order = reverse_cuthill_mckee(graph, symmetric_mode=True)[::-1].astype(np.int64)
        position = np.argsort(order)
        row = position[np.repeat(np.arange(size), np.diff(indptr))]
        column = position[indices]
        self._bounds = _bounds(row, column, size)
        self._order, self._position = (torch.tensor(a, device=device) for a in (order, position))
        self._diagonal: list[_Block] = []
        self._coupling: list[_Block | None] = []  # to the block before
        in_block, by_block = (
            np.searchsorted(self._bounds, a, side="right") - 1 for a in (row, column)
        )

        def block(k: int, j: int) -> _Block:
            source = np.flatnonzero((in_block == k) & (by_block == j))
            shape = tuple(self._bounds[i + 1] - self._bounds[i] for i in (k, j))
            at = (row[source] - self._bounds[k]) * shape[1] + column[source] - self._bounds[j]
            return _Block(
                (shape[0], shape[1]),
                torch.tensor(source, device=device),
                torch.tensor(at, device=device),
            )

        for k in range(len(self._bounds) - 1):
            self._diagonal.append(block(k, k))
            self._coupling.append(block(k, k - 1) if k else None)

    def factorize(self, entries: Tensor) -> BlockTridiagonalFactor:
        check_entries(entries, self._count)
        lower: list[Tensor] = []
        coupling: list[Tensor | None] = []
        failed = torch.zeros(len(entries), dtype=torch.bool, device=entries.device)
        for own, before in zip(self._diagonal, self._coupling, strict=True):
            block, w = own.dense(entries), None
            if before is not None:
                w = torch.linalg.solve_triangular(lower[-1], before.dense(entries).mT, upper=False)
                block.baddbmm_(w.mT, w, alpha=-1)
            factor, info = torch.linalg.cholesky_ex(block)
            failed |= info.ne(0)
            lower.append(factor)
            coupling.append(w)
        if bool(failed.any()):  # once: on a GPU each look at a value waits for all work before it
            raise not_positive_definite(int(failed.long().argmax()))
        return BlockTridiagonalFactor(lower, coupling, self._order, self._position, self._bounds)


class BlockTridiagonalFactor:
    """The blocks ``L_k`` and ``W_k`` of a batch."""

    def __init__(
        self,
        lower: list[Tensor],
        coupling: list[Tensor | None],
        order: Tensor,
        position: Tensor,
        bounds: list[int],
    ) -> None:
        self._lower, self._coupling, self._bounds = lower, coupling, bounds
        self._order, self._position = order, position

    def solve(self, right: Tensor) -> Tensor:
        """See :meth:`Factor.solve`."""
        members = len(self._lower[0])
        check_right(right, members, len(self._order))
        rows = right.index_select(-2, self._order).expand(members, -1, -1)
        x = list(rows.split(np.diff(self._bounds).tolist(), dim=1))
        for k, (lower, w) in enumerate(zip(self._lower, self._coupling, strict=True)):
            given = x[k] if w is None else torch.baddbmm(x[k], w.mT, x[k - 1], alpha=-1)
            x[k] = torch.linalg.solve_triangular(lower, given, upper=False)
        for k in reversed(range(len(x))):
            x[k] = torch.linalg.solve_triangular(self._lower[k].mT, x[k], upper=True)
            if (w := self._coupling[k]) is not None:
                x[k - 1] = torch.baddbmm(x[k - 1], w, x[k], alpha=-1)
        return torch.cat(x, dim=1).index_select(1, self._position)

    def select(self, rows: Tensor) -> BlockTridiagonalFactor:
        """See :meth:`Factor.select`."""
        return BlockTridiagonalFactor(
            [block[rows] for block in self._lower],
            [None if w is None else w[rows] for w in self._coupling],
            self._order,
            self._position,
            self._bounds,
        )


def _bounds(row: Index, column: Index, size: int) -> list[int]:
    """Where the blocks begin and end: each reaches as far as the couplings of the one before."""
    reach = np.zeros(size, np.int64)
    np.maximum.at(reach, row, column)
    bounds = [0, min(_SMALLEST, size)]
    while bounds[-1] < size:
        coupled = int(reach[bounds[-2] : bounds[-1]].max()) + 1
        bounds.append(min(size, max(bounds[-1] + _SMALLEST, coupled)))
    return bounds
