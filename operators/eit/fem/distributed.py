"""One mesh on the ranks of an MPI run: each holds some of the cells, neighbours share the nodes between.

A script that does this is started with ``mpirun -n 4 python script.py``; all ranks run the same lines and
get the same voltages. With ``python -m mpi4py script.py`` an error on one rank stops them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onmanifold.errors import InputError, InputTypeError
from onmanifold.operators.eit.fem.assembly import MeshLike, discretize
from onmanifold.operators.eit.fem.discretization import Discretization
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.solvers import Solver
from onmanifold.operators.eit.solvers.petsc import PetscSolver
from onmanifold.operators.native import require_dolfinx

Array = NDArray[np.float64]
Index = NDArray[Any]  # of any integer type


@dataclass(frozen=True, eq=False)
class Share(Discretization):
    """One rank's share of a discretization; degrees of freedom have this rank's own numbers.

    Attributes:
        numbering: number of each degree of freedom in the whole, ``(N,)``.
        cell_numbering: number of each cell in the whole, ``(C,)``.
        total: number of degrees of freedom of the whole.
        grounded: the ground of the whole by this rank's number; None where the rank does not have it.
        number: number of electrodes L.
        comm: mpi4py's communicator.
    """

    numbering: Index
    cell_numbering: Index
    total: int
    grounded: int | None
    number: int
    comm: Any

    @property
    def electrodes(self) -> int:
        """Number of electrodes L of the whole."""
        return self.number

    @property
    def ground(self) -> int | None:
        """The degree of freedom whose potential counts as zero, on the ranks that have it."""
        return self.grounded

    def __reduce__(self) -> tuple[Any, ...]:
        """A communicator of several ranks cannot be pickled; one of this process alone can be had anew."""
        if self.comm.size > 1:
            raise InputTypeError(
                f"a share of {self.comm.size} MPI ranks cannot be copied or pickled: make the operator "
                "on all ranks instead"
            )
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "comm"}
        return _alone, (own,)

    def solver(self, method: str = "gamg") -> Callable[[Index, Index, Array], Solver]:
        """A function that makes the linear solver of the complete electrode model on this share.

        Args:
            method: ``"gamg"``, ``"hypre"`` or ``"mumps"``, see :class:`PetscSolver`.
        """

        def make(indptr: Index, indices: Index, places: Array) -> Solver:
            potentials = np.arange(len(places) - self.size)  # of electrodes: on all ranks
            numbering = np.concatenate([self.numbering, self.total + potentials])
            constant = np.ones(len(numbering))
            constant[self.rows] = 0.0  # drops over contacts; a constant potential has none
            if self.ground is not None:
                constant[self.ground] = 0.0
            dimension = places.shape[1]
            return PetscSolver(indptr, indices, dimension, numbering, constant, self.comm, method)

        return make


def _alone(own: dict[str, Any]) -> Share:
    require_dolfinx()
    return Share(**own, comm=import_module("mpi4py.MPI").COMM_SELF)


def discretize_on_ranks(mesh: MeshLike, tank: Geometry, degree: int, comm: Any) -> Share:
    """What :func:`discretize` makes on rank 0, shared out among the ranks of a communicator of mpi4py.

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


def distribute(discretization: Discretization | None, comm: Any) -> Share:
    """Give every rank its share of the cells.

    Args:
        discretization: the whole; looked at on rank 0 only, the others may pass None.
        comm: mpi4py's communicator.

    Returns:
        This rank's share; its cells are in the order of the whole.

    Raises:
        ValueError: rank 0 has no discretization, or fewer cells than there are ranks.

    Example:
        >>> from mpi4py import MPI
        >>> from onmanifold.operators.eit import Tank, load_discretization
        >>> whole = load_discretization("coarse", Tank.unit())
        >>> share = distribute(whole, MPI.COMM_SELF)
        >>> len(share.cells) == len(whole.cells)
        True
    """
    problem = shares = None
    if comm.rank == 0:
        if discretization is None:
            problem = "rank 0 has to have the discretization"
        elif len(discretization.cells) < comm.size:
            problem = f"{comm.size} ranks cannot share {len(discretization.cells)} cells"
        else:
            shares = _split(discretization, comm.size)
    problem = comm.bcast(problem)
    if problem is not None:
        raise InputError(problem)
    return Share(**comm.scatter(shares), comm=comm)


def _split(d: Discretization, parts: int) -> list[dict[str, Any]]:
    """The fields of each rank's :class:`Share` but the communicator."""
    owner = bisect(d.points[d.cells].mean(axis=1), parts)
    free = np.ones(len(d.rows), bool)  # entries of the electrodes' masses that no rank has yet
    contact = np.full(d.size, -1)
    contact[d.rows] = d.electrode
    shares, ground = [], d.ground
    for rank in range(parts):
        mine = np.flatnonzero(owner == rank)
        vertices, cells = np.unique(d.cells[mine], return_inverse=True)
        numbering, dofs = np.unique(d.dofs[mine], return_inverse=True)
        local = np.full(d.size, -1)
        local[numbering] = np.arange(len(numbering))
        entry = free & (local[d.rows] >= 0) & (local[d.columns] >= 0)
        free &= ~entry
        # every rank that has a node has to know its electrode, also where another one has the mass
        known = np.flatnonzero(contact[numbering] >= 0)
        shares.append(
            {
                "points": d.points[vertices],
                "cells": cells.reshape(-1, d.cells.shape[1]).astype(np.int32),
                "nodes": d.nodes[numbering],
                "dofs": dofs.reshape(-1, d.dofs.shape[1]).astype(np.int32),
                "stiffness": d.stiffness[mine],
                "rows": np.concatenate([local[d.rows[entry]], known]).astype(np.int32),
                "columns": np.concatenate([local[d.columns[entry]], known]).astype(np.int32),
                "mass": np.concatenate([d.mass[entry], np.zeros(len(known))]),
                "electrode": np.concatenate([d.electrode[entry], contact[numbering[known]]]),
                "numbering": numbering,
                "cell_numbering": mine,
                "total": d.size,
                "grounded": int(local[ground]) if local[ground] >= 0 else None,
                "number": d.electrodes,
            }
        )
    return shares


def bisect(places: Array, parts: int) -> Index:
    """Cut a cloud of points across its longest extent again and again, into parts of equal size.

    Args:
        places: ``(C, D)``.
        parts: their number.

    Returns:
        The part of each point, ``(C,)``.

    Example:
        >>> bisect(np.array([[0.0], [3.0], [1.0], [2.0]]), 2)
        array([0, 1, 0, 1])
    """
    part = np.zeros(len(places), np.int64)
    if parts == 1:
        return part
    low = parts // 2
    along = int(np.argmax(np.ptp(places, axis=0)))
    order = np.argsort(places[:, along], kind="stable")
    cut = len(places) * low // parts
    first, second = np.split(order, [cut])
    part[first] = bisect(places[first], low)
    part[second] = low + bisect(places[second], parts - low)
    return part
