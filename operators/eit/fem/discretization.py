"""What dolfinx assembles, once: element matrices and electrode blocks of one mesh.

With piecewise constant conductivity ``s`` the stiffness matrix is the sum of ``s_c E_c`` over the cells, so
the element matrices ``E_c`` are all that the finite element library has to tell. They are kept in one small
object that is saved to ``.npz``; the meshes that ship with the package come with theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from onmanifold.arrays import reason_of
from onmanifold.errors import InputError
from onmanifold.operators.eit.geometry.base import Geometry
from onmanifold.operators.eit.geometry.tank import Tank

Array = NDArray[np.float64]
Index = NDArray[np.int32]

SHIPPED = ("coarse", "medium", "fine")
_INDICES = {"cells", "dofs", "rows", "columns", "electrode"}
_ENTRIES = ("rows", "columns", "mass", "electrode")
_NUMBERED = {"cells": "points", "dofs": "nodes", "rows": "nodes", "columns": "nodes"}


@dataclass(frozen=True, eq=False)
class Discretization:
    """Element matrices and electrode blocks; everything the solver needs of mesh and elements.

    Attributes:
        points: vertices of the mesh, m, ``(V, D)``; D = 2 or 3.
        cells: vertices of each cell, ``(C, D + 1)``.
        nodes: where the degrees of freedom of the potential are, m, ``(N, D)``.
        dofs: degrees of freedom of each cell, ``(C, n)``: at its vertices, in the order of ``cells``, then
            for second-order elements at the middles of its edges.
        stiffness: ``E_c[i, j]``, the integral of ``grad phi_i . grad phi_j`` over cell c, ``(C, n, n)``.
        rows: row of each entry of the electrode mass matrix, ``(Q,)``.
        columns: its column, ``(Q,)``.
        mass: its value, the integral of ``phi_i phi_j`` over an electrode, m, ``(Q,)``.
        electrode: the electrode it belongs to, from 0, ``(Q,)``.
    """

    points: Array
    cells: Index
    nodes: Array
    dofs: Index
    stiffness: Array
    rows: Index
    columns: Index
    mass: Array
    electrode: Index

    @property
    def electrodes(self) -> int:
        """Number of electrodes L."""
        return int(self.electrode.max()) + 1

    @property
    def ground(self) -> int | None:
        """A degree of freedom off the electrodes, whose potential counts as zero.

        Raises:
            ValueError: there is none.
        """
        free = np.setdiff1d(np.arange(self.size), self.rows)
        if len(free) == 0:
            raise InputError("every node of the mesh is on an electrode; refine it")
        return int(free[0])

    @property
    def size(self) -> int:
        """Number of degrees of freedom of the potential."""
        return len(self.nodes)

    def placed(self, tank: Tank) -> Discretization:
        """A discretization of the unit disk, its first electrode at angle 0, moved into ``tank``.

        In two dimensions the stiffness does not depend on the size; the electrodes' mass grows with it.
        """
        turn = np.deg2rad(tank.first_angle)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        electrode = (-self.electrode) % self.electrodes if tank.clockwise else self.electrode
        return replace(
            self,
            points=tank.radius * (self.points @ rotation),
            nodes=tank.radius * (self.nodes @ rotation),
            mass=tank.radius * self.mass,
            electrode=electrode,
        )

    def save(self, path: str | Path, *, single: bool = False) -> None:
        """Write to an ``.npz`` file.

        An element matrix is symmetric with zero row sums, so its upper triangle is enough.

        Args:
            path: the file.
            single: whether to write element matrices in single precision, in half the space.
        """
        i, j = np.triu_indices(self.dofs.shape[1], 1)
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arrays["stiffness"] = self.stiffness[:, i, j].astype(np.float32 if single else np.float64)
        if self.dofs.shape == self.cells.shape:  # linear elements
            del arrays["dofs"], arrays["nodes"]
        for name in _INDICES & set(arrays):
            array = arrays[name]
            arrays[name] = array.astype(np.min_scalar_type(int(array.max())))
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Discretization:
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is not such a file (it is named, with what is missing or wrong).
        """
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays: dict[str, Any] = dict(file)
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged archive fails in many ways
            raise InputError(f"{path} is not a readable .npz file: {reason_of(error)}") from error
        arrays.setdefault("dofs", arrays.get("cells"))
        arrays.setdefault("nodes", arrays.get("points"))
        missing = [name for name in cls.__dataclass_fields__ if arrays.get(name) is None]
        if missing:
            raise InputError(f"{path} is not a saved discretization: it lacks {', '.join(missing)}")
        problem = _problem(arrays)
        if problem:
            raise InputError(f"{path} is not a saved discretization: {problem}")
        for name in _INDICES:
            arrays[name] = arrays[name].astype(np.int32)
        arrays["stiffness"] = _symmetric(arrays["stiffness"].astype(np.float64))
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def is_shipped_disk(tank: Geometry) -> TypeGuard[Tank]:
    """Whether the shipped meshes fit: a disk with 32 electrodes of 5.625 degrees."""
    return isinstance(tank, Tank) and tank.electrodes == 32 and bool(np.isclose(tank.width, 5.625))


