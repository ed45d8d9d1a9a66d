"""From what a user passes as mesh to element matrices and electrode blocks, by dolfinx."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from onmanifold.checks import check_count
from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.fem.discretization import (
    Discretization,
    is_shipped_disk,
    load_discretization,
)
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh
from onmanifold.operators.native import exclusive, require_dolfinx

Array = NDArray[np.float64]
Index = NDArray[np.int32]

_CELLS = ("", "interval", "triangle", "tetrahedron")
_BLOCK = 2000  # cells that dolfinx gets at a time


Form = Callable[[Any, Any, Any], Any]
MeshLike = str | Mesh | Discretization | None


def discretize(mesh: MeshLike, tank: Geometry, degree: int = 1) -> Discretization:
    """Make a discretization of a mesh.

    Args:
        mesh: name of a shipped one, a mesh of the tank in m, or a discretization, which is returned as
            it is. With ``None`` the shipped medium mesh where it fits the tank, else what gmsh makes by
            default.
        tank: the geometry.
        degree: of the potential's elements, 1 or 2.

    Raises:
        TypeError: ``mesh`` is something else.
        ValueError: a shipped mesh does not fit the tank or the degree, or a mesh's electrodes lie elsewhere.
    """
    if mesh is None:
        shipped = degree == 1 and is_shipped_disk(tank)
        mesh = "medium" if shipped else generate_mesh(tank, order=degree)
    if isinstance(mesh, str):
        if check_count(degree, "degree") != 1:
            raise InputError("shipped meshes have elements of degree 1; for others pass a Mesh")
        return load_discretization(mesh, tank)
    if isinstance(mesh, Mesh):
        mesh = assemble(mesh, degree)
    if not isinstance(mesh, Discretization):
        raise InputTypeError(
            f"mesh has to be a name, a Mesh or a Discretization, got {type(mesh).__name__}"
        )
    _check_place(mesh, tank)
    return mesh


def _check_place(d: Discretization, tank: Geometry) -> None:
    """Refuse a mesh of another place, size (mm for m) or sense of rotation than the tank's."""
    if d.electrodes != tank.electrodes:
        return  # the model says so
    total = np.bincount(d.electrode, d.mass)
    sums = [np.bincount(d.electrode, d.mass * x) for x in d.nodes[d.rows].T]
    off = np.linalg.norm(np.stack(sums, axis=1) / total[:, None] - tank.centres, axis=1)
    lower, upper = np.array(tank.extent)
    worst = int(off.argmax())
    # the middle of a wide electrode lies well inside the body, but never this far from its centre
    if off[worst] > np.linalg.norm(upper - lower) / 4:
        raise InputError(
            f"the mesh is not one of this tank: its electrode {worst + 1} is {off[worst]:.3g} m off "
            "where the tank has it"
        )


@exclusive
def assemble(mesh: Mesh, degree: int = 1) -> Discretization:
    """Assemble element matrices and electrode blocks with dolfinx.

    Cells and electrodes are taken as curved where the mesh is of second order.

    Args:
        mesh: the mesh, in m.
        degree: 1 for linear elements, 2 for quadratic ones.

    Raises:
        ImportError: dolfinx is missing; the message says how to install it.
        RuntimeError: it cannot compile its forms; the message says what that needs.

    Example:
        >>> from onmanifold.operators.eit import Tank, polar_mesh
        >>> d = assemble(polar_mesh(Tank(electrodes=8, width=20), edges=2, order=2), degree=2)
        >>> d.dofs.shape[1], d.size
        (6, 289)
    """
    if check_count(degree, "degree") > 2:
        raise InputError(f"degree has to be 1 or 2, got {degree!r}")
    require_dolfinx()
    dim = mesh.dim
    nodes = mesh if degree == 1 else mesh.second_order()  # its points carry the degrees of freedom
    count = (dim + 1, dim) if degree == 1 else (None, None)
    cells, facets = nodes.cells[:, : count[0]], nodes.facets[:, : count[1]]
    number, vertices = _vertices_first(cells, dim, len(nodes.points))
    points = np.empty((number.max() + 1, dim))
    points[number[number >= 0]] = nodes.points[number >= 0]
    block = element_matrices(mesh.points, mesh.facets, dim - 1, degree, mass)
    on = number[facets]
    row, column = np.broadcast_arrays(on[:, :, None], on[:, None, :])
    shape = (len(points), len(points))
    matrix = coo_array((block.ravel(), (row.ravel(), column.ravel())), shape=shape)
    matrix.sum_duplicates()
    electrode = np.empty(len(points), np.int32)
    electrode[on] = mesh.electrode[:, None]
    return Discretization(
        points=points[:vertices],
        cells=number[cells[:, : dim + 1]],
        nodes=points,
        dofs=number[cells],
        stiffness=element_matrices(mesh.points, mesh.cells, dim, degree, stiffness),
        rows=matrix.row.astype(np.int32),
        columns=matrix.col.astype(np.int32),
        mass=matrix.data,
        electrode=electrode[matrix.row],
    )


