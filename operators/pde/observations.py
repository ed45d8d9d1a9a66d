"""Matrices that evaluate finite element functions at points, and images at degrees of freedom."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from onmanifold.errors import InputError
from onmanifold.tensors import real_array

Array = NDArray[np.float64]


def point_values(space: Any, points: ArrayLike) -> csr_array:
    """The values of a scalar function at points, ``(P, dofs)``.

    Args:
        space: dolfinx's function space.
        points: ``(P, dim)``, in the mesh's unit.

    Raises:
        ValueError: points of another dimension, or outside of the mesh; a function with components.
    """
    geometry, mesh = import_module("dolfinx.geometry"), space.mesh
    dim = mesh.geometry.dim
    given = np.asarray(real_array(points, "points"), np.float64)
    if given.ndim != 2 or given.shape[1] != dim or len(given) == 0:
        raise InputError(f"points have shape {given.shape}, expected (P, {dim}), a row for each")
    if space.dofmap.bs != 1 or space.element.basix_element.value_size != 1:
        raise InputError(
            "points observe a scalar state: observe one with components by functionals, such as "
            "[ufl.split(state)[0] * ds(1)]"
        )
    padded = np.zeros((len(given), 3))
    padded[:, :dim] = given
    tree = geometry.bb_tree(mesh, mesh.topology.dim)
    near = geometry.compute_collisions_points(tree, padded)
    hits = geometry.compute_colliding_cells(mesh, near, padded)
    cells = [hits.links(p)[:1] for p in range(len(given))]
    outside = [p for p, hit in enumerate(cells) if len(hit) == 0]
    if outside:
        first = ", ".join(f"{value:g}" for value in given[outside[0]])
        raise InputError(
            f"{len(outside)} of {len(given)} points lie outside of the mesh, the first is number "
            f"{outside[0]}, ({first})"
        )
    found = [_basis(space, int(cell[0]), point) for cell, point in zip(cells, given, strict=True)]
    column = np.concatenate([dofs for dofs, _ in found])
    row = np.repeat(np.arange(len(given)), [len(dofs) for dofs, _ in found])
    weight = np.concatenate([values for _, values in found])
    return csr_array((weight, (row, column)), shape=(len(given), space.dofmap.index_map.size_local))


def _basis(space: Any, cell: int, point: Array) -> tuple[NDArray[np.int32], Array]:
    """The degrees of freedom of a cell, and their basis functions at a point of it."""
    geometry = space.mesh.geometry
    corners = geometry.x[geometry.dofmaps[0][cell], : len(point)]
    reference = geometry.cmaps[0].pull_back(point[None], corners)
    values = space.element.basix_element.tabulate(0, reference)[0, 0, :, 0]
    return space.dofmap.cell_dofs(cell), values


def image_values(places: Array, box: tuple[Array, Array], shape: tuple[int, ...]) -> csr_array:
    """Linear interpolation between the pixels' centres of an image that covers a box, ``(n, pixels)``.

    The last axis of the image is x, column 0 on the left; the one before is y, row 0 on top (largest y); of
    three axes the first is z, slice 0 at the bottom. Beyond the outermost centres it is constant.

    Args:
        places: where to interpolate, ``(n, dim)``.
        box: lower and upper corner, ``(dim,)`` each.
        shape: of the image.

    Example:
        >>> corners = np.zeros(2), np.ones(2)
        >>> image_values(np.array([[0.5, 0.9]]), corners, (2, 2)).toarray()
        array([[0.5, 0.5, 0. , 0. ]])
    """
    low, high = box
    weight, place = np.ones((len(places), 1)), np.zeros((len(places), 1), np.int64)
    for axis, n in enumerate(shape):  # of the image; the coordinates come the other way round
        coordinate = len(shape) - 1 - axis
        share = (places[:, coordinate] - low[coordinate]) / (high[coordinate] - low[coordinate])
        if coordinate == 1:
            share = 1 - share
        at = np.clip(share * n - 0.5, 0, n - 1)
        first = np.minimum(at.astype(np.int64), max(n - 2, 0))
        both = np.stack([first, np.minimum(first + 1, n - 1)], axis=1)
        parts = np.stack([1 - (at - first), at - first], axis=1)
        place = (place[:, :, None] * n + both[:, None]).reshape(len(places), -1)
        weight = (weight[:, :, None] * parts[:, None]).reshape(len(places), -1)
    row = np.repeat(np.arange(len(places)), place.shape[1])
    return csr_array(
        (weight.ravel(), (row, place.ravel())), shape=(len(places), int(np.prod(shape)))
    )
