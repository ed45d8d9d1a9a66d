"""Seams within a mesh: where cells lie side by side but share no nodes, no current flows."""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from onmanifold.errors import InputError

Array = NDArray[np.float64]

_NEAR = 1e-4  # in shortest facet sides at a node: closer ones are at one place


def check_seams(points: Array, facets: NDArray[np.int32]) -> None:
    """Refuse boundary nodes that lie on a facet of the boundary without being one of its nodes.

    Two meshes that were put together, or a mesh generator's surfaces that were not merged, have such nodes
    along their seam: given twice, or at other places on either side. To the equations it is a slit.

    Args:
        points: nodes, m, ``(N, D)``.
        facets: vertices of the facets that belong to one cell only, ``(F, D)``.

    Raises:
        ValueError: there is such a node; it is named.
    """
    corners = points[facets]
    pairs = np.triu_indices(facets.shape[1], 1)
    sides = np.linalg.norm(corners[:, pairs[0]] - corners[:, pairs[1]], axis=2)
    size = np.full(len(points), np.inf)
    np.minimum.at(size, facets, sides.min(axis=1)[:, None])
    facet, node = _neighbours(points, facets, corners)
    start, offset = corners[facet, 0], points[node] - corners[facet, 0]
    along = corners[facet, 1:] - start[:, None]
    share = np.linalg.solve(along @ along.mT, along @ offset[:, :, None])
    off = np.linalg.norm(offset - (along.mT @ share)[:, :, 0], axis=1)
    weights = np.concatenate([1 - share.sum(axis=1), share[:, :, 0]], axis=1)
    near = _NEAR * size[node]
    on = (off <= near) & (weights.min(axis=1) * sides.max(axis=1)[facet] >= -near)
    bad = np.flatnonzero(on)
    if not len(bad):
        return
    k = bad[0]
    away = np.linalg.norm(corners[facet[k]] - points[node[k]], axis=1)
    where = f"a facet between points {facets[facet[k]].tolist()}"
    if away.min() <= 2 * near[k]:
        where = f"the place of point {facets[facet[k], away.argmin()]}"
    raise InputError(
        f"point {node[k]} lies at {where}, but the cells on either side share no nodes: no current would "
        f"flow through that seam ({len(np.unique(node[bad]))} such points in all). Merge points that are "
        "given twice (gmsh: Mesh.removeDuplicateNodes, or BooleanFragments before meshing)"
    )


def _neighbours(
    points: Array, facets: NDArray[np.int32], corners: Array
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Facets, and boundary nodes near them that are not theirs, pair by pair."""
    nodes = np.unique(facets)
    middle = corners.mean(axis=1)
    reach = np.linalg.norm(corners - middle[:, None], axis=2).max(axis=1)
    tree, reach = cKDTree(points[nodes]), reach * (1 + _NEAR)
    met = np.asarray(tree.query_ball_point(middle, reach, return_length=True))
    near = np.flatnonzero(met > facets.shape[1])  # than its own
    found = tree.query_ball_point(middle[near], reach[near], return_sorted=False)
    facet = np.repeat(near, met[near])
    node = nodes[np.fromiter(chain.from_iterable(found), np.intp, len(facet))]
    other = (facets[facet] != node[:, None]).all(axis=1)
    return facet[other], node[other]