def load_discretization(name: str, tank: Geometry) -> Discretization:
    """A shipped mesh with its assembled matrices, moved into ``tank``.

    Args:
        name: ``"coarse"`` (4490 cells), ``"medium"`` (11 884) or ``"fine"`` (22 372, a different
            mesh, from which to simulate data).
        tank: a disk with 32 electrodes of 5.625 degrees, of any size.

    Raises:
        ValueError: an unknown name, or another geometry.

    Example:
        >>> mesh = load_discretization("coarse", Tank(radius=0.115))
        >>> len(mesh.cells), mesh.electrodes
        (4490, 32)
    """
    if name not in SHIPPED:
        raise InputError(f"unknown mesh {name!r}; known: {', '.join(SHIPPED)}")
    if not is_shipped_disk(tank):
        raise InputError(
            f"the shipped meshes are disks with 32 electrodes of 5.625 degrees, which {tank} is not; "
            "pass mesh=generate_mesh(tank), or None for that"
        )
    file = resources.files("onmanifold.operators.eit.mesh") / "shipped" / f"{name}.npz"
    with resources.as_file(file) as path:
        return Discretization.load(path).placed(tank)


def _symmetric(upper: Array) -> Array:
    """Symmetric matrices with zero row sums from their strict upper triangles ``(C, n (n - 1) / 2)``."""
    n = int((1 + np.sqrt(1 + 8 * upper.shape[1])) / 2)
    i, j = np.triu_indices(n, 1)
    full = np.zeros((len(upper), n, n))
    full[:, i, j] = full[:, j, i] = upper
    full[:, range(n), range(n)] = -full.sum(axis=2)
    return full


def _problem(arrays: dict[str, Any]) -> str:
    """What is wrong with the numbers of a file's arrays; empty if nothing is."""
    return _wrong_kind(arrays) or _wrong_shape(arrays) or _wrong_number(arrays)


def _wrong_kind(arrays: dict[str, Any]) -> str:
    for name in Discretization.__dataclass_fields__:
        array, axes = arrays[name], 1 if name in _ENTRIES else 2
        kinds, what = ("iu", "whole") if name in _INDICES else ("f", "real")
        if array.dtype.kind not in kinds or array.ndim != axes or array.size == 0:
            return f"{name} has to hold {what} numbers on {axes} axes, got {array.dtype}, {array.shape}"
        if not np.isfinite(array).all():
            return f"{name} holds a NaN or infinity"
    return ""


def _wrong_shape(arrays: dict[str, Any]) -> str:
    dim, n = arrays["points"].shape[-1], arrays["dofs"].shape[-1]
    cells, entries = len(arrays["cells"]), len(arrays["rows"])
    expected = {
        "points": (len(arrays["points"]), dim),
        "cells": (cells, dim + 1),
        "nodes": (len(arrays["nodes"]), dim),
        "dofs": (cells, n),
        "stiffness": (cells, n * (n - 1) // 2),
        **dict.fromkeys(_ENTRIES, (entries,)),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            return f"{name} has shape {arrays[name].shape}, expected {shape}"
    if (dim, n) not in {(2, 3), (2, 6), (3, 4), (3, 10)}:
        return f"{n} degrees of freedom in a cell of {dim} dimensions"
    return ""


def _wrong_number(arrays: dict[str, Any]) -> str:
    for name, of in _NUMBERED.items():
        low, high = int(arrays[name].min()), int(arrays[name].max())
        if low < 0 or high >= len(arrays[of]):
            return f"{name} runs from {low} to {high}, but there are {len(arrays[of])} {of}"
    if int(arrays["electrode"].min()) < 0 or 0 in np.bincount(arrays["electrode"]):
        return "an electrode number is negative or left out"
    return ""
