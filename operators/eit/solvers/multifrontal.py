"""Sparse Cholesky factorization in torch: many matrices of one pattern at once, on CPU cores or a GPU.

The multifrontal method (Liu, SIAM Review 34, 1992) turns a sparse factorization into dense ones. Nested
dissection makes a binary tree of *fronts*. A front is the dense matrix of the unknowns that it eliminates,
its own, and of its boundary, the unknowns of fronts above that are coupled to them:

    F = [F11 F21^T; F21 F22],    F11 = L L^T,    U = - F21 F11^-1,    S = F22 + U F21^T.

S is added into the front above. The fronts of one level do not know of each other, nor do the members of a
batch, so a level is a handful of batched matrix products. With ``L^-1`` and ``U`` solving is made of products
alone, with ``r`` for right-hand sides: upwards ``r2 += U r1``, then down ``x1 = L^-T L^-1 r1 + U^T x2``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from onmanifold.operators.eit.fem.threads import each
from onmanifold.operators.eit.solvers.base import (
    Array,
    Index,
    Kept,
    check_system,
    not_positive_definite,
)
from onmanifold.operators.eit.solvers.symbolic import Group, Level, plan

_CHUNK = 4  # members that a CPU thread takes at a time: their fronts stay in the cache

Panels = tuple[Group, Tensor, Tensor]  # fronts of a group with their L^-1 and U


class MultifrontalCholesky:
    """Batched sparse Cholesky factorization in torch; all factorizations of the last batch are kept.

    A pattern of few unknowns is one front: batched dense factorization.

    Args:
        indptr: row pointers of the pattern in compressed rows, both triangles, ``(n + 1,)``.
        indices: its column indices, ascending in each row, ``(nnz,)``.
        coordinates: places of the unknowns, ``(n, D)``. What has none (NaN) is eliminated last: where
            right-hand sides are zero elsewhere, as with unit currents into electrodes, nothing has to be done
            upwards.
        device: where ``entries`` will be.
    """

    def __init__(
        self,
        indptr: Index,
        indices: Index,
        coordinates: Array,
        device: str | torch.device = "cpu",
    ) -> None:
        self._size, self._count = len(indptr) - 1, len(indices)
        self._device = torch.device(device)
        self._plan = plan(indptr, indices, coordinates, self._device)
        self._kept = Kept[list[list[Panels]]]()  # factors of each chunk

    def solve(self, entries: Tensor, right: Tensor) -> Tensor:
        """See :meth:`Solver.solve`; all factorizations are kept."""
        check_system(entries, right, self._size, self._count)
        chunks = self._chunks(len(entries))
        factors = self._factors(entries, chunks)
        padded = torch.cat([right, torch.zeros_like(right[..., :1, :])], dim=-2)
        padded = padded.index_select(-2, self._plan.unknown)
        touched = padded.ne(0).any(-1).reshape(-1, padded.shape[-2]).any(0)
        lowest = int(touched.long().argmax())  # the first slot that is not zero

        def solve(k: int) -> Tensor:
            part = padded if padded.ndim == 2 else padded[chunks[k]]
            x = part.expand(len(entries[chunks[k]]), -1, -1).clone()
            _substitute(factors[k], x, lowest)
            return x.index_select(1, self._plan.slot)

        return torch.cat(self._each(solve, len(chunks)))

    def sum(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

    def _factors(self, entries: Tensor, chunks: list[slice]) -> list[list[Panels]]:
        if (known := self._kept.get(entries)) is not None:
            return known
        levels = self._plan.levels
        made = self._each(lambda k: _factorize(levels, entries[chunks[k]]), len(chunks))
        failed = torch.cat([bad for _, bad in made])
        if bool(failed.any()):
            raise not_positive_definite(int(failed.long().argmax()))
        return self._kept.put([factor for factor, _ in made], entries)

    def _chunks(self, members: int) -> list[slice]:
        """Members that are worked on together: all of them on a GPU, a few on each thread of a CPU."""
        size = members
        if self._device.type == "cpu":
            size = min(_CHUNK, -(-members // torch.get_num_threads()))
        return [slice(k, k + size) for k in range(0, members, max(1, size))]

    def _each[T](self, work: Callable[[int], T], count: int) -> list[T]:
        """``work(0)``, ..., ``work(count - 1)``; on a CPU each on one thread."""
        if self._device.type != "cpu":
            return [work(k) for k in range(count)]
        return each(work, count)


def _factorize(levels: list[Level], entries: Tensor) -> tuple[list[Panels], Tensor]:
    """Factors of b matrices ``(b, nnz)``, leaves first, and which of them are not positive definite."""
    factor: list[Panels] = []
    failed = torch.zeros(len(entries), dtype=torch.bool, device=entries.device)
    buffer = _assemble(levels[0], entries)
    for k, level in enumerate(levels):
        above = _assemble(levels[k + 1], entries) if k + 1 < len(levels) else None
        for g in level.groups:
            front = buffer.narrow(1, g.place, g.count * (g.own + g.border) ** 2)
            front = front.unflatten(1, (g.count, g.own + g.border, g.own + g.border))
            lower, info = torch.linalg.cholesky_ex(front[..., : g.own, : g.own])
            failed |= info.ne(0).any(1)
            eye = torch.eye(g.own, dtype=entries.dtype, device=entries.device)
            inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
            below = front[..., g.own :, : g.own] @ inverse.mT  # F21 L^-T
            factor.append((g, inverse, (below @ inverse).neg_()))
            if above is not None:
                update = front[..., g.own :, g.own :] - below @ below.mT
                above.index_add_(1, (g.rows + g.columns).flatten(), update.flatten(1))
        if above is not None:
            buffer = above
    return factor, failed


def _assemble(level: Level, entries: Tensor) -> Tensor:
    """A level's buffer with the matrices' entries."""
    buffer = entries.new_zeros(len(entries), level.size)
    buffer.index_copy_(1, level.target, entries.index_select(1, level.source))
    return buffer.index_fill_(1, level.ones, 1.0)


def _substitute(factor: list[Panels], x: Tensor, lowest: int) -> None:
    """Replace right-hand sides, zero below the slot ``lowest``, by solutions, ``(b, slots, k)``."""
    own = [
        x.narrow(1, g.first, g.count * g.own).unflatten(1, (g.count, g.own)) for g, _, _ in factor
    ]
    start = sum(g.first + g.count * g.own <= lowest for g, _, _ in factor)
    for (g, _, u), r in zip(factor[start:], own[start:], strict=True):
        x.index_add_(1, g.boundary, (u @ r).flatten(1, 2))
    for k in reversed(range(len(factor))):
        g, inverse, u = factor[k]
        value = u.mT @ x.index_select(1, g.boundary).unflatten(1, (g.count, g.border))
        own[k].copy_(value if k < start else value + inverse.mT @ (inverse @ own[k]))
