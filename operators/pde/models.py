"""Two equations ready to use: Darcy flow and diffuse optical tomography."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from onmanifold.checks import check_count, check_number, check_shape
from onmanifold.errors import InputError
from onmanifold.operators.combine import Compose
from onmanifold.operators.native import exclusive, require_dolfinx
from onmanifold.operators.pde.operator import PDE

_MOST_CELLS = 2000  # along a side


@exclusive
def darcy(
    x_shape: tuple[int, ...] | None, *, cells: int = 32, points: int = 5, source: float = 1.0
) -> PDE:
    """Darcy flow: from the logarithm of the conductivity to pressures at a grid of points.

    On the unit square ``-div(exp(x) grad p) = source``, with ``p = 0`` on its boundary, in linear elements.

    Args:
        x_shape: ``(H, W)`` or ``(1, H, W)``.
        cells: number of cells along a side, each cut into two triangles.
        points: points along a side of the grid where the pressure is measured: ``points^2`` in all.
        source: what flows in at each point.

    Raises:
        ImportError: dolfinx is missing.
        ValueError: a shape or a number that does not fit.

    Example:
        >>> import torch
        >>> flow = darcy((16, 16), cells=8)
        >>> flow.A(torch.zeros(1, 16, 16)).amax()  # in the middle
        tensor(0.0728)
    """
    if x_shape is None:
        raise InputError("darcy needs the shape of the images: x_shape (H, W) or (1, H, W)")
    check_shape(x_shape, "x_shape")
    require_dolfinx()
    fem, ufl = import_module("dolfinx.fem"), import_module("ufl")
    mesh = _square(1.0, cells)
    space = fem.functionspace(mesh, ("Lagrange", 1))
    p, m, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
    flow = ufl.exp(m) * ufl.inner(ufl.grad(p), ufl.grad(v)) * ufl.dx
    inflow = fem.Constant(mesh, check_number(source, "source", low=-np.inf))
    wall = fem.dirichletbc(0.0, _boundary(space), space)
    axis = (np.arange(check_count(points, "points")) + 1) / (points + 1)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return PDE(flow - inflow * v * ufl.dx, p, m, grid, bcs=[wall], x_shape=x_shape)


@exclusive
def diffuse_optics(
    x_shape: tuple[int, ...] | None,
    *,
    side: float = 40.0,
    cells: int = 40,
    sources: int = 8,
    detectors: int = 8,
    scattering: float = 1.0,
) -> Compose:
    """Diffuse optical tomography: from the absorption to the logarithms of light at detectors.

    In a square of tissue ``-div(k grad u) + x u = q`` with ``k = 1 / (3 (x + scattering))``, and ``u + 2 k
    du/dn = 0`` on its boundary (no light comes back). The sources q lie one transport length beneath the
    boundary, the detectors on it, both spread evenly around the square.

    Args:
        x_shape: ``(H, W)`` or ``(1, H, W)``; values are absorption, 1/mm, about 0.01, positive.
        side: of the square, mm.
        cells: number of cells along a side, each cut into two triangles; not longer than two mean lengths
            of scattering.
        sources: their number S.
        detectors: their number D; a measurement is ``(S, D)``.
        scattering: reduced scattering coefficient, 1/mm.

    Raises:
        ImportError: dolfinx is missing.
        ValueError: a shape or a number that does not fit.

    Example:
        >>> import torch
        >>> optics = diffuse_optics((16, 16), side=20, cells=20)
        >>> optics.A(torch.full((1, 16, 16), 0.01)).shape
        torch.Size([1, 8, 8])
    """
    if x_shape is None:
        raise InputError("optics needs the shape of the images: x_shape (H, W) or (1, H, W)")
    check_shape(x_shape, "x_shape")
    length = 1 / check_number(scattering, "scattering")
    if check_number(side, "side") > 2 * length * check_count(cells, "cells"):
        raise InputError(
            f"cells of {side / cells:.3g} mm are too coarse for light that is scattered after {length:.3g} "
            f"mm: cells has to be at least {int(np.ceil(side / (2 * length)))}"
        )
    require_dolfinx()
    fem, ufl = import_module("dolfinx.fem"), import_module("ufl")
    mesh = _square(side, cells)
    space = fem.functionspace(mesh, ("Lagrange", 1))
    u, a, v = fem.Function(space), fem.Function(space), ufl.TestFunction(space)
    spread = 1 / (3 * (a + scattering))
    residual = (spread * ufl.inner(ufl.grad(u), ufl.grad(v)) + a * u * v) * ufl.dx
    residual += 0.5 * u * v * ufl.ds
    place, width = ufl.SpatialCoordinate(mesh), 1.5 * side / cells
    loads = []
    for point in _around(check_count(sources, "sources"), side, length):
        centre = fem.Constant(mesh, point)
        beam = ufl.exp(-ufl.inner(place - centre, place - centre) / (2 * width**2))
        loads.append(beam / (2 * np.pi * width**2) * v * ufl.dx)
    seen = _around(check_count(detectors, "detectors"), side, 0.0, shift=0.5)
    pde = PDE(residual, u, a, seen, loads=loads, x_shape=x_shape)
    return Compose(pde, _logarithm)


def _logarithm(light: Any) -> Any:
    return light.log()


def _square(side: float, cells: int) -> Any:
    mesh, mpi = import_module("dolfinx.mesh"), import_module("mpi4py.MPI")
    n = check_count(cells, "cells")
    if n > _MOST_CELLS:
        raise InputError(f"cells has to be at most {_MOST_CELLS}, got {n}")
    return mesh.create_rectangle(mpi.COMM_SELF, [np.zeros(2), np.full(2, side)], (n, n))


def _boundary(space: Any) -> Any:
    fem, find = import_module("dolfinx.fem"), import_module("dolfinx.mesh").exterior_facet_indices
    topology = space.mesh.topology
    dim = topology.dim
    topology.create_connectivity(dim - 1, dim)
    return fem.locate_dofs_topological(space, dim - 1, find(topology))


def _around(count: int, side: float, depth: float, shift: float = 0.0) -> Any:
    """Points spread evenly around a square, so deep beneath its boundary, ``(count, 2)``."""
    along = 4 * (np.arange(count) + shift + 0.5) / count
    edge, t = np.divmod(along, 1.0)
    x = np.select([edge == 0, edge == 1, edge == 2], [t, np.ones(count), 1 - t], 0.0)
    y = np.select(
        [edge % 4 == 0, edge == 1, edge == 2], [np.zeros(count), t, np.ones(count)], 1 - t
    )
    points = np.stack([x, y], axis=1) * side
    return np.clip(points, depth, side - depth)
