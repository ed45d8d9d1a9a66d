"""The derivative of transfer impedances in directions that may move few cells.

In direction ds the impedance between source a and sensor b changes by

    dZ_ab = - sum_c ds_c int_c grad w_a . grad q_b.

What moves few cells, as the coordinates of one object among several, costs little: only products of
gradients in cells that move are formed, and each only for the directions that move it. Cells are in an
order in which neighbours follow each other, so that a run of them meets few objects.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.models.system import System
from onmanifold.operators.sparse import SparseMatrix

Array = NDArray[np.float64]

_RUN = 256  # cells whose products of gradients are formed at a time: they stay in the cache
_SINGLE = 6  # up to so many directions that move most cells are taken one by one
_BITS = 10  # of each coordinate in the order of cells
_RANK = 1e-12  # relative size below which combinations of the sources drive nothing


class Directions:
    """Directional derivatives of the impedances between what is injected and the sensors.

    Injections that are linear combinations of others cost nothing: only a basis of them is differentiated.

    Args:
        discretization: the mesh and its element matrices.
        system: the equations on it.
        device: where to compute.
    """

    def __init__(
        self, discretization: Discretization, system: System, device: torch.device | str = "cpu"
    ) -> None:
        d = discretization
        order = _along_curve(d.points[d.cells].mean(axis=1))
        # E_c maps constants to zero, so that E_c = G_c^T G_c with G_c = R [I, -1]
        upper = np.linalg.cholesky(d.stiffness[:, :-1, :-1]).transpose(0, 2, 1)
        factor = np.concatenate([upper, -upper.sum(axis=2, keepdims=True)], axis=2)
        left, sizes, _ = np.linalg.svd(system.drive, full_matrices=False)
        basis = left[:, sizes > _RANK * sizes.max(initial=0.0)]
        self._stiffness = _Stiffness(d)
        node, part = (system.unknowns >= 0).nonzero()
        unknown = system.unknowns[node, part]
        shape = d.size, system.size
        self._nodes = SparseMatrix(csr_array((np.ones(len(node)), (node, unknown)), shape), device)
        arrays = order, factor, d.dofs.astype(np.int64), basis, basis.T @ system.drive
        tensors = [torch.tensor(array, device=device) for array in arrays]
        self._order, self._factor, self._dofs, self._basis, self._drive = tensors

    def change(self, w: Tensor, q: Tensor, ds: Tensor | csr_array) -> Tensor:
        """Change of what the sensors read for each injection, ``(T, I, m)``, in the dtype of ``ds``.

        Args:
            w: potentials of the sources, ``(n, k)``.
            q: of the sensors, ``(n, m)``.
            ds: directions, change of each cell's conductivity, ``(T, C)``; scipy's sparse ones on the CPU.
        """
        k, m = self._basis.shape[1], q.shape[1]
        both = self._nodes @ torch.cat([w @ self._basis, q], dim=1)
        if isinstance(ds, Tensor) and ds.device.type == "cpu":
            ds = csr_array(ds.numpy())
        if isinstance(ds, Tensor):
            cells = self._order[(ds != 0).any(0)[self._order]]
            total = self._by_cells(both.to(ds), k, cells, ds[:, cells].T)
        else:
            total = self._by_parts(both, k, ds)
        return self._drive.to(total).T @ total.view(-1, k, m)

    def _by_parts(self, both: Tensor, k: int, ds: csr_array) -> Tensor:
        """Directions that move most cells one by one, the others by the cells that they move."""
        counts = np.diff(ds.indptr)
        wide = counts > 0.5 * ds.shape[1]
        if wide.sum() > _SINGLE:
            wide[:] = False
        local = ~np.repeat(wide, counts)
        cells, block = self._gathered(ds, local)
        total = self._by_cells(both.to(block), k, cells, block)
        for t in np.flatnonzero(wide).tolist():
            own = slice(ds.indptr[t], ds.indptr[t + 1])
            change = np.zeros(ds.shape[1])
            change[ds.indices[own]] = ds.data[own]
            matrix = self._stiffness.matrix(change)
            full = torch.from_numpy(matrix @ both[:, k:].numpy())
            total[t] = -(both[:, :k].T @ full).flatten()
        return total

    def _gathered(self, ds: csr_array, kept: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """The cells in which ``kept`` entries are, in order, and these entries, ``(cells, T)``."""
        cell = ds.indices[kept]
        direction = np.repeat(np.arange(ds.shape[0]), np.diff(ds.indptr))[kept]
        moved = np.zeros(ds.shape[1], dtype=bool)
        moved[cell] = True
        order = self._order.numpy()
        cells = order[moved[order]]
        place = np.empty(ds.shape[1], dtype=np.int64)
        place[cells] = np.arange(len(cells))
        block = np.zeros((len(cells), ds.shape[0]), dtype=ds.dtype)
        block[place[cell], direction] = ds.data[kept]
        return torch.from_numpy(cells), torch.from_numpy(block)

    def _by_cells(self, both: Tensor, k: int, cells: Tensor, ds: Tensor) -> Tensor:
        """By products of gradients in the ``cells``, which move by ``ds`` of ``(len(cells), T)``."""
        total = ds.new_zeros(ds.shape[1], k * (both.shape[1] - k))
        factor, dofs = self._factor[cells].to(ds), self._dofs[cells]
        for start, (first, last) in _met(ds):
            run = slice(start, start + _RUN)
            # int_c grad w_a . grad q_b = sum_r g[c, r, a] h[c, r, b]
            gradients = torch.bmm(factor[run], both[dofs[run]])
            products = torch.bmm(gradients[:, :, :k].mT, gradients[:, :, k:]).flatten(1)
            total[first:last].addmm_(ds[run, first:last].T, products, alpha=-1)
        return total


def _met(ds: Tensor) -> list[tuple[int, tuple[int, int]]]:
    """Where each run of cells ``(C, T)`` begins; the first direction that it meets, the last plus one."""
    starts = np.arange(0, len(ds), _RUN)
    if ds.numel() == 0:
        return []
    met = np.logical_or.reduceat((ds != 0).cpu().numpy(), starts, axis=0)
    first, last = met.argmax(axis=1), met.shape[1] - met[:, ::-1].argmax(axis=1)
    ends = zip(first.tolist(), last.tolist(), strict=True)
    return list(zip(starts.tolist(), ends, strict=True))


class _Stiffness:
    """Stiffness matrices over the degrees of freedom, for any conductivity of the cells."""

    def __init__(self, d: Discretization) -> None:
        k, n = d.dofs.shape[1], d.size
        dofs = d.dofs.astype(np.int64)
        key = (dofs[:, :, None] * n + dofs[:, None]).ravel()
        unique, position = np.unique(key, return_inverse=True)
        cell = np.repeat(np.arange(len(dofs)), k * k)
        self._entries = csr_array(
            (d.stiffness.ravel(), (position, cell)), shape=(len(unique), len(dofs))
        )
        self._pattern = unique % n, np.searchsorted(unique, np.arange(n + 1) * n)
        self._shape = n, n

    def matrix(self, s: Array) -> csr_array:
        """The matrix ``(N, N)`` for ``s`` ``(C,)``."""
        entries = self._entries @ s
        return csr_array((entries, *self._pattern), shape=self._shape)


def _along_curve(places: Array) -> NDArray[np.int64]:
    """An order of places ``(C, D)`` in which neighbours follow each other: Morton's curve."""
    low, high = places.min(axis=0), places.max(axis=0)
    grid = ((places - low) / (high - low) * (2**_BITS - 1)).astype(np.int64)
    dim = grid.shape[1]
    code = np.zeros(len(grid), np.int64)
    for bit in range(_BITS):
        for axis in range(dim):
            code |= ((grid[:, axis] >> bit) & 1) << (dim * bit + axis)
    return np.argsort(code, kind="stable").astype(np.int64)