def _vertices_first(cells: Index, dim: int, count: int) -> tuple[Index, int]:
    """New numbers for the nodes of cells, -1 for other ones, and the number of vertices."""
    kind = np.full(count, 2, np.int8)
    kind[cells] = 1
    kind[cells[:, : dim + 1]] = 0
    order = np.argsort(kind, kind="stable")
    number = np.empty(count, np.int32)
    number[order] = np.arange(count)
    number[kind == 2] = -1
    return number, int((kind == 0).sum())


def stiffness(ufl: Any, u: Any, v: Any) -> Any:
    """The integral of grad u . grad v."""
    return ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx


def mass(ufl: Any, u: Any, v: Any) -> Any:
    """The integral of u v."""
    return u * v * ufl.dx


@exclusive
def element_matrices(points: Array, cells: Index, dim: int, degree: int, form: Form) -> Array:
    """Matrix of a bilinear form on each cell of dimension ``dim``, ``(C, n, n)``.

    Args:
        points: m, ``(N, D)``.
        cells: their nodes, of the cells or facets of a :class:`Mesh`.
        dim: of the cells.
        degree: of the potential's elements.
        form: :func:`stiffness` or :func:`mass`.
    """
    a, count = _assembler(dim, points.shape[1], cells.shape[1], degree, form, _BLOCK), _BLOCK
    matrices = np.empty((len(cells), *a.entry.shape[1:]))
    for start in range(0, len(cells), count):
        # the last block is filled up with its last cell
        own = np.minimum(np.arange(start, start + count), len(cells) - 1)
        a.places[a.nodes, : points.shape[1]] = points[cells[own[a.order]]]
        a.matrix.set_value(0.0)
        a.fem.assemble_matrix(a.matrix, a.integral)
        part = matrices[start : start + count]
        part[:] = a.matrix.data[a.entry[: len(part)]]
    return matrices


class _Assembler(NamedTuple):
    """dolfinx's form on a few cells that share nothing.

    Attributes:
        fem: dolfinx.fem.
        integral: the compiled form.
        matrix: what it assembles; its diagonal blocks are the cells' matrices.
        places: coordinates of the nodes, to be written.
        nodes: numbers of each cell's nodes there.
        order: which of the given cells each of dolfinx' cells is.
        entry: where the entries of each given cell's matrix are.
    """

    fem: Any
    integral: Any
    matrix: Any
    places: Array
    nodes: Index
    order: Index
    entry: NDArray[np.int64]


@lru_cache
def _assembler(
    dim: int, coordinates: int, nodes: int, degree: int, form: Form, count: int
) -> _Assembler:
    """Give dolfinx ``count`` cells that share nothing, and a discontinuous space, once in a process.

    All meshes then only bring coordinates: making a mesh and a form costs far more than the assembly.
    """
    fem, ufl = import_module("dolfinx.fem"), import_module("ufl")
    domain = _separate_cells(dim, coordinates, nodes, count)
    space = fem.functionspace(domain, ("Discontinuous Lagrange", degree))
    integral = _compiled(fem, form(ufl, ufl.TrialFunction(space), ufl.TestFunction(space)))
    order = domain.topology.original_cell_index
    dofs = np.empty_like(space.dofmap.list)
    dofs[order] = space.dofmap.list  # in the order of the given cells
    columns = np.argsort(np.argsort(dofs, axis=1), axis=1)  # entries of a row ascend by column
    return _Assembler(
        fem,
        integral,
        fem.create_matrix(integral),
        domain.geometry.x,
        domain.geometry.dofmaps[0],
        order,
        dofs[:, :, None].astype(np.int64) * dofs.shape[1] + columns[:, None, :],
    )


def _separate_cells(dim: int, coordinates: int, nodes: int, count: int) -> Any:
    """A mesh of ``count`` cells that share no node, all of them at the origin."""
    element = import_module("basix.ufl").element(
        "Lagrange", _CELLS[dim], 1 if nodes == dim + 1 else 2, shape=(coordinates,)
    )
    cells = np.arange(count * nodes).reshape(count, nodes)
    alone = import_module("mpi4py.MPI").COMM_SELF
    create = import_module("dolfinx.mesh").create_mesh
    return create(alone, cells, element, np.zeros((count * nodes, coordinates)))


def _compiled(fem: Any, form: Any) -> Any:
    try:
        return fem.form(form)
    except Exception as error:  # cffi, setuptools and the compiler each have their own
        raise RuntimeError(
            f"dolfinx could not compile a form ({error}). It needs a C compiler and Python's headers "
            "(Debian: `apt-get install gcc libc6-dev python3-dev`); the shipped meshes need neither."
        ) from error
