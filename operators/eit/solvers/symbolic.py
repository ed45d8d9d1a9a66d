"""The symbolic part of a multifrontal factorization: fronts, padded to few sizes, and where entries go.

The fronts of a level lie one after the other in one *buffer*; the unknowns that they eliminate have *slots*,
from the leaves to the root. Padding has rows of zeros and, among the unknowns to eliminate, ones on the
diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit.solvers.base import Array, Index
from onmanifold.operators.eit.solvers.dissection import Front, dissect

_LEAF = 32  # unknowns in a leaf: fewer make many small products, more make needless work
_GROUPS = 4  # a level's fronts are padded to at most so many sizes


@dataclass(frozen=True, eq=False)
class Group:
    """Fronts of one level with similar sizes, padded to the same one.

    Attributes:
        count: number f of fronts.
        own: unknowns that each eliminates, P.
        border: unknowns of its boundary, Q.
        place: where the first of these fronts begins in the level's buffer; each has ``(P + Q)^2`` entries.
        first: the first of the ``f P`` slots of their own unknowns.
        boundary: slots of the boundaries, ``(f Q,)``; any where padded.
        rows: where rows of the update of the boundary begin in the buffer of the level above, ``(f, Q, 1)``.
        columns: its columns in the front there, ``(f, 1, Q)``; any where padded.
    """

    count: int
    own: int
    border: int
    place: int
    first: int
    boundary: Tensor
    rows: Tensor
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The fronts of one level of the tree.

    Attributes:
        groups: fronts of similar sizes.
        size: entries of the buffer.
        source: which entries of the matrix belong to this level's fronts.
        target: where they go in the buffer.
        ones: where the buffer has ones because of padding.
    """

    groups: list[Group]
    size: int
    source: Tensor
    target: Tensor
    ones: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """What a factorization has to know of the pattern.

    Attributes:
        levels: from the leaves to the root.
        slot: of each unknown, ``(n,)``.
        unknown: of each slot; n where it is padding.
    """

    levels: list[Level]
    slot: Tensor
    unknown: Tensor


def plan(indptr: Index, indices: Index, coordinates: Array, device: torch.device) -> Plan:
    """The tree of fronts of a pattern, as index tensors on ``device``."""
    count = len(indptr) - 1
    layouts: list[_Layout] = []
    total = 0
    fronts = dissect(indptr, indices, coordinates, _LEAF)
    for k, front in enumerate(fronts):
        layouts.append(_layout(front, 1 << (len(fronts) - 1 - k), total))
        total = layouts[-1].end
    slot, depth = np.zeros(count, np.int64), np.zeros(count, np.int64)
    owner = np.zeros(count, np.int64)
    for k, (front, layout) in enumerate(zip(fronts, layouts, strict=True)):
        slot[front.own] = layout.first[front.owner] + _rank(front.owner)
        depth[front.own], owner[front.own] = k, front.owner
    unknown = np.full(total, count)
    unknown[slot] = np.arange(count)

    def put(array: Index) -> Tensor:
        return torch.from_numpy(np.asarray(array, np.int64)).to(device)

    rows = np.repeat(np.arange(count), np.diff(indptr))
    levels = []
    for k, (front, layout) in enumerate(zip(fronts, layouts, strict=True)):
        # an entry belongs to the front that eliminates its column; what is above the diagonal is redundant
        source = np.flatnonzero((depth[indices] == k) & (depth[rows] >= k))
        f = owner[indices[source]]
        place = _Positions(front, layout, count)
        target = layout.place[f] + place(f, rows[source]) * layout.size[f]
        target += place(f, indices[source])
        above = None
        if k + 1 < len(fronts):
            above = layouts[k + 1], _Positions(fronts[k + 1], layouts[k + 1], count)
        groups = _groups(front, layout, above, slot, put)
        size = int((layout.size**2).sum())
        levels.append(Level(groups, size, put(source), put(target), put(_ones(front, layout))))
    return Plan(levels, put(slot), put(unknown))


@dataclass(frozen=True, eq=False)
class _Layout:
    """How the fronts of a level are padded and where they lie; arrays have one entry for each front."""

    members: list[Index]  # the fronts of each group
    own: Index
    border: Index
    place: Index  # in the buffer
    first: Index  # slot
    end: int  # the next level's first slot

    @property
    def size(self) -> Index:
        return np.asarray(self.own + self.border)


def _layout(front: Front, count: int, first: int) -> _Layout:
    """Sort ``count`` fronts by size into groups, and pad each group."""
    p = np.bincount(front.owner, minlength=count)
    q = np.bincount(front.holder, minlength=count)
    order = np.argsort(p + q, kind="stable")
    members = np.array_split(order, min(_GROUPS, max(1, count // 4)))
    own, border = np.zeros((2, count), np.int64)
    for group in members:
        own[group], border[group] = p[group].max(), q[group].max()
    place, slots = np.zeros((2, count), np.int64)
    place[order[1:]] = np.cumsum((own + border)[order] ** 2)[:-1]
    slots[order[1:]] = np.cumsum(own[order])[:-1]
    return _Layout(members, own, border, place, first + slots, first + int(own.sum()))


class _Positions:
    """Row or column of an unknown in a front of one level."""

    def __init__(self, front: Front, layout: _Layout, count: int) -> None:
        self._count = count
        key = np.concatenate(
            [front.owner * count + front.own, front.holder * count + front.boundary]
        )
        border = layout.own[front.holder] + _rank(front.holder)
        order = np.argsort(key)
        self._key = key[order]
        self._position = np.concatenate([_rank(front.owner), border])[order]

    def __call__(self, front: Index, unknown: Index) -> Index:
        found = np.searchsorted(self._key, front * self._count + unknown)
        return np.asarray(self._position[found])


def _groups(
    front: Front,
    layout: _Layout,
    above: tuple[_Layout, _Positions] | None,
    slot: Index,
    put: Callable[[Index], Tensor],
) -> list[Group]:
    """The groups of a level; ``above`` is the level that their updates go to."""
    rows, columns = np.zeros((2, len(front.holder)), np.int64)
    if above is not None:
        parent = front.holder // 2
        columns = above[1](parent, front.boundary)
        rows = above[0].place[parent] + columns * above[0].size[parent]
    within = np.empty(len(layout.own), np.int64)  # number of each front in its group
    groups = []
    for members in layout.members:
        head, shape = members[0], (len(members), int(layout.border[members[0]]))
        within[members] = np.arange(len(members))
        here = np.isin(front.holder, members)
        at = within[front.holder[here]], _rank(front.holder)[here]
        padded = np.zeros((3, *shape), np.int64)
        for table, values in zip(padded, (slot[front.boundary], rows, columns), strict=True):
            table[at] = values[here]
        groups.append(
            Group(
                len(members),
                int(layout.own[head]),
                shape[1],
                int(layout.place[head]),
                int(layout.first[head]),
                put(padded[0].ravel()),
                put(padded[1][:, :, None]),
                put(padded[2][:, None, :]),
            )
        )
    return groups


def _ones(front: Front, layout: _Layout) -> Index:
    """Where the diagonal of a level's buffer is padded."""
    used = np.bincount(front.owner, minlength=len(layout.own))
    padding = layout.own - used
    f = np.repeat(np.arange(len(padding)), padding)
    return np.asarray(layout.place[f] + (used[f] + _rank(f)) * (layout.size[f] + 1))


def _rank(owner: Index) -> Index:
    """Number of each entry among those with the same value; ``owner`` is ascending."""
    return np.asarray(np.arange(len(owner)) - np.searchsorted(owner, owner))
