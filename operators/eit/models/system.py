"""A model's equations on a discretization, and the sparse maps that make and differentiate them."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.sparse import SparseMatrix

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SLAB = 4096  # cells, or pairs, that are taken at a time: what a thread takes, and little memory

Slab = tuple[int, int, SparseMatrix]  # first cell, number of cells, and their gradients; or pairs


@dataclass(frozen=True, eq=False)
class System:
    """Equations ``K(s, 1/z) w = sources`` and what is measured of their solutions.

    The voltages of injection i and measurement m are ``drive[:, i] . (w^T sensors) . sense[:, m]``.

    Attributes:
        size: number of unknowns n.
        unknowns: the unknowns whose sum is the potential at each degree of freedom, ``(N, 2)``; -1 is
            none. Of the first N unknowns those that occur nowhere are zero.
        rows: row of each entry of the contacts' matrices, ``(Q,)``.
        columns: its column, ``(Q,)``.
        mass: its value for a unit contact conductance ``1/z``, m or m^2, ``(Q,)``.
        contact: number of the contact that it belongs to, ``(Q,)``.
        impedances: contact impedances that hold if no others are given, ``(L,)``.
        sources: right-hand sides, ``(n, k)``.
        sensors: what is read of the solutions, ``(n, m)``; the sources themselves if ``None``.
        drive: injections as combinations of the sources, ``(k, I)``.
        sense: measurements as combinations of the sensors, ``(m, M)``.
        measured: which voltages are kept, ``(I, M)``; all if ``None``.
        places: where the unknowns are, m, ``(n, D)``; NaN for those that are nowhere, as electrodes,
            which solvers then eliminate last: where only they are driven, half of a solve has nothing
            to do.
    """

    size: int
    unknowns: Index
    rows: Index
    columns: Index
    mass: Array
    contact: Index
    impedances: Array
    sources: csr_array
    sensors: csr_array | None
    drive: Array
    sense: Array
    measured: NDArray[np.bool_] | None
    places: Array


class ForwardModel(typing.Protocol):
    """What the engine asks of a model: its equations on a discretization."""

    def system(self, discretization: Discretization) -> System:
        """Pose the equations."""
        ...


def linear_assembly(
    d: Discretization, system: System
) -> tuple[csr_array, NDArray[np.int64], NDArray[np.int64]]:
    """The map from conductivities and contact conductances to matrix entries, and the matrix's pattern.

    Returns:
        ``assembly`` with ``entries = assembly @ (s, 1/z, 1)``, row pointers and column indices. The
        last column makes the equations ``w = 0`` of the unknowns that no degree of freedom refers to.
    """
    n, cells = system.size, len(d.dofs)
    row, column, cell, stiffness = stiffness_entries(d, system)
    lost = np.setdiff1d(np.arange(d.size), system.unknowns)
    last = np.full(len(lost), cells + len(system.impedances))
    rows = np.concatenate([row, system.rows, lost])
    columns = np.concatenate([column, system.columns, lost])
    parameter = np.concatenate([cell, cells + system.contact, last])
    value = np.concatenate([stiffness, system.mass, np.ones(len(lost))])
    unique, position = np.unique(rows * n + columns, return_inverse=True)
    assembly = coo_array(
        (value, (position, parameter)), shape=(len(unique), cells + len(system.impedances) + 1)
    ).tocsr()
    indptr = np.searchsorted(unique, np.arange(n + 1, dtype=np.int64) * n)
    return assembly, indptr, unique % n


def stiffness_entries(
    d: Discretization, system: System
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Array]:
    """Rows, columns, cells and values of the stiffness matrix in terms of the unknowns."""
    k = d.dofs.shape[1]
    where = system.unknowns[d.dofs]  # (C, k, 2)
    cell = np.repeat(np.arange(len(where)), k * k)
    parts = []
    for a, b in np.ndindex(2, 2):
        row = np.repeat(where[..., a], k, axis=1).ravel()
        column = np.tile(where[..., b], (1, k)).ravel()
        live = (row >= 0) & (column >= 0)
        parts.append((row[live], column[live], cell[live], d.stiffness.ravel()[live]))
    row, column, cell, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, column, cell, value


def pair_slabs(
    d: Discretization, system: System, device: torch.device
) -> tuple[list[Slab], SparseMatrix]:
    """Differences of potentials along all pairs of neighbours, and what each cell makes of them.

    ``E_c`` maps constants to zero, so that ``w^T E_c q = - sum E_c[i, j] (w_i - w_j) (q_i - q_j)`` over the
    pairs i < j of its degrees of freedom. Cells share pairs: there are fewer of them than gradients.

    Returns:
        First pair, number of pairs and the matrix ``(pairs, n)`` of their differences for some pairs at a
        time, and ``(C, pairs)`` with the entries ``E_c[i, j]``.
    """
    i, j = np.triu_indices(d.dofs.shape[1], 1)
    both = np.sort(np.stack([d.dofs[:, i], d.dofs[:, j]]), axis=0).astype(np.int64)
    unique, pair = np.unique((both[0] * d.size + both[1]).ravel(), return_inverse=True)
    cell = np.repeat(np.arange(len(d.dofs)), len(i))
    entries = (d.stiffness[:, i, j].ravel(), (cell, pair))
    by_cell = csr_array(coo_array(entries, shape=(len(d.dofs), len(unique))))
    ends = system.unknowns[np.stack([unique // d.size, unique % d.size], axis=1)]  # (pairs, 2, 2)
    columns = ends.reshape(-1, 4)
    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)
    signs = np.broadcast_to([1.0, 1.0, -1.0, -1.0], columns.shape)
    live = columns >= 0
    shape = (len(unique), system.size)
    differences = csr_array(coo_array((signs[live], (rows[live], columns[live])), shape=shape))
    differences.eliminate_zeros()  # of two nodes on one electrode its potential cancels
    parts = [(k, differences[k : k + SLAB]) for k in range(0, len(unique), SLAB)]
    slabs = [(first, part.shape[0], SparseMatrix(part, device)) for first, part in parts]
    return slabs, SparseMatrix(by_cell, device)


def gradient_slabs(d: Discretization, system: System, device: torch.device) -> list[Slab]:
    """Sparse ``G`` with ``E_c = G_c^T G_c``, ``n - 1`` rows a cell, for some cells at a time.

    ``E_c`` maps constants to zero; without its last row and column it is positive definite. So
    ``G_c = R [I, -1]`` with the Cholesky factor ``R^T R`` of what is left.

    Returns:
        First cell, number of cells and matrix ``(cells (n - 1), n)`` of each slab.
    """
    k, slabs = d.dofs.shape[1], []
    for start in range(0, len(d.dofs), SLAB):
        stiffness = d.stiffness[start : start + SLAB]
        upper = np.linalg.cholesky(stiffness[:, :-1, :-1]).transpose(0, 2, 1)
        factor = np.concatenate([upper, -upper.sum(axis=2, keepdims=True)], axis=2)
        count = len(factor)
        where = system.unknowns[d.dofs[start : start + SLAB]]  # (c, k, 2)
        columns = np.repeat(where[:, None], k - 1, axis=1).ravel()
        rows = np.repeat(np.arange(count * (k - 1)), 2 * k)
        values = np.repeat(factor.ravel(), 2)
        live = columns >= 0
        matrix = coo_array(
            (values[live], (rows[live], columns[live])), shape=(count * (k - 1), system.size)
        ).tocsr()
        slabs.append((start, count, SparseMatrix(matrix, device)))
    return slabs
