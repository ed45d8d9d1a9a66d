"""Nested dissection: which unknowns the fronts of a multifrontal factorization eliminate.

George, "Nested dissection of a regular finite element mesh", SIAM J. Numer. Anal. 10 (1973).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onmanifold.operators.eit.solvers.base import Array, Index


@dataclass(frozen=True, eq=False)
class Front:
    """Fronts of one level of the tree: what each eliminates, and where it leaves its update.

    Attributes:
        owner: for each eliminated unknown the number of its front among those of the level, ascending.
        own: these unknowns.
        holder: for each boundary unknown of a front the number of the front, ascending.
        boundary: these unknowns: of fronts above, coupled to what is eliminated here or below.
    """

    owner: Index
    own: Index
    holder: Index
    boundary: Index


def dissect(indptr: Index, indices: Index, coordinates: Array, leaf: int) -> list[Front]:
    """Split a graph by separators again and again; the fronts of each level, leaves first.

    Front f of a level has the fronts 2 f and 2 f + 1 of the level below as its children.

    Args:
        indptr: row pointers of the symmetric pattern, ``(n + 1,)``.
        indices: column indices, ``(nnz,)``.
        coordinates: places of the unknowns, ``(n, D)``; what has none (NaN) belongs to the root.
        leaf: about how many unknowns a leaf has at most.
    """
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    level, domain = _separators(rows, indices, coordinates, leaf)
    fronts: list[Front] = []
    below = np.empty(0, np.int64), np.empty(0, np.int64)  # holder and boundary of the level below
    for depth in range(level.max(initial=0), -1, -1):
        own = np.flatnonzero(level == depth)
        own = own[np.argsort(domain[own], kind="stable")]
        upward = (level[rows] == depth) & (level[indices] < depth)
        holder = np.concatenate([domain[rows[upward]], below[0] // 2])
        boundary = np.concatenate([indices[upward], below[1]])
        outside = level[boundary] < depth
        key = np.unique(holder[outside] * np.int64(len(level)) + boundary[outside])
        below = key // len(level), key % len(level)
        fronts.append(Front(domain[own], own, *below))
    return fronts


def _separators(rows: Index, columns: Index, coordinates: Array, leaf: int) -> tuple[Index, Index]:
    """Level in the tree and number within the level of the front that eliminates each unknown.

    All domains of a level are cut at once, each in two halves of equal size across its longest extent; what
    couples them becomes the level's front.
    """
    count = len(coordinates)
    placed = np.isfinite(coordinates).all(axis=1)
    depth = max(0, int(np.ceil(np.log2(max(int(placed.sum()), 1) / leaf))))
    level = np.where(placed, depth, 0)
    domain = np.zeros(count, np.int64)
    for cut in range(depth):
        inside = np.flatnonzero((level == depth) & placed)
        half = np.zeros(count, np.int64)
        half[inside] = _halves(coordinates[inside], domain[inside])
        # an unknown of one half that is coupled to the other half
        crossing = (
            (level[rows] == depth) & (level[columns] == depth) & placed[rows] & placed[columns]
        )
        crossing &= (domain[rows] == domain[columns]) & (half[rows] != half[columns])
        touching = np.unique(rows[crossing])
        # of the two layers along a cut the smaller one separates
        sizes = np.bincount(2 * domain[touching] + half[touching], minlength=2 << cut).reshape(
            -1, 2
        )
        smaller = sizes[:, 1] < sizes[:, 0]
        separator = touching[half[touching] == smaller[domain[touching]]]
        level[separator] = cut
        below = (level == depth) & placed
        domain[below] = 2 * domain[below] + half[below]
    return level, domain


def _halves(coordinates: Array, domain: Index) -> Index:
    """0 or 1 for each unknown: the halves of each domain across its longest extent."""
    number = int(domain.max(initial=0)) + 1
    low = np.full((number, coordinates.shape[1]), np.inf)
    high = -low
    np.minimum.at(low, domain, coordinates)
    np.maximum.at(high, domain, coordinates)
    along = np.argmax(high - low, axis=1)[domain]
    order = np.lexsort((coordinates[np.arange(len(domain)), along], domain))
    size = np.bincount(domain, minlength=number)
    rank = np.empty(len(domain), np.int64)
    rank[order] = np.arange(len(domain)) - np.repeat(np.cumsum(size) - size, size)
    return np.asarray(2 * rank >= size[domain], np.int64)
