"""From what a user passes as mesh to a discretization, on one process or on many."""

from __future__ import annotations

from typing import Any

import numpy as np

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.fem.assembly import assemble, require_dolfinx
from onmanifold.operators.eit.fem.discretization import (
    Discretization,
    is_shipped_disk,
    load_discretization,
)
from onmanifold.operators.eit.fem.distributed import Share, distribute
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.mesh.generate import generate_mesh
from onmanifold.operators.eit.mesh.mesh import Mesh

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
        if degree != 1:
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


def discretize_on_ranks(mesh: MeshLike, tank: Geometry, degree: int, comm: Any) -> Share:
    """The same, made on rank 0 and shared out among the ranks of mpi4py's communicator ``comm``.

    Raises:
        RuntimeError: on all ranks, if it fails on rank 0; it says why.
    """
    require_dolfinx()  # PETSc starts on all ranks together
    whole, problem = None, None
    if comm.rank == 0:
        try:
            whole = discretize(mesh, tank, degree)
        except Exception as error:  # the others must not wait for what never comes
            problem = error
    problem = comm.bcast(problem)
    if problem is not None:
        raise RuntimeError(f"rank 0 could not discretize the tank: {problem}") from problem
    return distribute(whole, comm)
